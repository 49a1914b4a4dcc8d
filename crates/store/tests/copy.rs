//! A log that is copied from another store and cut where that one goes another way, beside the store it comes from.
//!
//! A failure names its seed; `GANTRY_SEED=n cargo test -p gantry-store --test copy` replays it, `GANTRY_SEEDS=1000` plays
//! so many.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests; the seed of a failure"
)]

mod harness;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_disk::Disk;
use gantry_disk::faulty::{FaultyDisk, Operation};
use gantry_message::{LogOffset, Millis, QueueId, QueueOffset, RecordView, SysFlag, record};
use gantry_store::{
    AppendError, CopyError, Cut, Outcome, Phase, RecoveryWatch, Store, StoreConfig, Tags,
};
use harness::{End, Harness, PLACES, Place, record as message, seeds};

const OTHER: Place = ("X", 3);
const NOW: Millis = Millis(1_700_000_000_000);
const EIO: i32 = 5;

fn places() -> impl Iterator<Item = Place> {
    PLACES.into_iter().chain([OTHER])
}

/// A store that copies, as its driver would.
struct Slave {
    disk: FaultyDisk,
    config: StoreConfig,
    store: Option<Arc<Store>>,
    /// How much of the log the last recovery read.
    read: Arc<AtomicU64>,
    /// Bytes that were not taken yet.
    buffer: Vec<u8>,
}

impl Slave {
    fn closed(disk: FaultyDisk, config: &StoreConfig) -> Self {
        let read = Arc::new(AtomicU64::new(u64::MAX));
        let told = Arc::clone(&read);
        let watch = RecoveryWatch::new(move |stage| {
            if stage.phase == Phase::Finish {
                told.store(stage.done, Ordering::Relaxed);
            }
        });
        let config = StoreConfig {
            recovery_watch: watch,
            // Only the master deletes.
            reserved_hours: 1 << 20,
            ..config.clone()
        };
        Self {
            disk,
            config,
            store: None,
            read,
            buffer: Vec::new(),
        }
    }

    fn new(seed: u64, config: &StoreConfig) -> Self {
        let disk = FaultyDisk::new(seed);
        for dir in ["/store", "/other"] {
            disk.create_dirs(Path::new(dir)).unwrap();
        }
        disk.sync_all(Path::new("/")).unwrap();
        let mut slave = Self::closed(disk, config);
        slave.open();
        slave
    }

    fn open(&mut self) {
        let disk = Arc::new(self.disk.clone());
        let store = Store::open(disk, self.config.clone(), NOW).unwrap();
        // Dies here when the disk stops here.
        let _ = store.mark_running();
        self.store = Some(store);
        self.buffer.clear();
    }

    fn open_cut(&mut self, cut: &Cut) -> bool {
        let disk = Arc::new(self.disk.clone());
        self.buffer.clear();
        let opened = Store::open_cut(disk, self.config.clone(), NOW, cut);
        let is_open = opened.is_ok();
        self.store = opened.ok();
        is_open && self.store().mark_running().is_ok()
    }

    fn store(&self) -> &Arc<Store> {
        self.store.as_ref().unwrap()
    }

    fn end(&mut self, end: End) {
        end.of(self.store.take(), &self.disk);
    }

    /// Where the bytes go that are asked for next.
    fn next(&self, master: &Store) -> u64 {
        let end = self.store().max_offset().0;
        if end == 0 {
            master.min_offset().0 + self.buffer.len() as u64
        } else {
            end + self.buffer.len() as u64
        }
    }

    /// Takes one piece of at most so many bytes. False: there was nothing.
    fn take(&mut self, master: &Store, max: u32) -> Result<bool, CopyError> {
        let next = self.next(master);
        let piece = master.log_bytes(LogOffset(next), max).unwrap().unwrap();
        let at = next - self.buffer.len() as u64;
        self.buffer.extend_from_slice(&piece);
        let taken = self.store().copy(LogOffset(at), &self.buffer, None)?;
        self.buffer.drain(..taken);
        Ok(!piece.is_empty())
    }

    /// Recovery filled a hole that a power cut made in what was not flushed: what is behind differs from the master's,
    /// and goes. Returns where the log ends then, if it differed.
    fn cut_where_it_differs(&mut self, master: &Store) -> Option<u64> {
        let (from, to) = (self.store().min_offset().0, self.store().max_offset());
        let from = from.max(master.min_offset().0);
        let (ours, theirs) = (log(self.store(), from, to.0), log(master, from, to.0));
        let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count() as u64;
        let mut records = records(self.store()).into_iter();
        let last = records.rfind(|record| record.1 <= from + same);
        if same == ours.len() as u64 {
            return None;
        }
        let end = last.map_or(from, |last| last.1);
        let cut = Cut {
            from: LogOffset(end),
            to,
            last: last.map(|(start, _, time)| (LogOffset(start), time)),
            why: "a hole".into(),
        };
        self.end(End::Clean);
        assert!(self.open_cut(&cut));
        Some(end)
    }

