//! A whole broker on a store of its own, asked over real connections: who is refused with which words, what is stored as
//! which record, who waits for what and who is told at the end.

mod latch;
mod metrics;
mod promotions;
mod pulls;
mod replicas;
mod sends;
mod slave;
mod starting;

use std::{io::Read, net::TcpStream, path::Path, time::Duration};

use gantry_config::{Bind, Host, Settings};
use gantry_message::{RecordView, batch};
use gantry_net::client::{Connection, Options, Pending, Reply};
use gantry_service::StopOrder;
use gantry_wire::{
    FieldSink,
    bodies::{ConsumerData, Heartbeat, SubscriptionData},
    codes::{request, response},
    frame::{self, FieldWriter, RequestHead, Serialization},
};

use super::*;
use crate::{
    config::{BrokerRole, FlushDiskType},
    standing,
};

/// Long enough for a busy machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(30);

fn config(folder: &Path) -> BrokerConfig {
    let mut config = BrokerConfig::defaults(&Host::described());
    config.broker_name = "broker-a".to_owned();
    config.broker_ip1 = Some("127.0.0.1".to_owned());
    config.server.bind_address = Bind([127, 0, 0, 1].into());
    config.server.listen_port = 0;
    config.store.ha_listen_port = 0;
    config.server.io_threads = 1;
    config.metrics_port = Some(0);
    config.store.store_path_root_dir = folder.join("store").to_string_lossy().into_owned();
    config.store.mapped_file_size_commit_log = 1 << 20;
    config.store.mapped_file_size_consume_queue = 20 * 1_000;
    config.store.max_hash_slot_num = 64;
    config.store.max_index_num = 256;
    config
}

/// Starts a broker with a changed configuration and a client of it; the test stops the broker, or leaves that to us.
fn with_broker(
    change: impl FnOnce(&mut BrokerConfig),
    test: impl AsyncFnOnce(Broker, Client) -> Option<Broker>,
) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    change(&mut config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let broker = Broker::start(config).await.unwrap();
        let client = Client::connect(&broker).await;
        if let Some(broker) = test(broker, client).await {
            broker.stop().await.unwrap();
        }
    });
}

struct Client(Connection);

impl Client {
    async fn connect(broker: &Broker) -> Client {
        let connected =
            Connection::connect(&broker.address().to_string(), &Options::default()).await;
        Client(connected.unwrap())
    }

    async fn ask(&self, code: i32, fields: &[(String, String)], body: &[u8]) -> Reply {
        self.0
            .call(code, write(fields), body, PATIENCE)
            .await
            .unwrap()
    }

    fn begin(&self, code: i32, fields: &[(String, String)]) -> Pending {
        self.0.start(code, write(fields), []).unwrap()
    }

    /// Stores a first message and makes the group that pulls: nothing is made any more when a pull comes.
    async fn prepare(&self, tag: &str) {
        assert_eq!(self.send(&format!("i=TAGS:{tag}")).await.code, 0);
        assert_eq!(self.pull("").await.code, 0);
    }

    /// Returns when everything sent before on this connection was looked at.
    async fn settle(&self) {
        let reply = self
            .ask(
                request::GET_MAX_OFFSET,
                &fields("topic=T queueId=0", ""),
                b"",
            )
            .await;
        assert_eq!(reply.code, 0);
    }

    async fn send(&self, changes: &str) -> Reply {
        self.ask(request::SEND_MESSAGE_V2, &send_fields(changes), b"body")
            .await
    }

    async fn pull(&self, changes: &str) -> Reply {
        self.ask(request::PULL_MESSAGE, &pull_fields(changes), b"")
            .await
    }

    /// A heartbeat of a consumer group that subscribes a topic.
    async fn subscribe(&self, group: &str, topic: &str, expression: &str) -> Reply {
        let subscription = SubscriptionData {
            topic: topic.to_owned(),
            sub_string: expression.to_owned(),
            sub_version: 5,
            ..SubscriptionData::default()
        };
        self.beat(group, vec![subscription]).await
    }

    async fn beat(&self, group: &str, subscription_data_set: Vec<SubscriptionData>) -> Reply {
        let data = ConsumerData {
            group_name: group.to_owned(),
            subscription_data_set,
            ..ConsumerData::default()
        };
        let body = Heartbeat {
            client_id: "client".to_owned(),
            consumer_data_set: vec![data],
            ..Heartbeat::default()
        };
        self.ask(request::HEART_BEAT, &[], &body.encode()).await
    }
}

