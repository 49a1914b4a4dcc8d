//! The mqnamesrv program.

fn main() {}
