//! The configuration from outside: read it (26), change what may be changed at run time (25).
//!
//! What an administrator wrote is never touched: changes go to one override file in the state folder and take effect
//! at once. Which keys may change, and to what, stands in the key table; a request takes effect as a whole or names
//! the key that stands in its way. What a change means is the business of whoever follows [`LiveConfig`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gantry_config::{UpdateError, plan_update, print, render_overrides};
use gantry_disk::{Disk, replace};
use gantry_message::Millis;
use gantry_store::Store;
use gantry_wire::bodies::DataVersion;
use gantry_wire::codes::response;
use gantry_wire::headers::{GetBrokerConfigAnswer, SetReadOnly, SetReadOnlyAnswer};
use gantry_wire::{Request, Response};

use crate::live::LiveConfig;
use crate::refusal::Refusal;
use crate::tables::Topics;

/// The parts that configuration requests need.
pub struct ConfigAdmin {
    live: Arc<LiveConfig>,
    topics: Arc<Topics>,
    store: Arc<Store>,
    disk: Arc<dyn Disk>,
    overrides: PathBuf,
    /// One change at a time. Counts them, as Java's answer does.
    version: Mutex<DataVersion>,
}

impl ConfigAdmin {
    /// Changes go to `overrides`. `now` is the time of version 0.
    pub fn new(
        live: Arc<LiveConfig>,
        topics: Arc<Topics>,
        store: Arc<Store>,
        disk: Arc<dyn Disk>,
        overrides: PathBuf,
        now: Millis,
    ) -> Self {
        let version = Mutex::new(DataVersion {
            counter: 0,
            timestamp: now.0,
        });
        Self {
            live,
            topics,
            store,
            disk,
            overrides,
            version,
        }
    }

    /// Serves 26.
    pub fn show(&self) -> Result<Response, Refusal> {
        let version = *self.version.lock().unwrap_or_else(PoisonError::into_inner);
        let version = String::from_utf8_lossy(&version.encode()).into_owned();
        let text = print::all(&*self.live.now());
        Ok(Response::with_body(text.into_bytes())
            .header(&GetBrokerConfigAnswer { version: &version }))
    }

    /// Serves 25: all of the request or nothing. Blocks: the change is on disk before it takes effect.
    pub fn update(&self, request: &Request, now: Millis) -> Result<Response, Refusal> {
        self.change(&request.body, now)?;
        Ok(Response::ok())
    }

    /// Serves 46003. Blocks; the answer says where the log ends.
    pub fn set_read_only(&self, request: &Request, now: Millis) -> Result<Response, Refusal> {
        let SetReadOnly { read_only } = request.header()?;
        self.change(format!("readOnly={read_only}").as_bytes(), now)?;
        self.store.settle();
        let max_offset = i64::try_from(self.store.max_offset().0).unwrap_or(i64::MAX);
        Ok(Response::ok().header(&SetReadOnlyAnswer { max_offset }))
    }

    /// Makes all of the changes or none.
    fn change(&self, wanted: &[u8], now: Millis) -> Result<(), Refusal> {
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.live.now();
        let update = plan_update(&*before, wanted).map_err(|error| refusal(&error))?;
        if update.changes.is_empty() {
            return Ok(());
        }
        self.persist(&update.changes)?;
        for (key, value) in &update.changes {
            tracing::info!("configuration changed by request: {key}={value}");
        }
        let permission_changed = before.broker_permission != update.config.broker_permission;
        // What was read again meanwhile (SIGHUP) stays; it was planned well, so it plans well once more.
        self.live.change(|now, _| {
            let again = plan_update(now, wanted);
            Some(again.map_or(update.config, |update| update.config))
        });
        *version = DataVersion {
            counter: version.counter.saturating_add(1),
            timestamp: now.0,
        };
        if permission_changed {
            // The permission is announced with the topics: a new table version makes name servers take it.
            self.topics
                .touch(now)
                .map_err(|error| Refusal::not_persisted(&error))?;
        }
        Ok(())
    }

    fn persist(&self, changes: &[(&'static str, String)]) -> Result<(), Refusal> {
        let failed = |error: &dyn std::fmt::Display| {
            Refusal::system_error(format!(
                "{} cannot be written: {error}",
                self.overrides.display()
            ))
        };
        let existing =
            replace::read(&*self.disk, &self.overrides).map_err(|error| failed(&error))?;
        let text = render_overrides(existing.as_deref().unwrap_or_default(), changes);
        let text = text.map_err(|error| failed(&error))?;
        let folder = self.overrides.parent().unwrap_or(Path::new(""));
        self.disk
            .create_dirs(folder)
            .map_err(|error| failed(&error))?;
        replace::file(&*self.disk, &self.overrides, text.as_bytes()).map_err(|error| failed(&error))
    }
}

fn refusal(error: &UpdateError) -> Refusal {
    match error {
        UpdateError::NotUpdatable { .. } | UpdateError::BlackListed { .. } => {
            Refusal::new(response::NO_PERMISSION, error.to_string())
        }
        UpdateError::Syntax(_) | UpdateError::Unknown { .. } | UpdateError::BadValue { .. } => {
            Refusal::system_error(error.to_string())
        }
    }
}
