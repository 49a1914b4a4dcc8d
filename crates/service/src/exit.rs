//! How a program ends: 0 when all is well, 78 (sysexits' EX_CONFIG) when the configuration must change before
//! another start makes sense, 1 for everything else. Units stop restarting at 78.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// All is well.
pub const OK: u8 = 0;
/// It failed; trying again may help.
pub const FAILED: u8 = 1;
/// The configuration is bad; trying again does not help.
pub const BAD_CONFIG: u8 = 78;

/// Why a program cannot go on, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The configuration must change first.
    Config(String),
    /// Anything else.
    Other(String),
}

impl Failure {
    /// A configuration that must change first.
    pub fn config(reason: impl fmt::Display) -> Self {
        Self::Config(reason.to_string())
    }

    /// Anything else.
    pub fn other(reason: impl fmt::Display) -> Self {
        Self::Other(reason.to_string())
    }

    /// The exit code it ends with.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Config(_) => BAD_CONFIG,
            Self::Other(_) => FAILED,
        }
    }

    /// Says it in the log, to systemd, and on stderr unless the log is what somebody reads there; the value is for `main` to return.
    pub fn report(&self, program: &str) -> ExitCode {
        tracing::error!("{self}");
        crate::notify::status(&self.to_string());
        if !crate::logging::in_journal() {
            complain(&format!("{program}: {self}"));
        }
        ExitCode::from(self.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Config(reason) | Self::Other(reason)) = self;
        f.write_str(reason)
    }
}

impl std::error::Error for Failure {}

/// One line on stderr. A closed stderr is nobody's concern.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Text on stdout, likewise.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
