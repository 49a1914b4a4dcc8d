//! Topic settings: 21, `topics.json`, and what brokers register.

use std::collections::BTreeMap;

use super::{DataVersion, bodies, names};

names! {
    /// Whether a message of the topic can have several tags; an unused relic.
    TopicFilterType {
        /// One tag.
        #[default]
        SingleTag "SINGLE_TAG",
        /// Several tags.
        MultiTag "MULTI_TAG",
    }
}

bodies! {
    /// Settings of one topic.
    #[derive(Eq)]
    TopicConfig "TopicConfig" {
        /// Set by the name server's order configuration only.
        order: bool, "order";
        /// 4 read, 2 write, 1 inherit.
        perm: i32 = 6, "perm";
        read_queue_nums: i32 = 16, "readQueueNums";
        topic_filter_type: TopicFilterType, "topicFilterType";
        topic_name: String, "topicName";
        /// 1 unit, 2 has unit subscriptions.
        topic_sys_flag: i32, "topicSysFlag";
        write_queue_nums: i32 = 16, "writeQueueNums";
    }

    /// Settings of all topics: body of 21, `topics.json`, and the main part of a registration.
    #[derive(Eq)]
    TopicConfigTable "TopicConfigSerializeWrapper" {
        data_version: DataVersion, "dataVersion";
        topic_config_table: BTreeMap<String, TopicConfig>, "topicConfigTable";
    }
}
