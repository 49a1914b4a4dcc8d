//! The mqbench program.

fn main() {}
