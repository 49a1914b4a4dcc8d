//! Writing frames: fields go straight into the output buffer, the length words are patched at the end.

use super::{FRAME_MAX, FrameError, HEADER_MAX, ONEWAY, PREFIX, RESPONSE, Serialization};
use crate::codes::response;
use crate::fields::FieldSink;
use crate::json::{write_int, write_text};
use crate::language::Language;
use crate::version;

/// A remark is text for humans; what is longer is cut, because it may quote what a peer sent.
const REMARK_MAX: usize = 16 << 10;

/// What an answer says beside its fields and body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// Response code.
    pub code: i32,
    /// The request's number.
    pub opaque: i32,
    /// Text for humans; cut at 16 KiB.
    pub remark: Option<&'a str>,
}

/// What a request says beside its fields and body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Request code.
    pub code: i32,
    /// Our number for it.
    pub opaque: i32,
    /// Whether no answer is wanted.
    pub oneway: bool,
}

/// Appends a whole answer to `out`. An answer that no peer could receive (over [`FRAME_MAX`]) becomes a refusal that says
/// so.
pub fn encode_response(
    out: &mut Vec<u8>,
    serialization: Serialization,
    head: &ResponseHead<'_>,
    fields: &mut dyn FnMut(&mut FieldWriter<'_>),
    body: &[u8],
) {
    match encode_response_head(out, serialization, head, fields, body.len()) {
        Ok(()) => out.extend_from_slice(body),
        Err(error) => refuse_oversized(out, serialization, head.opaque, error),
    }
}

/// Appends an answer but for its body, which the caller sends behind it. On error (the frame would be over [`FRAME_MAX`])
/// `out` is as it was.
pub fn encode_response_head(
    out: &mut Vec<u8>,
    serialization: Serialization,
    head: &ResponseHead<'_>,
    fields: &mut dyn FnMut(&mut FieldWriter<'_>),
    body_len: usize,
) -> Result<(), FrameError> {
    let head = Head {
        code: head.code,
        opaque: head.opaque,
        flag: RESPONSE,
        remark: head.remark,
    };
    encode(out, serialization, &head, fields, body_len)
}

/// Appends a whole request to `out`: language Java, our version. On error `out` is as it was.
pub fn encode_request(
    out: &mut Vec<u8>,
    serialization: Serialization,
    head: &RequestHead,
    fields: &mut dyn FnMut(&mut FieldWriter<'_>),
    body: &[u8],
) -> Result<(), FrameError> {
    let flag = if head.oneway { ONEWAY } else { 0 };
    let head = Head {
        code: head.code,
        opaque: head.opaque,
        flag,
        remark: None,
    };
    encode(out, serialization, &head, fields, body.len())?;
    out.extend_from_slice(body);
    Ok(())
}

struct Head<'a> {
    code: i32,
    opaque: i32,
    flag: i32,
    remark: Option<&'a str>,
}

fn encode(
    out: &mut Vec<u8>,
    serialization: Serialization,
    head: &Head<'_>,
    fields: &mut dyn FnMut(&mut FieldWriter<'_>),
    body_len: usize,
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    match serialization {
        Serialization::Json => json(out, head, fields),
        Serialization::Binary => binary(out, head, fields),
    }
    let header_len = out.len() - start - PREFIX;
    match prefix(serialization, header_len, body_len) {
        Ok(prefix) => {
            out[start..start + PREFIX].copy_from_slice(&prefix);
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

fn prefix(
    serialization: Serialization,
    header_len: usize,
    body_len: usize,
) -> Result<[u8; PREFIX], FrameError> {
    if HEADER_MAX < header_len {
        return Err(FrameError::HeaderTooLarge { size: header_len });
    }
    let size = (PREFIX + header_len).saturating_add(body_len);
    let too_large = FrameError::TooLarge {
        size: u64::try_from(size).unwrap_or(u64::MAX),
        limit: FRAME_MAX,
    };
    if FRAME_MAX < size {
        return Err(too_large);
    }
    let length = u32::try_from(size - 4).map_err(|_| too_large)?;
    let header = u32::try_from(header_len).map_err(|_| too_large)?;
    let kind: u32 = match serialization {
        Serialization::Json => 0,
        Serialization::Binary => 1,
    };
    let word = (u64::from(length) << 32) | u64::from((kind << 24) | header);
    Ok(word.to_be_bytes())
}

/// Members in fastjson's order, which is alphabetical.
fn json(out: &mut Vec<u8>, head: &Head<'_>, fields: &mut dyn FnMut(&mut FieldWriter<'_>)) {
    out.extend_from_slice(b"{\"code\":");
    write_int(out, i64::from(head.code));
    let mut writer = FieldWriter {
        out,
        serialization: Serialization::Json,
        any: false,
    };
    fields(&mut writer);
    if writer.any {
        out.push(b'}');
    }
    out.extend_from_slice(b",\"flag\":");
    write_int(out, i64::from(head.flag));
    out.extend_from_slice(b",\"language\":\"JAVA\",\"opaque\":");
    write_int(out, i64::from(head.opaque));
    if let Some(remark) = head.remark {
        out.extend_from_slice(b",\"remark\":");
        write_text(out, cut(remark));
    }
    out.extend_from_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    write_int(out, i64::from(version::CURRENT));
    out.push(b'}');
}

fn binary(out: &mut Vec<u8>, head: &Head<'_>, fields: &mut dyn FnMut(&mut FieldWriter<'_>)) {
    put_short(out, head.code);
    out.push(Language::Java.number());
    put_short(out, version::CURRENT);
    out.extend_from_slice(&head.opaque.to_be_bytes());
    out.extend_from_slice(&head.flag.to_be_bytes());
    let remark = head.remark.map_or("", cut);
    put_length(out, remark.len());
    out.extend_from_slice(remark.as_bytes());
    let hole = out.len();
    out.extend_from_slice(&[0; 4]);
    fields(&mut FieldWriter {
        out,
        serialization: Serialization::Binary,
        any: false,
    });
    patch_length(out, hole);
}

/// Java casts codes and versions to 16 bits here, so that larger ones lose their high half.
fn put_short(out: &mut Vec<u8>, value: i32) {
    let [_, _, high, low] = value.to_be_bytes();
    out.extend_from_slice(&[high, low]);
}

fn put_length(out: &mut Vec<u8>, len: usize) {
    // A text over 4 GiB does not exist here; were there one, the size check at the end would refuse the frame.
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}

/// Writes how many bytes follow the 4-byte hole.
fn patch_length(out: &mut [u8], hole: usize) {
    let len = out.len() - hole - 4;
    if let Some(hole) = out.get_mut(hole..hole + 4) {
        hole.copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    }
}

fn cut(remark: &str) -> &str {
    &remark[..remark.floor_char_boundary(REMARK_MAX)]
}

#[cold]
fn refuse_oversized(
    out: &mut Vec<u8>,
    serialization: Serialization,
    opaque: i32,
    error: FrameError,
) {
    let remark = format!("the answer does not fit a frame: {error}");
    let head = Head {
        code: response::SYSTEM_ERROR,
        opaque,
        flag: RESPONSE,
        remark: Some(&remark),
    };
    let fits = encode(out, serialization, &head, &mut |_| (), 0);
    debug_assert!(fits.is_ok(), "a short refusal fits a frame");
}

/// Writes extension fields into the frame under construction.
#[derive(Debug)]
pub struct FieldWriter<'v> {
    out: &'v mut Vec<u8>,
    serialization: Serialization,
    any: bool,
}

impl FieldWriter<'_> {
    /// Opens the JSON object at the first field, separates it from the one before at the others.
    fn json_name(&mut self, name: &str) {
        self.out
            .extend_from_slice(if self.any { b"," } else { b",\"extFields\":{" });
        self.any = true;
        write_text(self.out, name);
        self.out.push(b':');
    }

    /// Binary names have 16-bit lengths; a longer one cannot be ours and is left out.
    fn binary_name(&mut self, name: &str) -> bool {
        let Ok(len) = i16::try_from(name.len()) else {
            return false;
        };
        self.out.extend_from_slice(&len.to_be_bytes());
        self.out.extend_from_slice(name.as_bytes());
        true
    }
}

impl FieldSink for FieldWriter<'_> {
    fn text(&mut self, name: &str, value: &str) {
        match self.serialization {
            Serialization::Json => {
                self.json_name(name);
                write_text(self.out, value);
            }
            Serialization::Binary => {
                if self.binary_name(name) {
                    put_length(self.out, value.len());
                    self.out.extend_from_slice(value.as_bytes());
                }
            }
        }
    }

    fn int(&mut self, name: &str, value: i64) {
        match self.serialization {
            Serialization::Json => {
                self.json_name(name);
                self.out.push(b'"');
                write_int(self.out, value);
                self.out.push(b'"');
            }
            Serialization::Binary => {
                if self.binary_name(name) {
                    let hole = self.out.len();
                    self.out.extend_from_slice(&[0; 4]);
                    write_int(self.out, value);
                    patch_length(self.out, hole);
                }
            }
        }
    }
}
