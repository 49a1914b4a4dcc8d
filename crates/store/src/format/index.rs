//! An index file: `header 40 bytes, slots i32 each, entries 20 bytes each` (entry 0 is never used).

use std::ops::Range;

use gantry_message::{JavaHash, Millis, RecordView, SysFlag, properties};

/// The header's length.
pub const HEADER_LEN: u64 = 40;
/// A slot's length.
pub const SLOT_LEN: u64 = 4;
/// An entry's length.
pub const ENTRY_LEN: u64 = 20;
/// More slots than any machine should have.
pub const SLOTS_MAX: u32 = 500_000_000;
/// Entry numbers are 31-bit.
pub const ENTRIES_MAX: u32 = 2_000_000_000;

/// What an index file says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// When the first message was stored.
    pub begin_time: Millis,
    /// When the last one was.
    pub end_time: Millis,
    /// Where the first message lies.
    pub begin_offset: u64,
    /// Where the last one does.
    pub end_offset: u64,
    /// How many slots have entries.
    pub slots_used: u32,
    /// The number the next entry gets, from 1 on.
    pub next: u32,
}

impl Header {
    /// Reads it; numbers that cannot be count as 0.
    #[must_use]
    pub fn decode(bytes: &[u8; 40]) -> Self {
        let i64_at = |at: usize| {
            bytes[at..]
                .first_chunk()
                .map_or(0, |field| i64::from_be_bytes(*field))
        };
        let i32_at = |at: usize| {
            bytes[at..]
                .first_chunk()
                .map_or(0, |field| i32::from_be_bytes(*field))
        };
        Self {
            begin_time: Millis(i64_at(0)),
            end_time: Millis(i64_at(8)),
            begin_offset: u64::try_from(i64_at(16)).unwrap_or(0),
            end_offset: u64::try_from(i64_at(24)).unwrap_or(0),
            slots_used: u32::try_from(i32_at(32)).unwrap_or(0),
            next: u32::try_from(i32_at(36)).unwrap_or(0).max(1),
        }
    }

    /// As it lies in the file.
    #[must_use]
    pub fn encode(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..8].copy_from_slice(&self.begin_time.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.end_time.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.begin_offset.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.end_offset.to_be_bytes());
        bytes[32..36].copy_from_slice(&self.slots_used.to_be_bytes());
        bytes[36..].copy_from_slice(&self.next.to_be_bytes());
        bytes
    }
}

/// One key of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of `topic#key`, see [`stored_hash`].
    pub hash: u32,
    /// Where the message lies in the log.
    pub offset: u64,
    /// Seconds since the file's begin time.
    pub seconds: u32,
    /// The entry before it in its slot's chain; 0: none.
    pub previous: u32,
}

impl Entry {
    /// Reads it; numbers that cannot be count as 0.
    #[must_use]
    pub fn decode(bytes: &[u8; 20]) -> Self {
        let u32_at = |at: usize| {
            bytes[at..]
                .first_chunk()
                .map_or(0, |field| u32::from_be_bytes(*field))
        };
        let offset = bytes[4..]
            .first_chunk()
            .map_or(0, |field| u64::from_be_bytes(*field));
        let positive = |value: u32| {
            if value > i32::MAX.unsigned_abs() {
                0
            } else {
                value
            }
        };
        Self {
            hash: u32_at(0),
            offset,
            seconds: positive(u32_at(12)),
            previous: positive(u32_at(16)),
        }
    }

    /// As it lies in the file.
    #[must_use]
    pub fn encode(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&self.hash.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[16..].copy_from_slice(&self.previous.to_be_bytes());
        bytes
    }
}

/// Where things lie in files of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many slots.
    pub slots: u32,
    /// How many entries, the unused one included.
    pub entries: u32,
}

impl Layout {
    /// Apache's.
    pub const DEFAULT: Self = Self {
        slots: 5_000_000,
        entries: 20_000_000,
    };

    /// The length of a file.
    #[must_use]
    pub fn file_len(self) -> u64 {
        self.entry_at(0) + u64::from(self.entries) * ENTRY_LEN
    }

