//! The `mqnamesrv` program: options, logs, signals. What it runs is the library.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use gantry_config::{Loaded, Options, options, print};
use gantry_disk::OsDisk;
use gantry_namesrv::config::{NamesrvConfig, PROGRAM};
use gantry_namesrv::live::Live;
use gantry_namesrv::{NameServer, reload};
use gantry_service::{
    Failure, Logging, Signals, Sockets, Start, events, limits, logging, notify, startup,
};

fn main() -> ExitCode {
    let loaded = match startup::begin(&PROGRAM) {
        Start::Run(loaded) => *loaded,
        Start::Exit(code) => return code,
    };
    let sockets = Sockets::inherited();
    let server = &loaded.config.server;
    let plan = logging::Plan {
        name: "namesrv",
        folder: PathBuf::from(&server.log_dir),
        level: server.log_level,
    };
    let logs = logging::start(&plan);
    startup::announce(PROGRAM.name, &loaded.findings);
    match serve(loaded, sockets, &logs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(PROGRAM.name),
    }
}

fn serve(loaded: Loaded<NamesrvConfig>, sockets: Sockets, logs: &Logging) -> Result<(), Failure> {
    let files = limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from_error)?;
    runtime.block_on(async {
        let mut signals = Signals::take().map_err(Failure::from_error)?;
        let settings = Arc::new(Live::new(loaded.config));
        let server = NameServer::start(settings.clone(), Arc::new(OsDisk), sockets)?;
        tracing::info!(
            "listening on {}, {files} open files allowed, logs: {:?}",
            server.address(),
            logs.destination()
        );
        tracing::debug!("configuration:\n{}", print::all(&*settings.get()));
        if let Some(file) = startup::configuration_file(&arguments()) {
            logging::banner(&format!("load config properties file OK, {file}"));
        }
        logging::banner("The Name Server boot success. serializeType=JSON");
        warn_if_open(&settings.get());
        notify::ready(&server.status());
        let signal = signals.stop(|| read_again(&server, &settings)).await;
        tracing::info!(message_id = events::STOPPING, "{signal}: stopping");
        notify::stopping("Stopping: answering what was read");
        server.stop().await;
        tracing::info!(message_id = events::STOPPED, "stopped");
        Ok(())
    })
}

/// Open to everybody is RocketMQ's way; nobody shall be surprised by it (decision 18).
fn warn_if_open(settings: &NamesrvConfig) {
    if settings.server.is_insecure() {
        tracing::warn!(
            message_id = events::INSECURE,
            "INSECURE: everybody who reaches this host can change routes and settings; set bindAddress=127.0.0.1 or \
             adminOpen=false, or close the port to strangers"
        );
    }
}

/// SIGHUP: the same options, files and environment, read again.
fn read_again(server: &NameServer, settings: &Live<NamesrvConfig>) {
    notify::reloading();
    let options = arguments();
    let fresh = startup::load(&PROGRAM, &options, |name| std::env::var(name).ok());
    startup::announce_again(PROGRAM.name, &fresh);
    let mut status = String::new();
    if let Some(error) = fresh.first_error() {
        tracing::error!(
            message_id = events::NOT_RELOADED,
            "the configuration has errors; everything stays as it was"
        );
        status = format!("NOT RELOADED: {error}; ");
    } else {
        let reloaded = reload::take_up(settings, &fresh.config);
        tracing::info!(
            message_id = events::RELOADED,
            "configuration read again; taken up: {:?}; what needs a restart: {:?}",
            reloaded.taken_up,
            reloaded.need_restart
        );
        server.needs_restart(reloaded.need_restart);
        logging::set_level(fresh.config.server.log_level);
    }
    status += &server.status();
    notify::ready(&status);
}

/// The command line, which `startup::begin` has found to be right.
fn arguments() -> Options {
    let text = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned());
    options::parse(text).unwrap_or_else(|error| {
        unreachable!("the same arguments were parsed at the start: {error}")
    })
}
