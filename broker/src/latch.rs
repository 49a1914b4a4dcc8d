//! What a broker does when its store latches, that is after the first failed sync or input/output error: it stays up
//! and readable, and says everywhere that it takes no messages until it is restarted.
//!
//! The store refuses messages by itself. Here the name servers learn of it ([`permission`] is what `registration`
//! announces from then on, whatever is configured later), and the operator is reminded. Nothing here waits for a disk.

use std::{sync::Arc, time::Duration};

use gantry_message::{Millis, perm};
use gantry_service::{events, notify};
use gantry_store::{AppendError, Store};

use crate::{config::BrokerConfig, tables::Topics};

/// What the log says again and again.
const READ_ONLY: &str =
    "read only: messages are served, none is taken; check the disk and restart the broker";
/// How often an operator is told again.
const REMIND_EVERY: Duration = Duration::from_secs(300);

/// What clients may do with this broker: `brokerPermission`, without writing once the store has latched, and while it is
/// sealed.
pub fn permission(config: &BrokerConfig, store: &Store) -> u32 {
    if is_latched(store) || store.sealed().is_some() {
        config.broker_permission & !perm::WRITE.unsigned_abs()
    } else {
        config.broker_permission
    }
}

/// Whether the store has latched.
pub fn is_latched(store: &Store) -> bool {
    store.latches().value() != 0
}

/// What `systemctl status` shows of a broker whose store has latched for this reason.
pub(crate) fn status(error: &str) -> String {
    format!("READ ONLY until restarted: {error}")
}

/// Waits until the store latches, withdraws the permission to write from the name servers, and repeats the reason at a
/// low rate, until the store is shut down.
pub(crate) async fn watch(store: Arc<Store>, topics: Arc<Topics>) {
    store.latches().beyond(0).await;
    // Name servers look at permissions only under a new version of the topics. It is not written to the disk that has
    // just failed, and need not be: after a restart the version is another one again.
    topics.renew(Millis::now());
    if let Err(AppendError::Latched { error }) = store.check_writable() {
        tracing::error!(message_id = events::LATCHED, error = &*error, "{READ_ONLY}");
    }
    while let Err(AppendError::Latched { error }) = store.check_writable() {
        notify::status(&status(&error));
        tokio::time::sleep(REMIND_EVERY).await;
        tracing::error!(error = &*error, "{READ_ONLY}");
    }
}
