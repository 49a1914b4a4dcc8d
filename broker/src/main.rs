//! The `mqbroker` program: options and logs, then a broker until a signal says stop.

use std::process::ExitCode;

use gantry_broker::{
    broker::Broker,
    config::{BrokerConfig, boot},
};
use gantry_service::{Failure, Logging, Signals, Start, limits, logging, notify, startup};

fn main() -> ExitCode {
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

fn run(config: BrokerConfig, _logging: &Logging) -> Result<(), Failure> {
    limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .build()
        .map_err(|error| Failure::other(format!("no runtime: {error}")))?;
    runtime.block_on(async {
        let mut signals =
            Signals::take().map_err(|error| Failure::other(format!("signals: {error}")))?;
        let broker = Broker::start(config).await?;
        logging::banner(broker.banner());
        notify::ready(broker.banner());
        let signal = signals
            .stop(|| tracing::info!("SIGHUP: nothing to reload"))
            .await;
        notify::stopping(signal);
        tracing::info!(signal, "stopping");
        broker.stop().await
    })
}
