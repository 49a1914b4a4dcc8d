//! What the store is told: where its files are, how large they are, how often it works, how full the disk may be.
//!
//! The defaults are Apache's. The fields carry the names of the daemon's keys in their descriptions.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use gantry_message::Millis;

use crate::error::StoreError;
use crate::format::{entry, index};
use crate::recovery::RecoveryWatch;
use crate::width::wide;

/// Settings of a store. The default is Apache's for everything but [`StoreConfig::root`].
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// `storePathRootDir`.
    pub root: PathBuf,
    /// `storePathCommitLog`, split; empty: `commitlog` below the root.
    pub commit_log_paths: Vec<PathBuf>,
    /// `readOnlyCommitLogStorePaths`: read and cleaned, but no segment is made there. May name folders that are in
    /// `commit_log_paths` too.
    pub read_only_commit_log_paths: Vec<PathBuf>,
    /// `mappedFileSizeCommitLog`.
    pub segment_size: u64,
    /// `mappedFileSizeConsumeQueue`, rounded up to whole entries.
    pub queue_file_size: u64,
    /// `maxHashSlotNum`.
    pub index_slots: u32,
    /// `maxIndexNum`.
    pub index_entries: u32,
    /// `messageIndexEnable`.
    pub index_enabled: bool,
    /// `maxMsgsNumBatch`: the most messages a query by key returns.
    pub query_max: usize,
    /// `maxMessageSize`.
    pub max_message_size: u32,
    /// `flushDiskType=SYNC_FLUSH`.
    pub flush_sync: bool,
    /// `flushIntervalCommitLog`, milliseconds.
    pub flush_interval_ms: u64,
    /// `flushCommitLogTimed`: asynchronous flush at the interval only, not as soon as enough is waiting.
    pub flush_timed: bool,
    /// `flushCommitLogLeastPages`.
    pub flush_least_pages: u32,
    /// `flushCommitLogThoroughInterval`, milliseconds.
    pub flush_thorough_interval_ms: u64,
    /// `flushIntervalConsumeQueue`, milliseconds.
    pub queue_flush_interval_ms: u64,
    /// `flushConsumeQueueLeastPages`.
    pub queue_flush_least_pages: u32,
    /// `flushConsumeQueueThoroughInterval`, milliseconds.
    pub queue_flush_thorough_interval_ms: u64,
    /// `checkCRCOnRecover`.
    pub check_crc_on_recover: bool,
    /// `maxTransferBytesOnMessageInMemory`.
    pub max_transfer_bytes_in_memory: u64,
    /// `maxTransferCountOnMessageInMemory`.
    pub max_transfer_count_in_memory: u32,
    /// `maxTransferBytesOnMessageInDisk`.
    pub max_transfer_bytes_on_disk: u64,
    /// `maxTransferCountOnMessageInDisk`.
    pub max_transfer_count_on_disk: u32,
    /// `accessMessageInMemoryMaxRatio`, percent of the machine's memory.
    pub memory_ratio: u32,
    /// The machine's memory in bytes; 0: ask.
    pub physical_memory: u64,
    /// `fileReservedTime`, hours.
    pub reserved_hours: u64,
    /// `deleteWhen`: local hours of the day.
    pub delete_when: Vec<u8>,
    /// `cleanResourceInterval`, milliseconds.
    pub clean_interval_ms: u64,
    /// `deleteCommitLogFilesInterval`, milliseconds between two files.
    pub delete_log_interval_ms: u64,
    /// `deleteConsumeQueueFilesInterval`, milliseconds between two files.
    pub delete_queue_interval_ms: u64,
    /// `cleanFileForciblyEnable`.
    pub clean_forcibly: bool,
    /// `diskMaxUsedSpaceRatio`, percent: above it, expired files are deleted at any hour.
    pub disk_max_used_ratio: u64,
    /// Percent; above it, files are deleted whatever their age.
    pub disk_clean_forcibly_ratio: u64,
    /// Percent; above it, messages are refused.
    pub disk_full_ratio: u64,
    /// Percent; from it on, the log warns that it will come to that.
    pub disk_notice_ratio: u64,
    /// `destroyMapedFileIntervalForcibly`, milliseconds: while readers hold a deleted segment, deletion for want of space
    /// waits so long for what it gives back before it takes the next one.
    pub release_wait_ms: u64,
    /// `messageDelayLevel`: the delays of level 1, 2, ...; recovery needs them to rebuild the entries of delayed messages.
    pub delay_levels: Vec<Millis>,
    /// Where the time comes from.
    pub clock: Clock,
    /// Who is told how far recovery is.
    pub recovery_watch: RecoveryWatch,
}

