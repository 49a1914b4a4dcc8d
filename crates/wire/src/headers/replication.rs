//! What one Gantry asks another about replication. No server of Apache knows these codes.

use super::headers;

/// Field of 103 and of its answer, and of 46001: the newest promotion of the broker's name that the sender knows of.
/// Apache's servers do not look at it.
pub const EPOCH: &str = "gantryEpoch";

/// Field of 15 when a slave tells its master: the position that the master said it has, empty for none. The new one is taken
/// only if it has that still; if not, the field is in the answer. Apache's brokers do not look at it.
pub const SEEN_OFFSET: &str = "gantrySeenOffset";

headers! {
    /// 46001: a slave would like a link with checksums.
    HaLink<'a> "HaLinkRequestHeader" {
        broker_name: &'a str, "brokerName";
        /// The slave's.
        broker_id: i64, "brokerId";
        /// Length of a segment of the slave's log.
        segment_size: i64, "segmentSize";
        /// The newest promotion that the slave knows of.
        epoch: Option<&'a str>, "gantryEpoch";
    }

    /// Answer to 46001.
    HaLinkAnswer<'a> "HaLinkResponseHeader" {
        /// What the slave shows on the HA port, 32 hexadecimal digits; once, and soon.
        token: &'a str, "token";
        /// Where the master's log starts.
        min_offset: i64, "minOffset";
        /// Where it ends.
        max_offset: i64, "maxOffset";
        /// Length of a segment of the master's log.
        segment_size: i64, "segmentSize";
        /// The promotion that made it the master.
        epoch: Option<&'a str>, "gantryEpoch";
        /// Where its recoveries put something in place of what was lost, `,` between them.
        made_up: Option<&'a str>, "madeUp";
    }

    /// 46003: whether messages are not taken from now on.
    SetReadOnly "SetReadOnlyRequestHeader" {
        read_only: bool, "readOnly";
    }

    /// Answer to 46003.
    SetReadOnlyAnswer "SetReadOnlyResponseHeader" {
        /// Where the log ends; of a broker that is read only now, where it stays.
        max_offset: i64, "maxOffset";
    }

    /// 46004: the slave shall be the master.
    Promote<'a> "PromoteRequestHeader" {
        /// The promotion, `NUMBER.ID`; the id is the slave's.
        epoch: &'a str, "gantryEpoch";
        /// `ASYNC_MASTER` or `SYNC_MASTER`.
        role: &'a str, "role";
        /// Its log must reach at least to there.
        min_end: i64, "minEnd";
        /// Only whether it could be is asked.
        check: bool = false, "check";
    }

    /// 46005: there is such a promotion, or will be: who is an older master writes no more.
    TellEpoch<'a> "TellEpochRequestHeader" {
        epoch: &'a str, "gantryEpoch";
        /// Only if it is as whoever asks has seen it: this promotion was the newest that it knew of,
        if_epoch: Option<&'a str>, "ifEpoch";
        /// it was `MASTER` or `SLAVE`,
        if_part: Option<&'a str>, "ifPart";
        /// and its log ended there.
        if_end: Option<i64>, "ifEnd";
    }

    /// 46007: the master shall take no messages for so long, 0: it takes them again.
    Hold "HoldRequestHeader" {
        millis: i64, "millis";
    }

    /// Answer to 46007.
    HoldAnswer "HoldResponseHeader" {
        /// Where the log ends, and stays as long.
        max_offset: i64, "maxOffset";
    }

    /// 46006: the master that was replaced shall be a slave.
    Rejoin<'a> "RejoinRequestHeader" {
        /// The promotion of the master that it shall follow.
        epoch: &'a str, "gantryEpoch";
        /// Its id from now on.
        broker_id: i64, "brokerId";
    }

    /// Answer to 46004, 46005 and 46006: what the broker is from now on.
    SeatAnswer<'a> "SeatResponseHeader" {
        /// The newest promotion that it knows of.
        epoch: &'a str, "gantryEpoch";
        /// `ASYNC_MASTER`, `SYNC_MASTER`, `SLAVE` or `FENCED`.
        part: &'a str, "part";
        /// Where its log ends.
        max_offset: i64, "maxOffset";
    }
}
