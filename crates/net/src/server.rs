//! The serving side: listeners, the acceptor, the I/O shards, and the limits that hold for all connections.
//!
//! Accepted sockets carry `SO_LINGER 0`, so that hanging up is a reset: stock clients notice a dead connection by RST
//! only (docs/decisions/0002-reset-instead-of-close.md). A stop reads no more, answers what was read, then hangs up.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use gantry_wire::frame::Frame;
use rustc_hash::FxHashMap;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    input::HeldBytes,
    peer::{OutboundBytes, Peer, lock},
    pulse::Pulses,
    shard::{self, Order},
};

/// What a daemon does with frames; one value per shard, which never leaves the shard's thread.
pub trait Handler: 'static {
    /// A connection was accepted.
    fn opened(&self, _peer: &Peer) {}
    /// A whole frame came. Must not block.
    fn frame(&self, peer: &Peer, frame: Frame<'_>) -> Verdict;
    /// The frames of one read were all handed over.
    fn read_through(&self, _peer: &Peer) {}
    /// A connection has ended, whoever ended it.
    fn closed(&self, _peer: &Peer) {}
    /// Nothing is read any more: answer what is parked.
    fn draining(&self) {}
    /// The last connection has gone; what this shard still has under way ends here.
    fn drained(&self) -> impl Future<Output = ()> {
        async {}
    }
}

/// Whether a connection goes on after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Read on.
    Continue,
    /// Hang up.
    Close,
}

/// Everything that is bounded. Each field says what happens at the limit.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections; more are accepted and closed at once.
    pub connections: usize,
    /// Open connections of one address; more are accepted and closed at once.
    pub connections_per_address: usize,
    /// Largest frame, its length word included; a larger one closes the connection.
    pub frame_bytes_max: usize,
    /// Bytes of incomplete frames over all connections; the one that goes beyond is closed.
    pub unparsed_bytes_max: usize,
    /// Requests read but not answered; at the limit the connection is not read.
    pub in_flight_per_connection: usize,
    /// Bytes a slow reader has not taken; at the limit the connection is not read.
    pub outbound_bytes_per_connection: usize,
    /// Bytes in memory that slow readers have not taken, over all connections; the one that goes beyond is closed.
    pub outbound_bytes_max: usize,
    /// A connection without a request for so long, and with none in flight, is closed.
    pub idle: Duration,
    /// How long the kernel gets to send the last answers of a stop before the reset.
    pub linger_before_reset: Duration,
    /// `SO_SNDBUF` and `SO_RCVBUF`; `None` leaves the kernel's choice.
    pub send_buffer: Option<usize>,
    /// See `send_buffer`.
    pub receive_buffer: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 65_536,
            connections_per_address: 16_384,
            frame_bytes_max: gantry_wire::frame::FRAME_MAX,
            unparsed_bytes_max: 1 << 30,
            in_flight_per_connection: 16_384,
            outbound_bytes_per_connection: 16 << 20,
            outbound_bytes_max: 1 << 30,
            idle: Duration::from_secs(120),
            linger_before_reset: Duration::from_millis(20),
            send_buffer: None,
            receive_buffer: None,
        }
    }
}

/// What the server has seen; read by metrics.
#[derive(Debug, Default)]
pub struct Counts {
    pub(crate) next_id: AtomicU64,
    open: AtomicUsize,
    per_address: Mutex<FxHashMap<IpAddr, usize>>,
    /// Connections refused because a limit was reached.
    pub refused: AtomicU64,
    /// Connections closed because of input that is no frame.
    pub bad_input: AtomicU64,
    /// Failed accepts (no file descriptors left and the like).
    pub accept_failures: AtomicU64,
}

impl Counts {
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn admit(&self, address: IpAddr, limits: &Limits) -> Result<(), (&'static str, usize)> {
        if self.open() >= limits.connections {
            return Err(("maxConnections", limits.connections));
        }
        let mut per_address = lock(&self.per_address);
        let count = per_address.entry(address).or_insert(0);
        if *count >= limits.connections_per_address {
            return Err(("maxConnectionsPerAddress", limits.connections_per_address));
        }
        *count += 1;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn connection_ended(&self, address: IpAddr) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        let mut per_address = lock(&self.per_address);
        if let Some(count) = per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                per_address.remove(&address);
            }
        }
    }
}

/// Opens a listening socket: dual-stack for the unspecified IPv6 address, plain IPv4 where the kernel has no IPv6.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    match listen_on(address, backlog) {
        Err(error)
            if address.ip() == IpAddr::from(std::net::Ipv6Addr::UNSPECIFIED)
                && error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32) =>
        {
            listen_on(
                SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, address.port())),
                backlog,
            )
        }
        result => result,
    }
}

