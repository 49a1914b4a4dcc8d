//! What a [`Store`] is asked: messages by place, offset, time and key, and the bytes of the log.
//!
//! Borrows the store's parts for one question; how entries and records are read is in `reader` and `entries`.

use bytes::Bytes;
use gantry_message::{LogOffset, Millis, QueueOffset, RecordView, properties};

use crate::cursor::{Cursor, Step};
use crate::format::entry::Entry;
use crate::queue::Queue;
use crate::reader::Found;
use crate::recovery;
use crate::width::wide;
use crate::{QueryFound, Store, StoreError};

/// Where a record lies in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// Where it starts.
    pub start: LogOffset,
    /// Where it ends.
    pub end: LogOffset,
    /// When it was stored.
    pub time: Millis,
}

impl Store {
    /// Where the segment starts that an offset belongs to, which for the end of a full one is that one still.
    #[must_use]
    pub fn segment_of(&self, at: LogOffset) -> LogOffset {
        let chain = &self.log.chain;
        let segment = chain
            .find(at.0)
            .or_else(|| chain.find(at.0.saturating_sub(1)));
        LogOffset(segment.map_or(at.0, |segment| segment.start()))
    }

    /// Where the segments of the log start.
    #[must_use]
    pub fn segment_starts(&self) -> Vec<LogOffset> {
        let segments = self.log.chain.all();
        segments
            .iter()
            .map(|segment| LogOffset(segment.start()))
            .collect()
    }

    /// The records from a place on to the end of its segment, as far as they can be read. Reads all of it.
    #[must_use]
    pub fn records_from(&self, at: LogOffset) -> Vec<RecordPlace> {
        let end = self.max_offset();
        let (mut places, mut at) = (Vec::new(), at);
        let mut cursor = Cursor::new(&self.log.chain, false);
        while at < end
            && let Step::Record(view) = cursor.step(at.0)
        {
            let place = RecordPlace {
                start: at,
                end: LogOffset(at.0 + wide(view.len())),
                time: view.store_time(),
            };
            at = place.end;
            places.push(place);
        }
        places
    }

    /// Bytes of the log from an offset on: at most `max`, and no further than its segment and the end go. `None` when
    /// the offset is before the oldest segment or beyond the end. Not copied; touching them may wait for the disk.
    pub fn log_bytes(&self, from: LogOffset, max: u32) -> Result<Option<Bytes>, StoreError> {
        let end = self.log.appended.value();
        let Some(segment) = self.log.chain.find(from.0).filter(|_| from.0 <= end) else {
            return Ok((from.0 == end).then(Bytes::new));
        };
        let len = u64::from(max).min(segment.end().min(end) - from.0);
        let bytes = segment.slice(from.0, len);
        bytes
            .map(Some)
            .map_err(StoreError::io("read", segment.path()))
    }

    /// Reads messages of a queue from an offset on. `wanted` gets each entry's tags code. May wait for the disk; what it
    /// found is in memory then.
    pub fn read(
        &self,
        queue: &Queue,
        from: QueueOffset,
        max_messages: u32,
        wanted: &dyn Fn(i64) -> bool,
    ) -> Found {
        self.reader().read(queue, from.0, max_messages, wanted)
    }

    /// [`Store::read`] for threads that must not wait: `None` when anything of it is not in memory.
    pub fn read_now(
        &self,
        queue: &Queue,
        from: QueueOffset,
        max_messages: u32,
        wanted: &dyn Fn(i64) -> bool,
    ) -> Option<Found> {
        self.reader().read_now(queue, from.0, max_messages, wanted)
    }

    /// The whole record that starts at a log offset; `None` when none does. Waits for the disk.
    pub fn record_at(&self, offset: LogOffset) -> Result<Option<Bytes>, StoreError> {
        self.reader()
            .record_at(offset.0)
            .map_err(StoreError::io("read", &self.paths.root))
    }

    /// Messages by key, by place in the log; the newest ones when there are more than `max`. Waits for the disk.
    pub fn query(
        &self,
        topic: &str,
        key: &str,
        max: usize,
        begin: Millis,
        end: Millis,
    ) -> Result<QueryFound, StoreError> {
        let mut found = QueryFound {
            records: Vec::new(),
            last_update_time: Millis(0),
            last_update_offset: 0,
        };
        let Some(index) = &self.index else {
            return Ok(found);
        };
        let max = max.min(self.settings.now().query_max);
        let hits = index.find(&self.index_view(), topic, key, (begin, end), max);
        let hits = hits.map_err(StoreError::io("read", &self.paths.index()))?;
        (found.last_update_time, found.last_update_offset) = (hits.last_time, hits.last_offset);
        for offset in hits.offsets {
            let record = self.record_at(LogOffset(offset))?;
            found
                .records
                .extend(record.filter(|bytes| has_key(bytes, topic, key)));
        }
        Ok(found)
    }

    /// The offset of the message stored nearest to a time, as Java finds it. Waits for the disk.
    #[must_use]
    pub fn offset_at_time(&self, queue: &Queue, time: Millis) -> QueueOffset {
        // What cannot be read counts as Java counts it: as offset 0.
        QueueOffset(self.reader().offset_at_time(queue, time).unwrap_or(0))
    }

    /// When the message at an offset was stored. Waits for the disk.
    #[must_use]
    pub fn store_time_at(&self, queue: &Queue, at: QueueOffset) -> Option<Millis> {
        self.reader().store_time_at(queue, at.0).ok().flatten()
    }

    /// One entry of a queue.
    #[must_use]
    pub fn queue_entry(&self, queue: &Queue, at: QueueOffset) -> Option<Entry> {
        self.reader().entries.at(queue, at.0).ok().flatten()
    }

    /// Up to `max` entries of a queue from an offset on, one for each offset; a lost message has an entry that points to
    /// no record. Ends before what cannot be read now; an error when that is the first one.
    pub fn queue_entries(
        &self,
        queue: &Queue,
        from: QueueOffset,
        max: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.reader()
            .entries(queue, from.0, max)
            .map_err(StoreError::io("read", &self.paths.root))
    }

    /// [`Store::queue_entries`] for threads that must not wait: `None` when one of them is not in memory, or not sure.
    #[must_use]
    pub fn queue_entries_now(
        &self,
        queue: &Queue,
        from: QueueOffset,
        max: usize,
    ) -> Option<Vec<Entry>> {
        self.reader().entries_now(queue, from.0, max)
    }

    /// When the oldest message in the log was stored. Waits for the disk.
    #[must_use]
    pub fn earliest_time(&self) -> Option<Millis> {
        let segments = self.log.chain.all();
        segments
            .iter()
            .find_map(|segment| recovery::first_time(segment))
    }
}

/// Whether a message has that key: others may have the same hash.
fn has_key(bytes: &[u8], topic: &str, key: &str) -> bool {
    let has = |view: &RecordView<'_>| {
        properties::index_keys(view.properties()).any(|own| own == key.as_bytes())
    };
    RecordView::parse(bytes).is_ok_and(|view| view.topic() == topic && has(&view))
}
