//! `mqbroker doctor` as a program: what it says and how it ends.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use gantry_disk::{Disk, OsDisk};

struct Said {
    text: String,
    code: i32,
}

impl Said {
    fn has(&self, verdict: &str, words: &[&str]) -> bool {
        let mut lines = self.text.lines().filter(|line| line.starts_with(verdict));
        lines.any(|line| words.iter().all(|word| line.contains(word)))
    }
}

fn run(command: &str, file: &Path, more: &[&str]) -> std::process::Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mqbroker"));
    program.args([command, "-c"]).arg(file).args(more);
    program.env_remove("NAMESRV_ADDR");
    program.output().unwrap()
}

fn doctor(file: &Path, more: &[&str]) -> Said {
    let output = run("doctor", file, more);
    Said {
        text: String::from_utf8(output.stdout).unwrap(),
        code: output.status.code().unwrap(),
    }
}

/// What `--check-config` complains of.
fn check_config(file: &Path) -> Said {
    let output = run("--check-config", file, &[]);
    Said {
        text: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap(),
    }
}

fn write(folder: &Path, lines: &str) -> std::path::PathBuf {
    let file = folder.join("broker.properties");
    let store = folder.join("store");
    let text = format!(
        "brokerIP1=127.0.0.1\nbindAddress=127.0.0.1\nstorePathRootDir={}\n{lines}",
        store.display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// A port whose neighbours, two below and one above, were free just now. The listener holds it.
fn port() -> (TcpListener, u16) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port - 2) && is_free(port + 1) {
            return (listener, port);
        }
    }
}

#[test]
fn a_taken_port_and_a_name_server_that_is_away_are_errors_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let (held, port) = port();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = nobody.local_addr().unwrap();
    drop(nobody);
    let lines = format!("listenPort={port}\nmetricsPort=0\nnamesrvAddr={away}\n");
    let file = write(folder.path(), &lines);
    let said = doctor(&file, &[]);
    assert_eq!(said.code, 1, "{}", said.text);
    let taken = port.to_string();
    assert!(
        said.has("error", &["port", &taken, "(listenPort)", "ss -ltnp"]),
        "{}",
        said.text
    );
    let away = away.to_string();
    assert!(said.has("error", &["name server", &away]), "{}", said.text);
    let vip = (port - 2).to_string();
    assert!(said.has("ok", &["port", &vip, "is free"]), "{}", said.text);
    assert!(said.has("ok", &["address", "127.0.0.1"]), "{}", said.text);
    assert!(said.has("ok", &["clock"]), "{}", said.text);

    // Without them nothing keeps it from serving; that it is registered nowhere is a warning.
    drop(held);
    let lines = format!("listenPort={port}\nmetricsPort=0\n");
    let file = write(folder.path(), &lines);
    let said = doctor(&file, &["--output=json"]);
    assert_eq!(said.code, 0, "{}", said.text);
    let findings: serde_json::Value = serde_json::from_str(&said.text).unwrap();
    let findings = findings.as_array().unwrap();
    let of = |check: &'static str| findings.iter().filter(move |one| one["check"] == check);
    assert!(
        of("port").all(|one| one["verdict"] == "ok"),
        "{}",
        said.text
    );
    assert!(of("name server").any(|one| one["verdict"] == "warning"));
    // It looks and leaves nothing behind.
    assert!(!folder.path().join("store").exists());
}

#[test]
fn the_usual_metrics_port_and_an_address_of_another_host_are_looked_at_too() {
    let folder = tempfile::tempdir().unwrap();
    let (held, port) = port();
    drop(held);
    // Somebody has it: we, or somebody else on this machine.
    let _usual = TcpListener::bind(("127.0.0.1", 5557));
    let file = write(folder.path(), &format!("listenPort={port}\n"));
    let said = doctor(&file, &[]);
    let words = ["port", "5557 (metricsPort)", "ss -ltnp", "metricsPort"];
    assert!(said.has("warning", &words), "{}", said.text);
    assert_eq!(said.code, 0, "{}", said.text);

    // 192.0.2.0/24 is for documentation.
    let lines = format!("listenPort={port}\nmetricsPort=0\nbindAddress=192.0.2.1\n");
    let file = write(folder.path(), &lines);
    let said = doctor(&file, &[]);
    assert_eq!(said.code, 1, "{}", said.text);
    let words = ["port", "192.0.2.1", "no interface has", "set bindAddress"];
    assert!(said.has("error", &words), "{}", said.text);
    assert!(!said.text.contains("ss -ltnp"), "{}", said.text);
}

