//! A connected peer: the handle through which anybody, on any thread, answers it, calls it or hangs up.
//!
//! Bytes are queued and written under one short lock, by whoever has them: no task is woken for an answer unless the
//! socket is full. Reading belongs to the connection's task in `shard` alone.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use bytes::Bytes;
use gantry_wire::{
    Fields,
    frame::{self, FieldWriter, RequestHead, Serialization},
};
use rustc_hash::FxHashMap;
use tokio::{
    net::TcpStream,
    sync::{oneshot, watch},
};

use crate::outbox::{Flush, Outbox};

/// One connection, as the rest of a daemon sees it. Cheap to clone; equal when it is the same connection.
#[derive(Clone)]
pub struct Peer(Arc<Connection>);

/// What a peer answered to a call of ours.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Response code.
    pub code: i32,
    /// Human text.
    pub remark: Option<String>,
    /// Header fields.
    pub fields: Fields<'static>,
    /// Body, may be empty.
    pub body: Bytes,
}

/// What goes behind a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// The slices that belong to it.
    Slices,
    /// Nothing: the head is a whole answer.
    Nothing,
}

/// Why a call to a peer has no answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerCallError {
    /// The connection ended first.
    #[error("the connection to {0} is closed")]
    Closed(SocketAddr),
    /// No answer within the time.
    #[error("no answer from {0} within {1:?}")]
    TimedOut(SocketAddr, Duration),
}

/// Memory that answers to slow readers take, over all connections. Only connections that are blocked count.
#[derive(Debug)]
pub(crate) struct OutboundBytes {
    total: AtomicUsize,
    max: usize,
}

impl OutboundBytes {
    pub(crate) fn new(max: usize) -> OutboundBytes {
        OutboundBytes {
            total: AtomicUsize::new(0),
            max,
        }
    }

    /// Replaces what the total contains for a connection; whether the total is beyond the limit then.
    fn account(&self, outbox: &mut Outbox, bytes: usize) -> bool {
        let before = std::mem::replace(&mut outbox.accounted, bytes);
        if before == bytes {
            return false;
        }
        if bytes < before {
            self.total.fetch_sub(before - bytes, Ordering::Relaxed);
            return false;
        }
        let more = bytes - before;
        self.max < self.total.fetch_add(more, Ordering::Relaxed) + more
    }
}

pub(crate) struct Connection {
    id: u64,
    address: SocketAddr,
    listener: usize,
    stream: TcpStream,
    outbox: Mutex<Outbox>,
    /// The outbox holds bytes that the socket did not take; the connection's task must wait for room.
    ///
    /// Invariant: changes only under the outbox's lock.
    blocked: AtomicBool,
    /// Requests that were read and not answered yet.
    in_flight: AtomicUsize,
    in_flight_max: usize,
    outbound_max: usize,
    outbound: Arc<OutboundBytes>,
    /// The task stopped reading because a limit was reached; lowering the cause wakes it.
    paused: AtomicBool,
    alive: AtomicBool,
    /// Told once, when `alive` ends; for those who wait.
    ended: watch::Sender<bool>,
    waker: Mutex<Option<Waker>>,
    opaque: AtomicI32,
    calls: Mutex<FxHashMap<i32, oneshot::Sender<Answer>>>,
}

impl Peer {
    pub(crate) fn new(
        id: u64,
        address: SocketAddr,
        listener: usize,
        stream: TcpStream,
        limits: &crate::server::Limits,
        outbound: Arc<OutboundBytes>,
    ) -> Peer {
        Peer(Arc::new(Connection {
            id,
            address,
            listener,
            stream,
            outbox: Mutex::default(),
            blocked: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            in_flight_max: limits.in_flight_per_connection,
            outbound_max: limits.outbound_bytes_per_connection,
            outbound,
            paused: AtomicBool::new(false),
            alive: AtomicBool::new(true),
            ended: watch::Sender::new(false),
            waker: Mutex::default(),
            opaque: AtomicI32::new(0),
            calls: Mutex::default(),
        }))
    }

    /// Unique among the connections of this process.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The peer's address, IPv4 written as IPv4.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Which of the server's listeners accepted it, in the order they were given.
    pub fn listener(&self) -> usize {
        self.0.listener
    }

    /// Queues bytes; nothing is sent before [`Peer::flush`].
    pub fn push(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.is_open() {
            lock(&self.0.outbox).append(write);
        }
    }

