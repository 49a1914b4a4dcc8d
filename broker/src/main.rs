//! The mqbroker program.

fn main() {}
