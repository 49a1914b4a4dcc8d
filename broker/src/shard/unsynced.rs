//! Sends that are stored and wait for the disk (synchronous flush), for a slave (SYNC_MASTER), or for both.
//!
//! Each shard keeps them in the order of the log, so one wait for the first of them is enough. They are answered when
//! both have them, when the time of one is over, or at once when the store has latched: no later sync can be believed.
//! A message that is stored and may not survive a power cut is answered FLUSH_DISK_TIMEOUT, as Java does after a failed
//! flush: consumers can see it, so its sender must not be told that it is nowhere. What is wrong with the copy outweighs
//! what is wrong with the disk, as in Java (store.md 9).

use std::{cell::RefCell, collections::VecDeque, rc::Rc, time::Duration};

use gantry_message::{LogOffset, QueueId, QueueOffset};
use gantry_net::Peer;
use gantry_store::AppendError;
use gantry_wire::{
    codes::response,
    frame::{ResponseHead, Serialization},
};
use tokio::{sync::Notify, time::Instant};

use super::Shard;
use super::promise::{Progress, Replica, Seen, Waits};
use crate::acks::Wanted;
use crate::measures::{Answered, Leg};

/// The sends of one shard that wait for the disk.
#[derive(Default)]
pub(super) struct Unsynced {
    /// Invariant: ends grow from the first to the last.
    waiting: RefCell<VecDeque<Stored>>,
    added: Notify,
}

/// A stored message and all that its answer says.
pub(super) struct Stored {
    pub(super) waits: Waits,
    pub(super) peer: Peer,
    pub(super) opaque: i32,
    pub(super) serialization: Serialization,
    pub(super) ids: String,
    pub(super) queue_id: QueueId,
    pub(super) queue_offset: QueueOffset,
    /// The request's code.
    pub(super) request: i32,
    /// When its turn began, and when it was stored.
    pub(super) began: std::time::Instant,
    pub(super) committed: std::time::Instant,
}

impl Unsynced {
    pub(super) fn push(&self, stored: Stored) {
        self.waiting.borrow_mut().push_back(stored);
        self.added.notify_one();
    }
}

impl Shard {
    /// Until when a send that is stored now waits for the disk; `None` if it need not.
    pub(super) fn sync_by(&self) -> Option<Instant> {
        let patience = Duration::from_millis(self.send.config().store.sync_flush_timeout);
        self.sync_flush.then(|| Instant::now() + patience)
    }

    /// What a message that ends there waits for at the slaves.
    pub(super) fn copy_of(&self, end: LogOffset) -> Replica {
        match self.parts.acks.wanted(&self.send.config().store, end) {
            Wanted::Nothing => Replica::Unasked,
            Wanted::Missing => Replica::Missing,
            Wanted::Copy(patience) => Replica::By(Instant::now() + patience),
        }
    }

    /// Answers what waits, until the shard's runtime ends.
    pub(super) async fn answer_kept(self: Rc<Self>) {
        loop {
            let seen = self.answer_due();
            let now = Instant::now();
            let first = {
                let waiting = self.unsynced.waiting.borrow();
                let first = waiting.front();
                first.map(|first| {
                    (
                        first.waits.end.0 - 1,
                        first.waits.copy,
                        first.waits.deadline(now).unwrap_or(now),
                    )
                })
            };
            match first {
                Some((past, copy, deadline)) => self.progress(seen, past, copy, deadline).await,
                None => self.unsynced.added.notified().await,
            }
        }
    }

    /// Waits until the disk or a slave has what is behind `past`, nothing more can be believed, or time is over. What was
    /// `seen` there already is not waited for; what came since then ends the wait at once.
    async fn progress(&self, seen: Seen, past: u64, copy: Replica, deadline: Instant) {
        let store = &self.parts.store;
        let is_synced = async {
            match self.sync_flush && seen.flushed <= past {
                true => store.flushed().beyond(past).await,
                false => std::future::pending().await,
            }
        };
        let is_copied = async {
            match copy {
                Replica::By(_) if seen.replicated <= past => {
                    self.parts.acks.links().replicated().beyond(past).await;
                }
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = is_synced => {}
            () = is_copied => {}
            () = store.latches().beyond(0) => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }

    /// Why what is not on disk yet will never be known to be. A full disk is no reason: it takes no more messages, but
    /// what it took is synced.
    fn why_over(&self) -> Option<AppendError> {
        let error = self.parts.store.check_writable().err()?;
        matches!(error, AppendError::ShutDown | AppendError::Latched { .. }).then_some(error)
    }

    /// Answers all that can be answered, and says how far the disk and the slaves were then.
    fn answer_due(&self) -> Seen {
        // In this order: what was synced before the store latched is in `flushed` by then, and is a success.
        let over = self.why_over();
        let acks = &self.parts.acks;
        let seen = Seen {
            flushed: self.parts.store.flushed().value(),
            replicated: acks.links().replicated().value(),
        };
        let progress = Progress {
            seen,
            excuses: acks.is_excused(&self.send.config().store),
            is_over: over.is_some(),
            now: Instant::now(),
        };
        let why = over
            .as_ref()
            .map(|error| format!("the message is stored but not synced: {error}"));
        let mut peers: Vec<Peer> = Vec::new();
        loop {
            let mut waiting = self.unsynced.waiting.borrow_mut();
            let Some(code) = waiting
                .front()
                .and_then(|first| first.waits.code(&progress))
            else {
                break;
            };
            let remark = why.as_deref().filter(|_| code != response::SUCCESS);
            let Some(stored) = waiting.pop_front() else {
                break;
            };
            drop(waiting);
            if stored.waits.is_excused(&progress) {
                acks.excused(stored.waits.end);
            }
            let head = ResponseHead {
                code,
                opaque: stored.opaque,
                remark,
            };
            self.answer_send(
                &stored.peer,
                stored.serialization,
                &head,
                &stored.ids,
                stored.queue_id,
                stored.queue_offset,
            );
            stored.peer.ended(1);
            let answered = Answered {
                request: stored.request,
                response: code,
                was_held: false,
            };
            let now = progress.now.into_std();
            let mut counted = self.measures.lock();
            let waited = now.saturating_duration_since(stored.committed);
            counted.leg(Leg::SendDurable, waited, 1);
            counted.answered(answered, now.saturating_duration_since(stored.began), 1);
            drop(counted);
            if peers.last() != Some(&stored.peer) {
                peers.push(stored.peer);
            }
        }
        for peer in peers {
            peer.flush();
        }
        seen
    }
}
