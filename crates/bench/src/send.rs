//! `mqbench send`: many requests in flight over many connections, from one thread.
//!
//! Without a rate the load is a closed loop: an answer makes the next request due at once. With a rate it is open:
//! request k is due k/rate seconds after the start, whether or not the server keeps up, and its latency counts from
//! there. Everything the kernel has for a connection is handled before its answers' successors go out in one write.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::admin;
use crate::connection::Connection;
use crate::figures::{self, Clock, Figures, Phase};
use crate::frames::{Answer, IN_FLIGHT_MAX, OPAQUE_BASE, SendFrame, Topics};
use crate::options::{Flag, Options, preset};
use crate::poll::Poll;

/// Options of `send`.
pub(crate) const FLAGS: &[&[Flag]] = &[
    figures::FLAGS,
    &[
        preset("connections", "N", "32", "connections"),
        preset(
            "in-flight",
            "N",
            "1",
            "requests in flight on each connection",
        ),
        preset("size", "BYTES", "1024", "body size"),
        preset("queues", "N", "8", "queues of each topic, used in turn"),
        preset(
            "topics",
            "N",
            "1",
            "topics, used in turn; more than one: --topic with a number behind it",
        ),
        preset(
            "rate",
            "N",
            "0",
            "messages a second over all connections, 0: as many as are answered",
        ),
    ],
];

const SIZE_MAX: usize = 4 << 20;
/// While a connection has more than this unsent, it gets no more requests.
const UNSENT_MAX: usize = 1 << 20;
const IDLE_WAIT: Duration = Duration::from_millis(100);

struct Link {
    connection: Connection,
    /// When the request in each slot was due; `None` is a free slot.
    due: Vec<Option<u64>>,
}

pub(crate) struct Load {
    links: Vec<Link>,
    /// Free slots: connection, slot.
    free: VecDeque<(usize, usize)>,
    /// One for each queue number; they go to one topic after the other.
    templates: Vec<SendFrame>,
    topics: usize,
    sent: u64,
    /// No more than this is sent.
    limit: u64,
    answered: u64,
    /// Nanoseconds between two requests of an open loop.
    interval: Option<f64>,
    pub(crate) figures: Figures,
    size: usize,
}

/// A body of that many letters.
pub(crate) fn body(size: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(size).collect()
}

/// Runs `mqbench send`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (figures, clock, words) = measure(options)?;
    figures.print("send", &words, &clock, options)
}

/// The run itself: what was counted, its clock, and the load in words.
fn measure(options: &Options) -> Result<(Figures, Clock, String)> {
    let connections = options.number("connections", 1, 10_000)?;
    let in_flight = options.number("in-flight", 1, IN_FLIGHT_MAX)?;
    let queues = options.number("queues", 1, 1_024)?;
    let size = options.number("size", 0, SIZE_MAX)?;
    let count = options.number("topics", 1, 99_999)?;
    let topics = Topics::new(options.text("topic").context("--topic")?, count, queues)?;
    let rate: f64 = options.value("rate")?;
    anyhow::ensure!(
        (0.0..=1e9).contains(&rate),
        "--rate {rate} is not between 0 and 1000000000"
    );
    admin::prepare_topics(options, &topics)?;

    let mut poll = Poll::new()?;
    let mut load = Load::open(
        options.text("broker").context("--broker")?,
        &topics,
        (connections, in_flight),
        &body(size),
        &poll,
    )?;
    load.interval = (0.0 < rate).then(|| 1e9 / rate);
    let mut clock = Clock::start(options)?;
    load.drive(&mut poll, &mut clock)?;

    let pace = if rate == 0.0 {
        "as fast as answered".to_owned()
    } else {
        format!("{rate}/s")
    };
    let words = format!(
        "{connections} connections x {in_flight} in flight, {size} bytes, {count} x {queues} queues, {pace}"
    );
    Ok((load.figures, clock, words))
}

