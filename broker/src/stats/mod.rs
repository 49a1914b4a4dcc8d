//! What went through this broker: items by topic, group and queue, rates, put times and day counters.
//!
//! A request handler resolves a handle once ([`Stats::topic`], [`Stats::group_topic`]) and bumps relaxed atomics
//! through it; nothing on that path locks or allocates. [`Stats::step`] samples everything and says when it wants to
//! be called again. Items carry Java's names and keys (`TOPIC_PUT_NUMS`, `topic@group` ...), see [`Stats::item`];
//! what the runtime info prints comes from [`Stats::runtime`]. Nothing here is kept over a restart.
//! The series of one counter are in `series`, those of the whole broker in `totals`.

mod arrivals;
mod series;
mod totals;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use gantry_message::{Millis, QueueId, QueueOffset};
use jiff::tz::TimeZone;
use rustc_hash::FxHashMap;

pub use arrivals::{Arrived, MessageKind, SIZE_ENDS};
pub use series::{Figures, Span};
pub use totals::{CommitTimes, Counts, Morning, Rates};

use arrivals::Arrivals;
use series::{Cell, PerQueue, Ticks};
use totals::{Sampled, Totals};

/// Milliseconds between two samples of the broker's totals.
const STEP_MS: i64 = 1_000;

/// Milliseconds between two rounds of log lines.
const LOG_PERIOD_MS: i64 = 60_000;

/// What one put adds: steps, messages, bytes.
const PUTS: usize = 3;
/// What one fruitful read adds: steps, messages, bytes, milliseconds.
const GETS: usize = 4;

const TIMES: usize = 0;
const MESSAGES: usize = 1;
const BYTES: usize = 2;
const MILLISECONDS: usize = 3;

/// Counters of one topic.
#[derive(Debug)]
pub struct TopicCounters {
    queues: PerQueue<PUTS>,
    whole: Cell<PUTS>,
    arrivals: Arrivals,
    by_queue: bool,
}

impl TopicCounters {
    /// A request to store `messages` of this kind for the topic was taken.
    pub fn came_in(&self, kind: MessageKind, messages: u64, bytes: u64) {
        self.arrivals.add(kind, messages, bytes);
    }

    /// What came in since the start.
    pub fn arrived(&self, kind: MessageKind) -> Arrived {
        self.arrivals.of(kind)
    }

    fn queue(&self, queue: QueueId) -> QueueId {
        if self.by_queue { queue } else { QueueId(0) }
    }
}

/// Counters of what one group read of one topic, and of what it sent back.
#[derive(Debug)]
pub struct GroupTopicCounters {
    queues: PerQueue<GETS>,
    whole: Cell<GETS>,
    sent_back: Cell<1>,
    /// Messages that ended in the dead-letter queue.
    dead: AtomicU64,
    /// Where the last pull of each queue ended.
    pulled: Mutex<FxHashMap<QueueId, QueueOffset>>,
    by_queue: bool,
}

impl GroupTopicCounters {
    /// A pull of a queue ended before this position.
    pub fn pulled_to(&self, queue: QueueId, next: QueueOffset) {
        let mut pulled = self.pulled.lock().unwrap_or_else(PoisonError::into_inner);
        pulled.insert(queue, next);
    }

    /// Where the last pull of each queue ended, if there was one.
    pub fn pulled(&self) -> FxHashMap<QueueId, QueueOffset> {
        let pulled = self.pulled.lock().unwrap_or_else(PoisonError::into_inner);
        pulled.clone()
    }

    /// Messages and bytes that were handed out since the start.
    pub fn handed_out(&self) -> (u64, u64) {
        let sum = self.queues.sum();
        (sum[MESSAGES], sum[BYTES])
    }

    /// Messages that ended in the dead-letter queue since the start.
    pub fn dead(&self) -> u64 {
        self.dead.load(Relaxed)
    }

    fn queue(&self, queue: QueueId) -> QueueId {
        if self.by_queue { queue } else { QueueId(0) }
    }
}

