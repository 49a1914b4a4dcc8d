//! `mqbench null`: a server that parses sends and answers, stores nothing, and so is what one thread allows.
//!
//! Each stage adds the next thing a broker must do, so that each has a price: `frame` finds the frame and answers,
//! `fields` decodes the header, `encode` makes the record with its checksum, `write` gives it its place in the log,
//! `queue` looks up the topic, splits the properties and notes the queue entry. With `--write` what a stage has
//! staged (frames as they came, from `encode` on records) goes out in one positional write for each socket read.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gantry_message::{
    LogOffset, MessageId, Millis, QueueId, QueueOffset, Record, SysFlag, properties, record,
};
use gantry_wire::FieldSink;
use gantry_wire::codes::request::{SEND_MESSAGE, SEND_MESSAGE_V2};
use gantry_wire::frame::{self, FRAME_MAX, Header, ResponseHead, Serialization};
use gantry_wire::headers::SendMessage;

use crate::connection::Connection;
use crate::figures::print_line;
use crate::frames::{after_last, number};
use crate::options::{Flag, Options, flag, preset};
use crate::poll::Poll;
use crate::segments::Segments;

/// Options of `null`.
pub(crate) const FLAGS: &[&[Flag]] = &[&[
    preset(
        "listen",
        "HOST:PORT",
        "127.0.0.1:10911",
        "where to listen; port 0 picks one",
    ),
    preset(
        "stage",
        "NAME",
        "frame",
        "frame, fields, encode, write or queue; each does what those before it do",
    ),
    flag(
        "write",
        "DIR",
        "also writes what was staged, one positional write for each socket read",
    ),
    preset(
        "segment",
        "MIB",
        "1024",
        "size of the preallocated files in DIR",
    ),
    preset(
        "time",
        "SECONDS",
        "0",
        "stops after this time, 0: when it is killed",
    ),
]];

const LISTENER: usize = usize::MAX;
const IDLE_WAIT: Duration = Duration::from_millis(500);
/// An answer as a broker gives it, up to the opaque and from there on.
const ANSWER_HEAD: &[u8] = br#"{"code":0,"extFields":{"queueId":"0","TRACE_ON":"true","MSG_REGION":"DefaultRegion","msgId":"7F00000100002A9F0000000000000000","queueOffset":"0"},"flag":1,"language":"JAVA","opaque":"#;
const ANSWER_TAIL: &[u8] = br#","serializeTypeCurrentRPC":"JSON","version":409}"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Frame,
    Fields,
    Encode,
    Write,
    Queue,
}

impl std::str::FromStr for Stage {
    type Err = ();

    fn from_str(name: &str) -> Result<Stage, ()> {
        let stages = [
            ("frame", Stage::Frame),
            ("fields", Stage::Fields),
            ("encode", Stage::Encode),
            ("write", Stage::Write),
            ("queue", Stage::Queue),
        ];
        stages
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, stage)| stage)
            .ok_or(())
    }
}

/// What a broker would keep of a topic's queue.
#[derive(Default)]
struct Queue {
    next: u64,
    /// 20 bytes an entry, as in a consume queue; given up when it is a page run long.
    entries: Vec<u8>,
}

struct Null {
    stage: Stage,
    segments: Option<Segments>,
    /// What the present socket read staged, written as one.
    staged: Vec<u8>,
    log_end: u64,
    queues: HashMap<String, Vec<Queue>>,
    message_id: String,
    host: SocketAddr,
    now: Millis,
}

/// Runs `mqbench null`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let address = options.text("listen").context("--listen")?;
    let stage = options.value("stage")?;
    let segment = options.number("segment", 1, 64 << 10)? as u64;
    let seconds: u64 = options.value("time")?;
    let segments = match options.text("write") {
        Some(folder) => Some(Segments::open(Path::new(folder), segment << 20)?),
        None if Stage::Write <= stage => bail!("--stage write and --stage queue need --write DIR"),
        None => None,
    };
    let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
    listener.set_nonblocking(true).context("set O_NONBLOCK")?;
    print_line(&format!(
        "listening on {}, stage {stage:?}",
        listener.local_addr()?
    ));
    let stop = (0 < seconds).then(|| Instant::now() + Duration::from_secs(seconds));
    Null::new(stage, segments).serve(&listener, || {
        stop.is_some_and(|stop| stop <= Instant::now())
    })
}

