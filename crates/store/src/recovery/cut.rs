//! Taking away the end of a log that another log does not have: a slave's, when its master lost or never had it.
//!
//! Nothing is dropped silently: whole segments and the rest of one go to the quarantine before the log ends earlier. A
//! crash half way leaves a log with an end that differs from the other one still, or with damage that recovery names; who
//! asked for the cut will find it out and ask again. Or it leaves one that ends where it should, which nobody asks for
//! again: what else a cut changes has to be found out from what it left.
//!
//! Worked example, a queue that was deleted when the log ended at 4096, and a cut at 2048. The list of deletions gets
//! `cut=2048`, the log loses its end, the queue is made again of what lies below 2048, that is noted, and the list is
//! written without the deletion and without the cut. A start that finds `cut=2048` looks at the log: if a record is still
//! there or behind, the cut is not done and the queue is deleted; if not, it is made again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_disk::{Disk, replace};
use gantry_message::{LogOffset, Millis};

use super::{Recovery, Start, Tail};
use crate::chain::Chain;
use crate::cursor::{Cursor, Step};
use crate::error::StoreError;
use crate::format::deletions::Deletions;
use crate::format::progress::Progress;
use crate::paths::Paths;
use crate::segment::Segment;

/// What to take away from the end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where the log ends afterwards: behind a record, or at its beginning if nothing stays.
    pub from: LogOffset,
    /// Where it ended before.
    pub to: LogOffset,
    /// The last record that stays, and when it was stored; `None`: nothing stays.
    pub last: Option<(LogOffset, Millis)>,
    /// For the line that names what is set aside.
    pub why: String,
}

/// Which queues count as deleted, and what that changes.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) deletions: Deletions,
    /// Some were taken back: queues are to be made again from all of the log.
    pub(crate) any_taken_back: bool,
    /// What is written down speaks of a cut. When recovery is through, these are to be written in its place.
    pub(crate) is_begun: bool,
}

/// What was deleted behind a cut is not deleted, be it one that is asked for or one that a crash interrupted. The former is
/// noted first.
pub(crate) fn deletions_that_count(
    disk: &dyn Disk,
    paths: &Paths,
    segments: &[Arc<Segment>],
    cut: Option<&Cut>,
) -> Result<Counted, StoreError> {
    let mut deletions = super::deletions(disk, paths);
    let begun = deletions.cut.take();
    let done = match begun {
        Some(at) if ends_at(segments, at)? => Some(at),
        _ => None,
    };
    let asked = cut.map(|cut| cut.last.map_or(0, |_| cut.from.0));
    let mut counted = Counted {
        is_begun: begun.is_some(),
        ..Counted::default()
    };
    if let Some(at) = done.into_iter().chain(asked).min() {
        let mut noted = deletions.clone();
        counted.any_taken_back = deletions.take_back_from(at);
        if counted.any_taken_back && asked.is_some() {
            noted.cut = Some(at);
            note_deletions(disk, paths, &noted)?;
            counted.is_begun = true;
        }
    }
    counted.deletions = deletions;
    Ok(counted)
}

/// Writes down which queues are deleted.
pub(crate) fn note_deletions(
    disk: &dyn Disk,
    paths: &Paths,
    deletions: &Deletions,
) -> Result<(), StoreError> {
    let path = paths.deletions();
    replace::file(disk, &path, &deletions.encode()).map_err(StoreError::io("write", &path))
}

/// Whether nothing of the log is left from this place on. A crash in the middle of a cut may have left a hole there, and
/// records behind it.
fn ends_at(segments: &[Arc<Segment>], at: u64) -> Result<bool, StoreError> {
    let chain = Chain::new(segments.to_vec());
    let mut cursor = Cursor::new(&chain, true);
    let at = at.max(chain.min());
    if matches!(cursor.step(at), Step::Record(_) | Step::Next(_)) {
        return Ok(false);
    }
    let next = cursor.next_record(at, Millis(i64::MIN));
    let next = next.map_err(|(path, error)| StoreError::io("read", &path)(error))?;
    Ok(next.is_none())
}

impl Recovery<'_> {
    pub(super) fn cut(
        &self,
        chain: &Chain,
        cut: &Cut,
        start: &mut Start,
    ) -> Result<(), StoreError> {
        let (from, to) = (cut.from.0, cut.to.0);
        tracing::error!(
            from,
            to,
            why = cut.why,
            "the log is cut, its end is kept in the quarantine"
        );
        let at = if cut.last.is_some() {
            from
        } else {
            chain.min()
        };
        // First, for a start in the middle of this must not miss what goes.
        self.note_end(cut)?;
        for segment in chain.remove_from(at).iter().rev() {
            self.move_away(segment.path(), &cut.why)?;
        }
        if cut.last.is_none() {
            return self.forget_all(start, &cut.why);
        }
        if let Some(segment) = chain.find(at) {
            let path = segment.path();
            let kept_to = to.min(segment.end()).max(at);
            let name = format!("commitlog-{at:020}-{kept_to:020}");
            let read = |part: &mut [u8], offset| segment.read(part, at + offset);
            self.paths
                .keep_copy(&**self.disk, &name, kept_to - at, read)
                .map_err(StoreError::io("keep a copy of", path))?;
            segment
                .zero(at..segment.end())
                .and_then(|()| segment.sync())
                .map_err(StoreError::io("zero", path))?;
        }
        start.at = start.at.min(at);
        start.doubted_from = start.doubted_from.min(at);
        (start.mark, start.tail) = (None, Tail::Unknown);
        Ok(())
    }

    /// Sets a file or folder aside, durably.
    fn move_away(&self, path: &Path, why: &str) -> Result<(), StoreError> {
        self.paths
            .set_aside(&**self.disk, self.counters, path, why)
            .map_err(StoreError::io("set aside", path))?;
        let dirs = path.parent().map(PathBuf::from).into_iter();
        for dir in dirs.chain([self.paths.quarantine()]) {
            let synced = self.disk.sync_dir(&dir);
            synced.map_err(StoreError::io("sync", &dir))?;
        }
        Ok(())
    }

    /// Notes that no more than what stays is durable: missing segments would look like a disk that is not there.
    fn note_end(&self, cut: &Cut) -> Result<(), StoreError> {
        let from = cut.last.map_or(0, |_| cut.from.0);
        let path = self.paths.progress();
        let progress = self.read(&path)?;
        let Some(progress) = progress.and_then(|bytes| Progress::decode(&bytes)) else {
            return Ok(());
        };
        let noted = Progress {
            flushed: progress.flushed.min(from),
            ..progress
        };
        replace::file(&**self.disk, &path, &noted.encode()).map_err(StoreError::io("write", &path))
    }

    /// Nothing of the log stays, so nothing that was made of it does.
    fn forget_all(&self, start: &mut Start, why: &str) -> Result<(), StoreError> {
        for path in [self.paths.index(), self.paths.progress()] {
            if self.meta(&path)?.is_some() {
                self.move_away(&path, why)?;
            }
        }
        (start.at, start.mark, start.tail) = (0, None, Tail::Unknown);
        start.queues_trusted = false;
        Ok(())
    }
}
