//! What became of a message at each consumer group, as far as offsets tell.
//!
//! `CONSUMED` means that the group's offset is beyond the message, not that it was handled: a message in a retry or
//! dead-letter topic is consumed too. After a failover the store host differs from the master and nothing is.

use gantry_client::{Error, selected_address};
use gantry_message::{RecordView, properties};
use gantry_wire::{
    bodies::{ConsumeType, ConsumerConnection},
    codes::response,
};

use super::{consumer::consume_stats, targets};
use crate::session::Session;

/// One text a group that is online or has offsets on the message's topic.
pub(super) async fn tracks(
    session: &Session<'_>,
    record: &RecordView<'_>,
) -> Result<Vec<String>, Error> {
    let route = session.client.route(record.topic()).await?;
    let Some(address) = route.broker_datas.first().and_then(selected_address) else {
        return Ok(Vec::new());
    };
    let mut tracks = Vec::new();
    for group in session
        .client
        .groups_of_topic(address, record.topic())
        .await?
    {
        let (state, reason) = match state(session, record, &group).await {
            Ok(state) => (state, "null".to_owned()),
            Err(error) => failed(&error),
        };
        tracks.push(format!(
            "MessageTrack [consumerGroup={group}, trackType={state}, exceptionDesc={reason}]"
        ));
    }
    Ok(tracks)
}

async fn state(
    session: &Session<'_>,
    record: &RecordView<'_>,
    group: &str,
) -> Result<&'static str, Error> {
    let connection = targets::group_connection(session, group).await?;
    match connection.consume_type {
        ConsumeType::Actively => Ok("PULL"),
        ConsumeType::Passively if !is_behind(session, record, group).await? => {
            Ok("NOT_CONSUME_YET")
        }
        ConsumeType::Passively if is_filtered(&connection, record) => Ok("CONSUMED_BUT_FILTERED"),
        ConsumeType::Passively => Ok("CONSUMED"),
        ConsumeType::Pop => Ok("UNKNOWN"),
    }
}

fn failed(error: &Error) -> (&'static str, String) {
    let state = if error.code() == Some(response::CONSUMER_NOT_ONLINE) {
        "NOT_ONLINE"
    } else {
        "UNKNOWN"
    };
    let reason = match error {
        Error::Refused(refused) => format!("CODE:{} DESC:{}", refused.code, refused.remark),
        other => other.to_string(),
    };
    (state, reason)
}

/// Whether the group has the message's queue behind it, on the broker that stores it.
async fn is_behind(
    session: &Session<'_>,
    record: &RecordView<'_>,
    group: &str,
) -> Result<bool, Error> {
    let stats = consume_stats(session, group).await?;
    let info = session.client.cluster_info().await?;
    let store_host = record.store_host().to_string();
    Ok(stats.offset_table.iter().any(|(queue, offsets)| {
        let master = info
            .broker_addr_table
            .get(&queue.broker_name)
            .and_then(|data| data.broker_addrs.get(&0));
        queue.topic == record.topic()
            && i64::from(queue.queue_id) == i64::from(record.queue_id().0)
            && master == Some(&store_host)
            && i64::try_from(record.queue_offset().0).is_ok_and(|at| at < offsets.consumer_offset)
    }))
}

/// Whether the group's tags leave the message out.
fn is_filtered(connection: &ConsumerConnection, record: &RecordView<'_>) -> bool {
    let Some(wanted) = connection.subscription_table.get(record.topic()) else {
        return false;
    };
    let tags = &wanted.tags_set;
    let tag = properties::find_str(record.properties(), properties::TAGS);
    !tags.is_empty() && !tags.contains("*") && !tag.is_some_and(|tag| tags.contains(tag))
}
