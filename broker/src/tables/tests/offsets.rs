//! The offset table.

use std::{collections::BTreeSet, sync::Arc};

use gantry_message::{QueueId, QueueOffset};

use super::{Home, NOW};
use crate::tables::{CommitError, Offsets};

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn commit(offsets: &Offsets, group: &str, topic: &str, queue: u32, offset: u64) {
    offsets
        .commit(group, topic, QueueId(queue), QueueOffset(offset))
        .unwrap();
}

fn query(offsets: &Offsets, group: &str, topic: &str, queue: u32) -> Option<u64> {
    offsets
        .query(group, topic, QueueId(queue))
        .map(|offset| offset.0)
}

#[test]
fn a_position_is_taken_as_given_and_the_one_before_is_told() {
    let offsets = Home::new().offsets();
    let take = |offset| {
        offsets
            .commit("G", "T", QueueId(3), QueueOffset(offset))
            .unwrap()
            .map(|before| before.0)
    };
    assert_eq!(
        [take(10), take(20), take(5), take(5)],
        [None, Some(10), Some(20), Some(5)]
    );
    assert_eq!(query(&offsets, "G", "T", 3), Some(5));
    assert_eq!(
        [
            query(&offsets, "G", "T", 0),
            query(&offsets, "H", "T", 3),
            query(&offsets, "G", "U", 3)
        ],
        [None; 3]
    );
}

#[test]
fn a_forgotten_position_is_unknown_and_the_others_stay() {
    let offsets = Home::new().offsets();
    commit(&offsets, "G", "T", 0, 7);
    commit(&offsets, "G", "T", 1, 8);
    offsets.forget("G", "T", QueueId(0));
    offsets.forget("G", "T", QueueId(9));
    offsets.forget("G", "Unknown", QueueId(0));
    assert_eq!(
        (query(&offsets, "G", "T", 0), query(&offsets, "G", "T", 1)),
        (None, Some(8))
    );
}

#[test]
fn positions_are_found_by_group_and_by_topic() {
    let offsets = Home::new().offsets();
    commit(&offsets, "G", "T", 0, 1);
    commit(&offsets, "G", "T", 1, 2);
    commit(&offsets, "G", "U", 0, 3);
    commit(&offsets, "H", "T", 0, 4);
    assert_eq!(offsets.topics_of("G"), set(&["T", "U"]));
    assert_eq!(offsets.topics_of("Unknown"), set(&[]));
    assert_eq!(offsets.groups_of("T"), set(&["G", "H"]));
    assert_eq!(offsets.groups_of("Unknown"), set(&[]));
    assert_eq!(
        offsets.of("G", "T"),
        [(QueueId(0), QueueOffset(1)), (QueueId(1), QueueOffset(2))].into()
    );
    assert_eq!(offsets.of("G", "Unknown"), [].into());
}

#[test]
fn removing_a_group_leaves_the_others() {
    let home = Home::new();
    let offsets = home.offsets();
    for (group, topic) in [("G", "T"), ("G", "U"), ("GG", "T"), ("H", "U")] {
        commit(&offsets, group, topic, 0, 1);
    }
    offsets.remove_group("G");
    offsets.flush().unwrap();
    for offsets in [&offsets, &home.offsets()] {
        assert_eq!(offsets.groups_of("T"), set(&["GG"]));
        assert_eq!(offsets.groups_of("U"), set(&["H"]));
    }
}

#[test]
fn copying_gives_the_target_exactly_the_sources_positions() {
    let offsets = Home::new().offsets();
    commit(&offsets, "from", "T", 0, 1);
    commit(&offsets, "from", "T", 1, 2);
    commit(&offsets, "to", "T", 5, 9);
    commit(&offsets, "to", "U", 0, 9);
    assert!(offsets.copy("from", "to", "T"));
    assert!(!offsets.copy("from", "to", "U"));
    assert_eq!(offsets.of("to", "T"), offsets.of("from", "T"));
    assert_eq!(query(&offsets, "to", "U", 0), Some(9));
    commit(&offsets, "from", "T", 0, 100);
    assert_eq!(
        query(&offsets, "to", "T", 0),
        Some(1),
        "later commits are not shared"
    );
}

#[test]
fn steps_write_only_what_changed_and_only_when_it_is_time() {
    let home = Home::new();
    let offsets = home.offsets();
    commit(&offsets, "G", "T", 0, 1);
    let mut due = offsets.step(NOW);
    assert_eq!((due, home.names()), (NOW.plus(5_000), vec![]));
    assert_eq!(offsets.step(NOW.plus(4_999)), due, "not yet");
    assert_eq!(home.names(), Vec::<String>::new());
    due = offsets.step(due);
    assert_eq!(due, NOW.plus(10_000));
    assert_eq!(home.names(), ["consumerOffset.json"]);
    std::fs::remove_file(home.path().join("consumerOffset.json")).unwrap();
    due = offsets.step(due);
    assert_eq!(
        home.names(),
        Vec::<String>::new(),
        "nothing changed, nothing is written"
    );
    commit(&offsets, "G", "T", 0, 1);
    due = offsets.step(due);
    assert_eq!(
        home.names(),
        Vec::<String>::new(),
        "the same position again is no change"
    );
    commit(&offsets, "G", "T", 0, 2);
    offsets.step(due);
    assert_eq!(query(&home.offsets(), "G", "T", 0), Some(2));
}