impl Load {
    pub(crate) fn open(
        address: &str,
        topics: &Topics<'_>,
        (connections, in_flight): (usize, usize),
        body: &[u8],
        poll: &Poll,
    ) -> Result<Load> {
        let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
        let templates: Result<Vec<_>> = (0..topics.queues)
            .map(|queue| SendFrame::new(topics, queue, run, body))
            .collect();
        let mut links = Vec::with_capacity(connections);
        for token in 0..connections {
            let connection = Connection::open(address)?;
            poll.watch(&connection, token)?;
            links.push(Link {
                connection,
                due: vec![None; in_flight],
            });
        }
        let free = (0..in_flight)
            .flat_map(|slot| (0..connections).map(move |link| (link, slot)))
            .collect();
        Ok(Load {
            links,
            free,
            templates: templates?,
            topics: topics.count,
            sent: 0,
            limit: u64::MAX,
            answered: 0,
            interval: None,
            figures: Figures::new()?,
            size: body.len(),
        })
    }

    fn drive(&mut self, poll: &mut Poll, clock: &mut Clock) -> Result<()> {
        let mut ready = Vec::new();
        let mut touched = Vec::new();
        let mut born = 0;
        loop {
            let now = clock.now();
            let phase = clock.phase(now);
            if phase == Phase::Over {
                break;
            }
            self.stamp(&mut born)?;
            self.ask(now, &mut touched)?;
            for link in touched.drain(..) {
                self.flush(link)?;
            }
            ready.extend(poll.wait(self.until_due(clock.now()))?);
            for link in ready.drain(..) {
                self.take_answers(link, clock, phase == Phase::Window)?;
                self.flush(link)?;
            }
        }
        if let Some(interval) = self.interval {
            let due = (clock.end() as f64 / interval) as u64;
            self.figures
                .notes
                .push(("overdue", json!(due.saturating_sub(self.sent))));
        }
        Ok(())
    }

    /// Puts the present millisecond into the frames.
    fn stamp(&mut self, born: &mut u64) -> Result<()> {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        if millis != *born {
            *born = millis;
            self.templates
                .iter_mut()
                .for_each(|template| template.set_born(millis));
        }
        Ok(())
    }

    /// Sends what is due now on whatever slots are free.
    fn ask(&mut self, now: u64, touched: &mut Vec<usize>) -> Result<()> {
        // One look at every slot at most: those of a connection that takes nothing stay where they are.
        for _ in 0..self.free.len() {
            let due = match self.interval {
                Some(interval) => (self.sent as f64 * interval) as u64,
                None => now,
            };
            if now < due || self.limit <= self.sent {
                break;
            }
            let Some((at, slot)) = self.free.pop_front() else {
                break;
            };
            let link = &mut self.links[at];
            if UNSENT_MAX < link.connection.unsent() {
                self.free.push_back((at, slot));
                continue;
            }
            let opaque = OPAQUE_BASE + u32::try_from(slot)?;
            if link.connection.unsent() == 0 || touched.last() != Some(&at) {
                touched.push(at);
            }
            self.push(at, slot, opaque, due);
        }
        Ok(())
    }

    /// The next request: message by message another topic, and after all topics another queue.
    fn push(&mut self, at: usize, slot: usize, opaque: u32, due: u64) {
        let topic = self.sent % self.topics as u64;
        let queue = (self.sent / self.topics as u64) % self.templates.len() as u64;
        let template = &mut self.templates[queue as usize];
        template.set_topic(topic as usize);
        let link = &mut self.links[at];
        template.push(&mut link.connection.output, opaque, self.sent);
        link.due[slot] = Some(due);
        self.sent += 1;
    }

