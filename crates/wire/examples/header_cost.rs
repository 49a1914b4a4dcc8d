//! What headers cost: nanoseconds for reading a V2 send, a pull, and for writing a send answer.
//!
//! `cargo run --release -p gantry-wire --example header_cost`. Compare the lines of one run with each other, not with
//! another machine's.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "prints figures")]

use std::hint::black_box;
use std::time::Instant;

use gantry_wire::frame::{self, FRAME_MAX, ResponseHead, Serialization};
use gantry_wire::headers::{PullMessage, SendMessage, SendMessageAnswer};
use gantry_wire::{FieldSink, HeaderEncode, Request};

const BATCHES: u32 = 2000;
const BATCH: u32 = 200;

fn main() {
    let send = SendMessage {
        producer_group: "bench_producer",
        topic: "BenchmarkTopic",
        default_topic: "TBW102",
        default_topic_queue_nums: 4,
        queue_id: 3,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        flag: 0,
        properties: Some(
            "KEYS\u{1}key-123456\u{2}UNIQ_KEY\u{1}7F0000010A2B18B4AAC200000000000A\u{2}WAIT\u{1}true\u{2}TAGS\u{1}TagA",
        ),
        reconsume_times: Some(0),
        unit_mode: false,
        batch: false,
        max_reconsume_times: Some(16),
        broker_name: Some("broker-a"),
    };
    let pull = PullMessage {
        consumer_group: "bench_consumer",
        topic: "BenchmarkTopic",
        queue_id: 3,
        queue_offset: 123_456_789,
        max_msg_nums: 32,
        sys_flag: 3,
        commit_offset: 123_456_700,
        suspend_timeout_millis: 15_000,
        subscription: None,
        sub_version: 1_700_000_000_000,
        expression_type: None,
        broker_name: None,
        max_msg_bytes: None,
    };
    for serialization in [Serialization::Json, Serialization::Binary] {
        let frame_of = |request: Request| {
            let mut out = Vec::new();
            Request {
                serialization,
                ..request
            }
            .with_body(vec![0; 1024])
            .encode(&mut out, 77)
            .unwrap();
            out
        };
        let sent = frame_of(Request::new(310).with_header(&send.as_v2()));
        let pulled = frame_of(Request::new(11).with_header(&pull));
        println!(
            "{serialization:?}: send frame {} bytes, of them 1024 body",
            sent.len()
        );
        time("  split", || {
            _ = black_box(frame::split(black_box(&sent), FRAME_MAX))
        });
        time("  send: split, decode", || {
            let frame = frame::split(black_box(&sent), FRAME_MAX).unwrap().unwrap();
            black_box(frame.decode().unwrap());
        });
        time("  send: split, decode, typed header", || {
            let frame = frame::split(black_box(&sent), FRAME_MAX).unwrap().unwrap();
            let header = frame.decode().unwrap();
            black_box(SendMessage::read(header.code, &header.fields).unwrap());
        });
        time("  pull: split, decode, typed header", || {
            let frame = frame::split(black_box(&pulled), FRAME_MAX)
                .unwrap()
                .unwrap();
            let header = frame.decode().unwrap();
            black_box(header.fields.header::<PullMessage<'_>>().unwrap());
        });
        let mut out = Vec::with_capacity(1 << 16);
        let answer = SendMessageAnswer {
            msg_id: "7F00000100002A9F000000000BEBC200",
            queue_id: 3,
            queue_offset: 123_456_789,
            transaction_id: None,
        };
        time("  answer to a send", || {
            out.clear();
            let head = ResponseHead {
                code: 0,
                opaque: 77,
                remark: None,
            };
            frame::encode_response(
                &mut out,
                serialization,
                black_box(&head),
                &mut |sink| {
                    answer.encode(sink);
                    sink.text("MSG_REGION", "DefaultRegion");
                    sink.text("TRACE_ON", "true");
                },
                b"",
            );
            black_box(&out);
        });
    }
}

/// The best of many short batches, so that other work on the machine does not count.
fn time(what: &str, mut once: impl FnMut()) {
    let mut best = u128::MAX;
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..BATCH {
            once();
        }
        best = best.min(start.elapsed().as_nanos());
    }
    println!("{what}: {} ns", best / u128::from(BATCH));
}
