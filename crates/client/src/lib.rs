//! The client side of RocketMQ for our own tools: routes, sending, pulling and administration.
//!
//! [`Client`] knows the name servers and keeps connections; everything else asks through it. There is no global state and
//! no background work: a heartbeat or a rebalance does not exist here, and nothing is sent that the caller did not ask
//! for. It runs on any tokio runtime, a single-threaded one included. Start with [`Client`] (name servers), its
//! administrative calls in `admin`, [`Producer`] (sending) and `pull`.

mod admin;
mod body;
mod client;
mod error;
mod name_servers;
mod producer;
mod pull;
mod remote;
mod routes;
mod unique_id;

pub use admin::Seated;
pub use body::{CompressedBody, plain_body};
pub use client::{Client, timeouts};
pub use error::{Error, Refused};
pub use name_servers::{BadAddress, NameServers};
pub use producer::{Message, Producer, SendStatus, Sent};
pub use pull::{Pull, PullStatus, Pulled};
pub use remote::Remote;
pub use routes::{Queue, master_address, publish_queues, selected_address};
pub use unique_id::UniqueIds;
