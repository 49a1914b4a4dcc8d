//! `cargo xtask bench`: Gantry, Apache's broker and a server that only writes, measured in turn on this machine.
//!
//! Figures of one run are compared with each other, never with those of another machine or hour: rounds alternate, and
//! the median of the rounds counts.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::deletion::Deletion;
use crate::servers::{Daemon, free_port, lab, memory};
use crate::shell::{self, build_programs, number, only_options, option, target};

/// Connections and requests in flight on each.
const SHAPES: [(&str, u32, u32); 2] = [("32x1", 32, 1), ("16x32", 16, 32)];

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Gantry,
    Apache,
    Null,
}

const SUBJECTS: [(Subject, &str); 3] = [
    (Subject::Gantry, "Gantry"),
    (Subject::Apache, "Apache 4.9.7"),
    (Subject::Null, "writing null server"),
];

/// Medians of one subject in one shape.
struct Figures {
    rate: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
}

/// Runs everything and prints tables.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some((first, rest)) = args.split_first()
        && first == "store"
    {
        return crate::bench_store::run(rest);
    }
    if let Some((first, rest)) = args.split_first()
        && first == "replication"
    {
        return crate::bench_replication::run(rest);
    }
    only_options(args, &[], &["--seconds", "--rounds", "--only", "--files"])?;
    let seconds = number(args, "--seconds", 10)?;
    let rounds = usize::try_from(number(args, "--rounds", 3)?)?.max(1);
    let only = option(args, "--only")?;
    let bench = Bench {
        programs: build_programs()?,
        folder: target().join("bench"),
        seconds,
    };
    if bench.folder.exists() {
        fs::remove_dir_all(&bench.folder)?;
    }
    // Not with the others: it takes as many GiB of disk as files.
    if only == Some("deletion") {
        let Bench {
            programs, folder, ..
        } = bench;
        let files = number(args, "--files", 20)?;
        return Deletion {
            programs,
            folder,
            files,
        }
        .run(rounds);
    }
    if only.is_none() || only == Some("idle") {
        bench.idle(rounds)?;
    }
    for (shape, connections, in_flight) in SHAPES {
        if only.is_some_and(|name| name != shape) {
            continue;
        }
        let mut results: Vec<Vec<Value>> = vec![Vec::new(); SUBJECTS.len()];
        for round in 0..rounds {
            for (place, (subject, name)) in SUBJECTS.iter().enumerate() {
                let result = bench
                    .send(*subject, connections, in_flight)
                    .with_context(|| format!("{name}, {shape}, round {round}"))?;
                println!(
                    "{shape} round {}: {name}: {:.0} messages/s",
                    round + 1,
                    result["messages_per_second"].as_f64().unwrap_or_default()
                );
                results[place].push(result);
            }
        }
        table(shape, rounds, &results);
    }
    if only.is_none() || only == Some("wake") {
        bench.wake(rounds)?;
    }
    Ok(())
}

fn table(shape: &str, rounds: usize, results: &[Vec<Value>]) {
    let figures: Vec<Figures> = results
        .iter()
        .map(|runs| Figures {
            rate: median(runs, "/messages_per_second"),
            cpu_us: median(runs, "/server_cpu_us_per_message"),
            p50_us: median(runs, "/latency_us/p50"),
            p99_us: median(runs, "/latency_us/p99"),
        })
        .collect();
    println!("\nsend, {shape} (connections x in flight), 1 KiB, medians of {rounds}");
    println!(
        "{:22} {:>12} {:>12} {:>10} {:>10}",
        "", "messages/s", "CPU us/msg", "p50 us", "p99 us"
    );
    for ((_, name), f) in SUBJECTS.iter().zip(&figures) {
        println!(
            "{name:22} {:>12.0} {:>12.1} {:>10.0} {:>10.0}",
            f.rate, f.cpu_us, f.p50_us, f.p99_us
        );
    }
    println!(
        "Gantry is {:.2} times Apache and {:.0} % of the writing null server\n",
        figures[0].rate / figures[1].rate,
        100.0 * figures[0].rate / figures[2].rate
    );
}

pub(crate) fn median(runs: &[Value], key: &str) -> f64 {
    let mut values: Vec<f64> = runs
        .iter()
        .filter_map(|run| run.pointer(key).and_then(Value::as_f64))
        .collect();
    middle(&mut values)
}

pub(crate) fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

struct Bench {
    programs: PathBuf,
    folder: PathBuf,
    seconds: u64,
}

/// A server under measurement.
enum Running {
    Ours(Daemon),
    Apache {
        folder: PathBuf,
        address: String,
        pid: u32,
    },
    Null {
        child: Child,
        address: String,
    },
}

