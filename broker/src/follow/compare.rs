//! Whether our log is a copy of the master's, and up to where: by asking for single records.
//!
//! Logs grow at the end only, so two that hold the same record at one place are the same up to there. Which records are
//! asked for is decided here; asking is the caller's.

use gantry_message::{LogOffset, Millis};
use gantry_store::{RecordPlace, Store};

/// What is known of the master's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theirs {
    /// Where it starts.
    pub min: LogOffset,
    /// Where it ends.
    pub end: LogOffset,
}

/// What our log has to say.
pub trait Ours {
    /// Where it ends.
    fn end(&self) -> LogOffset;
    /// The last record.
    fn last(&self) -> Option<(LogOffset, Millis)>;
    /// Where things lie in it that recovery made up for something lost.
    fn made_up(&self) -> Vec<LogOffset>;
    /// Where its segments start.
    fn segments(&self) -> Vec<LogOffset>;
    /// The records of the segment that starts there.
    fn records(&self, segment: LogOffset) -> Vec<RecordPlace>;
}

impl Ours for Store {
    fn end(&self) -> LogOffset {
        self.max_offset()
    }

    fn last(&self) -> Option<(LogOffset, Millis)> {
        self.last_record()
    }

    fn made_up(&self) -> Vec<LogOffset> {
        Store::made_up(self)
    }

    fn segments(&self) -> Vec<LogOffset> {
        self.segment_starts()
    }

    fn records(&self, segment: LogOffset) -> Vec<RecordPlace> {
        self.records_from(segment)
    }
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ours is the beginning of theirs: go on at its end.
    GoOn,
    /// Ours is theirs up to there, where this record ends; what is behind they do not have.
    CutAt(RecordPlace),
    /// All of ours was deleted there.
    TooOld,
    /// Ours is theirs but for what was lost and made up for at its very beginning: it has to begin anew.
    BeginAnew,
    /// Ours has nothing of theirs.
    Strangers,
}

