//! A start, in its phases: [`Ground`] is what it stands on before the store is touched, [`Ground::recover`] opens that,
//! [`Ground::serve`] has it serve.
//!
//! Ports are bound and the store is locked before anything is changed on disk, so a start that cannot succeed leaves
//! everything as it was. A start that is told to stop ends at the next good place: in recovery as a `kill -9` would end it;
//! behind that, while nobody knows of the broker yet, by closing the store; and once it registers, the start gets to its
//! end without waiting for anybody, and is stopped like any other.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use gantry_disk::{Disk, OsDisk};
use gantry_replication::{Misfit, Part};
use gantry_service::{Failure, Sockets, StopOrder, events, logging, notify};

use super::{
    Again, Broker, Task,
    listeners::{announced_host, bind, bind_ha},
    state::State,
    stop::close,
};
use crate::{
    acks::SlaveAcks,
    config::{BrokerConfig, BrokerRole},
    latch,
    live::LiveConfig,
    metrics::{self, Board, BrokerSource},
    pairing::Pairing,
    registration::{self, Registration},
    replicas::Replicas,
    rivals,
    seats::{self, Seats},
    standing::{self, Standing},
    tables::Topics,
};

/// How long a start waits, behind its recovery, for word of another master.
const RIVAL_WAIT: Duration = Duration::from_millis(500);

/// How long the boot line waits for name servers.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(3);

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
        Box::pin(Self::start_with(disk, config, (sockets, None), order)).await
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
        Box::pin(Self::start_with(disk, config, (sockets, misfit), order)).await
    }

    /// Its state is large: who calls it puts that on the heap.
    async fn start_with(
        disk: Arc<dyn Disk>,
        config: BrokerConfig,
        (sockets, misfit): (Sockets, Option<Misfit>),
        order: &StopOrder,
    ) -> Result<Option<Broker>, Failure> {
        let Some(ground) = Ground::take(disk, config, sockets, order).await? else {
            tracing::info!(message_id = events::STOPPED, "stopped; nothing was started");
            return Ok(None);
        };
        let seats = ground.seats.clone();
        // It may have been replaced while it was down.
        let looking = seats
            .now()
            .is_master()
            .then(|| tokio::spawn(rivals::look(ground.live.clone(), seats)));
        let Some(state) = ground.recover(misfit, order).await? else {
            tracing::info!(
                message_id = events::STOPPED_UNCLEAN,
                "stopped while the store was recovered; nothing is lost, the next start recovers it"
            );
            return Ok(None);
        };
        warn_if_open(&ground.live.now());
        if let Some(looking) = looking {
            // Goes on behind that: a name server that is out of reach does not hold up the start.
            let _ = unless(order, tokio::time::timeout(RIVAL_WAIT, looking)).await;
        }
        if order.is_given() {
            return close(state.store, || Ok(())).await.map(|()| None);
        }
        ground.serve(state, order).await.map(Some)
    }
}

/// What a start stands on before it touches the store. Nothing on disk was changed.
struct Ground {
    started: Instant,
    disk: Arc<dyn Disk>,
    sockets: Sockets,
    /// The main port's and the one of two below.
    listeners: Vec<TcpListener>,
    /// Where slaves connect.
    ha_listener: TcpListener,
    address: SocketAddr,
    /// The address in message ids.
    store_host: SocketAddr,
    /// What the configuration makes of it, whatever it is after promotions.
    configured: Part,
    seats: Arc<Seats>,
    live: Arc<LiveConfig>,
    board: Arc<Board>,
    metrics: Option<Task<io::Result<()>>>,
}

