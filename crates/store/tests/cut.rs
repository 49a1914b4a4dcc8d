//! A cut of the log behind which a topic was deleted, stopped at every single change; however the store is opened then,
//! queues and index are what the log makes of them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests; where a failure is"
)]

mod harness;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gantry_disk::Disk;
use gantry_disk::faulty::FaultyDisk;
use gantry_message::{LogOffset, Millis, QueueId, QueueOffset, Record, RecordView, SysFlag};
use gantry_store::{Clock, Cut, Outcome, Store, StoreConfig, Tags};
use harness::{End, Place, read_all, record};

const A: Place = ("A", 0);
const B: Place = ("B", 0);
const SEGMENT: u64 = 1024;
const NOW: i64 = 1_700_000_000_000;

struct Home {
    disk: FaultyDisk,
    config: StoreConfig,
}

impl Home {
    fn new() -> Self {
        let now = AtomicI64::new(NOW);
        let config = StoreConfig {
            segment_size: SEGMENT,
            queue_file_size: 20 * 4,
            index_slots: 7,
            index_entries: 6,
            delete_log_interval_ms: 0,
            delete_queue_interval_ms: 0,
            clock: Clock::new(move || Millis(now.fetch_add(7, Ordering::Relaxed))),
            ..StoreConfig::at("/store")
        };
        let disk = FaultyDisk::new(1);
        disk.create_dirs(Path::new("/store")).unwrap();
        disk.sync_all(Path::new("/")).unwrap();
        disk.reorder_names();
        Self { disk, config }
    }

    fn fork(&self) -> Self {
        Self {
            disk: self.disk.fork(),
            config: self.config.clone(),
        }
    }

    /// Opens it, cut or not; `None` when the disk stopped.
    fn try_open(&self, cut: Option<&Cut>) -> Option<Arc<Store>> {
        let disk = Arc::new(self.disk.clone());
        let (config, now) = (self.config.clone(), Millis(NOW));
        let store = match cut {
            Some(cut) => Store::open_cut(disk, config, now, cut),
            None => Store::open(disk, config, now),
        };
        let store = store.ok()?;
        store.mark_running().ok().map(|()| store)
    }

    fn open(&self, cut: Option<&Cut>) -> Arc<Store> {
        self.try_open(cut).unwrap()
    }

    fn end(&self, end: End, store: Option<Arc<Store>>) {
        end.of(store, &self.disk);
    }
}

fn send(store: &Arc<Store>, place: Place, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let body = [&number.to_be_bytes()[..], &[7; 40]].concat();
        let properties = format!("UNIQ_KEY\u{1}U{number}");
        let queue = store.queue(place.0, QueueId(place.1));
        let outcome = store.append(&queue, &record(place, &body, &properties), Tags::Code(0));
        assert!(matches!(outcome, Outcome::Stored { .. }));
    }
}

/// Copies a message of the other topic from a log that lost those before it.
fn leave_out(store: &Arc<Store>, count: u64) {
    let (lost, mut filler) = (record(("GANTRY_LOST_RANGE", 0), &[0; 300], ""), Vec::new());
    let sys_flag = SysFlag(SysFlag::ROLLBACK);
    Record { sys_flag, ..lost }.encode(&mut filler).unwrap();
    let (at, (_, time)) = (store.max_offset(), store.last_record().unwrap());
    gantry_message::patch(&mut filler, QueueOffset(0), at, time);
    assert_eq!(store.copy(at, &filler, None).unwrap(), filler.len());
    let end = store.max_offset();
    let first = store.record_at(LogOffset(0)).unwrap().unwrap();
    let queue = store.find_queue(B.0, QueueId(B.1)).unwrap();
    let mut bytes = first.to_vec();
    bytes[20..28].copy_from_slice(&(queue.max().0 + count).to_be_bytes());
    bytes[28..36].copy_from_slice(&end.0.to_be_bytes());
    assert_eq!(store.copy(end, &bytes, None).unwrap(), bytes.len());
    assert_eq!(queue.max().0, 2 + count + 1);
}

/// Where queues end.
type Ends = [Option<u64>; 2];

fn ends(store: &Store) -> Ends {
    [A, B].map(|place| {
        let queue = store.find_queue(place.0, QueueId(place.1));
        queue.map(|queue| queue.max().0).filter(|&end| end > 0)
    })
}

