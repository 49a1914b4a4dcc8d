//! A log that is copied from another store: whole records as they came, at the place and with the queue offsets they say.
//!
//! What [`Store::commit`] decides (places, offsets, times) a copy is told by the records themselves. Bytes are looked at
//! before anything is written, so that what is no log is refused and nothing of it stays. Replication decides whom to copy
//! from and from where on.

use std::sync::Arc;

use gantry_message::{LogOffset, Millis, RecordError, RecordView, SysFlag, properties, record};
use rustc_hash::FxHashMap;

use crate::Store;
use crate::dispatcher::IndexKey;
use crate::error::{AppendError, StoreError};
use crate::format::blank;
use crate::format::entry::Entry;
use crate::queue::Queue;
use crate::recovery::{is_safe_name, tags_code};
use crate::width::{narrow, wide};

/// Entries that stand for lost messages are added so many at once, and written before more are: a gap may be long.
const FILLED_MAX: u64 = 4096;

/// Why bytes were not taken into the log.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The log ends somewhere else.
    #[error("bytes for {at}, and the log ends at {end}")]
    NotNext {
        /// Where they belong.
        at: LogOffset,
        /// Where the log ends.
        end: LogOffset,
    },
    /// An empty log begins with a segment.
    #[error(
        "an empty log begins where a segment begins, not at {at}: segments have {segment_size} bytes here; another mappedFileSizeCommitLog there?"
    )]
    WithinSegment {
        /// Where the bytes belong.
        at: LogOffset,
        /// Length of a segment.
        segment_size: u64,
    },
    /// The bytes are no record.
    #[error("what comes for {at} is no record: {reason}")]
    NoRecord {
        /// Where the record should be.
        at: LogOffset,
        /// What is wrong with it.
        reason: String,
    },
    /// The body is not what its checksum says: damaged on the way, or where it comes from.
    #[error("the record for {at} has another body than its checksum says")]
    Checksum {
        /// Where the record is.
        at: LogOffset,
    },
    /// This store cannot take them now.
    #[error("{0}")]
    Refused(#[from] AppendError),
    /// Something of a queue could not be changed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// One record of a copy.
#[derive(Debug)]
struct Copied {
    entry: Entry,
    time: Millis,
    /// Which queue it belongs to and its offset there; `None`: no queue takes it.
    place: Option<(Arc<Queue>, u64)>,
}

/// What a copy adds to one queue at once.
#[derive(Debug)]
pub(crate) struct Growth {
    pub(crate) queue: Arc<Queue>,
    /// An empty queue begins here.
    pub(crate) begins_at: Option<u64>,
    /// With the time each was stored.
    pub(crate) entries: Vec<(Entry, Millis)>,
    /// The queue's end with them.
    pub(crate) next: u64,
    /// Where the last one's record ends in the log.
    log_end: u64,
}

impl Growth {
    fn of(queue: Arc<Queue>) -> Self {
        let (next, log_end) = (queue.max().0, queue.log_end());
        Self {
            queue,
            begins_at: None,
            entries: Vec::new(),
            next,
            log_end,
        }
    }
}

/// What goes into the log at once, within one segment.
#[derive(Debug)]
pub(crate) struct Copy<'a> {
    pub(crate) at: u64,
    pub(crate) bytes: &'a [u8],
    /// The last record: where it starts, when it was stored.
    pub(crate) last: Option<(u64, Millis)>,
    pub(crate) keys: Vec<IndexKey>,
    pub(crate) growth: &'a [Growth],
}

/// Whole records in front of the bytes, up to the end of a segment.
#[derive(Debug, Default)]
struct Parsed {
    records: Vec<Copied>,
    keys: Vec<IndexKey>,
    len: usize,
    /// The newest offset of each queue, by slot.
    newest: FxHashMap<usize, u64>,
}

