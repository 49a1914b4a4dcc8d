//! One I/O shard's half of the broker: it sorts frames into sends, pulls and everything else, and commits what a turn
//! of the runtime staged.
//!
//! Sends of all connections that were ready in one turn are encoded into one batch. The committer is a task of the same
//! thread; it is woken by the first of them, so it runs after the last of them, writes once and answers all.
//! Nothing here waits for a disk: what may touch one goes to a blocking thread.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt::Write,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use gantry_message::{LogOffset, MessageId, Millis, QueueId, QueueOffset};
use gantry_net::{
    Peer,
    peer::{Answer, Follow},
    server::{Handler, Verdict},
};
use gantry_store::{AppendError, Batch, Outcome, Store};
use gantry_wire::{
    FieldSink, Request, Response,
    codes::{request, response},
    frame::{self, Frame, Header, ResponseHead, Serialization},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    config::{BrokerRole, FlushDiskType},
    dispatch::Dispatch,
    gates::Gates,
    handlers::{
        pull::{Admission, Admitted, Pull, PullAnswer},
        send::{Send, Sender, Stage, Staged},
    },
    live::LiveConfig,
    refusal::Refusal,
    stats::Stats,
    tables::Missing,
};

/// A batch is committed early when it holds this much, so that one turn cannot grow without bound.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// So many topics and groups are made for one request before it is given up: a send may need a retry topic, its group and
/// the dead-letter topic, and somebody may delete one of them meanwhile.
const MADE_MAX: u32 = 4;

/// What all shards share.
pub struct Parts {
    /// Configuration as it runs.
    pub config: Arc<LiveConfig>,
    /// The store.
    pub store: Arc<Store>,
    /// Pulling.
    pub pull: Arc<Pull>,
    /// Everything but sends and pulls.
    pub dispatch: Arc<Dispatch>,
    /// Who may ask for what.
    pub gates: Gates,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Address that message ids carry.
    pub store_host: SocketAddr,
    /// Pulls held by all shards.
    pub parked: Arc<AtomicUsize>,
}

/// The handler of one shard.
pub struct Shard {
    parts: Arc<Parts>,
    send: Send,
    turn: RefCell<Turn>,
    staged: Notify,
    durable: RefCell<VecDeque<Durable>>,
    durable_added: Notify,
    draining: Cell<bool>,
    drain: Notify,
    sync_flush: bool,
    /// What a sender who waits is told about a message that is as safe as it gets here. A SYNC_MASTER promises a second
    /// copy, and there is no slave to have one.
    kept: i32,
    ids: RefCell<String>,
}

/// What one turn of the runtime has staged.
struct Turn {
    batch: Batch,
    waiting: Vec<Waiting>,
}

/// Whom to answer about one entry of the batch.
struct Waiting {
    peer: Peer,
    opaque: i32,
    serialization: Serialization,
    oneway: bool,
    staged: Staged,
}

/// An answer that waits for the disk.
struct Durable {
    end: LogOffset,
    deadline: Instant,
    peer: Peer,
    opaque: i32,
    serialization: Serialization,
    ids: String,
    queue_id: QueueId,
    queue_offset: QueueOffset,
}

impl Shard {
    /// Must be called inside the shard's runtime: it spawns the committer there.
    pub fn start(parts: Arc<Parts>, send: Send) -> Rc<Shard> {
        let config = parts.config.now();
        let sync_flush = config.store.flush_disk_type == FlushDiskType::SyncFlush;
        let shard = Rc::new(Shard {
            send,
            turn: RefCell::new(Turn {
                batch: parts.store.batch(),
                waiting: Vec::new(),
            }),
            staged: Notify::new(),
            durable: RefCell::default(),
            durable_added: Notify::new(),
            draining: Cell::new(false),
            drain: Notify::new(),
            sync_flush,
            kept: match config.store.broker_role {
                BrokerRole::SyncMaster => response::SLAVE_NOT_AVAILABLE,
                _ => response::SUCCESS,
            },
            ids: RefCell::default(),
            parts,
        });
        // Both tasks end with the shard's runtime.
        tokio::task::spawn_local(shard.clone().committer());
        if sync_flush {
            tokio::task::spawn_local(shard.clone().durability());
        }
        shard
    }

    async fn committer(self: Rc<Self>) {
        loop {
            self.staged.notified().await;
            self.commit();
        }
    }

