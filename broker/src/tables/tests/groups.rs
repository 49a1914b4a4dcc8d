//! The group table.

use std::path::Path;
use std::sync::Arc;

use gantry_disk::{Disk, faulty::FaultyDisk};
use gantry_wire::bodies::SubscriptionGroupConfig;

use super::{Home, NOW};
use crate::tables::{Groups, Missing, Topics};

#[test]
fn groups_are_created_on_use_when_that_is_allowed_or_they_belong_to_the_system() {
    let long = "g".repeat(255);
    let too_long = "g".repeat(256);
    // name, created with automatic creation, created without
    let cases = [
        ("GroupA", true, false),
        ("CID_RMQ_SYS_TRANS", true, true),
        (long.as_str(), true, false),
        (too_long.as_str(), false, false),
        ("", false, false),
    ];
    for (name, with, without) in cases {
        for (auto_create, expected) in [(true, with), (false, without)] {
            let home = Home::with(|config| config.auto_create_subscription_group = auto_create);
            let groups = home.groups();
            assert_eq!(
                groups.plan(name),
                expected.then(|| Missing::Group(name.to_owned())),
                "{name} {auto_create}"
            );
            let made = groups.get_or_create(name, NOW).unwrap();
            assert_eq!(made.is_some(), expected, "{name} {auto_create}");
            assert_eq!(home.groups().get(name), made, "{name} {auto_create}");
        }
    }
}

/// Readers need no space: their group and its retry topic are there, on disk with the next change that it takes.
#[test]
fn what_consumers_make_is_kept_in_memory_while_the_disk_takes_nothing() {
    let (disk, folder) = (FaultyDisk::new(1), Path::new("/config"));
    let live = Home::new().live;
    let open = || {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let groups = Groups::load(shared.clone(), folder, live.clone(), NOW).unwrap();
        (
            groups,
            Topics::load(shared, folder, live.clone(), NOW).unwrap(),
        )
    };
    let (groups, topics) = open();
    disk.set_room(Some(0));
    assert!(groups.get_or_create("G", NOW).unwrap().is_some());
    let retry = topics.create_retry("G", 1, false, NOW).unwrap();
    assert_eq!(topics.get("%RETRY%G"), Some(retry));
    // What an administrator asks for is on disk or refused, and takes nothing else with it.
    let config = SubscriptionGroupConfig {
        group_name: "H".to_owned(),
        ..Default::default()
    };
    assert!(groups.put(config.clone(), NOW).is_err());
    assert!(groups.get("G").is_some() && groups.get("H").is_none());
    assert!(groups.get_or_create("I", NOW).unwrap().is_some());
    assert!(open().0.get("G").is_none());
    disk.set_room(None);
    groups.put(config, NOW).unwrap();
    let (reopened, _) = open();
    for group in ["G", "H", "I"] {
        assert_eq!(reopened.get(group), groups.get(group), "{group}");
    }
}

#[test]
fn a_new_group_has_javas_defaults() {
    let groups = Home::new().groups();
    let made = groups.get_or_create("GroupA", NOW).unwrap().unwrap();
    let expected = SubscriptionGroupConfig {
        broker_id: 0,
        consume_broadcast_enable: true,
        consume_enable: true,
        consume_from_min_enable: true,
        group_name: "GroupA".to_owned(),
        notify_consumer_ids_changed_enable: true,
        retry_max_times: 16,
        retry_queue_nums: 1,
        which_broker_when_consume_slowly: 1,
    };
    assert_eq!(*made, expected);
}

#[test]
fn a_group_that_exists_is_found_whatever_the_setting() {
    let home = Home::with(|config| config.auto_create_subscription_group = false);
    let groups = home.groups();
    let config = SubscriptionGroupConfig {
        group_name: "GroupA".to_owned(),
        retry_max_times: 3,
        ..Default::default()
    };
    groups.put(config.clone(), NOW).unwrap();
    assert_eq!(
        groups.get_or_create("GroupA", NOW).unwrap().as_deref(),
        Some(&config)
    );
    assert!(groups.remove("GroupA", NOW).unwrap());
    assert!(!groups.remove("GroupA", NOW).unwrap());
    assert_eq!(groups.get_or_create("GroupA", NOW).unwrap(), None);
    assert_eq!(home.groups().version().counter, 2);
}

#[test]
fn automatic_creation_follows_the_configuration_as_it_runs() {
    let home = Home::new();
    let groups = home.groups();
    assert!(groups.plan("GroupA").is_some());
    let mut config = (*home.live.now()).clone();
    config.auto_create_subscription_group = false;
    home.live.replace(config);
    assert_eq!(groups.plan("GroupA"), None);
    assert_eq!(groups.get_or_create("GroupA", NOW).unwrap(), None);
}

#[test]
fn the_body_for_slaves_is_the_table() {
    let groups = Home::new().groups();
    groups.create("GroupA", NOW).unwrap();
    let table = groups.wire_table();
    assert_eq!(table.data_version, groups.version());
    assert_eq!(table.subscription_group_table.len(), 8);
    assert_eq!(
        table.subscription_group_table["GroupA"].group_name,
        "GroupA"
    );
}