fn write(fields: &[(String, String)]) -> impl FnMut(&mut FieldWriter<'_>) + '_ {
    move |sink| {
        for (name, value) in fields {
            sink.text(name, value);
        }
    }
}

/// `name=value` pairs over the defaults; `-name` takes one away. In values `:` and `;` stand for what separates properties.
fn fields(defaults: &str, changes: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for change in defaults.split(' ').chain(changes.split(' ')) {
        let name = change.split('=').next().unwrap().trim_start_matches('-');
        fields.retain(|(known, _)| known != name);
        if let Some((name, value)) = change.split_once('=') {
            fields.push((name.to_owned(), properties(value)));
        }
    }
    fields
}

fn properties(text: &str) -> String {
    text.replace(':', "\u{1}").replace(';', "\u{2}")
}

fn send_fields(changes: &str) -> Vec<(String, String)> {
    fields("a=PG b=T c=TBW102 d=4 e=0 f=0 g=7 h=0", changes)
}

fn pull_fields(changes: &str) -> Vec<(String, String)> {
    let defaults = "consumerGroup=G topic=T queueId=0 queueOffset=0 maxMsgNums=32 sysFlag=4 commitOffset=0 \
                    suspendTimeoutMillis=0 subscription=* subVersion=0";
    fields(defaults, changes)
}

fn number(reply: &Reply, name: &str) -> i64 {
    reply.fields.get(name).unwrap().parse().unwrap()
}

/// The records of an answer, each as `topic queue offset reconsumed: properties`.
fn records(reply: &Reply) -> Vec<String> {
    let mut rest = &reply.body[..];
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let view = RecordView::parse(&rest[..length]).unwrap();
        view.verify_crc().unwrap();
        let text = String::from_utf8(view.properties().to_vec()).unwrap();
        lines.push(format!(
            "{} {} {} {}: {}",
            view.topic(),
            view.queue_id().0,
            view.queue_offset().0,
            view.reconsume_times(),
            text.replace('\u{1}', ":").replace('\u{2}', ";")
        ));
        rest = &rest[length..];
    }
    lines
}

/// The body of a batch with a message for each properties text.
fn batch_of(texts: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for text in texts {
        let item = batch::Item {
            flag: 0,
            body: b"x",
            properties: &properties(text).into_bytes(),
        };
        assert!(batch::push(&mut body, &item));
    }
    body
}

fn frame_of(code: i32, opaque: i32, oneway: bool, fields: &[(String, String)]) -> Vec<u8> {
    let head = RequestHead {
        code,
        opaque,
        oneway,
    };
    let mut out = Vec::new();
    frame::encode_request(
        &mut out,
        Serialization::Json,
        &head,
        &mut write(fields),
        b"body",
    )
    .unwrap();
    out
}

/// All answers until the connection ends, as opaque and code.
fn answers(stream: &mut TcpStream) -> Vec<(i32, i32)> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    // An end and a reset are the same here.
    while let Ok(count @ 1..) = stream.read(&mut part) {
        bytes.extend_from_slice(&part[..count]);
    }
    let mut rest = &bytes[..];
    let mut answers = Vec::new();
    while let Some(frame) = frame::split(rest, frame::FRAME_MAX).unwrap() {
        let header = frame.decode().unwrap();
        answers.push((header.opaque, header.code));
        rest = &rest[frame.size..];
    }
    answers
}

#[test]
fn what_was_read_before_an_end_or_a_bad_frame_is_answered() {
    for end in [&b""[..], b"\xff\xff\xff\xff", b"\0\0\0\x08\0\0\0\x04{{{{"] {
        with_broker(
            |_| {},
            async |broker, client| {
                assert_eq!(client.send("").await.code, 0, "the topic is made");
                let address = broker.address();
                let end = end.to_vec();
                let talk = move || {
                    use std::io::Write;
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let mut bytes = frame_of(request::SEND_MESSAGE_V2, 1, false, &send_fields(""));
                    // One-way requests are not answered, refused or not.
                    for changes in ["", "b=", "b=%RETRY%X e=9", "-e"] {
                        bytes.extend(frame_of(
                            request::SEND_MESSAGE_V2,
                            2,
                            true,
                            &send_fields(changes),
                        ));
                    }
                    bytes.extend(frame_of(
                        request::PULL_MESSAGE,
                        3,
                        true,
                        &pull_fields("sysFlag=6"),
                    ));
                    bytes.extend(frame_of(
                        request::PULL_MESSAGE,
                        4,
                        true,
                        &pull_fields("topic=U"),
                    ));
                    bytes.extend(frame_of(
                        request::SEND_MESSAGE_V2,
                        5,
                        false,
                        &send_fields(""),
                    ));
                    bytes.extend(end);
                    stream.write_all(&bytes).unwrap();
                    stream.shutdown(std::net::Shutdown::Write).unwrap();
                    answers(&mut stream)
                };
                let answers = tokio::task::spawn_blocking(talk).await.unwrap();
                assert_eq!(answers, [(1, 0), (5, 0)]);
                Some(broker)
            },
        );
    }
}

