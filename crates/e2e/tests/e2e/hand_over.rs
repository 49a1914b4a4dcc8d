//! Apache -> Gantry -> Apache on one directory, stopped cleanly and killed, with the stock Java client as witness.
//!
//! The client's part is `clients/java/.../HandOver.java`: in each stage it finds everything that the stages before left
//! (messages at their places, by key and id, batches, large bodies, positions of groups, order, counts of retries) and
//! leaves more. Delayed messages are pending at every change; here it is compared when they came with when somebody was
//! there to deliver them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use gantry_e2e::clients::Java;
use gantry_e2e::ledger::{Plan, Senders, verify};
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::wait::{Turn, until};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stop,
    Kill,
}

const STAGES: [(Make, End); 5] = [
    (Make::Apache, End::Stop),
    (Make::Gantry, End::Stop),
    (Make::Apache, End::Kill),
    (Make::Gantry, End::Kill),
    (Make::Apache, End::Stop),
];
/// How late a delayed message may be although a broker is there.
const LATE_MS: i64 = 20_000;
/// What was delivered so shortly before a kill may come again: Apache's broker first notes positions ten seconds after
/// its start, Gantry once the log is synced, which takes as long.
const NOTED_AFTER_MS: i64 = 20_000;

/// A change of brokers: nobody is sure to serve between the two times.
#[derive(Clone, Copy, Debug)]
struct Gap {
    from: i64,
    to: i64,
    end: End,
}

fn now_ms() -> Result<i64> {
    Ok(i64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis(),
    )?)
}

#[test]
fn a_store_that_goes_from_apache_to_gantry_and_back_keeps_everything() -> Result<()> {
    let _turn = Turn::wait();
    let java = Java::prepare("4.9.8")?;
    let room = room("hand-over")?;
    let home = room.path().join("witness");
    std::fs::create_dir_all(&home)?;
    let store = room.path().join("store");
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let properties = [
        ("storePathRootDir", &*store.display().to_string()),
        ("messageDelayLevel", "1s 8s 14s 20s"),
        ("flushConsumerOffsetInterval", "500"),
        ("flushDelayOffsetInterval", "500"),
    ];
    let mut broker: Option<Server> = None;
    let (mut gaps, mut ended) = (Vec::new(), None);
    let mut said = String::new();
    for (stage, (make, end)) in STAGES.into_iter().enumerate() {
        let folder = format!("{stage}-{make:?}");
        let mut owner = match &broker {
            None => Server::broker(
                make,
                &room.path().join(folder),
                "broker-a",
                &[&name_server],
                &properties,
            )?,
            Some(before) => before.successor(make, room.path().join(folder).join("broker-a"))?,
        };
        if let Some((from, end)) = ended {
            let to = now_ms()?;
            gaps.push(Gap { from, to, end });
        }
        let stage = u32::try_from(stage)?;
        said = java
            .hand_over(&name_server.address(), stage, &home)
            .with_context(|| format!("stage {stage}, {make:?}"))?;
        if end == End::Kill {
            positions_are_saved(&owner, &store)?;
            retries_are_saved(stage, &store)?;
        }
        ended = Some((now_ms()?, end));
        match end {
            End::Stop => owner.stop()?,
            End::Kill => owner.kill()?,
        }
        broker = Some(owner);
    }
    delayed_messages_came_in_time(&said, &gaps)
}

/// What the group committed is in the file: a kill loses none of it now.
fn positions_are_saved(broker: &Server, store: &Path) -> Result<()> {
    let file = store.join("config/consumerOffset.json");
    let mut wire = broker.wire()?;
    let groups = [
        ("plain", "going-on", 4),
        ("ordered", "ordered-group", 1),
        ("%RETRY%retrying-group", "retrying-group", 1),
    ];
    for (topic, group, queues) in groups {
        for queue in 0..queues {
            let id = queue.to_string();
            let fields = [
                ("consumerGroup", group),
                ("topic", topic),
                ("queueId", &*id),
            ];
            let offset = wire.call(14, &fields, &[])?.success()?.number("offset")?;
            let (start, expected) = (
                format!("\"{topic}@{group}\":{{"),
                format!("{queue}:{offset}"),
            );
            until(&format!("{topic}@{group} {expected} in the file"), || {
                // Java takes the old file away before it moves the new one there.
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                let text: String = text.split_whitespace().collect();
                let of_group = text
                    .split_once(&start)
                    .and_then(|(_, rest)| rest.split_once('}'));
                Ok(of_group
                    .is_some_and(|(of_group, _)| of_group.split(',').any(|one| one == expected)))
            })?;
        }
    }
    Ok(())
}

