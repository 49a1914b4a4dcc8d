//! updateTopic, deleteTopic, topicRoute, topicStatus, topicList.

use gantry_client::{Error, selected_address};
use gantry_message::{perm, topic};
use gantry_wire::bodies::{ClusterInfo, TopicConfig, TopicOffset, TopicRoute};

use super::targets;
use crate::{
    print::{cut, time_ms},
    session::{Failure, Session},
};

/// updateTopic: creates a topic or replaces its settings, all of them.
pub async fn update(session: &mut Session<'_>) -> Result<(), Failure> {
    let config = config_of(session)?;
    if let Some(address) = session.arguments.text('b').map(str::to_owned) {
        session.client.create_topic(&address, &config).await?;
        if config.order {
            let entry = format!(
                "{}:{}",
                targets::broker_name_of(session, &address).await?,
                config.write_queue_nums
            );
            let old = session
                .client
                .order_conf(&config.topic_name)
                .await?
                .unwrap_or_default();
            session
                .client
                .put_order_conf(&config.topic_name, &with_entry(&old, &entry))
                .await?;
            session.print(format_args!(
                "set broker orderConf. isOrder=true, orderConf=[{entry}]"
            ))?;
        }
        session.line(format_args!("create topic to {address} success."))?;
    } else {
        let cluster = session.arguments.required('c')?.to_owned();
        for address in targets::masters(session, &cluster).await? {
            session.client.create_topic(&address, &config).await?;
            session.line(format_args!("create topic to {address} success."))?;
        }
        if config.order {
            let entry = |name| format!("{name}:{}", config.write_queue_nums);
            let names = targets::broker_names(session, &cluster).await?;
            let conf = names.into_iter().map(entry).collect::<Vec<_>>().join(";");
            session
                .client
                .put_order_conf(&config.topic_name, &conf)
                .await?;
            session.print(format_args!(
                "set cluster orderConf. isOrder=true, orderConf=[{conf}]"
            ))?;
        }
    }
    // Without a newline, as RocketMQ's tool leaves it.
    session.print(shown(&config))
}

fn config_of(session: &Session<'_>) -> Result<TopicConfig, Failure> {
    let arguments = &session.arguments;
    let flag = |short, bit| {
        if arguments.boolean(short, false) {
            bit
        } else {
            0
        }
    };
    Ok(TopicConfig {
        topic_name: arguments.required('t')?.to_owned(),
        read_queue_nums: arguments.number('r', 8)?,
        write_queue_nums: arguments.number('w', 8)?,
        perm: arguments.number('p', perm::READ | perm::WRITE)?,
        topic_sys_flag: flag('u', 1) | flag('s', 2),
        order: arguments.boolean('o', false),
        ..TopicConfig::default()
    })
}

fn shown(config: &TopicConfig) -> String {
    format!(
        "TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, perm={}, topicFilterType={}, topicSysFlag={}, \
         order={}]",
        config.topic_name,
        config.read_queue_nums,
        config.write_queue_nums,
        perm::text(config.perm),
        config.topic_filter_type,
        config.topic_sys_flag,
        config.order
    )
}

/// An order configuration with a broker's entry replaced or added.
fn with_entry(old: &str, entry: &str) -> String {
    let name = |entry: &str| entry.split(':').next().unwrap_or_default().to_owned();
    let kept = old
        .split(';')
        .filter(|known| !known.trim().is_empty() && name(known) != name(entry));
    kept.chain([entry]).collect::<Vec<_>>().join(";")
}

/// deleteTopic: from every master of the cluster, then from the name servers.
pub async fn delete(session: &mut Session<'_>) -> Result<(), Failure> {
    let topic = session.arguments.required('t')?.to_owned();
    let cluster = session.arguments.required('c')?.to_owned();
    for address in targets::masters(session, &cluster).await? {
        session.client.delete_topic(&address, &topic).await?;
    }
    session.line(format_args!(
        "delete topic [{topic}] from cluster [{cluster}] success."
    ))?;
    session.client.forget_topic(&topic, &cluster).await?;
    session.line(format_args!(
        "delete topic [{topic}] from NameServer success."
    ))
}

/// topicRoute: as JSON, or with `-l` as a table.
pub async fn route(session: &mut Session<'_>) -> Result<(), Failure> {
    let mut route = session
        .client
        .route(session.arguments.required('t')?)
        .await?;
    route
        .broker_datas
        .sort_by(|left, right| left.broker_name.cmp(&right.broker_name));
    route
        .queue_datas
        .sort_by(|left, right| left.broker_name.cmp(&right.broker_name));
    if session.arguments.has('l') {
        return session.print(table(&route));
    }
    session.line(String::from_utf8_lossy(&route.encode_pretty()))
}

