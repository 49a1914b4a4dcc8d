//! Our mqadmin against recorded answers of RocketMQ's servers: it must print what RocketMQ's mqadmin printed.
//!
//! `golden/README.md` says how the recordings were made.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod harness;

use std::{
    collections::HashMap,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use gantry_wire::{
    Request, Response,
    codes::{request, response},
};

/// The servers of the recording with the addresses they had.
const RECORDED: [(&str, u16); 4] = [("ns", 21020), ("a", 20955), ("b", 26930), ("s", 24475)];

/// One recorded answer.
struct Answer {
    code: i32,
    body: Vec<u8>,
}

/// Plays all servers of the recording, each on a port of its own.
struct Stage {
    ports: HashMap<&'static str, u16>,
    asked: Arc<Mutex<Vec<(&'static str, Request)>>>,
}

impl Stage {
    fn set() -> Self {
        Self::without("")
    }

    /// All servers but one, at whose port nobody listens.
    fn without(away: &str) -> Self {
        let listeners: Vec<_> = RECORDED.map(|(name, _)| (name, five_digit_port())).into();
        let ports: HashMap<_, _> = listeners
            .iter()
            .map(|(name, listener)| (*name, listener.local_addr().unwrap().port()))
            .collect();
        let stage = Self {
            ports,
            asked: Arc::default(),
        };
        let answers = Arc::new(stage.answers());
        for (name, listener) in listeners.into_iter().filter(|(name, _)| *name != away) {
            let (answers, asked) = (Arc::clone(&answers), Arc::clone(&stage.asked));
            harness::serve(listener, move |request| {
                let answer = answer(name, &request, &answers);
                asked.lock().unwrap().push((name, request));
                Some(answer)
            });
        }
        stage
    }

    /// A text of the recording with the addresses of this run.
    fn here(&self, text: &str) -> String {
        self.exchange(text, |recorded, here| (recorded, here))
    }

    /// A text of this run with the addresses of the recording.
    fn there(&self, text: &str) -> String {
        self.exchange(text, |recorded, here| (here, recorded))
    }

    fn exchange(&self, text: &str, direction: impl Fn(u16, u16) -> (u16, u16)) -> String {
        let mut text = text.to_owned();
        for (name, recorded) in RECORDED {
            let (from, to) = direction(recorded, self.ports[name]);
            text = text.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}"));
            // As a message id holds it.
            text = text.replace(&format!("7F000001{from:08X}"), &format!("7F000001{to:08X}"));
        }
        text
    }

    fn answers(&self) -> HashMap<(String, i32, String), Answer> {
        let line = |line: &str| {
            let cells: Vec<_> = line.splitn(5, '\t').collect();
            let [server, code, key, status, body] = cells[..] else {
                panic!("{line}")
            };
            let body = match body.strip_prefix("hex:") {
                Some(digits) => self.record_here(digits),
                None => self.here(body).into_bytes(),
            };
            (
                (server.to_owned(), code.parse().unwrap(), key.to_owned()),
                Answer {
                    code: status.parse().unwrap(),
                    body,
                },
            )
        };
        include_str!("golden/answers.tsv")
            .lines()
            .map(line)
            .collect()
    }

    /// A stored record, its store host being this run's.
    fn record_here(&self, digits: &str) -> Vec<u8> {
        let digits = self.exchange(&digits.to_uppercase(), |recorded, here| (recorded, here));
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    fn run(&self, words: &[&str]) -> Output {
        let words = words.iter().map(|word| self.here(word));
        let name_server = format!("127.0.0.1:{}", self.ports["ns"]);
        mqadmin()
            .args(words)
            .env("NAMESRV_ADDR", name_server)
            .output()
            .unwrap()
    }

    /// What a command printed, with the recording's addresses, ids of new messages taken out.
    fn printed(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && said.is_empty(),
            "{words:?} failed: {said}"
        );
        self.there(&String::from_utf8(output.stdout).unwrap())
    }

    /// The requests of that code since the last call, as server and fields.
    fn asked(&self, code: i32) -> Vec<(&'static str, Request)> {
        let mut asked = self.asked.lock().unwrap();
        let all = std::mem::take(&mut *asked);
        all.into_iter()
            .filter(|(_, request)| request.code == code)
            .collect()
    }
}

/// The width of a column with an address must be the recording's.
fn five_digit_port() -> TcpListener {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if 10_000 <= listener.local_addr().unwrap().port() {
            return listener;
        }
    }
}

