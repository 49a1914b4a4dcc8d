//! A disk that fills up: messages are refused in time and in words that help, everything else goes on, and so do the
//! messages when there is space again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_e2e::clients::Java;
use gantry_e2e::frame::{Answer, Wire};
use gantry_e2e::ledger::{Entry, Plan, Senders, pull, send, verify};
use gantry_e2e::programs::room;
use gantry_e2e::record;
use gantry_e2e::server::{Make, RUNTIME_INFO, Server, create_topic};
use gantry_e2e::small_disk::SmallDisk;
use gantry_e2e::wait::{Turn, until, until_within};

const TOPIC: &str = "space";
const QUEUES: u32 = 4;
/// Space is looked at every second; the rest is for a machine that has other work to do.
const SECONDS: Duration = Duration::from_secs(10);

const SMALL_FILES: [(&str, &str); 2] = [
    ("mappedFileSizeCommitLog", "1048576"),
    ("cleanFileForciblyEnable", "false"),
];

fn fill(broker: &Server, each: u32) -> Result<Vec<Entry>> {
    let senders = Senders::start(&Plan {
        address: broker.address(),
        topic: TOPIC.to_owned(),
        queues: QUEUES,
        senders: QUEUES,
        round: 0,
        each: Some(each),
    });
    senders.await_acked(u64::from(QUEUES * each))?;
    senders.finish()
}

/// Sends one message of 1 KiB and returns the answer.
fn send_one(wire: &mut Wire) -> Result<Answer> {
    let opaque = send(wire, TOPIC, 0, &[b'x'; 1024])?;
    let answer = wire.read()?;
    ensure!(
        answer.opaque == i64::from(opaque),
        "{answer:?} answers nothing"
    );
    Ok(answer)
}

fn entry(answer: &Answer) -> Result<Entry> {
    Ok(Entry {
        queue_id: u32::try_from(answer.number("queueId")?)?,
        queue_offset: u64::try_from(answer.number("queueOffset")?)?,
        id: answer.field("msgId")?.to_owned(),
        body: vec![b'x'; 1024],
    })
}

/// Sends until a message is refused; everything before goes into the ledger.
fn send_until_refused(broker: &Server, ledger: &mut Vec<Entry>) -> Result<Answer> {
    let mut wire = broker.wire()?;
    let mut refused = None;
    until("a refusal", || {
        let answer = send_one(&mut wire)?;
        if answer.code == 0 {
            ledger.push(entry(&answer)?);
        } else {
            refused = Some(answer);
        }
        Ok(refused.is_some())
    })?;
    refused.context("no refusal")
}

fn await_taken(broker: &Server, ledger: &mut Vec<Entry>) -> Result<()> {
    let mut wire = broker.wire()?;
    until_within(SECONDS, "a message to be taken again", || {
        let answer = send_one(&mut wire)?;
        if answer.code == 0 {
            ledger.push(entry(&answer)?);
        }
        Ok(answer.code == 0)
    })
}

fn first_offset(wire: &mut Wire, queue: u32) -> Result<u64> {
    let id = queue.to_string();
    let answer = wire.call(31, &[("topic", TOPIC), ("queueId", &id)], &[])?;
    Ok(u64::try_from(answer.success()?.number("offset")?)?)
}

/// Of what the ledger knows, everything from each queue's first message on is there; returns how many that are.
fn verify_what_is_left(broker: &Server, ledger: &[Entry]) -> Result<usize> {
    let mut wire = broker.wire()?;
    let mut checked = 0;
    for queue in 0..QUEUES {
        let mut next = 0;
        // The queues' first offsets follow the log's a moment later.
        until("the first message of a queue", || {
            next = first_offset(&mut wire, queue)?;
            Ok(pull(&mut wire, TOPIC, queue, next)?.code == 0)
        })?;
        let early = pull(&mut wire, TOPIC, queue, next.saturating_sub(1))?;
        // PULL_OFFSET_MOVED, Java's answer to whoever asks for what was deleted.
        ensure!(
            next == 0 || early.code == 21,
            "before the first message: {early:?}"
        );
        let of_queue = ledger
            .iter()
            .filter(|entry| entry.queue_id == queue && entry.queue_offset >= next);
        let mut wanted: Vec<&Entry> = of_queue.collect();
        wanted.sort_by_key(|entry| entry.queue_offset);
        let mut wanted = wanted.into_iter().peekable();
        while wanted.peek().is_some() {
            let answer = pull(&mut wire, TOPIC, queue, next)?;
            ensure!(answer.code == 0, "queue {queue} at {next}: {answer:?}");
            for found in record::all(&answer.body)? {
                if let Some(entry) =
                    wanted.next_if(|entry| entry.queue_offset == found.queue_offset)
                {
                    ensure!(
                        entry.body == found.body,
                        "queue {queue}: {} has another body",
                        found.queue_offset
                    );
                    checked += 1;
                }
                let missed = wanted
                    .peek()
                    .is_some_and(|entry| entry.queue_offset <= found.queue_offset);
                ensure!(
                    !missed,
                    "queue {queue}: a message before {} is missing",
                    found.queue_offset
                );
            }
            next = u64::try_from(answer.number("nextBeginOffset")?)?;
        }
    }
    Ok(checked)
}

