//! Keeps this broker known to the name servers.
//!
//! One task per name server, so that one that is down or slow holds up no other: it registers at once and then every 30 s,
//! whenever the topic table changes, and whenever the connection was lost; at the stop it takes the broker out. What to do
//! when is decided in `session`, what is told in `announcement`; `driver` has the sockets.
//! Settings are followed as they run. A changed `brokerPermission` counts with the next change of the topic table
//! (`Topics::touch`), because name servers only look at topics that come with a new data version. What is announced is
//! never more than a latched store allows (`latch`).

mod announcement;
mod driver;
pub mod session;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gantry_message::Millis;
use gantry_store::Store;
use gantry_wire::bodies::{Registration as Body, TopicConfig};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    config::{BrokerConfig, BrokerRole},
    latch,
    live::LiveConfig,
    seats::{self, Seats},
    tables::{Snapshot, Topics},
};
pub use announcement::Identity;
use session::{Revision, Rules};

/// The registration of one broker.
pub struct Registration {
    shared: Arc<Shared>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

/// What the master of this name is, as a name server told a slave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Master {
    /// Where it serves; nothing while no master is registered.
    pub address: Option<String>,
    /// Where slaves connect to it: `haMasterAddress` if that is set, else what was said last. It is kept while the master
    /// is away.
    pub ha_address: Option<String>,
}

/// What the tasks of all name servers share.
struct Shared {
    identity: Identity,
    topics: Arc<Topics>,
    store: Arc<Store>,
    seats: Arc<Seats>,
    live: Arc<LiveConfig>,
    stopping: watch::Sender<bool>,
    /// What the name servers said of the master of this name.
    master: watch::Sender<Master>,
    progress: Mutex<Progress>,
    progressed: Condvar,
    /// Held while the order flags of topics are set from one name server's answer.
    ordering: tokio::sync::Mutex<()>,
    started: Instant,
    /// What was encoded last: every name server gets the same bytes.
    encoded: Mutex<Option<Encoded>>,
}

/// How far each name server is.
#[derive(Default)]
struct Progress {
    servers: BTreeMap<SocketAddr, Standing>,
    /// Why the name servers that refuse this broker do.
    refusals: BTreeMap<SocketAddr, String>,
    /// The configured names have been looked up at least once.
    resolved: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Standing {
    /// Place in the list of name servers.
    rank: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its first registration is under way.
    Trying,
    /// It has the topics of this generation.
    Has(u64),
    /// It is out of reach or refuses us.
    Away,
}

struct Encoded {
    revision: Revision,
    compressed: bool,
    body: Bytes,
}

/// What there is to announce at one moment.
struct Current {
    snapshot: Arc<Snapshot<TopicConfig>>,
    revision: Revision,
}

impl Registration {
    /// Nothing is told to anybody before [`Registration::start`].
    pub fn new(
        identity: Identity,
        live: Arc<LiveConfig>,
        topics: Arc<Topics>,
        (store, seats): (Arc<Store>, Arc<Seats>),
    ) -> Registration {
        // An administrator's word on where to replicate from goes before any name server's.
        let master = Master {
            address: None,
            ha_address: fixed_ha_address(&live.now()),
        };
        let shared = Shared {
            identity,
            topics,
            store,
            seats,
            live,
            master: watch::Sender::new(master),
            stopping: watch::Sender::new(false),
            progress: Mutex::default(),
            progressed: Condvar::new(),
            ordering: tokio::sync::Mutex::default(),
            started: Instant::now(),
            encoded: Mutex::new(None),
        };
        Registration {
            shared: Arc::new(shared),
            supervisor: Mutex::new(None),
        }
    }

    /// Begins to register. Must be called on the runtime that is to do it.
    pub fn start(&self) {
        let supervisor = tokio::spawn(driver::supervise(self.shared.clone()));
        let before = lock(&self.supervisor).replace(supervisor);
        assert!(before.is_none(), "a registration is started once");
    }

    /// Takes the broker out of all name servers that have it, and ends. At most 3 s.
    pub async fn stop(&self) {
        self.shared.stopping.send_replace(true);
        let supervisor = lock(&self.supervisor).take();
        if let Some(supervisor) = supervisor
            && let Err(error) = supervisor.await
        {
            tracing::error!(%error, "the registration ended badly");
        }
    }

