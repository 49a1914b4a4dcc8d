//! Sending: every refusal with its code and words, and what is stored as what.

use std::collections::BTreeSet;

use super::*;

const FAQ: &str = "\nSee http://rocketmq.apache.org/docs/faq/ for further details.";

/// Each case: what the request says differently, the code, and how the remark begins.
async fn check(client: &Client, cases: &[(&str, i32, &str)]) {
    for (changes, code, remark) in cases {
        let reply = client.send(changes).await;
        let said = reply.remark.as_deref().unwrap_or("");
        assert!(
            reply.code == *code && said.starts_with(remark),
            "{changes}: {} {said}",
            reply.code
        );
        assert!(reply.code != 0 || said.is_empty(), "{changes}: {said}");
        // Java's client wants them in every answer.
        let extras = ["MSG_REGION", "TRACE_ON"].map(|name| reply.fields.get(name));
        assert_eq!(extras, [Some("DefaultRegion"), Some("true")], "{changes}");
    }
}

#[test]
fn refusals_have_javas_codes_and_words() {
    let long = format!("b={}", "t".repeat(128));
    let unknown = format!("topic[U] not exist, apply first please!{FAQ}");
    let queue = "request queueId[4] is illegal, TopicConfig [topicName=T, readQueueNums=4, writeQueueNums=4, \
                 perm=RW-, topicFilterType=SINGLE_TAG, topicSysFlag=0, order=false] Producer: 127.0.0.1:";
    let transaction = "the broker[127.0.0.1] sending transaction message is forbidden";
    let illegal = "the message is illegal, maybe msg body or properties length not matched. msg body length limit \
                   100B, msg properties length limit 32KB.";
    let characters =
        "The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$";
    let closed = "Sending message to topic[SCHEDULE_TOPIC_XXXX] is forbidden.";
    let properties = format!("i=K:{}", "v".repeat(32_767));
    with_broker(
        |config| config.store.max_message_size = 100,
        async |broker, client| {
            let cases = [
                ("b=", 1, "The specified topic is blank."),
                ("b=a.b", 1, characters),
                (
                    &long,
                    1,
                    "The specified topic is longer than topic max length.",
                ),
                ("b=SCHEDULE_TOPIC_XXXX", 16, closed),
                (
                    "b=RMQ_SYS_TRANS_HALF_TOPIC",
                    16,
                    "Sending message to topic[",
                ),
                ("b=U c=Nothing", 17, &unknown),
                // It is there, but nothing is made after it.
                ("b=U c=SELF_TEST_TOPIC", 17, &unknown),
                ("e=4", 1, queue),
                ("e=3", 0, ""),
                ("e=-1", 0, ""),
                ("b=%RETRY%X e=3", 0, ""),
                ("i=TRAN_MSG:true", 16, transaction),
                ("i=TRAN_MSG:TRUE", 16, transaction),
                ("i=TRAN_MSG:yes", 0, ""),
                ("f=4", 16, transaction),
                ("i=DELAY:x", 1, "the delay level"),
                ("i=DELAY:2147483648", 1, "the delay level"),
                ("i=DELAY:-1", 0, ""),
                ("-e", 1, ""),
                (&properties, 13, illegal),
            ];
            check(&client, &cases).await;
            let large = client
                .ask(request::SEND_MESSAGE_V2, &send_fields(""), &[7; 101])
                .await;
            assert_eq!(large.code, response::MESSAGE_ILLEGAL);
            assert!(large.remark.unwrap().starts_with(illegal));
            Some(broker)
        },
    );
}

#[test]
fn refusals_that_depend_on_settings() {
    with_broker(
        |config| config.start_accept_send_request_time_stamp = 4_102_444_800_000,
        async |broker, client| {
            let until = "broker unable to service, until 2";
            check(&client, &[("", 1, until), ("b=", 1, until)]).await;
            Some(broker)
        },
    );
    with_broker(
        |config| {
            config.auto_create_subscription_group = false;
            config.auto_create_topic_enable = false;
        },
        async |broker, client| {
            let group = format!("subscription group not exist, X {FAQ}");
            let topic = format!("topic[T] not exist, apply first please!{FAQ}");
            check(&client, &[("b=%RETRY%X", 26, &group), ("", 17, &topic)]).await;
            Some(broker)
        },
    );
    with_broker(
        |config| config.broker_permission = 4,
        async |broker, client| {
            // Only the route keeps producers away, but from ordered topics.
            check(&client, &[("", 0, "")]).await;
            let ordered = BTreeSet::from(["T".to_owned()]);
            broker
                .topics
                .set_order_topics(&ordered, Millis::now())
                .unwrap();
            let forbidden = "the broker[127.0.0.1] sending message is forbidden";
            check(&client, &[("", 16, forbidden)]).await;
            Some(broker)
        },
    );
}

