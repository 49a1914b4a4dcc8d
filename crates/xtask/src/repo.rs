//! `cargo xtask repo`: signed repositories for apt and dnf from the packages that `package` made.
//!
//! The key is one of the caller's: `--owner` names it, in the keyring that gpg uses (`GNUPGHOME`). With `--new-key` a
//! missing one is made there, without a passphrase and for two years. What is made is checked as its users would check
//! it: apt reads its repository with nothing but the exported key, rpm knows the signatures of the packages, gpg that
//! of the list. A run replaces the folder as a whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{only_options, option, output, run as run_command, target};
use crate::tools::{self, Tool};

const TOOLS: &[Tool] = &[
    Tool {
        check: &["gpg", "--version"],
        package: "gnupg",
    },
    Tool {
        check: &["apt-ftparchive", "--version"],
        package: "apt-utils",
    },
    Tool {
        check: &["createrepo_c", "--version"],
        package: "createrepo-c",
    },
    Tool {
        check: &["rpmsign", "--version"],
        package: "rpm",
    },
];

/// How long a key of ours is good for.
const KEY_TIME: &str = "2y";

/// Makes them, and prints where they are.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let with_value = ["--owner", "--packages", "--out", "--url"];
    only_options(args, &["--new-key"], &with_value)?;
    let owner = option(args, "--owner")?.context("--owner \"NAME <MAIL>\" says whose key signs")?;
    let packages = folder(args, "--packages", "packages")?;
    let out = folder(args, "--out", "repo")?;
    tools::install_missing(TOOLS)?;
    let is_new = args.iter().any(|arg| arg == "--new-key");
    let key = key(owner, is_new)?;
    let url = match option(args, "--url")? {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("file://{}", out.display()),
    };
    let work = out.with_extension("new");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let public = output(gpg().args(["--armor", "--export", &key]))?;
    fs::write(work.join("gantry.asc"), public)?;
    apt(&packages, &work, &key, &url)?;
    dnf(&packages, &work, &key, &url)?;
    check_apt(&work)?;
    check_dnf(&work)?;
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::rename(&work, &out)?;
    println!("{}: apt and dnf, signed with {key}", out.display());
    Ok(())
}

fn folder(args: &[String], name: &str, usual: &str) -> Result<PathBuf> {
    let folder = option(args, name)?.map_or_else(|| target().join(usual), PathBuf::from);
    Ok(std::path::absolute(folder)?)
}

fn gpg() -> Command {
    let mut gpg = Command::new("gpg");
    gpg.args(["--batch", "--yes", "--quiet"]);
    gpg
}

/// The fingerprint of the owner's key.
fn key(owner: &str, is_new: bool) -> Result<String> {
    let find = || -> Result<Vec<String>> {
        // It fails when there is none.
        let listed = gpg()
            .args(["--with-colons", "--list-secret-keys", "--", owner])
            .output()
            .context("gpg")?;
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        Ok(fingerprints(&text))
    };
    let mut found = find()?;
    if found.is_empty() {
        ensure!(
            is_new,
            "gpg has no secret key of {owner}; --new-key makes one"
        );
        let make = ["--passphrase", "", "--quick-gen-key", owner, "rsa4096"];
        run_command(gpg().args(make).args(["sign", KEY_TIME]))?;
        found = find()?;
    }
    match <[String; 1]>::try_from(found) {
        Ok([key]) => Ok(key),
        Err(many) => bail!("{} keys of {owner}: name one by its number", many.len()),
    }
}

/// Fingerprints of the main keys in what `--with-colons` lists.
fn fingerprints(listed: &str) -> Vec<String> {
    let mut is_main = false;
    let mut found = Vec::new();
    for line in listed.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.first() {
            Some(&"sec") => is_main = true,
            Some(&"ssb") => is_main = false,
            Some(&"fpr") if is_main => {
                found.extend(fields.get(9).map(|number| (*number).to_owned()));
            }
            _ => {}
        }
    }
    found
}

/// Copies packages with this ending; an error if there are none.
fn copy(packages: &Path, ending: &str, to: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(to)?;
    let mut copies = Vec::new();
    let entries = fs::read_dir(packages)
        .with_context(|| format!("{}: `cargo xtask package` fills it", packages.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == ending) {
            let copy = to.join(path.file_name().context("a package without a name")?);
            fs::copy(&path, &copy)?;
            copies.push(copy);
        }
    }
    ensure!(
        !copies.is_empty(),
        "{} has no .{ending}: `cargo xtask package` makes them",
        packages.display()
    );
    copies.sort();
    Ok(copies)
}

fn architecture() -> Result<String> {
    let said = output(Command::new("dpkg").arg("--print-architecture"))?;
    Ok(said.trim().to_owned())
}

