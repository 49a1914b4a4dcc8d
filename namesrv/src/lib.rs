//! namesrv of Gantry.

pub mod config;
