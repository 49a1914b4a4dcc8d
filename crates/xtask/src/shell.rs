//! Running programs, finding folders, reading options.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Cargo, in the root of the checkout.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Runs to the end with our own terminal; an error when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(())
}

/// Runs to the end and returns stdout; stderr goes to our terminal unless it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}\n{}{}",
            command.get_program().display(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Builds the programs that ship, and returns their folder. The same sources give the same bytes, wherever they lie.
pub(crate) fn build_programs() -> Result<PathBuf> {
    let packages = [
        "gantry-broker",
        "gantry-namesrv",
        "gantry-mqadmin",
        "gantry-bench",
    ];
    let mut command = cargo(["build", "--release", "--locked"]);
    for package in packages {
        command.args(["-p", package]);
    }
    run(command.env("CARGO_ENCODED_RUSTFLAGS", compiler_flags()?))?;
    Ok(target().join("release"))
}

/// Flags of whoever calls us, and names for the folders of this machine that would otherwise stand in the programs.
fn compiler_flags() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV").current_dir(root()))?;
    let fact = |name: &str| version.lines().find_map(|line| line.strip_prefix(name));
    // The folders of the dependencies are named in the flags, so they must be there before the first compiler runs.
    let mut fetch = cargo(["fetch", "--locked", "--quiet"]);
    if let Some(host) = fact("host: ") {
        fetch.args(["--target", host]);
    }
    run(&mut fetch)?;
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    let toolchain = output(
        Command::new("rustc")
            .args(["--print", "sysroot"])
            .current_dir(root()),
    )?;
    let commit = fact("commit-hash: ").unwrap_or("unknown");
    // Where several fit, the last counts.
    let mut names = vec![
        (root(), "/usr/src/gantry".to_owned()),
        (target(), "/usr/src/gantry/target".to_owned()),
        (
            Path::new(toolchain.trim()).join("lib/rustlib/src/rust"),
            format!("/rustc/{commit}"),
        ),
    ];
    if let Ok(registries) = std::fs::read_dir(home.join("registry/src")) {
        for registry in registries {
            names.push((registry?.path(), "/usr/src/crates".to_owned()));
        }
    }
    let separator = "\u{1f}";
    let mut flags: Vec<String> = match (
        std::env::var("CARGO_ENCODED_RUSTFLAGS"),
        std::env::var("RUSTFLAGS"),
    ) {
        (Ok(encoded), _) if !encoded.is_empty() => {
            encoded.split(separator).map(str::to_owned).collect()
        }
        (_, Ok(plain)) => plain.split_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    flags.extend(
        names
            .iter()
            .map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display())),
    );
    Ok(flags.join(separator))
}

/// The value behind `--name`, if that is there.
pub(crate) fn option<'a>(args: &'a [String], name: &str) -> Result<Option<&'a str>> {
    match args.iter().position(|arg| arg == name) {
        None => Ok(None),
        Some(place) => match args.get(place + 1) {
            Some(value) => Ok(Some(value)),
            None => bail!("{name} needs a value"),
        },
    }
}

/// [`option`] as a number.
pub(crate) fn number(args: &[String], name: &str, otherwise: u64) -> Result<u64> {
    match option(args, name)? {
        None => Ok(otherwise),
        Some(text) => text.parse().with_context(|| format!("{name} {text}")),
    }
}

/// An error for anything but the options named.
pub(crate) fn only_options(args: &[String], flags: &[&str], with_value: &[&str]) -> Result<()> {
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if with_value.contains(&arg.as_str()) {
            rest.next();
        } else if !flags.contains(&arg.as_str()) {
            bail!(
                "unknown option {arg}; known: {} {}",
                flags.join(" "),
                with_value.join(" ")
            );
        }
    }
    Ok(())
}
