//! Every refusal this broker may answer: a code and the words that tools and clients print or match.
//!
//! One constructor per text, worded exactly as RocketMQ 4.9.8 words it; where a reader needs the object, the limit or
//! the value as well, they follow Java's words. A refusal is a normal value, never a fault: it is not logged above debug.
//! Nothing here decides; the checks are in the handlers.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use gantry_message::{LogOffset, Millis, QueueId, perm, topic::TopicError};
use gantry_store::{AppendError, DiskPercents};
use gantry_wire::{
    HeaderError,
    bodies::{BodyError, TopicConfig},
    codes::{request, response},
};

use crate::{config::OverloadCode, seats::SeatFault};

/// What a client is told instead of being served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The response code.
    pub code: i32,
    /// The text beside it.
    pub remark: String,
}

/// Pointer to Apache's questions and answers that several texts end with.
const FAQ: &str = "\nSee http://rocketmq.apache.org/docs/faq/ for further details.";

impl Refusal {
    /// A refusal with this code and text.
    pub fn new(code: i32, remark: impl Into<String>) -> Self {
        Refusal {
            code,
            remark: remark.into(),
        }
    }

    /// Code 1 with a text, for what has no code of its own.
    pub fn system_error(remark: impl Into<String>) -> Self {
        Refusal::new(response::SYSTEM_ERROR, remark)
    }
}

/// Replication between two Gantrys.
impl Refusal {
    /// Only a slave of this broker's name may follow it.
    pub fn no_slave_of_ours(theirs: &str, ours: &str) -> Self {
        Refusal::new(
            response::NO_PERMISSION,
            format!("this is a broker of {ours}, a slave of {theirs} cannot follow it"),
        )
    }

    /// Only registered or listed addresses get the log.
    pub fn no_slave_there(address: IpAddr, ours: &str) -> Self {
        Refusal::new(
            response::NO_PERMISSION,
            format!("no slave of {ours} is registered at {address}, and haPeers does not list it"),
        )
    }
}

/// Promotions.
impl Refusal {
    /// A master that was replaced gives its log to nobody.
    pub fn fenced(why: String) -> Self {
        Refusal::new(response::NO_PERMISSION, why)
    }

    /// What a broker is does not change.
    pub fn seat(fault: &SeatFault) -> Self {
        let code = match fault {
            SeatFault::Refused(_) | SeatFault::Changed { .. } => response::NO_PERMISSION,
            SeatFault::Io { .. } | SeatFault::Over => response::SYSTEM_ERROR,
        };
        Refusal::new(code, fault.to_string())
    }

    /// A slave that would lose messages as a master.
    pub fn lacks(end: LogOffset, wanted: i64) -> Self {
        Refusal::new(
            response::NO_PERMISSION,
            format!(
                "this slave's log ends at {end}, and {wanted} was asked for: it is not promoted"
            ),
        )
    }
}

/// Sends to a SYNC_MASTER with `slaveAckPolicy=refuse`.
impl Refusal {
    /// Too few slaves can have a copy. 14: stock producers try another broker.
    pub fn too_few_slaves(near: usize, wanted: u32) -> Self {
        Refusal::new(
            response::SERVICE_NOT_AVAILABLE,
            format!(
                "service not available now: {near} slaves are within haSlaveFallbehindMax, inSyncReplicas is {wanted}, and \
                 slaveAckPolicy=refuse stores nothing without them"
            ),
        )
    }
}

/// Any request.
impl Refusal {
    /// The code is not one of ours.
    pub fn code_not_supported(code: i32) -> Self {
        Refusal::new(
            response::REQUEST_CODE_NOT_SUPPORTED,
            format!(" request type {code} not supported"),
        )
    }

    /// Too much is waiting already; `what`, `value` and `limit` name it.
    pub fn overloaded(code: OverloadCode, what: &str, value: usize, limit: usize) -> Self {
        Refusal::new(
            code.code(),
            format!(
                "[OVERLOAD]system busy, start flow control for a while: {what} {value}, limit {limit}"
            ),
        )
    }

