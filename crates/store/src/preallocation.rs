//! The next segments of the log, made ahead on a thread of their own, so that no commit waits for the file system.
//!
//! A commit that finds none makes it itself. What was made and not used is removed at a clean stop. Where there is no
//! space for the next one, commits that need it are refused at once, and only the thread tries again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gantry_disk::{Disk, is_no_space};

use crate::log::ENOSPC;
use crate::segment::Segment;

/// Without space, the thread tries again so often.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// So long it sleeps while nobody wants anything.
const REST: Duration = Duration::from_hours(1);

/// Segments that are made but not yet part of the log.
#[derive(Debug)]
pub(crate) struct Preallocation {
    disk: Arc<dyn Disk>,
    /// Where new segments go, sorted.
    dirs: Vec<PathBuf>,
    /// Those of them that are too full, as the cleaner last saw it.
    full: Mutex<Vec<PathBuf>>,
    segment_size: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wanted: Option<u64>,
    /// The thread makes this one right now.
    making: Option<u64>,
    ready: Vec<Arc<Segment>>,
    /// There was no space for this one.
    lacking: Option<Lacking>,
    stopped: bool,
}

#[derive(Debug)]
struct Lacking {
    start: u64,
    path: PathBuf,
    errno: i32,
    /// `None`: try at once.
    tried_at: Option<Instant>,
}

impl Lacking {
    fn is_due(&self) -> bool {
        self.tried_at.is_none_or(|at| at.elapsed() >= TRY_EVERY)
    }
}

impl State {
    fn note(&mut self, start: u64, path: &Path, error: &io::Error) {
        let tried_at = Some(Instant::now());
        if !is_no_space(error) {
            self.lacking = None;
            tracing::warn!(path = %path.display(), %error, "cannot prepare the next log segment");
        } else if let Some(lacking) = &mut self.lacking {
            lacking.tried_at = tried_at;
        } else {
            tracing::error!(path = %path.display(), %error, "no space for the next log segment, messages that need it are refused until there is");
            let (path, errno) = (path.to_owned(), error.raw_os_error().unwrap_or(ENOSPC));
            self.lacking = Some(Lacking {
                start,
                path,
                errno,
                tried_at,
            });
        }
    }
}

impl Preallocation {
    /// There is at least one directory.
    pub(crate) fn new(disk: Arc<dyn Disk>, dirs: Vec<PathBuf>, segment_size: u64) -> Self {
        assert!(!dirs.is_empty(), "segments are made somewhere");
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self {
            disk,
            dirs,
            full: Mutex::default(),
            segment_size,
            state,
            changed,
        }
    }

    pub(crate) fn segment_size(&self) -> u64 {
        self.segment_size
    }

    /// Asks the thread for the segment at `start`.
    pub(crate) fn want(&self, start: u64) {
        let mut state = self.lock();
        if state.making != Some(start)
            && !state.ready.iter().any(|segment| segment.start() == start)
        {
            state.wanted = Some(start);
            self.changed.notify_all();
        }
    }

