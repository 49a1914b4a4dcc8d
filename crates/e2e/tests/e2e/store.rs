//! The store has Apache's format: a broker of either make goes on where one of the other stopped.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use gantry_e2e::ledger::{self, Entry, read_queue, verify};
use gantry_e2e::programs::room;
use gantry_e2e::record;
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::wait::{Turn, until};

const TOPIC: &str = "handed-over";
const QUEUES: u32 = 4;

/// Starts a broker of that make on the store; each owner has a folder of its own for everything else.
fn owner(make: Make, room: &Path, turn: u32, store: &str) -> Result<Server> {
    owner_with(make, room, turn, &[("storePathRootDir", store)])
}

fn owner_with(make: Make, room: &Path, turn: u32, settings: &[(&str, &str)]) -> Result<Server> {
    let folder = room.join(format!("{turn}-{make:?}"));
    Server::broker(make, &folder, "broker-a", &[], settings)
}

fn fill(broker: &Server, round: u32) -> Result<Vec<Entry>> {
    ledger::fill(&broker.address(), TOPIC, QUEUES, round)
}

fn commit(broker: &Server, offset: &str) -> Result<()> {
    let fields = [
        ("consumerGroup", "reader"),
        ("topic", TOPIC),
        ("queueId", "1"),
        ("commitOffset", offset),
    ];
    broker.wire()?.call(15, &fields, &[])?.success().map(drop)
}

fn committed(broker: &Server) -> Result<String> {
    let fields = [
        ("consumerGroup", "reader"),
        ("topic", TOPIC),
        ("queueId", "1"),
    ];
    Ok(broker
        .wire()?
        .call(14, &fields, &[])?
        .success()?
        .field("offset")?
        .to_owned())
}

/// Gantry, Apache, Gantry, Apache on one store: messages, queues, topics and offsets of all before are there.
#[test]
fn brokers_of_both_makes_take_turns_on_one_store() -> Result<()> {
    let _turn = Turn::wait();
    let room = room("turns")?;
    let store = room.path().join("store").display().to_string();
    let mut ledger = Vec::new();
    for (turn, make) in [Make::Gantry, Make::Apache, Make::Gantry, Make::Apache]
        .into_iter()
        .enumerate()
    {
        let turn = u32::try_from(turn)?;
        let mut broker = owner(make, room.path(), turn, &store)?;
        if turn == 0 {
            create_topic(&broker, &[], TOPIC, QUEUES)?;
        } else {
            let known = committed(&broker).with_context(|| format!("turn {turn}, {make:?}"))?;
            ensure!(
                known == turn.to_string(),
                "turn {turn}, {make:?}: the committed offset is {known}"
            );
        }
        verify(&broker.address(), TOPIC, &ledger)
            .with_context(|| format!("turn {turn}, {make:?}, before"))?;
        ledger.extend(fill(&broker, turn)?);
        commit(&broker, &(turn + 1).to_string())?;
        broker.stop()?;
    }
    Ok(())
}

/// What a killed Gantry left behind is an unclean store like any other to Apache's broker.
#[test]
fn apache_s_broker_recovers_the_store_of_a_killed_gantry() -> Result<()> {
    let _turn = Turn::wait();
    let room = room("after-a-kill")?;
    let store = room.path().join("store").display().to_string();
    let mut gantry = owner(Make::Gantry, room.path(), 0, &store)?;
    create_topic(&gantry, &[], TOPIC, QUEUES)?;
    let mut ledger = fill(&gantry, 0)?;
    gantry.kill()?;
    let mut apache = owner(Make::Apache, room.path(), 1, &store)?;
    verify(&apache.address(), TOPIC, &ledger)?;
    ledger.extend(fill(&apache, 1)?);
    apache.kill()?;
    let gantry = owner(Make::Gantry, room.path(), 2, &store)?;
    verify(&gantry.address(), TOPIC, &ledger).context("and back after Apache's was killed")
}

