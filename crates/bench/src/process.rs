//! What a process used, read from `/proc`: CPU time and resident memory.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// One look at a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system time since its start.
    pub(crate) cpu: Duration,
    /// Resident memory, bytes.
    pub(crate) resident: u64,
}

/// Looks at process `pid`.
pub(crate) fn usage(pid: u32) -> Result<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid}"))?;
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))
        .with_context(|| format!("process {pid}"))?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("/proc/{pid}/stat is not understood"))?;
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .with_context(|| format!("/proc/{pid}/statm is not understood"))?;
    let per_second = system(SysconfVar::CLK_TCK)?;
    Ok(Usage {
        cpu: Duration::from_nanos(ticks * (1_000_000_000 / per_second)),
        resident: pages * system(SysconfVar::PAGE_SIZE)?,
    })
}

fn system(variable: SysconfVar) -> Result<u64> {
    sysconf(variable)
        .ok()
        .flatten()
        .and_then(|value| u64::try_from(value).ok())
        .filter(|value| 0 < *value)
        .context("sysconf has no answer")
}

/// User and system ticks. The second field is the program's name in brackets and may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 123 45 0 0 20 0 1 0 99 1 2";
        assert_eq!(cpu_ticks(stat), Some(168));
        assert_eq!(cpu_ticks("7 (a"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(usage(std::process::id()).unwrap().resident > 0);
    }
}
