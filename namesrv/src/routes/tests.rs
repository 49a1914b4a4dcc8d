//! Cases of the route table, one behaviour each.

use super::*;

const CONN: ConnectionId = ConnectionId(1);
const OTHER: ConnectionId = ConnectionId(2);

fn queues(perm: i32) -> Queues {
    Queues {
        read: 4,
        write: 4,
        perm,
        sys_flag: 0,
    }
}

fn says(name: &str, id: i64, address: &str, counter: i64, topics: &[&str]) -> Registration {
    Registration {
        cluster: "c1".into(),
        name: name.into(),
        id,
        address: address.into(),
        ha_address: Some(format!("{address}1")),
        version: Version {
            timestamp: 1,
            counter,
        },
        topics: topics
            .iter()
            .map(|topic| ((*topic).to_owned(), queues(6)))
            .collect(),
        epoch: Epoch::NONE,
        filter_servers: Some(Vec::new()),
    }
}

fn register(
    routes: &mut Routes,
    said: &Registration,
    connection: ConnectionId,
    now: i64,
) -> Registered {
    routes.register(said, connection, Millis(now)).unwrap()
}

fn topics(routes: &Routes) -> Vec<&str> {
    routes.topics().collect()
}

fn perm(routes: &Routes, topic: &str, name: &str) -> Option<i32> {
    routes
        .route(topic)
        .and_then(|route| route.queues.get(name).map(|queues| queues.perm))
}

fn addresses(routes: &Routes, name: &str) -> Vec<(i64, String)> {
    routes
        .brokers()
        .find(|broker| broker.name == name)
        .map(|broker| {
            broker
                .addresses
                .iter()
                .map(|(id, address)| (*id, address.clone()))
                .collect()
        })
        .unwrap_or_default()
}

#[test]
fn a_registered_master_is_in_routes_clusters_and_lists() {
    let mut routes = Routes::new();
    let done = register(
        &mut routes,
        &says("a", 0, "h1:1", 1, &["t2", "t1"]),
        CONN,
        0,
    );
    assert_eq!(
        done.events,
        [
            Event::NewBroker,
            Event::NewTopics(vec!["t2".into(), "t1".into()])
        ]
    );
    assert_eq!(done.master, None);
    assert_eq!(topics(&routes), ["t1", "t2"]);
    let route = routes.route("t1").unwrap();
    assert_eq!(route.brokers.len(), 1);
    assert_eq!(route.brokers[0].cluster, "c1");
    assert_eq!(route.brokers[0].addresses[&0], "h1:1");
    assert!(route.filter_servers.is_empty());
    assert_eq!(routes.clusters()["c1"].iter().collect::<Vec<_>>(), [&"a"]);
    assert_eq!(routes.topics_of_cluster("c1").count(), 2);
    assert_eq!(routes.topics_of_cluster("c2").count(), 0);
    let system = routes.system_topics();
    assert_eq!(system.names.into_iter().collect::<Vec<_>>(), ["a", "c1"]);
    assert_eq!(system.address, Some("h1:1"));
    assert!(routes.route("t3").is_none());
}

#[test]
fn a_slave_learns_its_master_and_brings_no_topics() {
    let mut routes = Routes::new();
    assert_eq!(
        register(&mut routes, &says("a", 1, "h2:1", 1, &["t9"]), OTHER, 0).master,
        None
    );
    assert!(topics(&routes).is_empty());
    register(&mut routes, &says("a", 0, "h1:1", 1, &["t1"]), CONN, 0);
    let done = register(&mut routes, &says("a", 1, "h2:1", 1, &[]), OTHER, 0);
    assert_eq!(
        done.master,
        Some(Master {
            address: "h1:1".into(),
            ha_address: Some("h1:11".into())
        })
    );
    // The master goes; its topics stay with the slave, from which consumers go on reading.
    routes.connection_closed(CONN);
    assert_eq!(addresses(&routes, "a"), [(1, "h2:1".to_owned())]);
    assert_eq!(topics(&routes), ["t1"]);
    assert_eq!(
        register(&mut routes, &says("a", 1, "h2:1", 1, &[]), OTHER, 1).master,
        None
    );
    let gone = routes.connection_closed(OTHER);
    assert!(gone[0].last_of_name);
    assert!(routes.is_empty());
    assert!(topics(&routes).is_empty());
    assert!(routes.clusters().is_empty());
}

