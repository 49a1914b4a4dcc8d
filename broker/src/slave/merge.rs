//! Which of two offset tables counts, queue by queue: the master's, or what groups committed here while it was away.
//!
//! Pure. Three numbers decide: what the master had when it was asked last (`seen`), what is here, what the master has now.
//! A number here that is not the one seen was committed here; it goes to the master if it is ahead of what the master
//! has. A number of the master that went back since it was seen was set there on purpose, by a reset: it counts, whatever
//! was committed here. One that is gone was deleted with its group or topic; where these are there still, the master has
//! lost it, and is told.
//!
//! Example: the master was seen at 100 and goes away, the group reads on here and commits 150. The master comes back
//! with 100: 150 is sent to it. It comes back with 170, because the group was quicker: 170 is taken. It was reset to 20
//! before it was asked: 20 is taken, and 150 forgotten.

use std::collections::BTreeMap;

/// `topic@group`, queue, next offset: as the body of request 43 has them.
pub type Table = BTreeMap<String, BTreeMap<i32, i64>>;

/// What is to be done about one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Both sides agree.
    Same,
    /// The master's counts here too.
    Adopt,
    /// What is here is to be told to the master.
    Push(i64),
}

/// One position of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `topic@group`
    pub of: String,
    /// The queue.
    pub queue: i32,
}

/// A position that is to become the master's, if it still is what was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// Whose.
    pub place: Place,
    /// What was looked at.
    pub from: Option<i64>,
    /// What it shall be; `None`: forgotten.
    pub to: Option<i64>,
}

/// What is to be done about all queues.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What the master has and counts.
    pub adopt: Vec<Adoption>,
    /// What the master is to be told.
    pub push: Vec<(Place, i64)>,
}

/// Decides about one queue of a group and a topic that are known still, or not.
pub fn decide(
    is_known: bool,
    seen: Option<i64>,
    here: Option<i64>,
    there: Option<i64>,
) -> Decision {
    if here == there {
        return Decision::Same;
    }
    if let (Some(here), None, true) = (here, there, is_known) {
        return Decision::Push(here);
    }
    let Some(committed) = here.filter(|_| here != seen) else {
        return Decision::Adopt;
    };
    match (seen, there) {
        (Some(_), None) => Decision::Adopt,
        (Some(seen), Some(there)) if there < seen => Decision::Adopt,
        (_, Some(there)) if committed <= there => Decision::Adopt,
        _ => Decision::Push(committed),
    }
}

/// Decides about all queues that either side knows; `is_known` says whether topic and group of a `topic@group` are there.
pub fn plan(seen: &Table, here: &Table, there: &Table, is_known: impl Fn(&str) -> bool) -> Plan {
    let mut plan = Plan::default();
    let none = BTreeMap::new();
    let ours = here.keys().filter(|of| !there.contains_key(*of));
    for of in there.keys().chain(ours) {
        let [seen, here, there] = [seen, here, there].map(|table| table.get(of).unwrap_or(&none));
        let only_ours = here.keys().filter(|queue| !there.contains_key(queue));
        for &queue in there.keys().chain(only_ours) {
            let [seen, from, to] = [seen, here, there].map(|queues| queues.get(&queue).copied());
            let place = || Place {
                of: of.clone(),
                queue,
            };
            match decide(is_known(of), seen, from, to) {
                Decision::Same => {}
                Decision::Adopt => plan.adopt.push(Adoption {
                    place: place(),
                    from,
                    to,
                }),
                Decision::Push(offset) => plan.push.push((place(), offset)),
            }
        }
    }
    plan
}

