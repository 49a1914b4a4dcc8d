//! Stores that Apache's broker wrote: opened, read, continued, and written again byte for byte.
//! `golden/README.md` says how they were made.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gantry_disk::faulty::FaultyDisk;
use gantry_message::{Millis, QueueId, RecordView, SysFlag, java_hash_bytes};
use gantry_store::{Clock, Outcome, Store, StoreConfig, Tags};

const CLEAN: &str = include_str!("golden/apache-4.9.7-clean.txt");
const UNCLEAN: &str = include_str!("golden/apache-4.9.7-unclean.txt");
/// With `consumequeue_ext`, two folders of the log, both address families and every way to compress.
const EXT: &str = include_str!("golden/apache-4.9.7-ext.txt");

fn files(golden: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for line in golden.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["file", path, len] => files.push((path.to_owned(), vec![0; len.parse().unwrap()])),
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
    files
}

fn disk(golden: &str) -> FaultyDisk {
    let disk = FaultyDisk::new(1);
    for (path, content) in files(golden) {
        disk.put(&Path::new("/store").join(path), &content);
    }
    disk
}

fn config() -> StoreConfig {
    StoreConfig {
        segment_size: 8192,
        queue_file_size: 160,
        index_slots: 50,
        index_entries: 20,
        ..StoreConfig::at("/store")
    }
}

fn open(disk: &FaultyDisk) -> Arc<Store> {
    Store::open(Arc::new(disk.clone()), config(), Millis::now()).unwrap()
}

fn bodies(store: &Store, topic: &str, id: u32) -> Vec<String> {
    let queue = store.find_queue(topic, QueueId(id)).unwrap();
    let mut bodies = Vec::new();
    let mut next = queue.min();
    while next < queue.max() {
        let found = store.read(&queue, next, 32, &|_| true);
        for slice in &found.slices {
            let mut rest = &slice[..];
            while !rest.is_empty() {
                let view = RecordView::parse(rest).unwrap();
                view.verify_crc().unwrap();
                assert_eq!(view.queue_offset().0, bodies.len() as u64);
                // The client compressed the big ones.
                let is_big = view.sys_flag().has(SysFlag::COMPRESSED);
                let text = || String::from_utf8(view.body().to_vec()).unwrap();
                bodies.push(if is_big { "big".to_owned() } else { text() });
                rest = &rest[view.len()..];
            }
        }
        next = found.next;
    }
    bodies
}

fn sent(numbers: std::ops::Range<u32>, topic: &str, id: u32) -> Vec<String> {
    let is_here = |n: &u32| n.is_multiple_of(3) == (topic == "Orders") && n % 2 == id;
    numbers
        .filter(is_here)
        .map(|n| format!("body {n} grüße"))
        .collect()
}

fn batch() -> Vec<String> {
    (0..4).map(|n| format!("batched {n}")).collect()
}

fn check_clean_part(store: &Store) {
    let big = || vec!["big".to_owned()];
    let is_prefix = |topic, id, parts: &[Vec<String>]| {
        let (found, expected) = (bodies(store, topic, id), parts.concat());
        assert_eq!(found[..expected.len()], expected, "{topic} {id}");
    };
    is_prefix("Orders", 0, &[sent(0..30, "Orders", 0)]);
    is_prefix("Orders", 1, &[sent(0..30, "Orders", 1)]);
    is_prefix("Events", 0, &[sent(0..30, "Events", 0), big()]);
    is_prefix("Events", 1, &[sent(0..30, "Events", 1), batch()]);
    assert_eq!(bodies(store, "SCHEDULE_TOPIC_XXXX", 17)[0], "later");
    for n in 1..30 {
        let topic = if n % 3 == 0 { "Orders" } else { "Events" };
        let found = store
            .query(topic, &format!("key{n}"), 64, Millis(0), Millis(i64::MAX))
            .unwrap();
        assert_eq!(found.records.len(), 1, "key{n}");
    }
}

fn check_unclean_part(store: &Store) {
    check_clean_part(store);
    let orders = bodies(store, "Orders", 0).len() + bodies(store, "Orders", 1).len();
    let events = bodies(store, "Events", 0).len() + bodies(store, "Events", 1).len();
    assert_eq!((orders, events), (10 + 3, 20 + 5 + 7 + 5));
    assert_eq!(bodies(store, "SCHEDULE_TOPIC_XXXX", 17), ["later", "later"]);
    for (topic, key) in [
        ("Events", "key100"),
        ("Orders", "key108"),
        ("Events", "big100"),
        ("Events", "batch1003"),
    ] {
        let found = store
            .query(topic, key, 64, Millis(0), Millis(i64::MAX))
            .unwrap();
        assert_eq!(found.records.len(), 1, "{key}");
    }
}

