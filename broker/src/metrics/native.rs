//! The families of a RocketMQ 5 broker that a broker of 4.x has: names and labels as from 5.1.4 on.
//!
//! Names with a unit of their own keep it, odd ones too: dashboards are built on them. What transactions, pop consumers
//! and the timer wheel export in 5.x has no meaning here and is not there.

use std::collections::BTreeMap;

use gantry_message::{Millis, topic};
use gantry_service::metrics::{Families, Histogram, float};
use gantry_store::Store;
use gantry_wire::bodies::ConsumeType;

use super::{
    NATIVE_LABELS,
    objects::{by_release, is_of_a_group},
    progress::Progress,
};
use crate::{
    clients::Clients,
    config::BrokerConfig,
    latch,
    stats::{MessageKind, SIZE_ENDS, Stats},
    tables::{Groups, Topics, is_system_group},
};

/// What the families are read from.
pub(super) struct Native<'a> {
    pub(super) config: &'a BrokerConfig,
    pub(super) store: &'a Store,
    pub(super) topics: &'a Topics,
    pub(super) groups: &'a Groups,
    pub(super) clients: &'a Clients,
    pub(super) stats: &'a Stats,
}

/// Names of the request queues of a 5.x broker that this one serves; nothing waits in queues here.
const PROCESSORS: [&str; 9] = [
    "send",
    "pull",
    "query_message",
    "client_manager",
    "heartbeat",
    "transaction",
    "consumer_manager",
    "admin",
    "reply",
];

/// Adds the families.
pub(super) fn collect(out: &mut Families, broker: &Native<'_>, progress: &[Progress], now: Millis) {
    let mut out = Labelled {
        out,
        own: [
            (NATIVE_LABELS[0], "broker"),
            (NATIVE_LABELS[1], &broker.config.broker_cluster_name),
            (NATIVE_LABELS[2], &broker.config.broker_name),
        ],
    };
    broker.broker(&mut out);
    broker.storage(&mut out, now);
    broker.clients(&mut out);
    broker.topics(&mut out);
    broker.groups(&mut out, progress, now);
}

/// Puts the labels of the broker before those of a series.
struct Labelled<'a> {
    out: &'a mut Families,
    own: [(&'static str, &'a str); 3],
}

impl Labelled<'_> {
    fn all<'l>(&'l self, labels: &[(&'l str, &'l str)]) -> Vec<(&'l str, &'l str)> {
        self.own
            .iter()
            .map(|(name, value)| (*name, *value))
            .chain(labels.iter().copied())
            .collect()
    }

    fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
        let own = self.own;
        let all: Vec<_> = own.iter().copied().chain(labels.iter().copied()).collect();
        self.out.gauge(name, help, &all, float(value));
    }

    fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
        let own = self.own;
        let all: Vec<_> = own.iter().copied().chain(labels.iter().copied()).collect();
        self.out.counter(name, help, &all, value);
    }
}