    fn take_all(&mut self, master: &Store, mut max: impl FnMut() -> u32) {
        while self.take(master, max()).unwrap() {}
        assert_eq!(self.buffer, [], "bytes are left over");
        assert_eq!(self.store().max_offset(), master.max_offset());
    }
}

fn log(store: &Store, from: u64, to: u64) -> Vec<u8> {
    let mut all = Vec::new();
    while from + (all.len() as u64) < to {
        let at = from + all.len() as u64;
        let max = u32::try_from(to - at).unwrap();
        let part = store.log_bytes(LogOffset(at), max).unwrap().unwrap();
        assert!(!part.is_empty(), "the log ends at {at}");
        all.extend_from_slice(&part);
    }
    all
}

/// The records of a log: where each starts and ends, and when it was stored.
fn records(store: &Store) -> Vec<(u64, u64, Millis)> {
    let (min, end) = (store.min_offset().0, store.max_offset().0);
    let (bytes, mut at, mut all) = (log(store, min, end), min, Vec::new());
    while at < end {
        let rest = &bytes[usize::try_from(at - min).unwrap()..];
        let Ok(view) = RecordView::parse(rest) else {
            let size = u64::from(u32::from_be_bytes(*rest.first_chunk().unwrap()));
            assert!(rest[4..8] == record::BLANK_MAGIC.to_be_bytes(), "at {at}");
            at += size;
            continue;
        };
        all.push((at, at + view.len() as u64, view.store_time()));
        at += view.len() as u64;
    }
    all
}

fn found(store: &Store, topic: &str, key: &str) -> Vec<Vec<u8>> {
    let found = store.query(topic, key, 64, Millis(0), Millis(i64::MAX));
    let records = found.unwrap().records.into_iter();
    records.map(|record| record.to_vec()).collect()
}

/// Everything that the master has, the slave has, and answers the same.
fn compare(master: &Store, slave: &Store) {
    let end = master.max_offset().0;
    assert_eq!(slave.max_offset().0, end);
    let from = master.min_offset().0.max(slave.min_offset().0);
    assert!(log(master, from, end) == log(slave, from, end), "the logs");
    master.turn();
    slave.turn();
    slave.check_writable().unwrap();
    let min = master.min_offset().0.max(slave.min_offset().0);
    for place in places() {
        let of = |store: &Store| store.find_queue(place.0, QueueId(place.1));
        // What its master deleted the slave has until something new comes.
        let Some(expected) = of(master).filter(|queue| queue.max().0 > 0) else {
            continue;
        };
        let entries = |store: &Store, queue: &gantry_store::Queue, from: u64| {
            let count = usize::try_from(queue.max().0.saturating_sub(from)).unwrap();
            let mut all = Vec::new();
            while all.len() < count {
                let at = QueueOffset(from + all.len() as u64);
                let part = store.queue_entries(queue, at, count).unwrap();
                assert!(!part.is_empty(), "{place:?} at {at}");
                all.extend(part);
            }
            all
        };
        let Some(queue) = of(slave) else {
            let all = entries(master, &expected, expected.min().0);
            let has_some = all.iter().any(|entry| entry.log_offset.0 >= min);
            assert!(!has_some, "{place:?} is missing");
            continue;
        };
        let all = entries(master, &expected, expected.min().0);
        let is_there = all.iter().position(|entry| entry.log_offset.0 >= min);
        let Some(first) = is_there else { continue };
        assert_eq!(queue.max(), expected.max(), "{place:?}");
        let first = expected.min().0 + first as u64;
        assert!(
            queue.min().0 <= first,
            "{place:?} begins at {} and not at {first}: {:?}, {min}",
            queue.min(),
            entries(slave, &queue, queue.min().0)[0]
        );
        assert_eq!(
            entries(slave, &queue, first),
            entries(master, &expected, first),
            "{place:?} from {first}"
        );
        for at in (first..queue.max().0).step_by(7) {
            let time = master.store_time_at(&expected, QueueOffset(at));
            assert_eq!(slave.store_time_at(&queue, QueueOffset(at)), time);
            if let Some(time) = time {
                // Of several at once any will do.
                let found = slave.offset_at_time(&queue, time);
                assert_eq!(slave.store_time_at(&queue, found), Some(time));
            }
        }
    }
    compare_keys(master, slave, min);
}

