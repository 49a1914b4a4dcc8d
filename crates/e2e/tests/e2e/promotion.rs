//! A slave takes its master's place: with the master's help, after its death, while it is frozen; and the old one comes
//! back as a slave and as nothing else.

use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use gantry_e2e::clients::Java;
use gantry_e2e::ledger::{self, Entry, verify};
use gantry_e2e::mqadmin::mqadmin;
use gantry_e2e::programs::{room, run};
use gantry_e2e::server::{self, Make, Server, create_topic};
use gantry_e2e::wait::{Turn, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const TOPIC: &str = "handed-over";
const QUEUES: u32 = 4;
const ALL_TOPICS: i32 = 21;
const UPDATE_CONFIG: i32 = 25;
const HA_STATUS: i32 = 46002;
const QUERY_OFFSET: i32 = 14;
const COMMIT_OFFSET: i32 = 15;
const TELL_EPOCH: i32 = 46005;
const OK: i64 = 0;
/// `SLAVE_NOT_AVAILABLE`
const NO_SLAVE: i64 = 11;
/// `SERVICE_NOT_AVAILABLE`
const REFUSED: i64 = 14;

/// Brokers of one name, and a name server of either make.
struct Fleet {
    brokers: Vec<Server>,
    name_server: Server,
    ledger: Vec<Entry>,
    round: u32,
    room: TempDir,
}

impl Fleet {
    /// A synchronous master and so many slaves; all of them have what the ledger says.
    fn start(name: &str, name_server: Make, slaves: usize) -> Result<Fleet> {
        let room = room(name)?;
        let name_server = Server::name_server(name_server, room.path(), "namesrv")?;
        let mut fleet = Fleet {
            brokers: Vec::new(),
            name_server,
            ledger: Vec::new(),
            round: 0,
            room,
        };
        fleet.add("SYNC_MASTER")?;
        create_topic(&fleet.brokers[0], &[&fleet.name_server], TOPIC, QUEUES)?;
        for _ in 0..slaves {
            fleet.add("SLAVE")?;
        }
        fleet.acknowledges(0)?;
        fleet.fill(0)?;
        for slave in 1..=slaves {
            fleet.vouches(slave)?;
        }
        Ok(fleet)
    }

    fn add(&mut self, role: &str) -> Result<()> {
        let id = self.brokers.len().to_string();
        let folder = self.room.path().join(&id);
        let properties = [
            ("brokerId", &*id),
            ("brokerRole", role),
            ("slaveAckPolicy", "refuse"),
            ("registerNameServerPeriod", "10000"),
            ("haSendHeartbeatInterval", "500"),
            ("haPeers", "127.0.0.1"),
        ];
        let servers = [&self.name_server];
        let broker = Server::broker(Make::Gantry, &folder, "broker-a", &servers, &properties)?;
        self.brokers.push(broker);
        Ok(())
    }

    fn store(&self, broker: usize) -> PathBuf {
        self.brokers[broker].folder().join("store")
    }

    fn fill(&mut self, broker: usize) -> Result<()> {
        let address = self.brokers[broker].address();
        self.ledger
            .extend(ledger::fill(&address, TOPIC, QUEUES, self.round)?);
        self.round += 1;
        Ok(())
    }

    /// Waits until a slave has made sure that it has its master's log.
    fn vouches(&self, slave: usize) -> Result<()> {
        until("the slave to have looked at its master", || {
            let mut wire = self.brokers[slave].wire()?;
            let status = wire.call(HA_STATUS, &[], &[])?.success()?.json()?;
            Ok(status["follows"]["known"]["followed"] == true)
        })
    }

    /// As whoever promotes asks a master to give way.
    fn fence(&self, master: usize, promotion: &str, seen: &str) -> Result<()> {
        let fields = [
            ("gantryEpoch", promotion),
            ("ifEpoch", seen),
            ("ifPart", "MASTER"),
        ];
        let mut wire = self.brokers[master].wire()?;
        wire.call(TELL_EPOCH, &fields, &[])?.success()?;
        Ok(())
    }

    /// What a send is answered, or that there is no answer.
    fn answer(&self, broker: usize) -> Result<i64> {
        let mut wire = self.brokers[broker].wire()?;
        ledger::send(&mut wire, TOPIC, 0, b"who is the master?")?;
        Ok(wire.read()?.code)
    }

    fn acknowledges(&self, broker: usize) -> Result<()> {
        until("an acknowledged send", || {
            Ok(self.answer(broker).is_ok_and(|code| code == OK))
        })
    }

    fn has_all(&self, broker: usize) -> Result<()> {
        let mut missing = Ok(());
        let found = until("every acknowledged message", || {
            missing = verify(&self.brokers[broker].address(), TOPIC, &self.ledger);
            Ok(missing.is_ok())
        });
        found.with_context(|| format!("{missing:?}"))
    }

    fn admin(&self, args: &[&str]) -> Result<Output> {
        let name_server = self.name_server.address();
        mqadmin(Make::Gantry, self.room.path(), &name_server, args)
    }

    /// Waits until the name server knows them.
    fn are_registered(&self, brokers: &[usize]) -> Result<()> {
        until("the brokers to be registered", || {
            let list = self.succeeds(&["clusterList"])?;
            let mut addresses = brokers.iter().map(|&broker| self.brokers[broker].address());
            Ok(addresses.all(|address| list.contains(&address)))
        })
    }

    fn succeeds(&self, args: &[&str]) -> Result<String> {
        let output = self.admin(args)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{args:?}\n{said}{complaint}");
        Ok(said)
    }

    fn refused(&self, args: &[&str]) -> Result<String> {
        let output = self.admin(args)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{args:?} went through\n{said}");
        Ok(said)
    }

    /// What the master does without slaves.
    fn policy(&self, policy: &str) -> Result<()> {
        let change = format!("slaveAckPolicy={policy}");
        let mut wire = self.brokers[0].wire()?;
        wire.call(UPDATE_CONFIG, &[], change.as_bytes())?
            .success()?;
        Ok(())
    }

    fn status(&self, broker: usize) -> Result<String> {
        self.succeeds(&["haStatus", "-b", &self.brokers[broker].address()])
    }

    /// Whether its status has these words; while it starts again within its process it says nothing.
    fn says(&self, broker: usize, words: &str) -> Result<bool> {
        let status = self.admin(&["haStatus", "-b", &self.brokers[broker].address()])?;
        Ok(String::from_utf8_lossy(&status.stdout).contains(words))
    }

    fn promote(&self, broker: usize, more: &[&str]) -> Result<String> {
        let address = self.brokers[broker].address();
        self.succeeds(&[&["promote", "-b", &address], more].concat())
    }

    fn rejoin(&self, broker: usize) -> Result<String> {
        self.succeeds(&["rejoin", "-b", &self.brokers[broker].address()])
    }

    /// The old master becomes a slave of the new one, and gets everything.
    fn rejoins_and_has_all(&mut self, old: usize, new: usize) -> Result<()> {
        self.rejoin(old)?;
        self.acknowledges(new)?;
        self.fill(new)?;
        self.has_all(old)?;
        self.same_log(new, old)
    }

    /// The slave's log is its master's, byte for byte.
    fn same_log(&self, master: usize, slave: usize) -> Result<()> {
        let of = |broker: usize| (&self.brokers[broker], self.store(broker));
        let (master, slave) = (of(master), of(slave));
        server::same_log((master.0, &master.1), (slave.0, &slave.1))
    }

    fn signal(&self, broker: usize, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.brokers[broker].pid()?)?;
        Ok(kill(Pid::from_raw(pid), signal)?)
    }
}

