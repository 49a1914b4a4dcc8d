//! What is true after a stop: where the log ends, where every queue ends, what has to be written again.
//!
//! Order: segments, then the point from which queues may lag behind the log, then queues up to that point, then the log
//! from there on, record by record, into the queues. The point comes from our own progress file when it speaks of this
//! log, else from Apache's rules. Damage never stops the start: it is set aside, named and gone past.
//!
//! Worked example, `kill -9` in the middle of a commit: progress says "written up to 4096"; queues are cut to entries
//! below 4096; the log is read from 4096, two whole records are found and put into their queues, the third is torn: the
//! log ends before it and the rest of the segment is zeroed.

mod cut;
mod damage;
mod gaps;
mod made_up;
mod places;
mod told;

use std::path::Path;
use std::sync::Arc;

use gantry_disk::{Disk, Listed, is_no_space};
use gantry_message::{Millis, QueueId, RecordView, java_hash_bytes, properties, record, topic};

use rustc_hash::FxHashMap;

use crate::chain::Chain;
use crate::config::StoreConfig;
use crate::cursor::{Cursor, Reason, Step};
use crate::dispatcher::Dispatcher;
use crate::error::StoreError;
use crate::figures::Counters;
use crate::format::checkpoint::Checkpoint;
use crate::format::deletions::Deletions;
use crate::format::progress::{Mark, Progress, latest};
use crate::health;
use crate::log::Position;
use crate::paths::Paths;
use crate::queue::Queue;
use crate::queue_files::QueueFiles;
use crate::queue_loader::QueueLoader;
use crate::queues::Queues;
use crate::segment::Segment;
use crate::width::{narrow, wide};
pub use cut::Cut;
pub(crate) use cut::{deletions_that_count, note_deletions};
use made_up::MadeUp;
use places::{Beginnings, Losses};
use told::Told;
pub use told::{Phase, RecoveryWatch, Stage};

/// More missing segments in a row than this are not made up for.
const MISSING_SEGMENTS_MAX: u64 = 1024;
/// So much of the log is read between two words about it.
const TELL_EVERY: u64 = 1 << 20;
/// So many replayed entries may wait in memory.
const REPLAYED_MAX: u64 = 1 << 20;

/// What recovery works on.
pub(crate) struct Recovery<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) config: &'a StoreConfig,
    pub(crate) paths: &'a Paths,
    pub(crate) files: &'a QueueFiles,
    pub(crate) queues: &'a Queues,
    pub(crate) dispatcher: &'a Dispatcher,
    pub(crate) counters: &'a Counters,
    pub(crate) deletions: &'a Deletions,
    pub(crate) replay: Replay,
    /// What is to be taken away before anything is looked at.
    pub(crate) cut: Option<&'a Cut>,
    /// Which recovery this is: no other one has the same number.
    pub(crate) number: u64,
}

/// How much of the log is put into queues again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// What queues may lack.
    Lagging,
    /// All of it.
    All,
}

/// What recovery found.
pub(crate) struct Recovered {
    pub(crate) chain: Chain,
    pub(crate) position: Position,
    pub(crate) checkpoint: Checkpoint,
    /// Our own note of how far everything was, if it speaks of this log.
    pub(crate) progress: Option<Progress>,
    /// Whether the last process, Apache's or ours, stopped cleanly.
    pub(crate) was_stopped: bool,
    /// What was stored last before may be gone: the page cache that it was written to is, or a sync failed.
    pub(crate) may_lack_end: bool,
    /// Where this recovery put something in place of what was lost, and those before it.
    pub(crate) made_up: Vec<u64>,
    /// Queues with entries for which there is no space in files; they wait in memory.
    pub(crate) unwritten: Vec<Arc<Queue>>,
}

/// From where on queues may lack entries.
struct Start {
    at: u64,
    /// Everything in queue files that points below is right; otherwise their last entries are compared with the log.
    queues_trusted: bool,
    tail: Tail,
    /// From here on the log may have been written in parts.
    doubted_from: u64,
    /// But not what was stored until then: it was synced.
    synced_until: Millis,
    /// What was noted when the log ended at the start.
    mark: Option<Mark>,
    /// A sync failed before the stop: what is read may be nowhere but in memory, and not taken for a change any more.
    sync_failed: bool,
    /// Ends of queues, by slot, behind which their files hold nothing.
    clean_ends: FxHashMap<usize, u64>,
    /// Where queues begin, when they are made again.
    beginnings: Beginnings,
}

