//! The library of `mqadmin`: RocketMQ's administration tool, command for command, in front of any 4.x name server and broker.
//!
//! `table` lists the commands, `arguments` reads their options, `commands` carries them out over `gantry-client`, `help`
//! prints what RocketMQ's tool prints. Results go to stdout exactly as RocketMQ's tool words them, errors to stderr in one
//! line, and a failure always ends with exit code 1. `docs/mqadmin.md` says what differs from RocketMQ's.

pub mod arguments;
pub mod commands;
pub mod environment;
pub mod help;
pub mod print;
pub mod promotion;
pub mod session;
pub mod table;

use std::io::{self, Write};

use arguments::{Arguments, UsageError, nearest};
use environment::Environment;
use gantry_manual::Kind;
use session::{Failure, Session, complain};
use table::{COMMANDS, Command, Run};

/// Carries out a command line; whether all went well. What has failed was told on stderr.
pub fn run(words: &[String], environment: &Environment, out: &mut dyn Write) -> bool {
    match words {
        [] => overview(out),
        [word] if matches!(word.as_str(), "help" | "-h" | "--help") => overview(out),
        [word] if word == "--version" => print(out, &help::version()),
        [generate, kind] if generate == "--generate" => match Kind::named(kind) {
            Some(kind) if kind != Kind::Settings => print(out, &help::manual(kind)),
            _ => {
                complain("", format!("--generate does not know {kind}"));
                false
            }
        },
        [help, name] if help == "help" => match Command::find(name) {
            Some(command) if command.run.is_some() => print(out, &help::of(command)),
            Some(command) => refuse_later(command),
            None => refuse_unknown(name),
        },
        [name, words @ ..] => match Command::find(name) {
            Some(command) => match command.run {
                Some(run) => execute(command, run, words, environment, out),
                None => refuse_later(command),
            },
            None => refuse_unknown(name),
        },
    }
}

fn overview(out: &mut dyn Write) -> bool {
    complain("", help::available());
    print(out, &help::overview())
}

fn execute(
    command: &'static Command,
    run: Run,
    words: &[String],
    environment: &Environment,
    out: &mut dyn Write,
) -> bool {
    let outcome = Arguments::parse(command.options, words)
        .map_err(Failure::Usage)
        .and_then(|arguments| {
            if arguments.has('h') {
                return Ok(print(out, &help::of(command)));
            }
            if !arguments.surplus().is_empty() {
                complain(
                    command.name,
                    format!(
                        "ignored, as no option takes them: {}",
                        arguments.surplus().join(" ")
                    ),
                );
            }
            let name_servers = environment
                .name_servers(arguments.text('n'))
                .map_err(Failure::Said)?;
            let mut session = Session::new(command.name, arguments, name_servers, out);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(run(&mut session))?;
            Ok(!session.has_failed())
        });
    match outcome {
        Ok(done) => done,
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => true,
        // RocketMQ's tool prints no help for a bad number either.
        Err(Failure::Usage(error)) if !matches!(error, UsageError::BadValue { .. }) => {
            refuse_usage(command, &error, out)
        }
        Err(failure) => {
            complain(command.name, failure);
            false
        }
    }
}

/// The help, as RocketMQ's tool prints it then, and beside it what it does not say: what was wrong.
fn refuse_usage(command: &Command, error: &UsageError, out: &mut dyn Write) -> bool {
    complain(command.name, error);
    print(out, &help::of(command));
    false
}

fn refuse_later(command: &Command) -> bool {
    complain(
        command.name,
        "this command of RocketMQ is not available yet in this version of Gantry",
    );
    false
}

fn refuse_unknown(name: &str) -> bool {
    let hint = nearest(name, COMMANDS.iter().map(|command| command.name));
    let hint = hint.map_or_else(
        || "'mqadmin' alone lists all".to_owned(),
        |near| format!("did you mean {near}?"),
    );
    complain("", format!("The sub command {name} not exist. ({hint})"));
    false
}

fn print(out: &mut dyn Write, text: &str) -> bool {
    match out.write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain("", format!("cannot write the result: {error}"));
            false
        }
        _ => true,
    }
}
