//! 103, 104 and 322: brokers come, stay and go.
//!
//! Also what follows from a registration: which connection stands for which brokers, and the connections that end
//! because their brokers were silent for too long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gantry_message::Epoch;
use gantry_net::Peer;
use gantry_wire::bodies::{DataVersion, Registration as Body, TopicConfig, body_crc32};
use gantry_wire::headers::{
    EPOCH, QueryDataVersion, QueryDataVersionAnswer, RegisterBroker, RegisterBrokerAnswer,
    UnregisterBroker,
};
use gantry_wire::{Request, Response, version};
use tokio::sync::Notify;

use super::{Table, Uptime};
use crate::kv::{Kv, ORDER_TOPIC_CONFIG};
use crate::refusal::Refusal;
use crate::routes::{
    ConnectionId, EXPIRE_AFTER_MS, Queues, RegisterError, Registration, Removed, Version,
};

/// Field of 104 by which a Gantry broker says that it restarts: its route is held for so many milliseconds.
pub(crate) const RESTART_HOLD: &str = "restartHoldMillis";
/// Log lines one registration may cause.
const LINES_MAX: usize = 50;
/// Refusals remembered, so that each is logged once between two sweeps.
const REFUSED_MAX: usize = 1_000;

/// Requests of brokers.
#[derive(Debug)]
pub(crate) struct Registrations {
    routes: Table,
    kv: Arc<Kv>,
    clock: Uptime,
    /// Connections through which brokers registered.
    peers: Mutex<BTreeMap<ConnectionId, Peer>>,
    /// Refusals logged already.
    refused: Mutex<BTreeSet<String>>,
    /// Tells the sweep that a route is held and when to look.
    pub(crate) held: Notify,
}

impl Registrations {
    pub(crate) fn new(routes: Table, kv: Arc<Kv>, clock: Uptime) -> Self {
        Self {
            routes,
            kv,
            clock,
            peers: Mutex::default(),
            refused: Mutex::default(),
            held: Notify::new(),
        }
    }

    pub(crate) fn register(&self, peer: &Peer, request: &Request) -> Result<Response, Refusal> {
        let header: RegisterBroker<'_> = request.header()?;
        if header.body_crc32 != 0 && header.body_crc32 != body_crc32(&request.body) {
            tracing::warn!(
                "registration of {} from {}: crc32 not match",
                header.broker_addr,
                peer.address()
            );
            return Err(Refusal::new("crc32 not match"));
        }
        let said = registration(&header, request)?;
        let connection = ConnectionId(peer.id());
        let done = self
            .routes
            .lock()
            .register(&said, connection, self.clock.now());
        let done = match done {
            Ok(done) => done,
            Err(error @ RegisterError::Replaced { newest, .. }) => {
                // It must stop writing, so it is told for whom.
                self.log_refusal(&said, &error.to_string());
                return Ok(Response::from(Refusal::from(error)).field(EPOCH, newest));
            }
            Err(error) => {
                self.log_refusal(&said, &error.to_string());
                return Err(error.into());
            }
        };
        self.remember(peer);
        for event in done.events.iter().take(LINES_MAX) {
            tracing::info!(
                "{} (cluster {} name {} id {}): {event}",
                said.address,
                said.cluster,
                said.name,
                said.id
            );
        }
        let master = done.master.as_ref();
        let answer = RegisterBrokerAnswer {
            ha_server_addr: master.and_then(|master| master.ha_address.as_deref()),
            master_addr: master.map(|master| master.address.as_str()),
        };
        let order = self
            .kv
            .list(ORDER_TOPIC_CONFIG)
            .map(|table| table.encode())
            .unwrap_or_default();
        let answer = Response::with_body(order).header(&answer);
        Ok(if done.epoch.is_some() {
            answer.field(EPOCH, done.epoch)
        } else {
            answer
        })
    }

    pub(crate) fn unregister(&self, peer: &Peer, request: &Request) -> Result<Response, Refusal> {
        let header: UnregisterBroker<'_> = request.header()?;
        let (name, address) = (header.broker_name, header.broker_addr);
        let hold = request
            .fields
            .get(RESTART_HOLD)
            .and_then(|text| text.parse::<i64>().ok());
        let (connection, now) = (ConnectionId(peer.id()), self.clock.now());
        let mut routes = self.routes.lock();
        let done = match hold {
            Some(millis) if routes.hold(name, address, millis, (connection, now)) => {
                self.held.notify_one();
                format!("restarts, its routes are held for {millis} ms")
            }
            _ => match routes.unregister(name, address, connection, now) {
                Some(removed) => format!("unregistered: {removed}"),
                None => "is not registered under this name, or over a newer connection; \
                         nothing to unregister"
                    .to_owned(),
            },
        };
        tracing::info!(
            "{address} (name {name} id {}) from {}: {done}",
            header.broker_id,
            peer.address()
        );
        Ok(Response::ok())
    }

