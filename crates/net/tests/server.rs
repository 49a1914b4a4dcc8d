//! The serving side over real loopback sockets, with a handler that answers requests with their own body.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::{
    cell::RefCell,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use gantry_net::{
    Peer,
    peer::InFlight,
    server::{Handler, Limits, Server, Verdict, listen},
};
use gantry_wire::frame::{self, Frame, RequestHead, ResponseHead, Serialization};

/// Answers at once; this code is answered only when the server drains.
const PARKED: i32 = 11;

#[derive(Default)]
struct Echo {
    parked: RefCell<Vec<(Peer, i32, InFlight)>>,
    closed: Arc<AtomicUsize>,
}

fn answer(peer: &Peer, opaque: i32, body: &[u8]) {
    let head = ResponseHead {
        code: 0,
        opaque,
        remark: None,
    };
    peer.send(|out| frame::encode_response(out, Serialization::Json, &head, &mut |_| (), body));
}

impl Handler for Echo {
    fn frame(&self, peer: &Peer, frame: Frame<'_>) -> Verdict {
        let Ok(header) = frame.decode() else {
            return Verdict::Close;
        };
        if header.code == PARKED {
            self.parked
                .borrow_mut()
                .push((peer.clone(), header.opaque, peer.begin()));
        } else {
            answer(peer, header.opaque, frame.body);
        }
        Verdict::Continue
    }

    fn closed(&self, _peer: &Peer) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }

    fn draining(&self) {
        for (peer, opaque, _in_flight) in self.parked.borrow_mut().drain(..) {
            answer(&peer, opaque, b"drained");
        }
    }
}

/// Runs `client` on a thread of its own against a server with these limits; it is given the address, and the server is
/// stopped when it returns.
fn serve<T: Send + 'static>(
    limits: Limits,
    client: impl FnOnce(SocketAddr) -> T + Send + 'static,
) -> (T, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = listen("127.0.0.1:0".parse().unwrap(), 128).unwrap();
        let address = listener.local_addr().unwrap();
        let closed = Arc::new(AtomicUsize::new(0));
        let counted = closed.clone();
        let server = Server::start(vec![listener], 2, limits, move |_| {
            Rc::new(Echo {
                closed: counted.clone(),
                ..Echo::default()
            })
        })
        .unwrap();
        let result = tokio::task::spawn_blocking(move || client(address))
            .await
            .unwrap();
        server.stop(Duration::from_secs(5)).await;
        (result, closed.load(Ordering::SeqCst))
    })
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

fn request(code: i32, opaque: i32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let head = RequestHead {
        code,
        opaque,
        oneway: false,
    };
    frame::encode_request(&mut out, Serialization::Json, &head, &mut |_| (), body).unwrap();
    out
}

/// Reads one answer; `None` when the connection ended.
fn read_answer(stream: &mut TcpStream) -> Option<(i32, Vec<u8>)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; 4 + u32::from_be_bytes(length) as usize];
    bytes[..4].copy_from_slice(&length);
    stream.read_exact(&mut bytes[4..]).ok()?;
    let frame = frame::split(&bytes, frame::FRAME_MAX).unwrap().unwrap();
    Some((frame.decode().unwrap().opaque, frame.body.to_vec()))
}

#[test]
fn requests_are_answered_however_the_network_cuts_them() {
    serve(Limits::default(), |address| {
        let mut stream = connect(address);
        let mut bytes = Vec::new();
        for opaque in 0..50 {
            bytes.extend(request(
                1,
                opaque,
                &vec![u8::try_from(opaque).unwrap(); opaque as usize * 997],
            ));
        }
        for part in bytes.chunks(1 + bytes.len() / 333) {
            stream.write_all(part).unwrap();
        }
        for opaque in 0..50 {
            let (answered, body) = read_answer(&mut stream).unwrap();
            assert_eq!(answered, opaque);
            assert_eq!(
                body,
                vec![u8::try_from(opaque).unwrap(); opaque as usize * 997]
            );
        }
    });
}

