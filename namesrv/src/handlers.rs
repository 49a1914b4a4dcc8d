//! What the requests do: one file a family, small structs that hold only the parts they use.
//!
//! They translate between headers and bodies on one side and `routes` and `kv` on the other, and write the log lines;
//! they decide nothing that those decide.

mod config;
mod kv;
mod lookups;
mod registrations;
mod topics;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gantry_message::Millis;

use crate::routes::Routes;

pub(crate) use config::Config;
pub(crate) use kv::KvRequests;
pub(crate) use lookups::Lookups;
pub(crate) use registrations::Registrations;
pub(crate) use topics::TopicChanges;

/// The route table, shared by handlers and the sweep.
#[derive(Debug, Default)]
pub(crate) struct SharedRoutes(Mutex<Routes>);

impl SharedRoutes {
    /// The table. Held for the length of one request; nothing waits while holding it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Routes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clock of the route table: milliseconds since the start, which never go back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uptime(Instant);

impl Uptime {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Millis {
        Millis(i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
}

/// What most handlers hold.
pub(crate) type Table = Arc<SharedRoutes>;
