//! The tarball, unpacked, with the command lines that RocketMQ documents, typed as they stand there.
//!
//! The lines use the standard ports and `mqshutdown` looks for processes by name, so each run gets a network and a
//! process table of its own (`unshare`, which needs root or user namespaces).

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use gantry_e2e::programs::{room, run, unpacked};

/// Brings the loopback device of the new network up; then the lines under test.
const PROLOGUE: &str = r#"
set -eu
python3 -c '
import fcntl, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))
'
wait_for() { # FILE PATTERN
  n=0
  until grep -q -e "$2" "$1" 2>/dev/null; do
    n=$((n + 1))
    if [ $n -gt 600 ]; then echo "no \"$2\" in $1" >&2; tail -n 20 "$1" nohup.out bin/nohup.out >&2; exit 1; fi
    sleep 0.1
  done
}
gone() { # NAME
  n=0
  while ps -e -o stat=,args= | grep -v '^Z' | grep -v grep | grep -q "$1"; do
    n=$((n + 1))
    if [ $n -gt 600 ]; then echo "$1 does not end" >&2; exit 1; fi
    sleep 0.1
  done
}
L=~/logs/rocketmqlogs
"#;

/// Runs shell lines in a world of their own, with `ROCKETMQ_HOME` and `HOME` set. Returns their stdout.
fn typed(home: &Path, user_home: &Path, lines: &str) -> Result<String> {
    std::fs::create_dir_all(user_home)?;
    let script = user_home.join("typed.sh");
    std::fs::write(&script, format!("{PROLOGUE}\n{lines}"))?;
    let mut command = Command::new("unshare");
    command
        .args([
            "--net",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "bash",
        ])
        .arg(&script)
        .current_dir(home)
        .env("HOME", user_home)
        .env("ROCKETMQ_HOME", home)
        .env_remove("NAMESRV_ADDR")
        .stdin(Stdio::null());
    run("the documented command lines", &mut command)
}

#[test]
fn documented_command_lines_work_from_the_tarball() -> Result<()> {
    let room = room("home")?;
    let home = unpacked(room.path())?;

    // Quick start: one name server, one broker, everything by default.
    let said = typed(
        &home,
        &room.path().join("user-1"),
        r#"
cd bin
nohup sh mqnamesrv &
wait_for $L/namesrv.log 'The Name Server boot success'
cd ..
nohup sh bin/mqbroker -n localhost:9876 &
wait_for $L/broker.log 'The broker\[.*, .*:10911\] boot success'
sh bin/mqadmin updateTopic -n localhost:9876 -c DefaultCluster -t quick -r 4 -w 4
sh bin/mqadmin sendMessage -n localhost:9876 -t quick -p hello
sh bin/mqadmin clusterList -n localhost:9876
sh bin/mqshutdown broker
gone mqbroker
sh bin/mqshutdown namesrv
gone mqnamesrv
sh bin/mqshutdown broker || echo "nothing left"
"#,
    )?;
    for expected in [
        "SEND_OK",
        "DefaultCluster",
        "Send shutdown request to mqbroker(",
        "Send shutdown request to mqnamesrv(",
        "No mqbroker running.",
    ] {
        ensure!(said.contains(expected), "no \"{expected}\" in\n{said}");
    }

    // Two masters, in the layout that ships. Their default store is the same folder, as it is for Apache.
    let said = typed(
        &home,
        &room.path().join("user-2"),
        r#"
nohup sh bin/mqnamesrv &
wait_for $L/namesrv.log 'The Name Server boot success'
cat $ROCKETMQ_HOME/conf/2m-noslave/broker-a.properties
nohup sh bin/mqbroker -n localhost:9876 -c $ROCKETMQ_HOME/conf/2m-noslave/broker-a.properties &
wait_for $L/broker.log 'The broker\[broker-a, .*\] boot success.*name server is localhost:9876'
sh bin/mqadmin clusterList -n localhost:9876
sh bin/mqshutdown broker
gone mqbroker
"#,
    )?;
    ensure!(said.contains("broker-a"), "{said}");

    // `-p` and `-m` print and end.
    let said = typed(
        &home,
        &room.path().join("user-3"),
        r#"
sh bin/mqnamesrv -p
sh bin/mqbroker -p
sh bin/mqbroker -m
sh bin/mqbroker --check-config
"#,
    )?;
    for expected in ["listenPort=9876", "listenPort=10911", "brokerName="] {
        ensure!(said.contains(expected), "no \"{expected}\" in\n{said}");
    }
    Ok(())
}

/// Who has Apache's mqadmin keeps it: it starts with our folder as its home.
#[test]
fn apache_s_mqadmin_starts_on_our_home() -> Result<()> {
    let room = room("home-admin")?;
    let home = unpacked(room.path())?;
    ensure!(
        home.join("conf/logback_tools.xml").exists(),
        "no conf/logback_tools.xml in the tarball"
    );
    let mut command = gantry_e2e::server::lab();
    command
        .args(["admin", "clusterList", "-n", "127.0.0.1:1"])
        .env("LAB_ADMIN_HOME", &home);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // It gets as far as the connection that cannot be made.
    ensure!(said.contains("127.0.0.1:1"), "{said}");
    Ok(())
}
