//! The topics of this broker, and the file `topics.json`.
//!
//! Owns the built-in topics, what "system" means, and the rules of automatic creation. A topic's order flag is not its own: it
//! follows the name server's `ORDER_TOPIC_CONFIG`, told by `registration`. Whether a request may create or change a topic is
//! decided by handlers; queues and messages of a topic are the store's.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::Arc,
};

use gantry_disk::Disk;
use gantry_message::{Millis, perm, topic};
use gantry_store::Watermark;
use gantry_wire::bodies::{DataVersion, TopicConfig, TopicConfigTable, TopicFilterType};

use crate::{config::BrokerConfig, live::LiveConfig};

use super::{
    Missing,
    file::{JsonFile, TableError},
    table::{Edit, Entries, Snapshot, Table},
};

/// Topics beyond this number are not created; the file would take 50 MB and be written with every change.
const TOPICS_MAX: usize = 200_000;
const SCHEDULE_QUEUES: i32 = 18;
const BENCHMARK_QUEUES: i32 = 1024;
/// Queues of a topic that states none, as those named like the cluster.
const DEFAULT_QUEUES: i32 = 16;
const UNIT: i32 = 1;
const UNIT_SUBSCRIPTION: i32 = 2;

/// The topic table.
pub struct Topics {
    table: Table<TopicConfig>,
    system: HashSet<String>,
    live: Arc<LiveConfig>,
    /// Whether there was a table.
    is_found: bool,
}

impl Topics {
    /// Loads `topics.json` from the configuration folder over the built-in topics. Blocks.
    pub fn load(
        disk: Arc<dyn Disk>,
        folder: &Path,
        live: Arc<LiveConfig>,
        now: Millis,
    ) -> Result<Topics, TableError> {
        let config = live.now();
        let file = JsonFile::new(disk, folder.join("topics.json"));
        let mut entries = built_in(&config);
        let system = system_topics(&config);
        let mut version = DataVersion {
            counter: 0,
            timestamp: now.0,
        };
        let stored = file.load(TopicConfigTable::parse)?;
        let is_found = stored.is_some();
        if let Some(stored) = stored {
            version = stored.data_version;
            entries.extend(
                stored
                    .topic_config_table
                    .into_iter()
                    .map(|(name, config)| (name.into(), Arc::new(config))),
            );
        }
        if !config.auto_create_topic_enable {
            // A template from times when automatic creation was on must not be inherited from any more.
            if let Some(template) = entries.get_mut(topic::AUTO_CREATE) {
                Arc::make_mut(template).perm = perm::READ | perm::WRITE;
            }
        }
        Ok(Topics {
            table: Table::new(Snapshot { entries, version }, file, encode_file),
            system,
            live,
            is_found,
        })
    }

    /// Makes topics again that the store has so many queues of, when there was no table, or, behind a promotion, one that
    /// need not be the old master's last: their messages are not lost with it. What else was set for them is. Blocks.
    pub fn make_again(
        &self,
        of_store: impl IntoIterator<Item = (String, i32)>,
        is_promoted: bool,
        now: Millis,
    ) -> Result<(), TableError> {
        if self.is_found && !is_promoted {
            return Ok(());
        }
        for (name, queues) in of_store {
            let is_group_s =
                name.starts_with(topic::RETRY_PREFIX) || name.starts_with(topic::DLQ_PREFIX);
            let usual = if is_group_s {
                1
            } else {
                i32::try_from(self.live.now().default_topic_queue_nums).unwrap_or(1)
            };
            let queues = queues.max(usual);
            if self.get(&name).is_none() {
                self.create_for_consumers(plain(&name, queues), now)?;
                tracing::warn!(topic = %name, queues, "no table has this topic; it is made again, for the store has messages of it");
            }
        }
        Ok(())
    }

    /// The configuration of a topic.
    pub fn get(&self, topic: &str) -> Option<Arc<TopicConfig>> {
        self.table.get(topic)
    }

