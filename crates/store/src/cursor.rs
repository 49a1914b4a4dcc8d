//! Walks the log record by record through positional reads: for recovery and for the index.

use std::io;
use std::path::Path;
use std::sync::Arc;

use gantry_message::{Millis, RecordView, record};

use crate::chain::Chain;
use crate::format::blank;
use crate::segment::Segment;
use crate::width::{narrow, wide};

/// A filler record has one letter of its topic and no body, at least: no record is shorter.
pub(crate) const MIN_FILLER: u64 = (record::FIXED_LEN + 1) as u64;
/// So much is read at once.
const WINDOW: usize = 1 << 20;

/// What stands at one place of the log.
#[derive(Debug)]
pub enum Step<'a> {
    /// A whole record whose own offset is right.
    Record(RecordView<'a>),
    /// Nothing more in this segment; the next one starts there.
    Next(u64),
    /// No segment there.
    End,
    /// Nothing that can be read as a record.
    Unreadable(Reason),
}

/// Why there is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// As Apache and we leave what was never written.
    #[error("zeros")]
    Zeros,
    /// The bytes are no record.
    #[error("{0}")]
    Record(gantry_message::RecordError),
    /// Only the body has a checksum; what is missing elsewhere shows as zeros where text must be.
    #[error("a record with a hole")]
    Hole,
    /// A record of another place.
    #[error("a record that says it lies at {0}")]
    Misplaced(u64),
    /// The disk does not give it.
    #[error("{0}")]
    Disk(String),
}

/// Reads the log forward.
#[derive(Debug)]
pub struct Cursor<'a> {
    chain: &'a Chain,
    segment: Option<Arc<Segment>>,
    /// Invariant: holds the log's bytes from `window_at` on.
    window: Vec<u8>,
    window_at: u64,
    check_crc: bool,
    /// From here on nobody promised that what was written together is there together.
    doubted_from: u64,
    /// What was stored until then is there all the same.
    synced_until: Millis,
}

impl<'a> Cursor<'a> {
    /// A cursor over these segments.
    #[must_use]
    pub fn new(chain: &'a Chain, check_crc: bool) -> Self {
        Self {
            chain,
            segment: None,
            window: Vec::new(),
            window_at: 0,
            check_crc,
            doubted_from: u64::MAX,
            synced_until: Millis(0),
        }
    }

    /// Looks closer at records from `from` on: a write may have reached the disk in parts. Those that were stored until
    /// `synced_until` were synced and are taken as they are.
    #[must_use]
    pub fn doubting(mut self, from: u64, synced_until: Millis) -> Self {
        (self.doubted_from, self.synced_until) = (from, synced_until);
        self
    }

    /// Takes the record that starts at `at` as it is.
    pub fn trust(&mut self, at: u64) {
        self.doubted_from = self.doubted_from.max(at + 1);
    }

