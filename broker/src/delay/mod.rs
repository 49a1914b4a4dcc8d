//! Delayed messages: each waits in the queue of its level and is stored again under its real topic when it is due.
//!
//! What is due when is decided in `line`, one value a level; [`Delay`] reads queues and records, stores what is due
//! and keeps the positions in `delayOffset.json`. One thread serves all levels and sleeps until the next message is
//! due or an empty level gets one: an idle broker is never woken. A position is written only when everything before
//! it is on disk, so that a lost machine repeats messages and never loses one.
//! Levels and what a send does with them: [`Levels`], [`postpone`]. Not run by slaves.

mod due;
mod levels;
mod line;
mod offsets;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use bytes::Bytes;
use gantry_disk::Disk;
use gantry_message::{LogOffset, Millis, QueueOffset, RecordView, topic};
use gantry_store::{Batch, Entry, Outcome, Queue, Store};

pub use levels::{LEVELS_MAX, Level, Levels, LevelsError, Postponed, postpone};

use crate::stats::{GroupTopicCounters, Stats};
use crate::tables::TableError;
use line::{Bounds, Line, Plan};
use offsets::OffsetsFile;

/// Statistics group of delayed deliveries.
pub const SCHEDULE_CONSUMER: &str = "SCHEDULE_CONSUMER";

/// Entries looked at in one round of one level.
const ENTRIES_MAX: usize = 64;
/// Bytes stored at once; one message may be larger.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Tries to read a record before it is given up: a disk that fails once may not fail twice.
const READ_TRIES: u32 = 3;
/// Longest sleep while something waits for its time: bounds what a clock that jumped ahead can delay.
const SLEEP_MS_MAX: i64 = 1_000;
/// How long a stop waits for delivered messages to reach the disk, so that they are not delivered again.
const STOP_FLUSH_WAIT: Duration = Duration::from_secs(5);

/// The configuration keys of the same names.
#[derive(Clone, Copy, Debug)]
pub struct DelayConfig {
    /// `flushDelayOffsetInterval`, milliseconds.
    pub flush_interval_ms: i64,
    /// `enableScheduleMessageStats`.
    pub stats_enabled: bool,
}

