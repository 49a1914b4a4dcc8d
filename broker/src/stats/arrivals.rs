//! What came in for a topic, by kind and size of message, since the start. Unlike the other items it counts a delayed
//! message when it is sent and under the topic it is for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a sender wants of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Nothing of the below.
    Normal,
    /// Order: it has a sharding key.
    Fifo,
    /// To be delivered later.
    Delay,
}

impl MessageKind {
    /// Every kind, in the order of [`Arrivals`].
    pub const ALL: [MessageKind; 3] = [Self::Normal, Self::Fifo, Self::Delay];

    /// In a word, as RocketMQ 5 says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Fifo => "fifo",
            Self::Delay => "delay",
        }
    }
}

/// Upper ends of the ranges of [`Arrived::sizes`], in bytes; the last range has none. RocketMQ 5's.
pub const SIZE_ENDS: [u64; 6] = [1_024, 4_096, 524_288, 1_048_576, 2_097_152, 4_194_304];

/// What came in of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Messages.
    pub messages: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Messages by the size of their record; a batch counts by its average.
    pub sizes: [u64; SIZE_ENDS.len() + 1],
}

/// Of each kind; relaxed, nobody decides anything by them.
#[derive(Debug, Default)]
pub(super) struct Arrivals([OfKind; MessageKind::ALL.len()]);

#[derive(Debug, Default)]
struct OfKind {
    messages: AtomicU64,
    bytes: AtomicU64,
    sizes: [AtomicU64; SIZE_ENDS.len() + 1],
}

impl Arrivals {
    pub(super) fn add(&self, kind: MessageKind, messages: u64, bytes: u64) {
        let OfKind {
            messages: all,
            bytes: all_bytes,
            sizes,
        } = &self.0[kind as usize];
        all.fetch_add(messages, Relaxed);
        all_bytes.fetch_add(bytes, Relaxed);
        let size = bytes / messages.max(1);
        let range = SIZE_ENDS.partition_point(|&end| end < size);
        sizes[range].fetch_add(messages, Relaxed);
    }

    pub(super) fn of(&self, kind: MessageKind) -> Arrived {
        let of_kind = &self.0[kind as usize];
        Arrived {
            messages: of_kind.messages.load(Relaxed),
            bytes: of_kind.bytes.load(Relaxed),
            sizes: std::array::from_fn(|at| of_kind.sizes[at].load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_by_kind_and_by_the_size_of_one() {
        let arrivals = Arrivals::default();
        arrivals.add(MessageKind::Normal, 1, 1_024);
        arrivals.add(MessageKind::Normal, 4, 4 * 1_025);
        arrivals.add(MessageKind::Delay, 1, 5 << 20);
        let normal = arrivals.of(MessageKind::Normal);
        assert_eq!((normal.messages, normal.bytes), (5, 5_124));
        assert_eq!(normal.sizes, [1, 4, 0, 0, 0, 0, 0]);
        assert_eq!(arrivals.of(MessageKind::Fifo), Arrived::default());
        assert_eq!(arrivals.of(MessageKind::Delay).sizes, [0, 0, 0, 0, 0, 0, 1]);
    }
}
