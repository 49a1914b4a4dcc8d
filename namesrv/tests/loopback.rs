//! The name server over real sockets: what goes in and comes out as frames.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gantry_config::{Bind, Host, Settings};
use gantry_disk::OsDisk;
use gantry_namesrv::NameServer;
use gantry_namesrv::config::NamesrvConfig;
use gantry_namesrv::live::Live;
use gantry_service::Sockets;
use gantry_wire::bodies::{DataVersion, Registration, TopicConfig, TopicConfigTable, body_crc32};
use gantry_wire::codes::request as code;
use gantry_wire::frame::{self, FRAME_MAX, Serialization};
use gantry_wire::{Request, Response};

/// A name server in this process, on a port of its own, with its files in a folder of its own.
struct Running {
    folder: tempfile::TempDir,
    address: SocketAddr,
    settings: Arc<Live<NamesrvConfig>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        Self::start_with(|_| ())
    }

    fn start_with(change: impl FnOnce(&mut NamesrvConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        let settings = Arc::new(Live::new(config));
        let (ready, started) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let shared = settings.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server = NameServer::start(shared, Arc::new(OsDisk), Sockets::none()).unwrap();
                ready.send(server.address()).unwrap();
                let _ = stopped.await;
                server.stop().await;
            });
        });
        let address = SocketAddr::from(([127, 0, 0, 1], started.recv().unwrap().port()));
        Self {
            folder,
            address,
            settings,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn connect(&self) -> Line {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Line {
            stream,
            received: Vec::new(),
        }
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn config(folder: &Path) -> NamesrvConfig {
    let mut config = NamesrvConfig::defaults(&Host::described());
    config.server.listen_port = 0;
    config.server.bind_address = Bind([127, 0, 0, 1].into());
    config.metrics_port = Some(0);
    config.kv_config_path = folder.join("kvConfig.json").to_str().unwrap().to_owned();
    config
}

struct Line {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Line {
    fn send(&mut self, request: &Request, opaque: i32) {
        let mut out = Vec::new();
        request.encode(&mut out, opaque).unwrap();
        self.stream.write_all(&out).unwrap();
    }

    /// The next answer: opaque and content, and how its header was written.
    fn receive(&mut self) -> (i32, Response, Serialization) {
        loop {
            if let Some(frame) = frame::split(&self.received, FRAME_MAX).unwrap() {
                let header = frame.decode().unwrap();
                assert!(header.is_response());
                let (opaque, serialization, size) =
                    (header.opaque, frame.serialization, frame.size);
                let response = Response::from_header(header, frame.body.to_vec().into());
                self.received.drain(..size);
                return (opaque, response, serialization);
            }
            let mut more = [0; 4096];
            let count = self.stream.read(&mut more).unwrap();
            assert!(0 < count, "the name server hung up");
            self.received.extend_from_slice(&more[..count]);
        }
    }

    fn ask(&mut self, request: &Request) -> Response {
        self.send(request, 7);
        let (opaque, response, serialization) = self.receive();
        assert_eq!((opaque, serialization), (7, request.serialization));
        response
    }

    fn body(&mut self, request: &Request) -> String {
        let response = self.ask(request);
        assert_eq!((response.code, response.remark.as_deref()), (0, None));
        String::from_utf8(response.body.to_vec()).unwrap()
    }

    /// True when the other side has hung up.
    fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

fn table(counter: i64, topics: &[&str]) -> Registration {
    let topic = |name: &&str| {
        let config = TopicConfig {
            topic_name: (*name).to_owned(),
            read_queue_nums: 4,
            write_queue_nums: 4,
            ..TopicConfig::default()
        };
        ((*name).to_owned(), config)
    };
    Registration {
        filter_server_list: Vec::new(),
        topic_config_serialize_wrapper: TopicConfigTable {
            data_version: DataVersion {
                counter,
                timestamp: 1,
            },
            topic_config_table: topics.iter().map(topic).collect(),
        },
    }
}

fn broker(request: Request, name: &str, id: i64, address: &str) -> Request {
    request
        .with_field("brokerName", name)
        .with_field("brokerAddr", address)
        .with_field("clusterName", "DefaultCluster")
        .with_field("haServerAddr", format!("{address}2"))
        .with_field("brokerId", id)
}

fn register(name: &str, id: i64, address: &str, body: Vec<u8>) -> Request {
    broker(Request::new(code::REGISTER_BROKER), name, id, address)
        .with_field("compressed", false)
        .with_field("bodyCrc32", body_crc32(&body))
        .with_body(body)
}

fn route(topic: &str) -> Request {
    Request::new(code::GET_ROUTEINFO_BY_TOPIC).with_field("topic", topic)
}

/// The bytes of wire.md 4.2, which are those of fastjson.
const RAW_ROUTE: &str = concat!(
    r#"{"brokerDatas":[{"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"},"#,
    r#""brokerName":"broker-a","cluster":"DefaultCluster"}],"filterServerTable":{},"#,
    r#""queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}"#,
);

fn two_brokers(line: &mut Line) {
    let master = register(
        "broker-a",
        0,
        "10.0.0.1:10911",
        table(1, &["TopicA", "TopicB"]).encode(),
    );
    let answer = line.ask(&master);
    assert_eq!(
        (answer.code, answer.fields.len(), answer.body.len()),
        (0, 0, 0)
    );
    let slave = line.ask(&register(
        "broker-a",
        1,
        "10.0.0.2:10911",
        table(1, &[]).encode(),
    ));
    assert_eq!(slave.get("masterAddr"), Some("10.0.0.1:10911"));
    assert_eq!(slave.get("haServerAddr"), Some("10.0.0.1:109112"));
}

#[test]
fn routes_are_printed_in_the_dialect_the_client_reads() {
    let server = Running::start();
    let mut line = server.connect();
    two_brokers(&mut line);
    let standard = RAW_ROUTE
        .replace("{0:", "{\"0\":")
        .replace(",1:", ",\"1\":");
    let mut old = route("TopicA");
    // The version field has no setter of its own on the sending side: an old client's header as it is on the wire.
    let header = br#"{"code":105,"extFields":{"topic":"TopicA"},"flag":0,"language":"GO","opaque":3,"version":317}"#;
    let mut frame = u32::try_from(4 + header.len())
        .unwrap()
        .to_be_bytes()
        .to_vec();
    frame.extend_from_slice(&u32::try_from(header.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(header);
    line.stream.write_all(&frame).unwrap();
    assert_eq!(line.receive().1.body, RAW_ROUTE);
    assert_eq!(line.body(&old), standard);
    old.serialization = Serialization::Binary;
    assert_eq!(line.body(&old), standard);
    let asked = String::from_utf8(frame)
        .unwrap()
        .replace("TopicA\"}", "TopicA\",\"acceptStandardJsonOnly\":\"true\"}");
    let mut asked = asked.into_bytes();
    let grown = u32::try_from(asked.len() - 8).unwrap();
    asked[..4].copy_from_slice(&(grown + 4).to_be_bytes());
    asked[4..8].copy_from_slice(&grown.to_be_bytes());
    line.stream.write_all(&asked).unwrap();
    assert_eq!(line.receive().1.body, standard);
}

#[test]
fn a_topic_nobody_has_is_refused_in_javas_words() {
    let server = Running::start();
    let mut line = server.connect();
    let java = "No topic route info in name server for the topic: T\nSee http://rocketmq.apache.org/docs/faq/ for further \
                details.";
    let answer = line.ask(&route("T"));
    assert_eq!(answer.code, 17);
    assert_eq!(
        answer.remark.unwrap(),
        format!("{java} No broker is registered with this name server.")
    );
    two_brokers(&mut line);
    assert_eq!(line.ask(&route("T")).remark.unwrap(), java);
}

#[test]
fn lists_and_cluster_are_printed_as_java_prints_them() {
    let server = Running::start();
    let mut line = server.connect();
    two_brokers(&mut line);
    let mut check = |request: Request, expected: &str| assert_eq!(line.body(&request), expected);
    check(
        Request::new(code::GET_BROKER_CLUSTER_INFO),
        concat!(
            r#"{"brokerAddrTable":{"broker-a":{"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"},"#,
            r#""brokerName":"broker-a","cluster":"DefaultCluster"}},"clusterAddrTable":{"DefaultCluster":["broker-a"]}}"#,
        ),
    );
    let all = r#"{"topicList":["TopicA","TopicB"]}"#;
    check(Request::new(code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER), all);
    let of =
        |cluster: &str| Request::new(code::GET_TOPICS_BY_CLUSTER).with_field("cluster", cluster);
    check(of("DefaultCluster"), all);
    check(of("nowhere"), r#"{"topicList":[]}"#);
    check(
        Request::new(code::GET_SYSTEM_TOPIC_LIST_FROM_NS),
        r#"{"brokerAddr":"10.0.0.1:10911","topicList":["DefaultCluster","broker-a"]}"#,
    );
    for unit in [
        code::GET_UNIT_TOPIC_LIST,
        code::GET_HAS_UNIT_SUB_TOPIC_LIST,
        code::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST,
    ] {
        check(Request::new(unit), r#"{"topicList":[]}"#);
    }
}

#[test]
fn a_broker_whose_connection_ends_is_gone() {
    let server = Running::start();
    let mut line = server.connect();
    let mut broker = server.connect();
    two_brokers(&mut broker);
    assert_eq!(line.ask(&route("TopicA")).code, 0);
    drop(broker);
    let gone = (0..100_000).any(|_| line.ask(&route("TopicA")).code == 17);
    assert!(gone, "the route is still there");
}

#[test]
fn unregistering_removes_one_and_a_held_route_outlives_its_connection() {
    let server = Running::start();
    let (mut line, mut first) = (server.connect(), server.connect());
    two_brokers(&mut first);
    let leave = |id, address| {
        broker(
            Request::new(code::UNREGISTER_BROKER),
            "broker-a",
            id,
            address,
        )
    };
    assert_eq!(first.ask(&leave(1, "10.0.0.2:10911")).code, 0);
    let alone = RAW_ROUTE
        .replace(r#",1:"10.0.0.2:10911""#, "")
        .replace("{0:", "{\"0\":");
    assert_eq!(line.body(&route("TopicA")), alone);
    assert_eq!(
        first
            .ask(&leave(0, "10.0.0.1:10911").with_field("restartHoldMillis", 15_000))
            .code,
        0
    );
    // Another broker on the same connection shows when its end has been seen.
    assert_eq!(
        first
            .ask(&register(
                "broker-b",
                0,
                "10.0.0.3:10911",
                table(1, &["Witness", "W2"]).encode()
            ))
            .code,
        0
    );
    drop(first);
    assert!((0..100_000).any(|_| line.ask(&route("Witness")).code == 17));
    assert_eq!(line.body(&route("TopicA")), alone);
    // A short hold ends by itself: the sweep comes when its time is up, not with the next regular one.
    assert_eq!(
        line.ask(&leave(0, "10.0.0.1:10911").with_field("restartHoldMillis", 1))
            .code,
        0
    );
    assert!((0..100_000).any(|_| line.ask(&route("TopicA")).code == 17));
}

// The broker's end of a cut link came back by a second connection before the name server read the rest of the first.
#[test]
fn the_end_of_an_older_connection_leaves_the_broker_of_the_newer() {
    let server = Running::start();
    // Accepted in this order, which an answer over each proves.
    let (mut line, mut old) = (server.connect(), server.connect());
    assert_eq!(old.ask(&route("TopicA")).code, 17);
    let mut new = server.connect();
    let said = |topics: &[&str]| {
        let body = table(1, topics).encode();
        register("broker-a", 0, "10.0.0.1:10911", body)
    };
    let witness = register(
        "broker-w",
        0,
        "10.0.0.9:10911",
        table(1, &["Witness", "W2"]).encode(),
    );
    assert_eq!(old.ask(&witness).code, 0);
    assert_eq!(new.ask(&said(&["TopicA", "TopicB"])).code, 0);
    assert_eq!(old.ask(&said(&["TopicA", "TopicOld"])).code, 0);
    let leave = broker(
        Request::new(code::UNREGISTER_BROKER),
        "broker-a",
        0,
        "10.0.0.1:10911",
    );
    assert_eq!(old.ask(&leave).code, 0);
    drop(old);
    assert!((0..100_000).any(|_| line.ask(&route("Witness")).code == 17));
    assert_eq!(line.ask(&route("TopicA")).code, 0);
    assert_eq!(line.ask(&route("TopicOld")).code, 17);
    drop(new);
    assert!((0..100_000).any(|_| line.ask(&route("TopicA")).code == 17));
}

#[test]
fn a_second_master_is_refused_by_name() {
    let server = Running::start();
    let (mut line, mut other) = (server.connect(), server.connect());
    two_brokers(&mut line);
    let answer = other.ask(&register(
        "broker-a",
        0,
        "10.0.0.9:10911",
        table(1, &["TopicA", "X"]).encode(),
    ));
    assert_eq!(answer.code, 1);
    let remark = answer.remark.unwrap();
    assert!(
        remark
            .starts_with("broker name broker-a id 0 is held by 10.0.0.1:10911, which is connected"),
        "{remark}"
    );
}

#[test]
fn every_form_of_registration_is_read() {
    let server = Running::start();
    let mut line = server.connect();
    let compressed = table(2, &["Packed", "Packed2"]).encode_compressed();
    let request = broker(
        Request::new(code::REGISTER_BROKER),
        "broker-c",
        0,
        "10.0.0.3:10911",
    )
    .with_field("compressed", true)
    .with_field("bodyCrc32", body_crc32(&compressed))
    .with_body(compressed.clone());
    assert_eq!(line.ask(&request).code, 0);
    assert_eq!(line.ask(&route("Packed")).code, 0);

    let version = |counter: i64| {
        broker(
            Request::new(code::QUERY_DATA_VERSION),
            "broker-c",
            0,
            "10.0.0.3:10911",
        )
        .with_body(
            DataVersion {
                counter,
                timestamp: 1,
            }
            .encode(),
        )
    };
    let same = line.ask(&version(2));
    assert_eq!(
        (same.get("changed"), &same.body[..]),
        (Some("false"), &br#"{"counter":2,"timestamp":1}"#[..])
    );
    assert_eq!(line.ask(&version(3)).get("changed"), Some("true"));

    let empty = broker(
        Request::new(code::REGISTER_BROKER),
        "broker-d",
        0,
        "10.0.0.4:10911",
    );
    assert_eq!(line.ask(&empty).code, 0);

    let wrong = broker(
        Request::new(code::REGISTER_BROKER),
        "broker-e",
        0,
        "10.0.0.5:10911",
    )
    .with_field("bodyCrc32", body_crc32(&compressed) ^ 1)
    .with_body(compressed);
    let refused = line.ask(&wrong);
    assert_eq!(
        (refused.code, refused.remark.as_deref()),
        (1, Some("crc32 not match"))
    );
}

#[test]
fn keys_are_kept_and_reach_brokers_and_routes() {
    let server = Running::start_with(|config| config.order_message_enable = true);
    let mut line = server.connect();
    two_brokers(&mut line);
    let key = |request: Request| {
        request
            .with_field("namespace", "ORDER_TOPIC_CONFIG")
            .with_field("key", "TopicA")
    };
    let missing = line.ask(&key(Request::new(code::GET_KV_CONFIG)));
    assert_eq!(
        (missing.code, missing.remark.as_deref()),
        (
            22,
            Some("No config item, Namespace: ORDER_TOPIC_CONFIG Key: TopicA")
        )
    );
    let list =
        Request::new(code::GET_KVLIST_BY_NAMESPACE).with_field("namespace", "ORDER_TOPIC_CONFIG");
    assert_eq!(line.ask(&list).code, 22);
    assert_eq!(
        line.ask(&key(Request::new(code::PUT_KV_CONFIG)).with_field("value", "broker-a:4"))
            .code,
        0
    );
    assert_eq!(
        line.ask(&key(Request::new(code::GET_KV_CONFIG)))
            .get("value"),
        Some("broker-a:4")
    );
    assert_eq!(line.body(&list), r#"{"table":{"TopicA":"broker-a:4"}}"#);
    assert!(
        line.body(&route("TopicA"))
            .contains(r#","orderTopicConf":"broker-a:4","queueDatas""#)
    );
    let again = line.ask(&register(
        "broker-a",
        0,
        "10.0.0.1:10911",
        table(1, &[]).encode(),
    ));
    assert_eq!(again.body, r#"{"table":{"TopicA":"broker-a:4"}}"#);
    assert_eq!(
        server.file("kvConfig.json"),
        r#"{"configTable":{"ORDER_TOPIC_CONFIG":{"TopicA":"broker-a:4"}}}"#
    );
    assert_eq!(line.ask(&key(Request::new(code::DELETE_KV_CONFIG))).code, 0);
    assert_eq!(line.ask(&key(Request::new(code::GET_KV_CONFIG))).code, 22);
    let null = line.ask(
        &Request::new(code::PUT_KV_CONFIG)
            .with_field("key", "k")
            .with_field("value", "v"),
    );
    assert_eq!(
        (null.code, null.remark.as_deref()),
        (1, Some("namespace or key is null"))
    );
}

#[test]
fn operators_change_permissions_and_topics() {
    let server = Running::start();
    let mut line = server.connect();
    two_brokers(&mut line);
    let name = |code| Request::new(code).with_field("brokerName", "broker-a");
    assert_eq!(
        line.ask(&name(code::WIPE_WRITE_PERM_OF_BROKER))
            .get("wipeTopicCount"),
        Some("2")
    );
    assert!(line.body(&route("TopicA")).contains(r#""perm":4"#));
    assert_eq!(
        line.ask(&name(code::ADD_WRITE_PERM_OF_BROKER))
            .get("addTopicCount"),
        Some("2")
    );
    assert!(line.body(&route("TopicA")).contains(r#""perm":6"#));
    let delete = Request::new(code::DELETE_TOPIC_IN_NAMESRV).with_field("topic", "TopicA");
    assert_eq!(
        line.ask(&delete.clone().with_field("clusterName", "nowhere"))
            .code,
        0
    );
    assert_eq!(line.ask(&route("TopicA")).code, 0);
    assert_eq!(line.ask(&delete).code, 0);
    assert_eq!(line.ask(&route("TopicA")).code, 17);
}

#[test]
fn the_configuration_is_shown_and_changed_as_far_as_it_may_be() {
    let server = Running::start();
    let mut line = server.connect();
    let shown = line.body(&Request::new(code::GET_NAMESRV_CONFIG));
    assert!(shown.contains("orderMessageEnable=false\n"), "{shown}");
    let update = |text: &str| Request::new(code::UPDATE_NAMESRV_CONFIG).with_body(text.to_owned());
    assert_eq!(line.ask(&update("orderMessageEnable=true\n")).code, 0);
    assert!(server.settings.get().order_message_enable);
    assert!(
        server
            .file("gantry-override.properties")
            .contains("orderMessageEnable=true\n")
    );
    let mut check = |text: &str, code: i32, start: &str| {
        let answer = line.ask(&update(text));
        let remark = answer.remark.unwrap_or_default();
        assert_eq!(answer.code, code, "{text}: {remark}");
        assert!(remark.starts_with(start), "{text}: {remark}");
    };
    check(
        "kvConfigPath=/x",
        16,
        "Can not update config in black list.",
    );
    check(
        "listenPort=1",
        16,
        "Can not update config in black list. listenPort",
    );
    check("noSuchKey=1", 16, "unknown key noSuchKey");
    check(
        "orderMessageEnable=perhaps",
        1,
        "orderMessageEnable=perhaps: must be true or false",
    );
}

#[test]
fn closed_administration_is_open_on_loopback() {
    let server = Running::start_with(|config| config.server.admin_open = false);
    assert_eq!(
        server
            .connect()
            .ask(&Request::new(code::GET_NAMESRV_CONFIG))
            .code,
        0
    );
}

#[test]
fn what_is_not_understood_is_answered_and_one_way_requests_are_not() {
    let server = Running::start();
    let mut line = server.connect();
    let unknown = line.ask(&Request::new(9_999));
    assert_eq!(
        (unknown.code, unknown.remark.as_deref()),
        (3, Some(" request type 9999 not supported"))
    );
    let mut one_way = Request::new(9_999);
    one_way.oneway = true;
    line.send(&one_way, 1);
    assert_eq!(
        line.ask(&Request::new(code::GET_BROKER_CLUSTER_INFO)).code,
        0
    );
    // Every request that has a header, without it: an answer that names what is missing.
    for code in [101, 102, 103, 104, 105, 205, 327, 216, 219, 224, 322] {
        let answer = line.ask(&Request::new(code));
        assert_eq!(answer.code, 1, "request {code}");
        assert!(!answer.remark.unwrap().is_empty(), "request {code}");
    }
    for body in [&b"{"[..], b"null]", b"\xff\xfe", &[b'['; 100_000]] {
        let answer = line.ask(&register("broker-x", 0, "10.0.0.1:1", body.to_vec()));
        assert_eq!(answer.code, 1, "{:?}", &body[..body.len().min(8)]);
        let packed =
            register("broker-x", 0, "10.0.0.1:1", body.to_vec()).with_field("compressed", true);
        assert_eq!(line.ask(&packed).code, 1);
    }
    assert_eq!(
        line.body(&Request::new(code::GET_BROKER_CLUSTER_INFO)),
        r#"{"brokerAddrTable":{},"clusterAddrTable":{}}"#
    );
}

#[test]
fn bytes_that_are_no_frame_end_the_connection_only() {
    let server = Running::start();
    let mut good = server.connect();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 16],
        &[0, 0, 0, 4, 0, 0, 0, 9],
        &[0, 0, 0, 8, 0, 0, 0, 4, b'n', b'o', b'p', b'e'],
    ] {
        let mut bad = server.connect();
        bad.stream.write_all(bytes).unwrap();
        assert!(bad.is_closed(), "{bytes:?}");
    }
    assert_eq!(
        good.ask(&Request::new(code::GET_BROKER_CLUSTER_INFO)).code,
        0
    );
}

#[test]
fn a_port_in_use_is_one_clear_line_and_nothing_is_written() {
    let server = Running::start();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.server.listen_port = server.address.port();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let failed = runtime.block_on(async {
        NameServer::start(
            Arc::new(Live::new(config)),
            Arc::new(OsDisk),
            Sockets::none(),
        )
        .err()
    });
    assert_eq!(
        failed.unwrap().to_string(),
        format!(
            "port {} is in use (listenPort): another program listens on it",
            server.address.port()
        )
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
