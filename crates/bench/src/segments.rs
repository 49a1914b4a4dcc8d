//! Where `null --write` writes: preallocated files of one size, one after the other, filled by positional writes.
//!
//! The next file is made while the present one fills, and old ones are given back, on a thread of its own: a real log
//! takes fresh pages all the time, and a run must not fill the disk. The files have no names, so that nothing is left
//! however the program ends.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FallocateFlags, fallocate};

/// Full files that are kept; one more is being filled and one is made ahead.
const KEPT: usize = 1;

/// A log that nobody reads.
pub(crate) struct Segments {
    current: File,
    position: u64,
    size: u64,
    next: Receiver<Result<File>>,
    full: VecDeque<File>,
    /// Giving back a file takes long: its pages are still in memory. That is done by the thread that makes them.
    given_back: Sender<File>,
    /// Bytes in all segments so far.
    pub(crate) total: u64,
}

impl Segments {
    /// Opens a new log of segments of `size` bytes in an existing folder.
    pub(crate) fn open(folder: &Path, size: u64) -> Result<Segments> {
        // No room in between: exactly one file is made ahead.
        let (ready, next) = sync_channel(0);
        let (given_back, old) = channel();
        let folder = folder.to_owned();
        // Ends when the receiver is gone.
        std::thread::Builder::new()
            .name("segments".into())
            .spawn(move || supply(&folder, size, &ready, &old))?;
        let current = next.recv().context("no segment")??;
        Ok(Segments {
            current,
            position: 0,
            size,
            next,
            full: VecDeque::new(),
            given_back,
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
        let next = self.next.recv().context("no further segment")??;
        self.full
            .push_back(std::mem::replace(&mut self.current, next));
        self.position = 0;
        while KEPT < self.full.len() {
            if let Some(old) = self.full.pop_front() {
                // A thread that has ended will say so at the next roll.
                let _ = self.given_back.send(old);
            }
        }
        Ok(())
    }
}

fn supply(folder: &Path, size: u64, ready: &SyncSender<Result<File>>, old: &Receiver<File>) {
    for number in 0_u64.. {
        let made = make(
            &folder.join(format!("mqbench-null.{}.{number}", std::process::id())),
            size,
        );
        let failed = made.is_err();
        if ready.send(made).is_err() || failed {
            return;
        }
        old.try_iter().for_each(drop);
    }
}

/// A file with reserved space and without a name.
pub(crate) fn make(path: &Path, size: u64) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    std::fs::remove_file(path).with_context(|| format!("remove the name {}", path.display()))?;
    fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(size)?)
        .with_context(|| format!("reserve {size} bytes in {}", path.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_roll_and_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = Segments::open(folder.path(), 4_096).unwrap();
        for turn in 0..9_u8 {
            segments.append(&[turn; 3_000]).unwrap();
        }
        assert_eq!((segments.total, segments.position), (27_000, 3_000));
        let mut last = [9; 4_096];
        segments.current.read_exact_at(&mut last, 0).unwrap();
        assert_eq!((last[0], last[2_999], last[3_000]), (8, 8, 0));
        segments.full[0].read_exact_at(&mut last, 0).unwrap();
        assert_eq!(last[0], 7);
        assert_eq!(segments.full.len(), KEPT);
        assert!(segments.append(&[0; 4_097]).is_err());
        drop(segments);
        // The one being made at this moment has a name for the length of two calls.
        while std::fs::read_dir(folder.path()).unwrap().count() != 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Segments::open(Path::new("/nowhere/at/all"), 4_096)
            .err()
            .unwrap();
        assert!(
            format!("{error:#}").starts_with("create /nowhere/at/all/mqbench-null."),
            "{error:#}"
        );
    }
}