fn table(route: &TopicRoute) -> String {
    let row = |cells: [&str; 6]| {
        let [cluster, broker, addresses, read, write, perm] = cells;
        format!("{cluster:<45} {broker:<32} {addresses:<50} {read:<10} {write:<11} {perm:<5}\n")
    };
    let mut text = row([
        "#ClusterName",
        "#BrokerName",
        "#BrokerAddrs",
        "#ReadQueue",
        "#WriteQueue",
        "#Perm",
    ]);
    let (mut read_total, mut write_total) = (0_i64, 0_i64);
    for data in &route.broker_datas {
        let queues = route
            .queue_datas
            .iter()
            .rfind(|queues| queues.broker_name == data.broker_name);
        let queues = queues.cloned().unwrap_or_default();
        read_total += i64::from(queues.read_queue_nums);
        write_total += i64::from(queues.write_queue_nums);
        let addresses: Vec<_> = data
            .broker_addrs
            .iter()
            .map(|(id, address)| format!("{id}={address}"))
            .collect();
        text.push_str(&row([
            &data.cluster,
            &data.broker_name,
            &format!("{{{}}}", addresses.join(", ")),
            &queues.read_queue_nums.to_string(),
            &queues.write_queue_nums.to_string(),
            &queues.perm.to_string(),
        ]));
    }
    text.push_str(&"-".repeat(158));
    text.push('\n');
    let brokers = route
        .queue_datas
        .iter()
        .map(|queues| &queues.broker_name)
        .collect::<std::collections::BTreeSet<_>>();
    let (brokers, read, write) = (
        brokers.len().to_string(),
        read_total.to_string(),
        write_total.to_string(),
    );
    text.push_str(&row(["Total:", &brokers, "", &read, &write, ""]));
    text
}

/// topicStatus: the ends of every queue.
pub async fn status(session: &mut Session<'_>) -> Result<(), Failure> {
    let topic = session.arguments.required('t')?.to_owned();
    let route = session.client.route(&topic).await?;
    let mut rows = Vec::new();
    for address in targets::addresses(&route) {
        rows.extend(
            session
                .client
                .topic_stats(address, &topic)
                .await?
                .offset_table,
        );
    }
    if rows.is_empty() {
        return Err(Failure::Said("Not found the topic stats info".to_owned()));
    }
    rows.sort_by(|(left, _), (right, _)| {
        (&left.broker_name, left.queue_id).cmp(&(&right.broker_name, right.queue_id))
    });
    let header = [
        "#Broker Name",
        "#QID",
        "#Min Offset",
        "#Max Offset",
        "#Last Updated",
    ];
    let [broker, id, min, max, updated] = header;
    session.line(format_args!(
        "{broker:<32}  {id:<4}  {min:<20}  {max:<20}    {updated}"
    ))?;
    for (
        queue,
        TopicOffset {
            min_offset,
            max_offset,
            last_update_timestamp,
        },
    ) in rows
    {
        let updated = if 0 < last_update_timestamp {
            time_ms(last_update_timestamp)
        } else {
            String::new()
        };
        let (broker, id) = (cut(&queue.broker_name, 32), queue.queue_id);
        session.line(format_args!(
            "{broker:<32}  {id:<4}  {min_offset:<20}  {max_offset:<20}    {updated}"
        ))?;
    }
    Ok(())
}

/// topicList: every topic, with `-c` its cluster and consumer groups.
pub async fn list(session: &mut Session<'_>) -> Result<(), Failure> {
    if !session.arguments.has('c') {
        for topic in session.client.topics().await? {
            session.line(topic)?;
        }
        return Ok(());
    }
    let info = session.client.cluster_info().await?;
    // The header is narrower than the rows: RocketMQ's tool prints it so.
    session.line(format_args!(
        "{:<20}  {:<48}  {:<48}",
        "#Cluster Name", "#Topic", "#Consumer Group"
    ))?;
    for topic in session.client.topics().await? {
        if topic.starts_with(topic::RETRY_PREFIX) || topic.starts_with(topic::DLQ_PREFIX) {
            continue;
        }
        let (mut cluster, mut groups) = (String::new(), Vec::new());
        if let Err(error) = consumers(session, &info, &topic, &mut cluster, &mut groups).await {
            session.report(format_args!("{topic}: {error}"));
        }
        if groups.is_empty() {
            groups.push(String::new());
        }
        for group in groups {
            let (cluster, topic, group) = (cut(&cluster, 20), cut(&topic, 64), cut(&group, 64));
            session.line(format_args!("{cluster:<20}  {topic:<64}  {group:<64}"))?;
        }
    }
    Ok(())
}

/// The cluster of a topic's first broker, and the groups that this broker knows.
async fn consumers(
    session: &Session<'_>,
    info: &ClusterInfo,
    topic: &str,
    cluster: &mut String,
    groups: &mut Vec<String>,
) -> Result<(), Error> {
    let route = session.client.route(topic).await?;
    let Some(first) = route.broker_datas.first() else {
        return Ok(());
    };
    let of_first = info
        .cluster_addr_table
        .iter()
        .find(|(_, names)| names.contains(&first.broker_name));
    *cluster = of_first.map_or("null", |(name, _)| name).to_owned();
    if let Some(address) = selected_address(first) {
        *groups = session.client.groups_of_topic(address, topic).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_configuration_keeps_the_entries_of_other_brokers() {
        assert_eq!(with_entry("", "a:8"), "a:8");
        assert_eq!(with_entry("a:4;b:4", "a:8"), "b:4;a:8");
        assert_eq!(with_entry("ab:4;", "a:8"), "ab:4;a:8");
    }
}
