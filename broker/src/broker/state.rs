//! What a broker knows and keeps, opened from its disk, and who gets which of it.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use gantry_disk::Disk;
use gantry_message::Millis;
use gantry_net::server::Server;
use gantry_service::Failure;
use gantry_store::{Cut, RecoveryWatch, Store, StoreConfig, StoreError};

use super::failures::{store_failure, table_failure};
use crate::{
    acks::SlaveAcks,
    clients::Clients,
    config::{
        BrokerRole,
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
    live::LiveConfig,
    locks::Locks,
    measures::AllMeasures,
    metrics::{
        Board, BrokerSource, ObjectParts, ObjectSource, ReplicationSource, RequestSource, Source,
        StoreSource,
    },
    pairing::{self, Following, Pairing},
    registration::Registration,
    replicas::Door,
    seats::Seats,
    shard::{Parts, RcShard, Shard},
    slave::{self, Known, Slave},
    stats::{Stats, StatsConfig},
    tables::{Groups, Offsets, Topics},
    timers::{Step, Timers},
};

/// The parts that requests work on, in the order in which they depend on each other.
pub(super) struct State {
    pub(super) live: Arc<LiveConfig>,
    pub(super) seats: Arc<Seats>,
    /// What a slave knows of its master.
    pub(super) known: Known,
    pub(super) store: Arc<Store>,
    pub(super) stats: Arc<Stats>,
    pub(super) topics: Arc<Topics>,
    pub(super) groups: Arc<Groups>,
    pub(super) offsets: Arc<Offsets>,
    pub(super) clients: Arc<Clients>,
    pub(super) locks: Arc<Locks>,
    pub(super) delay: Arc<Delay>,
    pub(super) measures: Arc<AllMeasures>,
}

impl State {
    /// `None`: recovery was told to stop. Not cancellation-safe: recovery may be at work.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        (live, seats): (Arc<LiveConfig>, Arc<Seats>),
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
        let folder = root.join("config");
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
    pub(super) async fn load_copier(&self, disk: &Arc<dyn Disk>) -> Result<slave::Copier, Failure> {
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

    /// Copies its master's tables from now on, and its log.
    pub(super) fn follow(
        &self,
        copier: slave::Copier,
        registration: &Arc<Registration>,
        pairing: &Arc<Pairing>,
    ) -> Result<(Follow, Slave), Failure> {
        let (live, store) = (self.live.clone(), self.store.clone());
        let follow = Follow::start(live, store, registration.clone(), self.seats.clone())?;
        let view = follow.follower().view();
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
        Ok((follow, Slave::start(copier, whereabouts)))
    }

    /// The I/O threads.
    pub(super) fn server(
        &self,
        listeners: Vec<TcpListener>,
        parts: Arc<Parts>,
    ) -> Result<Server, Failure> {
        let config = self.live.now();
        let (topics, groups) = (self.topics.clone(), self.groups.clone());
        let levels = self.delay.levels().clone();
        Server::start(listeners, io_threads(&config), limits(&config), move |_| {
            let send = Send::new(
                &parts.config,
                parts.store.clone(),
                (topics.clone(), groups.clone()),
                levels.clone(),
                parts.stats.clone(),
                parts.acks.clone(),
                parts.store_host,
            );
            Rc::new(RcShard(Shard::start(parts.clone(), send)))
        })
        .map_err(|error| Failure::other(format!("I/O threads: {error}")))
    }

    /// Who answers which request.
    pub(super) fn dispatch(
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

    pub(super) fn parts(
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

    pub(super) fn metrics(
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

    pub(super) fn timers(&self) -> std::io::Result<Timers> {
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

/// The topics that the store has queues of, with how many.
fn queues_of(store: &Store) -> impl Iterator<Item = (String, i32)> {
    store.topics().into_iter().filter_map(|topic| {
        let last = store.queues_of(&topic).last()?.id();
        Some((topic, i32::try_from(last.0).ok()?.checked_add(1)?))
    })
}
