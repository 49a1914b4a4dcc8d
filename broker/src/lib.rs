//! The broker of Gantry as a library; `main` is the program around it.
//!
//! Start at [`dispatch`] (which code does what), [`shard`] (how a send and a pull go through) or [`broker`] (which parts
//! there are, in which order they start and stop).

pub mod acks;
pub mod broker;
pub mod clients;
pub mod config;
pub mod delay;
pub mod dispatch;
pub mod follow;
pub mod gates;
pub mod handlers;
pub mod host_command;
pub mod latch;
pub mod live;
pub mod locks;
pub mod measures;
pub mod metrics;
pub mod pairing;
pub mod refusal;
pub mod registration;
pub mod replicas;
pub mod rivals;
pub mod seats;
pub mod shard;
pub mod slave;
mod standing;
pub mod stats;
pub mod store_command;
pub mod tables;
pub mod timers;
