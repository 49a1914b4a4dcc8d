//! A ledger of acknowledged sends, and the load that fills it: what it says must be found again, exactly.
//!
//! Each sender has a connection of its own and keeps a window of sends in flight. Only what the broker acknowledged is
//! entered; what was in flight when the connection died is unknown and counts for nothing.

use std::collections::HashMap;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::frame::{Answer, Wire};
use crate::record::{self, Record};
use crate::wait::until;

/// One acknowledged send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The queue it went to.
    pub queue_id: u32,
    /// Where the broker said it is.
    pub queue_offset: u64,
    /// The id the broker gave it; holds the place in the log.
    pub id: String,
    /// What was sent.
    pub body: Vec<u8>,
}

/// What senders are to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The broker.
    pub address: String,
    /// The topic, which must have that many queues.
    pub topic: String,
    /// Sender n takes queue n modulo this.
    pub queues: u32,
    /// How many senders, each with a connection.
    pub senders: u32,
    /// Makes the bodies of this load different from those of another.
    pub round: u32,
    /// How many messages each sends; `None`: until told to stop.
    pub each: Option<u32>,
}

/// Senders under way.
#[derive(Debug)]
pub struct Senders {
    threads: Vec<JoinHandle<Result<Vec<Entry>>>>,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    /// What ended the first sender that did not end by itself.
    broken: Arc<OnceLock<String>>,
}

impl Senders {
    /// Starts them.
    pub fn start(plan: &Plan) -> Senders {
        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(AtomicU64::new(0));
        let broken = Arc::new(OnceLock::new());
        // All are connected before the first one sends: whoever sees an acknowledgement may kill the broker.
        let wires: Vec<Result<Wire>> = (0..plan.senders)
            .map(|_| Wire::connect(&plan.address))
            .collect();
        let threads = (0..plan.senders)
            .zip(wires)
            .map(|(sender, wire)| {
                let plan = plan.clone();
                let (stop, acked) = (Arc::clone(&stop), Arc::clone(&acked));
                let broken = Arc::clone(&broken);
                std::thread::spawn(move || {
                    let mut work = Sender {
                        wire: wire?,
                        tag: format!("{}/{sender}", plan.round),
                        queue_id: sender % plan.queues,
                        each: plan.each.unwrap_or(u32::MAX),
                        topic: plan.topic,
                        pending: HashMap::new(),
                        entries: Vec::new(),
                    };
                    let ended = work.run(&stop, &acked);
                    if let Err(end) = &ended {
                        let _ = broken.set(format!("sender {sender}: {:#}", end.reason()));
                    }
                    match ended {
                        Err(End::Failed(error)) => Err(error),
                        Ok(()) | Err(End::Disconnected(_)) => Ok(work.entries),
                    }
                })
            })
            .collect();
        Senders {
            threads,
            stop,
            acked,
            broken,
        }
    }

    /// How many sends were acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Whether all senders have ended.
    pub fn done(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits until that many sends were acknowledged in all.
    pub fn await_acked(&self, count: u64) -> Result<()> {
        until(&format!("{count} acknowledged sends"), || {
            // In this order: the last one may end between the two questions.
            let done = self.done();
            let enough = self.acked() >= count;
            ensure!(
                enough || !done,
                "all senders ended before {count} sends were acknowledged: {}",
                self.broken.get().map_or("all were sent", String::as_str)
            );
            Ok(enough)
        })
    }

    /// Ends them, whether the broker still lives or not, and returns what was acknowledged.
    pub fn finish(self) -> Result<Vec<Entry>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut entries = Vec::new();
        for thread in self.threads {
            match thread.join() {
                Ok(part) => entries.extend(part?),
                Err(_) => bail!("a sender panicked"),
            }
        }
        Ok(entries)
    }
}

struct Sender {
    wire: Wire,
    topic: String,
    tag: String,
    queue_id: u32,
    each: u32,
    pending: HashMap<i64, Vec<u8>>,
    entries: Vec<Entry>,
}

const WINDOW: usize = 16;

/// What ended a sender before it had sent all.
enum End {
    Disconnected(anyhow::Error),
    Failed(anyhow::Error),
}

impl End {
    fn reason(&self) -> &anyhow::Error {
        let (End::Disconnected(reason) | End::Failed(reason)) = self;
        reason
    }
}

