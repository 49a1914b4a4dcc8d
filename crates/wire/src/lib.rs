//! wire of Gantry.
