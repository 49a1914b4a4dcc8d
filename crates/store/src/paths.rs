//! Where everything is below the store's root, and how a file is set aside.

use std::io;
use std::path::{Path, PathBuf};

use gantry_disk::{Disk, Open};

use crate::figures::Counters;
use crate::width::wide;

/// Names below the store's root; all but `progress` and `quarantine` are Apache's.
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

    pub(crate) fn queues(&self) -> PathBuf {
        self.root.join("consumequeue")
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
        disk.create_dirs(&dir)?;
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
                copy(disk, path, &to)?;
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
}

/// Copies a file, durably.
fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (disk.open(from, Open::Read)?, disk.open(to, Open::Create)?);
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let read = from.read_at(&mut buffer, at)?;
        if read == 0 {
            return to.sync();
        }
        to.write_at(&buffer[..read], at)?;
        at += wide(read);
    }
}
