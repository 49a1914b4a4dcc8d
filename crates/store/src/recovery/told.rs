//! How far recovery is: told to whoever watches, who may end it, and every few seconds to the log.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::StoreError;

/// A recovery that takes long says so in the log this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What recovery is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It looks at the files of the queues.
    Queues,
    /// It reads the part of the log that queues may lack.
    Log,
    /// It writes and syncs what it found.
    Finish,
}

impl Phase {
    /// In a word or two.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queues => "loading queues",
            Self::Log => "reading the log",
            Self::Finish => "writing queues",
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What it is doing.
    pub phase: Phase,
    /// Bytes of the log that were read.
    pub done: u64,
    /// Bytes of the log to be read at most: where it ends is found out.
    pub total: u64,
}

/// Is told how far recovery is, at least once for each phase and for each MiB of the log. Must not block.
#[derive(Clone, Default)]
pub struct RecoveryWatch {
    told: Option<Arc<dyn Fn(Stage) + Send + Sync>>,
    is_unwanted: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl RecoveryWatch {
    /// Calls `told` on the thread that opens the store.
    #[must_use]
    pub fn new(told: impl Fn(Stage) + Send + Sync + 'static) -> Self {
        Self {
            told: Some(Arc::new(told)),
            is_unwanted: None,
        }
    }

    /// Ends recovery with [`StoreError::Interrupted`] once `is_unwanted`. It is asked for each queue and each MiB of the log,
    /// by several threads. The store is left as by a `kill -9`: the next one to open it recovers it.
    #[must_use]
    pub fn until(self, is_unwanted: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            is_unwanted: Some(Arc::new(is_unwanted)),
            ..self
        }
    }

    /// An error if nobody wants recovery to go on.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match &self.is_unwanted {
            Some(is_unwanted) if is_unwanted() => Err(StoreError::Interrupted),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for RecoveryWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryWatch")
    }
}

/// Passes it on.
#[derive(Debug)]
pub(super) struct Told<'a> {
    watch: &'a RecoveryWatch,
    began: Instant,
    /// When the log was told last, and where recovery was then.
    line: Cell<(Instant, u64)>,
}

impl<'a> Told<'a> {
    pub(super) fn new(watch: &'a RecoveryWatch) -> Self {
        let began = Instant::now();
        Self {
            watch,
            began,
            line: Cell::new((began, 0)),
        }
    }

    /// Tells, if recovery is to go on at all.
    pub(super) fn tell(&self, phase: Phase, done: u64, total: u64) -> Result<(), StoreError> {
        self.watch.check()?;
        if let Some(told) = &self.watch.told {
            told(Stage { phase, done, total });
        }
        let (last, before) = self.line.get();
        let elapsed = last.elapsed();
        if elapsed >= LINE_EVERY {
            let mib_a_second = mib_a_second(done.saturating_sub(before), elapsed);
            let phase = phase.as_str();
            tracing::info!(phase, done, total, mib_a_second, "recovering");
            self.line.set((Instant::now(), done));
        }
        Ok(())
    }

    pub(super) fn took_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn mib_a_second(bytes: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / millis / (1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_between_two_lines() {
        let seconds = Duration::from_secs;
        assert_eq!(mib_a_second(10 << 20, seconds(5)), 2);
        assert_eq!(mib_a_second(0, seconds(5)), 0);
        assert_eq!(mib_a_second(1 << 20, Duration::ZERO), 1000);
    }
}
