//! The composition root: which parts a broker has, in which order they start and stop.
//!
//! Nothing else knows all parts; [`Broker`] is handed to nobody. Ports are bound and the store is locked before anything
//! is changed on disk, so a start that cannot succeed leaves everything as it was.
//!
//! A start that is told to stop ends at the next good place: in recovery as a `kill -9` would end it; behind that, while
//! nobody knows of the broker yet, by closing the store; and once it registers, the start gets to its end without waiting
//! for anybody, and is stopped like any other.

mod failures;
mod listeners;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, OnceLock, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use gantry_config::plan_reload;
use gantry_disk::{Disk, OsDisk};
use gantry_message::Millis;
use gantry_net::server::Server;
use gantry_replication::{Misfit, Part};
use gantry_service::{Failure, Sockets, StopOrder, events, logging, notify};
use gantry_store::{Cut, RecoveryWatch, Store, StoreConfig, StoreError};
use tokio::task::JoinHandle;

use failures::{store_failure, table_failure};
use listeners::{announced_host, bind, bind_ha};

use crate::{
    acks::SlaveAcks,
    clients::Clients,
    config::{
        BrokerConfig, BrokerRole,
        parts::{hot_bytes, io_threads, limits, log_paths, store_config},
    },
    delay::{Delay, DelayConfig, DelayParts, Levels},
    dispatch::Dispatch,
    follow::Follow,
    gates::Gates,
    handlers::{
        admin::{
            Identity,
            cleaning::Cleaning,
            config::ConfigAdmin,
            connections::Connections,
            copies::Copies,
            figures::Figures,
            groups::GroupAdmin,
            link::LinkAdmin,
            positions::Positions,
            progress::Progress,
            queues::Queues,
            relay::Relay,
            runtime::{RuntimeInfo, StorePaths},
            seats::SeatAdmin,
            topics::TopicAdmin,
        },
        clients::ClientRequests,
        heartbeat::Heartbeat,
        locks::QueueLocks,
        offsets::OffsetRequests,
        pull::Pull,
        query::Query,
        send::Send,
        send_back::SendBack,
    },
    latch,
    live::LiveConfig,
    locks::Locks,
    measures::AllMeasures,
    metrics::{
        self, Board, BrokerSource, ObjectParts, ObjectSource, ReplicationSource, RequestSource,
        Source, StoreSource,
    },
    pairing::{self, Following, Pairing},
    registration::{self, Registration},
    replicas::{Door, Replicas},
    rivals,
    seats::{self, Seats},
    shard::{Parts, RcShard, Shard},
    slave::{self, Known, Slave},
    standing::{self, Standing},
    stats::{Stats, StatsConfig},
    tables::{Groups, Offsets, Topics},
    timers::{Step, Timers},
};

/// How long a stop waits for requests that were read before it.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How long a start waits, behind its recovery, for word of another master.
const RIVAL_WAIT: Duration = Duration::from_millis(500);

/// How long the boot line waits for name servers.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(3);

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
    metrics: Option<Task<std::io::Result<()>>>,
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

/// The parts that requests work on, in the order in which they depend on each other.
struct State {
    live: Arc<LiveConfig>,
    seats: Arc<Seats>,
    /// What a slave knows of its master.
    known: Known,
    store: Arc<Store>,
    stats: Arc<Stats>,
    topics: Arc<Topics>,
    groups: Arc<Groups>,
    offsets: Arc<Offsets>,
    clients: Arc<Clients>,
    locks: Arc<Locks>,
    delay: Arc<Delay>,
    measures: Arc<AllMeasures>,
}

impl Broker {
    /// Binds, opens the store, recovers, serves, registers. Must run on the control runtime.
    pub async fn start(config: BrokerConfig) -> Result<Broker, Failure> {
        let order = StopOrder::default();
        let started = Self::start_on(Arc::new(OsDisk), config, Sockets::none(), &order).await?;
        Ok(started.unwrap_or_else(|| unreachable!("nobody gave the order")))
    }

