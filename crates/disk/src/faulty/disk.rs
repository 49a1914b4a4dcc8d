//! The disk as the store sees it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::file::FaultyFile;
use super::names::NameChange;
use super::world::Node;
use super::{FaultyDisk, Operation};
use crate::{Disk, File, Holder, Listed, Lock, Meta, New, Open, Usage};

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
            held: Arc::default(),
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
            held: Arc::default(),
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
        let (from, to) = (from.to_owned(), to.to_owned());
        let moved = match world.names.files.get(&from) {
            Some(&node) => NameChange::MovedFile(from, to, node),
            None => NameChange::MovedDir(from, to),
        };
        world.rename(moved, &dir);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        if !world.names.files.contains_key(path) {
            return Err(not_found());
        }
        world.may(Operation::Remove)?;
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
        world.sync_names(dir);
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

    fn lock_holder(&self, path: &Path) -> io::Result<Option<Holder>> {
        let is_held = self.world().locks.contains(path);
        Ok(is_held.then_some(Holder { process: 0 }))
    }

    fn usage(&self, _path: &Path) -> io::Result<Usage> {
        Ok(self.world().usage())
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
        let (disk, boot) = self.world().boot;
        Some(format!("boot-{disk}-{boot}"))
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
