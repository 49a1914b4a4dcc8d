//! `mqbench evict`: drops what the page cache holds of all files below a folder, as if nobody had read them for long.
//!
//! Pages that are not yet on disk stay; with `--sync` they are written first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::figures::print_line;
use crate::options::{Flag, Options, flag};

/// Options of `evict`.
pub(crate) const FLAGS: &[&[Flag]] = &[&[
    flag("dir", "DIR", "the folder"),
    flag("sync", "", "write back first what is not on disk yet"),
]];

/// Runs `mqbench evict`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = options.text("dir").context("--dir is needed")?;
    let files = files(Path::new(folder))?;
    if options.is_on("sync") {
        let folder = File::open(folder).with_context(|| folder.to_owned())?;
        nix::unistd::syncfs(&folder).context("syncfs")?;
    }
    for path in &files {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
            .with_context(|| path.display().to_string())?;
    }
    print_line(&format!("evict: {} files below {folder}", files.len()));
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_folders_are_found_and_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/one"), b"1").unwrap();
        fs::write(folder.path().join("two"), b"2").unwrap();
        assert_eq!(files(folder.path()).unwrap().len(), 2);
        let dir = folder.path().display().to_string();
        let given = ["--dir", &dir].map(str::to_owned);
        run(&Options::parse(FLAGS, given).unwrap()).unwrap();
        assert_eq!(fs::read(folder.path().join("a/one")).unwrap(), b"1");
    }
}
