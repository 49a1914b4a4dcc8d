//! What a daemon owes its host: start-up (options, configuration, exit codes), logs, signals, messages to systemd,
//! sockets that outlive a restart, signs of life, process limits, pages for metrics and health.
//!
//! It knows nothing of messages. Idle, it costs two sleeping threads: for log files, and for pages.
//! A `main` begins with [`startup::begin`], then [`logging::start`].

pub mod audit;
pub mod events;
pub mod exit;
pub mod host;
pub mod http;
mod journal;
mod limiter;
pub mod limits;
pub mod logging;
pub mod manual;
pub mod metrics;
pub mod notify;
pub mod owner;
mod rotating;
pub mod signals;
pub mod sockets;
pub mod startup;
pub mod watchdog;

pub use exit::Failure;
pub use logging::Logging;
pub use signals::{Signal, Signals, StopOrder};
pub use sockets::Sockets;
pub use startup::{Program, Start};
