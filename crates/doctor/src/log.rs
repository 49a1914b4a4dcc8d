//! The log as its files tell it: which segments there are, and a walk over all records, past damage.
//!
//! One window of the log is in memory at a time. Who is visited decides what damage means; here it is only told apart
//! from the log's end, with the rules that recovery has.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_message::{Millis, RecordView};
use gantry_store::StoreConfig;
use gantry_store::format::{blank, name};
use gantry_store::offline::{Candidate, Chain, Cursor, Reason, Segment, Step, segment_size};

use crate::report::{Class, Finding, Findings};
use crate::target::{DoctorError, Target};

/// The files of the log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) segment_size: u64,
    pub(crate) chain: Chain,
    /// Whether any file has that size: otherwise nobody knows it.
    pub(crate) is_size_sure: bool,
    /// Where the files of segments end that are too short.
    pub(crate) cut_at: Vec<u64>,
}

impl Log {
    /// Finds the segments; says what is wrong with their names and lengths.
    pub(crate) fn find(target: &Target, findings: &mut Findings) -> Result<Self, DoctorError> {
        let mut candidates = Vec::new();
        let shape = &target.shape;
        for dir in shape.log_dirs.iter().chain(&shape.read_only_log_dirs) {
            let listed = target.list(dir).map_err(DoctorError::io("list", dir))?;
            for one in listed {
                match name::parse(&one.name).filter(|_| !one.is_dir) {
                    Some(start) => candidates.push(Candidate {
                        dir,
                        start,
                        len: one.len,
                    }),
                    None => findings.add(Finding::note(
                        Class::Commitlog,
                        "stray",
                        &dir.join(&one.name),
                        "not a log segment; Gantry leaves it alone, Apache's broker does not start with it",
                    )),
                }
            }
        }
        candidates.sort_by_key(|one| (one.start, one.dir));
        let configured = shape.segment_size;
        let configured = configured.unwrap_or_else(|| StoreConfig::default().segment_size);
        let segment_size = segment_size(target.disk(), &candidates, configured.max(1));
        let is_sure = candidates.is_empty() || candidates.iter().any(|one| one.len == segment_size);
        let segments = segments(target, findings, &candidates, segment_size);
        let is_short = |one: &&Candidate<'_>| one.len < segment_size;
        let cut = candidates.iter().filter(is_short);
        Ok(Self {
            segment_size,
            is_size_sure: is_sure,
            chain: Chain::new(segments),
            cut_at: cut.map(|one| one.start.saturating_add(one.len)).collect(),
        })
    }

    /// The file that holds an offset, and where in it; the directory when no file does.
    pub(crate) fn place(&self, target: &Target, at: u64) -> (PathBuf, u64) {
        match self.chain.find(at) {
            Some(segment) => (segment.path().to_path_buf(), at - segment.start()),
            None => {
                let dir = target.shape.log_dirs.first().unwrap_or(&target.root);
                let start = at - at % self.segment_size.max(1);
                (dir.join(name::of(start)), at - start)
            }
        }
    }

    /// Where the last segment ends.
    pub(crate) fn files_end(&self) -> u64 {
        let last = self.chain.all().last().cloned();
        last.map_or(0, |last| last.end())
    }
}

/// The segments that can be read, as a chain.
fn segments(
    target: &Target,
    findings: &mut Findings,
    candidates: &[Candidate<'_>],
    size: u64,
) -> Vec<Arc<Segment>> {
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    let last = candidates.last().map_or(0, |last| last.start);
    for candidate in candidates {
        let path = path_of(candidate);
        findings.file(Class::Commitlog, candidate.len);
        let fault = |code, reason: String| Finding::fault(Class::Commitlog, code, &path, reason);
        let is_twin = segments
            .last()
            .is_some_and(|before| before.end() > candidate.start);
        if is_twin || !candidate.start.is_multiple_of(size) {
            let reason = format!("its name is not where a segment of {size} bytes starts");
            findings.add(fault("segment-name", reason));
            continue;
        }
        if candidate.len == 0 && candidate.start == last && !segments.is_empty() {
            let reason = "empty: made and never filled; the next start removes it";
            findings.add(Finding::note(
                Class::Commitlog,
                "segment-empty",
                &path,
                reason,
            ));
            continue;
        }
        if candidate.len != size {
            let (len, from) = (candidate.len, candidate.len.min(size));
            let reason = format!("{len} bytes long, segments of this log have {size}");
            findings.add(fault("segment-length", reason).at(from));
        }
        match Segment::open_for_reading(target.disk(), candidate.dir, candidate.start, size) {
            Ok(segment) => segments.push(Arc::new(segment)),
            Err(error) => findings.refused(Class::Commitlog, &path, &error),
        }
    }
    segments
}

fn path_of(candidate: &Candidate<'_>) -> PathBuf {
    candidate.dir.join(name::of(candidate.start))
}

/// What a walk comes by.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    /// A whole record at its own place.
    Record(RecordView<'a>),
    /// The segment ends here; the blank record, if there is room for one, says so many bytes remain.
    Closed { at: u64, remaining: Option<u32> },
    /// Nothing that can be read from here to there, where the next record stands.
    Damaged { from: u64, to: u64, reason: Reason },
    /// No segments from here to there.
    Missing { from: u64, to: u64 },
}

/// Where a walk came to its end.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) at: u64,
    /// What stands there; `None`: no segment, or the visitor had enough.
    pub(crate) reason: Option<Reason>,
}

