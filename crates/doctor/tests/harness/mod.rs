//! Stores to examine: a small one of ours, and those that Apache's broker wrote.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gantry_disk::faulty::FaultyDisk;
use gantry_doctor::{CheckOptions, Progress, Report, Severity, Shape, Target, check};
use gantry_message::{Millis, QueueId, Record, SysFlag, java_hash};
use gantry_store::{Clock, Outcome, Store, StoreConfig, Tags};

pub(crate) const SEGMENT: u64 = 4096;
pub(crate) const QUEUE_FILE: u64 = 20 * 16;
pub(crate) const ROOT: &str = "/store";

pub(crate) const CLEAN: &str = include_str!("../../../store/tests/golden/apache-4.9.7-clean.txt");
pub(crate) const UNCLEAN: &str =
    include_str!("../../../store/tests/golden/apache-4.9.7-unclean.txt");

pub(crate) const EXT: &str = include_str!("../../../store/tests/golden/apache-4.9.7-ext.txt");

/// A store of Apache's: `store/tests/golden/README.md` says how it was made.
pub(crate) fn apache(golden: &str) -> FaultyDisk {
    let disk = FaultyDisk::new(1);
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for line in golden.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["file", path, len] => {
                files.push((Path::new(ROOT).join(path), vec![0; len.parse().unwrap()]));
            }
            [at, bytes] => {
                let at = usize::from_str_radix(at, 16).unwrap();
                let (digits, times) = bytes
                    .split_once('*')
                    .map_or((bytes, 1), |(b, n)| (b, n.parse().unwrap()));
                let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
                let bytes: Vec<u8> = pairs
                    .map(|pair| u8::from_str_radix(pair, 16).unwrap())
                    .collect();
                let bytes = bytes.repeat(times);
                files.last_mut().unwrap().1[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            _ => panic!("{line}"),
        }
    }
    for (path, content) in files {
        disk.put(&path, &content);
    }
    disk
}

/// A store of ours on a disk in memory, with a clock that goes 7 ms a message.
pub(crate) struct Home {
    pub(crate) disk: FaultyDisk,
    pub(crate) now: Arc<AtomicI64>,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            disk: FaultyDisk::new(1),
            now: Arc::new(AtomicI64::new(1_700_000_000_000)),
        }
    }

    pub(crate) fn config(&self) -> StoreConfig {
        let now = Arc::clone(&self.now);
        StoreConfig {
            segment_size: SEGMENT,
            queue_file_size: QUEUE_FILE,
            index_slots: 7,
            index_entries: 40,
            clock: Clock::new(move || Millis(now.fetch_add(7, Ordering::Relaxed))),
            ..StoreConfig::at(ROOT)
        }
    }

    pub(crate) fn open(&self) -> Arc<Store> {
        let now = Millis(self.now.load(Ordering::Relaxed));
        let store = Store::open(Arc::new(self.disk.clone()), self.config(), now).unwrap();
        store.mark_running().unwrap();
        store
    }

    /// Stopped cleanly, with messages in two topics, keys, tags, and tables.
    pub(crate) fn healthy() -> Self {
        let home = Self::new();
        let store = home.open();
        for n in 0..150 {
            send(&store, n);
            if n % 40 == 0 {
                store.turn();
            }
        }
        store.shutdown().unwrap();
        home.put_tables();
        home
    }

    pub(crate) fn put_tables(&self) {
        let topic = |name: &str| {
            format!(
                "\"{name}\":{{\"perm\":6,\"readQueueNums\":2,\"topicName\":\"{name}\",\"writeQueueNums\":2}}"
            )
        };
        let topics = format!(
            "{{\"dataVersion\":{{\"counter\":1,\"timestamp\":1}},\"topicConfigTable\":{{{},{},{}}}}}",
            topic("Orders"),
            topic("Events"),
            topic("SCHEDULE_TOPIC_XXXX")
        );
        let groups = "{\"dataVersion\":{\"counter\":1},\"subscriptionGroupTable\":{\"g\":{\"groupName\":\"g\"}}}";
        let offsets = "{\"offsetTable\":{\"Orders@g\":{0:3,1:4\n}}}";
        let delay = "{\"offsetTable\":{3:1\n}}";
        for (name, content) in [
            ("topics.json", topics.as_str()),
            ("subscriptionGroup.json", groups),
            ("consumerOffset.json", offsets),
            ("delayOffset.json", delay),
        ] {
            for suffix in ["", ".bak"] {
                let path = Path::new(ROOT)
                    .join("config")
                    .join(format!("{name}{suffix}"));
                self.disk.put(&path, content.as_bytes());
            }
        }
    }

    pub(crate) fn below(&self, dir: &str) -> Vec<PathBuf> {
        let mut files = self.disk.files();
        files.retain(|path| path.starts_with(Path::new(ROOT).join(dir)));
        files
    }

    pub(crate) fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.disk.content(path).unwrap();
        change(&mut content);
        self.disk.put(path, &content);
    }
}

pub(crate) fn properties(n: u64) -> String {
    format!(
        "KEYS\u{1}k{n} all\u{2}TAGS\u{1}t{}\u{2}UNIQ_KEY\u{1}u{n}",
        n % 3
    )
}

/// Stores message `n`.
pub(crate) fn send(store: &Store, n: u64) -> u64 {
    let topic = if n.is_multiple_of(3) {
        "Orders"
    } else {
        "Events"
    };
    let id = u32::try_from(n % 2).unwrap();
    let body = format!(
        "message {n} {}",
        "x".repeat(usize::try_from(n % 50).unwrap())
    );
    let properties = properties(n);
    let record = Record {
        topic,
        queue_id: QueueId(id),
        flag: 0,
        sys_flag: SysFlag(0),
        born_time: Millis(1),
        born_host: "10.0.0.9:5555".parse().unwrap(),
        store_host: "10.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_offset: 0,
        body: body.as_bytes(),
        properties: properties.as_bytes(),
    };
    let queue = store.queue(topic, QueueId(id));
    let tags = i64::from(java_hash(&format!("t{}", n % 3)));
    match store.append(&queue, &record, Tags::Code(tags)) {
        Outcome::Stored { offset, .. } => offset.0,
        Outcome::Refused(error) => panic!("{error}"),
    }
}

/// Nothing but the directory is told.
pub(crate) fn target(disk: &FaultyDisk) -> Target {
    Target::new(Arc::new(disk.clone()), Path::new(ROOT), Shape::default()).unwrap()
}

pub(crate) fn examine(disk: &FaultyDisk) -> Report {
    check(&target(disk), CheckOptions::default(), &Progress::hidden()).unwrap()
}

pub(crate) fn faults(report: &Report) -> Vec<String> {
    let faults = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Fault);
    faults.map(|finding| finding.to_string()).collect()
}

/// Every file and its content.
pub(crate) fn tree(disk: &FaultyDisk) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let files = disk.files().into_iter();
    files
        .map(|path| {
            let content = disk.content(&path);
            (path, content)
        })
        .collect()
}
