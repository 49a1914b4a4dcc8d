//! What administrators and consumers ask of a broker, over a real store and tables: no sockets, a clock of our own.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::sync::{Arc, OnceLock};

use gantry_broker::acks::SlaveAcks;
use gantry_broker::clients::Clients;
use gantry_broker::config::{BrokerConfig, BrokerRole};
use gantry_broker::delay::{Delay, DelayConfig, DelayParts, Levels};
use gantry_broker::handlers::admin::Identity;
use gantry_broker::handlers::admin::config::ConfigAdmin;
use gantry_broker::handlers::admin::groups::GroupAdmin;
use gantry_broker::handlers::admin::progress::Progress;
use gantry_broker::handlers::admin::queues::Queues;
use gantry_broker::handlers::admin::runtime::{RuntimeInfo, StorePaths};
use gantry_broker::handlers::admin::topics::TopicAdmin;
use gantry_broker::handlers::query::Query;
use gantry_broker::handlers::send_back::SendBack;
use gantry_broker::live::LiveConfig;
use gantry_broker::pairing::Pairing;
use gantry_broker::refusal::Refusal;
use gantry_broker::seats::Seats;
use gantry_broker::slave::Known;
use gantry_broker::stats::{Stats, StatsConfig};
use gantry_broker::tables::{Groups, Offsets, Topics};
use gantry_config::{Host, Settings};
use gantry_disk::{Disk, OsDisk};
use gantry_message::{Millis, QueueId, QueueOffset, Record, RecordView, SysFlag, topic};
use gantry_replication::{Copies, Links, Part, Patience};
use gantry_store::{Clock, Outcome, Store, StoreConfig, Tags};
use gantry_wire::bodies::{
    ConsumeStats, ConsumeStatsList, GroupList, KvTable, MessageQueue, QueryConsumeQueue,
    QueryConsumeTimeSpan, SubscriptionGroupConfig, TopicStatsTable,
};
use gantry_wire::{Request, Response};

const NOW: Millis = Millis(1_700_000_000_000);

struct Home {
    dir: tempfile::TempDir,
    live: Arc<LiveConfig>,
    store: Arc<Store>,
    stats: Arc<Stats>,
    topics: Arc<Topics>,
    groups: Arc<Groups>,
    offsets: Arc<Offsets>,
    clients: Arc<Clients>,
    delay: Arc<Delay>,
    identity: Arc<Identity>,
    disk: Arc<dyn Disk>,
}

impl Home {
    fn new() -> Self {
        Self::with(|_| {}, BrokerRole::AsyncMaster)
    }