    /// Stores what was staged and answers it.
    fn commit(&self) {
        let mut turn = self.turn.borrow_mut();
        let Turn { batch, waiting } = &mut *turn;
        if waiting.is_empty() {
            return;
        }
        self.parts.store.commit(batch);
        let mut last: Option<Peer> = None;
        for waiting in waiting.drain(..) {
            let peer = waiting.peer.clone();
            self.conclude(batch, waiting);
            if last.as_ref() != Some(&peer)
                && let Some(before) = last.replace(peer)
            {
                before.flush();
            }
        }
        if let Some(last) = last {
            last.flush();
        }
        batch.clear();
    }

    fn conclude(&self, batch: &Batch, waiting: Waiting) {
        let Waiting {
            peer,
            opaque,
            serialization,
            oneway,
            staged,
        } = waiting;
        match batch.outcome(staged.entry) {
            Outcome::Stored {
                offset,
                end,
                queue_offset,
                ..
            } => {
                let bytes = end.0 - offset.0;
                self.parts
                    .stats
                    .stored(&staged.counters, staged.stored_in, staged.messages, bytes);
                if oneway {
                    return;
                }
                let (end, queue_offset) = (*end, *queue_offset);
                if self.sync_flush && staged.wait {
                    let timeout = self.send.config().store.sync_flush_timeout;
                    self.durable.borrow_mut().push_back(Durable {
                        end,
                        deadline: Instant::now() + Duration::from_millis(timeout),
                        peer,
                        opaque,
                        serialization,
                        ids: self.ids(batch, staged.entry),
                        queue_id: staged.queue_id,
                        queue_offset,
                    });
                    self.durable_added.notify_one();
                    return;
                }
                let ids = Ids {
                    batch,
                    entry: staged.entry,
                    host: self.parts.store_host,
                };
                let head = ResponseHead {
                    code: if staged.wait {
                        self.kept
                    } else {
                        response::SUCCESS
                    },
                    opaque,
                    remark: None,
                };
                let mut text = self.ids.borrow_mut();
                text.clear();
                // Writing to a string cannot fail.
                let _ = write!(text, "{ids}");
                self.answer_send(
                    &peer,
                    serialization,
                    &head,
                    &text,
                    staged.queue_id,
                    queue_offset,
                );
                peer.ended(1);
            }
            Outcome::Refused(error) => {
                self.parts.stats.send_failed();
                if !oneway {
                    let refusal = self.send.not_stored(error);
                    self.refuse_send(&peer, serialization, opaque, &refusal);
                    peer.ended(1);
                }
            }
        }
    }

    fn ids(&self, batch: &Batch, entry: usize) -> String {
        Ids {
            batch,
            entry,
            host: self.parts.store_host,
        }
        .to_string()
    }

    fn answer_send(
        &self,
        peer: &Peer,
        serialization: Serialization,
        head: &ResponseHead<'_>,
        ids: &str,
        queue_id: QueueId,
        queue_offset: QueueOffset,
    ) {
        peer.push(|out| {
            frame::encode_response(
                out,
                serialization,
                head,
                &mut |fields| {
                    fields.text("msgId", ids);
                    fields.int("queueId", queue_id.0.into());
                    fields.int(
                        "queueOffset",
                        i64::try_from(queue_offset.0).unwrap_or(i64::MAX),
                    );
                    self.send_extras(fields);
                },
                &[],
            );
        });
    }

    /// What every answer to a send carries, errors included (wire.md T5).
    fn send_extras(&self, fields: &mut frame::FieldWriter<'_>) {
        let config = self.send.config();
        fields.text("MSG_REGION", &config.region_id);
        fields.text("TRACE_ON", if config.trace_on { "true" } else { "false" });
    }

    fn refuse_send(
        &self,
        peer: &Peer,
        serialization: Serialization,
        opaque: i32,
        refusal: &Refusal,
    ) {
        let head = ResponseHead {
            code: refusal.code,
            opaque,
            remark: Some(&refusal.remark),
        };
        peer.push(|out| {
            frame::encode_response(
                out,
                serialization,
                &head,
                &mut |fields| self.send_extras(fields),
                &[],
            );
        });
        peer.flush();
    }

