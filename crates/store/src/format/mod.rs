//! The layouts on disk, one file each: offsets, encode, decode, size asserts. Drawn in `docs/store-format.md`.
//!
//! Pure. The message record itself belongs to `gantry_message`, because it is also what goes over the wire.

pub(crate) mod blank;
pub(crate) mod checkpoint;
pub(crate) mod entry;
pub(crate) mod index;
pub(crate) mod name;
pub(crate) mod progress;
