//! How far every group is in every topic, worked out once a scrape for all families that say it in their words.
//!
//! When a message was stored stands in the log, which may have to come from the disk: what was found is kept for as long
//! as the group stays where it is, and a scrape looks for no more than a stated time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gantry_message::{Millis, QueueId, QueueOffset};
use gantry_store::Store;
use rustc_hash::FxHashMap;

use crate::{
    stats::{GroupTopicCounters, Stats},
    tables::{Offsets, Topics},
};

/// How long a scrape looks for times that it does not know yet.
const LOOK_FOR: Duration = Duration::from_millis(200);

/// How far a group is in a topic, over all queues.
pub(super) struct Progress {
    pub(super) topic: Box<str>,
    pub(super) group: Box<str>,
    /// Sum of its positions.
    pub(super) consumed: u64,
    /// Messages behind its positions.
    pub(super) lag: u64,
    /// Those of them that it has pulled.
    pub(super) inflight: u64,
    /// Those that it has not.
    pub(super) ready: u64,
    /// When the first message was stored that it has not consumed; 0: it has consumed all.
    pub(super) waiting_since: Time,
    /// When the first was stored that it has not pulled.
    pub(super) unpulled_since: Time,
    /// What was counted for it.
    pub(super) counters: Option<Arc<GroupTopicCounters>>,
}

/// A point in time that may not be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// There is no such message.
    Never,
    /// Then.
    At(Millis),
    /// It could not be looked up in time.
    Unknown,
}

impl Time {
    /// How long ago; nothing while it is not known.
    pub(super) fn age_ms(self, now: Millis) -> Option<u64> {
        match self {
            Self::Never => Some(0),
            Self::At(time) => Some(u64::try_from(now.since(time)).unwrap_or(0)),
            Self::Unknown => None,
        }
    }

    fn earlier(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Never, time) | (time, Self::Never) => time,
            (Self::At(one), Self::At(two)) => Self::At(one.min(two)),
        }
    }
}

/// Where groups are, and when messages were stored.
pub(super) struct Groups {
    pub(super) store: Arc<Store>,
    pub(super) topics: Arc<Topics>,
    pub(super) offsets: Arc<Offsets>,
    pub(super) stats: Arc<Stats>,
    pub(super) known: Mutex<Times>,
}

/// When messages were stored, by topic, queue and position.
type Times = FxHashMap<(Box<str>, QueueId, QueueOffset), Millis>;

impl Groups {
    /// Of every group in every topic that there is. Blocks.
    pub(super) fn all(&self) -> Vec<Progress> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut look = Look {
            store: &self.store,
            before: std::mem::take(&mut *known),
            now: Times::default(),
            until: Instant::now() + LOOK_FOR,
        };
        let mut counters = self.stats.groups();
        let mut all = Vec::new();
        for (topic, group, positions) in self.offsets.all() {
            // Positions of a topic that is gone stay in the file, but are nobody's progress.
            if self.topics.get(&topic).is_none() {
                continue;
            }
            let key = (topic, group);
            let counters = counters.remove(&key);
            let (topic, group) = key;
            let pulled = counters.as_ref().map(|counters| counters.pulled());
            let mut progress = Progress {
                topic,
                group,
                consumed: 0,
                lag: 0,
                inflight: 0,
                ready: 0,
                waiting_since: Time::Never,
                unpulled_since: Time::Never,
                counters,
            };
            for (id, at) in positions {
                let next = pulled.as_ref().and_then(|pulled| pulled.get(&id).copied());
                look.add(&mut progress, id, at, next);
            }
            all.push(progress);
        }
        *known = look.now;
        all.sort_unstable_by(|one, two| (&one.topic, &one.group).cmp(&(&two.topic, &two.group)));
        all
    }
}

struct Look<'a> {
    store: &'a Store,
    before: Times,
    now: Times,
    until: Instant,
}

impl Look<'_> {
    fn add(
        &mut self,
        progress: &mut Progress,
        id: QueueId,
        at: QueueOffset,
        pulled: Option<QueueOffset>,
    ) {
        progress.consumed += at.0;
        let Some(queue) = self.store.find_queue(&progress.topic, id) else {
            return;
        };
        let end = queue.max();
        // What was deleted is not behind anybody any more.
        let first = at.max(queue.min());
        let next = pulled.unwrap_or(first).max(first).min(end.max(first));
        progress.lag += end.0.saturating_sub(first.0);
        progress.inflight += next.0 - first.0;
        progress.ready += end.0.saturating_sub(next.0);
        if first < end {
            let time = self.time(&queue, first);
            progress.waiting_since = progress.waiting_since.earlier(time);
        }
        if next < end {
            let time = self.time(&queue, next);
            progress.unpulled_since = progress.unpulled_since.earlier(time);
        }
    }

    fn time(&mut self, queue: &gantry_store::Queue, at: QueueOffset) -> Time {
        let key = (Box::from(queue.topic()), queue.id(), at);
        let known = self.now.get(&key).or_else(|| self.before.get(&key));
        let time = match known {
            Some(time) => Some(*time),
            None if self.until < Instant::now() => return Time::Unknown,
            None => self.store.store_time_at(queue, at),
        };
        match time {
            Some(time) => {
                self.now.insert(key, time);
                Time::At(time)
            }
            None => Time::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_of_two_times_is_known_only_if_both_are() {
        let at = |ms| Time::At(Millis(ms));
        for (one, two, earlier) in [
            (Time::Never, Time::Never, Time::Never),
            (Time::Never, at(5), at(5)),
            (at(7), at(5), at(5)),
            (at(7), Time::Unknown, Time::Unknown),
            (Time::Never, Time::Unknown, Time::Unknown),
        ] {
            assert_eq!(one.earlier(two), earlier);
            assert_eq!(two.earlier(one), earlier);
        }
        assert_eq!(at(7).age_ms(Millis(10)), Some(3));
        assert_eq!(at(7).age_ms(Millis(5)), Some(0), "the clock went back");
        assert_eq!(Time::Never.age_ms(Millis(5)), Some(0));
        assert_eq!(Time::Unknown.age_ms(Millis(5)), None);
    }
}
