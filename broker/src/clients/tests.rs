//! Heartbeats, goodbyes and notices over real connections: a server with the handlers behind it, and clients that keep what they
//! are told.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use gantry_config::{Host, Settings};
use gantry_disk::OsDisk;
use gantry_message::Millis;
use gantry_net::{
    Peer,
    client::{Connection, Options, Reply},
    server::{Handler, Limits, Server, Verdict, listen},
};
use gantry_wire::{
    FieldSink, Request, Response,
    bodies::{ConsumerData, ConsumerIds, Heartbeat as Body, ProducerData, SubscriptionData},
    codes::request,
    frame::Frame,
};
use tokio::sync::mpsc;

use super::Clients;
use crate::{
    config::BrokerConfig,
    handlers::{clients::ClientRequests, heartbeat::Heartbeat},
    live::LiveConfig,
    refusal::Refusal,
    tables::{Groups, Topics},
};

/// Long enough for a busy machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(30);
const NOW: Millis = Millis(1_700_000_000_000);

struct Desk {
    heartbeat: Heartbeat,
    requests: ClientRequests,
    clients: Arc<Clients>,
    clock: Arc<AtomicI64>,
    gone: mpsc::UnboundedSender<u64>,
}

impl Handler for Desk {
    fn frame(&self, peer: &Peer, frame: Frame<'_>) -> Verdict {
        let header = frame.decode().unwrap();
        let request = Request::from_header(
            header,
            frame.serialization,
            bytes::Bytes::copy_from_slice(frame.body),
        );
        let now = Millis(self.clock.load(Ordering::SeqCst));
        let answer: Result<Response, Refusal> = match request.code {
            request::HEART_BEAT => match self.heartbeat.beat_if_known(peer, &request, now) {
                Some(answer) => answer,
                None => self.heartbeat.beat(peer, &request, now),
            },
            request::UNREGISTER_CLIENT => self.requests.unregister(peer, &request),
            request::GET_CONSUMER_LIST_BY_GROUP => self.requests.list(&request),
            request::CHECK_CLIENT_CONFIG => self.requests.check(&request),
            other => Err(Refusal::code_not_supported(other)),
        };
        let answer =
            answer.unwrap_or_else(|refusal| Response::refuse(refusal.code, refusal.remark));
        peer.send(|out| answer.encode(out, request.opaque, request.serialization));
        Verdict::Continue
    }

    fn closed(&self, peer: &Peer) {
        self.clients.closed(peer.id());
        self.gone.send(peer.id()).unwrap();
    }
}

/// What the tests look at beside the wire.
struct Broker {
    address: SocketAddr,
    clients: Arc<Clients>,
    groups: Arc<Groups>,
    topics: Arc<Topics>,
    /// What the broker takes for the time.
    clock: Arc<AtomicI64>,
    gone: mpsc::UnboundedReceiver<u64>,
}

/// A client that notes the groups of the notices it gets.
struct Consumer {
    connection: Connection,
    told: mpsc::UnboundedReceiver<String>,
}

fn with_broker<F: Future<Output = ()>>(
    change: impl FnOnce(&mut BrokerConfig),
    test: impl FnOnce(Broker) -> F,
) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::defaults(&Host::described());
    change(&mut config);
    let live = LiveConfig::new(config);
    let disk = Arc::new(OsDisk);
    let topics = Arc::new(Topics::load(disk.clone(), folder.path(), live.clone(), NOW).unwrap());
    let groups = Arc::new(Groups::load(disk, folder.path(), live.clone(), NOW).unwrap());
    let clients = Arc::new(Clients::new(live));
    let (gone_sender, gone) = mpsc::unbounded_channel();
    let clock = Arc::new(AtomicI64::new(NOW.0));
    let parts = (
        topics.clone(),
        groups.clone(),
        clients.clone(),
        clock.clone(),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = listen(([127, 0, 0, 1], 0).into(), 128).unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::start(vec![listener], 1, Limits::default(), move |_| {
            let (topics, groups, clients, clock) = parts.clone();
            Rc::new(Desk {
                heartbeat: Heartbeat {
                    topics,
                    groups: groups.clone(),
                    clients: clients.clone(),
                },
                requests: ClientRequests {
                    groups,
                    clients: clients.clone(),
                },
                clients,
                clock,
                gone: gone_sender.clone(),
            })
        })
        .unwrap();
        test(Broker {
            address,
            clients,
            groups,
            topics,
            clock,
            gone,
        })
        .await;
        server.stop(PATIENCE).await;
    });
}

