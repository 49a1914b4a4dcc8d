//! JSON in fastjson's dialect: what Java writes exactly, what it reads leniently.
//!
//! [`Reader`] pulls values out of a text without building a tree, so that a hostile body cannot grow in memory; [`Writer`]
//! prints compact, standard and pretty forms. Types join in through [`FromJson`], [`ToJson`] and [`MapKey`].
//! Deeper nesting than [`DEPTH_MAX`] is an error, so that no text can exhaust the stack.

mod convert;
mod reader;
mod text;
mod writer;

pub use convert::{FromJson, MapKey, ToJson};
pub(crate) use convert::{in_order, member_of};
pub use reader::{Error, ErrorKind, Key, Reader, Scalar};
pub(crate) use text::{quote_or_escape, quoted};
pub use text::{write_int, write_text};
pub use writer::{Dialect, Members, Writer};

/// Objects and arrays inside each other. Real bodies have five levels.
pub const DEPTH_MAX: u32 = 64;

/// Reads a whole text. `null` and an empty text are errors: no body of ours may be either.
pub fn parse<T: FromJson>(bytes: &[u8]) -> Result<T, Error> {
    let text = String::from_utf8_lossy(bytes);
    let mut reader = Reader::new(&text);
    let value = T::from_json(&mut reader)?;
    reader.finish()?;
    value.ok_or_else(|| Error::new(0, ErrorKind::Null))
}

/// Prints a value.
pub fn print<T: ToJson>(value: &T, dialect: Dialect) -> Vec<u8> {
    let mut writer = Writer::new(dialect);
    value.to_json(&mut writer);
    writer.into_bytes()
}
