//! Damage in the middle of the log: found, named, copied to the quarantine, and overwritten with a record that says nothing.
//!
//! So that Apache and we read on behind it, at the same offsets.

use std::ops::Range;
use std::sync::atomic::Ordering;

use gantry_message::{Millis, QueueId, SysFlag, record, topic};

use super::{MadeUp, Recovery, Start};
use crate::chain::Chain;
use crate::cursor::{Cursor, Reason};
use crate::error::StoreError;
use crate::format::blank;
use crate::log::Position;
use crate::segment::Segment;
use crate::width::{narrow, wide};

impl Recovery<'_> {
    /// Looks for the next whole record behind an unreadable place. When there is one, what lies between is copied to
    /// the quarantine and overwritten with a filler record, and reading can go on there. Records older than what was read
    /// before are left-overs of an earlier cut, not messages.
    pub(super) fn go_past(
        &self,
        chain: &Chain,
        (start, made_up): (&Start, &mut MadeUp),
        reason: &Reason,
        before: &Position,
    ) -> Result<Option<u64>, StoreError> {
        let at = before.end;
        let found = Cursor::new(chain, true)
            .doubting(start.doubted_from, start.synced_until)
            .next_record(at, before.last_time)
            .map_err(|(path, error)| StoreError::io("read", &path)(error))?;
        if let Some(found) = found {
            let segment = chain.find(at);
            let path = segment.as_ref().map_or(&*self.paths.root, |it| it.path());
            let (file, within) = (
                path.display(),
                at - segment.as_ref().map_or(0, |it| it.start()),
            );
            tracing::error!(from = at, to = found, %file, within, %reason, "this part of the log is damaged, its messages are lost");
            self.remember(chain, at..found, made_up)?;
            self.fill(chain, at, found, before.last_time)?;
        }
        Ok(found)
    }

    fn fill(&self, chain: &Chain, from: u64, to: u64, time: Millis) -> Result<(), StoreError> {
        for segment in chain.between(from, to) {
            let (start, end) = (from.max(segment.start()), to.min(segment.end()));
            if segment.is_read_only() {
                // It is named, and readers take nothing from there that is no record.
                continue;
            }
            self.keep_copy(&segment, start, end);
            let fail = |doing| StoreError::io(doing, segment.path());
            segment.zero(start..end).map_err(fail("zero"))?;
            if end == segment.end() {
                let rest = u32::try_from(end - start).unwrap_or(u32::MAX);
                if end - start >= blank::LEN {
                    segment
                        .write(&blank::encode(rest), start)
                        .map_err(fail("write"))?;
                }
            } else {
                let (head, tail) = filler(start..end, time, self.number);
                segment.write(&head, start).map_err(fail("write"))?;
                segment
                    .write(&tail, end - wide(tail.len()))
                    .map_err(fail("write"))?;
            }
            segment.sync().map_err(fail("sync"))?;
        }
        self.counters.quarantined.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Copies a range of the log into the quarantine; what cannot be read is left out. Where no copy can be kept (a full
    /// disk), the range was named, and that must do.
    fn keep_copy(&self, segment: &Segment, from: u64, to: u64) {
        let name = format!("commitlog-{from:020}-{to:020}");
        let read = |part: &mut [u8], at| segment.read(part, from + at);
        if let Err(error) = self.paths.keep_copy(&**self.disk, &name, to - from, read) {
            let file = segment.path().display();
            tracing::error!(%file, from, to, %error, "no copy of a damaged part of the log can be kept");
        }
    }
}

/// A record that no queue and no index takes: head (with the body's length) and tail (topic, empty properties). The body
/// between them is zeros. Two recoveries that lost the same put different records there.
fn filler(range: Range<u64>, time: Millis, recovery: u64) -> (Vec<u8>, Vec<u8>) {
    let (at, len) = (range.start, range.end - range.start);
    let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    let room = narrow(len) - record::FIXED_LEN;
    let topic = &topic::LOST_RANGE[..topic::LOST_RANGE.len().min(room)];
    let empty = gantry_message::Record {
        topic,
        queue_id: QueueId(0),
        flag: 0,
        sys_flag: SysFlag(SysFlag::ROLLBACK),
        born_time: time,
        born_host: nowhere,
        store_host: nowhere,
        reconsume_times: 0,
        prepared_offset: recovery,
        body: &[],
        properties: &[],
    };
    let mut head = Vec::new();
    let encoded = empty.encode(&mut head);
    assert!(encoded.is_ok(), "a filler is a record: {encoded:?}");
    gantry_message::patch(&mut head, 0.into(), at.into(), time);
    let tail = head.split_off(head.len() - 1 - topic.len() - 2);
    let body = len - wide(head.len() + tail.len());
    let mut crc = crc32fast::Hasher::new();
    let zeros = [0; 4096];
    let mut left = body;
    while left > 0 {
        let step = left.min(wide(zeros.len()));
        crc.update(&zeros[..narrow(step)]);
        left -= step;
    }
    let put = |bytes: &mut [u8], value: u64| {
        bytes.copy_from_slice(&u32::try_from(value).unwrap_or(0).to_be_bytes())
    };
    put(&mut head[..4], len);
    put(&mut head[8..12], u64::from(crc.finalize() & 0x7FFF_FFFF));
    let body_at = head.len() - 4;
    put(&mut head[body_at..], body);
    (head, tail)
}

#[cfg(test)]
mod tests {
    use gantry_message::RecordView;

    use super::*;

    #[test]
    fn a_filler_is_a_record_that_nobody_queues() {
        use crate::cursor::MIN_FILLER;
        for len in [MIN_FILLER, MIN_FILLER + 1, MIN_FILLER + 30, 5000] {
            let (head, tail) = filler(77..77 + len, Millis(9), u64::MAX);
            let body = usize::try_from(len).unwrap() - head.len() - tail.len();
            let bytes = [head, vec![0; body], tail].concat();
            let view = RecordView::parse(&bytes).unwrap();
            assert_eq!(view.verify_crc(), Ok(()));
            assert_eq!(
                (view.len(), view.log_offset().0),
                (usize::try_from(len).unwrap(), 77)
            );
            assert!(topic::LOST_RANGE.starts_with(view.topic()));
            assert!(!view.sys_flag().is_queued());
        }
    }
}
