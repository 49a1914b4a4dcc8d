//! The thread that watches how full the disks are and deletes what retention allows: segments, then queue files, then
//! index files.
//!
//! Files go one at a time, oldest first, with a pause between, on this thread only, so that no send waits for a deletion.
//! A segment first loses its name and its place in the log. Its bytes go back to the disk in small steps once nobody
//! reads it any more: freeing a gigabyte at once would hold up the file system's journal, and with it the log.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use gantry_disk::{Disk, File, Open};
use gantry_message::Millis;

use crate::bell::Bell;
use crate::config::{Settings, StoreConfig};
use crate::ext::ExtFiles;
use crate::flusher::{Pace, QueueWriter, WriterView};
use crate::format::{entry, ext};
use crate::health::{Fault, Health};
use crate::index::Index;
use crate::log::{Log, may_pass};
use crate::queue::Queue;
use crate::queue_files::QueueFiles;
use crate::queues::Queues;
use crate::recovery::first_time;
use crate::retention::{Facts, Retention, Verdict, local_hour};
use crate::segment::Segment;
use crate::space::{Disks, Space};

/// So many segments go in one round at most.
const SEGMENTS_A_ROUND: usize = 10;
/// The first deletion that nobody asked for comes so long after the start.
const FIRST_AFTER: Duration = Duration::from_mins(1);
/// The disks are looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many bytes of a deleted segment go back to the disk at once,
const RELEASE_STEP: u64 = 8 << 20;
/// with so long a pause between.
const RELEASE_PAUSE: Duration = Duration::from_millis(5);
/// After so many queues the thread lets others run.
const QUEUES_AT_ONCE: usize = 64;

/// What cleaning remembers from round to round.
#[derive(Debug)]
pub(crate) struct Cleaning {
    /// Ends the wait for the next round.
    pub(crate) bell: Bell,
    asked: AtomicBool,
    retention: Mutex<Retention>,
    /// Queue and index files were cleaned for a log that begins here.
    cleaned_to: AtomicU64,
    /// Segments without a name that somebody may still read, oldest first.
    leaving: Mutex<Vec<Leaving>>,
    /// The segment that could not be deleted; said once.
    stuck: Mutex<Option<Arc<Path>>>,
}

/// A segment that was deleted and still takes up space.
#[derive(Debug)]
struct Leaving {
    path: Arc<Path>,
    len: u64,
    /// Dead when nobody reads it any more.
    holders: Weak<()>,
    /// To give its space back in steps; without it that happens at once when the last reader is done.
    file: Option<Arc<dyn File>>,
    since: Instant,
    is_told: bool,
}

impl Cleaning {
    /// `now` is what later looks at the clock are compared with.
    pub(crate) fn new(now: Millis) -> Self {
        Self {
            bell: Bell::default(),
            asked: AtomicBool::new(false),
            retention: Mutex::new(Retention::new(now)),
            cleaned_to: AtomicU64::new(0),
            leaving: Mutex::default(),
            stuck: Mutex::default(),
        }
    }

    /// An administrator asks for a round now.
    pub(crate) fn ask(&self) {
        lock(&self.retention).delete_now();
        self.asked.store(true, Ordering::Release);
        self.bell.ring();
    }
}

/// What cleaning works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cleaner<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) settings: &'a Settings,
    pub(crate) log: &'a Log,
    pub(crate) queues: &'a Queues,
    pub(crate) files: &'a QueueFiles,
    pub(crate) ext: &'a ExtFiles,
    pub(crate) index: Option<&'a Index>,
    pub(crate) health: &'a Health,
    pub(crate) stop: &'a AtomicBool,
    pub(crate) opened: Instant,
    pub(crate) cleaning: &'a Cleaning,
    pub(crate) space: &'a Space,
    pub(crate) writer: &'a QueueWriter,
    pub(crate) writer_view: WriterView<'a>,
}

