//! What is told to a name server: who we are, and our topics as the broker's permission lets them appear.
//!
//! Pure. The topics of a registration are all, or those that differ from what was announced before; either carries the data version
//! of the whole table. Name servers add and replace topics and never remove one, so that what is missing does no harm.

use std::sync::Arc;

use gantry_message::perm;
use gantry_wire::bodies::{Registration, TopicConfig, TopicConfigTable, TopicFilterType};

use crate::tables::Snapshot;

/// Who registers.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `brokerClusterName`
    pub cluster: String,
    /// `brokerName`
    pub broker: String,
    /// `brokerId`, 0 for a master.
    pub broker_id: u64,
    /// `brokerIP1:listenPort`
    pub address: String,
    /// `brokerIP2:` and the port of replication.
    pub ha_address: String,
}

impl Identity {
    /// The id as headers carry it.
    pub(super) fn id(&self) -> i64 {
        i64::try_from(self.broker_id).unwrap_or(i64::MAX)
    }
}

/// The body of a registration with all topics.
pub(super) fn all(snapshot: &Snapshot<TopicConfig>, permission: u32) -> Registration {
    body(snapshot, permission, snapshot.entries.values())
}

/// The body of a registration with the topics that differ from `before`.
pub(super) fn changes(
    snapshot: &Snapshot<TopicConfig>,
    before: &Snapshot<TopicConfig>,
    permission: u32,
) -> Registration {
    let differs = |name: &Arc<str>, topic: &Arc<TopicConfig>| {
        before
            .entries
            .get(name)
            .is_none_or(|old| !Arc::ptr_eq(old, topic) && old != topic)
    };
    let changed = snapshot
        .entries
        .iter()
        .filter(|(name, topic)| differs(name, topic))
        .map(|(_, topic)| topic);
    body(snapshot, permission, changed)
}

/// Whether a body names any topic.
pub(super) fn has_topics(body: &Registration) -> bool {
    !body
        .topic_config_serialize_wrapper
        .topic_config_table
        .is_empty()
}

fn body<'a>(
    snapshot: &Snapshot<TopicConfig>,
    permission: u32,
    topics: impl Iterator<Item = &'a Arc<TopicConfig>>,
) -> Registration {
    Registration {
        topic_config_serialize_wrapper: TopicConfigTable {
            data_version: snapshot.version,
            topic_config_table: topics
                .map(|topic| (topic.topic_name.clone(), as_permitted(topic, permission)))
                .collect(),
        },
        filter_server_list: Vec::new(),
    }
}

/// A broker that may not be read or written announces its topics as Java does: bare, and with no permission that it
/// does not have itself. (Java gives such a topic the broker's permission even where the topic has less.)
fn as_permitted(topic: &TopicConfig, permission: u32) -> TopicConfig {
    let permission = i32::try_from(permission).unwrap_or_default();
    if perm::is_readable(permission) && perm::is_writable(permission) {
        return topic.clone();
    }
    TopicConfig {
        topic_name: topic.topic_name.clone(),
        read_queue_nums: topic.read_queue_nums,
        write_queue_nums: topic.write_queue_nums,
        perm: topic.perm & permission,
        topic_filter_type: TopicFilterType::SingleTag,
        topic_sys_flag: 0,
        order: false,
    }
}

#[cfg(test)]
mod tests {
    use gantry_wire::bodies::DataVersion;

    use super::*;

    fn topic(name: &str, queues: i32) -> Arc<TopicConfig> {
        Arc::new(TopicConfig {
            topic_name: name.to_owned(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            topic_filter_type: TopicFilterType::MultiTag,
            topic_sys_flag: 1,
            order: true,
            ..TopicConfig::default()
        })
    }

    fn snapshot(counter: i64, topics: &[Arc<TopicConfig>]) -> Snapshot<TopicConfig> {
        Snapshot {
            entries: topics
                .iter()
                .map(|topic| (topic.topic_name.as_str().into(), topic.clone()))
                .collect(),
            version: DataVersion {
                counter,
                timestamp: 5,
            },
        }
    }

    fn names(body: &Registration) -> Vec<&str> {
        body.topic_config_serialize_wrapper
            .topic_config_table
            .keys()
            .map(String::as_str)
            .collect()
    }

    #[test]
    fn changes_are_what_is_new_or_differs_under_the_version_of_the_whole_table() {
        let (a, b) = (topic("A", 1), topic("B", 1));
        let before = snapshot(1, &[a.clone(), b.clone()]);
        // A stays, B changes, C is new; a topic that was removed is not mentioned.
        let after = snapshot(2, &[a.clone(), topic("B", 2), topic("C", 1)]);
        let body = changes(&after, &before, 6);
        assert_eq!(names(&body), ["B", "C"]);
        assert_eq!(body.topic_config_serialize_wrapper.data_version.counter, 2);
        assert_eq!(names(&all(&after, 6)), ["A", "B", "C"]);
        let removed = snapshot(3, &[topic("A", 1)]);
        assert!(
            !has_topics(&changes(&removed, &after, 6)),
            "an equal topic is no change, whoever holds it"
        );
    }

    #[test]
    fn topics_appear_with_the_brokers_permission_when_it_lacks_one() {
        // permission of the broker, permission announced, whether the rest is announced
        let cases = [
            (6, 6, true),
            (7, 6, true),
            (4, 4, false),
            (2, 2, false),
            (0, 0, false),
        ];
        for (permission, expected, whole) in cases {
            let body = all(&snapshot(1, &[topic("A", 3)]), permission);
            let announced = &body.topic_config_serialize_wrapper.topic_config_table["A"];
            assert_eq!(
                (announced.perm, announced.read_queue_nums),
                (expected, 3),
                "{permission}"
            );
            assert_eq!(
                (announced.order, announced.topic_sys_flag),
                (whole, i32::from(whole)),
                "{permission}"
            );
        }
    }
}
