//! Bytes that wait for a socket, in order: encoded answers in one growing buffer, and shared slices (message bodies
//! mapped from the log) that are handed to the kernel without a copy.
//!
//! It never touches a socket itself: `flush` is given the vectored write to use.

use std::{collections::VecDeque, io, io::IoSlice};

use bytes::{Buf, Bytes};

/// More slices than this never go into one vectored write.
const SLICES_MAX: usize = 64;
/// A drained buffer larger than this is given back to the allocator.
const KEEP_BYTES_MAX: usize = 256 << 10;

enum Chunk {
    Owned(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Owned(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
        }
    }
}

/// What is still to be written to one connection.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Written first; holds everything as long as no shared slice is queued.
    front: Vec<u8>,
    /// Invariant: `front_sent <= front.len()`; the bytes before it are with the kernel.
    front_sent: usize,
    rest: VecDeque<Chunk>,
    /// Bytes in `rest`.
    rest_bytes: usize,
    /// Those of them that are shared: pages of a file, which cost no memory of ours.
    shared_bytes: usize,
    /// What the server's total contains for this connection; see `peer`.
    pub(crate) accounted: usize,
}

/// What a flush achieved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Nothing is left.
    Empty,
    /// The socket takes no more for now.
    Blocked,
}

impl Outbox {
    /// Bytes not yet with the kernel.
    pub(crate) fn bytes(&self) -> usize {
        self.front.len() - self.front_sent + self.rest_bytes
    }

    /// Bytes not yet with the kernel that lie in memory of ours.
    pub(crate) fn owned_bytes(&self) -> usize {
        self.bytes() - self.shared_bytes
    }

    /// Lets `write` append to the last buffer.
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.rest.is_empty() {
            write(&mut self.front);
            return;
        }
        if !matches!(self.rest.back(), Some(Chunk::Owned(_))) {
            self.rest.push_back(Chunk::Owned(Vec::new()));
        }
        if let Some(Chunk::Owned(buffer)) = self.rest.back_mut() {
            let before = buffer.len();
            write(buffer);
            self.rest_bytes += buffer.len() - before;
        }
    }

    /// Queues a slice that is sent from where it lies.
    pub(crate) fn append_shared(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.rest_bytes += slice.len();
            self.shared_bytes += slice.len();
            self.rest.push_back(Chunk::Shared(slice));
        }
    }

    /// Writes until everything is out or the socket blocks.
    pub(crate) fn flush(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Flush> {
        while self.bytes() > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            let mut offered = 0;
            let front = &self.front[self.front_sent..];
            let rest = self.rest.iter().map(Chunk::bytes);
            for (slot, bytes) in slices
                .iter_mut()
                .zip(std::iter::once(front).chain(rest).filter(|b| !b.is_empty()))
            {
                *slot = IoSlice::new(bytes);
                count += 1;
                offered += bytes.len();
            }
            match write(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.advance(written);
                    if written < offered {
                        // A short write says that the socket's buffer is full: asking again would only cost a call.
                        return Ok(Flush::Blocked);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flush::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.front.clear();
        self.front_sent = 0;
        self.front.shrink_to(KEEP_BYTES_MAX);
        Ok(Flush::Empty)
    }

    /// Forgets everything, as the connection is gone.
    pub(crate) fn clear(&mut self) {
        *self = Outbox::default();
    }

    fn advance(&mut self, mut written: usize) {
        let front = written.min(self.front.len() - self.front_sent);
        self.front_sent += front;
        written -= front;
        if self.front_sent == self.front.len() {
            self.front.clear();
            self.front_sent = 0;
        }
        while written > 0 {
            let Some(chunk) = self.rest.front_mut() else {
                unreachable!("the kernel took more bytes than it was offered")
            };
            let taken = written.min(chunk.bytes().len());
            written -= taken;
            self.rest_bytes -= taken;
            if let Chunk::Shared(_) = chunk {
                self.shared_bytes -= taken;
            }
            if taken == chunk.bytes().len() {
                self.rest.pop_front();
            } else {
                match chunk {
                    Chunk::Owned(bytes) => {
                        bytes.drain(..taken);
                    }
                    Chunk::Shared(bytes) => bytes.advance(taken),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes through a socket that takes at most `step` bytes a call and `room` in all.
    fn drain(outbox: &mut Outbox, step: usize, room: usize) -> (Vec<u8>, Flush) {
        let mut out = Vec::new();
        let flush = outbox.flush(|slices| {
            let left = room - out.len();
            if left == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let all: Vec<u8> = slices.iter().flat_map(|s| s.to_vec()).collect();
            let taken = all.len().min(step).min(left);
            out.extend_from_slice(&all[..taken]);
            Ok(taken)
        });
        (out, flush.unwrap())
    }

    #[test]
    fn bytes_leave_in_the_order_they_were_queued_however_the_socket_cuts_them() {
        for step in 1..12 {
            let mut outbox = Outbox::default();
            outbox.append(|b| b.extend_from_slice(b"abc"));
            outbox.append_shared(Bytes::from_static(b"defgh"));
            outbox.append_shared(Bytes::new());
            outbox.append(|b| b.extend_from_slice(b"ij"));
            outbox.append(|b| b.extend_from_slice(b"k"));
            assert_eq!((outbox.bytes(), outbox.owned_bytes()), (11, 6));
            let mut all = Vec::new();
            while outbox.bytes() > 0 {
                let (part, _) = drain(&mut outbox, step, 1000);
                assert!(!part.is_empty());
                all.extend(part);
            }
            assert_eq!(all, b"abcdefghijk", "step {step}");
            assert_eq!(outbox.owned_bytes(), 0);
        }
    }

    #[test]
    fn shared_slices_reach_the_socket_from_where_they_lie() {
        let shared = Bytes::from(vec![7; 5000]);
        let mut outbox = Outbox::default();
        outbox.append(|b| b.extend_from_slice(b"head"));
        outbox.append_shared(shared.clone());
        let mut seen = Vec::new();
        let flush = outbox.flush(|slices| {
            seen.extend(slices.iter().map(|slice| slice.as_ptr()));
            Ok(slices.iter().map(|slice| slice.len()).sum())
        });
        assert_eq!((flush.unwrap(), seen.len()), (Flush::Empty, 2));
        assert_eq!(seen[1], shared.as_ptr());
    }

    #[test]
    fn a_blocked_socket_leaves_the_rest_for_later() {
        let mut outbox = Outbox::default();
        outbox.append(|b| b.extend_from_slice(b"0123456789"));
        let (out, flush) = drain(&mut outbox, 100, 4);
        assert_eq!((out.as_slice(), flush), (&b"0123"[..], Flush::Blocked));
        outbox.append(|b| b.extend_from_slice(b"ab"));
        let (out, flush) = drain(&mut outbox, 100, 100);
        assert_eq!((out.as_slice(), flush), (&b"456789ab"[..], Flush::Empty));
    }
}
