//! Which slaves count, and up to where enough of them have the log. Pure: who counts links tells what each has said.

use std::net::IpAddr;

use gantry_message::LogOffset;

/// What slaves are told apart by: who was invited by address and id, others by address alone.
pub type SlaveKey = (IpAddr, Option<u64>);

/// What the open links of a master say together. A slave that connected again while its old connection is not known to be
/// dead is one slave, and has what it had on either.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    /// Each slave once, with what it reported; `None`: nothing yet.
    slaves: Vec<(SlaveKey, Option<u64>)>,
}

impl Positions {
    /// Of these links: whose each is, and up to where that slave has the log, once it said so.
    #[must_use]
    pub fn of(links: impl IntoIterator<Item = (SlaveKey, Option<LogOffset>)>) -> Self {
        let mut slaves: Vec<(SlaveKey, Option<u64>)> = Vec::new();
        for (key, position) in links {
            let position = position.map(|position| position.0);
            match slaves.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => *known = position.max(*known),
                None => slaves.push((key, position)),
            }
        }
        // The furthest first.
        slaves.sort_by(|(_, left), (_, right)| right.cmp(left));
        Self { slaves }
    }

    /// How many slaves are connected, whatever they have said.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.slaves.len()
    }

    /// How many slaves have reported and are less than `behind_max` bytes behind `end`.
    #[must_use]
    pub fn near(&self, end: LogOffset, behind_max: u64) -> usize {
        let reported = self.slaves.iter().filter_map(|(_, position)| *position);
        reported
            .filter(|position| end.0.saturating_sub(*position) < behind_max)
            .count()
    }

    /// Up to where so many slaves, at least one, have the log; `None`: there are not so many.
    #[must_use]
    pub fn reached_by(&self, wanted: usize) -> Option<u64> {
        let (_, position) = self.slaves.get(wanted.max(1) - 1)?;
        *position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(host: u8, id: Option<u64>) -> SlaveKey {
        (IpAddr::from([10, 0, 0, host]), id)
    }

    #[test]
    fn a_slave_counts_once_however_often_it_is_connected() {
        let has = |position| Some(LogOffset(position));
        let positions = Positions::of([
            (key(1, Some(1)), has(70)),
            (key(1, Some(1)), has(100)),
            (key(1, Some(1)), None),
            (key(1, Some(2)), has(50)),
            (key(2, None), None),
        ]);
        assert_eq!(positions.connected(), 3);
        let reached = [0, 1, 2, 3, 4].map(|wanted| positions.reached_by(wanted));
        assert_eq!(reached, [Some(100), Some(100), Some(50), None, None]);
        let near = |behind_max| positions.near(LogOffset(110), behind_max);
        assert_eq!([near(10), near(11), near(60), near(61)], [0, 1, 1, 2]);
    }
}
