//! Real daemons end to end. One program, so that the stories run side by side; `cargo test -p gantry-e2e NAME` picks.
//!
//! `GANTRY_E2E_KEEP=1` keeps the folders of a run below `target/e2e/run`, `GANTRY_BIN` names built programs to use.

mod bad_input;
mod clients;
mod crash;
mod damages;
mod deployments;
mod disk_errors;
mod hand_over;
mod home;
mod metrics;
mod monitoring;
mod mqadmin;
mod notices;
mod promotion;
mod replication;
mod restarts;
mod service;
mod slaves;
mod space;
mod start_failures;
mod store;
