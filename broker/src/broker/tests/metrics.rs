//! What a whole broker tells Prometheus: names, labels and help as the tables have them, what is gone with a topic or
//! group, what there is no room for.

use std::collections::{BTreeMap, BTreeSet};

use gantry_disk::faulty::Operation;
use gantry_wire::bodies::{ProducerData, SubscriptionGroupConfig};

use super::latch::on_faulty_disk;
use super::replicas::Follower;
use super::*;

/// Apache's exporter: name, labels, help.
const EXPORTER: &str = include_str!("../../metrics/tests/exporter.tsv");
/// RocketMQ 5: name, type, labels beside the three of the broker, ends of ranges.
const NATIVE: &str = include_str!("../../metrics/tests/native.tsv");
/// Ours: name, type.
const OWN: &str = include_str!("../../metrics/tests/own.tsv");

/// What is declared and never filled, as by the exporter itself.
const EMPTY: [&str; 2] = [
    "rocketmq_group_consume_tps",
    "rocketmq_group_consume_total_offset",
];

#[derive(Debug, Default)]
struct Family {
    help: String,
    kind: String,
    /// Names of the labels of each series, the ends of ranges apart.
    labels: BTreeSet<Vec<String>>,
    /// Ends of ranges.
    ends: BTreeSet<String>,
    series: BTreeMap<String, f64>,
}

/// Takes a page apart. Fails on what Prometheus would refuse.
fn families(page: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            let help = help.to_owned();
            let family = Family {
                help,
                ..Family::default()
            };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name}");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.get_mut(name).unwrap().kind = kind.to_owned();
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|base| families.contains_key(*base))
            .unwrap_or(name);
        let family = families.get_mut(base).unwrap_or_else(|| panic!("{line}"));
        let before = family
            .series
            .insert(series.to_owned(), value.parse().unwrap());
        assert!(before.is_none(), "twice: {line}");
        let mut names = Vec::new();
        // No value of these tests holds a comma or a quote.
        for label in labels.trim_end_matches('}').split(',') {
            match label.split_once('=') {
                Some(("le", end)) => {
                    family.ends.insert(end.trim_matches('"').to_owned());
                }
                Some((name, _)) => names.push(name.to_owned()),
                None => {}
            }
        }
        family.labels.insert(names);
    }
    families
}

fn scrape(broker: &Broker) -> BTreeMap<String, Family> {
    families(&String::from_utf8(broker.board.metrics().body.concat()).unwrap())
}

fn value(families: &BTreeMap<String, Family>, series: &str) -> f64 {
    let name = series.split('{').next().unwrap();
    let base = name.strip_suffix("_count").unwrap_or(name);
    let family = families.get(name).or_else(|| families.get(base));
    let family = family.unwrap_or_else(|| panic!("{name}"));
    *family
        .series
        .get(series)
        .unwrap_or_else(|| panic!("{series} in {family:#?}"))
}

fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').collect())
}

