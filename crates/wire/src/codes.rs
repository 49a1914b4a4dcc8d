//! Request and response codes under the names that RocketMQ gives them.
//!
//! Every code of 4.9.8, and those that 5.x clients and tools may send. Being named here says nothing about being served:
//! the daemons' `dispatch` modules do.

/// Defines one `i32` constant a row and a function from code to name.
macro_rules! codes {
    ($($code:literal $name:ident $doc:literal,)*) => {
        $(#[doc = $doc] pub const $name: i32 = $code;)*

        /// Name of a code for logs and counters; `UNKNOWN` for one that has none.
        pub fn name(code: i32) -> &'static str {
            match code {
                $($code => stringify!($name),)*
                _ => "UNKNOWN",
            }
        }

        /// Every code with its name, ascending within its release.
        pub const ALL: &[(i32, &str)] = &[$(($code, stringify!($name)),)*];
    };
}

/// What a request asks for.
pub mod request {
    codes! {
        10 SEND_MESSAGE "Broker.",
        11 PULL_MESSAGE "Broker.",
        12 QUERY_MESSAGE "Broker.",
        13 QUERY_BROKER_OFFSET "Named but served by nobody in 4.9.8.",
        14 QUERY_CONSUMER_OFFSET "Broker.",
        15 UPDATE_CONSUMER_OFFSET "Broker.",
        17 UPDATE_AND_CREATE_TOPIC "Broker.",
        21 GET_ALL_TOPIC_CONFIG "Broker.",
        22 GET_TOPIC_CONFIG_LIST "Named but served by nobody in 4.9.8.",
        23 GET_TOPIC_NAME_LIST "Named but served by nobody in 4.9.8.",
        25 UPDATE_BROKER_CONFIG "Broker.",
        26 GET_BROKER_CONFIG "Broker.",
        27 TRIGGER_DELETE_FILES "Named but served by nobody in 4.9.8.",
        28 GET_BROKER_RUNTIME_INFO "Broker.",
        29 SEARCH_OFFSET_BY_TIMESTAMP "Broker.",
        30 GET_MAX_OFFSET "Broker.",
        31 GET_MIN_OFFSET "Broker.",
        32 GET_EARLIEST_MSG_STORETIME "Broker.",
        33 VIEW_MESSAGE_BY_ID "Broker.",
        34 HEART_BEAT "Broker.",
        35 UNREGISTER_CLIENT "Broker.",
        36 CONSUMER_SEND_MSG_BACK "Broker.",
        37 END_TRANSACTION "Broker.",
        38 GET_CONSUMER_LIST_BY_GROUP "Broker.",
        39 CHECK_TRANSACTION_STATE "Broker to client.",
        40 NOTIFY_CONSUMER_IDS_CHANGED "Broker to client.",
        41 LOCK_BATCH_MQ "Broker.",
        42 UNLOCK_BATCH_MQ "Broker.",
        43 GET_ALL_CONSUMER_OFFSET "Broker.",
        45 GET_ALL_DELAY_OFFSET "Broker.",
        46 CHECK_CLIENT_CONFIG "Broker.",
        50 UPDATE_AND_CREATE_ACL_CONFIG "Broker.",
        51 DELETE_ACL_CONFIG "Broker.",
        52 GET_BROKER_CLUSTER_ACL_INFO "Broker.",
        53 UPDATE_GLOBAL_WHITE_ADDRS_CONFIG "Broker.",
        54 GET_BROKER_CLUSTER_ACL_CONFIG "Named but served by nobody in 4.9.8.",
        100 PUT_KV_CONFIG "Name server.",
        101 GET_KV_CONFIG "Name server.",
        102 DELETE_KV_CONFIG "Name server.",
        103 REGISTER_BROKER "Name server.",
        104 UNREGISTER_BROKER "Name server.",
        105 GET_ROUTEINFO_BY_TOPIC "Name server.",
        106 GET_BROKER_CLUSTER_INFO "Name server.",
        200 UPDATE_AND_CREATE_SUBSCRIPTIONGROUP "Broker.",
        201 GET_ALL_SUBSCRIPTIONGROUP_CONFIG "Broker.",
        202 GET_TOPIC_STATS_INFO "Broker.",
        203 GET_CONSUMER_CONNECTION_LIST "Broker.",
        204 GET_PRODUCER_CONNECTION_LIST "Broker.",
        205 WIPE_WRITE_PERM_OF_BROKER "Name server.",
        206 GET_ALL_TOPIC_LIST_FROM_NAMESERVER "Name server.",
        207 DELETE_SUBSCRIPTIONGROUP "Broker.",
        208 GET_CONSUME_STATS "Broker.",
        209 SUSPEND_CONSUMER "Named but served by nobody in 4.9.8.",
        210 RESUME_CONSUMER "Named but served by nobody in 4.9.8.",
        211 RESET_CONSUMER_OFFSET_IN_CONSUMER "Named but served by nobody in 4.9.8.",
        212 RESET_CONSUMER_OFFSET_IN_BROKER "Named but served by nobody in 4.9.8.",
        213 ADJUST_CONSUMER_THREAD_POOL "Named but served by nobody in 4.9.8.",
        214 WHO_CONSUME_THE_MESSAGE "Named but served by nobody in 4.9.8.",
        215 DELETE_TOPIC_IN_BROKER "Broker.",
        216 DELETE_TOPIC_IN_NAMESRV "Name server.",
        219 GET_KVLIST_BY_NAMESPACE "Name server.",
        220 RESET_CONSUMER_CLIENT_OFFSET "Broker to client.",
        221 GET_CONSUMER_STATUS_FROM_CLIENT "Broker to client.",
        222 INVOKE_BROKER_TO_RESET_OFFSET "Broker.",
        223 INVOKE_BROKER_TO_GET_CONSUMER_STATUS "Broker.",
        224 GET_TOPICS_BY_CLUSTER "Name server.",
        300 QUERY_TOPIC_CONSUME_BY_WHO "Broker.",
        301 REGISTER_FILTER_SERVER "Named but served by nobody in 4.9.8.",
        302 REGISTER_MESSAGE_FILTER_CLASS "Named but served by nobody in 4.9.8.",
        303 QUERY_CONSUME_TIME_SPAN "Broker.",
        304 GET_SYSTEM_TOPIC_LIST_FROM_NS "Name server.",
        305 GET_SYSTEM_TOPIC_LIST_FROM_BROKER "Broker.",
        306 CLEAN_EXPIRED_CONSUMEQUEUE "Broker.",
        307 GET_CONSUMER_RUNNING_INFO "Broker, which relays it to a client.",
        308 QUERY_CORRECTION_OFFSET "Broker.",
        309 CONSUME_MESSAGE_DIRECTLY "Broker, which relays it to a client.",
        310 SEND_MESSAGE_V2 "Broker.",
        311 GET_UNIT_TOPIC_LIST "Name server.",
        312 GET_HAS_UNIT_SUB_TOPIC_LIST "Name server.",
        313 GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST "Name server.",
        314 CLONE_GROUP_OFFSET "Broker.",
        315 VIEW_BROKER_STATS_DATA "Broker.",
        316 CLEAN_UNUSED_TOPIC "Broker.",
        317 GET_BROKER_CONSUME_STATS "Broker.",
        318 UPDATE_NAMESRV_CONFIG "Name server.",
        319 GET_NAMESRV_CONFIG "Name server.",
        320 SEND_BATCH_MESSAGE "Broker.",
        321 QUERY_CONSUME_QUEUE "Broker.",
        322 QUERY_DATA_VERSION "Name server.",
        323 RESUME_CHECK_HALF_MESSAGE "Broker.",
        324 SEND_REPLY_MESSAGE "Broker.",
        325 SEND_REPLY_MESSAGE_V2 "Broker.",
        326 PUSH_REPLY_MESSAGE_TO_CLIENT "Broker to client.",
        327 ADD_WRITE_PERM_OF_BROKER "Name server.",
        328 GET_ALL_PRODUCER_INFO "Broker.",
        329 DELETE_EXPIRED_COMMITLOG "Broker.",
        18 UPDATE_AND_CREATE_TOPIC_LIST "5.x.",
        47 GET_CLIENT_CONFIG "5.x.",
        60 GET_TIMER_CHECK_POINT "5.x.",
        61 GET_TIMER_METRICS "5.x.",
        217 REGISTER_TOPIC_IN_NAMESRV "5.x.",
        225 UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST "5.x.",
        343 QUERY_TOPICS_BY_CONSUMER "5.x.",
        345 QUERY_SUBSCRIPTION_BY_CONSUMER "5.x.",
        351 GET_TOPIC_CONFIG "5.x.",
        352 GET_SUBSCRIPTIONGROUP_CONFIG "5.x.",
        353 UPDATE_AND_GET_GROUP_FORBIDDEN "5.x.",
        361 LITE_PULL_MESSAGE "5.x: the same as PULL_MESSAGE, sent by lite-pull consumers.",
        370 RECALL_MESSAGE "5.x.",
        400 QUERY_ASSIGNMENT "5.x.",
        401 SET_MESSAGE_REQUEST_MODE "5.x.",
        402 GET_ALL_MESSAGE_REQUEST_MODE "5.x.",
        513 UPDATE_AND_CREATE_STATIC_TOPIC "5.x.",
        901 GET_BROKER_MEMBER_GROUP "5.x.",
        902 ADD_BROKER "5.x.",
        903 REMOVE_BROKER "5.x.",
        904 BROKER_HEARTBEAT "5.x.",
        905 NOTIFY_MIN_BROKER_ID_CHANGE "5.x.",
        906 EXCHANGE_BROKER_HA_INFO "5.x.",
        907 GET_BROKER_HA_STATUS "5.x.",
        908 RESET_MASTER_FLUSH_OFFSET "5.x.",
        1001 CONTROLLER_ALTER_SYNC_STATE_SET "5.x.",
        1002 CONTROLLER_ELECT_MASTER "5.x.",
        1003 CONTROLLER_REGISTER_BROKER "5.x.",
        1004 CONTROLLER_GET_REPLICA_INFO "5.x.",
        1005 CONTROLLER_GET_METADATA_INFO "5.x.",
        1006 CONTROLLER_GET_SYNC_STATE_DATA "5.x.",
        1007 GET_BROKER_EPOCH_CACHE "5.x.",
        1008 NOTIFY_BROKER_ROLE_CHANGED "5.x.",
        1009 UPDATE_CONTROLLER_CONFIG "5.x.",
        1010 GET_CONTROLLER_CONFIG "5.x.",
        1011 CLEAN_BROKER_DATA "5.x.",
        1012 CONTROLLER_GET_NEXT_BROKER_ID "5.x.",
        1013 CONTROLLER_APPLY_BROKER_ID "5.x.",
        2001 UPDATE_COLD_DATA_FLOW_CTR_CONFIG "5.x.",
        2002 REMOVE_COLD_DATA_FLOW_CTR_CONFIG "5.x.",
        2003 GET_COLD_DATA_FLOW_CTR_INFO "5.x.",
        2004 SET_COMMITLOG_READ_MODE "5.x.",
        3001 AUTH_CREATE_USER "5.x.",
        3002 AUTH_UPDATE_USER "5.x.",
        3003 AUTH_DELETE_USER "5.x.",
        3004 AUTH_GET_USER "5.x.",
        3005 AUTH_LIST_USER "5.x.",
        3006 AUTH_CREATE_ACL "5.x.",
        3007 AUTH_UPDATE_ACL "5.x.",
        3008 AUTH_DELETE_ACL "5.x.",
        3009 AUTH_GET_ACL "5.x.",
        3010 AUTH_LIST_ACL "5.x.",
        46001 HA_LINK "Gantry: a slave asks its master's broker for a link.",
        46002 HA_STATUS "Gantry: how replication is doing.",
        46003 SET_READ_ONLY "Gantry: take no messages from now on, or take them again.",
        46004 PROMOTE "Gantry: a slave shall be the master.",
        46005 TELL_EPOCH "Gantry: a broker of this name was or will be promoted.",
        46006 REJOIN "Gantry: a master that was replaced shall be a slave.",
        46007 HOLD "Gantry: a master shall take no messages for a time.",
        200050 POP_MESSAGE "5.x.",
        200051 ACK_MESSAGE "5.x.",
        200052 PEEK_MESSAGE "5.x.",
        200053 CHANGE_MESSAGE_INVISIBLETIME "5.x.",
        200054 NOTIFICATION "5.x.",
        200055 POLLING_INFO "5.x.",
        200056 POP_ROLLBACK "5.x.",
        200151 BATCH_ACK_MESSAGE "5.x.",
    }
}