    /// Blocks until every name server has the topic table of this generation or is known to be out of reach; false when that
    /// takes longer than `timeout`. For administrators, who go on with the new topic at once, and for the start.
    pub fn wait_announced(&self, generation: u64, timeout: Duration) -> bool {
        let progress = lock(&self.shared.progress);
        let waiting = |progress: &mut Progress| !progress.is_settled(generation);
        let result = self
            .shared
            .progressed
            .wait_timeout_while(progress, timeout, waiting);
        let (progress, _) = result.unwrap_or_else(PoisonError::into_inner);
        progress.is_settled(generation)
    }

    /// The name servers that have this broker.
    pub fn registered_at(&self) -> Vec<SocketAddr> {
        let progress = lock(&self.shared.progress);
        let has = |standing: &Standing| matches!(standing.state, State::Has(_));
        progress
            .servers
            .iter()
            .filter(|(_, standing)| has(standing))
            .map(|(address, _)| *address)
            .collect()
    }

    /// What the name servers said about the master of this name; nothing for a master.
    pub fn master(&self) -> Master {
        self.shared.master.borrow().clone()
    }

    /// As [`Registration::master`], for who waits for a change of it.
    pub fn masters(&self) -> watch::Receiver<Master> {
        self.shared.master.subscribe()
    }

    /// Why name servers do not take this broker, if one refuses it.
    pub fn refusal(&self) -> Option<String> {
        let progress = lock(&self.shared.progress);
        let mut refusals = progress.refusals.iter();
        refusals
            .next()
            .map(|(server, why)| refusal_text(*server, why))
    }
}

impl Progress {
    fn is_settled(&self, generation: u64) -> bool {
        self.resolved
            && self.servers.values().all(|standing| match standing.state {
                State::Trying => false,
                State::Has(known) => generation <= known,
                State::Away => true,
            })
    }

    /// Whether this name server decides where name servers may differ: it is the first in the list of those that have us.
    fn leads(&self, address: SocketAddr) -> bool {
        let has = self
            .servers
            .iter()
            .filter(|(_, standing)| matches!(standing.state, State::Has(_)));
        has.min_by_key(|(_, standing)| standing.rank)
            .is_some_and(|(first, _)| *first == address)
    }
}

impl Shared {
    /// A clock that does not go back.
    fn now(&self) -> Millis {
        Millis(i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    fn rules(&self) -> Rules {
        let config = self.live.now();
        Rules {
            period_ms: i64::try_from(config.register_name_server_period).unwrap_or(i64::MAX),
            force: config.force_register,
            // A slave without a master looks for one; not whoever cannot follow the one that is known.
            seeking: config.store.broker_role == BrokerRole::Slave
                && (self.master.borrow().address.is_none() || self.seats.is_misled()),
        }
    }

    fn is_slave(&self) -> bool {
        self.live.now().store.broker_role == BrokerRole::Slave
    }

    /// Whether this broker is to be something else than what was registered.
    fn is_other_part(&self) -> bool {
        self.seats.now().part != seats::configured(&self.live.now())
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.live.now().register_broker_timeout_mills)
    }

    fn current(&self) -> Current {
        // The generation is read before the table, so that what is sent is never older than what is noted as sent; and the
        // permission after it: it is set before the table's generation grows for its sake.
        let generation = self.topics.generation();
        let snapshot = self.topics.all();
        let permission = latch::permission(&self.live.now(), &self.store);
        Current {
            snapshot,
            revision: Revision {
                generation,
                permission,
            },
        }
    }

    fn note(&self, address: SocketAddr, state: State) {
        if let Some(standing) = lock(&self.progress).servers.get_mut(&address) {
            standing.state = state;
        }
        self.progressed.notify_all();
    }

    /// The whole table for the wire, encoded once for all name servers.
    fn encode_all(&self, current: &Current, compressed: bool) -> Bytes {
        let mut encoded = lock(&self.encoded);
        if let Some(known) = &*encoded
            && known.revision == current.revision
            && known.compressed == compressed
        {
            return known.body.clone();
        }
        let body = encode(
            &announcement::all(&current.snapshot, current.revision.permission),
            compressed,
        );
        *encoded = Some(Encoded {
            revision: current.revision,
            compressed,
            body: body.clone(),
        });
        body
    }
}

fn refusal_text(name_server: SocketAddr, why: &str) -> String {
    format!("name server {name_server} refuses this broker: {why}")
}

/// `haMasterAddress`; Java does not look at one of fewer than six characters.
fn fixed_ha_address(config: &BrokerConfig) -> Option<String> {
    let address = config.store.ha_master_address.as_deref()?.trim();
    (6 <= address.len()).then(|| address.to_owned())
}

fn encode(body: &Body, compressed: bool) -> Bytes {
    Bytes::from(if compressed {
        body.encode_compressed()
    } else {
        body.encode()
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
