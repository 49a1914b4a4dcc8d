//! Looking messages up: by key (12) and by position in the log (33).
//!
//! Records are handed out as they lie in the log, without a copy where the disk allows it. Both read files: they run
//! where that is allowed. What is indexed under which key is the store's business.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use gantry_message::{LogOffset, Millis};
use gantry_store::Store;
use gantry_wire::headers::{QueryMessage, QueryMessageAnswer, ViewMessage};
use gantry_wire::{Request, Response};

use crate::refusal::Refusal;

/// Most messages one query returns, whatever it asks for: Java's index reads no more than 64 either.
const MESSAGES_MAX: usize = 64;
/// Most bytes one answer carries: it has to fit into a frame of 16 MiB.
const BYTES_MAX: usize = 12 << 20;

/// The parts that looking up needs.
pub struct Query {
    /// Where messages lie.
    pub store: Arc<Store>,
    /// `defaultQueryMaxNum`: how many messages a query by unique key returns.
    pub unique_key_max: u32,
}

impl Query {
    /// Serves 12. Blocks.
    pub fn by_key(&self, request: &Request) -> Result<Response, Refusal> {
        let header: QueryMessage<'_> = request.header()?;
        let wanted = match header.unique_key {
            true => usize::try_from(self.unique_key_max),
            false => usize::try_from(header.max_num),
        };
        let wanted = wanted.unwrap_or(0).min(MESSAGES_MAX);
        let (begin, end) = (Millis(header.begin_timestamp), Millis(header.end_timestamp));
        let found = self
            .store
            .query(header.topic, header.key, wanted, begin, end);
        let found = found.map_err(|error| Refusal::system_error(error.to_string()))?;
        if found.records.is_empty() {
            return Err(Refusal::query_found_nothing());
        }
        let answer = QueryMessageAnswer {
            index_last_update_timestamp: found.last_update_time.0,
            index_last_update_phyoffset: i64::try_from(found.last_update_offset)
                .unwrap_or(i64::MAX),
        };
        Ok(Response::with_body(joined(found.records)).header(&answer))
    }

    /// Serves 33. Blocks.
    pub fn by_offset(&self, request: &Request) -> Result<Response, Refusal> {
        let header: ViewMessage = request.header()?;
        let not_found = || Refusal::record_not_found(header.offset);
        let offset = u64::try_from(header.offset).map_err(|_| not_found())?;
        let record = self
            .store
            .record_at(LogOffset(offset))
            .map_err(|error| Refusal::system_error(error.to_string()))?;
        record.map(Response::with_body).ok_or_else(not_found)
    }
}

/// Records one behind the other, as many as fit; a single one is not copied.
fn joined(mut records: Vec<Bytes>) -> Bytes {
    if records.len() == 1 {
        return records.swap_remove(0);
    }
    let mut body = BytesMut::new();
    for record in records {
        if !body.is_empty() && BYTES_MAX < body.len() + record.len() {
            break;
        }
        body.extend_from_slice(&record);
    }
    body.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_whole_records_and_fits_into_a_frame() {
        let record = |len: usize| Bytes::from(vec![7; len]);
        for (sizes, expected) in [
            (&[5][..], 5),
            (&[5, 6], 11),
            (&[BYTES_MAX + 1], BYTES_MAX + 1),
            (&[BYTES_MAX - 1, 1, 1], BYTES_MAX),
            (&[BYTES_MAX, 1], BYTES_MAX),
        ] {
            assert_eq!(
                joined(sizes.iter().map(|size| record(*size)).collect()).len(),
                expected,
                "{sizes:?}"
            );
        }
    }

    #[test]
    fn one_record_is_not_copied() {
        let record = Bytes::from(vec![1, 2, 3]);
        assert_eq!(joined(vec![record.clone()]).as_ptr(), record.as_ptr());
    }
}
