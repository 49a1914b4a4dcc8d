//! `mqbroker doctor`: whether this host and its surroundings are fit for the broker that a configuration describes.
//!
//! One line a finding, with what to change; the exit code is 1 if something keeps the broker from serving, so that it can
//! stand before a start or a step of a roll-out. It looks and changes nothing: ports are tried and closed again, name
//! servers are asked for what they tell everybody. A broker that runs already is recognised.

mod unit;

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use gantry_config::{Loaded, Severity, options};
use gantry_disk::{Disk, OsDisk};
use gantry_manual::{Opt, Value};
use gantry_net::{
    client::{Connection, Options, Reply},
    server,
};
use gantry_service::startup;
use gantry_wire::{
    bodies::ClusterInfo,
    codes::{request, response},
    json,
};
use nix::{
    sys::{
        resource::{Resource, getrlimit},
        statfs::{FsType, NFS_SUPER_MAGIC, TMPFS_MAGIC, statfs},
    },
    unistd::{AccessFlags, Uid, User, access, geteuid},
};

use unit::Unit;

use crate::config::{
    BrokerConfig, address::Network, boot, name_server_list, parts::log_paths, place,
};

/// How long a name server, or the broker itself, may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// Fewer descriptors are soon used up by connections.
const FILES_MIN: u64 = 65_536;
/// What a broker maps beside its log; with 50 000 queues it had 108 maps in all.
const MAPS_OF_ITS_OWN: u64 = 1_000;
/// The store lives in the page cache, which a swapping host takes away.
const SWAPPINESS_MAX: u64 = 10;
/// No clock that is right says less: 2026.
const NOW_MIN: Duration = Duration::from_secs(1_767_225_600);

const HELP: &str = "usage: mqbroker doctor [-c FILE] [-n NAMESRV] [--strict] [--output text|json]
Says whether this host is fit for the broker that the file describes, one line a finding; json: an array of objects with
check, verdict (ok, warning, error), text and advice.
ends with 0 if nothing keeps it from serving, 1 if something does or this line is wrong, 78 if the configuration is bad
";

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    Warning,
    Error,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was looked at.
struct Finding {
    check: &'static str,
    verdict: Verdict,
    text: String,
    /// What to change; nothing if all is well.
    advice: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Verdict::Ok, text, "");
    }

    fn add(
        &mut self,
        check: &'static str,
        verdict: Verdict,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.0.push(Finding {
            check,
            verdict,
            text: text.into(),
            advice: advice.into(),
        });
    }

    fn worst(&self) -> Verdict {
        let all = self.0.iter().map(|finding| finding.verdict);
        all.max().unwrap_or(Verdict::Ok)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.0 {
            let verdict = finding.verdict.as_str();
            // Writing to a string cannot fail.
            let _ = write!(text, "{verdict:8} {}: {}", finding.check, finding.text);
            if !finding.advice.is_empty() {
                let _ = write!(text, "; {}", finding.advice);
            }
            text.push('\n');
        }
        text
    }

    fn json(&self) -> String {
        let quoted = |text: &str| {
            let text = text.to_owned();
            String::from_utf8_lossy(&json::print(&text, json::Dialect::Compact)).into_owned()
        };
        let objects: Vec<String> = self
            .0
            .iter()
            .map(|finding| {
                format!(
                    "{{\"check\":{},\"verdict\":{},\"text\":{},\"advice\":{}}}",
                    quoted(finding.check),
                    quoted(finding.verdict.as_str()),
                    quoted(&finding.text),
                    quoted(&finding.advice)
                )
            })
            .collect();
        format!("[{}]\n", objects.join(",\n "))
    }
}

/// The options of the command: those of the daemon that say which configuration is meant, and one of its own.
pub fn options() -> Vec<Opt> {
    let mut options = options::described();
    options.retain(|option| ["configFile", "namesrvAddr", "strict", "help"].contains(&option.long));
    options.push(Opt {
        short: None,
        long: "output",
        value: Value::OneOf(&["text", "json"]),
        about: "how findings are printed".to_owned(),
    });
    options
}

