//! The small files beside log, queues and index: the two checkpoints, `abort`, `lock`; and what they let one expect.

use std::io;
use std::path::Path;

use gantry_message::Millis;
use gantry_store::format::checkpoint::{self, Checkpoint};
use gantry_store::format::deletions::Deletions;
use gantry_store::format::progress::{Mark, Progress};
use gantry_store::offline::{Cursor, Step};

use super::log::LogCheck;
use crate::log::{Log, wide};
use crate::report::{Class, Finding, Findings};
use crate::target::{DoctorError, Target};

/// How the store was stopped, and what was noted of how far everything was.
#[derive(Debug)]
pub(crate) struct Stop {
    /// There is no `abort`.
    pub(crate) is_clean: bool,
    pub(crate) progress: Option<Progress>,
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Queues that were deleted while their messages are still in the log.
    pub(crate) deletions: Deletions,
    /// The page cache that was written to still lives.
    is_same_boot: bool,
}

impl Stop {
    pub(crate) fn read(target: &Target, findings: &mut Findings) -> Result<Self, DoctorError> {
        let root = &target.root;
        let abort = root.join("abort");
        let meta = target
            .meta(&abort)
            .map_err(DoctorError::io("look at", &abort))?;
        if let Some(meta) = &meta {
            findings.file(Class::Marks, meta.len);
            let reason = "the store was not stopped cleanly, the next start recovers it";
            findings.add(Finding::note(Class::Marks, "abort", &abort, reason));
        }
        let lock = root.join("lock");
        if let Some(meta) = target
            .meta(&lock)
            .map_err(DoctorError::io("look at", &lock))?
        {
            findings.file(Class::Marks, meta.len);
        }
        let checkpoint = checkpoint_of(target, &root.join("checkpoint"), findings);
        let path = root.join("gantry.checkpoint");
        let progress = small(target, &path, findings).and_then(|bytes| {
            let progress = Progress::decode(&bytes);
            if progress.is_none() {
                let reason = "cut off or changed: its checksum is not right";
                findings.add(
                    Finding::fault(Class::Checkpoint, "progress-damaged", &path, reason).at(0),
                );
            } else {
                findings.class(Class::Checkpoint).records += 1;
            }
            progress
        });
        let path = root.join("gantry.deleted");
        let deletions = small(target, &path, findings).and_then(|bytes| {
            let deletions = Deletions::decode(&bytes);
            if deletions.is_none() {
                let reason = "cut off or changed: its checksum is not right";
                let finding = Finding::fault(Class::Checkpoint, "deletions-damaged", &path, reason);
                findings.add(finding.at(0));
            }
            deletions
        });
        let is_same_boot = progress.as_ref().is_some_and(|progress| {
            target
                .boot()
                .is_some_and(|boot| !boot.is_empty() && boot == progress.boot)
        });
        Ok(Self {
            is_clean: meta.is_none(),
            progress,
            checkpoint,
            deletions: deletions.unwrap_or_default(),
            is_same_boot,
        })
    }

    /// Everything that Gantry stored was noted when it stopped.
    fn is_noted(&self) -> bool {
        self.is_clean && self.progress.as_ref().is_some_and(|noted| noted.clean)
    }

    /// Where the log surely ends, when zeros stand there.
    pub(crate) fn log_ends_at(&self) -> Option<u64> {
        let noted = self.progress.as_ref().filter(|_| self.is_noted());
        noted.map(|noted| noted.written.end)
    }

    /// Up to where the log must be there.
    pub(crate) fn log_noted_to(&self) -> u64 {
        let Some(progress) = &self.progress else {
            return 0;
        };
        let survives = self.is_noted() || self.is_same_boot;
        let written = if survives { progress.written.end } else { 0 };
        progress.flushed.max(written)
    }

    /// Whether the queue entry of a message must be in its file; else the next start adds it.
    pub(crate) fn must_be_queued(&self, at: u64, time: Millis) -> bool {
        if self.is_clean {
            return true;
        }
        match &self.progress {
            Some(progress) if self.is_same_boot => {
                at < progress.written.end.max(progress.synced.end)
            }
            Some(progress) => at < progress.synced.end,
            None => self
                .checkpoint
                .is_some_and(|checkpoint| time < checkpoint.trusted_until()),
        }
    }

    /// Up to where the index must have every key, if that is noted.
    pub(crate) fn indexed_to(&self) -> Option<u64> {
        let is_noted = |noted: &&Progress| !noted.index_file.is_empty() || noted.index_offset > 0;
        let noted = self.progress.as_ref().filter(is_noted);
        noted.map(|noted| noted.index_offset)
    }

    /// What the ends of all queues add up to, if that was noted of the queues as they must be now.
    pub(crate) fn noted_entries(&self, log_end: u64) -> Option<u64> {
        let noted = self.progress.as_ref().filter(|_| self.is_noted())?;
        (noted.written.end == log_end).then_some(noted.written.entries)
    }

