//! Messages on their way into the log: encoded where they will be written from, with holes for what only the log knows.
//!
//! One [`Batch`] is reused from turn to turn and allocates nothing once it has grown. [`Batch::stage`] needs no lock;
//! `Store::commit` fills the holes, writes everything at once and leaves an [`Outcome`] for every entry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gantry_message::{LogOffset, Millis, QueueOffset, Record, properties};

use crate::error::AppendError;
use crate::queue::Queue;
use crate::width::{narrow, wide};

/// What the queue entry's third field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// The hash of the tags; 0 without tags.
    Code(i64),
    /// The store time plus this delay: when a delayed message is due.
    DueAfter(Millis),
}

/// What became of one staged entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log and in its queue.
    Stored {
        /// Where it starts (the first record of a group).
        offset: LogOffset,
        /// Where it ends (the last record of a group): durable once the flushed watermark is here.
        end: LogOffset,
        /// Its number in the queue (the first of a group).
        queue_offset: QueueOffset,
        /// When it was stored.
        store_time: Millis,
    },
    /// It is nowhere.
    Refused(AppendError),
}

/// What a batch may hold; shared with the store, which changes it when the configuration changes.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) segment_size: u64,
    pub(crate) max_message_size: AtomicU32,
    pub(crate) index_enabled: bool,
}

/// Messages to be stored together. Made by `Store::batch`.
#[derive(Debug)]
pub struct Batch {
    limits: Arc<Limits>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: Vec<Staged>,
    pub(crate) entries: Vec<Staging>,
    pub(crate) keys: Vec<Key>,
    /// The queues of this batch, each once.
    pub(crate) touched: Vec<Touched>,
    /// For every queue's number in the store: where it is in `touched`, if it is.
    slots: Vec<u32>,
    pub(crate) outcomes: Vec<Outcome>,
}

/// One record of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staged {
    /// Where its bytes start in the batch.
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// Which of the touched queues.
    pub(crate) queue: usize,
    pub(crate) tags: Tags,
    /// Whether it gets a queue entry.
    pub(crate) is_queued: bool,
    /// Where it will be in the log; set by the commit.
    pub(crate) offset: u64,
    pub(crate) queue_offset: u64,
}

/// One entry of a batch: a message, or a group that stays together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staging {
    pub(crate) first_record: usize,
    pub(crate) records: usize,
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// One key to be indexed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) record: usize,
    pub(crate) hash: u32,
}

/// A queue that the batch adds to.
#[derive(Debug)]
pub(crate) struct Touched {
    pub(crate) queue: Arc<Queue>,
    /// The offset the next record gets; set by the commit.
    pub(crate) next: u64,
}

const NOT_TOUCHED: u32 = u32::MAX;
/// The offset of a record that was refused while others of its batch were stored.
pub(crate) const NOT_STORED: u64 = u64::MAX;

