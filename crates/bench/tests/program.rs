//! `mqbench` as a program.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

#[test]
fn its_version_is_said_on_stdout() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mqbench"));
    let output = program.arg("--version").output().unwrap();
    let expected = format!("mqbench {} (Gantry)\n", env!("CARGO_PKG_VERSION"));
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}
