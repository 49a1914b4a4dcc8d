//! Frames and headers against the bytes of the specification and against what other clients send.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use bytes::Bytes;
use gantry_wire::codes::{request, response};
use gantry_wire::frame::{self, FRAME_MAX, FrameError, Serialization};
use gantry_wire::headers::{GetRouteInfo, PullMessage, SendMessage, SendMessageAnswer};
use gantry_wire::{HeaderError, Language, Request, Response};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
        .collect()
}

fn json_frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(4 + header.len() + body.len())
        .unwrap()
        .to_be_bytes()
        .to_vec();
    out.extend_from_slice(&u32::try_from(header.len()).unwrap().to_be_bytes());
    out.extend_from_slice(header);
    out.extend_from_slice(body);
    out
}

/// The header text and body of the only frame in `out`.
fn text_of(out: &[u8]) -> (String, Vec<u8>) {
    let frame = frame::split(out, FRAME_MAX).unwrap().unwrap();
    assert_eq!(frame.size, out.len());
    (
        String::from_utf8(frame.header.to_vec()).unwrap(),
        frame.body.to_vec(),
    )
}

#[test]
fn the_binary_example_of_the_specification_reads_and_writes() {
    let bytes = hex(
        "0000002a 01000026 0069 00 0199 00000001 00000000 00000000 00000011 0005 746f706963 00000006 546f70696341",
    );
    let frame = frame::split(&bytes, FRAME_MAX).unwrap().unwrap();
    assert_eq!(frame.size, bytes.len());
    let header = frame.decode().unwrap();
    assert_eq!(
        (header.code, header.version, header.opaque, header.flag),
        (105, 409, 1, 0)
    );
    assert_eq!(header.language, Language::Java);
    assert_eq!(
        header.fields.header::<GetRouteInfo<'_>>().unwrap().topic,
        "TopicA"
    );

    let mut out = Vec::new();
    let mut sent = Request::new(105).with_header(&GetRouteInfo {
        topic: "TopicA",
        accept_standard_json_only: None,
    });
    sent.serialization = Serialization::Binary;
    sent.encode(&mut out, 1).unwrap();
    assert_eq!(out, bytes);
}

#[test]
fn the_json_examples_of_the_specification_read_and_write() {
    let mut out = Vec::new();
    Request::new(request::GET_BROKER_CLUSTER_INFO)
        .encode(&mut out, 2)
        .unwrap();
    let expected = r#"{"code":106,"flag":0,"language":"JAVA","opaque":2,"serializeTypeCurrentRPC":"JSON","version":409}"#;
    assert_eq!(text_of(&out), (expected.to_string(), Vec::new()));

    let mut out = Vec::new();
    Response::ok()
        .field("queueId", 1)
        .field("TRACE_ON", true)
        .field("MSG_REGION", "DefaultRegion")
        .field("msgId", "0A00000100002A9F0000000000000000")
        .field("queueOffset", 0)
        .encode(&mut out, 5, Serialization::Json);
    let expected = r#"{"code":0,"extFields":{"queueId":"1","TRACE_ON":"true","MSG_REGION":"DefaultRegion","msgId":"0A00000100002A9F0000000000000000","queueOffset":"0"},"flag":1,"language":"JAVA","opaque":5,"serializeTypeCurrentRPC":"JSON","version":409}"#;
    assert_eq!(text_of(&out), (expected.to_string(), Vec::new()));

    let frame = frame::split(&out, FRAME_MAX).unwrap().unwrap();
    let header = frame.decode().unwrap();
    assert!(header.is_response() && !header.is_oneway());
    let answer = Response::from_header(header, Bytes::new());
    let read: SendMessageAnswer<'_> = answer.read().unwrap();
    assert_eq!(
        (read.queue_id, read.queue_offset, read.transaction_id),
        (1, 0, None)
    );
}

#[test]
fn a_frame_is_found_only_when_all_of_it_is_there() {
    let whole = json_frame(b"{}", b"body");
    for len in 0..whole.len() {
        assert_eq!(
            frame::split(&whole[..len], FRAME_MAX),
            Ok(None),
            "{len} bytes"
        );
    }
    let mut two = whole.clone();
    two.extend_from_slice(&whole);
    let frame = frame::split(&two, FRAME_MAX).unwrap().unwrap();
    assert_eq!(
        (frame.size, frame.header, frame.body),
        (whole.len(), &b"{}"[..], &b"body"[..])
    );
    assert_eq!(&whole[frame.body_at()..], b"body");
}

