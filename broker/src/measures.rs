//! How long requests take, by leg of their way, and what they are answered: counted on the I/O threads, added up by a scrape.
//!
//! Each shard has counters of its own behind a lock that only a scrape contends for, taken once for a turn's sends and
//! once for a pull. The clock is read once a turn and not once a message, so the times of messages that went through a
//! commit together are those of the first of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gantry_wire::codes::{request, response};
use rustc_hash::FxHashMap;

/// A part of the way of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// A send is checked and encoded and waits for the turn's commit.
    SendStaged,
    /// The commit of a turn: the write into the log, and queue entries in memory.
    SendCommit,
    /// Its answer is put together.
    SendAnswer,
    /// It waits for the disk, a slave or both.
    SendDurable,
    /// A pull reads what is in memory.
    PullRead,
    /// It reads what may be on the disk, and waits for its turn to.
    PullCold,
    /// It waits for a message to come.
    PullHeld,
}

impl Leg {
    /// Every leg, in the order of its number.
    pub const ALL: [Leg; 7] = [
        Self::SendStaged,
        Self::SendCommit,
        Self::SendAnswer,
        Self::SendDurable,
        Self::PullRead,
        Self::PullCold,
        Self::PullHeld,
    ];

    /// The request it belongs to, and its name.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::SendStaged => ("send", "staged"),
            Self::SendCommit => ("send", "commit"),
            Self::SendAnswer => ("send", "answer"),
            Self::SendDurable => ("send", "durable"),
            Self::PullRead => ("pull", "read"),
            Self::PullCold => ("pull", "cold"),
            Self::PullHeld => ("pull", "held"),
        }
    }
}

/// Upper ends of the ranges of a leg's times, in microseconds; the last range has none.
pub const LEG_ENDS_US: [u64; 16] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    1_000_000, 5_000_000,
];

/// Upper ends of the ranges of a request's times, in milliseconds; the last range has none. RocketMQ 5's.
pub const REQUEST_ENDS_MS: [u64; 9] = [1, 3, 5, 7, 10, 100, 1_000, 2_000, 3_000];

/// How often something took how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times<const RANGES: usize> {
    /// By range.
    pub ranges: [u64; RANGES],
    /// All of them together.
    pub sum: Duration,
}

impl<const RANGES: usize> Default for Times<RANGES> {
    fn default() -> Self {
        Self {
            ranges: [0; RANGES],
            sum: Duration::ZERO,
        }
    }
}

impl<const RANGES: usize> Times<RANGES> {
    /// `ends` are in the unit of `took`.
    fn add(&mut self, ends: &[u64], took: u64, took_time: Duration, count: u64) {
        let range = ends.partition_point(|&end| end < took);
        self.ranges[range] += count;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.sum = self.sum.saturating_add(took_time.saturating_mul(count));
    }

