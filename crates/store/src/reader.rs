//! Reading: by queue offset, by log offset, by time.
//!
//! A read by queue offset copies no message: sizes come from the queue's entries, the answer is slices of the log's maps, for
//! a socket. A thread that must not wait ([`Reader::read_now`]) gets them only when the system says that their pages are
//! in memory; another one ([`Reader::read`]) reads them once by position first, so that the socket's thread does not
//! wait either. Everything that must look at bytes reads them by position, where a bad page is an error and not a signal.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use gantry_message::{Millis, QueueOffset, RecordView, record};

use crate::config::StoreConfig;
use crate::entries::Entries;
use crate::format::entry::{self, Entry};
use crate::log::Log;
use crate::queue::Queue;
use crate::queue_files::{QueueFiles, Wait};
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
        let (mut walk, mut found) = self.look(queue, from, max_messages, wanted, Wait::ForDisk);
        for run in &mut walk.runs {
            match run.load() {
                Ok(slice) => found.add(run, slice),
                Err(error) => {
                    let path = run.segment.path().display();
                    tracing::error!(%path, from = run.start, to = run.end, %error, "cannot read the log");
                    // Nothing is skipped: the reader gets what lies before and comes back for this.
                    found.next = QueueOffset(run.first);
                    if found.count == 0 {
                        found.status = ReadStatus::OffsetFoundNull;
                    }
                    break;
                }
            }
        }
        found
    }

    /// [`Reader::read`] without waiting for the disk; `None` when something is not in memory.
    pub(crate) fn read_now(
        &self,
        queue: &Queue,
        from: u64,
        max_messages: u32,
        wanted: &dyn Fn(i64) -> bool,
    ) -> Option<Found> {
        let (walk, mut found) = self.look(queue, from, max_messages, wanted, Wait::Never);
        if walk.would_wait || !are_in_memory(&walk.runs) {
            return None;
        }
        for run in &walk.runs {
            found.add(run, run.slice().ok()?);
        }
        Some(found)
    }

    /// Finds out what a read gives, without looking at the log's bytes: what it takes of the log, and the answer without
    /// it.
    fn look(
        &self,
        queue: &Queue,
        from: u64,
        max_messages: u32,
        wanted: &dyn Fn(i64) -> bool,
        wait: Wait,
    ) -> (Walk<'_>, Found) {
        let log_max = self.log.appended.value();
        let (min, max) = (queue.min().0, queue.max().0);
        let mut walk = Walk::new(self.log, log_max);
        let (status, next) = if max == 0 {
            (ReadStatus::NoMessageInQueue, 0)
        } else if from < min {
            (ReadStatus::OffsetTooSmall, min)
        } else if from == max {
            (ReadStatus::OffsetOverflowOne, from)
        } else if from > max {
            (ReadStatus::OffsetOverflowBadly, max)
        } else {
            self.walk(queue, from, max_messages, wanted, wait, &mut walk)
        };
        let behind_bytes = log_max.saturating_sub(walk.examined.unwrap_or(log_max));
        let found = Found {
            status,
            next: QueueOffset(next),
            min: QueueOffset(min),
            max: QueueOffset(max),
            slices: Vec::with_capacity(walk.runs.len()),
            count: 0,
            bytes: 0,
            suggest_slave: behind_bytes > self.memory_window(),
            behind_bytes,
        };
        (walk, found)
    }

    fn walk(
        &self,
        queue: &Queue,
        from: u64,
        max_messages: u32,
        wanted: &dyn Fn(i64) -> bool,
        wait: Wait,
        walk: &mut Walk<'_>,
    ) -> (ReadStatus, u64) {
        let file_end = (from / queue.per_file() + 1) * queue.per_file();
        let stop = (from + ENTRIES_EXAMINED_MIN.max(u64::from(max_messages))).min(file_end);
        let memory = self.memory_window();
        let (mut next, mut skip_below) = (from, 0);
        let mut status = ReadStatus::NoMatchedMessage;
        let mut chunk = [0; CHUNK];
        while next < stop {
            let room = CHUNK.min(narrow((stop - next).min(wide(CHUNK)) * entry::LEN));
            let read = match queue.read(self.files, next, &mut chunk[..room], wait) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    walk.would_wait = true;
                    break;
                }
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
            let bytes = chunk[..narrow(read * entry::LEN)].chunks_exact(narrow(entry::LEN));
            if wait == Wait::ForDisk {
                self.prefetch(
                    bytes.clone(),
                    max_messages.saturating_sub(walk.count),
                    wanted,
                );
            }
            for bytes in bytes {
                if self.entries.is_tired() && next > from {
                    return (status, next);
                }
                let entry = Entry::decode(bytes);
                let entry = match wait {
                    Wait::ForDisk => match self.entries.believe(queue, next, entry) {
                        Ok(entry) => entry,
                        Err(error) => {
                            let (topic, id) = (queue.topic(), queue.id().0);
                            tracing::error!(topic, id, at = next, %error, "cannot read the log");
                            // Nothing is skipped: the reader gets what lies before and comes back for this.
                            if next == from {
                                status = ReadStatus::OffsetFoundNull;
                            }
                            return (status, next);
                        }
                    },
                    Wait::Never => {
                        let sure = entry.and_then(|one| self.entries.believe_now(queue, next, one));
                        if sure.is_none() {
                            walk.would_wait = true;
                            return (status, next);
                        }
                        sure
                    }
                };
                let Some(entry) = entry else {
                    status = walk.or_found(ReadStatus::MessageWasRemoving);
                    next += 1;
                    continue;
                };
                let at = entry.log_offset.0;
                if at < skip_below {
                    (walk.examined, next) = (Some(at), next + 1);
                    continue;
                }
                let on_disk = walk.log_max.saturating_sub(at) > memory;
                if self.is_full(walk, entry.size, max_messages, on_disk) {
                    walk.examined = Some(at);
                    return (status, next);
                }
                if !wanted(entry.tags_code) {
                    status = walk.or_found(ReadStatus::NoMatchedMessage);
                } else if walk.take(next, at, u64::from(entry.size)) {
                    status = ReadStatus::Found;
                } else {
                    status = walk.or_found(ReadStatus::MessageWasRemoving);
                    // Its segment is gone, and with it whatever else points there.
                    let behind = self.log.chain.at_or_after(at);
                    skip_below = behind.map_or(0, |segment| segment.start());
                }
                (walk.examined, next) = (Some(at), next + 1);
            }
        }
        (status, next)
    }

    /// Lets the system begin to read the messages that are probably taken, all at once, so that the disk can choose the
    /// order.
    fn prefetch(
        &self,
        entries: std::slice::ChunksExact<'_, u8>,
        count: u32,
        wanted: &dyn Fn(i64) -> bool,
    ) {
        let entries = entries.filter_map(Entry::decode);
        let wanted = entries.filter(|entry| !entry.is_filler() && wanted(entry.tags_code));
        let end = self.log.appended.value();
        let mut bytes = 0;
        // One more than is taken: its head is looked at before it turns out to be too much.
        for entry in wanted.take(narrow(u64::from(count)) + 1) {
            bytes += u64::from(entry.size);
            if bytes > self.config.max_transfer_bytes_in_memory {
                return;
            }
            let segment = self.log.chain.find(entry.log_offset.0);
            let fits = |segment: &Arc<Segment>| entry.end() <= segment.end().min(end);
            if let Some(segment) = segment.filter(fits) {
                segment.prefetch(entry.log_offset.0, u64::from(entry.size));
            }
        }
    }

    fn is_full(&self, walk: &Walk<'_>, size: u32, max_messages: u32, on_disk: bool) -> bool {
        if walk.count == 0 {
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
        walk.count >= max_messages || walk.bytes + u64::from(size) > bytes || walk.count >= count
    }

    /// So many bytes at the log's end count as being in memory; Java's rule, which has a say in limits and advice only.
    fn memory_window(&self) -> u64 {
        (self.config.physical_memory / 100).saturating_mul(u64::from(self.config.memory_ratio))
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

    /// Binary search by store time, as Java does it. The first file whose newest message is not older, else the last
    /// one, is searched: an exact match wins, else the nearer neighbour in that file, the earlier one on a tie; 0 when
    /// there is none. Of several messages of one time it is the one that Java's halving meets.
    pub(crate) fn offset_at_time(&self, queue: &Queue, time: Millis) -> io::Result<u64> {
        let (min, max) = (queue.min().0, queue.max().0);
        if min >= max {
            return Ok(0);
        }
        let (mut file, last_file) = (min / queue.per_file(), (max - 1) / queue.per_file());
        let mut last = last_file;
        while file < last {
            let middle = file + (last - file) / 2;
            let newest = self.store_time_at(queue, (middle + 1) * queue.per_file() - 1)?;
            if newest.is_some_and(|newest| newest >= time) {
                last = middle
            } else {
                file = middle + 1
            }
        }
        let mut low = min.max(file * queue.per_file());
        let mut end = max.min((file + 1) * queue.per_file());
        let (mut before, mut after) = (None, None);
        while low < end {
            let middle = low + (end - 1 - low) / 2;
            match self.store_time_at(queue, middle)? {
                Some(found) if found == time => return Ok(middle),
                Some(found) if found > time => (end, after) = (middle, Some((middle, found))),
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

    /// Entries from an offset on, as far as they can be read now; an error when the first one cannot.
    pub(crate) fn entries(&self, queue: &Queue, from: u64, max: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut next = from;
        let mut chunk = [0; CHUNK];
        while entries.len() < max {
            let room = CHUNK.min((max - entries.len()).saturating_mul(narrow(entry::LEN)));
            let read = match queue.read(self.files, next, &mut chunk[..room], Wait::ForDisk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if entries.is_empty() => return Err(error),
                Err(_) => break,
            };
            let bytes = &chunk[..narrow(read * entry::LEN)];
            for (at, bytes) in (next..).zip(bytes.chunks_exact(narrow(entry::LEN))) {
                if self.entries.is_tired() && !entries.is_empty() {
                    return Ok(entries);
                }
                match self.entries.believe(queue, at, Entry::decode(bytes)) {
                    Ok(entry) => entries.push(entry.unwrap_or(entry::FILLER)),
                    Err(error) if entries.is_empty() => return Err(error),
                    // Whoever goes on from here is told.
                    Err(_) => return Ok(entries),
                }
            }
            next += read;
        }
        Ok(entries)
    }

    /// [`Reader::entries`] without waiting for the disk; `None` when one of them cannot be told from memory.
    pub(crate) fn entries_now(&self, queue: &Queue, from: u64, max: usize) -> Option<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut chunk = [0; CHUNK];
        while entries.len() < max {
            let next = from + wide(entries.len());
            let room = CHUNK.min((max - entries.len()).saturating_mul(narrow(entry::LEN)));
            let read = queue.read(self.files, next, &mut chunk[..room], Wait::Never);
            let bytes = match read.ok()? {
                0 => break,
                read => &chunk[..narrow(read * entry::LEN)],
            };
            for (at, bytes) in (next..).zip(bytes.chunks_exact(narrow(entry::LEN))) {
                entries.push(self.entries.believe_now(queue, at, Entry::decode(bytes)?)?);
            }
        }
        Some(entries)
    }
}

/// Neighbours in the log: one slice of an answer.
#[derive(Debug)]
struct Run {
    segment: Arc<Segment>,
    start: u64,
    end: u64,
    /// The queue offset of its first message.
    first: u64,
    count: u32,
}

impl Run {
    fn len(&self) -> u64 {
        self.end - self.start
    }

    /// The bytes where they lie.
    fn slice(&self) -> io::Result<Bytes> {
        self.segment.slice(self.start, self.len())
    }

    /// The bytes where they lie, after they were read once: what they are handed to must not wait for the disk.
    fn load(&self) -> io::Result<Bytes> {
        if !self.segment.is_in_memory(self.start, self.len()) {
            let mut scratch = vec![0; LOADED_AT_ONCE.min(narrow(self.len()))];
            let mut at = self.start;
            while at < self.end {
                let step = scratch.len().min(narrow(self.end - at));
                if self.segment.read(&mut scratch[..step], at)? < step {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                at += wide(step);
            }
        }
        self.slice().or_else(|_| {
            // No map to be had (their number is limited): a copy does as well.
            let mut copy = vec![0; narrow(self.len())];
            self.segment.read(&mut copy, self.start)?;
            Ok(Bytes::from(copy))
        })
    }
}

/// So much is brought into memory by one call.
const LOADED_AT_ONCE: usize = 256 << 10;
/// Asking about a little more costs less than asking again.
const ASKED_TOGETHER: u64 = 64 << 10;

fn are_in_memory(runs: &[Run]) -> bool {
    let mut runs = runs.iter().peekable();
    while let Some(run) = runs.next() {
        let mut end = run.end;
        while let Some(next) = runs.next_if(|next| {
            Arc::ptr_eq(&next.segment, &run.segment)
                && end <= next.start
                && next.start - end <= ASKED_TOGETHER
        }) {
            end = next.end;
        }
        if !run.segment.is_in_memory(run.start, end - run.start) {
            return false;
        }
    }
    true
}

impl Found {
    fn add(&mut self, run: &Run, slice: Bytes) {
        self.count += run.count;
        self.bytes += run.len();
        self.slices.push(slice);
    }
}

/// What a walk over entries has collected.
struct Walk<'a> {
    log: &'a Log,
    log_max: u64,
    runs: Vec<Run>,
    count: u32,
    bytes: u64,
    /// Where the last examined record starts.
    examined: Option<u64>,
    /// It ended because the disk would have to be waited for.
    would_wait: bool,
}

impl<'a> Walk<'a> {
    fn new(log: &'a Log, log_max: u64) -> Self {
        Self {
            log,
            log_max,
            runs: Vec::new(),
            count: 0,
            bytes: 0,
            examined: None,
            would_wait: false,
        }
    }

    /// As in Java the status is that of the last entry; once something was found it stays.
    fn or_found(&self, otherwise: ReadStatus) -> ReadStatus {
        if self.count > 0 {
            ReadStatus::Found
        } else {
            otherwise
        }
    }

    /// Adds a record, the one with queue offset `number`; false when the log does not have it.
    fn take(&mut self, number: u64, at: u64, len: u64) -> bool {
        let end = at.saturating_add(len);
        // Where an entry is damaged, nothing says that it points to what is written. The log may have grown since the
        // walk began.
        if end > self.log.appended.value() {
            return false;
        }
        let holds = |segment: &Segment| segment.start() <= at && end <= segment.end();
        let last = self.runs.last_mut().filter(|run| holds(&run.segment));
        let segment = match last {
            Some(run) if run.end == at => {
                (run.end, run.count) = (end, run.count + 1);
                None
            }
            Some(run) => Some(Arc::clone(&run.segment)),
            None => {
                let segment = self.log.chain.find(at).filter(|segment| holds(segment));
                if segment.is_none() {
                    return false;
                }
                segment
            }
        };
        self.runs.extend(segment.map(|segment| Run {
            segment,
            start: at,
            end,
            first: number,
            count: 1,
        }));
        self.count += 1;
        self.bytes += len;
        true
    }
}
