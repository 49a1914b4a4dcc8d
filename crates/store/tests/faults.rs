//! What the store does when the disk does not do what it is asked: refuse, latch, set aside, go on.

#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gantry_disk::faulty::{FaultyDisk, Operation};
use gantry_disk::{Disk, Usage};
use gantry_message::{Millis, QueueId, QueueOffset, Record, SysFlag};
use gantry_store::{AppendError, Outcome, ReadStatus, Store, StoreConfig, StoreError, Tags};
use harness::{End, Harness, Place};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const A: Place = ("A", 0);

fn filled(count: u32) -> Harness {
    let mut harness = Harness::new(9);
    for number in 0..count {
        assert!(matches!(harness.put(A, number), Outcome::Stored { .. }));
    }
    harness
}

fn all(count: u32) -> Vec<(u64, u32)> {
    (0..count)
        .map(|number| (u64::from(number), number))
        .collect()
}

fn without(count: u32, lost: &[u32]) -> Vec<(u64, u32)> {
    all(count)
        .into_iter()
        .filter(|(_, number)| !lost.contains(number))
        .collect()
}

fn segment(start: u64) -> PathBuf {
    Path::new("/store/commitlog").join(format!("{start:020}"))
}

/// Where the record of a message of queue A starts.
fn offset_of(harness: &Harness, number: u64) -> u64 {
    let queue = harness.store().find_queue(A.0, QueueId(A.1)).unwrap();
    harness
        .store()
        .queue_entry(&queue, QueueOffset(number))
        .unwrap()
        .log_offset
        .0
}

#[test]
fn a_failed_sync_latches_and_nothing_is_called_durable_again() {
    let mut harness = filled(3);
    harness.disk.fail(Operation::Sync, 1, EIO);
    harness.store().turn();
    let flushed = harness.store().flushed().value();
    assert!(flushed < harness.store().appended().value());
    let text = harness.store().check_writable().unwrap_err().to_string();
    assert!(
        text.contains("sync of /store/commitlog/00000000000000000000: Input/output error"),
        "{text}"
    );
    harness.store().turn();
    assert_eq!(harness.store().flushed().value(), flushed);
    assert!(matches!(
        harness.put(A, 3),
        Outcome::Refused(AppendError::Latched { .. })
    ));
    assert_eq!(harness.numbers(A), all(3));
    harness.end(End::Kill);
    assert!(
        harness
            .disk
            .files()
            .contains(&PathBuf::from("/store/abort"))
    );
}

#[test]
fn a_failed_write_latches_and_leaves_nothing_behind() {
    let mut harness = filled(3);
    harness.disk.fail(Operation::Write, 1, EIO);
    assert!(matches!(
        harness.put(A, 3),
        Outcome::Refused(AppendError::Latched { .. })
    ));
    assert_eq!(harness.numbers(A), all(3));
    let end = harness.store().max_offset().0;
    let log = harness.disk.content(&segment(0)).unwrap();
    assert!(
        log[usize::try_from(end).unwrap()..]
            .iter()
            .all(|&byte| byte == 0)
    );
    harness.end(End::Kill);
    harness.open();
    assert_eq!(harness.numbers(A), all(3));
}

#[test]
fn a_write_without_space_is_a_refusal_that_passes() {
    let mut harness = filled(3);
    harness.disk.fail(Operation::Write, 1, ENOSPC);
    let Outcome::Refused(error @ AppendError::NoSpace { .. }) = harness.put(A, 99) else {
        panic!("stored")
    };
    assert!(
        error
            .to_string()
            .starts_with("no space left for /store/commitlog/00000000000000000000"),
        "{error}"
    );
    assert!(matches!(
        harness.put(A, 3),
        Outcome::Stored {
            queue_offset: QueueOffset(3),
            ..
        }
    ));
    harness.end(End::Kill);
    harness.open();
    assert_eq!(harness.numbers(A), all(4));
}