    fn join(&mut self, other: &Self) {
        for (all, part) in self.ranges.iter_mut().zip(other.ranges) {
            *all += part;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

/// Times of one leg.
pub type LegTimes = Times<{ LEG_ENDS_US.len() + 1 }>;
/// Times of requests of one kind.
pub type RequestTimes = Times<{ REQUEST_ENDS_MS.len() + 1 }>;

/// What was asked and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Answered {
    /// The request's code.
    pub request: i32,
    /// The answer's code.
    pub response: i32,
    /// Whether it was held until a message came.
    pub was_held: bool,
}

/// The counters of one shard, or the sum of all.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    legs: [LegTimes; Leg::ALL.len()],
    requests: FxHashMap<Answered, RequestTimes>,
}

impl Counted {
    /// `count` requests took so long in a leg.
    pub fn leg(&mut self, stage: Leg, took: Duration, count: u64) {
        let micros = u64::try_from(took.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        self.legs[stage as usize].add(&LEG_ENDS_US, micros, took, count);
    }

    /// `count` requests were answered so, after so long.
    pub fn answered(&mut self, answered: Answered, took: Duration, count: u64) {
        // Peers choose codes: those that have no name are counted together.
        let answered = Answered {
            request: known(answered.request, request::name),
            response: known(answered.response, response::name),
            ..answered
        };
        let millis = u64::try_from(took.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let times = self.requests.entry(answered).or_default();
        times.add(&REQUEST_ENDS_MS, millis, took, count);
    }

    /// The times of a leg.
    pub fn of_leg(&self, stage: Leg) -> &LegTimes {
        &self.legs[stage as usize]
    }

    /// What was answered, in order.
    pub fn requests(&self) -> Vec<(Answered, RequestTimes)> {
        let mut requests: Vec<_> = self.requests.iter().map(|(a, t)| (*a, *t)).collect();
        requests.sort_unstable_by_key(|(answered, _)| *answered);
        requests
    }

    fn join(&mut self, other: &Self) {
        for (all, part) in self.legs.iter_mut().zip(&other.legs) {
            all.join(part);
        }
        for (answered, times) in &other.requests {
            self.requests.entry(*answered).or_default().join(times);
        }
    }
}

fn known(code: i32, name: fn(i32) -> &'static str) -> i32 {
    if name(code) == name(i32::MIN) {
        i32::MIN
    } else {
        code
    }
}

/// The counters of one shard.
#[derive(Debug, Default)]
pub struct Measures(Mutex<Counted>);

impl Measures {
    /// For as short as possible.
    pub fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Made {
    /// A topic was created or changed.
    Topic,
    /// A subscription group was.
    Group,
}

/// Upper ends of the ranges of the times that making something takes, in milliseconds. RocketMQ 5's.
pub const MADE_ENDS_MS: [u64; 5] = [10, 100, 1_000, 3_000, 5_000];

/// Times of making something.
pub type MadeTimes = Times<{ MADE_ENDS_MS.len() + 1 }>;

/// The counters of all shards.
#[derive(Debug, Default)]
pub struct AllMeasures {
    shards: Mutex<Vec<Arc<Measures>>>,
    /// By what was made, and whether that was a success.
    made: Mutex<BTreeMap<(Made, bool), MadeTimes>>,
}

impl AllMeasures {
    /// Counters for one more shard.
    pub fn one_more(&self) -> Arc<Measures> {
        let measures = Arc::new(Measures::default());
        let mut all = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(measures.clone());
        measures
    }

    /// Something was made, or was not, after so long.
    pub fn made(&self, made: Made, is_success: bool, took: Duration) {
        let millis = u64::try_from(took.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let mut all = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let times = all.entry((made, is_success)).or_default();
        times.add(&MADE_ENDS_MS, millis, took, 1);
    }

    /// How long that took.
    pub fn all_made(&self) -> BTreeMap<(Made, bool), MadeTimes> {
        let all = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }

    /// What they have counted together.
    pub fn sum(&self) -> Counted {
        let mut sum = Counted::default();
        let all = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().for_each(|measures| sum.join(&measures.lock()));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_without_a_name_are_one_kind() {
        let mut counted = Counted::default();
        for code in [-7, 77_777, i32::MAX] {
            let answered = Answered {
                request: code,
                response: code,
                was_held: false,
            };
            counted.answered(answered, Duration::ZERO, 1);
        }
        let [(answered, times)] = counted.requests()[..] else {
            panic!("{:?}", counted.requests())
        };
        assert_eq!((answered.request, times.ranges[0]), (i32::MIN, 3));
    }

    #[test]
    fn a_scrape_sees_the_sum_of_all_shards() {
        let all = AllMeasures::default();
        let (one, two) = (all.one_more(), all.one_more());
        let held = Answered {
            request: 11,
            response: 0,
            was_held: true,
        };
        let micros = Duration::from_micros;
        for measures in [&one, &two] {
            let mut counted = measures.lock();
            counted.leg(Leg::SendCommit, micros(10), 3);
            counted.leg(Leg::SendCommit, Duration::from_nanos(10_001), 1);
            counted.leg(Leg::SendDurable, Duration::from_secs(6), 1);
            counted.answered(held, micros(1_000), 1);
            counted.answered(held, micros(1_001), 2);
        }
        let sum = all.sum();
        let commits = sum.of_leg(Leg::SendCommit);
        assert_eq!((commits.ranges[0], commits.ranges[1]), (6, 2));
        assert_eq!(commits.sum, Duration::from_nanos(2 * 40_001));
        assert_eq!(sum.of_leg(Leg::SendDurable).ranges[16], 2);
        let [(answered, times)] = sum.requests()[..] else {
            panic!("{:?}", sum.requests())
        };
        assert_eq!((answered, times.ranges[0], times.ranges[1]), (held, 2, 4));
    }
}