    /// Answers sends in log order as the disk confirms them, or says that it did not in time.
    async fn durability(self: Rc<Self>) {
        loop {
            let Some((end, deadline)) = self
                .durable
                .borrow()
                .front()
                .map(|first| (first.end, first.deadline))
            else {
                self.durable_added.notified().await;
                continue;
            };
            let flushed = self.parts.store.flushed();
            tokio::select! {
                () = flushed.beyond(end.0 - 1) => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
            self.answer_durable(flushed.value(), Instant::now());
        }
    }

    /// Whether what is not on disk yet will never be known to be. A full disk is no reason: it takes no more messages,
    /// but what it took is synced.
    fn is_flushing_over(&self) -> bool {
        matches!(
            self.parts.store.check_writable(),
            Err(AppendError::ShutDown | AppendError::Latched { .. })
        )
    }

    fn answer_durable(&self, flushed: u64, now: Instant) {
        let mut peers: Vec<Peer> = Vec::new();
        loop {
            let mut queue = self.durable.borrow_mut();
            let Some(first) = queue.front() else { break };
            let code = if first.end.0 <= flushed {
                self.kept
            } else if first.deadline <= now || self.is_flushing_over() {
                response::FLUSH_DISK_TIMEOUT
            } else {
                break;
            };
            let Some(answer) = queue.pop_front() else {
                break;
            };
            drop(queue);
            let head = ResponseHead {
                code,
                opaque: answer.opaque,
                remark: None,
            };
            self.answer_send(
                &answer.peer,
                answer.serialization,
                &head,
                &answer.ids,
                answer.queue_id,
                answer.queue_offset,
            );
            answer.peer.ended(1);
            if peers.last() != Some(&answer.peer) {
                peers.push(answer.peer);
            }
        }
        for peer in peers {
            peer.flush();
        }
    }

    /// Stages a send; `made` counts what was made for it already.
    fn send(
        self: &Rc<Self>,
        peer: &Peer,
        serialization: Serialization,
        header: &Header<'_>,
        body: &[u8],
        made: u32,
    ) {
        let sender = Sender {
            address: peer.address(),
            version: header.version,
        };
        let mut turn = self.turn.borrow_mut();
        let result = self.send.stage(&mut turn.batch, &sender, header, body);
        match result {
            Ok(Stage::Staged(staged)) => {
                turn.waiting.push(Waiting {
                    peer: peer.clone(),
                    opaque: header.opaque,
                    serialization,
                    oneway: header.is_oneway(),
                    staged,
                });
                if !header.is_oneway() {
                    peer.begun();
                }
                let full = BATCH_BYTES_MAX <= turn.batch.bytes();
                drop(turn);
                if full {
                    self.commit();
                } else {
                    self.staged.notify_one();
                }
            }
            Ok(Stage::Prepare(missing)) if made < MADE_MAX => {
                drop(turn);
                let to = Asker::of(peer, serialization, header);
                let header = header.clone().into_owned();
                let body = Bytes::copy_from_slice(body);
                self.prepare(to, missing, move |shard, to, done| match done {
                    Ok(()) => shard.send(&to.peer, to.serialization, &header, &body, made + 1),
                    Err(refusal) if !to.oneway => {
                        shard.refuse_send(&to.peer, to.serialization, to.opaque, &refusal);
                    }
                    Err(_) => {}
                });
            }
            Ok(Stage::Prepare(_)) => {
                drop(turn);
                if !header.is_oneway() {
                    let refusal = Refusal::system_error("the topic was deleted meanwhile");
                    self.refuse_send(peer, serialization, header.opaque, &refusal);
                }
            }
            Err(refusal) => {
                drop(turn);
                self.parts.stats.send_failed();
                if !header.is_oneway() {
                    self.refuse_send(peer, serialization, header.opaque, &refusal);
                }
            }
        }
    }

    /// Looks at a pull; `made` counts what was made for it already.
    fn pull(
        self: &Rc<Self>,
        peer: &Peer,
        serialization: Serialization,
        header: &Header<'_>,
        made: u32,
    ) {
        let to = Asker::of(peer, serialization, header);
        let pull = match self.parts.pull.admit(&header.fields, peer.address()) {
            Ok(Admission::Admitted(pull)) => pull,
            Ok(Admission::Prepare(missing)) if made < MADE_MAX => {
                let header = header.clone().into_owned();
                return self.prepare(to, missing, move |shard, to, done| match done {
                    Ok(()) => shard.pull(&to.peer, to.serialization, &header, made + 1),
                    Err(refusal) => to.refuse(&refusal),
                });
            }
            Ok(Admission::Prepare(_)) => {
                return to.refuse(&Refusal::system_error("the group was deleted meanwhile"));
            }
            Err(refusal) => return to.refuse(&refusal),
        };
        if self.parts.pull.is_hot(&pull) {
            let answer = self.parts.pull.attempt(&pull);
            return self.answer_or_park(to, pull, answer);
        }
        let shard = self.clone();
        let busy = peer.begin();
        tokio::task::spawn_local(async move {
            let reader = shard.parts.pull.clone();
            let (pull, answer) = blocking(move || {
                let answer = reader.attempt(&pull);
                (pull, answer)
            })
            .await;
            shard.answer_or_park(to, pull, answer);
            drop(busy);
        });
    }

    fn answer_or_park(self: &Rc<Self>, to: Asker, pull: Admitted, answer: PullAnswer) {
        match pull.hold {
            Some(hold)
                if answer.code == response::PULL_NOT_FOUND
                    // Where entries are lost the reader is told at once where to go on.
                    && answer.next == pull.offset()
                    && !self.draining.get()
                    && !to.oneway =>
            {
                // All that was there was looked at; if it could not be read, trying at once would go on for ever.
                let seen = QueueOffset(answer.max.unsigned_abs());
                self.park(to, pull, hold, seen);
            }
            _ => self.answer_pull(&to, &pull, answer),
        }
    }

    /// Makes a missing topic or group where files may be written, then goes on with the request, or with why not.
    fn prepare(
        self: &Rc<Self>,
        to: Asker,
        missing: Missing,
        go_on: impl FnOnce(&Rc<Shard>, &Asker, Result<(), Refusal>) + 'static,
    ) {
        let shard = self.clone();
        let busy = to.peer.begin();
        tokio::task::spawn_local(async move {
            let dispatch = shard.parts.dispatch.clone();
            let done = blocking(move || dispatch.prepare(&missing)).await;
            go_on(&shard, &to, done);
            drop(busy);
        });
    }

    /// Holds a pull until a wanted message comes behind what was `seen`, its time is over, or its connection goes.
    fn park(self: &Rc<Self>, to: Asker, pull: Admitted, hold: Millis, mut seen: QueueOffset) {
        let config = self.send.config();
        let limit = config.max_parked_pulls as usize;
        let held = self.parts.parked.fetch_add(1, Ordering::Relaxed);
        if held >= limit {
            self.parts.parked.fetch_sub(1, Ordering::Relaxed);
            let code = config.overload_response_code;
            return to.refuse(&Refusal::overloaded(code, "held pulls", held, limit));
        }
        let shard = self.clone();
        let busy = to.peer.begin();
        tokio::task::spawn_local(async move {
            let deadline = Instant::now() + Duration::from_millis(hold.0.unsigned_abs());
            let gone = loop {
                // Told before it is waited for: a drain that began in between is not missed, as nothing runs here
                // between this look and the wait.
                if shard.draining.get() {
                    break false;
                }
                tokio::select! {
                    () = pull.queue().dispatched().beyond(seen.0) => {
                        let max = pull.queue().max();
                        // Waiting for a deleted queue ends at once, every time.
                        if pull.queue().is_deleted() || pull.wants_any(&shard.parts.store, seen, max) {
                            break false;
                        }
                        seen = max;
                    }
                    () = tokio::time::sleep_until(deadline) => break false,
                    () = shard.drain.notified() => break false,
                    () = to.peer.closed() => break true,
                }
            };
            shard.parts.parked.fetch_sub(1, Ordering::Relaxed);
            if !gone {
                shard.answer_parked(to, pull).await;
            }
            drop(busy);
        });
    }

    /// The second and last look of a held pull; it is not held again.
    async fn answer_parked(&self, to: Asker, pull: Admitted) {
        let pull = match self.parts.pull.renewed(pull, to.peer.address()) {
            Ok(pull) => pull,
            Err(refusal) => return to.refuse(&refusal),
        };
        if self.parts.pull.is_hot(&pull) {
            let answer = self.parts.pull.attempt(&pull);
            return self.answer_pull(&to, &pull, answer);
        }
        let reader = self.parts.pull.clone();
        let (pull, answer) = blocking(move || {
            let answer = reader.attempt(&pull);
            (pull, answer)
        })
        .await;
        self.answer_pull(&to, &pull, answer);
    }

    fn answer_pull(&self, to: &Asker, pull: &Admitted, answer: PullAnswer) {
        self.parts.pull.account(pull, &answer);
        if to.oneway {
            return;
        }
        let head = ResponseHead {
            code: answer.code,
            opaque: to.opaque,
            remark: Some(answer.remark),
        };
        let (bytes, slices) = match answer.found {
            Some(found) => (found.bytes, found.slices),
            None => (0, Vec::new()),
        };
        let body_len = usize::try_from(bytes).unwrap_or(usize::MAX);
        to.peer.push_slices(
            |out| {
                let fields = &mut |fields: &mut frame::FieldWriter<'_>| {
                    fields.int("suggestWhichBrokerId", answer.suggest);
                    fields.int("nextBeginOffset", answer.next);
                    fields.int("minOffset", answer.min);
                    fields.int("maxOffset", answer.max);
                };
                match frame::encode_response_head(out, to.serialization, &head, fields, body_len) {
                    Ok(()) => Follow::Slices,
                    Err(error) => {
                        let remark = format!("the messages do not fit an answer: {error}");
                        let head = ResponseHead {
                            code: response::SYSTEM_ERROR,
                            opaque: to.opaque,
                            remark: Some(&remark),
                        };
                        frame::encode_response(out, to.serialization, &head, &mut |_| {}, &[]);
                        Follow::Nothing
                    }
                }
            },
            slices,
        );
        to.peer.flush();
    }

