//! One I/O shard's half of the broker: it sorts frames into sends, pulls and everything else, and commits what a turn
//! of the runtime staged.
//!
//! Sends of all connections that were ready in one turn are encoded into one batch. The committer is a task of the same
//! thread; it is woken by the first of them, so it runs after the last of them, writes once and answers all, but those
//! that wait for a sync or a slave (`unsynced`). Pulls, held ones too, are in `pulls`.
//! Nothing here waits for a disk: what may touch one goes to a blocking thread.

pub mod promise;
mod pulls;
mod unsynced;

use std::{
    cell::{Cell, RefCell},
    fmt::Write,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gantry_message::{MessageId, QueueId, QueueOffset, topic};
use gantry_net::{
    Peer,
    peer::Answer,
    server::{Handler, Verdict},
};
use gantry_service::audit::{self, Effect};
use gantry_store::{Batch, Outcome, Store};
use gantry_wire::{
    FieldSink, Fields, Request, Response,
    codes::{request, response},
    frame::{self, Frame, Header, ResponseHead, Serialization},
};
use smallvec::SmallVec;
use tokio::sync::{Notify, Semaphore};

use promise::Waits;
use unsynced::{Stored, Unsynced};

use crate::{
    acks::SlaveAcks,
    config::FlushDiskType,
    dispatch::Dispatch,
    gates::{self, Gates},
    handlers::{
        pull::Pull,
        send::{Send, Sender, Stage, Staged},
    },
    live::LiveConfig,
    measures::{AllMeasures, Answered, Counted, Leg, Measures},
    refusal::Refusal,
    stats::Stats,
    tables::Missing,
};

/// A batch is committed early when it holds this much, so that one turn cannot grow without bound.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// So many pulls of a shard read the disk at once; the others wait for their turn.
const COLD_READS_MAX: usize = 16;

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
    /// What is promised about slaves.
    pub acks: Arc<SlaveAcks>,
    /// Pulls held by all shards.
    pub parked: Arc<AtomicUsize>,
    /// How long requests take.
    pub measures: Arc<AllMeasures>,
}

/// The handler of one shard.
pub struct Shard {
    parts: Arc<Parts>,
    send: Send,
    turn: RefCell<Turn>,
    staged: Notify,
    unsynced: Unsynced,
    draining: Cell<bool>,
    drain: Notify,
    /// Pulls that wait for the disk.
    cold_reads: Semaphore,
    sync_flush: bool,
    /// A SYNC_MASTER promises a second copy.
    sync_copy: bool,
    ids: RefCell<String>,
    measures: Arc<Measures>,
}

/// What one turn of the runtime has staged.
struct Turn {
    batch: Batch,
    waiting: Vec<Waiting>,
    /// When the first of them came.
    began: Option<Instant>,
}

