//! The scripts of the unpacked folder, run by `sh` as people run them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/home/bin")
}

/// A home whose programs are copies of another one.
fn home(program: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("bin")).unwrap();
    fs::create_dir_all(home.path().join("libexec")).unwrap();
    for script in ["mqnamesrv", "mqbroker", "mqadmin", "mqshutdown"] {
        fs::copy(scripts().join(script), home.path().join("bin").join(script)).unwrap();
    }
    for name in ["mqnamesrv", "mqbroker", "mqadmin"] {
        fs::copy(program, home.path().join("libexec").join(name)).unwrap();
    }
    home
}

fn echoing() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("echo");
    fs::write(
        &program,
        "#!/bin/sh\necho \"$0 $# $ROCKETMQ_HOME\"\nprintf '<%s>' \"$@\"\n",
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    home(program.to_str().unwrap())
}

fn sh(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command
        .args(args)
        .current_dir(folder)
        .env_remove("ROCKETMQ_HOME");
    command.output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn documented_command_lines_reach_the_program_with_their_options() {
    let home = echoing();
    let real = home.path().canonicalize().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(
        home.path().join("bin/mqbroker"),
        elsewhere.path().join("link"),
    )
    .unwrap();
    symlink("link", elsewhere.path().join("mq broker")).unwrap();
    let script = home.path().join("bin/mqbroker");
    let cases: &[(&Path, &str, &str)] = &[
        (&home.path().join("bin"), "mqbroker", "mqbroker"),
        (home.path(), "bin/mqbroker", "mqbroker"),
        (&home.path().join("bin"), "./mqnamesrv", "mqnamesrv"),
        (elsewhere.path(), script.to_str().unwrap(), "mqbroker"),
        (elsewhere.path(), "mq broker", "mqbroker"),
        (home.path(), "bin/mqadmin", "mqadmin"),
    ];
    for (folder, script, program) in cases {
        let output = sh(folder, &[script, "-n", "a:1;b:2", "two words"]);
        let expected = format!(
            "{0}/libexec/{program} 3 {0}\n<-n><a:1;b:2><two words>",
            real.display()
        );
        assert_eq!(out(&output), expected, "{script}");
    }
}

#[test]
fn a_home_that_is_set_is_kept_and_a_missing_program_is_named() {
    let home = echoing();
    let mut command = Command::new("sh");
    command
        .arg(home.path().join("bin/mqbroker"))
        .env("ROCKETMQ_HOME", "/elsewhere");
    assert!(out(&command.output().unwrap()).contains(" 0 /elsewhere\n"));

    fs::remove_file(home.path().join("libexec/mqbroker")).unwrap();
    let output = sh(home.path(), &["bin/mqbroker"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("libexec/mqbroker is missing")
    );
}

fn sleeper(home: &Path, program: &str) -> Child {
    let mut command = Command::new(home.join("libexec").join(program));
    command.arg("600").stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_shutdown_stops_the_brokers_of_this_folder_and_no_others() {
    let (home, other) = (home("/bin/sleep"), home("/bin/sleep"));
    let mut first = sleeper(home.path(), "mqbroker");
    let mut second = sleeper(home.path(), "mqbroker");
    let mut name_server = sleeper(home.path(), "mqnamesrv");
    let mut foreign = sleeper(other.path(), "mqbroker");
    // As after an upgrade: the file that the processes run is no longer there.
    fs::remove_file(home.path().join("libexec/mqbroker")).unwrap();

    let output = sh(&home.path().join("bin"), &["mqshutdown", "broker"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut pids = [first.id(), second.id()].map(|pid| pid.to_string());
    pids.sort();
    let pids = pids.join(" ");
    assert_eq!(
        out(&output),
        format!(
            "The mqbroker({pids}) is running...\nSend shutdown request to mqbroker({pids}) OK\n"
        )
    );
    assert!(!first.wait().unwrap().success() && !second.wait().unwrap().success());
    assert!(name_server.try_wait().unwrap().is_none() && foreign.try_wait().unwrap().is_none());

    let again = sh(home.path(), &["bin/mqshutdown", "broker"]);
    assert_eq!(
        (again.status.code(), out(&again).as_str()),
        (Some(255), "No mqbroker running.\n")
    );
    assert_eq!(
        sh(home.path(), &["bin/mqshutdown", "namesrv"])
            .status
            .code(),
        Some(0)
    );
    name_server.wait().unwrap();
    foreign.kill().unwrap();
    foreign.wait().unwrap();

    let wrong = sh(home.path(), &["bin/mqshutdown"]);
    assert_eq!(
        (wrong.status.code(), out(&wrong).as_str()),
        (Some(1), "Useage: mqshutdown broker | namesrv\n")
    );
}

#[test]
fn the_manifest_names_files_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let manifest = fs::read_to_string(root.join("packaging/home/MANIFEST")).unwrap();
    let lines = manifest.lines().filter(|line| !line.starts_with('#'));
    let mut targets = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [source, target, mode] = words.as_slice() else {
            panic!("{line}")
        };
        let built = source.starts_with("target/release/");
        assert!(built || root.join(source).exists(), "{source}");
        assert_eq!(source.ends_with('/'), target.ends_with('/'), "{line}");
        assert!(["644", "755"].contains(mode), "{line}");
        targets.push(*target);
    }
    assert!(
        ["bin/mqbroker", "libexec/mqbroker", "conf/", "LICENSE"]
            .iter()
            .all(|file| targets.contains(file))
    );
}