/// So much is left out at once where the disk does not give the bytes.
const UNREADABLE_STEP: u64 = 64 << 10;

/// Walks over the log from `from` on. `ends_at`: where the log is known to end, if zeros stand there.
pub(crate) fn walk(
    chain: &Chain,
    from: u64,
    ends_at: Option<u64>,
    visit: &mut dyn FnMut(Item<'_>) -> Result<ControlFlow<()>, DoctorError>,
) -> Result<End, DoctorError> {
    let mut cursor = Cursor::new(chain, true);
    let mut at = first_from(chain, &mut cursor, from.max(chain.min()));
    let mut last_time = Millis(i64::MIN);
    loop {
        let (item, next) = match cursor.step(at) {
            Step::Record(view) => {
                last_time = view.store_time();
                let next = at.saturating_add(wide(view.len()));
                (Item::Record(view), next)
            }
            Step::End => return Ok(End { at, reason: None }),
            Step::Next(next) => match chain.find(at) {
                Some(segment) => {
                    let remaining = blank_at(&segment, at);
                    (Item::Closed { at, remaining }, segment.end())
                }
                None => (Item::Missing { from: at, to: next }, next),
            },
            Step::Unreadable(reason) => {
                let is_end = ends_at == Some(at) && reason == Reason::Zeros;
                let found = if is_end {
                    None
                } else {
                    record_behind(chain, at, last_time)
                };
                let Some(to) = found else {
                    let reason = Some(reason);
                    return Ok(End { at, reason });
                };
                (
                    Item::Damaged {
                        from: at,
                        to,
                        reason,
                    },
                    to,
                )
            }
        };
        if visit(item)?.is_break() {
            return Ok(End {
                at: next,
                reason: None,
            });
        }
        at = next;
    }
}

/// The place itself when something can be read there, else the first record behind it in its segment.
fn first_from(chain: &Chain, cursor: &mut Cursor<'_>, from: u64) -> u64 {
    let is_inside = matches!(cursor.step(from), Step::Unreadable(_));
    let Some(segment) = chain.find(from).filter(|_| is_inside) else {
        return from;
    };
    if segment.start() == from {
        return from;
    }
    // What cannot be searched is damage, and the walk will come by it.
    let found = cursor.search(&segment, from).ok().flatten();
    found.unwrap_or(from)
}

/// The next record behind an unreadable place. Where the disk fails, the search goes on behind.
fn record_behind(chain: &Chain, at: u64, last_time: Millis) -> Option<u64> {
    let mut cursor = Cursor::new(chain, true);
    let mut from = at;
    loop {
        match cursor.next_record(from, last_time) {
            Ok(found) => return found,
            Err((path, _)) => {
                let all = chain.all();
                let failed = all.iter().find(|segment| *segment.path() == path)?;
                let next = (from.max(failed.start()) / UNREADABLE_STEP + 1) * UNREADABLE_STEP;
                // The cursor leaves room for a filler record between the two places.
                from = next.min(failed.end());
            }
        }
    }
}

fn blank_at(segment: &Segment, at: u64) -> Option<u32> {
    let mut head = [0; 8];
    match segment.read(&mut head, at) {
        Ok(8) => blank::remaining(&head),
        // Less than a blank record, or what the disk does not give twice: the cursor has seen it.
        _ => None,
    }
}

/// A length in memory as a length on disk.
pub(crate) fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A length on disk as a length in memory.
pub(crate) fn narrow(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// A path as the record's topic and queue make it.
pub(crate) fn queue_dir(root: &Path, topic: &str, id: u32) -> PathBuf {
    root.join("consumequeue").join(topic).join(id.to_string())
}