    /// Queues a head and, unless `head` says that it wrote something else instead, shared slices behind it, which are
    /// sent without a copy.
    pub fn push_slices(
        &self,
        head: impl FnOnce(&mut Vec<u8>) -> Follow,
        slices: impl IntoIterator<Item = Bytes>,
    ) {
        if !self.is_open() {
            return;
        }
        let mut outbox = lock(&self.0.outbox);
        let mut follow = Follow::Nothing;
        outbox.append(|out| follow = head(out));
        if follow == Follow::Slices {
            for slice in slices {
                outbox.append_shared(slice);
            }
        }
    }

    /// Hands queued bytes to the kernel; what it does not take is sent by the connection's task.
    pub fn flush(&self) {
        let mut beyond = false;
        let result = {
            let mut outbox = lock(&self.0.outbox);
            let result = outbox.flush(|slices| self.0.stream.try_write_vectored(slices));
            if let Ok(flush) = &result {
                // Under the lock: of two threads that flush, the one that looked last must have the last word, or
                // bytes would wait that nobody knows of.
                let blocked = *flush == Flush::Blocked;
                self.0.blocked.store(blocked, Ordering::SeqCst);
                let waiting = if blocked { outbox.owned_bytes() } else { 0 };
                beyond = self.0.outbound.account(&mut outbox, waiting);
            }
            result
        };
        match result {
            Ok(_) if beyond => {
                let limit = self.0.outbound.max;
                tracing::warn!(
                    peer = %self.0.address,
                    "closed: it does not take its answers, and those to slow readers are more than {limit} bytes over \
                     all connections (maxOutboundBytes)"
                );
                self.close();
            }
            Ok(Flush::Empty) => self.wake_if_paused(),
            Ok(Flush::Blocked) => self.wake(),
            Err(error) => {
                tracing::debug!(peer = %self.0.address, %error, "write failed");
                self.close();
            }
        }
    }

    /// Sends one whole frame at once.
    pub fn send(&self, write: impl FnOnce(&mut Vec<u8>)) {
        self.push(write);
        self.flush();
    }

    /// Counts a request that will be answered; the guard ends the count, however the answer comes about.
    pub fn begin(&self) -> InFlight {
        self.0.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight {
            peer: Some(self.clone()),
        }
    }

    /// Counts requests that will be answered without a guard each; `ended` must be called as often.
    pub fn begun(&self) {
        self.0.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends what `begun` counted.
    pub fn ended(&self, count: usize) {
        // Sequentially consistent, as in `must_pause`: either it sees the lower count or we see that it paused.
        let before = self.0.in_flight.fetch_sub(count, Ordering::SeqCst);
        assert!(
            count <= before,
            "{count} requests ended, {before} were in flight"
        );
        self.wake_if_paused();
    }

    /// Requests read and not answered.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::Acquire)
    }

    /// Hangs up: the peer sees a reset, what was not sent is dropped.
    pub fn close(&self) {
        if self.0.alive.swap(false, Ordering::AcqRel) {
            self.0.ended.send_replace(true);
            lock(&self.0.calls).clear();
            self.wake();
        }
    }

    /// Whether nobody has hung up yet.
    pub fn is_open(&self) -> bool {
        self.0.alive.load(Ordering::Acquire)
    }

