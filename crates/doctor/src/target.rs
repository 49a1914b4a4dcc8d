//! Which store is looked at, and with which eyes: everything below opens files for reading only.
//!
//! [`Target`] hides the disk behind methods that cannot change anything; only `repair` asks for the disk itself. What the
//! configuration says of sizes is optional: files tell theirs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_disk::{Disk, File, Holder, Listed, Meta, Open};
use gantry_message::Millis;
use gantry_store::StoreConfig;
use gantry_store::format::index::{ENTRIES_MAX, Layout, SLOTS_MAX};

/// Why an examination did not take place or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// Nothing there that could be a store.
    #[error("{path}: {reason}")]
    NoStore {
        /// Where.
        path: PathBuf,
        /// Why it is none.
        reason: &'static str,
    },
    /// A broker works on the store.
    #[error("{root}: {by} works on this store{advice}")]
    Live {
        /// The store.
        root: PathBuf,
        /// Who.
        by: String,
        /// What to do.
        advice: &'static str,
    },
    /// The system refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store could not be opened for a repair.
    #[error(transparent)]
    Store(#[from] gantry_store::StoreError),
    /// Options that make no sense.
    #[error("{0}")]
    Usage(String),
}

impl DoctorError {
    /// Wraps what the system said about `path`; for `map_err`.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// What a configuration says of a store; `None` where it says nothing.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// `storePathCommitLog`, split. Empty: `commitlog` below the root.
    pub log_dirs: Vec<PathBuf>,
    /// `readOnlyCommitLogStorePaths`, split.
    pub read_only_log_dirs: Vec<PathBuf>,
    /// `mappedFileSizeCommitLog`.
    pub segment_size: Option<u64>,
    /// `mappedFileSizeConsumeQueue`.
    pub queue_file_size: Option<u64>,
    /// `maxHashSlotNum` and `maxIndexNum`.
    pub index: Option<(u32, u32)>,
    /// `messageIndexEnable`.
    pub index_enabled: Option<bool>,
    /// `messageDelayLevel`.
    pub delay_levels: Option<Vec<Millis>>,
}

/// A store that is looked at.
#[derive(Clone, Debug)]
pub struct Target {
    disk: Arc<dyn Disk>,
    /// `storePathRootDir`.
    pub root: PathBuf,
    /// What is known of it.
    pub shape: Shape,
}

/// More of a small file is not read.
const SMALL_MAX: u64 = 1 << 30;

impl Target {
    /// The store at `root`. Fails when there is none.
    pub fn new(disk: Arc<dyn Disk>, root: &Path, mut shape: Shape) -> Result<Self, DoctorError> {
        let no_store = |path: &Path, reason| DoctorError::NoStore {
            path: path.to_owned(),
            reason,
        };
        let is_dir = |path: &Path| {
            let meta = disk.meta(path).map_err(DoctorError::io("look at", path))?;
            Ok::<_, DoctorError>(meta.map(|meta| meta.is_dir))
        };
        match is_dir(root)? {
            None => return Err(no_store(root, "no such directory")),
            Some(false) => return Err(no_store(root, "not a directory")),
            Some(true) => {}
        }
        if shape.log_dirs.is_empty() {
            shape.log_dirs = vec![root.join("commitlog")];
            let parts = ["commitlog", "consumequeue", "index", "config", "checkpoint"];
            let mut any = false;
            for part in parts {
                any |= is_dir(&root.join(part))?.is_some();
            }
            if !any {
                return Err(no_store(
                    root,
                    "not a store: there is no commitlog, consumequeue, index, config or checkpoint in it",
                ));
            }
        } else {
            for dir in shape.log_dirs.iter().chain(&shape.read_only_log_dirs) {
                if is_dir(dir)? != Some(true) {
                    return Err(no_store(dir, "no such directory for the log"));
                }
            }
        }
        Ok(Self {
            disk,
            root: root.to_owned(),
            shape,
        })
    }

    /// Opens a file for reading.
    pub(crate) fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.disk.open(path, Open::Read)
    }

    pub(crate) fn meta(&self, path: &Path) -> io::Result<Option<Meta>> {
        self.disk.meta(path)
    }

    /// Every name in a directory, sorted; nothing when there is no such directory.
    pub(crate) fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        match self.disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }

    /// All of a small file; `None` when there is none.
    pub(crate) fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match self.disk.meta(path)? {
            Some(meta) if meta.is_dir => Err(io::ErrorKind::IsADirectory.into()),
            Some(meta) if meta.len > SMALL_MAX => Err(io::ErrorKind::FileTooLarge.into()),
            _ => gantry_disk::replace::read(&*self.disk, path),
        }
    }

    /// The broker that works on the store, Apache's or ours.
    pub fn live(&self) -> Result<Option<Holder>, DoctorError> {
        let path = self.root.join("lock");
        self.disk
            .lock_holder(&path)
            .map_err(DoctorError::io("ask for the lock of", &path))
    }

    pub(crate) fn boot(&self) -> Option<String> {
        self.disk.boot()
    }

    /// For segments, which open themselves for reading.
    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The disk, to change things with. Nothing but a repair calls this.
    pub(crate) fn disk_to_write(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    pub(crate) fn layout(&self) -> Option<Layout> {
        let layout = |(slots, entries)| Layout { slots, entries };
        let possible = |&(slots, entries): &(u32, u32)| {
            (1..=SLOTS_MAX).contains(&slots) && (2..=ENTRIES_MAX).contains(&entries)
        };
        self.shape.index.filter(possible).map(layout)
    }

    pub(crate) fn delay_levels(&self) -> Vec<Millis> {
        let configured = self.shape.delay_levels.clone();
        configured.unwrap_or_else(|| StoreConfig::default().delay_levels)
    }
}

/// The holder of a lock as a message names it.
pub(crate) fn holder_text(holder: Holder) -> String {
    match holder.process {
        0 => "another process".to_owned(),
        process => format!("process {process}"),
    }
}
