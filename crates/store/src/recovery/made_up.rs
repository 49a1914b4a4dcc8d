//! Where recovery puts something in place of what was lost: remembered, for whoever has a copy of the log may have what was
//! there.

use std::ops::Range;

use gantry_disk::replace;

use super::Recovery;
use crate::chain::Chain;
use crate::error::StoreError;
use crate::format::progress::{MADE_UP_MAX, Progress, latest};

/// So many empty ends of segments are remembered of one recovery.
const EMPTY_MAX: usize = MADE_UP_MAX / 2;

/// The places of one recovery, as far as who compares logs has to know them. A filler record is like none of another
/// recovery: logs that have the first one in common have all of that recovery in common. An empty end of a segment looks the
/// same whoever made it.
#[derive(Debug, Default)]
pub(super) struct MadeUp {
    places: Vec<u64>,
    has_record: bool,
}

impl MadeUp {
    /// Takes in a range that is lost; whether there is a place more to be remembered.
    pub(super) fn add(&mut self, chain: &Chain, lost: Range<u64>) -> bool {
        let segments = chain.between(lost.start, lost.end);
        let segments = segments
            .iter()
            .map(|segment| segment.start()..segment.end());
        self.add_in(segments, lost)
    }

    fn add_in(&mut self, segments: impl Iterator<Item = Range<u64>>, lost: Range<u64>) -> bool {
        let before = self.places.len();
        for segment in segments {
            if self.has_record {
                break;
            }
            let is_end = segment.end <= lost.end;
            if !is_end || self.places.len() < EMPTY_MAX {
                self.places.push(lost.start.max(segment.start));
            }
            self.has_record = !is_end;
        }
        before < self.places.len()
    }

    pub(super) fn places(self) -> Vec<u64> {
        self.places
    }
}

impl Recovery<'_> {
    /// Remembers that a range is about to be made up, on disk before that is done: a recovery that is killed in between
    /// leaves nothing that the next one takes for a message of ours.
    pub(super) fn remember(
        &self,
        chain: &Chain,
        lost: Range<u64>,
        made_up: &mut MadeUp,
    ) -> Result<(), StoreError> {
        if !made_up.add(chain, lost) {
            return Ok(());
        }
        let path = self.paths.progress();
        // An Apache store has no such file, and gets one when its recovery is through.
        let noted = self.read(&path)?;
        let Some(mut progress) = noted.and_then(|bytes| Progress::decode(&bytes)) else {
            return Ok(());
        };
        progress.made_up.extend(&made_up.places);
        progress.made_up = latest(progress.made_up);
        replace::or_overwrite(&**self.disk, &path, &progress.encode())
            .map_err(StoreError::io("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments are 1 000 bytes long.
    fn made_up(lost: &[Range<u64>]) -> Vec<u64> {
        let mut made_up = MadeUp::default();
        for range in lost {
            let first = range.start / 1_000 * 1_000;
            let segments = (first..range.end).step_by(1_000);
            made_up.add_in(segments.map(|start| start..start + 1_000), range.clone());
        }
        made_up.places()
    }

    #[test]
    fn the_first_record_says_enough() {
        assert_eq!(made_up(&[300..400, 500..600]), [300]);
        assert_eq!(made_up(&[]), [0; 0]);
    }

    #[test]
    fn empty_ends_are_remembered_up_to_the_first_record() {
        assert_eq!(
            made_up(&[300..1_000, 1_500..1_600, 1_700..1_800]),
            [300, 1_500]
        );
        assert_eq!(
            made_up(&[2_300..4_200, 4_500..4_600]),
            [2_300, 3_000, 4_000]
        );
    }

    #[test]
    fn of_many_empty_ends_the_first_ones_count_and_the_record() {
        let many = made_up(&[0..70_000, 70_100..70_200]);
        assert_eq!(many.len(), EMPTY_MAX + 1);
        assert_eq!((many[0], many[EMPTY_MAX]), (0, 70_100));
    }
}
