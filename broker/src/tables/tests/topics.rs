//! The topic table.

use std::{collections::BTreeSet, sync::Arc};

use gantry_message::Millis;
use gantry_wire::bodies::TopicConfig;

use super::{Home, NOW};
use crate::tables::{Missing, Topics};

fn topic(name: &str, queues: i32) -> TopicConfig {
    TopicConfig {
        topic_name: name.to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        ..TopicConfig::default()
    }
}

/// `(read, write, perm, sys flag)` of the topic that a send would make.
fn planned(
    topics: &Topics,
    name: &str,
    template: &str,
    queues: i32,
    unit_mode: bool,
) -> Option<(i32, i32, i32, i32)> {
    topics
        .plan_on_send(name, template, queues, unit_mode)
        .map(|missing| match missing {
            Missing::Topic(config) => {
                assert_eq!(config.topic_name, name);
                (
                    config.read_queue_nums,
                    config.write_queue_nums,
                    config.perm,
                    config.topic_sys_flag,
                )
            }
            Missing::Group(group) => panic!("a topic is missing, not the group {group}"),
        })
}

#[test]
fn built_in_topics_follow_the_configuration() {
    let default = Home::new().topics();
    let closed = Home::with(|config| {
        config.auto_create_topic_enable = false;
        config.cluster_topic_enable = false;
        config.broker_topic_enable = false;
        config.trace_topic_enable = true;
        config.msg_trace_topic_name = "MyTrace".to_owned();
    })
    .topics();
    // name, (read queues, perm) by default, and with everything turned off and traces on
    let cases = [
        ("SELF_TEST_TOPIC", Some((1, 6)), Some((1, 6))),
        ("TBW102", Some((8, 7)), None),
        ("BenchmarkTest", Some((1024, 6)), Some((1024, 6))),
        ("DefaultCluster", Some((16, 7)), Some((16, 1))),
        ("broker-a", Some((1, 7)), Some((1, 1))),
        ("OFFSET_MOVED_EVENT", Some((1, 6)), Some((1, 6))),
        ("SCHEDULE_TOPIC_XXXX", Some((18, 6)), Some((18, 6))),
        ("DefaultCluster_REPLY_TOPIC", Some((1, 6)), Some((1, 6))),
        ("MyTrace", None, Some((1, 6))),
        ("RMQ_SYS_TRANS_HALF_TOPIC", None, None),
    ];
    for (name, by_default, by_settings) in cases {
        let look = |topics: &Topics| {
            topics
                .get(name)
                .map(|config| (config.read_queue_nums, config.perm))
        };
        assert_eq!(
            (look(&default), look(&closed)),
            (by_default, by_settings),
            "{name}"
        );
    }
}

#[test]
fn system_topics_are_the_brokers_own_and_everything_that_begins_like_one() {
    let topics = Home::with(|config| {
        config.trace_topic_enable = true;
        config.msg_trace_topic_name = "MyTrace".to_owned();
    })
    .topics();
    let cases = [
        ("TBW102", true),
        ("RMQ_SYS_TRANS_HALF_TOPIC", true),
        ("TRANS_CHECK_MAX_TIME_TOPIC", true),
        ("DefaultCluster", true),
        ("broker-a", true),
        ("DefaultCluster_REPLY_TOPIC", true),
        ("MyTrace", true),
        ("RMQ_SYS_TRACE_TOPIC", true),
        ("rmq_sys_anything", true),
        ("RMQ_SYS_anything", false),
        ("%RETRY%group", false),
        ("TopicA", false),
    ];
    for (name, expected) in cases {
        assert_eq!(topics.is_system(name), expected, "{name}");
        if !name.starts_with("rmq_sys_") {
            assert_eq!(
                topics.system_topics().contains(&name.to_owned()),
                expected,
                "{name}"
            );
        }
    }
}

