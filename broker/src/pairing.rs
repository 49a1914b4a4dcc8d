//! How a broker stands in its pair: its slaves, or its master, and whether it takes messages. Also what `readOnly` does.
//!
//! Nothing is decided here but who is in sync; 46002, the metrics and the status line show it.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use gantry_config::Setting;
use gantry_message::Millis;
use gantry_replication::{FollowState, FollowStatus, FollowView, LinkStatus};
use gantry_store::{AppendError, Store, Watermark};
use gantry_wire::bodies::{HaFollowing, HaSlave, HaStatus};

use crate::{
    acks::SlaveAcks,
    config::BrokerConfig,
    live::LiveConfig,
    seats::{READ_ONLY, Seats},
    slave::{Known, Link},
    tables::Topics,
};

/// The parts that know.
pub struct Pairing {
    /// Configuration as it runs.
    pub live: Arc<LiveConfig>,
    /// The log.
    pub store: Arc<Store>,
    /// The slaves, and what is promised about them.
    pub acks: Arc<SlaveAcks>,
    /// What it is after promotions.
    pub seats: Arc<Seats>,
    /// Of a slave, once it follows.
    pub following: OnceLock<FollowView>,
    /// What a slave knows of its master.
    pub known: Known,
}

impl Pairing {
    /// Whether messages are acknowledged without their copies now.
    pub fn is_degraded(&self) -> bool {
        let config = self.live.now();
        self.acks.is_sync_master() && self.acks.look(&config.store, self.store.max_offset())
    }

    /// What the follower of a slave does.
    pub fn follows(&self) -> Option<FollowStatus> {
        self.following.get().map(FollowView::status)
    }

    /// The main port of the master whose log is followed at this moment.
    pub fn followed(&self) -> Option<String> {
        let status = self.follows()?;
        let is_following = status.state == FollowState::Following;
        status.master.filter(|_| is_following)
    }

    /// Whether that slave counts for a SYNC_MASTER, and if not, why.
    pub fn in_sync(&self, slave: &LinkStatus) -> Result<(), String> {
        why_not(slave, self.live.now().store.ha_slave_fallbehind_max.into())
    }

    /// All of it, as 46002 answers.
    pub fn status(&self) -> HaStatus {
        let config = self.live.now();
        let slaves = self.acks.links().status();
        let not_writable = self.store.check_writable().err();
        // Before the end: what lies before that is what is compared.
        let (last_record, made_up) = (self.store.last_record(), self.store.made_up());
        HaStatus {
            broker_id: i64::try_from(config.broker_id).unwrap_or(i64::MAX),
            broker_name: config.broker_name.clone(),
            configured_id: i64::try_from(self.seats.configured_id()).unwrap_or(i64::MAX),
            degraded: self.is_degraded(),
            epoch: Some(self.seats.epoch().to_string()),
            gave_way: self.seats.now().gave_way,
            is_fenced: self.seats.is_fenced(),
            following: self.follows().map(|status| following(status, &self.known)),
            in_sync_replicas: i32::try_from(config.store.in_sync_replicas).unwrap_or(i32::MAX),
            last_record: last_record.map_or(-1, |(at, _)| number(at.0)),
            made_up: made_up.iter().map(|at| number(at.0)).collect(),
            max_offset: number(self.store.max_offset().0),
            min_offset: number(self.store.min_offset().0),
            not_writable: not_writable.map(|error| error.to_string()),
            read_only: config.read_only,
            replicated: number(self.acks.links().replicated().value()),
            role: config.store.broker_role.write(),
            slave_ack_policy: config.store.slave_ack_policy.write(),
            slaves: slaves.iter().map(|slave| self.slave(slave)).collect(),
        }
    }

    fn slave(&self, slave: &LinkStatus) -> HaSlave {
        let why = self.in_sync(slave).err();
        HaSlave {
            acknowledged: slave.acknowledged.map_or(-1, |at| number(at.0)),
            address: slave.slave.to_string(),
            behind_bytes: number(slave.behind_bytes),
            behind_millis: millis(slave.behind),
            id: slave
                .id
                .map_or(-1, |id| i64::try_from(id).unwrap_or(i64::MAX)),
            in_sync: why.is_none(),
            is_open: slave.ended.is_none(),
            since_millis: millis(slave.since.elapsed()),
            why,
            wire: slave.wire.name().to_owned(),
        }
    }

