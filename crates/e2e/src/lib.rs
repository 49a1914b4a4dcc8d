//! Real daemons, Gantry's and Apache's, held by tests that talk to them over sockets and through stock clients.
//!
//! Nothing here uses Gantry's own codecs or client: what the tests prove must not rest on the code under test. The
//! stories are in `tests/e2e`; start with [`server`] for the daemons and [`clients`] for the programs driven at them.

pub mod clients;
pub mod fleet;
pub mod frame;
pub mod http;
pub mod ledger;
pub mod machines;
pub mod mqadmin;
pub mod ports;
pub mod programs;
pub mod record;
pub mod server;
pub mod small_disk;
pub mod systemd;
pub mod transcript;
pub mod wait;
