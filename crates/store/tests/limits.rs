//! What a batch takes and what a read gives: limits, positions, groups, filters.

#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use gantry_message::{Millis, QueueId, QueueOffset, Record, RecordView, SysFlag};
use gantry_store::{AppendError, Found, Outcome, ReadStatus, StoreConfig, Tags};
use harness::{End, Harness, Place, record};

const A: Place = ("A", 0);

fn with(config: impl Fn(StoreConfig) -> StoreConfig) -> Harness {
    let mut harness = Harness::new(3);
    harness.end(End::Clean);
    harness.config = config(harness.config.clone());
    harness.open();
    harness
}

fn read(harness: &Harness, from: u64, max: u32) -> Found {
    let queue = harness.store().queue(A.0, QueueId(A.1));
    harness
        .store()
        .read(&queue, QueueOffset(from), max, &|_| true)
}

#[test]
fn every_position_has_its_answer() {
    let mut harness = Harness::new(3);
    let found = read(&harness, 5, 32);
    assert_eq!(
        (found.status, found.next.0),
        (ReadStatus::NoMessageInQueue, 0)
    );
    for number in 0..40 {
        harness.put(A, number);
    }
    for (from, max, status, next, count) in [
        (0, 32, ReadStatus::Found, 16, 16),
        (16, 5, ReadStatus::Found, 21, 5),
        (39, 32, ReadStatus::Found, 40, 1),
        (40, 32, ReadStatus::OffsetOverflowOne, 40, 0),
        (41, 32, ReadStatus::OffsetOverflowBadly, 40, 0),
        (u64::MAX, 32, ReadStatus::OffsetOverflowBadly, 40, 0),
        (0, 0, ReadStatus::Found, 1, 1),
    ] {
        let found = read(&harness, from, max);
        assert_eq!(
            (found.status, found.next.0, found.count),
            (status, next, count),
            "from {from}, at most {max}"
        );
        assert_eq!((found.min.0, found.max.0), (0, 40));
        assert_eq!(
            found
                .slices
                .iter()
                .map(|slice| slice.len() as u64)
                .sum::<u64>(),
            found.bytes
        );
    }
}

#[test]
fn neighbours_share_a_slice_and_others_do_not() {
    let mut harness = Harness::new(3);
    for number in 0..8 {
        harness.put(A, number);
        if number == 3 {
            harness.put(("B", 0), 100);
        }
    }
    assert_eq!(read(&harness, 0, 32).slices.len(), 2);
    assert_eq!(read(&harness, 4, 32).slices.len(), 1);
}

#[test]
fn a_filter_moves_on_past_what_it_does_not_want() {
    let harness = Harness::new(3);
    let store = harness.store();
    let queue = store.queue(A.0, QueueId(A.1));
    for number in 0..10_u8 {
        store.append(
            &queue,
            &record(A, &[number; 4], ""),
            Tags::Code(i64::from(number % 2)),
        );
    }
    let odd = store.read(&queue, QueueOffset(0), 3, &|code| code == 1);
    assert_eq!(
        (odd.status, odd.count, odd.next.0),
        (ReadStatus::Found, 3, 6)
    );
    let none = store.read(&queue, QueueOffset(0), 3, &|code| code == 7);
    assert_eq!(
        (none.status, none.count, none.next.0),
        (ReadStatus::NoMatchedMessage, 0, 10)
    );
}

#[test]
fn a_read_is_limited_in_memory_and_more_so_on_disk() {
    for (physical_memory, max_bytes, count) in [
        (1 << 30, 1000, 4),
        (1 << 30, 1, 1),
        (0x100, 600, 2),
        (0x100, 10_000, 3),
    ] {
        let mut harness = with(|config| StoreConfig {
            physical_memory,
            max_transfer_bytes_in_memory: max_bytes,
            max_transfer_bytes_on_disk: max_bytes,
            max_transfer_count_on_disk: 3,
            ..config
        });
        for number in 0..12 {
            harness.put(A, number);
        }
        let found = read(&harness, 0, 32);
        assert_eq!(
            found.count, count,
            "{physical_memory} {max_bytes}: {} bytes",
            found.bytes
        );
        assert_eq!(found.suggest_slave, physical_memory == 0x100);
    }
}

