//! One machine: turned on and off, its power cut, commands in it, its units.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::images;
use crate::machines;
use crate::programs::run;
use crate::wait::{until, until_within};

/// Prepares the control groups that a machine needs, and fails where that cannot be done. The inner systemd uses the
/// group that the container was started in, so each machine has one of its own in every hierarchy.
pub(super) const GROUP_CHECK: &str = r#"
set -e
if [ ! -f /sys/fs/cgroup/cgroup.controllers ]; then
    # Older hosts have a hierarchy a controller, and one without, for systemd, which only systemd mounts.
    mkdir -p /sys/fs/cgroup/systemd
    mountpoint -q /sys/fs/cgroup/systemd || mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
fi
test -w /sys/fs/cgroup
"#;

/// Moves itself into groups of its own, puts the disk together, and becomes the container.
const BOOT: &str = r#"
set -e
name=$1 disk=$2 lower=$3 store=$4
for h in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ -f "$h/cgroup.procs" ] || continue
    mkdir -p "$h/$name"
    if [ -f "$h/$name/cpuset.cpus" ] && [ -f "$h/cpuset.cpus" ]; then
        cat "$h/cpuset.cpus" > "$h/$name/cpuset.cpus"
        cat "$h/cpuset.mems" > "$h/$name/cpuset.mems"
    fi
    echo $$ > "$h/$name/cgroup.procs"
done
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"
shift 4
if [ -n "$store" ]; then
    mkdir -p "$disk/store"
    mount -o loop "$store" "$disk/store"
    set -- --bind="$disk/store:/var/lib/gantry" "$@"
fi
exec systemd-nspawn -q --keep-unit --register=no -D "$disk/root" --console=pipe "$@" --boot
"#;

/// The pair of keys that opens every machine of a run.
#[derive(Debug, Clone)]
pub struct Key {
    path: PathBuf,
}

impl Key {
    /// Makes one in a folder.
    pub fn make(folder: &Path) -> Result<Key> {
        let path = folder.join("key");
        let mut keygen = Command::new("ssh-keygen");
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&path);
        run("ssh-keygen", &mut keygen)?;
        Ok(Key { path })
    }
}

/// What a machine is made of.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Its host name.
    pub name: &'a str,
    /// The layers below its own, the uppermost first.
    pub layers: &'a [PathBuf],
    /// Its own layer, made if it is not there.
    pub disk: &'a Path,
    /// The image of a file system for `/var/lib/gantry`, if that is to be a disk of its own.
    pub store: Option<&'a Path>,
}

/// A machine with a systemd. Dropping it cuts its power.
#[derive(Debug)]
pub struct Machine {
    name: String,
    network: machines::Machine,
    layers: Vec<PathBuf>,
    disk: PathBuf,
    store: Option<PathBuf>,
    key: Key,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    group: String,
    nspawn: Child,
    /// The first process inside, in our process table.
    leader: Pid,
    /// Keeps a connection open, so that a command is there at once.
    ssh: Child,
    socket: PathBuf,
}

impl Machine {
    /// Makes it, plugged into its network, and turned off.
    pub fn make(plan: &Plan<'_>, network: machines::Machine, key: &Key) -> Result<Machine> {
        images::new_disk(plan.disk)?;
        let upper = plan.disk.join("upper");
        let etc = upper.join("etc");
        fs::create_dir_all(&etc)?;
        fs::set_permissions(&etc, PermissionsExt::from_mode(0o755))?;
        fs::write(etc.join("hostname"), format!("{}\n", plan.name))?;
        let hosts = format!("127.0.0.1 localhost\n{} {}\n", network.address(), plan.name);
        fs::write(etc.join("hosts"), hosts)?;
        // Without one systemd takes a boot for the first, and enables units by their presets.
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
        fs::write(etc.join("machine-id"), id)?;
        let mut private = fs::DirBuilder::new();
        private.mode(0o700).recursive(true);
        private.create(upper.join("root"))?;
        private.create(upper.join("root/.ssh"))?;
        let public = key.path.with_extension("pub");
        fs::copy(public, upper.join("root/.ssh/authorized_keys"))?;
        Ok(Machine {
            name: plan.name.to_owned(),
            network,
            layers: plan.layers.to_vec(),
            disk: plan.disk.to_owned(),
            store: plan.store.map(Path::to_owned),
            key: key.clone(),
            running: Mutex::new(None),
        })
    }

    /// Its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is plugged in.
    pub fn network(&self) -> &machines::Machine {
        &self.network
    }

    /// Its address, without a port.
    pub fn address(&self) -> &str {
        self.network.address()
    }

