//! The thread that watches disk space and deletes what retention allows: segments, then queue files, then index files.
//!
//! Files go one at a time with a pause between, on this thread only, so that no send waits for a deletion. Readers that
//! still hold slices of a deleted segment keep its pages.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gantry_disk::Disk;
use gantry_message::Millis;

use crate::config::StoreConfig;
use crate::format::entry;
use crate::health::Health;
use crate::index::Index;
use crate::log::Log;
use crate::queue::Queue;
use crate::queue_files::QueueFiles;
use crate::queues::Queues;
use crate::recovery::first_time;
use crate::retention::{Facts, Retention, Verdict};

/// So many segments go in one round at most.
const SEGMENTS_A_ROUND: usize = 10;
/// The first deletion comes so long after the start.
const FIRST_AFTER: Duration = Duration::from_mins(1);

/// What cleaning works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cleaner<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) config: &'a StoreConfig,
    pub(crate) log: &'a Log,
    pub(crate) queues: &'a Queues,
    pub(crate) files: &'a QueueFiles,
    pub(crate) index: Option<&'a Index>,
    pub(crate) health: &'a Health,
    pub(crate) stop: &'a AtomicBool,
    pub(crate) retention: &'a Mutex<Retention>,
}

impl Cleaner<'_> {
    /// The thread, until it is stopped.
    pub(crate) fn run(&self) {
        let began = Instant::now();
        let interval = Duration::from_millis(self.config.clean_interval_ms.max(100));
        while self.pause(interval) {
            let facts = self.facts(self.config.clock.now(), began.elapsed());
            self.watch_space(&facts);
            if began.elapsed() >= FIRST_AFTER {
                self.step(&facts);
            }
        }
    }

    /// Waits; returns false when it is time to stop.
    fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while !self.stop.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::park_timeout(left);
        }
        false
    }

    pub(crate) fn facts(&self, now: Millis, uptime: Duration) -> Facts {
        let percent = |dir: &PathBuf| self.disk.usage(dir).ok().map(|usage| usage.used_percent());
        let time = jiff::Timestamp::from_millisecond(now.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let hour = time.to_zoned(jiff::tz::TimeZone::system()).hour();
        Facts {
            now,
            uptime_ms: i64::try_from(uptime.as_millis()).unwrap_or(i64::MAX),
            hour: u8::try_from(hour).unwrap_or(0),
            newest_record: self.log.position().last_time,
            log_percent: self
                .config
                .commit_log_paths
                .iter()
                .filter_map(percent)
                .min(),
            queue_percent: percent(self.files.root()),
        }
    }

    /// Refuses messages while the disk is too full and takes them again when it is not.
    pub(crate) fn watch_space(&self, facts: &Facts) {
        let limit = self.config.disk_full_ratio;
        let percent = |dir: &PathBuf| self.disk.usage(dir).map_or(0, |usage| usage.used_percent());
        let paths = &self.config.commit_log_paths;
        let crowded = paths
            .iter()
            .filter(|dir| percent(dir) > self.config.disk_clean_forcibly_ratio);
        self.log.preallocation.set_full(crowded.cloned().collect());
        match (facts.log_percent, facts.queue_percent) {
            (Some(used), _) if used > limit => {
                let dir = paths
                    .iter()
                    .min_by_key(|dir| percent(dir))
                    .unwrap_or(self.files.root());
                self.health.disk_full(dir, used, limit);
            }
            (_, Some(used)) if used > limit => {
                self.health.disk_full(self.files.root(), used, limit)
            }
            _ => self.health.disk_has_space(),
        }
    }

    /// One round of deletion.
    pub(crate) fn step(&self, facts: &Facts) {
        let verdict = self
            .retention
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .decide(self.config, facts);
        let before = self.log.chain.min();
        for _ in 0..SEGMENTS_A_ROUND {
            if !self.delete_segment(verdict)
                || !self.pause(Duration::from_millis(self.config.delete_log_interval_ms))
            {
                break;
            }
        }
        let min = self.log.chain.min();
        if min != before {
            self.clean_queues(min);
            if let Some(index) = self.index {
                index.clean(min);
            }
        }
    }

    fn delete_segment(&self, verdict: Verdict) -> bool {
        let all = self.log.chain.all();
        let Some((oldest, behind @ [_, ..])) = all.split_first() else {
            return false;
        };
        let due = match verdict {
            Verdict::Keep => false,
            Verdict::Oldest => true,
            // The next record behind it is not older than its last one. A segment that was lost has none.
            Verdict::Before(limit) => {
                let next = behind.iter().find_map(|segment| first_time(segment));
                next.unwrap_or_else(|| self.log.position().last_time) <= limit
            }
        };
        // The segment that is written to, and what is not yet durable, stays.
        if !due || oldest.end() > self.log.flushed.value() {
            return false;
        }
        let path = oldest.path();
        if let Err(error) = self.disk.remove(path) {
            tracing::error!(path = %path.display(), %error, "cannot delete a log segment");
            return false;
        }
        self.log.chain.remove_first();
        tracing::info!(path = %path.display(), ?verdict, "deleted a log segment");
        true
    }

    /// Deletes queue files that point to nothing any more and moves every queue's first offset.
    fn clean_queues(&self, log_min: u64) {
        for queue in self.queues.all() {
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            self.files.correct_min(&queue, log_min);
            match self.clean_queue(&queue) {
                Ok(0) => {}
                Ok(_) => {
                    self.pause(Duration::from_millis(self.config.delete_queue_interval_ms));
                }
                Err(error) => {
                    let (topic, id) = (queue.topic(), queue.id().0);
                    tracing::warn!(topic, id, %error, "cannot delete a queue file");
                }
            }
        }
    }

    fn clean_queue(&self, queue: &Queue) -> std::io::Result<usize> {
        let min = queue.min().0 * entry::LEN;
        // A queue whose messages are all gone keeps the file that says where it ends.
        let gone = |base: u64| {
            base + queue.file_size() <= min && base + queue.file_size() < queue.max().0 * entry::LEN
        };
        let bases = self.files.bases(queue)?;
        let expired: Vec<u64> = bases.into_iter().take_while(|&base| gone(base)).collect();
        expired
            .iter()
            .try_for_each(|&base| self.files.remove_file(queue, base))?;
        Ok(expired.len())
    }
}
