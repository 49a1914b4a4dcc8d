//! What a SYNC_MASTER makes of slaves that are missing or late: `slaveAckPolicy`.
//!
//! A message whose sender waits is promised a copy at `inSyncReplicas` slaves. [`SlaveAcks::admit`] is asked before it is
//! stored, [`SlaveAcks::wanted`] after that, and [`SlaveAcks::is_excused`] when its time is over. With `degrade` the broker has a
//! state: from the first message that is acknowledged without its copy until enough slaves have that message. Entering
//! and leaving it is logged once each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use gantry_message::LogOffset;
use gantry_replication::Links;
use tokio::sync::watch;

use crate::{
    config::{BrokerRole, SlaveAckPolicy, StoreSettings},
    refusal::Refusal,
};

/// What is known of the slaves: [`Links`], or a simulation's.
pub trait Slaves {
    /// How many slaves are less than `behind_max` bytes behind `end`.
    fn near(&self, end: LogOffset, behind_max: u64) -> usize;
    /// Whether these are as many as must have a message.
    fn is_near(&self, end: LogOffset, behind_max: u64) -> bool;
    /// Whether it is worth waiting as Java waits: as many are connected, and once had nearly all.
    fn is_hoped_for(&self, end: LogOffset, behind_max: u64) -> bool;
    /// Up to where as many slaves as must have a message have the log.
    fn replicated(&self) -> u64;
}

impl Slaves for Links {
    fn near(&self, end: LogOffset, behind_max: u64) -> usize {
        Links::near(self, end, behind_max)
    }

    fn is_near(&self, end: LogOffset, behind_max: u64) -> bool {
        Links::is_near(self, end, behind_max)
    }

    fn is_hoped_for(&self, end: LogOffset, behind_max: u64) -> bool {
        Links::is_hoped_for(self, end, behind_max)
    }

    fn replicated(&self) -> u64 {
        Links::replicated(self).value()
    }
}

/// The promise of a second copy, and what is known of the slaves.
pub struct SlaveAcks<L = Links> {
    links: Arc<L>,
    is_sync_master: bool,
    degraded: Degraded,
    refused: AtomicU64,
}

/// What a message that was stored waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: no copy is promised, or it is done without.
    Nothing,
    /// There is nobody to wait for.
    Missing,
    /// The slaves, for so long.
    Copy(Duration),
}

impl<L: Slaves> SlaveAcks<L> {
    /// Of a broker in this role with these links.
    pub fn new(links: Arc<L>, role: BrokerRole) -> Self {
        Self {
            links,
            is_sync_master: role == BrokerRole::SyncMaster,
            degraded: Degraded::default(),
            refused: AtomicU64::new(0),
        }
    }

    /// The slaves.
    pub fn links(&self) -> &Arc<L> {
        &self.links
    }

    /// Whether copies are promised at all.
    pub fn is_sync_master(&self) -> bool {
        self.is_sync_master
    }

