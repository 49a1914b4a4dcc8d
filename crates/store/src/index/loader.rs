//! What of the index files can be trusted when the store is opened, and from where the log has to be read.
//!
//! Nothing here reads more of a file than its header, a few entries and, after a crash, the slots of the newest one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cursor::{Cursor, Step};
use crate::width::wide;

use super::file::Sealed;
use super::{Durable, Files, Index, IndexView, State, note};

impl Index {
    /// Finds the files and what of them can be trusted.
    pub(super) fn load(&self, state: &mut State, view: &IndexView<'_>) -> io::Result<()> {
        if state.files.is_some() {
            return Ok(());
        }
        let dir = self.paths.index();
        gantry_disk::dirs::make(&*self.disk, &dir)?;
        let mut files = Files::default();
        for (path, len) in self.candidates(&dir)? {
            let file = Sealed::open(&*self.disk, &path, &self.layout.likely(len), self.layout)?;
            files.sealed.push(Arc::new(file));
        }
        let durable = state.durable.clone();
        let go_on = if durable.is_noted {
            self.go_by_note(&durable, &mut files)?
        } else {
            self.go_by_apache(&durable, &mut files)?
        };
        let go_on = go_on.min(self.leave_out_damaged(&mut files, view)?);
        let goes_on = |last: &Arc<Sealed>| !last.is_full() && last.layout == self.layout;
        if files.active.is_none()
            && files.sealed.last().is_some_and(goes_on)
            && let Some(last) = files.sealed.pop()
        {
            files.active = Arc::into_inner(last).map(Sealed::into_active);
        }
        let at = self.record_at_or_after(view, go_on.max(view.log.chain.min()));
        self.indexed_to
            .store(at, std::sync::atomic::Ordering::Relaxed);
        files.leaving_until = view.log.appended.value();
        let (file, header) = files.newest();
        note(
            state,
            view,
            Durable::noted(file, &header, at),
            header.end_time,
        );
        state.files = Some(files);
        Ok(())
    }

    /// Every file that is named like an index file, and its length, oldest first.
    fn candidates(&self, dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut found = Vec::new();
        for one in self.disk.list(dir)? {
            let path = dir.join(&one.name);
            let is_named =
                one.name.len() == 17 && one.name.bytes().all(|byte| byte.is_ascii_digit());
            if is_named && !one.is_dir {
                found.push((path, one.len));
            } else {
                tracing::warn!(path = %path.display(), "not an index file, left alone");
            }
        }
        Ok(found)
    }

    /// Sets files aside that are damaged or of unknown sizes, and has those between others made again. Returns from where
    /// the log is to be read because the newest ones are among them.
    fn leave_out_damaged(&self, files: &mut Files, view: &IndexView<'_>) -> io::Result<u64> {
        let all = std::mem::take(&mut files.sealed);
        // The file that is added to is whole, or was made so.
        let behind = files
            .active
            .as_ref()
            .map(|active| active.header.begin_offset);
        let (mut from, mut damaged) = (None, Vec::new());
        let count = all.len();
        for (number, file) in all.into_iter().enumerate() {
            let is_newest = number + 1 == count && files.active.is_none();
            let is_empty = file.header.next <= 1 && file.is_sound;
            if file.is_sound && (is_newest || !is_empty) {
                if !is_empty {
                    self.make_again(files, view, &mut damaged, file.header.begin_offset)?;
                }
                files.sealed.push(file);
            } else {
                from = from.or(Some(Self::end_of(files)));
                damaged.push(file);
            }
        }
        if let Some(to) = behind {
            self.make_again(files, view, &mut damaged, to)?;
        }
        if damaged.is_empty() {
            return Ok(u64::MAX);
        }
        let from = Self::end_of(files);
        for file in damaged {
            self.put_away(view, &file)?;
        }
        Ok(from)
    }

    /// Where the log goes on behind the last file.
    fn end_of(files: &Files) -> u64 {
        files.sealed.last().map_or(0, |last| last.header.end_offset)
    }