#[test]
fn an_unknown_topic_is_made_like_the_template_the_send_names() {
    let topics = Home::new().topics();
    topics
        .put(
            TopicConfig {
                perm: 5,
                ..topic("ReadOnlyTemplate", 3)
            },
            NOW,
        )
        .unwrap();
    topics.put(topic("NoTemplate", 3), NOW).unwrap();
    // template, queues asked, unit mode: (read, write, perm, sys flag)
    let cases = [
        ("TBW102", 4, false, Some((4, 4, 6, 0))),
        ("TBW102", 100, false, Some((8, 8, 6, 0))),
        ("TBW102", -1, false, Some((0, 0, 6, 0))),
        ("TBW102", 4, true, Some((4, 4, 6, 1))),
        ("ReadOnlyTemplate", 4, false, Some((3, 3, 4, 0))),
        ("NoTemplate", 4, false, None),
        ("Unknown", 4, false, None),
    ];
    for (template, queues, unit_mode, expected) in cases {
        assert_eq!(
            planned(&topics, "New", template, queues, unit_mode),
            expected,
            "{template} {queues} {unit_mode}"
        );
    }
}

#[test]
fn a_retry_topic_is_made_even_without_a_template() {
    let topics = Home::with(|config| config.auto_create_topic_enable = false).topics();
    let cases = [
        ("%RETRY%g", false, Some((1, 1, 6, 0))),
        ("%RETRY%g", true, Some((1, 1, 6, 2))),
        ("%DLQ%g", false, None),
    ];
    for (name, unit_mode, expected) in cases {
        assert_eq!(
            planned(&topics, name, "TBW102", 4, unit_mode),
            expected,
            "{name} {unit_mode}"
        );
    }
}

#[test]
fn turning_automatic_creation_off_counts_at_once_and_at_the_next_start() {
    let home = Home::new();
    let topics = home.topics();
    topics.touch(NOW).unwrap();
    assert!(planned(&topics, "New", "TBW102", 4, false).is_some());
    let mut config = (*home.live.now()).clone();
    config.auto_create_topic_enable = false;
    home.live.replace(config);
    assert_eq!(planned(&topics, "New", "TBW102", 4, false), None);
    // The file still holds the template as it was.
    let restarted = home.topics();
    assert_eq!(restarted.get("TBW102").unwrap().perm, 6);
    assert_eq!(planned(&restarted, "New", "TBW102", 4, false), None);
}

#[test]
fn every_change_is_on_disk_when_it_returns_and_moves_version_and_generation() {
    let home = Home::new();
    let topics = home.topics();
    let mut counter = topics.version().counter;
    let mut generation = topics.generation();
    let mut changed = |what: &str| {
        counter += 1;
        assert_eq!(topics.version().counter, counter, "{what}");
        assert!(generation < topics.generation(), "{what}");
        generation = topics.generation();
        assert_eq!(home.topics().all().entries, topics.all().entries, "{what}");
        assert_eq!(home.topics().version(), topics.version(), "{what}");
    };
    topics.create(topic("A", 4), NOW).unwrap();
    changed("create");
    topics.create_retry("G", 2, true, NOW).unwrap();
    changed("retry topic");
    topics.create_dead_letter("G", NOW).unwrap();
    changed("dead-letter topic");
    topics
        .put(
            TopicConfig {
                perm: 4,
                ..topic("A", 8)
            },
            Millis(NOW.0 + 1),
        )
        .unwrap();
    changed("put");
    assert!(topics.remove("A", NOW).unwrap());
    changed("remove");
    topics.touch(NOW).unwrap();
    changed("touch");
    let retry = topics.get("%RETRY%G").unwrap();
    assert_eq!(
        (
            retry.read_queue_nums,
            retry.write_queue_nums,
            retry.perm,
            retry.topic_sys_flag
        ),
        (2, 2, 6, 2)
    );
    let dead = topics.get("%DLQ%G").unwrap();
    assert_eq!((dead.read_queue_nums, dead.perm), (1, 6));
}

