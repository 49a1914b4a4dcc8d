//! A broker name in one world: a master, its slaves, name servers, clients and an administrator, with a clock, a network
//! and disks that come from a seed.
//!
//! The parts are those that ship: the store on a faulty disk, both ends of log shipping, the comparison of logs, the
//! policies of acknowledgement, the seats of promotions, the merging of offsets, the registration, the routes of the name
//! server, and what a promotion would lose. Without threads and sockets: [`run`] does one thing after another, in an order
//! that the seed decides, and so plays a seed again exactly. `world` is the place to begin; `truth` says what must be so
//! after every step; `broken` breaks rules on purpose, to show that it would be found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests: nothing that ships depends on it"
)]

mod broken;
mod client;
mod faults;
mod follow;
mod master;
mod names;
mod net;
mod node;
mod random;
mod serve;
mod setup;
mod slave;
mod tool;
mod trace;
mod truth;
mod world;

use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;

pub use broken::Broken;
pub use world::Counts;

use trace::Trace;
use truth::Violation;
use world::World;

/// A master and at most two slaves.
pub(crate) const NODES: usize = 3;
/// Queues of the one topic.
pub(crate) const QUEUES: u32 = 2;
pub(crate) const TOPIC: &str = "T";

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// A number for all that happened.
    pub hash: u64,
    /// How much of it there was.
    pub counts: Counts,
}

/// A rule that did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The step at which it was found.
    pub step: u32,
    /// The rule, with values.
    pub what: String,
    /// The configuration.
    pub setup: String,
    /// What happened last.
    pub events: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            step,
            what,
            setup,
            events,
        } = self;
        writeln!(f, "seed {seed}, step {step}: {what}")?;
        writeln!(f, "{setup}")?;
        for event in events {
            writeln!(f, "{event}")?;
        }
        write!(f, "again: cargo xtask sim --seed {seed}")
    }
}

/// Plays a seed; prints every event if `shows_all`.
pub fn run(seed: u64, broken: Option<Broken>, shows_all: bool) -> Result<Outcome, Box<Failure>> {
    let trace = Rc::new(RefCell::new(Trace::new(shows_all)));
    let mut setup = String::new();
    let played = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, broken, Rc::clone(&trace));
        setup = world.describe();
        world.play().map(|()| world.counts)
    }));
    let trace = trace.borrow();
    let what = match played {
        Ok(Ok(counts)) => {
            let hash = trace.hash();
            return Ok(Outcome { hash, counts });
        }
        Ok(Err(Violation(what))) => what,
        Err(panicked) => {
            let said = panicked.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panicked.downcast_ref::<&str>().map(|&text| text.into()));
            format!("panicked: {}", said.unwrap_or_default())
        }
    };
    Err(Box::new(Failure {
        seed,
        step: trace.step,
        what,
        setup,
        events: trace.last(),
    }))
}
