//! Finds the log's segments on disk and brings their files to one size.
//!
//! Apache refuses to start when a file of the log has another size than configured; we continue with the size the
//! segments have, extend what is too short (its end is read as damage) and set aside what is no segment.

use std::path::Path;
use std::sync::Arc;

use gantry_disk::{Disk, Open};
use gantry_message::record::MAGIC;

use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::figures::Counters;
use crate::format::{blank, name};
use crate::paths::Paths;
use crate::segment::Segment;
use crate::width::narrow;

/// A file that is named like a segment.
struct Candidate<'a> {
    dir: &'a Path,
    start: u64,
    len: u64,
}

/// The segments, sorted, and their size.
pub(crate) fn load(
    disk: &dyn Disk,
    config: &StoreConfig,
    paths: &Paths,
    counters: &Counters,
) -> Result<(u64, Vec<Arc<Segment>>), StoreError> {
    let mut candidates = Vec::new();
    for dir in config
        .commit_log_paths
        .iter()
        .chain(&config.read_only_commit_log_paths)
    {
        disk.create_dirs(dir)
            .map_err(StoreError::io("create", dir))?;
        for one in disk.list(dir).map_err(StoreError::io("list", dir))? {
            match name::parse(&one.name).filter(|_| !one.is_dir) {
                Some(start) => candidates.push(Candidate {
                    dir,
                    start,
                    len: one.len,
                }),
                None => {
                    tracing::warn!(dir = %dir.display(), name = one.name, "not a log segment, left alone")
                }
            }
        }
    }
    candidates.sort_by_key(|candidate| candidate.start);
    let size = size_of(disk, &candidates, config.segment_size);
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
            let aside = paths.set_aside(
                disk,
                counters,
                &path,
                "its name is not where a segment starts",
            );
            aside.map_err(StoreError::io("set aside", &path))?;
        } else if candidate.len == 0 && candidate.start == last {
            // Made and never filled: what a crash leaves of a new segment.
            disk.remove(&path)
                .map_err(StoreError::io("remove", &path))?;
        } else {
            fit(disk, paths, &path, candidate.len, size)?;
            let segment = Segment::open(disk, candidate.dir, candidate.start, size);
            segments.push(Arc::new(segment.map_err(StoreError::io("open", &path))?));
        }
    }
    Ok((size, segments))
}

/// The configured size when any file has it, else the size that the most files with records have and that fits all
/// names. A file alone has a say only with whole pages: otherwise it was cut.
fn size_of(disk: &dyn Disk, candidates: &[Candidate<'_>], configured: u64) -> u64 {
    if candidates.is_empty() || candidates.iter().any(|one| one.len == configured) {
        return configured;
    }
    let sizes = StoreConfig::SEGMENT_SIZE_MIN..=StoreConfig::SEGMENT_SIZE_MAX;
    let fits = |size: u64| {
        sizes.contains(&size) && candidates.iter().all(|one| one.start.is_multiple_of(size))
    };
    let with_records = candidates.iter().filter(|one| one.has_record(disk));
    let voters: Vec<u64> = with_records.map(|one| one.len).collect();
    let votes = |size: u64| voters.iter().filter(|&&len| len == size).count();
    let is_whole = |len: u64| len.is_multiple_of(PAGE) || votes(len) > 1;
    let lens = voters.iter().copied();
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
        let copy_to = paths
            .free_quarantine(disk, &name)
            .map_err(fail("set aside the end of"))?;
        let copy = disk
            .open(&copy_to, Open::Create)
            .map_err(fail("set aside the end of"))?;
        let mut buffer = vec![0; 1 << 20];
        let mut at = size;
        while at < len {
            let step = narrow((len - at).min(1 << 20));
            let read = file
                .read_at(&mut buffer[..step], at)
                .map_err(fail("read"))?;
            copy.write_at(&buffer[..read], at - size)
                .map_err(fail("set aside the end of"))?;
            at += crate::width::wide(step);
        }
    }
    file.set_len(size).map_err(fail("change the size of"))
}
