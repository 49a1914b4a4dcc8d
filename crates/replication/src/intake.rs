//! What a slave does with the bytes of one link: [`Slave`] says what they mean, [`Store::copy`] takes them, and a report
//! says no more than what is stored then.
//!
//! Bytes and the time are arguments, as in the two ends; only the store is real. [`crate::Follower`] puts a socket and a
//! thread around it.

use std::time::Instant;

use gantry_message::LogOffset;
use gantry_store::{CopyError, Store};

use crate::{Following, Received, Refusal, Short, Slave, Wire};

/// What is kept of memory when nothing waits.
const KEPT: usize = 4 << 20;

/// What one link brings.
#[derive(Debug)]
pub struct Intake {
    slave: Slave,
    syncs: bool,
    /// What came and is not stored yet: the beginning of a record, or of a block whose checksum is not there.
    waiting: Vec<u8>,
    /// Where the log ends; of an empty one, where it shall begin.
    stored: LogOffset,
    /// A record with a wrong checksum that came twice is what the master has.
    trusted: Option<LogOffset>,
}

/// Why a link ends.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The master says what it must not.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The store does not take what came.
    #[error("{0}")]
    Copy(#[from] CopyError),
}

impl Intake {
    /// A link on this wire that goes on from there: at the log's end, or where an empty one shall begin.
    #[must_use]
    pub fn new(
        store: &Store,
        following: Following,
        (wire, from): (Wire, LogOffset),
        trusted: Option<LogOffset>,
        now: Instant,
    ) -> Self {
        let slave = Slave::new(wire, following.patience, store.segment_size(), from, now);
        Self {
            slave,
            syncs: following.syncs,
            waiting: Vec::new(),
            stored: from,
            trusted,
        }
    }

    /// Stores what came, as far as it is whole.
    pub fn take(
        &mut self,
        store: &Store,
        mut bytes: &[u8],
        now: Instant,
    ) -> Result<(), IntakeError> {
        while let Some(received) = self.slave.receive(&mut bytes, now)? {
            if let Received::Append { at, bytes } = received {
                if self.waiting.is_empty() && store.max_offset().0 == 0 {
                    self.stored = at;
                }
                self.waiting.extend_from_slice(bytes);
            }
        }
        let ready = self.slave.verified().0.saturating_sub(self.stored.0);
        let ready = usize::try_from(ready).unwrap_or(usize::MAX);
        let ready = &self.waiting[..ready.min(self.waiting.len())];
        let taken = store.copy(self.stored, ready, self.trusted)?;
        if taken != 0 {
            self.stored = store.max_offset();
            self.waiting.drain(..taken);
            // One giant message should not keep its memory.
            self.waiting.shrink_to(KEPT);
            if self.syncs {
                store.flush().map_err(CopyError::from)?;
            }
        }
        Ok(())
    }

    /// Where the log ends; of an empty one, where it shall begin.
    #[must_use]
    pub fn stored(&self) -> LogOffset {
        self.stored
    }

    /// The report to send now, if one is due.
    pub fn report(&mut self, now: Instant) -> Option<Short> {
        self.slave.report(self.stored, now)
    }

    /// When to look again if nothing comes; an error if the master has been silent for too long.
    pub fn wait(&self, now: Instant) -> Result<Instant, Refusal> {
        self.slave.wait(now)
    }
}
