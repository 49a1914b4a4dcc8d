//! The key index: hash of `topic#key` to log offsets, in files of a fixed number of entries.
//!
//! Built on a thread of its own, from the keys that commits leave or, when those were too many or a restart came
//! between, from the log. Messages do not depend on it: what is lost of it is built again, and a disk that is full only
//! makes it lag. Queries see everything indexed so far, written or not.

mod file;
mod gap;
mod loader;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gantry_disk::Disk;
use gantry_message::{JavaHash, Millis};

use crate::bell::Bell;
use crate::config::Clock;
use crate::cursor::{Cursor, Step};
use crate::dispatcher::{Dispatcher, IndexKey};
use crate::figures::Counters;
use crate::flusher::QueueWriter;
use crate::format::index::{Header, Layout, hashes, stored_hash};
use crate::health::{Fault, Health};
use crate::log::{Log, may_pass};
use crate::paths::Paths;
use crate::width::wide;
use file::{Active, Sealed, Wanted};
use gap::Gap;

/// Keys are collected so long before they are put into the file.
const COLLECT: Duration = Duration::from_millis(5);
/// Entries wait so long in memory at most.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Entries, slots and header are synced so often while they change.
const SYNC_EVERY: Duration = Duration::from_secs(10);
/// So long the log is read when the store stops.
const LAST: Duration = Duration::from_secs(1);
/// So long the log is read before queries get their turn.
const CATCH_UP: Duration = Duration::from_millis(50);
/// After an error the index rests so long.
const REST: Duration = Duration::from_secs(10);

/// The key index.
#[derive(Debug)]
pub(crate) struct Index {
    disk: Arc<dyn Disk>,
    paths: Paths,
    layout: Layout,
    clock: Clock,
    /// Everything below is indexed.
    indexed_to: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What was durable when the index was last synced, and where to go on from there.
    durable: Durable,
    /// Not loaded yet, or to be loaded again after an error.
    files: Option<Files>,
    spare: Vec<IndexKey>,
    wrote_at: Instant,
    synced_at: Instant,
}

#[derive(Debug, Default)]
struct Files {
    /// Oldest first.
    sealed: Vec<Arc<Sealed>>,
    active: Option<Active>,
    /// Files that have no name any more, but are read until what they held is indexed again.
    leaving: Vec<Arc<Sealed>>,
    /// Where that is.
    leaving_until: u64,
    /// Files that are made again.
    gaps: VecDeque<Gap>,
}

/// How the index stood when it was last synced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Durable {
    pub(crate) file: String,
    pub(crate) next: u32,
    pub(crate) offset: u64,
    /// We noted this ourselves; else it says nothing.
    pub(crate) is_noted: bool,
    /// The last stop was clean: the files are right as they are.
    pub(crate) is_clean: bool,
    /// Where the log ended when the store was opened: what points further is of messages that a power cut took.
    pub(crate) log_end: u64,
    /// Without our own note of it: until when Apache's checkpoint says the files are right; `None` after a clean stop.
    pub(crate) trusted_until: Option<Millis>,
}

/// How much an index step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// What is due, in small portions.
    Regular,
    /// Everything.
    All,
    /// Everything that can be done while a stop waits for it.
    Last,
}

/// What an index step works with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexView<'a> {
    pub(crate) log: &'a Log,
    pub(crate) dispatcher: &'a Dispatcher,
    pub(crate) writer: &'a QueueWriter,
    pub(crate) health: &'a Health,
    pub(crate) counters: &'a Counters,
    pub(crate) stop: &'a AtomicBool,
}

/// Log offsets by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hits {
    /// Ascending.
    pub(crate) offsets: Vec<u64>,
    pub(crate) last_time: Millis,
    pub(crate) last_offset: u64,
}

impl Durable {
    fn noted(file: String, header: &Header, offset: u64) -> Self {
        let next = header.next;
        Self {
            file,
            next,
            offset,
            is_noted: true,
            is_clean: false,
            log_end: u64::MAX,
            trusted_until: None,
        }
    }
}

