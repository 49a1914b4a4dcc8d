//! What the journal gets, through its own socket: the test runs itself again where `/run` is its own (`unshare`, which
//! needs root or user namespaces). One subscriber serves a process, so this file holds one test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_config::LogLevel;
use gantry_service::events;
use gantry_service::logging::{self, AUDIT, Destination, Plan};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

const ME: &str = "what_operators_search_for_is_in_the_journal";
const SCRIPT: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && exec \"$@\"";
const INSIDE: &str = "GANTRY_TEST_JOURNAL";

#[test]
fn what_operators_search_for_is_in_the_journal() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT])
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", ME, "--nocapture"])
        .env(INSIDE, "1")
        // It believes that systemd has started it.
        .env("NOTIFY_SOCKET", "/run/nobody");
    let status = command.status().unwrap();
    assert!(status.success(), "{status}");
}

type Record = BTreeMap<String, String>;

/// Takes records as the journal does, unless it is held. What is too long for a datagram comes as a file.
fn journal(hold: Arc<Mutex<()>>) -> Receiver<Record> {
    let socket = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    let (sender, records) = channel();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 20];
        loop {
            drop(hold.lock().unwrap());
            let mut room = [IoSliceMut::new(&mut bytes)];
            let mut control = nix::cmsg_space!([RawFd; 1]);
            let flags = MsgFlags::empty();
            let message =
                recvmsg::<()>(socket.as_raw_fd(), &mut room, Some(&mut control), flags).unwrap();
            let files: Vec<RawFd> = message
                .cmsgs()
                .unwrap()
                .flat_map(|part| match part {
                    ControlMessageOwned::ScmRights(files) => files,
                    _ => Vec::new(),
                })
                .collect();
            let length = message.bytes;
            let record = match files.as_slice() {
                [file] => std::fs::read(format!("/proc/self/fd/{file}")).unwrap(),
                _ => bytes[..length].to_vec(),
            };
            // The first are empty: whether somebody listens.
            if !record.is_empty() && sender.send(fields(&record)).is_err() {
                break;
            }
        }
    });
    records
}

/// `NAME=value` or `NAME`, the length in 8 bytes, the value; a line each.
fn fields(mut bytes: &[u8]) -> Record {
    let mut fields = Record::new();
    while let Some(end) = bytes.iter().position(|byte| b"=\n".contains(byte)) {
        let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let (from, to) = if bytes[end] == b'=' {
            let length = bytes[end..].iter().position(|byte| *byte == b'\n');
            (end + 1, end + length.unwrap())
        } else {
            let length = u64::from_le_bytes(bytes[end + 1..end + 9].try_into().unwrap());
            (end + 9, end + 9 + usize::try_from(length).unwrap())
        };
        let value = String::from_utf8(bytes[from..to].to_vec()).unwrap();
        assert_eq!(bytes[to], b'\n');
        assert!(fields.insert(name, value).is_none());
        bytes = &bytes[to + 1..];
    }
    fields
}

/// Sends what the journal throws away until its socket takes nothing more from anybody.
fn fill() {
    for _ in 0..10_000 {
        let socket = UnixDatagram::unbound().unwrap();
        socket.set_nonblocking(true).unwrap();
        if socket.send_to(&[], "/run/systemd/journal/socket").is_err() {
            return;
        }
    }
    panic!("the socket never fills");
}

