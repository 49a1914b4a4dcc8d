//! `mqbench fill`: puts a given amount of messages into a broker, spread evenly over all queues of all topics.
//!
//! For stores of a known size: it ends when everything was acknowledged, and fails when something was refused.

use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::admin;
use crate::figures::{Clock, print_line};
use crate::frames::{IN_FLIGHT_MAX, Topics};
use crate::options::{Flag, Options, flag, preset};
use crate::poll::Poll;
use crate::send::{Load, body};

/// Options of `fill`.
pub(crate) const FLAGS: &[&[Flag]] = &[&[
    preset(
        "broker",
        "HOST:PORT",
        "127.0.0.1:10911",
        "the server, asked directly",
    ),
    preset("topic", "NAME", "mqbench", "topic"),
    preset(
        "topics",
        "N",
        "1",
        "topics; more than one: --topic with a number behind it",
    ),
    preset("queues", "N", "8", "queues of each topic"),
    preset(
        "bytes",
        "SIZE",
        "1g",
        "bytes of bodies in all, with k, m or g",
    ),
    preset("size", "BYTES", "4096", "body size"),
    preset("connections", "N", "8", "connections"),
    preset("in-flight", "N", "64", "requests in flight on each"),
    flag("create-topic", "", "create the topics first (code 17)"),
    flag("json", "", "one JSON object instead of text"),
]];

/// A number of bytes, written with k, m or g.
struct Size(u64);

impl FromStr for Size {
    type Err = ();

    fn from_str(text: &str) -> Result<Size, ()> {
        let (digits, shift) = match text.strip_suffix(['k', 'K']) {
            Some(digits) => (digits, 10),
            None => match text.strip_suffix(['m', 'M']) {
                Some(digits) => (digits, 20),
                None => text
                    .strip_suffix(['g', 'G'])
                    .map_or((text, 0), |digits| (digits, 30)),
            },
        };
        let number: u64 = digits.parse().map_err(|_| ())?;
        number.checked_mul(1 << shift).map(Size).ok_or(())
    }
}

/// Runs `mqbench fill`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let queues = options.number("queues", 1, 1_024)?;
    let count = options.number("topics", 1, 99_999)?;
    let topics = Topics::new(options.text("topic").context("--topic")?, count, queues)?;
    let size = options.number("size", 1, 4 << 20)?;
    let shape = (
        options.number("connections", 1, 10_000)?,
        options.number("in-flight", 1, IN_FLIGHT_MAX)?,
    );
    let Size(bytes) = options.value("bytes")?;
    let messages = bytes.div_ceil(size as u64);
    ensure!(0 < messages, "--bytes 0 is nothing");
    let clock = Clock::bare();
    admin::prepare_topics(options, &topics)?;
    let created = clock.now();
    let mut poll = Poll::new()?;
    let address = options.text("broker").context("--broker")?;
    let mut load = Load::open(address, &topics, shape, &body(size), &poll)?;
    load.send_all(&mut poll, &clock, messages)?;
    let seconds = (clock.now() - created) as f64 / 1e9;
    if options.is_on("json") {
        let line = json!({
            "what": "fill",
            "messages": messages,
            "bytes": load.figures.bytes,
            "messages_per_second": messages as f64 / seconds,
            "seconds": seconds,
            "topics_created_seconds": created as f64 / 1e9,
        });
        print_line(&line.to_string());
    } else {
        let mib = load.figures.bytes as f64 / f64::from(1 << 20);
        print_line(&format!(
            "fill: {messages} messages, {mib:.0} MiB in {seconds:.1} s ({:.0} MiB/s)",
            mib / seconds
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::null;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("7", Some(7)),
            ("2k", Some(2 << 10)),
            ("3M", Some(3 << 20)),
            ("10g", Some(10 << 30)),
            ("g", None),
            ("1.5g", None),
            ("99999999999g", None),
        ] {
            let read: Option<Size> = text.parse().ok();
            assert_eq!(read.map(|size| size.0), expected, "{text}");
        }
    }

    #[test]
    fn exactly_what_was_asked_for_is_sent() {
        let (address, server) = null::in_background();
        let given = [
            "--broker",
            &address,
            "--topics",
            "3",
            "--queues",
            "2",
            "--bytes",
            "100k",
            "--size",
            "1000",
            "--create-topic",
        ];
        let options = Options::parse(FLAGS, given.map(str::to_owned)).unwrap();
        run(&options).unwrap();
        let mut poll = Poll::new().unwrap();
        let topics = Topics::new("T", 3, 2).unwrap();
        let mut load = Load::open(&address, &topics, (2, 3), b"x", &poll).unwrap();
        load.send_all(&mut poll, &Clock::bare(), 103).unwrap();
        assert_eq!(load.figures.messages, 103);
        drop(server);
    }
}
