//! The master's end of one link: what is sent next, and what the slave has.

use std::time::Instant;

use gantry_message::LogOffset;

use crate::{Head, Patience, Refusal, Reports, Wire};

/// What the master's log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where it starts.
    pub min: LogOffset,
    /// Where its newest segment starts.
    pub newest: LogOffset,
    /// Where it ends.
    pub end: LogOffset,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this head and, of the log, the bytes it announces; then tell [`Master::sent`].
    Send(Head),
    /// Nothing until the log grows, the slave says something, or this moment.
    Wait(Instant),
}

/// The master's end of one link.
#[derive(Debug)]
pub struct Master {
    patience: Patience,
    wire: Wire,
    reports: Reports,
    /// What comes next for the slave; `None` before its first report.
    next: Option<LogOffset>,
    /// Invariant: never goes back, never beyond `next`.
    acknowledged: LogOffset,
    read_at: Instant,
    written_at: Instant,
    /// Whether it need not hear at once that the link is one: a slave follows from the first thing that comes. On Apache's
    /// wire that is the first heartbeat.
    is_greeted: bool,
}

impl Master {
    /// A slave has connected.
    #[must_use]
    pub fn new(patience: Patience, now: Instant) -> Self {
        Self {
            patience,
            wire: Wire::Plain,
            reports: Reports::default(),
            next: None,
            acknowledged: LogOffset(0),
            read_at: now,
            written_at: now,
            is_greeted: true,
        }
    }

    /// The slave was invited: from here on the link has checksums. Comes before its first report.
    pub fn invited(&mut self) {
        assert_eq!(self.next, None, "a link changes its wire before it is used");
        self.wire = Wire::Checked;
        self.reports = Reports::new(self.wire);
        self.is_greeted = false;
    }

    /// How this link's bytes are laid out.
    #[must_use]
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// Up to where the slave has the log.
    #[must_use]
    pub fn acknowledged(&self) -> LogOffset {
        self.acknowledged
    }

    /// What comes next for the slave; `None` before it said anything.
    #[must_use]
    pub fn next(&self) -> Option<LogOffset> {
        self.next
    }

    /// Takes bytes that came from the slave.
    pub fn received(&mut self, bytes: &[u8], log: &Log, now: Instant) -> Result<(), Refusal> {
        self.read_at = now;
        for position in self.reports.take(bytes) {
            let position = position?;
            let next = match self.next {
                None => first(self.wire, position, log)?,
                Some(next) if next < position => {
                    return Err(Refusal::NotSent {
                        position,
                        sent: next,
                    });
                }
                Some(_) if position < self.acknowledged => {
                    let acknowledged = self.acknowledged;
                    return Err(Refusal::WentBack {
                        acknowledged,
                        position,
                    });
                }
                Some(next) => next,
            };
            self.next = Some(next);
            self.acknowledged = position;
        }
        Ok(())
    }

    /// Says what to do next; a block has at most `len_max` bytes, which the caller chooses so that it ends with its segment.
    pub fn step(&self, log: &Log, len_max: u32, now: Instant) -> Result<Step, Refusal> {
        let silent_at = self.read_at + self.patience.silence;
        if silent_at <= now {
            return Err(Refusal::Silent(self.patience.silence));
        }
        let Some(next) = self.next else {
            return Ok(Step::Wait(silent_at));
        };
        assert!(
            next <= log.end,
            "sent up to {next}, and the log ends at {}",
            log.end
        );
        if next < log.min {
            return Err(Refusal::BehindStart {
                position: next,
                min: log.min,
            });
        }
        let len = u32::try_from(log.end.0 - next.0)
            .unwrap_or(u32::MAX)
            .min(len_max);
        let quiet_until = self.written_at + self.patience.heartbeat;
        if len == 0 && self.is_greeted && now < quiet_until {
            return Ok(Step::Wait(silent_at.min(quiet_until)));
        }
        Ok(Step::Send(Head { start: next, len }))
    }

    /// A block went out.
    pub fn sent(&mut self, block: Head, now: Instant) {
        assert_eq!(
            self.next,
            Some(block.start),
            "a block that was not asked for"
        );
        (self.written_at, self.is_greeted) = (now, true);
        self.next = Some(LogOffset(block.start.0 + u64::from(block.len)));
    }
}

