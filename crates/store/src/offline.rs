//! What tools need that look into a store without opening it: its segments, for reading only, and a cursor over its log.
//!
//! Nothing in here writes, takes a lock or recovers. The layouts are in [`crate::format`], the tool is `gantry_doctor`.

use gantry_message::{Millis, RecordView};

pub use crate::chain::Chain;
pub use crate::cursor::{Cursor, Reason, Step};
pub use crate::segment::Segment;

/// What the queue entry of a record says of its tags: their hash, or when the message is due (delayed messages).
#[must_use]
pub fn tags_code(record: &RecordView<'_>, delay_levels: &[Millis]) -> i64 {
    crate::recovery::tags_code(record, delay_levels)
}

/// Whether a topic found in the log can be the name of a directory, and so have queues.
#[must_use]
pub fn has_queues(topic: &str) -> bool {
    crate::recovery::is_safe_name(topic)
}