impl Broker {
    async fn connect(&self) -> Consumer {
        let (sender, told) = mpsc::unbounded_channel();
        let options = Options {
            on_request: Some(Arc::new(move |request: Request| {
                assert_eq!(request.code, request::NOTIFY_CONSUMER_IDS_CHANGED);
                assert!(request.oneway);
                sender
                    .send(request.fields.get("consumerGroup").unwrap().to_owned())
                    .unwrap();
                None
            })),
            ..Options::default()
        };
        Consumer {
            connection: Connection::connect(&self.address.to_string(), &options)
                .await
                .unwrap(),
            told,
        }
    }
}

impl Consumer {
    async fn call(&self, code: i32, fields: &[(&str, &str)], body: &[u8]) -> Reply {
        let write = |sink: &mut gantry_wire::frame::FieldWriter<'_>| {
            fields
                .iter()
                .for_each(|(name, value)| sink.text(name, value));
        };
        self.connection
            .call(code, write, body, PATIENCE)
            .await
            .unwrap()
    }

    /// A heartbeat in one consumer group that subscribes these topics.
    async fn beat(&self, id: &str, group: &str, topics: &[&str]) -> Reply {
        let subscription = |&topic: &&str| SubscriptionData {
            topic: topic.to_owned(),
            sub_string: "*".to_owned(),
            sub_version: 1,
            ..SubscriptionData::default()
        };
        let data = ConsumerData {
            group_name: group.to_owned(),
            subscription_data_set: topics.iter().map(subscription).collect(),
            ..ConsumerData::default()
        };
        self.send_heartbeat(Body {
            client_id: id.to_owned(),
            consumer_data_set: vec![data],
            ..Body::default()
        })
        .await
    }

    async fn send_heartbeat(&self, body: Body) -> Reply {
        self.call(request::HEART_BEAT, &[], &body.encode()).await
    }

    async fn next_notice(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.told.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// The notices that came before the last answer: a notice and an answer keep their order on a connection.
    fn notices(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }

    async fn ids(&self, group: &str) -> Result<Vec<String>, (i32, String)> {
        let reply = self
            .call(
                request::GET_CONSUMER_LIST_BY_GROUP,
                &[("consumerGroup", group)],
                &[],
            )
            .await;
        match reply.code {
            0 => Ok(ConsumerIds::parse(&reply.body).unwrap().consumer_id_list),
            code => Err((code, reply.remark.unwrap_or_default())),
        }
    }
}

#[test]
fn members_are_told_when_one_joins_leaves_or_dies() {
    with_broker(
        |_| {},
        async |mut broker| {
            let mut first = broker.connect().await;
            assert_eq!(first.beat("c1", "G", &["T"]).await.code, 0);
            assert_eq!(first.notices(), ["G"], "a new member is told of itself too");
            assert_eq!(first.ids("G").await, Ok(vec!["c1".to_owned()]));

            let mut second = broker.connect().await;
            second.beat("c2", "G", &["T"]).await;
            assert_eq!(
                (second.notices(), first.next_notice().await),
                (vec!["G".to_owned()], "G".to_owned())
            );
            assert_eq!(
                first.ids("G").await,
                Ok(vec!["c1".to_owned(), "c2".to_owned()])
            );

            first.beat("c1", "G", &["T"]).await;
            second.beat("c2", "G", &["T"]).await;
            assert_eq!(
                (first.notices(), second.notices()),
                (vec![], vec![]),
                "nothing changed"
            );

            second
                .call(
                    request::UNREGISTER_CLIENT,
                    &[("clientID", "c2"), ("consumerGroup", "G")],
                    &[],
                )
                .await;
            assert_eq!(first.next_notice().await, "G");
            assert_eq!(second.notices(), Vec::<String>::new());
            assert_eq!(first.ids("G").await, Ok(vec!["c1".to_owned()]));

            second.beat("c2", "G", &["T"]).await;
            assert_eq!(first.next_notice().await, "G");
            second.connection.close();
            assert_eq!(
                first.next_notice().await,
                "G",
                "a dead connection is noticed"
            );
            broker.gone.recv().await.unwrap();
            assert_eq!(first.ids("G").await, Ok(vec!["c1".to_owned()]));
        },
    );
}