    /// Whether the topic is known and ordered.
    pub fn is_order(&self, topic: &str) -> bool {
        self.get(topic).is_some_and(|config| config.order)
    }

    /// All topics at this moment.
    pub fn all(&self) -> Arc<Snapshot<TopicConfig>> {
        self.table.snapshot()
    }

    /// Changes whenever any topic changes: what was looked up before may be kept while it stays the same.
    pub fn generation(&self) -> u64 {
        self.table.generation().value()
    }

    /// The generation, for those who wait for the next change.
    pub fn changes(&self) -> &Watermark {
        self.table.generation()
    }

    /// The data version that name servers and slaves compare.
    pub fn version(&self) -> DataVersion {
        self.table.snapshot().version
    }

    /// All topics as the body of request 21, and as `registration` announces them.
    pub fn wire_table(&self) -> TopicConfigTable {
        wire_table(&self.all())
    }

    /// Whether the topic belongs to the broker itself.
    pub fn is_system(&self, topic: &str) -> bool {
        self.system.contains(topic) || topic.starts_with(topic::SYSTEM_PREFIX)
    }

    /// The topics that belong to the broker itself, by name.
    pub fn system_topics(&self) -> Vec<String> {
        let mut names: Vec<String> = self.system.iter().cloned().collect();
        names.sort_unstable();
        names
    }

    /// What to make so that a send to an unknown topic can go on: a copy of the template the request names, or a retry topic; `None` when the
    /// topic cannot be made.
    pub fn plan_on_send(
        &self,
        name: &str,
        template: &str,
        queues: i32,
        unit_mode: bool,
    ) -> Option<Missing> {
        let is_retry = name.starts_with(topic::RETRY_PREFIX);
        let topic_sys_flag = match (unit_mode, is_retry) {
            (false, _) => 0,
            (true, false) => UNIT,
            (true, true) => UNIT_SUBSCRIPTION,
        };
        let is_open = template != topic::AUTO_CREATE || self.live.now().auto_create_topic_enable;
        let template = self
            .get(template)
            .filter(|template| is_open && perm::is_inherited(template.perm));
        let config = match template {
            Some(template) => TopicConfig {
                perm: template.perm & !perm::INHERIT,
                topic_filter_type: template.topic_filter_type,
                topic_sys_flag,
                ..plain(name, queues.min(template.write_queue_nums).max(0))
            },
            None if is_retry => TopicConfig {
                topic_sys_flag,
                ..plain(name, 1)
            },
            None => return None,
        };
        Some(Missing::Topic(config))
    }

    /// Makes a topic unless it exists, and returns the one that exists then. Blocks until it is on disk.
    pub fn create(&self, config: TopicConfig, now: Millis) -> Result<Arc<TopicConfig>, TableError> {
        self.table
            .change(now, |entries| insert_new(entries, config))
    }

    /// As [`Topics::create`] for a topic that consumers make when it is missing: if the disk takes nothing, in memory.
    fn create_for_consumers(
        &self,
        config: TopicConfig,
        now: Millis,
    ) -> Result<Arc<TopicConfig>, TableError> {
        self.table
            .change_in_memory_at_least(now, |entries| insert_new(entries, config))
    }

    /// Makes the retry topic of a group unless it exists. Blocks only when it does not.
    pub fn create_retry(
        &self,
        group: &str,
        queues: i32,
        unit_mode: bool,
        now: Millis,
    ) -> Result<Arc<TopicConfig>, TableError> {
        let name = topic::retry(group);
        match self.get(&name) {
            Some(known) => Ok(known),
            None => self.create_for_consumers(retry_topic(&name, queues, unit_mode), now),
        }
    }

