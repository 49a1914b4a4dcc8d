//! How the broker is doing (28): the table of texts behind `brokerStatus`, `clusterList` and every exporter.
//!
//! All of Java's keys are there from the first second on, in Java's formats, because its tools take them apart. Keys
//! of parts that this broker does not have (thread pools, the transient buffer pool) say what Java says when those
//! parts are idle. What Java has no key for, how the broker stands in its pair and whether it takes messages, is under
//! keys that begin with `gantry`. Reads disk usage and therefore blocks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_disk::Disk;
use gantry_message::{Millis, topic};
use gantry_store::Store;
use gantry_wire::bodies::KvTable;
use gantry_wire::json::{self, Dialect};
use gantry_wire::{Response, version};

use super::Identity;
use crate::delay::Delay;
use crate::pairing::Pairing;
use crate::stats::{Rates, Runtime, Stats};

/// What this broker says it is; tools look the number up.
const VERSION: i32 = version::CURRENT;

/// The parts that runtime info is made of.
pub struct RuntimeInfo {
    /// Who this broker is.
    pub identity: Arc<Identity>,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Positions and disks.
    pub store: Arc<Store>,
    /// Where delay levels stand.
    pub delay: Arc<Delay>,
    /// Where the store is.
    pub paths: StorePaths,
    /// How full that is.
    pub disk: Arc<dyn Disk>,
    /// Its slaves, or its master.
    pub pairing: Arc<Pairing>,
}

/// The folders whose disks are shown.
#[derive(Clone, Debug)]
pub struct StorePaths {
    /// `storePathRootDir`.
    pub root: PathBuf,
    /// Every folder of `storePathCommitLog`.
    pub logs: Vec<PathBuf>,
    /// The consume queues.
    pub queues: PathBuf,
}

/// A text for each name.
type Table = BTreeMap<String, String>;

impl RuntimeInfo {
    /// Serves 28. Blocks.
    pub fn show(&self, now: Millis) -> Response {
        let mut table = Table::new();
        counters(&mut table, &self.stats.runtime(), now);
        self.store_figures(&mut table);
        self.queues(&mut table);
        self.pair(&mut table);
        Response::with_body(KvTable { table }.encode())
    }

    fn store_figures(&self, table: &mut Table) {
        let figures = self.store.figures();
        let used = |path: &Path| {
            self.disk
                .usage(path)
                .map_or(-1.0, |usage| percent(usage.used_percent()))
        };
        let of_log: Vec<f64> = self.paths.logs.iter().map(|path| used(path)).collect();
        for (path, ratio) in self.paths.logs.iter().zip(&of_log) {
            put(
                table,
                &format!("commitLogDiskRatio_{}", path.display()),
                double(*ratio),
            );
        }
        put(
            table,
            "commitLogDiskRatio",
            double(of_log.into_iter().reduce(f64::min).unwrap_or(-1.0)),
        );
        put(
            table,
            "consumeQueueDiskRatio",
            double(used(&self.paths.queues)),
        );
        if let Ok(usage) = self.disk.usage(&self.paths.root) {
            let (total, free) = (bytes(usage.total), bytes(usage.available));
            put(
                table,
                "commitLogDirCapacity",
                format_args!("Total : {total}, Free : {free}."),
            );
        }
        put(table, "commitLogMinOffset", self.store.min_offset());
        put(table, "commitLogMaxOffset", self.store.max_offset());
        put(
            table,
            "remainHowManyDataToFlush",
            bytes(figures.max_offset.saturating_sub(figures.flushed_offset)),
        );
        put(table, "dispatchBehindBytes", figures.queue_behind_bytes);
        put(table, "pageCacheLockTimeMills", figures.locked_ms);
        put(table, "putMessageEntireTimeMax", figures.put_slowest_ms);
        put(
            table,
            "earliestMessageTimeStamp",
            self.store.earliest_time().map_or(-1, |time| time.0),
        );
        for (level, next) in self.delay.positions() {
            let queue = self.store.find_queue(topic::SCHEDULE, level.queue());
            let max = queue.map(|queue| queue.max()).unwrap_or_default();
            put(
                table,
                &format!("scheduleMessageOffset_{}", level.number()),
                format_args!("{next},{max}"),
            );
        }
    }

