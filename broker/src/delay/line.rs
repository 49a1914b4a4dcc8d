//! One delay level as a pure state machine: which entries of its queue are due, and when to look again.
//!
//! The driver hands in the queue's bounds, some entries and the time; [`Line::plan`] says what to do. What the
//! driver delivered or gave up it reports with [`Line::settle`], the rest with [`Line::failed`]. The line only moves
//! past entries that were delivered or are beyond delivery: a restart at the position it keeps repeats messages at
//! worst and never loses one. No clock, no files, no queue in here.

use std::collections::BTreeSet;

use gantry_message::{Millis, QueueOffset};

/// First pause after a failed delivery.
const PAUSE_MS_MIN: i64 = 100;
/// Longest pause between two tries.
const PAUSE_MS_MAX: i64 = 10_000;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// The queue holds nothing more: wait until it grows.
    Idle,
    /// Nothing is due before this time.
    Wait(Millis),
    /// This many of the entries handed in are due, from the first.
    Deliver(usize),
}

/// First and next offset of a level's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) min: QueueOffset,
    pub(super) max: QueueOffset,
}

/// The state of one level.
#[derive(Debug)]
pub(super) struct Line {
    delay: Millis,
    /// Everything before this entry is delivered or beyond delivery.
    next: QueueOffset,
    /// Entries behind `next` that are settled already.
    ///
    /// Invariant: never holds `next`.
    ahead: BTreeSet<QueueOffset>,
    pause_ms: i64,
    not_before: Option<Millis>,
}

impl Line {
    pub(super) fn new(delay: Millis, next: QueueOffset) -> Self {
        Self {
            delay,
            next,
            ahead: BTreeSet::new(),
            pause_ms: 0,
            not_before: None,
        }
    }

    /// The entry everything before which is settled: what is kept over a restart.
    pub(super) fn next(&self) -> QueueOffset {
        self.next
    }

    /// Whether an entry behind `next` needs no delivery any more.
    pub(super) fn is_settled(&self, entry: QueueOffset) -> bool {
        entry < self.next || self.ahead.contains(&entry)
    }

    /// Moves into the queue's bounds and returns where to read, or what to wait for.
    ///
    /// A position outside the queue means that entries were deleted, or that the queue was shortened by a recovery.
    pub(super) fn position(&mut self, bounds: Bounds, now: Millis) -> Result<QueueOffset, Plan> {
        let clamped = self.next.clamp(bounds.min, bounds.max.max(bounds.min));
        if clamped != self.next {
            self.move_to(clamped);
        }
        if let Some(until) = self.not_before {
            // A pause that ends later than the longest one can is a clock set back.
            if now < until && until.0 - now.0 <= PAUSE_MS_MAX {
                return Err(Plan::Wait(until));
            }
        }
        if bounds.max <= self.next {
            Err(Plan::Idle)
        } else {
            Ok(self.next)
        }
    }

    /// What to do with the entries from `next` on, of which `due` holds the due times.
    pub(super) fn plan(&self, due: &[Millis], now: Millis) -> Plan {
        let count = due
            .iter()
            .take_while(|due| self.countdown(**due, now) <= 0)
            .count();
        match due.get(count) {
            _ if 0 < count => Plan::Deliver(count),
            Some(first) => Plan::Wait(Millis(now.0.saturating_add(self.countdown(*first, now)))),
            None => Plan::Idle,
        }
    }

    /// Milliseconds until an entry is due. One that lies farther ahead than this level delays was stored by a clock
    /// that was set back since, or under another level table: it is due at once.
    fn countdown(&self, due: Millis, now: Millis) -> i64 {
        let left = due.0.saturating_sub(now.0);
        if self.delay.0 < left { 0 } else { left }
    }

    /// The entry is stored under its real topic, or can never be: both settle it.
    pub(super) fn settle(&mut self, entry: QueueOffset) {
        self.pause_ms = 0;
        self.not_before = None;
        if entry != self.next {
            if self.next < entry {
                self.ahead.insert(entry);
            }
            return;
        }
        let mut next = QueueOffset(entry.0 + 1);
        while self.ahead.remove(&next) {
            next = QueueOffset(next.0 + 1);
        }
        self.next = next;
    }

