//! A consumer could not handle a message and hands it back (36): it comes again after a while, or goes to the dead letters.
//!
//! [`plan`] decides, from the stored record and the group's settings, what is stored and where; it is pure. The rest
//! reads the record, makes the retry or dead-letter topic and appends: it blocks on files and is run where that is
//! allowed. The answer does not wait for the disk: the copy carries `WAIT=false`, and the original is still there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gantry_message::{
    LogOffset, MessageId, Millis, QueueId, Record, RecordView, java_hash_bytes, perm, properties,
    topic,
};
use gantry_store::{AppendError, Outcome, Store, Tags};
use gantry_wire::bodies::{SubscriptionGroupConfig, TopicConfig};
use gantry_wire::headers::ConsumerSendMsgBack;
use gantry_wire::{Request, Response, version};

use crate::config::BrokerRole;
use crate::delay::{Levels, postpone};
use crate::live::LiveConfig;
use crate::refusal::Refusal;
use crate::stats::Stats;
use crate::tables::{Groups, Topics};

/// The level that the first retry waits, before any is counted on top (10 s of the default table).
const FIRST_RETRY_LEVEL: i32 = 3;

/// The parts that handing back needs.
pub struct SendBack {
    /// Configuration as it runs.
    pub live: Arc<LiveConfig>,
    /// Where the record is read and the copy goes.
    pub store: Arc<Store>,
    /// Where retry and dead-letter topics are made.
    pub topics: Arc<Topics>,
    /// Whose settings count.
    pub groups: Arc<Groups>,
    /// How long the copy waits.
    pub levels: Arc<Levels>,
    /// What counts it.
    pub stats: Arc<Stats>,
    /// The address this broker announces, for texts.
    pub broker_ip: String,
    /// Spreads the copies over the retry queues.
    pub next_queue: AtomicU32,
}

impl SendBack {
    /// Serves one request. Blocks.
    pub fn handle(&self, request: &Request, now: Millis) -> Result<Response, Refusal> {
        let header: ConsumerSendMsgBack<'_> = request.header()?;
        if self.live.now().store.broker_role == BrokerRole::Slave {
            return Err(Refusal::system_error("SERVICE_NOT_AVAILABLE"));
        }
        // Nothing is made for a message that will not be taken.
        if self.groups.get(header.group).is_none() {
            self.store.admit().map_err(|error| not_stored(&error))?;
        }
        let group = self
            .groups
            .get_or_create(header.group, now)
            .map_err(|error| Refusal::not_persisted(&error))?;
        let group = group.ok_or_else(|| Refusal::group_not_exist_on_send(header.group))?;
        if self.live.now().broker_permission & perm::WRITE.unsigned_abs() == 0 {
            return Err(Refusal::broker_not_writable(&self.broker_ip));
        }
        if group.retry_queue_nums <= 0 {
            return Ok(Response::ok());
        }
        self.store.admit().map_err(|error| not_stored(&error))?;
        let retry =
            self.topics
                .create_retry(header.group, group.retry_queue_nums, header.unit_mode, now);
        let retry = retry.map_err(|error| Refusal::not_persisted(&error))?;
        if !perm::is_writable(retry.perm) {
            return Err(Refusal::topic_not_writable(&retry.topic_name));
        }
        let not_found = || Refusal::record_not_found_for_send_back(header.offset);
        let offset = u64::try_from(header.offset).map_err(|_| not_found())?;
        let stored = self
            .store
            .record_at(LogOffset(offset))
            .map_err(|error| Refusal::system_error(error.to_string()))?;
        let stored = stored.ok_or_else(not_found)?;
        let view = RecordView::parse(&stored).map_err(|_| not_found())?;
        let tries = Tries {
            wanted_level: header.delay_level,
            limit: header
                .max_reconsume_times
                .filter(|_| version::OVERRIDE_RETRY_TIMES <= request.version)
                .unwrap_or(group.retry_max_times),
        };
        let plan = plan(&view, &tries);
        let target = match plan.destination {
            Destination::Retry => retry,
            Destination::DeadLetters => {
                let dead = self.topics.create_dead_letter(header.group, now);
                dead.map_err(|error| Refusal::not_persisted(&error))?
            }
        };
        // Told now: a delayed copy would be stored under another name, and could not get there later.
        if topic::LENGTH_MAX < target.topic_name.len() {
            let (size, limit) = (target.topic_name.len(), topic::LENGTH_MAX);
            return Err(not_stored(&AppendError::TopicTooLong { size, limit }));
        }
        self.store_copy(
            &view,
            &plan,
            &target,
            self.pick_queue(&plan, &group, &target),
        )?;
        let origin =
            properties::find_str(&plan.properties, properties::RETRY_TOPIC).unwrap_or_default();
        self.stats.sent_back(header.group, origin);
        if plan.destination == Destination::DeadLetters {
            self.stats.died(header.group, origin);
        }
        Ok(Response::ok())
    }

