//! The next segments of the log, made ahead on a thread of their own, so that no commit waits for the file system.
//!
//! A commit that finds none makes it itself. What was made and not used is removed at a clean stop.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use gantry_disk::Disk;

use crate::segment::Segment;

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
    stopped: bool,
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
        state.wanted = state.wanted.filter(|&wanted| wanted != start);
        drop(state);
        self.make(start)
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
            if !patient {
                return true;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        };
        state.making = Some(start);
        drop(state);
        let made = self.make(start);
        let mut state = self.lock();
        state.making = None;
        match made {
            Ok(segment) => state.ready.push(segment),
            // The commit that needs it will try again and refuse its messages if it must.
            Err((path, error)) => {
                tracing::warn!(path = %path.display(), %error, "cannot prepare the next log segment");
            }
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
        let made = Segment::create(&*self.disk, &dir, start, self.segment_size);
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
