//! Which promotion a master's right to write comes from.

use std::fmt;
use std::str::FromStr;

/// Orders the masters that a broker name has had: who has a lower one was replaced and must not write.
///
/// Two promotions of the same number can only be those of two replicas, and then the holder decides: no two masters
/// of one name have the same epoch. Written `number.holder`, as in the file, on the wire and by the tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Counts promotions; 0: the master that the configuration names.
    pub number: u64,
    /// The `brokerId` that the master had before its promotion.
    pub holder: u64,
}

impl Epoch {
    /// Before any promotion.
    pub const NONE: Self = Self {
        number: 0,
        holder: 0,
    };

    /// A promotion that is so many further than the newest known one is none: nobody shall use up the numbers at once.
    pub const AHEAD_MAX: u64 = 1_000_000;

    /// Whether this can be a promotion, where `known` is the newest one.
    #[must_use]
    pub fn can_follow(self, known: Self) -> bool {
        self.number.saturating_sub(known.number) <= Self::AHEAD_MAX
    }

    /// The epoch of the next promotion, of the replica with this id.
    #[must_use]
    pub fn next(self, holder: u64) -> Self {
        Self {
            number: self.number.saturating_add(1),
            holder,
        }
    }

    /// Whether there was a promotion.
    #[must_use]
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.number, self.holder)
    }
}

/// A text that is no epoch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no epoch: it is written NUMBER.ID")]
pub struct NoEpoch(String);

impl FromStr for Epoch {
    type Err = NoEpoch;

    fn from_str(text: &str) -> Result<Self, NoEpoch> {
        let parsed = text.split_once('.').and_then(|(number, holder)| {
            Some(Self {
                number: number.parse().ok()?,
                holder: holder.parse().ok()?,
            })
        });
        parsed.ok_or_else(|| NoEpoch(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_promotion_is_greater_and_of_two_at_once_one_is() {
        let first = Epoch::NONE.next(1);
        assert!(Epoch::NONE < first);
        assert!(first < Epoch::NONE.next(2));
        assert!(Epoch::NONE.next(2) < first.next(0));
    }

    #[test]
    fn an_epoch_is_read_as_it_is_written() {
        for epoch in [
            Epoch::NONE,
            Epoch::NONE.next(7),
            Epoch {
                number: u64::MAX,
                holder: u64::MAX,
            },
        ] {
            assert_eq!(epoch.to_string().parse(), Ok(epoch));
        }
        for text in [
            "",
            "1",
            ".",
            "1.",
            ".1",
            "-1.0",
            "1.2.3",
            "18446744073709551616.0",
        ] {
            assert!(text.parse::<Epoch>().is_err(), "{text}");
        }
    }
}
