//! What a story finds: a network of its own, machines on it, the repositories of our packages, stock clients.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gantry_e2e::clients::Java;
use gantry_e2e::fleet::Family;
use gantry_e2e::fleet::images::{Images, layer_of};
use gantry_e2e::fleet::machine::{Key, Machine, Plan};
use gantry_e2e::http;
use gantry_e2e::ledger::{self, Entry};
use gantry_e2e::machines::{self, Network};
use gantry_e2e::programs::run;
use gantry_e2e::wait::until;

/// The packages that a host with a name server and a broker has.
pub(crate) const PACKAGES: &str = "mqnamesrv mqbroker mqadmin gantry-monitoring";

/// Where the repositories' web server listens; it is in their files.
const REPOSITORY: u8 = 1;
const CLIENT: u8 = 9;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all stories share.
pub(crate) struct Lab {
    pub(crate) images: Images,
    pub(crate) key: Key,
    pub(crate) java: Java,
    /// Folders `1` and `2`: repositories as of the first and of the second release.
    pub(crate) repositories: PathBuf,
    /// Removed when all is over.
    pub(crate) room: tempfile::TempDir,
    /// The layer of a disk with the packages of the first release, as their installation left it.
    pub(crate) installed: Mutex<HashMap<Family, PathBuf>>,
    pub(crate) figures: Mutex<Vec<String>>,
}

/// One story's.
pub(crate) struct Stage<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) family: Family,
    pub(crate) room: PathBuf,
    // Machines and web servers go before their network.
    machines: Mutex<Vec<Arc<Machine>>>,
    web: Mutex<Option<Web>>,
    network: Network,
    began: Instant,
    notes: Mutex<String>,
}

struct Web {
    server: Child,
    _machine: machines::Machine,
}

impl Drop for Web {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl<'a> Stage<'a> {
    pub(crate) fn make(lab: &'a Lab, name: &str, family: Family) -> Result<Stage<'a>> {
        let room = lab.room.path().join(format!("{name}-{}", family.name()));
        std::fs::create_dir_all(&room)?;
        Ok(Stage {
            lab,
            family,
            room,
            machines: Mutex::default(),
            web: Mutex::default(),
            network: Network::make()?,
            began: Instant::now(),
            notes: Mutex::default(),
        })
    }

    /// Says how far the story is; shown when it fails.
    pub(crate) fn step(&self, what: &str) {
        let since = self.began.elapsed().as_secs_f32();
        // Writing to a string does not fail.
        let _ = writeln!(lock(&self.notes), "{since:6.1} s: {what}");
    }

    /// A measured value, shown when all is over.
    pub(crate) fn figure(&self, what: &str, value: &str) {
        let line = format!("{what}, {}: {value}", self.family.name());
        lock(&self.lab.figures).push(line);
    }

    /// What happened so far, and how the machines are.
    pub(crate) fn report(&self) -> String {
        let mut text = lock(&self.notes).clone();
        for machine in lock(&self.machines).iter() {
            text += &machine.report();
        }
        text
    }

    fn machine(
        &self,
        name: &str,
        number: u8,
        layers: &[PathBuf],
        store: Option<&Path>,
    ) -> Result<Arc<Machine>> {
        let network = self.network.machine(&self.room, name, number)?;
        let plan = Plan {
            name,
            layers,
            disk: &self.room.join(format!("{name}-disk")),
            store,
        };
        let machine = Arc::new(Machine::make(&plan, network, &self.lab.key)?);
        lock(&self.machines).push(Arc::clone(&machine));
        machine.boot()?;
        self.step(&format!("{name} is up"));
        Ok(machine)
    }

    /// A machine that has never seen us.
    pub(crate) fn fresh(&self, name: &str, number: u8) -> Result<Arc<Machine>> {
        self.machine(name, number, &self.lab.images.layers(self.family), None)
    }

    /// A machine on which the packages of the first release were installed, and nothing was done since.
    pub(crate) fn installed(&self, name: &str, number: u8) -> Result<Arc<Machine>> {
        self.machine(name, number, &self.installed_layers()?, None)
    }

    fn installed_layers(&self) -> Result<Vec<PathBuf>> {
        let installed = lock(&self.lab.installed).get(&self.family).cloned();
        let mut layers = vec![installed.context("nobody installed the packages")?];
        layers.extend(self.lab.images.layers(self.family));
        Ok(layers)
    }

    /// [`Stage::installed`], with a disk of its own for the stores.
    pub(crate) fn installed_with_disk(&self, name: &str, number: u8) -> Result<Arc<Machine>> {
        let image = self.room.join("store.img");
        // It has holes: what is not written takes no room.
        let mut command = Command::new("truncate");
        run("truncate", command.args(["-s", "16G"]).arg(&image))?;
        run(
            "mkfs.ext4",
            Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image),
        )?;
        self.machine(name, number, &self.installed_layers()?, Some(&image))
    }

