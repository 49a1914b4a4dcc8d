//! Strings and integers: finding a string's end, unescaping, escaping as fastjson does.

use std::borrow::Cow;

use super::reader::{Error, ErrorKind};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Where the next `"` or `\` stands; eight bytes at a time, because this is most of a header's cost.
#[inline]
pub(crate) fn quote_or_escape(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let hit = zero_bytes(word ^ (ONES * 0x22)) | zero_bytes(word ^ (ONES * 0x5c));
        if hit != 0 {
            // The lowest marked byte is exact; only marks above it can be false.
            return usize::try_from(hit.trailing_zeros() / 8)
                .ok()
                .map(|index| at + index);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    rest.iter()
        .position(|byte| matches!(byte, b'"' | b'\\'))
        .map(|index| at + index)
}

/// Marks the high bit of bytes that are zero (and perhaps of bytes above the first of them).
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Reads a string whose opening quote stands before `from`. Gives the text and the position behind the closing quote;
/// borrows unless something was escaped.
pub(crate) fn quoted(text: &str, from: usize, quote: u8) -> Result<(Cow<'_, str>, usize), Error> {
    let bytes = text.as_bytes();
    let end = quote_or_backslash(bytes, from, quote).ok_or_else(|| unclosed(text))?;
    if bytes.get(end) == Some(&quote) {
        return Ok((Cow::Borrowed(piece(text, from, end)), end + 1));
    }
    let mut whole = String::with_capacity((text.len() - from).min(256));
    let (mut start, mut end) = (from, end);
    loop {
        whole.push_str(piece(text, start, end));
        if bytes.get(end) == Some(&quote) {
            return Ok((Cow::Owned(whole), end + 1));
        }
        start = unescape(text, end + 1, &mut whole)?;
        end = quote_or_backslash(bytes, start, quote).ok_or_else(|| unclosed(text))?;
    }
}

#[inline]
fn quote_or_backslash(bytes: &[u8], from: usize, quote: u8) -> Option<usize> {
    if quote == b'"' {
        return quote_or_escape(bytes, from);
    }
    let rest = bytes.get(from..)?;
    rest.iter()
        .position(|byte| *byte == quote || *byte == b'\\')
        .map(|index| from + index)
}

/// Both ends stand at ASCII bytes, so that they are character boundaries.
#[inline]
fn piece(text: &str, from: usize, to: usize) -> &str {
    text.get(from..to).unwrap_or_default()
}

fn unclosed(text: &str) -> Error {
    Error::new(text.len(), ErrorKind::UnexpectedEnd)
}

/// Reads what stands behind a backslash; gives the position behind it.
#[inline]
fn unescape(text: &str, at: usize, whole: &mut String) -> Result<usize, Error> {
    let bytes = text.as_bytes();
    let bad = || Error::new(at, ErrorKind::BadEscape);
    // What separates properties, by far the most frequent escapes: \u0001 and \u0002.
    if let Some([b'u', b'0', b'0', b'0', low @ b'0'..=b'9']) = bytes.get(at..at + 5) {
        whole.push(char::from(low - b'0'));
        return Ok(at + 5);
    }
    let byte = *bytes.get(at).ok_or_else(|| unclosed(text))?;
    let plain = match byte {
        b'"' | b'\\' | b'/' | b'\'' => char::from(byte),
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'b' => '\u{8}',
        b'f' | b'F' => '\u{c}',
        b'v' => '\u{b}',
        b'0'..=b'7' => char::from(byte - b'0'),
        b'x' => {
            let code = hex(bytes, at + 1, 2).ok_or_else(bad)?;
            whole.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            return Ok(at + 3);
        }
        b'u' => {
            let code = hex(bytes, at + 1, 4).ok_or_else(bad)?;
            return Ok(utf16(bytes, at + 5, code, whole));
        }
        _ => return Err(bad()),
    };
    whole.push(plain);
    Ok(at + 1)
}

/// Joins two escaped halves of a character; a lone half cannot be kept in UTF-8 and becomes U+FFFD.
fn utf16(bytes: &[u8], at: usize, code: u32, whole: &mut String) -> usize {
    let low = match (code, bytes.get(at..at + 2)) {
        (0xD800..0xDC00, Some(b"\\u")) => {
            hex(bytes, at + 2, 4).filter(|low| (0xDC00..0xE000).contains(low))
        }
        _ => None,
    };
    let (code, next) = match low {
        Some(low) => (0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00), at + 6),
        None => (code, at),
    };
    whole.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
    next
}

fn hex(bytes: &[u8], at: usize, digits: usize) -> Option<u32> {
    let digits = bytes.get(at..at + digits)?;
    digits.iter().try_fold(0, |value, digit| {
        Some(value * 16 + char::from(*digit).to_digit(16)?)
    })
}

/// Appends a string with quotes, escaped as fastjson does (control characters, quote, backslash, C1 and the two Unicode
/// line separators).
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut done = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if PLAIN[usize::from(*byte)] {
            continue;
        }
        let (skip, code) = match (*byte, bytes.get(at + 1), bytes.get(at + 2)) {
            (0xC2, Some(low @ 0x80..=0x9F), _) => (2, u16::from(*low)),
            (0xE2, Some(0x80), Some(low @ (0xA8 | 0xA9))) => (3, 0x2000 + u16::from(*low) - 0x80),
            (0xC2 | 0xE2, ..) => continue,
            (ascii, ..) => (1, u16::from(ascii)),
        };
        out.extend_from_slice(bytes.get(done..at).unwrap_or_default());
        write_escape(out, code);
        done = at + skip;
    }
    out.extend_from_slice(bytes.get(done..).unwrap_or_default());
    out.push(b'"');
}

/// Appends a string in pure ASCII, as fastjson's "browser compatible" form does.
pub(super) fn write_ascii(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'/') => out.extend_from_slice(b"\\/"),
            Ok(byte) if byte < 0x7f && PLAIN[usize::from(byte)] => out.push(byte),
            _ => write_escape(out, unit),
        }
    }
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, code: u16) {
    let short = match code {
        0x08 => b"\\b",
        0x09 => b"\\t",
        0x0a => b"\\n",
        0x0c => b"\\f",
        0x0d => b"\\r",
        0x22 => b"\\\"",
        0x5c => b"\\\\",
        _ => {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.extend_from_slice(b"\\u");
            let digit = |shift: u16| DIGITS[usize::from((code >> shift) & 0xf)];
            out.extend_from_slice(&[digit(12), digit(8), digit(4), digit(0)]);
            return;
        }
    };
    out.extend_from_slice(short);
}

/// Bytes that are copied without a second look.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut control = 0;
    while control < 0x20 {
        plain[control] = false;
        control += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain[0x7f] = false;
    plain[0xC2] = false;
    plain[0xE2] = false;
    plain
};

/// Appends a number in decimal digits.
pub fn write_int(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_quote_or_backslash_is_found_wherever_it_stands() {
        for len in 0..40 {
            for at in 0..len {
                for special in [b'"', b'\\'] {
                    let mut bytes = vec![b'!'; len];
                    bytes[at] = special;
                    assert_eq!(quote_or_escape(&bytes, 0), Some(at));
                    assert_eq!(quote_or_escape(&bytes, at), Some(at));
                    assert_eq!(quote_or_escape(&bytes, at + 1), None);
                }
            }
        }
        assert_eq!(quote_or_escape(b"", 5), None);
    }

    #[test]
    fn escapes_are_read_as_fastjson_reads_them() {
        let cases = [
            (r#"plain""#, "plain"),
            (
                r#"KEYS\u0001k1\u0002TAGS\u0001a""#,
                "KEYS\u{1}k1\u{2}TAGS\u{1}a",
            ),
            (r#"\b\t\n\f\r\"\\\/\'\v""#, "\u{8}\t\n\u{c}\r\"\\/'\u{b}"),
            (r#"\x41\u4e2d\ud83d\ude00""#, "A中😀"),
            (r#"\ud83d!\ude00""#, "\u{fffd}!\u{fffd}"),
            (r#"\ud83dA""#, "\u{fffd}A"),
            (r#"\ud83d\u0041""#, "\u{fffd}A"),
            (r#"中\\文""#, "中\\文"),
        ];
        for (input, expected) in cases {
            let (text, end) = quoted(input, 0, b'"').unwrap();
            assert_eq!(text, expected);
            assert_eq!(end, input.len());
        }
        for input in ["no end", r"\", r"\u00", r#"\u00g1""#, r#"\q""#, r#"\x4""#] {
            assert!(quoted(input, 0, b'"').is_err(), "{input}");
        }
    }

    #[test]
    fn integers_print_as_rust_prints_them() {
        for value in [
            0,
            1,
            -1,
            9,
            10,
            99,
            100,
            1_700_000_000_000,
            i64::MAX,
            i64::MIN,
        ] {
            let mut out = Vec::new();
            write_int(&mut out, value);
            assert_eq!(out, value.to_string().into_bytes());
        }
    }
}