impl Cleaner<'_> {
    /// The thread, until it is stopped.
    pub(crate) fn run(&self) {
        let mut due = Instant::now() + FIRST_AFTER;
        let mut is_first = true;
        loop {
            self.cleaning.bell.wait(Some(LOOK_EVERY));
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let config = self.settings.now();
            let is_crowded = self.look();
            let asked = self.cleaning.asked.swap(false, Ordering::AcqRel);
            let is_due = Instant::now() >= due;
            if asked || is_due || (is_crowded && !is_first) {
                self.step();
                // Who asks wants everything gone that may go, not what fits into one round.
                is_first &= !is_due && !asked;
                if !is_first {
                    due = Instant::now() + Duration::from_millis(config.clean_interval_ms.max(100));
                }
            } else {
                self.release(&config);
            }
        }
    }

    /// Looks how full the disks are: warns, refuses messages while they are too full and takes them again when they are
    /// not. Returns whether files should be deleted before their time.
    pub(crate) fn look(&self) -> bool {
        let config = self.settings.now();
        let disks = self.measure(&config);
        self.log.preallocation.set_full(disks.crowded_logs(&config));
        let appended = self.log.appended.value();
        self.space.watch(&disks, &config, self.health, appended);
        config.clean_forcibly && self.facts(&disks).is_crowded(&config)
    }

    fn measure(&self, config: &StoreConfig) -> Disks {
        self.space.measure(self.disk, config, self.files.root())
    }

    fn facts(&self, disks: &Disks) -> Facts {
        let now = self.settings.now().clock.now();
        Facts {
            now,
            uptime_ms: i64::try_from(self.opened.elapsed().as_millis()).unwrap_or(i64::MAX),
            hour: local_hour(now, &jiff::tz::TimeZone::system()),
            newest_record: self.log.position().last_time,
            log_percent: disks.log.as_ref().map(|disk| disk.percent()),
            queue_percent: disks.queues.as_ref().map(|disk| disk.percent()),
            no_space: self.log.preallocation.lacks_space(),
        }
    }

    /// Waits; returns false when it is time to stop.
    fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            if self.stop.load(Ordering::Acquire) {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            // Who rings for a round has left a note.
            self.cleaning.bell.wait(Some(left));
        }
    }

    /// One round of deletion.
    pub(crate) fn step(&self) {
        let config = self.settings.now();
        self.release(&config);
        let facts = self.facts(&self.measure(&config));
        let verdict = lock(&self.cleaning.retention).decide(&config, &facts);
        let between = Duration::from_millis(config.delete_log_interval_ms);
        for _ in 0..SEGMENTS_A_ROUND {
            // Before their time files go only as long as that is needed.
            if verdict == Verdict::Oldest && !self.is_space_needed(&config) {
                break;
            }
            if !self.delete_segment(&config, verdict) {
                break;
            }
            self.release(&config);
            // One may be enough for the next segment: that is tried before another one goes.
            if verdict == Verdict::Oldest && self.log.preallocation.lacks_space() {
                self.log.preallocation.try_again();
                break;
            }
            if !self.pause(between) {
                return;
            }
        }
        let min = self.log.chain.min();
        if min != self.cleaning.cleaned_to.load(Ordering::Relaxed) && self.clean_up(&config, min) {
            self.cleaning.cleaned_to.store(min, Ordering::Relaxed);
        }
    }

    /// Whether a file must go before its time; not while one that went still takes up its space.
    fn is_space_needed(&self, config: &StoreConfig) -> bool {
        let patience = Duration::from_millis(config.release_wait_ms);
        let is_coming = lock(&self.cleaning.leaving)
            .iter()
            .any(|leaving| leaving.since.elapsed() < patience);
        !is_coming && self.facts(&self.measure(config)).is_crowded(config)
    }

    fn delete_segment(&self, config: &StoreConfig, verdict: Verdict) -> bool {
        let all = self.log.chain.all();
        let Some((oldest, behind @ [_, ..])) = all.split_first() else {
            return false;
        };
        let is_due = match verdict {
            Verdict::Keep => false,
            Verdict::Oldest => true,
            Verdict::Before(limit) => self.newest_time(oldest, behind) <= limit,
        };
        // The segment that is written to, and what is not yet durable, stays.
        if !is_due || oldest.end() > self.log.flushed.value() {
            return false;
        }
        if !self.is_needed_no_more(oldest, verdict) {
            return false;
        }
        let path = oldest.path();
        self.writer.note_log_begin(&self.writer_view, oldest.end());
        // Without it the file goes all the same, only less gently.
        let file = self.disk.open(path, Open::Write).ok();
        if let Err(error) = self.unlink(config, path) {
            let mut stuck = lock(&self.cleaning.stuck);
            if stuck.as_ref() != Some(path) {
                tracing::error!(path = %path.display(), %error, "cannot delete a log segment, trying again each round; nothing behind it is deleted");
                *stuck = Some(Arc::clone(path));
            }
            return false;
        }
        tracing::info!(path = %path.display(), ?verdict, "deleted a log segment");
        lock(&self.cleaning.leaving).push(Leaving {
            path: Arc::clone(path),
            len: oldest.len(),
            holders: oldest.holders(),
            file,
            since: Instant::now(),
            is_told: false,
        });
        self.log.chain.remove_first();
        true
    }

    /// Whether queue files have everything of a segment durably: after a power cut nothing else could tell where its
    /// queues go on, and they would give offsets of acknowledged messages to others. Where space is needed there may be
    /// none to write them, and it goes.
    fn is_needed_no_more(&self, oldest: &Segment, verdict: Verdict) -> bool {
        let is_synced = || oldest.end() <= self.writer.synced_to();
        if !is_synced() {
            self.writer.step(&self.writer_view, Pace::All);
        }
        verdict == Verdict::Oldest || is_synced()
    }

    /// Removes the name. With several directories each one's names are durable before the next segment goes: else a
    /// power cut could bring an old one back and not the one behind it.
    fn unlink(&self, config: &StoreConfig, path: &Path) -> io::Result<()> {
        match self.disk.remove(path) {
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        match path.parent() {
            Some(dir) if config.log_dirs().len() > 1 => self.disk.sync_dir(dir),
            _ => Ok(()),
        }
    }

    /// A time that no record of the oldest segment is newer than: that of the next record behind it. Where Apache's
    /// clock went back between the two, that of its own first record counts. A segment that was lost has none.
    fn newest_time(&self, oldest: &Segment, behind: &[Arc<Segment>]) -> Millis {
        let next = behind.iter().find_map(|segment| first_time(segment));
        let next = next.unwrap_or_else(|| self.log.position().last_time);
        first_time(oldest).map_or(next, |first| first.max(next))
    }

    /// Gives back the space of deleted segments that nobody reads any more.
    fn release(&self, config: &StoreConfig) {
        let patience = Duration::from_millis(config.release_wait_ms);
        let (kept, free): (Vec<_>, Vec<_>) = std::mem::take(&mut *lock(&self.cleaning.leaving))
            .into_iter()
            .partition(|leaving| leaving.holders.upgrade().is_some());
        let mut leaving = lock(&self.cleaning.leaving);
        leaving.extend(kept);
        let is_late = |one: &&mut Leaving| !one.is_told && one.since.elapsed() >= patience;
        for one in leaving.iter_mut().filter(is_late) {
            one.is_told = true;
            tracing::warn!(path = %one.path.display(), "a deleted log segment is still read and takes up its space");
        }
        drop(leaving);
        for one in free {
            self.shrink(one.file, one.len);
        }
    }

    /// Cuts a file without any name step by step. Nobody reads it any more, so nobody finds its pages missing.
    fn shrink(&self, file: Option<Arc<dyn File>>, mut len: u64) {
        let Some(file) = file else { return };
        // A backup made of hard links, or whoever brought it back, has the same bytes.
        if !matches!(file.has_name(), Ok(false)) {
            return;
        }
        while len > RELEASE_STEP {
            len -= RELEASE_STEP;
            // When it closes, what is left goes at once: less gentle, and nothing worse.
            if file.set_len(len).is_err() || !self.pause(RELEASE_PAUSE) {
                return;
            }
        }
    }

    /// Deletes queue and index files that point to nothing any more and moves every queue's first offset. Returns
    /// whether it came to its end.
    fn clean_up(&self, config: &StoreConfig, log_min: u64) -> bool {
        let between = Duration::from_millis(config.delete_queue_interval_ms);
        for (nth, queue) in self.queues.all().iter().enumerate() {
            if nth % QUEUES_AT_ONCE == QUEUES_AT_ONCE - 1 && !self.pause(Duration::from_millis(1)) {
                return false;
            }
            self.files.correct_min(queue, log_min);
            match self.clean_queue(queue, between) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    let (topic, id) = (queue.topic(), queue.id().0);
                    tracing::warn!(topic, id, %error, "cannot delete a queue file");
                }
            }
        }
        self.index.is_none_or(|index| index.clean(log_min))
    }

    /// Returns false when it is time to stop.
    fn clean_queue(&self, queue: &Queue, between: Duration) -> io::Result<bool> {
        let min = queue.min().0 * entry::LEN;
        // A queue whose messages are all gone keeps the file that says where it ends.
        let written = queue.max().0.saturating_sub(queue.unwritten()) * entry::LEN;
        let is_gone = |base: u64| {
            let end = base + queue.file_size();
            end <= min && end < written
        };
        let mut gone = self.files.bases(queue)?;
        gone.retain(|&base| is_gone(base));
        if let Some(last) = gone.last() {
            // A power cut must not take the next one as well: then nothing would say where the queue goes on.
            let settled = self.files.settle(queue, last + queue.file_size());
            settled.map_err(|(path, error)| {
                if !may_pass(&error) {
                    self.health.latch(Fault::Sync, &path, &error);
                }
                error
            })?;
        }
        for base in gone {
            // One that comes back alone after a power cut would leave a gap: the names go as they are removed.
            let remove = || {
                self.files.remove_file(queue, base)?;
                self.files.sync_names(queue)
            };
            self.files.unless_deleted(queue, remove)?;
            if queue.is_deleted() {
                return Ok(true);
            }
            if !self.pause(between) {
                return Ok(false);
            }
        }
        self.clean_ext(queue)?;
        Ok(true)
    }

    /// Deletes the files that no entry of the queue points to any more.
    fn clean_ext(&self, queue: &Queue) -> io::Result<()> {
        if !self.ext.has(queue) {
            return Ok(());
        }
        let mut first = None;
        for at in queue.min().0..queue.max().0 {
            let entry = queue.entry(self.files, at)?;
            first = entry.and_then(|entry| ext::place(entry.tags_code));
            if first.is_some() {
                break;
            }
            if self.stop.load(Ordering::Acquire) {
                return Ok(());
            }
        }
        let clean = || self.ext.clean(queue, first);
        self.files.unless_deleted(queue, clean)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
