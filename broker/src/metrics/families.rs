//! The families of one scrape, and their text.

use std::collections::BTreeMap;

use prometheus::{
    Encoder, TextEncoder,
    proto::{self, LabelPair, Metric, MetricFamily, MetricType},
};

/// Families by name, as a scrape finds them.
#[derive(Default)]
pub struct Families(BTreeMap<String, MetricFamily>);

/// How often something took how long.
pub struct Histogram<'a> {
    /// Upper ends of the ranges, in the base unit, and how many fell into each; the last range has no end.
    pub ranges: &'a [(f64, u64)],
    /// How many were longer than the last end.
    pub beyond: u64,
    /// All of them together.
    pub sum: f64,
}

/// Names and values of labels.
type Labels<'a> = &'a [(&'a str, &'a str)];

impl Families {
    /// Something that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, labels: Labels<'_>, value: f64) {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        let mut metric = with(labels);
        metric.set_gauge(gauge);
        self.add(name, help, MetricType::GAUGE, metric);
    }

    /// Something that only grows until a restart. The name ends with `_total`.
    pub fn counter(&mut self, name: &str, help: &str, labels: Labels<'_>, value: u64) {
        debug_assert!(name.ends_with("_total"), "{name}");
        let mut counter = proto::Counter::default();
        counter.set_value(float(value));
        let mut metric = with(labels);
        metric.set_counter(counter);
        self.add(name, help, MetricType::COUNTER, metric);
    }

    /// How often something took how long.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram<'_>) {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(histogram.ranges.len());
        for (end, times) in histogram.ranges {
            count += times;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*end);
            bucket.set_cumulative_count(count);
            buckets.push(bucket);
        }
        let mut value = proto::Histogram::default();
        value.set_bucket(buckets);
        value.set_sample_count(count + histogram.beyond);
        value.set_sample_sum(histogram.sum);
        let mut metric = Metric::default();
        metric.set_histogram(value);
        self.add(name, help, MetricType::HISTOGRAM, metric);
    }

    fn add(&mut self, name: &str, help: &str, kind: MetricType, metric: Metric) {
        let family = self.0.entry(name.to_owned()).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            family.set_field_type(kind);
            family
        });
        assert_eq!(family.get_field_type(), kind, "{name} is of one kind");
        family.mut_metric().push(metric);
    }

    /// The text that Prometheus reads.
    pub(super) fn encode(self) -> Vec<u8> {
        let families: Vec<MetricFamily> = self.0.into_values().collect();
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            // Only a family without name or series is refused, and none such is made here.
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}

/// The nearest float; exact up to 2^53.
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

fn with(labels: Labels<'_>) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let mut families = Families::default();
        families.gauge("b", "Of a path.", &[("path", "/a \"b\"\n")], 0.5);
        families.gauge("b", "Of a path.", &[("path", "/c")], f64::from(7));
        families.counter("c_total", "Grows.", &[], 3);
        let histogram = Histogram {
            ranges: &[(0.1, 2), (0.5, 0)],
            beyond: 1,
            sum: 9.25,
        };
        families.histogram("a_seconds", "Takes.", &histogram);
        let expected = "# HELP a_seconds Takes.\n# TYPE a_seconds histogram\n\
                        a_seconds_bucket{le=\"0.1\"} 2\na_seconds_bucket{le=\"0.5\"} 2\n\
                        a_seconds_bucket{le=\"+Inf\"} 3\na_seconds_sum 9.25\na_seconds_count 3\n\
                        # HELP b Of a path.\n# TYPE b gauge\nb{path=\"/a \\\"b\\\"\\n\"} 0.5\nb{path=\"/c\"} 7\n\
                        # HELP c_total Grows.\n# TYPE c_total counter\nc_total 3\n";
        assert_eq!(String::from_utf8(families.encode()).unwrap(), expected);
    }
}
