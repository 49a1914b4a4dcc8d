//! What goes wrong, and what is left of it: one clear line, a restart, and every acknowledged message.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_e2e::fleet::machine::Machine;
use gantry_e2e::frame::Wire;
use gantry_e2e::ledger::{Plan, Senders};
use gantry_e2e::wait::until_within;

use crate::stage::{Knocking, Stage, fill, make_topic, page, says, set, verify};

const TOPIC: &str = "kept";

/// Killed daemons come again by themselves, behind sockets that were open all the time; so does a machine without power.
pub(crate) fn kill(stage: &Stage<'_>) -> Result<()> {
    let machine = stage.started("a", 11)?;
    make_topic(&machine, TOPIC)?;
    let mut entries = fill(&machine, TOPIC, 0)?;
    let addresses = ["127.0.0.1:10911".to_owned(), "127.0.0.1:9876".to_owned()];
    let knocking = Knocking::start(machine.network(), &addresses)?;
    for unit in ["mqbroker", "mqnamesrv"] {
        machine.run(&format!("systemctl kill --signal=KILL {unit}"))?;
        machine.await_property(unit, "NRestarts", |count| count == "1")?;
        machine.await_property(unit, "ActiveState", |state| state == "active")?;
        stage.step(&format!("{unit} was killed and runs again"));
    }
    let knocked = knocking.end()?;
    ensure!(knocked.refused.is_empty(), "{:?}", knocked.refused.first());
    verify(&machine, TOPIC, &entries)?;
    entries.extend(fill(&machine, TOPIC, 1)?);

    machine.cut_power()?;
    machine.boot()?;
    stage.step("power was cut and is back");
    for unit in ["mqbroker", "mqnamesrv"] {
        ensure!(
            machine.show(unit, "ActiveState")? == "active",
            "{unit} did not start"
        );
    }
    verify(&machine, TOPIC, &entries)?;

    // A stop ends a recovery, and that is no failure. As a pipe this file holds recovery up until somebody comes to write.
    let pipe = "/var/lib/gantry/broker/checkpoint";
    machine.run("systemctl restart mqbroker; systemctl kill --signal=KILL mqbroker; systemctl stop mqbroker")?;
    machine.run(&format!(
        "cd /root && mv {pipe} checkpoint && mkfifo -m 600 {pipe} && chown gantry: {pipe}; systemctl reset-failed; systemctl start --no-block mqbroker"
    ))?;
    let status = |words: &'static str| {
        machine.await_property("mqbroker", "StatusText", |text| text.starts_with(words))
    };
    status("Recovering")?;
    machine.run("systemctl stop --no-block mqbroker")?;
    status("Stopping")?;
    machine.run(&format!("timeout 60 sh -c ': > {pipe}'"))?;
    machine.await_property("mqbroker", "ActiveState", |state| state == "inactive")?;
    for (property, value) in [
        ("Result", "success"),
        ("ExecMainStatus", "0"),
        ("NRestarts", "0"),
    ] {
        let shown = machine.show("mqbroker", property)?;
        ensure!(shown == value, "{property}={shown}");
    }
    let said = machine.journal("mqbroker")?;
    says(&said, &["stopped while the store was recovered"])?;
    stage.step("a recovery was ended by a stop");
    machine.run(&format!("mv /root/checkpoint {pipe} && test -e /var/lib/gantry/broker/abort && systemctl start mqbroker"))?;
    verify(&machine, TOPIC, &entries)
}

