//! Saves messages out of a store, damaged or not: one JSON object a line, body and all.
//!
//! Can be cut off at any place and gone on with: every line says where its record lies in the log, so the last whole line
//! of a file tells where to go on. Damage goes to the caller, never into the output.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Deserialize;

use crate::log::wide;
use crate::messages::{Message, ReadTotals, Seen, Selection, read};
use crate::progress::Progress;
use crate::target::{DoctorError, Target};

/// Writes the wanted messages to `out`; `complain` hears of every part of the log that cannot be read.
pub fn export(
    target: &Target,
    selection: &Selection,
    out: &mut dyn Write,
    complain: &mut dyn FnMut(&str),
    progress: &Progress,
) -> Result<ReadTotals, DoctorError> {
    read(target, selection, progress, &mut |seen| match seen {
        Seen::Message(view) => {
            let message = Message::new(view).with_body(view);
            serde_json::to_writer(&mut *out, &message)?;
            out.write_all(b"\n")
        }
        Seen::Left { from, to, why } => {
            complain(&format!(
                "the log from {from} to {to} cannot be read: {why}"
            ));
            Ok(())
        }
    })
}

/// Writes the wanted messages to a file that is not there yet. Durable when it returns.
pub fn to_new_file(
    target: &Target,
    selection: &Selection,
    path: &Path,
    complain: &mut dyn FnMut(&str),
    progress: &Progress,
) -> Result<ReadTotals, DoctorError> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let file = file.map_err(DoctorError::io("create", path))?;
    to_file(target, selection, (file, path), complain, progress)
}

/// Goes on with a file behind its last whole line.
pub fn resume(
    target: &Target,
    selection: &Selection,
    path: &Path,
    complain: &mut dyn FnMut(&str),
    progress: &Progress,
) -> Result<ReadTotals, DoctorError> {
    let fail = |doing| DoctorError::io(doing, path);
    let file = OpenOptions::new().read(true).write(true).open(path);
    let mut file = file.map_err(fail("open"))?;
    let (end, line) = last_line(&mut file).map_err(fail("read"))?;
    let mut selection = selection.clone();
    if let Some(line) = line {
        let place: Place = serde_json::from_slice(&line).map_err(|error| {
            DoctorError::Usage(format!(
                "{}: its last line is not of an export: {error}",
                path.display()
            ))
        })?;
        let next = place.offset.saturating_add(place.size);
        selection.from = selection.from.max(Some(next));
    }
    file.set_len(end).map_err(fail("cut"))?;
    file.seek(SeekFrom::End(0)).map_err(fail("go on with"))?;
    to_file(target, &selection, (file, path), complain, progress)
}

/// What a line says of its record's place.
#[derive(Deserialize)]
struct Place {
    offset: u64,
    size: u64,
}

fn to_file(
    target: &Target,
    selection: &Selection,
    (file, path): (File, &Path),
    complain: &mut dyn FnMut(&str),
    progress: &Progress,
) -> Result<ReadTotals, DoctorError> {
    let mut out = BufWriter::with_capacity(1 << 20, &file);
    let totals = export(target, selection, &mut out, complain, progress)?;
    out.flush()
        .and_then(|()| file.sync_all())
        .map_err(DoctorError::io("write", path))?;
    Ok(totals)
}

/// Where the last whole line of a file ends, and that line.
fn last_line(file: &mut File) -> io::Result<(u64, Option<Vec<u8>>)> {
    let mut at = file.seek(SeekFrom::End(0))?;
    let mut tail: Vec<u8> = Vec::new();
    loop {
        let mut ends = tail
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n')
            .map(|(nth, _)| nth);
        if let Some(end) = ends.next() {
            let begin = ends.next().map(|before| before + 1);
            if begin.is_some() || at == 0 {
                let line = tail.get(begin.unwrap_or(0)..end).unwrap_or_default();
                return Ok((at + wide(end) + 1, Some(line.to_vec())));
            }
        } else if at == 0 {
            return Ok((0, None));
        }
        let step = at.min(1 << 20);
        at -= step;
        let mut chunk = vec![0; crate::log::narrow(step)];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut chunk)?;
        chunk.extend_from_slice(&tail);
        tail = chunk;
    }
}
