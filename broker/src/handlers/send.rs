//! Sending (10, 310, 320): what may be stored, as which record, in which queue (semantics.md 3 and 4).
//!
//! [`Send::stage`] decides and encodes into the shard's batch; it never waits and never writes. A topic that has to be
//! made first is answered with [`Stage::Prepare`], so that the caller can do that where files may be written. Storing
//! is `store::log`, answering is `shard::commit`.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use gantry_message::{
    Millis, QueueId, Record, SysFlag, batch as batch_body, java_hash_bytes, perm, properties, topic,
};
use gantry_store::{AppendError, Batch, Queue, Store, Tags};
use gantry_wire::{
    bodies::{TopicConfig, TopicFilterType},
    frame::Header,
    headers::SendMessage,
};
use rustc_hash::FxHashMap;

use crate::{
    acks::SlaveAcks,
    config::{BrokerConfig, BrokerRole},
    delay::{Levels, postpone},
    live::{LiveConfig, Snapshot},
    refusal::{DiskUse, Refusal},
    stats::{MessageKind, Stats, TopicCounters},
    tables::{Groups, Missing, Topics},
};

/// Version from which a client's own limit of deliveries counts (wire.md 1.5, V3_4_9).
const OWN_RETRY_LIMIT_SINCE: i32 = 121;

/// The parts that sending needs. One value per I/O shard, because of its cache.
pub struct Send {
    config: RefCell<Snapshot>,
    store: Arc<Store>,
    topics: Arc<Topics>,
    groups: Arc<Groups>,
    levels: Arc<Levels>,
    stats: Arc<Stats>,
    store_host: SocketAddr,
    broker_ip: String,
    cluster: String,
    acks: Arc<SlaveAcks>,
    cache: RefCell<Cache>,
    scratch: RefCell<Vec<u8>>,
}

/// Where messages of one topic go, looked up once.
struct Target {
    config: Arc<TopicConfig>,
    /// Topics that the broker makes by itself are named after groups, which may break the rules for topics.
    name: Result<(), topic::TopicError>,
    counters: Arc<TopicCounters>,
    queues: RefCell<Vec<Option<Arc<Queue>>>>,
}

#[derive(Default)]
struct Cache {
    /// Invariant: every target was looked up while the topic table had this generation.
    generation: u64,
    targets: FxHashMap<Box<str>, Rc<Target>>,
}

/// What became of a request.
pub enum Stage {
    /// It is in the batch; the answer follows the commit.
    Staged(Staged),
    /// A topic or group must be made first, then the request comes again.
    Prepare(Missing),
}

/// A request whose records are in the batch.
pub struct Staged {
    /// Entry of the batch.
    pub entry: usize,
    /// Queue the client is told.
    pub queue_id: QueueId,
    /// Queue it is in for now: of a delayed message that of its level.
    pub stored_in: QueueId,
    /// Whether the sender waits for the durability the broker is configured for.
    pub wait: bool,
    /// Counters of the topic, told after the commit.
    pub counters: Arc<TopicCounters>,
    /// Messages in the request.
    pub messages: u64,
    /// Counters of the topic that the messages are for, and what kind they are of.
    pub came_in: (Arc<TopicCounters>, MessageKind),
    /// The group whose dead letter it is.
    pub dead_of: Option<Box<str>>,
}

/// A sender and its request header.
pub struct Sender {
    /// Where it connected from.
    pub address: SocketAddr,
    /// Its release, decides which header fields count.
    pub version: i32,
}

/// The topic and queue a message is really stored in, and what its properties get on the way.
struct Place {
    target: Rc<Target>,
    queue_id: QueueId,
    /// To the dead-letter queue: whatever delay the sender asked for is dropped.
    dead: bool,
}

impl Place {
    fn dead_of(&self) -> Option<Box<str>> {
        let name = self.target.config.topic_name.as_str();
        let group = name.strip_prefix(topic::DLQ_PREFIX)?;
        self.dead.then(|| group.into())
    }
}

impl Send {
    /// Sender side of a broker that announces `store_host`.
    pub fn new(
        config: &Arc<LiveConfig>,
        store: Arc<Store>,
        (topics, groups): (Arc<Topics>, Arc<Groups>),
        levels: Arc<Levels>,
        stats: Arc<Stats>,
        acks: Arc<SlaveAcks>,
        store_host: SocketAddr,
    ) -> Send {
        Send {
            config: RefCell::new(Snapshot::of(config)),
            store,
            topics,
            groups,
            levels,
            stats,
            broker_ip: store_host.ip().to_string(),
            cluster: config.now().broker_cluster_name.clone(),
            store_host,
            acks,
            cache: RefCell::default(),
            scratch: RefCell::default(),
        }
    }

