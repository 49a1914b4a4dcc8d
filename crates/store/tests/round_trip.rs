//! The store on real files: what was stored is read, by every way of reading, before and after a restart.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gantry_disk::OsDisk;
use gantry_message::{LogOffset, Millis, QueueId, QueueOffset, Record, RecordView, SysFlag};
use gantry_store::{AppendError, Clock, Outcome, ReadStatus, Store, StoreConfig, Tags};

struct Home {
    dir: tempfile::TempDir,
    now: Arc<AtomicI64>,
}

impl Home {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            now: Arc::new(AtomicI64::new(1_700_000_000_000)),
        }
    }

    fn config(&self) -> StoreConfig {
        let now = Arc::clone(&self.now);
        StoreConfig {
            segment_size: 4096,
            queue_file_size: 20 * 16,
            index_slots: 16,
            index_entries: 64,
            // However full the disk of this machine is.
            clean_forcibly: false,
            disk_full_ratio: 100,
            clock: Clock::new(move || Millis(now.fetch_add(1, Ordering::Relaxed))),
            ..StoreConfig::at(self.dir.path())
        }
    }

    fn open(&self) -> Arc<Store> {
        Store::open(
            Arc::new(OsDisk),
            self.config(),
            Millis(self.now.load(Ordering::Relaxed)),
        )
        .unwrap()
    }
}

fn record<'a>(topic: &'a str, id: u32, body: &'a [u8], properties: &'a [u8]) -> Record<'a> {
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
        properties,
    }
}

fn put(store: &Store, topic: &str, id: u32, body: &[u8]) -> (LogOffset, QueueOffset) {
    let queue = store.queue(topic, QueueId(id));
    match store.append(&queue, &record(topic, id, body, b""), Tags::Code(7)) {
        Outcome::Stored {
            offset,
            queue_offset,
            ..
        } => (offset, queue_offset),
        Outcome::Refused(error) => panic!("{error}"),
    }
}

fn bodies(store: &Store, topic: &str, id: u32) -> Vec<Vec<u8>> {
    let queue = store.find_queue(topic, QueueId(id)).unwrap();
    let mut next = queue.min();
    let mut bodies = Vec::new();
    while next < queue.max() {
        let found = store.read(&queue, next, 32, &|_| true);
        assert_eq!(found.status, ReadStatus::Found);
        for slice in &found.slices {
            let mut rest = &slice[..];
            while !rest.is_empty() {
                let view = RecordView::parse(rest).unwrap();
                view.verify_crc().unwrap();
                assert_eq!(view.queue_offset(), next);
                bodies.push(view.body().to_vec());
                rest = &rest[view.len()..];
                next.0 += 1;
            }
        }
        assert_eq!(found.next, next);
    }
    bodies
}

#[test]
fn what_was_stored_is_read_after_a_clean_stop_and_after_none() {
    let home = Home::new();
    let expected = |queue: u32, count: u32| {
        (0..count)
            .filter(move |n| n % 3 == queue)
            .map(|n| format!("body {n}").into_bytes())
    };
    for (round, clean) in [(1, true), (2, false), (3, true)] {
        let store = home.open();
        store.mark_running().unwrap();
        for n in (round - 1) * 100..round * 100 {
            put(&store, "T", n % 3, format!("body {n}").as_bytes());
            if n % 30 == 0 {
                store.turn();
            }
        }
        for queue in 0..3 {
            assert_eq!(
                bodies(&store, "T", queue),
                expected(queue, round * 100).collect::<Vec<_>>(),
                "{round} {queue}"
            );
        }
        if clean {
            store.shutdown().unwrap();
        }
    }
    let store = home.open();
    for queue in 0..3 {
        assert_eq!(
            bodies(&store, "T", queue),
            expected(queue, 300).collect::<Vec<_>>()
        );
    }
    assert!(store.figures().segments > 5);
    assert_eq!(store.figures().quarantined, 0);
}

#[test]
fn threads_write_everything_and_stop() {
    let home = Home::new();
    let store = home.open();
    store.start().unwrap();
    for n in 0..500_u32 {
        put(&store, "T", n % 7, &n.to_be_bytes());
    }
    assert!(home.dir.path().join("abort").exists());
    store.shutdown().unwrap();
    assert!(!home.dir.path().join("abort").exists());
    let refused = store.append(
        &store.queue("T", QueueId(0)),
        &record("T", 0, b"x", b""),
        Tags::Code(0),
    );
    assert_eq!(refused, Outcome::Refused(AppendError::ShutDown));
    drop(store);
    let store = home.open();
    assert_eq!(
        (0..7)
            .map(|id| bodies(&store, "T", id).len())
            .sum::<usize>(),
        500
    );
}

fn keys_of(store: &Store, topic: &str, key: &str) -> Vec<Vec<u8>> {
    let found = store
        .query(topic, key, 1000, Millis(0), Millis(i64::MAX))
        .unwrap();
    let bodies = found
        .records
        .iter()
        .map(|bytes| RecordView::parse(bytes).unwrap().body().to_vec());
    bodies.collect()
}

