//! Clients coming and going, and requests that a broker relays to them: 35, 220, 221, 307, 309.

use super::headers;

headers! {
    /// 35: a client leaves its groups.
    UnregisterClient<'a> "UnregisterClientRequestHeader" {
        client_id: &'a str, "clientID";
        producer_group: Option<&'a str>, "producerGroup";
        consumer_group: Option<&'a str>, "consumerGroup";
    }

    /// 220 to clients and 222 from administrators: go on at this time.
    ResetOffset<'a> "ResetOffsetRequestHeader" {
        topic: &'a str, "topic";
        group: &'a str, "group";
        timestamp: i64, "timestamp";
        is_force: bool, "isForce";
        /// 5.x: one queue only, -1 for all.
        queue_id: Option<i32>, "queueId";
        /// 5.x: this offset instead of the time's.
        offset: Option<i64>, "offset";
    }

    /// 221 to clients and 223 from administrators: how far are you?
    GetConsumerStatus<'a> "GetConsumerStatusRequestHeader" {
        topic: &'a str, "topic";
        group: &'a str, "group";
        /// Compared with client ids.
        client_addr: Option<&'a str>, "clientAddr";
    }

    /// 307: what a consumer is doing.
    GetConsumerRunningInfo<'a> "GetConsumerRunningInfoRequestHeader" {
        consumer_group: &'a str, "consumerGroup";
        client_id: &'a str, "clientId";
        jstack_enable: bool = false, "jstackEnable";
    }

    /// 309: let a consumer handle this message now.
    ConsumeMessageDirectly<'a> "ConsumeMessageDirectlyResultRequestHeader" {
        consumer_group: &'a str, "consumerGroup";
        client_id: Option<&'a str>, "clientId";
        /// Offset message id.
        msg_id: Option<&'a str>, "msgId";
        broker_name: Option<&'a str>, "brokerName";
    }
}