/// The retries that this stage has answered do not come again after a kill: four messages a stage went through their
/// level, one delayed and three refused.
fn retries_are_saved(stage: u32, store: &Path) -> Result<()> {
    let file = store.join("config/delayOffset.json");
    until("the position of level 2 in the file", || {
        // Java takes the old file away before it moves the new one there.
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let text: String = text.split_whitespace().collect();
        let next = text
            .split(['{', ',', '}'])
            .find_map(|entry| entry.strip_prefix("2:"));
        Ok(next.is_some_and(|next| next.parse().is_ok_and(|next: u32| 4 * stage <= next)))
    })
}

/// Lines `came KEY DUE STORED`: never early (the witness looked), not late unless nobody was there, and again only when
/// a kill came right behind.
fn delayed_messages_came_in_time(said: &str, gaps: &[Gap]) -> Result<()> {
    let mut came: BTreeMap<&str, i64> = BTreeMap::new();
    for line in said.lines().filter_map(|line| line.strip_prefix("came ")) {
        let mut words = line.split(' ');
        let key = words.next().context("no key")?;
        let due: i64 = words.next().context("no time")?.parse()?;
        let stored: i64 = words.next().context("no time")?.parse()?;
        let Some(before) = came.insert(key, stored) else {
            let gap = gaps.iter().find(|gap| gap.from <= due && due <= gap.to);
            let may_come = gap.map_or(due, |gap| gap.to);
            ensure!(
                stored <= may_come + LATE_MS,
                "{key} came at {stored}, due at {due}; {gaps:?}"
            );
            continue;
        };
        let was_killed = gaps.iter().any(|gap| {
            gap.end == End::Kill
                && gap.from - NOTED_AFTER_MS <= before
                && before <= gap.to
                && gap.from <= stored
        });
        ensure!(
            was_killed,
            "{key} came at {before} and at {stored}; {gaps:?}"
        );
    }
    // Four levels in each stage but the last.
    ensure!(came.len() == 16, "{said}");
    Ok(())
}

/// A kill in the middle of making files leaves nothing that Apache's broker refuses to load.
#[test]
fn apache_s_broker_starts_after_gantry_was_killed_while_it_made_many_queues() -> Result<()> {
    const KILLS: u32 = 12;
    const QUEUES: u32 = 64;
    let _turn = Turn::wait();
    let room = room("made-queues")?;
    let store = room.path().join("store");
    let properties = [("storePathRootDir", &*store.display().to_string())];
    let mut gantry = Server::broker(Make::Gantry, room.path(), "broker-a", &[], &properties)?;
    let mut ledgers = Vec::new();
    for round in 0..KILLS {
        let topic = format!("made-{round}");
        create_topic(&gantry, &[], &topic, QUEUES)?;
        let senders = Senders::start(&Plan {
            address: gantry.address(),
            topic: topic.clone(),
            queues: QUEUES,
            senders: QUEUES,
            round,
            each: Some(4),
        });
        // The queue writer is at work: another moment of that in every round.
        senders.await_acked(u64::from(QUEUES + round * 15))?;
        gantry.kill()?;
        ledgers.push((topic, senders.finish()?));
        for_each_queue_file(&store.join("consumequeue"), &mut |file, len| {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let is_number = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
            ensure!(
                is_number && len == 60_000,
                "{} of {len} bytes",
                file.display()
            );
            Ok(())
        })?;
        gantry.start()?;
    }
    gantry.kill()?;
    let apache = gantry.successor(Make::Apache, room.path().join("apache"))?;
    for (topic, ledger) in &ledgers {
        verify(&apache.address(), topic, ledger).with_context(|| topic.clone())?;
    }
    Ok(())
}

fn for_each_queue_file(dir: &Path, check: &mut dyn FnMut(&Path, u64) -> Result<()>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            for_each_queue_file(&entry.path(), check)?;
        } else {
            check(&entry.path(), entry.metadata()?.len())?;
        }
    }
    Ok(())
}
