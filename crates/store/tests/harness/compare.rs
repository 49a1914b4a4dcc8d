//! What the store holds against what the model says: whole after restarts, by samples in between.

use std::collections::BTreeSet;
use std::sync::Arc;

use gantry_disk::Disk;
use gantry_message::{LogOffset, Millis, QueueId, QueueOffset, RecordView};
use gantry_store::{ReadStatus, Store};

use super::{End, Harness, PLACES, Place, Sent, key};

/// The most messages that a query by key returns.
const QUERY_MAX: usize = 64;

/// A message as it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) offset: u64,
    pub(crate) number: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) time: Millis,
}

impl Harness {
    /// Reads everything out, checks it against the model, and makes the model what was found.
    pub(super) fn compare(&mut self, how: End, flushed: u64) {
        let store = Arc::clone(self.store());
        let half_deleted = self.half_deleted.take();
        let log_min = store.min_offset().0;
        for place in PLACES {
            let present = read_all(&store, place);
            let queue = store.find_queue(place.0, QueueId(place.1));
            let max = queue.as_ref().map_or(0, |queue| queue.max().0);
            let model = self.queues.remove(&place).unwrap_or_default();
            let in_flight = self.in_flight.remove(&place).unwrap_or_default();
            let is_half_deleted = half_deleted == Some(place.0);
            let mut found = vec![None; usize::try_from(max).unwrap()];
            let mut unsent = in_flight.iter();
            for read in present {
                let (offset, number) = (read.offset, read.number);
                let at = usize::try_from(offset).unwrap();
                let entry = store
                    .queue_entry(queue.as_ref().unwrap(), QueueOffset(offset))
                    .unwrap();
                assert_eq!(
                    entry.log_offset.0, read.start,
                    "{place:?} at {offset} {number} after {how:?}"
                );
                found[at] = Some(Sent {
                    number,
                    start: read.start,
                    end: read.end,
                    time: read.time,
                    code: entry.tags_code,
                    expired: false,
                });
                match model.get(at) {
                    Some(Some(sent)) => {
                        let as_sent = (sent.number, sent.start, sent.time, sent.code);
                        let as_read = (number, read.start, read.time, entry.tags_code);
                        assert_eq!(as_sent, as_read, "{place:?} at {offset} after {how:?}");
                    }
                    Some(None) => panic!("{place:?} at {offset}: {number} was lost before"),
                    None => {
                        assert!(
                            unsent.any(|&sent| sent == number),
                            "{place:?} at {offset}: {number} was not sent"
                        );
                        self.log.insert(read.start, (place.0, number, read.time));
                    }
                }
            }
            for (at, sent) in model.iter().enumerate() {
                let Some(sent) = sent else { continue };
                let may_be_lost = is_half_deleted || how == End::PowerCut && sent.end > flushed;
                assert!(
                    at < found.len() || may_be_lost,
                    "{place:?} ends at {max} after {how:?}, {} was at {at}",
                    sent.number
                );
                if found.get(at).is_some_and(Option::is_some) {
                    continue;
                }
                // Names of deleted files come back in a power cut, and not always all.
                let is_gone = sent.start < log_min || how == End::PowerCut;
                if sent.expired || is_gone && self.may_expire(sent.time) {
                    self.expired += usize::from(!sent.expired);
                    if let Some(expired) = found.get_mut(at) {
                        *expired = Some(Sent {
                            expired: true,
                            ..*sent
                        });
                    }
                    continue;
                }
                assert!(
                    may_be_lost,
                    "{place:?} at {at}: {} is lost after {how:?}",
                    sent.number
                );
                self.lost += 1;
            }
            self.queues.insert(place, found);
        }
        self.check_keys();
    }

