//! Where things are: the checkout, the build output, Gantry's programs, room for files of a test.
//!
//! The programs are built here, once a test process, with the release profile: what is tested is what ships.
//! `GANTRY_BIN` names a folder with programs that are built already.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The root of the checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Cargo's target folder; everything the tests write lies below it.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The folder of the end-to-end tests below [`target`]; compiled clients and downloads are kept there.
pub fn scratch() -> Result<PathBuf> {
    let folder = target().join("e2e");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A new folder for one test, removed when dropped unless `GANTRY_E2E_KEEP` is set.
pub fn room(name: &str) -> Result<tempfile::TempDir> {
    let folder = scratch()?.join("run");
    std::fs::create_dir_all(&folder)?;
    let mut room = tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(folder)?;
    room.disable_cleanup(std::env::var_os("GANTRY_E2E_KEEP").is_some());
    Ok(room)
}

/// The path of one of Gantry's programs, built if need be.
pub fn program(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let folder = BUILT.get_or_init(|| build().map_err(|e| format!("{e:#}")));
    match folder {
        Ok(folder) => Ok(folder.join(name)),
        Err(e) => bail!("{e}"),
    }
}

fn build() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("GANTRY_BIN") {
        return Ok(PathBuf::from(folder));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let packages = ["gantry-broker", "gantry-namesrv", "gantry-mqadmin"];
    let mut build = Command::new(cargo);
    build
        .args(["build", "--release", "--quiet"])
        .current_dir(root());
    for package in packages {
        build.args(["-p", package]);
    }
    run("cargo build --release", &mut build)?;
    Ok(target().join("release"))
}

/// Runs a command to its end and returns its stdout; an error carries all it said.
pub fn run(what: &str, command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {what}: {command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{what} ended with {}\n{stdout}\n{stderr}", output.status);
    }
    Ok(stdout)
}

/// Makes the tarball and unpacks it; returns the home folder.
pub fn unpacked(room: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut dist = Command::new(cargo);
    dist.args(["run", "--quiet", "-p", "xtask", "--", "dist", "--out"])
        .arg(room)
        .current_dir(root());
    dist.env("CARGO_TARGET_DIR", target());
    let said = run("cargo xtask dist", &mut dist)?;
    let tarball = said
        .lines()
        .last()
        .context("dist names no tarball")?
        .trim()
        .to_owned();
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&tarball).arg("-C").arg(room);
    run("tar", &mut tar)?;
    let name = Path::new(&tarball)
        .file_name()
        .and_then(|n| n.to_str())
        .context("tarball's name")?;
    Ok(room.join(name.trim_end_matches(".tar.gz")))
}
