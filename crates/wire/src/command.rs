//! Requests and responses in owned form, for everything that is not hot.
//!
//! The send and pull paths work on [`crate::frame::Header`] in place and write answers with
//! [`crate::frame::encode_response`]; all other handlers, clients and tests use these.

use std::borrow::Cow;
use std::fmt::Display;

use bytes::Bytes;

use crate::codes::response;
use crate::fields::{FieldSink, Fields};
use crate::frame::{self, FrameError, Header, RequestHead, ResponseHead, Serialization};
use crate::headers::{HeaderDecode, HeaderEncode, HeaderError};
use crate::language::Language;
use crate::version;

/// A request with its own copy of the header; the body is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for, see [`crate::codes::request`].
    pub code: i32,
    /// Sender's language.
    pub language: Language,
    /// Sender's release, see [`crate::version`].
    pub version: i32,
    /// The sender's number for this request, to be echoed.
    pub opaque: i32,
    /// Whether the sender wants no answer.
    pub oneway: bool,
    /// How the header came, and therefore how the answer must go.
    pub serialization: Serialization,
    /// The typed header's fields as texts.
    pub fields: Fields<'static>,
    /// The body, empty if there is none.
    pub body: Bytes,
}

impl Request {
    /// A request to send: language Java, our version, JSON, two-way, no fields, no body.
    pub fn new(code: i32) -> Self {
        Request {
            code,
            language: Language::Java,
            version: version::CURRENT,
            opaque: 0,
            oneway: false,
            serialization: Serialization::Json,
            fields: Fields::new(),
            body: Bytes::new(),
        }
    }

    /// Takes over a decoded header.
    pub fn from_header(header: Header<'_>, serialization: Serialization, body: Bytes) -> Self {
        Request {
            code: header.code,
            language: header.language,
            version: header.version,
            opaque: header.opaque,
            oneway: header.is_oneway(),
            serialization,
            fields: header.fields.into_owned(),
            body,
        }
    }

    /// The typed header, for example `request.header::<headers::PullMessage>()?`. An error is an answer for the peer
    /// (code 1), no reason to close the connection.
    pub fn header<'s, T: HeaderDecode<'s>>(&'s self) -> Result<T, HeaderError> {
        self.fields.header()
    }

    /// Adds the fields of a typed header.
    #[must_use]
    pub fn with_header(mut self, header: &impl HeaderEncode) -> Self {
        header.encode(&mut self.fields);
        self
    }

    /// Adds one field.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: impl Display) -> Self {
        self.fields.text(name, &value.to_string());
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Appends the whole frame; `out` is unchanged on error.
    pub fn encode(&self, out: &mut Vec<u8>, opaque: i32) -> Result<(), FrameError> {
        let head = RequestHead {
            code: self.code,
            opaque,
            oneway: self.oneway,
        };
        frame::encode_request(
            out,
            self.serialization,
            &head,
            &mut |sink| {
                self.fields
                    .iter()
                    .for_each(|(name, value)| sink.text(name, value))
            },
            &self.body,
        )
    }
}

/// An answer with its own fields and body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// How it ended, see [`crate::codes::response`].
    pub code: i32,
    /// Text for humans; the reason of a refusal.
    pub remark: Option<String>,
    /// The typed header's fields as texts.
    pub fields: Vec<(Cow<'static, str>, String)>,
    /// The body, empty if there is none.
    pub body: Bytes,
}

impl Response {
    /// Success without anything.
    pub fn ok() -> Self {
        Self::default()
    }

    /// Success with a body.
    pub fn with_body(body: impl Into<Bytes>) -> Self {
        Response {
            body: body.into(),
            ..Self::default()
        }
    }

    /// A refusal.
    pub fn refuse(code: i32, remark: impl Into<String>) -> Self {
        debug_assert!(
            code != response::SUCCESS,
            "a refusal needs a code of its own"
        );
        Response {
            code,
            remark: Some(remark.into()),
            ..Self::default()
        }
    }

    /// Takes over a decoded header.
    pub fn from_header(header: Header<'_>, body: Bytes) -> Self {
        let own = |(name, value): (&str, &str)| (Cow::Owned(name.to_string()), value.to_string());
        Response {
            code: header.code,
            fields: header.fields.iter().map(own).collect(),
            remark: header.remark.map(Cow::into_owned),
            body,
        }
    }

    /// Adds one field.
    #[must_use]
    pub fn field(mut self, name: impl Into<Cow<'static, str>>, value: impl Display) -> Self {
        self.fields.push((name.into(), value.to_string()));
        self
    }

    /// Adds the fields of a typed header.
    #[must_use]
    pub fn header(mut self, header: &impl HeaderEncode) -> Self {
        header.encode(&mut self.fields);
        self
    }

    /// Sets the remark.
    #[must_use]
    pub fn remark(mut self, remark: impl Into<String>) -> Self {
        self.remark = Some(remark.into());
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Value of a field; the last one of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The typed header of an answer received.
    pub fn read<'s, T: HeaderDecode<'s>>(&'s self) -> Result<T, HeaderError> {
        T::decode(
            self.fields
                .iter()
                .map(|(name, value)| (name.as_ref(), value.as_str())),
        )
    }

    /// Appends the whole frame, answering the request of that number in its own serialisation.
    pub fn encode(&self, out: &mut Vec<u8>, opaque: i32, serialization: Serialization) {
        let head = ResponseHead {
            code: self.code,
            opaque,
            remark: self.remark.as_deref(),
        };
        frame::encode_response(
            out,
            serialization,
            &head,
            &mut |sink| {
                self.fields
                    .iter()
                    .for_each(|(name, value)| sink.text(name, value))
            },
            &self.body,
        );
    }
}
