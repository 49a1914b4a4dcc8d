//! Everything that is not `cargo build`: `cargo xtask NAME`.
//!
//! One module a task. Nothing of ours is linked: tasks run cargo and the programs it built, so that a checkout that
//! does not compile can still say so.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for a terminal"
)]

mod bench;
mod bench_replication;
mod bench_store;
mod deletion;
mod demo;
mod dist;
mod machines;
mod package;
mod repo;
mod servers;
mod shell;
mod sim;
mod test;
mod tools;

use std::process::ExitCode;

use anyhow::Result;

/// A task: its name, the line about it, what it does with the remaining arguments.
struct Task {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const TASKS: &[Task] = &[
    Task {
        name: "demo",
        about: "starts a name server and a broker, sends 100 000 messages and verifies every one (--keep, --count N)",
        run: demo::run,
    },
    Task {
        name: "test",
        about: "runs everything that CI runs (--only STEP,STEP, --list, -- FILTER for the end-to-end tests; --machines [--only CASE,CASE]: packages on machines with a systemd)",
        run: test::run,
    },
    Task {
        name: "sim",
        about: "plays seeds of the simulation (--seed N: that one, and shows all of it; --seeds N, --first N; --broken RULE)",
        run: sim::run,
    },
    Task {
        name: "dist",
        about: "builds the tarball of the home layout and prints its path (--out DIR)",
        run: dist::run,
    },
    Task {
        name: "package",
        about: "builds .deb and .rpm packages into target/packages (--out DIR, --revision N, --maintainer \"NAME <MAIL>\", --lint)",
        run: package::run,
    },
    Task {
        name: "repo",
        about: "makes signed apt and dnf repositories of them in target/repo (--owner \"NAME <MAIL>\", --new-key, --url URL, --packages DIR, --out DIR)",
        run: repo::run,
    },
    Task {
        name: "bench",
        about: "measures Gantry, Apache's broker and the writing null server in turn (--seconds N, --rounds N, --only SHAPE); --only deletion --files N: sends while files of 1 GiB are deleted; bench store: what the store promises in figures (--quick, --only PART, --no-apache, --dir DIR)",
        run: bench::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("", String::as_str);
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        println!("usage: cargo xtask TASK [OPTIONS]");
        for task in TASKS {
            println!("  {:7} {}", task.name, task.about);
        }
        let asked = ["help", "-h", "--help"].contains(&name);
        return if asked {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        };
    };
    match (task.run)(&arguments[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask {name}: {e:#}");
            ExitCode::FAILURE
        }
    }
}
