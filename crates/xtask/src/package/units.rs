//! What systemd says of the units as they lie in the packages: that they are right, and how much of the host a service
//! could reach if somebody took it over.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::shell::{output, run};

/// Exposure that `systemd-analyze security` may find, in tenths.
const EXPOSURE: &str = "15";

const SERVICES: [&str; 3] = ["mqnamesrv.service", "mqbroker.service", "mqbroker@.service"];

const GROUPS: [&str; 2] = ["gantry.target", "gantry.slice"];

/// An error if a unit of the tree is wrong or reaches too far. `work` is a folder for copies that find the programs.
pub(super) fn check(tree: &Path, work: &Path) -> Result<()> {
    let folder = tree.join("usr/lib/systemd/system");
    fs::create_dir_all(work)?;
    let programs = tree.join("usr/bin");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]);
    for unit in GROUPS.iter().chain(&SERVICES) {
        let text = fs::read_to_string(folder.join(unit))?;
        let text = text.replace("=/usr/bin/mq", &format!("={}/mq", programs.display()));
        let copy = work.join(unit);
        fs::write(&copy, text)?;
        verify.arg(copy);
    }
    run(&mut verify)?;
    for service in SERVICES {
        let said = output(
            Command::new("systemd-analyze")
                .args(["security", "--offline=yes", "--no-pager"])
                .arg(format!("--threshold={EXPOSURE}"))
                .arg(folder.join(service)),
        )?;
        if let Some(verdict) = said.lines().find(|line| line.contains("exposure level")) {
            println!("{service}: {}", verdict.trim_start_matches(['→', ' ']));
        }
    }
    Ok(())
}