impl Start {
    /// Trusts nothing of what was noted: only entries that point before the log are taken from queue files.
    fn read_all(&mut self, chain: &Chain) {
        (self.at, self.tail, self.mark) = (chain.min(), Tail::Unknown, None);
        self.queues_trusted = true;
    }

    /// Whether an unreadable place is surely the end: no message can lie behind it. A page cache that still lives is no
    /// proof: a disk can have given other bytes back since.
    fn ends_the_log(&self, at: u64, reason: &Reason) -> bool {
        self.tail == Tail::Ended && at == self.at && *reason == Reason::Zeros
    }
}

/// What is known of the log behind the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// Nothing.
    Unknown,
    /// Everything was written in order: the page cache that was written to still lives.
    Written,
    /// The log ended at the start, and everything behind was zeros.
    Ended,
}

impl Recovery<'_> {
    pub(crate) fn run(
        &self,
        segment_size: u64,
        segments: Vec<Arc<Segment>>,
    ) -> Result<Recovered, StoreError> {
        let told = Told::new(&self.config.recovery_watch);
        let chain = Chain::new(segments);
        told.tell(Phase::Queues, 0, 0)?;
        let mut lost = self.fill_gaps(&chain, segment_size)?;
        let checkpoint = self
            .read(&self.paths.checkpoint())?
            .map(|bytes| Checkpoint::decode(&bytes))
            .unwrap_or_default();
        let progress = self.read(&self.paths.progress())?.and_then(|bytes| {
            let progress = Progress::decode(&bytes);
            if progress.is_none() {
                tracing::error!("the progress file is damaged, going by Apache's checkpoint");
            }
            progress
        });
        let was_stopped = self.meta(&self.paths.abort())?.is_none();
        let mut start = self.start(&chain, &checkpoint, progress.as_ref(), was_stopped);
        if let Some(cut) = self.cut {
            self.cut(&chain, cut, &mut start)?;
        }
        let is_noted = start.queues_trusted && self.cut.is_none();
        if self.replay == Replay::All {
            start.read_all(&chain);
        }
        let from = self.load_queues(&chain, &mut start)?;
        if start.tail != Tail::Ended {
            // An earlier recovery may have died between making up for one and what follows from it.
            lost.extend(self.empty_segments(&chain, start.at)?);
        }
        self.lose_entries(&chain, &lost)?;
        tracing::info!(
            from,
            clean = was_stopped,
            segments = chain.len(),
            "recovery starts"
        );
        let mut made_up = MadeUp::default();
        for range in &lost {
            made_up.add(&chain, range.clone());
        }
        let position = self.replay(&chain, from, (&start, &mut made_up), &told)?;
        if let Some(noted) = progress.as_ref().filter(|_| self.cut.is_none()) {
            self.name_what_is_missing(&chain, segment_size, position.end, noted);
        }
        let replayed = position.end - from;
        told.tell(Phase::Finish, replayed, replayed)?;
        self.finish_log(&chain, position.end, &start)?;
        self.write_queues()?;
        self.finish_queues(position.end, &start)?;
        tracing::info!(
            end = position.end,
            replayed,
            took_ms = told.took_ms(),
            "recovery is done"
        );
        let before = progress.as_ref().map(|progress| progress.made_up.clone());
        let kept = |at: &u64| self.cut.is_none_or(|cut| *at < cut.from.0);
        let all = before.into_iter().flatten().chain(made_up.places());
        let made_up = latest(all.filter(kept).collect());
        let mut progress = progress.filter(|_| is_noted);
        if let Some(progress) = progress.as_mut().filter(|_| self.replay == Replay::All) {
            // Queues that were not there then are there now, and not durably yet.
            progress.synced = Mark::default();
        }
        Ok(Recovered {
            made_up,
            chain,
            position,
            checkpoint,
            progress,
            was_stopped,
            may_lack_end: start.tail == Tail::Unknown,
            unwritten: self.dispatcher.take_dirty(),
        })
    }

    /// Names what was noted to be there and is not: segments that were lost whole leave no other trace at the log's ends.
    fn name_what_is_missing(&self, chain: &Chain, size: u64, end: u64, noted: &Progress) {
        let min = chain.min();
        if let Some(from) = noted.begin.filter(|&begin| begin < min) {
            let file = self.place_of(from, size);
            tracing::error!(file = %file.display(), from, to = min, "the log's first segments are missing, their messages are lost");
        }
        if end < noted.flushed {
            let file = self.place_of(end, size);
            tracing::error!(file = %file.display(), from = end, to = noted.flushed, "the log was durable further than it goes now, the messages behind are lost");
        } else if end < noted.written.end {
            let file = self.place_of(end, size);
            let to = noted.written.end;
            tracing::error!(file = %file.display(), from = end, to, "the log was written further than it goes now; the messages behind were not durable yet and are lost");
        }
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        gantry_disk::replace::read(&**self.disk, path).or_else(|error| {
            // A side file that cannot be read is as good as none: its content is found again from the log.
            tracing::warn!(path = %path.display(), %error, "cannot read");
            Ok(None)
        })
    }

    fn meta(&self, path: &Path) -> Result<Option<gantry_disk::Meta>, StoreError> {
        self.disk
            .meta(path)
            .map_err(StoreError::io("look at", path))
    }

    fn start(
        &self,
        chain: &Chain,
        checkpoint: &Checkpoint,
        progress: Option<&Progress>,
        was_stopped: bool,
    ) -> Start {
        let synced_until = checkpoint.trusted_until();
        let mut cursor = Cursor::new(chain, true);
        let mut speaks_of = |mark: &Mark| mark.end <= chain.min() || ends_at(&mut cursor, mark);
        if let Some(progress) = progress {
            let same_boot = self.disk.boot().is_some_and(|boot| boot == progress.boot);
            let clean = was_stopped && progress.clean;
            if (same_boot || clean) && speaks_of(&progress.written) {
                let at = progress.written.end.max(chain.min());
                let tail = if clean { Tail::Ended } else { Tail::Written };
                let doubted_from = if clean { u64::MAX } else { progress.flushed };
                return Start {
                    at,
                    queues_trusted: true,
                    tail,
                    doubted_from,
                    synced_until,
                    mark: Some(progress.written).filter(|mark| mark.end == at),
                    sync_failed: false,
                    clean_ends: FxHashMap::default(),
                    beginnings: Beginnings::default(),
                };
            }
            if speaks_of(&progress.synced) {
                let at = progress.synced.end.max(chain.min());
                return Start {
                    at,
                    queues_trusted: true,
                    tail: Tail::Unknown,
                    doubted_from: progress.flushed,
                    synced_until,
                    mark: Some(progress.synced).filter(|mark| mark.end == at),
                    sync_failed: progress.boot.is_empty(),
                    clean_ends: FxHashMap::default(),
                    beginnings: Beginnings::default(),
                };
            }
            // Nothing says how far the queues were.
            tracing::warn!("the progress file speaks of another log, reading all of it");
            return Start {
                at: chain.min(),
                queues_trusted: false,
                tail: Tail::Unknown,
                doubted_from: progress.flushed,
                synced_until,
                mark: None,
                sync_failed: progress.boot.is_empty(),
                clean_ends: FxHashMap::default(),
                beginnings: Beginnings::default(),
            };
        }
        let segments = chain.all();
        let at = if was_stopped {
            segments
                .get(segments.len().saturating_sub(3))
                .map_or(0, |segment| segment.start())
        } else {
            let begins_before = |segment: &&Arc<Segment>| {
                let time = first_time(segment);
                time.is_some_and(|time| time > Millis(0) && time <= synced_until)
            };
            segments
                .iter()
                .rev()
                .find(begins_before)
                .map_or(chain.min(), |segment| segment.start())
        };
        let doubted_from = if was_stopped { u64::MAX } else { at };
        Start {
            at,
            queues_trusted: false,
            tail: Tail::Unknown,
            doubted_from,
            synced_until,
            mark: None,
            sync_failed: false,
            clean_ends: FxHashMap::default(),
            beginnings: Beginnings::default(),
        }
    }

    /// Loads every queue up to the start; returns where the log has to be read from, which is earlier when a queue has
    /// lost entries.
    fn load_queues(&self, chain: &Chain, start: &mut Start) -> Result<u64, StoreError> {
        let root = self.paths.queues();
        gantry_disk::dirs::make(&**self.disk, &root).map_err(StoreError::io("create", &root))?;
        if chain.len() == 0 {
            return self.set_queues_aside(&root).map(|()| 0);
        }
        let loader = QueueLoader {
            disk: &**self.disk,
            paths: self.paths,
            files: self.files,
            queues: self.queues,
            counters: self.counters,
            chain,
            before: start.at,
            trusted: start.queues_trusted,
            deletions: self.deletions,
            is_cut: self.cut.is_some(),
            watch: &self.config.recovery_watch,
        };
        let all = self.listed_queues(&root)?;
        if self.replay == Replay::All {
            start.beginnings = self.beginnings(chain, &all);
        }
        let loaded = loader.load_all(&all)?;
        let mut from = start.at;
        if let Some(missing) = loaded.missing {
            from = from.min(missing);
            start.tail = Tail::Unknown;
        }
        start.clean_ends = loaded.clean_ends;
        let entries = self.entries();
        let noted = start.mark.map(|mark| mark.entries);
        if let Some(noted) = noted.filter(|&noted| noted != entries) {
            tracing::error!(
                entries,
                noted,
                "queue files are missing or damaged, queues are made again from the log"
            );
            start.beginnings = self.beginnings(chain, &all);
            self.queues.clear();
            (start.at, start.tail, start.mark) = (chain.min(), Tail::Unknown, None);
            return self.load_queues(chain, start);
        }
        if !start.queues_trusted {
            // As Apache does: whoever wants queues built again removes them all.
            let ends = self.queues.all().into_iter().map(|queue| queue.log_end());
            from = from.min(ends.max().unwrap_or(0));
        }
        Ok(from.max(chain.min()))
    }

    fn listed_queues(&self, root: &Path) -> Result<Vec<(String, QueueId)>, StoreError> {
        let mut all = Vec::new();
        for topic in self.list(root)?.iter().filter(|topic| topic.is_dir) {
            let queues = self.list(&root.join(&topic.name))?;
            let ids = queues.iter().filter(|queue| queue.is_dir);
            all.extend(
                ids.filter_map(|queue| {
                    Some((topic.name.clone(), QueueId(queue.name.parse().ok()?)))
                }),
            );
        }
        Ok(all)
    }

    /// What the ends of all queues add up to.
    fn entries(&self) -> u64 {
        self.queues.all().iter().map(|queue| queue.max().0).sum()
    }

    /// Without a log, queues point nowhere.
    fn set_queues_aside(&self, root: &Path) -> Result<(), StoreError> {
        if self.list(root)?.is_empty() {
            return Ok(());
        }
        let moved = self
            .paths
            .set_aside(&**self.disk, self.counters, root, "the log is empty");
        moved
            .and_then(|()| gantry_disk::dirs::make(&**self.disk, root))
            .map_err(StoreError::io("set aside", root))
    }

    fn list(&self, dir: &Path) -> Result<Vec<Listed>, StoreError> {
        self.disk.list(dir).map_err(StoreError::io("list", dir))
    }

    fn replay(
        &self,
        chain: &Chain,
        from: u64,
        (start, made_up): (&Start, &mut MadeUp),
        told: &Told<'_>,
    ) -> Result<Position, StoreError> {
        let new_cursor = || {
            Cursor::new(chain, self.config.check_crc_on_recover)
                .doubting(start.doubted_from, start.synced_until)
        };
        let mut cursor = new_cursor();
        let mut position = Position {
            end: from,
            last_time: Millis(0),
            last_record: from,
            entries: 0,
        };
        if let Some(mark) = start.mark.filter(|mark| mark.end == from) {
            (position.last_record, position.last_time) = (mark.record, mark.time);
        }
        if let Some((record, time)) = self.cut.and_then(|cut| cut.last) {
            (position.last_record, position.last_time) = (record.0, time);
        }
        let (mut at, mut waiting, mut losses) = (from, 0, Losses::before(from));
        if chain.len() == 0 {
            return Ok(position);
        }
        let total = chain.last().map_or(0, |last| last.end()).max(from) - from;
        let mut told_at = None;
        loop {
            if told_at.is_none_or(|told_at| told_at + TELL_EVERY <= at) {
                told.tell(Phase::Log, at - from, total)?;
                told_at = Some(at);
            }
            match cursor.step(at) {
                Step::Record(view) => {
                    // Not the latest of all: a damaged time would stay for ever, for no message is older than the one
                    // before it.
                    position.last_time = view.store_time();
                    position.last_record = at;
                    waiting += self.replay_record(chain, &view, &start.beginnings, &mut losses)?;
                    at += wide(view.len());
                    position.end = at;
                    if waiting > REPLAYED_MAX {
                        self.write_queues()?;
                        waiting = 0;
                    }
                }
                Step::Next(next) => {
                    losses.note(at..next);
                    at = next;
                    position.end = at;
                }
                Step::End => break,
                Step::Unreadable(Reason::Hole)
                    if start.tail == Tail::Written && is_followed(chain, at) =>
                {
                    // Only the last write can have been cut short by a kill; this one was not.
                    cursor.trust(at);
                }
                Step::Unreadable(reason) => {
                    position.end = at;
                    let found = if start.ends_the_log(at, &reason) {
                        None
                    } else {
                        self.go_past(chain, (start, made_up), &reason, &position)?
                    };
                    let Some(found) = found else {
                        if reason != Reason::Zeros {
                            tracing::warn!(at, %reason, "the log ends with a record that was not completely written");
                        }
                        break;
                    };
                    losses.note(position.end..found);
                    // What the cursor read before is stale: a filler stands there now.
                    (at, cursor) = (found, new_cursor());
                }
            }
        }
        if position.last_time == Millis(0) {
            // Nothing was read and nothing noted.
            let last = chain.last();
            position.last_time = last.and_then(|last| first_time(&last)).unwrap_or_default();
        }
        position.entries = self.entries();
        Ok(position)
    }

    /// Cuts what lies behind the log's end and makes what was found durable.
    fn finish_log(&self, chain: &Chain, end: u64, start: &Start) -> Result<(), StoreError> {
        for segment in chain.remove_from(end.max(1)) {
            let mut head = [0; 4096];
            let path = segment.path();
            let is_empty = segment.read(&mut head, segment.start()).is_ok()
                && head.iter().all(|&byte| byte == 0);
            if is_empty {
                self.disk
                    .remove(path)
                    .map_err(StoreError::io("remove", path))?;
            } else {
                self.paths
                    .give_up(
                        &**self.disk,
                        self.counters,
                        path,
                        "nothing in it can be read",
                    )
                    .map_err(StoreError::io("remove", path))?;
            }
        }
        if start.tail == Tail::Ended && end == start.at {
            return Ok(());
        }
        // Names as well: what a process that was killed took out of the log must not come back into it.
        let dirs = self.config.writable_log_dirs().into_iter();
        for dir in dirs.chain([self.paths.quarantine()]) {
            if self.meta(&dir)?.is_some() {
                let synced = self.disk.sync_dir(&dir);
                synced.map_err(StoreError::io("sync", &dir))?;
            }
        }
        // What was noted as written may be nowhere but in memory.
        let synced = start.at.min(start.doubted_from).min(end.saturating_sub(1));
        let segments = chain.between(synced, end.max(1)).into_iter();
        for segment in segments.filter(|segment| !segment.is_read_only()) {
            self.config.recovery_watch.check()?;
            let zero = end.max(segment.start())..segment.end();
            if zero.start < zero.end {
                segment
                    .zero(zero)
                    .map_err(StoreError::io("zero", segment.path()))?;
            }
            if start.sync_failed {
                let range = synced.max(segment.start())..end.min(segment.end());
                rewrite(&segment, range).map_err(StoreError::io("write", segment.path()))?;
            }
            segment
                .sync()
                .map_err(StoreError::io("sync", segment.path()))?;
        }
        Ok(())
    }

    /// Writes what was replayed into the queue files. What finds no space there waits in memory.
    fn write_queues(&self) -> Result<(), StoreError> {
        let (mut scratch, mut waiting) = (Vec::new(), 0);
        for queue in self.dispatcher.take_dirty() {
            self.config.recovery_watch.check()?;
            let Err(error) = queue.write_out(self.files, &mut scratch) else {
                continue;
            };
            waiting += queue.unwritten();
            let dir = self.files.dir_of(queue.topic(), queue.id());
            if !is_no_space(&error) || waiting > health::QUEUE_ENTRIES_WAITING_MAX {
                return Err(StoreError::io("write", &dir)(error));
            }
            tracing::warn!(path = %dir.display(), %error, "queue entries wait");
            self.dispatcher.put_back_dirty(queue);
        }
        Ok(())
    }

    /// Cuts queue files behind their last entry.
    fn finish_queues(&self, end: u64, start: &Start) -> Result<(), StoreError> {
        for queue in self.queues.all() {
            self.config.recovery_watch.check()?;
            let fail =
                |error| StoreError::io("cut", &self.files.dir_of(queue.topic(), queue.id()))(error);
            let max = queue.max().0;
            match start.tail {
                Tail::Ended if end == start.at => {}
                // Pages reach the disk in any order: left-overs may lie behind zeros.
                Tail::Unknown => self.files.cut(&queue, max).map_err(fail)?,
                _ if start.clean_ends.get(&queue.slot()) == Some(&max) => {}
                _ => self.files.cut_if_needed(&queue, max).map_err(fail)?,
            }
        }
        Ok(())
    }
}

