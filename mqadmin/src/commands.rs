//! What the commands do, by noun. Each prints exactly what RocketMQ's tool prints and returns a failure otherwise.

pub mod broker;
pub mod cleaning;
pub mod cluster;
pub mod consumer;
pub mod message;
pub mod promotion;
pub mod replication;
mod targets;
pub mod topic;
mod track;