/// The journal lives and reads nothing: whoever logs goes on, and the lines are there once it reads again.
pub(crate) fn journal(stage: &Stage<'_>) -> Result<()> {
    // More than its socket holds, and fewer than may wait for it.
    const LINES: usize = 2_000;
    let machine = stage.started("a", 11)?;
    make_topic(&machine, TOPIC)?;
    let signal = |name: &str| {
        machine.run(&format!(
            "kill -{name} $(systemctl show -P MainPID systemd-journald)"
        ))
    };
    signal("STOP")?;
    machine.network().within(|| {
        let mut wire = Wire::connect("127.0.0.1:10911")?;
        // Each has a line, since an administrator asks for it.
        for _ in 0..LINES {
            wire.call(215, &[("topic", "nobody")], &[])?.success()?;
        }
        Ok(())
    })?;
    let entries = fill(&machine, TOPIC, 0)?;
    let (status, said) = page(&machine, 5557, "/health")?;
    ensure!(status == 200, "{said}");
    signal("CONT")?;
    until_within(Duration::from_secs(30), "every line", || {
        let count = "journalctl --no-pager -q -u mqbroker GANTRY_TOPIC=nobody | wc -l";
        Ok(machine.tried(count)?.1.trim() == LINES.to_string())
    })?;
    verify(&machine, TOPIC, &entries)
}

/// The store's disk takes no write any more: no sign of life, then the watchdog, as shipped.
pub(crate) fn watchdog(stage: &Stage<'_>) -> Result<()> {
    let machine = stage.installed_with_disk("a", 11)?;
    machine.run("systemctl enable --quiet --now mqnamesrv mqbroker")?;
    make_topic(&machine, TOPIC)?;
    let entries = fill(&machine, TOPIC, 0)?;
    let senders = machine.network().within(|| {
        Ok(Senders::start(&Plan {
            address: "127.0.0.1:10911".to_owned(),
            topic: TOPIC.to_owned(),
            queues: 2,
            senders: 2,
            round: 1,
            each: None,
        }))
    })?;
    senders.await_acked(100)?;
    let frozen = machine.freeze_store()?;
    stage.step("the disk is frozen");
    let said = |what: &str, words: &'static str| {
        until_within(Duration::from_secs(120), what, || {
            Ok(machine.journal("mqbroker")?.contains(words))
        })
    };
    said("systemd to lose patience", "Watchdog timeout")?;
    stage.step("the watchdog struck");
    let told = machine.run(
        "journalctl --no-pager -q -o cat -u mqbroker MESSAGE_ID=8d14f6a2bc9e4730bd85c07f2e61a9d3",
    )?;
    ensure!(!told.is_empty(), "the broker did not say that it is stuck");
    drop(frozen);
    machine.await_property("mqbroker", "NRestarts", |count| count != "0")?;
    machine.await_property("mqbroker", "ActiveState", |state| state == "active")?;
    stage.step("it runs again");
    verify(&machine, TOPIC, &entries)?;
    verify(&machine, TOPIC, &senders.finish()?)
}

struct Attempt<'a> {
    stage: &'a Stage<'a>,
    machine: Arc<Machine>,
}

impl Attempt<'_> {
    /// Starts the broker, which must fail: its status is one line with these words, in `systemctl status` too, and the
    /// journal has one error that says the same.
    fn fails(&self, what: &str, exit: &str, words: &[&str]) -> Result<()> {
        let machine = &self.machine;
        let (status, said) = machine.tried("systemctl start mqbroker")?;
        ensure!(status != 0, "{what}: it starts\n{said}");
        let text = machine.show("mqbroker", "StatusText")?;
        says(&text, words)?;
        let shown = machine
            .tried("systemctl status --no-pager --full --lines=0 mqbroker")?
            .1;
        says(&shown, &["Status: \"", &text])?;
        let found = machine.show("mqbroker", "ExecMainStatus")?;
        ensure!(found == exit, "{what}: exit status {found}\n{shown}");
        let pid = machine.show("mqbroker", "ExecMainPID")?;
        let errors = machine.run(&format!(
            "journalctl --sync; journalctl --no-pager -q -o cat -p err _PID={pid}"
        ))?;
        let lines: Vec<&str> = errors.lines().collect();
        ensure!(
            lines.len() == 1 && lines[0].contains(words[0]),
            "{what}: not one clear line in the journal:\n{errors}"
        );
        self.stage.step(&format!("{what}: {text}"));
        if exit == "78" {
            let again = machine.show("mqbroker", "NRestarts")?;
            let state = machine.show("mqbroker", "ActiveState")?;
            ensure!(
                (again.as_str(), state.as_str()) == ("0", "failed"),
                "{again} {state}"
            );
        }
        Ok(())
    }

    /// The reason is gone: it serves, by itself or by an order.
    fn recovers(&self, order: &str) -> Result<()> {
        self.machine.run(order)?;
        self.machine
            .await_property("mqbroker", "ActiveState", |state| state == "active")?;
        self.machine
            .run("systemctl stop mqbroker; systemctl reset-failed mqbroker 2>/dev/null || true")?;
        Ok(())
    }
}

