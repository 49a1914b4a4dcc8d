//! `mqbroker store` as a process: exit codes, JSON, nothing written, a broker that runs, resumption of an export.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::SystemTime;

use gantry_disk::OsDisk;
use gantry_message::{Millis, QueueId, Record, SysFlag};
use gantry_store::{Outcome, Store, StoreConfig, Tags};

fn config(root: &Path) -> StoreConfig {
    StoreConfig {
        segment_size: 4096,
        queue_file_size: 20 * 16,
        index_slots: 7,
        index_entries: 40,
        ..StoreConfig::at(root)
    }
}

fn send(store: &Store, n: u32) {
    let body = format!("message {n}");
    let keys = format!("KEYS\u{1}k{n}");
    let record = Record {
        topic: "T",
        queue_id: QueueId(n % 2),
        flag: 0,
        sys_flag: SysFlag(0),
        born_time: Millis(1),
        born_host: "10.0.0.9:5555".parse().unwrap(),
        store_host: "10.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_offset: 0,
        body: body.as_bytes(),
        properties: keys.as_bytes(),
    };
    let queue = store.queue("T", QueueId(n % 2));
    let outcome = store.append(&queue, &record, Tags::Code(0));
    assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
}

/// A store of 100 messages, stopped cleanly.
fn store(folder: &Path) -> PathBuf {
    let root = folder.join("store");
    let store = Store::open(Arc::new(OsDisk), config(&root), Millis::now()).unwrap();
    store.mark_running().unwrap();
    (0..100).for_each(|n| send(&store, n));
    store.catch_up();
    store.shutdown().unwrap();
    root
}

fn mqbroker(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqbroker"));
    command.arg("store").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn ends(output: &Output, code: i32) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
}

/// Every file and directory: content, time of change, permissions.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (Option<Vec<u8>>, SystemTime, u32)> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::metadata(&path).unwrap();
            let content = meta.is_file().then(|| std::fs::read(&path).unwrap());
            if meta.is_dir() {
                dirs.push(path.clone());
            }
            let facts = (content, meta.modified().unwrap(), meta.permissions().mode());
            all.insert(path, facts);
        }
        let meta = std::fs::metadata(&dir).unwrap();
        let facts = (None, meta.modified().unwrap(), meta.permissions().mode());
        all.insert(dir, facts);
    }
    all
}

fn first_segment(root: &Path) -> PathBuf {
    root.join("commitlog").join(format!("{:020}", 0))
}

fn damage(root: &Path) {
    let path = first_segment(root);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[90] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn exit_codes_and_json_are_an_interface() {
    let folder = tempfile::tempdir().unwrap();
    let root = store(folder.path());
    let dir = root.to_str().unwrap();
    let output = mqbroker(&["check", dir, "--output", "json"]);
    ends(&output, 0);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], 1);
    assert_eq!(
        (&report["healthy"], &report["complete"]),
        (&true.into(), &true.into())
    );
    assert_eq!(report["log"]["messages"], 100);
    assert_eq!(
        (&report["topics"], &report["queues"]),
        (&1.into(), &2.into())
    );
    assert_eq!(report["classes"]["consumequeue"]["records"], 100);
    assert_eq!(report["findings"], serde_json::json!([]));
    assert_eq!(text(&output.stderr), "");

    damage(&root);
    let output = mqbroker(&["check", dir, "--output=json"]);
    ends(&output, 1);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let finding = &report["findings"][0];
    assert_eq!(
        (&finding["severity"], &finding["class"], &finding["code"]),
        (&"fault".into(), &"commitlog".into(), &"log-damaged".into())
    );
    assert_eq!(finding["file"], first_segment(&root).to_str().unwrap());
    assert_eq!(finding["offset"], 0);

    ends(&mqbroker(&["repair", dir, "--dry-run"]), 1);
    ends(&mqbroker(&["repair", dir]), 0);
    ends(&mqbroker(&["check", dir]), 0);

    for wrong in [
        &["check", "/there/is/no/such/store"][..],
        &["check", folder.path().to_str().unwrap()],
        &["check", first_segment(&root).to_str().unwrap()],
        &["check"],
        &["check", dir, dir],
        &["check", dir, "--outptu", "json"],
        &["check", dir, "--output", "xml"],
        &["dump", dir, "--from", "here"],
        &["dump", dir, "--what", "queue"],
        &["mend", dir],
        &[],
    ] {
        let output = mqbroker(wrong);
        ends(&output, 2);
        assert!(
            !output.stderr.is_empty() && output.stdout.is_empty(),
            "{wrong:?}"
        );
    }
    for help in [&["--help"][..], &["check", "--help"], &["repair", "-h"]] {
        let output = mqbroker(help);
        ends(&output, 0);
        assert!(text(&output.stdout).contains("mqbroker store"), "{help:?}");
    }
}