    fn with(change: impl FnOnce(&mut BrokerConfig), role: BrokerRole) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = BrokerConfig::defaults(&Host::described());
        config.broker_name = "broker-a".into();
        config.default_topic_queue_nums = 4;
        change(&mut config);
        let live = LiveConfig::new(config);
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let store_config = StoreConfig {
            segment_size: 64 << 10,
            queue_file_size: 20 * 100,
            index_slots: 16,
            index_entries: 64,
            clock: Clock::new(|| NOW),
            ..StoreConfig::at(dir.path())
        };
        let store = Store::open(Arc::clone(&disk), store_config, NOW).unwrap();
        let stats = StatsConfig {
            cluster: "C".into(),
            detail: true,
            zone: jiff::tz::TimeZone::UTC,
        };
        let stats = Arc::new(Stats::new(stats, NOW));
        let folder = dir.path().join("config");
        let delay_parts = DelayParts {
            store: Arc::clone(&store),
            stats: Arc::clone(&stats),
            disk: Arc::clone(&disk),
            config_folder: folder.clone(),
        };
        let levels = Arc::new(Levels::parse(Levels::DEFAULT).unwrap());
        let delay_config = DelayConfig {
            flush_interval_ms: 10_000,
            stats_enabled: true,
        };
        let delay = Delay::load(delay_parts, levels, delay_config).unwrap();
        let identity = Arc::new(Identity {
            address: "10.0.0.1:10911".parse().unwrap(),
            name: "broker-a".into(),
            role,
            live: Arc::clone(&live),
        });
        Self {
            topics: Arc::new(
                Topics::load(Arc::clone(&disk), &folder, Arc::clone(&live), NOW).unwrap(),
            ),
            groups: Arc::new(
                Groups::load(Arc::clone(&disk), &folder, Arc::clone(&live), NOW).unwrap(),
            ),
            offsets: Arc::new(Offsets::load(Arc::clone(&disk), &folder, 5_000).unwrap()),
            clients: Arc::new(Clients::new(Arc::clone(&live))),
            dir,
            live,
            store,
            stats,
            delay,
            identity,
            disk,
        }
    }

    fn topic_admin(&self) -> TopicAdmin {
        let (identity, topics) = (self.identity.clone(), self.topics.clone());
        TopicAdmin {
            identity,
            topics,
            store: self.store.clone(),
            stats: self.stats.clone(),
        }
    }

    fn group_admin(&self) -> GroupAdmin {
        GroupAdmin {
            identity: self.identity.clone(),
            groups: self.groups.clone(),
            offsets: self.offsets.clone(),
            clients: self.clients.clone(),
            stats: self.stats.clone(),
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            identity: self.identity.clone(),
            store: self.store.clone(),
            topics: self.topics.clone(),
            groups: self.groups.clone(),
            offsets: self.offsets.clone(),
            clients: self.clients.clone(),
            stats: self.stats.clone(),
        }
    }

    fn send_back(&self) -> SendBack {
        SendBack {
            live: self.live.clone(),
            store: self.store.clone(),
            topics: self.topics.clone(),
            groups: self.groups.clone(),
            levels: self.delay.levels().clone(),
            stats: self.stats.clone(),
            broker_ip: "10.0.0.1".into(),
            next_queue: Default::default(),
        }
    }

    fn config_admin(&self) -> ConfigAdmin {
        let overrides = self.dir.path().join("config/gantry-override.properties");
        ConfigAdmin::new(
            self.live.clone(),
            self.topics.clone(),
            self.store.clone(),
            self.disk.clone(),
            overrides,
            NOW,
        )
    }

    fn create(&self, topic: &str, queues: i32) {
        self.topic_admin()
            .update(&create_topic(topic, queues), NOW)
            .unwrap();
    }

    /// Stores a message and returns where it is in the log.
    fn put(&self, topic: &str, queue: u32, reconsume_times: i32) -> u64 {
        let record = Record {
            topic,
            queue_id: QueueId(queue),
            flag: 0,
            sys_flag: SysFlag(0),
            born_time: Millis(1),
            born_host: "10.0.0.9:5555".parse().unwrap(),
            store_host: "10.0.0.1:10911".parse().unwrap(),
            reconsume_times,
            prepared_offset: 0,
            body: b"hello",
            properties: b"KEYS\x01k\x02TAGS\x01TagA",
        };
        let outcome = self.store.append(
            &self.store.queue(topic, QueueId(queue)),
            &record,
            Tags::Code(2_598_919),
        );
        let Outcome::Stored { offset, .. } = outcome else {
            panic!("{outcome:?}")
        };
        offset.0
    }

    /// The last message of a queue: reconsume times and properties.
    fn last(&self, topic: &str, queue: QueueId) -> (i32, String) {
        let queue = self.store.find_queue(topic, queue).unwrap();
        let entry = self
            .store
            .queue_entry(&queue, QueueOffset(queue.max().0 - 1))
            .unwrap();
        let bytes = self.store.record_at(entry.log_offset).unwrap().unwrap();
        let view = RecordView::parse(&bytes).unwrap();
        let text = String::from_utf8(view.properties().to_vec()).unwrap();
        (
            view.reconsume_times(),
            text.replace('\u{1}', "=").replace('\u{2}', " "),
        )
    }
}

fn create_topic(topic: &str, queues: i32) -> Request {
    Request::new(17)
        .with_field("topic", topic)
        .with_field("defaultTopic", "TBW102")
        .with_field("readQueueNums", queues)
        .with_field("writeQueueNums", queues)
        .with_field("perm", 6)
        .with_field("topicFilterType", "SINGLE_TAG")
        .with_field("topicSysFlag", 0)
        .with_field("order", false)
}

fn refused(answer: Result<Response, Refusal>) -> (i32, String) {
    let Refusal { code, remark } = answer.unwrap_err();
    (code, remark)
}

fn mq(topic: &str, queue_id: i32) -> MessageQueue {
    MessageQueue {
        broker_name: "broker-a".into(),
        queue_id,
        topic: topic.into(),
    }
}

