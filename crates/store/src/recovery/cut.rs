//! Taking away the end of a log that another log does not have: a slave's, when its master lost or never had it.
//!
//! Nothing is dropped silently: whole segments and the rest of one go to the quarantine before the log ends earlier. A
//! crash half way leaves a log with an end that differs from the other one still, or with damage that recovery names; who
//! asked for the cut will find it out and ask again.

use std::path::{Path, PathBuf};

use gantry_message::{LogOffset, Millis};

use super::{Recovery, Start, Tail};
use crate::chain::Chain;
use crate::error::StoreError;
use crate::format::progress::Progress;

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
        gantry_disk::replace::file(&**self.disk, &path, &noted.encode())
            .map_err(StoreError::io("write", &path))
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
