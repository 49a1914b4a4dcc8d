//! Listening sockets that outlive the process: systemd keeps them while the unit restarts, so that whoever connects
//! meanwhile waits in the backlog and nobody is refused (docs/decisions/0002-reset-instead-of-close.md).
//!
//! [`Sockets::inherited`] takes over what the last process left, [`Sockets::listen`] finds the one for a name and an
//! address or opens another, and [`Sockets::keep`] gives the new ones to systemd once the daemon serves: a start that
//! fails leaves nothing behind that would let clients wait. A kept socket whose address is no longer wanted is closed
//! here and there. Without systemd all of it opens sockets and does nothing else.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{Backlog, getsockopt, listen, sockopt};

use crate::notify;

/// How long systemd gets to close a socket that is not wanted any more.
const FORGET_PATIENCE: Duration = Duration::from_secs(5);

/// The sockets that a daemon starts with.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Came from the last process and were not asked for yet.
    inherited: Vec<(String, TcpListener)>,
    /// Were opened by this one; clones, to be given to systemd.
    opened: Vec<(&'static str, OwnedFd)>,
    adopted: usize,
    /// Everything that was asked for, whichever way it came; clones.
    used: Vec<(&'static str, TcpListener)>,
    /// What was wrong with what systemd passed: said when the log is there.
    complaints: Vec<String>,
}

impl Sockets {
    /// None: every socket is opened anew.
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes over what systemd kept. Only the first call in a process gets anything: a descriptor has one owner. Call
    /// it before the process opens anything.
    pub fn inherited() -> Self {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Self::none();
        }
        let named = match sd_notify::listen_fds_with_names() {
            Ok(named) => named,
            Err(error) => {
                let complaint = format!("LISTEN_FDS is not understood: {error}");
                return Self {
                    complaints: vec![complaint],
                    ..Self::none()
                };
            }
        };
        let (mut inherited, mut complaints) = (Vec::new(), Vec::new());
        for (number, name) in named {
            // SAFETY: systemd passed this descriptor to this very process (`LISTEN_PID` was compared, and the flag of
            // the descriptor was just set, so it is open), nobody else knows of it, and `TAKEN` lets this loop run once.
            #[expect(
                unsafe_code,
                reason = "a descriptor that came by number becomes an owned one"
            )]
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            if is_listening(descriptor.as_fd()) {
                inherited.push((name, TcpListener::from(descriptor)));
            } else {
                complaints.push(format!(
                    "{name}: systemd kept something that is no listening socket"
                ));
            }
        }
        Self {
            inherited,
            complaints,
            ..Self::none()
        }
    }

    /// The socket that was kept under this name if it listens on this address, else a new one from `open`.
    pub fn listen(
        &mut self,
        name: &'static str,
        address: SocketAddr,
        backlog: i32,
        open: impl FnOnce(SocketAddr, i32) -> io::Result<TcpListener>,
    ) -> io::Result<TcpListener> {
        let mut found = None;
        let mut is_stale = false;
        for (kept, listener) in std::mem::take(&mut self.inherited) {
            if kept != name {
                self.inherited.push((kept, listener));
            } else if found.is_none() && listens_on(&listener, address) {
                found = Some(listener);
            } else {
                is_stale = true;
            }
        }
        if is_stale {
            forget(name);
        }
        if let Some(listener) = found {
            listener.set_nonblocking(true)?;
            listen(
                &listener,
                Backlog::new(backlog).unwrap_or(Backlog::MAXALLOWABLE),
            )?;
            self.adopted += 1;
            self.used.push((name, listener.try_clone()?));
            if is_stale {
                // The one that stays was forgotten with the others of its name.
                self.opened
                    .push((name, listener.as_fd().try_clone_to_owned()?));
            }
            return Ok(listener);
        }
        let listener = open(address, backlog)?;
        self.used.push((name, listener.try_clone()?));
        self.opened
            .push((name, listener.as_fd().try_clone_to_owned()?));
        Ok(listener)
    }

    /// How many sockets came from the last process.
    pub fn adopted(&self) -> usize {
        self.adopted
    }

    /// The daemon serves: systemd shall keep what was opened, and close what nobody asked for.
    pub fn keep(&mut self) {
        for complaint in self.complaints.drain(..) {
            tracing::warn!("{complaint}");
        }
        for (name, listener) in self.inherited.drain(..) {
            drop(listener);
            forget(&name);
        }
        for (name, descriptor) in self.opened.drain(..) {
            if let Err(error) = notify::keep(name, descriptor.as_fd()) {
                tracing::warn!(%error, name, "systemd does not keep a socket: a restart will refuse connections");
            }
        }
    }
}

impl Sockets {
    /// The same sockets for another start of the daemon in this process.
    #[must_use]
    pub fn again(self) -> Self {
        let used = self.used.into_iter();
        Self {
            inherited: used
                .map(|(name, listener)| (name.to_owned(), listener))
                .collect(),
            ..Self::none()
        }
    }
}

fn forget(name: &str) {
    tracing::info!(name, "a socket that systemd kept is not wanted any more");
    if let Err(error) = notify::forget(name, FORGET_PATIENCE) {
        tracing::warn!(%error, name, "systemd may still keep a socket that is not wanted any more");
    }
}

fn is_listening(descriptor: BorrowedFd<'_>) -> bool {
    getsockopt(&descriptor, sockopt::AcceptConn).unwrap_or(false)
}

/// Whether the socket is what opening this address would give.
fn listens_on(listener: &TcpListener, wanted: SocketAddr) -> bool {
    let Ok(bound) = listener.local_addr() else {
        return false;
    };
    // Where the kernel has no IPv6, all addresses are all IPv4 addresses.
    let is_all = wanted.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        && bound.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    bound.port() == wanted.port() && (bound.ip() == wanted.ip() || is_all)
}
