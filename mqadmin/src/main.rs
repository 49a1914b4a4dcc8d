//! The `mqadmin` program: words, environment and stdout in, exit code out.

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use gantry_mqadmin::{environment::Environment, run, session::complain};

/// Whatever went wrong, wrong usage included (RocketMQ's tool fails for the latter only).
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut out = BufWriter::new(io::stdout().lock());
    let done = run(&words, &Environment::of_process(), &mut out);
    match out.flush() {
        // A reader of a pipe that went early (`| head`) is no failure of the command.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain("", format!("cannot write the result: {error}"));
            ExitCode::from(FAILED)
        }
        _ if done => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILED),
    }
}
