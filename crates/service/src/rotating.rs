//! A log file with a cap: at [`FILE_BYTES`] it moves to `otherdays/<name>.1.log.gz`, older ones move on by one, and
//! the [`KEEP`]-th goes. Written by one thread; compression runs beside it, one file at a time.
//!
//! All files of one log never hold more than `FILE_BYTES * (KEEP + 2)` bytes, and about a tenth of that in practice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// Bytes after which a file is moved away.
pub(crate) const FILE_BYTES: u64 = 64 << 20;
/// Files that are kept beside the current one.
pub(crate) const KEEP: u32 = 10;

pub(crate) struct RotatingFile {
    folder: PathBuf,
    name: String,
    limit: u64,
    file: File,
    size: u64,
    compressing: Option<JoinHandle<()>>,
}

impl RotatingFile {
    /// Opens `<folder>/<name>.log` for appending and makes the folders.
    pub(crate) fn open(folder: &Path, name: &str, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(folder.join("otherdays"))?;
        let file = append(&folder.join(format!("{name}.log")))?;
        let size = file.metadata()?.len();
        let mut log = Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            limit,
            file,
            size,
            compressing: None,
        };
        // A stop in the middle of compressing leaves the plain file.
        if log.old(1, "log").exists() {
            log.compress();
        }
        Ok(log)
    }

    /// Appends whole lines. At the limit the file is moved away first.
    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if 0 < self.size && self.limit < self.size.saturating_add(length) {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.size = self.size.saturating_add(length);
        Ok(())
    }

    fn old(&self, number: u32, ending: &str) -> PathBuf {
        self.folder
            .join("otherdays")
            .join(format!("{}.{number}.{ending}", self.name))
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.finish();
        for number in (1..KEEP).rev() {
            rename_if_there(&self.old(number, "log.gz"), &self.old(number + 1, "log.gz"))?;
        }
        let current = self.folder.join(format!("{}.log", self.name));
        rename_if_there(&current, &self.old(1, "log"))?;
        self.file = append(&current)?;
        self.size = 0;
        self.compress();
        Ok(())
    }

    fn compress(&mut self) {
        let (plain, packed) = (self.old(1, "log"), self.old(1, "log.gz"));
        let work = move || {
            // The plain file stays until its packed form is complete; a failure is tried again at the next start.
            let _ = gzip(&plain, &packed);
        };
        self.compressing = std::thread::Builder::new()
            .name("log-gzip".into())
            .spawn(work)
            .ok();
    }

    /// Waits for compression, if any is under way.
    pub(crate) fn finish(&mut self) {
        if let Some(work) = self.compressing.take() {
            // It cannot panic, and there is nothing to do about it if it did.
            let _ = work.join();
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn gzip(plain: &Path, packed: &Path) -> io::Result<()> {
    let unfinished = packed.with_extension("gz.part");
    let mut input = File::open(plain)?;
    let mut output =
        flate2::write::GzEncoder::new(File::create(&unfinished)?, flate2::Compression::fast());
    io::copy(&mut input, &mut output)?;
    output.finish()?;
    fs::rename(&unfinished, packed)?;
    fs::remove_file(plain)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn unpacked(path: &Path) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(File::open(path).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    #[test]
    fn old_files_are_packed_numbered_and_capped() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RotatingFile::open(folder.path(), "broker", 10).unwrap();
        for number in 0..15 {
            log.write(format!("line {number:02}\n").as_bytes()).unwrap();
        }
        log.finish();
        assert_eq!(
            fs::read_to_string(folder.path().join("broker.log")).unwrap(),
            "line 14\n"
        );
        let old = folder.path().join("otherdays");
        assert_eq!(unpacked(&old.join("broker.1.log.gz")), "line 13\n");
        assert_eq!(unpacked(&old.join("broker.10.log.gz")), "line 04\n");
        assert_eq!(fs::read_dir(&old).unwrap().count(), 10);
    }

    #[test]
    fn what_a_stop_left_unpacked_is_packed_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("otherdays")).unwrap();
        let plain = folder.path().join("otherdays/namesrv.1.log");
        fs::write(&plain, "left\n").unwrap();
        RotatingFile::open(folder.path(), "namesrv", 10)
            .unwrap()
            .finish();
        assert_eq!(unpacked(&plain.with_extension("log.gz")), "left\n");
        assert!(!plain.exists());
    }

    #[test]
    fn a_file_is_continued_and_its_size_counts() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("broker.log"), "12345678\n").unwrap();
        let mut log = RotatingFile::open(folder.path(), "broker", 10).unwrap();
        log.write(b"ab\n").unwrap();
        log.finish();
        assert_eq!(
            fs::read_to_string(folder.path().join("broker.log")).unwrap(),
            "ab\n"
        );
        assert_eq!(
            unpacked(&folder.path().join("otherdays/broker.1.log.gz")),
            "12345678\n"
        );
    }
}
