//! The broker of Gantry.

pub mod clients;
pub mod config;
pub mod delay;
pub mod handlers;
pub mod live;
pub mod locks;
pub mod refusal;
pub mod registration;
pub mod stats;
pub mod tables;
