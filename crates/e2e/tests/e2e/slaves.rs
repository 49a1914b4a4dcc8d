//! A Gantry slave of either make's master: readers go on there when the master stops, and what they commit there is the
//! master's when it is back.

use anyhow::{Result, ensure};
use gantry_e2e::ledger::{self, verify};
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::wait::{Turn, until};

const TOPIC: &str = "shared";
const QUEUES: u32 = 4;
const QUERY_OFFSET: i32 = 14;
const COMMIT_OFFSET: i32 = 15;
const SEND_BACK: i32 = 36;

fn commit(broker: &Server, group: &str, offset: u32) -> Result<()> {
    let offset = offset.to_string();
    let fields = [
        ("consumerGroup", group),
        ("topic", TOPIC),
        ("queueId", "0"),
        ("commitOffset", &offset),
    ];
    broker
        .wire()?
        .call(COMMIT_OFFSET, &fields, &[])?
        .success()?;
    Ok(())
}

/// Where a group stands, if the broker knows.
fn position(broker: &Server, group: &str) -> Result<Option<i64>> {
    let fields = [("consumerGroup", group), ("topic", TOPIC), ("queueId", "0")];
    let answer = broker.wire()?.call(QUERY_OFFSET, &fields, &[])?;
    match answer.code {
        0 => answer.number("offset").map(Some),
        _ => Ok(None),
    }
}

fn story(make: Make, name: &str) -> Result<()> {
    let _turn = Turn::wait();
    let room = room(name)?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let folder = room.path().join("master");
    let mut master = Server::broker(make, &folder, "broker-a", &[&name_server], &[])?;
    create_topic(&master, &[&name_server], TOPIC, QUEUES)?;
    let slave = Server::broker(
        Make::Gantry,
        &room.path().join("slave"),
        "broker-a",
        &[&name_server],
        &[("brokerId", "1"), ("brokerRole", "SLAVE")],
    )?;
    let ledger = ledger::fill(&master.address(), TOPIC, QUEUES, 0)?;
    for group in ["goes-on", "is-reset"] {
        commit(&master, group, 5)?;
    }
    until("every message and offset on the slave", || {
        let copied = verify(&slave.address(), TOPIC, &ledger).is_ok();
        Ok(copied
            && position(&slave, "goes-on")? == Some(5)
            && position(&slave, "is-reset")? == Some(5))
    })?;
    let mut wire = slave.wire()?;
    ledger::send(&mut wire, TOPIC, 0, b"not here")?;
    let sent = wire.read()?.code;
    ensure!(sent == 14, "a slave takes nothing: {sent}");
    let back = [("offset", "0"), ("group", "goes-on"), ("delayLevel", "0")];
    let back = slave.wire()?.call(SEND_BACK, &back, &[])?;
    ensure!(back.code == 1, "a slave takes nothing back: {}", back.code);

    master.stop()?;
    verify(&slave.address(), TOPIC, &ledger)?;
    commit(&slave, "goes-on", 8)?;
    commit(&slave, "is-reset", 8)?;
    commit(&slave, "is-new", 3)?;
    master.start()?;
    commit(&master, "is-reset", 1)?;
    until("the master to have what was committed at the slave", || {
        Ok(position(&master, "goes-on")? == Some(8) && position(&master, "is-new")? == Some(3))
    })?;
    until("the reset to be known to the slave", || {
        Ok(position(&slave, "is-reset")? == Some(1))
    })?;
    ensure!(
        position(&master, "is-reset")? == Some(1),
        "the reset is undone"
    );
    ensure!(position(&slave, "goes-on")? == Some(8), "never back");
    Ok(())
}

/// No name server knows either: the slave is told where the master's HA port is, and copies tables all the same.
fn a_pair_without_name_servers(make: Make, name: &str) -> Result<()> {
    let _turn = Turn::wait();
    let room = room(name)?;
    let trusted: &[_] = match make {
        Make::Gantry => &[("haPeers", "127.0.0.1")],
        Make::Apache => &[],
    };
    let master = Server::broker(make, &room.path().join("m"), "broker-a", &[], trusted)?;
    create_topic(&master, &[], TOPIC, QUEUES)?;
    let ha = format!("127.0.0.1:{}", master.port() + 1);
    let slave = Server::broker(
        Make::Gantry,
        &room.path().join("s"),
        "broker-a",
        &[],
        &[
            ("brokerId", "1"),
            ("brokerRole", "SLAVE"),
            ("haMasterAddress", &ha),
        ],
    )?;
    let ledger = ledger::fill(&master.address(), TOPIC, QUEUES, 0)?;
    commit(&master, "copied", 5)?;
    until("messages and offsets on the slave", || {
        let copied = verify(&slave.address(), TOPIC, &ledger).is_ok();
        Ok(copied && position(&slave, "copied")? == Some(5))
    })
}

#[test]
fn a_gantry_master_that_only_ha_master_address_names_has_its_tables_copied() -> Result<()> {
    a_pair_without_name_servers(Make::Gantry, "alone-gantry")
}

#[test]
fn an_apache_master_that_only_ha_master_address_names_has_its_tables_copied() -> Result<()> {
    a_pair_without_name_servers(Make::Apache, "alone-apache")
}

#[test]
fn readers_go_on_at_a_gantry_slave_of_a_gantry_master() -> Result<()> {
    story(Make::Gantry, "slaves-gantry")
}

#[test]
fn readers_go_on_at_a_gantry_slave_of_an_apache_master() -> Result<()> {
    story(Make::Apache, "slaves-apache")
}
