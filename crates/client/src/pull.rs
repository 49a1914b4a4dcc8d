//! Pulling from one queue, and the offsets of queues: what tools and load generators need of a consumer.
//!
//! Nobody joins a group here: the subscription travels with the pull, offsets stay with the caller.

use std::time::Duration;

use bytes::Bytes;
use gantry_message::{QueueId, QueueOffset, RecordView};
use gantry_wire::{
    codes::{request, response},
    headers::{
        GetMaxOffset, GetMinOffset, OffsetAnswer, PullMessage, PullMessageAnswer, SearchOffset,
    },
};

use crate::{
    Client, Error,
    remote::{NO_BODY, parsed, refused},
    timeouts,
};

/// The pull may wait at the broker.
const MAY_WAIT: i32 = 0x2;
/// The subscription travels with the pull.
const HAS_SUBSCRIPTION: i32 = 0x4;

/// What to pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull<'a> {
    /// Consumer group; tools use `TOOLS_CONSUMER`, which every broker knows.
    pub group: &'a str,
    /// Topic.
    pub topic: &'a str,
    /// Queue.
    pub queue: QueueId,
    /// From which message on.
    pub from: QueueOffset,
    /// At most so many messages.
    pub count_max: i32,
    /// Tags, `*` for all.
    pub expression: &'a str,
    /// How long the broker may wait for a message; zero: not at all.
    pub wait: Duration,
}

/// How a pull ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullStatus {
    /// Messages came.
    Found,
    /// Nothing new in the queue.
    NoNewMessage,
    /// Something, but nothing that the expression wants: go on at once.
    NoMatchedMessage,
    /// The queue does not have that offset; `next` is where it does.
    OffsetIllegal,
}

/// What came.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// How it ended.
    pub status: PullStatus,
    /// Where to go on.
    pub next: i64,
    /// The queue's first offset.
    pub min: i64,
    /// The queue's end.
    pub max: i64,
    /// Stored records, one after the other.
    pub body: Bytes,
}

impl Pulled {
    /// The records; ends at the first that cannot be read, as Java's client does.
    pub fn records(&self) -> impl Iterator<Item = RecordView<'_>> {
        let mut rest: &[u8] = &self.body;
        std::iter::from_fn(move || {
            let record = RecordView::parse(rest).ok()?;
            rest = rest.get(record.len()..)?;
            Some(record)
        })
    }
}

impl Client {
    /// 11: pulls from a queue of the broker at this address.
    pub async fn pull(&self, broker: &str, pull: &Pull<'_>) -> Result<Pulled, Error> {
        let wait = if pull.wait.is_zero() { 0 } else { MAY_WAIT };
        let header = PullMessage {
            consumer_group: pull.group,
            topic: pull.topic,
            queue_id: queue_id(pull.queue),
            queue_offset: i64::try_from(pull.from.0).unwrap_or(i64::MAX),
            max_msg_nums: pull.count_max,
            sys_flag: HAS_SUBSCRIPTION | wait,
            commit_offset: 0,
            suspend_timeout_millis: i64::try_from(pull.wait.as_millis()).unwrap_or(i64::MAX),
            subscription: Some(pull.expression),
            sub_version: 0,
            expression_type: Some("TAG"),
            broker_name: None,
            max_msg_bytes: None,
        };
        let timeout = timeouts::PULL + pull.wait;
        let reply = self
            .remote()
            .call(broker, request::PULL_MESSAGE, &header, NO_BODY, timeout)
            .await?;
        let status = match reply.code {
            response::SUCCESS => PullStatus::Found,
            response::PULL_NOT_FOUND => PullStatus::NoNewMessage,
            response::PULL_RETRY_IMMEDIATELY => PullStatus::NoMatchedMessage,
            response::PULL_OFFSET_MOVED => PullStatus::OffsetIllegal,
            _ => return Err(refused(reply, Some(broker))),
        };
        let answer: PullMessageAnswer = parsed("pull result", broker, reply.fields.header())?;
        Ok(Pulled {
            status,
            next: answer.next_begin_offset,
            min: answer.min_offset,
            max: answer.max_offset,
            body: reply.body,
        })
    }

    /// 31: the first offset of a queue.
    pub async fn min_offset(
        &self,
        broker: &str,
        topic: &str,
        queue: QueueId,
    ) -> Result<i64, Error> {
        let header = GetMinOffset {
            topic,
            queue_id: queue_id(queue),
            broker_name: None,
        };
        self.offset(broker, request::GET_MIN_OFFSET, &header).await
    }

    /// 30: the end of a queue.
    pub async fn max_offset(
        &self,
        broker: &str,
        topic: &str,
        queue: QueueId,
    ) -> Result<i64, Error> {
        let header = GetMaxOffset {
            topic,
            queue_id: queue_id(queue),
            broker_name: None,
        };
        self.offset(broker, request::GET_MAX_OFFSET, &header).await
    }

    /// 29: the offset at a time.
    pub async fn offset_at(
        &self,
        broker: &str,
        topic: &str,
        queue: QueueId,
        timestamp: i64,
    ) -> Result<i64, Error> {
        let header = SearchOffset {
            topic,
            queue_id: queue_id(queue),
            timestamp,
            broker_name: None,
        };
        self.offset(broker, request::SEARCH_OFFSET_BY_TIMESTAMP, &header)
            .await
    }

    async fn offset(
        &self,
        broker: &str,
        code: i32,
        header: &impl gantry_wire::HeaderEncode,
    ) -> Result<i64, Error> {
        let reply = self
            .ask_broker(broker, code, header, timeouts::LOOK_UP)
            .await?;
        let answer: OffsetAnswer = parsed("offset", broker, reply.fields.header())?;
        Ok(answer.offset)
    }
}

fn queue_id(queue: QueueId) -> i32 {
    i32::try_from(queue.0).unwrap_or(i32::MAX)
}
