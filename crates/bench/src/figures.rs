//! What a run measured, and how it is printed: text for people, JSON for scripts.
//!
//! A run has a warm-up, which is not counted, and a window, which is. [`Clock`] says which it is and looks at the
//! server's process at both ends of the window.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::options::{Flag, Options, flag, preset};
use crate::process::{self, Usage};

/// Options of every measuring subcommand.
pub(crate) const FLAGS: &[Flag] = &[
    preset(
        "broker",
        "HOST:PORT",
        "127.0.0.1:10911",
        "the server, asked directly",
    ),
    preset("topic", "NAME", "mqbench", "topic"),
    preset("time", "SECONDS", "10", "measured time"),
    preset("warmup", "SECONDS", "2", "time before that, not counted"),
    flag(
        "pid",
        "PID",
        "the server's process: reports its CPU per message and memory",
    ),
    flag("json", "", "one JSON object instead of text"),
    flag(
        "create-topic",
        "",
        "create the topic first (code 17), with --queues queues",
    ),
];

const NANOS: u64 = 1_000_000_000;

/// Where in a run we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Warmup,
    Window,
    Over,
}

/// The time line of a run.
pub(crate) struct Clock {
    began: Instant,
    window_ns: (u64, u64),
    pid: Option<u32>,
    at_start: Option<(u64, Option<Usage>)>,
    at_end: Option<(u64, Option<Usage>)>,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start(options: &Options) -> Result<Clock> {
        let warmup: f64 = options.value("warmup")?;
        let time: f64 = options.value("time")?;
        anyhow::ensure!(
            0.0 < time && time <= 3_600.0,
            "--time {time} is not between 0 and 3600"
        );
        anyhow::ensure!(
            (0.0..=3_600.0).contains(&warmup),
            "--warmup {warmup} is not between 0 and 3600"
        );
        let warmup_ns = Duration::from_secs_f64(warmup).as_nanos() as u64;
        let window_ns = (
            warmup_ns,
            warmup_ns + Duration::from_secs_f64(time).as_nanos() as u64,
        );
        let pid = options.maybe("pid")?;
        if let Some(pid) = pid {
            process::usage(pid)?;
        }
        Ok(Clock {
            began: Instant::now(),
            window_ns,
            pid,
            at_start: None,
            at_end: None,
        })
    }

    /// One without a window, for what ends by itself.
    pub(crate) fn bare() -> Clock {
        Clock {
            began: Instant::now(),
            window_ns: (0, u64::MAX),
            pid: None,
            at_start: None,
            at_end: None,
        }
    }

    /// Nanoseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        // 64 bits of nanoseconds are 584 years.
        self.began.elapsed().as_nanos() as u64
    }

    /// The phase at `now`, to be asked in order; looks at the server when the window opens and closes.
    pub(crate) fn phase(&mut self, now: u64) -> Phase {
        if now < self.window_ns.0 {
            return Phase::Warmup;
        }
        let look = |pid: Option<u32>| pid.and_then(|pid| process::usage(pid).ok());
        if self.at_start.is_none() {
            self.at_start = Some((now, look(self.pid)));
        }
        if now < self.window_ns.1 {
            return Phase::Window;
        }
        if self.at_end.is_none() {
            self.at_end = Some((now, look(self.pid)));
        }
        Phase::Over
    }

    /// When the window closes.
    pub(crate) fn end(&self) -> u64 {
        self.window_ns.1
    }

    fn window(&self) -> Option<Window> {
        let ((start, before), (end, after)) = (self.at_start?, self.at_end?);
        let cpu = before
            .zip(after)
            .map(|(before, after)| after.cpu.saturating_sub(before.cpu));
        Some(Window {
            seconds: (end - start) as f64 / NANOS as f64,
            cpu,
            resident: after.map(|usage| usage.resident),
        })
    }
}

struct Window {
    seconds: f64,
    cpu: Option<Duration>,
    resident: Option<u64>,
}

/// What was counted inside the window.
pub(crate) struct Figures {
    /// Messages.
    pub(crate) messages: u64,
    /// Bytes of messages.
    pub(crate) bytes: u64,
    /// Nanoseconds from when a request was due to its answer.
    pub(crate) latency: Histogram<u64>,
    /// Answers that are not code 0, by code.
    pub(crate) codes: BTreeMap<i32, u64>,
    /// Answers to nothing that was asked.
    pub(crate) unexpected: u64,
    /// Lines about this run only: name, value.
    pub(crate) notes: Vec<(&'static str, Value)>,
}

impl Figures {
    pub(crate) fn new() -> Result<Figures> {
        Ok(Figures {
            messages: 0,
            bytes: 0,
            latency: Histogram::new_with_bounds(1, 3_600 * NANOS, 3)?,
            codes: BTreeMap::new(),
            unexpected: 0,
            notes: Vec::new(),
        })
    }

