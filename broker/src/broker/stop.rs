//! A stop, in the order that loses nothing.

use std::{sync::Arc, time::Duration};

use gantry_service::{Failure, events, notify};
use gantry_store::Store;

use super::Broker;
use crate::standing;

/// How long a stop waits for requests that were read before it.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

impl Broker {
    /// Stops in the order that loses nothing: leave the routes, answer what was read, write everything, mark the store
    /// clean.
    pub async fn stop(self) -> Result<(), Failure> {
        self.board.stops();
        notify::status("Stopping: leaving the name servers");
        self.registration.stop().await;
        stopping("answering what was read");
        self.server.stop(STOP_PATIENCE).await;
        if let Some(slave) = self.slave {
            slave.stop().await;
        }
        if let Some(follow) = self.follow {
            follow.stop().await;
        }
        // Nothing is stored by clients any more; slaves get the end of the log.
        stopping("giving slaves the end of the log");
        self.replicas.stop().await;
        let Broker {
            store,
            offsets,
            delay,
            timers,
            metrics,
            seats,
            ..
        } = self;
        drop(metrics);
        let unflushed = store.appended().value() - store.flushed().value();
        stopping(&format!(
            "writing {} KiB and the positions",
            unflushed >> 10
        ));
        close(store, move || {
            timers.stop();
            delay.stop();
            // The next start reads who it is.
            seats.close();
            let saved = offsets.flush();
            saved.map_err(|error| Failure::other(format!("saving consumer offsets: {error}")))
        })
        .await
    }
}

/// The end of every stop: what still writes ends first, then the store is closed, whatever came of the first.
pub(super) async fn close(
    store: Arc<Store>,
    first: impl FnOnce() -> Result<(), Failure> + std::marker::Send + 'static,
) -> Result<(), Failure> {
    let closed = tokio::task::spawn_blocking(move || {
        let ended = first();
        store
            .shutdown()
            .map_err(|error| Failure::caused(format!("closing the store: {error}"), &error))?;
        ended?;
        Ok(store.is_clean())
    });
    let clean = closed
        .await
        .map_err(|error| Failure::other(format!("stopping: {error}")))??;
    if clean {
        tracing::info!(message_id = events::STOPPED, "stopped; the store is clean");
    } else {
        tracing::warn!(
            message_id = events::STOPPED_UNCLEAN,
            "stopped; the next start will recover the store"
        );
    }
    Ok(())
}

/// The next step of a stop; the one before is done, so it gets on.
fn stopping(step: &str) {
    notify::status(&format!("Stopping: {step}"));
    notify::extend_timeout(standing::MORE_TIME);
}
