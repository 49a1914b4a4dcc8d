//! The mqadmin program.

fn main() {}
