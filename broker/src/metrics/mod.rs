//! What Prometheus is told: `/metrics` on the loopback address.
//!
//! Nothing is counted here. A scrape asks each [`Source`] for its families; sources read figures that the parts keep
//! anyway, so that metrics cost nothing while nobody scrapes. A new family belongs into the source of its part, a new
//! part brings a source; [`Families`] knows the format. Scraping runs where a disk may be waited for.
//!
//! Names are `gantry_*`, in base units. Labels never carry what peers choose.

mod broker;
mod families;
mod replication;
mod store;

use std::{io, net::TcpListener, sync::Arc};

use gantry_service::{
    Failure,
    http::{self, Page},
};

pub use broker::BrokerSource;
pub use families::{Families, Histogram};
pub use replication::ReplicationSource;
pub use store::StoreSource;

use crate::config::BrokerConfig;

/// The port that is taken when none is configured (decision 23).
const DEFAULT_PORT: u16 = 5557;
const PATH: &str = "/metrics";

/// Adds the families of one part to a scrape. May block.
pub type Source = Box<dyn Fn(&mut Families) + Send + Sync>;

/// Binds the port for metrics. `None`: there will be none, by configuration, or because nobody asked for them and the
/// port is taken. A port that was asked for must be free.
pub fn bind(config: &BrokerConfig) -> Result<Option<TcpListener>, Failure> {
    let port = match config.metrics_port {
        Some(0) => return Ok(None),
        Some(port) => port,
        None => DEFAULT_PORT,
    };
    match http::listen(port) {
        Ok(listener) => {
            tracing::info!("metrics: http://127.0.0.1:{port}{PATH}");
            Ok(Some(listener))
        }
        Err(error) if config.metrics_port.is_some() => Err(Failure::config(format!(
            "metricsPort: cannot listen on 127.0.0.1 port {port}: {error}"
        ))),
        Err(error) => {
            tracing::warn!(port, %error, "no metrics: the port is taken; set metricsPort, 0 for none");
            Ok(None)
        }
    }
}

/// Serves the families of these sources until it is dropped.
pub async fn serve(listener: TcpListener, sources: Vec<Source>) -> io::Result<()> {
    let pages = move |path: &str| (path == PATH).then(|| page(&sources));
    http::serve(listener, Arc::new(pages)).await
}