fn compare_keys(master: &Store, slave: &Store, min: u64) {
    let lives = |record: &Vec<u8>| RecordView::parse(record).unwrap().log_offset().0 >= min;
    for (start, ..) in records(master).into_iter().rev().step_by(5) {
        let bytes = master.record_at(LogOffset(start)).unwrap();
        if start < min {
            continue;
        }
        assert_eq!(slave.record_at(LogOffset(start)).unwrap(), bytes);
        let bytes = bytes.unwrap();
        let view = RecordView::parse(&bytes).unwrap();
        for key in gantry_message::properties::index_keys(view.properties()) {
            let key = std::str::from_utf8(key).unwrap();
            let mut expected = found(master, view.topic(), key);
            expected.retain(lives);
            let mut had = found(slave, view.topic(), key);
            had.retain(lives);
            let places = |all: &[Vec<u8>]| -> Vec<u64> {
                let place = |record: &Vec<u8>| RecordView::parse(record).unwrap().log_offset().0;
                all.iter().map(place).collect()
            };
            assert_eq!(places(&had), places(&expected), "{} {key}", view.topic());
            assert!(had == expected);
        }
    }
}

/// Half messages, and messages from hosts with longer addresses.
fn send_others(master: &Store, number: u64) {
    for (place, sys_flag) in [(("A", 0), SysFlag::PREPARED), (OTHER, 0)] {
        let (body, properties) = (number.to_be_bytes(), "KEYS\u{1}other\u{2}");
        let mut record = message(place, &body, properties);
        record.sys_flag = SysFlag(sys_flag);
        record.born_host = "[fe80::1]:5555".parse().unwrap();
        let queue = master.queue(place.0, QueueId(place.1));
        let outcome = master.append(&queue, &record, Tags::Code(0));
        assert!(matches!(outcome, Outcome::Stored { .. }));
    }
}

fn run(seed: u64) -> (u64, u64) {
    println!("GANTRY_SEED={seed}");
    let mut master = Harness::varied(seed);
    let mut slave = Slave::new(seed + 1000, &master.config);
    let (mut began_later, mut lost, mut turned) = (0, 0, 0);
    for round in 0..14 {
        for _ in 0..master.below(12) {
            master.operate();
        }
        send_others(master.store(), round);
        if master.below(6) == 0 {
            master.restart(End::Kill);
        }
        let store = Arc::clone(master.store());
        if slave.next(&store) < store.min_offset().0 || master.below(10) == 0 {
            // What it lacks is gone: it begins anew.
            slave = Slave::new(seed + 2000 + round, &master.config);
            began_later += u64::from(store.min_offset().0 > 0);
            turned = 0;
        }
        let longest = [40, 300, 3000, 20_000][usize::try_from(master.below(4)).unwrap()];
        for _ in 0..master.below(40) {
            let max = 1 + u32::try_from(master.below(longest)).unwrap();
            slave.take(&store, max).unwrap();
            if master.below(8) == 0 {
                slave.store().turn();
                turned = slave.store().max_offset().0;
            }
        }
        let (flushed, end) = (
            slave.store().flushed().value(),
            slave.store().max_offset().0,
        );
        let how = [End::Clean, End::Kill, End::PowerCut][usize::try_from(master.below(3)).unwrap()];
        slave.end(how);
        slave.open();
        let (reopened, read) = (
            slave.store().max_offset().0,
            slave.read.load(Ordering::Relaxed),
        );
        if let Some(differs) = slave.cut_where_it_differs(&store) {
            assert_eq!(how, End::PowerCut);
            assert!(
                flushed <= differs,
                "{flushed} was flushed, {differs} is there"
            );
            turned = turned.min(differs);
        }
        match how {
            End::Clean => assert_eq!((reopened, read), (end, 0), "{how:?}"),
            End::Kill => {
                assert_eq!(reopened, end, "{how:?}");
                assert!(read <= end - turned, "{read} read, {turned} to {end}");
            }
            End::PowerCut => {
                assert!(
                    flushed <= reopened && reopened <= end,
                    "{flushed} {reopened}"
                );
                lost += end - reopened;
            }
        }
        turned = turned.min(reopened);
        slave.take_all(&store, || 1 + u32::try_from(master.below(longest)).unwrap());
        compare(&store, slave.store());
        turned = turned.max(slave.store().max_offset().0);
    }
    (began_later, lost)
}

#[test]
fn a_copy_is_like_its_master_whatever_stops_it() {
    let (mut began_later, mut lost) = (0, 0);
    let seeds = seeds(1..=24);
    let several = seeds.len() > 1;
    for seed in seeds {
        let of_seed = run(seed);
        began_later += of_seed.0;
        lost += of_seed.1;
    }
    assert!(!several || began_later > 0, "no slave began later");
    assert!(!several || lost > 0, "the power cuts cut nothing");
}

