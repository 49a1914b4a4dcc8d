//! What is deleted, when, and what is left when the disk or the process dies in the middle of it.
//!
//! A failure at a certain change names its place; `GANTRY_SEED=n` replays a seed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod harness;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gantry_disk::faulty::{FaultyDisk, Operation};
use gantry_disk::{OsDisk, Usage};
use gantry_message::{Millis, QueueId, QueueOffset};
use gantry_store::{Outcome, ReadStatus, Store, StoreConfig, Tags};
use harness::{End, Harness, Place, record};

const EIO: i32 = 5;
const HOUR_MS: i64 = 3_600_000;
const A: Place = ("A", 0);
const B: Place = ("B", 0);

fn with(seed: u64, config: impl Fn(StoreConfig) -> StoreConfig) -> Harness {
    let mut harness = Harness::new(seed);
    harness.end(End::Clean);
    harness.config = config(harness.config.clone());
    harness.open();
    harness
}

fn put_all(harness: &mut Harness, numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert!(
            matches!(harness.put(A, number), Outcome::Stored { .. }),
            "{number}"
        );
    }
}

/// Lets so many hours pass, in steps that a clock may make.
fn pass(harness: &Harness, hours: i64) {
    for _ in 0..hours.div_euclid(20) + 1 {
        harness.now.fetch_add(20 * HOUR_MS, Ordering::Relaxed);
        harness.store().turn();
    }
}

fn segments(harness: &Harness) -> Vec<u64> {
    let files = harness.disk.files();
    let name = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
    let in_log = |path: &&PathBuf| path.to_string_lossy().contains("commitlog");
    let mut starts: Vec<u64> = files.iter().filter(in_log).filter_map(name).collect();
    starts.sort_unstable();
    starts
}

fn queue_files(harness: &Harness) -> usize {
    let files = harness.disk.files();
    let of_queues = files
        .iter()
        .filter(|path| path.starts_with("/store/consumequeue"));
    of_queues.count()
}

/// The log has no hole, and the queue holds everything from its first message to `end`. Returns the first message.
fn check_whole(harness: &Harness, end: u32, when: &str) -> u32 {
    let starts = segments(harness);
    assert!(
        starts.windows(2).all(|two| two[0] + 4096 == two[1]),
        "{when}: {starts:?}"
    );
    let numbers = harness.numbers(A);
    let first = numbers.first().map_or(end, |&(_, number)| number);
    let expected: Vec<_> = (first..end)
        .map(|number| (u64::from(number), number))
        .collect();
    assert_eq!(numbers, expected, "{when}");
    first
}

/// One log folder, and two on disks of their own.
fn folders() -> [Vec<PathBuf>; 2] {
    [
        vec!["/store/commitlog".into()],
        vec!["/one/commitlog".into(), "/two/commitlog".into()],
    ]
}

#[test]
fn a_death_in_the_middle_of_deletion_leaves_no_hole() {
    for (end, seed) in [(End::Kill, 1), (End::PowerCut, 2), (End::PowerCut, 3)] {
        for paths in folders() {
            let prepare = || {
                let mut harness = with(seed, |config| StoreConfig {
                    commit_log_paths: paths.clone(),
                    ..config
                });
                put_all(&mut harness, 0..150);
                pass(&harness, 80);
                put_all(&mut harness, 150..155);
                harness.store().turn();
                harness.disk.reorder_names();
                harness.store().delete_expired_now();
                harness
            };
            let whole = prepare();
            let (before, files) = (whole.disk.changes(), queue_files(&whole));
            whole.store().turn();
            let changes = whole.disk.changes() - before;
            assert!(
                changes > 15 && check_whole(&whole, 155, "whole") > 90,
                "{changes} changes"
            );
            let least = queue_files(&whole);
            assert!(least < files);
            for stop in 1..=changes {
                let when = format!("seed {seed}, {end:?} after {stop} changes, {paths:?}");
                println!("{when}");
                let mut harness = prepare();
                harness.disk.stop_after(stop);
                harness.store().turn();
                harness.end(end);
                harness.open();
                check_whole(&harness, 155, &when);
                put_all(&mut harness, 155..157);
                // The next round finishes what was begun, queue files of deleted segments included.
                harness.store().delete_expired_now();
                harness.store().turn();
                harness.store().turn();
                assert!(check_whole(&harness, 157, &when) > 90);
                assert!(queue_files(&harness) <= least + 1, "{when}");
            }
        }
    }
}

