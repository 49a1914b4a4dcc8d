//! The log-structured store in Apache RocketMQ's format: one log, queues of entries that point into it, a key index.
//!
//! [`Store`] is the only public face: open (lock, load, recover), start (background threads), commit, read, shut down.
//! A message is visible to readers once its commit returned, durable once [`Store::flushed`] is past its end.
//! No sockets, no runtime; all files through [`gantry_disk::Disk`]. Layouts are in `format/` and drawn in
//! `docs/store-format.md`; what an acknowledgement promises is in `docs/durability.md`.

mod batch;
mod bell;
mod chain;
mod cleaner;
mod config;
mod copy;
mod cursor;
mod dispatcher;
mod entries;
mod error;
mod ext;
mod figures;
mod flusher;
pub mod format;
mod health;
mod index;
mod log;
pub mod offline;
mod paths;
mod preallocation;
mod queue;
mod queue_files;
mod queue_loader;
mod queues;
mod reader;
mod reading;
mod recovery;
mod retention;
mod segment;
mod segments;
mod space;
mod watermark;
mod width;

use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gantry_disk::{Disk, Lock, Open, Usage, dirs};
use gantry_message::{LogOffset, Millis, QueueId, Record, topic};

pub use batch::{Batch, Outcome, Tags};
pub use config::{Clock, StoreConfig};
pub use copy::CopyError;
pub use error::{AppendError, StoreError};
pub use figures::{
    BusyFigures, COMMIT_TIME_ENDS_MS, DiskPercents, SYNC_TIME_ENDS_US, StoreFigures, SyncFigures,
};
pub use format::entry::Entry;
pub use health::Fault;
pub use queue::Queue;
pub use reader::{Found, QueryFound, ReadStatus};
pub use reading::RecordPlace;
pub use recovery::{Cut, Phase, RecoveryWatch, Stage};
pub use watermark::{Beyond, Watermark};

use batch::Limits;
use cleaner::{Cleaner, Cleaning};
use config::Settings;
use dispatcher::Dispatcher;
use entries::{Entries, Lost};
use ext::ExtFiles;
use figures::Counters;
use flusher::{Pace, QueueWriter, WriterView, flush_log, run_log_flusher};
use format::deletions::Deletions;
use format::index::Layout;
use format::progress::{Progress, latest};
use health::Health;
use index::{Durable, Effort, Index, IndexView};
use log::Log;
use paths::Paths;
use preallocation::Preallocation;
use queue_files::QueueFiles;
use queues::Queues;
use reader::Reader;
use recovery::{Recovered, Recovery, Replay};
use space::Space;

/// The store. Used as `Arc<Store>`; every method may be called from any thread.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    settings: Settings,
    paths: Paths,
    health: Arc<Health>,
    counters: Counters,
    limits: Arc<Limits>,
    log: Log,
    queues: Queues,
    files: QueueFiles,
    ext: ExtFiles,
    lost: Lost,
    dispatcher: Dispatcher,
    writer: QueueWriter,
    index: Option<Index>,
    cleaning: Cleaning,
    space: Space,
    deletions: Mutex<Deletions>,
    /// Where each recovery put its first filler in place of what was lost, here or where this log was copied from.
    made_up: Mutex<Vec<u64>>,
    /// This start found no file of the log, although there was one.
    is_lost: bool,
    may_lack_end: bool,
    opened: Instant,
    stop: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    disks: Mutex<DiskPercents>,
    /// Held from before recovery until the store is shut down.
    lock: Mutex<Option<Box<dyn Lock>>>,
}

impl Store {
    /// Locks, loads and recovers the store below `config.root`. What is damaged is set aside and named in the log; only
    /// the environment (no permission, no space for the first files, another process, a log folder that is not mounted)
    /// makes it fail, and then nothing was changed. Whoever watches recovery may end it half way: [`RecoveryWatch::until`].
    pub fn open(
        disk: Arc<dyn Disk>,
        config: StoreConfig,
        now: Millis,
    ) -> Result<Arc<Self>, StoreError> {
        Self::open_with(disk, config, now, Replay::Lagging, None)
    }

    /// As [`Store::open`], but the log ends earlier: what is cut off is kept in the quarantine.
    pub fn open_cut(
        disk: Arc<dyn Disk>,
        config: StoreConfig,
        now: Millis,
        cut: &Cut,
    ) -> Result<Arc<Self>, StoreError> {
        Self::open_with(disk, config, now, Replay::Lagging, Some(cut))
    }

