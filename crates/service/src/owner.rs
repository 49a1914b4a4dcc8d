//! What the system refuses on files, and how it is mended: files of another user (a store that was looked into as root, or
//! brought back from a backup), and folders that a unit may not write.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Uid, User, geteuid};

/// What mends a refusal on `path`, if it or a folder above it, within `folder`, belongs to somebody else or cannot be
/// written by anybody here: words to go behind the error.
pub fn remedy(error: &io::Error, path: &Path, folder: &Path) -> Option<String> {
    let whole = if path.starts_with(folder) {
        folder
    } else {
        path
    };
    match error.kind() {
        ErrorKind::PermissionDenied => {}
        ErrorKind::ReadOnlyFilesystem => return Some(writable(whole)),
        _ => return None,
    }
    let me = geteuid();
    let (found, owner) = path.ancestors().find_map(|path| {
        let owner = Uid::from_raw(std::fs::metadata(path).ok()?.uid());
        Some((path, owner))
    })?;
    // What lies above is the host's.
    if owner == me || !found.starts_with(whole) {
        return None;
    }
    let mine = name(me);
    // A sandbox shows every owner but root and its own as nobody.
    let owner = if owner.is_root() {
        "root"
    } else {
        "another user"
    };
    Some(format!(
        "{} belongs to {owner}; as root: `chown -R {mine}: {}`",
        found.display(),
        whole.display()
    ))
}

/// What lets a unit write a folder.
fn writable(folder: &Path) -> String {
    format!(
        "a unit writes its state folder alone: `systemctl edit` it, with `ReadWritePaths={}` under `[Service]`; without a unit the \
         file system itself is read-only",
        folder.display()
    )
}

fn name(user: Uid) -> String {
    match User::from_uid(user) {
        Ok(Some(user)) => user.name,
        _ => user.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_on_files_of_somebody_else_or_of_nobody_s_has_a_remedy() {
        let denied = io::Error::from_raw_os_error(13);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(remedy(&denied, &file, folder.path()), None, "it is ours");
        let read_only = io::Error::from_raw_os_error(30);
        let said = remedy(&read_only, &file, folder.path()).unwrap();
        let line = format!("`ReadWritePaths={}`", folder.path().display());
        assert!(said.contains(&line), "{said}");
        if geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(12_345), None).unwrap();
            let said = remedy(&denied, &file, folder.path()).unwrap();
            let command = format!("`chown -R root: {}`", folder.path().display());
            assert!(
                said.contains("belongs to another user; ") && said.ends_with(&command),
                "{said}"
            );
            let full = io::Error::from_raw_os_error(28);
            assert_eq!(
                remedy(&full, &file, folder.path()),
                None,
                "a full disk is another matter"
            );
        }
    }
}
