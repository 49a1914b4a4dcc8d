//! What name servers said of addresses, for a while: slaves copy tables every few seconds, and neither they nor strangers
//! may make a question, with a connection and look-ups of names, of every request.
//!
//! Plain data: times are arguments.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// How long a yes counts: a registration is renewed as often.
const YES_FOR: Duration = Duration::from_secs(30);
/// How long a no counts: a slave that has just registered should not wait.
const NO_FOR: Duration = Duration::from_secs(1);
/// So many addresses are remembered; beyond that the rest are asked about again.
const ADDRESSES_MAX: usize = 1_000;

/// What is known of addresses.
#[derive(Debug, Default)]
pub(super) struct Known {
    answers: HashMap<IpAddr, (bool, Instant)>,
}

impl Known {
    /// Whether a slave is registered there, if that was asked not long ago.
    pub(super) fn of(&self, address: IpAddr, now: Instant) -> Option<bool> {
        let (is_slave, until) = self.answers.get(&address)?;
        (now < *until).then_some(*is_slave)
    }

    /// Takes an answer down.
    pub(super) fn note(&mut self, address: IpAddr, is_slave: bool, now: Instant) {
        if ADDRESSES_MAX <= self.answers.len() {
            self.answers.retain(|_, (_, until)| now < *until);
        }
        if self.answers.len() < ADDRESSES_MAX || self.answers.contains_key(&address) {
            let counts_for = if is_slave { YES_FOR } else { NO_FOR };
            self.answers.insert(address, (is_slave, now + counts_for));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_counts_longer_than_a_no_and_neither_for_ever() {
        let (mut known, start) = (Known::default(), Instant::now());
        let (slave, stranger) = (IpAddr::from([10, 0, 0, 7]), IpAddr::from([10, 0, 0, 8]));
        assert_eq!(known.of(slave, start), None);
        known.note(slave, true, start);
        known.note(stranger, false, start);
        for (after_ms, expected) in [
            (0, [Some(true), Some(false)]),
            (999, [Some(true), Some(false)]),
            (1_000, [Some(true), None]),
            (29_999, [Some(true), None]),
            (30_000, [None, None]),
        ] {
            let now = start + Duration::from_millis(after_ms);
            let got = [known.of(slave, now), known.of(stranger, now)];
            assert_eq!(got, expected, "{after_ms}");
        }
    }

    #[test]
    fn many_strangers_fill_it_to_a_limit_and_make_room_when_they_are_forgotten() {
        let (mut known, start) = (Known::default(), Instant::now());
        let address = |at: usize| IpAddr::from(u32::try_from(at).unwrap().to_be_bytes());
        for at in 0..2 * ADDRESSES_MAX {
            known.note(address(at), false, start);
        }
        assert_eq!(known.answers.len(), ADDRESSES_MAX);
        let later = start + NO_FOR;
        known.note(address(2 * ADDRESSES_MAX), true, later);
        assert_eq!(known.answers.len(), 1);
    }
}
