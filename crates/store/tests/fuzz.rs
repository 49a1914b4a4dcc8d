//! Random damage to any file of a small store: it opens, serves, goes on, and loses nothing that is intact.
//!
//! A failure names its seed; `GANTRY_SEED=n cargo test -p gantry-store --test fuzz` replays it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod harness;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_disk::faulty::FaultyDisk;
use gantry_message::{Millis, QueueId, QueueOffset, RecordView};
use gantry_store::{Outcome, Store, Tags};
use harness::{End, Harness, PLACES, record, seeds};

const SEGMENT: u64 = 4096;

/// A record of the healthy store: where it lies and its bytes.
struct Healthy {
    at: u64,
    bytes: Vec<u8>,
}

struct Template {
    harness: Harness,
    records: Vec<Healthy>,
}

fn template(end: End) -> Template {
    let mut harness = Harness::new(7);
    for _ in 0..12 {
        harness.send(6, 1);
        if harness.below(2) == 0 {
            harness.store().turn();
        }
    }
    let store = harness.store.take().unwrap();
    if end == End::Clean {
        store.shutdown().unwrap();
    }
    drop(store);
    harness.disk.kill();
    let records = records(&harness.disk);
    assert!(records.len() > 50, "{} records", records.len());
    Template { harness, records }
}

fn segment_path(at: u64) -> PathBuf {
    Path::new("/store/commitlog").join(format!("{:020}", at - at % SEGMENT))
}

/// Every record of the log, as it was written.
fn records(disk: &FaultyDisk) -> Vec<Healthy> {
    let (mut at, mut found) = (0, Vec::new());
    while let Some(segment) = disk.content(&segment_path(at)) {
        let within = usize::try_from(at % SEGMENT).unwrap();
        match RecordView::parse(&segment[within..]) {
            Ok(view) => {
                let bytes = view.bytes().to_vec();
                at += bytes.len() as u64;
                found.push(Healthy {
                    at: at - bytes.len() as u64,
                    bytes,
                });
            }
            Err(_) => at += SEGMENT - at % SEGMENT,
        }
    }
    found
}

/// Damages one file. Returns what was done, and whether intact messages may be out of reach: entries in the middle of a
/// queue file have no checksum.
fn damage(harness: &mut Harness, disk: &FaultyDisk) -> (String, bool) {
    let mut files = disk.files();
    files.retain(|path| !path.ends_with("lock"));
    let mut below = |limit: usize| usize::try_from(harness.below(limit.max(1) as u64)).unwrap();
    // As often in the log as elsewhere.
    if below(2) == 0 {
        files.retain(|path| path.starts_with("/store/commitlog"));
    }
    let path = files[below(files.len())].clone();
    let mut content = disk.content(&path).unwrap();
    let (kind, len) = (below(8), content.len());
    let (from, to) = (below(len), below(len) + 1);
    let range = from.min(to)..from.max(to);
    let mut is_inside = true;
    let what = match kind {
        0 => {
            disk.take(&path);
            return (format!("{} removed", path.display()), false);
        }
        1 => {
            content.truncate(from);
            is_inside = from > 0;
            "cut"
        }
        2 => {
            content.extend_from_slice(&[7; 100]);
            is_inside = false;
            "too long"
        }
        3 => {
            content.get_mut(range).unwrap_or_default().fill(0);
            "zeroed"
        }
        _ => {
            for _ in 0..=below(3) {
                let at = below(len);
                if let Some(byte) = content.get_mut(at) {
                    *byte ^= 1 << below(8);
                }
            }
            "bits changed"
        }
    };
    disk.put(&path, &content);
    let is_queue = path.starts_with("/store/consumequeue");
    (format!("{} {what}", path.display()), is_queue && is_inside)
}

/// What lies in the queues, one read a message.
fn bodies(store: &Store) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    for topic in store.topics() {
        for queue in store.queues_of(&topic) {
            let mut next = queue.min();
            while next < queue.max() {
                let read = store.read(&queue, next, 1, &|_| true);
                for slice in &read.slices {
                    if let Ok(view) = RecordView::parse(slice) {
                        found.insert(view.body().to_vec());
                    }
                }
                next = read.next.max(QueueOffset(next.0 + 1));
            }
        }
    }
    found
}