    pub(crate) fn check_version(
        &self,
        peer: &Peer,
        request: &Request,
    ) -> Result<Response, Refusal> {
        let header: QueryDataVersion<'_> = request.header()?;
        let asked = DataVersion::parse(&request.body)?;
        let version = Version {
            timestamp: asked.timestamp,
            counter: asked.counter,
        };
        let connection = ConnectionId(peer.id());
        let check = self.routes.lock().check_version(
            header.broker_addr,
            version,
            connection,
            self.clock.now(),
        );
        if !check.changed {
            self.remember(peer);
        }
        let known = check.known.map(|known| DataVersion {
            counter: known.counter,
            timestamp: known.timestamp,
        });
        let body = known.map(|known| known.encode()).unwrap_or_default();
        Ok(Response::with_body(body).header(&QueryDataVersionAnswer {
            changed: check.changed,
        }))
    }

    /// Brokers may stand with this connection: its end counts.
    fn remember(&self, peer: &Peer) {
        lock(&self.peers)
            .entry(ConnectionId(peer.id()))
            .or_insert_with(|| peer.clone());
    }

    /// A connection has ended: its brokers are gone at once.
    pub(crate) fn connection_closed(&self, peer: &Peer) {
        let connection = ConnectionId(peer.id());
        if lock(&self.peers).remove(&connection).is_some() {
            for removed in self.routes.lock().connection_closed(connection) {
                tracing::warn!("the broker's channel destroyed, removed {removed}");
            }
        }
    }

    /// Removes who was silent for too long and hangs up on them.
    pub(crate) fn sweep(&self) {
        let gone = self.routes.lock().expire(self.clock.now());
        for removed in &gone {
            tracing::warn!(
                "The broker channel expired, {EXPIRE_AFTER_MS} ms or its restart took too long: {removed}"
            );
        }
        let connections = gone
            .iter()
            .filter_map(|removed: &Removed| removed.connection);
        let peers: Vec<Peer> = {
            let known = lock(&self.peers);
            connections
                .filter_map(|connection| known.get(&connection).cloned())
                .collect()
        };
        peers.iter().for_each(Peer::close);
        lock(&self.refused).clear();
    }

    fn log_refusal(&self, said: &Registration, why: &str) {
        let mut refused = lock(&self.refused);
        if refused.len() < REFUSED_MAX
            && refused.insert(format!("{} {} {}", said.name, said.id, said.address))
        {
            tracing::warn!("registration refused: {why}");
        }
    }
}

fn registration(header: &RegisterBroker<'_>, request: &Request) -> Result<Registration, Refusal> {
    let with_filters = version::REGISTER_WITH_FILTER_SERVERS <= request.version;
    let body = if with_filters {
        Body::read(&request.body, header.compressed)?
    } else {
        Body::read_topics_only(&request.body)?
    };
    let table = body.topic_config_serialize_wrapper;
    Ok(Registration {
        cluster: header.cluster_name.to_owned(),
        name: header.broker_name.to_owned(),
        id: header.broker_id,
        address: header.broker_addr.to_owned(),
        ha_address: Some(header.ha_server_addr)
            .filter(|address| !address.is_empty())
            .map(str::to_owned),
        version: Version {
            timestamp: table.data_version.timestamp,
            counter: table.data_version.counter,
        },
        topics: table.topic_config_table.into_iter().map(topic).collect(),
        epoch: match request.fields.get(EPOCH) {
            Some(text) => text
                .parse::<Epoch>()
                .map_err(|error| Refusal::new(format!("{EPOCH}: {error}")))?,
            None => Epoch::NONE,
        },
        filter_servers: with_filters.then_some(body.filter_server_list),
    })
}

/// The name inside an entry counts, as in Java; the key does for an entry without.
fn topic((key, config): (String, TopicConfig)) -> (String, Queues) {
    let name = if config.topic_name.is_empty() {
        key
    } else {
        config.topic_name
    };
    let queues = Queues {
        read: config.read_queue_nums,
        write: config.write_queue_nums,
        perm: config.perm,
        sys_flag: config.topic_sys_flag,
    };
    (name, queues)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
