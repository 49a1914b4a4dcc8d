//! Slaves and masters.

use std::sync::Arc;

use gantry_replication::FollowState;

use gantry_service::metrics::{Families, flag, float};

use super::{Compat, exporter};
use crate::{config::BrokerRole, pairing::Pairing, replicas::Door};

/// The parts that know.
pub struct ReplicationSource {
    /// How the pair is.
    pub pairing: Arc<Pairing>,
    /// Who the slaves are.
    pub door: Arc<Door>,
}

impl ReplicationSource {
    /// Adds its families.
    pub fn collect(&self, out: &mut Families) {
        self.state(out);
        self.slaves(out);
        self.commitlog_diffs(out);
        self.follower(out);
    }

    fn state(&self, out: &mut Families) {
        let Pairing {
            live,
            store,
            acks,
            seats,
            ..
        } = &*self.pairing;
        out.gauge(
            "gantry_broker_promotion_number",
            "The newest promotion of its name that the broker knows of; 0: none.",
            &[],
            float(seats.epoch().number),
        );
        out.gauge(
            "gantry_broker_fenced",
            "1 for a master that was replaced by a promotion and has not rejoined.",
            &[],
            flag(seats.is_fenced()),
        );
        out.gauge(
            "gantry_broker_read_only",
            "1 while readOnly drains the broker.",
            &[],
            flag(live.now().read_only),
        );
        out.gauge(
            "gantry_store_sealed",
            "1 while messages are not wanted, though the store is well.",
            &[],
            flag(store.sealed().is_some()),
        );
        out.gauge(
            "gantry_replication_degraded",
            "1 while messages are acknowledged without their copies (slaveAckPolicy=degrade).",
            &[],
            flag(self.pairing.is_degraded()),
        );
        out.counter(
            "gantry_replication_degraded_total",
            "How often the broker became degraded.",
            &[],
            acks.entered(),
        );
        out.counter(
            "gantry_replication_sends_refused_total",
            "Sends refused because too few slaves could have a copy (slaveAckPolicy=refuse).",
            &[],
            acks.refused(),
        );
    }

    fn slaves(&self, out: &mut Families) {
        let links = self.pairing.acks.links();
        let all = links.status();
        let open = all.iter().filter(|slave| slave.ended.is_none());
        let in_sync = all
            .iter()
            .filter(|slave| self.pairing.in_sync(slave).is_ok());
        out.gauge(
            "gantry_replication_slaves_connected",
            "Links to slaves.",
            &[],
            count(open.count()),
        );
        out.gauge(
            "gantry_replication_slaves_in_sync",
            "Links to slaves that count for a SYNC_MASTER.",
            &[],
            count(in_sync.count()),
        );
        out.gauge(
            "gantry_replication_replicated_offset_bytes",
            "Up to where inSyncReplicas slaves have the log.",
            &[],
            float(links.replicated().value()),
        );
        for (reason, ended) in links.ended_links() {
            out.counter(
                "gantry_replication_links_ended_total",
                "Links to slaves that ended.",
                &[("reason", reason)],
                ended,
            );
        }
        for slave in all.iter().filter(|slave| slave.ended.is_none()) {
            let (address, id) = (slave.slave.to_string(), slave.id.map(|id| id.to_string()));
            let id = id.as_deref().unwrap_or("");
            let labels = [
                ("slave", address.as_str()),
                ("id", id),
                ("wire", slave.wire.name()),
            ];
            out.gauge(
                "gantry_replication_slave_acknowledged_offset_bytes",
                "Up to where a slave has the log.",
                &labels,
                float(slave.acknowledged.map_or(0, |at| at.0)),
            );
            out.gauge(
                "gantry_replication_slave_behind_bytes",
                "Bytes of the log that a slave lacks.",
                &labels,
                float(slave.behind_bytes),
            );
            out.gauge(
                "gantry_replication_slave_behind_seconds",
                "For how long the log has been longer than what a slave has.",
                &labels,
                slave.behind.as_secs_f64(),
            );
        }
    }

    /// As Apache's exporter has it, which reads it from both brokers.
    fn commitlog_diffs(&self, out: &mut Families) {
        let config = self.pairing.live.now();
        if !Compat::of(&config).exporter4 || config.store.broker_role == BrokerRole::Slave {
            return;
        }
        let slaves = self.pairing.acks.links().status().into_iter();
        let open = slaves.filter(|slave| slave.ended.is_none() && slave.acknowledged.is_some());
        let diffs: Vec<_> = open
            .map(|slave| (self.door.address_of(&slave), slave.behind_bytes))
            .collect();
        exporter::commitlog_diffs(out, &config, &diffs);
    }

    fn follower(&self, out: &mut Families) {
        let Some(status) = self.pairing.follows() else {
            return;
        };
        out.gauge(
            "gantry_replication_following",
            "Of a slave: 1 while it stores what its master sends.",
            &[("wire", status.wire.name())],
            flag(status.state == FollowState::Following),
        );
        out.counter(
            "gantry_replication_follower_links_ended_total",
            "Of a slave: links to the master that ended.",
            &[],
            status.ended_links,
        );
        if let Some(heard) = status.heard {
            out.gauge(
                "gantry_replication_master_silent_seconds",
                "Of a slave: since when the master has said nothing.",
                &[],
                heard.elapsed().as_secs_f64(),
            );
        }
    }
}

fn count(number: usize) -> f64 {
    float(u64::try_from(number).unwrap_or(u64::MAX))
}
