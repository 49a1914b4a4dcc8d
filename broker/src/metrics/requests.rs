//! What is asked, what is answered, and how long that takes.

use std::{collections::BTreeMap, sync::Arc};

use gantry_service::metrics::{Families, Histogram, float};
use gantry_wire::codes::{request, response};

use super::{Compat, NATIVE_LABELS};
use crate::{
    live::LiveConfig,
    measures::{
        AllMeasures, Counted, LEG_ENDS_US, Leg, MADE_ENDS_MS, Made, REQUEST_ENDS_MS, Times,
    },
};

/// The parts that say so.
pub struct RequestSource {
    /// Configuration as it runs.
    pub live: Arc<LiveConfig>,
    /// What was counted.
    pub measures: Arc<AllMeasures>,
}

impl RequestSource {
    /// Adds its families.
    pub fn collect(&self, out: &mut Families) {
        let counted = self.measures.sum();
        legs(out, &counted);
        let mut answers: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (answered, times) in counted.requests() {
            let names = (
                request::name(answered.request),
                response::name(answered.response),
            );
            *answers.entry(names).or_default() += times.ranges.iter().sum::<u64>();
        }
        for ((request, response), count) in answers {
            out.counter(
                "gantry_requests_total",
                "Requests that were answered, by what they asked for and the code of the answer.",
                &[("request", request), ("response", response)],
                count,
            );
        }
        let config = self.live.now();
        if Compat::of(&config).native5 {
            let own = [&*config.broker_cluster_name, &*config.broker_name];
            native(out, &counted, own);
            made(out, &self.measures, own);
        }
    }
}

fn legs(out: &mut Families, counted: &Counted) {
    for leg in Leg::ALL {
        let (request, stage) = leg.names();
        histogram(
            out,
            "gantry_request_stage_seconds",
            "How long requests were in a stage of their way; of those that share a commit, as long as the first.",
            &[("request", request), ("stage", stage)],
            counted.of_leg(leg),
            &LEG_ENDS_US.map(|end| float(end) * 1e-6),
            1.0,
        );
    }
}

/// As RocketMQ 5 counts requests: in milliseconds, and all of one kind whether it was a success or not.
fn native(out: &mut Families, counted: &Counted, [cluster, broker]: [&str; 2]) {
    for (answered, times) in counted.requests() {
        let request = request::name(answered.request).to_ascii_lowercase();
        let response = response::name(answered.response).to_ascii_lowercase();
        let held = if answered.was_held { "true" } else { "false" };
        let [node_type, cluster_label, node] = NATIVE_LABELS;
        histogram(
            out,
            "rocketmq_rpc_latency_milliseconds",
            "How long requests took, from their frame to their answer.",
            &[
                (node_type, "broker"),
                (cluster_label, cluster),
                (node, broker),
                ("protocol_type", "remoting"),
                ("request_code", &request),
                ("response_code", &response),
                ("is_long_polling", held),
                ("result", "success"),
            ],
            &times,
            &REQUEST_ENDS_MS.map(float),
            1e3,
        );
    }
}

fn made(out: &mut Families, measures: &AllMeasures, [cluster, broker]: [&str; 2]) {
    for ((made, is_success), times) in measures.all_made() {
        let status = if is_success { "success" } else { "failure" };
        let [node_type, cluster_label, node] = NATIVE_LABELS;
        let mut labels = vec![
            (node_type, "broker"),
            (cluster_label, cluster),
            (node, broker),
            ("invocation_status", status),
        ];
        let (name, help) = match made {
            Made::Topic => {
                // Those of the system are there from the start.
                labels.push(("is_system", "false"));
                (
                    "rocketmq_topic_create_execution_time_milliseconds",
                    "How long it took to create or change a topic.",
                )
            }
            Made::Group => (
                "rocketmq_consumer_group_create_execution_time_milliseconds",
                "How long it took to create or change a consumer group.",
            ),
        };
        histogram(
            out,
            name,
            help,
            &labels,
            &times,
            &MADE_ENDS_MS.map(float),
            1e3,
        );
    }
}

fn histogram<const RANGES: usize>(
    out: &mut Families,
    name: &str,
    help: &str,
    labels: &[(&str, &str)],
    times: &Times<RANGES>,
    ends: &[f64],
    units_a_second: f64,
) {
    let ranges: Vec<(f64, u64)> = ends.iter().copied().zip(times.ranges).collect();
    let histogram = Histogram {
        ranges: &ranges,
        beyond: times.ranges.last().copied().unwrap_or(0),
        sum: times.sum.as_secs_f64() * units_a_second,
    };
    out.histogram(name, help, labels, &histogram);
}
