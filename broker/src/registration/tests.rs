//! Registrations over real connections, at name servers that keep what they were asked and answer as they are told.

use std::{
    cell::RefCell,
    net::SocketAddr,
    path::Path,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use gantry_config::{Host, Settings};
use gantry_disk::{
    OsDisk,
    faulty::{FaultyDisk, Operation},
};
use gantry_message::{Epoch, Millis, QueueId, Record, SysFlag};
use gantry_net::{
    Peer,
    server::{Handler, Limits, Server, Verdict, listen},
};
use gantry_replication::{Part, Seat};
use gantry_store::{Store, StoreConfig, Tags};
use gantry_wire::{
    Request, Response,
    bodies::{KvTable, Registration as Body, TopicConfig, body_crc32},
    codes::request,
    frame::Frame,
    headers,
};
use socket2::{Domain, Socket, Type};
use tokio::sync::mpsc;

use super::{Identity, Registration};
use crate::{
    config::BrokerConfig,
    latch,
    live::LiveConfig,
    seats::{self, Seats, Seen},
    tables::Topics,
};

/// Long enough for a busy machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(30);
const NOW: Millis = Millis(1_700_000_000_000);

/// How a name server answers from now on; `None` not at all.
type Script = Arc<Mutex<Option<Response>>>;

struct NameServer {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<Request>,
    script: Script,
    hang_up: mpsc::UnboundedSender<()>,
    server: Server,
}

struct Asked {
    script: Script,
    requests: mpsc::UnboundedSender<Request>,
    peers: Rc<RefCell<Vec<Peer>>>,
}

impl Handler for Asked {
    fn opened(&self, peer: &Peer) {
        self.peers.borrow_mut().push(peer.clone());
    }

    fn frame(&self, peer: &Peer, frame: Frame<'_>) -> Verdict {
        let header = frame.decode().unwrap();
        let request = Request::from_header(
            header,
            frame.serialization,
            bytes::Bytes::copy_from_slice(frame.body),
        );
        let answer = self.script.lock().unwrap().clone();
        if let Some(answer) = answer {
            peer.send(|out| answer.encode(out, request.opaque, request.serialization));
        }
        // The test may be over.
        let _ = self.requests.send(request);
        Verdict::Continue
    }
}

impl NameServer {
    fn start(answer: Option<Response>) -> NameServer {
        let listener = listen(([127, 0, 0, 1], 0).into(), 16).unwrap();
        let address = listener.local_addr().unwrap();
        let script: Script = Arc::new(Mutex::new(answer));
        let (sender, requests) = mpsc::unbounded_channel();
        let (hang_up, hang_ups) = mpsc::unbounded_channel();
        let (shared, hang_ups) = (script.clone(), Mutex::new(Some(hang_ups)));
        let server = Server::start(vec![listener], 1, Limits::default(), move |_| {
            let peers: Rc<RefCell<Vec<Peer>>> = Rc::default();
            let (open, mut hang_ups) = (peers.clone(), hang_ups.lock().unwrap().take().unwrap());
            tokio::task::spawn_local(async move {
                while hang_ups.recv().await.is_some() {
                    open.borrow_mut().drain(..).for_each(|peer| peer.close());
                }
            });
            Rc::new(Asked {
                script: shared.clone(),
                requests: sender.clone(),
                peers,
            })
        })
        .unwrap();
        NameServer {
            address,
            requests,
            script,
            hang_up,
            server,
        }
    }

    fn answer(&self, answer: Option<Response>) {
        *self.script.lock().unwrap() = answer;
    }

    async fn next(&mut self) -> Request {
        tokio::time::timeout(PATIENCE, self.requests.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// The next request, which must be a registration: its topics by name with their permissions, and the data version's counter.
    async fn registered(&mut self) -> (Vec<(String, i32)>, i64) {
        let request = self.next().await;
        assert_eq!(request.code, request::REGISTER_BROKER);
        let header: headers::RegisterBroker<'_> = request.header().unwrap();
        assert_eq!(header.body_crc32, body_crc32(&request.body));
        let table = Body::read(&request.body, header.compressed)
            .unwrap()
            .topic_config_serialize_wrapper;
        let topics = table
            .topic_config_table
            .values()
            .map(|topic| (topic.topic_name.clone(), topic.perm))
            .collect();
        (topics, table.data_version.counter)
    }
}

struct Broker {
    registration: Arc<Registration>,
    seats: Arc<Seats>,
    topics: Arc<Topics>,
    live: Arc<LiveConfig>,
    store: Arc<Store>,
    disk: FaultyDisk,
    _folder: tempfile::TempDir,
}

impl Broker {
    fn new(name_servers: &[SocketAddr], change: impl FnOnce(&mut BrokerConfig)) -> Broker {
        let folder = tempfile::tempdir().unwrap();
        let mut config = BrokerConfig::defaults(&Host::described());
        config.broker_name = "broker-a".to_owned();
        let list: Vec<String> = name_servers.iter().map(SocketAddr::to_string).collect();
        config.namesrv_addr = Some(list.join(";"));
        change(&mut config);
        let live = LiveConfig::new(config);
        let topics =
            Arc::new(Topics::load(Arc::new(OsDisk), folder.path(), live.clone(), NOW).unwrap());
        let identity = Identity {
            cluster: "DefaultCluster".to_owned(),
            broker: "broker-a".to_owned(),
            broker_id: 0,
            address: "10.0.0.1:10911".to_owned(),
            ha_address: "10.0.0.2:10912".to_owned(),
        };
        let disk = FaultyDisk::new(1);
        let store = StoreConfig {
            segment_size: 4096,
            ..StoreConfig::at("/store")
        };
        let store = Store::open(Arc::new(disk.clone()), store, NOW).unwrap();
        let part = seats::configured(&live.now());
        let seats = Seats::load(
            Arc::new(disk.clone()),
            Path::new("/store"),
            ("broker-a", part),
        )
        .unwrap();
        seats.guard(&store);
        let registration = Arc::new(Registration::new(
            identity,
            live.clone(),
            topics.clone(),
            (store.clone(), seats.clone()),
        ));
        Broker {
            registration,
            seats,
            topics,
            live,
            store,
            disk,
            _folder: folder,
        }
    }

    async fn create(&self, name: &str) {
        let config = TopicConfig {
            topic_name: name.to_owned(),
            ..TopicConfig::default()
        };
        let topics = self.topics.clone();
        tokio::task::spawn_blocking(move || topics.create(config, NOW))
            .await
            .unwrap()
            .unwrap();
    }

    /// A write to the log fails.
    fn latch(&self) {
        const EIO: i32 = 5;
        let record = Record {
            topic: "T",
            queue_id: QueueId(0),
            flag: 0,
            sys_flag: SysFlag(0),
            born_time: NOW,
            born_host: "10.0.0.9:5555".parse().unwrap(),
            store_host: "10.0.0.1:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_offset: 0,
            body: b"body",
            properties: b"",
        };
        self.disk.fail(Operation::Write, 1, EIO);
        let queue = self.store.queue("T", QueueId(0));
        self.store.append(&queue, &record, Tags::Code(0));
        assert!(latch::is_latched(&self.store));
    }

    /// As an administrator's request waits.
    async fn announced(&self) -> bool {
        let (registration, generation) = (self.registration.clone(), self.topics.generation());
        tokio::task::spawn_blocking(move || registration.wait_announced(generation, PATIENCE))
            .await
            .unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .topics
            .all()
            .entries
            .keys()
            .map(|name| name.to_string())
            .collect();
        names.sort_unstable();
        names
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test)
}

/// A port that refuses connections, and stays taken as long as the socket lives.
fn closed_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn only_names(topics: &[(String, i32)]) -> Vec<String> {
    topics.iter().map(|(name, _)| name.clone()).collect()
}

#[test]
fn a_start_registers_everything_at_every_name_server_and_a_stop_takes_it_out() {
    run(async {
        let mut servers = [
            NameServer::start(Some(Response::ok())),
            NameServer::start(Some(Response::ok())),
        ];
        let broker = Broker::new(&[servers[0].address, servers[1].address], |_| {});
        broker.registration.start();
        for server in &mut servers {
            let request = server.next().await;
            assert_eq!(request.code, request::REGISTER_BROKER);
            let header: headers::RegisterBroker<'_> = request.header().unwrap();
            assert_eq!(
                (
                    header.cluster_name,
                    header.broker_name,
                    header.broker_id,
                    header.broker_addr,
                    header.ha_server_addr
                ),
                (
                    "DefaultCluster",
                    "broker-a",
                    0,
                    "10.0.0.1:10911",
                    "10.0.0.2:10912"
                )
            );
            assert_eq!(
                (header.compressed, header.body_crc32),
                (false, body_crc32(&request.body))
            );
            let body = Body::read(&request.body, false).unwrap();
            assert_eq!(
                body.topic_config_serialize_wrapper,
                broker.topics.wire_table()
            );
            assert_eq!(body.filter_server_list, Vec::<String>::new());
        }
        assert!(broker.announced().await);
        let mut expected = [servers[0].address, servers[1].address];
        expected.sort_unstable();
        assert_eq!(broker.registration.registered_at(), expected);
        broker.registration.stop().await;
        for server in &mut servers {
            let request = server.next().await;
            assert_eq!(request.code, request::UNREGISTER_BROKER);
            let header: headers::UnregisterBroker<'_> = request.header().unwrap();
            assert_eq!(
                (
                    header.cluster_name,
                    header.broker_name,
                    header.broker_id,
                    header.broker_addr
                ),
                ("DefaultCluster", "broker-a", 0, "10.0.0.1:10911")
            );
        }
    });
}

#[test]
fn a_new_topic_is_announced_at_once_and_alone_and_one_can_wait_for_it() {
    run(async {
        let mut server = NameServer::start(Some(Response::ok()));
        let broker = Broker::new(&[server.address], |_| {});
        broker.registration.start();
        let (_, before) = server.registered().await;
        assert!(broker.announced().await);
        broker.create("New").await;
        assert!(broker.announced().await);
        let (topics, counter) = server.registered().await;
        assert_eq!((topics, counter), (vec![("New".to_owned(), 6)], before + 1));
        broker.registration.stop().await;
    });
}

#[test]
fn a_changed_permission_is_announced_for_all_topics_under_a_new_version() {
    run(async {
        let mut server = NameServer::start(Some(Response::ok()));
        let broker = Broker::new(&[server.address], |_| {});
        broker.registration.start();
        let (_, before) = server.registered().await;
        assert!(broker.announced().await);
        let mut config = (*broker.live.now()).clone();
        config.broker_permission = 4;
        broker.live.replace(config);
        let topics = broker.topics.clone();
        tokio::task::spawn_blocking(move || topics.touch(NOW))
            .await
            .unwrap()
            .unwrap();
        let (topics, counter) = server.registered().await;
        assert_eq!((only_names(&topics), counter), (broker.names(), before + 1));
        assert!(topics.iter().all(|(_, perm)| *perm == 4), "{topics:?}");
        broker.registration.stop().await;
    });
}

#[test]
fn a_latched_store_takes_the_permission_to_write_from_every_name_server_for_good() {
    run(async {
        let mut servers = [
            NameServer::start(Some(Response::ok())),
            NameServer::start(Some(Response::ok())),
        ];
        let addresses = [servers[0].address, servers[1].address];
        let broker = Broker::new(&addresses, |config| {
            config.register_name_server_period = 10_000
        });
        broker.registration.start();
        let watch = tokio::spawn(latch::watch(broker.store.clone(), broker.topics.clone()));
        let mut before = 0;
        for server in &mut servers {
            let (topics, counter) = server.registered().await;
            assert!(topics.iter().any(|(_, perm)| *perm & 2 != 0), "{topics:?}");
            before = counter;
        }
        assert!(broker.announced().await);
        broker.latch();
        for server in &mut servers {
            let (topics, counter) = server.registered().await;
            assert_eq!((only_names(&topics), counter), (broker.names(), before + 1));
            assert!(topics.iter().all(|(_, perm)| perm & 2 == 0), "{topics:?}");
        }
        assert!(broker.announced().await);
        // Neither a new topic nor a change of brokerPermission nor a new connection brings it back.
        broker.create("New").await;
        let (topics, _) = servers[0].registered().await;
        assert_eq!(topics, [("New".to_owned(), 4)]);
        let mut config = (*broker.live.now()).clone();
        config.broker_permission = 7;
        broker.live.replace(config);
        let topics = broker.topics.clone();
        tokio::task::spawn_blocking(move || topics.touch(NOW))
            .await
            .unwrap()
            .unwrap();
        let (topics, _) = servers[0].registered().await;
        assert!(topics.iter().all(|(_, perm)| perm & 2 == 0), "{topics:?}");
        servers[0].hang_up.send(()).unwrap();
        let (topics, _) = servers[0].registered().await;
        assert_eq!(only_names(&topics), broker.names());
        assert!(topics.iter().all(|(_, perm)| perm & 2 == 0), "{topics:?}");
        watch.abort();
        broker.registration.stop().await;
    });
}

#[test]
fn a_lost_connection_is_followed_by_everything_again() {
    run(async {
        let mut server = NameServer::start(Some(Response::ok()));
        let broker = Broker::new(&[server.address], |_| {});
        broker.registration.start();
        server.registered().await;
        broker.create("New").await;
        server.registered().await;
        assert!(broker.announced().await);
        server.hang_up.send(()).unwrap();
        let (topics, _) = server.registered().await;
        assert_eq!(only_names(&topics), broker.names());
        broker.registration.stop().await;
    });
}

#[test]
fn a_name_server_that_is_away_or_mute_holds_up_no_other() {
    run(async {
        let (_taken, away) = closed_port();
        let mut mute = NameServer::start(None);
        let mut server = NameServer::start(Some(Response::ok()));
        let broker = Broker::new(&[away, mute.address, server.address], |config| {
            config.register_broker_timeout_mills = 600_000;
        });
        broker.registration.start();
        server.registered().await;
        mute.next().await;
        broker.create("New").await;
        let (topics, _) = server.registered().await;
        assert_eq!(only_names(&topics), ["New"]);
        broker.registration.stop().await;
        assert_eq!(server.next().await.code, request::UNREGISTER_BROKER);
        assert!(
            mute.requests.try_recv().is_err(),
            "what did not take the broker in is not asked to let it go"
        );
    });
}

#[test]
fn a_name_server_that_is_away_is_not_waited_for() {
    run(async {
        let (_taken, away) = closed_port();
        let mut server = NameServer::start(Some(Response::ok()));
        let broker = Broker::new(&[away, server.address], |_| {});
        broker.registration.start();
        server.registered().await;
        assert!(broker.announced().await);
        assert_eq!(broker.registration.registered_at(), [server.address]);
        broker.registration.stop().await;
    });
}

#[test]
fn a_refusal_is_tried_again_and_never_taken_out() {
    run(async {
        let mut server = NameServer::start(Some(Response::refuse(
            1,
            "broker-a belongs to 10.0.0.9:10911",
        )));
        let broker = Broker::new(&[server.address], |_| {});
        broker.registration.start();
        server.registered().await;
        assert!(
            broker.announced().await,
            "a name server that refuses is not waited for"
        );
        assert!(broker.registration.registered_at().is_empty());
        let refusal = broker.registration.refusal().unwrap();
        let holder = "refuses this broker: broker-a belongs to 10.0.0.9:10911";
        assert!(refusal.ends_with(holder), "{refusal}");
        server.answer(Some(Response::ok()));
        let (topics, _) = server.registered().await;
        assert_eq!(only_names(&topics), broker.names());
        server.answer(Some(Response::refuse(
            1,
            "broker-a belongs to 10.0.0.9:10911",
        )));
        broker.create("New").await;
        server.registered().await;
        assert!(broker.announced().await);
        broker.registration.stop().await;
        while let Ok(request) = server.requests.try_recv() {
            assert_eq!(request.code, request::REGISTER_BROKER);
        }
        server.server.stop(PATIENCE).await;
    });
}

#[test]
fn compressed_registrations_say_so() {
    run(async {
        let mut server = NameServer::start(Some(Response::ok()));
        let broker = Broker::new(&[server.address], |config| {
            config.compressed_register = true
        });
        broker.registration.start();
        let (topics, _) = server.registered().await;
        assert_eq!(only_names(&topics), broker.names());
        broker.registration.stop().await;
    });
}

#[test]
fn ordered_topics_follow_the_first_name_server_of_the_list() {
    run(async {
        let table = |topic: &str| {
            let table = [(topic.to_owned(), "broker-a:4".to_owned())].into();
            Some(Response::with_body(KvTable { table }.encode()))
        };
        let mut first = NameServer::start(table("A"));
        let second = NameServer::start(table("B"));
        let broker = Broker::new(&[first.address, second.address], |_| {});
        broker.create("A").await;
        broker.create("B").await;
        broker.registration.start();
        first.registered().await;
        // The flag is a change of the table, which is announced in turn.
        let mut announced = Vec::new();
        while !announced.contains(&"A".to_owned()) || !broker.topics.is_order("A") {
            announced = only_names(&first.registered().await.0);
        }
        assert!(broker.announced().await);
        broker.registration.stop().await;
        assert!(broker.topics.is_order("A") && !broker.topics.is_order("B"));
    });
}

#[test]
fn without_name_servers_nothing_is_waited_for() {
    run(async {
        let broker = Broker::new(&[], |config| config.namesrv_addr = None);
        broker.registration.start();
        assert!(broker.announced().await);
        assert!(broker.registration.registered_at().is_empty());
        broker.registration.stop().await;
    });
}

#[test]
fn a_slave_learns_where_its_master_is() {
    run(async {
        let answer = Response::ok().header(&headers::RegisterBrokerAnswer {
            ha_server_addr: Some("10.0.0.5:10912"),
            master_addr: Some("10.0.0.5:10911"),
        });
        let mut server = NameServer::start(Some(answer));
        let broker = Broker::new(&[server.address], |_| {});
        broker.registration.start();
        server.registered().await;
        // The next exchange begins after the answer of the last one was taken.
        broker.create("New").await;
        server.registered().await;
        let master = broker.registration.master();
        assert_eq!(master.address.as_deref(), Some("10.0.0.5:10911"));
        assert_eq!(master.ha_address.as_deref(), Some("10.0.0.5:10912"));
        // The master goes: whoever waits is told, and where it replicates from is kept.
        let mut masters = broker.registration.masters();
        masters.mark_unchanged();
        server.answer(Some(Response::ok()));
        broker.create("Newer").await;
        masters.changed().await.unwrap();
        let master = broker.registration.master();
        assert_eq!(master.address, None);
        assert_eq!(master.ha_address.as_deref(), Some("10.0.0.5:10912"));
        broker.registration.stop().await;
    });
}

#[test]
fn a_master_hears_of_its_replacement_with_an_answer_or_a_refusal_and_leaves_the_new_one_alone() {
    let newest = Epoch::NONE.next(1);
    for answer in [
        Response::ok().field(headers::EPOCH, newest),
        Response::refuse(1, "replaced").field(headers::EPOCH, newest),
    ] {
        run(async {
            let mut server = NameServer::start(Some(answer));
            let broker = Broker::new(&[server.address], |_| {});
            let changed = broker.seats.changed();
            broker.registration.start();
            let request = server.next().await;
            assert_eq!(request.code, request::REGISTER_BROKER);
            assert_eq!(request.fields.get(headers::EPOCH), None, "never promoted");
            changed.await;
            assert_eq!(broker.seats.now().part, Part::Fenced);
            let refused = broker.store.check_writable().unwrap_err().to_string();
            assert!(refused.contains("replaced by promotion 1.1"), "{refused}");
            // A restart finds it so.
            let again = broker.disk.content(Path::new("/store/gantry.epoch"));
            let (saved, _) = Seat::decode(&again.unwrap()).unwrap();
            assert_eq!((saved.epoch, saved.part), (newest, Part::Fenced));
            broker.registration.stop().await;
            let left = |asked: Request| asked.code == request::UNREGISTER_BROKER;
            assert!(
                !server.requests.try_recv().is_ok_and(left),
                "with Apache's name servers that would take the new master out"
            );
        });
    }
}

#[test]
fn a_registration_carries_the_promotion_and_an_older_answer_changes_nothing() {
    run(async {
        let older = Response::ok().field(headers::EPOCH, Epoch::NONE.next(1));
        let mut server = NameServer::start(Some(older));
        let broker = Broker::new(&[server.address], |config| {
            config.store.broker_role = crate::config::BrokerRole::Slave;
            config.broker_id = 2;
        });
        let (seats, epoch) = (
            broker.seats.clone(),
            Epoch {
                number: 5,
                holder: 1,
            },
        );
        seats.hear(epoch, "a test").unwrap();
        broker.registration.start();
        let request = server.next().await;
        assert_eq!(request.fields.get(headers::EPOCH), Some("5.1"));
        assert!(broker.announced().await);
        assert_eq!(broker.seats.epoch(), epoch);
        broker.registration.stop().await;
    });
}

#[test]
fn a_replaced_master_writes_nothing_also_when_its_disk_does_not_take_the_news() {
    const EIO: i32 = 5;
    let broker = Broker::new(&[], |_| {});
    broker.disk.fail(Operation::Rename, 1, EIO);
    let epoch = Epoch::NONE.next(1);
    assert!(broker.seats.hear(epoch, "a test").is_err());
    assert!(broker.store.check_writable().is_err());
    assert!(broker.seats.is_fenced());
    // Somebody who promotes and gives up does not undo it.
    broker.disk.fail(Operation::Rename, 1, EIO);
    let later = epoch.next(2);
    assert!(
        broker
            .seats
            .agree(later, Seen::default(), "a test")
            .is_err()
    );
    assert!(broker.seats.is_fenced() && broker.store.check_writable().is_err());
    // The next one who tells it tries again.
    broker.seats.hear(epoch, "a test").unwrap();
    assert_eq!(broker.seats.now().part, Part::Fenced);
}
