//! `mqbench pull`: one consumer loop a queue, each with one pull of 32 messages in flight.
//!
//! A loop that reaches the end of its queue begins again at its first message, so that a short log is enough for a
//! long run. Nothing is committed.

use anyhow::{Context, Result, bail};
use serde_json::json;
use std::time::Duration;

use crate::admin::{Line, prepare_topics};
use crate::connection::Connection;
use crate::figures::{self, Clock, Figures, Phase};
use crate::frames::{Answer, OPAQUE_BASE, Topics, record_sizes, request};
use crate::options::{Flag, Options, preset};
use crate::poll::Poll;

/// Options of `pull`.
pub(crate) const FLAGS: &[&[Flag]] = &[
    figures::FLAGS,
    &[
        preset(
            "connections",
            "N",
            "8",
            "connections, the queues are spread over them",
        ),
        preset("queues", "N", "8", "queues to read, from 0"),
        preset("batch", "N", "32", "messages asked for at once"),
        preset("group", "NAME", "mqbench", "consumer group"),
    ],
];

const PULL_CODE: i32 = 11;
/// The subscription is in the request: no heartbeat is needed.
const WITH_SUBSCRIPTION: &str = "4";
const FOUND: i32 = 0;
const NOT_FOUND: i32 = 19;
const RETRY: i32 = 20;
const MOVED: i32 = 21;
const IDLE_WAIT: Duration = Duration::from_millis(100);

struct Loop {
    connection: usize,
    first: i64,
    next: i64,
    asked: u64,
}

struct Load<'a> {
    topic: &'a str,
    group: &'a str,
    batch: String,
    connections: Vec<Connection>,
    loops: Vec<Loop>,
    pulls: u64,
    wraps: u64,
    figures: Figures,
}

/// Runs `mqbench pull`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let queues = options.number("queues", 1, 1_024)?;
    let connections = options.number("connections", 1, 10_000)?.min(queues);
    let batch = options.number("batch", 1, 1_024)?;
    let topic = options.text("topic").context("--topic")?;
    prepare_topics(options, &Topics::new(topic, 1, queues)?)?;
    let mut poll = Poll::new()?;
    let mut load = Load::open(options, connections, queues, batch, &poll)?;
    let mut clock = Clock::start(options)?;
    load.drive(&mut poll, &mut clock)?;
    load.figures.notes = vec![("pulls", json!(load.pulls)), ("wraps", json!(load.wraps))];
    let words = format!("{queues} queues over {connections} connections, {batch} messages a pull");
    load.figures.print("pull", &words, &clock, options)
}

impl<'a> Load<'a> {
    fn open(
        options: &'a Options,
        connections: usize,
        queues: usize,
        batch: usize,
        poll: &Poll,
    ) -> Result<Load<'a>> {
        let address = options.text("broker").context("--broker")?;
        let topic = options.text("topic").context("--topic")?;
        let mut line = Line::open(address)?;
        let mut loops = Vec::with_capacity(queues);
        for queue in 0..queues {
            let first = line.min_offset(topic, queue)?.max(0);
            if line.max_offset(topic, queue)? <= first {
                bail!("queue {queue} of {topic} is empty: send first, or ask for fewer --queues");
            }
            loops.push(Loop {
                connection: queue % connections,
                first,
                next: first,
                asked: 0,
            });
        }
        let mut links = Vec::with_capacity(connections);
        for token in 0..connections {
            let connection = Connection::open(address)?;
            poll.watch(&connection, token)?;
            links.push(connection);
        }
        let group = options.text("group").context("--group")?;
        let figures = Figures::new()?;
        Ok(Load {
            topic,
            group,
            batch: batch.to_string(),
            connections: links,
            loops,
            pulls: 0,
            wraps: 0,
            figures,
        })
    }

    fn drive(&mut self, poll: &mut Poll, clock: &mut Clock) -> Result<()> {
        for queue in 0..self.loops.len() {
            self.ask(queue, clock.now())?;
        }
        self.connections
            .iter_mut()
            .try_for_each(Connection::flush)?;
        let mut ready = Vec::new();
        loop {
            let phase = clock.phase(clock.now());
            if phase == Phase::Over {
                return Ok(());
            }
            ready.extend(poll.wait(IDLE_WAIT)?);
            for at in ready.drain(..) {
                self.take_answers(at, clock, phase == Phase::Window)
                    .with_context(|| format!("connection {at}"))?;
                self.connections[at].flush()?;
            }
        }
    }

    fn ask(&mut self, queue: usize, now: u64) -> Result<()> {
        let this = &mut self.loops[queue];
        this.asked = now;
        let fields = [
            ("consumerGroup", self.group),
            ("topic", self.topic),
            ("queueId", &queue.to_string()),
            ("queueOffset", &this.next.to_string()),
            ("maxMsgNums", &self.batch),
            ("sysFlag", WITH_SUBSCRIPTION),
            ("commitOffset", "0"),
            ("suspendTimeoutMillis", "15000"),
            ("subscription", "*"),
            ("subVersion", "0"),
            ("expressionType", "TAG"),
        ];
        let frame = request(PULL_CODE, OPAQUE_BASE + u32::try_from(queue)?, &fields)?;
        self.connections[this.connection]
            .output
            .extend_from_slice(&frame);
        Ok(())
    }

    fn take_answers(&mut self, at: usize, clock: &Clock, counted: bool) -> Result<()> {
        let mut more = true;
        while more {
            more = self.connections[at].read()?;
            let now = clock.now();
            while let Some(frame) = self.connections[at].input.frame()? {
                let answer = Answer::read(frame)?;
                let queue = answer.opaque.wrapping_sub(OPAQUE_BASE) as usize;
                let Some(this) = self.loops.get_mut(queue) else {
                    self.figures.unexpected += 1;
                    continue;
                };
                if counted {
                    self.pulls += 1;
                    self.figures.took(now.saturating_sub(this.asked));
                }
                match answer.code {
                    FOUND => {
                        let count = record_sizes(answer.body).count() as u64;
                        if counted {
                            self.figures.messages += count;
                            self.figures.bytes += answer.body.len() as u64;
                        }
                        this.next = answer
                            .field("nextBeginOffset")
                            .context("a pull answer without nextBeginOffset")?;
                    }
                    NOT_FOUND | RETRY | MOVED => {
                        this.next = this.first;
                        self.wraps += 1;
                    }
                    code => bail!("a pull was answered {code}: {}", answer.remark()),
                }
                self.ask(queue, now)?;
            }
        }
        Ok(())
    }
}
