//! bodies.
