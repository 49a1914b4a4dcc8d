//! Random operations and restarts of every kind against a plain model.
//!
//! A failure names its seed; `GANTRY_SEED=n cargo test -p gantry-store --test model` replays it.

#![allow(clippy::print_stdout, reason = "the seed of a failure")]

mod harness;

use harness::{End, Harness, seeds};

fn run(seed: u64, ends: &[End]) -> Harness {
    println!("GANTRY_SEED={seed}");
    let mut harness = Harness::new(seed);
    for _ in 0..20 {
        for _ in 0..harness.below(25) {
            harness.operate();
        }
        let end = ends[usize::try_from(harness.below(ends.len() as u64)).unwrap_or(0)];
        harness.restart(end);
    }
    harness
}

#[test]
fn clean_stops_and_kills_lose_nothing() {
    for seed in seeds(1..=24) {
        let harness = run(seed, &[End::Clean, End::Kill]);
        assert_eq!(harness.lost, 0, "seed {seed}");
    }
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
