//! A bar on stderr while something long runs, and only when a person looks at it.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// How far a run is, in bytes.
#[derive(Debug)]
pub struct Progress(ProgressBar);

const STYLE: &str =
    "{msg:14} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta_precise}";

impl Progress {
    /// Shows nothing.
    #[must_use]
    pub fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Shows a bar when stderr is a terminal.
    #[must_use]
    pub fn on_terminal() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::hidden();
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template(STYLE) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Begins a part of `bytes`.
    pub(crate) fn begin(&self, what: &'static str, bytes: u64) {
        self.0.disable_steady_tick();
        self.0.reset();
        self.0.set_length(bytes);
        self.0.set_position(0);
        self.0.set_message(what);
    }

    /// Begins a part of which nobody knows how long it takes.
    pub(crate) fn begin_unknown(&self, what: &'static str) {
        self.0.unset_length();
        self.0.set_message(what);
        self.0
            .enable_steady_tick(std::time::Duration::from_millis(200));
    }

    /// So much further.
    pub(crate) fn further(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}
