//! Everything that a peer sends on the HA port against mutated seeds: nothing panics, and no number counts before it is
//! checked. `corpus/README.md` says what the seeds are.
//!
//! Every run plays the same mutations; `GANTRY_SEEDS=n` plays n of each seed, `GANTRY_SEED=n` one.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_disk::OsDisk;
use gantry_message::{LogOffset, Millis};
use gantry_replication::{
    CRC_LEN, HEAD_LEN, Links, Log, Master, Patience, REPORT_LEN, Received, Refusal, Slave, Step,
    Wire,
};
use gantry_store::{Store, StoreConfig};

const LOG: Log = Log {
    min: LogOffset(1_000),
    newest: LogOffset(3_000),
    end: LogOffset(3_500),
};
/// Where the slave's log ends, and how long its segments are.
const END: LogOffset = LogOffset(2_000);
const SEGMENT: u64 = 1_000;

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
const TURNS: [u64; 8] = [
    0,
    1,
    0xFF,
    2_000,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    i64::MAX as u64,
    u64::MAX,
];

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(12)).min(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_within(at..end),
            2 => {
                bytes.drain(at..end);
            }
            3 => {
                let turn = TURNS[random.below(TURNS.len())].to_be_bytes();
                let width = [4, 8][random.below(2)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&turn[8 - width..]);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
}

/// Gives every seed of a folder to `check`, as it is and mutated. `mend` makes checksums right again, so that what is
/// behind them is reached, too.
fn fuzz(folder: &str, runs: u64, mend: impl Fn(&mut [u8]), check: impl Fn(&[u8], &mut Random)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match (number("GANTRY_SEED"), number("GANTRY_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => 0..count,
        (None, None) => 0..runs,
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(folder);
    let mut inputs = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = file.unwrap();
        let whole = std::fs::read(file.path()).unwrap();
        check(&whole, &mut Random(0));
        inputs += 1;
        for seed in seeds.clone() {
            let mut random = Random(seed);
            let mut bytes = whole.clone();
            mutate(&mut bytes, &mut random);
            if random.below(2) == 0 {
                mend(&mut bytes);
            }
            let run = std::panic::AssertUnwindSafe(|| check(&bytes, &mut random));
            if let Err(panic) = std::panic::catch_unwind(run) {
                println!("GANTRY_SEED={seed}, {:?}: {bytes:02x?}", file.path());
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(inputs > 0, "{folder:?} is empty");
}

fn as_it_is(_: &mut [u8]) {}

fn mend_reports(bytes: &mut [u8]) {
    for report in bytes.chunks_exact_mut(REPORT_LEN + CRC_LEN) {
        let (end, crc) = report.split_at_mut(REPORT_LEN);
        crc.copy_from_slice(&crc32fast::hash(end).to_be_bytes());
    }
}

fn mend_blocks(mut bytes: &mut [u8]) {
    while let Some((head, rest)) = bytes.split_at_mut_checked(HEAD_LEN + CRC_LEN) {
        let (head, crc) = head.split_at_mut(HEAD_LEN);
        let len = u32::from_be_bytes(head[8..].try_into().unwrap());
        let len = usize::try_from(len).unwrap().min(rest.len());
        let (body, rest) = rest.split_at_mut(len);
        crc.copy_from_slice(&crc32fast::hash(&[head, body].concat()).to_be_bytes());
        bytes = rest;
    }
}

/// Where the cuts of a stream are.
fn pieces<'a>(bytes: &'a [u8], random: &mut Random) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (piece, left) = rest.split_at(1 + random.below(rest.len().min(20)));
        pieces.push(piece);
        rest = left;
    }
    pieces
}

/// What a master makes of a slave's bytes: how far the slave is, or why the link ends.
fn heard(wire: Wire, pieces: &[&[u8]]) -> Result<(Option<LogOffset>, LogOffset), Refusal> {
    let now = Instant::now();
    let mut master = Master::new(Patience::default(), now);
    if wire == Wire::Checked {
        master.invited();
    }
    for piece in pieces {
        let before = master.acknowledged();
        master.received(piece, &LOG, now)?;
        let (next, acknowledged) = (master.next(), master.acknowledged());
        assert!(before <= acknowledged, "went back");
        assert!(next.is_none_or(|next| acknowledged <= next && next <= LOG.end));
    }
    let seen = (master.next(), master.acknowledged());
    // As far as a master goes on with it: everything is sent, and counts when it is said to be there.
    while let Step::Send(head) = master.step(&LOG, 700, now)? {
        assert!(head.start.0 + u64::from(head.len) <= LOG.end.0);
        master.sent(head, now);
    }
    Ok(seen)
}

#[test]
fn reports() {
    for (folder, wire) in [
        ("reports-plain", Wire::Plain),
        ("reports-checked", Wire::Checked),
    ] {
        let mend = |bytes: &mut [u8]| match wire {
            Wire::Plain => {}
            Wire::Checked => mend_reports(bytes),
        };
        fuzz(folder, 2_000, mend, |bytes, random| {
            let whole = heard(wire, &[bytes]);
            assert_eq!(heard(wire, &pieces(bytes, random)), whole);
        });
    }
}

/// What a slave makes of a master's bytes: its log from [`END`] on, as far as it is sure, and why the link ends.
fn followed(wire: Wire, pieces: &[&[u8]]) -> (Vec<u8>, Option<Refusal>) {
    let mut slave = Slave::new(wire, Patience::default(), SEGMENT, END, Instant::now());
    let mut log = Vec::new();
    let end = receive(&mut slave, pieces, &mut log).err();
    let sure = usize::try_from(slave.verified().0 - END.0).unwrap();
    assert!(sure <= log.len());
    log.truncate(sure);
    (log, end)
}

fn receive(slave: &mut Slave, pieces: &[&[u8]], log: &mut Vec<u8>) -> Result<(), Refusal> {
    let now = Instant::now();
    for piece in pieces {
        let mut bytes = *piece;
        while let Some(received) = slave.receive(&mut bytes, now)? {
            if let Received::Append { at, bytes } = received {
                assert_eq!(at.0, END.0 + log.len() as u64, "a gap, or twice");
                assert!(!bytes.is_empty());
                log.extend_from_slice(bytes);
            }
            assert!(slave.verified() <= slave.end());
            assert_eq!(slave.end().0, END.0 + log.len() as u64);
        }
        assert!(bytes.is_empty());
        let verified = slave.verified();
        let _ = slave.report(verified, now);
    }
    Ok(())
}

#[test]
fn blocks() {
    for (folder, wire) in [
        ("blocks-plain", Wire::Plain),
        ("blocks-checked", Wire::Checked),
    ] {
        let mend = |bytes: &mut [u8]| match wire {
            Wire::Plain => {}
            Wire::Checked => mend_blocks(bytes),
        };
        fuzz(folder, 2_000, mend, |bytes, random| {
            let whole = followed(wire, &[bytes]);
            assert!(whole.0.len() <= bytes.len());
            assert_eq!(followed(wire, &pieces(bytes, random)), whole);
        });
    }
}

/// Nobody is invited, so whatever begins like a hello ends the link; and however it begins, nothing counts.
#[test]
fn hellos() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        segment_size: 64 << 10,
        ..StoreConfig::at(folder.path())
    };
    let store = Store::open(Arc::new(OsDisk), config, Millis(1_700_000_000_000)).unwrap();
    let links = Links::new(Arc::clone(&store), Patience::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    fuzz("hello", 25, as_it_is, |bytes, _| {
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, address) = listener.accept().unwrap();
        links.serve(socket, address).unwrap();
        // The link may have ended before all of it is written.
        let _ = peer.write_all(bytes);
        let _ = peer.shutdown(Shutdown::Write);
        // A thread that panics leaves its link open.
        let begun = Instant::now();
        while links.count() != 0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "the link stays");
            std::thread::yield_now();
        }
        assert_eq!(links.replicated().value(), 0);
    });
    links.stop();
    store.shutdown().unwrap();
}
