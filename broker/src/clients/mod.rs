//! Who is connected: consumers and producers by group, and who is told when a consumer group changes.
//!
//! Owns the registrations that heartbeats make and that unregistering, a closed connection or 120 s of silence end, and sends
//! members the notice (40) that makes them share the queues anew. The rules are in `registry`, which knows no socket;
//! here connections are looked up and written to. Nothing is kept on disk: clients come back with their next heartbeat.

mod registry;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use gantry_message::Millis;
use gantry_net::Peer;
use gantry_wire::{FieldSink, bodies::ConsumerData, codes::request};
use rustc_hash::FxHashMap;

use crate::live::LiveConfig;
use registry::{Changed, Registry};
pub use registry::{
    Client, ConsumerGroup, Member, Members, ProducerGroup, RegistryError, Subscribed,
};

/// How often silent clients are looked for.
const SWEEP_MS: i64 = 10_000;

/// Whether a group wants its members to be told of changes (`notifyConsumerIdsChangedEnable` of the group).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupNotice {
    /// They are told.
    Send,
    /// They find out by themselves, within 20 s.
    Omit,
}

/// The connected clients.
pub struct Clients {
    state: RwLock<State>,
    live: Arc<LiveConfig>,
}

struct State {
    registry: Registry,
    /// Invariant: holds every connection that the registry names.
    peers: FxHashMap<u64, Peer>,
}

impl Clients {
    /// Nobody is connected.
    pub fn new(live: Arc<LiveConfig>) -> Clients {
        let members_max = usize::try_from(live.now().max_consumers_per_group).unwrap_or(usize::MAX);
        let registry = Registry::new(members_max);
        Clients {
            state: RwLock::new(State {
                registry,
                peers: FxHashMap::default(),
            }),
            live,
        }
    }

    /// A heartbeat's consumer. The group's members are told when one joined or the topics changed, if `notice`
    /// (the group's own `notifyConsumerIdsChangedEnable`) says so.
    pub fn register_consumer(
        &self,
        peer: &Peer,
        client: &Client,
        data: &ConsumerData,
        notice: GroupNotice,
    ) -> Result<(), RegistryError> {
        if self.read().registry.refresh_consumer(client, data) {
            return Ok(());
        }
        let joined = self.enter(peer, |registry| registry.register_consumer(client, data));
        self.leave_if_closed(peer);
        if let Some(changed) = joined? {
            self.tell(notice, &[changed]);
        }
        Ok(())
    }

    /// A heartbeat's producer.
    pub fn register_producer(
        &self,
        peer: &Peer,
        client: &Client,
        group: &str,
    ) -> Result<(), RegistryError> {
        if self.read().registry.refresh_producer(client, group) {
            return Ok(());
        }
        let registered = self.enter(peer, |registry| registry.register_producer(client, group));
        self.leave_if_closed(peer);
        registered
    }

    /// A consumer says goodbye; those who remain are told, if `notice` says so.
    pub fn unregister_consumer(&self, connection: u64, group: &str, notice: GroupNotice) {
        let changed = self.leave(connection, |registry| {
            registry.unregister_consumer(connection, group)
        });
        self.tell(notice, changed.as_slice());
    }

    /// A producer says goodbye.
    pub fn unregister_producer(&self, connection: u64, group: &str) {
        self.leave(connection, |registry| {
            registry.unregister_producer(connection, group)
        });
    }

    /// A connection has ended: everything that was registered on it ends, and those who remain are told.
    pub fn closed(&self, connection: u64) {
        // Most connections that end have registered nothing, or said goodbye before.
        if !self.read().peers.contains_key(&connection) {
            return;
        }
        let changed = self.leave(connection, |registry| registry.closed(connection));
        self.tell(GroupNotice::Send, &changed);
    }

    /// Ends what has been silent for 120 s and closes its connections; says when to be called next.
    pub fn step(&self, now: Millis) -> Millis {
        let expired: Vec<Peer> = {
            let state = self.read();
            state
                .registry
                .expired(now)
                .iter()
                .filter_map(|connection| state.peers.get(connection).cloned())
                .collect()
        };
        for peer in expired {
            tracing::warn!(peer = %peer.address(), "a client sent no heartbeat for 120 s, its connection is closed");
            peer.close();
            self.closed(peer.id());
        }
        now.plus(SWEEP_MS)
    }

