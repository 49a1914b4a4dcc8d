//! Reading: by queue offset, by log offset, by time.
//!
//! A read by queue offset touches at most the heads of records: sizes come from the queue's entries, the answer is slices
//! of the log's maps. Everything that must look at bytes reads them by position, where a bad page is an error and not a
//! signal.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use gantry_message::{Millis, QueueOffset, RecordView, record};

use crate::config::StoreConfig;
use crate::entries::Entries;
use crate::format::entry::{self, Entry};
use crate::log::Log;
use crate::queue::Queue;
use crate::queue_files::QueueFiles;
use crate::segment::Segment;
use crate::width::{narrow, wide};

/// How a read by queue offset ended; the names are Java's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStatus {
    /// Messages were found.
    Found,
    /// Entries were found, none is wanted.
    NoMatchedMessage,
    /// The entries' messages are already deleted.
    MessageWasRemoving,
    /// The entries' file is missing.
    OffsetFoundNull,
    /// Beyond the end.
    OffsetOverflowBadly,
    /// At the end: the next message will have this offset.
    OffsetOverflowOne,
    /// Before the beginning.
    OffsetTooSmall,
    /// No such queue.
    NoMatchedLogicQueue,
    /// The queue never had a message.
    NoMessageInQueue,
}

impl ReadStatus {
    /// Java's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Found => "FOUND",
            Self::NoMatchedMessage => "NO_MATCHED_MESSAGE",
            Self::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
            Self::OffsetFoundNull => "OFFSET_FOUND_NULL",
            Self::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
            Self::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
            Self::OffsetTooSmall => "OFFSET_TOO_SMALL",
            Self::NoMatchedLogicQueue => "NO_MATCHED_LOGIC_QUEUE",
            Self::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
        }
    }
}

/// What a read by queue offset found.
#[derive(Clone, Debug)]
pub struct Found {
    /// How it ended.
    pub status: ReadStatus,
    /// Where to read next.
    pub next: QueueOffset,
    /// The queue's first offset.
    pub min: QueueOffset,
    /// The queue's end: the offset the next message gets.
    pub max: QueueOffset,
    /// The records, one behind the other; records that are neighbours in the log share a slice.
    pub slices: Vec<Bytes>,
    /// How many records.
    pub count: u32,
    /// How many bytes.
    pub bytes: u64,
    /// Whether the reader is so far behind that a slave should serve it.
    pub suggest_slave: bool,
    /// How far the last examined entry lies behind the end of the log, in bytes.
    pub behind_bytes: u64,
}

/// What a query by key found.
#[derive(Clone, Debug)]
pub struct QueryFound {
    /// Whole records, newest first.
    pub records: Vec<Bytes>,
    /// When the index was last added to.
    pub last_update_time: Millis,
    /// The log offset of the last indexed message.
    pub last_update_offset: u64,
}

/// Reads log and queues; borrows what it needs.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) config: Arc<StoreConfig>,
    pub(crate) log: &'a Log,
    pub(crate) files: &'a QueueFiles,
    pub(crate) entries: Entries<'a>,
}

/// So many entries are looked at in one read, at least.
const ENTRIES_EXAMINED_MIN: u64 = 16_000 / entry::LEN;
/// So many entries are fetched at once.
const CHUNK: usize = 64 * narrow(entry::LEN);

