//! Machines with a systemd of their own as first process: what packages and units do can only be believed there.
//!
//! A machine is a container (`systemd-nspawn`) on a network of [`crate::machines`], its disk an overlay of an image that is
//! built once ([`images`]). Mounts are in a mount namespace of the container, its processes end with it, and it ends with
//! the test: nothing of it is seen outside but a control group, which is removed.
//!
//! Commands get in by ssh and never by nsenter: they must have the machine's rights and control group, not the host's.
//! The clock and most settings of the kernel are those of the host, so nothing here sets them.

pub mod fitness;
pub mod images;
pub mod machine;

/// The family of distributions that a machine is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Debian 12: apt and dpkg.
    Debian,
    /// A look-alike of Enterprise Linux 9: dnf and rpm, with the C library and the systemd of the other one.
    Enterprise,
}

impl Family {
    /// In names of files and in what is printed.
    pub fn name(self) -> &'static str {
        match self {
            Family::Debian => "debian",
            Family::Enterprise => "el",
        }
    }
}
