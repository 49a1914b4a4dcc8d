//! The slave's end of the link: what is appended where, and what is reported when.

use std::time::Instant;

use gantry_message::LogOffset;

use crate::{CRC_LEN, HEAD_LEN, Head, Patience, Refusal, Short, Wire, report};

/// What came from the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// Log bytes that belong at the slave's end. A block may come in pieces.
    Append {
        /// Where they belong.
        at: LogOffset,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// The master lives and has nothing new.
    Heartbeat,
}

/// The slave's end of the link.
#[derive(Debug)]
pub struct Slave {
    patience: Patience,
    wire: Wire,
    segment_size: u64,
    /// Where the slave's log ends once everything that was handed out is appended.
    end: LogOffset,
    /// Invariant: at most `end`; what is below came as it was sent, as far as the wire can tell.
    verified: LogOffset,
    /// The head that is coming in, and how much of it is there (less than all).
    head: [u8; HEAD_LEN + CRC_LEN],
    head_len: usize,
    /// The checksum of the present block so far, and what it must be in the end.
    checksum: Option<(crc32fast::Hasher, u32)>,
    /// The present block as it was announced.
    announced: Head,
    /// Where the rest of the present block belongs, and how much it is.
    block: Head,
    read_at: Instant,
    /// What was reported last, and when.
    reported: Option<(LogOffset, Instant)>,
}

impl Slave {
    /// Connected to the master, with a log that ends at `end`.
    #[must_use]
    pub fn new(
        wire: Wire,
        patience: Patience,
        segment_size: u64,
        end: LogOffset,
        now: Instant,
    ) -> Self {
        assert!(0 < segment_size, "segments of no size");
        Self {
            patience,
            wire,
            segment_size,
            end,
            verified: end,
            head: [0; HEAD_LEN + CRC_LEN],
            head_len: 0,
            checksum: None,
            announced: Head { start: end, len: 0 },
            block: Head { start: end, len: 0 },
            read_at: now,
            reported: None,
        }
    }

    /// Where the log ends once everything that was handed out is appended.
    #[must_use]
    pub fn end(&self) -> LogOffset {
        self.end
    }

    /// What lies below came as it was sent: on a wire with checksums, whole blocks. Nothing beyond may be stored yet.
    #[must_use]
    pub fn verified(&self) -> LogOffset {
        self.verified
    }

