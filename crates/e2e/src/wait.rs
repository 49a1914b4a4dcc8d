//! Waiting for conditions, never for a stretch of time; and for one's turn on a machine with few processors.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long anything may take on a machine that has other work to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is yes; an error that names `what` when it never is.
pub fn until(what: &str, condition: impl FnMut() -> Result<bool>) -> Result<()> {
    until_within(PATIENCE, what, condition)
}

/// [`until`] with a time limit of its own.
pub fn until_within(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !condition()? {
        if Instant::now() > deadline {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Places for stories that start Java machines: more at a time would only make each other miss time limits.
const PLACES: u32 = 2;

static TAKEN: Mutex<u32> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// A story's turn, over when dropped.
#[derive(Debug)]
pub struct Turn {
    places: u32,
}

impl Turn {
    /// Waits for one place.
    pub fn wait() -> Turn {
        Self::take(1)
    }

    /// Waits for all places: for a client with time limits that it must keep.
    pub fn alone() -> Turn {
        Self::take(PLACES)
    }

    fn take(places: u32) -> Turn {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = FREED
            .wait_while(taken, |taken| *taken + places > PLACES)
            .unwrap_or_else(PoisonError::into_inner);
        *taken += places;
        Turn { places }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= self.places;
        FREED.notify_all();
    }
}
