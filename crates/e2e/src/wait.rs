//! Waiting for conditions, never for a stretch of time.

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