fn check(template: &mut Template, seed: u64) {
    let disk = template.harness.disk.fork();
    let (mut what, mut may_miss) = (format!("seed {seed}"), false);
    for _ in 0..=template.harness.below(2) {
        let (done, misses) = damage(&mut template.harness, &disk);
        what = format!("{what}, {done}");
        may_miss |= misses;
    }
    // Without both first files the queue looks as if both had expired.
    may_miss |= disk.content(&segment_path(0)).is_none() && what.contains("consumequeue");
    let is_intact = |one: &&Healthy| {
        let at = usize::try_from(one.at % SEGMENT).unwrap();
        let segment = disk.content(&segment_path(one.at)).unwrap_or_default();
        segment.get(at..at + one.bytes.len()) == Some(&one.bytes[..])
    };
    let intact: Vec<&Healthy> = template.records.iter().filter(is_intact).collect();
    let open = || {
        let config = template.harness.config.clone();
        let store = Store::open(Arc::new(disk.clone()), config, Millis(1_800_000_000_000));
        let store = store.unwrap_or_else(|error| panic!("{what}: {error}"));
        store.mark_running().unwrap();
        store
    };
    let store = open();
    store.turn();
    assert_eq!(store.check_writable(), Ok(()), "{what}");
    let found = bodies(&store);
    for one in &intact {
        let view = RecordView::parse(&one.bytes).unwrap();
        let number = u32::from_be_bytes(*view.body().first_chunk().unwrap());
        let (topic, id, at) = (view.topic(), view.queue_id(), one.at);
        assert!(
            may_miss || found.contains(view.body()),
            "{what}: message {number} at {at} is lost to {topic} {id}"
        );
        let key = format!("U{number}");
        let by_key = store.query(topic, &key, 64, Millis(0), Millis(i64::MAX));
        assert!(by_key.is_ok(), "{what}: {by_key:?}");
    }
    for place in PLACES {
        let queue = store.queue(place.0, QueueId(place.1));
        for offset in [QueueOffset(0), QueueOffset(queue.max().0 / 2), queue.max()] {
            let time = store.store_time_at(&queue, offset).unwrap_or_default();
            assert!(store.offset_at_time(&queue, time) <= queue.max(), "{what}");
            assert!(
                store
                    .queue_entries(&queue, offset, 100)
                    .map_or(0, |entries| entries.len())
                    <= 100
            );
        }
    }
    let before = store.queue("A", QueueId(0)).max();
    let mut fresh = Vec::new();
    for n in 0..20_u8 {
        let queue = store.queue("A", QueueId(0));
        let text = [&b"fresh"[..], &[n]].concat();
        let outcome = store.append(
            &queue,
            &record(("A", 0), &text, "KEYS\u{1}k"),
            Tags::Code(0),
        );
        assert!(
            matches!(outcome, Outcome::Stored { queue_offset, .. } if queue_offset.0 == before.0 + u64::from(n)),
            "{what}: {outcome:?}"
        );
        fresh.push(text);
    }
    store.turn();
    store.shutdown().unwrap();
    drop(store);
    let store = open();
    let again = bodies(&store);
    for text in fresh.iter().chain(&found) {
        assert!(
            again.contains(text),
            "{what}: {text:?} is lost after a clean stop"
        );
    }
    assert_eq!(
        store.queue("A", QueueId(0)).max().0,
        before.0 + 20,
        "{what}"
    );
}

#[test]
fn no_damage_to_a_stopped_store_makes_a_panic_or_loses_what_is_intact() {
    let mut template = template(End::Clean);
    for seed in seeds(1..=300) {
        template.harness.reseed(seed);
        check(&mut template, seed);
    }
}

#[test]
fn no_damage_to_a_killed_store_makes_a_panic_or_loses_what_is_intact() {
    let mut template = template(End::Kill);
    for seed in seeds(1..=300) {
        template.harness.reseed(seed);
        check(&mut template, seed);
    }
}
