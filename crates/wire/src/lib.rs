//! RocketMQ's remoting protocol: bytes to values and back, nothing else.
//!
//! Owns frames in both header serialisations, request and response codes, typed headers and JSON bodies as Java's
//! fastjson writes and leniently reads them. Never does I/O, never asks for the time, never panics on what a peer or a
//! file contains, and never allocates by a length that a peer claims.
//! Start with [`frame`] (what travels), then [`headers`] and [`bodies`] (what it means); `docs/wire.md` draws the layouts.

pub mod bodies;
pub mod codes;
mod command;
mod fields;
pub mod frame;
pub mod headers;
pub mod json;
mod language;
pub mod version;

pub use command::{Request, Response};
pub use fields::{FIELDS_MAX, FieldSink, Fields};
pub use headers::{HeaderDecode, HeaderEncode, HeaderError};
pub use language::Language;
