//! What is shipped for Prometheus and Grafana: rules with their cases, a page for each alert, and dashboards of which no
//! query comes back empty from a Prometheus that looks at a broker with load.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use gantry_e2e::frame::Wire;
use gantry_e2e::http::get;
use gantry_e2e::ledger::{pull, send};
use gantry_e2e::ports::Port;
use gantry_e2e::programs::{room, root, run};
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::wait::until;
use serde_json::Value;

const TOPIC: &str = "watched";

fn shipped() -> PathBuf {
    root().join("monitoring")
}

/// The values behind `key` of a YAML file that has each on a line of its own.
fn values(path: &Path, key: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches("- ");
        let value = line.strip_prefix(key)?.strip_prefix(": ")?;
        Some(match value.strip_prefix('\'') {
            Some(quoted) => quoted.trim_end_matches('\'').replace("''", "'"),
            None => value.to_owned(),
        })
    });
    Ok(lines.collect())
}

#[test]
fn each_alert_has_cases_and_a_page_that_says_what_to_do() -> Result<()> {
    let folder = shipped();
    for (check, file) in [
        ("check", "gantry.rules.yml"),
        ("test", "gantry.rules.test.yml"),
    ] {
        let mut promtool = Command::new("promtool");
        promtool.args([check, "rules", file]).current_dir(&folder);
        run("promtool", &mut promtool)?;
    }
    let alerts = values(&folder.join("gantry.rules.yml"), "alert")?;
    let cases = std::fs::read_to_string(folder.join("gantry.rules.test.yml"))?;
    let mut pages = BTreeSet::new();
    for page in std::fs::read_dir(root().join("docs/runbooks"))? {
        pages.insert(page?.file_name().to_string_lossy().into_owned());
    }
    for alert in &alerts {
        for case in ["fires", "is quiet"] {
            let name = format!("- name: {alert} {case}\n");
            ensure!(cases.contains(&name), "no case in which {alert} {case}");
        }
        ensure!(pages.remove(&format!("{alert}.md")), "no page for {alert}");
    }
    ensure!(pages.is_empty(), "pages without an alert: {pages:?}");
    let urls = values(&folder.join("gantry.rules.yml"), "runbook_url")?;
    let place = |alert: &String| format!("/{RUNBOOKS}/{alert}.md");
    let expected: Vec<String> = alerts.iter().map(place).collect();
    ensure!(urls == expected, "{urls:?}");
    // The package that brings the rules brings the pages: where Prometheus runs there need be no broker.
    let manifest = std::fs::read_to_string(root().join("packaging/MANIFEST"))?;
    let mut lines = manifest
        .lines()
        .map(|line| line.split_whitespace().collect());
    let has_pages = lines.any(|line: Vec<&str>| line == ["docs/runbooks/", RUNBOOKS, "644"]);
    ensure!(has_pages, "no package has the pages in {RUNBOOKS}");
    Ok(())
}

/// Where the package of the rules has the pages.
const RUNBOOKS: &str = "usr/share/gantry-monitoring/runbooks";

/// One of everything that a broker counts.
fn use_everything(wire: &mut Wire) -> Result<()> {
    let beat = serde_json::json!({
        "clientID": "client",
        "producerDataSet": [{ "groupName": "PG" }],
        "consumerDataSet": [{
            "groupName": "G", "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
            "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "unitMode": false,
            "subscriptionDataSet": [{
                "topic": TOPIC, "subString": "*", "tagsSet": [], "codeSet": [], "subVersion": 1,
                "classFilterMode": false, "expressionType": "TAG"
            }]
        }]
    });
    wire.call(34, &[], beat.to_string().as_bytes())?.success()?;
    let group = serde_json::json!({
        "groupName": "made", "consumeEnable": true, "consumeFromMinEnable": true,
        "consumeBroadcastEnable": true, "retryQueueNums": 1, "retryMaxTimes": 16, "brokerId": 0,
        "whichBrokerWhenConsumeSlowly": 1, "notifyConsumerIdsChangedEnable": true
    });
    wire.call(200, &[], group.to_string().as_bytes())?
        .success()?;
    send(wire, TOPIC, 0, b"first")?;
    let first = wire.read()?.success()?;
    let id = first.field("msgId")?;
    let place = i64::from_str_radix(&id[16..], 16)?.to_string();
    for level in ["-1", "0"] {
        let fields = [
            ("offset", place.as_str()),
            ("group", "G"),
            ("delayLevel", level),
            ("originTopic", TOPIC),
        ];
        wire.call(36, &fields, &[])?.success()?;
    }
    let fields = [
        ("consumerGroup", "G"),
        ("topic", TOPIC),
        ("queueId", "0"),
        ("commitOffset", "0"),
    ];
    wire.call(15, &fields, &[])?.success()?;
    let fields = [
        ("consumerGroup", "G"),
        ("topic", TOPIC),
        ("queueId", "0"),
        ("queueOffset", "0"),
        ("maxMsgNums", "1"),
        ("sysFlag", "4"),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", "0"),
        ("subscription", "*"),
        ("subVersion", "1"),
    ];
    wire.call(11, &fields, &[])?.success()?;
    Ok(())
}

