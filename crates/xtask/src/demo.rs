//! `cargo xtask demo`: from a checkout to verified messages in one command.
//!
//! Everything is below `target/demo`, ports are free ones, nothing is left but that folder (and with `--keep` the two
//! daemons).

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::servers::{Daemon, free_port};
use crate::shell::{self, build_programs, cargo, number, only_options, target};

const TOPIC: &str = "demo";

/// Builds, starts, sends, verifies, reports, stops.
pub(crate) fn run(args: &[String]) -> Result<()> {
    only_options(args, &["--keep"], &["--count"])?;
    let count = number(args, "--count", 100_000)?;
    println!("building (the first time takes a few minutes)");
    let programs = build_programs()?;
    shell::run(&mut cargo([
        "build",
        "--release",
        "-p",
        "gantry-e2e",
        "--bin",
        "demo-load",
    ]))?;

    let folder = target().join("demo");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let mut name_server = Daemon::start(
        &programs,
        "mqnamesrv",
        folder.join("namesrv"),
        free_port()?,
        &[format!(
            "kvConfigPath={}",
            folder.join("namesrv/kvConfig.json").display()
        )],
    )?;
    let mut broker = Daemon::start(
        &programs,
        "mqbroker",
        folder.join("broker"),
        free_port()?,
        &[
            "brokerClusterName=DefaultCluster".to_owned(),
            "brokerName=broker-a".to_owned(),
            "brokerIP1=127.0.0.1".to_owned(),
            format!("namesrvAddr={}", name_server.address()),
            format!("storePathRootDir={}", folder.join("store").display()),
        ],
    )?;
    for daemon in [&name_server, &broker] {
        println!(
            "{:9} at {}, serving {} ms after exec, pid {}",
            daemon.name,
            daemon.address(),
            daemon.started_in.as_millis(),
            daemon.pid()
        );
    }
    let admin = |args: &[&str]| {
        let mut command = Command::new(programs.join("mqadmin"));
        command
            .args(args)
            .args(["-n", &name_server.address()])
            .env("HOME", &folder);
        shell::output(&mut command)
    };
    let created = admin(&[
        "updateTopic",
        "-b",
        &broker.address(),
        "-t",
        TOPIC,
        "-r",
        "8",
        "-w",
        "8",
    ])?;
    if !created.contains("success") {
        bail!("updateTopic said: {created}");
    }
    load(&broker.address(), count)?;
    for daemon in [&name_server, &broker] {
        let memory = daemon.memory()?;
        println!(
            "{:9} resident memory {:.1} MiB, of it {:.1} MiB pages of files",
            daemon.name, memory.resident, memory.of_files
        );
    }
    print!("{}", admin(&["clusterList"])?);

    if args.iter().any(|arg| arg == "--keep") {
        println!(
            "\nleft running: name server {} and broker {}",
            name_server.address(),
            broker.address()
        );
        println!(
            "  look:   {} clusterList -n {}",
            programs.join("mqadmin").display(),
            name_server.address()
        );
        println!("  files:  {}", folder.display());
        println!("  stop:   kill {} {}", broker.pid(), name_server.pid());
        broker.keep();
        name_server.keep();
        return Ok(());
    }
    let took = broker.stop()?;
    println!("broker stopped in {} ms", took.as_millis());
    name_server.stop()?;
    println!("ok: {count} messages sent, consumed and verified");
    Ok(())
}

/// Runs the load program and shows its progress.
fn load(broker: &str, count: u64) -> Result<()> {
    let mut command = Command::new(target().join("release/demo-load"));
    command
        .args([broker, TOPIC, &count.to_string()])
        .stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    let stdout = child.stdout.take().context("no pipe")?;
    let style = ProgressStyle::with_template("{prefix:10} [{bar:40}] {pos}/{len} {per_sec}")?;
    let mut bar: Option<(String, ProgressBar)> = None;
    let mut remarks = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        let mut words = line.split(' ');
        let (Some(stage), Some(done), None) = (
            words.next(),
            words.next().and_then(|n| n.parse().ok()),
            words.next(),
        ) else {
            remarks.push(line);
            continue;
        };
        if bar.as_ref().is_none_or(|(current, _)| current != stage) {
            let next = ProgressBar::new(count)
                .with_style(style.clone())
                .with_prefix(stage.to_owned());
            if let Some((_, old)) = bar.replace((stage.to_owned(), next)) {
                old.finish();
            }
        }
        if let Some((_, bar)) = &bar {
            bar.set_position(done);
        }
    }
    if let Some((_, bar)) = bar {
        bar.finish();
    }
    let status = child.wait()?;
    for remark in remarks {
        println!("{remark}");
    }
    if !status.success() {
        bail!("the load program ended with {status}");
    }
    Ok(())
}
