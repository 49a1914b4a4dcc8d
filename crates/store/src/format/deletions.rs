//! Which queues were deleted, `gantry.deleted`: their records stay in the log, and a recovery that makes queues again
//! from the log must not bring them back, least of all into a queue of the same name that began anew. Text with a
//! checksum; Apache ignores it.
//!
//! ```text
//! gantry-deleted 1
//! 4096 1700000000123 0 T  records below 4096 that were stored until then are in queue 0 of topic T no more
//! cut=2048                only while the log is cut there: if it is found to end there, what was deleted when it ended
//!                         there or behind is not deleted, and queues may not be made again yet
//! crc=89abcdef
//! ```
//!
//! The time tells a log from another that took its place. Stores of earlier versions have lines with the lowest time there
//! is: deletions that a cut took back; they cover nothing.

use std::collections::BTreeMap;
use std::fmt::Write;

use gantry_message::{Millis, QueueId};

use super::checked;

/// With more than so many the oldest are forgotten: their records come back if their queues are made again.
const KEPT_MAX: usize = 20_000;
const FIRST_LINE: &str = "gantry-deleted 1";

/// The deleted queues that still have records in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletions {
    queues: BTreeMap<(String, QueueId), Until>,
    /// A cut of the log that was begun, and would take some of these back; whether it was done the log says.
    pub cut: Option<u64>,
}

/// What covers nothing.
const TAKEN_BACK: Millis = Millis(i64::MIN);

/// Which records of a queue are deleted: both must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Until {
    /// Those that start below.
    offset: u64,
    /// Those that were stored until then.
    time: Millis,
}

impl Deletions {
    /// Notes that a queue is deleted when the log ends at `offset` with a record of `time`.
    pub fn note(&mut self, topic: &str, id: QueueId, offset: u64, time: Millis) {
        self.queues
            .insert((escaped(topic), id), Until { offset, time });
        while self.queues.len() > KEPT_MAX {
            let oldest = self.queues.iter().min_by_key(|(_, until)| **until);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.queues.remove(&oldest);
        }
    }

    /// Forgets what concerns only records below `offset`.
    pub fn forget_below(&mut self, offset: u64) {
        self.queues.retain(|_, until| until.offset > offset);
    }

    /// Takes back what was deleted when the log ended at `offset`, where it ends now, or behind it. Returns whether there
    /// was any.
    pub fn take_back_from(&mut self, offset: u64) -> bool {
        let before = self.queues.len();
        self.queues.retain(|_, until| until.offset < offset);
        self.queues.len() < before
    }

    /// Whether nothing was deleted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether a record of that queue was deleted with it.
    #[must_use]
    pub fn covers(&self, topic: &str, id: QueueId, offset: u64, time: Millis) -> bool {
        // Nearly always there is none, and no name has to be copied.
        !self.queues.is_empty()
            && self
                .queues
                .get(&(escaped(topic), id))
                .filter(|until| until.time != TAKEN_BACK)
                .is_some_and(|until| offset < until.offset && time <= until.time)
    }

    /// The whole file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("{FIRST_LINE}\n");
        for ((topic, id), Until { offset, time }) in &self.queues {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{offset} {time} {id} {topic}");
        }
        if let Some(at) = self.cut {
            let _ = writeln!(text, "cut={at}");
        }
        checked::with_crc(text)
    }

    /// `None` for a file that is torn, changed or of another version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let lines = checked::lines(bytes, FIRST_LINE)?;
        let mut deletions = Self::default();
        for line in lines {
            if let Some(at) = line.strip_prefix("cut=") {
                deletions.cut = Some(at.parse().ok()?);
                continue;
            }
            let mut parts = line.splitn(4, ' ');
            let mut next = || parts.next();
            let (offset, time) = (next()?.parse().ok()?, Millis(next()?.parse().ok()?));
            let (id, topic) = (QueueId(next()?.parse().ok()?), next()?.to_owned());
            deletions.queues.insert((topic, id), Until { offset, time });
        }
        Some(deletions)
    }
}

/// A topic's name on one line.
fn escaped(topic: &str) -> String {
    topic.escape_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Deletions {
        let mut deletions = Deletions::default();
        deletions.note("a b\nc", QueueId(3), 4096, Millis(77));
        deletions.note("T", QueueId(0), 100, Millis(50));
        deletions.cut = Some(70);
        deletions
    }

    #[test]
    fn a_file_says_what_was_noted_and_a_changed_one_nothing() {
        let bytes = two().encode();
        assert_eq!(Deletions::decode(&bytes), Some(two()));
        for at in 0..bytes.len() - 1 {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(Deletions::decode(&changed), Some(two()), "at {at}");
            assert_eq!(Deletions::decode(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_record_is_covered_by_place_and_time() {
        let mut deletions = two();
        for (topic, id, offset, time, expected) in [
            ("T", 0, 99, 50, true),
            ("T", 0, 100, 50, false),
            ("T", 0, 99, 51, false),
            ("T", 1, 99, 50, false),
            ("U", 0, 99, 50, false),
            ("a b\nc", 3, 4095, 77, true),
        ] {
            let covers = deletions.covers(topic, QueueId(id), offset, Millis(time));
            assert_eq!(covers, expected, "{topic} {id} {offset} {time}");
        }
        deletions.forget_below(100);
        assert!(!deletions.covers("T", QueueId(0), 0, Millis(0)));
        assert!(deletions.covers("a b\nc", QueueId(3), 0, Millis(0)));
    }

    #[test]
    fn what_is_taken_back_covers_nothing() {
        let mut deletions = two();
        assert!(!deletions.take_back_from(4097));
        assert!(deletions.take_back_from(4096));
        assert!(!deletions.covers("a b\nc", QueueId(3), 0, Millis(0)));
        assert!(deletions.covers("T", QueueId(0), 0, Millis(0)));
    }

    #[test]
    fn what_an_earlier_version_took_back_covers_nothing() {
        let (lowest, text) = (i64::MIN, "gantry-deleted 1\n");
        let bytes = checked::with_crc(format!("{text}100 {lowest} 0 T\n"));
        let mut deletions = Deletions::decode(&bytes).unwrap();
        assert!(!deletions.covers("T", QueueId(0), 0, Millis(lowest)));
        assert!(deletions.take_back_from(100));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut deletions = Deletions::default();
        for n in 0..u32::try_from(KEPT_MAX).unwrap() + 1 {
            deletions.note("T", QueueId(n), u64::from(n) + 1, Millis(1));
        }
        assert!(!deletions.covers("T", QueueId(0), 0, Millis(1)));
        assert!(deletions.covers("T", QueueId(1), 0, Millis(1)));
    }
}