    /// Takes what it can use from the front of `bytes`; call it until it returns `None`, which means all were taken.
    /// Whoever cannot append what it hands out drops the link.
    pub fn receive<'a>(
        &mut self,
        bytes: &mut &'a [u8],
        now: Instant,
    ) -> Result<Option<Received<'a>>, Refusal> {
        while !bytes.is_empty() {
            self.read_at = now;
            if self.block.len != 0 {
                let left = usize::try_from(self.block.len).unwrap_or(usize::MAX);
                let len = left.min(bytes.len());
                let (piece, rest) = bytes.split_at(len);
                *bytes = rest;
                return self.append(piece).map(Some);
            }
            let head_len = self.wire.head_len();
            let (first, rest) = bytes.split_at(bytes.len().min(head_len - self.head_len));
            *bytes = rest;
            self.head[self.head_len..self.head_len + first.len()].copy_from_slice(first);
            self.head_len += first.len();
            if self.head_len == head_len {
                self.head_len = 0;
                let [a, b, c, d, e, f, g, h, i, j, k, l, crc @ ..] = self.head;
                let head = Head::decode([a, b, c, d, e, f, g, h, i, j, k, l]);
                self.begin(head)?;
                let crc = u32::from_be_bytes(crc);
                self.checksum = (self.wire == Wire::Checked).then(|| (head.checksum(), crc));
                if head.len == 0 {
                    self.verify()?;
                    return Ok(Some(Received::Heartbeat));
                }
            }
        }
        Ok(None)
    }

    /// The report to send now, if one is due: at once after connecting and when more is stored, else as a sign of life.
    /// `stored` is where the slave's log ends, and what is below is as safe as the report shall promise.
    pub fn report(&mut self, stored: LogOffset, now: Instant) -> Option<Short> {
        assert!(
            stored <= self.verified,
            "stored up to {stored}, and only what is below {} came as it was sent",
            self.verified
        );
        let is_quiet = match self.reported {
            Some((end, at)) => end == stored && now < at + self.patience.heartbeat,
            None => false,
        };
        if is_quiet {
            return None;
        }
        self.reported = Some((stored, now));
        Some(report(self.wire, stored))
    }

    /// When to look again if nothing comes; an error if the master has been silent for too long.
    pub fn wait(&self, now: Instant) -> Result<Instant, Refusal> {
        let silent_at = self.read_at + self.patience.silence;
        if silent_at <= now {
            return Err(Refusal::Silent(self.patience.silence));
        }
        let report_at = self
            .reported
            .map_or(now, |(_, at)| at + self.patience.heartbeat);
        Ok(silent_at.min(report_at))
    }

    fn begin(&mut self, Head { start, len }: Head) -> Result<(), Refusal> {
        let refusal = Refusal::OtherSegments {
            start,
            len,
            segment_size: self.segment_size,
        };
        let within = start.0 % self.segment_size;
        if self.end.0 != 0 && start != self.end {
            return Err(Refusal::OutOfStep {
                ours: self.end,
                theirs: start,
            });
        }
        // An empty slave is given whole segments; a heartbeat tells it nothing yet.
        let is_astray = self.end.0 == 0 && within != 0 && len != 0;
        if is_astray || self.segment_size - within < u64::from(len) {
            return Err(refusal);
        }
        if start.0.checked_add(u64::from(len)).is_none() {
            return Err(refusal);
        }
        self.block = Head { start, len };
        self.announced = self.block;
        Ok(())
    }

    /// Compares the checksum of a block that is complete.
    fn verify(&mut self) -> Result<(), Refusal> {
        if let Some((checksum, wanted)) = self.checksum.take()
            && checksum.finalize() != wanted
        {
            let Head { start, len } = self.announced;
            return Err(Refusal::BlockChecksum { start, len });
        }
        self.verified = self.end;
        Ok(())
    }

    fn append<'a>(&mut self, piece: &'a [u8]) -> Result<Received<'a>, Refusal> {
        let at = self.block.start;
        // A piece is no longer than the block, whose end is a number.
        let len = u32::try_from(piece.len()).unwrap_or(self.block.len);
        self.end = LogOffset(at.0 + u64::from(len));
        self.block = Head {
            start: self.end,
            len: self.block.len - len,
        };
        match &mut self.checksum {
            Some((checksum, _)) => checksum.update(piece),
            None => self.verified = self.end,
        }
        if self.block.len == 0 {
            self.verify()?;
        }
        Ok(Received::Append { at, bytes: piece })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn slave(end: u64, now: Instant) -> Slave {
        Slave::new(Wire::Plain, Patience::default(), 1_000, LogOffset(end), now)
    }

    fn block(start: u64, bytes: &[u8]) -> Vec<u8> {
        let head = Head {
            start: LogOffset(start),
            len: u32::try_from(bytes.len()).unwrap(),
        };
        [head.encode(Wire::Plain, bytes).bytes(), bytes].concat()
    }

    #[test]
    fn blocks_arrive_in_any_pieces() {
        let now = Instant::now();
        let stream = [block(500, b"hello"), block(505, b""), block(505, b" world")].concat();
        for piece in 1..=stream.len() {
            let mut slave = slave(500, now);
            let (mut log, mut heartbeats) = (Vec::new(), 0);
            for mut bytes in stream.chunks(piece) {
                while let Some(received) = slave.receive(&mut bytes, now).unwrap() {
                    match received {
                        Received::Append { at, bytes } => {
                            assert_eq!(at.0, 500 + log.len() as u64);
                            log.extend_from_slice(bytes);
                        }
                        Received::Heartbeat => heartbeats += 1,
                    }
                }
            }
            assert_eq!(
                (&log[..], heartbeats),
                (&b"hello world"[..], 1),
                "in pieces of {piece}"
            );
            assert_eq!(slave.end(), LogOffset(511));
        }
    }

    #[test]
    fn a_block_that_does_not_fit_ends_the_link_and_appends_nothing() {
        let now = Instant::now();
        let head = |start, len| {
            Head {
                start: LogOffset(start),
                len,
            }
            .encode(Wire::Plain, b"")
            .bytes()
            .to_vec()
        };
        let out_of_step = |ours, theirs| Refusal::OutOfStep {
            ours: LogOffset(ours),
            theirs: LogOffset(theirs),
        };
        let other = |start, len| Refusal::OtherSegments {
            start: LogOffset(start),
            len,
            segment_size: 1_000,
        };
        for (end, bytes, refusal) in [
            (500, head(499, 10), out_of_step(500, 499)),
            (500, head(501, 0), out_of_step(500, 501)),
            (500, head(u64::MAX, 1), out_of_step(500, u64::MAX)),
            (500, head(500, 501), other(500, 501)),
            (500, head(500, u32::MAX), other(500, u32::MAX)),
            (0, head(7, 10), other(7, 10)),
            (0, head(2_000, 1_001), other(2_000, 1_001)),
            (0, head(u64::MAX - 615, 900), other(u64::MAX - 615, 900)),
        ] {
            let mut slave = slave(end, now);
            assert_eq!(slave.receive(&mut &bytes[..], now), Err(refusal));
            assert_eq!(slave.end(), LogOffset(end));
        }
    }

    #[test]
    fn an_empty_slave_takes_the_segment_it_is_given() {
        let now = Instant::now();
        let mut slave = slave(0, now);
        let zero = LogOffset(0);
        assert_eq!(slave.report(zero, now), Some(report(Wire::Plain, zero)));
        let bytes = [block(3_456, b""), block(3_000, b"abc")].concat();
        let mut bytes = &bytes[..];
        assert_eq!(
            slave.receive(&mut bytes, now),
            Ok(Some(Received::Heartbeat))
        );
        let at = LogOffset(3_000);
        assert_eq!(
            slave.receive(&mut bytes, now),
            Ok(Some(Received::Append { at, bytes: b"abc" }))
        );
        let end = LogOffset(3_003);
        assert_eq!(slave.report(end, now), Some(report(Wire::Plain, end)));
    }

    #[test]
    fn it_reports_at_once_then_after_appends_then_as_a_sign_of_life() {
        let now = Instant::now();
        let mut slave = slave(500, now);
        assert_eq!(slave.wait(now), Ok(now));
        let end = LogOffset(500);
        assert_eq!(slave.report(end, now), Some(report(Wire::Plain, end)));
        assert_eq!(slave.report(end, now), None);
        let later = now + Duration::from_secs(5);
        assert_eq!(slave.wait(now), Ok(later));
        assert_eq!(slave.report(end, later), Some(report(Wire::Plain, end)));
        let dead = now + Duration::from_secs(20);
        assert_eq!(
            slave.wait(dead),
            Err(Refusal::Silent(Duration::from_secs(20)))
        );
    }
}
