//! The broker's administrative requests: 17, 26, 50 to 53, 202 to 208, 215, 300 to 303, 308, 314 to 323, 351, 352.

use super::headers;

headers! {
    /// 17: create a topic or replace its settings.
    CreateTopic<'a> "CreateTopicRequestHeader" {
        topic: &'a str, "topic";
        default_topic: &'a str, "defaultTopic";
        read_queue_nums: i32, "readQueueNums";
        write_queue_nums: i32, "writeQueueNums";
        perm: i32, "perm";
        /// `SINGLE_TAG` or `MULTI_TAG`.
        topic_filter_type: &'a str, "topicFilterType";
        topic_sys_flag: Option<i32>, "topicSysFlag";
        /// Sent by everybody, ignored by 4.9.8.
        order: bool = false, "order";
    }

    /// Answer to 26.
    GetBrokerConfigAnswer<'a> "GetBrokerConfigResponseHeader" {
        /// JSON of a data version.
        version: &'a str, "version";
    }

    /// 50: create or change an account.
    CreateAccessConfig<'a> "CreateAccessConfigRequestHeader" {
        access_key: &'a str, "accessKey";
        secret_key: Option<&'a str>, "secretKey";
        white_remote_address: Option<&'a str>, "whiteRemoteAddress";
        admin: bool = false, "admin";
        default_topic_perm: Option<&'a str>, "defaultTopicPerm";
        default_group_perm: Option<&'a str>, "defaultGroupPerm";
        /// `name=PERM` with commas between.
        topic_perms: Option<&'a str>, "topicPerms";
        /// `name=PERM` with commas between.
        group_perms: Option<&'a str>, "groupPerms";
    }

    /// 51: remove an account.
    DeleteAccessConfig<'a> "DeleteAccessConfigRequestHeader" {
        access_key: &'a str, "accessKey";
    }

    /// 53: replace the addresses that need no account.
    UpdateGlobalWhiteAddrs<'a> "UpdateGlobalWhiteAddrsConfigRequestHeader" {
        /// Addresses with commas between.
        global_white_addrs: &'a str, "globalWhiteAddrs";
        acl_file_full_path: Option<&'a str>, "aclFileFullPath";
    }

    /// Answer to 52.
    GetBrokerAclConfigAnswer<'a> "GetBrokerAclConfigResponseHeader" {
        /// JSON of a data version.
        version: &'a str, "version";
        /// JSON object from file to data version; Java's client fails without it.
        all_acl_file_version: Option<&'a str>, "allAclFileVersion";
        broker_name: &'a str, "brokerName";
        broker_addr: &'a str, "brokerAddr";
        cluster_name: &'a str, "clusterName";
    }

    /// 202: figures of a topic's queues.
    GetTopicStatsInfo<'a> "GetTopicStatsInfoRequestHeader" {
        topic: &'a str, "topic";
    }

    /// 203: who consumes, and what.
    GetConsumerConnectionList<'a> "GetConsumerConnectionListRequestHeader" {
        consumer_group: &'a str, "consumerGroup";
    }

    /// 204: who produces.
    GetProducerConnectionList<'a> "GetProducerConnectionListRequestHeader" {
        producer_group: &'a str, "producerGroup";
    }

    /// 207: remove a subscription group.
    DeleteSubscriptionGroup<'a> "DeleteSubscriptionGroupRequestHeader" {
        group_name: &'a str, "groupName";
        remove_offset: bool = false, "removeOffset";
    }

    /// 208: how far a group is.
    GetConsumeStats<'a> "GetConsumeStatsRequestHeader" {
        consumer_group: &'a str, "consumerGroup";
        /// Absent or blank: every topic of the group.
        topic: Option<&'a str>, "topic";
    }

    /// 215: remove a topic.
    DeleteTopic<'a> "DeleteTopicRequestHeader" {
        topic: &'a str, "topic";
    }

    /// 300: groups that consume a topic.
    QueryTopicConsumeByWho<'a> "QueryTopicConsumeByWhoRequestHeader" {
        topic: &'a str, "topic";
    }

    /// 301: not served since filter servers are gone.
    RegisterFilterServer<'a> "RegisterFilterServerRequestHeader" {
        filter_server_addr: &'a str, "filterServerAddr";
    }

    /// Answer to 301.
    RegisterFilterServerAnswer<'a> "RegisterFilterServerResponseHeader" {
        broker_name: &'a str, "brokerName";
        broker_id: i64, "brokerId";
    }

    /// 302: not served since filter servers are gone.
    RegisterMessageFilterClass<'a> "RegisterMessageFilterClassRequestHeader" {
        consumer_group: &'a str, "consumerGroup";
        topic: &'a str, "topic";
        class_name: &'a str, "className";
        class_crc: i32, "classCRC";
    }

    /// 303: from when to when messages lie there.
    QueryConsumeTimeSpan<'a> "QueryConsumeTimeSpanRequestHeader" {
        topic: &'a str, "topic";
        group: &'a str, "group";
    }

    /// 308: lowest offsets over several groups.
    QueryCorrectionOffset<'a> "QueryCorrectionOffsetHeader" {
        /// Groups with commas between.
        filter_groups: Option<&'a str>, "filterGroups";
        compare_group: &'a str, "compareGroup";
        topic: &'a str, "topic";
    }

    /// 314: one group goes on where another stands.
    CloneGroupOffset<'a> "CloneGroupOffsetRequestHeader" {
        src_group: &'a str, "srcGroup";
        dest_group: &'a str, "destGroup";
        topic: Option<&'a str>, "topic";
        offline: bool = false, "offline";
    }

    /// 315: one counter.
    ViewBrokerStatsData<'a> "ViewBrokerStatsDataRequestHeader" {
        stats_name: &'a str, "statsName";
        stats_key: &'a str, "statsKey";
    }

    /// 317: how far all groups are.
    GetConsumeStatsInBroker "GetConsumeStatsInBrokerHeader" {
        is_order: bool, "isOrder";
    }

    /// 321: raw entries of a queue.
    QueryConsumeQueue<'a> "QueryConsumeQueueRequestHeader" {
        topic: &'a str, "topic";
        queue_id: i32 = 0, "queueId";
        index: i64 = 0, "index";
        count: i32 = 0, "count";
        consumer_group: Option<&'a str>, "consumerGroup";
    }

    /// 323: check a parked half message again.
    ResumeCheckHalfMessage<'a> "ResumeCheckHalfMessageRequestHeader" {
        msg_id: Option<&'a str>, "msgId";
    }

    /// 351 (5.x): settings of one topic.
    GetTopicConfig<'a> "GetTopicConfigRequestHeader" {
        topic: &'a str, "topic";
    }

    /// 352 (5.x): settings of one group.
    GetSubscriptionGroupConfig<'a> "GetSubscriptionGroupConfigRequestHeader" {
        group: &'a str, "group";
    }
}
