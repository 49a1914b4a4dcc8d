//! Damage behind the store's back and faults of the system: what is intact is found again, and nothing panics.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use gantry_disk::Disk as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gantry_disk::faulty::{FaultyDisk, Operation};
use gantry_message::{LogOffset, Millis, QueueId, QueueOffset, Record, RecordView, SysFlag};
use gantry_store::{
    AppendError, Clock, Outcome, Phase, ReadStatus, RecoveryWatch, Store, StoreConfig, StoreError,
    Tags,
};

const SEGMENT: u64 = 4096;
const QUEUE_FILE: u64 = 20 * 16;
const LOG: &str = "/store/commitlog";
const PROGRESS: &str = "/store/gantry.checkpoint";
const EMFILE: i32 = 24;
const EIO: i32 = 5;
const EXDEV: i32 = 18;
const ENOSPC: i32 = 28;

struct Home {
    disk: FaultyDisk,
    now: Arc<AtomicI64>,
}

impl Home {
    fn new(seed: u64) -> Self {
        let now = Arc::new(AtomicI64::new(1_700_000_000_000));
        let disk = FaultyDisk::new(seed);
        Self { disk, now }
    }

    fn config(&self) -> StoreConfig {
        let now = Arc::clone(&self.now);
        StoreConfig {
            segment_size: SEGMENT,
            queue_file_size: QUEUE_FILE,
            index_slots: 7,
            index_entries: 40,
            delete_log_interval_ms: 0,
            delete_queue_interval_ms: 0,
            clock: Clock::new(move || Millis(now.fetch_add(1, Ordering::Relaxed))),
            ..StoreConfig::at("/store")
        }
    }

    fn open(&self) -> Arc<Store> {
        let now = Millis(self.now.load(Ordering::Relaxed));
        let store = Store::open(Arc::new(self.disk.clone()), self.config(), now).unwrap();
        store.mark_running().unwrap();
        store
    }

    /// Every file below a directory.
    fn below(&self, dir: &str) -> Vec<PathBuf> {
        let mut files = self.disk.files();
        files.retain(|path| path.starts_with(dir));
        files
    }

    fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.disk.content(path).unwrap();
        change(&mut content);
        self.disk.put(path, &content);
    }

    /// The bytes of the log from `offset` on.
    fn change_log(&self, offset: u64, change: impl FnOnce(&mut [u8])) {
        let start = offset - offset % SEGMENT;
        let path = Path::new(LOG).join(format!("{start:020}"));
        let at = usize::try_from(offset - start).unwrap();
        self.change(&path, |bytes| change(&mut bytes[at..]));
    }
}

fn record<'a>(topic: &'a str, id: u32, body: &'a [u8]) -> Record<'a> {
    Record {
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
        properties: b"",
    }
}

/// What was stored: log offset, queue offset, store time.
fn put(store: &Store, topic: &str, id: u32, body: &[u8]) -> (u64, u64, Millis) {
    let queue = store.queue(topic, QueueId(id));
    match store.append(&queue, &record(topic, id, body), Tags::Code(7)) {
        Outcome::Stored {
            offset,
            queue_offset,
            store_time,
            ..
        } => (offset.0, queue_offset.0, store_time),
        Outcome::Refused(error) => panic!("{error}"),
    }
}

/// Queue offset and body of every message of a queue, as reads give them.
fn all(store: &Store, topic: &str, id: u32) -> Vec<(u64, Vec<u8>)> {
    let Some(queue) = store.find_queue(topic, QueueId(id)) else {
        return Vec::new();
    };
    let mut next = queue.min();
    let mut found = Vec::new();
    while next < queue.max() {
        let read = store.read(&queue, next, 32, &|_| true);
        assert!(read.next > next, "a read does not move on: {read:?}");
        for slice in &read.slices {
            let mut rest = &slice[..];
            while !rest.is_empty() {
                let view = RecordView::parse(rest).unwrap();
                found.push((view.queue_offset().0, view.body().to_vec()));
                rest = &rest[view.len()..];
            }
        }
        next = read.next;
    }
    found
}

fn body(n: u64) -> Vec<u8> {
    format!(
        "message {n} {}",
        "x".repeat(usize::try_from(n % 50).unwrap())
    )
    .into_bytes()
}

fn expected(count: u64) -> Vec<(u64, Vec<u8>)> {
    (0..count).map(|n| (n, body(n))).collect()
}

#[track_caller]
fn same(found: &[(u64, Vec<u8>)], expected: &[(u64, Vec<u8>)], when: &str) {
    let differs =
        (0..found.len().max(expected.len())).find(|&at| found.get(at) != expected.get(at));
    let text = |one: Option<&(u64, Vec<u8>)>| {
        one.map(|(at, body)| format!("{at}: {}", String::from_utf8_lossy(body)))
    };
    if let Some(at) = differs {
        let (found, expected) = (text(found.get(at)), text(expected.get(at)));
        panic!("{when}: at {at} there is {found:?} instead of {expected:?}");
    }
}

fn fill(store: &Store, count: u64) -> Vec<(u64, u64, Millis)> {
    (0..count).map(|n| put(store, "T", 0, &body(n))).collect()
}

#[test]
fn queue_files_that_are_gone_are_built_again_from_the_log() {
    for name in ["first", "last", "every", "second"] {
        for clean in [true, false] {
            let home = Home::new(1);
            let store = home.open();
            fill(&store, 100);
            store.turn();
            if clean {
                store.shutdown().unwrap();
            }
            drop(store);
            home.disk.kill();
            let files = home.below("/store/consumequeue/T/0");
            let gone = match name {
                "last" => &files[files.len() - 1..],
                "first" => &files[..1],
                "second" => &files[1..2],
                _ => &files[..],
            };
            for path in gone {
                home.disk.take(path);
            }
            let store = home.open();
            let when = format!("{name} gone, clean: {clean}");
            same(&all(&store, "T", 0), &expected(100), &when);
            assert_eq!(put(&store, "T", 0, b"next").1, 100);
        }
    }
}

#[test]
fn without_queues_and_progress_all_of_the_log_is_read_as_apache_does() {
    let home = Home::new(1);
    let store = home.open();
    fill(&store, 200);
    assert!(store.figures().segments > 4);
    store.shutdown().unwrap();
    let mut gone = home.below("/store/consumequeue");
    gone.push(PathBuf::from(PROGRESS));
    gone.iter().for_each(|path| home.disk.take(path));
    same(
        &all(&home.open(), "T", 0),
        &expected(200),
        "all queues removed",
    );
}

#[test]
fn a_segment_whose_closing_blank_is_damaged_takes_nothing_from_the_next_one() {
    let home = Home::new(1);
    let store = home.open();
    let stored = fill(&store, 100);
    drop(store);
    home.disk.kill();
    let next = stored.iter().find(|one| one.0 >= SEGMENT).unwrap();
    let last = stored.iter().rfind(|one| one.0 < SEGMENT).unwrap();
    assert_eq!(next.0, SEGMENT);
    let len = u64::try_from(91 + 1 + body(last.1).len()).unwrap();
    home.change_log(last.0 + len, |blank| blank.fill(0));
    home.disk.take(Path::new(PROGRESS));
    same(
        &all(&home.open(), "T", 0),
        &expected(100),
        "the blank is gone",
    );
}

