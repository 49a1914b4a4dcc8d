//! Where a read may begin and what it answers then (`store.md` 16), and which message a time stands for (4.5), on real
//! files: beside the ends of queue files, with segments gone, and against an oracle that is as plain as the rule.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gantry_disk::OsDisk;
use gantry_message::{LogOffset, Millis, QueueId, QueueOffset, Record, SysFlag};
use gantry_store::{Clock, Outcome, ReadStatus, Store, StoreConfig, Tags};

const PER_FILE: u64 = 16;
const SEGMENT: u64 = 4096;

struct Home {
    dir: tempfile::TempDir,
    now: Arc<AtomicI64>,
}

impl Home {
    fn new() -> Self {
        let (dir, now) = (tempfile::tempdir().unwrap(), AtomicI64::new(1000).into());
        Self { dir, now }
    }

    fn open(&self) -> Arc<Store> {
        let now = Arc::clone(&self.now);
        let config = StoreConfig {
            segment_size: SEGMENT,
            queue_file_size: 20 * PER_FILE,
            index_slots: 16,
            index_entries: 64,
            disk_max_used_ratio: 95,
            disk_clean_forcibly_ratio: 100,
            disk_full_ratio: 100,
            clock: Clock::new(move || Millis(now.load(Ordering::Relaxed))),
            ..StoreConfig::at(self.dir.path())
        };
        let store = Store::open(Arc::new(OsDisk), config, Millis(1000)).unwrap();
        store.mark_running().unwrap();
        store
    }

    fn put(&self, store: &Store, topic: &str, time: i64) -> LogOffset {
        self.now.store(time, Ordering::Relaxed);
        let record = Record {
            topic,
            queue_id: QueueId(0),
            flag: 0,
            sys_flag: SysFlag(0),
            born_time: Millis(1),
            born_host: "10.0.0.9:5555".parse().unwrap(),
            store_host: "10.0.0.1:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_offset: 0,
            body: &[b'x'; 100],
            properties: b"",
        };
        match store.append(&store.queue(topic, QueueId(0)), &record, Tags::Code(7)) {
            Outcome::Stored { offset, .. } => offset,
            Outcome::Refused(error) => panic!("{error}"),
        }
    }

    fn remove_segment(&self, start: u64) {
        let name = format!("commitlog/{start:020}");
        std::fs::remove_file(self.dir.path().join(name)).unwrap();
    }
}

/// The rule of the read path, for messages that all count as being in memory.
fn rule(from: u64, max: u32, live: Range<u64>, lost: &Range<u64>) -> (ReadStatus, u64, u32) {
    if from < live.start {
        return (ReadStatus::OffsetTooSmall, live.start, 0);
    }
    if from == live.end {
        return (ReadStatus::OffsetOverflowOne, from, 0);
    }
    if from > live.end {
        return (ReadStatus::OffsetOverflowBadly, live.end, 0);
    }
    let (mut status, mut next, mut count) = (ReadStatus::NoMatchedMessage, from, 0);
    let file_end = from - from % PER_FILE + PER_FILE;
    while next < file_end.min(live.end) {
        if lost.contains(&next) {
            if count == 0 {
                status = ReadStatus::MessageWasRemoving;
            }
        } else if 0 < count && max.min(32) <= count {
            break;
        } else {
            (status, count) = (ReadStatus::Found, count + 1);
        }
        next += 1;
    }
    (status, next, count)
}

fn check_all(store: &Store, live: Range<u64>, lost: &Range<u64>) {
    let queue = store.queue("T", QueueId(0));
    assert_eq!((queue.min().0, queue.max().0), (live.start, live.end));
    for from in (0..live.end + 3).chain([u64::MAX]) {
        for max in [0, 1, 5, 32, 1000] {
            let found = store.read(&queue, QueueOffset(from), max, &|_| true);
            assert_eq!(
                (found.status, found.next.0, found.count),
                rule(from, max, live.clone(), lost),
                "from {from}, at most {max}"
            );
            assert_eq!((found.min.0, found.max.0), (live.start, live.end));
            let bytes: usize = found.slices.iter().map(|slice| slice.len()).sum();
            assert_eq!(found.bytes, bytes as u64);
            // Whoever must not wait gets the same answer or none.
            if let Some(now) = store.read_now(&queue, QueueOffset(from), max, &|_| true) {
                let of = |found: &gantry_store::Found| (found.status, found.next, found.count);
                assert_eq!((of(&now), &now.slices), (of(&found), &found.slices));
            }
            // What nobody wants is gone past, as far as one read looks.
            let none = store.read(&queue, QueueOffset(from), max, &|code| code == 8);
            assert_eq!((none.count, none.slices.len()), (0, 0));
            if found.status == ReadStatus::Found {
                let file_end = from - from % PER_FILE + PER_FILE;
                assert_eq!(none.next.0, file_end.min(live.end), "from {from}");
            }
        }
    }
}

