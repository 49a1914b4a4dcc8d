//! Bodies and files: JSON exactly as Java writes it, read as leniently as Java reads it.
//!
//! Each type has `parse` and `encode`, and `encode_pretty` for the files in `config/`. A member that is missing or null
//! keeps its default, unknown members are skipped. Maps and sets are ordered, so that the same value always prints the
//! same bytes; Java's order is that of its hashes and means nothing.
//! Rows stand in alphabetical order, which is fastjson's; the compiler checks it.

mod clients;
mod common;
mod groups;
mod inspection;
mod offsets;
mod registration;
mod replication;
mod route;
mod stats;
mod topics;

pub use clients::*;
pub use common::*;
pub use groups::*;
pub use inspection::*;
pub use offsets::*;
pub use registration::*;
pub use replication::*;
pub use route::*;
pub use stats::*;
pub use topics::*;

/// Why a body could not be read.
pub type BodyError = crate::json::Error;

/// Defines body structs: Rust name, type, default unless the type's own, Java's name.
macro_rules! bodies {
    ($(
        $(#[$meta:meta])*
        $name:ident $java:literal {
            $( $(#[$field_meta:meta])* $field:ident : $type:ty $(= $default:expr)? , $field_java:literal; )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[$field_meta])* #[doc = concat!("`", $field_java, "`")] pub $field: $type, )*
        }

        const _: () = assert!($crate::json::in_order(&[$($field_java),*]), "members out of fastjson's order");

        impl Default for $name {
            fn default() -> Self {
                $name { $( $field: $crate::bodies::bodies!(@default $($default)?), )* }
            }
        }

        impl $name {
            /// Reads a whole body.
            pub fn parse(bytes: &[u8]) -> Result<Self, $crate::bodies::BodyError> {
                $crate::json::parse(bytes).map_err(|error: $crate::bodies::BodyError| error.of($java))
            }

            /// Prints it as a body.
            pub fn encode(&self) -> Vec<u8> {
                $crate::json::print(self, $crate::json::Dialect::Compact)
            }

            /// Prints it as a file in `config/`.
            pub fn encode_pretty(&self) -> Vec<u8> {
                $crate::json::print(self, $crate::json::Dialect::Pretty)
            }
        }

        impl $crate::json::FromJson for $name {
            fn from_json(reader: &mut $crate::json::Reader<'_>) -> Result<Option<Self>, $crate::json::Error> {
                let mut value = Self::default();
                let found = reader.object(|reader, key| {
                    let $crate::json::Key::Text(key) = key else { return reader.skip() };
                    match $crate::json::member_of(&key, &[$($field_java),*]).unwrap_or_default() {
                        $( $field_java => {
                            let read = $crate::json::FromJson::from_json(reader);
                            if let Some(read) = read.map_err(|error| error.within($java, $field_java))? {
                                value.$field = read;
                            }
                        } )*
                        _ => reader.skip()?,
                    }
                    Ok(())
                })?;
                Ok(found.then_some(value))
            }
        }

        impl $crate::json::ToJson for $name {
            fn to_json(&self, writer: &mut $crate::json::Writer) {
                let mut members = writer.object();
                $( members.member($field_java, &self.$field); )*
                members.end();
            }
        }
    )*};
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
}
use bodies;

/// Defines enums that Java writes by name and reads by name or ordinal.
macro_rules! names {
    ($(
        $(#[$meta:meta])*
        $name:ident { $( $(#[$variant_meta:meta])* $variant:ident $java:literal, )* }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $( $(#[$variant_meta])* #[doc = concat!("`", $java, "`")] $variant, )* }

        impl $name {
            /// Every value in the order of Java's ordinals.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// Java's name.
            pub fn name(self) -> &'static str {
                match self { $( $name::$variant => $java, )* }
            }

            /// The value of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $( $java => Some($name::$variant), )* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl $crate::json::FromJson for $name {
            /// A name or ordinal that nobody knows is null, as in Java.
            fn from_json(reader: &mut $crate::json::Reader<'_>) -> Result<Option<Self>, $crate::json::Error> {
                Ok(match reader.scalar()? {
                    $crate::json::Scalar::Text(name) => Self::from_name(&name),
                    $crate::json::Scalar::Number(at) => at.parse().ok().and_then(|at: usize| Self::ALL.get(at)).copied(),
                    _ => None,
                })
            }
        }

        impl $crate::json::ToJson for $name {
            fn to_json(&self, writer: &mut $crate::json::Writer) {
                writer.text(self.name());
            }
        }
    )*};
}
use names;
