//! config of Gantry.