#[test]
fn a_log_that_ends_with_a_blank_is_not_read_again_from_its_beginning() {
    let home = Home::new(1);
    let store = home.open();
    let stored = fill(&store, 100);
    drop(store);
    home.disk.kill();
    // The process died after the blank and before the record that did not fit.
    let end = home.below("/store/commitlog").len() as u64 * SEGMENT;
    let last = stored.iter().rfind(|one| one.0 < SEGMENT).unwrap();
    for at in (SEGMENT..end).step_by(usize::try_from(SEGMENT).unwrap()) {
        home.disk
            .take(&PathBuf::from(format!("/store/commitlog/{at:020}")));
    }
    let store = home.open();
    assert_eq!(store.max_offset().0, SEGMENT);
    store.shutdown().unwrap();
    drop(store);
    let read = Arc::new(std::sync::Mutex::new(0));
    let most = Arc::clone(&read);
    let config = StoreConfig {
        recovery_watch: RecoveryWatch::new(move |stage| {
            if stage.phase == Phase::Log {
                let mut most = most.lock().unwrap();
                *most = stage.total.max(*most);
            }
        }),
        ..home.config()
    };
    let store = Store::open(Arc::new(home.disk.clone()), config, Millis(0)).unwrap();
    assert_eq!(store.max_offset().0, SEGMENT);
    let kept = stored.iter().filter(|one| one.0 <= last.0).count() as u64;
    same(&all(&store, "T", 0), &expected(kept), "the blank");
    assert_eq!(*read.lock().unwrap(), 0, "bytes of the log are read again");
}

#[test]
fn a_queue_file_with_a_hole_is_built_again_from_the_log() {
    // At the beginning of any file, or anywhere in the last one.
    for (file, from, to) in [
        (0, 0, 320),
        (6, 0, 320),
        (6, 20, 80),
        (3, 0, 100),
        (5, 0, 320),
    ] {
        {
            let home = Home::new(1);
            let store = home.open();
            fill(&store, 100);
            store.shutdown().unwrap();
            home.change(&home.below("/store/consumequeue/T/0")[file], |bytes| {
                bytes[from..to].fill(0);
            });
            let store = home.open();
            assert_eq!(
                put(&store, "T", 0, &body(100)).1,
                100,
                "file {file}, {from}..{to}"
            );
            let found = all(&store, "T", 0);
            same(
                &found,
                &expected(101),
                &format!("file {file}, {from}..{to}"),
            );
        }
    }
}

#[test]
fn a_queue_offset_that_cannot_be_neither_stops_the_start_nor_loses_the_messages_behind() {
    for damaged in [0, 5] {
        for wrong in [i64::MAX, 1 << 60, 1 << 40, 1 << 20] {
            let home = Home::new(1);
            let store = home.open();
            let stored = fill(&store, 20);
            drop(store);
            home.disk.kill();
            // The checksum is of the body only.
            home.change_log(stored[damaged].0, |bytes| {
                bytes[20..28].copy_from_slice(&wrong.to_be_bytes());
            });
            let store = home.open();
            let when = format!("{damaged} says {wrong}");
            same(&all(&store, "T", 0), &expected(20), &when);
            assert_eq!(put(&store, "T", 0, b"next").1, 20);
        }
    }
}

#[test]
fn a_flipped_bit_in_a_queue_offset_moves_no_message() {
    for damaged in [0_usize, 1, 77, 99] {
        for bit in [0, 1, 3, 6, 9, 20] {
            for rebuilt in [true, false] {
                let home = Home::new(1);
                let store = home.open();
                let stored = fill(&store, 100);
                store.turn();
                store.shutdown().unwrap();
                drop(store);
                let wrong = stored[damaged].1 ^ (1 << bit);
                home.change_log(stored[damaged].0, |bytes| {
                    bytes[20..28].copy_from_slice(&wrong.to_be_bytes());
                });
                if rebuilt {
                    for file in home.below("/store/consumequeue") {
                        home.disk.take(&file);
                    }
                }
                let when = format!("{damaged} says {wrong}, queues rebuilt: {rebuilt}");
                for _ in 0..2 {
                    let store = home.open();
                    // A consumer's next position is the one that a record says, and one.
                    same(&all(&store, "T", 0), &expected(100), &when);
                    store.shutdown().unwrap();
                }
                assert_eq!(put(&home.open(), "T", 0, b"next").1, 100, "{when}");
            }
        }
    }
}

/// Apache deletes a topic without a note for us, and makes it again.
#[test]
fn messages_of_a_topic_that_apache_deleted_do_not_come_back_into_the_new_one() {
    let home = Home::new(1);
    let store = home.open();
    for n in 0..40 {
        put(&store, "T", 0, &body(1000 + n));
        put(&store, "other", 0, &body(n));
    }
    store.shutdown().unwrap();
    let noted = home.disk.content(Path::new(PROGRESS)).unwrap();
    let store = home.open();
    store.delete_topic("T").unwrap();
    for n in 0..5 {
        put(&store, "T", 0, &body(n));
        put(&store, "other", 0, &body(40 + n));
    }
    store.shutdown().unwrap();
    drop(store);
    home.disk.put(Path::new(PROGRESS), &noted);
    home.disk.take(Path::new("/store/gantry.deleted"));
    for start in ["first start", "second start"] {
        let store = home.open();
        same(&all(&store, "T", 0), &expected(5), start);
        same(&all(&store, "other", 0), &expected(45), start);
        store.shutdown().unwrap();
    }
    assert_eq!(put(&home.open(), "T", 0, b"next").1, 5);
}

#[test]
fn a_queue_whose_first_messages_are_lost_costs_one_long_start_and_no_more() {
    let home = Home::new(1);
    let store = home.open();
    let stored = fill(&store, 30);
    store.shutdown().unwrap();
    drop(store);
    // More than a file's: the queue begins in the middle of its second one.
    let lost = usize::try_from(stored[20].0).unwrap();
    home.change_log(0, |bytes| bytes[..lost].fill(0x5A));
    for file in home.below("/store/consumequeue") {
        home.disk.take(&file);
    }
    for start in 0..3 {
        let read = Arc::new(AtomicI64::new(0));
        let most = Arc::clone(&read);
        let config = StoreConfig {
            recovery_watch: RecoveryWatch::new(move |stage| {
                if stage.phase == Phase::Log {
                    most.fetch_max(i64::try_from(stage.total).unwrap(), Ordering::Relaxed);
                }
            }),
            ..home.config()
        };
        let now = Millis(home.now.load(Ordering::Relaxed));
        let store = Store::open(Arc::new(home.disk.clone()), config, now).unwrap();
        store.mark_running().unwrap();
        let when = format!("start {start}");
        same(&all(&store, "T", 0), &expected(30)[20..], &when);
        let reads_all = read.load(Ordering::Relaxed) >= i64::try_from(stored[20].0).unwrap();
        assert_eq!(reads_all, start == 0, "{when}");
        store.shutdown().unwrap();
    }
}