    /// The log cannot take messages fast enough at the moment.
    pub fn rejected(code: OverloadCode, why: &str) -> Self {
        Refusal::new(
            code.code(),
            format!("[REJECTREQUEST]system busy, start flow control for a while: {why}"),
        )
    }

    /// An admin request from somebody who may not make one.
    pub fn admin_closed(code: i32, address: SocketAddr) -> Self {
        Refusal::new(
            response::NO_PERMISSION,
            format!(
                "request code {code} ({}) is administration, which adminOpen=false allows from loopback only; it came \
                 from {address}",
                request::name(code)
            ),
        )
    }

    /// A change of tables was asked from a slave.
    pub fn slave_is_read_only() -> Self {
        Refusal::system_error(
            "Can't modify topic or subscription group from slave broker, please execute it from master broker.",
        )
    }

    /// A table could not be written; the cause names file and error.
    pub fn not_persisted(cause: &dyn fmt::Display) -> Self {
        Refusal::system_error(format!("the change could not be written: {cause}"))
    }
}

/// Topics and groups.
impl Refusal {
    /// The topic name breaks a rule.
    pub fn topic_name(error: TopicError) -> Self {
        Refusal::system_error(error.to_string())
    }

    /// The topic belongs to the broker itself.
    pub fn system_topic(topic: &str) -> Self {
        Refusal::system_error(format!("The topic[{topic}] is conflict with system topic."))
    }

    /// Administration, send-back: there is no such topic.
    pub fn topic_missing(topic: &str) -> Self {
        Refusal::new(
            response::TOPIC_NOT_EXIST,
            format!("topic[{topic}] not exist"),
        )
    }

    /// Pull: there is no such topic.
    pub fn topic_not_exist(topic: &str) -> Self {
        Refusal::new(
            response::TOPIC_NOT_EXIST,
            format!("topic[{topic}] not exist, apply first please! {FAQ}"),
        )
    }

    /// Send: there is no such topic, and it cannot be made.
    pub fn topic_not_exist_on_send(topic: &str) -> Self {
        Refusal::new(
            response::TOPIC_NOT_EXIST,
            format!("topic[{topic}] not exist, apply first please!{FAQ}"),
        )
    }

    /// Pull: there is no such group.
    pub fn group_not_exist_on_pull(group: &str) -> Self {
        Refusal::new(
            response::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group [{group}] does not exist, {FAQ}"),
        )
    }

    /// Send to a retry topic, send-back: there is no such group.
    pub fn group_not_exist_on_send(group: &str) -> Self {
        Refusal::new(
            response::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group not exist, {group} {FAQ}"),
        )
    }

    /// The group may not consume.
    pub fn group_forbidden(group: &str) -> Self {
        Refusal::new(
            response::NO_PERMISSION,
            format!("subscription group no permission, {group}"),
        )
    }
}

/// Send (10, 310, 320) and send-back (36).
impl Refusal {
    /// Sending begins later, by configuration.
    pub fn not_serving_until(time: Millis) -> Self {
        let local = jiff::Timestamp::from_millisecond(time.0)
            .map(|instant| {
                instant
                    .to_zoned(jiff::tz::TimeZone::system())
                    .strftime("%Y-%m-%d %H:%M:%S,%3f")
                    .to_string()
            })
            .unwrap_or_else(|_| time.to_string());
        Refusal::system_error(format!("broker unable to service, until {local}"))
    }

    /// The broker does not take messages.
    pub fn broker_not_writable(broker_ip: &str) -> Self {
        Refusal::new(
            response::NO_PERMISSION,
            format!("the broker[{broker_ip}] sending message is forbidden"),
        )
    }

    /// Nobody sends to this topic from outside.
    pub fn topic_forbidden(topic: &str) -> Self {
        Refusal::new(
            response::NO_PERMISSION,
            format!("Sending message to topic[{topic}] is forbidden."),
        )
    }

    /// Send-back: the retry topic takes no messages.
    pub fn topic_not_writable(topic: &str) -> Self {
        Refusal::new(
            response::NO_PERMISSION,
            format!("the topic[{topic}] sending message is forbidden"),
        )
    }

