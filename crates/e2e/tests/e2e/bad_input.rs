//! Input that no good client sends, in our own frames: it is refused in words that help or the connection is closed,
//! the next good request on another connection is served, and memory does not grow.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gantry_e2e::frame::{Answer, End, Wire, assemble, request};
use gantry_e2e::ledger;
use gantry_e2e::programs::room;
use gantry_e2e::server::{CLUSTER_INFO, Make, RUNTIME_INFO, Server, create_topic};
use serde_json::{Map, Value, json};

const TOPIC: &str = "known";

struct Site {
    name_server: Server,
    broker: Server,
    _room: tempfile::TempDir,
}

fn site(name: &str) -> Result<Site> {
    let room = room(name)?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[&name_server], &[])?;
    create_topic(&broker, &[&name_server], TOPIC, 2)?;
    Ok(Site {
        name_server,
        broker,
        _room: room,
    })
}

impl Site {
    /// Both servers with a request that each must always serve.
    fn servers(&self) -> [(&Server, i32); 2] {
        [
            (&self.name_server, CLUSTER_INFO),
            (&self.broker, RUNTIME_INFO),
        ]
    }
}

fn still_serves(server: &Server, code: i32) -> Result<()> {
    server.wire()?.call(code, &[], &[])?.success().map(drop)
}

