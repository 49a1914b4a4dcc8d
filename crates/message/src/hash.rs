//! Java's `String.hashCode`, which tags codes and the key index are made of.
//!
//! `h = 31 * h + unit` over UTF-16 units with 32-bit wrap-around. The fold goes on from any prefix, so the hash of
//! `topic#key` costs only the key once the hash of `topic#` is known.

/// The hash of the text seen so far.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct JavaHash(pub i32);

impl JavaHash {
    /// The hash of the text so far followed by `text`. Bytes that are not UTF-8 count as Java's decoder reads them
    /// (U+FFFD).
    #[must_use]
    pub fn then(self, text: &[u8]) -> Self {
        if text.is_ascii() {
            return Self(
                text.iter()
                    .fold(self.0, |hash, &byte| step(hash, i32::from(byte))),
            );
        }
        let text = String::from_utf8_lossy(text);
        Self(
            text.encode_utf16()
                .fold(self.0, |hash, unit| step(hash, i32::from(unit))),
        )
    }
}

fn step(hash: i32, unit: i32) -> i32 {
    hash.wrapping_mul(31).wrapping_add(unit)
}

/// Java's hash of a text.
#[must_use]
pub fn java_hash(text: &str) -> i32 {
    JavaHash(0).then(text.as_bytes()).0
}

/// Java's hash of a text that comes as bytes.
#[must_use]
pub fn java_hash_bytes(text: &[u8]) -> i32 {
    JavaHash(0).then(text).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_javas() {
        // Printed by jshell: "x".hashCode().
        for (text, expected) in [
            ("", 0),
            ("a", 97),
            ("TagA", 2_598_919),
            ("polygenelubricants", i32::MIN),
            ("TopicTest", -1_902_610_879),
            ("ä", 228),
            ("😀", 1_772_899),
        ] {
            assert_eq!(java_hash(text), expected, "{text}");
        }
    }

    #[test]
    fn the_fold_goes_on_from_a_prefix() {
        assert_eq!(
            JavaHash(0).then(b"topic#").then("schlüssel".as_bytes()).0,
            java_hash("topic#schlüssel")
        );
    }

    #[test]
    fn bytes_that_are_no_text_do_not_panic() {
        assert_eq!(java_hash_bytes(&[0xFF]), 0xFFFD);
    }
}
