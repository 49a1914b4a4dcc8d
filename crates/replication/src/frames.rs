//! What travels: reports from the slave (8 bytes), blocks from the master (a head of 12 bytes, then log bytes).

use gantry_message::LogOffset;

/// Length of a report.
pub const REPORT_LEN: usize = 8;
/// Length of a block's head.
pub const HEAD_LEN: usize = 12;

/// A report: where the slave's log ends.
#[must_use]
pub fn report(end: LogOffset) -> [u8; REPORT_LEN] {
    end.0.to_be_bytes()
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
    /// As it travels.
    #[must_use]
    pub fn encode(self) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        bytes[..8].copy_from_slice(&self.start.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }

    /// Any bytes are a head; whether its numbers make sense the slave decides.
    #[must_use]
    pub fn decode([a, b, c, d, e, f, g, h, len @ ..]: [u8; HEAD_LEN]) -> Self {
        Self {
            start: LogOffset(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            len: u32::from_be_bytes(len),
        }
    }
}

/// Cuts a stream into reports, however it arrives.
#[derive(Debug, Default)]
pub struct Reports {
    /// The bytes of a report that is not complete, and how many these are (less than all).
    partial: [u8; REPORT_LEN],
    filled: usize,
}

impl Reports {
    /// Takes the next bytes of the stream; returns the reports they complete.
    pub fn take<'a>(&'a mut self, bytes: &'a [u8]) -> impl Iterator<Item = LogOffset> + 'a {
        bytes.iter().filter_map(|&byte| {
            self.partial[self.filled] = byte;
            self.filled = (self.filled + 1) % REPORT_LEN;
            (self.filled == 0).then(|| LogOffset(u64::from_be_bytes(self.partial)))
        })
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
        assert_eq!(head.encode(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(Head::decode(head.encode()), head);
    }

    #[test]
    fn reports_arrive_in_any_pieces() {
        let sent: Vec<LogOffset> = [0, 7, u64::MAX].map(LogOffset).to_vec();
        let stream: Vec<u8> = sent.iter().flat_map(|&end| report(end)).collect();
        for piece in 1..=stream.len() {
            let mut reports = Reports::default();
            let mut taken = Vec::new();
            for bytes in stream.chunks(piece) {
                taken.extend(reports.take(bytes));
            }
            assert_eq!(taken, sent, "in pieces of {piece}");
        }
    }
}
