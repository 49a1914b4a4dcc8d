//! The program itself started on damaged stores, one after the other on copies of one: it serves what was not destroyed
//! at the same offsets, and its log and `quarantine/` say what was. (All derived damages are gone through in
//! `gantry-store` and, over connections, in `gantry-broker`; these are the ones that a whole program can differ in.)

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use gantry_e2e::ledger::{Entry, fill, read_queue, verify};
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server};
use gantry_e2e::wait::Turn;

const TOPIC: &str = "damaged";
const QUEUES: u32 = 4;

/// What is done to a store, and words that the log must have about it.
type Damage = (
    &'static str,
    fn(&Path) -> Result<()>,
    &'static [&'static str],
);

/// None of these costs a message.
const HARMLESS: [Damage; 9] = [
    ("abort made", |store| write(store, "abort", b""), &[]),
    (
        "every table empty",
        |store| {
            tables(store)?
                .iter()
                .try_for_each(|name| write(store, name, b""))
        },
        &["config/topics.json", "made again"],
    ),
    (
        "every table garbage",
        |store| {
            tables(store)?
                .iter()
                .try_for_each(|name| write(store, name, b"\0\x01{\"x"))
        },
        &["config/topics.json", "made again"],
    ),
    (
        "no tables",
        |store| Ok(fs::remove_dir_all(store.join("config"))?),
        &["made again"],
    ),
    (
        "no queues",
        |store| Ok(fs::remove_dir_all(store.join("consumequeue"))?),
        &["queues are made again from the log"],
    ),
    (
        "empty queue and index files",
        |store| {
            write(store, &format!("consumequeue/{TOPIC}/0/{:020}", 0), b"")?;
            let index = fs::read_dir(store.join("index"))?
                .next()
                .context("no index")??;
            Ok(fs::write(index.path(), b"")?)
        },
        &["a queue file is empty"],
    ),
    (
        "garbage checkpoints",
        |store| {
            write(store, "checkpoint", b"no checkpoint")?;
            write(store, "gantry.checkpoint", b"no checkpoint")
        },
        &["the progress file is damaged"],
    ),
    (
        "strange files",
        |store| {
            write(store, "commitlog/00000000000000000007", b"strange")?;
            write(store, "commitlog/notes", b"strange")?;
            write(store, &format!("consumequeue/{TOPIC}/0/notes"), b"strange")?;
            write(store, "config/topics.json.tmp", b"strange")?;
            write(store, "index/20990101000000000", b"strange")
        },
        &["set aside"],
    ),
    (
        "all but the log",
        |store| {
            for entry in fs::read_dir(store)? {
                let path = entry?.path();
                if path.is_dir() && !path.ends_with("commitlog") {
                    fs::remove_dir_all(path)?;
                } else if path.is_file() {
                    fs::remove_file(path)?;
                }
            }
            Ok(())
        },
        &["made again"],
    ),
];

#[test]
fn the_program_serves_on_damaged_stores_and_says_what_is_gone() -> Result<()> {
    let _turn = Turn::wait();
    let room = room("damages")?;
    let mut broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[], &[])?;
    let entries = fill(&broker.address(), TOPIC, QUEUES, 1)?;
    broker.stop()?;
    let (store, healthy) = (broker.folder().join("store"), room.path().join("healthy"));
    copy(&store, &healthy)?;
    for (what, damage, words) in HARMLESS {
        restore(&healthy, &store)?;
        damage(&store).context(what)?;
        start(&mut broker, words).with_context(|| what.to_owned())?;
        verify(&broker.address(), TOPIC, &entries).with_context(|| what.to_owned())?;
        broker.stop().with_context(|| what.to_owned())?;
    }
    for stopped_cleanly in [true, false] {
        restore(&healthy, &store)?;
        a_damaged_record(&mut broker, &store, &entries, stopped_cleanly)
            .with_context(|| format!("a damaged record, stopped cleanly: {stopped_cleanly}"))?;
    }
    Ok(())
}

/// One message's bytes are garbage: it is missing, every other one is there, and the log names file and reason.
fn a_damaged_record(
    broker: &mut Server,
    store: &Path,
    entries: &[Entry],
    stopped_cleanly: bool,
) -> Result<()> {
    // Not the first of its queue, which would begin behind it.
    let damaged = &entries[entries.len() / 2 + 100];
    let at = usize::from_str_radix(damaged.id.get(16..).context("short id")?, 16)?;
    let path = store.join(format!("commitlog/{:020}", 0));
    let mut log = fs::read(&path)?;
    // From the body on, so that only the record's own length and place are left of it.
    let body = log[at..]
        .windows(damaged.body.len())
        .position(|bytes| bytes == damaged.body);
    let body = at + body.context("the log does not have the body")?;
    log[body..body + damaged.body.len()].fill(0xA5);
    fs::write(&path, log)?;
    if !stopped_cleanly {
        // Nothing is known of how far anything was: all of the log is read.
        write(store, "abort", b"")?;
        fs::remove_file(store.join("gantry.checkpoint"))?;
        fs::remove_file(store.join("checkpoint"))?;
    }
    start(broker, &[])?;
    let mut wire = broker.wire()?;
    for queue_id in 0..QUEUES {
        let all = entries.iter().filter(|entry| entry.queue_id == queue_id);
        let mut expected: Vec<(u64, &[u8])> = all
            .filter(|entry| *entry != damaged)
            .map(|entry| (entry.queue_offset, &entry.body[..]))
            .collect();
        expected.sort_unstable();
        let end = expected.last().map_or(0, |(offset, _)| offset + 1);
        let found = read_queue(&mut wire, TOPIC, queue_id, end)?;
        let found: Vec<(u64, &[u8])> = found
            .iter()
            .map(|record| (record.queue_offset, &record.body[..]))
            .collect();
        ensure!(
            found == expected,
            "queue {queue_id}: {} of {}",
            found.len(),
            expected.len()
        );
    }
    let log = broker.log()?;
    let named = log
        .lines()
        .any(|line| line.contains("ERROR") && line.contains("commitlog/0000"));
    ensure!(named, "nothing names the damaged file:\n{log}");
    let kept = fs::read_dir(store.join("quarantine")).is_ok_and(|mut files| files.next().is_some());
    ensure!(stopped_cleanly || kept, "nothing is in the quarantine");
    broker.stop()
}

/// Starts it with a log of its own, which must have these words.
fn start(broker: &mut Server, words: &[&str]) -> Result<()> {
    fs::remove_dir_all(broker.folder().join("logs"))?;
    broker.start()?;
    let log = broker.log()?;
    for word in words {
        ensure!(log.contains(word), "no word of {word:?} in\n{log}");
    }
    Ok(())
}

fn write(store: &Path, name: &str, content: &[u8]) -> Result<()> {
    Ok(fs::write(store.join(name), content)?)
}

/// The tables and their backups.
fn tables(store: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(store.join("config"))? {
        names.push(format!("config/{}", entry?.file_name().to_string_lossy()));
    }
    Ok(names)
}

fn restore(healthy: &Path, store: &Path) -> Result<()> {
    fs::remove_dir_all(store)?;
    copy(healthy, store)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            fs::copy(&path, &to)?;
        }
    }
    Ok(())
}