/// 1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h
const DELAY_LEVELS_S: [i64; 18] = [
    1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200,
];

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            root: PathBuf::new(),
            commit_log_paths: Vec::new(),
            read_only_commit_log_paths: Vec::new(),
            segment_size: 1 << 30,
            queue_file_size: 300_000 * entry::LEN,
            index_slots: 5_000_000,
            index_entries: 20_000_000,
            index_enabled: true,
            query_max: 64,
            max_message_size: 4 << 20,
            flush_sync: false,
            flush_interval_ms: 500,
            flush_timed: true,
            flush_least_pages: 4,
            flush_thorough_interval_ms: 10_000,
            queue_flush_interval_ms: 1000,
            queue_flush_least_pages: 2,
            queue_flush_thorough_interval_ms: 60_000,
            check_crc_on_recover: true,
            max_transfer_bytes_in_memory: 256 << 10,
            max_transfer_count_in_memory: 32,
            max_transfer_bytes_on_disk: 64 << 10,
            max_transfer_count_on_disk: 8,
            memory_ratio: 40,
            physical_memory: 0,
            reserved_hours: 72,
            delete_when: vec![4],
            clean_interval_ms: 10_000,
            delete_log_interval_ms: 100,
            delete_queue_interval_ms: 100,
            clean_forcibly: true,
            disk_max_used_ratio: 75,
            disk_clean_forcibly_ratio: 85,
            disk_full_ratio: 90,
            disk_notice_ratio: 80,
            release_wait_ms: 120_000,
            delay_levels: DELAY_LEVELS_S
                .iter()
                .map(|seconds| Millis(seconds * 1000))
                .collect(),
            clock: Clock::default(),
            recovery_watch: RecoveryWatch::default(),
        }
    }
}

impl StoreConfig {
    /// The smallest segment: one record of the smallest kind and the blank record behind it.
    pub const SEGMENT_SIZE_MIN: u64 = 256;
    /// The largest segment: record sizes and blank records are 31-bit numbers.
    pub const SEGMENT_SIZE_MAX: u64 = i32::MAX as u64;

