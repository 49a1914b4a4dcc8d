//! One consume queue: entries that point into the log, the newest ones in memory, all of them in files.
//!
//! Entries are appended to the tail under the log's lock and written by runs by the queue writer; a reader finds every
//! entry in one of the two. Neither a map nor a descriptor belongs to a queue: files come from
//! [`QueueFiles`].

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gantry_message::{JavaHash, Millis, QueueId, QueueOffset};

use crate::format::entry::{self, Entry, FILLER};
use crate::format::index;
use crate::queue_files::{QueueFiles, Wait};
use crate::watermark::Watermark;
use crate::width::{narrow, wide};

/// So many written entries stay in memory, for the consumers at the queue's end.
const KEPT: u64 = 32;
/// A tail of so many entries is written at once.
const LONG: u64 = (64 << 10) / entry::LEN;

/// One queue of a topic.
#[derive(Debug)]
pub struct Queue {
    topic: Arc<str>,
    id: QueueId,
    /// Its number in the store, never used again.
    slot: usize,
    /// The hash of `topic#`, which the hash of every key begins with.
    key_prefix: JavaHash,
    /// Length of this queue's files.
    file_size: u64,
    min: AtomicU64,
    /// Invariant: equals the tail's end outside of a commit; what is below is visible.
    dispatched: Watermark,
    /// Entries from here on were written by this process.
    warm_from: u64,
    deleted: AtomicBool,
    tail: Mutex<Tail>,
}

/// The entries that are in memory.
#[derive(Debug)]
struct Tail {
    /// The offset of the first entry in `bytes`.
    base: u64,
    bytes: Vec<u8>,
    /// Invariant: `base <= written <= base + entries in bytes`; everything below is in files.
    written: u64,
    /// Listed for the queue writer.
    is_dirty: bool,
    /// Where the newest entry's record ends in the log; 0: no entry.
    log_end: u64,
    last_time: Millis,
}

/// What a push means for the queue writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// It has to be listed.
    pub(crate) became_dirty: bool,
    /// It should not wait.
    pub(crate) is_long: bool,
}

/// What is known of a queue when it is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) min: u64,
    pub(crate) max: u64,
    pub(crate) log_end: u64,
}

