//! What the tasks need beside Rust, and how to get it where it is missing.
//!
//! Language packages (Maven's, Go's, PyPI's, npm's) are fetched by the tests through the languages' own tools; here it
//! is only about those tools. With apt and root they are installed, otherwise named.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::shell::run;

/// A program, a way to see that it works, and the package that has it.
pub(crate) struct Tool {
    pub(crate) check: &'static [&'static str],
    pub(crate) package: &'static str,
}

/// What the end-to-end tests call.
pub(crate) const END_TO_END: &[Tool] = &[
    Tool {
        check: &["javac", "-version"],
        package: "openjdk-17-jdk-headless",
    },
    Tool {
        check: &["mvn", "-version"],
        package: "maven",
    },
    Tool {
        check: &["go", "version"],
        package: "golang-go",
    },
    Tool {
        check: &["python3", "-c", "import ensurepip, venv"],
        package: "python3-venv",
    },
    Tool {
        check: &["node", "--version"],
        package: "nodejs",
    },
    Tool {
        check: &["npm", "--version"],
        package: "npm",
    },
    Tool {
        check: &["ps", "--version"],
        package: "procps",
    },
    Tool {
        check: &["unshare", "--version"],
        package: "util-linux",
    },
    Tool {
        check: &["awk", "BEGIN { exit 0 }"],
        package: "mawk",
    },
    Tool {
        check: &["strace", "-V"],
        package: "strace",
    },
    Tool {
        check: &["promtool", "--version"],
        package: "prometheus",
    },
    Tool {
        check: &["tar", "--version"],
        package: "tar",
    },
];

/// Makes sure that all of them are there.
pub(crate) fn install_missing(tools: &[Tool]) -> Result<()> {
    let missing: Vec<&Tool> = tools.iter().filter(|tool| !works(tool.check)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    if !is_root()? || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "needed and not there: {} (packages of a Debian system)",
            packages.join(", ")
        );
    }
    println!("installing {}", packages.join(", "));
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    run(Command::new("apt-get")
        .args(["-qq", "install", "-y", "--no-install-recommends"])
        .args(&packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Whether we may do everything that our capabilities allow.
pub(crate) fn is_root() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    // The second is the one that counts.
    Ok(users.and_then(|users| users.split_whitespace().nth(1)) == Some("0"))
}

fn works(check: &[&str]) -> bool {
    Command::new(check[0])
        .args(&check[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
