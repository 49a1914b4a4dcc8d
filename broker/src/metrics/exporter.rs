//! The families of Apache's exporter for 4.x that one broker knows: names, labels and help as the exporter has them, all
//! of them gauges. Those that are about the cluster as a whole are not here (decision 22 of the specification).
//!
//! Numbers mean what the exporter's mean, and are read from the parts that answer its requests; only what it computes
//! wrongly (the unit of what is to be flushed) is right here.

use std::collections::BTreeMap;

use gantry_message::{Millis, topic};
use gantry_service::metrics::{Families, Kind, float};
use gantry_store::Store;
use gantry_wire::version;

use super::{objects::is_of_a_group, progress::Progress};
use crate::{
    clients::Clients,
    config::BrokerConfig,
    stats::{Item, Stats},
    tables::Topics,
};

/// What the families are read from.
pub(super) struct Exporter<'a> {
    pub(super) config: &'a BrokerConfig,
    pub(super) store: &'a Store,
    pub(super) topics: &'a Topics,
    pub(super) clients: &'a Clients,
    pub(super) stats: &'a Stats,
}

/// Adds how far slaves are behind: the address of each, and bytes of the log. Where several cannot be told apart the
/// furthest behind counts.
pub(super) fn commitlog_diffs(out: &mut Families, config: &BrokerConfig, slaves: &[(String, u64)]) {
    let (family, help) = ("rocketmq_broker_commitlog_diff", "brokerCommitLogDiffGauge");
    out.declare(family, help, Kind::Gauge);
    let mut diffs: BTreeMap<&str, u64> = BTreeMap::new();
    for (address, behind) in slaves {
        let diff = diffs.entry(address).or_default();
        *diff = (*diff).max(*behind);
    }
    for (address, diff) in diffs {
        let labels = &[
            ("cluster", &*config.broker_cluster_name),
            ("brokerIP", address),
            ("broker", &*config.broker_name),
        ];
        out.gauge(family, help, labels, float(diff));
    }
}

/// Adds the families.
pub(super) fn collect(
    out: &mut Families,
    broker: &Exporter<'_>,
    progress: &[Progress],
    now: Millis,
) {
    broker.runtime(out);
    broker.broker(out);
    broker.topics(out);
    broker.producers(out);
    broker.groups(out, progress, now);
}

