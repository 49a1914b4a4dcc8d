//! net of Gantry.
pub mod client;
