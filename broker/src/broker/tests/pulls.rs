//! Pulling: every refusal with its code and words, where a reader goes on, who is held and who wakes.

use gantry_message::QueueId;

use super::*;

const FAQ: &str = "\nSee http://rocketmq.apache.org/docs/faq/ for further details.";

/// Each case: what the request says differently, the code, and how the remark begins.
async fn check(client: &Client, cases: &[(&str, i32, &str)]) {
    for (changes, code, remark) in cases {
        let reply = client.pull(changes).await;
        let said = reply.remark.as_deref().unwrap_or("");
        assert!(
            reply.code == *code && said.starts_with(remark),
            "{changes}: {} {said}",
            reply.code
        );
    }
}

#[test]
fn refusals_have_javas_codes_and_words() {
    let topic = format!("topic[U] not exist, apply first please! {FAQ}");
    let offline = format!("the consumer's group info not exist{FAQ}");
    let unsubscribed = format!("the consumer's subscription not exist{FAQ}");
    let of = "topic:[T] topicConfig.readQueueNums:[4] consumer:[/127.0.0.1:";
    let (beyond, below) = (
        format!("queueId[4] is illegal, {of}"),
        format!("queueId[-1] is illegal, {of}"),
    );
    let sql = "The broker does not support consumer to filter message by SQL92";
    let unread = "parse the consumer's subscription failed";
    let old = "the consumer's subscription not latest";
    with_broker(
        |_| {},
        async |broker, client| {
            assert_eq!(client.send("").await.code, 0);
            assert_eq!(client.subscribe("On", "T", "a").await.code, 0);
            let cases = [
                ("topic=U", 17, topic.as_str()),
                ("queueId=4", 1, &beyond),
                ("queueId=-1", 1, &below),
                ("subscription=||", 23, unread),
                ("expressionType=SQL92", 1, sql),
                ("sysFlag=0", 24, &offline),
                ("consumerGroup=On topic=TBW102 sysFlag=0", 24, &unsubscribed),
                ("consumerGroup=On sysFlag=0 subVersion=6", 25, old),
                (
                    "consumerGroup=On sysFlag=0 subVersion=5",
                    20,
                    "NO_MATCHED_MESSAGE",
                ),
                ("", 0, "FOUND"),
                ("expressionType=TAG", 0, "FOUND"),
                ("-queueOffset", 1, ""),
            ];
            check(&client, &cases).await;
            Some(broker)
        },
    );
}

#[test]
fn refusals_that_depend_on_settings() {
    with_broker(
        |config| config.broker_permission = 2,
        async |broker, client| {
            let forbidden = "the broker[127.0.0.1] pulling message is forbidden";
            check(&client, &[("topic=U", 16, forbidden)]).await;
            Some(broker)
        },
    );
    with_broker(
        |config| config.auto_create_subscription_group = false,
        async |broker, client| {
            let group = format!("subscription group [G] does not exist, {FAQ}");
            check(&client, &[("topic=U", 26, &group)]).await;
            let set_group = async |settings: &str| {
                let code = request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
                assert_eq!(client.ask(code, &[], settings.as_bytes()).await.code, 0);
            };
            set_group("{\"groupName\":\"G\",\"consumeEnable\":false}").await;
            let paused = "subscription group no permission, G";
            check(&client, &[("topic=U", 16, paused)]).await;
            set_group("{\"groupName\":\"G\",\"consumeBroadcastEnable\":false}").await;
            assert_eq!(client.send("").await.code, 0);
            let beat = "{\"clientID\":\"c\",\"consumerDataSet\":[{\"groupName\":\"G\",\"messageModel\":\
                        \"BROADCASTING\",\"subscriptionDataSet\":[{\"topic\":\"T\",\"subString\":\"*\"}]}]}";
            let reply = client.ask(request::HEART_BEAT, &[], beat.as_bytes()).await;
            assert_eq!(reply.code, 0);
            let broadcast = "the consumer group[G] can not consume by broadcast way";
            check(&client, &[("sysFlag=0", 16, broadcast)]).await;
            let topic = "topic=T defaultTopic=TBW102 readQueueNums=4 writeQueueNums=4 perm=2 \
                         topicFilterType=SINGLE_TAG topicSysFlag=0 order=false";
            let code = request::UPDATE_AND_CREATE_TOPIC;
            assert_eq!(client.ask(code, &fields(topic, ""), b"").await.code, 0);
            let forbidden = "the topic[T] pulling message is forbidden";
            check(&client, &[("", 16, forbidden)]).await;
            Some(broker)
        },
    );
}

