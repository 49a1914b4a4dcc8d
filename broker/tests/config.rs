//! The key table of the broker: against RocketMQ's own defaults, the shipped files, the rules of the start,
//! and the documents that are made from it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use gantry_broker::config::address::{Interface, Network};
use gantry_broker::config::{BrokerConfig, BrokerRole, FlushDiskType, boot};
use gantry_config::{
    Bind, Host, Kind, Loaded, Settings, Severity, Source, UnknownKeys, document, plan_update, print,
};

fn host() -> Host {
    Host {
        user_home: "/home/user".into(),
        install_dir: "/opt/rocketmq".into(),
        host_name: Some("vm".into()),
        cpus: 4,
    }
}

fn network() -> Network {
    let address = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2));
    Network {
        interfaces: vec![Interface {
            name: "eth0".into(),
            addresses: vec![address],
        }],
        towards_name_server: None,
        towards_gateway: Some(address),
    }
}

fn load(name: &str, text: &str) -> Loaded<BrokerConfig> {
    let mut loaded = Loaded::defaults(&host(), UnknownKeys::Refuse);
    loaded.file(name, text.as_bytes());
    boot::settle(&mut loaded, &network());
    loaded.judge();
    loaded
}

fn complaints(loaded: &Loaded<BrokerConfig>) -> Vec<&str> {
    let worse = loaded
        .findings
        .iter()
        .filter(|finding| Severity::Note < finding.severity);
    worse.map(|finding| finding.text.as_str()).collect()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// What differs from RocketMQ on purpose: defaults that are found or derived when the broker starts, and a leak.
const ON_PURPOSE: &[&str] = &[
    "brokerIP1",
    "brokerIP2",
    "listenPort",
    "haListenPort",
    "autoDeleteUnusedStats",
];

#[test]
fn every_key_of_rocketmq_is_there_with_its_default() {
    let config = BrokerConfig::defaults(&host());
    let golden = include_str!("golden/defaults.txt").lines();
    let mut seen = 0;
    for line in golden.filter_map(|line| line.strip_prefix("broker ")) {
        let (key, default) = line.split_once('=').unwrap();
        let ours = config.text(key).unwrap_or_else(|| panic!("no key {key}"));
        if !ON_PURPOSE.contains(&key) && ours.parse::<f64>().ok() != default.parse::<f64>().ok() {
            panic!("{key}: {ours} instead of {default}");
        }
        if !ON_PURPOSE.contains(&key) && default.parse::<f64>().is_err() {
            assert_eq!(ours, default, "{key}");
        }
        seen += 1;
    }
    assert!(170 < seen, "{seen}");
}

#[test]
fn names_are_unique_and_described() {
    let mut names = BTreeMap::new();
    for row in BrokerConfig::rows() {
        let all = [row.name]
            .into_iter()
            .chain(row.rule.aliases.iter().copied())
            .chain(row.rule.misspellings.iter().copied());
        for name in all {
            assert_eq!(
                names.insert(name, row.name),
                None,
                "{name} is declared twice"
            );
        }
        assert!(
            row.description().ends_with(['.', ')']),
            "{}: {}",
            row.name,
            row.description()
        );
    }
}

#[test]
fn defaults_satisfy_their_own_rows() {
    let defaults = BrokerConfig::defaults(&host());
    for row in BrokerConfig::rows() {
        let text = defaults.text(row.name).unwrap();
        let mut config = defaults.clone();
        let accepted = config.set(row.name, &text).unwrap();
        assert!(
            accepted.is_ok() || text.is_empty(),
            "{}={text}: {accepted:?}",
            row.name
        );
        assert_eq!(config, defaults, "{}", row.name);
    }
}

#[test]
fn every_shipped_file_loads_without_a_complaint() {
    use BrokerRole::{AsyncMaster, Slave, SyncMaster};
    let files = [
        ("broker.conf", "broker-a", 0, AsyncMaster),
        ("2m-noslave/broker-a.properties", "broker-a", 0, AsyncMaster),
        ("2m-noslave/broker-b.properties", "broker-b", 0, AsyncMaster),
        (
            "2m-noslave/broker-trace.properties",
            "broker-trace",
            0,
            AsyncMaster,
        ),
        (
            "2m-2s-async/broker-a.properties",
            "broker-a",
            0,
            AsyncMaster,
        ),
        ("2m-2s-async/broker-a-s.properties", "broker-a", 1, Slave),
        (
            "2m-2s-async/broker-b.properties",
            "broker-b",
            0,
            AsyncMaster,
        ),
        ("2m-2s-async/broker-b-s.properties", "broker-b", 1, Slave),
        ("2m-2s-sync/broker-a.properties", "broker-a", 0, SyncMaster),
        ("2m-2s-sync/broker-a-s.properties", "broker-a", 1, Slave),
        ("2m-2s-sync/broker-b.properties", "broker-b", 0, SyncMaster),
        ("2m-2s-sync/broker-b-s.properties", "broker-b", 1, Slave),
    ];
    for (file, name, id, role) in files {
        let text = std::fs::read_to_string(repository().join("conf").join(file)).unwrap();
        let loaded = load(file, &text);
        assert_eq!(complaints(&loaded), Vec::<&str>::new(), "{file}");
        let config = &loaded.config;
        assert_eq!(
            (config.broker_name.as_str(), config.broker_id),
            (name, id),
            "{file}"
        );
        assert_eq!(config.store.broker_role, role, "{file}");
        assert_eq!(config.broker_cluster_name, "DefaultCluster", "{file}");
        assert_eq!(
            (
                config.store.delete_when.as_str(),
                config.store.file_reserved_time
            ),
            ("04", 48),
            "{file}"
        );
        assert_eq!(
            config.store.flush_disk_type,
            FlushDiskType::AsyncFlush,
            "{file}"
        );
    }
}

#[test]
fn what_follows_from_other_values_is_settled_and_said() {
    let loaded = load("b.conf", "listenPort=20911\n");
    let config = &loaded.config;
    assert_eq!(
        (config.vip_port(), config.store.ha_listen_port),
        (Some(20_909), 20_912)
    );
    assert_eq!(config.broker_address(), "192.168.1.2:20911");
    assert_eq!(config.ha_address(), "192.168.1.2:20912");
    assert!(matches!(loaded.source("brokerIP1"), Source::Derived(_)));
    let note = "brokerIP1 is not set; announcing 192.168.1.2 (the route to the default gateway leaves from it). Candidates: 192.168.1.2 (eth0)";
    assert!(
        loaded.findings.iter().any(|finding| finding.text == note),
        "{:?}",
        loaded.findings
    );

    let given = load(
        "b.conf",
        "brokerIP1=10.0.0.9\nbrokerIP2=10.1.0.9\nhaListenPort=30000\n",
    );
    assert_eq!(given.config.broker_address(), "10.0.0.9:10911");
    assert_eq!(given.config.ha_address(), "10.1.0.9:30000");
    let notes: Vec<&str> = given
        .findings
        .iter()
        .map(|finding| finding.text.as_str())
        .collect();
    let ports =
        "ports: 10911 for clients, 10909 for clients that use the VIP channel, 30000 for slaves";
    assert_eq!(notes, [ports]);
}

#[test]
fn what_cannot_be_right_is_refused_by_name() {
    let refused = [
        (
            "brokerRole=SLAVE",
            "default: brokerId=0: Slave's brokerId must be > 0",
        ),
        (
            "brokerRole=SLAVE\nbrokerId=0",
            "b.conf:2: brokerId=0: Slave's brokerId must be > 0",
        ),
        (
            "brokerId=-1",
            "b.conf:1: brokerId=-1: must be a whole number from 0",
        ),
        (
            "brokerRole=MASTER",
            "b.conf:1: brokerRole=MASTER: must be one of ASYNC_MASTER, SYNC_MASTER, SLAVE",
        ),
        (
            "flushDiskType=sync",
            "b.conf:1: flushDiskType=sync: must be one of ASYNC_FLUSH, SYNC_FLUSH",
        ),
        (
            "listenPort=2",
            "b.conf:1: listenPort=2: must be a whole number from 3 to 65534, because the ports two below and one above are used too",
        ),
        (
            "listenPort=65535",
            "b.conf:1: listenPort=65535: must be a whole number from 3 to 65534, because the ports two below and one above are used too",
        ),
        (
            "haListenPort=10909",
            "b.conf:1: haListenPort=10909: the port of listenPort - 2",
        ),
        (
            "metricsPort=10911",
            "b.conf:1: metricsPort=10911: the port of listenPort",
        ),
        (
            "listenPort=5559\nmetricsPort=5557",
            "b.conf:2: metricsPort=5557: the port of listenPort - 2",
        ),
        (
            "bindAddress=127.0.0.1\nmetricsPort=10912",
            "b.conf:2: metricsPort=10912: the port of haListenPort",
        ),
        (
            "namesrvAddr=localhost",
            "b.conf:1: namesrvAddr=localhost: must be host:port;host:port (for example 127.0.0.1:9876;192.168.0.1:9876)",
        ),
        (
            "brokerIP1=10.0.0.1:10911",
            "b.conf:1: brokerIP1=10.0.0.1:10911: must be an IP address or a host name, without a port",
        ),
        (
            "brokerIP1=0.0.0.0",
            "b.conf:1: brokerIP1=0.0.0.0: must be an address of this host that others connect to (bindAddress says where it listens)",
        ),
        (
            "brokerIP1=[::]",
            "b.conf:1: brokerIP1=[::]: must be an address of this host that others connect to (bindAddress says where it listens)",
        ),
        (
            "brokerIP2=224.0.0.1",
            "b.conf:1: brokerIP2=224.0.0.1: must be an address of this host that others connect to (bindAddress says where it listens)",
        ),
        (
            "brokerIP2=255.255.255.255",
            "b.conf:1: brokerIP2=255.255.255.255: must be an address of this host that others connect to (bindAddress says where it listens)",
        ),
        (
            "brokerIP2=300.0.0.1",
            "b.conf:1: brokerIP2=300.0.0.1: must be an IP address or a host name, without a port",
        ),
        (
            "haMasterAddress=nonsense",
            "b.conf:1: haMasterAddress=nonsense: must be host:port, the master's haListenPort (for example 192.168.0.1:10912)",
        ),
        (
            "deleteWhen=24",
            "b.conf:1: deleteWhen=24: must be hours from 00 to 23 with ; between them",
        ),
        (
            "messageDelayLevel=1s 5x",
            "b.conf:1: messageDelayLevel=1s 5x: must be numbers with s, m, h or d, blanks between them (for example 1s 5s 10s 1m 2h)",
        ),
        (
            "enableDLegerCommitLog=true",
            "b.conf:1: enableDLegerCommitLog=true: only enableDLegerCommitLog=false is possible: this version has no DLedger",
        ),
        (
            "enableLmq=true",
            "b.conf:1: enableLmq=true: only enableLmq=false is possible: this version has no LMQ",
        ),
        (
            "enableMultiDispatch=true",
            "b.conf:1: enableMultiDispatch=true: only enableMultiDispatch=false is possible: this version has no LMQ",
        ),
        (
            "aclEnable=true",
            "b.conf:1: aclEnable=true: only aclEnable=false is possible: this version checks no signatures; it would serve everybody",
        ),
        (
            "tls.server.mode=enforcing",
            "b.conf:1: tls.server.mode=enforcing: must be disabled or permissive (this version serves no TLS)",
        ),
        (
            "bindAddress=localhost",
            "b.conf:1: bindAddress=localhost: must be an IPv4 or IPv6 address, or * for all",
        ),
        (
            "bindAddress=",
            "b.conf:1: bindAddress=: must be an IPv4 or IPv6 address, or * for all",
        ),
        (
            "bindAddress= ",
            "b.conf:1: bindAddress=: must be an IPv4 or IPv6 address, or * for all",
        ),
        (
            "overloadResponseCode=3",
            "b.conf:1: overloadResponseCode=3: must be one of 14, 2",
        ),
        (
            "brokerName=a/b",
            "b.conf:1: brokerName=a/b: must be 1 to 127 characters without control characters and none of / \\ ; @",
        ),
    ];
    for (text, expected) in refused {
        let loaded = load("b.conf", text);
        assert_eq!(complaints(&loaded), [expected], "{text}");
        assert!(loaded.refused(), "{text}");
    }
}

#[test]
fn ports_on_different_addresses_do_not_meet_and_the_usual_one_may_be_taken() {
    for text in ["bindAddress=10.0.0.9\nmetricsPort=10911", "metricsPort=0"] {
        assert_eq!(
            complaints(&load("b.conf", text)),
            Vec::<&str>::new(),
            "{text}"
        );
    }
    let loaded = load("b.conf", "listenPort=5556");
    let usual =
        "default: metricsPort=5557: the port of haListenPort, which goes first; set metricsPort";
    assert_eq!(complaints(&loaded), [usual]);
    assert!(!loaded.refused());
}

#[test]
fn a_broker_that_listens_on_one_address_announces_it() {
    let announced = |text: &str| load("b.conf", text).config.broker_ip1.unwrap_or_default();
    for (text, expected) in [
        ("bindAddress=127.0.0.1\n", "127.0.0.1"),
        ("bindAddress=::1\n", "[::1]"),
        ("bindAddress=0.0.0.0\n", "192.168.1.2"),
        ("bindAddress=*\n", "192.168.1.2"),
        ("bindAddress=127.0.0.1\nbrokerIP1=10.0.0.9\n", "10.0.0.9"),
    ] {
        assert_eq!(announced(text), expected, "{text}");
    }
}

#[test]
fn a_message_size_that_another_limit_cuts_short_is_named() {
    let text = "maxMessageSize=16000000\nmappedFileSizeCommitLog=16777216\n";
    assert_eq!(complaints(&load("broker.conf", text)), Vec::<&str>::new());
    let text = "mappedFileSizeCommitLog=16777216\nmaxMessageSize=16777216\n";
    let loaded = load("broker.conf", text);
    let of = |key| {
        format!(
            "broker.conf:2: maxMessageSize=16777216: a message of that size may not fit {key}=16777216, and is refused then"
        )
    };
    let expected = [of("mappedFileSizeCommitLog"), of("frameMaxLength")];
    assert_eq!(complaints(&loaded), expected);
}

#[test]
fn the_configuration_of_packages_serves_this_machine_only() {
    let text = std::fs::read_to_string(repository().join("packaging/conf/broker.toml")).unwrap();
    let loaded = load("broker.toml", &text);
    assert_eq!(complaints(&loaded), Vec::<&str>::new());
    let config = &loaded.config;
    assert_eq!(config.server.bind_address, Bind([127, 0, 0, 1].into()));
    assert_eq!(config.broker_address(), "127.0.0.1:10911");
    assert!(!config.server.admin_open);
    // One setting opens it, and the announced address follows.
    let open = load("broker.toml", &text.replace("\"127.0.0.1\"", "\"*\""));
    assert_eq!(open.config.broker_address(), "192.168.1.2:10911");
    // Whatever is suggested is right.
    for line in text.lines().filter_map(|line| line.strip_prefix('#')) {
        if line.contains(" = ") {
            assert_eq!(
                complaints(&load("broker.toml", line)),
                Vec::<&str>::new(),
                "{line}"
            );
        }
    }
}

#[test]
fn a_service_keeps_its_store_in_the_folder_that_systemd_made_for_it() {
    let mut loaded = Loaded::<BrokerConfig>::defaults(&host(), UnknownKeys::Refuse);
    let variable = |name: &str| (name == "STATE_DIRECTORY").then(|| "/var/lib/gantry/a".to_owned());
    loaded.environment(variable);
    assert_eq!(loaded.config.store.store_path_root_dir, "/var/lib/gantry/a");
    loaded.file("b.conf", b"storePathRootDir=/data\n");
    assert_eq!(loaded.config.store.store_path_root_dir, "/data");
}

#[test]
fn a_master_with_the_id_of_a_slave_is_warned_about() {
    let loaded = load("b.conf", "brokerId=1\n");
    assert_eq!(
        complaints(&loaded),
        ["b.conf:1: brokerId=1: a master's is always 0; is brokerRole=ASYNC_MASTER what you mean?"]
    );
    assert_eq!((loaded.config.broker_id, loaded.refused()), (0, false));
}

#[test]
fn files_from_blogs_load() {
    // Names that were right before 4.4, or never, and what everybody copies.
    let text = "brokerClusterName=rocketmq-cluster\nbrokerName=broker-a\nbrokerId=0\nnamesrvAddr=127.0.0.1:9876,127.0.0.2:9876\ndefaultTopicQueueNums=4\n\
        autoCreateTopicEnable=true\nautoCreateSubscriptionGroup=true\nlistenPort=10911\ndeleteWhen=04\nfileReservedTime=120 \nmapedFileSizeCommitLog=1073741824\n\
        mapedFileSizeConsumeQueue=300000\ndiskMaxUsedSpaceRatio=88\nstorePathRootDir=/data/store\nstorePathCommitLog=/data/store/commitlog\n\
        storePathConsumeQueue=/data/store/consumequeue\nstorePathIndex=/data/store/index\nstoreCheckpoint=/data/store/checkpoint\nabortFile=/data/store/abort\n\
        maxMessageSize=65536\nbrokerRole=ASYNC_MASTER\nflushDiskType=ASYNC_FLUSH\n";
    let loaded = load("blog.properties", text);
    assert_eq!(complaints(&loaded), Vec::<&str>::new());
    let store = &loaded.config.store;
    assert_eq!(
        (
            store.file_reserved_time,
            store.mapped_file_size_consume_queue
        ),
        (120, 300_000)
    );
}

#[test]
fn what_an_update_may_change_is_what_is_followed_while_serving() {
    let config = load("b.conf", "").config;
    let update = plan_update(&config, b"slaveReadEnable=true\nbrokerPermission=4\n").unwrap();
    assert_eq!(
        update.changes,
        [
            ("brokerPermission", "4".to_owned()),
            ("slaveReadEnable", "true".to_owned())
        ]
    );
    for key in [
        "rocketmqHome",
        "storePathRootDir",
        "listenPort",
        "brokerConfigPath",
        "configBlackList",
        "adminOpen",
        "bindAddress",
    ] {
        let text = format!("{key}=1");
        assert!(
            plan_update(&config, text.as_bytes())
                .unwrap_err()
                .to_string()
                .contains(key)
        );
    }
    // A listing that is sent back changes nothing.
    assert_eq!(
        plan_update(&config, print::all(&config).as_bytes())
            .unwrap()
            .changes,
        []
    );
}

fn compare(file: &Path, expected: &str) {
    if std::env::var_os("GANTRY_UPDATE").is_some() {
        std::fs::write(file, expected).unwrap();
    }
    let found = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what the key table says; run this test with GANTRY_UPDATE=1",
        file.display()
    );
}

