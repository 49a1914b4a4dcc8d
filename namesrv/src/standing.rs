//! What the service manager hears of a name server: what it knows, and that it gets on.
//!
//! Its work is the route table, so the sign of life is given by whoever could look into it just now.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gantry_net::Pulses;
use gantry_service::{
    notify,
    watchdog::{self, Work},
};

use crate::config::NamesrvConfig;
use crate::handlers::Table;
use crate::live::Live;

/// How often it says what it does.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The parts that know how a name server does.
pub(crate) struct Standing {
    routes: Table,
    settings: Arc<Live<NamesrvConfig>>,
    /// Keys that were changed in files and need a restart.
    need_restart: Mutex<Vec<&'static str>>,
}

impl Standing {
    pub(crate) fn new(routes: Table, settings: Arc<Live<NamesrvConfig>>) -> Self {
        Self {
            routes,
            settings,
            need_restart: Mutex::default(),
        }
    }

    pub(crate) fn needs_restart(&self, keys: Vec<&'static str>) {
        *self
            .need_restart
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// What it does, in a line.
    pub(crate) fn text(&self) -> String {
        let (brokers, topics) = {
            let routes = self.routes.lock();
            (routes.brokers().count(), routes.topics().count())
        };
        let mut text = format!("Serving; {brokers} broker names, {topics} topics");
        if self.settings.get().server.is_insecure() {
            text += "; INSECURE: open to everybody (bindAddress, adminOpen)";
        }
        let waiting = self
            .need_restart
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .join(", ");
        if !waiting.is_empty() {
            text += &format!("; a restart is needed for {waiting}");
        }
        text
    }

    /// Says it again and again, for as long as it is polled.
    pub(crate) async fn tell(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            notify::status(&self.text());
        }
    }

    /// Gives signs of life, each behind a look into the routes, while the I/O shards turn, for as long as it is polled.
    pub(crate) async fn live(self: Arc<Self>, pulses: Pulses) {
        watchdog::feed(|| {
            drop(self.routes.lock());
            vec![Work {
                name: "I/O threads",
                busy: pulses.look(),
            }]
        })
        .await;
    }
}
