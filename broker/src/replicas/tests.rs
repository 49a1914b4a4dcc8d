//! Who is trusted, by addresses alone: nobody connects from them.

use gantry_replication::{Copies, Part, Patience};
use gantry_store::StoreConfig;
use gantry_wire::{
    Request, Response,
    bodies::{BrokerData, ClusterInfo},
    codes::request,
    frame::{self, FRAME_MAX},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn config() -> BrokerConfig {
    let mut config =
        <BrokerConfig as gantry_config::Settings>::defaults(&gantry_config::Host::described());
    config.broker_name = "broker-a".to_owned();
    config
}

#[test]
fn only_listed_addresses_are_known_without_a_name_server() {
    let mut config = config();
    let address: IpAddr = "10.0.0.7".parse().unwrap();
    assert!(!is_listed(&config, address));
    for (listed, is_in) in [
        ("10.0.0.7", true),
        ("10.0.0.8, 10.0.0.7", true),
        ("10.0.0.70", false),
        ("*", true),
        ("", false),
    ] {
        config.store.ha_peers = Some(listed.to_owned());
        assert_eq!(is_listed(&config, address), is_in, "{listed}");
    }
}

/// Answers every question with a cluster in which broker-a has a master and a slave, and counts.
async fn name_server(
    listener: tokio::net::TcpListener,
    questions: Arc<std::sync::atomic::AtomicUsize>,
) {
    let addresses = [(0, "10.0.0.1:10911"), (1, "10.0.0.7:10911")];
    let data = BrokerData {
        broker_addrs: addresses
            .map(|(id, address)| (id, address.to_owned()))
            .into(),
        broker_name: "broker-a".to_owned(),
        cluster: "c".to_owned(),
    };
    let info = ClusterInfo {
        broker_addr_table: [("broker-a".to_owned(), data)].into(),
        cluster_addr_table: Default::default(),
    };
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        while socket.read_buf(&mut bytes).await.unwrap() != 0 {
            let Some(one) = frame::split(&bytes, FRAME_MAX).unwrap() else {
                continue;
            };
            let body = one.body.to_vec().into();
            let request = Request::from_header(one.decode().unwrap(), one.serialization, body);
            assert_eq!(request.code, request::GET_BROKER_CLUSTER_INFO);
            questions.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut out = Vec::new();
            let answer = Response::with_body(info.encode());
            answer.encode(&mut out, request.opaque, request.serialization);
            socket.write_all(&out).await.unwrap();
            bytes.clear();
        }
    }
}

// A slave that copies tables asks four times every few seconds, and each request used to be a question to the name
// servers, with a connection of its own.
#[test]
fn a_registered_slave_is_trusted_and_asked_about_once() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = config();
        config.namesrv_addr = Some(listener.local_addr().unwrap().to_string());
        let questions = Arc::default();
        let serving = tokio::spawn(name_server(listener, Arc::clone(&questions)));
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(gantry_disk::OsDisk);
        let now = gantry_message::Millis(1_700_000_000_000);
        let seats = Seats::load(
            disk.clone(),
            folder.path(),
            ("broker-a", Part::Master(Copies::Async)),
        )
        .unwrap();
        let store = Store::open(disk, StoreConfig::at(folder.path()), now).unwrap();
        let door = Door::new(
            LiveConfig::new(config),
            Links::new(store, Patience::default()),
            seats,
        );
        let trusted = async |address: &str| door.is_trusted(address.parse().unwrap()).await;
        let asked = || questions.load(std::sync::atomic::Ordering::Relaxed);
        for _ in 0..10 {
            assert!(trusted("10.0.0.7").await);
        }
        assert_eq!(asked(), 1);
        assert!(!trusted("10.0.0.1").await, "it is the master");
        assert!(!trusted("10.0.0.8").await);
        assert_eq!(asked(), 3);
        // It has a name now, if it is the only one there or says its id.
        let named = |ip: [u8; 4], id| door.registered_at(IpAddr::from(ip), id);
        let address = Some("10.0.0.7:10911".to_owned());
        assert_eq!(named([10, 0, 0, 7], None), address);
        assert_eq!(named([10, 0, 0, 7], Some(1)), address);
        assert_eq!(named([10, 0, 0, 7], Some(2)), None);
        assert_eq!(named([10, 0, 0, 8], None), None);
        serving.abort();
    });
}