#[test]
fn the_sample_is_made_from_the_table() {
    let expected = document::sample_toml::<BrokerConfig>(
        "Every setting of the broker that does something, at its default. Made from the key table: see docs/configuration.md\n\
         for the others, and for what RocketMQ's names mean here. Use: mqbroker -c broker.toml",
    );
    compare(&repository().join("conf/broker.toml"), &expected);
    assert_eq!(
        complaints(&load("broker.toml", &expected)),
        Vec::<&str>::new()
    );
    // Uncommented, every line is a valid setting of the right form.
    for row in BrokerConfig::rows()
        .iter()
        .filter(|row| row.rule.shown.is_none())
    {
        let Some(line) = expected
            .lines()
            .find_map(|line| line.strip_prefix(&format!("#{} = ", row.name)))
        else {
            continue;
        };
        let loaded = load("broker.toml", &format!("{} = {line}", row.name));
        let empty = row.kind == Kind::Text && line == "\"\"";
        assert!(
            empty || complaints(&loaded).is_empty(),
            "{} = {line}: {:?}",
            row.name,
            complaints(&loaded)
        );
    }
}

#[test]
fn the_reference_is_made_from_the_table() {
    let file = repository().join("docs/configuration.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let expected =
        document::replace_part(&text, "broker", &document::markdown::<BrokerConfig>()).unwrap();
    let expected =
        document::replace_part(&expected, "others", &document::foreign_markdown()).unwrap();
    compare(&file, &expected);
}