#[test]
fn a_wrong_store_time_neither_becomes_the_time_of_later_messages_nor_hides_them() {
    let home = Home::new(1);
    let store = home.open();
    let stored = fill(&store, 20);
    drop(store);
    home.disk.kill();
    home.change_log(stored[3].0, |bytes| bytes[56] = 0x7F);
    // A second damage makes recovery look for messages behind it.
    home.change_log(stored[8].0, |bytes| bytes[90] ^= 1);
    home.disk.take(Path::new(PROGRESS));
    let store = home.open();
    let found: Vec<_> = all(&store, "T", 0).into_iter().map(|(at, _)| at).collect();
    assert_eq!(found, (0..20).filter(|&n| n != 8).collect::<Vec<_>>());
    let (_, _, time) = put(&store, "T", 0, b"next");
    assert!(time < stored[19].2.plus(1000), "{time}");
}

#[test]
fn a_short_message_right_behind_a_damaged_one_is_kept() {
    let home = Home::new(1);
    let store = home.open();
    let stored: Vec<_> = (0..5)
        .map(|n| put(&store, "T", 0, if n == 2 { b"" } else { b"abc" }))
        .collect();
    drop(store);
    home.disk.kill();
    home.change_log(stored[2].0, |bytes| bytes[4] ^= 1);
    home.disk.take(Path::new(PROGRESS));
    let store = home.open();
    let found: Vec<_> = all(&store, "T", 0).into_iter().map(|(at, _)| at).collect();
    assert_eq!(found, [0, 1, 3, 4]);
}

#[test]
fn a_topic_that_is_deleted_while_it_is_sent_to_begins_again_and_loses_nothing() {
    let home = Home::new(1);
    let store = home.open();
    store.start().unwrap();
    let send = || {
        let queue = store.queue("T", QueueId(0));
        match store.append(&queue, &record("T", 0, b"x"), Tags::Code(7)) {
            Outcome::Stored { .. } | Outcome::Refused(AppendError::QueueGone { .. }) => {}
            refused @ Outcome::Refused(_) => panic!("{refused:?}"),
        }
    };
    for round in 0..20 {
        // So many queues to write that the deletion takes a moment.
        for id in 0..60 {
            put(&store, "U", id, b"x");
        }
        std::thread::scope(|scope| {
            let deletion = scope.spawn(|| store.delete_topic("T").unwrap());
            while !deletion.is_finished() {
                send();
            }
        });
        // More than stay in memory.
        (0..100).for_each(|_| send());
        store.turn();
        let count = store.queue("T", QueueId(0)).max().0;
        assert_eq!(all(&store, "T", 0).len() as u64, count, "round {round}");
    }
    let count = store.queue("T", QueueId(0)).max().0;
    store.shutdown().unwrap();
    assert_eq!(all(&home.open(), "T", 0).len() as u64, count);
}

#[test]
fn a_lack_of_descriptors_passes() {
    let home = Home::new(1);
    let store = home.open();
    put(&store, "T", 0, b"a");
    store.turn();
    put(&store, "U", 0, b"b");
    home.disk.fail(Operation::Create, 1, EMFILE);
    store.turn();
    assert_eq!(store.check_writable(), Ok(()));
    store.turn();
    store.shutdown().unwrap();
    drop(store);
    assert_eq!(all(&home.open(), "U", 0), [(0, b"b".to_vec())]);
}

#[test]
fn a_queue_file_that_found_no_space_gets_its_full_size_later() {
    let home = Home::new(1);
    let store = home.open();
    put(&store, "T", 0, b"a");
    store.turn();
    put(&store, "U", 0, b"b");
    home.disk.set_room(Some(100));
    store.turn();
    home.disk.set_room(None);
    store.turn();
    let files = home.below("/store/consumequeue/U/0");
    assert_eq!(files.len(), 1);
    assert_eq!(
        home.disk.content(&files[0]).unwrap().len() as u64,
        QUEUE_FILE
    );
    assert_eq!(all(&store, "U", 0), [(0, b"b".to_vec())]);
}

#[test]
fn a_read_that_fails_moves_no_consumer_on() {
    let home = Home::new(1);
    let store = home.open();
    fill(&store, 40);
    store.shutdown().unwrap();
    drop(store);
    let store = home.open();
    let queue = store.queue("T", QueueId(0));
    for errno in [EMFILE, EIO] {
        home.disk.fail(Operation::Read, 1, errno);
        let found = store.read(&queue, QueueOffset(3), 32, &|_| true);
        assert_eq!((found.count, found.next), (0, QueueOffset(3)), "{errno}");
    }
    let found = store.read(&queue, QueueOffset(3), 32, &|_| true);
    assert_eq!(found.status, ReadStatus::Found);
}

#[test]
fn an_entry_that_points_behind_the_end_gives_no_bytes() {
    let home = Home::new(1);
    let store = home.open();
    let stored = fill(&store, 3);
    store.shutdown().unwrap();
    let files = home.below("/store/consumequeue/T/0");
    home.change(&files[0], |bytes| {
        bytes[20..28].copy_from_slice(&(stored[2].0 + 1000).to_be_bytes());
    });
    let store = home.open();
    let found = store.read(&store.queue("T", QueueId(0)), QueueOffset(1), 1, &|_| true);
    assert!(
        found
            .slices
            .iter()
            .all(|slice| !slice.is_empty() && slice[4] != 0),
        "{found:?}"
    );
}

/// The progress file as it would say less of what was synced.
fn unsynced(progress: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(progress.to_vec()).unwrap();
    let mut changed = String::new();
    for line in text.lines() {
        match line.split_once('=') {
            Some(("flushed", _)) => changed.push_str("flushed=0\n"),
            Some(("synced", _)) => changed.push_str("synced=0 0 0 0\n"),
            Some(("crc", _)) => {}
            _ => changed.push_str(&format!("{line}\n")),
        }
    }
    let crc = crc32fast::hash(changed.as_bytes());
    format!("{changed}crc={crc:08x}\n").into_bytes()
}

#[test]
fn what_is_said_to_be_durable_after_a_kill_survives_a_power_cut() {
    for seed in 1..20 {
        let home = Home::new(seed);
        let store = home.open();
        fill(&store, 120);
        // How the files stand when the queues were written and noted, and the log was not yet synced.
        let noted = Home {
            disk: home.disk.fork(),
            now: Arc::clone(&home.now),
        };
        store.turn();
        for path in home.below("/store/consumequeue") {
            noted.disk.put(&path, &home.disk.content(&path).unwrap());
        }
        let progress = home.disk.content(Path::new(PROGRESS)).unwrap();
        noted.disk.put(Path::new(PROGRESS), &unsynced(&progress));
        noted.disk.kill();
        let store = noted.open();
        same(
            &all(&store, "T", 0),
            &expected(120),
            &format!("seed {seed}"),
        );
        let flushed = store.flushed().value();
        assert_eq!(flushed, store.max_offset().0);
        drop(store);
        noted.disk.power_cut();
        let store = noted.open();
        same(
            &all(&store, "T", 0),
            &expected(120),
            &format!("seed {seed}, flushed to {flushed}"),
        );
    }
}