#[test]
fn a_reader_neither_skips_nor_repeats() {
    // Queue 0 holds a b a b a; each case: the request, code, next offset, and the offsets found.
    let cases: &[(&str, i32, i64, &[i64])] = &[
        ("", 0, 5, &[0, 1, 2, 3, 4]),
        ("maxMsgNums=2", 0, 2, &[0, 1]),
        ("queueOffset=2 maxMsgNums=2", 0, 4, &[2, 3]),
        ("queueOffset=4 maxMsgNums=2", 0, 5, &[4]),
        ("subscription=a maxMsgNums=1", 0, 1, &[0]),
        ("subscription=a maxMsgNums=2", 0, 3, &[0, 2]),
        ("subscription=a", 0, 5, &[0, 2, 4]),
        ("subscription=b queueOffset=3", 0, 5, &[3]),
        ("subscription=b queueOffset=4", 20, 5, &[]),
        ("subscription=c", 20, 5, &[]),
        ("maxMsgNums=0", 0, 1, &[0]),
        ("maxMsgNums=-3", 0, 1, &[0]),
        ("queueOffset=5", 19, 5, &[]),
        ("queueOffset=6", 21, 5, &[]),
        ("queueOffset=9223372036854775807", 21, 5, &[]),
        ("queueOffset=-1", 21, 0, &[]),
        ("queueOffset=-9223372036854775808", 21, 0, &[]),
        ("queueId=1", 19, 0, &[]),
        ("queueId=1 queueOffset=1", 21, 0, &[]),
        ("queueId=1 queueOffset=-1", 21, 0, &[]),
    ];
    with_broker(
        |_| {},
        async |broker, client| {
            for tag in ["a", "b", "a", "b", "a"] {
                assert_eq!(client.send(&format!("i=TAGS:{tag}")).await.code, 0);
            }
            for code in [request::PULL_MESSAGE, request::LITE_PULL_MESSAGE] {
                for (changes, expected, next, offsets) in cases {
                    let reply = client.ask(code, &pull_fields(changes), b"").await;
                    let found: Vec<i64> = records(&reply)
                        .iter()
                        .map(|line| line.split(' ').nth(2).unwrap().parse().unwrap())
                        .collect();
                    assert_eq!(
                        (reply.code, number(&reply, "nextBeginOffset"), &found[..]),
                        (*expected, *next, *offsets),
                        "{changes}"
                    );
                    let max = if changes.contains("queueId=1") { 0 } else { 5 };
                    assert_eq!(number(&reply, "maxOffset"), max, "{changes}");
                    assert_eq!(number(&reply, "minOffset"), 0, "{changes}");
                    assert_eq!(number(&reply, "suggestWhichBrokerId"), 0, "{changes}");
                }
            }
            // Each correction left an event.
            let moved = client.pull("topic=OFFSET_MOVED_EVENT subscription=G").await;
            assert_eq!((moved.code, records(&moved).len()), (0, 12));
            Some(broker)
        },
    );
}

#[test]
fn a_held_pull_wakes_for_what_it_wants_and_for_nothing_else() {
    with_broker(
        |_| {},
        async |broker, client| {
            client.prepare("b").await;
            let wait = "sysFlag=6 suspendTimeoutMillis=600000 queueOffset=1";
            let begin = |wait: &str| client.begin(request::PULL_MESSAGE, &pull_fields(wait));
            let (tagged, any) = (begin(&format!("{wait} subscription=a")), begin(wait));
            client.settle().await;
            assert_eq!(client.send("i=TAGS:b").await.code, 0);
            let any = any.answer(PATIENCE).await.unwrap();
            assert_eq!((any.code, number(&any, "nextBeginOffset")), (0, 2));
            assert_eq!(client.send("i=TAGS:a").await.code, 0);
            // An answer to the message it did not want would have been code 20.
            let tagged = tagged.answer(PATIENCE).await.unwrap();
            assert_eq!((tagged.code, number(&tagged, "nextBeginOffset")), (0, 3));
            assert_eq!(records(&tagged), ["T 0 2 0: TAGS:a;CLUSTER:DefaultCluster"]);
            Some(broker)
        },
    );
}

#[test]
fn a_held_pull_is_answered_when_its_time_is_over() {
    with_broker(
        |_| {},
        async |broker, client| {
            client.prepare("b").await;
            for timeout in [0, -5, 30] {
                let wait = format!("sysFlag=6 suspendTimeoutMillis={timeout} queueOffset=1");
                let reply = client.pull(&wait).await;
                assert_eq!((reply.code, number(&reply, "nextBeginOffset")), (19, 1));
                assert_eq!(reply.remark.as_deref(), Some("OFFSET_OVERFLOW_ONE"));
            }
            Some(broker)
        },
    );
}