#[test]
fn a_topic_is_created_shown_and_deleted_with_its_queues() {
    let home = Home::new();
    let admin = home.topic_admin();
    home.create("T", 2);
    home.put("T", 1, 0);
    let stats = |topic: &str| admin.figures(&Request::new(202).with_field("topic", topic));
    let table = TopicStatsTable::parse(&stats("T").unwrap().body)
        .unwrap()
        .offset_table;
    assert_eq!(table.len(), 2);
    let row = |id| {
        (
            table[&mq("T", id)].min_offset,
            table[&mq("T", id)].max_offset,
            table[&mq("T", id)].last_update_timestamp,
        )
    };
    assert_eq!((row(0), row(1)), ((0, 0, 0), (0, 1, NOW.0)));
    admin
        .delete(&Request::new(215).with_field("topic", "T"), NOW)
        .unwrap();
    assert_eq!(refused(stats("T")), (17, "topic[T] not exist".into()));
    assert!(home.store.find_queue("T", QueueId(1)).is_none());
    admin
        .delete(&Request::new(215).with_field("topic", "T"), NOW)
        .unwrap();
}

#[test]
fn system_topics_bad_names_and_slaves_are_left_alone() {
    let home = Home::new();
    let admin = home.topic_admin();
    let conflict = |name: &str| {
        (
            1,
            format!("The topic[{name}] is conflict with system topic."),
        )
    };
    assert_eq!(
        refused(admin.update(&create_topic("TBW102", 8), NOW)),
        conflict("TBW102")
    );
    let delete = |name: &str| admin.delete(&Request::new(215).with_field("topic", name), NOW);
    assert_eq!(
        refused(delete("SCHEDULE_TOPIC_XXXX")),
        conflict("SCHEDULE_TOPIC_XXXX")
    );
    assert_eq!(
        refused(delete("")),
        (1, "The specified topic is blank.".into())
    );
    assert_eq!(
        refused(admin.update(&Request::new(17), NOW)).0,
        1,
        "missing fields are an answer"
    );
    let slave = Home::with(|_| {}, BrokerRole::Slave);
    let (code, remark) = refused(slave.topic_admin().update(&create_topic("T", 1), NOW));
    assert_eq!(code, 1);
    assert!(
        remark.starts_with("Can't modify topic or subscription group from slave broker"),
        "{remark}"
    );
}

#[test]
fn groups_are_set_and_deleted_with_their_positions() {
    let home = Home::new();
    let admin = home.group_admin();
    let body = br#"{"groupName":"G","retryMaxTimes":3}"#;
    admin
        .update(&Request::new(200).with_body(&body[..]), NOW)
        .unwrap();
    assert_eq!(
        home.groups
            .get("G")
            .map(|group| (group.retry_max_times, group.retry_queue_nums)),
        Some((3, 1))
    );
    assert_eq!(
        refused(admin.update(&Request::new(200).with_body(&b"{"[..]), NOW)).0,
        1
    );
    home.offsets
        .commit("G", "T", QueueId(0), QueueOffset(5))
        .unwrap();
    let of_topic = || {
        admin
            .of_topic(&Request::new(300).with_field("topic", "T"))
            .unwrap()
            .body
    };
    assert_eq!(GroupList::parse(&of_topic()).unwrap().group_list, ["G"]);
    let delete = Request::new(207).with_field("groupName", "G");
    admin.delete(&delete, NOW).unwrap();
    assert!(home.groups.get("G").is_none());
    assert_eq!(
        home.offsets.query("G", "T", QueueId(0)),
        Some(QueueOffset(5)),
        "kept unless asked for"
    );
    admin
        .delete(&delete.with_field("removeOffset", true), NOW)
        .unwrap();
    assert_eq!(home.offsets.query("G", "T", QueueId(0)), None);
}