/// `apt/`: pool, lists, and the list of the lists with its signature.
fn apt(packages: &Path, work: &Path, key: &str, url: &str) -> Result<()> {
    let (root, architecture) = (work.join("apt"), architecture()?);
    copy(packages, "deb", &root.join("pool"))?;
    let lists = root.join(format!("dists/stable/main/binary-{architecture}"));
    fs::create_dir_all(&lists)?;
    let list = |args: &[&str]| output(Command::new("apt-ftparchive").args(args).current_dir(&root));
    fs::write(lists.join("Packages"), list(&["packages", "pool"])?)?;
    run_command(
        Command::new("gzip")
            .args(["-9nk"])
            .arg(lists.join("Packages")),
    )?;
    let set = |name: &str, value: &str| format!("APT::FTPArchive::Release::{name}={value}");
    let settings = [
        set("Origin", "Gantry"),
        set("Label", "Gantry"),
        set("Suite", "stable"),
        set("Codename", "stable"),
        set("Components", "main"),
        set("Architectures", &architecture),
    ];
    let mut args: Vec<&str> = settings.iter().flat_map(|set| ["-o", set]).collect();
    args.extend(["release", "dists/stable"]);
    // Written when it is complete: in its own folder it would list itself.
    let release = list(&args)?;
    let file = root.join("dists/stable/Release");
    fs::write(&file, release)?;
    let signed = root.join("dists/stable/InRelease");
    run_command(
        gpg()
            .args(["--local-user", key, "--clearsign", "--output"])
            .args([&signed, &file]),
    )?;
    run_command(
        gpg()
            .args(["--local-user", key, "--armor", "--detach-sign", "--output"])
            .args([&file.with_extension("gpg"), &file]),
    )?;
    fs::write(
        work.join("gantry.sources"),
        format!(
            "Types: deb\nURIs: {url}/apt\nSuites: stable\nComponents: main\nSigned-By: /etc/apt/keyrings/gantry.asc\n"
        ),
    )?;
    Ok(())
}

/// `dnf/`: signed packages, and their list with its signature.
fn dnf(packages: &Path, work: &Path, key: &str, url: &str) -> Result<()> {
    let root = work.join("dnf");
    let copies = copy(packages, "rpm", &root)?;
    // rpm of a Debian system looks for gpg2.
    let program = output(Command::new("sh").args(["-c", "command -v gpg"]))?;
    let mut sign = Command::new("rpmsign");
    sign.arg("--addsign")
        .args(["-D", &format!("_gpg_name {key}")])
        .args(["-D", &format!("__gpg {}", program.trim())]);
    output(sign.args(copies))?;
    run_command(Command::new("createrepo_c").arg("--quiet").arg(&root))?;
    let list = root.join("repodata/repomd.xml");
    run_command(
        gpg()
            .args(["--local-user", key, "--armor", "--detach-sign", "--output"])
            .args([&list.with_extension("xml.asc"), &list]),
    )?;
    fs::write(
        work.join("gantry.repo"),
        format!(
            "[gantry]\nname=Gantry\nbaseurl={url}/dnf\nenabled=1\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey={url}/gantry.asc\n"
        ),
    )?;
    Ok(())
}

/// apt, with lists and keys of its own, must believe the repository and find the packages.
fn check_apt(work: &Path) -> Result<()> {
    let room = work.join("check");
    for folder in [
        "lists/partial",
        "cache/archives/partial",
        "etc/apt/preferences.d",
    ] {
        fs::create_dir_all(room.join(folder))?;
    }
    let (status, sources) = (room.join("status"), room.join("gantry.list"));
    fs::write(&status, "")?;
    let (key, apt) = (work.join("gantry.asc"), work.join("apt"));
    let line = format!(
        "deb [signed-by={}] file://{} stable main\n",
        key.display(),
        apt.display()
    );
    fs::write(&sources, line)?;
    let settings = [
        format!("Dir::Etc={}", room.join("etc/apt").display()),
        format!("Dir::Etc::sourcelist={}", sources.display()),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State={}", room.display()),
        format!("Dir::State::lists={}", room.join("lists").display()),
        format!("Dir::State::status={}", status.display()),
        format!("Dir::Cache={}", room.join("cache").display()),
        // The folder may be readable to us alone.
        "APT::Sandbox::User=".to_owned(),
    ];
    let ask = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        for setting in &settings {
            command.args(["-o", setting]);
        }
        output(command.args(args))
    };
    ask("apt-get", &["-qq", "--error-on=any", "update"])?;
    for package in ["mqbroker", "mqnamesrv", "mqadmin", "gantry-common"] {
        let said = ask("apt-cache", &["policy", package])?;
        ensure!(
            said.contains("Candidate: ") && !said.contains("Candidate: (none)"),
            "apt does not find {package}: {said}"
        );
    }
    Ok(fs::remove_dir_all(&room)?)
}

/// Signatures of the packages and of their list must be those of the exported key.
fn check_dnf(work: &Path) -> Result<()> {
    let room = work.join("check");
    fs::create_dir_all(&room)?;
    let database = format!("_dbpath {}", room.display());
    let (key, root) = (work.join("gantry.asc"), work.join("dnf"));
    let rpmkeys = || {
        let mut command = Command::new("rpmkeys");
        command.args(["-D", &database]);
        command
    };
    output(rpmkeys().arg("--import").arg(&key))?;
    for entry in fs::read_dir(&root)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "rpm") {
            let said = output(rpmkeys().args(["-v", "--checksig"]).arg(&path))?;
            ensure!(
                said.contains("Signature") && !said.contains("NOKEY"),
                "{}: {said}",
                path.display()
            );
        }
    }
    let ring = room.join("ring.gpg");
    run_command(gpg().args(["--dearmor", "--output"]).args([&ring, &key]))?;
    let list = root.join("repodata/repomd.xml");
    output(Command::new("gpgv").arg("--keyring").args([
        &ring,
        &list.with_extension("xml.asc"),
        &list,
    ]))?;
    Ok(fs::remove_dir_all(&room)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_of_the_main_key_counts() {
        let listed = "sec:u:4096:1:AAAA:1:2::u:::scESC:::+:::23::0:\n\
                      fpr:::::::::1111AAAA:\ngrp:::::::::G:\nuid:u::::1::H::A <a@b>::::::::::0:\n\
                      ssb:u:4096:1:BBBB:1::::::e:::+:::23:\nfpr:::::::::2222BBBB:\n";
        assert_eq!(fingerprints(listed), ["1111AAAA"]);
        assert!(fingerprints("").is_empty());
    }
}
