//! What travels: reports from the slave, blocks of log bytes from the master.
//!
//! ```text
//! Apache's wire                                  between two Gantrys
//!                                                hello  0xFF "GANTRY" 1, token [u8; 16]   slave to master, once
//! report  end i64                                report end i64, CRC-32 of it u32
//! block   start i64, length i32, bytes           block  start i64, length i32, CRC-32 of head and bytes u32, bytes
//! ```
//! A block without bytes is a heartbeat. As a position, a hello is below zero: no report of a slave of Apache's.

use gantry_message::LogOffset;

use crate::Refusal;

/// Length of a report on Apache's wire.
pub const REPORT_LEN: usize = 8;
/// Length of a block's head on Apache's wire.
pub const HEAD_LEN: usize = 12;
/// What a checksum adds to either.
pub const CRC_LEN: usize = 4;
/// What a slave begins with that has an invitation.
pub const HELLO: [u8; REPORT_LEN] = *b"\xFFGANTRY\x01";
/// Length of an invitation.
pub const TOKEN_LEN: usize = 16;

/// How the bytes of a link are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// Apache's.
    #[default]
    Plain,
    /// Between two Gantrys: reports and blocks carry checksums.
    Checked,
}

impl Wire {
    /// Length of a report.
    #[must_use]
    pub const fn report_len(self) -> usize {
        match self {
            Self::Plain => REPORT_LEN,
            Self::Checked => REPORT_LEN + CRC_LEN,
        }
    }

    /// Length of a block's head.
    #[must_use]
    pub const fn head_len(self) -> usize {
        match self {
            Self::Plain => HEAD_LEN,
            Self::Checked => HEAD_LEN + CRC_LEN,
        }
    }

    /// As the word that status and log use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Checked => "checked",
        }
    }
}

/// Bytes of a report or of a head, as many as the wire has of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    bytes: [u8; HEAD_LEN + CRC_LEN],
    len: usize,
}

impl Short {
    /// The bytes to write.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn of(start: &[u8], crc: Option<u32>) -> Self {
        let mut short = Self {
            bytes: [0; HEAD_LEN + CRC_LEN],
            len: start.len(),
        };
        short.bytes[..start.len()].copy_from_slice(start);
        if let Some(crc) = crc {
            short.bytes[start.len()..start.len() + CRC_LEN].copy_from_slice(&crc.to_be_bytes());
            short.len += CRC_LEN;
        }
        short
    }
}

/// A report: where the slave's log ends.
#[must_use]
pub fn report(wire: Wire, end: LogOffset) -> Short {
    let bytes = end.0.to_be_bytes();
    let crc = (wire == Wire::Checked).then(|| crc32fast::hash(&bytes));
    Short::of(&bytes, crc)
}

/// The head of a block; a block without bytes is a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Where in the log the bytes belong; of a heartbeat, what would come next.
    pub start: LogOffset,
    /// How many bytes follow.
    pub len: u32,
}

impl Head {
    /// As it travels before these bytes.
    #[must_use]
    pub fn encode(self, wire: Wire, bytes: &[u8]) -> Short {
        let head = self.head();
        let crc = (wire == Wire::Checked).then(|| {
            let mut crc = self.checksum();
            crc.update(bytes);
            crc.finalize()
        });
        Short::of(&head, crc)
    }

    /// Any bytes are a head; whether its numbers make sense the slave decides.
    #[must_use]
    pub fn decode([a, b, c, d, e, f, g, h, len @ ..]: [u8; HEAD_LEN]) -> Self {
        Self {
            start: LogOffset(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            len: u32::from_be_bytes(len),
        }
    }

    /// The checksum of a block, as far as the head goes.
    pub(crate) fn checksum(self) -> crc32fast::Hasher {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.head());
        crc
    }

    fn head(self) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        bytes[..8].copy_from_slice(&self.start.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }
}

/// Cuts a stream into reports, however it arrives.
#[derive(Debug, Default)]
pub struct Reports {
    wire: Wire,
    /// The bytes of a report that is not complete, and how many these are (less than all).
    partial: [u8; REPORT_LEN + CRC_LEN],
    filled: usize,
}

impl Reports {
    /// Of a stream on this wire.
    #[must_use]
    pub fn new(wire: Wire) -> Self {
        Self {
            wire,
            ..Self::default()
        }
    }

    /// Takes the next bytes of the stream; returns the reports they complete.
    pub fn take<'a>(
        &'a mut self,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = Result<LogOffset, Refusal>> + 'a {
        bytes.iter().filter_map(|&byte| {
            self.partial[self.filled] = byte;
            self.filled = (self.filled + 1) % self.wire.report_len();
            (self.filled == 0).then(|| self.complete())
        })
    }

    fn complete(&self) -> Result<LogOffset, Refusal> {
        let [a, b, c, d, e, f, g, h, crc @ ..] = self.partial;
        let end = [a, b, c, d, e, f, g, h];
        let is_whole = self.wire == Wire::Plain || crc32fast::hash(&end) == u32::from_be_bytes(crc);
        if is_whole {
            Ok(LogOffset(u64::from_be_bytes(end)))
        } else {
            Err(Refusal::ReportChecksum)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_s_head_is_an_offset_and_a_length() {
        let head = Head {
            start: LogOffset(0x0102_0304_0506_0708),
            len: 0x090A_0B0C,
        };
        let plain = head.encode(Wire::Plain, b"x");
        assert_eq!(plain.bytes(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let mut bytes = [0; HEAD_LEN];
        bytes.copy_from_slice(plain.bytes());
        assert_eq!(Head::decode(bytes), head);
        let checked = head.encode(Wire::Checked, b"x");
        let crc = crc32fast::hash(&[plain.bytes(), b"x"].concat());
        assert_eq!(
            checked.bytes(),
            [plain.bytes(), &crc.to_be_bytes()].concat()
        );
    }

    #[test]
    fn a_hello_is_no_position() {
        assert!(i64::from_be_bytes(HELLO) < 0);
    }

    #[test]
    fn reports_arrive_in_any_pieces() {
        let sent: Vec<LogOffset> = [0, 7, u64::MAX].map(LogOffset).to_vec();
        for wire in [Wire::Plain, Wire::Checked] {
            let reports = sent.iter().map(|&end| report(wire, end));
            let stream: Vec<u8> = reports.flat_map(|it| it.bytes().to_vec()).collect();
            assert_eq!(stream.len(), 3 * wire.report_len());
            for piece in 1..=stream.len() {
                let mut reports = Reports::new(wire);
                let mut taken = Vec::new();
                for bytes in stream.chunks(piece) {
                    taken.extend(reports.take(bytes).map(Result::unwrap));
                }
                assert_eq!(taken, sent, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_report_with_one_other_bit_is_refused() {
        let sent = report(Wire::Checked, LogOffset(4711));
        for bit in 0..sent.bytes().len() * 8 {
            let mut bytes = sent.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut reports = Reports::new(Wire::Checked);
            let taken: Vec<_> = reports.take(&bytes).collect();
            assert_eq!(taken, [Err(Refusal::ReportChecksum)]);
        }
    }
}