#[test]
fn a_cleanly_stopped_store_of_apache_is_read_and_continued() {
    let disk = disk(CLEAN);
    for round in 0..3 {
        let store = open(&disk);
        store.mark_running().unwrap();
        store.turn();
        check_clean_part(&store);
        let queue = store.queue("Orders", QueueId(0));
        assert_eq!(queue.max().0, 5 + round);
        append(&store, &files(CLEAN)[2].1[..227]);
        assert_eq!(store.figures().quarantined, 0);
        store.shutdown().unwrap();
    }
}

#[test]
fn a_killed_store_of_apache_is_read_and_continued() {
    for with_queues in [true, false] {
        let disk = disk(UNCLEAN);
        for path in disk.files() {
            if !with_queues
                && (path.starts_with("/store/consumequeue") || path.starts_with("/store/index"))
            {
                disk.take(&path);
            }
        }
        for _ in 0..2 {
            let store = open(&disk);
            store.mark_running().unwrap();
            store.turn();
            check_unclean_part(&store);
            assert_eq!(store.figures().quarantined, 0);
            store.shutdown().unwrap();
        }
        assert!(!disk.files().contains(&"/store/abort".into()));
    }
}

#[test]
fn keys_of_a_killed_apache_are_found_while_they_are_indexed_again() {
    let disk = disk(UNCLEAN);
    let store = open(&disk);
    store.mark_running().unwrap();
    // Nothing was indexed by us yet.
    check_clean_part(&store);
    store.turn();
    check_unclean_part(&store);
}

/// Stores a record of Apache's once more.
fn append(store: &Store, bytes: &[u8]) -> u64 {
    let view = RecordView::parse(bytes).unwrap();
    let queue = store.queue(view.topic(), view.queue_id());
    let tags = view
        .property("TAGS")
        .map_or(0, |tags| i64::from(java_hash_bytes(tags)));
    let is_delayed = view.topic() == "SCHEDULE_TOPIC_XXXX";
    let tags = if is_delayed {
        Tags::DueAfter(Millis(7_200_000))
    } else {
        Tags::Code(tags)
    };
    match store.append(&queue, &view.to_record(), tags) {
        Outcome::Stored { offset, .. } => offset.0,
        Outcome::Refused(error) => panic!("{error}"),
    }
}

#[test]
fn the_same_messages_make_the_same_files() {
    for golden in [CLEAN, UNCLEAN] {
        let theirs = files(golden);
        let log = theirs
            .iter()
            .filter(|(path, _)| path.starts_with("commitlog"));
        let log: Vec<u8> = log.flat_map(|(_, content)| content.clone()).collect();
        let now = Arc::new(AtomicI64::new(0));
        let clock = Arc::clone(&now);
        let clock = Clock::new(move || Millis(clock.load(Ordering::Relaxed)));
        let disk = FaultyDisk::new(1);
        let store = Store::open(
            Arc::new(disk.clone()),
            StoreConfig { clock, ..config() },
            Millis(0),
        )
        .unwrap();
        store.mark_running().unwrap();
        let mut at = 0;
        while let Some(rest) = log.get(at..) {
            match RecordView::parse(rest) {
                Ok(view) => {
                    now.store(view.store_time().0, Ordering::Relaxed);
                    assert_eq!(append(&store, view.bytes()), at as u64);
                    at += view.len();
                }
                Err(_) if rest.starts_with(&[0; 8]) || rest.is_empty() => break,
                Err(_) => at = (at / 8192 + 1) * 8192,
            }
        }
        store.turn();
        store.shutdown().unwrap();
        let same = ["commitlog/", "consumequeue/"];
        for (path, content) in theirs
            .iter()
            .filter(|(path, _)| same.iter().any(|dir| path.starts_with(dir)))
        {
            assert!(
                disk.content(&Path::new("/store").join(path)).as_ref() == Some(content),
                "{path} differs"
            );
        }
        // Index files are named by the time of their making; there are as many and they hold the same.
        let theirs = theirs
            .iter()
            .filter(|(path, _)| path.starts_with("index/"))
            .map(|(_, content)| content.clone());
        let mine = disk
            .files()
            .into_iter()
            .filter(|path| path.starts_with("/store/index"));
        let (theirs, mine): (Vec<_>, Vec<_>) = (
            theirs.collect(),
            mine.map(|path| disk.content(&path).unwrap()).collect(),
        );
        assert_eq!(theirs.len(), mine.len());
        for (number, (theirs, mine)) in theirs.iter().zip(&mine).enumerate() {
            assert_eq!(theirs, mine, "index file {number}");
        }
    }
}

