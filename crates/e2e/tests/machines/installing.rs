//! From the first installation to the last purge, by apt and by dnf.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use gantry_e2e::fleet::Family;
use gantry_e2e::fleet::machine::Machine;
use gantry_e2e::wait::until;

use crate::stage::{PACKAGES, Stage, fill, make_topic, page, says, set, verify};

const TOPIC: &str = "kept";

/// Every port of both daemons as shipped.
const PORTS: [u16; 6] = [9876, 10909, 10911, 10912, 5557, 5558];

/// The kernel's figure for a unit's process, in MiB.
fn resident(machine: &Machine, unit: &str) -> Result<f64> {
    let pid = machine.show(unit, "MainPID")?;
    let said = machine.run(&format!("grep VmRSS: /proc/{pid}/status"))?;
    let kib: f64 = said
        .split_whitespace()
        .nth(1)
        .with_context(|| said.clone())?
        .parse()?;
    Ok(kib / 1024.0)
}

/// From nothing to serving this machine, and nobody else.
pub(crate) fn install(stage: &Stage<'_>) -> Result<()> {
    let machine = stage.fresh("a", 11)?;
    let other = stage.client()?;
    stage.publish(1)?;
    stage.know_repositories(&machine)?;
    another_key_is_not_believed(stage, &machine)?;
    let began = Instant::now();
    stage.packages(&machine, &format!("install {PACKAGES}"))?;
    let installed = began.elapsed();

    let enabled = machine
        .tried("systemctl is-enabled gantry.target mqnamesrv mqbroker; systemctl is-active mqnamesrv mqbroker")?
        .1;
    ensure!(
        enabled == "enabled\ndisabled\ndisabled\ninactive\ninactive\n",
        "an installation starts nothing and enables only the target:\n{enabled}"
    );
    let start = Instant::now();
    machine.run("systemctl enable --quiet --now mqnamesrv mqbroker")?;
    let (status, said) = page(&machine, 5557, "/ready")?;
    ensure!(status == 200, "{said}");
    let (started, all) = (start.elapsed(), began.elapsed());
    stage.figure(
        "installing, starting, from nothing to serving",
        &format!(
            "{:.1} s, {:.2} s, {:.1} s",
            installed.as_secs_f32(),
            started.as_secs_f32(),
            all.as_secs_f32()
        ),
    );

    let listening = machine.run("ss -Hltn '! sport = :22' | awk '{print $4}'")?;
    for port in PORTS {
        says(&listening, &[&format!(":{port}\n")])?;
        let address = format!("{}:{port}", machine.address());
        let reached = other.within(|| Ok(std::net::TcpStream::connect(&address).is_ok()))?;
        ensure!(!reached, "{address} is open to another machine");
    }
    for socket in listening.lines() {
        ensure!(
            socket.starts_with("127.") || socket.starts_with("[::1]"),
            "{socket} is not on the loopback address:\n{listening}"
        );
    }

    make_topic(&machine, TOPIC)?;
    let entries = fill(&machine, TOPIC, 0)?;
    verify(&machine, TOPIC, &entries)?;

    // It is said every 10 s.
    machine.await_property("mqnamesrv", "StatusText", |text| {
        text.contains("1 broker names")
    })?;
    let text = machine.run("systemctl status --no-pager --full mqbroker mqnamesrv")?;
    says(
        &text,
        &[
            "Status: \"Serving as master; ",
            "Status: \"Serving; 1 broker names, ",
        ],
    )?;
    for word in ["INSECURE", "NOT REGISTERED", "DEGRADED"] {
        ensure!(!text.contains(word), "{text}");
    }
    let owners = machine.run("stat -c '%U %a' /var/lib/gantry/broker /var/lib/gantry/namesrv; ps -o user= -C mqbroker -C mqnamesrv")?;
    ensure!(
        owners == "gantry 750\ngantry 750\ngantry\ngantry\n",
        "{owners}"
    );
    let complaints =
        machine.run("journalctl --no-pager -q -o cat -p warning -u mqbroker -u mqnamesrv")?;
    // The disk is the host's, and may be full to where that is worth a warning.
    let complaints: Vec<&str> = complaints
        .lines()
        .filter(|line| !line.starts_with("the disk of "))
        .collect();
    ensure!(
        complaints.is_empty(),
        "a start as shipped complains:\n{complaints:#?}"
    );
    let (code, doctor) =
        machine.tried("runuser -u gantry -- mqbroker doctor -c /etc/gantry/broker")?;
    ensure!(code == 0, "the doctor ends with {code}:\n{doctor}");
    for unit in ["mqnamesrv", "mqbroker"] {
        let said = machine.run(&format!(
            "systemd-analyze security --no-pager --threshold=15 {unit}.service | tail -1"
        ))?;
        let score = said.split(": ").last().unwrap_or_default();
        stage.figure(&format!("{unit}, exposure"), score.trim());
    }
    for file in ["man8/mqbroker.8", "man8/mqnamesrv.8", "man1/mqadmin.1"] {
        machine.run(&format!("test -s /usr/share/man/{file}.gz"))?;
    }
    // Idle is how it comes: another start, with nothing to recover.
    machine.run("systemctl restart mqbroker mqnamesrv")?;
    for (unit, limit) in [("mqbroker", 25.0), ("mqnamesrv", 25.0)] {
        let mib = resident(&machine, unit)?;
        stage.figure(
            &format!("{unit}, memory when idle"),
            &format!("{mib:.1} MiB"),
        );
        ensure!(mib < limit, "{unit} holds {mib:.1} MiB when idle");
    }
    verify(&machine, TOPIC, &entries)
}

