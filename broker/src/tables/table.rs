//! A named-entry table with a data version whose changes are on disk before anybody sees them.
//!
//! Readers take an entry or the whole snapshot under a short lock. A change edits the next snapshot; the first thread that
//! finds no write under way writes the file for all changes made so far, the others wait for it: a hundred topics created
//! at once cost two or three writes. When the write fails, the table is what the disk holds, and every waiting change
//! gets the error. Everything that changes blocks on the disk: never call it from a runtime thread.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
};

use gantry_message::Millis;
use gantry_store::Watermark;
use gantry_wire::bodies::DataVersion;

use super::file::{JsonFile, TableError};

/// The entries of a table by name. Names come from peers, so the hasher is the keyed one.
pub type Entries<T> = HashMap<Arc<str>, Arc<T>>;

/// A table at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot<T> {
    /// The entries.
    pub entries: Entries<T>,
    /// Changes with every change of the entries; name servers and slaves compare it.
    pub version: DataVersion,
}

/// What an edit did.
pub(super) enum Edit<R> {
    /// The entries differ from before.
    Changed(R),
    /// They do not.
    Same(R),
}

pub(super) struct Table<T> {
    published: RwLock<Arc<Snapshot<T>>>,
    generation: Watermark,
    changes: Mutex<Changes<T>>,
    settled: Condvar,
    file: JsonFile,
    encode: fn(&Snapshot<T>) -> Vec<u8>,
}

struct Changes<T> {
    /// Invariant: what `published` becomes when everything accepted so far is written.
    next: Snapshot<T>,
    /// The round that takes edits; `edited` when it has some.
    open: Arc<Round>,
    edited: bool,
    /// One of its edits is nothing without the disk.
    strict: bool,
    /// The round that is being written.
    writing: Option<Arc<Round>>,
}

/// Where an edit must be at least.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    OnDisk,
    InMemory,
}

/// Changes that reach the disk in one write, and how that went.
#[derive(Default)]
struct Round {
    result: OnceLock<Result<(), TableError>>,
}

