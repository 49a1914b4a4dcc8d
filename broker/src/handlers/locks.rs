//! Queue locks for ordered consumption: asked for (41) and given back (42). Nothing here touches a disk.

use std::sync::Arc;

use gantry_message::Millis;
use gantry_wire::{
    Request, Response,
    bodies::{LockBatchRequest, LockBatchResponse},
};

use crate::{locks::Locks, refusal::Refusal};

/// The parts that queue locks need.
pub struct QueueLocks {
    /// Who owns which queue.
    pub locks: Arc<Locks>,
}

impl QueueLocks {
    /// Serves 41: answers the queues that the client owns now.
    pub fn lock(&self, request: &Request, now: Millis) -> Result<Response, Refusal> {
        let body = LockBatchRequest::parse(&request.body)?;
        let granted = self
            .locks
            .lock(&body.consumer_group, &body.client_id, &body.mq_set, now);
        Ok(Response::with_body(
            LockBatchResponse {
                lock_ok_mq_set: granted,
            }
            .encode(),
        ))
    }

    /// Serves 42: gives back what the client owns of it.
    pub fn unlock(&self, request: &Request) -> Result<Response, Refusal> {
        let body = LockBatchRequest::parse(&request.body)?;
        self.locks
            .unlock(&body.consumer_group, &body.client_id, &body.mq_set);
        Ok(Response::ok())
    }
}
