//! Derived damages of one healthy store of real files: each class of file damaged in each way, with `abort` present and
//! not. Each starts and serves, and misses exactly the messages whose bytes were destroyed; what is missing is named in
//! the log.
//!
//! What must be missing is computed from the damage alone: a message is destroyed when bytes of its record differ from
//! what they were. Queues, index and checkpoints hold nothing that the log does not tell, so damage to them costs nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use gantry_disk::OsDisk;
use gantry_message::{LogOffset, Millis, QueueId, QueueOffset, Record, RecordView, SysFlag};
use gantry_store::{Clock, Outcome, Store, StoreConfig, Tags};

const SEGMENT: u64 = 16 << 10;
const QUEUE_FILE: u64 = 20 * 32;
const PAGE: usize = 4096;
const QUEUES: [(&str, u32); 4] = [
    ("orders", 0),
    ("orders", 3),
    ("%RETRY%group", 0),
    ("late", 1),
];

/// A message of the healthy store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    topic: &'static str,
    id: u32,
    offset: u64,
    start: u64,
    end: u64,
    body: Vec<u8>,
}

/// The healthy store, stopped cleanly and as a kill leaves it.
struct Healthy {
    dir: tempfile::TempDir,
    messages: Vec<Message>,
    now: Arc<AtomicI64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    Cleanly,
    /// `abort` is there, and the last messages are in the log alone.
    ByKill,
}

impl Stopped {
    fn name(self) -> &'static str {
        match self {
            Self::Cleanly => "clean",
            Self::ByKill => "killed",
        }
    }
}

fn config(root: &Path, now: &Arc<AtomicI64>) -> StoreConfig {
    let now = Arc::clone(now);
    StoreConfig {
        segment_size: SEGMENT,
        queue_file_size: QUEUE_FILE,
        index_slots: 32,
        index_entries: 120,
        reserved_hours: 1_000_000,
        clock: Clock::new(move || Millis(now.fetch_add(1, Ordering::Relaxed))),
        ..StoreConfig::at(root)
    }
}

fn open(root: &Path, config: StoreConfig, what: &str) -> Arc<Store> {
    let store = Store::open(Arc::new(OsDisk), config, Millis(1_800_000_000_000))
        .unwrap_or_else(|error| panic!("{what}: {} does not start: {error}", root.display()));
    store.mark_running().unwrap();
    store
}

