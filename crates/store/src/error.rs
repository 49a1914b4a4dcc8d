//! What goes wrong: with the store as a whole, and with one message.
//!
//! A [`StoreError`] is a fault of disk or environment and is logged by whoever consumes it. An [`AppendError`] is the
//! reason why one message was not stored; every text names the object, the limit and the value.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_message::{LogOffset, QueueId, RecordError};
use thiserror::Error;

/// What keeps the store from working.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another process works on this store.
    #[error("Lock failed,MQ already started: {path} is locked by another process")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A folder of the log is empty although segments are missing: most probably its disk is not there.
    #[error(
        "{dir} has no segment of the log, and {missing} missing (the first is {first}); nothing was changed. \
         Mount its disk, or, if these messages are lost for good, {way_out}",
        missing = if *.missing == 1 { "1 is".to_owned() } else { format!("{} are", .missing) }
    )]
    NotMounted {
        /// The folder.
        dir: PathBuf,
        /// How many segments are missing.
        missing: u64,
        /// The name of the first of them.
        first: String,
        /// How to start without them.
        way_out: String,
    },
    /// A setting that no store can have.
    #[error("{key} {value} is out of range: {reason}")]
    Config {
        /// Which setting, as the administrator calls it.
        key: &'static str,
        /// What it is set to.
        value: u64,
        /// What it should be.
        reason: &'static str,
    },
    /// A file operation failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Recovery was ended by who watches it: see [`crate::RecoveryWatch::until`].
    #[error("recovery was interrupted, the next start begins it again")]
    Interrupted,
    /// The store was stopped.
    #[error("the store is shut down")]
    ShutDown,
    /// A background thread could not be made.
    #[error("cannot start the thread {name}: {source}")]
    Thread {
        /// Which.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// Wraps what the system said about `path`; for `map_err`.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// Why a message was not stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    /// The store was stopped.
    #[error("the store is shut down")]
    ShutDown,
    /// A write or sync failed before; nothing is written until a restart.
    #[error("the store takes no messages since {error}")]
    Latched {
        /// The first failure.
        error: Arc<str>,
    },
    /// Messages are not wanted now, though the store is well.
    #[error("{why}")]
    Sealed {
        /// Why not.
        why: Arc<str>,
    },
    /// The disk is fuller than the store may fill it.
    #[error("the disk of {dir} is {used} % full, the limit is {limit} %")]
    DiskFull {
        /// Where.
        dir: Arc<Path>,
        /// How full.
        used: u64,
        /// How full it may be.
        limit: u64,
    },
    /// The system refused more space.
    #[error("no space left for {path}: {error}")]
    NoSpace {
        /// Which file.
        path: Arc<Path>,
        /// What the system said.
        error: Arc<str>,
    },
    /// A file operation failed in a way that may pass.
    #[error("cannot {doing} {path}: {error}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: Arc<Path>,
        /// What the system said.
        error: Arc<str>,
    },
    /// Queue entries wait in memory for a disk that does not take them.
    #[error("{waiting} queue entries wait to be written, the limit is {limit}")]
    QueuesBehind {
        /// How many wait.
        waiting: u64,
        /// How many may.
        limit: u64,
    },
    /// The queue was deleted.
    #[error("queue {id} of topic {topic} was deleted")]
    QueueGone {
        /// Its topic.
        topic: Arc<str>,
        /// Its number.
        id: QueueId,
    },
    /// The body, or a whole batch, is longer than messages may be.
    #[error("body of {size} bytes, the limit is {limit}")]
    BodyTooLarge {
        /// What it has.
        size: usize,
        /// What it may have.
        limit: usize,
    },
    /// The properties are longer than a record holds.
    #[error("properties of {size} bytes, the limit is {limit}")]
    PropertiesTooLarge {
        /// What they have.
        size: usize,
        /// What they may have.
        limit: usize,
    },
    /// The topic is empty or longer than a record holds.
    #[error("topic of {size} bytes, the limit is 1 to {limit}")]
    TopicTooLong {
        /// What it has.
        size: usize,
        /// What it may have.
        limit: usize,
    },
    /// The record does not fit into a segment of the log.
    #[error("record of {size} bytes, a log segment takes {limit}")]
    RecordLargerThanSegment {
        /// What it takes.
        size: usize,
        /// What a segment takes.
        limit: u64,
    },
    /// A group without messages.
    #[error("a group without messages")]
    EmptyGroup,
    /// A field that the record cannot hold.
    #[error("{0}")]
    Record(RecordError),
    /// The log has no offsets left.
    #[error("the log ends at {end}")]
    LogFull {
        /// Where it ends.
        end: LogOffset,
    },
}

impl AppendError {
    /// Every word that [`AppendError::reason`] may say.
    pub const REASONS: [&str; 10] = [
        "shut_down",
        "latched",
        "sealed",
        "disk_full",
        "no_space",
        "io",
        "queues_behind",
        "queue_gone",
        "log_full",
        "message",
    ];

    /// One word for it: of few, so that they can be counted.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ShutDown => "shut_down",
            Self::Latched { .. } => "latched",
            Self::Sealed { .. } => "sealed",
            Self::DiskFull { .. } => "disk_full",
            Self::NoSpace { .. } => "no_space",
            Self::Io { .. } => "io",
            Self::QueuesBehind { .. } => "queues_behind",
            Self::QueueGone { .. } => "queue_gone",
            Self::LogFull { .. } => "log_full",
            Self::BodyTooLarge { .. }
            | Self::PropertiesTooLarge { .. }
            | Self::TopicTooLong { .. }
            | Self::RecordLargerThanSegment { .. }
            | Self::EmptyGroup
            | Self::Record(_) => "message",
        }
    }

    /// Whether the message itself is at fault: the same message will be refused again.
    #[must_use]
    pub fn is_illegal_message(&self) -> bool {
        matches!(
            self,
            Self::BodyTooLarge { .. }
                | Self::PropertiesTooLarge { .. }
                | Self::TopicTooLong { .. }
                | Self::RecordLargerThanSegment { .. }
                | Self::EmptyGroup
                | Self::Record(_)
        )
    }
}

impl From<RecordError> for AppendError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::TopicLength {
                length: size,
                limit,
            } => Self::TopicTooLong { size, limit },
            RecordError::PropertiesLength {
                length: size,
                limit,
            } => Self::PropertiesTooLarge { size, limit },
            other => Self::Record(other),
        }
    }
}
