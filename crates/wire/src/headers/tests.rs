//! Every header against Java's class of the same name.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::fields::Fields;
use crate::frame::{self, FRAME_MAX};

/// A header's name in Java, its rows, and a way from fields to the header and back.
struct Case {
    name: &'static str,
    rows: &'static [(&'static str, &'static str)],
    there_and_back: fn(&Fields<'_>) -> Fields<'static>,
}

macro_rules! cases {
    ($($header:ident,)*) => {
        [$(Case {
            name: <$header as Rows>::NAME,
            rows: <$header as Rows>::ROWS,
            there_and_back: |fields| {
                let header = fields.header::<$header>().unwrap();
                let mut back = Fields::new();
                header.encode(&mut back);
                back
            },
        },)*]
    };
}

fn cases() -> Vec<Case> {
    cases![
        AddWritePermOfBroker,
        AddWritePermOfBrokerAnswer,
        CheckTransactionState,
        CloneGroupOffset,
        ConsumeMessageDirectly,
        ConsumerSendMsgBack,
        CreateAccessConfig,
        CreateTopic,
        DeleteAccessConfig,
        DeleteKvConfig,
        DeleteSubscriptionGroup,
        DeleteTopicFromNamesrv,
        DeleteTopic,
        EndTransaction,
        GetBrokerAclConfigAnswer,
        GetBrokerConfigAnswer,
        GetConsumeStatsInBroker,
        GetConsumeStats,
        GetConsumerConnectionList,
        GetConsumerListByGroup,
        GetConsumerRunningInfo,
        GetConsumerStatus,
        GetEarliestMsgStoretime,
        GetEarliestMsgStoretimeAnswer,
        GetKvConfig,
        GetKvConfigAnswer,
        GetKvListByNamespace,
        GetMaxOffset,
        OffsetAnswer,
        GetMinOffset,
        GetProducerConnectionList,
        GetRouteInfo,
        GetTopicStatsInfo,
        GetTopicsByCluster,
        NotifyConsumerIdsChanged,
        PullMessage,
        PullMessageAnswer,
        PutKvConfig,
        QueryConsumeQueue,
        QueryConsumeTimeSpan,
        QueryConsumerOffset,
        QueryCorrectionOffset,
        QueryDataVersion,
        QueryDataVersionAnswer,
        QueryMessage,
        QueryMessageAnswer,
        QueryTopicConsumeByWho,
        RegisterBroker,
        RegisterBrokerAnswer,
        RegisterFilterServer,
        RegisterFilterServerAnswer,
        RegisterMessageFilterClass,
        RegisterOrderTopic,
        ReplyMessage,
        ResetOffset,
        ResumeCheckHalfMessage,
        SearchOffset,
        SendMessage,
        SendMessageAnswer,
        UnregisterBroker,
        UnregisterClient,
        UpdateConsumerOffset,
        UpdateGlobalWhiteAddrs,
        ViewBrokerStatsData,
        ViewMessage,
        WipeWritePermOfBroker,
        WipeWritePermOfBrokerAnswer,
    ]
    .into()
}

/// Java's classes whose fields are those of another one, or that have none.
const WITHOUT_OWN_STRUCT: [&str; 12] = [
    "CheckTransactionStateResponseHeader",
    "EndTransactionResponseHeader",
    "GetAllProducerInfoRequestHeader",
    "GetAllTopicConfigResponseHeader",
    "GetConsumerListByGroupResponseHeader",
    "GetMinOffsetResponseHeader",
    "QueryConsumerOffsetResponseHeader",
    "SearchOffsetResponseHeader",
    "SendMessageRequestHeaderV2",
    "UnregisterClientResponseHeader",
    "UpdateConsumerOffsetResponseHeader",
    "ViewMessageResponseHeader",
];

/// Class to field to type, `!` behind a required one.
fn java() -> BTreeMap<&'static str, BTreeMap<&'static str, &'static str>> {
    let class = |line: &'static str| {
        let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
        (
            name,
            fields
                .split(' ')
                .filter_map(|field| field.split_once(':'))
                .collect(),
        )
    };
    include_str!("../../tests/golden/headers.txt")
        .lines()
        .map(class)
        .collect()
}

#[test]
fn every_header_class_of_java_has_its_rows() {
    let ours: BTreeSet<&str> = cases().iter().map(|case| case.name).collect();
    let missing: Vec<&str> = java()
        .into_keys()
        .filter(|name| !ours.contains(name))
        .collect();
    assert_eq!(missing, WITHOUT_OWN_STRUCT);
}

