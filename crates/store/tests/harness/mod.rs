//! A store on a faulty disk beside a plain model of what it must hold.
//!
//! The model is one list per queue: which message stands at which offset, where its record lies in the log, when it was
//! stored and what its queue entry says. After a restart the store is read out completely and compared (`compare`): a
//! clean stop and a kill lose nothing; a power cut may lose what was not flushed, and nothing else; nothing ever moves to
//! another offset or appears that was not sent; what was deleted stays deleted, and only what was old enough expires.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "shared by several test programs"
)]

mod compare;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gantry_disk::Disk;
use gantry_disk::faulty::FaultyDisk;
use gantry_message::{Millis, QueueId, Record, SysFlag, java_hash};
use gantry_store::{Clock, Outcome, Store, StoreConfig, Tags};

pub(crate) use compare::read_all;

/// The seeds of a test: the one to replay (`GANTRY_SEED=n`), or as many from the first on as `GANTRY_SEEDS` asks for, or
/// those that every run takes.
pub(crate) fn seeds(all: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("GANTRY_SEED") {
        return vec![seed];
    }
    let first = *all.start();
    number("GANTRY_SEEDS").map_or_else(
        || all.collect(),
        |count: u64| (first..first + count).collect(),
    )
}

/// Topic and queue.
pub(crate) type Place = (&'static str, u32);

const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";
pub(crate) const PLACES: [Place; 6] = [
    ("A", 0),
    ("A", 1),
    ("B", 0),
    ("B", 7),
    ("%RETRY%g", 0),
    (SCHEDULE, 2),
];
/// Level 3 of Apache's table.
const DELAY: Millis = Millis(10_000);
const HOUR_MS: i64 = 3_600_000;

/// How the store comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Clean,
    Kill,
    PowerCut,
}

impl End {
    /// Brings it to that end; there may be no store any more.
    pub(crate) fn of(self, store: Option<Arc<Store>>, disk: &FaultyDisk) {
        if let Some(store) = store
            && self == Self::Clean
        {
            store.shutdown().unwrap();
        }
        match self {
            Self::Clean => {}
            Self::Kill => disk.kill(),
            Self::PowerCut => disk.power_cut(),
        }
    }
}

/// A message as it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) number: u32,
    pub(crate) start: u64,
    /// Durable once the log is flushed up to here: where its record ends, or the last one of its group.
    pub(crate) end: u64,
    pub(crate) time: Millis,
    /// What the third field of its queue entry holds.
    pub(crate) code: i64,
    /// It was gone, as it may be at its age; it can come back where a file that was deleted does.
    pub(crate) expired: bool,
}

pub(crate) struct Harness {
    pub(crate) disk: FaultyDisk,
    pub(crate) config: StoreConfig,
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) now: Arc<AtomicI64>,
    random: u64,
    next_number: u32,
    /// What stands at each offset; `None`: lost in a power cut.
    queues: BTreeMap<Place, Vec<Option<Sent>>>,
    /// Every record that is in the log, deleted topics' too, by place: topic, number and time.
    log: BTreeMap<u64, (&'static str, u32, Millis)>,
    /// Sent and refused while the disk died: may be there or not.
    in_flight: BTreeMap<Place, Vec<u32>>,
    /// The disk died while this topic was deleted: each of its messages may be there or not.
    half_deleted: Option<&'static str>,
    pub(crate) lost: usize,
    pub(crate) expired: usize,
    pub(crate) deleted: usize,
}

impl Harness {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    /// A store of another kind with every seed: sizes, places of the log, order of names on the disk.
    pub(crate) fn varied(seed: u64) -> Self {
        Self::with(seed, |harness| {
            let config = &mut harness.config;
            match seed % 4 {
                1 => {
                    config.commit_log_paths = vec!["/store/commitlog".into(), "/other/log".into()];
                }
                2 => {
                    config.segment_size = 3000;
                    config.queue_file_size = 20 * 5;
                    (config.index_slots, config.index_entries) = (3, 12);
                }
                3 => {
                    config.flush_sync = true;
                    config.index_enabled = false;
                }
                _ => {}
            }
            if seed % 2 == 1 {
                harness.disk.reorder_names();
            }
        })
    }

    fn with(seed: u64, change: impl FnOnce(&mut Self)) -> Self {
        let now = Arc::new(AtomicI64::new(1_700_000_000_000));
        let clock = Arc::clone(&now);
        let config = StoreConfig {
            segment_size: 4096,
            queue_file_size: 20 * 16,
            index_slots: 7,
            index_entries: 40,
            reserved_hours: 1,
            delete_log_interval_ms: 0,
            delete_queue_interval_ms: 0,
            clock: Clock::new(move || Millis(clock.fetch_add(7, Ordering::Relaxed))),
            ..StoreConfig::at("/store")
        };
        let disk = FaultyDisk::new(seed);
        // What an administrator made long ago.
        for dir in ["/store", "/other"] {
            disk.create_dirs(Path::new(dir)).unwrap();
        }
        disk.sync_all(Path::new("/")).unwrap();
        let mut harness = Self {
            disk,
            config,
            store: None,
            now,
            random: 1,
            next_number: 0,
            queues: BTreeMap::new(),
            log: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            half_deleted: None,
            lost: 0,
            expired: 0,
            deleted: 0,
        };
        harness.reseed(seed);
        change(&mut harness);
        harness.open();
        harness
    }