/// With Debian's key for ours nothing is installed.
fn another_key_is_not_believed(stage: &Stage<'_>, machine: &Machine) -> Result<()> {
    const OTHER: &str = "/etc/apt/trusted.gpg.d/debian-archive-bookworm-stable.asc";
    let (file, change) = match stage.family {
        Family::Debian => (
            "/etc/apt/sources.list.d/gantry.sources",
            format!("s|^Signed-By: .*|Signed-By: {OTHER}|"),
        ),
        Family::Enterprise => (
            "/etc/yum.repos.d/gantry.repo",
            format!("s|^gpgkey=.*|gpgkey=file://{OTHER}|"),
        ),
    };
    machine.run(&format!("test -s {OTHER} && sed -i '{change}' {file}"))?;
    let said = stage.packages(machine, "install mqadmin");
    ensure!(said.is_err(), "a repository of another key is believed");
    machine.run("test ! -e /usr/bin/mqadmin")?;
    stage.step("another key was not believed");
    stage.know_repositories(machine)
}

/// What the package manager puts beside an edited file.
fn shipped_beside(stage: &Stage<'_>, file: &str) -> String {
    match stage.family {
        Family::Debian => format!("{file}.dpkg-dist"),
        Family::Enterprise => format!("{file}.rpmnew"),
    }
}

const NOTE: &str = "# From the second release on.";

/// To the second release and back while a stock producer and consumer are at work.
pub(crate) fn upgrade(stage: &Stage<'_>) -> Result<()> {
    let broker_file = "/etc/gantry/broker.toml";
    let machine = stage.installed("a", 11)?;
    set(&machine, broker_file, "fileReservedTime", "48")?;
    machine.run("systemctl enable --quiet --now mqnamesrv mqbroker")?;
    make_topic(&machine, TOPIC)?;
    make_topic(&machine, "load")?;
    let mut entries = fill(&machine, TOPIC, 0)?;
    // On the machine itself: its files are as shipped but for the one line.
    let home = machine.network().home().to_owned();
    let java = &stage.lab.java;
    let mut load = java.load_on(machine.network(), "127.0.0.1:9876", "load", &home)?;
    load.await_acked(200)?;
    load.await_consumed(200)?;

    let is_revision = |wanted: &str| -> Result<()> {
        for package in ["gantry-common", "mqnamesrv", "mqbroker", "mqadmin"] {
            let found = stage.revision(&machine, package)?;
            ensure!(found == wanted, "{package} has revision {found}");
        }
        Ok(())
    };
    let first = machine.show("mqbroker", "MainPID")?;
    stage.publish(2)?;
    let order = match stage.family {
        Family::Debian => "upgrade",
        Family::Enterprise => "upgrade 'mq*' 'gantry*'",
    };
    stage.packages(&machine, order)?;
    is_revision("2")?;
    let second = machine.show("mqbroker", "MainPID")?;
    ensure!(first != second, "an upgrade restarts the broker");
    machine.await_property("mqbroker", "ActiveState", |state| state == "active")?;
    load.await_acked(200)?;
    verify(&machine, TOPIC, &entries)?;
    entries.extend(fill(&machine, TOPIC, 1)?);

    let edited = machine.run(&format!("cat {broker_file}"))?;
    ensure!(
        edited.contains("fileReservedTime = 48") && !edited.contains(NOTE),
        "an edited file was rewritten:\n{edited}"
    );
    let beside = machine.run(&format!("cat {}", shipped_beside(stage, broker_file)))?;
    says(&beside, &[NOTE])?;
    says(&machine.run("cat /etc/gantry/namesrv.toml")?, &[NOTE])?;

    let names = [
        "gantry-common",
        "gantry-monitoring",
        "mqnamesrv",
        "mqbroker",
        "mqadmin",
    ];
    let names = names.map(|package| stage.at_revision(package, 1)).join(" ");
    let order = match stage.family {
        Family::Debian => format!("install --allow-downgrades {names}"),
        Family::Enterprise => format!("downgrade {names}"),
    };
    stage.packages(&machine, &order)?;
    is_revision("1")?;
    machine.await_property("mqbroker", "ActiveState", |state| state == "active")?;
    load.await_acked(200)?;
    verify(&machine, TOPIC, &entries)?;
    says(
        &machine.run(&format!("cat {broker_file}"))?,
        &["fileReservedTime = 48"],
    )?;

    machine.run("touch /etc/gantry/no-restart-on-upgrade")?;
    let before = machine.show("mqbroker", "MainPID")?;
    let order = match stage.family {
        Family::Debian => "upgrade",
        Family::Enterprise => "upgrade 'mq*' 'gantry*'",
    };
    let said = stage.packages(&machine, order)?;
    is_revision("2")?;
    says(
        &said,
        &["mqbroker: not restarted", "mqnamesrv: not restarted"],
    )?;
    ensure!(
        before == machine.show("mqbroker", "MainPID")?,
        "it was restarted"
    );

    let (counted, text) = load.finish()?;
    ensure!(
        (counted.failed, counted.missing, counted.lost) == (0, 0, 0),
        "{counted:?}\n{text}"
    );
    verify(&machine, TOPIC, &entries)
}

