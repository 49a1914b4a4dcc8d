//! What follows from the values once they are all known: role and id, derived ports, the announced address.
//!
//! Same rules as RocketMQ's start, but where that changes a value without a word, this says so.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};

use gantry_config::{Loaded, Port, Severity, Source, options};
use gantry_service::{Program, startup::Command};

use super::address::{Network, announced};
use super::{BrokerConfig, BrokerRole, place};
use crate::host_command;

/// The port for metrics that is taken when none is configured (decision 23).
pub const METRICS_PORT: u16 = 5_557;

/// Name of the file in the store's `config` folder that holds changes made at run time.
pub const OVERRIDE_FILE: &str = "gantry-override.properties";

/// For [`gantry_service::startup::begin`].
pub const PROGRAM: Program<BrokerConfig> = Program {
    name: "mqbroker",
    about: "message broker that speaks RocketMQ's protocol",
    description: &[
        "Stores messages and hands them to consumers. Clients of RocketMQ 4.x connect to it unchanged, and its store has the \
         format of Apache RocketMQ 4.9: a broker of either kind starts on the other's files.",
        "It listens on listenPort (10911) and on the port two below, which clients use as the \"VIP channel\". Logs go to the \
         journal under systemd, else to ~/logs/rocketmqlogs/broker.log.",
        "The package runs one broker as mqbroker.service. Several run as mqbroker@NAME.service, each with a file of its own \
         below /etc/gantry/broker and with ports of its own: values of listenPort that are more than two apart. No instance may be \
         called broker or namesrv, whose state folders are taken. As shipped it listens on this machine only; bindAddress opens it.",
        "\"mqbroker store check DIR\" examines the store of a stopped broker, Gantry's or Apache's, and names every damage; \
         \"store dump\", \"store export\" and \"store repair\" show, save and mend what is in it. \"mqbroker store --help\" \
         explains them.",
        "\"mqbroker doctor -c FILE\" looks at configuration, addresses, ports, clock, limits, kernel settings, store, disk and \
         name servers, and says for each finding what to change. It ends with 0 if nothing keeps the broker from serving, with 1 if \
         something does, with 78 if the configuration is bad. With \"--output json\" it prints an array of objects, one a \
         finding: check, verdict (ok, warning or error), text, and advice, which is empty where there is nothing to change.",
    ],
    files: &[
        (
            "/etc/gantry/broker.toml",
            "Settings of mqbroker.service; broker.properties in its place is understood as well.",
        ),
        (
            "/etc/gantry/broker/NAME.toml, /etc/gantry/broker/NAME.properties",
            "Settings of mqbroker@NAME.service.",
        ),
        (
            "/var/lib/gantry/broker, /var/lib/gantry/NAME",
            "What it stores, if storePathRootDir does not say otherwise.",
        ),
        (
            "/etc/gantry/no-restart-on-upgrade",
            "If it exists, upgrades of packages restart nothing.",
        ),
    ],
    commands: &[
        Command {
            name: "doctor",
            usage: "[-c FILE] [--output json]",
            about: "say whether this host is fit for the broker that the file describes",
            words: Vec::new,
            options: host_command::options,
        },
        Command {
            name: "store",
            usage: "COMMAND DIR",
            about: "check, show, save or repair a store that no broker uses",
            words: gantry_doctor::cli::names,
            options: || Vec::from([options::help_option()]),
        },
    ],
    see_also: &[
        "mqbroker.toml(5)",
        "mqnamesrv(8)",
        "mqadmin(1)",
        "mqbench(1)",
        "systemctl(1)",
    ],
    override_file: BrokerConfig::override_file,
    settle: settle_here,
    look: look_here,
};

impl BrokerConfig {
    /// Where changes made at run time are kept.
    pub fn override_file(&self) -> std::path::PathBuf {
        std::path::Path::new(&self.store.store_path_root_dir)
            .join("config")
            .join(OVERRIDE_FILE)
    }

    /// `host:port` that is announced to clients.
    pub fn broker_address(&self) -> String {
        format!(
            "{}:{}",
            self.broker_ip1.as_deref().unwrap_or("127.0.0.1"),
            self.server.listen_port
        )
    }