    /// Before a message whose sender waits is stored: `end` is where the log ends.
    pub fn admit(&self, settings: &StoreSettings, end: LogOffset) -> Result<(), Refusal> {
        if !self.is_sync_master
            || settings.slave_ack_policy != SlaveAckPolicy::Refuse
            || self.is_near(settings, end)
        {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        let near = self
            .links
            .near(end, settings.ha_slave_fallbehind_max.into());
        Err(Refusal::too_few_slaves(near, settings.in_sync_replicas))
    }

    /// What a message that ends there waits for.
    pub fn wanted(&self, settings: &StoreSettings, end: LogOffset) -> Wanted {
        if !self.is_sync_master {
            return Wanted::Nothing;
        }
        let is_hoped_for = match settings.slave_ack_policy {
            // To the letter what Java answers; the other two policies are ours, and look at the slaves that are there.
            SlaveAckPolicy::Report => self
                .links
                .is_hoped_for(end, settings.ha_slave_fallbehind_max.into()),
            SlaveAckPolicy::Refuse | SlaveAckPolicy::Degrade => self.is_near(settings, end),
        };
        if settings.slave_ack_policy == SlaveAckPolicy::Degrade {
            if !is_hoped_for {
                self.degraded.enter(end, "too few slaves are near");
            }
            if self.look(settings, end) {
                return Wanted::Nothing;
            }
        }
        match is_hoped_for {
            true => Wanted::Copy(Duration::from_millis(settings.slave_timeout)),
            false => Wanted::Missing,
        }
    }

    /// Whether a message whose time is over is acknowledged all the same.
    pub fn is_excused(&self, settings: &StoreSettings) -> bool {
        settings.slave_ack_policy == SlaveAckPolicy::Degrade
    }

    /// A message that ends there was acknowledged because it is excused.
    pub fn excused(&self, end: LogOffset) {
        self.degraded.enter(end, "no slave had a message in time");
    }

    /// Whether messages are acknowledged without their copies now; ends that state if it is over. `end` is where the log
    /// ends.
    pub fn look(&self, settings: &StoreSettings, end: LogOffset) -> bool {
        if settings.slave_ack_policy != SlaveAckPolicy::Degrade {
            self.degraded.leave("slaveAckPolicy is another one now");
        } else if self.is_near(settings, end) {
            self.degraded.copied(self.links.replicated());
        }
        self.degraded.is_entered()
    }

    /// How many messages were refused because slaves were missing.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether messages are acknowledged without their copies, for who waits for a change of it.
    pub fn turns(&self) -> watch::Receiver<bool> {
        self.degraded.turns.subscribe()
    }

    /// How often the state of acknowledging without copies was entered.
    pub fn entered(&self) -> u64 {
        self.degraded.entered.load(Ordering::Relaxed)
    }

    fn is_near(&self, settings: &StoreSettings, end: LogOffset) -> bool {
        self.links
            .is_near(end, settings.ha_slave_fallbehind_max.into())
    }
}

/// Whether messages are acknowledged without their copies.
#[derive(Debug, Default)]
struct Degraded {
    /// Where the first of these messages ends; 0: there is none.
    since: AtomicU64,
    entered: AtomicU64,
    turns: watch::Sender<bool>,
}

impl Degraded {
    fn is_entered(&self) -> bool {
        self.since.load(Ordering::Acquire) != 0
    }

    fn enter(&self, end: LogOffset, why: &str) {
        let entered = self
            .since
            .compare_exchange(0, end.0, Ordering::AcqRel, Ordering::Acquire);
        if entered.is_ok() {
            self.entered.fetch_add(1, Ordering::Relaxed);
            self.turns.send_replace(true);
            tracing::warn!(
                "DEGRADED: messages are acknowledged without a copy at a slave from {end} on: {why} (slaveAckPolicy=degrade)"
            );
        }
    }

    /// Enough slaves have the log up to there.
    fn copied(&self, position: u64) {
        let since = self.since.load(Ordering::Acquire);
        if since != 0 && since <= position {
            self.leave("enough slaves have them");
        }
    }

    fn leave(&self, why: &str) {
        let since = self.since.swap(0, Ordering::AcqRel);
        if since != 0 {
            self.turns.send_replace(false);
            tracing::warn!(
                "no longer degraded: messages wait for their copies again; those from {since} on did not: {why}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_lasts_until_the_first_excused_message_has_its_copy() {
        let state = Degraded::default();
        state.copied(5);
        assert!(!state.is_entered());
        state.enter(LogOffset(100), "test");
        // A later one does not move it.
        state.enter(LogOffset(200), "test");
        state.copied(99);
        assert!(state.is_entered());
        state.copied(100);
        assert!(!state.is_entered());
        assert_eq!(state.entered.load(Ordering::Relaxed), 1);
        state.enter(LogOffset(300), "test");
        state.leave("test");
        assert!(!state.is_entered());
        assert_eq!(state.entered.load(Ordering::Relaxed), 2);
    }
}
