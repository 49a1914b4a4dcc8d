//! The daemon as a value: built, started, asked for its address and stopped by whoever holds it.
//!
//! Start order: port, KV table, handlers, I/O threads, sweep. Stop order: the I/O threads answer what they have read
//! and hang up, then the sweep ends. Nothing is left to write: the tables on disk are durable with every change.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gantry_config::ServerSettings;
use gantry_disk::Disk;
use gantry_net::server::{Limits, Server, listen};
use gantry_service::http::{self, HungUp};
use gantry_service::{Failure, Sockets};
use tokio::task::JoinHandle;

use crate::config::{METRICS_PORT, NamesrvConfig};
use crate::dispatch::{Dispatch, Handlers};
use crate::handlers::{Config, KvRequests, Lookups, Registrations, Table, TopicChanges, Uptime};
use crate::kv::Kv;
use crate::live::Live;
use crate::metrics::{self, Board, Requests};
use crate::routes::{FIRST_SWEEP_MS, SWEEP_EVERY_MS};
use crate::standing::Standing;

/// How long a stop waits for answers under way.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running name server.
pub struct NameServer {
    server: Server,
    address: SocketAddr,
    standing: Arc<Standing>,
    board: Arc<Board>,
    pages: Option<JoinHandle<io::Result<()>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl NameServer {
    /// Starts on the current runtime. `settings` may change while it runs; port and paths are read once. `sockets` are
    /// those of the process before.
    pub fn start(
        settings: Arc<Live<NamesrvConfig>>,
        disk: Arc<dyn Disk>,
        mut sockets: Sockets,
    ) -> Result<Self, Failure> {
        let config = settings.get();
        let listener = bind(&config.server, &mut sockets)?;
        let address = listener.local_addr().map_err(Failure::from_error)?;
        let pages = http::bind(&mut sockets, config.metrics_port, METRICS_PORT)?;
        let started = Instant::now();
        let requests = Arc::new(Requests::default());
        let kv = Arc::new(
            Kv::load(disk.clone(), PathBuf::from(&config.kv_config_path))
                .map_err(Failure::from_error)?,
        );
        let routes = Table::default();
        let clock = Uptime::start();
        let handlers = Arc::new(Handlers {
            registrations: Registrations::new(routes.clone(), kv.clone(), clock),
            lookups: Lookups {
                routes: routes.clone(),
                kv: kv.clone(),
                settings: settings.clone(),
            },
            topics: TopicChanges {
                routes: routes.clone(),
            },
            kv: KvRequests { kv },
            config: Config {
                settings: settings.clone(),
                disk,
                overrides: config.override_file(),
            },
            settings: settings.clone(),
            requests: requests.clone(),
        });
        let threads = usize::try_from(config.server.io_threads.max(1)).unwrap_or(1);
        let shared = handlers.clone();
        let make = move |_| Rc::new(Dispatch::new(shared.clone()));
        let server = Server::start(vec![listener], threads, limits(&config.server), make)
            .map_err(Failure::from_error)?;
        let board = Arc::new(Board {
            started,
            settings: settings.clone(),
            routes: routes.clone(),
            clock,
            connections: server.counts().clone(),
            requests,
            is_stopping: AtomicBool::new(false),
            hung_up: HungUp::default(),
        });
        let pages = pages.map(|listener| tokio::spawn(metrics::serve(listener, board.clone())));
        let standing = Arc::new(Standing::new(routes.clone(), settings));
        let tasks = vec![
            tokio::spawn(sweep(handlers, routes, clock)),
            tokio::spawn(standing.clone().tell()),
            tokio::spawn(standing.clone().live(server.pulses().clone())),
        ];
        sockets.keep();
        Ok(Self {
            server,
            address,
            standing,
            board,
            pages,
            tasks,
        })
    }

    /// What it does, for `systemctl status`.
    pub fn status(&self) -> String {
        self.standing.text()
    }

    /// Names what waits for a restart; [`NameServer::status`] repeats it.
    pub fn needs_restart(&self, keys: Vec<&'static str>) {
        self.standing.needs_restart(keys);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers what was read, hangs up and ends.
    pub async fn stop(self) {
        self.board.is_stopping.store(true, Ordering::Relaxed);
        self.server.stop(PATIENCE).await;
        if let Some(pages) = self.pages {
            pages.abort();
            // Aborted just now: the error says so.
            let _ = pages.await;
        }
        for task in self.tasks {
            task.abort();
            // Aborted just now: the error says so.
            let _ = task.await;
        }
    }
}

/// Looks for silent brokers every ten seconds, and when the time of a held route is up.
async fn sweep(handlers: Arc<Handlers>, routes: Table, clock: Uptime) {
    let mut regular = FIRST_SWEEP_MS;
    loop {
        let next = routes
            .lock()
            .first_hold_end()
            .map_or(regular, |end| end.0.min(regular));
        let wait = u64::try_from(next.saturating_sub(clock.now().0)).unwrap_or(0);
        tokio::select! {
            () = handlers.registrations.held.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(wait)) => {
                handlers.registrations.sweep();
                let now = clock.now().0;
                if regular <= now {
                    regular = now + SWEEP_EVERY_MS;
                }
            }
        }
    }
}

fn bind(server: &ServerSettings, sockets: &mut Sockets) -> Result<TcpListener, Failure> {
    let address = SocketAddr::new(server.bind_address.0, server.listen_port);
    let backlog = i32::try_from(server.server_socket_backlog).unwrap_or(i32::MAX);
    let listener = sockets.listen("remoting", address, backlog, listen);
    listener.map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "port {} is in use (listenPort): another program listens on it",
                address.port()
            ),
            _ => format!("cannot listen on {address}: {error}"),
        };
        Failure::caused(reason, &error)
    })
}

fn limits(server: &ServerSettings) -> Limits {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let buffer = |bytes: u32| Some(size(bytes.into())).filter(|bytes| 0 < *bytes);
    Limits {
        connections: size(server.max_connections.into()),
        connections_per_address: size(server.max_connections_per_address.into()),
        frame_bytes_max: size(server.frame_max_length.into()),
        unparsed_bytes_max: size(server.max_unparsed_bytes),
        in_flight_per_connection: size(server.max_in_flight_per_connection.into()),
        outbound_bytes_per_connection: size(server.max_outbound_bytes_per_connection),
        outbound_bytes_max: size(server.max_outbound_bytes),
        idle: Duration::from_secs(server.server_channel_max_idle_time_seconds.into()),
        send_buffer: buffer(server.server_socket_snd_buf_size),
        receive_buffer: buffer(server.server_socket_rcv_buf_size),
        ..Limits::default()
    }
}
