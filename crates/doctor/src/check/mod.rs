//! The examination: everything is read once, nothing is written, memory does not grow with the store.
//!
//! Order: the small files; the queue files, one entry after another; the index files and their chains; then one walk over
//! the log, at which every record looks up its queue entry and meets its index entries. What is left over then, entries
//! that no record asked for, is compared with the log one by one.

mod ext;
mod index;
mod index_file;
mod index_layout;
mod log;
mod queue_files;
mod queue_windows;
mod queues;
mod side;
mod tables;

use std::ops::ControlFlow;

use gantry_disk::Holder;
use gantry_message::SysFlag;

use crate::log::{Item, Log, walk, wide};
use crate::progress::Progress;
use crate::report::{Class, Finding, Findings, Report};
use crate::target::{DoctorError, Target, holder_text};

pub(crate) use index_layout::layout_of_store;
pub(crate) use log::Patch;
pub(crate) use queue_files::usual_file_size;
pub(crate) use side::Stop;
pub(crate) use tables::{NAMES as TABLES, parse as parse_table};

use index::IndexCheck;
use log::LogCheck;
use queues::{QueueCheck, Walked};

/// How an examination is made.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// So many faults, and as many notes, are listed.
    pub limit: usize,
    /// Looks at a store on which a broker works.
    pub live: bool,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            limit: 1000,
            live: false,
        }
    }
}

/// Examines a store. One on which a broker works is refused unless [`CheckOptions::live`] says otherwise.
pub fn check(
    target: &Target,
    options: CheckOptions,
    progress: &Progress,
) -> Result<Report, DoctorError> {
    let live = target.live()?;
    if let Some(holder) = live.filter(|_| !options.live) {
        return Err(DoctorError::Live {
            root: target.root.clone(),
            by: format!("a broker ({})", holder_text(holder)),
            advice: ". Stop it, or look all the same with --live: what it is writing at this moment may then be \
                     reported as damage",
        });
    }
    examine(target, options.limit, live, progress).map(|found| found.report)
}

/// What an examination found, for those who want to make it good.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) report: Report,
    pub(crate) log: Log,
    /// Topics and numbers of queues with faults.
    pub(crate) bad_queues: Vec<(String, u32)>,
    /// Topics with messages in the log that have no queue because they were deleted.
    pub(crate) deleted_topics: Vec<String>,
    /// Where the log ends, when something stands there.
    pub(crate) torn_at: Option<u64>,
    /// What is wrong in the log and can be put right in place.
    pub(crate) patches: Vec<Patch>,
    /// Ranges of the log that cannot be read.
    pub(crate) damaged: Vec<(u64, u64)>,
}

/// Examines a store whoever works on it.
pub(crate) fn examine(
    target: &Target,
    limit: usize,
    live: Option<Holder>,
    progress: &Progress,
) -> Result<Found, DoctorError> {
    let mut findings = Findings::new(limit);
    if let Some(holder) = live {
        let reason = format!(
            "a broker ({}) works on this store: what it is writing at this moment may be reported as damage",
            holder_text(holder)
        );
        let lock = target.root.join("lock");
        findings.add(Finding::note(Class::Marks, "live", &lock, reason));
    }
    let stop = Stop::read(target, &mut findings)?;
    let tables = tables::check(target, &mut findings)?;
    let log = Log::find(target, &mut findings)?;
    let mut queues = QueueCheck::load(target, &log, &mut findings, progress)?;
    let mut index = IndexCheck::load(target, &log, &stop, &mut findings, progress)?;
    let mut of_log = LogCheck::new(target, &log, &stop);

    progress.begin("log", log.files_end().saturating_sub(log.chain.min()));
    let end = walk(
        &log.chain,
        log.chain.min(),
        stop.log_ends_at(),
        &mut |item| {
            if let Item::Record(view) = &item {
                progress.further(wide(view.len()));
                if of_log.record(view) {
                    queues.gap();
                }
                if view.sys_flag().is_queued() {
                    queues.record(view, &stop, &mut findings)?;
                }
                if view.sys_flag().transaction() != SysFlag::ROLLBACK {
                    index.record(view, of_log.lost(), &mut findings);
                }
            } else {
                if of_log.gap(&item, &mut findings) {
                    queues.gap();
                }
            }
            Ok(ControlFlow::Continue(()))
        },
    )?;
    let log_end = of_log.end(&end, &mut findings);
    index.finish(log_end, &stop, of_log.lost(), &mut findings);
    let walked = Walked {
        log: &log,
        log_end,
        stop: &stop,
        lost: of_log.lost(),
        tables: &tables,
    };
    queues.finish(&walked, &mut findings)?;
    stop.check(target, &log, &of_log, queues.entries(), &mut findings);
    tables::check_offsets(target, &tables, &queues, &mut findings);
    ext::count(target, &mut findings)?;
    side::quarantine(target, &mut findings)?;
    progress.end();

    let torn_at = of_log.torn_at(&end);
    let patches = [of_log.patches(), queues.patches()].concat();
    let damaged = of_log.lost().damaged().collect();
    let (topics, queue_count) = queues.count();
    if log.chain.all().is_empty() && queue_count > 0 {
        let dir = target.shape.log_dirs.first().unwrap_or(&target.root);
        let text = "there is no segment of the log in it, and there are queues";
        findings.add(Finding::fault(Class::Commitlog, "log-missing", dir, text));
    }
    let mut report = findings.report(&target.root);
    report.clean_stop = stop.is_clean;
    report.live_process = live.map(|holder| holder.process);
    report.log = of_log.summary(log_end);
    (report.topics, report.queues) = (topics, queue_count);
    let (bad_queues, deleted_topics) = (queues.bad(), queues.deleted_topics());
    Ok(Found {
        report,
        bad_queues,
        deleted_topics,
        torn_at,
        damaged,
        patches,
        log,
    })
}
