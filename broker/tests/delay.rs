//! Delayed messages over a real store with a clock of our own: due times, restarts in the middle, lost positions.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use gantry_broker::delay::{
    Delay, DelayConfig, DelayParts, Level, Levels, SCHEDULE_CONSUMER, postpone,
};
use gantry_broker::stats::{CommitTimes, Stats, StatsConfig};
use gantry_disk::faulty::FaultyDisk;
use gantry_disk::{Disk, OsDisk};
use gantry_message::{Millis, QueueId, QueueOffset, Record, RecordView, SysFlag, topic};
use gantry_store::{Clock, Outcome, Store, StoreConfig, Tags};

/// A broker's home that outlives its restarts.
struct Home {
    dir: tempfile::TempDir,
    disk: Arc<dyn Disk>,
    now: Arc<AtomicI64>,
}

/// What runs between two restarts.
struct Running {
    store: Arc<Store>,
    stats: Arc<Stats>,
    delay: Arc<Delay>,
    levels: Arc<Levels>,
    now: Arc<AtomicI64>,
}

const START: i64 = 1_700_000_000_000;

impl Home {
    fn new() -> Self {
        Self::on(Arc::new(OsDisk))
    }

    fn on(disk: Arc<dyn Disk>) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            disk,
            now: Arc::new(AtomicI64::new(START)),
        }
    }

    fn offsets_file(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("config/delayOffset.json")).unwrap_or_default()
    }

    fn run(&self, table: &str) -> Running {
        let now = Arc::clone(&self.now);
        self.run_with(table, Clock::new(move || Millis(now.load(SeqCst))))
    }

    fn run_with(&self, table: &str, clock: Clock) -> Running {
        let levels = Arc::new(Levels::parse(table).unwrap());
        let config = StoreConfig {
            segment_size: 64 << 10,
            queue_file_size: 20 * 100,
            index_slots: 16,
            index_entries: 64,
            delay_levels: levels.iter().map(|level| levels.delay(level)).collect(),
            clock,
            ..StoreConfig::at(self.dir.path())
        };
        let now = Millis(self.now.load(SeqCst));
        let store = Store::open(Arc::clone(&self.disk), config, now).unwrap();
        let stats = StatsConfig {
            cluster: "C".into(),
            detail: true,
            zone: jiff::tz::TimeZone::UTC,
        };
        let stats = Arc::new(Stats::new(stats, now));
        let parts = DelayParts {
            store: Arc::clone(&store),
            stats: Arc::clone(&stats),
            disk: Arc::clone(&self.disk),
            config_folder: self.dir.path().join("config"),
        };
        let config = DelayConfig {
            flush_interval_ms: 10_000,
            stats_enabled: true,
        };
        let delay = Delay::load(parts, Arc::clone(&levels), config).unwrap();
        Running {
            store,
            stats,
            delay,
            levels,
            now: Arc::clone(&self.now),
        }
    }
}

impl Running {
    fn level(&self, number: u32) -> Level {
        self.levels.level(number).unwrap()
    }

    fn limit_messages(&self, bytes: u32) {
        self.store.reconfigure(&StoreConfig {
            max_message_size: bytes,
            ..StoreConfig::default()
        });
    }

    /// From so much of the disk on it counts as full.
    fn limit_disk(&self, percent: u64) {
        self.store.reconfigure(&StoreConfig {
            disk_full_ratio: percent,
            ..StoreConfig::default()
        });
        self.store.turn();
    }

    fn put(&self, queue: QueueId, properties: &[u8], tags: Tags) {
        let record = Record {
            topic: topic::SCHEDULE,
            queue_id: queue,
            flag: 3,
            sys_flag: SysFlag(0),
            born_time: Millis(1),
            born_host: "10.0.0.9:5555".parse().unwrap(),
            store_host: "10.0.0.1:10911".parse().unwrap(),
            reconsume_times: 1,
            prepared_offset: 0,
            body: b"body",
            properties,
        };
        let outcome = self
            .store
            .append(&self.store.queue(topic::SCHEDULE, queue), &record, tags);
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    }

