//! Sending: 10, 310, 320, 324, 325, 36, 37, 39, 326, and their answers.
//!
//! V2 carries the same header under the names `a` to `n`. Those names live here and nowhere else.

use super::{FieldValue, HeaderDecode, HeaderEncode, HeaderError, headers};
use crate::codes::request;
use crate::fields::{FieldSink, Fields};

headers! {
    /// Header of every send; [`SendMessage::read`] picks the names that go with the code.
    SendMessage<'a> "SendMessageRequestHeader" {
        producer_group: &'a str, "producerGroup";
        topic: &'a str, "topic";
        /// Template for a topic that does not exist yet.
        default_topic: &'a str, "defaultTopic";
        /// Queues wanted for such a topic.
        default_topic_queue_nums: i32, "defaultTopicQueueNums";
        /// Below zero: the broker chooses.
        queue_id: i32, "queueId";
        sys_flag: i32, "sysFlag";
        born_timestamp: i64, "bornTimestamp";
        flag: i32, "flag";
        properties: Option<&'a str>, "properties";
        reconsume_times: Option<i32>, "reconsumeTimes";
        unit_mode: bool = false, "unitMode";
        /// The body is a batch; this field alone decides, not the code.
        batch: bool = false, "batch";
        max_reconsume_times: Option<i32>, "maxReconsumeTimes";
        /// Broker name; ignored by servers.
        broker_name: Option<&'a str>, "bname";
    }

    /// Answer to a send.
    SendMessageAnswer<'a> "SendMessageResponseHeader" {
        /// Offset message id, of a batch all of them with commas between.
        msg_id: &'a str, "msgId";
        queue_id: i32, "queueId";
        /// Of a batch the first one's.
        queue_offset: i64, "queueOffset";
        transaction_id: Option<&'a str>, "transactionId";
    }

    /// 36: the consumer could not handle a message.
    ConsumerSendMsgBack<'a> "ConsumerSendMsgBackRequestHeader" {
        /// Log offset of the message.
        offset: i64, "offset";
        group: &'a str, "group";
        /// 0: by the number of tries so far; below zero: dead letter at once.
        delay_level: i32, "delayLevel";
        origin_msg_id: Option<&'a str>, "originMsgId";
        origin_topic: Option<&'a str>, "originTopic";
        unit_mode: bool = false, "unitMode";
        max_reconsume_times: Option<i32>, "maxReconsumeTimes";
        broker_name: Option<&'a str>, "bname";
    }

    /// 37: commit or roll back a half message.
    EndTransaction<'a> "EndTransactionRequestHeader" {
        producer_group: &'a str, "producerGroup";
        tran_state_table_offset: i64, "tranStateTableOffset";
        commit_log_offset: i64, "commitLogOffset";
        /// 8 commit, 12 roll back, 0 unknown.
        commit_or_rollback: i32, "commitOrRollback";
        from_transaction_check: bool = false, "fromTransactionCheck";
        msg_id: &'a str, "msgId";
        transaction_id: Option<&'a str>, "transactionId";
        broker_name: Option<&'a str>, "bname";
    }

    /// 39, to a client: what became of this half message?
    CheckTransactionState<'a> "CheckTransactionStateRequestHeader" {
        tran_state_table_offset: i64, "tranStateTableOffset";
        commit_log_offset: i64, "commitLogOffset";
        msg_id: Option<&'a str>, "msgId";
        transaction_id: Option<&'a str>, "transactionId";
        offset_msg_id: Option<&'a str>, "offsetMsgId";
        broker_name: Option<&'a str>, "bname";
    }

    /// 326, to a client: an answer for its request message.
    ReplyMessage<'a> "ReplyMessageRequestHeader" {
        producer_group: &'a str, "producerGroup";
        topic: &'a str, "topic";
        default_topic: &'a str, "defaultTopic";
        default_topic_queue_nums: i32, "defaultTopicQueueNums";
        queue_id: i32, "queueId";
        sys_flag: i32, "sysFlag";
        born_timestamp: i64, "bornTimestamp";
        flag: i32, "flag";
        properties: Option<&'a str>, "properties";
        reconsume_times: Option<i32>, "reconsumeTimes";
        unit_mode: bool = false, "unitMode";
        /// `ip:port`.
        born_host: &'a str, "bornHost";
        /// `ip:port`.
        store_host: &'a str, "storeHost";
        store_timestamp: i64, "storeTimestamp";
    }
}

/// Java's name of the V2 class.
const V2: &str = "SendMessageRequestHeaderV2";

impl<'a> SendMessage<'a> {
    /// Reads the header of a send under the names that its code uses: V1 for 10 and 324, V2 for all others.
    pub fn read(code: i32, fields: &'a Fields<'_>) -> Result<Self, HeaderError> {
        match code {
            request::SEND_MESSAGE | request::SEND_REPLY_MESSAGE => Self::decode(fields.iter()),
            _ => Self::decode_v2(fields.iter()),
        }
    }

    /// Reads the V2 names.
    pub fn decode_v2(
        fields: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, HeaderError> {
        let mut letters = [None; 14];
        for (name, value) in fields {
            if let [letter @ b'a'..=b'n'] = name.as_bytes() {
                letters[usize::from(letter - b'a')] = Some(value);
            }
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = letters;
        Ok(SendMessage {
            producer_group: FieldValue::read(V2, "a", a)?,
            topic: FieldValue::read(V2, "b", b)?,
            default_topic: FieldValue::read(V2, "c", c)?,
            default_topic_queue_nums: FieldValue::read(V2, "d", d)?,
            queue_id: FieldValue::read(V2, "e", e)?,
            sys_flag: FieldValue::read(V2, "f", f)?,
            born_timestamp: FieldValue::read(V2, "g", g)?,
            flag: FieldValue::read(V2, "h", h)?,
            properties: i,
            reconsume_times: FieldValue::read(V2, "j", j)?,
            unit_mode: <Option<bool>>::read(V2, "k", k)?.unwrap_or(false),
            max_reconsume_times: FieldValue::read(V2, "l", l)?,
            batch: <Option<bool>>::read(V2, "m", m)?.unwrap_or(false),
            broker_name: n,
        })
    }

    /// Writes the V2 names.
    pub fn encode_v2(&self, sink: &mut dyn FieldSink) {
        self.producer_group.write("a", sink);
        self.topic.write("b", sink);
        self.default_topic.write("c", sink);
        self.default_topic_queue_nums.write("d", sink);
        self.queue_id.write("e", sink);
        self.sys_flag.write("f", sink);
        self.born_timestamp.write("g", sink);
        self.flag.write("h", sink);
        self.properties.write("i", sink);
        self.reconsume_times.write("j", sink);
        self.unit_mode.write("k", sink);
        self.max_reconsume_times.write("l", sink);
        self.batch.write("m", sink);
        self.broker_name.write("n", sink);
    }

    /// The same header under the V2 names, for [`crate::Request::with_header`].
    pub fn as_v2(&self) -> SendMessageV2<'_, 'a> {
        SendMessageV2(self)
    }
}

/// A send header that writes itself under the V2 names.
#[derive(Clone, Copy, Debug)]
pub struct SendMessageV2<'h, 'a>(&'h SendMessage<'a>);

impl HeaderEncode for SendMessageV2<'_, '_> {
    fn encode(&self, sink: &mut dyn FieldSink) {
        self.0.encode_v2(sink);
    }
}
