//! Sends that are stored and wait for the disk: synchronous flush.
//!
//! Each shard keeps them in the order of the log, so one wait for the first of them is enough. They are answered when
//! the sync of their bytes is through, when their time is over, or at once when the store has latched: no later sync
//! can be believed. A message that is stored and may not survive a power cut is answered FLUSH_DISK_TIMEOUT, as Java
//! does after a failed flush: consumers can see it, so its sender must not be told that it is nowhere.

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

/// The sends of one shard that wait for the disk.
#[derive(Default)]
pub(super) struct Unsynced {
    /// Invariant: ends and deadlines grow from the first to the last.
    waiting: RefCell<VecDeque<Stored>>,
    added: Notify,
}

/// A stored message and all that its answer says.
pub(super) struct Stored {
    pub(super) end: LogOffset,
    pub(super) deadline: Instant,
    pub(super) peer: Peer,
    pub(super) opaque: i32,
    pub(super) serialization: Serialization,
    pub(super) ids: String,
    pub(super) queue_id: QueueId,
    pub(super) queue_offset: QueueOffset,
}

impl Unsynced {
    pub(super) fn push(&self, stored: Stored) {
        self.waiting.borrow_mut().push_back(stored);
        self.added.notify_one();
    }
}

impl Shard {
    /// How long a send waits for the disk.
    pub(super) fn sync_patience(&self) -> Duration {
        Duration::from_millis(self.send.config().store.sync_flush_timeout)
    }

    /// Answers what waits, until the shard's runtime ends.
    pub(super) async fn answer_synced(self: Rc<Self>) {
        let store = &self.parts.store;
        loop {
            let first = {
                let waiting = self.unsynced.waiting.borrow();
                waiting.front().map(|first| (first.end, first.deadline))
            };
            let Some((end, deadline)) = first else {
                self.unsynced.added.notified().await;
                continue;
            };
            tokio::select! {
                () = store.flushed().beyond(end.0 - 1) => {}
                () = store.latches().beyond(0) => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
            // In this order: what was synced before the store latched is in `flushed` by then, and is a success.
            let over = self.why_over();
            self.answer_due(store.flushed().value(), over.as_ref(), Instant::now());
        }
    }

    /// Why what is not on disk yet will never be known to be. A full disk is no reason: it takes no more messages, but
    /// what it took is synced.
    fn why_over(&self) -> Option<AppendError> {
        let error = self.parts.store.check_writable().err()?;
        matches!(error, AppendError::ShutDown | AppendError::Latched { .. }).then_some(error)
    }

    fn answer_due(&self, flushed: u64, over: Option<&AppendError>, now: Instant) {
        let why = over.map(|error| format!("the message is stored but not synced: {error}"));
        let mut peers: Vec<Peer> = Vec::new();
        loop {
            let mut waiting = self.unsynced.waiting.borrow_mut();
            let Some(first) = waiting.front() else { break };
            let (code, remark) = if first.end.0 <= flushed {
                (self.kept, None)
            } else if over.is_some() || first.deadline <= now {
                (response::FLUSH_DISK_TIMEOUT, why.as_deref())
            } else {
                break;
            };
            let Some(stored) = waiting.pop_front() else {
                break;
            };
            drop(waiting);
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
            if peers.last() != Some(&stored.peer) {
                peers.push(stored.peer);
            }
        }
        for peer in peers {
            peer.flush();
        }
    }
}
