//! Topics, groups and clients: in our own words, and in those of RocketMQ 5 and of its exporter for 4.x.
//!
//! A topic or group that is deleted is in the next scrape no more: everything is read from the tables as they are.

use std::{collections::BTreeMap, sync::Arc};

use gantry_message::{Millis, topic};
use gantry_service::metrics::{Families, float};
use gantry_store::Store;
use gantry_wire::{Language, version};

use super::{
    Compat,
    exporter::{self, Exporter},
    native::{self, Native},
    progress::{self, Progress},
};
use crate::{
    clients::{Clients, Members},
    live::LiveConfig,
    stats::Stats,
    tables::{Groups, Offsets, Topics},
};

/// The parts that know them.
pub struct ObjectSource {
    live: Arc<LiveConfig>,
    store: Arc<Store>,
    topics: Arc<Topics>,
    groups: Arc<Groups>,
    clients: Arc<Clients>,
    stats: Arc<Stats>,
    progress: progress::Groups,
}

/// The parts that know topics, groups and clients.
#[expect(missing_docs, reason = "each field is named after its part")]
pub struct ObjectParts {
    pub live: Arc<LiveConfig>,
    pub store: Arc<Store>,
    pub topics: Arc<Topics>,
    pub groups: Arc<Groups>,
    pub offsets: Arc<Offsets>,
    pub clients: Arc<Clients>,
    pub stats: Arc<Stats>,
}

/// Connections that share a language and a release.
pub(super) type Connected = BTreeMap<(String, String), u64>;

impl ObjectSource {
    /// Of these parts.
    pub fn new(parts: ObjectParts) -> ObjectSource {
        let ObjectParts {
            live,
            store,
            topics,
            groups,
            offsets,
            clients,
            stats,
        } = parts;
        let progress = progress::Groups {
            store: store.clone(),
            topics: topics.clone(),
            offsets,
            stats: stats.clone(),
            known: Default::default(),
        };
        ObjectSource {
            live,
            store,
            topics,
            groups,
            clients,
            stats,
            progress,
        }
    }

    /// Adds its families. Blocks: times of messages may have to be read.
    pub fn collect(&self, out: &mut Families) {
        let config = self.live.now();
        let now = Millis::now();
        let progress = self.progress.all();
        self.totals(out);
        self.own_topics(out);
        own_groups(out, &progress, now);
        let compat = Compat::of(&config);
        if compat.native5 {
            let native = Native {
                config: &config,
                store: &self.store,
                topics: &self.topics,
                groups: &self.groups,
                clients: &self.clients,
                stats: &self.stats,
            };
            native::collect(out, &native, &progress, now);
        }
        if compat.exporter4 {
            let exporter = Exporter {
                config: &config,
                store: &self.store,
                topics: &self.topics,
                clients: &self.clients,
                stats: &self.stats,
            };
            exporter::collect(out, &exporter, &progress, now);
        }
    }

    fn totals(&self, out: &mut Families) {
        let counts = self.stats.counts();
        for (name, help, value) in [
            (
                "gantry_messages_in_total",
                "Messages stored.",
                counts.put_messages,
            ),
            (
                "gantry_messages_out_total",
                "Messages handed out.",
                counts.get_messages,
            ),
            (
                "gantry_sends_failed_total",
                "Sends that were not stored.",
                counts.put_failed,
            ),
            (
                "gantry_pulls_found_total",
                "Pulls that found messages.",
                counts.get_found,
            ),
            (
                "gantry_pulls_missed_total",
                "Pulls that found none.",
                counts.get_missed,
            ),
        ] {
            out.counter(name, help, &[], value);
        }
        let consumers = self.clients.consumers();
        let producers = self.clients.producer_groups();
        for (name, help, value) in [
            ("gantry_topics", "Topics.", self.topics.all().entries.len()),
            (
                "gantry_consumer_groups",
                "Consumer groups.",
                self.groups.all().entries.len(),
            ),
            (
                "gantry_connected_consumer_groups",
                "Consumer groups with a client that is connected.",
                consumers.len(),
            ),
            (
                "gantry_connected_producer_groups",
                "Producer groups with a client that is connected.",
                producers.len(),
            ),
        ] {
            out.gauge(name, help, &[], float(value as u64));
        }
    }

    fn own_topics(&self, out: &mut Families) {
        for (name, counters) in self.stats.topics() {
            // What is counted for a topic that was deleted since is told by nobody.
            if self.topics.get(&name).is_none() {
                continue;
            }
            let all = crate::stats::MessageKind::ALL.map(|kind| counters.arrived(kind));
            let labels = &[("topic", &*name)];
            out.counter(
                "gantry_topic_messages_in_total",
                "Messages sent to a topic; delayed ones count when they are sent.",
                labels,
                all.iter().map(|kind| kind.messages).sum(),
            );
            out.counter(
                "gantry_topic_bytes_in_total",
                "Bytes of their records.",
                labels,
                all.iter().map(|kind| kind.bytes).sum(),
            );
        }
    }
}

fn own_groups(out: &mut Families, progress: &[Progress], now: Millis) {
    for of in progress {
        let labels = &[("topic", &*of.topic), ("group", &*of.group)];
        out.gauge(
            "gantry_group_lag_messages",
            "Messages of a topic behind the positions of a group.",
            labels,
            float(of.lag),
        );
        if let Some(age) = of.waiting_since.age_ms(now) {
            out.gauge(
                "gantry_group_lag_seconds",
                "How long ago the first of them was stored; 0 if there is none.",
                labels,
                float(age) / 1e3,
            );
        }
        let Some(counters) = &of.counters else {
            continue;
        };
        out.counter(
            "gantry_group_messages_out_total",
            "Messages of a topic handed out to a group.",
            labels,
            counters.handed_out().0,
        );
        if 0 < counters.dead() {
            out.counter(
                "gantry_group_dead_letters_total",
                "Messages of a topic that a group sent back too often.",
                labels,
                counters.dead(),
            );
        }
    }
}

/// How many of these clients are of one language and release.
pub(super) fn by_release<'a>(members: impl Iterator<Item = &'a Members>) -> Connected {
    let mut connected = Connected::new();
    // A client may be in several groups on one connection.
    let mut seen = std::collections::BTreeSet::new();
    for (connection, member) in members.flatten() {
        if !seen.insert(*connection) {
            continue;
        }
        let language = member.language.name().or(Language::Other.name());
        let language = language.unwrap_or_default().to_ascii_lowercase();
        let release = version::name(member.version).to_ascii_lowercase();
        *connected.entry((language, release)).or_default() += 1;
    }
    connected
}

/// Whether a topic holds what a group sent back, or what it gave up.
pub(super) fn is_of_a_group(name: &str) -> bool {
    name.starts_with(topic::RETRY_PREFIX) || name.starts_with(topic::DLQ_PREFIX)
}
