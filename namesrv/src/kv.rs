//! The key-value table: namespace, key, value. Kept in memory, written to its file with every change.
//!
//! Readers take a snapshot and never wait. Changes happen one after the other and are durable before they are seen;
//! they block on the disk, so `dispatch` runs them on a blocking thread. A file that cannot be read as a table is set
//! aside under a name that is logged, never overwritten.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::live::Live;
use gantry_disk::{Disk, replace};
use gantry_message::Millis;
use gantry_wire::bodies::{KvConfig, KvTable};

/// The namespace with order configurations: topic to `broker-a:4;broker-b:4`.
pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";
/// Bytes of a namespace or key.
pub const NAME_MAX: usize = 255;
/// Bytes of all namespaces, keys and values: a whole namespace must fit an answer.
pub const TABLE_MAX: usize = 8 << 20;

/// The table and its file.
#[derive(Debug)]
pub struct Kv {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    table: Live<KvConfig>,
}

/// Why a change is refused.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// A name is too long.
    #[error("{what} has {size} bytes, the limit is {NAME_MAX}")]
    NameTooLong {
        /// Namespace or key.
        what: &'static str,
        /// Its size.
        size: usize,
    },
    /// The table is full.
    #[error("the KV table would have {size} bytes, the limit is {TABLE_MAX}")]
    TableFull {
        /// The size it would have.
        size: usize,
    },
    /// The file could not be written; nothing has changed.
    #[error("cannot write {path}: {error}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

/// Why there is no table to start with.
#[derive(Debug, thiserror::Error)]
#[error("cannot {deed} {path}: {error}")]
pub struct LoadError {
    deed: &'static str,
    path: PathBuf,
    error: io::Error,
}

impl Kv {
    /// Reads the table. A damaged file is set aside and its backup, if that is whole, takes its place.
    pub fn load(disk: Arc<dyn Disk>, path: PathBuf) -> Result<Self, LoadError> {
        let table = match read(&*disk, &path)? {
            None => KvConfig::default(),
            Some(bytes) => match KvConfig::parse(&bytes) {
                Ok(table) => table,
                Err(error) => {
                    let aside = set_aside(&*disk, &path)?;
                    tracing::error!(
                        "{} is damaged ({error}); it is kept as {}",
                        path.display(),
                        aside.display()
                    );
                    from_backup(&*disk, &path)?
                }
            },
        };
        Ok(Self {
            disk,
            path,
            table: Live::new(table),
        })
    }

    /// One value.
    pub fn get(&self, namespace: &str, key: &str) -> Option<String> {
        self.table
            .get()
            .config_table
            .get(namespace)?
            .get(key)
            .cloned()
    }

    /// All values of a namespace, if it is known.
    pub fn list(&self, namespace: &str) -> Option<KvTable> {
        let table = self.table.get().config_table.get(namespace)?.clone();
        Some(KvTable { table })
    }

    /// Sets a value. Blocks on the disk.
    pub fn put(&self, namespace: &str, key: &str, value: &str) -> Result<(), KvError> {
        for (what, name) in [("namespace", namespace), ("key", key)] {
            if NAME_MAX < name.len() {
                return Err(KvError::NameTooLong {
                    what,
                    size: name.len(),
                });
            }
        }
        self.table.change(|table| {
            let mut table = table.clone();
            let keys = table.config_table.entry(namespace.to_owned()).or_default();
            if keys.insert(key.to_owned(), value.to_owned()).as_deref() == Some(value) {
                return Ok((table, ()));
            }
            let size = size(&table);
            if TABLE_MAX < size {
                return Err(KvError::TableFull { size });
            }
            self.persist(&table)?;
            Ok((table, ()))
        })
    }

    /// Removes a value; the namespace stays, as it does in Java. Blocks on the disk.
    pub fn delete(&self, namespace: &str, key: &str) -> Result<(), KvError> {
        self.table.change(|table| {
            let mut table = table.clone();
            let removed = table
                .config_table
                .get_mut(namespace)
                .and_then(|keys| keys.remove(key));
            if removed.is_some() {
                self.persist(&table)?;
            }
            Ok((table, ()))
        })
    }

    fn persist(&self, table: &KvConfig) -> Result<(), KvError> {
        let folder = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        folder
            .map_or(Ok(()), |folder| self.disk.create_dirs(folder))
            .and_then(|()| replace::keeping_backup(&*self.disk, &self.path, &table.encode()))
            .map_err(|error| KvError::Disk {
                path: self.path.clone(),
                error,
            })
    }
}

fn size(table: &KvConfig) -> usize {
    let of_keys = |(key, value): (&String, &String)| key.len() + value.len();
    table
        .config_table
        .iter()
        .map(|(name, keys)| name.len() + keys.iter().map(of_keys).sum::<usize>())
        .sum()
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, LoadError> {
    replace::read(disk, path).map_err(|error| LoadError {
        deed: "read",
        path: path.to_owned(),
        error,
    })
}

fn set_aside(disk: &dyn Disk, path: &Path) -> Result<PathBuf, LoadError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{}", Millis::now().0));
    let aside = PathBuf::from(aside);
    disk.rename(path, &aside).map_err(|error| LoadError {
        deed: "set aside",
        path: path.to_owned(),
        error,
    })?;
    Ok(aside)
}

