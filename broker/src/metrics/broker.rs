//! Who this broker is and how it runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use gantry_message::Millis;
use gantry_net::{Pulses, server::Counts};
use gantry_service::metrics::{Families, flag, float};
use gantry_store::Store;
use gantry_wire::version;

use crate::{config::name_server_list, latch, live::LiveConfig, registration::Registration};

/// The parts that say so.
pub struct BrokerSource {
    /// Configuration as it runs.
    pub live: Arc<LiveConfig>,
    /// Whether it takes messages.
    pub store: Arc<Store>,
    /// When the broker began to start.
    pub started: Instant,
    /// Name servers.
    pub registration: Arc<Registration>,
    /// Connections.
    pub connections: Arc<Counts>,
    /// Whether I/O threads turn.
    pub pulses: Pulses,
    /// Pulls that are held.
    pub parked: Arc<AtomicUsize>,
}

impl BrokerSource {
    /// Adds its families.
    pub fn collect(&self, out: &mut Families) {
        let config = self.live.now();
        let compat = version::name(version::CURRENT);
        out.gauge(
            "gantry_io_stuck_seconds",
            "For how long an I/O thread has not turned since it was asked to; 0: all turn.",
            &[],
            self.pulses.look().as_secs_f64(),
        );
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
            flag(config.server.is_insecure()),
        );
        let asked = config.namesrv_addr.as_deref().unwrap_or_default();
        out.gauge(
            "gantry_name_servers_configured",
            "Name servers that the broker shall register at.",
            &[],
            float(name_server_list(asked).count() as u64),
        );
        out.gauge(
            "gantry_name_servers_registered",
            "Name servers that have the broker.",
            &[],
            float(self.registration.registered_at().len() as u64),
        );
        out.gauge(
            "gantry_pulls_held",
            "Pulls that wait for a message to come.",
            &[],
            float(self.parked.load(Ordering::Relaxed) as u64),
        );
        let connections = &self.connections;
        out.gauge(
            "gantry_connections",
            "Connections of clients.",
            &[],
            float(connections.open() as u64),
        );
        for (name, help, count) in [
            (
                "gantry_connections_refused_total",
                "Connections closed at once because a limit was reached.",
                &connections.refused,
            ),
            (
                "gantry_connections_bad_input_total",
                "Connections closed because of input that is no frame.",
                &connections.bad_input,
            ),
            (
                "gantry_accept_failures_total",
                "Connections that the system could not accept, mostly for want of descriptors.",
                &connections.accept_failures,
            ),
        ] {
            out.counter(name, help, &[], count.load(Ordering::Relaxed));
        }
    }
}