/// The master hands over under a stock client's load, rejoins, and gets its place back.
#[test]
fn a_living_master_hands_over_under_load_and_back() -> Result<()> {
    let _turn = Turn::wait();
    let mut fleet = Fleet::start("hands-over", Make::Gantry, 1)?;
    let java = Java::prepare("4.9.8")?;
    let mut load = java.load(&fleet.name_server.address(), TOPIC, fleet.room.path())?;
    load.await_acked(500)?;
    let dry = fleet.promote(1, &["-d"])?;
    ensure!(dry.contains("in promotion 1.1; "), "{dry}");
    ensure!(!fleet.store(1).join("gantry.epoch").exists(), "it was dry");
    // On the way back the old master is a slave by its configuration, and needs nobody to say so.
    for (old, new, promotion, part) in [(0, 1, "1.1", "FENCED"), (1, 0, "2.2", "SLAVE")] {
        // In its tables alone, and no moment old.
        let made = format!("made-before-{new}");
        create_topic(&fleet.brokers[old], &[&fleet.name_server], &made, 1)?;
        let said = fleet.promote(new, &[])?;
        ensure!(
            said.contains(&format!("since promotion {promotion}")),
            "{said}"
        );
        let mut wire = fleet.brokers[new].wire()?;
        let topics = wire.call(ALL_TOPICS, &[], &[])?.success()?.json()?;
        ensure!(topics["topicConfigTable"][&made].is_object(), "{topics}");
        ensure!(fleet.answer(old)? == REFUSED);
        let status = fleet.status(old)?;
        ensure!(
            status.contains(&format!("{part}, promotion {promotion}")),
            "{status}"
        );
        ensure!(!status.contains("read only"), "{status}");
        let said = fleet.rejoin(old)?;
        ensure!(said.contains("it follows 127.0.0.1:"), "{said}");
        fleet.acknowledges(new)?;
        load.await_acked(500)?;
        load.await_consumed(500)?;
        fleet.fill(new)?;
        fleet.has_all(old)?;
    }
    let (counted, said) = load.finish()?;
    ensure!(
        counted.lost == 0 && counted.missing == 0 && counted.acked > 1_500,
        "{counted:?}\n{said}"
    );
    fleet.same_log(0, 1)
}

