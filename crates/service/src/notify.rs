//! Messages to systemd. Without `NOTIFY_SOCKET` each is a no-op; a message that cannot be sent is lost without harm,
//! because systemd then decides by its own timeouts.

use std::time::Duration;

use sd_notify::NotifyState;

fn send(states: &[NotifyState<'_>]) {
    // systemd's timeouts cover a lost message.
    let _ = sd_notify::notify(states);
}

/// The daemon serves.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What `systemctl status` shows.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// The daemon begins to stop.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// A reload begins; [`ready`] ends it.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        send(&[NotifyState::Reloading, now]);
    }
}

/// Start or stop may take this much longer from now. Send it only while there is progress.
pub fn extend_timeout(by: Duration) {
    send(&[NotifyState::ExtendTimeoutUsec(
        u32::try_from(by.as_micros()).unwrap_or(u32::MAX),
    )]);
}

/// A sign of life, to be sent twice within [`watchdog_period`].
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How long systemd waits for a sign of life, if it does.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}
