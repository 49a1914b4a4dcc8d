//! Finds out how far one queue reaches, from its files and, where those are not trusted, from the log.
//!
//! Entries of a queue point ever further into the log, so the end of what can be trusted is found by bisection: valid
//! entries that point below a given place. Everything behind it is built again from the log.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gantry_disk::{Disk, File, Open};
use gantry_message::{Millis, QueueId};
use rustc_hash::FxHashMap;

use crate::chain::Chain;
use crate::cursor::{Cursor, Step};
use crate::error::StoreError;
use crate::figures::Counters;
use crate::format::deletions::Deletions;
use crate::format::entry::{self, Entry};
use crate::format::name;
use crate::paths::Paths;
use crate::queue::Extent;
use crate::queue_files::{QueueFiles, first_live};
use crate::queues::Queues;
use crate::recovery::RecoveryWatch;
use crate::width::{narrow, wide};

/// More entries in a row than this are no left-overs.
const LEFT_OVERS_MAX: u64 = 4096;

/// Loads queues up to a place of the log.
pub(crate) struct QueueLoader<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) paths: &'a Paths,
    pub(crate) files: &'a QueueFiles,
    pub(crate) queues: &'a Queues,
    pub(crate) counters: &'a Counters,
    pub(crate) chain: &'a Chain,
    /// Entries that point here or further are not looked at: the log tells better.
    pub(crate) before: u64,
    /// Queues whose files a crash may have left or brought back.
    pub(crate) deletions: &'a Deletions,
    /// The log was cut: what comes behind may fill what was lost.
    pub(crate) is_cut: bool,
    /// Who may end it.
    pub(crate) watch: &'a RecoveryWatch,
    /// Entries below `before` are all there and right.
    pub(crate) trusted: bool,
}

/// What loading queues found out.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Where in the log entries have to be looked for, if some below `before` are missing.
    pub(crate) missing: Option<u64>,
    /// Ends of queues, by slot, behind which their files hold nothing.
    pub(crate) clean_ends: FxHashMap<usize, u64>,
}

/// From so many queues on, several are loaded at once: each costs a few reads that may have to wait for the disk.
const MANY: usize = 256;
const THREADS: usize = 8;