    /// Decides about one request and encodes its records into `batch`; an error leaves the batch as it was.
    pub fn stage(
        &self,
        batch: &mut Batch,
        sender: &Sender,
        header: &Header<'_>,
        body: &[u8],
    ) -> Result<Stage, Refusal> {
        self.check_busy()?;
        if self.config().store.broker_role == BrokerRole::Slave {
            // Before anything is made for it.
            let disks = DiskUse::of(self.store.disks_then());
            return Err(Refusal::not_stored_by_a_slave(disks));
        }
        let message = SendMessage::read(header.code, &header.fields)?;
        let place = match self.admit(sender, &message)? {
            Ok(place) => place,
            Err(missing) => {
                // Nothing is made for a message that will not be taken.
                self.store
                    .admit()
                    .map_err(|error| self.not_stored(&error))?;
                return Ok(Stage::Prepare(missing));
            }
        };
        if message.batch {
            self.stage_batch(batch, sender, &message, body, &place)
        } else {
            self.stage_single(batch, sender, &message, body, &place)
        }
        .map(Stage::Staged)
    }

    /// The checks of semantics.md 4, in their order.
    fn admit(
        &self,
        sender: &Sender,
        message: &SendMessage<'_>,
    ) -> Result<Result<Place, Missing>, Refusal> {
        let starts = Millis(
            i64::try_from(self.config().start_accept_send_request_time_stamp).unwrap_or(i64::MAX),
        );
        if 0 < starts.0 && Millis::now() < starts {
            return Err(Refusal::not_serving_until(starts));
        }
        let name = message.topic;
        let Some(target) = self.target(name) else {
            topic::validate(name).map_err(Refusal::topic_name)?;
            if topic::is_closed_to_senders(name) {
                return Err(Refusal::topic_forbidden(name));
            }
            let queues = message.default_topic_queue_nums;
            return match self.topics.plan_on_send(
                name,
                message.default_topic,
                queues,
                message.unit_mode,
            ) {
                Some(missing) => Ok(Err(missing)),
                None => Err(Refusal::topic_not_exist_on_send(name)),
            };
        };
        if target.config.order
            && !perm::is_writable(i32::try_from(self.config().broker_permission).unwrap_or(0))
        {
            return Err(Refusal::broker_not_writable(&self.broker_ip));
        }
        target.name.map_err(Refusal::topic_name)?;
        if topic::is_closed_to_senders(name) {
            return Err(Refusal::topic_forbidden(name));
        }
        let queues = target
            .config
            .read_queue_nums
            .max(target.config.write_queue_nums);
        if message.queue_id >= queues {
            return Err(Refusal::queue_id_illegal(
                message.queue_id,
                &target.config,
                sender.address,
            ));
        }
        if let Some(group) = name.strip_prefix(topic::RETRY_PREFIX)
            && let Some(redirected) = self.dead_letter(sender, message, group)?
        {
            return Ok(redirected);
        }
        let queue_id = match u32::try_from(message.queue_id) {
            Ok(id) => QueueId(id),
            // A negative queue leaves the choice to us.
            Err(_) => self.any_queue(&target, message.born_timestamp),
        };
        Ok(Ok(Place {
            target,
            queue_id,
            dead: false,
        }))
    }

    /// A client that puts a message back by itself counts deliveries in the header (semantics.md 4, last paragraph).
    fn dead_letter(
        &self,
        sender: &Sender,
        message: &SendMessage<'_>,
        group: &str,
    ) -> Result<Option<Result<Place, Missing>>, Refusal> {
        let Some(known) = self.groups.get(group) else {
            return match self.groups.plan(group) {
                Some(missing) => Ok(Some(Err(missing))),
                None => Err(Refusal::group_not_exist_on_send(group)),
            };
        };
        let limit = match message.max_reconsume_times {
            Some(own) if sender.version >= OWN_RETRY_LIMIT_SINCE => own,
            _ => known.retry_max_times,
        };
        if message.reconsume_times.unwrap_or(0) < limit {
            return Ok(None);
        }
        let dead = topic::dlq(group);
        Ok(Some(match self.target(&dead) {
            Some(target) => Ok(Place {
                target,
                queue_id: QueueId(0),
                dead: true,
            }),
            None => Err(Missing::dead_letter_topic(group)),
        }))
    }