    fn pick_queue(
        &self,
        plan: &Plan,
        group: &SubscriptionGroupConfig,
        target: &TopicConfig,
    ) -> QueueId {
        match plan.destination {
            Destination::DeadLetters => QueueId(0),
            Destination::Retry => {
                // A group whose queues were raised later still has the topic it began with.
                let queues = group.retry_queue_nums.min(target.write_queue_nums.max(1));
                let queues = u32::try_from(queues).unwrap_or(1).max(1);
                QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed) % queues)
            }
        }
    }

    fn store_copy(
        &self,
        view: &RecordView<'_>,
        plan: &Plan,
        target: &TopicConfig,
        queue: QueueId,
    ) -> Result<(), Refusal> {
        let copy = Record {
            topic: &target.topic_name,
            queue_id: queue,
            reconsume_times: view.reconsume_times().saturating_add(1),
            prepared_offset: 0,
            properties: &plan.properties,
            ..view.to_record()
        };
        let outcome = match self.levels.wanted(plan.level) {
            Some(level) => {
                let postponed = postpone(
                    &self.levels,
                    level,
                    &target.topic_name,
                    queue,
                    &plan.properties,
                );
                let queue = self.store.queue(topic::SCHEDULE, postponed.queue);
                let copy = Record {
                    topic: topic::SCHEDULE,
                    queue_id: postponed.queue,
                    properties: &postponed.properties,
                    ..copy
                };
                self.append(&queue, &copy, Tags::DueAfter(postponed.delay))
            }
            None => {
                let tags = properties::find(&plan.properties, properties::TAGS);
                let tags = tags.map_or(0, |tags| i64::from(java_hash_bytes(tags)));
                self.append(
                    &self.store.queue(&target.topic_name, queue),
                    &copy,
                    Tags::Code(tags),
                )
            }
        };
        outcome.map_err(|error| {
            self.stats.send_failed();
            not_stored(&error)
        })
    }

    fn append(
        &self,
        queue: &Arc<gantry_store::Queue>,
        record: &Record<'_>,
        tags: Tags,
    ) -> Result<(), AppendError> {
        match self.store.append(queue, record, tags) {
            Outcome::Stored { .. } => {
                let topic = self.stats.topic(record.topic);
                self.stats.stored(
                    &topic,
                    record.queue_id,
                    1,
                    u64::try_from(record.encoded_len()).unwrap_or(0),
                );
                Ok(())
            }
            Outcome::Refused(error) => Err(error),
        }
    }
}

/// Java answers with the name of the status; the reason behind it is ours. Its clients then store the copy by
/// themselves, on any broker that takes it, or keep the message.
fn not_stored(error: &AppendError) -> Refusal {
    Refusal::system_error(format!("{}: {error}", status_name(error)))
}

/// Java's name for why a message was not stored; tools and people know these.
fn status_name(error: &AppendError) -> &'static str {
    match error {
        AppendError::BodyTooLarge { .. }
        | AppendError::TopicTooLong { .. }
        | AppendError::RecordLargerThanSegment { .. } => "MESSAGE_ILLEGAL",
        AppendError::PropertiesTooLarge { .. } => "PROPERTIES_SIZE_EXCEEDED",
        _ => "SERVICE_NOT_AVAILABLE",
    }
}

/// What decides whether a message is tried again.
struct Tries {
    /// The consumer's wish: 0 by the number of tries so far, below zero never again.
    wanted_level: i32,
    limit: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    Retry,
    DeadLetters,
}

/// What is stored.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    destination: Destination,
    /// Delay level; 0 for at once.
    level: i32,
    properties: Vec<u8>,
}

