//! Requests about offsets, against a store with a few messages.

use gantry_disk::OsDisk;
use gantry_message::{Record, SysFlag};
use gantry_store::{Clock, Outcome, StoreConfig, Tags};
use gantry_wire::codes::{request, response};
use tempfile::TempDir;

use super::*;

const STORED: Millis = Millis(1_700_000_000_000);
const HOST: &str = "10.0.0.1:10911";

/// Queue 0 of topic `T` holds three messages, stored at [`STORED`].
struct Desk {
    requests: OffsetRequests,
    _folder: TempDir,
}

fn desk(hot_bytes: u64) -> Desk {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        segment_size: 64 << 10,
        queue_file_size: 20 * 100,
        index_slots: 16,
        index_entries: 64,
        clock: Clock::new(|| STORED),
        ..StoreConfig::at(folder.path())
    };
    let store = Store::open(Arc::new(OsDisk), config, STORED).unwrap();
    let queue = store.queue("T", QueueId(0));
    for _ in 0..3 {
        let record = Record {
            topic: "T",
            queue_id: QueueId(0),
            flag: 0,
            sys_flag: SysFlag(0),
            born_time: STORED,
            born_host: HOST.parse().unwrap(),
            store_host: HOST.parse().unwrap(),
            reconsume_times: 0,
            prepared_offset: 0,
            body: b"body",
            properties: b"",
        };
        assert!(matches!(
            store.append(&queue, &record, Tags::Code(0)),
            Outcome::Stored { .. }
        ));
    }
    let offsets = Offsets::load(Arc::new(OsDisk), &folder.path().join("config"), 5_000).unwrap();
    Desk {
        requests: OffsetRequests {
            offsets: Arc::new(offsets),
            store,
            hot_bytes,
        },
        _folder: folder,
    }
}

/// Asks with these fields; the answer is the one field of the response's header, or the refusal's code and text.
fn ask(desk: &Desk, code: i32, fields: &str) -> Result<i64, (i32, String)> {
    let mut asked = Request::new(code);
    for field in fields.split_whitespace() {
        let (name, value) = field.split_once('=').unwrap();
        asked = asked.with_field(name, value);
    }
    let handler = &desk.requests;
    let answer = match code {
        request::UPDATE_CONSUMER_OFFSET => handler.update(HOST.parse().unwrap(), &asked),
        request::QUERY_CONSUMER_OFFSET => handler
            .query_if_known(&asked)
            .unwrap_or_else(|| handler.query(&asked)),
        request::SEARCH_OFFSET_BY_TIMESTAMP => handler.search(&asked),
        request::GET_MAX_OFFSET => handler.max(&asked),
        request::GET_MIN_OFFSET => handler.min(&asked),
        request::GET_EARLIEST_MSG_STORETIME => handler.earliest(&asked),
        other => panic!("{other}"),
    };
    let answer = answer.map_err(|refusal| (refusal.code, refusal.remark))?;
    assert_eq!((answer.code, answer.remark), (response::SUCCESS, None));
    Ok(answer
        .fields
        .first()
        .map_or(-100, |(_, value)| value.parse().unwrap()))
}

/// What an answer without fields is told as.
const NOTHING: i64 = -100;

#[test]
fn ends_of_queues_and_times_are_the_stores() {
    let desk = desk(u64::MAX);
    let (before, after) = (STORED.0 - 1, STORED.0 + 1);
    let cases = [
        (request::GET_MAX_OFFSET, "topic=T queueId=0", 3),
        (request::GET_MAX_OFFSET, "topic=T queueId=1", 0),
        (request::GET_MAX_OFFSET, "topic=Unknown queueId=0", 0),
        (request::GET_MIN_OFFSET, "topic=T queueId=0", 0),
        (request::GET_MIN_OFFSET, "topic=Unknown queueId=7", 0),
        (
            request::GET_EARLIEST_MSG_STORETIME,
            "topic=T queueId=0",
            STORED.0,
        ),
        (request::GET_EARLIEST_MSG_STORETIME, "topic=T queueId=1", -1),
        (
            request::GET_EARLIEST_MSG_STORETIME,
            "topic=Unknown queueId=0",
            -1,
        ),
        (
            request::SEARCH_OFFSET_BY_TIMESTAMP,
            &format!("topic=T queueId=0 timestamp={before}"),
            0,
        ),
        (
            request::SEARCH_OFFSET_BY_TIMESTAMP,
            "topic=Unknown queueId=0 timestamp=5",
            0,
        ),
        // What 5.x clients add is not looked at.
        (
            request::GET_MAX_OFFSET,
            "topic=T queueId=0 committed=true bname=broker-a lo=true",
            3,
        ),
        (
            request::SEARCH_OFFSET_BY_TIMESTAMP,
            &format!("topic=T queueId=0 timestamp={after} boundaryType=LOWER"),
            2,
        ),
    ];
    for (code, fields, expected) in cases {
        assert_eq!(ask(&desk, code, fields), Ok(expected), "{code} {fields}");
    }
}