#[test]
fn a_bad_configuration_ends_with_78_and_an_odd_option_with_the_usage() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "listenPort=many\n");
    let said = doctor(&file, &[]);
    assert_eq!(said.code, 78, "{}", said.text);
    assert!(
        said.has("error", &["configuration", "listenPort=many"]),
        "{}",
        said.text
    );
    // Values that nobody wrote say nothing.
    let missing = doctor(&folder.path().join("missing.toml"), &[]);
    assert_eq!(missing.code, 78, "{}", missing.text);
    assert!(!missing.text.contains("access"), "{}", missing.text);
    for more in [&["--output", "xml"][..], &["--output"], &["-x"], &["word"]] {
        let output = run("doctor", &file, more);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{more:?}");
        assert!(said.contains("usage: mqbroker doctor"), "{more:?}: {said}");
        assert!(output.stdout.is_empty(), "{more:?}");
    }
    let said = doctor(&file, &["--help"]);
    assert_eq!(said.code, 0);
}

#[test]
fn a_store_that_cannot_be_and_a_name_that_nobody_knows_are_found_before_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let (held, port) = port();
    drop(held);
    let in_the_way = folder.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let file = in_the_way.display();
    for (line, words) in [
        (
            format!("storePathRootDir={file}/store"),
            ["storePathRootDir", "is a file, not a folder"],
        ),
        (
            "storePathRootDir=/proc/nope".to_owned(),
            ["storePathRootDir=/proc/nope", "keeps no files"],
        ),
        (
            format!("storePathCommitLog={file}"),
            ["storePathCommitLog", "is a file, not a folder"],
        ),
        (
            format!(
                "storePathCommitLog={}/store/index/log",
                folder.path().display()
            ),
            ["storePathCommitLog", "needs a folder of its own"],
        ),
        (
            "brokerIP1=no-such-host.invalid".to_owned(),
            ["brokerIP1=no-such-host.invalid", "no name that is known"],
        ),
        (
            "brokerIP2=no-such-host.invalid".to_owned(),
            ["brokerIP2=no-such-host.invalid", "no name that is known"],
        ),
    ] {
        let lines = format!("listenPort={port}\nmetricsPort=0\n{line}\n");
        let file = write(folder.path(), &lines);
        let checked = check_config(&file);
        assert_eq!(checked.code, 78, "{}", checked.text);
        assert!(checked.has("mqbroker: error:", &words), "{}", checked.text);
        let said = doctor(&file, &[]);
        assert_eq!(said.code, 78, "{}", said.text);
        assert!(said.has("error    configuration", &words), "{}", said.text);
        // With values that can be relied on it looks at the rest all the same.
        if line.starts_with("brokerIP") {
            assert!(said.has("ok", &["port", "is free"]), "{}", said.text);
        }
    }
    // A name server of names may come back, a file in the way does not go: this is what a start says.
    let file = write(folder.path(), &format!("storePathRootDir={file}\n"));
    let mut start = Command::new(env!("CARGO_BIN_EXE_mqbroker"));
    let output = start.arg("-c").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is a file, not a folder"), "{said}");
}

