//! The log: one writer at a time, whoever holds the lock.
//!
//! A commit plans (places, segment ends, queue offsets), fills the holes, writes, and only then makes anything visible:
//! queue entries first, then `appended`, then each queue's `dispatched`. A commit that fails leaves position, queues and
//! watermarks as they were and zeroes what it may have written.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gantry_disk::is_no_space;
use gantry_message::{LogOffset, Millis, QueueOffset, patch};

use crate::batch::{Batch, NOT_STORED, Outcome, Tags};
use crate::chain::Chain;
use crate::config::Clock;
use crate::copy::{Copy, CopyError, Growth};
use crate::dispatcher::Dispatcher;
use crate::error::AppendError;
use crate::figures::{Counters, SyncTimes};
use crate::format::blank;
use crate::format::progress::Mark;
use crate::health::{Fault, Health};
use crate::preallocation::Preallocation;
use crate::queue::Queue;
use crate::segment::Segment;
use crate::watermark::Watermark;
use crate::width::wide;

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) chain: Chain,
    pub(crate) preallocation: Preallocation,
    /// Invariant: the end of what is written and dispatched; at most the end of the last segment.
    pub(crate) appended: Watermark,
    /// Invariant: at most `appended`; advanced only while `flushing` is held.
    pub(crate) flushed: Watermark,
    /// One sync of the log at a time: of two, the one that began first would end with the lower position.
    pub(crate) flushing: Mutex<()>,
    pub(crate) syncs: SyncTimes,
    health: Arc<Health>,
    clock: Clock,
    state: Mutex<State>,
    /// When the running commit began; 0: none runs.
    locked_at: AtomicI64,
}

#[derive(Debug)]
struct State {
    /// Where the next record goes.
    end: u64,
    /// The segment with `end` in it, or the full one before it; `None` while the log has none.
    active: Option<Arc<Segment>>,
    /// Invariant: the newest store time; the next one is not before it.
    last_time: Millis,
    /// Where the last record starts.
    last_record: u64,
    /// Invariant: what the ends of all queues add up to.
    entries: u64,
    /// The start of the segment that was asked for last.
    wanted: u64,
    runs: Vec<Run>,
    fresh: Vec<Arc<Segment>>,
}

/// Bytes of the batch that go to one place.
#[derive(Debug)]
struct Run {
    segment: Arc<Segment>,
    at: u64,
    from: usize,
    to: usize,
    /// The segment's rest is closed with a blank record behind them.
    closes: bool,
}

/// Where a log stands when it is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) end: u64,
    pub(crate) last_time: Millis,
    pub(crate) last_record: u64,
    /// What the ends of all queues add up to.
    pub(crate) entries: u64,
}

impl From<Position> for Mark {
    fn from(position: Position) -> Self {
        Self {
            end: position.end,
            record: position.last_record,
            time: position.last_time,
            entries: position.entries,
        }
    }
}

impl State {
    /// Puts what a copy adds to a queue into its tail; the caller makes it visible.
    fn push_entries(&mut self, grown: &Growth, dispatcher: &Dispatcher) {
        let queue = &grown.queue;
        let before = queue.max().0;
        if let Some(first) = grown.begins_at {
            queue.begin_at(first);
        }
        for (entry, time) in &grown.entries {
            dispatcher.note(queue, queue.push(entry, *time));
        }
        self.entries += grown.next - before;
    }
}

impl Log {
    pub(crate) fn new(
        chain: Chain,
        preallocation: Preallocation,
        position: Position,
        health: Arc<Health>,
        clock: Clock,
    ) -> Self {
        let state = State {
            end: position.end,
            active: chain.last(),
            last_time: position.last_time,
            last_record: position.last_record,
            entries: position.entries,
            wanted: 0,
            runs: Vec::new(),
            fresh: Vec::new(),
        };
        Self {
            chain,
            preallocation,
            appended: Watermark::new(position.end),
            flushed: Watermark::new(position.end),
            flushing: Mutex::new(()),
            syncs: SyncTimes::default(),
            health,
            clock,
            state: Mutex::new(state),
            locked_at: AtomicI64::new(0),
        }
    }