    /// [`Broker::start`] with the store and all tables on this disk, and with listening sockets of the process before.
    /// `None`: it was told to stop, has said so, and nothing of it is left but blocked threads. Not cancellation-safe.
    pub async fn start_on(
        disk: Arc<dyn Disk>,
        config: BrokerConfig,
        sockets: Sockets,
        order: &StopOrder,
    ) -> Result<Option<Broker>, Failure> {
        Self::start_with(disk, config, (sockets, None), order).await
    }

    /// Stops and starts with the same sockets, for the reason that [`Broker::again`] gave: who connects meanwhile waits.
    /// `None` and cancellation as with [`Broker::start_on`].
    pub async fn start_again(
        mut self,
        again: Again,
        order: &StopOrder,
    ) -> Result<Option<Broker>, Failure> {
        let (disk, mut config) = (self.disk.clone(), BrokerConfig::clone(&self.live.now()));
        seats::take(self.configured, &mut config);
        let misfit = match again {
            Again::Cut(misfit) => {
                let why = &misfit.cut.why;
                tracing::warn!(why, "starting again without the end of the log");
                Some(misfit)
            }
            Again::Part => {
                let seat = self.seats.now();
                tracing::warn!(epoch = %seat.epoch, "starting again as {}", seat.part.name());
                None
            }
        };
        let sockets = std::mem::take(&mut self.sockets);
        self.stop().await?;
        Self::start_with(disk, config, (sockets, misfit), order).await
    }

