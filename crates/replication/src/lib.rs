//! Shipping the log from a master to its slaves: Apache's wire (wire.md 8, store.md 18) as two pure state machines.
//!
//! [`Master`] is the master's end of one link, [`Slave`] the slave's. Bytes, the time and what the log looks like are
//! arguments; results say what to send, what to append, and when to look again. Neither end believes a number from its
//! peer: what does not fit ends the link with a [`Refusal`] that says why. [`Links`] puts sockets and threads around the
//! master's ends.

mod frames;
mod links;
mod master;
mod refusal;
mod slave;

pub use frames::{HEAD_LEN, Head, REPORT_LEN, Reports, report};
pub use links::Links;
pub use master::{Log, Master, Step};
pub use refusal::Refusal;
pub use slave::{Received, Slave};

use std::time::Duration;

/// How long a link may be quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Who has written nothing for so long says that it lives (`haSendHeartbeatInterval`).
    pub heartbeat: Duration,
    /// Who has heard nothing for so long gives up (`haHousekeepingInterval`).
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            silence: Duration::from_secs(20),
        }
    }
}