#[test]
fn a_group_nobody_is_connected_of_is_refused_in_javas_words() {
    with_broker(
        |_| {},
        async |broker| {
            let client = broker.connect().await;
            assert_eq!(
                client.ids("G").await,
                Err((1, "no consumer for this group, G".to_owned()))
            );
        },
    );
}

#[test]
fn notices_can_be_turned_off_for_a_group_and_for_the_broker() {
    for (of_broker, of_group) in [(true, false), (false, true)] {
        with_broker(
            |config| config.notify_consumer_ids_changed_enable = of_broker,
            async |broker| {
                let mut group = (*broker.groups.create("G", NOW).unwrap()).clone();
                group.notify_consumer_ids_changed_enable = of_group;
                broker.groups.put(group, NOW).unwrap();
                let mut first = broker.connect().await;
                let second = broker.connect().await;
                first.beat("c1", "G", &["T"]).await;
                second.beat("c2", "G", &["T"]).await;
                second
                    .call(
                        request::UNREGISTER_CLIENT,
                        &[("clientID", "c2"), ("consumerGroup", "G")],
                        &[],
                    )
                    .await;
                assert_eq!(first.ids("G").await, Ok(vec!["c1".to_owned()]));
                assert_eq!(
                    first.notices(),
                    Vec::<String>::new(),
                    "broker {of_broker}, group {of_group}"
                );
            },
        );
    }
}

#[test]
fn a_heartbeat_makes_the_group_and_its_retry_topic() {
    with_broker(
        |_| {},
        async |broker| {
            let client = broker.connect().await;
            let group = |name: &str, unit_mode| ConsumerData {
                group_name: name.to_owned(),
                unit_mode,
                ..ConsumerData::default()
            };
            let body = Body {
                client_id: "c1".to_owned(),
                consumer_data_set: vec![group("G", false), group("Unit", true)],
                producer_data_set: vec![ProducerData {
                    group_name: "P".to_owned(),
                }],
            };
            assert_eq!(client.send_heartbeat(body).await.code, 0);
            assert!(broker.groups.get("G").is_some());
            let made = |group: &str| {
                broker
                    .topics
                    .get(&format!("%RETRY%{group}"))
                    .map(|topic| (topic.perm, topic.topic_sys_flag))
            };
            assert_eq!(
                (made("G"), made("Unit"), made("P")),
                (Some((6, 0)), Some((6, 2)), None)
            );
            let producers = broker.clients.producers("P").unwrap();
            let member = producers.members.values().next().unwrap();
            assert_eq!(
                (&*member.client_id, member.version, member.last_update()),
                ("c1", 409, NOW)
            );
            assert!(
                broker
                    .clients
                    .peer(member)
                    .is_some_and(|peer| peer.is_open())
            );
            assert_eq!(
                broker.clients.producer_peer("c1"),
                broker.clients.peer(member)
            );
            let (consumer, peer) = broker.clients.consumer_peer("G", "c1").unwrap();
            assert_eq!(
                (consumer.connection, Some(peer)),
                (member.connection, broker.clients.producer_peer("c1"))
            );
            assert!(broker.clients.consumer_peer("G", "c2").is_none());
        },
    );
}

#[test]
fn without_automatic_creation_a_consumer_is_registered_and_nothing_is_made() {
    with_broker(
        |config| config.auto_create_subscription_group = false,
        async |broker| {
            let client = broker.connect().await;
            assert_eq!(client.beat("c1", "G", &["T"]).await.code, 0);
            assert_eq!(client.ids("G").await, Ok(vec!["c1".to_owned()]));
            assert!(broker.groups.get("G").is_none() && broker.topics.get("%RETRY%G").is_none());
        },
    );
}

#[test]
fn groups_of_a_topic_are_those_that_subscribe_it() {
    with_broker(
        |_| {},
        async |broker| {
            let client = broker.connect().await;
            client.beat("c1", "G", &["T", "U"]).await;
            client.beat("c1", "H", &["T"]).await;
            let groups = |topic: &str| {
                broker
                    .clients
                    .groups_of_topic(topic)
                    .into_iter()
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                (groups("T"), groups("U"), groups("V")),
                (
                    vec!["G".to_owned(), "H".to_owned()],
                    vec!["G".to_owned()],
                    vec![]
                )
            );
            assert!(
                broker.clients.subscription("G", "U").is_some()
                    && broker.clients.subscription("H", "U").is_none()
            );
        },
    );
}

