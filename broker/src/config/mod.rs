//! The key table of the broker. One file feeds all of it; the parts follow RocketMQ's division:
//! the broker's own keys here, [`store`], [`outgoing`], and what every daemon has (`server`, `tls`).
//!
//! A row is everything there is to say about a key: struct field, parser, `-p`, samples and documentation come from it.

pub mod address;
pub mod boot;
pub mod outgoing;
pub(crate) mod parts;
pub mod place;
pub mod store;

use std::net::IpAddr;

use gantry_config::{ServerSettings, TlsSettings, choices, settings};

use crate::metrics::check_compat;

pub use boot::PROGRAM;
pub use outgoing::OutgoingSettings;
pub use store::{BrokerRole, FlushDiskType, SlaveAckPolicy, StoreSettings};

choices! {
    /// Code that tells a producer to try elsewhere.
    pub enum OverloadCode {
        /// Stock producers try another broker.
        ServiceNotAvailable = "14",
        /// As RocketMQ answers; stock producers give up.
        SystemBusy = "2",
    }
}

impl OverloadCode {
    /// The code on the wire.
    pub const fn code(self) -> i32 {
        match self {
            Self::ServiceNotAvailable => 14,
            Self::SystemBusy => 2,
        }
    }
}

const NO_POOLS: &str = "requests are served on the I/O threads; there is no pool to size";
const NO_QUEUES: &str = "requests do not wait in queues; maxInFlightPerConnection bounds what a connection may have open";
const DEAD: &str = "RocketMQ 4.9 does not use it either";
const SLOW: &str = "this version lets slow groups go on";
const NO_TRANSACTIONS: &str = "this version refuses transactional messages";
const NO_SQL: &str = "this version filters by tags only";

