//! net of Gantry.
