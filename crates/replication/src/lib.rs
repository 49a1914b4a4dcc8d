//! Shipping the log from a master to its slaves: Apache's wire (wire.md 8, store.md 18) as two pure state machines.
//!
//! [`Master`] is the master's end of one link, [`Slave`] the slave's. Bytes, the time and what the log looks like are
//! arguments; results say what to send, what to append, and when to look again. Neither end believes a number from its
//! peer: what does not fit ends the link with a [`Refusal`] that says why. [`Links`] puts sockets and threads around the
//! master's ends, [`Follower`] around the slave's. Two Gantrys agree on their main ports to add checksums ([`Wire`]).
//! Which broker of a name is its master after a promotion is what its [`Seat`] says.

mod follower;
mod frames;
mod intake;
mod lag;
mod links;
mod master;
mod positions;
mod refusal;
mod seat;
mod slave;

pub use follower::{FollowState, FollowStatus, FollowView, Follower, Following, Misfit, Plan};
pub use frames::{
    CRC_LEN, HEAD_LEN, HELLO, Head, REPORT_LEN, Reports, Short, TOKEN_LEN, Wire, report,
};
pub use intake::{Intake, IntakeError};
pub use links::{LinkStatus, Links, Token};
pub use master::{Log, Master, Step};
pub use positions::{Positions, SlaveKey};
pub use refusal::Refusal;
pub use seat::{Copies, Part, Seat, SeatError};
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