#[test]
fn a_segment_that_cannot_be_made_refuses_until_there_is_space() {
    let mut harness = filled(1);
    harness.disk.set_room(Some(0));
    let mut stored = 1;
    let refused = loop {
        match harness.put(A, stored) {
            Outcome::Stored { .. } => stored += 1,
            Outcome::Refused(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::NoSpace { .. }), "{refused}");
    assert!(!harness.disk.files().contains(&segment(4096)));
    harness.disk.set_room(None);
    // Only the background tries again: a send would wait for the disk.
    assert!(matches!(
        harness.put(A, stored),
        Outcome::Refused(AppendError::NoSpace { .. })
    ));
    harness.store().turn();
    assert!(matches!(harness.put(A, stored), Outcome::Stored { .. }));
    harness.end(End::Kill);
    harness.open();
    assert_eq!(harness.numbers(A), all(stored + 1));
}

#[test]
fn queue_entries_wait_in_memory_for_space() {
    let mut harness = filled(40);
    harness.disk.fail(Operation::Write, u64::MAX, ENOSPC);
    harness.store().turn();
    assert_eq!(harness.numbers(A), all(40));
    harness.disk.fail(Operation::Write, 0, 0);
    harness.store().turn();
    assert_eq!(harness.store().figures().queue_behind_bytes, 0);
    harness.end(End::Clean);
    harness.open();
    assert_eq!(harness.numbers(A), all(40));
}

#[test]
fn a_disk_that_is_too_full_refuses_and_takes_messages_again() {
    let mut harness = filled(1);
    let used = |percent: u64| Usage {
        total: 100 << 30,
        free: (100 - percent) << 30,
        available: (100 - percent) << 30,
    };
    harness.disk.set_usage(used(91));
    harness.store().turn();
    let text = harness.store().check_writable().unwrap_err().to_string();
    assert_eq!(
        text,
        "the disk of /store/commitlog is 91 % full, the limit is 90 %"
    );
    assert!(matches!(
        harness.put(A, 1),
        Outcome::Refused(AppendError::DiskFull { .. })
    ));
    harness.disk.set_usage(used(90));
    harness.store().turn();
    assert!(matches!(harness.put(A, 1), Outcome::Stored { .. }));
}

#[test]
fn expired_segments_go_with_their_queue_and_index_files() {
    let mut harness = filled(200);
    harness.store().turn();
    let files = |harness: &Harness, dir: &str| {
        harness
            .disk
            .files()
            .iter()
            .filter(|path| path.starts_with(dir))
            .count()
    };
    let before =
        ["/store/commitlog", "/store/consumequeue", "/store/index"].map(|dir| files(&harness, dir));
    // In steps: a clock that jumps by more than a day is not believed.
    for _ in 0..4 {
        harness.now.fetch_add(20 * 3_600_000, Ordering::Relaxed);
        harness.store().turn();
    }
    for number in 200..210 {
        harness.put(A, number);
    }
    harness.store().delete_expired_now();
    harness.store().turn();
    harness.store().turn();
    let after =
        ["/store/commitlog", "/store/consumequeue", "/store/index"].map(|dir| files(&harness, dir));
    for (before, after) in before.iter().zip(after) {
        assert!(after < before / 2, "{before} files became {after}");
    }
    let queue = harness.store().find_queue(A.0, QueueId(A.1)).unwrap();
    let min = queue.min().0;
    assert!(0 < min && min <= 200, "{min}");
    let expected = without(210, &(0..u32::try_from(min).unwrap()).collect::<Vec<_>>());
    assert_eq!(harness.numbers(A), expected);
    let early = harness.store().read(&queue, QueueOffset(0), 32, &|_| true);
    assert_eq!(
        (early.status, early.next.0),
        (ReadStatus::OffsetTooSmall, min)
    );
    harness.end(End::Clean);
    harness.open();
    assert_eq!(harness.numbers(A), expected);
    assert_eq!(
        harness
            .store()
            .find_queue(A.0, QueueId(A.1))
            .unwrap()
            .min()
            .0,
        min
    );
}

#[test]
fn what_is_young_stays_and_a_full_disk_takes_the_oldest() {
    let harness = filled(200);
    harness.store().delete_expired_now();
    harness.store().turn();
    assert_eq!(harness.numbers(A).len(), 200);
    harness.disk.set_usage(Usage {
        total: 100 << 30,
        free: 14 << 30,
        available: 14 << 30,
    });
    for _ in 0..20 {
        harness.store().turn();
    }
    let left = harness.numbers(A);
    assert!(
        left.len() < 40 && left.last() == Some(&(199, 199)),
        "{left:?}"
    );
}

/// Changes the log behind the store's back, forgets our own notes, and opens it again.
fn damage(clean: bool, change: impl Fn(&mut Harness)) -> Harness {
    let mut harness = filled(60);
    harness.store().turn();
    change(&mut harness);
    if harness.store.is_some() {
        harness.end(if clean { End::Clean } else { End::Kill });
    }
    harness.disk.take(Path::new("/store/gantry.checkpoint"));
    harness.open();
    harness
}

fn overwrite(disk: &FaultyDisk, at: u64, bytes: &[u8]) {
    let path = segment(at / 4096 * 4096);
    let mut content = disk.content(&path).unwrap();
    let within = usize::try_from(at % 4096).unwrap();
    content[within..within + bytes.len()].copy_from_slice(bytes);
    disk.put(&path, &content);
}

#[test]
fn damage_in_the_middle_costs_the_damaged_messages_only() {
    for clean in [true, false] {
        let mut harness = damage(clean, |harness| {
            let (body, size) = (offset_of(harness, 50), offset_of(harness, 55));
            overwrite(&harness.disk, body + 90, b"garbage");
            overwrite(&harness.disk, size, &[0xFF; 8]);
        });
        assert_eq!(harness.numbers(A), without(60, &[50, 55]), "clean {clean}");
        let quarantined: Vec<_> = harness
            .disk
            .files()
            .into_iter()
            .filter(|path| path.starts_with("/store/quarantine"))
            .collect();
        assert_eq!(quarantined.len(), 2, "{quarantined:?}");
        assert!(
            quarantined[0]
                .to_string_lossy()
                .starts_with("/store/quarantine/commitlog-0000")
        );
        harness.put(A, 60);
        harness.end(End::Clean);
        harness.disk.take(Path::new("/store/gantry.checkpoint"));
        harness.open();
        assert_eq!(harness.numbers(A), without(61, &[50, 55]));
        assert_eq!(harness.store().figures().quarantined, 0);
    }
}

#[test]
fn a_missing_segment_costs_its_messages_only() {
    let harness = damage(false, |harness| {
        harness.end(End::Kill);
        harness.disk.take(&segment(4096));
    });
    let numbers = harness.numbers(A);
    assert!(numbers.len() < 60 && numbers.last() == Some(&(59, 59)));
    assert!(
        numbers
            .iter()
            .all(|&(offset, number)| offset == u64::from(number))
    );
    assert!(
        harness
            .disk
            .content(&segment(4096))
            .unwrap()
            .starts_with(&[0, 0, 0x10, 0, 0xCB, 0xD4, 0x31, 0x94])
    );
}

#[test]
fn odd_files_never_stop_the_start() {
    let odd = [
        ("/store/commitlog/lost+found", &b""[..]),
        ("/store/commitlog/00000000000000016384", b""),
        ("/store/commitlog/00000000000000016385", b"misnamed"),
        ("/store/commitlog/notes.txt", b"x"),
        ("/store/consumequeue/A/0/00000000000000001600", b""),
        ("/store/consumequeue/A/0/stray", b"x"),
        ("/store/consumequeue/A/x/00000000000000000000", b"x"),
        ("/store/consumequeue/stray", b"x"),
        ("/store/index/20200101000000000", b""),
        ("/store/index/stray", b"x"),
        ("/store/checkpoint", b"short"),
        ("/store/gantry.checkpoint", b"gantry-checkpoint 1\nnonsense"),
        ("/store/gantry.checkpoint.tmp", b""),
        ("/store/abort", b""),
    ];
    for (path, content) in odd {
        let mut harness = filled(60);
        harness.store().turn();
        harness.end(End::Clean);
        harness.disk.put(Path::new(path), content);
        harness.open();
        assert_eq!(harness.numbers(A), all(60), "{path}");
        harness.put(A, 60);
        harness.store().turn();
        harness.end(End::Clean);
        harness.open();
        assert_eq!(harness.numbers(A), all(61), "{path}");
    }
}

#[test]
fn a_queue_file_that_was_emptied_or_cut_is_built_again() {
    for len in [0, 100, 170] {
        let mut harness = filled(60);
        harness.store().turn();
        harness.end(End::Clean);
        let path = Path::new("/store/consumequeue/A/0/00000000000000000960");
        let content = harness.disk.content(path).unwrap();
        harness.disk.put(path, &content[..len]);
        harness.open();
        assert_eq!(harness.numbers(A), all(60), "cut to {len}");
    }
}

#[test]
fn other_sizes_than_configured_are_kept() {
    let mut harness = filled(100);
    harness.end(End::Clean);
    harness.config.segment_size = 1 << 20;
    harness.config.queue_file_size = 20_000;
    harness.open();
    assert_eq!(harness.numbers(A), all(100));
    for number in 100..200 {
        harness.put(A, number);
    }
    harness.end(End::Clean);
    assert!(harness.disk.files().iter().all(|path| {
        let len = harness.disk.content(path).unwrap().len();
        !path.starts_with("/store/commitlog") || len == 4096
    }));
    harness.open();
    assert_eq!(harness.numbers(A), all(200));
}

#[test]
fn queues_without_a_log_are_set_aside_and_not_deleted() {
    let mut harness = filled(20);
    harness.end(End::Clean);
    for path in harness.disk.files() {
        if path.starts_with("/store/commitlog") {
            harness.disk.take(&path);
        }
    }
    harness.open();
    assert!(harness.store().topics().is_empty());
    assert!(
        harness
            .disk
            .files()
            .iter()
            .any(|path| path.starts_with("/store/quarantine/consumequeue/A"))
    );
    assert!(matches!(
        harness.put(A, 0),
        Outcome::Stored {
            queue_offset: QueueOffset(0),
            ..
        }
    ));
}

#[test]
fn a_deleted_topic_stays_deleted_and_begins_anew() {
    let mut harness = filled(30);
    harness.put(("B", 0), 7);
    let before = harness.store().queue(A.0, QueueId(A.1));
    harness.store().delete_topic("A").unwrap();
    assert_eq!(harness.store().topics(), ["B"]);
    let gone = harness.store().append(
        &before,
        &harness::record(A, &[0; 4], ""),
        gantry_store::Tags::Code(0),
    );
    assert!(
        matches!(gone, Outcome::Refused(AppendError::QueueGone { .. })),
        "{gone:?}"
    );
    for end in [End::Kill, End::PowerCut, End::Clean] {
        harness.end(end);
        harness.open();
        assert_eq!(harness.store().topics(), ["B"], "after {end:?}");
    }
    assert!(matches!(
        harness.put(A, 5),
        Outcome::Stored {
            queue_offset: QueueOffset(0),
            ..
        }
    ));
    assert_eq!(harness.numbers(A), [(0, 5)]);
}

#[test]
fn a_second_store_is_kept_out_before_it_touches_anything() {
    let harness = filled(3);
    let changes = harness.disk.changes();
    let error = Store::open(
        Arc::new(harness.disk.clone()),
        harness.config.clone(),
        Millis(0),
    )
    .unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    assert_eq!(
        error.to_string(),
        "Lock failed,MQ already started: /store/lock is locked by another process"
    );
    assert_eq!(harness.disk.changes(), changes);
    assert_eq!(harness.numbers(A), all(3));
}

#[test]
fn a_directory_that_cannot_be_written_is_named_and_nothing_is_left() {
    let disk = FaultyDisk::new(1);
    disk.create_dirs(Path::new("/store")).unwrap();
    disk.fail(Operation::Create, 1, 13);
    let error =
        Store::open(Arc::new(disk.clone()), StoreConfig::at("/store"), Millis(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot lock /store/lock: Permission denied (os error 13)"
    );
    assert!(disk.files().is_empty());
}

#[test]
fn sizes_that_no_store_can_have_are_refused_by_name() {
    let config = StoreConfig {
        segment_size: 100,
        ..StoreConfig::at("/store")
    };
    let error = Store::open(Arc::new(FaultyDisk::new(1)), config, Millis(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mappedFileSizeCommitLog 100 is out of range: 256 to 2147483647 bytes"
    );
}

/// Of two files of an odd size only one has messages; the other was made ahead.
#[test]
fn a_size_that_names_rule_out_is_not_taken_for_the_size_of_the_log() {
    let mut harness = Harness::new(2);
    harness.config.segment_size = 3000;
    harness.end(End::Clean);
    harness.disk.take(&segment(0));
    harness.open();
    for number in 0..40 {
        harness.put(A, number);
    }
    harness.store().turn();
    harness.end(End::Kill);
    let files: Vec<PathBuf> = harness.disk.files();
    let log: Vec<_> = files
        .iter()
        .filter(|path| path.starts_with("/store/commitlog"))
        .collect();
    assert!(log.len() > 2, "{log:?}");
    // As after cleaning: what is left does not begin at 0.
    log[..log.len() - 2]
        .iter()
        .for_each(|path| harness.disk.take(path));
    harness.config.segment_size = 4096;
    harness.open();
    assert_eq!(harness.store().figures().quarantined, 0);
    assert_eq!(harness.numbers(A).last(), Some(&(39, 39)));
}

#[test]
fn entries_of_a_missing_segment_are_lost_messages_even_where_queues_are_trusted() {
    for end in [End::Clean, End::Kill] {
        let mut harness = filled(60);
        harness.store().turn();
        harness.end(end);
        harness.disk.take(&segment(4096));
        harness.open();
        // A read that begins in the lost range goes past it, and no byte of it is taken for a message.
        let numbers = harness.numbers(A);
        assert!(20 < numbers.len() && numbers.len() < 60, "{numbers:?}");
        assert_eq!(numbers.last(), Some(&(59, 59)));
        let queue = harness.store().find_queue(A.0, QueueId(A.1)).unwrap();
        let lost = (0..60).filter(|&at| {
            harness
                .store()
                .queue_entry(&queue, QueueOffset(at))
                .is_none()
        });
        assert_eq!(lost.count() + numbers.len(), 60, "{end:?}");
    }
}

/// A power cut may keep the entries of messages that it takes.
#[test]
fn entries_before_the_first_message_that_is_left_do_not_count_after_the_next_restart_either() {
    let mut harness = filled(8);
    harness.store().turn();
    let lost = usize::try_from(offset_of(&harness, 3)).unwrap();
    harness.end(End::Kill);
    harness.disk.take(Path::new("/store/gantry.checkpoint"));
    overwrite(&harness.disk, 0, &vec![0; lost]);
    for _ in 0..2 {
        harness.open();
        assert_eq!(harness.numbers(A), without(8, &[0, 1, 2]));
        harness.end(End::Clean);
    }
}

/// With `flushCommitLogTimed=false` nobody waits for the interval once enough pages are new.
#[test]
fn an_asynchronous_flush_that_may_be_woken_comes_when_enough_is_waiting() {
    let disk = FaultyDisk::new(1);
    let config = StoreConfig {
        flush_timed: false,
        flush_interval_ms: 3_600_000,
        flush_least_pages: 2,
        segment_size: 1 << 20,
        ..StoreConfig::at("/store")
    };
    let store = Store::open(Arc::new(disk), config, Millis(1_700_000_000_000)).unwrap();
    store.start().unwrap();
    let queue = store.queue("A", QueueId(0));
    let enough = store.max_offset().0 + 2 * 4096;
    let record = Record {
        topic: "A",
        queue_id: QueueId(0),
        flag: 0,
        sys_flag: SysFlag(0),
        born_time: Millis(0),
        born_host: "10.0.0.9:5555".parse().unwrap(),
        store_host: "10.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_offset: 0,
        body: &[b'x'; 1500],
        properties: b"",
    };
    while store.max_offset().0 < enough {
        let stored = store.append(&queue, &record, Tags::Code(0));
        assert!(matches!(stored, Outcome::Stored { .. }), "{stored:?}");
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    assert!(
        store.flushed().wait_blocking(enough - 1, Some(deadline)),
        "nobody flushed"
    );
    store.shutdown().unwrap();
}

/// A store with messages in the given sizes of queue A, opened again: entries and records have to come from the disk.
fn cold(count: u32) -> Harness {
    let mut harness = filled(count);
    harness.end(End::Clean);
    harness.open();
    harness
}

#[test]
fn a_message_whose_head_cannot_be_read_is_waited_for_and_not_skipped() {
    let harness = cold(12);
    let store = harness.store();
    let queue = store.find_queue(A.0, QueueId(A.1)).unwrap();
    let at = offset_of(&harness, 5);
    harness.disk.spoil(&segment(0), at..at + 1);
    let found = store.read(&queue, QueueOffset(0), 32, &|_| true);
    assert_eq!((found.count, found.next), (5, QueueOffset(5)));
    for _ in 0..3 {
        let found = store.read(&queue, QueueOffset(5), 32, &|_| true);
        assert_eq!(found.status, ReadStatus::OffsetFoundNull);
        assert_eq!((found.count, found.next), (0, QueueOffset(5)));
        assert!(
            store
                .read_now(&queue, QueueOffset(5), 32, &|_| true)
                .is_none()
        );
    }
    // Whoever wants none of the messages before it does not get past it either.
    let found = store.read(&queue, QueueOffset(3), 32, &|_| false);
    assert_eq!(
        (found.status, found.next),
        (ReadStatus::NoMatchedMessage, QueueOffset(5))
    );
    assert_eq!(
        store
            .queue_entries(&queue, QueueOffset(0), 12)
            .unwrap()
            .len(),
        5
    );
    let now = store.queue_entries_now(&queue, QueueOffset(4), 2);
    assert_eq!(now, None, "one of two cannot be read");
    let error = store.queue_entries(&queue, QueueOffset(5), 12).unwrap_err();
    assert!(error.to_string().contains("Input/output error"), "{error}");
    harness.disk.spoil(&segment(0), 0..0);
    assert_eq!(harness.numbers(A), all(12));
    assert_eq!(
        store
            .queue_entries(&queue, QueueOffset(0), 12)
            .unwrap()
            .len(),
        12
    );
    assert_eq!(store.figures().mended_entries, 0);
}

#[test]
fn a_damaged_entry_is_not_given_up_while_the_log_cannot_be_read() {
    // The message's own record, one before it that the search reads, the heads of the neighbours.
    for bad in [4, 5, 6] {
        let harness = cold(12);
        let store = harness.store();
        let queue = store.find_queue(A.0, QueueId(A.1)).unwrap();
        let at = offset_of(&harness, bad);
        let path = PathBuf::from("/store/consumequeue/A/0/00000000000000000000");
        let mut entries = harness.disk.content(&path).unwrap();
        entries[5 * 20..6 * 20].fill(0x5A);
        harness.disk.put(&path, &entries);
        harness.disk.spoil(&segment(0), at..at + 1);
        let from = QueueOffset(5.min(bad));
        for _ in 0..3 {
            let found = store.read(&queue, from, 32, &|_| true);
            assert_eq!((found.count, found.next), (0, from), "{bad}");
        }
        harness.disk.spoil(&segment(0), 0..0);
        assert_eq!(harness.numbers(A), all(12), "{bad}");
        assert_eq!(store.figures().mended_entries, 1, "{bad}");
    }
}

#[test]
fn whichever_read_fails_no_message_is_skipped() {
    for fails in 1..30 {
        let harness = cold(12);
        let store = harness.store();
        let queue = store.find_queue(A.0, QueueId(A.1)).unwrap();
        let armed = std::cell::Cell::new(false);
        let found = store.read(&queue, QueueOffset(0), 32, &|_| {
            if !armed.replace(true) {
                harness.disk.fail(Operation::Read, fails, EIO);
            }
            true
        });
        harness.disk.fail(Operation::Read, 0, EIO);
        assert_eq!(found.next.0, u64::from(found.count), "{fails}");
        let rest = store.read(&queue, found.next, 32, &|_| true);
        assert_eq!(found.count + rest.count, 12, "{fails}");
    }
}
