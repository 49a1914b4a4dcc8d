//! What to do next about one name server, and how to react to what came of it.
//!
//! Plain data: the driver asks [`Session::next`], does what it says and reports back. Times are milliseconds of a clock that
//! does not go back. A name server that is lost, or says no, gets the whole table again when it is back: what it kept is
//! not relied on.

use gantry_message::Millis;

/// First and greatest pause after a failure. Short, because a name server that was restarted has no routes until its brokers
/// are back, and asking one that is down costs next to nothing.
const RETRY_MS: i64 = 1_000;
const RETRY_MS_MAX: i64 = 2_000;
/// Shortest and longest period, whatever is configured.
const PERIOD_MS: std::ops::RangeInclusive<i64> = 10_000..=60_000;

/// What there is to announce: either number changes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Generation of the topic table.
    pub generation: u64,
    /// What clients may do: `brokerPermission`, less what a latched store has withdrawn.
    pub permission: u32,
}

/// Settings that decide when to register; they may change at any time.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `registerNameServerPeriod`
    pub period_ms: i64,
    /// `forceRegister`
    pub force: bool,
    /// Only an answer to a registration says who the master is, and it is not known yet: register every second.
    pub seeking: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing before this time, unless the revision or the rules change or the connection ends.
    WaitUntil(Millis),
    /// Ask whether the name server has our data version (322).
    Ask,
    /// Register with the whole topic table (103).
    AnnounceAll,
    /// Register with the topics that changed since what was announced last (103).
    AnnounceChanges,
}

/// How a failure is to be reported: each trouble is said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// This is news.
    Once,
    /// It was said before.
    Nothing,
}

/// The state of the registration at one name server.
#[derive(Debug)]
pub struct Session {
    /// What the name server has acknowledged on the present connection.
    acknowledged: Option<Revision>,
    due: Millis,
    failures: u32,
    trouble: Option<String>,
}

impl Rules {
    fn period(&self) -> i64 {
        if self.seeking {
            return RETRY_MS;
        }
        self.period_ms.clamp(*PERIOD_MS.start(), *PERIOD_MS.end())
    }
}

impl Session {
    /// A name server that knows nothing of us yet.
    pub fn new(now: Millis) -> Session {
        Session {
            acknowledged: None,
            due: now,
            failures: 0,
            trouble: None,
        }
    }

    /// What to do now.
    pub fn next(&mut self, current: Revision, rules: Rules, now: Millis) -> Action {
        match self.acknowledged {
            None if self.due <= now => Action::AnnounceAll,
            None => Action::WaitUntil(self.due),
            Some(known) if known.generation != current.generation => {
                if known.permission == current.permission {
                    Action::AnnounceChanges
                } else {
                    Action::AnnounceAll
                }
            }
            Some(_) => {
                // A period that became shorter counts from now on, not after the one under way.
                self.due = self.due.min(now.plus(rules.period()));
                match self.due <= now {
                    true if rules.force || rules.seeking => Action::AnnounceAll,
                    true => Action::Ask,
                    false => Action::WaitUntil(self.due),
                }
            }
        }
    }

    /// The name server took a registration; says whether it is the first after a start or some trouble.
    pub fn announced(&mut self, revision: Revision, rules: Rules, now: Millis) -> Say {
        let first = self.acknowledged.is_none();
        // A name server does not look at topics whose data version it has: a permission sent with them is not known to it.
        if self
            .acknowledged
            .is_none_or(|known| known.generation != revision.generation)
        {
            self.acknowledged = Some(revision);
        }
        self.failures = 0;
        self.trouble = None;
        self.due = now.plus(rules.period());
        if first { Say::Once } else { Say::Nothing }
    }

    /// The name server has our data version.
    pub fn confirmed(&mut self, rules: Rules, now: Millis) {
        self.due = now.plus(rules.period());
    }

