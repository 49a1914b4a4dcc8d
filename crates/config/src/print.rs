//! Listings of effective values: for `-p` and `-m`, for `--check-config`, and for "get config" answers.

use std::fmt::Write;

use crate::load::{Loaded, Source};
use crate::properties;
use crate::settings::{Row, Settings};

/// What is shown instead of a secret.
pub const MASK: &str = "******";

/// Every key as `key=value`, one per line, in the order of the table.
pub fn all<C: Settings>(config: &C) -> String {
    list(config, |_| true)
}

/// The keys that matter most, likewise.
pub fn important<C: Settings>(config: &C) -> String {
    list(config, |row| row.rule.important)
}

fn list<C: Settings>(config: &C, wanted: impl Fn(&Row) -> bool) -> String {
    let mut out = String::new();
    for row in C::rows().into_iter().filter(|row| wanted(row)) {
        properties::write(&mut out, row.name, &shown(config, row));
    }
    out
}

/// Every key with where its value came from; what somebody stated comes first.
pub fn with_sources<C: Settings>(loaded: &Loaded<C>) -> String {
    let (stated, defaults): (Vec<&Row>, Vec<&Row>) = C::rows()
        .into_iter()
        .partition(|row| loaded.source(row.name) != Source::Default);
    let mut out = String::new();
    for row in stated.iter().chain(&defaults) {
        let mut pair = String::new();
        properties::write(&mut pair, row.name, &shown(&loaded.config, row));
        // Writing into a String cannot fail.
        let _ = writeln!(
            out,
            "{:<56} # {}",
            pair.trim_end_matches('\n'),
            loaded.source(row.name)
        );
    }
    out
}

fn shown<C: Settings>(config: &C, row: &Row) -> String {
    match config.text(row.name) {
        Some(text) if row.rule.secret && !text.is_empty() => MASK.into(),
        text => text.unwrap_or_default(),
    }
}
