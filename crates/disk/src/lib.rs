//! disk of Gantry.
