//! What may be deleted, and when: oldest first, whole files only, never the newest.
//!
//! [`Retention::decide`] is pure: clock, hour and disk use come in, what to delete comes out. A file's age is that of its
//! last record, whatever its file time says. A clock that is behind the newest record or that jumped deletes nothing by
//! age.

use gantry_message::Millis;
use jiff::Timestamp;
use jiff::tz::TimeZone;

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
    /// The next segment of the log found no space.
    pub(crate) no_space: bool,
}

impl Facts {
    /// Whether files should go before their time, if they may.
    pub(crate) fn is_crowded(&self, config: &StoreConfig) -> bool {
        self.no_space || self.is_above(config.disk_clean_forcibly_ratio)
    }

    fn is_above(&self, limit: u64) -> bool {
        let mut disks = self.log_percent.iter().chain(&self.queue_percent);
        disks.any(|&used| used > limit)
    }
}

/// The hour that clocks on the wall show there and then, summer time included: what `deleteWhen` speaks of.
pub(crate) fn local_hour(now: Millis, zone: &TimeZone) -> u8 {
    let time = Timestamp::from_millisecond(now.0).unwrap_or(Timestamp::UNIX_EPOCH);
    u8::try_from(zone.to_datetime(time).hour()).unwrap_or(0)
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
#[derive(Debug)]
pub(crate) struct Retention {
    manual_rounds: u32,
    /// Clock and uptime of the last look at both.
    last: (Millis, i64),
    /// Uptime until which the clock is not believed.
    disbelieved_until: i64,
    /// It was said that the clock is behind the newest message.
    is_told: bool,
}

impl Retention {
    /// `now` is what the clock says at uptime 0.
    pub(crate) fn new(now: Millis) -> Self {
        Self {
            manual_rounds: 0,
            last: (now, 0),
            disbelieved_until: 0,
            is_told: false,
        }
    }

    /// The next rounds delete what is expired whatever the hour.
    pub(crate) fn delete_now(&mut self) {
        self.manual_rounds = MANUAL_ROUNDS;
    }

    pub(crate) fn decide(&mut self, config: &StoreConfig, facts: &Facts) -> Verdict {
        let is_right = self.is_clock_right(facts);
        let manual = self.manual_rounds > 0;
        self.manual_rounds = self.manual_rounds.saturating_sub(1);
        if config.clean_forcibly && facts.is_crowded(config) {
            return Verdict::Oldest;
        }
        let is_time = manual
            || config.delete_when.contains(&facts.hour)
            || facts.no_space
            || facts.is_above(config.disk_max_used_ratio.clamp(10, 95));
        if !is_time || !is_right {
            return Verdict::Keep;
        }
        let reserved = i64::try_from(config.reserved_hours)
            .unwrap_or(i64::MAX)
            .saturating_mul(HOUR_MS);
        Verdict::Before(facts.now.plus(-reserved))
    }

    /// Whether ages may be told by it. Says once what is wrong with it.
    fn is_clock_right(&mut self, facts: &Facts) -> bool {
        let (then, uptime_then) = std::mem::replace(&mut self.last, (facts.now, facts.uptime_ms));
        let drift = facts
            .now
            .since(then)
            .saturating_sub(facts.uptime_ms - uptime_then);
        if drift.saturating_abs() > JUMP_MS {
            self.disbelieved_until = facts.uptime_ms + DISBELIEF_MS;
            tracing::error!(
                by_ms = drift,
                "the clock jumped by more than a day, no message is deleted by age for an hour"
            );
        }
        let is_behind = facts.now < facts.newest_record;
        if is_behind && !self.is_told {
            let behind_ms = facts.newest_record.since(facts.now);
            tracing::error!(
                behind_ms,
                "the clock is behind the newest message, no message is deleted by age until it has caught up"
            );
        }
        self.is_told = is_behind;
        !is_behind && facts.uptime_ms >= self.disbelieved_until
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
        no_space: false,
    };
    const EXPIRED: Verdict = Verdict::Before(Millis(NOW.0 - 72 * HOUR_MS));

    fn decide(facts: Facts) -> Verdict {
        Retention::new(NOW).decide(&StoreConfig::default(), &facts)
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
            (
                Facts {
                    queue_percent: Some(86),
                    ..FACTS
                },
                Verdict::Oldest,
            ),
            (
                Facts {
                    no_space: true,
                    ..FACTS
                },
                Verdict::Oldest,
            ),
        ] {
            assert_eq!(decide(facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn nothing_young_goes_where_that_is_forbidden() {
        let config = StoreConfig {
            clean_forcibly: false,
            ..StoreConfig::default()
        };
        let facts = Facts {
            log_percent: Some(99),
            no_space: true,
            ..FACTS
        };
        assert_eq!(Retention::new(NOW).decide(&config, &facts), EXPIRED);
    }

    #[test]
    fn hours_are_those_of_the_wall_summer_time_included() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at = |time: &str| {
            let time: Timestamp = time.parse().unwrap();
            local_hour(Millis(time.as_millisecond()), &zone)
        };
        assert_eq!(at("2024-01-15T03:30:00Z"), 4);
        assert_eq!(at("2024-07-15T02:30:00Z"), 4);
        // The night of the change to summer time has no hour 2, that of the change back has it twice.
        assert_eq!(
            [at("2024-03-31T00:59:00Z"), at("2024-03-31T01:00:00Z")],
            [1, 3]
        );
        assert_eq!(
            [at("2024-10-27T00:30:00Z"), at("2024-10-27T01:30:00Z")],
            [2, 2]
        );
    }

    #[test]
    fn several_hours_count() {
        let config = StoreConfig {
            delete_when: vec![4, 22],
            ..StoreConfig::default()
        };
        for hour in 0..24 {
            let expected = if [4, 22].contains(&hour) {
                EXPIRED
            } else {
                Verdict::Keep
            };
            let facts = Facts { hour, ..FACTS };
            assert_eq!(
                Retention::new(NOW).decide(&config, &facts),
                expected,
                "{hour}"
            );
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
        // Also one that jumps between the start and the first round, as it is set.
        let mut early = Retention::new(Millis(0));
        assert_eq!(
            early.decide(&StoreConfig::default(), &Facts { hour: 4, ..FACTS }),
            Verdict::Keep
        );
        let config = StoreConfig::default();
        let mut retention = Retention::new(NOW);
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
        let mut retention = Retention::new(NOW);
        retention.delete_now();
        for _ in 0..20 {
            assert_eq!(retention.decide(&config, &FACTS), EXPIRED);
        }
        assert_eq!(retention.decide(&config, &FACTS), Verdict::Keep);
    }
}
