//! `cargo xtask test`: the gate, the same on every machine.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::machines;
use crate::shell::{self, build_programs, cargo, only_options, option, root};
use crate::tools;

/// A step: its name, the line about it, and what it runs with the filter for end-to-end tests.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<Outcome>,
}

/// How a step ended that found no fault.
pub(crate) enum Outcome {
    Passed,
    /// It cannot be run here, for this reason.
    NotRun(String),
}

/// What a command that succeeded stands for.
fn passed((): ()) -> Outcome {
    Outcome::Passed
}

const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        about: "every file is formatted",
        run: |_| shell::run(&mut cargo(["fmt", "--all", "--check"])).map(passed),
    },
    Step {
        name: "clippy",
        about: "no warning, tests included",
        run: |_| {
            shell::run(&mut cargo([
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--",
                "-D",
                "warnings",
            ]))
            .map(passed)
        },
    },
    Step {
        name: "doc",
        about: "documentation builds, its links resolve",
        run: |_| {
            shell::run(
                cargo([
                    "doc",
                    "--workspace",
                    "--no-deps",
                    "--document-private-items",
                    "--quiet",
                ])
                .env(
                    "RUSTDOCFLAGS",
                    "-D warnings -A rustdoc::private_intra_doc_links",
                ),
            )
            .map(passed)
        },
    },
    Step {
        name: "unit",
        about: "unit, golden and model tests of every crate",
        run: |_| {
            shell::run(&mut cargo([
                "test",
                "--workspace",
                "--exclude",
                "gantry-e2e",
                "--no-fail-fast",
            ]))
            .map(passed)
        },
    },
    Step {
        name: "build",
        about: "the programs that ship",
        run: |_| build_programs().map(drop).map(passed),
    },
    Step {
        name: "packages",
        about: "packages: units, C library, same bytes twice, lintian, rpmlint",
        run: machines::packages,
    },
    Step {
        name: "e2e",
        about: "real daemons, Apache's servers, stock clients",
        run: end_to_end,
    },
    Step {
        name: "machines",
        about: "packages installed and running on machines with a systemd",
        run: machines::machines,
    },
];

/// Runs all steps, or those named.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (own, filter) = match args.iter().position(|arg| arg == "--") {
        Some(place) => (&args[..place], args[place + 1..].to_vec()),
        None => (args, Vec::new()),
    };
    only_options(own, &["--list", "--machines"], &["--only"])?;
    if own.iter().any(|arg| arg == "--machines") {
        return on_machines(own);
    }
    if own.iter().any(|arg| arg == "--list") {
        for step in STEPS {
            println!("{:8} {}", step.name, step.about);
        }
        return Ok(());
    }
    let wanted: Vec<&Step> = match option(own, "--only")? {
        None => STEPS.iter().collect(),
        Some(names) => {
            let names: Vec<&str> = names.split(',').collect();
            if let Some(stranger) = names
                .iter()
                .find(|name| STEPS.iter().all(|step| step.name != **name))
            {
                bail!("no step {stranger}; cargo xtask test --list shows them");
            }
            STEPS
                .iter()
                .filter(|step| names.contains(&step.name))
                .collect()
        }
    };
    run_steps(&wanted, &filter)
}

/// The two steps about packages, or some stories of the second.
fn on_machines(args: &[String]) -> Result<()> {
    let steps = |names: &[&str]| -> Vec<&Step> {
        let wanted = STEPS.iter().filter(|step| names.contains(&step.name));
        wanted.collect()
    };
    let is_list = args.iter().any(|arg| arg == "--list");
    match option(args, "--only")? {
        _ if is_list => run_steps(&steps(&["machines"]), &["--list".to_owned()]),
        None => run_steps(&steps(&["packages", "machines"]), &[]),
        Some(names) => {
            let filter = ["--only".to_owned(), names.to_owned()];
            run_steps(&steps(&["machines"]), &filter)
        }
    }
}

/// Runs the steps, each to its end, and sums up.
fn run_steps(wanted: &[&Step], filter: &[String]) -> Result<()> {
    let began = Instant::now();
    let mut results: Vec<(&Step, Duration, Result<Outcome>)> = Vec::new();
    for (number, step) in wanted.iter().enumerate() {
        println!(
            "\n[{}/{}] {}: {}",
            number + 1,
            wanted.len(),
            step.name,
            step.about
        );
        let start = Instant::now();
        let result = (step.run)(filter);
        match &result {
            Ok(Outcome::Passed) => {}
            Ok(Outcome::NotRun(why)) => println!("{}: NOT RUN: {why}", step.name),
            Err(e) => println!("{}: {e:#}", step.name),
        }
        results.push((step, start.elapsed(), result));
    }
    println!("\nsummary");
    for (step, time, result) in &results {
        let (word, why) = match result {
            Ok(Outcome::Passed) => ("ok", String::new()),
            Ok(Outcome::NotRun(why)) => ("not run", format!("  {}", why.trim())),
            Err(_) => ("FAILED", String::new()),
        };
        println!("  {:8} {word:7} {:>4} s{why}", step.name, time.as_secs());
    }
    println!("  all              {:>4} s", began.elapsed().as_secs());
    let failed: Vec<&str> = results
        .iter()
        .filter(|r| r.2.is_err())
        .map(|r| r.0.name)
        .collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn end_to_end(filter: &[String]) -> Result<Outcome> {
    tools::install_missing(tools::END_TO_END)?;
    let programs = build_programs()?;
    // Apache's jars, before the clock of any test runs.
    shell::run(
        Command::new("bash")
            .arg(root().join("crates/e2e/lab/lab"))
            .arg("setup"),
    )?;
    let mut test = cargo(["test", "-p", "gantry-e2e", "--lib", "--test", "e2e"]);
    test.args(["--no-fail-fast", "--"]);
    // Most of their time the stories wait for servers, so four share two processors well.
    test.arg("--test-threads=4")
        .args(filter)
        .env("GANTRY_BIN", &programs)
        .env("RUST_LIB_BACKTRACE", "0"); // the story tells where it failed
    shell::run(&mut test).map(passed)
}