    async fn start_with(
        disk: Arc<dyn Disk>,
        mut config: BrokerConfig,
        (mut sockets, misfit): (Sockets, Option<Misfit>),
        order: &StopOrder,
    ) -> Result<Option<Broker>, Failure> {
        let started = Instant::now();
        let (listeners, address) = bind(&mut config, &mut sockets)?;
        let ha_listener = bind_ha(&config, &mut sockets)?;
        let metrics_listener = metrics::bind(&config, &mut sockets)?;
        if 0 < sockets.adopted() {
            tracing::info!(
                sockets = sockets.adopted(),
                "listening on where clients wait since the stop"
            );
        }
        let Some(store_host) = unless(order, announced_host(&config)).await else {
            tracing::info!(message_id = events::STOPPED, "stopped; nothing was started");
            return Ok(None);
        };
        let store_host = store_host?;
        let root = PathBuf::from(&config.store.store_path_root_dir);
        let config_folder = root.join("config");
        let configured = seats::configured(&config);
        let seats = {
            let (disk, name) = (disk.clone(), config.broker_name.clone());
            tokio::task::spawn_blocking(move || Seats::load(disk, &root, (&name, configured)))
                .await
                .map_err(|error| Failure::other(format!("reading {}: {error}", seats::FILE)))??
        };
        let seat = seats.now();
        let cut = misfit.and_then(|Misfit { cut, epoch }| {
            let is_meant = seat.may_cut(epoch);
            if !is_meant {
                // Whoever promotes goes by all of it.
                tracing::warn!(epoch = %seat.epoch, "there was a promotion meanwhile: the end of the log stays");
            }
            is_meant.then_some(cut)
        });
        seats::take(seat.part, &mut config);
        let live = LiveConfig::new(config);
        live.follow(|config| logging::set_level(config.server.log_level));
        let board = Board::new(started, live.clone());
        // It may have been replaced while it was down.
        let looking = seats
            .now()
            .is_master()
            .then(|| tokio::spawn(rivals::look(live.clone(), seats.clone())));
        let metrics = metrics_listener
            .map(|listener| Task(tokio::spawn(metrics::serve(listener, board.clone()))));
        let state = {
            let (live, disk) = (live.clone(), disk.clone());
            let place = (config_folder, seats.clone());
            let watch = standing::recovering(board.clone());
            let (board, told) = (board.clone(), order.clone());
            // What a cut takes away and what it brings back belong together, so that is seen through.
            let watch = match cut {
                None => watch.until(move || told.is_given()),
                Some(_) => watch,
            };
            // Recovery reads files for as long as it takes.
            tokio::task::spawn_blocking(move || {
                State::open(disk, place, live, (board, watch), cut.as_ref())
            })
            .await
            .map_err(|error| Failure::other(format!("opening the store: {error}")))??
        };
        let Some(state) = state else {
            tracing::info!(
                message_id = events::STOPPED_UNCLEAN,
                "stopped while the store was recovered; nothing is lost, the next start recovers it"
            );
            return Ok(None);
        };
        let config = live.now();
        warn_if_open(&config);
        let identity = registration::Identity {
            cluster: config.broker_cluster_name.clone(),
            broker: config.broker_name.clone(),
            broker_id: config.broker_id,
            address: config.broker_address(),
            ha_address: config.ha_address(),
        };
        let registration = Arc::new(Registration::new(
            identity,
            live.clone(),
            state.topics.clone(),
            (state.store.clone(), seats.clone()),
        ));
        if let Some(looking) = looking {
            // Goes on behind that: a name server that is out of reach does not hold up the start.
            let _ = unless(order, tokio::time::timeout(RIVAL_WAIT, looking)).await;
        }
        if order.is_given() {
            return close(state.store, || Ok(())).await.map(|()| None);
        }
        if seats.now().is_master() {
            state
                .delay
                .start()
                .map_err(|error| Failure::other(format!("delayed messages: {error}")))?;
        }
        let timers = state
            .timers()
            .map_err(|error| Failure::other(format!("timer thread: {error}")))?;
        let replicas = {
            let (live, store) = (live.clone(), state.store.clone());
            Replicas::start(ha_listener, live, store, seats.clone())?
        };
        let door = replicas.door().clone();
        let acks = Arc::new(SlaveAcks::new(
            replicas.links().clone(),
            config.store.broker_role,
        ));
        let pairing = Arc::new(Pairing {
            live: live.clone(),
            store: state.store.clone(),
            acks: acks.clone(),
            seats: seats.clone(),
            following: OnceLock::new(),
            known: state.known.clone(),
        });
        let place = (door.clone(), pairing.clone());
        let dispatch = state.dispatch(registration.clone(), place.clone(), store_host, &disk);
        let parts = Arc::new(state.parts(dispatch, store_host, door, acks));
        let parked = parts.parked.clone();
        let levels = state.delay.levels().clone();
        let server = {
            let parts = parts.clone();
            let (topics, groups) = (state.topics.clone(), state.groups.clone());
            Server::start(listeners, io_threads(&config), limits(&config), move |_| {
                let send = Send::new(
                    &parts.config,
                    parts.store.clone(),
                    (topics.clone(), groups.clone()),
                    levels.clone(),
                    parts.stats.clone(),
                    parts.acks.clone(),
                    store_host,
                );
                Rc::new(RcShard(Shard::start(parts.clone(), send)))
            })
            .map_err(|error| Failure::other(format!("I/O threads: {error}")))?
        };
        let copier = match config.store.broker_role {
            BrokerRole::Slave => Some(state.load_copier(&disk).await?),
            _ => None,
        };
        // A master that was replaced would take the new one's place at Apache's name servers.
        if !seats.is_fenced() {
            notify::status("Registering at the name servers");
            registration.start();
        }
        let (mut follow, mut slave) = (None, None);
        if let Some(copier) = copier {
            let (live, store) = (live.clone(), state.store.clone());
            let following = Follow::start(live, store, registration.clone(), seats.clone())?;
            let view = following.follower().view();
            // Set once: nobody else has it yet.
            let _ = pairing.following.set(view.clone());
            let link = Following {
                pairing: pairing.clone(),
                view,
            };
            let whereabouts = slave::Whereabouts {
                told: registration.masters(),
                link: Box::new(link),
            };
            slave = Some(Slave::start(copier, whereabouts));
            follow = Some(following);
        }
        let standing = Standing::new(
            live.clone(),
            state.store.clone(),
            state.stats.clone(),
            (registration.clone(), pairing.clone()),
            server.pulses().clone(),
        );
        let watches = [
            tokio::spawn(latch::watch(state.store.clone(), state.topics.clone())),
            tokio::spawn(standing.clone().tell()),
            tokio::spawn(standing.clone().live()),
            tokio::spawn(rivals::watch(live.clone(), seats.clone())),
        ];
        let broker = BrokerSource {
            live: live.clone(),
            store: state.store.clone(),
            started,
            registration: registration.clone(),
            connections: server.counts().clone(),
            pulses: server.pulses().clone(),
            parked,
        };
        board.serves(state.metrics(broker, place), standing.clone());
        if !seats.is_fenced() {
            let _ = unless(order, announce(&registration, &state.topics)).await;
        }
        sockets.keep();
        let sockets = sockets.again();
        Ok(Some(Broker {
            disk,
            sockets,
            banner: banner(&config),
            address,
            configured,
            seats,
            live,
            store: state.store,
            offsets: state.offsets,
            delay: state.delay,
            topics: state.topics,
            registration,
            server,
            replicas,
            standing,
            follow,
            slave,
            timers,
            _watches: watches.map(Task),
            board,
            metrics,
        }))
    }

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