/// Whatever the administrator made is still there after each of the steps.
pub(crate) fn remove(stage: &Stage<'_>) -> Result<()> {
    let broker_file = "/etc/gantry/broker.toml";
    stage.publish(1)?;
    let machine = stage.installed("a", 11)?;
    set(&machine, broker_file, "fileReservedTime", "48")?;
    machine.run("systemctl enable --quiet --now mqnamesrv mqbroker")?;
    make_topic(&machine, TOPIC)?;
    let entries = fill(&machine, TOPIC, 0)?;

    stage.packages(&machine, "remove mqbroker mqnamesrv")?;
    gone(&machine)?;
    let saved = match stage.family {
        Family::Debian => broker_file.to_owned(),
        Family::Enterprise => format!("{broker_file}.rpmsave"),
    };
    says(
        &machine.run(&format!("cat {saved}"))?,
        &["fileReservedTime = 48"],
    )?;
    kept(&machine)?;

    stage.packages(&machine, "install mqbroker mqnamesrv")?;
    machine.run("systemctl enable --quiet --now mqnamesrv mqbroker")?;
    verify(&machine, TOPIC, &entries)?;
    if stage.family == Family::Debian {
        says(
            &machine.run(&format!("cat {broker_file}"))?,
            &["fileReservedTime = 48"],
        )?;
    }

    let order = match stage.family {
        Family::Debian => "purge mqbroker mqnamesrv mqadmin gantry-common gantry-monitoring",
        Family::Enterprise => "remove mqbroker mqnamesrv mqadmin gantry-common gantry-monitoring",
    };
    let said = stage.packages(&machine, order)?;
    says(&said, &["/var/lib/gantry and the user gantry are kept"])?;
    gone(&machine)?;
    kept(&machine)?;
    let left = machine.run(
        "find /etc/gantry /usr/bin /usr/lib/systemd /etc/systemd /usr/share/gantry* \\( -name 'mq*' -o -name 'gantry*' \\) \
         ! -name '*.rpmsave' 2>/dev/null || true",
    )?;
    let left: Vec<&str> = left.lines().filter(|path| *path != "/etc/gantry").collect();
    ensure!(left.is_empty(), "left behind: {left:?}");

    stage.packages(&machine, &format!("install {PACKAGES}"))?;
    machine.run("systemctl enable --quiet --now mqnamesrv mqbroker")?;
    verify(&machine, TOPIC, &entries)?;
    let state = machine.run("systemctl is-system-running")?;
    ensure!(state == "running\n", "{state}");
    Ok(())
}

/// Nothing runs, nothing listens, nothing is about to start.
fn gone(machine: &Machine) -> Result<()> {
    until("the programs to be gone", || {
        Ok(machine.tried("pgrep 'mqbroker|mqnamesrv'")?.0 != 0)
    })?;
    machine.run("test ! -e /usr/bin/mqbroker && test ! -e /usr/bin/mqnamesrv")?;
    let failed = machine.run("systemctl --failed --no-legend --plain")?;
    ensure!(failed.is_empty(), "{failed}");
    let listening = machine.run("ss -Hltn '! sport = :22'")?;
    ensure!(listening.is_empty(), "who listens there?\n{listening}");
    Ok(())
}

/// The store, its owner, and the user.
fn kept(machine: &Machine) -> Result<()> {
    machine.run(
        "id gantry >/dev/null && test -s /var/lib/gantry/broker/commitlog/00000000000000000000",
    )?;
    let owner = machine.run("stat -c %U /var/lib/gantry/broker")?;
    ensure!(owner == "gantry\n", "{owner}");
    Ok(())
}