    /// As [`Store::open`], but every queue is made again from all of the log, whatever was noted of it: for repairs.
    /// Queues come back whose topics were deleted while their messages are still in the log.
    pub fn open_rebuilding(
        disk: Arc<dyn Disk>,
        config: StoreConfig,
        now: Millis,
    ) -> Result<Arc<Self>, StoreError> {
        Self::open_with(disk, config, now, Replay::All, None)
    }

    fn open_with(
        disk: Arc<dyn Disk>,
        config: StoreConfig,
        now: Millis,
        replay: Replay,
        cut: Option<&Cut>,
    ) -> Result<Arc<Self>, StoreError> {
        let config = config.checked()?;
        let paths = Paths {
            root: config.root.clone(),
        };
        disk.create_dirs(&paths.root)
            .map_err(StoreError::io("create", &paths.root))?;
        let lock = take_lock(&*disk, &paths)?;
        dirs::make(&*disk, &paths.root).map_err(StoreError::io("create", &paths.root))?;
        let (health, counters) = (Arc::new(Health::default()), Counters::default());
        let found = segments::load(&*disk, &config, &paths, &counters)?;
        let (segment_size, is_lost) = (found.size, found.is_lost);
        let files = QueueFiles::new(Arc::clone(&disk), paths.queues());
        let ext = ExtFiles::new(Arc::clone(&disk), paths.ext());
        let queues = Queues::new(config.queue_file_size);
        let dispatcher = Dispatcher::new(0, false);
        let counted = recovery::deletions_that_count(&*disk, &paths, &found.segments, cut)?;
        let replay = if counted.any_taken_back {
            Replay::All
        } else {
            replay
        };
        let recovery = Recovery {
            disk: &disk,
            config: &config,
            paths: &paths,
            files: &files,
            queues: &queues,
            dispatcher: &dispatcher,
            counters: &counters,
            deletions: &counted.deletions,
            replay,
            cut,
            number: recovery_number(&*disk, &paths, now),
        };
        let recovered = recovery.run(segment_size, found.segments)?;
        let position = recovered.position;
        let is_settled = |progress: &Progress| progress.clean && recovered.was_stopped;
        if !recovered.progress.as_ref().is_some_and(is_settled) {
            files.distrust();
        }
        if position.last_time > now.plus(MINUTE_MS) {
            let (newest, now) = (position.last_time.0, now.0);
            tracing::warn!(
                newest,
                now,
                "the newest message is from the future: is the clock right?"
            );
        }
        let durable = match cut.and_then(|cut| cut.last) {
            // Files that know of what is gone are made again.
            Some((_, time)) => Durable {
                log_end: position.end,
                trusted_until: Some(time.plus(-1)),
                ..Durable::default()
            },
            None => durable_index(&recovered),
        };
        let progress = progress_after(&recovered, disk.boot(), &durable);
        let layout = Layout {
            slots: config.index_slots,
            entries: config.index_entries,
        };
        let index = Index::new(
            Arc::clone(&disk),
            paths.clone(),
            layout,
            config.clock.clone(),
            durable,
        );
        let preallocation =
            Preallocation::new(Arc::clone(&disk), config.writable_log_dirs(), segment_size);
        let dispatcher = Dispatcher::new(position.end, config.index_enabled);
        for queue in recovered.unwritten {
            dispatcher.put_back_dirty(queue);
        }
        let clock = config.clock.clone();
        let limits = Limits {
            segment_size,
            max_message_size: AtomicU32::new(config.max_message_size),
            index_enabled: config.index_enabled,
        };
        let writer = QueueWriter::new(
            Arc::clone(&disk),
            paths.clone(),
            progress,
            recovered.checkpoint,
        );
        if counted.is_begun {
            // In this order: no note that speaks of queues as they were before may be left alone.
            let path = paths.progress();
            writer.begin().map_err(StoreError::io("write", &path))?;
            recovery::note_deletions(&*disk, &paths, &counted.deletions)?;
        }
        Ok(Arc::new(Self {
            log: Log::new(
                recovered.chain,
                preallocation,
                position,
                Arc::clone(&health),
                clock,
            ),
            dispatcher,
            writer,
            index: config.index_enabled.then_some(index),
            cleaning: Cleaning::new(now),
            space: Space::default(),
            deletions: Mutex::new(counted.deletions),
            made_up: Mutex::new(recovered.made_up),
            may_lack_end: recovered.may_lack_end,
            is_lost,
            opened: Instant::now(),
            limits: Arc::new(limits),
            disk,
            settings: Settings::new(config),
            paths,
            health,
            counters,
            queues,
            files,
            ext,
            lost: Lost::default(),
            stop: AtomicBool::new(false),
            threads: Mutex::default(),
            disks: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        }))
    }

