//! Finds out how far one queue reaches, from its files and, where those are not trusted, from the log.
//!
//! Entries of a queue point ever further into the log, so the end of what can be trusted is found by bisection: valid
//! entries that point below a given place. Everything behind it is built again from the log.

use std::io;

use gantry_disk::{Disk, Open};
use gantry_message::QueueId;

use crate::chain::Chain;
use crate::cursor::{Cursor, Step};
use crate::error::StoreError;
use crate::figures::Counters;
use crate::format::{entry, name};
use crate::paths::Paths;
use crate::queue::{Extent, Queue};
use crate::queue_files::QueueFiles;
use crate::queues::Queues;
use crate::width::wide;

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
    /// Entries below `before` are all there and right.
    pub(crate) trusted: bool,
}

impl QueueLoader<'_> {
    /// Loads a queue. Returns where in the log its entries have to be looked for, if some below `before` are missing.
    pub(crate) fn load(&self, topic: &str, id: QueueId) -> Result<Option<u64>, StoreError> {
        let dir = self.files.dir_of(topic, id);
        let fail = |error| StoreError::io("load", &dir)(error);
        let (file_size, bases, damaged) = self.files_of(topic, id).map_err(fail)?;
        let (Some(&first), Some(&last)) = (bases.first(), bases.last()) else {
            return Ok(damaged.then_some(0));
        };
        if first > 0 && self.chain.min() == 0 {
            // Its first files are gone, and not because the log was cleaned: all of it is in the log.
            tracing::error!(topic, id = id.0, first, "a queue has lost its first files");
            return Ok(Some(0));
        }
        // A queue to read with: everything that its files have room for counts as readable.
        let all = Extent {
            min: 0,
            max: (last + file_size) / entry::LEN,
            log_end: 0,
        };
        let probe = self.queues.probe(topic, id, file_size, all);
        let (first, mut max, is_holed) = self.end(&probe, &bases);
        if !self.trusted {
            max = self.agreed(&probe, first, max);
        }
        let extent = if first == max {
            // Nothing in its files counts: the log says with which offset it begins.
            Extent {
                min: 0,
                max: 0,
                log_end: 0,
            }
        } else {
            Extent {
                min: first,
                max,
                log_end: self.log_end(&probe, first, max),
            }
        };
        self.files.forget(&probe);
        self.queues.insert(topic, id, file_size, extent);
        Ok((damaged || is_holed).then_some(extent.log_end))
    }

    /// First offset and end of the queue, and whether files behind the end have entries that count. The end is in the
    /// last file that begins with such an entry; files behind that hold nothing.
    fn end(&self, queue: &Queue, bases: &[u64]) -> (u64, u64, bool) {
        let begins = |base: &u64| base / entry::LEN;
        let first = bases.first().map_or(0, begins);
        let mut files = bases.iter().map(begins);
        let whole = files.by_ref().take_while(|&at| self.counts(queue, at));
        let end = whole.last().map_or(first, |last| {
            self.bisect(queue, last, last + queue.per_file())
        });
        (first, end, files.any(|at| self.counts(queue, at)))
    }

    /// The length of the queue's files, where they start, and whether something is wrong with them.
    fn files_of(&self, topic: &str, id: QueueId) -> io::Result<(u64, Vec<u64>, bool)> {
        let dir = self.files.dir_of(topic, id);
        let listed = self.disk.list(&dir)?;
        let lens = || {
            listed
                .iter()
                .filter(|one| !one.is_dir && name::parse(&one.name).is_some())
                .map(|one| one.len)
        };
        let configured = self.queues.file_size();
        let usual = |len: &u64| *len > 0 && len.is_multiple_of(entry::LEN);
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

    /// The first offset whose entry does not count.
    fn bisect(&self, queue: &Queue, first: u64, end: u64) -> u64 {
        let (mut low, mut high) = (first, end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.counts(queue, middle) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        low
    }

    fn counts(&self, queue: &Queue, at: u64) -> bool {
        let entry = queue.entry(self.files, at).ok().flatten();
        entry.is_some_and(|entry| entry.is_filler() || entry.log_offset.0 < self.before)
    }

    /// Goes back until the last entry and the log agree: left-overs of an earlier cut look like entries.
    fn agreed(&self, queue: &Queue, first: u64, mut max: u64) -> u64 {
        let mut cursor = Cursor::new(self.chain, false);
        while max > first {
            let Ok(Some(entry)) = queue.entry(self.files, max - 1) else {
                return max;
            };
            let at = entry.log_offset.0;
            if at < self.chain.min() || entry.is_filler() {
                return max;
            }
            let is_same = matches!(cursor.step(at), Step::Record(view)
                if view.topic() == queue.topic()
                    && view.queue_id() == queue.id()
                    && view.queue_offset().0 == max - 1
                    && wide(view.len()) == u64::from(entry.size));
            if is_same {
                return max;
            }
            max -= 1;
        }
        max
    }

    /// Where the last message's record ends; 0 without one.
    fn log_end(&self, queue: &Queue, first: u64, max: u64) -> u64 {
        let entries = (first..max)
            .rev()
            .filter_map(|at| queue.entry(self.files, at).ok().flatten());
        let messages = entries.filter(|entry| !entry.is_filler());
        messages.map(|entry| entry.end()).next().unwrap_or(0)
    }
}
