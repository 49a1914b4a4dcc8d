//! Clients that leave (35), ask who else is there (38), or want to know whether a subscription would work (46).
//!
//! None of it touches a disk.

use std::sync::Arc;

use gantry_filter::is_tag_type;
use gantry_net::Peer;
use gantry_wire::{
    Request, Response,
    bodies::{CheckClientRequest, ConsumerIds},
    headers::{GetConsumerListByGroup, UnregisterClient},
};

use crate::{
    clients::{Clients, GroupNotice},
    refusal::Refusal,
    tables::Groups,
};

/// The parts that requests about clients need.
pub struct ClientRequests {
    /// Whether a group's members are told of changes.
    pub groups: Arc<Groups>,
    /// Who is connected.
    pub clients: Arc<Clients>,
}

impl ClientRequests {
    /// Serves 35: a client leaves a producer group, a consumer group, or both.
    pub fn unregister(&self, peer: &Peer, request: &Request) -> Result<Response, Refusal> {
        let header: UnregisterClient<'_> = request.header()?;
        if let Some(group) = header.producer_group {
            self.clients.unregister_producer(peer.id(), group);
        }
        if let Some(group) = header.consumer_group {
            let config = self.groups.get(group);
            let is_told = config.is_none_or(|config| config.notify_consumer_ids_changed_enable);
            let notice = if is_told {
                GroupNotice::Send
            } else {
                GroupNotice::Omit
            };
            self.clients.unregister_consumer(peer.id(), group, notice);
        }
        Ok(Response::ok())
    }

    /// Serves 38: the client ids of a consumer group, among which its members share the queues.
    pub fn list(&self, request: &Request) -> Result<Response, Refusal> {
        let header: GetConsumerListByGroup<'_> = request.header()?;
        let ids = self.clients.consumer_ids(header.consumer_group);
        if ids.is_empty() {
            return Err(Refusal::no_consumer(header.consumer_group));
        }
        Ok(Response::with_body(
            ConsumerIds {
                consumer_id_list: ids,
            }
            .encode(),
        ))
    }

    /// Serves 46: tags always work, other filters are not served.
    pub fn check(&self, request: &Request) -> Result<Response, Refusal> {
        let body = CheckClientRequest::parse(&request.body)?;
        match &body.subscription_data {
            Some(data) if !is_tag_type(Some(&data.expression_type)) => {
                Err(Refusal::filter_type_not_supported(&data.expression_type))
            }
            _ => Ok(Response::ok()),
        }
    }
}
