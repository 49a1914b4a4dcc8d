//! What a running command holds: its arguments, the client, where it prints, and what has gone wrong so far.
//!
//! A command prints its result through [`Session::print`] and returns a [`Failure`] when it cannot go on. What it can go
//! on without (one broker of a cluster) it reports with [`Session::report`], and the exit code remembers. Errors are one
//! line on stderr; that a failure never ends with exit code 0 is decided here and nowhere else.

use std::{fmt, io::Write, sync::Arc};

use gantry_client::{Client, NameServers};

use crate::arguments::{Arguments, UsageError};

/// Why a command stops.
#[derive(Debug)]
pub enum Failure {
    /// The words of the command line are wrong: the help is printed.
    Usage(UsageError),
    /// A server refused, failed or could not be reached.
    Client(gantry_client::Error),
    /// Anything that one sentence says.
    Said(String),
    /// The result cannot be written; the reader of a pipe has gone.
    Output(std::io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::Client(error) => error.fmt(f),
            Self::Said(text) => f.write_str(text),
            Self::Output(error) => write!(f, "cannot write the result: {error}"),
        }
    }
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

impl From<gantry_client::Error> for Failure {
    fn from(error: gantry_client::Error) -> Self {
        Self::Client(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// One run of one command.
pub struct Session<'a> {
    /// The command's name, for messages.
    pub command: &'static str,
    /// What was given.
    pub arguments: Arguments,
    /// Connections and name servers.
    pub client: Arc<Client>,
    out: &'a mut dyn Write,
    failed: bool,
}

impl<'a> Session<'a> {
    /// A session that prints to `out`.
    pub fn new(
        command: &'static str,
        arguments: Arguments,
        name_servers: NameServers,
        out: &'a mut dyn Write,
    ) -> Self {
        Self {
            command,
            arguments,
            client: Arc::new(Client::new(name_servers)),
            out,
            failed: false,
        }
    }

    /// Prints a part of the result.
    pub fn print(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        Ok(write!(self.out, "{text}")?)
    }

    /// Prints a line of the result.
    pub fn line(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Hands what was printed to the reader now.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// Tells of a failure that does not stop the command.
    pub fn report(&mut self, what: impl fmt::Display) {
        self.failed = true;
        complain(self.command, what);
    }

    /// Whether anything was reported.
    pub fn has_failed(&self) -> bool {
        self.failed
    }
}

/// One line on stderr, whatever the text contains.
#[expect(
    clippy::print_stderr,
    reason = "this is where the program speaks of errors"
)]
pub fn complain(command: &str, what: impl fmt::Display) {
    let text = what.to_string();
    let text = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    if command.is_empty() {
        eprintln!("mqadmin: {text}");
    } else {
        eprintln!("mqadmin {command}: {text}");
    }
}
