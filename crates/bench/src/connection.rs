//! One non-blocking connection: bytes in, bytes out, whole frames found in between.
//!
//! Reads go into the connection's own buffer and frames are looked at where they lie; writes are gathered by the
//! caller and go out in one call. It knows where a frame ends and nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail};

const READ_ROOM: usize = 64 << 10;
const FRAME_MAX: usize = 16 << 20;

/// A connection and its two buffers, which are fields so that an answer can be written while its request is read.
pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) input: Input,
    /// Bytes to be written; the caller appends.
    pub(crate) output: Vec<u8>,
    written: usize,
}

/// Bytes read.
pub(crate) struct Input {
    /// Invariant: `parsed <= filled <= bytes.len()`.
    bytes: Vec<u8>,
    parsed: usize,
    filled: usize,
}

impl Connection {
    /// Connects, then never blocks again.
    pub(crate) fn open(address: &str) -> Result<Connection> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        Connection::adopt(stream)
    }

    /// Takes an accepted socket.
    pub(crate) fn adopt(stream: TcpStream) -> Result<Connection> {
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        stream.set_nonblocking(true).context("set O_NONBLOCK")?;
        Ok(Connection {
            stream,
            input: Input {
                bytes: vec![0; READ_ROOM],
                parsed: 0,
                filled: 0,
            },
            output: Vec::with_capacity(READ_ROOM),
            written: 0,
        })
    }

    /// Reads once. True when more may be waiting; an error when the peer closed.
    pub(crate) fn read(&mut self) -> Result<bool> {
        let room = self.input.room();
        let wanted = room.len();
        match self.stream.read(room) {
            Ok(0) => bail!("the peer closed the connection"),
            Ok(count) => {
                self.input.filled += count;
                Ok(count == wanted)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error).context("read"),
        }
    }

    /// Writes what the socket takes; the rest waits for the next time it is writable.
    pub(crate) fn flush(&mut self) -> Result<()> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => bail!("the socket takes nothing"),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("write"),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) fn unsent(&self) -> usize {
        self.output.len() - self.written
    }
}

impl Input {
    /// The next whole frame, its length word included, if it is here.
    pub(crate) fn frame(&mut self) -> Result<Option<&[u8]>> {
        let waiting = &self.bytes[self.parsed..self.filled];
        let Some(size) = waiting
            .first_chunk::<4>()
            .map(|word| u32::from_be_bytes(*word) as usize)
        else {
            return Ok(None);
        };
        if !(4..=FRAME_MAX).contains(&size) {
            bail!(
                "a frame of {size} bytes: not the remoting protocol, or beyond its limit of {FRAME_MAX}"
            );
        }
        if waiting.len() < 4 + size {
            return Ok(None);
        }
        let start = self.parsed;
        self.parsed += 4 + size;
        Ok(Some(&self.bytes[start..self.parsed]))
    }

    /// Where the next read goes. Grows with what really came: a claimed length costs nothing.
    fn room(&mut self) -> &mut [u8] {
        if self.parsed == self.filled {
            (self.parsed, self.filled) = (0, 0);
        } else if self.bytes.len() - self.filled < READ_ROOM / 2 {
            self.bytes.copy_within(self.parsed..self.filled, 0);
            (self.parsed, self.filled) = (0, self.filled - self.parsed);
            if self.bytes.len() - self.filled < READ_ROOM / 2 {
                self.bytes.resize(self.bytes.len() * 2, 0);
            }
        }
        &mut self.bytes[self.filled..]
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn frames_of_any_size_arrive_whole_however_they_are_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = Connection::open(&listener.local_addr().unwrap().to_string()).unwrap();
        let mut far = listener.accept().unwrap().0;
        let sizes = [4, 5, 1_000, READ_ROOM, 3 * READ_ROOM, 7];
        let sent: Vec<Vec<u8>> = sizes
            .iter()
            .map(|size| {
                [
                    &u32::try_from(*size).unwrap().to_be_bytes()[..],
                    &vec![7; *size],
                ]
                .concat()
            })
            .collect();
        let stream = sent.concat();
        let writer = std::thread::spawn(move || {
            stream
                .chunks(997)
                .for_each(|part| far.write_all(part).unwrap());
            far
        });
        let mut seen = Vec::new();
        while seen.len() < sent.len() {
            near.read().unwrap();
            while let Some(frame) = near.input.frame().unwrap() {
                seen.push(frame.to_vec());
            }
        }
        assert_eq!(seen, sent);
        drop(writer.join().unwrap());
        let end = std::iter::repeat_with(|| near.read())
            .find_map(Result::err)
            .unwrap();
        assert_eq!(end.to_string(), "the peer closed the connection");
    }

    #[test]
    fn a_length_beyond_the_limit_is_an_error() {
        for size in [3_u32, 16 << 21, u32::MAX] {
            let mut bytes = size.to_be_bytes().to_vec();
            bytes.resize(64, 0);
            let mut input = Input {
                filled: bytes.len(),
                bytes,
                parsed: 0,
            };
            assert!(input.frame().is_err(), "{size}");
        }
    }
}
