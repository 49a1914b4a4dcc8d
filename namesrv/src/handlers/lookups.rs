//! 105, 106, 206, 224, 304 and 311 to 313: questions to the route table.

use std::sync::Arc;

use crate::live::Live;
use gantry_wire::bodies::{BrokerData, ClusterInfo, QueueData, TopicList, TopicRoute};
use gantry_wire::codes::response;
use gantry_wire::headers::{GetRouteInfo, GetTopicsByCluster};
use gantry_wire::{Request, Response, version};

use super::Table;
use crate::config::NamesrvConfig;
use crate::kv::{Kv, ORDER_TOPIC_CONFIG};
use crate::refusal::Refusal;
use crate::routes::{Route, RouteBroker, Unit};

/// Where Java's texts send people.
const FAQ: &str = "\nSee http://rocketmq.apache.org/docs/faq/ for further details.";

/// Questions.
#[derive(Debug)]
pub(crate) struct Lookups {
    pub(crate) routes: Table,
    pub(crate) kv: Arc<Kv>,
    pub(crate) settings: Arc<Live<NamesrvConfig>>,
}

impl Lookups {
    pub(crate) fn route(&self, request: &Request) -> Result<Response, Refusal> {
        let asked: GetRouteInfo<'_> = request.header()?;
        let mut route = {
            let routes = self.routes.lock();
            match routes.route(asked.topic) {
                Some(route) => body(&route),
                None => return Err(no_route(asked.topic, routes.is_empty())),
            }
        };
        if self.settings.get().order_message_enable {
            route.order_topic_conf = self.kv.get(ORDER_TOPIC_CONFIG, asked.topic);
        }
        let standard = version::STANDARD_JSON_ROUTE <= request.version
            || asked.accept_standard_json_only == Some(true);
        Ok(Response::with_body(if standard {
            route.encode_standard()
        } else {
            route.encode()
        }))
    }

    pub(crate) fn cluster_info(&self) -> Response {
        let routes = self.routes.lock();
        let brokers = routes
            .brokers()
            .map(|broker| (broker.name.to_owned(), broker_data(&broker)));
        let clusters = routes.clusters().into_iter();
        let info = ClusterInfo {
            broker_addr_table: brokers.collect(),
            cluster_addr_table: clusters
                .map(|(cluster, names)| {
                    (
                        cluster.to_owned(),
                        names.into_iter().map(str::to_owned).collect(),
                    )
                })
                .collect(),
        };
        Response::with_body(info.encode())
    }

    pub(crate) fn topics(&self) -> Response {
        list(self.routes.lock().topics())
    }

    pub(crate) fn topics_of_cluster(&self, request: &Request) -> Result<Response, Refusal> {
        let GetTopicsByCluster { cluster } = request.header()?;
        Ok(list(self.routes.lock().topics_of_cluster(cluster)))
    }

    pub(crate) fn system_topics(&self) -> Response {
        let routes = self.routes.lock();
        let system = routes.system_topics();
        let topics = TopicList {
            broker_addr: system.address.map(str::to_owned),
            topic_list: system.names.into_iter().map(str::to_owned).collect(),
        };
        Response::with_body(topics.encode())
    }

    pub(crate) fn unit_topics(&self, unit: Unit) -> Response {
        list(self.routes.lock().unit_topics(unit))
    }
}

/// An unknown topic gets Java's words; that nobody is registered at all is another trouble and said so.
fn no_route(topic: &str, no_brokers: bool) -> Refusal {
    let more = if no_brokers {
        " No broker is registered with this name server."
    } else {
        ""
    };
    let text = format!("No topic route info in name server for the topic: {topic}{FAQ}{more}");
    Refusal::with(response::TOPIC_NOT_EXIST, text)
}

fn list<'a>(topics: impl Iterator<Item = &'a str>) -> Response {
    let topic_list = topics.map(str::to_owned).collect();
    Response::with_body(
        TopicList {
            broker_addr: None,
            topic_list,
        }
        .encode(),
    )
}

fn body(route: &Route<'_>) -> TopicRoute {
    let queue_data = |(name, queues): (&crate::routes::Name, &crate::routes::Queues)| QueueData {
        broker_name: name.to_string(),
        perm: queues.perm,
        read_queue_nums: queues.read,
        topic_sys_flag: queues.sys_flag,
        write_queue_nums: queues.write,
    };
    let servers = route.filter_servers.iter();
    TopicRoute {
        broker_datas: route.brokers.iter().map(broker_data).collect(),
        filter_server_table: servers
            .map(|(address, list)| ((*address).to_owned(), list.to_vec()))
            .collect(),
        order_topic_conf: None,
        queue_datas: route.queues.iter().map(queue_data).collect(),
    }
}

fn broker_data(broker: &RouteBroker<'_>) -> BrokerData {
    BrokerData {
        broker_addrs: broker.addresses.clone(),
        broker_name: broker.name.to_owned(),
        cluster: broker.cluster.to_owned(),
    }
}
