//! Cleaning on demand: queues without messages (306), queues of unknown topics (316), old log files (329).
//!
//! All three answer success whatever they find, as RocketMQ's do; what they did is in the log.

use std::sync::Arc;

use gantry_message::topic;
use gantry_store::Store;
use gantry_wire::Response;

use super::Identity;
use crate::refusal::Refusal;
use crate::stats::Stats;
use crate::tables::Topics;

/// The parts that cleaning needs.
pub struct Cleaning {
    /// Who this broker is.
    pub identity: Arc<Identity>,
    /// What is cleaned.
    pub store: Arc<Store>,
    /// Which topics are known.
    pub topics: Arc<Topics>,
    /// Their counters.
    pub stats: Arc<Stats>,
}

impl Cleaning {
    /// Serves 306: queues all of whose messages are gone. Blocks.
    pub fn expired_queues(&self) -> Result<Response, Refusal> {
        self.store
            .clean_expired_queues()
            .map_err(|error| Refusal::system_error(error.to_string()))?;
        Ok(Response::ok())
    }

    /// Serves 329: expired log files, whatever the hour; the store's own thread does it.
    pub fn expired_logs(&self) -> Response {
        self.store.delete_expired_now();
        Response::ok()
    }

    /// Serves 316: topics that have queues and no settings lose their queues. Blocks.
    pub fn unknown_topics(&self) -> Result<Response, Refusal> {
        for name in self.store.topics() {
            let kept = [topic::SCHEDULE, topic::TRANS_OP_HALF].contains(&name.as_str());
            if kept || name.starts_with(topic::LMQ_PREFIX) || self.topics.get(&name).is_some() {
                continue;
            }
            // A send may make the topic meanwhile.
            self.store
                .delete_topic_if(&name, || self.topics.get(&name).is_none())
                .map_err(|error| Refusal::system_error(error.to_string()))?;
            if self.identity.live.now().auto_delete_unused_stats {
                self.stats.topic_deleted(&name);
            }
            tracing::info!(topic = %name, "queues of an unknown topic removed");
        }
        Ok(Response::ok())
    }
}