#[test]
fn a_position_is_kept_as_given_and_a_negative_one_takes_it_away() {
    let desk = desk(u64::MAX);
    let queue = "consumerGroup=G topic=T queueId=0";
    // commit, what is known afterwards
    for (offset, expected) in [(2, 2), (100_000, 100_000), (1, 1), (-1, 0), (3, 3)] {
        let committed = ask(
            &desk,
            request::UPDATE_CONSUMER_OFFSET,
            &format!("{queue} commitOffset={offset}"),
        );
        assert_eq!(committed, Ok(NOTHING));
        assert_eq!(
            ask(&desk, request::QUERY_CONSUMER_OFFSET, queue),
            Ok(expected),
            "{offset}"
        );
    }
    let nowhere = "consumerGroup=G topic=Nowhere queueId=70000 commitOffset=5";
    assert_eq!(
        ask(&desk, request::UPDATE_CONSUMER_OFFSET, nowhere),
        Ok(NOTHING),
        "nothing is asked of topic and queue"
    );
}

#[test]
fn a_group_without_a_position_begins_at_the_beginning_of_a_young_queue_only() {
    let not_found = Err((
        22,
        "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first".to_owned(),
    ));
    let young = desk(u64::MAX);
    let old = desk(10);
    for (fields, in_young, in_old) in [
        (
            "consumerGroup=G topic=T queueId=0",
            Ok(0),
            not_found.clone(),
        ),
        ("consumerGroup=G topic=T queueId=1", Ok(0), Ok(0)),
        ("consumerGroup=G topic=Unknown queueId=0", Ok(0), Ok(0)),
    ] {
        assert_eq!(
            ask(&young, request::QUERY_CONSUMER_OFFSET, fields),
            in_young,
            "{fields}"
        );
        assert_eq!(
            ask(&old, request::QUERY_CONSUMER_OFFSET, fields),
            in_old,
            "{fields}"
        );
    }
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let desk = desk(u64::MAX);
    let long = "t".repeat(300);
    let cases = [
        (
            request::UPDATE_CONSUMER_OFFSET,
            "topic=T queueId=0 commitOffset=1",
            "consumerGroup is missing",
        ),
        (
            request::UPDATE_CONSUMER_OFFSET,
            "consumerGroup=G topic=T queueId=-1 commitOffset=1",
            "queueId[-1] is illegal, topic:[T]",
        ),
        (
            request::UPDATE_CONSUMER_OFFSET,
            "consumerGroup=G topic=T queueId=x commitOffset=1",
            "queueId is not",
        ),
        (
            request::UPDATE_CONSUMER_OFFSET,
            &format!("consumerGroup=G topic={long} queueId=0 commitOffset=1"),
            "the topic name is 300 bytes long, limit 255",
        ),
        (
            request::QUERY_CONSUMER_OFFSET,
            "consumerGroup=G topic=T",
            "queueId is missing",
        ),
        (
            request::QUERY_CONSUMER_OFFSET,
            "consumerGroup=G topic=T queueId=-5",
            "queueId[-5] is illegal",
        ),
        (
            request::SEARCH_OFFSET_BY_TIMESTAMP,
            "topic=T queueId=0",
            "timestamp is missing",
        ),
        (request::GET_MAX_OFFSET, "queueId=0", "topic is missing"),
        (
            request::GET_MIN_OFFSET,
            "topic=T queueId=-1",
            "queueId[-1] is illegal",
        ),
        (
            request::GET_EARLIEST_MSG_STORETIME,
            "topic=T queueId=99999999999",
            "queueId is not",
        ),
    ];
    for (code, fields, expected) in cases {
        let (answered, remark) = ask(&desk, code, fields).unwrap_err();
        assert_eq!(answered, 1, "{fields}");
        assert!(remark.contains(expected), "{fields}: {remark}");
    }
}
