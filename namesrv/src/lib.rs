//! The name server: which brokers are alive, which topics they hold, and a small key-value table.
//!
//! `routes` is the heart and pure; `kv` keeps its table on disk; `dispatch` and `handlers` translate requests;
//! `name_server` starts and stops it all. Nothing here stores messages, and nothing but `kv` and `config` has a file.

pub mod config;
mod dispatch;
mod handlers;
pub mod kv;
pub mod live;
mod metrics;
mod name_server;
pub mod refusal;
pub mod reload;
pub mod routes;
mod standing;

pub use name_server::NameServer;