    /// The queue is beyond the topic's queues.
    pub fn queue_id_illegal(queue_id: i32, topic: &TopicConfig, producer: SocketAddr) -> Self {
        Refusal::system_error(format!(
            "request queueId[{queue_id}] is illegal, {} Producer: {producer}",
            TopicText(topic)
        ))
    }

    /// Transactions are not served.
    pub fn transaction_forbidden(broker_ip: &str) -> Self {
        Refusal::new(
            response::NO_PERMISSION,
            format!("the broker[{broker_ip}] sending transaction message is forbidden"),
        )
    }

    /// Body or properties are too large, or a property is wrong; `detail` says which.
    pub fn message_illegal(body_limit: u64, detail: &dyn fmt::Display) -> Self {
        Refusal::new(
            response::MESSAGE_ILLEGAL,
            format!(
                "the message is illegal, maybe msg body or properties length not matched. msg body length limit \
                 {body_limit}B, msg properties length limit 32KB. {detail}"
            ),
        )
    }

    /// The body is larger than the limit.
    pub fn body_too_large(size: usize, body_limit: u64) -> Self {
        Refusal::message_illegal(body_limit, &format_args!("body {size}B"))
    }

    /// The delay level is no number. Java answers with the exception of its parser.
    pub fn delay_level_illegal(text: &str) -> Self {
        Refusal::system_error(format!(
            "the delay level (property DELAY) is {text:?}, which is no number"
        ))
    }

    /// The messages of a batch take too much once each is stored by itself.
    pub fn batch_too_large(limit: usize) -> Self {
        Refusal::new(
            response::MESSAGE_ILLEGAL,
            format!(
                "the message is illegal, the messages of the batch take more than {limit}B when they are stored"
            ),
        )
    }

    /// The items of a batch do not add up.
    pub fn batch_body(error: &dyn fmt::Display) -> Self {
        Refusal::new(
            response::MESSAGE_ILLEGAL,
            format!("the message is illegal, the batch body cannot be read: {error}"),
        )
    }

    /// A batch without messages.
    pub fn batch_empty() -> Self {
        Refusal::new(
            response::MESSAGE_ILLEGAL,
            "the message is illegal, the batch holds no message",
        )
    }

    /// The store did not take the message. `body_limit` is maxMessageSize, `disk` the fill of log, queue and index disk (0 to 1).
    pub fn append(error: &AppendError, body_limit: u64, disk: DiskUse) -> Self {
        if error.is_illegal_message() {
            return Refusal::message_illegal(body_limit, error);
        }
        Refusal::new(
            response::SERVICE_NOT_AVAILABLE,
            format!(
                "service not available now. It may be caused by one of the following reasons: the broker's disk is full \
                 [{disk}], messages are put to the slave, message store has been shut down, etc. {error}"
            ),
        )
    }

    /// A send to a slave, which stores only what its master sends it.
    pub fn not_stored_by_a_slave(disk: DiskUse) -> Self {
        Refusal::new(
            response::SERVICE_NOT_AVAILABLE,
            format!(
                "service not available now. It may be caused by one of the following reasons: the broker's disk is full \
                 [{disk}], messages are put to the slave, message store has been shut down, etc."
            ),
        )
    }

    /// The end of a transaction at a slave.
    pub fn transactions_end_at_masters() -> Self {
        Refusal::new(
            response::SLAVE_NOT_AVAILABLE,
            "Message store is slave mode, so end transaction is forbidden. ",
        )
    }

    /// Send-back: no record at this offset.
    pub fn record_not_found_for_send_back(offset: i64) -> Self {
        Refusal::system_error(format!("look message by offset failed, {offset}"))
    }
}

/// How full the disks are: log, queues, index, each from 0 to 1. Prints as Java does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DiskUse {
    /// The disk of the commit log, of several the fullest.
    pub log: f64,
    /// The disk of the consume queues.
    pub queues: f64,
    /// The disk of the index.
    pub index: f64,
}

