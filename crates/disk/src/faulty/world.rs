//! What is on the disk, live and durable, and what a power cut makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::Operation;
use super::names::{NameChange, Names};
use crate::Usage;

/// What a power cut leaves or loses as a whole.
const SECTOR: usize = 512;

#[derive(Clone)]
pub(super) struct World {
    pub(super) names: Names,
    pub(super) durable_names: Names,
    /// Changes to `durable_names` that are not yet durable, by directory.
    pub(super) name_changes: Vec<(PathBuf, NameChange)>,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) next_node: u64,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) random: u64,
    pub(super) changes: u64,
    pub(super) stop_at: Option<u64>,
    pub(super) failures: BTreeMap<Operation, (u64, i32)>,
    pub(super) usage: Usage,
    /// Bytes that files may still grow by.
    pub(super) room: Option<u64>,
    /// Size of the disk, where it has one.
    pub(super) capacity: Option<u64>,
    /// Which disk this is, and how often its machine was started.
    pub(super) boot: (u64, u64),
    /// Names reach the disk in no order but that of their directory.
    pub(super) names_reorder: bool,
    pub(super) syncs: Arc<Gate>,
}

/// Where syncs of files wait while they are held.
#[derive(Default)]
pub(super) struct Gate {
    held: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn hold(&self, held: bool) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        self.changed.notify_all();
    }

    pub(super) fn pass(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.changed.wait_while(held, |held| *held);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }
}

#[derive(Clone, Default)]
pub(super) struct Node {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
    pub(super) modified: Duration,
    /// Where reads fail.
    pub(super) bad: Range<u64>,
}