impl Ground {
    /// Binds, and reads who the broker is. `None`: it was told to stop.
    async fn take(
        disk: Arc<dyn Disk>,
        mut config: BrokerConfig,
        mut sockets: Sockets,
        order: &StopOrder,
    ) -> Result<Option<Self>, Failure> {
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
            return Ok(None);
        };
        let store_host = store_host?;
        let configured = seats::configured(&config);
        let seats = {
            let root = PathBuf::from(&config.store.store_path_root_dir);
            let (disk, name) = (disk.clone(), config.broker_name.clone());
            tokio::task::spawn_blocking(move || Seats::load(disk, &root, (&name, configured)))
                .await
                .map_err(|error| Failure::other(format!("reading {}: {error}", seats::FILE)))??
        };
        seats::take(seats.now().part, &mut config);
        let live = LiveConfig::new(config);
        live.follow(|config| logging::set_level(config.server.log_level));
        let board = Board::new(started, live.clone());
        let metrics = metrics_listener
            .map(|listener| Task(tokio::spawn(metrics::serve(listener, board.clone()))));
        Ok(Some(Self {
            started,
            disk,
            sockets,
            listeners,
            ha_listener,
            address,
            store_host,
            configured,
            seats,
            live,
            board,
            metrics,
        }))
    }

    /// Opens the store, without the end of the log that does not fit its master's, and the tables. `None`: it was told to
    /// stop.
    async fn recover(
        &self,
        misfit: Option<Misfit>,
        order: &StopOrder,
    ) -> Result<Option<State>, Failure> {
        let seat = self.seats.now();
        let cut = misfit.and_then(|Misfit { cut, epoch }| {
            let is_meant = seat.may_cut(epoch);
            if !is_meant {
                // Whoever promotes goes by all of it.
                tracing::warn!(epoch = %seat.epoch, "there was a promotion meanwhile: the end of the log stays");
            }
            is_meant.then_some(cut)
        });
        let (disk, live, seats) = (self.disk.clone(), self.live.clone(), self.seats.clone());
        let watch = standing::recovering(self.board.clone());
        let (board, told) = (self.board.clone(), order.clone());
        // What a cut takes away and what it brings back belong together, so that is seen through.
        let watch = match cut {
            None => watch.until(move || told.is_given()),
            Some(_) => watch,
        };
        // Recovery reads files for as long as it takes.
        tokio::task::spawn_blocking(move || {
            State::open(disk, (live, seats), (board, watch), cut.as_ref())
        })
        .await
        .map_err(|error| Failure::other(format!("opening the store: {error}")))?
    }

    /// Serves requests and slaves, registers, and follows a master as a slave.
    async fn serve(mut self, state: State, order: &StopOrder) -> Result<Broker, Failure> {
        let config = self.live.now();
        let registration = Arc::new(Registration::new(
            registration::Identity {
                cluster: config.broker_cluster_name.clone(),
                broker: config.broker_name.clone(),
                broker_id: config.broker_id,
                address: config.broker_address(),
                ha_address: config.ha_address(),
            },
            self.live.clone(),
            state.topics.clone(),
            (state.store.clone(), self.seats.clone()),
        ));
        if self.seats.now().is_master() {
            state
                .delay
                .start()
                .map_err(|error| Failure::other(format!("delayed messages: {error}")))?;
        }
        let timers = state
            .timers()
            .map_err(|error| Failure::other(format!("timer thread: {error}")))?;
        let replicas = {
            let (live, store) = (self.live.clone(), state.store.clone());
            Replicas::start(self.ha_listener, live, store, self.seats.clone())?
        };
        let acks = Arc::new(SlaveAcks::new(
            replicas.links().clone(),
            config.store.broker_role,
        ));
        let pairing = Arc::new(Pairing {
            live: self.live.clone(),
            store: state.store.clone(),
            acks: acks.clone(),
            seats: self.seats.clone(),
            following: OnceLock::new(),
            known: state.known.clone(),
        });
        let place = (replicas.door().clone(), pairing.clone());
        let (host, disk) = (self.store_host, &self.disk);
        let dispatch = state.dispatch(registration.clone(), place.clone(), host, disk);
        let parts = Arc::new(state.parts(dispatch, host, place.0.clone(), acks));
        let parked = parts.parked.clone();
        let server = state.server(self.listeners, parts)?;
        let copier = match config.store.broker_role {
            BrokerRole::Slave => Some(state.load_copier(disk).await?),
            _ => None,
        };
        // A master that was replaced would take the new one's place at Apache's name servers.
        if !self.seats.is_fenced() {
            notify::status("Registering at the name servers");
            registration.start();
        }
        let (follow, slave) = match copier {
            None => (None, None),
            Some(copier) => {
                let (follow, slave) = state.follow(copier, &registration, &pairing)?;
                (Some(follow), Some(slave))
            }
        };
        let standing = Standing::new(
            self.live.clone(),
            state.store.clone(),
            state.stats.clone(),
            (registration.clone(), pairing),
            server.pulses().clone(),
        );
        let watches = [
            tokio::spawn(latch::watch(state.store.clone(), state.topics.clone())),
            tokio::spawn(standing.clone().tell()),
            tokio::spawn(standing.clone().live()),
            tokio::spawn(rivals::watch(self.live.clone(), self.seats.clone())),
        ];
        let broker = BrokerSource {
            live: self.live.clone(),
            store: state.store.clone(),
            started: self.started,
            registration: registration.clone(),
            connections: server.counts().clone(),
            pulses: server.pulses().clone(),
            parked,
        };
        self.board
            .serves(state.metrics(broker, place), standing.clone());
        if !self.seats.is_fenced() {
            let _ = unless(order, announce(&registration, &state.topics)).await;
        }
        self.sockets.keep();
        Ok(Broker {
            disk: self.disk,
            sockets: self.sockets.again(),
            banner: banner(&config),
            address: self.address,
            configured: self.configured,
            seats: self.seats,
            live: self.live,
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
            board: self.board,
            metrics: self.metrics,
        })
    }
}

/// What the other comes to, unless the order to stop is given before.
async fn unless<T>(order: &StopOrder, other: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = order.given() => None,
        value = other => Some(value),
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
