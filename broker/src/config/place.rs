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

/// What has a folder of its own below the root, beside the log.
const OF_THE_ROOT: [&str; 5] = [
    "config",
    "consumequeue",
    "consumequeue_ext",
    "index",
    "quarantine",
];

/// Adds what is wrong with the folders of the store, and makes the path of its root a whole one.
pub fn settle(loaded: &mut Loaded<BrokerConfig>) {
    const ROOT: &str = "storePathRootDir";
    const LOG: &str = "storePathCommitLog";
    let store = &loaded.config.store;
    let root = PathBuf::from(&store.store_path_root_dir);
    let logs = log_paths(&loaded.config, store.store_path_commit_log.as_deref());
    folder(loaded, ROOT, &root);
    for log in logs {
        folder(loaded, LOG, &log);
        if let Some(own) = taken(&log, &root) {
            let (source, shown) = (loaded.source(LOG), log.display());
            let text = format!(
                "{source}: {LOG}={shown}: {} is the broker's for something else; the log needs a folder of its own",
                own.display()
            );
            loaded.find(Severity::Error, text);
        }
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
    if let Some(reason) = impossible(&whole).or_else(|| lost_with_the_unit(&whole)) {
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

/// The folder of the root that a log would share.
fn taken(log: &Path, root: &Path) -> Option<PathBuf> {
    let (log, root) = (
        std::path::absolute(log).ok()?,
        std::path::absolute(root).ok()?,
    );
    let own = OF_THE_ROOT.iter().map(|name| root.join(name));
    let mut shared = own.filter(|own| log.starts_with(own) || own.starts_with(&log));
    shared.next()
}

/// Whether a folder, or what it is a link to, is below `/tmp` or `/var/tmp`.
pub(crate) fn is_temporary(folder: &Path) -> bool {
    let folder = real(folder);
    ["/tmp", "/var/tmp"]
        .iter()
        .any(|tmp| folder.starts_with(tmp))
}

/// The folder without links, as far as it is there.
fn real(folder: &Path) -> PathBuf {
    let found = folder.ancestors().find_map(|above| {
        let rest = folder.strip_prefix(above).ok()?;
        Some(above.canonicalize().ok()?.join(rest))
    });
    found.unwrap_or_else(|| folder.to_owned())
}

/// Why a folder is lost when the unit stops, if so.
fn lost_with_the_unit(folder: &Path) -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    is_private_tmp(&real(folder), &mounts).then(|| {
        "the unit has a /tmp of its own (PrivateTmp=), which is gone at the next restart: leave it out, for the unit's state \
         folder, or take another one, with ReadWritePaths= in a drop-in"
            .to_owned()
    })
}

/// Whether the folder is in what systemd makes for `PrivateTmp=`: `mounts` are lines of proc(5)'s mountinfo.
fn is_private_tmp(folder: &Path, mounts: &str) -> bool {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(3);
        let (root, point) = (words.next()?, words.next()?);
        folder.starts_with(point).then_some((point.len(), root))
    });
    // The deepest mount, and of those at one place the last, is what is seen.
    let seen = mounts.max_by_key(|(depth, _)| *depth);
    seen.is_some_and(|(_, root)| root.contains("/systemd-private-"))
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
    fn a_log_has_a_folder_of_its_own() {
        for (log, expected) in [
            ("/s/commitlog", None),
            ("/s/indexes", None),
            ("/other", None),
            ("/s/index", Some("/s/index")),
            ("/s/config/../config/log", Some("/s/config")),
            ("/s/consumequeue/T/0", Some("/s/consumequeue")),
            ("/s/quarantine/log", Some("/s/quarantine")),
            ("/s/", Some("/s/config")),
            ("/", Some("/s/config")),
        ] {
            let found = taken(Path::new(log), Path::new("/s"));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{log}");
        }
    }

    #[test]
    fn a_tmp_of_the_unit_s_own_is_told_from_the_host_s() {
        let host = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:30 / /tmp rw - tmpfs tmpfs rw\n";
        let private = "24 22 8:1 /tmp/systemd-private-1f-mqbroker.service-x/tmp /tmp rw - ext4 /dev/sda1 rw\n\
                       25 22 8:1 /var/tmp/systemd-private-1f-mqbroker.service-y/tmp /var/tmp rw - ext4 /dev/sda1 rw\n";
        let bound = "26 24 8:1 /srv/store /tmp/store rw - ext4 /dev/sda1 rw\n";
        let unit = format!("{host}{private}{bound}");
        for (folder, mounts, expected) in [
            ("/tmp/a", host, false),
            ("/tmp/a", &unit, true),
            ("/var/tmp/a/b", &unit, true),
            ("/tmp/store", &unit, false),
            ("/var/lib/gantry/broker", &unit, false),
        ] {
            assert_eq!(
                is_private_tmp(Path::new(folder), mounts),
                expected,
                "{folder}"
            );
        }
    }

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