/// Figures of one item over its three spans.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Item {
    /// The last minute.
    pub minute: Figures,
    /// The last hour.
    pub hour: Figures,
    /// The last day.
    pub day: Figures,
}

/// The broker-wide figures the runtime info prints.
#[derive(Clone, Debug, PartialEq)]
pub struct Runtime {
    /// When the broker started.
    pub boot: Millis,
    /// Everything counted since then.
    pub counts: Counts,
    /// Slowest read since the start, milliseconds.
    pub get_ms_max: u64,
    /// Put time distribution of the last full minute, as Java prints it.
    pub put_distribution: String,
    /// Milliseconds that 99 % of the puts of the last full minute stayed below.
    pub put_latency_99: f64,
    /// Milliseconds that 99.9 % of the puts of the last full minute stayed below.
    pub put_latency_999: f64,
    /// Messages stored a second.
    pub put_rates: Rates,
    /// Reads a second that found messages.
    pub found_rates: Rates,
    /// Reads a second that found none.
    pub missed_rates: Rates,
    /// Messages handed out a second.
    pub transferred_rates: Rates,
    /// Counters at the beginning of yesterday.
    pub yesterday: Morning,
    /// Counters at the beginning of today.
    pub today: Morning,
}

/// How the counters are kept; the configuration keys of the same names.
#[derive(Clone, Debug)]
pub struct StatsConfig {
    /// `brokerClusterName`: the key of the broker-wide items.
    pub cluster: String,
    /// `enableDetailStat`: items by queue as well.
    pub detail: bool,
    /// Zone whose midnight turns the day counters.
    pub zone: TimeZone,
}

/// All counters of one broker.
#[derive(Debug)]
pub struct Stats {
    config: StatsConfig,
    boot: Millis,
    totals: Totals,
    broker: Cell<2>,
    topics: RwLock<FxHashMap<Box<str>, Arc<TopicCounters>>>,
    groups: RwLock<FxHashMap<GroupTopic, Arc<GroupTopicCounters>>>,
    sampler: Mutex<Sampler>,
}

/// Topic and group as one key `topic@group`: a topic's name holds no `@`.
type GroupTopic = Box<str>;

#[derive(Debug)]
struct Sampler {
    ticks: Ticks,
    totals: Sampled,
    logged_at: Millis,
}

impl Stats {
    /// Counters at zero.
    pub fn new(config: StatsConfig, now: Millis) -> Self {
        let sampler = Sampler {
            ticks: Ticks::default(),
            totals: Sampled::new(now, config.zone.clone()),
            logged_at: now,
        };
        Self {
            config,
            boot: now,
            totals: Totals::new(),
            broker: Cell::new(),
            topics: RwLock::default(),
            groups: RwLock::default(),
            sampler: Mutex::new(sampler),
        }
    }

    /// The counters of a topic. Keep the handle, but resolve it again when the topic table's generation changes:
    /// the handle of a deleted topic counts into the void.
    pub fn topic(&self, topic: &str) -> Arc<TopicCounters> {
        if let Some(found) = read(&self.topics).get(topic) {
            return Arc::clone(found);
        }
        let by_queue = self.config.detail;
        let fresh = || {
            Arc::new(TopicCounters {
                queues: PerQueue::new(),
                whole: Cell::new(),
                arrivals: Arrivals::default(),
                by_queue,
            })
        };
        Arc::clone(
            write(&self.topics)
                .entry(topic.into())
                .or_insert_with(fresh),
        )
    }

    /// The counters of a group's reads of a topic; the same advice as for [`Self::topic`].
    pub fn group_topic(&self, group: &str, topic: &str) -> Arc<GroupTopicCounters> {
        let key = group_topic(group, topic);
        if let Some(found) = read(&self.groups).get(&key) {
            return Arc::clone(found);
        }
        let by_queue = self.config.detail;
        let fresh = || {
            let (queues, whole, sent_back) = (PerQueue::new(), Cell::new(), Cell::new());
            Arc::new(GroupTopicCounters {
                queues,
                whole,
                sent_back,
                dead: AtomicU64::new(0),
                pulled: Mutex::default(),
                by_queue,
            })
        };
        Arc::clone(write(&self.groups).entry(key).or_insert_with(fresh))
    }