fn put(store: &Store, (topic, id): (&'static str, u32), body: &[u8]) -> Message {
    let queue = store.queue(topic, QueueId(id));
    let text = String::from_utf8_lossy(body);
    let key = text.split(' ').next().unwrap();
    let properties = format!("UNIQ_KEY\u{1}{key}");
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
        body,
        properties: properties.as_bytes(),
    };
    let outcome = store.append(&queue, &record, Tags::Code(0));
    let Outcome::Stored {
        offset,
        end,
        queue_offset,
        ..
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    Message {
        topic,
        id,
        offset: queue_offset.0,
        start: offset.0,
        end: end.0,
        body: body.to_vec(),
    }
}

fn body(n: usize) -> Vec<u8> {
    // Bytes that differ from place to place, so that no damage leaves them as they were.
    let filling: String = (0..n * 37 % 400)
        .map(|at| char::from(b'a' + u8::try_from((at * 7 + n) % 26).unwrap()))
        .collect();
    format!("U{n} {filling}").into_bytes()
}

fn healthy() -> Healthy {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("running");
    let now = Arc::new(AtomicI64::new(1_700_000_000_000));
    let store = open(&root, config(&root, &now), "healthy");
    let mut messages: Vec<Message> = (0..390)
        .map(|n| put(&store, QUEUES[n % 4], &body(n)))
        .collect();
    store.turn();
    messages.extend((390..400).map(|n| put(&store, QUEUES[n % 4], &body(n))));
    fs::create_dir_all(root.join("config")).unwrap();
    fs::write(root.join("config/topics.json"), "{}").unwrap();
    copy(&root, &dir.path().join(Stopped::ByKill.name()));
    store.shutdown().unwrap();
    copy(&root, &dir.path().join(Stopped::Cleanly.name()));
    assert!(messages.last().unwrap().end > 5 * SEGMENT);
    Healthy { dir, messages, now }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// What is done to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Emptied,
    Cut,
    LastPageZeroed,
    GarbagePage,
    Missing,
}

const DAMAGES: [Damage; 5] = [
    Damage::Emptied,
    Damage::Cut,
    Damage::LastPageZeroed,
    Damage::GarbagePage,
    Damage::Missing,
];

impl Damage {
    fn apply(self, path: &Path, random: &mut Random) {
        let mut content = fs::read(path).unwrap();
        let pages = content.len().div_ceil(PAGE);
        match self {
            Self::Missing => return fs::remove_file(path).unwrap(),
            Self::Emptied => content.clear(),
            Self::Cut => content.truncate(random.below(content.len())),
            Self::LastPageZeroed => {
                let at = pages.saturating_sub(1) * PAGE;
                content[at..].fill(0);
            }
            Self::GarbagePage => {
                let at = random.below(pages) * PAGE;
                let end = content.len().min(at + PAGE);
                content[at..end].fill_with(|| u8::try_from(random.below(256)).unwrap());
            }
        }
        fs::write(path, content).unwrap();
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (limit.max(1) as u64)).unwrap()
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all
}

/// One of each class: its name and where it is.
fn classes(root: &Path) -> Vec<(String, PathBuf)> {
    let mut all = Vec::new();
    let mut add = |class: &str, path: &Path| {
        all.push((
            class.to_owned(),
            path.strip_prefix(root).unwrap().to_owned(),
        ));
    };
    // Segments and queue files that were made ahead hold nothing.
    let is_used = |path: &&PathBuf| fs::read(path).unwrap().iter().any(|&byte| byte != 0);
    for (class, dir) in [
        ("log", root.join("commitlog")),
        ("queue", root.join("consumequeue/orders/0")),
        ("index", root.join("index")),
    ] {
        let all = files(&dir);
        let all: Vec<&PathBuf> = all.iter().filter(is_used).collect();
        assert!(all.len() > 2, "{class}: {all:?}");
        add(&format!("first {class}"), all[0]);
        add(&format!("middle {class}"), all[all.len() / 2]);
        add(&format!("last {class}"), all[all.len() - 1]);
    }
    add("checkpoint", &root.join("checkpoint"));
    add("our checkpoint", &root.join("gantry.checkpoint"));
    all
}

/// What a damage destroyed.
struct Destroyed {
    /// The messages whose bytes are no longer what they were, by where they start.
    messages: BTreeSet<u64>,
    /// Parts of the log whose keys were in index files that are no longer what they were: nothing else tells that a key
    /// is missing, so these may not be found by key.
    keys: Vec<RangeInclusive<u64>>,
}

fn destroyed(healthy: &Healthy, intact: &Path, damaged: &Path) -> Destroyed {
    let mut keys = Vec::new();
    for path in files(&intact.join("index")) {
        let was = fs::read(&path).unwrap();
        let is =
            fs::read(damaged.join("index").join(path.file_name().unwrap())).unwrap_or_default();
        if is != was {
            let at = |from: usize| u64::from_be_bytes(*was[from..].first_chunk().unwrap());
            keys.push(at(16)..=at(24));
        }
    }
    let messages = destroyed_messages(healthy, intact, damaged);
    Destroyed { messages, keys }
}

fn destroyed_messages(healthy: &Healthy, intact: &Path, damaged: &Path) -> BTreeSet<u64> {
    let name = |at: u64| format!("commitlog/{:020}", at - at % SEGMENT);
    let mut read: BTreeMap<String, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
    let lost = |message: &&Message| {
        let (was, is) = read.entry(name(message.start)).or_insert_with_key(|name| {
            let is = fs::read(damaged.join(name)).unwrap_or_default();
            (fs::read(intact.join(name)).unwrap(), is)
        });
        let within = |at: u64| usize::try_from(at % SEGMENT).unwrap();
        let range = within(message.start)..within(message.end - 1) + 1;
        is.get(range.clone()) != was.get(range)
    };
    healthy
        .messages
        .iter()
        .filter(lost)
        .map(|message| message.start)
        .collect()
}

/// What a consumer gets that asks for so many messages at a time and takes each answer as Java's client does: a record
/// that cannot be read ends it.
fn consumed(store: &Store, at_a_time: u32) -> BTreeSet<Message> {
    let mut all = BTreeSet::new();
    for (topic, id) in QUEUES {
        let queue = store.queue(topic, QueueId(id));
        let mut next = queue.min();
        while next < queue.max() {
            let found = store.read(&queue, next, at_a_time, &|_| true);
            assert!(found.next > next, "a read does not move on: {found:?}");
            // Java's client takes the answer's body for one buffer.
            let body = found.slices.concat();
            let mut rest = &body[..];
            while let Ok(view) = RecordView::parse(rest) {
                if view.verify_crc().is_ok() {
                    all.insert(Message {
                        topic,
                        id,
                        offset: view.queue_offset().0,
                        start: view.log_offset().0,
                        end: view.log_offset().0 + view.len() as u64,
                        body: view.body().to_vec(),
                    });
                }
                rest = &rest[view.len()..];
            }
            next = found.next;
        }
    }
    all
}

/// What the store says of itself.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn keep<T>(&self, action: impl FnOnce() -> T) -> T {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, action)
    }

    fn errors(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .filter(|line| line.contains("ERROR"))
            .map(str::to_owned)
            .collect()
    }
}

