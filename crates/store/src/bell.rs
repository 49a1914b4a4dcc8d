//! Wakes a background thread: ringing costs one load while the bell is still ringing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A thread waits until somebody rings.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        if self.rung.load(Ordering::Acquire) || self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        // The lock keeps the waiter from going to sleep between its look at `rung` and its wait.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    /// Waits for a ring, or for the time to pass. Returns whether it rang.
    pub(crate) fn wait(&self, at_most: Option<Duration>) -> bool {
        let deadline = at_most.map(|time| Instant::now() + time);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.rung.swap(false, Ordering::AcqRel) {
            guard = match deadline {
                None => self
                    .wake
                    .wait(guard)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.wake
                        .wait_timeout(guard, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_before_the_wait_is_not_lost() {
        let bell = Bell::default();
        bell.ring();
        bell.ring();
        assert!(bell.wait(None));
        assert!(!bell.wait(Some(Duration::ZERO)));
    }

    #[test]
    fn a_thread_is_woken() {
        let bell = Bell::default();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| bell.wait(None));
            bell.ring();
            assert!(waiter.join().unwrap());
        });
    }
}