/// A Prometheus of the test's own.
struct Prometheus {
    child: Child,
    port: Port,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// With the shipped configuration, for these servers and a pace that a test can wait for.
    fn start(folder: &Path, broker: &Server, name_server: &Server) -> Result<Prometheus> {
        let text = std::fs::read_to_string(shipped().join("prometheus.yml"))?;
        let text = text
            .replace(": 15s", ": 1s")
            .replace(
                "127.0.0.1:5557",
                &format!("127.0.0.1:{}", broker.metrics_port()),
            )
            .replace(
                "127.0.0.1:5558",
                &format!("127.0.0.1:{}", name_server.metrics_port()),
            );
        std::fs::write(folder.join("prometheus.yml"), text)?;
        std::fs::copy(
            shipped().join("gantry.rules.yml"),
            folder.join("gantry.rules.yml"),
        )?;
        let port = Port::claim()?;
        let log = std::fs::File::create(folder.join("prometheus.log"))?;
        let child = Command::new("prometheus")
            .arg(format!(
                "--config.file={}",
                folder.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("prometheus, of the package of that name")?;
        Ok(Prometheus { child, port })
    }

    fn ask(&self, path: &str) -> Result<Value> {
        let (status, body) = get(self.port.number(), path)?;
        ensure!(status == 200, "{path}: {status} {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// How many series a query has now.
    fn series(&self, query: &str) -> Result<usize> {
        let answer = self.ask(&format!("/api/v1/query?query={}", escape(query)))?;
        let result = answer["data"]["result"].as_array();
        Ok(result.context("no result")?.len())
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            escaped += &format!("%{byte:02X}");
        }
    }
    escaped
}

/// Every query of the dashboards, and what the rules record.
fn queries() -> Result<Vec<(String, String)>> {
    let mut queries = Vec::new();
    let mut boards = 0;
    for file in std::fs::read_dir(shipped().join("dashboards"))? {
        let path = file?.path();
        let board: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        boards += 1;
        for panel in board["panels"].as_array().context("no panels")? {
            let title = format!("{}: {}", board["title"], panel["title"]);
            for target in panel["targets"].as_array().context("no targets")? {
                let query = target["expr"].as_str().context("no query")?;
                let query = query
                    .replace("$__rate_interval", "15s")
                    .replace("$instance", ".*");
                queries.push((title.clone(), query));
            }
        }
    }
    ensure!(boards == 3, "{boards} dashboards");
    let rules = shipped().join("gantry.rules.yml");
    queries.extend(
        values(&rules, "record")?
            .into_iter()
            .map(|name| ("recorded".to_owned(), name)),
    );
    Ok(queries)
}

#[test]
fn no_query_of_a_dashboard_comes_back_empty_and_a_stopped_broker_is_noticed() -> Result<()> {
    let room = room("prometheus")?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let mut broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[&name_server], &[])?;
    create_topic(&broker, &[&name_server], TOPIC, 1)?;
    let mut wire = broker.wire()?;
    use_everything(&mut wire)?;
    let prometheus = Prometheus::start(room.path(), &broker, &name_server)?;
    until("Prometheus to serve", || {
        Ok(get(prometheus.port.number(), "/-/ready").is_ok_and(|(status, _)| status == 200))
    })?;
    for (title, query) in queries()? {
        until(&format!("an answer to {query} ({title})"), || {
            send(&mut wire, TOPIC, 0, b"load")?;
            wire.read()?.success()?;
            pull(&mut wire, TOPIC, 0, 0)?.success()?;
            Ok(0 < prometheus.series(&query)?)
        })?;
    }
    let rules = shipped().join("gantry.rules.yml");
    for query in values(&rules, "expr")? {
        prometheus.series(&query).with_context(|| query.clone())?;
    }
    broker.kill()?;
    until("the alert", || {
        let answer = prometheus.ask("/api/v1/alerts")?;
        let alerts = answer["data"]["alerts"].as_array().context("no alerts")?;
        let is_down = |alert: &Value| alert["labels"]["alertname"] == "GantryBrokerDown";
        Ok(alerts.iter().any(is_down))
    })
}