    /// One put of `messages` records with `bytes` bytes was stored in a topic's queue.
    pub fn stored(&self, topic: &TopicCounters, queue: QueueId, messages: u64, bytes: u64) {
        topic
            .queues
            .cell(topic.queue(queue))
            .add([1, messages, bytes]);
        self.totals.add(Counts {
            put_messages: messages,
            put_bytes: bytes,
            ..Counts::default()
        });
    }

    /// The store refused a put.
    pub fn send_failed(&self) {
        self.totals.add(Counts {
            put_failed: 1,
            ..Counts::default()
        });
    }

    /// One read handed `messages` records with `bytes` bytes to a group and took `ms` milliseconds.
    pub fn found(&self, group: &GroupTopicCounters, queue: QueueId, read: Read) {
        group
            .queues
            .cell(group.queue(queue))
            .add([1, read.messages, read.bytes, read.ms]);
        self.totals.add(Counts {
            get_found: 1,
            get_messages: read.messages,
            ..Counts::default()
        });
        self.totals.get_took(read.ms);
    }

    /// The broker itself took `messages` from a queue on a group's behalf (delayed deliveries): counted under the
    /// group, but not as handed out.
    pub fn delivered(&self, group: &GroupTopicCounters, queue: QueueId, messages: u64, bytes: u64) {
        group
            .queues
            .cell(group.queue(queue))
            .add([1, messages, bytes, 0]);
    }

    /// One read found nothing.
    pub fn missed(&self) {
        self.totals.add(Counts {
            get_missed: 1,
            ..Counts::default()
        });
    }

    /// A group sent a message of a topic back.
    pub fn sent_back(&self, group: &str, topic: &str) {
        self.group_topic(group, topic).sent_back.add([1]);
    }

    /// A message of a topic that a group sent back too often is a dead letter now.
    pub fn died(&self, group: &str, topic: &str) {
        self.group_topic(group, topic).dead.fetch_add(1, Relaxed);
    }

    /// The counters of every topic.
    pub fn topics(&self) -> Vec<(Box<str>, Arc<TopicCounters>)> {
        let topics = read(&self.topics);
        let all = topics.iter();
        all.map(|(topic, counters)| (topic.clone(), Arc::clone(counters)))
            .collect()
    }

    /// The counters of every group, by topic and group.
    pub fn groups(&self) -> FxHashMap<(Box<str>, Box<str>), Arc<GroupTopicCounters>> {
        let groups = read(&self.groups);
        let all = groups.iter();
        all.map(|(key, counters)| {
            let (topic, group) = split(key);
            ((topic.into(), group.into()), Arc::clone(counters))
        })
        .collect()
    }

    /// Forgets a deleted topic: its own items and those of every group that read it.
    pub fn topic_deleted(&self, topic: &str) {
        write(&self.topics).remove(topic);
        write(&self.groups).retain(|key, _| split(key).0 != topic);
    }

    /// Forgets a deleted group.
    pub fn group_deleted(&self, group: &str) {
        write(&self.groups).retain(|key, _| split(key).1 != group);
    }

    /// Messages a second a group read of a topic in the last minute (`tpsGroupGetNums`).
    pub fn group_tps(&self, group: &str, topic: &str) -> f64 {
        let Some(counters) = read(&self.groups)
            .get(&group_topic(group, topic))
            .map(Arc::clone)
        else {
            return 0.0;
        };
        counters
            .whole
            .figures(&self.sampler().ticks, Span::Minute, MESSAGES, Some(TIMES))
            .tps
    }

