//! What tools need that look into a store without opening it: its segments, for reading only, and a cursor over its log.
//!
//! Nothing in here takes a lock or recovers, and only what moves or copies into the quarantine writes. The layouts are in [`crate::format`], the tool is `gantry_doctor`.

use std::io;
use std::path::{Path, PathBuf};

use gantry_disk::Disk;
use gantry_message::{Millis, RecordView};

use crate::paths::Paths;

pub use crate::chain::Chain;
pub use crate::cursor::{Cursor, Reason, Step};
pub use crate::segment::Segment;
pub use crate::segments::Candidate;

/// How long the segments of a log are: as configured when any file is, else as its files say.
#[must_use]
pub fn segment_size(disk: &dyn Disk, candidates: &[Candidate<'_>], configured: u64) -> u64 {
    crate::segments::size_of(disk, candidates, configured)
}

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

/// Moves a file or directory of a store into its quarantine, durably. Returns where it is then.
pub fn set_aside(disk: &dyn Disk, root: &Path, path: &Path) -> io::Result<PathBuf> {
    let paths = Paths {
        root: root.to_owned(),
    };
    let relative = path.strip_prefix(root).unwrap_or(path);
    let name = relative.to_string_lossy();
    let to = paths.free_quarantine(disk, &name.trim_start_matches('/').replace('/', "-"))?;
    disk.rename(path, &to)?;
    disk.sync_dir(&paths.quarantine())?;
    path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))?;
    Ok(to)
}

/// Copies a range of a segment into the quarantine, durably; what cannot be read of it is zeros there.
pub fn keep_copy(
    disk: &dyn Disk,
    root: &Path,
    segment: &Segment,
    range: std::ops::Range<u64>,
) -> io::Result<()> {
    let paths = Paths {
        root: root.to_owned(),
    };
    let (from, to) = (
        range.start.max(segment.start()),
        range.end.min(segment.end()),
    );
    let name = format!("commitlog-{from:020}-{to:020}");
    paths.keep_copy(disk, &name, to.saturating_sub(from), |part, at| {
        segment.read(part, from + at)
    })
}