#[test]
fn registration_adds_and_changes_topics_but_never_removes_one() {
    let mut routes = Routes::new();
    register(
        &mut routes,
        &says("a", 0, "h1:1", 1, &["t1", "t2"]),
        CONN,
        0,
    );
    let mut second = says("a", 0, "h1:1", 2, &["t2", "t3"]);
    second.topics[0].1.perm = 4;
    let done = register(&mut routes, &second, CONN, 1);
    assert_eq!(
        done.events,
        [
            Event::ChangedTopic("t2".into(), queues(6), queues(4)),
            Event::NewTopics(vec!["t3".into()])
        ]
    );
    assert_eq!(topics(&routes), ["t1", "t2", "t3"]);
    assert_eq!(perm(&routes, "t2", "a"), Some(4));
}

// A name server restarts, and the first it hears of a broker is the notice of one new topic, which carries the
// version of the whole table. The whole table that follows has the same version and used to be ignored.
#[test]
fn a_broker_first_heard_of_by_one_topic_is_not_taken_for_complete() {
    let mut routes = Routes::new();
    register(&mut routes, &says("a", 0, "h1:1", 7, &["new"]), CONN, 0);
    let version = Version {
        timestamp: 1,
        counter: 7,
    };
    assert_eq!(
        routes.check_version("h1:1", version, CONN, Millis(1)),
        VersionCheck {
            changed: true,
            known: Some(version)
        }
    );
    register(
        &mut routes,
        &says("a", 0, "h1:1", 7, &["new", "t1", "t2"]),
        CONN,
        2,
    );
    assert_eq!(topics(&routes), ["new", "t1", "t2"]);
    assert!(
        !routes
            .check_version("h1:1", version, CONN, Millis(3))
            .changed
    );
}

#[test]
fn a_lost_notice_is_made_good_by_the_next_whole_table() {
    let mut routes = Routes::new();
    register(
        &mut routes,
        &says("a", 0, "h1:1", 1, &["t1", "t2"]),
        CONN,
        0,
    );
    // Version 2 created t3 and its notice was lost; version 3 created t4.
    register(&mut routes, &says("a", 0, "h1:1", 3, &["t4"]), CONN, 1);
    assert!(
        routes
            .check_version(
                "h1:1",
                Version {
                    timestamp: 1,
                    counter: 3
                },
                CONN,
                Millis(2)
            )
            .changed
    );
    register(
        &mut routes,
        &says("a", 0, "h1:1", 3, &["t1", "t2", "t3", "t4"]),
        CONN,
        3,
    );
    assert_eq!(topics(&routes), ["t1", "t2", "t3", "t4"]);
}

#[test]
fn a_wiped_permission_and_a_deleted_topic_last_until_the_version_changes() {
    let mut routes = Routes::new();
    let table = says("a", 0, "h1:1", 1, &["t1", "t2"]);
    register(&mut routes, &table, CONN, 0);
    assert_eq!(routes.wipe_write_perm("a"), 2);
    assert!(routes.delete_topic("t2"));
    assert!(!routes.delete_topic("t2"));
    register(&mut routes, &table, CONN, 1);
    assert_eq!(perm(&routes, "t1", "a"), Some(4));
    assert_eq!(topics(&routes), ["t1"]);
    // A notice about another topic does not undo it either.
    register(&mut routes, &says("a", 0, "h1:1", 2, &["t3"]), CONN, 2);
    assert_eq!(perm(&routes, "t1", "a"), Some(4));
    register(
        &mut routes,
        &says("a", 0, "h1:1", 3, &["t1", "t2", "t3"]),
        CONN,
        3,
    );
    assert_eq!(perm(&routes, "t1", "a"), Some(6));
    assert_eq!(topics(&routes), ["t1", "t2", "t3"]);
}

#[test]
fn write_permission_is_taken_and_given_by_broker_name() {
    let mut routes = Routes::new();
    let mut table = says("a", 0, "h1:1", 1, &["t1", "t2"]);
    table.topics[0].1.perm = 7;
    register(&mut routes, &table, CONN, 0);
    register(&mut routes, &says("b", 0, "h2:1", 1, &["t1"]), OTHER, 0);
    assert_eq!(routes.wipe_write_perm("a"), 2);
    assert_eq!(
        (perm(&routes, "t1", "a"), perm(&routes, "t1", "b")),
        (Some(5), Some(6))
    );
    assert_eq!(routes.add_write_perm("a"), 2);
    assert_eq!(perm(&routes, "t1", "a"), Some(6));
    assert_eq!(routes.wipe_write_perm("nobody"), 0);
}