    /// Stops in the order that loses nothing: leave the routes, answer what was read, write everything, mark the store
    /// clean.
    pub async fn stop(self) -> Result<(), Failure> {
        self.board.stops();
        notify::status("Stopping: leaving the name servers");
        self.registration.stop().await;
        stopping("answering what was read");
        self.server.stop(STOP_PATIENCE).await;
        if let Some(slave) = self.slave {
            slave.stop().await;
        }
        if let Some(follow) = self.follow {
            follow.stop().await;
        }
        // Nothing is stored by clients any more; slaves get the end of the log.
        stopping("giving slaves the end of the log");
        self.replicas.stop().await;
        let Broker {
            store,
            offsets,
            delay,
            timers,
            metrics,
            seats,
            ..
        } = self;
        drop(metrics);
        let unflushed = store.appended().value() - store.flushed().value();
        stopping(&format!(
            "writing {} KiB and the positions",
            unflushed >> 10
        ));
        close(store, move || {
            timers.stop();
            delay.stop();
            // The next start reads who it is.
            seats.close();
            let saved = offsets.flush();
            saved.map_err(|error| Failure::other(format!("saving consumer offsets: {error}")))
        })
        .await
    }
}

/// The end of every stop: what still writes ends first, then the store is closed, whatever came of the first.
async fn close(
    store: Arc<Store>,
    first: impl FnOnce() -> Result<(), Failure> + std::marker::Send + 'static,
) -> Result<(), Failure> {
    let closed = tokio::task::spawn_blocking(move || {
        let ended = first();
        store
            .shutdown()
            .map_err(|error| Failure::caused(format!("closing the store: {error}"), &error))?;
        ended?;
        Ok(store.is_clean())
    });
    let clean = closed
        .await
        .map_err(|error| Failure::other(format!("stopping: {error}")))??;
    if clean {
        tracing::info!(message_id = events::STOPPED, "stopped; the store is clean");
    } else {
        tracing::warn!(
            message_id = events::STOPPED_UNCLEAN,
            "stopped; the next start will recover the store"
        );
    }
    Ok(())
}

/// What the other comes to, unless the order to stop is given before.
async fn unless<T>(order: &StopOrder, other: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = order.given() => None,
        value = other => Some(value),
    }
}