    /// Has everything between the last file and `to` made again in place of the damaged ones.
    fn make_again(
        &self,
        files: &mut Files,
        view: &IndexView<'_>,
        damaged: &mut Vec<Arc<Sealed>>,
        to: u64,
    ) -> io::Result<()> {
        let Some(first) = damaged.first().map(|file| file.path.clone()) else {
            return Ok(());
        };
        for file in damaged.drain(..) {
            self.put_away(view, &file)?;
        }
        let from = Self::end_of(files).max(view.log.chain.min());
        if from >= to {
            return Ok(());
        }
        tracing::info!(from, to, "a part of the log is to be indexed again");
        let from = self.record_at_or_after(view, from);
        let before = files.sealed.last().map(|last| last.header);
        self.open_gap(files, &first, (from, to), before.as_ref())
    }

    fn put_away(&self, view: &IndexView<'_>, file: &Sealed) -> io::Result<()> {
        if file.header.next <= 1 {
            // Made and not filled.
            return self.disk.remove(&file.path);
        }
        let why = "not an index file of a known size, or its header does not fit its entries";
        self.paths
            .give_up(&*self.disk, view.counters, &file.path, why)
    }

    /// Our own note says how far the files are right; after a crash, newer files go and slots are put right.
    fn go_by_note(&self, durable: &Durable, files: &mut Files) -> io::Result<u64> {
        let known = files
            .sealed
            .iter()
            .position(|file| file.name() == durable.file);
        let newer_from = match known {
            Some(at) => at + 1,
            // There was no file yet.
            None if durable.file.is_empty() => 0,
            // Another index than the one we knew.
            None => return self.go_by_apache(&Durable::default(), files),
        };
        let is_newest = newer_from == files.sealed.len();
        let is_as_noted = known.is_none_or(|at| files.sealed[at].header.next == durable.next);
        if durable.is_clean {
            // Else Apache went on with it.
            let is_same = is_newest && is_as_noted;
            return if is_same {
                Ok(durable.offset)
            } else {
                self.go_by_apache(&Durable::default(), files)
            };
        }
        for newer in files.sealed.split_off(newer_from) {
            self.disk.remove(&newer.path)?;
        }
        let is_closed = |last: &Arc<Sealed>| last.is_sound && last.is_full();
        if is_as_noted && files.sealed.last().is_none_or(is_closed) {
            return Ok(durable.offset);
        }
        if files.sealed.last().is_some_and(|last| !last.is_whole) {
            // Cut short: it will be left out.
            return Ok(durable.offset);
        }
        if let Some(Ok(last)) = files.sealed.pop().map(Arc::try_unwrap) {
            let mut active = last.into_active();
            active.put_right(durable.next, durable.log_end)?;
            if active.is_full() {
                active.sync()?;
                files.sealed.push(Arc::new(active.into_sealed()));
            } else {
                files.active = Some(active);
            }
        }
        Ok(durable.offset)
    }

    /// After a clean stop the files are right and end where the newest says; after a crash those are removed that end
    /// behind the checkpoint, and built again from where the first of them began. Until that is done they are read.
    fn go_by_apache(&self, durable: &Durable, files: &mut Files) -> io::Result<u64> {
        let mut from = None;
        if let Some(until) = durable.trusted_until {
            let keep = files
                .sealed
                .iter()
                .position(|file| file.header.end_time > until)
                .unwrap_or(files.sealed.len());
            for doubtful in files.sealed.split_off(keep) {
                from = Some(from.unwrap_or(doubtful.header.begin_offset));
                tracing::info!(path = %doubtful.path.display(), "index file is built again");
                self.disk.remove(&doubtful.path)?;
                files.leaving.push(doubtful);
            }
        }
        let behind_last = |last: &Arc<Sealed>| {
            if last.header.next > 1 {
                last.header.end_offset + 1
            } else {
                0
            }
        };
        Ok(from.unwrap_or_else(|| files.sealed.last().map_or(0, behind_last)))
    }

    /// The place itself if a record or the log's end is there, else the one behind the record that starts just before
    /// it (Apache notes the last indexed record, not its end), else the beginning of the segment.
    fn record_at_or_after(&self, view: &IndexView<'_>, at: u64) -> u64 {
        let mut cursor = Cursor::new(&view.log.chain, false);
        if at >= view.log.appended.value() {
            return view.log.appended.value();
        }
        if matches!(cursor.step(at), Step::Record(_) | Step::Next(_)) {
            return at;
        }
        if let Some(before) = at.checked_sub(1)
            && let Step::Record(record) = cursor.step(before)
        {
            return before + wide(record.len());
        }
        view.log
            .chain
            .find(at)
            .map_or(view.log.chain.min(), |segment| segment.start())
    }
}
