//! Debian packages, by debhelper: `packaging/deb` becomes the folder `debian` beside the laid-out tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Release, date};
use crate::shell::{self, root};

/// Packs the tree; returns the packages.
pub(super) fn pack(release: &Release, tree: &Path, work: &Path) -> Result<Vec<PathBuf>> {
    let source = work.join("gantry");
    let debian = source.join("debian");
    fs::create_dir_all(&debian)?;
    for entry in fs::read_dir(root().join("packaging/deb"))? {
        let entry = entry?;
        fs::copy(entry.path(), debian.join(entry.file_name()))?;
    }
    let control = fs::read_to_string(debian.join("control"))?;
    fs::write(
        debian.join("control"),
        control.replace("@MAINTAINER@", &release.maintainer),
    )?;
    fs::write(debian.join("changelog"), changelog(release)?)?;
    shell::run(
        Command::new("cp")
            .arg("-a")
            .arg(tree)
            .arg(source.join("tree")),
    )?;
    let log = work.join("log");
    let output = fs::File::create(&log)?;
    let status = Command::new("debian/rules")
        .arg("binary")
        .current_dir(&source)
        .env("SOURCE_DATE_EPOCH", release.time.to_string())
        .env("LC_ALL", "C.UTF-8")
        .env_remove("MAKEFLAGS")
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .context("debian/rules")?;
    if !status.success() {
        anyhow::bail!(
            "debian/rules binary ended with {status}:\n{}",
            fs::read_to_string(&log)?
        );
    }
    let mut packages = Vec::new();
    for entry in fs::read_dir(work)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "deb") {
            packages.push(path);
        }
    }
    packages.sort();
    Ok(packages)
}

fn changelog(release: &Release) -> Result<String> {
    let date = date(release.time, "%a, %d %b %Y %H:%M:%S +0000")?;
    let mut text = String::new();
    for (at, changes) in release.changes.iter().enumerate() {
        // Only the newest release can have been packed more than once since its heading was written.
        let revision = if at == 0 { release.revision } else { 1 };
        text.push_str(&format!(
            "gantry ({}-{revision}) stable; urgency=medium\n\n",
            changes.version
        ));
        for point in &changes.points {
            text.push_str(&wrapped(point));
        }
        text.push_str(&format!("\n -- {}  {date}\n\n", release.maintainer));
    }
    Ok(text)
}

/// A point of the changelog in lines of at most 80 characters, as Debian wants them.
fn wrapped(point: &str) -> String {
    let mut text = String::new();
    let mut line = "  *".to_owned();
    for word in point.split_whitespace() {
        if line.len() + 1 + word.len() > 80 {
            text.push_str(&line);
            text.push('\n');
            line = "   ".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_point_goes_on_in_the_next_line() {
        assert_eq!(wrapped("One word."), "  * One word.\n");
        let long = "word ".repeat(30);
        let text = wrapped(&long);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("  * word word") && lines[0].len() <= 80);
        assert!(lines[1].starts_with("    word word"));
        assert_eq!(text.matches("word").count(), 30);
    }
}