impl Index {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        paths: Paths,
        layout: Layout,
        clock: Clock,
        durable: Durable,
    ) -> Self {
        let now = Instant::now();
        let indexed_to = AtomicU64::new(durable.offset);
        let state = State {
            durable,
            files: None,
            spare: Vec::new(),
            wrote_at: now,
            synced_at: now,
        };
        Self {
            disk,
            paths,
            layout,
            clock,
            indexed_to,
            state: Mutex::new(state),
        }
    }

    pub(crate) fn indexed_to(&self) -> u64 {
        self.indexed_to.load(Ordering::Relaxed)
    }

    /// The thread, until it is stopped.
    pub(crate) fn run(&self, view: &IndexView<'_>) {
        let stopped = || view.stop.load(Ordering::Acquire);
        let bell: &Bell = &view.dispatcher.index;
        bell.ring();
        let mut wait = None;
        while !stopped() {
            if bell.wait(wait) && !stopped() {
                std::thread::park_timeout(COLLECT);
            }
            wait = match self.step(view, Effort::Regular) {
                Ok(true) => None,
                Ok(false) if self.is_behind(view) => Some(Duration::ZERO),
                Ok(false) => Some(WRITE_EVERY),
                Err(error) => {
                    self.give_up(view, &error);
                    if view.health.latched().is_some() {
                        return;
                    }
                    let until = Instant::now() + REST;
                    while !stopped() && Instant::now() < until {
                        std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
                    }
                    bell.ring();
                    None
                }
            };
        }
    }

    /// Whether there is something to be read from the log.
    fn is_behind(&self, view: &IndexView<'_>) -> bool {
        let has_gaps = self.lock().files.as_ref().is_some_and(Files::has_gaps);
        has_gaps || self.indexed_to() < view.dispatcher.feed_from()
    }

    /// Indexes what is there; syncs when it is time, or now. Returns whether nothing is left to be written.
    pub(crate) fn step(&self, view: &IndexView<'_>, effort: Effort) -> io::Result<bool> {
        let mut state = self.lock();
        self.load(&mut state, view)?;
        let deadline = match effort {
            Effort::Regular => Some(Instant::now() + CATCH_UP),
            Effort::Last => Some(Instant::now() + LAST),
            Effort::All => None,
        };
        if self.catch_up(&mut state, view, view.dispatcher.feed_from(), deadline)? {
            let spare = std::mem::take(&mut state.spare);
            let mut feed = view.dispatcher.take_feed(spare);
            // Too many keys came in between: the first of them are in the log only. When that takes too long, the rest of
            // them will be read from there as well.
            if self.catch_up(&mut state, view, feed.from, deadline)? {
                let from = self.indexed_to();
                for key in feed.keys.iter().filter(|key| key.offset >= from) {
                    self.put(&mut state, view, key)?;
                }
                self.indexed_to.store(feed.to.max(from), Ordering::Relaxed);
            }
            feed.keys.clear();
            state.spare = feed.keys;
        }
        if let Some(files) = state.files.as_mut() {
            if files.leaving_until <= self.indexed_to() {
                files.leaving.clear();
            }
            if effort != Effort::Last {
                self.fill_gaps(files, view, deadline)?;
            }
        }
        let now = Instant::now();
        if effort != Effort::Regular || now - state.synced_at >= SYNC_EVERY {
            self.sync(&mut state, view)?;
        } else if now - state.wrote_at >= WRITE_EVERY {
            state.wrote_at = now;
            if let Some(active) = state.active() {
                active.write_entries()?;
            }
        }
        let is_dirty = state.active().is_some_and(|active| active.is_dirty());
        let has_gaps = state.files.as_ref().is_some_and(Files::has_gaps);
        Ok(!is_dirty && !has_gaps && self.indexed_to() >= view.log.appended.value())
    }

    /// Log offsets of a key's messages in a time range.
    pub(crate) fn find(
        &self,
        view: &IndexView<'_>,
        topic: &str,
        key: &str,
        range: (Millis, Millis),
        max: usize,
    ) -> io::Result<Hits> {
        let hash = stored_hash(
            JavaHash(0)
                .then(topic.as_bytes())
                .then(b"#")
                .then(key.as_bytes())
                .0,
        );
        let wanted = Wanted {
            hash,
            begin: range.0,
            end: range.1,
            max,
        };
        let mut hits = Hits::default();
        let (sealed, leaving) = {
            let mut state = self.lock();
            self.load(&mut state, view)?;
            let Some(files) = state.files.as_mut() else {
                return Ok(hits);
            };
            let (_, newest) = files.newest();
            (hits.last_time, hits.last_offset) = (newest.end_time, newest.end_offset);
            let mut is_done = false;
            if let Some(active) = &mut files.active {
                if active.header.overlaps(wanted.begin, wanted.end) {
                    active.find(&wanted, &mut hits.offsets, view.counters)?;
                }
                is_done = active.header.begin_time < wanted.begin;
            }
            let sealed = if is_done {
                Vec::new()
            } else {
                files.sealed.clone()
            };
            (sealed, files.leaving.clone())
        };
        for file in leaving.iter().rev() {
            if file.header.overlaps(wanted.begin, wanted.end) {
                file.find(&wanted, &mut hits.offsets, view.counters);
            }
        }
        for (at, file) in sealed.iter().enumerate().rev() {
            if hits.offsets.len() >= wanted.max {
                break;
            }
            if file.header.overlaps(wanted.begin, wanted.end) {
                file.find(&wanted, &mut hits.offsets, view.counters);
            }
            // Older files hold nothing newer, unless this header is damaged, which their order shows.
            let older = at.checked_sub(1).map(|at| sealed[at].header.begin_time);
            let begin = file.header.begin_time;
            if begin < wanted.begin && older.is_none_or(|older| older <= begin) {
                break;
            }
        }
        hits.offsets.sort_unstable();
        hits.offsets.dedup();
        Ok(hits)
    }

    /// Deletes the oldest files whose messages are all gone from the log; the newest file always stays. Returns whether
    /// there is nothing left to delete; before the files are loaded nobody knows.
    pub(crate) fn clean(&self, log_min: u64) -> bool {
        let mut state = self.lock();
        let Some(files) = state.files.as_mut() else {
            return false;
        };
        while let Some(oldest) = files.sealed.first() {
            let is_newest = files.sealed.len() == 1 && files.active.is_none();
            if is_newest || oldest.header.end_offset >= log_min {
                break;
            }
            let path = &oldest.path;
            if let Err(error) = self.disk.remove(path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove an expired index file");
                return false;
            }
            tracing::info!(path = %path.display(), "removed an expired index file");
            files.sealed.remove(0);
        }
        true
    }

    /// Forgets what is in memory; the next step loads the files again as after a crash.
    pub(crate) fn give_up(&self, view: &IndexView<'_>, error: &io::Error) {
        let dir = self.paths.index();
        if may_pass(error) {
            tracing::warn!(dir = %dir.display(), %error, "the index waits");
        } else {
            view.health.latch(Fault::Write, &dir, error);
        }
        let mut state = self.lock();
        state.files = None;
        self.indexed_to
            .store(state.durable.offset, Ordering::Relaxed);
    }

    fn put(&self, state: &mut State, view: &IndexView<'_>, key: &IndexKey) -> io::Result<()> {
        if state.active().is_some_and(|active| active.is_full()) {
            self.seal(state, view)?;
        }
        let Some(files) = state.files.as_mut() else {
            return Ok(());
        };
        if files.active.is_none() {
            let before = files.sealed.last().map(|last| last.header);
            let path = self.new_path(files.sealed.last().map(|last| last.path.as_path()));
            files.active = Some(Active::create(
                &*self.disk,
                &path,
                self.layout,
                before.as_ref(),
            )?);
        }
        files
            .active
            .as_mut()
            .map_or(Ok(()), |active| active.put(key))
    }

    /// The full file is synced and added to no more. What is noted is the place of the last key: the message it belongs
    /// to may have further keys in the next file.
    fn seal(&self, state: &mut State, view: &IndexView<'_>) -> io::Result<()> {
        let Some(files) = state.files.as_mut() else {
            return Ok(());
        };
        let Some(mut active) = files.active.take() else {
            return Ok(());
        };
        let synced = active.sync();
        if let Err(error) = synced {
            files.active = Some(active);
            return Err(error);
        }
        let header = active.header;
        let durable = Durable::noted(active.name(), &header, header.end_offset);
        files.sealed.push(Arc::new(active.into_sealed()));
        note(state, view, durable, header.end_time);
        Ok(())
    }

    fn sync(&self, state: &mut State, view: &IndexView<'_>) -> io::Result<()> {
        state.synced_at = Instant::now();
        state.wrote_at = state.synced_at;
        let offset = self.indexed_to();
        let Some(files) = state.files.as_mut() else {
            return Ok(());
        };
        if let Some(active) = files.active.as_mut().filter(|active| active.is_dirty()) {
            active.sync()?;
        }
        let (file, header) = files.newest();
        let durable = Durable::noted(file, &header, offset);
        if durable != state.durable {
            note(state, view, durable, header.end_time);
        }
        Ok(())
    }

    /// Reads the log up to `to`, where what was fed begins. Returns false when it stopped before.
    fn catch_up(
        &self,
        state: &mut State,
        view: &IndexView<'_>,
        to: u64,
        deadline: Option<Instant>,
    ) -> io::Result<bool> {
        let mut reader = KeyReader::new(view, self.indexed_to(), to);
        while reader.at < to {
            if is_over(deadline) {
                return Ok(false);
            }
            for key in reader.next() {
                self.put(state, view, &key)?;
            }
            self.indexed_to.store(reader.at, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// Local time to the millisecond, as Apache names them, but always behind the newest.
    fn new_path(&self, newest: Option<&Path>) -> PathBuf {
        let newest = newest
            .and_then(|path| path.file_name()?.to_str()?.parse().ok())
            .unwrap_or(0_u64);
        let name = local_name(self.clock.now()).max(newest + 1);
        self.paths.index().join(format!("{name:017}"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the keys of a part of the log, record by record.
struct KeyReader<'a> {
    view: &'a IndexView<'a>,
    cursor: Cursor<'a>,
    at: u64,
    to: u64,
}

impl<'a> KeyReader<'a> {
    fn new(view: &'a IndexView<'a>, at: u64, to: u64) -> Self {
        let cursor = Cursor::new(&view.log.chain, false);
        Self {
            view,
            cursor,
            at,
            to,
        }
    }

    /// The keys of the record that comes next, if it has some.
    fn next(&mut self) -> Vec<IndexKey> {
        let at = self.at.max(self.view.log.chain.min());
        let mut keys = Vec::new();
        self.at = match self.cursor.step(at) {
            Step::Record(record) => {
                let time = record.store_time();
                keys.extend(hashes(&record).map(|hash| IndexKey {
                    hash,
                    offset: at,
                    time,
                }));
                at + wide(record.len())
            }
            Step::Next(next) => next,
            // Damage, or the log was cleaned away under us: recovery and the reader speak of that.
            Step::End | Step::Unreadable(_) => {
                let behind = self.view.log.chain.find(at).map(|segment| segment.end());
                behind.unwrap_or(self.to).min(self.to)
            }
        };
        keys
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

impl Files {
    fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// Name and header of the newest file.
    fn newest(&self) -> (String, Header) {
        match (&self.active, self.sealed.last()) {
            (Some(active), _) => (active.name(), active.header),
            (None, Some(sealed)) => (sealed.name(), sealed.header),
            (None, None) => (String::new(), Header::default()),
        }
    }
}

impl State {
    fn active(&mut self) -> Option<&mut Active> {
        self.files.as_mut()?.active.as_mut()
    }
}

fn note(state: &mut State, view: &IndexView<'_>, durable: Durable, time: Millis) {
    view.writer
        .note_index(&durable.file, durable.next, durable.offset, time);
    state.durable = durable;
}

/// `yyyyMMddHHmmssSSS` as a number.
fn local_name(now: Millis) -> u64 {
    let time = jiff::Timestamp::from_millisecond(now.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let local = time.to_zoned(jiff::tz::TimeZone::system());
    local
        .strftime("%Y%m%d%H%M%S%3f")
        .to_string()
        .parse()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_local_times_of_17_digits() {
        let name = local_name(Millis(1_700_000_000_123));
        assert_eq!(name.to_string().len(), 17);
        assert!(name.to_string().ends_with("20123"), "{name}");
    }

    #[test]
    fn a_header_overlaps_what_it_touches() {
        let header = Header {
            begin_time: Millis(10),
            end_time: Millis(20),
            ..Header::default()
        };
        for (begin, end, expected) in [
            (0, 9, false),
            (0, 10, true),
            (20, 30, true),
            (21, 30, false),
            (12, 13, true),
        ] {
            assert_eq!(
                header.overlaps(Millis(begin), Millis(end)),
                expected,
                "{begin}..{end}"
            );
        }
    }
}
