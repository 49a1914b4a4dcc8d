//! When the log is synced, and when queues are written and synced: the two threads behind durability.
//!
//! The log's flusher moves `flushed` to where `appended` was before the sync: with synchronous flush as fast as the disk
//! goes (everything that was appended during one sync is covered by the next: group commit), else by interval. The
//! queue writer moves tails into files, syncs those and keeps both checkpoints. Both sleep while nothing happens.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gantry_disk::{Disk, Open, is_no_space, replace};

use crate::config::Settings;
use crate::dispatcher::Dispatcher;
use crate::error::AppendError;
use crate::figures::Busy;
use crate::format::checkpoint::Checkpoint;
use crate::format::progress::{Mark, Progress};
use crate::health::{Fault, Health};
use crate::log::{Log, may_pass};
use crate::paths::Paths;
use crate::queue::Queue;
use crate::queue_files::QueueFiles;

const PAGE: u64 = 4096;
/// Tails are collected so long before they are written.
const COLLECT: Duration = Duration::from_millis(100);
/// After a round the queue writer rests so many times as long as the round took: with many thousand queues it takes no
/// more than a small part of a core, and writes more entries at once.
const REST: u32 = 9;
/// Entries are no longer than this in memory alone.
const REST_MAX: Duration = Duration::from_secs(5);
/// How often progress is written down.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Queue files are synced so often while they change, so that a power cut costs seconds of replay; less often where that
/// takes long, but for `flushConsumeQueueThoroughInterval`.
const SYNC_EVERY: Duration = Duration::from_secs(10);

/// Makes everything durable that was appended before the call.
pub(crate) fn flush_log(log: &Log, health: &Health) -> Result<(), AppendError> {
    let _one_at_a_time = log.flushing.lock().unwrap_or_else(PoisonError::into_inner);
    let (from, to) = (log.flushed.value(), log.appended.value());
    if from >= to {
        return Ok(());
    }
    if let Some(error) = health.latched() {
        return Err(AppendError::Latched { error });
    }
    for segment in log.chain.between(from, to) {
        let began = Instant::now();
        log.syncs.busy.begin();
        let synced = segment.sync();
        log.syncs.busy.end();
        log.syncs.count(began.elapsed());
        if let Err(error) = synced {
            return Err(health.latch(Fault::Sync, segment.path(), &error));
        }
    }
    // Another file may have failed meanwhile: nothing is called durable after that.
    if let Some(error) = health.latched() {
        return Err(AppendError::Latched { error });
    }
    log.flushed.advance(to);
    Ok(())
}

/// The log flusher's thread, until the log's watermark is closed.
pub(crate) fn run_log_flusher(log: &Log, health: &Health, settings: &Settings, stop: &AtomicBool) {
    let mut last_flush = Instant::now();
    loop {
        log.appended.wait_blocking(log.flushed.value(), None);
        let config = settings.now();
        let interval = Duration::from_millis(config.flush_interval_ms.max(1));
        let thorough = Duration::from_millis(config.flush_thorough_interval_ms.max(1));
        let least = u64::from(config.flush_least_pages) * PAGE;
        if stop.load(Ordering::Acquire) || health.latched().is_some() {
            return;
        }
        if !config.flush_sync {
            let wake_at = Instant::now() + interval;
            if config.flush_timed {
                while !stop.load(Ordering::Acquire) && Instant::now() < wake_at {
                    std::thread::park_timeout(wake_at.saturating_duration_since(Instant::now()));
                }
            } else {
                let enough = log.flushed.value() + least.max(1) - 1;
                log.appended.wait_blocking(enough, Some(wake_at));
            }
            let dirty = log.appended.value() - log.flushed.value();
            if dirty < least && last_flush.elapsed() < thorough {
                continue;
            }
        }
        last_flush = Instant::now();
        if flush_log(log, health).is_err() {
            return;
        }
    }
}

/// Writes queue tails, syncs queue files, keeps the checkpoints.
#[derive(Debug)]
pub(crate) struct QueueWriter {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) paths: Paths,
    /// Queue files hold everything below.
    written_to: AtomicU64,
    /// The queue or the sync that the writer's thread is at.
    pub(crate) busy: Busy,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    scratch: Vec<u8>,
    progress: Progress,
    checkpoint: Checkpoint,
    synced_at: Option<Instant>,
    /// How long the last sync of queue files took.
    sync_took: Duration,
    noted_at: Option<Instant>,
    /// What is in the files differs from what was last written down.
    is_stale: bool,
}

