//! The calling side of a connection: connect, send requests, match answers to them, notice the end.
//!
//! A [`Connection`] owns two tasks of the runtime it was made on, a reader and a writer; dropping its last handle ends
//! both. Calls only queue bytes under a short lock and wait for their own answer, so any number of them share one
//! connection and their bytes leave in few writes. It never connects again by itself, never chooses an address and
//! never looks into a body: `client::Remote` keeps connections by address, `broker::registration` its own.

use std::{
    collections::hash_map::Entry,
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use gantry_wire::{
    Fields, Request, Response,
    codes::response,
    frame::{self, FRAME_MAX, FieldWriter, Frame, FrameError, RequestHead, Serialization},
};
use rustc_hash::FxHashMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, oneshot, watch},
    task::JoinHandle,
    time,
};

/// Room made for reading when less than `READ_ROOM_BYTES` is left.
const READ_CHUNK_BYTES: usize = 64 << 10;
const READ_ROOM_BYTES: usize = 4 << 10;
/// A write buffer that grew beyond this is given back once it is written.
const WRITE_BUFFER_KEPT_BYTES: usize = 1 << 20;

/// What answers the requests that the server sends on our connection.
///
/// It runs on the reader's task and must not block. `None` answers nothing; what it returns for a one-way request is
/// dropped.
pub type OnRequest = Arc<dyn Fn(Request) -> Option<Response> + Send + Sync>;

/// How a connection is made, and its limits.
#[derive(Clone)]
pub struct Options {
    /// For the whole of [`Connection::connect`], name look-up and all addresses included.
    pub connect_timeout: Duration,
    /// Header serialisation of our requests.
    pub serialization: Serialization,
    /// Largest frame that is sent or accepted, with its length word.
    pub frame_bytes_max: usize,
    /// Calls without an answer; one more is refused.
    pub in_flight_max: usize,
    /// Bytes that wait for the socket; what would exceed it is refused.
    pub unsent_bytes_max: usize,
    /// Answers requests from the server. Without it they are answered as Java's client does: code 3.
    pub on_request: Option<OnRequest>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            serialization: Serialization::Json,
            frame_bytes_max: FRAME_MAX,
            in_flight_max: 65_535,
            unsent_bytes_max: 64 << 20,
            on_request: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("connect_timeout", &self.connect_timeout)
            .field("frame_bytes_max", &self.frame_bytes_max)
            .field("in_flight_max", &self.in_flight_max)
            .field("unsent_bytes_max", &self.unsent_bytes_max)
            .field("on_request", &self.on_request.is_some())
            .finish_non_exhaustive()
    }
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Response code; 0 is success.
    pub code: i32,
    /// Human text, in errors most of all.
    pub remark: Option<String>,
    /// Header fields.
    pub fields: Fields<'static>,
    /// Body, may be empty.
    pub body: Bytes,
    /// Ordinal of the server's release.
    pub version: i32,
}

/// Why a call has no answer. The texts keep the words of Java's client that operators search for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No answer within the time. The connection stays open; a late answer is dropped.
    #[error("wait response on the channel <{address}> timeout, {}(ms)", after.as_millis())]
    TimedOut {
        /// Whom we asked.
        address: SocketAddr,
        /// How long we waited.
        after: Duration,
    },
    /// The connection ended before the answer, or had ended before the call.
    #[error("send request to <{address}> failed: {reason}")]
    Closed {
        /// Whom we asked.
        address: SocketAddr,
        /// What ended it.
        reason: CloseReason,
    },
    /// As many calls as allowed wait for their answers.
    #[error("{limit} requests to <{address}> are unanswered, which is the limit")]
    TooManyInFlight {
        /// Whom we asked.
        address: SocketAddr,
        /// [`Options::in_flight_max`].
        limit: usize,
    },
    /// The peer does not read what we send.
    #[error("{unsent} bytes to <{address}> are unsent, the limit is {limit}")]
    TooMuchUnsent {
        /// Whom we asked.
        address: SocketAddr,
        /// Bytes that wait already.
        unsent: usize,
        /// [`Options::unsent_bytes_max`].
        limit: usize,
    },
    /// The request does not fit into a frame.
    #[error("the request cannot be sent: {0}")]
    Frame(FrameError),
}