/// A stop that comes before the index thread has read the log must not forget which files there are.
#[test]
fn a_short_run_keeps_the_index() {
    let disk = disk(CLEAN);
    for _ in 0..3 {
        let store = open(&disk);
        store.start().unwrap();
        store.shutdown().unwrap();
    }
    let theirs = files(CLEAN)
        .into_iter()
        .filter(|(path, _)| path.starts_with("index/"));
    for (path, content) in theirs {
        let mine = disk.content(&Path::new("/store").join(&path)).unwrap();
        assert!(mine == content, "{path} differs");
    }
    let store = open(&disk);
    check_clean_part(&store);
}

/// The settings that the third store was made with.
fn ext_config() -> StoreConfig {
    StoreConfig {
        commit_log_paths: vec!["/store/log-b".into(), "/store/log-a/".into()],
        ..config()
    }
}

fn open_ext(disk: &FaultyDisk, config: StoreConfig) -> Arc<Store> {
    let store = Store::open(Arc::new(disk.clone()), config, Millis::now()).unwrap();
    store.mark_running().unwrap();
    store
}

fn views(store: &Store, topic: &str, id: u32, wanted: &dyn Fn(i64) -> bool) -> Vec<bytes::Bytes> {
    let queue = store.find_queue(topic, QueueId(id)).unwrap();
    let (mut all, mut next) = (Vec::new(), queue.min());
    while next < queue.max() {
        let found = store.read(&queue, next, 32, wanted);
        for mut slice in found.slices {
            while !slice.is_empty() {
                let len = RecordView::parse(&slice).unwrap().len();
                all.push(slice.split_to(len));
            }
        }
        next = found.next;
    }
    all
}

/// Every record of Apache's is there, whatever it says about addresses and compression.
fn check_ext_store(store: &Store) {
    let mut all = Vec::new();
    for (topic, id, count) in [
        ("Orders", 0, 4),
        ("Orders", 1, 4),
        ("Events", 0, 14),
        ("Events", 1, 16),
        ("SCHEDULE_TOPIC_XXXX", 17, 2),
    ] {
        let found = views(store, topic, id, &|_| true);
        assert!(found.len() >= count, "{topic} {id}: {}", found.len());
        all.extend(found.into_iter().take(count));
    }
    let views: Vec<_> = all
        .iter()
        .map(|bytes| RecordView::parse(bytes).unwrap())
        .collect();
    views.iter().for_each(|view| view.verify_crc().unwrap());
    let count = |bits: u32, value: u32| {
        let with = |view: &&RecordView<'_>| view.sys_flag().0 & bits == value;
        views.iter().filter(with).count()
    };
    // A run of 20 messages with IPv6 addresses, another with IPv4.
    assert_eq!((count(0x30, 0x30), count(0x30, 0)), (20, 20));
    for (kind, name) in [(0x100, "LZ4"), (0x200, "ZSTD"), (0x300, "ZLIB")] {
        assert_eq!(count(0x701, kind | 1), 2, "{name}");
    }
    for key in ["key3", "key101", "big0LZ4", "big100ZSTD", "batch02"] {
        let topics = ["Orders", "Events"];
        let found = topics.map(|topic| store.query(topic, key, 64, Millis(0), Millis(i64::MAX)));
        let found: usize = found
            .into_iter()
            .map(|one| one.unwrap().records.len())
            .sum();
        assert_eq!(found, 1, "{key}");
    }
}

#[test]
fn a_store_in_several_folders_is_read_and_continued_where_java_would() {
    let disk = disk(EXT);
    let first = &files(EXT)[2].1;
    let record = &first[..RecordView::parse(first).unwrap().len()];
    let mut config = ext_config();
    let mut appended = 0;
    for (round, expected) in [
        (0, "/store/log-a"),
        (1, "/store/log-b"),
        (2, "/store/log-a"),
    ] {
        let store = open_ext(&disk, config.clone());
        store.turn();
        check_ext_store(&store);
        while store.figures().segments < 3 + round {
            append(&store, record);
            appended += 1;
        }
        let newest = Path::new(expected).join(format!("{:020}", 8192 * (2 + round)));
        assert!(disk.content(&newest).is_some(), "{}", newest.display());
        let orders = views(&store, "Orders", 0, &|_| true);
        assert_eq!(orders.len(), 4 + appended);
        assert_eq!(store.figures().quarantined, 0);
        store.shutdown().unwrap();
    }
    // The other folder is full of old files now: none is made there any more.
    config.read_only_commit_log_paths = vec!["/store/log-b".into()];
    let store = open_ext(&disk, config);
    while store.figures().segments < 6 {
        append(&store, record);
    }
    let newest = Path::new("/store/log-a").join(format!("{:020}", 8192 * 5));
    assert!(disk.content(&newest).is_some());
    check_ext_store(&store);
}

