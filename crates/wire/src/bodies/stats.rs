//! Figures for administrators: 303, 315, 321.

use super::{MessageQueue, SubscriptionData, bodies};

bodies! {
    /// From when to when messages lie in a queue. The texts are Java's rendering of the numbers in the broker's time zone
    /// (`yyyy-MM-dd#HH:mm:ss:SSS`); nobody reads them.
    #[derive(Eq)]
    QueueTimeSpan "QueueTimeSpan" {
        consume_time_stamp: i64, "consumeTimeStamp";
        consume_time_stamp_str: Option<String>, "consumeTimeStampStr";
        delay_time: i64, "delayTime";
        max_time_stamp: i64, "maxTimeStamp";
        max_time_stamp_str: Option<String>, "maxTimeStampStr";
        message_queue: MessageQueue, "messageQueue";
        min_time_stamp: i64, "minTimeStamp";
        min_time_stamp_str: Option<String>, "minTimeStampStr";
    }

    /// Answer to 303.
    #[derive(Eq)]
    QueryConsumeTimeSpan "QueryConsumeTimeSpanBody" {
        consume_time_span_set: Vec<QueueTimeSpan>, "consumeTimeSpanSet";
    }

    /// A counter over one period.
    #[derive(Copy)]
    BrokerStatsItem "BrokerStatsItem" {
        avgpt: f64, "avgpt";
        sum: i64, "sum";
        tps: f64, "tps";
    }

    /// Answer to 315.
    #[derive(Copy)]
    BrokerStatsData "BrokerStatsData" {
        stats_day: BrokerStatsItem, "statsDay";
        stats_hour: BrokerStatsItem, "statsHour";
        stats_minute: BrokerStatsItem, "statsMinute";
    }

    /// One entry of a consume queue.
    #[derive(Eq)]
    ConsumeQueueData "ConsumeQueueData" {
        bit_map: Option<String>, "bitMap";
        /// Whether the group's filter lets it through.
        eval: bool, "eval";
        extend_data_json: Option<String>, "extendDataJson";
        msg: Option<String>, "msg";
        physic_offset: i64, "physicOffset";
        physic_size: i32, "physicSize";
        tags_code: i64, "tagsCode";
    }

    /// Answer to 321.
    #[derive(Eq)]
    QueryConsumeQueue "QueryConsumeQueueResponseBody" {
        filter_data: Option<String>, "filterData";
        max_queue_index: i64, "maxQueueIndex";
        min_queue_index: i64, "minQueueIndex";
        queue_data: Vec<ConsumeQueueData>, "queueData";
        subscription_data: Option<SubscriptionData>, "subscriptionData";
    }
}
