//! Sockets that systemd keeps over a restart. What is passed to a process at its start can only be seen in a process, so
//! the test runs itself: the parent is systemd, each child is one life of the daemon.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

use std::io::IoSliceMut;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use gantry_service::Sockets;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

const ME: &str = "a_kept_socket_comes_back_and_one_that_is_not_wanted_goes";
/// What the child is to listen on, by name.
const WANTED: &str = "GANTRY_TEST_WANTED";

fn open(address: SocketAddr, _: i32) -> std::io::Result<TcpListener> {
    TcpListener::bind(address)
}

/// One life of the daemon; prints where it listens and how many sockets it took over.
fn live(wanted: &str) {
    let mut sockets = Sockets::inherited();
    let mut listeners = Vec::new();
    for wish in wanted.split(',').filter(|wish| !wish.is_empty()) {
        let (name, address) = wish.split_once('=').unwrap();
        let name = if name == "remoting" { "remoting" } else { "ha" };
        let address: SocketAddr = address.parse().unwrap();
        let listener = sockets.listen(name, address, 10, open).unwrap();
        println!("listening {name}={}", listener.local_addr().unwrap());
        listeners.push(listener);
    }
    println!("adopted {}", sockets.adopted());
    assert_eq!(Sockets::inherited().adopted(), 0);
    sockets.keep();
}

struct Systemd {
    notify: UnixDatagram,
}

impl Systemd {
    /// Starts a life with these kept sockets, and returns what it said.
    fn start(&self, path: &Path, wanted: &str, kept: &[(&str, &OwnedFd)]) -> Output {
        let mut script = String::from("exec");
        for (place, (_, descriptor)) in kept.iter().enumerate() {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
            // Moved out of the way first: the numbers may overlap.
            script += &format!(" {}<&{}", 100 + place, descriptor.as_raw_fd());
        }
        script += "\nexec";
        for place in 0..kept.len() {
            script += &format!(" {}<&{}-", 3 + place, 100 + place);
        }
        script += "\nexport LISTEN_PID=$$\nexec \"$0\" --exact \"$1\" --nocapture";
        let names: Vec<&str> = kept.iter().map(|(name, _)| *name).collect();
        let mut command = Command::new("bash");
        command
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .arg(ME);
        command.env("NOTIFY_SOCKET", path).env(WANTED, wanted);
        if !kept.is_empty() {
            command
                .env("LISTEN_FDS", kept.len().to_string())
                .env("LISTEN_FDNAMES", names.join(":"));
        }
        command.output().unwrap()
    }

    /// The next message and the descriptor that came with it.
    fn hear(&self) -> (String, Option<OwnedFd>) {
        let (mut bytes, mut space) = ([0; 512], nix::cmsg_space!([i32; 1]));
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let socket = self.notify.as_raw_fd();
        let heard = recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::empty()).unwrap();
        let mut descriptor = None;
        for message in heard.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(numbers) = message {
                #[expect(unsafe_code, reason = "the kernel has just made it for us")]
                // SAFETY: a descriptor that came in a message belongs to the receiver, which is this function.
                let owned = unsafe { OwnedFd::from_raw_fd(numbers[0]) };
                descriptor = Some(owned);
            }
        }
        let length = heard.bytes;
        (
            String::from_utf8(bytes[..length].to_vec()).unwrap(),
            descriptor,
        )
    }
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{output:?}");
    let lines = text
        .lines()
        .filter(|line| line.starts_with("listening ") || line.starts_with("adopted "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_kept_socket_comes_back_and_one_that_is_not_wanted_goes() {
    if let Ok(wanted) = std::env::var(WANTED) {
        live(&wanted);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let notify = UnixDatagram::bind(&path).unwrap();
    let patience = Some(Duration::from_secs(30));
    notify.set_read_timeout(patience).unwrap();
    let systemd = Systemd { notify };

    // The first life has nothing, opens both and hands them over.
    let first = said(&systemd.start(&path, "remoting=127.0.0.1:0,ha=127.0.0.1:0", &[]));
    let (message, remoting) = systemd.hear();
    assert_eq!(message, "FDSTORE=1\nFDNAME=remoting\n");
    let remoting = remoting.unwrap();
    let (message, ha) = systemd.hear();
    assert_eq!(message, "FDSTORE=1\nFDNAME=ha\n");
    let ha = ha.unwrap();
    let place = |name: &str| {
        let line = first
            .lines()
            .find_map(|line| line.strip_prefix(&format!("listening {name}=")));
        line.unwrap().to_owned()
    };
    let (at, ha_at) = (place("remoting"), place("ha"));
    assert!(first.ends_with("adopted 0"), "{first}");

    // The process is gone; who connects is not refused, and finds the next life.
    let _waiting = TcpStream::connect(&at).unwrap();
    let wanted = format!("remoting={at},ha={ha_at}");
    let second = said(&systemd.start(&path, &wanted, &[("ha", &ha), ("remoting", &remoting)]));
    assert_eq!(
        second,
        format!("listening remoting={at}\nlistening ha={ha_at}\nadopted 2")
    );

    // A barrier is passed when its descriptor is closed; here, by the time somebody listens. The kept socket of the
    // other address and the one of a port that is switched off are closed on both sides.
    let third = std::thread::scope(|scope| {
        let child = scope.spawn(|| {
            let kept = [("ha", &ha), ("remoting", &remoting)];
            said(&systemd.start(&path, "remoting=127.0.0.1:0", &kept))
        });
        for name in ["remoting", "ha"] {
            let (message, _) = systemd.hear();
            assert_eq!(message, format!("FDSTOREREMOVE=1\nFDNAME={name}\n"));
            let (message, barrier) = systemd.hear();
            assert_eq!(message, "BARRIER=1");
            drop(barrier.unwrap());
        }
        let (message, descriptor) = systemd.hear();
        assert_eq!(message, "FDSTORE=1\nFDNAME=remoting\n");
        assert!(descriptor.is_some());
        child.join().unwrap()
    });
    assert!(third.ends_with("adopted 0"), "{third}");
    assert!(!third.contains(&at), "{third}");
}