/// The old master comes back with its old configuration, and a message that nobody else has.
fn comes_back(name_server: Make) -> Result<()> {
    let _turn = Turn::wait();
    let mut fleet = Fleet::start("comes-back", name_server, 1)?;
    fleet.policy("report")?;
    fleet.brokers[1].kill()?;
    until("a message that nobody else has", || {
        Ok(fleet.answer(0)? == NO_SLAVE)
    })?;
    fleet.policy("refuse")?;
    fleet.brokers[0].kill()?;
    fleet.brokers[1].start()?;
    // It was not there to see how many slaves its master had.
    let address = fleet.brokers[1].address();
    let said = fleet.refused(&["promote", "-b", &address, "-r", "SYNC_MASTER"])?;
    ensure!(said.contains("(--slaves N); this one knows of 1"), "{said}");
    let said = fleet.promote(1, &["-r", "SYNC_MASTER", "-s", "1"])?;
    ensure!(
        said.contains("it has all that was acknowledged with its copies"),
        "{said}"
    );
    fleet.has_all(1)?;
    fleet.brokers[0].start()?;
    until("the old master to hear of it", || {
        fleet.says(0, "FENCED, promotion 1.1")
    })?;
    ensure!(fleet.answer(0)? == REFUSED);
    // Over a restart too, and whatever the name server has forgotten.
    fleet.brokers[0].kill()?;
    fleet.brokers[0].start()?;
    ensure!(fleet.answer(0)? == REFUSED);
    ensure!(fleet.status(0)?.contains("FENCED"));
    fleet.rejoin(0)?;
    fleet.acknowledges(1)?;
    fleet.fill(1)?;
    fleet.has_all(0)?;
    fleet.same_log(1, 0)?;
    let set_aside = std::fs::read_dir(fleet.store(0).join("quarantine"))?.count();
    ensure!(set_aside == 1, "{set_aside} files in quarantine");
    Ok(())
}

#[test]
fn a_dead_master_comes_back_fenced_and_gives_up_what_nobody_acknowledged() -> Result<()> {
    comes_back(Make::Gantry)
}

#[test]
fn a_dead_master_comes_back_fenced_with_apaches_name_server() -> Result<()> {
    comes_back(Make::Apache)
}

