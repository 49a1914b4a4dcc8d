//! What a killed Gantry leaves is loaded by Apache's broker.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use gantry_e2e::ledger::{Plan, Senders, verify};
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::wait::Turn;

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
