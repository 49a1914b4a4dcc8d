//! What a start says when the system refuses something on a file: with the command that mends it, where that is known.

use std::{fmt, io, path::Path};

use gantry_service::{Failure, owner};
use gantry_store::StoreError;

use crate::tables::TableError;

/// `root` is where files of the store belong.
pub(super) fn store_failure(error: StoreError, root: &Path) -> Failure {
    match &error {
        StoreError::Io { path, source, .. } => refused(&error, source, path, root),
        _ => Failure::from_error(error),
    }
}

pub(super) fn table_failure(error: TableError, root: &Path) -> Failure {
    match &error {
        TableError::Io {
            path,
            error: source,
        } => refused(&error, source, path, root),
        _ => Failure::other(error),
    }
}

/// What the system refused on a file, with the command that mends it where the file is somebody else's.
fn refused(error: &dyn fmt::Display, source: &io::Error, path: &Path, root: &Path) -> Failure {
    let remedy = owner::remedy(source, path, root).map(|remedy| format!("; {remedy}"));
    let reason = format!("{error}{}", remedy.unwrap_or_default());
    match source.raw_os_error() {
        Some(errno) => Failure::System { reason, errno },
        None => Failure::Other(reason),
    }
}
