//! Segments that are missing between others, or empty: made up for, so that Apache and we read on behind them.
//!
//! In place of a missing segment stands one that says that nothing follows in it; queue entries that point there become
//! lost messages. Segments that nothing leads to are removed.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gantry_disk::is_no_space;
use gantry_message::record;

use super::{MISSING_SEGMENTS_MAX, Recovery};
use crate::chain::Chain;
use crate::cursor::{Cursor, Step};
use crate::error::StoreError;
use crate::format::entry::Entry;
use crate::format::{blank, name};
use crate::queue::Queue;
use crate::queue_files::first_live;
use crate::segment::Segment;
use crate::width::{narrow, wide};

impl Recovery<'_> {
    /// Missing segments become empty ones, so that Apache and we read on behind them; nothing is read on to where no
    /// segment begins as one does. Returns where the missing ones are.
    pub(super) fn fill_gaps(
        &self,
        chain: &Chain,
        size: u64,
    ) -> Result<Vec<Range<u64>>, StoreError> {
        let (mut all, mut filled) = (chain.all(), Vec::new());
        let last = all.iter().rposition(|segment| begins(segment));
        let behind = all.split_off(last.map_or(0, |last| last + 1));
        self.drop_unreached(chain, all.last(), &behind)?;
        for two in all.windows(2) {
            let (from, to) = (two[0].end(), two[1].start());
            if from == to {
                continue;
            }
            let file = self.place_of(from, size);
            tracing::error!(from, to, file = %file.display(), "log segments are missing, their messages are lost");
            self.counters.quarantined.fetch_add(1, Ordering::Relaxed);
            if (to - from) / size > MISSING_SEGMENTS_MAX {
                continue;
            }
            for start in (from..to).step_by(usize::try_from(size).unwrap_or(usize::MAX)) {
                match self.closed_segment(start, size) {
                    Ok(segment) => chain.insert(Arc::new(segment)),
                    // We read on without it; the next start tries again.
                    Err((path, error)) if is_no_space(&error) => {
                        tracing::error!(file = %path.display(), %error, "no segment can be made in place of a missing one");
                        return Ok(filled);
                    }
                    Err((path, error)) => return Err(StoreError::io("create", &path)(error)),
                }
            }
            filled.push(from..to);
        }
        Ok(filled)
    }

    /// Segments that were made ahead lead nowhere when the one before them is missing: the log must not end behind them.
    fn drop_unreached(
        &self,
        chain: &Chain,
        last: Option<&Arc<Segment>>,
        behind: &[Arc<Segment>],
    ) -> Result<(), StoreError> {
        let ends = last.into_iter().chain(behind).map(|segment| segment.end());
        let first = usize::from(last.is_none());
        let mut pairs = ends.zip(&behind[first.min(behind.len())..]);
        let Some((end, unreached)) = pairs.find(|(end, next)| *end != next.start()) else {
            return Ok(());
        };
        let unreached = behind
            .iter()
            .filter(|segment| segment.start() >= unreached.start());
        for segment in unreached.clone() {
            let path = segment.path();
            if !is_zero(segment).map_err(StoreError::io("read", path))? {
                // Whatever it is, it is looked through like the rest.
                return Ok(());
            }
        }
        for segment in unreached {
            let path = segment.path();
            tracing::error!(file = %path.display(), end, "an empty segment behind missing ones goes");
            self.disk
                .remove(path)
                .map_err(StoreError::io("remove", path))?;
        }
        chain.remove_from(end);
        Ok(())
    }

    /// Where there is nothing in segments that lie before `end`.
    pub(super) fn empty_segments(
        &self,
        chain: &Chain,
        end: u64,
    ) -> Result<Vec<Range<u64>>, StoreError> {
        let mut empty = Vec::new();
        for segment in chain.all().iter().filter(|segment| segment.end() <= end) {
            self.config.recovery_watch.check()?;
            let fail = |error| StoreError::io("read", segment.path())(error);
            let mut head = [0; 8];
            segment.read(&mut head, segment.start()).map_err(fail)?;
            let is_closed =
                blank::remaining(&head).is_some_and(|rest| u64::from(rest) == segment.len());
            if is_closed || head == [0; 8] && is_zero(segment).map_err(fail)? {
                empty.push(segment.start()..segment.end());
            }
        }
        Ok(empty)
    }

    /// Entries that point into segments that are missing would be read as messages: they become lost ones.
    pub(super) fn lose_entries(
        &self,
        chain: &Chain,
        lost: &[Range<u64>],
    ) -> Result<(), StoreError> {
        if lost.is_empty() {
            return Ok(());
        }
        let mut cursor = Cursor::new(chain, false);
        for queue in self.queues.all() {
            let dir = self.files.dir_of(queue.topic(), queue.id());
            for range in lost {
                let first = self.first_behind(&queue, range.start);
                let end = self.first_behind(&queue, range.end);
                if first == end {
                    continue;
                }
                // Apache searches by the files' times, which are those of the last entries.
                let file_end = (end - 1) / queue.per_file() * queue.per_file() + queue.per_file();
                let last = (end..file_end.min(queue.max().0)).rev().find_map(|at| {
                    let entry = queue.entry(self.files, at).ok().flatten()?;
                    match cursor.step(entry.log_offset.0) {
                        Step::Record(view) => Some(view.store_time()),
                        _ => None,
                    }
                });
                let time = last.unwrap_or_else(|| self.config.clock.now());
                let entries = Entry::lost(range.start).encode();
                let entries = entries.repeat(narrow(end - first));
                self.files
                    .write(&queue, first, &entries, time)
                    .map_err(StoreError::io("write", &dir))?;
                let (topic, id) = (queue.topic(), queue.id().0);
                let segment = chain.find(range.start);
                let file = segment
                    .as_ref()
                    .map_or(dir.as_path(), |it| it.path())
                    .display();
                tracing::error!(topic, id, from = first, to = end, %file, "messages of a queue are lost, for there is nothing in their segment");
            }
        }
        // What is noted as synced is not synced again.
        let synced = self.files.sync();
        synced.map_err(|(path, error)| StoreError::io("sync", &path)(error))
    }

    /// The first offset from which on all entries point at or behind a place of the log.
    fn first_behind(&self, queue: &Queue, place: u64) -> u64 {
        let entry = |at| queue.entry(self.files, at).ok().flatten();
        first_live(queue.min().0, queue.max().0, place, entry)
    }

    /// A segment with nothing in it but the record that says so, where Java would make it.
    fn closed_segment(&self, start: u64, size: u64) -> Result<Segment, (PathBuf, io::Error)> {
        let path = self.place_of(start, size);
        let dir = path.parent().unwrap_or(&self.paths.root);
        let made = Segment::create_sparse(&**self.disk, dir, start, size).and_then(|segment| {
            let closing = blank::encode(u32::try_from(size).unwrap_or(u32::MAX));
            segment.write(&closing, start).map(|()| segment)
        });
        made.map_err(|error| (path.clone(), error))
    }

    /// Where the segment is, or is made, that has a place of the log.
    pub(super) fn place_of(&self, at: u64, size: u64) -> PathBuf {
        let dirs = self.config.writable_log_dirs();
        dirs[narrow(at / size) % dirs.len()].join(name::of(at - at % size))
    }
}

/// Whether a segment is all zeros.
fn is_zero(segment: &Segment) -> std::io::Result<bool> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = segment.start();
    while at < segment.end() {
        let read = segment.read(&mut buffer, at)?;
        if read == 0 || buffer[..read].iter().any(|&byte| byte != 0) {
            return Ok(read == 0);
        }
        at += wide(read);
    }
    Ok(true)
}

/// Whether a segment begins with a record or with the one that says that nothing follows.
fn begins(segment: &Segment) -> bool {
    let mut head = [0; 8];
    let read = segment.read(&mut head, segment.start());
    read.is_ok()
        && (head[record::MAGIC_AT..] == record::MAGIC.to_be_bytes() || blank::is_blank(&head))
}
