//! The key table of the name server: its own keys here, and what every daemon has (`server`, `tls`).

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use gantry_config::{Loaded, Port, ServerSettings, TlsSettings, settings};
use gantry_service::Program;

/// The port for metrics that is taken when none is configured (decision 23).
pub const METRICS_PORT: u16 = 5_558;

const NO_LOOKUP: &str = "this version looks topics up nowhere else";

settings! {
    /// Everything a name server can be told.
    pub struct NamesrvConfig |host| {
        /// Sockets, limits, logs.
        part server: ServerSettings = ServerSettings {
            max_unparsed_bytes: 67_108_864,
            ..ServerSettings::for_daemon(host, 9_876, "configBlackList;configStorePath;kvConfigPath")
        };
        /// Transport encryption.
        part tls: TlsSettings = gantry_config::Settings::defaults(host);

        section "Name server";
        /// File with the KV table (order configurations). The override file is beside it.
        kv_config_path: String = format!("{}/namesrv/kvConfig.json", host.user_home), "kvConfigPath" [.check(path).shown("~/namesrv/kvConfig.json")];
        /// Adds order configurations to routes.
        order_message_enable: bool = false, "orderMessageEnable" [.live()];
        /// Where RocketMQ writes changed settings.
        config_store_path: String = format!("{}/namesrv/namesrv.properties", host.user_home), "configStorePath"
            [.shown("~/namesrv/namesrv.properties").without_effect("changed settings go to the override file; what you wrote is never rewritten")];
        /// Port for Prometheus (`/metrics`, `/health`, `/ready`), on the loopback address; 0: off. Where it is not set and
        /// 5558 is taken, the name server starts without metrics and says so.
        metrics_port: Option<u16> = None, "metricsPort" [.shown("5558").ours()];
        /// Looks up unknown topics in another environment.
        cluster_test: bool = false, "clusterTest" [.without_effect(NO_LOOKUP)];
        /// Name of that environment.
        product_env_name: String = "center".into(), "productEnvName" [.without_effect(NO_LOOKUP)];
        /// Parsed for compatibility; a name server asks no other.
        namesrv_addr: Option<String> = None, "namesrvAddr"
            [.env(&["NAMESRV_ADDR"]).aliases(&["rocketmq.namesrv.addr"]).without_effect("a name server asks no other")];
    }
}

fn path(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.starts_with('~') || text.contains('\0') {
        Err("the path of a file (~ is not understood)")
    } else {
        Ok(())
    }
}

/// Name of the file beside the KV table that holds changes made at run time.
pub const OVERRIDE_FILE: &str = "gantry-override.properties";

/// For [`gantry_service::startup::begin`].
pub const PROGRAM: Program<NamesrvConfig> = Program {
    name: "mqnamesrv",
    about: "name server that speaks RocketMQ's protocol",
    description: &[
        "Tells clients which brokers hold which topics. Brokers register with every name server they know; name servers know \
         nothing of each other and keep nothing but a small table of order configurations.",
        "It listens on listenPort (9876). Logs go to the journal under systemd, else to ~/logs/rocketmqlogs/namesrv.log.",
        "The package runs it as mqnamesrv.service. As shipped it listens on this machine only; bindAddress opens it.",
    ],
    files: &[
        (
            "/etc/gantry/namesrv.toml",
            "Settings of mqnamesrv.service; namesrv.properties in its place is understood as well.",
        ),
        (
            "/var/lib/gantry/namesrv",
            "The table of order configurations, and settings changed at run time.",
        ),
        (
            "/etc/gantry/no-restart-on-upgrade",
            "If it exists, upgrades of packages restart nothing.",
        ),
    ],
    commands: &[],
    see_also: &[
        "mqnamesrv.toml(5)",
        "mqbroker(8)",
        "mqadmin(1)",
        "systemctl(1)",
    ],
    override_file: NamesrvConfig::override_file,
    settle,
    look: |_| {},
};

/// Settles what follows from other values.
pub fn settle(loaded: &mut Loaded<NamesrvConfig>) {
    let server = &loaded.config.server;
    let mut ports = vec![Port::of(
        "listenPort",
        server.bind_address.0,
        server.listen_port,
    )];
    let metrics = loaded.config.metrics_port.unwrap_or(METRICS_PORT);
    if metrics != 0 {
        ports.push(Port::of("metricsPort", Ipv4Addr::LOCALHOST.into(), metrics));
    }
    loaded.ports_apart(&ports);
}

impl NamesrvConfig {
    /// Where changes made at run time are kept.
    pub fn override_file(&self) -> PathBuf {
        Path::new(&self.kv_config_path).with_file_name(OVERRIDE_FILE)
    }
}
