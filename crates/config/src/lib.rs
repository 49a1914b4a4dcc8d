//! From what an operator wrote to typed values: files as RocketMQ writes them (`.properties`) or TOML, key tables,
//! layers, listings, documentation.
//!
//! Pure: texts, environment and facts about the machine are arguments; results are values and diagnostics. It never
//! opens a file and never prints. The programs around it do that through `gantry-service`.
//! Start with [`settings`] (what a key is), then `load` (where values come from).

pub mod server;
pub mod settings;
pub mod tls;

pub use server::{LogLevel, SerializeType, ServerSettings};
pub use settings::{Bounds, Change, Expected, Host, Kind, Row, Rule, Setting, Settings, Verdict, assign};
pub use tls::{TlsMode, TlsSettings};
