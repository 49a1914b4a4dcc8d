//! Consuming and looking up: 11, 12, 14, 15, 29 to 33, 38, 40.

use super::headers;

headers! {
    /// 11 and 361: messages of one queue.
    PullMessage<'a> "PullMessageRequestHeader" {
        consumer_group: &'a str, "consumerGroup";
        topic: &'a str, "topic";
        queue_id: i32, "queueId";
        queue_offset: i64, "queueOffset";
        max_msg_nums: i32, "maxMsgNums";
        /// 1 commit offset valid, 2 may be held, 4 subscription given, 8 class filter, 16 lite pull.
        sys_flag: i32, "sysFlag";
        commit_offset: i64, "commitOffset";
        suspend_timeout_millis: i64, "suspendTimeoutMillis";
        subscription: Option<&'a str>, "subscription";
        sub_version: i64, "subVersion";
        expression_type: Option<&'a str>, "expressionType";
        broker_name: Option<&'a str>, "bname";
        /// 5.x: bytes wanted at most.
        max_msg_bytes: Option<i32>, "maxMsgBytes";
    }

    /// Answer to a pull; goes with every answer that reached the store.
    PullMessageAnswer "PullMessageResponseHeader" {
        suggest_which_broker_id: i64, "suggestWhichBrokerId";
        next_begin_offset: i64, "nextBeginOffset";
        min_offset: i64, "minOffset";
        max_offset: i64, "maxOffset";
    }

    /// 12: messages by key.
    QueryMessage<'a> "QueryMessageRequestHeader" {
        topic: &'a str, "topic";
        key: &'a str, "key";
        max_num: i32, "maxNum";
        begin_timestamp: i64, "beginTimestamp";
        end_timestamp: i64, "endTimestamp";
        /// The key is a unique one; travels beside Java's header class.
        unique_key: bool = false, "_UNIQUE_KEY_QUERY";
    }

    /// Answer to a query by key.
    QueryMessageAnswer "QueryMessageResponseHeader" {
        index_last_update_timestamp: i64, "indexLastUpdateTimestamp";
        index_last_update_phyoffset: i64, "indexLastUpdatePhyoffset";
    }

    /// 14: where the group goes on.
    QueryConsumerOffset<'a> "QueryConsumerOffsetRequestHeader" {
        consumer_group: &'a str, "consumerGroup";
        topic: &'a str, "topic";
        queue_id: i32, "queueId";
        broker_name: Option<&'a str>, "bname";
    }

    /// 15: the group goes on here.
    UpdateConsumerOffset<'a> "UpdateConsumerOffsetRequestHeader" {
        consumer_group: &'a str, "consumerGroup";
        topic: &'a str, "topic";
        queue_id: i32, "queueId";
        commit_offset: i64, "commitOffset";
        broker_name: Option<&'a str>, "bname";
    }

    /// 29: first offset at a time.
    SearchOffset<'a> "SearchOffsetRequestHeader" {
        topic: &'a str, "topic";
        queue_id: i32, "queueId";
        timestamp: i64, "timestamp";
        broker_name: Option<&'a str>, "bname";
    }

    /// 30: end of a queue.
    GetMaxOffset<'a> "GetMaxOffsetRequestHeader" {
        topic: &'a str, "topic";
        queue_id: i32, "queueId";
        broker_name: Option<&'a str>, "bname";
    }

    /// 31: beginning of a queue.
    GetMinOffset<'a> "GetMinOffsetRequestHeader" {
        topic: &'a str, "topic";
        queue_id: i32, "queueId";
        broker_name: Option<&'a str>, "bname";
    }

    /// Answer to 14, 29, 30 and 31.
    OffsetAnswer "GetMaxOffsetResponseHeader" {
        offset: i64, "offset";
    }

    /// 32: store time of a queue's first message.
    GetEarliestMsgStoretime<'a> "GetEarliestMsgStoretimeRequestHeader" {
        topic: &'a str, "topic";
        queue_id: i32, "queueId";
        broker_name: Option<&'a str>, "bname";
    }

    /// Answer to 32.
    GetEarliestMsgStoretimeAnswer "GetEarliestMsgStoretimeResponseHeader" {
        timestamp: i64, "timestamp";
    }

    /// 33: one message by its log offset.
    ViewMessage "ViewMessageRequestHeader" {
        offset: i64, "offset";
    }

    /// 38: who consumes with this group.
    GetConsumerListByGroup<'a> "GetConsumerListByGroupRequestHeader" {
        consumer_group: &'a str, "consumerGroup";
    }

    /// 40, to clients: members of the group changed.
    NotifyConsumerIdsChanged<'a> "NotifyConsumerIdsChangedRequestHeader" {
        consumer_group: &'a str, "consumerGroup";
    }
}