#[test]
fn after_a_failed_sync_a_restart_believes_only_what_was_synced() {
    let home = Home::new(1);
    let store = home.open();
    fill(&store, 10);
    store.turn();
    let stored: Vec<_> = (10..15).map(|n| put(&store, "T", 0, &body(n))).collect();
    drop(store);
    home.disk.kill();
    // This start notes that all of it is written.
    let store = home.open();
    put(&store, "T", 0, &body(15));
    home.disk.fail(Operation::Sync, 1, EIO);
    store.turn();
    assert!(store.check_writable().is_err());
    drop(store);
    home.disk.kill();
    // Linux drops pages that it could not write.
    let lost = usize::try_from(stored[3].0 - stored[0].0).unwrap();
    home.change_log(stored[0].0, |bytes| bytes[..lost].fill(0));
    let store = home.open();
    let left: Vec<_> = expected(16)
        .into_iter()
        .filter(|(n, _)| !(10..13).contains(n))
        .collect();
    same(&all(&store, "T", 0), &left, "after the restart");
    assert_eq!(put(&store, "T", 0, &body(16)).1, 16);
}

/// Stores messages whose properties end as those of a record with a hole do.
fn fill_with_zeros_at_the_end(store: &Store, count: u64) {
    let queue = store.queue("T", QueueId(0));
    for n in 0..count {
        let body = body(n);
        let record = Record {
            properties: b"a\x01b\0",
            ..record("T", 0, &body)
        };
        let outcome = store.append(&queue, &record, Tags::Code(7));
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    }
}

#[test]
fn a_damaged_progress_file_costs_no_message_and_leaves_the_log_as_it_is() {
    for (name, damage) in [
        ("empty", (|bytes: &mut Vec<u8>| bytes.clear()) as fn(&mut _)),
        ("flipped", |bytes| bytes[30] ^= 1),
        ("zeros", |bytes| bytes.fill(0)),
    ] {
        for clean in [true, false] {
            let home = Home::new(1);
            let store = home.open();
            fill_with_zeros_at_the_end(&store, 300);
            // What Apache's checkpoint says is three seconds old, as Apache allows itself.
            home.now.fetch_add(4000, Ordering::Relaxed);
            put(&store, "T", 0, &body(300));
            let end = usize::try_from(store.max_offset().0).unwrap();
            store.turn();
            if clean {
                store.shutdown().unwrap();
            }
            drop(store);
            home.disk.kill();
            home.change(Path::new(PROGRESS), damage);
            // Segments that were made ahead come and go.
            let log = |end: usize| {
                let files = home.below(LOG).into_iter();
                let mut bytes: Vec<u8> = files
                    .flat_map(|path| home.disk.content(&path).unwrap())
                    .collect();
                bytes.truncate(end);
                bytes
            };
            let before = log(end);
            let store = home.open();
            let when = format!("{name}, clean: {clean}");
            same(&all(&store, "T", 0), &expected(301), &when);
            assert!(log(end) == before, "{when}: the log is changed");
            assert_eq!(put(&store, "T", 0, &body(301)).1, 301, "{when}");
        }
    }
}

/// The page cache that was written to still lives, and gives other bytes back: what lies behind them is kept all the same.
#[test]
fn damage_after_a_kill_costs_what_is_damaged_and_nothing_behind_it() {
    for (name, from, len) in [
        ("one byte of a body", 95, 1),
        ("a record's head", 0, 20),
        ("records", 0, 700),
    ] {
        for damaged in [40_usize, 97] {
            let home = Home::new(1);
            let store = home.open();
            fill(&store, 40);
            store.turn();
            let stored: Vec<u64> = (40..120).map(|n| put(&store, "T", 0, &body(n)).0).collect();
            drop(store);
            home.disk.kill();
            let at = stored[damaged - 40];
            home.change_log(at + from, |bytes| bytes[..len].fill(0xEE));
            let store = home.open();
            let found = all(&store, "T", 0);
            let is_hit = |start: u64, n: u64| {
                let end = stored.get(usize::try_from(n).unwrap() - 39).copied();
                at + from < end.unwrap_or(u64::MAX) && start < at + from + len as u64
            };
            let kept: Vec<(u64, Vec<u8>)> = expected(120)
                .into_iter()
                .filter(|(n, _)| {
                    let place = usize::try_from(*n).unwrap().checked_sub(40);
                    place.is_none_or(|place| !is_hit(stored[place], *n))
                })
                .collect();
            assert!(kept.len() < 120, "nothing was damaged");
            same(&found, &kept, &format!("{name} of {damaged}"));
            assert_eq!(home.below("/store/quarantine").len(), 1, "{name}");
            assert_eq!(put(&store, "T", 0, &body(120)).1, 120, "{name}");
        }
    }
}

/// A stopped store of which two messages are damaged that were written last, and where the first one was.
fn with_two_lost(seed: u64) -> (Home, LogOffset) {
    let home = Home::new(seed);
    let store = home.open();
    fill(&store, 40);
    store.turn();
    let stored: Vec<u64> = (40..60).map(|n| put(&store, "T", 0, &body(n)).0).collect();
    drop(store);
    home.disk.kill();
    for at in [stored[3], stored[7]] {
        home.change_log(at, |bytes| bytes[..50].fill(0xEE));
    }
    (home, LogOffset(stored[3]))
}

/// Two copies of a log lost the same message, and another one each: the places that were the same hid the others.
#[test]
fn what_two_recoveries_make_up_is_told_apart() {
    let (home, at) = with_two_lost(1);
    let other = Home {
        disk: home.disk.fork(),
        now: Arc::new(AtomicI64::new(home.now.load(Ordering::Relaxed) + 1)),
    };
    let stores = [home.open(), other.open()];
    let [ours, theirs] = stores.each_ref().map(|store| {
        assert_eq!(store.made_up(), [at]);
        store.record_at(at).unwrap().unwrap()
    });
    assert_ne!(ours, theirs);
    assert_eq!(ours.len(), theirs.len());
}

/// A recovery that is killed at any moment leaves nothing made up that the next one takes for a message.
#[test]
fn what_a_killed_recovery_made_up_is_known() {
    for changes in 0.. {
        let (home, at) = with_two_lost(changes);
        home.disk.stop_after(changes);
        let now = Millis(home.now.load(Ordering::Relaxed));
        let opened = Store::open(Arc::new(home.disk.clone()), home.config(), now);
        let is_through = opened.is_ok() && !home.disk.is_stopped();
        drop(opened);
        if changes % 2 == 0 {
            home.disk.kill();
        } else {
            home.disk.power_cut();
        }
        let store = home.open();
        assert!(
            store.made_up().contains(&at),
            "after {changes} changes: {:?}",
            store.made_up()
        );
        if is_through {
            assert!(10 < changes, "it makes something up in {changes} changes");
            return;
        }
    }
}

#[test]
fn a_start_on_a_full_disk_forgets_nothing_that_was_made_up() {
    let (home, at) = with_two_lost(1);
    // For an end of a number that is longer now, not for a second file.
    home.disk.set_room(Some(40));
    for start in 0..3 {
        let store = home.open();
        assert_eq!(store.made_up(), [at], "start {start}");
        drop(store);
        home.disk.power_cut();
    }
}

