//! Limits of the process. Under systemd they come from the unit; what is forbidden there is not an error.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the number of open files to what the process may ask for; returns the number that holds now.
pub fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1_024;
    };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return hard;
    }
    soft
}
