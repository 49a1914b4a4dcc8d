//! The route table: which brokers are alive, which topics they hold, who owns a broker name.
//!
//! Plain data and functions: time and connection identity are arguments, results say what happened, nothing here
//! reads a clock, takes a lock, writes a log or touches a socket. `dispatch` turns requests into these calls,
//! `server` calls [`Routes::expire`] and [`Routes::connection_closed`]. Read-only questions are in `routes::lookup`.
//!
//! Times are milliseconds of a clock that never goes back (the shell counts from its start): a wrong wall clock
//! must not expire a fleet.

mod lookup;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use lookup::{Route, RouteBroker, SystemTopics, Unit};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use gantry_message::{Epoch, Millis};

/// A broker is dropped when nothing was heard from it for this long.
pub const EXPIRE_AFTER_MS: i64 = 120_000;
/// Time between two sweeps for expired brokers.
pub const SWEEP_EVERY_MS: i64 = 10_000;
/// The first sweep after the start.
pub const FIRST_SWEEP_MS: i64 = 5_000;
/// While the holder of a name was heard from within this time (two registration periods) and its connection is
/// open, nobody else may take the name.
pub const OWNER_QUIET_MS: i64 = 60_000;
/// The longest time a route is held for a broker that announced a restart.
pub const HOLD_MAX_MS: i64 = 15_000;
/// Broker addresses one name server keeps.
pub const BROKERS_MAX: usize = 10_000;
/// Broker names with promotions whose epoch one name server keeps.
pub const EPOCHS_MAX: usize = 10_000;
/// Topics one name server keeps.
pub const TOPICS_MAX: usize = 1_000_000;
/// Bytes of a cluster, broker or topic name, or of an address.
pub const NAME_MAX: usize = 255;
/// Brokers with this id are masters; only their topics count.
pub const MASTER_ID: i64 = 0;

/// A shared name: topics and broker names occur in several tables.
pub type Name = Arc<str>;

/// The connection a broker registered through. One that was accepted later has the greater number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The version of a broker's topic table. Two versions are the same when both numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version {
    /// Wall-clock time of the change, as the broker saw it.
    pub timestamp: i64,
    /// Count of changes.
    pub counter: i64,
}

/// What one broker offers of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// Queues that consumers read.
    pub read: i32,
    /// Queues that producers write.
    pub write: i32,
    /// Permission bits, `message::perm`.
    pub perm: i32,
    /// Topic flags: unit, unit subscription.
    pub sys_flag: i32,
}

impl fmt::Display for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "read {} write {} perm {} flags {}",
            self.read, self.write, self.perm, self.sys_flag
        )
    }
}

/// What a broker says of itself: request 103, decoded.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Cluster the broker belongs to.
    pub cluster: String,
    /// Broker name, shared by a master and its slaves.
    pub name: String,
    /// 0 for a master.
    pub id: i64,
    /// The address clients use.
    pub address: String,
    /// The address slaves of this broker use.
    pub ha_address: Option<String>,
    /// Version of its topic table.
    pub version: Version,
    /// Its topics: the whole table, or the one topic that changed.
    pub topics: Vec<(String, Queues)>,
    /// The newest promotion it knows of; a master's own.
    pub epoch: Epoch,
    /// Its filter servers; `None` leaves them as they are (brokers before 3.0.11).
    pub filter_servers: Option<Vec<String>>,
}

/// The master of a slave that just registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// The address clients use.
    pub address: String,
    /// The address the slave replicates from.
    pub ha_address: Option<String>,
}

/// What a registration changed.
#[derive(Debug, Default)]
pub struct Registered {
    /// For a slave: its master, when it is registered.
    pub master: Option<Master>,
    /// The newest promotion of this name that is known.
    pub epoch: Epoch,
    /// Things worth a log line.
    pub events: Vec<Event>,
}

