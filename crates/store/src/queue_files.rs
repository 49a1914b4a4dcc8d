//! The files of all queues: `consumequeue/<topic>/<id>/<byte offset>`, opened when needed, a few kept open.
//!
//! Full size from creation on, sparse. What was written and not yet synced is remembered by name, not by descriptor.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_disk::{Disk, File, New, Open};
use gantry_message::{Millis, QueueId};
use rustc_hash::FxHashMap;

use crate::format::entry::{self, Entry};
use crate::format::name;
use crate::queue::{Queue, fillers};
use crate::width::{narrow, wide};

/// So many files stay open.
const OPEN_MAX: usize = 256;
/// With more unsynced files than this, the whole file system is synced instead.
const SYNCED_ONE_BY_ONE: usize = 64;

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Never,
    ForDisk,
}

/// The files of all queues.
#[derive(Debug)]
pub(crate) struct QueueFiles {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    open: Mutex<OpenFiles>,
    unsynced: Mutex<Unsynced>,
    /// Held while what was unsynced is synced.
    syncing: Mutex<()>,
    /// Held while a file of a queue is removed or mended. Never across a pause; taken before the two above.
    changing: Mutex<()>,
}

/// What is not yet durable.
#[derive(Debug, Default)]
struct Unsynced {
    /// Invariant: together with `dirs` at most [`SYNCED_ONE_BY_ONE`]; both are empty when there are `many`.
    files: BTreeSet<PathBuf>,
    /// Directories with new names.
    dirs: BTreeSet<PathBuf>,
    many: bool,
}

#[derive(Debug, Default)]
struct OpenFiles {
    /// By queue and first byte: the file and when it was last used.
    files: FxHashMap<(usize, u64), (Arc<dyn File>, u64)>,
    uses: u64,
}

impl QueueFiles {
    /// `root` is the `consumequeue` directory.
    pub(crate) fn new(disk: Arc<dyn Disk>, root: PathBuf) -> Self {
        Self {
            disk,
            root,
            open: Mutex::default(),
            unsynced: Mutex::default(),
            syncing: Mutex::default(),
            changing: Mutex::default(),
        }
    }

    pub(crate) fn root(&self) -> &PathBuf {
        &self.root
    }

    pub(crate) fn dir_of(&self, topic: &str, id: QueueId) -> PathBuf {
        self.root.join(topic).join(id.to_string())
    }

    fn dir(&self, queue: &Queue) -> PathBuf {
        self.dir_of(queue.topic(), queue.id())
    }