    /// Resolves when the connection has ended.
    pub async fn closed(&self) {
        let mut ended = self.0.ended.subscribe();
        // An error says that the sender is gone, and `self` holds it.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Sends a one-way request. A peer that has not taken what its limit allows does not get it: whoever is notified
    /// must find out by itself as well.
    pub fn notify(&self, code: i32, fields: &mut dyn FnMut(&mut FieldWriter<'_>), body: &[u8]) {
        if self.is_blocked() && self.outbound_bytes() >= self.0.outbound_max {
            tracing::debug!(peer = %self.address(), code, "not notified: it takes nothing");
            return;
        }
        let opaque = self.0.opaque.fetch_add(1, Ordering::Relaxed);
        self.send_request(
            &RequestHead {
                code,
                opaque,
                oneway: true,
            },
            fields,
            body,
        );
    }

    /// Sends a request and waits for the peer's answer.
    pub async fn call(
        &self,
        code: i32,
        fields: &mut dyn FnMut(&mut FieldWriter<'_>),
        body: &[u8],
        timeout: Duration,
    ) -> Result<Answer, PeerCallError> {
        let opaque = self.0.opaque.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.0.calls).insert(opaque, sender);
        if self.is_open() {
            self.send_request(
                &RequestHead {
                    code,
                    opaque,
                    oneway: false,
                },
                fields,
                body,
            );
        }
        // However this ends, dropped in the middle included, nothing waits for the answer any more.
        let _forget = Forget(self, opaque);
        let answer = tokio::time::timeout(timeout, async {
            tokio::select! {
                answer = receiver => answer.map_err(|_| PeerCallError::Closed(self.address())),
                () = self.closed() => Err(PeerCallError::Closed(self.address())),
            }
        })
        .await;
        answer.unwrap_or(Err(PeerCallError::TimedOut(self.address(), timeout)))
    }

    /// Hands in what the peer answered; an answer nobody waits for is dropped.
    pub fn deliver(&self, opaque: i32, answer: Answer) {
        if let Some(sender) = lock(&self.0.calls).remove(&opaque) {
            // The waiting call may have given up just now.
            let _ = sender.send(answer);
        }
    }

    // Requests to clients are JSON always: the C++ client understands nothing else (wire.md T4).
    fn send_request(
        &self,
        head: &RequestHead,
        fields: &mut dyn FnMut(&mut FieldWriter<'_>),
        body: &[u8],
    ) {
        self.send(|out| {
            if let Err(error) = frame::encode_request(out, Serialization::Json, head, fields, body) {
                tracing::warn!(peer = %self.address(), code = head.code, %error, "request to a client not sent");
            }
        });
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.0.stream
    }

    pub(crate) fn register(&self, waker: &Waker) {
        let mut slot = lock(&self.0.waker);
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.0.blocked.load(Ordering::SeqCst)
    }

    pub(crate) fn outbound_bytes(&self) -> usize {
        lock(&self.0.outbox).bytes()
    }

    /// Whether reading must wait: too many requests unanswered, or too many bytes for a slow reader.
    pub(crate) fn must_pause(&self) -> bool {
        if !self.over_limits() {
            return false;
        }
        self.0.paused.store(true, Ordering::SeqCst);
        // Looked at again: the cause may have gone before the flag was up.
        if self.over_limits() {
            return true;
        }
        self.0.paused.store(false, Ordering::SeqCst);
        false
    }

    pub(crate) fn forget(&self) {
        self.close();
        {
            let mut outbox = lock(&self.0.outbox);
            self.0.outbound.account(&mut outbox, 0);
            outbox.clear();
        }
        *lock(&self.0.waker) = None;
    }

    fn over_limits(&self) -> bool {
        self.0.in_flight.load(Ordering::SeqCst) >= self.0.in_flight_max
            || self.is_blocked() && self.outbound_bytes() >= self.0.outbound_max
    }

    fn wake_if_paused(&self) {
        if self.0.paused.load(Ordering::SeqCst) && !self.over_limits() {
            self.0.paused.store(false, Ordering::SeqCst);
            self.wake();
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = lock(&self.0.waker).as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Reads once. A short read clears the socket's readiness, as it has been emptied: this saves the call that would
    /// only say so.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut taken = None;
        let result = self.0.stream.try_io(tokio::io::Interest::READABLE, || {
            let count = io::Read::read(&mut Raw(&self.0.stream), buffer)?;
            taken = Some(count);
            if 0 < count && count < buffer.len() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match (taken, result) {
            (Some(count), _) => Ok(Some(count)),
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Ok(None),
        }
    }
}

/// Reads from the socket without going through the runtime's readiness.
struct Raw<'a>(&'a TcpStream);

impl io::Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::fd::AsRawFd;
        nix::sys::socket::recv(
            self.0.as_raw_fd(),
            buffer,
            nix::sys::socket::MsgFlags::empty(),
        )
        .map_err(io::Error::from)
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Peer) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Peer {}

impl std::hash::Hash for Peer {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} {})", self.0.id, self.0.address)
    }
}

/// Takes a call out of the table.
struct Forget<'a>(&'a Peer, i32);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.0.0.calls).remove(&self.1);
    }
}

/// A request that is being worked on; dropping it says that it is over.
#[derive(Debug)]
pub struct InFlight {
    peer: Option<Peer>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(peer) = self.peer.take() {
            peer.ended(1);
        }
    }
}

/// A poisoned lock only says that another thread panicked, which ends the process in release builds.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
