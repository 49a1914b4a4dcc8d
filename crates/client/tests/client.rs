//! The client against servers that the test plays itself: which one is asked, what is tried again, what is given up.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gantry_client::{
    Client, Error, Message, NameServers, Producer, Pull, PullStatus, Queue, SendStatus,
};
use gantry_message::{Millis, Record, SysFlag};
use gantry_wire::{
    Request, Response,
    codes::{request, response},
    frame::{self, FRAME_MAX},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

type Handler = Arc<dyn Fn(&Request) -> Response + Send + Sync>;

/// A server on a free port; answers every request with `handler`.
async fn server(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let handler: Handler = Arc::new(handler);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&handler)));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, handler: Handler) {
    let mut buffer = Vec::new();
    while stream
        .read_buf(&mut buffer)
        .await
        .is_ok_and(|read| read != 0)
    {
        while let Some(frame) = frame::split(&buffer, FRAME_MAX).unwrap() {
            let header = frame.decode().unwrap();
            let request =
                Request::from_header(header, frame.serialization, frame.body.to_vec().into());
            let (size, mut out) = (frame.size, Vec::new());
            buffer.drain(..size);
            handler(&request).encode(&mut out, request.opaque, request.serialization);
            stream.write_all(&out).await.unwrap();
        }
    }
}

/// An address at which nobody listens.
async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

fn client(name_servers: &[&str]) -> Client {
    Client::new(NameServers::parse(&name_servers.join(";")).unwrap())
}

/// A name server with one topic on these brokers, and `TBW102` on them too.
async fn name_server(topic: &'static str, brokers: &[(&str, &str)]) -> String {
    let data = |(name, address): &(&str, &str)| {
        format!(r#"{{"brokerAddrs":{{0:"{address}"}},"brokerName":"{name}","cluster":"C"}}"#)
    };
    let queues = |(name, _): &(&str, &str)| {
        format!(
            r#"{{"brokerName":"{name}","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":8}}"#
        )
    };
    let listed = |part: &dyn Fn(&(&str, &str)) -> String| {
        brokers.iter().map(part).collect::<Vec<_>>().join(",")
    };
    let route = format!(
        r#"{{"brokerDatas":[{}],"filterServerTable":{{}},"queueDatas":[{}]}}"#,
        listed(&data),
        listed(&queues)
    );
    server(move |asked| match asked.fields.get("topic") {
        Some(known) if known == topic || known == "TBW102" => Response::with_body(route.clone()),
        _ => Response::refuse(response::TOPIC_NOT_EXIST, "no route"),
    })
    .await
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A broker that answers every send with `code` and notes it under its name.
async fn broker(name: &'static str, code: i32, log: &Log) -> String {
    let log = log.clone();
    server(move |request| {
        log.add(name);
        assert_eq!(request.code, request::SEND_MESSAGE_V2);
        if code != 0 && !(10..=12).contains(&code) {
            return Response::refuse(code, "refused");
        }
        let queue = request.fields.get("e").unwrap().to_owned();
        Response {
            code,
            ..Response::ok()
        }
        .field("msgId", "ID")
        .field("queueId", queue)
        .field("queueOffset", 7)
    })
    .await
}

#[tokio::test]
async fn a_name_server_that_is_away_is_passed_over() {
    let there = server(|_| Response::with_body(r#"{"topicList":["b","a"]}"#)).await;
    let client = client(&[&nobody().await, &there]);
    for _ in 0..2 {
        assert_eq!(client.topics().await.unwrap(), ["a", "b"]);
    }
    let (first, second) = (nobody().await, nobody().await);
    let error = self::client(&[&first, &second])
        .topics()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!("connect to [{first}, {second}] failed: ")),
        "{error}"
    );
    assert!(matches!(
        self::client(&[]).topics().await,
        Err(Error::NoNameServer)
    ));
}

#[tokio::test]
async fn a_refusal_and_an_answer_that_is_none_are_told_apart() {
    let address = server(|request| match request.fields.get("topic") {
        Some("unknown") => Response::refuse(response::TOPIC_NOT_EXIST, "no route"),
        _ => Response::with_body("]"),
    })
    .await;
    let client = client(&[&address]);
    let refused = client.route("unknown").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.to_string()),
        (Some(17), "CODE: 17  DESC: no route".into())
    );
    let garbage = client.route("T").await.unwrap_err();
    assert!(
        matches!(garbage, Error::BadAnswer { what: "route", .. }),
        "{garbage}"
    );
}