/// Who promoted was killed between fencing the master and promoting the slave, and the fenced one is a slave by its
/// configuration: the promotion is finished, by the same slave, and nobody has to say who had what.
#[test]
fn a_promotion_that_stopped_half_way_is_finished() -> Result<()> {
    let _turn = Turn::wait();
    let mut fleet = Fleet::start("half-way", Make::Gantry, 2)?;
    fleet.promote(1, &[])?;
    fleet.rejoin(0)?;
    until("the other slave to follow the new master", || {
        fleet.says(2, "  follows 127.0.0.1:")
    })?;
    fleet.acknowledges(1)?;
    fleet.fill(1)?;
    fleet.has_all(0)?;
    fleet.fence(1, "2.3", "1.1")?;
    let gave_way = "was the master until promotion 2.3, and has not met the master of that one";
    until("the old master to be a slave", || {
        let status = fleet.admin(&["haStatus", "-b", &fleet.brokers[1].address()])?;
        Ok(String::from_utf8_lossy(&status.stdout).contains(gave_way))
    })?;
    // No name server knows of it yet; who asks the old master for its log hears of it there.
    until("the other slave to hear of it", || {
        let log = fleet.brokers[2].log()?;
        let mut lines = log.lines();
        Ok(lines.any(|line| line.contains("2.3") && line.contains("the master at")))
    })?;
    fleet.brokers[1].kill()?;
    fleet.brokers[1].start()?;
    ensure!(fleet.status(1)?.contains(gave_way), "over a start, too");
    // Whoever tries another one is told of the slave that it gave way to.
    let hint = format!("promote {} again", fleet.brokers[0].address());
    let address = fleet.brokers[2].address();
    let said = fleet.refused(&["promote", "-b", &address, "-r", "SYNC_MASTER"])?;
    ensure!(said.contains(&hint), "{said}");
    let gave_way = fleet.brokers[1].address();
    let said = fleet.refused(&["rejoin", "-b", &gave_way])?;
    let hint = format!("mqadmin promote -b {}", fleet.brokers[0].address());
    ensure!(said.contains(&hint), "{said}");
    let said = fleet.promote(0, &[])?;
    ensure!(
        said.contains("it has all that was acknowledged with its copies"),
        "{said}"
    );
    fleet.acknowledges(0)?;
    fleet.fill(0)?;
    for slave in [1, 2] {
        fleet.has_all(slave)?;
        fleet.same_log(0, slave)?;
    }
    ensure!(!fleet.status(1)?.contains("was the master"));
    Ok(())
}

/// As above, and the slave that was to be the master is lost: the fenced one takes its place back once it is sure that nobody
/// else has it.
#[test]
fn a_fenced_master_is_the_master_again_where_nobody_took_its_place() -> Result<()> {
    let _turn = Turn::wait();
    let mut fleet = Fleet::start("takes-back", Make::Gantry, 1)?;
    fleet.fence(0, "1.1", "0.0")?;
    until("the master to be fenced", || {
        fleet.says(0, "FENCED, promotion 1.1")
    })?;
    ensure!(fleet.answer(0)? == REFUSED);
    fleet.brokers[1].kill()?;
    let address = fleet.brokers[0].address();
    let said = fleet.refused(&["promote", "-b", &address])?;
    ensure!(
        said.contains("it was the master until promotion 1.1, and has not met who may have taken"),
        "{said}"
    );
    fleet.brokers[1].start()?;
    fleet.are_registered(&[1])?;
    let said = fleet.refused(&["promote", "-b", &address, "-r", "ASYNC_MASTER"])?;
    ensure!(said.contains("says SYNC_MASTER, which counts"), "{said}");
    let said = fleet.promote(0, &[])?;
    ensure!(said.contains("since promotion 2.0; it has all"), "{said}");
    fleet.acknowledges(0)?;
    fleet.fill(0)?;
    fleet.has_all(1)?;
    fleet.same_log(0, 1)
}

/// While it is frozen it is replaced; thawed, it acknowledges nothing.
#[test]
fn a_frozen_master_acknowledges_nothing_when_it_thaws() -> Result<()> {
    let _turn = Turn::wait();
    let mut fleet = Fleet::start("thaws", Make::Gantry, 1)?;
    // The slave gets the message and, most likely, not the topic.
    let fresh = ledger::fill(&fleet.brokers[0].address(), "made-by-sending", 1, 0)?;
    fleet.signal(0, Signal::SIGSTOP)?;
    fleet.promote(1, &["-r", "SYNC_MASTER", "-s", "1"])?;
    verify(&fleet.brokers[1].address(), "made-by-sending", &fresh)?;
    fleet.signal(0, Signal::SIGCONT)?;
    until("the old master to hear of it", || {
        let code = fleet.answer(0);
        if let Ok(code) = code {
            ensure!(code != OK, "it acknowledged a message that only it has");
        }
        fleet.says(0, "FENCED")
    })?;
    fleet.rejoins_and_has_all(0, 1)
}

