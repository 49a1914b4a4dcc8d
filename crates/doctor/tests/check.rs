//! The examination: healthy stores have no fault, and every kind of damage is named with file and place.

#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

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
