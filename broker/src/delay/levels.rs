//! The delay levels: how long each holds a message back, and where its messages wait.
//!
//! `messageDelayLevel` lists them (`1s 5s 10s 30s 1m ...`); level n waits in queue n - 1 of `SCHEDULE_TOPIC_XXXX`.
//! Pure; [`postpone`] is what a send with a delay level does to a message before it is stored.

use gantry_message::{Millis, QueueId, properties};
use thiserror::Error;

/// Most levels one table may have: each costs a queue, a place in the offsets file and a wait.
pub const LEVELS_MAX: usize = 64;

/// One delay level, counted from 1.
///
/// Invariant: lies in the table that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u32);

impl Level {
    /// The level's number, as clients write it into `DELAY`.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The queue of `SCHEDULE_TOPIC_XXXX` its messages wait in.
    pub fn queue(self) -> QueueId {
        QueueId(self.0 - 1)
    }

    /// Index into a slice with one element a level.
    pub fn index(self) -> usize {
        usize::try_from(self.0 - 1).unwrap_or(usize::MAX)
    }
}

/// All levels of one broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels(Vec<Millis>);

/// Why a `messageDelayLevel` is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LevelsError {
    /// An entry is not a number with a unit.
    #[error(
        "delay level {level} is \"{text}\": a number followed by s, m, h or d is needed, separated by one blank"
    )]
    Entry {
        /// The level it would be.
        level: usize,
        /// What stands there.
        text: String,
    },
    /// An entry is longer than a clock counts.
    #[error("delay level {level} is \"{text}\": longer than 10000 days")]
    TooLong {
        /// The level it would be.
        level: usize,
        /// What stands there.
        text: String,
    },
    /// More entries than anyone needs.
    #[error("{count} delay levels: at most {LEVELS_MAX}")]
    TooMany {
        /// How many stand there.
        count: usize,
    },
}

impl Levels {
    /// Java's default table of 18 levels.
    pub const DEFAULT: &str = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";

    /// Parses a `messageDelayLevel`. Blanks around and between entries do not matter.
    pub fn parse(text: &str) -> Result<Self, LevelsError> {
        let count = text.split_ascii_whitespace().count();
        if LEVELS_MAX < count {
            return Err(LevelsError::TooMany { count });
        }
        let entries = text.split_ascii_whitespace().enumerate();
        let delays: Result<Vec<_>, _> = entries
            .map(|(at, entry)| parse_delay(at + 1, entry))
            .collect();
        let delays = delays?;
        if delays.is_empty() {
            return Err(LevelsError::Entry {
                level: 1,
                text: text.into(),
            });
        }
        Ok(Self(delays))
    }

    /// How many levels there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All levels, shortest number first.
    pub fn iter(&self) -> impl Iterator<Item = Level> + use<> {
        (1..=u32::try_from(self.0.len()).unwrap_or(u32::MAX)).map(Level)
    }

    /// The level a message asks for: numbers beyond the table mean the last level, 0 and below none.
    pub fn wanted(&self, number: i32) -> Option<Level> {
        let number = u32::try_from(number).ok().filter(|number| *number != 0)?;
        let last = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        Some(Level(number.min(last)))
    }

    /// The level with exactly this number.
    pub fn level(&self, number: u32) -> Option<Level> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.0.get(at).map(|_| Level(number))
    }

    /// How long a level holds a message back.
    pub fn delay(&self, level: Level) -> Millis {
        self.0.get(level.index()).copied().unwrap_or(Millis(0))
    }
}

/// The text is known to hold no blank and not to be empty.
fn parse_delay(level: usize, text: &str) -> Result<Millis, LevelsError> {
    let entry = || LevelsError::Entry {
        level,
        text: text.into(),
    };
    let (unit, number) = match text.as_bytes().split_last() {
        Some((b's', _)) => (1_000, &text[..text.len() - 1]),
        Some((b'm', _)) => (60_000, &text[..text.len() - 1]),
        Some((b'h', _)) => (3_600_000, &text[..text.len() - 1]),
        Some((b'd', _)) => (86_400_000, &text[..text.len() - 1]),
        _ => return Err(entry()),
    };
    let number: u32 = number.parse().map_err(|_| entry())?;
    let delay = i64::from(number)
        .checked_mul(unit)
        .filter(|delay| *delay <= 10_000 * 86_400_000);
    delay.map(Millis).ok_or_else(|| LevelsError::TooLong {
        level,
        text: text.into(),
    })
}