    /// A send with a delay level, to queue 2 of topic T.
    fn send(&self, level: u32, key: &str) {
        let text = format!("KEYS\u{1}{key}\u{2}TAGS\u{1}TagA\u{2}WAIT\u{1}true");
        let postponed = postpone(
            &self.levels,
            self.level(level),
            "T",
            QueueId(2),
            text.as_bytes(),
        );
        self.put(
            postponed.queue,
            &postponed.properties,
            Tags::DueAfter(postponed.delay),
        );
    }

    /// Moves the clock and does what is to be done until there is nothing more to do now.
    fn at(&self, now: i64) -> Option<i64> {
        self.now.store(now, SeqCst);
        for _ in 0..1_000 {
            let next = self.delay.step(Millis(now));
            match next.at {
                Some(at) if at.0 <= now => {}
                at => return at.map(|at| at.0),
            }
        }
        panic!("a step wants to be called again and again");
    }

    /// The keys of what was delivered, in order.
    fn delivered(&self) -> Vec<String> {
        let Some(queue) = self.store.find_queue("T", QueueId(2)) else {
            return Vec::new();
        };
        let entries = self
            .store
            .queue_entries(&queue, queue.min(), 1_000)
            .unwrap();
        let key = |offset| {
            let bytes = self.store.record_at(offset).unwrap().unwrap();
            let view = RecordView::parse(&bytes).unwrap();
            assert_eq!(
                (
                    view.topic(),
                    view.body(),
                    view.flag(),
                    view.reconsume_times()
                ),
                ("T", &b"body"[..], 3, 1)
            );
            String::from_utf8(view.property("KEYS").unwrap().to_vec()).unwrap()
        };
        entries
            .into_iter()
            .map(|entry| key(entry.log_offset))
            .collect()
    }

    fn position(&self, level: u32) -> Option<u64> {
        let positions = self.delay.positions();
        positions
            .into_iter()
            .find(|(found, _)| found.number() == level)
            .map(|(_, next)| next.0)
    }

    /// Nobody flushes the log here but the stop itself.
    fn stop(self) {
        self.delay.stop();
        self.store.shutdown().unwrap();
    }

    /// As `kill -9`: what is in the files stays, nothing is written any more.
    fn crash(self, home: &Home) {
        let kept = home.dir.path().join("config/delayOffset.json");
        let before = std::fs::read(&kept).ok();
        self.store.shutdown().unwrap();
        assert_eq!(
            std::fs::read(&kept).ok(),
            before,
            "nobody writes positions behind our back"
        );
    }
}

