//! The master's side of replication: who may connect to the HA port, and when the links are closed.
//!
//! The log is everything there is to know, so it goes only to addresses that are registered as slaves of this broker's
//! name, or listed in `haPeers` (decision 20); the first costs a question to the name servers, whose answer counts for a
//! while (`known`). What happens on a link is the business of [`Links`].

mod known;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gantry_message::LogOffset;
use gantry_replication::{LinkStatus, Links, Patience};
use gantry_service::Failure;
use gantry_store::Store;
use tokio::{net::TcpStream, sync::Semaphore, task::JoinHandle, time};

use crate::{
    config::{BrokerConfig, name_server_list},
    live::LiveConfig,
    rivals,
    seats::Seats,
};
use known::Known;

/// How long a name server may take to say who is registered.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// So many strangers are asked about at once; more are closed.
const ASKED_MAX: usize = 16;
/// How long a stop waits for a slave to get the last bytes.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// After a failed accept (no descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The HA port and the links behind it.
pub struct Replicas {
    address: SocketAddr,
    door: Arc<Door>,
    store: Arc<Store>,
    accepting: JoinHandle<()>,
}

/// A slave of this broker's name, as a name server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Registered {
    id: i64,
    /// As it is announced.
    address: String,
    ips: Vec<IpAddr>,
}

/// Decides who may connect.
pub struct Door {
    live: Arc<LiveConfig>,
    links: Arc<Links>,
    seats: Arc<Seats>,
    asked: Semaphore,
    known: Mutex<Known>,
    /// The slaves of this broker's name, as a name server said last.
    registered: Mutex<Vec<Registered>>,
    /// Addresses that were turned away: the log names each once.
    strangers: Mutex<HashSet<IpAddr>>,
}

impl Replicas {
    /// Serves slaves that connect to `listener`. Must run on the control runtime.
    pub fn start(
        listener: TcpListener,
        live: Arc<LiveConfig>,
        store: Arc<Store>,
        seats: Arc<Seats>,
    ) -> Result<Replicas, Failure> {
        let config = live.now();
        let patience = Patience {
            heartbeat: Duration::from_millis(config.store.ha_send_heartbeat_interval),
            silence: Duration::from_millis(config.store.ha_housekeeping_interval),
        };
        let links = Links::new(store.clone(), patience);
        links.want(slaves_wanted(&config));
        let follower = Arc::downgrade(&links);
        live.follow(move |config| {
            if let Some(links) = follower.upgrade() {
                links.want(slaves_wanted(config));
            }
        });
        let failed = |error| Failure::other(format!("the HA port: {error}"));
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let door = Arc::new(Door::new(live, links, seats));
        let accepting = tokio::spawn(accept(listener, door.clone()));
        Ok(Replicas {
            address,
            door,
            store,
            accepting,
        })
    }

    /// Where slaves connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is known of the slaves.
    pub fn links(&self) -> &Arc<Links> {
        &self.door.links
    }

    /// Who may connect.
    pub fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Gives a connected slave a moment to get the last bytes, then closes every link. Nothing may be stored any more.
    pub async fn stop(self) {
        self.accepting.abort();
        let LogOffset(end) = self.store.max_offset();
        // One is enough to keep it.
        self.links().want(1);
        if self.links().count() != 0 && end != 0 {
            let has_all = self.links().replicated().beyond(end - 1);
            if time::timeout(STOP_PATIENCE, has_all).await.is_err() {
                let behind = end.saturating_sub(self.links().replicated().value());
                tracing::warn!(behind, "no slave has the end of the log");
            }
        }
        self.links().stop();
    }
}

fn slaves_wanted(config: &BrokerConfig) -> usize {
    usize::try_from(config.store.in_sync_replicas).unwrap_or(usize::MAX)
}

