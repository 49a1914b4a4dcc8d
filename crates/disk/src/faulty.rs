//! A disk in memory that can lose power, be full, refuse and tear: for tests.
//!
//! Every file has two images: *live* is what a running process reads (the page cache), *durable* is what a power cut
//! leaves for sure. Between them stand the changes since the last sync, in order. The fault model:
//! - [`FaultyDisk::kill`]: the process dies; the live images stay.
//! - [`FaultyDisk::power_cut`]: of the changes that were not synced, any sectors may be on the disk, in any combination;
//!   of the names that were not synced, any leading part may be.
//! - [`FaultyDisk::stop_after`]: after so many changes everything fails, and the last write may be torn: the moment of
//!   death, to be followed by one of the two above.
//! - [`FaultyDisk::fail`]: the next operations of a kind fail with an error of choice; a failed sync forgets what it did
//!   not sync, as Linux does. [`FaultyDisk::set_usage`] and [`FaultyDisk::set_room`] make the disk full.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::{Advice, Disk, File, Listed, Lock, Meta, New, Open, Usage};

/// What a power cut leaves or loses as a whole.
const SECTOR: usize = 512;

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
}

/// A disk in memory with faults. Clones are the same disk.
#[derive(Clone)]
pub struct FaultyDisk(Arc<Mutex<World>>);

#[derive(Clone)]
struct World {
    names: Names,
    durable_names: Names,
    /// Changes to `durable_names` that are not yet durable, by directory.
    name_changes: Vec<(PathBuf, NameChange)>,
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    locks: BTreeSet<PathBuf>,
    random: u64,
    changes: u64,
    stop_at: Option<u64>,
    failures: BTreeMap<Operation, (u64, i32)>,
    usage: Usage,
    /// Bytes that files may still grow by.
    room: Option<u64>,
    boots: u64,
}

#[derive(Clone, Debug, Default)]
struct Names {
    dirs: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, u64>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Dir(PathBuf),
    File(PathBuf, u64),
    Gone(PathBuf),
    Moved(PathBuf, PathBuf),
}

#[derive(Clone, Default)]
struct Node {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    modified: Duration,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Node {
    /// Makes the changes since the last sync durable.
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write(at, bytes) => put(&mut self.durable, at, &bytes),
                Change::SetLen(len) => self.durable.resize(len, 0),
            }
        }
    }

    /// A sync failed: no later one makes the same changes durable, for the system no longer takes them for changes.
    fn forget(&mut self) {
        self.pending.clear();
    }
}

impl FaultyDisk {
    /// An empty disk; the seed decides what faults leave behind.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let usage = Usage {
            total: 1000,
            free: 900,
            available: 900,
        };
        Self(Arc::new(Mutex::new(World {
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
            usage,
            room: None,
            boots: 1,
        })))
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

    /// The next `times` operations of a kind fail with an errno.
    pub fn fail(&self, operation: Operation, times: u64, errno: i32) {
        self.world().failures.insert(operation, (times, errno));
    }

    /// What [`Disk::usage`] says from now on.
    pub fn set_usage(&self, usage: Usage) {
        self.world().usage = usage;
    }

    /// Files may grow by so many bytes together; `None`: as they like.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.world().room = bytes;
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

impl World {
    fn is_stopped(&self) -> bool {
        self.stop_at.is_some_and(|at| self.changes >= at)
    }

    /// Counts a change; the one that reaches the stop is the last that is (partly) made.
    fn change(&mut self) -> io::Result<()> {
        if self.is_stopped() {
            return Err(stopped());
        }
        self.changes += 1;
        Ok(())
    }

    fn look(&self) -> io::Result<()> {
        if self.is_stopped() {
            Err(stopped())
        } else {
            Ok(())
        }
    }

