//! How sends fare while old files of the log are deleted: `cargo xtask bench --only deletion`.
//!
//! Each round makes a log of so many files of 1 GiB, starts the broker on it with cold caches, and measures the same
//! open loop three times: quiet, while `mqadmin deleteExpiredCommitLog` has every file but the newest deleted, and quiet
//! again. What counts is the deletion against the better of the quiet ones: a machine that is busy otherwise shows in
//! them as well. Beside what senders see stands the longest commit
//! that the broker saw, from before it waits for the log until everything is written: what of a stall is the store's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::middle;
use crate::servers::{Daemon, free_port};
use crate::shell;

/// Sends a second: a tenth of what the broker takes, so that a stall is a stall and no backlog.
const RATE: &str = "5000";
/// A file takes about a second on an idle machine; the rest is for what comes behind the last one.
const SECONDS_A_FILE: f64 = 1.75;

/// What is measured, and where.
pub(crate) struct Deletion {
    pub(crate) programs: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) files: u64,
}

/// One measurement.
struct Window {
    p999_ms: f64,
    max_ms: f64,
    /// The longest commit since the broker's start.
    commit_ms: u64,
}

impl Deletion {
    /// Runs so many rounds and prints each, and what is in the middle.
    pub(crate) fn run(&self, rounds: usize) -> Result<()> {
        let (mut ratios, mut stalls) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            let (quiet, busy) = self.round()?;
            let ratio = busy.p999_ms / quiet.p999_ms;
            println!(
                "deletion round {round}: p99.9 quiet {:.2} ms (max {:.1}, commit {}), while {} files go {:.2} ms (max {:.1}, commit {}): {ratio:.2} times",
                quiet.p999_ms,
                quiet.max_ms,
                quiet.commit_ms,
                self.files,
                busy.p999_ms,
                busy.max_ms,
                busy.commit_ms
            );
            ratios.push(ratio);
            stalls.push(busy.max_ms);
        }
        println!(
            "\nwhile {} files of 1 GiB are deleted, medians of {rounds}: p99.9 is {:.2} times the quiet one, the longest stall {:.1} ms\n",
            self.files,
            middle(&mut ratios),
            middle(&mut stalls)
        );
        Ok(())
    }

    fn round(&self) -> Result<(Window, Window)> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        let mut broker = self.broker()?;
        let bytes = format!("{}g", self.files);
        let fill = [
            "fill",
            "--bytes",
            &bytes,
            "--size",
            "65536",
            "--create-topic",
        ];
        let address = broker.address();
        shell::output(self.mqbench().args(fill).args(["--broker", &address]))?;
        broker.stop()?;
        let log = self.folder.join("store/commitlog");
        let evict = ["evict", "--sync", "--dir"];
        shell::output(self.mqbench().args(evict).arg(&log))?;
        let mut broker = self.broker()?;
        let before = files(&log)?;
        let quiet = self.window(&broker, None)?;
        // The longest commit of each window is that of a broker of its own.
        broker.stop()?;
        let mut broker = self.broker()?;
        let deletion = Command::new(self.programs.join("mqadmin"))
            .args(["deleteExpiredCommitLog", "-b", &broker.address()])
            .stdout(Stdio::null())
            .spawn()
            .context("mqadmin")?;
        let busy = self.window(&broker, Some(deletion))?;
        let gone = before.saturating_sub(files(&log)?);
        ensure!(
            gone >= self.files,
            "{gone} of {} files went in time",
            self.files
        );
        broker.stop()?;
        let mut broker = self.broker()?;
        let after = self.window(&broker, None)?;
        broker.stop()?;
        fs::remove_dir_all(&self.folder)?;
        let better = if after.p999_ms < quiet.p999_ms {
            after
        } else {
            quiet
        };
        Ok((better, busy))
    }

    /// Everything is expired, and goes only when somebody asks for it.
    fn broker(&self) -> Result<Daemon> {
        let lines = [
            "brokerName=broker-a".to_owned(),
            "brokerIP1=127.0.0.1".to_owned(),
            format!("storePathRootDir={}", self.folder.join("store").display()),
            "fileReservedTime=0".to_owned(),
            // The hour that has just begun a day ago: it does not come while this runs.
            format!("deleteWhen={:02}", previous_hour()?),
            "diskMaxUsedSpaceRatio=95".to_owned(),
            "cleanFileForciblyEnable=false".to_owned(),
            "rocketmq.broker.diskSpaceWarningLevelRatio=0.99".to_owned(),
            "cleanResourceInterval=1000".to_owned(),
        ];
        Daemon::start(
            &self.programs,
            "mqbroker",
            self.folder.clone(),
            free_port()?,
            &lines,
        )
    }

    fn mqbench(&self) -> Command {
        Command::new(self.programs.join("mqbench"))
    }

    fn window(&self, broker: &Daemon, beside: Option<Child>) -> Result<Window> {
        let time = format!("{:.1}", self.files as f64 * SECONDS_A_FILE + 1.0);
        let mut command = self.mqbench();
        command
            .args(["send", "--broker", &broker.address(), "--connections", "16"])
            .args(["--rate", RATE, "--warmup", "0.2", "--time", &time, "--json"]);
        let text = shell::output(&mut command)?;
        if let Some(mut beside) = beside {
            let status = beside.wait()?;
            ensure!(status.success(), "mqadmin ended with {status}");
        }
        let value: Value = serde_json::from_str(text.trim()).with_context(|| text.clone())?;
        let ms = |name: &str| -> Result<f64> {
            let us = value["latency_us"][name].as_f64();
            Ok(us.with_context(|| format!("no {name} in {text}"))? / 1000.0)
        };
        Ok(Window {
            p999_ms: ms("p99.9")?,
            max_ms: ms("max")?,
            commit_ms: self.longest_commit(broker)?,
        })
    }

    fn longest_commit(&self, broker: &Daemon) -> Result<u64> {
        let mut status = Command::new(self.programs.join("mqadmin"));
        let said = shell::output(status.args(["brokerStatus", "-b", &broker.address()]))?;
        let line = said
            .lines()
            .find(|line| line.starts_with("putMessageEntireTimeMax"));
        let value = line.and_then(|line| line.rsplit_once(':'));
        let (_, value) = value.with_context(|| format!("no longest commit in {said}"))?;
        Ok(value.trim().parse()?)
    }
}

/// How many files of the log there are.
fn files(log: &Path) -> Result<u64> {
    Ok(fs::read_dir(log)?.count().try_into()?)
}

/// The local hour before this one, as `deleteWhen` has it.
fn previous_hour() -> Result<u32> {
    let hour = shell::output(Command::new("date").arg("+%H"))?;
    let hour: u32 = hour.trim().parse().context("date +%H")?;
    Ok((hour + 23) % 24)
}
