//! Packages for Red Hat systems, by rpmbuild and `packaging/rpm/gantry.spec`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::{Release, date};
use crate::shell::root;

/// Packs the tree; returns the packages.
pub(super) fn pack(release: &Release, tree: &Path, work: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(work.join("BUILD"))?;
    fs::copy(root().join("LICENSE"), work.join("BUILD/LICENSE"))?;
    let changes = work.join("changes");
    fs::write(&changes, changelog(release)?)?;
    let macros = [
        ("_topdir", work.display().to_string()),
        ("gantry_version", release.version.clone()),
        ("gantry_revision", release.revision.to_string()),
        ("stage", tree.display().to_string()),
        ("changes", changes.display().to_string()),
        ("vendor", release.maintainer.clone()),
        ("packager", release.maintainer.clone()),
        ("_buildhost", "localhost".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
        ("_binary_payload", "w19.zstdio".to_owned()),
    ];
    let mut command = Command::new("rpmbuild");
    command.arg("-bb");
    for (name, value) in &macros {
        command.args(["--define", &format!("{name} {value}")]);
    }
    let output = command
        .arg(root().join("packaging/rpm/gantry.spec"))
        .env("SOURCE_DATE_EPOCH", release.time.to_string())
        .env("LC_ALL", "C.UTF-8")
        .output()?;
    if !output.status.success() {
        bail!(
            "rpmbuild ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let mut packages = Vec::new();
    for folder in fs::read_dir(work.join("RPMS"))? {
        for package in fs::read_dir(folder?.path())? {
            packages.push(package?.path());
        }
    }
    packages.sort();
    Ok(packages)
}

fn changelog(release: &Release) -> Result<String> {
    let date = date(release.time, "%a %b %d %Y")?;
    let mut text = String::new();
    for (at, changes) in release.changes.iter().enumerate() {
        let revision = if at == 0 { release.revision } else { 1 };
        text.push_str(&format!(
            "* {date} {} - {}-{revision}\n",
            release.maintainer, changes.version
        ));
        for point in &changes.points {
            text.push_str(&format!("- {}\n", point.replace('%', "%%")));
        }
        text.push('\n');
    }
    Ok(text)
}
