//! The rules of the client tables, without sockets, clock or locks: who joins, who leaves, what a group subscribes.
//!
//! A group's state is an immutable snapshot that changes replace, so that a pull takes one reference and no lock; only the time
//! of the last heartbeat is written in place. Consumers and producers are registered per connection: one client id on two
//! connections counts twice, as in Java. All subscriptions of a group are those of its last heartbeat.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use gantry_filter::TagFilter;
use gantry_message::Millis;
use gantry_wire::{
    Language,
    bodies::{ConsumeFromWhere, ConsumeType, ConsumerData, MessageModel, SubscriptionData},
};

/// Silence after which a registration ends.
const EXPIRE_MS: i64 = 120_000;
/// Groups, of either kind, that one connection may be in.
const GROUPS_PER_CONNECTION_MAX: usize = 2_000;
/// Topics that one group may subscribe.
const TOPICS_PER_GROUP_MAX: usize = 20_000;

/// Who sent a heartbeat, and when.
#[derive(Clone, Debug)]
pub struct Client {
    /// Number of the connection.
    pub connection: u64,
    /// Its address.
    pub address: SocketAddr,
    /// The id that the client gave itself.
    pub client_id: String,
    /// What it is written in.
    pub language: Language,
    /// Its release.
    pub version: i32,
    /// When the heartbeat came.
    pub now: Millis,
}

/// A registered client.
#[derive(Debug)]
pub struct Member {
    /// Number of the connection.
    pub connection: u64,
    /// Its address.
    pub address: SocketAddr,
    /// The id that the client gave itself.
    pub client_id: Box<str>,
    /// What it is written in.
    pub language: Language,
    /// Its release.
    pub version: i32,
    last_update: AtomicI64,
}

/// Members in the order in which they connected, by connection.
pub type Members = BTreeMap<u64, Arc<Member>>;

/// A topic that a group subscribes, ready to be matched with.
#[derive(Debug)]
pub struct Subscribed {
    /// What the client sent.
    pub data: SubscriptionData,
    /// What it means for queue entries, when it is a tag expression.
    pub filter: TagFilter,
}

/// A consumer group that is connected.
#[derive(Clone, Debug)]
pub struct ConsumerGroup {
    /// Its name.
    pub name: Arc<str>,
    /// Pull or push, as the last heartbeat says.
    pub consume_type: ConsumeType,
    /// Clustering or broadcasting, as the last heartbeat says.
    pub message_model: MessageModel,
    /// Where the clients begin, as the last heartbeat says.
    pub consume_from_where: ConsumeFromWhere,
    /// Who belongs to it.
    pub members: Members,
    /// What it subscribes, by topic.
    pub subscriptions: BTreeMap<Box<str>, Arc<Subscribed>>,
}

/// A producer group that is connected.
#[derive(Clone, Debug)]
pub struct ProducerGroup {
    /// Its name.
    pub name: Arc<str>,
    /// Who belongs to it.
    pub members: Members,
}

/// A consumer group's members share the queues anew, once they are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) group: Arc<str>,
    pub(super) members: Vec<u64>,
}

/// Why a client was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The group has as many members as it may.
    #[error("the consumer group[{group}] has {limit} members, limit maxConsumersPerGroup={limit}")]
    GroupFull {
        /// The group.
        group: String,
        /// How many members it may have.
        limit: usize,
    },
    /// The connection is in as many groups as it may.
    #[error(
        "the client[{client_id}] is in {GROUPS_PER_CONNECTION_MAX} groups, which is the limit, and cannot join [{group}]"
    )]
    TooManyGroups {
        /// The client.
        client_id: String,
        /// The group it wanted to join.
        group: String,
    },
    /// The group would subscribe too many topics.
    #[error("the consumer group[{group}] subscribes {count} topics, limit {TOPICS_PER_GROUP_MAX}")]
    TooManyTopics {
        /// The group.
        group: String,
        /// How many topics the heartbeat names.
        count: usize,
    },
}

