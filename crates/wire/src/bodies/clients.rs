//! What clients say about themselves (34, 41, 42, 46) and what brokers say about them (38, 203, 204, 328).

use std::collections::{BTreeMap, BTreeSet};

use super::{MessageQueue, bodies, names};
use crate::language::Language;

names! {
    /// How a group gets its messages. C++ sends ordinals.
    ConsumeType {
        /// It pulls.
        Actively "CONSUME_ACTIVELY",
        /// They are pushed to it, as far as the application can see.
        #[default]
        Passively "CONSUME_PASSIVELY",
        /// 5.x.
        Pop "CONSUME_POP",
    }

    /// Whether members share the queues or each gets everything.
    MessageModel {
        /// Each gets everything.
        Broadcasting "BROADCASTING",
        /// They share.
        #[default]
        Clustering "CLUSTERING",
    }

    /// Where a group without offsets begins.
    ConsumeFromWhere {
        /// At the end.
        #[default]
        LastOffset "CONSUME_FROM_LAST_OFFSET",
        /// Deprecated, means the end.
        LastOffsetAndFromMinWhenBootFirst "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        /// Deprecated, means the end.
        MinOffset "CONSUME_FROM_MIN_OFFSET",
        /// Deprecated, means the end.
        MaxOffset "CONSUME_FROM_MAX_OFFSET",
        /// At the beginning.
        FirstOffset "CONSUME_FROM_FIRST_OFFSET",
        /// At a time.
        Timestamp "CONSUME_FROM_TIMESTAMP",
    }
}

bodies! {
    /// What a group wants of one topic.
    #[derive(Eq)]
    SubscriptionData "SubscriptionData" {
        class_filter_mode: bool, "classFilterMode";
        /// Java hash codes of the tags.
        code_set: BTreeSet<i32>, "codeSet";
        /// `TAG` or `SQL92`; empty counts as `TAG`.
        expression_type: String = "TAG".to_string(), "expressionType";
        /// `*` for everything.
        sub_string: String, "subString";
        sub_version: i64, "subVersion";
        tags_set: BTreeSet<String>, "tagsSet";
        topic: String, "topic";
    }

    /// A client as member of one consumer group.
    #[derive(Eq)]
    ConsumerData "ConsumerData" {
        consume_from_where: ConsumeFromWhere, "consumeFromWhere";
        consume_type: ConsumeType, "consumeType";
        group_name: String, "groupName";
        message_model: MessageModel, "messageModel";
        subscription_data_set: Vec<SubscriptionData>, "subscriptionDataSet";
        unit_mode: bool, "unitMode";
    }

    /// A client as member of one producer group.
    #[derive(Eq)]
    ProducerData "ProducerData" {
        group_name: String, "groupName";
    }

    /// 34: a client with all of its groups.
    #[derive(Eq)]
    Heartbeat "HeartbeatData" {
        client_id: String, "clientID";
        consumer_data_set: Vec<ConsumerData>, "consumerDataSet";
        producer_data_set: Vec<ProducerData>, "producerDataSet";
    }

    /// 46: would this subscription work?
    #[derive(Eq)]
    CheckClientRequest "CheckClientRequestBody" {
        client_id: String, "clientId";
        group: String, "group";
        subscription_data: Option<SubscriptionData>, "subscriptionData";
    }

    /// Answer to 38.
    #[derive(Eq)]
    ConsumerIds "GetConsumerListByGroupResponseBody" {
        consumer_id_list: Vec<String>, "consumerIdList";
    }

    /// 41 and 42: queues to lock or let go.
    #[derive(Eq)]
    LockBatchRequest "LockBatchRequestBody" {
        client_id: String, "clientId";
        consumer_group: String, "consumerGroup";
        mq_set: BTreeSet<MessageQueue>, "mqSet";
    }

    /// Answer to 41: the queues that are locked now.
    #[derive(Eq)]
    LockBatchResponse "LockBatchResponseBody" {
        lock_ok_mq_set: BTreeSet<MessageQueue>, "lockOKMQSet";
    }

    /// One connection of a client.
    #[derive(Eq)]
    Connection "Connection" {
        client_addr: String, "clientAddr";
        client_id: String, "clientId";
        language: Language = Language::Unknown, "language";
        version: i32, "version";
    }

    /// Answer to 203.
    #[derive(Eq)]
    ConsumerConnection "ConsumerConnection" {
        connection_set: Vec<Connection>, "connectionSet";
        consume_from_where: ConsumeFromWhere, "consumeFromWhere";
        consume_type: ConsumeType, "consumeType";
        message_model: MessageModel, "messageModel";
        /// By topic.
        subscription_table: BTreeMap<String, SubscriptionData>, "subscriptionTable";
    }

    /// Answer to 204.
    #[derive(Eq)]
    ProducerConnection "ProducerConnection" {
        connection_set: Vec<Connection>, "connectionSet";
    }

    /// A producer with the time of its last heartbeat.
    #[derive(Eq)]
    ProducerInfo "ProducerInfo" {
        client_id: String, "clientId";
        language: Language = Language::Unknown, "language";
        last_update_timestamp: i64, "lastUpdateTimestamp";
        /// With a slash in front, as Java prints addresses.
        remote_ip: String, "remoteIP";
        version: i32, "version";
    }

    /// Answer to 328, by group.
    #[derive(Eq)]
    ProducerTable "ProducerTableInfo" {
        data: BTreeMap<String, Vec<ProducerInfo>>, "data";
    }
}
