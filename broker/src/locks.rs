//! Which client may consume which queue in order (requests 41 and 42).
//!
//! Owns the lock table: per group and queue an owner and the time of its last request. A lock is renewed by asking again
//! and dies when its owner has been silent for the life time; clients ask every 20 s and trust a lock for 30 s.
//! In memory only, on each broker for itself: a restart frees everything. It never looks at groups, topics or roles.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::{Mutex, PoisonError},
};

use gantry_message::Millis;
use gantry_wire::bodies::MessageQueue;

/// More locks than this are not granted before others expire; about 100 MB.
const LOCKS_MAX: usize = 500_000;

/// The lock table.
pub struct Locks {
    life_ms: i64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    groups: HashMap<String, HashMap<MessageQueue, Lock>>,
    /// Invariant: the number of locks in all groups.
    count: usize,
}

struct Lock {
    owner: String,
    renewed: Millis,
}

impl Locks {
    /// An empty table whose locks live `life` after their owner's last request.
    #[must_use]
    pub fn new(life: std::time::Duration) -> Self {
        Locks {
            life_ms: i64::try_from(life.as_millis()).unwrap_or(i64::MAX),
            table: Mutex::default(),
        }
    }

    /// Asks for queues: the ones granted come back. A queue is granted when it is free, when the client owns
    /// it already, or when its owner's lock has expired.
    pub fn lock(
        &self,
        group: &str,
        client: &str,
        queues: &BTreeSet<MessageQueue>,
        now: Millis,
    ) -> BTreeSet<MessageQueue> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Table { groups, count } = &mut *table;
        if !groups.contains_key(group) {
            groups.insert(group.to_owned(), HashMap::default());
        }
        let Some(locks) = groups.get_mut(group) else {
            return BTreeSet::new();
        };
        let granted = queues
            .iter()
            .filter(|queue| self.grant(locks, count, (queue, client), now))
            .cloned()
            .collect();
        if locks.is_empty() {
            groups.remove(group);
        }
        granted
    }

    /// Gives queues back. Those that belong to another client stay with it.
    pub fn unlock(&self, group: &str, client: &str, queues: &BTreeSet<MessageQueue>) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(locks) = table.groups.get_mut(group) else {
            return;
        };
        let before = locks.len();
        for queue in queues {
            if locks.get(queue).is_some_and(|lock| lock.owner == client) {
                locks.remove(queue);
            }
        }
        let freed = before - locks.len();
        if locks.is_empty() {
            table.groups.remove(group);
        }
        table.count -= freed;
    }

    /// Forgets expired locks, which are free anyway, so that groups that are gone take no memory. Once a minute is enough.
    pub fn step(&self, now: Millis) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.groups.retain(|_, locks| {
            locks.retain(|_, lock| !self.is_expired(lock, now));
            !locks.is_empty()
        });
        table.count = table.groups.values().map(HashMap::len).sum();
    }

    /// How many locks are held, expired ones included until the next [`Locks::step`].
    #[must_use]
    pub fn count(&self) -> usize {
        self.table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count
    }

    fn grant(
        &self,
        locks: &mut HashMap<MessageQueue, Lock>,
        count: &mut usize,
        (queue, client): (&MessageQueue, &str),
        now: Millis,
    ) -> bool {
        let full = LOCKS_MAX <= *count;
        match locks.entry(queue.clone()) {
            Entry::Occupied(mut held) => {
                let lock = held.get_mut();
                if lock.owner != client {
                    if !self.is_expired(lock, now) {
                        return false;
                    }
                    client.clone_into(&mut lock.owner);
                }
                lock.renewed = now;
                true
            }
            Entry::Vacant(_) if full => false,
            Entry::Vacant(free) => {
                free.insert(Lock {
                    owner: client.to_owned(),
                    renewed: now,
                });
                *count += 1;
                true
            }
        }
    }

    fn is_expired(&self, lock: &Lock, now: Millis) -> bool {
        self.life_ms < now.0.saturating_sub(lock.renewed.0)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use gantry_message::Millis;
    use gantry_wire::bodies::MessageQueue;

    use super::Locks;

    /// `T0` is queue 0 of topic `T`.
    fn queues(names: &str) -> BTreeSet<MessageQueue> {
        names.split_whitespace().map(queue).collect()
    }

    fn queue(name: &str) -> MessageQueue {
        let (topic, id) = name.split_at(name.len() - 1);
        MessageQueue {
            topic: topic.to_owned(),
            broker_name: "broker-a".to_owned(),
            queue_id: id.parse().expect("a digit"),
        }
    }

    enum Step {
        Lock(&'static str, &'static str, &'static str),
        Unlock(&'static str, &'static str),
        Sweep,
    }
    use Step::{Lock, Sweep, Unlock};

    fn check(story: &[(i64, Step)]) {
        let locks = Locks::new(Duration::from_secs(60));
        for (index, (second, step)) in story.iter().enumerate() {
            let now = Millis(second * 1000);
            match step {
                Lock(client, wanted, granted) => {
                    assert_eq!(
                        locks.lock("G", client, &queues(wanted), now),
                        queues(granted),
                        "step {index}"
                    );
                }
                Unlock(client, released) => locks.unlock("G", client, &queues(released)),
                Sweep => locks.step(now),
            }
        }
    }

    #[test]
    fn a_free_queue_is_granted_and_another_client_waits_until_it_is_given_back() {
        check(&[
            (0, Lock("a", "T0 T1", "T0 T1")),
            (1, Lock("b", "T0 T1 T2", "T2")),
            (2, Unlock("a", "T0")),
            (3, Lock("b", "T0 T1", "T0")),
        ]);
    }

    #[test]
    fn only_the_owner_gives_a_queue_back() {
        check(&[
            (0, Lock("a", "T0", "T0")),
            (1, Unlock("b", "T0 T9")),
            (2, Lock("b", "T0", "")),
            (3, Lock("a", "T0", "T0")),
        ]);
    }

    #[test]
    fn asking_again_renews_and_sixty_seconds_of_silence_expire() {
        check(&[
            (0, Lock("a", "T0", "T0")),
            (50, Lock("a", "T0", "T0")),
            (110, Lock("b", "T0", "")),
            (111, Lock("b", "T0", "T0")),
            (112, Lock("a", "T0", "")),
        ]);
    }

    #[test]
    fn the_owner_of_an_expired_lock_takes_it_again_when_nobody_else_did() {
        check(&[
            (0, Lock("a", "T0", "T0")),
            (500, Lock("a", "T0", "T0")),
            (550, Lock("b", "T0", "")),
        ]);
    }

    #[test]
    fn sweeping_forgets_expired_locks_and_no_others() {
        let locks = Locks::new(Duration::from_secs(60));
        locks.lock("G", "a", &queues("T0 T1"), Millis(0));
        locks.lock("H", "a", &queues("T0"), Millis(30_000));
        locks.step(Millis(60_000));
        assert_eq!(locks.count(), 3);
        locks.step(Millis(60_001));
        assert_eq!(locks.count(), 1);
        assert_eq!(
            locks.lock("H", "b", &queues("T0"), Millis(60_001)),
            queues("")
        );
    }

    #[test]
    fn groups_do_not_see_each_others_locks() {
        let locks = Locks::new(Duration::from_secs(60));
        for group in ["G", "H"] {
            assert_eq!(
                locks.lock(group, "a", &queues("T0"), Millis(0)),
                queues("T0"),
                "{group}"
            );
        }
        locks.unlock("G", "a", &queues("T0"));
        assert_eq!(locks.count(), 1);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_expire_a_lock() {
        check(&[
            (1000, Lock("a", "T0", "T0")),
            (0, Lock("b", "T0", "")),
            (900, Sweep),
            (901, Lock("b", "T0", "")),
        ]);
    }
}