    /// A delivery failed and is to be tried again; returns when. Pauses grow while nothing goes through.
    pub(super) fn failed(&mut self, now: Millis) -> Millis {
        self.pause_ms = (self.pause_ms * 2).clamp(PAUSE_MS_MIN, PAUSE_MS_MAX);
        let until = Millis(now.0 + self.pause_ms);
        self.not_before = Some(until);
        until
    }

    /// Whether the last try failed.
    pub(super) fn is_paused(&self) -> bool {
        self.pause_ms != 0
    }

    /// Whether tries have been failing for so long that somebody should hear of it.
    pub(super) fn is_stuck(&self) -> bool {
        self.pause_ms == PAUSE_MS_MAX
    }

    /// Goes on here; what is behind it and settled already stays so.
    pub(super) fn move_to(&mut self, next: QueueOffset) {
        self.next = next;
        self.ahead = self.ahead.split_off(&next);
        while self.ahead.remove(&self.next) {
            self.next = QueueOffset(self.next.0 + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(delay_ms: i64, next: u64) -> Line {
        Line::new(Millis(delay_ms), QueueOffset(next))
    }

    fn bounds(min: u64, max: u64) -> Bounds {
        Bounds {
            min: QueueOffset(min),
            max: QueueOffset(max),
        }
    }

    #[test]
    fn due_entries_are_delivered_in_order_and_the_first_future_one_ends_it() {
        let line = line(1_000, 0);
        for (due, now, expected) in [
            (&[][..], 5_000, Plan::Idle),
            (&[5_000], 5_000, Plan::Deliver(1)),
            (&[5_001], 5_000, Plan::Wait(Millis(5_001))),
            (&[4_000, 5_000, 5_001, 4_000], 5_000, Plan::Deliver(2)),
            // Farther ahead than the level delays: the clock was set back, or the table changed.
            (&[6_000], 5_000, Plan::Wait(Millis(6_000))),
            (&[6_001], 5_000, Plan::Deliver(1)),
            (&[i64::MAX], 5_000, Plan::Deliver(1)),
            (&[i64::MIN], 5_000, Plan::Deliver(1)),
        ] {
            let due: Vec<_> = due.iter().copied().map(Millis).collect();
            assert_eq!(line.plan(&due, Millis(now)), expected, "{due:?}");
        }
    }

    #[test]
    fn a_position_outside_the_queue_moves_to_its_nearest_end() {
        for (next, queue, expected) in [
            (5, bounds(0, 10), Ok(QueueOffset(5))),
            (5, bounds(7, 10), Ok(QueueOffset(7))),
            (15, bounds(0, 10), Err(Plan::Idle)),
            (10, bounds(0, 10), Err(Plan::Idle)),
            (0, bounds(0, 0), Err(Plan::Idle)),
            (3, bounds(8, 8), Err(Plan::Idle)),
        ] {
            let mut line = line(1_000, next);
            assert_eq!(
                line.position(queue, Millis(0)),
                expected,
                "{next} in {queue:?}"
            );
        }
        let mut line = line(1_000, 15);
        assert_eq!(line.position(bounds(0, 10), Millis(0)), Err(Plan::Idle));
        assert_eq!(
            line.position(bounds(0, 11), Millis(0)),
            Ok(QueueOffset(10)),
            "shortened to 10, grown to 11"
        );
    }

    #[test]
    fn the_position_stops_before_the_first_entry_that_is_not_settled() {
        let mut line = line(1_000, 10);
        line.settle(QueueOffset(11));
        line.settle(QueueOffset(12));
        line.settle(QueueOffset(14));
        assert_eq!(line.next(), QueueOffset(10));
        assert!(line.is_settled(QueueOffset(12)) && !line.is_settled(QueueOffset(13)));
        line.settle(QueueOffset(10));
        assert_eq!(line.next(), QueueOffset(13));
        line.settle(QueueOffset(13));
        assert_eq!((line.next(), line.ahead.len()), (QueueOffset(15), 0));
        line.settle(QueueOffset(3));
        assert_eq!(line.next(), QueueOffset(15));
    }

    #[test]
    fn failures_pause_longer_and_longer_and_a_success_ends_that() {
        let mut line = line(1_000, 0);
        let pauses: Vec<_> = (0..9).map(|_| line.failed(Millis(0)).0).collect();
        assert_eq!(
            pauses,
            [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]
        );
        assert!(line.is_stuck());
        assert_eq!(
            line.position(bounds(0, 5), Millis(9_999)),
            Err(Plan::Wait(Millis(10_000)))
        );
        assert_eq!(
            line.position(bounds(0, 5), Millis(10_000)),
            Ok(QueueOffset(0))
        );
        assert_eq!(
            line.position(bounds(0, 5), Millis(-1)),
            Ok(QueueOffset(0)),
            "a clock set back ends the pause"
        );
        line.settle(QueueOffset(0));
        assert!(!line.is_stuck());
        assert_eq!(line.failed(Millis(50)), Millis(150));
    }

    /// What the model's world holds: a queue of due times, a clock, one level with its kept position.
    struct World {
        seed: u64,
        now: i64,
        delay: i64,
        due: Vec<i64>,
        min: u64,
        line: Line,
        /// How often each entry was delivered, and how often since the last restart.
        delivered: Vec<(u32, u32)>,
        kept: u64,
        /// The clock or the table was changed: entries may be due before their time.
        loose: bool,
    }

    impl World {
        fn random(&mut self, below: u64) -> u64 {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            self.seed % below
        }

        fn bounds(&self) -> Bounds {
            bounds(self.min, self.due.len() as u64)
        }

        /// One round as `lane` does it; some of what is stored is refused.
        fn step(&mut self, refusals: u64) -> Option<Plan> {
            let from = match self.line.position(self.bounds(), Millis(self.now)) {
                Ok(from) => from,
                Err(plan) => return Some(plan),
            };
            let due: Vec<_> = self.due[from.0 as usize..]
                .iter()
                .take(5)
                .copied()
                .map(Millis)
                .collect();
            let count = match self.line.plan(&due, Millis(self.now)) {
                Plan::Deliver(count) => count,
                plan => return Some(plan),
            };
            let mut failed = false;
            for at in (from.0..).take(count) {
                if self.line.is_settled(QueueOffset(at)) {
                    continue;
                }
                if refusals != 0 && self.random(refusals) == 0 {
                    failed = true;
                    continue;
                }
                let due = self.due[at as usize];
                assert!(
                    self.loose || due <= self.now,
                    "entry {at} is due at {due}, not yet at {}",
                    self.now
                );
                self.delivered[at as usize].0 += 1;
                self.delivered[at as usize].1 += 1;
                assert_eq!(
                    self.delivered[at as usize].1, 1,
                    "entry {at} comes twice without a restart"
                );
                self.line.settle(QueueOffset(at));
            }
            if failed {
                self.line.failed(Millis(self.now));
            }
            None
        }

        fn restart(&mut self) {
            self.line = Line::new(Millis(self.delay), QueueOffset(self.kept));
            self.delivered.iter_mut().for_each(|(_, since)| *since = 0);
        }
    }

    /// Random sends, refusals, restarts at an older position, clocks set back and other tables: nothing is lost,
    /// nothing comes early, nothing comes twice without a restart.
    #[test]
    fn whatever_happens_every_message_comes_and_none_comes_early() {
        for seed in 1..=300 {
            let mut world = World {
                seed: u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15),
                now: 1_000_000,
                delay: 5_000,
                due: Vec::new(),
                min: 0,
                line: line(5_000, 0),
                delivered: Vec::new(),
                kept: 0,
                loose: false,
            };
            for _ in 0..400 {
                match world.random(20) {
                    0..=6 => {
                        world.due.push(world.now + world.delay);
                        world.delivered.push((0, 0));
                    }
                    7..=11 => world.now += world.random(3_000) as i64,
                    12 => world.kept = world.line.next().0,
                    13 => world.restart(),
                    14 if seed % 3 == 0 => {
                        world.now -= world.random(20_000) as i64;
                        world.loose = true;
                    }
                    15 if seed % 5 == 0 => {
                        world.delay = 1_000 + world.random(9_000) as i64;
                        world.loose = true;
                        world.restart();
                    }
                    _ => {
                        world.step(8);
                    }
                }
            }
            for _ in 0..10_000 {
                match world.step(0) {
                    Some(Plan::Idle) => break,
                    Some(Plan::Wait(until)) => {
                        assert!(
                            world.now < until.0,
                            "seed {seed}: told to wait until {until}, now is {}",
                            world.now
                        );
                        world.now = until.0;
                    }
                    _ => {}
                }
            }
            let lost = world.delivered.iter().position(|(times, _)| *times == 0);
            assert_eq!(lost, None, "seed {seed}: a message never came");
        }
    }
}
