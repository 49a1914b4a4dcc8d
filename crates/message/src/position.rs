//! Positions and times as types of their own, so that two of them cannot change places in a call.
//!
//! All are plain numbers without invariant; what a number may be is decided where it is used.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

macro_rules! position {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

position! {
    /// A byte position in the commit log ("physical offset").
    LogOffset(u64)
}
position! {
    /// The number of a message in its queue ("queue offset", "logical offset").
    QueueOffset(u64)
}
position! {
    /// The number of a queue in its topic.
    QueueId(u32)
}
position! {
    /// Milliseconds since the Unix epoch, or a length of time in milliseconds.
    Millis(i64)
}

impl Millis {
    /// The wall clock. Only shells (daemons, store threads) call it; everything below takes times as arguments.
    #[must_use]
    pub fn now() -> Self {
        let now = SystemTime::now();
        Self(match now.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis)
            }
        })
    }

    /// This time moved by `millis`, held at the ends of the range.
    #[must_use]
    pub fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// How long ago `earlier` was; negative when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_print_as_numbers_and_debug_with_their_name() {
        assert_eq!(LogOffset(7).to_string(), "7");
        assert_eq!(format!("{:?}", QueueId(3)), "QueueId(3)");
    }

    #[test]
    fn times_do_not_overflow() {
        assert_eq!(Millis(i64::MAX).plus(1), Millis(i64::MAX));
        assert_eq!(Millis(i64::MIN).since(Millis(1)), i64::MIN);
        assert_eq!(Millis(5).since(Millis(8)), -3);
    }

    #[test]
    fn the_clock_is_past_the_year_2020() {
        assert!(Millis::now() > Millis(1_577_836_800_000));
    }
}