impl Running {
    fn address(&self) -> String {
        match self {
            Running::Ours(daemon) => daemon.address(),
            Running::Apache { address, .. } | Running::Null { address, .. } => address.clone(),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Running::Ours(daemon) => daemon.pid(),
            Running::Apache { pid, .. } => *pid,
            Running::Null { child, .. } => child.id(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Stores of a measurement are thrown away: no need for a clean end.
        match self {
            Running::Ours(_) => {}
            Running::Apache { folder, .. } => {
                let _ = lab(&["kill", "--dir", &folder.display().to_string()]);
            }
            Running::Null { child, .. } => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl Bench {
    /// Starts a subject on an empty store.
    fn start(&self, subject: Subject) -> Result<Running> {
        let folder = self.folder.join(match subject {
            Subject::Gantry => "gantry",
            Subject::Apache => "apache",
            Subject::Null => "null",
        });
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        match subject {
            Subject::Gantry => self.broker(folder).map(Running::Ours),
            Subject::Apache => {
                let me = std::process::id().to_string();
                let text = folder.display().to_string();
                let said = lab(&["broker", "--dir", &text, "--heap", "2g", "--while", &me])?;
                let word = |name: &str| {
                    said.split_whitespace()
                        .find_map(|word| word.strip_prefix(name))
                        .map(str::to_owned)
                };
                let address = word("addr=").context("no address")?;
                let pid = word("pid=").context("no pid")?.parse()?;
                Ok(Running::Apache {
                    folder,
                    address,
                    pid,
                })
            }
            Subject::Null => {
                let address = format!("127.0.0.1:{}", free_port()?);
                let mut command = Command::new(self.programs.join("mqbench"));
                command
                    .args(["null", "--listen", &address, "--stage", "write", "--write"])
                    .arg(&folder);
                let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
                let running = Running::Null { child, address };
                await_port(&running.address())?;
                Ok(running)
            }
        }
    }

    fn broker(&self, folder: PathBuf) -> Result<Daemon> {
        let lines = [
            "brokerName=broker-a".to_owned(),
            "brokerIP1=127.0.0.1".to_owned(),
            format!("storePathRootDir={}", folder.join("store").display()),
        ];
        Daemon::start(&self.programs, "mqbroker", folder, free_port()?, &lines)
    }

    fn send(&self, subject: Subject, connections: u32, in_flight: u32) -> Result<Value> {
        let server = self.start(subject)?;
        let (connections, in_flight) = (connections.to_string(), in_flight.to_string());
        let mut args = vec![
            "send",
            "--connections",
            &connections,
            "--in-flight",
            &in_flight,
        ];
        if subject != Subject::Null {
            args.push("--create-topic");
        }
        self.mqbench(&server, &args, self.seconds)
    }

    fn mqbench(&self, server: &Running, args: &[&str], seconds: u64) -> Result<Value> {
        let mut command = Command::new(self.programs.join("mqbench"));
        command
            .args(args)
            .args([
                "--broker",
                &server.address(),
                "--pid",
                &server.pid().to_string(),
            ])
            .args(["--time", &seconds.to_string(), "--json"]);
        let text = shell::output(&mut command)?;
        let value: Value = serde_json::from_str(text.trim()).with_context(|| text.clone())?;
        if value["messages_per_second"]
            .as_f64()
            .is_none_or(|rate| rate <= 0.0)
        {
            bail!("nothing was answered: {value}");
        }
        Ok(value)
    }

    /// Exec to serving on an empty store, and memory of daemons that nobody uses.
    fn idle(&self, rounds: usize) -> Result<()> {
        let (mut starts, mut broker_mib, mut name_server_mib) =
            (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let folder = self.folder.join("idle");
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            let mut broker = self.broker(folder.join("broker"))?;
            let kv = folder.join("namesrv/kv.json");
            let lines = [format!("kvConfigPath={}", kv.display())];
            let mut name_server = Daemon::start(
                &self.programs,
                "mqnamesrv",
                folder.join("namesrv"),
                free_port()?,
                &lines,
            )?;
            starts.push(broker.started_in.as_secs_f64() * 1000.0);
            settle(broker.pid())?;
            broker_mib.push(broker.memory()?.resident);
            name_server_mib.push(name_server.memory()?.resident);
            broker.stop()?;
            name_server.stop()?;
        }
        println!("idle, medians of {rounds}");
        println!(
            "exec to serving, empty store  {:>8.0} ms",
            middle(&mut starts)
        );
        println!(
            "resident memory, broker       {:>8.1} MiB",
            middle(&mut broker_mib)
        );
        println!(
            "resident memory, name server  {:>8.1} MiB\n",
            middle(&mut name_server_mib)
        );
        Ok(())
    }

    fn wake(&self, rounds: usize) -> Result<()> {
        println!("a parked pull wakes (from the answer of the send), medians of {rounds}");
        for (subject, name) in &SUBJECTS[..2] {
            let mut runs = Vec::new();
            for _ in 0..rounds {
                let server = self.start(*subject)?;
                runs.push(self.mqbench(
                    &server,
                    &["wake", "--create-topic"],
                    self.seconds.min(5),
                )?);
            }
            println!(
                "{name:22} p50 {:>6.0} us, p99 {:>6.0} us",
                median(&runs, "/latency_us/p50"),
                median(&runs, "/latency_us/p99")
            );
        }
        Ok(())
    }
}

/// Waits until the memory of a process no longer changes.
fn settle(pid: u32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut last = memory(pid)?.resident;
    let mut calm = 0;
    while calm < 5 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
        let now = memory(pid)?.resident;
        calm = if (now - last).abs() < 0.05 {
            calm + 1
        } else {
            0
        };
        last = now;
    }
    Ok(())
}

fn await_port(address: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            bail!("nobody listens on {address}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::middle;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert!((middle(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(middle(&mut []).is_nan());
    }
}