impl<T> Table<T> {
    pub(super) fn new(
        snapshot: Snapshot<T>,
        file: JsonFile,
        encode: fn(&Snapshot<T>) -> Vec<u8>,
    ) -> Self {
        let next = Snapshot {
            entries: snapshot.entries.clone(),
            version: snapshot.version,
        };
        let generation = Watermark::new(1);
        Table {
            published: RwLock::new(Arc::new(snapshot)),
            generation,
            changes: Mutex::new(Changes {
                next,
                open: Arc::default(),
                edited: false,
                strict: false,
                writing: None,
            }),
            settled: Condvar::new(),
            file,
            encode,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<T>> {
        self.published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .entries
            .get(name)
            .cloned()
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot<T>> {
        self.published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Grows by one whenever another snapshot is published; after reading it, `get` answers from that snapshot or a later one.
    pub(super) fn generation(&self) -> &Watermark {
        &self.generation
    }

    /// Edits the table; returns when the edit, and all edits it was based on, are on disk and published.
    pub(super) fn change<R>(
        &self,
        now: Millis,
        edit: impl FnOnce(&mut Entries<T>) -> Result<Edit<R>, TableError>,
    ) -> Result<R, TableError> {
        self.change_to(Kept::OnDisk, now, edit)
    }

    /// As [`Table::change`], for what is made again whenever it is missing: while the disk takes nothing, it is kept in
    /// memory until the next change that the disk takes, so that readers need no space.
    pub(super) fn change_in_memory_at_least<R>(
        &self,
        now: Millis,
        edit: impl FnOnce(&mut Entries<T>) -> Result<Edit<R>, TableError>,
    ) -> Result<R, TableError> {
        self.change_to(Kept::InMemory, now, edit)
    }

    fn change_to<R>(
        &self,
        kept: Kept,
        now: Millis,
        edit: impl FnOnce(&mut Entries<T>) -> Result<Edit<R>, TableError>,
    ) -> Result<R, TableError> {
        let mut changes = self.lock();
        let (value, round) = match edit(&mut changes.next.entries)? {
            Edit::Changed(value) => {
                let version = &mut changes.next.version;
                *version = DataVersion {
                    counter: version.counter.saturating_add(1),
                    timestamp: now.0,
                };
                changes.edited = true;
                changes.strict |= kept == Kept::OnDisk;
                (value, Some(changes.open.clone()))
            }
            Edit::Same(value) if changes.edited => (value, Some(changes.open.clone())),
            Edit::Same(value) => (value, changes.writing.clone()),
        };
        match round {
            Some(round) => self.settle(changes, &round).map(|()| value),
            None => Ok(value),
        }
    }

    /// Takes over another table, version included; returns when it is on disk and published.
    pub(super) fn replace(
        &self,
        entries: Entries<T>,
        version: DataVersion,
    ) -> Result<(), TableError> {
        let mut changes = self.lock();
        changes.next = Snapshot { entries, version };
        changes.edited = true;
        changes.strict = true;
        let round = changes.open.clone();
        self.settle(changes, &round)
    }

    /// Publishes the same entries under a new version, in memory only: the file keeps the version it has.
    pub(super) fn renew(&self, now: Millis) {
        let mut changes = self.lock();
        let version = &mut changes.next.version;
        *version = DataVersion {
            counter: version.counter.saturating_add(1),
            timestamp: now.0,
        };
        // A write under way publishes its own version after this one, which differs from it too.
        let snapshot = Arc::new(Snapshot {
            entries: self.snapshot().entries.clone(),
            version: *version,
        });
        self.publish(snapshot);
    }

    /// Invariant: the caller holds `changes`, so that one thread at a time gets here.
    fn publish(&self, snapshot: Arc<Snapshot<T>>) {
        *self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.generation.advance(self.generation.value() + 1);
    }

    /// Waits until a round is written, writing it here when nobody else is.
    fn settle<'a>(
        &'a self,
        mut changes: MutexGuard<'a, Changes<T>>,
        round: &Round,
    ) -> Result<(), TableError> {
        loop {
            if let Some(result) = round.result.get() {
                return result.clone();
            }
            changes = if changes.writing.is_some() {
                self.settled
                    .wait(changes)
                    .unwrap_or_else(PoisonError::into_inner)
            } else {
                self.write(changes)
            };
        }
    }

    fn write<'a>(&'a self, mut changes: MutexGuard<'a, Changes<T>>) -> MutexGuard<'a, Changes<T>> {
        let round = std::mem::take(&mut changes.open);
        changes.edited = false;
        let strict = std::mem::take(&mut changes.strict);
        changes.writing = Some(round.clone());
        let snapshot = Arc::new(Snapshot {
            entries: changes.next.entries.clone(),
            version: changes.next.version,
        });
        drop(changes);
        let mut result = self.file.replace(&(self.encode)(&snapshot));
        if let Some(error) = result.as_ref().err().filter(|_| !strict) {
            tracing::warn!(%error, "a new entry is kept in memory until the table can be written");
            result = Ok(());
        }
        let mut changes = self.lock();
        changes.writing = None;
        match &result {
            Ok(()) => self.publish(snapshot),
            Err(error) => {
                // What was edited meanwhile rests on what has just failed: it fails too.
                let current = self.snapshot();
                changes.next = Snapshot {
                    entries: current.entries.clone(),
                    version: current.version,
                };
                changes.edited = false;
                changes.strict = false;
                let failed = std::mem::take(&mut changes.open);
                finish(&failed, Err(error.clone()));
            }
        }
        finish(&round, result);
        self.settled.notify_all();
        changes
    }

    fn lock(&self) -> MutexGuard<'_, Changes<T>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells everybody who waits for a round how it went.
fn finish(round: &Round, result: Result<(), TableError>) {
    let first = round.result.set(result).is_ok();
    assert!(first, "a round is written once");
}
