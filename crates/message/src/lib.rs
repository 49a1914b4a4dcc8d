//! The vocabulary that every other crate speaks: positions, names, flags, properties and the message record.
//!
//! Pure: no files, no sockets, no threads; the only clock is [`Millis::now`], which shells call.
//! Everything that comes from a peer or a file is checked here once, by [`RecordView::parse`], [`batch::items`] and
//! [`topic::validate`]; nothing in this crate panics on foreign bytes.
//! Start with [`Record`] (what a sender decides) and [`RecordView`] (what the log holds).

pub mod batch;
mod epoch;
mod hash;
mod id;
pub mod perm;
mod position;
pub mod properties;
pub mod record;
mod sys_flag;
pub mod topic;

pub use epoch::{Epoch, NoEpoch};
pub use hash::{JavaHash, java_hash, java_hash_bytes};
pub use id::{IdError, MessageId};
pub use position::{LogOffset, Millis, QueueId, QueueOffset};
pub use record::{Record, RecordError, RecordView, patch};
pub use sys_flag::SysFlag;
