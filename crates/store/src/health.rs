//! Whether the store takes messages, and if not, why.
//!
//! The first failed write or sync latches: nothing un-latches it but a restart, because after a failed sync nobody
//! knows what is on the disk. A full disk and queues that cannot be written clear themselves.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::AppendError;
use crate::watermark::Watermark;

const SHUT_DOWN: u32 = 1;
const LATCHED: u32 = 2;
const DISK_FULL: u32 = 4;
const QUEUES_BEHIND: u32 = 8;
const SEALED: u32 = 16;

/// So many queue entries may wait in memory when the disk does not take them.
pub(crate) const QUEUE_ENTRIES_WAITING_MAX: u64 = 4 << 20;

/// What failed when a store latched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A file could not be made.
    Create,
    /// A write failed.
    Write,
    /// What a failed write left behind could not be zeroed.
    Zero,
    /// A sync failed.
    Sync,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 4] = [Self::Create, Self::Write, Self::Zero, Self::Sync];

    /// One word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "creation",
            Self::Write => "write",
            Self::Zero => "zeroing",
            Self::Sync => "sync",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why the store takes no messages, if it does not.
#[derive(Debug, Default)]
pub(crate) struct Health {
    flags: AtomicU32,
    latched: OnceLock<Latched>,
    /// How often it latched: 0, or 1 for ever. For those who wait for it.
    latches: Watermark,
    full: Mutex<Option<Full>>,
    sealed: Mutex<Option<Arc<str>>>,
    waiting: AtomicU64,
}

#[derive(Clone, Debug)]
struct Latched {
    fault: Fault,
    error: Arc<str>,
    since: Instant,
}

#[derive(Clone, Debug)]
struct Full {
    dir: Arc<Path>,
    used: u64,
    limit: u64,
}

impl Health {
    /// One load while all is well.
    pub(crate) fn check(&self) -> Result<(), AppendError> {
        let flags = self.flags.load(Ordering::Acquire);
        if flags == 0 {
            Ok(())
        } else {
            Err(self.reason(flags))
        }
    }

    /// As [`Health::check`], for what another log has taken already: neither a disk that is too full for new messages
    /// nor a seal counts.
    pub(crate) fn check_for_copy(&self) -> Result<(), AppendError> {
        match self.flags.load(Ordering::Acquire) & !(DISK_FULL | SEALED) {
            0 => Ok(()),
            flags => Err(self.reason(flags)),
        }
    }

    fn reason(&self, flags: u32) -> AppendError {
        if flags & SHUT_DOWN != 0 {
            return AppendError::ShutDown;
        }
        if let Some(error) = self.latched() {
            return AppendError::Latched { error };
        }
        let sealed = self.sealed();
        if let Some(why) = sealed.filter(|_| flags & SEALED != 0) {
            return AppendError::Sealed { why };
        }
        let full = self
            .full
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(Full { dir, used, limit }) = full {
            return AppendError::DiskFull { dir, used, limit };
        }
        let waiting = self.waiting.load(Ordering::Relaxed);
        AppendError::QueuesBehind {
            waiting,
            limit: QUEUE_ENTRIES_WAITING_MAX,
        }
    }

    /// Takes no messages any more, because of what happened to a file. Only the first failure counts. Returns the
    /// reason that messages are refused for.
    pub(crate) fn latch(&self, fault: Fault, path: &Path, error: &io::Error) -> AppendError {
        let mut first = false;
        let latched = self.latched.get_or_init(|| {
            first = true;
            let error = format!("{fault} of {}: {error}", path.display()).into();
            let since = Instant::now();
            Latched {
                fault,
                error,
                since,
            }
        });
        let error = Arc::clone(&latched.error);
        self.flags.fetch_or(LATCHED, Ordering::AcqRel);
        if first {
            tracing::error!(
                error = &*error,
                "the store takes no messages until it is restarted"
            );
            self.latches.advance(1);
        }
        AppendError::Latched { error }
    }

    pub(crate) fn latched(&self) -> Option<Arc<str>> {
        self.latched.get().map(|latched| Arc::clone(&latched.error))
    }