#[derive(Clone)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Node {
    /// Makes the changes since the last sync durable.
    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write(at, bytes) => put(&mut self.durable, at, &bytes),
                Change::SetLen(len) => self.durable.resize(len, 0),
            }
        }
    }

    /// A sync failed: no later one makes the same changes durable, for the system no longer takes them for changes.
    pub(super) fn forget(&mut self) {
        self.pending.clear();
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            names: Names::default(),
            durable_names: Names::default(),
            name_changes: Vec::new(),
            nodes: BTreeMap::new(),
            next_node: 1,
            locks: BTreeSet::new(),
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            changes: 0,
            stop_at: None,
            failures: BTreeMap::new(),
            usage: Usage {
                total: 1000 << 30,
                free: 900 << 30,
                available: 900 << 30,
            },
            room: None,
            capacity: None,
            boot: (seed, 1),
            names_reorder: false,
            syncs: Arc::default(),
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop_at.is_some_and(|at| self.changes >= at)
    }

    /// Counts a change; the one that reaches the stop is the last that is (partly) made.
    pub(super) fn change(&mut self) -> io::Result<()> {
        if self.is_stopped() {
            return Err(stopped());
        }
        self.changes += 1;
        Ok(())
    }

    pub(super) fn look(&self) -> io::Result<()> {
        if self.is_stopped() {
            Err(stopped())
        } else {
            Ok(())
        }
    }

    pub(super) fn may(&mut self, operation: Operation) -> io::Result<()> {
        let Some((times, errno)) = self.failures.get_mut(&operation) else {
            return Ok(());
        };
        if *times == 0 {
            return Ok(());
        }
        *times -= 1;
        Err(io::Error::from_raw_os_error(*errno))
    }

    pub(super) fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next_random() % (limit as u64).max(1)).unwrap_or(0)
    }

    /// What files with a name take up.
    fn used(&self) -> u64 {
        let named = self.names.files.values();
        named
            .filter_map(|node| self.nodes.get(node))
            .map(|node| node.live.len() as u64)
            .sum()
    }

    /// How full the disk is, or is said to be.
    pub(super) fn usage(&self) -> Usage {
        let Some(total) = self.capacity else {
            return self.usage;
        };
        let free = total.saturating_sub(self.used());
        Usage {
            total,
            free,
            available: free,
        }
    }

    pub(super) fn grow(&mut self, by: usize) -> io::Result<()> {
        let by = by as u64;
        if self
            .capacity
            .is_some_and(|capacity| capacity < self.used() + by)
        {
            return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
        }
        match &mut self.room {
            Some(room) if *room < by => Err(io::Error::from_raw_os_error(nix::libc::ENOSPC)),
            Some(room) => {
                *room -= by;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn add_node(&mut self) -> u64 {
        let node = self.next_node;
        self.next_node += 1;
        self.nodes.insert(node, Node::default());
        node
    }

    /// Forgets a file that never got its name, and gives its room back.
    pub(super) fn remove_node(&mut self, node: u64) {
        if let (Some(node), Some(room)) = (self.nodes.remove(&node), &mut self.room) {
            *room += node.live.len() as u64;
        }
    }

    pub(super) fn rename(&mut self, change: NameChange, dir: &Path) {
        self.names.apply(&change);
        self.name_changes.push((dir.to_owned(), change));
    }

    pub(super) fn power_cut(&mut self) {
        self.boot.1 += 1;
        self.keep_some_names();
        self.names = self.durable_names.clone();
        for number in self.nodes.keys().copied().collect::<Vec<_>>() {
            let mut node = self.nodes.remove(&number).unwrap_or_default();
            let mood = self.below(3);
            for change in std::mem::take(&mut node.pending) {
                self.keep_some(&mut node.durable, change, mood);
            }
            node.live.clone_from(&node.durable);
            self.nodes.insert(number, node);
        }
    }

    /// Keeps a leading part of the changed names: of all, or of each directory's.
    fn keep_some_names(&mut self) {
        let changes = std::mem::take(&mut self.name_changes);
        if !self.names_reorder {
            let kept = self.below(changes.len() + 1);
            let kept = changes.iter().take(kept);
            kept.for_each(|(_, change)| self.durable_names.apply(change));
            return;
        }
        let mut left: BTreeMap<&Path, usize> = BTreeMap::new();
        changes
            .iter()
            .for_each(|(dir, _)| *left.entry(dir).or_default() += 1);
        left.values_mut()
            .for_each(|count| *count = self.below(*count + 1));
        for (dir, change) in &changes {
            if let Some(left @ 1..) = left.get_mut(dir.as_path()) {
                *left -= 1;
                self.durable_names.apply(change);
            }
        }
        self.durable_names.drop_unreachable();
    }

    /// Makes the names in a directory durable, and with them, where names keep their order, all that changed before.
    pub(super) fn sync_names(&mut self, dir: &Path) {
        let last = self
            .name_changes
            .iter()
            .rposition(|(changed, _)| changed == dir);
        let Some(last) = last else { return };
        let later = self.name_changes.split_off(last + 1);
        let all = std::mem::take(&mut self.name_changes);
        let (synced, waiting): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|(changed, _)| changed == dir || !self.names_reorder);
        synced
            .iter()
            .for_each(|(_, change)| self.durable_names.apply(change));
        self.name_changes.extend(waiting.into_iter().chain(later));
    }

    /// Keeps none, all or some sectors of a change.
    pub(super) fn keep_some(&mut self, durable: &mut Vec<u8>, change: Change, mood: usize) {
        let keeps = |world: &mut Self| match mood {
            0 => false,
            1 => true,
            _ => world.next_random().is_multiple_of(2),
        };
        match change {
            Change::SetLen(len) => {
                if keeps(self) {
                    durable.resize(len, 0);
                }
            }
            Change::Write(at, bytes) => {
                let mut from = 0;
                while from < bytes.len() {
                    let to = bytes.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
                    if keeps(self) {
                        put(durable, at + from, &bytes[from..to]);
                    }
                    from = to;
                }
            }
        }
    }
}

pub(super) fn put(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if image.len() < at + bytes.len() {
        image.resize(at + bytes.len(), 0);
    }
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(super) fn stopped() -> io::Error {
    io::Error::from_raw_os_error(nix::libc::EIO)
}
