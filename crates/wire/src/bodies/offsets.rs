//! Offsets of groups and queues: 43, 45, 202, 208, 220 to 223, 308, 317 and the offset files.

use std::collections::BTreeMap;

use super::{MessageQueue, bodies};
use crate::json::{self, Dialect, Error, FromJson, Reader, ToJson, Writer};

bodies! {
    /// Body of 43 and `consumerOffset.json`: `topic@group` to queue id to next offset.
    #[derive(Eq)]
    ConsumerOffsets "ConsumerOffsetSerializeWrapper" {
        offset_table: BTreeMap<String, BTreeMap<i32, i64>>, "offsetTable";
    }

    /// Body of 45 and `delayOffset.json`: delay level to next offset.
    #[derive(Eq)]
    DelayOffsets "DelayOffsetSerializeWrapper" {
        offset_table: BTreeMap<i32, i64>, "offsetTable";
    }

    /// How far a group is in one queue.
    #[derive(Copy, Eq)]
    OffsetWrapper "OffsetWrapper" {
        broker_offset: i64, "brokerOffset";
        consumer_offset: i64, "consumerOffset";
        /// Store time of the message before the consumer's offset.
        last_timestamp: i64, "lastTimestamp";
    }

    /// Answer to 208.
    ConsumeStats "ConsumeStats" {
        consume_tps: f64, "consumeTps";
        offset_table: BTreeMap<MessageQueue, OffsetWrapper>, "offsetTable";
    }

    /// Answer to 317: each entry is one group with a list per topic.
    ConsumeStatsList "ConsumeStatsList" {
        broker_addr: String, "brokerAddr";
        consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>, "consumeStatsList";
        total_diff: i64, "totalDiff";
    }

    /// Ends of one queue.
    #[derive(Copy, Eq)]
    TopicOffset "TopicOffset" {
        last_update_timestamp: i64, "lastUpdateTimestamp";
        max_offset: i64, "maxOffset";
        min_offset: i64, "minOffset";
    }

    /// Answer to 202.
    #[derive(Eq)]
    TopicStatsTable "TopicStatsTable" {
        offset_table: BTreeMap<MessageQueue, TopicOffset>, "offsetTable";
    }

    /// Answer of a client to 221 (second member) and of the broker to 223 (first member, by client id).
    #[derive(Eq)]
    ConsumerStatus "GetConsumerStatusBody" {
        consumer_table: BTreeMap<String, BTreeMap<MessageQueue, i64>>, "consumerTable";
        message_queue_table: BTreeMap<MessageQueue, i64>, "messageQueueTable";
    }

    /// Answer to 308, by queue id.
    #[derive(Eq)]
    CorrectionOffsets "QueryCorrectionOffsetBody" {
        correction_offsets: BTreeMap<i32, i64>, "correctionOffsets";
    }

    /// Body of a message in `OFFSET_MOVED_EVENT`.
    #[derive(Eq)]
    OffsetMovedEvent "OffsetMovedEvent" {
        consumer_group: String, "consumerGroup";
        message_queue: MessageQueue, "messageQueue";
        offset_new: i64, "offsetNew";
        offset_request: i64, "offsetRequest";
    }

    /// One row of [`ResetOffset`] in its list form.
    #[derive(Eq)]
    ResetRow "MessageQueueForC" {
        broker_name: String, "brokerName";
        offset: i64, "offset";
        queue_id: i32, "queueId";
        topic: String, "topic";
    }
}

/// Body of 220 and answer to 222: where to go on, by queue.
///
/// C++ clients understand the list form only, Java and Go only the map; parsing takes either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResetOffset {
    /// `offsetTable`
    pub offset_table: BTreeMap<MessageQueue, i64>,
}

impl ResetOffset {
    /// Reads either form.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        json::parse(bytes).map_err(|error: Error| error.of("ResetOffsetBody"))
    }

    /// Prints the map form.
    pub fn encode(&self) -> Vec<u8> {
        json::print(self, Dialect::Compact)
    }

    /// Prints the list form.
    pub fn encode_list(&self) -> Vec<u8> {
        let row = |(queue, offset): (&MessageQueue, &i64)| ResetRow {
            broker_name: queue.broker_name.clone(),
            offset: *offset,
            queue_id: queue.queue_id,
            topic: queue.topic.clone(),
        };
        let rows: Vec<ResetRow> = self.offset_table.iter().map(row).collect();
        let mut writer = Writer::new(Dialect::Compact);
        let mut members = writer.object();
        members.member("offsetTable", &rows);
        members.end();
        writer.into_bytes()
    }
}

impl FromJson for ResetOffset {
    fn from_json(reader: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        let mut table = BTreeMap::new();
        let found = reader.object(|reader, key| {
            if key != json::Key::Text("offsetTable".into()) {
                return reader.skip();
            }
            let read = if reader.at_array() {
                rows(reader)
            } else {
                BTreeMap::from_json(reader)
            };
            table = read
                .map_err(|error| error.within("ResetOffsetBody", "offsetTable"))?
                .unwrap_or_default();
            Ok(())
        })?;
        Ok(found.then_some(ResetOffset {
            offset_table: table,
        }))
    }
}

fn rows(reader: &mut Reader<'_>) -> Result<Option<BTreeMap<MessageQueue, i64>>, Error> {
    let rows = Vec::<ResetRow>::from_json(reader)?;
    let queue = |row: ResetRow| {
        (
            MessageQueue {
                broker_name: row.broker_name,
                queue_id: row.queue_id,
                topic: row.topic,
            },
            row.offset,
        )
    };
    Ok(rows.map(|rows| rows.into_iter().map(queue).collect()))
}

impl ToJson for ResetOffset {
    fn to_json(&self, writer: &mut Writer) {
        let mut members = writer.object();
        members.member("offsetTable", &self.offset_table);
        members.end();
    }
}