    /// Starts the background threads and marks the store as running (`abort`).
    pub fn start(self: &Arc<Self>) -> Result<(), StoreError> {
        self.mark_running()?;
        self.spawn("store-flush", |store| {
            run_log_flusher(&store.log, &store.health, &store.settings, &store.stop);
            // After a failed sync the queue writer has something to write down.
            store.dispatcher.queues.ring();
        })?;
        self.spawn("store-queues", |store| {
            store.writer.run(&store.writer_view(), &store.stop)
        })?;
        self.spawn("store-prepare", |store| store.log.preallocation.run())?;
        self.spawn("store-clean", |store| store.cleaner().run())?;
        if self.index.is_some() {
            self.spawn("store-index", |store| {
                if let Some(index) = &store.index {
                    index.run(&store.index_view());
                }
            })?;
        }
        Ok(())
    }

    /// Marks the store as running without starting threads; [`Store::turn`] does their work.
    pub fn mark_running(&self) -> Result<(), StoreError> {
        // First, so that no note of before speaks of a log that goes on from an earlier place.
        let path = self.paths.progress();
        self.writer
            .begin()
            .map_err(StoreError::io("write", &path))?;
        let path = self.paths.abort();
        let made = self
            .disk
            .open(&path, Open::Create)
            .and_then(|_| self.disk.sync_dir(&self.paths.root));
        made.map_err(StoreError::io("create", &path))
    }

