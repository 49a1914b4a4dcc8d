//! The documented layouts, by their documented lines, on machines of their own: machines die, freeze and lose their
//! cable while a stock Java producer and consumer with default settings are at work.
//!
//! Nothing is set that the documentation does not set, so that these stories last as long as the client's own timers
//! want: it asks for routes every 30 s.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gantry_e2e::clients::{Java, Load};
use gantry_e2e::machines::{Machine, Network};
use gantry_e2e::programs::{room, unpacked};
use gantry_e2e::wait::{Turn, until, until_within};
use nix::sys::signal::Signal;
use tempfile::TempDir;

const TOPIC: &str = "under-load";
/// The client's 30 s until it asks for the route again, three until it tries again where it failed, and the machine's
/// other work.
const ROUTE_REFRESH: Duration = Duration::from_secs(30 + 3 + 12);

/// Four machines and the clients' one; A and B have a name server each.
struct Layout {
    name: &'static str,
    // Machines go before their network.
    a: Machine,
    b: Machine,
    c: Machine,
    d: Machine,
    clients: Machine,
    network: Network,
    home: PathBuf,
    began: Instant,
    room: TempDir,
}

impl Layout {
    fn make(name: &'static str) -> Result<Layout> {
        let room = room(name)?;
        let network = Network::make()?;
        let machine = |name, number| network.machine(room.path(), name, number);
        Ok(Layout {
            name,
            a: machine("a", 1)?,
            b: machine("b", 2)?,
            c: machine("c", 3)?,
            d: machine("d", 4)?,
            clients: machine("clients", 5)?,
            network,
            home: unpacked(room.path())?,
            began: Instant::now(),
            room,
        })
    }