    /// One item by Java's name and key; `None` if the name is not ours or nothing was ever counted under the key.
    pub fn item(&self, name: &str, key: &str) -> Option<Item> {
        match name {
            "TOPIC_PUT_NUMS" => self.topic_item(key, MESSAGES),
            "TOPIC_PUT_SIZE" => self.topic_item(key, BYTES),
            "QUEUE_PUT_NUMS" => self.queue_put_item(key, MESSAGES),
            "QUEUE_PUT_SIZE" => self.queue_put_item(key, BYTES),
            "GROUP_GET_NUMS" => self.group_item(key, MESSAGES),
            "GROUP_GET_SIZE" => self.group_item(key, BYTES),
            "GROUP_GET_LATENCY" if !self.config.detail => self.group_item(key, MILLISECONDS),
            "GROUP_GET_LATENCY" => {
                let (queue, rest) = key.split_once('@')?;
                let (topic, group) = rest.split_once('@')?;
                self.queue_get_item(topic, queue, group, MILLISECONDS)
            }
            "QUEUE_GET_NUMS" => self.queue_get_key(key, MESSAGES),
            "QUEUE_GET_SIZE" => self.queue_get_key(key, BYTES),
            "SNDBCK_PUT_NUMS" => {
                let counters = read(&self.groups).get(key).map(Arc::clone)?;
                self.counted(&counters.sent_back, counters.sent_back.value(), 0, Some(0))
            }
            "BROKER_PUT_NUMS" if key == self.config.cluster => self.broker_item(0),
            "BROKER_GET_NUMS" if key == self.config.cluster => self.broker_item(1),
            _ => None,
        }
    }

    /// What the runtime info prints.
    pub fn runtime(&self) -> Runtime {
        let sampler = self.sampler();
        let sampled = &sampler.totals;
        Runtime {
            boot: self.boot,
            counts: self.totals.counts(),
            get_ms_max: self.totals.get_ms_max(),
            put_distribution: sampled.put_times.distribution_text(),
            put_latency_99: sampled.put_times.percentile_ms(0.99),
            put_latency_999: sampled.put_times.percentile_ms(0.999),
            put_rates: sampled.rates(|counts| counts.put_messages),
            found_rates: sampled.rates(|counts| counts.get_found),
            missed_rates: sampled.rates(|counts| counts.get_missed),
            transferred_rates: sampled.rates(|counts| counts.get_messages),
            yesterday: sampled.yesterday,
            today: sampled.today,
        }
    }

    /// Everything counted since the start.
    pub fn counts(&self) -> Counts {
        self.totals.counts()
    }

    /// Samples what is due and returns when to come back. Safe to call at any time, late or early. `commit_times` is
    /// what the store has counted since its start.
    pub fn step(&self, now: Millis, commit_times: &CommitTimes) -> Millis {
        let mut sampler = self.sampler();
        sampler.totals.sample(now, &self.totals, commit_times);
        for span in Span::ALL {
            // A due time more than one period ahead belongs to a clock that was set back since.
            let due = sampler
                .ticks
                .due(span)
                .is_none_or(|due| due <= now || now.0 + span.period_ms() < due.0);
            if due {
                sampler.ticks.push(span, now);
                self.sample_cells(span);
            }
        }
        if now < sampler.logged_at {
            sampler.logged_at = now;
        }
        let log = sampler.logged_at.0 + LOG_PERIOD_MS <= now.0;
        if log {
            sampler.logged_at = now;
        }
        drop(sampler);
        if log {
            self.log();
        }
        Millis(now.0 + STEP_MS)
    }

    fn sample_cells(&self, span: Span) {
        let counts = self.totals.counts();
        self.broker
            .sample(span, [counts.put_messages, counts.get_messages]);
        for counters in self.all_topics() {
            let counters = counters.1;
            for (_, cell) in counters.queues.iter().filter(|_| counters.by_queue) {
                cell.sample(span, cell.value());
            }
            counters.whole.sample(span, counters.queues.sum());
        }
        for (_, counters) in self.all_groups() {
            for (_, cell) in counters.queues.iter().filter(|_| counters.by_queue) {
                cell.sample(span, cell.value());
            }
            counters.whole.sample(span, counters.queues.sum());
            counters.sent_back.sample(span, counters.sent_back.value());
        }
    }

