//! Which place in its queue a record gets that is read again: the one it says, unless that cannot be.
//!
//! What a record says of its place has no checksum. It counts when it is the next one, or when messages between are gone
//! and there was room for them in the log; else the bytes are damaged, the record is the next one, and that is written
//! into it. (To give it the place it claims would move every later message.)
//!
//! Worked example: a queue ends at 7; a record says 9, and 200 bytes before it are damaged. A record takes at least 91:
//! 7 and 8 are lost, it is 9. Without the damage it is 7.

use std::ops::Range;

use gantry_disk::Open;
use gantry_message::{QueueId, RecordView, record, topic};
use rustc_hash::FxHashMap;

use super::{REPLAYED_MAX, Recovery, is_safe_name, tags_code};
use crate::chain::Chain;
use crate::cursor::{Cursor, Step};
use crate::error::StoreError;
use crate::format::entry::Entry;
use crate::format::name;
use crate::queue::Queue;
use crate::width::wide;

/// Where in the log queues begin, by topic, that have their first file: what lies before belongs to queues of the same
/// name that were deleted (by Apache, which leaves no note of that).
#[derive(Debug, Default)]
pub(super) struct Beginnings(FxHashMap<String, FxHashMap<QueueId, u64>>);

/// Parts of the log where messages may have been that are not there any more.
#[derive(Debug)]
pub(super) struct Losses {
    /// Nothing below was looked at.
    before: u64,
    /// Invariant: in the order of the log.
    ranges: Vec<Range<u64>>,
    /// By slot of the queue, its last record if that may be of a queue that began anew.
    anew: FxHashMap<usize, Anew>,
}

/// A record that says 0, or one more than such a one before it.
#[derive(Clone, Copy, Debug)]
struct Anew {
    at: u64,
    says: u64,
    /// What it got.
    place: u64,
}

impl Losses {
    pub(super) fn before(from: u64) -> Self {
        Self {
            before: from,
            ranges: Vec::new(),
            anew: FxHashMap::default(),
        }
    }

    pub(super) fn note(&mut self, range: Range<u64>) {
        if !range.is_empty() {
            self.ranges.push(range);
        }
    }

    /// So many messages at most may be lost of those that were stored behind a place.
    fn room(&self, behind: u64) -> u64 {
        let unseen = 0..self.before;
        let ranges = self.ranges.iter().rev().chain([&unseen]);
        ranges
            .map(|range| range.end.saturating_sub(range.start.max(behind)))
            .map(|len| len / wide(record::FIXED_LEN))
            .sum()
    }
}

