//! From the log to queues and index: what a commit leaves for the background threads.
//!
//! Queue entries go straight into the queues' tails; the queues that have something to write are listed. Keys go into a
//! bounded list for the index; when that overflows, the index reads the log instead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gantry_message::{LogOffset, Millis};

use crate::batch::{Batch, NOT_STORED};
use crate::bell::Bell;
use crate::format::entry::Entry;
use crate::log::tags_code;
use crate::queue::{Pushed, Queue};

/// More keys than this are not kept: the index will read them from the log.
const KEYS_MAX: usize = 1 << 20;

/// Where a commit leaves queue entries and keys.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    dirty: Mutex<Vec<Arc<Queue>>>,
    /// Those of them whose tails became long.
    long: Mutex<Vec<Arc<Queue>>>,
    /// There is something to write.
    pub(crate) queues: Bell,
    /// There is much to write.
    pub(crate) queues_urgent: Bell,
    index_enabled: bool,
    feed: Mutex<Feed>,
    /// There is something to index.
    pub(crate) index: Bell,
}

/// The keys of every message in `from..to`.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) keys: Vec<IndexKey>,
}

/// One key of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexKey {
    pub(crate) hash: u32,
    pub(crate) offset: u64,
    pub(crate) time: Millis,
}

impl Dispatcher {
    pub(crate) fn new(end: u64, index_enabled: bool) -> Self {
        Self {
            dirty: Mutex::default(),
            long: Mutex::default(),
            queues: Bell::default(),
            queues_urgent: Bell::default(),
            index_enabled,
            feed: Mutex::new(Feed {
                from: end,
                to: end,
                keys: Vec::new(),
            }),
            index: Bell::default(),
        }
    }

    /// Takes what a commit stored in `start..end`. Called under the log's lock.
    pub(crate) fn deliver(&self, batch: &Batch, start: u64, end: u64, now: Millis) {
        for record in &batch.records {
            if record.offset == NOT_STORED || !record.is_queued {
                continue;
            }
            let queue = &batch.touched[record.queue].queue;
            let entry = Entry {
                log_offset: LogOffset(record.offset),
                size: u32::try_from(record.len).unwrap_or(u32::MAX),
                tags_code: tags_code(record.tags, now),
            };
            self.note(queue, queue.push(&entry, now));
        }
        if self.index_enabled {
            self.feed(batch, start, end, now);
        }
    }

    /// Remembers that a queue has something to write.
    pub(crate) fn note(&self, queue: &Arc<Queue>, pushed: Pushed) {
        if pushed.became_dirty {
            lock(&self.dirty).push(Arc::clone(queue));
            self.queues.ring();
        }
        if pushed.is_long {
            lock(&self.long).push(Arc::clone(queue));
            self.queues_urgent.ring();
        }
    }

    /// The queues that have something to write, each once.
    pub(crate) fn take_dirty(&self) -> Vec<Arc<Queue>> {
        std::mem::take(&mut lock(&self.dirty))
    }

    /// The queues whose tails became long since the last call.
    pub(crate) fn take_long(&self) -> Vec<Arc<Queue>> {
        std::mem::take(&mut lock(&self.long))
    }

    /// Lists a queue again whose entries could not be written.
    pub(crate) fn put_back_dirty(&self, queue: Arc<Queue>) {
        lock(&self.dirty).push(queue);
    }

    fn feed(&self, batch: &Batch, start: u64, end: u64, now: Millis) {
        let keys = batch.keys.iter().filter_map(|key| {
            let offset = batch.records[key.record].offset;
            (offset != NOT_STORED).then_some(IndexKey {
                hash: key.hash,
                offset,
                time: now,
            })
        });
        self.take_keys(keys, batch.keys.len(), start, end);
    }

    /// Takes the keys of what was copied to `start..end`. Called under the log's lock.
    pub(crate) fn deliver_keys(&self, keys: Vec<IndexKey>, start: u64, end: u64) {
        if self.index_enabled {
            let count = keys.len();
            self.take_keys(keys.into_iter(), count, start, end);
        }
    }

    fn take_keys(&self, keys: impl Iterator<Item = IndexKey>, count: usize, start: u64, end: u64) {
        let mut feed = lock(&self.feed);
        let (feed_to, full) = (feed.to, feed.keys.len() + count > KEYS_MAX);
        if feed_to != start || full {
            // What is dropped here the index finds by reading the log up to `from`.
            feed.keys.clear();
            feed.from = start;
        }
        feed.to = end;
        feed.keys.extend(keys);
        drop(feed);
        self.index.ring();
    }

    /// Where in the log the keys begin that wait to be taken.
    pub(crate) fn feed_from(&self) -> u64 {
        lock(&self.feed).from
    }

    /// Takes the keys that came since the last call; `spare` becomes the new list's memory.
    pub(crate) fn take_feed(&self, spare: Vec<IndexKey>) -> Feed {
        let mut feed = lock(&self.feed);
        let next = Feed {
            from: feed.to,
            to: feed.to,
            keys: spare,
        };
        std::mem::replace(&mut feed, next)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
