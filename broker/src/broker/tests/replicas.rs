//! Slaves: who gets the log, and what a send to a SYNC_MASTER is answered.

use gantry_message::LogOffset;
use gantry_replication::{Patience, Received, Slave, Wire, report};
use gantry_wire::bodies::{HaStatus, KvTable};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::config::{BrokerRole, SlaveAckPolicy};

/// A slave that keeps what it is sent, and reports when it is told to.
pub(super) struct Follower {
    socket: TcpStream,
    core: Slave,
    log: Vec<u8>,
}

impl Follower {
    async fn connect(broker: &Broker) -> Follower {
        Follower {
            socket: TcpStream::connect(broker.ha_address()).await.unwrap(),
            core: Slave::new(
                Wire::Plain,
                Patience::default(),
                1 << 20,
                LogOffset(0),
                std::time::Instant::now(),
            ),
            log: Vec::new(),
        }
    }

    /// One that has nothing of the log and has said so.
    pub(super) async fn attach(broker: &Broker) -> Follower {
        let mut slave = Follower::connect(broker).await;
        slave.report().await;
        near(broker, 1).await;
        slave
    }

    async fn report(&mut self) {
        let now = std::time::Instant::now();
        if let Some(report) = self.core.report(self.core.verified(), now) {
            self.socket.write_all(report.bytes()).await.unwrap();
        }
    }

    /// Reads until it has so much of the log.
    async fn follow(&mut self, end: u64) {
        let mut buffer = [0; 4096];
        while self.core.end().0 < end {
            let len = self.socket.read(&mut buffer).await.unwrap();
            assert_ne!(len, 0, "closed at {} of {end}", self.core.end());
            let mut bytes = &buffer[..len];
            let now = std::time::Instant::now();
            while let Some(received) = self.core.receive(&mut bytes, now).unwrap() {
                if let Received::Append { at, bytes } = received {
                    assert_eq!(at.0, self.log.len() as u64);
                    self.log.extend_from_slice(bytes);
                }
            }
        }
    }
}

fn sync_master(config: &mut BrokerConfig) {
    config.store.broker_role = BrokerRole::SyncMaster;
    config.store.ha_peers = Some("127.0.0.1".to_owned());
}

