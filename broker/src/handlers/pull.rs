//! Pulling (11, and 361 of 5.x clients): who may read which queue, with which filter, and when to wait
//! (semantics.md 6).
//!
//! [`Pull::admit`] and [`Pull::attempt`] decide and read; waiting is a loop around them in `shard::park`, so that a
//! held pull is nothing but a future that is dropped with its connection.

use std::{net::SocketAddr, sync::Arc};

use gantry_filter::{TagExpression, TagFilter, is_tag_type};
use gantry_message::{
    LogOffset, Millis, QueueId, QueueOffset, Record, SysFlag, java_hash, perm, properties, topic,
};
use gantry_store::{Found, Queue, ReadStatus, Store, Tags};
use gantry_wire::{
    Fields,
    bodies::{MessageModel, MessageQueue, OffsetMovedEvent, TopicConfig},
    codes::response,
    headers::PullMessage,
};

use crate::{
    clients::Clients,
    config::BrokerRole,
    live::LiveConfig,
    refusal::Refusal,
    stats::{GroupTopicCounters, Read, Stats},
    tables::{Groups, Missing, Offsets, Topics},
};

const COMMIT_OFFSET: i32 = 0x1;
const SUSPEND: i32 = 0x2;
const SUBSCRIPTION: i32 = 0x4;

/// So many entries are looked at for a held pull at once, on the I/O thread; Java's reads look at as many.
const ENTRIES_LOOKED_AT: usize = 800;

/// The parts that pulling needs; shared by all I/O shards.
pub struct Pull {
    /// Configuration as it runs.
    pub config: Arc<LiveConfig>,
    /// Where messages are.
    pub store: Arc<Store>,
    /// Topic table.
    pub topics: Arc<Topics>,
    /// Subscription groups.
    pub groups: Arc<Groups>,
    /// Progress of groups.
    pub offsets: Arc<Offsets>,
    /// Connected consumers.
    pub clients: Arc<Clients>,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Store host of events that we write ourselves.
    pub store_host: SocketAddr,
}

/// A pull that passed all checks.
pub struct Admitted {
    group: String,
    queue: Arc<Queue>,
    offset: i64,
    count: u32,
    filter: TagFilter,
    counters: Arc<GroupTopicCounters>,
    /// Broker to suggest while the reader keeps up, and when it has fallen behind.
    suggest: (i64, i64),
    /// Set on a slave: an offset outside the queue is left for the master to correct, which is this broker of the group.
    uncorrected: Option<i64>,
    /// How long the request may be held.
    pub hold: Option<Millis>,
}

/// What the checks of a pull ended in.
pub enum Admission {
    /// It may be read.
    Admitted(Admitted),
    /// The group must be made first, then the request comes again.
    Prepare(Missing),
}

/// The answer to a pull.
pub struct PullAnswer {
    /// Response code.
    pub code: i32,
    /// Name of the store's status, as Java has it.
    pub remark: &'static str,
    /// Broker id the reader should turn to.
    pub suggest: i64,
    /// Where to go on.
    pub next: i64,
    /// First offset that can be read.
    pub min: i64,
    /// Offset of the next message to come.
    pub max: i64,
    /// The records, where they lie.
    pub found: Option<Found>,
    /// How long reading took.
    pub took_ms: u64,
}

impl Pull {
    /// The checks of semantics.md 6 in their order; commits the offset that came along.
    pub fn admit(&self, fields: &Fields<'_>, peer: SocketAddr) -> Result<Admission, Refusal> {
        let request = fields.header::<PullMessage<'_>>()?;
        let config = self.config.now();
        let (group, name) = (request.consumer_group, request.topic);
        if !perm::is_readable(i32::try_from(config.broker_permission).unwrap_or(0)) {
            return Err(Refusal::broker_not_readable(
                &self.store_host.ip().to_string(),
            ));
        }
        let Some(known) = self.groups.get(group) else {
            return match self.groups.plan(group) {
                Some(missing) => Ok(Admission::Prepare(missing)),
                None => Err(Refusal::group_not_exist_on_pull(group)),
            };
        };
        if !known.consume_enable {
            return Err(Refusal::group_forbidden(group));
        }
        let topic = self
            .topics
            .get(name)
            .ok_or_else(|| Refusal::topic_not_exist(name))?;
        if !perm::is_readable(topic.perm) {
            return Err(Refusal::topic_not_readable(name));
        }
        let queue_id = read_queue(&topic, request.queue_id, peer)?;
        let filter = self.filter(&request, known.consume_broadcast_enable)?;
        let is_slave = config.store.broker_role == BrokerRole::Slave;
        // What comes with a pull is for the master; a slave takes what is committed on purpose.
        if !is_slave && request.sys_flag & COMMIT_OFFSET != 0 && 0 <= request.commit_offset {
            let reached = QueueOffset(request.commit_offset.unsigned_abs());
            if let Err(error) = self.offsets.commit(group, name, queue_id, reached) {
                // The pull goes on, as Java's does; the group is told when it commits by itself (15).
                tracing::warn!(group, topic = name, %error, "an offset that came with a pull was not kept");
            }
        }
        let suggest = if config.slave_read_enable {
            (known.broker_id, known.which_broker_when_consume_slowly)
        } else {
            (0, 0)
        };
        let hold = (request.sys_flag & SUSPEND != 0).then(|| {
            if config.long_polling_enable {
                Millis(request.suspend_timeout_millis.max(0))
            } else {
                Millis(i64::try_from(config.short_polling_time_mills).unwrap_or(i64::MAX))
            }
        });
        Ok(Admission::Admitted(Admitted {
            queue: self.store.queue(name, queue_id),
            offset: request.queue_offset,
            count: u32::try_from(request.max_msg_nums).unwrap_or(0).max(1),
            filter,
            counters: self.stats.group_topic(group, name),
            suggest,
            uncorrected: (is_slave && !config.store.offset_check_in_slave)
                .then_some(known.broker_id),
            hold,
            group: group.to_owned(),
        }))
    }