/// Starts on what is there and compares: before and after twenty more messages and a clean restart.
fn check(healthy: &Healthy, root: &Path, config: &StoreConfig, destroyed: &Destroyed, what: &str) {
    let (log, lost) = (Log::default(), &destroyed.messages);
    log.keep(|| {
        let store = open(root, config.clone(), what);
        store.turn();
        assert_eq!(store.check_writable(), Ok(()), "{what}");
        let mut expected: BTreeSet<Message> = healthy.messages.iter().cloned().collect();
        expected.retain(|message| !lost.contains(&message.start));
        same(
            &consumed(&store, 1),
            &expected,
            lost,
            &format!("{what}, one by one"),
        );
        same(
            &consumed(&store, 32),
            &expected,
            lost,
            &format!("{what}, 32 at a time"),
        );
        let has_key = |message: &&Message| {
            let mut gone = destroyed.keys.iter();
            !gone.any(|range| range.contains(&message.start))
        };
        for message in expected.iter().filter(has_key) {
            let key = String::from_utf8_lossy(&message.body);
            let key = key.split(' ').next().unwrap();
            let found = store
                .query(message.topic, key, 9, Millis(0), Millis(i64::MAX))
                .unwrap();
            let bodies: Vec<Vec<u8>> = found
                .records
                .iter()
                .map(|bytes| RecordView::parse(bytes).unwrap().body().to_vec())
                .collect();
            assert_eq!(bodies, std::slice::from_ref(&message.body), "{what}: {key}");
            let by_id = store.record_at(LogOffset(message.start)).unwrap();
            assert!(by_id.is_some(), "{what}: {key} by its id");
        }
        for n in 400..420 {
            let at = QUEUES[n % 4];
            let before = store.queue(at.0, QueueId(at.1)).max();
            let message = put(&store, at, &body(n));
            assert_eq!(QueueOffset(message.offset), before, "{what}");
            expected.insert(message);
        }
        store.turn();
        store.shutdown().unwrap();
        drop(store);
        let store = open(root, config.clone(), what);
        same(
            &consumed(&store, 32),
            &expected,
            lost,
            &format!("{what}, after a clean restart"),
        );
        store.shutdown().unwrap();
    });
    // Twenty more messages and all ends: no acknowledged place was given away, and what is lost has been said.
    assert!(
        lost.is_empty() || !log.errors().is_empty(),
        "{what}: nothing was said of {lost:?}"
    );
}

#[track_caller]
fn same(
    found: &BTreeSet<Message>,
    expected: &BTreeSet<Message>,
    partly: &BTreeSet<u64>,
    what: &str,
) {
    let short = |message: &Message| {
        let Message {
            topic,
            id,
            offset,
            start,
            ..
        } = message;
        format!("{topic} {id} at {offset} ({start})")
    };
    let missing: Vec<_> = expected.difference(found).map(short).collect();
    // What is left of a record may still be a whole message: of what was cut off only a byte may have counted.
    let extra: Vec<_> = found
        .difference(expected)
        .filter(|message| !partly.contains(&message.start))
        .map(short)
        .collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{what}: missing {missing:?}, too many {extra:?}"
    );
}

