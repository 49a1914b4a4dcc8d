//! cleanExpiredCQ, cleanUnusedTopic, deleteExpiredCommitLog: one request to one broker, to a cluster's or to all.
//!
//! The answer is one word without a line's end: `success`, or `false` when there was nobody to ask.

use gantry_client::Error;

use super::targets;
use crate::session::{Failure, Session};

/// cleanExpiredCQ: removes queues all of whose messages are gone.
pub async fn expired_queues(session: &mut Session<'_>) -> Result<(), Failure> {
    let client = session.client.clone();
    everywhere(session, async |broker| {
        client.clean_expired_queues(broker).await
    })
    .await
}

/// cleanUnusedTopic: removes queues of topics that are not known any more.
pub async fn unused_topics(session: &mut Session<'_>) -> Result<(), Failure> {
    let client = session.client.clone();
    everywhere(session, async |broker| {
        client.clean_unused_topics(broker).await
    })
    .await
}

/// deleteExpiredCommitLog: deletes expired files of the log, whatever the hour.
pub async fn expired_logs(session: &mut Session<'_>) -> Result<(), Failure> {
    let client = session.client.clone();
    everywhere(session, async |broker| {
        client.delete_expired_logs(broker).await
    })
    .await
}

/// Asks every broker that is meant. One that fails keeps no other from being asked.
async fn everywhere(
    session: &mut Session<'_>,
    ask: impl AsyncFn(&str) -> Result<(), Error>,
) -> Result<(), Failure> {
    if let Some(broker) = session.arguments.text('b').map(str::to_owned) {
        ask(&broker).await?;
        return session.print("success");
    }
    let cluster = session.arguments.text('c').unwrap_or_default().to_owned();
    let brokers = targets::members_or_all(session, &cluster).await?;
    if brokers.is_empty() {
        session.report(targets::NOT_FOUND);
        return session.print("false");
    }
    for broker in brokers {
        if let Err(error) = ask(&broker).await {
            session.report(format_args!("{broker}: {error}"));
        }
    }
    match session.has_failed() {
        true => Ok(()),
        false => session.print("success"),
    }
}
