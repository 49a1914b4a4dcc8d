//! Where groups are (14, 15) and where queues begin and end (29 to 32).
//!
//! Taking a position is memory only. Whether a group without one starts at the beginning, and everything about time, looks into
//! the store: these say "Blocks". A queue that does not exist answers as an empty one.

use std::{net::SocketAddr, sync::Arc};

use gantry_message::{Millis, QueueId, QueueOffset};
use gantry_store::{Queue, Store};
use gantry_wire::{
    Request, Response,
    headers::{
        GetEarliestMsgStoretime, GetEarliestMsgStoretimeAnswer, GetMaxOffset, GetMinOffset,
        OffsetAnswer, QueryConsumerOffset, SEEN_OFFSET, SearchOffset, UpdateConsumerOffset,
    },
};

use crate::{refusal::Refusal, tables::Offsets};

/// The parts that requests about offsets need.
pub struct OffsetRequests {
    /// Where groups are.
    pub offsets: Arc<Offsets>,
    /// Where queues begin and end.
    pub store: Arc<Store>,
    /// How far behind the end of the log messages count as in memory.
    pub hot_bytes: u64,
}

impl OffsetRequests {
    /// Serves 15: the position is taken as given. A negative one means "unknown" when asked for, so it takes the position away.
    pub fn update(&self, from: SocketAddr, request: &Request) -> Result<Response, Refusal> {
        let header: UpdateConsumerOffset<'_> = request.header()?;
        let (group, topic) = (header.consumer_group, header.topic);
        let queue = queue_id(header.queue_id, topic)?;
        let Ok(offset) = u64::try_from(header.commit_offset) else {
            self.offsets.forget(group, topic, queue);
            return Ok(Response::ok());
        };
        if let Some(seen) = request.fields.get(SEEN_OFFSET) {
            let seen = seen.parse().ok().map(QueueOffset);
            let place = (group, topic, queue);
            let taken = self
                .offsets
                .exchange(place, seen, Some(QueueOffset(offset)));
            // A group went on here after the slave had asked: it must not be set back.
            return match taken.map_err(|error| Refusal::offset_not_taken(&error))? {
                true => Ok(Response::ok()),
                false => Ok(Response::ok().field(SEEN_OFFSET, "changed")),
            };
        }
        let before = self
            .offsets
            .commit(group, topic, queue, QueueOffset(offset));
        match before.map_err(|error| Refusal::offset_not_taken(&error))? {
            Some(before) if offset < before.0 => {
                tracing::warn!(
                    client = %from, group, topic, %queue, offset, before = before.0,
                    "[NOTIFYME]update consumer offset less than store"
                );
            }
            _ => {}
        }
        Ok(Response::ok())
    }

    /// Serves 14 when the answer is known in memory; `None` when the store is to be looked into, which
    /// [`OffsetRequests::query`] does. Does not block.
    pub fn query_if_known(&self, request: &Request) -> Option<Result<Response, Refusal>> {
        let position = request
            .header::<QueryConsumerOffset<'_>>()
            .map_err(Refusal::from)
            .and_then(|header| self.position(&header));
        match position {
            Ok(Some(offset)) => Some(Ok(offset_answer(offset))),
            Ok(None) => None,
            Err(refusal) => Some(Err(refusal)),
        }
    }

    /// Serves 14: the group's position; without one, the beginning of a young queue, else the client decides by its
    /// own settings. Blocks.
    pub fn query(&self, request: &Request) -> Result<Response, Refusal> {
        let header: QueryConsumerOffset<'_> = request.header()?;
        match self.position(&header)? {
            Some(offset) => Ok(offset_answer(offset)),
            None if self.is_young(header.topic, queue_id(header.queue_id, header.topic)?) => {
                Ok(offset_answer(QueueOffset(0)))
            }
            None => Err(Refusal::offset_not_found()),
        }
    }

    /// Serves 29: the offset of the message stored nearest to a time. Blocks.
    pub fn search(&self, request: &Request) -> Result<Response, Refusal> {
        let header: SearchOffset<'_> = request.header()?;
        let queue = self.queue(header.queue_id, header.topic)?;
        let offset = queue.map(|queue| self.store.offset_at_time(&queue, Millis(header.timestamp)));
        Ok(offset_answer(offset.unwrap_or_default()))
    }

    /// Serves 30: the offset that the queue's next message will have.
    pub fn max(&self, request: &Request) -> Result<Response, Refusal> {
        let header: GetMaxOffset<'_> = request.header()?;
        let queue = self.queue(header.queue_id, header.topic)?;
        Ok(offset_answer(
            queue.map(|queue| queue.max()).unwrap_or_default(),
        ))
    }

    /// Serves 31: the offset of the queue's first message.
    pub fn min(&self, request: &Request) -> Result<Response, Refusal> {
        let header: GetMinOffset<'_> = request.header()?;
        let queue = self.queue(header.queue_id, header.topic)?;
        Ok(offset_answer(
            queue.map(|queue| queue.min()).unwrap_or_default(),
        ))
    }

    /// Serves 32: when the queue's first message was stored, -1 without one. Blocks.
    pub fn earliest(&self, request: &Request) -> Result<Response, Refusal> {
        let header: GetEarliestMsgStoretime<'_> = request.header()?;
        let queue = self.queue(header.queue_id, header.topic)?;
        let time = queue.and_then(|queue| self.store.store_time_at(&queue, queue.min()));
        let timestamp = time.map_or(-1, |time| time.0);
        Ok(Response::ok().header(&GetEarliestMsgStoretimeAnswer { timestamp }))
    }

    fn position(&self, header: &QueryConsumerOffset<'_>) -> Result<Option<QueueOffset>, Refusal> {
        let queue = queue_id(header.queue_id, header.topic)?;
        Ok(self
            .offsets
            .query(header.consumer_group, header.topic, queue))
    }

    /// Whether nothing was deleted from the queue yet and its first message, if there is one, still counts as in memory.
    fn is_young(&self, topic: &str, id: QueueId) -> bool {
        let Some(queue) = self.store.find_queue(topic, id) else {
            return true;
        };
        if queue.min() != QueueOffset(0) {
            return false;
        }
        let first = self.store.queue_entry(&queue, QueueOffset(0));
        first.is_none_or(|first| {
            self.store.max_offset().0.saturating_sub(first.log_offset.0) <= self.hot_bytes
        })
    }

    fn queue(&self, id: i32, topic: &str) -> Result<Option<Arc<Queue>>, Refusal> {
        Ok(self.store.find_queue(topic, queue_id(id, topic)?))
    }
}

fn queue_id(id: i32, topic: &str) -> Result<QueueId, Refusal> {
    u32::try_from(id)
        .map(QueueId)
        .map_err(|_| Refusal::queue_negative(id, topic))
}

fn offset_answer(offset: QueueOffset) -> Response {
    Response::ok().header(&OffsetAnswer {
        offset: i64::try_from(offset.0).unwrap_or(i64::MAX),
    })
}

#[cfg(test)]
mod tests;
