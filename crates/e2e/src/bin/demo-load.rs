//! Load for `cargo xtask demo`: `demo-load BROKER TOPIC COUNT`.
//!
//! Sends COUNT messages to the 8 queues of a topic, then reads every queue and compares each message with what was
//! sent. Prints `sent N` and `verified N` while it works, for a progress bar, and figures at the end.
#![expect(clippy::print_stdout, reason = "its output is read by xtask")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gantry_e2e::frame::Wire;
use gantry_e2e::ledger::{Plan, Senders, read_queue};

const QUEUES: u32 = 8;
const GROUP: &str = "demo-group";

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().context("no broker")?;
    let topic = args.next().context("no topic")?;
    let count: u32 = args.next().context("no count")?.parse()?;
    let each = count.div_ceil(QUEUES);

    let plan = Plan {
        address: address.clone(),
        topic: topic.clone(),
        queues: QUEUES,
        senders: QUEUES,
        round: 0,
        each: Some(each),
    };
    let began = Instant::now();
    let senders = Senders::start(&plan);
    while !senders.done() {
        println!("sent {}", senders.acked().min(u64::from(count)));
        std::thread::sleep(Duration::from_millis(50));
    }
    let entries = senders.finish()?;
    let sending = began.elapsed();
    println!("sent {count}");
    ensure!(
        entries.len() >= usize::try_from(count)?,
        "only {} of {count} sends were acknowledged",
        entries.len()
    );
    let bytes: usize = entries.iter().map(|entry| entry.body.len()).sum();

    let began = Instant::now();
    let mut wire = Wire::connect(&address)?;
    let mut verified = 0_u64;
    for queue_id in 0..QUEUES {
        let sent: Vec<_> = entries
            .iter()
            .filter(|entry| entry.queue_id == queue_id)
            .collect();
        let end = u64::try_from(sent.len())?;
        let records = read_queue(&mut wire, &topic, queue_id, end)?;
        ensure!(
            records.len() == sent.len(),
            "queue {queue_id} holds {} of {end} messages",
            records.len()
        );
        for entry in sent {
            let record = &records[usize::try_from(entry.queue_offset)?];
            ensure!(
                record.body == entry.body,
                "queue {queue_id}: message {} is another",
                entry.queue_offset
            );
            verified += 1;
        }
        let (queue, offset) = (queue_id.to_string(), end.to_string());
        let fields = [
            ("consumerGroup", GROUP),
            ("topic", &topic),
            ("queueId", &queue),
            ("commitOffset", &offset),
        ];
        wire.call(15, &fields, &[])?.success()?;
        println!("verified {}", verified.min(u64::from(count)));
    }
    let reading = began.elapsed();
    let rate = |time: Duration| f64::from(count) / time.as_secs_f64();
    println!(
        "sent {count} messages of {} bytes on average in {:.1} s: {:.0} messages/s over {QUEUES} connections",
        bytes / entries.len(),
        sending.as_secs_f64(),
        rate(sending)
    );
    println!(
        "read and compared every one in {:.1} s: {:.0} messages/s on one connection",
        reading.as_secs_f64(),
        rate(reading)
    );
    Ok(())
}