impl QueueLoader<'_> {
    /// Loads queues.
    pub(crate) fn load_all(&self, queues: &[(String, QueueId)]) -> Result<Loaded, StoreError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut loaded = Loaded::default();
            while let Some((topic, id)) = queues.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.watch.check()?;
                let missing = self.load(topic, *id, &mut loaded.clean_ends)?;
                loaded.missing = loaded.missing.into_iter().chain(missing).min();
            }
            Ok(loaded)
        };
        let threads = if queues.len() < MANY { 0 } else { THREADS };
        std::thread::scope(|scope| {
            let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, work);
            // Where there are no threads to be had this one does it alone.
            let helpers: Vec<_> = (0..threads).filter_map(|at| spawn(at).ok()).collect();
            let mut all = work()?;
            for helper in helpers {
                let part: Loaded = helper
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                all.missing = all.missing.into_iter().chain(part.missing).min();
                all.clean_ends.extend(part.clean_ends);
            }
            Ok(all)
        })
    }

    /// Loads a queue. Returns where in the log its entries have to be looked for, if some below `before` are missing.
    fn load(
        &self,
        topic: &str,
        id: QueueId,
        clean_ends: &mut FxHashMap<usize, u64>,
    ) -> Result<Option<u64>, StoreError> {
        let dir = self.files.dir_of(topic, id);
        let fail = |error| StoreError::io("load", &dir)(error);
        let (file_size, bases, damaged) = self.files_of(&dir).map_err(fail)?;
        let Some(&last) = bases.last() else {
            return Ok(damaged.then_some(0));
        };
        let mut pages = Pages::new(self.disk, &dir, file_size);
        let (first, mut max, is_holed) = self.end(&mut pages, &bases);
        if self.is_deleted(&mut pages, (topic, id), first, max) {
            tracing::info!(topic, id = id.0, "the files of a deleted queue go");
            let mut files = bases.iter().map(|&base| dir.join(name::of(base)));
            files
                .try_for_each(|path| self.disk.remove(&path))
                .map_err(fail)?;
            return Ok(None);
        }
        let begins_there = pages.entry(first) == Some(entry::FILLER);
        if first > 0 && self.chain.min() == 0 && !begins_there {
            // Its first files are gone, and not because the log was cleaned: all of it is in the log.
            tracing::error!(topic, id = id.0, first, "a queue has lost its first files");
            return Ok(Some(0));
        }
        if !self.trusted {
            max = self.agreed(&mut pages, (topic, id), first, max);
        }
        if self.is_cut {
            // Fillers at the end stand for messages that may come yet, and hide entries before them that do not count.
            let stays = |entry: Entry| !entry.is_filler() && entry.log_offset.0 < self.before;
            while max > first && !pages.entry(max - 1).is_some_and(stays) {
                max -= 1;
            }
        }
        let extent = if first == max {
            // Nothing in its files counts: the log says with which offset it begins.
            Extent {
                min: 0,
                max: 0,
                log_end: 0,
            }
        } else {
            let min = first_live(first, max, self.chain.min(), |at| pages.entry(at));
            Extent {
                min,
                max,
                log_end: log_end(&mut pages, first, max),
            }
        };
        let queue = self.queues.insert(topic, id, file_size, extent);
        let end = extent.max * entry::LEN;
        let is_in_last = last <= end && end < last + file_size;
        if last + file_size == end || is_in_last && pages.is_zero(extent.max) {
            clean_ends.insert(queue.slot(), extent.max);
        }
        Ok((damaged || is_holed).then_some(extent.log_end))
    }

    /// Whether the newest message of a queue was deleted with it.
    fn is_deleted(
        &self,
        pages: &mut Pages<'_>,
        (topic, id): (&str, QueueId),
        first: u64,
        max: u64,
    ) -> bool {
        if self.deletions.is_empty() {
            return false;
        }
        let Some(newest) = newest(pages, first, max) else {
            return false;
        };
        let at = newest.log_offset.0;
        if at < self.chain.min() {
            // Its time is gone with it.
            return self.deletions.covers(topic, id, at, Millis(i64::MIN));
        }
        matches!(Cursor::new(self.chain, false).step(at), Step::Record(view)
            if self.deletions.covers(topic, id, at, view.store_time()))
    }

    /// First offset and end of the queue, and whether files behind the end have entries that count. The end is in the
    /// last file that begins with such an entry; files behind that hold nothing.
    fn end(&self, pages: &mut Pages<'_>, bases: &[u64]) -> (u64, u64, bool) {
        let begins = |base: &u64| base / entry::LEN;
        let first = bases.first().map_or(0, begins);
        let mut files = bases.iter().map(begins);
        let whole = files.by_ref().take_while(|&at| self.counts(pages, at));
        let end = whole.last().map_or(first, |last| {
            self.bisect(pages, last, last + pages.file_size / entry::LEN)
        });
        (first, end, files.any(|at| self.counts(pages, at)))
    }

    /// The length of the queue's files, where they start, and whether something is wrong with them.
    fn files_of(&self, dir: &Path) -> io::Result<(u64, Vec<u64>, bool)> {
        let listed = self.disk.list(dir)?;
        let lens = || {
            listed
                .iter()
                .filter(|one| !one.is_dir && name::parse(&one.name).is_some())
                .map(|one| one.len)
        };
        let configured = self.queues.file_size();
        let names = listed.iter().filter(|one| !one.is_dir);
        let bases: Vec<u64> = names.filter_map(|one| name::parse(&one.name)).collect();
        let usual = |len: &u64| {
            let fits = |base: &&u64| base.is_multiple_of(*len);
            let is_whole = *len > 0 && len.is_multiple_of(entry::LEN);
            is_whole && bases.iter().filter(fits).count() * 2 > bases.len()
        };
        let size = lens()
            .find(|&len| len == configured)
            .or_else(|| lens().find(usual))
            .unwrap_or(configured);
        let (mut bases, mut damaged_from) = (Vec::new(), None);
        for one in listed.iter().filter(|one| !one.is_dir) {
            let path = dir.join(&one.name);
            match name::parse(&one.name) {
                Some(base) if base % size == 0 && one.len == size => bases.push(base),
                Some(base) if base % size == 0 && one.len > 0 => {
                    tracing::error!(file = %path.display(), len = one.len, size, "a queue file has the wrong size");
                    self.disk.open(&path, Open::Write)?.set_len(size)?;
                    bases.push(base);
                    damaged_from = damaged_from.or(Some(base + size));
                }
                Some(base) if base % size == 0 && one.len == 0 => {
                    tracing::error!(file = %path.display(), "a queue file is empty");
                    self.disk.remove(&path)?;
                    damaged_from = damaged_from.or(Some(base));
                }
                Some(_) => {
                    let why = "not where a file of this queue is";
                    self.paths.set_aside(self.disk, self.counters, &path, why)?;
                }
                None => tracing::warn!(file = %path.display(), "not a queue file, left alone"),
            }
        }
        // Files behind damage or a gap are not looked at: the log tells what belongs there.
        let gap = bases
            .windows(2)
            .find(|two| two[0] + size != two[1])
            .map(|two| two[1]);
        let until = damaged_from.into_iter().chain(gap).min();
        bases.retain(|&base| until.is_none_or(|until| base < until));
        Ok((size, bases, damaged_from.is_some() || gap.is_some()))
    }

    /// The first offset whose entry does not count. Most queues are short: the search begins at their start.
    fn bisect(&self, pages: &mut Pages<'_>, first: u64, end: u64) -> u64 {
        let (mut low, mut high, mut step) = (first, end, PAGE_ENTRIES);
        while low + step < high {
            let probe = low + step - 1;
            if self.counts(pages, probe) {
                (low, step) = (probe + 1, step * 2);
            } else {
                high = probe;
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.counts(pages, middle) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        low
    }

    fn counts(&self, pages: &mut Pages<'_>, at: u64) -> bool {
        pages
            .entry(at)
            .is_some_and(|entry| entry.is_filler() || entry.log_offset.0 < self.before)
    }

    /// Goes back until the last entry and the log agree: left-overs of an earlier cut look like entries. Where none does for
    /// long, the queue is one whose records all say another offset (Apache goes on behind a gap without one): then it is as
    /// it is.
    fn agreed(
        &self,
        pages: &mut Pages<'_>,
        (topic, id): (&str, QueueId),
        first: u64,
        end: u64,
    ) -> u64 {
        let mut cursor = Cursor::new(self.chain, false);
        let mut shifted = None;
        let mut max = end;
        while max > first && end - max < LEFT_OVERS_MAX {
            let Some(entry) = pages.entry(max - 1) else {
                return max;
            };
            let at = entry.log_offset.0;
            if at < self.chain.min() || entry.is_filler() {
                return shifted.unwrap_or(max);
            }
            if let Step::Record(view) = cursor.step(at)
                && view.topic() == topic
                && view.queue_id() == id
                && wide(view.len()) == u64::from(entry.size)
            {
                if view.queue_offset().0 == max - 1 {
                    return max;
                }
                shifted = shifted.or(Some(max));
            }
            max -= 1;
        }
        shifted.unwrap_or(max)
    }
}

/// Where the last message's record ends; 0 without one.
fn log_end(pages: &mut Pages<'_>, first: u64, max: u64) -> u64 {
    newest(pages, first, max).map_or(0, |entry| entry.end())
}

/// The last entry that is a message's.
fn newest(pages: &mut Pages<'_>, first: u64, max: u64) -> Option<Entry> {
    let mut entries = (first..max).rev().filter_map(|at| pages.entry(at));
    entries.find(|entry| !entry.is_filler())
}

/// So many entries are read at once.
const PAGE_ENTRIES: u64 = 4096 / entry::LEN;

/// The entries of one queue as they are in its files; a file and a page of it are kept for the next look.
struct Pages<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    file_size: u64,
    file: Option<(u64, Arc<dyn File>)>,
    /// Invariant: the bytes of the entries from `page_from` on, as far as the disk gave them.
    page: Vec<u8>,
    page_from: u64,
}

