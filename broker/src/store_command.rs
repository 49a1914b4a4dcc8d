//! `mqbroker store ...`: the store doctor, told what a broker's configuration file says of the store.
//!
//! Runs instead of a broker, before any option of the daemon is looked at. The command itself is `gantry_doctor`.

use std::io;
use std::process::ExitCode;

use gantry_config::{Severity, options};
use gantry_doctor::Shape;
use gantry_doctor::cli::{self, Configured};
use gantry_service::startup;

use crate::config::boot;
use crate::config::parts::store_config;

/// Runs the command if the arguments (without the program's name) ask for it.
pub fn run_if_asked(arguments: impl IntoIterator<Item = String>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter();
    if arguments.next().as_deref() != Some("store") {
        return None;
    }
    let out = &mut io::BufWriter::with_capacity(1 << 16, io::stdout());
    let code = cli::run(arguments, &configure, out, &mut io::stderr());
    Some(ExitCode::from(code))
}

/// What a broker with that file would work on.
fn configure(file: &str) -> Result<Configured, String> {
    let options = options::parse(["-c".to_owned(), file.to_owned()]);
    let options = options.map_err(|error| error.to_string())?;
    let loaded = startup::load_by_hand(&boot::PROGRAM, &options);
    let errors = loaded
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error);
    let errors: Vec<String> = errors.map(ToString::to_string).collect();
    if !errors.is_empty() {
        return Err(errors.join("; "));
    }
    let store = store_config(&loaded.config);
    Ok(Configured {
        root: store.root,
        shape: Shape {
            log_dirs: store.commit_log_paths,
            read_only_log_dirs: store.read_only_commit_log_paths,
            segment_size: Some(store.segment_size),
            queue_file_size: Some(store.queue_file_size),
            index: Some((store.index_slots, store.index_entries)),
            index_enabled: Some(store.index_enabled),
            delay_levels: Some(store.delay_levels),
        },
    })
}