impl QueueWriter {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        paths: Paths,
        progress: Progress,
        checkpoint: Checkpoint,
    ) -> Self {
        let (scratch, written_to) = (Vec::new(), AtomicU64::new(progress.written.end));
        let (synced_at, noted_at) = (None, None);
        let state = State {
            scratch,
            progress,
            checkpoint,
            synced_at,
            sync_took: Duration::ZERO,
            noted_at,
            is_stale: true,
        };
        Self {
            disk,
            paths,
            written_to,
            busy: Busy::default(),
            state: Mutex::new(state),
        }
    }

    /// The thread, until it is stopped.
    pub(crate) fn run(&self, store: &WriterView<'_>, stop: &AtomicBool) {
        let (mut wait, mut rest) = (None, COLLECT);
        while !stop.load(Ordering::Acquire) {
            let rang = store.dispatcher.queues.wait(wait);
            if rang && !stop.load(Ordering::Acquire) {
                self.collect(store, stop, rest);
            }
            let began = Instant::now();
            let is_idle = self.step(store, Pace::Regular);
            rest = (began.elapsed() * REST).clamp(COLLECT, REST_MAX);
            wait = if is_idle { None } else { Some(PROGRESS_EVERY) };
        }
    }

    /// Lets tails grow for a while. One that becomes long is written at once: alone, when a round takes long.
    fn collect(&self, store: &WriterView<'_>, stop: &AtomicBool, rest: Duration) {
        let until = Instant::now() + rest;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let is_urgent = store.dispatcher.queues_urgent.wait(Some(left));
            if !is_urgent || rest <= COLLECT || stop.load(Ordering::Acquire) {
                return;
            }
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            for queue in store.dispatcher.take_long() {
                self.busy.begin();
                let written = queue.write_ahead(store.files, &mut state.scratch);
                self.busy.end();
                // The round that follows meets the same error: the queue is listed as dirty.
                if written.is_err() {
                    return;
                }
            }
        }
    }

    /// Writes one queue's tail at once: more follows than should be kept in memory.
    pub(crate) fn write_ahead(
        &self,
        store: &WriterView<'_>,
        queue: &Queue,
    ) -> Result<(), AppendError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = store.health.latched() {
            return Err(AppendError::Latched { error });
        }
        self.busy.begin();
        let written = queue.write_ahead(store.files, &mut state.scratch);
        self.busy.end();
        let Err(error) = written else {
            return Ok(());
        };
        let path = store.files.dir_of(queue.topic(), queue.id());
        if !may_pass(&error) {
            return Err(store.health.latch(Fault::Write, &path, &error));
        }
        let (path, error) = (path.into(), error.to_string().into());
        Err(AppendError::NoSpace { path, error })
    }

    /// Queue files hold everything below.
    pub(crate) fn written_to(&self) -> u64 {
        self.written_to.load(Ordering::Relaxed)
    }

    /// Queue files hold everything below, durably.
    pub(crate) fn synced_to(&self) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.progress.synced.end
    }

    /// One round. Returns whether everything is written, synced and written down.
    pub(crate) fn step(&self, store: &WriterView<'_>, pace: Pace) -> bool {
        let is_idle = self.round(store, pace);
        self.busy.end();
        is_idle
    }

    fn round(&self, store: &WriterView<'_>, pace: Pace) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Everything below was put into the tails before `appended` came here.
        let before = store.log.position();
        let written = self.write_tails(store, &mut state.scratch);
        if store.health.latched().is_some() {
            return self.distrust(store, &mut state);
        }
        let mark = Mark::from(before);
        if written && state.progress.written != mark {
            state.progress.written = mark;
            state.is_stale = true;
            self.written_to.store(mark.end, Ordering::Relaxed);
        }
        let now = Instant::now();
        let due = |last: Option<Instant>, every: Duration| {
            pace == Pace::All || last.is_none_or(|at| now - at >= every)
        };
        let thorough = store.settings.now().queue_flush_thorough_interval_ms;
        let thorough = Duration::from_millis(thorough);
        let sync_every = (state.sync_took * REST).max(SYNC_EVERY).min(thorough);
        if written && state.progress.synced != mark && due(state.synced_at, sync_every) {
            self.busy.begin();
            let synced = store.files.sync();
            state.synced_at = Some(Instant::now());
            state.sync_took = now.elapsed();
            match synced {
                Ok(()) if flush_log(store.log, store.health).is_ok() => {}
                Err((path, error)) if may_pass(&error) => {
                    tracing::warn!(path = %path.display(), %error, "queue files wait to be synced");
                    return false;
                }
                Err((path, error)) => {
                    store.health.latch(Fault::Sync, &path, &error);
                    return self.distrust(store, &mut state);
                }
                Ok(()) => return self.distrust(store, &mut state),
            }
            state.progress.synced = mark;
            (state.checkpoint.log, state.checkpoint.queues) = (mark.time, mark.time);
            self.note_checkpoint(&mut state);
        }
        if state.is_stale && due(state.noted_at, PROGRESS_EVERY) {
            self.busy.begin();
            state.noted_at = Some(now);
            self.note_progress(store, &mut state);
        }
        written && !state.is_stale && state.progress.synced == mark
    }

    fn write_tails(&self, store: &WriterView<'_>, scratch: &mut Vec<u8>) -> bool {
        let (mut waiting, mut all) = (0, true);
        drop(store.dispatcher.take_long());
        for queue in store.dispatcher.take_dirty() {
            self.busy.begin();
            let Err(error) = queue.write_out(store.files, scratch) else {
                continue;
            };
            all = false;
            waiting += queue.unwritten();
            let path = store.files.dir_of(queue.topic(), queue.id());
            if may_pass(&error) {
                tracing::warn!(path = %path.display(), %error, "queue entries wait");
            } else {
                store.health.latch(Fault::Write, &path, &error);
            }
            store.dispatcher.put_back_dirty(queue);
        }
        store.health.entries_waiting(waiting);
        all
    }

    /// Notes how far the index is durable; written down with the rest.
    pub(crate) fn note_index(
        &self,
        file: &str,
        next: u32,
        offset: u64,
        time: gantry_message::Millis,
    ) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        file.clone_into(&mut state.progress.index_file);
        state.progress.index_next = next;
        state.progress.index_offset = offset;
        state.checkpoint.index = state.checkpoint.index.max(time);
        state.is_stale = true;
    }

    /// Writes down, before what lies below is deleted, that the log begins there: where it is found to begin later,
    /// segments are missing. Without the note, a later start says so of those that were deleted, and that is all.
    pub(crate) fn note_log_begin(&self, store: &WriterView<'_>, begin: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.progress.begin = Some(begin);
        if store.health.latched().is_none() {
            self.note_progress(store, &mut state);
        }
    }

    /// Writes down where something was made up; on disk when it returns.
    pub(crate) fn note_made_up(&self, store: &WriterView<'_>, made_up: &[u64]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut state.progress.made_up, made_up.to_vec());
        state.progress.flushed = store.log.flushed.value();
        let noted = replace::file(
            &*self.disk,
            &self.paths.progress(),
            &state.progress.encode(),
        );
        match noted {
            Ok(()) => state.is_stale = false,
            Err(_) => state.progress.made_up = before,
        }
        noted
    }

    /// Writes down how far everything is when the store begins to run. Where there is no space at all for that, what was
    /// noted before goes: no note costs a long recovery at worst, a wrong one messages.
    pub(crate) fn begin(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.paths.progress();
        match replace::or_overwrite(&*self.disk, &path, &state.progress.encode()) {
            Err(error) if is_no_space(&error) => {
                warn_checkpoint(&path, &error);
                if self.disk.meta(&path)?.is_some() {
                    self.disk.remove(&path)?;
                    self.disk.sync_dir(&self.paths.root)?;
                }
                state.is_stale = true;
            }
            other => {
                other?;
                state.is_stale = false;
            }
        }
        Ok(())
    }

    /// Writes everything down as it is when the store stops.
    pub(crate) fn finish(&self, store: &WriterView<'_>, clean: bool) -> io::Result<()> {
        self.step(store, Pace::All);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.progress.clean = clean && store.health.latched().is_none();
        if store.health.latched().is_some() {
            state.progress.boot.clear();
        }
        state.progress.flushed = store.log.flushed.value();
        replace::file(
            &*self.disk,
            &self.paths.progress(),
            &state.progress.encode(),
        )?;
        replace::file(
            &*self.disk,
            &self.paths.checkpoint(),
            &state.checkpoint.encode(),
        )
    }

    /// Writes down, once, that this boot is not to be relied on: after a failed sync the system drops what it could not
    /// write. The next start goes by what was synced before. It counts for this boot only; its own sync, which may fail
    /// as well, keeps a power cut from leaving a damaged file.
    fn distrust(&self, store: &WriterView<'_>, state: &mut State) -> bool {
        if !state.progress.boot.is_empty() {
            state.progress.flushed = store.log.flushed.value();
            let boot = std::mem::take(&mut state.progress.boot);
            let path = self.paths.progress();
            let other = path.with_extension("distrusted");
            let written = self.disk.open(&other, Open::Create).and_then(|file| {
                file.set_len(0)?;
                file.write_at(&state.progress.encode(), 0)?;
                if let Err(error) = file.sync() {
                    warn_checkpoint(&other, &error);
                }
                self.disk.rename(&other, &path)
            });
            if let Err(error) = written {
                // The next round tries again.
                state.progress.boot = boot;
                warn_checkpoint(&path, &error);
            }
        }
        true
    }

    fn note_progress(&self, store: &WriterView<'_>, state: &mut State) {
        state.progress.flushed = store.log.flushed.value();
        let path = self.paths.progress();
        match replace::file(&*self.disk, &path, &state.progress.encode()) {
            Ok(()) => state.is_stale = false,
            Err(error) => warn_checkpoint(&path, &error),
        }
    }

    fn note_checkpoint(&self, state: &mut State) {
        let path = self.paths.checkpoint();
        if let Err(error) = replace::file(&*self.disk, &path, &state.checkpoint.encode()) {
            warn_checkpoint(&path, &error);
        }
        state.is_stale = true;
    }
}

/// Without it recovery reads more of the log, and that is all.
fn warn_checkpoint(path: &Path, error: &io::Error) {
    tracing::warn!(path = %path.display(), %error, "cannot write down how far the store is");
}

/// What the queue writer needs of the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriterView<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) log: &'a Log,
    pub(crate) dispatcher: &'a Dispatcher,
    pub(crate) files: &'a QueueFiles,
    pub(crate) health: &'a Health,
}

/// Whether intervals count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// What is due.
    Regular,
    /// Everything, now.
    All,
}