/// What the queue entry of a record says of its tags: their hash, or when the message is due (delayed messages).
pub(crate) fn tags_code(view: &RecordView<'_>, delay_levels: &[Millis]) -> i64 {
    if view.topic() == topic::SCHEDULE
        && let Some(level) = properties::find_str(view.properties(), properties::DELAY)
        && let Ok(level @ 1..) = level.trim().parse::<usize>()
        && let Some(last) = delay_levels.len().checked_sub(1)
    {
        return view
            .store_time()
            .plus(delay_levels[(level - 1).min(last)].0)
            .0;
    }
    view.property(properties::TAGS)
        .map_or(0, |tags| i64::from(java_hash_bytes(tags)))
}

/// Whether the log has the record that the mark names, and ends there as far as the mark knows: behind it, or behind the
/// blank that closes its segment.
fn ends_at(cursor: &mut Cursor<'_>, mark: &Mark) -> bool {
    let end = match cursor.step(mark.record) {
        Step::Record(view) if view.store_time() == mark.time => mark.record + wide(view.len()),
        _ => return false,
    };
    end == mark.end || matches!(cursor.step(end), Step::Next(next) if next == mark.end)
}

/// Writes what is there once more, so that the next sync takes it for a change.
fn rewrite(segment: &Segment, range: std::ops::Range<u64>) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = range.start;
    while at < range.end {
        let step = (range.end - at).min(wide(buffer.len()));
        let part = &mut buffer[..narrow(step)];
        segment.read(part, at)?;
        segment.write(part, at)?;
        at += step;
    }
    Ok(())
}

