//! What a route means: which queues can be written, and which address stands for a broker name. Pure.

use gantry_message::{QueueId, perm};
use gantry_wire::bodies::{BrokerData, TopicRoute};

/// The id of a master.
const MASTER: i64 = 0;

/// A queue of a broker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Queue {
    /// The broker's name.
    pub broker: String,
    /// Its number there.
    pub id: QueueId,
}

/// The queues that messages can be sent to, in the order Java takes them: of an ordered topic those its configuration
/// names, else the write queues of every writable broker that has a master.
pub fn publish_queues(route: &TopicRoute) -> Vec<Queue> {
    if let Some(conf) = route
        .order_topic_conf
        .as_deref()
        .filter(|conf| !conf.is_empty())
    {
        return conf
            .split(';')
            .filter_map(|entry| entry.split_once(':'))
            .flat_map(|(name, count)| queues(name, count.trim().parse().unwrap_or(0)))
            .collect();
    }
    let mut datas: Vec<_> = route
        .queue_datas
        .iter()
        .filter(|data| perm::is_writable(data.perm))
        .collect();
    datas.sort_by(|left, right| left.broker_name.cmp(&right.broker_name));
    datas.retain(|data| master_address(route, &data.broker_name).is_some());
    datas
        .into_iter()
        .flat_map(|data| queues(&data.broker_name, data.write_queue_nums))
        .collect()
}

fn queues(broker: &str, count: i32) -> impl Iterator<Item = Queue> {
    let count = u32::try_from(count).unwrap_or(0);
    (0..count).map(move |id| Queue {
        broker: broker.to_owned(),
        id: QueueId(id),
    })
}

/// The address of a broker's master.
pub fn master_address<'a>(route: &'a TopicRoute, broker: &str) -> Option<&'a str> {
    let data = route
        .broker_datas
        .iter()
        .find(|data| data.broker_name == broker)?;
    data.broker_addrs.get(&MASTER).map(String::as_str)
}

/// The address to ask a broker name at: its master, without one its slave of the lowest id.
pub fn selected_address(data: &BrokerData) -> Option<&str> {
    data.broker_addrs
        .get(&MASTER)
        .or_else(|| data.broker_addrs.values().next())
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(json: &str) -> TopicRoute {
        TopicRoute::parse(json.as_bytes()).unwrap()
    }

    fn listed(route: &TopicRoute) -> String {
        publish_queues(route)
            .iter()
            .map(|queue| format!("{}{} ", queue.broker, queue.id))
            .collect()
    }

    const ROUTE: &str = r#"{"brokerDatas":[
        {"brokerAddrs":{0:"a:1",1:"a:2"},"brokerName":"b","cluster":"C"},
        {"brokerAddrs":{0:"c:1"},"brokerName":"a","cluster":"C"},
        {"brokerAddrs":{2:"s:2",1:"s:1"},"brokerName":"slave-only","cluster":"C"}],
        "filterServerTable":{},ORDER"queueDatas":[
        {"brokerName":"b","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":2},
        {"brokerName":"a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":1},
        {"brokerName":"closed","perm":4,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":9},
        {"brokerName":"slave-only","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":9}]}"#;

    #[test]
    fn queues_are_those_of_writable_brokers_with_a_master() {
        assert_eq!(listed(&route(&ROUTE.replace("ORDER", ""))), "a0 b0 b1 ");
    }

    #[test]
    fn an_order_configuration_wins() {
        let ordered = ROUTE.replace("ORDER", r#""orderTopicConf":"b:1;a:2;bad;c:x","#);
        assert_eq!(listed(&route(&ordered)), "b0 a0 a1 ");
    }

    #[test]
    fn a_broker_is_asked_at_its_master_or_else_at_a_slave() {
        let route = route(&ROUTE.replace("ORDER", ""));
        let selected: Vec<_> = route.broker_datas.iter().map(selected_address).collect();
        assert_eq!(selected, [Some("a:1"), Some("c:1"), Some("s:1")]);
        assert_eq!(master_address(&route, "slave-only"), None);
    }
}
