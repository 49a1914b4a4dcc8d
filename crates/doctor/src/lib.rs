//! The store doctor: examines a store that no broker uses, shows what is in it, saves messages out of it, repairs it.
//!
//! [`check()`] reads everything once with bounded memory and writes nothing; [`dump`] and
//! [`export`] walk over the log past damage; [`repair`] lets the store's own recovery make
//! the store good and keeps a copy of whatever is dropped. Works on Apache's directories as on ours. Layouts come from
//! `gantry_store::format`; no second decoder is here. What an operator reads of it is `docs/store-doctor.md`.

mod check;
pub mod cli;
pub mod dump;
pub mod export;
mod log;
mod messages;
mod progress;
pub mod repair;
mod report;
mod target;

pub use check::{CheckOptions, check};
pub use messages::{ReadTotals, Selection};
pub use progress::Progress;
pub use report::{
    Class, ClassSummary, Finding, Findings, LogSummary, Report, SCHEMA, Severity, time_text,
};
pub use target::{DoctorError, Shape, Target};
