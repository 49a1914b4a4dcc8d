//! A broker that is a slave: what it takes from nobody but its master, and what it does for readers all the same.

use super::*;

const READ_ONLY: &str = "Can't modify topic or subscription group from slave broker, please execute it from master broker.";

fn as_slave(config: &mut BrokerConfig) {
    config.store.broker_role = BrokerRole::Slave;
    config.broker_id = 1;
}

#[test]
fn writes_are_refused_with_javas_codes_and_words_and_nothing_is_made_for_them() {
    with_broker(as_slave, async |broker, client| {
        let sent = client.send("").await;
        assert_eq!(sent.code, 14);
        let remark = sent.remark.unwrap_or_default();
        assert!(remark.contains("messages are put to the slave"), "{remark}");
        assert!(broker.topics.get("T").is_none(), "no topic is made by it");
        let back = fields("offset=0 group=G delayLevel=0", "");
        let back = client
            .ask(request::CONSUMER_SEND_MSG_BACK, &back, b"")
            .await;
        let remark = back.remark.as_deref();
        assert_eq!((back.code, remark), (1, Some("SERVICE_NOT_AVAILABLE")));
        let end = fields(
            "producerGroup=P tranStateTableOffset=0 commitLogOffset=0 commitOrRollback=8",
            "",
        );
        let end = client.ask(request::END_TRANSACTION, &end, b"").await;
        assert_eq!(end.code, response::SLAVE_NOT_AVAILABLE);
        let topic = "topic=U defaultTopic=TBW102 readQueueNums=1 writeQueueNums=1 perm=6 topicFilterType=SINGLE_TAG \
                     topicSysFlag=0 order=false";
        for (code, given) in [
            (request::UPDATE_AND_CREATE_TOPIC, topic),
            (request::DELETE_TOPIC_IN_BROKER, "topic=U"),
            (request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, "x=y"),
            (request::DELETE_SUBSCRIPTIONGROUP, "groupName=G"),
        ] {
            let refused = client.ask(code, &fields(given, ""), b"{}").await;
            let remark = refused.remark.as_deref();
            assert_eq!((refused.code, remark), (1, Some(READ_ONLY)), "{code}");
        }
        assert_eq!(broker.store.max_offset().0, 0, "nothing is stored");
        Some(broker)
    });
}

#[test]
fn readers_are_served_and_their_offsets_are_left_to_the_master() {
    with_broker(as_slave, async |broker, client| {
        let here = "topic=SELF_TEST_TOPIC queueId=0";
        assert_eq!(client.pull(here).await.code, response::PULL_NOT_FOUND);
        // Ahead of what was copied: there may be something soon.
        let ahead = client.pull(&format!("{here} queueOffset=5")).await;
        assert_eq!(ahead.code, response::PULL_NOT_FOUND);
        let numbers = ["nextBeginOffset", "suggestWhichBrokerId"].map(|name| number(&ahead, name));
        assert_eq!(numbers, [5, 0]);
        // Not a number that any queue has: the master says what is right.
        let odd = client.pull(&format!("{here} queueOffset=-2")).await;
        assert_eq!(odd.code, response::PULL_RETRY_IMMEDIATELY);
        assert_eq!(number(&odd, "nextBeginOffset"), -2);
        assert_eq!(broker.store.max_offset().0, 0, "no event is stored");
        // What comes with a pull is not kept, what is committed is.
        let commits = client
            .pull(&format!("{here} sysFlag=5 commitOffset=3"))
            .await;
        assert_eq!(commits.code, response::PULL_NOT_FOUND);
        let asked = |topic| fields(&format!("consumerGroup=G topic={topic} queueId=0"), "");
        let kept = broker
            .offsets
            .query("G", "SELF_TEST_TOPIC", gantry_message::QueueId(0));
        assert_eq!(kept, None);
        let commit = fields(
            "consumerGroup=G topic=SELF_TEST_TOPIC queueId=0 commitOffset=4",
            "",
        );
        let committed = client
            .ask(request::UPDATE_CONSUMER_OFFSET, &commit, b"")
            .await;
        assert_eq!(committed.code, 0);
        let known = client
            .ask(
                request::QUERY_CONSUMER_OFFSET,
                &asked("SELF_TEST_TOPIC"),
                b"",
            )
            .await;
        assert_eq!((known.code, number(&known, "offset")), (0, 4));
        // What a slave tells counts only where nothing else has come since it asked.
        for (seen, expected) in [("3", 4), ("", 4), ("4", 7)] {
            let told = fields(
                "consumerGroup=G topic=SELF_TEST_TOPIC queueId=0 commitOffset=7",
                &format!("gantrySeenOffset={seen}"),
            );
            let told = client.ask(request::UPDATE_CONSUMER_OFFSET, &told, b"");
            assert_eq!(told.await.code, 0);
            let query = asked("SELF_TEST_TOPIC");
            let known = client.ask(request::QUERY_CONSUMER_OFFSET, &query, b"");
            assert_eq!(number(&known.await, "offset"), expected, "seen {seen:?}");
        }
        Some(broker)
    });
}

#[test]
fn a_slave_that_is_told_to_corrects_offsets() {
    let change = |config: &mut BrokerConfig| {
        as_slave(config);
        config.store.offset_check_in_slave = true;
    };
    with_broker(change, async |broker, client| {
        let beyond = "topic=SELF_TEST_TOPIC queueId=0 queueOffset=5";
        let moved = client.pull(beyond).await;
        assert_eq!(moved.code, response::PULL_OFFSET_MOVED);
        assert_eq!(number(&moved, "nextBeginOffset"), 0);
        assert_eq!(broker.store.max_offset().0, 0, "no event is stored");
        Some(broker)
    });
}
