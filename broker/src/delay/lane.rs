//! One level at work: reads its queue, stores what is due under the real topics, names what can never be delivered.
//!
//! What is due and what a failure means for the position is decided in `line`; what a delivered message looks like in
//! `due`. A lane knows no other lane and no clock.

use std::fmt;
use std::sync::Arc;

use gantry_message::{LogOffset, Millis, QueueOffset, RecordView, topic};
use gantry_store::{Batch, Entry, Outcome, Queue, Store};

use super::due::revive;
use super::levels::Level;
use super::line::{Bounds, Line, Plan};
use super::{Next, SCHEDULE_CONSUMER};
use crate::stats::{GroupTopicCounters, Stats};

/// Entries looked at in one round.
const ENTRIES_MAX: usize = 64;
/// How often a lane looks whether the store takes messages again.
const SEALED_MS: i64 = 1_000;
/// Bytes stored at once; one message may be larger.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What all lanes work with.
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) stats: Arc<Stats>,
    /// `enableScheduleMessageStats`.
    pub(super) stats_enabled: bool,
}

/// One level with its queue.
pub(super) struct Lane {
    pub(super) level: Level,
    queue: Arc<Queue>,
    line: Line,
    counters: Arc<GroupTopicCounters>,
}

/// One message staged for its real queue.
struct Delivery {
    at: QueueOffset,
    index: usize,
    queue: Arc<Queue>,
    bytes: u64,
}

/// A delivery that did not work now.
struct Failure {
    at: QueueOffset,
    error: String,
}

impl Lane {
    /// Starts where the level stopped, or at the beginning of its queue, and moves into the queue's bounds.
    pub(super) fn new(
        shared: &Shared,
        level: Level,
        delay: Millis,
        kept: Option<QueueOffset>,
    ) -> Self {
        let queue = shared.store.queue(topic::SCHEDULE, level.queue());
        let bounds = bounds(&queue);
        let mut line = Line::new(delay, kept.unwrap_or(bounds.min));
        // Only the move is wanted; the first step makes the plan.
        let _ = line.position(bounds, Millis(0));
        if let Some(kept) = kept.filter(|kept| *kept != line.next()) {
            let Bounds { min, max } = bounds;
            tracing::warn!(
                "delay level {}: position {kept} is outside the queue ({min} to {max}), continuing at {}",
                level.number(),
                line.next()
            );
        }
        let counters = shared.stats.group_topic(SCHEDULE_CONSUMER, topic::SCHEDULE);
        Self {
            level,
            queue,
            line,
            counters,
        }
    }

    /// Everything before this entry is delivered or beyond delivery.
    pub(super) fn next(&self) -> QueueOffset {
        self.line.next()
    }

    /// Goes on where a master is that does the work now.
    pub(super) fn move_to(&mut self, next: QueueOffset) {
        self.line.move_to(next);
    }

    /// One round: delivers some of what is due, or says what to wait for. Returns the end of the log after what was
    /// stored.
    pub(super) fn serve(
        &mut self,
        shared: &Shared,
        batch: &mut Batch,
        now: Millis,
        next: &mut Next,
    ) -> Option<LogOffset> {
        if shared.store.sealed().is_some() {
            next.by(now.plus(SEALED_MS));
            return None;
        }
        let from = match self.line.position(bounds(&self.queue), now) {
            Ok(from) => from,
            Err(plan) => {
                self.note(plan, next);
                return None;
            }
        };
        let entries = match shared.store.queue_entries(&self.queue, from, ENTRIES_MAX) {
            Ok(entries) => entries,
            Err(error) => {
                let error = error.to_string();
                self.failed(&Failure { at: from, error }, now, next);
                return None;
            }
        };
        let due: Vec<_> = entries
            .iter()
            .map(|entry| Millis(entry.tags_code))
            .collect();
        match self.line.plan(&due, now) {
            Plan::Deliver(count) => self.deliver(shared, batch, &entries[..count], now, next),
            plan => {
                self.note(plan, next);
                None
            }
        }
    }