impl Exporter<'_> {
    /// What `brokerStatus` shows.
    fn runtime(&self, out: &mut Families) {
        let (config, runtime, figures) = (self.config, self.stats.runtime(), self.store.figures());
        let address = config.broker_address();
        let (release, boot) = (version::name(version::CURRENT), runtime.boot.0.to_string());
        let number = version::CURRENT.to_string();
        let labels = [
            ("cluster", &*config.broker_cluster_name),
            ("brokerIP", &address),
            ("brokerHost", ""),
            ("des", &release),
            ("boottime", &boot),
            ("broker_version", &number),
        ];
        let counts = runtime.counts;
        // RocketMQ never divides by zero here.
        let times = float(counts.put_messages.max(1));
        let put_times = put_times(&runtime.put_distribution);
        let usage = self
            .store
            .disks()
            .into_iter()
            .next()
            .and_then(|(_, usage)| usage);
        let (free, total) = usage.map_or((0.0, 0.0), |usage| {
            (float(usage.available), float(usage.total))
        });
        for (name, help, value) in [
            ("pmdt_0ms", "PutMessageDistributeTimeMap0ms", put_times[0]),
            (
                "pmdt_0to10ms",
                "PutMessageDistributeTimeMap0to10ms",
                put_times[1],
            ),
            (
                "pmdt_10to50ms",
                "PutMessageDistributeTimeMap10to50ms",
                put_times[2],
            ),
            (
                "pmdt_50to100ms",
                "PutMessageDistributeTimeMap50to100ms",
                put_times[3],
            ),
            (
                "pmdt_100to200ms",
                "PutMessageDistributeTimeMap100to200ms",
                put_times[4],
            ),
            (
                "pmdt_200to500ms",
                "PutMessageDistributeTimeMap200to500ms",
                put_times[5],
            ),
            (
                "pmdt_500to1s",
                "PutMessageDistributeTimeMap500to1s",
                put_times[6],
            ),
            (
                "pmdt_1to2s",
                "PutMessageDistributeTimeMap1to2s",
                put_times[7],
            ),
            (
                "pmdt_2to3s",
                "PutMessageDistributeTimeMap2to3s",
                put_times[8],
            ),
            (
                "pmdt_3to4s",
                "PutMessageDistributeTimeMap3to4s",
                put_times[9],
            ),
            (
                "pmdt_4to5s",
                "PutMessageDistributeTimeMap4to5s",
                put_times[10],
            ),
            (
                "pmdt_5to10s",
                "PutMessageDistributeTimeMap5to10s",
                put_times[11],
            ),
            (
                "pmdt_10stomore",
                "PutMessageDistributeTimeMap10toMore",
                put_times[12],
            ),
            (
                "msg_put_total_today_now",
                "brokerRuntimeMsgPutTotalTodayNow",
                float(counts.put_messages),
            ),
            (
                "msg_gettotal_today_now",
                "brokerRuntimeMsgGetTotalTodayNow",
                float(counts.get_messages),
            ),
            (
                "dispatch_behind_bytes",
                "brokerRuntimeDispatchBehindBytes",
                float(figures.queue_behind_bytes),
            ),
            (
                "put_message_size_total",
                "brokerRuntimePutMessageSizeTotal",
                float(counts.put_bytes),
            ),
            (
                "put_message_average_size",
                "brokerRuntimePutMessageAverageSize",
                float(counts.put_bytes) / times,
            ),
            (
                "query_threadpool_queue_capacity",
                "brokerRuntimeQueryThreadPoolQueueCapacity",
                float(config.query_thread_pool_queue_capacity.into()),
            ),
            (
                "remain_transientstore_buffer_numbs",
                "brokerRuntimeRemainTransientStoreBufferNumbs",
                f64::from(i32::MAX),
            ),
            (
                "earliest_message_timestamp",
                "brokerRuntimeEarliestMessageTimeStamp",
                self.store.earliest_time().map_or(-1.0, millis),
            ),
            (
                "putmessage_entire_time_max",
                "brokerRuntimePutMessageEntireTimeMax",
                float(figures.put_slowest_ms),
            ),
            (
                "start_accept_sendrequest_time",
                "brokerRuntimeStartAcceptSendRequestTimeStamp",
                float(config.start_accept_send_request_time_stamp),
            ),
            (
                "send_threadpool_queue_size",
                "brokerRuntimeSendThreadPoolQueueSize",
                0.0,
            ),
            (
                "putmessage_times_total",
                "brokerRuntimePutMessageTimesTotal",
                times,
            ),
            (
                "getmessage_entire_time_max",
                "brokerRuntimeGetMessageEntireTimeMax",
                float(runtime.get_ms_max),
            ),
            (
                "pagecache_lock_time_mills",
                "brokerRuntimePageCacheLockTimeMills",
                float(figures.locked_ms),
            ),
            (
                "commitlog_disk_ratio",
                "brokerRuntimeCommitLogDiskRatio",
                ratio(figures.disks.log),
            ),
            (
                "consumequeue_disk_ratio",
                "brokerRuntimeConsumeQueueDiskRatio",
                ratio(figures.disks.queues),
            ),
            (
                "getfound_tps600",
                "brokerRuntimeGetFoundTps600",
                runtime.found_rates[2],
            ),
            (
                "getfound_tps60",
                "brokerRuntimeGetFoundTps60",
                runtime.found_rates[1],
            ),
            (
                "getfound_tps10",
                "brokerRuntimeGetFoundTps10",
                runtime.found_rates[0],
            ),
            (
                "gettotal_tps600",
                "brokerRuntimeGetTotalTps600",
                runtime.found_rates[2] + runtime.missed_rates[2],
            ),
            (
                "gettotal_tps60",
                "brokerRuntimeGetTotalTps60",
                runtime.found_rates[1] + runtime.missed_rates[1],
            ),
            (
                "gettotal_tps10",
                "brokerRuntimeGetTotalTps10",
                runtime.found_rates[0] + runtime.missed_rates[0],
            ),
            (
                "gettransfered_tps600",
                "brokerRuntimeGetTransferedTps600",
                runtime.transferred_rates[2],
            ),
            (
                "gettransfered_tps60",
                "brokerRuntimeGetTransferedTps60",
                runtime.transferred_rates[1],
            ),
            (
                "gettransfered_tps10",
                "brokerRuntimeGetTransferedTps10",
                runtime.transferred_rates[0],
            ),
            (
                "getmiss_tps600",
                "brokerRuntimeGetMissTps600",
                runtime.missed_rates[2],
            ),
            (
                "getmiss_tps60",
                "brokerRuntimeGetMissTps60",
                runtime.missed_rates[1],
            ),
            (
                "getmiss_tps10",
                "brokerRuntimeGetMissTps10",
                runtime.missed_rates[0],
            ),
            ("put_tps600", "brokerRuntimePutTps600", runtime.put_rates[2]),
            ("put_tps60", "brokerRuntimePutTps60", runtime.put_rates[1]),
            ("put_tps10", "brokerRuntimePutTps10", runtime.put_rates[0]),
            ("dispatch_maxbuffer", "brokerRuntimeDispatchMaxBuffer", 0.0),
            (
                "pull_threadpoolqueue_capacity",
                "brokerRuntimePullThreadPoolQueueCapacity",
                float(config.pull_thread_pool_queue_capacity.into()),
            ),
            (
                "send_threadpoolqueue_capacity",
                "brokerRuntimeSendThreadPoolQueueCapacity",
                float(config.send_thread_pool_queue_capacity.into()),
            ),
            (
                "pull_threadpoolqueue_size",
                "brokerRuntimePullThreadPoolQueueSizeF",
                0.0,
            ),
            (
                "query_threadpoolqueue_size",
                "brokerRuntimeQueryThreadPoolQueueSize",
                0.0,
            ),
            (
                "pull_threadpoolqueue_headwait_timemills",
                "brokerRuntimePullThreadPoolQueueHeadWaitTimeMills",
                0.0,
            ),
            (
                "query_threadpoolqueue_headwait_timemills",
                "brokerRuntimeQueryThreadPoolQueueHeadWaitTimeMills",
                0.0,
            ),
            (
                "send_threadpoolqueue_headwait_timemills",
                "brokerRuntimeSendThreadPoolQueueHeadWaitTimeMills",
                0.0,
            ),
            (
                "msg_gettotal_yesterdaymorning",
                "brokerRuntimeMsgGetTotalYesterdayMorning",
                float(runtime.yesterday.get_total),
            ),
            (
                "msg_puttotal_yesterdaymorning",
                "brokerRuntimeMsgPutTotalYesterdayMorning",
                float(runtime.yesterday.put_total),
            ),
            (
                "msg_gettotal_todaymorning",
                "brokerRuntimeMsgGetTotalTodayMorning",
                float(runtime.today.get_total),
            ),
            (
                "msg_puttotal_todaymorning",
                "brokerRuntimeMsgPutTotalTodayMorning",
                float(runtime.today.put_total),
            ),
            (
                "commitlogdir_capacity_free",
                "brokerRuntimeCommitLogDirCapacityFree",
                free,
            ),
            (
                "commitlogdir_capacity_total",
                "brokerRuntimeCommitLogDirCapacityTotal",
                total,
            ),
            (
                "commitlog_maxoffset",
                "brokerRuntimeCommitLogMaxOffset",
                float(figures.max_offset),
            ),
            (
                "commitlog_minoffset",
                "brokerRuntimeCommitLogMinOffset",
                float(figures.min_offset),
            ),
            (
                "remain_howmanydata_toflush",
                "brokerRuntimeRemainHowManyDataToFlush",
                float(figures.max_offset.saturating_sub(figures.flushed_offset)),
            ),
            (
                "put_latency_99",
                "brokerRuntimePutLatency99",
                runtime.put_latency_99,
            ),
            (
                "put_latency_999",
                "brokerRuntimePutLatency999",
                runtime.put_latency_999,
            ),
        ] {
            let name = format!("rocketmq_brokeruntime_{name}");
            out.gauge(&name, help, &labels, value);
        }
    }

    fn broker(&self, out: &mut Families) {
        let (cluster, name) = (&*self.config.broker_cluster_name, &*self.config.broker_name);
        let address = self.config.broker_address();
        let labels = &[
            ("cluster", cluster),
            ("brokerIP", &*address),
            ("broker", name),
        ];
        for (family, help, item) in [
            ("rocketmq_broker_tps", "BrokerPutNums", "BROKER_PUT_NUMS"),
            ("rocketmq_broker_qps", "BrokerGetNums", "BROKER_GET_NUMS"),
        ] {
            let item = self.stats.item(item, cluster).unwrap_or_default();
            out.gauge(family, help, labels, rate(item));
        }
    }

    fn topics(&self, out: &mut Families) {
        let (cluster, broker) = (&*self.config.broker_cluster_name, &*self.config.broker_name);
        for name in self.topics.all().entries.keys() {
            let queues = self.store.queues_of(name);
            let end = queues.iter().map(|queue| queue.max().0).sum();
            let labels = &[("cluster", cluster), ("broker", broker), ("topic", &**name)];
            if let Some(group) = name.strip_prefix(topic::DLQ_PREFIX) {
                let labels = &[("cluster", cluster), ("broker", broker), ("group", group)];
                out.gauge(
                    "rocketmq_topic_dlq_offset",
                    "TopicRetryOffset",
                    labels,
                    float(end),
                );
            } else if name.starts_with(topic::RETRY_PREFIX) {
                out.gauge(
                    "rocketmq_topic_retry_offset",
                    "TopicRetryOffset",
                    labels,
                    float(end),
                );
            } else {
                out.gauge(
                    "rocketmq_producer_offset",
                    "TopicOffset",
                    labels,
                    float(end),
                );
                for (family, help, item) in [
                    ("rocketmq_producer_tps", "TopicPutNums", "TOPIC_PUT_NUMS"),
                    (
                        "rocketmq_producer_message_size",
                        "TopicPutMessageSize",
                        "TOPIC_PUT_SIZE",
                    ),
                ] {
                    if let Some(item) = self.stats.item(item, name) {
                        out.gauge(family, help, labels, rate(item));
                    }
                }
            }
        }
    }

    fn producers(&self, out: &mut Families) {
        for group in self.clients.producer_groups() {
            let labels = &[
                ("cluster", &*self.config.broker_cluster_name),
                ("broker", &*self.config.broker_name),
                ("group", &*group.name),
            ];
            out.gauge(
                "rocketmq_producer_count",
                "producer instance counter",
                labels,
                float(group.members.len() as u64),
            );
        }
    }

    fn groups(&self, out: &mut Families, progress: &[Progress], now: Millis) {
        // The exporter declares these two and never fills them.
        for (family, help) in [
            ("rocketmq_group_consume_tps", "GroupConsumeTPS"),
            (
                "rocketmq_group_consume_total_offset",
                "GroupConsumeTotalOffset",
            ),
        ] {
            out.declare(family, help, Kind::Gauge);
        }
        for of in progress.iter().filter(|of| !is_of_a_group(&of.topic)) {
            let labels = &[
                ("cluster", &*self.config.broker_cluster_name),
                ("broker", &*self.config.broker_name),
                ("topic", &*of.topic),
                ("group", &*of.group),
            ];
            out.gauge(
                "rocketmq_consumer_offset",
                "GroupBrokerTotalOffset",
                labels,
                float(of.consumed),
            );
            if let Some(age) = of.waiting_since.age_ms(now) {
                out.gauge(
                    "rocketmq_group_get_latency_by_storetime",
                    "GroupGetLatencyByStoreTime",
                    labels,
                    float(age),
                );
            }
            let key = format!("{}@{}", of.topic, of.group);
            for (family, help, item) in [
                ("rocketmq_consumer_tps", "GroupGetNums", "GROUP_GET_NUMS"),
                (
                    "rocketmq_consumer_message_size",
                    "GroupGetMessageSize",
                    "GROUP_GET_SIZE",
                ),
            ] {
                if let Some(item) = self.stats.item(item, &key) {
                    out.gauge(family, help, labels, rate(item));
                }
            }
            if let Some(item) = self.stats.item("SNDBCK_PUT_NUMS", &key) {
                let sum = float(item.minute.sum);
                out.gauge("rocketmq_send_back_nums", "SendBackNums", labels, sum);
            }
        }
    }
}

