//! What an examination found: a summary of each class of files, and findings with file, offset and reason.
//!
//! Its JSON form is an interface for scripts, drawn in `docs/store-doctor.md`: members are added, never renamed or taken
//! away while [`SCHEMA`] stays the same. The number of findings that are kept is bounded, their count is not.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

/// The version of the JSON form.
pub const SCHEMA: u32 = 1;

/// A class of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Segments of the log.
    Commitlog,
    /// Files of the consume queues.
    Consumequeue,
    /// Extended tags of the consume queues.
    ConsumequeueExt,
    /// Files of the key index.
    Index,
    /// `checkpoint` and `gantry.checkpoint`.
    Checkpoint,
    /// `abort` and `lock`.
    Marks,
    /// The tables in `config/`, with their backups.
    Config,
    /// What recovery and repairs have set aside.
    Quarantine,
}

impl Class {
    /// As it is called in both forms of a report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Commitlog => "commitlog",
            Self::Consumequeue => "consumequeue",
            Self::ConsumequeueExt => "consumequeue_ext",
            Self::Index => "index",
            Self::Checkpoint => "checkpoint",
            Self::Marks => "marks",
            Self::Config => "config",
            Self::Quarantine => "quarantine",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a finding means for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something is damaged or missing.
    Fault,
    /// Worth knowing; nothing to do, or the next start of a broker does it.
    Note,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// In which class of files.
    pub class: Class,
    /// What kind of finding it is; a word that stays the same.
    pub code: &'static str,
    /// The file or directory.
    pub file: String,
    /// Where in the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What is wrong, as a sentence.
    pub reason: String,
}

impl Finding {
    /// Something that is damaged or missing.
    #[must_use]
    pub fn fault(class: Class, code: &'static str, file: &Path, reason: impl fmt::Display) -> Self {
        Self {
            severity: Severity::Fault,
            class,
            code,
            file: file.display().to_string(),
            offset: None,
            reason: reason.to_string(),
        }
    }

    /// Something worth knowing.
    #[must_use]
    pub fn note(class: Class, code: &'static str, file: &Path, reason: impl fmt::Display) -> Self {
        Self {
            severity: Severity::Note,
            ..Self::fault(class, code, file, reason)
        }
    }

    /// At that place of the file.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// As bad as `severity` says.
    #[must_use]
    pub fn as_bad_as(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Fault => "FAULT",
            Severity::Note => "note ",
        };
        write!(f, "{word} {}", self.file)?;
        if let Some(offset) = self.offset {
            write!(f, " at {offset}")?;
        }
        write!(f, ": {} [{}]", self.reason, self.code)
    }
}

/// How much there is of one class of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClassSummary {
    /// How many files.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many records, entries, units or rows are in them.
    pub records: u64,
    /// How many faults were found.
    pub faults: u64,
    /// How many notes were made.
    pub notes: u64,
}

/// What the log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogSummary {
    /// The length of a segment.
    pub segment_size: u64,
    /// Where the log begins.
    pub min_offset: u64,
    /// Where it ends.
    pub end_offset: u64,
    /// How many messages are in it.
    pub messages: u64,
    /// When the first of them was stored, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_store_time: Option<i64>,
    /// When the last of them was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_store_time: Option<i64>,
    /// Bytes in damaged or missing ranges.
    pub lost_bytes: u64,
}

/// What an examination found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The store's root.
    pub store: String,
    /// Whether no fault was found.
    pub healthy: bool,
    /// Whether everything could be looked at; if not, the system refused something, and a finding says what.
    pub complete: bool,
    /// Whether the last process stopped the store cleanly.
    pub clean_stop: bool,
    /// The process that works on the store at this moment (0: not to be seen from here).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_process: Option<u32>,
    /// What the log holds.
    pub log: LogSummary,
    /// How many topics have queues.
    pub topics: u64,
    /// How many queues there are.
    pub queues: u64,
    /// Each class of files.
    pub classes: BTreeMap<Class, ClassSummary>,
    /// How many faults were found.
    pub faults: u64,
    /// How many notes were made.
    pub notes: u64,
    /// Faults first, then notes; at most as many of each as were asked for.
    pub findings: Vec<Finding>,
    /// How many findings are not listed.
    pub findings_left_out: u64,
}