    fn may(&mut self, operation: Operation) -> io::Result<()> {
        let Some((times, errno)) = self.failures.get_mut(&operation) else {
            return Ok(());
        };
        if *times == 0 {
            return Ok(());
        }
        *times -= 1;
        Err(io::Error::from_raw_os_error(*errno))
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next_random() % (limit as u64).max(1)).unwrap_or(0)
    }

    fn grow(&mut self, by: usize) -> io::Result<()> {
        let by = by as u64;
        match &mut self.room {
            Some(room) if *room < by => Err(io::Error::from_raw_os_error(nix::libc::ENOSPC)),
            Some(room) => {
                *room -= by;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn add_node(&mut self) -> u64 {
        let node = self.next_node;
        self.next_node += 1;
        self.nodes.insert(node, Node::default());
        node
    }

    /// Forgets a file that never got its name, and gives its room back.
    fn remove_node(&mut self, node: u64) {
        if let (Some(node), Some(room)) = (self.nodes.remove(&node), &mut self.room) {
            *room += node.live.len() as u64;
        }
    }

    fn rename(&mut self, change: NameChange, dir: &Path) {
        self.names.apply(&change);
        self.name_changes.push((dir.to_owned(), change));
    }

    fn power_cut(&mut self) {
        self.boots += 1;
        let changes = std::mem::take(&mut self.name_changes);
        let kept = self.below(changes.len() + 1);
        for (_, change) in &changes[..kept] {
            self.durable_names.apply(change);
        }
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

    /// Keeps none, all or some sectors of a change.
    fn keep_some(&mut self, durable: &mut Vec<u8>, change: Change, mood: usize) {
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

impl Names {
    fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Dir(path) => {
                self.dirs.insert(path.clone());
            }
            NameChange::File(path, node) => {
                self.files.insert(path.clone(), *node);
            }
            NameChange::Gone(path) => {
                self.files.remove(path);
                self.dirs.remove(path);
            }
            NameChange::Moved(from, to) => {
                let moved = |path: &PathBuf| path.strip_prefix(from).ok().map(|rest| to.join(rest));
                let files = std::mem::take(&mut self.files);
                let dirs = std::mem::take(&mut self.dirs);
                // A moved file replaces the one it falls on, so those that stay come first.
                let (gone, stay): (Vec<_>, Vec<_>) = files
                    .into_iter()
                    .partition(|(path, _)| path.starts_with(from));
                self.files.extend(stay);
                // `join("")` would leave a slash behind.
                let name = |path: PathBuf| {
                    if path == *from {
                        to.clone()
                    } else {
                        moved(&path).unwrap_or(path)
                    }
                };
                self.files
                    .extend(gone.into_iter().map(|(path, node)| (name(path), node)));
                self.dirs.extend(dirs.into_iter().map(|path| {
                    if path.starts_with(from) {
                        name(path)
                    } else {
                        path
                    }
                }));
            }
        }
    }
}

fn put(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if image.len() < at + bytes.len() {
        image.resize(at + bytes.len(), 0);
    }
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

fn stopped() -> io::Error {
    io::Error::from_raw_os_error(nix::libc::EIO)
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut world = self.world();
        world.look()?;
        let node = match world.names.files.get(path) {
            Some(&node) => node,
            None if how == Open::Create => {
                let dir = path.parent().unwrap_or(path);
                if !world.names.dirs.contains(dir) {
                    return Err(not_found());
                }
                world.may(Operation::Create)?;
                world.change()?;
                let node = world.add_node();
                world.rename(NameChange::File(path.to_owned(), node), dir);
                node
            }
            None => return Err(not_found()),
        };
        Ok(Arc::new(FaultyFile {
            disk: self.clone(),
            node,
        }))
    }

    fn create(&self, path: &Path, new: New<'_>) -> io::Result<Arc<dyn File>> {
        let dir = path.parent().unwrap_or(path);
        let node = {
            let mut world = self.world();
            world.look()?;
            if !world.names.dirs.contains(dir) {
                return Err(not_found());
            }
            if world.names.files.contains_key(path) || world.names.dirs.contains(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            world.may(Operation::Create)?;
            world.add_node()
        };
        let file = FaultyFile {
            disk: self.clone(),
            node,
        };
        let filled = if new.is_reserved {
            file.allocate(new.len)
        } else {
            file.set_len(new.len)
        };
        let filled = filled.and_then(|()| match new.start {
            [] => Ok(()),
            start => file.write_at(start, 0),
        });
        let mut world = self.world();
        if let Err(error) = filled.and_then(|()| world.change()) {
            world.remove_node(node);
            return Err(error);
        }
        world.rename(NameChange::File(path.to_owned(), node), dir);
        Ok(Arc::new(file))
    }

    fn meta(&self, path: &Path) -> io::Result<Option<Meta>> {
        let world = self.world();
        world.look()?;
        if let Some(node) = world
            .names
            .files
            .get(path)
            .and_then(|node| world.nodes.get(node))
        {
            let modified = SystemTime::UNIX_EPOCH + node.modified;
            return Ok(Some(Meta {
                len: node.live.len() as u64,
                is_dir: false,
                modified,
            }));
        }
        let is_dir = world.names.dirs.contains(path);
        Ok(is_dir.then_some(Meta {
            len: 0,
            is_dir,
            modified: SystemTime::UNIX_EPOCH,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let world = self.world();
        world.look()?;
        if !world.names.dirs.contains(dir) {
            return Err(not_found());
        }
        let name = |path: &Path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let is_in = |path: &Path| path.parent() == Some(dir);
        let len = |node: &u64| {
            world
                .nodes
                .get(node)
                .map_or(0, |node| node.live.len() as u64)
        };
        let files = world.names.files.iter().filter(|(path, _)| is_in(path));
        let mut all: Vec<Listed> = files
            .map(|(path, node)| Listed {
                name: name(path),
                len: len(node),
                is_dir: false,
            })
            .collect();
        let dirs = world.names.dirs.iter().filter(|path| is_in(path));
        all.extend(dirs.map(|path| Listed {
            name: name(path),
            len: 0,
            is_dir: true,
        }));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.look()?;
        let missing: Vec<PathBuf> = dir
            .ancestors()
            .filter(|dir| !world.names.dirs.contains(*dir))
            .map(PathBuf::from)
            .collect();
        for dir in missing.into_iter().rev() {
            world.change()?;
            let parent = dir.parent().unwrap_or(&dir).to_owned();
            world.rename(NameChange::Dir(dir), &parent);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        if !world.names.files.contains_key(from) && !world.names.dirs.contains(from) {
            return Err(not_found());
        }
        world.may(Operation::Rename)?;
        world.change()?;
        let dir = to.parent().unwrap_or(to).to_owned();
        world.rename(NameChange::Moved(from.to_owned(), to.to_owned()), &dir);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        if !world.names.files.contains_key(path) {
            return Err(not_found());
        }
        world.change()?;
        let dir = path.parent().unwrap_or(path).to_owned();
        world.rename(NameChange::Gone(path.to_owned()), &dir);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        let is_used = world
            .names
            .files
            .keys()
            .chain(&world.names.dirs)
            .any(|path| path.parent() == Some(dir));
        if is_used {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        world.change()?;
        let parent = dir.parent().unwrap_or(dir).to_owned();
        world.rename(NameChange::Gone(dir.to_owned()), &parent);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        world.may(Operation::Sync)?;
        // Names are journalled in order: what came before a synced name is durable too.
        let Some(last) = world
            .name_changes
            .iter()
            .rposition(|(changed, _)| changed == dir)
        else {
            return Ok(());
        };
        let synced: Vec<_> = world.name_changes.drain(..=last).collect();
        synced
            .iter()
            .for_each(|(_, change)| world.durable_names.apply(change));
        Ok(())
    }

    fn sync_all(&self, _dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        if let Err(error) = world.may(Operation::Sync) {
            world.nodes.values_mut().for_each(Node::forget);
            return Err(error);
        }
        world.nodes.values_mut().for_each(Node::sync);
        world.durable_names = world.names.clone();
        world.name_changes.clear();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.open(path, Open::Create)?;
        let is_free = self.world().locks.insert(path.to_owned());
        Ok(if is_free {
            Some(Box::new(FaultyLock {
                disk: self.clone(),
                path: path.to_owned(),
            }))
        } else {
            None
        })
    }

    fn usage(&self, _path: &Path) -> io::Result<Usage> {
        Ok(self.world().usage)
    }

    fn set_modified(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        let mut world = self.world();
        let node = world.names.files.get(path).copied().ok_or_else(not_found)?;
        if let Some(node) = world.nodes.get_mut(&node) {
            node.modified = time
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
        }
        Ok(())
    }

    fn boot(&self) -> Option<String> {
        Some(format!("boot-{}", self.world().boots))
    }
}

struct FaultyLock {
    disk: FaultyDisk,
    path: PathBuf,
}

impl fmt::Debug for FaultyLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyLock({})", self.path.display())
    }
}

impl Lock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        self.disk.world().locks.remove(&self.path);
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    node: u64,
}

impl fmt::Debug for FaultyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyFile({})", self.node)
    }
}

impl FaultyFile {
    fn change(&self, operation: Option<Operation>, change: Change) -> io::Result<()> {
        let mut world = self.disk.world();
        let failed = operation.map_or(Ok(()), |operation| world.may(operation));
        world.change()?;
        let torn = failed.is_err() || world.is_stopped();
        let change = match change {
            Change::Write(at, mut bytes) => {
                if torn {
                    let kept = world.below(bytes.len() + 1);
                    bytes.truncate(kept);
                }
                Change::Write(at, bytes)
            }
            Change::SetLen(_) if failed.is_err() => return failed,
            other => other,
        };
        let len = world
            .nodes
            .get(&self.node)
            .map_or(0, |node| node.live.len());
        let end = match &change {
            Change::Write(at, bytes) => at + bytes.len(),
            Change::SetLen(end) => *end,
        };
        world.grow(end.saturating_sub(len))?;
        let stopped_now = world.is_stopped();
        if let Some(node) = world.nodes.get_mut(&self.node) {
            match &change {
                Change::Write(at, bytes) => put(&mut node.live, *at, bytes),
                Change::SetLen(len) => node.live.resize(*len, 0),
            }
            node.pending.push(change);
        }
        failed?;
        if stopped_now { Err(stopped()) } else { Ok(()) }
    }

    fn number(at: u64) -> io::Result<usize> {
        usize::try_from(at).map_err(|_| io::ErrorKind::InvalidInput.into())
    }
}

impl File for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        let world = self.disk.world();
        world.look()?;
        Ok(world
            .nodes
            .get(&self.node)
            .map_or(0, |node| node.live.len() as u64))
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut world = self.disk.world();
        world.look()?;
        world.may(Operation::Read)?;
        let Some(node) = world.nodes.get(&self.node) else {
            return Ok(0);
        };
        let from = node.live.len().min(Self::number(at)?);
        let count = into.len().min(node.live.len() - from);
        into[..count].copy_from_slice(&node.live[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.change(
            Some(Operation::Write),
            Change::Write(Self::number(at)?, bytes.to_vec()),
        )
    }

    fn write_vectored_at(&self, parts: &[&[u8]], at: u64) -> io::Result<()> {
        self.write_at(&parts.concat(), at)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.change(
            Some(Operation::Allocate),
            Change::SetLen(Self::number(len)?),
        )
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        let end = Self::number(range.end)?.min(Self::number(self.len()?)?);
        let start = Self::number(range.start)?;
        if start >= end {
            return Ok(());
        }
        self.change(None, Change::Write(start, vec![0; end - start]))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(None, Change::SetLen(Self::number(len)?))
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        world.change()?;
        let allowed = world.may(Operation::Sync);
        if world.is_stopped() {
            // Death in the middle of it: whether it happened shows after a power cut.
            return Err(stopped());
        }
        let Some(node) = world.nodes.get_mut(&self.node) else {
            return allowed;
        };
        match allowed {
            Ok(()) => node.sync(),
            Err(_) => node.forget(),
        }
        allowed
    }

    fn slice(&self, range: Range<u64>) -> io::Result<Bytes> {
        let world = self.disk.world();
        world.look()?;
        let range = Self::number(range.start)?..Self::number(range.end)?;
        let bytes = world
            .nodes
            .get(&self.node)
            .and_then(|node| node.live.get(range));
        bytes
            .map(Bytes::copy_from_slice)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn advise(&self, _range: Range<u64>, _advice: Advice) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &FaultyDisk, name: &str) -> Arc<dyn File> {
        disk.create_dirs(Path::new("/d")).unwrap();
        disk.open(&Path::new("/d").join(name), Open::Create)
            .unwrap()
    }

    fn content(disk: &FaultyDisk, name: &str) -> Option<Vec<u8>> {
        disk.content(&Path::new("/d").join(name))
    }

    #[test]
    fn what_was_synced_survives_every_power_cut() {
        for seed in 0..50 {
            let disk = FaultyDisk::new(seed);
            let synced = file(&disk, "a");
            synced.write_at(&[1; 2000], 0).unwrap();
            synced.sync().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            synced.write_at(&[2; 1000], 1000).unwrap();
            disk.power_cut();
            let after = content(&disk, "a").unwrap();
            assert!(after[..1000].iter().all(|&byte| byte == 1), "seed {seed}");
            assert!(
                after[1000..].iter().all(|&byte| byte == 1 || byte == 2),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn power_cuts_keep_nothing_or_all_or_some_of_the_rest() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let disk = FaultyDisk::new(seed);
            let torn = file(&disk, "a");
            torn.set_len(1024).unwrap();
            torn.sync().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            torn.write_at(&[7; 1024], 0).unwrap();
            disk.power_cut();
            let after = content(&disk, "a").unwrap();
            seen.insert((after[0], after[512]));
        }
        assert_eq!(
            seen.into_iter().collect::<Vec<_>>(),
            [(0, 0), (0, 7), (7, 0), (7, 7)]
        );
    }

    #[test]
    fn a_killed_process_leaves_everything_it_wrote() {
        let disk = FaultyDisk::new(1);
        file(&disk, "a").write_at(b"x", 0).unwrap();
        disk.kill();
        assert_eq!(content(&disk, "a").unwrap(), b"x");
    }

    #[test]
    fn after_the_stop_nothing_works_and_the_last_write_may_be_torn() {
        let disk = FaultyDisk::new(3);
        let stopping = file(&disk, "a");
        disk.stop_after(2);
        stopping.write_at(&[1; 100], 0).unwrap();
        assert!(stopping.write_at(&[2; 100], 100).is_err());
        assert!(stopping.len().is_err() && disk.list(Path::new("/d")).is_err());
        disk.kill();
        assert!((100..=200).contains(&content(&disk, "a").unwrap().len()));
    }

    #[test]
    fn failures_come_as_often_as_asked_and_with_the_errno_asked() {
        let disk = FaultyDisk::new(4);
        let failing = file(&disk, "a");
        disk.fail(Operation::Sync, 1, nix::libc::EIO);
        assert_eq!(
            failing.sync().unwrap_err().raw_os_error(),
            Some(nix::libc::EIO)
        );
        failing.sync().unwrap();
        disk.set_room(Some(10));
        assert_eq!(
            failing.allocate(11).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        failing.allocate(10).unwrap();
    }

    #[test]
    fn what_a_failed_sync_did_not_sync_no_later_one_does() {
        for seed in 0..20 {
            let disk = FaultyDisk::new(seed);
            let failing = file(&disk, "a");
            failing.set_len(3).unwrap();
            failing.sync().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            failing.write_at(&[1], 0).unwrap();
            disk.fail(Operation::Sync, 1, nix::libc::EIO);
            assert!(failing.sync().is_err());
            failing.write_at(&[2], 1).unwrap();
            failing.sync().unwrap();
            assert_eq!(content(&disk, "a").unwrap(), [1, 2, 0]);
            disk.power_cut();
            assert_eq!(content(&disk, "a").unwrap(), [0, 2, 0]);
        }
    }

    #[test]
    fn names_that_were_not_synced_may_be_lost_and_moves_replace() {
        let disk = FaultyDisk::new(5);
        file(&disk, "a").write_at(b"old", 0).unwrap();
        file(&disk, "b").write_at(b"new", 0).unwrap();
        disk.rename(Path::new("/d/b"), Path::new("/d/a")).unwrap();
        assert_eq!(content(&disk, "a").unwrap(), b"new");
        assert_eq!(content(&disk, "b"), None);
        let lost = (0..20).any(|seed| {
            let disk = FaultyDisk::new(seed);
            file(&disk, "a");
            disk.power_cut();
            content(&disk, "a").is_none()
        });
        assert!(lost);
    }

    #[test]
    fn one_lock_at_a_time() {
        let disk = FaultyDisk::new(6);
        disk.create_dirs(Path::new("/d")).unwrap();
        let held = disk.lock(Path::new("/d/lock")).unwrap();
        assert!(held.is_some() && disk.lock(Path::new("/d/lock")).unwrap().is_none());
        drop(held);
        assert!(disk.lock(Path::new("/d/lock")).unwrap().is_some());
    }

    #[test]
    fn a_fork_is_a_disk_of_its_own() {
        let disk = FaultyDisk::new(7);
        file(&disk, "a").write_at(b"x", 0).unwrap();
        let fork = disk.fork();
        fork.put(Path::new("/d/a"), b"other");
        assert_eq!(content(&disk, "a").unwrap(), b"x");
        assert_eq!(content(&fork, "a").unwrap(), b"other");
    }
}
