//! Texts as RocketMQ 4.9.8 prints them: taken from its sources, format strings filled in.

use std::sync::Arc;

use super::*;

fn topic() -> TopicConfig {
    TopicConfig {
        topic_name: "T".to_owned(),
        read_queue_nums: 4,
        write_queue_nums: 8,
        ..TopicConfig::default()
    }
}

#[test]
fn texts_are_javas() {
    let peer: SocketAddr = ([10, 0, 0, 9], 5555).into();
    let faq = "\nSee http://rocketmq.apache.org/docs/faq/ for further details.";
    let cases: Vec<(Refusal, i32, String)> = vec![
        (Refusal::code_not_supported(999), 3, " request type 999 not supported".into()),
        (Refusal::broker_not_writable("10.0.0.1"), 16, "the broker[10.0.0.1] sending message is forbidden".into()),
        (Refusal::topic_name(TopicError::Blank), 1, "The specified topic is blank.".into()),
        (
            Refusal::topic_name(TopicError::IllegalCharacter),
            1,
            "The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$".into(),
        ),
        (
            Refusal::topic_name(TopicError::TooLong { length: 200 }),
            1,
            "The specified topic is longer than topic max length. topic of 200 characters, limit 127".into(),
        ),
        (Refusal::topic_forbidden("T"), 16, "Sending message to topic[T] is forbidden.".into()),
        (Refusal::topic_not_exist_on_send("T"), 17, format!("topic[T] not exist, apply first please!{faq}")),
        (Refusal::topic_not_exist("T"), 17, format!("topic[T] not exist, apply first please! {faq}")),
        (Refusal::topic_missing("T"), 17, "topic[T] not exist".into()),
        (
            Refusal::queue_id_illegal(8, &topic(), peer),
            1,
            "request queueId[8] is illegal, TopicConfig [topicName=T, readQueueNums=4, writeQueueNums=8, perm=RW-, \
             topicFilterType=SINGLE_TAG, topicSysFlag=0, order=false] Producer: 10.0.0.9:5555"
                .into(),
        ),
        (Refusal::group_not_exist_on_send("G"), 26, format!("subscription group not exist, G {faq}")),
        (Refusal::group_not_exist_on_pull("G"), 26, format!("subscription group [G] does not exist, {faq}")),
        (
            Refusal::transaction_forbidden("10.0.0.1"),
            16,
            "the broker[10.0.0.1] sending transaction message is forbidden".into(),
        ),
        (Refusal::topic_not_writable("T"), 16, "the topic[T] sending message is forbidden".into()),
        (Refusal::record_not_found_for_send_back(7), 1, "look message by offset failed, 7".into()),
        (Refusal::broker_not_readable("10.0.0.1"), 16, "the broker[10.0.0.1] pulling message is forbidden".into()),
        (Refusal::group_forbidden("G"), 16, "subscription group no permission, G".into()),
        (Refusal::topic_not_readable("T"), 16, "the topic[T] pulling message is forbidden".into()),
        (
            Refusal::pull_queue_illegal(9, "T", 4, peer),
            1,
            "queueId[9] is illegal, topic:[T] topicConfig.readQueueNums:[4] consumer:[/10.0.0.9:5555]".into(),
        ),
        (Refusal::subscription_parse_failed(), 23, "parse the consumer's subscription failed".into()),
        (Refusal::group_not_online(), 24, format!("the consumer's group info not exist{faq}")),
        (Refusal::broadcast_forbidden("G"), 16, "the consumer group[G] can not consume by broadcast way".into()),
        (Refusal::topic_not_subscribed(), 24, format!("the consumer's subscription not exist{faq}")),
        (Refusal::subscription_not_latest(), 25, "the consumer's subscription not latest".into()),
        (
            Refusal::filter_type_not_supported("SQL92"),
            1,
            "The broker does not support consumer to filter message by SQL92".into(),
        ),
        (Refusal::no_consumer("G"), 1, "no consumer for this group, G".into()),
        (Refusal::consumer_not_online("G"), 206, "the consumer group[G] not online".into()),
        (Refusal::producer_not_exist("G"), 1, "the producer group[G] not exist".into()),
        (
            Refusal::offset_not_found(),
            22,
            "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first".into(),
        ),
        (Refusal::reset_group_unknown("G"), 1, "THe consumer group <G> not exist".into()),
        (
            Refusal::reset_not_online("G", "T", 5),
            206,
            "Consumer not online, so can not reset offset, Group: G Topic: T Timestamp: 5".into(),
        ),
        (Refusal::client_not_online("G", "c"), 1, "The Consumer <G> <c> not online".into()),
        (
            Refusal::client_too_old("c", &"V3_0_0"),
            1,
            "The Consumer <c> Version <V3_0_0> too low to finish, please upgrade it to V3_1_8_SNAPSHOT".into(),
        ),
        (Refusal::query_found_nothing(), 22, "can not find message, maybe time range not correct".into()),
        (Refusal::record_not_found(7), 1, "can not find message by the offset, 7".into()),
        (Refusal::stats_not_exist("N", "k"), 1, "The stats <N> <k> not exist".into()),
        (Refusal::queue_not_exist(QueueId(3), "T"), 1, "3@T is not exist!".into()),
        (Refusal::config_black_list(), 16, "Can not update config in black list.".into()),
        (Refusal::system_topic("T"), 1, "The topic[T] is conflict with system topic.".into()),
        (
            Refusal::slave_is_read_only(),
            1,
            "Can't modify topic or subscription group from slave broker, please execute it from master broker.".into(),
        ),
        (Refusal::nothing_in_this_broker("topic"), 1, "No topic in this broker".into()),
    ];
    for (refusal, code, remark) in cases {
        assert_eq!(refusal, Refusal { code, remark });
    }
}

