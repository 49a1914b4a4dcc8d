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

/// A connection and its two buffers.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Invariant: `parsed <= filled <= input.len()`.
    input: Vec<u8>,
    parsed: usize,
    filled: usize,
    /// Bytes to be written; the caller appends.
    pub(crate) output: Vec<u8>,
    written: usize,
}

impl Connection {
    /// Connects, then never blocks again.
    pub(crate) fn open(address: &str) -> Result<Connection> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        Connection::adopt(stream)
    }

    /// Takes an accepted socket.
    pub(crate) fn adopt(stream: TcpStream) -> Result<Connection> {
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        stream.set_nonblocking(true).context("set O_NONBLOCK")?;
        Ok(Connection {
            stream,
            input: vec![0; READ_ROOM],
            parsed: 0,
            filled: 0,
            output: Vec::with_capacity(READ_ROOM),
            written: 0,
        })
    }

    /// Reads once. True when more may be waiting; an error when the peer closed.
    pub(crate) fn read(&mut self) -> Result<bool> {
        if self.parsed == self.filled {
            (self.parsed, self.filled) = (0, 0);
        } else if self.input.len() - self.filled < READ_ROOM / 2 {
            self.input.copy_within(self.parsed..self.filled, 0);
            (self.parsed, self.filled) = (0, self.filled - self.parsed);
            if self.input.len() - self.filled < READ_ROOM / 2 {
                // Grows with what really came, so that a claimed length costs nothing.
                self.input.resize(self.input.len() * 2, 0);
            }
        }
        let room = self.input.len() - self.filled;
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => bail!("the peer closed the connection"),
            Ok(count) => {
                self.filled += count;
                Ok(count == room)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error).context("read"),
        }
    }

    /// The next whole frame without its length word, if it is here.
    pub(crate) fn frame(&mut self) -> Result<Option<&[u8]>> {
        let waiting = &self.input[self.parsed..self.filled];
        let Some(size) = waiting.first_chunk::<4>().map(|word| u32::from_be_bytes(*word) as usize) else {
            return Ok(None);
        };
        if FRAME_MAX < size || size < 4 {
            bail!("a frame of {size} bytes: not the remoting protocol, or beyond its limit of {FRAME_MAX}");
        }
        let Some(end) = Some(4 + size).filter(|end| *end <= waiting.len()) else { return Ok(None) };
        let start = self.parsed;
        self.parsed += end;
        Ok(Some(&self.input[start + 4..start + end]))
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

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
