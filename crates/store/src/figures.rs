//! What the store can say about itself, for runtime information and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::AppendError;
use crate::health::Fault;

/// Upper ends of the ranges of [`StoreFigures::commit_times`], in milliseconds; the last range has none.
pub const COMMIT_TIME_ENDS_MS: [u64; 12] = [
    0, 10, 50, 100, 200, 500, 1000, 2000, 3000, 4000, 5000, 10_000,
];

/// Upper ends of the ranges of [`SyncFigures::ranges`], in microseconds; the last range has none.
pub const SYNC_TIME_ENDS_US: [u64; 15] = [
    50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000,
];

/// How long syncs of the log took since the start.
#[derive(Clone, Debug, Default)]
pub struct SyncFigures {
    /// Syncs by the time they took; the ranges end at [`SYNC_TIME_ENDS_US`].
    pub ranges: [u64; 16],
    /// All of them together.
    pub total: Duration,
    /// The last one.
    pub last: Duration,
}

/// Used shares of disks, percent. `None`: the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskPercents {
    /// The log's; the least used one of several.
    pub log: Option<u64>,
    /// The queues'.
    pub queues: Option<u64>,
    /// The index's.
    pub index: Option<u64>,
}

/// For how long the parts that every message passes have been at the same piece of work; zero: they have nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusyFigures {
    /// The commit that holds the log.
    pub commit: Duration,
    /// A sync of a file of the log.
    pub sync: Duration,
    /// Writing and syncing queue files.
    pub queues: Duration,
}

/// A snapshot of the store's figures.
#[derive(Clone, Debug, Default)]
pub struct StoreFigures {
    /// How full the disks are.
    pub disks: DiskPercents,
    /// How long the commit that runs right now has held the log, in milliseconds; 0: none runs.
    pub locked_ms: u64,
    /// Oldest byte of the log.
    pub min_offset: u64,
    /// End of the log.
    pub max_offset: u64,
    /// End of what is durable.
    pub flushed_offset: u64,
    /// Bytes of the log whose queue entries are not yet in files.
    pub queue_behind_bytes: u64,
    /// Bytes of the log that are not yet indexed.
    pub index_behind_bytes: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Records stored since the start.
    pub put_records: u64,
    /// Bytes stored since the start.
    pub put_bytes: u64,
    /// Records refused by the log since the start.
    pub put_failed: u64,
    /// Records refused since the start, by [`AppendError::reason`] in the order of [`AppendError::REASONS`].
    pub refused: [u64; AppendError::REASONS.len()],
    /// How long syncs of the log took.
    pub syncs: SyncFigures,
    /// The longest commit since the start, in milliseconds.
    pub put_slowest_ms: u64,
    /// Records by the time their commit took; the ranges end at [`COMMIT_TIME_ENDS_MS`].
    pub commit_times: [u64; 13],
    /// Why the store takes no messages any more.
    pub latched: Option<Arc<str>>,
    /// What failed when it latched.
    pub fault: Option<Fault>,
    /// Files moved to `quarantine/` since the start.
    pub quarantined: u64,
    /// Damaged queue entries that were made again from the log since the start.
    pub mended_entries: u64,
    /// Queries by key since the start that met damage in an index file.
    pub damaged_chains: u64,
}

/// Counters that the log keeps; relaxed, because nobody decides anything by them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
    refused: [AtomicU64; AppendError::REASONS.len()],
    slowest_ms: AtomicU64,
    times: [AtomicU64; 13],
    pub(crate) quarantined: AtomicU64,
    pub(crate) mended: AtomicU64,
    pub(crate) damaged_chains: AtomicU64,
}