#[test]
fn a_power_cut_after_a_failed_sync_leaves_a_progress_file_that_can_be_read() {
    for seed in 1..40 {
        let home = Home::new(seed);
        let store = home.open();
        fill(&store, 10);
        store.turn();
        put(&store, "T", 0, &body(10));
        home.disk.fail(Operation::Sync, 1, EIO);
        store.turn();
        assert!(store.check_writable().is_err());
        drop(store);
        home.disk.power_cut();
        let progress = home.disk.content(Path::new(PROGRESS)).unwrap();
        let text = String::from_utf8_lossy(&progress);
        assert!(
            gantry_store::format::progress::Progress::decode(&progress).is_some(),
            "seed {seed}: {text:?}"
        );
        let found = all(&home.open(), "T", 0);
        same(&found[..10], &expected(10), &format!("seed {seed}"));
    }
}

#[test]
fn entries_that_a_power_cut_left_behind_zeros_do_not_come_back_later() {
    let home = Home::new(1);
    let store = home.open();
    fill(&store, 10);
    store.turn();
    drop(store);
    let files = home.below("/store/consumequeue/T/0");
    home.change(&files[0], |bytes| {
        // Of a message that did not reach the disk, a little behind the last one that did.
        let mut entry = bytes[180..200].to_vec();
        let last = u64::from_be_bytes(*entry.first_chunk().unwrap());
        entry[..8].copy_from_slice(&(last + 200).to_be_bytes());
        bytes[240..260].copy_from_slice(&entry);
    });
    home.disk.power_cut();
    let store = home.open();
    put(&store, "T", 0, &body(10));
    store.turn();
    drop(store);
    home.disk.kill();
    let store = home.open();
    assert_eq!(put(&store, "T", 0, &body(11)).1, 11);
    same(
        &all(&store, "T", 0),
        &expected(12),
        "after the second start",
    );
}

#[test]
fn what_is_set_aside_on_another_disk_is_copied() {
    let home = Home::new(1);
    let store = home.open();
    fill(&store, 3);
    store.shutdown().unwrap();
    let stray = Path::new(LOG).join(format!("{:020}", 77));
    let content = vec![5; usize::try_from(SEGMENT).unwrap()];
    home.disk.put(&stray, &content);
    home.disk.fail(Operation::Rename, 1, EXDEV);
    let store = home.open();
    same(&all(&store, "T", 0), &expected(3), "beside a stray file");
    let aside = home.below("/store/quarantine");
    assert_eq!(home.disk.content(&aside[0]).unwrap(), content);
    assert_eq!(home.disk.content(&stray), None);
}

#[test]
fn the_size_of_one_damaged_segment_is_not_taken_for_that_of_all() {
    let home = Home::new(1);
    let store = home.open();
    fill(&store, 5);
    store.shutdown().unwrap();
    let first = PathBuf::from(LOG).join(format!("{:020}", 0));
    home.change(&first, |bytes| bytes.truncate(3001));
    let store = home.open();
    assert_eq!(all(&store, "T", 0), expected(5));
    assert_eq!(home.disk.content(&first).unwrap().len() as u64, SEGMENT);
}

#[test]
fn a_full_disk_keeps_no_copy_of_what_is_damaged_and_starts_all_the_same() {
    let home = Home::new(1);
    let store = home.open();
    let stored = fill(&store, 100);
    drop(store);
    home.disk.kill();
    home.disk.take(Path::new(PROGRESS));
    home.change_log(stored[40].0, |bytes| bytes[90] ^= 1);
    // Of another store, behind ours.
    let stray = Path::new(LOG).join(format!("{:020}", 50 * SEGMENT));
    home.disk
        .put(&stray, &vec![7; usize::try_from(SEGMENT).unwrap()]);
    // The log lies on another disk than the quarantine.
    home.disk.fail(Operation::Rename, 1, EXDEV);
    // Two copies, a queue file and the note of how far everything is.
    home.disk.fail(Operation::Create, 4, ENOSPC);
    let store = home.open();
    let mut left = expected(100);
    left.remove(40);
    same(&all(&store, "T", 0), &left, "on a full disk");
    assert_eq!(home.below("/store/quarantine"), [] as [PathBuf; 0]);
    assert_eq!(home.disk.content(Path::new(PROGRESS)), None);
    assert_eq!(home.disk.content(&stray), None);
    assert_eq!(put(&store, "T", 0, b"next").1, 100);
    store.turn();
    assert!(home.disk.content(Path::new(PROGRESS)).is_some());
}

#[test]
fn queue_entries_that_find_no_space_at_the_start_wait_in_memory() {
    let home = Home::new(1);
    let store = home.open();
    fill(&store, 100);
    drop(store);
    home.disk.kill();
    let store = {
        home.disk.set_room(Some(0));
        let store = home.open();
        same(&all(&store, "T", 0), &expected(100), "from memory");
        assert_eq!(home.below("/store/consumequeue"), [] as [PathBuf; 0]);
        drop(store);
        // Nor does a start after that one believe that files hold anything.
        home.disk.kill();
        home.open()
    };
    same(&all(&store, "T", 0), &expected(100), "once more");
    home.disk.set_room(None);
    store.turn();
    assert!(!home.below("/store/consumequeue").is_empty());
    store.shutdown().unwrap();
    drop(store);
    same(&all(&home.open(), "T", 0), &expected(100), "from files");
}

#[test]
fn the_names_of_a_new_store_survive_a_power_cut_with_what_was_flushed() {
    for seed in 1..40 {
        let home = Home::new(seed);
        let store = Store::open(
            Arc::new(home.disk.clone()),
            StoreConfig {
                commit_log_paths: vec!["/log/a".into(), "/log/b".into()],
                root: "/srv/gantry/store".into(),
                ..home.config()
            },
            Millis(0),
        );
        let store = store.unwrap();
        store.mark_running().unwrap();
        fill(&store, 60);
        store.turn();
        drop(store);
        home.disk.power_cut();
        let of_the_log = |path: &&PathBuf| path.starts_with("/log");
        let files = home.disk.files();
        assert!(files.iter().filter(of_the_log).count() >= 2, "seed {seed}");
        let has = |dir: &str| files.iter().any(|path| path.starts_with(dir));
        assert!(has("/srv/gantry/store/consumequeue/T/0"), "seed {seed}");
        assert!(has("/srv/gantry/store/abort"), "seed {seed}");
    }
}

/// A store of some queues whose messages lie mixed in the log, stopped and opened again: its entries come from files.
fn reopened(home: &Home) -> Arc<Store> {
    let store = home.open();
    for n in 0..60 {
        put(&store, "T", 0, &body(n));
        put(&store, "T", 1, &body(n));
        put(&store, "U", 0, &body(n));
    }
    store.shutdown().unwrap();
    drop(store);
    home.open()
}