#[tokio::test]
async fn a_change_reaches_every_name_server_that_can_be_reached() {
    let log = Log::default();
    let note = |name: &'static str| {
        let log = log.clone();
        move |request: &Request| {
            log.add(format!(
                "{name}:{}",
                request.fields.get("value").unwrap_or("")
            ));
            Response::ok()
        }
    };
    let (first, last) = (server(note("first")).await, server(note("last")).await);
    let outcome = client(&[&first, &nobody().await, &last])
        .put_order_conf("T", "a:1")
        .await;
    assert!(matches!(outcome, Err(Error::Connect { .. })), "{outcome:?}");
    assert_eq!(log.take(), ["first:a:1", "last:a:1"]);
}

#[tokio::test]
async fn a_send_is_tried_at_another_broker_when_java_would_try_again() {
    let log = Log::default();
    let good = broker("good", 0, &log).await;
    for code in [1, 14, 16, 17, 204, 205] {
        let bad = broker("bad", code, &log).await;
        let names = name_server("T", &[("bad", &bad), ("good", &good)]).await;
        let producer = Producer::new(Arc::new(client(&[&names])), "g");
        // Queues take turns, 8 of each broker: one of nine sends begins with the bad one at the latest.
        for _ in 0..9 {
            let sent = producer.send(&Message::new("T", "body")).await.unwrap();
            assert_eq!(
                (sent.status, sent.queue.broker.as_str(), sent.queue_offset),
                (SendStatus::Ok, "good", 7)
            );
            assert_eq!((sent.id.len(), sent.offset_id.as_str()), (32, "ID"));
        }
        assert!(log.take().contains(&"bad".to_owned()), "code {code}");
    }
    let away = nobody().await;
    let names = name_server("T", &[("away", &away), ("good", &good)]).await;
    let producer = Producer::new(Arc::new(client(&[&names])), "g");
    for _ in 0..9 {
        assert_eq!(
            producer
                .send(&Message::new("T", "body"))
                .await
                .unwrap()
                .queue
                .broker,
            "good"
        );
    }
}

#[tokio::test]
async fn a_send_is_given_up_where_java_gives_up() {
    let log = Log::default();
    let once = broker("once", response::MESSAGE_ILLEGAL, &log).await;
    let names = name_server("T", &[("once", &once)]).await;
    let refused = Producer::new(Arc::new(client(&[&names])), "g")
        .send(&Message::new("T", "x"))
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("CODE: 13  DESC: refused BROKER: {once}")
    );
    assert_eq!(log.take(), ["once"]);

    let thrice = broker("thrice", response::SERVICE_NOT_AVAILABLE, &log).await;
    let names = name_server("T", &[("thrice", &thrice)]).await;
    let failed = Producer::new(Arc::new(client(&[&names])), "g")
        .send(&Message::new("T", "x"))
        .await
        .unwrap_err();
    assert!(failed.to_string().starts_with(
        "Send [3] times, still failed, Topic: T, BrokersSent: [thrice, thrice, thrice]"
    ));
    assert_eq!(log.take(), ["thrice", "thrice", "thrice"]);
}