#[test]
fn an_unchanged_version_is_a_sign_of_life() {
    let mut routes = Routes::new();
    register(
        &mut routes,
        &says("a", 0, "h1:1", 1, &["t1", "t2"]),
        CONN,
        0,
    );
    let same = Version {
        timestamp: 1,
        counter: 1,
    };
    assert!(
        !routes
            .check_version("h1:1", same, CONN, Millis(100_000))
            .changed
    );
    assert!(
        routes
            .check_version(
                "h1:1",
                Version {
                    timestamp: 2,
                    counter: 1
                },
                CONN,
                Millis(200_000)
            )
            .changed
    );
    assert_eq!(
        routes.check_version("h9:1", same, CONN, Millis(0)),
        VersionCheck {
            changed: true,
            known: None
        }
    );
    assert!(routes.expire(Millis(100_000 + EXPIRE_AFTER_MS)).is_empty());
    let gone = routes.expire(Millis(100_001 + EXPIRE_AFTER_MS));
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].connection, Some(CONN));
    assert!(routes.is_empty());
}

#[test]
fn a_second_live_master_of_one_name_is_refused_and_told_who_has_it() {
    let mut routes = Routes::new();
    register(&mut routes, &says("a", 0, "h1:1", 1, &["t1"]), CONN, 0);
    let second = says("a", 0, "h2:1", 1, &["t1"]);
    let refused = routes
        .register(&second, OTHER, Millis(OWNER_QUIET_MS - 1))
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "broker name a id 0 is held by h1:1, which is connected and registered 59999 ms ago; h2:1 is refused until \
         that connection closes or is silent for 60000 ms"
    );
    assert_eq!(addresses(&routes, "a"), [(0, "h1:1".to_owned())]);
    // The same address always replaces, over whatever connection.
    register(
        &mut routes,
        &says("a", 0, "h1:1", 1, &["t1"]),
        ConnectionId(9),
        OWNER_QUIET_MS - 1,
    );
    assert!(routes.connection_closed(CONN).is_empty());
    // Two slaves with one id are the same mistake.
    register(&mut routes, &says("a", 1, "h3:1", 1, &[]), CONN, 0);
    assert!(
        routes
            .register(&says("a", 1, "h4:1", 1, &[]), OTHER, Millis(1))
            .is_err()
    );
}

#[test]
fn a_silent_or_closed_holder_loses_its_name() {
    let mut routes = Routes::new();
    register(&mut routes, &says("a", 0, "h1:1", 1, &["t1"]), CONN, 0);
    let done = register(
        &mut routes,
        &says("a", 0, "h2:1", 1, &["t1"]),
        OTHER,
        OWNER_QUIET_MS,
    );
    assert_eq!(
        done.events[..2],
        [Event::NewBroker, Event::TookOver("h1:1".into())]
    );
    assert_eq!(addresses(&routes, "a"), [(0, "h2:1".to_owned())]);
    // The one that lost it is unknown now: its connection may close, and its goodbye must not hurt the new one.
    assert!(routes.connection_closed(CONN).is_empty());
    assert_eq!(routes.unregister("a", "h1:1", CONN, Millis(0)), None);
    assert_eq!(addresses(&routes, "a"), [(0, "h2:1".to_owned())]);
    routes.connection_closed(OTHER);
    register(
        &mut routes,
        &says("a", 0, "h1:1", 1, &["t1"]),
        CONN,
        OWNER_QUIET_MS + 1,
    );
}

#[test]
fn a_slave_that_becomes_master_has_one_entry() {
    let mut routes = Routes::new();
    register(&mut routes, &says("a", 0, "h1:1", 1, &["t1"]), CONN, 0);
    register(&mut routes, &says("a", 1, "h2:1", 1, &["t1"]), OTHER, 0);
    routes.connection_closed(CONN);
    let done = register(
        &mut routes,
        &says("a", 0, "h2:1", 1, &["t1", "t2"]),
        OTHER,
        1,
    );
    assert_eq!(
        done.events,
        [
            Event::WasKnownAs("a".into(), 1),
            Event::NewTopics(vec!["t2".into()])
        ]
    );
    assert_eq!(addresses(&routes, "a"), [(0, "h2:1".to_owned())]);
}