/// All delay levels of one broker.
pub struct Delay {
    store: Arc<Store>,
    stats: Arc<Stats>,
    levels: Arc<Levels>,
    config: DelayConfig,
    /// Where each level stands, for who asks; `UNKNOWN` before anything is known.
    positions: Vec<AtomicU64>,
    state: Mutex<State>,
    stopping: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

const UNKNOWN: u64 = u64::MAX;

struct State {
    lanes: Vec<Lane>,
    batch: Batch,
    /// What was delivered and is not yet known to be on disk, oldest first.
    ///
    /// Invariant: `end` never goes back.
    unsafe_marks: VecDeque<Mark>,
    last_end: LogOffset,
    file: OffsetsFile,
    flush_at: Option<Millis>,
}

/// One level at work.
struct Lane {
    level: Level,
    queue: Arc<Queue>,
    line: Line,
    counters: Arc<GroupTopicCounters>,
    unreadable: Option<(QueueOffset, u32)>,
}

/// Level `index` stood at `next` when the log reached `end`.
struct Mark {
    index: usize,
    next: QueueOffset,
    end: LogOffset,
}

/// What [`Delay::step`] wants next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// Call again at this time; `None`: not for the time's sake.
    pub at: Option<Millis>,
    /// Levels with nothing in their queue, and the position their queue has to grow beyond.
    pub idle: Vec<(Level, QueueOffset)>,
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
        now: Millis,
    ) -> Result<Arc<Self>, TableError> {
        let DelayParts {
            store,
            stats,
            disk,
            config_folder,
        } = parts;
        let file = OffsetsFile::load(disk, &config_folder, now)?;
        let positions: Vec<_> = levels.iter().map(|_| AtomicU64::new(UNKNOWN)).collect();
        let mut lanes = Vec::with_capacity(levels.count());
        for level in levels.iter() {
            let queue = store.queue(topic::SCHEDULE, level.queue());
            let kept = file.position(level);
            let mut line = Line::new(levels.delay(level), kept.unwrap_or(queue.min()));
            let bounds = bounds(&queue);
            // The plan is made by the first step; only the clamping is wanted here.
            let _ = line.position(bounds, Millis(0));
            if let Some(kept) = kept {
                if kept != line.next() {
                    tracing::warn!(
                        "delay level {}: position {kept} is outside the queue ({} to {}), continuing at {}",
                        level.number(),
                        bounds.min,
                        bounds.max,
                        line.next()
                    );
                }
                positions[level.index()].store(line.next().0, Ordering::Relaxed);
            }
            let counters = stats.group_topic(SCHEDULE_CONSUMER, topic::SCHEDULE);
            lanes.push(Lane {
                level,
                queue,
                line,
                counters,
                unreadable: None,
            });
        }
        let last_end = store.max_offset();
        let state = State {
            lanes,
            batch: store.batch(),
            unsafe_marks: VecDeque::new(),
            last_end,
            file,
            flush_at: None,
        };
        Ok(Arc::new(Self {
            store,
            stats,
            levels,
            config,
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

    /// Ends the thread, waits until what was delivered is on disk, and writes the positions. To be called before the
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
        if let Some(last) = state.unsafe_marks.back() {
            let deadline = std::time::Instant::now() + STOP_FLUSH_WAIT;
            // What is not on disk by then is not written down, and delivered again after the restart.
            let _ = self
                .store
                .flushed()
                .wait_blocking(last.end.0.saturating_sub(1), Some(deadline));
        }
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

    /// Delivers what is due and returns when to come back.
    pub fn step(&self, now: Millis) -> Next {
        let mut state = lock(&self.state);
        let State {
            lanes,
            batch,
            unsafe_marks,
            last_end,
            ..
        } = &mut *state;
        let mut next = Next::default();
        for lane in lanes {
            if self.stopping.load(Ordering::Acquire) {
                break;
            }
            let before = lane.line.next();
            self.serve(lane, batch, last_end, now, &mut next);
            if lane.line.next() != before {
                self.positions[lane.level.index()].store(lane.line.next().0, Ordering::Relaxed);
                unsafe_marks.push_back(Mark {
                    index: lane.level.index(),
                    next: lane.line.next(),
                    end: *last_end,
                });
            }
        }
        self.pass_safe(&mut state);
        self.flush_positions(&mut state, now, &mut next);
        next
    }

    /// One round of one level.
    fn serve(
        &self,
        lane: &mut Lane,
        batch: &mut Batch,
        last_end: &mut LogOffset,
        now: Millis,
        next: &mut Next,
    ) {
        let from = match lane.line.position(bounds(&lane.queue), now) {
            Ok(from) => from,
            Err(plan) => return note(lane, plan, next),
        };
        let entries = self.store.queue_entries(&lane.queue, from, ENTRIES_MAX);
        if entries.is_empty() {
            tracing::warn!(
                "delay level {}: queue entries from {from} cannot be read",
                lane.level.number()
            );
            return next.by(lane.line.failed(now));
        }
        let due: Vec<_> = entries
            .iter()
            .map(|entry| Millis(entry.tags_code))
            .collect();
        match lane.line.plan(&due, now) {
            Plan::Deliver(count) => {
                self.deliver(lane, batch, &entries[..count], last_end, now, next);
            }
            plan => note(lane, plan, next),
        }
    }

    /// Stores due entries in one commit. Entries that can never be delivered are named in the log and passed over;
    /// the first that failed for now ends the round.
    fn deliver(
        &self,
        lane: &mut Lane,
        batch: &mut Batch,
        entries: &[Entry],
        last_end: &mut LogOffset,
        now: Millis,
        next: &mut Next,
    ) {
        batch.clear();
        let first = lane.line.next();
        let mut staged = Vec::with_capacity(entries.len());
        let mut failure = None;
        for (at, entry) in (first.0..).map(QueueOffset).zip(entries) {
            if lane.line.is_settled(at) {
                continue;
            }
            if BATCH_BYTES_MAX <= batch.bytes() {
                break;
            }
            match self.stage(lane, batch, at, entry) {
                Ok(Some(delivery)) => staged.push((at, delivery)),
                Ok(None) => lane.line.settle(at),
                Err(error) => {
                    failure = Some((at, error));
                    break;
                }
            }
        }
        if !staged.is_empty() {
            self.store.commit(batch);
        }
        for (at, delivery) in staged {
            match batch.outcome(delivery.index) {
                Outcome::Stored { end, .. } => {
                    lane.line.settle(at);
                    *last_end = (*last_end).max(*end);
                    self.count(lane, &delivery);
                }
                Outcome::Refused(error) => {
                    failure = failure
                        .filter(|(earlier, _)| *earlier < at)
                        .or_else(|| Some((at, error.to_string())));
                }
            }
        }
        match failure {
            None => next.by(now),
            Some((at, error)) => {
                let first_time = !lane.line.is_paused();
                next.by(lane.line.failed(now));
                if first_time || lane.line.is_stuck() {
                    tracing::error!(
                        "delay level {}: the message at {at} cannot be delivered now, trying again: {error}",
                        lane.level.number()
                    );
                }
            }
        }
    }

    /// Encodes one due message into the batch. `None`: it can never be delivered, and the log says so.
    fn stage(
        &self,
        lane: &mut Lane,
        batch: &mut Batch,
        at: QueueOffset,
        entry: &Entry,
    ) -> Result<Option<Delivery>, String> {
        let skipped = |reason: &dyn std::fmt::Display| {
            tracing::error!(
                "delay level {}: the message at {at} (commit log {}, {} bytes) is passed over: {reason}",
                lane.level.number(),
                entry.log_offset,
                entry.size
            );
        };
        let bytes: Bytes = match self.store.record_at(entry.log_offset) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                skipped(&"the commit log has no record there");
                return Ok(None);
            }
            Err(error) => {
                let tries = lane
                    .unreadable
                    .filter(|(failed, _)| *failed == at)
                    .map_or(1, |(_, tries)| tries + 1);
                if tries < READ_TRIES {
                    lane.unreadable = Some((at, tries));
                    return Err(error.to_string());
                }
                lane.unreadable = None;
                skipped(&error);
                return Ok(None);
            }
        };
        let view = match RecordView::parse(&bytes) {
            Ok(view) => view,
            Err(error) => {
                skipped(&error);
                return Ok(None);
            }
        };
        let due = match due::revive(&view) {
            Ok(due) => due,
            Err(reason) => {
                skipped(&reason);
                return Ok(None);
            }
        };
        let queue = self.store.queue(due.record.topic, due.record.queue_id);
        let size = due.record.encoded_len();
        let index = batch
            .stage(&queue, &due.record, due.tags)
            .map_err(|error| error.to_string())?;
        Ok(Some(Delivery {
            index,
            queue,
            bytes: size as u64,
        }))
    }

    fn count(&self, lane: &Lane, delivery: &Delivery) {
        let topic = self.stats.topic(delivery.queue.topic());
        self.stats
            .stored(&topic, delivery.queue.id(), 1, delivery.bytes);
        if self.config.stats_enabled {
            self.stats
                .delivered(&lane.counters, lane.level.queue(), 1, delivery.bytes);
        }
    }

    /// Writes the positions when it is time; asks to be called again only while there is something to write.
    fn flush_positions(&self, state: &mut State, now: Millis, next: &mut Next) {
        if state.unsafe_marks.is_empty() && !state.file.is_changed() {
            state.flush_at = None;
            return;
        }
        let interval = self.config.flush_interval_ms;
        match state.flush_at {
            // A time farther ahead than the interval belongs to a clock that was set back.
            Some(at) if now < at && at.0 - now.0 <= interval => next.by(at),
            None => {
                let at = Millis(now.0.saturating_add(interval));
                state.flush_at = Some(at);
                next.by(at);
            }
            Some(_) => {
                self.write(state);
                let at = Millis(now.0.saturating_add(interval));
                state.flush_at = Some(at);
                if !state.unsafe_marks.is_empty() || state.file.is_changed() {
                    next.by(at);
                }
            }
        }
    }

    /// What has reached the disk may be written down.
    fn pass_safe(&self, state: &mut State) {
        let flushed = self.store.flushed().value();
        while let Some(mark) = state
            .unsafe_marks
            .front()
            .filter(|mark| mark.end.0 <= flushed)
        {
            state.file.set(state.lanes[mark.index].level, mark.next);
            state.unsafe_marks.pop_front();
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

    /// Sleeps until it is time, an idle level has grown, or somebody stops the thread.
    fn sleep(&self, next: &Next, waker: &Waker) {
        let pause = next
            .at
            .map(|at| at.since(Millis::now()).clamp(0, SLEEP_MS_MAX));
        if pause == Some(0) {
            return;
        }
        let queues: Vec<_> = next
            .idle
            .iter()
            .map(|(level, at)| (self.store.queue(topic::SCHEDULE, level.queue()), *at))
            .collect();
        let mut growing: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> =
            Vec::with_capacity(queues.len());
        for (queue, at) in &queues {
            growing.push(Box::pin(async move {
                queue.dispatched().beyond(at.0).await;
            }));
        }
        let mut context = Context::from_waker(waker);
        // Every wait is polled, or its queue would not wake this thread. They also end when the store stops.
        let mut ended = false;
        for growing in &mut growing {
            ended |= growing.as_mut().poll(&mut context) == Poll::Ready(());
        }
        let grown = queues.iter().any(|(queue, at)| *at < queue.max());
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

/// What [`Delay::load`] is made of.
pub struct DelayParts {
    /// Where messages wait and go.
    pub store: Arc<Store>,
    /// What counts them.
    pub stats: Arc<Stats>,
    /// Where the positions are kept.
    pub disk: Arc<dyn Disk>,
    /// The `config` folder of the store.
    pub config_folder: std::path::PathBuf,
}

/// One message staged for its real queue.
struct Delivery {
    index: usize,
    queue: Arc<Queue>,
    bytes: u64,
}

/// Wakes the delay thread; a wake before the sleep is not lost, `park` returns at once then.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn note(lane: &Lane, plan: Plan, next: &mut Next) {
    match plan {
        Plan::Idle => next.idle.push((lane.level, lane.line.next())),
        Plan::Wait(until) => next.by(until),
        Plan::Deliver(_) => {}
    }
}

fn bounds(queue: &Queue) -> Bounds {
    Bounds {
        min: queue.min(),
        max: queue.max(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Positions only move past settled entries: after a panic they are behind at worst.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
