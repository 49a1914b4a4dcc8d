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
    /// The master's machine loses its power with much that is not synced, does not reach one of its slaves when it is back,
    /// and burns down soon.
    pub(crate) relapse: usize,
    /// The master, one slave and the clients lose sight of the name servers, and the master of everybody else; somebody
    /// promotes the other slave.
    pub(crate) island: usize,
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
            relapse: one_in(1, &[300, 600]),
            island: one_in(1, &[200, 400]),
            disk_loss: false,
        };
        faults.disk_loss = random.below(3) == 0;
        if wire == Wire::Plain {
            // On Apache's wire nobody can tell that a log was another one before (docs/durability.md), and a slave begins
            // with the newest segment.
            (faults.power, faults.torn, faults.promote) = (0, 0, 0);
            (faults.relapse, faults.island) = (0, 0);
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
        let none = Faults::default();
        let (faults, in_sync) = match broken {
            Some(Broken::ConnectionsCount) => (
                Faults {
                    reset: 20,
                    cut: 40,
                    ..none
                },
                2,
            ),
            Some(Broken::ComparesNoLogs) => {
                (self.after_flush, self.flush_sync) = (false, false);
                (
                    Faults {
                        cut: 25,
                        relapse: 150,
                        ..none
                    },
                    1,
                )
            }
            // Of masters that are replaced and do not hear of it.
            Some(Broken::FollowsReplaced | Broken::PromotesUntold) => (
                Faults {
                    island: 300,
                    ..none
                },
                1,
            ),
            Some(
                Broken::ForgetsPromotion
                | Broken::PromotesAnybody
                | Broken::GoesByLengthsAlone
                | Broken::PromotesUnfenced,
            ) => (
                Faults {
                    cut: 40,
                    kill: 90,
                    freeze: 90,
                    promote: 50,
                    relapse: 0,
                    island: 0,
                    ..self.faults
                },
                self.in_sync,
            ),
            _ => return self,
        };
        (self.copies, self.policy) = (Copies::Sync, SlaveAckPolicy::Refuse);
        (self.wire, self.slaves, self.steps) = (Wire::Checked, 2, 900);
        (self.faults, self.in_sync) = (faults, in_sync);
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