fn plan(stored: &RecordView<'_>, tries: &Tries) -> Plan {
    let (destination, level) = if tries.limit <= stored.reconsume_times() || tries.wanted_level < 0
    {
        (Destination::DeadLetters, 0)
    } else if tries.wanted_level == 0 {
        (
            Destination::Retry,
            stored.reconsume_times().saturating_add(FIRST_RETRY_LEVEL),
        )
    } else {
        (Destination::Retry, tries.wanted_level)
    };
    let text = stored.properties();
    let blank = |value: &[u8]| value.iter().all(u8::is_ascii_whitespace);
    let first_id = properties::find(text, properties::ORIGIN_MESSAGE_ID)
        .filter(|id| !blank(id))
        .map(<[u8]>::to_vec);
    let first_id = first_id.unwrap_or_else(|| {
        MessageId {
            host: stored.store_host(),
            offset: stored.log_offset(),
        }
        .to_string()
        .into_bytes()
    });
    let first_topic =
        properties::find(text, properties::RETRY_TOPIC).unwrap_or(stored.topic().as_bytes());
    let replaced = [
        properties::DELAY,
        properties::WAIT,
        properties::RETRY_TOPIC,
        properties::ORIGIN_MESSAGE_ID,
    ];
    let mut out = Vec::with_capacity(text.len() + first_id.len() + first_topic.len() + 64);
    properties::copy_without(&mut out, text, &replaced);
    properties::push(&mut out, properties::RETRY_TOPIC, first_topic);
    properties::push(&mut out, properties::ORIGIN_MESSAGE_ID, &first_id);
    properties::push(&mut out, properties::WAIT, b"false");
    properties::push(&mut out, properties::DELAY, level.to_string().as_bytes());
    Plan {
        destination,
        level,
        properties: out,
    }
}

#[cfg(test)]
mod tests {
    use gantry_message::QueueOffset;
    use gantry_message::{SysFlag, patch};

    use super::*;

    fn stored(reconsume_times: i32, properties: &str) -> Vec<u8> {
        let record = Record {
            topic: "T",
            queue_id: QueueId(1),
            flag: 0,
            sys_flag: SysFlag(0),
            born_time: Millis(1),
            born_host: "10.0.0.9:5555".parse().unwrap(),
            store_host: "10.0.0.1:10911".parse().unwrap(),
            reconsume_times,
            prepared_offset: 0,
            body: b"hello",
            properties: properties.as_bytes(),
        };
        let mut bytes = Vec::new();
        record.encode(&mut bytes).unwrap();
        patch(&mut bytes, QueueOffset(0), LogOffset(5), Millis(2));
        bytes
    }

    fn planned(reconsume_times: i32, properties: &str, wanted_level: i32, limit: i32) -> Plan {
        let bytes = stored(reconsume_times, properties);
        plan(
            &RecordView::parse(&bytes).unwrap(),
            &Tries {
                wanted_level,
                limit,
            },
        )
    }

    #[test]
    fn a_message_climbs_the_ladder_and_ends_among_the_dead_letters() {
        use Destination::{DeadLetters, Retry};
        for (reconsumed, wanted, limit, expected) in [
            (0, 0, 16, (Retry, 3)),
            (1, 0, 16, (Retry, 4)),
            (15, 0, 16, (Retry, 18)),
            (16, 0, 16, (DeadLetters, 0)),
            (17, 5, 16, (DeadLetters, 0)),
            (0, 0, 0, (DeadLetters, 0)),
            (0, -1, 16, (DeadLetters, 0)),
            (7, 2, 16, (Retry, 2)),
            (0, 99, 16, (Retry, 99)),
            (i32::MAX, 0, i32::MAX, (DeadLetters, 0)),
            (i32::MAX - 1, 0, i32::MAX, (Retry, i32::MAX)),
        ] {
            let plan = planned(reconsumed, "", wanted, limit);
            assert_eq!(
                (plan.destination, plan.level),
                expected,
                "{reconsumed} tries, level {wanted}, limit {limit}"
            );
        }
    }

    #[test]
    fn the_first_topic_and_id_are_kept_over_all_tries() {
        let check = |properties: &str, level, expected: &str| {
            let plan = planned(0, properties, level, 16);
            assert_eq!(
                String::from_utf8(plan.properties).unwrap(),
                expected,
                "{properties:?}"
            );
        };
        check(
            "TAGS\u{1}a\u{2}WAIT\u{1}true\u{2}KEYS\u{1}k",
            0,
            "TAGS\u{1}a\u{2}KEYS\u{1}k\u{2}RETRY_TOPIC\u{1}T\u{2}ORIGIN_MESSAGE_ID\u{1}0A00000100002A9F0000000000000005\u{2}\
             WAIT\u{1}false\u{2}DELAY\u{1}3",
        );
        check(
            "RETRY_TOPIC\u{1}First\u{2}ORIGIN_MESSAGE_ID\u{1}ID1\u{2}DELAY\u{1}9\u{2}WAIT\u{1}true",
            4,
            "RETRY_TOPIC\u{1}First\u{2}ORIGIN_MESSAGE_ID\u{1}ID1\u{2}WAIT\u{1}false\u{2}DELAY\u{1}4",
        );
        check(
            "ORIGIN_MESSAGE_ID\u{1} ",
            -1,
            "RETRY_TOPIC\u{1}T\u{2}ORIGIN_MESSAGE_ID\u{1}0A00000100002A9F0000000000000005\u{2}WAIT\u{1}false\u{2}DELAY\u{1}0",
        );
    }
}