/// Runs the command if the arguments (without the program's name) ask for it.
pub fn run_if_asked(arguments: impl IntoIterator<Item = String>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter();
    if arguments.next().as_deref() != Some("doctor") {
        return None;
    }
    // A closed stdout or stderr is nobody's concern; the exit code says it too.
    let code = match run(arguments.collect()) {
        Ok((text, code)) => {
            let _ = io::stdout().write_all(text.as_bytes());
            code
        }
        Err(misuse) => {
            let _ = write!(io::stderr(), "mqbroker doctor: {misuse}\n{HELP}");
            1
        }
    };
    Some(ExitCode::from(code))
}

fn run(mut arguments: Vec<String>) -> Result<(String, u8), String> {
    if arguments
        .iter()
        .any(|word| word == "-h" || word == "--help")
    {
        return Ok((HELP.to_owned(), 0));
    }
    let is_json = match take_output(&mut arguments).as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(_) => return Err("--output: text or json".to_owned()),
    };
    let options = startup::parse(&boot::PROGRAM, arguments)?;
    let mut loaded = startup::load_by_hand(&boot::PROGRAM, &options);
    let file = options.config_file.as_deref().unwrap_or_default();
    let is_readable = !loaded.refused();
    (boot::PROGRAM.look)(&mut loaded);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let findings = runtime.block_on(examine(&loaded, is_readable, file));
    let code = match findings.worst() {
        _ if loaded.refused() => 78,
        Verdict::Error => 1,
        Verdict::Ok | Verdict::Warning => 0,
    };
    let text = if is_json {
        findings.json()
    } else {
        findings.text()
    };
    Ok((text, code))
}

/// Takes `--output VALUE` or `--output=VALUE` out of the words; a value that is missing is empty.
fn take_output(words: &mut Vec<String>) -> Option<String> {
    let is_output = |word: &String| word == "--output" || word.starts_with("--output=");
    let place = words.iter().position(is_output)?;
    let word = words.remove(place);
    Some(match word.split_once('=') {
        Some((_, value)) => value.to_owned(),
        None if place < words.len() => words.remove(place),
        None => String::new(),
    })
}

/// Without a configuration that can be read there is nothing to compare the host with.
async fn examine(loaded: &Loaded<BrokerConfig>, is_readable: bool, file: &str) -> Findings {
    let mut findings = Findings::default();
    configuration(loaded, &mut findings);
    if !is_readable {
        return findings;
    }
    let config = &loaded.config;
    access_of_others(config, &mut findings);
    if let Some(unit) = Unit::of(file) {
        unit.look(config, &mut findings);
    }
    address(config, &mut findings);
    let is_running = ports(config, &mut findings).await;
    clock(config, &mut findings);
    limits(&mut findings);
    kernel(config, &mut findings);
    store(config, is_running, &mut findings);
    owners(config, &mut findings);
    disk(config, &mut findings);
    name_servers(config, is_running, &mut findings).await;
    findings
}

fn configuration(loaded: &Loaded<BrokerConfig>, findings: &mut Findings) {
    const CHECK: &str = "configuration";
    let before = findings.0.len();
    for finding in &loaded.findings {
        let verdict = match finding.severity {
            Severity::Error => Verdict::Error,
            Severity::Warning => Verdict::Warning,
            Severity::Note => continue,
        };
        findings.add(CHECK, verdict, finding.to_string(), "");
    }
    if findings.0.len() == before {
        findings.ok(CHECK, "every key is known and in range");
    }
}

fn access_of_others(config: &BrokerConfig, findings: &mut Findings) {
    if config.server.is_insecure() {
        findings.add(
            "access",
            Verdict::Warning,
            "everybody who reaches this host may administer the broker",
            "set adminOpen=false, or bindAddress to a loopback address",
        );
    }
}

fn address(config: &BrokerConfig, findings: &mut Findings) {
    const CHECK: &str = "address";
    let announced = config.broker_address();
    let network = Network::of_this_host(config.namesrv_addr.as_deref());
    let host = config.broker_ip1.as_deref().unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let remote = |server: &str| {
        let address = server.parse::<SocketAddr>();
        address.is_ok_and(|address| !address.ip().is_loopback())
    };
    let asked = config.namesrv_addr.as_deref().unwrap_or_default();
    match ip {
        Some(ip) if ip.is_loopback() && name_server_list(asked).any(remote) => findings.add(
            CHECK,
            Verdict::Error,
            format!(
                "{announced} is announced to name servers elsewhere, and nobody there reaches it"
            ),
            format!("set brokerIP1 to one of {network}"),
        ),
        Some(ip) if !ip.is_loopback() && !network.has(ip) => findings.add(
            CHECK,
            Verdict::Warning,
            format!("{announced} is announced, and no interface has it"),
            format!("unless it is translated on the way, set brokerIP1 to one of {network}"),
        ),
        _ => findings.ok(CHECK, format!("clients are told {announced}")),
    }
}