fn mqadmin() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqadmin"));
    command.env_clear().env("TZ", "UTC");
    command
}

type Answers = HashMap<(String, i32, String), Answer>;

fn answer(name: &str, request: &Request, answers: &Answers) -> Response {
    let field = |name| request.fields.get(name).unwrap_or("-").to_owned();
    let key = match request.code {
        request::GET_ROUTEINFO_BY_TOPIC
        | request::GET_TOPIC_STATS_INFO
        | request::QUERY_TOPIC_CONSUME_BY_WHO => field("topic"),
        request::GET_CONSUMER_CONNECTION_LIST | request::GET_CONSUME_STATS => {
            field("consumerGroup")
        }
        request::GET_CONSUMER_RUNNING_INFO => field("clientId"),
        request::VIEW_MESSAGE_BY_ID => field("offset"),
        request::CONSUME_MESSAGE_DIRECTLY => {
            let body = r#"{"autoCommit":true,"consumeResult":"CR_SUCCESS","order":false,"spentTimeMills":3}"#;
            return Response::with_body(body);
        }
        request::SEND_MESSAGE_V2 => {
            let answer = Response::ok()
                .field("queueId", field("e"))
                .field("queueOffset", 2);
            return answer.field("msgId", "7F000001000051DB0000000000000285");
        }
        request::GET_KV_CONFIG if field("key") == "Known" => {
            return Response::ok().field("value", "broker-a:4;broker-b:4");
        }
        request::GET_KV_CONFIG => {
            return Response::refuse(response::QUERY_NOT_FOUND, "No config item");
        }
        request::SET_READ_ONLY if name != "a" => {
            return Response::ok().field("maxOffset", 123_456);
        }
        request::UPDATE_AND_CREATE_TOPIC
        | request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP
        | request::DELETE_TOPIC_IN_BROKER
        | request::DELETE_TOPIC_IN_NAMESRV
        | request::CLEAN_EXPIRED_CONSUMEQUEUE
        | request::CLEAN_UNUSED_TOPIC
        | request::DELETE_EXPIRED_COMMITLOG
        | request::PUT_KV_CONFIG => return Response::ok(),
        _ => "-".to_owned(),
    };
    match answers.get(&(name.to_owned(), request.code, key.clone())) {
        Some(Answer { code: 0, body }) => Response::with_body(body.clone()),
        Some(Answer { code, body }) => Response::refuse(*code, String::from_utf8_lossy(body)),
        None if request.code == request::GET_ROUTEINFO_BY_TOPIC => Response::refuse(
            response::TOPIC_NOT_EXIST,
            format!(
                "No topic route info in name server for the topic: {key}\nSee http://example.org for further details."
            ),
        ),
        None => Response::refuse(
            response::REQUEST_CODE_NOT_SUPPORTED,
            format!("{name} has no answer for {key}"),
        ),
    }
}

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
        .with_extension("txt");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// RocketMQ's order of these lines is that of a hash table.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.split_inclusive('\n').collect();
    lines.sort_unstable();
    lines
}

/// Every run of digits, points between them included, becomes one sign.
fn without_figures(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '0'..='9' if out.ends_with('#') => {}
            '.' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            other => out.push(other),
        }
    }
    out
}

/// Ids of 32 or 56 digits become `ID`.
fn without_ids(text: &str) -> String {
    let id = |word: &str| {
        matches!(word.len(), 32 | 56) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_hexdigit()) {
        let (before, word) = rest.split_at(start);
        let end = word
            .find(|letter: char| !letter.is_ascii_hexdigit())
            .unwrap_or(word.len());
        out.push_str(before);
        out.push_str(if id(&word[..end]) { "ID" } else { &word[..end] });
        rest = &word[end..];
    }
    out + rest
}

#[test]
fn helps_are_those_of_rocketmq() {
    let output = mqadmin().output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        golden("overview")
    );
    assert!(output.status.success());
    for name in [
        "updateTopic",
        "deleteTopic",
        "topicList",
        "topicRoute",
        "topicStatus",
        "clusterList",
        "brokerStatus",
        "updateSubGroup",
        "consumerProgress",
        "consumerConnection",
        "sendMessage",
        "queryMsgById",
        "cleanExpiredCQ",
        "deleteExpiredCommitLog",
        "cleanUnusedTopic",
    ] {
        for words in [
            ["help", name],
            [name, "-h"],
            [&name.to_lowercase(), "--help"],
        ] {
            let output = mqadmin().args(words).output().unwrap();
            assert_eq!(
                String::from_utf8(output.stdout).unwrap(),
                golden(&format!("help-{name}")),
                "{words:?}"
            );
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{words:?}"
            );
        }
    }
}