#[test]
fn any_changed_byte_of_an_entry_is_noticed_and_the_entry_made_again() {
    // Every byte of offset and size, at the beginning, in the middle and at the end of a file and of the queue.
    for at in [0, 1, 15, 16, 30, 58, 59] {
        for byte in 0..12 {
            for flip in [1, 0x40] {
                let home = Home::new(1);
                let store = reopened(&home);
                let path = PathBuf::from(format!("/store/consumequeue/T/0/{:020}", at / 16 * 320));
                let place = at % 16 * 20 + byte;
                let points = || {
                    let bytes = home.disk.content(&path).unwrap();
                    bytes[at % 16 * 20..][..12].to_vec()
                };
                let right = points();
                home.change(&path, |bytes| bytes[place] ^= flip);
                let when = format!("byte {byte} of entry {at} ^ {flip}");
                same(&all(&store, "T", 0), &expected(60), &when);
                assert_eq!(store.figures().mended_entries, 1, "{when}");
                assert_eq!(points(), right, "{when}");
                same(&all(&store, "T", 0), &expected(60), &when);
                assert_eq!(store.figures().mended_entries, 1, "{when}");
            }
        }
    }
}

#[test]
fn a_page_of_garbage_entries_is_made_again() {
    for fill in [0, 0xFF, 0x5A, 1] {
        let home = Home::new(1);
        let store = reopened(&home);
        let path = PathBuf::from(format!("/store/consumequeue/T/0/{:020}", 320));
        home.change(&path, |bytes| bytes[40..240].fill(fill));
        same(&all(&store, "T", 0), &expected(60), &format!("{fill:x}"));
        assert_eq!(store.figures().mended_entries, 10, "{fill:x}");
        assert_eq!(
            store
                .queue_entries(&store.queue("T", QueueId(0)), QueueOffset(0), 60)
                .unwrap()
                .len(),
            60
        );
    }
}

#[test]
fn an_entry_that_points_to_another_message_gives_that_to_nobody() {
    let home = Home::new(1);
    let store = reopened(&home);
    // Of another topic with the same queue and offset, of another queue, of another offset of the queue.
    for (from, entry) in [("U/0", 20), ("T/1", 20), ("T/0", 21)] {
        let other = PathBuf::from(format!("/store/consumequeue/{from}/{:020}", 320));
        let other = home.disk.content(&other).unwrap();
        let path = PathBuf::from(format!("/store/consumequeue/T/0/{:020}", 320));
        let at = (entry - 16) * 20;
        home.change(&path, |bytes| {
            bytes[80..100].copy_from_slice(&other[at..at + 20])
        });
        same(&all(&store, "T", 0), &expected(60), from);
    }
}

#[test]
fn a_message_that_is_lost_with_its_entry_is_skipped_and_the_rest_is_given() {
    let home = Home::new(1);
    let store = home.open();
    let stored = fill(&store, 60);
    store.shutdown().unwrap();
    drop(store);
    let store = home.open();
    home.change_log(stored[20].0, |bytes| bytes[5] ^= 1);
    let path = PathBuf::from(format!("/store/consumequeue/T/0/{:020}", 320));
    home.change(&path, |bytes| bytes[80] ^= 1);
    let mut left = expected(60);
    left.remove(20);
    same(&all(&store, "T", 0), &left, "one is lost");
    same(&all(&store, "T", 0), &left, "and stays lost");
}

#[test]
fn a_search_for_a_lost_message_ends_at_later_ones_of_its_queue() {
    let home = Home::new(1);
    let store = home.open();
    let stored = fill(&store, 200);
    store.shutdown().unwrap();
    drop(store);
    let store = home.open();
    home.change_log(stored[32].0, |bytes| bytes[5] ^= 1);
    // No neighbour says how far the message may be: 80 entries are garbage.
    for file in 2..7 {
        let path = format!("/store/consumequeue/T/0/{:020}", file * QUEUE_FILE);
        home.change(Path::new(&path), |bytes| bytes.fill(0x5A));
    }
    // Who reads all of the log for it comes by here.
    let far = stored[80].0 - stored[80].0 % SEGMENT;
    assert!(far > stored[40].0);
    home.disk
        .spoil(&Path::new(LOG).join(format!("{far:020}")), 0..SEGMENT);
    let found = store.read(&store.queue("T", QueueId(0)), QueueOffset(32), 1, &|_| true);
    assert!(found.next > QueueOffset(32), "{found:?}");
}

#[test]
fn a_damaged_entry_leads_no_search_by_time_astray() {
    for at in 0..59 {
        let home = Home::new(1);
        let store = reopened(&home);
        let times: Vec<_> = (0..60)
            .map(|at| store.store_time_at(&store.queue("T", QueueId(0)), QueueOffset(at)))
            .collect();
        let path = PathBuf::from(format!("/store/consumequeue/T/0/{:020}", at / 16 * 320));
        home.change(&path, |bytes| bytes[at % 16 * 20 + 7] ^= 0x80);
        let queue = store.queue("T", QueueId(0));
        for (offset, time) in times.iter().enumerate() {
            let found = store.offset_at_time(&queue, time.unwrap());
            assert_eq!(found.0, offset as u64, "{at} damaged");
        }
    }
}

#[test]
fn a_damaged_entry_does_not_make_the_cleaner_hide_messages() {
    let cleaned = |damaged: Option<usize>| {
        let home = Home::new(1);
        let store = reopened(&home);
        if let Some(at) = damaged {
            let path = PathBuf::from(format!("/store/consumequeue/T/0/{:020}", at / 16 * 320));
            home.change(&path, |bytes| bytes[at % 16 * 20..][..8].fill(0));
        }
        home.disk.set_usage(gantry_disk::Usage {
            total: 100,
            free: 12,
            available: 12,
        });
        store.turn();
        store.queue("T", QueueId(0)).min().0
    };
    let right = cleaned(None);
    assert!(20 < right && right < 59, "{right}");
    for at in (0..60).filter(|&at| at as u64 != right) {
        assert_eq!(cleaned(Some(at)), right, "{at} damaged");
    }
}

/// Stores messages with a key each, in a queue.
fn fill_keys(store: &Store, numbers: std::ops::Range<u32>) {
    let queue = store.queue("K", QueueId(0));
    for n in numbers {
        let properties = format!("KEYS\u{1}key{n}");
        let record = Record {
            properties: properties.as_bytes(),
            ..record("K", 0, b"keyed")
        };
        let outcome = store.append(&queue, &record, Tags::Code(0));
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    }
}

/// How many of the keys are found.
fn keys_found(store: &Store, numbers: std::ops::Range<u32>) -> usize {
    let found = numbers.map(|n| {
        let found = store.query("K", &format!("key{n}"), 64, Millis(0), Millis(i64::MAX));
        found.unwrap().records.len()
    });
    found.sum()
}

#[test]
fn index_files_of_other_sizes_are_read_as_they_are() {
    // Slots or entries changed, or both; then only the log tells.
    for (slots, entries, is_known) in [
        (11, 40, true),
        (7, 60, true),
        (7, 20, true),
        (11, 60, false),
    ] {
        let home = Home::new(1);
        let store = home.open();
        fill_keys(&store, 0..100);
        store.turn();
        store.shutdown().unwrap();
        drop(store);
        let open = || {
            let config = StoreConfig {
                index_slots: slots,
                index_entries: entries,
                ..home.config()
            };
            let store = Store::open(Arc::new(home.disk.clone()), config, Millis(0)).unwrap();
            store.mark_running().unwrap();
            store
        };
        let when = format!("{slots} slots, {entries} entries");
        let store = open();
        if is_known {
            assert_eq!(keys_found(&store, 0..100), 100, "{when}, at once");
        }
        store.turn();
        assert_eq!(store.figures().quarantined == 0, is_known, "{when}");
        fill_keys(&store, 100..200);
        store.turn();
        assert_eq!(keys_found(&store, 0..200), 200, "{when}");
        store.shutdown().unwrap();
        drop(store);
        let store = open();
        assert_eq!(keys_found(&store, 0..200), 200, "{when}, opened again");
    }
}