#[test]
fn a_large_frame_in_many_reads_is_one_request() {
    serve(Limits::default(), |address| {
        let mut stream = connect(address);
        let body: Vec<u8> = (0..9_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut writer = stream.try_clone().unwrap();
        let sent = body.clone();
        let writing = std::thread::spawn(move || writer.write_all(&request(1, 7, &sent)).unwrap());
        let (opaque, answered) = read_answer(&mut stream).unwrap();
        writing.join().unwrap();
        assert_eq!((opaque, answered == body), (7, true));
    });
}

#[test]
fn a_frame_beyond_the_limit_ends_its_connection_and_no_other() {
    let limits = Limits {
        frame_bytes_max: 10_000,
        ..Limits::default()
    };
    let (_, closed) = serve(limits, |address| {
        let mut good = connect(address);
        let mut bad = connect(address);
        // At once: the server ends the connection as soon as it knows the length.
        let head = [20_000u32.to_be_bytes(), [0; 4]].concat();
        bad.write_all(&head).unwrap();
        assert_eq!(read_answer(&mut bad), None);
        good.write_all(&request(1, 3, b"still here")).unwrap();
        assert_eq!(read_answer(&mut good), Some((3, b"still here".to_vec())));
    });
    assert_eq!(closed, 2, "the handler hears of every end");
}

#[test]
fn connections_of_one_address_beyond_the_limit_are_closed_at_once() {
    let limits = Limits {
        connections_per_address: 2,
        ..Limits::default()
    };
    serve(limits, |address| {
        let mut first = connect(address);
        let mut second = connect(address);
        for stream in [&mut first, &mut second] {
            stream.write_all(&request(1, 1, b"")).unwrap();
            assert!(read_answer(stream).is_some());
        }
        let mut third = connect(address);
        // The refused connection may be reset before or after the write.
        let _ = third.write_all(&request(1, 1, b""));
        assert_eq!(read_answer(&mut third), None);
        drop(first);
        // The place is free again as soon as the server has seen the end.
        let again = (0..1000).any(|_| {
            let mut next = connect(address);
            let sent = next.write_all(&request(1, 9, b"")).is_ok();
            sent && read_answer(&mut next).is_some()
        });
        assert!(again);
    });
}

#[test]
fn a_reader_that_does_not_read_is_not_read_either() {
    let limits = Limits {
        outbound_bytes_per_connection: 1 << 20,
        ..Limits::default()
    };
    serve(limits, |address| {
        let mut stream = connect(address);
        stream.set_nonblocking(true).unwrap();
        let bytes = request(1, 1, &vec![7; 100_000]);
        let mut queued = bytes.clone();
        let mut sent = 0usize;
        // Until the kernel takes nothing for a while: the server has stopped reading.
        let mut refusals = 0;
        while refusals < 200 && sent < 1 << 30 {
            match stream.write(&queued) {
                Ok(count) => {
                    sent += count;
                    refusals = 0;
                    queued.drain(..count);
                    if queued.is_empty() {
                        queued = bytes.clone();
                    }
                }
                Err(_) => {
                    refusals += 1;
                    std::thread::yield_now();
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            }
        }
        assert!(
            sent < 1 << 30,
            "the server read {sent} bytes from a peer that reads nothing"
        );
        // Reading again, everything that was sent whole is answered.
        stream.set_nonblocking(false).unwrap();
        let whole = sent / bytes.len();
        for _ in 0..whole {
            assert_eq!(read_answer(&mut stream).unwrap().1.len(), 100_000);
        }
    });
}

#[test]
fn slow_readers_together_keep_no_more_than_the_limit() {
    let limits = Limits {
        outbound_bytes_max: 4 << 20,
        send_buffer: Some(64 << 10),
        ..Limits::default()
    };
    serve(limits, |address| {
        let mut slow: Vec<TcpStream> = (0..8).map(|_| connect(address)).collect();
        let bytes = request(1, 1, &vec![7; 1_000_000]);
        for stream in &slow {
            // What the kernel holds for a reader must not depend on the machine.
            let socket = socket2::SockRef::from(stream);
            socket.set_recv_buffer_size(64 << 10).unwrap();
        }
        let closed = slow.iter_mut().any(|stream| {
            // Nothing is read; more than the sockets and the limit hold is asked for.
            (0..20).any(|_| stream.write_all(&bytes).is_err())
        });
        assert!(closed, "somebody who takes nothing is cut off");
        drop(slow);
        let mut good = connect(address);
        good.write_all(&request(1, 3, b"still here")).unwrap();
        assert_eq!(read_answer(&mut good), Some((3, b"still here".to_vec())));
    });
}

#[test]
fn too_many_unanswered_requests_pause_reading_until_one_is_answered() {
    let limits = Limits {
        in_flight_per_connection: 2,
        ..Limits::default()
    };
    let ((), closed) = serve(limits, |address| {
        let mut stream = connect(address);
        stream.write_all(&request(PARKED, 1, b"")).unwrap();
        stream.write_all(&request(PARKED, 2, b"")).unwrap();
        // Another connection is served meanwhile.
        let mut other = connect(address);
        other.write_all(&request(1, 5, b"x")).unwrap();
        assert!(read_answer(&mut other).is_some());
    });
    assert_eq!(closed, 2);
}

#[test]
fn a_stop_answers_what_is_parked_and_then_resets() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = listen("127.0.0.1:0".parse().unwrap(), 128).unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::start(vec![listener], 1, Limits::default(), |_| {
            Rc::new(Echo::default())
        })
        .unwrap();
        let (parked, wait) = tokio::sync::oneshot::channel();
        let client = tokio::task::spawn_blocking(move || {
            let mut stream = connect(address);
            stream.write_all(&request(PARKED, 4, b"")).unwrap();
            // Answered behind the parked one in the same stream: the parked one has been read by then.
            stream.write_all(&request(1, 5, b"x")).unwrap();
            assert_eq!(read_answer(&mut stream), Some((5, b"x".to_vec())));
            parked.send(()).unwrap();
            assert_eq!(read_answer(&mut stream), Some((4, b"drained".to_vec())));
            let end = stream.read(&mut [0; 1]).unwrap_err();
            assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
        });
        wait.await.unwrap();
        server.stop(Duration::from_secs(5)).await;
        client.await.unwrap();
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

/// Holds up its shard with the first request until the test lets it go.
struct HeldUp(Arc<std::sync::Mutex<std::sync::mpsc::Receiver<()>>>);

impl Handler for HeldUp {
    fn frame(&self, _: &Peer, _: Frame<'_>) -> Verdict {
        // The test may be over.
        let _ = self.0.lock().unwrap().recv();
        Verdict::Continue
    }
}

#[test]
fn a_shard_that_does_not_turn_is_noticed_and_one_that_turns_again_too() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = listen("127.0.0.1:0".parse().unwrap(), 128).unwrap();
        let address = listener.local_addr().unwrap();
        let (let_go, held) = std::sync::mpsc::channel();
        let held = Arc::new(std::sync::Mutex::new(held));
        let server = Server::start(vec![listener], 2, Limits::default(), move |_| {
            Rc::new(HeldUp(Arc::clone(&held)))
        })
        .unwrap();
        let pulses = server.pulses().clone();
        let until = async |done: &dyn Fn(Duration) -> bool| {
            let look = async {
                while !done(pulses.look()) {
                    tokio::task::yield_now().await;
                }
            };
            let looked = tokio::time::timeout(Duration::from_secs(30), look).await;
            assert!(looked.is_ok(), "{:?}", pulses.look());
        };
        assert_eq!(pulses.look(), Duration::ZERO);
        let mut stream = connect(address);
        stream.write_all(&request(1, 1, b"")).unwrap();
        until(&|owed| Duration::from_millis(50) <= owed).await;
        let_go.send(()).unwrap();
        until(&|owed| owed == Duration::ZERO).await;
        server.stop(Duration::from_secs(5)).await;
        // Long after its end it owes nothing.
        assert_eq!(pulses.look(), Duration::ZERO);
    });
}
