//! One I/O shard: a single-threaded runtime with the connections pinned to it.
//!
//! A connection is one task that reads; whoever has an answer writes it (see `peer`). The shard never decides what a
//! frame means, and nothing on it may wait for a disk.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use tokio::{net::TcpStream, sync::mpsc, task::LocalSet};

use crate::{
    input::{HeldBytes, Input},
    peer::{OutboundBytes, Peer},
    server::{Counts, Handler, Limits, Verdict},
};

/// One read takes at most this much; it holds many requests of a pipelining client.
const SCRATCH_BYTES: usize = 256 << 10;
/// After so many full reads in a row a connection lets the others run.
const READS_IN_A_ROW_MAX: usize = 4;
const IDLE_SWEEP: Duration = Duration::from_secs(5);

/// What the acceptor and the daemon tell a shard.
pub(crate) enum Order {
    Accepted {
        stream: std::net::TcpStream,
        address: SocketAddr,
        listener: usize,
    },
    /// Read no more, answer what was read, then hang up; answers when the last connection has gone.
    Drain {
        deadline: Instant,
        done: tokio::sync::oneshot::Sender<()>,
    },
}

struct Shard<H> {
    handler: Rc<H>,
    limits: Arc<Limits>,
    counts: Arc<Counts>,
    held: Arc<HeldBytes>,
    outbound: Arc<OutboundBytes>,
    scratch: RefCell<Vec<u8>>,
    peers: RefCell<FxHashMap<u64, Connected>>,
    draining: Cell<bool>,
}

struct Connected {
    peer: Peer,
    last_read: Rc<Cell<Instant>>,
}

/// Runs until the orders' sender is dropped or a drain is through.
pub(crate) fn run<H: Handler>(
    make: impl FnOnce() -> Rc<H>,
    limits: Arc<Limits>,
    counts: Arc<Counts>,
    held: Arc<HeldBytes>,
    outbound: Arc<OutboundBytes>,
    mut orders: mpsc::Receiver<Order>,
    runtime: &tokio::runtime::Runtime,
) {
    let local = LocalSet::new();
    local.block_on(runtime, async move {
        let shard = Rc::new(Shard {
            handler: make(),
            limits,
            counts,
            held,
            outbound,
            scratch: RefCell::new(vec![0; SCRATCH_BYTES]),
            peers: RefCell::default(),
            draining: Cell::new(false),
        });
        let mut sweep = tokio::time::interval(IDLE_SWEEP);
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Accepted { stream, address, listener }) => {
                        shard.open(stream, address, listener);
                    }
                    Some(Order::Drain { deadline, done }) => {
                        shard.drain(deadline).await;
                        // Whoever asked may have given up waiting.
                        let _ = done.send(());
                        return;
                    }
                    None => return,
                },
                _ = sweep.tick() => shard.close_idle(),
            }
        }
    });
}

