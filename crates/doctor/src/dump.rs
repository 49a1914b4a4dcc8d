//! Shows what is in a store: messages of the log, entries of a queue, files of the index, the checkpoints.
//!
//! One line an item, for people or as JSON. Nothing is interpreted beyond its layout, so that damage can be seen.

use std::io::{self, Write};
use std::path::Path;

use gantry_message::{JavaHash, RecordView, properties};
use gantry_store::format::checkpoint::Checkpoint;
use gantry_store::format::entry::{self, Entry};
use gantry_store::format::index::{self, Header};
use gantry_store::format::name;
use gantry_store::format::progress::Progress as Noted;
use serde_json::json;

use crate::check::layout_of_store;
use crate::log::{Log, narrow, queue_dir, wide};
use crate::messages::{Message, ReadTotals, Seen, Selection, base64, id_of, read};
use crate::progress::Progress;
use crate::report::{Findings, time_text};
use crate::target::{DoctorError, Target, holder_text};

/// How items are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether bodies are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bodies {
    /// They are.
    Shown,
    /// They are not.
    Hidden,
}

/// Prints messages.
pub fn records(
    target: &Target,
    selection: &Selection,
    (form, bodies): (Form, Bodies),
    out: &mut dyn Write,
    progress: &Progress,
) -> Result<ReadTotals, DoctorError> {
    read(
        target,
        selection,
        progress,
        &mut |seen| match (seen, form) {
            (Seen::Message(view), Form::Json) => {
                let message = Message::new(view);
                let message = match bodies {
                    Bodies::Shown => message.with_body(view),
                    Bodies::Hidden => message,
                };
                json_line(out, &message)
            }
            (Seen::Message(view), Form::Text) => text_line(out, view, bodies),
            (Seen::Left { from, to, why }, Form::Json) => json_line(
                out,
                &json!({"damaged": {"from": from, "to": to, "reason": why}}),
            ),
            (Seen::Left { from, to, why }, Form::Text) => {
                writeln!(out, "{from:>15} damaged up to {to}: {why}")
            }
        },
    )
}

fn text_line(out: &mut dyn Write, view: &RecordView<'_>, bodies: Bodies) -> io::Result<()> {
    write!(
        out,
        "{:>15} {:>8} {}/{} {} {} {}",
        view.log_offset(),
        view.len(),
        view.topic(),
        view.queue_id(),
        view.queue_offset(),
        time_text(view.store_time().0),
        id_of(view)
    )?;
    for name in [properties::UNIQ_KEY, properties::KEYS, properties::TAGS] {
        if let Some(value) = view.property(name) {
            write!(out, " {name}={}", shown(value))?;
        }
    }
    writeln!(out)?;
    if bodies == Bodies::Shown {
        writeln!(out, "    {}", shown(view.body()))?;
    }
    Ok(())
}

/// Text as it is, with what would confuse a terminal escaped; everything else in base64.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().fold(String::new(), |mut all, char| {
            if char.is_control() {
                all.extend(char.escape_default());
            } else {
                all.push(char);
            }
            all
        }),
        Err(_) => format!("base64:{}", base64(bytes)),
    }
}