#[test]
fn an_index_file_between_others_that_cannot_be_used_is_made_again() {
    for damage in ["header", "empty", "cut", "no room", "interrupted"] {
        let home = Home::new(1);
        let store = home.open();
        fill_keys(&store, 0..200);
        store.turn();
        store.shutdown().unwrap();
        drop(store);
        let files = home.below("/store/index");
        home.change(&files[2], |bytes| match damage {
            "empty" => bytes.clear(),
            "cut" => bytes.truncate(333),
            _ => bytes[..40].fill(0x5A),
        });
        // Files that hold less: one does not do.
        let config = StoreConfig {
            index_entries: if damage == "no room" { 15 } else { 40 },
            ..home.config()
        };
        let open = || {
            let config = config.clone();
            Store::open(Arc::new(home.disk.clone()), config, Millis(0)).unwrap()
        };
        let mut store = open();
        store.mark_running().unwrap();
        let found = keys_found(&store, 0..200);
        assert!(
            (200 - 2 * 39..200).contains(&found),
            "{damage}: {found} at once"
        );
        if damage == "interrupted" {
            drop(store);
            home.disk.kill();
            store = open();
            store.mark_running().unwrap();
            assert!(keys_found(&store, 0..200) < 200);
        }
        store.turn();
        assert_eq!(keys_found(&store, 0..200), 200, "{damage}");
        store.shutdown().unwrap();
        drop(store);
        let aside = home.below("/store/quarantine").len();
        let store = open();
        assert_eq!(keys_found(&store, 0..200), 200, "{damage}, opened again");
        assert_eq!(home.below("/store/quarantine").len(), aside, "{damage}");
    }
}

#[test]
fn garbage_in_an_index_file_costs_keys_and_nothing_else() {
    // Header, slots, entries: every byte of one file changed in turn.
    for at in (0..40 + 7 * 4 + 40 * 20).step_by(3) {
        let home = Home::new(1);
        let store = home.open();
        fill_keys(&store, 0..60);
        store.shutdown().unwrap();
        drop(store);
        for file in home.below("/store/index") {
            home.change(&file, |bytes| bytes[at] ^= 0xA5);
        }
        let store = home.open();
        keys_found(&store, 0..60);
        store.turn();
        assert_eq!(store.check_writable(), Ok(()), "byte {at}");
        fill_keys(&store, 60..120);
        store.turn();
        assert_eq!(keys_found(&store, 60..120), 60, "byte {at}");
        let found = keys_found(&store, 0..60);
        assert!(
            found >= 30 || store.figures().damaged_chains > 0,
            "byte {at}: {found}"
        );
        assert_eq!(all(&store, "K", 0).len(), 120);
    }
}

/// Ended at the first question whether to go on, at the second, and so on until one gets through: each begins where the
/// one before has left off, and what is found at last is what a recovery that nobody disturbs finds.
#[test]
fn a_recovery_that_is_ended_half_way_leaves_everything_to_the_next_one() {
    type Spoil = fn(&Home);
    let cases: [(&str, Spoil); 4] = [
        ("as it was", |_| {}),
        ("nothing noted", |home| home.disk.take(Path::new(PROGRESS))),
        ("queues gone", |home| {
            home.disk.take(Path::new(PROGRESS));
            let files = home.below("/store/consumequeue/T");
            files.iter().for_each(|path| home.disk.take(path));
        }),
        ("damaged", |home| {
            let second = &home.below(LOG)[1];
            home.change(second, |bytes| bytes[1000..1300].fill(0xee));
        }),
    ];
    const ABORT: &str = "/store/abort";
    let places = [("T", 0), ("T", 1), ("U", 3)];
    let open = |disk: &FaultyDisk, home: &Home, watch| {
        let config = StoreConfig {
            segment_size: 1 << 18,
            recovery_watch: watch,
            ..home.config()
        };
        Store::open(Arc::new(disk.clone()), config, Millis(0))
    };
    for (what, spoil) in cases {
        let home = Home::new(1);
        let store = open(&home.disk, &home, RecoveryWatch::default()).unwrap();
        store.mark_running().unwrap();
        let mut sent = 0;
        while store.max_offset().0 < 5 << 19 {
            let (topic, id) = places[sent % places.len()];
            put(&store, topic, id, &vec![b'x'; 1 + sent % 3000]);
            sent += 1;
        }
        drop(store);
        home.disk.kill();
        spoil(&home);
        let read = |store: &Store| places.map(|(topic, id)| all(store, topic, id));
        let undisturbed = open(&home.disk.fork(), &home, RecoveryWatch::default());
        let whole = read(&undisturbed.unwrap());
        let mut ended = 0;
        let store = loop {
            let left = AtomicI64::new(ended);
            let watch = RecoveryWatch::default();
            let watch = watch.until(move || left.fetch_sub(1, Ordering::Relaxed) <= 0);
            match open(&home.disk, &home, watch) {
                Err(StoreError::Interrupted) => {}
                other => break other.unwrap(),
            }
            assert!(home.disk.files().contains(&ABORT.into()), "{what}: {ended}");
            ended += 1;
        };
        assert!(5 < ended, "{what}: {ended}");
        for (found, expected) in read(&store).iter().zip(&whole) {
            same(found, expected, what);
        }
        store.shutdown().unwrap();
        assert!(!home.disk.files().contains(&ABORT.into()), "{what}");
    }
}

#[test]
fn whoever_watches_is_told_how_far_recovery_is() {
    let home = Home::new(1);
    let store = home.open();
    let body = vec![7; 3000];
    while store.max_offset().0 < 5 << 20 {
        put(&store, "T", 0, &body);
    }
    let end = store.max_offset().0;
    drop(store);
    home.disk.kill();
    home.disk.take(Path::new(PROGRESS));
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let config = StoreConfig {
        recovery_watch: RecoveryWatch::new(move |stage| listener.lock().unwrap().push(stage)),
        ..home.config()
    };
    let store = Store::open(Arc::new(home.disk.clone()), config, Millis(0)).unwrap();
    assert_eq!(store.max_offset().0, end);
    let told = told.lock().unwrap();
    let phases: Vec<_> = told.iter().map(|stage| stage.phase).collect();
    assert!(phases.is_sorted(), "{phases:?}");
    let of_the_log: Vec<_> = told
        .iter()
        .filter(|stage| stage.phase == Phase::Log)
        .collect();
    assert!(of_the_log.len() >= 5 && of_the_log[0].done == 0);
    assert!(of_the_log.is_sorted_by_key(|stage| stage.done));
    assert!(
        of_the_log
            .iter()
            .all(|stage| stage.done <= stage.total && end <= stage.total)
    );
    let last = told.last().unwrap();
    assert_eq!(
        (last.phase, last.done, last.total),
        (Phase::Finish, end, end)
    );
}

