//! message of Gantry.
