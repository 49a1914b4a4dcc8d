//! service of Gantry.
