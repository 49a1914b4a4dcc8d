//! A disk of a given size: a tmpfs in a mount namespace of its own, which is gone with the process that holds it.
//!
//! Servers get in by `nsenter`; the test reads and writes there through `/proc`. Needs the right to mount, as root has.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::statvfs::statvfs;

/// A small disk. Dropping it removes it.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    dir: PathBuf,
}

impl SmallDisk {
    /// Makes one of so many MiB, to be found at `dir` by whoever is in its namespace.
    pub fn make(dir: &Path, mib: u32) -> Result<SmallDisk> {
        fs::create_dir_all(dir)?;
        // Reading from the pipe ends with this process, however that ends.
        let script = format!("mount -t tmpfs -o size={mib}m none \"$0\" && echo ready && exec cat");
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare")?;
        let stdout = holder.stdout.take().context("no pipe")?;
        let disk = SmallDisk {
            holder,
            dir: dir.to_owned(),
        };
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        ensure!(said == "ready\n", "cannot mount a tmpfs: is this root?");
        Ok(disk)
    }

    /// Where it is for those inside.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The words before a command that is to run inside.
    pub fn enter(&self) -> Vec<String> {
        let holder = self.holder.id().to_string();
        ["nsenter", "--mount", "--target", &holder, "--"]
            .map(str::to_owned)
            .to_vec()
    }

    /// A path on it as we reach it.
    pub fn path(&self, inside: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.dir.strip_prefix("/").unwrap_or(&self.dir))
            .join(inside)
    }

    /// Takes up space until so many per cent are used; less than is used already frees what was taken up before.
    pub fn fill_to(&self, percent: u64) -> Result<()> {
        let ballast = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .open(self.path("ballast"))?;
        let figures = statvfs(&self.path(""))?;
        let total = figures.blocks() * figures.fragment_size();
        let used = total - figures.blocks_free() * figures.fragment_size();
        let wanted = i64::try_from((total * percent / 100).saturating_sub(used))?;
        if wanted > 0 {
            nix::fcntl::fallocate(&ballast, nix::fcntl::FallocateFlags::empty(), 0, wanted)?;
        }
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
