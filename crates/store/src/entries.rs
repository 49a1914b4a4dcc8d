//! Queue entries that can be believed: compared with the record they point to, completed, mended from the log.
//!
//! An entry has no checksum, and its bytes may have changed on the disk. What this process wrote a short while ago is in
//! memory and taken as it is; every other entry is compared with the head of its record, which is read anyway. One that
//! does not fit is made again from the log between its neighbours, written back and named once; when its message is not
//! there, it counts as lost. So does a message that is not whole any more: a stock client that meets one drops all that
//! came with it. Entries of Apache's that only point to their tags code ([`crate::ext`]) get it here.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use gantry_message::{LogOffset, Millis, RecordError, RecordView, record};
use rustc_hash::FxHashSet;

use crate::config::StoreConfig;
use crate::cursor::{Cursor, Reason, Step};
use crate::ext::ExtFiles;
use crate::figures::Counters;
use crate::format::entry::Entry;
use crate::format::ext;
use crate::log::Log;
use crate::queue::Queue;
use crate::queue_files::QueueFiles;
use crate::recovery;
use crate::segment::Segment;
use crate::width::{narrow, wide};

/// So much of the log is read for one entry at most.
const SEARCHED_MAX: u64 = 64 << 20;
/// After so much a question is answered with what it has: the next one begins with the next entry.
const SEARCHED_ENOUGH: u64 = 8 << 20;
/// So many messages of a queue that come too late, one behind the other, say that an earlier one does not come any more.
const LATER_MAX: u32 = 2;
/// So many entries in a row may be damaged and still be mended.
const NEIGHBOURS_MAX: u64 = 64;
/// A size beyond this is not to be believed before a head says the same.
const BELIEVED_SIZE: usize = 4096;
/// A longer record is looked at by a thread that may take its time.
const LOOKED_AT_NOW_MAX: u32 = 64 << 10;
/// So many lost entries are remembered.
const LOST_MAX: usize = 4096;

/// Entries that were looked for in the log and not found there: by queue and offset.
#[derive(Debug, Default)]
pub(crate) struct Lost(Mutex<FxHashSet<(usize, u64)>>);

/// Reads entries; borrows what it needs.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    pub(crate) config: Arc<StoreConfig>,
    pub(crate) log: &'a Log,
    pub(crate) files: &'a QueueFiles,
    pub(crate) ext: &'a ExtFiles,
    pub(crate) lost: &'a Lost,
    pub(crate) counters: &'a Counters,
    /// So much of the log was read for this question to find messages of damaged entries.
    pub(crate) searched: Cell<u64>,
    /// Records are looked at in here; kept, for filling it with zeros costs as much as looking.
    pub(crate) scratch: RefCell<Vec<u8>>,
}

/// What a record's head says.
#[derive(Clone, Copy)]
struct Head {
    queue_offset: u64,
    store_time: Millis,
}

/// What an entry points to.
enum Looked {
    Whole(Head),
    /// The rest is not what the head says.
    Damaged(Head, RecordError),
    /// No record of that length and queue, or nothing that can be had now.
    Other,
}

fn head_of(queue: &Queue, entry: &Entry, bytes: &[u8]) -> Option<Head> {
    let head = record::RecordHead::peek(bytes)?;
    let fits = head.len == entry.size
        && head.log_offset == entry.log_offset
        && head.queue_id == queue.id();
    fits.then_some(Head {
        queue_offset: head.queue_offset.0,
        store_time: head.store_time,
    })
}