    fn other(self: &Rc<Self>, peer: &Peer, request: Request) {
        let shard = self.clone();
        let busy = peer.begin();
        let peer = peer.clone();
        let request = Arc::new(request);
        tokio::task::spawn_local(async move {
            let result = shard
                .parts
                .dispatch
                .clone()
                .handle(&peer, request.clone())
                .await;
            if !request.oneway {
                let response = match result {
                    Ok(Some(response)) => Some(response),
                    Ok(None) => None,
                    Err(refusal) => Some(Response::refuse(refusal.code, refusal.remark)),
                };
                if let Some(response) = response {
                    peer.send(|out| response.encode(out, request.opaque, request.serialization));
                }
            }
            drop(busy);
        });
    }
}

impl Handler for RcShard {
    fn frame(&self, peer: &Peer, frame: Frame<'_>) -> Verdict {
        let header = match frame.decode() {
            Ok(header) => header,
            Err(error) => {
                tracing::info!(peer = %peer.address(), %error, "connection closed: the header cannot be read");
                return Verdict::Close;
            }
        };
        if header.is_response() {
            let answer = Answer {
                code: header.code,
                remark: header.remark.as_deref().map(str::to_owned),
                fields: header.fields.into_owned(),
                body: Bytes::copy_from_slice(frame.body),
            };
            peer.deliver(header.opaque, answer);
            return Verdict::Continue;
        }
        let shard = &self.0;
        if let Err(refusal) = shard.parts.gates.pass(peer, header.code) {
            Asker::of(peer, frame.serialization, &header).refuse(&refusal);
            return Verdict::Continue;
        }
        match header.code {
            request::SEND_MESSAGE | request::SEND_MESSAGE_V2 | request::SEND_BATCH_MESSAGE => {
                shard.send(peer, frame.serialization, &header, frame.body, 0);
            }
            request::PULL_MESSAGE | request::LITE_PULL_MESSAGE
                if shard.parts.gates.may_pull(peer) =>
            {
                shard.pull(peer, frame.serialization, &header, 0);
            }
            _ => shard.other(
                peer,
                Request::from_header(
                    header,
                    frame.serialization,
                    Bytes::copy_from_slice(frame.body),
                ),
            ),
        }
        Verdict::Continue
    }

