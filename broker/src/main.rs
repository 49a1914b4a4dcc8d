//! The `mqbroker` program: options and logs, then a broker until a signal says stop; or one of its commands.

use std::process::ExitCode;

use gantry_broker::{
    broker::Broker,
    config::{BrokerConfig, boot},
    store_command,
};
use gantry_config::options;
use gantry_service::{Failure, Logging, Signals, Start, limits, logging, notify, startup};

fn main() -> ExitCode {
    if let Some(code) = store_command::run_if_asked(arguments()) {
        return code;
    }
    let loaded = match startup::begin(&boot::PROGRAM) {
        Start::Run(loaded) => loaded,
        Start::Exit(code) => return code,
    };
    let plan = logging::Plan {
        name: "broker",
        folder: loaded.config.log_folder(),
        level: loaded.config.server.log_level,
    };
    let logging = logging::start(&plan);
    startup::announce(boot::PROGRAM.name, &loaded.findings);
    match run(loaded.config, &logging) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(boot::PROGRAM.name),
    }
}

fn run(config: BrokerConfig, logging: &Logging) -> Result<(), Failure> {
    limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .build()
        .map_err(|error| Failure::other(format!("no runtime: {error}")))?;
    runtime.block_on(async {
        let mut signals =
            Signals::take().map_err(|error| Failure::other(format!("signals: {error}")))?;
        let mut broker = Broker::start(config).await?;
        loop {
            logging::banner(broker.banner());
            notify::ready(broker.banner());
            let cut = tokio::select! {
                signal = signals.stop(|| read_again(&broker, logging)) => {
                    notify::stopping(signal);
                    tracing::info!(signal, "stopping");
                    return broker.stop().await;
                }
                cut = broker.cut() => cut,
            };
            tracing::warn!(why = cut.why, "starting again without the end of the log");
            let config = broker.config();
            broker.stop().await?;
            broker = Broker::start_cut(config, cut).await?;
        }
    })
}

/// SIGHUP: the same options, files and environment, read again.
fn read_again(broker: &Broker, logging: &Logging) {
    notify::reloading();
    // The arguments were parsed at the start, so they parse.
    if let Ok(options) = options::parse(arguments()) {
        loop {
            let generation = broker.config_generation();
            let fresh = startup::load(&boot::PROGRAM, &options, |name| std::env::var(name).ok());
            startup::announce(boot::PROGRAM.name, &fresh.findings);
            if fresh.refused() {
                tracing::error!("the configuration has errors; everything stays as it was");
                break;
            }
            if broker.reload(&fresh.config, generation) {
                logging.set_level(fresh.config.server.log_level);
                break;
            }
            // An administrator changed a setting in between: it is in the files by now.
        }
    }
    notify::ready(&broker.status());
}

fn arguments() -> impl Iterator<Item = String> {
    std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
}