impl State {
    /// `None`: recovery was told to stop. Not cancellation-safe: recovery may be at work.
    fn open(
        disk: Arc<dyn Disk>,
        (folder, seats): (PathBuf, Arc<Seats>),
        live: Arc<LiveConfig>,
        (board, recovery_watch): (Arc<Board>, RecoveryWatch),
        cut: Option<&Cut>,
    ) -> Result<Option<State>, Failure> {
        let config = live.now();
        let now = Millis::now();
        let levels = Levels::parse(&config.store.message_delay_level)
            .map_err(|error| Failure::config(format!("messageDelayLevel: {error}")))?;
        let told = StoreConfig {
            recovery_watch,
            ..store_config(&config)
        };
        let store = match cut {
            None => Store::open(disk.clone(), told, now),
            Some(cut) => Store::open_cut(disk.clone(), told, now, cut),
        };
        let root = Path::new(&config.store.store_path_root_dir);
        let store = match store {
            Err(StoreError::Interrupted) => return Ok(None),
            other => other.map_err(|error| store_failure(error, root))?,
        };
        store.start().map_err(|error| store_failure(error, root))?;
        board.recovered();
        let follower = Arc::downgrade(&store);
        live.follow(move |config| {
            if let Some(store) = follower.upgrade() {
                store.reconfigure(&store_config(config));
            }
        });
        let table = |error| table_failure(error, root);
        let stats_config = StatsConfig {
            cluster: config.broker_cluster_name.clone(),
            detail: config.enable_detail_stat,
            zone: jiff::tz::TimeZone::system(),
        };
        let stats = Arc::new(Stats::new(stats_config, now));
        let topics =
            Arc::new(Topics::load(disk.clone(), &folder, live.clone(), now).map_err(table)?);
        let seat = seats.now();
        let is_promoted = seat.is_master() && seat.epoch.is_some();
        topics
            .make_again(queues_of(&store), is_promoted, now)
            .map_err(table)?;
        pairing::follow_read_only(&live, &store, &topics, &seats);
        let groups =
            Arc::new(Groups::load(disk.clone(), &folder, live.clone(), now).map_err(table)?);
        let period = i64::try_from(config.flush_consumer_offset_interval).unwrap_or(i64::MAX);
        let offsets = Arc::new(Offsets::load(disk.clone(), &folder, period).map_err(table)?);
        let clients = Arc::new(Clients::new(live.clone()));
        let locks = Arc::new(Locks::new(Duration::from_millis(config.lock_max_live_time)));
        let delay_parts = DelayParts {
            store: store.clone(),
            stats: stats.clone(),
            disk,
            config_folder: folder,
        };
        let delay_config = DelayConfig {
            flush_interval_ms: i64::try_from(config.store.flush_delay_offset_interval)
                .unwrap_or(i64::MAX),
            stats_enabled: config.store.enable_schedule_message_stats,
        };
        let delay = Delay::load(delay_parts, Arc::new(levels), delay_config).map_err(table)?;
        Ok(Some(State {
            live,
            seats,
            known: Known::default(),
            store,
            stats,
            topics,
            groups,
            offsets,
            clients,
            locks,
            delay,
            measures: Arc::default(),
        }))
    }

    /// What a slave knows of its master's tables from before.
    async fn load_copier(&self, disk: &Arc<dyn Disk>) -> Result<slave::Copier, Failure> {
        let config = self.live.now();
        let tables = slave::Tables {
            topics: self.topics.clone(),
            groups: self.groups.clone(),
            offsets: self.offsets.clone(),
            delay: self.delay.clone(),
            store: self.store.clone(),
            stats: self.stats.clone(),
        };
        let folder = Path::new(&config.store.store_path_root_dir).join("config");
        let is_doubted = self.store.may_lack_its_end() && !config.store.slave_ack_after_flush;
        let end = match is_doubted {
            true => slave::End::Doubted,
            false => slave::End::Whole,
        };
        let disk = disk.clone();
        let place = (config.broker_address(), self.known.clone(), end);
        let copier =
            tokio::task::spawn_blocking(move || slave::Copier::load(disk, &folder, tables, place));
        copier
            .await
            .map_err(|error| Failure::other(format!("the tables of the slave: {error}")))?
            .map_err(|error| Failure::other(error.to_string()))
    }

