//! `cargo xtask bench store`: what the store promises in figures, each beside what it is to be compared with.
//!
//! Start to serving with 10 GB, 50 000 queues against 8, synchronous flush against Apache and against the disk's own
//! rate, sends while a consumer reads what is no longer in memory. (Sends while old files are deleted are in `deletion`.)
//! Everything is measured through a broker that runs as shipped; what is compared alternates in one run. `--quick` takes smaller stores and
//! shorter windows: it shows that everything works, not how fast.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::bench::{median, middle};
use crate::servers::{Apache, Daemon, free_port};
use crate::shell::{self, build_programs, number, only_options, option, target};

/// A part of the measurement and its name.
type Part = (&'static str, fn(&Bench) -> Result<()>);

const PARTS: [Part; 4] = [
    ("start", Bench::start),
    ("queues", Bench::queues),
    ("sync", Bench::sync),
    ("cold", Bench::cold),
];

/// A rate that leaves room on any machine: the question is what happens to the answers' times.
const COLD_RATE: &str = "10000";

struct Bench {
    programs: PathBuf,
    folder: PathBuf,
    quick: bool,
    apache: bool,
    rounds: usize,
    seconds: u64,
}

/// Measures the parts asked for, or all.
pub(crate) fn run(args: &[String]) -> Result<()> {
    only_options(
        args,
        &["--quick", "--no-apache"],
        &["--only", "--dir", "--rounds", "--seconds"],
    )?;
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let quick = has("--quick");
    let only = option(args, "--only")?;
    if let Some(name) = only.filter(|name| PARTS.iter().all(|(part, _)| part != name)) {
        bail!("--only {name}: the parts are start, queues, sync and cold");
    }
    let bench = Bench {
        programs: build_programs()?,
        folder: option(args, "--dir")?.map_or_else(|| target().join("bench-store"), PathBuf::from),
        quick,
        apache: !has("--no-apache"),
        rounds: usize::try_from(number(args, "--rounds", if quick { 1 } else { 3 })?)?.max(1),
        seconds: number(args, "--seconds", if quick { 2 } else { 4 })?.max(1),
    };
    let measured = PARTS
        .iter()
        .filter(|(part, _)| only.is_none_or(|name| name == *part))
        .try_for_each(|(part, measure)| {
            bench.clear()?;
            let measured = measure(&bench).with_context(|| (*part).to_owned());
            bench.clear()?;
            measured
        });
    bench.clear()?;
    measured
}

impl Bench {
    fn clear(&self) -> Result<()> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        Ok(())
    }

    fn by_size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Starts a broker on the store of that name.
    fn broker(&self, name: &str, more: &[&str]) -> Result<Daemon> {
        let folder = self.folder.join(name);
        let mut lines = vec![
            "brokerName=broker-a".to_owned(),
            "brokerIP1=127.0.0.1".to_owned(),
            "deleteWhen=".to_owned() + quiet_hour()?,
            "diskMaxUsedSpaceRatio=95".to_owned(),
            format!("storePathRootDir={}", folder.join("store").display()),
        ];
        lines.extend(more.iter().map(|&line| line.to_owned()));
        Daemon::start(&self.programs, "mqbroker", folder, free_port()?, &lines)
    }

    fn tool(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("mqbench"));
        command.args(args);
        command
    }

    fn fill(&self, broker: &Daemon, args: &[&str]) -> Result<()> {
        let mut command = self.tool(&["fill", "--create-topic", "--json"]);
        let said = shell::output(command.args(["--broker", &broker.address()]).args(args))?;
        let said: Value = serde_json::from_str(said.trim())?;
        println!(
            "  filled with {} messages in {:.0} s",
            said["messages"],
            said["seconds"].as_f64().unwrap_or_default()
        );
        Ok(())
    }

    /// Runs a measuring command of `mqbench` against a server.
    fn measure(&self, args: &[&str], address: &str, pid: u32) -> Result<Value> {
        let mut command = self.tool(args);
        command.args(["--broker", address, "--pid", &pid.to_string()]);
        command.args([
            "--time",
            &self.seconds.to_string(),
            "--warmup",
            "1",
            "--json",
        ]);
        let said = shell::output(&mut command)?;
        let value: Value = serde_json::from_str(said.trim()).with_context(|| said.clone())?;
        if value["refused"]
            .as_object()
            .is_some_and(|codes| !codes.is_empty())
        {
            bail!("messages were refused: {value}");
        }
        Ok(value)
    }

    fn in_background(&self, args: &[&str], broker: &Daemon) -> Result<Background> {
        let mut command = self.tool(args);
        command.args(["--broker", &broker.address(), "--json", "--time", "3600"]);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Background(child))
    }

    /// Start to serving with many bytes and 1 000 queues: after a clean stop, and after a kill in the middle of sends.
    fn start(&self) -> Result<()> {
        let bytes = self.by_size("10g", "1g");
        println!("start to serving, {bytes} in 20 x 50 queues");
        let mut broker = self.broker("start", &[])?;
        let shape = ["--topics", "20", "--queues", "50"];
        self.fill(&broker, &[&shape[..], &["--bytes", bytes]].concat())?;
        let (mut clean, mut killed, mut idle) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            broker.stop()?;
            broker = self.broker("start", &[])?;
            clean.push(broker.started_in.as_secs_f64());
            let load = ["send", "--connections", "16", "--in-flight", "32"];
            let sends = self.in_background(&[&load[..], &shape[..]].concat(), &broker)?;
            std::thread::sleep(Duration::from_secs(2));
            broker.kill()?;
            drop(sends);
            broker = self.broker("start", &[])?;
            killed.push(broker.started_in.as_secs_f64());
            broker.kill()?;
            broker = self.broker("start", &[])?;
            idle.push(broker.started_in.as_secs_f64());
        }
        broker.stop()?;
        row(
            "after a clean stop",
            &format!("{:.3} s", middle(&mut clean)),
            "0.3 s",
        );
        row(
            "after kill -9 under full load",
            &format!("{:.3} s", middle(&mut killed)),
            "2 s",
        );
        row(
            "after kill -9 at rest",
            &format!("{:.3} s", middle(&mut idle)),
            "2 s",
        );
        println!();
        Ok(())
    }

    /// Many queues: start, memory, descriptors, and sends to them against sends to eight.
    fn queues(&self) -> Result<()> {
        let topics = self.by_size("1000", "200");
        println!("{topics} topics x 50 queues");
        let mut broker = self.broker("queues", &[])?;
        let many = ["--topics", topics, "--queues", "50"];
        self.fill(
            &broker,
            &[&many[..], &["--bytes", "200m", "--size", "1024"]].concat(),
        )?;
        let few = ["--topic", "few", "--create-topic", "--queues", "8"];
        self.measure(
            &[&["send"], &few[..]].concat(),
            &broker.address(),
            broker.pid(),
        )?;
        for (shape, connections, in_flight) in [("32x1", "32", "1"), ("16x32", "16", "32")] {
            let load = [
                "send",
                "--connections",
                connections,
                "--in-flight",
                in_flight,
            ];
            let (mut rates, mut costs) = (Vec::new(), Vec::new());
            for _ in 0..self.rounds {
                let run = |to: &[&str]| {
                    self.measure(&[&load[..], to].concat(), &broker.address(), broker.pid())
                };
                let (many, few) = (run(&many)?, run(&few)?);
                rates.push(
                    number_at(&many, "/messages_per_second")
                        / number_at(&few, "/messages_per_second"),
                );
                let cost = "/server_cpu_us_per_message";
                costs.push(number_at(&many, cost) / number_at(&few, cost));
            }
            let said = format!(
                "{:.2} of the rate, {:.2} of the CPU",
                middle(&mut rates),
                middle(&mut costs)
            );
            row(
                &format!("sends {shape}, against 8 queues"),
                &said,
                "0.75 of the rate",
            );
        }
        let memory = broker.memory()?;
        let own = memory.resident - memory.of_files;
        row(
            "resident memory",
            &format!("{own:.0} MiB, and {:.0} MiB of mapped log", memory.of_files),
            "300 MB",
        );
        let held = |what: &str| {
            Ok::<_, anyhow::Error>(fs::read_dir(format!("/proc/{}/{what}", broker.pid()))?.count())
        };
        let maps = fs::read_to_string(format!("/proc/{}/maps", broker.pid()))?
            .lines()
            .count();
        let map_max = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
        row("descriptors", &held("fd")?.to_string(), "none per queue");
        row(
            "maps",
            &maps.to_string(),
            &format!("none per queue (limit {})", map_max.trim()),
        );
        let (mut clean, mut killed) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            broker.stop()?;
            broker = self.broker("queues", &[])?;
            clean.push(broker.started_in.as_secs_f64());
            let load = ["send", "--connections", "16", "--in-flight", "32"];
            let sends = self.in_background(&[&load[..], &many[..]].concat(), &broker)?;
            std::thread::sleep(Duration::from_secs(2));
            broker.kill()?;
            drop(sends);
            broker = self.broker("queues", &[])?;
            killed.push(broker.started_in.as_secs_f64());
        }
        row(
            "start after a clean stop",
            &format!("{:.3} s", middle(&mut clean)),
            "10 s",
        );
        row(
            "start after kill -9 under full load",
            &format!("{:.3} s", middle(&mut killed)),
            "10 s",
        );
        broker.stop()?;
        println!();
        Ok(())
    }

    /// Synchronous flush against Apache's, against asynchronous flush and against the disk.
    fn sync(&self) -> Result<()> {
        println!("synchronous flush, 1 KiB");
        fs::create_dir_all(&self.folder)?;
        for (shape, connections, in_flight) in [("32x1", "32", "1"), ("16x32", "16", "32")] {
            let load = [
                "send",
                "--create-topic",
                "--connections",
                connections,
                "--in-flight",
                in_flight,
            ];
            let mut runs: [Vec<Value>; 5] = Default::default();
            for _ in 0..self.rounds {
                let dir = self.folder.display().to_string();
                for (place, size) in [(0, "1024"), (1, "32768")] {
                    let args = ["sync", "--dir", &dir, "--size", size];
                    runs[place].push(self.measure(&args, "none", std::process::id())?);
                }
                for (place, kind) in [(2, "SYNC_FLUSH"), (3, "ASYNC_FLUSH")] {
                    let mut broker = self.broker("sync", &[&format!("flushDiskType={kind}")])?;
                    runs[place].push(self.measure(&load, &broker.address(), broker.pid())?);
                    broker.kill()?;
                    fs::remove_dir_all(self.folder.join("sync"))?;
                }
                if self.apache {
                    let apache = Apache::start(
                        self.folder.join("apache"),
                        &["--set", "flushDiskType=SYNC_FLUSH"],
                    )?;
                    runs[4].push(self.measure(&load, &apache.address, apache.pid)?);
                }
            }
            let [disk, disk_32, ours, without, apache] = runs
                .each_ref()
                .map(|runs| median(runs, "/messages_per_second"));
            let p50 = median(&runs[2], "/latency_us/p50");
            row(
                &format!("{shape}, messages/s"),
                &format!("{ours:.0} (p50 {p50:.0} us)"),
                "3 x Apache or 0.8 x asynchronous",
            );
            row(
                "  against asynchronous flush",
                &format!("{:.2} of {without:.0}", ours / without),
                "0.80",
            );
            row(
                "  against Apache's synchronous flush",
                &format!("{:.2} x {apache:.0}", ours / apache),
                "3",
            );
            row(
                "  against the disk's write and fdatasync",
                &format!(
                    "{:.1} x {disk:.0} (1 KiB), {:.1} x {disk_32:.0} (32 KiB)",
                    ours / disk,
                    ours / disk_32
                ),
                "",
            );
        }
        println!();
        Ok(())
    }

    /// Senders at a fixed rate, alone and beside a consumer whose messages are on disk only.
    fn cold(&self) -> Result<()> {
        let bytes = self.by_size("4g", "1g");
        println!("sends at {COLD_RATE}/s while {bytes} are read that are not in memory");
        let mut broker = self.broker("cold", &[])?;
        self.fill(
            &broker,
            &["--topic", "old", "--queues", "50", "--bytes", bytes],
        )?;
        broker.stop()?;
        let mut broker = self.broker("cold", &[])?;
        let dir = self.folder.join("cold/store").display().to_string();
        let load = [
            "send",
            "--topic",
            "new",
            "--create-topic",
            "--rate",
            COLD_RATE,
        ];
        let mut runs: [Vec<Value>; 2] = Default::default();
        for _ in 0..self.rounds {
            for (place, reads) in [(0, false), (1, true)] {
                shell::output(&mut self.tool(&["evict", "--sync", "--dir", &dir]))?;
                let pull = [
                    "pull",
                    "--topic",
                    "old",
                    "--queues",
                    "4",
                    "--connections",
                    "4",
                ];
                let reader = reads
                    .then(|| self.in_background(&pull, &broker))
                    .transpose()?;
                runs[place].push(self.measure(&load, &broker.address(), broker.pid())?);
                drop(reader);
            }
        }
        times(["alone", "with the reader"], &runs);
        broker.stop()?;
        println!();
        Ok(())
    }
}

