//! The examination: healthy stores have no fault, and every kind of damage is named with file and place.

#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::path::Path;

use gantry_disk::faulty::Operation;

use harness::{CLEAN, Home, UNCLEAN, apache, examine, faults, send, tree};

#[test]
fn a_healthy_store_of_ours_has_no_fault() {
    let home = Home::healthy();
    let report = examine(&home.disk);
    assert_eq!(faults(&report), [""; 0], "{report}");
    assert_eq!(report.exit_code(), 0);
    assert_eq!(
        (report.log.messages, report.queues, report.topics),
        (150, 4, 2)
    );
    println!("{report}");
}

#[test]
fn apaches_stores_have_no_fault() {
    for (golden, messages) in [(CLEAN, 36), (UNCLEAN, 52)] {
        let disk = apache(golden);
        let before = tree(&disk);
        let report = examine(&disk);
        println!("{report}");
        assert_eq!(faults(&report), [""; 0], "{report}");
        assert_eq!((report.exit_code(), report.log.messages), (0, messages));
        assert!(tree(&disk) == before, "something was changed");
    }
}

#[test]
fn a_killed_store_has_notes_and_no_fault() {
    let home = Home::new();
    let store = home.open();
    for n in 0..60 {
        send(&store, n);
    }
    store.turn();
    for n in 60..75 {
        send(&store, n);
    }
    drop(store);
    home.disk.kill();
    let report = examine(&home.disk);
    println!("{report}");
    assert_eq!(faults(&report), [""; 0], "{report}");
    assert!(!report.clean_stop && report.notes > 0);
}

#[test]
fn what_retention_takes_is_not_missed() {
    let home = Home::healthy();
    for path in &home.below("commitlog")[..2] {
        home.disk.take(path);
    }
    let report = examine(&home.disk);
    assert_eq!(faults(&report), [""; 0], "{report}");
    assert_eq!(report.log.min_offset, 2 * harness::SEGMENT);
    // Files of queues and index that only speak of what is gone go later.
    for path in [
        home.below("consumequeue/Events/0")[0].clone(),
        home.below("index")[0].clone(),
    ] {
        home.disk.take(&path);
    }
    let report = examine(&home.disk);
    assert_eq!(faults(&report), [""; 0], "{report}");
}

#[test]
fn a_store_that_apache_went_on_with_has_no_fault() {
    // Ours, stopped cleanly, and then as if another broker had gone on: our notes are of before.
    let home = Home::healthy();
    let noted = home
        .disk
        .content(Path::new("/store/gantry.checkpoint"))
        .unwrap();
    let store = home.open();
    (150..200).for_each(|n| {
        send(&store, n);
    });
    store.turn();
    store.shutdown().unwrap();
    home.disk.put(Path::new("/store/gantry.checkpoint"), &noted);
    let report = examine(&home.disk);
    assert_eq!(faults(&report), [""; 0], "{report}");
    assert_eq!(report.log.messages, 200);
}

#[test]
fn a_bit_that_the_disk_does_not_give_makes_the_examination_incomplete() {
    let home = Home::healthy();
    home.disk.fail(Operation::Read, 1, 5);
    let report = examine(&home.disk);
    assert_eq!(
        (report.complete, report.exit_code()),
        (false, 2),
        "{report}"
    );
    assert!(
        faults(&report)[0].contains("Input/output error"),
        "{report}"
    );
}

/// The header of an index file follows its entries by seconds.
#[test]
fn a_kill_before_the_first_header_of_the_index_is_no_fault() {
    let home = Home::new();
    let store = home.open();
    (0..5).for_each(|n| {
        send(&store, n);
    });
    store.turn();
    drop(store);
    home.disk.kill();
    let index = home.below("index");
    assert_eq!(index.len(), 1);
    home.change(&index[0], |bytes| bytes[..40].fill(0));
    // Nothing was noted by then.
    home.disk.take(Path::new("/store/gantry.checkpoint"));
    let report = examine(&home.disk);
    assert_eq!(faults(&report), [""; 0], "{report}");
    let codes: Vec<_> = report.findings.iter().map(|one| one.code).collect();
    assert!(
        codes.contains(&"index-length") && codes.contains(&"index-lags"),
        "{codes:?}"
    );
}
