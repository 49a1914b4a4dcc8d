//! Logs: into the journal under systemd, else into `<logDir>/<name>.log` in RocketMQ's form
//! (`2026-11-23 15:04:05 INFO main - message`), else, if no file can be made, to stderr.
//!
//! Nobody who logs ever waits, for a disk or for the journal: lines go through a bounded queue to one thread; what does not
//! fit is counted, and the number is logged when there is room again. A place that is heard too often is silenced for a
//! while (`limiter`), audits excepted. Bodies and secrets are never logged, by anybody.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gantry_config::LogLevel;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::reload;

use crate::events;
use crate::journal::{self, Journal, Kept};
use crate::limiter::{Limiter, Verdict};
use crate::rotating::{FILE_BYTES, RotatingFile};

/// Lines that may wait for the disk or the journal.
const QUEUE_LINES: usize = 4_096;
/// A longer line is cut.
const LINE_BYTES: usize = 16 << 10;
/// How long a dying process waits for its last lines.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Target of lines that are written as they are.
const BANNER: &str = "gantry::banner";

/// Where logs of a daemon go.
#[derive(Clone, Debug)]
pub struct Plan {
    /// File name without ending: `broker` or `namesrv`.
    pub name: &'static str,
    /// Folder for it.
    pub folder: PathBuf,
    /// Least level.
    pub level: LogLevel,
}

/// Where logs go in fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// systemd's journal.
    Journal,
    /// This file.
    File(PathBuf),
    /// stderr, because the folder could not be used for this reason.
    Stderr(String),
}

/// Lines that were left out since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// For want of room.
    pub dropped: u64,
    /// Because they came too often.
    pub suppressed: u64,
}

static DROPPED: AtomicU64 = AtomicU64::new(0);
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);
/// Changes the least level of the process's log.
static LEVEL: OnceLock<reload::Handle<LevelFilter, tracing_subscriber::Registry>> = OnceLock::new();

/// Lines that were left out since the start of the process.
pub fn left_out() -> LeftOut {
    LeftOut {
        dropped: DROPPED.load(Ordering::Relaxed),
        suppressed: SUPPRESSED.load(Ordering::Relaxed),
    }
}

/// Changes the least level, if [`start`] was called before.
pub fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // It fails only when the subscriber is gone, and it lives as long as the process.
        let _ = handle.modify(|current| *current = filter(level));
    }
}

/// Target of lines about what administrators asked for; they are never silenced.
pub const AUDIT: &str = "gantry::audit";

/// Keeps logging alive; dropping it writes what is waiting.
#[derive(Debug)]
pub struct Logging {
    destination: Destination,
    writer: Writer,
}

#[derive(Debug)]
struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

/// Starts logging for the process. Call it once, early, from `main`. It cannot fail: stderr is always there.
pub fn start(plan: &Plan) -> Logging {
    let (filter, level) = reload::Layer::new(filter(plan.level));
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process (tests) logs where the first does, and so does its level.
    let _ = LEVEL.set(level);
    let journal = if under_systemd() {
        Journal::find(format!("mq{}", plan.name)).ok()
    } else {
        None
    };
    let (destination, writer) = match journal {
        Some(journal) => {
            let writer = start_writer(Output::Journal(Box::new(journal)));
            let queue = Arc::clone(&writer.queue);
            install(registry.with(Limited::new(Events { queue })));
            (Destination::Journal, writer)
        }
        None => {
            let (output, destination) = open(plan);
            let writer = start_writer(output);
            let queue = Arc::clone(&writer.queue);
            install(registry.with(Limited::new(Lines { queue })));
            (destination, writer)
        }
    };
    log_panics(Arc::clone(&writer.queue));
    if let Destination::Stderr(reason) = &destination {
        tracing::warn!("no log file: {reason}");
    }
    Logging {
        destination,
        writer,
    }
}

