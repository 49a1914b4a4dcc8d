//! Stock clients in other languages: fetched and compiled once by their own package tools, then run.
//!
//! Sources are in `clients/`; what is built from them and what is fetched lies below the target folder. A stamp of the
//! sources keeps a second run from doing it again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

use crate::machines::Machine;
use crate::programs::{room, root, run, scratch};
use crate::record::crc32;
use crate::transcript::scenarios;
use crate::wait::until;

/// The Java client lines that must work.
pub const JAVA_CLIENTS: [&str; 2] = ["4.9.8", "5.3.3"];

fn sources(language: &str) -> PathBuf {
    root().join("crates/e2e/clients").join(language)
}

/// Builds into a folder of the scratch space unless that was done from the same sources before.
fn prepared(name: &str, source: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = scratch()?.join("clients").join(name);
    std::fs::create_dir_all(&folder)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join("lock"))?;
    let _lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
    let stamp = stamp(source)?;
    let done = folder.join("stamp");
    if std::fs::read_to_string(&done).is_ok_and(|old| old == stamp) {
        return Ok(folder);
    }
    build(&folder).with_context(|| format!("preparing the client {name}"))?;
    std::fs::write(done, stamp)?;
    Ok(folder)
}

fn stamp(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    let mut stamp = String::new();
    for file in files {
        writeln!(
            stamp,
            "{} {:08x}",
            file.display(),
            crc32(&std::fs::read(&file)?)
        )?;
    }
    Ok(stamp)
}

/// The scenario program for a Java client line.
#[derive(Debug)]
pub struct Java {
    version: &'static str,
    folder: PathBuf,
}

impl Java {
    /// Compiles it with Maven, if that was not done yet.
    pub fn prepare(version: &'static str) -> Result<Java> {
        let source = sources("java");
        let folder = prepared(&format!("java-{version}"), &source, |folder| {
            // Maven writes beside its pom; the checkout stays as it is.
            let copy = folder.join("source");
            copy_folder(&source, &copy)?;
            let mut maven = Command::new("mvn");
            maven
                .args(["-q", "-B", "-f"])
                .arg(copy.join("pom.xml"))
                .arg(format!("-Dclient.version={version}"))
                .arg(format!("-Dout={}", folder.display()))
                .arg("package");
            run("mvn package", &mut maven).map(drop)
        })?;
        Ok(Java { version, folder })
    }

    /// The client's version.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// The command without the program's own arguments. Logs and local offsets go to `home`.
    fn command(&self, timers: Timers, home: &Path) -> Command {
        let mut java = Command::new("java");
        java.arg("-cp")
            .arg(format!("{0}/classes:{0}/lib/*", self.folder.display()))
            .args([
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-Xmx512m",
                "-XX:-UsePerfData",
            ])
            .args([
                "-Dfile.encoding=UTF-8",
                "-Drocketmq.client.logUseSlf4j=true",
            ])
            .arg(format!("-Drocketmq.log.root={}/logs", home.display()))
            .arg(format!("-Duser.home={}", home.display()));
        if timers == Timers::Short {
            java.args([
                "-Drocketmq.client.rebalance.waitInterval=1000",
                "-Drocketmq.client.rebalance.minInterval=200",
            ]);
        }
        java.arg("scenarios.Main");
        java
    }

    /// Plays scenarios and returns their transcript. `args` are further arguments of the program.
    pub fn play(&self, name_servers: &str, prefix: &str, args: &[&str]) -> Result<String> {
        let home = room(&format!("java-{}", self.version))?;
        let mut command = self.command(Timers::Short, home.path());
        command
            .args(["--namesrv", name_servers, "--prefix", prefix])
            .args(args);
        transcript(
            &format!("Java scenarios with client {}", self.version),
            &mut command,
        )
    }