fn inside() {
    let patience = Duration::from_secs(30);
    let hold = Arc::new(Mutex::new(()));
    let held = hold.lock().unwrap();
    let records = journal(Arc::clone(&hold));
    let next = || records.recv_timeout(patience).unwrap();

    // A journal that does not read holds up no start; it is told when it reads again.
    fill();
    let (started, logs) = channel();
    std::thread::spawn(move || {
        let logs = logging::start(&Plan {
            name: "broker",
            folder: "/run/logs".into(),
            level: LogLevel::Info,
        });
        tracing::info!("started");
        let _ = started.send(logs);
    });
    let logs = logs.recv_timeout(patience).unwrap();
    assert_eq!(logs.destination(), &Destination::Journal);
    drop(held);
    assert_eq!(next()["MESSAGE"], "started");

    let topic = "T";
    tracing::warn!(
        message_id = events::STUCK,
        topic,
        queue_id = 3,
        phase = ?Some("log"),
        "first\nsecond"
    );
    let first = next();
    for (name, value) in [
        ("MESSAGE", "first\nsecond"),
        ("MESSAGE_ID", events::STUCK),
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "mqbroker"),
        ("TARGET", "journal"),
        ("GANTRY_TOPIC", "T"),
        ("GANTRY_QUEUE_ID", "3"),
        ("GANTRY_PHASE", "Some(\"log\")"),
    ] {
        assert_eq!(first[name], value, "{name}");
    }
    assert!(first["CODE_FILE"].ends_with("tests/journal.rs"));

    // Each event has its own number, and what is none has none.
    for id in events::ALL {
        tracing::info!(message_id = id, "an event");
        assert_eq!(next()["MESSAGE_ID"], id);
    }
    tracing::info!(message_id = "of nobody", "no event");
    assert!(!next().contains_key("MESSAGE_ID"));
    logging::banner("The broker boot success.");
    let banner = next();
    assert_eq!(banner["MESSAGE_ID"], events::SERVING);
    assert_eq!(banner["MESSAGE"], "The broker boot success.");

    // What waits for the journal has a limit.
    let long = "ä".repeat(1 << 20);
    tracing::error!(long, "long");
    let record = next();
    assert_eq!(record["PRIORITY"], "3");
    let cut = &record["GANTRY_LONG"];
    assert!(
        long.starts_with(cut) && (16_000..=16_384).contains(&cut.len()),
        "{}",
        cut.len()
    );

    tracing::debug!("too fine");
    logging::set_level(LogLevel::Debug);
    tracing::debug!("fine enough");
    let fine = next();
    assert_eq!(fine["MESSAGE"], "fine enough");
    assert_eq!(fine["PRIORITY"], "7");

    let storm = |number: u32| tracing::info!(number, "storm");
    for number in 0..103 {
        storm(number);
    }
    for number in 0..100 {
        assert_eq!(next()["GANTRY_NUMBER"], number.to_string());
    }
    for _ in 0..101 {
        tracing::info!(target: AUDIT, "heard");
        let heard = next();
        assert_eq!((&*heard["MESSAGE"], &*heard["TARGET"]), ("heard", AUDIT));
    }
    assert_eq!(logging::left_out().suppressed, 3);
    std::thread::sleep(Duration::from_secs(10));
    storm(103);
    let note = next();
    let text = "3 lines like the next one were left out";
    assert_eq!(note["MESSAGE"], text);
    assert_eq!(note["MESSAGE_ID"], events::SUPPRESSED);
    assert_eq!(note["PRIORITY"], "4");
    assert!(note["GANTRY_PLACE"].contains("tests/journal.rs"));
    assert_eq!(next()["GANTRY_NUMBER"], "103");
    assert_eq!(logging::left_out().dropped, 0);

    // A journal that does not read holds up nobody: what finds no room is counted, and the journal is told later.
    let held = hold.lock().unwrap();
    for number in 0..10_000 {
        tracing::info!(target: AUDIT, number, "heard");
    }
    let dropped = logging::left_out().dropped;
    assert!(0 < dropped, "{dropped}");
    drop(held);
    let (mut last, mut told) = (None, 0);
    while told < dropped {
        let record = next();
        if let Some(count) = record["MESSAGE"].strip_suffix(" log lines were dropped") {
            told += count.parse::<u64>().unwrap();
            continue;
        }
        let number: u64 = record["GANTRY_NUMBER"].parse().unwrap();
        assert!(last < Some(number), "in their order");
        last = Some(number);
    }
    assert_eq!(told, dropped);
    drop(logs);
}