    /// Where a slot lies.
    #[must_use]
    pub fn slot_at(self, slot: u32) -> u64 {
        HEADER_LEN + u64::from(slot) * SLOT_LEN
    }

    /// Where an entry lies.
    #[must_use]
    pub fn entry_at(self, entry: u32) -> u64 {
        HEADER_LEN + u64::from(self.slots) * SLOT_LEN + u64::from(entry) * ENTRY_LEN
    }

    /// The slots of which all bytes lie in `from..to`, which are multiples of [`SLOT_LEN`].
    pub fn slots_between(self, from: u64, to: u64) -> Range<u32> {
        let number = |at: u64| {
            let slot = at.saturating_sub(HEADER_LEN) / SLOT_LEN;
            u32::try_from(slot).unwrap_or(u32::MAX).min(self.slots)
        };
        number(from)..number(to)
    }

    /// The layouts that a file of that length may have: this one, or one that shares slots or entries with it or with
    /// Apache's default. What the file holds tells which.
    pub fn likely(self, len: u64) -> Vec<Layout> {
        let mut all = Vec::new();
        let mut add = |slots: Option<u64>, entries: Option<u64>| {
            let number = |n: Option<u64>| n.and_then(|n| u32::try_from(n).ok());
            let (Some(slots @ 1..=SLOTS_MAX), Some(entries @ 2..=ENTRIES_MAX)) =
                (number(slots), number(entries))
            else {
                return;
            };
            let layout = Layout { slots, entries };
            if layout.file_len() == len && !all.contains(&layout) {
                all.push(layout);
            }
        };
        for known in [self, Layout::DEFAULT] {
            let (slots, entries) = (u64::from(known.slots), u64::from(known.entries));
            add(Some(slots), Some(entries));
            let rest = len.checked_sub(HEADER_LEN + slots * SLOT_LEN);
            add(Some(slots), rest.map(|rest| rest / ENTRY_LEN));
            let rest = len.checked_sub(HEADER_LEN + entries * ENTRY_LEN);
            add(rest.map(|rest| rest / SLOT_LEN), Some(entries));
        }
        all
    }

    /// The slot of a hash.
    #[must_use]
    pub fn slot_of(self, hash: u32) -> u32 {
        hash % self.slots
    }
}

/// The hash that is stored: without sign; the one number that has no positive counterpart is 0.
#[must_use]
pub fn stored_hash(hash: i32) -> u32 {
    if hash == i32::MIN {
        0
    } else {
        hash.unsigned_abs()
    }
}

/// The hashes of the keys by which a record is found. Rolled back messages are not.
pub fn hashes<'a>(record: &RecordView<'a>) -> impl Iterator<Item = u32> + use<'a> {
    let is_indexed = record.sys_flag().transaction() != SysFlag::ROLLBACK;
    let prefix = JavaHash(0).then(record.topic().as_bytes()).then(b"#");
    let text = if is_indexed { record.properties() } else { &[] };
    properties::index_keys(text).map(move |key| stored_hash(prefix.then(key).0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_apaches() {
        let layout = Layout::DEFAULT;
        assert_eq!(layout.file_len(), 420_000_040);
        assert_eq!((layout.slot_at(1), layout.entry_at(1)), (44, 20_000_060));
    }

    #[test]
    fn headers_and_entries_go_both_ways() {
        let header = Header {
            begin_time: Millis(1),
            end_time: Millis(2),
            begin_offset: 3,
            end_offset: 4,
            slots_used: 5,
            next: 6,
        };
        assert_eq!(Header::decode(&header.encode()), header);
        assert_eq!(Header::decode(&[0; 40]).next, 1);
        let entry = Entry {
            hash: 7,
            offset: 8,
            seconds: 9,
            previous: 10,
        };
        assert_eq!(Entry::decode(&entry.encode()), entry);
        assert_eq!(Entry::decode(&[0xFF; 20]).previous, 0);
    }

    #[test]
    fn hashes_have_no_sign() {
        assert_eq!(
            (stored_hash(-5), stored_hash(5), stored_hash(i32::MIN)),
            (5, 5, 0)
        );
    }
}
