//! broker of Gantry.