pub(crate) fn row(what: &str, found: &str, expected: &str) {
    let expected = if expected.is_empty() {
        String::new()
    } else {
        format!("expected {expected}")
    };
    println!("  {what:42} {found:44} {expected}");
}

/// Two loads of one rate: their answers' times, and how these compare pair by pair.
fn times(names: [&str; 2], runs: &[Vec<Value>; 2]) {
    println!(
        "  {:20} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "", "messages/s", "p50 us", "p99 us", "p99.9 us", "max us"
    );
    for (name, runs) in names.iter().zip(runs) {
        let figure = |key: &str| median(runs, key);
        println!(
            "  {name:20} {:>10.0} {:>10.0} {:>10.0} {:>10.0} {:>10.0}",
            figure("/messages_per_second"),
            figure("/latency_us/p50"),
            figure("/latency_us/p99"),
            figure("/latency_us/p99.9"),
            figure("/latency_us/max")
        );
    }
    let ratio = |key: &str| {
        let pairs = runs[0].iter().zip(&runs[1]);
        middle(
            &mut pairs
                .map(|(one, other)| number_at(other, key) / number_at(one, key))
                .collect::<Vec<_>>(),
        )
    };
    println!(
        "  {:20} {:>10.2} {:>10.2} {:>10.2} {:>10.2} {:>10.2}",
        "median of ratios",
        ratio("/messages_per_second"),
        ratio("/latency_us/p50"),
        ratio("/latency_us/p99"),
        ratio("/latency_us/p99.9"),
        ratio("/latency_us/max")
    );
}

fn number_at(run: &Value, key: &str) -> f64 {
    run.pointer(key).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// An hour of the day that is not near.
fn quiet_hour() -> Result<&'static str> {
    let hour = shell::output(Command::new("date").arg("+%H"))?;
    let hour: u32 = hour.trim().parse()?;
    Ok(if (6..18).contains(&hour) { "00" } else { "12" })
}

/// A load that runs until this is dropped.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself, with the broker.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
