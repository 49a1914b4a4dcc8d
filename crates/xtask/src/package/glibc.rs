//! The oldest C library that a program runs with. 2.34 is that of Enterprise Linux 9 and below those of Debian 12 and
//! Ubuntu 22.04, so one build serves them all.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::shell;

/// The newest version of a symbol that may be needed.
const CEILING: (u32, u32) = (2, 34);

/// An error that names the symbols that are too new.
pub(super) fn check(program: &Path) -> Result<()> {
    let table = shell::output(Command::new("objdump").arg("-T").arg(program))?;
    ensure!(
        needed(&table).next().is_some(),
        "{}: objdump -T names no version of glibc",
        program.display()
    );
    let too_new: Vec<String> = needed(&table)
        .filter(|(version, _)| CEILING < *version)
        .map(|((major, minor), symbol)| format!("{symbol} (GLIBC_{major}.{minor})"))
        .collect();
    ensure!(
        too_new.is_empty(),
        "{}: needs a C library newer than {}.{}: {}",
        program.display(),
        CEILING.0,
        CEILING.1,
        too_new.join(", ")
    );
    Ok(())
}

/// Versions with the symbols that need them, from the table of dynamic symbols. A third number changes nothing here.
fn needed(table: &str) -> impl Iterator<Item = ((u32, u32), &str)> {
    table.lines().filter_map(|line| {
        let (_, rest) = line.split_once("GLIBC_")?;
        let (version, symbol) = rest.split_once([')', ' '])?;
        let mut numbers = version.split('.').map(str::parse::<u32>);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(((major, minor), symbol.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let table = "\
0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.34) pthread_create\n\
0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.2.5) memcpy\n\
0000000000000000  w   DF *UND*\t0000000000000000  Base        __gmon_start__\n\
0000000000000000      DF *UND*\t0000000000000000  GLIBC_2.4   fopen\n";
        let found: Vec<_> = needed(table).collect();
        assert_eq!(
            found,
            [
                ((2, 34), "pthread_create"),
                ((2, 2), "memcpy"),
                ((2, 4), "fopen")
            ]
        );
        assert!(found.iter().all(|(version, _)| *version <= CEILING));
        let newer = "0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.38) strlcpy\n";
        assert!(needed(newer).all(|(version, _)| CEILING < version));
    }
}
