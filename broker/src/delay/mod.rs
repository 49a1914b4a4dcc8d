//! Delayed messages: each waits in the queue of its level and is stored again under its real topic when it is due.
//!
//! What is due when is decided in `line`, one value a level; `lane` reads, stores and counts for one level; [`Delay`]
//! steps all lanes and keeps their positions in `delayOffset.json`. One thread serves all levels and sleeps until the
//! next message is due or an empty level gets one: an idle broker is never woken. A position is written only when
//! everything before it is on disk, so that a lost machine repeats messages and never loses one.
//! Levels and what a send does with them: [`Levels`], [`postpone`]. Not run by slaves.

mod due;
mod lane;
mod levels;
mod line;
mod offsets;

use std::collections::VecDeque;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use gantry_disk::Disk;
use gantry_message::{LogOffset, Millis, QueueOffset};
use gantry_store::{Batch, Queue, Store};
use gantry_wire::bodies::DelayOffsets;

pub use levels::{LEVELS_MAX, Level, Levels, LevelsError, Postponed, postpone};

use crate::latch::is_latched;
use crate::stats::Stats;
use crate::tables::TableError;
use lane::{Lane, Shared};
use offsets::OffsetsFile;

/// Statistics group of delayed deliveries.
pub const SCHEDULE_CONSUMER: &str = "SCHEDULE_CONSUMER";

/// Longest sleep while something waits for its time: bounds what a clock that jumped ahead can delay.
const SLEEP_MS_MAX: i64 = 1_000;
/// In [`Delay::positions`]: nothing is known of the level.
const UNKNOWN: u64 = u64::MAX;

/// The configuration keys of the same names.
#[derive(Clone, Copy, Debug)]
pub struct DelayConfig {
    /// `flushDelayOffsetInterval`, milliseconds.
    pub flush_interval_ms: i64,
    /// `enableScheduleMessageStats`.
    pub stats_enabled: bool,
}

/// What [`Delay::load`] is made of.
pub struct DelayParts {
    /// Where messages wait and go.
    pub store: Arc<Store>,
    /// What counts them.
    pub stats: Arc<Stats>,
    /// Where the positions are kept.
    pub disk: Arc<dyn Disk>,
    /// The `config` folder of the store.
    pub config_folder: PathBuf,
}

/// All delay levels of one broker.
pub struct Delay {
    shared: Shared,
    levels: Arc<Levels>,
    flush_interval_ms: i64,
    /// Where each level stands, for who asks.
    positions: Vec<AtomicU64>,
    state: Mutex<State>,
    stopping: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct State {
    lanes: Vec<Lane>,
    batch: Batch,
    /// What was delivered and is not yet known to be on disk, oldest first.
    ///
    /// Invariant: `end` never goes back.
    marks: VecDeque<Mark>,
    last_end: LogOffset,
    file: OffsetsFile,
    flush_at: Option<Millis>,
}

/// A level stood at `next` when the log reached `end`.
struct Mark {
    level: Level,
    next: QueueOffset,
    end: LogOffset,
}

/// What [`Delay::step`] wants next.
#[derive(Debug, Default)]
pub struct Next {
    /// Call again at this time; `None`: not for the time's sake.
    pub at: Option<Millis>,
    /// Queues that hold nothing for us, and the offset they have to grow beyond.
    pub idle: Vec<(Arc<Queue>, QueueOffset)>,
}

impl Next {
    fn by(&mut self, at: Millis) {
        self.at = Some(self.at.map_or(at, |earlier| earlier.min(at)));
    }
}

impl Delay {
    /// Reads `delayOffset.json` of the `config` folder and moves every level into its queue's bounds. A level that the
    /// file does not know starts at the beginning of its queue: messages may come twice, none is lost.
    pub fn load(
        parts: DelayParts,
        levels: Arc<Levels>,
        config: DelayConfig,
    ) -> Result<Arc<Self>, TableError> {
        let DelayParts {
            store,
            stats,
            disk,
            config_folder,
        } = parts;
        let file = OffsetsFile::load(disk, &config_folder)?;
        let shared = Shared {
            store,
            stats,
            stats_enabled: config.stats_enabled,
        };
        let (mut positions, mut lanes) = (Vec::new(), Vec::new());
        for level in levels.iter() {
            let kept = file.position(level);
            let lane = Lane::new(&shared, level, levels.delay(level), kept);
            positions.push(AtomicU64::new(kept.map_or(UNKNOWN, |_| lane.next().0)));
            lanes.push(lane);
        }
        let (batch, last_end) = (shared.store.batch(), shared.store.max_offset());
        let state = State {
            lanes,
            batch,
            marks: VecDeque::new(),
            last_end,
            file,
            flush_at: None,
        };
        Ok(Arc::new(Self {
            shared,
            levels,
            flush_interval_ms: config.flush_interval_ms,
            positions,
            state: Mutex::new(state),
            stopping: AtomicBool::new(false),
            thread: Mutex::new(None),
        }))
    }