impl Recovery<'_> {
    /// Reads from queue files where they begin. What cannot be read says nothing.
    pub(super) fn beginnings(&self, chain: &Chain, queues: &[(String, QueueId)]) -> Beginnings {
        let mut cursor = Cursor::new(chain, false);
        let mut all = Beginnings::default();
        for (topic, id) in queues {
            let path = self.files.dir_of(topic, *id).join(name::of(0));
            let mut bytes = [0; 20];
            let read = self.disk.open(&path, Open::Read);
            let read = read.and_then(|file| file.read_exact_at(&mut bytes, 0));
            let entry = read.ok().and_then(|()| Entry::decode(&bytes));
            let Some(entry) = entry.filter(|entry| !entry.is_filler()) else {
                continue;
            };
            let at = entry.log_offset.0;
            let is_first = matches!(cursor.step(at), Step::Record(view)
                if view.topic() == topic && view.queue_id() == *id && view.queue_offset().0 == 0);
            if is_first {
                let of_topic = all.0.entry(topic.clone()).or_default();
                of_topic.insert(*id, at);
            }
        }
        all
    }

    /// Puts a record into its queue. Returns how many entries that were.
    pub(super) fn replay_record(
        &self,
        chain: &Chain,
        view: &RecordView<'_>,
        beginnings: &Beginnings,
        losses: &mut Losses,
    ) -> Result<u64, StoreError> {
        let (id, at) = (view.queue_id(), view.log_offset().0);
        if !view.sys_flag().is_queued() && topic::LOST_RANGE.starts_with(view.topic()) {
            losses.note(at..at + wide(view.len()));
        }
        if !view.sys_flag().is_queued() || !is_safe_name(view.topic()) {
            return Ok(0);
        }
        let begin = beginnings.0.get(view.topic()).and_then(|of| of.get(&id));
        let was_deleted = self
            .deletions
            .covers(view.topic(), id, at, view.store_time());
        if was_deleted || begin.is_some_and(|&begin| at < begin) {
            return Ok(0);
        }
        let entry = Entry {
            log_offset: view.log_offset(),
            size: u32::try_from(view.len()).unwrap_or(u32::MAX),
            tags_code: tags_code(view, &self.config.delay_levels),
        };
        let queue = self.queues.get(view.topic(), id);
        let (wanted, present) = (view.queue_offset().0, queue.max().0);
        if entry.end() <= queue.log_end() {
            return Ok(0);
        }
        let before = losses.anew.remove(&queue.slot());
        match wanted.checked_sub(present) {
            Some(0) => {
                // The one before it was damaged, and not the first of a new queue.
                if let Some(one) = before {
                    self.put_right(chain, one.at, one.place)?;
                }
            }
            Some(lost) if lost <= losses.room(queue.log_end()) => {
                self.go_on_at(chain, &queue, view)?;
            }
            None if wanted == 0 || before.is_some_and(|one| one.says + 1 == wanted) => {
                self.name_misplaced(chain, &queue, view);
                let (says, place) = (wanted, present);
                losses.anew.insert(queue.slot(), Anew { at, says, place });
            }
            _ => {
                self.name_misplaced(chain, &queue, view);
                self.put_right(chain, at, present)?;
            }
        }
        self.dispatcher
            .note(&queue, queue.push(&entry, view.store_time()));
        queue.dispatched().advance(queue.max().0 + 1);
        Ok(queue.max().0 - present)
    }

    /// Lets a queue go on, or begin, where a record says that it is: what is missing before it is lost.
    fn go_on_at(
        &self,
        chain: &Chain,
        queue: &std::sync::Arc<Queue>,
        view: &RecordView<'_>,
    ) -> Result<(), StoreError> {
        let (wanted, present) = (view.queue_offset().0, queue.max().0);
        if present == 0 {
            let dir = || self.files.dir_of(queue.topic(), queue.id());
            self.files
                .begin(queue, wanted)
                .map_err(|error| StoreError::io("write", &dir())(error))?;
            queue.begin_at(wanted);
            return Ok(());
        }
        let at = view.log_offset().0;
        let segment = chain.find(at);
        let path = segment.as_ref().map_or(&*self.paths.root, |it| it.path());
        let (topic, id, file) = (queue.topic(), queue.id().0, path.display());
        tracing::error!(topic, id, from = present, to = wanted, before = at, %file, "messages of a queue are lost");
        let before = segment.map_or(0, |it| it.start().saturating_sub(it.len()));
        for nth in 1..=wanted - present {
            let pushed = queue.push(&Entry::lost(before), view.store_time());
            self.dispatcher.note(queue, pushed);
            queue.dispatched().advance(present + nth);
            if nth % REPLAYED_MAX == 0 {
                self.write_queues()?;
            }
        }
        Ok(())
    }

    /// Names a record whose place cannot be what it says.
    fn name_misplaced(&self, chain: &Chain, queue: &Queue, view: &RecordView<'_>) {
        let (wanted, present, at) = (view.queue_offset().0, queue.max().0, view.log_offset().0);
        let segment = chain.find(at);
        let path = segment.as_ref().map_or(&*self.paths.root, |it| it.path());
        let within = at - segment.as_ref().map_or(0, |it| it.start());
        let (topic, id, file) = (queue.topic(), queue.id().0, path.display());
        tracing::error!(topic, id, %file, within, wanted, present, "a message's place in its queue cannot be; it comes next");
    }

    /// Writes into a record which place it has.
    fn put_right(&self, chain: &Chain, at: u64, place: u64) -> Result<(), StoreError> {
        let segment = chain.find(at).filter(|segment| !segment.is_read_only());
        let Some(segment) = segment else {
            return Ok(());
        };
        segment
            .put_queue_offset(at, place)
            .and_then(|()| segment.sync())
            .map_err(StoreError::io("write", segment.path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_gone_leaves_room() {
        let mut losses = Losses::before(1000);
        losses.note(2000..2090);
        losses.note(3000..3000);
        losses.note(4000..4300);
        for (behind, room) in [
            (0, 13),
            (1000, 3),
            (2000, 3),
            (4000, 3),
            (4100, 2),
            (4300, 0),
        ] {
            assert_eq!(losses.room(behind), room, "behind {behind}");
        }
    }
}
