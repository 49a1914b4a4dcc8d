//! Masters and slaves of either make follow each other, through the death of either, and when they go different ways.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use gantry_e2e::frame::Wire;
use gantry_e2e::ledger::{self, Entry, verify};
use gantry_e2e::programs::{room, run};
use gantry_e2e::server::{self, Make, Server, create_topic};
use gantry_e2e::wait::{Turn, until};
use serde_json::Value;

const TOPIC: &str = "copied";
const QUEUES: u32 = 4;
/// `SLAVE_NOT_AVAILABLE`
const NO_SLAVE: i64 = 11;
const HA_STATUS: i32 = 46002;

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

/// The slave has the master's log, byte for byte.
fn same_log(pair: &Pair) -> Result<()> {
    let (master, slave) = (&pair.master, &pair.slave);
    server::same_log((master, &pair.master_store), (slave, &pair.slave_store))
}

/// A synchronous master and its slave.
struct Pair {
    master: Server,
    slave: Server,
    master_store: PathBuf,
    slave_store: PathBuf,
    ledger: Vec<Entry>,
    round: u32,
}

impl Pair {
    fn start(room: &Path, name_server: &Server, master: Make, slave: Make) -> Result<Pair> {
        let store = |name: &str| room.join(format!("{name}-store"));
        let (master_store, slave_store) = (store("master"), store("slave"));
        let sync = [
            ("brokerRole", "SYNC_MASTER"),
            ("slaveTimeout", "10000"),
            ("storePathRootDir", &*master_store.display().to_string()),
        ];
        let name_servers = [name_server];
        let folder = room.join("master");
        let master = Server::broker(master, &folder, "broker-a", &name_servers, &sync)?;
        create_topic(&master, &name_servers, TOPIC, QUEUES)?;
        ensure!(answer(&mut master.wire()?)? == NO_SLAVE, "without a slave");
        let ha = format!("127.0.0.1:{}", master.port() + 1);
        let properties = [
            ("brokerId", "1"),
            ("brokerRole", "SLAVE"),
            ("haMasterAddress", &ha),
            ("haSendHeartbeatInterval", "500"),
            ("storePathRootDir", &*slave_store.display().to_string()),
        ];
        let folder = room.join("slave");
        let slave = Server::broker(slave, &folder, "broker-a", &name_servers, &properties)?;
        let mut pair = Pair {
            master,
            slave,
            master_store,
            slave_store,
            ledger: Vec::new(),
            round: 0,
        };
        pair.copies()?;
        Ok(pair)
    }

    /// What is sent now is acknowledged by the slave, and the logs are equal.
    fn copies(&mut self) -> Result<()> {
        await_slave(&self.master)?;
        self.ledger.extend(fill(&self.master, self.round)?);
        self.round += 1;
        same_log(self)
    }

    /// Everything acknowledged can be read from the slave.
    fn slave_has_all(&self) -> Result<()> {
        // An Apache slave makes its queues from the log behind the master's back.
        let mut missing = Ok(());
        let found = until("every acknowledged message on the slave", || {
            missing = verify(&self.slave.address(), TOPIC, &self.ledger);
            Ok(missing.is_ok())
        });
        found.with_context(|| format!("{missing:?}"))
    }
}

/// What a synchronous master acknowledged is on the slave, through death and restart of either, and when the master's
/// store is gone.
fn outlives(master: Make, slave: Make) -> Result<()> {
    let _turn = Turn::wait();
    let room = room("replication")?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let mut pair = Pair::start(room.path(), &name_server, master, slave)?;
    pair.slave.kill()?;
    until("the slave to be missed", || {
        Ok(answer(&mut pair.master.wire()?)? == NO_SLAVE)
    })?;
    pair.slave.start()?;
    pair.copies()?;
    pair.slave.stop()?;
    pair.slave.start()?;
    pair.copies()?;
    pair.master.stop()?;
    pair.master.start()?;
    pair.copies()?;
    pair.master.kill()?;
    pair.master.start()?;
    pair.copies()?;
    pair.master.kill()?;
    std::fs::remove_dir_all(&pair.master_store)?;
    pair.slave_has_all()
}