/// A second, over the last minute, with two digits as the exporter rounds.
fn rate(item: Item) -> f64 {
    (item.minute.tps * 100.0).round() / 100.0
}

fn ratio(percent: Option<u64>) -> f64 {
    percent.map_or(-1.0, |percent| float(percent) / 100.0)
}

fn millis(time: Millis) -> f64 {
    time.0 as f64
}

/// The counts of `[<=0ms]:12 [0~10ms]:0 ...`.
fn put_times(text: &str) -> [f64; 13] {
    let mut counts = [0.0; 13];
    for (count, part) in counts.iter_mut().zip(text.split_ascii_whitespace()) {
        let number = part
            .rsplit_once(':')
            .and_then(|(_, number)| number.parse().ok());
        *count = number.unwrap_or(0.0);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn put_times_are_taken_apart_as_the_exporter_does() {
        let text = "[<=0ms]:12 [0~10ms]:3 [10~50ms]:0 [50~100ms]:0 [100~200ms]:0 [200~500ms]:0 [500ms~1s]:0 [1~2s]:0 \
                    [2~3s]:0 [3~4s]:0 [4~5s]:0 [5~10s]:0 [10s~]:7 ";
        let counts = put_times(text);
        assert_eq!(
            (counts[0], counts[1], counts[2], counts[12]),
            (12.0, 3.0, 0.0, 7.0)
        );
        assert_eq!(put_times("null"), [0.0; 13]);
    }
}