impl Batch {
    pub(crate) fn new(limits: Arc<Limits>) -> Self {
        Self {
            limits,
            bytes: Vec::new(),
            records: Vec::new(),
            entries: Vec::new(),
            keys: Vec::new(),
            touched: Vec::new(),
            slots: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    /// Whether nothing is staged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries are staged; a group counts once.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// How many records are staged.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// How many bytes are staged.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Makes the batch empty and keeps its memory (within reason: after a turn of giants it is given back).
    pub fn clear(&mut self) {
        const KEPT: usize = 4 << 20;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.records.clear();
        self.entries.clear();
        self.keys.clear();
        self.outcomes.clear();
        for touched in self.touched.drain(..) {
            if let Some(slot) = self.slots.get_mut(touched.queue.slot()) {
                *slot = NOT_TOUCHED;
            }
        }
    }

    /// Adds one message; returns its index for [`Batch::outcome`]. After an error the batch is as it was.
    pub fn stage(
        &mut self,
        queue: &Arc<Queue>,
        record: &Record<'_>,
        tags: Tags,
    ) -> Result<usize, AppendError> {
        let start = self.bytes.len();
        let limit = self.limits.max_message_size.load(Ordering::Relaxed);
        let limit = narrow(u64::from(limit));
        if record.body.len() > limit {
            return Err(AppendError::BodyTooLarge {
                size: record.body.len(),
                limit,
            });
        }
        let len = self.encode(queue, record, tags)?;
        let first_record = self.records.len() - 1;
        self.close_entry(Staging {
            first_record,
            records: 1,
            start,
            len,
        })
    }

    /// Adds messages of one queue that get consecutive offsets and places in the log; returns the group's index for
    /// [`Batch::outcome`]. After an error the batch is as it was. An empty group is refused. What a group may take beside
    /// that a segment must hold it is decided by who makes it: Java limits the body it came in, not the records.
    pub fn stage_group<'r>(
        &mut self,
        queue: &Arc<Queue>,
        records: impl IntoIterator<Item = (Record<'r>, Tags)>,
    ) -> Result<usize, AppendError> {
        let (start, first_record) = (self.bytes.len(), self.records.len());
        let limit = self.limits.segment_size - crate::format::blank::LEN;
        for (record, tags) in records {
            let size = self.bytes.len() - start + record.encoded_len();
            let staged = if wide(size) > limit {
                Err(AppendError::RecordLargerThanSegment { size, limit })
            } else {
                self.encode(queue, &record, tags)
            };
            if let Err(error) = staged {
                self.take_back(start, first_record);
                return Err(error);
            }
        }
        let records = self.records.len() - first_record;
        if records == 0 {
            return Err(AppendError::EmptyGroup);
        }
        self.close_entry(Staging {
            first_record,
            records,
            start,
            len: self.bytes.len() - start,
        })
    }

    /// What became of an entry. Panics before the commit and beyond the last entry.
    #[must_use]
    pub fn outcome(&self, index: usize) -> &Outcome {
        &self.outcomes[index]
    }

    /// Where each record of an entry was stored. Nothing for an entry that was refused.
    pub fn offsets(&self, index: usize) -> impl Iterator<Item = LogOffset> + '_ {
        let stored = matches!(self.outcomes[index], Outcome::Stored { .. });
        let entry = self.entries[index];
        let records = if stored { entry.records } else { 0 };
        self.records[entry.first_record..entry.first_record + records]
            .iter()
            .map(|record| LogOffset(record.offset))
    }

    fn encode(
        &mut self,
        queue: &Arc<Queue>,
        record: &Record<'_>,
        tags: Tags,
    ) -> Result<usize, AppendError> {
        assert_eq!(
            record.queue_id,
            queue.id(),
            "a record goes to the queue it names"
        );
        debug_assert_eq!(
            record.topic,
            queue.topic(),
            "a record goes to the queue it names"
        );
        let start = self.bytes.len();
        let len = record.encode(&mut self.bytes)?;
        let index = self.records.len();
        if self.limits.index_enabled
            && record.sys_flag.transaction() != gantry_message::SysFlag::ROLLBACK
        {
            for key in properties::index_keys(record.properties) {
                self.keys.push(Key {
                    record: index,
                    hash: queue.key_hash(key),
                });
            }
        }
        let queue = self.touch(queue);
        let is_queued = record.sys_flag.is_queued();
        self.records.push(Staged {
            start,
            len,
            queue,
            tags,
            is_queued,
            offset: 0,
            queue_offset: 0,
        });
        Ok(len)
    }

    fn close_entry(&mut self, entry: Staging) -> Result<usize, AppendError> {
        let limit = self.limits.segment_size - crate::format::blank::LEN;
        if wide(entry.len) > limit {
            self.take_back(entry.start, entry.first_record);
            return Err(AppendError::RecordLargerThanSegment {
                size: entry.len,
                limit,
            });
        }
        self.entries.push(entry);
        Ok(self.entries.len() - 1)
    }

    fn take_back(&mut self, start: usize, first_record: usize) {
        self.bytes.truncate(start);
        self.records.truncate(first_record);
        let keys = self.keys.partition_point(|key| key.record < first_record);
        self.keys.truncate(keys);
    }

    fn touch(&mut self, queue: &Arc<Queue>) -> usize {
        let slot = queue.slot();
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, NOT_TOUCHED);
        }
        if let Some(touched) = self.touched.get(narrow(u64::from(self.slots[slot])))
            && Arc::ptr_eq(&touched.queue, queue)
        {
            return narrow(u64::from(self.slots[slot]));
        }
        let at = self.touched.len();
        self.touched.push(Touched {
            queue: Arc::clone(queue),
            next: 0,
        });
        self.slots[slot] = u32::try_from(at).unwrap_or(NOT_TOUCHED);
        at
    }
}
