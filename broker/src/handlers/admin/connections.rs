//! Who is connected: the members of a consumer group (203) or producer group (204), and all producers (328).

use std::sync::Arc;

use gantry_wire::bodies::{
    Connection, ConsumerConnection, ProducerConnection, ProducerInfo, ProducerTable,
};
use gantry_wire::headers::{GetConsumerConnectionList, GetProducerConnectionList};
use gantry_wire::{Request, Response};

use crate::clients::{Clients, Member};
use crate::refusal::Refusal;

/// The parts that requests about connections need.
pub struct Connections {
    /// Who is connected.
    pub clients: Arc<Clients>,
}

impl Connections {
    /// Serves 203.
    pub fn consumers(&self, request: &Request) -> Result<Response, Refusal> {
        let header: GetConsumerConnectionList<'_> = request.header()?;
        let group = self.clients.consumer(header.consumer_group);
        let group = group.ok_or_else(|| Refusal::consumer_not_online(header.consumer_group))?;
        let subscriptions = group.subscriptions.iter();
        let body = ConsumerConnection {
            connection_set: group
                .members
                .values()
                .map(|member| connection(member))
                .collect(),
            consume_from_where: group.consume_from_where,
            consume_type: group.consume_type,
            message_model: group.message_model,
            subscription_table: subscriptions
                .map(|(topic, subscribed)| (topic.to_string(), subscribed.data.clone()))
                .collect(),
        };
        Ok(Response::with_body(body.encode()))
    }

    /// Serves 204.
    pub fn producers(&self, request: &Request) -> Result<Response, Refusal> {
        let header: GetProducerConnectionList<'_> = request.header()?;
        let group = self.clients.producers(header.producer_group);
        let group = group.ok_or_else(|| Refusal::producer_not_exist(header.producer_group))?;
        let connection_set = group
            .members
            .values()
            .map(|member| connection(member))
            .collect();
        Ok(Response::with_body(
            ProducerConnection { connection_set }.encode(),
        ))
    }

    /// Serves 328.
    pub fn all_producers(&self) -> Response {
        let groups = self.clients.producer_groups();
        let data = groups.iter().map(|group| {
            let infos = group.members.values().map(|member| ProducerInfo {
                client_id: member.client_id.to_string(),
                language: member.language,
                last_update_timestamp: member.last_update().0,
                remote_ip: format!("/{}", member.address),
                version: member.version,
            });
            (group.name.to_string(), infos.collect())
        });
        Response::with_body(
            ProducerTable {
                data: data.collect(),
            }
            .encode(),
        )
    }
}

fn connection(member: &Member) -> Connection {
    Connection {
        client_addr: member.address.to_string(),
        client_id: member.client_id.to_string(),
        language: member.language,
        version: member.version,
    }
}
