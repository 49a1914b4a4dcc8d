//! What is seen of a running host: the journal, and Prometheus with the packaged rules.

use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_e2e::fleet::machine::Machine;
use gantry_e2e::wait::{until, until_within};

use crate::stage::{Stage, make_topic, says};

/// Fields, numbers with explanations, administrators.
pub(crate) fn journal(stage: &Stage<'_>) -> Result<()> {
    let machine = stage.started("a", 11)?;
    make_topic(&machine, "orders")?;
    let query = |args: &str| machine.run(&format!("journalctl --no-pager -q {args}"));
    until("a line about the topic", || {
        Ok(!query("-u mqbroker GANTRY_TOPIC=orders")?.is_empty())
    })?;
    ensure!(query("-u mqbroker GANTRY_TOPIC=others")?.is_empty());
    says(&query("-t mqbroker -n 3")?, &["mqbroker["])?;
    for unit in ["mqbroker", "mqnamesrv"] {
        let serving = query(&format!(
            "-x -u {unit} MESSAGE_ID=5b0f7d0f3c1e4e2b9a6d1f0c7e8a4b31"
        ))?;
        says(
            &serving,
            &[
                &format!("{unit} serves"),
                "It listens, its store is recovered",
            ],
        )?;
    }
    let audit = query("-o export TARGET=gantry::audit")?;
    says(
        &audit,
        &[
            "GANTRY_WHAT=UPDATE_AND_CREATE_TOPIC",
            "GANTRY_FROM=127.0.0.1:",
            "GANTRY_RESULT=SUCCESS",
        ],
    )?;
    // Lines come once, by the journal's own protocol, and nothing is printed beside it.
    let twice = query("-u mqbroker _TRANSPORT=stdout -o cat")?;
    ensure!(twice.is_empty(), "printed:\n{twice}");
    machine.run("systemctl stop mqbroker")?;
    let stopped = query("-u mqbroker MESSAGE_ID=e41a8c7590d24b6f8f3b2d6c5a19e7f4")?;
    ensure!(!stopped.is_empty(), "no event for an orderly stop");
    Ok(())
}

/// Prometheus on the machine's network, where the metrics are.
struct Prometheus<'a> {
    child: Child,
    machine: &'a Machine,
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus<'_> {
    fn ask(&self, query: &str) -> Result<String> {
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/v1/query?query={query}");
        let (status, said) = crate::stage::page(self.machine, 9090, &path)?;
        ensure!(status == 200, "{said}");
        Ok(said)
    }
}

/// The shipped example as it is, but for looking more often.
pub(crate) fn watch(stage: &Stage<'_>) -> Result<()> {
    let machine = stage.started("a", 11)?;
    for file in ["prometheus.yml", "gantry.rules.yml"] {
        let text = machine.run(&format!("cat /usr/share/gantry-monitoring/{file}"))?;
        std::fs::write(
            stage.room.join(file),
            text.replace("_interval: 15s", "_interval: 1s"),
        )?;
    }
    // Each alert's page comes with the rules.
    machine.run(
        "cd /usr/share/gantry-monitoring && test $(sed -n 's/.*runbook_url: //p' gantry.rules.yml | xargs ls | wc -l) -ge 20",
    )?;
    let mut command = machine.network().command("prometheus".as_ref());
    command
        .arg(format!(
            "--config.file={}",
            stage.room.join("prometheus.yml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            stage.room.join("tsdb").display()
        ))
        .arg("--web.listen-address=127.0.0.1:9090")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let prometheus = Prometheus {
        child: command.spawn().context("prometheus")?,
        machine: &machine,
    };
    until("Prometheus to answer", || {
        machine
            .network()
            .within(|| Ok(TcpStream::connect("127.0.0.1:9090").is_ok()))
    })?;
    until("both to be scraped", || {
        // It answers before it is ready to.
        let Ok(up) = prometheus.ask("up == 1") else {
            return Ok(false);
        };
        Ok(up.contains("gantry-broker") && up.contains("gantry-namesrv"))
    })?;
    let own = prometheus.ask("gantry_name_servers_registered")?;
    says(&own, &["gantry-broker"])?;
    stage.step("both are scraped");
    machine.run("systemctl stop mqbroker mqnamesrv")?;
    let began = std::time::Instant::now();
    for alert in ["GantryBrokerDown", "GantryNameServerDown"] {
        until_within(
            Duration::from_secs(100),
            &format!("{alert} to fire"),
            || {
                let query = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}");
                Ok(prometheus.ask(&query)?.contains(alert))
            },
        )?;
    }
    stage.figure(
        "from the stop of a broker to its alert (for: 1m)",
        &format!("{:.0} s", began.elapsed().as_secs_f32()),
    );
    machine.run("systemctl start mqnamesrv mqbroker")?;
    until("the alerts to end", || {
        Ok(!prometheus
            .ask("ALERTS{alertstate=\"firing\"}")?
            .contains("Down"))
    })
}