    /// As people write it.
    fn name_servers() -> &'static str {
        "10.99.0.1:9876;10.99.0.2:9876"
    }

    #[expect(clippy::print_stdout, reason = "shown when the story fails")]
    fn step(&self, what: &str) {
        let since = self.began.elapsed().as_secs_f32();
        println!("{} {since:5.1} s: {what}", self.name);
    }

    fn start_name_servers(&self) -> Result<()> {
        for machine in [&self.a, &self.b] {
            let said = "The Name Server boot success";
            let before = machine.log("namesrv.log").matches(said).count();
            machine.typed(&self.home, "cd bin\nnohup sh mqnamesrv &")?;
            until("the name server's line in its log", || {
                Ok(machine.log("namesrv.log").matches(said).count() > before)
            })?;
        }
        Ok(())
    }

    /// Starts the broker of that file and waits for the documented line in its log.
    fn start(&self, machine: &Machine, file: &str) -> Result<()> {
        let name = file.trim_end_matches("-s");
        let said = format!(
            "The broker[{name}, {}:10911] boot success",
            machine.address()
        );
        let before = machine.log("broker.log").matches(&said).count();
        machine.typed(
            &self.home,
            &format!(
                "nohup sh bin/mqbroker -n '{}' -c $ROCKETMQ_HOME/conf/{}/{file}.properties &",
                Self::name_servers(),
                self.name
            ),
        )?;
        let booted = until(&format!("\"{said}\" in broker.log"), || {
            Ok(machine.log("broker.log").matches(&said).count() > before)
        });
        booted.with_context(|| machine.log("broker.log"))
    }

    /// Waits until a slave has what its master has now.
    fn await_copied(&self, master: &Machine, slave: &Machine) -> Result<()> {
        let goal = self.end_of_log(master)?;
        until("the slave to have what its master has", || {
            Ok(self.end_of_log(slave).is_ok_and(|end| end >= goal))
        })
        .with_context(|| {
            format!(
                "{}\n--- slave\n{}",
                master.log("broker.log"),
                slave.log("broker.log")
            )
        })
    }

    fn end_of_log(&self, broker: &Machine) -> Result<u64> {
        let address = broker.address();
        let status = self.clients.typed(
            &self.home,
            &format!("sh bin/mqadmin brokerStatus -b {address}:10911"),
        )?;
        let line = status.lines().find(|l| l.starts_with("commitLogMaxOffset"));
        let value = line
            .and_then(|l| l.split(':').nth(1))
            .context(status.clone())?;
        Ok(value.trim().parse()?)
    }

    fn cluster(&self) -> Result<String> {
        let line = format!("sh bin/mqadmin clusterList -n '{}'", Self::name_servers());
        self.clients.typed(&self.home, &line)
    }

    fn begin(&self) -> Result<Load> {
        let both = Self::name_servers();
        let line = format!("sh bin/mqadmin updateTopic -n '{both}' -c DefaultCluster -t {TOPIC}");
        self.clients.typed(&self.home, &line)?;
        let java = Java::prepare("4.9.8")?;
        java.load_on(&self.clients, both, TOPIC, self.clients.home())
    }

    /// Name servers, all four brokers, and a load that both masters acknowledge.
    fn start_all(&self) -> Result<Load> {
        self.start_name_servers()?;
        self.start(&self.a, "broker-a")?;
        self.start(&self.b, "broker-b")?;
        self.start(&self.c, "broker-a-s")?;
        self.start(&self.d, "broker-b-s")?;
        until("all four in the cluster's list", || {
            let list = self.cluster()?;
            Ok([&self.a, &self.b, &self.c, &self.d]
                .iter()
                .all(|m| list.contains(&format!("{}:10911", m.address()))))
        })?;
        let mut load = self.begin()?;
        // Synchronous masters acknowledge from when their slaves are there.
        await_acked(&mut load, "broker-a", 300)?;
        await_acked(&mut load, "broker-b", 300)?;
        self.await_copied(&self.a, &self.c)?;
        self.await_copied(&self.b, &self.d)?;
        load.await_consumed(300)?;
        Ok(load)
    }

    /// The master of broker-a dies with messages that nobody has read: they are read from its slave.
    fn kill_master_a(&self, load: &mut Load) -> Result<()> {
        load.let_consume(false)?;
        until("messages of broker-a that nobody has read", || {
            Ok(load.figure("unread@broker-a")? > 300)
        })?;
        self.await_copied(&self.a, &self.c)?;
        self.a.kill("mqbroker")?;
        self.step("master a is dead");
        await_acked(load, "broker-b", 500)?;
        let unread = load.figure("unread@broker-a")?;
        ensure!(unread > 300, "only {unread} are left to read");
        load.let_consume(true)?;
        let began = Instant::now();
        until_within(ROUTE_REFRESH, "the consumer to go on at the slave", || {
            Ok(load.figure("unread@broker-a")? == 0)
        })?;
        let took = began.elapsed().as_secs_f32();
        self.step(&format!(
            "{unread} messages read from the slave of a within {took:.1} s"
        ));
        Ok(())
    }

    /// All servers stop by the documented lines and start again.
    fn restart_all(&self, load: &mut Load, brokers: &[(&Machine, &str)]) -> Result<()> {
        let name_servers = [&self.a, &self.b];
        for (machine, _) in brokers {
            machine.typed(&self.home, "sh bin/mqshutdown broker")?;
        }
        for machine in name_servers {
            machine.typed(&self.home, "sh bin/mqshutdown namesrv")?;
        }
        for (machine, _) in brokers {
            machine.await_end("mqbroker")?;
        }
        for machine in name_servers {
            machine.await_end("mqnamesrv")?;
        }
        self.start_name_servers()?;
        for (machine, file) in brokers {
            self.start(machine, file)?;
        }
        for (_, master) in brokers.iter().filter(|(_, file)| !file.ends_with("-s")) {
            await_acked(load, master, 300)?;
        }
        self.step("everything was restarted");
        Ok(())
    }

    fn all(&self) -> [(&Machine, &'static str); 4] {
        [
            (&self.a, "broker-a"),
            (&self.b, "broker-b"),
            (&self.c, "broker-a-s"),
            (&self.d, "broker-b-s"),
        ]
    }

    fn admin(&self, words: &str) -> Result<String> {
        let line = format!("sh bin/mqadmin {words} -n '{}'", Self::name_servers());
        self.clients.typed(&self.home, &line)
    }

    fn end(&self, load: Load) -> Result<()> {
        self.step("the end begins");
        let (counted, text) = load.finish()?;
        fs::write(self.room.path().join("end"), &text)?;
        self.step(&format!("{counted:?}\n{}", last_lines(&text)));
        ensure!(
            counted.missing == 0,
            "{} were not consumed\n{text}",
            counted.missing
        );
        ensure!(counted.lost == 0, "{} are lost\n{text}", counted.lost);
        Ok(())
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join("\n")
}

/// Waits until a broker has acknowledged that many more sends; the producer may have to learn of it first.
fn await_acked(load: &mut Load, broker: &str, more: u64) -> Result<()> {
    let figure = format!("acked@{broker}");
    let goal = load.figure(&figure)? + more;
    until(&format!("{goal} acknowledged by {broker}"), || {
        Ok(load.figure(&figure)? >= goal)
    })
}

fn none_failed(load: &mut Load, when: &str) -> Result<()> {
    let failed = load.counted()?.failed;
    ensure!(failed == 0, "{failed} sends failed {when}");
    Ok(())
}

#[test]
fn two_masters_two_slaves_asynchronous() -> Result<()> {
    let _turn = Turn::alone();
    let layout = Layout::make("2m-2s-async")?;
    let mut load = layout.start_all()?;
    layout.step("everything is up");

    layout.kill_master_a(&mut load)?;
    layout.start(&layout.a, "broker-a")?;
    await_acked(&mut load, "broker-a", 300)?;
    layout.await_copied(&layout.a, &layout.c)?;
    layout.step("master a is back");

    layout.c.kill("mqbroker")?;
    await_acked(&mut load, "broker-a", 300)?;
    layout.start(&layout.c, "broker-a-s")?;
    layout.await_copied(&layout.a, &layout.c)?;
    layout.step("slave a died and is back");

    layout.d.signal("mqbroker", Signal::SIGSTOP)?;
    await_acked(&mut load, "broker-b", 1000)?;
    none_failed(&mut load, "though a master was always there")?;
    layout.d.signal("mqbroker", Signal::SIGCONT)?;
    layout.await_copied(&layout.b, &layout.d)?;
    layout.step("slave b was frozen and has caught up");

    // Master b and a name server lose their cable. Sends to b wait their 3 s and fail: name servers believe in it for
    // two minutes, as Apache's do, and the stock producer has no time left for another broker.
    layout.network.link(&layout.b, false)?;
    let before = load.counted()?.failed;
    until("sends that fail", || Ok(load.counted()?.failed > before))?;
    await_acked(&mut load, "broker-a", 20)?;
    layout.network.link(&layout.b, true)?;
    layout.step("master b was cut off");
    await_acked(&mut load, "broker-b", 300)?;
    layout.await_copied(&layout.b, &layout.d)?;
    layout.step("master b and its slave are back");

    layout.restart_all(&mut load, &layout.all())?;
    layout.await_copied(&layout.a, &layout.c)?;
    layout.await_copied(&layout.b, &layout.d)?;
    layout.end(load)
}

#[test]
fn two_masters_two_slaves_synchronous() -> Result<()> {
    let _turn = Turn::alone();
    let layout = Layout::make("2m-2s-sync")?;
    let mut load = layout.start_all()?;
    layout.step("everything is up");

    // What a synchronous master answers without its slave is SLAVE_NOT_AVAILABLE or FLUSH_SLAVE_TIMEOUT, and such a send
    // is none of the ledger's.
    layout.d.kill("mqbroker")?;
    await_acked(&mut load, "broker-a", 300)?;
    layout.start(&layout.d, "broker-b-s")?;
    await_acked(&mut load, "broker-b", 300)?;
    layout.step("slave b died and is back");

    layout.c.signal("mqbroker", Signal::SIGSTOP)?;
    await_acked(&mut load, "broker-b", 300)?;
    layout.c.signal("mqbroker", Signal::SIGCONT)?;
    await_acked(&mut load, "broker-a", 300)?;
    layout.step("slave a was frozen and acknowledges again");

    layout.network.link(&layout.d, false)?;
    let before = load.counted()?.failed;
    until("sends that do not reach slave b", || {
        Ok(load.counted()?.failed > before)
    })?;
    await_acked(&mut load, "broker-a", 300)?;
    layout.network.link(&layout.d, true)?;
    await_acked(&mut load, "broker-b", 300)?;
    layout.step("slave b was cut off and acknowledges again");

    layout.restart_all(&mut load, &layout.all())?;

    // Now no machine has the only copy of anything acknowledged: master a dies under load and its disk is gone.
    layout.kill_master_a(&mut load)?;
    layout.start(&layout.a, "broker-a")?;
    await_acked(&mut load, "broker-a", 300)?;
    layout.step("master a is back");
    layout.a.kill("mqbroker")?;
    fs::remove_dir_all(layout.a.home().join("store"))?;
    layout.step("master a is dead and its store is deleted");

    // Its slave takes its place. It comes back from nothing with its old configuration, and becomes the new one's slave.
    let (a, c) = (layout.a.address(), layout.c.address());
    until("the slave in its master's place", || {
        let promoted = layout.admin(&format!("promote -b {c}:10911 -s 1"));
        Ok(promoted.is_ok_and(|said| said.contains("since promotion 1.1")))
    })?;
    layout.start(&layout.a, "broker-a")?;
    until("the old master to hear of it", || {
        let status = layout.admin(&format!("haStatus -b {a}:10911"));
        Ok(status.is_ok_and(|said| said.contains("FENCED, promotion 1.1")))
    })?;
    layout.admin(&format!("rejoin -b {a}:10911"))?;
    layout.await_copied(&layout.c, &layout.a)?;
    await_acked(&mut load, "broker-a", 300)?;
    layout.step("slave a is the master, and the old master its slave");
    // A group that begins now finds every acknowledged message, broker-a's in the slave.
    layout.end(load)
}

/// Without slaves what lies on a dead machine cannot be read until it is back, and is all there then. In the end all
/// servers stop by the documented lines and start again.
#[test]
fn two_masters_without_slaves() -> Result<()> {
    let _turn = Turn::alone();
    let layout = Layout::make("2m-noslave")?;
    let masters = [(&layout.a, "broker-a"), (&layout.b, "broker-b")];
    layout.start_name_servers()?;
    for (machine, file) in masters {
        layout.start(machine, file)?;
    }
    let mut load = layout.begin()?;
    for (_, name) in masters {
        await_acked(&mut load, name, 300)?;
    }
    load.await_consumed(300)?;
    layout.step("everything is up");

    load.let_consume(false)?;
    until("messages of broker-a that nobody has read", || {
        Ok(load.figure("unread@broker-a")? > 300)
    })?;
    layout.a.kill("mqbroker")?;
    load.let_consume(true)?;
    await_acked(&mut load, "broker-b", 1000)?;
    let unread = load.figure("unread@broker-a")?;
    ensure!(unread > 300, "who has read them? {unread}");
    layout.start(&layout.a, "broker-a")?;
    until("them to be read", || {
        Ok(load.figure("unread@broker-a")? < unread)
    })?;
    none_failed(&mut load, "though a master was always there")?;
    layout.step("master a died and is back");

    layout.restart_all(&mut load, &masters)?;
    layout.end(load)
}
