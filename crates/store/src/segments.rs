//! Finds the log's segments on disk and brings their files to one size.
//!
//! Apache refuses to start when a file of the log has another size than configured; we continue with the size the
//! segments have, extend what is too short (its end is read as damage) and set aside what is no segment.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use gantry_disk::{Disk, Open, dirs};
use gantry_message::Millis;
use gantry_message::record::MAGIC;

use crate::config::{LogDir, StoreConfig};
use crate::error::StoreError;
use crate::figures::Counters;
use crate::format::checkpoint::Checkpoint;
use crate::format::progress::Progress;
use crate::format::{blank, name};
use crate::paths::Paths;
use crate::segment::Segment;
use crate::width::wide;

/// A file that is named like a segment.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Where it is.
    pub dir: &'a Path,
    /// Where it starts, as its name says.
    pub start: u64,
    /// How long it is.
    pub len: u64,
}

/// What [`load`] finds.
pub(crate) struct Found {
    pub(crate) size: u64,
    /// Sorted.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// There is no file of the log, and there was one.
    pub(crate) is_lost: bool,
}

/// The folder of a file system's own in its root: who finds it alone looks at a disk that was just formatted.
const FORMATTED: &str = "lost+found";

/// The segments of the log.
pub(crate) fn load(
    disk: &dyn Disk,
    config: &StoreConfig,
    paths: &Paths,
    counters: &Counters,
) -> Result<Found, StoreError> {
    let (mut candidates, mut empty, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    let mut formatted = Vec::new();
    for place in config.log_dirs() {
        let dir = place.dir;
        let known = candidates.len();
        if is_missing(disk, dir)? {
            absent.push(place);
        } else {
            for one in disk.list(dir).map_err(StoreError::io("list", dir))? {
                match name::parse(&one.name).filter(|_| !one.is_dir) {
                    Some(start) => candidates.push(Candidate {
                        dir,
                        start,
                        len: one.len,
                    }),
                    None if one.is_dir && one.name == FORMATTED => formatted.push(place),
                    None => {
                        tracing::warn!(dir = %dir.display(), name = one.name, "not a log segment, left alone")
                    }
                }
            }
        }
        if candidates.len() == known {
            empty.push(place);
        }
    }
    candidates.sort_by_key(|candidate| candidate.start);
    let size = size_of(disk, &candidates, config.segment_size);
    absent.extend(formatted);
    refuse_unmounted(disk, paths, &candidates, size, (&empty, &absent))?;
    let is_lost = candidates.is_empty() && was_written(disk, paths);
    if is_lost {
        let root = paths.root.display();
        tracing::error!(%root, "THE LOG WAS LOST: it has no file any more, and the store knows that it had; an empty one begins");
    }
    for place in config.log_dirs() {
        let dir = place.dir;
        if !place.is_read_only {
            dirs::make(disk, dir).map_err(StoreError::io("create", dir))?;
        } else if absent.contains(&place) {
            tracing::warn!(dir = %dir.display(), "a folder of readOnlyCommitLogStorePaths is missing");
        }
    }
    if size != config.segment_size {
        let configured = config.segment_size;
        tracing::warn!(
            size,
            configured,
            "mappedFileSizeCommitLog is not what this store was made with, keeping its own"
        );
    }
    let last = candidates.last().map_or(0, |last| last.start);
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    for candidate in &candidates {
        let path = candidate.dir.join(name::of(candidate.start));
        let is_twin = segments
            .last()
            .is_some_and(|before| before.end() > candidate.start);
        if !candidate.start.is_multiple_of(size) || is_twin {
            let why = "its name is not where a segment starts";
            if let Err(error) = paths.set_aside(disk, counters, &path, why) {
                // It is in nobody's way: what is not part of the log is not opened.
                tracing::error!(file = %path.display(), why, %error, "cannot be set aside, left alone");
            }
        } else if candidate.len == 0 && candidate.start == last {
            // Made and never filled: what a crash leaves of a new segment.
            disk.remove(&path)
                .map_err(StoreError::io("remove", &path))?;
        } else {
            fit(disk, paths, &path, candidate.len, size)?;
            // The newest one is written to.
            let open = if candidate.start == last {
                Segment::open
            } else {
                Segment::open_old
            };
            let segment = open(disk, candidate.dir, candidate.start, size);
            segments.push(Arc::new(segment.map_err(StoreError::io("open", &path))?));
        }
    }
    Ok(Found {
        size,
        segments,
        is_lost,
    })
}

/// Whether our note, or Apache's where there is none, says that messages were stored.
fn was_written(disk: &dyn Disk, paths: &Paths) -> bool {
    // What cannot be read says nothing here; recovery names it.
    let read = |path: &Path| gantry_disk::replace::read(disk, path).ok().flatten();
    let progress = read(&paths.progress()).and_then(|bytes| Progress::decode(&bytes));
    match progress {
        Some(progress) => 0 < progress.flushed.max(progress.written.end),
        None => read(&paths.checkpoint())
            .is_some_and(|bytes| Checkpoint::decode(&bytes).log > Millis(0)),
    }
}

/// The configured size when any file has it, else the size of a file with records that the most files have and that
/// fits most names (one may be no segment's). A file alone has a say only with whole pages, for otherwise it was cut, or where names say that the
/// configured size is wrong.
pub(crate) fn size_of(disk: &dyn Disk, candidates: &[Candidate<'_>], configured: u64) -> u64 {
    if candidates.is_empty() || candidates.iter().any(|one| one.len == configured) {
        return configured;
    }
    let sizes = StoreConfig::SEGMENT_SIZE_MIN..=StoreConfig::SEGMENT_SIZE_MAX;
    let fits = |size: u64| {
        let named = candidates
            .iter()
            .filter(|one| one.start.is_multiple_of(size));
        sizes.contains(&size) && named.count() * 2 > candidates.len()
    };
    let with_records = candidates.iter().filter(|one| one.has_record(disk));
    let votes = |size: u64| candidates.iter().filter(|one| one.len == size).count();
    let is_whole = |len: u64| len.is_multiple_of(PAGE) || votes(len) > 1 || !fits(configured);
    let lens = with_records.map(|one| one.len);
    let likely = lens.filter(|&len| fits(len) && is_whole(len));
    likely.max_by_key(|&len| votes(len)).unwrap_or(configured)
}

const PAGE: u64 = 4096;

impl Candidate<'_> {
    /// Whether a record or the end of one's segment stands at the beginning.
    fn has_record(&self, disk: &dyn Disk) -> bool {
        let mut head = [0; 8];
        let file = disk.open(&self.dir.join(name::of(self.start)), Open::Read);
        let read = file.and_then(|file| file.read_exact_at(&mut head, 0));
        read.is_ok() && (head[4..] == MAGIC.to_be_bytes() || blank::is_blank(&head))
    }
}

/// Brings a file to the size of a segment; what is cut off goes to the quarantine.
fn fit(disk: &dyn Disk, paths: &Paths, path: &Path, len: u64, size: u64) -> Result<(), StoreError> {
    if len == size {
        return Ok(());
    }
    tracing::error!(file = %path.display(), len, size, "a log segment has the wrong size");
    let fail = |doing| StoreError::io(doing, path);
    let file = disk.open(path, Open::Write).map_err(fail("open"))?;
    if len > size {
        let name = format!(
            "commitlog-{}-cut",
            path.file_name().unwrap_or_default().to_string_lossy()
        );
        let read = |part: &mut [u8], at| file.read_at(part, size + at);
        if let Err(error) = paths.keep_copy(disk, &name, len - size, read) {
            tracing::error!(file = %path.display(), from = size, to = len, %error, "no copy of what is cut off can be kept");
        }
    }
    file.set_len(size).map_err(fail("change the size of"))
}

/// A folder without a segment while segments are missing is most probably one whose disk is not mounted. To go on without
/// it would give its messages up for good, so nothing is touched. One lost file in the store's own root is damage, unless the
/// folder is that of a disk that was just formatted, which counts as absent.
fn refuse_unmounted(
    disk: &dyn Disk,
    paths: &Paths,
    candidates: &[Candidate<'_>],
    size: u64,
    (empty, absent): (&[LogDir<'_>], &[LogDir<'_>]),
) -> Result<(), StoreError> {
    if empty.is_empty() {
        return Ok(());
    }
    // What cannot be read says nothing here; recovery names it.
    let noted = gantry_disk::replace::read(disk, &paths.progress()).ok();
    let progress = noted.flatten().and_then(|bytes| Progress::decode(&bytes));
    let begin = candidates.first().map_or(0, |first| first.start);
    // Without a note of what is durable: segments behind the last one with records were only made ahead.
    let last = || candidates.iter().rfind(|one| one.has_record(disk));
    let end = match progress {
        Some(progress) => progress.flushed,
        None => last().map_or(0, |last| last.start),
    };
    let present: BTreeSet<u64> = candidates.iter().map(|one| one.start / size).collect();
    let mut numbers = begin / size..end.div_ceil(size).max(begin / size);
    let in_range = present.range(numbers.clone()).count();
    let missing = (numbers.end - numbers.start).saturating_sub(wide(in_range));
    let is_damage = |place: &&LogDir<'_>| {
        missing == 1 && place.dir.starts_with(&paths.root) && !absent.contains(place)
    };
    let first = numbers.find(|number| !present.contains(number));
    match (first, empty.iter().find(|place| !is_damage(place))) {
        (Some(first), Some(place)) => Err(StoreError::NotMounted {
            dir: place.dir.to_owned(),
            missing,
            first: name::of(first * size),
            way_out: if candidates.is_empty() {
                format!(
                    "remove {} to begin an empty log",
                    paths.progress().display()
                )
            } else {
                "take the folder out of storePathCommitLog (readOnlyCommitLogStorePaths) for one start"
                    .to_owned()
            },
        }),
        _ => Ok(()),
    }
}

fn is_missing(disk: &dyn Disk, dir: &Path) -> Result<bool, StoreError> {
    let meta = disk.meta(dir).map_err(StoreError::io("look at", dir))?;
    Ok(meta.is_none())
}
