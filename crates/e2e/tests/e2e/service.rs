//! Daemons as units: what systemd hears of them, sockets that outlive them, signs of life that follow the work.

use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gantry_e2e::clients::Java;
use gantry_e2e::ledger::{fill, send, verify};
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server, create_topic};
use gantry_e2e::systemd::{Message, Systemd};
use gantry_e2e::wait::{Turn, until};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

const TOPIC: &str = "service";
const SET_READ_ONLY: i32 = 46003;

/// Starts a server that runs already again, as the unit of this systemd.
fn start_under(server: &mut Server, systemd: &Systemd, watchdog: Option<Duration>) -> Result<()> {
    let command = systemd.command(watchdog)?;
    server.run_by(&command.iter().map(String::as_str).collect::<Vec<_>>());
    let started = server.start();
    systemd.started()?;
    started
}

/// Connects to ports all the time until it is told to stop, and counts who refused.
struct Knocking {
    stop: Arc<AtomicBool>,
    knocks: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Knocking {
    fn start(ports: Vec<u16>) -> Knocking {
        let (stop, knocks) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (told, counted) = (stop.clone(), knocks.clone());
        let thread = std::thread::spawn(move || {
            let mut refused = Vec::new();
            while !told.load(Ordering::Relaxed) {
                for port in &ports {
                    match TcpStream::connect(("127.0.0.1", *port)) {
                        Ok(_) => counted.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            refused.push(format!("{port}: {error}"));
                            0
                        }
                    };
                }
                // Enough to meet every moment, and not so many that the backlog is full of them.
                std::thread::sleep(Duration::from_millis(2));
            }
            refused
        });
        Knocking {
            stop,
            knocks,
            thread,
        }
    }

    fn knocks_again(&self) -> Result<()> {
        let before = self.knocks.load(Ordering::Relaxed);
        until("more connections", || {
            Ok(before + 20 < self.knocks.load(Ordering::Relaxed))
        })
    }

    fn nobody_was_refused(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(refused) = self.thread.join() else {
            anyhow::bail!("the thread that connects panicked");
        };
        ensure!(refused.is_empty(), "{refused:?}");
        Ok(())
    }
}

fn reload(server: &Server) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(server.pid()?)?);
    Ok(kill(pid, Signal::SIGHUP)?)
}

