//! `mqbench`: load for any RocketMQ 4.x server, and a server that only parses and answers, which is the limit.
//!
//! Each subcommand is a module with its table of options and a `run`. One thread generates load or serves; nothing
//! of the client library is used, so that its cost is not part of what is measured.

mod admin;
mod connection;
mod evict;
mod figures;
mod fill;
mod frames;
mod null;
mod options;
mod poll;
mod process;
mod pull;
mod segments;
mod send;
mod sync;
mod wake;

use std::process::ExitCode;

use gantry_manual::{Kind, Manual};
use options::{Flag, Options};

/// A subcommand.
struct Command {
    name: &'static str,
    about: &'static str,
    flags: &'static [&'static [Flag]],
    run: fn(&Options) -> anyhow::Result<()>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "send",
        about: "sends messages and times the answers",
        flags: send::FLAGS,
        run: send::run,
    },
    Command {
        name: "pull",
        about: "reads queues from their start, again and again",
        flags: pull::FLAGS,
        run: pull::run,
    },
    Command {
        name: "null",
        about: "a server that parses and answers and stores nothing",
        flags: null::FLAGS,
        run: null::run,
    },
    Command {
        name: "wake",
        about: "times how long a parked pull sleeps on",
        flags: wake::FLAGS,
        run: wake::run,
    },
    Command {
        name: "fill",
        about: "makes a store of a given size through a broker",
        flags: fill::FLAGS,
        run: fill::run,
    },
    Command {
        name: "sync",
        about: "how often a second the disk can write and fdatasync",
        flags: sync::FLAGS,
        run: sync::run,
    },
    Command {
        name: "evict",
        about: "drops a folder's files from the page cache",
        flags: evict::FLAGS,
        run: evict::run,
    },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    if name == "--generate" {
        return generate(&arguments.next().unwrap_or_default());
    }
    if name == "--version" {
        return version();
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        let asked = ["-h", "--help", "help"].contains(&name.as_str());
        say(&overview());
        return if asked {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        };
    };
    let rest: Vec<String> = arguments.collect();
    if rest
        .iter()
        .any(|argument| argument == "-h" || argument == "--help")
    {
        say(&format!(
            "mqbench {}: {}\n{}",
            command.name,
            command.about,
            options::help(command.flags)
        ));
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(command.flags, rest) {
        Ok(options) => options,
        Err(error) => {
            say(&format!("mqbench {name}: {error:#}"));
            return ExitCode::from(2);
        }
    };
    match (command.run)(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("mqbench {name}: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints the manual page or a completion, for packages.
#[expect(clippy::print_stdout, reason = "a file is made from it")]
fn generate(kind: &str) -> ExitCode {
    match Kind::named(kind) {
        Some(kind) if kind != Kind::Settings => {
            print!("{}", manual().write(kind));
            ExitCode::SUCCESS
        }
        _ => {
            say(&format!("mqbench: --generate does not know {kind:?}"));
            ExitCode::from(2)
        }
    }
}

fn manual() -> Manual {
    let command = |command: &Command| gantry_manual::Command {
        name: command.name,
        about: command.about.to_owned(),
        words: Vec::new(),
        options: options::described(command.flags),
    };
    Manual {
        name: "mqbench".into(),
        section: 1,
        about: "measures brokers that speak RocketMQ's protocol".into(),
        version: env!("CARGO_PKG_VERSION"),
        synopsis: vec!["COMMAND [OPTIONS]".into(), "COMMAND --help".into(), "--version".into()],
        description: vec![
            "Sends to and reads from any RocketMQ 4.x broker with a thread that does nothing else, and prints rates and latencies. \
             It loads the broker as much as that can bear: do not point it at one that others use."
                .into(),
        ],
        options: Vec::new(),
        commands: COMMANDS.iter().map(command).collect(),
        chapters: Vec::new(),
        see_also: vec!["mqbroker(8)", "mqadmin(1)"],
    }
}

#[expect(clippy::print_stdout, reason = "scripts read it")]
fn version() -> ExitCode {
    println!("mqbench {} (Gantry)", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

fn overview() -> String {
    let mut text =
        "usage: mqbench COMMAND [OPTIONS]   (mqbench COMMAND --help lists them; mqbench --version)\n".to_owned();
    for command in COMMANDS {
        text.push_str(&format!("  {:<6} {}\n", command.name, command.about));
    }
    text
}

#[expect(
    clippy::print_stderr,
    reason = "a command-line tool says on stderr what went wrong"
)]
fn say(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_page_holds_every_command_and_option() {
        let page = manual().write(Kind::Page);
        for command in COMMANDS {
            assert!(page.contains(&format!(".SS {}\n", command.name)));
            for flag in command.flags.iter().copied().flatten() {
                let name = flag.name.replace('-', "\\-");
                assert!(page.contains(&format!("\\fB\\-\\-{name}\\fR")), "{name}");
            }
        }
    }
}