    fn filter(&self, request: &PullMessage<'_>, broadcast: bool) -> Result<TagFilter, Refusal> {
        let (group, topic) = (request.consumer_group, request.topic);
        if request.sys_flag & SUBSCRIPTION != 0 {
            let expression_type = request.expression_type;
            if !is_tag_type(expression_type) {
                return Err(Refusal::filter_type_not_supported(
                    expression_type.unwrap_or(""),
                ));
            }
            return TagExpression::parse(request.subscription)
                .map(|expression| expression.filter)
                .map_err(|_| Refusal::subscription_parse_failed());
        }
        let consumer = self
            .clients
            .consumer(group)
            .ok_or_else(Refusal::group_not_online)?;
        if !broadcast && consumer.message_model == MessageModel::Broadcasting {
            return Err(Refusal::broadcast_forbidden(group));
        }
        let subscription = consumer
            .subscriptions
            .get(topic)
            .ok_or_else(Refusal::topic_not_subscribed)?;
        if subscription.data.sub_version < request.sub_version {
            return Err(Refusal::subscription_not_latest());
        }
        let expression_type = subscription.data.expression_type.as_str();
        if !is_tag_type(Some(expression_type)) {
            return Err(Refusal::filter_type_not_supported(expression_type));
        }
        Ok(subscription.filter.clone())
    }

    /// A held pull before its last look: when its queue was deleted meanwhile, it asks for what is there now.
    pub fn renewed(&self, pull: Admitted, peer: SocketAddr) -> Result<Admitted, Refusal> {
        if !pull.queue.is_deleted() {
            return Ok(pull);
        }
        let name = pull.queue.topic();
        let topic = self
            .topics
            .get(name)
            .ok_or_else(|| Refusal::topic_not_exist(name))?;
        let id = i32::try_from(pull.queue.id().0).unwrap_or(i32::MAX);
        let queue = self.store.queue(name, read_queue(&topic, id, peer)?);
        Ok(Admitted { queue, ..pull })
    }

    /// Reads once, and waits for the disk where it has to.
    pub fn attempt(&self, pull: &Admitted) -> PullAnswer {
        let Ok(offset) = u64::try_from(pull.offset) else {
            return self.negative_offset(pull);
        };
        let began = std::time::Instant::now();
        let wanted = |code| pull.filter.matches(code);
        let found = self
            .store
            .read(&pull.queue, QueueOffset(offset), pull.count, &wanted);
        let took = u64::try_from(began.elapsed().as_millis());
        answer(pull, found, took.unwrap_or(u64::MAX))
    }

    /// Reads once on an I/O shard; `None` when the disk would have to be waited for.
    pub fn attempt_now(&self, pull: &Admitted) -> Option<PullAnswer> {
        let Ok(offset) = u64::try_from(pull.offset) else {
            return Some(self.negative_offset(pull));
        };
        let wanted = |code| pull.filter.matches(code);
        let found = self
            .store
            .read_now(&pull.queue, QueueOffset(offset), pull.count, &wanted)?;
        Some(answer(pull, found, 0))
    }

    /// An offset below zero is below every minimum.
    fn negative_offset(&self, pull: &Admitted) -> PullAnswer {
        let (min, max) = (pull.queue.min(), pull.queue.max());
        let (status, next) = if max.0 == 0 {
            (ReadStatus::NoMessageInQueue, QueueOffset(0))
        } else {
            (ReadStatus::OffsetTooSmall, min)
        };
        let answer = PullAnswer {
            code: response::PULL_OFFSET_MOVED,
            remark: status.as_str(),
            suggest: pull.suggest.0,
            next: to_wire(next),
            min: to_wire(min),
            max: to_wire(max),
            found: None,
            took_ms: 0,
        };
        uncorrected(pull, answer)
    }

    /// Counts what an answer carries, and records an offset that had to be corrected.
    pub fn account(&self, pull: &Admitted, answer: &PullAnswer) {
        match &answer.found {
            Some(found) => {
                let read = Read {
                    messages: found.count.into(),
                    bytes: found.bytes,
                    ms: answer.took_ms,
                };
                self.stats.found(&pull.counters, pull.queue.id(), read);
                if let Ok(next) = u64::try_from(answer.next) {
                    pull.counters.pulled_to(pull.queue.id(), QueueOffset(next));
                }
            }
            None => self.stats.missed(),
        }
        let is_slave = self.config.now().store.broker_role == BrokerRole::Slave;
        if answer.code == response::PULL_OFFSET_MOVED && !is_slave {
            self.offset_moved(pull, answer);
        }
    }

