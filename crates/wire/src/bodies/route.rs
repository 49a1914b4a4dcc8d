//! Where topics and brokers are: 105 and 106.

use std::collections::{BTreeMap, BTreeSet};

use super::bodies;
use crate::json::{self, Dialect};

bodies! {
    /// Addresses of one broker name, by broker id.
    #[derive(Eq)]
    BrokerData "BrokerData" {
        broker_addrs: BTreeMap<i64, String>, "brokerAddrs";
        broker_name: String, "brokerName";
        cluster: String, "cluster";
    }

    /// A topic's queues on one broker name.
    #[derive(Eq)]
    QueueData "QueueData" {
        broker_name: String, "brokerName";
        perm: i32, "perm";
        read_queue_nums: i32, "readQueueNums";
        topic_sys_flag: i32, "topicSysFlag";
        write_queue_nums: i32, "writeQueueNums";
    }

    /// Where a topic lives.
    #[derive(Eq)]
    TopicRoute "TopicRouteData" {
        broker_datas: Vec<BrokerData>, "brokerDatas";
        /// Always present, nearly always empty.
        filter_server_table: BTreeMap<String, Vec<String>>, "filterServerTable";
        order_topic_conf: Option<String>, "orderTopicConf";
        queue_datas: Vec<QueueData>, "queueDatas";
    }

    /// All brokers and clusters.
    #[derive(Eq)]
    ClusterInfo "ClusterInfo" {
        broker_addr_table: BTreeMap<String, BrokerData>, "brokerAddrTable";
        cluster_addr_table: BTreeMap<String, BTreeSet<String>>, "clusterAddrTable";
    }
}

impl TopicRoute {
    /// Prints it as standard JSON, which clients from [`crate::version::STANDARD_JSON_ROUTE`] on and those that say
    /// `acceptStandardJsonOnly` get: every key quoted, nothing but ASCII.
    pub fn encode_standard(&self) -> Vec<u8> {
        json::print(self, Dialect::Standard)
    }
}