settings! {
    /// Everything a broker can be told.
    pub struct BrokerConfig |host| {
        /// Sockets, limits, logs.
        part server: ServerSettings = ServerSettings::for_daemon(host, 10_911, "configBlackList;brokerConfigPath");
        /// What is kept, where and how safely.
        part store: StoreSettings = gantry_config::Settings::defaults(host);
        /// Calls the broker makes.
        part outgoing: OutgoingSettings = gantry_config::Settings::defaults(host);
        /// Transport encryption.
        part tls: TlsSettings = gantry_config::Settings::defaults(host);

        section "Identity";
        /// Name of this broker: a master and its slaves share it.
        broker_name: String = host.host_name.clone().unwrap_or_else(|| "DEFAULT_BROKER".into()), "brokerName"
            [.important().shown("host name, else DEFAULT_BROKER").check(name)];
        /// Cluster this broker belongs to; also the name of a topic.
        broker_cluster_name: String = "DefaultCluster".into(), "brokerClusterName" [.important().check(name)];
        /// 0: master; greater: a slave, each with its own number. A master's is always 0.
        broker_id: u64 = 0, "brokerId" [.important()];
        /// Address announced to name servers and clients; also in message ids. Default: the address that the route to
        /// the default gateway leaves from.
        broker_ip1: Option<String> = None, "brokerIP1" [.important().shown("found from the routes").check(own_address)];
        /// Address announced to slaves.
        broker_ip2: Option<String> = None, "brokerIP2" [.shown("brokerIP1").check(own_address)];
        /// What clients may do with this broker: 6 read and write, 4 read, 2 write.
        broker_permission: u32 = 6, "brokerPermission" [.between(0, 7).live()];
        /// Takes no messages: sends are answered with 14 so that producers try another broker, name servers are told, due
        /// delayed messages wait. `mqadmin setReadOnly` and `setReadWrite` change it.
        read_only: bool = false, "readOnly" [.live().ours()];
        /// Name of the region, returned with every stored message.
        region_id: String = "DefaultRegion".into(), "regionId";

        section "Name servers";
        /// Name servers, `;` between them. A host name may stand for several; it is looked up again every two minutes.
        namesrv_addr: Option<String> = None, "namesrvAddr"
            [.important().live().env(&["NAMESRV_ADDR"]).aliases(&["rocketmq.namesrv.addr"]).check(name_servers)];
        /// Looks the name servers up by HTTP.
        fetch_namesrv_addr_by_address_server: bool = false, "fetchNamesrvAddrByAddressServer"
            [.important().only("false", "this version looks up no address server; set namesrvAddr")];
        /// Host of the address server.
        rmq_address_server_domain: String = "jmenv.tbsite.net".into(), "rmqAddressServerDomain"
            [.aliases(&["rocketmq.namesrv.domain"]).without_effect("this version looks up no address server")];
        /// Group at the address server.
        rmq_address_server_sub_group: String = "nsaddr".into(), "rmqAddressServerSubGroup"
            [.aliases(&["rocketmq.namesrv.domain.subgroup"]).without_effect("this version looks up no address server")];
        /// Milliseconds a registration may take.
        register_broker_timeout_mills: u64 = 6_000, "registerBrokerTimeoutMills" [.between(100, 600_000).live()];
        /// Milliseconds between registrations; 10 to 60 seconds are kept to.
        register_name_server_period: u64 = 30_000, "registerNameServerPeriod" [.between(1, 3_600_000).live()];
        /// Registers every time, not only when a name server says that something changed.
        force_register: bool = true, "forceRegister" [.live()];
        /// Compresses registrations. The compressed form carries neither order flags nor system flags of topics.
        compressed_register: bool = false, "compressedRegister" [.live()];

        section "Topics and groups";
        /// Queues of a topic that is created when it is first sent to, at most.
        default_topic_queue_nums: u32 = 8, "defaultTopicQueueNums" [.between(1, 65_535)];
        /// Creates a topic when it is first sent to. Turn it off in production.
        auto_create_topic_enable: bool = true, "autoCreateTopicEnable" [.important().live()];
        /// A topic created by sending is created on all masters of the cluster, not only where it was sent to.
        auto_create_topic_on_all_masters: bool = false, "autoCreateTopicOnAllMasters"
            [.only("false", "this version creates topics only where they are sent to").ours()];
        /// The topic named like the cluster can be read and written.
        cluster_topic_enable: bool = true, "clusterTopicEnable";
        /// The topic named like the broker can be read and written.
        broker_topic_enable: bool = true, "brokerTopicEnable";
        /// Creates a consumer group when it is first used.
        auto_create_subscription_group: bool = true, "autoCreateSubscriptionGroup" [.important().live()];
        /// Creates the topic for message traces at start.
        trace_topic_enable: bool = false, "traceTopicEnable" [.important()];
        /// Name of the topic for message traces.
        msg_trace_topic_name: String = "RMQ_SYS_TRACE_TOPIC".into(), "msgTraceTopicName" [.important()];
        /// Tells clients whether to write traces.
        trace_on: bool = true, "traceOn" [.live()];

        section "Consuming";
        /// Holds a pull that finds nothing until something arrives.
        long_polling_enable: bool = true, "longPollingEnable" [.live()];
        /// How long such a pull is held with longPollingEnable=false, milliseconds.
        short_polling_time_mills: u64 = 1_000, "shortPollingTimeMills" [.between(0, 600_000).live()];
        /// Pulls that are held, all together. Beyond it a pull that finds nothing is refused; its client tries
        /// again after a pause.
        max_parked_pulls: u32 = 200_000, "maxParkedPulls" [.between(1, 100_000_000).ours()];
        /// Members of a consumer group. Beyond it a new member is refused.
        max_consumers_per_group: u32 = 10_000, "maxConsumersPerGroup" [.between(1, 1_000_000).ours()];
        /// Tells members of a group at once when another joins or leaves.
        notify_consumer_ids_changed_enable: bool = true, "notifyConsumerIdsChangedEnable" [.live()];
        /// Milliseconds between savings of consumer offsets.
        flush_consumer_offset_interval: u64 = 5_000, "flushConsumerOffsetInterval" [.between(100, 3_600_000)];
        /// Interval of a history of consumer offsets.
        flush_consumer_offset_history_interval: u64 = 60_000, "flushConsumerOffsetHistoryInterval"
            [.without_effect(DEAD)];
        /// Milliseconds after which the lock of an ordered consumer ends if it is not renewed.
        lock_max_live_time: u64 = 60_000, "rocketmq.broker.rebalance.lockMaxLiveTime" [.between(1_000, 3_600_000)];
        /// Suggests a slave to a consumer that falls behind.
        slave_read_enable: bool = false, "slaveReadEnable" [.live()];
        /// Stops a group from consuming when it is too far behind.
        disable_consume_if_consumer_read_slowly: bool = false, "disableConsumeIfConsumerReadSlowly" [.without_effect(SLOW)];
        /// Bytes behind that are too far.
        consumer_fallbehind_threshold: u64 = 17_179_869_184, "consumerFallbehindThreshold" [.without_effect(SLOW)];
        /// Copies messages instead of handing out parts of files.
        transfer_msg_by_heap: bool = true, "transferMsgByHeap"
            [.without_effect("messages are handed out without copying where possible")];

        section "Filters";
        /// Allows SQL filters.
        enable_property_filter: bool = false, "enablePropertyFilter" [.only("false", NO_SQL)];
        /// SQL filters apply to retry topics too.
        filter_support_retry: bool = false, "filterSupportRetry" [.without_effect(NO_SQL)];
        /// Computes filter bitmaps when messages are stored.
        enable_calc_filter_bit_map: bool = false, "enableCalcFilterBitMap" [.without_effect(NO_SQL)];
        /// Consumer groups that a bitmap is laid out for.
        expect_consumer_num_use_filter: u32 = 32, "expectConsumerNumUseFilter" [.without_effect(NO_SQL)];
        /// Error rate that a bitmap is laid out for, per cent.
        max_error_rate_of_bloom_filter: u32 = 20, "maxErrorRateOfBloomFilter" [.between(1, 99).without_effect(NO_SQL)];
        /// Milliseconds after which an unused filter is forgotten.
        filter_data_clean_time_span: u64 = 86_400_000, "filterDataCleanTimeSpan" [.without_effect(NO_SQL)];
        /// Filter servers to start.
        filter_server_nums: u32 = 0, "filterServerNums" [.without_effect(DEAD)];

        section "Transactions";
        /// Refuses transactional messages.
        reject_transaction_message: bool = false, "rejectTransactionMessage"
            [.important().without_effect("this version always refuses transactional messages")];
        /// Milliseconds until the first check of an open transaction.
        transaction_time_out: u64 = 6_000, "transactionTimeOut" [.important().without_effect(NO_TRANSACTIONS)];
        /// Checks until an open transaction is given up.
        transaction_check_max: u32 = 15, "transactionCheckMax" [.important().without_effect(NO_TRANSACTIONS)];
        /// Milliseconds between checks.
        transaction_check_interval: u64 = 60_000, "transactionCheckInterval"
            [.important().without_effect(NO_TRANSACTIONS)];

        section "Overload";
        /// Code of a refusal that a producer should take elsewhere: 14 (stock producers try another broker) or 2 (as RocketMQ).
        overload_response_code: OverloadCode = OverloadCode::ServiceNotAvailable, "overloadResponseCode"
            [.live().ours()];
        /// Refuses requests that waited too long.
        broker_fast_failure_enable: bool = true, "brokerFastFailureEnable" [.without_effect(NO_QUEUES)];
        /// Milliseconds a send may wait before it is served.
        wait_time_mills_in_send_queue: u64 = 200, "waitTimeMillsInSendQueue" [.without_effect(NO_QUEUES)];
        /// Milliseconds a pull may wait before it is served.
        wait_time_mills_in_pull_queue: u64 = 5_000, "waitTimeMillsInPullQueue" [.without_effect(NO_QUEUES)];
        /// Milliseconds a heartbeat may wait before it is served.
        wait_time_mills_in_heartbeat_queue: u64 = 31_000, "waitTimeMillsInHeartbeatQueue" [.without_effect(NO_QUEUES)];
        /// Milliseconds the end of a transaction may wait before it is served.
        wait_time_mills_in_transaction_queue: u64 = 3_000, "waitTimeMillsInTransactionQueue"
            [.without_effect(NO_TRANSACTIONS)];
        /// Time (milliseconds since 1970) before which sends are refused.
        start_accept_send_request_time_stamp: u64 = 0, "startAcceptSendRequestTimeStamp" [.live()];
        /// Waiting sends.
        send_thread_pool_queue_capacity: u32 = 10_000, "sendThreadPoolQueueCapacity" [.without_effect(NO_QUEUES)];
        /// Waiting completions.
        put_thread_pool_queue_capacity: u32 = 10_000, "putThreadPoolQueueCapacity" [.without_effect(NO_QUEUES)];
        /// Waiting pulls.
        pull_thread_pool_queue_capacity: u32 = 100_000, "pullThreadPoolQueueCapacity" [.without_effect(NO_QUEUES)];
        /// Waiting replies.
        reply_thread_pool_queue_capacity: u32 = 10_000, "replyThreadPoolQueueCapacity" [.without_effect(NO_QUEUES)];
        /// Waiting queries.
        query_thread_pool_queue_capacity: u32 = 20_000, "queryThreadPoolQueueCapacity" [.without_effect(NO_QUEUES)];
        /// Waiting client requests.
        client_manager_thread_pool_queue_capacity: u32 = 1_000_000, "clientManagerThreadPoolQueueCapacity"
            [.without_effect(NO_QUEUES)];
        /// Waiting offset requests.
        consumer_manager_thread_pool_queue_capacity: u32 = 1_000_000, "consumerManagerThreadPoolQueueCapacity"
            [.without_effect(NO_QUEUES)];
        /// Waiting heartbeats.
        heartbeat_thread_pool_queue_capacity: u32 = 50_000, "heartbeatThreadPoolQueueCapacity"
            [.without_effect(NO_QUEUES)];
        /// Waiting ends of transactions.
        end_transaction_pool_queue_capacity: u32 = 100_000, "endTransactionPoolQueueCapacity"
            [.without_effect(NO_QUEUES)];
        /// Threads for sends.
        send_message_thread_pool_nums: u32 = host.cpus.min(4), "sendMessageThreadPoolNums"
            [.without_effect(NO_POOLS).shown("min(processors, 4)")];
        /// Threads for completions.
        put_message_future_thread_pool_nums: u32 = host.cpus.min(4), "putMessageFutureThreadPoolNums"
            [.without_effect(NO_POOLS).shown("min(processors, 4)")];
        /// Threads for pulls.
        pull_message_thread_pool_nums: u32 = 16 + 2 * host.cpus, "pullMessageThreadPoolNums"
            [.without_effect(NO_POOLS).shown("16 + 2 x processors")];
        /// Threads for replies.
        process_reply_message_thread_pool_nums: u32 = 16 + 2 * host.cpus, "processReplyMessageThreadPoolNums"
            [.without_effect(NO_POOLS).shown("16 + 2 x processors")];
        /// Threads for queries.
        query_message_thread_pool_nums: u32 = 8 + host.cpus, "queryMessageThreadPoolNums"
            [.without_effect(NO_POOLS).shown("8 + processors")];
        /// Threads for administration.
        admin_broker_thread_pool_nums: u32 = 16, "adminBrokerThreadPoolNums" [.without_effect(NO_POOLS)];
        /// Threads for client requests.
        client_manage_thread_pool_nums: u32 = 32, "clientManageThreadPoolNums" [.without_effect(NO_POOLS)];
        /// Threads for offsets.
        consumer_manage_thread_pool_nums: u32 = 32, "consumerManageThreadPoolNums" [.without_effect(NO_POOLS)];
        /// Threads for heartbeats.
        heartbeat_thread_pool_nums: u32 = host.cpus.min(32), "heartbeatThreadPoolNums"
            [.without_effect(NO_POOLS).shown("min(processors, 32)")];
        /// Threads for ends of transactions.
        end_transaction_thread_pool_nums: u32 = (8 + 2 * host.cpus).max(4 * host.cpus.min(4)), "endTransactionThreadPoolNums"
            [.without_effect(NO_POOLS).shown("max(8 + 2 x processors, 4 x min(processors, 4))")];

        section "Access";
        /// Checks signatures of requests against an account file.
        acl_enable: bool = false, "aclEnable"
            [.important().only("false", "this version checks no signatures; it would serve everybody")];
        /// File with the accounts, below rocketmqHome.
        acl_plain_file: String = "conf/plain_acl.yml".into(), "rocketmq.acl.plain.file"
            [.without_effect("this version checks no signatures")];

        section "Statistics and logs";
        /// Counts per queue.
        enable_detail_stat: bool = true, "enableDetailStat";
        /// Drops the counters of deleted topics and groups; RocketMQ keeps them for ever by default.
        auto_delete_unused_stats: bool = true, "autoDeleteUnusedStats" [.live()];
        /// A log folder for each broker of a host: inserts <brokerName>_<brokerId>.
        isolate_log_enable: bool = false, "isolateLogEnable";

        section "Metrics";
        /// Port for Prometheus (`/metrics`, `/health`, `/ready`), on the loopback address; 0: off. Where it is not set and
        /// 5557 is taken, the broker starts without metrics and says so.
        metrics_port: Option<u16> = None, "metricsPort" [.shown("5557").ours()];
        /// Names beside our own that metrics have: `native5`, those of a RocketMQ 5 broker, and `exporter4`, those of
        /// Apache's exporter for 4.x; a comma between them.
        metrics_compat: String = "exporter4,native5".into(), "metricsCompat" [.live().check(check_compat).ours()];
        /// Series that a scrape has at most; what comes beyond is left out and counted.
        metrics_series_max: u32 = 200_000, "metricsSeriesMax" [.between(1_000, 10_000_000).live().ours()];

        section "Without effect";
        /// Keeps replies of the request-reply mode.
        store_reply_message_enable: bool = true, "storeReplyMessageEnable"
            [.without_effect("this version does not serve the request-reply mode")];
        /// Java classes around the store.
        message_store_plug_in: Option<String> = None, "messageStorePlugIn" [.without_effect("Java classes cannot be loaded")];
        /// Once meant for busy waiting.
        high_speed_mode: bool = false, "highSpeedMode" [.without_effect(DEAD)];
        /// Statistics for billing.
        commercial_enable: bool = true, "commercialEnable" [.without_effect(DEAD)];
        /// Statistics for billing.
        commercial_timer_count: u32 = 1, "commercialTimerCount" [.without_effect(DEAD)];
        /// Statistics for billing.
        commercial_trans_count: u32 = 1, "commercialTransCount" [.without_effect(DEAD)];
        /// Statistics for billing.
        commercial_big_count: u32 = 1, "commercialBigCount" [.without_effect(DEAD)];
        /// Statistics for billing.
        commercial_base_count: u32 = 1, "commercialBaseCount" [.without_effect("it fed Java hooks")];
        /// Days a message may be delayed.
        max_delay_time: u32 = 40, "maxDelayTime" [.without_effect(DEAD)];
    }
}

