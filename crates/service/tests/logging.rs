//! The log file of a daemon, from its first line to the last words of a panic. One subscriber serves a process, so
//! this file holds one test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use gantry_config::LogLevel;
use gantry_service::logging::{self, Destination, Plan};

#[test]
fn lines_reach_the_file_in_order_and_the_banner_stands_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("logs/rocketmqlogs");
    let plan = Plan {
        name: "broker",
        folder: folder.clone(),
        level: LogLevel::Info,
    };
    let logs = logging::start(&plan);
    assert_eq!(
        logs.destination(),
        &Destination::File(folder.join("broker.log"))
    );
    tracing::debug!("too fine");
    tracing::info!(topic = "T", queue = 3, error = ?std::io::ErrorKind::Other, "first");
    logging::banner("The broker[broker-a, 192.168.1.2:10911] boot success. serializeType=JSON");
    logging::set_level(LogLevel::Debug);
    tracing::debug!("fine enough");
    let worker = std::thread::Builder::new().name("worker".into());
    let died = worker.spawn(|| panic!("a broken invariant")).unwrap();
    assert!(died.join().is_err());
    // The last words are on disk before a process would die of them.
    let path = folder.join("broker.log");
    let last = std::fs::read_to_string(&path).unwrap();
    assert!(last.contains("ERROR worker - panic: "), "{last}");
    assert_eq!(logs.dropped(), 0);
    tracing::warn!("stopping");
    drop(logs);

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let [first, banner, debug, panic, stop] = lines.as_slice() else {
        panic!("{text}")
    };
    let me = "lines_reach_the_file_in_order_and_the_banner_stands_alone";
    assert_eq!(
        &first[19..],
        format!(" INFO {me} - first topic=T queue=3 error=Other")
    );
    assert_eq!(
        *banner,
        "The broker[broker-a, 192.168.1.2:10911] boot success. serializeType=JSON"
    );
    assert!(debug.ends_with(" - fine enough"), "{debug}");
    assert!(panic.ends_with("a broken invariant"), "{panic}");
    assert!(
        stop.contains(" WARN ") && stop.ends_with(" - stopping"),
        "{stop}"
    );
}