/// What there was before the cut.
#[derive(Clone, Copy, Debug)]
struct Story {
    /// What came for the topic behind its deletion, and for the other one.
    anew: u32,
    others: u32,
    /// Behind the deletion there is a message of the other topic that leaves out places before it.
    has_gap: bool,
    /// The last was written and synced, too.
    turned: bool,
    /// How the store ended before the cut.
    end: End,
}

/// The topic ended there, began anew or not; what was noted last is of before the deletion, or of the end.
fn stories() -> Vec<Story> {
    let story = |anew, others, turned, end| Story {
        anew,
        others,
        has_gap: false,
        turned,
        end,
    };
    let with_gap = |story| Story {
        has_gap: true,
        ..story
    };
    vec![
        with_gap(story(0, 2, true, End::Clean)),
        story(0, 3, false, End::Kill),
        with_gap(story(0, 2, false, End::PowerCut)),
        story(3, 0, false, End::PowerCut),
        story(6, 8, true, End::Kill),
    ]
}

impl Story {
    fn tell(self) -> Told {
        let home = Home::new();
        let store = home.open(None);
        send(&store, B, 0..2);
        send(&store, A, 100..106);
        store.turn();
        store.delete_topic("A").unwrap();
        let deleted = store.max_offset().0;
        if self.has_gap {
            leave_out(&store, 3);
        }
        send(&store, A, 200..200 + self.anew);
        send(&store, B, 10..10 + self.others);
        if self.turned {
            store.turn();
        } else {
            store.flush().unwrap();
        }
        let bytes = log(&store);
        let cuts = cuts(&store, deleted);
        home.end(self.end, Some(store));
        Told {
            home,
            deleted,
            bytes,
            cuts,
        }
    }
}

/// A story that was told.
struct Told {
    home: Home,
    /// Where the log ended at the deletion.
    deleted: u64,
    /// The whole log.
    bytes: Vec<u8>,
    cuts: Vec<Cut>,
}

/// A record of the log.
struct One {
    start: u64,
    end: u64,
    topic: String,
    number: u32,
    time: Millis,
}

fn records(store: &Store) -> Vec<One> {
    let (mut at, end, mut all) = (store.min_offset().0, store.max_offset().0, Vec::new());
    while at < end {
        let Some(bytes) = store.record_at(LogOffset(at)).unwrap() else {
            // The end of a segment.
            at = (at / SEGMENT + 1) * SEGMENT;
            continue;
        };
        let view = RecordView::parse(&bytes).unwrap();
        let number = view.body().first_chunk();
        all.push(One {
            start: at,
            end: at + view.len() as u64,
            topic: view.topic().to_owned(),
            number: number.map_or(0, |bytes| u32::from_be_bytes(*bytes)),
            time: view.store_time(),
        });
        at += view.len() as u64;
    }
    all
}

/// The cut that leaves nothing, one far below the deletion, and those around it.
fn cuts(store: &Store, deleted: u64) -> Vec<Cut> {
    let to = store.max_offset();
    let cut = |from, last| Cut {
        from: LogOffset(from),
        to,
        last,
        why: "a test".into(),
    };
    let all = records(store);
    let at = all.iter().position(|one| one.end == deleted).unwrap();
    let behind = [3, at - 1, at, at + 1].map(|at| all.get(at));
    let behind = behind.into_iter().flatten();
    let behind = behind.map(|one| cut(one.end, Some((LogOffset(one.start), one.time))));
    let all = std::iter::once(cut(0, None)).chain(behind);
    all.filter(|cut| cut.from < to).collect()
}

/// The queues hold what the log has of their topics, of the deleted one only what came later.
fn check_queues(store: &Store, deleted: Option<u64>) {
    let all = records(store);
    for place in [A, B] {
        let counts = |at: u64| place != A || deleted.is_none_or(|deleted| deleted <= at);
        let of_place = all.iter();
        let of_place = of_place.filter(|one| one.topic == place.0 && counts(one.start));
        let expected: Vec<(u64, u32)> = of_place.map(|one| (one.start, one.number)).collect();
        let found = read_all(store, place).into_iter();
        let found: Vec<(u64, u32)> = found.map(|read| (read.start, read.number)).collect();
        assert_eq!(found, expected, "{place:?}");
    }
}

/// By its own key each message of the log is found once, and what is not in the log is not.
fn check_index(store: &Store) {
    store.turn();
    store.check_writable().unwrap();
    let all = records(store);
    for place in [A, B] {
        for number in (0..2).chain(10..18).chain(100..106).chain(200..206) {
            let key = format!("U{number}");
            let found = store.query(place.0, &key, 64, Millis(0), Millis(i64::MAX));
            let found = found.unwrap().records.into_iter();
            let start = |bytes: bytes::Bytes| RecordView::parse(&bytes).unwrap().log_offset().0;
            let found: Vec<u64> = found.map(start).collect();
            let there = all.iter();
            let there = there.filter(|one| (&*one.topic, one.number) == (place.0, number));
            let there: Vec<u64> = there.map(|one| one.start).collect();
            assert_eq!(found, there, "{place:?} {key}");
        }
    }
}