/// What it listens on is kept by systemd, so neither a restart nor a crash refuses a connection; every phase is said.
#[test]
fn a_broker_says_what_it_does_and_no_restart_refuses_a_connection() -> Result<()> {
    let room = room("unit-broker")?;
    let systemd = Systemd::start(room.path())?;
    let mut broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[], &[])?;
    broker.stop()?;
    start_under(&mut broker, &systemd, None)?;
    systemd.await_message(&["READY=1\nSTATUS=Serving as master; "])?;
    systemd.said_in_order(&[
        "STATUS=Reading the configuration",
        "STATUS=Recovering: loading queues",
        "EXTEND_TIMEOUT_USEC=120000000",
        "STATUS=Recovering: writing queues",
        "STATUS=Registering at the name servers",
        "FDSTORE=1\nFDNAME=remoting",
        "READY=1",
    ])?;
    ensure!(
        systemd.kept() == ["ha", "metrics", "remoting", "vip"],
        "{:?}",
        systemd.kept()
    );

    let port = broker.port();
    let knocking = Knocking::start(vec![port - 2, port, port + 1, broker.metrics_port()]);
    knocking.knocks_again()?;
    systemd.forget();
    broker.stop()?;
    systemd.said_in_order(&[
        "STOPPING=1\nSTATUS=Stopping",
        "STATUS=Stopping: leaving the name servers",
        "STATUS=Stopping: answering what was read",
        "STATUS=Stopping: writing ",
        "EXTEND_TIMEOUT_USEC=",
    ])?;
    knocking.knocks_again()?;
    // Whoever comes while nobody runs is answered by the next process.
    let mut waiting = broker.wire()?;
    let opaque = waiting.post(28, &[], &[])?;
    start_under(&mut broker, &systemd, None)?;
    let answer = waiting.read()?;
    ensure!(
        (answer.code, answer.opaque) == (0, i64::from(opaque)),
        "{answer:?}"
    );
    // Nothing new was opened, so nothing new was stored.
    ensure!(systemd.kept().len() == 4, "{:?}", systemd.kept());
    knocking.knocks_again()?;
    broker.kill()?;
    knocking.knocks_again()?;
    start_under(&mut broker, &systemd, None)?;
    knocking.nobody_was_refused()?;

    // Live keys are taken up; what needs a restart is named until then.
    systemd.forget();
    let file = broker.folder().join("gantry.conf");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, format!("{text}logLevel=DEBUG\nioThreads=3\n"))?;
    reload(&broker)?;
    let begun = systemd.await_message(&["RELOADING=1\nMONOTONIC_USEC="])?;
    let done = systemd.await_message(&["READY=1", "; a restart is needed for ioThreads"])?;
    ensure!(begun.at <= done.at);
    // Nothing is said of values that are not taken up, be it the ports.
    let bad = text.replace(&broker.port().to_string(), "20911");
    std::fs::write(&file, format!("{bad}ioThreads=many\n"))?;
    reload(&broker)?;
    systemd.await_message(&["READY=1", "STATUS=NOT RELOADED: ", "ioThreads"])?;
    let said = broker.log()?;
    ensure!(!said.contains("ports: 20911"), "{said}");

    // A socket whose port is not wanted any more goes, here and in the store.
    broker.stop()?;
    systemd.forget();
    std::fs::write(&file, text)?;
    let other = Server::broker(Make::Gantry, room.path(), "broker-b", &[], &[])?;
    let ports = (other.port(), other.configuration());
    drop(other);
    let moved = room.path().join("moved.conf");
    std::fs::write(&moved, ports.1)?;
    let command = systemd.command(None)?;
    let program = gantry_e2e::programs::program("mqbroker")?;
    let mut child = std::process::Command::new(&command[0])
        .args(&command[1..])
        .arg(program)
        .arg("-c")
        .arg(&moved)
        .env("HOME", room.path())
        .spawn()?;
    systemd.started()?;
    let ready = systemd.await_message(&["READY=1"]);
    // A program of another story that was started at the same moment may have got the socket too, and will end.
    let refused = until("the old port to be closed", || {
        Ok(TcpStream::connect(("127.0.0.1", port)).is_err())
    });
    child.kill()?;
    child.wait()?;
    ready?;
    refused?;
    systemd.said_in_order(&["FDSTOREREMOVE=1\nFDNAME=remoting", "BARRIER=1"])?;
    ensure!(systemd.kept().len() == 4, "{:?}", systemd.kept());
    ensure!(TcpStream::connect(("127.0.0.1", ports.0)).is_ok());
    Ok(())
}