#[test]
fn a_batch_is_refused_as_a_whole() {
    let one = || batch_of(&["K:v"]);
    let cases = [
        ("m=true", one(), 0),
        ("m=true i=DELAY:0", one(), 0),
        ("m=true f=4", one(), 13),
        ("m=true i=DELAY:1", one(), 13),
        ("m=true i=DELAY:x", one(), 1),
        ("m=true", Vec::new(), 13),
        ("m=true", one()[..20].to_vec(), 13),
        ("m=true", vec![0xff; 40], 13),
        ("m=true", batch_of(&["K:v"; 60]), 13),
    ];
    with_broker(
        |config| config.store.max_message_size = 1_000,
        async |broker, client| {
            for code in [request::SEND_BATCH_MESSAGE, request::SEND_MESSAGE_V2] {
                for (changes, body, expected) in &cases {
                    let reply = client.ask(code, &send_fields(changes), body).await;
                    let length = body.len();
                    assert_eq!(reply.code, *expected, "{changes} {length} bytes: {reply:?}");
                }
            }
            let stored = client.pull("").await;
            assert_eq!(records(&stored).len(), 4, "of what was refused, nothing");
            Some(broker)
        },
    );
}

#[test]
fn a_batch_may_grow_beyond_the_message_limit_but_not_without_bound() {
    with_broker(
        |config| config.store.max_message_size = 1_000,
        async |broker, client| {
            let body = batch_of(&["K:v"; 30]);
            let code = request::SEND_BATCH_MESSAGE;
            let reply = client.ask(code, &send_fields("m=true"), &body).await;
            assert_eq!(reply.code, 0, "{reply:?}");
            // The request is small, but every message would carry what it says for all.
            let fields = send_fields(&format!("m=true i=K:{}", "v".repeat(500)));
            let reply = client.ask(code, &fields, &body).await;
            let remark = "the message is illegal, the messages of the batch take more than 8000B when they are stored";
            assert_eq!((reply.code, reply.remark.as_deref()), (13, Some(remark)));
            Some(broker)
        },
    );
}

#[test]
fn each_message_of_a_batch_carries_what_the_batch_says() {
    with_broker(
        |_| {},
        async |broker, client| {
            let body = batch_of(&["TAGS:a;WAIT:true", "K:v;", ""]);
            let fields = send_fields("m=true i=WAIT:true;TAGS:b j=2 e=1");
            let reply = client
                .ask(request::SEND_BATCH_MESSAGE, &fields, &body)
                .await;
            assert_eq!((reply.code, number(&reply, "queueOffset")), (0, 0));
            assert_eq!(reply.fields.get("msgId").unwrap().split(',').count(), 3);
            // The tags of the batch come last, so they count: in the filter as in the record.
            let found = client.pull("queueId=1 subscription=b").await;
            assert_eq!(
                records(&found),
                [
                    "T 1 0 2: TAGS:a;WAIT:true;WAIT:true;TAGS:b;CLUSTER:DefaultCluster",
                    "T 1 1 2: K:v;WAIT:true;TAGS:b;CLUSTER:DefaultCluster",
                    "T 1 2 2: WAIT:true;TAGS:b;CLUSTER:DefaultCluster",
                ]
            );
            Some(broker)
        },
    );
}

#[test]
fn what_is_stored_depends_on_delay_and_retries() {
    // What is sent, where it is looked for, and the record found there.
    let cases = [
        (
            "i=TAGS:a;WAIT:true;CLUSTER:other",
            "topic=T",
            "T 0 0 0: TAGS:a;CLUSTER:DefaultCluster",
        ),
        (
            "i=DELAY:17;WAIT:false e=2",
            "topic=SCHEDULE_TOPIC_XXXX queueId=16",
            "SCHEDULE_TOPIC_XXXX 16 0 0: WAIT:false;CLUSTER:DefaultCluster;DELAY:17;REAL_TOPIC:T;REAL_QID:2",
        ),
        (
            "i=DELAY:99;REAL_TOPIC:X",
            "topic=SCHEDULE_TOPIC_XXXX queueId=17",
            "SCHEDULE_TOPIC_XXXX 17 0 0: CLUSTER:DefaultCluster;DELAY:18;REAL_TOPIC:T;REAL_QID:0",
        ),
        (
            "b=%RETRY%G j=15",
            "topic=%RETRY%G",
            "%RETRY%G 0 0 15: CLUSTER:DefaultCluster",
        ),
        (
            "b=%RETRY%G j=16 i=DELAY:18",
            "topic=%DLQ%G",
            "%DLQ%G 0 0 16: DELAY:18;CLUSTER:DefaultCluster",
        ),
        (
            "b=%RETRY%H j=3 l=3",
            "topic=%DLQ%H",
            "%DLQ%H 0 0 3: CLUSTER:DefaultCluster",
        ),
        (
            "b=%RETRY%H j=16 l=17",
            "topic=%RETRY%H",
            "%RETRY%H 0 0 16: CLUSTER:DefaultCluster",
        ),
    ];
    with_broker(
        |_| {},
        async |broker, client| {
            for (sent, place, expected) in cases {
                let reply = client.send(sent).await;
                assert_eq!(reply.code, 0, "{sent}: {:?}", reply.remark);
                assert_eq!(records(&client.pull(place).await), [expected], "{sent}");
            }
            Some(broker)
        },
    );
}

