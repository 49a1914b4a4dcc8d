//! e2e of Gantry.