#[test]
fn a_clock_that_was_set_back_does_not_stop_the_writing() {
    let home = Home::new();
    let offsets = home.offsets();
    offsets.step(NOW);
    commit(&offsets, "G", "T", 0, 1);
    offsets.step(NOW.plus(-3_600_000));
    assert_eq!(query(&home.offsets(), "G", "T", 0), Some(1));
}

#[test]
fn what_cannot_be_written_is_kept_and_written_later() {
    let home = Home::new();
    let offsets = home.offsets();
    commit(&offsets, "G", "T", 0, 1);
    home.break_writing("consumerOffset.json");
    let mut due = offsets.step(NOW);
    due = offsets.step(due);
    assert!(offsets.flush().is_err());
    assert_eq!(query(&offsets, "G", "T", 0), Some(1));
    home.mend_writing("consumerOffset.json");
    offsets.step(due);
    assert_eq!(query(&home.offsets(), "G", "T", 0), Some(1));
}

#[test]
fn entries_of_a_foreign_file_that_mean_nothing_are_left_out() {
    let home = Home::new();
    home.write(
        "consumerOffset.json",
        r#"{"offsetTable":{"T@G":{0:-1,1:5,-2:7},"no separator":{0:1},"T@G@H":{"0":3}},"other":1}"#,
    );
    let offsets = home.offsets();
    assert_eq!(offsets.of("G", "T"), [(QueueId(1), QueueOffset(5))].into());
    assert_eq!(query(&offsets, "G@H", "T", 0), Some(3));
    assert_eq!(offsets.groups_of("T"), set(&["G", "G@H"]));
}

#[test]
fn names_with_the_separator_read_back_as_they_were_taken() {
    let home = Home::new();
    let offsets = home.offsets();
    commit(&offsets, "G", "a@b", 0, 1);
    commit(&offsets, "x@y", "T", 0, 2);
    offsets.flush().unwrap();
    for offsets in [&offsets, &home.offsets()] {
        assert_eq!(query(offsets, "G", "a@b", 0), Some(1));
        assert_eq!(query(offsets, "x@y", "T", 0), Some(2));
    }
}

#[test]
fn names_longer_than_any_valid_one_are_refused() {
    let offsets = Home::new().offsets();
    let long = "n".repeat(256);
    let refused = |what| CommitError::NameTooLong { what, length: 256 };
    let at = (QueueId(0), QueueOffset(0));
    assert_eq!(
        offsets.commit("G", &long, at.0, at.1),
        Err(refused("topic"))
    );
    assert_eq!(
        offsets.commit(&long, "T", at.0, at.1),
        Err(refused("group"))
    );
    assert_eq!(offsets.groups_of("T"), set(&[]));
}

#[test]
fn commits_of_many_threads_are_all_kept() {
    let home = Home::new();
    let offsets = Arc::new(home.offsets());
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let offsets = offsets.clone();
            scope.spawn(move || {
                for round in 0..500u64 {
                    commit(&offsets, "G", &format!("T{}", round % 10), thread, round);
                    commit(&offsets, &format!("G{thread}"), "T", 0, round);
                }
            });
        }
    });
    offsets.flush().unwrap();
    for offsets in [&*offsets, &home.offsets()] {
        for thread in 0..4 {
            for topic in 0..10 {
                assert_eq!(
                    query(offsets, "G", &format!("T{topic}"), thread),
                    Some(490 + topic)
                );
            }
            assert_eq!(query(offsets, &format!("G{thread}"), "T", 0), Some(499));
        }
    }
}

#[test]
fn the_body_for_slaves_is_the_files_compact_form() {
    let offsets = Home::new().offsets();
    commit(&offsets, "G", "T", 1, 8);
    commit(&offsets, "G", "T", 0, 7);
    assert_eq!(
        String::from_utf8(offsets.wire_table().encode()).unwrap(),
        r#"{"offsetTable":{"T@G":{0:7,1:8}}}"#
    );
}

/// A slave takes a position that became less for a reset: it must not be told one that a kill takes back.
#[test]
fn what_slaves_are_told_survives_a_kill() {
    let home = Home::new();
    let offsets = home.offsets();
    commit(&offsets, "G", "T", 1, 8);
    let told = offsets.table_on_disk().unwrap();
    drop(offsets);
    assert_eq!(home.offsets().wire_table(), told);
}
