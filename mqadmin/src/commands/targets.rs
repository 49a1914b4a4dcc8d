//! From what an operator names to the addresses that are asked.

use gantry_client::{Error, Refused, selected_address};
use gantry_message::topic;
use gantry_wire::{
    bodies::{BrokerData, ClusterInfo, ConsumerConnection, TopicRoute},
    codes::response,
};

use crate::session::{Failure, Session};

/// RocketMQ's words when nothing of the name is found.
pub(super) const NOT_FOUND: &str = "[error] Make sure the specified clusterName exists or the name server connected to is correct.";

/// The brokers of a cluster, by name; an unknown cluster is a failure.
fn brokers_of<'a>(
    info: &'a ClusterInfo,
    cluster: &str,
) -> Result<impl Iterator<Item = &'a BrokerData>, Failure> {
    let names = info
        .cluster_addr_table
        .get(cluster)
        .ok_or_else(|| Failure::Said(NOT_FOUND.to_owned()))?;
    Ok(names
        .iter()
        .filter_map(|name| info.broker_addr_table.get(name)))
}

/// The masters of a cluster, by broker name. That there is none is a failure: nothing would be done.
pub(super) async fn masters(session: &Session<'_>, cluster: &str) -> Result<Vec<String>, Failure> {
    let info = session.client.cluster_info().await?;
    let masters: Vec<_> = brokers_of(&info, cluster)?
        .filter_map(|data| data.broker_addrs.get(&0).cloned())
        .collect();
    if masters.is_empty() {
        return Err(Failure::Said(format!(
            "no master of cluster {cluster} is registered"
        )));
    }
    Ok(masters)
}

/// Masters and slaves of a cluster, by broker name and id.
pub(super) async fn members(session: &Session<'_>, cluster: &str) -> Result<Vec<String>, Failure> {
    let info = session.client.cluster_info().await?;
    Ok(brokers_of(&info, cluster)?
        .flat_map(|data| data.broker_addrs.values().cloned())
        .collect())
}

/// Masters and slaves of a cluster, or of all clusters when none is named. Nobody if there is no such cluster.
pub(super) async fn members_or_all(
    session: &Session<'_>,
    cluster: &str,
) -> Result<Vec<String>, Failure> {
    let info = session.client.cluster_info().await?;
    let mut clusters = info.cluster_addr_table.keys();
    let mut all = Vec::new();
    while let Some(name) = clusters.find(|name| cluster.is_empty() || *name == cluster) {
        all.extend(brokers_of(&info, name)?.flat_map(|data| data.broker_addrs.values().cloned()));
    }
    Ok(all)
}

/// The broker names of a cluster.
pub(super) async fn broker_names(
    session: &Session<'_>,
    cluster: &str,
) -> Result<Vec<String>, Failure> {
    let info = session.client.cluster_info().await?;
    Ok(brokers_of(&info, cluster)?
        .map(|data| data.broker_name.clone())
        .collect())
}

/// The name of the broker at an address.
pub(super) async fn broker_name_of(
    session: &Session<'_>,
    address: &str,
) -> Result<String, Failure> {
    let info = session.client.cluster_info().await?;
    let here = |(_, data): &(&String, &BrokerData)| {
        data.broker_addrs.values().any(|known| known == address)
    };
    let found = info
        .broker_addr_table
        .iter()
        .find(here)
        .map(|(name, _)| name.clone());
    found.ok_or_else(|| Failure::Said(NOT_FOUND.to_owned()))
}

/// One address a broker of a route, by broker name: its master, or a slave if it has none.
pub(super) fn addresses(route: &TopicRoute) -> Vec<&str> {
    let mut datas: Vec<_> = route.broker_datas.iter().collect();
    datas.sort_by(|left, right| left.broker_name.cmp(&right.broker_name));
    datas.into_iter().filter_map(selected_address).collect()
}

/// Where a group lives: the route of its retry topic.
pub(super) async fn group_route(session: &Session<'_>, group: &str) -> Result<TopicRoute, Error> {
    session.client.route(&topic::retry(group)).await
}

/// The connections of a group, as the first broker tells that knows any. RocketMQ's tool asks one broker at random, which
/// may not know a group that others do.
pub(super) async fn group_connection(
    session: &Session<'_>,
    group: &str,
) -> Result<ConsumerConnection, Error> {
    let route = group_route(session, group).await?;
    let mut outcome = Err(not_online("Not found the consumer group connection"));
    for address in addresses(&route) {
        match session.client.consumer_connection(address, group).await {
            Ok(connection) if !connection.connection_set.is_empty() => return Ok(connection),
            Ok(_) => {}
            Err(error) if error.code() == Some(response::CONSUMER_NOT_ONLINE) => {
                outcome = Err(error)
            }
            Err(error) => return Err(error),
        }
    }
    outcome
}

/// A refusal that this side makes, as RocketMQ's tool words it.
pub(super) fn not_online(remark: &str) -> Error {
    Error::Refused(Refused {
        code: response::CONSUMER_NOT_ONLINE,
        remark: remark.to_owned(),
        broker: None,
    })
}