/// Something an operator wants to read in the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// An address that was not known before.
    NewBroker,
    /// The name moved from this address, whose connection is closed or silent.
    TookOver(String),
    /// The address was registered as another broker before.
    WasKnownAs(Name, i64),
    /// A broker of this name was promoted; who is an older master must not write any more.
    Promoted(Epoch),
    /// The name moved from this cluster.
    ChangedCluster(String),
    /// The broker says another cluster than the master of its name; the master's counts.
    OtherCluster(String),
    /// Topics that this broker name did not have.
    NewTopics(Vec<Name>),
    /// A topic changed, from and to.
    ChangedTopic(Name, Queues, Queues),
    /// An entry of the topic table that cannot be used, and why.
    SkippedTopic(String, String),
    /// It came late, over a connection that the broker has left for a newer one: nothing was changed.
    Late,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        match self {
            Self::NewBroker => write!(f, "new broker registered"),
            Self::TookOver(from) => write!(
                f,
                "takes the place of {from}, which was replaced or whose connection is closed or silent"
            ),
            Self::Promoted(epoch) => write!(f, "knows of promotion {epoch} of its name"),
            Self::WasKnownAs(name, id) => write!(f, "was registered as {name} id {id} before"),
            Self::ChangedCluster(from) => write!(f, "moved here from cluster {from}"),
            Self::OtherCluster(says) => write!(
                f,
                "says it is in cluster {says}; the cluster of its master counts"
            ),
            Self::NewTopics(topics) => {
                write!(
                    f,
                    "{} new topics: {}",
                    topics.len(),
                    topics[..topics.len().min(SHOWN)].join(", ")
                )?;
                if SHOWN < topics.len() {
                    write!(f, ", ...")
                } else {
                    Ok(())
                }
            }
            Self::ChangedTopic(topic, from, to) => {
                write!(f, "topic {topic} changed: {from} -> {to}")
            }
            Self::SkippedTopic(topic, why) => write!(f, "topic {topic:?} left out: {why}"),
            Self::Late => write!(
                f,
                "registration over an older connection left out, what came over the newer one counts"
            ),
        }
    }
}

/// Why a registration is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Another live broker holds this name and id.
    #[error(
        "broker name {name} id {id} is held by {holder}, which is connected and registered {quiet_ms} ms ago; \
         {address} is refused until that connection closes or is silent for {OWNER_QUIET_MS} ms"
    )]
    Held {
        /// The name asked for.
        name: String,
        /// The id asked for.
        id: i64,
        /// Who asked.
        address: String,
        /// Who has it.
        holder: String,
        /// How long ago the holder was heard from.
        quiet_ms: i64,
    },
    /// A master that was replaced.
    #[error(
        "a broker of name {name} was promoted, epoch {newest}; the master {address} has epoch {epoch} and must not write: \
         mqadmin rejoin makes it a slave"
    )]
    Replaced {
        /// The name asked for.
        name: String,
        /// Who asked.
        address: String,
        /// Its epoch.
        epoch: Epoch,
        /// The newest one known.
        newest: Epoch,
    },
    /// A promotion that cannot be.
    #[error(
        "{address} of name {name} says epoch {epoch}, more than {} promotions ahead of {newest}: it is not believed",
        Epoch::AHEAD_MAX
    )]
    Unbelievable {
        /// The name asked for.
        name: String,
        /// Who asked.
        address: String,
        /// The epoch that it says.
        epoch: Epoch,
        /// The newest one known.
        newest: Epoch,
    },
    /// Names with promotions are too many.
    #[error(
        "{EPOCHS_MAX} broker names have promotions, that is the limit; {address} with epoch {epoch} is refused"
    )]
    TooManyEpochs {
        /// Who asked.
        address: String,
        /// Its epoch.
        epoch: Epoch,
    },
    /// A name that must not be empty is.
    #[error("{field} is empty")]
    Empty {
        /// The header field.
        field: &'static str,
    },
    /// A name is too long.
    #[error("{field} has {size} bytes, the limit is {NAME_MAX}")]
    TooLong {
        /// The header field.
        field: &'static str,
        /// Its size.
        size: usize,
    },
    /// The table is full.
    #[error("{BROKERS_MAX} brokers are registered, that is the limit; {address} is refused")]
    TooManyBrokers {
        /// Who asked.
        address: String,
    },
}

/// A broker that left the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Its address.
    pub address: String,
    /// Its name.
    pub name: Name,
    /// Its id.
    pub id: i64,
    /// The connection it registered through.
    pub connection: Option<ConnectionId>,
    /// It was the last of its name: its topics went with it.
    pub last_of_name: bool,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (name {} id {})", self.address, self.name, self.id)?;
        if self.last_of_name {
            write!(f, ", the last of its name: its topics are gone too")
        } else {
            Ok(())
        }
    }
}