#[test]
fn what_changes_nothing_moves_nothing() {
    let home = Home::new();
    let topics = home.topics();
    topics.create(topic("A", 4), NOW).unwrap();
    let before = (topics.version(), topics.generation());
    let kept = topics.create(topic("A", 99), NOW).unwrap();
    assert_eq!(kept.read_queue_nums, 4);
    assert!(!topics.remove("Unknown", NOW).unwrap());
    topics.create_retry("G", 1, false, NOW).unwrap();
    let after = (topics.version(), topics.generation());
    topics.create_retry("G", 5, false, NOW).unwrap();
    assert!(!topics.set_order_topics(&BTreeSet::new(), NOW).unwrap());
    assert_eq!((topics.version(), topics.generation()), after);
    assert_eq!(
        (before.0.counter + 1, before.1 + 1),
        (after.0.counter, after.1)
    );
}

#[test]
fn the_order_flag_follows_the_name_server_alone() {
    let home = Home::new();
    let topics = home.topics();
    for name in ["A", "B"] {
        topics.create(topic(name, 4), NOW).unwrap();
    }
    let ordered = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<BTreeSet<String>>()
    };
    let flags = |topics: &Topics| (topics.is_order("A"), topics.is_order("B"));
    assert!(
        topics
            .set_order_topics(&ordered(&["A", "NotHere"]), NOW)
            .unwrap()
    );
    assert_eq!(flags(&topics), (true, false));
    topics.put(topic("A", 8), NOW).unwrap();
    assert_eq!(
        flags(&topics),
        (true, false),
        "replacing a topic keeps its flag"
    );
    topics
        .put(
            TopicConfig {
                order: true,
                ..topic("B", 8)
            },
            NOW,
        )
        .unwrap();
    assert_eq!(flags(&topics), (true, false), "a request cannot set it");
    assert!(topics.set_order_topics(&ordered(&["B"]), NOW).unwrap());
    assert_eq!(flags(&topics), (false, true));
    assert_eq!(flags(&home.topics()), (false, true));
}

#[test]
fn topics_made_at_the_same_time_are_all_there_afterwards() {
    let home = Home::new();
    let topics = Arc::new(home.topics());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let topics = topics.clone();
            scope.spawn(move || {
                for number in 0..8 {
                    // Every topic is asked for by two threads.
                    let name = format!("topic-{}", (thread / 2) * 8 + number);
                    let made = topics.create(topic(&name, 1), NOW).unwrap();
                    assert_eq!(topics.get(&name), Some(made), "visible when it returns");
                }
            });
        }
    });
    let restarted = home.topics();
    for number in 0..32 {
        assert!(
            restarted.get(&format!("topic-{number}")).is_some(),
            "topic-{number}"
        );
    }
    assert_eq!(restarted.version().counter, 32);
}

#[test]
fn a_change_that_cannot_be_written_is_refused_and_not_visible() {
    let home = Home::new();
    let topics = home.topics();
    topics.create(topic("A", 4), NOW).unwrap();
    let before = (
        topics.all().entries.clone(),
        topics.version(),
        topics.generation(),
    );
    home.break_writing("topics.json");
    let error = topics.create(topic("B", 4), NOW).unwrap_err();
    assert!(error.to_string().contains("topics.json"), "{error}");
    assert!(topics.remove("A", NOW).is_err());
    assert_eq!(
        (
            topics.all().entries.clone(),
            topics.version(),
            topics.generation()
        ),
        before
    );
    home.mend_writing("topics.json");
    topics.create(topic("B", 4), NOW).unwrap();
    assert!(home.topics().get("B").is_some());
}