    fn offset_moved(&self, pull: &Admitted, answer: &PullAnswer) {
        let event = OffsetMovedEvent {
            consumer_group: pull.group.clone(),
            message_queue: MessageQueue {
                topic: pull.queue.topic().to_owned(),
                broker_name: self.config.now().broker_name.clone(),
                queue_id: i32::try_from(pull.queue.id().0).unwrap_or(i32::MAX),
            },
            offset_request: pull.offset,
            offset_new: answer.next,
        };
        let mut text = Vec::new();
        properties::push(&mut text, properties::TAGS, pull.group.as_bytes());
        properties::push(&mut text, properties::KEYS, pull.group.as_bytes());
        let body = event.encode();
        let now = Millis::now();
        let record = Record {
            topic: topic::OFFSET_MOVED_EVENT,
            queue_id: QueueId(0),
            flag: 0,
            sys_flag: SysFlag(0),
            born_time: now,
            born_host: self.store_host,
            store_host: self.store_host,
            reconsume_times: 0,
            prepared_offset: LogOffset(0).0,
            body: &body,
            properties: &text,
        };
        let queue = self.store.queue(topic::OFFSET_MOVED_EVENT, QueueId(0));
        let tags = Tags::Code(i64::from(java_hash(&pull.group)));
        let outcome = self.store.append(&queue, &record, tags);
        tracing::warn!(
            group = %pull.group, topic = pull.queue.topic(), queue = pull.queue.id().0,
            from = pull.offset, to = answer.next, ?outcome,
            "a consumer's offset is outside the queue and was corrected"
        );
    }
}

impl Admitted {
    /// The queue that is read.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Where it reads.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Whether the messages in `[from, to)` hold one that the filter wants, or that cannot be told at once.
    pub fn wants_any(&self, store: &Store, from: QueueOffset, to: QueueOffset) -> bool {
        if self.filter == TagFilter::All {
            return from < to;
        }
        // More than one read looks at: the read finds out, and the reader gets on in any case.
        let Some(count) = usize::try_from(to.0.saturating_sub(from.0))
            .ok()
            .filter(|count| *count <= ENTRIES_LOOKED_AT)
        else {
            return true;
        };
        // What is not in memory may be wanted: the read finds out, where it may wait for the disk.
        store
            .queue_entries_now(&self.queue, from, count)
            .is_none_or(|entries| {
                let mut entries = entries.iter();
                entries.any(|entry| self.filter.matches(entry.tags_code))
            })
    }
}

fn answer(pull: &Admitted, found: Found, took_ms: u64) -> PullAnswer {
    let code = match found.status {
        ReadStatus::Found => response::SUCCESS,
        ReadStatus::MessageWasRemoving | ReadStatus::NoMatchedMessage => {
            response::PULL_RETRY_IMMEDIATELY
        }
        ReadStatus::NoMatchedLogicQueue | ReadStatus::NoMessageInQueue if pull.offset == 0 => {
            response::PULL_NOT_FOUND
        }
        ReadStatus::OffsetFoundNull | ReadStatus::OffsetOverflowOne => response::PULL_NOT_FOUND,
        _ => response::PULL_OFFSET_MOVED,
    };
    let (in_time, behind) = pull.suggest;
    let answer = PullAnswer {
        code,
        remark: found.status.as_str(),
        suggest: if found.suggest_slave { behind } else { in_time },
        next: to_wire(found.next),
        min: to_wire(found.min),
        max: to_wire(found.max),
        found: (code == response::SUCCESS).then_some(found),
        took_ms,
    };
    uncorrected(pull, answer)
}

/// A slave that does not correct offsets. A reader beyond the end is ahead of what has been copied: it waits as for any
/// message that is not there yet. One before the beginning is sent to the master and comes again as it is.
fn uncorrected(pull: &Admitted, answer: PullAnswer) -> PullAnswer {
    let Some(corrects) = pull
        .uncorrected
        .filter(|_| answer.code == response::PULL_OFFSET_MOVED)
    else {
        return answer;
    };
    let code = if answer.max < pull.offset {
        response::PULL_NOT_FOUND
    } else {
        response::PULL_RETRY_IMMEDIATELY
    };
    PullAnswer {
        code,
        suggest: corrects,
        next: pull.offset,
        ..answer
    }
}

fn read_queue(topic: &TopicConfig, id: i32, peer: SocketAddr) -> Result<QueueId, Refusal> {
    let queues = topic.read_queue_nums;
    u32::try_from(id)
        .ok()
        .filter(|_| id < queues)
        .map(QueueId)
        .ok_or_else(|| Refusal::pull_queue_illegal(id, &topic.topic_name, queues, peer))
}

fn to_wire(offset: QueueOffset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}
