//! The families of one scrape in the text form that Prometheus reads, and what every process says of itself.
//!
//! Series are given in any order and become text a few at a time, so that a scrape of a hundred thousand of them costs
//! their text and no more. Their number is bounded: what comes beyond is left out and counted, and whoever collects gives
//! what matters first. It knows no daemon's families; they belong to the parts that have the figures.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use prometheus::TextEncoder;
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};

use crate::http::Page;

/// So many series of a family wait to become text: as a tree of allocations each is several times as large.
const BATCH: usize = 32;
/// Text is kept in parts of about this size, which take no room beyond it and need not be joined.
const PART_BYTES: usize = 32 << 10;

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows until a restart.
    Counter,
    /// How often something was how large.
    Histogram,
}

impl Kind {
    fn of_proto(self) -> MetricType {
        match self {
            Self::Gauge => MetricType::GAUGE,
            Self::Counter => MetricType::COUNTER,
            Self::Histogram => MetricType::HISTOGRAM,
        }
    }
}

/// Families by name, as a scrape finds them.
#[derive(Debug)]
pub struct Families {
    families: BTreeMap<String, Family>,
    series: usize,
    series_max: usize,
    dropped: u64,
}

#[derive(Debug)]
struct Family {
    /// The latest series.
    waiting: MetricFamily,
    /// Those before them, below the lines of the family itself.
    text: Vec<Vec<u8>>,
    /// How long these lines are.
    head: usize,
}

impl Family {
    fn new(name: &str, help: &str, kind: Kind) -> Self {
        let mut waiting = MetricFamily::default();
        waiting.set_name(name.to_owned());
        waiting.set_help(help.to_owned());
        waiting.set_field_type(kind.of_proto());
        // The encoder takes no family without series: one goes in, and its lines out again.
        waiting.mut_metric().push(Metric::default());
        let mut lines = encode(&waiting);
        waiting.mut_metric().clear();
        let head = lines
            .split_inclusive('\n')
            .take_while(|line| line.starts_with('#'))
            .map(str::len)
            .sum();
        lines.truncate(head);
        Self {
            waiting,
            text: vec![lines.into_bytes()],
            head,
        }
    }

    fn push(&mut self, metric: Metric) {
        self.waiting.mut_metric().push(metric);
        if BATCH <= self.waiting.get_metric().len() {
            self.write();
        }
    }

    /// Makes text of what waits.
    fn write(&mut self) {
        if self.waiting.get_metric().is_empty() {
            return;
        }
        let lines = encode(&self.waiting);
        let lines = &lines.as_bytes()[self.head..];
        self.waiting.mut_metric().clear();
        match self.text.last_mut() {
            Some(part) if part.len() + lines.len() <= PART_BYTES => part.extend_from_slice(lines),
            _ => self.text.push(lines.to_vec()),
        }
    }
}

fn encode(family: &MetricFamily) -> String {
    let mut text = String::new();
    // Strings take everything, and only a family without name or series is refused.
    let done = TextEncoder::new().encode_utf8(std::slice::from_ref(family), &mut text);
    debug_assert!(done.is_ok(), "{done:?}");
    text
}

/// How often something took how long.
#[derive(Clone, Copy, Debug)]
pub struct Histogram<'a> {
    /// Upper ends of the ranges, in the base unit, and how many fell into each; the last range has no end.
    pub ranges: &'a [(f64, u64)],
    /// How many were longer than the last end.
    pub beyond: u64,
    /// All of them together.
    pub sum: f64,
}

/// Names and values of labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Default for Families {
    fn default() -> Self {
        Self::at_most(usize::MAX)
    }
}

impl Families {
    /// For so many series.
    pub fn at_most(series_max: usize) -> Self {
        Self {
            families: BTreeMap::new(),
            series: 0,
            series_max,
            dropped: 0,
        }
    }

