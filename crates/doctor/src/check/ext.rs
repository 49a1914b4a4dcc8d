//! `consumequeue_ext`: the units that entries of Apache's point to in place of a tags code.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_disk::File;
use gantry_message::RecordView;
use gantry_store::format::ext::{UNIT_LEN, Unit};
use gantry_store::format::name;
use rustc_hash::FxHashMap;

use crate::log::wide;
use crate::report::{Class, Finding, Findings};
use crate::target::{DoctorError, Target};

/// So many files stay open.
const OPEN_MAX: usize = 64;
/// So much is read at once; no unit is longer.
const CHUNK: usize = 64 << 10;

/// Looks up units.
#[derive(Debug, Default)]
pub(crate) struct ExtCheck {
    /// By queue: the length of its files.
    sizes: FxHashMap<usize, u64>,
    open: FxHashMap<(usize, u64), Arc<dyn File>>,
}

impl ExtCheck {
    /// Compares the unit of an entry with its record. Returns whether it is right.
    pub(crate) fn unit(
        &mut self,
        target: &Target,
        (queue, place): (usize, u64),
        (view, expected): (&RecordView<'_>, i64),
        findings: &mut Findings,
    ) -> bool {
        let dir = dir_of(target, view.topic(), view.queue_id().0);
        let found = self.read(target, &dir, (queue, place));
        let (base, found) = match found {
            Ok(found) => found,
            Err(error) => {
                findings.refused(Class::ConsumequeueExt, &dir, &error);
                return false;
            }
        };
        let wrong = match found {
            None => "no unit stands where an entry points to".to_owned(),
            Some(unit) if unit.tags_code != expected => {
                let says = unit.tags_code;
                format!("the unit says tags code {says}, the record gives {expected}")
            }
            Some(unit) if unit.store_time != view.store_time() => {
                let (says, is) = (unit.store_time, view.store_time());
                format!("the unit says that its message was stored at {says}, that was at {is}")
            }
            Some(_) => return true,
        };
        let text = format!("{wrong}; the message at {} has it", view.log_offset());
        let path = dir.join(name::of(base));
        let finding = Finding::fault(Class::ConsumequeueExt, "ext-unit", &path, text);
        findings.add(finding.at(place - base));
        false
    }

    /// Where the file starts that should have the unit, and the unit.
    fn read(
        &mut self,
        target: &Target,
        dir: &Path,
        (queue, place): (usize, u64),
    ) -> io::Result<(u64, Option<Unit>)> {
        let size = match self.sizes.get(&queue) {
            Some(&size) => size,
            None => {
                let size = size_of(target, dir)?;
                self.sizes.insert(queue, size);
                size
            }
        };
        let base = place - place % size;
        let file = match self.open.get(&(queue, base)) {
            Some(file) => Arc::clone(file),
            None => match target.open(&dir.join(name::of(base))) {
                Ok(file) => {
                    if self.open.len() >= OPEN_MAX {
                        self.open.clear();
                    }
                    self.open.insert((queue, base), Arc::clone(&file));
                    file
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((base, None)),
                Err(error) => return Err(error),
            },
        };
        let mut head = [0; UNIT_LEN];
        let read = file.read_at(&mut head, place - base)?;
        let unit = head.get(..read).and_then(Unit::decode);
        Ok((base, unit))
    }
}

fn dir_of(target: &Target, topic: &str, id: u32) -> PathBuf {
    target
        .root
        .join("consumequeue_ext")
        .join(topic)
        .join(id.to_string())
}

/// The length of the queue's files: that of the first that has one.
fn size_of(target: &Target, dir: &Path) -> io::Result<u64> {
    let listed = target.list(dir)?;
    let mut lens = listed
        .iter()
        .filter(|one| !one.is_dir && name::parse(&one.name).is_some())
        .map(|one| one.len);
    Ok(lens.find(|&len| len > 0).unwrap_or(u64::MAX))
}

/// Counts files and units.
pub(crate) fn count(target: &Target, findings: &mut Findings) -> Result<(), DoctorError> {
    let root = target.root.join("consumequeue_ext");
    let list = |dir: &Path| target.list(dir).map_err(DoctorError::io("list", dir));
    for topic in list(&root)?.iter().filter(|one| one.is_dir) {
        let dir = root.join(&topic.name);
        for queue in list(&dir)?.iter().filter(|one| one.is_dir) {
            let dir = dir.join(&queue.name);
            for file in list(&dir)?.iter().filter(|one| !one.is_dir) {
                let path = dir.join(&file.name);
                findings.file(Class::ConsumequeueExt, file.len);
                match units(target, &path) {
                    Ok(units) => findings.class(Class::ConsumequeueExt).records += units,
                    Err(error) => findings.refused(Class::ConsumequeueExt, &path, &error),
                }
            }
        }
    }
    Ok(())
}

/// How many units stand one behind the other from a file's start.
fn units(target: &Target, path: &Path) -> io::Result<u64> {
    let file = target.open(path)?;
    let mut chunk = vec![0; CHUNK];
    let (mut at, mut count) = (0, 0);
    loop {
        let read = file.read_at(&mut chunk, at)?;
        let mut within = 0;
        while let Some(unit) = chunk.get(within..read).and_then(Unit::decode) {
            count += 1;
            within += unit.len;
        }
        // The last unit may go on behind the chunk; its head may begin in it.
        let is_end = read < chunk.len() || within + UNIT_LEN <= read;
        at += wide(within);
        if is_end || within == 0 {
            return Ok(count);
        }
    }
}