    /// Reads entries that are all in one file. Fails with `WouldBlock` when the disk must not be waited for and would
    /// have to be.
    pub(crate) fn read(
        &self,
        queue: &Queue,
        from: u64,
        into: &mut [u8],
        wait: Wait,
    ) -> io::Result<()> {
        let at = from * entry::LEN;
        let base = at - at % queue.file_size();
        match wait {
            Wait::ForDisk => self
                .file(queue, base, Open::Write)?
                .read_exact_at(into, at - base),
            Wait::Never => {
                let open = lock(&self.open).get((queue.slot(), base));
                let read = open.map_or(Ok(None), |file| file.read_now(into, at - base))?;
                read.map(|_| ()).ok_or(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    /// Writes entries, into as many files as they take.
    pub(crate) fn write(
        &self,
        queue: &Queue,
        from: u64,
        bytes: &[u8],
        time: Millis,
    ) -> io::Result<()> {
        let mut at = from * entry::LEN;
        let mut rest = bytes;
        while !rest.is_empty() {
            let base = at - at % queue.file_size();
            let (now, later) = rest.split_at(rest.len().min(narrow(base + queue.file_size() - at)));
            let file = self.file_for_writing(queue, base, at)?;
            file.write_at(now, at - base)?;
            self.keep_time(queue, base, time);
            self.note_unsynced(queue, base);
            at += wide(now.len());
            rest = later;
        }
        Ok(())
    }

    /// The file of an entry.
    pub(crate) fn path(&self, queue: &Queue, at: u64) -> PathBuf {
        let at = at * entry::LEN;
        self.dir(queue).join(name::of(at - at % queue.file_size()))
    }

    /// Changes files of a queue, unless it is deleted: another one that began anew may have files of the same names.
    pub(crate) fn unless_deleted(
        &self,
        queue: &Queue,
        change: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let _changing = lock(&self.changing);
        if queue.is_deleted() { Ok(()) } else { change() }
    }

    /// Writes an entry in place of a damaged one. The file keeps its time.
    pub(crate) fn mend(&self, queue: &Queue, at: u64, entry: &Entry) -> io::Result<()> {
        self.unless_deleted(queue, || self.mend_now(queue, at, entry))
    }

    fn mend_now(&self, queue: &Queue, at: u64, entry: &Entry) -> io::Result<()> {
        let path = self.path(queue, at);
        let modified = self.disk.meta(&path)?.map(|meta| meta.modified);
        let at = at * entry::LEN;
        let base = at - at % queue.file_size();
        let file = self.file(queue, base, Open::Write)?;
        file.write_at(&entry.encode(), at - base)?;
        lock(&self.unsynced).add_file(path.clone());
        modified.map_or(Ok(()), |time| self.disk.set_modified(&path, time))
    }

    /// The file that starts at `base`; a new one gets fillers up to `first`, for Apache reads from its start.
    fn file_for_writing(&self, queue: &Queue, base: u64, first: u64) -> io::Result<Arc<dyn File>> {
        match self.file(queue, base, Open::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let dir = self.dir(queue);
        self.disk.create_dirs(&dir)?;
        let path = dir.join(name::of(base));
        let before = fillers((first - base) / entry::LEN);
        let new = New {
            len: queue.file_size(),
            start: &before,
            ..New::default()
        };
        let file = self.disk.create(&path, new)?;
        lock(&self.open).put((queue.slot(), base), Arc::clone(&file));
        let parents = dir.parent().map(PathBuf::from);
        lock(&self.unsynced).add_dirs(parents.into_iter().chain([self.root.clone(), dir]));
        Ok(file)
    }

    /// Apache finds messages by time through the files' times: one that is written late gets the time of its entries.
    fn keep_time(&self, queue: &Queue, base: u64, time: Millis) {
        let Ok(millis) = u64::try_from(time.0) else {
            return;
        };
        let time = UNIX_EPOCH + Duration::from_millis(millis);
        let is_late = SystemTime::now()
            .duration_since(time)
            .is_ok_and(|late| late > Duration::from_mins(1));
        if !is_late {
            return;
        }
        let path = self.dir(queue).join(name::of(base));
        if let Err(error) = self.disk.set_modified(&path, time) {
            tracing::debug!(path = %path.display(), %error, "cannot set the time of a queue file");
        }
    }

    fn note_unsynced(&self, queue: &Queue, base: u64) {
        let mut unsynced = lock(&self.unsynced);
        if !unsynced.many {
            unsynced.add_file(self.dir(queue).join(name::of(base)));
        }
    }

    fn file(&self, queue: &Queue, base: u64, how: Open) -> io::Result<Arc<dyn File>> {
        let key = (queue.slot(), base);
        if let Some(file) = lock(&self.open).get(key) {
            return Ok(file);
        }
        let file = self.disk.open(&self.dir(queue).join(name::of(base)), how)?;
        lock(&self.open).put(key, Arc::clone(&file));
        Ok(file)
    }

    /// Makes everything durable that was written before the call.
    pub(crate) fn sync(&self) -> Result<(), (PathBuf, io::Error)> {
        let _syncing = lock(&self.syncing);
        let unsynced = std::mem::take(&mut *lock(&self.unsynced));
        self.sync_those(&unsynced).inspect_err(|_| {
            // What can still be synced later is: a descriptor may be had again.
            lock(&self.unsynced).add_all(unsynced);
        })
    }

    /// Another process wrote files and may have synced none of them: they count as unsynced.
    pub(crate) fn distrust(&self) {
        lock(&self.unsynced).add_all(Unsynced {
            many: true,
            ..Unsynced::default()
        });
    }

    /// Makes a file of a queue durable, with its name, unless it is.
    pub(crate) fn settle(&self, queue: &Queue, base: u64) -> Result<(), (PathBuf, io::Error)> {
        let _syncing = lock(&self.syncing);
        let dir = self.dir(queue);
        let path = dir.join(name::of(base));
        let parents = [dir.parent().map(PathBuf::from), Some(self.root.clone())];
        let dirs = [dir].into_iter().chain(parents.into_iter().flatten());
        let mut those = Unsynced::default();
        {
            let unsynced = lock(&self.unsynced);
            let is_not =
                |path: &PathBuf, paths: &BTreeSet<PathBuf>| unsynced.many || paths.contains(path);
            those
                .files
                .extend(Some(path).filter(|path| is_not(path, &unsynced.files)));
            those
                .dirs
                .extend(dirs.filter(|dir| is_not(dir, &unsynced.dirs)));
        }
        self.sync_those(&those)
    }

    /// Makes it durable which files a queue has.
    pub(crate) fn sync_names(&self, queue: &Queue) -> io::Result<()> {
        self.disk.sync_dir(&self.dir(queue))
    }

    fn sync_those(&self, unsynced: &Unsynced) -> Result<(), (PathBuf, io::Error)> {
        if unsynced.many {
            return self
                .disk
                .sync_all(&self.root)
                .map_err(|error| (self.root.clone(), error));
        }
        for path in &unsynced.files {
            let synced = self
                .disk
                .open(path, Open::Write)
                .and_then(|file| file.sync());
            gone_is_fine(synced).map_err(|error| (path.clone(), error))?;
        }
        for dir in &unsynced.dirs {
            gone_is_fine(self.disk.sync_dir(dir)).map_err(|error| (dir.clone(), error))?;
        }
        Ok(())
    }

    /// Where the queue's files start, in bytes.
    pub(crate) fn bases(&self, queue: &Queue) -> io::Result<Vec<u64>> {
        let listed = match self.disk.list(&self.dir(queue)) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        Ok(listed
            .iter()
            .filter(|one| !one.is_dir)
            .filter_map(|one| name::parse(&one.name))
            .collect())
    }

    /// Takes away what is behind `max`: in its file, which stays sparse there, and the files behind that. The first file
    /// stays, for its name says where the queue begins.
    pub(crate) fn cut(&self, queue: &Queue, max: u64) -> io::Result<()> {
        let end = max * entry::LEN;
        let bases = self.bases(queue)?;
        for &base in &bases {
            if base >= end && bases.first() != Some(&base) {
                self.remove_file(queue, base)?;
            } else if base + queue.file_size() > end {
                let file = self.file(queue, base, Open::Write)?;
                // At no moment shorter: a power cut would leave it so, and the length of files says how they are cut up.
                file.zero(end.saturating_sub(base)..queue.file_size())?;
                self.note_unsynced(queue, base);
            }
        }
        Ok(())
    }

    /// Lets a queue begin at `first`: what its files hold before that is of messages that are lost.
    pub(crate) fn begin(&self, queue: &Queue, first: u64) -> io::Result<()> {
        let end = first * entry::LEN;
        for base in self.bases(queue)? {
            if base + queue.file_size() <= end {
                self.remove_file(queue, base)?;
            } else if base < end {
                let file = self.file(queue, base, Open::Write)?;
                file.write_at(&fillers((end - base) / entry::LEN), 0)?;
                self.note_unsynced(queue, base);
            }
        }
        Ok(())
    }

    /// Cuts behind `max` when something is there.
    pub(crate) fn cut_if_needed(&self, queue: &Queue, max: u64) -> io::Result<()> {
        let at = max * entry::LEN;
        let base = at - at % queue.file_size();
        let mut next = [0; 20];
        let is_clean = match self.file(queue, base, Open::Write) {
            Ok(file) => file.read_at(&mut next, at - base)? > 0 && next == [0; 20],
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        let has_more = self.bases(queue)?.last().is_some_and(|&last| last > base);
        if is_clean && !has_more {
            Ok(())
        } else {
            self.cut(queue, max)
        }
    }

    /// Sets the queue's first readable offset: the first entry that points at or behind `log_min`. Entries that cannot
    /// be read leave it where it is.
    pub(crate) fn correct_min(&self, queue: &Queue, log_min: u64) {
        let entry = |at| queue.entry(self, at).ok().flatten();
        queue.set_min(first_live(queue.min().0, queue.max().0, log_min, entry));
    }

    /// Removes the file that starts at `base`.
    pub(crate) fn remove_file(&self, queue: &Queue, base: u64) -> io::Result<()> {
        lock(&self.open).files.remove(&(queue.slot(), base));
        gone_is_fine(self.disk.remove(&self.dir(queue).join(name::of(base))))
    }

    /// Removes all files of a deleted queue, durably, and the directories that are empty then. Behind this nobody changes
    /// files of that name for its sake, and none comes back in a power cut into a queue that began anew.
    pub(crate) fn remove(&self, queue: &Queue) -> io::Result<()> {
        let _changing = lock(&self.changing);
        for base in self.bases(queue)? {
            self.remove_file(queue, base)?;
        }
        let dir = self.dir(queue);
        gone_is_fine(self.disk.sync_dir(&dir))?;
        // Directories with something else in them stay, and that is no fault.
        let _ = self.disk.remove_dir(&dir);
        if let Some(topic) = dir.parent() {
            let _ = self.disk.remove_dir(topic);
        }
        Ok(())
    }
}

/// The first of the entries `low..end` that points at or behind `log_min`; `end` when none does.
pub(crate) fn first_live(
    first: u64,
    end: u64,
    log_min: u64,
    mut entry: impl FnMut(u64) -> Option<Entry>,
) -> u64 {
    let mut real = |at| entry(at).filter(|entry| !entry.is_filler());
    // Most queues begin where they began; look there first.
    if first < end && real(first).is_some_and(|entry| entry.log_offset.0 >= log_min) {
        return first;
    }
    let (mut low, mut high) = (first, end);
    while low < high {
        let middle = low + (high - low) / 2;
        // Whether the first real entry from there on points there, or there is none.
        let next = (middle..high).find_map(&mut real);
        if next.is_none_or(|entry| entry.log_offset.0 >= log_min) {
            high = middle
        } else {
            low = middle + 1
        }
    }
    // An entry that is damaged must not hide those before it.
    let mut is_live = |at: u64| real(at).is_some_and(|entry| entry.log_offset.0 >= log_min);
    while low >= first + 2 && (is_live(low - 1) || is_live(low - 2)) {
        low -= 1;
    }
    while low < end && real(low).is_none() {
        low += 1;
    }
    low
}

impl Unsynced {
    fn add_file(&mut self, path: PathBuf) {
        self.files.insert(path);
        self.limit();
    }

    fn add_dirs(&mut self, dirs: impl IntoIterator<Item = PathBuf>) {
        if !self.many {
            self.dirs.extend(dirs);
            self.limit();
        }
    }

    fn add_all(&mut self, other: Unsynced) {
        self.files.extend(other.files);
        self.dirs.extend(other.dirs);
        self.many |= other.many;
        self.limit();
    }

    /// No more names are kept than are synced one by one.
    fn limit(&mut self) {
        if self.many || self.files.len() + self.dirs.len() > SYNCED_ONE_BY_ONE {
            *self = Unsynced {
                many: true,
                ..Unsynced::default()
            };
        }
    }
}

impl OpenFiles {
    fn get(&mut self, key: (usize, u64)) -> Option<Arc<dyn File>> {
        self.uses += 1;
        let (file, used) = self.files.get_mut(&key)?;
        *used = self.uses;
        Some(Arc::clone(file))
    }

    fn put(&mut self, key: (usize, u64), file: Arc<dyn File>) {
        if self.files.len() >= OPEN_MAX {
            // Half go at once, so that finding them costs little a file.
            let mut uses: Vec<u64> = self.files.values().map(|(_, used)| *used).collect();
            let (_, &mut median, _) = uses.select_nth_unstable(OPEN_MAX / 2);
            self.files.retain(|_, (_, used)| *used > median);
        }
        self.files.insert(key, (file, self.uses));
    }
}

fn gone_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