fn log(store: &Store) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let at = LogOffset(all.len() as u64);
        let part = store.log_bytes(at, 1 << 20).unwrap().unwrap_or_default();
        if part.is_empty() {
            return all;
        }
        all.extend_from_slice(&part);
    }
}

impl Told {
    /// Opens what a crash left, in one way or the other, and compares; also with where queues end if nothing comes between.
    fn go_on(&self, home: &Home, (cut, expected): (&Cut, Ends), again: Option<&Cut>) {
        let mut store = home.open(again);
        if store.max_offset() != cut.from {
            assert_eq!(again, None);
            // Whoever asked for it asks again; until then what is there of the log counts as before.
            let there = log(&store);
            if self.bytes.starts_with(&there) {
                check_queues(&store, Some(self.deleted));
            }
            home.end(End::Kill, Some(store));
            let to = LogOffset(there.len() as u64);
            store = home.open(Some(&Cut { to, ..cut.clone() }));
        }
        assert_eq!(store.max_offset(), cut.from);
        assert_eq!(ends(&store), expected);
        let deleted = (self.deleted < cut.from.0).then_some(self.deleted);
        check_queues(&store, deleted);
        // And it stays so, though nothing was synced since.
        let off = home.fork();
        off.end(End::PowerCut, None);
        let opened = off.open(None);
        assert_eq!(opened.max_offset(), cut.from);
        check_queues(&opened, deleted);
        check_index(&store);
        // What was cut off comes again, from a master that has it.
        let rest = &self.bytes[usize::try_from(cut.from.0).unwrap()..];
        let taken = store.copy(cut.from, rest, None).unwrap();
        assert_eq!(taken, rest.len());
        check_index(&store);
    }
}

/// Stops each cut at each change, or with `twice` at some, and what is opened then as well.
fn stop_everywhere(end: End, twice: bool) {
    for story in stories() {
        let told = story.tell();
        for cut in &told.cuts {
            let expected = ends(&told.home.fork().open(Some(cut)));
            for stop in (0..).step_by(if twice { 5 } else { 1 }) {
                let stopped = told.home.fork();
                stopped.disk.stop_after(stop);
                let store = stopped.try_open(Some(cut));
                let is_through = !stopped.disk.is_stopped();
                stopped.end(end, store);
                for again in [Some(cut), None] {
                    println!("{story:?}, {end:?} after {stop}, {cut:?}, {again:?}, {twice}");
                    let home = stopped.fork();
                    if twice {
                        home.disk.stop_after(stop * 7 % 40);
                        let store = home.try_open(again);
                        home.end(end, store);
                    }
                    told.go_on(&home, (cut, expected), again);
                }
                if is_through {
                    break;
                }
            }
        }
    }
}

/// What was taken back was said to cover nothing, and covered what had expired: the queue's files went, and it began again
/// at 0.
#[test]
fn a_queue_whose_deletion_was_taken_back_keeps_its_end_when_all_of_it_has_expired() {
    let told = stories()[1].tell();
    let around = told.cuts.iter().find(|cut| cut.from.0 == told.deleted);
    let store = told.home.open(around);
    assert_eq!(ends(&store)[0], Some(6));
    send(&store, B, 20..60);
    store.turn();
    store.shutdown().unwrap();
    for number in 0..2 {
        let path = format!("/store/commitlog/{:020}", number * SEGMENT);
        told.home.disk.take(Path::new(&path));
    }
    let store = told.home.open(None);
    assert_eq!(
        (store.min_offset().0, ends(&store)[0]),
        (2 * SEGMENT, Some(6))
    );
}

#[test]
fn a_kill_at_any_change_of_a_cut_leaves_what_the_log_says() {
    stop_everywhere(End::Kill, false);
}

#[test]
fn a_power_cut_at_any_change_of_a_cut_leaves_what_the_log_says() {
    stop_everywhere(End::PowerCut, false);
}

#[test]
fn a_second_crash_after_that_of_a_cut_leaves_what_the_log_says() {
    stop_everywhere(End::Kill, true);
    stop_everywhere(End::PowerCut, true);
}