/// The answer to "is this the topic table you have of me?" (322).
#[derive(Debug, PartialEq, Eq)]
pub struct VersionCheck {
    /// The broker should register.
    pub changed: bool,
    /// The version known of it.
    pub known: Option<Version>,
}

#[derive(Debug)]
struct Broker {
    name: Name,
    id: i64,
    ha_address: Option<String>,
    version: Version,
    /// As of its last registration.
    epoch: Epoch,
    /// The newest it was heard on; `None` once the broker announced its restart.
    // Invariant: while the broker is not silent, never replaced by an older one. After a cut link the name server may
    // read what was sent before the cut, and the end of that connection, after the broker came back by another.
    connection: Option<ConnectionId>,
    refreshed: Millis,
    /// Set while the route is held for a broker that announced its restart.
    held_until: Option<Millis>,
    /// The last registration was a whole table. One topic alone is taken for the notice of a change, after which
    /// the rest of the table may still be unknown here: the broker is asked to register until it says it all.
    complete: bool,
    filter_servers: Vec<String>,
    /// What the broker last said, topic by topic. An entry is applied when it differs from this or came with
    /// another version, so that a repeated registration neither loses what an incremental one left out, nor undoes
    /// a wiped permission or a topic deleted here.
    announced: BTreeMap<Name, Queues>,
}

#[derive(Debug)]
struct Group {
    cluster: String,
    // Invariant: never empty; each address has exactly one entry in `Routes::brokers`, under this name and id.
    addresses: BTreeMap<i64, String>,
}

/// All tables of the name server but the key-value one.
#[derive(Debug, Default)]
pub struct Routes {
    /// By address.
    brokers: BTreeMap<String, Broker>,
    /// By broker name.
    names: BTreeMap<Name, Group>,
    /// Topic, then broker name.
    // Invariant: inner maps are not empty and name only brokers of `names`.
    topics: BTreeMap<Name, BTreeMap<Name, Queues>>,
    /// The newest promotion of each broker name that has had one. Stays when its brokers are gone: a replaced master may
    /// be the first that comes back.
    epochs: BTreeMap<Name, Epoch>,
}

impl Routes {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what a broker says of itself. Topics come from masters only, and are added and changed here, never
    /// removed: the tools remove them by name.
    pub fn register(
        &mut self,
        said: &Registration,
        connection: ConnectionId,
        now: Millis,
    ) -> Result<Registered, RegisterError> {
        check_names(said)?;
        let known = self.epoch_of(&said.name);
        if self.is_late(&said.address, connection, now) {
            return Ok(Registered {
                master: self.master_of(said),
                epoch: known,
                events: vec![Event::Late],
            });
        }
        if said.id == MASTER_ID && said.epoch < known {
            return Err(RegisterError::Replaced {
                name: said.name.clone(),
                address: said.address.clone(),
                epoch: said.epoch,
                newest: known,
            });
        }
        if !said.epoch.can_follow(known) {
            return Err(RegisterError::Unbelievable {
                name: said.name.clone(),
                address: said.address.clone(),
                epoch: said.epoch,
                newest: known,
            });
        }
        if known < said.epoch && known == Epoch::NONE && EPOCHS_MAX <= self.epochs.len() {
            return Err(RegisterError::TooManyEpochs {
                address: said.address.clone(),
                epoch: said.epoch,
            });
        }
        self.check_holder(said, now)?;
        if !self.brokers.contains_key(&said.address) && BROKERS_MAX <= self.brokers.len() {
            return Err(RegisterError::TooManyBrokers {
                address: said.address.clone(),
            });
        }
        let mut events = Vec::new();
        let name = self.take_place(said, &mut events);
        if known < said.epoch {
            self.epochs.insert(name.clone(), said.epoch);
            events.push(Event::Promoted(said.epoch));
        }
        self.refresh(said, &name, connection, now);
        if said.id == MASTER_ID {
            self.announce(said, &name, &mut events);
        }
        Ok(Registered {
            master: self.master_of(said),
            epoch: known.max(said.epoch),
            events,
        })
    }

    /// The newest promotion of a broker name that is known.
    #[must_use]
    pub fn epoch_of(&self, name: &str) -> Epoch {
        self.epochs.get(name).copied().unwrap_or_default()
    }

