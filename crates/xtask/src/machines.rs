//! Two steps of the gate. `packages`: what can be said of packages without installing them. `machines`: the stories of
//! `crates/e2e/tests/machines`, which install them from signed repositories on machines with a systemd.
//!
//! All packages are made from the programs that the end-to-end tests use. There are two releases of them, the second with
//! changed settings, so that machines can be upgraded.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use crate::package::{self, Order, lint};
use crate::shell::{self, build_programs, cargo, root, target};
use crate::test::Outcome;
use crate::tools::{self, Tool};

const TOOLS: &[Tool] = &[
    Tool {
        check: &["debootstrap", "--version"],
        package: "debootstrap",
    },
    Tool {
        check: &["systemd-nspawn", "--version"],
        package: "systemd-container",
    },
    Tool {
        check: &["ip", "-V"],
        package: "iproute2",
    },
    Tool {
        check: &["ssh", "-V"],
        package: "openssh-client",
    },
    Tool {
        check: &["rpmbuild", "--version"],
        package: "rpm",
    },
    Tool {
        check: &["mkfs.ext4", "-V"],
        package: "e2fsprogs",
    },
    Tool {
        check: &["python3", "--version"],
        package: "python3",
    },
];

/// Whose key signs the repositories.
const OWNER: &str = "Gantry tests <tests@gantry.invalid>";

/// Where machines find them.
const URL: &str = "http://10.99.0.1:8080";

fn folder() -> PathBuf {
    target().join("machines")
}

/// The folder of a release's packages.
fn packages_of(release: u64) -> PathBuf {
    folder().join(format!("packages/{release}"))
}

/// Where the repositories as of a release are.
fn repository_of(release: u64) -> PathBuf {
    folder().join(format!("repository/{release}"))
}

/// Packs the first release twice and compares, and has linters look at it.
pub(crate) fn packages(_: &[String]) -> Result<Outcome> {
    let programs = build_programs()?;
    let first = first_release(&programs)?;
    let again = folder().join("packages/again");
    pack(&programs, 1, &again)?;
    let (one, two) = (contents(&packages_of(1))?, contents(&again)?);
    ensure!(one.keys().eq(two.keys()), "other packages the second time");
    for (name, bytes) in &one {
        ensure!(
            two.get(name) == Some(bytes),
            "{name} has other bytes the second time; compare {} and {}",
            packages_of(1).display(),
            again.display()
        );
        println!("{name}: {:.2} MB, twice the same", bytes.len() as f64 / 1e6);
    }
    lint::run(&first)?;
    Ok(Outcome::Passed)
}

/// The first release, packed once by whichever step comes first.
fn first_release(programs: &Path) -> Result<Vec<PathBuf>> {
    static MADE: OnceLock<Vec<PathBuf>> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made.clone());
    }
    let made = pack(programs, 1, &packages_of(1))?;
    Ok(MADE.get_or_init(|| made).clone())
}

fn pack(programs: &Path, revision: u64, out: &Path) -> Result<Vec<PathBuf>> {
    let note = "# From the second release on.";
    package::make(&Order {
        programs,
        out,
        revision,
        maintainer: package::MAINTAINER,
        note: (revision > 1).then_some(note),
    })
}

fn contents(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        found.insert(name, fs::read(entry.path())?);
    }
    Ok(found)
}

/// Makes both releases and their repositories, and runs the stories that `filter` names.
pub(crate) fn machines(filter: &[String]) -> Result<Outcome> {
    if !tools::is_root()? {
        return Ok(Outcome::NotRun("machines need root".to_owned()));
    }
    tools::install_missing(TOOLS)?;
    tools::install_missing(tools::END_TO_END)?;
    let programs = build_programs()?;
    first_release(&programs)?;
    pack(&programs, 2, &packages_of(2))?;
    repositories()?;
    let reason = folder().join("not-run");
    if reason.exists() {
        fs::remove_file(&reason)?;
    }
    let mut test = cargo(["test", "-p", "gantry-e2e", "--test", "machines", "--"]);
    test.args(filter)
        .env("GANTRY_BIN", &programs)
        .env("GANTRY_REPOSITORIES", folder().join("repository"))
        .env("GANTRY_NOT_RUN", &reason)
        .env("RUST_LIB_BACKTRACE", "0"); // the story tells where it failed
    shell::run(&mut test)?;
    Ok(match fs::read_to_string(&reason) {
        Ok(why) => Outcome::NotRun(why),
        Err(_) => Outcome::Passed,
    })
}

/// By the task that makes those of a release, with a key of their own. The second has both releases, as one that is kept
/// has: who wants to go back finds the way.
fn repositories() -> Result<()> {
    let both = folder().join("packages/both");
    if both.exists() {
        fs::remove_dir_all(&both)?;
    }
    fs::create_dir_all(&both)?;
    for release in [1, 2] {
        for (name, bytes) in contents(&packages_of(release))? {
            fs::write(both.join(name), bytes)?;
        }
    }
    // The agent's socket lies in it, and names of sockets are short.
    let made = shell::output(Command::new("mktemp").args(["-d", "/tmp/gantry-key-XXXXXX"]))?;
    let keyring = Path::new(made.trim());
    let done = sign(keyring, &packages_of(1), 1)
        .and_then(|()| date_back(&repository_of(1)))
        .and_then(|()| sign(keyring, &both, 2));
    let mut end = Command::new("gpgconf");
    end.args(["--kill", "gpg-agent"]).env("GNUPGHOME", keyring);
    shell::run(&mut end)?;
    fs::remove_dir_all(keyring)?;
    done
}

/// Apt asks for lists that are newer than those it has, and times of files that a web server tells are whole seconds.
fn date_back(repository: &Path) -> Result<()> {
    let time = SystemTime::now() - Duration::from_secs(3600);
    for name in ["InRelease", "Release", "Release.gpg"] {
        let path = repository.join("apt/dists/stable").join(name);
        let file = File::options().append(true).open(&path);
        let file = file.with_context(|| path.display().to_string())?;
        file.set_modified(time)?;
    }
    Ok(())
}

fn sign(keyring: &Path, packages: &Path, release: u64) -> Result<()> {
    let program = std::env::current_exe().context("where am I")?;
    let mut task = Command::new(program);
    task.args(["repo", "--owner", OWNER, "--new-key", "--url", URL])
        .arg("--packages")
        .arg(packages)
        .arg("--out")
        .arg(repository_of(release))
        .env("GNUPGHOME", keyring)
        .current_dir(root());
    shell::run(&mut task)
}
