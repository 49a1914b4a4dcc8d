//! Random damage to any file, and files of garbage: the doctor says something about it and never panics, and a repair
//! leads to a store that opens.
//!
//! A failure names its seed; `GANTRY_SEED=n cargo test -p gantry-doctor --test fuzz` replays it, `GANTRY_SEEDS=n` runs
//! that many.

#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_disk::faulty::FaultyDisk;
use gantry_doctor::dump::{self, Bodies, Form};
use gantry_doctor::repair::{Mode, repair};
use gantry_doctor::{Progress, Selection, Shape, Target, export};
use gantry_message::Millis;
use gantry_store::{Store, StoreConfig};
use harness::{CLEAN, Home, ROOT, UNCLEAN, apache, examine, tree};

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xD134_2543_DE82_EF95) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }
}

fn seeds(count: u64) -> Vec<u64> {
    let replay = std::env::var("GANTRY_SEED").ok();
    let replay = replay.and_then(|seed| seed.parse().ok());
    let more = std::env::var("GANTRY_SEEDS").ok();
    let count = more.and_then(|more| more.parse().ok()).unwrap_or(count);
    replay.map_or_else(|| (1..=count).collect(), |seed| vec![seed])
}

/// Numbers that break arithmetic.
const EDGES: [u64; 8] = [
    0,
    1,
    u64::MAX,
    i64::MAX as u64,
    i64::MAX as u64 + 1,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 40,
];

fn harm(disk: &FaultyDisk, random: &mut Random) -> String {
    let mut files: Vec<PathBuf> = disk.files();
    files.retain(|path| !path.ends_with("lock"));
    let path = files[random.below(files.len())].clone();
    let mut content = disk.content(&path).unwrap();
    let len = content.len();
    let at = random.below(len);
    let kind = random.below(10);
    match kind {
        0 => disk.take(&path),
        1 => content.truncate(at),
        2 => content.extend(vec![7; random.below(500)]),
        3 => {
            let to = at + random.below(len - at.min(len));
            content[at..to.min(len)].fill(0);
        }
        4 => {
            for byte in content.iter_mut().skip(at).take(64) {
                *byte = u8::try_from(random.below(256)).unwrap();
            }
        }
        5 | 6 => {
            // A whole field, where fields begin.
            let at = at / 4 * 4;
            let edge = EDGES[random.below(EDGES.len())].to_be_bytes();
            let end = (at + 8).min(len);
            content[at..end].copy_from_slice(&edge[..end - at]);
        }
        7 => {
            let name = EDGES[random.below(EDGES.len())] % (1 << 62);
            let twin = path.with_file_name(format!("{name:020}"));
            disk.put(&twin, &content);
            return format!("{} copied to {}", path.display(), twin.display());
        }
        _ => {
            for _ in 0..=random.below(4) {
                let at = random.below(len);
                if let Some(byte) = content.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    if kind != 0 {
        disk.put(&path, &content);
    }
    format!("{} kind {kind} at {at}", path.display())
}

/// Everything that only looks.
fn look(target: &Target) {
    let hidden = Progress::hidden();
    let mut out = Vec::new();
    let all = Selection::default();
    for form in [Form::Text, Form::Json] {
        dump::records(target, &all, (form, Bodies::Shown), &mut out, &hidden).unwrap();
        dump::checkpoint(target, form, &mut out).unwrap();
        dump::index(target, &all, form, &mut out).unwrap();
        let queue = Selection {
            topic: Some("Events".to_owned()),
            queue: Some(0),
            key: Some("k1".to_owned()),
            ..Selection::default()
        };
        dump::queue(target, &queue, form, &mut out).unwrap();
        dump::index(target, &queue, form, &mut out).unwrap();
    }
    export::export(target, &all, &mut out, &mut |_| {}, &hidden).unwrap();
}

fn told(disk: &FaultyDisk, slots: u32, entries: u32, segment_size: u64) -> Target {
    let shape = Shape {
        segment_size: Some(segment_size),
        index: Some((slots, entries)),
        ..Shape::default()
    };
    Target::new(Arc::new(disk.clone()), Path::new(ROOT), shape).unwrap()
}

#[test]
fn no_damage_makes_the_doctor_panic_or_write() {
    let stores = [
        (Home::healthy().disk, 7, 40, 4096),
        (apache(CLEAN), 50, 20, 8192),
        (apache(UNCLEAN), 50, 20, 8192),
    ];
    for seed in seeds(400) {
        let mut random = Random::new(seed);
        let (healthy, slots, entries, segment) = &stores[random.below(stores.len())];
        let disk = healthy.fork();
        let damages: Vec<String> = (0..=random.below(3))
            .map(|_| harm(&disk, &mut random))
            .collect();
        eprintln!("seed {seed}: {damages:?}");
        let before = tree(&disk);
        // With what files tell alone, and with a configuration.
        examine(&disk);
        let target = told(&disk, *slots, *entries, *segment);
        look(&target);
        assert!(tree(&disk) == before, "seed {seed}: something was changed");
        if seed % 4 != 0 {
            continue;
        }
        let mut said = Vec::new();
        let done = repair(&target, Mode::ForReal, &mut said, &Progress::hidden());
        let said = String::from_utf8(said).unwrap();
        let report = done.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{said}"));
        assert_eq!(
            report.exit_code(),
            0,
            "seed {seed}: {damages:?}\n{said}\n{report}"
        );
        let config = StoreConfig {
            segment_size: *segment,
            index_slots: *slots,
            index_entries: *entries,
            ..StoreConfig::at(ROOT)
        };
        let store = Store::open(Arc::new(disk), config, Millis::now()).unwrap();
        store.shutdown().unwrap();
    }
}
