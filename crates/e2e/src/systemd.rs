//! The part of systemd that a service sees: the socket for its messages, the store that keeps its sockets, what comes by
//! the environment. Enough to watch a daemon of ours as a unit without a machine of its own.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::cmsg_space;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::wait::until;

/// A message and when it came.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its lines.
    pub text: String,
    /// When it came.
    pub at: Instant,
}

/// What systemd is for one unit.
#[derive(Debug)]
pub struct Systemd {
    path: PathBuf,
    heard: Arc<Mutex<Heard>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Heard {
    messages: Vec<Message>,
    store: Vec<(String, OwnedFd)>,
    is_over: bool,
}

impl Systemd {
    /// Listens at a socket in this folder.
    pub fn start(folder: &Path) -> Result<Systemd> {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).with_context(|| path.display().to_string())?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hearing = Arc::clone(&heard);
        let thread = std::thread::spawn(move || while hear(&socket, &hearing) {});
        Ok(Systemd {
            path,
            heard,
            thread: Some(thread),
        })
    }

    /// The command that starts a service, given behind it, the way systemd does: with what is in the store, and with a
    /// watchdog of this period.
    pub fn command(&self, watchdog: Option<Duration>) -> Result<Vec<String>> {
        let heard = self.lock();
        let mut script = format!("export NOTIFY_SOCKET={}\n", self.path.display());
        script += "unset LISTEN_FDS LISTEN_FDNAMES LISTEN_PID WATCHDOG_USEC WATCHDOG_PID\n";
        if let Some(period) = watchdog {
            let micros = period.as_micros();
            script += &format!("export WATCHDOG_USEC={micros} WATCHDOG_PID=$$\n");
        }
        if !heard.store.is_empty() {
            // Moved out of the way first: the numbers may overlap.
            for (place, (_, descriptor)) in heard.store.iter().enumerate() {
                fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
                script += &format!("exec {}<&{}-\n", 200 + place, descriptor.as_raw_fd());
            }
            for place in 0..heard.store.len() {
                script += &format!("exec {}<&{}-\n", 3 + place, 200 + place);
            }
            let names: Vec<&str> = heard.store.iter().map(|(name, _)| name.as_str()).collect();
            script += &format!(
                "export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}\n",
                names.len(),
                names.join(":")
            );
        }
        script += "exec \"$0\" \"$@\"";
        Ok(["bash", "-c", &script].map(str::to_owned).to_vec())
    }

    /// The service runs: no other program that this process starts gets the sockets.
    pub fn started(&self) -> Result<()> {
        for (_, descriptor) in &self.lock().store {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        Ok(())
    }

    /// What was said since the last [`Systemd::forget`].
    pub fn messages(&self) -> Vec<Message> {
        self.lock().messages.clone()
    }

    /// Forgets what was said.
    pub fn forget(&self) {
        self.lock().messages.clear();
    }

    /// The names of the sockets in the store, sorted.
    pub fn kept(&self) -> Vec<String> {
        let heard = self.lock();
        let mut names: Vec<String> = heard.store.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// Waits for a message with all these words, and returns it.
    pub fn await_message(&self, words: &[&str]) -> Result<Message> {
        let mut found = None;
        let has_all = |message: &&Message| words.iter().all(|word| message.text.contains(word));
        let waited = until(&format!("the message {words:?}"), || {
            found = self.lock().messages.iter().find(has_all).cloned();
            Ok(found.is_some())
        });
        waited.with_context(|| format!("{:#?}", self.messages()))?;
        found.context("no message")
    }

    /// Fails unless messages that begin with these words came in this order, others between them or not.
    pub fn said_in_order(&self, beginnings: &[&str]) -> Result<()> {
        let messages = self.messages();
        let mut rest = messages.iter();
        for beginning in beginnings {
            ensure!(
                rest.any(|message| message.text.starts_with(beginning)),
                "{beginning:?} is missing or too early in {messages:#?}"
            );
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        self.lock().is_over = true;
        if let Some(thread) = self.thread.take() {
            // It ends with the next look, whatever it met.
            let _ = thread.join();
        }
    }
}

/// Takes the next message; false when the unit is over.
fn hear(socket: &UnixDatagram, heard: &Mutex<Heard>) -> bool {
    let (mut bytes, mut space) = ([0; 4096], cmsg_space!([i32; 4]));
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    );
    let mut descriptors = Vec::new();
    let length = match &received {
        Ok(message) => {
            for part in message.cmsgs().into_iter().flatten() {
                if let ControlMessageOwned::ScmRights(numbers) = part {
                    descriptors.extend(numbers.iter().map(|number| own(*number)));
                }
            }
            message.bytes
        }
        Err(_) => 0,
    };
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    if length != 0 {
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let name = line("FDNAME=").unwrap_or("stored").to_owned();
        if line("FDSTOREREMOVE=1").is_some() {
            heard.store.retain(|(kept, _)| *kept != name);
        } else if line("FDSTORE=1").is_some() {
            let named = |descriptor| (name.clone(), descriptor);
            heard
                .store
                .extend(std::mem::take(&mut descriptors).into_iter().map(named));
        }
        let at = Instant::now();
        heard.messages.push(Message { text, at });
    }
    !heard.is_over
}

fn own(number: i32) -> OwnedFd {
    #[expect(unsafe_code, reason = "the kernel has just made it for us")]
    // SAFETY: a descriptor that came in a message belongs to its receiver, and `hear` calls this once for each.
    unsafe {
        OwnedFd::from_raw_fd(number)
    }
}
