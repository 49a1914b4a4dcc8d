//! `cargo xtask package`: packages for Debian and Red Hat systems, from one build.
//!
//! The programs are built once and laid out once (`stage`); debhelper and rpmbuild only put the files into packages
//! (`packaging/deb`, `packaging/rpm`). The same sources give the same bytes: every time in them is that of the last
//! commit, or `SOURCE_DATE_EPOCH`. `--lint` has lintian and rpmlint look at the result.

mod deb;
mod glibc;
pub(crate) mod lint;
mod rpm;
mod stage;
mod units;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{self, build_programs, number, only_options, option, root, target};
use crate::tools::{self, Tool};

/// Who answers for the packages, if `--maintainer` does not say.
pub(crate) const MAINTAINER: &str = "Gantry authors <authors@gantry.invalid>";

const TOOLS: &[Tool] = &[
    Tool {
        check: &["perl", "-MDebian::Debhelper::Dh_Lib", "-e", "1"],
        package: "debhelper",
    },
    Tool {
        check: &["dpkg-shlibdeps", "--version"],
        package: "dpkg-dev",
    },
    Tool {
        check: &["rpmbuild", "--version"],
        package: "rpm",
    },
    Tool {
        check: &["find-debuginfo", "--help"],
        package: "debugedit",
    },
    Tool {
        check: &["eu-strip", "--version"],
        package: "elfutils",
    },
    Tool {
        check: &["systemd-analyze", "--version"],
        package: "systemd",
    },
];

/// What to build, from which programs, to where.
pub(crate) struct Order<'a> {
    pub(crate) programs: &'a Path,
    pub(crate) out: &'a Path,
    pub(crate) revision: u64,
    pub(crate) maintainer: &'a str,
    /// A line at the end of the shipped settings: what a later release would have changed there. For trying upgrades.
    pub(crate) note: Option<&'a str>,
}

/// What every package says of itself.
struct Release {
    version: String,
    revision: u64,
    maintainer: String,
    /// Seconds since 1970 that stand for all times in the packages.
    time: u64,
    /// What changed, newest release first.
    changes: Vec<Changes>,
}

/// A heading of `CHANGELOG.md` and its points.
struct Changes {
    version: String,
    points: Vec<String>,
}

/// Builds, lays out, packs, and prints every package's path.
pub(crate) fn run(args: &[String]) -> Result<()> {
    only_options(args, &["--lint"], &["--out", "--revision", "--maintainer"])?;
    let out = option(args, "--out")?.map_or_else(|| target().join("packages"), PathBuf::from);
    let programs = match std::env::var_os("GANTRY_BIN") {
        Some(folder) => PathBuf::from(folder),
        None => build_programs()?,
    };
    let packages = make(&Order {
        programs: &programs,
        out: &out,
        revision: number(args, "--revision", 1)?,
        maintainer: option(args, "--maintainer")?.unwrap_or(MAINTAINER),
        note: None,
    })?;
    for package in &packages {
        println!("{}", package.display());
    }
    if args.iter().any(|arg| arg == "--lint") {
        lint::run(&packages)?;
    }
    Ok(())
}

/// Packs programs that are built, and returns the packages in `out`.
pub(crate) fn make(order: &Order<'_>) -> Result<Vec<PathBuf>> {
    // Names the folders of work: where packages are made must not be seen in them.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let release = Release {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: order.revision,
        maintainer: order.maintainer.to_owned(),
        time: source_time()?,
        changes: changes()?,
    };
    tools::install_missing(TOOLS)?;
    for program in stage::PROGRAMS {
        glibc::check(&order.programs.join(program))?;
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let work = target().join(format!("package-work/{}-{count}", std::process::id()));
    let packed = pack(&release, order, &work);
    if packed.is_ok() {
        fs::remove_dir_all(&work)?; // else it is kept to be looked at
    }
    publish(&packed?, order.out)
}

/// Everything happens in a fresh folder; what is in `out` stays as it is until all packages are there.
fn pack(release: &Release, order: &Order<'_>, work: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    fs::create_dir_all(work)?;
    let tree = work.join("tree");
    stage::lay_out(order.programs, &tree)?;
    if let Some(note) = order.note {
        stage::note_in_settings(&tree, note)?;
    }
    units::check(&tree, &work.join("units"))?;
    let mut made = Vec::new();
    for package in deb::pack(release, &tree, &work.join("deb"))?
        .into_iter()
        .chain(rpm::pack(release, &tree, &work.join("rpm"))?)
    {
        let name = package.file_name().context("a package without a name")?;
        made.push((name.to_string_lossy().into_owned(), fs::read(&package)?));
    }
    ensure!(!made.is_empty(), "no package was made");
    Ok(made)
}

/// Puts packages into `out`, where older ones of ours make room: what lies there is from one build.
fn publish(packages: &[(String, Vec<u8>)], out: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(out)?;
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb" || e == "rpm") {
            fs::remove_file(path)?;
        }
    }
    let mut paths = Vec::new();
    for (name, bytes) in packages {
        let path = out.join(name);
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        paths.push(path);
    }
    paths.sort();
    Ok(paths)
}

/// The time that stands for all times: `SOURCE_DATE_EPOCH`, else that of the last commit.
fn source_time() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => shell::output(
            Command::new("git")
                .args(["log", "-1", "--format=%ct"])
                .current_dir(root()),
        )
        .context("no commit to take the time from; set SOURCE_DATE_EPOCH")?,
    };
    text.trim()
        .parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH: {text:?}"))
}

/// `date -u -d @TIME +FORMAT`.
fn date(time: u64, format: &str) -> Result<String> {
    let text = shell::output(
        Command::new("date")
            .args(["-u", "-d", &format!("@{time}"), &format!("+{format}")])
            .env("LC_ALL", "C"),
    )?;
    Ok(text.trim().to_owned())
}

/// What `CHANGELOG.md` says; its newest release must be this one, so that the version cannot differ between places.
fn changes() -> Result<Vec<Changes>> {
    let path = root().join("CHANGELOG.md");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut changes: Vec<Changes> = Vec::new();
    for line in text.lines() {
        if let Some(version) = line.strip_prefix("## ") {
            changes.push(Changes {
                version: version.trim().to_owned(),
                points: Vec::new(),
            });
        } else if let Some(release) = changes.last_mut() {
            match (line.strip_prefix("- "), line.strip_prefix("  ")) {
                (Some(point), _) => release.points.push(point.to_owned()),
                (None, Some(rest)) => match release.points.last_mut() {
                    Some(point) => *point = format!("{point} {}", rest.trim()),
                    None => bail!("{}: not a point: {line}", path.display()),
                },
                (None, None) => ensure!(line.is_empty(), "{}: not a point: {line}", path.display()),
            }
        }
    }
    let newest = changes.first().map(|release| release.version.as_str());
    ensure!(
        newest == Some(env!("CARGO_PKG_VERSION")),
        "{}: the first heading is {newest:?}, the version in Cargo.toml is {}",
        path.display(),
        env!("CARGO_PKG_VERSION")
    );
    Ok(changes)
}
