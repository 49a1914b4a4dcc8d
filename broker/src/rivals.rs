//! Another master of this broker's name: who of the two was promoted later is the master.
//!
//! Gantry's name servers tell with each registration. Apache's let the last one that registers have the name, so a master asks
//! them who else has it: before it serves, for it may have been replaced while it was down, and as long as it is a
//! promoted one, for the one that it replaced may come back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gantry_message::Epoch;
use gantry_net::client::{Connection, Options, Reply};
use gantry_wire::{
    HeaderEncode,
    bodies::{ClusterInfo, HaStatus},
    codes::{request, response},
    frame::FieldWriter,
    headers::TellEpoch,
};
use tokio::time;

use crate::{
    config::{BrokerConfig, name_server_list},
    live::LiveConfig,
    seats::Seats,
};

/// How long a name server or a rival may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a promoted master looks for the one that it replaced: as often as that one registers.
const PERIOD: Duration = Duration::from_secs(30);

/// Looks once, at all name servers; returns when each has answered or had its time.
pub async fn look(live: Arc<LiveConfig>, seats: Arc<Seats>) {
    let config = live.now();
    let name_servers = config.namesrv_addr.clone().unwrap_or_default();
    let mut asked = tokio::task::JoinSet::new();
    for name_server in name_server_list(&name_servers) {
        let (name_server, config) = (name_server.to_owned(), config.clone());
        asked.spawn(async move { rival(&name_server, &config).await });
    }
    let mut rivals: Vec<String> = asked.join_all().await.into_iter().flatten().collect();
    rivals.sort_unstable();
    rivals.dedup();
    for rival in rivals {
        if let Err(error) = settle(&rival, &seats).await {
            tracing::warn!(rival, error, "another master of this name is registered");
        }
    }
}

/// Looks again and again, for as long as there is a promoted master here.
pub async fn watch(live: Arc<LiveConfig>, seats: Arc<Seats>) {
    loop {
        time::sleep(PERIOD).await;
        if seats.now().is_master() && seats.epoch().is_some() {
            look(live.clone(), seats.clone()).await;
        }
    }
}

/// The brokers of that name, as a name server knows them.
pub async fn named(name_server: &str, broker: &str) -> Result<BTreeMap<i64, String>, String> {
    let reply = ask(name_server, request::GET_BROKER_CLUSTER_INFO, |_| {}).await?;
    let cluster = ClusterInfo::parse(&reply.body).map_err(|error| error.to_string())?;
    let brokers = cluster.broker_addr_table.get(broker);
    Ok(brokers
        .map(|data| data.broker_addrs.clone())
        .unwrap_or_default())
}

/// Who has our place at that name server, if somebody else has.
async fn rival(name_server: &str, config: &BrokerConfig) -> Option<String> {
    let named = named(name_server, &config.broker_name).await;
    let master = named
        .inspect_err(|error| {
            tracing::debug!(name_server, error, "who is registered cannot be told");
        })
        .ok()?
        .remove(&0)?;
    (master != config.broker_address()).then_some(master)
}

/// Finds out who of the two is the master, and tells the other one.
async fn settle(rival: &str, seats: &Arc<Seats>) -> Result<(), String> {
    let reply = ask(rival, request::HA_STATUS, |_| {}).await?;
    if reply.code != response::SUCCESS {
        return Err("it is Apache's broker, or an older Gantry, and cannot be told".to_owned());
    }
    let status = HaStatus::parse(&reply.body).map_err(|error| error.to_string())?;
    let theirs: Epoch = status
        .epoch
        .as_deref()
        .unwrap_or("0.0")
        .parse()
        .map_err(|error| format!("{error}"))?;
    let ours = seats.epoch();
    if theirs < ours {
        tracing::warn!(rival, %theirs, %ours, "a master of this name that was replaced is registered; it is told");
        let epoch = ours.to_string();
        let header = TellEpoch {
            epoch: &epoch,
            if_epoch: None,
            if_part: None,
            if_end: None,
        };
        let told = ask(rival, request::TELL_EPOCH, |fields| header.encode(fields)).await?;
        if told.code != response::SUCCESS {
            return Err(told.remark.unwrap_or_default());
        }
        return Ok(());
    }
    if theirs == ours {
        return Err(format!(
            "it is of the same promotion {ours}: is one of the two stores a copy of the other?"
        ));
    }
    let (seats, by) = (seats.clone(), format!("the master at {rival}"));
    tokio::task::spawn_blocking(move || seats.hear(theirs, &by))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

async fn ask(
    address: &str,
    code: i32,
    fields: impl FnMut(&mut FieldWriter<'_>),
) -> Result<Reply, String> {
    let options = Options {
        connect_timeout: ASK_TIMEOUT,
        ..Options::default()
    };
    let connection = Connection::connect(address, &options)
        .await
        .map_err(|error| error.to_string())?;
    let reply = connection.call(code, fields, [], ASK_TIMEOUT).await;
    reply.map_err(|error| error.to_string())
}
