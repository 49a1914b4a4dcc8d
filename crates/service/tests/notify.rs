//! What systemd hears. The socket is named by a variable of the process, so the messages come from a child.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use gantry_service::notify;

/// Speaks when it runs in the child, and checks that it hears itself when it does not.
#[test]
fn messages_reach_the_socket_in_order() {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        speak();
        return;
    }
    // Without a socket every message is a no-op.
    speak();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "messages_reach_the_socket_in_order"]);
    let output = child.env("NOTIFY_SOCKET", &path).output().unwrap();
    assert!(output.status.success(), "{output:?}");

    let next = || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert_eq!(next(), "STATUS=Recovering\n");
    assert_eq!(next(), "EXTEND_TIMEOUT_USEC=5000000\n");
    assert_eq!(next(), "READY=1\nSTATUS=Serving\n");
    let reload = next();
    assert!(
        reload.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reload}"
    );
    assert_eq!(next(), "WATCHDOG=1\n");
    assert_eq!(next(), "STOPPING=1\nSTATUS=Draining\n");
}

fn speak() {
    notify::status("Recovering");
    notify::extend_timeout(Duration::from_secs(5));
    notify::ready("Serving");
    notify::reloading();
    notify::watchdog();
    notify::stopping("Draining");
}

/// A systemd that does not read holds up nobody.
#[test]
fn nobody_waits_for_a_systemd_that_does_not_read() {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        for _ in 0..2_000 {
            notify::status("Serving");
            notify::watchdog();
        }
        notify::ready("Serving");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let _socket = UnixDatagram::bind(&path).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "nobody_waits_for_a_systemd_that_does_not_read"]);
    let mut child = child.env("NOTIFY_SOCKET", &path).spawn().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if deadline < std::time::Instant::now() {
            child.kill().unwrap();
            panic!("it waits for somebody who does not read");
        }
        std::thread::yield_now();
    };
    assert!(status.success());
}