/// A master with several segments; a topic was deleted and began anew.
fn small_master(seed: u64) -> Harness {
    let mut master = Harness::varied(seed);
    for round in 0..4 {
        master.send(6, 1);
        send_others(master.store(), round);
        if round == 1 {
            master.delete("A");
        }
    }
    assert!(master.store().figures().segments > 1);
    master
}

/// Copies until it is done or the disk stops.
fn copy_until_stopped(slave: &mut Slave, master: &Store) {
    for nth in 1.. {
        match slave.take(master, 900) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                assert!(slave.disk.is_stopped(), "{error}");
                return;
            }
        }
        if nth % 3 == 0 {
            slave.store().turn();
        }
    }
    slave.store().turn();
}

#[test]
fn a_copy_that_stops_at_any_change_goes_on() {
    for (seed, end) in [
        (4, End::Kill),
        (4, End::PowerCut),
        (5, End::PowerCut),
        (6, End::Kill),
    ] {
        let master = small_master(seed);
        let mut whole = Slave::new(seed, &master.config);
        let before = whole.disk.changes();
        copy_until_stopped(&mut whole, master.store());
        let changes = whole.disk.changes() - before;
        assert!(changes > 30, "{changes} changes");
        compare(master.store(), whole.store());
        for stop in 1..=changes {
            println!("seed {seed}, {end:?} after {stop} changes");
            let mut slave = Slave::new(seed, &master.config);
            slave.disk.stop_after(stop);
            copy_until_stopped(&mut slave, master.store());
            slave.end(end);
            slave.open();
            let is_cut = slave.cut_where_it_differs(master.store()).is_some();
            assert!(!is_cut || end == End::PowerCut);
            slave.take_all(master.store(), || 900);
            compare(master.store(), slave.store());
            slave.end(End::Clean);
            slave.open();
            assert_eq!(slave.read.load(Ordering::Relaxed), 0);
            compare(master.store(), slave.store());
        }
    }
}

/// The cuts behind each record, and the one that leaves nothing.
fn cuts(store: &Store) -> Vec<Cut> {
    let cut = |from, last| Cut {
        from: LogOffset(from),
        to: store.max_offset(),
        last,
        why: "a test".into(),
    };
    let records = records(store).into_iter();
    let behind = records.map(|(start, end, time)| cut(end, Some((LogOffset(start), time))));
    std::iter::once(cut(store.min_offset().0, None))
        .chain(behind)
        .collect()
}

/// What the quarantine holds of the log, by place.
fn kept(disk: &FaultyDisk, from: u64, to: u64) -> Vec<u8> {
    let mut files: Vec<(u64, Vec<u8>)> = Vec::new();
    for path in disk.files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let parts: Vec<&str> = name.split('-').collect();
        let start = parts.iter().find_map(|part| {
            let digits = part.get(..20)?;
            digits.parse::<u64>().ok()
        });
        let is_log = name.contains("commitlog") || name.starts_with("other-log");
        if path.starts_with("/store/quarantine") && is_log {
            files.push((start.unwrap(), disk.content(&path).unwrap()));
        }
    }
    // A segment may have been made ahead.
    files.retain(|&(start, _)| start < to);
    files.sort();
    let mut all = Vec::new();
    for (start, content) in files {
        assert_eq!(start, from + all.len() as u64, "a hole");
        all.extend(content);
    }
    let len = usize::try_from(to - from).unwrap();
    assert!(all[len.min(all.len())..].iter().all(|&byte| byte == 0));
    all.truncate(len);
    all
}

#[test]
fn a_log_goes_on_with_other_records_behind_any_cut() {
    for seed in seeds(4..=6) {
        let master = small_master(seed);
        let mut whole = Slave::new(seed, &master.config);
        whole.take_all(master.store(), || 5000);
        whole.store().turn();
        let cuts = cuts(whole.store());
        let bytes = log(whole.store(), 0, whole.store().max_offset().0);
        whole.end(if seed % 2 == 0 { End::Clean } else { End::Kill });
        for cut in cuts {
            println!("GANTRY_SEED={seed}, {cut:?}");
            let (from, to) = (cut.from.0, cut.to.0);
            let mut slave = Slave::closed(whole.disk.fork(), &whole.config);
            let mut other = Slave::closed(whole.disk.fork(), &whole.config);
            assert!(slave.open_cut(&cut) && other.open_cut(&cut));
            assert_eq!(slave.store().max_offset(), cut.from);
            assert!(kept(&slave.disk, from, to) == bytes[usize::try_from(from).unwrap()..]);
            compare(other.store(), slave.store());
            check_queues(slave.store());
            // Keys of what is gone are not found.
            for (at, record) in cut_records(&bytes, from) {
                let view = RecordView::parse(record).unwrap();
                let unique = view.property("UNIQ_KEY").map(<[u8]>::to_vec);
                let Some(key) = unique.and_then(|key| String::from_utf8(key).ok()) else {
                    continue;
                };
                assert_eq!(found(slave.store(), view.topic(), &key).len(), 0, "{at}");
            }
            go_another_way(other.store());
            slave.take_all(other.store(), || 777);
            compare(other.store(), slave.store());
            slave.end(End::Clean);
            slave.open();
            assert_eq!(slave.read.load(Ordering::Relaxed), 0);
            compare(other.store(), slave.store());
        }
    }
}