    /// [`Stage::installed`], with name server and broker started as they are.
    pub(crate) fn started(&self, name: &str, number: u8) -> Result<Arc<Machine>> {
        let machine = self.installed(name, number)?;
        machine.run("systemctl enable --quiet --now mqnamesrv mqbroker")?;
        self.step("name server and broker serve");
        Ok(machine)
    }

    /// [`Stage::started`], and open to whoever reaches it.
    pub(crate) fn opened(&self, name: &str, number: u8) -> Result<Arc<Machine>> {
        let machine = self.installed(name, number)?;
        open(&machine)?;
        machine.run("systemctl enable --quiet --now mqnamesrv mqbroker")?;
        self.step("name server and broker serve everybody");
        Ok(machine)
    }

    /// The machine of clients, without a systemd: their processes are ours.
    pub(crate) fn client(&self) -> Result<machines::Machine> {
        self.network.machine(&self.room, "client", CLIENT)
    }

    /// Serves the repositories as of a release to the machines of this story.
    pub(crate) fn publish(&self, release: u32) -> Result<()> {
        let folder = self.room.join("www");
        if folder.is_symlink() {
            std::fs::remove_file(&folder)?;
        }
        symlink(self.lab.repositories.join(release.to_string()), &folder)?;
        let mut web = lock(&self.web);
        if web.is_some() {
            return Ok(());
        }
        let machine = self.network.machine(&self.room, "repository", REPOSITORY)?;
        let mut command = machine.command("python3".as_ref());
        command
            .args(["-m", "http.server", "--bind", machine.address(), "8080"])
            .arg("--directory")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = command.spawn().context("python3")?;
        let address = format!("{}:8080", machine.address());
        until("the repositories' web server", || {
            machine.within(|| Ok(TcpStream::connect(&address).is_ok()))
        })?;
        *web = Some(Web {
            server,
            _machine: machine,
        });
        Ok(())
    }

    /// Tells a machine of the repositories, as packaging/README.md says.
    pub(crate) fn know_repositories(&self, machine: &Machine) -> Result<()> {
        let shared = self.room.join("www");
        let file = |name: &str| std::fs::read_to_string(shared.join(name));
        match self.family {
            Family::Debian => {
                machine.run("mkdir -p /etc/apt/keyrings")?;
                machine.write("/etc/apt/keyrings/gantry.asc", &file("gantry.asc")?)?;
                machine.write(
                    "/etc/apt/sources.list.d/gantry.sources",
                    &file("gantry.sources")?,
                )
            }
            Family::Enterprise => {
                machine.write("/etc/yum.repos.d/gantry.repo", &file("gantry.repo")?)
            }
        }
    }

    /// Tells the package manager to do something (`install`, `upgrade`, `remove`, ...) and returns what it said.
    pub(crate) fn packages(&self, machine: &Machine, order: &str) -> Result<String> {
        let said = match self.family {
            Family::Debian => {
                // As it is done where nobody is there to be asked: files that were edited stay.
                let apt = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Options::=--force-confold";
                machine.run(&format!("apt-get -qq update && {apt} {order}"))?
            }
            Family::Enterprise => machine.run(&format!("dnf -y --refresh {order}"))?,
        };
        self.step(&format!("packages: {order}"));
        Ok(said)
    }

    /// A package at a revision, in the words of the package manager.
    pub(crate) fn at_revision(&self, package: &str, revision: u32) -> String {
        let version = env!("CARGO_PKG_VERSION");
        match self.family {
            Family::Debian => format!("{package}={version}-{revision}"),
            Family::Enterprise => format!("{package}-{version}-{revision}"),
        }
    }

