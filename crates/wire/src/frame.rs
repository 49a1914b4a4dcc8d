//! Frames: length word, header, body; in both header serialisations.
//!
//! ```text
//! 0        4  total: bytes after this word = 4 + header + body
//! 4        1  serialisation: 0 JSON, 1 binary
//! 5        3  header length
//! 8        h  header
//! 8 + h    b  body
//! ```
//! [`split`] finds a frame in what a socket gave, [`Frame::decode`] reads its header in place, the `encode` functions
//! append whole frames to a buffer. Nothing here knows what a code or a field means, and nothing is allocated by a length
//! that a peer claims: a frame is looked at once all of its bytes are there.

mod binary;
mod encode;
mod scan;

use std::borrow::Cow;

pub use encode::{
    FieldWriter, RequestHead, ResponseHead, encode_request, encode_response, encode_response_head,
};

use crate::fields::Fields;
use crate::headers::HeaderError;
use crate::language::Language;

/// Largest frame, its length word included (Java's `com.rocketmq.remoting.frameMaxLength`).
pub const FRAME_MAX: usize = 16 << 20;
/// Bytes before the header: length word, serialisation, header length.
pub const PREFIX: usize = 8;
/// Largest header that its 24-bit length can tell.
const HEADER_MAX: usize = (1 << 24) - 1;
/// Flag bit of a response.
const RESPONSE: i32 = 1;
/// Flag bit of a request that wants no answer.
const ONEWAY: i32 = 2;

/// How a header is written. An answer uses its request's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Serialization {
    /// JSON, what everybody uses by default.
    #[default]
    Json,
    /// RocketMQ's binary form.
    Binary,
}

/// Why a connection must be closed, or a frame of ours cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the limit.
    #[error("frame of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes of the whole frame.
        size: u64,
        /// Bytes allowed.
        limit: usize,
    },
    /// The length word cannot be true.
    #[error("frame length {length} is below the 4 bytes of the header word")]
    TooShort {
        /// What the length word says.
        length: i32,
    },
    /// The header does not fit into the frame.
    #[error("header of {header} bytes is longer than the {available} bytes of its frame")]
    HeaderBeyondFrame {
        /// Claimed length of the header.
        header: usize,
        /// Bytes of the frame behind the header word.
        available: usize,
    },
    /// Neither JSON nor binary.
    #[error("unknown header serialisation {0}")]
    UnknownSerialization(u8),
    /// A header to be sent does not fit its 24-bit length.
    #[error("header of {size} bytes is over the limit of {HEADER_MAX}")]
    HeaderTooLarge {
        /// Bytes of the header.
        size: usize,
    },
}

/// One whole frame, in the buffer it was received in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Bytes of the whole frame, its length word included: what to drop from the buffer afterwards.
    pub size: usize,
    /// How the header is written.
    pub serialization: Serialization,
    /// The header's bytes.
    pub header: &'a [u8],
    /// The body's bytes.
    pub body: &'a [u8],
}

/// Finds the first frame of a buffer. `Ok(None)` says that more bytes are needed; an error means that the connection must
/// be closed, and comes as soon as the first eight bytes tell it.
pub fn split(buf: &[u8], limit: usize) -> Result<Option<Frame<'_>>, FrameError> {
    let Some(length) = buf.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*length);
    let Some(after) = usize::try_from(length).ok().filter(|after| 4 <= *after) else {
        return Err(FrameError::TooShort { length });
    };
    let size = after.saturating_add(4);
    if limit < size {
        return Err(FrameError::TooLarge {
            size: u64::try_from(size).unwrap_or(u64::MAX),
            limit,
        });
    }
    let Some((_, [kind, high, middle, low])) = buf
        .first_chunk::<PREFIX>()
        .and_then(|p| p.split_first_chunk::<4>())
    else {
        return Ok(None);
    };
    let serialization = match kind {
        0 => Serialization::Json,
        1 => Serialization::Binary,
        other => return Err(FrameError::UnknownSerialization(*other)),
    };
    let (header_len, available) = (
        (usize::from(*high) << 16) | (usize::from(*middle) << 8) | usize::from(*low),
        after - 4,
    );
    if available < header_len {
        return Err(FrameError::HeaderBeyondFrame {
            header: header_len,
            available,
        });
    }
    let Some((header, body)) = buf
        .get(PREFIX..size)
        .and_then(|rest| rest.split_at_checked(header_len))
    else {
        return Ok(None);
    };
    Ok(Some(Frame {
        size,
        serialization,
        header,
        body,
    }))
}

impl<'a> Frame<'a> {
    /// Reads the header. What clients really send is read in one pass and in place; what that pass does not digest goes
    /// to the lenient parser. An error means that the connection must be closed, as Java does.
    pub fn decode(&self) -> Result<Header<'a>, HeaderError> {
        match self.serialization {
            Serialization::Json => scan::header(self.header),
            Serialization::Binary => binary::header(self.header),
        }
    }

    /// Where the body begins, counted from the frame's first byte.
    pub fn body_at(&self) -> usize {
        PREFIX + self.header.len()
    }
}

/// A decoded header, borrowed from its frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header<'a> {
    /// Request or response code.
    pub code: i32,
    /// Sender's language.
    pub language: Language,
    /// Sender's release.
    pub version: i32,
    /// Number that ties an answer to its request.
    pub opaque: i32,
    /// Bit 0: response; bit 1: wants no answer.
    pub flag: i32,
    /// Text for humans.
    pub remark: Option<Cow<'a, str>>,
    /// Extension fields.
    pub fields: Fields<'a>,
}

impl Header<'_> {
    /// Whether this is an answer.
    pub fn is_response(&self) -> bool {
        self.flag & RESPONSE != 0
    }

    /// Whether the sender wants no answer.
    pub fn is_oneway(&self) -> bool {
        self.flag & ONEWAY != 0
    }

    /// The same header without a borrow.
    pub fn into_owned<'b>(self) -> Header<'b> {
        Header {
            code: self.code,
            language: self.language,
            version: self.version,
            opaque: self.opaque,
            flag: self.flag,
            remark: self.remark.map(|remark| Cow::Owned(remark.into_owned())),
            fields: self.fields.into_owned(),
        }
    }
}