    fn closed(&self, peer: &Peer) {
        self.0.parts.dispatch.connection_closed(peer);
    }

    fn draining(&self) {
        self.0.draining.set(true);
        self.0.drain.notify_waiters();
    }
}

/// The handle under which `net` holds a shard; the shard's own tasks hold it too.
pub struct RcShard(pub Rc<Shard>);

/// Whom to answer.
struct Asker {
    peer: Peer,
    serialization: Serialization,
    opaque: i32,
    oneway: bool,
}

impl Asker {
    fn of(peer: &Peer, serialization: Serialization, header: &Header<'_>) -> Asker {
        Asker {
            peer: peer.clone(),
            serialization,
            opaque: header.opaque,
            oneway: header.is_oneway(),
        }
    }

    fn refuse(&self, refusal: &Refusal) {
        if self.oneway {
            return;
        }
        let head = ResponseHead {
            code: refusal.code,
            opaque: self.opaque,
            remark: Some(&refusal.remark),
        };
        self.peer
            .send(|out| frame::encode_response(out, self.serialization, &head, &mut |_| {}, &[]));
    }
}

/// Message ids of an entry, joined by commas.
struct Ids<'a> {
    batch: &'a Batch,
    entry: usize,
    host: SocketAddr,
}

impl std::fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, offset) in self.batch.offsets(self.entry).enumerate() {
            if 0 < index {
                f.write_str(",")?;
            }
            MessageId {
                host: self.host,
                offset,
            }
            .fmt(f)?;
        }
        Ok(())
    }
}

/// Runs what may touch a disk on a thread of its own.
async fn blocking<T: std::marker::Send + 'static>(
    work: impl FnOnce() -> T + std::marker::Send + 'static,
) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