    /// Makes the dead-letter topic of a group unless it exists. Blocks only when it does not.
    pub fn create_dead_letter(
        &self,
        group: &str,
        now: Millis,
    ) -> Result<Arc<TopicConfig>, TableError> {
        let name = topic::dlq(group);
        match self.get(&name) {
            Some(known) => Ok(known),
            None => self.create(dead_letter_topic(&name), now),
        }
    }

    /// Creates or replaces a topic; the order flag of an existing one stays. Blocks until it is on disk.
    pub fn put(&self, config: TopicConfig, now: Millis) -> Result<Arc<TopicConfig>, TableError> {
        self.table.change(now, |entries| {
            let old = entries.get(config.topic_name.as_str());
            if old.is_none() {
                TableError::check_room("topics", entries.len(), TOPICS_MAX)?;
            }
            let config = Arc::new(TopicConfig {
                order: old.is_some_and(|old| old.order),
                ..config
            });
            tracing::info!(topic = %config.topic_name, ?config, ?old, "topic set");
            entries.insert(config.topic_name.as_str().into(), config.clone());
            Ok(Edit::Changed(config))
        })
    }

    /// Removes a topic; says whether there was one. Blocks until the removal is on disk.
    pub fn remove(&self, name: &str, now: Millis) -> Result<bool, TableError> {
        self.table.change(now, |entries| {
            Ok(match entries.remove(name) {
                Some(old) => {
                    tracing::info!(topic = %old.topic_name, ?old, "topic removed");
                    Edit::Changed(true)
                }
                None => Edit::Same(false),
            })
        })
    }

    /// Makes exactly these topics ordered, as far as they exist; says whether that changed anything. Blocks if so.
    pub fn set_order_topics(
        &self,
        ordered: &BTreeSet<String>,
        now: Millis,
    ) -> Result<bool, TableError> {
        let differs = |config: &TopicConfig| config.order != ordered.contains(&config.topic_name);
        if !self.all().entries.values().any(|config| differs(config)) {
            return Ok(false);
        }
        self.table.change(now, |entries| {
            let mut changed = false;
            for config in entries.values_mut().filter(|config| differs(config)) {
                let config = Arc::make_mut(config);
                config.order = !config.order;
                changed = true;
                tracing::info!(topic = %config.topic_name, order = config.order, "order flag follows the name server");
            }
            Ok(if changed { Edit::Changed(true) } else { Edit::Same(false) })
        })
    }

    /// Takes over a master's table with its version. Blocks until it is on disk.
    pub fn replace(&self, table: TopicConfigTable) -> Result<(), TableError> {
        let entries = table.topic_config_table;
        TableError::check_room("topics", entries.len().saturating_sub(1), TOPICS_MAX)?;
        let entries = entries
            .into_iter()
            .map(|(name, config)| (name.into(), Arc::new(config)))
            .collect();
        self.table.replace(entries, table.data_version)
    }

    /// Gives the table a new data version without changing a topic: for what name servers must take anew. Blocks.
    pub fn touch(&self, now: Millis) -> Result<(), TableError> {
        self.table.change(now, |_| Ok(Edit::Changed(())))
    }

    /// As [`Topics::touch`], but in memory only: for a broker whose disk has failed. Does not block.
    pub fn renew(&self, now: Millis) {
        self.table.renew(now);
    }
}

impl Missing {
    /// The retry topic of a group.
    pub fn retry_topic(group: &str, queues: i32, unit_mode: bool) -> Missing {
        Missing::Topic(retry_topic(&topic::retry(group), queues, unit_mode))
    }

    /// The dead-letter topic of a group.
    pub fn dead_letter_topic(group: &str) -> Missing {
        Missing::Topic(dead_letter_topic(&topic::dlq(group)))
    }
}