    fn any_queue(&self, target: &Target, seed: i64) -> QueueId {
        let count = u64::try_from(target.config.write_queue_nums.max(1)).unwrap_or(1);
        // Spread by what differs from message to message; no more is asked of it.
        let mixed = (seed.unsigned_abs() ^ self.store.appended().value())
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        QueueId(u32::try_from((mixed >> 33) % count).unwrap_or(0))
    }

    fn stage_single(
        &self,
        batch: &mut Batch,
        sender: &Sender,
        message: &SendMessage<'_>,
        body: &[u8],
        place: &Place,
    ) -> Result<Staged, Refusal> {
        let mut scratch = self.scratch.borrow_mut();
        scratch.clear();
        let text = message.properties.unwrap_or("").as_bytes();
        let seen = copy_properties(text, &mut scratch);
        let transactional = message.sys_flag & TRANSACTION_BITS != 0;
        if seen.transaction || transactional {
            return Err(Refusal::transaction_forbidden(&self.broker_ip));
        }
        self.check_copies(seen.wait)?;
        let level = seen
            .delay_level
            .map_err(|text| Refusal::delay_level_illegal(&text))?;
        let level = self.levels.wanted(level).filter(|_| !place.dead);
        if level.is_some() && seen.has_wait {
            properties::push(
                &mut scratch,
                properties::WAIT,
                if seen.wait { b"true" } else { b"false" },
            );
        }
        properties::push(&mut scratch, properties::CLUSTER, self.cluster.as_bytes());
        let common = self.common(sender, message, &place.target.config);
        let (staged, stored_in) = match level {
            None => {
                let queue = self.queue(&place.target, place.queue_id);
                let record = Record {
                    queue_id: queue.id(),
                    properties: &scratch,
                    body,
                    ..common
                };
                let staged = batch.stage(&queue, &record, Tags::Code(seen.tags_code));
                (staged, place.queue_id)
            }
            Some(level) => {
                let name = &place.target.config.topic_name;
                let late = postpone(&self.levels, level, name, place.queue_id, &scratch);
                let queue = self.store.queue(topic::SCHEDULE, late.queue);
                let properties = &late.properties;
                let record = Record {
                    topic: topic::SCHEDULE,
                    queue_id: late.queue,
                    properties,
                    body,
                    ..common
                };
                let staged = batch.stage(&queue, &record, Tags::DueAfter(late.delay));
                (staged, late.queue)
            }
        };
        let entry = staged.map_err(|error| self.not_stored(&error))?;
        // A delayed message counts for its topic when it gets there.
        let counters = match level {
            None => place.target.counters.clone(),
            Some(_) => self.stats.topic(topic::SCHEDULE),
        };
        Ok(Staged {
            entry,
            queue_id: place.queue_id,
            stored_in,
            wait: seen.wait,
            counters,
            messages: 1,
            came_in: (
                place.target.counters.clone(),
                match (level, seen.is_sharded) {
                    (Some(_), _) => MessageKind::Delay,
                    (None, true) => MessageKind::Fifo,
                    (None, false) => MessageKind::Normal,
                },
            ),
            dead_of: place.dead_of(),
        })
    }

