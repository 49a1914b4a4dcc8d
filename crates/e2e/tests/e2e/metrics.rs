//! Metrics and health as those see them who ask: Prometheus' own checker, a fleet that waits for a broker to serve, a
//! broker with very many groups.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use gantry_e2e::http::{get, value};
use gantry_e2e::ledger::{pull, send};
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::wait::{Turn, until};

const TOPIC: &str = "metrics";

/// What `promtool check metrics` complains of, by name of the family.
fn complaints(page: &str) -> Result<Vec<String>> {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool, of the package prometheus")?;
    let mut input = promtool.stdin.take().context("no stdin")?;
    input.write_all(page.as_bytes())?;
    drop(input);
    let output = promtool.wait_with_output()?;
    // 3: it can be read, and there are complaints.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        [Some(0), Some(3)].contains(&output.status.code()),
        "{}: {said}",
        output.status
    );
    Ok(said.lines().map(str::to_owned).collect())
}

fn names(page: &str) -> Vec<&str> {
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    families
        .filter_map(|family| family.split(' ').next())
        .collect()
}

#[test]
fn prometheus_finds_fault_with_compatibility_names_only() -> Result<()> {
    let room = room("promtool")?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[&name_server], &[])?;
    create_topic(&broker, &[&name_server], TOPIC, 1)?;
    let mut wire = broker.wire()?;
    send(&mut wire, TOPIC, 0, b"one")?;
    wire.read()?.success()?;
    pull(&mut wire, TOPIC, 0, 0)?.success()?;
    let (status, page) = get(broker.metrics_port(), "/metrics")?;
    ensure!(status == 200, "{status}");
    let about_others: Vec<String> = complaints(&page)?
        .into_iter()
        .filter(|line| !line.starts_with("rocketmq_"))
        .collect();
    ensure!(about_others.is_empty(), "{about_others:?}");
    let cluster = value(&page, "gantry_name_servers_registered")?;
    ensure!((cluster - 1.0).abs() < f64::EPSILON, "{cluster}");

    let (status, page) = get(name_server.metrics_port(), "/metrics")?;
    ensure!(status == 200, "{status}");
    let all = complaints(&page)?;
    ensure!(all.is_empty(), "{all:?}");
    for name in [
        "gantry_accept_failures_total",
        "gantry_build_info",
        "gantry_connections",
        "gantry_connections_bad_input_total",
        "gantry_connections_refused_total",
        "gantry_insecure_mode",
        "gantry_namesrv_broker_last_heartbeat_age_seconds",
        "gantry_namesrv_brokers",
        "gantry_namesrv_topics",
        "gantry_requests_total",
        "gantry_uptime_seconds",
        "process_open_fds",
    ] {
        ensure!(names(&page).contains(&name), "{name} in {page}");
    }
    let brokers = value(&page, "gantry_namesrv_brokers{cluster=\"DefaultCluster\"}")?;
    ensure!((brokers - 1.0).abs() < f64::EPSILON, "{brokers}");
    for server in [&broker, &name_server] {
        for path in ["/health", "/ready"] {
            let (status, text) = get(server.metrics_port(), path)?;
            ensure!(status == 200, "{path}: {status} {text}");
        }
        ensure!(get(server.metrics_port(), "/")?.0 == 404);
    }
    Ok(())
}

#[test]
fn a_broker_that_no_name_server_knows_is_not_ready() -> Result<()> {
    let room = room("ready")?;
    let mut name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[&name_server], &[])?;
    let ready = || get(broker.metrics_port(), "/ready");
    ensure!(ready()?.0 == 200, "{:?}", ready()?);
    name_server.kill()?;
    until("the broker to miss its name server", || {
        Ok(ready()? == (503, "registered at none of 1 name servers\n".to_owned()))
    })?;
    ensure!(get(broker.metrics_port(), "/health")?.0 == 200);
    name_server.start()?;
    until(
        "the broker to be registered again",
        || Ok(ready()?.0 == 200),
    )
}

/// 10 000 groups that each stand still in 10 queues and have pulled once: every family of every set of names.
#[test]
fn a_scrape_of_ten_thousand_groups_is_quick_and_small() -> Result<()> {
    const GROUPS: u32 = 10_000;
    const QUEUES: u32 = 10;
    // Nobody else shall be at work while it is measured.
    let _turn = Turn::alone();
    let room = room("groups")?;
    let mut broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[], &[])?;
    create_topic(&broker, &[], TOPIC, QUEUES)?;
    let mut wire = broker.wire()?;
    for queue in 0..QUEUES {
        for _ in 0..2 {
            send(&mut wire, TOPIC, queue, b"body")?;
            wire.read()?.success()?;
        }
    }
    broker.stop()?;
    // Made in files: by requests, each group would be written down by itself.
    let mut offsets = serde_json::Map::new();
    let mut groups = serde_json::Map::new();
    for number in 0..GROUPS {
        let positions: serde_json::Map<_, _> = (0..QUEUES)
            .map(|queue| (queue.to_string(), 1.into()))
            .collect();
        offsets.insert(format!("{TOPIC}@group-{number}"), positions.into());
        let name = format!("group-{number}");
        let config = serde_json::json!({
            "groupName": name, "consumeEnable": true, "consumeFromMinEnable": true,
            "consumeBroadcastEnable": true, "retryQueueNums": 1, "retryMaxTimes": 16, "brokerId": 0,
            "whichBrokerWhenConsumeSlowly": 1, "notifyConsumerIdsChangedEnable": true
        });
        groups.insert(name, config);
    }
    let config = broker.folder().join("store/config");
    let table = serde_json::json!({ "offsetTable": offsets });
    std::fs::write(config.join("consumerOffset.json"), table.to_string())?;
    let version = serde_json::json!({ "counter": 1, "timestamp": 1 });
    let table = serde_json::json!({ "dataVersion": version, "subscriptionGroupTable": groups });
    std::fs::write(config.join("subscriptionGroup.json"), table.to_string())?;
    broker.start()?;
    let mut wire = broker.wire()?;
    for number in 0..GROUPS {
        let group = format!("group-{number}");
        let fields = [
            ("consumerGroup", group.as_str()),
            ("topic", TOPIC),
            ("queueId", "0"),
            ("queueOffset", "1"),
            ("maxMsgNums", "32"),
            ("sysFlag", "4"),
            ("commitOffset", "0"),
            ("suspendTimeoutMillis", "0"),
            ("subscription", "*"),
            ("subVersion", "0"),
        ];
        wire.call(11, &fields, &[])?.success()?;
    }
    let before = broker.resident_kib()?;
    let mut worst = std::time::Duration::ZERO;
    let mut page = String::new();
    for _ in 0..3 {
        let began = Instant::now();
        page = get(broker.metrics_port(), "/metrics")?.1;
        worst = worst.max(began.elapsed());
    }
    let grown = broker.resident_kib()?.saturating_sub(before);
    println!(
        "{} series, {} KiB of text, {worst:?}, {grown} KiB of memory",
        value(&page, "gantry_metrics_series")?,
        page.len() >> 10
    );
    let last = format!("gantry_group_lag_messages{{topic=\"{TOPIC}\",group=\"group-9999\"}}");
    ensure!((value(&page, &last)? - 10.0).abs() < f64::EPSILON);
    ensure!(value(&page, "gantry_metrics_series_dropped_total")?.abs() < f64::EPSILON);
    ensure!(worst.as_secs_f64() < 1.0, "a scrape took {worst:?}");
    ensure!(page.len() < 50_000_000, "{} bytes", page.len());
    ensure!(grown < 50_000, "{grown} KiB more memory");
    Ok(())
}