impl Sender {
    /// Until all is sent, told to stop, or the connection breaks, which is how a killed broker looks.
    fn run(&mut self, stop: &AtomicBool, acked: &AtomicU64) -> Result<(), End> {
        let mut number = 0_u32;
        loop {
            while self.pending.len() < WINDOW && number < self.each && !stop.load(Ordering::Relaxed)
            {
                if self.post(number).is_err() {
                    break;
                }
                number += 1;
            }
            if self.pending.is_empty() {
                let _ = self.wire.stream().shutdown(Shutdown::Both);
                return Ok(());
            }
            let answer = self.wire.read().map_err(End::Disconnected)?;
            let entry = self.entry(answer).map_err(End::Failed)?;
            self.entries.push(entry);
            acked.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn entry(&mut self, answer: Answer) -> Result<Entry> {
        let body = self
            .pending
            .remove(&answer.opaque)
            .context("an answer to nothing")?;
        let answer = answer.success()?;
        Ok(Entry {
            queue_id: u32::try_from(answer.number("queueId")?)?,
            queue_offset: u64::try_from(answer.number("queueOffset")?)?,
            id: answer.field("msgId")?.to_owned(),
            body,
        })
    }

    fn post(&mut self, number: u32) -> Result<()> {
        // Sizes from a few bytes to a few KiB, so that records end anywhere in a page.
        let padding = usize::try_from(number.wrapping_mul(2_654_435_761) % 3000)?;
        let body = format!("{}/{number} {}", self.tag, "x".repeat(padding)).into_bytes();
        let opaque = send(&mut self.wire, &self.topic, self.queue_id, &body)?;
        self.pending.insert(i64::from(opaque), body);
        Ok(())
    }
}

/// Posts one send (310); the answer is the caller's to read.
pub fn send(wire: &mut Wire, topic: &str, queue_id: u32, body: &[u8]) -> Result<i32> {
    send_with(wire, topic, queue_id, body, "WAIT\u{1}true")
}

/// [`send`] with properties of one's own.
pub fn send_with(
    wire: &mut Wire,
    topic: &str,
    queue_id: u32,
    body: &[u8],
    properties: &str,
) -> Result<i32> {
    let queue_id = queue_id.to_string();
    let key = format!("UNIQ_KEY\u{1}{:08x}\u{2}{properties}", record::crc32(body));
    let fields = [
        ("a", "ledger"),
        ("b", topic),
        ("c", "TBW102"),
        ("d", "4"),
        ("e", &queue_id),
        ("f", "0"),
        ("g", "1700000000000"),
        ("h", "0"),
        ("i", &key),
        ("j", "0"),
        ("k", "false"),
        ("m", "false"),
    ];
    wire.post(310, &fields, body)
}

/// Pulls once (11), with the subscription in the request.
pub fn pull(wire: &mut Wire, topic: &str, queue_id: u32, offset: u64) -> Result<Answer> {
    let (queue_id, offset) = (queue_id.to_string(), offset.to_string());
    let fields = [
        ("consumerGroup", "ledger-reader"),
        ("topic", topic),
        ("queueId", &queue_id),
        ("queueOffset", &offset),
        ("maxMsgNums", "32"),
        ("sysFlag", "4"),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", "0"),
        ("subscription", "*"),
        ("subVersion", "0"),
        ("expressionType", "TAG"),
    ];
    wire.call(11, &fields, &[])
}

/// Everything in a queue, from its first message to `end`.
pub fn read_queue(wire: &mut Wire, topic: &str, queue_id: u32, end: u64) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut next = 0;
    while next < end {
        let answer = pull(wire, topic, queue_id, next)?;
        match answer.code {
            0 => records.extend(record::all(&answer.body)?),
            20 => {}
            _ => return Ok(records), // nothing there: the caller compares
        }
        let after = u64::try_from(answer.number("nextBeginOffset")?)?;
        ensure!(
            after > next,
            "queue {queue_id}: no progress at {next}: {answer:?}"
        );
        next = after;
    }
    Ok(records)
}

/// Sends 400 messages to each queue of a topic and waits until all are acknowledged.
pub fn fill(address: &str, topic: &str, queues: u32, round: u32) -> Result<Vec<Entry>> {
    const EACH: u32 = 400;
    let senders = Senders::start(&Plan {
        address: address.to_owned(),
        topic: topic.to_owned(),
        queues,
        senders: queues,
        round,
        each: Some(EACH),
    });
    senders.await_acked(u64::from(queues) * u64::from(EACH))?;
    senders.finish()
}

/// Checks that each entry is where the broker said, as it was sent, and that queues have no gap.
pub fn verify(address: &str, topic: &str, entries: &[Entry]) -> Result<()> {
    let mut wire = Wire::connect(address)?;
    wire.patience(Duration::from_secs(30))?;
    let mut by_queue: HashMap<u32, Vec<&Entry>> = HashMap::new();
    for entry in entries {
        by_queue.entry(entry.queue_id).or_default().push(entry);
    }
    for (queue_id, entries) in by_queue {
        let end = entries
            .iter()
            .map(|e| e.queue_offset + 1)
            .max()
            .unwrap_or(0);
        let records = read_queue(&mut wire, topic, queue_id, end)?;
        for (place, record) in records.iter().enumerate() {
            let expected = u64::try_from(place)?;
            ensure!(
                record.queue_offset == expected,
                "queue {queue_id}: message {} where {expected} was expected",
                record.queue_offset
            );
        }
        for entry in entries {
            let place = usize::try_from(entry.queue_offset)?;
            let record = records.get(place).with_context(|| {
                format!(
                    "queue {queue_id}: acknowledged message {place} is missing, {} are there",
                    records.len()
                )
            })?;
            ensure!(
                record.body == entry.body,
                "queue {queue_id}: message {place} has another body"
            );
            ensure!(
                record.topic == topic,
                "queue {queue_id}: message {place} has topic {}",
                record.topic
            );
            // Behind the broker's address, which is of either family.
            let offset = entry
                .id
                .len()
                .checked_sub(16)
                .and_then(|at| entry.id.get(at..));
            let log_offset = u64::from_str_radix(offset.context("short id")?, 16)?;
            ensure!(
                record.log_offset == log_offset,
                "queue {queue_id}: message {place} moved from {log_offset} to {} in the log",
                record.log_offset
            );
        }
    }
    Ok(())
}
