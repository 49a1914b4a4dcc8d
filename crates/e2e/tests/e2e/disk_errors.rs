//! A disk that fails under a real broker: strace lets system calls on the log's file end with EIO, nothing else is
//! touched (`-P`), and the disk "works again" behind that. Nobody hears of a success any more, the name servers learn
//! within a second that the broker can only be read, stock producers go on elsewhere, and after a restart everything
//! that was acknowledged is there.
//!
//! strace counts calls for each thread by itself: syncs of the log are the flusher's, writes the one I/O thread's. It
//! runs as a grandchild (`-D`), so that the process of the test's server is the broker.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_e2e::clients::Java;
use gantry_e2e::frame::{Answer, Wire};
use gantry_e2e::http::{get, value};
use gantry_e2e::ledger::{Entry, pull, send, verify};
use gantry_e2e::mqadmin::mqadmin;
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::wait::{PATIENCE, Turn, until};

const TOPIC: &str = "ledger";
const QUEUES: u32 = 4;
const FLUSH_DISK_TIMEOUT: i64 = 10;
const SERVICE_NOT_AVAILABLE: i64 = 14;
const ROUTE: i32 = 105;
/// Sends in flight.
const WINDOW: u32 = 16;
/// How long after the failure name servers may learn of it, by the broker's clock. A second is promised; the machine of
/// a test has other things to do.
const WITHDRAWAL_MAX: Duration = Duration::from_secs(5);

/// A folder for stores in memory, where there is one: these stories are about errors, and clients have no patience for
/// a disk that is merely slow.
fn quick_room() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        return room("disk-error-store");
    }
    let mut builder = tempfile::Builder::new();
    Ok(builder.prefix("gantry-e2e-").tempdir_in(memory)?)
}

/// Lets calls of a kind on the log's first file fail from the next start on: the n-th of a thread, and only that.
fn fail(broker: &mut Server, store: &Path, calls: &str, number: u32) {
    let log = store.join("commitlog/00000000000000000000");
    let out = broker.folder().join("strace.log");
    let inject = format!("inject={calls}:error=EIO:when={number}");
    broker.run_by(&[
        "strace",
        "-D",
        "-f",
        "-o",
        &out.display().to_string(),
        "-P",
        &log.display().to_string(),
        "-e",
        &format!("trace={calls}"),
        "-e",
        &inject,
    ]);
}

/// The broker's metrics.
fn scrape(broker: &Server) -> Result<String> {
    let (status, page) = get(broker.metrics_port(), "/metrics")?;
    ensure!(status == 200, "{status}");
    Ok(page)
}

/// What became of the sends until one was not acknowledged.
struct Sent {
    acked: Vec<Entry>,
    /// The answers that were no success, all of the last window.
    others: Vec<Answer>,
}

/// Sends windows of messages until an answer is no success.
fn send_until_refused(wire: &mut Wire) -> Result<Sent> {
    let mut acked = Vec::new();
    for round in 0..10_000_u32 {
        let mut pending = Vec::new();
        for number in 0..WINDOW {
            let queue_id = number % QUEUES;
            let body = format!("{round}/{number}").into_bytes();
            let opaque = send(wire, TOPIC, queue_id, &body)?;
            pending.push((i64::from(opaque), queue_id, body));
        }
        let mut others = Vec::new();
        while !pending.is_empty() {
            let answer = wire.read()?;
            let place = pending
                .iter()
                .position(|(opaque, ..)| *opaque == answer.opaque);
            let (_, queue_id, body) = pending.swap_remove(place.context("an answer to nothing")?);
            if answer.code != 0 {
                others.push(answer);
                continue;
            }
            acked.push(Entry {
                queue_id,
                queue_offset: u64::try_from(answer.number("queueOffset")?)?,
                id: answer.field("msgId")?.to_owned(),
                body,
            });
        }
        if !others.is_empty() {
            return Ok(Sent { acked, others });
        }
    }
    anyhow::bail!("every send was acknowledged")
}