    /// Stores due entries in one commit. The first that fails for now ends the round; those behind it that were stored
    /// all the same are not stored again.
    fn deliver(
        &mut self,
        shared: &Shared,
        batch: &mut Batch,
        entries: &[Entry],
        now: Millis,
        next: &mut Next,
    ) -> Option<LogOffset> {
        let (staged, mut failure) = self.stage_all(shared, batch, entries);
        if !staged.is_empty() {
            shared.store.commit(batch);
        }
        let mut reached = None;
        for delivery in staged {
            match batch.outcome(delivery.index) {
                Outcome::Stored { end, .. } => {
                    reached = reached.max(Some(*end));
                    self.line.settle(delivery.at);
                    self.count(shared, &delivery);
                }
                Outcome::Refused(error) => {
                    let refused = Failure {
                        at: delivery.at,
                        error: error.to_string(),
                    };
                    failure = Some(
                        failure
                            .filter(|earlier| earlier.at < refused.at)
                            .unwrap_or(refused),
                    );
                }
            }
        }
        match failure {
            None => next.by(now),
            Some(failure) => self.failed(&failure, now, next),
        }
        reached
    }

    fn stage_all(
        &mut self,
        shared: &Shared,
        batch: &mut Batch,
        entries: &[Entry],
    ) -> (Vec<Delivery>, Option<Failure>) {
        batch.clear();
        let mut staged = Vec::with_capacity(entries.len());
        for (at, entry) in (self.line.next().0..).map(QueueOffset).zip(entries) {
            if self.line.is_settled(at) {
                continue;
            }
            if BATCH_BYTES_MAX <= batch.bytes() {
                break;
            }
            match self.stage(shared, batch, at, entry) {
                Ok(Some(delivery)) => staged.push(delivery),
                Ok(None) => self.line.settle(at),
                Err(error) => return (staged, Some(Failure { at, error })),
            }
        }
        (staged, None)
    }

    /// Encodes one due message into the batch. `None`: it can never be delivered, and the log says so.
    fn stage(
        &mut self,
        shared: &Shared,
        batch: &mut Batch,
        at: QueueOffset,
        entry: &Entry,
    ) -> Result<Option<Delivery>, String> {
        if entry.is_filler() {
            // It points to no record, though one may stand there.
            return Ok(self.passed_over(at, entry, &"it was lost"));
        }
        let bytes = match shared.store.record_at(entry.log_offset) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                return Ok(self.passed_over(at, entry, &"the commit log has no record there"));
            }
            // The message may well be there: it is waited for.
            Err(error) => return Err(error.to_string()),
        };
        let view = match RecordView::parse(&bytes) {
            Ok(view) => view,
            Err(error) => return Ok(self.passed_over(at, entry, &error)),
        };
        let due = match revive(&view) {
            Ok(due) => due,
            Err(reason) => return Ok(self.passed_over(at, entry, &reason)),
        };
        let queue = shared.store.queue(due.record.topic, due.record.queue_id);
        let bytes = u64::try_from(due.record.encoded_len()).unwrap_or(u64::MAX);
        // A group of one: what is stored already is not measured by a `maxMessageSize` that was lowered since.
        let index = batch
            .stage_group(&queue, [(due.record, due.tags)])
            .map_err(|error| error.to_string())?;
        Ok(Some(Delivery {
            at,
            index,
            queue,
            bytes,
        }))
    }

    fn passed_over(
        &self,
        at: QueueOffset,
        entry: &Entry,
        reason: &dyn fmt::Display,
    ) -> Option<Delivery> {
        let Entry {
            log_offset, size, ..
        } = entry;
        tracing::error!(
            "delay level {}: the message at {at} (commit log {log_offset}, {size} bytes) is passed over: {reason}",
            self.level.number()
        );
        None
    }

    fn failed(&mut self, failure: &Failure, now: Millis, next: &mut Next) {
        let first_time = !self.line.is_paused();
        next.by(self.line.failed(now));
        if first_time || self.line.is_stuck() {
            let Failure { at, error } = failure;
            tracing::error!(
                "delay level {}: the message at {at} cannot be delivered now, trying again: {error}",
                self.level.number()
            );
        }
    }

    fn count(&self, shared: &Shared, delivery: &Delivery) {
        let topic = shared.stats.topic(delivery.queue.topic());
        shared
            .stats
            .stored(&topic, delivery.queue.id(), 1, delivery.bytes);
        if shared.stats_enabled {
            shared
                .stats
                .delivered(&self.counters, self.level.queue(), 1, delivery.bytes);
        }
    }

    fn note(&self, plan: Plan, next: &mut Next) {
        match plan {
            Plan::Idle => next.idle.push((Arc::clone(&self.queue), self.line.next())),
            Plan::Wait(until) => next.by(until),
            Plan::Deliver(_) => {}
        }
    }
}

fn bounds(queue: &Queue) -> Bounds {
    Bounds {
        min: queue.min(),
        max: queue.max(),
    }
}
