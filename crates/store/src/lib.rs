//! The log-structured store in Apache RocketMQ's format: one log, queues of entries that point into it, a key index.
//!
//! [`Store`] is the only public face: open (lock, load, recover), start (background threads), commit, read, shut down.
//! A message is visible to readers once its commit returned, durable once [`Store::flushed`] is past its end.
//! No sockets, no runtime; all files through [`gantry_disk::Disk`]. Layouts are in `format/` and drawn in
//! `docs/store-format.md`; what an acknowledgement promises is in `docs/durability.md`.

mod batch;
mod config;
mod error;
mod figures;
mod format;
mod queue;
mod reader;
mod watermark;

use std::sync::Arc;

use bytes::Bytes;
use gantry_disk::Disk;
use gantry_message::{LogOffset, Millis, QueueId, QueueOffset, Record};

pub use batch::{Batch, Outcome, Tags};
pub use config::{Clock, StoreConfig};
pub use error::{AppendError, StoreError};
pub use figures::{COMMIT_TIME_ENDS_MS, StoreFigures};
pub use format::entry::Entry;
pub use queue::Queue;
pub use reader::{Found, QueryFound, ReadStatus};
pub use watermark::{Beyond, Watermark};

/// The store. Used as `Arc<Store>`; every method may be called from any thread.
#[derive(Debug)]
pub struct Store {
    limits: Arc<batch::Limits>,
}

#[expect(unused_variables, clippy::unimplemented, reason = "signatures first")]
#[allow(missing_docs)]
impl Store {
    /// Locks, loads and recovers the store below `config.root`. What is damaged is set aside and named in the log; only
    /// the environment (no permission, no space for the first files, another process) makes it fail, and then nothing
    /// was changed.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: StoreConfig,
        now: Millis,
    ) -> Result<Arc<Self>, StoreError> {
        unimplemented!()
    }

    /// Starts the background threads and marks the store as running (`abort`).
    pub fn start(self: &Arc<Self>) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Stops the threads, writes and syncs everything, marks the store as cleanly stopped, releases the lock.
    pub fn shutdown(&self) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Runs one round of every background job on this thread: for tests and for hosts that call no [`Store::start`].
    pub fn turn(&self) {
        unimplemented!()
    }

    /// A queue, made in memory when there is none.
    pub fn queue(&self, topic: &str, id: QueueId) -> Arc<Queue> {
        unimplemented!()
    }

    /// A queue, if there is one.
    #[must_use]
    pub fn find_queue(&self, topic: &str, id: QueueId) -> Option<Arc<Queue>> {
        unimplemented!()
    }

    /// Every topic that has a queue.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        unimplemented!()
    }

    /// The queues of a topic, by number.
    #[must_use]
    pub fn queues_of(&self, topic: &str) -> Vec<Arc<Queue>> {
        unimplemented!()
    }

    /// Removes the queues of a topic, in memory and on disk; its messages stay in the log until that is cleaned.
    pub fn delete_topic(&self, topic: &str) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// An empty batch for this store.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(&self.limits))
    }

    /// Stores everything that is staged: one positional write per segment, under one short lock. Every staged entry
    /// gets an [`Outcome`]. Clear the batch before staging again.
    pub fn commit(&self, batch: &mut Batch) {
        unimplemented!()
    }

    /// Stores one message.
    pub fn append(&self, queue: &Arc<Queue>, record: &Record<'_>, tags: Tags) -> Outcome {
        unimplemented!()
    }

    /// Whether messages are taken, and if not, why. Cheap.
    pub fn check_writable(&self) -> Result<(), AppendError> {
        unimplemented!()
    }

    /// Changes `maxMessageSize` for what is staged from now on.
    pub fn set_max_message_size(&self, bytes: u32) {
        unimplemented!()
    }

    /// How far the log is written and visible.
    #[must_use]
    pub fn appended(&self) -> &Watermark {
        unimplemented!()
    }

    /// How far the log is durable.
    #[must_use]
    pub fn flushed(&self) -> &Watermark {
        unimplemented!()
    }

    /// Where the oldest segment starts.
    #[must_use]
    pub fn min_offset(&self) -> LogOffset {
        unimplemented!()
    }

    /// Where the next record goes.
    #[must_use]
    pub fn max_offset(&self) -> LogOffset {
        unimplemented!()
    }

    /// Reads messages of a queue from an offset on. `wanted` gets each entry's tags code. May wait for the disk unless
    /// [`Store::is_hot`] says otherwise.
    pub fn read(
        &self,
        queue: &Queue,
        from: QueueOffset,
        max_messages: u32,
        wanted: &dyn Fn(i64) -> bool,
    ) -> Found {
        unimplemented!()
    }

    /// Whether a read from there finds everything in memory; if not, read on a thread that may wait.
    #[must_use]
    pub fn is_hot(&self, queue: &Queue, from: QueueOffset) -> bool {
        unimplemented!()
    }

    /// The whole record that starts at a log offset; `None` when none does. Waits for the disk.
    pub fn record_at(&self, offset: LogOffset) -> Result<Option<Bytes>, StoreError> {
        unimplemented!()
    }

    /// Messages by key, newest first. Waits for the disk.
    pub fn query(
        &self,
        topic: &str,
        key: &str,
        max: usize,
        begin: Millis,
        end: Millis,
    ) -> Result<QueryFound, StoreError> {
        unimplemented!()
    }

    /// The offset of the message stored nearest to a time, as Java finds it. Waits for the disk.
    #[must_use]
    pub fn offset_at_time(&self, queue: &Queue, time: Millis) -> QueueOffset {
        unimplemented!()
    }

    /// When the message at an offset was stored. Waits for the disk.
    #[must_use]
    pub fn store_time_at(&self, queue: &Queue, at: QueueOffset) -> Option<Millis> {
        unimplemented!()
    }

    /// One entry of a queue.
    #[must_use]
    pub fn queue_entry(&self, queue: &Queue, at: QueueOffset) -> Option<Entry> {
        unimplemented!()
    }

    /// Up to `max` entries of a queue from an offset on.
    #[must_use]
    pub fn queue_entries(&self, queue: &Queue, from: QueueOffset, max: usize) -> Vec<Entry> {
        unimplemented!()
    }

    /// When the oldest message in the log was stored. Waits for the disk.
    #[must_use]
    pub fn earliest_time(&self) -> Option<Millis> {
        unimplemented!()
    }

    /// A snapshot of the store's figures.
    #[must_use]
    pub fn figures(&self) -> StoreFigures {
        unimplemented!()
    }

    /// Deletes expired log segments at the next round, whatever the hour (admin request 329).
    pub fn delete_expired_now(&self) {
        unimplemented!()
    }

    /// Removes queues all of whose messages are gone from the log (admin request 306). Waits for the disk.
    pub fn clean_expired_queues(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
}
