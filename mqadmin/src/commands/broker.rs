//! brokerStatus.

use std::fmt::Write as _;

use gantry_client::Error;

use super::targets;
use crate::session::{Failure, Session};

/// brokerStatus: every figure of one broker, or of all brokers of a cluster.
pub async fn status(session: &mut Session<'_>) -> Result<(), Failure> {
    if let Some(address) = session.arguments.text('b').map(str::to_owned) {
        let figures = figures(session, &address, "").await?;
        return session.print(figures);
    }
    let Some(cluster) = session.arguments.text('c').map(str::to_owned) else {
        return Err(Failure::Said(
            "missing -b/--brokerAddr or -c/--clusterName".to_owned(),
        ));
    };
    for address in targets::members(session, &cluster).await? {
        match figures(session, &address, &format!("{address:<24} ")).await {
            Ok(figures) => session.print(figures)?,
            Err(error) => session.report(format_args!("{address}: {error}")),
        }
    }
    Ok(())
}

/// One line a figure, sorted by name.
async fn figures(session: &Session<'_>, address: &str, before: &str) -> Result<String, Error> {
    let mut text = String::new();
    for (name, value) in session.client.runtime_info(address).await?.table {
        let _ = writeln!(text, "{before}{name:<32}: {value}");
    }
    Ok(text)
}
