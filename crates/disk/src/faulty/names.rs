//! Names of files and directories, and what changes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) dirs: BTreeSet<PathBuf>,
    pub(super) files: BTreeMap<PathBuf, u64>,
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Dir(PathBuf),
    File(PathBuf, u64),
    Gone(PathBuf),
    /// A file: it is the file that moves, whatever else has its old name by the time this is durable.
    MovedFile(PathBuf, PathBuf, u64),
    MovedDir(PathBuf, PathBuf),
}

impl Names {
    /// What lies in a directory that is not there is not there either.
    pub(super) fn drop_unreachable(&mut self) {
        let dirs = self.dirs.clone();
        let is_reachable = |path: &PathBuf| path.ancestors().skip(1).all(|dir| dirs.contains(dir));
        self.dirs.retain(is_reachable);
        self.files.retain(|path, _| is_reachable(path));
    }

    pub(super) fn apply(&mut self, change: &NameChange) {
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
            NameChange::MovedFile(from, to, node) => {
                if self.files.get(from) == Some(node) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *node);
            }
            NameChange::MovedDir(from, to) => {
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