    /// What failed when it latched.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.latched.get().map(|latched| latched.fault)
    }

    /// For how long it has been latched.
    pub(crate) fn latched_for(&self) -> Option<Duration> {
        self.latched.get().map(|latched| latched.since.elapsed())
    }

    pub(crate) fn latches(&self) -> &Watermark {
        &self.latches
    }

    pub(crate) fn shut_down(&self) {
        self.flags.fetch_or(SHUT_DOWN, Ordering::AcqRel);
    }

    /// Whether a clean stop may be claimed: Apache keeps `abort` when the disk is full, and so do we.
    pub(crate) fn may_stop_cleanly(&self) -> bool {
        self.flags.load(Ordering::Acquire) & (LATCHED | DISK_FULL | QUEUES_BEHIND) == 0
    }

    pub(crate) fn disk_full(&self, dir: &Path, used: u64, limit: u64) {
        let full = Full {
            dir: dir.into(),
            used,
            limit,
        };
        let before = self
            .full
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(full);
        if before.is_none() {
            tracing::error!(dir = %dir.display(), used, limit, "the disk is full, messages are refused");
        }
        self.flags.fetch_or(DISK_FULL, Ordering::AcqRel);
    }

    pub(crate) fn disk_has_space(&self) {
        if self
            .full
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .is_some()
        {
            tracing::info!("the disk has space again, messages are taken");
        }
        self.flags.fetch_and(!DISK_FULL, Ordering::AcqRel);
    }

    /// Why messages are not wanted, if they are not.
    pub(crate) fn sealed(&self) -> Option<Arc<str>> {
        let sealed = self.sealed.lock();
        sealed.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes no new messages as long as there is a reason.
    pub(crate) fn seal(&self, why: Option<Arc<str>>) {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_sealed = why.is_some();
        *sealed = why;
        // Under the lock, so that the last call decides both.
        if is_sealed {
            self.flags.fetch_or(SEALED, Ordering::AcqRel);
        } else {
            self.flags.fetch_and(!SEALED, Ordering::AcqRel);
        }
    }

    /// Queue entries that could not be written.
    pub(crate) fn entries_waiting(&self, waiting: u64) {
        self.waiting.store(waiting, Ordering::Relaxed);
        if waiting > QUEUE_ENTRIES_WAITING_MAX {
            self.flags.fetch_or(QUEUES_BEHIND, Ordering::AcqRel);
        } else {
            self.flags.fetch_and(!QUEUES_BEHIND, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_stays_the_reason() {
        let health = Health::default();
        assert_eq!(health.check(), Ok(()));
        let eio = io::Error::other("EIO");
        let refused = health.latch(Fault::Write, Path::new("/a"), &eio);
        assert_eq!(health.latch(Fault::Sync, Path::new("/b"), &eio), refused);
        assert_eq!(health.check(), Err(refused.clone()));
        assert_eq!(
            refused.to_string(),
            "the store takes no messages since write of /a: EIO"
        );
        assert_eq!(
            (health.fault(), health.latches().value()),
            (Some(Fault::Write), 1)
        );
        assert!(!health.may_stop_cleanly());
    }

    #[test]
    fn a_sealed_store_takes_copies_and_no_messages() {
        let health = Health::default();
        health.seal(Some("read only".into()));
        assert_eq!(health.check().unwrap_err().to_string(), "read only");
        assert_eq!(health.check_for_copy(), Ok(()));
        assert!(health.may_stop_cleanly());
        health.disk_full(Path::new("/d"), 91, 90);
        assert_eq!(health.check().unwrap_err().reason(), "sealed");
        health.seal(None);
        assert_eq!(health.check().unwrap_err().reason(), "disk_full");
    }

    #[test]
    fn a_full_disk_clears_itself() {
        let health = Health::default();
        health.disk_full(Path::new("/d"), 91, 90);
        assert_eq!(
            health.check().unwrap_err().to_string(),
            "the disk of /d is 91 % full, the limit is 90 %"
        );
        health.disk_has_space();
        assert_eq!(health.check(), Ok(()));
        health.shut_down();
        assert_eq!(health.check(), Err(AppendError::ShutDown));
    }
}
