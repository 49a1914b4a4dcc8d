//! lintian and rpmlint on finished packages. What they may say is listed with reasons in `packaging/deb/*.lintian-overrides`
//! and in `packaging/rpm/rpmlint.toml`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::shell::{self, root};
use crate::tools::{self, Tool};

const TOOLS: &[Tool] = &[
    Tool {
        check: &["lintian", "--version"],
        package: "lintian",
    },
    Tool {
        check: &["rpmlint", "--version"],
        package: "rpmlint",
    },
];

/// An error if either has anything to say.
pub(crate) fn run(packages: &[PathBuf]) -> Result<()> {
    tools::install_missing(TOOLS)?;
    let of = |ending: &str| {
        let ending = ending.to_owned();
        packages
            .iter()
            .filter(move |path| path.extension().is_some_and(|found| *found == *ending))
    };
    shell::run(
        Command::new("lintian")
            .args([
                "--fail-on",
                "error,warning",
                "--tag-display-limit",
                "0",
                "--allow-root",
            ])
            .args(of("deb")),
    )?;
    shell::run(
        Command::new("rpmlint")
            .arg("--strict")
            .arg("--config")
            .arg(root().join("packaging/rpm/rpmlint.toml"))
            .args(of("rpm")),
    )
}
