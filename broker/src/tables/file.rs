//! One table's JSON file: read with Java's rule of the `.bak` beside it, replaced durably.
//!
//! A file that cannot be read as its table is never overwritten: it is renamed to a name that says so, and the log names it.
//! What the text means is the table's business.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_disk::{Disk, replace};
use gantry_message::Millis;
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
    /// There is no file that can be read, and its `.bak` holds no table either.
    #[error("{path}.bak cannot be read, and there is no good {path}: {error}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with the `.bak`.
        error: BodyError,
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

    /// What the file holds, else what its `.bak` holds, else nothing. `now` names the file under which a damaged one is kept.
    pub(crate) fn load<T>(
        &self,
        now: Millis,
        parse: fn(&[u8]) -> Result<T, BodyError>,
    ) -> Result<Option<T>, TableError> {
        if let Some(bytes) = self.read(&self.path)? {
            match parse(&bytes) {
                Ok(table) => return Ok(Some(table)),
                Err(error) => self.set_aside(&error, now)?,
            }
        }
        let backup = replace::backup_of(&self.path);
        let Some(bytes) = self.read(&backup)? else {
            return Ok(None);
        };
        let table = parse(&bytes).map_err(|error| TableError::Damaged {
            path: self.path.clone(),
            error,
        })?;
        tracing::warn!(file = %backup.display(), "the table was loaded from the backup file");
        Ok(Some(table))
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

    /// An empty file counts as none.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, TableError> {
        let bytes = replace::read(&*self.disk, path).map_err(|error| self.fault(error))?;
        Ok(bytes.filter(|bytes| !bytes.is_empty()))
    }

    fn set_aside(&self, error: &BodyError, now: Millis) -> Result<(), TableError> {
        let mut kept = self.path.clone().into_os_string();
        kept.push(format!(".damaged-{now}"));
        let kept = PathBuf::from(kept);
        self.disk
            .rename(&self.path, &kept)
            .map_err(|error| self.fault(error))?;
        tracing::error!(file = %self.path.display(), kept = %kept.display(), %error, "a damaged table file is set aside");
        Ok(())
    }

    fn fault(&self, error: io::Error) -> TableError {
        TableError::Io {
            path: self.path.clone(),
            error: Arc::new(error),
        }
    }
}
