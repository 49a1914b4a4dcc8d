//! mqadmin of either make, run to its end.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};

use crate::programs::program;
use crate::server::{Make, lab};

/// Runs one command; `name_servers` goes in as `-n`.
pub fn mqadmin(make: Make, home: &Path, name_servers: &str, args: &[&str]) -> Result<Output> {
    let mut command = match make {
        Make::Apache => {
            let mut command = lab();
            command.arg("admin");
            command
        }
        Make::Gantry => Command::new(program("mqadmin")?),
    };
    command
        .args(args)
        .args(["-n", name_servers])
        .env("HOME", home)
        .stdin(Stdio::null());
    // The lab finds Maven's and its own cache by HOME.
    if make == Make::Apache {
        command.env("HOME", std::env::var_os("HOME").unwrap_or_default());
    }
    command.output().with_context(|| format!("{command:?}"))
}