    /// The revision of a package that a machine has.
    pub(crate) fn revision(&self, machine: &Machine, package: &str) -> Result<String> {
        let version = match self.family {
            Family::Debian => machine.run(&format!("dpkg-query -W -f '${{Version}}' {package}"))?,
            Family::Enterprise => machine.run(&format!(
                "rpm -q --qf '%{{VERSION}}-%{{RELEASE}}' {package}"
            ))?,
        };
        let revision = version.rsplit('-').next().unwrap_or_default();
        Ok(revision.to_owned())
    }
}

/// The one setting, in both files.
pub(crate) fn open(machine: &Machine) -> Result<()> {
    set(machine, "/etc/gantry/namesrv.toml", "bindAddress", "\"*\"")?;
    set(machine, "/etc/gantry/broker.toml", "bindAddress", "\"*\"")
}

/// Changes a setting in its line, as one does in an editor; adds it if there is none.
pub(crate) fn set(machine: &Machine, file: &str, key: &str, value: &str) -> Result<()> {
    let line = format!("{key} = {value}");
    machine.run(&format!(
        "if grep -q '^{key} = ' {file}; then sed -i 's|^{key} = .*|{line}|' {file}; else echo '{line}' >> {file}; fi"
    ))?;
    Ok(())
}

/// Makes a topic of two queues, by the tool of the package.
pub(crate) fn make_topic(machine: &Machine, topic: &str) -> Result<()> {
    machine
        .run(&format!(
            "mqadmin updateTopic -b 127.0.0.1:10911 -t {topic} -r 2 -w 2"
        ))
        .map(drop)
}

/// Stores 800 messages and notes what was acknowledged.
pub(crate) fn fill(machine: &Machine, topic: &str, round: u32) -> Result<Vec<Entry>> {
    machine
        .network()
        .within(|| ledger::fill("127.0.0.1:10911", topic, 2, round))
}

/// Finds all of that.
pub(crate) fn verify(machine: &Machine, topic: &str, entries: &[Entry]) -> Result<()> {
    machine
        .network()
        .within(|| ledger::verify("127.0.0.1:10911", topic, entries))
}

/// A page of the machine's loopback address.
pub(crate) fn page(machine: &Machine, port: u16, path: &str) -> Result<(u16, String)> {
    machine.network().within(|| http::get(port, path))
}

/// Fails unless a text has all of these words.
pub(crate) fn says(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "{word:?} is not in\n{text}");
    }
    Ok(())
}

/// Connects all the time until it is told to stop, from where it was started.
pub(crate) struct Knocking {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Knocked>>,
}

/// What it met.
#[derive(Debug, Default)]
pub(crate) struct Knocked {
    pub(crate) count: u64,
    pub(crate) refused: Vec<String>,
    pub(crate) slowest: Duration,
}

impl Knocking {
    pub(crate) fn start(from: &machines::Machine, addresses: &[String]) -> Result<Knocking> {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, addresses) = (Arc::clone(&stop), addresses.to_vec());
        from.within(|| {
            let thread = std::thread::spawn(move || {
                let mut knocked = Knocked::default();
                while !told.load(Ordering::Relaxed) {
                    for address in &addresses {
                        let began = Instant::now();
                        if let Err(error) = TcpStream::connect(address) {
                            knocked.refused.push(format!("{address}: {error}"));
                        }
                        knocked.count += 1;
                        knocked.slowest = knocked.slowest.max(began.elapsed());
                    }
                    // Enough to meet every moment, and not so many that the backlog is full of them.
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(knocked)
            });
            Ok(Knocking { stop, thread })
        })
    }

    pub(crate) fn end(self) -> Result<Knocked> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(knocked) => knocked,
            Err(_) => bail!("the thread that connects panicked"),
        }
    }
}

/// Installs the packages on a machine of this family and keeps its disk for [`Stage::installed`].
pub(crate) fn install(lab: &Lab, family: Family) -> Result<()> {
    let stage = Stage::make(lab, "installed", family)?;
    stage.publish(1)?;
    let done = (|| {
        let machine = stage.fresh("installed", 11)?;
        stage.know_repositories(&machine)?;
        stage.packages(&machine, &format!("install {PACKAGES}"))?;
        machine.turn_off()
    })();
    done.with_context(|| stage.report())?;
    let layer = layer_of(&stage.room.join("installed-disk"));
    clean(&layer)?;
    lock(&lab.installed).insert(family, layer);
    Ok(())
}

/// What a machine must not have from the one before it.
fn clean(layer: &Path) -> Result<()> {
    for rest in ["etc/machine-id", "etc/hostname", "etc/hosts"] {
        std::fs::remove_file(layer.join(rest))?;
    }
    let mut log = Command::new("rm");
    log.arg("-rf").arg(layer.join("var/log/journal"));
    run("rm", &mut log).map(drop)
}