    fn spawn(self: &Arc<Self>, name: &'static str, work: fn(&Self)) -> Result<(), StoreError> {
        let store = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || work(&store));
        let thread = thread.map_err(|source| StoreError::Thread { name, source })?;
        self.threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
        Ok(())
    }

    /// Stops the threads, writes and syncs everything, marks the store as cleanly stopped, releases the lock. The
    /// second call does nothing. A store that could not be written to the end is left to the next start's recovery:
    /// see [`Store::is_clean`].
    pub fn shutdown(&self) -> Result<(), StoreError> {
        let Some(lock) = self
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        else {
            return Ok(());
        };
        self.health.shut_down();
        // A commit that is in the log's lock right now finishes; every later one is refused.
        self.log
            .between_commits(|| self.stop.store(true, Ordering::Release));
        self.log.appended.close();
        self.log.flushed.close();
        self.log.preallocation.stop();
        self.dispatcher.queues.ring();
        self.dispatcher.queues_urgent.ring();
        self.dispatcher.index.ring();
        self.cleaning.bell.ring();
        for thread in
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner))
        {
            thread.thread().unpark();
            // A thread that panicked has said so; what it did not finish the next start will.
            let _ = thread.join();
        }
        let flushed = flush_log(&self.log, &self.health);
        self.index_turn(Effort::Last);
        let clean = flushed.is_ok() && self.health.may_stop_cleanly();
        self.log.preallocation.remove_unused();
        let path = self.paths.progress();
        self.writer
            .finish(&self.writer_view(), clean)
            .map_err(StoreError::io("write", &path))?;
        let clean = clean && self.health.may_stop_cleanly();
        if clean {
            let path = self.paths.abort();
            remove_if_there(&*self.disk, &path).map_err(StoreError::io("remove", &path))?;
        } else {
            tracing::warn!(
                "the store could not be stopped cleanly, the next start will recover it"
            );
        }
        drop(lock);
        Ok(())
    }

    /// Makes the log durable as far as it is now, whatever the intervals say. A failure latches the store.
    pub fn flush(&self) -> Result<(), AppendError> {
        flush_log(&self.log, &self.health)
    }

    /// Whether the store is marked as cleanly stopped; one that runs is not.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self.disk.meta(&self.paths.abort()), Ok(None))
    }

    /// Runs one round of every background job on this thread: for tests and for hosts that call no [`Store::start`].
    pub fn turn(&self) {
        self.catch_up();
        self.log.preallocation.make_wanted(false);
        let cleaner = self.cleaner();
        cleaner.look();
        cleaner.step();
    }

    /// Writes, indexes and syncs everything on this thread, and deletes nothing. What fails latches the store: ask
    /// [`Store::check_writable`].
    pub fn catch_up(&self) {
        // A failure latches the store; there is nobody else to tell.
        let _ = flush_log(&self.log, &self.health);
        self.index_turn(Effort::All);
        self.writer.step(&self.writer_view(), Pace::All);
    }

    /// Indexes and syncs everything, as far as the disk allows.
    fn index_turn(&self, effort: Effort) {
        let Some(index) = &self.index else { return };
        let view = self.index_view();
        if let Err(error) = index.step(&view, effort) {
            index.give_up(&view, &error);
        }
    }

    fn index_view(&self) -> IndexView<'_> {
        IndexView {
            log: &self.log,
            dispatcher: &self.dispatcher,
            writer: &self.writer,
            health: &self.health,
            counters: &self.counters,
            stop: &self.stop,
        }
    }

    fn cleaner(&self) -> Cleaner<'_> {
        Cleaner {
            disk: &*self.disk,
            settings: &self.settings,
            log: &self.log,
            queues: &self.queues,
            files: &self.files,
            ext: &self.ext,
            index: self.index.as_ref(),
            health: &self.health,
            stop: &self.stop,
            opened: self.opened,
            cleaning: &self.cleaning,
            space: &self.space,
            writer: &self.writer,
            writer_view: self.writer_view(),
        }
    }

    fn writer_view(&self) -> WriterView<'_> {
        WriterView {
            settings: &self.settings,
            log: &self.log,
            dispatcher: &self.dispatcher,
            files: &self.files,
            health: &self.health,
        }
    }

    fn reader(&self) -> Reader<'_> {
        let config = self.settings.now();
        Reader {
            config: Arc::clone(&config),
            log: &self.log,
            files: &self.files,
            entries: self.entries(config),
        }
    }

    fn entries(&self, config: Arc<StoreConfig>) -> Entries<'_> {
        Entries {
            config,
            log: &self.log,
            files: &self.files,
            ext: &self.ext,
            lost: &self.lost,
            counters: &self.counters,
            searched: Cell::default(),
            scratch: RefCell::default(),
        }
    }

    /// A queue, made in memory when there is none.
    pub fn queue(&self, topic: &str, id: QueueId) -> Arc<Queue> {
        self.queues.get(topic, id)
    }

    /// A queue, if there is one.
    #[must_use]
    pub fn find_queue(&self, topic: &str, id: QueueId) -> Option<Arc<Queue>> {
        self.queues.find(topic, id)
    }

    /// How many queues there have been since the store was opened: grows with each new one.
    #[must_use]
    pub fn queues_made(&self) -> &Watermark {
        self.queues.made()
    }

    /// Every topic that has a queue, sorted.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.queues.topics()
    }

    /// The queues of a topic, by number.
    #[must_use]
    pub fn queues_of(&self, topic: &str) -> Vec<Arc<Queue>> {
        self.queues.of(topic)
    }

    /// Removes the queues of a topic, in memory and on disk; its messages stay in the log until that is cleaned.
    pub fn delete_topic(&self, topic: &str) -> Result<(), StoreError> {
        self.delete_queues(&self.queues.of(topic), |_| true)
    }

    /// Deletes a topic's queues if that is still wanted at a moment when nothing is added to them.
    pub fn delete_topic_if(
        &self,
        topic: &str,
        is_unwanted: impl Fn() -> bool,
    ) -> Result<(), StoreError> {
        self.delete_queues(&self.queues.of(topic), |_| is_unwanted())
    }

    /// Deletes those of `queues` that are unwanted at a moment when nothing is added to them.
    fn delete_queues(
        &self,
        queues: &[Arc<Queue>],
        is_unwanted: impl Fn(&Queue) -> bool,
    ) -> Result<(), StoreError> {
        // Behind this no commit adds to them any more.
        let deleted = self.log.delete(queues, is_unwanted);
        if deleted.is_empty() {
            return Ok(());
        }
        // The queue writer must not make the files again, and what it notes of the log must be past every message of
        // the queues, so that recovery does not bring them back.
        self.writer.step(&self.writer_view(), Pace::All);
        let mut all = self.note_deleted(&deleted);
        for queue in deleted {
            let dir = self.files.dir_of(queue.topic(), queue.id());
            let removed = self
                .files
                .remove(&queue)
                .and_then(|()| self.ext.remove(&queue));
            // Only now may a queue of that name begin again: its files would be the same.
            self.queues.remove(&queue);
            queue.end_waits();
            all = all.and(removed.map_err(StoreError::io("remove", &dir)));
        }
        all
    }

    /// Writes down, before anything is removed, that these queues are deleted: should queues ever be made again from the
    /// log, these are not.
    fn note_deleted(&self, queues: &[Arc<Queue>]) -> Result<(), StoreError> {
        let (min, end) = (self.log.chain.min(), self.log.position());
        let mut deletions = self
            .deletions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        deletions.forget_below(min);
        for queue in queues.iter().filter(|queue| queue.log_end() > min) {
            deletions.note(queue.topic(), queue.id(), end.end, end.last_time);
        }
        recovery::note_deletions(&*self.disk, &self.paths, &deletions)
    }

    /// An empty batch for this store.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(&self.limits))
    }

    /// Stores everything that is staged: one positional write per segment, under one short lock. Every staged entry
    /// gets an [`Outcome`]. Clear the batch before staging again.
    pub fn commit(&self, batch: &mut Batch) {
        self.log.commit(batch, &self.dispatcher, &self.counters);
    }

    /// Stores one message.
    pub fn append(&self, queue: &Arc<Queue>, record: &Record<'_>, tags: Tags) -> Outcome {
        let mut batch = self.batch();
        match batch.stage(queue, record, tags) {
            Ok(entry) => {
                self.commit(&mut batch);
                batch.outcome(entry).clone()
            }
            Err(error) => Outcome::Refused(error),
        }
    }

    /// Whether messages are taken, and if not, why. Cheap.
    pub fn check_writable(&self) -> Result<(), AppendError> {
        self.health.check()
    }

    /// Takes no new messages while there is a reason `why` not, whatever they come from. What is copied from another log
    /// is taken as before. A commit that is under way may still store something: see [`Store::settle`].
    pub fn seal(&self, why: Option<Arc<str>>) {
        self.health.seal(why);
    }

    /// Returns when no commit is under way that began before: behind a [`Store::seal`], the log's end stays from here on.
    /// Blocks.
    pub fn settle(&self) {
        self.log.settle();
    }

    /// Why new messages are not wanted, see [`Store::seal`].
    #[must_use]
    pub fn sealed(&self) -> Option<Arc<str>> {
        self.health.sealed()
    }

    /// As [`Store::check_writable`], for one message that would be made ready to be stored: a refusal counts.
    pub fn admit(&self) -> Result<(), AppendError> {
        self.health
            .check()
            .inspect_err(|error| self.counters.refused(error, 1))
    }

    /// How full the disks of the store's folders are; `None`: the system does not say. Asks it, and may wait for it.
    #[must_use]
    pub fn disks(&self) -> Vec<(PathBuf, Option<Usage>)> {
        let settings = self.settings.now();
        let logs = settings.log_dirs().into_iter();
        let mut dirs: Vec<PathBuf> = logs.map(|place| place.dir.to_owned()).collect();
        dirs.extend([self.files.root().to_path_buf(), self.paths.root.clone()]);
        let ask = |dir: PathBuf| {
            let usage = self.disk.usage(&dir).ok();
            (dir, usage)
        };
        dirs.into_iter().map(ask).collect()
    }

    /// How long the running commit has held the log, in milliseconds; 0 when none runs. Cheap enough to ask per message.
    #[must_use]
    pub fn locked_ms(&self) -> u64 {
        self.log.locked_ms()
    }

    /// For how long commits, syncs and the queue writer have been at the same thing. Asks nothing of the disk.
    #[must_use]
    pub fn busy(&self) -> BusyFigures {
        BusyFigures {
            commit: Duration::from_millis(self.log.locked_ms()),
            sync: self.log.syncs.busy.for_how_long(),
            queues: self.writer.busy.for_how_long(),
        }
    }

    /// Takes up those of the settings that may change while the store runs: limits of messages, reads and queries,
    /// intervals, what is deleted when, how full disks may be. Places, sizes and the way of flushing stay as they are.
    pub fn reconfigure(&self, wanted: &StoreConfig) {
        self.settings.change(wanted);
        let bytes = wanted.max_message_size;
        self.limits.max_message_size.store(bytes, Ordering::Relaxed);
        // New limits of the disk count at once.
        self.cleaning.bell.ring();
    }

    /// How far the log is written and visible.
    #[must_use]
    pub fn appended(&self) -> &Watermark {
        &self.log.appended
    }

    /// How far the log is durable.
    #[must_use]
    pub fn flushed(&self) -> &Watermark {
        &self.log.flushed
    }

    /// Beyond 0 once the store has latched: a write or sync failed, and it takes no message and calls nothing durable
    /// until it is opened again.
    #[must_use]
    pub fn latches(&self) -> &Watermark {
        self.health.latches()
    }

    /// For how long the store has been latched, if it is.
    #[must_use]
    pub fn latched_for(&self) -> Option<Duration> {
        self.health.latched_for()
    }

    /// Where the oldest segment starts.
    #[must_use]
    pub fn min_offset(&self) -> LogOffset {
        LogOffset(self.log.chain.min())
    }

    /// Where the next record goes.
    #[must_use]
    pub fn max_offset(&self) -> LogOffset {
        LogOffset(self.log.appended.value())
    }

    /// Length of a segment of the log.
    #[must_use]
    pub fn segment_size(&self) -> u64 {
        self.log.preallocation.segment_size()
    }

    /// The last record of the log: where it starts and when it was stored; `None` of an empty log.
    #[must_use]
    pub fn last_record(&self) -> Option<(LogOffset, Millis)> {
        let position = self.log.position();
        (position.end != 0).then_some((LogOffset(position.last_record), position.last_time))
    }

    /// Whether this start found no file of the log, although there was one: it began an empty log.
    #[must_use]
    pub fn has_lost_its_log(&self) -> bool {
        self.is_lost
    }

    /// Whether what was stored last before this start may be gone, as far as it was not synced: the machine was off, or a sync
    /// failed.
    #[must_use]
    pub fn may_lack_its_end(&self) -> bool {
        self.may_lack_end
    }

    /// Where each recovery put its first filler in place of what was lost, here or where this log was copied from, unless the
    /// log was cut before it since: whoever has another copy of the log may have what was there.
    #[must_use]
    pub fn made_up(&self) -> Vec<LogOffset> {
        let made_up = self.made_up.lock().unwrap_or_else(PoisonError::into_inner);
        made_up.iter().copied().map(LogOffset).collect()
    }

    /// This log is, or becomes, a copy of one that has fillers at these places: they are noted as if they had been made here,
    /// durably if that is news, for who compares another copy with this one when the first one is gone.
    pub fn note_made_up(&self, there: &[LogOffset]) -> Result<(), StoreError> {
        let mut made_up = self.made_up.lock().unwrap_or_else(PoisonError::into_inner);
        let all = made_up.iter().copied().chain(there.iter().map(|at| at.0));
        let all = latest(all.collect());
        if *made_up == all || self.health.latched().is_some() {
            return Ok(());
        }
        let path = self.paths.progress();
        self.writer
            .note_made_up(&self.writer_view(), &all)
            .map_err(StoreError::io("write", &path))?;
        *made_up = all;
        Ok(())
    }

    /// How full the disks were when [`Store::figures`] asked last. Does not ask.
    #[must_use]
    pub fn disks_then(&self) -> DiskPercents {
        *self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A snapshot of the store's figures. Asks how full the disks are, and may wait for that.
    #[must_use]
    pub fn figures(&self) -> StoreFigures {
        let mut figures = StoreFigures::default();
        self.counters.fill(&mut figures);
        let percent =
            |path: &std::path::Path| self.disk.usage(path).ok().map(|usage| usage.used_percent());
        let settings = self.settings.now();
        let of_log = settings.commit_log_paths.iter();
        figures.disks = DiskPercents {
            log: of_log.filter_map(|dir| percent(dir)).min(),
            queues: percent(self.files.root()),
            index: percent(&self.paths.root),
        };
        *self.disks.lock().unwrap_or_else(PoisonError::into_inner) = figures.disks;
        figures.locked_ms = self.log.locked_ms();
        figures.min_offset = self.log.chain.min();
        figures.max_offset = self.log.appended.value();
        figures.flushed_offset = self.log.flushed.value();
        figures.segments = width::wide(self.log.chain.len());
        figures.queue_behind_bytes = figures.max_offset.saturating_sub(self.writer.written_to());
        if let Some(index) = &self.index {
            figures.index_behind_bytes = figures.max_offset.saturating_sub(index.indexed_to());
        }
        figures.latched = self.health.latched();
        figures.fault = self.health.fault();
        figures.syncs = self.log.syncs.figures();
        figures
    }

    /// Deletes expired log segments, whatever the hour, in a round that begins now and in the next ones (admin request
    /// 329).
    pub fn delete_expired_now(&self) {
        self.cleaning.ask();
    }

    /// Removes queues all of whose messages are gone from the log (admin request 306). Waits for the disk. Delayed
    /// messages' queues stay, as in Java: the positions of the levels belong to them.
    pub fn clean_expired_queues(&self) -> Result<(), StoreError> {
        let min = self.log.chain.min();
        let is_expired = |queue: &Queue| {
            let log_end = queue.log_end();
            0 < log_end && log_end <= min && queue.topic() != topic::SCHEDULE
        };
        let mut queues = self.queues.all();
        queues.retain(|queue| is_expired(queue));
        for queue in &queues {
            tracing::info!(
                topic = queue.topic(),
                id = queue.id().0,
                "removing a queue without messages"
            );
        }
        // Looked at again when no commit runs: a message may have come just now.
        self.delete_queues(&queues, is_expired)
    }
}

