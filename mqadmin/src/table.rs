//! Every command there is, in the order of RocketMQ's own list, ours behind them. The overview, the helps and the dispatch come from here.
//!
//! A row without `run` is a command of RocketMQ that this version does not have yet: it is listed, and refused by name.
//! To add a command, give its row its options and its function from `commands`.

use std::pin::Pin;

use crate::{
    arguments::{OptionSpec, flag, one_of, optional, required},
    commands::{broker, cleaning, cluster, consumer, message, promotion, replication, topic},
    session::{Failure, Session},
};

/// One command.
pub struct Command {
    /// The name; found in any case.
    pub name: &'static str,
    /// Another name for it.
    pub alias: Option<&'static str>,
    /// One line for the overview.
    pub about: &'static str,
    /// Its options, without the common ones.
    pub options: &'static [OptionSpec],
    /// RocketMQ's tool does not have it.
    pub own: bool,
    /// What it does; `None` if this version does not have it.
    pub run: Option<Run>,
}

/// A command's function, boxed so that all fit into one table.
pub type Run =
    for<'a> fn(&'a mut Session<'_>) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

impl Command {
    /// The command of that name or alias.
    pub fn find(name: &str) -> Option<&'static Self> {
        let named = |known: &str| known.eq_ignore_ascii_case(name);
        COMMANDS
            .iter()
            .find(|command| named(command.name) || command.alias.is_some_and(named))
    }
}

const fn later(name: &'static str, about: &'static str) -> Command {
    Command {
        name,
        alias: None,
        about,
        options: &[],
        own: false,
        run: None,
    }
}

const fn later_as(name: &'static str, alias: &'static str, about: &'static str) -> Command {
    Command {
        name,
        alias: Some(alias),
        about,
        options: &[],
        own: false,
        run: None,
    }
}

