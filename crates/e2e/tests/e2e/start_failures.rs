//! What cannot start says so in one clear line, with the right exit status, and leaves the disk as it was.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use gantry_e2e::ports::Port;
use gantry_e2e::programs::{program, room};
use gantry_e2e::server::{Make, Server};
use gantry_e2e::transcript::difference;
use gantry_e2e::wait::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CONFIGURATION: i32 = 78;
const NOBODY: u32 = 65534;

/// A folder that any user can reach, unlike one below a home directory.
fn open_room(name: &str) -> Result<tempfile::TempDir> {
    let room = tempfile::Builder::new()
        .prefix(&format!("gantry-{name}-"))
        .tempdir()?;
    std::fs::set_permissions(room.path(), PermissionsExt::from_mode(0o755))?;
    Ok(room)
}

/// Names, sizes and contents of everything below a folder but `logs`: what went wrong is said there as well.
fn snapshot(folder: &Path) -> Result<String> {
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let entry = entry?;
            if entry.file_name() == "logs" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                lines.push(format!("{}/", entry.path().display()));
                folders.push(entry.path());
            } else {
                let content = std::fs::read(entry.path())?;
                let sum = gantry_e2e::record::crc32(&content[..content.len().min(1 << 16)]);
                lines.push(format!(
                    "{} {} {sum:08x}",
                    entry.path().display(),
                    content.len()
                ));
            }
        }
    }
    lines.sort();
    Ok(lines.join("\n"))
}

/// An error that says what came, went or changed since `before`.
fn unchanged(folder: &Path, before: &str) -> Result<()> {
    let changes = difference(before, &snapshot(folder)?);
    ensure!(changes.is_empty(), "the disk was changed:\n{changes}");
    Ok(())
}

struct Attempt {
    command: Command,
}

impl Attempt {
    fn new(name: &str, home: &Path, args: &[&str]) -> Result<Attempt> {
        let mut command = Command::new(program(name)?);
        command
            .args(args)
            .current_dir(home)
            .env("HOME", home)
            .env("ROCKETMQ_HOME", home)
            .env_remove("NAMESRV_ADDR")
            .stdin(Stdio::null());
        Ok(Attempt { command })
    }

    /// Runs it to its end, which must come with that exit status and one line about all of `words`.
    fn fails(mut self, status: i32, words: &[&str]) -> Result<()> {
        let output = self
            .command
            .output()
            .with_context(|| format!("{:?}", self.command))?;
        let said = complaint(&output);
        ensure!(
            output.status.code() == Some(status),
            "ended with {}, not with exit status {status}; it said\n{said}",
            output.status
        );
        let errors: Vec<&str> = said
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        ensure!(
            errors.len() == 1,
            "{} lines on stderr where one is enough:\n{said}",
            errors.len()
        );
        for word in words {
            ensure!(
                errors[0].contains(word),
                "the line does not name {word}: {}",
                errors[0]
            );
        }
        Ok(())
    }
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A broker's configuration in `home`, whose store is `store`.
fn broker_file(home: &Path, store: &Path, port: u16) -> Result<PathBuf> {
    let file = home.join("broker.conf");
    let mut text = String::new();
    writeln!(
        text,
        "brokerName=broker-a\nbrokerIP1=127.0.0.1\nbindAddress=127.0.0.1"
    )?;
    writeln!(
        text,
        "listenPort={port}\nstorePathRootDir={}",
        store.display()
    )?;
    writeln!(text, "mappedFileSizeCommitLog=16777216")?;
    std::fs::write(&file, text)?;
    Ok(file)
}

#[test]
fn a_missing_configuration_file_is_named() -> Result<()> {
    let home = open_room("missing-file")?;
    let before = snapshot(home.path())?;
    for name in ["mqbroker", "mqnamesrv"] {
        let path = home.path().join("nowhere.conf").display().to_string();
        Attempt::new(name, home.path(), &["-c", &path])?.fails(CONFIGURATION, &[&path])?;
    }
    unchanged(home.path(), &before)
}

#[test]
fn a_bad_value_is_named_with_its_key_and_line() -> Result<()> {
    let home = open_room("bad-value")?;
    for (name, text, words) in [
        (
            "mqbroker",
            "brokerName=broker-a\nlistenPort=many\n",
            ["listenPort", "many"],
        ),
        (
            "mqbroker",
            "flushDiskType=SOMETIMES\n",
            ["flushDiskType", "SOMETIMES"],
        ),
        (
            "mqbroker",
            "mappedFileSizeCommitLog=-5\n",
            ["mappedFileSizeCommitLog", "-5"],
        ),
        ("mqnamesrv", "listenPort=99999\n", ["listenPort", "99999"]),
    ] {
        let file = home.path().join("bad.conf");
        std::fs::write(&file, text)?;
        let before = snapshot(home.path())?;
        let path = file.display().to_string();
        Attempt::new(name, home.path(), &["-c", &path])?.fails(CONFIGURATION, &words)?;
        unchanged(home.path(), &before)?;
    }
    Ok(())
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let home = open_room("port-in-use")?;
    let port = Port::claim()?;
    let number = port.number();
    let taken = TcpListener::bind(("127.0.0.1", number))?;
    let store = home.path().join("store");
    let file = broker_file(home.path(), &store, number)?
        .display()
        .to_string();
    let before = snapshot(home.path())?;
    Attempt::new("mqbroker", home.path(), &["-c", &file])?.fails(1, &[&number.to_string()])?;
    unchanged(home.path(), &before)?;

    let file = home.path().join("namesrv.conf");
    std::fs::write(
        &file,
        format!(
            "listenPort={number}\nbindAddress=127.0.0.1\nkvConfigPath={}/kv.json\n",
            home.path().display()
        ),
    )?;
    let before = snapshot(home.path())?;
    Attempt::new(
        "mqnamesrv",
        home.path(),
        &["-c", &file.display().to_string()],
    )?
    .fails(1, &[&number.to_string()])?;
    unchanged(home.path(), &before)?;
    drop(taken);
    Ok(())
}

/// Tests run as root, for whom no folder is closed: the broker runs as somebody else.
/// A port for metrics that was asked for must be free; the usual one need not be, and 0 asks for none.
#[test]
fn a_metrics_port_in_use_is_named_or_done_without() -> Result<()> {
    let home = open_room("metrics-port")?;
    let port = Port::claim()?;
    let taken = TcpListener::bind(("127.0.0.1", port.number() + 2))?;
    let number = taken.local_addr()?.port().to_string();
    let store = home.path().join("store");
    let file = broker_file(home.path(), &store, port.number())?;
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, format!("{text}metricsPort={number}\n"))?;
    let before = snapshot(home.path())?;
    let path = file.display().to_string();
    Attempt::new("mqbroker", home.path(), &["-c", &path])?.fails(1, &["metricsPort", &number])?;
    unchanged(home.path(), &before)?;

