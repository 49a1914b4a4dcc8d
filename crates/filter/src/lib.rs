//! filter of Gantry.
