//! Why a link was ended: one sentence each, for the log, the status and the metric of both sides.

use std::time::Duration;

use gantry_message::LogOffset;

/// What a peer did that ends the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing came for too long.
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    /// The slave's log is longer than the master's, or its number is none.
    #[error("the slave says it ends at {position}, beyond the master's end at {end}")]
    BeyondEnd {
        /// What it said.
        position: LogOffset,
        /// Where the master's log ends.
        end: LogOffset,
    },
    /// The slave acknowledges bytes that were never sent to it.
    #[error("the slave acknowledges {position}, but was sent nothing beyond {sent}")]
    NotSent {
        /// What it said.
        position: LogOffset,
        /// What it was sent.
        sent: LogOffset,
    },
    /// The slave takes back what it acknowledged.
    #[error("the slave acknowledged {acknowledged} and now says {position}")]
    WentBack {
        /// What it said before.
        acknowledged: LogOffset,
        /// What it says now.
        position: LogOffset,
    },
    /// What comes next for the slave was deleted here.
    #[error(
        "the slave ends at {position}, and the master's log starts at {min}: what is between was deleted"
    )]
    BehindStart {
        /// Where the slave ends.
        position: LogOffset,
        /// Where the master's log starts.
        min: LogOffset,
    },
    /// The master sends something else than what comes next.
    #[error("the master sends from {theirs}, and our log ends at {ours}")]
    OutOfStep {
        /// Where the slave ends.
        ours: LogOffset,
        /// Where the block starts.
        theirs: LogOffset,
    },
    /// A block for an empty slave starts within a segment, or a block reaches over a segment's end.
    #[error(
        "the master's block of {len} bytes at {start} does not fit our segments of {segment_size} bytes: different mappedFileSizeCommitLog?"
    )]
    OtherSegments {
        /// Where the block starts.
        start: LogOffset,
        /// Its length.
        len: u32,
        /// Our segments' size.
        segment_size: u64,
    },
    /// A report was changed on the way.
    #[error("a report of the slave has another checksum than it says")]
    ReportChecksum,
    /// A block was changed on the way.
    #[error("the master's block of {len} bytes at {start} has another checksum than it says")]
    BlockChecksum {
        /// Where the block starts.
        start: LogOffset,
        /// Its length.
        len: u32,
    },
    /// Nobody was given this invitation, or it was used or too old.
    #[error("the slave shows an invitation that is not valid")]
    NotInvited,
}
