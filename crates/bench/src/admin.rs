//! The few questions asked before a run, one at a time over a blocking connection: create the topic, where a queue ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::frames::{Answer, Topics, request};
use crate::options::Options;

const CREATE_TOPIC: i32 = 17;
const MAX_OFFSET: i32 = 30;
const MIN_OFFSET: i32 = 31;
const FRAME_MAX: usize = 16 << 20;

/// A connection that asks and waits.
pub(crate) struct Line {
    stream: TcpStream,
    frame: Vec<u8>,
}

impl Line {
    pub(crate) fn open(address: &str) -> Result<Line> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        stream
            .set_read_timeout(Some(Duration::from_secs(40)))
            .context("set a timeout")?;
        Ok(Line {
            stream,
            frame: Vec::new(),
        })
    }

    pub(crate) fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.stream.write_all(frame).context("write")
    }

    /// Waits for the next frame.
    pub(crate) fn receive(&mut self) -> Result<Answer<'_>> {
        let mut word = [0; 4];
        self.stream.read_exact(&mut word).context("no answer")?;
        let size = u32::from_be_bytes(word) as usize;
        if FRAME_MAX < size {
            bail!(
                "a frame of {size} bytes: not the remoting protocol, or beyond its limit of {FRAME_MAX}"
            );
        }
        self.frame.resize(4 + size, 0);
        self.stream
            .read_exact(&mut self.frame[4..])
            .context("half an answer")?;
        Answer::read(&self.frame)
    }

    fn ask(&mut self, code: i32, fields: &[(&str, &str)]) -> Result<Answer<'_>> {
        self.send(&request(code, 1, fields)?)?;
        let answer = self.receive()?;
        if answer.code != 0 {
            bail!(
                "request {code} was answered {}: {}",
                answer.code,
                answer.remark()
            );
        }
        Ok(answer)
    }

    fn offset(&mut self, code: i32, topic: &str, queue: usize) -> Result<i64> {
        let answer = self.ask(code, &[("topic", topic), ("queueId", &queue.to_string())])?;
        answer.field("offset").context("an answer without offset")
    }

    /// Where the next message of a queue goes.
    pub(crate) fn max_offset(&mut self, topic: &str, queue: usize) -> Result<i64> {
        self.offset(MAX_OFFSET, topic, queue)
    }

    /// The first message of a queue.
    pub(crate) fn min_offset(&mut self, topic: &str, queue: usize) -> Result<i64> {
        self.offset(MIN_OFFSET, topic, queue)
    }
}

/// Creates the topics when `--create-topic` was given.
pub(crate) fn prepare_topics(options: &Options, topics: &Topics<'_>) -> Result<()> {
    if !options.is_on("create-topic") {
        return Ok(());
    }
    let mut line = Line::open(options.text("broker").context("--broker")?)?;
    let queues = topics.queues.to_string();
    for number in 0..topics.count {
        let name = topics.name(number);
        let fields = [
            ("topic", name.as_str()),
            ("defaultTopic", "TBW102"),
            ("readQueueNums", &queues),
            ("writeQueueNums", &queues),
            ("perm", "6"),
            ("topicFilterType", "SINGLE_TAG"),
            ("topicSysFlag", "0"),
            ("order", "false"),
        ];
        line.ask(CREATE_TOPIC, &fields)
            .with_context(|| format!("create the topic {name}"))?;
    }
    Ok(())
}