    let file = home.path().join("namesrv.conf");
    let (own, kv) = (port.number(), home.path().join("kv.json"));
    let text = format!(
        "listenPort={own}\nmetricsPort={number}\nbindAddress=127.0.0.1\nkvConfigPath={}\n",
        kv.display()
    );
    std::fs::write(&file, text)?;
    let path = file.display().to_string();
    Attempt::new("mqnamesrv", home.path(), &["-c", &path])?.fails(1, &["metricsPort", &number])?;

    // Somebody has it: we, or somebody else on this machine.
    let _usual = TcpListener::bind(("127.0.0.1", 5557));
    let room = room("metrics-default")?;
    let broker = Server::broker(
        Make::Gantry,
        room.path(),
        "broker-a",
        &[],
        &[("metricsPort", "")],
    )?;
    let said = broker.log()?;
    ensure!(said.contains("no metrics: the port is taken"), "{said}");
    let broker = Server::broker(
        Make::Gantry,
        room.path(),
        "broker-b",
        &[],
        &[("metricsPort", "0")],
    )?;
    let said = broker.log()?;
    ensure!(!said.contains("metrics"), "{said}");
    Ok(())
}

#[test]
fn a_store_without_permission_is_named() -> Result<()> {
    let home = open_room("no-permission")?;
    let copy = home.path().join("mqbroker");
    std::fs::copy(program("mqbroker")?, &copy)?;
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755))?;
    // Its own logs it can write; otherwise they would go to stderr as well.
    let user_home = home.path().join("user");
    std::fs::create_dir(&user_home)?;
    std::fs::set_permissions(&user_home, PermissionsExt::from_mode(0o777))?;
    let port = Port::claim()?;
    for (name, mode) in [("unreadable", 0o700), ("read-only", 0o755)] {
        let folder = home.path().join(name);
        std::fs::create_dir(&folder)?;
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(mode))?;
        let file = broker_file(home.path(), &folder.join("store"), port.number())?;
        let before = snapshot(home.path())?;
        let mut attempt = Attempt::new("mqbroker", home.path(), &[])?;
        let mut command = Command::new(&copy);
        command.arg("-c").arg(&file).current_dir(home.path());
        command
            .env("HOME", &user_home)
            .env("ROCKETMQ_HOME", home.path())
            .stdin(Stdio::null());
        command.uid(NOBODY).gid(NOBODY);
        attempt.command = command;
        attempt
            .fails(CONFIGURATION, &[&folder.display().to_string()])
            .with_context(|| format!("a store below a {name} folder"))?;
        unchanged(home.path(), &before)?;
    }
    Ok(())
}

/// A signal stops a thread when it leaves the kernel, which may be after one more change on disk.
fn stands_still(pid: Pid) -> Result<bool> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(task?.path().join("stat"))?;
        // pid (name) state ...
        let state = stat
            .rsplit_once(") ")
            .map(|(_, rest)| rest.starts_with('T'));
        if state != Some(true) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[test]
fn a_second_broker_on_one_store_is_refused_and_the_first_goes_on() -> Result<()> {
    let room = room("second-broker")?;
    let first = Server::broker(Make::Gantry, room.path(), "broker-a", &[], &[])?;
    let store = first.folder().join("store");
    let home = room.path().join("second");
    std::fs::create_dir(&home)?;
    let port = Port::claim()?;
    let file = broker_file(&home, &store, port.number())?
        .display()
        .to_string();
    // Stopped, the first one changes nothing either; it holds its lock all the same.
    let first_pid = Pid::from_raw(i32::try_from(first.pid()?)?);
    kill(first_pid, Signal::SIGSTOP)?;
    until("every thread of the first broker stands still", || {
        stands_still(first_pid)
    })?;
    let before = snapshot(&store)?;
    let refused =
        Attempt::new("mqbroker", &home, &["-c", &file])?.fails(1, &[&store.display().to_string()]);
    let left_alone = unchanged(&store, &before);
    kill(first_pid, Signal::SIGCONT)?;
    refused?;
    left_alone?;
    first.wire()?.call(28, &[], &[])?.success()?;
    Ok(())
}
