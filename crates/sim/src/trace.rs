//! What happened, as lines: the last ones are kept for who looks for a cause, all of them are summed up in a number by
//! which two runs of a seed are compared.

use std::collections::VecDeque;
use std::fmt::{self, Write};

/// So many events are kept.
const KEPT: usize = 48;

/// The events of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    last: VecDeque<String>,
    hash: u64,
    shows_all: bool,
    pub(crate) step: u32,
    pub(crate) now_ms: u64,
}

impl Trace {
    pub(crate) fn new(shows_all: bool) -> Self {
        Self {
            last: VecDeque::with_capacity(KEPT),
            hash: 0xCBF2_9CE4_8422_2325,
            shows_all,
            step: 0,
            now_ms: 0,
        }
    }

    pub(crate) fn event(&mut self, what: fmt::Arguments<'_>) {
        let mut line = if self.last.len() == KEPT {
            self.last.pop_front().unwrap_or_default()
        } else {
            String::new()
        };
        line.clear();
        let (step, now) = (self.step, self.now_ms);
        // Writing to a string does not fail.
        let _ = write!(line, "{step:5} {:6}.{:03}  {what}", now / 1000, now % 1000);
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if self.shows_all {
            println!("{line}");
        }
        self.last.push_back(line);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}