    /// A query by a key that many share finds what is in the log, the newest and no other; each message of a sample is
    /// found by its own key.
    fn check_keys(&mut self) {
        let store = Arc::clone(self.store());
        store.turn();
        if store.check_writable().is_err() || !self.config.index_enabled {
            return;
        }
        let is_there = |start: u64, topic: &str, number: u32| {
            let record = store.record_at(LogOffset(start)).unwrap();
            record.is_some_and(|bytes| {
                let view = RecordView::parse(&bytes).unwrap();
                view.topic() == topic && number_of(view.body()) == number
            })
        };
        let query = |topic: &str, key: &str| -> Vec<u32> {
            let found = store.query(topic, key, QUERY_MAX, Millis(0), Millis(i64::MAX));
            let records = found.unwrap().records.into_iter();
            records
                .map(|bytes| number_of(RecordView::parse(&bytes).unwrap().body()))
                .collect()
        };
        for topic in PLACES
            .map(|place| place.0)
            .into_iter()
            .collect::<BTreeSet<_>>()
        {
            // What a power cut took or what expired is not in the log; whether it might has been looked at. What expired
            // and came back need not be in the index.
            let of_topic = self
                .log
                .iter()
                .filter(|&(&start, &(of, number, _))| of == topic && is_there(start, of, number));
            let (mut numbers, mut old) = (Vec::new(), BTreeSet::new());
            for (_, &(_, number, time)) in of_topic {
                numbers.push(number);
                old.extend(self.may_expire(time).then_some(number));
            }
            for third in 0..3 {
                let with_key = numbers.iter().filter(|&&number| number % 3 == third);
                let with_key: Vec<u32> = with_key.copied().collect();
                let newest = &with_key[with_key.len().saturating_sub(QUERY_MAX)..];
                check_found(&query(topic, &key(third)), newest, &old);
            }
            // A sample: the newest and every so manyth of the others.
            for &number in numbers.iter().rev().step_by(numbers.len() / 16 + 1) {
                check_found(&query(topic, &format!("U{number}")), &[number], &old);
            }
        }
    }

    pub(super) fn check_one_read(&mut self) {
        let place = self.any_place();
        let queue = self.store().queue(place.0, QueueId(place.1));
        let len = self.queues.get(&place).map_or(0, Vec::len) as u64;
        let from = self.below(len + 2);
        let found = self.store().read(&queue, QueueOffset(from), 32, &|_| true);
        let status = match from {
            _ if len == 0 => ReadStatus::NoMessageInQueue,
            from if from < queue.min().0 => ReadStatus::OffsetTooSmall,
            from if from == len => ReadStatus::OffsetOverflowOne,
            from if from > len => ReadStatus::OffsetOverflowBadly,
            _ if found.status == ReadStatus::MessageWasRemoving => ReadStatus::MessageWasRemoving,
            _ => ReadStatus::Found,
        };
        assert_eq!(
            (found.status, found.max.0),
            (status, len),
            "read of {place:?} from {from}"
        );
        for read in records(&found.slices, place) {
            let sent = self.queues[&place][usize::try_from(read.offset).unwrap()].unwrap();
            assert_eq!((sent.number, sent.start), (read.number, read.start));
        }
        // A filter sees what was said of each message, and is obeyed.
        let wanted = self.queues.get(&place).and_then(|queue| queue.last());
        if let Some(Some(wanted)) = wanted.copied() {
            let found = self
                .store()
                .read(&queue, QueueOffset(from), 32, &|code| code == wanted.code);
            for read in records(&found.slices, place) {
                let sent = self.queues[&place][usize::try_from(read.offset).unwrap()].unwrap();
                assert_eq!(sent.code, wanted.code);
            }
        }
    }

