//! The rules of joining, leaving and subscribing.

use std::collections::BTreeSet;

use gantry_message::{Millis, java_hash};
use gantry_wire::{
    Language,
    bodies::{ConsumeFromWhere, ConsumeType, ConsumerData, MessageModel, SubscriptionData},
};

use super::{Changed, Client, Registry, RegistryError};

const NOW: Millis = Millis(1_000_000);

fn client(connection: u64, id: &str) -> Client {
    client_at(connection, id, NOW)
}

fn client_at(connection: u64, id: &str, now: Millis) -> Client {
    Client {
        connection,
        address: ([10, 0, 0, 9], 5_555).into(),
        client_id: id.to_owned(),
        language: Language::Java,
        version: 409,
        now,
    }
}

/// `T:5=TagA` subscribes topic `T` with version 5 and one tag; without a tag everything.
fn subscription(text: &str) -> SubscriptionData {
    let (topic, rest) = text.split_once(':').unwrap();
    let (version, tag) = rest.split_once('=').unwrap_or((rest, "*"));
    let codes = (tag != "*").then(|| java_hash(tag));
    SubscriptionData {
        topic: topic.to_owned(),
        sub_string: tag.to_owned(),
        sub_version: version.parse().unwrap(),
        code_set: codes.into_iter().collect(),
        ..SubscriptionData::default()
    }
}

fn data(group: &str, subscriptions: &str) -> ConsumerData {
    ConsumerData {
        group_name: group.to_owned(),
        subscription_data_set: subscriptions.split_whitespace().map(subscription).collect(),
        ..ConsumerData::default()
    }
}

/// One heartbeat as the shell handles it; the connections to tell, if it changes the group.
fn beat(registry: &mut Registry, client: &Client, data: &ConsumerData) -> Option<Vec<u64>> {
    if registry.refresh_consumer(client, data) {
        return None;
    }
    registry
        .register_consumer(client, data)
        .unwrap()
        .map(|changed| {
            assert_eq!(*changed.group, *data.group_name);
            changed.members
        })
}

/// `T:5=TagA` for every topic of the group, sorted.
fn subscribed(registry: &Registry, group: &str) -> Vec<String> {
    let group = registry.consumer(group).unwrap();
    let text = |data: &SubscriptionData| {
        format!("{}:{}={}", data.topic, data.sub_version, data.sub_string)
    };
    group
        .subscriptions
        .values()
        .map(|subscribed| text(&subscribed.data))
        .collect()
}

fn members(registry: &Registry, group: &str) -> Vec<(u64, String)> {
    let group = registry.consumer(group);
    let members = group.iter().flat_map(|group| group.members.values());
    members
        .map(|member| (member.connection, member.client_id.to_string()))
        .collect()
}

#[test]
fn a_new_member_is_told_to_everybody_of_the_group_in_the_order_of_connecting() {
    let mut registry = Registry::new(100);
    assert_eq!(
        beat(&mut registry, &client(2, "b"), &data("G", "T:1")),
        Some(vec![2])
    );
    assert_eq!(
        beat(&mut registry, &client(1, "a"), &data("G", "T:1")),
        Some(vec![1, 2])
    );
    assert_eq!(
        beat(&mut registry, &client(9, "x"), &data("H", "T:1")),
        Some(vec![9])
    );
    assert_eq!(
        beat(&mut registry, &client(1, "a"), &data("G", "T:1")),
        None
    );
    assert_eq!(
        members(&registry, "G"),
        [(1, "a".to_owned()), (2, "b".to_owned())]
    );
}

#[test]
fn subscriptions_are_those_of_the_last_heartbeat_and_only_their_topics_count_as_a_change() {
    let mut registry = Registry::new(100);
    // heartbeat, told, subscriptions afterwards
    let story: &[(&str, bool, &[&str])] = &[
        ("T:1=a", true, &["T:1=a"]),
        ("T:1=b", false, &["T:1=a"]),
        ("T:2=b", false, &["T:2=b"]),
        ("T:1=a", false, &["T:2=b"]),
        ("T:2=b U:1", true, &["T:2=b", "U:1=*"]),
        ("U:1", true, &["U:1=*"]),
        ("V:7 V:8=c", true, &["V:8=c"]),
        ("V:8=c V:8=c", false, &["V:8=c"]),
        ("", true, &[]),
    ];
    for (heartbeat, told, expected) in story {
        let changed = beat(&mut registry, &client(1, "a"), &data("G", heartbeat));
        assert_eq!(changed.is_some(), *told, "{heartbeat}");
        assert_eq!(subscribed(&registry, "G"), *expected, "{heartbeat}");
    }
}

