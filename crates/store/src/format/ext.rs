//! A unit of `consumequeue_ext`: `size i16, tags code i64, store time i64, bitmap length i16, bitmap`.
//!
//! Apache's broker writes units when `enableConsumeQueueExt` is on; the entry of the queue then holds the unit's address in
//! place of the tags code. We read them and write none: an entry with its own tags code is as good to Apache.

use gantry_message::Millis;

/// How long a unit without bitmap is.
pub const UNIT_LEN: usize = BITMAP_LEN_AT + 2;
const TAGS_AT: usize = 2;
const TIME_AT: usize = TAGS_AT + 8;
const BITMAP_LEN_AT: usize = TIME_AT + 8;
const _: () = assert!(UNIT_LEN == 20);

/// Hashes and times are greater.
const ADDRESS_MAX: i64 = i32::MIN as i64 - 1;

/// What a unit says, without its bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The hash of the message's tags, or when it is due.
    pub tags_code: i64,
    /// When the message was stored.
    pub store_time: Millis,
    /// Length of the whole unit.
    pub len: usize,
}

impl Unit {
    /// Reads the fixed part; `None` for what is none (zeros, the end of a file, garbage).
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; UNIT_LEN] = bytes.first_chunk()?;
        let i16_at = |at: usize| {
            bytes[at..]
                .first_chunk()
                .map_or(0, |n| i16::from_be_bytes(*n))
        };
        let i64_at = |at: usize| {
            bytes[at..]
                .first_chunk()
                .map_or(0, |n| i64::from_be_bytes(*n))
        };
        let len = usize::try_from(i16_at(0)).ok()?;
        let bitmap = usize::try_from(i16_at(BITMAP_LEN_AT)).ok()?;
        (len == UNIT_LEN + bitmap).then_some(Self {
            tags_code: i64_at(TAGS_AT),
            store_time: Millis(i64_at(TIME_AT)),
            len,
        })
    }
}

/// Where the unit lies that a tags code stands for; `None` for one that stands for itself.
#[must_use]
pub fn place(tags_code: i64) -> Option<u64> {
    (tags_code <= ADDRESS_MAX).then(|| tags_code.abs_diff(i64::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_below_every_hash() {
        for (tags_code, expected) in [
            (i64::MIN, Some(0)),
            (i64::MIN + 34, Some(34)),
            (-2_147_483_649, Some(9_223_372_034_707_292_159)),
            (i32::MIN.into(), None),
            (0, None),
            (i64::MAX, None),
        ] {
            assert_eq!(place(tags_code), expected, "{tags_code}");
        }
    }

    #[test]
    fn units_are_apaches_and_nothing_else_is_one() {
        let mut bytes = [0; 34];
        bytes[..20].copy_from_slice(&[
            0, 34, 0, 0, 0, 0, 0, 39, 168, 8, 0, 0, 1, 162, 9, 172, 204, 111, 0, 14,
        ]);
        let unit = Unit {
            tags_code: 2_598_920,
            store_time: Millis(1_795_458_649_199),
            len: 34,
        };
        assert_eq!(Unit::decode(&bytes), Some(unit));
        assert_eq!(Unit::decode(&bytes[..19]), None);
        bytes[1] = 33;
        assert_eq!(Unit::decode(&bytes), None);
        assert_eq!(Unit::decode(&[0; 20]), None);
        assert_eq!(Unit::decode(&[0xFF; 20]), None);
    }
}