/// Other messages, with a key that those before have, too.
fn go_another_way(store: &Store) {
    for number in 0..30 {
        let place = PLACES[number % 6];
        let (body, properties) = (vec![9; 50 + number * 3], "KEYS\u{1}k1\u{2}TAGS\u{1}t");
        let queue = store.queue(place.0, QueueId(place.1));
        let record = message(place, &body, properties);
        let tags = Tags::Code(i64::from(gantry_message::java_hash("t")));
        let outcome = store.append(&queue, &record, tags);
        assert!(matches!(outcome, Outcome::Stored { .. }));
    }
}

/// The queues are what the records in the log make of them.
fn check_queues(store: &Store) {
    let mut expected: std::collections::BTreeMap<(String, u32), Vec<u64>> = Default::default();
    for (start, ..) in records(store) {
        let bytes = store.record_at(LogOffset(start)).unwrap().unwrap();
        let view = RecordView::parse(&bytes).unwrap();
        if view.sys_flag().is_queued() {
            let queue = expected.entry((view.topic().into(), view.queue_id().0));
            let starts = queue.or_default();
            if view.queue_offset().0 == 0 {
                starts.clear();
            }
            assert_eq!(view.queue_offset().0, starts.len() as u64);
            starts.push(start);
        }
    }
    for place in places() {
        let queue = store.find_queue(place.0, QueueId(place.1));
        let starts = expected.remove(&(place.0.into(), place.1));
        let max = queue.as_ref().map_or(0, |queue| queue.max().0);
        assert_eq!(max, starts.as_ref().map_or(0, Vec::len) as u64, "{place:?}");
        for (at, start) in (0..).zip(starts.unwrap_or_default()) {
            let entry = store.queue_entry(queue.as_ref().unwrap(), QueueOffset(at));
            assert_eq!(entry.unwrap().log_offset.0, start, "{place:?} at {at}");
        }
    }
}

fn cut_records(bytes: &[u8], from: u64) -> Vec<(u64, &[u8])> {
    let (mut at, mut all) = (usize::try_from(from).unwrap(), Vec::new());
    while at < bytes.len() {
        let size = u32::from_be_bytes(*bytes[at..].first_chunk().unwrap());
        let end = at + usize::try_from(size).unwrap();
        if bytes[at + 4..at + 8] == record::MAGIC.to_be_bytes() {
            all.push((at as u64, &bytes[at..end]));
        }
        at = end;
    }
    all
}

#[test]
fn a_crash_in_the_middle_of_a_cut_loses_nothing_below_it() {
    for (seed, end) in [(4, End::Kill), (5, End::PowerCut), (6, End::PowerCut)] {
        let master = small_master(seed);
        let mut whole = Slave::new(seed, &master.config);
        whole.take_all(master.store(), || 5000);
        whole.store().turn();
        let cuts = cuts(whole.store());
        let bytes = log(whole.store(), 0, whole.store().max_offset().0);
        whole.end(End::Clean);
        let middle = [0, 1, cuts.len() / 3, cuts.len() * 2 / 3, cuts.len() - 2];
        for cut in middle.map(|at| &cuts[at]) {
            let mut probe = Slave::closed(whole.disk.fork(), &whole.config);
            let before = probe.disk.changes();
            assert!(probe.open_cut(cut));
            let changes = probe.disk.changes() - before;
            assert!(changes > 3, "{changes} changes");
            go_another_way(probe.store());
            for stop in 1..=changes {
                println!("seed {seed}, {end:?} after {stop} changes, {cut:?}");
                let mut slave = Slave::closed(whole.disk.fork(), &whole.config);
                slave.disk.stop_after(stop);
                slave.open_cut(cut);
                slave.end(end);
                slave.open();
                let (below, to) = (cut.from.0, slave.store().max_offset());
                assert!(below <= to.0, "the log ends at {to}");
                if cut.last.is_some() {
                    let there = log(slave.store(), 0, below);
                    assert!(there == bytes[..there.len()], "below the cut");
                }
                slave.store().turn();
                // Whoever asked for it asks again if the log does not end there.
                if to != cut.from {
                    slave.end(End::Kill);
                    assert!(slave.open_cut(&Cut { to, ..cut.clone() }));
                }
                assert_eq!(slave.store().max_offset(), cut.from);
                check_queues(slave.store());
                slave.take_all(probe.store(), || 5000);
                compare(probe.store(), slave.store());
            }
        }
    }
}