    fn stage_batch(
        &self,
        batch: &mut Batch,
        sender: &Sender,
        message: &SendMessage<'_>,
        body: &[u8],
        place: &Place,
    ) -> Result<Staged, Refusal> {
        let limit = self.config().store.max_message_size;
        if body.len() > usize::try_from(limit).unwrap_or(0) {
            return Err(Refusal::body_too_large(body.len(), limit.into()));
        }
        let illegal =
            |detail: &dyn std::fmt::Display| Refusal::message_illegal(limit.into(), detail);
        if message.sys_flag & TRANSACTION_BITS != 0 {
            return Err(illegal(&"a batch cannot be part of a transaction"));
        }
        let text = message.properties.unwrap_or("").as_bytes();
        let mut shared = Vec::with_capacity(text.len() + 64);
        let mut wait = true;
        for (name, value) in properties::iter(text) {
            match name {
                b"WAIT" => wait = is_true(value),
                b"DELAY" => match delay_level(value) {
                    Ok(..=0) => {}
                    Ok(_) => return Err(illegal(&"a batch cannot be delayed")),
                    Err(text) => return Err(Refusal::delay_level_illegal(&text)),
                },
                b"CLUSTER" => continue,
                _ => {}
            }
            push_bytes(&mut shared, name, value);
        }
        self.check_copies(wait)?;
        properties::push(&mut shared, properties::CLUSTER, self.cluster.as_bytes());
        let queue = self.queue(&place.target, place.queue_id);
        let room = usize::try_from(limit)
            .unwrap_or(usize::MAX)
            .saturating_mul(BATCH_GROWTH_MAX);
        let items = batch_items(body, &shared, room)?;
        let common = Record {
            queue_id: queue.id(),
            ..self.common(sender, message, &place.target.config)
        };
        let records = items.iter().map(|item| {
            let record = Record {
                flag: item.flag,
                body: item.body,
                properties: &item.properties,
                ..common
            };
            (record, Tags::Code(item.tags_code))
        });
        let entry = batch
            .stage_group(&queue, records)
            .map_err(|error| self.not_stored(&error))?;
        Ok(Staged {
            entry,
            queue_id: place.queue_id,
            stored_in: place.queue_id,
            wait,
            counters: place.target.counters.clone(),
            messages: items.len() as u64,
            came_in: (place.target.counters.clone(), MessageKind::Normal),
            dead_of: place.dead_of(),
        })
    }

    /// A commit of another shard that has held the log for long says that the disk does not keep up: waiting behind it
    /// would only hide that (store.md 11).
    fn check_busy(&self) -> Result<(), Refusal> {
        let held_ms = self.store.locked_ms();
        if held_ms == 0 {
            return Ok(());
        }
        let config = self.config();
        let limit_ms = config.store.os_page_cache_busy_time_out_mills;
        if held_ms <= limit_ms {
            return Ok(());
        }
        let why = format!(
            "a write to the log of {} has taken {held_ms} ms, osPageCacheBusyTimeOutMills is {limit_ms}",
            config.store.store_path_root_dir
        );
        Err(Refusal::rejected(config.overload_response_code, &why))
    }

    /// A sender that waits for copies may be better served elsewhere.
    fn check_copies(&self, waits: bool) -> Result<(), Refusal> {
        if !waits || !self.acks.is_sync_master() {
            return Ok(());
        }
        self.acks
            .admit(&self.config().store, self.store.max_offset())
    }

    /// Why the store did not take it, with how full its disks are.
    pub fn not_stored(&self, error: &AppendError) -> Refusal {
        Refusal::append(
            error,
            self.config().store.max_message_size.into(),
            DiskUse::of(self.store.disks_then()),
        )
    }

    /// The configuration as it runs.
    pub fn config(&self) -> Arc<BrokerConfig> {
        self.config.borrow_mut().get().clone()
    }

    fn common<'a>(
        &self,
        sender: &Sender,
        message: &SendMessage<'_>,
        topic: &'a TopicConfig,
    ) -> Record<'a> {
        let mut sys_flag = SysFlag::from_client(message.sys_flag);
        if topic.topic_filter_type == TopicFilterType::MultiTag {
            sys_flag = sys_flag.with(SysFlag::MULTI_TAGS);
        }
        Record {
            topic: &topic.topic_name,
            queue_id: QueueId(0),
            flag: message.flag,
            sys_flag,
            born_time: Millis(message.born_timestamp),
            born_host: sender.address,
            store_host: self.store_host,
            reconsume_times: message.reconsume_times.unwrap_or(0),
            prepared_offset: 0,
            body: &[],
            properties: &[],
        }
    }

    fn target(&self, name: &str) -> Option<Rc<Target>> {
        let mut cache = self.cache.borrow_mut();
        let generation = self.topics.generation();
        if cache.generation != generation {
            cache.targets.clear();
            cache.generation = generation;
        }
        if let Some(target) = cache.targets.get(name) {
            return Some(target.clone());
        }
        let config = self.topics.get(name)?;
        let target = Rc::new(Target {
            counters: self.stats.topic(name),
            queues: RefCell::default(),
            name: topic::validate(name),
            config,
        });
        cache.targets.insert(name.into(), target.clone());
        Some(target)
    }

    fn queue(&self, target: &Target, id: QueueId) -> Arc<Queue> {
        let index = id.0 as usize;
        let mut queues = target.queues.borrow_mut();
        if queues.len() <= index {
            queues.resize(index + 1, None);
        }
        // A queue may be deleted while its topic stays (306), or when its topic was made again at once.
        match &queues[index] {
            Some(queue) if !queue.is_deleted() => queue.clone(),
            _ => queues[index]
                .insert(self.store.queue(&target.config.topic_name, id))
                .clone(),
        }
    }
}

