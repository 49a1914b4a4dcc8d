//! Signals as values: stop (SIGTERM, SIGINT) and reload (SIGHUP).
//!
//! SIGHUP never ends a daemon, so that closing the terminal it was started from does not; nor do SIGUSR1 and SIGUSR2, which
//! other daemons take for orders about their logs.
//!
//! A start that takes long is not cancelled: a [`StopOrder`] tells it to end at the next good place.

use std::io;
use std::pin::pin;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::watch;

/// What somebody outside wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop in order; the name of the signal is for the log.
    Stop(&'static str),
    /// Read the configuration again.
    Reload,
}

/// Tells a start that it is not wanted any more: given once, seen by tasks and threads.
#[derive(Clone, Debug, Default)]
pub struct StopOrder(watch::Sender<bool>);

impl StopOrder {
    /// Gives it.
    pub fn give(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was given.
    pub fn is_given(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when it is given. Cancellation-safe.
    pub async fn given(&self) {
        // It cannot be closed: this is a sender.
        let _ = self.0.subscribe().wait_for(|given| *given).await;
    }
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

    /// Brings a start to its end, and gives it the order when a signal asks to stop meanwhile, which `tell` hears of. A reload
    /// waits until the start is over.
    pub async fn while_starting<T>(
        &mut self,
        order: &StopOrder,
        start: impl Future<Output = T>,
        tell: impl FnOnce(&'static str),
    ) -> T {
        let mut start = pin!(start);
        let name = tokio::select! {
            biased; // one that is over has nothing to end
            started = &mut start => return started,
            _ = self.term.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        order.give();
        tell(name);
        start.await
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
    use std::sync::{Mutex, PoisonError};

    use nix::sys::signal::{Signal as Number, raise};

    use super::*;

    /// A signal is for all of a process, and so for all tests at once.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    fn alone(test: impl Future<Output = ()>) {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn orders_of_other_daemons_end_nothing() {
        alone(async {
            let mut signals = Signals::take().unwrap();
            for number in [Number::SIGUSR1, Number::SIGUSR2, Number::SIGHUP] {
                raise(number).unwrap();
            }
            assert_eq!(signals.next().await, Signal::Reload);
        });
    }

    #[test]
    fn a_start_is_told_to_stop_once_and_a_reload_waits_for_its_end() {
        alone(async {
            let mut signals = Signals::take().unwrap();
            let order = StopOrder::default();
            let start = async {
                for number in [Number::SIGHUP, Number::SIGTERM, Number::SIGTERM] {
                    raise(number).unwrap();
                }
                order.given().await;
                order.is_given()
            };
            let mut told = Vec::new();
            let stopped = signals.while_starting(&order, start, |name| told.push(name));
            assert!(stopped.await);
            assert_eq!(told, ["SIGTERM"]);
            assert_eq!(signals.next().await, Signal::Reload);

            // One that is over is left alone, whoever asked in the same moment.
            let order = StopOrder::default();
            raise(Number::SIGINT).unwrap();
            let over = signals.while_starting(&order, async {}, |_| unreachable!());
            over.await;
            assert!(!order.is_given());
            assert_eq!(signals.next().await, Signal::Stop("SIGINT"));
        });
    }
}