fn remove(file: &Path) {
    if file.exists() {
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_message_comes_when_it_is_due_and_not_before() {
    let home = Home::new();
    let running = home.run("1s 5s 10s");
    assert_eq!(running.at(START), None, "an idle broker wants no call");
    running.send(2, "a");
    home.now.store(START + 200, SeqCst);
    running.send(2, "b");
    running.send(1, "c");
    assert_eq!(running.at(START + 200), Some(START + 1_200));
    assert_eq!(running.delivered(), [""; 0]);
    running.at(START + 1_200);
    assert_eq!(running.delivered(), ["c"]);
    assert_eq!(running.at(START + 4_999), Some(START + 5_000));
    running.at(START + 5_000);
    assert_eq!(running.delivered(), ["c", "a"]);
    running.at(START + 5_200);
    assert_eq!(running.delivered(), ["c", "a", "b"]);
    assert_eq!(
        (
            running.position(1),
            running.position(2),
            running.position(3)
        ),
        (Some(1), Some(2), None)
    );
    running.stop();
}

#[test]
fn a_delivered_message_keeps_its_properties_and_its_tags_code() {
    let home = Home::new();
    let running = home.run("1s");
    running.send(1, "a");
    running.at(START + 1_000);
    let queue = running.store.find_queue("T", QueueId(2)).unwrap();
    let entry = running.store.queue_entry(&queue, QueueOffset(0)).unwrap();
    assert_eq!(entry.tags_code, 2_598_919, "String.hashCode of TagA");
    let bytes = running.store.record_at(entry.log_offset).unwrap().unwrap();
    let text = String::from_utf8(RecordView::parse(&bytes).unwrap().properties().to_vec()).unwrap();
    let shown = text.replace('\u{1}', "=").replace('\u{2}', " ");
    assert_eq!(
        shown,
        "KEYS=a TAGS=TagA WAIT=true DELAY=1 REAL_TOPIC=T REAL_QID=2"
    );
    running.stop();
}

#[test]
fn more_than_one_round_of_due_messages_comes_in_order_and_is_counted() {
    let home = Home::new();
    let running = home.run("1s");
    let keys: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    keys.iter().for_each(|key| running.send(1, key));
    running.at(START + 1_000);
    assert_eq!(running.delivered(), keys);
    running
        .stats
        .step(Millis(START + 10_000), &CommitTimes::default());
    let item = |name: &str, key: &str| running.stats.item(name, key).map(|item| item.minute.sum);
    assert_eq!(item("TOPIC_PUT_NUMS", "T"), Some(200));
    assert_eq!(
        item(
            "GROUP_GET_NUMS",
            &format!("{}@{SCHEDULE_CONSUMER}", topic::SCHEDULE)
        ),
        Some(200)
    );
    assert_eq!(
        running.stats.counts().get_messages,
        0,
        "nobody fetched anything"
    );
    running.stop();
}

#[test]
fn a_stop_keeps_the_positions_and_a_start_goes_on_there() {
    let home = Home::new();
    let running = home.run("1s 5s");
    running.send(1, "a");
    running.send(2, "b");
    running.at(START + 1_000);
    running.stop();
    assert_eq!(home.offsets_file(), "{\n\t\"offsetTable\":{1:1\n\t}\n}");
    let running = home.run("1s 5s");
    assert_eq!(running.position(1), Some(1));
    running.at(START + 4_999);
    assert_eq!(running.delivered(), ["a"]);
    running.at(START + 5_000);
    assert_eq!(running.delivered(), ["a", "b"]);
    running.stop();
}

#[test]
fn a_crash_repeats_messages_and_loses_none() {
    let home = Home::new();
    let running = home.run("1s 5s");
    ["a", "b", "c"].iter().for_each(|key| running.send(1, key));
    running.at(START + 1_000);
    assert_eq!(running.delivered(), ["a", "b", "c"]);
    running.crash(&home);
    let running = home.run("1s 5s");
    running.at(START + 1_001);
    assert_eq!(running.delivered(), ["a", "b", "c", "a", "b", "c"]);
    running.stop();
}

#[test]
fn a_position_is_written_when_its_time_has_come_and_what_was_delivered_is_on_disk() {
    let home = Home::new();
    let running = home.run("1s");
    running.send(1, "a");
    let next = running.at(START + 1_000);
    assert_eq!(next, Some(START + 11_000), "ten seconds after the delivery");
    running.at(START + 11_000);
    assert_eq!(home.offsets_file(), "", "the log is not on disk yet");
    running.store.turn();
    assert!(running.store.flushed().value() == running.store.appended().value());
    running.at(START + 15_000);
    assert_eq!(home.offsets_file(), "");
    assert_eq!(
        running.at(START + 21_000),
        None,
        "written: an idle broker wants no call"
    );
    assert_eq!(home.offsets_file(), "{\n\t\"offsetTable\":{1:1\n\t}\n}");
    running.crash(&home);
    let running = home.run("1s");
    running.at(START + 30_000);
    assert_eq!(running.delivered(), ["a"]);
    running.stop();
}

#[test]
fn without_a_positions_file_everything_comes_again() {
    let home = Home::new();
    let running = home.run("1s");
    running.send(1, "a");
    running.at(START + 1_000);
    running.stop();
    remove(&home.dir.path().join("config/delayOffset.json"));
    let running = home.run("1s");
    running.at(START + 1_001);
    assert_eq!(running.delivered(), ["a", "a"]);
    running.stop();
}

#[test]
fn a_position_outside_the_queue_is_moved_into_it() {
    let home = Home::new();
    let running = home.run("1s 5s");
    running.send(1, "a");
    running.stop();
    std::fs::create_dir_all(home.dir.path().join("config")).unwrap();
    let text = r#"{"offsetTable":{1:77,"2":-5,9:3}}"#;
    std::fs::write(home.dir.path().join("config/delayOffset.json"), text).unwrap();
    let running = home.run("1s 5s");
    assert_eq!((running.position(1), running.position(2)), (Some(1), None));
    running.send(1, "b");
    running.at(START + 2_000);
    assert_eq!(running.delivered(), ["b"]);
    running.store.turn();
    running.stop();
    assert!(
        home.offsets_file().contains("9:3"),
        "a level that is not in the table keeps its position"
    );
}

#[test]
fn a_clock_set_back_delivers_at_once_what_lies_too_far_ahead() {
    let home = Home::new();
    let running = home.run("1s 5s");
    running.send(2, "a");
    // Stored to be due at START + 5 s; an hour back that is farther away than the level ever delays.
    running.at(START - 3_600_000);
    assert_eq!(running.delivered(), ["a"]);
    running.stop();
}

#[test]
fn another_level_table_counts_from_the_next_start_on() {
    let home = Home::new();
    let running = home.run("1s 1h");
    running.send(2, "a");
    running.stop();
    let running = home.run("1s 5s");
    running.at(START);
    assert_eq!(
        running.delivered(),
        ["a"],
        "an hour is farther away than the level delays now"
    );
    running.stop();

    let home = Home::new();
    let running = home.run("1s 5s");
    running.send(2, "a");
    running.stop();
    let running = home.run("1s 1h");
    running.at(START + 4_999);
    assert_eq!(running.delivered(), [""; 0]);
    running.at(START + 5_000);
    assert_eq!(running.delivered(), ["a"], "what was stored keeps its time");
    running.stop();
}

#[test]
fn a_message_that_can_never_be_delivered_does_not_hold_up_the_others() {
    let home = Home::new();
    let running = home.run("1s");
    running.send(1, "a");
    running.put(QueueId(0), b"KEYS\x01x", Tags::DueAfter(Millis(1_000)));
    running.put(
        QueueId(0),
        b"REAL_TOPIC\x01SCHEDULE_TOPIC_XXXX\x02REAL_QID\x010",
        Tags::DueAfter(Millis(1_000)),
    );
    running.send(1, "b");
    running.at(START + 1_000);
    assert_eq!(running.delivered(), ["a", "b"]);
    assert_eq!(running.position(1), Some(4));
    running.stop();
}

/// The entry of a lost message points to a place where another message may stand: that one must not come twice.
#[test]
fn a_lost_message_is_passed_over_and_no_other_comes_in_its_place() {
    let home = Home::new();
    let running = home.run("1s");
    for key in ["a", "b", "c"] {
        running.send(1, key);
    }
    running.stop();
    let queue = format!("consumequeue/{}/0/{:020}", topic::SCHEDULE, 0);
    let path = home.dir.path().join(queue);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20..40].fill(0);
    bytes[28..32].copy_from_slice(&[0x7F, 0xFF, 0xFF, 0xFF]);
    std::fs::write(&path, bytes).unwrap();
    let running = home.run("1s");
    running.at(START + 1_000);
    assert_eq!(running.delivered(), ["a", "c"]);
    assert_eq!(running.position(1), Some(3));
    running.stop();
}

/// Head or body of a record, a queue's entries: nothing of what the disk does not give is skipped, however long it takes.
#[test]
fn a_message_that_cannot_be_read_is_waited_for() {
    for (file, first) in [("commitlog", 1), ("commitlog", 100), ("consumequeue", 0)] {
        let disk = FaultyDisk::new(1);
        let home = Home::on(Arc::new(disk.clone()));
        let running = home.run("1s");
        for key in ["a", "b", "c"] {
            running.send(1, key);
        }
        let queue = running.store.queue(topic::SCHEDULE, QueueId(0));
        let second = running.store.queue_entry(&queue, QueueOffset(1)).unwrap();
        running.stop();
        let dir = home.dir.path().join(file);
        let files = disk.files();
        let path = files.iter().find(|path| path.starts_with(&dir)).unwrap();
        let (at, before) = if file == "commitlog" {
            (second.log_offset.0 + first, &["a"][..])
        } else {
            (first, &[][..])
        };
        let running = home.run("1s");
        disk.spoil(path, at..at + 1);
        let mut now = START + 1_000;
        for _ in 0..10 {
            let next = running.at(now).unwrap();
            assert!(now < next && next <= now + 10_000, "{next}");
            assert_eq!(running.delivered(), before, "{file} {first}");
            assert_eq!(running.position(1).unwrap_or(0), before.len() as u64);
            now = next;
        }
        disk.spoil(path, 0..0);
        running.at(now);
        assert_eq!(running.delivered(), ["a", "b", "c"], "{file} {first}");
        running.stop();
    }
}

#[test]
fn what_the_store_refuses_is_tried_again_until_it_takes_it() {
    let home = Home::new();
    let running = home.run("1s");
    running.send(1, "a");
    running.limit_disk(0);
    assert_eq!(running.at(START + 1_000), Some(START + 1_100));
    assert_eq!(running.at(START + 1_100), Some(START + 1_300));
    assert_eq!(running.delivered(), [""; 0]);
    running.limit_disk(100);
    assert_eq!(running.at(START + 1_299), Some(START + 1_300));
    running.at(START + 1_300);
    assert_eq!(running.delivered(), ["a"]);
    running.stop();
}

/// What was taken under another limit is delivered.
#[test]
fn a_limit_that_was_lowered_holds_no_delayed_message_back() {
    let home = Home::new();
    let running = home.run("1s");
    running.send(1, "a");
    running.limit_messages(3);
    running.at(START + 1_000);
    assert_eq!(running.delivered(), ["a"]);
    running.stop();
}

/// Nothing is polled: the thread sleeps until a level that was empty gets a message.
#[test]
fn the_thread_delivers_what_arrives_while_it_sleeps_and_ends_when_told() {
    let home = Home::new();
    let running = home.run_with("0s 1h", Clock::default());
    running.delay.start().unwrap();
    for round in 1..=3 {
        running.send(1, &round.to_string());
        let queue = running.store.queue("T", QueueId(2));
        let deadline = Instant::now() + Duration::from_secs(20);
        assert!(
            queue.dispatched().wait_blocking(round - 1, Some(deadline)),
            "message {round} never came"
        );
    }
    running.stop();
    assert!(home.offsets_file().contains("1:3"));
}
#[test]
fn nothing_is_delivered_while_the_store_is_sealed_and_everything_afterwards() {
    let home = Home::new();
    let running = home.run("1s 5s");
    running.send(1, "a");
    running.send(2, "b");
    running.store.seal(Some("drained".into()));
    running.store.settle();
    let end = running.store.max_offset();
    // It looks again every second, whatever is due.
    assert_eq!(running.at(START + 1_000), Some(START + 2_000));
    assert_eq!(running.at(START + 9_000), Some(START + 10_000));
    assert_eq!(running.store.max_offset(), end);
    assert_eq!(running.delivered(), [""; 0]);
    running.store.seal(None);
    running.at(START + 10_000);
    assert_eq!(running.delivered(), ["a", "b"]);
    running.stop();
}
