//! Every decoder against damaged input: seeded mutations of golden bytes, and cases made by hand.
//!
//! Nothing may panic, and what comes out may not be larger than what went in explains.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::hash::{BuildHasher, RandomState};

use gantry_wire::bodies::*;
use gantry_wire::frame::{self, FRAME_MAX};
use gantry_wire::headers::{
    ConsumerSendMsgBack, CreateTopic, PullMessage, QueryMessage, RegisterBroker, SendMessage,
};
use gantry_wire::json::{self, Dialect};
use gantry_wire::{Fields, HeaderError};

/// Small and good enough to pick mutations (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// The seed of this run, printed so that a failure can be replayed.
fn random(test: &str) -> Random {
    let seed = std::env::var("GANTRY_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(test));
    println!("replay: GANTRY_SEED={seed} cargo test -p gantry-wire --test hostile {test}");
    Random(seed)
}

fn mutate(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    const PIECES: [&[u8]; 18] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b"\\",
        b"\\u",
        b",",
        b":",
        b"null",
        b"-1",
        b"99999999999999999999",
        b"1e999",
        b"\x00\x00\x00\x00",
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff",
        b"\x80\x00\x00\x00",
        b"\"$ref\":\"$\"",
    ];
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => bytes[at] = random.byte(),
            3 => {
                let end = (at + random.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let piece = PIECES[random.below(PIECES.len())];
                let end = (at + random.below(piece.len() + 1)).min(bytes.len());
                bytes.splice(at..end, piece.iter().copied());
            }
            5 => {
                let from = random.below(other.len() + 1);
                let to = (from + random.below(64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let from = random.below(bytes.len() + 1);
                let piece: Vec<u8> = bytes[from.min(at)..at].iter().take(64).copied().collect();
                bytes.splice(at..at, piece.repeat(random.below(4)));
            }
        }
    }
    bytes
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn golden_frames() -> Vec<Vec<u8>> {
    include_str!("golden/frames.txt")
        .lines()
        .map(|line| unhex(line.split('\t').nth(2).unwrap()))
        .collect()
}

fn golden_bodies() -> Vec<&'static [u8]> {
    include_str!("golden/bodies.txt")
        .lines()
        .map(|line| line.split_once('\t').unwrap().1.as_bytes())
        .collect()
}

/// Reads typed headers; refusals are fine.
fn typed(fields: &Fields<'_>) {
    drop(SendMessage::read(310, fields));
    drop(SendMessage::read(10, fields));
    drop(fields.header::<PullMessage<'_>>());
    drop(fields.header::<ConsumerSendMsgBack<'_>>());
    drop(fields.header::<RegisterBroker<'_>>());
    drop(fields.header::<QueryMessage<'_>>());
    drop(fields.header::<CreateTopic<'_>>());
}

/// Splits and decodes whatever is in `bytes`, as a connection does.
fn feed(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some(frame)) = frame::split(rest, FRAME_MAX) {
        assert!(8 <= frame.size && frame.size <= rest.len());
        assert_eq!(frame.header.len() + frame.body.len() + 8, frame.size);
        match frame.decode() {
            Ok(header) => {
                let text: usize = header
                    .fields
                    .iter()
                    .map(|(name, value)| name.len() + value.len())
                    .sum();
                // Each damaged byte becomes one replacement character of three bytes.
                assert!(
                    text + header.remark.as_ref().map_or(0, |remark| remark.len())
                        <= 3 * frame.header.len()
                );
                typed(&header.fields);
            }
            Err(error) => assert!(error.to_string().len() < 1000),
        }
        rest = &rest[frame.size..];
    }
}

/// Reads the text as every body there is; what can be read can be printed, and its print reads as the same.
fn read_all(text: &[u8]) {
    macro_rules! each {
        ($($body:ident)*) => {$(
            match $body::parse(text) {
                Ok(value) => {
                    let printed = value.encode();
                    // Escapes take six bytes, defaults of empty objects a few hundred.
                    assert!(printed.len() <= 6 * text.len() + 400 * (1 + text.iter().filter(|b| **b == b'{').count()));
                    let again = $body::parse(&printed).unwrap().encode();
                    assert_eq!(again, printed, "{}", String::from_utf8_lossy(text));
                }
                Err(error) => assert!(error.to_string().len() < 1000),
            }
        )*};
    }
    each! {
        BrokerStatsData CheckClientRequest ClusterInfo ConsumeMessageDirectlyResult ConsumeStats ConsumeStatsList
        ConsumerConnection ConsumerIds ConsumerOffsets ConsumerRunningInfo ConsumerStatus CorrectionOffsets DataVersion
        DelayOffsets GroupList Heartbeat KvConfig KvTable LockBatchRequest LockBatchResponse OffsetMovedEvent
        ProducerConnection ProducerTable QueryConsumeQueue QueryConsumeTimeSpan Registration ResetOffset
        SubscriptionGroupConfig SubscriptionGroupTable TopicConfigTable TopicList TopicRoute TopicStatsTable
    }
}

#[test]
fn damaged_frames_never_panic() {
    let mut random = random("damaged_frames_never_panic");
    let corpus = golden_frames();
    for _ in 0..20_000 {
        let (one, other) = (random.below(corpus.len()), random.below(corpus.len()));
        feed(&mutate(&mut random, &corpus[one], &corpus[other]));
    }
}

/// The prefix is kept true here, so that the damage reaches the header parsers.
#[test]
fn damaged_headers_never_panic() {
    let mut random = random("damaged_headers_never_panic");
    let corpus = golden_frames();
    for _ in 0..20_000 {
        let (one, other) = (random.below(corpus.len()), random.below(corpus.len()));
        let (one, other) = (&corpus[one], &corpus[other]);
        let damaged = mutate(&mut random, &one[8..], &other[8..]);
        let mut bytes = u32::try_from(4 + damaged.len())
            .unwrap()
            .to_be_bytes()
            .to_vec();
        bytes.push(one[4]);
        bytes.extend_from_slice(&u32::try_from(damaged.len()).unwrap().to_be_bytes()[1..]);
        bytes.extend_from_slice(&damaged);
        feed(&bytes);
    }
}

#[test]
fn damaged_bodies_never_panic() {
    let mut random = random("damaged_bodies_never_panic");
    let corpus = golden_bodies();
    for _ in 0..6_000 {
        let (one, other) = (random.below(corpus.len()), random.below(corpus.len()));
        read_all(&mutate(&mut random, corpus[one], corpus[other]));
    }
}

#[test]
fn damaged_registrations_never_panic() {
    let mut random = random("damaged_registrations_never_panic");
    let packed = unhex(
        include_str!("golden/registration.hex")
            .split_once(' ')
            .unwrap()
            .0,
    );
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&packed[..]), &mut plain)
        .unwrap();
    for round in 0..10_000 {
        let damaged = if round % 2 == 0 {
            mutate(&mut random, &packed, &plain)
        } else {
            zlib(&mutate(&mut random, &plain, &packed))
        };
        if let Err(error) = Registration::read(&damaged, true) {
            assert!(error.to_string().len() < 1000);
        }
    }
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, plain).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_registration_that_inflates_without_end_is_refused_at_the_limit() {
    let bomb = zlib(&vec![0; INFLATED_MAX + 1]);
    assert!(bomb.len() < 100_000);
    assert_eq!(
        Registration::read(&bomb, true),
        Err(RegistrationError::TooLarge)
    );
    // Exactly the limit is read, and then found to be nonsense.
    assert!(matches!(
        Registration::read(&zlib(&vec![0; INFLATED_MAX]), true),
        Err(RegistrationError::Json(_))
    ));
}

#[test]
fn counts_and_lengths_of_a_registration_are_believed_only_with_bytes_behind_them() {
    let version = br#"{"counter":1,"timestamp":2}"#;
    let mut start = u32::try_from(version.len()).unwrap().to_be_bytes().to_vec();
    start.extend_from_slice(version);
    let with = |tail: &[u8]| {
        let plain = [&start[..], tail].concat();
        Registration::read(&zlib(&plain), true)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        with(b""),
        "compressed registration ends within topic count: 4 bytes wanted, 0 left"
    );
    assert_eq!(
        with(b"\x7f\xff\xff\xff"),
        "compressed registration ends within topic: 4 bytes wanted, 0 left"
    );
    assert_eq!(
        with(b"\0\0\0\x01\x7f\xff\xff\xffabc"),
        "compressed registration ends within topic: 2147483647 bytes wanted, 3 left"
    );
    assert_eq!(
        with(b"\0\0\0\x01\xff\xff\xff\xffabc"),
        "compressed registration ends within topic: -1 bytes wanted, 3 left"
    );
    assert_eq!(
        with(b"\0\0\0\x01\0\0\0\x05A 1 2"),
        "topic \"A 1 2\" of a compressed registration is not `name read write perm filterType`"
    );
    assert!(
        Registration::read(b"no zlib", true)
            .unwrap_err()
            .to_string()
            .starts_with("compressed registration does not inflate")
    );
}

#[test]
fn deep_nesting_is_an_error_in_every_place() {
    for open in [
        "[",
        "{\"a\":",
        "{{",
        "{[",
        "{\"table\":{\"a\":[",
        "{\"consumerDataSet\":[{\"x\":[",
    ] {
        for depth in [60, 70, 100_000] {
            read_all(open.repeat(depth).as_bytes());
        }
    }
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(KvTable::parse(nested(63).as_bytes()).is_ok());
    let error = KvTable::parse(nested(64).as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "KVTable: nested deeper than 64 levels (at byte 68)"
    );
}

#[test]
fn tiny_elements_do_not_grow_beyond_their_text() {
    let many = |element: &str, count: usize| format!("[{}]", vec![element; count].join(","));
    let text = format!(
        r#"{{"consumerDataSet":[{{"subscriptionDataSet":{}}}]}}"#,
        many("{}", 1_000_000)
    );
    let error = Heartbeat::parse(text.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("more elements than"), "{error}");
    // A hundred thousand topics, a million offsets are fine.
    let mut table = TopicConfigTable::default();
    for at in 0..100_000 {
        let topic_name = format!("T{at}");
        table.topic_config_table.insert(
            topic_name.clone(),
            TopicConfig {
                topic_name,
                ..TopicConfig::default()
            },
        );
    }
    assert_eq!(TopicConfigTable::parse(&table.encode()).unwrap(), table);
    let mut offsets = ConsumerOffsets::default();
    for group in 0..100_000 {
        offsets.offset_table.insert(
            format!("T@{group}"),
            (0..10).map(|queue| (queue, 0)).collect(),
        );
    }
    assert_eq!(ConsumerOffsets::parse(&offsets.encode()).unwrap(), offsets);
}

#[test]
fn too_many_fields_close_the_connection() {
    let header = |count: usize| {
        let fields: Vec<String> = (0..count).map(|at| format!("\"f{at}\":\"\"")).collect();
        let text = format!("{{\"code\":1,\"extFields\":{{{}}}}}", fields.join(","));
        let mut bytes = u32::try_from(4 + text.len())
            .unwrap()
            .to_be_bytes()
            .to_vec();
        bytes.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    let bytes = header(gantry_wire::FIELDS_MAX);
    assert!(
        frame::split(&bytes, FRAME_MAX)
            .unwrap()
            .unwrap()
            .decode()
            .is_ok()
    );
    let bytes = header(gantry_wire::FIELDS_MAX + 1);
    let error = frame::split(&bytes, FRAME_MAX)
        .unwrap()
        .unwrap()
        .decode()
        .unwrap_err();
    assert_eq!(error, HeaderError::TooManyFields);
}

#[test]
fn text_that_is_no_utf_8_is_read_with_replacements() {
    let table = KvTable::parse(b"{\"table\":{\"k\":\"a\xff\"}}").unwrap();
    assert_eq!(table.table["k"], "a\u{fffd}");
    assert!(json::parse::<String>(b"\xff").is_err());
    assert_eq!(
        json::print(&table, Dialect::Standard),
        br#"{"table":{"k":"a\uFFFD"}}"#
    );
}
