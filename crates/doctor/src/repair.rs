//! Makes a store good again: the start of a broker does the work, this prepares it and looks afterwards.
//!
//! Order, all below the store's lock:
//! 1. examine; without faults and after a clean stop there is nothing to do;
//! 2. tables that cannot be read are replaced by their backups;
//! 3. queues, indexes and checkpoints with faults move into `quarantine/`, what is torn at the log's end is copied there;
//! 4. the store is opened: its recovery sets aside what is damaged of the log and puts fillers there, makes the queues
//!    again from the log, and the index; then it is stopped cleanly;
//! 5. examine again, and go on as long as that brings something new to light, three times at most.
//!
//! It can be stopped at any moment and run again: what moved away is made again from the log by any later start, too.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_disk::{Disk, Open, replace};
use gantry_message::Millis;
use gantry_message::record::BLANK_MAGIC;
use gantry_store::offline::{Segment, keep_copy, set_aside};
use gantry_store::{Store, StoreConfig};

use crate::check::{Found, Patch, TABLES, examine, layout_of_store, parse_table, usual_file_size};
use crate::log::{queue_dir, wide};
use crate::progress::Progress;
use crate::report::{Class, Report, Severity};
use crate::target::{DoctorError, Target, holder_text};

/// So many faults, and as many notes, are listed.
const LIMIT: usize = 10_000;

/// Whether a repair changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It only says what it would do.
    DryRun,
    /// It does it.
    ForReal,
}

/// One thing to do before the store is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    /// Moves a file or directory into the quarantine.
    SetAside(PathBuf),
    /// Puts the backup in place of a table.
    Restore { table: PathBuf, backup: PathBuf },
    /// Copies a range of the log into the quarantine.
    KeepTail { from: u64, to: u64 },
    /// Takes away the beginning of a record whose end is gone with the end of its file: with zeros in place of that, it
    /// could pass for whole, for only bodies have a checksum.
    Cut { at: u64 },
    /// Puts eight bytes of the log right, and keeps a copy of what stood there.
    Patch(Patch),
}

/// How the store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// Not at all.
    None,
    /// As a broker opens it.
    Recover,
    /// With all queues made again.
    Rebuild,
}

/// Everything that is to be done.
#[derive(Debug)]
struct Plan {
    acts: Vec<Act>,
    opening: Opening,
    /// With which settings: as the files are before any of them moves.
    config: StoreConfig,
}

/// A repair brings to light what was hidden behind damage; so often it is looked at again.
const ROUNDS: usize = 3;

/// Repairs a store, and says on `out` what it finds and does. Returns the report of the last examination.
pub fn repair(
    target: &Target,
    mode: Mode,
    out: &mut dyn Write,
    progress: &Progress,
) -> Result<Report, DoctorError> {
    for _ in 0..ROUNDS {
        match round(target, mode, out, progress)? {
            Round::Done(report) => return Ok(*report),
            Round::Changed => say(out, "looking again"),
        }
    }
    let report = examine(target, LIMIT, target.live()?, progress)?.report;
    for finding in &report.findings {
        say(out, &finding.to_string());
    }
    Ok(report)
}

/// A repair does not stop half way because nobody listens any more.
fn say(out: &mut dyn Write, line: &str) {
    let _ = writeln!(out, "{line}");
}

/// What came of one round.
enum Round {
    /// There was nothing to do, or it was not to be done.
    Done(Box<Report>),
    /// Something was done.
    Changed,
}

fn round(
    target: &Target,
    mode: Mode,
    out: &mut dyn Write,
    progress: &Progress,
) -> Result<Round, DoctorError> {
    let live = |by: String| DoctorError::Live {
        root: target.root.clone(),
        by,
        advice: ". Stop it first",
    };
    if let Some(holder) = target.live()? {
        return Err(live(format!("a broker ({})", holder_text(holder))));
    }
    let disk = target.disk_to_write();
    let lock_path = target.root.join("lock");
    let lock = match mode {
        Mode::DryRun => None,
        Mode::ForReal => {
            let lock = disk
                .lock(&lock_path)
                .map_err(DoctorError::io("lock", &lock_path))?;
            Some(lock.ok_or_else(|| live("another process".to_owned()))?)
        }
    };
    let found = examine(target, LIMIT, None, progress)?;
    for finding in &found.report.findings {
        say(out, &finding.to_string());
    }
    if !found.log.is_size_sure {
        let text = format!(
            "{}: no file of the log has the length of a segment ({}); say with -c how long they are",
            target.root.display(),
            found.log.segment_size
        );
        return Err(DoctorError::Usage(text));
    }
    if found.log.chain.all().is_empty() && found.report.queues > 0 {
        // Nothing would be left of them, and most probably the log is elsewhere.
        let text = format!(
            "{}: no segment of the log was found; say with -c or --commitlog where it is",
            target.root.display()
        );
        return Err(DoctorError::Usage(text));
    }
    let plan = plan(target, &found)?;
    if plan.acts.is_empty() && plan.opening == Opening::None {
        say(out, "nothing to do");
        return Ok(Round::Done(Box::new(found.report)));
    }
    for line in describe(target, &plan, mode) {
        say(out, &line);
    }
    if mode == Mode::DryRun {
        return Ok(Round::Done(Box::new(found.report)));
    }
    for act in &plan.acts {
        perform(target, &found, &*disk, act)?;
    }
    // The store takes it itself. A broker that comes in between finds a store that it can start with.
    drop(lock);
    if plan.opening != Opening::None {
        progress.begin_unknown("recovering");
        open_and_stop(target, disk, &plan, &found)?;
        progress.end();
    }
    Ok(Round::Changed)
}