/// Waits until so many slaves have said how far they are.
async fn connected(broker: &Broker, slaves: usize) {
    while broker.replicas.links().count() != slaves {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_send_to_a_sync_master_is_a_success_when_a_slave_has_it() {
    with_broker(sync_master, async |broker, client| {
        // Makes the topic; nobody is there to have it.
        assert_eq!(client.send("").await.code, response::SLAVE_NOT_AVAILABLE);
        let mut slave = Follower::connect(&broker).await;
        slave.report().await;
        let first = broker.store.max_offset().0;
        slave.follow(first).await;
        slave.report().await;
        let answer = client.begin(request::SEND_MESSAGE_V2, &send_fields(""));
        slave.follow(first + 1).await;
        let end = broker.store.max_offset().0;
        slave.follow(end).await;
        slave.report().await;
        assert_eq!(
            answer.answer(PATIENCE).await.unwrap().code,
            response::SUCCESS
        );
        assert_eq!(broker.replicas.links().replicated().value(), end);
        let log = broker
            .store
            .log_bytes(LogOffset(0), 1 << 20)
            .unwrap()
            .unwrap();
        assert_eq!(slave.log, log, "the slave's bytes are the master's");
        // Who does not wait gets no promise.
        assert_eq!(client.send("i=WAIT:false").await.code, response::SUCCESS);
        Some(broker)
    });
}

#[test]
fn a_slave_that_is_late_or_far_behind_or_gone_is_said() {
    let impatient = |config: &mut BrokerConfig| {
        sync_master(config);
        config.store.slave_timeout = 20;
    };
    with_broker(impatient, async |broker, client| {
        let mut slave = Follower::connect(&broker).await;
        slave.report().await;
        near(&broker, 1).await;
        assert_eq!(client.send("").await.code, response::FLUSH_SLAVE_TIMEOUT);
        drop(slave);
        connected(&broker, 0).await;
        assert_eq!(client.send("").await.code, response::SLAVE_NOT_AVAILABLE);
        Some(broker)
    });
    let near = |config: &mut BrokerConfig| {
        sync_master(config);
        config.store.ha_slave_fallbehind_max = 100;
    };
    with_broker(near, async |broker, client| {
        let mut slave = Follower::connect(&broker).await;
        slave.report().await;
        connected(&broker, 1).await;
        assert_eq!(client.send("").await.code, response::SLAVE_NOT_AVAILABLE);
        Some(broker)
    });
}

// What Java answers, to the letter: a send that waits when the slave leaves waits on, and while another slave is
// connected, how near the nearest was at any time decides whether one waits at all.
#[test]
fn a_slave_that_left_is_hoped_for_as_java_does() {
    let config = |config: &mut BrokerConfig| {
        policy(SlaveAckPolicy::Report)(config);
        config.store.ha_slave_fallbehind_max = 2_000;
    };
    with_broker(config, async |broker, client| {
        for _ in 0..40 {
            client.send("i=WAIT:false").await;
        }
        let links = broker.replicas.links();
        let end = broker.store.max_offset();
        assert!(2_000 < end.0);
        let mut near_one = Follower::connect(&broker).await;
        near_one.report().await;
        near_one.follow(end.0).await;
        near_one.report().await;
        links.replicated().beyond(end.0 - 1).await;
        let mut far_one = Follower::connect(&broker).await;
        far_one.report().await;
        connected(&broker, 2).await;
        let waiting = client.begin(request::SEND_MESSAGE_V2, &send_fields(""));
        drop(near_one);
        connected(&broker, 1).await;
        let waited = waiting.answer(PATIENCE).await.unwrap();
        assert_eq!(waited.code, response::FLUSH_SLAVE_TIMEOUT);
        assert_eq!(links.near(end, 2_000), 0);
        assert_eq!(client.send("").await.code, response::FLUSH_SLAVE_TIMEOUT);
        for _ in 0..40 {
            client.send("i=WAIT:false").await;
        }
        assert_eq!(client.send("").await.code, response::SLAVE_NOT_AVAILABLE);
        Some(broker)
    });
}

#[test]
fn strangers_get_nothing_and_count_for_nothing() {
    let closed = |config: &mut BrokerConfig| {
        sync_master(config);
        config.store.ha_peers = None;
    };
    with_broker(closed, async |broker, client| {
        assert_eq!(client.send("").await.code, response::SLAVE_NOT_AVAILABLE);
        for end in [0, broker.store.max_offset().0] {
            let mut socket = TcpStream::connect(broker.ha_address()).await.unwrap();
            // It may be closed before this is written.
            let _ = socket
                .write_all(report(Wire::Plain, LogOffset(end)).bytes())
                .await;
            let read = socket.read(&mut [0; 16]).await;
            assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        }
        assert_eq!(broker.replicas.links().replicated().value(), 0);
        assert_eq!(client.send("").await.code, response::SLAVE_NOT_AVAILABLE);
        let status = ha_status(&client).await;
        let [one] = &status.slaves[..] else {
            panic!("{status:?}")
        };
        let why = one.why.as_deref().unwrap_or_default();
        assert!(why.contains("haPeers does not list it"), "{one:?}");
        let mut ends = broker.replicas.links().ended_links();
        assert_eq!(ends.next(), Some(("stranger", 2)));
        drop(ends);
        Some(broker)
    });
}

#[test]
fn a_peer_s_numbers_are_checked() {
    with_broker(sync_master, async |broker, client| {
        client.send("").await;
        let end = broker.store.max_offset().0;
        for lie in [u64::MAX, end + 1, 1 << 40] {
            let mut socket = TcpStream::connect(broker.ha_address()).await.unwrap();
            socket
                .write_all(report(Wire::Plain, LogOffset(lie)).bytes())
                .await
                .unwrap();
            let read = socket.read(&mut [0; 16]).await;
            assert!(matches!(read, Ok(0) | Err(_)), "{lie}: {read:?}");
        }
        assert_eq!(broker.replicas.links().replicated().value(), 0);
        Some(broker)
    });
}

#[test]
fn a_stop_gives_a_slave_the_end_of_the_log() {
    let master = |config: &mut BrokerConfig| {
        config.store.ha_peers = Some("*".to_owned());
    };
    with_broker(master, async |broker, client| {
        assert_eq!(client.send("").await.code, response::SUCCESS);
        let mut slave = Follower::connect(&broker).await;
        slave.report().await;
        connected(&broker, 1).await;
        let end = broker.store.max_offset().0;
        let follow = async {
            slave.follow(end).await;
            slave.report().await;
            slave.log.len() as u64
        };
        let (stopped, followed) = tokio::join!(broker.stop(), follow);
        stopped.unwrap();
        assert_eq!(followed, end);
        None
    });
}

/// Waits until that many slaves have said where their logs end.
async fn near(broker: &Broker, slaves: usize) {
    while broker
        .replicas
        .links()
        .near(broker.store.max_offset(), u64::MAX)
        != slaves
    {
        tokio::task::yield_now().await;
    }
}

fn policy(policy: SlaveAckPolicy) -> impl FnOnce(&mut BrokerConfig) {
    move |config| {
        sync_master(config);
        config.store.slave_ack_policy = policy;
        config.store.slave_timeout = 20;
    }
}

#[test]
fn refuse_stores_nothing_that_no_slave_can_have() {
    with_broker(policy(SlaveAckPolicy::Refuse), async |broker, client| {
        // Makes the topic, for a sender that wants no copy.
        assert_eq!(client.send("i=WAIT:false").await.code, response::SUCCESS);
        let end = broker.store.max_offset();
        let reply = client.send("").await;
        assert_eq!(reply.code, response::SERVICE_NOT_AVAILABLE);
        let remark = reply.remark.unwrap();
        assert!(remark.contains("slaveAckPolicy=refuse"), "{remark}");
        assert_eq!(broker.store.max_offset(), end, "nothing is stored");
        assert_eq!(broker.standing.pairing.acks.refused(), 1);
        let mut slave = Follower::connect(&broker).await;
        slave.report().await;
        near(&broker, 1).await;
        // It is there, and late: what was stored cannot be refused any more.
        assert_eq!(client.send("").await.code, response::FLUSH_SLAVE_TIMEOUT);
        slave.follow(broker.store.max_offset().0).await;
        Some(broker)
    });
}

#[test]
fn degrade_acknowledges_without_a_copy_until_slaves_have_caught_up() {
    with_broker(policy(SlaveAckPolicy::Degrade), async |broker, client| {
        let is_degraded = || {
            let settings = &broker.live.now().store;
            broker
                .standing
                .pairing
                .acks
                .look(settings, broker.store.max_offset())
        };
        let news = broker.standing.next_word();
        assert_eq!(client.send("").await.code, response::SUCCESS);
        assert!(is_degraded());
        told_at_once(news).await;
        let mut slave = Follower::connect(&broker).await;
        slave.report().await;
        near(&broker, 1).await;
        // There, but without the message that was acknowledged.
        assert!(is_degraded());
        assert_eq!(client.send("").await.code, response::SUCCESS);
        let end = broker.store.max_offset().0;
        slave.follow(end).await;
        slave.report().await;
        while is_degraded() {
            tokio::task::yield_now().await;
        }
        // Nobody reports: the time passes once, and then nobody waits.
        assert_eq!(client.send("").await.code, response::SUCCESS);
        assert!(is_degraded());
        assert_eq!(client.send("").await.code, response::SUCCESS);
        assert_eq!(broker.standing.pairing.acks.entered(), 2);
        Some(broker)
    });
}

#[test]
fn as_many_slaves_as_are_asked_for_must_have_a_message() {
    let two = |config: &mut BrokerConfig| {
        policy(SlaveAckPolicy::Report)(config);
        config.store.in_sync_replicas = 2;
    };
    with_broker(two, async |broker, client| {
        let mut slave = Follower::connect(&broker).await;
        slave.report().await;
        // A second connection from there is the same slave, as far as anybody knows.
        let mut again = Follower::connect(&broker).await;
        again.report().await;
        connected(&broker, 2).await;
        near(&broker, 1).await;
        assert_eq!(client.send("").await.code, response::SLAVE_NOT_AVAILABLE);
        let mut config = BrokerConfig::clone(&broker.live.now());
        config.store.in_sync_replicas = 1;
        assert!(broker.reload(&config, broker.config_generation()));
        let answer = client.begin(request::SEND_MESSAGE_V2, &send_fields("i=WAIT:false"));
        assert_eq!(
            answer.answer(PATIENCE).await.unwrap().code,
            response::SUCCESS
        );
        let end = broker.store.max_offset().0;
        slave.follow(end).await;
        slave.report().await;
        broker.replicas.links().replicated().beyond(end - 1).await;
        Some(broker)
    });
}

async fn set_read_only(client: &Client, read_only: bool) -> i64 {
    let fields = fields(&format!("readOnly={read_only}"), "");
    let reply = client.ask(request::SET_READ_ONLY, &fields, b"").await;
    assert_eq!(reply.code, 0, "{:?}", reply.remark);
    number(&reply, "maxOffset")
}

/// Does not wait for the next regular word.
async fn told_at_once(news: impl Future<Output = ()>) {
    let told = tokio::time::timeout(std::time::Duration::from_secs(5), news).await;
    assert!(told.is_ok(), "nothing is said before it is time");
}

/// 28.
async fn runtime_info(client: &Client) -> std::collections::BTreeMap<String, String> {
    let reply = client.ask(request::GET_BROKER_RUNTIME_INFO, &[], b"").await;
    KvTable::parse(&reply.body).unwrap().table
}

async fn ha_status(client: &Client) -> HaStatus {
    let reply = client.ask(request::HA_STATUS, &[], b"").await;
    assert_eq!(reply.code, 0, "{:?}", reply.remark);
    HaStatus::parse(&reply.body).unwrap()
}

#[test]
fn a_drained_broker_takes_nothing_until_it_may_again_restarts_included() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let overrides = config.override_file();
    run(async {
        let broker = Broker::start(config.clone()).await.unwrap();
        let client = Client::connect(&broker).await;
        assert_eq!(client.send("").await.code, response::SUCCESS);
        let news = broker.standing.next_word();
        let end = set_read_only(&client, true).await;
        told_at_once(news).await;
        assert_eq!(end, i64::try_from(broker.store.max_offset().0).unwrap());
        let reply = client.send("").await;
        assert_eq!(reply.code, response::SERVICE_NOT_AVAILABLE);
        let remark = reply.remark.unwrap();
        assert!(remark.contains("read only"), "{remark}");
        // What waits for its time waits on; pulls go on.
        let delayed = client.send("i=DELAY:1").await;
        assert_eq!(delayed.code, response::SERVICE_NOT_AVAILABLE);
        assert_eq!(client.pull("").await.code, response::SUCCESS);
        assert_eq!(
            i64::try_from(broker.store.max_offset().0).unwrap(),
            end,
            "the end of the log stays"
        );
        assert_eq!(
            crate::latch::permission(&broker.live.now(), &broker.store),
            4
        );
        assert!(
            broker.status().starts_with("READ ONLY: "),
            "{}",
            broker.status()
        );
        let status = ha_status(&client).await;
        assert!(
            status.read_only && status.not_writable.is_some(),
            "{status:?}"
        );
        let figures = runtime_info(&client).await;
        assert_eq!(figures["gantryReadOnly"], "true");
        let takes = &figures["gantryTakesMessages"];
        assert!(
            takes.starts_with("no: ") && takes.contains("read only"),
            "{takes}"
        );
        broker.stop().await.unwrap();
        // As `main` reads it at the next start.
        let written = std::fs::read_to_string(&overrides).unwrap();
        assert!(written.contains("readOnly=true"), "{written}");
        let mut again = config;
        again.read_only = true;
        let broker = Broker::start(again).await.unwrap();
        let client = Client::connect(&broker).await;
        assert_eq!(client.send("").await.code, response::SERVICE_NOT_AVAILABLE);
        set_read_only(&client, false).await;
        assert_eq!(client.send("").await.code, response::SUCCESS);
        assert_eq!(
            crate::latch::permission(&broker.live.now(), &broker.store),
            6
        );
        let written = std::fs::read_to_string(&overrides).unwrap();
        assert!(written.contains("readOnly=false"), "{written}");
        assert!(!ha_status(&client).await.read_only);
        broker.stop().await.unwrap();
    });
}

#[test]
fn ha_status_names_every_slave_and_why_it_is_not_in_sync() {
    with_broker(sync_master, async |broker, client| {
        assert_eq!(client.send("").await.code, response::SLAVE_NOT_AVAILABLE);
        let status = ha_status(&client).await;
        assert_eq!(
            (status.role.as_str(), status.slave_ack_policy.as_str()),
            ("SYNC_MASTER", "report")
        );
        assert_eq!(status.slaves, []);
        let mut slave = Follower::connect(&broker).await;
        slave.report().await;
        near(&broker, 1).await;
        let end = broker.store.max_offset().0;
        let status = ha_status(&client).await;
        let [one] = &status.slaves[..] else {
            panic!("{status:?}")
        };
        assert!(one.in_sync && one.is_open, "{one:?}");
        let figures = runtime_info(&client).await;
        assert_eq!(figures["gantryInSyncSlaves"], "1");
        assert_eq!(figures["gantryBrokerRole"], "SYNC_MASTER");
        assert_eq!((one.id, one.wire.as_str()), (-1, "plain"));
        assert_eq!(one.behind_bytes, i64::try_from(end).unwrap());
        drop(slave);
        connected(&broker, 0).await;
        let status = ha_status(&client).await;
        let [one] = &status.slaves[..] else {
            panic!("{status:?}")
        };
        assert_eq!(
            one.why.as_deref(),
            Some("the link ended: the slave closed it")
        );
        assert!(!one.in_sync && !one.is_open, "{one:?}");
        Some(broker)
    });
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test)
}