/// Returns whether the broker of this configuration runs.
async fn ports(config: &BrokerConfig, findings: &mut Findings) -> bool {
    const CHECK: &str = "port";
    let is_running = answers(config, config.server.bind_address.0).await;
    for port in config.ports() {
        let (ip, number, name) = (port.ip, port.number, port.name);
        let error = match server::listen(SocketAddr::new(ip, number), 1) {
            Ok(_) => {
                findings.ok(CHECK, format!("{number} ({name}) is free"));
                continue;
            }
            Err(_) if is_running => {
                let text = format!("{number} ({name}) is this broker's, which runs");
                findings.ok(CHECK, text);
                continue;
            }
            Err(error) => error,
        };
        // Without metrics that nobody asked for it serves all the same.
        let verdict = match port.key {
            "metricsPort" if config.metrics_port.is_none() => Verdict::Warning,
            _ => Verdict::Error,
        };
        let text = format!("{number} ({name}) on {ip}: {error}");
        findings.add(CHECK, verdict, text, port_advice(&error, port.key));
    }
    is_running
}

fn port_advice(error: &io::Error, key: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            let network = Network::of_this_host(None);
            format!("no interface has this address: set bindAddress to one of {network}, or to *")
        }
        io::ErrorKind::PermissionDenied => {
            format!("only root takes ports below 1024: change {key}")
        }
        _ => format!("end who listens there (ss -ltnp), or change {key}"),
    }
}

/// Whether a broker that keeps this broker's name answers at its port.
async fn answers(config: &BrokerConfig, ip: IpAddr) -> bool {
    let ip = if ip.is_unspecified() {
        IpAddr::from(std::net::Ipv4Addr::LOCALHOST)
    } else {
        ip
    };
    let address = SocketAddr::new(ip, config.server.listen_port).to_string();
    let Ok(reply) = ask(&address, request::GET_BROKER_CONFIG).await else {
        return false;
    };
    if reply.code == response::NO_PERMISSION {
        // A broker that lets only loopback look, asked from its own other address.
        return true;
    }
    let name = format!("brokerName={}", config.broker_name);
    String::from_utf8_lossy(&reply.body)
        .lines()
        .any(|line| line == name)
}

async fn ask(address: &str, code: i32) -> Result<Reply, String> {
    let options = Options {
        connect_timeout: ASK_TIMEOUT,
        ..Options::default()
    };
    let asked = tokio::time::timeout(ASK_TIMEOUT, async {
        let connection = Connection::connect(address, &options)
            .await
            .map_err(|error| error.to_string())?;
        let reply = connection.call(code, |_| {}, [], ASK_TIMEOUT).await;
        reply.map_err(|error| error.to_string())
    });
    match asked.await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer in {} s", ASK_TIMEOUT.as_secs())),
    }
}

/// A clock that is behind keeps old messages, one that is ahead deletes young ones.
fn clock(config: &BrokerConfig, findings: &mut Findings) {
    const CHECK: &str = "clock";
    let now = SystemTime::now();
    if now < SystemTime::UNIX_EPOCH + NOW_MIN {
        let text = "it says a year before 2026";
        let advice = "set it: systemctl status systemd-timesyncd chrony";
        return findings.add(CHECK, Verdict::Error, text, advice);
    }
    // Written every second while a broker runs.
    let note = Path::new(&config.store.store_path_root_dir).join("gantry.checkpoint");
    let written = std::fs::metadata(&note).and_then(|meta| meta.modified());
    let ahead = written
        .ok()
        .and_then(|written| written.duration_since(now).ok());
    match ahead.filter(|ahead| Duration::from_secs(60) < *ahead) {
        Some(ahead) => findings.add(
            CHECK,
            Verdict::Warning,
            format!(
                "{} was written {} s in the future",
                note.display(),
                ahead.as_secs()
            ),
            "the clock was ahead then or is behind now: messages expire by it",
        ),
        None => findings.ok(CHECK, "not behind what the store says"),
    }
}