    /// A store below `root`, everything else by default.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            ..Self::default()
        }
    }

    /// These settings with what may change while the store runs taken from others. The rest is part of files and
    /// threads, and stays.
    pub(crate) fn taking_up(&self, wanted: &Self) -> Self {
        Self {
            query_max: wanted.query_max,
            max_message_size: wanted.max_message_size,
            flush_interval_ms: wanted.flush_interval_ms,
            flush_timed: wanted.flush_timed,
            flush_least_pages: wanted.flush_least_pages,
            flush_thorough_interval_ms: wanted.flush_thorough_interval_ms,
            queue_flush_thorough_interval_ms: wanted.queue_flush_thorough_interval_ms,
            max_transfer_bytes_in_memory: wanted.max_transfer_bytes_in_memory,
            max_transfer_count_in_memory: wanted.max_transfer_count_in_memory,
            max_transfer_bytes_on_disk: wanted.max_transfer_bytes_on_disk,
            max_transfer_count_on_disk: wanted.max_transfer_count_on_disk,
            memory_ratio: wanted.memory_ratio,
            reserved_hours: wanted.reserved_hours,
            delete_when: wanted.delete_when.clone(),
            clean_interval_ms: wanted.clean_interval_ms,
            delete_log_interval_ms: wanted.delete_log_interval_ms,
            delete_queue_interval_ms: wanted.delete_queue_interval_ms,
            clean_forcibly: wanted.clean_forcibly,
            disk_max_used_ratio: wanted.disk_max_used_ratio,
            disk_clean_forcibly_ratio: wanted.disk_clean_forcibly_ratio,
            disk_full_ratio: wanted.disk_full_ratio,
            disk_notice_ratio: wanted.disk_notice_ratio,
            release_wait_ms: wanted.release_wait_ms,
            ..self.clone()
        }
    }

    /// Refuses what no store can work with and completes the rest.
    pub(crate) fn checked(mut self) -> Result<Self, StoreError> {
        if !(Self::SEGMENT_SIZE_MIN <= self.segment_size
            && self.segment_size <= Self::SEGMENT_SIZE_MAX)
        {
            let reason = "256 to 2147483647 bytes";
            return Err(StoreError::Config {
                key: "mappedFileSizeCommitLog",
                value: self.segment_size,
                reason,
            });
        }
        if !(entry::LEN <= self.queue_file_size && self.queue_file_size <= Self::SEGMENT_SIZE_MAX) {
            let reason = "20 to 2147483647 bytes";
            return Err(StoreError::Config {
                key: "mappedFileSizeConsumeQueue",
                value: self.queue_file_size,
                reason,
            });
        }
        if !(1 <= self.index_slots && self.index_slots <= index::SLOTS_MAX) {
            let reason = "1 to 500000000 slots";
            return Err(StoreError::Config {
                key: "maxHashSlotNum",
                value: u64::from(self.index_slots),
                reason,
            });
        }
        if !(2 <= self.index_entries && self.index_entries <= index::ENTRIES_MAX) {
            let reason = "2 to 2000000000 entries";
            return Err(StoreError::Config {
                key: "maxIndexNum",
                value: u64::from(self.index_entries),
                reason,
            });
        }
        self.queue_file_size = self.queue_file_size.div_ceil(entry::LEN) * entry::LEN;
        if self.commit_log_paths.is_empty() {
            self.commit_log_paths = vec![self.root.join("commitlog")];
        }
        if self.writable_log_dirs().is_empty() {
            let reason = "leaves no folder of storePathCommitLog to write to";
            return Err(StoreError::Config {
                key: "readOnlyCommitLogStorePaths",
                value: wide(self.read_only_commit_log_paths.len()),
                reason,
            });
        }
        if self.physical_memory == 0 {
            self.physical_memory = gantry_disk::physical_memory().unwrap_or(24 << 30);
        }
        Ok(self)
    }

    /// Every folder of the log, each once, however often it is named.
    pub(crate) fn log_dirs(&self) -> Vec<LogDir<'_>> {
        let mut all: Vec<LogDir<'_>> = Vec::new();
        let named = self
            .read_only_commit_log_paths
            .iter()
            .map(|dir| (dir, true));
        for (dir, is_read_only) in named.chain(self.commit_log_paths.iter().map(|dir| (dir, false)))
        {
            // Compared part by part: a slash more or less does not make another folder.
            if !all.iter().any(|present| present.dir == dir.as_path()) {
                all.push(LogDir { dir, is_read_only });
            }
        }
        all
    }

    /// The folders of the log in which segments are made, sorted as Java sorts them.
    pub(crate) fn writable_log_dirs(&self) -> Vec<PathBuf> {
        let all = self.log_dirs().into_iter();
        let mut dirs: Vec<PathBuf> = all
            .filter(|place| !place.is_read_only)
            .map(|place| place.dir.to_owned())
            .collect();
        dirs.sort_by(|one, other| one.as_os_str().cmp(other.as_os_str()));
        dirs
    }
}

/// A folder of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogDir<'a> {
    pub(crate) dir: &'a Path,
    /// No segment is made there.
    pub(crate) is_read_only: bool,
}

/// The settings in force. A round of work or a read takes them once and ends with what it began with.
#[derive(Debug)]
pub(crate) struct Settings(RwLock<Arc<StoreConfig>>);

impl Settings {
    pub(crate) fn new(config: StoreConfig) -> Self {
        Self(RwLock::new(Arc::new(config)))
    }

    pub(crate) fn now(&self) -> Arc<StoreConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes up what may change while the store runs.
    pub(crate) fn change(&self, wanted: &StoreConfig) {
        let mut config = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *config = Arc::new(config.taking_up(wanted));
    }
}

/// Where the store's time comes from: the wall clock, or what a test says.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Millis + Send + Sync>);

impl Clock {
    /// A clock of one's own.
    #[must_use]
    pub fn new(now: impl Fn() -> Millis + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// What it says.
    #[must_use]
    pub fn now(&self) -> Millis {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(Millis::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_named_twice_counts_once_and_read_only_ones_get_no_segments() {
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        let config = StoreConfig {
            commit_log_paths: paths(&["/d/b", "/d/a/", "/d/a", "/d/old"]),
            read_only_commit_log_paths: paths(&["/d/old/", "/d/older"]),
            ..StoreConfig::at("/d")
        };
        let dirs: Vec<_> = config.log_dirs().iter().map(|one| one.dir).collect();
        assert_eq!(dirs, ["/d/old", "/d/older", "/d/b", "/d/a"].map(Path::new));
        assert_eq!(config.writable_log_dirs(), paths(&["/d/a", "/d/b"]));
        let none_left = StoreConfig {
            commit_log_paths: paths(&["/d/old"]),
            ..config
        };
        assert!(none_left.checked().is_err());
    }
}
