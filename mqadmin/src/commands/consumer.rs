//! updateSubGroup, consumerConnection, consumerProgress.

use std::collections::HashMap;

use gantry_client::Error;
use gantry_message::topic;
use gantry_wire::{
    bodies::{
        ConsumeStats, ConsumeType, ConsumerConnection, MessageQueue, OffsetWrapper,
        SubscriptionGroupConfig,
    },
    codes::response,
    version,
};

use super::targets;
use crate::{
    arguments::UsageError,
    print::{cut, time},
    session::{Failure, Session},
};

const NO_OFFSETS: &str = "Not found the consumer group consume stats, because return offset table is empty, maybe the \
                          consumer not consume any message";

/// updateSubGroup: creates a subscription group or replaces its settings, all of them.
pub async fn update_group(session: &mut Session<'_>) -> Result<(), Failure> {
    let config = config_of(session)?;
    if let Some(address) = session.arguments.text('b').map(str::to_owned) {
        session.client.create_group(&address, &config).await?;
        session.line(format_args!(
            "create subscription group to {address} success."
        ))?;
        return session.print(shown(&config));
    }
    let Some(cluster) = session.arguments.text('c').map(str::to_owned) else {
        return Err(UsageError::MissingTarget.into());
    };
    let mut any = false;
    for address in targets::masters(session, &cluster).await? {
        match session.client.create_group(&address, &config).await {
            Ok(()) => {
                any = true;
                session.line(format_args!(
                    "create subscription group to {address} success."
                ))?;
            }
            Err(error) => session.report(format_args!("{address}: {error}")),
        }
    }
    // Without a newline, as RocketMQ's tool leaves it.
    if any {
        session.print(shown(&config))
    } else {
        Ok(())
    }
}

fn config_of(session: &Session<'_>) -> Result<SubscriptionGroupConfig, UsageError> {
    let arguments = &session.arguments;
    let default = SubscriptionGroupConfig::default();
    Ok(SubscriptionGroupConfig {
        group_name: arguments.required('g')?.to_owned(),
        consume_enable: arguments.boolean('s', default.consume_enable),
        consume_from_min_enable: arguments.boolean('m', false),
        consume_broadcast_enable: arguments.boolean('d', false),
        retry_queue_nums: arguments.number('q', default.retry_queue_nums)?,
        retry_max_times: arguments.number('r', default.retry_max_times)?,
        broker_id: arguments.number('i', default.broker_id)?,
        which_broker_when_consume_slowly: arguments
            .number('w', default.which_broker_when_consume_slowly)?,
        notify_consumer_ids_changed_enable: arguments
            .boolean('a', default.notify_consumer_ids_changed_enable),
    })
}

fn shown(config: &SubscriptionGroupConfig) -> String {
    format!(
        "SubscriptionGroupConfig [groupName={}, consumeEnable={}, consumeFromMinEnable={}, consumeBroadcastEnable={}, \
         retryQueueNums={}, retryMaxTimes={}, brokerId={}, whichBrokerWhenConsumeSlowly={}, \
         notifyConsumerIdsChangedEnable={}]",
        config.group_name,
        config.consume_enable,
        config.consume_from_min_enable,
        config.consume_broadcast_enable,
        config.retry_queue_nums,
        config.retry_max_times,
        config.broker_id,
        config.which_broker_when_consume_slowly,
        config.notify_consumer_ids_changed_enable
    )
}

/// consumerConnection: who is connected, and what the group wants.
pub async fn connection(session: &mut Session<'_>) -> Result<(), Failure> {
    let group = session.arguments.required('g')?.to_owned();
    let mut found = match session.arguments.text('b') {
        Some(address) => session.client.consumer_connection(address, &group).await?,
        None => targets::group_connection(session, &group).await?,
    };
    if found.connection_set.is_empty() {
        return Err(targets::not_online("Not found the consumer group connection").into());
    }
    found
        .connection_set
        .sort_by(|left, right| left.client_id.cmp(&right.client_id));
    session.line(format_args!(
        "{:<36} {:<22} {:<10} #Version",
        "#ClientId", "#ClientAddr", "#Language"
    ))?;
    for client in &found.connection_set {
        let (id, address, version) = (
            &client.client_id,
            &client.client_addr,
            version::name(client.version),
        );
        let language = client.language.name().unwrap_or("null");
        session.line(format_args!(
            "{id:<36} {address:<22} {language:<10} {version}"
        ))?;
    }
    session.line("\nBelow is subscription:")?;
    session.line(format_args!("{:<20} #SubExpression", "#Topic"))?;
    for wanted in found.subscription_table.values() {
        session.line(format_args!("{:<20} {}", wanted.topic, wanted.sub_string))?;
    }
    session.line(format_args!("\nConsumeType: {}", found.consume_type))?;
    session.line(format_args!("MessageModel: {}", found.message_model))?;
    session.line(format_args!(
        "ConsumeFromWhere: {}",
        found.consume_from_where
    ))
}

