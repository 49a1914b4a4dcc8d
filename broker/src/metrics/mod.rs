//! What Prometheus, and whoever asks whether the broker is well, is told: `/metrics`, `/health` and `/ready` on the
//! loopback address, from the first moment of a start on.
//!
//! Nothing is counted here. A scrape asks each [`Source`] for its families; sources read figures that the parts keep
//! anyway, so that metrics cost nothing while nobody scrapes. A new family belongs into the source of its part, a new
//! part brings a source. Scraping runs where a disk may be waited for.
//!
//! Names are `gantry_*`, in base units; `native` and `exporter` say the same in the words of RocketMQ 5 and of Apache's
//! exporter (`metricsCompat`). Topics and groups may be many and are named by clients, so their families come last, and
//! what is beyond `metricsSeriesMax` is left out and counted.

mod broker;
mod exporter;
mod native;
mod objects;
mod progress;
mod replication;
mod requests;
mod store;

use std::{
    io,
    net::TcpListener,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gantry_service::{
    Failure, Sockets,
    http::{self, HungUp, Page},
    metrics::{self, Families, float, verdict},
};
use gantry_store::Stage;

pub use broker::BrokerSource;
pub use objects::{ObjectParts, ObjectSource};
pub use replication::ReplicationSource;
pub use requests::RequestSource;
pub use store::StoreSource;

use crate::{
    config::{BrokerConfig, boot::METRICS_PORT},
    live::LiveConfig,
    standing::{self, Standing},
};

/// Labels that a RocketMQ 5 broker puts on all it exports: what it is, its cluster, its name.
const NATIVE_LABELS: [&str; 3] = ["node_type", "cluster", "node_id"];
/// A broker is not well when something has not got on for so long.
const STUCK: Duration = Duration::from_secs(30);

/// Adds the families of one part to a scrape. May block.
pub type Source = Box<dyn Fn(&mut Families) + Send + Sync>;

/// Which names beside our own are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compat {
    pub(crate) exporter4: bool,
    pub(crate) native5: bool,
}

impl Compat {
    pub(crate) fn of(config: &BrokerConfig) -> Compat {
        let has = |wanted: &str| sets(&config.metrics_compat).any(|set| set == wanted);
        Compat {
            exporter4: has("exporter4"),
            native5: has("native5"),
        }
    }
}

fn sets(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|set| !set.is_empty())
}

/// Whether a text is a list of sets of names.
pub(crate) fn check_compat(text: &str) -> Result<(), &'static str> {
    if sets(text).all(|set| ["exporter4", "native5"].contains(&set)) {
        Ok(())
    } else {
        Err("exporter4, native5, both with a comma between them, or nothing")
    }
}

/// Binds the port for metrics, if there shall be any.
pub fn bind(config: &BrokerConfig, sockets: &mut Sockets) -> Result<Option<TcpListener>, Failure> {
    http::bind(sockets, config.metrics_port, METRICS_PORT)
}

/// What can be asked for, from the first moment of a start to the last of a stop.
pub struct Board {
    started: Instant,
    live: Arc<LiveConfig>,
    /// How far recovery is.
    stage: Mutex<Option<Stage>>,
    /// How long it took.
    recovered: OnceLock<Duration>,
    serving: OnceLock<Serving>,
    is_stopping: AtomicBool,
    /// Series that there was no room for, over all scrapes.
    dropped: AtomicU64,
    hung_up: HungUp,
}

struct Serving {
    sources: Vec<Source>,
    standing: Arc<Standing>,
}

impl Board {
    /// Of a broker that began to start then.
    pub fn new(started: Instant, live: Arc<LiveConfig>) -> Arc<Board> {
        Arc::new(Board {
            started,
            live,
            stage: Mutex::default(),
            recovered: OnceLock::new(),
            serving: OnceLock::new(),
            is_stopping: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            hung_up: HungUp::default(),
        })
    }

    /// Recovery has got so far.
    pub(crate) fn recovering(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Some(stage);
    }

    /// The store is open.
    pub(crate) fn recovered(&self) {
        // A store is opened once.
        let _ = self.recovered.set(self.started.elapsed());
    }

    /// The broker serves.
    pub(crate) fn serves(&self, sources: Vec<Source>, standing: Arc<Standing>) {
        // Once.
        let _ = self.serving.set(Serving { sources, standing });
    }

