//! Random operations and restarts of every kind against a plain model.
//!
//! A failure names its seed; `GANTRY_SEED=n cargo test -p gantry-store --test model` replays it, `GANTRY_SEEDS=1000`
//! plays so many.

#![allow(clippy::print_stdout, reason = "the seed of a failure")]

mod harness;

use gantry_disk::faulty::Operation;
use harness::{End, Harness, seeds};

fn run(seed: u64, ends: &[End]) -> Harness {
    println!("GANTRY_SEED={seed}");
    let mut harness = Harness::varied(seed);
    for _ in 0..20 {
        for _ in 0..harness.below(25) {
            harness.operate();
        }
        if harness.below(5) == 0 {
            // A store keeps the sizes that it was made with.
            let choice = usize::try_from(harness.below(3)).unwrap_or(0);
            harness.config.segment_size = [3000, 4096, 8192][choice];
            harness.config.queue_file_size = [100, 320, 2000][choice];
        }
        let end = ends[usize::try_from(harness.below(ends.len() as u64)).unwrap_or(0)];
        harness.restart(end);
    }
    harness
}

#[test]
fn clean_stops_and_kills_lose_nothing() {
    let (mut expired, mut deleted) = (0, 0);
    let seeds = seeds(1..=24);
    let several = seeds.len() > 1;
    for seed in seeds {
        let harness = run(seed, &[End::Clean, End::Kill]);
        assert_eq!(harness.lost, 0, "seed {seed}");
        expired += harness.expired;
        deleted += harness.deleted;
    }
    assert!(!several || expired > 0, "nothing expired");
    assert!(!several || deleted > 0, "nothing was deleted");
}

#[test]
fn power_cuts_lose_only_what_was_not_flushed() {
    let seeds = seeds(1..=32);
    let several = seeds.len() > 1;
    let lost: usize = seeds
        .into_iter()
        .map(|seed| run(seed, &[End::Clean, End::Kill, End::PowerCut]).lost)
        .sum();
    assert!(!several || lost > 0, "the power cuts cut nothing");
}

/// Names of deleted queue files that came back into a queue that began anew (197); files of a killed process that nobody
/// synced, and one that a power cut left shorter while it was cut (252).
#[test]
fn seeds_that_found_something_stay_mended() {
    for seed in [197, 252] {
        run(seed, &[End::Clean, End::Kill, End::PowerCut]);
    }
}

#[test]
fn after_a_failed_sync_what_a_restart_calls_flushed_survives_a_power_cut() {
    for seed in seeds(1..=60) {
        println!("GANTRY_SEED={seed}");
        let mut harness = Harness::new(seed);
        for _ in 0..harness.below(20) {
            harness.operate();
        }
        let times = 1 + harness.below(3);
        harness.disk.fail(Operation::Sync, times, 5);
        for _ in 0..harness.below(10) {
            harness.operate();
        }
        harness.store().turn();
        harness.restart(End::Kill);
        for _ in 0..harness.below(3) {
            harness.operate();
        }
        harness.restart(End::PowerCut);
    }
}
