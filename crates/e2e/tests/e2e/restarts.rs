//! Servers come and go while a stock Java producer with default settings sends: none of its sends fails.

use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_e2e::clients::{Counted, Java};
use gantry_e2e::frame::End;
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::wait::{Turn, until};

const TOPIC: &str = "under-load";

fn nothing_failed_and_nothing_is_missing((counted, text): (Counted, String)) -> Result<()> {
    ensure!(
        counted.failed == 0,
        "{} sends failed\n{text}",
        counted.failed
    );
    ensure!(
        counted.missing == 0,
        "{} acknowledged messages were not consumed\n{text}",
        counted.missing
    );
    Ok(())
}

/// Two masters without slave. What the killed one had acknowledged is read after its restart: the load program waits
/// for everything acknowledged, and some of it lies nowhere else.
#[test]
fn one_of_two_brokers_is_killed_under_load() -> Result<()> {
    let _turn = Turn::alone();
    let room = room("two-brokers-kill")?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let mut a = Server::broker(Make::Gantry, room.path(), "broker-a", &[&name_server], &[])?;
    let b = Server::broker(Make::Gantry, room.path(), "broker-b", &[&name_server], &[])?;
    for broker in [&a, &b] {
        create_topic(broker, &[&name_server], TOPIC, 4)?;
    }
    let mut load = Java::prepare("4.9.8")?.load(&name_server.address(), TOPIC, room.path())?;
    load.await_acked(500)?;
    load.await_consumed(500)?;

    a.kill()?;
    load.await_acked(1000)?;
    load.await_consumed(500)?;

    a.start()?;
    load.await_acked(500)?;
    nothing_failed_and_nothing_is_missing(load.finish()?)
}

/// SIGTERM instead of SIGKILL, one broker after the other.
#[test]
fn two_brokers_are_restarted_in_turn_under_load() -> Result<()> {
    let _turn = Turn::alone();
    let room = room("two-brokers-restart")?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let mut brokers = Vec::new();
    for name in ["broker-a", "broker-b"] {
        let broker = Server::broker(Make::Gantry, room.path(), name, &[&name_server], &[])?;
        create_topic(&broker, &[&name_server], TOPIC, 4)?;
        brokers.push(broker);
    }
    let mut load = Java::prepare("4.9.8")?.load(&name_server.address(), TOPIC, room.path())?;
    load.await_acked(300)?;
    for broker in &mut brokers {
        broker.stop()?;
        load.await_acked(300)?;
        broker.start()?;
        load.await_acked(300)?;
    }
    nothing_failed_and_nothing_is_missing(load.finish()?)
}

/// Clients and brokers go on with the other name server; the restarted one learns its routes again by itself.
#[test]
fn one_of_two_name_servers_is_restarted_under_load() -> Result<()> {
    let _turn = Turn::alone();
    let room = room("two-name-servers")?;
    let mut one = Server::name_server(Make::Gantry, room.path(), "namesrv-1")?;
    let two = Server::name_server(Make::Gantry, room.path(), "namesrv-2")?;
    let broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[&one, &two], &[])?;
    create_topic(&broker, &[&one, &two], TOPIC, 4)?;
    let both = format!("{};{}", one.address(), two.address());
    let mut load = Java::prepare("4.9.8")?.load(&both, TOPIC, room.path())?;
    load.await_acked(300)?;
    load.await_consumed(300)?;

    one.kill()?;
    load.await_acked(300)?;
    // Its start waits until it answers; the route is there once the broker has registered again.
    one.start()?;
    until("the route at the restarted name server", || {
        Ok(one.wire()?.call(105, &[("topic", TOPIC)], &[])?.code == 0)
    })?;
    one.stop()?;
    load.await_acked(300)?;
    load.await_consumed(300)?;
    one.start()?;
    nothing_failed_and_nothing_is_missing(load.finish()?)
}

/// Stock clients notice the end of a connection at once only if it is torn down (RST): after an orderly end (FIN) calls
/// in flight wait their whole three seconds and fail.
#[test]
fn a_stopped_and_a_killed_broker_tear_their_connections_down() -> Result<()> {
    let room = room("reset")?;
    let mut broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[], &[])?;
    for how in ["stop", "kill"] {
        let mut idle = broker.wire()?;
        idle.call(28, &[], &[])?.success()?;
        let mut waiting = broker.wire()?;
        create_topic(&broker, &[], TOPIC, 1)?;
        let pull = [
            ("consumerGroup", "g"),
            ("topic", TOPIC),
            ("queueId", "0"),
            ("queueOffset", "0"),
            ("maxMsgNums", "32"),
            ("sysFlag", "6"), // may wait, and carries its subscription
            ("commitOffset", "0"),
            ("suspendTimeoutMillis", "60000"),
            ("subscription", "*"),
            ("subVersion", "0"),
        ];
        waiting.post(11, &pull, &[])?;
        if how == "stop" {
            broker.stop()?;
        } else {
            broker.kill()?;
        }
        for (name, wire) in [
            ("an idle connection", &mut idle),
            ("one with a parked pull", &mut waiting),
        ] {
            let end = wire.end(Duration::from_secs(5))?;
            ensure!(end == End::Reset, "{how}: {name} ended with {end:?}");
        }
        broker.start()?;
    }
    Ok(())
}
