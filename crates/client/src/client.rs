//! One client: its name servers, its connections, and what name servers are asked.
//!
//! Name servers are tried in the order given; the first that connects is kept until it fails. Requests that change
//! something go to all of them, as Java's administration tool does.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use gantry_net::client::{CallError, Options, Reply};
use gantry_wire::{
    HeaderEncode,
    bodies::{ClusterInfo, TopicList, TopicRoute},
    codes::{request, response},
    headers::{DeleteTopicFromNamesrv, GetKvConfig, GetKvConfigAnswer, GetRouteInfo, PutKvConfig},
};

use crate::{
    Error, NameServers, Remote,
    remote::{NO_BODY, parsed, successful},
};

/// How long Java's tools wait, and therefore we.
pub mod timeouts {
    use std::time::Duration;

    /// Administrative requests.
    pub const ADMIN: Duration = Duration::from_secs(5);
    /// Figures of a consumer group, and what a broker relays to a client.
    pub const SLOW_ADMIN: Duration = Duration::from_secs(15);
    /// One message by its id; offsets.
    pub const LOOK_UP: Duration = Duration::from_secs(6);
    /// A send, all its tries together.
    pub const SEND: Duration = Duration::from_secs(3);
    /// A pull that may be held by the broker.
    pub const PULL: Duration = Duration::from_secs(30);
}

/// Name space of the key-value entries that make a topic an ordered one.
const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// Name servers and connections.
#[derive(Debug)]
pub struct Client {
    name_servers: NameServers,
    remote: Remote,
    /// Index of the name server that answered last.
    preferred: AtomicUsize,
}

impl Client {
    /// A client of these name servers; nothing is connected yet.
    pub fn new(name_servers: NameServers) -> Self {
        Self::with_options(name_servers, Options::default())
    }

    /// A client whose connections are made with these options.
    pub fn with_options(name_servers: NameServers, options: Options) -> Self {
        Self {
            name_servers,
            remote: Remote::new(options),
            preferred: AtomicUsize::new(0),
        }
    }

    /// The name servers.
    pub fn name_servers(&self) -> &NameServers {
        &self.name_servers
    }

    /// The connections, for requests that have no function here.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// 105: where a topic lives.
    pub async fn route(&self, topic: &str) -> Result<TopicRoute, Error> {
        let header = GetRouteInfo {
            topic,
            accept_standard_json_only: None,
        };
        let (address, reply) = self.ask(request::GET_ROUTEINFO_BY_TOPIC, &header).await?;
        let reply = successful(reply, None)?;
        parsed("route", &address, TopicRoute::parse(&reply.body))
    }

    /// 106: clusters and brokers.
    pub async fn cluster_info(&self) -> Result<ClusterInfo, Error> {
        let (address, reply) = self
            .ask(request::GET_BROKER_CLUSTER_INFO, &NoFields)
            .await?;
        let reply = successful(reply, None)?;
        parsed("cluster info", &address, ClusterInfo::parse(&reply.body))
    }

    /// 206: every topic that a name server knows, sorted.
    pub async fn topics(&self) -> Result<Vec<String>, Error> {
        let (address, reply) = self
            .ask(request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &NoFields)
            .await?;
        let reply = successful(reply, None)?;
        let mut topics = parsed("topic list", &address, TopicList::parse(&reply.body))?.topic_list;
        topics.sort_unstable();
        Ok(topics)
    }

    /// 101: the order configuration of a topic, if it has one.
    pub async fn order_conf(&self, topic: &str) -> Result<Option<String>, Error> {
        let header = GetKvConfig {
            namespace: ORDER_TOPIC_CONFIG,
            key: topic,
        };
        let (address, reply) = self.ask(request::GET_KV_CONFIG, &header).await?;
        if reply.code == response::QUERY_NOT_FOUND {
            return Ok(None);
        }
        let reply = successful(reply, None)?;
        let answer: GetKvConfigAnswer<'_> =
            parsed("order configuration", &address, reply.fields.header())?;
        Ok(answer.value.map(str::to_owned))
    }

    /// 100: sets the order configuration of a topic on every name server.
    pub async fn put_order_conf(&self, topic: &str, value: &str) -> Result<(), Error> {
        let header = PutKvConfig {
            namespace: ORDER_TOPIC_CONFIG,
            key: topic,
            value,
        };
        self.tell_all(request::PUT_KV_CONFIG, &header).await
    }

    /// 216: makes every name server forget a topic of a cluster.
    pub async fn forget_topic(&self, topic: &str, cluster: &str) -> Result<(), Error> {
        let header = DeleteTopicFromNamesrv {
            topic,
            cluster_name: Some(cluster),
        };
        self.tell_all(request::DELETE_TOPIC_IN_NAMESRV, &header)
            .await
    }

    /// Asks one name server, the next one if it cannot be reached; who answered, and what.
    async fn ask(&self, code: i32, header: &impl HeaderEncode) -> Result<(String, Reply), Error> {
        let all = self.name_servers.list();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for turn in 0..all.len() {
            let index = (first + turn) % all.len();
            let Some(address) = all.get(index) else {
                continue;
            };
            match self
                .remote
                .call(address, code, header, NO_BODY, timeouts::ADMIN)
                .await
            {
                Ok(reply) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok((address.clone(), reply));
                }
                Err(error @ (Error::Connect { .. } | Error::Call(CallError::Closed { .. }))) => {
                    last = Some(error)
                }
                Err(error) => return Err(error),
            }
        }
        let Some(last) = last else {
            return Err(Error::NoNameServer);
        };
        Err(Error::NoNameServerAnswers {
            all: all.to_vec(),
            last: Box::new(last),
        })
    }

    /// Tells every name server; goes on after a failure and returns the first one.
    async fn tell_all(&self, code: i32, header: &impl HeaderEncode) -> Result<(), Error> {
        let mut outcome = if self.name_servers.list().is_empty() {
            Err(Error::NoNameServer)
        } else {
            Ok(())
        };
        for address in self.name_servers.list() {
            let told = self
                .remote
                .call(address, code, header, NO_BODY, timeouts::ADMIN)
                .await;
            outcome = outcome.and(told.and_then(|reply| successful(reply, None)).map(drop));
        }
        outcome
    }

    /// Asks a broker and demands success; the broker's address is named in a refusal.
    pub(crate) async fn ask_broker(
        &self,
        broker: &str,
        code: i32,
        header: &impl HeaderEncode,
        timeout: Duration,
    ) -> Result<Reply, Error> {
        let reply = self
            .remote
            .call(broker, code, header, NO_BODY, timeout)
            .await?;
        successful(reply, Some(broker))
    }
}

/// The header of a request that has none.
pub(crate) struct NoFields;

impl HeaderEncode for NoFields {
    fn encode(&self, _sink: &mut dyn gantry_wire::FieldSink) {}
}