/// A slave with some messages, and the record that comes next.
fn before_the_next() -> (Harness, Slave, Vec<u8>) {
    let mut master = Harness::new(1);
    master.send(6, 0);
    let mut slave = Slave::new(2, &master.config);
    slave.take_all(master.store(), || 5000);
    let end = slave.store().max_offset().0;
    let body = [8; 64];
    let properties = "KEYS\u{1}n\u{2}";
    let queue = master.store().queue("A", QueueId(0));
    let stored =
        master
            .store()
            .append(&queue, &message(("A", 0), &body, properties), Tags::Code(0));
    assert!(matches!(stored, Outcome::Stored { .. }));
    let next = log(master.store(), end, master.store().max_offset().0);
    (master, slave, next)
}

fn state(store: &Store) -> (u64, Vec<(String, u64)>) {
    let topics = store.topics().into_iter();
    let queues = topics.flat_map(|topic| store.queues_of(&topic));
    let ends = queues.filter(|queue| queue.max().0 > 0);
    let ends = ends.map(|queue| (format!("{}/{}", queue.topic(), queue.id()), queue.max().0));
    (store.max_offset().0, ends.collect())
}

#[test]
fn what_is_no_record_is_refused_with_place_and_reason() {
    let (_master, slave, next) = before_the_next();
    let store = slave.store();
    let (before, at) = (state(store), store.max_offset());
    let left = 4096 - at.0;
    let refused = |bytes: &[u8], expected: &str| {
        let error = store.copy(at, bytes, None).unwrap_err();
        assert_eq!(error.to_string(), expected.replace("{at}", &at.to_string()));
        assert_eq!(state(store), before, "{expected}");
    };
    let with = |place: usize, bytes: &[u8]| {
        let mut changed = next.clone();
        changed[place..place + bytes.len()].copy_from_slice(bytes);
        changed
    };
    for size in [
        i32::MAX,
        -1,
        0,
        90,
        i32::MIN,
        i32::try_from(left).unwrap() + 1,
    ] {
        let reason = format!("it says {size} bytes, and its segment has {left} left");
        let expected = format!("what comes for {{at}} is no record: {reason}");
        refused(&with(0, &size.to_be_bytes()), &expected);
    }
    let there = at.0 + 1;
    let misplaced = with(28, &there.to_be_bytes());
    let expected = format!("what comes for {{at}} is no record: it says that it lies at {there}");
    refused(&misplaced, &expected);
    let expected = "the record for {at} has another body than its checksum says";
    let changed = with(84 + 4, &[9]);
    refused(&changed, expected);
    // Elsewhere than at the end nothing is looked at.
    for place in [0, at.0 - 1, at.0 + 1, u64::MAX] {
        let error = store.copy(LogOffset(place), &next, None).unwrap_err();
        assert!(matches!(error, CopyError::NotNext { end, .. } if end == at));
        assert_eq!(state(store), before);
    }
    // Less than a record is waited for.
    for len in 0..next.len() {
        assert_eq!(store.copy(at, &next[..len], None).unwrap(), 0, "{len}");
    }
    assert_eq!(state(store), before);
    // Trusting another place does not help, trusting this one does.
    assert!(store.copy(at, &changed, Some(LogOffset(at.0 + 1))).is_err());
    assert_eq!(store.copy(at, &changed, Some(at)).unwrap(), next.len());
    assert_eq!(log(store, at.0, store.max_offset().0), changed);
}

#[test]
fn an_empty_log_begins_where_a_segment_begins() {
    let slave = Slave::new(1, &Harness::new(1).config);
    let error = slave.store().copy(LogOffset(4000), &[1; 300], None);
    let is_refused = matches!(
        error,
        Err(CopyError::WithinSegment { at, segment_size: 4096 }) if at.0 == 4000
    );
    assert!(is_refused, "{error:?}");
}