/// As Apache leaves a queue that lost an entry: it goes on behind without a gap, and every record says one more.
#[test]
fn a_queue_of_apache_s_that_lost_an_entry_is_read_as_it_is() {
    let home = Home::new(1);
    let store = home.open();
    for n in 0..200 {
        put(&store, "T", 0, &body(n));
        put(&store, "T", 1, &body(n));
    }
    assert!(store.figures().segments > 5);
    store.shutdown().unwrap();
    drop(store);
    home.disk.take(Path::new(PROGRESS));
    let files = home.below("/store/consumequeue/T/0");
    let mut entries: Vec<u8> = Vec::new();
    for file in &files {
        entries.extend(home.disk.content(file).unwrap());
    }
    entries.drain(..20);
    entries.resize(files.len() * 320, 0);
    for (file, bytes) in files.iter().zip(entries.chunks(320)) {
        home.disk.put(file, bytes);
    }
    for _ in 0..2 {
        let store = home.open();
        same(
            &all(&store, "T", 0),
            &expected(200)[1..],
            "without the lost one",
        );
        same(&all(&store, "T", 1), &expected(200), "the other queue");
        assert_eq!(store.figures().mended_entries, 0);
        store.shutdown().unwrap();
    }
}

/// Everything on the disk but the lock, which whoever looks takes first.
fn everything(home: &Home) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut files = home.disk.files();
    files.retain(|path| path != Path::new("/store/lock"));
    files
        .into_iter()
        .map(|path| (path.clone(), home.disk.content(&path)))
        .collect()
}

/// Takes everything below a folder away, as a disk that is not mounted does.
fn unmount(home: &Home, dir: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let take = |path: PathBuf| {
        let content = home.disk.content(&path).unwrap();
        home.disk.take(&path);
        (path, content)
    };
    home.below(dir).into_iter().map(take).collect()
}

#[test]
fn a_log_folder_that_is_not_mounted_refuses_the_start_and_costs_nothing() {
    for (paths, gone) in [
        (vec!["/d1/log", "/d2/log"], "/d2"),
        (vec!["/d1/log", "/d2/log"], "/d1"),
        (vec!["/d1/log", "/d2/log"], "/d"),
        (vec!["/d1/log"], "/d1"),
        (vec!["/store/commitlog"], "/store/commitlog"),
    ] {
        let home = Home::new(1);
        let config = StoreConfig {
            commit_log_paths: paths.iter().map(PathBuf::from).collect(),
            ..home.config()
        };
        let open = || {
            let disk = Arc::new(home.disk.clone());
            Store::open(disk, config.clone(), Millis(1_700_000_100_000))
        };
        let store = open().unwrap();
        store.mark_running().unwrap();
        fill(&store, 200);
        store.catch_up();
        store.shutdown().unwrap();
        drop(store);
        let dirs = if gone == "/d" {
            vec!["/d1", "/d2"]
        } else {
            vec![gone]
        };
        let saved: Vec<_> = dirs.iter().flat_map(|dir| unmount(&home, dir)).collect();
        assert!(saved.len() > 1, "{gone}");
        let before = everything(&home);
        let error = open().unwrap_err().to_string();
        assert!(
            error.contains(dirs[0]) && error.contains("Mount"),
            "{error}"
        );
        let is_alone = paths.len() == dirs.len();
        assert_eq!(error.contains("gantry.checkpoint"), is_alone, "{error}");
        assert_eq!(everything(&home), before, "{gone}");
        for (path, content) in &saved {
            home.disk.put(path, content);
        }
        let store = open().unwrap();
        same(&all(&store, "T", 0), &expected(200), "mounted again");
    }
}

#[test]
fn a_log_that_is_given_up_or_gets_another_folder_starts() {
    let home = Home::new(1);
    let open = |paths: &[&str]| {
        let config = StoreConfig {
            commit_log_paths: paths.iter().map(PathBuf::from).collect(),
            ..home.config()
        };
        let disk = Arc::new(home.disk.clone());
        let store = Store::open(disk, config, Millis(1_700_000_100_000))?;
        store.mark_running().unwrap();
        Ok::<_, gantry_store::StoreError>(store)
    };
    let stop = |store: Arc<Store>| {
        store.catch_up();
        store.shutdown().unwrap();
    };
    let store = open(&["/d1/log"]).unwrap();
    fill(&store, 60);
    stop(store);
    // One more folder has nothing yet, and nothing is missing.
    let store = open(&["/d1/log", "/d2/log"]).unwrap();
    same(&all(&store, "T", 0), &expected(60), "one more folder");
    (60..200).for_each(|n| {
        put(&store, "T", 0, &body(n));
    });
    stop(store);
    assert!(!unmount(&home, "/d2").is_empty());
    assert!(open(&["/d1/log", "/d2/log"]).is_err());
    // The disk is lost: its messages are given up, and an empty one may take its place.
    stop(open(&["/d1/log"]).unwrap());
    let store = open(&["/d1/log", "/d2/log"]).unwrap();
    let left = all(&store, "T", 0);
    assert!((60..200).contains(&left.len()), "{}", left.len());
    stop(store);
    // All is lost.
    assert!(!unmount(&home, "/d1").is_empty());
    unmount(&home, "/d2");
    assert!(open(&["/d1/log", "/d2/log"]).is_err());
    home.disk.take(Path::new(PROGRESS));
    let store = open(&["/d1/log", "/d2/log"]).unwrap();
    assert_eq!(put(&store, "T", 0, b"anew").1, 0);
}

#[test]
fn the_only_segment_that_is_lost_does_not_stop_the_start() {
    let home = Home::new(1);
    let store = home.open();
    fill(&store, 5);
    store.catch_up();
    store.shutdown().unwrap();
    drop(store);
    assert!(!home.open().has_lost_its_log());
    assert_eq!(unmount(&home, LOG).len(), 1);
    let store = home.open();
    assert!(store.has_lost_its_log());
    assert_eq!(put(&store, "T", 0, b"anew").1, 0);
    store.catch_up();
    store.shutdown().unwrap();
    drop(store);
    assert!(!home.open().has_lost_its_log(), "it begins anew once");
}

#[test]
fn a_disk_that_was_just_formatted_is_not_taken_for_a_lost_segment() {
    let home = Home::new(1);
    assert!(!home.open().has_lost_its_log(), "a new store");
    let store = home.open();
    fill(&store, 5);
    store.catch_up();
    store.shutdown().unwrap();
    drop(store);
    let saved = unmount(&home, LOG);
    let formatted = Path::new(LOG).join("lost+found");
    home.disk.create_dirs(&formatted).unwrap();
    let before = everything(&home);
    let disk = Arc::new(home.disk.clone());
    let error = Store::open(disk, home.config(), Millis(1_700_000_100_000)).unwrap_err();
    assert!(error.to_string().contains("Mount its disk"), "{error}");
    assert_eq!(everything(&home), before);
    for (path, content) in &saved {
        home.disk.put(path, content);
    }
    same(
        &all(&home.open(), "T", 0),
        &expected(5),
        "its own disk again",
    );
}