/// How a request ended.
pub mod response {
    /// The remark begins so where there is no record (33): its code does not tell that from a failure.
    pub const NO_RECORD: &str = "can not find message by the offset";

    /// Whether an answer to 33 says that there is no record at that place; anything else but success says nothing of it.
    pub fn is_no_record(code: i32, remark: &str) -> bool {
        code == SYSTEM_ERROR && remark.starts_with(NO_RECORD)
    }

    codes! {
        0 SUCCESS "Done.",
        1 SYSTEM_ERROR "Any failure without a code of its own.",
        2 SYSTEM_BUSY "Too busy; stock producers do not try again.",
        3 REQUEST_CODE_NOT_SUPPORTED "Unknown request code.",
        4 TRANSACTION_FAILED "Not sent by 4.9.8 servers.",
        10 FLUSH_DISK_TIMEOUT "Stored, but not yet on disk when the wait ended.",
        11 SLAVE_NOT_AVAILABLE "Stored, but no usable slave; or not answered by a slave.",
        12 FLUSH_SLAVE_TIMEOUT "Stored, but no slave confirmed in time.",
        13 MESSAGE_ILLEGAL "Message too large or its name too long.",
        14 SERVICE_NOT_AVAILABLE "The store does not take messages.",
        15 VERSION_NOT_SUPPORTED "Not sent by 4.9.8 servers.",
        16 NO_PERMISSION "Not permitted.",
        17 TOPIC_NOT_EXIST "No such topic.",
        18 TOPIC_EXIST_ALREADY "Not sent by 4.9.8 servers.",
        19 PULL_NOT_FOUND "No message yet.",
        20 PULL_RETRY_IMMEDIATELY "Nothing for this filter; pull again at once.",
        21 PULL_OFFSET_MOVED "The offset is outside of the queue.",
        22 QUERY_NOT_FOUND "Nothing found.",
        23 SUBSCRIPTION_PARSE_FAILED "The filter expression does not compile.",
        24 SUBSCRIPTION_NOT_EXIST "The group is not online or does not subscribe the topic.",
        25 SUBSCRIPTION_NOT_LATEST "The known subscription is older than the request.",
        26 SUBSCRIPTION_GROUP_NOT_EXIST "No such subscription group.",
        27 FILTER_DATA_NOT_EXIST "No compiled filter.",
        28 FILTER_DATA_NOT_LATEST "The compiled filter is older than the request.",
        200 TRANSACTION_SHOULD_COMMIT "Not sent by 4.9.8 servers.",
        201 TRANSACTION_SHOULD_ROLLBACK "Not sent by 4.9.8 servers.",
        202 TRANSACTION_STATE_UNKNOW "Not sent by 4.9.8 servers.",
        203 TRANSACTION_STATE_GROUP_WRONG "Not sent by 4.9.8 servers.",
        204 NO_BUYER_ID "Not sent by 4.9.8 servers.",
        205 NOT_IN_CURRENT_UNIT "Not sent by 4.9.8 servers.",
        206 CONSUMER_NOT_ONLINE "No consumer of the group is online.",
        207 CONSUME_MSG_TIMEOUT "The client did not answer in time.",
        208 NO_MESSAGE "Only inside of clients.",
        209 UPDATE_AND_CREATE_ACL_CONFIG_FAILED "Also 5.x POLLING_FULL.",
        210 DELETE_ACL_CONFIG_FAILED "Also 5.x POLLING_TIMEOUT.",
        211 UPDATE_GLOBAL_WHITE_ADDRS_CONFIG_FAILED "Also 5.x BROKER_NOT_EXIST.",
        215 FLOW_CONTROL "Never sent by 4.x; consumers slow down on it.",
    }
}

#[cfg(test)]
mod tests {
    use super::{request, response};

    #[test]
    fn names_are_found_and_no_code_is_listed_twice() {
        assert_eq!(request::name(310), "SEND_MESSAGE_V2");
        assert_eq!(request::name(-1), "UNKNOWN");
        assert_eq!(response::name(response::PULL_NOT_FOUND), "PULL_NOT_FOUND");
        for all in [request::ALL, response::ALL] {
            let mut codes: Vec<i32> = all.iter().map(|(code, _)| *code).collect();
            codes.sort_unstable();
            codes.dedup();
            assert_eq!(codes.len(), all.len());
        }
    }
}
