//! The composition root: which parts a broker has, in which order they start and stop.
//!
//! Nothing else knows all parts; [`Broker`] is handed to nobody. `start` is a start in its phases, `state` what is opened
//! from the disk in one of them, `stop` the end.

mod failures;
mod listeners;
mod start;
mod state;
mod stop;

use std::{io, net::SocketAddr, sync::Arc};

use gantry_config::plan_reload;
use gantry_disk::Disk;
use gantry_message::Millis;
use gantry_net::server::Server;
use gantry_replication::{Misfit, Part};
use gantry_service::{Sockets, events};
use gantry_store::Store;
use tokio::task::JoinHandle;

use crate::{
    config::BrokerConfig,
    delay::Delay,
    follow::Follow,
    live::LiveConfig,
    metrics::Board,
    registration::Registration,
    replicas::Replicas,
    seats::{self, Seats},
    slave::Slave,
    standing::Standing,
    tables::{Offsets, Topics},
    timers::Timers,
};

/// A running broker.
pub struct Broker {
    disk: Arc<dyn Disk>,
    /// The listening sockets, for another start.
    sockets: Sockets,
    banner: String,
    address: SocketAddr,
    /// What the configuration makes of it, whatever it is after promotions.
    configured: Part,
    seats: Arc<Seats>,
    live: Arc<LiveConfig>,
    store: Arc<Store>,
    offsets: Arc<Offsets>,
    delay: Arc<Delay>,
    topics: Arc<Topics>,
    registration: Arc<Registration>,
    server: Server,
    replicas: Replicas,
    standing: Arc<Standing>,
    /// Of a slave.
    follow: Option<Follow>,
    /// Of a slave.
    slave: Option<Slave>,
    timers: Timers,
    /// What goes on until the end: the watch over the store, words and signs of life for the service manager.
    _watches: [Task<()>; 4],
    board: Arc<Board>,
    metrics: Option<Task<io::Result<()>>>,
}

/// Why a broker starts again in the same process: see [`Broker::start_again`].
#[derive(Debug)]
pub enum Again {
    /// A slave's log has an end that its master's has not: it is cut off.
    Cut(Misfit),
    /// It has another part after a promotion.
    Part,
}

/// A task that ends when it is dropped.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Broker {
    /// The line that says it serves, worded as RocketMQ's.
    pub fn banner(&self) -> &str {
        &self.banner
    }

    /// What it does, for `systemctl status`.
    pub fn status(&self) -> String {
        self.standing.text()
    }

    /// Grows with every change of the configuration.
    pub fn config_generation(&self) -> u64 {
        self.live.generation()
    }

    /// Takes up what may change while it runs from a configuration that was read again (SIGHUP), unless the running one
    /// has changed since it had that generation: what was read may lack the change. Returns whether it did.
    #[must_use]
    pub fn reload(&self, fresh: &BrokerConfig, generation: u64) -> bool {
        let mut before = 0;
        let mut fresh = fresh.clone();
        seats::take(self.seats.now().part, &mut fresh);
        let taken_up = self.live.change(|running, present| {
            if present != generation {
                return None;
            }
            let reload = plan_reload(running, &fresh);
            tracing::info!(
                message_id = events::RELOADED,
                "configuration read again; taken up: {:?}; what needs a restart: {:?}",
                reload.taken_up,
                reload.need_restart
            );
            self.standing.needs_restart(reload.need_restart);
            before = running.broker_permission;
            Some(reload.config)
        });
        if !taken_up {
            return false;
        }
        // Name servers look at the permission only with a new version of the topics, which is written first: not here,
        // for a disk that hangs must not keep the control runtime from what is to be done about it.
        if before != self.live.now().broker_permission {
            let topics = self.topics.clone();
            tokio::task::spawn_blocking(move || {
                if let Err(error) = topics.touch(Millis::now()) {
                    tracing::error!(%error, "the changed brokerPermission is not announced before a topic changes");
                }
            });
        }
        true
    }

    /// Resolves when the broker cannot go on as it is: see [`Broker::start_again`].
    pub async fn again(&self) -> Again {
        let misfit = async {
            match &self.follow {
                Some(follow) => follow.misfit().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            misfit = misfit => Again::Cut(misfit),
            () = self.seats.changed() => Again::Part,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where slaves connect.
    pub fn ha_address(&self) -> SocketAddr {
        self.replicas.address()
    }
}

#[cfg(test)]
mod tests;