impl Logging {
    /// Where logs go.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Lines that found no room, since the start.
    pub fn dropped(&self) -> u64 {
        self.writer.queue.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        // A thread that waits for a disk or a journal that never answers ends with the process.
        let Writer { queue, thread } = &mut self.writer;
        if queue.flush(LAST_WORDS)
            && queue.sender.try_send(Item::Stop).is_ok()
            && let Some(thread) = thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// Logs a line as it is, without time and level, and prints it: the line by which people and scripts see that
/// a daemon serves.
pub fn banner(line: &str) {
    tracing::info!(target: BANNER, message_id = events::SERVING, "{line}");
    crate::exit::say(&format!("{line}\n"));
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Only one subscriber can be installed; a second start in one process (tests) logs where the first does.
fn install(subscriber: impl Subscriber + Send + Sync) {
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// True if systemd gave us stderr, or a socket to talk to it.
///
/// `INVOCATION_ID` is no sign: every program started from a desktop session inherits it.
fn under_systemd() -> bool {
    if std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty()) {
        return true;
    }
    let stderr =
        std::fs::metadata("/proc/self/fd/2").map(|file| format!("{}:{}", file.dev(), file.ino()));
    stderr.is_ok_and(|stderr| std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == stderr))
}

/// True if log and stderr end in the same journal, where everything would stand twice.
pub(crate) fn in_journal() -> bool {
    under_systemd() && std::path::Path::new(journal::SOCKET).exists()
}

enum Output {
    File(RotatingFile),
    Stderr,
    Journal(Box<Journal>),
}

impl Output {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write(lines),
            Self::Stderr => io::Write::write_all(&mut io::stderr(), lines),
            // It gets events.
            Self::Journal(_) => Ok(()),
        }
    }

    fn send(&mut self, event: &Kept) -> io::Result<()> {
        match self {
            Self::Journal(journal) => journal.send(event),
            Self::File(_) | Self::Stderr => Ok(()),
        }
    }

    /// Says that so many lines found no room.
    fn say_dropped(&mut self, count: u64) -> io::Result<()> {
        self.send(&Kept::dropped(count))?;
        let note = format!("{count} log lines were dropped");
        self.write(format_line(Level::WARN, &note).as_bytes())
    }
}

fn open(plan: &Plan) -> (Output, Destination) {
    let path = plan.folder.join(format!("{}.log", plan.name));
    match RotatingFile::open(&plan.folder, plan.name, FILE_BYTES) {
        Ok(file) => (Output::File(file), Destination::File(path)),
        Err(error) => (
            Output::Stderr,
            Destination::Stderr(format!("{}: {error}", path.display())),
        ),
    }
}

enum Item {
    /// For a file or stderr.
    Line(String),
    /// For the journal.
    Event(Kept),
    Flush(Sender<()>),
    Stop,
}

/// The way of lines to the writing thread.
struct Queue {
    sender: SyncSender<Item>,
    dropped: AtomicU64,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

impl Queue {
    fn put(&self, item: Item) {
        match self.sender.try_send(item) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.count_dropped(),
        }
    }

    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until everything before is written, at most this long. Returns whether it is.
    fn flush(&self, patience: Duration) -> bool {
        let (done, wait) = channel();
        let is_asked = self.sender.try_send(Item::Flush(done)).is_ok();
        // If time is up, or the writer is gone, the process goes on.
        is_asked && wait.recv_timeout(patience).is_ok()
    }
}

fn start_writer(output: Output) -> Writer {
    let (sender, receiver) = sync_channel(QUEUE_LINES);
    let queue = Arc::new(Queue {
        sender,
        dropped: AtomicU64::new(0),
    });
    let seen = Arc::clone(&queue);
    let work = move || write_lines(output, &receiver, &seen);
    // Without a thread every line is dropped and counted; the daemon itself would not come far either.
    let thread = std::thread::Builder::new()
        .name("log-writer".into())
        .spawn(work)
        .ok();
    Writer { queue, thread }
}

fn write_lines(mut output: Output, items: &Receiver<Item>, queue: &Queue) {
    let mut reported = 0;
    let mut lines = Vec::new();
    while let Ok(first) = items.recv() {
        let mut next = Some(first);
        let mut waiting = Vec::new();
        let mut stop = false;
        while let Some(item) = next {
            match item {
                Item::Line(line) => lines.extend_from_slice(line.as_bytes()),
                Item::Event(event) => {
                    if output.send(&event).is_err() {
                        queue.count_dropped();
                    }
                }
                Item::Flush(done) => waiting.push(done),
                Item::Stop => stop = true,
            }
            // Lines are written together; events go one by one.
            next = if lines.len() < LINE_BYTES && !matches!(output, Output::Journal(_)) {
                items.try_recv().ok()
            } else {
                None
            };
        }
        if !lines.is_empty() && output.write(&lines).is_err() {
            // Nowhere to say it: the disk that logs are on is what fails.
            queue.count_dropped();
        }
        let dropped = queue.dropped.load(Ordering::Relaxed);
        if reported < dropped {
            // Said again with the next lines, if not now.
            if output.say_dropped(dropped - reported).is_ok() {
                reported = dropped;
            }
        }
        lines.clear();
        for done in waiting {
            // Who waited may have lost patience.
            let _ = done.send(());
        }
        if stop {
            break;
        }
    }
    if let Output::File(file) = &mut output {
        file.finish();
    }
}