/// The tables.
pub(super) struct Registry {
    consumers: HashMap<Arc<str>, Arc<ConsumerGroup>>,
    producers: HashMap<Arc<str>, Arc<ProducerGroup>>,
    /// Invariant: exactly the groups in which the connection is a member.
    connections: HashMap<u64, Roles>,
    /// The connection on which a client id registered a producer last.
    producer_clients: HashMap<Box<str>, u64>,
    members_max: usize,
}

#[derive(Default)]
struct Roles {
    consumer_of: Vec<Arc<str>>,
    producer_of: Vec<Arc<str>>,
}

impl Client {
    fn to_member(&self) -> Arc<Member> {
        Arc::new(Member {
            connection: self.connection,
            address: self.address,
            client_id: self.client_id.as_str().into(),
            language: self.language,
            version: self.version,
            last_update: AtomicI64::new(self.now.0),
        })
    }
}

impl Member {
    /// When the last heartbeat came.
    pub fn last_update(&self) -> Millis {
        Millis(self.last_update.load(Ordering::Relaxed))
    }

    /// Notes a heartbeat of the same client on the same connection; false when it is another client.
    fn refresh(&self, client: &Client) -> bool {
        let same = *self.client_id == *client.client_id;
        if same {
            self.last_update.store(client.now.0, Ordering::Relaxed);
        }
        same
    }
}

impl Subscribed {
    /// Prepares a subscription for matching.
    pub fn new(data: SubscriptionData) -> Self {
        let filter = TagFilter::of_subscription(&data.sub_string, data.code_set.iter().copied());
        Subscribed { data, filter }
    }
}

impl ConsumerGroup {
    fn is_described_by(&self, data: &ConsumerData) -> bool {
        self.consume_type == data.consume_type
            && self.message_model == data.message_model
            && self.consume_from_where == data.consume_from_where
            && self.subscriptions.len() == topics(data)
            && data.subscription_data_set.iter().all(|new| {
                self.subscriptions
                    .get(new.topic.as_str())
                    .is_some_and(|old| new.sub_version <= old.data.sub_version)
            })
    }

    /// Takes over the subscriptions of a heartbeat: newer versions replace, topics it does not name go. Says whether the
    /// set of topics changed.
    fn subscribe(&mut self, data: &ConsumerData) -> bool {
        let mut changed = false;
        for new in &data.subscription_data_set {
            let old = self.subscriptions.get(new.topic.as_str());
            if old.is_some_and(|old| new.sub_version <= old.data.sub_version) {
                continue;
            }
            changed |= old.is_none();
            self.subscriptions.insert(
                new.topic.as_str().into(),
                Arc::new(Subscribed::new(new.clone())),
            );
        }
        let before = self.subscriptions.len();
        self.subscriptions.retain(|topic, _| {
            data.subscription_data_set
                .iter()
                .any(|new| *new.topic == **topic)
        });
        changed || self.subscriptions.len() != before
    }
}

impl Registry {
    pub(super) fn new(members_max: usize) -> Registry {
        Registry {
            consumers: HashMap::new(),
            producers: HashMap::new(),
            connections: HashMap::new(),
            producer_clients: HashMap::new(),
            members_max,
        }
    }

    /// The heartbeat of a member that changes nothing: only its time is noted. False when something is to be changed.
    pub(super) fn refresh_consumer(&self, client: &Client, data: &ConsumerData) -> bool {
        self.consumers
            .get(data.group_name.as_str())
            .is_some_and(|group| {
                group.is_described_by(data)
                    && group
                        .members
                        .get(&client.connection)
                        .is_some_and(|member| member.refresh(client))
            })
    }

