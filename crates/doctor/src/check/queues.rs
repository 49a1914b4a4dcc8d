//! Consume queues: their files, entry after entry, and every entry against the log and the other way round.
//!
//! 1. Every queue file is read once: names, lengths, holes, order; counted are the entries that point into the log.
//! 2. At every record of the log its entry is looked up, through small windows of the files.
//! 3. Where more entries were counted than records asked for, the queue's entries are looked up in the log.
//!
//! In memory are a few numbers a queue and a bounded number of windows.

use std::path::PathBuf;

use gantry_message::{Millis, QueueId, RecordView, properties, record, topic};
use gantry_store::format::entry::{self, Entry};
use gantry_store::format::ext;
use gantry_store::format::name;
use gantry_store::offline::{Cursor, Step, has_queues, tags_code};
use rustc_hash::FxHashMap;

use super::ext::ExtCheck;
use super::log::{Cause, LostRanges, PATCHES_MAX, Patch};
use super::queue_files::{
    BAD_MAX, Queue, Run, each_dir, each_entry, load_queue, strays, usual_file_size,
};
use super::queue_windows::Windows;
use super::side::{Stop, is_gone};
use super::tables::Tables;
use crate::log::{Log, narrow, queue_dir, wide};
use crate::progress::Progress;
use crate::report::{Class, Finding, Findings, Severity};
use crate::target::{DoctorError, Target};

/// Entries of one window.
const WINDOW: u64 = 204;
/// A message is never due later than this behind its store time.
const DUE_MAX_MS: i64 = 366 * 24 * 3600 * 1000;

/// What is known once the log was walked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walked<'a> {
    pub(crate) log: &'a Log,
    pub(crate) log_end: u64,
    pub(crate) stop: &'a Stop,
    pub(crate) lost: &'a LostRanges,
    pub(crate) tables: &'a Tables,
}

/// Accounts for all queues.
#[derive(Debug)]
pub(crate) struct QueueCheck<'a> {
    target: &'a Target,
    log_min: u64,
    delay_levels: Vec<Millis>,
    queues: Vec<Queue>,
    by_name: FxHashMap<Box<str>, FxHashMap<u32, usize>>,
    windows: Windows,
    /// Gaps of the log that the walk has come by.
    epoch: u64,
    /// Messages of deleted queues.
    deleted: u64,
    patches: Vec<Patch>,
    ext: ExtCheck,
}

impl<'a> QueueCheck<'a> {
    /// Reads all queue files.
    pub(crate) fn load(
        target: &'a Target,
        log: &Log,
        findings: &mut Findings,
        progress: &Progress,
    ) -> Result<Self, DoctorError> {
        let usual = usual_file_size(target)?;
        let mut check = Self {
            target,
            log_min: log.chain.min(),
            delay_levels: target.delay_levels(),
            queues: Vec::new(),
            by_name: FxHashMap::default(),
            windows: Windows::default(),
            epoch: 0,
            deleted: 0,
            patches: Vec::new(),
            ext: ExtCheck::default(),
        };
        progress.begin("consume queues", 0);
        each_dir(target, &mut |topic, id, dir| {
            let queue = load_queue(target, (topic, id, dir), (usual, check.log_min), findings)?;
            progress.further(queue.files.iter().map(|file| file.len).sum());
            check.insert(queue);
            Ok(())
        })?;
        strays(target, findings)?;
        Ok(check)
    }

    fn insert(&mut self, queue: Queue) -> usize {
        let at = self.queues.len();
        let of_topic = self.by_name.entry(queue.topic.clone()).or_default();
        of_topic.insert(queue.id, at);
        self.queues.push(queue);
        at
    }

    /// The queue of a record; one without files when there is none.
    fn find(&mut self, topic: &str, id: u32) -> usize {
        let known = self.by_name.get(topic).and_then(|queues| queues.get(&id));
        match known {
            Some(&known) => known,
            None => self.insert(Queue::without_files(topic, id)),
        }
    }

    /// Something of the log is not there.
    pub(crate) fn gap(&mut self) {
        self.epoch += 1;
    }