#[test]
fn what_is_too_large_is_refused_by_name_and_leaves_the_batch_as_it_was() {
    let harness = with(|config| StoreConfig {
        max_message_size: 1000,
        ..config
    });
    let store = harness.store();
    let queue = store.queue(A.0, QueueId(A.1));
    let mut batch = store.batch();
    batch
        .stage(&queue, &record(A, b"good", "KEYS\u{1}a"), Tags::Code(0))
        .unwrap();
    let (big, wide) = (vec![0; 1001], "p".repeat(32768));
    let too_big = batch
        .stage(&queue, &record(A, &big, ""), Tags::Code(0))
        .unwrap_err();
    assert_eq!(too_big.to_string(), "body of 1001 bytes, the limit is 1000");
    let too_wide = batch
        .stage(&queue, &record(A, b"", &wide), Tags::Code(0))
        .unwrap_err();
    assert_eq!(
        too_wide.to_string(),
        "properties of 32768 bytes, the limit is 32767"
    );
    let no_segment = batch
        .stage(&queue, &record(A, b"", &wide[..5000]), Tags::Code(0))
        .unwrap_err();
    assert!(
        matches!(
            no_segment,
            AppendError::RecordLargerThanSegment { limit: 4088, .. }
        ),
        "{no_segment}"
    );
    // The limit of a message is not a group's, but a segment must hold it.
    let huge = vec![0; 4000];
    let group = [record(A, b"one", "KEYS\u{1}b"), record(A, &huge, "")]
        .map(|record| (record, Tags::Code(0)));
    let no_segment = batch.stage_group(&queue, group).unwrap_err();
    assert!(
        matches!(
            no_segment,
            AppendError::RecordLargerThanSegment { limit: 4088, .. }
        ),
        "{no_segment}"
    );
    let none: [(Record<'_>, Tags); 0] = [];
    let empty = batch.stage_group(&queue, none).unwrap_err();
    assert_eq!(empty.to_string(), "a group without messages");
    assert_eq!((batch.entries(), batch.records()), (1, 1));
    store.commit(&mut batch);
    assert!(matches!(
        batch.outcome(0),
        Outcome::Stored {
            queue_offset: QueueOffset(0),
            ..
        }
    ));
    store.reconfigure(&StoreConfig {
        max_message_size: 2000,
        ..harness.config.clone()
    });
    assert!(matches!(
        store.append(&queue, &record(A, &big, ""), Tags::Code(0)),
        Outcome::Stored { .. }
    ));
    assert_eq!(queue.max().0, 2);
}

#[test]
fn a_group_stays_together_and_knows_every_offset() {
    let harness = Harness::new(3);
    let store = harness.store();
    let queue = store.queue(A.0, QueueId(A.1));
    for round in 0..20 {
        let mut batch = store.batch();
        let bodies: Vec<[u8; 200]> = (0..5_u8).map(|n| [n; 200]).collect();
        let records = bodies
            .iter()
            .map(|body| (record(A, body, ""), Tags::Code(0)));
        let index = batch.stage_group(&queue, records).unwrap();
        store.commit(&mut batch);
        let Outcome::Stored {
            offset,
            end,
            queue_offset,
            ..
        } = *batch.outcome(index)
        else {
            panic!("refused")
        };
        assert_eq!(queue_offset.0, round * 5);
        assert_eq!(
            offset.0 / 4096,
            (end.0 - 1) / 4096,
            "a group does not cross a segment's end"
        );
        let offsets: Vec<_> = batch.offsets(index).collect();
        assert_eq!((offsets.len(), offsets[0]), (5, offset));
        for (n, &offset) in offsets.iter().enumerate() {
            let bytes = store.record_at(offset).unwrap().unwrap();
            let view = RecordView::parse(&bytes).unwrap();
            assert_eq!(
                (view.body(), view.queue_offset().0),
                (&bodies[n][..], round * 5 + n as u64)
            );
        }
    }
}

#[test]
fn half_and_rolled_back_records_are_in_the_log_and_in_no_queue() {
    let harness = Harness::new(3);
    let store = harness.store();
    let queue = store.queue(A.0, QueueId(A.1));
    for flag in [SysFlag::PREPARED, SysFlag::ROLLBACK] {
        let half = Record {
            sys_flag: SysFlag(flag),
            ..record(A, b"half", "KEYS\u{1}h")
        };
        let Outcome::Stored {
            offset,
            queue_offset,
            ..
        } = store.append(&queue, &half, Tags::Code(0))
        else {
            panic!()
        };
        assert_eq!((queue_offset.0, queue.max().0), (0, 0));
        assert!(store.record_at(offset).unwrap().is_some());
    }
    store.turn();
    assert_eq!(
        store
            .query("A", "h", 64, Millis(0), Millis(i64::MAX))
            .unwrap()
            .records
            .len(),
        1
    );
}

#[test]
fn a_delayed_message_s_entry_says_when_it_is_due_also_after_recovery() {
    let mut harness = Harness::new(3);
    let place = ("SCHEDULE_TOPIC_XXXX", 2);
    let due = |harness: &Harness| {
        let queue = harness.store().queue(place.0, QueueId(place.1));
        harness
            .store()
            .queue_entries(&queue, QueueOffset(0), 10)
            .unwrap()[0]
            .tags_code
    };
    let queue = harness.store().queue(place.0, QueueId(place.1));
    let delayed = record(place, b"later", "DELAY\u{1}3");
    let Outcome::Stored { store_time, .. } =
        harness
            .store()
            .append(&queue, &delayed, Tags::DueAfter(Millis(10_000)))
    else {
        panic!("refused")
    };
    assert_eq!(due(&harness), store_time.0 + 10_000);
    harness.end(End::Kill);
    harness.open();
    assert_eq!(due(&harness), store_time.0 + 10_000);
}

#[test]
fn times_find_the_nearest_message() {
    let mut harness = Harness::new(3);
    let mut times = Vec::new();
    for number in 0..30 {
        let Outcome::Stored { store_time, .. } = harness.put(A, number) else {
            panic!("refused")
        };
        times.push(store_time);
    }
    let queue = harness.store().queue(A.0, QueueId(A.1));
    let at = |time: Millis| harness.store().offset_at_time(&queue, time).0;
    assert_eq!(
        (
            at(Millis(0)),
            at(times[0]),
            at(times[17]),
            at(Millis(i64::MAX))
        ),
        (0, 0, 17, 29)
    );
    assert_eq!((at(times[17].plus(1)), at(times[18].plus(-1))), (17, 18));
    assert_eq!(
        harness.store().store_time_at(&queue, QueueOffset(17)),
        Some(times[17])
    );
    assert_eq!(harness.store().store_time_at(&queue, QueueOffset(30)), None);
    assert_eq!(harness.store().earliest_time(), Some(times[0]));
    let empty = harness.store().queue("none", QueueId(0));
    assert_eq!(harness.store().offset_at_time(&empty, times[0]).0, 0);
}

#[test]
fn times_do_not_go_back_when_the_clock_does() {
    let mut harness = Harness::new(3);
    let Outcome::Stored {
        store_time: first, ..
    } = harness.put(A, 0)
    else {
        panic!("refused")
    };
    harness
        .now
        .store(1000, std::sync::atomic::Ordering::Relaxed);
    let Outcome::Stored {
        store_time: second, ..
    } = harness.put(A, 1)
    else {
        panic!("refused")
    };
    assert!(second >= first);
    harness.end(End::Clean);
    harness.open();
    let Outcome::Stored {
        store_time: third, ..
    } = harness.put(A, 2)
    else {
        panic!("refused")
    };
    assert!(third >= second);
}