#[test]
fn progress_is_the_queues_end_the_position_and_the_time_before_it() {
    let home = Home::new();
    home.create("T", 2);
    home.groups
        .put(
            SubscriptionGroupConfig {
                group_name: "G".into(),
                ..Default::default()
            },
            NOW,
        )
        .unwrap();
    for _ in 0..3 {
        home.put("T", 0, 0);
    }
    home.offsets
        .commit("G", "T", QueueId(0), QueueOffset(2))
        .unwrap();
    home.offsets
        .commit("G", "Gone", QueueId(0), QueueOffset(2))
        .unwrap();
    let progress = home.progress();
    let stats = progress
        .of_group(&Request::new(208).with_field("consumerGroup", "G"))
        .unwrap();
    let table = ConsumeStats::parse(&stats.body).unwrap().offset_table;
    let row = |id| {
        table
            .get(&mq("T", id))
            .map(|row| (row.broker_offset, row.consumer_offset, row.last_timestamp))
    };
    assert_eq!(
        (row(0), row(1), table.len()),
        (Some((3, 2, NOW.0)), Some((0, 0, 0)), 2)
    );
    let all = progress
        .of_all(&Request::new(317).with_field("isOrder", false))
        .unwrap();
    let all = ConsumeStatsList::parse(&all.body).unwrap();
    let of_group = all
        .consume_stats_list
        .iter()
        .find_map(|group| group.get("G"));
    assert_eq!(
        (
            all.broker_addr.as_str(),
            all.total_diff,
            of_group.map(Vec::len)
        ),
        ("10.0.0.1:10911", 1, Some(1))
    );
    let spans = Request::new(303)
        .with_field("topic", "T")
        .with_field("group", "G");
    let spans = progress.in_time(&spans, NOW.plus(500)).unwrap();
    let spans = QueryConsumeTimeSpan::parse(&spans.body)
        .unwrap()
        .consume_time_span_set;
    let times = |at: usize| {
        let span = &spans[at];
        (
            span.min_time_stamp,
            span.max_time_stamp,
            span.consume_time_stamp,
            span.delay_time,
        )
    };
    assert_eq!(
        (times(0), times(1)),
        ((NOW.0, NOW.0, NOW.0, 500), (-1, -1, -1, 0))
    );
}

#[test]
fn raw_queue_entries_are_shown_as_far_as_they_go() {
    let home = Home::new();
    let offset = home.put("T", 0, 0);
    let queues = Queues {
        store: home.store.clone(),
        clients: home.clients.clone(),
    };
    let ask = |queue: i32, index: i64| {
        let request = Request::new(321)
            .with_field("topic", "T")
            .with_field("queueId", queue);
        queues.entries(&request.with_field("index", index).with_field("count", 5))
    };
    let body = QueryConsumeQueue::parse(&ask(0, 0).unwrap().body).unwrap();
    assert_eq!(
        (
            body.min_queue_index,
            body.max_queue_index,
            body.queue_data.len()
        ),
        (0, 1, 1)
    );
    assert_eq!(
        (
            body.queue_data[0].physic_offset as u64,
            body.queue_data[0].tags_code
        ),
        (offset, 2_598_919)
    );
    for index in [1, -1, i64::MAX] {
        let answer = ask(0, index).unwrap();
        assert_eq!(
            answer.remark,
            Some(format!("Index {index} of 0@T is not exist!"))
        );
        assert!(
            QueryConsumeQueue::parse(&answer.body)
                .unwrap()
                .queue_data
                .is_empty()
        );
    }
    assert_eq!(refused(ask(7, 0)), (1, "7@T is not exist!".into()));
    assert_eq!(refused(ask(-1, 0)), (1, "-1@T is not exist!".into()));
}

#[test]
fn a_message_handed_back_waits_in_the_queue_of_its_level() {
    let home = Home::new();
    let offset = home.put("T", 1, 0);
    let ask = |offset: i64, level: i32| {
        let request = Request::new(36)
            .with_field("offset", offset)
            .with_field("group", "G");
        home.send_back()
            .handle(&request.with_field("delayLevel", level), NOW)
    };
    ask(offset as i64, 0).unwrap();
    let expected = format!(
        "KEYS=k TAGS=TagA RETRY_TOPIC=T ORIGIN_MESSAGE_ID=0A00000100002A9F{offset:016X} WAIT=false DELAY=3 \
         REAL_TOPIC=%RETRY%G REAL_QID=0"
    );
    assert_eq!(
        home.last(topic::SCHEDULE, QueueId(2)),
        (1, expected.clone())
    );
    home.delay.step(NOW.plus(10_000));
    assert_eq!(
        home.last("%RETRY%G", QueueId(0)),
        (1, expected),
        "ten seconds later it comes to the group"
    );
    ask(offset as i64, -1).unwrap();
    assert_eq!(home.last("%DLQ%G", QueueId(0)).0, 1);
    let missing = (1, "look message by offset failed, 99999".into());
    assert_eq!(refused(ask(99_999, 0)), missing);
    assert_eq!(
        refused(ask(-7, 0)),
        (1, "look message by offset failed, -7".into())
    );
    assert_eq!(
        home.topics
            .get("%RETRY%G")
            .map(|config| (config.perm, config.read_queue_nums)),
        Some((6, 1))
    );
}