fn word(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

/// Bytes of which no request can be made.
fn broken_frames() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    let mut case = |name: &str, bytes: Vec<u8>| cases.push((name.to_owned(), bytes));
    for (name, length) in [
        ("length 0", 0),
        ("length 3", 3),
        ("length of 16 MiB, its own word left out", (16 << 20) - 3),
        ("length of 1 GiB", 1 << 30),
        ("length i32::MAX", 0x7FFF_FFFF),
        ("length i32::MIN", 0x8000_0000),
        ("length -1", 0xFFFF_FFFF),
    ] {
        let mut bytes = word(length).to_vec();
        bytes.extend([0; 64]);
        case(name, bytes);
    }
    for (name, header) in [
        ("header longer than its frame", 5000),
        ("header length of 16 MiB less one", 0x00FF_FFFF),
        ("unknown serialisation", 0x0700_0010),
        ("unknown serialisation, all ones", 0xFF00_0010),
    ] {
        let mut bytes = word(4 + 64).to_vec();
        bytes.extend(word(header));
        bytes.extend([b'{'; 64]);
        case(name, bytes);
    }
    for (name, header) in [
        ("empty header", String::new()),
        ("text", "hello".to_owned()),
        ("an open brace", "{".to_owned()),
        ("a list", "[]".to_owned()),
        ("null", "null".to_owned()),
        ("a number", "7".to_owned()),
        ("no code", "{}".to_owned()),
        (
            "code in words",
            json!({"code": "ten", "opaque": 1}).to_string(),
        ),
        (
            "code beyond 32 bits",
            r#"{"code":99999999999999999999,"opaque":1,"flag":0}"#.to_owned(),
        ),
        (
            "fields in a list",
            r#"{"code":105,"opaque":1,"flag":0,"extFields":[1,2]}"#.to_owned(),
        ),
        ("not UTF-8 at all", "\u{fffd}".repeat(20)),
        ("deep lists", "[".repeat(200_000)),
        ("deep objects", r#"{"a":"#.repeat(100_000)),
        (
            "deep fields",
            format!(
                r#"{{"code":105,"opaque":1,"flag":0,"extFields":{}"#,
                r#"{"a":"#.repeat(100_000)
            ),
        ),
        (
            "a string without end",
            format!(r#"{{"code":105,"remark":"{}"#, "x".repeat(100_000)),
        ),
    ] {
        case(name, assemble(header.as_bytes(), &[]));
    }
    // The binary header: too short, and with a field map that claims more than is there.
    let mut binary = word(4 + 10).to_vec();
    binary.extend(word(0x0100_000A));
    binary.extend([0; 10]);
    case("binary header of 10 bytes", binary);
    let mut binary = word(4 + 22).to_vec();
    binary.extend(word(0x0100_0016));
    binary.extend([
        0, 105, 0, 1, 153, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF, 0,
    ]);
    case("binary header whose fields claim 2 GiB", binary);
    cases
}

/// Sends bytes on a connection of their own. It must be answered with a refusal or closed, but not left to hang.
fn refused_or_closed(server: &Server, bytes: &[u8]) -> Result<()> {
    let mut wire = server.wire()?;
    // The server may close before everything was written.
    if wire.send_bytes(bytes).is_err() {
        return Ok(());
    }
    wire.patience(Duration::from_secs(10))?;
    match wire.read() {
        Ok(answer) => {
            ensure!(answer.code != 0, "answered with success: {answer:?}");
            ensure!(
                answer.remark.as_deref().is_some_and(|r| !r.is_empty()),
                "refused without a word: {answer:?}"
            );
            Ok(())
        }
        Err(_) => {
            let end = wire.end(Duration::from_millis(500))?;
            ensure!(end != End::Open, "neither answered nor closed");
            Ok(())
        }
    }
}

#[test]
fn broken_frames_are_refused_or_closed_and_others_are_served() -> Result<()> {
    let site = site("broken-frames")?;
    for (server, good) in site.servers() {
        for (name, bytes) in broken_frames() {
            refused_or_closed(server, &bytes)
                .with_context(|| format!("{}: {name}", server.name()))?;
            still_serves(server, good)
                .with_context(|| format!("{} after {name}", server.name()))?;
        }
    }
    Ok(())
}

#[test]
fn a_frame_cut_anywhere_harms_nobody() -> Result<()> {
    let site = site("cut-frames")?;
    for (server, good) in site.servers() {
        let whole = request(105, 1, &[("topic", TOPIC)], b"body");
        let mut cut_off = Vec::new();
        for end in 1..whole.len() {
            let mut wire = server.wire()?;
            wire.send_bytes(&whole[..end])?;
            if end % 2 == 0 {
                drop(wire); // closed in the middle
            } else {
                cut_off.push(wire); // silent in the middle
            }
        }
        still_serves(server, good)?;
        // A silent one may go on where it stopped.
        let mut wire = cut_off.swap_remove(0);
        wire.send_bytes(&whole[1..])?;
        wire.read()
            .context("the rest of a frame that came in two parts")?;
    }
    Ok(())
}

#[test]
fn memory_does_not_grow_with_bad_input() -> Result<()> {
    let site = site("memory")?;
    for (server, good) in site.servers() {
        let round = || -> Result<()> {
            let mut open = Vec::new();
            for (_, bytes) in broken_frames() {
                let mut wire = server.wire()?;
                let _ = wire.send_bytes(&bytes); // it may be closed already
                open.push(wire);
            }
            // The largest frame there may be is announced and never comes.
            for _ in 0..50 {
                let mut wire = server.wire()?;
                wire.send_bytes(&word((16 << 20) - 4))?;
                wire.send_bytes(&word(100))?;
                open.push(wire);
            }
            still_serves(server, good)
        };
        for _ in 0..5 {
            round()?;
        }
        let before = server.resident_kib()?;
        for _ in 0..40 {
            round()?;
        }
        let after = server.resident_kib()?;
        ensure!(
            after < before + 16_384,
            "{} grew from {before} KiB to {after} KiB",
            server.name()
        );
    }
    Ok(())
}

#[test]
fn unknown_codes_are_answered_with_3() -> Result<()> {
    let site = site("unknown-codes")?;
    for (server, _) in site.servers() {
        let mut wire = server.wire()?;
        for code in [0, 9, 999, 54_321, -1, i32::MAX, i32::MIN] {
            let answer = wire
                .call(code, &[], &[])
                .with_context(|| format!("{}: code {code}", server.name()))?;
            ensure!(answer.code == 3, "{}: {answer:?}", server.name());
            let expected = format!(" request type {code} not supported");
            ensure!(
                answer.remark.as_deref() == Some(expected.as_str()),
                "{}: {answer:?}",
                server.name()
            );
        }
    }
    Ok(())
}

/// A one-way request gets no answer, not even a refusal; the connection stays in use.
#[test]
fn one_way_requests_are_never_answered() -> Result<()> {
    let site = site("one-way")?;
    for (server, good) in site.servers() {
        let mut wire = server.wire()?;
        for code in [54_321, 105, 310, 14] {
            let header = json!({"code": code, "language": "JAVA", "version": 409, "opaque": 4711, "flag": 2, "extFields": {}});
            wire.send_bytes(&assemble(header.to_string().as_bytes(), &[]))?;
        }
        // Answers come in order of nothing, but an answer to 4711 would be the wrong number here.
        let opaque = wire.post(good, &[], &[])?;
        let answer = wire.read()?;
        ensure!(
            answer.opaque == i64::from(opaque),
            "{}: {answer:?}",
            server.name()
        );
    }
    Ok(())
}

/// How a field is read.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Number,
    /// May be missing, but not malformed.
    OptionalNumber,
}

/// A field that a request has, and a good value for it.
#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    kind: Kind,
    good: &'static str,
}