    /// The segment at `start`: the prepared one, else a new one. The second value says what could not be done where.
    pub(crate) fn take(&self, start: u64) -> Result<Arc<Segment>, (PathBuf, io::Error)> {
        let mut state = self.lock();
        while state.making == Some(start) {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(at) = state
            .ready
            .iter()
            .position(|segment| segment.start() == start)
        {
            return Ok(state.ready.swap_remove(at));
        }
        if let Some(lacking) = state
            .lacking
            .as_ref()
            .filter(|lacking| lacking.start == start)
        {
            let error = io::Error::from_raw_os_error(lacking.errno);
            return Err((lacking.path.clone(), error));
        }
        state.wanted = state.wanted.filter(|&wanted| wanted != start);
        drop(state);
        let made = self.make(start);
        if let Err((path, error)) = &made {
            self.lock().note(start, path, error);
            self.changed.notify_all();
        }
        made
    }

    /// Whether the next segment found no space.
    pub(crate) fn lacks_space(&self) -> bool {
        self.lock().lacking.is_some()
    }

    /// There may be space now.
    pub(crate) fn try_again(&self) {
        if let Some(lacking) = &mut self.lock().lacking {
            lacking.tried_at = None;
            self.changed.notify_all();
        }
    }

    /// Takes back segments that a failed commit did not use.
    pub(crate) fn put_back(&self, segments: impl IntoIterator<Item = Arc<Segment>>) {
        self.lock().ready.extend(segments);
    }

    /// The thread: makes what is wanted until it is stopped.
    pub(crate) fn run(&self) {
        while self.make_wanted(true) {}
    }

    /// Makes what is wanted, if anything is; waits for it when `patient`. Returns false once it is stopped.
    pub(crate) fn make_wanted(&self, patient: bool) -> bool {
        let mut state = self.lock();
        let start = loop {
            if state.stopped {
                return false;
            }
            if let Some(start) = state.wanted.take() {
                break start;
            }
            let wait = match &state.lacking {
                Some(lacking) if !patient || lacking.is_due() => break lacking.start,
                None if !patient => return true,
                Some(_) => TRY_EVERY,
                None => REST,
            };
            let waited = self.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.making = Some(start);
        drop(state);
        let made = self.make(start);
        let mut state = self.lock();
        state.making = None;
        match made {
            Ok(segment) => {
                state.ready.push(segment);
                if state.lacking.take().is_some() {
                    tracing::info!("there is space for the next log segment again");
                }
            }
            // The commit that needs it will try again and refuse its messages if it must.
            Err((path, error)) => state.note(start, &path, &error),
        }
        self.changed.notify_all();
        true
    }

    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Removes what was made and not used.
    pub(crate) fn remove_unused(&self) {
        for segment in std::mem::take(&mut self.lock().ready) {
            if let Err(error) = self.disk.remove(segment.path()) {
                tracing::warn!(path = %segment.path().display(), %error, "cannot remove an unused log segment");
            }
        }
    }

    /// Tells which directories should get no new segments while others can take them.
    pub(crate) fn set_full(&self, full: Vec<PathBuf>) {
        *self.full.lock().unwrap_or_else(PoisonError::into_inner) = full;
    }

    fn make(&self, start: u64) -> Result<Arc<Segment>, (PathBuf, io::Error)> {
        let dir = self.dir_of(start);
        // To try would take all that is left from those who need less.
        let has_space = self
            .disk
            .usage(&dir)
            .is_ok_and(|usage| usage.total == 0 || self.segment_size <= usage.available);
        let made = if has_space {
            Segment::create(&*self.disk, &dir, start, self.segment_size)
        } else {
            Err(io::Error::from_raw_os_error(ENOSPC))
        };
        made.map(Arc::new)
            .map_err(|error| (dir.join(crate::format::name::of(start)), error))
    }

    fn dir_of(&self, start: u64) -> PathBuf {
        let full = self
            .full
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let roomy: Vec<&Path> = self
            .dirs
            .iter()
            .map(PathBuf::as_path)
            .filter(|dir| !full.iter().any(|full| full == dir))
            .collect();
        let all: Vec<&Path> = self.dirs.iter().map(PathBuf::as_path).collect();
        let dirs = if roomy.is_empty() { all } else { roomy };
        let at = (start / self.segment_size) % crate::width::wide(dirs.len().max(1));
        dirs.get(crate::width::narrow(at))
            .map(|dir| dir.to_path_buf())
            .unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use gantry_disk::faulty::FaultyDisk;

    use super::*;

    #[test]
    fn segments_take_turns_in_folders_that_have_room() {
        let disk = FaultyDisk::new(1);
        let dirs = ["/a", "/b", "/c"].map(PathBuf::from);
        for dir in &dirs {
            disk.create_dirs(dir).unwrap();
        }
        let preallocation = Preallocation::new(Arc::new(disk), dirs.to_vec(), 4096);
        let folders = |full: &[&str]| {
            preallocation.set_full(full.iter().map(PathBuf::from).collect());
            (0..6)
                .map(|number| preallocation.dir_of(number * 4096).display().to_string())
                .collect::<String>()
        };
        assert_eq!(folders(&[]), "/a/b/c/a/b/c");
        assert_eq!(folders(&["/b"]), "/a/c/a/c/a/c");
        assert_eq!(folders(&["/a", "/c"]), "/b/b/b/b/b/b");
        // Somewhere it must go.
        assert_eq!(folders(&["/a", "/b", "/c"]), "/a/b/c/a/b/c");
    }

    #[test]
    fn without_space_a_send_is_refused_at_once_and_the_background_tries_again() {
        let disk = FaultyDisk::new(1);
        disk.create_dirs(Path::new("/a")).unwrap();
        disk.set_capacity(100);
        let preallocation = Preallocation::new(Arc::new(disk.clone()), vec!["/a".into()], 4096);
        assert!(preallocation.take(0).is_err() && preallocation.lacks_space());
        disk.set_capacity(10_000);
        assert!(is_no_space(&preallocation.take(0).unwrap_err().1));
        assert!(preallocation.make_wanted(false));
        assert!(!preallocation.lacks_space());
        assert_eq!(preallocation.take(0).unwrap().start(), 0);
    }
}