/// What ended a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// We closed it.
    #[error("closed by this side")]
    Local,
    /// The peer closed it.
    #[error("closed by the peer")]
    Peer,
    /// The socket failed.
    #[error("{0}")]
    Socket(String),
    /// The peer sent bytes that are no frame.
    #[error("not the remoting protocol: {0}")]
    BadFrame(String),
    /// The peer sends requests and does not read our answers.
    #[error("{0} bytes of answers are unread by the peer")]
    Unread(usize),
}

/// One connection to a server. Cheap to clone; it closes when the last clone is dropped.
#[derive(Clone)]
pub struct Connection {
    tasks: Arc<Tasks>,
}

impl Connection {
    /// Connects to `host:port`; a name is looked up and its addresses are tried in turn, each with a fair share of the
    /// time that is left.
    pub async fn connect(address: &str, options: &Options) -> io::Result<Self> {
        let deadline = time::Instant::now() + options.connect_timeout;
        let lookup = tokio::net::lookup_host(address);
        let found = time::timeout_at(deadline, lookup)
            .await
            .map_err(|_| timed_out("the name look-up"))??;
        let candidates: Vec<SocketAddr> = found.collect();
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for (tried, &candidate) in candidates.iter().enumerate() {
            let left = deadline.saturating_duration_since(time::Instant::now());
            let share = left / u32::try_from(candidates.len() - tried).unwrap_or(u32::MAX);
            match time::timeout(share, TcpStream::connect(candidate)).await {
                Ok(Ok(stream)) => return Self::over(stream, options),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = timed_out("the connection"),
            }
        }
        Err(failure)
    }