    /// Registers a consumer, or changes what its group looks like; whom to tell, if anybody.
    pub(super) fn register_consumer(
        &mut self,
        client: &Client,
        data: &ConsumerData,
    ) -> Result<Option<Changed>, RegistryError> {
        let name = data.group_name.as_str();
        let known = self.consumers.get(name);
        let is_member = known.is_some_and(|group| group.members.contains_key(&client.connection));
        if !is_member {
            self.check_room(client, name)?;
            if known.is_some_and(|group| self.members_max <= group.members.len()) {
                return Err(RegistryError::GroupFull {
                    group: name.to_owned(),
                    limit: self.members_max,
                });
            }
        }
        let count = topics(data);
        if TOPICS_PER_GROUP_MAX < count {
            return Err(RegistryError::TooManyTopics {
                group: name.to_owned(),
                count,
            });
        }
        let mut group = match known {
            Some(known) => ConsumerGroup::clone(known),
            None => ConsumerGroup {
                name: name.into(),
                consume_type: data.consume_type,
                message_model: data.message_model,
                consume_from_where: data.consume_from_where,
                members: Members::new(),
                subscriptions: BTreeMap::new(),
            },
        };
        group.consume_type = data.consume_type;
        group.message_model = data.message_model;
        group.consume_from_where = data.consume_from_where;
        join(&mut group.members, client, "consumer", name);
        let topics_changed = group.subscribe(data);
        if !is_member {
            self.connections
                .entry(client.connection)
                .or_default()
                .consumer_of
                .push(group.name.clone());
        }
        let changed = (!is_member || topics_changed).then(|| Changed::of(&group));
        self.consumers.insert(group.name.clone(), Arc::new(group));
        Ok(changed)
    }

    /// The heartbeat of a registered producer: only its time is noted. False when there is something to change.
    pub(super) fn refresh_producer(&self, client: &Client, group: &str) -> bool {
        let member = self
            .producers
            .get(group)
            .and_then(|group| group.members.get(&client.connection));
        member.is_some_and(|member| member.refresh(client))
    }

    /// Registers a producer.
    pub(super) fn register_producer(
        &mut self,
        client: &Client,
        name: &str,
    ) -> Result<(), RegistryError> {
        let known = self.producers.get(name);
        let is_member = known.is_some_and(|group| group.members.contains_key(&client.connection));
        if !is_member {
            self.check_room(client, name)?;
        }
        let mut group = match known {
            Some(known) => ProducerGroup::clone(known),
            None => ProducerGroup {
                name: name.into(),
                members: Members::new(),
            },
        };
        join(&mut group.members, client, "producer", name);
        if !is_member {
            self.connections
                .entry(client.connection)
                .or_default()
                .producer_of
                .push(group.name.clone());
        }
        self.producer_clients
            .insert(client.client_id.as_str().into(), client.connection);
        self.producers.insert(group.name.clone(), Arc::new(group));
        Ok(())
    }

    /// Removes a consumer; whom to tell, if anybody is left.
    pub(super) fn unregister_consumer(&mut self, connection: u64, group: &str) -> Option<Changed> {
        if let Some(roles) = self.connections.get_mut(&connection) {
            roles.consumer_of.retain(|name| **name != *group);
        }
        self.drop_if_idle(connection);
        self.remove_consumer(connection, group)
    }

    /// Removes a producer.
    pub(super) fn unregister_producer(&mut self, connection: u64, group: &str) {
        if let Some(roles) = self.connections.get_mut(&connection) {
            roles.producer_of.retain(|name| **name != *group);
        }
        self.drop_if_idle(connection);
        self.remove_producer(connection, group);
    }

    /// Removes everything that a connection registered; whom to tell.
    pub(super) fn closed(&mut self, connection: u64) -> Vec<Changed> {
        let Some(roles) = self.connections.remove(&connection) else {
            return Vec::new();
        };
        for group in &roles.producer_of {
            self.remove_producer(connection, group);
        }
        roles
            .consumer_of
            .iter()
            .filter_map(|group| self.remove_consumer(connection, group))
            .collect()
    }

