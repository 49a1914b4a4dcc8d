//! A server that says what a test wants.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use gantry_wire::{
    Request, Response,
    frame::{self, FRAME_MAX},
};

/// Answers whoever connects; where there is no answer, the connection ends.
pub(crate) fn serve(
    listener: TcpListener,
    answer: impl Fn(Request) -> Option<Response> + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || converse(stream.unwrap(), &*answer));
        }
    });
}

fn converse(mut stream: TcpStream, answer: &dyn Fn(Request) -> Option<Response>) {
    let mut buffer = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
        }
        while let Some(frame) = frame::split(&buffer, FRAME_MAX).unwrap() {
            let (header, serialization) = (frame.decode().unwrap(), frame.serialization);
            let request = Request::from_header(header, serialization, frame.body.to_vec().into());
            let size = frame.size;
            buffer.drain(..size);
            let opaque = request.opaque;
            let Some(answer) = answer(request) else {
                return;
            };
            let mut out = Vec::new();
            answer.encode(&mut out, opaque, serialization);
            stream.write_all(&out).unwrap();
        }
    }
}
