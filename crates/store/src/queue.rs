//! One consume queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_message::{JavaHash, QueueId, QueueOffset};

use crate::format::index;
use crate::watermark::Watermark;

/// One queue of a topic.
#[derive(Debug)]
pub struct Queue {
    topic: Arc<str>,
    id: QueueId,
    slot: usize,
    key_prefix: JavaHash,
    min: AtomicU64,
    dispatched: Watermark,
}

impl Queue {
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

    /// Grows with the queue: its value is [`Queue::max`].
    #[must_use]
    pub fn dispatched(&self) -> &Watermark {
        &self.dispatched
    }

    /// This queue's number in the store, never used again.
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// The index hash of a key of this queue's topic.
    pub(crate) fn key_hash(&self, key: &[u8]) -> u32 {
        index::stored_hash(self.key_prefix.then(key).0)
    }
}