    /// Sends `count` messages as fast as they are answered; an error when one is refused.
    pub(crate) fn send_all(&mut self, poll: &mut Poll, clock: &Clock, count: u64) -> Result<()> {
        self.limit = count;
        let (mut touched, mut ready, mut born) = (Vec::new(), Vec::new(), 0);
        while self.answered < count {
            self.stamp(&mut born)?;
            self.ask(clock.now(), &mut touched)?;
            for link in touched.drain(..) {
                self.flush(link)?;
            }
            ready.extend(poll.wait(IDLE_WAIT)?);
            for link in ready.drain(..) {
                self.take_answers(link, clock, true)?;
                self.flush(link)?;
            }
            if let Some((code, refused)) = self.figures.codes.first_key_value() {
                bail!("{refused} messages were answered {code}");
            }
        }
        Ok(())
    }

    fn until_due(&self, now: u64) -> Duration {
        match self.interval {
            Some(interval) if !self.free.is_empty() => {
                Duration::from_nanos(((self.sent as f64 * interval) as u64).saturating_sub(now))
                    .min(IDLE_WAIT)
            }
            _ => IDLE_WAIT,
        }
    }

    fn flush(&mut self, link: usize) -> Result<()> {
        self.links[link]
            .connection
            .flush()
            .with_context(|| format!("connection {link}"))
    }

    /// Reads until nothing is left; in a closed loop each answer is followed by the next request at once.
    fn take_answers(&mut self, at: usize, clock: &Clock, counted: bool) -> Result<()> {
        loop {
            let sent = self.sent;
            let more = self.links[at]
                .connection
                .read()
                .with_context(|| format!("connection {at}, {sent} sent"))?;
            let now = clock.now();
            loop {
                let link = &mut self.links[at];
                let Some(frame) = link.connection.input.frame()? else {
                    break;
                };
                let answer = Answer::read(frame)?;
                let (code, opaque) = (answer.code, answer.opaque);
                let slot = opaque.wrapping_sub(OPAQUE_BASE) as usize;
                let Some(due) = link.due.get_mut(slot).and_then(Option::take) else {
                    self.figures.unexpected += 1;
                    continue;
                };
                if counted {
                    self.figures.took(now.saturating_sub(due));
                    if code == 0 {
                        self.figures.messages += 1;
                        self.figures.bytes += self.size as u64;
                    } else {
                        *self.figures.codes.entry(code).or_default() += 1;
                    }
                }
                self.answered += 1;
                let is_next = self.interval.is_none() && self.sent < self.limit;
                if is_next && link.connection.unsent() <= UNSENT_MAX {
                    self.push(at, slot, opaque, now);
                } else {
                    self.free.push_back((at, slot));
                }
            }
            if !more {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::null;

    fn figures(arguments: &[&str]) -> Figures {
        let (address, server) = null::in_background();
        let broker = [
            "--broker",
            &address,
            "--warmup",
            "0",
            "--time",
            "0.2",
            "--create-topic",
        ];
        let given = broker
            .iter()
            .chain(arguments)
            .map(|argument| (*argument).to_owned());
        let (figures, clock, words) = measure(&Options::parse(FLAGS, given).unwrap()).unwrap();
        figures
            .print(
                "send",
                &words,
                &clock,
                &Options::parse(FLAGS, ["--json".to_owned()]).unwrap(),
            )
            .unwrap();
        drop(server);
        figures
    }

    #[test]
    fn a_closed_loop_keeps_asking_and_counts_every_answer() {
        let figures = figures(&["--connections", "3", "--in-flight", "5"]);
        assert!(100 < figures.messages, "{} messages", figures.messages);
        assert_eq!(figures.latency.len(), figures.messages);
        assert_eq!((figures.codes.len(), figures.unexpected), (0, 0));
        assert_eq!(figures.bytes, figures.messages * 1_024);
    }

    #[test]
    fn an_open_loop_asks_no_more_than_is_due() {
        let figures = figures(&[
            "--connections",
            "2",
            "--in-flight",
            "4",
            "--rate",
            "500",
            "--size",
            "10",
        ]);
        assert!(
            (1..=101).contains(&figures.messages),
            "{} messages",
            figures.messages
        );
        assert_eq!(figures.notes[0].0, "overdue");
        assert_eq!((figures.codes.len(), figures.unexpected), (0, 0));
    }
}