/// Where a slave that ends at `position` goes on. An empty one starts with the newest segment on Apache's wire, as Apache's
/// master has it; between Gantrys it says where it wants to start.
fn first(wire: Wire, position: LogOffset, log: &Log) -> Result<LogOffset, Refusal> {
    if log.end < position {
        let end = log.end;
        return Err(Refusal::BeyondEnd { position, end });
    }
    if position.0 == 0 && wire == Wire::Plain {
        return Ok(log.newest);
    }
    if position < log.min {
        let min = log.min;
        return Err(Refusal::BehindStart { position, min });
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report;

    const LOG: Log = Log {
        min: LogOffset(1_000),
        newest: LogOffset(3_000),
        end: LogOffset(3_500),
    };

    fn after(position: u64, now: Instant) -> Result<Master, Refusal> {
        let mut master = Master::new(Patience::default(), now);
        master.received(report(Wire::Plain, LogOffset(position)).bytes(), &LOG, now)?;
        Ok(master)
    }

    fn send(start: u64, len: u32) -> Result<Step, Refusal> {
        let start = LogOffset(start);
        Ok(Step::Send(Head { start, len }))
    }

    #[test]
    fn nothing_is_sent_before_the_first_report() {
        let now = Instant::now();
        let mut master = Master::new(Patience::default(), now);
        let silent = now + Duration::from_secs(20);
        assert_eq!(master.step(&LOG, 100, now), Ok(Step::Wait(silent)));
        master.received(&[0; 7], &LOG, now).unwrap();
        assert_eq!(master.step(&LOG, 100, now), Ok(Step::Wait(silent)));
        assert_eq!(
            master.step(&LOG, 100, silent),
            Err(Refusal::Silent(Duration::from_secs(20)))
        );
    }

    #[test]
    fn a_slave_goes_on_where_it_ends_and_an_empty_one_with_the_newest_segment() {
        let now = Instant::now();
        for (position, start, len) in [(0, 3_000, 100), (1_000, 1_000, 100), (3_450, 3_450, 50)] {
            let master = after(position, now).unwrap();
            assert_eq!(master.step(&LOG, 100, now), send(start, len), "{position}");
            assert_eq!(master.acknowledged(), LogOffset(position));
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_refused_and_count_for_nothing() {
        let now = Instant::now();
        let min = LOG.min;
        for position in [1, 999].map(LogOffset) {
            let refusal = Refusal::BehindStart { position, min };
            assert_eq!(after(position.0, now).unwrap_err(), refusal);
        }
        let end = LOG.end;
        for position in [3_501, 1 << 40, u64::MAX].map(LogOffset) {
            let refusal = Refusal::BeyondEnd { position, end };
            assert_eq!(after(position.0, now).unwrap_err(), refusal);
        }
        let mut master = after(2_000, now).unwrap();
        let block = Head {
            start: LogOffset(2_000),
            len: 10,
        };
        master.sent(block, now);
        master
            .received(report(Wire::Plain, LogOffset(2_005)).bytes(), &LOG, now)
            .unwrap();
        let beyond = master.received(report(Wire::Plain, LogOffset(2_011)).bytes(), &LOG, now);
        let (position, sent) = (LogOffset(2_011), LogOffset(2_010));
        assert_eq!(beyond, Err(Refusal::NotSent { position, sent }));
        let back = master.received(report(Wire::Plain, LogOffset(2_004)).bytes(), &LOG, now);
        let (position, acknowledged) = (LogOffset(2_004), LogOffset(2_005));
        let refusal = Refusal::WentBack {
            acknowledged,
            position,
        };
        assert_eq!(back, Err(refusal));
        assert_eq!(master.acknowledged(), LogOffset(2_005));
    }

    #[test]
    fn a_quiet_link_carries_heartbeats_and_a_dead_one_ends() {
        let now = Instant::now();
        let master = after(3_500, now).unwrap();
        let later = now + Duration::from_secs(5);
        assert_eq!(master.step(&LOG, 100, now), Ok(Step::Wait(later)));
        assert_eq!(master.step(&LOG, 100, later), send(3_500, 0));
        let dead = now + Duration::from_secs(20);
        let refusal = Refusal::Silent(Duration::from_secs(20));
        assert_eq!(master.step(&LOG, 100, dead), Err(refusal));
    }

    #[test]
    fn an_invited_slave_hears_at_once_that_it_follows() {
        let now = Instant::now();
        let mut master = Master::new(Patience::default(), now);
        master.invited();
        let first = report(Wire::Checked, LogOffset(3_500));
        master.received(first.bytes(), &LOG, now).unwrap();
        assert_eq!(master.step(&LOG, 100, now), send(3_500, 0));
        let start = LogOffset(3_500);
        master.sent(Head { start, len: 0 }, now);
        let later = now + Duration::from_secs(5);
        assert_eq!(master.step(&LOG, 100, now), Ok(Step::Wait(later)));
    }

    #[test]
    fn a_slave_that_is_overtaken_by_deletion_is_told_apart_from_one_that_waits() {
        let now = Instant::now();
        let master = after(1_500, now).unwrap();
        let (position, min) = (LogOffset(1_500), LogOffset(2_000));
        let log = Log { min, ..LOG };
        let refusal = Refusal::BehindStart { position, min };
        assert_eq!(master.step(&log, 100, now), Err(refusal));
    }
}
