//! `kill -9` again and again: nothing acknowledged is missing, changed or at another offset.

use anyhow::{Context, Result, ensure};
use gantry_e2e::ledger::{Plan, Senders, verify};
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server, create_topic};

const ROUNDS: u32 = 20;
const SENDERS: u32 = 4;
const QUEUES: u32 = 4;

#[test]
fn twenty_kills_under_load_lose_nothing_acknowledged() -> Result<()> {
    let room = room("kill-loop")?;
    let topic = "ledger";
    let mut broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[], &[])?;
    create_topic(&broker, &[], topic, QUEUES)?;
    let mut ledger = Vec::new();
    for round in 0..ROUNDS {
        let senders = Senders::start(&Plan {
            address: broker.address(),
            topic: topic.to_owned(),
            queues: QUEUES,
            senders: SENDERS,
            round,
            each: None,
        });
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
        verify(&broker.address(), topic, &ledger)
            .with_context(|| format!("after kill {round}, {} acknowledged in all", ledger.len()))?;
    }
    broker.stop()?;
    broker.start()?;
    verify(&broker.address(), topic, &ledger).context("after a clean restart")
}
