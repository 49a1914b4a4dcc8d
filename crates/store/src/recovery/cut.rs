//! Taking away the end of a log that another log does not have: a slave's, when its master lost or never had it.
//!
//! Nothing is dropped silently: whole segments and the rest of one go to the quarantine before the log ends earlier. A
//! crash half way leaves a log with an end that differs from the other one still, or with damage that recovery names; who
//! asked for the cut will find it out and ask again.

use gantry_message::{LogOffset, Millis};

use super::{Recovery, Start, Tail};
use crate::chain::Chain;
use crate::error::StoreError;

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
        for segment in chain.remove_from(at).iter().rev() {
            let path = segment.path();
            self.paths
                .set_aside(&**self.disk, self.counters, path, &cut.why)
                .map_err(StoreError::io("set aside", path))?;
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

    /// Nothing of the log stays, so nothing that was made of it does.
    fn forget_all(&self, start: &mut Start, why: &str) -> Result<(), StoreError> {
        for path in [self.paths.index(), self.paths.progress()] {
            if self.meta(&path)?.is_some() {
                self.paths
                    .set_aside(&**self.disk, self.counters, &path, why)
                    .map_err(StoreError::io("set aside", &path))?;
            }
        }
        (start.at, start.mark, start.tail) = (0, None, Tail::Unknown);
        start.queues_trusted = false;
        Ok(())
    }
}