    /// Something that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, labels: Labels<'_>, value: f64) {
        if let Some(family) = self.room(name, help, Kind::Gauge, 1) {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            let mut metric = Metric::from_label(pairs(labels));
            metric.set_gauge(gauge);
            family.push(metric);
        }
    }

    /// Something that only grows until a restart. The name ends with `_total`.
    pub fn counter(&mut self, name: &str, help: &str, labels: Labels<'_>, value: u64) {
        self.amount(name, help, labels, float(value));
    }

    /// As [`Families::counter`], of something that is no whole number.
    pub fn amount(&mut self, name: &str, help: &str, labels: Labels<'_>, value: f64) {
        debug_assert!(name.ends_with("_total"), "{name}");
        if let Some(family) = self.room(name, help, Kind::Counter, 1) {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            let mut metric = Metric::from_label(pairs(labels));
            metric.set_counter(counter);
            family.push(metric);
        }
    }

    /// How often something took how long.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: Labels<'_>,
        histogram: &Histogram<'_>,
    ) {
        let series = histogram.ranges.len() + 3;
        let Some(family) = self.room(name, help, Kind::Histogram, series) else {
            return;
        };
        let mut count = 0;
        let buckets = histogram.ranges.iter().map(|(end, times)| {
            count += times;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*end);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut of_proto = proto::Histogram::default();
        of_proto.set_bucket(buckets.collect());
        of_proto.set_sample_count(count + histogram.beyond);
        of_proto.set_sample_sum(histogram.sum);
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_histogram(of_proto);
        family.push(metric);
    }

    /// A family that has no series at present.
    pub fn declare(&mut self, name: &str, help: &str, kind: Kind) {
        self.family(name, help, kind);
    }

    /// From now on there is room for any.
    pub fn lift_limit(&mut self) {
        self.series_max = usize::MAX;
    }

    /// How many series there was no room for.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.series
    }

    fn room(&mut self, name: &str, help: &str, kind: Kind, series: usize) -> Option<&mut Family> {
        if self.series_max.saturating_sub(self.series) < series {
            self.dropped += series as u64;
            return None;
        }
        self.series += series;
        Some(self.family(name, help, kind))
    }

    fn family(&mut self, name: &str, help: &str, kind: Kind) -> &mut Family {
        if !self.families.contains_key(name) {
            let family = Family::new(name, help, kind);
            self.families.insert(name.to_owned(), family);
        }
        let Some(family) = self.families.get_mut(name) else {
            unreachable!("{name} was put there just now")
        };
        let is_same = family.waiting.get_field_type() == kind.of_proto();
        assert!(is_same, "{name} is of one kind");
        family
    }

    /// The text that Prometheus reads, in parts: it is many megabytes.
    pub fn encode(self) -> Vec<Vec<u8>> {
        let text = |mut family: Family| {
            family.write();
            family.text
        };
        self.families.into_values().flat_map(text).collect()
    }

    /// [`Families::encode`] as a page.
    pub fn page(self) -> Page {
        Page {
            status: "200 OK",
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body: self.encode(),
        }
    }
}