/// Whom to answer about one entry of the batch.
struct Waiting {
    peer: Peer,
    opaque: i32,
    serialization: Serialization,
    oneway: bool,
    /// The request's code.
    code: i32,
    staged: Staged,
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
                began: None,
            }),
            staged: Notify::new(),
            unsynced: Unsynced::default(),
            draining: Cell::new(false),
            drain: Notify::new(),
            cold_reads: Semaphore::new(COLD_READS_MAX),
            sync_flush,
            sync_copy: parts.acks.is_sync_master(),
            ids: RefCell::default(),
            measures: parts.measures.one_more(),
            parts,
        });
        // Both tasks end with the shard's runtime.
        tokio::task::spawn_local(shard.clone().committer());
        if shard.sync_flush || shard.sync_copy {
            tokio::task::spawn_local(shard.clone().answer_kept());
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
        let Turn {
            batch,
            waiting,
            began,
        } = &mut *turn;
        if waiting.is_empty() {
            return;
        }
        let (taken, count) = (Instant::now(), waiting.len() as u64);
        let began = began.take().unwrap_or(taken);
        self.parts.store.commit(batch);
        let committed = Instant::now();
        let mut answers = Answers::default();
        let mut last: Option<Peer> = None;
        for waiting in waiting.drain(..) {
            let (peer, request) = (waiting.peer.clone(), waiting.code);
            if let Some(response) = self.conclude(batch, waiting, began, committed) {
                answers.add(request, response);
            }
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
        let answered = Instant::now();
        let mut counted = self.measures.lock();
        counted.leg(Leg::SendStaged, taken - began, count);
        counted.leg(Leg::SendCommit, committed - taken, count);
        counted.leg(Leg::SendAnswer, answered - committed, count);
        answers.count(&mut counted, answered - began);
    }

    /// The code of the answer, if it was given.
    fn conclude(
        &self,
        batch: &Batch,
        waiting: Waiting,
        began: Instant,
        committed: Instant,
    ) -> Option<i32> {
        let Waiting {
            peer,
            opaque,
            serialization,
            oneway,
            code,
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
                let (target, kind) = &staged.came_in;
                target.came_in(*kind, staged.messages, bytes);
                if let Some(group) = &staged.dead_of {
                    self.parts.stats.died(group, &topic::dlq(group));
                }
                if oneway {
                    return None;
                }
                let (end, queue_offset) = (*end, *queue_offset);
                if staged.wait && (self.sync_flush || self.sync_copy) {
                    self.unsynced.push(Stored {
                        waits: Waits {
                            end,
                            sync_by: self.sync_by(),
                            copy: self.copy_of(end),
                        },
                        peer,
                        opaque,
                        serialization,
                        ids: self.ids(batch, staged.entry),
                        queue_id: staged.queue_id,
                        queue_offset,
                        request: code,
                        began,
                        committed,
                    });
                    return None;
                }
                let ids = Ids {
                    batch,
                    entry: staged.entry,
                    host: self.parts.store_host,
                };
                let head = ResponseHead {
                    code: response::SUCCESS,
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
                Some(response::SUCCESS)
            }
            Outcome::Refused(error) => {
                self.parts.stats.send_failed();
                if oneway {
                    return None;
                }
                let refusal = self.send.not_stored(error);
                self.refuse_send(&peer, serialization, opaque, &refusal);
                peer.ended(1);
                Some(refusal.code)
            }
        }
    }

    /// A send was refused before it was stored.
    fn refuse_early(
        &self,
        peer: &Peer,
        serialization: Serialization,
        header: &Header<'_>,
        refusal: &Refusal,
    ) {
        if header.is_oneway() {
            return;
        }
        self.refuse_send(peer, serialization, header.opaque, refusal);
        self.answered(header.code, refusal.code, Duration::ZERO);
    }

    fn answered(&self, request: i32, response: i32, took: Duration) {
        let answered = Answered {
            request,
            response,
            was_held: false,
        };
        self.measures.lock().answered(answered, took, 1);
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
                turn.began.get_or_insert_with(Instant::now);
                turn.waiting.push(Waiting {
                    peer: peer.clone(),
                    opaque: header.opaque,
                    serialization,
                    oneway: header.is_oneway(),
                    code: header.code,
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
                let to = Asker::of(self, peer, serialization, header);
                let header = header.clone().into_owned();
                let body = Bytes::copy_from_slice(body);
                self.prepare(to, missing, move |shard, to, done| match done {
                    Ok(()) => shard.send(&to.peer, to.serialization, &header, &body, made + 1),
                    Err(refusal) => {
                        shard.refuse_early(&to.peer, to.serialization, &header, &refusal);
                    }
                });
            }
            Ok(Stage::Prepare(_)) => {
                drop(turn);
                let refusal = Refusal::system_error("the topic was deleted meanwhile");
                self.refuse_early(peer, serialization, header, &refusal);
            }
            Err(refusal) => {
                drop(turn);
                self.parts.stats.send_failed();
                self.refuse_early(peer, serialization, header, &refusal);
            }
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

    /// As [`Shard::other`], if the sender turns out to be a slave of ours.
    fn other_of_slave(self: &Rc<Self>, peer: &Peer, request: Request) {
        let shard = self.clone();
        let busy = peer.begin();
        let peer = peer.clone();
        tokio::task::spawn_local(async move {
            match shard.parts.gates.pass_slave(&peer, request.code).await {
                Ok(()) => shard.other(&peer, request),
                Err(refusal) if !request.oneway => {
                    let response = Response::refuse(refusal.code, refusal.remark);
                    peer.send(|out| response.encode(out, request.opaque, request.serialization));
                }
                Err(_) => {}
            }
            drop(busy);
        });
    }

    fn other(self: &Rc<Self>, peer: &Peer, request: Request) {
        let shard = self.clone();
        let (busy, began) = (peer.begin(), Instant::now());
        let peer = peer.clone();
        let request = Arc::new(request);
        tokio::task::spawn_local(async move {
            let result = shard
                .parts
                .dispatch
                .clone()
                .handle(&peer, request.clone())
                .await;
            if let Some(effect) = gates::administration(request.code) {
                let code = match &result {
                    Ok(Some(response)) => response.code,
                    Ok(None) => response::SUCCESS,
                    Err(refusal) => refusal.code,
                };
                audit(effect, peer.address(), request.code, &request.fields, code);
            }
            if !request.oneway {
                let response = match result {
                    Ok(Some(response)) => Some(response),
                    Ok(None) => None,
                    Err(refusal) => Some(Response::refuse(refusal.code, refusal.remark)),
                };
                if let Some(response) = response {
                    shard.answered(request.code, response.code, began.elapsed());
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
            if gates::concerns_slaves(header.code) {
                let body = Bytes::copy_from_slice(frame.body);
                let request = Request::from_header(header, frame.serialization, body);
                shard.other_of_slave(peer, request);
                return Verdict::Continue;
            }
            if let Some(effect) = gates::administration(header.code) {
                audit(
                    effect,
                    peer.address(),
                    header.code,
                    &header.fields,
                    refusal.code,
                );
            }
            Asker::of(shard, peer, frame.serialization, &header).refuse(&refusal);
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

/// Who administers the broker, and how, is in the log.
fn audit(effect: Effect, from: SocketAddr, request: i32, fields: &Fields<'_>, response: i32) {
    let (what, result) = (request::name(request), response::name(response));
    audit::call(effect, from, what, fields.iter(), result);
}

/// The handle under which `net` holds a shard; the shard's own tasks hold it too.
pub struct RcShard(pub Rc<Shard>);

/// Whom to answer.
struct Asker {
    peer: Peer,
    serialization: Serialization,
    opaque: i32,
    oneway: bool,
    /// The request's code.
    code: i32,
    /// When it came.
    began: Instant,
    measures: Arc<Measures>,
}

impl Asker {
    fn of(shard: &Shard, peer: &Peer, serialization: Serialization, header: &Header<'_>) -> Asker {
        Asker {
            peer: peer.clone(),
            serialization,
            opaque: header.opaque,
            oneway: header.is_oneway(),
            code: header.code,
            began: Instant::now(),
            measures: shard.measures.clone(),
        }
    }

    fn refuse(&self, refusal: &Refusal) {
        if self.oneway {
            return;
        }
        let answered = Answered {
            request: self.code,
            response: refusal.code,
            was_held: false,
        };
        let took = self.began.elapsed();
        self.measures.lock().answered(answered, took, 1);
        let head = ResponseHead {
            code: refusal.code,
            opaque: self.opaque,
            remark: Some(&refusal.remark),
        };
        self.peer
            .send(|out| frame::encode_response(out, self.serialization, &head, &mut |_| {}, &[]));
    }
}

/// The answers of one turn, mostly alike.
#[derive(Default)]
struct Answers(SmallVec<[(i32, i32, u64); 4]>);

impl Answers {
    fn add(&mut self, request: i32, response: i32) {
        match self.0.last_mut() {
            Some((asked, said, count)) if (*asked, *said) == (request, response) => *count += 1,
            _ => self.0.push((request, response, 1)),
        }
    }

    fn count(self, counted: &mut Counted, took: Duration) {
        for (request, response, count) in self.0 {
            let answered = Answered {
                request,
                response,
                was_held: false,
            };
            counted.answered(answered, took, count);
        }
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