fn plan(target: &Target, found: &Found) -> Result<Plan, DoctorError> {
    let report = &found.report;
    let faults = |class: Class| {
        let summary = report.classes.get(&class);
        summary.is_some_and(|summary| summary.faults > 0)
    };
    let mut acts = tables(target)?;
    let mut aside = BTreeSet::new();
    for (topic, id) in &found.bad_queues {
        aside.insert(queue_dir(&target.root, topic, *id));
    }
    for path in [
        target.root.join("index"),
        target.root.join("consumequeue_ext"),
    ] {
        let class = if path.ends_with("index") {
            Class::Index
        } else {
            Class::ConsumequeueExt
        };
        if faults(class) && exists(target, &path)? {
            aside.insert(path);
        }
    }
    let of_checkpoint = report
        .findings
        .iter()
        .filter(|one| one.severity == Severity::Fault && one.class == Class::Checkpoint);
    for one in of_checkpoint {
        let path = PathBuf::from(&one.file);
        if exists(target, &path)? {
            aside.insert(path);
        }
    }
    if let Some(from) = found.torn_at
        && let Some(segment) = found.log.chain.find(from)
    {
        let to = data_end(&segment, from)?;
        if from < to {
            acts.push(Act::KeepTail { from, to });
        }
    }
    let torn = found.torn_at.map(|at| (at, u64::MAX));
    for (from, to) in found.damaged.iter().copied().chain(torn) {
        let cut = found
            .log
            .cut_at
            .iter()
            .find(|&&cut| from < cut && cut <= to);
        let Some(&to) = cut else { continue };
        if found.torn_at != Some(from) {
            acts.push(Act::KeepTail { from, to });
        }
        acts.push(Act::Cut { at: from });
    }
    acts.extend(found.patches.iter().copied().map(Act::Patch));
    acts.extend(aside.into_iter().map(Act::SetAside));
    // Queues that are whole are not made again: those that Apache's broker deleted would come back.
    let is_rebuilt = [
        Class::Commitlog,
        Class::Consumequeue,
        Class::ConsumequeueExt,
        // It may be what says that queue files are missing.
        Class::Checkpoint,
    ];
    let opening = if is_rebuilt.into_iter().any(faults) {
        Opening::Rebuild
    } else if faults(Class::Index) || !report.clean_stop {
        Opening::Recover
    } else {
        Opening::None
    };
    let config = config(target, found)?;
    Ok(Plan {
        acts,
        opening,
        config,
    })
}

/// What is to be done with the tables.
fn tables(target: &Target) -> Result<Vec<Act>, DoctorError> {
    let mut acts = Vec::new();
    for name in TABLES {
        let path = target.root.join("config").join(name);
        let backup = replace::backup_of(&path);
        let state = |path: &Path| {
            let bytes = target.read(path).map_err(DoctorError::io("read", path))?;
            Ok::<_, DoctorError>(bytes.map(|bytes| parse_table(name, &bytes).is_ok()))
        };
        match (state(&path)?, state(&backup)?) {
            (Some(true), Some(false)) => acts.push(Act::SetAside(backup)),
            (Some(false), Some(true)) => {
                acts.push(Act::SetAside(path.clone()));
                acts.push(Act::Restore {
                    table: path,
                    backup,
                });
            }
            (None, Some(true)) => acts.push(Act::Restore {
                table: path,
                backup,
            }),
            (main, spare) => {
                let bad = [(main, path), (spare, backup)].into_iter();
                let bad = bad.filter(|(state, _)| *state == Some(false));
                acts.extend(bad.map(|(_, path)| Act::SetAside(path)));
            }
        }
    }
    Ok(acts)
}

fn exists(target: &Target, path: &Path) -> Result<bool, DoctorError> {
    let meta = target
        .meta(path)
        .map_err(DoctorError::io("look at", path))?;
    Ok(meta.is_some())
}

/// Behind the last byte of a segment that is not zero, from `from` on.
fn data_end(segment: &Segment, from: u64) -> Result<u64, DoctorError> {
    let mut chunk = vec![0; 1 << 20];
    let (mut at, mut end) = (from, from);
    while at < segment.end() {
        let read = match segment.read(&mut chunk, at) {
            Ok(0) => break,
            Ok(read) => read,
            // What the disk does not give is not looked for either.
            Err(_) => chunk.len(),
        };
        let last = chunk.get(..read).unwrap_or_default();
        if let Some(last) = last.iter().rposition(|&byte| byte != 0) {
            end = at + wide(last) + 1;
        }
        at += wide(read);
    }
    Ok(end)
}