#[test]
fn what_the_store_does_not_take_is_answered_by_whose_fault_it_is() {
    let disk = DiskUse {
        log: 0.85,
        queues: 0.5,
        index: 1.0,
    };
    let java = "service not available now. It may be caused by one of the following reasons: the broker's disk is full \
                [CL:  0.85 CQ:  0.50 INDEX:  1.00], messages are put to the slave, message store has been shut down, etc. ";
    let illegal = "the message is illegal, maybe msg body or properties length not matched. msg body length limit \
                   4194304B, msg properties length limit 32KB. ";
    let cases: [(AppendError, i32, &str, &str); 6] = [
        (AppendError::ShutDown, 14, java, "the store is shut down"),
        (
            AppendError::Latched {
                error: Arc::from("EIO"),
            },
            14,
            java,
            "the store takes no messages since EIO",
        ),
        (
            AppendError::DiskFull {
                dir: Arc::from(std::path::Path::new("/d")),
                used: 91,
                limit: 90,
            },
            14,
            java,
            "the disk of /d is 91 % full, the limit is 90 %",
        ),
        (
            AppendError::BodyTooLarge { size: 9, limit: 8 },
            13,
            illegal,
            "body of 9 bytes, the limit is 8",
        ),
        (
            AppendError::PropertiesTooLarge { size: 9, limit: 8 },
            13,
            illegal,
            "properties of 9 bytes, the limit is 8",
        ),
        (
            AppendError::TopicTooLong {
                size: 130,
                limit: 127,
            },
            13,
            illegal,
            "topic of 130 bytes, the limit is 1 to 127",
        ),
    ];
    for (error, code, words, detail) in cases {
        let refusal = Refusal::append(&error, 4_194_304, disk);
        assert_eq!(
            (refusal.code, refusal.remark),
            (code, format!("{words}{detail}"))
        );
    }
}

#[test]
fn overload_answers_the_configured_code_and_names_what_is_full() {
    for (code, expected) in [
        (OverloadCode::ServiceNotAvailable, 14),
        (OverloadCode::SystemBusy, 2),
    ] {
        let refusal = Refusal::overloaded(code, "sends waiting", 10_001, 10_000);
        assert_eq!(refusal.code, expected);
        assert_eq!(
            refusal.remark,
            "[OVERLOAD]system busy, start flow control for a while: sends waiting 10001, limit 10000"
        );
    }
}

#[test]
fn the_time_from_which_sends_are_served_is_local_time_as_java_prints_it() {
    let refusal = Refusal::not_serving_until(Millis(1_700_000_000_123));
    assert_eq!(refusal.code, 1);
    let time = refusal
        .remark
        .strip_prefix("broker unable to service, until ")
        .unwrap();
    // The zone is the machine's; the shape, the minute's seconds and the milliseconds are not.
    assert_eq!(time.len(), "2023-11-14 22:13:20,123".len());
    assert!(
        time.starts_with("2023-11-1") && time.ends_with(":20,123"),
        "{time}"
    );
}