impl DiskUse {
    /// As the store measured it last; a disk that could not be asked counts as -1, as in Java.
    pub fn of(disks: DiskPercents) -> Self {
        let ratio = |percent: Option<u64>| percent.map_or(-1.0, |percent| percent as f64 / 100.0);
        DiskUse {
            log: ratio(disks.log),
            queues: ratio(disks.queues),
            index: ratio(disks.index),
        }
    }
}

impl fmt::Display for DiskUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CL: {:5.2} CQ: {:5.2} INDEX: {:5.2}",
            self.log, self.queues, self.index
        )
    }
}

/// Pull (11).
impl Refusal {
    /// The broker does not hand out messages.
    pub fn broker_not_readable(broker_ip: &str) -> Self {
        Refusal::new(
            response::NO_PERMISSION,
            format!("the broker[{broker_ip}] pulling message is forbidden"),
        )
    }

    /// The topic does not hand out messages.
    pub fn topic_not_readable(topic: &str) -> Self {
        Refusal::new(
            response::NO_PERMISSION,
            format!("the topic[{topic}] pulling message is forbidden"),
        )
    }

    /// The queue is not one of the topic's read queues.
    pub fn pull_queue_illegal(
        queue_id: i32,
        topic: &str,
        read_queues: i32,
        consumer: SocketAddr,
    ) -> Self {
        Refusal::system_error(format!(
            "queueId[{queue_id}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{read_queues}] \
             consumer:[/{consumer}]"
        ))
    }

    /// The subscription in the request cannot be read.
    pub fn subscription_parse_failed() -> Self {
        Refusal::new(
            response::SUBSCRIPTION_PARSE_FAILED,
            "parse the consumer's subscription failed",
        )
    }

    /// No consumer of the group is connected.
    pub fn group_not_online() -> Self {
        Refusal::new(
            response::SUBSCRIPTION_NOT_EXIST,
            format!("the consumer's group info not exist{FAQ}"),
        )
    }

    /// The group may not broadcast.
    pub fn broadcast_forbidden(group: &str) -> Self {
        Refusal::new(
            response::NO_PERMISSION,
            format!("the consumer group[{group}] can not consume by broadcast way"),
        )
    }

    /// The group does not subscribe to the topic.
    pub fn topic_not_subscribed() -> Self {
        Refusal::new(
            response::SUBSCRIPTION_NOT_EXIST,
            format!("the consumer's subscription not exist{FAQ}"),
        )
    }

    /// The request knows a newer subscription than the last heartbeat.
    pub fn subscription_not_latest() -> Self {
        Refusal::new(
            response::SUBSCRIPTION_NOT_LATEST,
            "the consumer's subscription not latest",
        )
    }

    /// Only tags are served.
    pub fn filter_type_not_supported(expression_type: &str) -> Self {
        Refusal::system_error(format!(
            "The broker does not support consumer to filter message by {expression_type}"
        ))
    }
}

/// Consumers, producers and offsets.
impl Refusal {
    /// 38: nobody of the group is connected.
    pub fn no_consumer(group: &str) -> Self {
        Refusal::system_error(format!("no consumer for this group, {group}"))
    }

    /// 203: nobody of the group is connected.
    pub fn consumer_not_online(group: &str) -> Self {
        Refusal::new(
            response::CONSUMER_NOT_ONLINE,
            format!("the consumer group[{group}] not online"),
        )
    }

    /// 204: nobody of the group is connected.
    pub fn producer_not_exist(group: &str) -> Self {
        Refusal::system_error(format!("the producer group[{group}] not exist"))
    }

    /// 14: the group has no position in the queue.
    pub fn offset_not_found() -> Self {
        Refusal::new(
            response::QUERY_NOT_FOUND,
            "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first",
        )
    }

    /// A negative queue where one is needed.
    pub fn queue_negative(queue_id: i32, topic: &str) -> Self {
        Refusal::system_error(format!("queueId[{queue_id}] is illegal, topic:[{topic}]"))
    }

    /// 222: the group has no position in a queue of the topic.
    pub fn reset_group_unknown(group: &str) -> Self {
        Refusal::system_error(format!("THe consumer group <{group}> not exist"))
    }

