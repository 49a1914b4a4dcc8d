//! The key index: headers, slots, the chains of entries, and every entry against the keys of its record.
//!
//! Entries lie in the order in which they were made, which is that of the log but for stretches that were indexed again.
//! So each file is a few ascending runs, and the walk over the log meets the runs one entry after another: nothing of the
//! index is in memory but a window a run, and the newest entries of a bounded number of slots while chains are followed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;

use gantry_message::{Millis, RecordView};
use gantry_store::format::index::{ENTRY_LEN, Entry, Header, Layout, hashes};

use super::index_file::{IndexFile, NAMED_MAX, SLOTS_AT_ONCE};
use super::index_layout::{DEFAULT, NAME_LEN, layout_of_store};
use super::log::LostRanges;
use super::side::Stop;
use crate::log::{Log, narrow};
use crate::progress::Progress;
use crate::report::{Class, Finding, Findings, Severity};
use crate::target::{DoctorError, Target};
/// So many runs are merged; an index of more is no index.
const RUNS_MAX: usize = 4096;
/// Entries of a window.
const WINDOW: u64 = 512;

/// Entries of one file that ascend.
#[derive(Debug)]
struct Run {
    file: usize,
    next: u32,
    end: u32,
    window: Vec<u8>,
    window_from: u32,
}

/// Messages whose keys are not indexed.
#[derive(Debug, Default)]
struct Missing {
    count: u64,
    first: u64,
    last: u64,
}

impl Missing {
    fn add(&mut self, at: u64) {
        if self.count == 0 {
            self.first = at;
        }
        (self.last, self.count) = (at, self.count + 1);
    }
}

/// Accounts for the index.
#[derive(Debug)]
pub(crate) struct IndexCheck {
    dir: PathBuf,
    files: Vec<IndexFile>,
    runs: Vec<Run>,
    /// The next entry of each run, by where it points.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    /// Up to where every key must be there.
    expected_to: u64,
    missing: Missing,
    lagging: Missing,
    keys: Vec<(u32, bool)>,
    is_enabled: bool,
    /// Where the log begins: what points before was of messages that have expired.
    log_min: u64,
    /// Some file cannot be compared: what is missing may be in it.
    is_partial: bool,
}

impl IndexCheck {
    /// Reads all index files and follows their chains.
    pub(crate) fn load(
        target: &Target,
        log: &Log,
        stop: &Stop,
        findings: &mut Findings,
        progress: &Progress,
    ) -> Result<Self, DoctorError> {
        let dir = target.root.join("index");
        let mut check = Self {
            dir: dir.clone(),
            files: Vec::new(),
            runs: Vec::new(),
            heads: BinaryHeap::new(),
            expected_to: 0,
            missing: Missing::default(),
            lagging: Missing::default(),
            keys: Vec::new(),
            is_enabled: target.shape.index_enabled != Some(false),
            log_min: log.chain.min(),
            is_partial: false,
        };
        let listed = target.list(&dir).map_err(DoctorError::io("list", &dir))?;
        let (named, strays): (Vec<_>, Vec<_>) = listed.into_iter().partition(|one| {
            !one.is_dir
                && one.name.len() == NAME_LEN
                && one.name.bytes().all(|byte| byte.is_ascii_digit())
        });
        for stray in strays {
            let text = "not an index file, left alone";
            let path = dir.join(&stray.name);
            findings.add(Finding::note(Class::Index, "stray", &path, text));
        }
        let of_store = layout_of_store(target, log)?;
        let newest = named.last().map(|one| one.name.clone());
        for one in named {
            let path = dir.join(&one.name);
            findings.file(Class::Index, one.len);
            let is_newest = newest.as_ref() == Some(&one.name);
            let opened = check.open(
                target,
                of_store,
                stop,
                (path.clone(), one.len, is_newest),
                findings,
            );
            if let Err(error) = opened {
                findings.refused(Class::Index, &path, &error);
                check.is_partial = true;
            }
        }
        let bytes = check.files.iter().map(|file| file.used_bytes()).sum();
        progress.begin("index", bytes);
        for at in 0..check.files.len() {
            if let Err(error) = check.follow(at, findings, progress) {
                findings.refused(Class::Index, &check.files[at].path, &error);
                check.is_partial = true;
            }
        }
        check.expected_to = check.expected_to(stop);
        Ok(check)
    }

    /// Up to where every key must be there: as noted, else (Apache notes nothing) everything after a clean stop, else
    /// what the files say that are not made again.
    fn expected_to(&self, stop: &Stop) -> u64 {
        if let Some(noted) = stop.indexed_to() {
            return noted;
        }
        let knows = stop
            .checkpoint
            .is_some_and(|checkpoint| checkpoint.index > Millis(0));
        if stop.is_clean && (knows || !self.files.is_empty()) {
            return u64::MAX;
        }
        let sure = self.files.iter().filter(|file| !file.is_doubted);
        sure.map(|file| file.header.end_offset).max().unwrap_or(0)
    }

