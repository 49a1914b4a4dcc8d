//! A delayed message whose time has come: the record it is stored as under its real topic.
//!
//! Pure. Body, flags, born time and hosts are those of the stored record; the property text is taken over byte for
//! byte, so `DELAY`, `REAL_TOPIC` and `REAL_QID` stay visible to consumers, as RocketMQ leaves them.

use gantry_message::{QueueId, Record, RecordView, java_hash_bytes, properties, topic};
use gantry_store::Tags;
use thiserror::Error;

/// The record to store, and what its queue entry carries.
#[derive(Debug)]
pub(super) struct Due<'a> {
    pub(super) record: Record<'a>,
    pub(super) tags: Tags,
}

/// Why a delayed message can never be delivered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum Undeliverable {
    #[error("it has no valid REAL_TOPIC")]
    NoRealTopic,
    #[error("it has no valid REAL_QID")]
    NoRealQueue,
    #[error("its real topic is {0}, which takes no delayed messages")]
    RealTopicForbidden(String),
}

/// What a record of `SCHEDULE_TOPIC_XXXX` becomes.
pub(super) fn revive<'a>(stored: &RecordView<'a>) -> Result<Due<'a>, Undeliverable> {
    let text = stored.properties();
    let real_topic = properties::find_str(text, properties::REAL_TOPIC)
        // Not the rules for names that clients send to: a retry topic is named after a group, and those have none.
        .filter(|name| name.len() <= topic::LENGTH_MAX && topic::can_be_stored(name))
        .ok_or(Undeliverable::NoRealTopic)?;
    // Half messages are never delayed, and a delayed message must not come back to where it just was.
    if [topic::TRANS_HALF, topic::SCHEDULE].contains(&real_topic) {
        return Err(Undeliverable::RealTopicForbidden(real_topic.into()));
    }
    let queue = properties::find_str(text, properties::REAL_QID)
        .and_then(|queue| queue.parse::<u32>().ok());
    let queue_id = queue
        .filter(|queue| i32::try_from(*queue).is_ok())
        .ok_or(Undeliverable::NoRealQueue)?;
    let tags =
        properties::find(text, properties::TAGS).map_or(0, |tags| i64::from(java_hash_bytes(tags)));
    let record = Record {
        topic: real_topic,
        queue_id: QueueId(queue_id),
        prepared_offset: 0,
        ..stored.to_record()
    };
    Ok(Due {
        record,
        tags: Tags::Code(tags),
    })
}

#[cfg(test)]
mod tests {
    use gantry_message::{Millis, SysFlag};

    use super::*;

    fn stored(properties: &str) -> Vec<u8> {
        let record = Record {
            topic: topic::SCHEDULE,
            queue_id: QueueId(2),
            flag: 7,
            sys_flag: SysFlag(SysFlag::COMPRESSED),
            born_time: Millis(1),
            born_host: "10.0.0.9:5555".parse().unwrap(),
            store_host: "[2001:db8::1]:10911".parse().unwrap(),
            reconsume_times: 3,
            prepared_offset: 99,
            body: b"hello",
            properties: properties.as_bytes(),
        };
        let mut bytes = Vec::new();
        record.encode(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_due_message_keeps_everything_but_its_place() {
        let text = "TAGS\u{1}TagA\u{2}REAL_QID\u{1}5\u{2}DELAY\u{1}3\u{2}REAL_TOPIC\u{1}T\u{2}WAIT\u{1}true";
        let bytes = stored(text);
        let view = RecordView::parse(&bytes).unwrap();
        let due = revive(&view).unwrap();
        assert!(
            matches!(due.tags, Tags::Code(2_598_919)),
            "String.hashCode of TagA"
        );
        let mut again = Vec::new();
        due.record.encode(&mut again).unwrap();
        let view = RecordView::parse(&again).unwrap();
        assert_eq!((view.topic(), view.queue_id()), ("T", QueueId(5)));
        assert_eq!(
            (view.flag(), view.reconsume_times(), view.prepared_offset()),
            (7, 3, 0)
        );
        assert_eq!((view.body(), view.born_time()), (&b"hello"[..], Millis(1)));
        assert_eq!(view.properties(), text.as_bytes());
        assert_eq!(view.born_host(), "10.0.0.9:5555".parse().unwrap());
        assert_eq!(view.store_host(), "[2001:db8::1]:10911".parse().unwrap());
        assert!(view.sys_flag().has(SysFlag::COMPRESSED));
    }

    #[test]
    fn a_retry_topic_is_reached_whatever_its_group_is_called() {
        let text = "REAL_TOPIC\u{1}%RETRY%a.b c\u{2}REAL_QID\u{1}0";
        let bytes = stored(text);
        let view = RecordView::parse(&bytes).unwrap();
        assert_eq!(revive(&view).unwrap().record.topic, "%RETRY%a.b c");
    }

    #[test]
    fn without_a_valid_place_there_is_no_delivery() {
        use Undeliverable::{NoRealQueue, NoRealTopic, RealTopicForbidden};
        for (text, expected) in [
            ("", NoRealTopic),
            ("REAL_QID\u{1}5", NoRealTopic),
            ("REAL_TOPIC\u{1}../a\u{2}REAL_QID\u{1}5", NoRealTopic),
            ("REAL_TOPIC\u{1}T", NoRealQueue),
            ("REAL_TOPIC\u{1}T\u{2}REAL_QID\u{1}x", NoRealQueue),
            ("REAL_TOPIC\u{1}T\u{2}REAL_QID\u{1}-1", NoRealQueue),
            ("REAL_TOPIC\u{1}T\u{2}REAL_QID\u{1}2147483648", NoRealQueue),
            (
                "REAL_TOPIC\u{1}SCHEDULE_TOPIC_XXXX\u{2}REAL_QID\u{1}5",
                RealTopicForbidden(topic::SCHEDULE.into()),
            ),
            (
                "REAL_TOPIC\u{1}RMQ_SYS_TRANS_HALF_TOPIC\u{2}REAL_QID\u{1}0",
                RealTopicForbidden(topic::TRANS_HALF.into()),
            ),
        ] {
            let bytes = stored(text);
            let view = RecordView::parse(&bytes).unwrap();
            assert_eq!(revive(&view).err(), Some(expected), "{text:?}");
        }
    }
}