#[test]
fn a_renamed_broker_leaves_nothing_under_its_old_name() {
    let mut routes = Routes::new();
    register(&mut routes, &says("a", 0, "h1:1", 1, &["t1"]), CONN, 0);
    register(&mut routes, &says("b", 0, "h1:1", 1, &["t2"]), CONN, 1);
    assert_eq!(topics(&routes), ["t2"]);
    assert!(addresses(&routes, "a").is_empty());
    let mut moved = says("b", 0, "h1:1", 1, &["t2"]);
    moved.cluster = "c2".into();
    let done = register(&mut routes, &moved, CONN, 2);
    assert_eq!(done.events, [Event::ChangedCluster("c1".into())]);
    assert_eq!(routes.clusters().into_keys().collect::<Vec<_>>(), ["c2"]);
    // A slave cannot move its master.
    let done = register(&mut routes, &says("b", 1, "h2:1", 1, &[]), OTHER, 2);
    assert_eq!(
        done.events,
        [Event::NewBroker, Event::OtherCluster("c1".into())]
    );
    assert_eq!(routes.clusters().into_keys().collect::<Vec<_>>(), ["c2"]);
}

#[test]
fn unregistering_compares_addresses_and_names() {
    let mut routes = Routes::new();
    register(&mut routes, &says("a", 0, "h1:1", 1, &["t1"]), CONN, 0);
    assert_eq!(routes.unregister("a", "h2:1", CONN, Millis(0)), None);
    assert_eq!(routes.unregister("b", "h1:1", CONN, Millis(0)), None);
    let gone = routes.unregister("a", "h1:1", CONN, Millis(0)).unwrap();
    assert_eq!((gone.id, gone.last_of_name), (0, true));
    assert!(routes.is_empty());
}

#[test]
fn a_route_is_held_for_a_broker_that_restarts() {
    let mut routes = Routes::new();
    let table = says("a", 0, "h1:1", 1, &["t1"]);
    register(&mut routes, &table, CONN, 0);
    assert!(!routes.hold("b", "h1:1", 5_000, (CONN, Millis(10))));
    assert!(routes.hold("a", "h1:1", 5_000, (CONN, Millis(10))));
    assert_eq!(routes.first_hold_end(), Some(Millis(5_010)));
    assert!(routes.connection_closed(CONN).is_empty());
    assert!(routes.expire(Millis(5_009)).is_empty());
    register(&mut routes, &table, OTHER, 5_009);
    assert_eq!(routes.first_hold_end(), None);
    assert!(routes.expire(Millis(6_000)).is_empty());
    // One that does not come back is gone when its time is up, and the time it may ask for is limited.
    assert!(routes.hold("a", "h1:1", i64::MAX, (OTHER, Millis(6_000))));
    assert!(routes.expire(Millis(6_000 + HOLD_MAX_MS - 1)).is_empty());
    assert_eq!(routes.expire(Millis(6_000 + HOLD_MAX_MS)).len(), 1);
    assert!(topics(&routes).is_empty());
}

// A link is cut and healed. The broker has given up its connection and comes by another; only then does the name server
// read what was sent over the old one, and its end. The broker used to be missing until its next period.
#[test]
fn what_comes_late_over_an_older_connection_undoes_nothing() {
    let mut routes = Routes::new();
    register(&mut routes, &says("a", 1, "h1:1", 1, &[]), CONN, 0);
    register(&mut routes, &says("a", 0, "h1:1", 2, &["t1"]), OTHER, 10);
    let late = register(&mut routes, &says("a", 1, "h1:1", 1, &["t2"]), CONN, 20);
    assert_eq!(late.events, [Event::Late]);
    assert_eq!(routes.unregister("a", "h1:1", CONN, Millis(20)), None);
    assert!(!routes.hold("a", "h1:1", 1, (CONN, Millis(20))));
    assert!(routes.connection_closed(CONN).is_empty());
    assert!(routes.expire(Millis(1_000)).is_empty());
    assert_eq!(addresses(&routes, "a"), [(0, "h1:1".to_owned())]);
    assert_eq!(topics(&routes), ["t1"]);
    // The newer one stands for the broker: its end is the broker's.
    assert_eq!(routes.connection_closed(OTHER).len(), 1);
    register(&mut routes, &says("a", 0, "h1:1", 2, &["t1"]), CONN, 30);
    assert_eq!(addresses(&routes, "a"), [(0, "h1:1".to_owned())]);
}

