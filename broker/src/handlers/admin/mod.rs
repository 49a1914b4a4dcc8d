//! What administrators ask of a broker, one file a noun: mqadmin, consoles and slaves are the peers.
//!
//! Each struct holds the parts its requests use; which code goes where stands in `dispatch`, who may ask at all in
//! `gates`. Methods that touch files say "Blocks" and run where that is allowed.
//! [`Identity`] is what many answers carry: who this broker is.

pub mod cleaning;
pub mod config;
pub mod connections;
pub mod copies;
pub mod figures;
pub mod groups;
pub mod positions;
pub mod progress;
pub mod queues;
pub mod relay;
pub mod runtime;
pub mod topics;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use gantry_disk::Disk;
use gantry_message::{Millis, QueueId, QueueOffset};
use gantry_store::Store;
use gantry_wire::bodies::MessageQueue;

use crate::clients::Clients;
use crate::config::BrokerRole;
use crate::delay::Delay;
use crate::live::LiveConfig;
use crate::refusal::Refusal;
use crate::stats::Stats;
use crate::tables::{Groups, Offsets, Topics};

/// Every administrative handler, made of what the broker has.
pub struct Admin {
    /// 17, 202, 215, 305.
    pub topics: topics::TopicAdmin,
    /// 200, 207, 300.
    pub groups: groups::GroupAdmin,
    /// 208, 303, 317.
    pub progress: progress::Progress,
    /// 308, 314.
    pub positions: positions::Positions,
    /// 321.
    pub queues: queues::Queues,
    /// 203, 204, 328.
    pub connections: connections::Connections,
    /// 21, 43, 45, 201.
    pub copies: copies::Copies,
    /// 25, 26.
    pub config: config::ConfigAdmin,
    /// 28.
    pub runtime: runtime::RuntimeInfo,
    /// 315.
    pub figures: figures::Figures,
    /// 306, 316, 329.
    pub cleaning: cleaning::Cleaning,
    /// 222, 223, 307, 309.
    pub relay: Arc<relay::Relay>,
}

/// What [`Admin`] is made of.
pub struct AdminParts {
    /// Who this broker is.
    pub identity: Arc<Identity>,
    /// The store, and where it is.
    pub store: Arc<Store>,
    /// Its folders.
    pub paths: runtime::StorePaths,
    /// Topics.
    pub topics: Arc<Topics>,
    /// Subscription groups.
    pub groups: Arc<Groups>,
    /// Where groups stand.
    pub offsets: Arc<Offsets>,
    /// Who is connected.
    pub clients: Arc<Clients>,
    /// Delayed messages.
    pub delay: Arc<Delay>,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// The file that keeps run-time changes of the configuration.
    pub overrides: PathBuf,
}

impl Admin {
    /// Hands each handler its parts.
    pub fn new(parts: AdminParts, now: Millis) -> Self {
        let AdminParts {
            identity,
            store,
            paths,
            topics,
            groups,
            offsets,
            clients,
            delay,
            stats,
            disk,
            overrides,
        } = parts;
        let live = identity.live.clone();
        Self {
            topics: topics::TopicAdmin {
                identity: identity.clone(),
                topics: topics.clone(),
                store: store.clone(),
                stats: stats.clone(),
            },
            groups: groups::GroupAdmin {
                identity: identity.clone(),
                groups: groups.clone(),
                offsets: offsets.clone(),
                clients: clients.clone(),
                stats: stats.clone(),
            },
            progress: progress::Progress {
                identity: identity.clone(),
                store: store.clone(),
                topics: topics.clone(),
                groups: groups.clone(),
                offsets: offsets.clone(),
                clients: clients.clone(),
                stats: stats.clone(),
            },
            positions: positions::Positions {
                offsets: offsets.clone(),
                store: store.clone(),
                topics: topics.clone(),
                clients: clients.clone(),
            },
            queues: queues::Queues {
                store: store.clone(),
                clients: clients.clone(),
            },
            connections: connections::Connections {
                clients: clients.clone(),
            },
            copies: copies::Copies {
                topics: topics.clone(),
                groups,
                offsets: offsets.clone(),
                delay: delay.clone(),
            },
            config: config::ConfigAdmin::new(live, topics.clone(), disk.clone(), overrides, now),
            runtime: runtime::RuntimeInfo {
                identity: identity.clone(),
                stats: stats.clone(),
                store: store.clone(),
                delay,
                paths,
                disk,
            },
            figures: figures::Figures {
                stats: stats.clone(),
            },
            cleaning: cleaning::Cleaning {
                identity: identity.clone(),
                store: store.clone(),
                topics: topics.clone(),
                stats,
            },
            relay: Arc::new(relay::Relay {
                identity,
                clients,
                store,
                topics,
                offsets,
            }),
        }
    }
}

/// Most queues a topic may be given; a table with a row for each still fits into one answer.
const QUEUES_MAX: i32 = 65_535;

/// Who this broker is, as its answers say it.
pub struct Identity {
    /// Its address as it is announced, `brokerIP1:listenPort`.
    pub address: SocketAddr,
    /// `brokerName`.
    pub name: String,
    /// Master or slave.
    pub role: BrokerRole,
    /// Configuration as it runs.
    pub live: Arc<LiveConfig>,
}

impl Identity {
    /// Tables are changed on masters only.
    fn check_writable(&self) -> Result<(), Refusal> {
        if self.role == BrokerRole::Slave {
            Err(Refusal::slave_is_read_only())
        } else {
            Ok(())
        }
    }

    /// A queue of this broker, as bodies name it.
    fn queue(&self, topic: &str, id: QueueId) -> MessageQueue {
        MessageQueue {
            broker_name: self.name.clone(),
            queue_id: i32::try_from(id.0).unwrap_or(i32::MAX),
            topic: topic.to_owned(),
        }
    }
}

/// The queues of a topic with this many; a damaged table may say anything.
fn queue_ids(count: i32) -> impl Iterator<Item = QueueId> {
    (0..u32::try_from(count.min(QUEUES_MAX)).unwrap_or(0)).map(QueueId)
}

/// An offset as it travels.
fn sent(offset: QueueOffset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}