/// Runs a case on a copy of its own.
fn case(
    healthy: &Healthy,
    stopped: Stopped,
    what: &str,
    damage: impl FnOnce(&Path),
    change: impl FnOnce(&mut StoreConfig),
) {
    let intact = healthy.dir.path().join(stopped.name());
    let place = tempfile::tempdir_in(healthy.dir.path()).unwrap();
    let root = place.path().join("store");
    copy(&intact, &root);
    damage(&root);
    let mut config = config(&root, &healthy.now);
    change(&mut config);
    let destroyed = destroyed(healthy, &intact, &root);
    check(
        healthy,
        &root,
        &config,
        &destroyed,
        &format!("{what}, {stopped:?}"),
    );
}

const STOPS: [Stopped; 2] = [Stopped::Cleanly, Stopped::ByKill];

#[test]
fn every_class_of_file_damaged_in_every_way_costs_only_what_was_destroyed() {
    let healthy = healthy();
    let (mut cases, mut failed) = (0, Vec::new());
    for stopped in STOPS {
        for (class, path) in classes(&healthy.dir.path().join(stopped.name())) {
            for damage in DAMAGES {
                cases += 1;
                let what = format!("case {cases}: {class} {damage:?}");
                let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ cases);
                let run = || {
                    let apply = |root: &Path| damage.apply(&root.join(&path), &mut random);
                    case(&healthy, stopped, &what, apply, |_| {});
                };
                // All that fail are told, not the first.
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                    failed.push(what);
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
    assert!(cases >= 100, "{cases} cases");
}

#[test]
fn files_that_do_not_belong_there_cost_nothing() {
    let healthy = healthy();
    for stopped in STOPS {
        for stray in [
            "commitlog/notes.txt",
            "commitlog/00000000000000000000.tmp",
            "commitlog/00000000000000000007",
            "commitlog/lost+found/x",
            "consumequeue/orders/0/00000000000000000000.tmp",
            "consumequeue/orders/0/notes",
            "consumequeue/orders/0/00000000000000000013",
            "consumequeue/orders/x/00000000000000000000",
            "consumequeue/orders/notes",
            "consumequeue/notes",
            "index/notes",
            "index/20990101000000000",
            "notes",
            "checkpoint.tmp",
            "gantry.checkpoint.tmp",
            "gantry.deleted.tmp",
            "gantry.deleted",
            "config/topics.json.tmp",
            "quarantine/notes",
        ] {
            let stray_file = |root: &Path| {
                let path = root.join(stray);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, b"does not belong here").unwrap();
            };
            case(&healthy, stopped, stray, stray_file, |_| {});
        }
    }
}

#[test]
fn other_sizes_than_the_files_have_cost_nothing() {
    let healthy = healthy();
    for stopped in STOPS {
        for (segment, queue_file, entries) in [
            (SEGMENT * 2, QUEUE_FILE, 120),
            (SEGMENT / 2, QUEUE_FILE, 120),
            (SEGMENT, QUEUE_FILE * 3, 120),
            (SEGMENT, QUEUE_FILE / 2, 120),
            (SEGMENT, QUEUE_FILE, 50),
            (5000, 20 * 7, 77),
        ] {
            let what = format!("sizes {segment}, {queue_file}, {entries}");
            case(
                &healthy,
                stopped,
                &what,
                |_| {},
                |config| {
                    (config.segment_size, config.queue_file_size) = (segment, queue_file);
                    config.index_entries = entries;
                },
            );
        }
    }
}

#[test]
fn abort_where_none_should_be_and_none_where_one_should_cost_nothing() {
    let healthy = healthy();
    case(
        &healthy,
        Stopped::Cleanly,
        "abort made",
        |root| fs::write(root.join("abort"), b"").unwrap(),
        |_| {},
    );
    case(
        &healthy,
        Stopped::ByKill,
        "abort removed",
        |root| fs::remove_file(root.join("abort")).unwrap(),
        |_| {},
    );
}
