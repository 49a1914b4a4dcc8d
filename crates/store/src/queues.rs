//! Every queue of the store, by topic and number.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use gantry_message::QueueId;
use rustc_hash::FxHashMap;

use crate::queue::{Extent, Queue};
use crate::watermark::Watermark;
use crate::width::wide;

type Topics = FxHashMap<Arc<str>, BTreeMap<QueueId, Arc<Queue>>>;

/// Every queue of the store.
#[derive(Debug)]
pub(crate) struct Queues {
    topics: RwLock<Topics>,
    next_slot: AtomicUsize,
    /// How many queues there have been; advanced while `topics` is held for writing.
    made: Watermark,
    /// Length of the files of new queues.
    file_size: u64,
}

impl Queues {
    pub(crate) fn new(file_size: u64) -> Self {
        Self {
            topics: RwLock::default(),
            next_slot: AtomicUsize::new(0),
            made: Watermark::new(0),
            file_size,
        }
    }

    /// How many queues there have been.
    pub(crate) fn made(&self) -> &Watermark {
        &self.made
    }

    pub(crate) fn file_size(&self) -> u64 {
        self.file_size
    }

    pub(crate) fn find(&self, topic: &str, id: QueueId) -> Option<Arc<Queue>> {
        self.read().get(topic)?.get(&id).cloned()
    }

    /// The queue; an empty one is made when there is none.
    pub(crate) fn get(&self, topic: &str, id: QueueId) -> Arc<Queue> {
        if let Some(queue) = self.find(topic, id) {
            return queue;
        }
        self.insert(
            topic,
            id,
            self.file_size,
            Extent {
                min: 0,
                max: 0,
                log_end: 0,
            },
        )
    }

    /// Adds a queue, unless there is one already: then that.
    pub(crate) fn insert(
        &self,
        topic: &str,
        id: QueueId,
        file_size: u64,
        extent: Extent,
    ) -> Arc<Queue> {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let name = topics
            .get_key_value(topic)
            .map_or_else(|| Arc::from(topic), |(name, _)| Arc::clone(name));
        let queues = topics.entry(Arc::clone(&name)).or_default();
        let queue = queues.entry(id).or_insert_with(|| {
            let slot = self.next_slot.fetch_add(1, Ordering::Relaxed);
            self.made.advance(wide(slot) + 1);
            Arc::new(Queue::new(name, id, slot, file_size, extent))
        });
        Arc::clone(queue)
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        let mut names: Vec<String> = self.read().keys().map(|name| name.to_string()).collect();
        names.sort();
        names
    }

    pub(crate) fn of(&self, topic: &str) -> Vec<Arc<Queue>> {
        self.read()
            .get(topic)
            .map_or_else(Vec::new, |queues| queues.values().cloned().collect())
    }

    pub(crate) fn all(&self) -> Vec<Arc<Queue>> {
        self.read()
            .values()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect()
    }

    pub(crate) fn remove(&self, queue: &Queue) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(queues) = topics.get_mut(queue.topic()) {
            if queues
                .get(&queue.id())
                .is_some_and(|present| present.slot() == queue.slot())
            {
                queues.remove(&queue.id());
            }
            if queues.is_empty() {
                topics.remove(queue.topic());
            }
        }
    }

    /// Forgets all queues: they are loaded again.
    pub(crate) fn clear(&self) {
        self.topics
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Topics> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }
}
