//! Who this broker is and how it runs.

use std::{sync::Arc, time::Instant};

use gantry_message::Millis;
use gantry_store::Store;
use gantry_wire::version;

use super::families::{Families, float};
use crate::{latch, live::LiveConfig};

/// The parts that say so.
pub struct BrokerSource {
    /// Configuration as it runs.
    pub live: Arc<LiveConfig>,
    /// Whether it takes messages.
    pub store: Arc<Store>,
    /// When the broker began to start.
    pub started: Instant,
}

impl BrokerSource {
    /// Adds its families.
    pub fn collect(&self, out: &mut Families) {
        let config = self.live.now();
        let compat = version::name(version::CURRENT);
        out.gauge(
            "gantry_build_info",
            "The version of the program, and the RocketMQ version it speaks like.",
            &[("version", env!("CARGO_PKG_VERSION")), ("compat", &compat)],
            1.0,
        );
        out.gauge(
            "gantry_broker_info",
            "Which broker this is.",
            &[
                ("cluster", &config.broker_cluster_name),
                ("broker", &config.broker_name),
                ("broker_id", &config.broker_id.to_string()),
                (
                    "role",
                    &gantry_config::Setting::write(&config.store.broker_role),
                ),
                (
                    "flush",
                    &gantry_config::Setting::write(&config.store.flush_disk_type),
                ),
            ],
            1.0,
        );
        let uptime = self.started.elapsed();
        let now_ms = Millis::now().0 as f64;
        out.gauge(
            "gantry_uptime_seconds",
            "Time since the broker began to start.",
            &[],
            uptime.as_secs_f64(),
        );
        out.gauge(
            "gantry_start_time_seconds",
            "When the broker began to start, in seconds since 1970 by the present clock.",
            &[],
            (now_ms / 1000.0 - uptime.as_secs_f64()).round(),
        );
        out.gauge(
            "gantry_broker_permission",
            "What name servers are told that clients may do: 6 read and write, 4 read only, 2 write only.",
            &[],
            float(latch::permission(&config, &self.store).into()),
        );
        out.gauge(
            "gantry_insecure_mode",
            "1 while everybody who reaches this host may administer the broker.",
            &[],
            f64::from(u8::from(config.server.is_insecure())),
        );
    }
}