impl Null {
    fn new(stage: Stage, segments: Option<Segments>) -> Null {
        Null {
            stage,
            segments,
            staged: Vec::new(),
            log_end: 0,
            queues: HashMap::new(),
            message_id: String::new(),
            host: SocketAddr::from((Ipv4Addr::LOCALHOST, 10_911)),
            now: Millis(0),
        }
    }

    fn serve(&mut self, listener: &TcpListener, over: impl Fn() -> bool) -> Result<()> {
        let mut poll = Poll::new()?;
        poll.watch_listener(listener, LISTENER)?;
        let mut connections: Vec<Option<Connection>> = Vec::new();
        let mut ready = Vec::new();
        while !over() {
            ready.extend(poll.wait(IDLE_WAIT)?);
            self.now = Millis::now();
            for token in ready.drain(..) {
                if token == LISTENER {
                    accept(listener, &poll, &mut connections)?;
                    continue;
                }
                let Some(slot) = connections.get_mut(token) else {
                    continue;
                };
                if let Some(connection) = slot
                    && self.exchange(connection).is_err()
                {
                    // A peer that hung up or sent no frames: dropping the connection closes it.
                    *slot = None;
                }
            }
        }
        Ok(())
    }

    /// Answers everything a connection has for us.
    fn exchange(&mut self, connection: &mut Connection) -> Result<()> {
        let mut more = true;
        while more {
            more = connection.read()?;
            while let Some(bytes) = connection.input.frame()? {
                self.answer(bytes, &mut connection.output)?;
            }
            self.write()?;
            connection.flush()?;
        }
        Ok(())
    }

    fn answer(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if self.stage == Stage::Frame && bytes.get(4) == Some(&0) {
            let header_size = bytes.get(5..8).map_or(0, |size| {
                u32::from_be_bytes([0, size[0], size[1], size[2]]) as usize
            });
            let header = bytes
                .get(8..8 + header_size)
                .context("a header longer than its frame")?;
            let opaque = after_last(header, b"\"opaque\":")
                .and_then(number)
                .context("a request without opaque")?;
            self.stage_frame(bytes);
            push_answer(out, opaque);
            return Ok(());
        }
        let frame = frame::split(bytes, FRAME_MAX)?.context("half a frame")?;
        let header = frame.decode()?;
        if header.is_oneway() || header.is_response() {
            return Ok(());
        }
        if ![SEND_MESSAGE, SEND_MESSAGE_V2].contains(&header.code) || self.stage == Stage::Frame {
            let head = ResponseHead {
                code: 0,
                opaque: header.opaque,
                remark: None,
            };
            frame::encode_response(out, frame.serialization, &head, &mut |_| (), &[]);
            return Ok(());
        }
        let send = SendMessage::read(header.code, &header.fields)?;
        if self.stage == Stage::Fields {
            self.stage_frame(bytes);
            push_answer(out, i64::from(header.opaque));
            return Ok(());
        }
        let (queue_id, queue_offset) = self.store(&send, frame.body)?;
        self.acknowledge(out, frame.serialization, &header, (queue_id, queue_offset));
        Ok(())
    }

    fn stage_frame(&mut self, bytes: &[u8]) {
        if self.segments.is_some() {
            self.staged.extend_from_slice(bytes);
        }
    }

