//! Whether I/O shards still turn: who wants to know asks, and a shard that turns has answered at once.
//!
//! Asking costs a shard one wake-up; it is asked at most once a second, however often somebody looks, and never on
//! behalf of a message. A shard that has ended owes nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// A shard is asked no more often than this.
const ASK_EVERY_MS: u64 = 1_000;
/// Nothing is owed.
const NOTHING: u64 = 0;
/// Nothing will ever be owed again.
const ENDED: u64 = u64::MAX;

/// The pulses of all shards of a server.
#[derive(Clone, Debug)]
pub struct Pulses {
    born: Instant,
    all: Arc<[Pulse]>,
}

/// The pulse of one shard. Times are milliseconds since its birth, and 1.
#[derive(Debug, Default)]
struct Pulse {
    /// Since when an answer is owed.
    owed_since: AtomicU64,
    asked_at: AtomicU64,
    bell: Notify,
}

/// A shard's end of its pulse.
#[derive(Debug)]
pub(crate) struct Answering {
    pulses: Pulses,
    shard: usize,
}

impl Pulses {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            born: Instant::now(),
            all: (0..shards).map(|_| Pulse::default()).collect(),
        }
    }

    pub(crate) fn answering(&self, shard: usize) -> Answering {
        Answering {
            pulses: self.clone(),
            shard,
        }
    }

    /// For how long the shard that owes an answer the longest has not turned; zero while all turn. Looking asks: what it
    /// says is about the look before.
    #[must_use]
    pub fn look(&self) -> Duration {
        let passed = self.born.elapsed().as_millis();
        let now = u64::try_from(passed).unwrap_or(ENDED - 2) + 1;
        let longest = self.all.iter().map(|pulse| pulse.look(now)).max();
        Duration::from_millis(longest.unwrap_or_default())
    }
}

impl Pulse {
    fn look(&self, now: u64) -> u64 {
        match self.owed_since.load(Ordering::Acquire) {
            ENDED => 0,
            NOTHING => {
                self.ask(now);
                0
            }
            since => now.saturating_sub(since),
        }
    }

    fn ask(&self, now: u64) {
        let before = self.asked_at.load(Ordering::Relaxed);
        if before != 0 && now < before + ASK_EVERY_MS {
            return;
        }
        self.asked_at.store(now, Ordering::Relaxed);
        // It may have ended meanwhile, or somebody else have asked.
        let asked =
            self.owed_since
                .compare_exchange(NOTHING, now, Ordering::AcqRel, Ordering::Relaxed);
        if asked.is_ok() {
            self.bell.notify_one();
        }
    }
}

impl Answering {
    /// Answers for as long as it is polled, which is as long as the shard turns.
    pub(crate) async fn run(self) {
        loop {
            self.pulse().bell.notified().await;
            self.pulse().owed_since.store(NOTHING, Ordering::Release);
        }
    }

    fn pulse(&self) -> &Pulse {
        &self.pulses.all[self.shard]
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.pulse().owed_since.store(ENDED, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_asked_once_a_second_and_owes_from_then_on() {
        let pulses = Pulses::new(1);
        let pulse = &pulses.all[0];
        let answer = || pulse.owed_since.store(NOTHING, Ordering::Release);
        let is_asked = || pulse.owed_since.load(Ordering::Acquire) != NOTHING;
        assert_eq!(pulse.look(5), 0);
        assert!(is_asked());
        answer();
        for now in [6, 500, 1_004] {
            assert_eq!(pulse.look(now), 0);
            assert!(!is_asked(), "asked again at {now}");
        }
        assert_eq!(pulse.look(1_005), 0);
        for (now, owed) in [(1_005, 0), (1_100, 95), (61_005, 60_000)] {
            assert_eq!(pulse.look(now), owed);
        }
        answer();
        assert_eq!(pulse.look(61_006), 0);
        drop(pulses.answering(0));
        assert_eq!(pulse.look(99_000), 0, "it has ended");
    }
}