#[test]
fn rows_have_the_types_of_javas_fields() {
    // Stricter or more lenient than the annotations say, with the reason.
    let exceptions = [
        ("CreateTopicRequestHeader", "order"),       // 4.9.8 ignores it
        ("QueryConsumeQueueRequestHeader", "topic"), // nothing can be answered without it
        (
            "UpdateGlobalWhiteAddrsConfigRequestHeader",
            "aclFileFullPath",
        ), // mqadmin leaves it out
    ];
    let java = java();
    for case in cases() {
        let ours: BTreeMap<&str, String> = case
            .rows
            .iter()
            .map(|(name, kind)| (*name, kind.replace(' ', "")))
            .collect();
        for (field, kind) in &java[case.name] {
            let required = kind.ends_with('!');
            let wanted = match kind.trim_end_matches('!') {
                "String" => "&'astr",
                "Integer" | "int" => "i32",
                "Long" | "long" => "i64",
                "Boolean" | "boolean" => "bool",
                other => panic!("{}.{field} has type {other}", case.name),
            };
            let have = ours
                .get(field)
                .unwrap_or_else(|| panic!("{}.{field} is missing", case.name));
            let optional = have.starts_with("Option<") || have.contains('=');
            let plain = have
                .trim_start_matches("Option<")
                .split('=')
                .next()
                .unwrap()
                .trim_end_matches('>');
            assert_eq!(plain, wanted, "{}.{field}", case.name);
            assert!(
                required != optional || exceptions.contains(&(case.name, *field)),
                "{}.{field} is {kind} in Java, {have} here",
                case.name
            );
        }
        for (field, kind) in ours
            .iter()
            .filter(|(field, _)| !java[case.name].contains_key(*field))
        {
            let optional = kind.starts_with("Option<") || kind.contains('=');
            assert!(
                optional,
                "{}.{field}: {kind} is unknown to 4.9.8, so that it cannot be required",
                case.name
            );
        }
    }
}

/// Both serialisations of every class, all fields set to distinct values.
#[test]
fn frames_of_java_read_into_every_header_and_back() {
    let cases = cases();
    let java = java();
    let mut read = 0;
    for line in include_str!("../../tests/golden/frames.txt").lines() {
        let [name, _, hex] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let frame = frame::split(&bytes, FRAME_MAX).unwrap().unwrap();
        assert_eq!((frame.size, frame.body), (bytes.len(), &b"body"[..]));
        let header = frame.decode().unwrap();
        assert_eq!(
            (header.code, header.opaque, header.version, header.flag),
            (310, 12345, 409, 0),
            "{name}"
        );
        let sent: BTreeMap<&str, &str> = header.fields.iter().collect();
        assert_eq!(
            sent.keys().collect::<Vec<_>>(),
            java[name].keys().collect::<Vec<_>>(),
            "{name}"
        );
        let Some(case) = cases.iter().find(|case| case.name == name) else {
            continue;
        };
        let back = (case.there_and_back)(&header.fields);
        let known = |(field, _): &(&str, &str)| java[name].contains_key(field);
        assert_eq!(
            back.iter().filter(known).collect::<BTreeMap<_, _>>(),
            sent,
            "{name}"
        );
        read += 1;
    }
    assert_eq!(read, 2 * (cases.len()), "a header without golden frames");
}

#[test]
fn java_frames_of_a_v2_send_read_into_the_one_send_header() {
    for line in include_str!("../../tests/golden/frames.txt").lines() {
        let Some(hex) = line
            .strip_prefix("SendMessageRequestHeaderV2")
            .and_then(|line| line.split('\t').nth(2))
        else {
            continue;
        };
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let header = frame::split(&bytes, FRAME_MAX)
            .unwrap()
            .unwrap()
            .decode()
            .unwrap();
        let send = SendMessage::read(310, &header.fields).unwrap();
        assert_eq!(
            (send.producer_group, send.topic),
            ("text1\u{1}\u{2}\"\\ü", "text2\u{1}\u{2}\"\\ü")
        );
        assert_eq!(
            (send.default_topic_queue_nums, send.queue_id, send.sys_flag),
            (4_000_012, 5_000_015, 6_000_018)
        );
        assert_eq!(
            (send.born_timestamp, send.flag),
            (-7_000_000_000_021, 8_000_024)
        );
        assert_eq!(send.properties, Some("text9\u{1}\u{2}\"\\ü"));
        assert_eq!(
            (send.reconsume_times, send.max_reconsume_times),
            (Some(10_000_030), Some(12_000_036))
        );
        assert!(send.unit_mode && send.batch);
        let mut back = Fields::new();
        send.encode_v2(&mut back);
        let letters = |(name, _): &(&str, &str)| name.len() == 1;
        assert_eq!(
            back.iter().collect::<BTreeMap<_, _>>(),
            header
                .fields
                .iter()
                .filter(letters)
                .collect::<BTreeMap<_, _>>()
        );
    }
}