#[test]
fn the_limit_of_tries_is_the_groups_or_that_of_a_client_that_knows_one() {
    let home = Home::new();
    home.groups
        .put(
            SubscriptionGroupConfig {
                group_name: "G".into(),
                retry_max_times: 2,
                ..Default::default()
            },
            NOW,
        )
        .unwrap();
    let (first, third) = (home.put("T", 0, 1), home.put("T", 0, 2));
    let ask = |offset: u64, limit: Option<i32>, version: i32| {
        let mut request = Request::new(36)
            .with_field("offset", offset)
            .with_field("group", "G")
            .with_field("delayLevel", 1);
        request.version = version;
        if let Some(limit) = limit {
            request = request.with_field("maxReconsumeTimes", limit);
        }
        home.send_back().handle(&request, NOW).unwrap();
        home.store
            .find_queue("%DLQ%G", QueueId(0))
            .map_or(0, |queue| queue.max().0)
    };
    assert_eq!(ask(first, None, 409), 0);
    assert_eq!(ask(third, None, 409), 1);
    assert_eq!(ask(third, Some(16), 409), 1);
    assert_eq!(ask(third, Some(16), 120), 2, "too old to know");
    assert_eq!(ask(first, Some(1), 409), 3);
}

#[test]
fn nothing_is_handed_back_to_an_unknown_group_or_a_closed_broker() {
    let home = Home::with(
        |config| config.auto_create_subscription_group = false,
        BrokerRole::AsyncMaster,
    );
    let offset = home.put("T", 0, 0);
    let request = Request::new(36)
        .with_field("offset", offset)
        .with_field("group", "G")
        .with_field("delayLevel", 0);
    let (code, remark) = refused(home.send_back().handle(&request, NOW));
    assert_eq!(code, 26);
    assert!(
        remark.starts_with("subscription group not exist, G "),
        "{remark}"
    );

    let home = Home::with(
        |config| config.broker_permission = 4,
        BrokerRole::AsyncMaster,
    );
    let expected = (
        16,
        "the broker[10.0.0.1] sending message is forbidden".into(),
    );
    assert_eq!(refused(home.send_back().handle(&request, NOW)), expected);

    let home = Home::new();
    home.groups
        .put(
            SubscriptionGroupConfig {
                group_name: "G".into(),
                retry_queue_nums: 0,
                ..Default::default()
            },
            NOW,
        )
        .unwrap();
    assert_eq!(
        home.send_back().handle(&request, NOW).unwrap().code,
        0,
        "dropped"
    );
    assert!(home.topics.get("%RETRY%G").is_none());
}

#[test]
fn a_message_is_found_by_its_place_in_the_log() {
    let home = Home::new();
    let offset = home.put("T", 0, 0);
    let query = Query {
        store: home.store.clone(),
        unique_key_max: 32,
    };
    let view = |offset: i64| query.by_offset(&Request::new(33).with_field("offset", offset));
    let body = view(offset as i64).unwrap().body;
    assert_eq!(RecordView::parse(&body).unwrap().body(), b"hello");
    for offset in [offset as i64 + 1, 1 << 40, -1, i64::MIN] {
        let expected = (1, format!("can not find message by the offset, {offset}"));
        assert_eq!(refused(view(offset)), expected);
    }
}

#[test]
fn run_time_changes_take_effect_and_are_kept_beside_the_administrators_file() {
    let home = Home::new();
    let admin = home.config_admin();
    let update =
        |text: &'static str| admin.update(&Request::new(25).with_body(text.as_bytes()), NOW);
    update("brokerPermission=4\ntraceOn=false\n").unwrap();
    assert_eq!(
        (home.live.now().broker_permission, home.live.now().trace_on),
        (4, false)
    );
    let kept =
        std::fs::read_to_string(home.dir.path().join("config/gantry-override.properties")).unwrap();
    assert!(
        kept.ends_with("brokerPermission=4\ntraceOn=false\n"),
        "{kept}"
    );
    let shown = admin.show().unwrap();
    assert!(String::from_utf8_lossy(&shown.body).contains("\nbrokerPermission=4\n"));
    assert!(
        shown
            .get("version")
            .is_some_and(|version| version.contains("\"counter\":1")),
        "{:?}",
        shown.fields
    );
    for (text, code, expected) in [
        (
            "listenPort=1\n",
            16,
            "Can not update config in black list. listenPort is changed in the configuration file",
        ),
        (
            "brokerConfigPath=x\n",
            16,
            "Can not update config in black list.",
        ),
        ("noSuchKey=1\n", 1, "unknown key noSuchKey"),
        ("brokerPermission=9\n", 1, "brokerPermission=9: must be"),
        // All or nothing: the first would be allowed.
        (
            "traceOn=true\nlistenPort=1\n",
            16,
            "Can not update config in black list. listenPort",
        ),
    ] {
        let (got, remark) = refused(update(text));
        assert_eq!(got, code, "{text:?}: {remark}");
        assert!(remark.starts_with(expected), "{text:?}: {remark}");
    }
    assert!(!home.live.now().trace_on);
}

