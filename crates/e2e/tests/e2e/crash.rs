//! `kill -9` again and again under load, with either way of flushing: nothing acknowledged is missing, changed or at
//! another offset, consumers go back at most to what was saved, and every delayed message arrives.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use gantry_e2e::clients::Java;
use gantry_e2e::frame::Wire;
use gantry_e2e::ledger::{Entry, Plan, Senders, pull, read_queue, send_with, verify};
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::wait::{Turn, until};

const ROUNDS: u32 = 50;
const SENDERS: u32 = 4;
const QUEUES: u32 = 4;
const TOPIC: &str = "ledger";
const LATER: &str = "later";
/// Of level 1.
const DELAY_MS: u64 = 1000;
/// So many rounds go by between two looks at everything.
const LOOK_EVERY: u32 = 5;

#[test]
fn fifty_kills_with_asynchronous_flush_lose_nothing_acknowledged() -> Result<()> {
    fifty_kills("ASYNC_FLUSH")
}

#[test]
fn fifty_kills_with_synchronous_flush_lose_nothing_acknowledged() -> Result<()> {
    fifty_kills("SYNC_FLUSH")
}

fn fifty_kills(flush: &str) -> Result<()> {
    let _turn = Turn::wait();
    let room = room(&format!("kill-{flush}"))?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let properties = [
        ("flushDiskType", flush),
        ("flushConsumerOffsetInterval", "100"),
        ("flushDelayOffsetInterval", "100"),
    ];
    let mut broker = Server::broker(
        Make::Gantry,
        room.path(),
        "broker-a",
        &[&name_server],
        &properties,
    )?;
    create_topic(&broker, &[&name_server], TOPIC, QUEUES)?;
    create_topic(&broker, &[&name_server], LATER, 1)?;
    let (mut ledger, mut delayed, mut saved) = (Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        let senders = Senders::start(&Plan {
            address: broker.address(),
            topic: TOPIC.to_owned(),
            queues: QUEUES,
            senders: SENDERS,
            round,
            each: None,
        });
        delayed.extend(send_delayed(&broker, round)?);
        let committed = u64::from(round) + 1;
        commit(&broker, committed)?;
        if round % 10 == 0 {
            saved = committed;
            let file = broker.folder().join("store/config/consumerOffset.json");
            let expected = format!("0:{saved}");
            until("the committed offset in the file", || {
                Ok(std::fs::read_to_string(&file).is_ok_and(|text| text.contains(&expected)))
            })?;
        }
        // Another moment in every round; the segments are small, so that kills also fall beside a segment's end.
        senders.await_acked(u64::from(150 + round * 137 % 1100))?;
        broker.kill()?;
        let entries = senders.finish()?;
        ensure!(
            !entries.is_empty(),
            "round {round}: nothing was acknowledged"
        );
        ledger.extend(entries);
        broker.start()?;
        let after = committed_after(&broker)?;
        ensure!(
            saved <= after && after <= committed,
            "round {round}: the committed offset was {committed}, {saved} for sure, and is {after}"
        );
        if round % LOOK_EVERY == 0 {
            verify(&broker.address(), TOPIC, &ledger).with_context(|| {
                format!("after kill {round}, {} acknowledged in all", ledger.len())
            })?;
        }
    }
    verify(&broker.address(), TOPIC, &ledger)?;
    every_delayed_message_arrived(&broker, &delayed)?;
    broker.stop()?;
    broker.start()?;
    verify(&broker.address(), TOPIC, &ledger).context("after a clean restart")?;
    a_stock_client_agrees(&name_server, &ledger)
}

/// What a delayed message is known by, and when it was sent.
#[derive(Debug)]
struct Delayed {
    body: Vec<u8>,
    sent_ms: u64,
}

fn now_ms() -> Result<u64> {
    Ok(u64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis(),
    )?)
}

fn send_delayed(broker: &Server, round: u32) -> Result<Vec<Delayed>> {
    let mut wire = broker.wire()?;
    let mut sent = Vec::new();
    for n in 0..3 {
        let body = format!("delayed {round}/{n}").into_bytes();
        let sent_ms = now_ms()?;
        let opaque = send_with(&mut wire, LATER, 0, &body, "DELAY\u{1}1")?;
        let answer = wire.read()?;
        ensure!(answer.opaque == i64::from(opaque), "{answer:?}");
        answer.success()?;
        sent.push(Delayed { body, sent_ms });
    }
    Ok(sent)
}

/// Each is there, whole, and none before its time. A kill between delivery and the note of it makes a second copy.
fn every_delayed_message_arrived(broker: &Server, delayed: &[Delayed]) -> Result<()> {
    let mut wire = broker.wire()?;
    let mut records = Vec::new();
    let arrived = |wire: &mut Wire| -> Result<u64> {
        Ok(u64::try_from(
            pull(wire, LATER, 0, 0)?.number("maxOffset")?,
        )?)
    };
    until("all delayed messages", || {
        let end = arrived(&mut wire)?;
        records = read_queue(&mut wire, LATER, 0, end)?;
        Ok(delayed
            .iter()
            .all(|one| records.iter().any(|record| record.body == one.body)))
    })?;
    for record in &records {
        let one = delayed.iter().find(|one| one.body == record.body);
        let sent_ms = one.map(|one| one.sent_ms);
        // What was not acknowledged may have come through as well.
        if let Some(sent_ms) = sent_ms {
            ensure!(
                sent_ms + DELAY_MS <= record.store_time,
                "{record:?} came {} ms after it was sent",
                record.store_time - sent_ms
            );
        }
    }
    Ok(())
}

fn commit(broker: &Server, offset: u64) -> Result<()> {
    let offset = offset.to_string();
    let fields = [
        ("consumerGroup", "reader"),
        ("topic", TOPIC),
        ("queueId", "0"),
        ("commitOffset", &offset),
    ];
    broker.wire()?.call(15, &fields, &[])?.success().map(drop)
}

fn committed_after(broker: &Server) -> Result<u64> {
    let fields = [
        ("consumerGroup", "reader"),
        ("topic", TOPIC),
        ("queueId", "0"),
    ];
    let answer = broker.wire()?.call(14, &fields, &[])?.success()?;
    Ok(u64::try_from(answer.number("offset")?)?)
}

/// The stock Java client reads the same messages at the same places.
fn a_stock_client_agrees(name_server: &Server, ledger: &[Entry]) -> Result<()> {
    let read = Java::prepare("4.9.8")?.read_all(&name_server.address(), TOPIC)?;
    for entry in ledger {
        let place = (entry.queue_id, entry.queue_offset);
        let found = read
            .get(&place)
            .with_context(|| format!("{place:?} is missing"))?;
        ensure!(
            *found == gantry_e2e::record::crc32(&entry.body),
            "{place:?} has another body"
        );
    }
    Ok(())
}
