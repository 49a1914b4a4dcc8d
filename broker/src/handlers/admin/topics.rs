//! Topics: create or replace (17), delete (215), figures of the queues (202), the broker's own topics (305).
//!
//! A change is on disk when the answer goes out; who announces it to the name servers watches the table. Deleting
//! removes the settings, the queues and the counters; messages stay in the log until it is cleaned, offsets of groups
//! stay for good, and the name servers keep the route until they are told (216), all as in RocketMQ.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_message::{Millis, QueueId, QueueOffset, topic};
use gantry_store::Store;
use gantry_wire::bodies::{TopicConfig, TopicFilterType, TopicList, TopicOffset, TopicStatsTable};
use gantry_wire::headers::{CreateTopic, DeleteTopic, GetTopicStatsInfo};
use gantry_wire::{Request, Response};

use super::{Identity, QUEUES_MAX, sent};
use crate::refusal::Refusal;
use crate::stats::Stats;
use crate::tables::Topics;

/// The parts that requests about topics need.
pub struct TopicAdmin {
    /// Who this broker is.
    pub identity: Arc<Identity>,
    /// The topics.
    pub topics: Arc<Topics>,
    /// Their queues.
    pub store: Arc<Store>,
    /// Their counters.
    pub stats: Arc<Stats>,
}

impl TopicAdmin {
    /// Serves 17: what is there is replaced as a whole, but for the order flag. Blocks.
    pub fn update(&self, request: &Request, now: Millis) -> Result<Response, Refusal> {
        self.identity.check_writable()?;
        let config = wanted(&request.header()?)?;
        if self.topics.is_system(&config.topic_name) {
            return Err(Refusal::system_topic(&config.topic_name));
        }
        self.topics
            .put(config, now)
            .map_err(|error| Refusal::not_persisted(&error))?;
        Ok(Response::ok())
    }

    /// Serves 215; a topic that is not there is deleted as well. Blocks.
    pub fn delete(&self, request: &Request, now: Millis) -> Result<Response, Refusal> {
        self.identity.check_writable()?;
        let header: DeleteTopic<'_> = request.header()?;
        topic::validate(header.topic).map_err(Refusal::topic_name)?;
        if self.topics.is_system(header.topic) {
            return Err(Refusal::system_topic(header.topic));
        }
        self.topics
            .remove(header.topic, now)
            .map_err(|error| Refusal::not_persisted(&error))?;
        self.store
            .delete_topic(header.topic)
            .map_err(|error| Refusal::system_error(error.to_string()))?;
        if self.identity.live.now().auto_delete_unused_stats {
            self.stats.topic_deleted(header.topic);
        }
        Ok(Response::ok())
    }

    /// Serves 202: one row for each write queue. Blocks.
    pub fn figures(&self, request: &Request) -> Result<Response, Refusal> {
        let header: GetTopicStatsInfo<'_> = request.header()?;
        let config = self
            .topics
            .get(header.topic)
            .ok_or_else(|| Refusal::topic_missing(header.topic))?;
        let mut table = BTreeMap::new();
        for id in super::queue_ids(config.write_queue_nums) {
            table.insert(
                self.identity.queue(header.topic, id),
                self.ends(header.topic, id),
            );
        }
        Ok(Response::with_body(
            TopicStatsTable {
                offset_table: table,
            }
            .encode(),
        ))
    }

    /// Serves 305.
    pub fn system(&self) -> Response {
        let list = TopicList {
            broker_addr: None,
            topic_list: self.topics.system_topics(),
        };
        Response::with_body(list.encode())
    }

    fn ends(&self, topic: &str, id: QueueId) -> TopicOffset {
        let Some(queue) = self.store.find_queue(topic, id) else {
            return TopicOffset::default();
        };
        let (min, max) = (queue.min(), queue.max());
        let last = max
            .0
            .checked_sub(1)
            .and_then(|last| self.store.store_time_at(&queue, QueueOffset(last)));
        TopicOffset {
            // A queue whose last message is gone has no time any more, as an empty one.
            last_update_timestamp: last.map_or(if max.0 == 0 { 0 } else { -1 }, |time| time.0),
            max_offset: sent(max),
            min_offset: sent(min),
        }
    }
}

/// The settings a request asks for. Java takes any number here and fails later; a topic that cannot work is refused.
fn wanted(header: &CreateTopic<'_>) -> Result<TopicConfig, Refusal> {
    topic::validate(header.topic).map_err(Refusal::topic_name)?;
    for (name, queues) in [
        ("readQueueNums", header.read_queue_nums),
        ("writeQueueNums", header.write_queue_nums),
    ] {
        if !(0..=QUEUES_MAX).contains(&queues) {
            return Err(Refusal::system_error(format!(
                "{name}={queues} of topic[{}]: 0 to {QUEUES_MAX}",
                header.topic
            )));
        }
    }
    if !(0..=15).contains(&header.perm) {
        return Err(Refusal::system_error(format!(
            "perm={} of topic[{}]: 0 to 15",
            header.perm, header.topic
        )));
    }
    let filter_type = TopicFilterType::from_name(header.topic_filter_type).ok_or_else(|| {
        let (value, topic) = (header.topic_filter_type, header.topic);
        Refusal::system_error(format!(
            "topicFilterType={value} of topic[{topic}]: SINGLE_TAG or MULTI_TAG"
        ))
    })?;
    Ok(TopicConfig {
        order: false,
        perm: header.perm,
        read_queue_nums: header.read_queue_nums,
        topic_filter_type: filter_type,
        topic_name: header.topic.to_owned(),
        topic_sys_flag: header.topic_sys_flag.unwrap_or(0),
        write_queue_nums: header.write_queue_nums,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        change: impl FnOnce(&mut CreateTopic<'static>),
        expected: Result<(i32, i32, i32), &str>,
    ) {
        let mut header = CreateTopic {
            topic: "T",
            default_topic: "TBW102",
            read_queue_nums: 8,
            write_queue_nums: 4,
            perm: 6,
            topic_filter_type: "SINGLE_TAG",
            topic_sys_flag: None,
            order: true,
        };
        change(&mut header);
        let got = wanted(&header).map_err(|refusal| (refusal.code, refusal.remark));
        let got = got.map(|config| {
            assert!(!config.order, "the order flag of a request is not stored");
            (
                config.read_queue_nums,
                config.write_queue_nums,
                config.topic_sys_flag,
            )
        });
        assert_eq!(got, expected.map_err(|remark| (1, remark.to_owned())));
    }

    #[test]
    fn settings_are_taken_as_given_or_refused_by_name() {
        check(|_| {}, Ok((8, 4, 0)));
        check(|header| header.topic_sys_flag = Some(3), Ok((8, 4, 3)));
        check(|header| header.read_queue_nums = 0, Ok((0, 4, 0)));
        check(
            |header| header.topic = " ",
            Err("The specified topic is blank."),
        );
        check(
            |header| header.topic = "a b",
            Err(
                "The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$",
            ),
        );
        check(
            |header| header.write_queue_nums = -1,
            Err("writeQueueNums=-1 of topic[T]: 0 to 65535"),
        );
        check(
            |header| header.read_queue_nums = 65_536,
            Err("readQueueNums=65536 of topic[T]: 0 to 65535"),
        );
        check(
            |header| header.perm = 16,
            Err("perm=16 of topic[T]: 0 to 15"),
        );
        check(
            |header| header.topic_filter_type = "X",
            Err("topicFilterType=X of topic[T]: SINGLE_TAG or MULTI_TAG"),
        );
    }
}
