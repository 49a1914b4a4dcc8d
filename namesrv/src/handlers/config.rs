//! 318 and 319: change and show the configuration.
//!
//! Only keys that the key table allows are changed, and they go to the override file; what an administrator wrote is
//! never touched.

use std::path::PathBuf;
use std::sync::Arc;

use crate::live::Live;
use gantry_config::{UpdateError, plan_update, print, render_overrides};
use gantry_disk::{Disk, replace};
use gantry_net::Peer;
use gantry_service::logging;
use gantry_wire::codes::response;
use gantry_wire::{Request, Response};

use crate::config::NamesrvConfig;
use crate::refusal::Refusal;

/// Requests about the configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) settings: Arc<Live<NamesrvConfig>>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) overrides: PathBuf,
}

impl Config {
    pub(crate) fn list(&self) -> Response {
        Response::with_body(print::all(&*self.settings.get()))
    }

    /// Blocks on the disk.
    pub(crate) fn update(&self, peer: &Peer, request: &Request) -> Result<Response, Refusal> {
        let changes = self.settings.change(|current| {
            let update = plan_update(current, &request.body).map_err(refusal)?;
            if !update.changes.is_empty() {
                self.persist(&update.changes)?;
            }
            Ok::<_, Refusal>((update.config, update.changes))
        })?;
        logging::set_level(self.settings.get().server.log_level);
        for (key, value) in &changes {
            tracing::info!("{key} is {value} now, changed by {}", peer.address());
        }
        Ok(Response::ok())
    }

    fn persist(&self, changes: &[(&'static str, String)]) -> Result<(), Refusal> {
        let path = self.overrides.display();
        let failed =
            |error: &dyn std::fmt::Display| Refusal::new(format!("cannot write {path}: {error}"));
        let existing =
            replace::read(&*self.disk, &self.overrides).map_err(|error| failed(&error))?;
        let text = render_overrides(&existing.unwrap_or_default(), changes)
            .map_err(|error| failed(&format!("line {}: {}", error.line, error.misdeed)))?;
        if let Some(folder) = self
            .overrides
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            self.disk
                .create_dirs(folder)
                .map_err(|error| failed(&error))?;
        }
        replace::keeping_backup(&*self.disk, &self.overrides, text.as_bytes())
            .map_err(|error| failed(&error))
    }
}

fn refusal(error: UpdateError) -> Refusal {
    let code = match error {
        UpdateError::Syntax(_) | UpdateError::BadValue { .. } => response::SYSTEM_ERROR,
        _ => response::NO_PERMISSION,
    };
    Refusal::with(code, error.to_string())
}