    fn dispatch(
        &self,
        registration: Arc<Registration>,
        (door, pairing): (Arc<Door>, Arc<Pairing>),
        store_host: SocketAddr,
        disk: &Arc<dyn Disk>,
    ) -> Dispatch {
        let State {
            live,
            seats,
            store,
            stats,
            topics,
            groups,
            offsets,
            clients,
            locks,
            delay,
            ..
        } = self;
        let config = live.now();
        let identity = Arc::new(Identity {
            address: store_host,
            name: config.broker_name.clone(),
            role: config.store.broker_role,
            live: live.clone(),
        });
        let root = PathBuf::from(&config.store.store_path_root_dir);
        let logs = match log_paths(&config, config.store.store_path_commit_log.as_deref()) {
            paths if paths.is_empty() => vec![root.join("commitlog")],
            paths => paths,
        };
        Dispatch {
            is_slave: config.store.broker_role == BrokerRole::Slave,
            heartbeat: Heartbeat {
                topics: topics.clone(),
                groups: groups.clone(),
                clients: clients.clone(),
            },
            client_requests: ClientRequests {
                groups: groups.clone(),
                clients: clients.clone(),
            },
            offsets: OffsetRequests {
                offsets: offsets.clone(),
                store: store.clone(),
                hot_bytes: hot_bytes(&config),
            },
            locks: QueueLocks {
                locks: locks.clone(),
            },
            query: Query {
                store: store.clone(),
                unique_key_max: config.store.default_query_max_num,
            },
            send_back: SendBack {
                live: live.clone(),
                store: store.clone(),
                topics: topics.clone(),
                groups: groups.clone(),
                levels: delay.levels().clone(),
                stats: stats.clone(),
                broker_ip: store_host.ip().to_string(),
                next_queue: Default::default(),
            },
            topic_admin: TopicAdmin {
                identity: identity.clone(),
                topics: topics.clone(),
                store: store.clone(),
                stats: stats.clone(),
            },
            group_admin: GroupAdmin {
                identity: identity.clone(),
                groups: groups.clone(),
                offsets: offsets.clone(),
                clients: clients.clone(),
                stats: stats.clone(),
            },
            config_admin: ConfigAdmin::new(
                live.clone(),
                topics.clone(),
                store.clone(),
                disk.clone(),
                config.override_file(),
                Millis::now(),
            ),
            connections: Connections {
                clients: clients.clone(),
            },
            copies: Copies {
                topics: topics.clone(),
                groups: groups.clone(),
                offsets: offsets.clone(),
                delay: delay.clone(),
            },
            figures: Figures {
                stats: stats.clone(),
            },
            pairing: pairing.clone(),
            link: LinkAdmin {
                identity: identity.clone(),
                door,
                seats: seats.clone(),
                store: store.clone(),
            },
            seats: SeatAdmin {
                seats: seats.clone(),
                store: store.clone(),
            },
            positions: Positions {
                offsets: offsets.clone(),
                store: store.clone(),
                topics: topics.clone(),
                clients: clients.clone(),
            },
            progress: Progress {
                identity: identity.clone(),
                store: store.clone(),
                topics: topics.clone(),
                groups: groups.clone(),
                offsets: offsets.clone(),
                clients: clients.clone(),
                stats: stats.clone(),
            },
            queues: Queues {
                store: store.clone(),
                clients: clients.clone(),
            },
            relay: Arc::new(Relay {
                clients: clients.clone(),
                store: store.clone(),
                topics: topics.clone(),
                offsets: offsets.clone(),
                identity: identity.clone(),
            }),
            runtime: RuntimeInfo {
                identity: identity.clone(),
                stats: stats.clone(),
                store: store.clone(),
                delay: delay.clone(),
                paths: StorePaths {
                    queues: root.join("consumequeue"),
                    root,
                    logs,
                },
                disk: disk.clone(),
                pairing: pairing.clone(),
            },
            cleaning: Cleaning {
                identity,
                store: store.clone(),
                topics: topics.clone(),
                stats: stats.clone(),
            },
            topics: topics.clone(),
            groups: groups.clone(),
            clients: clients.clone(),
            registration,
            measures: self.measures.clone(),
        }
    }

    fn parts(
        &self,
        dispatch: Dispatch,
        store_host: SocketAddr,
        door: Arc<Door>,
        acks: Arc<SlaveAcks>,
    ) -> Parts {
        Parts {
            config: self.live.clone(),
            store: self.store.clone(),
            pull: Arc::new(Pull {
                config: self.live.clone(),
                store: self.store.clone(),
                topics: self.topics.clone(),
                groups: self.groups.clone(),
                offsets: self.offsets.clone(),
                clients: self.clients.clone(),
                stats: self.stats.clone(),
                store_host,
            }),
            dispatch: Arc::new(dispatch),
            gates: Gates {
                config: self.live.clone(),
                door,
            },
            stats: self.stats.clone(),
            store_host,
            acks,
            parked: Arc::new(AtomicUsize::new(0)),
            measures: self.measures.clone(),
        }
    }