#[test]
fn held_pulls_are_answered_at_the_stop() {
    with_broker(
        |_| {},
        async |broker, client| {
            client.prepare("b").await;
            let wait = "sysFlag=6 suspendTimeoutMillis=9223372036854775807 queueOffset=1";
            let begin = || client.begin(request::PULL_MESSAGE, &pull_fields(wait));
            let held = [begin(), begin()];
            client.settle().await;
            broker.stop().await.unwrap();
            for held in held {
                let reply = held.answer(PATIENCE).await.unwrap();
                assert_eq!((reply.code, number(&reply, "nextBeginOffset")), (19, 1));
            }
            None
        },
    );
}

#[test]
fn a_pull_held_for_a_queue_that_is_deleted_is_told_so() {
    with_broker(
        |_| {},
        async |broker, client| {
            client.prepare("b").await;
            let wait = pull_fields("sysFlag=6 suspendTimeoutMillis=600000 queueOffset=1");
            let held = client.begin(request::PULL_MESSAGE, &wait);
            client.settle().await;
            let code = request::DELETE_TOPIC_IN_BROKER;
            let reply = client.ask(code, &fields("topic=T", ""), b"").await;
            assert_eq!(reply.code, 0);
            let reply = held.answer(PATIENCE).await.unwrap();
            assert_eq!(reply.code, response::TOPIC_NOT_EXIST);
            // A queue that is cleaned away while its topic stays begins anew.
            assert_eq!(client.send("").await.code, 0);
            let held = client.begin(request::PULL_MESSAGE, &wait);
            client.settle().await;
            broker.store.delete_topic("T").unwrap();
            let reply = held.answer(PATIENCE).await.unwrap();
            assert_eq!(
                (reply.code, number(&reply, "nextBeginOffset")),
                (response::PULL_OFFSET_MOVED, 0)
            );
            Some(broker)
        },
    );
}

#[test]
fn an_offset_that_comes_with_a_pull_is_taken_once() {
    with_broker(
        |_| {},
        async |broker, client| {
            let position = || broker.offsets.query("G", "T", QueueId(0)).map(|at| at.0);
            client.prepare("b").await;
            let refused = client.pull("sysFlag=5 commitOffset=1 queueId=9").await;
            assert_eq!((refused.code, position()), (1, None));
            let without = client.pull("sysFlag=4 commitOffset=1").await;
            assert_eq!((without.code, position()), (0, None));
            let wait = "sysFlag=7 suspendTimeoutMillis=600000 queueOffset=1 commitOffset=1";
            let held = client.begin(request::PULL_MESSAGE, &pull_fields(wait));
            client.settle().await;
            assert_eq!(position(), Some(1), "taken although the pull is held");
            let update = fields("consumerGroup=G topic=T queueId=0 commitOffset=7", "");
            let code = request::UPDATE_CONSUMER_OFFSET;
            assert_eq!(client.ask(code, &update, b"").await.code, 0);
            assert_eq!(client.send("").await.code, 0);
            assert_eq!(held.answer(PATIENCE).await.unwrap().code, 0);
            assert_eq!(position(), Some(7), "not taken again when it wakes");
            Some(broker)
        },
    );
}

#[test]
fn more_held_pulls_than_may_be_are_refused() {
    with_broker(
        |config| config.max_parked_pulls = 1,
        async |broker, client| {
            client.prepare("b").await;
            let wait = "sysFlag=6 suspendTimeoutMillis=600000";
            let begin = |offset: i32| {
                let wait = pull_fields(&format!("{wait} queueOffset={offset}"));
                client.begin(request::PULL_MESSAGE, &wait)
            };
            let first = begin(1);
            let second = begin(1).answer(PATIENCE).await.unwrap();
            let full =
                "[OVERLOAD]system busy, start flow control for a while: held pulls 1, limit 1";
            assert_eq!((second.code, second.remark.as_deref()), (14, Some(full)));
            // The place is free again once the first is answered.
            assert_eq!(client.send("").await.code, 0);
            assert_eq!(first.answer(PATIENCE).await.unwrap().code, 0);
            let third = begin(2);
            client.settle().await;
            assert_eq!(client.send("").await.code, 0);
            assert_eq!(third.answer(PATIENCE).await.unwrap().code, 0);
            Some(broker)
        },
    );
}