    /// Stores the batch and makes it visible, or refuses all of it.
    pub(crate) fn commit(&self, batch: &mut Batch, dispatcher: &Dispatcher, counters: &Counters) {
        assert!(batch.outcomes.is_empty(), "a batch is committed once");
        let began = Instant::now();
        let mut state = self.lock();
        let now = self.clock.now().max(state.last_time);
        self.locked_at.store(now.0, Ordering::Relaxed);
        let done = self
            .health
            .check()
            .and_then(|()| self.store(&mut state, batch, now));
        match done {
            Ok(end) => {
                self.publish(&mut state, batch, end, now, dispatcher);
                counters.stored(
                    wide(batch.records.len()),
                    wide(batch.bytes.len()),
                    began.elapsed(),
                );
            }
            Err(error) => {
                self.preallocation.put_back(state.fresh.drain(..));
                counters.refused(&error, wide(batch.records.len()));
                batch.outcomes.clear();
                batch
                    .outcomes
                    .resize(batch.entries.len(), Outcome::Refused(error));
            }
        }
        state.runs.clear();
        self.locked_at.store(0, Ordering::Relaxed);
    }

    /// Returns when no commit is under way that began before: what it stores is visible then.
    pub(crate) fn settle(&self) {
        drop(self.lock());
    }

    /// Stores what was copied from another log, and makes it visible; false, and nothing is done: one of its queues was
    /// deleted meanwhile.
    pub(crate) fn copy(&self, copy: Copy<'_>, dispatcher: &Dispatcher) -> Result<bool, CopyError> {
        let mut state = self.lock();
        if copy.growth.iter().any(|grown| grown.queue.is_deleted()) {
            return Ok(false);
        }
        // A disk that is too full for new messages may still take what a master has already acknowledged.
        self.health.check_for_copy()?;
        let (at, end) = (copy.at, copy.at + wide(copy.bytes.len()));
        self.check_place_of_copy(&state, at)?;
        let segment = self.segment_of_copy(&state, at)?;
        if let Err(error) = segment.write(copy.bytes, at) {
            let path = Arc::clone(segment.path());
            if let Err(error) = segment.zero(at..end) {
                self.health.latch(Fault::Zero, &path, &error);
            }
            if is_no_space(&error) {
                let error = error.to_string().into();
                return Err(AppendError::NoSpace { path, error }.into());
            }
            return Err(self.health.latch(Fault::Write, &path, &error).into());
        }
        if state
            .active
            .as_ref()
            .is_none_or(|active| active.end() <= at)
        {
            state.active = Some(Arc::clone(&segment));
            self.chain.push(segment);
        }
        if let Some((record, time)) = copy.last {
            (state.last_record, state.last_time) = (record, time);
        }
        let start = state.end;
        state.end = end;
        for grown in copy.growth {
            state.push_entries(grown, dispatcher);
        }
        dispatcher.deliver_keys(copy.keys, start.max(at), end);
        self.appended.advance(end);
        for grown in copy.growth {
            grown.queue.dispatched().advance(grown.next);
        }
        self.want_next(&mut state);
        Ok(true)
    }

    /// Adds to a queue what stands for messages that are lost; what comes behind them is copied after. False: the queue
    /// is deleted.
    pub(crate) fn fill(&self, grown: &Growth, dispatcher: &Dispatcher) -> Result<bool, CopyError> {
        let mut state = self.lock();
        if grown.queue.is_deleted() {
            return Ok(false);
        }
        self.health.check_for_copy()?;
        state.push_entries(grown, dispatcher);
        grown.queue.dispatched().advance(grown.next);
        Ok(true)
    }

    /// Whether a copy can go on at `at`.
    pub(crate) fn check_place(&self, at: LogOffset) -> Result<(), CopyError> {
        self.check_place_of_copy(&self.lock(), at.0)
    }

    fn check_place_of_copy(&self, state: &State, at: u64) -> Result<(), CopyError> {
        let (size, is_first) = (
            self.preallocation.segment_size(),
            state.end == 0 && state.active.is_none(),
        );
        if !is_first && at != state.end {
            let (at, end) = (LogOffset(at), LogOffset(state.end));
            return Err(CopyError::NotNext { at, end });
        }
        if is_first && !at.is_multiple_of(size) {
            let (at, segment_size) = (LogOffset(at), size);
            return Err(CopyError::WithinSegment { at, segment_size });
        }
        Ok(())
    }