    /// Looks up the entries of a record.
    pub(crate) fn record(
        &mut self,
        view: &RecordView<'_>,
        stop: &Stop,
        findings: &mut Findings,
    ) -> Result<(), DoctorError> {
        if !has_queues(view.topic()) {
            return Ok(());
        }
        let at = self.find(view.topic(), view.queue_id().0);
        self.one(at, view, view.queue_offset().0, stop, findings)?;
        // Light queues: further queues that point to the same record.
        let names = view.property(properties::INNER_MULTI_DISPATCH);
        let offsets = view.property(properties::INNER_MULTI_QUEUE_OFFSET);
        let (Some(names), Some(offsets)) = (names.and_then(text), offsets.and_then(text)) else {
            return Ok(());
        };
        for (name, offset) in names.split(',').zip(offsets.split(',')) {
            let is_light = name.starts_with(topic::LMQ_PREFIX);
            let id = if is_light { 0 } else { view.queue_id().0 };
            if let Ok(offset) = offset.trim().parse()
                && has_queues(name)
            {
                let at = self.find(name, id);
                self.one(at, view, offset, stop, findings)?;
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        at: usize,
        view: &RecordView<'_>,
        says: u64,
        stop: &Stop,
        findings: &mut Findings,
    ) -> Result<(), DoctorError> {
        let log_at = view.log_offset().0;
        let (topic, id) = (&*self.queues[at].topic, QueueId(self.queues[at].id));
        if stop.deletions.covers(topic, id, log_at, view.store_time()) {
            self.deleted += 1;
            return Ok(());
        }
        let points_here =
            |entry: &Option<Entry>| entry.is_some_and(|entry| entry.log_offset.0 == log_at);
        let mut number = says;
        let mut found = self.entry(at, says, findings);
        let next = self.queues[at].next;
        if !points_here(&found)
            && let Some(next) = next.filter(|&next| next != says)
        {
            // The record may be wrong about its place: only bodies have a checksum.
            let other = self.entry(at, next, findings);
            if points_here(&other) {
                let text = format!(
                    "the record says it is number {says} of {}/{}, its entry is number {next}",
                    self.queues[at].topic, self.queues[at].id
                );
                let (path, offset) = self.place(at, next);
                findings
                    .add(Finding::fault(Class::Commitlog, "queue-offset", &path, text).at(offset));
                if self.patches.len() < PATCHES_MAX {
                    self.patches.push(Patch {
                        at: log_at.saturating_add(wide(record::QUEUE_OFFSET_AT)),
                        bytes: next.to_be_bytes(),
                    });
                }
                (number, found) = (next, other);
            }
        }
        let is_here = points_here(&found);
        self.follow(at, (number, log_at), is_here);
        let (path, offset) = self.place(at, number);
        let unit = found
            .filter(|_| is_here)
            .and_then(|entry| ext::place(entry.tags_code));
        if let Some(unit) = unit {
            let expected = tags_code(view, &self.delay_levels);
            let unit = (at, unit);
            let is_right = self.ext.unit(self.target, unit, (view, expected), findings);
            self.queues[at].is_bad |= !is_right;
        }
        let queue = &mut self.queues[at];
        match found.filter(|_| is_here) {
            Some(entry) => {
                queue.matched += 1;
                let wrong = wrong_entry(view, &entry, &self.delay_levels);
                if let Some((code, text)) = wrong {
                    queue.is_bad = true;
                    let text = format!("entry {number} of {}/{} {text}", queue.topic, queue.id);
                    findings.add(Finding::fault(Class::Consumequeue, code, &path, text).at(offset));
                }
            }
            None if stop.must_be_queued(log_at, view.store_time()) => {
                queue.missing.add((number, log_at));
            }
            None => queue.lagging.add((number, log_at)),
        }
        Ok(())
    }

    /// Follows the offsets of a queue through the log.
    fn follow(&mut self, at: usize, (number, log_at): (u64, u64), is_here: bool) {
        let epoch = self.epoch;
        let queue = &mut self.queues[at];
        let is_first_since_gap = std::mem::replace(&mut queue.epoch, epoch) != epoch;
        match queue.next {
            Some(next) if number < next && (number == 0 || is_here) => {
                // The queue was deleted and made anew: what was before has no entries and needs none.
                queue.missing = Run::default();
                queue.lagging = Run::default();
                queue.jumped = Run::default();
            }
            Some(next) if number != next && !is_first_since_gap => {
                queue.jumped.add((number, log_at));
            }
            _ => {}
        }
        queue.next = Some(number.saturating_add(1));
    }

    /// An entry; `None` for what is none.
    fn entry(&mut self, at: usize, number: u64, findings: &mut Findings) -> Option<Entry> {
        let queue = &self.queues[at];
        let byte = number.checked_mul(entry::LEN)?;
        let base = byte - byte % queue.file_size.max(1);
        let nth = queue
            .files
            .binary_search_by_key(&base, |file| file.base)
            .ok()?;
        let within = (byte - base) / entry::LEN;
        let key = (at, base / entry::LEN + within / WINDOW * WINDOW);
        let skip = narrow(within % WINDOW * entry::LEN);
        if let Some(window) = self.windows.get(key) {
            return Entry::decode(window.get(skip..)?);
        }
        let from = within / WINDOW * WINDOW * entry::LEN;
        let len = (queue.files[nth].len.min(queue.file_size))
            .saturating_sub(from)
            .min(WINDOW * entry::LEN);
        let path = queue_dir(&self.target.root, &queue.topic, queue.id).join(name::of(base));
        let mut window = vec![0; narrow(len)];
        let read = self
            .target
            .open(&path)
            .and_then(|file| file.read_at(&mut window, from));
        match read {
            Ok(read) => window.truncate(read),
            Err(error) => {
                window.clear();
                if !is_gone(&error) {
                    self.queues[at].is_bad = true;
                    findings.refused(Class::Consumequeue, &path, &error);
                }
            }
        }
        let found = window.get(skip..).and_then(Entry::decode);
        self.windows.put(key, window);
        found
    }

    /// The file of an entry, and where in it.
    fn place(&self, at: usize, number: u64) -> (PathBuf, u64) {
        let queue = &self.queues[at];
        queue.place(self.target, number)
    }

    /// What is left to say once the log was walked.
    pub(crate) fn finish(
        &mut self,
        walked: &Walked<'_>,
        findings: &mut Findings,
    ) -> Result<(), DoctorError> {
        let Walked {
            log_end,
            stop,
            tables,
            ..
        } = *walked;
        let is_complete = stop
            .noted_entries(log_end)
            .is_some_and(|noted| noted == self.entries());
        let (mut lagging, mut deleted) = (0, self.deleted);
        for at in 0..self.queues.len() {
            let knows_topic = tables.knows_topic(&self.queues[at].topic);
            let queue = &mut self.queues[at];
            lagging += queue.lagging.count;
            if !queue.exists && (knows_topic == Some(false) || is_complete) {
                deleted += queue.missing.count;
                queue.missing = Run::default();
                continue;
            }
            self.say_missing(at, findings);
            self.say_jumps(at, findings);
            let queue = &self.queues[at];
            if queue.counted != queue.matched {
                self.leftovers(at, walked, findings)?;
            }
        }
        let dir = self.target.root.join("consumequeue");
        if lagging > 0 {
            let text = format!(
                "{lagging} messages at the end of the log are not yet in their queues, the next start adds them"
            );
            findings.add(Finding::note(Class::Consumequeue, "queues-lag", &dir, text));
        }
        if deleted > 0 {
            let text = format!("{deleted} messages in the log belong to queues that were deleted");
            findings.add(Finding::note(
                Class::Consumequeue,
                "queues-deleted",
                &dir,
                text,
            ));
        }
        Ok(())
    }

    fn say_missing(&mut self, at: usize, findings: &mut Findings) {
        let queue = &self.queues[at];
        let run = queue.missing;
        if run.count == 0 {
            return;
        }
        let (topic, id) = (&queue.topic, queue.id);
        let hint = if queue.exists {
            ""
        } else {
            ": the queue has no files (as it should be if its topic was deleted and made anew)"
        };
        let text = format!(
            "{} messages of {topic}/{id} have no entry, number {} to {}, in the log from {} to {}{hint}",
            run.count, run.first.0, run.last.0, run.first.1, run.last.1
        );
        let (path, offset) = self.place(at, run.first.0);
        findings
            .add(Finding::fault(Class::Consumequeue, "entries-missing", &path, text).at(offset));
        self.queues[at].is_bad = true;
    }

    fn say_jumps(&mut self, at: usize, findings: &mut Findings) {
        let queue = &self.queues[at];
        let run = queue.jumped;
        if run.count == 0 {
            return;
        }
        let text = format!(
            "the messages of {}/{} do not follow each other at {} places, first at number {} (log {})",
            queue.topic, queue.id, run.count, run.first.0, run.first.1
        );
        // Entries without messages say that this is known.
        let before = run.first.0.checked_sub(1);
        let is_known = before
            .and_then(|before| self.entry(at, before, findings))
            .is_some_and(|entry| entry.is_filler());
        let severity = if is_known {
            Severity::Note
        } else {
            Severity::Fault
        };
        let (path, offset) = self.place(at, run.first.0);
        findings.add(
            Finding::fault(Class::Consumequeue, "queue-jumps", &path, text)
                .at(offset)
                .as_bad_as(severity),
        );
    }

    /// Looks up the entries of a queue in the log: some point to nothing.
    fn leftovers(
        &mut self,
        at: usize,
        walked: &Walked<'_>,
        findings: &mut Findings,
    ) -> Result<(), DoctorError> {
        let Walked {
            log,
            log_end,
            stop,
            lost,
            ..
        } = *walked;
        let queue = &self.queues[at];
        let mut cursor = Cursor::new(&log.chain, false);
        let (mut ahead, mut in_lost, mut known) = (Run::default(), Run::default(), Run::default());
        let mut bad = Vec::new();
        let mut count = 0_u64;
        let mut see = |number: u64, entry: Option<Entry>| {
            let Some(entry) = entry.filter(|entry| !entry.is_filler()) else {
                return;
            };
            let points_to = entry.log_offset.0;
            if points_to < log.chain.min() {
                return;
            }
            if points_to >= log_end {
                ahead.add((number, points_to));
                return;
            }
            if let Some(lost) = lost.find(points_to) {
                let run = if lost.cause == Cause::Damage {
                    &mut in_lost
                } else {
                    &mut known
                };
                run.add((number, points_to));
                return;
            }
            let wrong = match cursor.step(points_to) {
                Step::Record(view) if *view.topic() == *queue.topic => {
                    (view.queue_id().0 != queue.id).then(|| "a record of another queue".to_owned())
                }
                Step::Record(view) if is_light(&view, &queue.topic) => None,
                Step::Record(view) => Some(format!(
                    "a record of {}/{}",
                    view.topic(),
                    view.queue_id().0
                )),
                _ => Some("no record".to_owned()),
            };
            if let Some(wrong) = wrong {
                count += 1;
                if bad.len() < BAD_MAX {
                    bad.push((
                        number,
                        format!("points to {points_to}, where {wrong} starts"),
                    ));
                }
            }
        };
        each_entry(self.target, queue, &mut see, findings)?;
        let (topic, id) = (queue.topic.clone(), queue.id);
        let mut say = |number: u64, code, severity, text: String| {
            let (path, offset) = self.queues[at].place(self.target, number);
            let finding = Finding::fault(Class::Consumequeue, code, &path, text).at(offset);
            findings.add(finding.as_bad_as(severity));
            self.queues[at].is_bad |= severity == Severity::Fault;
        };
        let left = count.saturating_sub(wide(bad.len()));
        for (number, text) in bad {
            let text = format!("entry {number} of {topic}/{id} {text}");
            say(number, "entry-wrong", Severity::Fault, text);
        }
        if left > 0 {
            let text = format!("{left} further entries of {topic}/{id} point to no record");
            say(0, "entry-wrong", Severity::Fault, text);
        }
        let runs = [
            (
                ahead,
                stop.is_clean,
                "entries-ahead",
                "behind the end of the log",
            ),
            (in_lost, true, "entries-lost", "into a lost part of the log"),
            (
                known,
                false,
                "entries-lost-earlier",
                "into a part of the log that was lost earlier",
            ),
        ];
        for (run, is_fault, code, whither) in runs {
            if run.count > 0 {
                let (count, first, to) = (run.count, run.first.0, run.first.1);
                let text = format!(
                    "{count} entries of {topic}/{id} point {whither}, the first is number {first} and points to {to}"
                );
                let severity = if is_fault {
                    Severity::Fault
                } else {
                    Severity::Note
                };
                say(first, code, severity, text);
            }
        }
        Ok(())
    }

    /// What the ends of all queues add up to.
    pub(crate) fn entries(&self) -> u64 {
        self.queues
            .iter()
            .fold(0, |sum, queue| queue.end.saturating_add(sum))
    }

    /// The end of a queue that has files.
    pub(crate) fn end_of(&self, topic: &str, id: u32) -> Option<u64> {
        let at = self.by_name.get(topic)?.get(&id)?;
        let queue = &self.queues[*at];
        Some(queue.end.max(queue.next.unwrap_or(0)))
    }

    /// Records whose place in their queue the entries tell better.
    pub(crate) fn patches(&self) -> &[Patch] {
        &self.patches
    }

    /// Topics and queues that have files.
    pub(crate) fn count(&self) -> (u64, u64) {
        let queues = self.queues.iter().filter(|queue| queue.exists).count();
        let has_one =
            |of_topic: &&FxHashMap<u32, usize>| of_topic.values().any(|&at| self.queues[at].exists);
        let topics = self.by_name.values().filter(has_one).count();
        (wide(topics), wide(queues))
    }

    /// Queues with faults.
    pub(crate) fn bad(&self) -> Vec<(String, u32)> {
        let bad = self
            .queues
            .iter()
            .filter(|queue| queue.is_bad && queue.exists);
        bad.map(|queue| (queue.topic.to_string(), queue.id))
            .collect()
    }

    /// Topics whose messages need no queue: it was deleted.
    pub(crate) fn deleted_topics(&self) -> Vec<String> {
        let is_deleted = |queues: &FxHashMap<u32, usize>| {
            queues.values().all(|&at| {
                let queue = &self.queues[at];
                !queue.exists && queue.missing.count == 0 && queue.lagging.count == 0
            })
        };
        let deleted = self.by_name.iter().filter(|(_, queues)| is_deleted(queues));
        deleted.map(|(topic, _)| topic.to_string()).collect()
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Whether a record is also in the light queue of that name.
fn is_light(view: &RecordView<'_>, topic: &str) -> bool {
    let names = view.property(properties::INNER_MULTI_DISPATCH);
    names
        .and_then(text)
        .is_some_and(|names| names.split(',').any(|name| name == topic))
}

/// What is wrong with the entry of a record beside its place.
fn wrong_entry(
    view: &RecordView<'_>,
    entry: &Entry,
    delay_levels: &[Millis],
) -> Option<(&'static str, String)> {
    let size = u32::try_from(view.len()).unwrap_or(u32::MAX);
    if entry.size != size {
        let text = format!("says {} bytes, its record has {size}", entry.size);
        return Some(("entry-size", text));
    }
    let expected = tags_code(view, delay_levels);
    let is_due = view.topic() == topic::SCHEDULE && {
        let wait = entry.tags_code.saturating_sub(view.store_time().0);
        // The levels may have been others when it was stored.
        (0..=DUE_MAX_MS).contains(&wait)
    };
    let is_right = entry.tags_code == expected || is_due || ext::place(entry.tags_code).is_some();
    let text = || {
        format!(
            "says tags code {}, its record gives {expected}",
            entry.tags_code
        )
    };
    (!is_right).then(|| ("entry-tags", text()))
}
