//! The broker of Gantry.

pub mod config;
pub mod delay;
pub mod live;
pub mod stats;