    /// The segment that holds the byte at `at`, made if the log goes on in a new one.
    fn segment_of_copy(&self, state: &State, at: u64) -> Result<Arc<Segment>, CopyError> {
        let size = self.preallocation.segment_size();
        if let Some(active) = state.active.as_ref().filter(|active| at < active.end()) {
            return Ok(Arc::clone(active));
        }
        if !at.is_multiple_of(size) {
            let at = LogOffset(at);
            return Err(CopyError::WithinSegment {
                at,
                segment_size: size,
            });
        }
        if i64::try_from(at.saturating_add(size)).is_err() {
            return Err(AppendError::LogFull { end: LogOffset(at) }.into());
        }
        let made = self.preallocation.take(at);
        Ok(made.map_err(|(path, error)| self.cannot_create(&path, &error))?)
    }

    /// Has the next segment made once half of this one is filled.
    fn want_next(&self, state: &mut State) {
        if let Some(active) = &state.active
            && active.end() - state.end < active.len() / 2
            && state.wanted != active.end()
        {
            state.wanted = active.end();
            self.preallocation.want(active.end());
        }
    }

    /// How long the running commit has held the log.
    pub(crate) fn locked_ms(&self) -> u64 {
        match self.locked_at.load(Ordering::Relaxed) {
            0 => 0,
            at => u64::try_from(self.clock.now().since(Millis(at))).unwrap_or(0),
        }
    }

    /// Where the last record starts, its store time, and the end of the log, all of one moment.
    pub(crate) fn position(&self) -> Position {
        let state = self.lock();
        Position {
            end: state.end,
            last_time: state.last_time,
            last_record: state.last_record,
            entries: state.entries,
        }
    }

    /// Lets no commit add any more to those of these queues that are unwanted now. Returns them, without those that were
    /// deleted before.
    pub(crate) fn delete(
        &self,
        queues: &[Arc<Queue>],
        is_unwanted: impl Fn(&Queue) -> bool,
    ) -> Vec<Arc<Queue>> {
        let mut state = self.lock();
        let mut deleted = queues.to_vec();
        deleted.retain(|queue| !queue.is_deleted() && is_unwanted(queue));
        for queue in &deleted {
            queue.delete();
            state.entries -= queue.max().0;
        }
        deleted
    }

    /// Runs `action` while no commit runs.
    pub(crate) fn between_commits<T>(&self, action: impl FnOnce() -> T) -> T {
        let _state = self.lock();
        action()
    }

    fn store(&self, state: &mut State, batch: &mut Batch, now: Millis) -> Result<u64, AppendError> {
        let end = self.plan(state, batch, now)?;
        let mut written = 0;
        let done = state.runs.iter().try_for_each(|run| {
            written += 1;
            run.write(&batch.bytes).map_err(|error| (run, error))
        });
        let Err((run, error)) = done else {
            return Ok(end);
        };
        let path = Arc::clone(run.segment.path());
        for run in &state.runs[..written] {
            if let Err(error) = run.undo() {
                self.health.latch(Fault::Zero, run.segment.path(), &error);
            }
        }
        if is_no_space(&error) {
            return Err(AppendError::NoSpace {
                path,
                error: error.to_string().into(),
            });
        }
        Err(self.health.latch(Fault::Write, &path, &error))
    }

    /// Gives every record its place and its offsets and fills the holes; nothing is written yet.
    fn plan(&self, state: &mut State, batch: &mut Batch, now: Millis) -> Result<u64, AppendError> {
        for touched in &mut batch.touched {
            touched.next = touched.queue.max().0;
        }
        let mut end = state.end;
        for at in 0..batch.entries.len() {
            let entry = batch.entries[at];
            let records = entry.first_record..entry.first_record + entry.records;
            let queue = batch.records[entry.first_record].queue;
            if batch.touched[queue].queue.is_deleted() {
                batch.records[records]
                    .iter_mut()
                    .for_each(|record| record.offset = NOT_STORED);
                let queue = &batch.touched[queue].queue;
                let gone = AppendError::QueueGone {
                    topic: queue.topic().into(),
                    id: queue.id(),
                };
                batch.outcomes.push(Outcome::Refused(gone));
                continue;
            }
            let segment = self.segment_for(state, &mut end, wide(entry.len))?;
            match state.runs.last_mut() {
                Some(run) if run.to == entry.start && !run.closes => run.to += entry.len,
                _ => state.runs.push(Run {
                    segment,
                    at: end,
                    from: entry.start,
                    to: entry.start + entry.len,
                    closes: false,
                }),
            }
            let first_queue_offset = batch.touched[queue].next;
            for record in &mut batch.records[records] {
                record.offset = end + wide(record.start - entry.start);
                record.queue_offset = 0;
                if record.is_queued {
                    record.queue_offset = batch.touched[queue].next;
                    batch.touched[queue].next += 1;
                }
                let bytes = &mut batch.bytes[record.start..record.start + record.len];
                patch(
                    bytes,
                    QueueOffset(record.queue_offset),
                    LogOffset(record.offset),
                    now,
                );
            }
            batch.outcomes.push(Outcome::Stored {
                offset: LogOffset(end),
                end: LogOffset(end + wide(entry.len)),
                queue_offset: QueueOffset(if batch.records[entry.first_record].is_queued {
                    first_queue_offset
                } else {
                    0
                }),
                store_time: now,
            });
            end += wide(entry.len);
        }
        Ok(end)
    }