/// The master's table without what cannot be a position; Java's may hold whatever a client once sent.
pub fn clean(mut table: Table) -> Table {
    table.retain(|of, queues| {
        queues.retain(|queue, offset| 0 <= *queue && 0 <= *offset);
        of.contains('@')
    });
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_master_counts_unless_the_group_went_on_here() {
        use Decision::{Adopt, Push, Same};
        // seen, here, there
        let cases = [
            (Some(5), Some(5), Some(5), Same),
            (Some(5), Some(5), Some(9), Adopt),
            (Some(5), Some(5), Some(2), Adopt),
            (Some(5), Some(5), None, Adopt),
            (None, None, Some(1), Adopt),
            (Some(1), None, Some(1), Adopt),
            // Committed here while the master was away.
            (Some(5), Some(8), Some(5), Push(8)),
            (Some(5), Some(8), Some(6), Push(8)),
            (Some(5), Some(8), Some(8), Same),
            (Some(5), Some(8), Some(9), Adopt),
            (None, Some(8), None, Push(8)),
            (None, Some(8), Some(3), Push(8)),
            // The master's went back: a reset, or the group was deleted.
            (Some(5), Some(8), Some(4), Adopt),
            (Some(5), Some(8), None, Adopt),
            // A step back that was made here is not for the master.
            (Some(5), Some(3), Some(5), Adopt),
            (Some(5), Some(3), Some(4), Adopt),
        ];
        for (seen, here, there, expected) in cases {
            assert_eq!(
                decide(false, seen, here, there),
                expected,
                "{seen:?} {here:?} {there:?}"
            );
            // Whether it is known still counts where the master has nothing.
            let of_known = match (here, there) {
                (Some(here), None) => Push(here),
                _ => expected,
            };
            let decided = decide(true, seen, here, there);
            assert_eq!(decided, of_known, "{seen:?} {here:?} {there:?}");
        }
    }

    fn table(entries: &[(&str, i32, i64)]) -> Table {
        let mut table = Table::new();
        for (of, queue, offset) in entries {
            let queues = table.entry((*of).to_owned()).or_default();
            queues.insert(*queue, *offset);
        }
        table
    }

    fn place(of: &str, queue: i32) -> Place {
        Place {
            of: of.to_owned(),
            queue,
        }
    }

    #[test]
    fn every_queue_of_either_side_is_decided_about() {
        let seen = table(&[("T@g", 0, 5), ("T@gone", 0, 5), ("T@lost", 0, 5)]);
        let here = table(&[
            ("T@g", 0, 8),
            ("T@g", 1, 2),
            ("T@gone", 0, 5),
            ("T@lost", 0, 5),
            ("T@new", 0, 1),
        ]);
        let there = table(&[("T@g", 0, 5), ("T@g", 2, 7), ("U@g", 0, 4)]);
        let plan = plan(&seen, &here, &there, |of| of == "T@lost");
        let adopted = |of, queue, from, to| Adoption {
            place: place(of, queue),
            from,
            to,
        };
        assert_eq!(
            plan.adopt,
            [
                adopted("T@g", 2, None, Some(7)),
                adopted("U@g", 0, None, Some(4)),
                adopted("T@gone", 0, Some(5), None),
            ]
        );
        assert_eq!(
            plan.push,
            [
                (place("T@g", 0), 8),
                (place("T@g", 1), 2),
                (place("T@lost", 0), 5),
                (place("T@new", 0), 1)
            ]
        );
    }

    #[test]
    fn what_cannot_be_a_position_is_left_out() {
        let dirty = table(&[("T@g", 0, -1), ("T@g", -3, 1), ("T@g", 1, 1), ("odd", 0, 1)]);
        assert_eq!(clean(dirty), table(&[("T@g", 1, 1)]));
    }

    /// One queue of one group at a master and its slave, and what must come out of it.
    #[derive(Debug, Default)]
    struct World {
        master: Option<i64>,
        slave: Option<i64>,
        seen: Option<i64>,
        /// The greatest commit since the last reset, wherever it was made.
        expected: Option<i64>,
    }

    impl World {
        fn commit_at_master(&mut self, offset: i64) {
            // Nor can a reset be told that the group made up for before the next look.
            if self.master < self.seen && self.seen <= Some(offset) {
                return;
            }
            self.master = self.master.max(Some(offset));
            self.expected = self.expected.max(Some(offset));
        }

        fn commit_at_slave(&mut self, offset: i64) {
            if self.slave < Some(offset) {
                self.slave = Some(offset);
                self.expected = self.expected.max(Some(offset));
            }
        }

        /// Only a step back behind what the slave saw can be told from a slow group.
        fn reset_at_master(&mut self, offset: i64) {
            if Some(offset) < self.seen {
                self.master = Some(offset);
                self.expected = Some(offset);
            }
        }

        fn sync(&mut self, push_arrives: bool) {
            let decision = decide(true, self.seen, self.slave, self.master);
            self.seen = self.master;
            match decision {
                Decision::Same => {}
                Decision::Adopt => self.slave = self.master,
                Decision::Push(offset) => {
                    assert!(self.master < Some(offset), "never back: {self:?}");
                    if push_arrives {
                        self.master = Some(offset);
                        self.seen = Some(offset);
                    }
                }
            }
        }
    }

    /// A linear congruential generator.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: i64) -> i64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            i64::try_from(self.0 >> 33).unwrap() % limit
        }
    }

    #[test]
    fn both_sides_end_with_the_greatest_commit_since_the_last_reset() {
        for seed in 0..20_000 {
            let mut random = Random(seed);
            let mut world = World::default();
            let mut was_reset = false;
            for _ in 0..random.below(30) {
                match random.below(5) {
                    0 => world.commit_at_master(random.below(50)),
                    // Groups read where the reset has taken them; the slave knows of it after its next sync.
                    1 if !was_reset => world.commit_at_slave(random.below(50)),
                    2 => {
                        let before = world.master;
                        world.reset_at_master(random.below(50));
                        was_reset |= world.master != before;
                    }
                    _ => {
                        world.sync(random.below(2) == 0);
                        was_reset = false;
                    }
                }
            }
            world.sync(true);
            world.sync(true);
            assert_eq!(
                (world.master, world.slave),
                (world.expected, world.expected),
                "seed {seed}: {world:?}"
            );
        }
    }
}
