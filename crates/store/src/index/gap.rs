//! Index files between others that could not be used are made again, in the background, from their part of the log.
//!
//! The new file stands under the old one's name from the beginning, empty: an empty file between others says after a
//! restart that this work is to be done.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::format::index::Header;

use super::file::Active;
use super::{Files, Index, IndexView, KeyReader, is_over};

/// A part of the log whose index file is made again.
#[derive(Debug)]
pub(super) struct Gap {
    at: u64,
    to: u64,
    file: Active,
}

impl Index {
    /// Notes that the file at `path`, which is gone, held the keys of `from..to` and more.
    pub(super) fn open_gap(
        &self,
        files: &mut Files,
        path: &Path,
        (from, to): (u64, u64),
        before: Option<&Header>,
    ) -> io::Result<()> {
        let mut file = Active::create(&*self.disk, path, self.layout, before)?;
        file.sync()?;
        files.gaps.push_back(Gap { at: from, to, file });
        Ok(())
    }

    /// Works on the gaps until the deadline.
    pub(super) fn fill_gaps(
        &self,
        files: &mut Files,
        view: &IndexView<'_>,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        while let Some(mut gap) = files.gaps.pop_front() {
            let done = self.fill_gap(files, &mut gap, view, deadline);
            if !matches!(done, Ok(true)) {
                files.gaps.push_front(gap);
                return done.map(drop);
            }
            if gap.file.header.next > 1 {
                self.close(files, gap.file)?;
            } else {
                self.disk.remove(&gap.file.path)?;
            }
            tracing::info!(to = gap.to, "a part of the log is indexed again");
        }
        Ok(())
    }

    /// Returns false when it stopped before the end.
    fn fill_gap(
        &self,
        files: &mut Files,
        gap: &mut Gap,
        view: &IndexView<'_>,
        deadline: Option<Instant>,
    ) -> io::Result<bool> {
        let mut reader = KeyReader::new(view, gap.at, gap.to);
        // The record at the end is in the next file, but maybe not with all its keys.
        while reader.at <= gap.to && reader.at < view.log.appended.value() {
            if is_over(deadline) {
                return Ok(false);
            }
            for key in reader.next() {
                if gap.file.is_full() {
                    let path = self.next_free(&gap.file.path)?;
                    let before = gap.file.header;
                    let next = Active::create(&*self.disk, &path, self.layout, Some(&before))?;
                    self.close(files, std::mem::replace(&mut gap.file, next))?;
                }
                gap.file.put(&key)?;
            }
            gap.at = reader.at;
        }
        Ok(true)
    }

    /// Puts a finished file between the others.
    fn close(&self, files: &mut Files, mut file: Active) -> io::Result<()> {
        file.sync()?;
        let sealed = Arc::new(file.into_sealed());
        let at = files
            .sealed
            .partition_point(|present| present.path < sealed.path);
        files.sealed.insert(at, sealed);
        Ok(())
    }

    /// The next name behind `path` that is free.
    fn next_free(&self, path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().and_then(|name| name.to_str());
        let mut number: u64 = name.and_then(|name| name.parse().ok()).unwrap_or(0);
        loop {
            number += 1;
            let path = path.with_file_name(format!("{number:017}"));
            if self.disk.meta(&path)?.is_none() {
                return Ok(path);
            }
        }
    }
}
