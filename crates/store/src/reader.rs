//! Reading: by queue offset, by log offset, by time.

use bytes::Bytes;
use gantry_message::{Millis, QueueOffset};

/// How a read by queue offset ended; the names are Java's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStatus {
    /// Messages were found.
    Found,
    /// Entries were found, none is wanted.
    NoMatchedMessage,
    /// The entries' messages are already deleted.
    MessageWasRemoving,
    /// The entries' file is missing.
    OffsetFoundNull,
    /// Beyond the end.
    OffsetOverflowBadly,
    /// At the end: the next message will have this offset.
    OffsetOverflowOne,
    /// Before the beginning.
    OffsetTooSmall,
    /// No such queue.
    NoMatchedLogicQueue,
    /// The queue never had a message.
    NoMessageInQueue,
}

impl ReadStatus {
    /// Java's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Found => "FOUND",
            Self::NoMatchedMessage => "NO_MATCHED_MESSAGE",
            Self::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
            Self::OffsetFoundNull => "OFFSET_FOUND_NULL",
            Self::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
            Self::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
            Self::OffsetTooSmall => "OFFSET_TOO_SMALL",
            Self::NoMatchedLogicQueue => "NO_MATCHED_LOGIC_QUEUE",
            Self::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
        }
    }
}

/// What a read by queue offset found.
#[derive(Clone, Debug)]
pub struct Found {
    /// How it ended.
    pub status: ReadStatus,
    /// Where to read next.
    pub next: QueueOffset,
    /// The queue's first offset.
    pub min: QueueOffset,
    /// The queue's end: the offset the next message gets.
    pub max: QueueOffset,
    /// The records, one behind the other; records that are neighbours in the log share a slice.
    pub slices: Vec<Bytes>,
    /// How many records.
    pub count: u32,
    /// How many bytes.
    pub bytes: u64,
    /// Whether the reader is so far behind that a slave should serve it.
    pub suggest_slave: bool,
    /// How far the last examined entry lies behind the end of the log, in bytes.
    pub behind_bytes: u64,
}

/// What a query by key found.
#[derive(Clone, Debug)]
pub struct QueryFound {
    /// Whole records, newest first.
    pub records: Vec<Bytes>,
    /// When the index was last added to.
    pub last_update_time: Millis,
    /// The log offset of the last indexed message.
    pub last_update_offset: u64,
}