    fn queues(&self, table: &mut Table) {
        let config = self.identity.live.now();
        put(table, "brokerVersionDesc", version::name(VERSION));
        put(table, "brokerVersion", VERSION);
        put(
            table,
            "startAcceptSendRequestTimeStamp",
            config.start_accept_send_request_time_stamp,
        );
        // Requests are served where they are read: nothing waits in a queue.
        for (name, capacity) in [
            ("send", config.send_thread_pool_queue_capacity),
            ("pull", config.pull_thread_pool_queue_capacity),
            ("query", config.query_thread_pool_queue_capacity),
        ] {
            put(table, &format!("{name}ThreadPoolQueueSize"), 0);
            put(table, &format!("{name}ThreadPoolQueueCapacity"), capacity);
            put(table, &format!("{name}ThreadPoolQueueHeadWaitTimeMills"), 0);
        }
        put(table, "EndTransactionQueueSize", 0);
        put(
            table,
            "EndTransactionThreadPoolQueueCapacity",
            config.end_transaction_pool_queue_capacity,
        );
        put(table, "remainTransientStoreBufferNumbs", i32::MAX);
    }
}

impl RuntimeInfo {
    fn pair(&self, table: &mut Table) {
        let status = self.pairing.status();
        let in_sync = status.slaves.iter().filter(|slave| slave.in_sync);
        put(table, "gantryInSyncSlaves", in_sync.count());
        let connected = status.slaves.iter().filter(|slave| slave.is_open);
        put(table, "gantryConnectedSlaves", connected.count());
        put(table, "gantryInSyncReplicas", status.in_sync_replicas);
        put(table, "gantryReplicatedOffset", status.replicated);
        put(table, "gantryBrokerRole", status.role);
        put(table, "gantrySlaveAckPolicy", status.slave_ack_policy);
        put(table, "gantryDegraded", status.degraded);
        put(table, "gantryEpoch", status.epoch.unwrap_or_default());
        put(table, "gantryFenced", status.is_fenced);
        put(table, "gantryReadOnly", status.read_only);
        let not_writable = status.not_writable.as_deref();
        put(table, "gantryTakesMessages", yes_or_why(not_writable));
        if let Some(follows) = status.following {
            put(table, "gantryFollows", follows.master.unwrap_or_default());
            put(table, "gantryFollowing", yes_or_why(follows.why.as_deref()));
        }
    }
}

/// `yes`, or `no` and why not.
fn yes_or_why(why_not: Option<&str>) -> String {
    why_not.map_or_else(|| "yes".to_owned(), |why| format!("no: {why}"))
}

fn counters(table: &mut Table, runtime: &Runtime, now: Millis) {
    let counts = runtime.counts;
    let times = counts.put_messages.max(1);
    put(table, "bootTimestamp", runtime.boot);
    put(table, "runtime", duration(now.since(runtime.boot)));
    put(table, "putMessageTimesTotal", times);
    put(table, "putMessageFailedTimes", counts.put_failed);
    put(table, "putMessageSizeTotal", counts.put_bytes);
    put(table, "putMessageDistributeTime", &runtime.put_distribution);
    put(
        table,
        "putMessageAverageSize",
        double(counts.put_bytes as f64 / times as f64),
    );
    // Nothing waits between the log and the queues.
    put(table, "dispatchMaxBuffer", 0);
    put(table, "getMessageEntireTimeMax", runtime.get_ms_max);
    put(table, "putTps", rates(runtime.put_rates));
    put(table, "getFoundTps", rates(runtime.found_rates));
    put(table, "getMissTps", rates(runtime.missed_rates));
    let total = std::array::from_fn(|at| runtime.found_rates[at] + runtime.missed_rates[at]);
    put(table, "getTotalTps", rates(total));
    put(table, "getTransferedTps", rates(runtime.transferred_rates));
    put(
        table,
        "putLatency99",
        format_args!("{:.2}", runtime.put_latency_99),
    );
    put(
        table,
        "putLatency999",
        format_args!("{:.2}", runtime.put_latency_999),
    );
    put(
        table,
        "msgPutTotalYesterdayMorning",
        runtime.yesterday.put_total,
    );
    put(table, "msgPutTotalTodayMorning", runtime.today.put_total);
    put(table, "msgPutTotalTodayNow", counts.put_messages);
    put(
        table,
        "msgGetTotalYesterdayMorning",
        runtime.yesterday.get_total,
    );
    put(table, "msgGetTotalTodayMorning", runtime.today.get_total);
    put(table, "msgGetTotalTodayNow", counts.get_messages);
}

