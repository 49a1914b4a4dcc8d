//! `mqbench wake`: how long a parked pull sleeps on after its message was sent.
//!
//! One connection parks a pull at the end of a queue, another sends one message to it; the time is from the send's
//! write to the pull's answer. One message after the other, nothing else in flight.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::admin::{Line, prepare_topics};
use crate::figures::{self, Clock, Figures, Phase};
use crate::frames::{OPAQUE_BASE, SendFrame, Topics, request};
use crate::options::{Flag, Options, preset};

/// Options of `wake`.
pub(crate) const FLAGS: &[&[Flag]] = &[
    figures::FLAGS,
    &[
        preset("queues", "N", "8", "queues of the topic; queue 0 is used"),
        preset("size", "BYTES", "1024", "body size"),
        preset("group", "NAME", "mqbench", "consumer group"),
        preset(
            "park",
            "MILLIS",
            "5",
            "time between the pull and the message it waits for",
        ),
    ],
];

const PULL_CODE: i32 = 11;
/// Subscription in the request (4), may be parked (2).
const PARKED: &str = "6";
const FOUND: i32 = 0;
const NOT_FOUND: i32 = 19;

/// Runs `mqbench wake`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let address = options.text("broker").context("--broker")?;
    let topic = options.text("topic").context("--topic")?;
    let group = options.text("group").context("--group")?;
    let queues = options.number("queues", 1, 1_024)?;
    let size = options.number("size", 0, 4 << 20)?;
    let park = Duration::from_millis(options.number("park", 0, 10_000)? as u64);
    let topics = Topics::new(topic, 1, queues)?;
    prepare_topics(options, &topics)?;

    let (mut puller, mut sender) = (Line::open(address)?, Line::open(address)?);
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let mut message = SendFrame::new(&topics, 0, run, &vec![b'w'; size])?;
    let mut offset = sender.max_offset(topic, 0)?;
    let mut figures = Figures::new()?;
    let mut clock = Clock::start(options)?;
    for turn in 0.. {
        if clock.phase(clock.now()) == Phase::Over {
            break;
        }
        puller.send(&pull(topic, group, offset)?)?;
        std::thread::sleep(park);
        message.set_born(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64);
        let mut frame = Vec::new();
        message.push(&mut frame, OPAQUE_BASE, turn);
        let sent_at = clock.now();
        sender.send(&frame)?;
        offset = loop {
            let answer = puller.receive()?;
            match answer.code {
                FOUND => {
                    break answer
                        .field("nextBeginOffset")
                        .context("a pull answer without nextBeginOffset")?;
                }
                // The server stopped waiting just before the message came.
                NOT_FOUND => puller.send(&pull(topic, group, offset)?)?,
                code => bail!("the pull was answered {code}: {}", answer.remark()),
            }
        };
        let woke_at = clock.now();
        let answer = sender.receive()?;
        if answer.code != 0 {
            bail!(
                "the message was answered {}: {}",
                answer.code,
                answer.remark()
            );
        }
        if clock.phase(woke_at) == Phase::Window {
            figures.took(woke_at - sent_at);
            figures.messages += 1;
            figures.bytes += size as u64;
        }
    }
    figures.print(
        "wake",
        &format!("one message at a time, {size} bytes, parked {park:?}"),
        &clock,
        options,
    )
}

fn pull(topic: &str, group: &str, offset: i64) -> Result<Vec<u8>> {
    let fields = [
        ("consumerGroup", group),
        ("topic", topic),
        ("queueId", "0"),
        ("queueOffset", &offset.to_string()),
        ("maxMsgNums", "32"),
        ("sysFlag", PARKED),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", "15000"),
        ("subscription", "*"),
        ("subVersion", "0"),
        ("expressionType", "TAG"),
    ];
    request(PULL_CODE, OPAQUE_BASE, &fields)
}
