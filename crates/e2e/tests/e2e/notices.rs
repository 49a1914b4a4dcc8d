//! What a broker says of its own accord: members of a group learn at once when one comes or goes.
//!
//! Stock consumers look by themselves every 20 s, so a missing notice would only make sharing slow.

use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_e2e::frame::Wire;
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::wait::Turn;
use serde_json::json;

const NOTIFY_CONSUMER_IDS_CHANGED: i64 = 40;

fn heartbeat(client: &str, group: &str, topic: &str) -> Vec<u8> {
    json!({
        "clientID": client,
        "producerDataSet": [],
        "consumerDataSet": [{
            "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET",
            "consumeType": "CONSUME_PASSIVELY",
            "groupName": group,
            "messageModel": "CLUSTERING",
            "subscriptionDataSet": [{
                "classFilterMode": false, "codeSet": [], "expressionType": "TAG", "subString": "*",
                "subVersion": 1_700_000_000_000_u64, "tagsSet": [], "topic": topic,
            }],
            "unitMode": false,
        }],
    })
    .to_string()
    .into_bytes()
}

fn join(broker: &Server, client: &str, group: &str, topic: &str) -> Result<Wire> {
    let mut wire = broker.wire()?;
    wire.call(34, &[], &heartbeat(client, group, topic))?
        .success()?;
    Ok(wire)
}

fn await_notice(wire: &mut Wire, group: &str) -> Result<()> {
    wire.patience(Duration::from_secs(5))?;
    loop {
        let notice = wire.read()?;
        if notice.code == NOTIFY_CONSUMER_IDS_CHANGED && notice.flag & 1 == 0 {
            ensure!(notice.field("consumerGroup")? == group, "{notice:?}");
            return Ok(());
        }
    }
}

fn members(wire: &mut Wire, group: &str) -> Result<Vec<String>> {
    let answer = wire.call(38, &[("consumerGroup", group)], &[])?;
    let mut ids: Vec<String> = answer.json()?["consumerIdList"]
        .as_array()
        .map(|list| {
            list.iter()
                .filter_map(|id| id.as_str().map(str::to_owned))
                .collect()
        })
        .unwrap_or_default();
    ids.sort();
    Ok(ids)
}

fn group_members_hear_of_each_other(make: Make) -> Result<()> {
    let _turn = Turn::wait();
    let room = room(&format!("notices-{make:?}"))?;
    let broker = Server::broker(make, room.path(), "broker-a", &[], &[])?;
    create_topic(&broker, &[], "noticed", 4)?;
    let (group, topic) = ("group", "noticed");

    let mut first = join(&broker, "one", group, topic)?;
    let mut second = join(&broker, "two", group, topic)?;
    await_notice(&mut first, group)?;
    ensure!(members(&mut first, group)? == ["one", "two"]);

    // Leaves in words.
    second
        .call(35, &[("clientID", "two"), ("consumerGroup", group)], &[])?
        .success()?;
    await_notice(&mut first, group)?;
    ensure!(members(&mut first, group)? == ["one"]);

    // Leaves without a word.
    let third = join(&broker, "three", group, topic)?;
    await_notice(&mut first, group)?;
    drop(third);
    await_notice(&mut first, group)?;
    ensure!(members(&mut first, group)? == ["one"]);
    Ok(())
}

#[test]
fn group_members_hear_of_each_other_from_gantry() -> Result<()> {
    group_members_hear_of_each_other(Make::Gantry)
}

/// The measure for the test beside it.
#[test]
fn group_members_hear_of_each_other_from_apache() -> Result<()> {
    group_members_hear_of_each_other(Make::Apache)
}
