//! 205, 327 and 216: what operators change in the route table itself.

use gantry_net::Peer;
use gantry_wire::headers::{
    AddWritePermOfBroker, AddWritePermOfBrokerAnswer, DeleteTopicFromNamesrv,
    WipeWritePermOfBroker, WipeWritePermOfBrokerAnswer,
};
use gantry_wire::{Request, Response};

use super::Table;
use crate::refusal::Refusal;

/// Changes to topics.
#[derive(Debug)]
pub(crate) struct TopicChanges {
    pub(crate) routes: Table,
}

impl TopicChanges {
    pub(crate) fn wipe_write_perm(
        &self,
        peer: &Peer,
        request: &Request,
    ) -> Result<Response, Refusal> {
        let WipeWritePermOfBroker { broker_name } = request.header()?;
        let count = self.routes.lock().wipe_write_perm(broker_name);
        tracing::info!(
            "wipe write perm of broker[{broker_name}], client: {}, {count} topics",
            peer.address()
        );
        Ok(Response::ok().header(&WipeWritePermOfBrokerAnswer {
            wipe_topic_count: number(count),
        }))
    }

    pub(crate) fn add_write_perm(
        &self,
        peer: &Peer,
        request: &Request,
    ) -> Result<Response, Refusal> {
        let AddWritePermOfBroker { broker_name } = request.header()?;
        let count = self.routes.lock().add_write_perm(broker_name);
        tracing::info!(
            "add write perm of broker[{broker_name}], client: {}, {count} topics",
            peer.address()
        );
        Ok(Response::ok().header(&AddWritePermOfBrokerAnswer {
            add_topic_count: number(count),
        }))
    }

    pub(crate) fn delete(&self, peer: &Peer, request: &Request) -> Result<Response, Refusal> {
        let DeleteTopicFromNamesrv {
            topic,
            cluster_name,
        } = request.header()?;
        let mut routes = self.routes.lock();
        match cluster_name.filter(|cluster| !cluster.is_empty()) {
            Some(cluster) => {
                let brokers = routes.delete_topic_in_cluster(topic, cluster);
                tracing::info!(
                    "delete topic {topic} in {cluster}, client: {}, {brokers} brokers",
                    peer.address()
                );
            }
            None => {
                let known = routes.delete_topic(topic);
                tracing::info!(
                    "delete topic {topic}, client: {}, known: {known}",
                    peer.address()
                );
            }
        }
        Ok(Response::ok())
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