/// Whether something was written behind the record that starts at `at`.
fn is_followed(chain: &Chain, at: u64) -> bool {
    let mut cursor = Cursor::new(chain, true);
    let Step::Record(view) = cursor.step(at) else {
        return false;
    };
    let end = at + wide(view.len());
    matches!(cursor.step(end), Step::Record(_) | Step::Next(_))
}

/// Which queues were deleted. A file that cannot be read says nothing of any.
fn deletions(disk: &dyn Disk, paths: &Paths) -> Deletions {
    let path = paths.deletions();
    let read = gantry_disk::replace::read(disk, &path);
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read");
            None
        }
    };
    let Some(bytes) = bytes else {
        return Deletions::default();
    };
    Deletions::decode(&bytes).unwrap_or_else(|| {
        tracing::error!(path = %path.display(), "the list of deleted queues is damaged");
        Deletions::default()
    })
}

/// The store time of a segment's first record.
pub(crate) fn first_time(segment: &Segment) -> Option<Millis> {
    let mut head = [0; record::HEAD_LEN_MAX];
    let read = segment.read(&mut head, segment.start()).ok()?;
    let is_record = head[record::MAGIC_AT..8] == record::MAGIC.to_be_bytes();
    is_record.then(|| record::peek_store_time(&head[..read]))?
}

/// Whether a topic found in the log can be the name of a directory.
pub(crate) fn is_safe_name(topic: &str) -> bool {
    !topic.is_empty() && topic != "." && topic != ".." && !topic.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_would_leave_the_directory_are_not_replayed() {
        for (name, expected) in [
            ("a", true),
            ("%RETRY%g", true),
            ("..", false),
            ("a/b", false),
            ("", false),
        ] {
            assert_eq!(is_safe_name(name), expected, "{name}");
        }
    }
}