/// A stop in the middle of a recovery ends it and is no failure; the next start begins it again and finds everything.
#[test]
fn a_recovery_is_no_reason_to_keep_a_stop_waiting() -> Result<()> {
    let room = room("unit-recovery")?;
    let systemd = Systemd::start(room.path())?;
    let mut broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[], &[])?;
    create_topic(&broker, &[], TOPIC, 2)?;
    broker.stop()?;
    broker.start()?;
    let entries = fill(&broker.address(), TOPIC, 2, 0)?;
    broker.kill()?;
    let store = broker.folder().join("store");
    // Recovery reads this file. As a pipe it holds it up until somebody comes to write.
    let (pipe, aside) = (store.join("checkpoint"), room.path().join("checkpoint"));
    std::fs::rename(&pipe, &aside)?;
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR)?;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        systemd.forget();
        let command = systemd.command(None)?;
        let mut child = std::process::Command::new(&command[0])
            .args(&command[1..])
            .arg(gantry_e2e::programs::program("mqbroker")?)
            .arg("-c")
            .arg(broker.folder().join("gantry.conf"))
            .env("HOME", broker.folder())
            .spawn()?;
        systemd.await_message(&["STATUS=Recovering: loading queues"])?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        kill(pid, signal)?;
        systemd.await_message(&["STOPPING=1\nSTATUS=Stopping"])?;
        // Whoever loses patience changes nothing.
        kill(pid, Signal::SIGTERM)?;
        until("recovery to go on", || {
            let mut writer = std::fs::File::options();
            let writer = writer.write(true).custom_flags(nix::libc::O_NONBLOCK);
            Ok(writer.open(&pipe).is_ok())
        })?;
        let mut ended = None;
        until("its end", || {
            ended = child.try_wait()?;
            Ok(ended.is_some())
        })?;
        ensure!(ended.is_some_and(|status| status.success()), "{ended:?}");
        let said = systemd.messages();
        let served = said.iter().any(|message| message.text.contains("READY=1"));
        ensure!(!served, "{said:#?}");
        ensure!(store.join("abort").exists(), "the store is marked clean");
    }
    let log = broker.log()?;
    let stopped = "stopped while the store was recovered; nothing is lost";
    ensure!(log.matches(stopped).count() == 2, "{log}");
    std::fs::remove_file(&pipe)?;
    std::fs::rename(&aside, &pipe)?;
    broker.start()?;
    verify(&broker.address(), TOPIC, &entries)?;
    broker.stop()?;
    ensure!(
        !store.join("abort").exists(),
        "the store is not marked clean"
    );
    Ok(())
}

#[test]
fn a_name_server_says_what_it_does_and_no_restart_refuses_a_connection() -> Result<()> {
    let room = room("unit-namesrv")?;
    let systemd = Systemd::start(room.path())?;
    let mut server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    server.stop()?;
    start_under(&mut server, &systemd, Some(Duration::from_secs(1)))?;
    systemd.await_message(&["READY=1\nSTATUS=Serving; 0 broker names, 0 topics"])?;
    systemd.await_message(&["WATCHDOG=1"])?;
    ensure!(
        systemd.kept().contains(&"remoting".to_owned()),
        "{:?}",
        systemd.kept()
    );
    let knocking = Knocking::start(vec![server.port()]);
    knocking.knocks_again()?;
    server.stop()?;
    systemd.await_message(&["STOPPING=1\nSTATUS=Stopping"])?;
    knocking.knocks_again()?;
    start_under(&mut server, &systemd, None)?;
    knocking.knocks_again()?;
    server.kill()?;
    knocking.knocks_again()?;
    start_under(&mut server, &systemd, None)?;
    knocking.nobody_was_refused()?;
    systemd.forget();
    let file = server.folder().join("gantry.conf");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, format!("{text}logLevel=DEBUG\nioThreads=3\n"))?;
    reload(&server)?;
    systemd.await_message(&["RELOADING=1\nMONOTONIC_USEC="])?;
    systemd.await_message(&["READY=1", "; a restart is needed for ioThreads"])?;
    Ok(())
}

/// A start that fails says why, with the system's number, and leaves no socket in which clients would wait.
#[test]
fn a_failing_start_says_why_and_keeps_nothing() -> Result<()> {
    let room = room("unit-fails")?;
    let systemd = Systemd::start(room.path())?;
    let mut broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[], &[])?;
    broker.stop()?;
    let taken = std::net::TcpListener::bind(("127.0.0.1", broker.port()))?;
    ensure!(start_under(&mut broker, &systemd, None).is_err());
    systemd.await_message(&["STATUS=cannot listen on 127.0.0.1 port ", "\nERRNO=98\n"])?;
    drop(taken);
    let file = room.path().join("bad.conf");
    std::fs::write(&file, "listenPort=many\n")?;
    let command = systemd.command(None)?;
    let program = gantry_e2e::programs::program("mqbroker")?;
    let ended = std::process::Command::new(&command[0])
        .args(&command[1..])
        .arg(program)
        .arg("-c")
        .arg(&file)
        .env("HOME", room.path())
        .status()?;
    ensure!(ended.code() == Some(78), "{ended}");
    systemd.await_message(&["STATUS=configuration: ", "listenPort"])?;
    ensure!(systemd.kept().is_empty(), "{:?}", systemd.kept());
    Ok(())
}