    fn metrics(
        &self,
        broker: BrokerSource,
        (door, pairing): (Arc<Door>, Arc<Pairing>),
    ) -> Vec<Source> {
        let store = StoreSource {
            store: self.store.clone(),
            live: self.live.clone(),
        };
        let requests = RequestSource {
            live: self.live.clone(),
            measures: self.measures.clone(),
        };
        let objects = ObjectSource::new(ObjectParts {
            live: self.live.clone(),
            store: self.store.clone(),
            topics: self.topics.clone(),
            groups: self.groups.clone(),
            offsets: self.offsets.clone(),
            clients: self.clients.clone(),
            stats: self.stats.clone(),
        });
        let replication = ReplicationSource { pairing, door };
        vec![
            Box::new(move |out| broker.collect(out)),
            Box::new(move |out| store.collect(out)),
            Box::new(move |out| replication.collect(out)),
            Box::new(move |out| requests.collect(out)),
            Box::new(move |out| objects.collect(out)),
        ]
    }

    fn timers(&self) -> std::io::Result<Timers> {
        let (offsets, clients) = (self.offsets.clone(), self.clients.clone());
        let (locks, stats, store) = (self.locks.clone(), self.stats.clone(), self.store.clone());
        let steps: Vec<Step> = vec![
            Box::new(move |now| offsets.step(now)),
            Box::new(move |now| clients.step(now)),
            Box::new(move |now| {
                locks.step(now);
                now.plus(60_000)
            }),
            Box::new(move |now| stats.step(now, &store.figures().commit_times)),
        ];
        Timers::start(steps)
    }
}

/// The boot line is for those who wait for it to use the broker: it should be in the routes by then. A name server that
/// does not answer holds it up only so long.
async fn announce(registration: &Arc<Registration>, topics: &Arc<Topics>) {
    let (registration, topics) = (registration.clone(), topics.clone());
    let waited = tokio::task::spawn_blocking(move || {
        registration.wait_announced(topics.generation(), ANNOUNCE_WAIT)
    });
    if !matches!(waited.await, Ok(true)) {
        tracing::warn!(
            message_id = events::NOT_REGISTERED,
            "serving, but not every name server has acknowledged the registration yet"
        );
    }
}

/// The topics that the store has queues of, with how many.
fn queues_of(store: &Store) -> impl Iterator<Item = (String, i32)> {
    store.topics().into_iter().filter_map(|topic| {
        let last = store.queues_of(&topic).last()?.id();
        Some((topic, i32::try_from(last.0).ok()?.checked_add(1)?))
    })
}

/// The next step of a stop; the one before is done, so it gets on.
fn stopping(step: &str) {
    notify::status(&format!("Stopping: {step}"));
    notify::extend_timeout(standing::MORE_TIME);
}

/// Open to everybody is RocketMQ's way; nobody shall be surprised by it (decision 18).
fn warn_if_open(config: &BrokerConfig) {
    if config.server.is_insecure() {
        tracing::warn!(
            message_id = events::INSECURE,
            "INSECURE: everybody who reaches this host can send, read, delete topics and change settings; set \
             bindAddress=127.0.0.1 or adminOpen=false, or close the ports to strangers"
        );
    }
}

fn banner(config: &BrokerConfig) -> String {
    let serialize = std::env::var("ROCKETMQ_SERIALIZE_TYPE").unwrap_or_else(|_| "JSON".into());
    let name_servers = match config.namesrv_addr.as_deref() {
        Some(list) if !list.is_empty() => format!(" and name server is {list}"),
        _ => String::new(),
    };
    format!(
        "The broker[{}, {}] boot success. serializeType={serialize}{name_servers}",
        config.broker_name,
        config.broker_address()
    )
}

#[cfg(test)]
mod tests;