fn json_line(out: &mut dyn Write, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// Prints the entries of a queue; `from` and `to` are numbers in the queue.
pub fn queue(
    target: &Target,
    selection: &Selection,
    form: Form,
    out: &mut dyn Write,
) -> Result<(), DoctorError> {
    let (Some(topic), Some(id)) = (&selection.topic, selection.queue) else {
        return Err(DoctorError::Usage(
            "--what queue needs --topic and --queue".to_owned(),
        ));
    };
    let dir = queue_dir(&target.root, topic, id);
    let listed = target.list(&dir).map_err(DoctorError::io("list", &dir))?;
    let mut left = selection.limit.unwrap_or(u64::MAX);
    let (from, to) = (
        selection.from.unwrap_or(0),
        selection.to.unwrap_or(u64::MAX),
    );
    for one in listed.iter().filter(|one| !one.is_dir) {
        let Some(base) = name::parse(&one.name) else {
            continue;
        };
        let path = dir.join(&one.name);
        let file = target.open(&path).map_err(DoctorError::io("open", &path))?;
        let first = base / entry::LEN;
        let mut at = from.saturating_sub(first).saturating_mul(entry::LEN);
        let mut chunk = vec![0; narrow(entry::LEN) << 10];
        while at < one.len {
            let read = file
                .read_at(&mut chunk, at)
                .map_err(DoctorError::io("read", &path))?;
            for bytes in chunk[..read].chunks_exact(narrow(entry::LEN)) {
                let number = first.saturating_add(at / entry::LEN);
                if number >= to || left == 0 {
                    return Ok(());
                }
                if bytes.iter().any(|&byte| byte != 0) {
                    left -= 1;
                    entry_line(out, form, &path, (number, at), bytes)
                        .map_err(DoctorError::io("write", Path::new("the output")))?;
                }
                at += entry::LEN;
            }
            if read < chunk.len() {
                break;
            }
        }
    }
    Ok(())
}

fn entry_line(
    out: &mut dyn Write,
    form: Form,
    path: &Path,
    (number, at): (u64, u64),
    bytes: &[u8],
) -> io::Result<()> {
    let file = path.display().to_string();
    match (Entry::decode(bytes), form) {
        (Some(entry), Form::Json) => json_line(
            out,
            &json!({
                "queueOffset": number, "offset": entry.log_offset.0, "size": entry.size, "tagsCode": entry.tags_code,
                "filler": entry.is_filler(), "file": file, "at": at,
            }),
        ),
        (None, Form::Json) => json_line(
            out,
            &json!({"queueOffset": number, "bytesBase64": base64(bytes), "file": file, "at": at}),
        ),
        (Some(entry), Form::Text) if entry.is_filler() => {
            writeln!(
                out,
                "{number:>12} no message                          {file} at {at}"
            )
        }
        (Some(entry), Form::Text) => writeln!(
            out,
            "{number:>12} log {:>15} size {:>8} tags {:>20} {file} at {at}",
            entry.log_offset, entry.size, entry.tags_code
        ),
        (None, Form::Text) => {
            writeln!(
                out,
                "{number:>12} no entry: {} {file} at {at}",
                base64(bytes)
            )
        }
    }
}

/// Prints the files of the index, and with a topic and key the entries of that key.
pub fn index(
    target: &Target,
    selection: &Selection,
    form: Form,
    out: &mut dyn Write,
) -> Result<(), DoctorError> {
    let log = Log::find(target, &mut Findings::new(0))?;
    let layout = layout_of_store(target, &log)?;
    let wanted = match (&selection.topic, &selection.key) {
        (Some(topic), Some(key)) => {
            let hash = JavaHash(0)
                .then(topic.as_bytes())
                .then(b"#")
                .then(key.as_bytes());
            Some(index::stored_hash(hash.0))
        }
        (_, Some(_)) => {
            let text = "--what index finds a key only together with --topic";
            return Err(DoctorError::Usage(text.to_owned()));
        }
        _ => None,
    };
    let written = || DoctorError::io("write", Path::new("the output"));
    let dir = target.root.join("index");
    let mut left = selection.limit.unwrap_or(u64::MAX);
    for one in target.list(&dir).map_err(DoctorError::io("list", &dir))? {
        let path = dir.join(&one.name);
        if one.is_dir {
            continue;
        }
        let file = target.open(&path).map_err(DoctorError::io("open", &path))?;
        let mut head = [0; 40];
        let read = file
            .read_at(&mut head, 0)
            .map_err(DoctorError::io("read", &path))?;
        let header = Header::decode(&head);
        let whole = read == head.len() && one.len == layout.file_len();
        header_line(out, form, &path, &header, whole).map_err(written())?;
        let Some(hash) = wanted.filter(|_| whole) else {
            continue;
        };
        let end = header.next.min(layout.entries);
        let mut chunk = vec![0; narrow(index::ENTRY_LEN) << 12];
        let mut number = 1;
        while number < end && left > 0 {
            let room = narrow(u64::from(end - number) * index::ENTRY_LEN).min(chunk.len());
            let read = file
                .read_at(&mut chunk[..room], layout.entry_at(number))
                .map_err(DoctorError::io("read", &path))?;
            for bytes in chunk[..read].chunks_exact(narrow(index::ENTRY_LEN)) {
                let entry = bytes.first_chunk().map(index::Entry::decode);
                if let Some(entry) = entry.filter(|entry| entry.hash == hash && left > 0) {
                    left -= 1;
                    let time = header.begin_time.plus(i64::from(entry.seconds) * 1000).0;
                    key_line(out, form, number, &entry, time).map_err(written())?;
                }
                number += 1;
            }
            if read < room {
                break;
            }
        }
    }
    Ok(())
}

fn header_line(
    out: &mut dyn Write,
    form: Form,
    path: &Path,
    header: &Header,
    whole: bool,
) -> io::Result<()> {
    let file = path.display();
    if form == Form::Json {
        return json_line(
            out,
            &json!({
                "file": file.to_string(), "whole": whole, "beginTimestamp": header.begin_time.0,
                "endTimestamp": header.end_time.0, "beginPhyOffset": header.begin_offset,
                "endPhyOffset": header.end_offset, "hashSlotCount": header.slots_used, "indexCount": header.next,
            }),
        );
    }
    let (begin, end) = (time_text(header.begin_time.0), time_text(header.end_time.0));
    let size = if whole { "" } else { " WRONG LENGTH" };
    writeln!(
        out,
        "{file}: {} entries in {} slots, log {} to {}, stored {begin} to {end}{size}",
        header.next.saturating_sub(1),
        header.slots_used,
        header.begin_offset,
        header.end_offset
    )
}

fn key_line(
    out: &mut dyn Write,
    form: Form,
    number: u32,
    entry: &index::Entry,
    time: i64,
) -> io::Result<()> {
    if form == Form::Json {
        return json_line(
            out,
            &json!({"entry": number, "offset": entry.offset, "time": time, "previous": entry.previous}),
        );
    }
    let (offset, time) = (entry.offset, time_text(time));
    writeln!(
        out,
        "    entry {number:>10} log {offset:>15} stored about {time}"
    )
}

/// Prints both checkpoints and the marks beside them.
pub fn checkpoint(target: &Target, form: Form, out: &mut dyn Write) -> Result<(), DoctorError> {
    let root = &target.root;
    let read = |name: &str| {
        let path = root.join(name);
        target.read(&path).map_err(DoctorError::io("read", &path))
    };
    let theirs = read("checkpoint")?;
    let ours = read("gantry.checkpoint")?;
    let is_there = |name: &str| {
        let path = root.join(name);
        let meta = target
            .meta(&path)
            .map_err(DoctorError::io("look at", &path))?;
        Ok::<_, DoctorError>(meta.is_some())
    };
    let (abort, live) = (is_there("abort")?, target.live()?);
    let decoded = theirs.as_deref().map(Checkpoint::decode);
    let noted = ours.as_deref().map(Noted::decode);
    let done = if form == Form::Json {
        let ours = noted.as_ref().map(|noted| match noted {
            Some(noted) => json!({
                "boot": noted.boot, "flushed": noted.flushed, "written": noted.written.to_string(),
                "synced": noted.synced.to_string(), "indexFile": noted.index_file, "indexNext": noted.index_next,
                "indexOffset": noted.index_offset, "clean": noted.clean,
            }),
            None => json!({"damaged": true}),
        });
        let theirs = decoded.map(|decoded| {
            json!({
                "physicMsgTimestamp": decoded.log.0, "logicsMsgTimestamp": decoded.queues.0,
                "indexMsgTimestamp": decoded.index.0, "length": theirs.as_ref().map_or(0, |bytes| wide(bytes.len())),
            })
        });
        json_line(
            out,
            &json!({
                "checkpoint": theirs, "gantryCheckpoint": ours, "abort": abort,
                "liveProcess": live.map(|holder| holder.process),
            }),
        )
    } else {
        checkpoint_text(out, decoded, noted, (abort, live))
    };
    done.map_err(DoctorError::io("write", Path::new("the output")))
}

fn checkpoint_text(
    out: &mut dyn Write,
    theirs: Option<Checkpoint>,
    ours: Option<Option<Noted>>,
    (abort, live): (bool, Option<gantry_disk::Holder>),
) -> io::Result<()> {
    match theirs {
        None => writeln!(out, "checkpoint         none")?,
        Some(theirs) => {
            let (log, queues, index) = (theirs.log.0, theirs.queues.0, theirs.index.0);
            writeln!(out, "checkpoint         log    {}", time_text(log))?;
            writeln!(out, "                   queues {}", time_text(queues))?;
            writeln!(out, "                   index  {}", time_text(index))?;
        }
    }
    match ours {
        None => writeln!(out, "gantry.checkpoint  none")?,
        Some(None) => writeln!(out, "gantry.checkpoint  DAMAGED")?,
        Some(Some(noted)) => {
            let text = String::from_utf8_lossy(&noted.encode()).into_owned();
            for (nth, line) in text.lines().enumerate() {
                let name = if nth == 0 { "gantry.checkpoint" } else { "" };
                writeln!(out, "{name:<18} {line}")?;
            }
        }
    }
    let stop = if abort {
        "there: the stop was not clean"
    } else {
        "none"
    };
    writeln!(out, "abort              {stop}")?;
    let holder = live.map_or_else(
        || "free".to_owned(),
        |holder| format!("held by {}", holder_text(holder)),
    );
    writeln!(out, "lock               {holder}")
}
