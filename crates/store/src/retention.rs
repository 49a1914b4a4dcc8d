//! What may be deleted, and when: oldest first, whole files only, never the newest.
//!
//! [`Retention::decide`] is pure: clock, hour and disk use come in, what to delete comes out. A file's age is that of its
//! last record, whatever its file time says. A clock that is behind the newest record or that jumped deletes nothing by
//! age.

use gantry_message::Millis;

use crate::config::StoreConfig;

const HOUR_MS: i64 = 3_600_000;
/// A clock that moved by more than this against the time that passed is not believed for a while.
const JUMP_MS: i64 = 24 * HOUR_MS;
/// So long it is not believed.
const DISBELIEF_MS: i64 = HOUR_MS;
/// An administrator's wish is good for so many rounds, as Apache does it.
const MANUAL_ROUNDS: u32 = 20;

/// What is known when a round begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) now: Millis,
    /// Milliseconds of a clock that cannot be set.
    pub(crate) uptime_ms: i64,
    /// Local hour of the day.
    pub(crate) hour: u8,
    pub(crate) newest_record: Millis,
    /// Used share of the least used disk of the log, percent.
    pub(crate) log_percent: Option<u64>,
    /// Used share of the queues' disk, percent.
    pub(crate) queue_percent: Option<u64>,
}

/// Which segments go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// None.
    Keep,
    /// Those whose last record is at least this old.
    Before(Millis),
    /// The oldest, whatever their age, until there is space.
    Oldest,
}

/// What retention remembers from round to round.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    manual_rounds: u32,
    /// Clock and uptime of the last round.
    last: Option<(Millis, i64)>,
    /// Uptime until which the clock is not believed.
    disbelieved_until: i64,
}

impl Retention {
    /// The next rounds delete what is expired whatever the hour.
    pub(crate) fn delete_now(&mut self) {
        self.manual_rounds = MANUAL_ROUNDS;
    }

    pub(crate) fn decide(&mut self, config: &StoreConfig, facts: &Facts) -> Verdict {
        self.watch_clock(facts);
        let manual = self.manual_rounds > 0;
        self.manual_rounds = self.manual_rounds.saturating_sub(1);
        let above = |limit: u64| {
            [facts.log_percent, facts.queue_percent]
                .iter()
                .flatten()
                .any(|&used| used > limit)
        };
        if config.clean_forcibly && above(config.disk_clean_forcibly_ratio) {
            return Verdict::Oldest;
        }
        let asked = manual
            || config.delete_when.contains(&facts.hour)
            || above(config.disk_max_used_ratio.clamp(10, 95));
        let believed =
            facts.uptime_ms >= self.disbelieved_until && facts.now >= facts.newest_record;
        if !asked || !believed {
            return Verdict::Keep;
        }
        let reserved = i64::try_from(config.reserved_hours)
            .unwrap_or(i64::MAX)
            .saturating_mul(HOUR_MS);
        Verdict::Before(facts.now.plus(-reserved))
    }

    fn watch_clock(&mut self, facts: &Facts) {
        let last = self.last.replace((facts.now, facts.uptime_ms));
        let Some((then, uptime_then)) = last else {
            return;
        };
        let drift = facts.now.since(then) - (facts.uptime_ms - uptime_then);
        if drift.abs() > JUMP_MS {
            self.disbelieved_until = facts.uptime_ms + DISBELIEF_MS;
            tracing::error!(
                drift_ms = drift,
                "the clock jumped, no message is deleted by age for an hour"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_700_000_000_000);
    const FACTS: Facts = Facts {
        now: NOW,
        uptime_ms: 0,
        hour: 12,
        newest_record: Millis(1_699_999_999_000),
        log_percent: Some(50),
        queue_percent: Some(50),
    };
    const EXPIRED: Verdict = Verdict::Before(Millis(NOW.0 - 72 * HOUR_MS));

    fn decide(facts: Facts) -> Verdict {
        Retention::default().decide(&StoreConfig::default(), &facts)
    }

    #[test]
    fn what_is_deleted_depends_on_hour_and_space() {
        for (facts, expected) in [
            (FACTS, Verdict::Keep),
            (Facts { hour: 4, ..FACTS }, EXPIRED),
            (
                Facts {
                    log_percent: Some(75),
                    ..FACTS
                },
                Verdict::Keep,
            ),
            (
                Facts {
                    log_percent: Some(76),
                    ..FACTS
                },
                EXPIRED,
            ),
            (
                Facts {
                    queue_percent: Some(76),
                    ..FACTS
                },
                EXPIRED,
            ),
            (
                Facts {
                    log_percent: Some(86),
                    ..FACTS
                },
                Verdict::Oldest,
            ),
            (
                Facts {
                    log_percent: None,
                    queue_percent: None,
                    ..FACTS
                },
                Verdict::Keep,
            ),
        ] {
            assert_eq!(decide(facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_clock_behind_the_newest_record_deletes_nothing_by_age() {
        assert_eq!(
            decide(Facts {
                hour: 4,
                newest_record: NOW.plus(1),
                ..FACTS
            }),
            Verdict::Keep
        );
        assert_eq!(
            decide(Facts {
                log_percent: Some(86),
                newest_record: NOW.plus(1),
                ..FACTS
            }),
            Verdict::Oldest
        );
    }

    #[test]
    fn a_clock_that_jumps_is_not_believed_for_an_hour() {
        let config = StoreConfig::default();
        let mut retention = Retention::default();
        let facts = |days: i64, uptime_ms| Facts {
            hour: 4,
            now: NOW.plus(days * JUMP_MS + uptime_ms),
            uptime_ms,
            ..FACTS
        };
        assert!(matches!(
            retention.decide(&config, &facts(0, 0)),
            Verdict::Before(_)
        ));
        assert_eq!(retention.decide(&config, &facts(30, 10_000)), Verdict::Keep);
        assert_eq!(retention.decide(&config, &facts(30, 20_000)), Verdict::Keep);
        assert!(matches!(
            retention.decide(&config, &facts(30, 10_000 + HOUR_MS)),
            Verdict::Before(_)
        ));
    }

    #[test]
    fn an_administrators_wish_holds_for_twenty_rounds() {
        let config = StoreConfig::default();
        let mut retention = Retention::default();
        retention.delete_now();
        for _ in 0..20 {
            assert_eq!(retention.decide(&config, &FACTS), EXPIRED);
        }
        assert_eq!(retention.decide(&config, &FACTS), Verdict::Keep);
    }
}
