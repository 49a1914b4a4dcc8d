//! What one Gantry asks another about replication. No server of Apache knows these codes.

use super::headers;

/// Field of 103 and of its answer, and of 46001: the newest promotion of the broker's name that the sender knows of.
/// Apache's servers do not look at it.
pub const EPOCH: &str = "gantryEpoch";

headers! {
    /// 46001: a slave would like a link with checksums.
    HaLink<'a> "HaLinkRequestHeader" {
        broker_name: &'a str, "brokerName";
        /// The slave's.
        broker_id: i64, "brokerId";
        /// Length of a segment of the slave's log.
        segment_size: i64, "segmentSize";
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
}