    /// 222: nobody of the group is connected.
    pub fn reset_not_online(group: &str, topic: &str, timestamp: i64) -> Self {
        Refusal::new(
            response::CONSUMER_NOT_ONLINE,
            format!(
                "Consumer not online, so can not reset offset, Group: {group} Topic: {topic} Timestamp: {timestamp}"
            ),
        )
    }

    /// 307, 309: the named client is not connected.
    pub fn client_not_online(group: &str, client_id: &str) -> Self {
        Refusal::system_error(format!("The Consumer <{group}> <{client_id}> not online"))
    }

    /// 307, 309: the named client is too old to answer.
    pub fn client_too_old(client_id: &str, version: &dyn fmt::Display) -> Self {
        Refusal::system_error(format!(
            "The Consumer <{client_id}> Version <{version}> too low to finish, please upgrade it to V3_1_8_SNAPSHOT"
        ))
    }

    /// 307, 309: the named client did not answer in time.
    pub fn client_timed_out(group: &str, client_id: &str, error: &dyn fmt::Display) -> Self {
        Refusal::new(
            response::CONSUME_MSG_TIMEOUT,
            format!("consumer <{group}> <{client_id}> Timeout: {error}"),
        )
    }

    /// 307, 309: asking the named client failed.
    pub fn client_failed(group: &str, client_id: &str, error: &dyn fmt::Display) -> Self {
        Refusal::system_error(format!(
            "invoke consumer <{group}> <{client_id}> Exception: {error}"
        ))
    }

    /// 34: a limit of the client tables; the error names it.
    pub fn not_registered(error: &dyn fmt::Display) -> Self {
        Refusal::system_error(error.to_string())
    }

    /// 34: a name is longer than it may be; `what` names it.
    pub fn name_too_long(what: &str, length: usize, limit: usize) -> Self {
        Refusal::system_error(format!(
            "the {what} is {length} characters long, limit {limit}"
        ))
    }

    /// 15, pull: the position was not taken; the error names the limit.
    pub fn offset_not_taken(error: &dyn fmt::Display) -> Self {
        Refusal::system_error(error.to_string())
    }
}

/// Queries, statistics, configuration.
impl Refusal {
    /// 12: nothing found.
    pub fn query_found_nothing() -> Self {
        Refusal::new(
            response::QUERY_NOT_FOUND,
            "can not find message, maybe time range not correct",
        )
    }

    /// 33: no record at this offset.
    pub fn record_not_found(offset: i64) -> Self {
        Refusal::system_error(format!("{}, {offset}", response::NO_RECORD))
    }

    /// 315: no such figure.
    pub fn stats_not_exist(name: &str, key: &str) -> Self {
        Refusal::system_error(format!("The stats <{name}> <{key}> not exist"))
    }

    /// 321: no such queue.
    pub fn queue_not_exist(queue_id: QueueId, topic: &str) -> Self {
        Refusal::system_error(format!("{queue_id}@{topic} is not exist!"))
    }

    /// 25: the key may not be changed.
    pub fn config_black_list() -> Self {
        Refusal::new(
            response::NO_PERMISSION,
            "Can not update config in black list.",
        )
    }

    /// 21, 43, 45, 201: the table is empty; `what` as in `topic`, `subscription group`, `consumer offset`, `delay offset`.
    pub fn nothing_in_this_broker(what: &str) -> Self {
        Refusal::system_error(format!("No {what} in this broker"))
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        Refusal::system_error(error.to_string())
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Refusal::system_error(error.to_string())
    }
}

/// A topic's configuration as Java prints it.
struct TopicText<'a>(&'a TopicConfig);

impl fmt::Display for TopicText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = self.0;
        write!(
            f,
            "TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, perm={}, topicFilterType={}, \
             topicSysFlag={}, order={}]",
            topic.topic_name,
            topic.read_queue_nums,
            topic.write_queue_nums,
            perm::text(topic.perm),
            topic.topic_filter_type,
            topic.topic_sys_flag,
            topic.order
        )
    }
}

#[cfg(test)]
mod tests;