/// Sends to one queue and waits for the answer.
fn send(broker: &Server, queue_id: u32, properties: &str, body: &[u8]) -> Result<()> {
    let queue_id = queue_id.to_string();
    let fields = [
        ("a", "store"),
        ("b", TOPIC),
        ("c", "TBW102"),
        ("d", "4"),
        ("e", &queue_id),
        ("f", "0"),
        ("g", "1700000000000"),
        ("h", "0"),
        ("i", properties),
        ("j", "0"),
        ("k", "false"),
        ("m", "false"),
    ];
    broker.wire()?.call(310, &fields, body)?.success().map(drop)
}

/// Bodies in a queue that the broker finds for a tag, by queue offset.
fn tagged(broker: &Server, queue_id: u32, tag: &str) -> Result<BTreeMap<u64, String>> {
    let mut wire = broker.wire()?;
    let queue_id = queue_id.to_string();
    let (mut found, mut next) = (BTreeMap::new(), 0);
    loop {
        let offset = next.to_string();
        let fields = [
            ("consumerGroup", "tag-reader"),
            ("topic", TOPIC),
            ("queueId", &queue_id),
            ("queueOffset", &offset),
            ("maxMsgNums", "32"),
            ("sysFlag", "4"),
            ("commitOffset", "0"),
            ("suspendTimeoutMillis", "0"),
            ("subscription", tag),
            ("subVersion", "0"),
            ("expressionType", "TAG"),
        ];
        let answer = wire.call(11, &fields, &[])?;
        if answer.code == 0 {
            for one in record::all(&answer.body)? {
                found.insert(one.queue_offset, String::from_utf8(one.body)?);
            }
        }
        let after = u64::try_from(answer.number("nextBeginOffset")?)?;
        if after <= next {
            return Ok(found);
        }
        next = after;
    }
}

/// `consumequeue_ext`, several folders of the log, a folder that becomes read-only, and delayed messages that one make
/// stores and the other delivers.
#[test]
fn both_makes_continue_extended_queues_and_a_log_in_several_folders() -> Result<()> {
    let _turn = Turn::wait();
    let room = room("extended")?;
    let store = room.path().join("store").display().to_string();
    let [old, one, two] = ["old", "one", "two"].map(|dir| format!("{store}/{dir}"));
    let (at_first, later) = (format!("{old},{one}"), format!("{old},{one},{two}"));
    let mut sent = BTreeMap::new();
    for (turn, make) in [
        Make::Apache,
        Make::Gantry,
        Make::Apache,
        Make::Gantry,
        Make::Apache,
    ]
    .into_iter()
    .enumerate()
    {
        let turn = u32::try_from(turn)?;
        let (paths, read_only) = if turn == 0 {
            (&at_first, "")
        } else {
            (&later, &*old)
        };
        let mut settings = vec![
            ("storePathRootDir", &*store),
            ("storePathCommitLog", paths),
            ("mappedFileSizeCommitLog", "65536"),
            ("enableConsumeQueueExt", "true"),
            ("mappedFileSizeConsumeQueueExt", "2000"),
        ];
        if turn > 0 {
            settings.push(("readOnlyCommitLogStorePaths", read_only));
        }
        let mut broker = owner_with(make, room.path(), turn, &settings)?;
        let when = format!("turn {turn}, {make:?}");
        if turn == 0 {
            create_topic(&broker, &[], TOPIC, QUEUES)?;
        }
        // What the one before stored with a delay comes out here, or came out there already.
        until("delayed messages", || {
            Ok(tagged(&broker, 1, "Late")?.len() == turn as usize)
        })
        .with_context(|| when.clone())?;
        for round in 0..2 {
            for tag in ["TagA", "TagB"] {
                let of_tag = |sent: &BTreeMap<u64, (&str, String)>| -> BTreeMap<u64, String> {
                    let all = sent.iter().filter(|(_, (own, _))| *own == tag);
                    all.map(|(at, (_, body))| (*at, body.clone())).collect()
                };
                ensure!(
                    tagged(&broker, 0, tag)? == of_tag(&sent),
                    "{when}, {round}: {tag}"
                );
            }
            for n in 0..if round == 0 { 60 } else { 0 } {
                let tag = if n % 3 == 0 { "TagA" } else { "TagB" };
                let body = format!("{turn}/{n} {}", "x".repeat(1500));
                let at = u64::try_from(sent.len())?;
                send(
                    &broker,
                    0,
                    &format!("TAGS\u{1}{tag}\u{2}KEYS\u{1}k{turn}-{n}"),
                    body.as_bytes(),
                )?;
                sent.insert(at, (tag, body));
            }
        }
        send(
            &broker,
            1,
            "TAGS\u{1}Late\u{2}DELAY\u{1}2",
            format!("late {turn}").as_bytes(),
        )?;
        broker.stop()?;
    }
    let segments = |dir: &str| -> Result<usize> { Ok(fs::read_dir(dir)?.count()) };
    ensure!(
        segments(&old)? == 1,
        "a segment was made in the read-only folder"
    );
    ensure!(
        segments(&one)? > 1 && segments(&two)? > 1,
        "each of the other folders has some"
    );
    Ok(())
}