const TAG_A: i64 = 2_598_919;
const TAG_B: i64 = 2_598_920;

/// Bodies of the messages with a tags code, as a filter finds them.
fn tagged(store: &Store, topic: &str, id: u32, code: i64) -> usize {
    let found = views(store, topic, id, &|tags| tags == code);
    let has_tag = |bytes: &bytes::Bytes| {
        let view = RecordView::parse(bytes).unwrap();
        i64::from(java_hash_bytes(view.property("TAGS").unwrap())) == code
    };
    assert!(found.iter().all(has_tag), "{topic} {id}");
    found.len()
}

fn check_tags(store: &Store) {
    let found = [
        ("Orders", 0, TAG_A),
        ("Orders", 1, TAG_B),
        ("Events", 0, TAG_A),
    ]
    .map(|(topic, id, code)| tagged(store, topic, id, code));
    assert_eq!(found, [4, 4, 8]);
    assert_eq!(tagged(store, "Events", 1, TAG_B), 16);
    assert_eq!(tagged(store, "Events", 1, TAG_A), 0);
    let delayed = store
        .find_queue("SCHEDULE_TOPIC_XXXX", QueueId(17))
        .unwrap();
    for entry in store.queue_entries(&delayed, delayed.min(), 2).unwrap() {
        let record = store.record_at(entry.log_offset).unwrap().unwrap();
        let time = RecordView::parse(&record).unwrap().store_time();
        assert_eq!(entry.tags_code, time.plus(7_200_000).0);
    }
}

#[test]
fn tags_codes_that_stand_in_consumequeue_ext_are_read_there_or_in_the_log() {
    for damage in ["none", "gone", "zeros", "garbage", "cut"] {
        let disk = disk(EXT);
        for path in disk.files() {
            if !path.starts_with("/store/consumequeue_ext") {
                continue;
            }
            let mut content = disk.content(&path).unwrap();
            match damage {
                "none" => continue,
                "gone" => disk.take(&path),
                "zeros" => disk.put(&path, &vec![0; content.len()]),
                "garbage" => {
                    content
                        .iter_mut()
                        .for_each(|byte| *byte = byte.wrapping_mul(31));
                    disk.put(&path, &content);
                }
                _ => disk.put(&path, &content[..30]),
            }
        }
        for _ in 0..2 {
            let store = open_ext(&disk, ext_config());
            store.turn();
            check_ext_store(&store);
            check_tags(&store);
            assert_eq!(store.figures().mended_entries, 0, "{damage}");
            store.shutdown().unwrap();
        }
    }
}

#[test]
fn files_of_consumequeue_ext_go_with_the_messages_that_need_them() {
    let disk = disk(EXT);
    let ext = |topic: &str| {
        let dir = Path::new("/store/consumequeue_ext").join(topic);
        disk.files()
            .iter()
            .filter(|path| path.starts_with(&dir))
            .count()
    };
    let config = StoreConfig {
        delete_log_interval_ms: 0,
        delete_queue_interval_ms: 0,
        ..ext_config()
    };
    let store = open_ext(&disk, config);
    assert_eq!((ext("Events"), ext("Orders")), (4, 2));
    store.delete_topic("Orders").unwrap();
    assert_eq!((ext("Events"), ext("Orders")), (4, 0));
    let record = views(&store, "Events", 1, &|_| true)[0].clone();
    // Deletes all but the newest segment, one after the other.
    for (segments, left) in [(4, 2), (8, 0)] {
        let usage = |available| gantry_disk::Usage {
            total: 100_000_000,
            free: available,
            available,
        };
        disk.set_usage(usage(90_000_000));
        while store.figures().segments < segments {
            append(&store, &record);
        }
        disk.set_usage(usage(12_000_000));
        store.turn();
        assert!(ext("Events") <= left, "{} files", ext("Events"));
        let kept = views(&store, "Events", 1, &|tags| tags == TAG_B).len();
        let queue = store.find_queue("Events", QueueId(1)).unwrap();
        assert_eq!(kept as u64, queue.max().0 - queue.min().0);
    }
}
