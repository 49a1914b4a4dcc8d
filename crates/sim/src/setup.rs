//! What a seed draws before anything happens: how the brokers are configured, and which faults there are.

use std::time::Duration;

use gantry_broker::config::{SlaveAckPolicy, StoreSettings};
use gantry_config::{Host, Settings};
use gantry_replication::{Copies, Patience, Wire};

use crate::broken::Broken;
use crate::random::Random;

/// How often each kind of fault comes, in one of so many steps; 0: never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// A direction between two ends carries nothing for a while.
    pub(crate) cut: usize,
    /// A link ends, and what is on its way is lost.
    pub(crate) reset: usize,
    /// `kill -9`.
    pub(crate) kill: usize,
    /// The machine is off: what is not synced is lost, or torn.
    pub(crate) power: usize,
    /// The disk stops in the middle of what is being written, and the process dies of it.
    pub(crate) torn: usize,
    /// A process stands still for a while.
    pub(crate) freeze: usize,
    /// A process does little for a while.
    pub(crate) slow: usize,
    /// Somebody at a slave's address says that it has what nobody can have.
    pub(crate) stranger: usize,
    /// Somebody promotes a slave, whatever the master does.
    pub(crate) promote: usize,
    /// The master's machine burns down, and a slave is promoted.
    pub(crate) disk_loss: bool,
}

/// One world's configuration.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) copies: Copies,
    pub(crate) policy: SlaveAckPolicy,
    pub(crate) in_sync: u32,
    pub(crate) after_flush: bool,
    pub(crate) flush_sync: bool,
    pub(crate) wire: Wire,
    pub(crate) slaves: usize,
    pub(crate) names: usize,
    pub(crate) segment_size: u64,
    pub(crate) patience: Patience,
    pub(crate) faults: Faults,
    pub(crate) steps: u32,
}

impl Setup {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let slaves = 1 + random.below(3).min(1);
        let wire = match random.below(10) {
            0 => Wire::Plain,
            _ => Wire::Checked,
        };
        let mut one_in = |shares: usize, often: &[usize]| match random.below(4) < shares {
            true => random.pick(often),
            false => 0,
        };
        let mut faults = Faults {
            cut: one_in(3, &[30, 60, 120]),
            reset: one_in(3, &[20, 50, 100]),
            kill: one_in(3, &[60, 120, 250]),
            power: one_in(2, &[80, 160, 300]),
            torn: one_in(1, &[100, 200]),
            freeze: one_in(2, &[60, 120]),
            slow: one_in(2, &[50, 100]),
            stranger: one_in(1, &[60, 120]),
            promote: one_in(3, &[60, 120, 250]),
            disk_loss: false,
        };
        faults.disk_loss = random.below(3) == 0;
        if wire == Wire::Plain {
            // On Apache's wire nobody can tell that a log was another one before (docs/durability.md), and a slave begins
            // with the newest segment.
            (faults.power, faults.torn, faults.promote) = (0, 0, 0);
            faults.disk_loss = false;
        }
        Self {
            copies: match random.below(4) {
                0 => Copies::Async,
                _ => Copies::Sync,
            },
            policy: random.pick(&[
                SlaveAckPolicy::Report,
                SlaveAckPolicy::Report,
                SlaveAckPolicy::Refuse,
                SlaveAckPolicy::Degrade,
            ]),
            in_sync: u32::try_from(1 + random.below(slaves)).unwrap_or(1),
            after_flush: random.chance(1, 2),
            flush_sync: random.chance(1, 2),
            wire,
            slaves,
            names: 1 + random.below(2),
            segment_size: random.pick(&[2048, 4096, 8192]),
            patience: Patience {
                heartbeat: Duration::from_millis(400),
                silence: Duration::from_millis(1_600),
            },
            faults,
            steps: u32::try_from(250 + random.below(500)).unwrap_or(250),
        }
    }

    /// A world in which a rule matters that matters rarely: found in a few seeds, it need not be looked for anew with
    /// every change of the worlds.
    pub(crate) fn provoke(mut self, broken: Option<Broken>) -> Self {
        let is_of_promotions = matches!(
            broken,
            Some(
                Broken::FollowsReplaced
                    | Broken::ForgetsPromotion
                    | Broken::PromotesAnybody
                    | Broken::PromotesUntold
                    | Broken::GoesByLengthsAlone
                    | Broken::PromotesUnfenced
            )
        );
        if broken == Some(Broken::ConnectionsCount) || is_of_promotions {
            (self.copies, self.policy) = (Copies::Sync, SlaveAckPolicy::Refuse);
            (self.wire, self.slaves) = (Wire::Checked, 2);
            self.steps = 900;
            (self.faults.cut, self.faults.kill) = (40, 90);
        }
        if is_of_promotions {
            (self.faults.promote, self.faults.freeze) = (50, 90);
        } else if broken == Some(Broken::ConnectionsCount) {
            (self.in_sync, self.faults.reset) = (2, 20);
        }
        self
    }

    /// The settings that the policies read.
    pub(crate) fn settings(&self) -> StoreSettings {
        let mut settings = StoreSettings::defaults(&Host::described());
        settings.slave_ack_policy = self.policy;
        settings.in_sync_replicas = self.in_sync;
        settings.slave_timeout = 800;
        settings.sync_flush_timeout = 800;
        settings.ha_slave_fallbehind_max = 1 << 14;
        settings
    }
}