impl Store {
    /// Takes the whole records in front of `bytes`, which belong at the log's end, and returns how many bytes they were:
    /// none of an incomplete record. They are visible then, not yet durable. An error is about the first record, and
    /// nothing was taken. `trusted`: the record that starts there is taken even if its body is not what its checksum says.
    /// One caller at a time, and nothing else may be appended meanwhile.
    pub fn copy(
        &self,
        at: LogOffset,
        bytes: &[u8],
        trusted: Option<LogOffset>,
    ) -> Result<usize, CopyError> {
        self.log.check_place(at)?;
        let mut taken = 0;
        loop {
            match self.copy_part(at.0 + wide(taken), &bytes[taken..], trusted) {
                Ok(Some(0)) => return Ok(taken),
                Ok(part) => taken += part.unwrap_or(0),
                // What stands in the way is told when it is offered first.
                Err(_) if taken > 0 => return Ok(taken),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what goes into the log at once and returns how many bytes that were; `None`: a queue has to begin anew
    /// before, look again.
    fn copy_part(
        &self,
        at: u64,
        bytes: &[u8],
        trusted: Option<LogOffset>,
    ) -> Result<Option<usize>, CopyError> {
        let parsed = self.parse(at, bytes, trusted)?;
        let len = parsed.len;
        if len == 0 {
            return Ok(Some(0));
        }
        let is_stored = self.store_copy(at, &bytes[..len], parsed)?;
        Ok(is_stored.then_some(len))
    }

    /// Stores what was parsed; false: a queue has to begin anew before, look again.
    fn store_copy(&self, at: u64, bytes: &[u8], parsed: Parsed) -> Result<bool, CopyError> {
        let mut growth: Vec<Growth> = Vec::new();
        let mut by_slot = FxHashMap::default();
        for record in &parsed.records {
            let Some((queue, wanted)) = &record.place else {
                continue;
            };
            if queue.is_deleted() {
                // Whoever deletes it takes it out of the table; the next look finds another queue.
                queue.dispatched().wait_blocking(u64::MAX, None);
                return Ok(false);
            }
            let number = *by_slot.entry(queue.slot()).or_insert_with(|| {
                growth.push(Growth::of(Arc::clone(queue)));
                growth.len() - 1
            });
            if *wanted < growth[number].next {
                self.begin_anew(queue, *wanted)?;
                return Ok(false);
            }
            if !self.grow(&mut growth[number], *wanted, record, at)? {
                return Ok(false);
            }
        }
        let stored = Copy {
            at,
            bytes,
            last: parsed
                .records
                .last()
                .map(|last| (last.entry.log_offset.0, last.time)),
            keys: parsed.keys,
            growth: &growth,
        };
        self.log.copy(stored, &self.dispatcher)
    }

    /// Adds a record to its queue, at `wanted` if that can be. False: the queue is deleted, look again.
    fn grow(
        &self,
        grown: &mut Growth,
        wanted: u64,
        record: &Copied,
        at: u64,
    ) -> Result<bool, CopyError> {
        let queue = Arc::clone(&grown.queue);
        let start = record.entry.log_offset.0;
        // Every message before it took its place in the log.
        let room = start.saturating_sub(grown.log_end) / wide(record::FIXED_LEN) + 1;
        let (topic, id, next) = (queue.topic(), queue.id().0, grown.next);
        match wanted - grown.next {
            0 => {}
            lost if lost > room => {
                // Only the body has a checksum.
                tracing::error!(
                    topic,
                    id,
                    at = start,
                    wanted,
                    next,
                    "a message's place in its queue cannot be; it comes next"
                );
            }
            _ if grown.next == 0 => {
                let dir = || self.files.dir_of(queue.topic(), queue.id());
                self.files
                    .begin(&queue, wanted)
                    .map_err(|error| StoreError::io("write", &dir())(error))?;
                (grown.begins_at, grown.next) = (Some(wanted), wanted);
            }
            _ => {
                tracing::error!(
                    topic,
                    id,
                    from = next,
                    to = wanted,
                    "messages of a queue are lost"
                );
                let size = self.log.preallocation.segment_size();
                let before = (at - at % size).saturating_sub(size);
                let filler = (Entry::lost(before), record.time);
                if !self.fill(grown, wanted, filler)? {
                    return Ok(false);
                }
            }
        }
        grown.entries.push((record.entry, record.time));
        grown.next += 1;
        grown.log_end = record.entry.end();
        Ok(true)
    }

    /// Adds fillers up to `wanted`. All but the last few go to the queue and its files at once: a copy that ends before
    /// the message behind them goes on with the rest of the gap. False: the queue is deleted.
    fn fill(
        &self,
        grown: &mut Growth,
        wanted: u64,
        filler: (Entry, Millis),
    ) -> Result<bool, CopyError> {
        // Behind a message that is not stored yet a gap is no longer than the bytes between.
        while grown.entries.is_empty() && FILLED_MAX < wanted - grown.next {
            self.writer.write_ahead(&self.writer_view(), &grown.queue)?;
            let next = grown.next + FILLED_MAX;
            let piece = Growth {
                queue: Arc::clone(&grown.queue),
                begins_at: None,
                entries: vec![filler; narrow(FILLED_MAX)],
                next,
                log_end: grown.log_end,
            };
            if !self.log.fill(&piece, &self.dispatcher)? {
                return Ok(false);
            }
            grown.next = next;
        }
        let left = wanted - grown.next;
        grown.entries.extend((0..left).map(|_| filler));
        grown.next = wanted;
        Ok(true)
    }

    /// The other side's queue began anew, its topic having been deleted: so does ours.
    fn begin_anew(&self, queue: &Arc<Queue>, wanted: u64) -> Result<(), StoreError> {
        tracing::warn!(
            topic = queue.topic(),
            id = queue.id().0,
            had = queue.max().0,
            begins_at = wanted,
            "the master's queue began anew; the old one is removed here too"
        );
        self.delete_queues(std::slice::from_ref(queue), |_| true)
    }

    fn parse(
        &self,
        at: u64,
        bytes: &[u8],
        trusted: Option<LogOffset>,
    ) -> Result<Parsed, CopyError> {
        let size = self.log.preallocation.segment_size();
        let segment_end = (at - at % size).saturating_add(size);
        let mut parsed = Parsed::default();
        loop {
            let here = at + wide(parsed.len);
            let (left, rest) = (segment_end - here, &bytes[parsed.len..]);
            if left == 0 || rest.is_empty() {
                return Ok(parsed);
            }
            if left < blank::LEN || blank::is_blank(rest) {
                // Nothing more in this segment, however the bytes look.
                if wide(rest.len()) >= left {
                    parsed.len += narrow(left);
                }
                return Ok(parsed);
            }
            let view = match next_record(LogOffset(here), rest, left, trusted) {
                Ok(Some(view)) => view,
                // What is before it is taken first.
                Err(error) if parsed.len == 0 => return Err(error),
                _ => return Ok(parsed),
            };
            if !self.add(&mut parsed, &view) {
                return Ok(parsed);
            }
            parsed.len += view.len();
        }
    }

    /// False: what is before it is taken first, for its queue begins anew with it, or has a long gap before it.
    fn add(&self, parsed: &mut Parsed, view: &RecordView<'_>) -> bool {
        let entry = Entry {
            log_offset: view.log_offset(),
            size: u32::try_from(view.len()).unwrap_or(u32::MAX),
            tags_code: tags_code(view, &self.settings.now().delay_levels),
        };
        let (time, mut place) = (view.store_time(), None);
        if is_safe_name(view.topic()) {
            let queue = self.queues.get(view.topic(), view.queue_id());
            let is_queued = view.sys_flag().is_queued();
            if is_queued {
                let wanted = view.queue_offset().0;
                let before = parsed.newest.insert(queue.slot(), wanted);
                let next = before.map_or(queue.max().0, |before| before + 1);
                if parsed.len > 0 && !(next..=next.saturating_add(FILLED_MAX)).contains(&wanted) {
                    return false;
                }
            }
            if self.limits.index_enabled && view.sys_flag().transaction() != SysFlag::ROLLBACK {
                let keys = properties::index_keys(view.properties());
                parsed.keys.extend(keys.map(|key| IndexKey {
                    hash: queue.key_hash(key),
                    offset: entry.log_offset.0,
                    time,
                }));
            }
            place = is_queued.then(|| (queue, view.queue_offset().0));
        }
        parsed.records.push(Copied { entry, time, place });
        true
    }
}

/// The record that starts here; `None`: more bytes are needed.
fn next_record<'a>(
    at: LogOffset,
    bytes: &'a [u8],
    left: u64,
    trusted: Option<LogOffset>,
) -> Result<Option<RecordView<'a>>, CopyError> {
    let Some(len) = record_len(at, bytes, left)? else {
        return Ok(None);
    };
    view(at, &bytes[..len], trusted).map(Some)
}

/// Length of the record that starts here; `None`: more bytes are needed.
fn record_len(at: LogOffset, bytes: &[u8], left: u64) -> Result<Option<usize>, CopyError> {
    let Some((head, _)) = bytes.split_first_chunk::<8>() else {
        return Ok(None);
    };
    let [a, b, c, d, magic @ ..] = *head;
    let (len, magic) = (i32::from_be_bytes([a, b, c, d]), u32::from_be_bytes(magic));
    if magic != record::MAGIC {
        let reason = RecordError::Magic { magic }.to_string();
        return Err(CopyError::NoRecord { at, reason });
    }
    let fits = u64::try_from(len).ok().filter(|&len| len <= left);
    let len = match fits {
        Some(len) if wide(record::FIXED_LEN) <= len => len,
        _ => {
            let reason = format!("it says {len} bytes, and its segment has {left} left");
            return Err(CopyError::NoRecord { at, reason });
        }
    };
    Ok(Some(narrow(len)).filter(|&len| len <= bytes.len()))
}

fn view(
    at: LogOffset,
    bytes: &[u8],
    trusted: Option<LogOffset>,
) -> Result<RecordView<'_>, CopyError> {
    let view = RecordView::parse(bytes).map_err(|error| CopyError::NoRecord {
        at,
        reason: error.to_string(),
    })?;
    if view.log_offset() != at {
        let reason = format!("it says that it lies at {}", view.log_offset());
        return Err(CopyError::NoRecord { at, reason });
    }
    if view.verify_crc().is_err() && trusted != Some(at) {
        return Err(CopyError::Checksum { at });
    }
    Ok(view)
}
