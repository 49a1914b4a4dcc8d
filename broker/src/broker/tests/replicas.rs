//! Slaves: who gets the log, and what a send to a SYNC_MASTER is answered.

use gantry_message::LogOffset;
use gantry_replication::{Patience, Received, Slave, Wire, report};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::config::BrokerRole;

/// A slave that keeps what it is sent, and reports when it is told to.
struct Follower {
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
        connected(&broker, 1).await;
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