/// What the index may rely on: our own note, else Apache's checkpoint.
fn durable_index(recovered: &Recovered) -> Durable {
    let log_end = recovered.position.end;
    let unknown = Durable {
        log_end,
        ..Durable::default()
    };
    let is_noted =
        |progress: &&Progress| !progress.index_file.is_empty() || progress.index_offset > 0;
    match recovered.progress.as_ref().filter(is_noted) {
        Some(progress) => Durable {
            file: progress.index_file.clone(),
            next: progress.index_next,
            offset: progress.index_offset.min(log_end),
            is_noted: true,
            is_clean: recovered.was_stopped && progress.clean,
            ..unknown
        },
        None => {
            let until = recovered.checkpoint.index;
            Durable {
                trusted_until: (!recovered.was_stopped).then_some(until),
                ..unknown
            }
        }
    }
}

/// Tells recoveries apart, whatever machine, store and time they are of.
fn recovery_number(disk: &dyn Disk, paths: &Paths, now: Millis) -> u64 {
    let mut hasher = DefaultHasher::new();
    (disk.boot(), &paths.root, now.0).hash(&mut hasher);
    // A long of Java's, which is none of its offsets below zero.
    hasher.finish() >> 1
}

/// How far everything is once recovery is through: queue files hold what the log holds, though not yet durably.
fn progress_after(recovered: &Recovered, boot: Option<String>, index: &Durable) -> Progress {
    let position = recovered.position;
    let before = recovered.progress.clone().unwrap_or_default();
    // What waits in memory is in no file; what was synced is there whatever boot this is.
    let written = if recovered.unwritten.is_empty() {
        position.into()
    } else {
        before.synced
    };
    Progress {
        boot: boot.unwrap_or_default(),
        flushed: position.end,
        written,
        index_offset: index.offset,
        begin: Some(recovered.chain.min()),
        clean: false,
        made_up: recovered.made_up.clone(),
        ..before
    }
}

const MINUTE_MS: i64 = 60_000;

/// Takes Java's lock before anything is looked at, so that a second process cannot touch a live store.
fn take_lock(disk: &dyn Disk, paths: &Paths) -> Result<Box<dyn Lock>, StoreError> {
    let path = paths.lock();
    let lock = disk.lock(&path).map_err(StoreError::io("lock", &path))?;
    lock.ok_or(StoreError::Locked { path })
}

fn remove_if_there(disk: &dyn Disk, path: &std::path::Path) -> std::io::Result<()> {
    if disk.meta(path)?.is_some() {
        disk.remove(path)
    } else {
        Ok(())
    }
}