#[test]
fn a_client_that_is_silent_is_hung_up_on_and_the_others_are_told() {
    with_broker(
        |_| {},
        async |mut broker| {
            let mut alive = broker.connect().await;
            let silent = broker.connect().await;
            alive.beat("c1", "G", &["T"]).await;
            silent.beat("c2", "G", &["T"]).await;
            assert_eq!(
                [alive.next_notice().await, alive.next_notice().await],
                ["G", "G"]
            );
            broker.clock.store(NOW.0 + 60_000, Ordering::SeqCst);
            alive.beat("c1", "G", &["T"]).await;
            assert_eq!(broker.clients.step(NOW.plus(120_000)), NOW.plus(130_000));
            assert_eq!(alive.ids("G").await.unwrap().len(), 2);
            broker.clients.step(NOW.plus(120_001));
            assert_eq!(broker.clients.consumer_ids("G"), ["c1"]);
            assert_eq!(alive.next_notice().await, "G");
            silent.connection.closed().await;
            broker.gone.recv().await.unwrap();
            assert_eq!(
                alive.notices(),
                Vec::<String>::new(),
                "the end of the connection is not told again"
            );
        },
    );
}

#[test]
fn limits_are_named_and_the_other_groups_of_the_heartbeat_are_registered() {
    with_broker(
        |config| config.max_consumers_per_group = 1,
        async |broker| {
            let first = broker.connect().await;
            let second = broker.connect().await;
            first.beat("c1", "Full", &["T"]).await;
            let group = |name: &str| ConsumerData {
                group_name: name.to_owned(),
                ..ConsumerData::default()
            };
            let long = "g".repeat(256);
            let body = Body {
                client_id: "c2".to_owned(),
                consumer_data_set: vec![group("Full"), group("Free"), group(&long)],
                ..Body::default()
            };
            let reply = second.send_heartbeat(body).await;
            assert_eq!(
                (reply.code, reply.remark.as_deref()),
                (
                    1,
                    Some("the consumer group[Full] has 1 members, limit maxConsumersPerGroup=1")
                )
            );
            assert_eq!(second.ids("Free").await, Ok(vec!["c2".to_owned()]));
            assert_eq!(second.ids("Full").await, Ok(vec!["c1".to_owned()]));
            assert!(broker.clients.consumer(&long).is_none());
        },
    );
}

#[test]
fn a_body_that_is_no_heartbeat_is_an_answer_and_the_connection_goes_on() {
    with_broker(
        |_| {},
        async |broker| {
            let client = broker.connect().await;
            for body in [
                &b""[..],
                b"[]",
                b"{\"clientID\":",
                b"{\"consumerDataSet\":7}",
            ] {
                let reply = client.call(request::HEART_BEAT, &[], body).await;
                assert_eq!(
                    reply.code,
                    1,
                    "{:?}: {:?}",
                    String::from_utf8_lossy(body),
                    reply.remark
                );
                assert!(reply.remark.is_some());
            }
            assert_eq!(client.beat("c1", "G", &["T"]).await.code, 0);
            let reply = client.call(request::UNREGISTER_CLIENT, &[], &[]).await;
            assert_eq!(
                (reply.code, reply.remark.as_deref()),
                (1, Some("UnregisterClientRequestHeader.clientID is missing"))
            );
        },
    );
}

#[test]
fn only_tag_subscriptions_pass_the_check() {
    with_broker(
        |_| {},
        async |broker| {
            let client = broker.connect().await;
            let cases = [
                (
                    r#"{"subscriptionData":{"expressionType":"TAG","subString":"a"}}"#,
                    0,
                    None,
                ),
                (
                    r#"{"subscriptionData":{"expressionType":null,"subString":"a"}}"#,
                    0,
                    None,
                ),
                (
                    r#"{"subscriptionData":{"expressionType":"","subString":"a"}}"#,
                    0,
                    None,
                ),
                (r#"{"clientId":"c1"}"#, 0, None),
                (
                    r#"{"subscriptionData":{"expressionType":"SQL92","subString":"a = 1"}}"#,
                    1,
                    Some("The broker does not support consumer to filter message by SQL92"),
                ),
            ];
            for (body, code, remark) in cases {
                let reply = client
                    .call(request::CHECK_CLIENT_CONFIG, &[], body.as_bytes())
                    .await;
                assert_eq!(
                    (reply.code, reply.remark.as_deref()),
                    (code, remark),
                    "{body}"
                );
            }
        },
    );
}