#[test]
fn what_an_administrator_wants_deleted_goes_in_rounds_that_follow_each_other() {
    let mut harness = with(4, |config| StoreConfig {
        clean_interval_ms: 100,
        delete_log_interval_ms: 0,
        // Not by the hour.
        delete_when: Vec::new(),
        ..config
    });
    put_all(&mut harness, 0..500);
    pass(&harness, 80);
    put_all(&mut harness, 500..505);
    harness.store().flush().unwrap();
    let before = segments(&harness).len();
    assert!(before > 25, "{before} segments are a round or two");
    harness.store().start().unwrap();
    harness.store().delete_expired_now();
    // The first round that nobody asks for comes after a minute.
    let patience = Instant::now() + Duration::from_secs(40);
    while segments(&harness).len() > before - 25 {
        assert!(
            Instant::now() < patience,
            "{} of {before} segments are left",
            segments(&harness).len()
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_segment_that_cannot_be_deleted_stays_with_all_behind_it() {
    let mut harness = Harness::new(4);
    put_all(&mut harness, 0..100);
    pass(&harness, 80);
    put_all(&mut harness, 100..105);
    harness.store().turn();
    let before = segments(&harness);
    harness.disk.fail(Operation::Remove, u64::MAX, EIO);
    harness.store().delete_expired_now();
    harness.store().turn();
    assert_eq!(segments(&harness), before);
    assert_eq!(check_whole(&harness, 105, "while it fails"), 0);
    put_all(&mut harness, 105..106);
    harness.disk.fail(Operation::Remove, 0, 0);
    harness.store().turn();
    assert!(check_whole(&harness, 106, "afterwards") > 0);
}

#[test]
fn a_segment_that_somebody_removed_by_hand_stops_nothing() {
    let mut harness = Harness::new(4);
    put_all(&mut harness, 0..100);
    pass(&harness, 80);
    put_all(&mut harness, 100..105);
    harness.store().turn();
    harness
        .disk
        .take(Path::new("/store/commitlog/00000000000000000000"));
    harness.store().delete_expired_now();
    harness.store().turn();
    assert!(check_whole(&harness, 105, "afterwards") > 50);
}

#[test]
fn forced_deletion_ends_as_soon_as_there_is_space() {
    let mut harness = Harness::new(5);
    // About 24 of 40 segments.
    put_all(&mut harness, 0..500);
    harness.store().turn();
    let used = harness
        .disk
        .files()
        .iter()
        .map(|path| harness.disk.content(path).unwrap().len() as u64)
        .sum::<u64>();
    harness.disk.set_capacity(used * 100 / 87);
    harness.store().turn();
    let first = check_whole(&harness, 500, "one round");
    // 2 % are a few messages' segments, not the ten of a round.
    assert!(0 < first && first < 80, "deleted up to {first}");
    let settled = segments(&harness);
    for _ in 0..3 {
        harness.store().turn();
    }
    assert_eq!(segments(&harness), settled);
}

#[test]
fn sends_go_on_when_old_messages_make_room_for_the_next_segment() {
    // Deletion for want of space goes by what is needed, even where no ratio says so.
    let ratios = |config| StoreConfig {
        disk_full_ratio: 100,
        disk_clean_forcibly_ratio: 100,
        ..config
    };
    for (forcibly, goes_on) in [(true, true), (false, false)] {
        let mut harness = with(6, |config| StoreConfig {
            clean_forcibly: forcibly,
            ..ratios(config)
        });
        put_all(&mut harness, 0..60);
        let used = harness
            .disk
            .files()
            .iter()
            .map(|path| harness.disk.content(path).unwrap().len() as u64)
            .sum::<u64>();
        harness.disk.set_capacity(used + 9000);
        let mut stored = 60;
        for _ in 0..200 {
            match harness.put(A, stored) {
                Outcome::Stored { .. } => stored += 1,
                Outcome::Refused(error) => {
                    let text = error.to_string();
                    assert!(
                        text.starts_with("no space left for /store/commitlog/"),
                        "{text}"
                    );
                    let before = segments(&harness).len();
                    harness.store().turn();
                    // One at a time: each may be the one that is needed.
                    assert!(before <= segments(&harness).len() + usize::from(goes_on));
                    harness.store().turn();
                }
            }
        }
        assert_eq!(
            stored > 150,
            goes_on,
            "{stored} stored, forcibly: {forcibly}"
        );
        let first = check_whole(&harness, stored, "in the end");
        assert_eq!(first > 0, goes_on);
        harness.end(End::Kill);
        harness.open();
        check_whole(&harness, stored, "after a kill");
    }
}

#[test]
fn limits_of_the_disk_change_while_the_store_runs() {
    let mut harness = Harness::new(7);
    put_all(&mut harness, 0..10);
    let used = |percent: u64| Usage {
        total: 100 << 30,
        free: (100 - percent) << 30,
        available: (100 - percent) << 30,
    };
    harness.disk.set_usage(used(95));
    harness.store().turn();
    assert!(harness.store().check_writable().is_err());
    harness.store().reconfigure(&StoreConfig {
        disk_full_ratio: 95,
        ..harness.config.clone()
    });
    harness.store().turn();
    assert!(harness.store().check_writable().is_ok());
}

#[test]
fn a_clock_that_was_set_back_deletes_nothing_until_it_has_caught_up() {
    let mut harness = Harness::new(8);
    put_all(&mut harness, 0..100);
    pass(&harness, 80);
    put_all(&mut harness, 100..105);
    let right = harness.now.fetch_sub(2 * HOUR_MS, Ordering::Relaxed);
    harness.store().delete_expired_now();
    harness.store().turn();
    assert_eq!(check_whole(&harness, 105, "behind"), 0);
    harness.now.store(right + 10_000, Ordering::Relaxed);
    harness.store().turn();
    assert!(check_whole(&harness, 105, "caught up") > 0);
}

#[test]
fn a_queue_without_messages_knows_where_it_goes_on() {
    let mut harness = Harness::new(9);
    put_all(&mut harness, 0..30);
    for _ in 0..3 {
        pass(&harness, 80);
        for number in 0..40 {
            harness.put(B, number);
        }
    }
    harness.store().delete_expired_now();
    harness.store().turn();
    let check = |harness: &Harness| {
        let queue = harness.store().find_queue(A.0, QueueId(A.1)).unwrap();
        assert_eq!((queue.min().0, queue.max().0), (30, 30));
        for (from, status, next) in [
            (0, ReadStatus::OffsetTooSmall, 30),
            (29, ReadStatus::OffsetTooSmall, 30),
            (30, ReadStatus::OffsetOverflowOne, 30),
            (31, ReadStatus::OffsetOverflowBadly, 30),
        ] {
            let found = harness
                .store()
                .read(&queue, QueueOffset(from), 32, &|_| true);
            assert_eq!((found.status, found.next.0), (status, next), "from {from}");
        }
        // What Java makes of a queue that it finds no time in.
        assert_eq!(harness.store().offset_at_time(&queue, Millis(0)).0, 0);
    };
    check(&harness);
    for end in [End::Clean, End::Kill] {
        harness.end(end);
        harness.open();
        check(&harness);
    }
    let figures = harness.store().figures();
    let oldest = harness.store().earliest_time().unwrap();
    assert!(figures.min_offset > 0 && oldest.0 > 1_700_000_000_000 + 80 * HOUR_MS);
    // Request 306: now it is as if it had never been.
    harness.store().clean_expired_queues().unwrap();
    assert!(harness.store().find_queue(A.0, QueueId(A.1)).is_none());
    assert!(harness.store().find_queue(B.0, QueueId(B.1)).is_some());
    put_all(&mut harness, 0..1);
    assert_eq!(harness.numbers(A), [(0, 0)]);
}

/// The cleaner rests between a queue's files; what it meets afterwards under the same names is another queue's.
#[test]
fn cleaning_a_deleted_queue_spares_the_one_that_began_anew() {
    let mut harness = with(10, |config| StoreConfig {
        delete_queue_interval_ms: 200,
        ..config
    });
    put_all(&mut harness, 0..60);
    pass(&harness, 80);
    for number in 0..60 {
        harness.put(B, number);
    }
    harness.store().catch_up();
    harness.store().delete_expired_now();
    let file = |base: u64| PathBuf::from(format!("/store/consumequeue/A/0/{base:020}"));
    let is_there = |disk: &FaultyDisk, base| disk.files().contains(&file(base));
    std::thread::scope(|scope| {
        let store = Arc::clone(harness.store());
        let cleaning = scope.spawn(move || store.turn());
        while is_there(&harness.disk, 0) {
            assert!(!cleaning.is_finished(), "nothing was cleaned");
            std::thread::yield_now();
        }
        harness.store().delete_topic(A.0).unwrap();
        put_all(&mut harness, 0..60);
        harness.store().catch_up();
    });
    for base in [0, 320, 640, 960] {
        assert!(is_there(&harness.disk, base), "{base}");
    }
    assert_eq!(check_whole(&harness, 60, "anew"), 0);
}

/// A store with segments of 40 MiB on a real disk, two of them full; all but the newest may go at any time.
fn large(dir: &Path) -> Arc<Store> {
    let config = StoreConfig {
        segment_size: 40 << 20,
        index_slots: 100,
        index_entries: 1000,
        max_message_size: 8 << 20,
        delete_log_interval_ms: 0,
        // Everything may go at any hour.
        reserved_hours: 0,
        delete_when: (0..24).collect(),
        ..StoreConfig::at(dir)
    };
    let store = Store::open(Arc::new(OsDisk), config, Millis::now()).unwrap();
    let queue = store.queue(A.0, QueueId(0));
    for number in 0..12_u8 {
        let body = vec![number; 6 << 20];
        let stored = store.append(&queue, &record(A, &body, ""), Tags::Code(0));
        assert!(matches!(stored, Outcome::Stored { .. }));
    }
    store
}

/// What readers hold of a deleted segment stays as it was, and its space comes back when they are done.
#[test]
fn readers_of_a_deleted_segment_keep_what_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let store = large(dir.path());
    let queue = store.queue(A.0, QueueId(0));
    let held = store.read(&queue, QueueOffset(0), 1, &|_| true);
    assert_eq!((held.status, held.count), (ReadStatus::Found, 1));
    // How many files of ours without a name are mapped, and how many are open.
    let nameless = || {
        let of_us = |path: &str| path.contains(&*dir.path().to_string_lossy());
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mapped = maps.lines().filter(|line| of_us(line)).count();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let is_nameless = |fd: &std::fs::DirEntry| {
            let target = std::fs::read_link(fd.path()).unwrap_or_default();
            of_us(&target.to_string_lossy())
                && std::fs::metadata(fd.path()).is_ok_and(|meta| meta.nlink() == 0)
        };
        (mapped, open.filter(is_nameless).count())
    };
    store.turn();
    assert!(store.min_offset().0 > 0, "nothing was deleted");
    assert_eq!(nameless().0, 1);
    let body = held.slices[0].iter().filter(|&&byte| byte == 0).count();
    assert!(body >= 6 << 20, "{body} bytes of the body are left");
    // Who comes now learns that it is gone.
    let late = store.read(&queue, QueueOffset(0), 1, &|_| true);
    assert_eq!((late.status, late.count), (ReadStatus::OffsetTooSmall, 0));
    store.turn();
    let (mapped, open) = nameless();
    assert!(mapped == 1 && open > 0, "{mapped} {open}");
    drop(held);
    store.turn();
    assert_eq!(nameless(), (0, 0));
    store.shutdown().unwrap();
}

/// `cp -al` is how backups are made of files that never change again.
#[test]
fn a_hard_link_keeps_the_bytes_of_a_deleted_segment() {
    let dir = tempfile::tempdir().unwrap();
    let store = large(dir.path());
    let segment = dir.path().join("commitlog/00000000000000000000");
    let backup = dir.path().join("backup");
    std::fs::hard_link(&segment, &backup).unwrap();
    let before = std::fs::metadata(&backup).unwrap().len();
    store.turn();
    store.turn();
    assert!(store.min_offset().0 > 0 && !segment.exists());
    assert_eq!(std::fs::metadata(&backup).unwrap().len(), before);
    store.shutdown().unwrap();
}
