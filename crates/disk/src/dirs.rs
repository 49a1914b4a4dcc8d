//! Makes directories whose names survive a power cut.
//!
//! A name is durable once the directory it stands in was synced; a file that is synced in a directory without a durable
//! name is gone with it. So every directory that is made here, and the one asked for even if it was there already (the
//! process that made it may have died before its sync), gets its parent synced.

use std::io;
use std::path::Path;

use crate::Disk;

/// Makes a directory and those above it, durably. A parent that we may use but not open is left unsynced.
pub fn make(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let mut made = vec![dir];
    for above in dir.ancestors().skip(1) {
        if above.as_os_str().is_empty() || disk.meta(above)?.is_some() {
            break;
        }
        made.push(above);
    }
    disk.create_dirs(dir)?;
    for dir in made {
        let Some(parent) = dir.parent() else { continue };
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        match disk.sync_dir(parent) {
            // Somebody else's, who made what stands in it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(all(test, feature = "faulty"))]
mod tests {
    use super::*;
    use crate::faulty::FaultyDisk;
    use crate::{New, OsDisk};

    #[test]
    fn a_directory_that_was_made_survives_a_power_cut_with_what_is_synced_in_it() {
        for seed in 0..50 {
            let disk = FaultyDisk::new(seed);
            let dir = Path::new("/a/b/c");
            make(&disk, dir).unwrap();
            disk.create(&dir.join("f"), New::default()).unwrap();
            disk.sync_dir(dir).unwrap();
            disk.power_cut();
            assert_eq!(disk.files(), [dir.join("f")], "seed {seed}");
        }
    }

    #[test]
    fn a_directory_that_was_left_unsynced_is_synced_by_the_next_who_makes_it() {
        for seed in 0..50 {
            let disk = FaultyDisk::new(seed);
            let dir = Path::new("/a");
            disk.create_dirs(dir).unwrap();
            make(&disk, dir).unwrap();
            disk.power_cut();
            assert!(disk.meta(dir).unwrap().is_some(), "seed {seed}");
        }
    }

    #[test]
    fn directories_of_the_system_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x/y");
        make(&OsDisk, &deep).unwrap();
        make(&OsDisk, &deep).unwrap();
        assert!(OsDisk.meta(&deep).unwrap().is_some_and(|meta| meta.is_dir));
    }
}