    /// Makes the record and, as far as the stage goes, puts it into log and queue.
    fn store(&mut self, send: &SendMessage<'_>, body: &[u8]) -> Result<(i32, u64)> {
        let text = send.properties.unwrap_or_default().as_bytes();
        let start = self.staged.len();
        let mut kept = Vec::new();
        let stored_properties = if self.stage == Stage::Queue {
            properties::copy_without(&mut kept, text, &[properties::WAIT]);
            kept.as_slice()
        } else {
            text
        };
        let record = Record {
            topic: send.topic,
            queue_id: QueueId(u32::try_from(send.queue_id)?),
            flag: send.flag,
            sys_flag: SysFlag::from_client(send.sys_flag),
            born_time: Millis(send.born_timestamp),
            born_host: self.host,
            store_host: self.host,
            reconsume_times: send.reconsume_times.unwrap_or(0),
            prepared_offset: 0,
            body,
            properties: stored_properties,
        };
        let size = record.encode(&mut self.staged)?;
        let mut queue_offset = 0;
        if self.stage == Stage::Queue {
            queue_offset = self.note(send, text, size)?;
        }
        if Stage::Write <= self.stage {
            let place = (QueueOffset(queue_offset), LogOffset(self.log_end));
            record::patch(&mut self.staged[start..], place.0, place.1, self.now);
        }
        self.log_end += size as u64;
        Ok((send.queue_id, queue_offset))
    }

    fn note(&mut self, send: &SendMessage<'_>, text: &[u8], size: usize) -> Result<u64> {
        const ENTRIES_MAX: usize = 20 * 4_096;
        let tags =
            properties::find(text, properties::TAGS).map_or(0, gantry_message::java_hash_bytes);
        if !self.queues.contains_key(send.topic) {
            self.queues.insert(send.topic.to_owned(), Vec::new());
        }
        let Some(queues) = self.queues.get_mut(send.topic) else {
            bail!("no topic {}", send.topic)
        };
        let id = usize::try_from(send.queue_id)?;
        anyhow::ensure!(id < 1_024, "queue {id} is beyond the limit of 1024");
        if queues.len() <= id {
            queues.resize_with(id + 1, Queue::default);
        }
        let queue = &mut queues[id];
        if ENTRIES_MAX <= queue.entries.len() {
            queue.entries.clear();
        }
        queue.entries.extend_from_slice(&self.log_end.to_be_bytes());
        queue
            .entries
            .extend_from_slice(&u32::try_from(size)?.to_be_bytes());
        queue
            .entries
            .extend_from_slice(&i64::from(tags).to_be_bytes());
        queue.next += 1;
        Ok(queue.next - 1)
    }

    fn acknowledge(
        &mut self,
        out: &mut Vec<u8>,
        with: Serialization,
        header: &Header<'_>,
        at: (i32, u64),
    ) {
        let id = MessageId {
            host: self.host,
            offset: LogOffset(self.log_end),
        };
        self.message_id.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.message_id, "{id}");
        let head = ResponseHead {
            code: 0,
            opaque: header.opaque,
            remark: None,
        };
        let message_id = self.message_id.as_str();
        let mut fields = |sink: &mut frame::FieldWriter<'_>| {
            sink.text("msgId", message_id);
            sink.int("queueId", i64::from(at.0));
            sink.int("queueOffset", i64::try_from(at.1).unwrap_or(i64::MAX));
            sink.text("MSG_REGION", "DefaultRegion");
            sink.text("TRACE_ON", "true");
        };
        frame::encode_response(out, with, &head, &mut fields, &[]);
    }

    fn write(&mut self) -> Result<()> {
        if let Some(segments) = &mut self.segments
            && !self.staged.is_empty()
        {
            segments.append(&self.staged)?;
        }
        self.staged.clear();
        Ok(())
    }
}

fn accept(
    listener: &TcpListener,
    poll: &Poll,
    connections: &mut Vec<Option<Connection>>,
) -> Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("accept"),
        };
        let connection = Connection::adopt(stream)?;
        let token = connections
            .iter()
            .position(Option::is_none)
            .unwrap_or(connections.len());
        poll.watch(&connection, token)?;
        if token == connections.len() {
            connections.push(Some(connection));
        } else {
            connections[token] = Some(connection);
        }
    }
}

/// Appends the answer that is always the same but for its opaque.
fn push_answer(out: &mut Vec<u8>, opaque: i64) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(ANSWER_HEAD);
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = opaque.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if opaque < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(ANSWER_TAIL);
    // Far below 2^24, whatever the opaque.
    let header = (out.len() - start - 8) as u32;
    out[start..start + 4].copy_from_slice(&(header + 4).to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&header.to_be_bytes());
}