    /// It stops.
    pub(crate) fn stops(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn metrics(&self) -> Page {
        let began = Instant::now();
        let max = self.live.now().metrics_series_max;
        let mut families = Families::at_most(usize::try_from(max).unwrap_or(usize::MAX));
        metrics::process(&mut families);
        metrics::log(&mut families);
        self.hung_up.collect(&mut families);
        self.recovery(&mut families);
        if let Some(serving) = self.serving.get() {
            serving
                .sources
                .iter()
                .for_each(|source| source(&mut families));
        }
        let dropped = families.dropped();
        let before = self.dropped.fetch_add(dropped, Ordering::Relaxed);
        // There is always room for these.
        families.lift_limit();
        families.counter(
            "gantry_metrics_series_dropped_total",
            "Series that a scrape had no room for (metricsSeriesMax), over all scrapes.",
            &[],
            before + dropped,
        );
        families.gauge(
            "gantry_metrics_series",
            "Series of this scrape.",
            &[],
            float(families.series() as u64),
        );
        families.gauge(
            "gantry_metrics_scrape_seconds",
            "How long it took to collect them.",
            &[],
            began.elapsed().as_secs_f64(),
        );
        families.page()
    }

    fn recovery(&self, out: &mut Families) {
        let stage = *self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, total) = stage.map_or((0, 0), |stage| (stage.done, stage.total));
        for (name, help, value) in [
            (
                "gantry_recovery_read_bytes",
                "How much of the log the last start has read so far.",
                float(done),
            ),
            (
                "gantry_recovery_total_bytes",
                "How much it reads at most.",
                float(total),
            ),
            (
                "gantry_recovery_running",
                "1 while it opens and recovers the store.",
                metrics::flag(self.recovered.get().is_none()),
            ),
            (
                "gantry_recovery_seconds",
                "How long it took from its beginning to the open store, or has taken so far.",
                self.recovered
                    .get()
                    .copied()
                    .unwrap_or_else(|| self.started.elapsed())
                    .as_secs_f64(),
            ),
        ] {
            out.gauge(name, help, &[], value);
        }
    }

    /// Alive: nothing on the way to the disk stands still.
    pub(crate) fn health(&self) -> Page {
        let mut reasons = Vec::new();
        if let Some(serving) = self.serving.get() {
            for work in serving.standing.works() {
                if STUCK <= work.busy {
                    let seconds = work.busy.as_secs();
                    reasons.push(format!("{} has not got on for {seconds} s", work.name));
                }
            }
        }
        verdict("well", &reasons)
    }

    /// Serving: it takes and hands out messages, and clients can find it.
    pub(crate) fn ready(&self) -> Page {
        let reasons = match self.serving.get() {
            _ if self.is_stopping.load(Ordering::Relaxed) => vec!["stopping".to_owned()],
            Some(serving) => serving.standing.unready(),
            None => {
                let stage = *self.stage.lock().unwrap_or_else(PoisonError::into_inner);
                vec![stage.map_or("starting".to_owned(), standing::recovery)]
            }
        };
        verdict("ready", &reasons)
    }
}

/// Serves a board until it is dropped.
pub async fn serve(listener: TcpListener, board: Arc<Board>) -> io::Result<()> {
    let hung_up = board.hung_up.clone();
    let pages = move |path: &str| match path {
        "/metrics" => Some(board.metrics()),
        "/health" => Some(board.health()),
        "/ready" => Some(board.ready()),
        _ => None,
    };
    http::serve(listener, Arc::new(pages), hung_up).await
}

#[cfg(test)]
mod tests {
    use gantry_config::{Host, Settings};
    use gantry_store::Phase;

    use super::*;

    #[test]
    fn sets_of_names_are_switched_by_a_list() {
        let mut config = BrokerConfig::defaults(&Host::described());
        for (text, exporter4, native5) in [
            ("exporter4,native5", true, true),
            (" native5 ", false, true),
            ("exporter4", true, false),
            ("", false, false),
        ] {
            assert_eq!(check_compat(text), Ok(()), "{text}");
            config.metrics_compat = text.to_owned();
            let expected = Compat { exporter4, native5 };
            assert_eq!(Compat::of(&config), expected, "{text}");
        }
        assert!(check_compat("exporter5").is_err());
    }

    #[test]
    fn a_start_says_how_far_it_is_and_that_it_is_not_ready() {
        let live = LiveConfig::new(BrokerConfig::defaults(&Host::described()));
        let board = Board::new(Instant::now(), live);
        let said = |page: Page| {
            let text = String::from_utf8(page.body.concat()).unwrap();
            (page.status, text)
        };
        let not_ready = "503 Service Unavailable";
        assert_eq!(said(board.ready()), (not_ready, "starting\n".into()));
        board.recovering(Stage {
            phase: Phase::Log,
            done: 1 << 20,
            total: 4 << 20,
        });
        let text = "Recovering: reading the log, 25 % of 4 MiB\n".to_owned();
        assert_eq!(said(board.ready()), (not_ready, text));
        assert_eq!(said(board.health()), ("200 OK", "well\n".into()));
        let (_, metrics) = said(board.metrics());
        for line in [
            "gantry_recovery_read_bytes 1048576",
            "gantry_recovery_total_bytes 4194304",
            "gantry_recovery_running 1",
        ] {
            assert!(metrics.lines().any(|said| said == line), "{metrics}");
        }
        board.recovered();
        assert!(
            said(board.metrics())
                .1
                .contains("\ngantry_recovery_running 0\n")
        );
    }
}