fn insert_new(
    entries: &mut Entries<TopicConfig>,
    config: TopicConfig,
) -> Result<Edit<Arc<TopicConfig>>, TableError> {
    if let Some(known) = entries.get(config.topic_name.as_str()) {
        return Ok(Edit::Same(known.clone()));
    }
    if !topic::can_be_stored(&config.topic_name) {
        return Err(TableError::Name(config.topic_name));
    }
    TableError::check_room("topics", entries.len(), TOPICS_MAX)?;
    let config = Arc::new(config);
    entries.insert(config.topic_name.as_str().into(), config.clone());
    tracing::info!(topic = %config.topic_name, queues = config.write_queue_nums, "new topic");
    Ok(Edit::Changed(config))
}

fn retry_topic(name: &str, queues: i32, unit_mode: bool) -> TopicConfig {
    TopicConfig {
        topic_sys_flag: if unit_mode { UNIT_SUBSCRIPTION } else { 0 },
        ..plain(name, queues)
    }
}

fn dead_letter_topic(name: &str) -> TopicConfig {
    plain(name, 1)
}

/// A topic for reading and writing with as many queues for either.
fn plain(name: &str, queues: i32) -> TopicConfig {
    TopicConfig {
        topic_name: name.to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm: perm::READ | perm::WRITE,
        topic_filter_type: TopicFilterType::SingleTag,
        topic_sys_flag: 0,
        order: false,
    }
}

fn built_in(config: &BrokerConfig) -> Entries<TopicConfig> {
    let (cluster, broker) = (&config.broker_cluster_name, &config.broker_name);
    let inheritable = |open| perm::INHERIT | if open { perm::READ | perm::WRITE } else { 0 };
    let mut topics = vec![
        plain(topic::SELF_TEST, 1),
        plain(topic::BENCHMARK, BENCHMARK_QUEUES),
        TopicConfig {
            perm: inheritable(config.cluster_topic_enable),
            ..plain(cluster, DEFAULT_QUEUES)
        },
        TopicConfig {
            perm: inheritable(config.broker_topic_enable),
            ..plain(broker, 1)
        },
        plain(topic::OFFSET_MOVED_EVENT, 1),
        plain(topic::SCHEDULE, SCHEDULE_QUEUES),
        plain(&reply_topic(cluster), 1),
    ];
    if config.auto_create_topic_enable {
        let queues = i32::try_from(config.default_topic_queue_nums).unwrap_or(i32::MAX);
        topics.push(TopicConfig {
            perm: inheritable(true),
            ..plain(topic::AUTO_CREATE, queues)
        });
    }
    if config.trace_topic_enable {
        topics.push(plain(&config.msg_trace_topic_name, 1));
    }
    topics
        .into_iter()
        .map(|config| (config.topic_name.as_str().into(), Arc::new(config)))
        .collect()
}

fn system_topics(config: &BrokerConfig) -> HashSet<String> {
    let always = [
        topic::AUTO_CREATE,
        topic::SCHEDULE,
        topic::BENCHMARK,
        topic::TRANS_HALF,
        topic::TRACE,
        topic::TRANS_OP_HALF,
        topic::TRANS_CHECK_MAX_TIME,
        topic::SELF_TEST,
        topic::OFFSET_MOVED_EVENT,
        &config.broker_cluster_name,
        &config.broker_name,
    ];
    let mut system: HashSet<String> = always.into_iter().map(str::to_owned).collect();
    system.insert(reply_topic(&config.broker_cluster_name));
    if config.trace_topic_enable {
        system.insert(config.msg_trace_topic_name.clone());
    }
    system
}

fn reply_topic(cluster: &str) -> String {
    format!("{cluster}_{}", topic::REPLY_POSTFIX)
}

fn wire_table(snapshot: &Snapshot<TopicConfig>) -> TopicConfigTable {
    TopicConfigTable {
        data_version: snapshot.version,
        topic_config_table: snapshot
            .entries
            .iter()
            .map(|(name, config)| (name.to_string(), TopicConfig::clone(config)))
            .collect(),
    }
}

fn encode_file(snapshot: &Snapshot<TopicConfig>) -> Vec<u8> {
    wire_table(snapshot).encode_pretty()
}
