//! The JSON header.
//!
//! [`fast`] reads in one pass and in place what clients send: one object of known members with strings, integers, `true`,
//! `false` and `null`, and `extFields` one level deep. It gives up at the first surprise, and [`lenient`] reads the header
//! again as fastjson would. Both agree on everything that the first accepts.

use std::borrow::Cow;

use super::Header;
use crate::fields::Fields;
use crate::headers::HeaderError;
use crate::json::{self, Key, Reader, Scalar};
use crate::language::Language;

/// Reads a JSON header.
pub(super) fn header(bytes: &[u8]) -> Result<Header<'_>, HeaderError> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        let text = String::from_utf8_lossy(bytes);
        let header = lenient(&text)?;
        return Ok(header.into_owned());
    };
    let mut header = Header::default();
    match fast(text, &mut header) {
        Some(()) => Ok(header),
        None => lenient(text),
    }
}

/// A header is nearly a kilobyte large, so that it is filled where it lies.
fn fast<'a>(text: &'a str, header: &mut Header<'a>) -> Option<()> {
    let mut scan = Scan {
        text,
        bytes: text.as_bytes(),
        at: 0,
    };
    scan.expect(b'{')?;
    loop {
        match scan.name()? {
            "code" => header.code = scan.int()?,
            "flag" => header.flag = scan.int()?,
            "opaque" => header.opaque = scan.int()?,
            "version" => header.version = scan.int()?,
            "extFields" => scan.fields(&mut header.fields)?,
            "language" => header.language = Language::from_scalar(&scan.value()?),
            "remark" => header.remark = scan.value()?.into_text(),
            "serializeTypeCurrentRPC" => drop(scan.value()?),
            _ => return None,
        }
        match scan.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    scan.blanks();
    (scan.at == text.len()).then_some(())
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    #[cold]
    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The next byte that is no blank, taken. Most clients send no blanks.
    #[inline]
    fn next(&mut self) -> Option<u8> {
        let mut byte = *self.bytes.get(self.at)?;
        if byte <= b' ' {
            self.blanks();
            byte = *self.bytes.get(self.at)?;
        }
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    /// A member's name and its colon. Names with escapes are surprises.
    #[inline]
    fn name(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let end = json::quote_or_escape(self.bytes, self.at)?;
        if self.bytes.get(end) != Some(&b'"') {
            return None;
        }
        let name = self.text.get(self.at..end)?;
        self.at = end + 1;
        self.expect(b':')?;
        Some(name)
    }

    #[inline]
    fn int(&mut self) -> Option<i32> {
        match self.value()? {
            Scalar::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    #[inline]
    fn value(&mut self) -> Option<Scalar<'a>> {
        match self.next()? {
            b'"' => self.rest_of_text().map(Scalar::Text),
            b't' => self.word("rue", Scalar::Bool(true)),
            b'f' => self.word("alse", Scalar::Bool(false)),
            b'n' => self.word("ull", Scalar::Null),
            b'-' | b'0'..=b'9' => {
                let from = self.at - 1;
                while let Some(b'0'..=b'9') = self.bytes.get(self.at) {
                    self.at += 1;
                }
                // A fraction, an exponent or anything else behind the digits is a surprise to the caller.
                self.text.get(from..self.at).map(Scalar::Number)
            }
            _ => None,
        }
    }

    /// A string behind its opening quote.
    #[inline]
    fn rest_of_text(&mut self) -> Option<Cow<'a, str>> {
        let end = json::quote_or_escape(self.bytes, self.at)?;
        if self.bytes.get(end) == Some(&b'"') {
            let text = self.text.get(self.at..end)?;
            self.at = end + 1;
            return Some(Cow::Borrowed(text));
        }
        let (text, end) = json::quoted(self.text, self.at, b'"').ok()?;
        self.at = end;
        Some(text)
    }

    fn word(&mut self, rest: &str, value: Scalar<'a>) -> Option<Scalar<'a>> {
        let end = self.at + rest.len();
        if self.text.get(self.at..end) != Some(rest) {
            return None;
        }
        self.at = end;
        Some(value)
    }

    fn fields(&mut self, fields: &mut Fields<'a>) -> Option<()> {
        self.expect(b'{')?;
        if self.bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Some(());
        }
        loop {
            let name = self.name()?;
            match self.value()? {
                Scalar::Text(Cow::Borrowed(value)) | Scalar::Number(value) => {
                    fields.receive_borrowed(name, value)?
                }
                Scalar::Text(value) => fields.receive(Cow::Borrowed(name), value).ok()?,
                Scalar::Bool(value) => {
                    fields.receive_borrowed(name, if value { "true" } else { "false" })?
                }
                Scalar::Null => {}
            }
            match self.next()? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }
}

/// Reads a header as fastjson does.
fn lenient(text: &str) -> Result<Header<'_>, HeaderError> {
    let mut header = Header::default();
    let mut too_many = false;
    let mut reader = Reader::new(text);
    let found = reader.object(|reader, name| {
        let Key::Text(name) = name else {
            return reader.skip();
        };
        match name.as_ref() {
            "code" => set(&mut header.code, reader.int32()?),
            "flag" => set(&mut header.flag, reader.int32()?),
            "opaque" => set(&mut header.opaque, reader.int32()?),
            "version" => set(&mut header.version, reader.int32()?),
            "language" => header.language = Language::from_scalar(&reader.scalar()?),
            "remark" => header.remark = reader.scalar()?.into_text(),
            "extFields" => too_many |= fields(reader, &mut header.fields)?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    reader.finish()?;
    match (found, too_many) {
        (true, false) => Ok(header),
        (true, true) => Err(HeaderError::TooManyFields),
        (false, _) => Err(HeaderError::NotAnObject),
    }
}

/// Reads extension fields; says whether there were too many, of which the first ones are kept.
fn fields<'a>(reader: &mut Reader<'a>, fields: &mut Fields<'a>) -> Result<bool, json::Error> {
    let mut too_many = false;
    reader.object(|reader, name| {
        let value = reader.text_of_any()?;
        if let (Key::Text(name), Some(value)) = (name, value) {
            too_many |= fields.receive(name, value).is_err();
        }
        Ok(())
    })?;
    Ok(too_many)
}

fn set(place: &mut i32, value: Option<i32>) {
    *place = value.unwrap_or(*place);
}