/// One broker, an error after some time: who is told what, and what is there after the restart.
fn story(flush: &str, calls: &str, number: u32) -> Result<()> {
    let (room, quick) = (room("disk-error")?, quick_room()?);
    let store = quick.path().join("store");
    let store_text = store.display().to_string();
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let properties = [
        ("storePathRootDir", store_text.as_str()),
        ("flushDiskType", flush),
        ("ioThreads", "1"),
        ("flushIntervalCommitLog", "20"),
        // Answers that need it would come too late for the client.
        ("syncFlushTimeout", "600000"),
    ];
    let mut broker = Server::broker(
        Make::Gantry,
        room.path(),
        "broker-a",
        &[&name_server],
        &properties,
    )?;
    create_topic(&broker, &[&name_server], TOPIC, QUEUES)?;
    // The file that is to fail is there before strace looks for it.
    broker
        .wire()?
        .call(17, &topic_fields("other"), &[])?
        .success()?;
    send(&mut broker.wire()?, TOPIC, 0, b"first")?;
    until("the first message", || {
        Ok(pull(&mut broker.wire()?, TOPIC, 0, 0)?.code == 0)
    })?;
    broker.stop()?;
    fail(&mut broker, &store, calls, number);
    broker.start()?;

    let mut wire = broker.wire()?;
    wire.patience(PATIENCE)?;
    let sent = send_until_refused(&mut wire).with_context(|| broker.console())?;
    ensure!(
        !sent.acked.is_empty(),
        "nothing was acknowledged before the error"
    );
    let what = if calls.contains("sync") {
        "sync"
    } else {
        "write"
    };
    let named = format!(
        "{what} of {}/commitlog/00000000000000000000: Input/output error",
        store.display()
    );
    for answer in &sent.others {
        let remark = answer.remark.as_deref().unwrap_or_default();
        ensure!(remark.contains(&named), "{named:?} is not in {answer:?}");
        // 10: stored before the error, and still waiting for its sync then.
        let unsynced = flush == "SYNC_FLUSH" && answer.code == FLUSH_DISK_TIMEOUT;
        ensure!(
            answer.code == SERVICE_NOT_AVAILABLE || unsynced,
            "{answer:?}"
        );
    }
    // strace lets everything pass by now; the broker does not rely on it.
    for queue_id in 0..QUEUES {
        send(&mut wire, TOPIC, queue_id, b"late")?;
        let answer = wire.read()?;
        ensure!(answer.code == SERVICE_NOT_AVAILABLE, "{answer:?}");
    }
    verify_readable(&broker, &sent.acked)?;
    is_withdrawn(&broker, &name_server, &[TOPIC, "other"])?;
    let page = scrape(&broker)?;
    ensure!(value(&page, "gantry_store_writable")? == 0.0, "{page}");
    ensure!(value(&page, "gantry_broker_permission")? == 4.0, "{page}");
    let latched = format!("gantry_store_latched{{reason=\"{what}\"}}");
    ensure!(value(&page, &latched)? == 1.0, "{page}");
    let refused = value(
        &page,
        "gantry_store_write_refused_total{reason=\"latched\"}",
    )?;
    ensure!(4.0 <= refused, "{page}");

    // Topics may come and go; the permission stays where it is.
    broker
        .wire()?
        .call(17, &topic_fields("another"), &[])?
        .success()?;
    is_withdrawn(&broker, &name_server, &["another"])?;

    broker.stop()?;
    let log = broker.log()?;
    let errors = log
        .matches("the store takes no messages until it is restarted")
        .count();
    ensure!(errors == 1, "said {errors} times:\n{log}");
    broker.run_by(&[]);
    broker.start()?;
    verify(&broker.address(), TOPIC, &sent.acked).context("after the restart")?;
    let mut wire = broker.wire()?;
    send(&mut wire, TOPIC, 0, b"again")?;
    wire.read()?.success()?;
    until("the permission to write at the name server", || {
        Ok(permissions(&name_server, TOPIC)? == [6])
    })
}

fn topic_fields(topic: &str) -> [(&str, &str); 8] {
    [
        ("topic", topic),
        ("defaultTopic", "TBW102"),
        ("readQueueNums", "4"),
        ("writeQueueNums", "4"),
        ("perm", "6"),
        ("topicFilterType", "SINGLE_TAG"),
        ("topicSysFlag", "0"),
        ("order", "false"),
    ]
}

/// What was acknowledged is handed out all the same, though what was stored and not acknowledged lies between.
fn verify_readable(broker: &Server, acked: &[Entry]) -> Result<()> {
    verify(&broker.address(), TOPIC, acked).context("from the latched store")
}

/// The permissions of a topic's queues in a route, one a broker.
fn permissions(name_server: &Server, topic: &str) -> Result<Vec<i32>> {
    let answer = name_server.wire()?.call(ROUTE, &[("topic", topic)], &[])?;
    ensure!(answer.code == 0, "{topic}: {answer:?}");
    let route = String::from_utf8_lossy(&answer.body).into_owned();
    let queues = route.split("\"perm\":").skip(1);
    queues
        .map(|rest| {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
            Ok(digits.context("no number")?.parse()?)
        })
        .collect()
}