/// A master comes back by itself from an empty disk. What its slave has stays, topics and offsets included, until somebody
/// decides; then it gives way.
#[test]
fn a_master_that_lost_its_disk_takes_nothing_from_its_slave_and_gives_way() -> Result<()> {
    let _turn = Turn::wait();
    let mut fleet = Fleet::start("lost-disk", Make::Gantry, 1)?;
    let address = fleet.brokers[1].address();
    let group = [("consumerGroup", "g"), ("topic", TOPIC), ("queueId", "0")];
    let mut wire = fleet.brokers[1].wire()?;
    let commit = [&group[..], &[("commitOffset", "5")]].concat();
    wire.call(COMMIT_OFFSET, &commit, &[])?.success()?;
    fleet.brokers[0].kill()?;
    std::fs::remove_dir_all(fleet.store(0))?;
    fleet.brokers[0].start()?;
    let mut to_master = fleet.brokers[0].wire()?;
    ledger::send_with(
        &mut to_master,
        TOPIC,
        0,
        b"of another log",
        "WAIT\u{1}false",
    )?;
    ensure!(to_master.read()?.code == OK);
    // It has been asked since, and has less than ever.
    until("the slave to look at its master", || {
        let status = wire.call(HA_STATUS, &[], &[])?.success()?.json()?;
        let end = |status: &Value| status["maxOffset"].as_i64().context("no end");
        Ok(end(&status["follows"]["known"])? < end(&status)?)
    })?;
    let unharmed = |fleet: &Fleet| {
        verify(&fleet.brokers[1].address(), TOPIC, &fleet.ledger)?;
        let answer = fleet.brokers[1].wire()?.call(QUERY_OFFSET, &group, &[])?;
        ensure!(answer.success()?.number("offset")? == 5);
        Ok(())
    };
    unharmed(&fleet)?;
    for how in [&["-w", "1"][..], &["-d"]] {
        let said = fleet.refused(&[&["promote", "-b", &address], how].concat())?;
        ensure!(said.contains("the logs have nothing in common"), "{said}");
    }
    fleet.brokers[0].stop()?;
    let wanted = ["-r", "SYNC_MASTER", "-s", "1"];
    let said = fleet.refused(&[&["promote", "-b", &address], &wanted[..]].concat())?;
    ensure!(said.contains("--accept-loss all"), "{said}");
    fleet.promote(1, &[&wanted[..], &["--accept-loss", "all"]].concat())?;
    unharmed(&fleet)?;
    let is_fenced = |fleet: &mut Fleet| {
        fleet.brokers[0].start()?;
        until("the old master to be fenced", || fleet.says(0, "FENCED"))
    };
    is_fenced(&mut fleet)?;
    let said = fleet.refused(&["rejoin", "-b", &fleet.brokers[0].address()])?;
    ensure!(said.contains("move its store away"), "{said}");
    fleet.brokers[0].stop()?;
    std::fs::remove_dir_all(fleet.store(0))?;
    is_fenced(&mut fleet)?;
    fleet.rejoins_and_has_all(0, 1)
}

/// A master came back with an older store, and its slave gave up what it had more, acknowledged messages among it.
#[test]
fn what_a_slave_gave_up_for_its_master_is_said() -> Result<()> {
    let _turn = Turn::wait();
    let mut fleet = Fleet::start("gave-up", Make::Gantry, 1)?;
    let copy = fleet.room.path().join("copy");
    fleet.brokers[0].stop()?;
    run(
        "the copy",
        Command::new("cp").arg("-a").arg(fleet.store(0)).arg(&copy),
    )?;
    fleet.brokers[0].start()?;
    fleet.acknowledges(0)?;
    fleet.fill(0)?;
    until("the slave to have noted how far it is", || {
        let mut wire = fleet.brokers[1].wire()?;
        let status = wire.call(HA_STATUS, &[], &[])?.success()?.json()?;
        Ok(status["follows"]["known"]["copyOffset"] == status["maxOffset"])
    })?;
    ensure!(!fleet.says(1, "  lost ")?);
    fleet.brokers[0].stop()?;
    std::fs::remove_dir_all(fleet.store(0))?;
    std::fs::rename(&copy, fleet.store(0))?;
    fleet.brokers[0].start()?;
    until("the slave to say what it has lost", || {
        fleet.says(
            1,
            " bytes of its log that it had: its master came back with less",
        )
    })?;
    fleet.acknowledges(0)?;
    let said = fleet.promote(1, &[])?;
    ensure!(said.contains("it has all that there is, but for"), "{said}");
    Ok(())
}

