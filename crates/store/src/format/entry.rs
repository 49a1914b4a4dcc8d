//! A consume queue's entry, 20 bytes: `log offset i64, record size i32, tags code i64`.

use gantry_message::LogOffset;

/// How long an entry is.
pub const LEN: u64 = 20;
const SIZE_AT: usize = 8;
const TAGS_AT: usize = SIZE_AT + 4;
const _: () = assert!(TAGS_AT + 8 == 20 && LEN == 20);

/// One entry of a queue: where the message lies and what its tags hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where the record starts.
    pub log_offset: LogOffset,
    /// How long the record is.
    pub size: u32,
    /// The hash of its tags, or when it is due (delayed messages).
    pub tags_code: i64,
}

/// What stands where a queue has no message, before its first one: as Apache writes it.
pub const FILLER: Entry = Entry {
    log_offset: LogOffset(0),
    size: NO_RECORD,
    tags_code: 0,
};
/// No record is so large.
const NO_RECORD: u32 = 0x7FFF_FFFF;

impl Entry {
    /// Reads an entry; `None` for what is none (zeros behind the last one, garbage).
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 20] = bytes.first_chunk()?;
        let log_offset = u64::from_be_bytes(*bytes.first_chunk()?);
        let size = u32::from_be_bytes(*bytes[SIZE_AT..].first_chunk()?);
        let tags_code = i64::from_be_bytes(*bytes[TAGS_AT..].first_chunk()?);
        let valid = i64::try_from(log_offset).is_ok() && 0 < size && i32::try_from(size).is_ok();
        valid.then_some(Self {
            log_offset: LogOffset(log_offset),
            size,
            tags_code,
        })
    }

    /// The entry as it lies in the file.
    #[must_use]
    pub fn encode(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..SIZE_AT].copy_from_slice(&self.log_offset.0.to_be_bytes());
        bytes[SIZE_AT..TAGS_AT].copy_from_slice(&self.size.to_be_bytes());
        bytes[TAGS_AT..].copy_from_slice(&self.tags_code.to_be_bytes());
        bytes
    }

    /// Where the record ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.log_offset.0.saturating_add(u64::from(self.size))
    }

    /// What stands where a message was lost in a queue that goes on in the segment behind the one at `start`. Apache's
    /// broker, when it cannot read a message, skips all that lie in the same segment: so the entry points into the one
    /// before, and to its beginning, because there Apache adds the size without overflow.
    #[must_use]
    pub fn lost(start: u64) -> Self {
        Self {
            log_offset: LogOffset(start),
            ..FILLER
        }
    }

    /// Whether it stands for no message.
    #[must_use]
    pub fn is_filler(&self) -> bool {
        self.size == NO_RECORD && self.tags_code == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_go_both_ways() {
        let entry = Entry {
            log_offset: LogOffset(211),
            size: 211,
            tags_code: -2,
        };
        let bytes = entry.encode();
        assert_eq!(
            bytes,
            [
                0, 0, 0, 0, 0, 0, 0, 211, 0, 0, 0, 211, 255, 255, 255, 255, 255, 255, 255, 254
            ]
        );
        assert_eq!(Entry::decode(&bytes), Some(entry));
        assert_eq!(Entry::decode(&FILLER.encode()), Some(FILLER));
        let lost = Entry::lost(8192);
        assert!(lost.is_filler() && Entry::lost(0) == FILLER);
        assert_eq!(Entry::decode(&lost.encode()), Some(lost));
        assert!(!entry.is_filler());
    }

    #[test]
    fn zeros_and_negative_numbers_are_no_entries() {
        assert_eq!(Entry::decode(&[0; 20]), None);
        assert_eq!(Entry::decode(&[0xFF; 20]), None);
        assert_eq!(Entry::decode(&[1; 19]), None);
    }
}