    /// One line for each topic and group that was busy in the last minute, in Java's words.
    fn log(&self) {
        let runtime = self.runtime();
        tracing::info!(
            target: "stats",
            "[STORETPS] put_tps {:.2} get_found_tps {:.2} get_miss_tps {:.2} get_transfered_tps {:.2}",
            runtime.put_rates[1],
            runtime.found_rates[1],
            runtime.missed_rates[1],
            runtime.transferred_rates[1],
        );
        tracing::info!(target: "stats", "[PAGECACHERT] PutMessageDistributeTime {}", runtime.put_distribution);
        for (topic, counters) in self.all_topics() {
            let sampler = self.sampler();
            let figures = |what| {
                counters
                    .whole
                    .figures(&sampler.ticks, Span::Minute, what, Some(TIMES))
            };
            log_item("TOPIC_PUT_NUMS", &topic, figures(MESSAGES));
            log_item("TOPIC_PUT_SIZE", &topic, figures(BYTES));
        }
        for (key, counters) in self.all_groups() {
            let sampler = self.sampler();
            let figures = |what| {
                counters
                    .whole
                    .figures(&sampler.ticks, Span::Minute, what, Some(TIMES))
            };
            log_item("GROUP_GET_NUMS", &key, figures(MESSAGES));
            log_item("GROUP_GET_SIZE", &key, figures(BYTES));
            log_item(
                "SNDBCK_PUT_NUMS",
                &key,
                counters
                    .sent_back
                    .figures(&sampler.ticks, Span::Minute, 0, Some(0)),
            );
        }
    }

    fn all_topics(&self) -> Vec<(Box<str>, Arc<TopicCounters>)> {
        read(&self.topics)
            .iter()
            .map(|(topic, counters)| (topic.clone(), Arc::clone(counters)))
            .collect()
    }

    fn all_groups(&self) -> Vec<(GroupTopic, Arc<GroupTopicCounters>)> {
        read(&self.groups)
            .iter()
            .map(|(key, counters)| (key.clone(), Arc::clone(counters)))
            .collect()
    }

    fn topic_item(&self, topic: &str, what: usize) -> Option<Item> {
        let counters = read(&self.topics).get(topic).map(Arc::clone)?;
        self.counted(&counters.whole, counters.queues.sum(), what, Some(TIMES))
    }

    fn group_item(&self, key: &str, what: usize) -> Option<Item> {
        let counters = read(&self.groups).get(key).map(Arc::clone)?;
        self.counted(&counters.whole, counters.queues.sum(), what, Some(TIMES))
    }

    fn queue_put_item(&self, key: &str, what: usize) -> Option<Item> {
        let (topic, queue) = key.split_once('@').filter(|_| self.config.detail)?;
        let counters = read(&self.topics).get(topic).map(Arc::clone)?;
        let cell = counters.queues.find(QueueId(queue.parse().ok()?))?;
        self.counted(cell, cell.value(), what, Some(TIMES))
    }

    fn queue_get_key(&self, key: &str, what: usize) -> Option<Item> {
        let (topic, rest) = key.split_once('@')?;
        let (queue, group) = rest.split_once('@')?;
        self.queue_get_item(topic, queue, group, what)
    }

    fn queue_get_item(&self, topic: &str, queue: &str, group: &str, what: usize) -> Option<Item> {
        if !self.config.detail {
            return None;
        }
        let counters = read(&self.groups)
            .get(&group_topic(group, topic))
            .map(Arc::clone)?;
        let cell = counters.queues.find(QueueId(queue.parse().ok()?))?;
        self.counted(cell, cell.value(), what, Some(TIMES))
    }