/// One reason after the other, each taken away again.
pub(crate) fn starts(stage: &Stage<'_>) -> Result<()> {
    const FILE: &str = "/etc/gantry/broker.toml";
    const STORE: &str = "/var/lib/gantry/broker";
    let machine = stage.started("a", 11)?;
    make_topic(&machine, TOPIC)?;
    let entries = fill(&machine, TOPIC, 0)?;
    machine.run("systemctl stop mqbroker")?;
    let attempt = Attempt {
        stage,
        machine: Arc::clone(&machine),
    };

    machine.run(
        "systemd-run --quiet --unit=squatter systemd-socket-activate -l 127.0.0.1:10911 cat",
    )?;
    until_within(Duration::from_secs(10), "the port to be taken", || {
        Ok(machine.run("ss -Hltn 'sport = :10911'")?.contains(":10911"))
    })?;
    attempt.fails(
        "port taken",
        "1",
        &[
            "cannot listen on 127.0.0.1 port 10911",
            "Address already in use",
        ],
    )?;
    // It goes on trying, so no order is needed.
    attempt.recovers("systemctl stop squatter")?;

    machine.run(&format!("mv {FILE} /root/away"))?;
    attempt.fails(
        "no configuration",
        "78",
        &["no configuration file: neither /etc/gantry/broker.toml nor"],
    )?;
    attempt.recovers(&format!("mv /root/away {FILE} && systemctl start mqbroker"))?;

    machine.run(&format!("cp {FILE} /root/away"))?;
    set(&machine, FILE, "fileReservedTime", "\"long\"")?;
    attempt.fails("bad value", "78", &["fileReservedTime", FILE])?;
    attempt.recovers(&format!("mv /root/away {FILE} && systemctl start mqbroker"))?;

    // Each start would begin an empty store.
    machine.run(&format!("cp {FILE} /root/away"))?;
    set(&machine, FILE, "storePathRootDir", "\"/var/tmp/store\"")?;
    attempt.fails("own tmp", "78", &["storePathRootDir", "PrivateTmp="])?;
    attempt.recovers(&format!("mv /root/away {FILE} && systemctl start mqbroker"))?;

    machine.run(&format!(
        "mount --bind {STORE} {STORE} && mount -o remount,bind,ro {STORE}"
    ))?;
    let mend = format!("`ReadWritePaths={STORE}`");
    attempt.fails(
        "read-only folder",
        "78",
        &[STORE, "Read-only file system", &mend],
    )?;
    attempt.recovers(&format!(
        "systemctl stop mqbroker; umount {STORE} && systemctl start mqbroker"
    ))?;

    // As somebody leaves them who looked into a store as root, or who brought it back from a backup.
    machine.run(&format!(
        "chown root:root {STORE}/commitlog/* && chmod 600 {STORE}/commitlog/*"
    ))?;
    attempt.fails(
        "another owner",
        "78",
        &["belongs to root; as root: `chown -R gantry: /var/lib/gantry/broker`"],
    )?;
    let text = machine.show("mqbroker", "StatusText")?;
    let command = text.split('`').nth(1).unwrap_or_default();
    attempt.recovers(&format!(
        "systemctl stop mqbroker; {command} && systemctl start mqbroker"
    ))?;

    machine.run("systemctl start mqbroker")?;
    verify(&machine, TOPIC, &entries)
}