/// Names end up in topic names, file names and JSON.
fn name(text: &str) -> Result<(), &'static str> {
    let fits = !text.is_empty()
        && text.len() <= 127
        && text
            .chars()
            .all(|c| !c.is_control() && !"/\\;@".contains(c));
    if fits {
        Ok(())
    } else {
        Err("1 to 127 characters without control characters and none of / \\ ; @")
    }
}

/// What `InetSocketAddress` would take as a host, port excluded.
fn host_address(text: &str) -> Result<(), &'static str> {
    let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
    let is_name = bare
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
    // `300.1.1.1` is a name to nobody but the one who mistyped it.
    let is_number = bare.chars().all(|c| c.is_ascii_digit() || c == '.');
    if bare.is_empty() || (is_name && !is_number) || bare.parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    Err("an IP address or a host name, without a port")
}

/// What others can connect to.
fn own_address(text: &str) -> Result<(), &'static str> {
    host_address(text)?;
    let nobody_s = match text.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        Ok(IpAddr::V6(ip)) => ip.is_unspecified() || ip.is_multicast(),
        Err(_) => false,
    };
    if nobody_s {
        return Err(
            "an address of this host that others connect to (bindAddress says where it listens)",
        );
    }
    Ok(())
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && host_address(host).is_ok() && port.parse::<u16>().is_ok()
    })
}

fn name_servers(text: &str) -> Result<(), &'static str> {
    if name_server_list(text).all(is_host_and_port) {
        Ok(())
    } else {
        Err("host:port;host:port (for example 127.0.0.1:9876;192.168.0.1:9876)")
    }
}

/// The addresses of a name server list: `;` between them, `,` understood, blanks dropped.
pub fn name_server_list(text: &str) -> impl Iterator<Item = &str> {
    text.split([';', ','])
        .map(str::trim)
        .filter(|address| !address.is_empty())
}