/// consumerProgress: how far one group is in every queue, or all groups in one row each.
pub async fn progress(session: &mut Session<'_>) -> Result<(), Failure> {
    match session.arguments.text('g').map(str::to_owned) {
        Some(group) => progress_of(session, &group).await,
        None => progress_of_all(session).await,
    }
}

/// What all brokers of a group say about it.
pub(super) async fn consume_stats(
    session: &Session<'_>,
    group: &str,
) -> Result<ConsumeStats, Error> {
    let route = targets::group_route(session, group).await?;
    let mut all = ConsumeStats::default();
    for address in targets::addresses(&route) {
        let part = session.client.consume_stats(address, group).await?;
        all.offset_table.extend(part.offset_table);
        all.consume_tps += part.consume_tps;
    }
    if all.offset_table.is_empty() {
        Err(targets::not_online(NO_OFFSETS))
    } else {
        Ok(all)
    }
}

fn difference(offsets: &OffsetWrapper) -> i64 {
    offsets.broker_offset.wrapping_sub(offsets.consumer_offset)
}

fn total_difference(stats: &ConsumeStats) -> i64 {
    stats
        .offset_table
        .values()
        .map(difference)
        .fold(0, i64::wrapping_add)
}

async fn progress_of(session: &mut Session<'_>, group: &str) -> Result<(), Failure> {
    let stats = consume_stats(session, group).await?;
    let owners = match session.arguments.boolean('s', false) {
        true => Some(owners(session, group).await),
        false => None,
    };
    let titles = [
        "#Topic",
        "#Broker Name",
        "#QID",
        "#Broker Offset",
        "#Consumer Offset",
        "#Diff",
        "#LastTime",
    ];
    session.line(progress_line(titles, owners.as_ref().map(|_| "#Client IP")))?;
    let mut rows: Vec<_> = stats.offset_table.iter().collect();
    rows.sort_by_key(|(queue, _)| (&queue.topic, &queue.broker_name, queue.queue_id));
    for (queue, offsets) in rows {
        let last = if offsets.last_timestamp == 0 {
            "N/A".to_owned()
        } else {
            time(offsets.last_timestamp)
        };
        let cells = [
            cut(&queue.topic, 64),
            cut(&queue.broker_name, 32),
            &queue.queue_id.to_string(),
            &offsets.broker_offset.to_string(),
            &offsets.consumer_offset.to_string(),
            &difference(offsets).to_string(),
            &last,
        ];
        let owner = owners
            .as_ref()
            .map(|owners| owners.get(queue).map_or("N/A", String::as_str));
        session.line(progress_line(cells, owner))?;
    }
    session.line(format_args!("\nConsume TPS: {:.2}", stats.consume_tps))?;
    session.line(format_args!("Diff Total: {}", total_difference(&stats)))
}

/// With the client there is one blank less before the difference: RocketMQ's tool prints it so.
fn progress_line(cells: [&str; 7], client: Option<&str>) -> String {
    let [topic, broker, id, end, offset, difference, last] = cells;
    let client = client.map_or_else(String::new, |client| format!("{client:<20} "));
    format!(
        "{topic:<64}  {broker:<32}  {id:<4}  {end:<20}  {offset:<20}  {client}{difference:<20}  {last}"
    )
}

/// Which client holds which queue, as far as the clients can be asked; RocketMQ's tool leaves the rest `N/A`.
async fn owners(session: &mut Session<'_>, group: &str) -> HashMap<MessageQueue, String> {
    let mut owners = HashMap::new();
    if let Err(error) = ask_owners(session, group, &mut owners).await
        && error.code() != Some(response::CONSUMER_NOT_ONLINE)
    {
        session.report(error);
    }
    owners
}