#[tokio::test]
async fn what_the_broker_promised_is_told() {
    let log = Log::default();
    for (code, status) in [
        (10, SendStatus::FlushDiskTimeout),
        (11, SendStatus::SlaveNotAvailable),
        (12, SendStatus::FlushSlaveTimeout),
    ] {
        let address = broker("b", code, &log).await;
        let names = name_server("T", &[("b", &address)]).await;
        let producer = Producer::new(Arc::new(client(&[&names])), "g");
        let queue = Queue {
            broker: "b".into(),
            id: 5.into(),
        };
        let sent = producer
            .send_to(&Message::new("T", "x"), &queue)
            .await
            .unwrap();
        assert_eq!((sent.status, sent.queue), (status, queue));
    }
    let names = name_server("T", &[]).await;
    let nowhere = Queue {
        broker: "b".into(),
        id: 5.into(),
    };
    let producer = Producer::new(Arc::new(client(&[&names])), "g");
    assert!(matches!(
        producer.send_to(&Message::new("T", "x"), &nowhere).await,
        Err(Error::NoBroker(_))
    ));
    assert!(matches!(
        producer.send(&Message::new("T", "x")).await,
        Err(Error::NoQueue(_) | Error::SendFailed { .. })
    ));
}

#[tokio::test]
async fn a_new_topic_is_sent_to_where_its_template_is() {
    let log = Log::default();
    let address = broker("b", 0, &log).await;
    let names = name_server("other", &[("b", &address)]).await;
    let producer = Producer::new(Arc::new(client(&[&names])), "g");
    for _ in 0..8 {
        let sent = producer.send(&Message::new("New", "x")).await.unwrap();
        assert!(
            sent.queue.id.0 < 4,
            "the template's eight queues are cut to four: {:?}",
            sent.queue
        );
    }
}

fn record(body: &[u8], queue_offset: u64) -> Vec<u8> {
    let host = "127.0.0.1:10911".parse().unwrap();
    let record = Record {
        topic: "T",
        queue_id: 0.into(),
        flag: 0,
        sys_flag: SysFlag(0),
        born_time: Millis(1),
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_offset: 0,
        body,
        properties: b"",
    };
    let mut bytes = Vec::new();
    record.encode(&mut bytes).unwrap();
    gantry_message::patch(&mut bytes, queue_offset.into(), 0.into(), Millis(2));
    bytes
}

#[tokio::test]
async fn a_pull_gives_records_up_to_the_first_that_cannot_be_read() {
    let address = server(|request| {
        let code = match request.fields.get("queueOffset") {
            Some("0") => response::SUCCESS,
            Some("1") => response::PULL_NOT_FOUND,
            Some("2") => response::PULL_RETRY_IMMEDIATELY,
            Some("3") => response::PULL_OFFSET_MOVED,
            _ => return Response::refuse(response::SUBSCRIPTION_GROUP_NOT_EXIST, "no group"),
        };
        let body = [record(b"one", 0), record(b"two", 1), b"garbage".to_vec()].concat();
        let body = if code == response::SUCCESS {
            body
        } else {
            Vec::new()
        };
        let answer = Response {
            code,
            ..Response::with_body(body)
        };
        let answer = answer
            .field("suggestWhichBrokerId", 0)
            .field("nextBeginOffset", 2);
        answer.field("minOffset", 0).field("maxOffset", 9)
    })
    .await;
    let client = client(&[]);
    let pull = |from: u64| Pull {
        group: "TOOLS_CONSUMER",
        topic: "T",
        queue: 0.into(),
        from: from.into(),
        count_max: 32,
        expression: "*",
        wait: Duration::ZERO,
    };
    let found = client.pull(&address, &pull(0)).await.unwrap();
    let bodies: Vec<_> = found.records().map(|record| record.body()).collect();
    assert_eq!(bodies, [b"one", b"two"]);
    assert_eq!(
        (found.status, found.next, found.min, found.max),
        (PullStatus::Found, 2, 0, 9)
    );
    let wanted = [
        (1, PullStatus::NoNewMessage),
        (2, PullStatus::NoMatchedMessage),
        (3, PullStatus::OffsetIllegal),
    ];
    for (from, status) in wanted {
        assert_eq!(
            client.pull(&address, &pull(from)).await.unwrap().status,
            status
        );
    }
    assert_eq!(
        client.pull(&address, &pull(4)).await.unwrap_err().code(),
        Some(26)
    );
}
