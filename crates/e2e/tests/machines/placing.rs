//! Where a broker stores and where it listens, other than as shipped.

use std::net::TcpStream;

use anyhow::{Result, ensure};
use gantry_e2e::ledger;

use crate::stage::{Stage, fill, make_topic, says, set, verify};

const BROKER: &str = "/etc/gantry/broker.toml";
const NAME_SERVER: &str = "/etc/gantry/namesrv.toml";
const DOCTOR: &str = "runuser -u gantry -- mqbroker doctor -c /etc/gantry/broker";

/// As systemd/README.md says.
const DROP_IN: &str = "[Unit]
RequiresMountsFor=/data/rocketmq
[Service]
ReadWritePaths=/data/rocketmq
";

/// What stands for a disk.
const MOUNT: &str = "[Mount]
What=/srv/disk
Where=/data
Type=none
Options=bind
";

pub(crate) fn mount(stage: &Stage<'_>) -> Result<()> {
    let machine = stage.installed("a", 11)?;
    machine.run("mkdir -p /srv/disk/rocketmq && chown gantry: /srv/disk/rocketmq")?;
    machine.write("/etc/systemd/system/data.mount", MOUNT)?;
    machine.run("systemctl daemon-reload && systemctl start mqnamesrv data.mount")?;
    set(&machine, BROKER, "storePathRootDir", "\"/data/rocketmq\"")?;
    let (code, said) = machine.tried("systemctl start mqbroker")?;
    ensure!(code != 0, "the sandbox lets it write to /data: {said}");
    let why = machine.journal("mqbroker")?;
    says(
        &why,
        &["Read-only file system", "`ReadWritePaths=/data/rocketmq`"],
    )?;
    let (_, said) = machine.tried(DOCTOR)?;
    says(
        &said,
        &[
            "warning  unit: /data/rocketmq",
            "ReadWritePaths=/data/rocketmq",
        ],
    )?;

    machine.run(
        "systemctl stop mqbroker data.mount; mkdir -p /etc/systemd/system/mqbroker.service.d",
    )?;
    machine.write("/etc/systemd/system/mqbroker.service.d/store.conf", DROP_IN)?;
    machine.run("systemctl daemon-reload && systemctl start mqbroker")?;
    stage.step("serves from the mount");
    ensure!(machine.show("data.mount", "ActiveState")? == "active");
    let (code, said) = machine.tried(DOCTOR)?;
    ensure!(code == 0 && !said.contains("unit: "), "{said}");
    says(
        &said,
        &["/data/rocketmq is in use by", "this broker, which runs"],
    )?;
    make_topic(&machine, "elsewhere")?;
    let entries = fill(&machine, "elsewhere", 0)?;
    machine.run(
        "test -d /srv/disk/rocketmq/commitlog && test ! -e /var/lib/gantry/broker/commitlog",
    )?;

    // The disk does not go below a broker, and a broker does not start without it.
    machine.run("systemctl stop data.mount")?;
    ensure!(machine.show("mqbroker", "ActiveState")? == "inactive");
    machine.run("test -z \"$(ls -A /data)\" && systemctl start mqbroker")?;
    verify(&machine, "elsewhere", &entries)
}

pub(crate) fn ipv6(stage: &Stage<'_>) -> Result<()> {
    let names = stage.installed("names", 12)?;
    let machine = stage.installed("a", 11)?;
    for host in [&names, &machine] {
        host.network().add_ipv6()?;
    }
    set(&names, NAME_SERVER, "bindAddress", "\"fd00:99::12\"")?;
    names.run("systemctl start mqnamesrv")?;
    set(&machine, BROKER, "bindAddress", "\"*\"")?;
    set(&machine, BROKER, "namesrvAddr", "\"[fd00:99::12]:9876\"")?;
    // The route to the name server tells which address to announce.
    let (code, said) = machine.tried(DOCTOR)?;
    ensure!(code == 0, "{said}");
    says(
        &said,
        &[
            "clients are told [fd00:99::11]:10911",
            "[fd00:99::12]:9876 answers",
        ],
    )?;
    machine.run("systemctl start mqbroker")?;
    stage.step("the broker serves");
    machine.run("mqadmin updateTopic -b '[::1]:10911' -t six -r 2 -w 2")?;
    let route = names.run("mqadmin topicRoute -n '[fd00:99::12]:9876' -t six")?;
    says(&route, &["[fd00:99::11]:10911"])?;
    let broker = "[fd00:99::11]:10911";
    let entries = names
        .network()
        .within(|| ledger::fill(broker, "six", 2, 0))?;
    let (code, said) = names.tried(&format!(
        "mqadmin updateTopic -b '{broker}' -t no -r 1 -w 1"
    ))?;
    ensure!(code != 0 && said.contains("loopback"), "{said}");

    // One address alone, after a restart on the stored messages.
    set(&machine, BROKER, "bindAddress", "\"fd00:99::11\"")?;
    machine.run("systemctl restart mqbroker")?;
    names.network().within(|| {
        ledger::verify(broker, "six", &entries)?;
        let v4 = TcpStream::connect((machine.address(), 10911));
        ensure!(v4.is_err(), "it listens on IPv4 too");
        Ok(())
    })
}