impl<'a> Pages<'a> {
    fn new(disk: &'a dyn Disk, dir: &'a Path, file_size: u64) -> Self {
        Self {
            disk,
            dir,
            file_size,
            file: None,
            page: Vec::new(),
            page_from: 0,
        }
    }

    /// The entry at an offset; `None` for what is none, and where the disk gives nothing.
    fn entry(&mut self, at: u64) -> Option<Entry> {
        self.bytes(at).and_then(|bytes| Entry::decode(&bytes))
    }

    fn is_zero(&mut self, at: u64) -> bool {
        self.bytes(at) == Some([0; 20])
    }

    fn bytes(&mut self, at: u64) -> Option<[u8; 20]> {
        let skip = |from: u64| narrow((at - from) * entry::LEN);
        if at < self.page_from || self.page.len() < skip(self.page_from) + narrow(entry::LEN) {
            // What cannot be read is as good as not there: the log tells.
            self.fill(at).ok()?;
        }
        self.page
            .get(skip(self.page_from)..)?
            .first_chunk()
            .copied()
    }

    fn fill(&mut self, at: u64) -> io::Result<()> {
        let per_file = self.file_size / entry::LEN;
        let begin = at / per_file * per_file;
        let base = begin * entry::LEN;
        self.page.clear();
        let file = match &self.file {
            Some((open, file)) if *open == base => Arc::clone(file),
            _ => self.disk.open(&self.dir.join(name::of(base)), Open::Read)?,
        };
        self.file = Some((base, Arc::clone(&file)));
        self.page_from = begin + (at - begin) / PAGE_ENTRIES * PAGE_ENTRIES;
        let count = PAGE_ENTRIES.min(begin + per_file - self.page_from);
        self.page.resize(narrow(count * entry::LEN), 0);
        let read = file.read_at(&mut self.page, self.page_from * entry::LEN - base);
        self.page.truncate(*read.as_ref().unwrap_or(&0));
        read.map(|_| ())
    }
}
