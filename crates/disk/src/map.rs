//! Read-only maps, and what of a file is in memory: the only unsafe code of the workspace's storage.
//!
//! A map is made once per file, over its whole length, and lives as long as one slice of it does. Nothing here reads
//! through it: a page that cannot be read is a signal in user space, but an error (`EFAULT`) in the system call that a
//! slice is handed to.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use bytes::Bytes;
use nix::libc;
use nix::unistd::{SysconfVar, sysconf};

/// So many pages are asked about at once.
const PAGES_ASKED: usize = 64;

/// Maps all of a file for reading. `held` is dropped when the last slice is.
pub(crate) fn read_only(file: &fs::File, held: Arc<()>) -> io::Result<Bytes> {
    // SAFETY: the map is read-only and shared, so nothing in this process can write through it. The bytes behind it may
    // change while it lives, when the file is written: only ranges that are complete and never rewritten are handed
    // out, and they go to sockets. The file is never cut shorter while it is mapped: segments keep their full size from
    // creation to removal, and a removed file is cut only when nobody holds it any more.
    let map = unsafe { memmap2::MmapOptions::new().map(file)? };
    Ok(Bytes::from_owner(Mapped { map, _held: held }))
}

/// The map goes before what holds it: whoever sees that nobody holds it may cut the file.
struct Mapped {
    map: memmap2::Mmap,
    _held: Arc<()>,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// Whether every page of a part of a map is in memory. False also when the system does not say.
pub(crate) fn is_resident(part: &[u8]) -> bool {
    if part.is_empty() {
        return true;
    }
    let page = sysconf(SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| usize::try_from(size).ok())
        .unwrap_or(4096);
    let lead = part.as_ptr().addr() % page;
    let mut at = part.as_ptr().wrapping_sub(lead);
    let mut left = (lead + part.len()).div_ceil(page);
    let mut seen = [0_u8; PAGES_ASKED];
    while left > 0 {
        let count = left.min(PAGES_ASKED);
        // SAFETY: `at` is the start of a page of a live map (maps begin and end at pages, and `part` is borrowed from
        // one), and `count` pages from there on belong to it. The call reads and writes no memory there; it writes one
        // byte for each page into `seen`, which has room for them.
        let done = unsafe { libc::mincore(at.cast_mut().cast(), count * page, seen.as_mut_ptr()) };
        if done != 0 || seen[..count].iter().any(|page| page & 1 == 0) {
            return false;
        }
        at = at.wrapping_add(count * page);
        left -= count;
    }
    true
}

/// Reads what is in memory; `None` when the disk would have to be waited for, or the file system cannot tell.
pub(crate) fn read_now(file: &fs::File, into: &mut [u8], at: u64) -> io::Result<Option<usize>> {
    let at = libc::off_t::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
    let parts = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: `parts` names exactly the bytes of `into`, which is borrowed for writing until the call is over.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &parts, 1, at, libc::RWF_NOWAIT) };
    if let Ok(read) = usize::try_from(read) {
        // Short at the end of the file, or where memory ends; who must know reads again and waits.
        return Ok((read == into.len()).then_some(read));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EOPNOTSUPP | libc::ENOSYS | libc::EINTR) => Ok(None),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_map_shows_what_is_written_later_and_outlives_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.set_len(8192).unwrap();
        let map = super::read_only(&file, Default::default()).unwrap();
        file.write_all_at(b"late", 5000).unwrap();
        drop(file);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&map[5000..5004], b"late");
    }

    #[test]
    fn what_is_not_in_memory_is_known_before_it_is_read() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all_at(&[7; 1 << 20], 0).unwrap();
        let map = super::read_only(&file, Default::default()).unwrap();
        assert!(super::is_resident(&map[5000..900_000]));
        assert!(super::is_resident(&[]));
        let mut bytes = [0; 10];
        let now = |bytes: &mut [u8]| super::read_now(&file, bytes, 300_000).unwrap();
        if now(&mut bytes).is_none() {
            return; // A file system that cannot tell: everything counts as on disk.
        }
        assert_eq!((now(&mut bytes), bytes), (Some(10), [7; 10]));
        file.sync_all().unwrap();
        let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        nix::fcntl::posix_fadvise(&file, 0, 0, advice).unwrap();
        if now(&mut bytes).is_none() {
            assert!(!super::is_resident(&map[300_000..300_010]));
            file.read_exact_at(&mut bytes, 300_000).unwrap();
        }
        assert!(super::is_resident(&map[300_000..300_010]));
        assert_eq!(now(&mut bytes), Some(10));
        assert_eq!(
            super::read_now(&file, &mut bytes, (1 << 20) - 5).unwrap(),
            None
        );
    }

    #[test]
    fn an_empty_file_maps_to_nothing() {
        let file = tempfile::tempfile().unwrap();
        assert!(super::read_only(&file, Default::default()).is_ok_and(|map| map.is_empty()));
    }
}