/// What a slave that does not answer has acknowledged, this one need not have.
#[test]
fn a_slave_that_may_lack_something_is_not_promoted_unless_that_is_accepted() -> Result<()> {
    let _turn = Turn::wait();
    let mut fleet = Fleet::start("may-lack", Make::Gantry, 2)?;
    let address = fleet.brokers[1].address();
    fleet.brokers[0].kill()?;
    fleet.brokers[2].kill()?;
    until("the master's silence to count", || {
        let said = fleet.refused(&["promote", "-b", &address, "-r", "SYNC_MASTER", "-s", "2"])?;
        Ok(said.contains(
            "the master had 2 slaves and acknowledged what 1 of them had: 2 have to answer, 1 do",
        ))
    })?;
    fleet.refused(&["promote", "-b", &address, "--accept-loss", "1000000"])?;
    ensure!(
        fleet.status(1)?.contains("SLAVE, log"),
        "nothing has changed"
    );
    // The other slave is back: both together have everything.
    fleet.brokers[2].start()?;
    fleet.are_registered(&[2])?;
    fleet.promote(1, &["-r", "SYNC_MASTER", "-s", "2"])?;
    fleet.has_all(1)?;
    // It follows the new master by itself.
    fleet.acknowledges(1)?;
    fleet.fill(1)?;
    fleet.has_all(2)?;
    // The next one is lost, too, with everybody who could tell.
    fleet.brokers[1].kill()?;
    let address = fleet.brokers[2].address();
    until("the promotion at any price", || {
        let output = fleet.admin(&[
            "promote",
            "-b",
            &address,
            "--accept-loss",
            "all",
            "-r",
            "ASYNC_MASTER",
        ])?;
        Ok(output.status.success())
    })?;
    fleet.acknowledges(2)?;
    fleet.has_all(2)
}

/// Nobody waits for a slave that has nothing to do with it.
#[test]
fn a_slave_that_does_not_answer_holds_up_no_hand_over() -> Result<()> {
    let _turn = Turn::wait();
    let mut fleet = Fleet::start("held-up", Make::Gantry, 2)?;
    fleet.signal(2, Signal::SIGSTOP)?;
    let said = fleet.promote(1, &[])?;
    let place = |words: &str| said.find(words);
    let (promoted, untold) = (place("since promotion 1.1"), place("cannot be told"));
    ensure!(promoted.is_some() && promoted < untold, "{said}");
    fleet.signal(2, Signal::SIGCONT)?;
    // It hears of it by itself.
    fleet.acknowledges(1)?;
    fleet.fill(1)?;
    fleet.has_all(2)?;
    fleet.same_log(1, 2)
}

/// The master lost its end, and one slave only was there when it went on: both slaves had followed it when they asked last,
/// and each has what the other lacks.
#[test]
fn slaves_with_different_logs_are_compared_before_one_is_promoted() -> Result<()> {
    let _turn = Turn::wait();
    let mut fleet = Fleet::start("different", Make::Gantry, 2)?;
    let (store, copy) = (fleet.store(0), fleet.room.path().join("copy"));
    fleet.brokers[0].stop()?;
    let mut copying = Command::new("cp");
    run("the copy", copying.arg("-a").args([&store, &copy]))?;
    fleet.brokers[0].start()?;
    fleet.acknowledges(0)?;
    let before = fleet.ledger.len();
    fleet.fill(0)?;
    fleet.has_all(1)?;
    fleet.vouches(1)?;
    fleet.brokers[1].stop()?;
    fleet.brokers[0].kill()?;
    std::fs::remove_dir_all(&store)?;
    std::fs::rename(&copy, &store)?;
    // What it lost is lost; it is what it took since that counts.
    fleet.ledger.truncate(before);
    fleet.brokers[0].start()?;
    fleet.acknowledges(0)?;
    fleet.fill(0)?;
    fleet.vouches(2)?;
    fleet.brokers[0].kill()?;
    fleet.brokers[1].start()?;
    fleet.are_registered(&[1, 2])?;
    for (slave, other) in [(1, 2), (2, 1)] {
        let [address, other] = [slave, other].map(|slave| fleet.brokers[slave].address());
        until("the two to be compared", || {
            let said = fleet.refused(&["promote", "-b", &address, "-s", "2"])?;
            Ok(said.contains(&format!("its log and that of {other} are not the same")))
        })?;
    }
    ensure!(
        fleet.status(1)?.contains("SLAVE, log"),
        "nothing has changed"
    );
    fleet.promote(2, &["-s", "2", "--accept-loss", "all"])?;
    fleet.acknowledges(2)?;
    fleet.has_all(2)?;
    // What only the other one had goes to its quarantine.
    fleet.same_log(2, 1)?;
    let kept = std::fs::read_dir(fleet.store(1).join("quarantine"))?.count();
    ensure!(0 < kept, "nothing was kept");
    Ok(())
}
