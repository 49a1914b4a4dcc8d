//! A disk in memory that can lose power, be full, refuse and tear: for tests.
//!
//! Every file has two images: *live* is what a running process reads (the page cache), *durable* is what a power cut
//! leaves for sure. Between them stand the changes since the last sync, in order. The fault model:
//! - [`FaultyDisk::kill`]: the process dies; the live images stay.
//! - [`FaultyDisk::power_cut`]: of the changes that were not synced, any sectors may be on the disk, in any combination;
//!   of the names that were not synced, any leading part may be, as with a journal of them; after
//!   [`FaultyDisk::reorder_names`] any leading part of each directory's, which is all that POSIX promises.
//! - [`FaultyDisk::stop_after`]: after so many changes everything fails, and the last write may be torn: the moment of
//!   death, to be followed by one of the two above.
//! - [`FaultyDisk::fail`]: the next operations of a kind fail with an error of choice; a failed sync forgets what it did
//!   not sync, as Linux does. [`FaultyDisk::set_usage`], [`FaultyDisk::set_room`] and
//!   [`FaultyDisk::set_capacity`] make the disk full.
//!
//! This file holds the switches; what is on the disk is in `world` and `names`, the traits in `disk` and `file`.

mod disk;
mod file;
mod names;
#[cfg(test)]
mod tests;
mod world;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Usage;
use world::World;

/// A kind of operation that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Positional reads.
    Read,
    /// Positional writes; a failing one is torn.
    Write,
    /// Syncs of files and directories.
    Sync,
    /// Reserving space.
    Allocate,
    /// Making files.
    Create,
    /// Moving files and directories.
    Rename,
    /// Removing files.
    Remove,
}

/// A disk in memory with faults. Clones are the same disk.
#[derive(Clone)]
pub struct FaultyDisk(Arc<Mutex<World>>);

impl FaultyDisk {
    /// An empty disk; the seed decides what faults leave behind.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World::new(seed))))
    }

    /// How many changes (writes, syncs, new lengths and names) there were.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.world().changes
    }

    /// After so many changes from now on every operation fails.
    pub fn stop_after(&self, changes: u64) {
        let mut world = self.world();
        world.stop_at = Some(world.changes + changes);
    }

    /// Whether the disk has stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.world().is_stopped()
    }

    /// The process is dead and the machine lives: what was written is there.
    pub fn kill(&self) {
        let mut world = self.world();
        world.stop_at = None;
        world.failures.clear();
        world.locks.clear();
    }

    /// The machine was off: what was synced is there, of the rest anything.
    pub fn power_cut(&self) {
        self.kill();
        self.world().power_cut();
    }

    /// From now on names of different directories reach the disk independently: a sync of one makes no other durable.
    pub fn reorder_names(&self) {
        self.world().names_reorder = true;
    }

    /// The next `times` operations of a kind fail with an errno.
    pub fn fail(&self, operation: Operation, times: u64, errno: i32) {
        self.world().failures.insert(operation, (times, errno));
    }

    /// Positional reads that touch these bytes of a file fail with EIO from now on; none does with an empty range.
    pub fn spoil(&self, path: &Path, bytes: Range<u64>) {
        let mut world = self.world();
        let node = world.names.files.get(path).copied();
        if let Some(node) = node.and_then(|node| world.nodes.get_mut(&node)) {
            node.bad = bytes;
        }
    }

    /// A disk that takes its time: syncs of files wait until this is called again with `false`.
    pub fn hold_syncs(&self, held: bool) {
        let gate = Arc::clone(&self.world().syncs);
        gate.hold(held);
    }

    /// What [`crate::Disk::usage`] says from now on.
    pub fn set_usage(&self, usage: Usage) {
        self.world().usage = usage;
    }

    /// Files may grow by so many bytes together; `None`: as they like.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.world().room = bytes;
    }

    /// The disk has so many bytes: [`crate::Disk::usage`] follows what files with a name take up, and more there is not.
    pub fn set_capacity(&self, bytes: u64) {
        self.world().capacity = Some(bytes);
    }

    /// A disk of its own with the same content.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.world().clone())))
    }

    /// All of a file.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.world();
        let node = world.names.files.get(path)?;
        Some(world.nodes.get(node)?.live.clone())
    }

    /// Every file, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.world().names.files.keys().cloned().collect()
    }

    /// Changes a file behind everybody's back, durably; it is made if there is none, cut or extended if need be.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let mut world = self.world();
        let mut dir = path.parent();
        while let Some(up) = dir {
            world.names.dirs.insert(up.to_owned());
            world.durable_names.dirs.insert(up.to_owned());
            dir = up.parent();
        }
        let node = world
            .names
            .files
            .get(path)
            .copied()
            .unwrap_or(world.next_node);
        world.next_node = world.next_node.max(node + 1);
        world.names.files.insert(path.to_owned(), node);
        world.durable_names.files.insert(path.to_owned(), node);
        let entry = world.nodes.entry(node).or_default();
        entry.live = content.to_vec();
        entry.durable = content.to_vec();
        entry.pending.clear();
    }

    /// Removes a file behind everybody's back, durably.
    pub fn take(&self, path: &Path) {
        let mut world = self.world();
        world.names.files.remove(path);
        world.durable_names.files.remove(path);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyDisk")
    }
}
