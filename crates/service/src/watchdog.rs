//! The sign of life that systemd asks for (`WatchdogSec=`), given only while the work gets on.
//!
//! A timer alone would prove that a timer runs. So whoever has work says how long it has been at the same thing, and the
//! sign is left out while somebody has been for as long as two signs are apart: a frozen disk ends in a restart, a slow one
//! does not, and an idle daemon lives.

use std::time::Duration;

use crate::{events, notify};

/// A part that must not stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// What it does, for the log.
    pub name: &'static str,
    /// How long it has been at the same thing; zero while it has nothing to do.
    pub busy: Duration,
}

/// Decides when to give the sign.
#[derive(Debug)]
pub struct Watchdog {
    every: Duration,
    stuck: bool,
}

impl Watchdog {
    /// For a manager that waits so long for a sign.
    pub fn new(period: Duration) -> Self {
        Self {
            every: (period / 2).max(Duration::from_millis(1)),
            stuck: false,
        }
    }

    /// How often to look.
    pub fn every(&self) -> Duration {
        self.every
    }

    /// Whether to give the sign, and if not, who stands still. The log hears of it when it begins and when it ends.
    pub fn look(&mut self, works: &[Work]) -> bool {
        let stuck = works.iter().find(|work| self.every <= work.busy);
        match stuck {
            Some(work) if !self.stuck => tracing::error!(
                message_id = events::STUCK,
                work = work.name,
                busy_ms = u64::try_from(work.busy.as_millis()).unwrap_or(u64::MAX),
                "no sign of life for the watchdog: this does not get on"
            ),
            None if self.stuck => {
                tracing::warn!(message_id = events::UNSTUCK, "everything gets on again")
            }
            _ => {}
        }
        self.stuck = stuck.is_some();
        !self.stuck
    }
}

/// Gives signs of life for as long as it is polled, if the manager asks for them.
pub async fn feed(works: impl Fn() -> Vec<Work>) {
    let Some(period) = notify::watchdog_period() else {
        return;
    };
    let mut watchdog = Watchdog::new(period);
    loop {
        if watchdog.look(&works()) {
            notify::watchdog();
        }
        tokio::time::sleep(watchdog.every()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_is_left_out_while_somebody_stands_still() {
        let seconds = Duration::from_secs;
        let mut watchdog = Watchdog::new(seconds(30));
        assert_eq!(watchdog.every(), seconds(15));
        let work = |name, busy| Work { name, busy };
        let cases: [(&[Work], bool); 5] = [
            (&[], true),
            (&[work("a", Duration::ZERO), work("b", seconds(14))], true),
            (&[work("a", Duration::ZERO), work("b", seconds(15))], false),
            (&[work("a", seconds(16)), work("b", seconds(30))], false),
            (&[work("a", seconds(1)), work("b", Duration::ZERO)], true),
        ];
        for (works, expected) in cases {
            assert_eq!(watchdog.look(works), expected, "{works:?}");
        }
    }
}