#[test]
fn the_version_is_said_as_the_daemons_say_it() {
    let output = mqadmin().arg("--version").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!("mqadmin {version} (Gantry, RocketMQ 4.9 protocol)\n");
    assert_eq!(said, expected);
}

#[test]
fn what_is_read_is_printed_as_rocketmq_prints_it() {
    let stage = Stage::set();
    let exact: [(&str, &[&str]); 8] = [
        ("topicRoute", &["topicRoute", "-t", "OnlyA"]),
        ("topicRoute-l", &["topicRoute", "-t", "TopicTest", "-l"]),
        ("topicStatus", &["topicStatus", "-t", "TopicTest"]),
        ("clusterList-m", &["clusterList", "-m"]),
        ("consumerProgress-g", &["consumerProgress", "-g", "group_a"]),
        (
            "consumerProgress-s",
            &["consumerProgress", "-g", "group_a", "-s", "true"],
        ),
        (
            "consumerProgress-off",
            &["consumerProgress", "-g", "group_off"],
        ),
        (
            "queryMsgById",
            &["queryMsgById", "-i", "7F000001000051DB0000000000000000"],
        ),
    ];
    for (name, words) in exact {
        assert_eq!(stage.printed(words), golden(name), "{name}");
    }
    let unordered: [(&str, &[&str]); 3] = [
        ("topicList", &["topicList"]),
        ("topicList-c", &["topicList", "-c"]),
        ("consumerProgress", &["consumerProgress"]),
    ];
    for (name, words) in unordered {
        assert_eq!(
            sorted(&stage.printed(words)),
            sorted(&golden(name)),
            "{name}"
        );
    }
    let figures: [(&str, &[&str]); 4] = [
        ("clusterList", &["clusterList"]),
        ("brokerStatus-b", &["brokerStatus", "-b", "127.0.0.1:26930"]),
        ("brokerStatus-c", &["brokerStatus", "-c", "DefaultCluster"]),
        // The port of the client differs between the brokers, and which one is asked is open.
        (
            "consumerConnection",
            &["consumerConnection", "-g", "group_a"],
        ),
    ];
    for (name, words) in figures {
        let (ours, theirs) = (
            without_figures(&stage.printed(words)),
            without_figures(&golden(name)),
        );
        assert_eq!(sorted(&ours), sorted(&theirs), "{name}");
    }
}

#[test]
fn what_is_changed_is_reported_as_rocketmq_reports_it() {
    let stage = Stage::set();
    let check = |name: &str, words: &[&str]| {
        let (ours, theirs) = (
            without_ids(&stage.printed(words)),
            without_ids(&golden(name)),
        );
        assert_eq!(sorted(&ours), sorted(&theirs), "{name}");
    };
    let (a, b, id) = (
        "127.0.0.1:20955",
        "127.0.0.1:26930",
        "7F000001000051DB0000000000000000",
    );
    check(
        "updateTopic-b",
        &[
            "updateTopic",
            "-b",
            a,
            "-t",
            "Made",
            "-r",
            "3",
            "-w",
            "2",
            "-p",
            "4",
            "-u",
            "true",
            "-s",
            "true",
        ],
    );
    check(
        "updateTopic-c",
        &["updateTopic", "-c", "DefaultCluster", "-t", "Made"],
    );
    check(
        "updateTopic-b-o",
        &[
            "updateTopic",
            "-b",
            b,
            "-t",
            "Ordered",
            "-o",
            "true",
            "-w",
            "5",
        ],
    );
    check(
        "updateTopic-c-o",
        &[
            "updateTopic",
            "-c",
            "DefaultCluster",
            "-t",
            "Ordered",
            "-o",
            "true",
        ],
    );
    check(
        "deleteTopic",
        &["deleteTopic", "-c", "DefaultCluster", "-t", "Made"],
    );
    check(
        "updateSubGroup-b",
        &[
            "updateSubGroup",
            "-b",
            a,
            "-g",
            "made",
            "-s",
            "false",
            "-m",
            "true",
            "-d",
            "true",
            "-q",
            "2",
            "-r",
            "3",
            "-i",
            "1",
            "-w",
            "2",
            "-a",
            "false",
        ],
    );
    check(
        "updateSubGroup-c",
        &["updateSubGroup", "-c", "DefaultCluster", "-g", "made"],
    );
    check(
        "sendMessage",
        &[
            "sendMessage",
            "-t",
            "TopicTest",
            "-b",
            "broker-a",
            "-i",
            "1",
            "-k",
            "k1 k2",
            "-c",
            "TagA",
            "-p",
            " hello ",
        ],
    );
    check(
        "consumeDirectly",
        &[
            "queryMsgById",
            "-i",
            id,
            "-g",
            "group_a",
            "-d",
            "192.0.2.2@group_a",
        ],
    );
}

