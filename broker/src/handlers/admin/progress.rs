//! How far groups are: one group (208), all groups of the broker (317), and in time (303).
//!
//! A queue's row is its end, the group's position and when the message before that position was stored. All of them
//! look store times up and therefore block.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_message::{Millis, QueueId, QueueOffset};
use gantry_store::{Queue, Store};
use gantry_wire::bodies::{
    ConsumeStats, ConsumeStatsList, OffsetWrapper, QueryConsumeTimeSpan, QueueTimeSpan,
};
use gantry_wire::headers::{
    GetConsumeStats, GetConsumeStatsInBroker, QueryConsumeTimeSpan as TimeSpanHeader,
};
use gantry_wire::{Request, Response};
use jiff::tz::TimeZone;

use super::{Identity, queue_ids, sent};
use crate::clients::Clients;
use crate::refusal::Refusal;
use crate::stats::Stats;
use crate::tables::{Groups, Offsets, Topics};

/// The parts that requests about progress need.
pub struct Progress {
    /// Who this broker is.
    pub identity: Arc<Identity>,
    /// Where queues end and when messages were stored.
    pub store: Arc<Store>,
    /// Which queues a topic has.
    pub topics: Arc<Topics>,
    /// Which groups there are.
    pub groups: Arc<Groups>,
    /// Where they stand.
    pub offsets: Arc<Offsets>,
    /// What they subscribe.
    pub clients: Arc<Clients>,
    /// How fast they read.
    pub stats: Arc<Stats>,
}

impl Progress {
    /// Serves 208: every read queue of the topics that a group has positions in, or of one topic. Blocks.
    pub fn of_group(&self, request: &Request) -> Result<Response, Refusal> {
        let header: GetConsumeStats<'_> = request.header()?;
        let group = header.consumer_group;
        let topics: Vec<String> = match header.topic.filter(|topic| !topic.trim().is_empty()) {
            Some(topic) => vec![topic.to_owned()],
            None => self.offsets.topics_of(group).into_iter().collect(),
        };
        let mut all = ConsumeStats::default();
        for topic in topics {
            let Some(config) = self.topics.get(&topic) else {
                continue;
            };
            if !self.is_read(group, &topic) {
                continue;
            }
            for id in queue_ids(config.read_queue_nums) {
                all.offset_table
                    .insert(self.identity.queue(&topic, id), self.row(group, &topic, id));
            }
            all.consume_tps += self.stats.group_tps(group, &topic);
        }
        Ok(Response::with_body(all.encode()))
    }

    /// Serves 317: every write queue of every topic of every group. Blocks.
    pub fn of_all(&self, request: &Request) -> Result<Response, Refusal> {
        let header: GetConsumeStatsInBroker = request.header()?;
        let mut list = ConsumeStatsList {
            broker_addr: self.identity.address.to_string(),
            ..ConsumeStatsList::default()
        };
        let snapshot = self.groups.all();
        let mut names: Vec<&str> = snapshot.entries.keys().map(|name| &**name).collect();
        names.sort_unstable();
        for group in names {
            let mut of_group = Vec::new();
            for topic in self.offsets.topics_of(group) {
                let Some(config) = self.topics.get(&topic) else {
                    continue;
                };
                if header.is_order && !config.order || !self.is_read(group, &topic) {
                    continue;
                }
                let rows = queue_ids(config.write_queue_nums)
                    .map(|id| (self.identity.queue(&topic, id), self.row(group, &topic, id)));
                let stats = ConsumeStats {
                    consume_tps: self.stats.group_tps(group, &topic),
                    offset_table: rows.collect(),
                };
                list.total_diff = list.total_diff.saturating_add(behind(&stats));
                of_group.push(stats);
            }
            list.consume_stats_list
                .push(BTreeMap::from([(group.to_owned(), of_group)]));
        }
        Ok(Response::with_body(list.encode()))
    }

    /// Serves 303: from when to when messages lie in each write queue, and where in time a group stands. Blocks.
    pub fn in_time(&self, request: &Request, now: Millis) -> Result<Response, Refusal> {
        let header: TimeSpanHeader<'_> = request.header()?;
        let config = self
            .topics
            .get(header.topic)
            .ok_or_else(|| Refusal::topic_missing(header.topic))?;
        let zone = TimeZone::system();
        let spans = queue_ids(config.write_queue_nums)
            .map(|id| self.span(&header, id, now, &zone))
            .collect();
        Ok(Response::with_body(
            QueryConsumeTimeSpan {
                consume_time_span_set: spans,
            }
            .encode(),
        ))
    }