/// Every key that Apache's 4.9.7 broker sends (taken from `mqadmin brokerStatus`), from the first moment on.
#[test]
fn runtime_info_has_every_key_that_tools_know() {
    const KEYS: &str = "EndTransactionQueueSize EndTransactionThreadPoolQueueCapacity bootTimestamp brokerVersion \
        brokerVersionDesc commitLogDirCapacity commitLogDiskRatio commitLogMaxOffset commitLogMinOffset \
        consumeQueueDiskRatio dispatchBehindBytes dispatchMaxBuffer earliestMessageTimeStamp getFoundTps \
        getMessageEntireTimeMax getMissTps getTotalTps getTransferedTps msgGetTotalTodayMorning msgGetTotalTodayNow \
        msgGetTotalYesterdayMorning msgPutTotalTodayMorning msgPutTotalTodayNow msgPutTotalYesterdayMorning \
        pageCacheLockTimeMills pullThreadPoolQueueCapacity pullThreadPoolQueueHeadWaitTimeMills \
        pullThreadPoolQueueSize putLatency99 putLatency999 putMessageAverageSize putMessageDistributeTime \
        putMessageEntireTimeMax putMessageFailedTimes putMessageSizeTotal putMessageTimesTotal putTps \
        queryThreadPoolQueueCapacity queryThreadPoolQueueHeadWaitTimeMills queryThreadPoolQueueSize \
        remainHowManyDataToFlush remainTransientStoreBufferNumbs runtime sendThreadPoolQueueCapacity \
        sendThreadPoolQueueHeadWaitTimeMills sendThreadPoolQueueSize startAcceptSendRequestTimeStamp";
    let home = Home::new();
    let root = home.dir.path().to_owned();
    let info = RuntimeInfo {
        identity: home.identity.clone(),
        stats: home.stats.clone(),
        store: home.store.clone(),
        delay: home.delay.clone(),
        paths: StorePaths {
            logs: vec![root.join("commitlog")],
            queues: root.clone(),
            root: root.clone(),
        },
        disk: home.disk.clone(),
        pairing: Arc::new(Pairing {
            live: home.live.clone(),
            store: home.store.clone(),
            acks: Arc::new(SlaveAcks::new(
                Links::new(home.store.clone(), Patience::default()),
                BrokerRole::SyncMaster,
            )),
            seats: Seats::load(
                home.disk.clone(),
                &root,
                ("broker-a", Part::Master(Copies::Async)),
            )
            .unwrap(),
            following: OnceLock::new(),
            known: Known::default(),
        }),
    };
    let table = KvTable::parse(&info.show(NOW).body).unwrap().table;
    let missing: Vec<_> = KEYS
        .split_whitespace()
        .filter(|key| !table.contains_key(*key))
        .collect();
    assert_eq!(missing, [""; 0]);
    // Ours, beside them.
    let own: Vec<_> = table
        .iter()
        .filter(|(key, _)| key.starts_with("gantry"))
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        own,
        [
            ("gantryBrokerRole", "ASYNC_MASTER"),
            ("gantryConnectedSlaves", "0"),
            ("gantryDegraded", "false"),
            ("gantryEpoch", "0.0"),
            ("gantryFenced", "false"),
            ("gantryInSyncReplicas", "1"),
            ("gantryInSyncSlaves", "0"),
            ("gantryReadOnly", "false"),
            ("gantryReplicatedOffset", "0"),
            ("gantrySlaveAckPolicy", "report"),
            ("gantryTakesMessages", "yes"),
        ]
    );
    assert!(table.contains_key(&format!(
        "commitLogDiskRatio_{}",
        root.join("commitlog").display()
    )));
    assert_eq!(table["brokerVersionDesc"], "V4_9_8");
    assert_eq!(table["earliestMessageTimeStamp"], "-1");
    let ratio: f64 = table["commitLogDiskRatio"].parse().unwrap();
    assert!((0.0..=1.0).contains(&ratio), "{ratio}");
    assert!(
        table["commitLogDirCapacity"].starts_with("Total : ")
            && table["commitLogDirCapacity"].ends_with("iB.")
    );
}
