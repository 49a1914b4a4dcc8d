//! The files of `consumequeue_ext/<topic>/<id>/<byte offset>` that Apache's broker left: read, cleaned, never written.
//!
//! They hold what some queue entries only point to. Nothing depends on them: what cannot be read there is found in the
//! log ([`crate::entries`]). Apache cuts them itself behind the last unit that an entry points to.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use gantry_disk::{Disk, File, Open};
use gantry_message::QueueId;
use rustc_hash::FxHashMap;

use crate::format::ext::{UNIT_LEN, Unit};
use crate::format::name;
use crate::queue::Queue;

/// So many files stay open.
const OPEN_MAX: usize = 64;

/// The files that entries point to.
#[derive(Debug)]
pub(crate) struct ExtFiles {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By queue: the length of its files; `None`: there are none, and there will be none.
    sizes: FxHashMap<usize, Option<u64>>,
    /// By queue and first byte.
    open: FxHashMap<(usize, u64), Arc<dyn File>>,
}

impl ExtFiles {
    /// `root` is the `consumequeue_ext` directory.
    pub(crate) fn new(disk: Arc<dyn Disk>, root: PathBuf) -> Self {
        Self {
            disk,
            root,
            known: Mutex::default(),
        }
    }

    /// The unit at `place`; `None` when none is there.
    pub(crate) fn unit(&self, queue: &Queue, place: u64) -> io::Result<Option<Unit>> {
        let Some(size) = self.size(queue)? else {
            return Ok(None);
        };
        let base = place - place % size;
        let Some(file) = self.file(queue, base)? else {
            return Ok(None);
        };
        let mut head = [0; UNIT_LEN];
        let read = file.read_at(&mut head, place - base)?;
        Ok(Unit::decode(&head[..read]))
    }

    /// Removes the files that lie before `place`, or all of them when no entry points there.
    pub(crate) fn clean(&self, queue: &Queue, place: Option<u64>) -> io::Result<()> {
        let Some(size) = self.size(queue)? else {
            return Ok(());
        };
        for base in self.bases(queue.topic(), queue.id())? {
            if place.is_none_or(|place| base.saturating_add(size) <= place) {
                let path = self.dir(queue.topic(), queue.id()).join(name::of(base));
                self.lock().open.remove(&(queue.slot(), base));
                self.disk.remove(&path)?;
                tracing::info!(path = %path.display(), "removed a file that no queue entry points to");
            }
        }
        if place.is_none() {
            self.lock().sizes.insert(queue.slot(), None);
            self.remove_dirs(queue.topic(), queue.id());
        }
        Ok(())
    }

    /// Whether a queue has such files.
    pub(crate) fn has(&self, queue: &Queue) -> bool {
        matches!(self.size(queue), Ok(Some(_)))
    }

    /// Removes all files of a queue that is gone.
    pub(crate) fn remove(&self, queue: &Queue) -> io::Result<()> {
        for base in self.bases(queue.topic(), queue.id())? {
            let dir = self.dir(queue.topic(), queue.id());
            self.disk.remove(&dir.join(name::of(base)))?;
        }
        let mut known = self.lock();
        known.sizes.remove(&queue.slot());
        known.open.retain(|(slot, _), _| *slot != queue.slot());
        drop(known);
        self.remove_dirs(queue.topic(), queue.id());
        Ok(())
    }

    fn size(&self, queue: &Queue) -> io::Result<Option<u64>> {
        if let Some(size) = self.lock().sizes.get(&queue.slot()) {
            return Ok(*size);
        }
        let listed = match self.disk.list(&self.dir(queue.topic(), queue.id())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let files = listed.iter().filter(|one| !one.is_dir && one.len > 0);
        let size = files
            .filter_map(|one| name::parse(&one.name).map(|base| (base, one.len)))
            .find(|(base, len)| base.is_multiple_of(*len))
            .map(|(_, len)| len);
        self.lock().sizes.insert(queue.slot(), size);
        Ok(size)
    }

    fn file(&self, queue: &Queue, base: u64) -> io::Result<Option<Arc<dyn File>>> {
        let key = (queue.slot(), base);
        if let Some(file) = self.lock().open.get(&key) {
            return Ok(Some(Arc::clone(file)));
        }
        let path = self.dir(queue.topic(), queue.id()).join(name::of(base));
        let file = match self.disk.open(&path, Open::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut known = self.lock();
        if known.open.len() >= OPEN_MAX {
            known.open.clear();
        }
        known.open.insert(key, Arc::clone(&file));
        Ok(Some(file))
    }

    fn bases(&self, topic: &str, id: QueueId) -> io::Result<Vec<u64>> {
        match self.disk.list(&self.dir(topic, id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => Ok(other?
                .iter()
                .filter(|one| !one.is_dir)
                .filter_map(|one| name::parse(&one.name))
                .collect()),
        }
    }

    fn remove_dirs(&self, topic: &str, id: QueueId) {
        // Directories with something else in them stay, and that is no fault.
        let _ = self.disk.remove_dir(&self.dir(topic, id));
        let _ = self.disk.remove_dir(&self.root.join(topic));
    }

    fn dir(&self, topic: &str, id: QueueId) -> PathBuf {
        self.root.join(topic).join(id.to_string())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