fn names(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// One of everything that a broker counts.
async fn use_everything(client: &Client) {
    let body = Heartbeat {
        client_id: "producer".to_owned(),
        producer_data_set: vec![ProducerData {
            group_name: "PG".to_owned(),
        }],
        ..Heartbeat::default()
    };
    assert_eq!(
        client
            .ask(request::HEART_BEAT, &[], &body.encode())
            .await
            .code,
        0
    );
    let first = client.send("").await;
    assert_eq!(first.code, 0);
    for changes in ["i=__SHARDINGKEY:1", "i=DELAY:18", "e=1", "e=1"] {
        assert_eq!(client.send(changes).await.code, 0, "{changes}");
    }
    assert_eq!(client.subscribe("G", "T", "*").await.code, 0);
    assert_eq!(client.pull("maxMsgNums=1").await.code, 0);
    let committed = fields("consumerGroup=G topic=T queueId=0 commitOffset=1", "");
    let code = request::UPDATE_CONSUMER_OFFSET;
    assert_eq!(client.ask(code, &committed, b"").await.code, 0);
    let stand_still = fields("consumerGroup=G topic=T queueId=1 commitOffset=0", "");
    assert_eq!(client.ask(code, &stand_still, b"").await.code, 0);
    let id = first.fields.get("msgId").unwrap();
    let offset = i64::from_str_radix(&id[16..], 16).unwrap();
    for level in [-1, 0] {
        let back = format!("offset={offset} group=G delayLevel={level} originTopic=T");
        let code = request::CONSUMER_SEND_MSG_BACK;
        let reply = client.ask(code, &fields(&back, ""), b"").await;
        assert_eq!(reply.code, 0, "{reply:?}");
    }
    // Nobody knows these codes, and they are counted as one.
    for code in [7_777, 7_778, -7] {
        let reply = client.ask(code, &[], b"").await;
        assert_eq!(reply.code, response::REQUEST_CODE_NOT_SUPPORTED);
    }
    let group = SubscriptionGroupConfig {
        group_name: "V".to_owned(),
        ..SubscriptionGroupConfig::default()
    };
    let code = request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
    assert_eq!(client.ask(code, &[], &group.encode()).await.code, 0);
    let create = fields(
        "topic=U defaultTopic=TBW102 readQueueNums=1 writeQueueNums=1 perm=6 topicFilterType=SINGLE_TAG \
         topicSysFlag=0 order=false",
        "",
    );
    let code = request::UPDATE_AND_CREATE_TOPIC;
    assert_eq!(client.ask(code, &create, b"").await.code, 0);
}

/// What dashboards and alerts are built on: a family that goes, or changes its kind, labels or help, breaks them.
#[test]
fn names_labels_and_help_are_those_of_the_tables() {
    with_broker(
        |config| {
            config.broker_cluster_name = "C".to_owned();
            config.store.ha_peers = Some("127.0.0.1".to_owned());
        },
        async |broker, client| {
            use_everything(&client).await;
            let slave = Follower::attach(&broker).await;
            let all = scrape(&broker);
            drop(slave);
            let mut seen = BTreeSet::new();
            for row in rows(EXPORTER) {
                let [name, labels, help] = row[..] else {
                    panic!("{row:?}")
                };
                let family = all.get(name).unwrap_or_else(|| panic!("{name} is missing"));
                assert_eq!(
                    (family.kind.as_str(), family.help.as_str()),
                    ("gauge", help),
                    "{name}"
                );
                if EMPTY.contains(&name) {
                    assert!(family.series.is_empty(), "{family:?}");
                } else {
                    assert_eq!(family.labels, BTreeSet::from([names(labels)]), "{name}");
                }
                seen.insert(name);
            }
            for row in rows(NATIVE) {
                let [name, kind, labels, ends @ ..] = &row[..] else {
                    panic!("{row:?}")
                };
                let family = all
                    .get(*name)
                    .unwrap_or_else(|| panic!("{name} is missing"));
                assert_eq!(family.kind, *kind, "{name}");
                assert!(family.help.ends_with('.'), "{name}: {}", family.help);
                let mut expected = names("node_type cluster node_id");
                expected.extend(names(labels));
                assert_eq!(family.labels, BTreeSet::from([expected]), "{name}");
                if let [ends] = ends {
                    let mut ends: BTreeSet<String> = names(ends).into_iter().collect();
                    ends.insert("+Inf".to_owned());
                    assert_eq!(family.ends, ends, "{name}");
                }
                seen.insert(name);
            }
            for row in rows(OWN) {
                let [name, kind] = row[..] else {
                    panic!("{row:?}")
                };
                let family = all.get(name).unwrap_or_else(|| panic!("{name} is missing"));
                assert_eq!(family.kind, kind, "{name}");
                assert!(family.help.ends_with('.'), "{name}: {}", family.help);
                assert!(!family.series.is_empty(), "{name}");
                seen.insert(name);
            }
            reference_is_made_from(&all);
            let unknown: Vec<&String> = all
                .keys()
                .filter(|name| !seen.contains(name.as_str()))
                .collect();
            assert!(unknown.is_empty(), "in no table: {unknown:?}");

            for (series, expected) in [
                ("gantry_group_lag_messages{topic=\"T\",group=\"G\"}", 3.0),
                ("gantry_topic_messages_in_total{topic=\"T\"}", 5.0),
                (
                    "gantry_requests_total{request=\"UNKNOWN\",response=\"REQUEST_CODE_NOT_SUPPORTED\"}",
                    3.0,
                ),
                (
                    "gantry_requests_total{request=\"SEND_MESSAGE_V2\",response=\"SUCCESS\"}",
                    5.0,
                ),
                (
                    "rocketmq_consumer_inflight_messages{node_type=\"broker\",cluster=\"C\",node_id=\"broker-a\",consumer_group=\"G\",topic=\"T\",is_retry=\"false\",is_system=\"false\"}",
                    0.0,
                ),
                (
                    "rocketmq_messages_in_total{node_type=\"broker\",cluster=\"C\",node_id=\"broker-a\",topic=\"T\",message_type=\"fifo\",is_system=\"false\"}",
                    1.0,
                ),
                (
                    "rocketmq_messages_in_total{node_type=\"broker\",cluster=\"C\",node_id=\"broker-a\",topic=\"T\",message_type=\"delay\",is_system=\"false\"}",
                    1.0,
                ),
                (
                    "rocketmq_send_to_dlq_messages_total{node_type=\"broker\",cluster=\"C\",node_id=\"broker-a\",consumer_group=\"G\",topic=\"T\",is_system=\"false\"}",
                    1.0,
                ),
                (
                    "rocketmq_producer_offset{cluster=\"C\",broker=\"broker-a\",topic=\"T\"}",
                    4.0,
                ),
                (
                    "rocketmq_broker_commitlog_diff{cluster=\"C\",brokerIP=\"127.0.0.1\",broker=\"broker-a\"}",
                    gantry_service::metrics::float(broker.store.max_offset().0),
                ),
                (
                    "rocketmq_topic_dlq_offset{cluster=\"C\",broker=\"broker-a\",group=\"G\"}",
                    1.0,
                ),
                (
                    "rocketmq_consumer_offset{cluster=\"C\",broker=\"broker-a\",topic=\"T\",group=\"G\"}",
                    1.0,
                ),
                (
                    "rocketmq_producer_count{cluster=\"C\",broker=\"broker-a\",group=\"PG\"}",
                    1.0,
                ),
            ] {
                assert_eq!(value(&all, series), expected, "{series}");
            }
            assert_eq!(broker.board.ready().status, "200 OK");
            assert_eq!(broker.board.health().status, "200 OK");
            Some(broker)
        },
    );
}

/// `docs/metrics.md` lists our own families as they are.
fn reference_is_made_from(all: &BTreeMap<String, Family>) {
    let mut table = "| family | type | labels | |\n|---|---|---|---|\n".to_owned();
    for (name, family) in all
        .iter()
        .filter(|(name, _)| !name.starts_with("rocketmq_"))
    {
        let labels = family
            .labels
            .iter()
            .flatten()
            .map(|label| format!("`{label}`"));
        let labels = labels.collect::<Vec<_>>().join(", ");
        let (kind, help) = (&family.kind, &family.help);
        table += &format!("| `{name}` | {kind} | {labels} | {help} |\n");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let expected = gantry_config::document::replace_part(&text, "broker", &table).unwrap();
    if std::env::var_os("GANTRY_UPDATE").is_some() {
        std::fs::write(&file, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap();
    assert!(
        found == expected,
        "docs/metrics.md is not what a scrape says; run this test with GANTRY_UPDATE=1"
    );
}

/// What is deleted is gone with the next scrape, in every set of names.
#[test]
fn deleted_topics_and_groups_are_in_no_series() {
    with_broker(
        |_| {},
        async |broker, client| {
            use_everything(&client).await;
            let about = |broker: &Broker, label: &str| -> Vec<String> {
                let all = scrape(broker);
                let series = all
                    .values()
                    .flat_map(|family| family.series.keys().cloned());
                series.filter(|series| series.contains(label)).collect()
            };
            for label in ["topic=\"T\"", "group=\"G\""] {
                assert!(!about(&broker, label).is_empty(), "{label}");
            }
            client
                .ask(
                    request::UNREGISTER_CLIENT,
                    &fields("clientID=client consumerGroup=G", ""),
                    b"",
                )
                .await;
            let code = request::DELETE_SUBSCRIPTIONGROUP;
            let gone = fields("groupName=G removeOffset=true", "");
            assert_eq!(client.ask(code, &gone, b"").await.code, 0);
            for topic in ["T", "%DLQ%G", "%RETRY%G"] {
                let code = request::DELETE_TOPIC_IN_BROKER;
                let gone = fields(&format!("topic={topic}"), "");
                assert_eq!(client.ask(code, &gone, b"").await.code, 0);
            }
            for label in ["topic=\"T\"", "group=\"G\"", "%DLQ%G", "%RETRY%G"] {
                let left = about(&broker, label);
                assert!(left.is_empty(), "{label}: {left:?}");
            }
            Some(broker)
        },
    );
}

#[test]
fn sets_of_names_can_be_switched_off_and_series_have_a_limit() {
    with_broker(
        |_| {},
        async |broker, client| {
            use_everything(&client).await;
            let all = scrape(&broker).len();
            let mut fresh = BrokerConfig::clone(&broker.live.now());
            fresh.metrics_compat = "native5".to_owned();
            assert!(broker.reload(&fresh, broker.config_generation()));
            let native = scrape(&broker);
            assert!(!native.contains_key("rocketmq_producer_offset"));
            assert!(native.contains_key("rocketmq_topic_number"));
            fresh.metrics_compat = String::new();
            assert!(broker.reload(&fresh, broker.config_generation()));
            let own = scrape(&broker);
            assert!(
                own.keys().all(|name| !name.starts_with("rocketmq_")),
                "{:?}",
                own.keys()
            );
            assert!(own.len() < native.len() && native.len() < all);
            assert_eq!(value(&own, "gantry_metrics_series_dropped_total"), 0.0);

            fresh.metrics_compat = "exporter4".to_owned();
            fresh.metrics_series_max = 100;
            // Less than an administrator may set.
            broker.live.replace(fresh);
            let dropped = |families: &BTreeMap<String, Family>| {
                value(families, "gantry_metrics_series_dropped_total")
            };
            let first = scrape(&broker);
            // What the limit counts are all but those that speak of it.
            assert!(value(&first, "gantry_metrics_series") <= 101.0);
            assert!(100.0 < dropped(&first), "{}", dropped(&first));
            assert!(first.contains_key("gantry_store_writable"));
            let second = scrape(&broker);
            assert!(dropped(&first) < dropped(&second), "it is a counter");
            Some(broker)
        },
    );
}

#[test]
fn a_latched_store_is_seen() {
    const EIO: i32 = 5;
    on_faulty_disk(
        |_| {},
        async |broker, client, disk| {
            let before = scrape(broker);
            let of = |name: &str| value(&before, name);
            assert_eq!(of("gantry_store_writable"), 1.0);
            assert_eq!(of("gantry_broker_permission"), 6.0);
            assert_eq!(of("gantry_store_latched{reason=\"sync\"}"), 0.0);
            let (end, flushed) = (
                of("gantry_commitlog_max_offset_bytes"),
                of("gantry_commitlog_flushed_offset_bytes"),
            );
            assert_eq!(
                (end, of("gantry_commitlog_unflushed_bytes")),
                (flushed, 0.0)
            );
            let syncs = of("gantry_commitlog_fsync_seconds_count");
            assert!(1.0 <= syncs, "{syncs}");
            disk.fail(Operation::Sync, u64::MAX, EIO);
            assert_ne!(client.send("").await.code, 0);
            assert_ne!(client.send("").await.code, 0);
            let after = scrape(broker);
            let of = |name: &str| value(&after, name);
            assert_eq!(of("gantry_store_writable"), 0.0);
            assert_eq!(of("gantry_broker_permission"), 4.0);
            assert_eq!(of("gantry_store_latched{reason=\"sync\"}"), 1.0);
            assert_eq!(of("gantry_store_latched{reason=\"write\"}"), 0.0);
            assert_eq!(
                of("gantry_store_write_refused_total{reason=\"latched\"}"),
                1.0
            );
            assert_eq!(of("gantry_commitlog_flushed_offset_bytes"), flushed);
            assert_eq!(of("gantry_commitlog_fsync_seconds_count"), syncs + 1.0);
            let ready = broker.board.ready();
            let text = String::from_utf8(ready.body.concat()).unwrap();
            assert_eq!(ready.status, "503 Service Unavailable");
            assert!(text.starts_with("no message is taken: "), "{text}");
            // It serves what it has: no reason to start it again.
            assert_eq!(broker.board.health().status, "200 OK");
        },
    );
}

#[test]
fn a_log_that_was_lost_is_said_by_ready_and_status_until_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let broker = Broker::start(config(folder.path())).await.unwrap();
        let client = Client::connect(&broker).await;
        assert_eq!(client.send("").await.code, response::SUCCESS);
        assert_eq!(broker.board.ready().status, "200 OK");
        drop(client);
        broker.stop().await.unwrap();
        let log = folder.path().join("store/commitlog");
        for file in std::fs::read_dir(&log).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }

        let broker = Broker::start(config(folder.path())).await.unwrap();
        assert!(
            broker.status().starts_with("THE LOG WAS LOST"),
            "{}",
            broker.status()
        );
        let ready = broker.board.ready();
        let text = String::from_utf8(ready.body.concat()).unwrap();
        assert_eq!(ready.status, "503 Service Unavailable");
        assert!(text.contains("THE LOG WAS LOST"), "{text}");
        broker.stop().await.unwrap();

        let broker = Broker::start(config(folder.path())).await.unwrap();
        assert_eq!(broker.board.ready().status, "200 OK");
        broker.stop().await.unwrap();
    });
}