/// Reads a row of the tables below: `name=text`, `name#number`, `name?number` for an optional one; `T` is the topic.
#[expect(clippy::expect_used, reason = "the rows are below")]
fn fields(row: &'static str) -> impl Iterator<Item = Field> {
    row.split(' ').map(|field| {
        let at = field.find(['=', '#', '?']).expect("a kind in each field");
        let (name, good) = (&field[..at], &field[at + 1..]);
        let kind = match &field[at..=at] {
            "=" => Kind::Text,
            "#" => Kind::Number,
            _ => Kind::OptionalNumber,
        };
        let good = if good == "T" { TOPIC } else { good };
        Field { name, kind, good }
    })
}

const SEND_V2: &str = "a=p b=T c=TBW102 d#4 e#0 f#0 g#1 h#0";

/// Requests with the fields that they cannot do without.
const BROKER: &[(i32, &str)] = &[
    (
        10,
        "producerGroup=p topic=T defaultTopic=TBW102 defaultTopicQueueNums#4 queueId#0 sysFlag#0 bornTimestamp#1 flag#0",
    ),
    (310, SEND_V2),
    (320, SEND_V2),
    (
        11,
        "consumerGroup=g topic=T queueId#0 queueOffset#0 maxMsgNums#32 sysFlag#4 commitOffset#0 suspendTimeoutMillis#0 subVersion#0",
    ),
    (12, "topic=T key=k maxNum#1 beginTimestamp#0 endTimestamp#1"),
    (14, "consumerGroup=g topic=T queueId#0"),
    (15, "consumerGroup=g topic=T queueId#0 commitOffset#0"),
    (
        17,
        "topic=made defaultTopic=TBW102 readQueueNums#1 writeQueueNums#1 perm#6 topicFilterType=SINGLE_TAG",
    ),
    (29, "topic=T queueId#0 timestamp#0"),
    (30, "topic=T queueId#0"),
    (31, "topic=T queueId#0"),
    (32, "topic=T queueId#0"),
    (33, "offset#0"),
    (35, "clientID=c"),
    (36, "offset#0 group=g delayLevel#0"),
    (38, "consumerGroup=g"),
    (202, "topic=T"),
    (203, "consumerGroup=g"),
    (208, "consumerGroup=g"),
    (215, "topic=made"),
    (204, "producerGroup=p"),
    (207, "groupName=nobody"),
    (222, "topic=T group=g timestamp#0"),
    (223, "topic=T group=g"),
    (300, "topic=T"),
    (303, "topic=T group=g"),
    (307, "consumerGroup=g clientId=c"),
    (308, "compareGroup=g topic=T"),
    (309, "consumerGroup=g"),
    (314, "srcGroup=g destGroup=h"),
    (315, "statsName=TOPIC_PUT_NUMS statsKey=T"),
    (317, "isOrder=false"),
    (321, "topic=T queueId?0 index?0 count?1"),
];

const NAME_SERVER: &[(i32, &str)] = &[
    (100, "namespace=n key=k value=v"),
    (101, "namespace=n key=k"),
    (102, "namespace=n key=k"),
    (
        103,
        "brokerName=x brokerAddr=127.0.0.1:1 clusterName=c haServerAddr=127.0.0.1:2 brokerId#0",
    ),
    (
        104,
        "brokerName=x brokerAddr=127.0.0.1:1 clusterName=c brokerId#0",
    ),
    (105, "topic=T"),
    (205, "brokerName=x"),
    (216, "topic=nothing"),
    (219, "namespace=n"),
    (224, "cluster=c"),
    (
        322,
        "brokerName=x brokerAddr=127.0.0.1:1 clusterName=c brokerId#0",
    ),
    (327, "brokerName=x"),
];