impl Counters {
    pub(crate) fn stored(&self, records: u64, bytes: u64, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let range = if took.is_zero() {
            0
        } else {
            COMMIT_TIME_ENDS_MS.partition_point(|&end| end < millis + 1)
        };
        // Below a millisecond counts as Java's clock would show it: 0.
        let range = if millis == 0 { 0 } else { range };
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.times[range.min(12)].fetch_add(records, Ordering::Relaxed);
        self.slowest_ms.fetch_max(millis, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, error: &AppendError, records: u64) {
        self.failed.fetch_add(records, Ordering::Relaxed);
        let reason = error.reason();
        let at = AppendError::REASONS
            .iter()
            .position(|known| *known == reason);
        if let Some(count) = at.and_then(|at| self.refused.get(at)) {
            count.fetch_add(records, Ordering::Relaxed);
        }
    }

    pub(crate) fn fill(&self, figures: &mut StoreFigures) {
        figures.put_records = self.records.load(Ordering::Relaxed);
        figures.put_bytes = self.bytes.load(Ordering::Relaxed);
        figures.put_failed = self.failed.load(Ordering::Relaxed);
        figures.put_slowest_ms = self.slowest_ms.load(Ordering::Relaxed);
        figures.quarantined = self.quarantined.load(Ordering::Relaxed);
        figures.damaged_chains = self.damaged_chains.load(Ordering::Relaxed);
        figures.mended_entries = self.mended.load(Ordering::Relaxed);
        for (to, from) in figures.commit_times.iter_mut().zip(&self.times) {
            *to = from.load(Ordering::Relaxed);
        }
        for (to, from) in figures.refused.iter_mut().zip(&self.refused) {
            *to = from.load(Ordering::Relaxed);
        }
    }
}

/// Since when one thread has been at the piece of work that it is at.
#[derive(Debug)]
pub(crate) struct Busy {
    born: Instant,
    /// Milliseconds from `born`, and one; 0: nothing to do.
    since: AtomicU64,
}

impl Default for Busy {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            since: AtomicU64::new(0),
        }
    }
}

impl Busy {
    /// A piece of work begins, the one before is done.
    pub(crate) fn begin(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.since.store(now + 1, Ordering::Relaxed);
    }

    /// There is nothing more to do.
    pub(crate) fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    pub(crate) fn for_how_long(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self
                .born
                .elapsed()
                .saturating_sub(Duration::from_millis(since - 1)),
        }
    }
}

/// What the log's flusher counts; only one thread at a time does.
#[derive(Debug, Default)]
pub(crate) struct SyncTimes {
    ranges: [AtomicU64; 16],
    total_ns: AtomicU64,
    last_ns: AtomicU64,
    /// The sync that runs now.
    pub(crate) busy: Busy,
}

impl SyncTimes {
    pub(crate) fn count(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let range = SYNC_TIME_ENDS_US.partition_point(|&end| end < micros);
        self.ranges[range.min(15)].fetch_add(1, Ordering::Relaxed);
        self.total_ns.fetch_add(nanos, Ordering::Relaxed);
        self.last_ns.store(nanos, Ordering::Relaxed);
    }

    pub(crate) fn figures(&self) -> SyncFigures {
        SyncFigures {
            ranges: std::array::from_fn(|at| self.ranges[at].load(Ordering::Relaxed)),
            total: Duration::from_nanos(self.total_ns.load(Ordering::Relaxed)),
            last: Duration::from_nanos(self.last_ns.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_and_refusals_are_counted_by_range_and_reason() {
        let syncs = SyncTimes::default();
        for micros in [50, 51, 2_000_000, 2_000_001] {
            syncs.count(Duration::from_micros(micros));
        }
        let figures = syncs.figures();
        assert_eq!(
            (
                figures.ranges[0],
                figures.ranges[1],
                figures.ranges[14],
                figures.ranges[15]
            ),
            (1, 1, 1, 1)
        );
        assert_eq!(figures.total, Duration::from_micros(4_000_102));
        assert_eq!(figures.last, Duration::from_micros(2_000_001));
        let counters = Counters::default();
        counters.refused(&AppendError::ShutDown, 2);
        counters.refused(&AppendError::EmptyGroup, 1);
        let mut figures = StoreFigures::default();
        counters.fill(&mut figures);
        for (reason, count) in AppendError::REASONS.iter().zip(figures.refused) {
            let expected = match *reason {
                "shut_down" => 2,
                "message" => 1,
                _ => 0,
            };
            assert_eq!(count, expected, "{reason}");
        }
    }

    #[test]
    fn commits_are_counted_by_the_time_they_took() {
        for (millis, range) in [
            (0, 0),
            (1, 1),
            (9, 1),
            (10, 2),
            (49, 2),
            (999, 6),
            (10_000, 12),
            (99_999, 12),
        ] {
            let counters = Counters::default();
            counters.stored(3, 100, Duration::from_millis(millis));
            let mut figures = StoreFigures::default();
            counters.fill(&mut figures);
            assert_eq!(figures.commit_times[range], 3, "{millis}");
            assert_eq!(
                (
                    figures.put_records,
                    figures.put_bytes,
                    figures.put_slowest_ms
                ),
                (3, 100, millis)
            );
        }
    }
}