/// A stock Java producer runs into the limit and out of it again.
#[test]
fn a_disk_that_fills_up_refuses_messages_until_there_is_space() -> Result<()> {
    let _turn = Turn::wait();
    let room = room("space")?;
    let disk = SmallDisk::make(&room.path().join("disk"), 64)?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let mut broker = Server::broker_on(&disk, room.path(), &[&name_server], &SMALL_FILES)?;
    create_topic(&broker, &[&name_server], TOPIC, QUEUES)?;
    create_topic(&broker, &[&name_server], "java", QUEUES)?;
    let mut ledger = fill(&broker, 1500)?;
    let mut load = Java::prepare("4.9.8")?.load(&name_server.address(), "java", room.path())?;
    load.await_acked(100)?;

    disk.fill_to(88)?;
    let refused = send_until_refused(&broker, &mut ledger)?;
    let remark = refused.remark.clone().unwrap_or_default();
    let log = disk.dir().join("store/commitlog");
    ensure!(refused.code == 14, "{refused:?}");
    ensure!(remark.contains("the broker's disk is full"), "{remark}");
    ensure!(
        remark.contains(&format!("the disk of {} is ", log.display())),
        "{remark}"
    );
    ensure!(remark.ends_with(" % full, the limit is 90 %"), "{remark}");
    until("the Java producer to be refused", || {
        Ok(load.counted()?.failed > 0)
    })?;
    // It lives, and what was acknowledged is read as ever.
    broker.wire()?.call(RUNTIME_INFO, &[], &[])?.success()?;
    verify(&broker.address(), TOPIC, &ledger)?;

    disk.fill_to(0)?;
    await_taken(&broker, &mut ledger)?;
    load.await_acked(100)?;
    let (counted, text) = load.finish()?;
    ensure!(
        counted.missing == 0,
        "{} acknowledged messages are missing\n{text}",
        counted.missing
    );
    // A code that stock producers take elsewhere, were there another broker.
    ensure!(text.contains("Send [3] times, still failed"), "{text}");

    disk.fill_to(92)?;
    send_until_refused(&broker, &mut ledger)?;
    broker.kill()?;
    broker.start().context("on a full disk")?;
    verify(&broker.address(), TOPIC, &ledger)?;
    send_until_refused(&broker, &mut ledger)?;
    // The oldest messages may go for it: an administrator says so, and asks for it now.
    broker
        .wire()?
        .call(25, &[], b"cleanFileForciblyEnable=true\n")?
        .success()?;
    broker.wire()?.call(329, &[], &[])?.success()?;
    await_taken(&broker, &mut ledger)?;
    let all = ledger.len();
    let left = verify_what_is_left(&broker, &ledger)?;
    ensure!(0 < left && left < all, "{left} of {all} messages are left");
    for how in ["stop", "kill"] {
        match how {
            "stop" => broker.stop()?,
            _ => broker.kill()?,
        }
        broker.start()?;
        let again = verify_what_is_left(&broker, &ledger)?;
        ensure!(
            0 < again && again <= left,
            "after a {how} {again} of {left} messages are left"
        );
    }
    Ok(())
}

/// Not a byte is left, for nobody: no segment, no queue file, no table. What is there stays whole.
#[test]
fn a_disk_without_a_byte_left_damages_nothing() -> Result<()> {
    let room = room("no-space")?;
    let disk = SmallDisk::make(&room.path().join("disk"), 48)?;
    let no_limits = [
        ("rocketmq.broker.diskSpaceWarningLevelRatio", "0.99"),
        ("rocketmq.broker.diskSpaceCleanForciblyRatio", "0.99"),
        ("flushConsumerOffsetInterval", "100"),
    ];
    let properties = [&SMALL_FILES[..], &no_limits].concat();
    let mut broker = Server::broker_on(&disk, room.path(), &[], &properties)?;
    create_topic(&broker, &[], TOPIC, QUEUES)?;
    let mut ledger = fill(&broker, 1500)?;
    let topics = std::fs::read(disk.path("store/config/topics.json"))?;

    disk.fill_to(98)?;
    let refused = send_until_refused(&broker, &mut ledger)?;
    let remark = refused.remark.clone().unwrap_or_default();
    ensure!(refused.code == 14, "{refused:?}");
    ensure!(
        remark.contains("no space left for ") && remark.contains("/store/commitlog/"),
        "{remark}"
    );
    disk.fill_to(100)?;
    let fields = [
        ("topic", "too-late"),
        ("defaultTopic", "TBW102"),
        ("readQueueNums", "1"),
        ("writeQueueNums", "1"),
        ("perm", "6"),
        ("topicFilterType", "SINGLE_TAG"),
        ("topicSysFlag", "0"),
        ("order", "false"),
    ];
    let late = broker.wire()?.call(17, &fields, &[])?;
    ensure!(
        late.code == 1,
        "a topic was made that nobody could write down: {late:?}"
    );
    let remark = late.remark.unwrap_or_default();
    ensure!(remark.contains("No space left on device"), "{remark}");
    let now = std::fs::read(disk.path("store/config/topics.json"))?;
    ensure!(
        now == topics,
        "topics.json changed to {}",
        String::from_utf8_lossy(&now)
    );
    verify(&broker.address(), TOPIC, &ledger)?;
    for round in 0..2 {
        broker.kill()?;
        broker
            .start()
            .with_context(|| format!("start {round} without space"))?;
        verify(&broker.address(), TOPIC, &ledger)?;
    }
    disk.fill_to(0)?;
    await_taken(&broker, &mut ledger)?;
    create_topic(&broker, &[], "in-time", 1)?;
    broker.stop()?;
    broker.start()?;
    verify(&broker.address(), TOPIC, &ledger)?;
    let topics = std::fs::read_to_string(disk.path("store/config/topics.json"))?;
    ensure!(
        topics.contains("\"in-time\"") && !topics.contains("too-late"),
        "{topics}"
    );
    Ok(())
}
