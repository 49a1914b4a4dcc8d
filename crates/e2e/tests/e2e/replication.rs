//! Masters and slaves of different makes: an Apache slave follows a Gantry master.

use anyhow::{Context, Result, ensure};
use gantry_e2e::frame::Wire;
use gantry_e2e::ledger::{self, Entry, verify};
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::wait::{Turn, until};
use serde_json::Value;

const TOPIC: &str = "copied";
const QUEUES: u32 = 4;
/// `SLAVE_NOT_AVAILABLE`
const NO_SLAVE: i64 = 11;

fn fill(broker: &Server, round: u32) -> Result<Vec<Entry>> {
    ledger::fill(&broker.address(), TOPIC, QUEUES, round)
}

/// What a send is answered.
fn answer(wire: &mut Wire) -> Result<i64> {
    ledger::send(wire, TOPIC, 0, b"is a slave there?")?;
    Ok(wire.read()?.code)
}

fn await_slave(master: &Server) -> Result<()> {
    let mut wire = master.wire()?;
    until("a slave that acknowledges", || Ok(answer(&mut wire)? == 0))
}

/// Where a broker's log ends, as its runtime info says.
fn end(broker: &Server) -> Result<usize> {
    let answer = broker.wire()?.call(28, &[], &[])?.success()?;
    let info: Value = serde_json::from_slice(&answer.body)?;
    let end = info["table"]["commitLogMaxOffset"].as_str();
    Ok(end.context("no commitLogMaxOffset")?.parse()?)
}

/// The slave has the master's log, byte for byte.
fn same_log(master: &Server, slave: &Server) -> Result<()> {
    let end = end(master)?;
    until("the slave to have it all", || Ok(self::end(slave)? == end))?;
    let log = |server: &Server| {
        let path = server.folder().join("store/commitlog/00000000000000000000");
        std::fs::read(&path).with_context(|| path.display().to_string())
    };
    let (ours, theirs) = (log(master)?, log(slave)?);
    let differs = ours[..end]
        .iter()
        .zip(&theirs[..end])
        .position(|(a, b)| a != b);
    ensure!(
        differs.is_none(),
        "the logs differ from byte {differs:?} on"
    );
    Ok(())
}

/// What a synchronous master acknowledged is on the slave, through its death and restart, and when the master's store
/// is gone.
#[test]
fn an_apache_slave_follows_a_gantry_master() -> Result<()> {
    let _turn = Turn::wait();
    let room = room("replication")?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let sync = [("brokerRole", "SYNC_MASTER"), ("slaveTimeout", "10000")];
    let mut master = Server::broker(
        Make::Gantry,
        &room.path().join("master"),
        "broker-a",
        &[&name_server],
        &sync,
    )?;
    create_topic(&master, &[&name_server], TOPIC, QUEUES)?;
    ensure!(answer(&mut master.wire()?)? == NO_SLAVE, "without a slave");
    let ha = format!("127.0.0.1:{}", master.port() + 1);
    let mut slave = Server::broker(
        Make::Apache,
        &room.path().join("slave"),
        "broker-a",
        &[&name_server],
        &[
            ("brokerId", "1"),
            ("brokerRole", "SLAVE"),
            ("haMasterAddress", &ha),
            ("haSendHeartbeatInterval", "500"),
        ],
    )?;
    await_slave(&master)?;
    let mut ledger = fill(&master, 0)?;
    same_log(&master, &slave)?;

    slave.kill()?;
    until("the slave to be missed", || {
        Ok(answer(&mut master.wire()?)? == NO_SLAVE)
    })?;
    slave.start()?;
    await_slave(&master)?;
    ledger.extend(fill(&master, 1)?);
    same_log(&master, &slave)?;

    master.stop()?;
    master.start()?;
    await_slave(&master)?;
    ledger.extend(fill(&master, 2)?);
    master.kill()?;
    std::fs::remove_dir_all(master.folder().join("store"))?;
    // Its queues are made from the log behind the master's back.
    let mut missing = Ok(());
    let found = until("every acknowledged message on the slave", || {
        missing = verify(&slave.address(), TOPIC, &ledger);
        Ok(missing.is_ok())
    });
    found.and(missing)
}