    /// Answers 322: an unchanged version counts as a sign of life. Over a newer connection it also says that the broker
    /// is there now: Apache's registers only what changed, also after it had to connect again.
    pub fn check_version(
        &mut self,
        address: &str,
        version: Version,
        connection: ConnectionId,
        now: Millis,
    ) -> VersionCheck {
        let late = self.is_late(address, connection, now);
        let Some(broker) = self.brokers.get_mut(address) else {
            return VersionCheck {
                changed: true,
                known: None,
            };
        };
        let newest = self.epochs.get(&broker.name).copied().unwrap_or_default();
        // A master that was replaced shall register, to be told so.
        let is_replaced = broker.id == MASTER_ID && broker.epoch < newest;
        let changed = broker.version != version || !broker.complete || is_replaced;
        if !changed && !late {
            broker.refreshed = now;
            if broker.connection.is_some() {
                broker.connection = Some(connection);
            }
        }
        VersionCheck {
            changed,
            known: Some(broker.version),
        }
    }

    /// Removes a broker that says it stops. An address that is not registered under this name is left alone: its
    /// place may have been taken by another since. So is one that registered over a newer connection: what stopped is
    /// the process before.
    pub fn unregister(
        &mut self,
        name: &str,
        address: &str,
        connection: ConnectionId,
        now: Millis,
    ) -> Option<Removed> {
        let late = self.is_late(address, connection, now);
        let broker = self.brokers.get(address)?;
        if *broker.name == *name && !late {
            self.remove(address)
        } else {
            None
        }
    }

    /// Keeps the routes of a broker that says it restarts: it is expected back within `hold_ms` (at most
    /// [`HOLD_MAX_MS`]), and the end of its connection does not remove it. False if it is not registered, or is back
    /// over a newer connection already.
    pub fn hold(
        &mut self,
        name: &str,
        address: &str,
        hold_ms: i64,
        (connection, now): (ConnectionId, Millis),
    ) -> bool {
        let late = self.is_late(address, connection, now);
        match self.brokers.get_mut(address) {
            Some(broker) if *broker.name == *name && !late => {
                broker.connection = None;
                broker.held_until =
                    Some(Millis(now.0.saturating_add(hold_ms.clamp(0, HOLD_MAX_MS))));
                true
            }
            _ => false,
        }
    }

    /// Removes every broker that registered last through this connection.
    pub fn connection_closed(&mut self, connection: ConnectionId) -> Vec<Removed> {
        self.remove_where(|broker| broker.connection == Some(connection))
    }

    /// Removes every broker that was silent for too long, or did not come back from its restart in time. The
    /// caller closes the connections of what it returns.
    pub fn expire(&mut self, now: Millis) -> Vec<Removed> {
        self.remove_where(|broker| match broker.held_until {
            Some(until) => until <= now,
            None => broker.refreshed.0.saturating_add(EXPIRE_AFTER_MS) < now.0,
        })
    }

    /// When the first held route ends, for a sweep out of turn.
    #[must_use]
    pub fn first_hold_end(&self) -> Option<Millis> {
        self.brokers
            .values()
            .filter_map(|broker| broker.held_until)
            .min()
    }

    /// Takes the write permission of every topic of a broker name, until that broker announces another version.
    /// Returns the number of topics.
    pub fn wipe_write_perm(&mut self, name: &str) -> usize {
        self.change_perm(name, |perm| perm & !gantry_message::perm::WRITE)
    }

    /// Gives read and write permission to every topic of a broker name. Returns the number of topics.
    pub fn add_write_perm(&mut self, name: &str) -> usize {
        self.change_perm(name, |_| {
            gantry_message::perm::READ | gantry_message::perm::WRITE
        })
    }

    /// Forgets a topic everywhere. False if it was not known.
    pub fn delete_topic(&mut self, topic: &str) -> bool {
        self.topics.remove(topic).is_some()
    }

    /// Forgets a topic on the brokers of one cluster. Returns the number of brokers that had it.
    pub fn delete_topic_in_cluster(&mut self, topic: &str, cluster: &str) -> usize {
        let Some(brokers) = self.topics.get_mut(topic) else {
            return 0;
        };
        let before = brokers.len();
        brokers.retain(|name, _| {
            self.names
                .get(name)
                .is_none_or(|group| group.cluster != cluster)
        });
        let after = brokers.len();
        if after == 0 {
            self.topics.remove(topic);
        }
        before - after
    }

