//! How a program ends: 0 when all is well, 78 (sysexits' EX_CONFIG) when the configuration, or what the host permits, must
//! change before another start makes sense, 1 for everything else. Units stop restarting at 78.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// Permission denied.
const EACCES: i32 = nix::errno::Errno::EACCES as i32;
/// A file system that is only read from here.
const EROFS: i32 = nix::errno::Errno::EROFS as i32;

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
    /// The system refused something, and said why.
    System {
        /// What, and why.
        reason: String,
        /// The number of the error.
        errno: i32,
    },
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

    /// What an error says, with the number that the system gave, if it did.
    pub fn from_error(error: impl std::error::Error + 'static) -> Self {
        let reason = error.to_string();
        Self::caused(reason, &error)
    }

    /// The same in other words.
    pub fn caused(reason: impl fmt::Display, error: &(dyn std::error::Error + 'static)) -> Self {
        let reason = reason.to_string();
        match errno(error) {
            Some(errno) => Self::System { reason, errno },
            None => Self::Other(reason),
        }
    }

    /// The exit code it ends with.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Config(_) => BAD_CONFIG,
            // Owners, ports of root's and what a sandbox lets be written do not change by themselves.
            Self::System { errno, .. } if matches!(*errno, EACCES | EROFS) => BAD_CONFIG,
            Self::System { .. } | Self::Other(_) => FAILED,
        }
    }

    /// The number of the system's error.
    pub const fn errno(&self) -> Option<i32> {
        match self {
            Self::System { errno, .. } => Some(*errno),
            Self::Config(_) | Self::Other(_) => None,
        }
    }

    /// Says it in the log, to systemd, and on stderr unless the log is what somebody reads there; the value is for `main` to return.
    pub fn report(&self, program: &str) -> ExitCode {
        tracing::error!(message_id = crate::events::FAILED, "{self}");
        crate::notify::failed(&self.to_string(), self.errno());
        if !crate::logging::in_journal() {
            complain(&format!("{program}: {self}"));
        }
        ExitCode::from(self.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Config(reason) | Self::System { reason, .. } | Self::Other(reason)) = self;
        f.write_str(reason)
    }
}

impl std::error::Error for Failure {}

/// The number of the system's error at the bottom of this one.
fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.raw_os_error();
        }
        next = error.source();
    }
    None
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Wrapped(std::io::Error);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "cannot open the store: {}", self.0)
        }
    }

    impl std::error::Error for Wrapped {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn the_system_s_number_goes_along() {
        let denied = || std::io::Error::from_raw_os_error(13);
        let failure = Failure::from_error(Wrapped(denied()));
        assert_eq!(failure.errno(), Some(13));
        assert!(
            failure
                .to_string()
                .starts_with("cannot open the store: Permission")
        );
        let failure = Failure::caused("other words", &denied());
        assert_eq!(
            (failure.to_string().as_str(), failure.errno()),
            ("other words", Some(13))
        );
        let failure = Failure::from_error(std::io::Error::other("no number"));
        assert_eq!(failure, Failure::Other("no number".into()));
        assert_eq!(Failure::config("bad").code(), BAD_CONFIG);
    }

    #[test]
    fn what_the_host_does_not_permit_is_not_tried_again() {
        use nix::errno::Errno::{EACCES, EADDRINUSE, EADDRNOTAVAIL, EIO, ENOSPC, EROFS};
        for (errno, code) in [
            (EACCES, BAD_CONFIG),
            (EROFS, BAD_CONFIG),
            (EADDRINUSE, FAILED),
            (EADDRNOTAVAIL, FAILED),
            (ENOSPC, FAILED),
            (EIO, FAILED),
        ] {
            let error = std::io::Error::from_raw_os_error(errno as i32);
            assert_eq!(Failure::from_error(error).code(), code, "{errno}");
        }
    }
}