    /// A query by time looks at the first queue file whose newest message is not older, else at the last file, and finds
    /// a message of that very time, else the nearest one in the file, the earlier of two.
    pub(super) fn check_one_time(&mut self) {
        let place = self.any_place();
        let Some(model) = self.queues.get(&place).cloned() else {
            return;
        };
        let queue = self.store().queue(place.0, QueueId(place.1));
        let first = usize::try_from(queue.min().0).unwrap();
        let Some(there) = model.get(first..).filter(|there| !there.is_empty()) else {
            return;
        };
        // Between lost messages there is no saying where a search goes.
        let times: Option<Vec<i64>> = there
            .iter()
            .map(|sent| sent.map(|sent| sent.time.0))
            .collect();
        let Some(times) = times else { return };
        let some = times[usize::try_from(self.below(times.len() as u64)).unwrap()];
        let time = some + i64::try_from(self.below(21)).unwrap() - 10;
        let at = self.store().offset_at_time(&queue, Millis(time));
        let found = times[usize::try_from(at.0).unwrap() - first];
        // A queue keeps the size that its files were made with.
        let dir = format!("/store/consumequeue/{}/{}", place.0, place.1);
        let made = self.disk.list(dir.as_ref()).ok();
        let made = made.and_then(|files| files.first().map(|file| file.len));
        let per_file = usize::try_from(made.unwrap_or(self.config.queue_file_size) / 20).unwrap();
        let until_file_end = per_file - first % per_file;
        let (head, rest) = times.split_at(until_file_end.min(times.len()));
        let files: Vec<&[i64]> = std::iter::once(head).chain(rest.chunks(per_file)).collect();
        let file = files.iter().find(|file| file.last() >= Some(&time));
        let file = file.or(files.last()).unwrap();
        let nearest = file.iter().map(|one| (one - time).abs()).min().unwrap();
        let expected = file
            .iter()
            .copied()
            .find(|one| (one - time).abs() == nearest);
        assert_eq!(Some(found), expected, "{place:?}: nearest to {time}, {at}");
        assert_eq!(
            self.store().store_time_at(&queue, at),
            Some(Millis(found)),
            "{place:?} at {at}"
        );
    }

    /// A message is found by the place that its id holds, as long as it has not expired.
    pub(super) fn check_one_id(&mut self) {
        let place = self.any_place();
        let len = self.queues.get(&place).map_or(0, Vec::len) as u64;
        let at = usize::try_from(self.below(len + 1)).unwrap();
        let Some(Some(sent)) = self.queues.get(&place).and_then(|queue| queue.get(at)) else {
            return;
        };
        let found = self.store().record_at(LogOffset(sent.start)).unwrap();
        let number = found.map(|bytes| number_of(RecordView::parse(&bytes).unwrap().body()));
        let has_expired = sent.start < self.store().min_offset().0;
        assert_eq!(
            number,
            (!has_expired).then_some(sent.number),
            "{place:?} at {at}"
        );
        assert!(
            !has_expired || self.may_expire(sent.time),
            "{place:?} at {at}"
        );
        // A place within a record is no record's.
        assert_eq!(
            self.store().record_at(LogOffset(sent.start + 4)).unwrap(),
            None
        );
    }
}

/// All that is expected was found, in that order, but for some that are old.
fn check_found(found: &[u32], expected: &[u32], old: &BTreeSet<u32>) {
    let mut expected = expected.to_vec();
    expected.retain(|number| found.contains(number) || !old.contains(number));
    assert_eq!(found, expected);
}

fn number_of(body: &[u8]) -> u32 {
    u32::from_be_bytes(*body.first_chunk().unwrap())
}

/// The messages of slices, each whole and of this queue.
fn records(slices: &[bytes::Bytes], place: Place) -> Vec<Read> {
    let mut all = Vec::new();
    for slice in slices {
        let mut rest = &slice[..];
        while !rest.is_empty() {
            let view = RecordView::parse(rest).unwrap();
            view.verify_crc().unwrap();
            assert_eq!((view.topic(), view.queue_id().0), place);
            all.push(Read {
                offset: view.queue_offset().0,
                number: number_of(view.body()),
                start: view.log_offset().0,
                end: view.log_offset().0 + view.len() as u64,
                time: view.store_time(),
            });
            rest = &rest[view.len()..];
        }
    }
    all
}

/// Every message of a queue.
pub(crate) fn read_all(store: &Store, place: Place) -> Vec<Read> {
    let Some(queue) = store.find_queue(place.0, QueueId(place.1)) else {
        return Vec::new();
    };
    let mut all: Vec<Read> = Vec::new();
    let mut next = queue.min();
    while next < queue.max() {
        let found = store.read(&queue, next, 32, &|_| true);
        assert!(found.next > next, "a read does not move on: {found:?}");
        for read in records(&found.slices, place) {
            assert!(all.last().is_none_or(|last| last.offset < read.offset));
            all.push(read);
        }
        next = found.next;
    }
    all
}