/// Compares the logs; `theirs_made_up` is where theirs has something in place of what was lost, `is_same` asks whether the
/// master has our record at that place.
pub fn compare<E>(
    ours: &dyn Ours,
    theirs: Theirs,
    theirs_made_up: &[LogOffset],
    mut is_same: impl FnMut(LogOffset) -> Result<bool, E>,
) -> Result<Verdict, E> {
    let (end, Some((last, _))) = (ours.end(), ours.last()) else {
        return Ok(Verdict::GoOn);
    };
    if end < theirs.min {
        return Ok(Verdict::TooOld);
    }
    // What was lost and made up for, here or there, lies between records that are the same: where the other has something
    // else, only what is before it is compared.
    let mut made_up = ours.made_up();
    made_up.extend_from_slice(theirs_made_up);
    made_up.retain(|at| *at < end && (theirs.min..theirs.end).contains(at));
    made_up.sort_unstable();
    let mut until = theirs.end;
    for at in made_up {
        if !is_same(at)? {
            until = at;
            break;
        }
    }
    // The last record may be of a segment that is deleted there: then there is nothing to compare.
    let is_whole = until == theirs.end && end <= theirs.end;
    if is_whole && (last < theirs.min || is_same(last)?) {
        return Ok(Verdict::GoOn);
    }
    let comparable = |place: &RecordPlace| theirs.min <= place.start && place.end <= until;
    let mut segments = ours.segments();
    segments.retain(|&start| start < end.min(until));
    for &segment in segments.iter().rev() {
        let records = ours.records(segment);
        let records: Vec<RecordPlace> = records.into_iter().filter(comparable).collect();
        let Some(first) = records.first() else {
            continue;
        };
        if !is_same(first.start)? {
            continue;
        }
        // Invariant: the record at `same` is the same, the one at `other`, if there is one, is not.
        let (mut same, mut other) = (0, records.len());
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            if is_same(records[middle].start)? {
                same = middle;
            } else {
                other = middle;
            }
        }
        return Ok(Verdict::CutAt(records[same]));
    }
    if until < theirs.end && end <= theirs.end && theirs.min <= last && is_same(last)? {
        return Ok(Verdict::BeginAnew);
    }
    Ok(Verdict::Strangers)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use super::*;

    /// A log of segments of 1 000 bytes with 10 records each; a record is a number.
    struct Log {
        min: u64,
        records: Vec<u32>,
        made_up: Option<usize>,
    }

    fn place(number: usize) -> RecordPlace {
        let start = number as u64 * 100;
        RecordPlace {
            start: LogOffset(start),
            end: LogOffset(start + 100),
            time: Millis(i64::try_from(start).unwrap()),
        }
    }

    impl Ours for Log {
        fn end(&self) -> LogOffset {
            LogOffset(self.records.len() as u64 * 100)
        }
        fn last(&self) -> Option<(LogOffset, Millis)> {
            let last = place(self.records.len().checked_sub(1)?);
            Some((last.start, last.time))
        }
        fn made_up(&self) -> Vec<LogOffset> {
            self.made_up
                .iter()
                .map(|&number| place(number).start)
                .collect()
        }
        fn segments(&self) -> Vec<LogOffset> {
            let starts = (self.min..self.end().0).step_by(1_000);
            starts.map(LogOffset).collect()
        }
        fn records(&self, segment: LogOffset) -> Vec<RecordPlace> {
            let to = self.end().0.min(segment.0 + 1_000);
            let starts = (segment.0..to).step_by(100);
            starts
                .map(|start| place(usize::try_from(start / 100).unwrap()))
                .collect()
        }
    }

    /// Both have `common` records, then ours and theirs have others; the first bytes are deleted on either side.
    fn check(ours: (u64, usize), theirs: (u64, usize), common: usize, expected: Verdict) {
        let log = |len: usize, mark: u32| -> Vec<u32> {
            (0..len)
                .map(|number| if number < common { 0 } else { mark })
                .collect()
        };
        let (our_log, their_log) = (log(ours.1, 1), log(theirs.1, 2));
        let asked = Cell::new(0);
        let is_same = |at: LogOffset| -> Result<bool, Infallible> {
            asked.set(asked.get() + 1);
            assert!(theirs.0 <= at.0, "asked for what is deleted");
            let at = usize::try_from(at.0 / 100).unwrap();
            assert!(at < their_log.len(), "asked for what is beyond the end");
            Ok(our_log[at] == their_log[at])
        };
        let ours = Log {
            min: ours.0,
            records: our_log.clone(),
            made_up: None,
        };
        let end = LogOffset(their_log.len() as u64 * 100);
        let found = compare(
            &ours,
            Theirs {
                min: LogOffset(theirs.0),
                end,
            },
            &[],
            is_same,
        );
        assert_eq!(found, Ok(expected));
        assert!(
            asked.get() <= ours.segments().len() + 5,
            "{} questions",
            asked.get()
        );
    }

    #[test]
    fn a_log_that_is_the_beginning_of_the_other_goes_on() {
        check((0, 0), (0, 0), 0, Verdict::GoOn);
        check((0, 0), (5_000, 70), 0, Verdict::GoOn);
        check((0, 37), (0, 37), 37, Verdict::GoOn);
        check((0, 37), (3_000, 99), 37, Verdict::GoOn);
        check((2_000, 37), (0, 99), 37, Verdict::GoOn);
        // What could be compared is deleted there.
        check((0, 30), (3_000, 99), 30, Verdict::GoOn);
    }

    #[test]
    fn another_end_is_found_at_its_first_record() {
        for ours in 2..60 {
            for theirs in 1..60 {
                for common in 1..=ours.min(theirs) {
                    if common < ours {
                        let cut = Verdict::CutAt(place(common - 1));
                        check((0, ours), (0, theirs), common, cut);
                    }
                }
            }
        }
        check((2_000, 44), (1_000, 40), 33, Verdict::CutAt(place(32)));
    }

    /// A power cut on a slave can lose what lies before records that are there.
    #[test]
    fn what_recovery_made_up_is_fetched_again() {
        let theirs = Theirs {
            min: LogOffset(0),
            end: LogOffset(5_000),
        };
        for (lost, expected) in [
            (0, Verdict::BeginAnew),
            (1, Verdict::CutAt(place(0))),
            (10, Verdict::CutAt(place(9))),
            (36, Verdict::CutAt(place(35))),
        ] {
            let mut records = vec![0; 37];
            records[lost] = 1;
            let ours = Log {
                min: 0,
                records: records.clone(),
                made_up: Some(lost),
            };
            let is_same = |at: LogOffset| -> Result<bool, Infallible> {
                Ok(records[usize::try_from(at.0 / 100).unwrap()] == 0)
            };
            assert_eq!(compare(&ours, theirs, &[], is_same), Ok(expected), "{lost}");
            // The master has it made up just so: it was lost before it was copied.
            let all_same = |_| -> Result<bool, Infallible> { Ok(true) };
            assert_eq!(compare(&ours, theirs, &[], all_same), Ok(Verdict::GoOn));
        }
    }

    /// A master was without power and lost something in the middle; it was replaced by a slave that had less than what is
    /// before that, and that went on otherwise.
    #[test]
    fn what_recovery_made_up_behind_another_end_hides_nothing() {
        for common in 1..=36 {
            let ours = Log {
                min: 0,
                records: vec![0; 37],
                made_up: Some(36),
            };
            let is_same = |at: LogOffset| -> Result<bool, Infallible> {
                Ok(at < LogOffset(common as u64 * 100))
            };
            let theirs = Theirs {
                min: LogOffset(0),
                end: LogOffset(5_000),
            };
            let cut = Verdict::CutAt(place(common - 1));
            assert_eq!(compare(&ours, theirs, &[], is_same), Ok(cut), "{common}");
        }
    }

    /// A master that was without power lost something in the middle that was copied before; queues of the two would differ.
    #[test]
    fn what_the_master_lost_and_made_up_for_is_cut_here() {
        let ours = Log {
            min: 0,
            records: vec![0; 37],
            made_up: None,
        };
        let theirs = Theirs {
            min: LogOffset(0),
            end: LogOffset(5_000),
        };
        for lost in 1..37 {
            let is_same =
                |at: LogOffset| -> Result<bool, Infallible> { Ok(at != place(lost).start) };
            // One before was lost before it was copied, one behind is not copied yet.
            let made_up = [place(0).start, place(lost).start, place(40).start];
            let cut = Verdict::CutAt(place(lost - 1));
            assert_eq!(compare(&ours, theirs, &made_up, is_same), Ok(cut), "{lost}");
        }
    }

    #[test]
    fn logs_without_a_common_record_are_strangers() {
        check((0, 37), (0, 50), 0, Verdict::Strangers);
        // The master lost everything.
        check((0, 37), (0, 0), 0, Verdict::Strangers);
        check((0, 37), (3_000, 33), 20, Verdict::Strangers);
    }

    #[test]
    fn a_log_whose_end_is_deleted_there_is_too_old() {
        check((0, 29), (3_000, 99), 29, Verdict::TooOld);
    }
}