#[test]
fn a_permission_that_was_read_again_is_announced() {
    with_broker(
        |_| {},
        async |broker, _| {
            let before = broker.topics.generation();
            let mut fresh = BrokerConfig::clone(&broker.live.now());
            assert!(broker.reload(&fresh, broker.config_generation()));
            assert_eq!(broker.topics.generation(), before);
            fresh.broker_permission = 4;
            assert!(broker.reload(&fresh, broker.config_generation()));
            // It is written before it is announced, elsewhere.
            while broker.topics.generation() == before {
                tokio::task::yield_now().await;
            }
            Some(broker)
        },
    );
}

#[test]
fn a_change_by_request_outlives_files_that_were_read_before_it() {
    with_broker(
        |_| {},
        async |broker, client| {
            // SIGHUP: the files are being read,
            let generation = broker.config_generation();
            let mut fresh = BrokerConfig::clone(&broker.live.now());
            // and an administrator changes something.
            let update = client
                .ask(request::UPDATE_BROKER_CONFIG, &[], b"brokerPermission=4")
                .await;
            assert_eq!(update.code, 0, "{:?}", update.remark);
            assert!(!broker.reload(&fresh, generation), "what was read is old");
            assert_eq!(broker.live.now().broker_permission, 4);
            // Read again, with the change in the override file.
            fresh.broker_permission = 4;
            assert!(broker.reload(&fresh, broker.config_generation()));
            assert_eq!(broker.live.now().broker_permission, 4);
            Some(broker)
        },
    );
}

#[test]
fn a_group_cannot_lead_out_of_the_folder_of_the_queues() {
    with_broker(
        |_| {},
        async |broker, client| {
            let reply = client.send("").await;
            let group = "../../../../x";
            // Its consumers are registered, as those of any group that is not made by use.
            assert_eq!(client.subscribe(group, "T", "*").await.code, 0);
            assert!(broker.topics.get("%RETRY%../../../../x").is_none());
            let offset = reply.fields.get("msgId").unwrap()[16..].to_owned();
            let offset = i64::from_str_radix(&offset, 16).unwrap();
            let back = fields(&format!("offset={offset} group={group} delayLevel=-1"), "");
            let reply = client
                .ask(request::CONSUMER_SEND_MSG_BACK, &back, b"")
                .await;
            assert_eq!(reply.code, response::SUBSCRIPTION_GROUP_NOT_EXIST);
            let reply = client.send("b=%RETRY%../../../../x").await;
            assert_eq!(reply.code, response::SYSTEM_ERROR, "{reply:?}");
            assert_eq!(broker.store.topics(), ["SCHEDULE_TOPIC_XXXX", "T"]);
            Some(broker)
        },
    );
}

#[test]
fn groups_need_not_be_called_like_topics() {
    with_broker(
        |_| {},
        async |broker, client| {
            let reply = client.send("").await;
            let id = reply.fields.get("msgId").unwrap();
            let offset = i64::from_str_radix(&id[16..], 16).unwrap();
            let long = "g".repeat(121);
            for (group, back, sent) in [
                (
                    "a.b",
                    (0, ""),
                    (1, "The specified topic contains illegal characters"),
                ),
                (
                    &long,
                    (1, "MESSAGE_ILLEGAL"),
                    (1, "The specified topic is longer"),
                ),
            ] {
                assert_eq!(client.subscribe(group, "T", "*").await.code, 0);
                let header = format!("offset={offset} group={group} delayLevel=18");
                let code = request::CONSUMER_SEND_MSG_BACK;
                let reply = client.ask(code, &fields(&header, ""), b"").await;
                let remark = reply.remark.unwrap_or_default();
                assert!(
                    reply.code == back.0 && remark.starts_with(back.1),
                    "{group}: {} {remark}",
                    reply.code
                );
                let reply = client.send(&format!("b=%RETRY%{group} i=DELAY:18")).await;
                let remark = reply.remark.unwrap_or_default();
                assert!(
                    reply.code == sent.0 && remark.starts_with(sent.1),
                    "{group}: {} {remark}",
                    reply.code
                );
            }
            let waiting = client.pull("topic=SCHEDULE_TOPIC_XXXX queueId=17").await;
            assert_eq!(records(&waiting).len(), 1, "of what was refused, nothing");
            Some(broker)
        },
    );
}
