//! Messages to systemd. Without `NOTIFY_SOCKET` each is a no-op; a message that cannot be sent is lost without harm,
//! because systemd then decides by its own timeouts.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use sd_notify::NotifyState;

/// How long a message that must arrive waits for a systemd that does not read. It may be what is slow on a bad day, and
/// nobody else shall be.
const PATIENCE: Duration = Duration::from_secs(1);

/// A message that the next one makes up for: not sent while systemd does not read.
fn mention(states: &[NotifyState<'_>]) {
    // systemd's timeouts cover a lost message.
    let _ = send_with(&written(states), None, MsgFlags::MSG_DONTWAIT);
}

/// A message that nothing makes up for.
fn send(states: &[NotifyState<'_>]) {
    // systemd's timeouts cover a lost message.
    let _ = send_with(&written(states), None, MsgFlags::empty());
}

fn written(states: &[NotifyState<'_>]) -> String {
    states.iter().map(|state| format!("{state}\n")).collect()
}

/// The daemon serves.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// What `systemctl status` shows.
pub fn status(text: &str) {
    mention(&[NotifyState::Status(&one_line(text))]);
}

/// The daemon begins to stop.
pub fn stopping(status: &str) {
    send(&[
        NotifyState::Stopping,
        NotifyState::Status(&one_line(status)),
    ]);
}

/// A reload begins; [`ready`] ends it.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        send(&[NotifyState::Reloading, now]);
    }
}

/// It ends, for this reason and, if the system gave one, with this error number.
pub fn failed(reason: &str, errno: Option<i32>) {
    let reason = one_line(reason);
    let mut states = vec![NotifyState::Status(&reason)];
    if let Some(errno) = errno.and_then(|errno| u32::try_from(errno).ok()) {
        states.push(NotifyState::Errno(errno));
    }
    send(&states);
}

/// Start or stop may take this much longer from now. Send it only while there is progress.
pub fn extend_timeout(by: Duration) {
    mention(&[NotifyState::ExtendTimeoutUsec(
        u32::try_from(by.as_micros()).unwrap_or(u32::MAX),
    )]);
}

/// A sign of life, to be sent twice within [`watchdog_period`].
pub fn watchdog() {
    mention(&[NotifyState::Watchdog]);
}

/// How long systemd waits for a sign of life, if it does.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Gives systemd a descriptor to keep under this name until the unit is stopped; it comes back at the next start.
pub(crate) fn keep(name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let message = format!("FDSTORE=1\nFDNAME={name}\n");
    send_with(&message, Some(descriptor), MsgFlags::empty())
}

/// Lets systemd close what it keeps under this name, and waits for that at most as long.
pub(crate) fn forget(name: &str, patience: Duration) -> io::Result<()> {
    if socket().is_none() {
        return Ok(());
    }
    let message = written(&[
        NotifyState::Custom("FDSTOREREMOVE=1"),
        NotifyState::Custom(&format!("FDNAME={name}")),
    ]);
    send_with(&message, None, MsgFlags::empty())?;
    // systemd closes the other end when it has dealt with everything before (BARRIER=1, systemd 246).
    let (ours, theirs) = nix::unistd::pipe()?;
    send_with("BARRIER=1", Some(theirs.as_fd()), MsgFlags::empty())?;
    drop(theirs);
    let mut closed = [PollFd::new(ours.as_fd(), PollFlags::empty())];
    let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    if poll(&mut closed, patience)? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(())
}

fn send_with(message: &str, descriptor: Option<BorrowedFd<'_>>, flags: MsgFlags) -> io::Result<()> {
    let Some(address) = socket() else {
        return Ok(());
    };
    let address = match address.strip_prefix(b"@") {
        Some(name) => UnixAddr::new_abstract(name)?,
        None => UnixAddr::new(address.as_slice())?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let descriptors = descriptor.map(|descriptor| [descriptor.as_raw_fd()]);
    let control = descriptors.as_ref().map(|d| ControlMessage::ScmRights(d));
    sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(message.as_bytes())],
        control.as_slice(),
        flags,
        Some(&address),
    )?;
    Ok(())
}

fn socket() -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    std::env::var_os("NOTIFY_SOCKET")
        .filter(|path| !path.is_empty())
        .map(OsStringExt::into_vec)
}

/// A line break would begin another message.
fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}
