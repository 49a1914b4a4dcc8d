//! broker of Gantry.

pub mod config;
