//! The record that says "nothing more in this segment": `remaining bytes i32, magic i32`.

use gantry_message::record::BLANK_MAGIC;

/// How long it is; so much always stays free at a segment's end.
pub const LEN: u64 = 8;

/// The blank record for the last `remaining` bytes of a segment.
#[must_use]
pub fn encode(remaining: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&remaining.to_be_bytes());
    bytes[4..].copy_from_slice(&BLANK_MAGIC.to_be_bytes());
    bytes
}

/// Whether a blank record starts here.
#[must_use]
pub fn is_blank(bytes: &[u8]) -> bool {
    bytes
        .get(4..8)
        .is_some_and(|magic| magic == BLANK_MAGIC.to_be_bytes())
}

/// How many bytes the blank record that starts here says it stands for.
#[must_use]
pub fn remaining(bytes: &[u8]) -> Option<u32> {
    let remaining = bytes.first_chunk().filter(|_| is_blank(bytes))?;
    Some(u32::from_be_bytes(*remaining))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_record_is_written_as_apache_writes_it() {
        // Seen at 65209 of a 65536-byte segment.
        assert_eq!(encode(327), [0, 0, 1, 0x47, 0xCB, 0xD4, 0x31, 0x94]);
        assert_eq!(
            (remaining(&encode(327)), remaining(&[0; 8])),
            (Some(327), None)
        );
        assert!(is_blank(&encode(327)) && !is_blank(&[0; 8]) && !is_blank(&[0; 3]));
    }
}
