//! Several brokers on one host.

use anyhow::{Result, ensure};

use crate::stage::{Stage, says};

/// A file in each language of settings, ports and stores apart.
pub(crate) fn two(stage: &Stage<'_>) -> Result<()> {
    let machine = stage.installed("a", 11)?;
    machine.write(
        "/etc/gantry/broker/one.toml",
        "bindAddress = \"127.0.0.1\"\nnamesrvAddr = \"127.0.0.1:9876\"\nbrokerName = \"one\"\nbrokerIP1 = \"127.0.0.1\"\n",
    )?;
    machine.write(
        "/etc/gantry/broker/two.properties",
        "bindAddress=127.0.0.1\nnamesrvAddr=127.0.0.1:9876\nbrokerName=two\nbrokerIP1=127.0.0.1\nlistenPort=10921\nmetricsPort=5567\n",
    )?;
    machine.run("systemctl enable --quiet --now mqnamesrv mqbroker@one mqbroker@two")?;
    let alive = |unit: &str| machine.show(unit, "ActiveState");
    let cluster = || machine.run("mqadmin clusterList -n 127.0.0.1:9876");
    says(&cluster()?, &["127.0.0.1:10911", "127.0.0.1:10921"])?;
    machine
        .run("test -d /var/lib/gantry/one/commitlog && test -d /var/lib/gantry/two/commitlog")?;
    let text = machine.run("systemctl status --no-pager 'mqbroker@*'")?;
    says(
        &text,
        &[
            "Gantry broker one",
            "Gantry broker two",
            "Status: \"Serving as master",
        ],
    )?;

    // Its state folder would be that of mqbroker.service.
    machine.run("cp /etc/gantry/broker/one.toml /etc/gantry/broker/broker.toml")?;
    let (code, said) = machine.tried("systemctl start mqbroker@broker 2>&1")?;
    ensure!(
        code != 0 && said.contains("Assertion failed"),
        "{code} {said}"
    );
    machine.run("rm /etc/gantry/broker/broker.toml && test ! -e /var/lib/gantry/broker")?;

    machine.run("systemctl stop mqbroker@one")?;
    ensure!(alive("mqbroker@one")? == "inactive" && alive("mqbroker@two")? == "active");
    let left = cluster()?;
    ensure!(
        !left.contains("127.0.0.1:10911") && left.contains("127.0.0.1:10921"),
        "the one that stopped has left the routes:\n{left}"
    );
    machine.run("mqadmin updateTopic -b 127.0.0.1:10921 -t still -r 1 -w 1")?;
    machine.run("mqadmin sendMessage -n 127.0.0.1:9876 -t still -p hello")?;
    machine.run("systemctl start mqbroker@one")?;
    says(&cluster()?, &["127.0.0.1:10911", "127.0.0.1:10921"])?;

    stage.publish(2)?;
    let pids = || machine.run("systemctl show -P MainPID mqbroker@one mqbroker@two");
    let before = pids()?;
    let said = stage.packages(&machine, "upgrade mqbroker gantry-common mqnamesrv")?;
    says(
        &said,
        &["mqbroker: instances (mqbroker@NAME) still run the previous version"],
    )?;
    ensure!(before == pids()?, "an upgrade restarted instances");

    machine.run("systemctl stop gantry.target")?;
    for unit in ["mqnamesrv", "mqbroker@one", "mqbroker@two"] {
        // They stop along with it; the order waits for the target alone.
        machine.await_property(unit, "ActiveState", |state| state == "inactive")?;
    }
    machine.run("systemctl start gantry.target")?;
    for unit in ["mqnamesrv", "mqbroker@one", "mqbroker@two"] {
        machine.await_property(unit, "ActiveState", |state| state == "active")?;
    }
    says(&cluster()?, &["127.0.0.1:10911", "127.0.0.1:10921"])
}
