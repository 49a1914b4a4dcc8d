//! How long ago the log was where a slave is now: the milliseconds that it is behind.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use gantry_message::LogOffset;

/// Two samples are at least so far apart.
const EVERY: Duration = Duration::from_millis(10);
/// What is further behind than this many samples counts as being as far as the oldest.
const SAMPLES_MAX: usize = 8_192;

/// Where the log ended, and when.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    /// Invariant: both grow.
    samples: VecDeque<(LogOffset, Instant)>,
}

impl Lag {
    /// Notes where the log ends now.
    pub(crate) fn note(&mut self, end: LogOffset, now: Instant) {
        if let Some((last, at)) = self.samples.back()
            && (end <= *last || now < *at + EVERY)
        {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((end, now));
    }

    /// How long the log has been longer than a slave that ends at `position`; nothing if it is not.
    pub(crate) fn behind(&self, position: LogOffset, end: LogOffset, now: Instant) -> Duration {
        if end <= position {
            return Duration::ZERO;
        }
        let first = self.samples.partition_point(|(end, _)| *end <= position);
        let since = self.samples.get(first).map(|(_, at)| *at);
        since.map_or(EVERY, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slave_is_as_far_behind_as_the_log_has_been_longer() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut lag = Lag::default();
        for (end, ms) in [(100, 0), (200, 100), (210, 101), (300, 250), (300, 400)] {
            lag.note(LogOffset(end), at(ms));
        }
        let behind = |position| lag.behind(LogOffset(position), LogOffset(300), at(1_000));
        assert_eq!(behind(300), Duration::ZERO);
        assert_eq!(behind(299), Duration::from_millis(750));
        assert_eq!(behind(200), Duration::from_millis(750));
        assert_eq!(behind(199), Duration::from_millis(900));
        assert_eq!(behind(0), Duration::from_millis(1_000));
    }
}