fn put(table: &mut Table, name: &str, value: impl std::fmt::Display) {
    table.insert(name.to_owned(), value.to_string());
}

/// Java shows whole percents as a fraction.
fn percent(percent: u64) -> f64 {
    percent as f64 / 100.0
}

/// As Java's `Double.toString`.
fn double(value: f64) -> String {
    String::from_utf8_lossy(&json::print(&value, Dialect::Compact)).into_owned()
}

fn rates(rates: Rates) -> String {
    rates.map(double).join(" ")
}

/// `[ 0 days, 1 hours, 2 minutes, 3 seconds ]`; Java groups the digits of numbers from a thousand on.
fn duration(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let (days, hours) = (grouped(seconds / 86_400), seconds / 3_600 % 24);
    format!(
        "[ {days} days, {hours} hours, {} minutes, {} seconds ]",
        seconds / 60 % 60,
        seconds % 60
    )
}

fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at != 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.5 KiB`, one digit behind the point, rounded half up as Java does.
fn bytes(count: u64) -> String {
    if count < 1_024 {
        return format!("{count} B");
    }
    let power = (count.ilog2() / 10).min(6);
    let unit = ["K", "M", "G", "T", "P", "E"]
        .get(power as usize - 1)
        .copied()
        .unwrap_or("E");
    let tenths = (u128::from(count) * 10 + (1u128 << (power * 10 - 1))) >> (power * 10);
    format!("{}.{} {unit}iB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use gantry_message::QueueId;

    use super::*;
    use crate::stats::{Read, StatsConfig};

    #[test]
    fn sizes_print_as_javas_do() {
        for (count, expected) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (1_587, "1.5 KiB"),
            (1_588, "1.6 KiB"),
            (1_048_575, "1024.0 KiB"),
            (1_048_576, "1.0 MiB"),
            (105_553_116_266, "98.3 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), expected, "{count}");
        }
    }

    #[test]
    fn durations_print_as_javas_do() {
        for (ms, expected) in [
            (-5, "[ 0 days, 0 hours, 0 minutes, 0 seconds ]"),
            (999, "[ 0 days, 0 hours, 0 minutes, 0 seconds ]"),
            (90_061_000, "[ 1 days, 1 hours, 1 minutes, 1 seconds ]"),
            (
                1_234_567 * 86_400_000,
                "[ 1,234,567 days, 0 hours, 0 minutes, 0 seconds ]",
            ),
        ] {
            assert_eq!(duration(ms), expected);
        }
    }

    /// What mqadmin takes apart must be there before the first sample, and in the form it expects.
    #[test]
    fn counters_are_complete_from_the_first_moment_on() {
        let stats = Stats::new(
            StatsConfig {
                cluster: "C".into(),
                detail: true,
                zone: jiff::tz::TimeZone::UTC,
            },
            Millis(0),
        );
        let mut table = Table::new();
        counters(&mut table, &stats.runtime(), Millis(1));
        for name in [
            "putTps",
            "getFoundTps",
            "getMissTps",
            "getTotalTps",
            "getTransferedTps",
        ] {
            assert_eq!(
                table.get(name).map(String::as_str),
                Some("0.0 0.0 0.0"),
                "{name}"
            );
        }
        assert_eq!(table["putMessageTimesTotal"], "1");
        assert_eq!(table["putMessageAverageSize"], "0.0");
        assert_eq!(table["putLatency99"], "0.00");
        assert_eq!(table["msgPutTotalTodayNow"], "0");

        let (topic, group) = (stats.topic("T"), stats.group_topic("G", "T"));
        stats.stored(&topic, QueueId(0), 2, 301);
        stats.found(
            &group,
            QueueId(0),
            Read {
                messages: 1,
                bytes: 100,
                ms: 3,
            },
        );
        stats.missed();
        stats.step(Millis(10_000), &Default::default());
        let mut table = Table::new();
        counters(&mut table, &stats.runtime(), Millis(10_000));
        assert_eq!(table["putTps"], "0.2 0.2 0.2");
        assert_eq!(table["getTotalTps"], "0.2 0.2 0.2");
        assert_eq!(table["getTransferedTps"], "0.1 0.1 0.1");
        assert_eq!(table["putMessageAverageSize"], "150.5");
        assert_eq!(table["getMessageEntireTimeMax"], "3");
        assert_eq!(
            (
                &*table["msgPutTotalTodayNow"],
                &*table["msgGetTotalTodayNow"]
            ),
            ("2", "1")
        );
    }
}