/// A port with the one two below and the one above free.
fn three_ports() -> u16 {
    loop {
        let bind = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).ok();
        let Some(main) = bind(0) else { continue };
        let port = main.local_addr().unwrap().port();
        if port < u16::MAX && bind(port - 2).is_some() && bind(port + 1).is_some() {
            return port;
        }
    }
}

#[test]
fn a_drained_master_and_its_slave_show_that_the_slave_has_everything() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = three_ports();
    let mut master = config(folder.path());
    sync_master(&mut master);
    master.server.listen_port = port;
    master.store.ha_listen_port = port + 1;
    let mut slave = config(other.path());
    slave.store.broker_role = BrokerRole::Slave;
    slave.broker_id = 7;
    // A seal keeps senders away, not the master.
    slave.read_only = true;
    slave.store.ha_master_address = Some(format!("127.0.0.1:{}", port + 1));
    run(async {
        let master = Broker::start(master).await.unwrap();
        let slave = Broker::start(slave).await.unwrap();
        let (client, asking) = (
            Client::connect(&master).await,
            Client::connect(&slave).await,
        );
        near(&master, 1).await;
        assert_eq!(client.send("").await.code, response::SUCCESS);
        let end = set_read_only(&client, true).await;
        slave.store.appended().beyond(end.unsigned_abs() - 1).await;
        let has_it = |status: &HaStatus| {
            status.replicated == end && status.slaves.iter().any(|it| it.acknowledged == end)
        };
        let mut status = ha_status(&client).await;
        while !has_it(&status) {
            status = ha_status(&client).await;
        }
        let [one] = &status.slaves[..] else {
            panic!("{status:?}")
        };
        assert_eq!((one.id, one.wire.as_str()), (7, "checked"));
        assert_eq!(
            (one.in_sync, one.behind_bytes, one.behind_millis),
            (true, 0, 0)
        );
        assert_eq!((status.max_offset, status.replicated), (end, end));
        let status = ha_status(&asking).await;
        let follows = status.following.unwrap();
        assert_eq!((follows.is_following, follows.why), (true, None));
        assert_eq!(follows.master, Some(format!("127.0.0.1:{port}")));
        assert_eq!((status.role.as_str(), status.max_offset), ("SLAVE", end));
        master.stop().await.unwrap();
        slave.stop().await.unwrap();
    });
}