    /// Whether the broker at this address was heard on a newer connection, not long ago. A broker has one connection to
    /// a name server and leaves it for good when it makes another, so that what comes over the older one was sent
    /// before. If the newer one falls silent, the older counts again.
    fn is_late(&self, address: &str, connection: ConnectionId, now: Millis) -> bool {
        self.brokers.get(address).is_some_and(|broker| {
            broker.connection.is_some_and(|newest| connection < newest)
                && now.0.saturating_sub(broker.refreshed.0) < OWNER_QUIET_MS
        })
    }

    fn check_holder(&self, said: &Registration, now: Millis) -> Result<(), RegisterError> {
        let holder = self
            .names
            .get(said.name.as_str())
            .and_then(|group| group.addresses.get(&said.id));
        let Some(holder) = holder.filter(|holder| **holder != said.address) else {
            return Ok(());
        };
        let Some(broker) = self.brokers.get(holder) else {
            return Ok(());
        };
        let quiet_ms = now.0.saturating_sub(broker.refreshed.0);
        // Who was promoted later takes the master's place, however alive it is.
        if said.id == MASTER_ID && broker.epoch < said.epoch {
            return Ok(());
        }
        if broker.connection.is_none() || OWNER_QUIET_MS <= quiet_ms {
            return Ok(());
        }
        Err(RegisterError::Held {
            name: said.name.clone(),
            id: said.id,
            address: said.address.clone(),
            holder: holder.clone(),
            quiet_ms,
        })
    }

    /// Makes `said.address` the owner of its name and id, and of nothing else.
    fn take_place(&mut self, said: &Registration, events: &mut Vec<Event>) -> Name {
        let known_as = self
            .brokers
            .get(&said.address)
            .map(|broker| (broker.name.clone(), broker.id));
        match known_as {
            None => events.push(Event::NewBroker),
            Some((name, id)) if *name != *said.name || id != said.id => {
                // Changing the id keeps the name: the group must not disappear, with its topics, in between.
                if *name == *said.name {
                    self.brokers.remove(&said.address);
                    if let Some(group) = self.names.get_mut(&name) {
                        group.addresses.remove(&id);
                    }
                } else {
                    self.remove(&said.address);
                }
                events.push(Event::WasKnownAs(name, id));
            }
            Some(_) => {}
        }
        let name = match self.names.get_key_value(said.name.as_str()) {
            Some((name, _)) => name.clone(),
            None => Name::from(said.name.as_str()),
        };
        let group = self.names.entry(name.clone()).or_insert_with(|| Group {
            cluster: said.cluster.clone(),
            addresses: BTreeMap::new(),
        });
        if group.cluster != said.cluster {
            if said.id == MASTER_ID {
                let from = std::mem::replace(&mut group.cluster, said.cluster.clone());
                events.push(Event::ChangedCluster(from));
            } else {
                events.push(Event::OtherCluster(said.cluster.clone()));
            }
        }
        let before = group.addresses.insert(said.id, said.address.clone());
        if let Some(before) = before.filter(|before| *before != said.address) {
            self.brokers.remove(&before);
            events.push(Event::TookOver(before));
        }
        name
    }

    /// Writes down that the broker is alive; drops entries of its table that a whole one no longer has.
    fn refresh(&mut self, said: &Registration, name: &Name, connection: ConnectionId, now: Millis) {
        let broker = self
            .brokers
            .entry(said.address.clone())
            .or_insert_with(|| Broker {
                name: name.clone(),
                id: said.id,
                ha_address: None,
                version: said.version,
                epoch: said.epoch,
                connection: None,
                refreshed: now,
                held_until: None,
                complete: false,
                filter_servers: Vec::new(),
                announced: BTreeMap::new(),
            });
        broker.ha_address.clone_from(&said.ha_address);
        broker.epoch = said.epoch;
        broker.connection = Some(connection);
        broker.refreshed = now;
        broker.held_until = None;
        broker.complete = said.topics.len() != 1;
        if let Some(servers) = &said.filter_servers {
            broker.filter_servers.clone_from(servers);
        }
        if broker.version != said.version {
            broker.version = said.version;
            // Another version: everything in this registration is applied, known or not.
            for (topic, _) in &said.topics {
                broker.announced.remove(topic.as_str());
            }
            if broker.complete {
                broker.announced.clear();
            }
        }
    }

