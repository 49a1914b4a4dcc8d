//! store of Gantry.
