//! Our own checkpoint, `gantry.checkpoint`: how far log, queues and index were written and synced, as text with a
//! checksum. Apache ignores it.
//!
//! ```text
//! gantry-checkpoint 1
//! boot=6d9f...            the page cache that `written` was written to
//! flushed=4096            the log is durable up to here
//! written=4096 3800 1700000000123 57
//!                         queue files hold everything below 4096, as long as the boot is the same; a record from
//!                         3800 to there was stored then: if not, the log is not the one this file speaks of; the
//!                         ends of all queues add up to 57: if not, queue files are missing or damaged
//! synced=2048 1900 1700000000100 31
//!                         the same, durably
//! index_file=20260101...  the newest index file
//! index_next=17           its entries below this number are durable
//! index_offset=2048       the log is indexed up to here
//! begin=0                 the log began here, or before: where it begins later, segments are missing
//! clean=0                 1: nothing is missing anywhere
//! made_up=1024            only where it is so, once for each recovery of which it is so, here or where the log was copied
//!                         from: at this place and behind it it put fillers in place of what was lost
//! crc=89abcdef
//! ```

use std::fmt::Write;

use gantry_message::Millis;

use super::checked;

/// So many recoveries that made something up are remembered.
pub const MADE_UP_MAX: usize = 64;

/// How far everything was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Names the page cache that was written to.
    pub boot: String,
    /// The log is durable up to here.
    pub flushed: u64,
    /// Queue files hold everything up to here, as long as the machine was not restarted.
    pub written: Mark,
    /// Queue files hold everything up to here, durably.
    pub synced: Mark,
    /// The newest index file.
    pub index_file: String,
    /// Its entries below this number are durable.
    pub index_next: u32,
    /// The log is indexed up to here.
    pub index_offset: u64,
    /// The log began here or before.
    pub begin: Option<u64>,
    /// Whether the stop was clean.
    pub clean: bool,
    /// Where each recovery put its first filler in place of what was lost, if a copy of the log could still have it; the last
    /// [`MADE_UP_MAX`] of them.
    pub made_up: Vec<u64>,
}

/// Those places that are remembered, in order.
pub(crate) fn latest(mut made_up: Vec<u64>) -> Vec<u64> {
    made_up.sort_unstable();
    made_up.dedup();
    made_up.split_off(made_up.len().saturating_sub(MADE_UP_MAX))
}

/// A position between two records, and the record before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The position.
    pub end: u64,
    /// Where the record before it starts.
    pub record: u64,
    /// When that record was stored.
    pub time: Millis,
    /// What the ends of all queues add up to.
    pub entries: u64,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            end,
            record,
            time,
            entries,
        } = self;
        write!(f, "{end} {record} {time} {entries}")
    }
}

impl Mark {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut next = || parts.next();
        let (end, record) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let (time, entries) = (next()?.parse().ok()?, next()?.parse().ok()?);
        next().is_none().then_some(Self {
            end,
            record,
            time: Millis(time),
            entries,
        })
    }
}

const FIRST_LINE: &str = "gantry-checkpoint 1";

impl Progress {
    /// The whole file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = String::from(FIRST_LINE);
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            // Writing to a string does not fail.
            let _ = write!(text, "\n{key}={value}");
        };
        line("boot", &self.boot);
        line("flushed", &self.flushed);
        line("written", &self.written);
        line("synced", &self.synced);
        line("index_file", &self.index_file);
        line("index_next", &self.index_next);
        line("index_offset", &self.index_offset);
        if let Some(begin) = &self.begin {
            line("begin", begin);
        }
        line("clean", &u8::from(self.clean));
        for made_up in &self.made_up {
            line("made_up", made_up);
        }
        text.push('\n');
        checked::with_crc(text)
    }

    /// `None` for a file that is torn, changed or of another version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let lines = checked::lines(bytes, FIRST_LINE)?;
        let mut progress = Self::default();
        for line in lines {
            let (key, value) = line.split_once('=')?;
            match key {
                "boot" => value.clone_into(&mut progress.boot),
                "flushed" => progress.flushed = value.parse().ok()?,
                "written" => progress.written = Mark::parse(value)?,
                "synced" => progress.synced = Mark::parse(value)?,
                "index_file" => value.clone_into(&mut progress.index_file),
                "index_next" => progress.index_next = value.parse().ok()?,
                "index_offset" => progress.index_offset = value.parse().ok()?,
                "begin" => progress.begin = Some(value.parse().ok()?),
                "clean" => progress.clean = value == "1",
                "made_up" => progress.made_up.push(value.parse().ok()?),
                // A later version's: not ours to understand.
                _ => {}
            }
        }
        Some(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress {
            boot: "6d9f".into(),
            flushed: 1,
            written: Mark {
                end: 2,
                record: 1,
                time: Millis(9),
                entries: 4,
            },
            synced: Mark {
                end: 3,
                record: 0,
                time: Millis(-1),
                entries: 5,
            },
            index_file: "20260101000000000".into(),
            index_next: 6,
            index_offset: 7,
            begin: Some(8),
            clean: true,
            made_up: vec![8, 19],
        }
    }

    #[test]
    fn progress_goes_both_ways() {
        assert_eq!(Progress::decode(&progress().encode()), Some(progress()));
    }

    #[test]
    fn no_cut_and_no_changed_byte_passes() {
        let bytes = progress().encode();
        for at in 0..bytes.len() - 1 {
            assert_eq!(Progress::decode(&bytes[..at]), None, "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(
                Progress::decode(&changed),
                Some(progress()),
                "changed at {at}"
            );
        }
    }
}