#[test]
fn an_apache_slave_follows_a_gantry_master() -> Result<()> {
    outlives(Make::Gantry, Make::Apache)
}

#[test]
fn a_gantry_slave_follows_an_apache_master() -> Result<()> {
    outlives(Make::Apache, Make::Gantry)
}

#[test]
fn a_gantry_slave_follows_a_gantry_master() -> Result<()> {
    outlives(Make::Gantry, Make::Gantry)
}

/// A pair of Apache's becomes one of Gantry's and goes back, one process at a time, and nothing is lost on the way.
#[test]
fn a_pair_is_moved_over_and_back_one_process_at_a_time() -> Result<()> {
    let _turn = Turn::wait();
    let room = room("moved")?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let mut pair = Pair::start(room.path(), &name_server, Make::Apache, Make::Apache)?;
    for (is_slave, make) in [
        (true, Make::Gantry),
        (false, Make::Gantry),
        (true, Make::Apache),
        (false, Make::Apache),
    ] {
        let moved = match is_slave {
            true => &mut pair.slave,
            false => &mut pair.master,
        };
        moved.stop()?;
        let folder = room.path().join(format!("{is_slave}-{make:?}"));
        *moved = moved.successor(make, folder.join("broker-a"))?;
        pair.copies()?;
        pair.slave_has_all()?;
        verify(&pair.master.address(), TOPIC, &pair.ledger)?;
    }
    Ok(())
}

/// A master that comes back from an old copy of its disk goes another way than its slave; the slave follows it all the
/// same, and keeps what it had.
fn goes_another_way(make: Make) -> Result<()> {
    let _turn = Turn::wait();
    let room = room("another-way")?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let mut pair = Pair::start(room.path(), &name_server, make, Make::Gantry)?;
    pair.master.stop()?;
    let (store, copy) = (pair.master_store.clone(), room.path().join("copy"));
    run(
        "the copy",
        Command::new("cp").arg("-a").args([&store, &copy]),
    )?;
    pair.master.start()?;
    let kept = pair.ledger.len();
    pair.copies()?;
    pair.master.stop()?;
    std::fs::remove_dir_all(&store)?;
    std::fs::rename(&copy, &store)?;
    pair.ledger.truncate(kept);
    pair.master.start()?;
    pair.copies()?;
    pair.slave_has_all()?;
    let quarantine = pair.slave_store.join("quarantine");
    let files = std::fs::read_dir(&quarantine)?.count();
    ensure!(files == 1, "{files} files in the slave's quarantine");
    // What was set aside are whole records: those that the old copy did not have.
    let set_aside = std::fs::read_dir(&quarantine)?
        .next()
        .context("no file")??;
    let bytes = std::fs::read(set_aside.path())?;
    ensure!(bytes[4..8] == [0xDA, 0xA3, 0x20, 0xA7], "no record");
    Ok(())
}

#[test]
fn a_slave_follows_a_gantry_master_that_goes_another_way() -> Result<()> {
    goes_another_way(Make::Gantry)
}

#[test]
fn a_slave_follows_an_apache_master_that_goes_another_way() -> Result<()> {
    goes_another_way(Make::Apache)
}

/// A master that lost everything gets nothing taken away from its slave.
#[test]
fn a_slave_of_a_master_that_lost_everything_keeps_its_store_and_says_so() -> Result<()> {
    let _turn = Turn::wait();
    let room = room("lost")?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let mut pair = Pair::start(room.path(), &name_server, Make::Gantry, Make::Gantry)?;
    // The topic comes another way than the messages.
    pair.slave_has_all()?;
    pair.master.kill()?;
    std::fs::remove_dir_all(&pair.master_store)?;
    pair.master.start()?;
    until("a line that says why", || {
        Ok(pair
            .slave
            .log()?
            .contains("the logs have nothing in common"))
    })?;
    // Topics went, with all their messages, when it asked a master that has none.
    until("the slave to have asked how its master stands", || {
        let mut wire = pair.slave.wire()?;
        let status = wire.call(HA_STATUS, &[], &[])?.success()?.json()?;
        let end = |status: &Value| status["maxOffset"].as_i64().context("no end");
        Ok(end(&status["follows"]["known"])? < end(&status)?)
    })?;
    pair.slave_has_all()
}