#[test]
fn files_of_another_user_are_found_before_a_start() {
    // Only root gives files away.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (held, port) = port();
    drop(held);
    let file = write(
        folder.path(),
        &format!("listenPort={port}\nmetricsPort=0\n"),
    );
    let log = folder.path().join("store/commitlog");
    std::fs::create_dir_all(&log).unwrap();
    let of_the_disk = log.join("lost+found");
    std::fs::create_dir(&of_the_disk).unwrap();
    chown(&of_the_disk, Some(12_345), None).unwrap();
    assert_eq!(doctor(&file, &[]).code, 0);
    let segment = log.join("00000000000000000000");
    std::fs::write(&segment, "").unwrap();
    chown(&segment, Some(12_345), None).unwrap();
    let said = doctor(&file, &[]);
    assert_eq!(said.code, 1, "{}", said.text);
    let words = [segment.to_str().unwrap(), "chown -R root: "];
    assert!(said.has("error    owner", &words), "{}", said.text);
}

/// What a start, or a look, of another user says, and its code.
fn as_somebody(file: &Path, more: &[&str]) -> Said {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mqbroker"));
    program.arg("-c").arg(file).args(more).uid(SOMEBODY);
    let output = program.output().unwrap();
    Said {
        text: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap(),
    }
}

const SOMEBODY: u32 = 65_534;

#[test]
fn a_start_on_files_of_another_user_says_what_mends_them_and_is_not_tried_again() {
    // Only root gives files away.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let (held, port) = port();
    drop(held);
    let lines = format!(
        "listenPort={port}\nmetricsPort=0\nlogDir={}\n",
        folder.path().display()
    );
    let file = write(folder.path(), &lines);
    let store = folder.path().join("store");
    let (log, config) = (store.join("commitlog"), store.join("config"));
    for folder in [&store, &log, &config] {
        std::fs::create_dir(folder).unwrap();
        chown(folder, Some(SOMEBODY), None).unwrap();
    }
    let segment = log.join("00000000000000000000");
    std::fs::write(&segment, [0; 100]).unwrap();
    std::fs::set_permissions(&segment, Permissions::from_mode(0o600)).unwrap();
    let said = as_somebody(&file, &[]);
    let remedy = format!("; as root: `chown -R nobody: {}`", store.display());
    assert!(said.text.contains(&remedy), "{}", said.text);
    assert_eq!(said.code, 78, "{}", said.text);

    // Settings changed at run time.
    chown(&config, Some(0), None).unwrap();
    std::fs::set_permissions(&config, Permissions::from_mode(0o700)).unwrap();
    let said = as_somebody(&file, &["--check-config"]);
    let remedy = format!("; as root: `chown -R nobody: {}`", config.display());
    assert!(said.text.contains(&remedy), "{}", said.text);
    assert_eq!(said.code, 78, "{}", said.text);
}

#[test]
fn a_relative_store_is_named_with_the_folder_that_it_would_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "storePathRootDir=some/store\n");
    let checked = check_config(&file);
    let here = std::env::current_dir().unwrap().join("some/store");
    let words = ["storePathRootDir=some/store", here.to_str().unwrap()];
    assert!(
        checked.has("mqbroker: warning:", &words),
        "{}",
        checked.text
    );
    assert_eq!(checked.code, 0, "{}", checked.text);
    assert!(!here.exists());
}

/// What runs before a reload: only what that would refuse counts, and what it would not say itself.
#[test]
fn a_reload_is_tested_without_a_word_or_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let test = |lines: &str| {
        let file = write(folder.path(), lines);
        let output = run("--test-config", &file, &[]);
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        (
            said.replace(file.to_str().unwrap(), "FILE"),
            output.status.code().unwrap(),
        )
    };
    let away = "noSuchKey=1\nbrokerIP1=no.such.name.invalid\n";
    assert_eq!(test(away), (String::new(), 0));
    let (said, code) = test("ioThreads=many\nnoSuchKey=1\n");
    let only = "mqbroker: error: FILE:4: ioThreads=many: ";
    assert!(
        said.starts_with(only) && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(code, 78);
    assert!(!folder.path().join("store").exists());
}

