//! A limit on how often one place in the program is heard in the log: a storm of the same line fills disks and hides the
//! others. What is left out is counted, and said when the place is heard again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;

/// The time in which lines of one place are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// So many of them are written.
const LINES_MAX: u32 = 100;

/// Counts lines by the place they come from. Places are in the program's text, so there are no more than that.
#[derive(Debug, Default)]
pub(crate) struct Limiter(Mutex<HashMap<Identifier, Place>>);

#[derive(Debug)]
struct Place {
    began: Instant,
    lines: u32,
    left_out: u64,
}

/// Whether to write a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Write it; before it, so many like it were left out.
    Write(u64),
    /// Leave it out.
    LeaveOut,
}

impl Limiter {
    pub(crate) fn look(&self, place: Identifier, now: Instant) -> Verdict {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(place).or_insert(Place {
            began: now,
            lines: 0,
            left_out: 0,
        });
        let mut before = 0;
        if WINDOW <= now.saturating_duration_since(place.began) {
            before = std::mem::take(&mut place.left_out);
            (place.began, place.lines) = (now, 0);
        }
        if LINES_MAX <= place.lines {
            place.left_out += 1;
            return Verdict::LeaveOut;
        }
        place.lines += 1;
        Verdict::Write(before)
    }
}

#[cfg(test)]
mod tests {
    use tracing::Callsite;

    use super::*;

    #[test]
    fn a_storm_of_one_line_is_cut_and_counted_and_others_are_heard() {
        let limiter = Limiter::default();
        let one =
            tracing::callsite! { name: "one", kind: tracing::metadata::Kind::EVENT, fields: a };
        let two =
            tracing::callsite! { name: "two", kind: tracing::metadata::Kind::EVENT, fields: a };
        let (one, two) = (one.metadata().callsite(), two.metadata().callsite());
        let start = Instant::now();
        for _ in 0..LINES_MAX {
            assert_eq!(limiter.look(one.clone(), start), Verdict::Write(0));
        }
        for _ in 0..7 {
            assert_eq!(limiter.look(one.clone(), start), Verdict::LeaveOut);
        }
        assert_eq!(limiter.look(two, start), Verdict::Write(0));
        let later = start + WINDOW;
        assert_eq!(limiter.look(one.clone(), later), Verdict::Write(7));
        assert_eq!(limiter.look(one, later), Verdict::Write(0));
    }
}