impl Entries<'_> {
    /// The entry at an offset; `None` where there is no message, or none any more.
    pub(crate) fn at(&self, queue: &Queue, at: u64) -> io::Result<Option<Entry>> {
        if at >= queue.max().0 {
            return Ok(None);
        }
        let read = queue.entry(self.files, at)?;
        self.believe(queue, at, read)
    }

    /// Whether damaged entries have cost so much that the rest should wait for the next question.
    pub(crate) fn is_tired(&self) -> bool {
        self.searched.get() >= SEARCHED_ENOUGH
    }

    /// What to make of `read`, which stands at an offset below the queue's end. An error says nothing of the entry: it
    /// may be right, and its message be read later.
    pub(crate) fn believe(
        &self,
        queue: &Queue,
        at: u64,
        read: Option<Entry>,
    ) -> io::Result<Option<Entry>> {
        let Some(entry) = read else {
            return self.mend(queue, at, None);
        };
        if entry.is_filler() {
            return Ok(None);
        }
        let place = ext::place(entry.tags_code);
        if place.is_none() && queue.is_warm(at) && self.is_recent(&entry) {
            return Ok(Some(entry));
        }
        let is_gone = entry.log_offset.0 < self.log.chain.min();
        if is_gone && !self.is_out_of_order(queue, at, &entry)? {
            return Ok(Some(entry));
        }
        let read = |segment: &Segment, into: &mut [u8], at| segment.read(into, at).map(Some);
        let head = match self.record(queue, &entry, read)? {
            Looked::Damaged(head, why) if head.queue_offset == at => {
                self.lose(queue, at, &entry, &why);
                return Ok(None);
            }
            Looked::Whole(head) => Some(head),
            _ => None,
        };
        if let Some(head) = head
            && (head.queue_offset == at || self.is_in_order(queue, at, &entry)?)
        {
            if head.queue_offset != at && self.is_alone(queue, at)? {
                self.put_right(queue, at, &entry, head.queue_offset);
            }
            return Ok(Some(match place {
                Some(place) => self.complete(queue, &entry, place, head.store_time)?,
                None => entry,
            }));
        }
        let mended = self.mend(queue, at, Some(&entry))?;
        // A message that was cleaned away meanwhile.
        Ok(mended.or(is_gone.then_some(entry)))
    }

    /// [`Entries::believe`] without waiting for the disk; `None` when that cannot be told from memory.
    pub(crate) fn believe_now(&self, queue: &Queue, at: u64, entry: Entry) -> Option<Entry> {
        if entry.is_filler() || ext::place(entry.tags_code).is_some() {
            return None;
        }
        if queue.is_warm(at) && self.is_recent(&entry) {
            return Some(entry);
        }
        if entry.size > LOOKED_AT_NOW_MAX {
            return None;
        }
        match self.record(queue, &entry, Segment::read_now) {
            Ok(Looked::Whole(head)) if head.queue_offset == at => Some(entry),
            _ => None,
        }
    }

    /// Whether the record was written so short a while ago that what is read of its entry comes from memory.
    fn is_recent(&self, entry: &Entry) -> bool {
        let window =
            (self.config.physical_memory / 200).saturating_mul(u64::from(self.config.memory_ratio));
        let end = self.log.appended.value();
        entry.end() <= end && end - entry.log_offset.0 <= window
    }

    /// What the head of the record says that an entry points to, if it is one of that length and queue.
    fn head(&self, queue: &Queue, entry: &Entry) -> io::Result<Option<Head>> {
        let Some(segment) = self.segment_of(entry) else {
            return Ok(None);
        };
        let mut bytes = [0; record::HEAD_LEN_MAX];
        let read = segment.read(&mut bytes, entry.log_offset.0)?;
        Ok(head_of(queue, entry, &bytes[..read]))
    }

    /// Looks at the whole record. `read` may give nothing where it would have to wait.
    fn record(
        &self,
        queue: &Queue,
        entry: &Entry,
        read: impl Fn(&Segment, &mut [u8], u64) -> io::Result<Option<usize>>,
    ) -> io::Result<Looked> {
        let Some(segment) = self.segment_of(entry) else {
            return Ok(Looked::Other);
        };
        let size = narrow(u64::from(entry.size));
        let mut scratch = self.scratch.borrow_mut();
        self.look(queue, entry, &segment, (&mut scratch, size), read)
    }

    fn look(
        &self,
        queue: &Queue,
        entry: &Entry,
        segment: &Segment,
        (scratch, size): (&mut Vec<u8>, usize),
        read: impl Fn(&Segment, &mut [u8], u64) -> io::Result<Option<usize>>,
    ) -> io::Result<Looked> {
        if size > BELIEVED_SIZE {
            let mut head = [0; record::HEAD_LEN_MAX];
            let read = read(segment, &mut head, entry.log_offset.0)?.unwrap_or_default();
            if head_of(queue, entry, &head[..read]).is_none() {
                return Ok(Looked::Other);
            }
        }
        if scratch.len() < size {
            scratch.resize(size, 0);
        }
        let bytes = &mut scratch[..size];
        let read = read(segment, bytes, entry.log_offset.0)?.unwrap_or_default();
        let bytes = &bytes[..read];
        let Some(head) = head_of(queue, entry, bytes) else {
            return Ok(Looked::Other);
        };
        let whole = RecordView::parse(bytes).and_then(|view| view.verify_crc());
        Ok(whole.map_or_else(|why| Looked::Damaged(head, why), |()| Looked::Whole(head)))
    }

    /// The segment that all of a record lies in.
    fn segment_of(&self, entry: &Entry) -> Option<Arc<Segment>> {
        let segment = self.log.chain.find(entry.log_offset.0)?;
        let end = segment.end().min(self.log.appended.value());
        (entry.end() <= end).then_some(segment)
    }

    /// Names, once, a message that is not whole.
    fn lose(&self, queue: &Queue, at: u64, entry: &Entry, why: &RecordError) {
        if self.lost.add(queue, at) {
            let (topic, id, log_offset) = (queue.topic(), queue.id().0, entry.log_offset.0);
            let segment = self.log.chain.find(log_offset);
            let path = segment
                .as_ref()
                .map_or(self.files.root().as_path(), |it| it.path());
            let within = log_offset - segment.as_ref().map_or(0, |it| it.start());
            tracing::error!(topic, id, at, file = %path.display(), within, %why, "a message is damaged and lost");
        }
    }

    /// Whether a record that says another offset than that of its entry is the one: of this queue, and between those of
    /// the neighbours. (What a record says of its offset has no checksum either, and Apache goes on after a gap.)
    fn is_in_order(&self, queue: &Queue, at: u64, entry: &Entry) -> io::Result<bool> {
        let mut cursor = Cursor::new(&self.log.chain, false);
        let is_of_queue = match cursor.step(entry.log_offset.0) {
            Step::Record(view) => view.topic() == queue.topic() && view.queue_id() == queue.id(),
            Step::Unreadable(Reason::Disk(error)) => return Err(io::Error::other(error)),
            _ => false,
        };
        Ok(is_of_queue && !self.is_out_of_order(queue, at, entry)?)
    }

    /// Whether the records on both sides, as far as there are any, say the places that they are read at: then one that
    /// does not is damaged. (Where Apache went on behind a gap, all say another one.)
    fn is_alone(&self, queue: &Queue, at: u64) -> io::Result<bool> {
        let says_so = |at: Option<u64>| {
            let Some(at) = at.filter(|&at| queue.min().0 <= at && at < queue.max().0) else {
                return Ok(None);
            };
            let Some(entry) = self.stored(queue, at)? else {
                return Ok(None);
            };
            let head = self.head(queue, &entry)?;
            Ok::<_, io::Error>(head.map(|head| head.queue_offset == at))
        };
        let (before, behind) = (says_so(at.checked_sub(1))?, says_so(at.checked_add(1))?);
        Ok(before != Some(false) && behind != Some(false) && before.or(behind).is_some())
    }

    /// Consumers go on behind the place that a record says: a wrong one would lead them past others.
    fn put_right(&self, queue: &Queue, at: u64, entry: &Entry, says: u64) {
        let log_offset = entry.log_offset.0;
        let segment = self.log.chain.find(log_offset);
        let Some(segment) = segment.filter(|segment| !segment.is_read_only()) else {
            return;
        };
        let (topic, id, file) = (queue.topic(), queue.id().0, segment.path().display());
        let within = log_offset - segment.start();
        self.counters.mended.fetch_add(1, Ordering::Relaxed);
        tracing::error!(topic, id, at, %file, within, says, "a message's place in its queue was damaged and is put right");
        if let Err(error) = segment.put_queue_offset(log_offset, at) {
            tracing::warn!(%file, within, %error, "cannot write a message's place in its queue");
        }
    }

    /// Whether an entry does not point between its neighbours' records.
    fn is_out_of_order(&self, queue: &Queue, at: u64, entry: &Entry) -> io::Result<bool> {
        let neighbour = |at: Option<u64>| {
            let Some(at) = at.filter(|&at| queue.min().0 <= at && at < queue.max().0) else {
                return Ok(None);
            };
            let entry = self.stored(queue, at)?;
            Ok::<_, io::Error>(entry.filter(|entry| !entry.is_filler()))
        };
        let before = neighbour(at.checked_sub(1))?;
        let behind = neighbour(at.checked_add(1))?;
        Ok(
            before.is_some_and(|before| entry.log_offset <= before.log_offset)
                || behind.is_some_and(|behind| behind.log_offset <= entry.log_offset),
        )
    }

    /// What stands at an offset, right or not; `None` also where the file does not have it.
    fn stored(&self, queue: &Queue, at: u64) -> io::Result<Option<Entry>> {
        match queue.entry(self.files, at) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(None)
            }
            other => other,
        }
    }

    /// Puts the tags code in place of where it stands.
    fn complete(
        &self,
        queue: &Queue,
        entry: &Entry,
        place: u64,
        time: Millis,
    ) -> io::Result<Entry> {
        let unit = self.ext.unit(queue, place).ok().flatten();
        let tags_code = match unit {
            Some(unit) if unit.store_time == time => unit.tags_code,
            // Nothing but the record itself knows better.
            _ => match Cursor::new(&self.log.chain, false).step(entry.log_offset.0) {
                Step::Record(view) => recovery::tags_code(&view, &self.config.delay_levels),
                Step::Unreadable(Reason::Disk(error)) => return Err(io::Error::other(error)),
                _ => 0,
            },
        };
        Ok(Entry {
            tags_code,
            ..*entry
        })
    }

    /// Makes an entry again from the log between its neighbours, in place of one that points to no record of its queue,
    /// or of none.
    fn mend(&self, queue: &Queue, at: u64, read: Option<&Entry>) -> io::Result<Option<Entry>> {
        if self.lost.has(queue, at) {
            return Ok(None);
        }
        let found = self.search(queue, at)?;
        let (topic, id) = (queue.topic(), queue.id().0);
        let file = self.files.path(queue, at);
        let file = file.display();
        let why = read.map_or("no entry", |_| "it points to no record of its queue");
        let Some(entry) = found else {
            self.lost.add(queue, at);
            let log_offset = read.map(|read| read.log_offset.0);
            let segment = log_offset.and_then(|offset| self.log.chain.find(offset));
            let log_file = segment
                .as_ref()
                .map(|segment| segment.path().display().to_string());
            tracing::error!(topic, id, at, %file, why, log_offset, log_file, "a queue entry is damaged, or its message is: that is not in the log");
            return Ok(None);
        };
        self.counters.mended.fetch_add(1, Ordering::Relaxed);
        let log_offset = entry.log_offset.0;
        tracing::error!(topic, id, at, %file, why, log_offset, "a queue entry was damaged and is made again from the log");
        if let Err(error) = self.files.mend(queue, at, &entry) {
            tracing::warn!(%file, %error, "cannot write a mended queue entry");
        }
        Ok(Some(entry))
    }

    fn search(&self, queue: &Queue, at: u64) -> io::Result<Option<Entry>> {
        // A neighbour that cannot be read now is an error, too: without it the search may end too early.
        let is_right = |at: u64| {
            let right = self.stored(queue, at).and_then(|entry| {
                let Some(entry) = entry else { return Ok(None) };
                let head = self.head(queue, &entry)?;
                Ok(head.filter(|head| head.queue_offset == at).map(|_| entry))
            });
            right.transpose()
        };
        let (min, max) = (queue.min().0, queue.max().0);
        let first = min.max(at.saturating_sub(NEIGHBOURS_MAX));
        let last = max.min(at.saturating_add(1 + NEIGHBOURS_MAX));
        let before = (first..at).rev().find_map(is_right).transpose()?;
        let behind = (at + 1..last).find_map(is_right).transpose()?;
        let log_min = self.log.chain.min();
        let from = before.map_or(log_min, |entry| entry.end().max(log_min));
        let to = behind.map_or(self.log.appended.value(), |entry| entry.log_offset.0);
        // Messages come to the log in the order of their offsets: with only one neighbour, look near it.
        let from = if before.is_none() && first > min {
            from.max(to.saturating_sub(SEARCHED_MAX))
        } else {
            from
        };
        self.find_record(queue, at, from, to.min(from.saturating_add(SEARCHED_MAX)))
    }

    /// The entry of the message with that offset, if its record starts in `from..to`.
    fn find_record(&self, queue: &Queue, at: u64, from: u64, to: u64) -> io::Result<Option<Entry>> {
        let is_it = |view: &RecordView<'_>| {
            view.queue_offset().0 == at
                && view.queue_id() == queue.id()
                && view.topic() == queue.topic()
                && view.sys_flag().is_queued()
        };
        let is_later = |view: &RecordView<'_>| {
            view.queue_offset().0 > at
                && view.queue_id() == queue.id()
                && view.topic() == queue.topic()
                && view.sys_flag().is_queued()
        };
        let mut cursor = Cursor::new(&self.log.chain, true);
        let (mut place, mut later) = (from, 0);
        while place < to && later < LATER_MAX {
            let before = place;
            place = match cursor.step(place) {
                Step::Record(view) if is_it(&view) => {
                    let tags_code = recovery::tags_code(&view, &self.config.delay_levels);
                    return Ok(u32::try_from(view.len()).ok().map(|size| Entry {
                        log_offset: LogOffset(place),
                        size,
                        tags_code,
                    }));
                }
                Step::Record(view) => {
                    later += u32::from(is_later(&view));
                    place + wide(view.len())
                }
                Step::Next(next) => next,
                Step::End => return Ok(None),
                Step::Unreadable(Reason::Disk(error)) => return Err(io::Error::other(error)),
                Step::Unreadable(_) => {
                    let next = cursor.next_record(place, Millis(i64::MIN));
                    let Some(next) = next.map_err(|(_, error)| error)? else {
                        return Ok(None);
                    };
                    next
                }
            };
            let searched = self.searched.get() + (place - before);
            self.searched.set(searched);
        }
        Ok(None)
    }
}

impl Lost {
    fn has(&self, queue: &Queue, at: u64) -> bool {
        self.lock().contains(&(queue.slot(), at))
    }

    /// Returns whether it is new.
    fn add(&self, queue: &Queue, at: u64) -> bool {
        let mut all = self.lock();
        if all.len() >= LOST_MAX {
            all.clear();
        }
        all.insert((queue.slot(), at))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FxHashSet<(usize, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
