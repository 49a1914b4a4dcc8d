//! Stock clients play the same scenarios at Apache's servers and at ours; what they see must be the same.
//!
//! 18 delay levels of a second or two stand for the ladder of hours, on both sides.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Result, anyhow};
use gantry_e2e::clients::{Java, go, node, python, transcript};
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::transcript::{compare, scenarios};
use gantry_e2e::wait::Turn;

const LEVELS: &str = "1s 2s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s";

/// What one client saw, scenario by scenario.
type Seen = BTreeMap<String, String>;

struct Site {
    broker: Server,
    name_server: Server,
}

impl Site {
    fn open(make: Make, room: &Path) -> Result<Site> {
        let name_server = Server::name_server(make, room, &format!("namesrv-{make:?}"))?;
        let properties = [
            ("messageDelayLevel", LEVELS),
            ("rejectTransactionMessage", "true"),
            // 4.9 refuses what waited 200 ms for one of its threads, which other work on the machine may cause.
            ("brokerFastFailureEnable", "false"),
        ];
        let broker = Server::broker(
            make,
            &room.join(format!("{make:?}")),
            "broker-a",
            &[&name_server],
            &properties,
        )?;
        Ok(Site {
            broker,
            name_server,
        })
    }
}

/// Plays at both makes at once and compares.
fn same_for_both(name: &str, play: impl Fn(Make, &Site) -> Result<Seen> + Sync) -> Result<()> {
    let _turn = Turn::wait();
    let room = room(name)?;
    let at = |make| {
        let site = Site::open(make, room.path())?;
        play(make, &site)
    };
    let (apache, gantry) = thread::scope(|scope| {
        let apache = scope.spawn(|| at(Make::Apache));
        let gantry = scope.spawn(|| at(Make::Gantry));
        (apache.join(), gantry.join())
    });
    let died = |_| anyhow!("a player panicked");
    compare(&apache.map_err(died)??, &gantry.map_err(died)??)
}

#[test]
fn java_client_4_9_8_sees_no_difference() -> Result<()> {
    let java = Java::prepare("4.9.8")?;
    same_for_both("java-4.9.8", |_, site| {
        Ok(scenarios(&java.play(
            &site.name_server.address(),
            "j4-",
            &[],
        )?))
    })
}

/// Apache's 4.9 does not know the request of a 5.x lite pull consumer and ours takes it for an ordinary pull: there the
/// measure is what the 4.9.8 client sees.
#[test]
fn java_client_5_3_3_sees_no_difference() -> Result<()> {
    const LITE: &str = "lite-pull-subscribe,lite-pull-assign";
    let new = Java::prepare("5.3.3")?;
    let old = Java::prepare("4.9.8")?;
    same_for_both("java-5.3.3", |make, site| {
        let address = site.name_server.address();
        match make {
            Make::Apache => {
                let mut seen = scenarios(&new.play(&address, "j5-", &["--skip", LITE])?);
                seen.extend(scenarios(&old.play(&address, "j4-", &["--only", LITE])?));
                Ok(seen)
            }
            Make::Gantry => Ok(scenarios(&new.play(&address, "j5-", &[])?)),
        }
    })
}

#[test]
fn go_client_sees_no_difference() -> Result<()> {
    let program = go()?;
    same_for_both("go", |_, site| {
        let mut command = Command::new(&program);
        command.args([
            "-namesrv",
            &site.name_server.address(),
            "-broker",
            &site.broker.address(),
            "-prefix",
            "go-",
        ]);
        command.env("HOME", site.broker.folder()); // broadcast offsets lie there
        Ok(scenarios(&transcript("Go scenarios", &mut command)?))
    })
}

#[test]
fn cpp_client_of_pypi_sends_and_receives() -> Result<()> {
    let (python, script) = python()?;
    same_for_both("cpp", |_, site| {
        let mut command = Command::new(&python);
        command
            .arg(&script)
            .args([&site.name_server.address(), "py-"])
            .env("HOME", site.broker.folder());
        Ok(scenarios(&transcript("Python round trip", &mut command)?))
    })
}

#[test]
fn javascript_client_of_npm_sends_and_receives() -> Result<()> {
    let folder = node()?;
    same_for_both("node", |_, site| {
        create_topic(&site.broker, &[&site.name_server], "node-topic", 4)?;
        let mut command = Command::new("node");
        command
            .arg(folder.join("round_trip.js"))
            .args([&site.name_server.address(), "node-topic", "node-"])
            .current_dir(site.broker.folder());
        Ok(scenarios(&transcript("Node round trip", &mut command)?))
    })
}