#[test]
fn a_check_writes_nothing_and_needs_no_permission_to() {
    let folder = tempfile::tempdir().unwrap();
    let root = store(folder.path());
    damage(&root);
    // Whoever may not write has to be able to look; root may always.
    for path in tree(&root).into_keys() {
        let mode = if path.is_dir() { 0o555 } else { 0o444 };
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let before = tree(&root);
    let dir = root.to_str().unwrap();
    ends(&mqbroker(&["check", dir]), 1);
    ends(&mqbroker(&["dump", dir, "--body"]), 0);
    for what in ["index", "checkpoint"] {
        ends(&mqbroker(&["dump", dir, "--what", what]), 0);
    }
    let queue = [
        "dump", dir, "--what", "queue", "--topic", "T", "--queue", "0",
    ];
    let output = mqbroker(&queue);
    ends(&output, 0);
    assert_eq!(text(&output.stdout).lines().count(), 50);
    ends(&mqbroker(&["export", dir]), 1);
    ends(&mqbroker(&["repair", dir, "--dry-run"]), 1);
    assert!(tree(&root) == before, "something was changed");
    for path in before.into_keys().filter(|path| path.is_dir()) {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_store_in_use_is_not_checked_unasked_and_never_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let root = store(folder.path());
    let dir = root.to_str().unwrap();
    let running = Store::open(Arc::new(OsDisk), config(&root), Millis::now()).unwrap();
    running.mark_running().unwrap();
    let output = mqbroker(&["check", dir]);
    ends(&output, 2);
    let process = format!("process {}", std::process::id());
    assert!(
        text(&output.stderr).contains(&process),
        "{}",
        text(&output.stderr)
    );
    let output = mqbroker(&["check", dir, "--live", "--output", "json"]);
    ends(&output, 0);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["live_process"], std::process::id());
    ends(&mqbroker(&["repair", dir]), 2);
    let output = mqbroker(&["dump", dir, "--limit", "1"]);
    ends(&output, 0);
    assert!(text(&output.stderr).contains(&process));
    // Whoever looked has not taken the lock away.
    send(&running, 100);
    running.shutdown().unwrap();
    ends(&mqbroker(&["check", dir]), 0);
}

#[test]
fn an_export_is_gone_on_with_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let root = store(folder.path());
    let dir = root.to_str().unwrap();
    let path = folder.path().join("out.jsonl");
    let file = path.to_str().unwrap();
    ends(
        &mqbroker(&["export", dir, "--file", file, "--limit", "30"]),
        0,
    );
    ends(&mqbroker(&["export", dir, "--file", file]), 2);
    // Cut off in the middle of a line, as a kill does.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 40]).unwrap();
    ends(&mqbroker(&["export", dir, "--file", file, "--resume"]), 0);
    let all = mqbroker(&["export", dir]);
    ends(&all, 0);
    assert_eq!(std::fs::read(&path).unwrap(), all.stdout);
    assert_eq!(text(&all.stdout).lines().count(), 100);
    let first: serde_json::Value =
        serde_json::from_str(text(&all.stdout).lines().next().unwrap()).unwrap();
    assert_eq!(first["bodyBase64"], "bWVzc2FnZSAw");
    assert_eq!(first["properties"]["KEYS"], "k0");
    let some = mqbroker(&["export", dir, "--topic", "T", "--queue", "1", "--key", "k7"]);
    let line: serde_json::Value = serde_json::from_slice(&some.stdout).unwrap();
    assert_eq!(
        (&line["topic"], &line["queueOffset"]),
        (&"T".into(), &3.into())
    );
}

#[test]
fn a_configuration_says_where_the_store_is() {
    let folder = tempfile::tempdir().unwrap();
    let root = store(folder.path());
    let elsewhere = folder.path().join("log");
    std::fs::rename(root.join("commitlog"), &elsewhere).unwrap();
    let broker = folder.path().join("broker.properties");
    let (root, log) = (root.display(), elsewhere.display());
    let text = format!(
        "storePathRootDir={root}\nstorePathCommitLog={log}\nmappedFileSizeCommitLog=65536\nmappedFileSizeConsumeQueue=320\n\
         maxHashSlotNum=7\nmaxIndexNum=40\n"
    );
    std::fs::write(&broker, text).unwrap();
    ends(&mqbroker(&["check", "-c", broker.to_str().unwrap()]), 0);
    let (root, log) = (root.to_string(), log.to_string());
    ends(&mqbroker(&["check", &root, "--commitlog", &log]), 0);
    ends(&mqbroker(&["check", &root]), 1);
    std::fs::write(&broker, "listenPort=many\n").unwrap();
    ends(&mqbroker(&["check", "-c", broker.to_str().unwrap()]), 2);
}