#[test]
fn every_position_has_java_s_answer_also_where_segments_are_gone() {
    let home = Home::new();
    let store = home.open();
    let empty = store.queue("T", QueueId(0));
    for from in [0, 5] {
        let found = store.read(&empty, QueueOffset(from), 32, &|_| true);
        assert_eq!(
            (found.status, found.next.0),
            (ReadStatus::NoMessageInQueue, 0)
        );
    }
    let offsets: Vec<LogOffset> = (0..70).map(|_| home.put(&store, "T", 1000)).collect();
    let first_in = |segment: u64| {
        let behind = offsets
            .iter()
            .position(|offset| segment * SEGMENT <= offset.0);
        behind.unwrap() as u64
    };
    let (second, third) = (first_in(1), first_in(2));
    assert!(
        second < 2 * PER_FILE - 8 && third > 2 * PER_FILE + 4,
        "{second} {third}"
    );
    check_all(&store, 0..70, &(0..0));
    store.shutdown().unwrap();
    // Everything that is left is read again from its files, and nothing of the process before is in memory of ours.
    let store = home.open();
    check_all(&store, 0..70, &(0..0));
    store.shutdown().unwrap();
    home.remove_segment(SEGMENT);
    let store = home.open();
    check_all(&store, 0..70, &(second..third));
    store.shutdown().unwrap();
}

#[test]
fn a_queue_whose_first_segments_are_gone_begins_behind_them() {
    let home = Home::new();
    let store = home.open();
    let offsets: Vec<LogOffset> = (0..70).map(|_| home.put(&store, "T", 1000)).collect();
    store.shutdown().unwrap();
    home.remove_segment(0);
    home.remove_segment(SEGMENT);
    let store = home.open();
    let first = offsets
        .iter()
        .position(|offset| 2 * SEGMENT <= offset.0)
        .unwrap() as u64;
    check_all(&store, first..70, &(0..0));
    store.shutdown().unwrap();
}

#[test]
fn a_time_stands_for_the_message_that_java_finds() {
    let home = Home::new();
    let store = home.open();
    // The first file of the queue: 100, 110, ... 250; the second one: 1000, 1010, 1020, 1030.
    for at in 0..16 {
        home.put(&store, "T", 100 + 10 * at);
    }
    for at in 0..4 {
        home.put(&store, "T", 1000 + 10 * at);
    }
    let queue = store.queue("T", QueueId(0));
    for (time, expected) in [
        (0, 0),
        (99, 0),
        (100, 0),
        (104, 0),
        (105, 0), // as near to both: the earlier one
        (106, 1),
        (245, 14),
        (246, 15),
        (250, 15),
        // Behind the newest message of the first file only the second one is looked at, however far it is.
        (251, 16),
        (999, 16),
        (1000, 16),
        (1005, 16),
        (1006, 17),
        (1030, 19),
        (5000, 19), // the last message, not the end
    ] {
        assert_eq!(
            store.offset_at_time(&queue, Millis(time)).0,
            expected,
            "{time}"
        );
    }
    // Of several messages of one time the one that halving meets first.
    for (count, expected) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)] {
        let topic = format!("same-{count}");
        for _ in 0..count {
            home.put(&store, &topic, 2000);
        }
        let queue = store.queue(&topic, QueueId(0));
        assert_eq!(
            store.offset_at_time(&queue, Millis(2000)).0,
            expected,
            "{count}"
        );
    }
    let empty = store.queue("empty", QueueId(0));
    assert_eq!(store.offset_at_time(&empty, Millis(1)).0, 0);
    store.shutdown().unwrap();
}

#[test]
fn an_answer_is_the_log_s_own_memory_and_no_copy() {
    let home = Home::new();
    let store = home.open();
    let at: Vec<LogOffset> = (0..10).map(|_| home.put(&store, "T", 1000)).collect();
    let queue = store.queue("T", QueueId(0));
    let read = |from| store.read(&queue, QueueOffset(from), 32, &|_| true).slices;
    let (all, later) = (read(0), read(4));
    assert_eq!((all.len(), later.len()), (1, 1));
    // Two answers with the same message share its bytes.
    let skipped = usize::try_from(at[4].0 - at[0].0).unwrap();
    assert_eq!(all[0][skipped..].as_ptr(), later[0].as_ptr());
    let now = store
        .read_now(&queue, QueueOffset(0), 32, &|_| true)
        .unwrap();
    assert_eq!(now.slices[0].as_ptr(), all[0].as_ptr());
    let now = store.queue_entries_now(&queue, QueueOffset(2), 5).unwrap();
    let waited = store.queue_entries(&queue, QueueOffset(2), 5).unwrap();
    assert_eq!((now.len(), now), (5, waited));
    store.shutdown().unwrap();
}