fn page(sources: &[Source]) -> Page {
    let mut families = Families::default();
    for source in sources {
        source(&mut families);
    }
    Page {
        content_type: "text/plain; version=0.0.4; charset=utf-8",
        body: families.encode(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::OnceLock, time::Instant};

    use gantry_config::{Host, Settings};
    use gantry_disk::faulty::{FaultyDisk, Operation};
    use gantry_message::{Millis, QueueId, Record, SysFlag};
    use gantry_replication::{Links, Patience};
    use gantry_store::{Outcome, Store, StoreConfig, Tags};

    use super::*;
    use crate::{acks::SlaveAcks, config::BrokerRole, live::LiveConfig, standing::Standing};

    const EIO: i32 = 5;
    const NOW: Millis = Millis(1_700_000_000_000);

    struct Scraped {
        disk: FaultyDisk,
        store: Arc<Store>,
        sources: Vec<Source>,
    }

    impl Scraped {
        fn new() -> Scraped {
            let disk = FaultyDisk::new(1);
            let config = StoreConfig {
                segment_size: 4096,
                ..StoreConfig::at("/store")
            };
            let store = Store::open(Arc::new(disk.clone()), config, NOW).unwrap();
            let live = LiveConfig::new(BrokerConfig::defaults(&Host::described()));
            let broker = BrokerSource {
                live: live.clone(),
                store: store.clone(),
                started: Instant::now(),
            };
            let of_store = StoreSource {
                store: store.clone(),
                live: live.clone(),
            };
            let links = Links::new(store.clone(), Patience::default());
            let replication = ReplicationSource(Arc::new(Standing {
                live,
                store: store.clone(),
                acks: Arc::new(SlaveAcks::new(links, BrokerRole::SyncMaster)),
                following: OnceLock::new(),
            }));
            Scraped {
                disk,
                store,
                sources: vec![
                    Box::new(move |out| broker.collect(out)),
                    Box::new(move |out| of_store.collect(out)),
                    Box::new(move |out| replication.collect(out)),
                ],
            }
        }

        fn put(&self) -> Outcome {
            let record = Record {
                topic: "T",
                queue_id: QueueId(0),
                flag: 0,
                sys_flag: SysFlag(0),
                born_time: NOW,
                born_host: "10.0.0.9:5555".parse().unwrap(),
                store_host: "10.0.0.1:10911".parse().unwrap(),
                reconsume_times: 0,
                prepared_offset: 0,
                body: b"body",
                properties: b"",
            };
            let queue = self.store.queue("T", QueueId(0));
            self.store.append(&queue, &record, Tags::Code(0))
        }

        fn text(&self) -> String {
            String::from_utf8(page(&self.sources).body).unwrap()
        }

        /// The value of each series.
        fn values(&self) -> BTreeMap<String, f64> {
            let text = self.text();
            let series = text.lines().filter(|line| !line.starts_with('#'));
            let pair = |line: &str| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.parse().unwrap())
            };
            series.map(pair).collect()
        }
    }

    /// What dashboards and alerts are built on: a family that goes or changes its kind breaks them.
    #[test]
    fn the_families_are_these() {
        let scraped = Scraped::new();
        assert!(matches!(scraped.put(), Outcome::Stored { .. }));
        let text = scraped.text();
        let kinds: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        let expected = "\
gantry_broker_info gauge
gantry_broker_permission gauge
gantry_broker_read_only gauge
gantry_build_info gauge
gantry_commitlog_flushed_offset_bytes gauge
gantry_commitlog_fsync_seconds histogram
gantry_commitlog_last_fsync_seconds gauge
gantry_commitlog_max_offset_bytes gauge
gantry_commitlog_min_offset_bytes gauge
gantry_commitlog_records_total counter
gantry_commitlog_segments gauge
gantry_commitlog_unflushed_bytes gauge
gantry_commitlog_written_bytes_total counter
gantry_insecure_mode gauge
gantry_replication_degraded gauge
gantry_replication_degraded_total counter
gantry_replication_links_ended_total counter
gantry_replication_replicated_offset_bytes gauge
gantry_replication_sends_refused_total counter
gantry_replication_slaves_connected gauge
gantry_replication_slaves_in_sync gauge
gantry_start_time_seconds gauge
gantry_store_disk_free_bytes gauge
gantry_store_disk_limit_ratio gauge
gantry_store_disk_total_bytes gauge
gantry_store_disk_used_ratio gauge
gantry_store_dispatch_behind_bytes gauge
gantry_store_index_behind_bytes gauge
gantry_store_latched gauge
gantry_store_quarantined_files_total counter
gantry_store_sealed gauge
gantry_store_writable gauge
gantry_store_write_refused_total counter
gantry_uptime_seconds gauge";
        assert_eq!(kinds.join("\n"), expected);
        // As `promtool check metrics` wants it: a help for each, in which the name is not all there is.
        for kind in kinds {
            let name = kind.split(' ').next().unwrap();
            let help = format!("# HELP {name} ");
            let said = text.lines().find_map(|line| line.strip_prefix(&help));
            assert!(
                said.is_some_and(|said| said.ends_with('.')),
                "{name}: {said:?}"
            );
        }
    }

    #[test]
    fn a_latched_store_is_seen() {
        let scraped = Scraped::new();
        scraped.put();
        scraped.store.turn();
        scraped.put();
        let values = scraped.values();
        let of = |name: &str| values[name];
        assert_eq!(of("gantry_store_writable"), 1.0);
        assert_eq!(of("gantry_broker_permission"), 6.0);
        assert_eq!(of("gantry_store_latched{reason=\"sync\"}"), 0.0);
        assert_eq!(of("gantry_commitlog_records_total"), 2.0);
        let (end, flushed) = (
            of("gantry_commitlog_max_offset_bytes"),
            of("gantry_commitlog_flushed_offset_bytes"),
        );
        assert_eq!(end, 2.0 * flushed);
        assert_eq!(of("gantry_commitlog_unflushed_bytes"), end - flushed);
        let syncs = of("gantry_commitlog_fsync_seconds_count");
        assert!(1.0 <= syncs, "{syncs}");
        scraped.disk.fail(Operation::Sync, u64::MAX, EIO);
        scraped.store.turn();
        assert!(matches!(scraped.put(), Outcome::Refused(_)));
        let values = scraped.values();
        let of = |name: &str| values[name];
        assert_eq!(of("gantry_store_writable"), 0.0);
        assert_eq!(of("gantry_broker_permission"), 4.0);
        assert_eq!(of("gantry_store_latched{reason=\"sync\"}"), 1.0);
        assert_eq!(of("gantry_store_latched{reason=\"write\"}"), 0.0);
        assert_eq!(
            of("gantry_store_write_refused_total{reason=\"latched\"}"),
            1.0
        );
        assert_eq!(of("gantry_commitlog_flushed_offset_bytes"), flushed);
        assert_eq!(of("gantry_commitlog_fsync_seconds_count"), syncs + 1.0);
    }

    #[test]
    fn a_port_that_was_asked_for_must_be_free_and_0_is_none() {
        let taken = http::listen(0).unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut config = BrokerConfig::defaults(&Host::described());
        config.metrics_port = Some(port);
        let failure = bind(&config).unwrap_err();
        assert_eq!(failure.code(), 78);
        let text = format!("metricsPort: cannot listen on 127.0.0.1 port {port}: ");
        assert!(failure.to_string().starts_with(&text), "{failure}");
        config.metrics_port = Some(0);
        assert!(bind(&config).unwrap().is_none());
    }
}
