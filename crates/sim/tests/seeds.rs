//! Worlds from seeds; `cargo xtask sim --seed N` plays one again and shows all of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use gantry_sim::{Broken, Counts, Failure, run};

/// So many seeds are played by every run; `GANTRY_SEEDS` says another number.
const SEEDS: u64 = 6_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays seeds on every processor until one fails.
fn play(seeds: std::ops::Range<u64>, broken: Option<Broken>) -> Result<Counts, Box<Failure>> {
    let next = AtomicU64::new(seeds.start);
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    let mut all = Counts::default();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seeds.end <= seed {
                            return Ok(all);
                        }
                        match run(seed, broken, false) {
                            Ok(outcome) => all.add(&outcome.counts),
                            Err(failure) => {
                                next.store(seeds.end, Ordering::Relaxed);
                                return Err(failure);
                            }
                        }
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect()
    });
    let mut all = Counts::default();
    let mut first: Option<Box<Failure>> = None;
    for result in results {
        match result {
            Ok(counts) => all.add(&counts),
            Err(failure) => {
                if first.as_ref().is_none_or(|known| failure.seed < known.seed) {
                    first = Some(failure);
                }
            }
        }
    }
    first.map_or(Ok(all), Err)
}

#[test]
fn whatever_happens_nothing_that_was_promised_is_lost() {
    let broken = std::env::var("GANTRY_BROKEN").ok();
    let broken = broken.map(|name| {
        let known = Broken::ALL.iter().find(|rule| format!("{rule:?}") == name);
        *known.unwrap_or_else(|| panic!("no rule {name}: {:?}", Broken::ALL))
    });
    if let Some(seed) = number("GANTRY_SEED") {
        match run(seed, broken, true) {
            Ok(outcome) => println!("seed {seed} holds: {:?}", outcome.counts),
            Err(failure) => panic!("{failure}"),
        }
        return;
    }
    let first = number("GANTRY_SEED_FIRST").unwrap_or(1);
    let seeds = number("GANTRY_SEEDS").unwrap_or(SEEDS);
    match play(first..first + seeds, broken) {
        Ok(counts) => println!("{seeds} seeds hold: {counts:?}"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn a_seed_is_played_again_exactly() {
    for seed in 1..=20 {
        let [first, second] = [(); 2].map(|()| run(seed, None, false).map(|outcome| outcome.hash));
        match (first, second) {
            (Ok(first), Ok(second)) => assert_eq!(first, second, "seed {seed}"),
            (first, second) => panic!("{first:?} {second:?}"),
        }
    }
}

/// Where a rule that is broken was found last; rules that are found at once are not named.
const FOUND: [(Broken, u64); 3] = [
    (Broken::PromotesUnfenced, 1_346),
    (Broken::FencesAnyEnd, 913),
    (Broken::GoesByLengthsAlone, 446),
];

/// Whoever breaks a rule is found out, within as many seeds as every run plays.
#[test]
fn a_broken_rule_is_found() {
    for broken in Broken::ALL {
        let found = FOUND.iter().find(|(rule, _)| *rule == broken);
        let first = found.map_or(1, |(_, seed)| *seed);
        // Worlds change with the code: then it is another seed.
        let again = play(first..first + 1, Some(broken));
        let failure = again.and_then(|_| play(1..1 + SEEDS, Some(broken))).err();
        let failure = failure.unwrap_or_else(|| panic!("{broken:?} is not found in {SEEDS} seeds"));
        println!(
            "{broken:?} is found by seed {}: {}",
            failure.seed, failure.what
        );
    }
}
