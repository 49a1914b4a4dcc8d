//! The disk stops at every single change of a scripted run; whatever it leaves must open and hold what was promised.
//!
//! A failure names its seed; `GANTRY_SEED=n cargo test -p gantry-store --test crash` replays it.

#![allow(clippy::print_stdout, reason = "the seed of a failure")]

mod harness;

use harness::{End, Harness};

/// A run with everything in it: batches, segment ends, background work, restarts.
fn script(harness: &mut Harness) {
    for step in 0..24 {
        if harness.disk.is_stopped() {
            return;
        }
        harness.operate();
        if step == 12 && !harness.disk.is_stopped() {
            let store = harness.store().clone();
            // Dies in the middle of a clean stop, too.
            let _ = store.shutdown();
            if !harness.disk.is_stopped() {
                harness.restart(End::Kill);
            }
        }
    }
}

fn stop_everywhere(seed: u64, end: End) -> usize {
    let mut whole = Harness::new(seed);
    let before = whole.disk.changes();
    script(&mut whole);
    let changes = whole.disk.changes() - before;
    assert!(changes > 50, "a script of {changes} changes");
    for stop in 1..=changes {
        println!("seed {seed}, stop after {stop} changes, {end:?}");
        let mut harness = Harness::new(seed);
        harness.disk.stop_after(stop);
        script(&mut harness);
        harness.restart(end);
        harness.send(3, 1);
        harness.store().turn();
        harness.restart(End::Clean);
    }
    usize::try_from(changes).unwrap_or(usize::MAX)
}

#[test]
fn a_kill_at_any_change_loses_nothing_that_was_acknowledged() {
    for seed in harness::seeds(1..=2) {
        stop_everywhere(seed, End::Kill);
    }
}

#[test]
fn a_power_cut_at_any_change_loses_nothing_that_was_flushed() {
    for seed in harness::seeds(3..=5) {
        stop_everywhere(seed, End::PowerCut);
    }
}