    /// A consumer group as it is now, if anybody of it is connected.
    pub fn consumer(&self, group: &str) -> Option<Arc<ConsumerGroup>> {
        self.read().registry.consumer(group)
    }

    /// All connected consumer groups, by name.
    pub fn consumers(&self) -> Vec<Arc<ConsumerGroup>> {
        self.read().registry.consumers()
    }

    /// What a group subscribed in a topic.
    pub fn subscription(&self, group: &str, topic: &str) -> Option<Arc<Subscribed>> {
        self.consumer(group)?.subscriptions.get(topic).cloned()
    }

    /// The client ids of a group in the order in which they connected.
    pub fn consumer_ids(&self, group: &str) -> Vec<String> {
        let group = self.consumer(group);
        group
            .iter()
            .flat_map(|group| group.members.values())
            .map(|member| member.client_id.to_string())
            .collect()
    }

    /// The connected groups that subscribe to a topic.
    pub fn groups_of_topic(&self, topic: &str) -> BTreeSet<String> {
        let groups = self.consumers();
        let subscribed = groups
            .iter()
            .filter(|group| group.subscriptions.contains_key(topic));
        subscribed.map(|group| group.name.to_string()).collect()
    }

    /// A producer group as it is now, if anybody of it is connected.
    pub fn producers(&self, group: &str) -> Option<Arc<ProducerGroup>> {
        self.read().registry.producers(group)
    }

    /// All connected producer groups, by name.
    pub fn producer_groups(&self) -> Vec<Arc<ProducerGroup>> {
        self.read().registry.producer_groups()
    }

    /// The connection of a registered member.
    pub fn peer(&self, member: &Member) -> Option<Peer> {
        self.read().peers.get(&member.connection).cloned()
    }

    /// A member of a consumer group and its connection, by its client id.
    pub fn consumer_peer(&self, group: &str, client_id: &str) -> Option<(Arc<Member>, Peer)> {
        let group = self.consumer(group)?;
        let member = group
            .members
            .values()
            .find(|member| &*member.client_id == client_id)?;
        Some((member.clone(), self.peer(member)?))
    }

    /// The connection on which a client registered a producer last.
    pub fn producer_peer(&self, client_id: &str) -> Option<Peer> {
        let state = self.read();
        state
            .peers
            .get(&state.registry.producer_connection(client_id)?)
            .cloned()
    }

    fn enter<R>(&self, peer: &Peer, register: impl FnOnce(&mut Registry) -> R) -> R {
        let state = &mut *self.write();
        let result = register(&mut state.registry);
        if state.registry.knows(peer.id()) {
            state.peers.entry(peer.id()).or_insert_with(|| peer.clone());
        }
        result
    }

    fn leave<R>(&self, connection: u64, unregister: impl FnOnce(&mut Registry) -> R) -> R {
        let state = &mut *self.write();
        let result = unregister(&mut state.registry);
        if !state.registry.knows(connection) {
            state.peers.remove(&connection);
        }
        result
    }

    /// The connection may have ended while its heartbeat was worked on, and `closed` been called when there was nothing to end
    /// yet.
    fn leave_if_closed(&self, peer: &Peer) {
        if !peer.is_open() {
            self.closed(peer.id());
        }
    }

    /// Sends one-way notices; nobody waits for anything here.
    fn tell(&self, notice: GroupNotice, changed: &[Changed]) {
        if notice == GroupNotice::Omit || !self.live.now().notify_consumer_ids_changed_enable {
            return;
        }
        for Changed { group, members } in changed {
            let peers: Vec<Peer> = {
                let state = self.read();
                members
                    .iter()
                    .filter_map(|connection| state.peers.get(connection).cloned())
                    .collect()
            };
            for peer in peers {
                peer.notify(
                    request::NOTIFY_CONSUMER_IDS_CHANGED,
                    &mut |fields| fields.text("consumerGroup", group),
                    &[],
                );
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