async fn ask_owners(
    session: &Session<'_>,
    group: &str,
    owners: &mut HashMap<MessageQueue, String>,
) -> Result<(), Error> {
    let connection = targets::group_connection(session, group).await?;
    let route = targets::group_route(session, group).await?;
    let Some(address) = targets::addresses(&route).into_iter().next() else {
        return Ok(());
    };
    for client in &connection.connection_set {
        let info = session
            .client
            .consumer_running_info(address, group, &client.client_id)
            .await?;
        let name = client.client_id.split('@').next().unwrap_or_default();
        owners.extend(
            info.mq_table
                .into_keys()
                .map(|queue| (queue, name.to_owned())),
        );
    }
    Ok(())
}

async fn progress_of_all(session: &mut Session<'_>) -> Result<(), Failure> {
    let topics = session.client.topics().await?;
    session.line(all_line([
        "#Group",
        "#Count",
        "#Version",
        "#Type",
        "#Model",
        "#TPS",
        "#Diff Total",
    ]))?;
    for group in topics.iter().filter_map(|topic| topic::retry_group(topic)) {
        let stats = consume_stats(session, group).await;
        let stats = known(session, group, stats).unwrap_or_default();
        let connection = targets::group_connection(session, group).await;
        let connection = known(session, group, connection).unwrap_or_default();
        session.line(all_row(group, &stats, &connection))?;
    }
    Ok(())
}

/// A group that is offline or has no offsets has zeros in its row; any other failure is told beside them.
fn known<T>(session: &mut Session<'_>, group: &str, outcome: Result<T, Error>) -> Option<T> {
    match outcome {
        Ok(known) => Some(known),
        Err(error) if error.code() == Some(response::CONSUMER_NOT_ONLINE) => None,
        Err(error) => {
            session.report(format_args!("{group}: {error}"));
            None
        }
    }
}

fn all_line(cells: [&str; 7]) -> String {
    let [group, count, version, kind, model, tps, difference] = cells;
    format!("{group:<64}  {count:<6}  {version:<24} {kind:<5}  {model:<14}  {tps:<7}  {difference}")
}

fn all_row(group: &str, stats: &ConsumeStats, connection: &ConsumerConnection) -> String {
    let count = connection.connection_set.len();
    let lowest = connection
        .connection_set
        .iter()
        .map(|client| client.version)
        .min();
    let pulls = connection.consume_type == ConsumeType::Actively;
    let passive = connection.consume_type == ConsumeType::Passively;
    all_line([
        cut(group, 64),
        &count.to_string(),
        &lowest.map_or_else(|| "OFFLINE".to_owned(), version::name),
        if count == 0 {
            ""
        } else if pulls {
            "PULL"
        } else {
            "PUSH"
        },
        if count != 0 && passive {
            connection.message_model.name()
        } else {
            ""
        },
        &stats.consume_tps.trunc().to_string(),
        &total_difference(stats).to_string(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_in_the_overview_shows_its_oldest_client() {
        let stats = ConsumeStats::parse(
            br#"{"consumeTps":1.9,"offsetTable":{{"brokerName":"a","queueId":0,"topic":"T"}:{"brokerOffset":12,
                "consumerOffset":2,"lastTimestamp":0}}}"#,
        );
        let connection = ConsumerConnection::parse(
            br#"{"connectionSet":[{"clientAddr":"a","clientId":"i","language":"JAVA","version":409},
                {"clientAddr":"b","clientId":"j","language":"GO","version":317}],
                "consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","subscriptionTable":{}}"#,
        );
        let (stats, connection) = (stats.unwrap(), connection.unwrap());
        assert_eq!(
            all_row("group_a", &stats, &connection),
            "group_a                                                           2       V4_5_2                   PUSH   \
             CLUSTERING      1        10"
        );
        let active = ConsumerConnection {
            consume_type: ConsumeType::Actively,
            ..connection
        };
        assert!(all_row("g", &stats, &active).contains(" PULL                   1 "));
        assert_eq!(
            all_row(
                "group_b",
                &ConsumeStats::default(),
                &ConsumerConnection::default()
            ),
            "group_b                                                           0       OFFLINE                       \
             \u{20}                 0        0"
        );
    }
}
