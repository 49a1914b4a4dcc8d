//! The record that says "nothing more in this segment": `remaining bytes i32, magic i32`.

use gantry_message::record::BLANK_MAGIC;

/// How long it is; so much always stays free at a segment's end.
pub(crate) const LEN: u64 = 8;

/// The blank record for the last `remaining` bytes of a segment.
pub(crate) fn encode(remaining: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&remaining.to_be_bytes());
    bytes[4..].copy_from_slice(&BLANK_MAGIC.to_be_bytes());
    bytes
}

/// Whether a blank record starts here.
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    bytes
        .get(4..8)
        .is_some_and(|magic| magic == BLANK_MAGIC.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_record_is_written_as_apache_writes_it() {
        // Seen at 65209 of a 65536-byte segment.
        assert_eq!(encode(327), [0, 0, 1, 0x47, 0xCB, 0xD4, 0x31, 0x94]);
        assert!(is_blank(&encode(327)) && !is_blank(&[0; 8]) && !is_blank(&[0; 3]));
    }
}
