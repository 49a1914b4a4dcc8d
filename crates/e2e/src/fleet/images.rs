//! The disks that machines begin with: Debian by debootstrap, and above it a layer that looks like Enterprise Linux 9 to
//! dnf, rpm and whoever reads `os-release`. They are built when they are missing or this file has changed, and kept.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use super::Family;
use crate::programs::{run, target};
use crate::record::crc32;

const PACKAGES: &str = "systemd,systemd-sysv,dbus,openssh-server,iproute2,procps,ca-certificates";

const RELEASE: &str = "bookworm";

/// What makes dnf and Ansible take a Debian for Enterprise Linux.
const OS_RELEASE: &str = r#"NAME="Rocky Linux"
VERSION="9.4"
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.4"
PLATFORM_ID="platform:el9"
PRETTY_NAME="Rocky Linux 9.4 (Debian below)"
"#;

/// Turns the base, mounted at `root` below the working directory, into the look-alike.
const LIKENESS: &str = r#"
cd "$0"
mkdir -p root
mount -t overlay overlay -o lowerdir="$1",upperdir=upper,workdir=work root
cp /etc/resolv.conf root/etc/resolv.conf
apt-config dump | grep -E '^Acquire::https?::Proxy' > root/etc/apt/apt.conf.d/90proxy || true
echo "deb $2 bookworm main" > root/etc/apt/sources.list
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot root apt-get -qq update
chroot root apt-get -qq install -y --no-install-recommends dnf python3-dnf rpm
rm -rf root/var/cache/apt/archives/*.deb root/var/lib/apt/lists/* root/etc/apt/sources.list root/etc/apt/apt.conf.d/90proxy
rm -f root/etc/resolv.conf root/etc/debian_version root/etc/os-release
cp os-release root/etc/os-release
echo 'Rocky Linux release 9.4 (Debian below)' > root/etc/redhat-release
mkdir -p root/etc/yum.repos.d
mv root/usr/bin/apt-get root/usr/bin/apt-get.off
rpmbuild -bb --quiet -D "_topdir $PWD/stub" el-stub.spec
cp stub/RPMS/noarch/el-stub-*.rpm root/tmp/
chroot root sh -c 'rpm --initdb && rpm -i /tmp/el-stub-*.rpm'
rm -f root/tmp/el-stub-*
"#;

/// The images of this computer.
#[derive(Debug, Clone)]
pub struct Images {
    folder: PathBuf,
}

impl Images {
    /// Builds what is missing, which takes a minute or two and Debian's archive.
    pub fn prepare() -> Result<Images> {
        let folder = target().join("machines/images");
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
        let images = Images { folder };
        let recipe = format!("{:08x}\n", crc32(include_bytes!("images.rs")));
        let stamp = images.folder.join("stamp");
        if fs::read_to_string(&stamp).is_ok_and(|old| old == recipe) {
            return Ok(images);
        }
        for layer in ["base", "el"] {
            let old = images.folder.join(layer);
            if old.exists() {
                fs::remove_dir_all(old)?;
            }
        }
        let mirror = mirror();
        images.build_base(&mirror)?;
        images.build_likeness(&mirror)?;
        fs::write(stamp, recipe)?;
        Ok(images)
    }

    /// The layers of a family's disk, the uppermost first.
    pub fn layers(&self, family: Family) -> Vec<PathBuf> {
        let base = self.folder.join("base");
        match family {
            Family::Debian => vec![base],
            Family::Enterprise => vec![self.folder.join("el/upper"), base],
        }
    }

    fn build_base(&self, mirror: &str) -> Result<()> {
        let base = self.folder.join("base");
        let mut debootstrap = Command::new("debootstrap");
        debootstrap
            .args([
                "--variant=minbase",
                &format!("--include={PACKAGES}"),
                RELEASE,
            ])
            .arg(&base)
            .arg(mirror);
        run("debootstrap", &mut debootstrap)?;
        for folder in ["var/cache/apt/archives", "var/lib/apt/lists"] {
            let mut clean = Command::new("find");
            clean.arg(base.join(folder)).args(["-type", "f", "-delete"]);
            run("find", &mut clean)?;
        }
        // Nothing outside is in reach of a machine.
        Ok(fs::write(base.join("etc/apt/sources.list"), "")?)
    }

    fn build_likeness(&self, mirror: &str) -> Result<()> {
        let folder = self.folder.join("el");
        for part in ["upper", "work"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("os-release"), OS_RELEASE)?;
        fs::write(folder.join("el-stub.spec"), stub())?;
        let mut build = Command::new("unshare");
        build
            .args(["--mount", "--propagation", "private", "sh", "-ec", LIKENESS])
            .arg(&folder)
            .arg(self.folder.join("base"))
            .arg(mirror);
        run("building the look-alike of Enterprise Linux", &mut build).map(drop)
    }
}

/// Where this computer gets Debian from, if it is of the same release.
fn mirror() -> String {
    let mut targets = Command::new("apt-get");
    targets.args([
        "indextargets",
        "--format",
        "$(CODENAME) $(REPO_URI)",
        "Identifier: Packages",
    ]);
    let listed = run("apt-get indextargets", &mut targets).unwrap_or_default();
    let found = listed
        .lines()
        .find_map(|line| line.strip_prefix(RELEASE)?.strip_prefix(' '));
    found
        .unwrap_or("http://deb.debian.org/debian")
        .trim_end_matches('/')
        .to_owned()
}

/// A package without files that tells rpm what the Debian below has. Its list of versions of the C library stops at that
/// of Enterprise Linux 9: what needs a newer one cannot be installed here either.
fn stub() -> String {
    let mut provides: Vec<String> = [
        "/bin/sh",
        "/bin/bash",
        "/usr/bin/python3",
        "systemd = 252",
        "shadow-utils",
        "system-release = 9",
        "libc.so.6()(64bit)",
        "libm.so.6()(64bit)",
        "libgcc_s.so.1()(64bit)",
        "ld-linux-x86-64.so.2()(64bit)",
        "ld-linux-x86-64.so.2(GLIBC_2.3)(64bit)",
        "rtld(GNU_HASH)",
    ]
    .map(str::to_owned)
    .to_vec();
    let libc =
        "2.5 3 3.2 3.4 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 22 25 26 27 28 29 30 31 32 33 34";
    for (library, symbols, versions) in [
        ("libc.so.6", "GLIBC_2.", libc),
        ("libm.so.6", "GLIBC_2.", "2.5 27 29"),
        ("libgcc_s.so.1", "GCC_", "3.0 3.3 3.3.1 4.2.0"),
    ] {
        for version in versions.split(' ') {
            provides.push(format!("{library}({symbols}{version})(64bit)"));
        }
    }
    let mut spec =
        "Name: el-stub\nVersion: 9\nRelease: 1\nSummary: Stub\nLicense: MIT\nBuildArch: noarch\n"
            .to_owned();
    for provided in provides {
        // Writing to a string does not fail.
        let _ = writeln!(spec, "Provides: {provided}");
    }
    spec + "%description\nStub\n%files\n"
}

/// The layer that a machine wrote, so that others begin where it ended. It must have been turned off.
pub fn layer_of(disk: &Path) -> PathBuf {
    disk.join("upper")
}

/// Makes the folders of a machine's own layer.
pub(super) fn new_disk(disk: &Path) -> Result<()> {
    for part in ["upper", "work", "root"] {
        let folder = disk.join(part);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}