/// The next regular word is ten seconds away; who drains a broker looks at once.
#[test]
fn a_drained_broker_says_so_at_once() -> Result<()> {
    let room = room("unit-drained")?;
    let systemd = Systemd::start(room.path())?;
    let mut broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[], &[])?;
    broker.stop()?;
    start_under(&mut broker, &systemd, None)?;
    for (drained, status) in [("true", "STATUS=READ ONLY"), ("false", "STATUS=Serving")] {
        systemd.forget();
        let asked = Instant::now();
        let fields = [("readOnly", drained)];
        let answer = broker.wire()?.call(SET_READ_ONLY, &fields, &[])?;
        ensure!(answer.code == 0, "{answer:?}");
        let said = systemd.await_message(&[status])?;
        let took = said.at - asked;
        ensure!(took < Duration::from_secs(5), "{status} after {took:?}");
    }
    Ok(())
}

/// The sign of life comes from the way to the disk: one sync hangs, and it stays away until that is over.
#[test]
fn a_sync_that_hangs_silences_the_watchdog() -> Result<()> {
    const PERIOD: Duration = Duration::from_secs(1);
    let room = room("unit-watchdog")?;
    let systemd = Systemd::start(room.path())?;
    let properties = [
        ("flushDiskType", "SYNC_FLUSH"),
        ("syncFlushTimeout", "60000"),
    ];
    let mut broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[], &properties)?;
    create_topic(&broker, &[], TOPIC, 1)?;
    // strace knows the file by its name, so it must be there.
    let mut wire = broker.wire()?;
    send(&mut wire, TOPIC, 0, b"early")?;
    ensure!(wire.read()?.code == 0);
    broker.stop()?;
    let store = broker.folder().join("store/commitlog/00000000000000000000");
    let mut command = systemd.command(Some(PERIOD))?;
    let out = room.path().join("strace.log").display().to_string();
    command.extend(
        [
            "strace",
            "-D",
            "-f",
            "-o",
            &out,
            "-P",
            &store.display().to_string(),
            "-e",
            "trace=fdatasync,fsync",
            "-e",
            "inject=fdatasync,fsync:delay_enter=4000000:when=1",
        ]
        .map(str::to_owned),
    );
    broker.run_by(&command.iter().map(String::as_str).collect::<Vec<_>>());
    broker.start()?;
    systemd.await_message(&["WATCHDOG=1"])?;
    let mut wire = broker.wire()?;
    send(&mut wire, TOPIC, 0, b"late")?;
    let answer = wire.read()?;
    ensure!(answer.code == 0, "{answer:?}");
    let answered = Instant::now();
    until("a sign of life behind the answer", || {
        let is_late = |message: Message| message.text == "WATCHDOG=1\n" && answered < message.at;
        Ok(systemd.messages().into_iter().any(is_late))
    })?;
    let signs: Vec<_> = systemd
        .messages()
        .into_iter()
        .filter(|message| message.text.starts_with("WATCHDOG=1"))
        .collect();
    let gap = signs.windows(2).map(|pair| pair[1].at - pair[0].at).max();
    let gap = gap.context("no two signs of life")?;
    ensure!(
        PERIOD < gap,
        "systemd would have waited in vain for {PERIOD:?}, not for {gap:?}"
    );
    Ok(())
}

/// One broker alone: a stock producer tries three times without a pause, so it must never be refused.
#[test]
fn one_broker_is_restarted_under_load_and_no_send_fails() -> Result<()> {
    let _turn = Turn::alone();
    let room = room("unit-load")?;
    let systemd = Systemd::start(room.path())?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let mut broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[&name_server], &[])?;
    create_topic(&broker, &[&name_server], TOPIC, 4)?;
    broker.stop()?;
    start_under(&mut broker, &systemd, None)?;
    let mut load = Java::prepare("4.9.8")?.load(&name_server.address(), TOPIC, room.path())?;
    load.await_acked(300)?;
    load.await_consumed(300)?;
    for _ in 0..3 {
        broker.stop()?;
        start_under(&mut broker, &systemd, None)?;
        load.await_acked(300)?;
    }
    let (counted, text) = load.finish()?;
    ensure!(
        counted.failed == 0,
        "{} sends failed\n{text}",
        counted.failed
    );
    ensure!(
        counted.missing == 0,
        "{} are missing\n{text}",
        counted.missing
    );
    Ok(())
}

