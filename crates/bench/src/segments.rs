//! Where `null --write` writes: preallocated files of one size, one after the other, filled by positional writes.
//!
//! The next file is made while the present one fills, on a thread of its own, and old ones are removed: a real log
//! takes fresh pages all the time, and a run must not fill the disk.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FallocateFlags, fallocate};

/// Files kept: the present one, the one before, and one made ahead.
const KEPT: usize = 2;

/// A log that nobody reads.
pub(crate) struct Segments {
    current: File,
    position: u64,
    size: u64,
    next: Receiver<Result<(PathBuf, File)>>,
    written: VecDeque<PathBuf>,
    /// Bytes in all segments so far.
    pub(crate) total: u64,
}

impl Segments {
    /// Opens a new log of segments of `size` bytes in an existing folder.
    pub(crate) fn open(folder: &Path, size: u64) -> Result<Segments> {
        let folder = folder.to_owned();
        let (ready, next) = sync_channel(1);
        // Ends when the receiver is gone: a send then fails.
        std::thread::Builder::new()
            .name("segments".into())
            .spawn(move || {
                for number in 0_u64.. {
                    let made = make(&folder, number, size);
                    let failed = made.is_err();
                    if let Err(unsent) = ready.send(made) {
                        if let Ok((path, _)) = unsent.0 {
                            discard(&path);
                        }
                        return;
                    }
                    if failed {
                        return;
                    }
                }
            })?;
        let (path, current) = next.recv().context("no segment")??;
        Ok(Segments {
            current,
            position: 0,
            size,
            next,
            written: VecDeque::from([path]),
            total: 0,
        })
    }

    /// Writes at the end, with one call.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as u64;
        if self.size < length {
            bail!(
                "{length} bytes at once do not fit a segment of {}",
                self.size
            );
        }
        if self.size < self.position + length {
            self.roll()?;
        }
        self.current
            .write_all_at(bytes, self.position)
            .context("write to a segment")?;
        self.position += length;
        self.total += length;
        Ok(())
    }

    fn roll(&mut self) -> Result<()> {
        let (path, next) = self.next.recv().context("no further segment")??;
        self.current = next;
        self.position = 0;
        self.written.push_back(path);
        while KEPT < self.written.len() {
            if let Some(old) = self.written.pop_front() {
                discard(&old);
            }
        }
        Ok(())
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.written.iter().for_each(|path| discard(path));
    }
}

fn make(folder: &Path, number: u64, size: u64) -> Result<(PathBuf, File)> {
    let path = folder.join(format!("mqbench-null.{number:06}"));
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .with_context(|| format!("create {}", path.display()))?;
    fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(size)?)
        .with_context(|| format!("reserve {size} bytes for {}", path.display()))?;
    Ok((path, file))
}

/// A file that cannot be removed is left for the operator; the run goes on.
fn discard(path: &Path) {
    let _ = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_roll_keep_what_was_written_and_remove_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = Segments::open(folder.path(), 4_096).unwrap();
        for turn in 0..9_u8 {
            segments.append(&[turn; 3_000]).unwrap();
        }
        assert_eq!(segments.total, 27_000);
        let last = std::fs::read(segments.written.back().unwrap()).unwrap();
        assert_eq!((last.len(), last[2_999], last[3_000]), (4_096, 8, 0));
        assert_eq!(segments.written.len(), KEPT);
        assert!(segments.append(&[0; 4_097]).is_err());
        let kept = segments.written.clone();
        drop(segments);
        assert!(kept.iter().all(|path| !path.exists()));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Segments::open(Path::new("/nowhere/at/all"), 4_096)
            .err()
            .unwrap();
        assert!(
            format!("{error:#}").contains("/nowhere/at/all/mqbench-null.000000"),
            "{error:#}"
        );
    }
}