/// Collects findings.
#[derive(Debug)]
pub struct Findings {
    limit: usize,
    classes: BTreeMap<Class, ClassSummary>,
    faults: Vec<Finding>,
    notes: Vec<Finding>,
    left_out: u64,
    complete: bool,
}

impl Findings {
    /// Keeps at most `limit` faults and as many notes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            classes: BTreeMap::new(),
            faults: Vec::new(),
            notes: Vec::new(),
            left_out: 0,
            complete: true,
        }
    }

    /// The summary of a class, to count in.
    pub fn class(&mut self, class: Class) -> &mut ClassSummary {
        self.classes.entry(class).or_default()
    }

    /// Counts a file of a class.
    pub fn file(&mut self, class: Class, bytes: u64) {
        let summary = self.class(class);
        summary.files += 1;
        summary.bytes = summary.bytes.saturating_add(bytes);
    }

    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        let summary = self.class(finding.class);
        let list = match finding.severity {
            Severity::Fault => {
                summary.faults += 1;
                &mut self.faults
            }
            Severity::Note => {
                summary.notes += 1;
                &mut self.notes
            }
        };
        if list.len() < self.limit {
            list.push(finding);
        } else {
            self.left_out += 1;
        }
    }

    /// Adds what the system refused: a fault, and the examination is not complete.
    pub fn refused(&mut self, class: Class, path: &Path, error: &std::io::Error) {
        self.complete = false;
        self.add(Finding::fault(
            class,
            "unreadable",
            path,
            format_args!("cannot be read: {error}"),
        ));
    }

    /// Notes that something could not be looked at.
    pub fn incomplete(&mut self) {
        self.complete = false;
    }

    /// The report about the store at `root`.
    #[must_use]
    pub fn report(self, root: &Path) -> Report {
        let total = |count: fn(&ClassSummary) -> u64| self.classes.values().map(count).sum();
        let (faults, notes) = (total(|class| class.faults), total(|class| class.notes));
        let mut findings = self.faults;
        findings.extend(self.notes);
        Report {
            schema: SCHEMA,
            store: root.display().to_string(),
            healthy: faults == 0,
            complete: self.complete,
            clean_stop: true,
            live_process: None,
            log: LogSummary::default(),
            topics: 0,
            queues: 0,
            classes: self.classes,
            faults,
            notes,
            findings,
            findings_left_out: self.left_out,
        }
    }
}

impl Report {
    /// 0: healthy, 1: faults, 2: not everything could be looked at.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (self.complete, self.healthy) {
            (false, _) => 2,
            (true, false) => 1,
            (true, true) => 0,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if self.findings_left_out > 0 {
            writeln!(f, "... and {} more", self.findings_left_out)?;
        }
        if !self.findings.is_empty() {
            writeln!(f)?;
        }
        writeln!(
            f,
            "{:<17} {:>9} {:>17} {:>14} {:>8} {:>8}",
            "class", "files", "bytes", "records", "faults", "notes"
        )?;
        for (class, summary) in &self.classes {
            writeln!(
                f,
                "{:<17} {:>9} {:>17} {:>14} {:>8} {:>8}",
                class, summary.files, summary.bytes, summary.records, summary.faults, summary.notes
            )?;
        }
        let log = &self.log;
        writeln!(
            f,
            "\nlog      {} to {} in segments of {}, {} messages",
            log.min_offset, log.end_offset, log.segment_size, log.messages
        )?;
        if let (Some(first), Some(last)) = (log.first_store_time, log.last_store_time) {
            writeln!(f, "stored   {} to {}", time_text(first), time_text(last))?;
        }
        writeln!(f, "queues   {} of {} topics", self.queues, self.topics)?;
        let stop = if self.clean_stop {
            "clean"
        } else {
            "not clean: the next start recovers"
        };
        writeln!(f, "stop     {stop}")?;
        let verdict = match (self.complete, self.healthy) {
            (false, _) => "NOT EVERYTHING COULD BE LOOKED AT",
            (true, true) => "healthy",
            (true, false) => "DAMAGED",
        };
        writeln!(
            f,
            "verdict  {verdict}, {} faults, {} notes",
            self.faults, self.notes
        )
    }
}

/// A time in milliseconds since 1970 as people read it, in UTC.
#[must_use]
pub fn time_text(millis: i64) -> String {
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{millis} ms"),
    }
}
