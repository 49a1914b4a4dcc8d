//! One statistics item by name and key (315).

use std::sync::Arc;

use gantry_wire::bodies::{BrokerStatsData, BrokerStatsItem};
use gantry_wire::headers::ViewBrokerStatsData;
use gantry_wire::{Request, Response};

use crate::refusal::Refusal;
use crate::stats::{Figures as Sums, Stats};

/// The parts that requests for figures need.
pub struct Figures {
    /// The counters.
    pub stats: Arc<Stats>,
}

impl Figures {
    /// Serves 315.
    pub fn item(&self, request: &Request) -> Result<Response, Refusal> {
        let header: ViewBrokerStatsData<'_> = request.header()?;
        let item = self.stats.item(header.stats_name, header.stats_key);
        let item =
            item.ok_or_else(|| Refusal::stats_not_exist(header.stats_name, header.stats_key))?;
        let body = BrokerStatsData {
            stats_day: row(item.day),
            stats_hour: row(item.hour),
            stats_minute: row(item.minute),
        };
        Ok(Response::with_body(body.encode()))
    }
}

fn row(sums: Sums) -> BrokerStatsItem {
    BrokerStatsItem {
        avgpt: sums.avgpt,
        sum: i64::try_from(sums.sum).unwrap_or(i64::MAX),
        tps: sums.tps,
    }
}