    fn open(
        &mut self,
        target: &Target,
        of_store: Layout,
        stop: &Stop,
        (path, len, is_newest): (PathBuf, u64, bool),
        findings: &mut Findings,
    ) -> std::io::Result<()> {
        let file = target.open(&path)?;
        let mut head = [0; 40];
        file.read_at(&mut head, 0)?;
        let known = [of_store, DEFAULT].into_iter();
        let layout = known
            .chain(target.layout())
            .find(|layout| layout.file_len() == len);
        let header = Header::decode(&head);
        let is_behind_apache = stop.progress.is_none()
            && stop
                .checkpoint
                .is_none_or(|checkpoint| header.end_time > checkpoint.index);
        let is_doubted = !stop.is_clean && (is_newest || is_behind_apache);
        let Some(layout) = layout else {
            let text = format!(
                "{len} bytes long, which is no length of an index file (if maxHashSlotNum or maxIndexNum are not the \
                 defaults, say so with -c)"
            );
            let mut finding = Finding::fault(Class::Index, "index-length", &path, text).at(len);
            if is_doubted && header.next <= 1 {
                // Killed before its header was written for the first time.
                finding = finding.as_bad_as(Severity::Note);
            }
            findings.add(finding);
            self.is_partial = true;
            return Ok(());
        };
        if header.next > layout.entries {
            let text = format!(
                "its header says that entry {} comes next, the file has {}",
                header.next, layout.entries
            );
            let finding = Finding::fault(Class::Index, "index-header", &path, text);
            findings.add(finding.at(36));
            self.is_partial = true;
            return Ok(());
        }
        self.files.push(IndexFile {
            path,
            file,
            layout,
            header,
            is_doubted,
            named: 0,
        });
        Ok(())
    }

    /// Follows the chains of one file and finds its runs.
    fn follow(
        &mut self,
        at: usize,
        findings: &mut Findings,
        progress: &Progress,
    ) -> std::io::Result<()> {
        let file = &mut self.files[at];
        let slots = file.layout.slots;
        let mut used = 0;
        let mut from = 0;
        while from < slots {
            let to = slots.min(from.saturating_add(SLOTS_AT_ONCE));
            used += file.follow_slots(from, to, findings, progress)?;
            from = to;
        }
        if used != file.header.slots_used && !file.is_doubted {
            let text = format!(
                "its header says that {} slots are used, {used} are",
                file.header.slots_used
            );
            file.say(findings, "index-header", 32, text);
        }
        let (header, layout) = (file.header, file.layout);
        findings.class(Class::Index).records += u64::from(header.next.saturating_sub(1));
        let mut last = None;
        let mut first = None;
        let mut starts = vec![1];
        file.each(&mut |number, entry| {
            first.get_or_insert(entry.offset);
            if last.is_some_and(|last| entry.offset < last) && starts.len() <= RUNS_MAX {
                starts.push(number);
            }
            last = Some(entry.offset);
        })?;
        let ends = [
            (16, header.begin_offset, first, "begins"),
            (24, header.end_offset, last, "ends"),
        ];
        for (at, says, is, word) in ends {
            if let Some(is) = is.filter(|&is| is != says && !file.is_doubted) {
                let text = format!(
                    "its header says that it {word} with the message at {says}, it does with {is}"
                );
                file.say(findings, "index-header", at, text);
            }
        }
        if header.end_time < header.begin_time && last.is_some() {
            file.say(findings, "index-header", 8, "its times go back".to_owned());
        }
        if starts.len() + self.runs.len() > RUNS_MAX {
            let text = "its entries point here and there: no index".to_owned();
            file.say(findings, "index-garbage", layout.entry_at(1), text);
            self.is_partial = true;
            return Ok(());
        }
        starts.push(header.next);
        for two in starts.windows(2) {
            self.runs.push(Run {
                file: at,
                next: two[0],
                end: two[1],
                window: Vec::new(),
                window_from: 0,
            });
            self.advance(self.runs.len() - 1)?;
        }
        Ok(())
    }

    /// Puts the next entry of a run in line.
    fn advance(&mut self, run: usize) -> std::io::Result<()> {
        if let Some(entry) = self.peek(run)? {
            self.heads.push(Reverse((entry.offset, run)));
        }
        Ok(())
    }

    fn peek(&mut self, run: usize) -> std::io::Result<Option<Entry>> {
        let run = &mut self.runs[run];
        if run.next >= run.end {
            return Ok(None);
        }
        let file = &self.files[run.file];
        let skip = |run: &Run| narrow(u64::from(run.next - run.window_from) * ENTRY_LEN);
        let is_in = |run: &Run| run.window_from <= run.next && skip(run) < run.window.len();
        if !is_in(run) {
            let count = u64::from(run.end - run.next).min(WINDOW);
            run.window.resize(narrow(count * ENTRY_LEN), 0);
            run.window_from = run.next;
            file.file
                .read_exact_at(&mut run.window, file.layout.entry_at(run.next))?;
        }
        let bytes = run.window.get(skip(run)..);
        Ok(bytes
            .and_then(|bytes| bytes.first_chunk())
            .map(Entry::decode))
    }