#[test]
fn a_delayed_message_counts_for_its_topic_when_it_gets_there() {
    with_broker(
        |_| {},
        async |broker, client| {
            assert_eq!(client.send("i=DELAY:18").await.code, 0);
            for (topic, expected) in [("SCHEDULE_TOPIC_XXXX", 0), ("T", 1)] {
                let asked = fields("statsName=TOPIC_PUT_NUMS", &format!("statsKey={topic}"));
                let reply = client
                    .ask(request::VIEW_BROKER_STATS_DATA, &asked, b"")
                    .await;
                assert_eq!(reply.code, expected, "{topic}");
            }
            Some(broker)
        },
    );
}

/// The store follows what administrators change, and takes only what is in range.
#[test]
fn settings_of_the_store_change_while_it_runs() {
    with_broker(
        |config| config.store.max_message_size = 3,
        async |broker, client| {
            let update = async |text: &str| client.ask(25, &[], text.as_bytes()).await;
            assert_eq!(client.send("").await.code, 13);
            for bad in [
                "maxMessageSize=0",
                "deleteWhen=24",
                "deleteWhen=four",
                "diskMaxUsedSpaceRatio=9",
            ] {
                let refused = update(bad).await;
                assert_eq!(refused.code, 1, "{bad}");
            }
            let fixed = update("mapedFileSizeCommitLog=1048577").await;
            assert_eq!(fixed.code, 16, "{:?}", fixed.remark);
            let taken = update("maxMessageSize=4\ndeleteWhen=03;15;\nfileReservedTime=1\n").await;
            assert_eq!((taken.code, taken.remark), (0, None));
            assert_eq!(client.send("").await.code, 0);
            Some(broker)
        },
    );
}

#[test]
fn a_queue_that_was_deleted_is_made_again_by_the_next_send() {
    with_broker(
        |_| {},
        async |broker, client| {
            for expected in [0, 1] {
                let reply = client.send("").await;
                assert_eq!((reply.code, number(&reply, "queueOffset")), (0, expected));
            }
            // As cleaning does (306): the topic stays as it is.
            broker.store.delete_topic("T").unwrap();
            let reply = client.send("").await;
            assert_eq!(reply.code, 0, "{reply:?}");
            assert_eq!(number(&reply, "queueOffset"), 0);
            assert_eq!(records(&client.pull("").await).len(), 1);
            Some(broker)
        },
    );
}

#[test]
fn with_synchronous_flush_an_answer_comes_after_the_sync() {
    with_broker(
        |config| config.store.flush_disk_type = FlushDiskType::SyncFlush,
        async |broker, client| {
            for changes in ["", "i=WAIT:true", "m=true"] {
                let body = batch_of(&["K:v"]);
                let reply = client
                    .ask(request::SEND_MESSAGE_V2, &send_fields(changes), &body)
                    .await;
                assert_eq!(reply.code, 0, "{changes}");
                let (max, flushed) = (broker.store.max_offset().0, broker.store.flushed().value());
                assert_eq!(max, flushed, "{changes}");
            }
            Some(broker)
        },
    );
}

/// A sync may end at any moment between two looks at who waits for it; whoever missed it would wait for his deadline.
#[test]
fn no_send_misses_the_sync_of_its_bytes() {
    let sync = |config: &mut BrokerConfig| {
        config.store.flush_disk_type = FlushDiskType::SyncFlush;
        config.store.sync_flush_timeout = 600_000;
    };
    with_broker(sync, async |broker, client| {
        // Answering many connections takes long enough for the next sync to end meanwhile.
        let mut clients = vec![client];
        for _ in 0..31 {
            clients.push(Client::connect(&broker).await);
        }
        for _ in 0..40 {
            let sends: Vec<Pending> = clients
                .iter()
                .map(|client| client.begin(request::SEND_MESSAGE_V2, &send_fields("")))
                .collect();
            for send in sends {
                assert_eq!(send.answer(PATIENCE).await.unwrap().code, 0);
            }
        }
        Some(broker)
    });
}

#[test]
fn a_sync_master_without_a_slave_stores_and_says_that_there_is_no_second_copy() {
    with_broker(
        |config| config.store.broker_role = BrokerRole::SyncMaster,
        async |broker, client| {
            let cases = [
                ("", response::SLAVE_NOT_AVAILABLE, ""),
                ("i=WAIT:true", response::SLAVE_NOT_AVAILABLE, ""),
                ("i=WAIT:false", response::SUCCESS, ""),
            ];
            check(&client, &cases).await;
            let stored = client.send("").await;
            assert!(stored.fields.get("msgId").is_some());
            Some(broker)
        },
    );
}
