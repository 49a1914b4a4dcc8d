//! `cargo xtask dist`: the tarball of the home layout, as `packaging/home/MANIFEST` lists it.
//!
//! The same sources give the same bytes: names are sorted, owners are nobody's, times are those of the last commit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{self, build_programs, only_options, option, root, target};

/// Builds the programs, lays out the folder, packs it, prints the tarball's path.
pub(crate) fn run(args: &[String]) -> Result<()> {
    only_options(args, &[], &["--out"])?;
    let out = option(args, "--out")?.map_or_else(|| target().join("dist"), PathBuf::from);
    fs::create_dir_all(&out)?;
    let programs = match std::env::var_os("GANTRY_BIN") {
        Some(folder) => PathBuf::from(folder),
        None => build_programs()?,
    };
    let name = format!(
        "gantry-{}-linux-{}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH
    );
    let folder = target()
        .join("dist-layout")
        .join(format!("{}-{name}", std::process::id()));
    let home = folder.join(&name);
    lay_out(&root().join("packaging/home/MANIFEST"), &programs, &home)?;
    for program in fs::read_dir(home.join("libexec"))? {
        // Line tables are for packages of their own; names of functions stay, for backtraces.
        shell::run(
            Command::new("strip")
                .arg("--strip-debug")
                .arg(program?.path()),
        )?;
    }
    let tarball = out.join(format!("{name}.tar.gz"));
    let packed = pack(&folder, &name, &tarball);
    fs::remove_dir_all(&folder)?;
    packed?;
    println!("{}", tarball.display());
    Ok(())
}

/// Copies what a manifest lists to its places below `home`.
pub(crate) fn lay_out(manifest: &Path, programs: &Path, home: &Path) -> Result<()> {
    let text = fs::read_to_string(manifest).with_context(|| manifest.display().to_string())?;
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [source, place, mode] = words[..] else {
            bail!("{}: not three words: {line}", manifest.display());
        };
        let mode = u32::from_str_radix(mode, 8).with_context(|| line.to_owned())?;
        let from = match source.strip_prefix("target/release/") {
            Some(program) => programs.join(program),
            None => root().join(source),
        };
        copy(&from, &home.join(place), mode).with_context(|| line.to_owned())?;
    }
    Ok(())
}

/// A file, or everything below a folder.
fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if from.is_dir() {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()), mode)?;
        }
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(fs::set_permissions(to, PermissionsExt::from_mode(mode))?)
}

fn pack(folder: &Path, name: &str, tarball: &Path) -> Result<()> {
    let time = shell::output(
        Command::new("git")
            .args(["log", "-1", "--format=%ct"])
            .current_dir(root()),
    )
    .unwrap_or_else(|_| "0".to_owned()); // an exported tree has no history
    let mut tar = Command::new("tar");
    tar.arg("-C")
        .arg(folder)
        .args([
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--format=gnu",
        ])
        .arg(format!("--mtime=@{}", time.trim()))
        .args(["-I", "gzip -n -9", "-cf"])
        .arg(tarball)
        .arg(name);
    shell::run(&mut tar)?;
    ensure!(tarball.exists(), "no {}", tarball.display());
    Ok(())
}
