//! The layouts on disk, one file each: offsets, encode, decode, size asserts. Drawn in `docs/store-format.md`.
//!
//! Pure. The message record itself belongs to `gantry_message`, because it is also what goes over the wire. Public for
//! tools that look into a store without opening it; nothing in here panics on foreign bytes.

pub mod blank;
pub mod checked;
pub mod checkpoint;
pub mod deletions;
pub mod entry;
pub mod ext;
pub mod index;
pub mod name;
pub mod progress;