impl<H: Handler> Shard<H> {
    fn open(self: &Rc<Self>, stream: std::net::TcpStream, address: SocketAddr, listener: usize) {
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%address, %error, "an accepted connection cannot be served");
                self.counts.connection_ended(address.ip());
                return;
            }
        };
        let id = self.counts.next_id.fetch_add(1, Ordering::Relaxed);
        let peer = Peer::new(
            id,
            address,
            listener,
            stream,
            &self.limits,
            self.outbound.clone(),
        );
        let last_read = Rc::new(Cell::new(Instant::now()));
        let entry = Connected {
            peer: peer.clone(),
            last_read: last_read.clone(),
        };
        self.peers.borrow_mut().insert(id, entry);
        self.handler.opened(&peer);
        let shard = self.clone();
        // The task ends with the connection, which the shard closes when it ends.
        tokio::task::spawn_local(async move {
            shard.serve(&peer, &last_read).await;
            shard.peers.borrow_mut().remove(&peer.id());
            peer.forget();
            shard.handler.closed(&peer);
            shard.counts.connection_ended(address.ip());
        });
    }

    async fn serve(&self, peer: &Peer, last_read: &Cell<Instant>) {
        let mut input = Input::new(self.held.clone());
        loop {
            match self.next_event(peer).await {
                Event::Closed => return,
                Event::Writable => peer.flush(),
                Event::Readable => {
                    last_read.set(Instant::now());
                    match self.read(peer, &mut input) {
                        Reading::Drained => {}
                        Reading::More => tokio::task::yield_now().await,
                        Reading::Ended => {
                            // What came before a bad frame or an end is answered, as far as one turn of the shard does
                            // it: sends are committed in it.
                            tokio::task::yield_now().await;
                            peer.flush();
                            return;
                        }
                    }
                }
            }
        }
    }

    async fn next_event(&self, peer: &Peer) -> Event {
        poll_fn(|context| {
            peer.register(context.waker());
            if !peer.is_open() {
                return Poll::Ready(Event::Closed);
            }
            if peer.is_blocked() && peer.stream().poll_write_ready(context).is_ready() {
                return Poll::Ready(Event::Writable);
            }
            if !self.draining.get()
                && !peer.must_pause()
                && peer.stream().poll_read_ready(context).is_ready()
            {
                return Poll::Ready(Event::Readable);
            }
            Poll::Pending
        })
        .await
    }

    /// Reads what is there.
    fn read(&self, peer: &Peer, input: &mut Input) -> Reading {
        for _ in 0..READS_IN_A_ROW_MAX {
            let mut scratch = self.scratch.borrow_mut();
            let count = match peer.read(&mut scratch) {
                Ok(None) => return Reading::Drained,
                Ok(Some(0)) => {
                    if input.is_partial() {
                        tracing::debug!(peer = %peer.address(), "closed in the middle of a frame");
                    }
                    return Reading::Ended;
                }
                Ok(Some(count)) => count,
                Err(error) => {
                    tracing::debug!(peer = %peer.address(), %error, "read failed");
                    return Reading::Ended;
                }
            };
            let limits = &self.limits;
            let each = |frame: gantry_wire::frame::Frame<'_>| {
                matches!(self.handler.frame(peer, frame), Verdict::Continue)
            };
            match input.feed(
                &scratch[..count],
                limits.frame_bytes_max,
                limits.unparsed_bytes_max,
                each,
            ) {
                Ok(true) => {}
                Ok(false) => return Reading::Ended,
                Err(error) => {
                    self.counts.bad_input.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(peer = %peer.address(), %error, "connection closed for bad input");
                    return Reading::Ended;
                }
            }
            self.handler.read_through(peer);
            if count < scratch.len() || !peer.is_open() || peer.must_pause() {
                return Reading::Drained;
            }
        }
        Reading::More
    }

    fn close_idle(&self) {
        let now = Instant::now();
        for entry in self.peers.borrow().values() {
            if now.duration_since(entry.last_read.get()) > self.limits.idle
                && entry.peer.in_flight() == 0
            {
                tracing::debug!(peer = %entry.peer.address(), "closed after {:?} without a request", self.limits.idle);
                entry.peer.close();
            }
        }
    }

    /// Not cancellation-safe: connections that are left when it is dropped are reset with the shard.
    async fn drain(&self, deadline: Instant) {
        self.draining.set(true);
        self.handler.draining();
        while Instant::now() < deadline {
            let busy = self
                .peers
                .borrow()
                .values()
                .any(|entry| entry.peer.in_flight() > 0 || entry.peer.outbound_bytes() > 0);
            if !busy {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // What the kernel still holds would be dropped by the reset: give it the time a loaded link needs.
        tokio::time::sleep(self.limits.linger_before_reset).await;
        for entry in self.peers.borrow().values() {
            entry.peer.close();
        }
        while !self.peers.borrow().is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.handler.drained().await;
    }
}

/// How a round of reading ended.
enum Reading {
    /// The socket is empty, or must not be read for now.
    Drained,
    /// There may be more; the others come first.
    More,
    /// The connection is over.
    Ended,
}

enum Event {
    Readable,
    Writable,
    Closed,
}
