//! Opening, reloading, restarting, booting.

use anyhow::{Result, ensure};
use gantry_e2e::http;
use gantry_e2e::wait::until;

use crate::stage::{Knocking, Stage, make_topic, page, says, set};

const BROKER: &str = "/etc/gantry/broker.toml";
const NAME_SERVER: &str = "/etc/gantry/namesrv.toml";

/// Closed; then messages for everybody; then administration too, which is shouted.
pub(crate) fn open(stage: &Stage<'_>) -> Result<()> {
    let machine = stage.started("a", 11)?;
    let client = stage.client()?;
    make_topic(&machine, "open")?;
    let from_outside = |port: u16| {
        let address = format!("{}:{port}", machine.address());
        client.within(|| Ok(std::net::TcpStream::connect(&address).is_ok()))
    };
    ensure!(!from_outside(9876)? && !from_outside(10911)?);
    crate::stage::open(&machine)?;
    machine.run("systemctl restart mqnamesrv mqbroker")?;
    let name_server = format!("{}:9876", machine.address());
    let mut load = stage
        .lab
        .java
        .load_on(&client, &name_server, "open", client.home())?;
    load.await_acked(200)?;
    load.await_consumed(200)?;
    let (counted, text) = load.finish()?;
    ensure!(
        (counted.failed, counted.missing) == (0, 0),
        "{counted:?}\n{text}"
    );

    // Administration stays with the machine itself, and metrics do.
    let admin = machine.tried(&format!(
        "mqadmin updateTopic -b {}:10911 -t stranger -r 1 -w 1",
        machine.address()
    ))?;
    ensure!(admin.0 != 0 && !admin.1.contains("success"), "{admin:?}");
    ensure!(
        !from_outside(5557)? && !from_outside(5558)?,
        "metrics are open"
    );
    let status = machine.run("systemctl status --no-pager --full mqbroker mqnamesrv")?;
    ensure!(!status.contains("INSECURE"), "{status}");
    let insecure = |port| -> Result<f64> {
        let (_, said) = page(&machine, port, "/metrics")?;
        http::value(&said, "gantry_insecure_mode")
    };
    ensure!(insecure(5557)? == 0.0 && insecure(5558)? == 0.0);

    for file in [BROKER, NAME_SERVER] {
        set(&machine, file, "adminOpen", "true")?;
    }
    machine.run("systemctl restart mqnamesrv mqbroker")?;
    ensure!(insecure(5557)? == 1.0 && insecure(5558)? == 1.0);
    for unit in ["mqbroker", "mqnamesrv"] {
        says(
            &machine.show(unit, "StatusText")?,
            &["INSECURE: open to everybody"],
        )?;
        let shouted = machine.run(&format!(
            "journalctl --no-pager -q -u {unit} MESSAGE_ID=b3751fc8e6a04d92974e2cd1805fab68"
        ))?;
        says(&shouted, &["INSECURE"])?;
    }
    Ok(())
}

pub(crate) fn reload(stage: &Stage<'_>) -> Result<()> {
    let machine = stage.started("a", 11)?;
    for (unit, file) in [("mqbroker", BROKER), ("mqnamesrv", NAME_SERVER)] {
        let pid = machine.show(unit, "MainPID")?;
        let text = |words: &'static [&'static str]| {
            machine.await_property(unit, "StatusText", |text| {
                words.iter().all(|word| text.contains(word))
            })
        };
        let debug = || {
            machine.run(&format!(
                "journalctl --no-pager -q -o cat -u {unit} -p debug..debug -n 1"
            ))
        };
        // systemd's own words are at that level too.
        machine.run(&format!("journalctl -q --sync; cp {file} /root/before"))?;
        set(&machine, file, "logLevel", "\"DEBUG\"")?;
        set(&machine, file, "ioThreads", "3")?;
        machine.run(&format!("systemctl reload {unit}"))?;
        text(&["Serving", "; a restart is needed for ioThreads"])?;
        let reloaded = machine.run(&format!(
            "journalctl --no-pager -q -u {unit} MESSAGE_ID=64cd82e97f1b4a30851fd3be0a97c5e6"
        ))?;
        says(&reloaded, &["ioThreads"])?;
        says(&machine.journal(unit)?, &["Reloading", "Reloaded"])?;
        stage.step(&format!("{unit} was reloaded"));
        machine.run("mqadmin topicList -n 127.0.0.1:9876 >/dev/null; mqadmin brokerStatus -b 127.0.0.1:10911 >/dev/null")?;
        if unit == "mqnamesrv" {
            machine.run("mqadmin topicRoute -n 127.0.0.1:9876 -t nobody-has-it || true")?;
            until("a line of level debug", || Ok(!debug()?.is_empty()))?;
        }

        // A bad file fails the reload, with one line that says where, and the daemon does not hear of it.
        set(&machine, file, "ioThreads", "\"many\"")?;
        let line = machine.run(&format!("grep -n '^ioThreads' {file} | cut -d: -f1"))?;
        let (code, said) = machine.tried(&format!("systemctl reload {unit} 2>&1"))?;
        ensure!(code != 0 && said.contains("failed"), "{code} {said}");
        machine.run("journalctl -q --sync")?;
        let error = format!("{unit}: error: {file}:{}: ioThreads: ", line.trim());
        let journal = format!("journalctl --no-pager -q -o cat -u {unit} -p err");
        let errors = machine.run(&journal)?;
        let tested = errors.lines().filter(|line| line.contains("ioThreads"));
        let tested: Vec<&str> = tested.collect();
        ensure!(
            matches!(tested[..], [only] if only.starts_with(&error)),
            "{error:?} is not what there is of it in\n{errors}"
        );
        let serves = |words: &str| -> Result<()> {
            let status = machine.show(unit, "StatusText")?;
            ensure!(status.contains(words), "{status}");
            ensure!(machine.show(unit, "ActiveState")? == "active");
            ensure!(pid == machine.show(unit, "MainPID")?);
            machine.run("mqadmin topicList -n 127.0.0.1:9876 >/dev/null; mqadmin brokerStatus -b 127.0.0.1:10911 >/dev/null")?;
            Ok(())
        };
        serves("Serving")?;
        stage.step(&format!("a bad file failed the reload of {unit}"));

        // Who sends the signal by hand is told by status and log.
        machine.run(&format!("systemctl kill -s HUP --kill-who=main {unit}"))?;
        text(&["NOT RELOADED: ", "ioThreads"])?;
        serves("Serving")?;
        let refused = machine.run(&format!(
            "journalctl --no-pager -q -u {unit} MESSAGE_ID=f08b3ac14d7e4f59a26c91e7b5d0438f"
        ))?;
        ensure!(!refused.is_empty());

        machine.run(&format!("cp /root/before {file}; systemctl reload {unit}"))?;
        machine.await_property(unit, "StatusText", |text| {
            text.starts_with("Serving") && !text.contains("restart is needed")
        })?;
        ensure!(
            pid == machine.show(unit, "MainPID")?,
            "a reload is no restart"
        );
    }
    Ok(())
}

