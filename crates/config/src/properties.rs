//! The `.properties` form, read exactly as `java.util.Properties.load(InputStream)` reads it and written so that it
//! reads back: ISO-8859-1 bytes, `\` escapes, continued lines, `=`, `:` or blanks between key and value.
//!
//! Blanks at the end of a value are part of it here; whether they can be meant is the loader's question.

use std::fmt::Write;

use crate::entry::{Entry, SyntaxError, Written};

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0c)
}

const fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// All entries in file order, repeated keys included.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, SyntaxError> {
    let mut lines = LogicalLines {
        rest: bytes,
        line: 1,
        ended_by_two: false,
    };
    let mut entries = Vec::new();
    while let Some((line, text)) = lines.next_line() {
        let (key, value) = split(&text);
        let unescape = |part: &[u8]| {
            unescape(part).map_err(|misdeed| SyntaxError {
                line,
                misdeed: misdeed.into(),
            })
        };
        entries.push(Entry {
            key: unescape(key)?,
            value: unescape(value)?,
            line,
            written: Written::Plain,
        });
    }
    Ok(entries)
}

/// Lines after comments, blank lines and continuations are dealt with; escapes are still in them.
struct LogicalLines<'a> {
    rest: &'a [u8],
    line: u32,
    ended_by_two: bool,
}

impl LogicalLines<'_> {
    /// One physical line without its end, or `None` behind the last one.
    fn physical(&mut self) -> Option<&[u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let length = self
            .rest
            .iter()
            .position(|&byte| ends_line(byte))
            .unwrap_or(self.rest.len());
        let (line, end) = self.rest.split_at(length);
        let skip = if end.starts_with(b"\r\n") {
            2
        } else {
            end.len().min(1)
        };
        self.rest = &end[skip..];
        self.ended_by_two = skip == 2;
        self.line = self.line.saturating_add(1);
        Some(line)
    }

    /// The next line that holds a pair, with the number of its first physical line.
    fn next_line(&mut self) -> Option<(u32, Vec<u8>)> {
        let mut text = Vec::new();
        let mut first = self.line;
        let mut continued = false;
        loop {
            let number = self.line;
            let Some(line) = self.physical() else {
                return (!text.is_empty()).then_some((first, text));
            };
            let line = trim_start(line);
            if text.is_empty() {
                // Java decides by what it has collected, so a "#" after a lone "\" starts a comment too.
                first = number;
                if line
                    .first()
                    .is_none_or(|&byte| byte == b'#' || byte == b'!')
                {
                    continue;
                }
            } else if continued && line.is_empty() {
                return Some((first, text));
            }
            text.extend_from_slice(line);
            let backslashes = line.iter().rev().take_while(|&&byte| byte == b'\\').count();
            if backslashes % 2 == 0 {
                return Some((first, text));
            }
            text.pop();
            // Java sees a pair without key and value in a lone "\" at the end, unless two characters end the line.
            if self.rest.is_empty() && !self.ended_by_two {
                return Some((first, text));
            }
            continued = true;
        }
    }
}

fn trim_start(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|&&byte| is_blank(byte)).count();
    &text[blanks..]
}

/// Key and value of a logical line: the key ends at the first `=`, `:` or blank that no `\` stands before.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let mut escaped = false;
    let end = line.iter().position(|&byte| {
        let ends = !escaped && (matches!(byte, b'=' | b':') || is_blank(byte));
        escaped = byte == b'\\' && !escaped;
        ends
    });
    let Some(end) = end else {
        return (line, &[]);
    };
    let (key, rest) = line.split_at(end);
    let rest = trim_start(rest);
    let rest = match rest.first() {
        Some(b'=' | b':') => trim_start(&rest[1..]),
        _ => rest,
    };
    (key, rest)
}

fn unescape(text: &[u8]) -> Result<String, &'static str> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            units.push(u16::from(byte));
            continue;
        }
        match bytes.next() {
            Some(b't') => units.push(9),
            Some(b'n') => units.push(10),
            Some(b'f') => units.push(12),
            Some(b'r') => units.push(13),
            Some(b'u') => {
                units.push(code_unit(&mut bytes).ok_or("\\u needs four hexadecimal digits")?)
            }
            Some(other) => units.push(u16::from(other)),
            None => {}
        }
    }
    Ok(char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect())
}

fn code_unit(bytes: &mut impl Iterator<Item = u8>) -> Option<u16> {
    let mut unit = 0u16;
    for _ in 0..4 {
        let digit = char::from(bytes.next()?).to_digit(16)?;
        unit = unit << 4 | u16::try_from(digit).ok()?;
    }
    Some(unit)
}

/// Appends `key=value` and a line end, escaped so that Java and [`parse`] read the same pair.
pub fn write(out: &mut String, key: &str, value: &str) {
    escape(out, key, true);
    out.push('=');
    escape(out, value, false);
    out.push('\n');
}

fn escape(out: &mut String, text: &str, is_key: bool) {
    for (at, character) in text.chars().enumerate() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\x0c' => out.push_str("\\f"),
            ' ' if is_key || at == 0 => out.push_str("\\ "),
            '=' | ':' | '#' | '!' if is_key => {
                out.push('\\');
                out.push(character);
            }
            ' '..='~' => out.push(character),
            _ => {
                let mut units = [0u16; 2];
                for unit in character.encode_utf16(&mut units) {
                    // Writing into a String cannot fail.
                    let _ = write!(out, "\\u{unit:04X}");
                }
            }
        }
    }
}
