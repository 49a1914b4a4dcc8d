//! Read-only maps: the only unsafe code of the workspace's storage.
//!
//! A map is made once per file, over its whole length, and lives as long as one slice of it does. Nothing here reads
//! through it: a page that cannot be read is a signal in user space, but an error (`EFAULT`) in the system call that a
//! slice is handed to.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

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
    fn an_empty_file_maps_to_nothing() {
        let file = tempfile::tempfile().unwrap();
        assert!(super::read_only(&file, Default::default()).is_ok_and(|map| map.is_empty()));
    }
}