#[test]
fn lengths_that_cannot_be_true_are_told_from_the_first_eight_bytes() {
    let cases = [
        ("ffffffff", FrameError::TooShort { length: -1 }),
        ("80000000", FrameError::TooShort { length: i32::MIN }),
        ("00000003", FrameError::TooShort { length: 3 }),
        (
            "7fffffff",
            FrameError::TooLarge {
                size: 0x8000_0003,
                limit: FRAME_MAX,
            },
        ),
        (
            "00fffffd",
            FrameError::TooLarge {
                size: 0x0100_0001,
                limit: FRAME_MAX,
            },
        ),
        ("00000010 02000000", FrameError::UnknownSerialization(2)),
        (
            "00000010 00ffffff",
            FrameError::HeaderBeyondFrame {
                header: 0xff_ffff,
                available: 12,
            },
        ),
        (
            "00000010 0000000d",
            FrameError::HeaderBeyondFrame {
                header: 13,
                available: 12,
            },
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(
            frame::split(&hex(bytes), FRAME_MAX),
            Err(expected),
            "{bytes}"
        );
    }
    assert_eq!(frame::split(&hex("00fffffc 00000002"), FRAME_MAX), Ok(None));
}

#[test]
fn headers_of_all_clients_are_read() {
    let check = |text: &str, code: i32, language: Language, fields: &[(&str, &str)]| {
        let bytes = json_frame(text.as_bytes(), b"");
        let header = frame::split(&bytes, FRAME_MAX)
            .unwrap()
            .unwrap()
            .decode()
            .unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!((header.code, header.language), (code, language), "{text}");
        assert_eq!(header.fields.iter().collect::<Vec<_>>(), fields, "{text}");
    };
    // Java, Go, and C++ with its blanks, numbers and truth values.
    check(
        r#"{"code":105,"extFields":{"topic":"A"},"flag":0,"language":"JAVA","opaque":1,"serializeTypeCurrentRPC":"JSON","version":409}"#,
        105,
        Language::Java,
        &[("topic", "A")],
    );
    check(
        r#"{"code":34,"language":"GO","version":317,"opaque":3,"flag":0,"remark":"","extFields":null}"#,
        34,
        Language::Go,
        &[],
    );
    check(
        "{\"code\":310, \"extFields\":{\"e\":0,\"k\":false,\"i\":\"a\\u0001b\"},\n\"language\":\"CPP\",\"opaque\":7,\"version\":333}\n",
        310,
        Language::Cpp,
        &[("e", "0"), ("k", "false"), ("i", "a\u{1}b")],
    );
    // What only the lenient parser takes.
    check(
        r#"{code:11,'language':1,"extFields":{"topic":"A","n":null,"x":{"y":[1]}},"opaque":"9","other":[{}],}"#,
        11,
        Language::Cpp,
        &[("topic", "A"), ("x", r#"{"y":[1]}"#)],
    );
    check(
        r#"{"code":1.0,"language":"COBOL","extFields":{}}"#,
        1,
        Language::Unknown,
        &[],
    );
    check(r#"{"code":null}"#, 0, Language::Java, &[]);
    check(
        r#"{"co\u0064e":7,"extFields":{"t\u006fpic":"A","big":1.5e3}}"#,
        7,
        Language::Java,
        &[("topic", "A"), ("big", "1.5e3")],
    );
}

#[test]
fn what_is_no_header_closes_the_connection() {
    for text in [
        "",
        "null",
        "[]",
        "1",
        "\"x\"",
        "{",
        "{\"code\"}",
        "{\"code\":1",
        "{\"code\":1}x",
        "{\"code\":99999999999}",
        "hello",
        "{\"code\":{}}",
    ] {
        let bytes = json_frame(text.as_bytes(), b"");
        assert!(
            frame::split(&bytes, FRAME_MAX)
                .unwrap()
                .unwrap()
                .decode()
                .is_err(),
            "{text}"
        );
    }
    let deep = format!("{{\"extFields\":{{\"a\":{}", "[".repeat(100_000));
    let bytes = json_frame(deep.as_bytes(), b"");
    assert!(
        frame::split(&bytes, FRAME_MAX)
            .unwrap()
            .unwrap()
            .decode()
            .is_err()
    );
    let invalid = json_frame(b"{\"code\":5,\"remark\":\"\xff\"}", b"");
    let header = frame::split(&invalid, FRAME_MAX)
        .unwrap()
        .unwrap()
        .decode()
        .unwrap();
    assert_eq!(
        (header.code, header.remark.as_deref()),
        (5, Some("\u{fffd}"))
    );
}

#[test]
fn a_broken_binary_header_says_where_it_ends() {
    let whole = hex(
        "0069 00 0199 00000001 00000000 00000000 00000011 0005 746f706963 00000006 546f70696341",
    );
    for len in 0..whole.len() {
        let mut bytes = u32::try_from(4 + len).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(&(0x0100_0000 + u32::try_from(len).unwrap()).to_be_bytes());
        bytes.extend_from_slice(&whole[..len]);
        let error = frame::split(&bytes, FRAME_MAX)
            .unwrap()
            .unwrap()
            .decode()
            .unwrap_err();
        assert!(
            matches!(error, HeaderError::Truncated { header, .. } if header == len),
            "{error}"
        );
    }
    // A remark that claims two gigabytes allocates nothing.
    let claims = hex("0000001c 01000018 0069 00 0199 00000001 00000000 7fffffff 00000000 000000");
    let error = frame::split(&claims, FRAME_MAX)
        .unwrap()
        .unwrap()
        .decode()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "binary header of 24 bytes ends within remark: 2147483647 bytes wanted, 7 left"
    );
}

#[test]
fn both_names_of_a_send_lead_to_the_same_header() {
    let sent = SendMessage {
        producer_group: "PG",
        topic: "TopicA",
        default_topic: "TBW102",
        default_topic_queue_nums: 4,
        queue_id: -1,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        flag: 0,
        properties: Some("TAGS\u{1}TagA\u{2}"),
        reconsume_times: Some(0),
        unit_mode: false,
        batch: true,
        max_reconsume_times: None,
        broker_name: Some("broker-a"),
    };
    for code in [310, 320, 325] {
        let request = Request::new(code).with_header(&sent.as_v2());
        assert_eq!(request.fields.get("b"), Some("TopicA"));
        assert_eq!(SendMessage::read(code, &request.fields).unwrap(), sent);
    }
    for code in [10, 324] {
        let request = Request::new(code).with_header(&sent);
        assert_eq!(request.fields.get("topic"), Some("TopicA"));
        assert_eq!(SendMessage::read(code, &request.fields).unwrap(), sent);
    }
}

#[test]
fn a_missing_or_malformed_field_is_named_with_its_value() {
    let request = Request::new(11)
        .with_field("consumerGroup", "G")
        .with_field("topic", "T")
        .with_field("queueId", "many");
    let error = request.header::<PullMessage<'_>>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "PullMessageRequestHeader.queueId is not a 32-bit integer: \"many\""
    );
    let error = Request::new(11).header::<PullMessage<'_>>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "PullMessageRequestHeader.consumerGroup is missing"
    );
    let request = Request::new(310)
        .with_field("a", "PG")
        .with_field("b", "T")
        .with_field("c", "D")
        .with_field("d", "");
    let error = SendMessage::read(310, &request.fields).unwrap_err();
    assert_eq!(
        error.to_string(),
        "SendMessageRequestHeaderV2.d is not a 32-bit integer: \"\""
    );
}

#[test]
fn an_answer_that_fits_no_frame_becomes_a_refusal() {
    for serialization in [Serialization::Json, Serialization::Binary] {
        for answer in [
            Response::with_body(vec![0; FRAME_MAX]),
            Response::ok()
                .field("value", "\u{1}".repeat(FRAME_MAX / 2))
                .field("more", "x".repeat(FRAME_MAX)),
        ] {
            let mut out = b"before".to_vec();
            answer.encode(&mut out, 9, serialization);
            let frame = frame::split(&out[6..], FRAME_MAX).unwrap().unwrap();
            let header = frame.decode().unwrap();
            assert_eq!((header.code, header.opaque), (response::SYSTEM_ERROR, 9));
            assert!(header.remark.unwrap().contains("over the limit of 16777"));
        }
        let mut out = b"before".to_vec();
        assert!(
            Request::new(1)
                .with_body(vec![0; FRAME_MAX])
                .encode(&mut out, 1)
                .is_err()
        );
        assert_eq!(out, b"before");
    }
    let mut out = Vec::new();
    Response::refuse(1, "é".repeat(1 << 20)).encode(&mut out, 1, Serialization::Json);
    assert!(out.len() < 20_000, "a remark is cut");
}

#[test]
fn both_serialisations_carry_the_same_answer() {
    for serialization in [Serialization::Json, Serialization::Binary] {
        let mut out = Vec::new();
        let sent = Response::refuse(17, "no \"topic\"\n")
            .field("a", -5)
            .field("b", "\u{1}ü\u{7f}")
            .body(&b"xyz"[..]);
        sent.encode(&mut out, 77, serialization);
        let frame = frame::split(&out, FRAME_MAX).unwrap().unwrap();
        assert_eq!(frame.serialization, serialization);
        let header = frame.decode().unwrap();
        assert_eq!(
            (header.opaque, header.version, header.language),
            (77, 409, Language::Java)
        );
        assert_eq!(
            Response::from_header(header, Bytes::copy_from_slice(frame.body)),
            sent
        );
    }
}