#[test]
fn whoever_uses_the_store_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (held, port) = port();
    drop(held);
    let lines = format!("listenPort={port}\nmetricsPort=0\n");
    let file = write(folder.path(), &lines);
    let store = folder.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let lock = OsDisk.lock(&store.join("lock")).unwrap().unwrap();
    let user = format!("in use by process {}", std::process::id());
    let said = doctor(&file, &[]);
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(said.has("error    store", &[&user]), "{}", said.text);
    // To the configuration it is no fault: it is checked while its broker runs.
    let checked = check_config(&file);
    assert_eq!(checked.code, 0, "{}", checked.text);
    assert!(checked.has("mqbroker: note:", &[&user]), "{}", checked.text);

    drop(lock);
    let said = doctor(&file, &[]);
    assert_eq!(said.code, 0, "{}", said.text);
    assert!(said.has("ok       store", &["nobody"]), "{}", said.text);
}

#[test]
fn an_address_that_others_cannot_reach_and_a_file_in_the_future_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let (held, port) = port();
    drop(held);
    let lines = format!("listenPort={port}\nnamesrvAddr=192.0.2.1:9876\n");
    let file = write(folder.path(), &lines);
    let store = folder.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let note = std::fs::File::create(store.join("gantry.checkpoint")).unwrap();
    let tomorrow = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
    note.set_modified(tomorrow).unwrap();
    let said = doctor(&file, &[]);
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(
        said.has("error", &["address", "127.0.0.1", "set brokerIP1"]),
        "{}",
        said.text
    );
    assert!(
        said.has("warning", &["clock", "in the future"]),
        "{}",
        said.text
    );
}

#[test]
fn a_mistyped_command_starts_no_broker() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mqbroker"));
    let output = program.arg("docter").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("docter is no option") && said.contains("doctor, store"),
        "{said}"
    );
}

/// Runs where `/etc` and `/var/lib` are its own (`unshare`, which needs root or user namespaces): what a look by hand at a
/// unit's configuration says.
fn of_a_unit(lines: &str, words: &[&str]) -> Said {
    const SCRIPT: &str = "mount -t tmpfs tmpfs /etc && mount -t tmpfs tmpfs /var/lib && \
        mkdir -p /etc/gantry /var/lib/gantry/broker/config && \
        printf 'brokerIP1=127.0.0.1\\nbindAddress=127.0.0.1\\n%b' \"$1\" > /etc/gantry/broker.properties && \
        echo fileReservedTime=5 > /var/lib/gantry/broker/config/gantry-override.properties && shift && exec \"$@\" 2>&1";
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT])
        .args(["sh", lines, env!("CARGO_BIN_EXE_mqbroker")])
        .args(words)
        .env_remove("STATE_DIRECTORY");
    let output = command.output().unwrap();
    Said {
        text: String::from_utf8(output.stdout).unwrap(),
        code: output.status.code().unwrap(),
    }
}

#[test]
fn a_look_by_hand_finds_the_state_of_the_unit_and_what_its_sandbox_takes_away() {
    let check = ["-c", "/etc/gantry/broker", "--check-config"];
    let said = of_a_unit("", &check);
    assert_eq!(said.code, 0, "{}", said.text);
    for words in [
        &[
            "storePathRootDir",
            "/var/lib/gantry/broker",
            "STATE_DIRECTORY",
        ][..],
        &["fileReservedTime", "5", "run-time change"],
    ] {
        assert!(said.has("", words), "{words:?}: {}", said.text);
    }
    let doctor = ["doctor", "-c", "/etc/gantry/broker"];
    let said = of_a_unit("", &doctor);
    assert!(!said.text.contains(" unit: "), "{}", said.text);
    let said = of_a_unit("storePathRootDir=/var/tmp/no-such-store\\n", &doctor);
    let words = ["/var/tmp/no-such-store", "PrivateTmp="];
    assert!(said.has("error    unit", &words), "{}", said.text);
    let said = of_a_unit("storePathCommitLog=/srv/no-such-log\\n", &doctor);
    let words = ["mqbroker.service", "ReadWritePaths=/srv/no-such-log"];
    assert!(said.has("warning  unit", &words), "{}", said.text);
}
