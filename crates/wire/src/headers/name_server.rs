//! The name server's requests: 100 to 105, 205, 216, 219, 224, 322, 327.

use super::headers;

headers! {
    /// 100: set a key.
    PutKvConfig<'a> "PutKVConfigRequestHeader" {
        namespace: &'a str, "namespace";
        key: &'a str, "key";
        value: &'a str, "value";
    }

    /// 101: read a key.
    GetKvConfig<'a> "GetKVConfigRequestHeader" {
        namespace: &'a str, "namespace";
        key: &'a str, "key";
    }

    /// Answer to 101.
    GetKvConfigAnswer<'a> "GetKVConfigResponseHeader" {
        value: Option<&'a str>, "value";
    }

    /// 102: remove a key.
    DeleteKvConfig<'a> "DeleteKVConfigRequestHeader" {
        namespace: &'a str, "namespace";
        key: &'a str, "key";
    }

    /// 219: all keys of a namespace.
    GetKvListByNamespace<'a> "GetKVListByNamespaceRequestHeader" {
        namespace: &'a str, "namespace";
    }

    /// 103: a broker tells what it has.
    RegisterBroker<'a> "RegisterBrokerRequestHeader" {
        broker_name: &'a str, "brokerName";
        broker_addr: &'a str, "brokerAddr";
        cluster_name: &'a str, "clusterName";
        ha_server_addr: &'a str, "haServerAddr";
        broker_id: i64, "brokerId";
        /// The body is the compressed form.
        compressed: bool = false, "compressed";
        /// CRC-32 of the body as sent without its highest bit; 0: not checked.
        body_crc32: i32 = 0, "bodyCrc32";
    }

    /// Answer to 103; both only for slaves.
    RegisterBrokerAnswer<'a> "RegisterBrokerResponseHeader" {
        ha_server_addr: Option<&'a str>, "haServerAddr";
        master_addr: Option<&'a str>, "masterAddr";
    }

    /// 104: a broker leaves.
    UnregisterBroker<'a> "UnRegisterBrokerRequestHeader" {
        broker_name: &'a str, "brokerName";
        broker_addr: &'a str, "brokerAddr";
        cluster_name: &'a str, "clusterName";
        broker_id: i64, "brokerId";
    }

    /// 322: is my topic table news to you?
    QueryDataVersion<'a> "QueryDataVersionRequestHeader" {
        broker_name: &'a str, "brokerName";
        broker_addr: &'a str, "brokerAddr";
        cluster_name: &'a str, "clusterName";
        broker_id: i64, "brokerId";
    }

    /// Answer to 322.
    QueryDataVersionAnswer "QueryDataVersionResponseHeader" {
        changed: bool, "changed";
    }

    /// 105: where a topic lives.
    GetRouteInfo<'a> "GetRouteInfoRequestHeader" {
        topic: &'a str, "topic";
        /// Asks for standard JSON whatever the version.
        accept_standard_json_only: Option<bool>, "acceptStandardJsonOnly";
    }

    /// 205: take write permission from a broker's topics.
    WipeWritePermOfBroker<'a> "WipeWritePermOfBrokerRequestHeader" {
        broker_name: &'a str, "brokerName";
    }

    /// Answer to 205.
    WipeWritePermOfBrokerAnswer "WipeWritePermOfBrokerResponseHeader" {
        wipe_topic_count: i32, "wipeTopicCount";
    }

    /// 327: give it back.
    AddWritePermOfBroker<'a> "AddWritePermOfBrokerRequestHeader" {
        broker_name: &'a str, "brokerName";
    }

    /// Answer to 327.
    AddWritePermOfBrokerAnswer "AddWritePermOfBrokerResponseHeader" {
        add_topic_count: i32, "addTopicCount";
    }

    /// 216: forget a topic, everywhere or in one cluster.
    DeleteTopicFromNamesrv<'a> "DeleteTopicFromNamesrvRequestHeader" {
        topic: &'a str, "topic";
        cluster_name: Option<&'a str>, "clusterName";
    }

    /// 224: topics of a cluster.
    GetTopicsByCluster<'a> "GetTopicsByClusterRequestHeader" {
        cluster: &'a str, "cluster";
    }

    /// Named in Java, sent by nobody.
    RegisterOrderTopic<'a> "RegisterOrderTopicRequestHeader" {
        topic: &'a str, "topic";
        order_topic_string: &'a str, "orderTopicString";
    }
}
