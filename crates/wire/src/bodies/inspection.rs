//! What clients report when asked: 307 and 309. Brokers relay the bytes untouched; only mqadmin reads them.

use std::collections::BTreeMap;

use super::{MessageQueue, SubscriptionData, bodies, names};

names! {
    /// How a message was handled.
    ConsumeResult {
        /// Well.
        #[default]
        Success "CR_SUCCESS",
        /// To be tried again.
        Later "CR_LATER",
        /// Rolled back.
        Rollback "CR_ROLLBACK",
        /// Committed.
        Commit "CR_COMMIT",
        /// The listener failed.
        ThrowException "CR_THROW_EXCEPTION",
        /// The listener gave no result.
        ReturnNull "CR_RETURN_NULL",
    }
}

bodies! {
    /// One queue as its consumer sees it.
    #[derive(Eq)]
    ProcessQueueInfo "ProcessQueueInfo" {
        cached_msg_count: i32, "cachedMsgCount";
        cached_msg_max_offset: i64, "cachedMsgMaxOffset";
        cached_msg_min_offset: i64, "cachedMsgMinOffset";
        cached_msg_size_in_mib: i32, "cachedMsgSizeInMiB";
        commit_offset: i64, "commitOffset";
        /// Java's spelling.
        droped: bool, "droped";
        last_consume_timestamp: i64, "lastConsumeTimestamp";
        last_lock_timestamp: i64, "lastLockTimestamp";
        last_pull_timestamp: i64, "lastPullTimestamp";
        locked: bool, "locked";
        transaction_msg_count: i32, "transactionMsgCount";
        transaction_msg_max_offset: i64, "transactionMsgMaxOffset";
        transaction_msg_min_offset: i64, "transactionMsgMinOffset";
        try_unlock_times: i64, "tryUnlockTimes";
    }

    /// Rates of one topic in one consumer.
    ConsumeStatus "ConsumeStatus" {
        consume_failed_msgs: i64, "consumeFailedMsgs";
        consume_failed_tps: f64, "consumeFailedTPS";
        consume_ok_tps: f64, "consumeOKTPS";
        consume_rt: f64, "consumeRT";
        pull_rt: f64, "pullRT";
        pull_tps: f64, "pullTPS";
    }

    /// Answer to 307.
    ConsumerRunningInfo "ConsumerRunningInfo" {
        /// Stacks of all threads, if asked for.
        jstack: Option<String>, "jstack";
        mq_table: BTreeMap<MessageQueue, ProcessQueueInfo>, "mqTable";
        /// `PROP_CLIENT_VERSION` and the like.
        properties: BTreeMap<String, String>, "properties";
        /// By topic.
        status_table: BTreeMap<String, ConsumeStatus>, "statusTable";
        subscription_set: Vec<SubscriptionData>, "subscriptionSet";
    }

    /// Answer to 309.
    #[derive(Eq)]
    ConsumeMessageDirectlyResult "ConsumeMessageDirectlyResult" {
        auto_commit: bool = true, "autoCommit";
        consume_result: Option<ConsumeResult>, "consumeResult";
        order: bool, "order";
        remark: Option<String>, "remark";
        spent_time_mills: i64, "spentTimeMills";
    }
}