#[test]
fn a_message_is_sent_again_with_what_it_had() {
    let stage = Stage::set();
    let printed = stage.printed(&[
        "queryMsgById",
        "-i",
        "7F000001000051DB0000000000000000",
        "-s",
        "true",
    ]);
    assert!(printed.starts_with("prepare resend msg. originalMsgId=7F000001000051DB0000000000000000SendResult [sendStatus=SEND_OK, "));
    assert!(!printed.ends_with('\n'));
    let sent = stage.asked(request::SEND_MESSAGE_V2);
    let [(_, sent)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(sent.body, "hello world");
    assert_eq!(
        (sent.fields.get("a"), sent.fields.get("b")),
        (Some("ReSendMsgById"), Some("TopicTest"))
    );
    let properties = sent.fields.get("i").unwrap();
    assert!(
        properties.contains("KEYS\u{1}order-1 order-2"),
        "{properties}"
    );
    assert!(
        properties
            .contains("UNIQ_KEY\u{1}FD00000000000000000000000000000215530C387F4474BAECD30000"),
        "{properties}"
    );
}

#[test]
fn changes_reach_the_servers_that_they_must_reach() {
    let stage = Stage::set();
    let asked = |code, field: &str| -> Vec<String> {
        let value = |(server, request): (&str, Request)| {
            format!("{server}:{}", request.fields.get(field).unwrap())
        };
        stage.asked(code).into_iter().map(value).collect()
    };
    stage.printed(&[
        "updateTopic",
        "-b",
        "127.0.0.1:26930",
        "-t",
        "Known",
        "-o",
        "true",
        "-w",
        "5",
    ]);
    assert_eq!(
        asked(request::PUT_KV_CONFIG, "value"),
        ["ns:broker-a:4;broker-b:5"]
    );
    stage.printed(&[
        "updateTopic",
        "-c",
        "DefaultCluster",
        "-t",
        "Made",
        "-r",
        "3",
    ]);
    assert_eq!(
        asked(request::UPDATE_AND_CREATE_TOPIC, "readQueueNums"),
        ["a:3", "b:3"]
    );
    stage.printed(&["deleteTopic", "-c", "DefaultCluster", "-t", "Made"]);
    assert_eq!(
        asked(request::DELETE_TOPIC_IN_BROKER, "topic"),
        ["a:Made", "b:Made"]
    );
    stage.printed(&["deleteTopic", "-c", "DefaultCluster", "-t", "Made"]);
    assert_eq!(
        asked(request::DELETE_TOPIC_IN_NAMESRV, "clusterName"),
        ["ns:DefaultCluster"]
    );
    stage.printed(&[
        "sendMessage",
        "-t",
        "TopicTest",
        "-b",
        "broker-a",
        "-i",
        "1",
        "-p",
        " hello ",
    ]);
    let sent = stage.asked(request::SEND_MESSAGE_V2);
    let [(server, sent)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(
        (*server, &sent.body[..], sent.fields.get("e")),
        ("a", &b"hello"[..], Some("1"))
    );
}

#[test]
fn cleaning_asks_one_broker_or_a_cluster_or_all() {
    let stage = Stage::set();
    for (command, code) in [
        ("cleanExpiredCQ", request::CLEAN_EXPIRED_CONSUMEQUEUE),
        ("cleanUnusedTopic", request::CLEAN_UNUSED_TOPIC),
        ("deleteExpiredCommitLog", request::DELETE_EXPIRED_COMMITLOG),
    ] {
        let everybody = ["a", "b", "s"];
        let cases: [(&[&str], &[&str]); 3] = [
            (&[command], &everybody),
            (&[command, "-c", "DefaultCluster"], &everybody),
            (&[command, "-b", "127.0.0.1:26930"], &["b"]),
        ];
        for (words, expected) in cases {
            assert_eq!(stage.printed(words), "success", "{words:?}");
            let mut asked: Vec<_> = stage.asked(code).iter().map(|(name, _)| *name).collect();
            asked.sort_unstable();
            assert_eq!(asked, expected, "{words:?}");
        }
        let nobody = stage.run(&[command, "-c", "nope"]);
        assert_eq!(nobody.stdout, b"false");
        assert_eq!(nobody.status.code(), Some(1));
    }
    // What one broker does not do, the others do all the same, and the tool does not call it done.
    let stage = Stage::without("b");
    let partly = stage.run(&["cleanExpiredCQ"]);
    assert_eq!(
        (&partly.stdout[..], partly.status.code()),
        (&b""[..], Some(1))
    );
    assert_eq!(stage.asked(request::CLEAN_EXPIRED_CONSUMEQUEUE).len(), 2);
}

#[test]
fn a_failure_is_one_line_on_stderr_and_exit_code_1() {
    let stage = Stage::set();
    let check = |words: &[&str], said: &str| {
        let output = stage.run(words);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
        assert!(stderr.contains(said), "{words:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{words:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    };
    let no_route = "CODE: 17  DESC: No topic route info in name server for the topic: nope See";
    assert_eq!(check(&["topicRoute", "-t", "nope"], no_route), "");
    assert_eq!(check(&["topicStatus", "-t", "nope"], no_route), "");
    assert_eq!(check(&["consumerProgress", "-g", "nope"], "CODE: 17"), "");
    assert_eq!(
        check(
            &["consumerConnection", "-g", "group_off"],
            "CODE: 206  DESC: the consumer group[group_off] not online"
        ),
        ""
    );
    let unknown = "[error] Make sure the specified clusterName exists";
    assert_eq!(
        check(&["updateTopic", "-t", "T", "-c", "nope"], unknown),
        ""
    );
    assert_eq!(
        check(&["deleteTopic", "-t", "T", "-c", "nope"], unknown),
        ""
    );
    assert_eq!(
        check(&["updateSubGroup", "-g", "G", "-c", "nope"], unknown),
        ""
    );
    assert_eq!(check(&["brokerStatus", "-c", "nope"], unknown), "");
    assert_eq!(
        check(
            &["brokerStatus"],
            "missing -b/--brokerAddr or -c/--clusterName"
        ),
        ""
    );
    assert_eq!(
        check(
            &["sendMessage", "-t", "T", "-p", "x", "-i", "0"],
            "Broker name must be set"
        ),
        ""
    );
    assert_eq!(
        check(
            &["sendMessage", "-t", "a b", "-p", "x"],
            "illegal characters"
        ),
        ""
    );
    assert_eq!(check(&["sendMessage", "-t", "T", "-p", ""], "CODE: 13"), "");
    assert_eq!(check(&["queryMsgById", "-i", "1234"], "CODE: 208"), "");
    assert_eq!(
        check(
            &["updateTopic", "-t", "T", "-b", "127.0.0.1:1"],
            "connect to 127.0.0.1:1 failed"
        ),
        ""
    );
    assert_eq!(
        check(
            &["topicList", "-n", "127.0.0.1:1"],
            "connect to [127.0.0.1:1] failed"
        ),
        ""
    );
    assert_eq!(
        check(
            &["topicList", "-n", "host"],
            "name server address 'host' is not host:port"
        ),
        ""
    );
    assert_eq!(
        check(
            &["updateTopic", "-t", "T", "-b", "x:1", "-r", "7k"],
            "-r/--readQueueNums does not take '7k'"
        ),
        ""
    );
    assert_eq!(check(&["printMsg", "-t", "T"], "not available yet"), "");
    assert_eq!(
        check(
            &["topiclisst"],
            "The sub command topiclisst not exist. (did you mean topicList?)"
        ),
        ""
    );
    // Wrong usage shows the help, as RocketMQ's tool does.
    assert_eq!(
        check(
            &["updateTopic", "-t", "T"],
            "missing -b/--brokerAddr or -c/--clusterName"
        ),
        golden("help-updateTopic")
    );
    assert_eq!(
        check(&["topicList", "--bogus"], "unknown option --bogus"),
        golden("help-topicList")
    );
    assert_eq!(
        check(&["updateSubGroup", "-g", "G"], "missing -b/--brokerAddr"),
        golden("help-updateSubGroup")
    );
}

#[test]
fn no_name_server_is_said_before_anything_is_tried() {
    let output = mqadmin().arg("topicList").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = "mqadmin topicList: no name server address: give -n host:9876 or set NAMESRV_ADDR\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), said);
}

#[test]
fn a_broker_that_is_away_leaves_its_row_and_fails_the_command() {
    let stage = Stage::without("s");
    let output = stage.run(&["clusterList"]);
    let printed = stage.there(&String::from_utf8(output.stdout).unwrap());
    let row = printed
        .lines()
        .find(|line| line.contains("127.0.0.1:24475"))
        .unwrap();
    let expected = [
        "DefaultCluster    broker-a                1     127.0.0.1:24475                                   0.00(,ms)",
        "          0.00(,ms)             0.00 0.0000",
    ];
    assert_eq!(row, expected.join(" "));
    assert_eq!(printed.lines().count(), 4, "the others have theirs");
    let stderr = stage.there(&String::from_utf8(output.stderr).unwrap());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("127.0.0.1:24475 (broker-a, id 1): connect to 127.0.0.1:24475 failed"),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// Our own commands: their text is a promise, too.
#[test]
fn replication_is_shown_and_brokers_are_drained() {
    let stage = Stage::set();
    let (a, b, s) = ("127.0.0.1:20955", "127.0.0.1:26930", "127.0.0.1:24475");
    assert_eq!(
        stage.printed(&["haStatus", "-b", b]),
        golden("own-haStatus-master")
    );
    assert_eq!(
        stage.printed(&["haStatus", "-b", s]),
        golden("own-haStatus-slave")
    );
    // A broker of ours stands at this address too.
    assert_eq!(
        stage.printed(&["brokerStatus", "-b", "127.0.0.1:21020"]),
        golden("own-brokerStatus")
    );
    assert_eq!(
        stage.printed(&["setReadOnly", "-b", b]),
        format!("{b} takes no messages; its log ends at 123456\n")
    );
    let asked = stage.asked(request::SET_READ_ONLY);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].1.fields.get("readOnly"), Some("true"));
    assert_eq!(
        stage.printed(&["setReadWrite", "-b", b]),
        format!("{b} takes messages\n")
    );
    // One of them is Apache's.
    for words in [
        &["haStatus", "-b", a][..],
        &["setReadOnly", "-b", a],
        &["setReadWrite", "-b", a],
        &["haStatus", "-c", "DefaultCluster"],
        &["haStatus"],
    ] {
        let output = stage.run(words);
        let said = stage.there(&String::from_utf8(output.stderr).unwrap());
        let expected = format!("{}: {a} is no Gantry broker, or an older one", words[0]);
        assert!(said.contains(&expected), "{words:?}: {said}");
        assert_eq!(output.status.code(), Some(1));
        if !words.contains(&"-b") {
            let printed = stage.there(&String::from_utf8(output.stdout).unwrap());
            let both = golden("own-haStatus-slave") + &golden("own-haStatus-master");
            assert_eq!(sorted(&printed), sorted(&both), "the others are shown");
        }
    }
}

/// What cannot be is said before anybody is asked: nobody listens at that port.
#[test]
fn a_promotion_that_cannot_be_meant_asks_nobody() {
    for (option, value, words) in [
        ("-s", "0", "--slaves 0: it is 1 to 1000"),
        ("-s", "1001", "--slaves 1001: it is 1 to 1000"),
        ("-k", "0", "--inSyncReplicas 0: it is 1 to 1000"),
        ("-w", "0", "--wait 0: it is 1 to 600 s"),
        ("-w", "601", "--wait 601: it is 1 to 600 s"),
        (
            "-r",
            "SLAVE",
            "--role SLAVE: it is ASYNC_MASTER or SYNC_MASTER",
        ),
        (
            "-l",
            "-1",
            "--accept-loss -1: it is a number of bytes of the log, or all",
        ),
        (
            "-l",
            "some",
            "--accept-loss some: it is a number of bytes of the log, or all",
        ),
    ] {
        let args = ["promote", "-b", "127.0.0.1:1", option, value];
        refuses(&args, words);
    }
    let many = ["promote", "-b", "127.0.0.1:1", "-s", "1", "-k", "2"];
    refuses(&many, "--inSyncReplicas 2: the old master had 1 slaves");
}

fn refuses(args: &[&str], words: &str) {
    let output = mqadmin().args(args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(words), "{args:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!output.status.success());
}
