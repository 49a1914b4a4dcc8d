//! Every decoder of what lies in a store against mutated seeds: nothing panics, and what is decoded is encoded and decoded
//! to the same. `corpus/README.md` says where the seeds come from.
//!
//! Every run plays the same mutations; `GANTRY_SEEDS=n` plays n of each seed, `GANTRY_SEED=n` one.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::path::Path;

use gantry_message::{Millis, QueueId, RecordView, java_hash_bytes, properties, record};
use gantry_store::format::{blank, checkpoint::Checkpoint, deletions::Deletions};
use gantry_store::format::{entry, ext, index, name, progress::Progress};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap()
    }
}

/// Numbers at which decoders turn.
const TURNS: [u32; 10] = [
    0,
    1,
    7,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
];

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_within(at..end),
            2 => bytes[at..end].fill(0),
            3 => {
                bytes.drain(at..end);
            }
            4 => {
                let turn = TURNS[random.below(TURNS.len())].to_be_bytes();
                let width = 1 + random.below(4).min(bytes.len().saturating_sub(at));
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&turn[4 - (end - at)..]);
            }
            5 => bytes.insert(at, b" =\n0-9,{}[]\xFF\x00"[random.below(13)]),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
}

/// Gives every seed of a decoder to `check`, as it is and mutated. `mend` makes a checksum right again, so that what is
/// behind it is reached, too.
fn fuzz(decoder: &str, mend: fn(&mut Vec<u8>), check: fn(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match (number("GANTRY_SEED"), number("GANTRY_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => 0..count,
        (None, None) => 0..2000_u64,
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(decoder);
    let mut inputs = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = file.unwrap();
        let whole = std::fs::read(file.path()).unwrap();
        check(&whole);
        inputs += 1;
        for seed in seeds.clone() {
            let mut random = Random(seed);
            let mut bytes = whole.clone();
            mutate(&mut bytes, &mut random);
            if random.below(2) == 0 {
                mend(&mut bytes);
            }
            let run = std::panic::AssertUnwindSafe(|| check(&bytes));
            if let Err(panic) = std::panic::catch_unwind(run) {
                println!("GANTRY_SEED={seed}, {:?}: {bytes:02x?}", file.path());
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(inputs > 0, "{folder:?} is empty");
}

fn as_it_is(_: &mut Vec<u8>) {}

#[test]
fn records() {
    fuzz("record", mend_record, |bytes| {
        let _ = (blank::is_blank(bytes), blank::remaining(bytes));
        let _ = record::peek_store_time(bytes);
        let peeked = record::RecordHead::peek(bytes);
        let Ok(view) = RecordView::parse(bytes) else {
            return;
        };
        assert!(peeked.is_some(), "a record has a head");
        assert!(record::FIXED_LEN <= view.len() && view.len() <= bytes.len());
        assert_eq!(view.bytes(), &bytes[..view.len()]);
        let _ = (
            view.verify_crc(),
            view.property(properties::TAGS).map(java_hash_bytes),
        );
        let _ = (
            index::hashes(&view).count(),
            properties::index_keys(view.properties()).count(),
        );
        // What is encoded again reads the same.
        let mut again = Vec::new();
        if view.to_record().encode(&mut again).is_ok() {
            let (offset, time) = (view.log_offset(), view.store_time());
            gantry_message::patch(&mut again, view.queue_offset(), offset, time);
            let other = RecordView::parse(&again).unwrap();
            assert_eq!((other.body(), other.topic()), (view.body(), view.topic()));
            assert_eq!(other.properties(), view.properties());
            // An IPv4 address in the guise of an IPv6 one is written as what it is.
            let plain = |host: std::net::SocketAddr| {
                std::net::SocketAddr::new(host.ip().to_canonical(), host.port())
            };
            assert_eq!(
                (other.born_host(), other.store_host()),
                (plain(view.born_host()), plain(view.store_host()))
            );
        }
    });
}

/// The length at the front is that of what there is.
#[expect(clippy::ptr_arg, reason = "as others of its kind")]
fn mend_record(bytes: &mut Vec<u8>) {
    let len = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    if let Some(front) = bytes.get_mut(..8) {
        front[..4].copy_from_slice(&len);
        front[4..].copy_from_slice(&record::MAGIC.to_be_bytes());
    }
}

#[test]
fn queue_entries() {
    fuzz("queue", as_it_is, |bytes| {
        for bytes in bytes.chunks(20) {
            let Some(entry) = entry::Entry::decode(bytes) else {
                continue;
            };
            let _ = (entry.end(), entry.is_filler(), ext::place(entry.tags_code));
            assert_eq!(entry::Entry::decode(&entry.encode()), Some(entry));
        }
    });
}

#[test]
fn units_of_extended_queues() {
    fuzz("ext", as_it_is, |bytes| {
        let mut rest = bytes;
        while let Some(unit) = ext::Unit::decode(rest) {
            let _ = format!("{unit:?}");
            rest = rest.get(ext::UNIT_LEN..).unwrap_or_default();
        }
    });
}

#[test]
fn index_files() {
    fuzz("index", as_it_is, |bytes| {
        if let Some(header) = bytes.first_chunk() {
            let header = index::Header::decode(header);
            assert!(header.next > 0);
            assert_eq!(index::Header::decode(&header.encode()), header);
        }
        for bytes in bytes.chunks_exact(20) {
            let entry = index::Entry::decode(bytes.first_chunk().unwrap());
            assert_eq!(index::Entry::decode(&entry.encode()), entry);
        }
    });
}

#[test]
fn checkpoints() {
    fuzz("checkpoint", as_it_is, |bytes| {
        let checkpoint = Checkpoint::decode(bytes);
        let _ = checkpoint.trusted_until();
        assert_eq!(Checkpoint::decode(&checkpoint.encode()), checkpoint);
    });
}

#[test]
fn our_checkpoints() {
    fuzz("progress", mend_checksum, |bytes| {
        if let Some(progress) = Progress::decode(bytes) {
            assert_eq!(Progress::decode(&progress.encode()), Some(progress));
        }
    });
}

#[test]
fn lists_of_deleted_queues() {
    fuzz("deletions", mend_checksum, |bytes| {
        if let Some(mut deletions) = Deletions::decode(bytes) {
            let again = Deletions::decode(&deletions.encode());
            assert_eq!(again.as_ref(), Some(&deletions));
            let _ = deletions.covers("T", QueueId(0), u64::MAX, Millis(i64::MIN));
            deletions.forget_below(u64::MAX);
        }
    });
}

/// Writes the checksum of what stands before it.
fn mend_checksum(bytes: &mut Vec<u8>) {
    let at = bytes
        .windows(4)
        .rposition(|four| four == b"crc=")
        .unwrap_or(bytes.len());
    bytes.truncate(at);
    bytes.extend_from_slice(format!("crc={:08x}\n", crc32fast::hash(bytes)).as_bytes());
}

#[test]
fn names_of_files() {
    for text in [
        "",
        "0",
        "00000000000000000000",
        "99999999999999999999",
        "18446744073709551615",
        "0000000000000000000x",
        "+0000000000000000001",
    ] {
        if let Some(offset) = name::parse(text) {
            assert_eq!(name::of(offset), text);
        }
    }
}