fn pairs(labels: Labels<'_>) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

/// The nearest float; exact up to 2^53.
pub fn float(value: u64) -> f64 {
    value as f64
}

/// 1 or 0.
pub fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

/// The answer to "are you well": yes, or every reason why not, a line each.
pub fn verdict(yes: &str, reasons: &[String]) -> Page {
    let (status, text) = if reasons.is_empty() {
        ("200 OK", yes.to_owned())
    } else {
        ("503 Service Unavailable", reasons.join("\n"))
    };
    Page {
        status,
        content_type: "text/plain; charset=utf-8",
        body: vec![(text + "\n").into_bytes()],
    }
}

/// What the log left out.
pub fn log(out: &mut Families) {
    let left_out = crate::logging::left_out();
    out.counter(
        "gantry_log_lines_dropped_total",
        "Log lines that found no room.",
        &[],
        left_out.dropped,
    );
    out.counter(
        "gantry_log_lines_suppressed_total",
        "Log lines that were left out because they came too often.",
        &[],
        left_out.suppressed,
    );
}

/// The families that every Prometheus client exports of its process. What the system does not say is left out.
pub fn process(out: &mut Families) {
    if let Ok((max, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let help = "Most file descriptors the process may have open.";
        out.gauge("process_max_fds", help, &[], float(max));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        let help = "File descriptors the process has open.";
        // The one that reads the folder is among them.
        let open = open.count().saturating_sub(1);
        out.gauge("process_open_fds", help, &[], float(open as u64));
    }
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let Some(stat) = Stat::parse(&stat) else {
        return;
    };
    let asked = |variable| sysconf(variable).ok().flatten();
    if let Some(ticks) = asked(SysconfVar::CLK_TCK).filter(|ticks| 0 < *ticks) {
        let seconds = |count: u64| float(count) / ticks as f64;
        let help = "Processor time the process has used, in user and system mode.";
        let name = "process_cpu_seconds_total";
        out.amount(name, help, &[], seconds(stat.cpu_ticks));
        let clock = |id| clock_gettime(id).map(Duration::from).ok();
        if let (Some(now), Some(up)) = (
            clock(ClockId::CLOCK_REALTIME),
            clock(ClockId::CLOCK_BOOTTIME),
        ) {
            let started = now.as_secs_f64() - up.as_secs_f64() + seconds(stat.started_ticks);
            let help = "When the process was started, in seconds since 1970 by the present clock.";
            // To whole seconds: it must not differ from scrape to scrape.
            out.gauge("process_start_time_seconds", help, &[], started.round());
        }
    }
    let help = "Threads of the process.";
    out.gauge("process_threads", help, &[], float(stat.threads));
    let help = "Address space of the process, mapped files included.";
    let name = "process_virtual_memory_bytes";
    out.gauge(name, help, &[], float(stat.virtual_bytes));
    if let Some(page) = asked(SysconfVar::PAGE_SIZE).and_then(|page| u64::try_from(page).ok()) {
        let help = "Memory of the process that is in RAM, pages of mapped files included.";
        let bytes = stat.resident_pages.saturating_mul(page);
        out.gauge("process_resident_memory_bytes", help, &[], float(bytes));
    }
}

/// What `/proc/self/stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    started_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name of the program is in brackets and may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc(5) counts from 1, and the state behind the name is field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.saturating_add(field(15)?),
            threads: field(20)?,
            started_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let mut families = Families::default();
        families.gauge("b", "Of a path.", &[("path", "/a \"b\"\n\\")], 0.5);
        families.gauge("b", "Of a path.", &[("path", "/c")], f64::from(7));
        families.counter("c_total", "Grows\nand \\ grows.", &[], 3);
        families.declare("d", "Nothing yet.", Kind::Gauge);
        families.gauge("e", "Odd.", &[], f64::NAN);
        let histogram = Histogram {
            ranges: &[(0.1, 2), (0.5, 0)],
            beyond: 1,
            sum: 9.25,
        };
        families.histogram("a_seconds", "Takes.", &[("of", "x")], &histogram);
        let expected = "# HELP a_seconds Takes.\n# TYPE a_seconds histogram\n\
                        a_seconds_bucket{of=\"x\",le=\"0.1\"} 2\na_seconds_bucket{of=\"x\",le=\"0.5\"} 2\n\
                        a_seconds_bucket{of=\"x\",le=\"+Inf\"} 3\na_seconds_sum{of=\"x\"} 9.25\n\
                        a_seconds_count{of=\"x\"} 3\n\
                        # HELP b Of a path.\n# TYPE b gauge\nb{path=\"/a \\\"b\\\"\\n\\\\\"} 0.5\nb{path=\"/c\"} 7\n\
                        # HELP c_total Grows\\nand \\\\ grows.\n# TYPE c_total counter\nc_total 3\n\
                        # HELP d Nothing yet.\n# TYPE d gauge\n\
                        # HELP e Odd.\n# TYPE e gauge\ne NaN\n";
        assert_eq!(
            String::from_utf8(families.encode().concat()).unwrap(),
            expected
        );
    }

    /// Families are told in one piece each, however their series come.
    #[test]
    fn series_in_any_order_stand_below_their_families() {
        let mut families = Families::default();
        let count = 3 * BATCH + 1;
        let numbers: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        for number in &numbers {
            families.gauge("b", "B.", &[("n", number)], 1.0);
            families.counter("a_total", "A.", &[("n", number)], 2);
        }
        let mut expected = String::new();
        for (name, help, kind, value) in [("a_total", "A.", "counter", 2), ("b", "B.", "gauge", 1)]
        {
            expected += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
            let line = |number: &String| format!("{name}{{n=\"{number}\"}} {value}\n");
            expected.extend(numbers.iter().map(line));
        }
        assert_eq!(
            String::from_utf8(families.encode().concat()).unwrap(),
            expected
        );
    }

    #[test]
    fn series_beyond_the_limit_are_left_out_and_counted() {
        let mut families = Families::at_most(5);
        let histogram = Histogram {
            ranges: &[(1.0, 1)],
            beyond: 0,
            sum: 1.0,
        };
        families.histogram("a", "A.", &[], &histogram);
        families.histogram("a", "A.", &[("b", "c")], &histogram);
        families.gauge("b", "B.", &[], 1.0);
        families.gauge("b", "B.", &[("c", "d")], 1.0);
        assert_eq!((families.series(), families.dropped()), (5, 5));
        let text = String::from_utf8(families.encode().concat()).unwrap();
        assert_eq!(
            text.lines().filter(|line| !line.starts_with('#')).count(),
            5
        );
    }

    #[test]
    fn a_process_says_the_usual_things() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 1 2 3 4 50 60 0 0 20 0 9 0 1234 5678 90 18446744073709551615";
        assert_eq!(
            Stat::parse(stat),
            Some(Stat {
                cpu_ticks: 110,
                threads: 9,
                started_ticks: 1234,
                virtual_bytes: 5678,
                resident_pages: 90
            })
        );
        assert_eq!(Stat::parse("7 (a) S 1"), None);
        let mut families = Families::default();
        process(&mut families);
        let text = String::from_utf8(families.encode().concat()).unwrap();
        for name in [
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_threads",
            "process_virtual_memory_bytes",
        ] {
            assert!(text.contains(&format!("\n{name} ")), "{name}: {text}");
        }
    }
}