#[test]
fn missing_and_malformed_fields_are_named() -> Result<()> {
    let site = site("fields")?;
    let mut report = String::new();
    for (server, rows) in [(&site.broker, BROKER), (&site.name_server, NAME_SERVER)] {
        for (code, row) in rows {
            for culprit in fields(row) {
                let malformed = ["abc", "1.5", "99999999999999999999999"].map(Some);
                let values = match culprit.kind {
                    Kind::Text => vec![None],
                    Kind::Number => [&malformed[..], &[None, Some("")]].concat(),
                    Kind::OptionalNumber => malformed.to_vec(),
                };
                for value in values {
                    if let Err(e) = names_the_culprit(server, *code, row, culprit.name, value) {
                        let (server, name) = (server.name(), culprit.name);
                        report += &format!("{server} code {code}, {name} = {value:?}: {e:#}\n");
                    }
                }
            }
        }
    }
    ensure!(report.is_empty(), "{report}");
    for (server, good) in site.servers() {
        still_serves(server, good)?;
    }
    Ok(())
}

fn names_the_culprit(
    server: &Server,
    code: i32,
    row: &'static str,
    culprit: &str,
    value: Option<&str>,
) -> Result<()> {
    let sent: Vec<(&str, &str)> = fields(row)
        .map(|field| (field.name, Some(field.good)))
        .map(|(name, good)| (name, if name == culprit { value } else { good }))
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let answer = server.wire()?.call(code, &sent, &[])?;
    let remark = answer.remark.as_deref().unwrap_or_default();
    ensure!(
        answer.code == 1,
        "answered with code {}: {remark}",
        answer.code
    );
    ensure!(
        remark.contains(culprit),
        "the remark does not name it: {remark}"
    );
    Ok(())
}

