//! One file of the log: a fixed size from creation to removal, written by position, read by position or as slices.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use gantry_disk::{Advice, Disk, File, New, Open};
use gantry_message::record;

use crate::format::name;
use crate::width::wide;

/// One file of the log.
#[derive(Debug)]
pub struct Segment {
    start: u64,
    len: u64,
    path: Arc<Path>,
    file: Arc<dyn File>,
    /// The file system lets nobody write to it.
    is_read_only: bool,
}

impl Segment {
    /// Opens an existing file of `len` bytes.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, start: u64, len: u64) -> io::Result<Self> {
        let path: PathBuf = dir.join(name::of(start));
        let file = disk.open(&path, Open::Write)?;
        Ok(Self {
            start,
            len,
            path: path.into(),
            file,
            is_read_only: false,
        })
    }

    /// Opens an existing file for reading only; it counts as `len` bytes long, whatever it has.
    pub fn open_for_reading(disk: &dyn Disk, dir: &Path, start: u64, len: u64) -> io::Result<Self> {
        let path: PathBuf = dir.join(name::of(start));
        let file = disk.open(&path, Open::Read)?;
        Ok(Self {
            start,
            len,
            path: path.into(),
            file,
            is_read_only: true,
        })
    }

    /// Opens an existing file that is not to be added to; where it cannot be written, for reading only.
    pub(crate) fn open_old(disk: &dyn Disk, dir: &Path, start: u64, len: u64) -> io::Result<Self> {
        match Self::open(disk, dir, start, len) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                Self::open_for_reading(disk, dir, start, len)
            }
            other => other,
        }
    }

    /// Makes the file with its full size and nothing reserved.
    pub(crate) fn create_sparse(
        disk: &dyn Disk,
        dir: &Path,
        start: u64,
        len: u64,
    ) -> io::Result<Self> {
        let path: PathBuf = dir.join(name::of(start));
        let new = New {
            len,
            ..New::default()
        };
        let file = disk.create(&path, new)?;
        disk.sync_dir(dir)?;
        Ok(Self {
            start,
            len,
            path: path.into(),
            file,
            is_read_only: false,
        })
    }

    /// Makes the file with its full size reserved, and durable in its directory. After an error nothing is left of it.
    pub(crate) fn create(disk: &dyn Disk, dir: &Path, start: u64, len: u64) -> io::Result<Self> {
        let path: PathBuf = dir.join(name::of(start));
        let new = New {
            len,
            is_reserved: true,
            ..New::default()
        };
        let file = disk.create(&path, new)?;
        let made = file.sync().and_then(|()| disk.sync_dir(dir));
        if let Err(error) = made {
            // The first error is the one to report; a file that stays is set aside at the next start.
            let _ = disk.remove(&path);
            return Err(error);
        }
        Ok(Self {
            start,
            len,
            path: path.into(),
            file,
            is_read_only: false,
        })
    }

    /// Whether nothing can be written to it.
    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Where it starts.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Where the next segment starts.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    pub(crate) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file
            .write_at(bytes, self.within(at, wide(bytes.len())))
    }

    pub(crate) fn write_parts(&self, parts: &[&[u8]], at: u64) -> io::Result<()> {
        let len = parts.iter().map(|part| wide(part.len())).sum();
        self.file.write_vectored_at(parts, self.within(at, len))
    }

    /// Writes into the record that starts there what its place in its queue is.
    pub(crate) fn put_queue_offset(&self, at: u64, place: u64) -> io::Result<()> {
        self.write(&place.to_be_bytes(), at + wide(record::QUEUE_OFFSET_AT))
    }

    /// The first place of the segment from `at` on where something may have been written.
    pub(crate) fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        let start = self.within(at, 0);
        let found = self.file.next_data(start)?;
        Ok(found
            .map(|found| self.start + found)
            .filter(|&found| found < self.end()))
    }

    /// Makes a range of the log read as zeros.
    pub(crate) fn zero(&self, range: Range<u64>) -> io::Result<()> {
        let start = self.within(range.start, range.end - range.start);
        self.file.zero(start..range.end - self.start)
    }

    /// Reads what there is up to the segment's end.
    pub fn read(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        assert!(
            self.start <= at && at <= self.end(),
            "{at} is not in the segment at {}",
            self.start
        );
        self.file.read_at(into, at - self.start)
    }

    pub(crate) fn slice(&self, at: u64, len: u64) -> io::Result<Bytes> {
        let start = self.within(at, len);
        self.file.slice(start..start + len)
    }

    /// Dead as soon as nobody reads this segment or holds a slice of it.
    pub(crate) fn holders(&self) -> Weak<()> {
        self.file.holders()
    }

    /// [`Segment::read`] of what is in memory; `None` when the disk would have to be waited for.
    pub(crate) fn read_now(&self, into: &mut [u8], at: u64) -> io::Result<Option<usize>> {
        let len = wide(into.len()).min(self.end() - at);
        let start = self.within(at, len);
        self.file
            .read_now(&mut into[..crate::width::narrow(len)], start)
    }

    pub(crate) fn is_in_memory(&self, at: u64, len: u64) -> bool {
        let start = self.within(at, len);
        self.file.is_in_memory(start..start + len)
    }

    /// Lets the system begin to read a range.
    pub(crate) fn prefetch(&self, at: u64, len: u64) {
        let start = self.within(at, len);
        self.file.advise(start..start + len, Advice::WillNeed);
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn within(&self, at: u64, len: u64) -> u64 {
        assert!(
            self.start <= at && at + len <= self.end(),
            "{len} bytes at {at} leave the segment at {}",
            self.start
        );
        at - self.start
    }
}
