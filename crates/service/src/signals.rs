//! Signals as values: stop (SIGTERM, SIGINT) and reload (SIGHUP).
//!
//! SIGHUP never ends a daemon, so that closing the terminal it was started from does not; nor do SIGUSR1 and SIGUSR2, which
//! other daemons take for orders about their logs.

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What somebody outside wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop in order; the name of the signal is for the log.
    Stop(&'static str),
    /// Read the configuration again.
    Reload,
}

/// The signals of this process. Creating it replaces what the kernel would do.
#[derive(Debug)]
pub struct Signals {
    term: Stream,
    interrupt: Stream,
    hangup: Stream,
    /// Nobody waits for these.
    _ignored: [Stream; 2],
}

impl Signals {
    /// Takes the signals over. Needs a runtime with I/O and must be called within it.
    pub fn take() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _ignored: [
                signal(SignalKind::user_defined1())?,
                signal(SignalKind::user_defined2())?,
            ],
        })
    }

    /// The next signal. Cancellation-safe.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Signal::Stop("SIGINT"),
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// The next signal that asks to stop; reloads on the way are passed to `reload`.
    pub async fn stop(&mut self, mut reload: impl FnMut()) -> &'static str {
        loop {
            match self.next().await {
                Signal::Stop(name) => return name,
                Signal::Reload => reload(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal as Number, raise};

    use super::*;

    #[test]
    fn orders_of_other_daemons_end_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut signals = Signals::take().unwrap();
            for number in [Number::SIGUSR1, Number::SIGUSR2, Number::SIGHUP] {
                raise(number).unwrap();
            }
            assert_eq!(signals.next().await, Signal::Reload);
        });
    }
}
