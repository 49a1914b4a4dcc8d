//! `mqbench sync`: what the disk itself allows: write a block into a preallocated file, `fdatasync`, again.
//!
//! The yardstick for synchronous flush: no broker acknowledges more groups a second than this.

use std::path::Path;

use anyhow::{Context, Result};

use crate::figures::{self, Clock, Figures, Phase};
use crate::options::{Flag, Options, preset};
use crate::segments::make;

/// Options of `sync`.
pub(crate) const FLAGS: &[&[Flag]] = &[
    figures::FLAGS,
    &[
        preset(
            "dir",
            "DIR",
            ".",
            "a folder on the disk; nothing is left in it",
        ),
        preset("size", "BYTES", "1024", "bytes between two syncs"),
    ],
];

const FILE_BYTES: u64 = 256 << 20;

/// Runs `mqbench sync`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let size = options.number("size", 1, 4 << 20)?;
    let folder = Path::new(options.text("dir").context("--dir")?);
    let name = format!("mqbench-sync.{}", std::process::id());
    let mut file = make(&folder.join(&name), FILE_BYTES)?;
    let block = vec![b's'; size];
    let (mut at, mut figures) = (0, Figures::new()?);
    let mut clock = Clock::start(options)?;
    loop {
        let began = clock.now();
        let phase = clock.phase(began);
        if phase == Phase::Over {
            break;
        }
        if FILE_BYTES < at + size as u64 {
            // A log takes fresh blocks all the time.
            (file, at) = (make(&folder.join(&name), FILE_BYTES)?, 0);
        }
        std::os::unix::fs::FileExt::write_all_at(&file, &block, at).context("write")?;
        file.sync_data().context("fdatasync")?;
        at += size as u64;
        if phase == Phase::Window {
            figures.took(clock.now() - began);
            figures.messages += 1;
            figures.bytes += size as u64;
        }
    }
    let words = format!("write and fdatasync of {size} bytes");
    figures.print("sync", &words, &clock, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_syncs_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display().to_string();
        let given = ["--dir", &dir, "--warmup", "0", "--time", "0.05", "--json"];
        run(&Options::parse(FLAGS, given.map(str::to_owned)).unwrap()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