#[test]
fn two_members_with_different_topics_take_turns() {
    let mut registry = Registry::new(100);
    beat(&mut registry, &client(1, "a"), &data("G", "T:1"));
    for round in 0..3 {
        assert!(
            beat(&mut registry, &client(2, "b"), &data("G", "U:1")).is_some(),
            "round {round}"
        );
        assert_eq!(subscribed(&registry, "G"), ["U:1=*"]);
        assert!(
            beat(&mut registry, &client(1, "a"), &data("G", "T:1")).is_some(),
            "round {round}"
        );
        assert_eq!(subscribed(&registry, "G"), ["T:1=*"]);
    }
}

#[test]
fn a_pull_matches_what_was_subscribed() {
    let mut registry = Registry::new(100);
    beat(&mut registry, &client(1, "a"), &data("G", "T:1=TagA U:1"));
    let group = registry.consumer("G").unwrap();
    let matches = |topic: &str, tag: &str| {
        group.subscriptions[topic]
            .filter
            .matches(java_hash(tag).into())
    };
    assert_eq!(
        [
            matches("T", "TagA"),
            matches("T", "TagB"),
            matches("U", "TagB")
        ],
        [true, false, true]
    );
}

#[test]
fn what_the_group_is_follows_the_last_heartbeat_without_a_notice() {
    let mut registry = Registry::new(100);
    beat(&mut registry, &client(1, "a"), &data("G", "T:1"));
    let other = ConsumerData {
        consume_type: ConsumeType::Actively,
        message_model: MessageModel::Broadcasting,
        consume_from_where: ConsumeFromWhere::FirstOffset,
        ..data("G", "T:1")
    };
    assert_eq!(beat(&mut registry, &client(1, "a"), &other), None);
    let group = registry.consumer("G").unwrap();
    assert_eq!(
        (
            group.consume_type,
            group.message_model,
            group.consume_from_where
        ),
        (
            ConsumeType::Actively,
            MessageModel::Broadcasting,
            ConsumeFromWhere::FirstOffset
        )
    );
}

#[test]
fn another_client_id_on_the_same_connection_takes_the_place() {
    let mut registry = Registry::new(100);
    beat(&mut registry, &client(1, "old"), &data("G", "T:1"));
    assert_eq!(
        beat(&mut registry, &client(1, "new"), &data("G", "T:1")),
        None
    );
    assert_eq!(members(&registry, "G"), [(1, "new".to_owned())]);
}

#[test]
fn who_remains_is_told_when_a_member_leaves() {
    let mut registry = Registry::new(100);
    for connection in [1, 2, 3] {
        beat(&mut registry, &client(connection, "c"), &data("G", "T:1"));
    }
    let left = |changed: Option<Changed>| changed.map(|changed| changed.members);
    assert_eq!(left(registry.unregister_consumer(2, "G")), Some(vec![1, 3]));
    assert_eq!(left(registry.unregister_consumer(2, "G")), None);
    assert_eq!(left(registry.unregister_consumer(1, "Unknown")), None);
    assert!(!registry.knows(2) && registry.knows(1));
    assert_eq!(left(registry.unregister_consumer(1, "G")), Some(vec![3]));
    assert_eq!(left(registry.unregister_consumer(3, "G")), None);
    assert!(
        registry.consumer("G").is_none(),
        "a group without members is gone"
    );
}

#[test]
fn a_connection_that_ends_leaves_all_of_its_groups() {
    let mut registry = Registry::new(100);
    for group in ["G", "H", "I"] {
        beat(&mut registry, &client(1, "a"), &data(group, "T:1"));
    }
    for group in ["G", "H"] {
        beat(&mut registry, &client(2, "b"), &data(group, "T:1"));
    }
    registry.register_producer(&client(1, "a"), "P").unwrap();
    registry.unregister_consumer(1, "H");
    let told: BTreeSet<String> = registry
        .closed(1)
        .iter()
        .map(|changed| format!("{} {:?}", changed.group, changed.members))
        .collect();
    assert_eq!(told, BTreeSet::from(["G [2]".to_owned()]));
    assert!(registry.consumer("I").is_none() && registry.producers("P").is_none());
    assert!(!registry.knows(1));
    assert_eq!(registry.closed(1), []);
}

