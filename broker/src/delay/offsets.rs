//! The file `delayOffset.json`: how far each level has delivered, as RocketMQ keeps it.
//!
//! Holds what was read and what is to be written next; when that is, and what may be written, `Delay` decides. Levels
//! that the present table does not have keep their entry: the table may come back.

use std::path::Path;
use std::sync::Arc;

use gantry_disk::Disk;
use gantry_message::QueueOffset;
use gantry_wire::bodies::DelayOffsets;

use super::levels::Level;
use crate::tables::{JsonFile, TableError};

pub(super) struct OffsetsFile {
    file: JsonFile,
    offsets: DelayOffsets,
    written: DelayOffsets,
}

impl OffsetsFile {
    pub(super) fn load(disk: Arc<dyn Disk>, folder: &Path) -> Result<Self, TableError> {
        let file = JsonFile::new(disk, folder.join("delayOffset.json"));
        let offsets = file.load(DelayOffsets::parse)?.unwrap_or_default();
        Ok(Self {
            file,
            written: offsets.clone(),
            offsets,
        })
    }

    /// What the file says of a level; a negative number says nothing.
    pub(super) fn position(&self, level: Level) -> Option<QueueOffset> {
        let number = i32::try_from(level.number()).ok()?;
        self.offsets
            .offset_table
            .get(&number)
            .and_then(|offset| u64::try_from(*offset).ok())
            .map(QueueOffset)
    }

    pub(super) fn set(&mut self, level: Level, next: QueueOffset) {
        if let (Ok(number), Ok(next)) = (i32::try_from(level.number()), i64::try_from(next.0)) {
            self.offsets.offset_table.insert(number, next);
        }
    }

    /// Takes over all positions at once.
    pub(super) fn replace(&mut self, offsets: DelayOffsets) {
        self.offsets = offsets;
    }

    pub(super) fn is_changed(&self) -> bool {
        self.offsets != self.written
    }

    /// Writes the file if anything changed; durable when it returns.
    pub(super) fn write(&mut self) -> Result<(), TableError> {
        if self.is_changed() {
            self.file.replace(&self.offsets.encode_pretty())?;
            self.written = self.offsets.clone();
        }
        Ok(())
    }
}