    /// The name server has another version, or could not say.
    pub fn outdated(&mut self, now: Millis) {
        self.acknowledged = None;
        self.due = now;
    }

    /// The name server said no: a configuration to be put right there or here, tried again every second.
    pub fn refused(&mut self, reason: &str, now: Millis) -> Say {
        self.acknowledged = None;
        self.failures = 0;
        self.due = now.plus(RETRY_MS);
        self.report(reason)
    }

    /// The name server could not be reached or did not answer.
    pub fn failed(&mut self, reason: &str, now: Millis) -> Say {
        self.acknowledged = None;
        let pause = if self.failures == 0 {
            RETRY_MS
        } else {
            RETRY_MS_MAX
        };
        self.failures = self.failures.saturating_add(1);
        self.due = now.plus(pause);
        // Reasons may differ from try to try; that it is out of reach is one trouble.
        let said = self.trouble.is_some();
        let say = self.report(reason);
        if said { Say::Nothing } else { say }
    }

    /// The connection ended while nothing was under way.
    pub fn lost(&mut self, now: Millis) {
        self.acknowledged = None;
        self.due = now;
    }

    /// Whether the name server has us.
    pub fn is_registered(&self) -> bool {
        self.acknowledged.is_some()
    }

    fn report(&mut self, reason: &str) -> Say {
        if self.trouble.as_deref() == Some(reason) {
            return Say::Nothing;
        }
        self.trouble = Some(reason.to_owned());
        Say::Once
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        period_ms: 30_000,
        force: true,
        seeking: false,
    };
    const ASKING: Rules = Rules {
        period_ms: 30_000,
        force: false,
        seeking: false,
    };

    fn at(generation: u64) -> Revision {
        Revision {
            generation,
            permission: 6,
        }
    }

    fn registered() -> Session {
        let mut session = Session::new(Millis(0));
        assert_eq!(session.announced(at(1), RULES, Millis(0)), Say::Once);
        session
    }

    #[test]
    fn a_new_name_server_gets_everything_at_once_and_again_every_period() {
        let mut session = Session::new(Millis(0));
        assert_eq!(session.next(at(1), RULES, Millis(0)), Action::AnnounceAll);
        session.announced(at(1), RULES, Millis(100));
        assert_eq!(
            session.next(at(1), RULES, Millis(30_099)),
            Action::WaitUntil(Millis(30_100))
        );
        assert_eq!(
            session.next(at(1), RULES, Millis(30_100)),
            Action::AnnounceAll
        );
        assert_eq!(
            session.announced(at(1), RULES, Millis(30_101)),
            Say::Nothing
        );
    }

    #[test]
    fn a_slave_without_a_master_asks_for_one_every_second() {
        let seeking = Rules {
            seeking: true,
            ..ASKING
        };
        let mut session = registered();
        session.announced(at(1), seeking, Millis(0));
        assert_eq!(
            session.next(at(1), seeking, Millis(999)),
            Action::WaitUntil(Millis(1_000))
        );
        assert_eq!(
            session.next(at(1), seeking, Millis(1_000)),
            Action::AnnounceAll,
            "the other question does not tell"
        );
        // Also when the master was lost during the period.
        session.announced(at(1), ASKING, Millis(2_000));
        assert_eq!(
            session.next(at(1), seeking, Millis(2_500)),
            Action::WaitUntil(Millis(3_500))
        );
        assert_eq!(
            session.next(at(1), seeking, Millis(3_500)),
            Action::AnnounceAll,
            "the wait ends"
        );
    }

    #[test]
    fn a_change_is_announced_at_once_and_a_change_of_permission_for_all_topics() {
        let mut session = registered();
        assert_eq!(
            session.next(at(2), RULES, Millis(1)),
            Action::AnnounceChanges
        );
        let read_only = Revision {
            generation: 2,
            permission: 4,
        };
        assert_eq!(
            session.next(read_only, RULES, Millis(1)),
            Action::AnnounceAll
        );
    }