    /// Records one latency.
    pub(crate) fn took(&mut self, nanos: u64) {
        self.latency.saturating_record(nanos);
    }

    /// Prints everything: `what` is the subcommand, `load` describes the load in words.
    pub(crate) fn print(
        &self,
        what: &str,
        load: &str,
        clock: &Clock,
        options: &Options,
    ) -> Result<()> {
        let Some(window) = clock.window() else {
            anyhow::bail!("the run ended before its window did")
        };
        let server = options.text("broker").unwrap_or_default();
        if options.is_on("json") {
            print_line(&self.json(what, load, server, &window).to_string());
        } else {
            print_line(&self.text(what, load, server, &window));
        }
        Ok(())
    }

    fn text(&self, what: &str, load: &str, server: &str, window: &Window) -> String {
        let rate = self.messages as f64 / window.seconds;
        let mut lines = vec![
            format!("{what} {server}: {load}, {:.1} s", window.seconds),
            format!("  messages/s      {rate:.0}"),
            format!(
                "  MB/s            {:.1}",
                self.bytes as f64 / window.seconds / 1e6
            ),
        ];
        if !self.latency.is_empty() {
            let at = |quantile: f64| micros(self.latency.value_at_quantile(quantile));
            lines.push(format!(
                "  latency us      p50 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}",
                at(0.5),
                at(0.99),
                at(0.999),
                micros(self.latency.max())
            ));
        }
        if let Some(cpu) = window.cpu {
            lines.push(format!(
                "  server CPU      {:.2} us a message",
                per_message(cpu, self.messages)
            ));
        }
        if let Some(resident) = window.resident {
            lines.push(format!(
                "  server memory   {:.1} MiB resident",
                resident as f64 / f64::from(1 << 20)
            ));
        }
        for (name, value) in &self.notes {
            lines.push(format!("  {name:<15} {value}"));
        }
        if self.codes.is_empty() && self.unexpected == 0 {
            lines.push("  refused         none".to_owned());
        }
        for (code, count) in &self.codes {
            lines.push(format!("  answered {code:<6} {count}"));
        }
        if 0 < self.unexpected {
            lines.push(format!(
                "  unexpected      {} answers to nothing that was asked",
                self.unexpected
            ));
        }
        lines.join("\n")
    }

    fn json(&self, what: &str, load: &str, server: &str, window: &Window) -> Value {
        let codes: Map<String, Value> = self
            .codes
            .iter()
            .map(|(code, count)| (code.to_string(), json!(count)))
            .collect();
        let notes: Map<String, Value> = self
            .notes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let at = |quantile: f64| micros(self.latency.value_at_quantile(quantile));
        json!({
            "what": what,
            "server": server,
            "load": load,
            "seconds": window.seconds,
            "messages": self.messages,
            "messages_per_second": self.messages as f64 / window.seconds,
            "bytes_per_second": self.bytes as f64 / window.seconds,
            "latency_us": {"p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "max": micros(self.latency.max())},
            "server_cpu_us_per_message": window.cpu.map(|cpu| per_message(cpu, self.messages)),
            "server_resident_bytes": window.resident,
            "refused": codes,
            "unexpected": self.unexpected,
            "notes": notes,
        })
    }
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

fn per_message(cpu: Duration, messages: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / messages.max(1) as f64
}

/// The one place that prints results.
#[expect(
    clippy::print_stdout,
    reason = "a command-line tool prints its results"
)]
pub(crate) fn print_line(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_say_the_same() {
        let mut figures = Figures::new().unwrap();
        figures.messages = 2_000;
        figures.bytes = 2_048_000;
        (1..=1000).for_each(|micros| figures.took(micros * 1000));
        figures.codes.insert(14, 3);
        let window = Window {
            seconds: 2.0,
            cpu: Some(Duration::from_millis(20)),
            resident: Some(3 << 20),
        };
        let text = figures.text("send", "1 x 1", "h:1", &window);
        for line in [
            "messages/s      1000",
            "MB/s            1.0",
            "10.00 us a message",
            "3.0 MiB",
            "answered 14     3",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let json = figures.json("send", "1 x 1", "h:1", &window);
        assert_eq!(json["messages_per_second"], 1000.0);
        assert_eq!(json["server_cpu_us_per_message"], 10.0);
        assert_eq!(json["refused"]["14"], 3);
        let p50 = json["latency_us"]["p50"].as_f64().unwrap();
        assert!((499.0..=501.0).contains(&p50), "{p50}");
    }
}