    /// Everything that the stock pull consumer finds in a topic: CRC-32 of the body by queue and offset.
    pub fn read_all(&self, name_servers: &str, topic: &str) -> Result<BTreeMap<(u32, u64), u32>> {
        let home = room("java-reader")?;
        let mut command = self.command(Timers::Short, home.path());
        command.args(["--namesrv", name_servers, "--read", topic]);
        let text = run("the Java reader", &mut command)?;
        let mut found = BTreeMap::new();
        for line in text.lines() {
            let [queue, offset, crc] = line.split(' ').collect::<Vec<_>>()[..] else {
                bail!("the Java reader said {line}");
            };
            let place = (queue.parse()?, offset.parse()?);
            let crc = u32::from_str_radix(crc, 16)?;
            ensure!(found.insert(place, crc).is_none(), "{place:?} came twice");
        }
        Ok(found)
    }

    /// Plays one stage of the story of a store that goes from broker to broker. What it has to remember is in `home`.
    pub fn hand_over(&self, name_servers: &str, stage: u32, home: &Path) -> Result<String> {
        let mut command = self.command(Timers::Short, home);
        let stage = stage.to_string();
        command
            .args(["--namesrv", name_servers, "--hand-over", &stage])
            .arg("--home")
            .arg(home);
        run("the Java witness", &mut command)
    }

    /// Starts the stock producer and consumer that keep a topic busy.
    pub fn load(&self, name_servers: &str, topic: &str, home: &Path) -> Result<Load> {
        let output = home.join("load.log");
        self.start_load(
            self.command(Timers::Default, home),
            output,
            name_servers,
            topic,
        )
    }

    /// [`Self::load`] on a machine of its own, with every setting of both clients as they come: routes are asked for
    /// every 30 s. When it ends, a new group reads everything once more ([`Counted::lost`]).
    pub fn load_on(
        &self,
        machine: &Machine,
        name_servers: &str,
        topic: &str,
        home: &Path,
    ) -> Result<Load> {
        let java = self.command(Timers::Default, home);
        let mut command = machine.command(java.get_program());
        command
            .args(java.get_args())
            .args(["--poll", "30000", "--audit", "yes"]);
        self.start_load(command, home.join("load.log"), name_servers, topic)
    }