    /// What stands at `at`.
    pub fn step(&mut self, at: u64) -> Step<'_> {
        let holds = |segment: &Segment| segment.start() <= at && at < segment.end();
        if !self.segment.as_deref().is_some_and(holds) {
            (self.segment, self.window) = (self.chain.find(at), Vec::new());
        }
        let Some(segment) = self.segment.clone() else {
            let next = self.chain.at_or_after(at).map(|segment| segment.start());
            return next.map_or(Step::End, Step::Next);
        };
        let left = segment.end() - at;
        if left < blank::LEN {
            return Step::Next(segment.end());
        }
        if let Err(error) = self.fill(&segment, at, 8) {
            return Step::Unreadable(Reason::Disk(error.to_string()));
        }
        let head = self.bytes(at);
        if blank::is_blank(head) {
            return Step::Next(segment.end());
        }
        if head.iter().take(8).all(|&byte| byte == 0) {
            return Step::Unreadable(Reason::Zeros);
        }
        let size = head
            .first_chunk()
            .map_or(0, |size| u32::from_be_bytes(*size));
        let magic = head
            .get(record::MAGIC_AT..)
            .and_then(|rest| rest.first_chunk());
        let magic = magic.map_or(0, |magic| u32::from_be_bytes(*magic));
        if magic != record::MAGIC {
            return Step::Unreadable(Reason::Record(gantry_message::RecordError::Magic { magic }));
        }
        let need = narrow(u64::from(size).min(left));
        if let Err(error) = self.fill(&segment, at, need) {
            return Step::Unreadable(Reason::Disk(error.to_string()));
        }
        let is_doubted = self.doubted_from <= at;
        let check_crc = self.check_crc || is_doubted;
        let view = RecordView::parse(self.bytes(at)).and_then(|view| {
            if check_crc {
                view.verify_crc()?;
            }
            Ok(view)
        });
        match view {
            Ok(view)
                if is_doubted && view.store_time() > self.synced_until && has_hole(&view, at) =>
            {
                Step::Unreadable(Reason::Hole)
            }
            Ok(view) if view.log_offset().0 == at => Step::Record(view),
            Ok(view) => Step::Unreadable(Reason::Misplaced(view.log_offset().0)),
            Err(error) => Step::Unreadable(Reason::Record(error)),
        }
    }

    /// The next whole record behind the unreadable place `at` that is no left-over of an earlier cut: those are older
    /// than `not_before`, when the last record before `at` was stored. Between the two there is room for a filler record.
    /// An error names the segment that cannot be read.
    pub fn next_record(
        &mut self,
        at: u64,
        not_before: Millis,
    ) -> Result<Option<u64>, (Arc<Path>, io::Error)> {
        // In a segment of its own a record needs no room for a filler before it.
        let segment_end = self
            .chain
            .find(at)
            .map_or(u64::MAX, |segment| segment.end());
        let mut look_from = segment_end.min(at.saturating_add(MIN_FILLER));
        while let Some(segment) = self.chain.at_or_after(look_from) {
            let from = look_from.max(segment.start());
            let found = self.search(&segment, from);
            let Some(found) = found.map_err(|error| (Arc::clone(segment.path()), error))? else {
                look_from = segment.end();
                continue;
            };
            let (time, len) = match self.step(found) {
                Step::Record(view) => (view.store_time(), wide(view.len())),
                _ => (Millis(i64::MIN), 1),
            };
            let fits = found == segment.start() || found - segment.start() >= MIN_FILLER;
            if time >= not_before && fits {
                return Ok(Some(found));
            }
            look_from = found + len;
        }
        Ok(None)
    }

    /// The first place from `from` on, in the same segment, where a whole record starts.
    pub fn search(&mut self, segment: &Arc<Segment>, from: u64) -> io::Result<Option<u64>> {
        // Behind a record there is mostly another: no need to read on for it.
        if matches!(self.step(from), Step::Record(_)) {
            return Ok(Some(from));
        }
        let magic = record::MAGIC.to_be_bytes();
        let mut buffer = vec![0; WINDOW];
        let mut at = from;
        while at < segment.end() {
            let read = segment.read(&mut buffer, at)?;
            let bytes = &buffer[..read];
            // What was never written is long and has nothing in it: no branch for each byte of it.
            if bytes.iter().fold(0, |all, &byte| all | byte) == 0 {
                if read < buffer.len() {
                    break;
                }
                // Not even read, where the file system knows that there is nothing.
                let next = at + wide(read - (magic.len() - 1));
                let Some(data) = segment.next_data(next)? else {
                    break;
                };
                at = data;
                continue;
            }
            let mut look = 0;
            while let Some(found) = find(&bytes[look..], magic) {
                look += found + 1;
                let start = at + wide(look - 1);
                let Some(start) = start
                    .checked_sub(wide(record::MAGIC_AT))
                    .filter(|&start| start >= from)
                else {
                    continue;
                };
                if matches!(self.step(start), Step::Record(_)) {
                    return Ok(Some(start));
                }
            }
            if read < buffer.len() {
                break;
            }
            // The last three bytes may be the beginning of a magic.
            at += wide(read - (magic.len() - 1));
        }
        Ok(None)
    }

    fn fill(&mut self, segment: &Segment, at: u64, need: usize) -> io::Result<()> {
        let have = self
            .window_at
            .checked_add(wide(self.window.len()))
            .unwrap_or(0);
        if self.window_at <= at && at + wide(need) <= have {
            return Ok(());
        }
        let len = narrow((segment.end() - at).min(wide(need.max(WINDOW))));
        self.window.clear();
        self.window.resize(len, 0);
        self.window_at = at;
        let read = match segment.read(&mut self.window, at) {
            Err(_) if len > need => {
                // What cannot be read may lie behind what is needed.
                self.window.truncate(need);
                segment.read(&mut self.window, at)
            }
            read => read,
        };
        self.window.truncate(*read.as_ref().unwrap_or(&0));
        read?;
        Ok(())
    }

    fn bytes(&self, at: u64) -> &[u8] {
        let skip = at.checked_sub(self.window_at).map_or(usize::MAX, narrow);
        self.window.get(skip..).unwrap_or_default()
    }
}

/// The smallest part of a write that a disk writes as a whole.
const SECTOR: u64 = 512;

/// Whether text at the record's end was not written: it ends with a zero byte, or a whole sector of it (or its part of a
/// sector) is zeros. Texts have no zeros; and whoever sends one that has loses it only with the power.
fn has_hole(view: &RecordView<'_>, at: u64) -> bool {
    let bytes = view.bytes();
    let text_at = bytes.len() - view.properties().len() - 2 - view.topic().len();
    if bytes.ends_with(&[0]) && !view.properties().is_empty() || view.topic().contains('\0') {
        return true;
    }
    let mut from = text_at;
    while from < bytes.len() {
        let sector_end = (at + wide(from)) / SECTOR * SECTOR + SECTOR - at;
        let to = bytes.len().min(narrow(sector_end));
        // Three bytes are the lengths' and may be zeros.
        if to - from > 3 && bytes[from..to].iter().all(|&byte| byte == 0) {
            return true;
        }
        from = to;
    }
    false
}

fn find(bytes: &[u8], magic: [u8; 4]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes[from..].iter().position(|&byte| byte == magic[0])?;
        if bytes[at..].starts_with(&magic) {
            return Some(at);
        }
        from = at + 1;
    }
}
