//! Slaves and masters.

use std::sync::Arc;

use gantry_replication::FollowState;

use gantry_service::metrics::{Families, flag, float};

use crate::pairing::Pairing;

/// The part that knows.
pub struct ReplicationSource(pub Arc<Pairing>);

impl ReplicationSource {
    /// Adds its families.
    pub fn collect(&self, out: &mut Families) {
        self.state(out);
        self.slaves(out);
        self.follower(out);
    }

    fn state(&self, out: &mut Families) {
        let Pairing {
            live,
            store,
            acks,
            seats,
            ..
        } = &*self.0;
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
            flag(self.0.is_degraded()),
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
        let links = self.0.acks.links();
        let all = links.status();
        let open = all.iter().filter(|slave| slave.ended.is_none());
        let in_sync = all.iter().filter(|slave| self.0.in_sync(slave).is_ok());
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

    fn follower(&self, out: &mut Families) {
        let Some(status) = self.0.follows() else {
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
