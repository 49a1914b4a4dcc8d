//! When a send that is stored is answered, and with which code: what it waits for, against how far things are. Pure.

use gantry_message::LogOffset;
use gantry_wire::codes::response;
use tokio::time::Instant;

/// What a stored message waits for.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// Where it ends in the log.
    pub end: LogOffset,
    /// Until when it waits for the disk; `None` if it does not.
    pub sync_by: Option<Instant>,
    /// What it waits for at the slaves.
    pub copy: Replica,
}

/// What a message waits for at the slaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Replica {
    /// Nothing: no copy is promised.
    Unasked,
    /// There is no slave, or none that is near enough.
    Missing,
    /// A slave, until then.
    By(Instant),
}

/// How far the disk and the slaves are.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// What is below is durable.
    pub flushed: u64,
    /// What is below has its copies.
    pub replicated: u64,
}

/// How far things are when waiting sends are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// How far the disk and the slaves are.
    pub seen: Seen,
    /// Whether a copy that is late is done without.
    pub excuses: bool,
    /// No later sync and no later copy can be believed.
    pub is_over: bool,
    /// The time.
    pub now: Instant,
}

impl Waits {
    /// The answer's code, once there is one.
    pub fn code(&self, progress: &Progress) -> Option<i32> {
        let Progress {
            excuses,
            is_over,
            now,
            seen: Seen {
                flushed,
                replicated,
            },
        } = *progress;
        let sync = match self.sync_by {
            Some(_) if self.end.0 <= flushed => Some(response::SUCCESS),
            Some(by) if is_over || by <= now => Some(response::FLUSH_DISK_TIMEOUT),
            Some(_) => None,
            None => Some(response::SUCCESS),
        };
        let copy = match self.copy {
            Replica::Unasked => Some(response::SUCCESS),
            Replica::Missing => Some(response::SLAVE_NOT_AVAILABLE),
            Replica::By(_) if self.end.0 <= replicated => Some(response::SUCCESS),
            Replica::By(by) if !is_over && excuses && by <= now => Some(response::SUCCESS),
            Replica::By(by) if is_over || by <= now => Some(response::FLUSH_SLAVE_TIMEOUT),
            Replica::By(_) => None,
        };
        match (sync?, copy?) {
            (sync, response::SUCCESS) => Some(sync),
            (_, copy) => Some(copy),
        }
    }

    /// Whether an answer now would do without the copy that was promised.
    pub fn is_excused(&self, progress: &Progress) -> bool {
        let is_late = matches!(self.copy, Replica::By(_)) && progress.seen.replicated < self.end.0;
        is_late && progress.excuses && !progress.is_over
    }

    /// When something changes for it without anybody's doing.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let copy_by = match self.copy {
            Replica::By(by) => Some(by),
            Replica::Unasked | Replica::Missing => None,
        };
        let all = self.sync_by.into_iter().chain(copy_by);
        all.filter(|by| now < *by).min()
    }
}
