//! Name servers and brokers of either make, started, stopped, killed and started again at the same place.
//!
//! Apache's run through the reference lab (`lab/`), Gantry's directly; a test sees one type. A server serves when its
//! start returns: it listens, and a broker is in the routes of every name server it was given. Dropping a value kills
//! the process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::frame::Wire;
use crate::ports::Port;
use crate::programs::{program, root, run};
use crate::small_disk::SmallDisk;
use crate::wait::{until, until_within};

/// Who made a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Make {
    /// Apache's 4.9.7, by the reference lab.
    Apache,
    /// Ours.
    Gantry,
}

/// A running server and the folder of its configuration, logs and store.
#[derive(Debug)]
pub struct Server {
    make: Make,
    role: Role,
    folder: PathBuf,
    port: Arc<Port>,
    /// Runs Gantry's program, given behind it.
    wrapper: Vec<String>,
    child: Option<Child>,
}

#[derive(Debug, Clone)]
enum Role {
    NameServer,
    Broker {
        name: String,
        name_servers: Vec<String>,
        properties: Vec<(String, String)>,
    },
}

/// The small files of test brokers, in the words of both makes.
const SMALL: [(&str, &str); 4] = [
    ("mappedFileSizeCommitLog", "16777216"),
    ("mappedFileSizeConsumeQueue", "60000"),
    ("maxHashSlotNum", "50000"),
    ("maxIndexNum", "200000"),
];

/// What keeps Apache's broker from refusing sends as "busy" on a machine whose disk or processor is: by default it
/// refuses what waited for 200 ms, and everything while one write takes a second.
const PATIENT: [(&str, &str); 2] = [
    ("waitTimeMillsInSendQueue", "10000"),
    ("osPageCacheBusyTimeOutMills", "10000"),
];

impl Server {
    /// Starts a name server in a new folder below `room`.
    pub fn name_server(make: Make, room: &Path, name: &str) -> Result<Server> {
        Self::launch(make, Role::NameServer, room.join(name), Vec::new())
    }

    /// Starts a broker of that name in a new folder below `room`.
    pub fn broker(
        make: Make,
        room: &Path,
        name: &str,
        name_servers: &[&Server],
        properties: &[(&str, &str)],
    ) -> Result<Server> {
        let role = Role::Broker {
            name: name.to_owned(),
            name_servers: name_servers.iter().map(|s| s.address()).collect(),
            properties: properties
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        };
        Self::launch(make, role, room.join(name), Vec::new())
    }

    /// Starts one of our brokers with its store on a small disk.
    pub fn broker_on(
        disk: &SmallDisk,
        room: &Path,
        name_servers: &[&Server],
        properties: &[(&str, &str)],
    ) -> Result<Server> {
        let store = disk.dir().join("store").display().to_string();
        let on_disk = [("storePathRootDir", store.as_str())];
        let properties = on_disk.iter().chain(properties);
        let name = "broker-a".to_owned();
        let folder = room.join(&name);
        let role = Role::Broker {
            name,
            name_servers: name_servers.iter().map(|s| s.address()).collect(),
            properties: properties
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        };
        Self::launch(Make::Gantry, role, folder, disk.enter())
    }

    fn launch(make: Make, role: Role, folder: PathBuf, wrapper: Vec<String>) -> Result<Server> {
        std::fs::create_dir_all(&folder)?;
        let mut server = Server {
            make,
            role,
            folder,
            port: Arc::new(Port::claim()?),
            wrapper,
            child: None,
        };
        server.start()?;
        Ok(server)
    }

    /// Starts a broker of that make in the place of this one, which has ended: same port, same settings, another folder
    /// for everything but what `storePathRootDir` names.
    pub fn successor(&self, make: Make, folder: PathBuf) -> Result<Server> {
        ensure!(
            !self.serves(),
            "{} still serves at {}",
            self.name(),
            self.address()
        );
        std::fs::create_dir_all(&folder)?;
        let mut server = Server {
            make,
            role: self.role.clone(),
            folder,
            port: Arc::clone(&self.port),
            wrapper: Vec::new(),
            child: None,
        };
        server.start()?;
        Ok(server)
    }