/// Waits until the route says read only, then asks the broker's own log how long it took.
fn is_withdrawn(broker: &Server, name_server: &Server, topics: &[&str]) -> Result<()> {
    for topic in topics {
        until("a route that can only be read", || {
            Ok(permissions(name_server, topic)? == [4])
        })?;
    }
    // The broker says so when it has the answer, which is after the name server has the permission.
    let mut said = None;
    let found = until("a word of the new permission in the log", || {
        let log = broker.log()?;
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains("the name server has the new permission"));
        said = line.map(str::to_owned);
        Ok(said.is_some())
    });
    found.with_context(|| broker.log().unwrap_or_default())?;
    let line = said.context("no line")?;
    let took = line.split("latched_ms=").nth(1).and_then(|rest| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    let took = Duration::from_millis(took.with_context(|| line.clone())?);
    ensure!(
        took <= WITHDRAWAL_MAX,
        "the name server was told after {took:?}: {line}"
    );
    Ok(())
}

#[test]
fn a_sync_fails_under_synchronous_flush() -> Result<()> {
    story("SYNC_FLUSH", "fdatasync,fsync", 12)
}

#[test]
fn a_sync_fails_under_asynchronous_flush() -> Result<()> {
    story("ASYNC_FLUSH", "fdatasync,fsync", 3)
}

#[test]
fn a_write_fails_under_synchronous_flush() -> Result<()> {
    story("SYNC_FLUSH", "pwrite64,pwritev", 40)
}

#[test]
fn a_write_fails_under_asynchronous_flush() -> Result<()> {
    story("ASYNC_FLUSH", "pwrite64,pwritev", 40)
}

/// Two brokers, a stock producer with default settings and a stock consumer. Sends that waited for the sync that failed
/// are told that their messages are stored but not safe; all others go to the healthy broker without an error.
#[test]
fn a_stock_producer_goes_on_at_the_healthy_broker() -> Result<()> {
    const SENDERS: u64 = 4;
    let _turn = Turn::alone();
    let (room, quick) = (room("disk-error-java")?, quick_room()?);
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let start = |name: &str| {
        let store = quick.path().join(name).display().to_string();
        let sync = [
            ("storePathRootDir", store.as_str()),
            ("flushDiskType", "SYNC_FLUSH"),
            ("ioThreads", "1"),
        ];
        Server::broker(Make::Gantry, room.path(), name, &[&name_server], &sync)
    };
    let (mut sick, healthy) = (start("broker-a")?, start("broker-b")?);
    for broker in [&sick, &healthy] {
        create_topic(broker, &[&name_server], TOPIC, QUEUES)?;
    }
    send(&mut sick.wire()?, TOPIC, 0, b"first")?;
    until("the first message", || {
        Ok(pull(&mut sick.wire()?, TOPIC, 0, 0)?.code == 0)
    })?;
    sick.stop()?;
    let store = quick.path().join("broker-a");
    fail(&mut sick, &store, "fdatasync,fsync", 150);
    sick.start()?;

    let mut load = Java::prepare("4.9.8")?.load(&name_server.address(), TOPIC, room.path())?;
    until("the store to latch", || {
        Ok(value(&scrape(&sick)?, "gantry_store_writable")? == 0.0)
    })?;
    load.await_acked(500)?;
    load.await_consumed(500)?;
    let shown = mqadmin(
        Make::Apache,
        room.path(),
        &name_server.address(),
        &["topicRoute", "-t", TOPIC],
    )?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let lines: String = shown.split_whitespace().collect();
    for (broker, perm) in [("broker-a", 4), ("broker-b", 6)] {
        let queues = format!("\"brokerName\":\"{broker}\",\"perm\":{perm}");
        ensure!(lines.contains(&queues), "no {queues} in {shown}");
    }

    sick.stop()?;
    sick.run_by(&[]);
    sick.start()?;
    load.await_acked(300)?;
    let (counted, text) = load.finish()?;
    ensure!(
        counted.failed <= SENDERS,
        "{} sends were not acknowledged, {SENDERS} can have waited for the sync\n{text}",
        counted.failed
    );
    ensure!(
        !text.contains("failed after"),
        "a send got no answer or was refused for good\n{text}"
    );
    ensure!(
        counted.missing == 0,
        "{} acknowledged messages were not consumed\n{text}",
        counted.missing
    );
    Ok(())
}
