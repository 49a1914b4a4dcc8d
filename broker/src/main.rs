//! The `mqbroker` program: options and logs, then a broker until a signal says stop; or one of its commands.

use std::{process::ExitCode, sync::Arc};

use gantry_broker::{
    broker::Broker,
    config::{BrokerConfig, boot},
    host_command, store_command,
};
use gantry_config::options;
use gantry_disk::OsDisk;
use gantry_service::{
    Failure, Signals, Sockets, Start, StopOrder, events, limits, logging, notify, startup,
};

fn main() -> ExitCode {
    let command = store_command::run_if_asked(arguments());
    if let Some(code) = command.or_else(|| host_command::run_if_asked(arguments())) {
        return code;
    }
    let loaded = match startup::begin(&boot::PROGRAM) {
        Start::Run(loaded) => loaded,
        Start::Exit(code) => return code,
    };
    let sockets = Sockets::inherited();
    let plan = logging::Plan {
        name: "broker",
        folder: loaded.config.log_folder(),
        level: loaded.config.server.log_level,
    };
    let _logging = logging::start(&plan);
    startup::announce(boot::PROGRAM.name, &loaded.findings);
    match run(loaded.config, sockets) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(boot::PROGRAM.name),
    }
}

fn run(config: BrokerConfig, sockets: Sockets) -> Result<(), Failure> {
    limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .build()
        .map_err(|error| Failure::other(format!("no runtime: {error}")))?;
    let order = StopOrder::default();
    let ended = runtime.block_on(serve(config, sockets, &order));
    if order.is_given() {
        // A start that was told to stop leaves threads that look up names or wait for name servers: nobody waits for them.
        runtime.shutdown_background();
    }
    ended
}

/// Starts, and again when the broker must, until a signal says stop.
async fn serve(config: BrokerConfig, sockets: Sockets, order: &StopOrder) -> Result<(), Failure> {
    let mut signals =
        Signals::take().map_err(|error| Failure::other(format!("signals: {error}")))?;
    let start = Broker::start_on(Arc::new(OsDisk), config, sockets, order);
    let mut started = signals.while_starting(order, start, tell).await?;
    while let Some(broker) = started {
        if order.is_given() {
            return broker.stop().await;
        }
        logging::banner(broker.banner());
        notify::ready(&broker.status());
        let again = tokio::select! {
            signal = signals.stop(|| read_again(&broker)) => {
                tell(signal);
                return broker.stop().await;
            }
            again = broker.again() => again,
        };
        let start = broker.start_again(again, order);
        started = signals.while_starting(order, start, tell).await?;
    }
    Ok(())
}

/// A signal asks to stop.
fn tell(signal: &'static str) {
    notify::stopping("Stopping");
    tracing::info!(message_id = events::STOPPING, signal, "stopping");
}

/// SIGHUP: the same options, files and environment, read again.
fn read_again(broker: &Broker) {
    notify::reloading();
    let mut status = String::new();
    // The arguments were parsed at the start, so they parse.
    if let Ok(options) = options::parse(arguments()) {
        loop {
            let generation = broker.config_generation();
            let fresh = startup::load(&boot::PROGRAM, &options, |name| std::env::var(name).ok());
            startup::announce_again(boot::PROGRAM.name, &fresh);
            if let Some(error) = fresh.first_error() {
                tracing::error!(
                    message_id = events::NOT_RELOADED,
                    "the configuration has errors; everything stays as it was"
                );
                status = format!("NOT RELOADED: {error}; ");
                break;
            }
            if broker.reload(&fresh.config, generation) {
                logging::set_level(fresh.config.server.log_level);
                break;
            }
            // An administrator changed a setting in between: it is in the files by now.
        }
    }
    status += &broker.status();
    notify::ready(&status);
}

fn arguments() -> impl Iterator<Item = String> {
    std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
}
