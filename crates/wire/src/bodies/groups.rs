//! Subscription groups: 200, 201 and `subscriptionGroup.json`.

use std::collections::BTreeMap;

use super::{DataVersion, bodies};

bodies! {
    /// Settings of one group.
    #[derive(Eq)]
    SubscriptionGroupConfig "SubscriptionGroupConfig" {
        /// Broker that consumers are pointed to.
        broker_id: i64, "brokerId";
        consume_broadcast_enable: bool = true, "consumeBroadcastEnable";
        consume_enable: bool = true, "consumeEnable";
        consume_from_min_enable: bool = true, "consumeFromMinEnable";
        group_name: String, "groupName";
        notify_consumer_ids_changed_enable: bool = true, "notifyConsumerIdsChangedEnable";
        retry_max_times: i32 = 16, "retryMaxTimes";
        retry_queue_nums: i32 = 1, "retryQueueNums";
        /// Broker that consumers far behind are pointed to.
        which_broker_when_consume_slowly: i64 = 1, "whichBrokerWhenConsumeSlowly";
    }

    /// Settings of all groups.
    #[derive(Eq)]
    SubscriptionGroupTable "SubscriptionGroupWrapper" {
        data_version: DataVersion, "dataVersion";
        subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>, "subscriptionGroupTable";
    }
}