#[test]
fn messages_are_found_by_key_over_files_and_restarts() {
    let home = Home::new();
    for round in 0..4_u32 {
        let store = home.open();
        store.mark_running().unwrap();
        for n in round * 40..round * 40 + 40 {
            let properties = format!("UNIQ_KEY\u{1}U{n}\u{2}KEYS\u{1}all k{}", n % 5);
            let queue = store.queue("T", QueueId(0));
            let body = n.to_string();
            store.append(
                &queue,
                &record("T", 0, body.as_bytes(), properties.as_bytes()),
                Tags::Code(0),
            );
            if n % 17 == 0 {
                store.turn();
            }
        }
        store.turn();
        let count = (round + 1) * 40;
        for n in 0..count {
            assert_eq!(
                keys_of(&store, "T", &format!("U{n}")),
                [n.to_string().into_bytes()],
                "round {round}"
            );
        }
        let expected: Vec<_> = (0..count)
            .filter(|n| n % 5 == 3)
            .map(|n| n.to_string().into_bytes())
            .collect();
        assert_eq!(keys_of(&store, "T", "k3"), expected, "round {round}");
        assert_eq!(keys_of(&store, "other", "k3"), Vec::<Vec<u8>>::new());
        assert_eq!(keys_of(&store, "T", "all").len(), 64.min(count as usize));
        assert_eq!(store.figures().index_behind_bytes, 0);
        if round % 2 == 0 {
            store.shutdown().unwrap();
        }
    }
    let files = std::fs::read_dir(home.dir.path().join("index"))
        .unwrap()
        .count();
    assert!(files > 5, "{files} index files");
}

#[test]
fn a_query_takes_the_newest_of_a_time_range() {
    let home = Home::new();
    let store = home.open();
    let queue = store.queue("T", QueueId(0));
    let mut times = Vec::new();
    for n in 0..20_u32 {
        home.now.fetch_add(1000, Ordering::Relaxed);
        match store.append(
            &queue,
            &record("T", 0, &n.to_be_bytes(), b"KEYS\x01k"),
            Tags::Code(0),
        ) {
            Outcome::Stored { store_time, .. } => times.push(store_time),
            Outcome::Refused(error) => panic!("{error}"),
        }
    }
    store.turn();
    let found = |max, begin, end| {
        let found = store.query("T", "k", max, begin, end).unwrap();
        found
            .records
            .iter()
            .map(|bytes| RecordView::parse(bytes).unwrap().queue_offset().0)
            .collect::<Vec<_>>()
    };
    assert_eq!(found(3, Millis(0), Millis(i64::MAX)), [17, 18, 19]);
    assert_eq!(found(64, times[5].plus(-1000), times[7]), [5, 6, 7]);
    assert_eq!(
        found(64, times[19].plus(2000), Millis(i64::MAX)),
        Vec::<u64>::new()
    );
}

#[test]
fn writers_readers_and_waiters_work_side_by_side() {
    const WRITERS: u32 = 3;
    const EACH: u32 = 400;
    let home = Home::new();
    let store = Store::open(
        Arc::new(OsDisk),
        StoreConfig {
            flush_sync: true,
            ..home.config()
        },
        Millis(0),
    )
    .unwrap();
    store.start().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            scope.spawn(move || {
                let mut batch = store.batch();
                let queue = store.queue("T", QueueId(0));
                for n in (0..EACH).step_by(4) {
                    batch.clear();
                    for n in n..n + 4 {
                        let body = [writer.to_be_bytes(), n.to_be_bytes()].concat();
                        batch
                            .stage(&queue, &record("T", 0, &body, b"KEYS\x01k"), Tags::Code(0))
                            .unwrap();
                    }
                    store.commit(&mut batch);
                    let Outcome::Stored { end, .. } = *batch.outcome(3) else {
                        panic!("refused")
                    };
                    assert!(store.flushed().wait_blocking(end.0 - 1, None));
                }
            });
        }
        scope.spawn(|| {
            let queue = store.queue("T", QueueId(0));
            let (mut next, mut last) = (QueueOffset(0), [None; WRITERS as usize]);
            while next.0 < u64::from(WRITERS * EACH) {
                assert!(queue.dispatched().wait_blocking(next.0, None));
                let found = store.read(&queue, next, 32, &|_| true);
                assert_eq!(found.status, ReadStatus::Found);
                for slice in &found.slices {
                    let mut rest = &slice[..];
                    while !rest.is_empty() {
                        let view = RecordView::parse(rest).unwrap();
                        let (writer, n) = view.body().split_at(4);
                        let last = &mut last[usize::from(writer[3])];
                        let n = u32::from_be_bytes(*n.first_chunk().unwrap());
                        assert_eq!(
                            last.map_or(0, |last| last + 1),
                            n,
                            "each writer's messages stay in order"
                        );
                        *last = Some(n);
                        rest = &rest[view.len()..];
                    }
                }
                next = found.next;
            }
        });
    });
    assert_eq!(store.flushed().value(), store.appended().value());
    store.shutdown().unwrap();
    assert_eq!(store.figures().put_records, u64::from(WRITERS * EACH));
}