    /// `127.0.0.1:P`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// P.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where a server of ours serves metrics.
    pub fn metrics_port(&self) -> u16 {
        self.port.number() + 2
    }

    /// From the next start on this command runs the program of ours, which is given behind it; nothing: no command. The
    /// program must be the process that is started: what it does is to happen to the server.
    pub fn run_by(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The broker's name; `namesrv` for a name server.
    pub fn name(&self) -> &str {
        match &self.role {
            Role::NameServer => "namesrv",
            Role::Broker { name, .. } => name,
        }
    }

    /// Where a broker's log ends, as its runtime info says.
    pub fn end_of_log(&self) -> Result<usize> {
        let answer = self.wire()?.call(28, &[], &[])?.success()?;
        let info = answer.json()?;
        let end = info["table"]["commitLogMaxOffset"].as_str();
        Ok(end.context("no commitLogMaxOffset")?.parse()?)
    }

    /// A new connection to it.
    pub fn wire(&self) -> Result<Wire> {
        Wire::connect(&self.address())
    }

    /// Starts it (again) with the same configuration on the same store, and waits until it serves.
    pub fn start(&mut self) -> Result<()> {
        match self.make {
            Make::Apache => self.start_apache(),
            Make::Gantry => self.start_gantry(),
        }
        .with_context(|| {
            format!(
                "start of {:?} {} in {}",
                self.make,
                self.name(),
                self.folder.display()
            )
        })
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        match self.make {
            Make::Apache => self.lab(&["kill"]).map(drop),
            Make::Gantry => {
                if let Some(mut child) = self.child.take() {
                    child.kill()?;
                    child.wait()?;
                }
                Ok(())
            }
        }
    }

    /// SIGTERM, and waits for the end, which must be a clean one.
    pub fn stop(&mut self) -> Result<()> {
        match self.make {
            Make::Apache => {
                let said = self.lab(&["stop"])?;
                ensure!(!said.contains("store=unclean"), "{said}");
                Ok(())
            }
            Make::Gantry => {
                let Some(child) = &self.child else {
                    return Ok(());
                };
                kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
                let status = self.wait_for_exit(Duration::from_secs(30))?;
                ensure!(status.success(), "ended with {status}\n{}", self.console());
                Ok(())
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Result<u32> {
        match (&self.child, self.make) {
            (Some(child), _) => Ok(child.id()),
            (None, Make::Apache) => Ok(std::fs::read_to_string(self.folder.join("pid"))?
                .trim()
                .parse()?),
            (None, Make::Gantry) => bail!("{} does not run", self.name()),
        }
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status
            .lines()
            .find(|l| l.starts_with("VmRSS:"))
            .context("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).context("VmRSS")?.parse()?)
    }

    /// What it printed since its last start.
    pub fn console(&self) -> String {
        let path = match self.make {
            Make::Apache => self.folder.join("logs/console.log"),
            Make::Gantry => self.folder.join("console.log"),
        };
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// The log of a server of ours.
    pub fn log(&self) -> Result<String> {
        let name = match self.role {
            Role::NameServer => "namesrv.log",
            Role::Broker { .. } => "broker.log",
        };
        let path = self.folder.join("logs/rocketmqlogs").join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// A broker's configuration file in Apache's words. Gantry's alone gets `bindAddress`, which Apache does not know.
    pub fn configuration(&self) -> String {
        let folder = self.folder.display();
        let mut lines = vec![format!("listenPort={}", self.port.number())];
        match &self.role {
            Role::NameServer => lines.push(format!("kvConfigPath={folder}/kvConfig.json")),
            Role::Broker {
                name,
                name_servers,
                properties,
            } => {
                lines.push("brokerClusterName=DefaultCluster".to_owned());
                lines.push(format!("brokerName={name}"));
                lines.push("brokerId=0".to_owned());
                lines.push("brokerRole=ASYNC_MASTER".to_owned());
                lines.push("brokerIP1=127.0.0.1".to_owned());
                lines.push("brokerIP2=127.0.0.1".to_owned());
                if properties.iter().all(|(key, _)| key != "storePathRootDir") {
                    lines.push(format!("storePathRootDir={folder}/store"));
                }
                if !name_servers.is_empty() {
                    lines.push(format!("namesrvAddr={}", name_servers.join(";")));
                }
                lines.extend(SMALL.iter().map(|(k, v)| format!("{k}={v}")));
                lines.extend(properties.iter().map(|(k, v)| format!("{k}={v}")));
            }
        }
        if self.make == Make::Gantry {
            lines.push("bindAddress=127.0.0.1".to_owned());
            if lines.iter().all(|line| !line.starts_with("metricsPort=")) {
                lines.push(format!("metricsPort={}", self.metrics_port()));
            }
        }
        lines.join("\n") + "\n"
    }

    fn start_gantry(&mut self) -> Result<()> {
        let file = self.folder.join("gantry.conf");
        std::fs::write(&file, self.configuration())?;
        let program = program(match self.role {
            Role::NameServer => "mqnamesrv",
            Role::Broker { .. } => "mqbroker",
        })?;
        let mut command = match self.wrapper.split_first() {
            None => Command::new(program),
            Some((wrapper, words)) => {
                let mut command = Command::new(wrapper);
                command.args(words).arg(program);
                command
            }
        };
        let console = File::create(self.folder.join("console.log"))?;
        command
            .arg("-c")
            .arg(&file)
            .current_dir(&self.folder)
            .env("HOME", &self.folder)
            .env("ROCKETMQ_HOME", &self.folder)
            .env_remove("NAMESRV_ADDR")
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console);
        self.child = Some(command.spawn().with_context(|| format!("{command:?}"))?);
        let outcome = until("the server to serve", || {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                self.child = None;
                bail!("ended with {status}\n{}", self.console());
            }
            Ok(self.serves())
        });
        if outcome.is_err() {
            let said = self.console();
            self.kill()?;
            return outcome.context(said);
        }
        outcome
    }

    fn serves(&self) -> bool {
        let answers = |code| {
            self.wire()
                .and_then(|mut w| w.call(code, &[], &[]))
                .is_ok_and(|answer| answer.code == 0)
        };
        match &self.role {
            Role::NameServer => answers(CLUSTER_INFO),
            Role::Broker {
                name, name_servers, ..
            } => answers(RUNTIME_INFO) && name_servers.iter().all(|ns| is_registered(ns, name)),
        }
    }

    fn start_apache(&mut self) -> Result<()> {
        if self.folder.join("lab.state").exists() {
            return self.lab(&["start"]).map(drop);
        }
        let port = self.port.number().to_string();
        let me = std::process::id().to_string();
        let mut args: Vec<String> = Vec::new();
        match &self.role {
            Role::NameServer => args.push("namesrv".to_owned()),
            Role::Broker {
                name,
                name_servers,
                properties,
            } => {
                args.extend(["broker", "--small", "--name", name].map(str::to_owned));
                if !name_servers.is_empty() {
                    args.extend(["--namesrv".to_owned(), name_servers.join(";")]);
                }
                for (key, value) in PATIENT {
                    args.extend(["--set".to_owned(), format!("{key}={value}")]);
                }
                for (key, value) in properties {
                    match key.as_str() {
                        "brokerId" => args.extend(["--id".to_owned(), value.clone()]),
                        "brokerRole" => args.extend(["--role".to_owned(), value.clone()]),
                        _ => args.extend(["--set".to_owned(), format!("{key}={value}")]),
                    }
                }
            }
        }
        args.extend(["--port", &port, "--while", &me].map(str::to_owned));
        self.lab(&args.iter().map(String::as_str).collect::<Vec<_>>())
            .map(drop)
    }

    /// Runs one verb of the reference lab on this server's folder.
    fn lab(&self, args: &[&str]) -> Result<String> {
        let (verb, options) = args.split_first().context("no verb")?;
        let folder = self.folder.display().to_string();
        let mut command = lab();
        command.arg(verb).args(["--dir", &folder]).args(options);
        run("lab", &mut command)
    }

    /// Waits until the process has ended by itself.
    pub fn wait_for_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let child = self.child.as_mut().context("does not run")?;
        let mut ended = None;
        until_within(limit, "the process to end", || {
            ended = child.try_wait()?;
            Ok(ended.is_some())
        })?;
        self.child = None;
        ended.context("no exit status")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(e) = self.kill() {
            // A test that failed already must not end in a second panic.
            let _ = std::fs::write(self.folder.join("kill-failed"), format!("{e:#}"));
        }
    }
}

/// GET_BROKER_RUNTIME_INFO.
pub const RUNTIME_INFO: i32 = 28;
/// GET_BROKER_CLUSTER_INFO.
pub const CLUSTER_INFO: i32 = 106;

/// The reference lab's script.
pub fn lab() -> Command {
    let mut command = Command::new("bash");
    command
        .arg(root().join("crates/e2e/lab/lab"))
        .stdin(Stdio::null());
    command
}

fn is_registered(name_server: &str, broker: &str) -> bool {
    let Ok(answer) = Wire::connect(name_server).and_then(|mut w| w.call(CLUSTER_INFO, &[], &[]))
    else {
        return false;
    };
    // Its integer keys are unquoted, so it is no JSON for a strict reader.
    String::from_utf8_lossy(&answer.body).contains(&format!("\"brokerName\":\"{broker}\""))
}

/// Waits until a slave's log is its master's, and compares them byte for byte; each with the folder of its store.
pub fn same_log(master: (&Server, &Path), slave: (&Server, &Path)) -> Result<()> {
    let end = master.0.end_of_log()?;
    until("the slave to have it all", || {
        // A slave that starts again does not answer for a moment.
        Ok(slave.0.end_of_log().is_ok_and(|has| has == end))
    })?;
    let log = |store: &Path| {
        let path = store.join("commitlog/00000000000000000000");
        std::fs::read(&path).with_context(|| path.display().to_string())
    };
    let (ours, theirs) = (log(master.1)?, log(slave.1)?);
    let pairs = ours[..end].iter().zip(&theirs[..end]);
    let differs = pairs.clone().position(|(ours, theirs)| ours != theirs);
    ensure!(
        differs.is_none(),
        "the logs differ from byte {differs:?} on"
    );
    Ok(())
}

/// Creates a topic on a broker and waits until all name servers know it.
pub fn create_topic(
    broker: &Server,
    name_servers: &[&Server],
    topic: &str,
    queues: u32,
) -> Result<()> {
    let queues = queues.to_string();
    let fields = [
        ("topic", topic),
        ("defaultTopic", "TBW102"),
        ("readQueueNums", &queues),
        ("writeQueueNums", &queues),
        ("perm", "6"),
        ("topicFilterType", "SINGLE_TAG"),
        ("topicSysFlag", "0"),
        ("order", "false"),
    ];
    broker.wire()?.call(17, &fields, &[])?.success()?;
    for name_server in name_servers {
        until(
            &format!("the route of {topic} to {}", broker.name()),
            || {
                let answer = name_server.wire()?.call(105, &[("topic", topic)], &[])?;
                let route = String::from_utf8_lossy(&answer.body).into_owned();
                Ok(answer.code == 0 && route.contains(&format!("\"{}\"", broker.name())))
            },
        )?;
    }
    Ok(())
}
