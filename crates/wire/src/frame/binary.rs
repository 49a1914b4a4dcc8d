//! The binary header.
//!
//! ```text
//! code 2 | language 1 | version 2 | opaque 4 | flag 4 | remark length 4, remark | fields length 4, fields
//! field: name length 2, name, value length 4, value
//! ```
//! A length below one means that the text is absent. Bytes behind the fields are ignored, as in Java.

use super::Header;
use crate::fields::Fields;
use crate::headers::HeaderError;
use crate::language::Language;

/// Reads a binary header.
pub(super) fn header(bytes: &[u8]) -> Result<Header<'_>, HeaderError> {
    let mut rest = Cut {
        bytes,
        whole: bytes.len(),
    };
    let code = i32::from(i16::from_be_bytes(*rest.array("code")?));
    let [language] = *rest.array("language")?;
    let version = i32::from(i16::from_be_bytes(*rest.array("version")?));
    let opaque = i32::from_be_bytes(*rest.array("opaque")?);
    let flag = i32::from_be_bytes(*rest.array("flag")?);
    let remark_len = i32::from_be_bytes(*rest.array("remark length")?);
    let remark = rest.take("remark", remark_len)?;
    let remark = (!remark.is_empty()).then(|| String::from_utf8_lossy(remark));
    let fields_len = i32::from_be_bytes(*rest.array("extFields length")?);
    let mut inner = Cut {
        bytes: rest.take("extFields", fields_len)?,
        whole: rest.whole,
    };
    let mut fields = Fields::new();
    while !inner.bytes.is_empty() {
        let name_len = i32::from(i16::from_be_bytes(*inner.array("extFields name length")?));
        let name = inner.take("extFields name", name_len)?;
        let value_len = i32::from_be_bytes(*inner.array("extFields value length")?);
        let value = inner.take("extFields value", value_len)?;
        if name.is_empty() || value.is_empty() {
            continue;
        }
        match (std::str::from_utf8(name), std::str::from_utf8(value)) {
            (Ok(name), Ok(value)) => fields
                .receive_borrowed(name, value)
                .ok_or(HeaderError::TooManyFields)?,
            _ => fields.receive(
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value),
            )?,
        }
    }
    let language = Language::from_number(i64::from(language));
    Ok(Header {
        code,
        language,
        version,
        opaque,
        flag,
        remark,
        fields,
    })
}

/// What is left of a header.
struct Cut<'a> {
    bytes: &'a [u8],
    whole: usize,
}

impl<'a> Cut<'a> {
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<&'a [u8; N], HeaderError> {
        let cut = HeaderError::Truncated {
            what,
            wanted: N,
            left: self.bytes.len(),
            header: self.whole,
        };
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(cut)?;
        self.bytes = rest;
        Ok(head)
    }

    /// That many bytes; none for a length below one.
    fn take(&mut self, what: &'static str, len: i32) -> Result<&'a [u8], HeaderError> {
        let wanted = usize::try_from(len).unwrap_or(0);
        let cut = HeaderError::Truncated {
            what,
            wanted,
            left: self.bytes.len(),
            header: self.whole,
        };
        let (head, rest) = self.bytes.split_at_checked(wanted).ok_or(cut)?;
        self.bytes = rest;
        Ok(head)
    }
}