fn listen_on(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A running server: its acceptors and shards.
pub struct Server {
    counts: Arc<Counts>,
    pulses: Pulses,
    stop_accepting: watch::Sender<bool>,
    acceptors: Vec<tokio::task::JoinHandle<()>>,
    shards: Vec<ShardHandle>,
    draining: Arc<AtomicBool>,
}

struct ShardHandle {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

/// Orders that wait for a shard; the acceptor waits when it is full, and so does the backlog.
const ORDERS_MAX: usize = 1024;

impl Server {
    /// Starts `shards` I/O threads and an acceptor for each listener on the current runtime. `make` is called on each
    /// shard's own thread, inside its runtime, and may spawn local tasks.
    pub fn start<H: Handler>(
        listeners: Vec<TcpListener>,
        shards: usize,
        limits: Limits,
        make: impl Fn(usize) -> Rc<H> + Send + Sync + 'static,
    ) -> io::Result<Server> {
        assert!(shards > 0, "a server needs a shard");
        let limits = Arc::new(limits);
        let counts = Arc::new(Counts::default());
        let held = Arc::new(HeldBytes::default());
        let outbound = Arc::new(OutboundBytes::new(limits.outbound_bytes_max));
        let make = Arc::new(make);
        let pulses = Pulses::new(shards);
        let mut handles = Vec::new();
        for index in 0..shards {
            let (sender, orders) = mpsc::channel(ORDERS_MAX);
            let answering = pulses.answering(index);
            let (limits, counts, held, outbound, make) = (
                limits.clone(),
                counts.clone(),
                held.clone(),
                outbound.clone(),
                make.clone(),
            );
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(32)
                .thread_keep_alive(Duration::from_secs(10))
                .build()?;
            let thread = std::thread::Builder::new()
                .name(format!("io-{index}"))
                .spawn(move || {
                    shard::run(
                        move || {
                            // Ends with the shard's runtime.
                            tokio::task::spawn_local(answering.run());
                            make(index)
                        },
                        limits,
                        counts,
                        held,
                        outbound,
                        orders,
                        &runtime,
                    );
                    runtime.shutdown_timeout(Duration::from_secs(1));
                })?;
            handles.push(ShardHandle {
                orders: sender,
                thread,
            });
        }
        let (stop_accepting, stopped) = watch::channel(false);
        let next_shard = Arc::new(AtomicUsize::new(0));
        let mut acceptors = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let acceptor = Acceptor {
                listener: tokio::net::TcpListener::from_std(listener)?,
                index,
                limits: limits.clone(),
                counts: counts.clone(),
                shards: handles.iter().map(|shard| shard.orders.clone()).collect(),
                next_shard: next_shard.clone(),
                stopped: stopped.clone(),
            };
            acceptors.push(tokio::spawn(acceptor.run()));
        }
        Ok(Server {
            counts,
            pulses,
            stop_accepting,
            acceptors,
            shards: handles,
            draining: Arc::new(AtomicBool::new(false)),
        })
    }

    /// What the server has seen.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Whether the shards turn.
    pub fn pulses(&self) -> &Pulses {
        &self.pulses
    }

    /// Stops: no new connections, no more reading, everything read is answered, then connections are reset and the
    /// shards end. What is not answered after `patience` is dropped.
    pub async fn stop(self, patience: Duration) {
        self.draining.store(true, Ordering::Release);
        self.stop_accepting.send_replace(true);
        for acceptor in self.acceptors {
            // An acceptor that panicked has nothing left to stop.
            let _ = acceptor.await;
        }
        let deadline = Instant::now() + patience;
        let mut drained = Vec::new();
        for shard in &self.shards {
            let (done, wait) = oneshot::channel();
            // A shard that has ended already has nothing to drain.
            if shard
                .orders
                .send(Order::Drain { deadline, done })
                .await
                .is_ok()
            {
                drained.push(wait);
            }
        }
        for wait in drained {
            let _ = wait.await;
        }
        for shard in self.shards {
            drop(shard.orders);
            // Joined off the runtime: a shard may still wait for a blocking call of its own.
            let joined = tokio::task::spawn_blocking(move || shard.thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("an I/O shard ended by a panic");
            }
        }
    }
}

struct Acceptor {
    listener: tokio::net::TcpListener,
    index: usize,
    limits: Arc<Limits>,
    counts: Arc<Counts>,
    shards: Vec<mpsc::Sender<Order>>,
    next_shard: Arc<AtomicUsize>,
    stopped: watch::Receiver<bool>,
}

impl Acceptor {
    async fn run(mut self) {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                // An error says that the server is gone.
                _ = self.stopped.wait_for(|stopped| *stopped) => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    failing = false;
                    self.admit(stream, address).await;
                }
                Err(error) => {
                    self.counts.accept_failures.fetch_add(1, Ordering::Relaxed);
                    if !failing {
                        tracing::error!(%error, "cannot accept connections; trying again every 100 ms");
                        failing = true;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn admit(&self, stream: tokio::net::TcpStream, address: SocketAddr) {
        // Invariant: `::ffff:a.b.c.d` never gets further than here (decision 8).
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let stream = match self.prepare(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%address, %error, "a connection ended before it was served");
                return;
            }
        };
        if let Err((limit, value)) = self.counts.admit(address.ip(), &self.limits) {
            if self
                .counts
                .refused
                .fetch_add(1, Ordering::Relaxed)
                .is_power_of_two()
            {
                tracing::warn!(%address, "connection refused: {limit} is {value}");
            }
            return;
        }
        let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let order = Order::Accepted {
            stream,
            address,
            listener: self.index,
        };
        if self.shards[shard].send(order).await.is_err() {
            self.counts.connection_ended(address.ip());
        }
    }

    fn prepare(&self, stream: tokio::net::TcpStream) -> io::Result<std::net::TcpStream> {
        let stream = stream.into_std()?;
        let socket = SockRef::from(&stream);
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        if let Some(bytes) = self.limits.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.limits.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        Ok(stream)
    }
}