/// A flipped bit in the middle of the log costs one message, in Gantry and then in Apache's broker.
#[test]
fn damage_in_the_log_costs_both_makes_the_same_message() -> Result<()> {
    let _turn = Turn::wait();
    let room = room("damaged-log")?;
    let store = room.path().join("store");
    let root = store.display().to_string();
    let settings = [
        ("storePathRootDir", &*root),
        ("mappedFileSizeCommitLog", "1048576"),
    ];
    let mut apache = owner_with(Make::Apache, room.path(), 0, &settings)?;
    create_topic(&apache, &[], TOPIC, QUEUES)?;
    let mut ledger = fill(&apache, 0)?;
    apache.stop()?;
    let place = |entry: &Entry| u64::from_str_radix(&entry.id[16..], 16);
    ledger.sort_by_key(|entry| place(entry).unwrap_or(0));
    let lost = ledger.remove(ledger.len() - 300);
    let (segment, at) = (
        place(&lost)? / (1 << 20) * (1 << 20),
        place(&lost)? % (1 << 20),
    );
    ensure!(segment > 0, "the damage lies in the first segment");
    let file = fs::File::options()
        .write(true)
        .open(store.join("commitlog").join(format!("{segment:020}")))?;
    file.write_all_at(b"?", at + 90)?;
    for (turn, make) in [Make::Gantry, Make::Apache, Make::Gantry]
        .into_iter()
        .enumerate()
    {
        let turn = u32::try_from(turn)? + 1;
        let mut broker = owner_with(make, room.path(), turn, &settings)?;
        let mut wire = broker.wire()?;
        for queue in 0..QUEUES {
            let mine = || ledger.iter().filter(|entry| entry.queue_id == queue);
            let end = mine()
                .map(|entry| entry.queue_offset + 1)
                .max()
                .unwrap_or(0);
            let found = read_queue(&mut wire, TOPIC, queue, end)?;
            let found: BTreeMap<_, _> = found
                .iter()
                .map(|one| (one.queue_offset, &one.body))
                .collect();
            let expected: BTreeMap<_, _> =
                mine().map(|one| (one.queue_offset, &one.body)).collect();
            let when = format!("turn {turn}, {make:?}, queue {queue}");
            ensure!(
                found.keys().eq(expected.keys()),
                "{when}: {} instead of {}",
                found.len(),
                expected.len()
            );
            ensure!(found == expected, "{when}: other bodies");
        }
        drop(wire);
        ledger.extend(fill(&broker, turn)?);
        broker.stop()?;
    }
    let kept = fs::read_dir(store.join("quarantine"))?.count();
    ensure!(kept == 1, "{kept} files in the quarantine");
    Ok(())
}
