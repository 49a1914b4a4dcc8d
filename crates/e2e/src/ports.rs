//! Ports for servers: a broker on P also needs P - 2 and P + 1, P + 2 is for its metrics, and several test processes may
//! look at once.
//!
//! A claim is a locked file that lives as long as the value, so a server that is killed and started again finds its
//! ports as they were. The files are in one place for the whole machine. The range lies below the kernel's ephemeral ports, which outgoing connections take.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

const FIRST: u16 = 10_003;
const COUNT: u16 = 1900;
const STEP: u16 = 5;

/// A port with its neighbours, ours until dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: Flock<File>,
}

impl Port {
    /// Claims a port P such that P - 2, P, P + 1 and P + 2 are free.
    pub fn claim() -> Result<Port> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = std::env::temp_dir().join("gantry-e2e-ports");
        std::fs::create_dir_all(&folder)?;
        let start = std::process::id().wrapping_mul(7919);
        for _ in 0..COUNT {
            let turn = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let slot = u16::try_from(turn % u32::from(COUNT))?;
            let number = FIRST + slot * STEP;
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(folder.join(number.to_string()))
                .context("port claim")?;
            let Ok(claim) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            if [number - 2, number, number + 1, number + 2]
                .into_iter()
                .all(is_free)
            {
                return Ok(Port {
                    number,
                    _claim: claim,
                });
            }
        }
        bail!("no free ports between {FIRST} and {}", FIRST + COUNT * STEP);
    }

    /// P itself.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Whether nobody listens there, on any address.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("0.0.0.0", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok()
}