/// Stops the server of [`in_background`] when it is dropped.
#[cfg(test)]
pub(crate) struct Background {
    over: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[cfg(test)]
impl Drop for Background {
    fn drop(&mut self) {
        self.over.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A server for tests of the load generator, and its address.
#[cfg(test)]
pub(crate) fn in_background() -> (String, Background) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = over.clone();
    let thread = std::thread::spawn(move || {
        let over = || told.load(std::sync::atomic::Ordering::Relaxed);
        Null::new(Stage::Queue, None)
            .serve(&listener, over)
            .unwrap();
    });
    (
        address,
        Background {
            over,
            thread: Some(thread),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Answer, OPAQUE_BASE, SendFrame, Topics, request};
    use gantry_message::RecordView;

    fn ask(null: &mut Null, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        null.answer(bytes, &mut out).unwrap();
        out
    }

    fn message(opaque: u32) -> Vec<u8> {
        let mut out = Vec::new();
        SendFrame::new(&Topics::new("T", 1, 4).unwrap(), 1, 0, b"body")
            .unwrap()
            .push(&mut out, opaque, 5);
        out
    }

    #[test]
    fn every_stage_answers_a_send() {
        for stage in [
            Stage::Frame,
            Stage::Fields,
            Stage::Encode,
            Stage::Write,
            Stage::Queue,
        ] {
            let mut null = Null::new(stage, None);
            let answer = ask(&mut null, &message(OPAQUE_BASE + 3));
            let read = Answer::read(&answer).unwrap();
            assert_eq!((read.code, read.opaque), (0, OPAQUE_BASE + 3), "{stage:?}");
            assert_eq!(
                read.field("queueId"),
                Some(if stage < Stage::Encode { 0 } else { 1 }),
                "{stage:?}"
            );
            let frame = frame::split(&answer, FRAME_MAX).unwrap().unwrap();
            assert!(frame.decode().unwrap().is_response(), "{stage:?}");
        }
    }

    #[test]
    fn other_requests_are_answered_and_one_way_ones_are_not() {
        let mut null = Null::new(Stage::Queue, None);
        let create = request(17, 9, &[("topic", "T")]).unwrap();
        let answer = ask(&mut null, &create);
        assert_eq!(Answer::read(&answer).unwrap().opaque, 9);
        let mut one_way = Vec::new();
        let head = frame::RequestHead {
            code: 34,
            opaque: 1,
            oneway: true,
        };
        frame::encode_request(&mut one_way, Serialization::Json, &head, &mut |_| (), &[]).unwrap();
        assert!(ask(&mut null, &one_way).is_empty());
    }

    #[test]
    fn the_queue_stage_stores_whole_records_in_their_places() {
        let mut null = Null::new(Stage::Queue, None);
        null.now = Millis(77);
        for turn in 0..3 {
            let answer = ask(&mut null, &message(OPAQUE_BASE));
            assert_eq!(
                Answer::read(&answer).unwrap().field("queueOffset"),
                Some(turn)
            );
        }
        let first = RecordView::parse(&null.staged).unwrap();
        first.verify_crc().unwrap();
        assert_eq!(
            (first.topic(), first.body(), first.store_time()),
            ("T", &b"body"[..], Millis(77))
        );
        let second = RecordView::parse(&null.staged[first.len()..]).unwrap();
        assert_eq!(
            (second.queue_offset().0, second.log_offset().0),
            (1, first.len() as u64)
        );
        assert_eq!(null.queues["T"][1].entries.len(), 60);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        let mut null = Null::new(Stage::Frame, None);
        for bytes in [
            &[0, 0, 0, 4, 0, 0, 0, 9][..],
            &[0, 0, 0, 4, 0, 0, 0, 0],
            &[0, 0, 0, 4, 9, 0, 0, 0],
        ] {
            assert!(null.answer(bytes, &mut Vec::new()).is_err());
        }
    }
}