    /// Takes over a connected stream. Must be called on a tokio runtime.
    pub fn over(stream: TcpStream, options: &Options) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let address = stream.peer_addr()?;
        let (reading, writing) = stream.into_split();
        let shared = Arc::new(Shared {
            address,
            options: options.clone(),
            state: Mutex::new(State::default()),
            unsent: Notify::new(),
            sent: watch::Sender::new(0),
            ended: watch::Sender::new(None),
        });
        let reader = tokio::spawn(read(Arc::clone(&shared), reading));
        let writer = tokio::spawn(write(Arc::clone(&shared), writing));
        Ok(Self {
            tasks: Arc::new(Tasks {
                shared,
                reader,
                writer,
            }),
        })
    }

    /// Sends a request and waits for its answer. Dropping the future forgets the call; the request may have been sent.
    pub async fn call(
        &self,
        code: i32,
        fields: impl FnMut(&mut FieldWriter<'_>),
        body: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> Result<Reply, CallError> {
        let pending = self.start(code, fields, body)?;
        pending.answer(timeout).await
    }

    /// Queues a request at once and returns what waits for its answer: for callers that send several before waiting.
    pub fn start(
        &self,
        code: i32,
        mut fields: impl FnMut(&mut FieldWriter<'_>),
        body: impl AsRef<[u8]>,
    ) -> Result<Pending, CallError> {
        let shared = &self.tasks.shared;
        let (give, answer) = oneshot::channel();
        let mut state = shared.state();
        if state.waiting.len() >= shared.options.in_flight_max {
            let limit = shared.options.in_flight_max;
            return Err(CallError::TooManyInFlight {
                address: shared.address,
                limit,
            });
        }
        let opaque = state.free_opaque();
        let head = RequestHead {
            code,
            opaque,
            oneway: false,
        };
        shared.queue(&mut state, &head, &mut fields, body.as_ref())?;
        state.waiting.insert(opaque, give);
        drop(state);
        shared.unsent.notify_one();
        Ok(Pending {
            shared: Arc::clone(shared),
            opaque,
            answer,
            settled: false,
        })
    }

    /// Queues a request that has no answer. It is on its way once [`Connection::flush`] returns.
    pub fn oneway(
        &self,
        code: i32,
        mut fields: impl FnMut(&mut FieldWriter<'_>),
        body: impl AsRef<[u8]>,
    ) -> Result<(), CallError> {
        let shared = &self.tasks.shared;
        let mut state = shared.state();
        let opaque = state.free_opaque();
        let head = RequestHead {
            code,
            opaque,
            oneway: true,
        };
        shared.queue(&mut state, &head, &mut fields, body.as_ref())?;
        drop(state);
        shared.unsent.notify_one();
        Ok(())
    }

    /// Waits until everything queued so far was handed to the operating system.
    pub async fn flush(&self) -> Result<(), CallError> {
        let shared = &self.tasks.shared;
        let target = shared.state().queued_total;
        let mut sent = shared.sent.subscribe();
        tokio::select! {
            biased;
            _ = sent.wait_for(|&sent| sent >= target) => Ok(()),
            reason = shared.ended() => Err(CallError::Closed { address: shared.address, reason }),
        }
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.tasks.shared.address
    }

    /// Calls that wait for their answers.
    pub fn in_flight(&self) -> usize {
        self.tasks.shared.state().waiting.len()
    }

    /// Whether calls can still be made.
    pub fn is_open(&self) -> bool {
        self.tasks.shared.ended.borrow().is_none()
    }

    /// Resolves when the connection has ended, with what ended it.
    pub fn closed(&self) -> impl Future<Output = CloseReason> + Send + 'static {
        let shared = Arc::clone(&self.tasks.shared);
        async move { shared.ended().await }
    }

    /// Ends the connection now, for all clones: waiting calls fail, unsent bytes are dropped.
    pub fn close(&self) {
        self.tasks.shared.end(CloseReason::Local);
        self.tasks.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address())
            .field("open", &self.is_open())
            .finish()
    }
}

/// A call that was queued. Dropping it forgets the call.
#[must_use = "the answer is lost when this is dropped"]
pub struct Pending {
    shared: Arc<Shared>,
    opaque: i32,
    answer: oneshot::Receiver<Reply>,
    /// The call left the table of waiting ones, with an answer or with the connection.
    settled: bool,
}

impl Pending {
    /// Whether the answer is there already.
    pub fn is_answered(&self) -> bool {
        !self.answer.is_empty()
    }

    /// Waits for the answer.
    pub async fn answer(mut self, timeout: Duration) -> Result<Reply, CallError> {
        let answer = time::timeout(timeout, &mut self.answer).await;
        self.settled = answer.is_ok();
        match answer {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(self.shared.closed_error()),
            Err(_) => Err(CallError::TimedOut {
                address: self.shared.address,
                after: timeout,
            }),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        self.answer.close();
        // What was answered left the table already, and its opaque may serve a newer call: only an own entry goes.
        if let Entry::Occupied(entry) = self.shared.state().waiting.entry(self.opaque)
            && entry.get().is_closed()
        {
            entry.remove();
        }
    }
}

/// The owner of a connection's two tasks.
struct Tasks {
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Tasks {
    fn abort(&self) {
        self.reader.abort();
        self.writer.abort();
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.shared.end(CloseReason::Local);
        self.abort();
    }
}

struct Shared {
    address: SocketAddr,
    options: Options,
    state: Mutex<State>,
    /// Told when `State::unsent` gets bytes; the writer alone waits for it.
    unsent: Notify,
    /// Bytes written so far, of `State::queued_total`.
    sent: watch::Sender<u64>,
    ended: watch::Sender<Option<CloseReason>>,
}

#[derive(Default)]
struct State {
    unsent: Vec<u8>,
    queued_total: u64,
    /// Invariant: empty once the connection has ended, so that nobody waits for an answer that cannot come.
    waiting: FxHashMap<i32, oneshot::Sender<Reply>>,
    opaque: i32,
    closed: bool,
}

impl State {
    fn free_opaque(&mut self) -> i32 {
        loop {
            let opaque = self.opaque;
            self.opaque = self.opaque.wrapping_add(1);
            if !self.waiting.contains_key(&opaque) {
                return opaque;
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(
        &self,
        state: &mut State,
        head: &RequestHead,
        fields: &mut dyn FnMut(&mut FieldWriter<'_>),
        body: &[u8],
    ) -> Result<(), CallError> {
        if state.closed {
            return Err(self.closed_error());
        }
        self.room(state)?;
        let before = state.unsent.len();
        frame::encode_request(
            &mut state.unsent,
            self.options.serialization,
            head,
            fields,
            body,
        )
        .map_err(CallError::Frame)?;
        let size = state.unsent.len() - before;
        let limit = self.options.frame_bytes_max;
        if limit < size {
            state.unsent.truncate(before);
            return Err(CallError::Frame(FrameError::TooLarge {
                size: size as u64,
                limit,
            }));
        }
        state.queued_total += size as u64;
        Ok(())
    }

    fn room(&self, state: &State) -> Result<(), CallError> {
        let (unsent, limit) = (state.unsent.len(), self.options.unsent_bytes_max);
        if unsent >= limit {
            return Err(CallError::TooMuchUnsent {
                address: self.address,
                unsent,
                limit,
            });
        }
        Ok(())
    }

    fn end(&self, reason: CloseReason) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(reason);
            }
            first
        });
        let mut state = self.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        // Dropping the senders outside the lock wakes the callers.
        drop(waiting);
    }

    async fn ended(&self) -> CloseReason {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(CloseReason::Local),
            Err(_) => CloseReason::Local,
        }
    }

    fn closed_error(&self) -> CallError {
        let reason = self.ended.borrow().clone().unwrap_or(CloseReason::Local);
        CallError::Closed {
            address: self.address,
            reason,
        }
    }

    /// One whole frame of the server.
    fn take(&self, whole: &Bytes, frame: &Frame<'_>) -> Result<(), CloseReason> {
        let header = frame
            .decode()
            .map_err(|error| CloseReason::BadFrame(error.to_string()))?;
        if !header.is_response() {
            let request =
                Request::from_header(header, frame.serialization, whole.slice_ref(frame.body));
            return self.serve(request);
        }
        let Some(waiting) = self.state().waiting.remove(&header.opaque) else {
            tracing::debug!(address = %self.address, opaque = header.opaque, "an answer that nobody waits for");
            return Ok(());
        };
        let reply = Reply {
            code: header.code,
            remark: header.remark.map(std::borrow::Cow::into_owned),
            fields: header.fields.into_owned(),
            body: whole.slice_ref(frame.body),
            version: header.version,
        };
        // An error means that the caller stopped waiting this very moment.
        let _ = waiting.send(reply);
        Ok(())
    }

    fn serve(&self, request: Request) -> Result<(), CloseReason> {
        let Request {
            code,
            opaque,
            oneway,
            serialization,
            ..
        } = request;
        let answer = match &self.options.on_request {
            Some(on_request) => on_request(request),
            None => Some(Response::refuse(
                response::REQUEST_CODE_NOT_SUPPORTED,
                format!(" request type {code} not supported"),
            )),
        };
        let Some(answer) = answer.filter(|_| !oneway) else {
            return Ok(());
        };
        let mut state = self.state();
        if self.room(&state).is_err() {
            return Err(CloseReason::Unread(state.unsent.len()));
        }
        let before = state.unsent.len();
        answer.encode(&mut state.unsent, opaque, serialization);
        state.queued_total += (state.unsent.len() - before) as u64;
        drop(state);
        self.unsent.notify_one();
        Ok(())
    }
}

async fn read(shared: Arc<Shared>, mut socket: OwnedReadHalf) {
    let mut buffer = BytesMut::new();
    let reason = loop {
        if let Err(reason) = take_frames(&shared, &mut buffer) {
            break reason;
        }
        if buffer.capacity() - buffer.len() < READ_ROOM_BYTES {
            buffer.reserve(READ_CHUNK_BYTES);
        }
        match socket.read_buf(&mut buffer).await {
            Ok(0) => break CloseReason::Peer,
            Ok(_) => {}
            Err(error) => break CloseReason::Socket(error.to_string()),
        }
    };
    shared.end(reason);
    // The writer leaves when it sees the end.
    shared.unsent.notify_one();
}

fn take_frames(shared: &Shared, buffer: &mut BytesMut) -> Result<(), CloseReason> {
    loop {
        let limit = shared.options.frame_bytes_max;
        let bad = |error: FrameError| CloseReason::BadFrame(error.to_string());
        let Some(size) = frame::split(buffer, limit)
            .map_err(bad)?
            .map(|frame| frame.size)
        else {
            return Ok(());
        };
        let whole = buffer.split_to(size).freeze();
        if let Some(frame) = frame::split(&whole, limit).map_err(bad)? {
            shared.take(&whole, &frame)?;
        }
    }
}

async fn write(shared: Arc<Shared>, mut socket: OwnedWriteHalf) {
    let mut sending = Vec::new();
    loop {
        {
            let mut state = shared.state();
            if state.closed {
                return;
            }
            std::mem::swap(&mut state.unsent, &mut sending);
        }
        if sending.is_empty() {
            shared.unsent.notified().await;
            continue;
        }
        let written = tokio::select! {
            biased;
            written = socket.write_all(&sending) => written,
            _ = shared.ended() => return,
        };
        if let Err(error) = written {
            return shared.end(CloseReason::Socket(error.to_string()));
        }
        shared
            .sent
            .send_modify(|sent| *sent += sending.len() as u64);
        sending.clear();
        if sending.capacity() > WRITE_BUFFER_KEPT_BYTES {
            sending = Vec::new();
        }
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} timed out"))
}
