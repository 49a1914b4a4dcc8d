//! `cargo xtask bench replication`: what a slave costs, Gantry and Apache's broker in turn.
//!
//! A master and its slave run on this machine, so both sides and the load share its cores. `sync`: sends to a SYNC_MASTER
//! against sends to an ASYNC_MASTER with a slave too, against Apache's pair, and against a master without a slave.
//! `lag`: how long after the master its slave has a message, at 70 % of what the pair takes.
//! `catchup`: how fast an empty slave gets a log, against what the loopback moves.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::bench::{median, middle};
use crate::bench_store::row;
use crate::servers::{Apache, Daemon, Line, free_port};
use crate::shell::{self, build_programs, number, only_options, option, target};

const SHAPES: [(&str, &str, &str); 3] = [
    ("1x1", "1", "1"),
    ("32x1", "32", "1"),
    ("16x32", "16", "32"),
];
/// What is measured in each shape.
const SUBJECTS: [(&str, Subject); 5] = [
    ("Gantry, no slave", Subject::Alone),
    ("Gantry, ASYNC_MASTER", Subject::Ours("ASYNC_MASTER")),
    ("Gantry, SYNC_MASTER", Subject::Ours("SYNC_MASTER")),
    ("Apache, ASYNC_MASTER", Subject::Apaches("ASYNC_MASTER")),
    ("Apache, SYNC_MASTER", Subject::Apaches("SYNC_MASTER")),
];
const ATTACH_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Subject {
    Alone,
    Ours(&'static str),
    Apaches(&'static str),
}

struct Bench {
    programs: PathBuf,
    folder: PathBuf,
    rounds: usize,
    seconds: u64,
    gib: u64,
}

/// Measures the parts asked for, or both.
pub(crate) fn run(args: &[String]) -> Result<()> {
    only_options(
        args,
        &[],
        &["--only", "--rounds", "--seconds", "--gib", "--programs"],
    )?;
    let only = option(args, "--only")?;
    if let Some(name) = only.filter(|name| !["sync", "lag", "catchup"].contains(name)) {
        bail!("--only {name}: the parts are sync, lag and catchup");
    }
    let bench = Bench {
        programs: match option(args, "--programs")? {
            Some(folder) => folder.into(),
            None => build_programs()?,
        },
        folder: target().join("bench-replication"),
        rounds: usize::try_from(number(args, "--rounds", 3)?)?.max(1),
        seconds: number(args, "--seconds", 5)?.max(1),
        gib: number(args, "--gib", 10)?.max(1),
    };
    if only.is_none_or(|name| name == "sync") {
        bench.sync()?;
    }
    if only.is_none_or(|name| name == "lag") {
        bench.lag()?;
    }
    if only.is_none_or(|name| name == "catchup") {
        bench.catch_up()?;
    }
    bench.clear()
}

impl Bench {
    fn clear(&self) -> Result<()> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        Ok(())
    }

    fn broker(&self, name: &str, more: &[String]) -> Result<Daemon> {
        let folder = self.folder.join(name);
        let mut lines = vec![
            "brokerName=broker-a".to_owned(),
            "brokerIP1=127.0.0.1".to_owned(),
            "haPeers=127.0.0.1".to_owned(),
            format!("storePathRootDir={}", folder.join("store").display()),
        ];
        lines.extend_from_slice(more);
        Daemon::start(&self.programs, "mqbroker", folder, free_port()?, &lines)
    }

    fn slave_of(&self, master: &Daemon) -> Result<Daemon> {
        self.broker(
            "slave",
            &[
                "brokerRole=SLAVE".to_owned(),
                "brokerId=1".to_owned(),
                format!("haMasterAddress=127.0.0.1:{}", master.port + 1),
            ],
        )
    }

    /// Where a broker's log ends, as its runtime info says.
    fn end(&self, address: &str) -> Result<u64> {
        let said = shell::output(Command::new(self.programs.join("mqadmin")).args([
            "brokerStatus",
            "-b",
            address,
        ]))?;
        let line = said
            .lines()
            .find(|line| line.starts_with("commitLogMaxOffset"));
        let end = line.and_then(|line| line.rsplit([' ', ':']).next());
        end.context("no commitLogMaxOffset")?
            .trim()
            .parse()
            .with_context(|| said.clone())
    }

    /// Waits until the slave has what the master has.
    fn attached(&self, master: &str, slave: &str) -> Result<()> {
        let deadline = Instant::now() + ATTACH_PATIENCE;
        loop {
            let (wanted, has) = (self.end(master)?, self.end(slave)?);
            if wanted != 0 && wanted == has {
                return Ok(());
            }
            if deadline < Instant::now() {
                bail!("the slave has {has} of {wanted} bytes");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn send(&self, address: &str, pid: u32, load: &[&str], seconds: u64) -> Result<Value> {
        let mut command = Command::new(self.programs.join("mqbench"));
        command
            .args(["send", "--create-topic", "--json"])
            .args(load);
        command.args(["--broker", address, "--pid", &pid.to_string()]);
        command.args(["--time", &seconds.to_string(), "--warmup", "1"]);
        let said = shell::output(&mut command)?;
        serde_json::from_str(said.trim()).with_context(|| said.clone())
    }

    /// One measurement; everything answered must have been a success.
    fn measure(&self, subject: Subject, load: &[&str]) -> Result<Value> {
        self.clear()?;
        let run = |address: &str, pid: u32, slave: Option<&str>| {
            // The first message makes the topic and gives the slave something to have.
            self.send(address, pid, &["--connections", "1"], 1)?;
            if let Some(slave) = slave {
                self.attached(address, slave)?;
            }
            let value = self.send(address, pid, load, self.seconds)?;
            if value["refused"]
                .as_object()
                .is_some_and(|codes| !codes.is_empty())
            {
                bail!("messages were refused: {value}");
            }
            Ok(value)
        };
        match subject {
            Subject::Alone => {
                let master = self.broker("master", &[])?;
                run(&master.address(), master.pid(), None)
            }
            Subject::Ours(role) => {
                let master = self.broker("master", &[format!("brokerRole={role}")])?;
                let slave = self.slave_of(&master)?;
                run(&master.address(), master.pid(), Some(&slave.address()))
            }
            Subject::Apaches(role) => {
                let master = Apache::start(self.folder.join("apache"), &["--role", role])?;
                let ha = format!("haMasterAddress={}", master.ha);
                let slave = Apache::start(
                    self.folder.join("apache-slave"),
                    &[
                        "--id",
                        "1",
                        "--set",
                        &ha,
                        "--set",
                        "haSendHeartbeatInterval=500",
                    ],
                )?;
                run(&master.address, master.pid, Some(&slave.address))
            }
        }
    }

    fn sync(&self) -> Result<()> {
        for (shape, connections, in_flight) in SHAPES {
            let load = ["--connections", connections, "--in-flight", in_flight];
            let mut runs: [Vec<Value>; SUBJECTS.len()] = Default::default();
            for _ in 0..self.rounds {
                for (runs, (name, subject)) in runs.iter_mut().zip(SUBJECTS) {
                    let value = self
                        .measure(subject, &load)
                        .with_context(|| name.to_owned())?;
                    runs.push(value);
                }
            }
            println!("send, {shape}, 1 KiB, medians of {}", self.rounds);
            for (runs, (name, _)) in runs.iter().zip(SUBJECTS) {
                let figure = |key: &str| median(runs, key);
                println!(
                    "  {name:24} {:>9.0} messages/s, master's CPU {:>6.1} us, p50 {:>6.0} us, p99 {:>6.0} us",
                    figure("/messages_per_second"),
                    figure("/server_cpu_us_per_message"),
                    figure("/latency_us/p50"),
                    figure("/latency_us/p99")
                );
            }
            let rate = |at: usize| median(&runs[at], "/messages_per_second");
            let p50 = |at: usize| median(&runs[at], "/latency_us/p50");
            let percent = |to: usize, from: usize| 100.0 * (rate(to) / rate(from) - 1.0);
            row(
                "synchronous against asynchronous",
                &format!(
                    "{:+.0} % (Apache {:+.0} %), p50 {:+.0} us",
                    percent(2, 1),
                    percent(4, 3),
                    p50(2) - p50(1)
                ),
                if shape == "16x32" { "-10 %" } else { "-20 %" },
            );
            row(
                "synchronous against Apache's",
                &format!("{:.1} times", rate(2) / rate(4)),
                if shape == "16x32" { "5" } else { "3" },
            );
            println!();
        }
        Ok(())
    }

    /// Where both logs end is asked a thousand times a second; the lag of what the master had when it was asked is until
    /// the slave's answer that has it, so the time of both questions counts too.
    fn lag(&self) -> Result<()> {
        let load = ["--connections", "32"];
        let (mut middles, mut tails, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            self.clear()?;
            let master = self.broker("master", &["brokerRole=ASYNC_MASTER".to_owned()])?;
            let slave = self.slave_of(&master)?;
            let (address, pid) = (master.address(), master.pid());
            self.send(&address, pid, &["--connections", "1"], 1)?;
            self.attached(&address, &slave.address())?;
            let most = self.send(&address, pid, &load, self.seconds)?;
            let most = most["messages_per_second"].as_f64().context("no rate")?;
            let rate = format!("{:.0}", 0.7 * most);
            let watches = [Watch::start(master.port), Watch::start(slave.port)];
            let load = [&load[..], &["--rate", &rate]].concat();
            self.send(&address, pid, &load, self.seconds)?;
            // What the master had last needs its answer, too.
            self.attached(&address, &slave.address())?;
            let [ours, theirs] = watches.map(Watch::stop);
            let mut lags = lags(&ours?, &theirs?);
            let at = |part: usize| lags.len().saturating_sub(1) * part / 100;
            let (half, most_of_it) = (at(50), at(99));
            lags.sort_by(f64::total_cmp);
            middles.push(*lags.get(half).context("no samples")?);
            tails.push(*lags.get(most_of_it).context("no samples")?);
            rates.push(0.7 * most);
        }
        println!(
            "lag of a slave at 70 % of 32x1, {:.0} messages/s, median of {}",
            middle(&mut rates),
            self.rounds
        );
        row("p50", &format!("{:.2} ms", middle(&mut middles)), "");
        row("p99", &format!("{:.2} ms", middle(&mut tails)), "5 ms");
        println!();
        Ok(())
    }

    fn catch_up(&self) -> Result<()> {
        self.clear()?;
        let gib = self.gib;
        let master = self.broker("master", &["diskMaxUsedSpaceRatio=95".to_owned()])?;
        let bytes = format!("{gib}g");
        let mut fill = Command::new(self.programs.join("mqbench"));
        fill.args(["fill", "--create-topic", "--json", "--bytes", &bytes])
            .args(["--broker", &master.address()]);
        shell::output(&mut fill)?;
        let end = self.end(&master.address())?;
        let mut rates = Vec::new();
        for _ in 0..self.rounds {
            let began = Instant::now();
            let mut slave = self.slave_of(&master)?;
            self.attached_within(&slave.address(), end, Duration::from_secs(600))?;
            rates.push(mb(end) / began.elapsed().as_secs_f64());
            slave.kill()?;
            fs::remove_dir_all(self.folder.join("slave"))?;
        }
        println!("an empty slave gets {gib} GiB, median of {}", self.rounds);
        let (ours, limit) = (middle(&mut rates), loopback()?);
        row(
            "from its start to the end of the log",
            &format!(
                "{ours:.0} MB/s, {:.2} of the loopback's {limit:.0}",
                ours / limit
            ),
            "",
        );
        println!();
        Ok(())
    }

    fn attached_within(&self, slave: &str, end: u64, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.end(slave)? < end {
            if deadline < Instant::now() {
                bail!("the slave has {} of {end} bytes", self.end(slave)?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// When a broker was asked, when it had answered, and where its log ended in between.
type Sample = (Instant, Instant, u64);

/// Asks a broker for the end of its log, again and again.
struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Sample>>>,
}

impl Watch {
    fn start(port: u16) -> Watch {
        const HA_STATUS: i32 = 46002;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = std::thread::spawn(move || {
            let (mut line, mut samples) = (Line::open(port)?, Vec::new());
            while !over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let said: Value = serde_json::from_slice(&line.ask(HA_STATUS)?)?;
                let end = said["maxOffset"].as_u64().context("no maxOffset")?;
                samples.push((asked, Instant::now(), end));
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(samples)
        });
        Watch { is_over, thread }
    }

    fn stop(self) -> Result<Vec<Sample>> {
        self.is_over.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(samples) => samples,
            Err(_) => bail!("the thread that asked for the end of a log failed"),
        }
    }
}

/// For each end that the master had, until when the slave had it; in ms.
fn lags(master: &[Sample], slave: &[Sample]) -> Vec<f64> {
    let mut has = slave.iter().peekable();
    let mut lags = Vec::new();
    for (asked, _, end) in master {
        // Ends only grow, so who has the next one has it later.
        while has.next_if(|(_, _, has)| has < end).is_some() {}
        if let Some((_, answered, _)) = has.peek() {
            let lag = answered.saturating_duration_since(*asked);
            lags.push(lag.as_secs_f64() * 1e3);
        }
    }
    lags
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// MB/s that one connection over the loopback moves, with nothing done to the bytes.
fn loopback() -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let sending = std::thread::spawn(move || {
        let block = vec![1; 1 << 20];
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until && sender.write_all(&block).is_ok() {}
    });
    let (began, mut buffer, mut total) = (Instant::now(), vec![0; 1 << 20], 0);
    loop {
        match receiver.read(&mut buffer)? {
            0 => break,
            len => total += u64::try_from(len)?,
        }
    }
    if sending.join().is_err() {
        bail!("the sender of the loopback's limit failed");
    }
    Ok(mb(total) / began.elapsed().as_secs_f64())
}