    /// A group that is connected and does not subscribe to the topic any more has only its old position there.
    fn is_read(&self, group: &str, topic: &str) -> bool {
        let Some(connected) = self.clients.consumer(group) else {
            return true;
        };
        connected.subscriptions.is_empty() || connected.subscriptions.contains_key(topic)
    }

    fn row(&self, group: &str, topic: &str, id: QueueId) -> OffsetWrapper {
        let queue = self.store.find_queue(topic, id);
        let consumed = self.offsets.query(group, topic, id).unwrap_or_default();
        let last = self.time_before(queue.as_deref(), consumed);
        OffsetWrapper {
            broker_offset: queue.map_or(0, |queue| sent(queue.max())),
            consumer_offset: sent(consumed),
            last_timestamp: last.map_or(0, |time| time.0.max(0)),
        }
    }

    /// When the message before an offset was stored.
    fn time_before(&self, queue: Option<&Queue>, at: QueueOffset) -> Option<Millis> {
        let before = QueueOffset(at.0.checked_sub(1)?);
        self.store.store_time_at(queue?, before)
    }

    /// Java's -1 stands for a time that nobody knows.
    fn span(
        &self,
        header: &TimeSpanHeader<'_>,
        id: QueueId,
        now: Millis,
        zone: &TimeZone,
    ) -> QueueTimeSpan {
        let queue = self.store.find_queue(header.topic, id);
        let queue = queue.as_deref();
        let time_at = |at: QueueOffset| queue.and_then(|queue| self.store.store_time_at(queue, at));
        let unknown = Millis(-1);
        let max = queue.map(Queue::max).unwrap_or_default();
        let consumed = self.offsets.query(header.group, header.topic, id);
        let min_time = queue
            .and_then(|queue| time_at(queue.min()))
            .unwrap_or(unknown);
        let max_time = self.time_before(queue, max).unwrap_or(unknown);
        let consume_time = match consumed {
            Some(consumed) if consumed.0 != 0 => {
                self.time_before(queue, consumed).unwrap_or(unknown)
            }
            _ => min_time,
        };
        let next = consumed.unwrap_or_default();
        let delay = if next < max {
            time_at(next).map_or(0, |time| now.since(time).max(0))
        } else {
            0
        };
        QueueTimeSpan {
            consume_time_stamp: consume_time.0,
            consume_time_stamp_str: text(consume_time, zone),
            delay_time: delay,
            max_time_stamp: max_time.0,
            max_time_stamp_str: text(max_time, zone),
            message_queue: self.identity.queue(header.topic, id),
            min_time_stamp: min_time.0,
            min_time_stamp_str: text(min_time, zone),
        }
    }
}

/// How many messages a group is behind, as mqadmin adds them up.
fn behind(stats: &ConsumeStats) -> i64 {
    let rows = stats.offset_table.values();
    rows.map(|row| row.broker_offset.saturating_sub(row.consumer_offset))
        .fold(0, i64::saturating_add)
}

fn text(time: Millis, zone: &TimeZone) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(time.0).ok()?;
    Some(
        time.to_zoned(zone.clone())
            .strftime("%Y-%m-%d#%H:%M:%S:%3f")
            .to_string(),
    )
}

#[cfg(test)]
mod tests {
    use gantry_wire::bodies::MessageQueue;

    use super::*;

    #[test]
    fn times_print_as_javas_do() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        assert_eq!(
            text(Millis(1_700_000_000_005), &zone).as_deref(),
            Some("2023-11-15#06:13:20:005")
        );
        assert_eq!(
            text(Millis(-1), &TimeZone::UTC).as_deref(),
            Some("1969-12-31#23:59:59:999")
        );
        assert_eq!(text(Millis(i64::MAX), &TimeZone::UTC), None);
    }

    #[test]
    fn what_a_group_is_behind_is_the_sum_of_its_queues() {
        let queue = |queue_id| MessageQueue {
            queue_id,
            ..MessageQueue::default()
        };
        let row = |broker_offset, consumer_offset| OffsetWrapper {
            broker_offset,
            consumer_offset,
            last_timestamp: 0,
        };
        let mut stats = ConsumeStats::default();
        assert_eq!(behind(&stats), 0);
        stats.offset_table.insert(queue(0), row(10, 7));
        stats.offset_table.insert(queue(1), row(5, 6));
        assert_eq!(behind(&stats), 2);
        stats.offset_table.insert(queue(2), row(i64::MAX, 0));
        assert_eq!(behind(&stats), i64::MAX);
    }
}
