//! Typed headers: one struct a header class of Java, one row a field.
//!
//! A row says the Rust name, the type and Java's name. `Option` marks what may be missing, `= value` what a missing field
//! means; every other field is required. Strings are borrowed from the request. Numbers stay as they travel: whoever
//! handles a request turns them into queue ids and offsets and decides what -1 means there.
//! Java ignores fields that it cannot parse and fails later; here decoding is an error that says which field of which
//! header has which value, and the connection stays open.

mod admin;
mod client;
mod consume;
mod name_server;
mod replication;
mod send;

pub use admin::*;
pub use client::*;
pub use consume::*;
pub use name_server::*;
pub use replication::*;
pub use send::*;

use crate::fields::{FIELDS_MAX, FieldSink};
use crate::json;

/// Why a header could not be read.
///
/// The first five kinds come from [`crate::frame::Frame::decode`] and mean that the connection must be closed; the other
/// two come from typed headers and are an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The header is not JSON.
    #[error("header is not JSON: {0}")]
    Json(#[from] json::Error),
    /// The header is JSON's null.
    #[error("header is no JSON object")]
    NotAnObject,
    /// A binary header is shorter than it says.
    #[error(
        "binary header of {header} bytes ends within {what}: {wanted} bytes wanted, {left} left"
    )]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes that it needs.
        wanted: usize,
        /// Bytes that are left.
        left: usize,
        /// Bytes of the whole header.
        header: usize,
    },
    /// More extension fields than we take.
    #[error("header with more than {FIELDS_MAX} extension fields")]
    TooManyFields,
    /// A required field is missing.
    #[error("{header}.{field} is missing")]
    Missing {
        /// Java's name of the header class.
        header: &'static str,
        /// Java's name of the field.
        field: &'static str,
    },
    /// A field's value cannot be what it should be.
    #[error("{header}.{field} is not {wanted}: {value:?}")]
    Malformed {
        /// Java's name of the header class.
        header: &'static str,
        /// Java's name of the field.
        field: &'static str,
        /// What it should be.
        wanted: &'static str,
        /// What was sent, shortened.
        value: String,
    },
}

/// A header that can be read from extension fields.
pub trait HeaderDecode<'a>: Sized {
    /// Java's name of the class.
    const NAME: &'static str;

    /// Reads the fields; the last one of a name counts, unknown ones are ignored.
    fn decode(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, HeaderError>;
}

/// A header that can be written as extension fields.
pub trait HeaderEncode {
    /// Writes every field that is not absent.
    fn encode(&self, sink: &mut dyn FieldSink);
}

/// A type that one field can have.
pub(crate) trait FieldValue<'a>: Sized {
    fn read(
        header: &'static str,
        field: &'static str,
        value: Option<&'a str>,
    ) -> Result<Self, HeaderError>;
    fn write(&self, field: &'static str, sink: &mut dyn FieldSink);
}

impl<'a> FieldValue<'a> for &'a str {
    fn read(
        header: &'static str,
        field: &'static str,
        value: Option<&'a str>,
    ) -> Result<Self, HeaderError> {
        value.ok_or(HeaderError::Missing { header, field })
    }

    fn write(&self, field: &'static str, sink: &mut dyn FieldSink) {
        sink.text(field, self);
    }
}

impl<'a> FieldValue<'a> for bool {
    /// As Java's `Boolean.parseBoolean`: everything but "true" is false.
    fn read(
        header: &'static str,
        field: &'static str,
        value: Option<&'a str>,
    ) -> Result<Self, HeaderError> {
        let value = value.ok_or(HeaderError::Missing { header, field })?;
        Ok(value.eq_ignore_ascii_case("true"))
    }

    fn write(&self, field: &'static str, sink: &mut dyn FieldSink) {
        sink.bool(field, *self);
    }
}

impl<'a> FieldValue<'a> for i32 {
    fn read(
        header: &'static str,
        field: &'static str,
        value: Option<&'a str>,
    ) -> Result<Self, HeaderError> {
        let value = value.ok_or(HeaderError::Missing { header, field })?;
        value
            .parse()
            .map_err(|_| malformed(header, field, "a 32-bit integer", value))
    }

