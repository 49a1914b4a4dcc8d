//! From what an operator wrote to typed values: files as RocketMQ writes them (`.properties`) or TOML, key tables,
//! layers, listings, documentation.
//!
//! Pure: texts, environment and facts about the machine are arguments; results are values and diagnostics. It never
//! opens a file and never prints. The programs around it do that through `gantry-service`.
//! Start with [`mod@settings`] (what a key is), then [`load`] (where values come from).

pub mod document;
pub mod entry;
pub mod flat_toml;
pub mod foreign;
pub mod load;
mod nearest;
pub mod options;
pub mod ports;
pub mod print;
pub mod properties;
pub mod server;
pub mod settings;
pub mod tls;
pub mod update;

pub use entry::{Entry, SyntaxError, Written};
pub use load::{Finding, Loaded, Place, Severity, Source, UnknownKeys};
pub use options::{Action, OptionError, Options};
pub use ports::Port;
pub use server::{Bind, LogLevel, SerializeType, ServerSettings};
pub use settings::{
    Bounds, Change, Expected, Host, Kind, Row, Rule, Setting, Settings, Verdict, assign,
};
pub use tls::{TlsMode, TlsSettings};
pub use update::{Reload, Update, UpdateError, plan_reload, plan_update, render_overrides};