    /// `host:port` that is announced to slaves.
    pub fn ha_address(&self) -> String {
        let host = self
            .broker_ip2
            .as_deref()
            .or(self.broker_ip1.as_deref())
            .unwrap_or("127.0.0.1");
        format!("{host}:{}", self.store.ha_listen_port)
    }

    /// The port for clients that use the "VIP channel".
    pub fn vip_port(&self) -> Option<u16> {
        self.server
            .listen_port
            .checked_sub(2)
            .filter(|port| 0 < *port)
    }

    /// Everything that it listens on, in the order in which it is bound.
    pub fn ports(&self) -> Vec<Port> {
        let (ip, local) = (self.server.bind_address.0, Ipv4Addr::LOCALHOST.into());
        let mut ports = vec![Port::of("listenPort", ip, self.server.listen_port)];
        ports.extend(self.vip_port().map(|number| Port {
            name: "listenPort - 2",
            ..Port::of("listenPort", ip, number)
        }));
        ports.push(Port::of("haListenPort", ip, self.store.ha_listen_port));
        let metrics = self.metrics_port.unwrap_or(METRICS_PORT);
        if metrics != 0 {
            ports.push(Port::of("metricsPort", local, metrics));
        }
        ports
    }

    /// Folder for log files.
    pub fn log_folder(&self) -> std::path::PathBuf {
        let folder = std::path::PathBuf::from(&self.server.log_dir);
        match self.isolate_log_enable {
            true => folder.join(format!("{}_{}", self.broker_name, self.broker_id)),
            false => folder,
        }
    }
}

fn settle_here(loaded: &mut Loaded<BrokerConfig>) {
    let network = Network::of_this_host(loaded.config.namesrv_addr.as_deref());
    settle(loaded, &network);
    place::settle(loaded);
}

/// Asks for the names that others are told, and who works on the store.
fn look_here(loaded: &mut Loaded<BrokerConfig>) {
    let (one, two) = (
        loaded.config.broker_ip1.clone(),
        loaded.config.broker_ip2.clone(),
    );
    let second = two.filter(|two| Some(two) != one.as_ref());
    for (key, host) in [("brokerIP1", one), ("brokerIP2", second)] {
        let Some(host) = host.filter(|host| !is_known(host)) else {
            continue;
        };
        let source = loaded.source(key);
        let text = format!("{source}: {key}={host}: no address, and no name that is known here");
        loaded.find(Severity::Error, text);
    }
    // Whoever may not look is not told.
    if let Ok(Some(user)) = place::user(&loaded.config) {
        let root = &loaded.config.store.store_path_root_dir;
        let text = format!("storePathRootDir={root}: in use by {user}");
        loaded.find(Severity::Note, text);
    }
}

fn is_known(host: &str) -> bool {
    // Any port: names are looked up together with one.
    let found = format!("{host}:1").to_socket_addrs();
    found.is_ok_and(|mut addresses| addresses.next().is_some())
}

/// Settles everything that follows from other values or from the network.
pub fn settle(loaded: &mut Loaded<BrokerConfig>, network: &Network) {
    role_and_id(loaded);
    ports(loaded);
    tell_ports(loaded);
    addresses(loaded, network);
    disk_ratios(loaded);
    message_size(loaded);
    delay_of_registration(loaded);
}

fn role_and_id(loaded: &mut Loaded<BrokerConfig>) {
    let id = loaded.config.broker_id;
    match loaded.config.store.broker_role {
        BrokerRole::Slave if id == 0 => {
            let source = loaded.source("brokerId");
            loaded.find(
                Severity::Error,
                format!("{source}: brokerId=0: Slave's brokerId must be > 0"),
            );
        }
        BrokerRole::Slave => {}
        role if id != 0 => {
            let (source, role) = (loaded.source("brokerId"), role.as_str());
            let text = format!(
                "{source}: brokerId={id}: a master's is always 0; is brokerRole={role} what you mean?"
            );
            loaded.find(Severity::Warning, text);
            loaded.config.broker_id = 0;
            loaded.derived("brokerId", "a master's is always 0");
        }
        _ => {}
    }
}

