//! Whether a store can be where the configuration says, as far as this machine tells without anything being made.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use gantry_config::{Loaded, Severity};
use gantry_disk::{Disk, OsDisk};
use nix::sys::statfs::{
    CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEVPTS_SUPER_MAGIC, FsType, PROC_SUPER_MAGIC,
    SYSFS_MAGIC, statfs,
};

use super::BrokerConfig;
use super::parts::log_paths;

/// File systems that only show what the kernel knows.
const OF_THE_KERNEL: [FsType; 5] = [
    PROC_SUPER_MAGIC,
    SYSFS_MAGIC,
    CGROUP_SUPER_MAGIC,
    CGROUP2_SUPER_MAGIC,
    DEVPTS_SUPER_MAGIC,
];

/// Adds what is wrong with the folders of the store, and makes the path of its root a whole one.
pub fn settle(loaded: &mut Loaded<BrokerConfig>) {
    const ROOT: &str = "storePathRootDir";
    let store = &loaded.config.store;
    let root = PathBuf::from(&store.store_path_root_dir);
    let logs = log_paths(&loaded.config, store.store_path_commit_log.as_deref());
    folder(loaded, ROOT, &root);
    for log in logs {
        folder(loaded, "storePathCommitLog", &log);
    }
    if let Ok(whole) = std::path::absolute(&root) {
        loaded.config.store.store_path_root_dir = whole.to_string_lossy().into_owned();
    }
}

fn folder(loaded: &mut Loaded<BrokerConfig>, key: &'static str, folder: &Path) {
    let (source, shown) = (loaded.source(key), folder.display());
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    if folder.is_relative() {
        let text = format!(
            "{source}: {key}={shown}: {} when it is started from here, another folder from elsewhere; begin it with /",
            whole.display()
        );
        loaded.find(Severity::Warning, text);
    }
    if let Some(reason) = impossible(&whole) {
        loaded.find(
            Severity::Error,
            format!("{source}: {key}={shown}: {reason}"),
        );
    }
}

/// Why there can be no folder of this name, if so. What this user may not see is not judged.
fn impossible(folder: &Path) -> Option<String> {
    for above in folder.ancestors() {
        match std::fs::metadata(above) {
            Ok(meta) if !meta.is_dir() => {
                return Some(format!("{} is a file, not a folder", above.display()));
            }
            Ok(_) => {
                let kind = statfs(above).ok()?.filesystem_type();
                return OF_THE_KERNEL
                    .contains(&kind)
                    .then(|| format!("the file system of {} keeps no files", above.display()));
            }
            Err(error) if is_absent(&error) => {}
            Err(_) => return None,
        }
    }
    None
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// The process that works on the store, Apache's broker or ours, in words; `None` if there is none.
pub fn user(config: &BrokerConfig) -> io::Result<Option<String>> {
    let lock = Path::new(&config.store.store_path_root_dir).join("lock");
    let holder = match OsDisk.lock_holder(&lock) {
        Err(error) if is_absent(&error) => None,
        found => found?,
    };
    Ok(holder.map(|holder| match holder.process {
        0 => "a process that cannot be seen from here".to_owned(),
        process => format!("process {process}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_way_and_a_file_system_without_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let in_the_way = format!("{} is a file, not a folder", file.display());
        let no_files = "the file system of /proc keeps no files".to_owned();
        for (path, expected) in [
            (file.clone(), Some(in_the_way.clone())),
            (file.join("a/b"), Some(in_the_way)),
            (folder.path().join("a/b"), None),
            ("/proc/nope/store".into(), Some(no_files)),
        ] {
            assert_eq!(impossible(&path), expected, "{}", path.display());
        }
    }
}