    /// Applies what differs from the broker's last word.
    fn announce(&mut self, said: &Registration, name: &Name, events: &mut Vec<Event>) {
        let Some(broker) = self.brokers.get_mut(&said.address) else {
            return;
        };
        let mut new = Vec::new();
        for (topic, queues) in &said.topics {
            if broker.announced.get(topic.as_str()) == Some(queues) {
                continue;
            }
            if let Err(why) = check_topic(topic, *queues) {
                events.push(Event::SkippedTopic(topic.clone(), why));
                continue;
            }
            if TOPICS_MAX <= self.topics.len() && !self.topics.contains_key(topic.as_str()) {
                let why = format!("{TOPICS_MAX} topics are registered, that is the limit");
                events.push(Event::SkippedTopic(topic.clone(), why));
                continue;
            }
            let shared = match self.topics.get_key_value(topic.as_str()) {
                Some((topic, _)) => topic.clone(),
                None => Name::from(topic.as_str()),
            };
            match self
                .topics
                .entry(shared.clone())
                .or_default()
                .insert(name.clone(), *queues)
            {
                None => new.push(shared.clone()),
                Some(before) if before != *queues => {
                    events.push(Event::ChangedTopic(shared.clone(), before, *queues));
                }
                Some(_) => {}
            }
            broker.announced.insert(shared, *queues);
        }
        if !new.is_empty() {
            events.push(Event::NewTopics(new));
        }
    }

    fn master_of(&self, said: &Registration) -> Option<Master> {
        if said.id == MASTER_ID {
            return None;
        }
        let address = self
            .names
            .get(said.name.as_str())?
            .addresses
            .get(&MASTER_ID)?;
        let broker = self.brokers.get(address)?;
        Some(Master {
            address: address.clone(),
            ha_address: broker.ha_address.clone(),
        })
    }

    fn change_perm(&mut self, name: &str, change: impl Fn(i32) -> i32) -> usize {
        let mut changed = 0;
        for brokers in self.topics.values_mut() {
            if let Some(queues) = brokers.get_mut(name) {
                queues.perm = change(queues.perm);
                changed += 1;
            }
        }
        changed
    }

    fn remove_where(&mut self, gone: impl Fn(&Broker) -> bool) -> Vec<Removed> {
        let addresses: Vec<String> = self
            .brokers
            .iter()
            .filter(|(_, broker)| gone(broker))
            .map(|(address, _)| address.clone())
            .collect();
        addresses
            .iter()
            .filter_map(|address| self.remove(address))
            .collect()
    }

    fn remove(&mut self, address: &str) -> Option<Removed> {
        let broker = self.brokers.remove(address)?;
        let mut last_of_name = false;
        if let Some(group) = self.names.get_mut(&broker.name) {
            group.addresses.remove(&broker.id);
            last_of_name = group.addresses.is_empty();
        }
        if last_of_name {
            self.names.remove(&broker.name);
            self.topics.retain(|_, brokers| {
                brokers.remove(&broker.name);
                !brokers.is_empty()
            });
        }
        Some(Removed {
            address: address.to_owned(),
            name: broker.name,
            id: broker.id,
            connection: broker.connection,
            last_of_name,
        })
    }
}

fn check_names(said: &Registration) -> Result<(), RegisterError> {
    let fields = [
        ("clusterName", &said.cluster),
        ("brokerName", &said.name),
        ("brokerAddr", &said.address),
    ];
    for (field, value) in fields {
        if value.is_empty() {
            return Err(RegisterError::Empty { field });
        }
        if NAME_MAX < value.len() {
            return Err(RegisterError::TooLong {
                field,
                size: value.len(),
            });
        }
    }
    match &said.ha_address {
        Some(ha) if NAME_MAX < ha.len() => Err(RegisterError::TooLong {
            field: "haServerAddr",
            size: ha.len(),
        }),
        _ => Ok(()),
    }
}

fn check_topic(topic: &str, queues: Queues) -> Result<(), String> {
    if topic.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if NAME_MAX < topic.len() {
        return Err(format!(
            "the name has {} bytes, the limit is {NAME_MAX}",
            topic.len()
        ));
    }
    if queues.read < 0 || queues.write < 0 {
        return Err(format!("a number of queues is negative: {queues}"));
    }
    Ok(())
}