    fn write(&self, field: &'static str, sink: &mut dyn FieldSink) {
        sink.int(field, i64::from(*self));
    }
}

impl<'a> FieldValue<'a> for i64 {
    fn read(
        header: &'static str,
        field: &'static str,
        value: Option<&'a str>,
    ) -> Result<Self, HeaderError> {
        let value = value.ok_or(HeaderError::Missing { header, field })?;
        value
            .parse()
            .map_err(|_| malformed(header, field, "a 64-bit integer", value))
    }

    fn write(&self, field: &'static str, sink: &mut dyn FieldSink) {
        sink.int(field, *self);
    }
}

impl<'a, T: FieldValue<'a>> FieldValue<'a> for Option<T> {
    fn read(
        header: &'static str,
        field: &'static str,
        value: Option<&'a str>,
    ) -> Result<Self, HeaderError> {
        value
            .map(|value| T::read(header, field, Some(value)))
            .transpose()
    }

    fn write(&self, field: &'static str, sink: &mut dyn FieldSink) {
        if let Some(value) = self {
            value.write(field, sink);
        }
    }
}

#[cold]
fn malformed(
    header: &'static str,
    field: &'static str,
    wanted: &'static str,
    value: &str,
) -> HeaderError {
    let value = value
        .get(..value.floor_char_boundary(64))
        .unwrap_or_default()
        .to_string();
    HeaderError::Malformed {
        header,
        field,
        wanted,
        value,
    }
}

/// Defines header structs with their rows, see the module's text.
macro_rules! headers {
    ($(
        $(#[$meta:meta])*
        $name:ident $(<$life:lifetime>)? $java:literal {
            $( $(#[$field_meta:meta])* $field:ident : $type:ty $(= $default:expr)? , $field_java:literal; )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name $(<$life>)? {
            $( $(#[$field_meta])* #[doc = concat!("`", $field_java, "`")] pub $field: $type, )*
        }

        impl<'x $(, $life)?> $crate::headers::HeaderDecode<'x> for $name $(<$life>)? $(where 'x: $life)? {
            const NAME: &'static str = $java;

            #[allow(unused_mut, unused_variables, reason = "some headers have no fields")]
            fn decode(fields: impl Iterator<Item = (&'x str, &'x str)>) -> Result<Self, $crate::headers::HeaderError> {
                $( let mut $field = None; )*
                for (name, value) in fields {
                    match name {
                        $( $field_java => $field = Some(value), )*
                        _ => {}
                    }
                }
                Ok($name { $( $field: $crate::headers::headers!(@read $java, $field_java, $field, $type $(, $default)?), )* })
            }
        }

        impl $(<$life>)? $crate::headers::HeaderEncode for $name $(<$life>)? {
            #[allow(unused_variables, reason = "some headers have no fields")]
            fn encode(&self, sink: &mut dyn $crate::fields::FieldSink) {
                $( $crate::headers::FieldValue::write(&self.$field, $field_java, sink); )*
            }
        }

        #[cfg(test)]
        impl $(<$life>)? $crate::headers::Rows for $name $(<$life>)? {
            const NAME: &'static str = $java;
            const ROWS: &'static [(&'static str, &'static str)] = &[$(($field_java, concat!(stringify!($type) $(, "=", stringify!($default))?)),)*];
        }
    )*};
    (@read $java:literal, $field_java:literal, $value:ident, $type:ty) => {
        <$type as $crate::headers::FieldValue>::read($java, $field_java, $value)?
    };
    (@read $java:literal, $field_java:literal, $value:ident, $type:ty, $default:expr) => {
        <Option<$type> as $crate::headers::FieldValue>::read($java, $field_java, $value)?.unwrap_or($default)
    };
}
use headers;

/// The rows of a header, for the comparison with Java's classes.
#[cfg(test)]
pub(crate) trait Rows {
    const NAME: &'static str;
    const ROWS: &'static [(&'static str, &'static str)];
}

#[cfg(test)]
mod tests;