    fn start_load(
        &self,
        mut command: Command,
        output: PathBuf,
        name_servers: &str,
        topic: &str,
    ) -> Result<Load> {
        let log = File::create(&output)?;
        command
            .args(["--namesrv", name_servers, "--load", topic])
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut child = command.spawn().context("java")?;
        let stdin = child.stdin.take();
        Ok(Load {
            child,
            stdin,
            output,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timers {
    Default,
    Short,
}

/// A Java program under way, and what it counted.
#[derive(Debug)]
pub struct Load {
    child: Child,
    stdin: Option<ChildStdin>,
    output: PathBuf,
}

/// Counters of a [`Load`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Sends that were acknowledged.
    pub acked: u64,
    /// Sends that ended otherwise.
    pub failed: u64,
    /// Different messages that arrived.
    pub consumed: u64,
    /// Acknowledged, and not consumed in the end.
    pub missing: u64,
    /// Acknowledged, and not found by the new group in the end.
    pub lost: u64,
}

impl Load {
    /// What it has counted so far.
    pub fn counted(&mut self) -> Result<Counted> {
        let text = std::fs::read_to_string(&self.output)?;
        if let Some(status) = self.child.try_wait()? {
            bail!("the load program ended with {status}\n{text}");
        }
        Ok(last_count(&text, "acked="))
    }

    /// Waits until that many more sends were acknowledged than now.
    pub fn await_acked(&mut self, more: u64) -> Result<()> {
        let goal = self.counted()?.acked + more;
        until(&format!("{goal} acknowledged sends"), || {
            Ok(self.counted()?.acked >= goal)
        })
    }

    /// Waits until that many more messages were consumed than now.
    pub fn await_consumed(&mut self, more: u64) -> Result<()> {
        let goal = self.counted()?.consumed + more;
        until(&format!("{goal} consumed messages"), || {
            Ok(self.counted()?.consumed >= goal)
        })
    }

    /// A figure of its last report: `acked@BROKER`, sends that this broker acknowledged; `unread@BROKER`, those of them
    /// that were not consumed yet. 0 if there is no such figure.
    pub fn figure(&mut self, name: &str) -> Result<u64> {
        self.counted()?;
        let text = std::fs::read_to_string(&self.output)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let line = whole.lines().rev().find(|l| l.starts_with("acked="));
        let mut words = line.unwrap_or_default().split(' ');
        let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        Ok(found.map(str::parse).transpose()?.unwrap_or(0))
    }

    /// The consumer asks for no more messages, or does so again.
    pub fn let_consume(&mut self, yes: bool) -> Result<()> {
        let order: &[u8] = if yes { b"r" } else { b"s" };
        let stdin = self.stdin.as_mut().context("no pipe")?;
        Ok(stdin.write_all(order)?)
    }

    /// Lets it come to its end: it waits for everything acknowledged to be consumed. Returns counts and output.
    pub fn finish(mut self) -> Result<(Counted, String)> {
        drop(self.stdin.take());
        let status = self.child.wait()?;
        let text = std::fs::read_to_string(&self.output)?;
        ensure!(
            status.success(),
            "the load program ended with {status}\n{text}"
        );
        let counted = last_count(&text, "end ");
        let telling = text
            .lines()
            .filter(|l| !l.starts_with("acked="))
            .collect::<Vec<_>>()
            .join("\n");
        Ok((counted, telling))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Ended long ago when all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn last_count(text: &str, start: &str) -> Counted {
    let mut counted = Counted::default();
    let Some(line) = text.lines().rev().find(|l| l.starts_with(start)) else {
        return counted;
    };
    for (name, value) in line
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
    {
        let value = value.parse().unwrap_or(0);
        match name {
            "acked" => counted.acked = value,
            "failed" => counted.failed = value,
            "consumed" => counted.consumed = value,
            "missing" => counted.missing = value,
            "lost" => counted.lost = value,
            _ => {}
        }
    }
    counted
}

/// Runs a scenario program and returns its transcript; an error shows the scenarios that did not get to their end.
pub fn transcript(what: &str, command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {what}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let broken: Vec<String> = scenarios(&text)
        .into_iter()
        .filter(|(_, part)| part.contains("BROKEN "))
        .map(|(name, part)| format!("== {name}\n{part}"))
        .collect();
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!(
        "{what} ended with {}\n{}\n{stderr}",
        output.status,
        broken.concat()
    );
}

/// The scenario program of the Go client, compiled.
pub fn go() -> Result<PathBuf> {
    let source = sources("go");
    let folder = prepared("go", &source, |folder| {
        let mut go = Command::new("go");
        go.arg("-C")
            .arg(&source)
            .args(["build", "-o"])
            .arg(folder.join("scenarios"))
            .arg(".");
        run("go build", &mut go).map(drop)
    })?;
    Ok(folder.join("scenarios"))
}

/// The interpreter of a virtual environment that has PyPI's `rocketmq`, the C++ client.
pub fn python() -> Result<(PathBuf, PathBuf)> {
    let source = sources("python");
    let folder = prepared("python", &source, |folder| {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "--clear"])
            .arg(folder.join("venv"));
        run("python3 -m venv", &mut venv)?;
        let mut pip = Command::new(folder.join("venv/bin/pip"));
        pip.args(["install", "--quiet", "-r"])
            .arg(source.join("requirements.txt"));
        run("pip install", &mut pip).map(drop)
    })?;
    Ok((folder.join("venv/bin/python"), source.join("round_trip.py")))
}

/// The folder of the Node program with its packages installed.
pub fn node() -> Result<PathBuf> {
    let source = sources("node");
    prepared("node", &source, |folder| {
        copy_folder(&source, folder)?;
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(folder);
        run("npm ci", &mut npm).map(drop)
    })
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let goal = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &goal)?;
        } else {
            std::fs::copy(entry.path(), goal)?;
        }
    }
    Ok(())
}
