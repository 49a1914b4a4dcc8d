//! Bytes received on one connection that do not make a whole frame yet.
//!
//! Reading goes through one scratch buffer per shard, so that an idle connection holds no memory; only the incomplete
//! rest of a read is kept here. It grows with the bytes that really came, never by a length that a peer claims.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use gantry_wire::frame::{self, Frame, FrameError};

/// Unparsed bytes over all connections of a server.
#[derive(Debug, Default)]
pub(crate) struct HeldBytes {
    total: AtomicUsize,
}

/// The unparsed rest of one connection.
pub(crate) struct Input {
    held: Vec<u8>,
    /// Invariant: `account.total` contains exactly `held.len()` for this connection.
    account: Arc<HeldBytes>,
}

/// Why a connection cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(
        "unparsed input of all connections would be {total} bytes, the limit is {limit} (maxUnparsedBytes)"
    )]
    TooMuchHeld { total: usize, limit: usize },
}

impl Input {
    pub(crate) fn new(account: Arc<HeldBytes>) -> Input {
        Input {
            held: Vec::new(),
            account,
        }
    }

    /// Whether a frame has begun.
    pub(crate) fn is_partial(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes newly read bytes and calls `each` with every whole frame; `each` answers whether to go on.
    pub(crate) fn feed(
        &mut self,
        fresh: &[u8],
        frame_max: usize,
        held_max: usize,
        mut each: impl FnMut(Frame<'_>) -> bool,
    ) -> Result<bool, InputError> {
        if self.held.is_empty() {
            let (used, go_on) = frames(fresh, frame_max, &mut each)?;
            if go_on {
                self.hold(&fresh[used..], held_max)?;
            }
            return Ok(go_on);
        }
        self.hold(fresh, held_max)?;
        let held = std::mem::take(&mut self.held);
        let result = frames(&held, frame_max, &mut each);
        self.account.total.fetch_sub(held.len(), Ordering::Relaxed);
        let (used, go_on) = result?;
        if !go_on {
            return Ok(false);
        }
        if used == 0 {
            self.account.total.fetch_add(held.len(), Ordering::Relaxed);
            self.held = held;
        } else {
            self.hold(&held[used..], held_max)?;
        }
        Ok(true)
    }

    fn hold(&mut self, bytes: &[u8], held_max: usize) -> Result<(), InputError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let total = self.account.total.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        self.held.extend_from_slice(bytes);
        if total > held_max {
            return Err(InputError::TooMuchHeld {
                total,
                limit: held_max,
            });
        }
        Ok(())
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.account
            .total
            .fetch_sub(self.held.len(), Ordering::Relaxed);
    }
}

/// Calls `each` for the whole frames at the front of `bytes`; returns how many bytes they took.
fn frames(
    bytes: &[u8],
    frame_max: usize,
    each: &mut impl FnMut(Frame<'_>) -> bool,
) -> Result<(usize, bool), InputError> {
    let mut used = 0;
    while let Some(frame) = frame::split(&bytes[used..], frame_max)? {
        used += frame.size;
        if !each(frame) {
            return Ok((used, false));
        }
    }
    Ok((used, true))
}
