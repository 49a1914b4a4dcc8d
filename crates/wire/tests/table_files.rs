//! The files below `config/` that brokers of either make leave: mutated seeds are read as tables or refused, nothing
//! panics, and what was read is written and read as the same.
//!
//! Every run plays the same mutations; `GANTRY_SEEDS=n` plays n of each seed, `GANTRY_SEED=n` one.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::fmt::Debug;
use std::path::Path;

use gantry_wire::bodies::{
    BodyError, ConsumerOffsets, DelayOffsets, SubscriptionGroupTable, TopicConfigTable,
};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % (limit.max(1) as u64)).unwrap()
    }
}

/// What a reader of JSON turns at.
const PIECES: [&[u8]; 16] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\u0000",
    b"null",
    b"-1",
    b"1e99",
    b"true",
    b"9223372036854775808",
    b"\xFF",
    b" ",
];

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(24)).min(bytes.len()).max(at);
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_within(at..end),
            2 => {
                bytes.drain(at..end);
            }
            3 => bytes[at..end].fill(0),
            4 => {
                let piece = PIECES[random.below(PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
}

fn fuzz<T: PartialEq + Debug>(
    table: &str,
    parse: fn(&[u8]) -> Result<T, BodyError>,
    encode: fn(&T) -> Vec<u8>,
) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match (number("GANTRY_SEED"), number("GANTRY_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => 0..count,
        (None, None) => 0..1000_u64,
    };
    let check = |bytes: &[u8]| {
        if let Ok(read) = parse(bytes) {
            assert_eq!(parse(&encode(&read)).unwrap(), read);
        }
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(table);
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        check(&whole);
        for seed in seeds.clone() {
            let mut bytes = whole.clone();
            mutate(&mut bytes, &mut Random(seed));
            let run = std::panic::AssertUnwindSafe(|| check(&bytes));
            if let Err(panic) = std::panic::catch_unwind(run) {
                println!(
                    "GANTRY_SEED={seed}, {path:?}: {}",
                    String::from_utf8_lossy(&bytes)
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(parse(&std::fs::read(folder.join("apache.json")).unwrap()).is_ok());
}

#[test]
fn topics() {
    fuzz(
        "topics",
        TopicConfigTable::parse,
        TopicConfigTable::encode_pretty,
    );
}

#[test]
fn subscription_groups() {
    fuzz(
        "subscriptionGroup",
        SubscriptionGroupTable::parse,
        SubscriptionGroupTable::encode_pretty,
    );
}

#[test]
fn consumer_offsets() {
    fuzz(
        "consumerOffset",
        ConsumerOffsets::parse,
        ConsumerOffsets::encode_pretty,
    );
}

#[test]
fn delay_offsets() {
    fuzz(
        "delayOffset",
        DelayOffsets::parse,
        DelayOffsets::encode_pretty,
    );
}