#[test]
fn whatever_bytes_come_the_store_stays_whole() {
    for seed in seeds(1..=6) {
        println!("GANTRY_SEED={seed}");
        let (mut master, mut slave, next) = before_the_next();
        master.reseed(seed);
        let (mut refused, mut waits) = (0, 0);
        for _ in 0..1500 {
            let mut bytes = next.clone();
            for _ in 0..=master.below(3) {
                let place = usize::try_from(master.below(bytes.len() as u64)).unwrap();
                bytes[place] = u8::try_from(master.below(256)).unwrap();
            }
            let (before, at) = (state(slave.store()), slave.store().max_offset());
            match slave.store().copy(at, &bytes, None) {
                Ok(0) => waits += 1,
                Ok(taken) => {
                    assert_eq!(
                        (at.0 + taken as u64, bytes.len()),
                        (slave.store().max_offset().0, taken)
                    );
                    // Back to where it was.
                    (_, slave, _) = before_the_next();
                    continue;
                }
                Err(error) => {
                    assert!(error.to_string().contains(&at.to_string()), "{error}");
                    refused += 1;
                }
            }
            assert_eq!(state(slave.store()), before);
        }
        assert!(
            refused > 500 && waits > 0,
            "{refused} refused, {waits} wait"
        );
        slave.take_all(master.store(), || 5000);
        compare(master.store(), slave.store());
    }
}

#[test]
fn a_message_takes_the_place_that_it_names_if_that_can_be() {
    // What it names, and the ends of queue and sums that follow.
    for is_new in [false, true] {
        for (wanted, is_believed) in [
            (0, true),
            (1, true),
            (5, true),
            (9, true),
            (100, false),
            (u64::MAX >> 1, false),
        ] {
            let (_master, mut slave, next) = before_the_next();
            let at = slave.store().max_offset();
            let mut bytes = next.clone();
            bytes[20..28].copy_from_slice(&wanted.to_be_bytes());
            if is_new {
                // A topic that nobody knows.
                let place = bytes.iter().rposition(|&byte| byte == b'A').unwrap();
                bytes[place] = b'N';
            }
            let topic = if is_new { "N" } else { "A" };
            let end = |store: &Store| {
                let queue = store.find_queue(topic, QueueId(0));
                queue.map_or(0, |queue| queue.max().0)
            };
            let had = end(slave.store());
            assert_eq!(slave.store().copy(at, &bytes, None).unwrap(), bytes.len());
            let expected = if is_believed { wanted } else { had } + 1;
            for restart in [false, true] {
                if restart {
                    slave.store().turn();
                    slave.end(End::Clean);
                    slave.open();
                    assert_eq!(slave.read.load(Ordering::Relaxed), 0, "{wanted}");
                }
                let store = slave.store();
                assert_eq!(end(store), expected, "{topic} {wanted}");
                let queue = store.find_queue(topic, QueueId(0)).unwrap();
                let entry = store
                    .queue_entry(&queue, QueueOffset(expected - 1))
                    .unwrap();
                assert_eq!(entry.log_offset, at);
                // Those between are lost, and each has an entry that says so.
                let from = queue.min().0;
                let count = usize::try_from(expected - from).unwrap();
                let entries = store
                    .queue_entries(&queue, QueueOffset(from), count)
                    .unwrap();
                assert_eq!(entries.len(), count);
            }
        }
    }
}

/// A slave whose queue A/0 has some messages and behind them much of another's, and a record for A/0 that names a place
/// far behind its end.
fn before_a_long_gap() -> (Slave, Vec<u8>, u64) {
    let mut master = Harness::new(1);
    master.send(6, 0);
    let store = master.store();
    let (near, far) = (store.queue("A", QueueId(0)), store.queue("B", QueueId(0)));
    let first = store.append(&near, &message(("A", 0), &[7; 64], ""), Tags::Code(0));
    assert!(matches!(first, Outcome::Stored { .. }));
    for _ in 0..600 {
        let other = store.append(&far, &message(("B", 0), &[9; 2000], ""), Tags::Code(0));
        assert!(matches!(other, Outcome::Stored { .. }));
    }
    let end = store.max_offset().0;
    let config = StoreConfig {
        queue_file_size: 20 * 1000,
        ..master.config.clone()
    };
    let mut slave = Slave::new(2, &config);
    slave.take_all(store, || 5000);
    let last = store.append(&near, &message(("A", 0), &[8; 64], ""), Tags::Code(0));
    assert!(matches!(last, Outcome::Stored { .. }));
    let mut next = log(store, end, store.max_offset().0);
    let wanted = near.max().0 + 12_000;
    let at = usize::try_from(slave.store().max_offset().0 - end).unwrap();
    next.drain(..at);
    next[20..28].copy_from_slice(&wanted.to_be_bytes());
    slave.store().turn();
    (slave, next, wanted)
}

/// Entries of A/0 that are in files.
fn written(slave: &Slave) -> u64 {
    let files = slave.disk.files().into_iter();
    let of_queue = files.filter(|path| path.to_str().unwrap().contains("consumequeue/A/0/"));
    let mut count = 0;
    for path in of_queue {
        let content = slave.disk.content(&path).unwrap();
        count += content.chunks(20).filter(|entry| *entry != [0; 20]).count();
    }
    u64::try_from(count).unwrap()
}

