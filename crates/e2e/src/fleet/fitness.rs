//! Whether machines can be run here at all.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::programs::run;

/// What is called, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 8] = [
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("ssh", "openssh-client"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("rpmbuild", "rpm"),
    ("python3", "python3"),
    ("prometheus", "prometheus"),
];

/// One line about why not, if so. `folder` is where their disks are to lie.
pub fn obstacle(folder: &Path) -> Result<Option<String>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Some("this is not root".to_owned()));
    }
    for (program, package) in PROGRAMS {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .stdout(Stdio::null())
            .status()?;
        if !found.success() {
            return Ok(Some(format!("there is no {program} (package {package})")));
        }
    }
    // As a machine will do it, in a mount namespace that goes with the shell.
    let room = tempfile::Builder::new()
        .prefix("fitness-")
        .tempdir_in(folder)?;
    let script = "cd \"$0\" && mkdir lower upper work root && mount -t tmpfs none /mnt && \
        mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work root";
    let tries = [
        (
            "network and process namespaces (CAP_SYS_ADMIN)",
            vec!["unshare", "--net", "--pid", "--fork", "true"],
        ),
        (
            "overlay mounts (CAP_SYS_ADMIN, and a file system that can carry them)",
            vec![
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
            ],
        ),
        (
            "control groups",
            vec!["sh", "-c", super::machine::GROUP_CHECK],
        ),
    ];
    for (what, words) in tries {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        if words.contains(&script) {
            command.arg(room.path());
        }
        if let Err(error) = run(words[0], &mut command) {
            let said = format!("{error:#}").replace('\n', " ");
            return Ok(Some(format!("no {what}: {}", said.trim())));
        }
    }
    Ok(None)
}