macro_rules! command {
    ($name:literal, $about:literal, $run:path, [$($option:expr),* $(,)?]) => {
        command!($name, $about, $run, [$($option),*], false)
    };
    ($name:literal, $about:literal, $run:path, [$($option:expr),* $(,)?], $own:literal) => {
        Command { name: $name, alias: None, about: $about, options: &[$($option),*], own: $own, run: Some(|session| Box::pin($run(session))) }
    };
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(
        "updateTopic",
        "Update or create topic",
        topic::update,
        [
            one_of('b', "brokerAddr", "create topic to which broker"),
            one_of('c', "clusterName", "create topic to which cluster"),
            required('t', "topic", "topic name"),
            optional('r', "readQueueNums", "set read queue nums"),
            optional('w', "writeQueueNums", "set write queue nums"),
            optional(
                'p',
                "perm",
                "set topic's permission(2|4|6), intro[2:W 4:R; 6:RW]"
            ),
            optional('o', "order", "set topic's order(true|false)"),
            optional('u', "unit", "is unit topic (true|false)"),
            optional('s', "hasUnitSub", "has unit sub (true|false)"),
        ]
    ),
    command!(
        "deleteTopic",
        "Delete topic from broker and NameServer.",
        topic::delete,
        [
            required('t', "topic", "topic name"),
            required('c', "clusterName", "delete topic from which cluster")
        ]
    ),
    command!(
        "updateSubGroup",
        "Update or create subscription group",
        consumer::update_group,
        [
            optional(
                'b',
                "brokerAddr",
                "create subscription group to which broker"
            ),
            optional(
                'c',
                "clusterName",
                "create subscription group to which cluster"
            ),
            required('g', "groupName", "consumer group name"),
            optional('s', "consumeEnable", "consume enable"),
            optional('m', "consumeFromMinEnable", "from min offset"),
            optional('d', "consumeBroadcastEnable", "broadcast"),
            optional('q', "retryQueueNums", "retry queue nums"),
            optional('r', "retryMaxTimes", "retry max times"),
            optional('i', "brokerId", "consumer from which broker id"),
            optional(
                'w',
                "whichBrokerWhenConsumeSlowly",
                "which broker id when consume slowly"
            ),
            optional('a', "notifyConsumerIdsChanged", "notify consumerId changed"),
        ]
    ),
    later("deleteSubGroup", "Delete subscription group from broker."),
    later("updateBrokerConfig", "Update broker's config"),
    later("updateTopicPerm", "Update topic perm"),
    command!(
        "topicRoute",
        "Examine topic route info",
        topic::route,
        [
            required('t', "topic", "topic name"),
            flag('l', "list", "Use list format to print data")
        ]
    ),
    command!(
        "topicStatus",
        "Examine topic Status info",
        topic::status,
        [required('t', "topic", "topic name")]
    ),
    later("topicClusterList", "get cluster info for topic"),
    command!(
        "brokerStatus",
        "Fetch broker runtime status data",
        broker::status,
        [
            optional('b', "brokerAddr", "Broker address"),
            optional('c', "clusterName", "which cluster")
        ]
    ),
    command!(
        "queryMsgById",
        "Query Message by Id",
        message::query_by_id,
        [
            required('i', "msgId", "Message Id"),
            optional('g', "consumerGroup", "consumer group name"),
            optional('d', "clientId", "The consumer's client id"),
            optional('s', "sendMessage", "resend message"),
            optional('u', "unitName", "unit name"),
        ]
    ),
    later("queryMsgByKey", "Query Message by Key"),
    later("queryMsgByUniqueKey", "Query Message by Unique key"),
    later("queryMsgByOffset", "Query Message by offset"),
    later_as(
        "queryMsgTraceById",
        "QueryMsgTraceById",
        "query a message trace",
    ),
    later("printMsg", "Print Message Detail"),
    later("printMsgByQueue", "Print Message Detail"),
    later("sendMsgStatus", "send msg to broker."),
    later("brokerConsumeStats", "Fetch broker consume stats data"),
    later(
        "producerConnection",
        "Query producer's socket connection and client version",
    ),
    command!(
        "consumerConnection",
        "Query consumer's socket connection, client version and subscription",
        consumer::connection,
        [
            required('g', "consumerGroup", "consumer group name"),
            optional('b', "brokerAddr", "broker address")
        ]
    ),
    command!(
        "consumerProgress",
        "Query consumers's progress, speed",
        consumer::progress,
        [
            optional('g', "groupName", "consumer group name"),
            optional('s', "showClientIP", "Show Client IP per Queue"),
        ]
    ),
    later("consumerStatus", "Query consumer's internal data structure"),
    later("cloneGroupOffset", "clone offset from other group."),
    later(
        "producer",
        "Query producer's instances, connection, status, etc.",
    ),
    command!(
        "clusterList",
        "List all of clusters",
        cluster::list,
        [
            flag('m', "moreStats", "Print more stats"),
            optional(
                'i',
                "interval",
                "specify intervals numbers, it is in seconds"
            ),
        ]
    ),
    command!(
        "topicList",
        "Fetch all topic list from name server",
        topic::list,
        [flag('c', "clusterModel", "clusterModel")]
    ),
    later("updateKvConfig", "Create or update KV config."),
    later("deleteKvConfig", "Delete KV config."),
    later(
        "wipeWritePerm",
        "Wipe write perm of broker in all name server you defined in the -n param",
    ),
    later(
        "addWritePerm",
        "Add write perm of broker in all name server you defined in the -n param",
    ),
    later(
        "resetOffsetByTime",
        "Reset consumer offset by timestamp(without client restart).",
    ),
    later(
        "skipAccumulatedMessage",
        "Skip all messages that are accumulated (not consumed) currently",
    ),
    later("updateOrderConf", "Create or update or delete order conf"),
    command!(
        "cleanExpiredCQ",
        "Clean expired ConsumeQueue on broker.",
        cleaning::expired_queues,
        [
            optional('b', "brokerAddr", "Broker address"),
            optional('c', "cluster", "clustername")
        ]
    ),
    command!(
        "deleteExpiredCommitLog",
        "Delete expired CommitLog files",
        cleaning::expired_logs,
        [
            optional('n', "namesrvAddr", "Name server address"),
            optional('b', "brokerAddr", "Broker address"),
            optional('c', "cluster", "clustername")
        ]
    ),
    command!(
        "cleanUnusedTopic",
        "Clean unused topic on broker.",
        cleaning::unused_topics,
        [
            optional('b', "brokerAddr", "Broker address"),
            optional('c', "cluster", "cluster name")
        ]
    ),
    later("startMonitoring", "Start Monitoring"),
    later("statsAll", "Topic and Consumer tps stats"),
    later("allocateMQ", "Allocate MQ"),
    later("checkMsgSendRT", "check message send response time"),
    later("clusterRT", "List All clusters Message Send RT"),
    later("getNamesrvConfig", "Get configs of name server."),
    later("updateNamesrvConfig", "Update configs of name server."),
    later(
        "getBrokerConfig",
        "Get broker config by cluster or special broker!",
    ),
    later(
        "getConsumerConfig",
        "Get consumer config by subscription group name!",
    ),
    later("queryCq", "Query cq command."),
    command!(
        "sendMessage",
        "Send a message",
        message::send,
        [
            required('t', "topic", "Topic name"),
            required('p', "body", "UTF-8 string format of the message body"),
            optional('k', "key", "Message keys"),
            optional('c', "tags", "Message tags"),
            optional('b', "broker", "Send message to target broker"),
            optional('i', "qid", "Send message to target queue"),
            optional(
                'm',
                "msgTraceEnable",
                "Message Trace Enable, Default: false"
            ),
        ]
    ),
    later("consumeMessage", "Consume message"),
    later("updateAclConfig", "Update acl config yaml file in broker"),
    later_as(
        "deleteAclConfig",
        "deleteAccessConfig",
        "Delete Acl Config Account in broker",
    ),
    later(
        "clusterAclConfigVersion",
        "List all of acl config version information in cluster",
    ),
    later(
        "updateGlobalWhiteAddr",
        "Update global white address for acl Config File in broker",
    ),
    later("exportMetadata", "export metadata"),
    later("exportConfigs", "export configs"),
    later("exportMetrics", "export metrics"),
    command!(
        "haStatus",
        "Slaves of a broker: position, how far behind, in sync or why not; of a slave its master",
        replication::status,
        [
            optional('b', "brokerAddr", "Broker address"),
            optional(
                'c',
                "clusterName",
                "which cluster; without -b and -c: all brokers"
            )
        ],
        true
    ),
    command!(
        "setReadOnly",
        "Let a broker take no messages, until setReadWrite, restarts included",
        replication::read_only,
        [required('b', "brokerAddr", "Broker address")],
        true
    ),
    command!(
        "setReadWrite",
        "Let a broker take messages again",
        replication::read_write,
        [required('b', "brokerAddr", "Broker address")],
        true
    ),
    command!(
        "promote",
        "Make a slave the master of its name; the old one is drained and fenced if it answers",
        promotion::promote,
        [
            required('b', "brokerAddr", "Broker address of the slave"),
            optional(
                'r',
                "role",
                "ASYNC_MASTER or SYNC_MASTER; default: as the old master"
            ),
            optional(
                'l',
                "accept-loss",
                "How many bytes of acknowledged messages may be lost, or all; default 0"
            ),
            optional(
                's',
                "slaves",
                "How many slaves the old master had; needed when it does not answer"
            ),
            optional(
                'k',
                "inSyncReplicas",
                "How many slaves a message had to have at the old master; default 1"
            ),
            optional(
                'w',
                "wait",
                "Seconds for the slave to get what its master has, 1 to 600; default 30"
            ),
            flag('d', "dryRun", "Change nothing, say what would be")
        ],
        true
    ),
    command!(
        "rejoin",
        "Make a master that was replaced a slave of the new one",
        promotion::rejoin,
        [
            required('b', "brokerAddr", "Broker address of the old master"),
            optional(
                'i',
                "brokerId",
                "Its id from now on; default: as configured, or the first one that nobody has"
            )
        ],
        true
    ),
];
