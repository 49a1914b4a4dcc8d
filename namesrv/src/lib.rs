//! namesrv of Gantry.

pub mod config;
pub mod routes;
