//! What the walk over the log says of the log itself: damage, missing segments, blank records, its end.

use gantry_message::{Millis, RecordView, topic};
use gantry_store::format::blank;
use gantry_store::offline::{Reason, has_queues};

use super::side::Stop;
use crate::log::{End, Item, Log, wide};
use crate::report::{Class, Finding, Findings, LogSummary, Severity};
use crate::target::Target;

/// A range of the log without messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) cause: Cause,
}

/// Why a part of the log has no messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It cannot be read.
    Damage,
    /// An earlier recovery could not read it, kept a copy and put a filler record or a segment without messages there.
    Filler,
    /// A blank record says that there is nothing; recovery writes such a one, too, where the end of a segment was lost.
    Blank,
}

/// The ranges that were lost, in the order of the log; of too many only the first are kept.
#[derive(Debug, Default)]
pub(crate) struct LostRanges(Vec<Lost>);

/// Eight bytes of the log that other files or their place tell better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patch {
    pub(crate) at: u64,
    pub(crate) bytes: [u8; 8],
}

/// So many of them are remembered; a second repair does the rest.
pub(crate) const PATCHES_MAX: usize = 1 << 16;
/// So many lost ranges are remembered.
const LOST_MAX: usize = 1 << 16;

impl LostRanges {
    fn push(&mut self, lost: Lost) {
        if self.0.len() < LOST_MAX {
            self.0.push(lost);
        }
    }

    /// The ranges that cannot be read.
    pub(crate) fn damaged(&self) -> impl Iterator<Item = (u64, u64)> {
        let damaged = self.0.iter().filter(|lost| lost.cause == Cause::Damage);
        damaged.map(|lost| (lost.from, lost.to))
    }

    /// The lost range that an offset lies in.
    pub(crate) fn find(&self, at: u64) -> Option<Lost> {
        let behind = self.0.partition_point(|lost| lost.from <= at);
        let lost = *self.0.get(behind.checked_sub(1)?)?;
        (at < lost.to).then_some(lost)
    }
}

/// Accounts for the log.
#[derive(Debug)]
pub(crate) struct LogCheck<'a> {
    target: &'a Target,
    log: &'a Log,
    stop: &'a Stop,
    summary: LogSummary,
    records: u64,
    lost: LostRanges,
    patches: Vec<Patch>,
    unsafe_topics: Option<u64>,
    last_time: Option<Millis>,
}

impl<'a> LogCheck<'a> {
    pub(crate) fn new(target: &'a Target, log: &'a Log, stop: &'a Stop) -> Self {
        let summary = LogSummary {
            segment_size: log.segment_size,
            min_offset: log.chain.min(),
            ..LogSummary::default()
        };
        Self {
            target,
            log,
            stop,
            summary,
            records: 0,
            lost: LostRanges::default(),
            patches: Vec::new(),
            unsafe_topics: None,
            last_time: None,
        }
    }

    /// What is wrong and can be put right in place.
    pub(crate) fn patches(&self) -> &[Patch] {
        &self.patches
    }

    pub(crate) fn lost(&self) -> &LostRanges {
        &self.lost
    }

    /// When the newest message was stored.
    pub(crate) fn last_time(&self) -> Option<Millis> {
        self.last_time
    }

    /// Counts a record. Returns whether it stands for lost messages.
    pub(crate) fn record(&mut self, view: &RecordView<'_>) -> bool {
        self.records += 1;
        let at = view.log_offset().0;
        let is_filler = !view.sys_flag().is_queued()
            && !view.topic().is_empty()
            && topic::LOST_RANGE.starts_with(view.topic());
        if is_filler {
            self.lost.push(Lost {
                from: at,
                to: at.saturating_add(wide(view.len())),
                cause: Cause::Filler,
            });
            return true;
        }
        let time = view.store_time();
        self.summary.messages += 1;
        self.summary.first_store_time.get_or_insert(time.0);
        self.summary.last_store_time = Some(time.0);
        self.last_time = self.last_time.max(Some(time));
        if view.sys_flag().is_queued() && !has_queues(view.topic()) {
            self.unsafe_topics.get_or_insert(at);
        }
        false
    }