/// One message of a batch as it will be stored.
struct BatchItem<'a> {
    flag: i32,
    body: &'a [u8],
    /// Its own text as it came, then what the whole batch carries (store.md 3.1).
    properties: Vec<u8>,
    tags_code: i64,
}

/// `room`: how many bytes the items may have once each carries what the batch says for all.
fn batch_items<'a>(
    body: &'a [u8],
    shared: &[u8],
    room: usize,
) -> Result<Vec<BatchItem<'a>>, Refusal> {
    let mut size = 0;
    // Before anything is made of them: a few bytes of each item may call for kilobytes.
    for item in batch_body::items(body) {
        let item = item.map_err(|error| Refusal::batch_body(&error))?;
        size += item.body.len() + item.properties.len() + 1 + shared.len();
        if room < size {
            return Err(Refusal::batch_too_large(room));
        }
    }
    if size == 0 {
        return Err(Refusal::batch_empty());
    }
    let item = |item: batch_body::Item<'a>| {
        let mut properties = Vec::with_capacity(item.properties.len() + 1 + shared.len());
        properties.extend_from_slice(item.properties);
        if !properties.is_empty() && properties.last() != Some(&properties::PROPERTY_SEPARATOR) {
            properties.push(properties::PROPERTY_SEPARATOR);
        }
        properties.extend_from_slice(shared);
        // The last one counts, and a batch may carry one: this must be what a recovery reads from the record.
        let tags = properties::find(&properties, properties::TAGS);
        BatchItem {
            flag: item.flag,
            body: item.body,
            tags_code: tags.map_or(0, |tags| i64::from(java_hash_bytes(tags))),
            properties,
        }
    };
    Ok(batch_body::items(body).flatten().map(item).collect())
}

/// Times `maxMessageSize` that a batch may take in the log: each of its messages gets a header, the topic and the
/// properties that the batch states once.
const BATCH_GROWTH_MAX: usize = 8;
const TRANSACTION_BITS: i32 = 0xC;

/// Appends one pair; unlike `properties::push` the name is bytes, as it came.
fn push_bytes(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !out.is_empty() {
        out.push(properties::PROPERTY_SEPARATOR);
    }
    out.extend_from_slice(name);
    out.push(properties::NAME_VALUE_SEPARATOR);
    out.extend_from_slice(value);
}

/// As Java reads it: what is not the word is false.
fn is_true(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"true")
}

fn delay_level(value: &[u8]) -> Result<i32, String> {
    let text = String::from_utf8_lossy(value);
    text.parse().map_err(|_| text.into_owned())
}

/// What the properties of a message say to the broker.
struct Seen {
    /// The text that is no number, if it is none.
    delay_level: Result<i32, String>,
    transaction: bool,
    has_wait: bool,
    wait: bool,
    tags_code: i64,
    /// It has a key by which its sender wants order.
    is_sharded: bool,
}

/// Copies the properties that are stored: all but `WAIT`, and `CLUSTER`, which is ours to say.
fn copy_properties(text: &[u8], out: &mut Vec<u8>) -> Seen {
    let mut seen = Seen {
        delay_level: Ok(0),
        transaction: false,
        has_wait: false,
        wait: true,
        tags_code: 0,
        is_sharded: false,
    };
    for (name, value) in properties::iter(text) {
        match name {
            b"WAIT" => {
                seen.has_wait = true;
                seen.wait = is_true(value);
                continue;
            }
            b"CLUSTER" => continue,
            b"TAGS" => seen.tags_code = i64::from(java_hash_bytes(value)),
            b"DELAY" => seen.delay_level = delay_level(value),
            b"TRAN_MSG" => seen.transaction = is_true(value),
            b"__SHARDINGKEY" => seen.is_sharded = true,
            _ => {}
        }
        push_bytes(out, name, value);
    }
    seen
}
