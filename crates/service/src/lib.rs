//! What a daemon owes its host: start-up (options, configuration, exit codes), logs, signals, messages to systemd,
//! process limits, a page for metrics.
//!
//! It knows nothing of messages or sockets and keeps no state of theirs. Idle, it costs one sleeping thread.
//! A `main` begins with [`startup::begin`], then [`logging::start`].

pub mod exit;
pub mod host;
pub mod http;
pub mod limits;
pub mod logging;
pub mod manual;
pub mod notify;
mod rotating;
pub mod signals;
pub mod startup;

pub use exit::Failure;
pub use logging::Logging;
pub use signals::{Signal, Signals};
pub use startup::{Program, Start};