    /// Starts the thread that calls [`Self::step`]. Ended by [`Self::stop`].
    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let delay = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("delay".into())
            .spawn(move || delay.run())?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    /// Ends the thread, makes durable what was delivered, and writes the positions. To be called before the
    /// store is shut down.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the delay thread ended by a panic");
            }
        }
        let mut state = lock(&self.state);
        // Not left to the flusher, which may come ten seconds later. What cannot be made durable is not written down, and
        // delivered again after the restart; the store says why.
        let _ = self.shared.store.flush();
        self.write(&mut state);
    }

    /// The levels.
    pub fn levels(&self) -> &Arc<Levels> {
        &self.levels
    }

    /// Where each level stands that has ever delivered anything: the next entry of its queue.
    pub fn positions(&self) -> Vec<(Level, QueueOffset)> {
        let known = |level: Level| {
            let position = self.positions.get(level.index())?.load(Ordering::Relaxed);
            (position != UNKNOWN).then_some((level, QueueOffset(position)))
        };
        self.levels.iter().filter_map(known).collect()
    }

    /// Takes over the positions of the master, in memory and on disk: a slave that is promoted goes on there. The thread
    /// must not run. Blocks.
    pub fn adopt(&self, offsets: DelayOffsets) -> Result<(), TableError> {
        let mut state = lock(&self.state);
        state.file.replace(offsets);
        let State { lanes, file, .. } = &mut *state;
        for lane in lanes {
            if let Some(next) = file.position(lane.level) {
                lane.move_to(next);
                self.positions[lane.level.index()].store(next.0, Ordering::Relaxed);
            }
        }
        file.write()
    }

    /// Delivers what is due and returns when to come back; never, once the store has latched.
    pub fn step(&self, now: Millis) -> Next {
        if is_latched(&self.shared.store) {
            // Nothing is delivered before a restart, and no position becomes safe to write down: not to be called again.
            return Next::default();
        }
        let mut state = lock(&self.state);
        let State {
            lanes,
            batch,
            marks,
            last_end,
            ..
        } = &mut *state;
        let mut next = Next::default();
        for lane in lanes {
            if self.stopping.load(Ordering::Acquire) {
                break;
            }
            let before = lane.next();
            if let Some(end) = lane.serve(&self.shared, batch, now, &mut next) {
                *last_end = (*last_end).max(end);
            }
            if lane.next() != before {
                self.positions[lane.level.index()].store(lane.next().0, Ordering::Relaxed);
                marks.push_back(Mark {
                    level: lane.level,
                    next: lane.next(),
                    end: *last_end,
                });
            }
        }
        self.pass_safe(&mut state);
        self.keep(&mut state, now, &mut next);
        next
    }

    /// What has reached the disk may be written down.
    fn pass_safe(&self, state: &mut State) {
        let flushed = self.shared.store.flushed().value();
        while let Some(mark) = state.marks.front().filter(|mark| mark.end.0 <= flushed) {
            state.file.set(mark.level, mark.next);
            state.marks.pop_front();
        }
    }

    /// Writes the positions when it is time; asks to be called again only while there is something to write.
    fn keep(&self, state: &mut State, now: Millis, next: &mut Next) {
        let interval = self.flush_interval_ms;
        let has_news = |state: &State| !state.marks.is_empty() || state.file.is_changed();
        if !has_news(state) {
            state.flush_at = None;
            return;
        }
        let later = Millis(now.0.saturating_add(interval));
        // A time farther ahead than the interval belongs to a clock that was set back.
        match state.flush_at {
            None => state.flush_at = Some(later),
            Some(at) if now < at && at <= later => {}
            Some(_) => {
                self.write(state);
                state.flush_at = has_news(state).then_some(later);
            }
        }
        if let Some(at) = state.flush_at {
            next.by(at);
        }
    }

    fn write(&self, state: &mut State) {
        self.pass_safe(state);
        if let Err(error) = state.file.write() {
            tracing::error!("the delay positions could not be written: {error}");
        }
    }

    fn run(&self) {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        while !self.stopping.load(Ordering::Acquire) {
            let next = self.step(Millis::now());
            self.sleep(&next, &waker);
        }
    }

    /// Sleeps until it is time, an idle queue has grown, or somebody stops the thread.
    fn sleep(&self, next: &Next, waker: &Waker) {
        let pause = next
            .at
            .map(|at| at.since(Millis::now()).clamp(0, SLEEP_MS_MAX));
        if pause == Some(0) {
            return;
        }
        let mut waits: Vec<_> = next
            .idle
            .iter()
            .map(|(queue, at)| queue.dispatched().beyond(at.0))
            .collect();
        let mut context = Context::from_waker(waker);
        // Every wait is polled, or its queue would not wake this thread. They also end when the store stops.
        let mut ended = false;
        for wait in &mut waits {
            ended |= Pin::new(wait).poll(&mut context) == Poll::Ready(());
        }
        let grown = next.idle.iter().any(|(queue, at)| *at < queue.max());
        if grown || self.stopping.load(Ordering::Acquire) {
            return;
        }
        let pause = if ended { Some(SLEEP_MS_MAX) } else { pause };
        match pause.and_then(|pause| u64::try_from(pause).ok()) {
            Some(pause) => std::thread::park_timeout(Duration::from_millis(pause)),
            None => std::thread::park(),
        }
    }
}

/// Wakes the delay thread; a wake before the sleep is not lost, `park` returns at once then.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Positions only move past settled entries: after a panic they are behind at worst.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
