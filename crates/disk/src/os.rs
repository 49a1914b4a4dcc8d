//! The real disk: files of the operating system, positional reads and writes, no buffering of our own.

use std::fs;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, AtFlags, FallocateFlags, FcntlArg, PosixFadviseAdvice};
use nix::sys::{statvfs, uio};
use nix::unistd::{self, SysconfVar, Whence};

use crate::{Advice, Disk, File, Holder, Listed, Lock, Meta, New, Open, Usage, map};

/// The files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let file = fs::File::options()
            .read(true)
            .write(how != Open::Read)
            .create(how == Open::Create)
            .truncate(false)
            .open(path)?;
        Ok(Arc::new(OsFile::new(file)))
    }

    fn create(&self, path: &Path, new: New<'_>) -> io::Result<Arc<dyn File>> {
        match create_unnamed(path, new) {
            // The file system has no unnamed files (NFS, older overlays), or there is no /proc to name one through.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT) => create_named(path, new),
            made => Ok(Arc::new(made?)),
        }
    }

    fn meta(&self, path: &Path) -> io::Result<Option<Meta>> {
        match fs::metadata(path) {
            Ok(meta) => Ok(Some(Meta {
                len: meta.len(),
                is_dir: meta.is_dir(),
                modified: meta.modified()?,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // There may be many thousand directories; the list itself says that they are ones.
            let (len, is_dir) = if entry.file_type()?.is_dir() {
                (0, true)
            } else {
                match fs::metadata(entry.path()) {
                    Ok(meta) => (meta.len(), meta.is_dir()),
                    // Removed since, or a link to nowhere: not there.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
            };
            all.push(Listed { name, len, is_dir });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn sync_all(&self, dir: &Path) -> io::Result<()> {
        Ok(unistd::syncfs(fs::File::open(dir)?)?)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match fcntl::fcntl(file.as_fd(), FcntlArg::F_SETLK(&first_byte())) {
            Ok(_) => Ok(Some(Box::new(OsLock { _file: file }))),
            Err(Errno::EACCES | Errno::EAGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<Holder>> {
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut answer = first_byte();
        fcntl::fcntl(file.as_fd(), FcntlArg::F_GETLK(&mut answer))?;
        let is_free = i32::from(answer.l_type) == nix::libc::F_UNLCK;
        Ok((!is_free).then(|| Holder {
            process: u32::try_from(answer.l_pid).unwrap_or(0),
        }))
    }

    fn usage(&self, path: &Path) -> io::Result<Usage> {
        let figures = statvfs::statvfs(path)?;
        let fragment = figures.fragment_size();
        Ok(Usage {
            total: fragment.saturating_mul(figures.blocks()),
            free: fragment.saturating_mul(figures.blocks_free()),
            available: fragment.saturating_mul(figures.blocks_available()),
        })
    }

    fn set_modified(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        fs::File::options()
            .write(true)
            .open(path)?
            .set_modified(time)
    }

    fn boot(&self) -> Option<String> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned()).filter(|id| !id.is_empty())
    }
}

/// A file without a name is filled and then gets it.
fn create_unnamed(path: &Path, new: New<'_>) -> Result<OsFile, Errno> {
    let error = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO));
    let file = fs::File::options()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_TMPFILE)
        .open(path.parent().unwrap_or(path))
        .map_err(error)?;
    let file = OsFile::new(file);
    file.fill(new).map_err(error)?;
    let unnamed = format!("/proc/self/fd/{}", file.file.as_raw_fd());
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    unistd::linkat(AT_FDCWD, unnamed.as_str(), AT_FDCWD, path, follow)?;
    Ok(file)
}

/// The next best: between the first two calls the file is empty.
fn create_named(path: &Path, new: New<'_>) -> io::Result<Arc<dyn File>> {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    let file = OsFile::new(file);
    if let Err(error) = file.set_len(new.len).and_then(|()| file.fill(new)) {
        // The first error is the one to report.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(Arc::new(file))
}

/// The record lock `FileChannel.tryLock(0, 1, false)` takes: `fcntl`, so that a Java broker and we exclude each other.
fn first_byte() -> nix::libc::flock {
    // The integer types of these constants and fields differ between platforms; none of the values can be out of range.
    #[expect(clippy::cast_possible_truncation, reason = "constants of one byte")]
    nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    }
}

/// The lock goes when the descriptor is closed. It would also go when this process closed *any* descriptor of the file,
/// so nothing else may open it while the lock is held.
#[derive(Debug)]
struct OsLock {
    _file: fs::File,
}

impl Lock for OsLock {}

#[derive(Debug)]
struct OsFile {
    file: fs::File,
    /// The whole file, mapped at the first slice.
    map: OnceLock<Bytes>,
    /// Held by this and by the map.
    held: Arc<()>,
}

impl OsFile {
    fn new(file: fs::File) -> Self {
        let map = OnceLock::new();
        let held = Arc::default();
        Self { file, map, held }
    }

    fn fill(&self, new: New<'_>) -> io::Result<()> {
        if new.is_reserved {
            self.allocate(new.len)?;
        } else {
            self.set_len(new.len)?;
        }
        self.write_at(new.start, 0)
    }

    fn mapped(&self) -> io::Result<&Bytes> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let map = map::read_only(&self.file, Arc::clone(&self.held))?;
        Ok(self.map.get_or_init(|| map))
    }
}

impl File for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self
                .file
                .read_at(&mut into[done..], at.saturating_add(done as u64))
            {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn read_now(&self, into: &mut [u8], at: u64) -> io::Result<Option<usize>> {
        map::read_now(&self.file, into, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn write_vectored_at(&self, parts: &[&[u8]], at: u64) -> io::Result<()> {
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let offset = i64::try_from(at).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut written = match uio::pwritev(&self.file, &slices, offset) {
            Ok(written) => written,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        // What a short write left goes out part by part.
        let mut at = at;
        for part in parts {
            let done = written.min(part.len());
            self.file.write_all_at(&part[done..], at + done as u64)?;
            written -= done;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let bytes = i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        loop {
            match fcntl::fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
                Ok(()) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.len()? == len {
            Ok(())
        } else {
            self.set_len(len)
        }
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        let end = range.end.min(self.len()?);
        let mut at = range.start;
        if at >= end {
            return Ok(());
        }
        let (Ok(start), Ok(len)) = (i64::try_from(at), i64::try_from(end - at)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // Keeps the space reserved; where the file system cannot, or has none to reserve, a hole; where it cannot do that
        // either, zeros.
        let ways = [
            FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
            FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
        ];
        for way in ways {
            match fcntl::fallocate(&self.file, way, start, len) {
                Ok(()) => return Ok(()),
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINTR | Errno::ENOSPC) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let zeros = [0; 1 << 16];
        while at < end {
            let step = usize::try_from(end - at).map_or(zeros.len(), |left| left.min(zeros.len()));
            self.file.write_all_at(&zeros[..step], at)?;
            at += step as u64;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn slice(&self, range: Range<u64>) -> io::Result<Bytes> {
        let map = self.mapped()?;
        let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end))
        else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if !(start <= end && end <= map.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(map.slice(start..end))
    }

    fn holders(&self) -> Weak<()> {
        Arc::downgrade(&self.held)
    }

    fn has_name(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() > 0)
    }

    fn is_in_memory(&self, range: Range<u64>) -> bool {
        self.slice(range).is_ok_and(|part| map::is_resident(&part))
    }

    fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        let Ok(from) = i64::try_from(at) else {
            return Ok(None);
        };
        // Everything else here is positional: that this moves the descriptor's own place concerns nobody.
        match unistd::lseek(&self.file, from, Whence::SeekData) {
            Ok(data) => Ok(u64::try_from(data).ok()),
            Err(Errno::ENXIO) => Ok(None),
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(Some(at)),
            Err(error) => Err(error.into()),
        }
    }

    fn advise(&self, range: Range<u64>, advice: Advice) {
        let advice = match advice {
            Advice::WillNeed => PosixFadviseAdvice::POSIX_FADV_WILLNEED,
            Advice::DontNeed => PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        };
        let (Ok(start), Ok(len)) = (
            i64::try_from(range.start),
            i64::try_from(range.end - range.start),
        ) else {
            return;
        };
        // Only a hint: a file system that does not take it loses nothing.
        let _ = fcntl::posix_fadvise(&self.file, start, len, advice);
    }
}

/// How much memory the machine has, in bytes; `None` when it does not say.
#[must_use]
pub fn physical_memory() -> Option<u64> {
    let ask = |what| {
        unistd::sysconf(what)
            .ok()
            .flatten()
            .and_then(|value| u64::try_from(value).ok())
    };
    ask(SysconfVar::_PHYS_PAGES)?.checked_mul(ask(SysconfVar::PAGE_SIZE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(len: u64) -> (tempfile::TempDir, Arc<dyn File>) {
        let dir = tempfile::tempdir().unwrap();
        let file = OsDisk.open(&dir.path().join("f"), Open::Create).unwrap();
        file.allocate(len).unwrap();
        (dir, file)
    }

    #[test]
    fn a_new_file_is_whole_and_there_is_none_before_it() {
        for create in [
            (|path, new| OsDisk.create(path, new))
                as fn(&Path, New<'_>) -> io::Result<Arc<dyn File>>,
            create_named,
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f");
            for is_reserved in [false, true] {
                let new = New {
                    len: 10_000,
                    is_reserved,
                    start: b"first",
                };
                let file = create(&path, new).unwrap();
                file.write_at(b"last", 9_996).unwrap();
                let bytes = fs::read(&path).unwrap();
                assert_eq!(
                    (&bytes[..6], &bytes[9_995..]),
                    (&b"first\0"[..], &b"\0last"[..])
                );
                let error = create(&path, new).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
                assert_eq!(
                    fs::read(&path).unwrap(),
                    bytes,
                    "the file of that name is left alone"
                );
                fs::remove_file(&path).unwrap();
            }
            let too_large = New {
                len: 1 << 62,
                is_reserved: true,
                start: b"",
            };
            create(&path, too_large).unwrap_err();
            let missing = dir.path().join("missing/f");
            assert_eq!(
                create(&missing, New::default()).unwrap_err().kind(),
                io::ErrorKind::NotFound
            );
            assert_eq!(
                OsDisk.list(dir.path()).unwrap(),
                [],
                "nothing stays after an error"
            );
        }
    }

    #[test]
    fn an_allocated_file_has_its_length_and_reads_as_zeros() {
        let (_dir, file) = file(100_000);
        assert_eq!(file.len().unwrap(), 100_000);
        let mut bytes = [1; 10];
        assert_eq!(file.read_at(&mut bytes, 99_995).unwrap(), 5);
        assert_eq!(bytes, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn parts_are_written_one_behind_the_other() {
        let (_dir, file) = file(16);
        file.write_vectored_at(&[b"ab", b"", b"cde"], 3).unwrap();
        assert_eq!(&file.slice(2..9).unwrap()[..], b"\0abcde\0");
        let mut short = [0; 4];
        assert_eq!(
            file.read_exact_at(&mut short, 14).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn a_zeroed_range_keeps_the_length() {
        let (_dir, file) = file(10_000);
        file.write_at(&[7; 10_000], 0).unwrap();
        file.zero(5000..20_000).unwrap();
        assert_eq!(file.len().unwrap(), 10_000);
        let all = file.slice(0..10_000).unwrap();
        assert!(
            all[..5000].iter().all(|&byte| byte == 7) && all[5000..].iter().all(|&byte| byte == 0)
        );
    }

    #[test]
    fn a_file_is_held_by_whoever_has_it_open_or_a_slice_of_it() {
        let (_dir, file) = file(10);
        let holders = file.holders();
        let slice = file.slice(0..5).unwrap();
        let part = slice.slice(1..2);
        drop(slice);
        drop(file);
        assert_eq!(holders.strong_count(), 1);
        drop(part);
        assert_eq!(holders.strong_count(), 0);
    }

    #[test]
    fn a_file_has_a_name_until_the_last_of_them_is_removed() {
        let (dir, file) = file(10);
        let (name, link) = (dir.path().join("f"), dir.path().join("link"));
        fs::hard_link(&name, &link).unwrap();
        OsDisk.remove(&name).unwrap();
        assert!(file.has_name().unwrap());
        OsDisk.remove(&link).unwrap();
        assert!(!file.has_name().unwrap());
    }

    #[test]
    fn a_slice_beyond_the_end_is_refused() {
        let (_dir, file) = file(10);
        assert!(file.slice(5..11).is_err());
    }

    #[test]
    fn lists_are_sorted_and_missing_things_are_none() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a"] {
            OsDisk
                .open(&dir.path().join(name), Open::Create)
                .unwrap()
                .set_len(3)
                .unwrap();
        }
        OsDisk.create_dirs(&dir.path().join("c/d")).unwrap();
        let listed = OsDisk.list(dir.path()).unwrap();
        let names: Vec<_> = listed
            .iter()
            .map(|one| (one.name.as_str(), one.is_dir))
            .collect();
        assert_eq!(names, [("a", false), ("b", false), ("c", true)]);
        assert_eq!(OsDisk.meta(&dir.path().join("x")).unwrap(), None);
        assert_eq!(
            OsDisk
                .open(&dir.path().join("x"), Open::Write)
                .unwrap_err()
                .kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn usage_rounds_up_like_df() {
        assert_eq!(
            Usage {
                total: 1000,
                free: 400,
                available: 300
            }
            .used_percent(),
            67
        );
        assert_eq!(
            Usage {
                total: 0,
                free: 0,
                available: 0
            }
            .used_percent(),
            0
        );
        assert!(OsDisk.usage(Path::new("/")).unwrap().total > 0);
    }

    #[test]
    fn holes_are_told_from_data() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsDisk.open(&dir.path().join("f"), Open::Create).unwrap();
        file.set_len(1 << 20).unwrap();
        assert!(file.next_data(0).unwrap().is_none_or(|data| data == 0));
        file.write_at(b"x", 1 << 19).unwrap();
        let data = file.next_data(5).unwrap().unwrap();
        assert!((5..=1 << 19).contains(&data), "{data}");
        assert_eq!(file.next_data(1 << 19).unwrap(), Some(1 << 19));
        assert_eq!(file.next_data(1 << 20).unwrap(), None);
        assert_eq!(file.next_data(u64::MAX).unwrap(), None);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(physical_memory().unwrap() > 1 << 20);
    }
}