    pub(crate) fn open(&mut self) {
        let now = Millis(self.now.load(Ordering::Relaxed));
        let store = Store::open(Arc::new(self.disk.clone()), self.config.clone(), now).unwrap();
        // Dies here when the disk stops here; then nothing was promised.
        let _ = store.mark_running();
        self.store = Some(store);
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        self.store.as_ref().unwrap()
    }

    /// Begins another sequence of choices.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.random = seed.wrapping_mul(0xD134_2543_DE82_EF95) | 1;
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn any_place(&mut self) -> Place {
        PLACES[usize::try_from(self.below(PLACES.len() as u64)).unwrap()]
    }

    /// One random operation without a restart.
    pub(crate) fn operate(&mut self) {
        match self.below(48) {
            0..=25 => {
                let singles = self.below(3);
                let groups = self.below(10) / 8;
                self.send(singles + 1, groups);
            }
            26..=29 => self.send(20, 2),
            30..=36 => self.store().turn(),
            37..=41 => self.check_one_read(),
            42..=43 => self.check_one_time(),
            44..=45 => self.check_one_id(),
            46 => self.expire(),
            _ => {
                let topic = ["A", "B", "%RETRY%g"][usize::try_from(self.below(3)).unwrap()];
                self.delete(topic);
            }
        }
    }

    /// Commits one batch of single messages and groups.
    pub(crate) fn send(&mut self, singles: u64, groups: u64) {
        let store = Arc::clone(self.store());
        let mut batch = store.batch();
        let mut staged = Vec::new();
        for nth in 0..singles + groups {
            let place = self.any_place();
            let count = if nth < singles { 1 } else { 1 + self.below(5) };
            let messages: Vec<(u32, Vec<u8>, String)> =
                (0..count).map(|_| self.message(place)).collect();
            let queue = store.queue(place.0, QueueId(place.1));
            let records = messages.iter().map(|(number, body, properties)| {
                (record(place, body, properties), tags(place, *number))
            });
            let index = if nth < singles {
                let (record, tags) = records.into_iter().next().unwrap();
                batch.stage(&queue, &record, tags).unwrap()
            } else {
                batch.stage_group(&queue, records).unwrap()
            };
            let numbers: Vec<u32> = messages.into_iter().map(|(number, ..)| number).collect();
            staged.push((index, place, numbers));
        }
        store.commit(&mut batch);
        for (index, place, numbers) in staged {
            let starts: Vec<u64> = batch.offsets(index).map(|offset| offset.0).collect();
            self.note(batch.outcome(index), place, &numbers, &starts);
        }
    }

    fn note(&mut self, outcome: &Outcome, place: Place, numbers: &[u32], starts: &[u64]) {
        let queue = self.queues.entry(place).or_default();
        match outcome {
            Outcome::Stored {
                queue_offset,
                end,
                store_time,
                ..
            } => {
                assert_eq!(
                    queue_offset.0,
                    queue.len() as u64,
                    "messages get the next offsets"
                );
                assert_eq!(starts.len(), numbers.len());
                for (&number, &start) in numbers.iter().zip(starts) {
                    let code = match tags(place, number) {
                        Tags::Code(code) => code,
                        Tags::DueAfter(delay) => store_time.plus(delay.0).0,
                    };
                    queue.push(Some(Sent {
                        number,
                        start,
                        end: end.0,
                        time: *store_time,
                        code,
                        expired: false,
                    }));
                    self.log.insert(start, (place.0, number, *store_time));
                }
            }
            Outcome::Refused(_) => self.in_flight.entry(place).or_default().extend(numbers),
        }
    }

    fn message(&mut self, place: Place) -> (u32, Vec<u8>, String) {
        let number = self.next_number;
        self.next_number += 1;
        let mut body = number.to_be_bytes().to_vec();
        body.resize(
            4 + usize::try_from(self.below(200)).unwrap(),
            number.to_be_bytes()[3],
        );
        let special = if place.0 == SCHEDULE {
            "DELAY\u{1}3".to_owned()
        } else {
            format!("TAGS\u{1}{}", tag(number))
        };
        let keys = format!("KEYS\u{1}{}\u{2}UNIQ_KEY\u{1}U{number}", key(number));
        (number, body, format!("{keys}\u{2}{special}"))
    }

    /// Stores one message; its body begins with `number`. The model does not know of it.
    pub(crate) fn put(&mut self, place: Place, number: u32) -> Outcome {
        let body = [&number.to_be_bytes()[..], &[7; 96]].concat();
        let queue = self.store().queue(place.0, QueueId(place.1));
        let properties = format!("UNIQ_KEY\u{1}U{number}");
        self.store()
            .append(&queue, &record(place, &body, &properties), Tags::Code(0))
    }