/// Where events go.
trait Sink: Send + Sync + 'static {
    /// Takes an event before which so many like it were left out.
    fn take(&self, event: &Event<'_>, left_out: u64);
}

/// Silences what is heard too often.
struct Limited<O> {
    limiter: Limiter,
    output: O,
}

impl<O> Limited<O> {
    fn new(output: O) -> Self {
        Self {
            limiter: Limiter::default(),
            output,
        }
    }
}

impl<S: Subscriber, O: Sink> Layer<S> for Limited<O> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if [BANNER, AUDIT].contains(&metadata.target()) {
            return self.output.take(event, 0);
        }
        match self.limiter.look(metadata.callsite(), Instant::now()) {
            Verdict::Write(before) => self.output.take(event, before),
            Verdict::LeaveOut => {
                SUPPRESSED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Keeps events for the journal.
struct Events {
    queue: Arc<Queue>,
}

impl Sink for Events {
    fn take(&self, event: &Event<'_>, left_out: u64) {
        if 0 < left_out {
            self.queue.put(Item::Event(Kept::left_out(event, left_out)));
        }
        self.queue.put(Item::Event(Kept::of(event, LINE_BYTES)));
    }
}

/// Turns events into lines.
struct Lines {
    queue: Arc<Queue>,
}

impl Sink for Lines {
    fn take(&self, event: &Event<'_>, left_out: u64) {
        let mut text = Text::default();
        event.record(&mut text);
        let Text { message, fields } = text;
        let metadata = event.metadata();
        let line = if metadata.target() == BANNER {
            format!("{message}\n")
        } else {
            let mut text = message + &fields;
            if 0 < left_out {
                // Writing to a string cannot fail.
                let _ = write!(text, " ({left_out} like this were left out before)");
            }
            format_line(*metadata.level(), &text)
        };
        self.queue.put(Item::Line(line));
    }
}

/// The parts of an event.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing into a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            // For the journal alone.
            "message_id" => Ok(()),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            "message_id" => {}
            name => {
                let _ = write!(self.fields, " {name}={value}");
            }
        }
    }
}

fn format_line(level: Level, text: &str) -> String {
    let now = jiff::Zoned::now();
    let thread = std::thread::current();
    let mut line = format!(
        "{} {level} {} - ",
        now.strftime("%Y-%m-%d %H:%M:%S"),
        thread.name().unwrap_or("thread")
    );
    let room = LINE_BYTES.saturating_sub(line.len());
    let cut = (0..=room.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    // A line break from a peer must not look like a line of its own.
    line.extend(
        text[..cut]
            .chars()
            .map(|character| if character == '\n' { ' ' } else { character }),
    );
    line.push('\n');
    line
}

/// Panics go to the log too, and are on disk before the process dies of them.
fn log_panics(queue: Arc<Queue>) {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    if INSTALLED.set(()).is_err() {
        return;
    }
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tracing::error!(message_id = events::PANIC, "panic: {info}");
        // The process dies either way.
        let _ = queue.flush(LAST_WORDS);
        usual(info);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_looks_like_one_of_rocketmq() {
        let line = format_line(Level::INFO, "first\nsecond");
        let (time, rest) = line.split_at(19);
        assert!(
            jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", time).is_ok(),
            "{line}"
        );
        assert!(
            rest.starts_with(" INFO ") && rest.ends_with(" - first second\n"),
            "{line}"
        );
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let line = format_line(Level::INFO, &"ä".repeat(LINE_BYTES));
        assert!(
            line.len() <= LINE_BYTES + 1 && line.ends_with("ä\n"),
            "{}",
            line.len()
        );
    }

    #[test]
    fn lines_that_find_no_room_are_counted_and_reported() {
        let folder = tempfile::tempdir().unwrap();
        let (sender, items) = sync_channel(2);
        let queue = Queue {
            sender,
            dropped: AtomicU64::new(0),
        };
        for number in 0..5 {
            queue.put(Item::Line(format!("line {number}\n")));
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 3);
        let output = Output::File(RotatingFile::open(folder.path(), "broker", FILE_BYTES).unwrap());
        std::thread::scope(|scope| {
            let seen = &queue;
            scope.spawn(move || write_lines(output, &items, seen));
            queue.sender.send(Item::Stop).unwrap();
        });
        let text = std::fs::read_to_string(folder.path().join("broker.log")).unwrap();
        assert!(text.starts_with("line 0\nline 1\n"), "{text}");
        assert!(text.ends_with(" - 3 log lines were dropped\n"), "{text}");
    }
}