fn limits(findings: &mut Findings) {
    const CHECK: &str = "limits";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if FILES_MIN <= hard => {
            findings.ok(CHECK, format!("{hard} open files are allowed"));
        }
        Ok((_, hard)) => findings.add(
            CHECK,
            Verdict::Warning,
            format!("only {hard} open files are allowed"),
            "LimitNOFILE=655350 in the unit, or ulimit -n; the packages' units have it",
        ),
        Err(error) => findings.add(
            CHECK,
            Verdict::Warning,
            format!("cannot be told: {error}"),
            "",
        ),
    }
}

/// Each file of the log is one map once it is read, and the log may fill its disk.
fn maps_of(log_bytes_max: u64, file_bytes: u64) -> u64 {
    MAPS_OF_ITS_OWN + log_bytes_max / file_bytes.max(1)
}

fn kernel(config: &BrokerConfig, findings: &mut Findings) {
    let backlog = u64::from(config.server.server_socket_backlog);
    let usage = existing(Path::new(&config.store.store_path_root_dir))
        .and_then(|folder| OsDisk.usage(&folder).ok());
    let log = usage.map_or(0, |usage| usage.total);
    let maps = maps_of(log, config.store.mapped_file_size_commit_log);
    let wishes: [(&'static str, &str, std::ops::RangeInclusive<u64>, u64); 3] = [
        (
            "vm.max_map_count",
            "vm/max_map_count",
            maps..=u64::MAX,
            maps,
        ),
        ("vm.swappiness", "vm/swappiness", 0..=SWAPPINESS_MAX, 1),
        (
            "net.core.somaxconn",
            "net/core/somaxconn",
            backlog..=u64::MAX,
            backlog,
        ),
    ];
    for (name, file, good, wanted) in wishes {
        // Not every kernel and not every sandbox shows them all.
        let read = std::fs::read_to_string(Path::new("/proc/sys").join(file));
        let Some(value) = read.ok().and_then(|text| text.trim().parse::<u64>().ok()) else {
            continue;
        };
        if good.contains(&value) {
            findings.ok("kernel", format!("{name} is {value}"));
        } else {
            findings.add(
                "kernel",
                Verdict::Warning,
                format!("{name} is {value}"),
                format!("sysctl -w {name}={wanted}, and the same in a file of /etc/sysctl.d"),
            );
        }
    }
}

/// A packages' store before the first start: systemd makes it (`StateDirectory=`) and gives it to the user.
fn is_made_by_unit(root: &Path) -> bool {
    root.parent() == Some(Path::new("/var/lib/gantry")) && !root.exists()
}

/// A store has one broker.
fn store(config: &BrokerConfig, is_running: bool, findings: &mut Findings) {
    const CHECK: &str = "store";
    let root = &config.store.store_path_root_dir;
    match place::user(config) {
        Ok(None) => findings.ok(CHECK, format!("{root} is in use by nobody")),
        Ok(Some(user)) if is_running => {
            findings.ok(
                CHECK,
                format!("{root} is in use by {user}: this broker, which runs"),
            );
        }
        Err(error) => findings.add(
            CHECK,
            Verdict::Warning,
            format!("{root}: who uses it cannot be told: {error}"),
            "run the doctor as the broker's user",
        ),
        Ok(Some(user)) => findings.add(
            CHECK,
            Verdict::Error,
            format!("{root} is in use by {user}, which does not answer as this broker"),
            "a store has one broker: stop that one, or change storePathRootDir",
        ),
    }
}

/// Files of somebody else are refused to the broker. It looks at folders and what is in them, and not below: queues are many.
fn owners(config: &BrokerConfig, findings: &mut Findings) {
    let root = Path::new(&config.store.store_path_root_dir);
    let Ok(meta) = std::fs::metadata(root) else {
        return;
    };
    let (user, me) = (meta.uid(), geteuid());
    // Root looks for the user that has the store. To a third one the folder itself says enough.
    if !me.is_root() && user != me.as_raw() {
        return;
    }
    let mut folders = vec![root.to_owned()];
    folders.extend(["config", "consumequeue", "index"].map(|name| root.join(name)));
    folders.extend(logs(config));
    let inside = folders.iter().flat_map(|folder| {
        let listed = std::fs::read_dir(folder);
        let entries = listed.into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    });
    let all = folders.iter().cloned().chain(inside);
    let is_foreign = |path: &PathBuf| {
        // Of a file system, in its root.
        if path.ends_with("lost+found") {
            return false;
        }
        let owner = std::fs::metadata(path).map(|meta| meta.uid());
        owner.is_ok_and(|owner| owner != user)
    };
    let Some(path) = all.into_iter().find(is_foreign) else {
        return;
    };
    let name = match User::from_uid(Uid::from_raw(user)) {
        Ok(Some(user)) => user.name,
        _ => user.to_string(),
    };
    let whole = if path.starts_with(root) { root } else { &path };
    findings.add(
        "owner",
        Verdict::Error,
        format!("{} does not belong to {name}", path.display()),
        format!("as root: chown -R {name}: {}", whole.display()),
    );
}

/// The folders of the log that are written to.
fn logs(config: &BrokerConfig) -> Vec<PathBuf> {
    let logs = log_paths(config, config.store.store_path_commit_log.as_deref());
    if logs.is_empty() {
        vec![Path::new(&config.store.store_path_root_dir).join("commitlog")]
    } else {
        logs
    }
}

fn disk(config: &BrokerConfig, findings: &mut Findings) {
    const CHECK: &str = "disk";
    let root = Path::new(&config.store.store_path_root_dir);
    let Some(folder) = existing(root) else {
        let text = format!("{} has no folder above it", root.display());
        return findings.add(CHECK, Verdict::Error, text, "set storePathRootDir");
    };
    let shown = folder.display();
    if is_made_by_unit(root) {
        let text = format!("{} is made at the first start of the unit", root.display());
        findings.add(CHECK, Verdict::Ok, text, "");
    } else if let Err(error) = access(&folder, AccessFlags::W_OK | AccessFlags::X_OK) {
        findings.add(
            CHECK,
            Verdict::Error,
            format!("{shown} cannot be written by this user: {error}"),
            format!(
                "run the doctor as the broker's user, which has to own it: chown -R USER: {shown}"
            ),
        );
    }
    match statfs(&folder).map(|found| found.filesystem_type()) {
        Ok(kind) if kind == NFS_SUPER_MAGIC => findings.add(
            CHECK,
            Verdict::Warning,
            format!("{shown} is on NFS"),
            "a store belongs on a local disk: syncs and locks of NFS are not to be relied on",
        ),
        Ok(kind) if kind == TMPFS_MAGIC => findings.add(
            CHECK,
            Verdict::Warning,
            format!("{shown} is in memory"),
            "messages do not survive a restart of the host: set storePathRootDir",
        ),
        Ok(FsType(_)) => {}
        Err(error) => {
            findings.add(CHECK, Verdict::Warning, format!("{shown}: {error}"), "");
        }
    }
    let used = match OsDisk.usage(&folder) {
        Ok(usage) => usage.used_percent(),
        Err(error) => {
            return findings.add(CHECK, Verdict::Warning, format!("{shown}: {error}"), "");
        }
    };
    let (refuse, delete) = (
        config.store.disk_space_warning_level_ratio * 100.0,
        u64::from(config.store.disk_max_used_space_ratio),
    );
    let text = format!("{used} % of the file system of {shown} is used");
    if refuse <= used as f64 {
        let advice = format!("from {refuse:.0} % on messages are refused: make room");
        findings.add(CHECK, Verdict::Error, text, advice);
    } else if delete <= used {
        let advice = format!("from {delete} % on expired files are deleted at any hour: make room");
        findings.add(CHECK, Verdict::Warning, text, advice);
    } else {
        findings.ok(CHECK, text);
    }
}

/// The folder itself, or the nearest one above it that is there.
fn existing(folder: &Path) -> Option<PathBuf> {
    folder
        .ancestors()
        .find(|folder| folder.is_dir())
        .map(Path::to_path_buf)
}

async fn name_servers(config: &BrokerConfig, is_running: bool, findings: &mut Findings) {
    const CHECK: &str = "name server";
    let asked = config.namesrv_addr.as_deref().unwrap_or_default();
    let servers: Vec<&str> = name_server_list(asked).collect();
    if servers.is_empty() {
        let text = "none is configured";
        let advice = "set namesrvAddr: clients find no broker that is registered nowhere";
        return findings.add(CHECK, Verdict::Warning, text, advice);
    }
    let before = findings.0.len();
    let mut reached = 0;
    for server in &servers {
        match ask(server, request::GET_BROKER_CLUSTER_INFO).await {
            Ok(reply) => {
                reached += 1;
                findings.ok(CHECK, format!("{server} answers"));
                route(config, is_running, server, &reply.body, findings);
            }
            Err(error) => findings.add(
                CHECK,
                Verdict::Warning,
                format!("{server}: {error}"),
                "is it up, is the address right, does a firewall stand between?",
            ),
        }
    }
    if reached == 0 {
        // Nobody would find the broker.
        for finding in &mut findings.0[before..] {
            finding.verdict = Verdict::Error;
        }
    }
}

/// What a name server tells clients must be what the broker announces.
fn route(
    config: &BrokerConfig,
    is_running: bool,
    server: &str,
    body: &[u8],
    findings: &mut Findings,
) {
    const CHECK: &str = "route";
    let Ok(info) = ClusterInfo::parse(body) else {
        let text = format!("{server} answers what cannot be read");
        return findings.add(CHECK, Verdict::Warning, text, "is it a name server?");
    };
    let announced = config.broker_address();
    let id = i64::try_from(config.broker_id).unwrap_or(i64::MAX);
    let name = &config.broker_name;
    let known = info
        .broker_addr_table
        .get(name.as_str())
        .and_then(|data| data.broker_addrs.get(&id));
    match known {
        Some(address) if *address == announced => {
            findings.ok(CHECK, format!("{server} has {name} {id} at {announced}"));
        }
        Some(address) => findings.add(
            CHECK,
            Verdict::Error,
            format!("{server} has {name} {id} at {address}, and this broker announces {announced}"),
            "another broker has its name and number: change brokerName or brokerId, or stop it",
        ),
        None if is_running => findings.add(
            CHECK,
            Verdict::Error,
            format!("{server} does not have {name} {id}, which runs"),
            "its log says why",
        ),
        None => findings.ok(CHECK, format!("{server} has no other {name} {id}")),
    }
}

#[cfg(test)]
mod tests {
    use gantry_config::{Host, Settings};

    use super::*;

    #[test]
    fn findings_are_lines_or_objects_and_the_worst_counts() {
        let mut findings = Findings::default();
        assert_eq!(findings.worst(), Verdict::Ok);
        findings.ok("clock", "fine");
        findings.add("disk", Verdict::Warning, "80 % \"used\"", "make room");
        assert_eq!(findings.worst(), Verdict::Warning);
        assert_eq!(
            findings.text(),
            "ok       clock: fine\nwarning  disk: 80 % \"used\"; make room\n"
        );
        let json: serde_json::Value = serde_json::from_str(&findings.json()).unwrap();
        assert_eq!(json[1]["verdict"], "warning");
        assert_eq!(json[1]["text"], "80 % \"used\"");
        assert_eq!(json[0]["advice"], "");
    }

    #[test]
    fn the_kernel_s_own_limit_of_maps_is_enough_for_any_disk_but_not_for_tiny_files() {
        const OF_THE_KERNEL: u64 = 65_530;
        let file_of_a_log = BrokerConfig::defaults(&Host::described());
        let file_of_a_log = file_of_a_log.store.mapped_file_size_commit_log;
        assert!(maps_of(50 << 40, file_of_a_log) < OF_THE_KERNEL);
        assert!(OF_THE_KERNEL < maps_of(1 << 40, 65_536));
    }

    #[test]
    fn the_nearest_folder_above_counts() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        assert_eq!(existing(&deep).as_deref(), Some(folder.path()));
        assert_eq!(existing(Path::new("")), None);
    }

    #[test]
    fn only_a_packages_store_that_is_not_there_yet_is_made_by_its_unit() {
        assert!(is_made_by_unit(Path::new(
            "/var/lib/gantry/no-such-instance"
        )));
        assert!(!is_made_by_unit(Path::new("/var/lib/gantry/a/b")));
        assert!(!is_made_by_unit(Path::new("/srv/no-such-store")));
    }
}