    /// Deletes a topic. Once that returned well nothing of it ever comes back.
    pub(crate) fn delete(&mut self, topic: &'static str) {
        let done = self.store().delete_topic(topic);
        let places = || PLACES.iter().filter(move |place| place.0 == topic);
        if done.is_err() || self.disk.is_stopped() {
            self.half_deleted = Some(topic);
            // Where it failed for another reason, an administrator has the broker started again.
            if !self.disk.is_stopped() {
                self.restart(End::Kill);
            }
            return;
        }
        for place in places() {
            self.deleted += self.queues.remove(place).map_or(0, |queue| queue.len());
            assert!(self.store().find_queue(place.0, QueueId(place.1)).is_none());
        }
    }

    /// Lets everything that is there grow older than it may, and deletes what may go.
    pub(crate) fn expire(&mut self) {
        self.now.fetch_add(2 * HOUR_MS, Ordering::Relaxed);
        self.store().delete_expired_now();
        self.store().turn();
    }

    /// Whether retention may have taken what was stored then.
    fn may_expire(&self, time: Millis) -> bool {
        let hours = i64::try_from(self.config.reserved_hours).unwrap();
        time.0 <= self.now.load(Ordering::Relaxed) - hours * HOUR_MS
    }

    /// Ends the store without comparing.
    pub(crate) fn end(&mut self, end: End) {
        let store = self.store.take().unwrap();
        end.of(Some(store), &self.disk);
    }

    /// The numbers of every message of a queue, by offset.
    pub(crate) fn numbers(&self, place: Place) -> Vec<(u64, u32)> {
        read_all(self.store(), place)
            .into_iter()
            .map(|found| (found.offset, found.number))
            .collect()
    }

    /// Ends the store in one way or another, opens it again and compares.
    pub(crate) fn restart(&mut self, end: End) {
        let flushed = self.store().flushed().value();
        self.end(end);
        self.open();
        self.compare(end, flushed);
    }

    /// Ends the store, opens it on a disk that stops after so many changes, ends that in another way, opens it again and
    /// compares. Returns whether the disk stopped, which is whether recovery makes as many changes.
    pub(crate) fn restart_twice(&mut self, first: End, stop: u64, second: End) -> bool {
        let mut flushed = self.store().flushed().value();
        self.end(first);
        self.disk.stop_after(stop);
        let now = Millis(self.now.load(Ordering::Relaxed));
        // An error is the disk's.
        if let Ok(store) = Store::open(Arc::new(self.disk.clone()), self.config.clone(), now) {
            let _ = store.mark_running();
            flushed = store.flushed().value();
        }
        let stopped = self.disk.is_stopped();
        second.of(None, &self.disk);
        self.open();
        let worst = if first == End::PowerCut {
            first
        } else {
            second
        };
        self.compare(worst, flushed);
        stopped
    }

    /// Directories that Apache's broker loads hold nothing that it refuses: in the log and in queues every file is named
    /// by 20 digits and has the full size, in the index by 17.
    pub(crate) fn check_names(&self) {
        for path in self.disk.files() {
            let len = self.disk.content(&path).unwrap().len() as u64;
            let depth = path.components().count();
            let is_in = |dir: &PathBuf| path.starts_with(dir);
            let logs = [
                PathBuf::from("/store/commitlog"),
                PathBuf::from("/other/log"),
            ];
            let (digits, expected) = if logs.iter().any(is_in) {
                (20, self.config.segment_size)
            } else if path.starts_with("/store/consumequeue") && depth == 6 {
                (20, self.config.queue_file_size)
            } else if path.starts_with("/store/index") {
                let (slots, entries) = (self.config.index_slots, self.config.index_entries);
                (17, 40 + 4 * u64::from(slots) + 20 * u64::from(entries))
            } else {
                assert!(!path.starts_with("/store/consumequeue"), "{path:?}");
                continue;
            };
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(
                name.len() == digits && name.bytes().all(|byte| byte.is_ascii_digit()),
                "{path:?}"
            );
            assert_eq!(len, expected, "{path:?}");
        }
    }
}

/// What every third message shares.
fn key(number: u32) -> String {
    format!("k{}", number % 3)
}

fn tag(number: u32) -> String {
    format!("tag{}", number % 5)
}

fn tags(place: Place, number: u32) -> Tags {
    if place.0 == SCHEDULE {
        Tags::DueAfter(DELAY)
    } else {
        Tags::Code(i64::from(java_hash(&tag(number))))
    }
}

pub(crate) fn record<'a>(place: Place, body: &'a [u8], properties: &'a str) -> Record<'a> {
    Record {
        topic: place.0,
        queue_id: QueueId(place.1),
        flag: 0,
        sys_flag: SysFlag(0),
        born_time: Millis(1),
        born_host: "10.0.0.9:5555".parse().unwrap(),
        store_host: "10.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_offset: 0,
        body,
        properties: properties.as_bytes(),
    }
}
