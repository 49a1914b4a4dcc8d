//! Where everything is below the store's root, and how a file is set aside.

use std::io;
use std::path::{Path, PathBuf};

use gantry_disk::{Disk, File, Open, dirs, is_no_space};

use crate::figures::Counters;
use crate::width::{narrow, wide};

/// Names below the store's root; all but `progress`, `deletions` and `quarantine` are Apache's.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) root: PathBuf,
}

impl Paths {
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn abort(&self) -> PathBuf {
        self.root.join("abort")
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint")
    }

    pub(crate) fn progress(&self) -> PathBuf {
        self.root.join("gantry.checkpoint")
    }

    pub(crate) fn deletions(&self) -> PathBuf {
        self.root.join("gantry.deleted")
    }

    pub(crate) fn queues(&self) -> PathBuf {
        self.root.join("consumequeue")
    }

    pub(crate) fn ext(&self) -> PathBuf {
        self.root.join("consumequeue_ext")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// A free name in the quarantine directory, which is made if needed.
    pub(crate) fn free_quarantine(&self, disk: &dyn Disk, name: &str) -> io::Result<PathBuf> {
        let dir = self.quarantine();
        dirs::make(disk, &dir)?;
        let mut path = dir.join(name);
        let mut number = 1;
        while disk.meta(&path)?.is_some() {
            number += 1;
            path = dir.join(format!("{name}.{number}"));
        }
        Ok(path)
    }

    /// Moves what cannot be trusted out of the way and names it once.
    pub(crate) fn set_aside(
        &self,
        disk: &dyn Disk,
        counters: &Counters,
        path: &Path,
        why: &str,
    ) -> io::Result<()> {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        let name = relative
            .to_string_lossy()
            .trim_start_matches('/')
            .replace('/', "-");
        let to = self.free_quarantine(disk, &name)?;
        match disk.rename(path, &to) {
            // The log may be on another disk than the root.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let file = disk.open(path, Open::Read)?;
                let len = file.len()?;
                self.keep_copy(disk, &name, len, |part, at| file.read_at(part, at))?;
                disk.remove(path)?;
            }
            other => other?,
        }
        counters
            .quarantined
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        tracing::error!(file = %path.display(), to = %to.display(), why, "set aside");
        Ok(())
    }

    /// Sets a file aside or, where there is no space for the copy that takes, removes it: it must not stay where it is.
    pub(crate) fn give_up(
        &self,
        disk: &dyn Disk,
        counters: &Counters,
        path: &Path,
        why: &str,
    ) -> io::Result<()> {
        match self.set_aside(disk, counters, path, why) {
            Err(error) if is_no_space(&error) => {
                tracing::error!(file = %path.display(), why, %error, "removed, for no copy of it can be kept");
                disk.remove(path)
            }
            other => other,
        }
    }

    /// Copies `len` bytes into the quarantine, durably; parts that cannot be read are zeros there. After an error nothing
    /// is left of the copy.
    pub(crate) fn keep_copy(
        &self,
        disk: &dyn Disk,
        name: &str,
        len: u64,
        read: impl Fn(&mut [u8], u64) -> io::Result<usize>,
    ) -> io::Result<()> {
        let path = self.free_quarantine(disk, name)?;
        let copied = disk
            .open(&path, Open::Create)
            .and_then(|copy| fill(&*copy, len, read))
            .and_then(|()| disk.sync_dir(&self.quarantine()));
        if copied.is_err() {
            // The first error is the one to report.
            let _ = disk.remove(&path);
        }
        copied
    }
}

fn fill(
    copy: &dyn File,
    len: u64,
    read: impl Fn(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let step = (len - at).min(wide(buffer.len()));
        let part = &mut buffer[..narrow(step)];
        if let Ok(read) = read(part, at) {
            copy.write_at(&part[..read], at)?;
        }
        at += step;
    }
    copy.sync()
}