fn describe(target: &Target, plan: &Plan, mode: Mode) -> Vec<String> {
    let quarantine = target.root.join("quarantine");
    let mut lines = vec![match mode {
        Mode::DryRun => "would do:".to_owned(),
        Mode::ForReal => "doing:".to_owned(),
    }];
    for act in &plan.acts {
        lines.push(match act {
            Act::SetAside(path) => {
                format!("  move {} to {}", path.display(), quarantine.display())
            }
            Act::Restore { table, backup } => {
                format!("  put {} in place of {}", backup.display(), table.display())
            }
            Act::KeepTail { from, to } => {
                format!(
                    "  copy the log from {from} to {to} to {}",
                    quarantine.display()
                )
            }
            Act::Patch(patch) => {
                let what = if patch.bytes[4..] == BLANK_MAGIC.to_be_bytes() {
                    "length of the blank record"
                } else {
                    "queue offset of the record"
                };
                format!("  put the {what} right, at {} of the log", patch.at)
            }
            Act::Cut { at } => format!("  take away the part of a record at {at} of the log"),
        });
    }
    let opening = match plan.opening {
        Opening::None => return lines,
        Opening::Recover => {
            "  recover the store as the start of a broker does, and stop it cleanly"
        }
        Opening::Rebuild => {
            "  recover the store as the start of a broker does (damaged parts of the log are copied to quarantine, filler \
             records take their place), make all queues and what is missing of the index again from the log, and stop it \
             cleanly"
        }
    };
    lines.push(opening.to_owned());
    lines
}

fn perform(target: &Target, found: &Found, disk: &dyn Disk, act: &Act) -> Result<(), DoctorError> {
    let root = &target.root;
    match act {
        Act::SetAside(path) => set_aside(disk, root, path)
            .map(|_| ())
            .map_err(DoctorError::io("set aside", path)),
        Act::Restore { table, backup } => {
            let fail = |doing| DoctorError::io(doing, backup);
            let content = target.read(backup).map_err(fail("read"))?;
            let content = content.unwrap_or_default();
            replace::file(disk, table, &content).map_err(DoctorError::io("write", table))
        }
        Act::KeepTail { from, to } => {
            let Some(segment) = found.log.chain.find(*from) else {
                return Ok(());
            };
            keep_copy(disk, root, &segment, *from..*to)
                .map_err(DoctorError::io("keep a copy of", segment.path()))
        }
        Act::Patch(Patch { at, bytes }) => {
            let Some(segment) = found.log.chain.find(*at) else {
                return Ok(());
            };
            let path = segment.path();
            let kept = keep_copy(disk, root, &segment, *at..at.saturating_add(8));
            let patched = kept.and_then(|()| {
                let file = disk.open(path, Open::Write)?;
                file.write_at(bytes, at - segment.start())?;
                file.sync()
            });
            patched.map_err(DoctorError::io("put right", path))
        }
        Act::Cut { at } => {
            let Some(segment) = found.log.chain.find(*at) else {
                return Ok(());
            };
            let path = segment.path();
            let file = disk.open(path, Open::Write);
            let cut = file.and_then(|file| file.set_len(at - segment.start()));
            cut.map_err(DoctorError::io("cut", path))
        }
    }
}

/// What the files say, and the configuration where it was given.
fn config(target: &Target, found: &Found) -> Result<StoreConfig, DoctorError> {
    let layout = layout_of_store(target, &found.log)?;
    Ok(StoreConfig {
        commit_log_paths: target.shape.log_dirs.clone(),
        read_only_commit_log_paths: target.shape.read_only_log_dirs.clone(),
        segment_size: found.log.segment_size,
        queue_file_size: usual_file_size(target)?,
        index_slots: layout.slots,
        index_entries: layout.entries,
        index_enabled: target.shape.index_enabled != Some(false),
        delay_levels: target.delay_levels(),
        ..StoreConfig::at(&target.root)
    })
}

/// The start of a broker without one, and its clean stop.
fn open_and_stop(
    target: &Target,
    disk: Arc<dyn Disk>,
    plan: &Plan,
    found: &Found,
) -> Result<(), DoctorError> {
    let (opening, config) = (plan.opening, plan.config.clone());
    let store = match opening {
        Opening::Rebuild => Store::open_rebuilding(disk, config, Millis::now())?,
        _ => Store::open(disk, config, Millis::now())?,
    };
    store.mark_running()?;
    if opening == Opening::Rebuild {
        // Their messages are in the log until that is cleaned; they were deleted all the same.
        for topic in &found.deleted_topics {
            store.delete_topic(topic)?;
        }
    }
    store.catch_up();
    let writable = store.check_writable();
    store.shutdown()?;
    writable.map_err(|error| DoctorError::Io {
        doing: "write",
        path: target.root.clone(),
        source: std::io::Error::other(error.to_string()),
    })
}
