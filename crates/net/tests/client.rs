//! The calling side of a connection against a server that the test plays itself.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so by failing"
)]

use std::{sync::Arc, time::Duration};

use gantry_net::client::{CallError, CloseReason, Connection, Options};
use gantry_wire::{
    FieldSink, Request, Response,
    codes::response,
    frame::{self, FRAME_MAX, Serialization},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

/// The far end of one connection.
struct Server {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Server {
    /// The next frame: a request of the client, or its answer to one of ours.
    async fn receive(&mut self) -> Option<(Request, bool)> {
        loop {
            if let Some(frame) = frame::split(&self.buffer, FRAME_MAX).expect("a frame") {
                let header = frame.decode().expect("a header");
                let is_response = header.is_response();
                let body = frame.body.to_vec().into();
                let request = Request::from_header(header, frame.serialization, body);
                let size = frame.size;
                self.buffer.drain(..size);
                return Some((request, is_response));
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await.expect("readable") {
                0 => return None,
                read => self.buffer.extend_from_slice(&chunk[..read]),
            }
        }
    }

    async fn request(&mut self) -> Request {
        self.receive().await.expect("a request").0
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("writable");
    }

    async fn answer(&mut self, request: &Request, response: Response) {
        let mut out = Vec::new();
        response.encode(&mut out, request.opaque, request.serialization);
        self.send(&out).await;
    }
}

async fn pair(options: &Options) -> (Connection, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (connection, accepted) =
        tokio::join!(Connection::connect(&address, options), listener.accept());
    (
        connection.unwrap(),
        Server {
            stream: accepted.unwrap().0,
            buffer: Vec::new(),
        },
    )
}

async fn call(connection: &Connection, name: &str, timeout: Duration) -> Result<String, CallError> {
    let reply = connection
        .call(105, |sink| sink.text("topic", name), name, timeout)
        .await?;
    assert_eq!(reply.code, 0);
    Ok(format!(
        "{}+{}",
        reply.fields.get("echo").unwrap_or(""),
        String::from_utf8_lossy(&reply.body)
    ))
}

fn echo(request: &Request) -> Response {
    let topic = request.fields.get("topic").unwrap_or("").to_owned();
    Response::ok()
        .field("echo", topic)
        .body(request.body.clone())
}

#[tokio::test]
async fn answers_find_their_calls_in_whatever_order_they_come() {
    for serialization in [Serialization::Json, Serialization::Binary] {
        let (connection, mut server) = pair(&Options {
            serialization,
            ..Options::default()
        })
        .await;
        let (first, second, ()) = tokio::join!(
            call(&connection, "first", LONG),
            call(&connection, "second", LONG),
            async {
                let one = server.request().await;
                let two = server.request().await;
                assert_eq!(
                    (one.code, one.serialization, one.oneway),
                    (105, serialization, false)
                );
                server.answer(&two, echo(&two)).await;
                server.answer(&one, echo(&one)).await;
            }
        );
        assert_eq!(first.unwrap(), "first+first");
        assert_eq!(second.unwrap(), "second+second");
        assert_eq!(connection.in_flight(), 0);
    }
}

#[tokio::test]
async fn an_answer_in_pieces_is_put_together() {
    let (connection, mut server) = pair(&Options::default()).await;
    let (answer, ()) = tokio::join!(call(&connection, "t", LONG), async {
        let request = server.request().await;
        let mut out = Vec::new();
        echo(&request).encode(&mut out, request.opaque, request.serialization);
        for byte in out {
            server.send(&[byte]).await;
        }
    });
    assert_eq!(answer.unwrap(), "t+t");
}

#[tokio::test]
async fn a_late_answer_is_dropped_and_the_connection_stays() {
    let (connection, mut server) = pair(&Options::default()).await;
    let address = connection.address();
    assert_eq!(
        call(&connection, "late", SHORT).await,
        Err(CallError::TimedOut {
            address,
            after: SHORT
        }),
    );
    assert_eq!(connection.in_flight(), 0);
    let late = server.request().await;
    server.answer(&late, echo(&late)).await;
    let (answer, ()) = tokio::join!(call(&connection, "next", LONG), async {
        let request = server.request().await;
        server.answer(&request, echo(&request)).await;
    });
    assert_eq!(answer.unwrap(), "next+next");
}

#[tokio::test]
async fn a_server_that_closes_fails_the_calls_that_wait_and_those_that_follow() {
    let (connection, mut server) = pair(&Options::default()).await;
    let (waiting, ()) = tokio::join!(call(&connection, "t", LONG), async {
        server.request().await;
        drop(server);
    });
    let closed = CallError::Closed {
        address: connection.address(),
        reason: CloseReason::Peer,
    };
    assert_eq!(waiting, Err(closed.clone()));
    assert_eq!(connection.closed().await, CloseReason::Peer);
    assert!(!connection.is_open());
    assert_eq!(call(&connection, "t", LONG).await, Err(closed.clone()));
    assert_eq!(connection.oneway(34, |_| (), []), Err(closed));
}

/// Sends `bytes` instead of an answer and says how the connection ended.
async fn ends_with(bytes: &[u8]) -> CloseReason {
    let (connection, mut server) = pair(&Options::default()).await;
    let (waiting, ()) = tokio::join!(call(&connection, "t", LONG), async {
        server.request().await;
        server.send(bytes).await;
        server.stream.shutdown().await.unwrap();
    });
    match waiting {
        Err(CallError::Closed { reason, .. }) => reason,
        other => panic!("{bytes:?} gave {other:?}"),
    }
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection() {
    let bad: [&[u8]; 7] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\x01\x00\x00\x01\0\0\0\0",
        b"\0\0\0\x08\0\0\0\x09{}  ",
        b"\0\0\0\x08\x07\0\0\x04    ",
        b"\0\0\0\x08\0\0\0\x04]]]]",
    ];
    for bytes in bad {
        let reason = ends_with(bytes).await;
        assert!(
            matches!(reason, CloseReason::BadFrame(_)),
            "{bytes:?}: {reason:?}"
        );
    }
    let cut_off = b"\0\0\x10\0\0\0\0\x04{}";
    assert_eq!(ends_with(cut_off).await, CloseReason::Peer);
}

#[tokio::test]
async fn more_calls_than_allowed_are_refused() {
    let (connection, mut server) = pair(&Options {
        in_flight_max: 1,
        ..Options::default()
    })
    .await;
    let first = connection.start(105, |_| (), []).unwrap();
    let refusal = CallError::TooManyInFlight {
        address: connection.address(),
        limit: 1,
    };
    assert_eq!(connection.start(105, |_| (), []).err(), Some(refusal));
    let request = server.request().await;
    server.answer(&request, Response::ok()).await;
    assert_eq!(first.answer(LONG).await.unwrap().code, 0);
    assert!(
        connection.start(105, |_| (), []).is_ok(),
        "an answered call makes room"
    );
}

#[tokio::test]
async fn a_forgotten_call_makes_room() {
    let (connection, _server) = pair(&Options {
        in_flight_max: 1,
        ..Options::default()
    })
    .await;
    for _ in 0..3 {
        drop(connection.start(105, |_| (), []).unwrap());
    }
    assert_eq!(connection.in_flight(), 0);
}

#[tokio::test]
async fn a_server_that_does_not_read_is_not_fed_without_end() {
    let options = Options {
        unsent_bytes_max: 1 << 20,
        ..Options::default()
    };
    let (connection, _server) = pair(&options).await;
    let body = vec![0; 1 << 20];
    connection.oneway(10, |_| (), &body).unwrap();
    let refused = connection.oneway(10, |_| (), &body);
    assert!(
        matches!(
            refused,
            Err(CallError::TooMuchUnsent {
                limit: 0x10_0000,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_request_beyond_a_frame_is_refused_and_leaves_nothing_behind() {
    let (connection, mut server) = pair(&Options {
        frame_bytes_max: 1000,
        ..Options::default()
    })
    .await;
    assert!(matches!(
        connection.start(10, |_| (), [0; 1000]).err(),
        Some(CallError::Frame(_))
    ));
    assert_eq!(connection.in_flight(), 0);
    connection.oneway(35, |_| (), b"small").unwrap();
    assert_eq!(server.request().await.body, "small");
}

#[tokio::test]
async fn a_oneway_request_is_on_its_way_after_a_flush() {
    let (connection, mut server) = pair(&Options::default()).await;
    connection
        .oneway(35, |sink| sink.text("clientID", "c"), [])
        .unwrap();
    connection.flush().await.unwrap();
    drop(connection);
    let request = server.request().await;
    assert!(request.oneway);
    assert_eq!(request.fields.get("clientID"), Some("c"));
    assert!(
        server.receive().await.is_none(),
        "dropping the last handle closes"
    );
}

fn server_request(code: i32, oneway: bool) -> Vec<u8> {
    let mut out = Vec::new();
    Request {
        oneway,
        ..Request::new(code)
    }
    .encode(&mut out, 77)
    .unwrap();
    out
}

#[tokio::test]
async fn requests_of_the_server_reach_the_callback() {
    let on_request = Arc::new(|request: Request| match request.code {
        40 => None,
        code => Some(Response::ok().field("asked", code)),
    });
    let options = Options {
        on_request: Some(on_request),
        ..Options::default()
    };
    let (connection, mut server) = pair(&options).await;
    for (code, oneway) in [(40, false), (307, true), (307, false)] {
        server.send(&server_request(code, oneway)).await;
    }
    let (answer, is_response) = server.receive().await.unwrap();
    assert!(is_response);
    assert_eq!(
        (answer.opaque, answer.fields.get("asked")),
        (77, Some("307"))
    );
    assert!(connection.is_open());
}

#[tokio::test]
async fn without_a_callback_the_server_is_told_so() {
    let (_connection, mut server) = pair(&Options::default()).await;
    server.send(&server_request(307, false)).await;
    let (answer, is_response) = server.receive().await.unwrap();
    assert!(is_response);
    assert_eq!(
        (answer.code, answer.opaque),
        (response::REQUEST_CODE_NOT_SUPPORTED, 77)
    );
}

#[tokio::test]
async fn a_closed_port_is_an_error_and_a_name_is_looked_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The name may stand for ::1 first, where nobody listens: the next address is tried.
    let named = Connection::connect(&format!("localhost:{port}"), &Options::default())
        .await
        .unwrap();
    assert_eq!(named.address().port(), port);
    drop(listener);
    let refused = Connection::connect(&format!("127.0.0.1:{port}"), &Options::default())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    for address in ["nonsense", "127.0.0.1:port", ""] {
        assert!(
            Connection::connect(address, &Options::default())
                .await
                .is_err(),
            "{address}"
        );
    }
}

#[tokio::test]
async fn closing_by_hand_fails_what_waits() {
    let (connection, _server) = pair(&Options::default()).await;
    let waiting = connection.start(105, |_| (), []).unwrap();
    connection.clone().close();
    let closed = CallError::Closed {
        address: connection.address(),
        reason: CloseReason::Local,
    };
    assert_eq!(waiting.answer(LONG).await.err(), Some(closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_from_many_tasks_share_one_connection() {
    let (connection, mut server) = pair(&Options::default()).await;
    let serving = tokio::spawn(async move {
        while let Some((request, _)) = server.receive().await {
            server.answer(&request, echo(&request)).await;
        }
    });
    let calls: Vec<_> = (0..500)
        .map(|number| {
            let connection = connection.clone();
            tokio::spawn(
                async move { (number, call(&connection, &number.to_string(), LONG).await) },
            )
        })
        .collect();
    for one in calls {
        let (number, answer) = one.await.unwrap();
        assert_eq!(answer.unwrap(), format!("{number}+{number}"));
    }
    drop(connection);
    serving.await.unwrap();
}