impl Reader<'_> {
    /// Reads by queue offset, with Java's answers for every position and Java's limits.
    pub(crate) fn read(
        &self,
        queue: &Queue,
        from: u64,
        max_messages: u32,
        wanted: &dyn Fn(i64) -> bool,
    ) -> Found {
        let log_max = self.log.appended.value();
        let (min, max) = (queue.min().0, queue.max().0);
        let outside = if max == 0 {
            Some((ReadStatus::NoMessageInQueue, 0))
        } else if from < min {
            Some((ReadStatus::OffsetTooSmall, min))
        } else if from == max {
            Some((ReadStatus::OffsetOverflowOne, from))
        } else if from > max {
            Some((ReadStatus::OffsetOverflowBadly, max))
        } else {
            None
        };
        let mut taken = Taken::new(self.log);
        let (status, next) = outside
            .unwrap_or_else(|| self.walk(queue, from, max_messages, wanted, log_max, &mut taken));
        taken.end_run();
        let behind_bytes = log_max.saturating_sub(taken.examined.unwrap_or(log_max));
        Found {
            status,
            next: QueueOffset(next),
            min: QueueOffset(min),
            max: QueueOffset(max),
            slices: taken.slices,
            count: taken.count,
            bytes: taken.bytes,
            suggest_slave: behind_bytes > self.memory_window(),
            behind_bytes,
        }
    }

    fn walk(
        &self,
        queue: &Queue,
        from: u64,
        max_messages: u32,
        wanted: &dyn Fn(i64) -> bool,
        log_max: u64,
        taken: &mut Taken<'_>,
    ) -> (ReadStatus, u64) {
        let file_end = (from / queue.per_file() + 1) * queue.per_file();
        let stop = (from + ENTRIES_EXAMINED_MIN.max(u64::from(max_messages))).min(file_end);
        let memory = self.memory_window();
        let (mut next, mut removed, mut skip_below) = (from, false, 0);
        let mut chunk = [0; CHUNK];
        while next < stop {
            let room = CHUNK.min(narrow((stop - next).min(wide(CHUNK)) * entry::LEN));
            let read = match queue.read(self.files, next, &mut chunk[..room]) {
                Ok(read) => read,
                Err(error) if next == from => {
                    let (topic, id) = (queue.topic(), queue.id().0);
                    tracing::warn!(topic, id, from, %error, "cannot read the entries of a queue");
                    // Entries that are nowhere are skipped; for what may come back the reader tries again.
                    let is_gone = matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                    );
                    let next = if is_gone { file_end } else { from };
                    return (ReadStatus::OffsetFoundNull, next);
                }
                Err(_) => break,
            };
            if read == 0 {
                break;
            }
            for bytes in chunk[..narrow(read * entry::LEN)].chunks_exact(narrow(entry::LEN)) {
                let entry = self.entries.believe(queue, next, Entry::decode(bytes));
                let Some(entry) = entry else {
                    (removed, next) = (true, next + 1);
                    continue;
                };
                let at = entry.log_offset.0;
                let on_disk = log_max.saturating_sub(at) > memory;
                if self.is_full(taken, entry.size, max_messages, on_disk) {
                    return (taken.status(removed), next);
                }
                (taken.examined, next) = (Some(at), next + 1);
                if at < skip_below || !wanted(entry.tags_code) {
                    continue;
                }
                if !taken.take(at, u64::from(entry.size)) {
                    removed = true;
                    skip_below = self
                        .log
                        .chain
                        .at_or_after(at)
                        .map_or(0, |segment| segment.start());
                }
            }
        }
        (taken.status(removed), next)
    }

    fn is_full(&self, taken: &Taken<'_>, size: u32, max_messages: u32, on_disk: bool) -> bool {
        if taken.count == 0 {
            return false;
        }
        let config = &self.config;
        let (bytes, count) = if on_disk {
            (
                config.max_transfer_bytes_on_disk,
                config.max_transfer_count_on_disk,
            )
        } else {
            (
                config.max_transfer_bytes_in_memory,
                config.max_transfer_count_in_memory,
            )
        };
        taken.count >= max_messages || taken.bytes + u64::from(size) > bytes || taken.count >= count
    }

    /// So many bytes at the log's end count as being in memory.
    fn memory_window(&self) -> u64 {
        (self.config.physical_memory / 100).saturating_mul(u64::from(self.config.memory_ratio))
    }

    /// Whether a read from there finds entries and messages in memory, as far as one can know without asking the disk:
    /// both were written by this process and the log has not grown much since.
    pub(crate) fn is_hot(&self, queue: &Queue, from: u64) -> bool {
        if queue.max().0 <= from || from < queue.min().0 {
            return true;
        }
        if !queue.is_warm(from) {
            return false;
        }
        let entry = queue.entry(self.files, from).ok().flatten();
        let behind = |entry: Entry| self.log.appended.value().saturating_sub(entry.log_offset.0);
        entry.is_none_or(|entry| behind(entry) <= self.memory_window() / 2)
    }

    /// The whole record at a log offset, copied.
    pub(crate) fn record_at(&self, offset: u64) -> io::Result<Option<Bytes>> {
        if offset >= self.log.appended.value() {
            return Ok(None);
        }
        let Some(segment) = self.log.chain.find(offset) else {
            return Ok(None);
        };
        let mut head = [0; 8];
        let read = segment.read(&mut head, offset)?;
        let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let is_record =
            read == head.len() && head[record::MAGIC_AT..] == record::MAGIC.to_be_bytes();
        if !is_record || u64::from(size) > segment.end() - offset {
            return Ok(None);
        }
        let mut bytes = vec![0; narrow(u64::from(size))];
        let read = segment.read(&mut bytes, offset)?;
        let view = RecordView::parse(&bytes[..read]);
        let is_whole =
            view.is_ok_and(|view| view.log_offset().0 == offset && view.len() == bytes.len());
        Ok(is_whole.then(|| Bytes::from(bytes)))
    }

    /// When the record at a log offset was stored.
    pub(crate) fn store_time(&self, offset: u64) -> io::Result<Option<Millis>> {
        if offset >= self.log.appended.value() {
            return Ok(None);
        }
        let Some(segment) = self.log.chain.find(offset) else {
            return Ok(None);
        };
        let mut head = [0; record::HEAD_LEN_MAX];
        let read = segment.read(&mut head, offset)?;
        let is_record = head
            .get(record::MAGIC_AT..8)
            .is_some_and(|magic| magic == record::MAGIC.to_be_bytes());
        Ok(if is_record {
            record::peek_store_time(&head[..read])
        } else {
            None
        })
    }

    pub(crate) fn store_time_at(&self, queue: &Queue, at: u64) -> io::Result<Option<Millis>> {
        if at < queue.min().0 {
            return Ok(None);
        }
        match self.entries.at(queue, at)? {
            Some(entry) => self.store_time(entry.log_offset.0),
            None => Ok(None),
        }
    }

    /// Binary search by store time with Java's choice between neighbours: the nearer one, the earlier one on a tie; 0
    /// for an empty queue.
    pub(crate) fn offset_at_time(&self, queue: &Queue, time: Millis) -> io::Result<u64> {
        let (mut low, mut high) = (queue.min().0, queue.max().0);
        let (mut before, mut after) = (None, None);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.store_time_at(queue, middle)? {
                Some(found) if found == time => return Ok(middle),
                Some(found) if found > time => (high, after) = (middle, Some((middle, found))),
                Some(found) => (low, before) = (middle + 1, Some((middle, found))),
                // Its message is gone: what is left lies behind it.
                None => low = middle + 1,
            }
        }
        Ok(match (before, after) {
            (Some((before, early)), Some((after, late))) => {
                if time.since(early) > late.since(time) {
                    after
                } else {
                    before
                }
            }
            (Some((only, _)), None) | (None, Some((only, _))) => only,
            (None, None) => 0,
        })
    }

    /// Entries from an offset on; none where the disk gives none.
    pub(crate) fn entries(&self, queue: &Queue, from: u64, max: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut next = from;
        let mut chunk = [0; CHUNK];
        while entries.len() < max {
            let room = CHUNK.min((max - entries.len()).saturating_mul(narrow(entry::LEN)));
            let Ok(read @ 1..) = queue.read(self.files, next, &mut chunk[..room]) else {
                break;
            };
            let bytes = &chunk[..narrow(read * entry::LEN)];
            entries.extend((next..).zip(bytes.chunks_exact(narrow(entry::LEN))).map(
                |(at, bytes)| {
                    let entry = self.entries.believe(queue, at, Entry::decode(bytes));
                    entry.unwrap_or(entry::FILLER)
                },
            ));
            next += read;
        }
        entries
    }
}