// Apache's broker asks first, also over a new connection, and does not register when nothing changed.
#[test]
fn a_question_over_a_newer_connection_moves_the_broker_there() {
    let mut routes = Routes::new();
    let table = says("a", 0, "h1:1", 1, &["t1", "t2"]);
    register(&mut routes, &table, CONN, 0);
    let check = routes.check_version("h1:1", table.version, OTHER, Millis(10));
    assert!(!check.changed);
    assert!(routes.connection_closed(CONN).is_empty());
    assert_eq!(topics(&routes), ["t1", "t2"]);
    assert_eq!(routes.connection_closed(OTHER).len(), 1);
}

#[test]
fn an_older_connection_counts_again_when_the_newer_is_silent() {
    let mut routes = Routes::new();
    let table = says("a", 0, "h1:1", 1, &["t1"]);
    register(&mut routes, &table, OTHER, 0);
    let late = register(&mut routes, &table, CONN, OWNER_QUIET_MS - 1);
    assert_eq!(late.events, [Event::Late]);
    register(&mut routes, &table, CONN, OWNER_QUIET_MS);
    assert!(routes.connection_closed(OTHER).is_empty());
    assert_eq!(routes.connection_closed(CONN).len(), 1);
}

#[test]
fn one_connection_may_carry_several_brokers() {
    let mut routes = Routes::new();
    register(&mut routes, &says("a", 0, "h1:1", 1, &["t1"]), CONN, 0);
    register(&mut routes, &says("b", 0, "h1:2", 1, &["t1"]), CONN, 0);
    assert_eq!(routes.connection_closed(CONN).len(), 2);
    assert!(routes.is_empty());
}

#[test]
fn deleting_in_one_cluster_leaves_the_others() {
    let mut routes = Routes::new();
    register(&mut routes, &says("a", 0, "h1:1", 1, &["t1"]), CONN, 0);
    let mut elsewhere = says("b", 0, "h2:1", 1, &["t1"]);
    elsewhere.cluster = "c2".into();
    register(&mut routes, &elsewhere, OTHER, 0);
    assert_eq!(routes.delete_topic_in_cluster("t1", "nowhere"), 0);
    assert_eq!(routes.delete_topic_in_cluster("t1", "c1"), 1);
    assert_eq!(
        (perm(&routes, "t1", "a"), perm(&routes, "t1", "b")),
        (None, Some(6))
    );
    assert_eq!(routes.delete_topic_in_cluster("t1", "c2"), 1);
    assert!(routes.route("t1").is_none());
}

#[test]
fn filter_servers_follow_their_broker() {
    let mut routes = Routes::new();
    let mut table = says("a", 0, "h1:1", 1, &["t1"]);
    table.filter_servers = Some(vec!["h1:30000".into()]);
    register(&mut routes, &table, CONN, 0);
    table.filter_servers = None;
    register(&mut routes, &table, CONN, 0);
    assert_eq!(
        routes.route("t1").unwrap().filter_servers["h1:1"],
        ["h1:30000"]
    );
    table.filter_servers = Some(Vec::new());
    register(&mut routes, &table, CONN, 0);
    assert!(routes.route("t1").unwrap().filter_servers.is_empty());
}

#[test]
fn unit_topics_are_told_by_flags() {
    let mut routes = Routes::new();
    let mut table = says("a", 0, "h1:1", 1, &["n", "u", "us", "s"]);
    for (topic, flag) in table.topics.iter_mut().zip([0, 1, 3, 2]) {
        topic.1.sys_flag = flag;
    }
    register(&mut routes, &table, CONN, 0);
    let list = |unit| routes.unit_topics(unit).collect::<Vec<_>>();
    assert_eq!(list(Unit::Unit), ["u", "us"]);
    assert_eq!(list(Unit::Subscribed), ["s", "us"]);
    assert_eq!(list(Unit::SubscribedNotUnit), ["s"]);
}

#[test]
fn bad_names_are_refused_and_bad_topics_left_out() {
    let check = |change: &dyn Fn(&mut Registration), expected: &str| {
        let mut said = says("a", 0, "h1:1", 1, &["t1"]);
        change(&mut said);
        assert_eq!(
            Routes::new()
                .register(&said, CONN, Millis(0))
                .unwrap_err()
                .to_string(),
            expected
        );
    };
    check(&|said| said.cluster.clear(), "clusterName is empty");
    check(&|said| said.name.clear(), "brokerName is empty");
    check(&|said| said.address.clear(), "brokerAddr is empty");
    check(
        &|said| said.name = "x".repeat(256),
        "brokerName has 256 bytes, the limit is 255",
    );
    check(
        &|said| said.ha_address = Some("x".repeat(256)),
        "haServerAddr has 256 bytes, the limit is 255",
    );

    let mut routes = Routes::new();
    let mut table = says("a", 0, "h1:1", 1, &["", "neg", "good"]);
    table.topics[1].1.read = -1;
    table.topics.push(("x".repeat(256), queues(6)));
    let done = register(&mut routes, &table, CONN, 0);
    let skipped: Vec<_> = done
        .events
        .iter()
        .filter(|event| matches!(event, Event::SkippedTopic(..)))
        .collect();
    assert_eq!(skipped.len(), 3);
    assert_eq!(topics(&routes), ["good"]);
}