impl Native<'_> {
    fn broker(&self, out: &mut Labelled<'_>) {
        for processor in PROCESSORS {
            out.gauge(
                "rocketmq_processor_watermark",
                "Requests that wait for a thread. None ever does here.",
                &[("processor", processor)],
                0,
            );
        }
        out.gauge(
            "rocketmq_broker_permission",
            "What clients may do: 6 read and write, 4 read only, 2 write only.",
            &[],
            latch::permission(self.config, self.store).into(),
        );
        out.gauge(
            "rocketmq_topic_number",
            "Topics.",
            &[],
            self.topics.all().entries.len() as u64,
        );
        out.gauge(
            "rocketmq_consumer_group_number",
            "Consumer groups.",
            &[],
            self.groups.all().entries.len() as u64,
        );
    }

    fn storage(&self, out: &mut Labelled<'_>, now: Millis) {
        let figures = self.store.figures();
        let labels = &[("storage_type", "local"), ("storage_medium", "disk")];
        if let Some((_, Some(usage))) = self.store.disks().into_iter().next() {
            out.gauge(
                "rocketmq_storage_size_bytes",
                "Used space of the file system of the log.",
                labels,
                usage.total.saturating_sub(usage.free),
            );
        }
        out.gauge(
            "rocketmq_storage_flush_behind_bytes",
            "Bytes of the log that are not known to be on the disk.",
            labels,
            figures.max_offset.saturating_sub(figures.flushed_offset),
        );
        out.gauge(
            "rocketmq_storage_dispatch_behind_bytes",
            "Bytes of the log whose queue entries are not yet in files.",
            labels,
            figures.queue_behind_bytes,
        );
        let earliest = self.store.earliest_time();
        let age = earliest.map_or(0, |time| now.since(time).max(0));
        out.gauge(
            "rocketmq_storage_message_reserve_time_milliseconds",
            "Age of the oldest message.",
            labels,
            age.unsigned_abs(),
        );
    }

    fn clients(&self, out: &mut Labelled<'_>) {
        let producers = self.clients.producer_groups();
        for ((language, release), count) in by_release(producers.iter().map(|group| &group.members))
        {
            out.gauge(
                "rocketmq_producer_connections",
                "Connections of producers.",
                &[
                    ("language", &language),
                    ("version", &release),
                    ("protocol_type", "remoting"),
                ],
                count,
            );
        }
        for group in self.clients.consumers() {
            let mode = match group.consume_type {
                ConsumeType::Actively => "pull",
                _ => "push",
            };
            let system = word(is_system_group(&group.name));
            for ((language, release), count) in by_release(std::iter::once(&group.members)) {
                out.gauge(
                    "rocketmq_consumer_connections",
                    "Connections of consumers.",
                    &[
                        ("consumer_group", &group.name),
                        ("language", &language),
                        ("version", &release),
                        ("consume_mode", mode),
                        ("protocol_type", "remoting"),
                        ("is_system", system),
                    ],
                    count,
                );
            }
        }
    }

    fn topics(&self, out: &mut Labelled<'_>) {
        for (name, counters) in self.stats.topics() {
            if self.topics.get(&name).is_none() || is_of_a_group(&name) {
                continue;
            }
            let system = word(self.topics.is_system(&name));
            for kind in MessageKind::ALL {
                let arrived = counters.arrived(kind);
                if arrived.messages == 0 {
                    continue;
                }
                let labels = &[
                    ("topic", &*name),
                    ("message_type", kind.as_str()),
                    ("is_system", system),
                ];
                out.counter(
                    "rocketmq_messages_in_total",
                    "Messages sent to a topic.",
                    labels,
                    arrived.messages,
                );
                out.counter(
                    "rocketmq_throughput_in_total",
                    "Bytes of messages sent to a topic.",
                    labels,
                    arrived.bytes,
                );
                let ends = SIZE_ENDS.map(float);
                let ranges: Vec<_> = ends.into_iter().zip(arrived.sizes).collect();
                let sizes = Histogram {
                    ranges: &ranges,
                    beyond: arrived.sizes.last().copied().unwrap_or(0),
                    sum: float(arrived.bytes),
                };
                let all = out.all(labels);
                let all: Vec<(String, String)> = all
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                let all: Vec<(&str, &str)> =
                    all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                out.out.histogram(
                    "rocketmq_message_size",
                    "Size of a message's record in bytes.",
                    &all,
                    &sizes,
                );
            }
        }
    }

    fn groups(&self, out: &mut Labelled<'_>, progress: &[Progress], now: Millis) {
        let mut dead: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for of in progress {
            let system = self.topics.is_system(&of.topic) || is_system_group(&of.group);
            let retry = of.topic.starts_with(topic::RETRY_PREFIX);
            let (system, retry) = (word(system), word(retry));
            let labels = &[
                ("consumer_group", &*of.group),
                ("topic", &*of.topic),
                ("is_retry", retry),
                ("is_system", system),
            ];
            for (name, help, value) in [
                (
                    "rocketmq_consumer_lag_messages",
                    "Messages behind the positions of a group.",
                    Some(of.lag),
                ),
                (
                    "rocketmq_consumer_lag_latency_milliseconds",
                    "How long ago the first message was stored that a group has not consumed.",
                    of.waiting_since.age_ms(now),
                ),
                (
                    "rocketmq_consumer_inflight_messages",
                    "Messages that a group has pulled and not consumed.",
                    Some(of.inflight),
                ),
                (
                    "rocketmq_consumer_queueing_latency_milliseconds",
                    "How long ago the first message was stored that a group has not pulled.",
                    of.unpulled_since.age_ms(now),
                ),
                (
                    "rocketmq_consumer_ready_messages",
                    "Messages that a group has not pulled.",
                    Some(of.ready),
                ),
            ] {
                if let Some(value) = value {
                    out.gauge(name, help, labels, value);
                }
            }
            let Some(counters) = &of.counters else {
                continue;
            };
            *dead.entry((&of.group, &of.topic)).or_default() += counters.dead();
            if is_of_a_group(&of.topic) {
                continue;
            }
            let labels = &[
                ("topic", &*of.topic),
                ("consumer_group", &*of.group),
                ("is_system", system),
            ];
            let (messages, bytes) = counters.handed_out();
            out.counter(
                "rocketmq_messages_out_total",
                "Messages handed out to a group.",
                labels,
                messages,
            );
            out.counter(
                "rocketmq_throughput_out_total",
                "Bytes of messages handed out to a group.",
                labels,
                bytes,
            );
        }
        for ((group, topic), count) in dead {
            if 0 < count {
                let system = word(is_system_group(group));
                out.counter(
                    "rocketmq_send_to_dlq_messages_total",
                    "Messages that a group sent back too often.",
                    &[
                        ("consumer_group", group),
                        ("topic", topic),
                        ("is_system", system),
                    ],
                    count,
                );
            }
        }
    }
}

fn word(yes: bool) -> &'static str {
    if yes { "true" } else { "false" }
}