    /// Turns it on and waits until systemd has started everything.
    pub fn boot(&self) -> Result<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        ensure!(!self.is_on(), "{} runs already", self.name);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let group = format!("gantry-test-{}-{count}", std::process::id());
        let lower: Vec<String> = self
            .layers
            .iter()
            .map(|l| l.display().to_string())
            .collect();
        let console = fs::File::create(self.disk.join("console.log"))?;
        let mut command = Command::new("setpriv");
        command
            // Whatever happens to us, no machine stays behind.
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                "--propagation",
                "private",
            ])
            .args(["sh", "-c", BOOT, "sh", &group])
            .arg(&self.disk)
            .arg(lower.join(":"))
            .arg(self.store.as_deref().unwrap_or(Path::new("")))
            .args(["-M", &self.name])
            .arg(format!(
                "--network-namespace-path={}",
                self.network.namespace().display()
            ))
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console);
        let mut nspawn = command.spawn().context("setpriv")?;
        let begun = self.await_start(&mut nspawn);
        if begun.is_err() {
            let _ = nspawn.kill(); // the error is what counts
            let _ = nspawn.wait();
            remove_groups(&group);
        }
        let (leader, ssh, socket) = begun.with_context(|| {
            let console = fs::read_to_string(self.disk.join("console.log"));
            format!(
                "{} does not start\n{}",
                self.name,
                console.unwrap_or_default()
            )
        })?;
        *self.lock() = Some(Running {
            group,
            nspawn,
            leader,
            ssh,
            socket,
        });
        let state = self.tried("systemctl is-system-running --wait")?.1;
        ensure!(
            state.trim() == "running",
            "{} is {state}{}",
            self.name,
            self.tried("systemctl --failed --no-legend --plain")?.1
        );
        Ok(())
    }

    fn await_start(&self, nspawn: &mut Child) -> Result<(Pid, Child, PathBuf)> {
        let id = nspawn.id();
        let mut leader = None;
        until("systemd inside", || {
            if let Some(status) = nspawn.try_wait()? {
                bail!("the container ended with {status}");
            }
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
            for child in children.unwrap_or_default().split_whitespace() {
                // The first child lives for a moment only.
                let exe = fs::read_link(format!("/proc/{child}/exe"));
                if exe.is_ok_and(|exe| exe.ends_with("systemd")) {
                    leader = Some(Pid::from_raw(child.parse()?));
                }
            }
            Ok(leader.is_some())
        })?;
        let leader = leader.context("no leader")?;
        // Names of sockets are short; those of target folders may be long.
        let socket =
            std::env::temp_dir().join(format!("gantry-ssh-{}-{leader}", std::process::id()));
        let mut last: Option<Child> = None;
        until("ssh to answer", || {
            if let Some(status) = nspawn.try_wait()? {
                bail!("the container ended with {status}");
            }
            if socket.exists() {
                return Ok(true);
            }
            let ended = match &mut last {
                Some(ssh) => ssh.try_wait()?.is_some(),
                None => true,
            };
            if ended {
                last = Some(self.connect(&socket)?);
            }
            Ok(false)
        })?;
        Ok((leader, last.context("no ssh")?, socket))
    }

    fn connect(&self, socket: &Path) -> Result<Child> {
        let mut ssh = Command::new("setpriv");
        ssh.args(["--pdeathsig", "KILL", "nsenter"])
            .arg(format!("--net={}", self.network.namespace().display()))
            .args(["ssh", "-q", "-M", "-N", "-S"])
            .arg(socket)
            .arg("-i")
            .arg(&self.key.path);
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "BatchMode=yes",
            "ConnectTimeout=2",
        ] {
            ssh.args(["-o", option]);
        }
        ssh.arg(format!("root@{}", self.address()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        ssh.spawn().context("ssh")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its power is on.
    pub fn is_on(&self) -> bool {
        self.lock().is_some()
    }

    fn leader(&self) -> Result<Pid> {
        let leader = self.lock().as_ref().map(|running| running.leader);
        leader.with_context(|| format!("{} is turned off", self.name))
    }

    /// A command that runs a shell line in it.
    pub fn command(&self, line: &str) -> Result<Command> {
        let socket = self.lock().as_ref().map(|running| running.socket.clone());
        let socket = socket.with_context(|| format!("{} is turned off", self.name))?;
        let mut command = Command::new("timeout");
        command
            .args([
                "--kill-after=5",
                "180",
                "ssh",
                "-q",
                "-o",
                "BatchMode=yes",
                "-S",
            ])
            .arg(socket)
            .arg(format!("root@{}", self.address()))
            .arg(line);
        Ok(command)
    }

    /// Runs shell lines in it; exit status, and what they said to either output.
    pub fn tried(&self, lines: &str) -> Result<(i32, String)> {
        let output = self
            .command(&format!("exec 2>&1\n{lines}"))?
            .stdin(Stdio::null())
            .output()
            .context("ssh")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = output.status.code().context("ssh was killed")?;
        ensure!(status != 255, "{}: no connection for: {lines}", self.name);
        ensure!(
            status != 124,
            "{}: 180 s were not enough for: {lines}\n{said}",
            self.name
        );
        Ok((status, said))
    }

    /// [`Machine::tried`], where anything but exit status 0 is an error.
    pub fn run(&self, lines: &str) -> Result<String> {
        let (status, said) = self.tried(lines)?;
        ensure!(
            status == 0,
            "on {}: {lines}\nended with {status} and said\n{said}",
            self.name
        );
        Ok(said)
    }

    /// Writes a file in it.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let mut child = self
            .command(&format!("cat > '{path}'"))?
            .stdin(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no pipe")?;
        stdin.write_all(text.as_bytes())?;
        drop(stdin);
        ensure!(
            child.wait()?.success(),
            "cannot write {path} on {}",
            self.name
        );
        Ok(())
    }

    /// A property of a unit.
    pub fn show(&self, unit: &str, property: &str) -> Result<String> {
        let said = self.run(&format!("systemctl show -P {property} '{unit}'"))?;
        Ok(said.trim_end().to_owned())
    }

    /// Waits until a property of a unit is what it should be.
    pub fn await_property(
        &self,
        unit: &str,
        property: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let mut found = String::new();
        until(&format!("{property} of {unit} on {}", self.name), || {
            found = self.show(unit, property)?;
            Ok(wanted(&found))
        })
        .with_context(|| format!("it is {found:?}"))?;
        Ok(found)
    }

    /// What the journal says of a unit, without time and host, since this boot.
    pub fn journal(&self, unit: &str) -> Result<String> {
        self.run(&format!("journalctl --no-pager -o cat -b -u '{unit}'"))
    }

    /// Lets no write to its store's disk go on until the value is dropped. The disk must be one of its own.
    pub fn freeze_store(&self) -> Result<Frozen> {
        ensure!(
            self.store.is_some(),
            "{} has no disk for the store",
            self.name
        );
        // Reading from the pipe ends with this process, however that ends: a disk that stays frozen cannot be let go.
        let script = "exec 3< \"$0\" && fsfreeze -f /proc/self/fd/3 && echo frozen && cat; fsfreeze -u /proc/self/fd/3";
        let mut holder = Command::new("sh")
            .args(["-c", script])
            .arg(format!("/proc/{}/root/var/lib/gantry", self.leader()?))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        let stdout = holder.stdout.take().context("no pipe")?;
        BufReader::new(stdout).read_line(&mut said)?;
        let frozen = Frozen { holder };
        ensure!(said == "frozen\n", "fsfreeze failed");
        Ok(frozen)
    }

    /// Turns it off in order, as `poweroff` does.
    pub fn turn_off(&self) -> Result<()> {
        let leader = self.leader()?;
        // What systemd takes for the order to do so.
        let order = nix::libc::SIGRTMIN() + 4;
        let mut signal = Command::new("kill");
        signal.args([format!("-{order}"), leader.to_string()]);
        run("kill", &mut signal)?;
        self.await_end(Duration::from_secs(120))
    }

    /// Cuts its power.
    pub fn cut_power(&self) -> Result<()> {
        kill(self.leader()?, Signal::SIGKILL)?;
        self.await_end(Duration::from_secs(60))
    }

    fn await_end(&self, limit: Duration) -> Result<()> {
        let Some(mut running) = self.lock().take() else {
            return Ok(());
        };
        let ended = until_within(limit, &format!("{} to go off", self.name), || {
            Ok(running.nspawn.try_wait()?.is_some())
        });
        running.end();
        ended
    }

    /// Turns it off and on again.
    pub fn reboot(&self) -> Result<()> {
        self.turn_off()?;
        self.boot()
    }

    /// What helps to understand a failure: failed units, states, the end of the journal.
    pub fn report(&self) -> String {
        if !self.is_on() {
            return format!("--- {} is turned off\n", self.name);
        }
        let lines = "systemctl --no-pager --failed --no-legend --plain\n\
            systemctl status --no-pager --full --lines=3 mqnamesrv mqbroker 'mqbroker@*'\n\
            echo --- journal; journalctl --no-pager -b -n 60 -o short-precise\n\
            echo --- sockets; ss -Hltnp";
        let said = match self.tried(lines) {
            Ok((_, said)) => said,
            Err(error) => format!("{error:#}"),
        };
        format!("--- {} ({})\n{said}\n", self.name, self.address())
    }
}

/// A disk on which writing hangs, until this is dropped.
#[derive(Debug)]
pub struct Frozen {
    holder: Child,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // It has ended by itself if it failed; there is nobody to tell.
        let _ = self.holder.wait();
    }
}

impl Running {
    /// Ends what is left of it.
    fn end(&mut self) {
        // They may have ended by themselves; there is nobody to tell.
        let _ = kill(self.leader, Signal::SIGKILL);
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
        let _ = fs::remove_file(&self.socket);
        remove_groups(&self.group);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut running) = self.lock().take() {
            running.end();
        }
    }
}

/// Control groups go from the leaves up, once the last process in them is buried.
fn remove_groups(name: &str) {
    let began = Instant::now();
    loop {
        let script = format!(
            "left=0; for g in /sys/fs/cgroup/{name} /sys/fs/cgroup/*/{name}; do [ -d $g ] || continue; \
             find $g -depth -type d -exec rmdir {{}} + 2>/dev/null; [ ! -d $g ] || left=1; done; exit $left"
        );
        let done = Command::new("sh").args(["-c", &script]).status();
        if done.is_ok_and(|status| status.success()) || began.elapsed() > Duration::from_secs(5) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