    /// Takes the entry that points least far: its file, number and content.
    fn take(&mut self, run: usize, findings: &mut Findings) -> Option<(usize, u32, Entry)> {
        self.heads.pop();
        let file = self.runs[run].file;
        let taken = self.peek(run).and_then(|entry| {
            let number = self.runs[run].next;
            self.runs[run].next += 1;
            self.advance(run)?;
            Ok(entry.map(|entry| (file, number, entry)))
        });
        taken.unwrap_or_else(|error| {
            findings.refused(Class::Index, &self.files[file].path, &error);
            self.is_partial = true;
            None
        })
    }

    /// Meets a record: its keys and the entries that point to it belong together.
    pub(crate) fn record(
        &mut self,
        view: &RecordView<'_>,
        lost: &LostRanges,
        findings: &mut Findings,
    ) {
        let at = view.log_offset().0;
        self.pass(at, lost, findings);
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        keys.extend(hashes(view).map(|hash| (hash, false)));
        while let Some(&Reverse((points_to, run))) = self.heads.peek()
            && points_to == at
        {
            let Some((file, number, entry)) = self.take(run, findings) else {
                continue;
            };
            let file = &mut self.files[file];
            let place = file.layout.entry_at(number);
            // Of two equal keys each has its entry; what was indexed twice is twice there.
            let free = keys
                .iter()
                .position(|&(hash, is_found)| hash == entry.hash && !is_found);
            let any = free.or_else(|| keys.iter().position(|&(hash, _)| hash == entry.hash));
            match any.and_then(|any| keys.get_mut(any)) {
                Some(key) => key.1 = true,
                None => {
                    let text =
                        format!("entry {number} has a hash that no key of the message at {at} has");
                    file.say(findings, "index-hash", place, text);
                }
            }
            let since = view.store_time().since(file.header.begin_time);
            let seconds = since.clamp(0, i64::from(i32::MAX) * 1000) / 1000;
            if i64::from(entry.seconds) != seconds {
                let text = format!(
                    "entry {number} says {} s since the file's first message, the message at {at} has {seconds}",
                    entry.seconds
                );
                file.say(findings, "index-time", place, text);
            }
        }
        if keys.iter().any(|(_, is_found)| !is_found) {
            if at < self.expected_to {
                self.missing.add(at);
            } else {
                self.lagging.add(at);
            }
        }
        self.keys = keys;
    }

    /// Entries that point before `at` and that no record has met.
    fn pass(&mut self, at: u64, lost: &LostRanges, findings: &mut Findings) {
        while let Some(&Reverse((points_to, run))) = self.heads.peek()
            && points_to < at
        {
            let Some((file, number, _)) = self.take(run, findings) else {
                continue;
            };
            self.unmet(file, number, points_to, lost, findings);
        }
    }

    fn unmet(
        &mut self,
        file: usize,
        number: u32,
        points_to: u64,
        lost: &LostRanges,
        findings: &mut Findings,
    ) {
        let is_expired = points_to < self.log_min;
        if is_expired || lost.find(points_to).is_some() {
            return;
        }
        let file = &mut self.files[file];
        let text = format!("entry {number} points to {points_to}, where no record starts");
        let place = file.layout.entry_at(number);
        file.say(findings, "index-entry", place, text);
    }

    /// What is left once the log was walked.
    pub(crate) fn finish(
        &mut self,
        log_end: u64,
        stop: &Stop,
        lost: &LostRanges,
        findings: &mut Findings,
    ) {
        self.pass(log_end, lost, findings);
        let mut ahead = Missing::default();
        while let Some(&Reverse((points_to, run))) = self.heads.peek() {
            if self.take(run, findings).is_some() {
                ahead.add(points_to);
            }
        }
        if ahead.count > 0 {
            let severity = if stop.is_clean {
                Severity::Fault
            } else {
                Severity::Note
            };
            let text = format!(
                "{} entries point behind the end of the log, from {} to {}",
                ahead.count, ahead.first, ahead.last
            );
            let finding = Finding::fault(Class::Index, "index-ahead", &self.dir, text);
            findings.add(finding.as_bad_as(severity));
        }
        for file in &self.files {
            if file.named > NAMED_MAX {
                let text = format!(
                    "{} further things are wrong with this file",
                    file.named - NAMED_MAX
                );
                let finding = Finding::fault(Class::Index, "index-more", &file.path, text);
                findings.add(finding.as_bad_as(file.severity()));
            }
        }
        self.say_missing(findings);
    }

    fn say_missing(&self, findings: &mut Findings) {
        if !self.is_enabled {
            return;
        }
        let missing = &self.missing;
        if missing.count > 0 {
            let text = format!(
                "{} messages cannot be found by key, in the log from {} to {} (Apache's broker drops index files after a \
                 crash; a repair makes them again)",
                missing.count, missing.first, missing.last
            );
            findings.add(Finding::fault(
                Class::Index,
                "keys-missing",
                &self.dir,
                text,
            ));
        }
        let lagging = &self.lagging;
        if lagging.count > 0 {
            let text = format!(
                "{} messages are not yet indexed, in the log from {} to {}; the next start indexes them",
                lagging.count, lagging.first, lagging.last
            );
            findings.add(Finding::note(Class::Index, "index-lags", &self.dir, text));
        }
    }
}
