//! Packages and units on machines with a systemd, of both families of distributions. `cargo xtask test --machines` makes
//! packages and their repositories and runs this; `--only NAME,NAME` picks stories, `--list` names them.
//!
//! Each story has a network and machines of its own, so that their order is free. Those that do not install begin with a
//! disk on which the packages were installed from the repositories, once for each family. Nothing sleeps: everything is a
//! condition with a deadline.
#![expect(
    clippy::print_stdout,
    reason = "a program of its own, read in a terminal"
)]

mod failing;
mod installing;
mod instances;
mod observing;
mod placing;
mod serving;
mod stage;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use gantry_e2e::clients::Java;
use gantry_e2e::fleet::Family::{self, Debian, Enterprise};
use gantry_e2e::fleet::fitness;
use gantry_e2e::fleet::images::Images;
use gantry_e2e::fleet::machine::Key;
use gantry_e2e::programs::target;

use crate::stage::{Lab, Stage, install, lock};

/// A story.
struct Case {
    name: &'static str,
    about: &'static str,
    run: fn(&Stage<'_>) -> Result<()>,
}

/// Those that wait longest come first.
const CASES: &[Case] = &[
    Case {
        name: "watch",
        about: "Prometheus scrapes both, and the packaged alerts fire for what was stopped",
        run: observing::watch,
    },
    Case {
        name: "watchdog",
        about: "a frozen disk ends in a restart, and nothing acknowledged is lost",
        run: failing::watchdog,
    },
    Case {
        name: "restart",
        about: "restarts under load from another machine: no failed send, no refused connection",
        run: serving::restart,
    },
    Case {
        name: "upgrade",
        about: "to the next release and back, with data, load and an edited file",
        run: installing::upgrade,
    },
    Case {
        name: "install",
        about: "from the signed repositories; as shipped it serves this machine only",
        run: installing::install,
    },
    Case {
        name: "remove",
        about: "remove, purge, install again: the store and edited files stay",
        run: installing::remove,
    },
    Case {
        name: "open",
        about: "one setting opens it to other machines, loudly",
        run: serving::open,
    },
    Case {
        name: "reload",
        about: "reload takes up what may change, names what needs a restart, refuses what is wrong",
        run: serving::reload,
    },
    Case {
        name: "instances",
        about: "two brokers on one host; one stops, the other goes on",
        run: instances::two,
    },
    Case {
        name: "deaf",
        about: "a journal that does not read holds up nobody and misses nothing",
        run: failing::journal,
    },
    Case {
        name: "mount",
        about: "a store on a mount of its own, by the drop-in that the documentation gives",
        run: placing::mount,
    },
    Case {
        name: "ipv6",
        about: "name server and broker on IPv6: the route, the announced address, one address alone",
        run: placing::ipv6,
    },
    Case {
        name: "boot",
        about: "starts with the machine, also when the name server is late",
        run: serving::boot,
    },
    Case {
        name: "kill",
        about: "a kill -9 is followed by a start, and so is a power cut; a stop ends a recovery",
        run: failing::kill,
    },
    Case {
        name: "failures",
        about: "a start that cannot succeed leaves one clear line: port, file, folder, owner",
        run: failing::starts,
    },
    Case {
        name: "journal",
        about: "journal fields, numbered events with explanations, audit lines",
        run: observing::journal,
    },
];

/// How many stories at a time: mostly they wait.
const WORKERS: usize = 3;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            println!("machines: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        for case in CASES {
            println!("{:10} {}", case.name, case.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let cases = chosen(&args)?;
    let folder = target().join("machines");
    std::fs::create_dir_all(&folder)?;
    if let Some(why) = fitness::obstacle(&folder)? {
        println!("NOT RUN: machines need root and what it may: {why}");
        if let Some(file) = std::env::var_os("GANTRY_NOT_RUN") {
            std::fs::write(file, why)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let lab = prepare(folder)?;
    let mut waiting = VecDeque::new();
    for case in &cases {
        for family in [Debian, Enterprise] {
            waiting.push_back((*case, family));
        }
    }
    let failed = play(&lab, waiting);
    println!("\nmeasured");
    let mut figures = lock(&lab.figures).clone();
    figures.sort();
    for figure in figures {
        println!("  {figure}");
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nfailed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn chosen(args: &[String]) -> Result<Vec<&'static Case>> {
    match args {
        [] => Ok(CASES.iter().collect()),
        [only, names] if only == "--only" => {
            let mut chosen = Vec::new();
            for name in names.split(',') {
                let case = CASES.iter().find(|case| case.name == name);
                chosen.push(case.with_context(|| format!("no story {name}; --list shows them"))?);
            }
            Ok(chosen)
        }
        _ => bail!("only --list, or --only NAME,NAME"),
    }
}

/// Everything that is done once.
fn prepare(folder: PathBuf) -> Result<Lab> {
    let began = Instant::now();
    let repositories = std::env::var_os("GANTRY_REPOSITORIES")
        .context("cargo xtask test --machines makes the repositories that this needs")?;
    let images = Images::prepare()?;
    println!("images are there after {} s", began.elapsed().as_secs());
    let java = Java::prepare("4.9.8")?;
    let mut room = tempfile::Builder::new().prefix("run-").tempdir_in(folder)?;
    room.disable_cleanup(std::env::var_os("GANTRY_E2E_KEEP").is_some());
    let key = Key::make(room.path())?;
    let lab = Lab {
        images,
        key,
        java,
        repositories: repositories.into(),
        room,
        installed: Mutex::default(),
        figures: Mutex::default(),
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| install(&lab, Enterprise));
        install(&lab, Debian)?;
        match other.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    println!(
        "packages are installed after {} s",
        began.elapsed().as_secs()
    );
    Ok(lab)
}

/// Runs them and returns the names of those that failed.
fn play(lab: &Lab, waiting: VecDeque<(&Case, Family)>) -> Vec<String> {
    let waiting = Mutex::new(waiting);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = lock(&waiting).pop_front();
                    let Some((case, family)) = next else {
                        return;
                    };
                    if !tell(lab, case, family) {
                        lock(&failed).push(format!("{} on {}", case.name, family.name()));
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_default()
}

/// One story; whether it went well.
fn tell(lab: &Lab, case: &Case, family: Family) -> bool {
    let began = Instant::now();
    let ended = Stage::make(lab, case.name, family).and_then(|stage| {
        let ended = (case.run)(&stage);
        ended.map_err(|error| anyhow::anyhow!("{error:#}\n{}", stage.report()))?;
        // Stores are large: while others wait is a good time to remove them. Machines go first.
        let room = stage.room.clone();
        drop(stage);
        match std::env::var_os("GANTRY_E2E_KEEP") {
            Some(_) => Ok(()),
            None => Ok(std::fs::remove_dir_all(room)?),
        }
    });
    let seconds = began.elapsed().as_secs_f32();
    let (name, about, family) = (case.name, case.about, family.name());
    match &ended {
        Ok(()) => println!("ok      {seconds:6.1} s  {family:6} {name}: {about}"),
        Err(error) => println!("FAILED  {seconds:6.1} s  {family:6} {name}: {about}\n{error:#}\n"),
    }
    ended.is_ok()
}
