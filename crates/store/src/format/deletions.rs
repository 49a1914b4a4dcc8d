//! Which queues were deleted, `gantry.deleted`: their records stay in the log, and a recovery that makes queues again
//! from the log must not bring them back, least of all into a queue of the same name that began anew. Text with a
//! checksum; Apache ignores it.
//!
//! ```text
//! gantry-deleted 1
//! 4096 1700000000123 0 T  records below 4096 that were stored until then are in queue 0 of topic T no more
//! crc=89abcdef
//! ```
//!
//! The time tells a log from another that took its place.

use std::collections::BTreeMap;
use std::fmt::Write;

use gantry_message::{Millis, QueueId};

use super::checked;

/// With more than so many the oldest are forgotten: their records come back if their queues are made again.
const KEPT_MAX: usize = 20_000;
const FIRST_LINE: &str = "gantry-deleted 1";

/// The deleted queues that still have records in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletions(BTreeMap<(String, QueueId), Until>);

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
        self.0.insert((escaped(topic), id), Until { offset, time });
        while self.0.len() > KEPT_MAX {
            let oldest = self.0.iter().min_by_key(|(_, until)| **until);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.0.remove(&oldest);
        }
    }

    /// Forgets what concerns only records below `offset`.
    pub fn forget_below(&mut self, offset: u64) {
        self.0.retain(|_, until| until.offset > offset);
    }

    /// Takes back what was deleted when the log ended at `offset`, where it ends now, or behind it: from here on these cover nothing.
    /// They stay on the list, so that a crash does not hide that they were there. Returns whether there were any.
    pub fn take_back_from(&mut self, offset: u64) -> bool {
        let mut any = false;
        for until in self.0.values_mut().filter(|until| until.offset >= offset) {
            until.time = Millis(i64::MIN);
            any = true;
        }
        any
    }

    /// Whether nothing was deleted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a record of that queue was deleted with it.
    #[must_use]
    pub fn covers(&self, topic: &str, id: QueueId, offset: u64, time: Millis) -> bool {
        // Nearly always there is none, and no name has to be copied.
        !self.0.is_empty()
            && self
                .0
                .get(&(escaped(topic), id))
                .is_some_and(|until| offset < until.offset && time <= until.time)
    }

    /// The whole file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("{FIRST_LINE}\n");
        for ((topic, id), Until { offset, time }) in &self.0 {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{offset} {time} {id} {topic}");
        }
        checked::with_crc(text)
    }

    /// `None` for a file that is torn, changed or of another version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let lines = checked::lines(bytes, FIRST_LINE)?;
        let mut deletions = BTreeMap::new();
        for line in lines {
            let mut parts = line.splitn(4, ' ');
            let mut next = || parts.next();
            let (offset, time) = (next()?.parse().ok()?, Millis(next()?.parse().ok()?));
            let (id, topic) = (QueueId(next()?.parse().ok()?), next()?.to_owned());
            deletions.insert((topic, id), Until { offset, time });
        }
        Some(Self(deletions))
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
    fn the_oldest_are_forgotten() {
        let mut deletions = Deletions::default();
        for n in 0..u32::try_from(KEPT_MAX).unwrap() + 1 {
            deletions.note("T", QueueId(n), u64::from(n) + 1, Millis(1));
        }
        assert!(!deletions.covers("T", QueueId(0), 0, Millis(1)));
        assert!(deletions.covers("T", QueueId(1), 0, Millis(1)));
    }
}
