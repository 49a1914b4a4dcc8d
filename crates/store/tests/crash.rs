//! The disk stops at every single change of a scripted run; whatever it leaves must open and hold what was promised.
//!
//! Each stop is followed by a kill or a power cut, and recovery is stopped in the same way in its turn. A failure names
//! its seed; `GANTRY_SEED=n cargo test -p gantry-store --test crash` replays it, `GANTRY_SEEDS=50` plays so many.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests; the seed of a failure"
)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gantry_message::QueueId;
use gantry_store::{Outcome, Store, Tags};
use harness::{End, Harness, PLACES, read_all, record, seeds};

/// A run with everything in it: batches, segment ends, background work, deleted topics, expired segments, restarts.
fn script(harness: &mut Harness) {
    for step in 0..28 {
        if harness.disk.is_stopped() {
            return;
        }
        match step {
            6 => harness.delete("A"),
            12 => {
                let store = harness.store().clone();
                // Dies in the middle of a clean stop, too.
                let _ = store.shutdown();
                if !harness.disk.is_stopped() {
                    harness.restart(End::Kill);
                }
            }
            16 => harness.expire(),
            20 => harness.store().turn(),
            // Its new messages go on from 0, and the old ones lie in the log.
            22 => harness.delete("B"),
            _ => harness.operate(),
        }
    }
}

/// How many changes a whole run makes.
fn changes(seed: u64) -> u64 {
    let mut whole = Harness::varied(seed);
    let before = whole.disk.changes();
    script(&mut whole);
    let changes = whole.disk.changes() - before;
    assert!(changes > 50, "a script of {changes} changes");
    changes
}

/// A run that ended after so many changes.
fn stopped(seed: u64, stop: u64) -> Harness {
    let mut harness = Harness::varied(seed);
    harness.disk.stop_after(stop);
    script(&mut harness);
    harness
}

fn goes_on(harness: &mut Harness) {
    harness.send(3, 1);
    harness.store().turn();
    harness.restart(End::Clean);
}

fn stop_everywhere(seed: u64, end: End) {
    for stop in 1..=changes(seed) {
        println!("seed {seed}, stop after {stop} changes, {end:?}");
        let mut harness = stopped(seed, stop);
        if end == End::Kill {
            harness.check_names();
        }
        harness.restart(end);
        goes_on(&mut harness);
    }
}

#[test]
fn a_kill_at_any_change_loses_nothing_that_was_acknowledged() {
    for seed in seeds(1..=4) {
        stop_everywhere(seed, End::Kill);
    }
}

#[test]
fn a_power_cut_at_any_change_loses_nothing_that_was_flushed() {
    for seed in seeds(5..=8) {
        stop_everywhere(seed, End::PowerCut);
    }
}

/// Every stop of the run, and for each another stop somewhere in the recovery from it; all the places of recovery are
/// met in the course of a run.
#[test]
fn a_second_crash_in_the_middle_of_recovery_loses_no_more() {
    const ENDS: [(End, End); 4] = [
        (End::Kill, End::Kill),
        (End::Kill, End::PowerCut),
        (End::PowerCut, End::Kill),
        (End::PowerCut, End::PowerCut),
    ];
    for seed in seeds(9..=10) {
        let mut met = std::collections::BTreeSet::new();
        for stop in 1..=changes(seed) {
            let (first, second) = ENDS[usize::try_from((seed + stop) % 4).unwrap()];
            let again = 1 + stop * 7 % 24;
            println!(
                "seed {seed}, stop after {stop} changes, {first:?}, again after {again}, {second:?}"
            );
            let mut harness = stopped(seed, stop);
            if harness.restart_twice(first, again, second) {
                met.insert(again);
            }
            goes_on(&mut harness);
        }
        assert!(met.len() > 8, "recovery was stopped after {met:?} changes");
    }
}

/// Threads send and wait for the disk as a broker with synchronous flush does; then the machine goes off. What was
/// waited for is there.
#[test]
fn what_a_synchronous_flush_acknowledged_survives_a_power_cut() {
    let mut all = 0;
    let seeds = seeds(1..=24);
    let several = seeds.len() > 1;
    for seed in seeds {
        println!("seed {seed}");
        let mut harness = Harness::new(seed);
        harness.end(End::Clean);
        harness.config.flush_sync = true;
        harness.open();
        let store = Arc::clone(harness.store());
        store.start().unwrap();
        let (next, stop) = (AtomicU32::new(0), 20 + harness.below(200));
        harness.disk.stop_after(stop);
        let mut acked: Vec<(usize, u64, u32)> = Vec::new();
        std::thread::scope(|scope| {
            let senders = [0, 1, 2].map(|at| {
                let (store, next) = (&store, &next);
                scope.spawn(move || send_until_it_fails(store, at, next))
            });
            for sender in senders {
                acked.extend(sender.join().unwrap());
            }
        });
        // Its threads end, and write nothing any more.
        let _ = store.shutdown();
        drop(store);
        harness.end(End::PowerCut);
        harness.open();
        for (at, place) in PLACES.into_iter().enumerate().take(3) {
            let found = read_all(harness.store(), place);
            for &(_, offset, number) in acked.iter().filter(|one| one.0 == at) {
                let is_there = found
                    .iter()
                    .any(|one| (one.offset, one.number) == (offset, number));
                assert!(is_there, "{place:?}: {number} at {offset}");
            }
        }
        all += acked.len();
    }
    assert!(!several || all > 100, "only {all} acknowledged");
}

/// The place's number, offset and number of each message that was durable before the disk stopped.
fn send_until_it_fails(store: &Arc<Store>, at: usize, next: &AtomicU32) -> Vec<(usize, u64, u32)> {
    let place = PLACES[at];
    let queue = store.queue(place.0, QueueId(place.1));
    let mut acked = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let body = number.to_be_bytes();
        let record = record(place, &body, "");
        let Outcome::Stored {
            end, queue_offset, ..
        } = store.append(&queue, &record, Tags::Code(0))
        else {
            return acked;
        };
        // As long as it takes: a store that cannot sync latches.
        while store.flushed().value() < end.0 {
            if store.check_writable().is_err() && store.flushed().value() < end.0 {
                return acked;
            }
            std::thread::yield_now();
        }
        acked.push((at, queue_offset.0, number));
    }
}
