//! Replaces a small file so that its old or its new content survives a crash, and keeps the old one as `.bak`, as
//! Java's broker does for its tables.
//!
//! Order, and what a crash leaves behind each step:
//! 1. the new content goes to `.tmp` and is synced (the file is as before);
//! 2. the present content goes to `.bak.tmp`, is synced and renamed to `.bak` (the file is as before);
//! 3. `.tmp` is renamed over the file (old or new, never a part);
//! 4. the directory is synced (new).

use std::io;
use std::path::{Path, PathBuf};

use crate::{Disk, Open, is_no_space};

/// Writes `content` to `path`; what stood there is kept in `path.bak`.
pub fn keeping_backup(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    write_synced(disk, &beside(path, ".tmp"), content)?;
    if let Some(present) = read(disk, path)? {
        write_synced(disk, &beside(path, ".bak.tmp"), &present)?;
        disk.rename(&beside(path, ".bak.tmp"), &beside(path, ".bak"))?;
    }
    disk.rename(&beside(path, ".tmp"), path)?;
    sync_parent(disk, path)
}

/// Writes `content` to `path` without keeping what stood there.
pub fn file(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    write_synced(disk, &beside(path, ".tmp"), content)?;
    disk.rename(&beside(path, ".tmp"), path)?;
    sync_parent(disk, path)
}

/// [`file()`] for a file with a checksum: where there is no space for a second one beside it, over the present one, which a
/// crash or an error in between may tear.
pub fn or_overwrite(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    match file(disk, path, content) {
        Err(error) if is_no_space(&error) && disk.meta(path)?.is_some() => {
            let file = disk.open(path, Open::Write)?;
            file.write_at(content, 0)?;
            file.set_len(content.len() as u64)?;
            file.sync()
        }
        other => other,
    }
}

/// All of a small file; `None` when there is none.
pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len =
        usize::try_from(file.len()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut content = vec![0; len];
    let read = file.read_at(&mut content, 0)?;
    content.truncate(read);
    Ok(Some(content))
}

/// The backup's path.
#[must_use]
pub fn backup_of(path: &Path) -> PathBuf {
    beside(path, ".bak")
}

fn write_synced(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let file = disk.open(path, Open::Create)?;
    file.set_len(0)?;
    file.write_at(content, 0)?;
    file.sync()
}

fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => disk.sync_dir(dir),
        _ => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsDisk;

    #[test]
    fn the_old_content_is_kept_beside_the_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("topics.json");
        assert_eq!(read(&OsDisk, &path).unwrap(), None);
        keeping_backup(&OsDisk, &path, b"one").unwrap();
        assert_eq!(read(&OsDisk, &backup_of(&path)).unwrap(), None);
        keeping_backup(&OsDisk, &path, b"2").unwrap();
        assert_eq!(read(&OsDisk, &path).unwrap().unwrap(), b"2");
        assert_eq!(read(&OsDisk, &backup_of(&path)).unwrap().unwrap(), b"one");
        let names: Vec<_> = OsDisk
            .list(dir.path())
            .unwrap()
            .into_iter()
            .map(|one| one.name)
            .collect();
        assert_eq!(names, ["topics.json", "topics.json.bak"]);
    }

    #[cfg(feature = "faulty")]
    #[test]
    fn without_space_for_a_second_file_the_present_one_is_overwritten() {
        let disk = crate::faulty::FaultyDisk::new(1);
        disk.create_dirs(Path::new("/d")).unwrap();
        let path = Path::new("/d/note");
        disk.set_room(Some(6));
        or_overwrite(&disk, path, b"longer").unwrap();
        or_overwrite(&disk, path, b"short").unwrap();
        assert_eq!(read(&disk, path).unwrap().unwrap(), b"short");
        let none = or_overwrite(&disk, Path::new("/d/other"), b"12").unwrap_err();
        assert!(crate::is_no_space(&none), "{none}");
    }
}