/// The log says who administered what, and its level follows a request.
#[test]
fn administration_is_in_the_log_and_the_level_follows_a_request() -> Result<()> {
    let room = room("audit")?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[&name_server], &[])?;
    create_topic(&broker, &[&name_server], TOPIC, 1)?;
    let said = |server: &Server, words: &[&str]| {
        until(&format!("{words:?} in the log"), || {
            let log = server.log()?;
            let has_all = |line: &str| words.iter().all(|word| line.contains(word));
            Ok(log.lines().any(has_all))
        })
    };
    let who = "administration from=127.0.0.1:";
    let created = "what=UPDATE_AND_CREATE_TOPIC";
    said(&broker, &[who, created, "topic=service", " result=SUCCESS"])?;
    broker
        .wire()?
        .call(17, &[("topic", "../x"), ("Signature", "hidden")], &[])?;
    said(
        &broker,
        &[who, created, "topic=../x", " result=SYSTEM_ERROR"],
    )?;
    ensure!(!broker.log()?.contains("hidden"));

    // Between the two changes of the level nothing is written.
    let level = |text: &[u8]| broker.wire()?.call(25, &[], text)?.success();
    level(b"logLevel=ERROR")?;
    create_topic(&broker, &[], "unheard-of", 1)?;
    level(b"logLevel=INFO")?;
    create_topic(&broker, &[], "known", 1)?;
    said(&broker, &[who, created, "topic=known"])?;
    ensure!(!broker.log()?.contains("unheard-of"));

    ensure!(!name_server.log()?.contains(" DEBUG "));
    name_server
        .wire()?
        .call(318, &[], b"logLevel=DEBUG")?
        .success()?;
    // Refusals are logged at that level.
    name_server
        .wire()?
        .call(105, &[("topic", "nobody-has-it")], &[])?;
    said(&name_server, &[" DEBUG "])?;
    said(
        &name_server,
        &["what=UPDATE_NAMESRV_CONFIG", "result=SUCCESS"],
    )
}

/// The doctor knows the broker that runs, and finds out a second one with its name.
#[test]
fn the_doctor_knows_a_running_broker_and_another_of_its_name() -> Result<()> {
    let room = room("doctor")?;
    let name_server = Server::name_server(Make::Gantry, room.path(), "namesrv")?;
    let broker = Server::broker(Make::Gantry, room.path(), "broker-a", &[&name_server], &[])?;
    let doctor = |file: &std::path::Path| -> Result<(Option<i32>, String)> {
        let program = gantry_e2e::programs::program("mqbroker")?;
        let mut command = std::process::Command::new(program);
        let output = command.args(["doctor", "-c"]).arg(file).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.status.code(), text))
    };
    let file = broker.folder().join("gantry.conf");
    let (code, text) = doctor(&file)?;
    ensure!(code == Some(0), "{code:?} {text}");
    for words in [
        "is this broker's, which runs",
        &format!("has broker-a 0 at {}", broker.address()),
        &format!("is in use by process {}: this broker", broker.pid()?),
    ] {
        ensure!(text.contains(words), "{words}: {text}");
    }
    // The same name on other ports, in another store.
    let twin = Server::broker(Make::Gantry, room.path(), "broker-b", &[], &[])?;
    let text = twin.configuration().replace("broker-b", "broker-a");
    drop(twin);
    let twin = room.path().join("twin.conf");
    let name_servers = format!("namesrvAddr={}\n", name_server.address());
    std::fs::write(&twin, text + &name_servers)?;
    let (code, text) = doctor(&twin)?;
    ensure!(code == Some(1), "{code:?} {text}");
    ensure!(text.contains("another broker has its name"), "{text}");
    Ok(())
}
