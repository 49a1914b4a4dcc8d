//! The thread that calls background steps when they want to be called.
//!
//! A step does its work and says when it wants the next call; nothing is polled, and a stop ends the wait at once.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use gantry_message::Millis;

/// Does due work and returns when it wants to be called again.
pub type Step = Box<dyn FnMut(Millis) -> Millis + Send>;

/// A clock that jumps may delay a step by no more than this.
const SLEEP_MAX_MS: i64 = 10_000;
const SLEEP_MIN_MS: i64 = 10;

/// The running thread.
pub struct Timers {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Stop {
    wanted: Mutex<bool>,
    changed: Condvar,
}

impl Timers {
    /// Starts calling `steps`, each for the first time at once.
    pub fn start(mut steps: Vec<Step>) -> io::Result<Timers> {
        let stop = Arc::new(Stop::default());
        let told = stop.clone();
        let thread = std::thread::Builder::new()
            .name("timers".into())
            .spawn(move || {
                let mut due = vec![Millis(i64::MIN); steps.len()];
                loop {
                    let now = Millis::now();
                    for (step, due) in steps.iter_mut().zip(&mut due) {
                        // A due time far ahead is one from before the clock was set back.
                        if *due <= now || now.0.saturating_add(SLEEP_MAX_MS * 1000) < due.0 {
                            *due = step(now);
                        }
                    }
                    let next = due.iter().map(|due| due.0).min().unwrap_or(i64::MAX);
                    let sleep = next
                        .saturating_sub(Millis::now().0)
                        .clamp(SLEEP_MIN_MS, SLEEP_MAX_MS);
                    if told.wait(Duration::from_millis(sleep.unsigned_abs())) {
                        return;
                    }
                }
            })?;
        Ok(Timers { stop, thread })
    }

    /// Ends the thread after the step it is in.
    pub fn stop(self) {
        *self
            .stop
            .wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_all();
        if self.thread.join().is_err() {
            tracing::error!("the timer thread ended by a panic");
        }
    }
}

impl Stop {
    /// Waits; true when the thread is to end.
    fn wait(&self, time: Duration) -> bool {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let (wanted, _) = self
            .changed
            .wait_timeout_while(wanted, time, |wanted| !*wanted)
            .unwrap_or_else(PoisonError::into_inner);
        *wanted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn steps_are_called_until_the_stop_and_not_after_it() {
        let (sender, calls) = mpsc::channel();
        let timers = Timers::start(vec![Box::new(move |now| {
            sender.send(now).unwrap();
            Millis(now.0 + 1)
        })])
        .unwrap();
        for _ in 0..3 {
            calls.recv().unwrap();
        }
        timers.stop();
        while calls.try_recv().is_ok() {}
        assert!(calls.recv().is_err(), "the step went with its thread");
    }
}
