//! The key index: hash of `topic#key` to log offsets, in files of a fixed number of entries.
//!
//! Built on a thread of its own, from the keys that commits leave or, when those were too many or a restart came
//! between, from the log. Messages do not depend on it: what is lost of it is built again, and a disk that is full only
//! makes it lag. Queries see everything indexed so far, written or not.

mod file;

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

#[derive(Debug)]
struct Files {
    /// Oldest first.
    sealed: Vec<Arc<Sealed>>,
    active: Option<Active>,
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
                Ok(false) if self.indexed_to() < view.dispatcher.feed_from() => {
                    Some(Duration::ZERO)
                }
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
        Ok(!is_dirty && self.indexed_to() >= view.log.appended.value())
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
        let sealed = {
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
                    active.find(&wanted, &mut hits.offsets)?;
                }
                is_done = active.header.begin_time < wanted.begin;
            }
            if is_done {
                Vec::new()
            } else {
                files.sealed.clone()
            }
        };
        for (at, file) in sealed.iter().enumerate().rev() {
            if hits.offsets.len() >= wanted.max {
                break;
            }
            if file.header.overlaps(wanted.begin, wanted.end) {
                file.find(&wanted, &mut hits.offsets)?;
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
        let mut at = self.indexed_to();
        let mut cursor = Cursor::new(&view.log.chain, false);
        let mut keys = Vec::new();
        while at < to {
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_late {
                return Ok(false);
            }
            at = at.max(view.log.chain.min());
            let next = match cursor.step(at) {
                Step::Record(record) => {
                    keys.clear();
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
                    let behind = view.log.chain.find(at).map(|segment| segment.end());
                    behind.unwrap_or(to).min(to)
                }
            };
            for key in keys.drain(..) {
                self.put(state, view, &key)?;
            }
            at = next;
            self.indexed_to.store(at, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// Finds the files and what of them can be trusted.
    fn load(&self, state: &mut State, view: &IndexView<'_>) -> io::Result<()> {
        if state.files.is_some() {
            return Ok(());
        }
        let dir = self.paths.index();
        self.disk.create_dirs(&dir)?;
        let mut files = Files {
            sealed: Vec::new(),
            active: None,
        };
        let mut rebuilt_from = None;
        for path in self.candidates(view, &dir, &mut rebuilt_from)? {
            files
                .sealed
                .push(Arc::new(Sealed::open(&*self.disk, &path, self.layout)?));
        }
        let durable = state.durable.clone();
        let go_on = if durable.is_noted {
            self.go_by_note(&durable, &mut files)?
        } else {
            self.go_by_apache(&durable, &mut files)?
        };
        let last_is_open =
            files.active.is_none() && files.sealed.last().is_some_and(|last| !last.is_full());
        if last_is_open && let Some(last) = files.sealed.pop() {
            files.active = Arc::into_inner(last).map(Sealed::into_active);
        }
        let at = go_on
            .min(rebuilt_from.unwrap_or(go_on))
            .max(view.log.chain.min());
        let at = self.record_at_or_after(view, at);
        self.indexed_to.store(at, Ordering::Relaxed);
        let (file, header) = files.newest();
        note(
            state,
            view,
            Durable::noted(file, &header, at),
            header.end_time,
        );
        state.files = Some(files);
        Ok(())
    }

    /// Every file that can be an index file, oldest first. Others are set aside; what they held is indexed again.
    fn candidates(
        &self,
        view: &IndexView<'_>,
        dir: &Path,
        rebuilt_from: &mut Option<u64>,
    ) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for one in self.disk.list(dir)? {
            let path = dir.join(&one.name);
            if one.is_dir
                || one.name.len() != 17
                || !one.name.bytes().all(|byte| byte.is_ascii_digit())
            {
                tracing::warn!(path = %path.display(), "not an index file, left alone");
            } else if one.len == self.layout.file_len() {
                paths.push(path);
            } else {
                let begin = Sealed::open(&*self.disk, &path, self.layout)
                    .map_or(0, |file| file.header.begin_offset);
                *rebuilt_from = Some(rebuilt_from.map_or(begin, |from: u64| from.min(begin)));
                self.paths.set_aside(
                    &*self.disk,
                    view.counters,
                    &path,
                    "not the size of an index file",
                )?;
            }
        }
        Ok(paths)
    }

    /// Our own note says how far the files are right; after a crash, newer files go and slots are made again.
    fn go_by_note(&self, durable: &Durable, files: &mut Files) -> io::Result<u64> {
        let known = files
            .sealed
            .iter()
            .position(|file| file.name() == durable.file);
        let newer_from = match known {
            Some(at) => at + 1,
            // There was no file yet.
            None if durable.file.is_empty() => 0,
            // Another index than the one we knew.
            None => return self.go_by_apache(&Durable::default(), files),
        };
        let is_newest = newer_from == files.sealed.len();
        let is_as_noted = known.is_none_or(|at| files.sealed[at].header.next == durable.next);
        if durable.is_clean {
            // Else Apache went on with it.
            let is_same = is_newest && is_as_noted;
            return if is_same {
                Ok(durable.offset)
            } else {
                self.go_by_apache(&Durable::default(), files)
            };
        }
        for newer in files.sealed.split_off(newer_from) {
            self.disk.remove(&newer.path)?;
        }
        if is_as_noted && files.sealed.last().is_none_or(|last| last.is_full()) {
            return Ok(durable.offset);
        }
        if let Some(Ok(last)) = files.sealed.pop().map(Arc::try_unwrap) {
            let mut active = last.into_active();
            active.rebuild(durable.next, durable.log_end)?;
            if active.is_full() {
                active.sync()?;
                files.sealed.push(Arc::new(active.into_sealed()));
            } else {
                files.active = Some(active);
            }
        }
        Ok(durable.offset)
    }

    /// After a clean stop the files are right and end where the newest says; after a crash those are removed that end
    /// behind the checkpoint, and built again from where the first of them began.
    fn go_by_apache(&self, durable: &Durable, files: &mut Files) -> io::Result<u64> {
        let mut from = None;
        if let Some(until) = durable.trusted_until {
            let keep = files
                .sealed
                .iter()
                .position(|file| file.header.end_time > until)
                .unwrap_or(files.sealed.len());
            for doubtful in files.sealed.split_off(keep) {
                from = Some(from.unwrap_or(doubtful.header.begin_offset));
                tracing::info!(path = %doubtful.path.display(), "index file is built again");
                self.disk.remove(&doubtful.path)?;
            }
        }
        let behind_last = |last: &Arc<Sealed>| {
            if last.header.next > 1 {
                last.header.end_offset + 1
            } else {
                0
            }
        };
        Ok(from.unwrap_or_else(|| files.sealed.last().map_or(0, behind_last)))
    }

    /// The place itself if a record or the log's end is there, else the one behind the record that starts just before
    /// it (Apache notes the last indexed record, not its end), else the beginning of the segment.
    fn record_at_or_after(&self, view: &IndexView<'_>, at: u64) -> u64 {
        let mut cursor = Cursor::new(&view.log.chain, false);
        if at >= view.log.appended.value() {
            return view.log.appended.value();
        }
        if matches!(cursor.step(at), Step::Record(_) | Step::Next(_)) {
            return at;
        }
        if let Some(before) = at.checked_sub(1)
            && let Step::Record(record) = cursor.step(before)
        {
            return before + wide(record.len());
        }
        view.log
            .chain
            .find(at)
            .map_or(view.log.chain.min(), |segment| segment.start())
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

impl Files {
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