    /// The broker-wide items are not counted in steps, as Java's are not: their average is 0.
    fn broker_item(&self, what: usize) -> Option<Item> {
        let counts = self.totals.counts();
        self.counted(
            &self.broker,
            [counts.put_messages, counts.get_messages],
            what,
            None,
        )
    }

    fn counted<const N: usize>(
        &self,
        cell: &Cell<N>,
        value: [u64; N],
        what: usize,
        times: Option<usize>,
    ) -> Option<Item> {
        if value[times.unwrap_or(what)] == 0 {
            return None;
        }
        let sampler = self.sampler();
        let [minute, hour, day] =
            Span::ALL.map(|span| cell.figures(&sampler.ticks, span, what, times));
        Some(Item { minute, hour, day })
    }

    fn sampler(&self) -> MutexGuard<'_, Sampler> {
        // Numbers only: nothing is half done after a panic.
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one fruitful read brought.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Messages handed out.
    pub messages: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// How long it took.
    pub ms: u64,
}

fn group_topic(group: &str, topic: &str) -> GroupTopic {
    let mut key = String::with_capacity(topic.len() + 1 + group.len());
    key.push_str(topic);
    key.push('@');
    key.push_str(group);
    key.into_boxed_str()
}

fn split(key: &str) -> (&str, &str) {
    key.split_once('@').unwrap_or((key, ""))
}

