//! namesrv of Gantry.
