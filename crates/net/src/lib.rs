//! Sockets and connections of the remoting protocol: who is connected, which bytes wait to be sent, what is still
//! unanswered, and every limit on them.
//!
//! It knows frames (where one ends) and nothing of their meaning: a daemon gives each I/O shard a [`server::Handler`]
//! that is called with whole frames. `server` accepts and spreads connections over shards, `shard` drives them,
//! [`peer::Peer`] is the handle through which anybody answers, `client` is the calling side.

pub mod client;
mod input;
mod outbox;
pub mod peer;
pub mod pulse;
pub mod server;
mod shard;

pub use peer::Peer;
pub use pulse::Pulses;