#[test]
fn silence_of_two_minutes_expires_a_connection_whatever_else_it_does() {
    let mut registry = Registry::new(100);
    beat(
        &mut registry,
        &client_at(1, "a", Millis(0)),
        &data("G", "T:1"),
    );
    registry
        .register_producer(&client_at(2, "b", Millis(0)), "P")
        .unwrap();
    beat(
        &mut registry,
        &client_at(3, "c", Millis(0)),
        &data("G", "T:1"),
    );
    beat(
        &mut registry,
        &client_at(3, "c", Millis(0)),
        &data("H", "T:1"),
    );
    assert!(registry.refresh_consumer(&client_at(1, "a", Millis(60_000)), &data("G", "T:1")));
    assert!(registry.refresh_consumer(&client_at(3, "c", Millis(60_000)), &data("H", "T:1")));
    assert_eq!(registry.expired(Millis(120_000)), [0_u64; 0]);
    assert_eq!(registry.expired(Millis(120_001)), [2, 3]);
    assert_eq!(registry.expired(Millis(180_001)), [1, 2, 3]);
}

#[test]
fn a_producer_is_found_by_its_client_id_on_the_connection_it_registered_last() {
    let mut registry = Registry::new(100);
    registry.register_producer(&client(1, "p"), "P").unwrap();
    registry.register_producer(&client(1, "p"), "Q").unwrap();
    assert_eq!(registry.producer_connection("p"), Some(1));
    registry.register_producer(&client(2, "p"), "P").unwrap();
    assert_eq!(registry.producer_connection("p"), Some(2));
    assert_eq!(registry.producers("P").unwrap().members.len(), 2);
    registry.closed(1);
    assert_eq!(
        registry.producer_connection("p"),
        Some(2),
        "the newer connection stays"
    );
    registry.unregister_producer(2, "P");
    assert_eq!(registry.producer_connection("p"), None);
}

#[test]
fn a_producer_that_leaves_one_group_is_still_found_in_the_other() {
    let mut registry = Registry::new(100);
    registry.register_producer(&client(1, "p"), "P").unwrap();
    registry.register_producer(&client(1, "p"), "Q").unwrap();
    registry.unregister_producer(1, "P");
    assert_eq!(registry.producer_connection("p"), Some(1));
    assert!(registry.producers("P").is_none());
    let names: Vec<String> = registry
        .producer_groups()
        .iter()
        .map(|group| group.name.to_string())
        .collect();
    assert_eq!(names, ["Q"]);
}

#[test]
fn limits_are_refused_by_name_and_members_are_not_affected() {
    let mut registry = Registry::new(2);
    for connection in [1, 2] {
        beat(&mut registry, &client(connection, "c"), &data("G", "T:1"));
    }
    let full = registry.register_consumer(&client(3, "c"), &data("G", "T:1"));
    assert_eq!(
        full,
        Err(RegistryError::GroupFull {
            group: "G".to_owned(),
            limit: 2
        })
    );
    assert_eq!(
        full.unwrap_err().to_string(),
        "the consumer group[G] has 2 members, limit maxConsumersPerGroup=2"
    );
    assert!(!registry.knows(3));
    assert!(
        registry
            .register_consumer(&client(2, "c"), &data("G", "U:1"))
            .is_ok(),
        "a member may change"
    );

    for group in 0..2_000 {
        registry
            .register_producer(&client(5, "p"), &format!("P{group}"))
            .unwrap();
    }
    let too_many = registry.register_producer(&client(5, "p"), "one more");
    assert!(
        matches!(too_many, Err(RegistryError::TooManyGroups { .. })),
        "{too_many:?}"
    );
    registry.unregister_producer(5, "P7");
    assert_eq!(
        registry.register_producer(&client(5, "p"), "one more"),
        Ok(())
    );

    let many: Vec<String> = (0..20_001).map(|topic| format!("T{topic}:1")).collect();
    let too_many = registry.register_consumer(&client(6, "c"), &data("H", &many.join(" ")));
    assert_eq!(
        too_many,
        Err(RegistryError::TooManyTopics {
            group: "H".to_owned(),
            count: 20_001
        })
    );
    assert!(registry.consumer("H").is_none() && !registry.knows(6));
}

