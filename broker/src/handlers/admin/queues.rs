//! The raw entries of one queue (321).

use std::sync::Arc;

use gantry_message::{QueueId, QueueOffset};
use gantry_store::Store;
use gantry_wire::bodies::{ConsumeQueueData, QueryConsumeQueue};
use gantry_wire::headers::QueryConsumeQueue as Header;
use gantry_wire::{Request, Response};

use super::sent;
use crate::clients::Clients;
use crate::refusal::Refusal;

/// Most entries one answer carries.
const ENTRIES_MAX: usize = 10_000;

/// The parts that requests about queues need.
pub struct Queues {
    /// Where queues are.
    pub store: Arc<Store>,
    /// What groups subscribe.
    pub clients: Arc<Clients>,
}

impl Queues {
    /// Serves 321. An index outside the queue is answered with an empty list, where Java sends no body and its tool
    /// fails on that. Blocks.
    pub fn entries(&self, request: &Request) -> Result<Response, Refusal> {
        let header: Header<'_> = request.header()?;
        let id = u32::try_from(header.queue_id).map(QueueId).ok();
        let queue = id.and_then(|id| self.store.find_queue(header.topic, id));
        let queue = queue.ok_or_else(|| {
            let (id, topic) = (header.queue_id, header.topic);
            Refusal::system_error(format!("{id}@{topic} is not exist!"))
        })?;
        let mut body = QueryConsumeQueue {
            max_queue_index: sent(queue.max()),
            min_queue_index: sent(queue.min()),
            ..QueryConsumeQueue::default()
        };
        let subscribed = header
            .consumer_group
            .map(|group| (group, self.clients.subscription(group, header.topic)));
        let filter = match &subscribed {
            Some((group, None)) => {
                body.filter_data = Some(format!("{group}@{} is not online!", header.topic));
                None
            }
            Some((_, Some(subscribed))) => {
                body.filter_data = Some("null".to_owned());
                body.subscription_data = Some(subscribed.data.clone());
                Some(&subscribed.filter)
            }
            None => None,
        };
        let from = u64::try_from(header.index).ok().map(QueueOffset);
        let from = from.filter(|from| queue.min() <= *from && *from < queue.max());
        let Some(from) = from else {
            let (index, id, topic) = (header.index, header.queue_id, header.topic);
            let remark = format!("Index {index} of {id}@{topic} is not exist!");
            return Ok(Response::with_body(body.encode()).remark(remark));
        };
        let wanted = usize::try_from(header.count).unwrap_or(0).min(ENTRIES_MAX);
        let entries = self.store.queue_entries(&queue, from, wanted);
        let entries = entries.map_err(|error| Refusal::system_error(error.to_string()))?;
        body.queue_data = entries
            .iter()
            .map(|entry| ConsumeQueueData {
                eval: filter.is_some_and(|filter| filter.matches(entry.tags_code)),
                physic_offset: i64::try_from(entry.log_offset.0).unwrap_or(i64::MAX),
                physic_size: i32::try_from(entry.size).unwrap_or(i32::MAX),
                tags_code: entry.tags_code,
                ..ConsumeQueueData::default()
            })
            .collect();
        Ok(Response::with_body(body.encode()))
    }
}