    /// Connections with a registration that has not been refreshed for too long.
    pub(super) fn expired(&self, now: Millis) -> Vec<u64> {
        let consumers = self.consumers.values().map(|group| &group.members);
        let members = consumers
            .chain(self.producers.values().map(|group| &group.members))
            .flat_map(BTreeMap::values);
        let silent = members.filter(|member| EXPIRE_MS < now.since(member.last_update()));
        let mut connections: Vec<u64> = silent.map(|member| member.connection).collect();
        connections.sort_unstable();
        connections.dedup();
        connections
    }

    /// Whether anything is registered on a connection.
    pub(super) fn knows(&self, connection: u64) -> bool {
        self.connections.contains_key(&connection)
    }

    pub(super) fn consumer(&self, group: &str) -> Option<Arc<ConsumerGroup>> {
        self.consumers.get(group).cloned()
    }

    pub(super) fn consumers(&self) -> Vec<Arc<ConsumerGroup>> {
        let mut groups: Vec<_> = self.consumers.values().cloned().collect();
        groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        groups
    }

    pub(super) fn producers(&self, group: &str) -> Option<Arc<ProducerGroup>> {
        self.producers.get(group).cloned()
    }

    pub(super) fn producer_groups(&self) -> Vec<Arc<ProducerGroup>> {
        let mut groups: Vec<_> = self.producers.values().cloned().collect();
        groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        groups
    }

    pub(super) fn producer_connection(&self, client_id: &str) -> Option<u64> {
        self.producer_clients.get(client_id).copied()
    }

    fn check_room(&self, client: &Client, group: &str) -> Result<(), RegistryError> {
        let roles = self.connections.get(&client.connection);
        let count = roles.map_or(0, |roles| roles.consumer_of.len() + roles.producer_of.len());
        if GROUPS_PER_CONNECTION_MAX <= count {
            return Err(RegistryError::TooManyGroups {
                client_id: client.client_id.clone(),
                group: group.to_owned(),
            });
        }
        Ok(())
    }

    fn drop_if_idle(&mut self, connection: u64) {
        if self
            .connections
            .get(&connection)
            .is_some_and(|roles| roles.consumer_of.is_empty() && roles.producer_of.is_empty())
        {
            self.connections.remove(&connection);
        }
    }

    fn remove_consumer(&mut self, connection: u64, name: &str) -> Option<Changed> {
        let group = Arc::make_mut(self.consumers.get_mut(name)?);
        group.members.remove(&connection)?;
        if group.members.is_empty() {
            self.consumers.remove(name);
            tracing::info!(group = name, "the last consumer of the group is gone");
            return None;
        }
        Some(Changed::of(group))
    }

    fn remove_producer(&mut self, connection: u64, name: &str) {
        let Some(group) = self.producers.get_mut(name).map(Arc::make_mut) else {
            return;
        };
        let Some(member) = group.members.remove(&connection) else {
            return;
        };
        if group.members.is_empty() {
            self.producers.remove(name);
        }
        // The client may have registered again on another connection, or still be in another group on this one.
        let still = |roles: &Roles| roles.producer_of.iter().any(|group| **group != *name);
        if self.producer_clients.get(&member.client_id) == Some(&connection)
            && !self.connections.get(&connection).is_some_and(still)
        {
            self.producer_clients.remove(&member.client_id);
        }
    }
}

impl Changed {
    fn of(group: &ConsumerGroup) -> Changed {
        Changed {
            group: group.name.clone(),
            members: group.members.keys().copied().collect(),
        }
    }
}

/// Puts a client among the members of a group, or notes its heartbeat.
fn join(members: &mut Members, client: &Client, kind: &str, group: &str) {
    if members
        .get(&client.connection)
        .is_some_and(|member| member.refresh(client))
    {
        return;
    }
    tracing::info!(group, client_id = client.client_id, peer = %client.address, "new {kind}");
    members.insert(client.connection, client.to_member());
}

/// How many topics a heartbeat names; one may be named twice.
fn topics(data: &ConsumerData) -> usize {
    let mut names: Vec<&str> = data
        .subscription_data_set
        .iter()
        .map(|subscription| subscription.topic.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    names.len()
}

#[cfg(test)]
mod tests;