/// Three restarts of the broker and one of the name server, seen from another machine by stock clients.
pub(crate) fn restart(stage: &Stage<'_>) -> Result<()> {
    let machine = stage.opened("a", 11)?;
    let client = stage.client()?;
    make_topic(&machine, "load")?;
    let name_server = format!("{}:9876", machine.address());
    let java = &stage.lab.java;
    let mut load = java.load_on(&client, &name_server, "load", client.home())?;
    load.await_acked(300)?;
    load.await_consumed(300)?;
    let addresses = [9876, 10909, 10911, 10912].map(|port| format!("{}:{port}", machine.address()));
    let knocking = Knocking::start(&client, &addresses)?;
    for unit in ["mqbroker", "mqbroker", "mqnamesrv", "mqbroker"] {
        machine.run(&format!("systemctl restart {unit}"))?;
        stage.step(&format!("{unit} was restarted"));
        load.await_acked(300)?;
    }
    load.await_consumed(300)?;
    let knocked = knocking.end()?;
    ensure!(
        knocked.refused.is_empty(),
        "{} of {} connections were refused: {:?}",
        knocked.refused.len(),
        knocked.count,
        knocked.refused.first()
    );
    let (counted, text) = load.finish()?;
    ensure!(
        (counted.failed, counted.missing, counted.lost) == (0, 0, 0),
        "{counted:?}\n{text}"
    );
    let slowest = text.rsplit("slowest_ms=").next().unwrap_or_default();
    stage.figure(
        "4 restarts, seen from another machine",
        &format!(
            "{} sends, 0 failed, the slowest took {} ms; {} connections, 0 refused, the slowest took {} ms",
            counted.acked,
            slowest.split_whitespace().next().unwrap_or_default(),
            knocked.count,
            knocked.slowest.as_millis()
        ),
    );
    Ok(())
}

/// With the machine, name server first; and without a name server, which comes later.
pub(crate) fn boot(stage: &Stage<'_>) -> Result<()> {
    let both = stage.started("both", 11)?;
    both.reboot()?;
    let started = |unit: &str| -> Result<u64> {
        ensure!(
            both.show(unit, "ActiveState")? == "active",
            "{unit} did not start"
        );
        Ok(both.show(unit, "ActiveEnterTimestampMonotonic")?.parse()?)
    };
    ensure!(
        started("mqnamesrv")? <= started("mqbroker")?,
        "the broker came first"
    );
    let status = both.show("mqbroker", "StatusText")?;
    ensure!(!status.contains("NOT REGISTERED"), "{status}");

    let late = stage.installed("late", 12)?;
    set(&late, NAME_SERVER, "bindAddress", "\"*\"")?;
    late.run("systemctl enable --quiet mqnamesrv")?;
    late.turn_off()?;
    let early = stage.installed("early", 13)?;
    set(&early, BROKER, "bindAddress", "\"*\"")?;
    set(&early, BROKER, "namesrvAddr", "\"10.99.0.12:9876\"")?;
    early.run("systemctl enable --quiet mqbroker")?;
    early.reboot()?;
    ensure!(early.show("mqbroker", "ActiveState")? == "active");
    says(
        &early.show("mqbroker", "StatusText")?,
        &["Serving as master", "NOT REGISTERED at any name server"],
    )?;
    let begun = |property: &str| -> Result<u64> { Ok(early.show("mqbroker", property)?.parse()?) };
    let took = begun("ActiveEnterTimestampMonotonic")? - begun("ExecMainStartTimestampMonotonic")?;
    stage.figure(
        "start without a name server",
        &format!("{:.2} s", took as f64 / 1e6),
    );
    let (status, why) = page(&early, 5557, "/ready")?;
    ensure!(
        status == 503 && why.contains("registered at none"),
        "{status}: {why}"
    );

    late.boot()?;
    early.await_property("mqbroker", "StatusText", |text| {
        !text.contains("NOT REGISTERED")
    })?;
    // It asks the broker too, which answers administrators of its own machine only.
    let (_, cluster) = late.tried("mqadmin clusterList -n 127.0.0.1:9876")?;
    says(
        &cluster,
        &["early", "10.99.0.13:10911", "allows from loopback only"],
    )?;
    let (status, why) = page(&early, 5557, "/ready")?;
    ensure!(status == 200, "{why}");
    Ok(())
}
