//! A store on a faulty disk beside a plain model of what it must hold.
//!
//! The model is one list per queue: which message stands at which offset, and where its record ends in the log. After a
//! restart the store is read out completely and compared: a clean stop and a kill lose nothing; a power cut may lose
//! what was not flushed, and nothing else; nothing ever moves to another offset or appears that was not sent.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "shared by several test programs"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gantry_disk::faulty::FaultyDisk;
use gantry_message::{Millis, QueueId, QueueOffset, Record, RecordView, SysFlag};
use gantry_store::{Clock, Outcome, ReadStatus, Store, StoreConfig, Tags};

/// The seeds of a test, or the one to replay.
pub(crate) fn seeds(all: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    let replay = std::env::var("GANTRY_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    replay.map_or_else(|| all.collect(), |seed| vec![seed])
}

/// Topic and queue.
pub(crate) type Place = (&'static str, u32);

pub(crate) const PLACES: [Place; 5] = [("A", 0), ("A", 1), ("B", 0), ("B", 7), ("%RETRY%g", 0)];

/// How the store comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Clean,
    Kill,
    PowerCut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    number: u32,
    /// Where its record ends.
    end: u64,
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
    /// Sent and refused while the disk died: may be there or not.
    in_flight: BTreeMap<Place, Vec<u32>>,
    pub(crate) lost: usize,
}

impl Harness {
    pub(crate) fn new(seed: u64) -> Self {
        let now = Arc::new(AtomicI64::new(1_700_000_000_000));
        let clock = Arc::clone(&now);
        let config = StoreConfig {
            segment_size: 4096,
            queue_file_size: 20 * 16,
            index_slots: 7,
            index_entries: 40,
            delete_log_interval_ms: 0,
            delete_queue_interval_ms: 0,
            clock: Clock::new(move || Millis(clock.fetch_add(7, Ordering::Relaxed))),
            ..StoreConfig::at("/store")
        };
        let mut harness = Self {
            disk: FaultyDisk::new(seed),
            config,
            store: None,
            now,
            random: seed.wrapping_mul(0xD134_2543_DE82_EF95) | 1,
            next_number: 0,
            queues: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            lost: 0,
        };
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

    /// One random operation without a restart.
    pub(crate) fn operate(&mut self) {
        match self.below(12) {
            0..=6 => {
                let singles = self.below(3);
                let groups = self.below(10) / 8;
                self.send(singles + 1, groups);
            }
            7 => self.send(20, 2),
            8 | 9 => self.store().turn(),
            _ => self.check_one_read(),
        }
    }

    /// Commits one batch of single messages and groups.
    pub(crate) fn send(&mut self, singles: u64, groups: u64) {
        let store = Arc::clone(self.store());
        let mut batch = store.batch();
        let mut staged = Vec::new();
        for nth in 0..singles + groups {
            let place = PLACES[usize::try_from(self.below(5)).unwrap()];
            let count = if nth < singles { 1 } else { 1 + self.below(5) };
            let messages: Vec<(u32, Vec<u8>, String)> =
                (0..count).map(|_| self.message()).collect();
            let queue = store.queue(place.0, QueueId(place.1));
            let records = messages
                .iter()
                .map(|(_, body, properties)| (record(place, body, properties), Tags::Code(3)));
            let index = if nth < singles {
                let (record, tags) = records.into_iter().next().unwrap();
                batch.stage(&queue, &record, tags).unwrap()
            } else {
                batch.stage_group(&queue, records).unwrap()
            };
            staged.push((
                index,
                place,
                messages
                    .into_iter()
                    .map(|(number, ..)| number)
                    .collect::<Vec<_>>(),
            ));
        }
        store.commit(&mut batch);
        for (index, place, numbers) in staged {
            self.note(batch.outcome(index), place, &numbers);
        }
    }

    fn note(&mut self, outcome: &Outcome, place: Place, numbers: &[u32]) {
        let queue = self.queues.entry(place).or_default();
        match outcome {
            Outcome::Stored {
                queue_offset, end, ..
            } => {
                assert_eq!(
                    queue_offset.0,
                    queue.len() as u64,
                    "messages get the next offsets"
                );
                queue.extend(
                    numbers
                        .iter()
                        .map(|&number| Some(Sent { number, end: end.0 })),
                );
            }
            Outcome::Refused(_) => self.in_flight.entry(place).or_default().extend(numbers),
        }
    }

    fn message(&mut self) -> (u32, Vec<u8>, String) {
        let number = self.next_number;
        self.next_number += 1;
        let mut body = number.to_be_bytes().to_vec();
        body.resize(
            4 + usize::try_from(self.below(200)).unwrap(),
            number.to_be_bytes()[3],
        );
        (
            number,
            body,
            format!("KEYS\u{1}k{}\u{2}UNIQ_KEY\u{1}U{number}", number % 3),
        )
    }

    /// Stores one message; its body begins with `number`.
    pub(crate) fn put(&mut self, place: Place, number: u32) -> Outcome {
        let body = [&number.to_be_bytes()[..], &[7; 96]].concat();
        let queue = self.store().queue(place.0, QueueId(place.1));
        let properties = format!("UNIQ_KEY\u{1}U{number}");
        self.store()
            .append(&queue, &record(place, &body, &properties), Tags::Code(0))
    }

    /// Ends the store without comparing.
    pub(crate) fn end(&mut self, end: End) {
        let store = self.store.take().unwrap();
        match end {
            End::Clean => store.shutdown().unwrap(),
            End::Kill => self.disk.kill(),
            End::PowerCut => self.disk.power_cut(),
        }
    }

    /// The numbers of every message of a queue, by offset.
    pub(crate) fn numbers(&self, place: Place) -> Vec<(u64, u32)> {
        read_all(self.store(), place)
            .into_iter()
            .map(|(offset, number, _)| (offset, number))
            .collect()
    }

    fn check_one_read(&mut self) {
        let place = PLACES[usize::try_from(self.below(5)).unwrap()];
        let from = self.below(
            self.queues
                .get(&place)
                .map_or(1, |queue| queue.len() as u64 + 2),
        );
        let queue = self.store().queue(place.0, QueueId(place.1));
        let expected = self.queues.get(&place).map_or(0, Vec::len) as u64;
        let found = self.store().read(&queue, QueueOffset(from), 32, &|_| true);
        let status = match from {
            _ if expected == 0 => ReadStatus::NoMessageInQueue,
            from if from < queue.min().0 => ReadStatus::OffsetTooSmall,
            from if from == expected => ReadStatus::OffsetOverflowOne,
            from if from > expected => ReadStatus::OffsetOverflowBadly,
            _ if found.status == ReadStatus::MessageWasRemoving => ReadStatus::MessageWasRemoving,
            _ => ReadStatus::Found,
        };
        assert_eq!(
            (found.status, found.max.0),
            (status, expected),
            "read of {place:?} from {from}"
        );
    }

    /// Ends the store in one way or another, opens it again and compares.
    pub(crate) fn restart(&mut self, end: End) {
        let store = self.store.take().unwrap();
        let flushed = store.flushed().value();
        if end == End::Clean {
            store.shutdown().unwrap();
        }
        drop(store);
        match end {
            End::Clean => {}
            End::Kill => self.disk.kill(),
            End::PowerCut => self.disk.power_cut(),
        }
        self.open();
        self.compare(end, flushed);
    }

    /// Reads everything out, checks it against the model, and makes the model what was found.
    fn compare(&mut self, how: End, flushed: u64) {
        let store = Arc::clone(self.store());
        for place in PLACES {
            let present = read_all(&store, place);
            let max = store
                .find_queue(place.0, QueueId(place.1))
                .map_or(0, |queue| queue.max().0);
            let model = self.queues.remove(&place).unwrap_or_default();
            let in_flight = self.in_flight.remove(&place).unwrap_or_default();
            let mut found = vec![None; usize::try_from(max).unwrap()];
            let mut unsent = in_flight.iter();
            for (offset, number, end) in present {
                let at = usize::try_from(offset).unwrap();
                found[at] = Some(Sent { number, end });
                match model.get(at) {
                    Some(Some(sent)) => {
                        assert_eq!(sent.number, number, "{place:?} at {offset} after {how:?}")
                    }
                    Some(None) => panic!("{place:?} at {offset}: {number} was lost before"),
                    None => assert!(
                        unsent.any(|&sent| sent == number),
                        "{place:?} at {offset}: {number} was not sent"
                    ),
                }
            }
            for (at, sent) in model.iter().enumerate() {
                let Some(sent) = sent else { continue };
                let is_there = found.get(at).is_some_and(Option::is_some);
                let may_be_lost = how == End::PowerCut && sent.end > flushed;
                assert!(
                    is_there || may_be_lost,
                    "{place:?} at {at}: {} is lost after {how:?}",
                    sent.number
                );
                self.lost += usize::from(!is_there);
            }
            self.queues.insert(place, found);
        }
        self.check_keys();
    }

    /// Everything that is there is found by its key.
    fn check_keys(&mut self) {
        let store = Arc::clone(self.store());
        store.turn();
        if store.check_writable().is_err() {
            return;
        }
        for (place, queue) in &self.queues {
            // A sample: the newest and every so manyth of the others.
            let step = queue.len() / 16 + 1;
            for sent in queue.iter().rev().step_by(step).flatten() {
                let key = format!("U{}", sent.number);
                let found = store
                    .query(place.0, &key, 64, Millis(0), Millis(i64::MAX))
                    .unwrap();
                let is_it = |bytes: &bytes::Bytes| {
                    number_of(RecordView::parse(bytes).unwrap().body()) == sent.number
                };
                assert!(
                    found.records.iter().any(is_it),
                    "{place:?}: {key} is not found"
                );
            }
        }
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

fn number_of(body: &[u8]) -> u32 {
    u32::from_be_bytes(*body.first_chunk().unwrap())
}

/// Offset, number and record end of every message of a queue.
pub(crate) fn read_all(store: &Store, place: Place) -> Vec<(u64, u32, u64)> {
    let Some(queue) = store.find_queue(place.0, QueueId(place.1)) else {
        return Vec::new();
    };
    let mut all: Vec<(u64, u32, u64)> = Vec::new();
    let mut next = queue.min();
    while next < queue.max() {
        let found = store.read(&queue, next, 32, &|_| true);
        assert!(found.next > next, "a read does not move on: {found:?}");
        for slice in &found.slices {
            let mut rest = &slice[..];
            while !rest.is_empty() {
                let view = RecordView::parse(rest).unwrap();
                view.verify_crc().unwrap();
                assert_eq!((view.topic(), view.queue_id().0), place);
                assert!(
                    all.last()
                        .is_none_or(|&(last, ..)| last < view.queue_offset().0)
                );
                all.push((
                    view.queue_offset().0,
                    number_of(view.body()),
                    view.log_offset().0 + view.len() as u64,
                ));
                rest = &rest[view.len()..];
            }
        }
        next = found.next;
    }
    all
}
