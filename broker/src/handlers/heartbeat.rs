//! Heartbeats (34): a client says every 30 s which groups it is in and what they subscribe.
//!
//! A heartbeat creates the groups it names and their retry topics, when they may be created; then it registers the client.
//! Only the creating touches a disk: [`Heartbeat::beat_if_known`] serves where nothing may block and says when it cannot.

use std::sync::Arc;

use gantry_message::{Millis, topic};
use gantry_net::Peer;
use gantry_wire::{
    Request, Response,
    bodies::{ConsumerData, Heartbeat as Body},
};

use crate::{
    clients::{Client, Clients, GroupNotice},
    refusal::Refusal,
    tables::{Groups, Topics},
};

/// Longer group names and client ids are refused; clients allow 255 characters in a group name.
const GROUP_CHARS_MAX: usize = 255;
const CLIENT_ID_CHARS_MAX: usize = 1_024;

/// The parts that heartbeats need.
pub struct Heartbeat {
    /// Retry topics are made here.
    pub topics: Arc<Topics>,
    /// Groups are made and looked up here.
    pub groups: Arc<Groups>,
    /// The client is registered here.
    pub clients: Arc<Clients>,
}

impl Heartbeat {
    /// Serves a heartbeat whose groups and retry topics exist; `None` when one is to be made, which
    /// [`Heartbeat::beat`] does. Does not block.
    pub fn beat_if_known(
        &self,
        peer: &Peer,
        request: &Request,
        now: Millis,
    ) -> Option<Result<Response, Refusal>> {
        match Body::parse(&request.body) {
            Ok(body)
                if body
                    .consumer_data_set
                    .iter()
                    .any(|data| self.is_new(&data.group_name)) =>
            {
                None
            }
            Ok(body) => Some(self.register(peer, request, &body, now)),
            Err(error) => Some(Err(error.into())),
        }
    }

    /// Serves a heartbeat. Blocks when a group or a retry topic is new.
    pub fn beat(&self, peer: &Peer, request: &Request, now: Millis) -> Result<Response, Refusal> {
        let body = Body::parse(&request.body)?;
        self.register(peer, request, &body, now)
    }

    fn is_new(&self, group: &str) -> bool {
        match self.groups.get(group) {
            Some(_) => self.topics.get(&topic::retry(group)).is_none(),
            None => self.groups.plan(group).is_some(),
        }
    }

    /// Registers every group that can be registered; the first refusal is the answer.
    fn register(
        &self,
        peer: &Peer,
        request: &Request,
        body: &Body,
        now: Millis,
    ) -> Result<Response, Refusal> {
        if CLIENT_ID_CHARS_MAX < body.client_id.chars().count() {
            return Err(Refusal::name_too_long(
                "client id",
                body.client_id.chars().count(),
                CLIENT_ID_CHARS_MAX,
            ));
        }
        let client = Client {
            connection: peer.id(),
            address: peer.address(),
            client_id: body.client_id.clone(),
            language: request.language,
            version: request.version,
            now,
        };
        let mut first = Ok(Response::ok());
        for data in &body.consumer_data_set {
            let registered = self.consumer(peer, &client, data);
            first = first.and_then(|answer| registered.map(|()| answer));
        }
        for data in &body.producer_data_set {
            let registered = checked(&data.group_name).and_then(|group| {
                self.clients
                    .register_producer(peer, &client, group)
                    .map_err(|error| Refusal::not_registered(&error))
            });
            first = first.and_then(|answer| registered.map(|()| answer));
        }
        first
    }

    fn consumer(&self, peer: &Peer, client: &Client, data: &ConsumerData) -> Result<(), Refusal> {
        let group = checked(&data.group_name)?;
        let known = self
            .groups
            .get_or_create(group, client.now)
            .map_err(|error| Refusal::not_persisted(&error))?;
        let mut notice = GroupNotice::Send;
        if let Some(config) = known {
            if !config.notify_consumer_ids_changed_enable {
                notice = GroupNotice::Omit;
            }
            self.topics
                .create_retry(group, config.retry_queue_nums, data.unit_mode, client.now)
                .map_err(|error| Refusal::not_persisted(&error))?;
        }
        self.clients
            .register_consumer(peer, client, data, notice)
            .map_err(|error| Refusal::not_registered(&error))
    }
}

fn checked(group: &str) -> Result<&str, Refusal> {
    let length = group.chars().count();
    if GROUP_CHARS_MAX < length {
        return Err(Refusal::name_too_long("group", length, GROUP_CHARS_MAX));
    }
    Ok(group)
}
