//! The segments of the log as one range of bytes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::segment::Segment;

/// The segments, by where they start.
#[derive(Debug, Default)]
pub struct Chain {
    /// Invariant: sorted by start; no two overlap.
    segments: RwLock<Vec<Arc<Segment>>>,
    /// Where the first segment starts.
    min: AtomicU64,
}

impl Chain {
    /// Of segments that are sorted and do not overlap.
    #[must_use]
    pub fn new(segments: Vec<Arc<Segment>>) -> Self {
        assert!(
            segments
                .windows(2)
                .all(|two| two[0].end() <= two[1].start()),
            "segments overlap"
        );
        let min = segments.first().map_or(0, |first| first.start());
        Self {
            segments: RwLock::new(segments),
            min: AtomicU64::new(min),
        }
    }

    /// Where the first segment starts.
    #[must_use]
    pub fn min(&self) -> u64 {
        self.min.load(Ordering::Acquire)
    }

    /// The segment that holds the byte at `offset`.
    #[must_use]
    pub fn find(&self, offset: u64) -> Option<Arc<Segment>> {
        let segments = self.read();
        let after = segments.partition_point(|segment| segment.start() <= offset);
        segments[..after]
            .last()
            .filter(|segment| offset < segment.end())
            .cloned()
    }

    /// The first segment that ends behind `offset`.
    #[must_use]
    pub fn at_or_after(&self, offset: u64) -> Option<Arc<Segment>> {
        let segments = self.read();
        let at = segments.partition_point(|segment| segment.end() <= offset);
        segments.get(at).cloned()
    }

    /// The segments with bytes in `from..to`.
    #[must_use]
    pub fn between(&self, from: u64, to: u64) -> Vec<Arc<Segment>> {
        self.read()
            .iter()
            .filter(|segment| segment.start() < to && from < segment.end())
            .cloned()
            .collect()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Segment>> {
        self.read().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }

    pub(crate) fn last(&self) -> Option<Arc<Segment>> {
        self.read().last().cloned()
    }

    pub(crate) fn push(&self, segment: Arc<Segment>) {
        let mut segments = self.write();
        let end = segments.last().map_or(0, |last| last.end());
        assert!(
            end <= segment.start(),
            "the segment at {} overlaps one that ends at {end}",
            segment.start()
        );
        if segments.is_empty() {
            self.min.store(segment.start(), Ordering::Release);
        }
        segments.push(segment);
    }

    /// Puts a segment into a gap.
    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        let mut segments = self.write();
        let at = segments.partition_point(|present| present.start() < segment.start());
        segments.insert(at, segment);
        assert!(
            segments
                .windows(2)
                .all(|two| two[0].end() <= two[1].start()),
            "segments overlap"
        );
    }

    /// Takes out the first segment; the last one always stays.
    pub(crate) fn remove_first(&self) -> Option<Arc<Segment>> {
        let mut segments = self.write();
        if segments.len() < 2 {
            return None;
        }
        let removed = segments.remove(0);
        self.min.store(segments[0].start(), Ordering::Release);
        Some(removed)
    }

    /// Takes out every segment that starts at or behind `offset`.
    pub(crate) fn remove_from(&self, offset: u64) -> Vec<Arc<Segment>> {
        let mut segments = self.write();
        let at = segments.partition_point(|segment| segment.start() < offset);
        segments.split_off(at)
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Arc<Segment>>> {
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