fn log_item(name: &str, key: &str, figures: Figures) {
    if figures.times != 0 {
        let Figures {
            sum, tps, avgpt, ..
        } = figures;
        tracing::info!(
            target: "stats",
            "[{name}] [{key}] Stats In One Minute, SUM: {sum} TPS: {tps:.2} AVGPT: {avgpt:.2}"
        );
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(detail: bool) -> Stats {
        Stats::new(
            StatsConfig {
                cluster: "C".into(),
                detail,
                zone: TimeZone::UTC,
            },
            Millis(0),
        )
    }

    /// Two puts of three messages and one read of two, sampled once.
    fn busy(detail: bool) -> Stats {
        let stats = stats(detail);
        let topic = stats.topic("T");
        stats.stored(&topic, QueueId(0), 1, 100);
        stats.stored(&topic, QueueId(1), 2, 200);
        let group = stats.group_topic("G", "T");
        stats.found(
            &group,
            QueueId(1),
            Read {
                messages: 2,
                bytes: 250,
                ms: 7,
            },
        );
        stats.sent_back("G", "T");
        stats.step(Millis(10_000), &CommitTimes::default());
        stats
    }

    fn check(stats: &Stats, name: &str, key: &str, expected: Option<(u64, f64)>) {
        let got = stats.item(name, key);
        let got = got.map(|item| {
            assert_eq!(
                (item.minute.sum, item.minute.avgpt),
                (item.hour.sum, item.hour.avgpt),
                "{name} {key}"
            );
            assert_eq!(item.hour.sum, item.day.sum, "{name} {key}");
            (item.minute.sum, item.minute.avgpt)
        });
        assert_eq!(got, expected, "{name} {key}");
    }

    #[test]
    fn items_carry_javas_names_and_keys() {
        let stats = busy(true);
        for (name, key, expected) in [
            ("TOPIC_PUT_NUMS", "T", Some((3, 1.5))),
            ("TOPIC_PUT_SIZE", "T", Some((300, 150.0))),
            ("QUEUE_PUT_NUMS", "T@1", Some((2, 2.0))),
            ("QUEUE_PUT_SIZE", "T@1", Some((200, 200.0))),
            ("QUEUE_PUT_SIZE", "T@2", None),
            ("QUEUE_PUT_SIZE", "T@x", None),
            ("GROUP_GET_NUMS", "T@G", Some((2, 2.0))),
            ("GROUP_GET_SIZE", "T@G", Some((250, 250.0))),
            ("GROUP_GET_LATENCY", "1@T@G", Some((7, 7.0))),
            ("GROUP_GET_LATENCY", "T@G", None),
            ("QUEUE_GET_NUMS", "T@1@G", Some((2, 2.0))),
            ("QUEUE_GET_SIZE", "T@1@G", Some((250, 250.0))),
            ("QUEUE_GET_SIZE", "T@0@G", None),
            ("SNDBCK_PUT_NUMS", "T@G", Some((1, 1.0))),
            ("BROKER_PUT_NUMS", "C", Some((3, 0.0))),
            ("BROKER_GET_NUMS", "C", Some((2, 0.0))),
            ("BROKER_GET_NUMS", "other", None),
            ("TOPIC_PUT_NUMS", "unknown", None),
            ("NO_SUCH_ITEM", "T", None),
            ("GROUP_GET_NUMS", "", None),
        ] {
            check(&stats, name, key, expected);
        }
        assert_eq!(stats.group_tps("G", "T"), 0.2);
        assert_eq!(stats.group_tps("G", "other"), 0.0);
    }

    #[test]
    fn without_detail_nothing_is_kept_by_queue() {
        let stats = busy(false);
        for (name, key, expected) in [
            ("TOPIC_PUT_NUMS", "T", Some((3, 1.5))),
            ("QUEUE_PUT_NUMS", "T@0", None),
            ("QUEUE_GET_NUMS", "T@0@G", None),
            ("GROUP_GET_LATENCY", "T@G", Some((7, 7.0))),
            ("GROUP_GET_LATENCY", "0@T@G", None),
        ] {
            check(&stats, name, key, expected);
        }
    }

    #[test]
    fn a_handle_alone_makes_no_item() {
        let stats = stats(true);
        stats.topic("T");
        stats.group_topic("G", "T");
        stats.step(Millis(10_000), &CommitTimes::default());
        check(&stats, "TOPIC_PUT_NUMS", "T", None);
        check(&stats, "GROUP_GET_NUMS", "T@G", None);
        check(&stats, "BROKER_PUT_NUMS", "C", None);
    }

    #[test]
    fn deleted_topics_and_groups_leave_no_items_and_keep_the_totals() {
        let stats = busy(true);
        let other = stats.group_topic("G2", "T2");
        stats.found(
            &other,
            QueueId(0),
            Read {
                messages: 1,
                bytes: 10,
                ms: 0,
            },
        );
        stats.topic_deleted("T");
        check(&stats, "TOPIC_PUT_NUMS", "T", None);
        check(&stats, "GROUP_GET_NUMS", "T@G", None);
        assert!(stats.item("GROUP_GET_NUMS", "T2@G2").is_some());
        stats.group_deleted("G2");
        assert!(stats.item("GROUP_GET_NUMS", "T2@G2").is_none());
        assert_eq!(
            (stats.counts().put_messages, stats.counts().get_messages),
            (3, 3)
        );
    }

    #[test]
    fn a_step_asks_for_the_next_second_and_survives_a_clock_set_back() {
        let stats = busy(true);
        assert_eq!(
            stats.step(Millis(11_000), &CommitTimes::default()),
            Millis(12_000)
        );
        assert_eq!(
            stats.step(Millis(5_000), &CommitTimes::default()),
            Millis(6_000)
        );
        let item = stats.item("TOPIC_PUT_NUMS", "T").unwrap_or_default();
        assert_eq!(item.minute.sum, 3);
        stats.stored(&stats.topic("T"), QueueId(0), 4, 1);
        stats.step(Millis(-4_000_000), &CommitTimes::default());
        assert_eq!(
            stats
                .item("TOPIC_PUT_NUMS", "T")
                .unwrap_or_default()
                .minute
                .sum,
            7
        );
    }

    #[test]
    fn runtime_figures_are_complete_before_the_first_step() {
        let runtime = stats(true).runtime();
        assert_eq!(runtime.put_rates, [0.0; 3]);
        assert_eq!(runtime.put_latency_999, 0.0);
        assert!(runtime.put_distribution.ends_with("[10s~]:0 "));
    }
}