fn from_backup(disk: &dyn Disk, path: &Path) -> Result<KvConfig, LoadError> {
    let backup = replace::backup_of(path);
    match read(disk, &backup)?.map(|bytes| KvConfig::parse(&bytes)) {
        Some(Ok(table)) => {
            tracing::warn!(
                "the KV table is the one before the last change, from {}",
                backup.display()
            );
            Ok(table)
        }
        Some(Err(error)) => {
            tracing::error!(
                "{} is damaged too ({error}); the KV table is empty",
                backup.display()
            );
            Ok(KvConfig::default())
        }
        None => {
            tracing::error!("there is no {}; the KV table is empty", backup.display());
            Ok(KvConfig::default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_disk::OsDisk;

    struct Folder {
        folder: tempfile::TempDir,
    }

    impl Folder {
        fn new() -> Self {
            Self {
                folder: tempfile::tempdir().unwrap(),
            }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("namesrv/kvConfig.json")
        }

        fn load(&self) -> Kv {
            Kv::load(Arc::new(OsDisk), self.path()).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.folder.path().join("namesrv")).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    #[test]
    fn values_survive_in_the_file_java_writes() {
        let folder = Folder::new();
        let kv = folder.load();
        kv.put("ns", "k", "v1").unwrap();
        kv.put("ns", "k", "v").unwrap();
        kv.put("ns", "gone", "x").unwrap();
        kv.delete("ns", "gone").unwrap();
        kv.delete("ns", "never there").unwrap();
        kv.delete("nowhere", "k").unwrap();
        assert_eq!(
            std::fs::read_to_string(folder.path()).unwrap(),
            r#"{"configTable":{"ns":{"k":"v"}}}"#
        );
        let again = folder.load();
        assert_eq!(again.get("ns", "k").as_deref(), Some("v"));
        assert_eq!(again.get("ns", "gone"), None);
        assert_eq!(again.list("ns").unwrap().table.len(), 1);
        assert!(again.list("nowhere").is_none());
    }

    #[test]
    fn an_emptied_namespace_is_still_known() {
        let kv = Folder::new().load();
        assert!(kv.list("ns").is_none());
        let folder = Folder::new();
        let kv = {
            drop(kv);
            folder.load()
        };
        kv.put("ns", "k", "v").unwrap();
        kv.delete("ns", "k").unwrap();
        assert!(kv.list("ns").unwrap().table.is_empty());
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_the_backup_takes_its_place() {
        let folder = Folder::new();
        let kv = folder.load();
        kv.put("ns", "k", "old").unwrap();
        kv.put("ns", "k", "new").unwrap();
        std::fs::write(folder.path(), "{\"configTable\":{\"ns\":{").unwrap();
        assert_eq!(folder.load().get("ns", "k").as_deref(), Some("old"));
        let damaged: Vec<_> = folder
            .names()
            .into_iter()
            .filter(|name| name.starts_with("kvConfig.json.damaged-"))
            .collect();
        assert_eq!(damaged.len(), 1);
        let kept = folder.path().with_file_name(&damaged[0]);
        assert_eq!(
            std::fs::read_to_string(kept).unwrap(),
            "{\"configTable\":{\"ns\":{"
        );
    }

    #[test]
    fn a_table_damaged_with_its_backup_starts_empty_and_loses_no_file() {
        let folder = Folder::new();
        std::fs::create_dir_all(folder.path().parent().unwrap()).unwrap();
        std::fs::write(folder.path(), "no").unwrap();
        std::fs::write(replace::backup_of(&folder.path()), "neither").unwrap();
        assert!(folder.load().list("ns").is_none());
        assert_eq!(folder.names().len(), 2);
    }

    #[test]
    fn limits_are_named_and_change_nothing() {
        let folder = Folder::new();
        let kv = folder.load();
        let long = "x".repeat(NAME_MAX + 1);
        assert_eq!(
            kv.put(&long, "k", "v").unwrap_err().to_string(),
            "namespace has 256 bytes, the limit is 255"
        );
        assert_eq!(
            kv.put("ns", &long, "v").unwrap_err().to_string(),
            "key has 256 bytes, the limit is 255"
        );
        let huge = "x".repeat(TABLE_MAX);
        assert_eq!(
            kv.put("ns", "k", &huge).unwrap_err().to_string(),
            format!(
                "the KV table would have {} bytes, the limit is {TABLE_MAX}",
                TABLE_MAX + 3
            )
        );
        assert!(kv.list("ns").is_none());
        assert!(!folder.path().exists());
    }

    #[test]
    fn a_value_that_could_not_be_written_is_not_there() {
        let folder = Folder::new();
        let kv = folder.load();
        // The folder's name is taken by a file.
        std::fs::write(folder.folder.path().join("namesrv"), "").unwrap();
        let error = kv.put("ns", "k", "v").unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot write {}", folder.path().display())),
            "{error}"
        );
        assert_eq!(kv.get("ns", "k"), None);
    }
}