    /// Compares the checkpoints with what is there.
    pub(crate) fn check(
        &self,
        target: &Target,
        log: &Log,
        of_log: &LogCheck<'_>,
        entries: u64,
        findings: &mut Findings,
    ) {
        let root = &target.root;
        if self.checkpoint.is_none() && self.is_clean && of_log.last_time().is_some() {
            let text = "missing: the store was stopped cleanly and has messages";
            let path = root.join("checkpoint");
            findings.add(Finding::fault(
                Class::Checkpoint,
                "checkpoint-missing",
                &path,
                text,
            ));
        }
        if let Some(checkpoint) = self.checkpoint {
            check_times(
                &root.join("checkpoint"),
                &checkpoint,
                of_log.last_time(),
                findings,
            );
        }
        let Some(progress) = &self.progress else {
            return;
        };
        let path = root.join("gantry.checkpoint");
        let messages = of_log.summary(0).messages;
        for (name, mark) in [("written", &progress.written), ("synced", &progress.synced)] {
            let is_expired = mark.end <= log.chain.min();
            if !is_expired && !ends_at(log, mark) {
                let text = format!(
                    "its line {name} speaks of a record from {} to {}, which is not in this log",
                    mark.record, mark.end
                );
                // Of a log that is shorter than noted, the log's own finding tells more.
                let finding =
                    Finding::fault(Class::Checkpoint, "progress-other-log", &path, text).at(0);
                findings.add(finding);
            }
        }
        let noted = progress.written.entries;
        let is_current = self.is_noted() && messages > 0 && {
            let mut cursor = Cursor::new(&log.chain, false);
            !matches!(
                cursor.step(progress.written.end),
                Step::Record(_) | Step::Next(_)
            )
        };
        if is_current && noted != entries {
            let text = format!(
                "it says that the ends of all queues add up to {noted}, they add up to {entries}: queue files are \
                 missing or damaged"
            );
            findings.add(Finding::fault(Class::Checkpoint, "progress-entries", &path, text).at(0));
        }
    }
}

/// Whether the record that a mark names is there and the mark stands behind it, or behind the blank record there.
fn ends_at(log: &Log, mark: &Mark) -> bool {
    let mut cursor = Cursor::new(&log.chain, false);
    let end = match cursor.step(mark.record) {
        Step::Record(view) if view.store_time() == mark.time => {
            mark.record.saturating_add(wide(view.len()))
        }
        _ => return false,
    };
    end == mark.end || matches!(cursor.step(end), Step::Next(next) if next == mark.end)
}

fn checkpoint_of(target: &Target, path: &Path, findings: &mut Findings) -> Option<Checkpoint> {
    let bytes = small(target, path, findings)?;
    if bytes.len() != checkpoint::LEN {
        let text = format!("{} bytes long instead of {}", bytes.len(), checkpoint::LEN);
        let at = wide(bytes.len().min(checkpoint::LEN));
        findings.add(Finding::fault(Class::Checkpoint, "checkpoint-length", path, text).at(at));
    }
    findings.class(Class::Checkpoint).records += 1;
    Some(Checkpoint::decode(&bytes))
}

/// Store times that no message of the log has.
fn check_times(
    path: &Path,
    checkpoint: &Checkpoint,
    newest: Option<Millis>,
    findings: &mut Findings,
) {
    let Some(newest) = newest else { return };
    let fields = [
        (0, "log", checkpoint.log),
        (8, "queues", checkpoint.queues),
        (16, "index", checkpoint.index),
    ];
    // The index knows whole seconds of some times.
    let limit = newest.plus(1000);
    for (at, name, time) in fields {
        if time < Millis(0) || time > limit {
            let text = format!(
                "its time of the {name} is {time}, the newest message was stored at {newest}"
            );
            findings.add(Finding::fault(Class::Checkpoint, "checkpoint-time", path, text).at(at));
        }
    }
}

/// A small file that is read as a whole; `None` when there is none or it cannot be read, which is said.
pub(crate) fn small(target: &Target, path: &Path, findings: &mut Findings) -> Option<Vec<u8>> {
    match target.read(path) {
        Ok(Some(bytes)) => {
            findings.file(Class::Checkpoint, wide(bytes.len()));
            Some(bytes)
        }
        Ok(None) => None,
        Err(error) => {
            findings.refused(Class::Checkpoint, path, &error);
            None
        }
    }
}

/// Counts what was set aside.
pub(crate) fn quarantine(target: &Target, findings: &mut Findings) -> Result<(), DoctorError> {
    let dir = target.root.join("quarantine");
    let listed = target.list(&dir).map_err(DoctorError::io("list", &dir))?;
    if !listed.is_empty() {
        let text = format!(
            "{} files or directories that recovery or a repair has set aside",
            listed.len()
        );
        findings.add(Finding::note(Class::Quarantine, "quarantine", &dir, text));
    }
    for one in listed {
        findings.file(Class::Quarantine, if one.is_dir { 0 } else { one.len });
    }
    Ok(())
}

/// Whether an error says that a name stands for nothing.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