/// A message on its way into the queue of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postponed {
    /// The queue of `SCHEDULE_TOPIC_XXXX`.
    pub queue: QueueId,
    /// How long it waits from the moment it is stored.
    pub delay: Millis,
    /// The property text to store: the given one with `DELAY`, `REAL_TOPIC` and `REAL_QID` set.
    pub properties: Vec<u8>,
}

/// What becomes of a message that asks for `level`: where it waits, and the properties that bring it back to
/// `topic` and `queue` when its time has come.
pub fn postpone(
    levels: &Levels,
    level: Level,
    topic: &str,
    queue: QueueId,
    text: &[u8],
) -> Postponed {
    let mut out = Vec::with_capacity(text.len() + topic.len() + 48);
    properties::copy_without(
        &mut out,
        text,
        &[
            properties::DELAY,
            properties::REAL_TOPIC,
            properties::REAL_QID,
        ],
    );
    properties::push(
        &mut out,
        properties::DELAY,
        level.number().to_string().as_bytes(),
    );
    properties::push(&mut out, properties::REAL_TOPIC, topic.as_bytes());
    properties::push(
        &mut out,
        properties::REAL_QID,
        queue.0.to_string().as_bytes(),
    );
    Postponed {
        queue: level.queue(),
        delay: levels.delay(level),
        properties: out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(text: &str) -> Result<Vec<i64>, LevelsError> {
        Levels::parse(text).map(|levels| levels.iter().map(|level| levels.delay(level).0).collect())
    }

    #[test]
    fn the_default_table_has_javas_18_levels() {
        let delays = delays(Levels::DEFAULT).unwrap();
        assert_eq!(delays.len(), 18);
        assert_eq!(delays[..6], [1_000, 5_000, 10_000, 30_000, 60_000, 120_000]);
        assert_eq!(delays[16..], [3_600_000, 7_200_000]);
    }

    #[test]
    fn tables_are_parsed_or_refused_naming_the_level() {
        assert_eq!(delays("1d"), Ok(vec![86_400_000]));
        assert_eq!(delays(" 1s  2m "), Ok(vec![1_000, 120_000]));
        assert_eq!(delays("0s"), Ok(vec![0]));
        let entry = |level, text: &str| {
            Err(LevelsError::Entry {
                level,
                text: text.into(),
            })
        };
        assert_eq!(delays(""), entry(1, ""));
        assert_eq!(delays("1s 5"), entry(2, "5"));
        assert_eq!(delays("1s 5x"), entry(2, "5x"));
        assert_eq!(delays("1s -5s"), entry(2, "-5s"));
        assert_eq!(delays("s"), entry(1, "s"));
        assert_eq!(delays("1ü"), entry(1, "1ü"));
        assert_eq!(
            delays("1s 10001d"),
            Err(LevelsError::TooLong {
                level: 2,
                text: "10001d".into()
            })
        );
        assert_eq!(
            delays(&"1s ".repeat(65)),
            Err(LevelsError::TooMany { count: 65 })
        );
    }

    #[test]
    fn a_number_beyond_the_table_means_its_last_level() {
        let levels = Levels::parse("1s 2s 3s").unwrap();
        for (number, expected) in [
            (1, Some(1)),
            (3, Some(3)),
            (4, Some(3)),
            (i32::MAX, Some(3)),
            (0, None),
            (-1, None),
        ] {
            assert_eq!(
                levels.wanted(number).map(Level::number),
                expected,
                "{number}"
            );
        }
        for (number, expected) in [(0, None), (1, Some(1)), (3, Some(3)), (4, None)] {
            assert_eq!(
                levels.level(number).map(Level::number),
                expected,
                "{number}"
            );
        }
    }

    #[test]
    fn a_postponed_message_says_where_it_belongs() {
        let levels = Levels::parse("1s 5s").unwrap();
        let level = levels.wanted(7).unwrap();
        let text = b"KEYS\x01k\x02DELAY\x017\x02REAL_TOPIC\x01old\x02WAIT\x01true\x02";
        let postponed = postpone(&levels, level, "T", QueueId(3), text);
        assert_eq!(
            (postponed.queue, postponed.delay),
            (QueueId(1), Millis(5_000))
        );
        assert_eq!(
            String::from_utf8(postponed.properties).unwrap(),
            "KEYS\x01k\x02WAIT\x01true\x02DELAY\x012\x02REAL_TOPIC\x01T\x02REAL_QID\x013"
        );
        let bare = postpone(&levels, level, "T", QueueId(0), b"");
        assert_eq!(
            bare.properties,
            b"DELAY\x012\x02REAL_TOPIC\x01T\x02REAL_QID\x010"
        );
    }
}