// A gap may be as long as the log allows, and its fillers used to wait in memory, all of them.
#[test]
fn a_long_gap_is_filled_in_pieces_that_are_written_before_the_next() {
    let (slave, next, wanted) = before_a_long_gap();
    let (store, at) = (slave.store(), slave.store().max_offset());
    assert_eq!(store.copy(at, &next, None).unwrap(), next.len());
    let queue = store.find_queue("A", QueueId(0)).unwrap();
    assert_eq!(queue.max().0, wanted + 1);
    let in_memory = queue.max().0 - written(&slave);
    assert!(in_memory < 2 * 4096 + 10, "{in_memory} wait in memory");
    let entry = store.queue_entry(&queue, QueueOffset(wanted)).unwrap();
    assert_eq!(entry.log_offset, at);
}

#[test]
fn a_long_gap_goes_on_where_a_crash_left_it() {
    for stop in 0.. {
        let (mut slave, next, wanted) = before_a_long_gap();
        let at = slave.store().max_offset();
        slave.disk.stop_after(stop);
        let copied = slave.store().copy(at, &next, None);
        let was_stopped = slave.disk.is_stopped();
        slave.end(End::Kill);
        slave.open();
        let store = slave.store();
        if store.max_offset() == at {
            assert_eq!(store.copy(at, &next, None).unwrap(), next.len());
        }
        let queue = store.find_queue("A", QueueId(0)).unwrap();
        assert_eq!(queue.max().0, wanted + 1, "stopped after {stop}");
        let entry = store.queue_entry(&queue, QueueOffset(wanted)).unwrap();
        assert_eq!(entry.log_offset, at, "stopped after {stop}");
        if !was_stopped {
            assert_eq!(copied.unwrap(), next.len());
            return;
        }
    }
}

#[test]
fn a_full_disk_refuses_and_goes_on_and_a_broken_one_latches() {
    let (master, slave, next) = before_the_next();
    let (before, at) = (state(slave.store()), slave.store().max_offset());
    slave.disk.fail(Operation::Write, 1, 28);
    let error = slave.store().copy(at, &next, None).unwrap_err();
    let is_full = matches!(error, CopyError::Refused(AppendError::NoSpace { .. }));
    assert!(is_full, "{error}");
    assert_eq!(state(slave.store()), before);
    slave.store().check_writable().unwrap();
    assert_eq!(slave.store().copy(at, &next, None).unwrap(), next.len());
    compare(master.store(), slave.store());

    let (master, mut slave, next) = before_the_next();
    slave.disk.fail(Operation::Write, 1, EIO);
    for _ in 0..2 {
        let error = slave.store().copy(at, &next, None).unwrap_err();
        let is_latched = matches!(error, CopyError::Refused(AppendError::Latched { .. }));
        assert!(is_latched, "{error}");
        assert_eq!(state(slave.store()), before);
    }
    slave.end(End::Kill);
    slave.open();
    slave.take_all(master.store(), || 5000);
    compare(master.store(), slave.store());
}

/// A slave copied a filler, and its master was gone for good: whoever had what was lost there followed the slave, the last
/// records were the same, and the two logs were not.
#[test]
fn what_was_made_up_where_a_log_comes_from_is_known_of_its_copy() {
    let master = small_master(1);
    let mut slave = Slave::new(1, &master.config);
    slave.take_all(master.store(), || 5000);
    let made_up = [200, 700, 900].map(LogOffset);
    slave.store().note_made_up(&made_up[1..]).unwrap();
    slave.store().note_made_up(&made_up[..2]).unwrap();
    assert_eq!(slave.store().made_up(), made_up);
    let changes = slave.disk.changes();
    slave.store().note_made_up(&made_up).unwrap();
    assert_eq!(slave.disk.changes(), changes, "no news");
    slave.store().turn();
    for end in [End::PowerCut, End::Kill, End::Clean] {
        slave.end(end);
        slave.open();
        assert_eq!(slave.store().made_up(), made_up, "{end:?}");
        slave.store().turn();
    }
    // What was cut off is copied anew, and compared anew before that.
    let mut kept = records(slave.store()).into_iter();
    let (start, end, time) = kept.rfind(|record| record.1 <= 700).unwrap();
    let cut = Cut {
        from: LogOffset(end),
        to: slave.store().max_offset(),
        last: Some((LogOffset(start), time)),
        why: "a hole".into(),
    };
    slave.end(End::Clean);
    assert!(slave.open_cut(&cut));
    assert_eq!(slave.store().made_up(), made_up[..1]);
}
