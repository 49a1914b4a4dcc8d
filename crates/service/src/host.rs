//! Facts about this machine that defaults depend on.

use std::path::{Path, PathBuf};

use gantry_config::Host;

/// Asks the machine.
pub fn this_host() -> Host {
    Host {
        user_home: trimmed(&user_home()),
        install_dir: install_dir().map(|path| trimmed(&path)).unwrap_or_default(),
        host_name: nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .filter(|n| !n.is_empty()),
        cpus: std::thread::available_parallelism()
            .ok()
            .and_then(|n| u32::try_from(n.get()).ok())
            .unwrap_or(1),
    }
}

/// `$HOME`, else what the user database says.
pub fn user_home() -> PathBuf {
    if let Some(home) = std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        return home.into();
    }
    match nix::unistd::User::from_uid(nix::unistd::Uid::current()) {
        Ok(Some(user)) => user.dir,
        _ => PathBuf::from("/"),
    }
}

/// The folder above the one that holds this program, if that one is `bin` or `libexec`.
fn install_dir() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    let is_home = folder
        .file_name()
        .is_some_and(|name| name == "bin" || name == "libexec");
    if is_home {
        folder.parent().map(Path::to_path_buf)
    } else {
        Some(folder.to_path_buf())
    }
}

fn trimmed(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.strip_suffix('/').unwrap_or(&text).to_owned()
}