/// What a read has collected. Neighbours in the log become one slice.
struct Taken<'a> {
    log: &'a Log,
    segment: Option<Arc<Segment>>,
    run: Option<(u64, u64)>,
    slices: Vec<Bytes>,
    count: u32,
    bytes: u64,
    /// Where the last examined record starts.
    examined: Option<u64>,
}

impl<'a> Taken<'a> {
    fn new(log: &'a Log) -> Self {
        Self {
            log,
            segment: None,
            run: None,
            slices: Vec::new(),
            count: 0,
            bytes: 0,
            examined: None,
        }
    }

    /// Adds a record; false when the log does not have it.
    fn take(&mut self, at: u64, len: u64) -> bool {
        let end = at.saturating_add(len);
        // Where an entry is damaged, nothing says that it points to what is written.
        if end > self.log.appended.value() {
            return false;
        }
        let holds = |segment: &Segment| segment.start() <= at && end <= segment.end();
        match self.run {
            Some((start, end)) if end == at && self.segment.as_deref().is_some_and(holds) => {
                self.run = Some((start, at + len));
            }
            _ => {
                self.end_run();
                if !self.segment.as_deref().is_some_and(holds) {
                    self.segment = self.log.chain.find(at).filter(|segment| holds(segment));
                }
                if self.segment.is_none() {
                    return false;
                }
                self.run = Some((at, at + len));
            }
        }
        self.count += 1;
        self.bytes += len;
        true
    }

    fn end_run(&mut self) {
        let (Some((start, end)), Some(segment)) = (self.run.take(), &self.segment) else {
            return;
        };
        let slice = segment.slice(start, end - start).or_else(|_| {
            // No map to be had (their number is limited): a copy does as well.
            let mut copy = vec![0; narrow(end - start)];
            segment.read(&mut copy, start).map(|_| Bytes::from(copy))
        });
        match slice {
            Ok(slice) => self.slices.push(slice),
            Err(error) => {
                tracing::error!(path = %segment.path().display(), start, end, %error, "cannot read the log");
            }
        }
    }

    fn status(&self, removed: bool) -> ReadStatus {
        if self.count > 0 {
            ReadStatus::Found
        } else if removed {
            ReadStatus::MessageWasRemoving
        } else {
            ReadStatus::NoMatchedMessage
        }
    }
}
