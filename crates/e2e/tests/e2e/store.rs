//! The store has Apache's format: a broker of either make goes on where one of the other stopped.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use gantry_e2e::ledger::{Entry, Plan, Senders, verify};
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::wait::Turn;

const TOPIC: &str = "handed-over";
const QUEUES: u32 = 4;

/// Starts a broker of that make on the store; each owner has a folder of its own for everything else.
fn owner(make: Make, room: &Path, turn: u32, store: &str) -> Result<Server> {
    let folder = room.join(format!("{turn}-{make:?}"));
    Server::broker(
        make,
        &folder,
        "broker-a",
        &[],
        &[("storePathRootDir", store)],
    )
}

fn fill(broker: &Server, round: u32) -> Result<Vec<Entry>> {
    let plan = Plan {
        address: broker.address(),
        topic: TOPIC.to_owned(),
        queues: QUEUES,
        senders: QUEUES,
        round,
        each: Some(400),
    };
    let senders = Senders::start(&plan);
    senders.await_acked(u64::from(QUEUES) * 400)?;
    senders.finish()
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
