//! Our small text files end with the checksum of what is before it: `crc=89abcdef`.

use std::fmt::Write;

/// The file of this text.
#[must_use]
pub fn with_crc(mut text: String) -> Vec<u8> {
    let crc = crc32fast::hash(text.as_bytes());
    // Writing to a string does not fail.
    let _ = writeln!(text, "crc={crc:08x}");
    text.into_bytes()
}

/// The lines behind the first one, which names the format and its version; `None` for a file that is torn, changed or of
/// another version.
#[must_use]
pub fn lines<'a>(bytes: &'a [u8], first: &str) -> Option<std::str::Lines<'a>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (body, crc) = text.split_at(text.rfind("crc=")?);
    let crc = u32::from_str_radix(crc.strip_prefix("crc=")?.trim_end(), 16).ok()?;
    if crc != crc32fast::hash(body.as_bytes()) {
        return None;
    }
    let mut lines = body.lines();
    (lines.next()? == first).then_some(lines)
}