    /// The segment that takes `len` bytes at `end`; closes the present one and moves `end` when it cannot.
    fn segment_for(
        &self,
        state: &mut State,
        end: &mut u64,
        len: u64,
    ) -> Result<Arc<Segment>, AppendError> {
        let active = state.fresh.last().or(state.active.as_ref());
        if let Some(active) = active {
            if *end + len + blank::LEN <= active.end() {
                return Ok(Arc::clone(active));
            }
            if *end + blank::LEN <= active.end() {
                let segment = Arc::clone(active);
                match state.runs.last_mut() {
                    Some(run) => run.closes = true,
                    None => state.runs.push(Run {
                        segment,
                        at: *end,
                        from: 0,
                        to: 0,
                        closes: true,
                    }),
                }
            }
        }
        let size = self.preallocation.segment_size();
        let start = active.map_or(*end - *end % size, |active| active.end());
        if i64::try_from(start.saturating_add(size)).is_err() {
            return Err(AppendError::LogFull {
                end: LogOffset(*end),
            });
        }
        let segment = self
            .preallocation
            .take(start)
            .map_err(|(path, error)| self.cannot_create(&path, &error))?;
        *end = start;
        state.fresh.push(Arc::clone(&segment));
        Ok(segment)
    }

    fn cannot_create(&self, path: &std::path::Path, error: &io::Error) -> AppendError {
        let text: Arc<str> = error.to_string().into();
        if is_no_space(error) {
            return AppendError::NoSpace {
                path: path.into(),
                error: text,
            };
        }
        if error.raw_os_error() == Some(EIO) {
            return self.health.latch(Fault::Create, path, error);
        }
        AppendError::Io {
            doing: "create",
            path: path.into(),
            error: text,
        }
    }

    fn publish(
        &self,
        state: &mut State,
        batch: &Batch,
        end: u64,
        now: Millis,
        dispatcher: &Dispatcher,
    ) {
        let start = state.end;
        if let Some(last) = batch
            .records
            .iter()
            .rev()
            .find(|record| record.offset != NOT_STORED)
        {
            state.last_record = last.offset;
            state.last_time = now;
        }
        for segment in state.fresh.drain(..) {
            state.active = Some(Arc::clone(&segment));
            self.chain.push(segment);
        }
        state.end = end;
        dispatcher.deliver(batch, start, end, now);
        self.appended.advance(end);
        for touched in &batch.touched {
            state.entries += touched.next - touched.queue.max().0;
            touched.queue.dispatched().advance(touched.next);
        }
        self.want_next(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let bytes = &bytes[self.from..self.to];
        if !self.closes {
            return self.segment.write(bytes, self.at);
        }
        let rest = self.segment.end() - self.at - wide(bytes.len());
        let blank = blank::encode(u32::try_from(rest).unwrap_or(u32::MAX));
        self.segment.write_parts(&[bytes, &blank], self.at)
    }

    fn undo(&self) -> io::Result<()> {
        let blank = if self.closes { blank::LEN } else { 0 };
        self.segment
            .zero(self.at..self.at + wide(self.to - self.from) + blank)
    }
}

const EIO: i32 = 5;
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
pub(crate) const ENOSPC: i32 = 28;
const EMFILE: i32 = 24;

/// Whether the system lacks something that may be there again soon: no fault of a file.
pub(crate) fn may_pass(error: &io::Error) -> bool {
    let lacks = [ENOMEM, ENFILE, EMFILE];
    is_no_space(error)
        || error
            .raw_os_error()
            .is_some_and(|errno| lacks.contains(&errno))
}

/// What the third field of a queue entry holds for a message stored at `now`.
pub(crate) fn tags_code(tags: Tags, now: Millis) -> i64 {
    match tags {
        Tags::Code(code) => code,
        Tags::DueAfter(delay) => now.plus(delay.0).0,
    }
}
