//! Waiting for sockets: edge-triggered epoll, with waits shorter than a millisecond for requests that are due.
//!
//! Edge-triggered means that whoever is told of a socket reads until a read comes back short; nothing is armed again.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;

const EVENTS: usize = 256;

/// The sockets of one thread.
pub(crate) struct Poll {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Poll {
    pub(crate) fn new() -> Result<Poll> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
        Ok(Poll {
            epoll,
            events: vec![EpollEvent::empty(); EVENTS],
        })
    }

    /// Watches a connected socket both ways.
    pub(crate) fn watch(&self, socket: impl AsFd, token: usize) -> Result<()> {
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        self.epoll
            .add(socket, EpollEvent::new(flags, token as u64))
            .context("epoll add")
    }

    /// Watches a listening socket; told again and again as long as somebody waits.
    pub(crate) fn watch_listener(&self, socket: impl AsFd, token: usize) -> Result<()> {
        self.epoll
            .add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token as u64))
            .context("epoll add")
    }

    /// Waits for at most `timeout` and returns the tokens that have something.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<impl Iterator<Item = usize>> {
        let whole_ms = u16::try_from(timeout.as_millis()).unwrap_or(u16::MAX);
        let epoll_timeout = if timeout.is_zero() || 0 < whole_ms {
            EpollTimeout::from(whole_ms)
        } else {
            self.wait_below_a_millisecond(timeout)?;
            EpollTimeout::ZERO
        };
        let count = match self.epoll.wait(&mut self.events, epoll_timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error).context("epoll wait"),
        };
        Ok(self.events[..count]
            .iter()
            .map(|event| usize::try_from(event.data()).unwrap_or(usize::MAX)))
    }

    fn wait_below_a_millisecond(&self, timeout: Duration) -> Result<()> {
        let mut set = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut set, Some(TimeSpec::from_duration(timeout)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("ppoll"),
        }
    }
}
