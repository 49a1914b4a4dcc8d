//! client of Gantry.