    /// What is no record. Returns whether messages are lost there.
    pub(crate) fn gap(&mut self, item: &Item<'_>, findings: &mut Findings) -> bool {
        match item {
            Item::Record(_) => return false,
            Item::Closed { at, remaining } => return self.closed(*at, *remaining, findings),
            Item::Damaged { from, to, reason } => {
                let (from, to) = (*from, *to);
                let bytes = to.saturating_sub(from);
                let text = format!(
                    "the log is damaged from {from} to {to}, its {bytes} bytes are lost: {reason}"
                );
                if matches!(reason, Reason::Disk(_)) {
                    findings.incomplete();
                }
                findings.add(self.fault("log-damaged", from, text));
                self.lose(from, to);
            }
            Item::Missing { from, to } => {
                let (from, to) = (*from, *to);
                let text = format!("segments are missing: the log from {from} to {to} is lost");
                findings.add(self.fault("segment-missing", from, text));
                self.lose(from, to);
            }
        }
        true
    }

    fn lose(&mut self, from: u64, to: u64) {
        self.summary.lost_bytes = self
            .summary
            .lost_bytes
            .saturating_add(to.saturating_sub(from));
        self.lost.push(Lost {
            from,
            to,
            cause: Cause::Damage,
        });
    }

    /// Returns whether the segment stands for lost messages.
    fn closed(&mut self, at: u64, remaining: Option<u32>, findings: &mut Findings) -> bool {
        let Some(segment) = self.log.chain.find(at) else {
            return false;
        };
        let rest = segment.end() - at;
        let Some(remaining) = remaining.map(u64::from) else {
            return false;
        };
        if remaining != rest {
            let text =
                format!("the blank record at {at} says {remaining} bytes remain, there are {rest}");
            findings.add(self.fault("blank-length", at, text));
            if let Ok(rest) = u32::try_from(rest)
                && self.patches.len() < PATCHES_MAX
            {
                self.patches.push(Patch {
                    at,
                    bytes: blank::encode(rest),
                });
            }
        }
        let is_all = at == segment.start();
        if is_all {
            let text = format!(
                "a segment without messages stands for one that was missing: {at} to {}",
                segment.end()
            );
            findings.add(Finding::note(
                Class::Commitlog,
                "segment-made-up",
                segment.path(),
                text,
            ));
        }
        self.lost.push(Lost {
            from: at,
            to: segment.end(),
            cause: if is_all { Cause::Filler } else { Cause::Blank },
        });
        is_all
    }

    /// What stands where the log ends. Returns where that is.
    pub(crate) fn end(&mut self, end: &End, findings: &mut Findings) -> u64 {
        findings.class(Class::Commitlog).records = self.records;
        let (at, durable) = (end.at, self.stop.log_noted_to());
        let is_torn = end
            .reason
            .as_ref()
            .filter(|reason| **reason != Reason::Zeros);
        if let Some(reason) = is_torn {
            let text = format!(
                "the log ends at {at} with what is no whole record, and no record comes behind it: {reason}"
            );
            if matches!(reason, Reason::Disk(_)) {
                findings.incomplete();
            }
            let severity = match self.stop.is_clean || at < durable {
                true => Severity::Fault,
                false => Severity::Note,
            };
            findings.add(self.fault("log-end", at, text).as_bad_as(severity));
        }
        if at < durable {
            let text = format!(
                "the log ends at {at}, gantry.checkpoint says that it was written up to {durable}"
            );
            findings.add(self.fault("log-short", at, text));
            self.summary.lost_bytes = self.summary.lost_bytes.saturating_add(durable - at);
        }
        self.known_losses(findings);
        if let Some(at) = self.unsafe_topics {
            let text = format!("the record at {at} has a topic that cannot be a directory's name");
            findings.add(self.fault("topic-name", at, text));
        }
        at
    }

    fn known_losses(&self, findings: &mut Findings) {
        for lost in self
            .lost
            .0
            .iter()
            .filter(|lost| lost.cause == Cause::Filler)
        {
            let (from, to) = (lost.from, lost.to);
            let is_segment = self
                .log
                .chain
                .find(from)
                .is_some_and(|segment| segment.start() == from && segment.end() == to);
            if !is_segment {
                let text = format!(
                    "an earlier recovery found the log damaged from {from} to {to} and put a filler record there"
                );
                findings.add(
                    self.fault("lost-earlier", from, text)
                        .as_bad_as(Severity::Note),
                );
            }
        }
    }

    /// Where the log ends, when something stands there.
    pub(crate) fn torn_at(&self, end: &End) -> Option<u64> {
        let is_torn = end
            .reason
            .as_ref()
            .is_some_and(|reason| *reason != Reason::Zeros);
        is_torn.then_some(end.at)
    }

    pub(crate) fn summary(&self, end: u64) -> LogSummary {
        LogSummary {
            end_offset: end,
            ..self.summary
        }
    }

    fn fault(&self, code: &'static str, at: u64, text: String) -> Finding {
        let (path, offset) = self.log.place(self.target, at);
        Finding::fault(Class::Commitlog, code, &path, text).at(offset)
    }
}
