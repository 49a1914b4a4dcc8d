//! One table's JSON file: read with Java's rule of the `.bak` beside it, replaced durably.
//!
//! A file that cannot be read as its table never stops the start and is never overwritten: it moves to the store's
//! `quarantine/`, and the log names it. An empty one goes as well: the next write would make a backup of it.
//! What the text means is the table's business.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_disk::{Disk, replace};
use gantry_store::offline;
use gantry_wire::bodies::BodyError;

/// Why a table could not be loaded or changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TableError {
    /// The file system refused.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: Arc<io::Error>,
    },
    /// The table holds as many entries as it may.
    #[error("there are {count} {what} already, limit {limit}")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A topic's queues are kept in a folder of its name, and this is no name of a folder.
    #[error("topic[{0:?}] cannot be the name of a folder")]
    Name(String),
}

impl TableError {
    /// Refuses one entry more than `limit`.
    pub(super) fn check_room(
        what: &'static str,
        count: usize,
        limit: usize,
    ) -> Result<(), TableError> {
        if count < limit {
            Ok(())
        } else {
            Err(TableError::Full { what, count, limit })
        }
    }
}

pub(crate) struct JsonFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl JsonFile {
    pub(crate) fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        JsonFile { disk, path }
    }

    /// What the file holds, else what its `.bak` holds; `None` when there is no table that can be read.
    pub(crate) fn load<T>(
        &self,
        parse: fn(&[u8]) -> Result<T, BodyError>,
    ) -> Result<Option<T>, TableError> {
        if let Some(table) = self.read(&self.path, parse)? {
            return Ok(Some(table));
        }
        let backup = replace::backup_of(&self.path);
        let table = self.read(&backup, parse)?;
        if table.is_some() {
            tracing::warn!(file = %backup.display(), "the table was loaded from the backup file");
        }
        Ok(table)
    }

    /// Puts new content in place of the old, which stays beside it as `.bak`. Durable when it returns; after an error the file holds the old
    /// or the new content.
    pub(crate) fn replace(&self, content: &[u8]) -> Result<(), TableError> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        self.disk
            .create_dirs(folder)
            .and_then(|()| replace::keeping_backup(&*self.disk, &self.path, content))
            .map_err(|error| self.fault(error))
    }

    fn read<T>(
        &self,
        path: &Path,
        parse: fn(&[u8]) -> Result<T, BodyError>,
    ) -> Result<Option<T>, TableError> {
        let bytes = replace::read(&*self.disk, path).map_err(|error| self.fault(error))?;
        let why = match bytes {
            None => return Ok(None),
            Some(bytes) if bytes.is_empty() => "it is empty".to_owned(),
            Some(bytes) => match parse(&bytes) {
                Ok(table) => return Ok(Some(table)),
                Err(error) => error.to_string(),
            },
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let root = folder.parent().unwrap_or(folder);
        let to = offline::set_aside(&*self.disk, root, path).map_err(|error| self.fault(error))?;
        tracing::error!(file = %path.display(), to = %to.display(), why, "a table cannot be read and is set aside");
        Ok(None)
    }

    fn fault(&self, error: io::Error) -> TableError {
        TableError::Io {
            path: self.path.clone(),
            error: Arc::new(error),
        }
    }
}