#[test]
fn a_snapshot_of_a_group_does_not_change_under_its_reader() {
    let mut registry = Registry::new(100);
    beat(&mut registry, &client(1, "a"), &data("G", "T:1"));
    let before = registry.consumer("G").unwrap();
    beat(&mut registry, &client(2, "b"), &data("G", "U:1"));
    registry.closed(1);
    assert_eq!(before.members.keys().copied().collect::<Vec<_>>(), [1]);
    assert!(before.subscriptions.contains_key("T"));
    assert_eq!(members(&registry, "G"), [(2, "b".to_owned())]);
}

/// Random operations against a plain model: who is in which group, and whom a change concerns.
#[test]
fn the_tables_agree_with_a_plain_model_whatever_happens() {
    for seed in 1..=20 {
        model_run(seed);
    }
}

fn model_run(seed: u64) {
    let mut state = seed;
    let mut random = move |below: u64| {
        // Knuth's constants; the high bits are good enough to choose operations.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut registry = Registry::new(100);
    let mut consumers: BTreeSet<(String, u64)> = BTreeSet::new();
    let mut producers: BTreeSet<(String, u64)> = BTreeSet::new();
    let of = |model: &BTreeSet<(String, u64)>, group: &str| -> Vec<u64> {
        model
            .iter()
            .filter(|(known, _)| known == group)
            .map(|(_, connection)| *connection)
            .collect()
    };
    for step in 0..400 {
        let connection = random(6);
        let group = format!("G{}", random(4));
        let who = client(connection, &format!("c{connection}"));
        let at = format!("seed {seed} step {step}");
        match random(6) {
            0 | 1 => {
                let told = beat(&mut registry, &who, &data(&group, "T:1"));
                let is_new = consumers.insert((group.clone(), connection));
                assert_eq!(told, is_new.then(|| of(&consumers, &group)), "{at}");
            }
            2 => {
                registry.register_producer(&who, &group).unwrap();
                producers.insert((group, connection));
            }
            3 => {
                let told = registry
                    .unregister_consumer(connection, &group)
                    .map(|changed| changed.members);
                let was = consumers.remove(&(group.clone(), connection));
                let rest = of(&consumers, &group);
                assert_eq!(told, (was && !rest.is_empty()).then_some(rest), "{at}");
            }
            4 => {
                registry.unregister_producer(connection, &group);
                producers.remove(&(group, connection));
            }
            _ => {
                let told: BTreeSet<(String, Vec<u64>)> = registry
                    .closed(connection)
                    .into_iter()
                    .map(|changed| (changed.group.to_string(), changed.members))
                    .collect();
                let left: Vec<String> = consumers
                    .iter()
                    .filter(|(_, of)| *of == connection)
                    .map(|(group, _)| group.clone())
                    .collect();
                consumers.retain(|(_, of)| *of != connection);
                producers.retain(|(_, of)| *of != connection);
                let rests = left
                    .into_iter()
                    .map(|group| (group.clone(), of(&consumers, &group)));
                assert_eq!(
                    told,
                    rests.filter(|(_, rest)| !rest.is_empty()).collect(),
                    "{at}"
                );
            }
        }
        for connection in 0..6 {
            let is_known = consumers
                .iter()
                .chain(&producers)
                .any(|(_, of)| *of == connection);
            assert_eq!(
                registry.knows(connection),
                is_known,
                "{at} connection {connection}"
            );
            let id = format!("c{connection}");
            let produces = producers.iter().any(|(_, of)| *of == connection);
            assert_eq!(
                registry.producer_connection(&id),
                produces.then_some(connection),
                "{at} {id}"
            );
        }
        for group in 0..4 {
            let group = format!("G{group}");
            let ours: Vec<u64> = members(&registry, &group)
                .into_iter()
                .map(|(connection, _)| connection)
                .collect();
            assert_eq!(ours, of(&consumers, &group), "{at} {group}");
            let ours = registry.producers(&group);
            let ours: Vec<u64> = ours
                .iter()
                .flat_map(|group| group.members.keys().copied())
                .collect();
            assert_eq!(ours, of(&producers, &group), "{at} {group}");
        }
    }
}