    /// What `systemctl status` shows while messages are not wanted.
    pub fn notice(&self) -> Option<String> {
        if let Some(why) = self.seats.why_fenced() {
            return Some(format!("FENCED: {why}"));
        }
        match self.store.check_writable() {
            Err(AppendError::Sealed { why }) => Some(format!("READ ONLY: {why}")),
            _ if self.is_degraded() => {
                Some("DEGRADED: messages are acknowledged without a copy at a slave".to_owned())
            }
            _ => None,
        }
    }
}

/// A slave's link to its master, for who copies the tables.
pub struct Following {
    /// Whose.
    pub pairing: Arc<Pairing>,
    /// What its follower does.
    pub view: FollowView,
}

impl Link for Following {
    fn followed(&self) -> Option<String> {
        self.pairing.followed()
    }

    fn begun(&self) -> &Watermark {
        self.view.begun()
    }

    fn candidacies(&self) -> &Watermark {
        self.pairing.seats.candidacies()
    }
}

/// Lets the store take no messages while `readOnly` says so, and name servers know.
pub fn follow_read_only(
    live: &Arc<LiveConfig>,
    store: &Arc<Store>,
    topics: &Arc<Topics>,
    seats: &Arc<Seats>,
) {
    seats.guard(store);
    if live.now().read_only {
        tracing::warn!("{READ_ONLY}; mqadmin setReadWrite ends that");
        seats.drain(true);
    }
    let (seats, topics) = (Arc::downgrade(seats), Arc::downgrade(topics));
    live.follow(move |config: &BrokerConfig| {
        let (Some(seats), Some(topics)) = (seats.upgrade(), topics.upgrade()) else {
            return;
        };
        if !seats.drain(config.read_only) {
            return;
        }
        if config.read_only {
            tracing::warn!("{READ_ONLY}");
        } else {
            tracing::info!("this broker is not read only any more: readOnly=false");
        }
        // Name servers look at permissions only under a new version of the topics.
        topics.renew(Millis::now());
    });
}

fn why_not(slave: &LinkStatus, behind_max: u64) -> Result<(), String> {
    if let Some(ended) = &slave.ended {
        return Err(format!("the link ended: {ended}"));
    }
    if slave.acknowledged.is_none() {
        return Err("it has not said yet where its log ends".to_owned());
    }
    if behind_max <= slave.behind_bytes {
        return Err(format!(
            "it is {} bytes behind, haSlaveFallbehindMax is {behind_max}",
            slave.behind_bytes
        ));
    }
    Ok(())
}

fn following(status: FollowStatus, known: &Known) -> HaFollowing {
    let why = match &status.state {
        FollowState::Following => None,
        FollowState::Waiting(why) => Some(why.clone()),
        FollowState::Ended => Some("the follower has ended".to_owned()),
    };
    HaFollowing {
        copied_millis_ago: known.copied().map_or(-1, ago),
        ended_links: number(status.ended_links),
        is_following: status.state == FollowState::Following,
        heard_millis_ago: status.heard.map_or(-1, ago),
        known: known.now(),
        master: status.master,
        why,
        wire: status.wire.name().to_owned(),
    }
}

fn ago(then: Instant) -> i64 {
    millis(then.elapsed())
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use gantry_message::LogOffset;
    use gantry_replication::Wire;

    use super::*;

    #[test]
    fn a_slave_is_in_sync_or_it_is_said_why_not() {
        let slave = LinkStatus {
            slave: "10.0.0.7:40000".parse().unwrap(),
            id: Some(1),
            wire: Wire::Checked,
            acknowledged: Some(LogOffset(10)),
            sent: LogOffset(10),
            behind_bytes: 99,
            behind: Duration::ZERO,
            ended: None,
            since: Instant::now(),
        };
        let check = |slave: LinkStatus, expected: Result<(), &str>| {
            let expected = expected.map_err(str::to_owned);
            assert_eq!(why_not(&slave, 100), expected);
        };
        check(slave.clone(), Ok(()));
        let far = LinkStatus {
            behind_bytes: 100,
            ..slave.clone()
        };
        check(
            far,
            Err("it is 100 bytes behind, haSlaveFallbehindMax is 100"),
        );
        let mute = LinkStatus {
            acknowledged: None,
            ..slave.clone()
        };
        check(mute, Err("it has not said yet where its log ends"));
        let ended = LinkStatus {
            ended: Some("the slave closed it".to_owned()),
            ..slave
        };
        check(ended, Err("the link ended: the slave closed it"));
    }
}