/// Requests whose body is a document: none, damaged, of another shape, deep.
#[test]
fn damaged_bodies_are_refused() -> Result<()> {
    let site = site("bodies")?;
    let deep = "[".repeat(100_000);
    let wide = format!("[{}]", "{},".repeat(500_000));
    let register = [
        ("brokerName", "x"),
        ("brokerAddr", "127.0.0.1:1"),
        ("clusterName", "c"),
        ("haServerAddr", "127.0.0.1:2"),
        ("brokerId", "0"),
        ("compressed", "false"),
        ("bodyCrc32", "0"),
    ];
    let compressed = register.map(|(k, v)| {
        if k == "compressed" {
            (k, "true")
        } else {
            (k, v)
        }
    });
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let rows: [(&Server, i32, Fields<'_>); 6] = [
        (&site.broker, 34, &[]),
        (&site.broker, 41, &[]),
        (&site.broker, 42, &[]),
        (&site.broker, 200, &[]),
        (&site.name_server, 103, &register),
        (&site.name_server, 103, &compressed),
    ];
    for (server, code, fields) in rows {
        for body in [
            "{",
            "hello",
            "[1,2",
            "\u{0}\u{1}",
            deep.as_str(),
            wide.as_str(),
        ] {
            let shown = &body[..body.len().min(10)];
            let answer = server
                .wire()?
                .call(code, fields, body.as_bytes())
                .with_context(|| format!("{} code {code} with body {shown}", server.name()))?;
            ensure!(
                answer.code != 0,
                "{} code {code} took the body {shown}",
                server.name()
            );
            ensure!(
                answer.remark.is_some(),
                "{} code {code} refused {shown} without a word",
                server.name()
            );
        }
    }
    // Batches are binary: an item that claims more than there is, and one that claims nothing.
    let fields: Vec<(&str, &str)> = fields(SEND_V2)
        .map(|field| (field.name, field.good))
        .chain([("m", "true")])
        .collect();
    for body in [
        &[0_u8, 0, 0, 9][..],
        &[0; 40],
        &[0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0],
        &[0xFF; 64],
    ] {
        let answer = site.broker.wire()?.call(320, &fields, body)?;
        ensure!(answer.code != 0, "took the batch {body:?}");
    }
    for (server, good) in site.servers() {
        still_serves(server, good)?;
    }
    Ok(())
}

/// Sends with some fields of `SEND_V2` changed and others added.
fn send_with(wire: &mut Wire, changed: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let is_changed = |name: &str| changed.iter().any(|(other, _)| *other == name);
    let kept = fields(SEND_V2).map(|field| (field.name, field.good));
    let fields: Vec<(&str, &str)> = kept
        .chain([("i", ""), ("j", "0"), ("k", "false"), ("m", "false")])
        .filter(|(name, _)| !is_changed(name))
        .chain(changed.iter().copied())
        .collect();
    wire.call(310, &fields, body)
}

fn send(wire: &mut Wire, topic: &str, body: &[u8], properties: &str) -> Result<Answer> {
    send_with(wire, &[("b", topic), ("i", properties)], body)
}

#[test]
fn oversized_bodies_properties_and_topics_name_the_limit() -> Result<()> {
    let site = site("oversized")?;
    let mut wire = site.broker.wire()?;
    let body = vec![b'x'; (4 << 20) + 1];
    let long_property = format!("long\u{1}{}\u{2}", "v".repeat(32_767));
    let long_topic = "t".repeat(128);
    let very_long_topic = "t".repeat(40_000);
    let cases: [(&str, Answer, i64, &[&str]); 6] = [
        (
            "body",
            send(&mut wire, TOPIC, &body, "")?,
            13,
            &["body length limit 4194304B"],
        ),
        (
            "properties",
            send(&mut wire, TOPIC, b"x", &long_property)?,
            13,
            &["properties length limit 32KB"],
        ),
        (
            "topic of 128",
            send(&mut wire, &long_topic, b"x", "")?,
            1,
            &["The specified topic is longer than topic max length", "127"],
        ),
        (
            "topic of 40 000",
            send(&mut wire, &very_long_topic, b"x", "")?,
            1,
            &["The specified topic is longer than topic max length", "127"],
        ),
        (
            "topic of blanks",
            send(&mut wire, "  ", b"x", "")?,
            1,
            &["The specified topic is blank"],
        ),
        (
            "topic with a slash",
            send(&mut wire, "../../etc", b"x", "")?,
            1,
            &["The specified topic contains illegal characters"],
        ),
    ];
    for (name, answer, code, words) in cases {
        let remark = answer.remark.unwrap_or_default();
        ensure!(
            answer.code == code,
            "{name}: code {}, {remark}",
            answer.code
        );
        for word in words {
            ensure!(remark.contains(word), "{name}: no \"{word}\" in: {remark}");
        }
    }
    // At the limit it is taken, on the same connection.
    send(&mut wire, TOPIC, &body[..4 << 20], "")?
        .success()
        .context("body of just 4 MiB")?;
    let most = format!("long\u{1}{}", "v".repeat(32_767 - 5 - 40));
    send(&mut wire, TOPIC, b"x", &most)?
        .success()
        .context("properties near the limit")?;
    Ok(())
}

/// Bits of `sysFlag` that describe the record are the server's: a client that sets them must not shift what follows.
#[test]
fn record_bits_of_a_client_are_masked() -> Result<()> {
    let site = site("sys-flag")?;
    let mut wire = site.broker.wire()?;
    let flags = ["16", "32", "48", "2147483647", "-1"];
    for flag in flags {
        let answer = send_with(&mut wire, &[("f", flag)], flag.as_bytes())?;
        ensure!(
            answer.code == 0 || answer.remark.is_some(),
            "sysFlag {flag}: {answer:?}"
        );
    }
    ledger::send(&mut wire, TOPIC, 0, b"after them")?;
    let last = wire.read()?.success()?;
    let end = u64::try_from(last.number("queueOffset")?)? + 1;
    let records = ledger::read_queue(&mut wire, TOPIC, 0, end)?;
    ensure!(
        u64::try_from(records.len())? == end,
        "{} of {end} messages are readable",
        records.len()
    );
    ensure!(
        records.last().is_some_and(|r| r.body == b"after them"),
        "the last one is another"
    );
    Ok(())
}

/// Header members of other types than expected, as lenient clients of other languages send them.
#[test]
fn lenient_headers_are_understood() -> Result<()> {
    let site = site("lenient")?;
    for ext in [
        json!({"topic": TOPIC}),
        json!({"topic": TOPIC, "unknown": "x", "number": 5, "nothing": null}),
    ] {
        let mut header = Map::new();
        header.insert("code".to_owned(), Value::from(105));
        header.insert("opaque".to_owned(), Value::from(77));
        header.insert("extFields".to_owned(), ext);
        for (name, value) in [
            ("flag", json!(0)),
            ("language", json!("NOBODY")),
            ("version", json!("409")),
            ("more", json!([1])),
        ] {
            header.insert(name.to_owned(), value);
        }
        let mut wire = site.name_server.wire()?;
        wire.send_bytes(&assemble(Value::from(header).to_string().as_bytes(), &[]))?;
        let answer = match wire.read() {
            Ok(answer) => answer,
            Err(e) => bail!("no answer: {e:#}"),
        };
        ensure!(answer.opaque == 77 && answer.code == 0, "{answer:?}");
    }
    Ok(())
}