impl Queue {
    pub(crate) fn new(
        topic: Arc<str>,
        id: QueueId,
        slot: usize,
        file_size: u64,
        extent: Extent,
    ) -> Self {
        let key_prefix = JavaHash(0).then(topic.as_bytes()).then(b"#");
        let tail = Tail {
            base: extent.max,
            bytes: Vec::new(),
            written: extent.max,
            is_dirty: false,
            log_end: extent.log_end,
            last_time: Millis(0),
        };
        Self {
            topic,
            id,
            slot,
            key_prefix,
            file_size,
            min: AtomicU64::new(extent.min),
            dispatched: Watermark::new(extent.max),
            warm_from: extent.max,
            deleted: AtomicBool::new(false),
            tail: Mutex::new(tail),
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The number in the topic.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// The first offset that may still be read.
    #[must_use]
    pub fn min(&self) -> QueueOffset {
        QueueOffset(self.min.load(Ordering::Acquire))
    }

    /// The offset the next message gets; everything below is visible.
    #[must_use]
    pub fn max(&self) -> QueueOffset {
        QueueOffset(self.dispatched.value())
    }

    /// Grows with the queue: its value is [`Queue::max`]. Closed when the queue is deleted.
    #[must_use]
    pub fn dispatched(&self) -> &Watermark {
        &self.dispatched
    }

    /// Whether the queue was deleted: nothing can be appended to it any more.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    pub(crate) fn file_size(&self) -> u64 {
        self.file_size
    }

    /// How many entries a file holds.
    pub(crate) fn per_file(&self) -> u64 {
        self.file_size / entry::LEN
    }

    /// The index hash of a key of this queue's topic.
    pub(crate) fn key_hash(&self, key: &[u8]) -> u32 {
        index::stored_hash(self.key_prefix.then(key).0)
    }

    pub(crate) fn is_warm(&self, at: u64) -> bool {
        self.warm_from <= at
    }

    pub(crate) fn set_min(&self, min: u64) {
        self.min.fetch_max(min, Ordering::AcqRel);
    }

    /// Nothing is appended any more.
    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    /// Ends all waits. Comes after the queue left the table, so that who waited and asks again gets another queue.
    pub(crate) fn end_waits(&self) {
        self.dispatched.close();
    }

    /// Where the newest entry's record ends in the log; 0: no entry.
    pub(crate) fn log_end(&self) -> u64 {
        self.lock().log_end
    }

    /// Adds the next entry to the tail. It becomes visible when the caller advances `dispatched`. Called under the
    /// log's lock.
    pub(crate) fn push(&self, entry: &Entry, time: Millis) -> Pushed {
        let mut tail = self.lock();
        tail.bytes.extend_from_slice(&entry.encode());
        tail.log_end = if entry.is_filler() {
            tail.log_end
        } else {
            entry.end()
        };
        tail.last_time = time;
        let became_dirty = !std::mem::replace(&mut tail.is_dirty, true);
        Pushed {
            became_dirty,
            is_long: tail.end() - tail.written == LONG,
        }
    }

    /// Lets an empty queue begin at `offset`: nothing before it exists any more.
    pub(crate) fn begin_at(&self, offset: u64) {
        let mut tail = self.lock();
        assert!(
            tail.end() == 0,
            "a queue with {} entries cannot begin at {offset}",
            tail.end()
        );
        (tail.base, tail.written) = (offset, offset);
        self.min.store(offset, Ordering::Release);
        self.dispatched.advance(offset);
    }

    /// Reads entries from `from` on, as many as `into` takes, up to the end of the queue and of the file they are in.
    /// Returns how many. An entry that is nowhere is an error.
    pub(crate) fn read(
        &self,
        files: &QueueFiles,
        from: u64,
        into: &mut [u8],
        wait: Wait,
    ) -> io::Result<u64> {
        let end = self.dispatched.value();
        let file_end = (from / self.per_file() + 1) * self.per_file();
        let count =
            wide(into.len() / narrow(entry::LEN)).min(end.min(file_end).saturating_sub(from));
        let into = &mut into[..narrow(count * entry::LEN)];
        if count == 0 {
            return Ok(0);
        }
        let in_file = {
            let tail = self.lock();
            let in_file = tail.base.saturating_sub(from).min(count);
            let skipped = narrow((from + in_file - tail.base.min(from + in_file)) * entry::LEN);
            let rest = &mut into[narrow(in_file * entry::LEN)..];
            rest.copy_from_slice(&tail.bytes[skipped..skipped + rest.len()]);
            in_file
        };
        if in_file > 0 {
            files.read(self, from, &mut into[..narrow(in_file * entry::LEN)], wait)?;
        }
        Ok(count)
    }

    /// One entry, filler or not; `None` beyond either end or where the disk does not give it.
    pub(crate) fn entry(&self, files: &QueueFiles, at: u64) -> io::Result<Option<Entry>> {
        let mut bytes = [0; 20];
        let read = self.read(files, at, &mut bytes, Wait::ForDisk)?;
        Ok(if read == 1 {
            Entry::decode(&bytes)
        } else {
            None
        })
    }

    /// Writes what is not yet in files of a queue that was listed as dirty and is listed no more. After an error it
    /// counts as listed again. One caller at a time. Returns how many entries were written.
    pub(crate) fn write_out(&self, files: &QueueFiles, scratch: &mut Vec<u8>) -> io::Result<u64> {
        self.lock().is_dirty = false;
        self.write_ahead(files, scratch)
            .inspect_err(|_| self.lock().is_dirty = true)
    }

    /// Writes what is not yet in files and leaves it listed or not as it is. One caller at a time.
    pub(crate) fn write_ahead(&self, files: &QueueFiles, scratch: &mut Vec<u8>) -> io::Result<u64> {
        let (from, time) = {
            let tail = self.lock();
            scratch.clear();
            let skipped = narrow((tail.written - tail.base) * entry::LEN);
            scratch.extend_from_slice(&tail.bytes[skipped..]);
            (tail.written, tail.last_time)
        };
        let count = wide(scratch.len()) / entry::LEN;
        if count == 0 || self.is_deleted() {
            return Ok(0);
        }
        files.write(self, from, scratch, time)?;
        self.lock().forget_written(from + count);
        Ok(count)
    }

    /// Entries that are only in memory.
    pub(crate) fn unwritten(&self) -> u64 {
        let tail = self.lock();
        tail.end() - tail.written
    }

    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn end(&self) -> u64 {
        self.base + wide(self.bytes.len()) / entry::LEN
    }

    /// Notes that everything below `written` is in files and keeps only the last few of it.
    fn forget_written(&mut self, written: u64) {
        assert!(
            self.written <= written && written <= self.end(),
            "{written} entries written of {}",
            self.end()
        );
        self.written = written;
        let base = written.saturating_sub(KEPT).max(self.base);
        self.bytes.drain(..narrow((base - self.base) * entry::LEN));
        self.base = base;
        // A burst should not hold its memory for ever: there may be many thousand queues.
        let enough = self.bytes.len() + narrow(KEPT * entry::LEN);
        if self.bytes.capacity() > enough {
            self.bytes.shrink_to(enough);
        }
    }
}

/// `count` filler entries.
pub(crate) fn fillers(count: u64) -> Vec<u8> {
    FILLER.encode().repeat(narrow(count))
}
