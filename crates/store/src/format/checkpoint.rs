//! Apache's checkpoint: store times of the last durable record in log, queues and index, in a file of 4096 bytes.
//!
//! We write it for the way back and read it only where Apache stopped uncleanly; our own progress file says more.

use gantry_message::Millis;

/// How long the file is.
pub const LEN: usize = 4096;

/// Store times of the last durable records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Of the log.
    pub log: Millis,
    /// Of the consume queues.
    pub queues: Millis,
    /// Of the index.
    pub index: Millis,
}

impl Checkpoint {
    /// Reads the file; what is missing of it counts as 0.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let at = |at: usize| {
            let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
            Millis(field.map_or(0, |field| i64::from_be_bytes(*field)))
        };
        Self {
            log: at(0),
            queues: at(8),
            index: at(16),
        }
    }

    /// The whole file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; LEN];
        for (field, at) in [self.log, self.queues, self.index]
            .iter()
            .zip(bytes.chunks_exact_mut(8))
        {
            at.copy_from_slice(&field.0.to_be_bytes());
        }
        bytes
    }

    /// Everything stored until then is in log and queues: Apache allows itself three seconds.
    #[must_use]
    pub fn trusted_until(&self) -> Millis {
        self.log.min(self.queues).plus(-3000).max(Millis(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_goes_both_ways_and_a_short_one_is_zero() {
        let checkpoint = Checkpoint {
            log: Millis(5000),
            queues: Millis(4000),
            index: Millis(7),
        };
        let bytes = checkpoint.encode();
        assert_eq!(
            (bytes.len(), &bytes[..8]),
            (4096, &5000_i64.to_be_bytes()[..])
        );
        assert_eq!(Checkpoint::decode(&bytes), checkpoint);
        assert_eq!(
            Checkpoint::decode(&bytes[..12]),
            Checkpoint {
                log: Millis(5000),
                ..Checkpoint::default()
            }
        );
        assert_eq!(checkpoint.trusted_until(), Millis(1000));
    }
}