#[test]
fn a_damaged_file_is_set_aside_and_the_backup_is_used() {
    let home = Home::new();
    let topics = home.topics();
    topics.create(topic("Old", 4), NOW).unwrap();
    topics.create(topic("New", 4), NOW).unwrap();
    home.write("topics.json", "{\"dataVersion\":{\"coun");
    let recovered = home.topics();
    assert!(recovered.get("Old").is_some() && recovered.get("New").is_none());
    assert_eq!(home.set_aside("topics.json"), "{\"dataVersion\":{\"coun");
    recovered.create(topic("Newer", 4), NOW).unwrap();
    assert!(home.topics().get("Newer").is_some());
}

#[test]
fn of_an_empty_or_missing_file_the_backup_is_used_and_stays() {
    for empty in [true, false] {
        let home = Home::new();
        let topics = home.topics();
        topics.create(topic("Old", 4), NOW).unwrap();
        topics.create(topic("New", 4), NOW).unwrap();
        if empty {
            home.write("topics.json", "");
        } else {
            std::fs::remove_file(home.path().join("topics.json")).unwrap();
        }
        let backup = home.read("topics.json.bak");
        let topics = home.topics();
        assert!(topics.get("Old").is_some(), "empty: {empty}");
        // Nothing that is empty is there any more to become the next backup.
        topics.create(topic("Newer", 4), NOW).unwrap();
        assert_eq!(home.read("topics.json.bak"), backup, "empty: {empty}");
    }
}

#[test]
fn a_damaged_file_without_a_backup_is_set_aside() {
    let home = Home::new();
    home.write("topics.json", "no json");
    let topics = home.topics();
    assert!(topics.get("TBW102").is_some());
    assert_eq!(home.names(), Vec::<String>::new());
    assert_eq!(home.set_aside("topics.json"), "no json");
}

#[test]
fn a_damaged_backup_that_would_be_needed_is_set_aside_as_well() {
    let home = Home::new();
    home.write("topics.json", "no json");
    home.write("topics.json.bak", "neither");
    assert!(home.topics().get("TBW102").is_some());
    assert_eq!(home.set_aside("topics.json"), "no json");
    assert_eq!(home.set_aside("topics.json.bak"), "neither");
}

#[test]
fn topics_of_a_lost_table_are_made_again_from_the_queues_of_the_store() {
    let queues = [("A", 3), ("%RETRY%G", 1), ("B", 20), ("TBW102", 2)];
    let queues = || queues.map(|(name, count)| (name.to_owned(), count));
    let home = Home::new();
    let topics = home.topics();
    let template = topics.get("TBW102");
    topics.make_again(queues(), false, NOW).unwrap();
    assert_eq!(topics.get("TBW102"), template, "built in");
    for topics in [topics, home.topics()] {
        let count = |name: &str| topics.get(name).unwrap().read_queue_nums;
        assert_eq!(
            ["A", "%RETRY%G", "B"].map(count),
            [8, 1, 20],
            "as many as there are, and no fewer than new topics have"
        );
    }
    // With a table, what is not in it was deleted.
    let topics = home.topics();
    topics.remove("A", NOW).unwrap();
    let topics = home.topics();
    topics.make_again(queues(), false, NOW).unwrap();
    assert!(topics.get("A").is_none());
    // Behind a promotion it may be the old master's that was not copied.
    topics.make_again(queues(), true, NOW).unwrap();
    assert!(topics.get("A").is_some());
}

#[test]
fn a_missing_topic_or_group_is_made_by_what_stands_for_it() {
    let home = Home::new();
    let (topics, groups) = (home.topics(), home.groups());
    let missing = [
        Missing::retry_topic("G", 2, false),
        Missing::dead_letter_topic("G"),
        Missing::Group("G".to_owned()),
        topics.plan_on_send("A", "TBW102", 4, false).unwrap(),
    ];
    for missing in missing {
        missing.create(&topics, &groups, NOW).unwrap();
        missing.create(&topics, &groups, NOW).unwrap();
    }
    let restarted = home.topics();
    for name in ["%RETRY%G", "%DLQ%G", "A"] {
        assert!(restarted.get(name).is_some(), "{name}");
    }
    assert!(home.groups().get("G").is_some());
}
