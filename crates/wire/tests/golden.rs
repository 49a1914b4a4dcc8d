//! Bodies, files and texts against what RocketMQ's own classes print; see golden/README.md.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use gantry_wire::bodies::*;
use gantry_wire::json::{self, Dialect};

const BODIES: &str = include_str!("golden/bodies.txt");

/// Reads one line of bodies.txt and prints it again.
fn there_and_back(name: &str, text: &[u8]) -> Option<Vec<u8>> {
    macro_rules! types {
        ($($java:literal $type:ident,)*) => {
            match name {
                $($java => Some($type::parse(text).unwrap_or_else(|e| panic!("{name}: {e}")).encode()),)*
                "TopicRouteData.standard" => Some(TopicRoute::parse(text).unwrap().encode_standard()),
                "ResetOffsetBodyForC" => Some(ResetOffset::parse(text).unwrap().encode_list()),
                _ => None,
            }
        };
    }
    types! {
        "BrokerStatsData" BrokerStatsData,
        "CheckClientRequestBody" CheckClientRequest,
        "ClusterInfo" ClusterInfo,
        "Connection" Connection,
        "ConsumeMessageDirectlyResult" ConsumeMessageDirectlyResult,
        "ConsumeStats" ConsumeStats,
        "ConsumeStatsList" ConsumeStatsList,
        "ConsumerConnection" ConsumerConnection,
        "ConsumerOffsetSerializeWrapper" ConsumerOffsets,
        "ConsumerRunningInfo" ConsumerRunningInfo,
        "DataVersion" DataVersion,
        "GetConsumerListByGroupResponseBody" ConsumerIds,
        "GetConsumerStatusBody" ConsumerStatus,
        "GroupList" GroupList,
        "HeartbeatData" Heartbeat,
        "KVConfigSerializeWrapper" KvConfig,
        "KVTable" KvTable,
        "LockBatchRequestBody" LockBatchRequest,
        "LockBatchResponseBody" LockBatchResponse,
        "MessageQueue" MessageQueue,
        "OffsetMovedEvent" OffsetMovedEvent,
        "ProducerConnection" ProducerConnection,
        "ProducerTableInfo" ProducerTable,
        "QueryConsumeQueueResponseBody" QueryConsumeQueue,
        "QueryConsumeTimeSpanBody" QueryConsumeTimeSpan,
        "QueryCorrectionOffsetBody" CorrectionOffsets,
        "RegisterBrokerBody" Registration,
        "ResetOffsetBody" ResetOffset,
        "SubscriptionData" SubscriptionData,
        "SubscriptionGroupConfig" SubscriptionGroupConfig,
        "SubscriptionGroupWrapper" SubscriptionGroupTable,
        "TopicConfigSerializeWrapper" TopicConfigTable,
        "TopicList" TopicList,
        "TopicRouteData" TopicRoute,
        "TopicStatsTable" TopicStatsTable,
    }
}

#[test]
fn every_body_of_java_reads_and_prints_to_the_same_bytes() {
    let mut lines = 0;
    for line in BODIES.lines() {
        let (name, text) = line.split_once('\t').unwrap();
        let back =
            there_and_back(name, text.as_bytes()).unwrap_or_else(|| panic!("{name} has no type"));
        assert_eq!(String::from_utf8(back).unwrap(), text, "{name}");
        lines += 1;
    }
    assert!(38 <= lines, "only {lines} golden bodies");
}

#[test]
fn files_of_the_store_read_and_print_to_the_same_bytes() {
    macro_rules! check {
        ($($file:literal $type:ident,)*) => {$({
            let text = include_str!(concat!("golden/", $file));
            let value = $type::parse(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(value.encode_pretty()).unwrap(), text, $file);
            assert_eq!($type::parse(&value.encode()).unwrap(), value, $file);
        })*};
    }
    check! {
        "topics.json" TopicConfigTable,
        "topics-empty.json" TopicConfigTable,
        "subscriptionGroup.json" SubscriptionGroupTable,
        "consumerOffset.json" ConsumerOffsets,
        "delayOffset.json" DelayOffsets,
    }
}

#[test]
fn javas_compressed_registration_is_read_and_ours_is_read_back() {
    let (hex, crc) = include_str!("golden/registration.hex")
        .trim()
        .split_once(' ')
        .unwrap();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    assert_eq!(body_crc32(&bytes).to_string(), crc);
    let read = Registration::read(&bytes, true).unwrap();
    let plain = BODIES
        .lines()
        .find_map(|line| line.strip_prefix("RegisterBrokerBody\t"))
        .unwrap();
    let mut expected = Registration::read(plain.as_bytes(), false).unwrap();
    // The compressed form loses these two.
    for topic in expected
        .topic_config_serialize_wrapper
        .topic_config_table
        .values_mut()
    {
        topic.order = false;
        topic.topic_sys_flag = 0;
    }
    assert_eq!(read, expected);
    assert_eq!(
        Registration::read(&read.encode_compressed(), true).unwrap(),
        read
    );
}

#[test]
fn texts_are_escaped_as_fastjson_escapes_them() {
    let mut checked = 0;
    for line in include_str!("golden/texts.txt").lines() {
        let [unit, hex, standard] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let text = format!(
            "a{}b",
            char::from_u32(u32::from_str_radix(unit, 16).unwrap()).unwrap()
        );
        let map = std::collections::BTreeMap::from([("k".to_string(), text.clone())]);
        let compact = json::print(&map, Dialect::Compact);
        let digits: String = compact.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, hex, "{unit}");
        let ascii = json::print(&map, Dialect::Standard);
        assert_eq!(
            String::from_utf8(ascii.clone()).unwrap(),
            standard,
            "{unit}"
        );
        for printed in [compact, ascii] {
            let read: std::collections::BTreeMap<String, String> = json::parse(&printed).unwrap();
            assert_eq!(read["k"], text, "{unit}");
        }
        checked += 1;
    }
    assert!(500 < checked);
}

#[test]
fn doubles_print_as_fastjson_prints_them() {
    for line in include_str!("golden/doubles.txt").lines() {
        let (bits, text) = line.split_once('\t').unwrap();
        let value = f64::from_bits(u64::from_str_radix(bits, 16).unwrap());
        let printed = String::from_utf8(json::print(&value, Dialect::Compact)).unwrap();
        assert_eq!(printed, text);
    }
}