    #[test]
    fn a_permission_that_went_out_under_a_known_version_goes_out_again_with_the_next() {
        let mut session = registered();
        let early = Revision {
            generation: 1,
            permission: 4,
        };
        assert_eq!(
            session.next(early, RULES, Millis(1)),
            Action::WaitUntil(Millis(30_000))
        );
        session.announced(early, RULES, Millis(30_000));
        let touched = Revision {
            generation: 2,
            permission: 4,
        };
        assert_eq!(
            session.next(touched, RULES, Millis(30_001)),
            Action::AnnounceAll
        );
    }

    #[test]
    fn without_force_the_name_server_is_asked_and_gets_everything_when_it_differs() {
        let mut session = registered();
        assert_eq!(session.next(at(1), ASKING, Millis(30_000)), Action::Ask);
        session.confirmed(ASKING, Millis(30_005));
        assert_eq!(
            session.next(at(1), ASKING, Millis(30_006)),
            Action::WaitUntil(Millis(60_005))
        );
        session.outdated(Millis(60_010));
        assert_eq!(
            session.next(at(1), ASKING, Millis(60_010)),
            Action::AnnounceAll
        );
    }

    #[test]
    fn the_period_is_held_between_ten_and_sixty_seconds() {
        for (configured, expected) in [
            (1, 10_000),
            (9_999, 10_000),
            (20_000, 20_000),
            (3_600_000, 60_000),
        ] {
            let rules = Rules {
                period_ms: configured,
                force: true,
                seeking: false,
            };
            let mut session = Session::new(Millis(0));
            session.announced(at(1), rules, Millis(0));
            assert_eq!(
                session.next(at(1), rules, Millis(0)),
                Action::WaitUntil(Millis(expected)),
                "{configured}"
            );
        }
    }

    #[test]
    fn a_shorter_period_counts_at_once() {
        let mut session = registered();
        let rules = Rules {
            period_ms: 10_000,
            force: true,
            seeking: false,
        };
        assert_eq!(
            session.next(at(1), rules, Millis(5_000)),
            Action::WaitUntil(Millis(15_000))
        );
    }

    #[test]
    fn a_name_server_that_is_away_is_tried_again_every_other_second_and_reported_once() {
        let mut session = registered();
        let mut now = Millis(0);
        let mut pauses = Vec::new();
        for attempt in 0..6 {
            let say = session.failed(&format!("reason {attempt}"), now);
            assert_eq!(say == Say::Once, attempt == 0, "attempt {attempt}");
            let Action::WaitUntil(until) = session.next(at(9), RULES, now) else {
                panic!("it must wait")
            };
            pauses.push(until.since(now));
            now = until;
            assert_eq!(session.next(at(9), RULES, now), Action::AnnounceAll);
        }
        assert_eq!(pauses, [1_000, 2_000, 2_000, 2_000, 2_000, 2_000]);
        assert_eq!(session.announced(at(9), RULES, now), Say::Once);
        assert_eq!(session.failed("again", now), Say::Once);
    }

    #[test]
    fn a_refusal_is_said_once_and_tried_again_every_second() {
        let mut session = registered();
        for second in 0..3 {
            let now = Millis(second * 1_000);
            let say = session.refused("the name broker-a belongs to 10.0.0.1:10911", now);
            assert_eq!(say == Say::Once, second == 0, "second {second}");
            assert!(!session.is_registered());
            assert_eq!(
                session.next(at(2), RULES, now),
                Action::WaitUntil(now.plus(1_000))
            );
        }
        assert_eq!(session.refused("another reason", Millis(9_000)), Say::Once);
    }

    #[test]
    fn a_lost_connection_is_followed_by_a_whole_registration_without_delay() {
        let mut session = registered();
        session.lost(Millis(7_000));
        assert!(!session.is_registered());
        assert_eq!(
            session.next(at(1), RULES, Millis(7_000)),
            Action::AnnounceAll
        );
    }
}