#[test]
fn more_brokers_than_the_limit_are_refused_but_known_ones_go_on() {
    let mut routes = Routes::new();
    for i in 0..BROKERS_MAX {
        register(
            &mut routes,
            &says(&format!("b{i}"), 0, &format!("h{i}:1"), 1, &[]),
            CONN,
            0,
        );
    }
    assert!(matches!(
        routes.register(&says("one-more", 0, "h:2", 1, &[]), CONN, Millis(0)),
        Err(RegisterError::TooManyBrokers { .. })
    ));
    register(&mut routes, &says("b0", 0, "h0:1", 2, &["t"]), CONN, 1);
}

fn promoted(said: Registration, number: u64) -> Registration {
    Registration {
        epoch: Epoch { number, holder: 1 },
        ..said
    }
}

#[test]
fn a_promoted_master_takes_the_name_at_once_and_the_replaced_one_does_not_get_it_back() {
    let mut routes = Routes::new();
    let old = says("a", 0, "h1:1", 1, &["t"]);
    register(&mut routes, &old, CONN, 0);
    // The slave at h2 is promoted while the old master is connected and was heard of just now.
    let new = promoted(says("a", 0, "h2:1", 1, &["t"]), 1);
    let done = routes.register(&new, OTHER, Millis(1)).unwrap();
    assert_eq!(done.epoch, new.epoch);
    assert_eq!(routes.route("t").unwrap().brokers[0].addresses[&0], "h2:1");
    let refused = routes.register(&old, CONN, Millis(2));
    assert!(matches!(
        refused,
        Err(RegisterError::Replaced { newest, .. }) if newest == new.epoch
    ));
    // Nor when the new one is gone.
    routes.connection_closed(OTHER);
    assert!(routes.register(&old, CONN, Millis(3)).is_err());
    // As a slave it is welcome, and hears of the promotion.
    let slave = says("a", 1, "h1:1", 1, &[]);
    let done = routes.register(&slave, CONN, Millis(4)).unwrap();
    assert_eq!(done.epoch, new.epoch);
    assert_eq!(routes.epoch_of("a"), new.epoch);
    assert_eq!(routes.epoch_of("b"), Epoch::NONE);
    let unbelievable = promoted(slave, u64::MAX);
    let refused = routes.register(&unbelievable, CONN, Millis(5));
    assert!(matches!(refused, Err(RegisterError::Unbelievable { .. })));
}

#[test]
fn a_slave_that_knows_of_a_promotion_is_enough_to_refuse_the_master_before() {
    let mut routes = Routes::new();
    let old = says("a", 0, "h1:1", 1, &["t", "u"]);
    register(&mut routes, &old, CONN, 0);
    let version = old.version;
    assert!(
        !routes
            .check_version("h1:1", version, CONN, Millis(1))
            .changed
    );
    let slave = promoted(says("a", 2, "h3:1", 1, &[]), 4);
    register(&mut routes, &slave, CONN, 1);
    // It does not send its table for as long as the version is known, so it is asked for it.
    assert!(
        routes
            .check_version("h1:1", version, CONN, Millis(2))
            .changed
    );
    assert!(routes.register(&old, CONN, Millis(3)).is_err());
}

#[test]
fn a_name_server_keeps_only_so_many_epochs() {
    let mut routes = Routes::new();
    for number in 0..EPOCHS_MAX {
        let name = format!("b{number}");
        let said = promoted(says(&name, 1, "h1:1", 1, &[]), 1);
        register(&mut routes, &said, CONN, 0);
    }
    let more = promoted(says("more", 1, "h1:1", 1, &[]), 1);
    assert!(matches!(
        routes.register(&more, CONN, Millis(0)),
        Err(RegisterError::TooManyEpochs { .. })
    ));
    register(
        &mut routes,
        &promoted(says("b7", 1, "h1:1", 1, &[]), 2),
        CONN,
        0,
    );
    register(&mut routes, &says("more", 1, "h1:1", 1, &[]), CONN, 0);
}