async fn accept(listener: tokio::net::TcpListener, door: Arc<Door>) {
    let mut is_failing = false;
    loop {
        match listener.accept().await {
            Ok((socket, address)) => {
                is_failing = false;
                let door = door.clone();
                tokio::spawn(async move { door.open(socket, address).await });
            }
            Err(error) => {
                if !is_failing {
                    tracing::error!(%error, "the HA port takes no connections");
                }
                is_failing = true;
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Door {
    fn new(live: Arc<LiveConfig>, links: Arc<Links>, seats: Arc<Seats>) -> Door {
        Door {
            live,
            links,
            seats,
            asked: Semaphore::new(ASKED_MAX),
            known: Mutex::default(),
            registered: Mutex::default(),
            strangers: Mutex::default(),
        }
    }

    async fn open(&self, socket: TcpStream, address: SocketAddr) {
        let slave = SocketAddr::new(address.ip().to_canonical(), address.port());
        if !self.is_trusted(slave.ip()).await {
            let why = "no slave of this name is registered there, and haPeers does not list it";
            self.links.turned_away(slave, why.to_owned());
            return;
        }
        if let Some(why) = self.seats.why_no_master() {
            self.links.turned_away(slave, why);
            return;
        }
        let served = socket
            .into_std()
            .and_then(|socket| self.links.serve(socket, slave));
        if let Err(error) = served {
            tracing::error!(%slave, %error, "a slave cannot be served");
            self.links.turned_away(slave, error.to_string());
            return;
        }
        if self.registered_at(slave.ip(), None).is_none()
            && let Ok(_turn) = self.asked.try_acquire()
        {
            // Only for its name in the metrics: one that is listed need not be registered.
            let _ = self.is_registered(&self.live.now(), slave.ip()).await;
        }
    }

    /// A slave's main port as it is announced, or its host alone where no name server has told.
    pub fn address_of(&self, slave: &LinkStatus) -> String {
        let ip = slave.slave.ip();
        self.registered_at(ip, slave.id)
            .unwrap_or_else(|| ip.to_string())
    }

    fn registered_at(&self, ip: IpAddr, id: Option<u64>) -> Option<String> {
        let registered = lock(&self.registered);
        let there = registered.iter().filter(|one| one.ips.contains(&ip));
        let mut fitting = there.filter(|one| id.is_none_or(|id| u64::try_from(one.id) == Ok(id)));
        let (first, second) = (fitting.next(), fitting.next());
        // Of two on one host an address does not say which.
        first
            .filter(|_| second.is_none())
            .map(|one| one.address.clone())
    }

    /// Whether a name server knows a slave of this broker's name at that address.
    async fn is_registered(&self, config: &BrokerConfig, address: IpAddr) -> bool {
        let name_servers = config.namesrv_addr.as_deref().unwrap_or_default();
        for name_server in name_server_list(name_servers) {
            match time::timeout(ASK_TIMEOUT, slaves(name_server, &config.broker_name)).await {
                Ok(Ok(slaves)) => {
                    let is_there = slaves.iter().any(|slave| slave.ips.contains(&address));
                    if is_there || !slaves.is_empty() {
                        *lock(&self.registered) = slaves;
                    }
                    if is_there {
                        return true;
                    }
                }
                Ok(Err(error)) => {
                    tracing::debug!(name_server, error, "who is registered cannot be told");
                }
                Err(_) => tracing::debug!(name_server, "no answer to who is registered"),
            }
        }
        false
    }

    /// What is known of the slaves.
    pub fn links(&self) -> &Arc<Links> {
        &self.links
    }

    /// Whether the log may go to that address. The first no of an address is logged. Costs a question to the name servers
    /// only when none was asked about it lately.
    pub async fn is_trusted(&self, address: IpAddr) -> bool {
        let config = self.live.now();
        if is_listed(&config, address) {
            return true;
        }
        if let Some(is_known) = lock(&self.known).of(address, Instant::now()) {
            return is_known;
        }
        let Ok(_turn) = self.asked.try_acquire() else {
            tracing::debug!(%address, "too many strangers want the log at once");
            return false;
        };
        let is_known = self.is_registered(&config, address).await;
        lock(&self.known).note(address, is_known, Instant::now());
        if !is_known {
            self.turn_away(address, &config.broker_name);
        }
        is_known
    }

    fn turn_away(&self, address: IpAddr, broker: &str) {
        let mut strangers = lock(&self.strangers);
        if strangers.len() < 1_000 && strangers.insert(address) {
            tracing::warn!(
                "connections of {address} to the HA port are closed: no slave of {broker} is registered from there, and \
                 haPeers does not list it"
            );
        }
    }
}

fn is_listed(config: &BrokerConfig, address: IpAddr) -> bool {
    let listed = config.store.ha_peers.as_deref().unwrap_or_default();
    listed
        .split([',', ';'])
        .map(str::trim)
        .any(|peer| peer == "*" || peer.parse() == Ok(address))
}

/// A broker name's slaves, as a name server knows them.
async fn slaves(name_server: &str, broker: &str) -> Result<Vec<Registered>, String> {
    let mut slaves = Vec::new();
    let brokers = rivals::named(name_server, broker).await?;
    for (id, address) in brokers.iter().filter(|(id, _)| **id != 0) {
        let found = tokio::net::lookup_host(address.as_str()).await;
        let ips = found.into_iter().flatten();
        slaves.push(Registered {
            id: *id,
            address: address.clone(),
            ips: ips.map(|address| address.ip().to_canonical()).collect(),
        });
    }
    Ok(slaves)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
