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

/// What a copy adds to one queue.
#[derive(Debug)]
pub(crate) struct Growth {
    pub(crate) queue: Arc<Queue>,
    /// An empty queue begins here.
    pub(crate) begins_at: Option<u64>,
    /// With the time each was stored.
    pub(crate) entries: Vec<(Entry, Millis)>,
    /// The queue's end with them.
    pub(crate) next: u64,
}

impl Growth {
    fn of(queue: Arc<Queue>) -> Self {
        let next = queue.max().0;
        Self {
            queue,
            begins_at: None,
            entries: Vec::new(),
            next,
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
}

impl Store {
    /// Takes the whole records in front of `bytes`, which belong at the log's end, and returns how many bytes they were:
    /// none of an incomplete record. They are visible then, not yet durable. `trusted`: the record that starts there is taken
    /// even if its body is not what its checksum says.
    /// One caller at a time, and nothing else may be appended meanwhile.
    pub fn copy(
        &self,
        at: LogOffset,
        bytes: &[u8],
        trusted: Option<LogOffset>,
    ) -> Result<usize, CopyError> {
        let mut taken = 0;
        loop {
            let from = at.0 + wide(taken);
            let parsed = self.parse(from, &bytes[taken..], trusted)?;
            if parsed.len == 0 {
                return Ok(taken);
            }
            let part = &bytes[taken..taken + parsed.len];
            if self.store_copy(from, part, parsed)? {
                taken += part.len();
            }
        }
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
                self.wait_removed(queue);
                return Ok(false);
            }
            let number = *by_slot.entry(queue.slot()).or_insert_with(|| {
                growth.push(Growth::of(Arc::clone(queue)));
                growth.len() - 1
            });
            let grown = &mut growth[number];
            if *wanted < grown.next {
                if grown.next == queue.max().0 {
                    self.begin_anew(queue, *wanted)?;
                    return Ok(false);
                }
                // Only the body has a checksum; the messages around it say where it belongs.
                let (topic, id, at) = (queue.topic(), queue.id().0, record.entry.log_offset.0);
                let next = grown.next;
                tracing::error!(
                    topic,
                    id,
                    at,
                    wanted,
                    next,
                    "a message's place in its queue cannot be; it comes next"
                );
            }
            let room = record.entry.log_offset.0.saturating_sub(queue.log_end())
                / wide(record::FIXED_LEN)
                + 1;
            let lost = wanted.checked_sub(grown.next);
            let entry = (record.entry, record.time);
            match lost {
                Some(1..) if grown.next == 0 => {
                    let fail = |error| {
                        let dir = self.files.dir_of(queue.topic(), queue.id());
                        StoreError::io("write", &dir)(error)
                    };
                    self.files.begin(queue, *wanted).map_err(fail)?;
                    grown.begins_at = Some(*wanted);
                    grown.next = *wanted;
                }
                Some(lost @ 1..) if lost <= room => {
                    let (topic, id) = (queue.topic(), queue.id().0);
                    tracing::error!(
                        topic,
                        id,
                        from = grown.next,
                        to = wanted,
                        "messages of a queue are lost"
                    );
                    let size = self.log.preallocation.segment_size();
                    let before = (at - at % size).saturating_sub(size);
                    for _ in 0..lost {
                        grown.entries.push((Entry::lost(before), record.time));
                    }
                    grown.next = *wanted;
                }
                _ => {}
            }
            grown.entries.push(entry);
            grown.next += 1;
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

    fn wait_removed(&self, queue: &Arc<Queue>) {
        let is_there = || {
            let present = self.queues.find(queue.topic(), queue.id());
            present.is_some_and(|present| Arc::ptr_eq(&present, queue))
        };
        while is_there() {
            std::thread::yield_now();
        }
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
            let Some(len) = record_len(LogOffset(here), rest, left)? else {
                return Ok(parsed);
            };
            let view = view(LogOffset(here), &rest[..len], trusted)?;
            self.add(&mut parsed, &view);
            parsed.len += len;
        }
    }

    fn add(&self, parsed: &mut Parsed, view: &RecordView<'_>) {
        let entry = Entry {
            log_offset: view.log_offset(),
            size: u32::try_from(view.len()).unwrap_or(u32::MAX),
            tags_code: tags_code(view, &self.settings.now().delay_levels),
        };
        let (time, mut place) = (view.store_time(), None);
        if is_safe_name(view.topic()) {
            let queue = self.queues.get(view.topic(), view.queue_id());
            if self.limits.index_enabled && view.sys_flag().transaction() != SysFlag::ROLLBACK {
                let keys = properties::index_keys(view.properties());
                parsed.keys.extend(keys.map(|key| IndexKey {
                    hash: queue.key_hash(key),
                    offset: entry.log_offset.0,
                    time,
                }));
            }
            let is_queued = view.sys_flag().is_queued();
            place = is_queued.then(|| (queue, view.queue_offset().0));
        }
        parsed.records.push(Copied { entry, time, place });
    }
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
