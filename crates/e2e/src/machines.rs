//! Several machines on this one: each has a network with an address of its own, a process table, and a home folder.
//!
//! They are namespaces, joined by a bridge in one more. Each is held by a process that reads from a pipe of ours: when we
//! end, however that happens, it ends, and with it every process, link and address inside. Needs the rights of root.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::programs::run;
use crate::wait::until;

/// The process that holds a namespace.
#[derive(Debug)]
struct Holder {
    unshare: Child,
    /// The first process inside, in our process table.
    inside: String,
}

impl Holder {
    fn make() -> Result<Holder> {
        // `cat` ends with the pipe, and the process table with `cat`, its first process.
        let mut unshare = Command::new("unshare")
            .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", "echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()) // when it ends it complains about its own signal mask
            .spawn()
            .context("unshare")?;
        let stdout = unshare.stdout.take().context("no pipe")?;
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        let id = unshare.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let inside = children.unwrap_or_default().trim().to_owned();
        let mut holder = Holder { unshare, inside };
        if said != "ready\n" || holder.inside.is_empty() {
            let mut why = String::new();
            if let Some(mut stderr) = holder.unshare.stderr.take() {
                stderr.read_to_string(&mut why)?;
            }
            bail!("cannot make network namespaces, which needs the rights of root: {why}");
        }
        Ok(holder)
    }

    /// Runs `ip` in the namespace.
    fn ip(&self, words: &str) -> Result<()> {
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "--target", &self.inside, "ip"])
            .args(words.split(' '));
        run(&format!("ip {words}"), &mut command).map(drop).context(
            "cannot set up the network of a test: these tests need iproute2 and the rights of root",
        )
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        drop(self.unshare.stdin.take());
        if let Ok(id) = self.inside.parse() {
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = self.unshare.wait();
    }
}

/// The network that machines are plugged into. Its addresses exist nowhere outside.
#[derive(Debug)]
pub struct Network {
    switch: Holder,
}

impl Network {
    /// Makes one without machines.
    pub fn make() -> Result<Network> {
        let switch = Holder::make()?;
        switch.ip("link add lan type bridge")?;
        switch.ip("link set lan up")?;
        Ok(Network { switch })
    }

    /// Plugs in a machine with the address 10.99.0.`number`; its home folder is made below `room`.
    pub fn machine(&self, room: &Path, name: &str, number: u8) -> Result<Machine> {
        let home = room.join(name);
        fs::create_dir_all(&home)?;
        let holder = Holder::make()?;
        let inside = &holder.inside;
        self.switch.ip(&format!(
            "link add port{number} type veth peer name eth0 netns {inside}"
        ))?;
        self.switch
            .ip(&format!("link set port{number} master lan up"))?;
        let address = format!("10.99.0.{number}");
        holder.ip("link set lo up")?;
        holder.ip(&format!("addr add {address}/24 dev eth0"))?;
        holder.ip("link set eth0 up")?;
        Ok(Machine {
            holder,
            address,
            number,
            home,
        })
    }

    /// Pulls the cable of a machine, or plugs it in again.
    pub fn link(&self, machine: &Machine, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.switch
            .ip(&format!("link set port{} {state}", machine.number))
    }
}

/// A machine. Dropping it kills what runs there.
#[derive(Debug)]
pub struct Machine {
    holder: Holder,
    address: String,
    number: u8,
    home: PathBuf,
}

impl Machine {
    /// Its address, without a port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Gives it the address fd00:99::`number`, which others with such an address reach.
    pub fn add_ipv6(&self) -> Result<()> {
        // Nobody else has it, so there is nothing to wait for.
        self.holder.ip(&format!(
            "addr add fd00:99::{}/64 dev eth0 nodad",
            self.number
        ))
    }

    /// The home folder of who types there.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Its network, for who starts something on it.
    pub(crate) fn namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.inside))
    }

    /// Does something on its network: what connects meanwhile connects from there, also later on.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = File::open(self.namespace())?;
        std::thread::scope(|scope| {
            // A thread has a network of its own, and what it starts inherits that.
            let inside = scope.spawn(|| {
                setns(namespace, CloneFlags::CLONE_NEWNET).context("setns")?;
                work()
            });
            match inside.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A command on its network. It is a process of ours: it can be killed, and what it starts is not seen there.
    pub fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "--target", &self.holder.inside, "--"])
            .arg(program);
        command
    }

    /// Types shell lines there with `ROCKETMQ_HOME` and `HOME` set; what they leave in the background stays. Returns
    /// what the lines themselves printed, and what was printed meanwhile by what they left.
    pub fn typed(&self, rocketmq_home: &Path, lines: &str) -> Result<String> {
        let console = self.home.join("console");
        let before = fs::metadata(&console).map_or(0, |file| file.len());
        let out = File::options().create(true).append(true).open(&console)?;
        let status = Command::new("nsenter")
            .args(["--net", "--pid", "--mount", "--target"])
            .arg(&self.holder.inside)
            // Who enters a mount namespace begins at its root.
            .args(["sh", "-c", &format!("cd \"$ROCKETMQ_HOME\"\n{lines}")])
            .env("HOME", &self.home)
            .env("ROCKETMQ_HOME", rocketmq_home)
            .env_remove("NAMESRV_ADDR")
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .status()
            .context("nsenter")?;
        let said = fs::read(&console)?;
        let said = String::from_utf8_lossy(&said[usize::try_from(before)?..]).into_owned();
        ensure!(status.success(), "{lines}\nended with {status}\n{said}");
        Ok(said)
    }

    /// A log below `~/logs/rocketmqlogs`; empty if it is not there.
    pub fn log(&self, name: &str) -> String {
        let path = self.home.join("logs/rocketmqlogs").join(name);
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// The processes there that run a program of that name.
    pub fn processes(&self, program: &str) -> Result<Vec<Pid>> {
        let here = fs::read_link(format!("/proc/{}/ns/pid", self.holder.inside))?;
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            // Others come and go; one that has ended and is not yet buried has no program.
            let runs = fs::read_link(path.join("exe"))
                .is_ok_and(|exe| exe.file_name() == Some(OsStr::new(program)));
            if runs && fs::read_link(path.join("ns/pid")).is_ok_and(|ns| ns == here) {
                let id = path.file_name().and_then(OsStr::to_str).context("no id")?;
                found.push(Pid::from_raw(id.parse()?));
            }
        }
        Ok(found)
    }

    /// Sends a signal to the one process that runs a program of that name.
    pub fn signal(&self, program: &str, signal: Signal) -> Result<()> {
        let found = self.processes(program)?;
        ensure!(
            found.len() == 1,
            "{} processes run {program} on {}",
            found.len(),
            self.address
        );
        Ok(kill(found[0], signal)?)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&self, program: &str) -> Result<()> {
        self.signal(program, Signal::SIGKILL)?;
        self.await_end(program)
    }

    /// Waits until no process there runs a program of that name.
    pub fn await_end(&self, program: &str) -> Result<()> {
        until(&format!("{program} on {} to end", self.address), || {
            Ok(self.processes(program)?.is_empty())
        })
    }
}
