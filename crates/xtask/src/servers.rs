//! A name server and a broker of ours for the tasks that need running ones.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::shell::{self, root};

/// A daemon we started.
pub(crate) struct Daemon {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    /// From exec to the first answer.
    pub(crate) started_in: Duration,
    child: Child,
    folder: PathBuf,
}

impl Daemon {
    /// Starts one of our programs with a configuration of these lines and waits until it answers.
    pub(crate) fn start(
        programs: &Path,
        name: &'static str,
        folder: PathBuf,
        port: u16,
        lines: &[String],
    ) -> Result<Daemon> {
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{name}.conf"));
        let text = format!(
            "listenPort={port}\nbindAddress=127.0.0.1\n{}\n",
            lines.join("\n")
        );
        fs::write(&file, text)?;
        let console = File::create(folder.join("console.log"))?;
        let mut command = Command::new(programs.join(name));
        command
            .arg("-c")
            .arg(&file)
            .current_dir(&folder)
            .env("HOME", &folder)
            .env("ROCKETMQ_HOME", &folder)
            .env_remove("NAMESRV_ADDR")
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .process_group(0); // Ctrl-C is ours; --keep leaves it running
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        let mut daemon = Daemon {
            name,
            port,
            started_in: Duration::ZERO,
            child,
            folder,
        };
        // The port is bound before the store is opened: who connects early waits for the answer.
        while ask(port, BROKER_RUNTIME).is_err() {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("{name} ended with {status}\n{}", daemon.console());
            }
            if began.elapsed() > Duration::from_secs(60) {
                bail!("{name} does not serve after 60 s\n{}", daemon.console());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        daemon.started_in = began.elapsed();
        Ok(daemon)
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Result<Memory> {
        memory(self.pid())
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) -> Result<Duration> {
        let began = Instant::now();
        shell::run(Command::new("kill").args(["-TERM", &self.pid().to_string()]))?;
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > Duration::from_secs(60) {
                self.child.kill()?;
                bail!("{} did not stop within 60 s\n{}", self.name, self.console());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(began.elapsed())
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Leaves it running when we end.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }

    fn console(&self) -> String {
        fs::read_to_string(self.folder.join("console.log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already gone after a stop; otherwise something went wrong and nothing must be left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A question that the broker answers, and the name server too: that it does not know it.
const BROKER_RUNTIME: i32 = 28;

/// Asks a question without fields and waits for whatever answer.
pub(crate) fn ask(port: u16, code: i32) -> Result<()> {
    Line::open(port)?.ask(code).map(drop)
}

/// A connection on which one question after the other is asked.
pub(crate) struct Line(TcpStream);

impl Line {
    pub(crate) fn open(port: u16) -> Result<Line> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(Line(stream))
    }

    /// Asks a question without fields; the body of the answer, whatever its code.
    pub(crate) fn ask(&mut self, code: i32) -> Result<Vec<u8>> {
        self.0.write_all(&question(code)?)?;
        let mut word = [0; 4];
        let mut number = |stream: &mut TcpStream| -> Result<usize> {
            stream.read_exact(&mut word)?;
            Ok(usize::try_from(u32::from_be_bytes(word))?)
        };
        let size = number(&mut self.0)?;
        let header = number(&mut self.0)? & 0x00FF_FFFF;
        let mut answer = vec![0; size.saturating_sub(4)];
        self.0.read_exact(&mut answer)?;
        Ok(answer.split_off(header.min(answer.len())))
    }
}

fn question(code: i32) -> Result<Vec<u8>> {
    let header = format!(
        "{{\"code\":{code},\"extFields\":{{}},\"flag\":0,\"language\":\"JAVA\",\"opaque\":1,\
         \"serializeTypeCurrentRPC\":\"JSON\",\"version\":409}}"
    );
    let size = u32::try_from(header.len())?;
    let words = [(size + 4).to_be_bytes(), size.to_be_bytes()].concat();
    Ok([&words, header.as_bytes()].concat())
}

/// What a process holds in memory, in MiB.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// All that is resident.
    pub(crate) resident: f64,
    /// Pages of files among it, such as the mapped log, which the kernel takes back when it needs them.
    pub(crate) of_files: f64,
}

/// Asks the kernel.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mib = |name: &str| -> Result<f64> {
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .with_context(|| name.to_owned())?;
        let kib: f64 = line
            .split_whitespace()
            .nth(1)
            .with_context(|| name.to_owned())?
            .parse()?;
        Ok(kib / 1024.0)
    };
    Ok(Memory {
        resident: mib("VmRSS:")?,
        of_files: mib("RssFile:")?,
    })
}

/// A port P such that P - 2, P and P + 1 are free. Others may look at the same time, so the start is by chance.
pub(crate) fn free_port() -> Result<u16> {
    let chance = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .subsec_nanos()
        ^ std::process::id();
    for turn in 0..2000_u32 {
        let slot = u16::try_from(chance.wrapping_add(turn.wrapping_mul(7)) % 2000)?;
        let port = 20_003 + slot * 5;
        if [port - 2, port, port + 1]
            .iter()
            .all(|p| TcpListener::bind(("0.0.0.0", *p)).is_ok())
        {
            return Ok(port);
        }
    }
    bail!("no free ports between 20000 and 30000")
}

/// Apache's broker on an empty store, which is thrown away with it.
pub(crate) struct Apache {
    folder: PathBuf,
    pub(crate) address: String,
    /// Where slaves connect.
    pub(crate) ha: String,
    pub(crate) pid: u32,
}

impl Apache {
    /// `args` are those of the lab's `broker`.
    pub(crate) fn start(folder: PathBuf, args: &[&str]) -> Result<Apache> {
        let (dir, me) = (folder.display().to_string(), std::process::id().to_string());
        let start = ["broker", "--dir", &dir, "--heap", "2g", "--while", &me];
        let said = lab(&[&start[..], args].concat())?;
        let word = |name: &str| {
            let found = said
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name));
            found
                .map(str::to_owned)
                .with_context(|| format!("no {name} in {said}"))
        };
        Ok(Apache {
            address: word("addr=")?,
            ha: word("ha=")?,
            pid: word("pid=")?.parse()?,
            folder,
        })
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // Its store is thrown away.
        let _ = lab(&["kill", "--dir", &self.folder.display().to_string()]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Runs the reference lab.
pub(crate) fn lab(args: &[&str]) -> Result<String> {
    shell::output(
        Command::new("bash")
            .arg(root().join("crates/e2e/lab/lab"))
            .args(args),
    )
}
