//! What Prometheus, and whoever asks whether the name server is well, is told: `/metrics`, `/health` and `/ready` on the
//! loopback address.
//!
//! Requests are counted here; everything else is read from the parts that know it when somebody asks.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gantry_net::server::Counts;
use gantry_service::http::{self, HungUp, Page};
use gantry_service::metrics::{self, Families, flag, float, verdict};
use gantry_wire::codes::{request, response};

use crate::config::NamesrvConfig;
use crate::handlers::{Table, Uptime};
use crate::live::Live;

/// Series of a scrape; brokers are many times fewer.
const SERIES_MAX: usize = 200_000;

/// What was asked and answered, by the names of the codes: codes without a name are counted together.
#[derive(Debug, Default)]
pub(crate) struct Requests(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl Requests {
    pub(crate) fn answered(&self, asked: i32, answer: i32) {
        let names = (request::name(asked), response::name(answer));
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(names).or_default() += 1;
    }
}

/// What can be asked for.
pub(crate) struct Board {
    pub(crate) started: Instant,
    pub(crate) settings: Arc<Live<NamesrvConfig>>,
    pub(crate) routes: Table,
    pub(crate) clock: Uptime,
    pub(crate) connections: Arc<Counts>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) hung_up: HungUp,
}

impl Board {
    fn metrics(&self) -> Page {
        let mut out = Families::at_most(SERIES_MAX);
        metrics::process(&mut out);
        metrics::log(&mut out);
        self.hung_up.collect(&mut out);
        self.own(&mut out);
        self.requests(&mut out);
        self.routes(&mut out);
        out.page()
    }

    fn own(&self, out: &mut Families) {
        out.gauge(
            "gantry_build_info",
            "The version of the program.",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1.0,
        );
        out.gauge(
            "gantry_uptime_seconds",
            "Time since the name server began to start.",
            &[],
            self.started.elapsed().as_secs_f64(),
        );
        out.gauge(
            "gantry_insecure_mode",
            "1 while everybody who reaches this host may administer the name server.",
            &[],
            flag(self.settings.get().server.is_insecure()),
        );
        out.gauge(
            "gantry_connections",
            "Connections of brokers and clients.",
            &[],
            float(self.connections.open() as u64),
        );
        for (name, help, count) in [
            (
                "gantry_connections_refused_total",
                "Connections closed at once because a limit was reached.",
                &self.connections.refused,
            ),
            (
                "gantry_connections_bad_input_total",
                "Connections closed because of input that is no frame.",
                &self.connections.bad_input,
            ),
            (
                "gantry_accept_failures_total",
                "Connections that the system could not accept, mostly for want of descriptors.",
                &self.connections.accept_failures,
            ),
        ] {
            out.counter(name, help, &[], count.load(Ordering::Relaxed));
        }
    }

    fn requests(&self, out: &mut Families) {
        let counts = self
            .requests
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for ((request, response), count) in counts.iter() {
            out.counter(
                "gantry_requests_total",
                "Requests that were answered, by what they asked for and the code of the answer.",
                &[("request", request), ("response", response)],
                *count,
            );
        }
    }

    fn routes(&self, out: &mut Families) {
        let routes = self.routes.lock();
        out.gauge(
            "gantry_namesrv_topics",
            "Topics that brokers have registered.",
            &[],
            float(routes.topics().count() as u64),
        );
        let mut brokers: BTreeMap<&str, u64> = BTreeMap::new();
        let now = self.clock.now();
        for broker in routes.heard(now) {
            *brokers.entry(broker.cluster).or_default() += 1;
            let id = broker.id.to_string();
            out.gauge(
                "gantry_namesrv_broker_last_heartbeat_age_seconds",
                "How long ago a broker was heard of; the route goes after 120 seconds.",
                &[
                    ("cluster", broker.cluster),
                    ("broker", broker.name),
                    ("broker_id", &id),
                ],
                float(broker.age.0.unsigned_abs()) / 1e3,
            );
        }
        for (cluster, count) in brokers {
            out.gauge(
                "gantry_namesrv_brokers",
                "Brokers of a cluster that are registered, slaves too.",
                &[("cluster", cluster)],
                float(count),
            );
        }
    }

    fn ready(&self) -> Page {
        let stopping = self.is_stopping.load(Ordering::Relaxed);
        let reasons = if stopping {
            vec!["stopping".to_owned()]
        } else {
            Vec::new()
        };
        verdict("ready", &reasons)
    }
}

/// Serves a board until it is dropped.
pub(crate) async fn serve(listener: TcpListener, board: Arc<Board>) -> io::Result<()> {
    let hung_up = board.hung_up.clone();
    let pages = move |path: &str| match path {
        "/metrics" => Some(board.metrics()),
        // Whoever gets an answer has seen that it lives; the table's lock is looked at on the way.
        "/health" => {
            drop(board.routes.lock());
            Some(verdict("well", &[]))
        }
        "/ready" => Some(board.ready()),
        _ => None,
    };
    http::serve(listener, Arc::new(pages), hung_up).await
}