fn ports(loaded: &mut Loaded<BrokerConfig>) {
    let port = loaded.config.server.listen_port;
    if loaded.config.vip_port().is_none() || port == u16::MAX {
        let source = loaded.source("listenPort");
        let text = format!(
            "{source}: listenPort={port}: must be a whole number from 3 to 65534, because the ports two below and one above are used too"
        );
        loaded.find(Severity::Error, text);
        return;
    }
    if loaded.source("haListenPort") == Source::Default {
        loaded.config.store.ha_listen_port = port + 1;
        loaded.derived("haListenPort", "listenPort + 1");
    }
    let ports = loaded.config.ports();
    loaded.ports_apart(&ports);
}

/// Two of the three ports are found in no file, and firewalls must know them.
fn tell_ports(loaded: &mut Loaded<BrokerConfig>) {
    let (port, ha) = (
        loaded.config.server.listen_port,
        loaded.config.store.ha_listen_port,
    );
    if let Some(vip) = loaded.config.vip_port() {
        let text = format!(
            "ports: {port} for clients, {vip} for clients that use the VIP channel, {ha} for slaves"
        );
        loaded.find(Severity::Note, text);
    }
}

fn addresses(loaded: &mut Loaded<BrokerConfig>, network: &Network) {
    if loaded.config.broker_ip1.is_none()
        && let Some(bound) = only_address(&loaded.config)
    {
        // Nobody reaches it at another one.
        loaded.config.broker_ip1 = Some(announced(bound));
        loaded.derived("brokerIP1", "as bindAddress");
    }
    if loaded.config.broker_ip1.is_none() {
        let found = network.choose();
        let text = format!(
            "brokerIP1 is not set; announcing {} ({}). Candidates: {network}",
            found.address,
            found.reason.trim_start_matches("found: ")
        );
        loaded.find(Severity::Note, text);
        loaded.config.broker_ip1 = Some(found.address);
        loaded.derived("brokerIP1", found.reason);
    }
    if loaded.config.broker_ip2.is_none() {
        loaded.config.broker_ip2 = loaded.config.broker_ip1.clone();
        loaded.derived("brokerIP2", "as brokerIP1");
    }
}

/// The one address that it listens on, if it is one.
fn only_address(config: &BrokerConfig) -> Option<IpAddr> {
    Some(config.server.bind_address.0).filter(|address| !address.is_unspecified())
}

fn disk_ratios(loaded: &mut Loaded<BrokerConfig>) {
    let store = &loaded.config.store;
    let (clean, warn) = (
        store.disk_space_clean_forcibly_ratio,
        store.disk_space_warning_level_ratio,
    );
    if warn < clean {
        let source = loaded.source("rocketmq.broker.diskSpaceWarningLevelRatio");
        let text = format!(
            "{source}: sends are refused from {warn}, before files are deleted before their time from {clean}"
        );
        loaded.find(Severity::Warning, text);
    }
}

/// What a message has beside its body in a record or a frame, at most: properties, topic, addresses and numbers.
const BESIDE_BODY_MAX: u64 = 34_000;

/// A limit that another one cuts short would be found out by the first producer of a large message.
fn message_size(loaded: &mut Loaded<BrokerConfig>) {
    let (store, server) = (&loaded.config.store, &loaded.config.server);
    let max = u64::from(store.max_message_size);
    let limits = [
        ("mappedFileSizeCommitLog", store.mapped_file_size_commit_log),
        ("frameMaxLength", server.frame_max_length.into()),
    ];
    let source = loaded.source("maxMessageSize");
    for (key, limit) in limits {
        if limit < max + BESIDE_BODY_MAX {
            let text = format!(
                "{source}: maxMessageSize={max}: a message of that size may not fit {key}={limit}, and is refused then"
            );
            loaded.find(Severity::Warning, text);
        }
    }
}

fn delay_of_registration(loaded: &mut Loaded<BrokerConfig>) {
    let period = loaded.config.register_name_server_period;
    let kept_to = period.clamp(10_000, 60_000);
    if kept_to != period {
        let source = loaded.source("registerNameServerPeriod");
        loaded.find(
            Severity::Warning,
            format!("{source}: registerNameServerPeriod={period}: {kept_to} is kept to"),
        );
        loaded.config.register_name_server_period = kept_to;
        loaded.derived("registerNameServerPeriod", "10000 to 60000 are kept to");
    }
}
