//! The only crate that touches files: one trait for a disk, one for an open file, and what stands behind them.
//!
//! [`OsDisk`] is the real thing. `FaultyDisk` (feature `faulty`) keeps everything in memory, remembers what was synced
//! and what was not, and fails, tears or loses writes where a test asks for it. [`replace`] writes a small file so that
//! its old or its new content survives whatever happens, [`dirs`] makes directories that stay.
//! The seam is coarse on purpose: it is called once a batch or page, never once a message.
//! Log files and exports are no state and do not go through here.

pub mod dirs;
#[cfg(feature = "faulty")]
pub mod faulty;
mod map;
mod os;
pub mod replace;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use bytes::Bytes;

pub use os::{OsDisk, physical_memory};

/// Whether the system has no space (or no quota) left: a refusal that passes, not a fault.
#[must_use]
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// For reading and writing; made empty if there is none.
    Create,
}

/// What a file holds when it appears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct New<'a> {
    /// Length in bytes; behind `start` there are zeros.
    pub len: u64,
    /// Whether the space is reserved: then no later write can find the disk full.
    pub is_reserved: bool,
    /// The first bytes.
    pub start: &'a [u8],
}

/// What kind of thing a name stands for, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Length in bytes.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// When its content last changed.
    pub modified: SystemTime,
}

/// One name in a directory. Names that are no UTF-8 come with replacement characters and open nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name, without the directory.
    pub name: String,
    /// Length in bytes; of no meaning for a directory.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// How full a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Its size in bytes.
    pub total: u64,
    /// Bytes nobody uses.
    pub free: u64,
    /// Bytes that we may still use.
    pub available: u64,
}

impl Usage {
    /// The used share in whole percent, rounded up, as `df` and Apache compute it.
    #[must_use]
    pub fn used_percent(&self) -> u64 {
        let used = self.total.saturating_sub(self.free);
        let all = used.saturating_add(self.available);
        if all == 0 {
            0
        } else {
            used.saturating_mul(100).div_ceil(all)
        }
    }
}

/// What will be done with a range, so that the system can prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// It will be read soon.
    WillNeed,
    /// It will not be read again soon.
    DontNeed,
}

/// Held as long as the value lives.
pub trait Lock: Send + Sync + fmt::Debug {}

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The number of the process; 0 when it is not of this machine or not to be seen from here.
    pub process: u32,
}

/// A place for files.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens or makes a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;
    /// Makes a file that is whole as soon as it has its name, whenever the process dies: a reader that insists on a file's
    /// length (Apache's loader) never meets half of one. An error if there is one of that name; nothing stays after an error.
    fn create(&self, path: &Path, new: New<'_>) -> io::Result<Arc<dyn File>>;
    /// What stands under a name; `None` when nothing does.
    fn meta(&self, path: &Path) -> io::Result<Option<Meta>>;
    /// Every name in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>>;
    /// Makes a directory and those above it.
    fn create_dirs(&self, dir: &Path) -> io::Result<()>;
    /// Moves a file or directory; an existing file under the new name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes everything durable that was written to the file system of a directory.
    fn sync_all(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive record lock that Java takes on the first byte of a file, and makes the file if there is
    /// none. `None`: another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
    /// Who holds the lock of [`Disk::lock`], without taking it or changing anything. `None`: nobody, or no such file.
    fn lock_holder(&self, path: &Path) -> io::Result<Option<Holder>>;
    /// How full the file system of a path is.
    fn usage(&self, path: &Path) -> io::Result<Usage>;
    /// Sets the time of the last change of content.
    fn set_modified(&self, path: &Path, time: SystemTime) -> io::Result<()>;
    /// Names the lifetime of the page cache: as long as it stays the same, what was written is there, synced or not.
    /// `None`: not known.
    fn boot(&self) -> Option<String>;
}

/// An open file. All methods take positions; several threads may call them at once.
pub trait File: Send + Sync + fmt::Debug {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads what there is, up to the length of `into`; less only at the end of the file.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
    /// Fills `into` or fails with `UnexpectedEof`.
    fn read_exact_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        if self.read_at(into, at)? == into.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
    /// Fills `into` with what is in memory; `None` when the disk would have to be waited for.
    fn read_now(&self, into: &mut [u8], at: u64) -> io::Result<Option<usize>> {
        let read = self.read_at(into, at)?;
        Ok((read == into.len()).then_some(read))
    }
    /// Writes all of it. After an error any part may have been written.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Writes the parts one behind the other. After an error any part may have been written.
    fn write_vectored_at(&self, parts: &[&[u8]], at: u64) -> io::Result<()>;
    /// Makes the file `len` bytes long with the space reserved; reserves nothing where the file system cannot.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes a range read as zeros without making the file longer.
    fn zero(&self, range: Range<u64>) -> io::Result<()>;
    /// Cuts or extends (sparsely) to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;
    /// A range of the file without copying where that is possible. The bytes stay readable after the file is removed;
    /// they are meant for sockets: whoever must look at them reads with [`File::read_at`], which fails cleanly.
    fn slice(&self, range: Range<u64>) -> io::Result<Bytes>;
    /// Dead as soon as nobody holds this open file or a slice of it.
    fn holders(&self) -> Weak<()>;
    /// Whether the file still has a name somewhere, be it one that somebody else gave it.
    fn has_name(&self) -> io::Result<bool>;
    /// Whether a slice of a range can be handed on without waiting for the disk.
    fn is_in_memory(&self, range: Range<u64>) -> bool {
        let _ = range;
        true
    }
    /// The first place from `at` on that may hold something but zeros, for who would read holes for nothing; `None`: there
    /// is nothing but zeros.
    fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        Ok(Some(at))
    }
    /// Says what will be done with a range; only a hint.
    fn advise(&self, range: Range<u64>, advice: Advice);
}
