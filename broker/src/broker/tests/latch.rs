//! A disk that fails under a whole broker: who is told what, what goes on, and that no success is claimed any more.

use gantry_disk::faulty::{FaultyDisk, Operation};
use gantry_service::watchdog::Watchdog;

use super::*;

const EIO: i32 = 5;
const SYNC_FAILED: &str = "sync of /store/commitlog/00000000000000000000: Input/output error";

/// Looks again and again, for as long as anything may take.
async fn until(mut condition: impl FnMut() -> bool) {
    let looked = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    looked.await.unwrap();
}

/// How a broker comes to its end.
#[derive(PartialEq)]
enum End {
    Clean,
    Latched,
}

/// A broker with synchronous flush on a disk in memory that has stored one message, and that will latch.
pub(super) fn on_faulty_disk(
    change: impl FnOnce(&mut BrokerConfig),
    test: impl AsyncFnOnce(&Broker, &Client, &FaultyDisk),
) {
    on_faulty_disk_that(End::Latched, change, test);
}

fn on_faulty_disk_that(
    end: End,
    change: impl FnOnce(&mut BrokerConfig),
    test: impl AsyncFnOnce(&Broker, &Client, &FaultyDisk),
) {
    let disk = FaultyDisk::new(1);
    let mut config = config(Path::new("/"));
    config.store.flush_disk_type = FlushDiskType::SyncFlush;
    // Nobody waits that long: an answer that comes in the test's time did not come from the deadline.
    config.store.sync_flush_timeout = 600_000;
    change(&mut config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let order = StopOrder::default();
        let disk_of_it = Arc::new(disk.clone());
        let broker = Broker::start_on(disk_of_it, config, Sockets::none(), &order).await;
        let broker = broker.unwrap().unwrap();
        let client = Client::connect(&broker).await;
        client.prepare("first").await;
        test(&broker, &client, &disk).await;
        disk.fail(Operation::Sync, 0, 0);
        broker.stop().await.unwrap();
        let left = disk.files().contains(&"/store/abort".into());
        assert_eq!(
            left,
            end == End::Latched,
            "only a latched store is not closed cleanly"
        );
    });
}

fn remark(reply: &Reply) -> &str {
    reply.remark.as_deref().unwrap_or("")
}

#[test]
fn who_waits_for_a_sync_that_fails_is_told_at_once_and_nobody_hears_of_a_success_again() {
    on_faulty_disk(
        |_| {},
        async |broker, client, disk| {
            disk.fail(Operation::Sync, u64::MAX, EIO);
            let waiting: Vec<Pending> = (0..8)
                .map(|_| client.begin(request::SEND_MESSAGE_V2, &send_fields("")))
                .collect();
            let mut stored = 1;
            for pending in waiting {
                let reply = pending.answer(PATIENCE).await.unwrap();
                let said = remark(&reply);
                assert!(said.contains(SYNC_FAILED), "{} {said}", reply.code);
                match reply.code {
                    // Stored, but nobody knows whether it is on the disk.
                    response::FLUSH_DISK_TIMEOUT => {
                        assert_eq!(number(&reply, "queueOffset"), stored);
                        stored += 1;
                    }
                    // Came after the failure.
                    response::SERVICE_NOT_AVAILABLE => {}
                    other => panic!("{other} {said}"),
                }
            }
            assert!(1 < stored, "the first of them was stored");
            // The disk works again; that changes nothing before a restart.
            disk.fail(Operation::Sync, 0, 0);
            for changes in ["", "i=WAIT:false", "b=New", "i=DELAY:1"] {
                let reply = client.send(changes).await;
                assert_eq!(reply.code, response::SERVICE_NOT_AVAILABLE, "{changes}");
                assert!(remark(&reply).contains(SYNC_FAILED), "{reply:?}");
            }
            assert!(
                broker.status().starts_with("READ ONLY"),
                "{}",
                broker.status()
            );
            assert!(
                broker.topics.get("New").is_none(),
                "nothing is made for what is refused"
            );
            let found = client.pull("").await;
            assert_eq!((found.code, number(&found, "maxOffset")), (0, stored));
        },
    );
}

/// The answer comes after the sync or not at all: a disk that takes its time holds up who waits for it, and nobody else.
#[test]
fn no_answer_overtakes_its_sync() {
    on_faulty_disk_that(
        End::Clean,
        |_| {},
        async |broker, client, disk| {
            disk.hold_syncs(true);
            let flushed = broker.store.flushed().value();
            let waiting: Vec<Pending> = ["", "i=WAIT:true", "e=1"]
                .iter()
                .map(|changes| client.begin(request::SEND_MESSAGE_V2, &send_fields(changes)))
                .collect();
            // Who does not wait is answered, and pulls see what is not durable yet.
            for changes in ["i=WAIT:false", "e=1 i=WAIT:FALSE"] {
                assert_eq!(client.send(changes).await.code, 0, "{changes}");
            }
            let seen = client.pull("").await;
            assert_eq!((seen.code, number(&seen, "maxOffset")), (0, 4));
            // All five were stored before this answer; nobody said that it is durable.
            assert_eq!(broker.store.flushed().value(), flushed);
            for pending in &waiting {
                assert!(!pending.is_answered());
            }
            disk.hold_syncs(false);
            for pending in waiting {
                let reply = pending.answer(PATIENCE).await.unwrap();
                assert_eq!((reply.code, remark(&reply)), (0, ""));
            }
        },
    );
}

/// The sign of life for the watchdog follows the work on the disk: it goes while a sync hangs, and comes back with it.
#[test]
fn a_sync_that_hangs_is_seen_by_the_watchdog() {
    on_faulty_disk_that(
        End::Clean,
        |_| {},
        async |broker, client, disk| {
            let mut watchdog = Watchdog::new(Duration::from_millis(200));
            let mut alive = || watchdog.look(&standing::works(&broker.store));
            assert!(alive(), "nothing to do");
            disk.hold_syncs(true);
            let waiting = client.begin(request::SEND_MESSAGE_V2, &send_fields(""));
            until(|| !alive()).await;
            disk.hold_syncs(false);
            assert_eq!(waiting.answer(PATIENCE).await.unwrap().code, 0);
            until(alive).await;
        },
    );
}

#[test]
fn a_sync_that_takes_longer_than_sync_flush_timeout_is_answered_10_without_a_word() {
    on_faulty_disk_that(
        End::Clean,
        |config| config.store.sync_flush_timeout = 20,
        async |broker, client, disk| {
            disk.hold_syncs(true);
            let reply = client.send("").await;
            assert_eq!(reply.code, response::FLUSH_DISK_TIMEOUT);
            assert_eq!((remark(&reply), number(&reply, "queueOffset")), ("", 1));
            disk.hold_syncs(false);
            // It was slow, not sick.
            let end = broker.store.max_offset().0;
            broker.store.flushed().beyond(end - 1).await;
            assert!(broker.store.check_writable().is_ok());
        },
    );
}

#[test]
fn a_failed_write_is_a_refusal_that_names_it_and_a_send_back_is_refused_too() {
    on_faulty_disk(
        |config| config.store.flush_disk_type = FlushDiskType::AsyncFlush,
        async |broker, client, disk| {
            disk.fail(Operation::Write, 1, EIO);
            let reply = client.send("").await;
            assert_eq!(reply.code, response::SERVICE_NOT_AVAILABLE);
            let error = "write of /store/commitlog/00000000000000000000: Input/output error";
            assert!(remark(&reply).contains(error), "{reply:?}");
            let back = fields("group=Other offset=0 delayLevel=0", "");
            let reply = client
                .ask(request::CONSUMER_SEND_MSG_BACK, &back, b"")
                .await;
            assert_eq!(reply.code, response::SYSTEM_ERROR);
            assert!(
                remark(&reply).starts_with("SERVICE_NOT_AVAILABLE: "),
                "{reply:?}"
            );
            assert!(remark(&reply).contains(error), "{reply:?}");
            assert!(broker.topics.get("%RETRY%Other").is_none());
            // Positions are taken and kept: that group has read what it has read.
            let commit = fields("consumerGroup=G topic=T queueId=0 commitOffset=1", "");
            let reply = client
                .ask(request::UPDATE_CONSUMER_OFFSET, &commit, b"")
                .await;
            assert_eq!(reply.code, 0);
            assert_eq!(client.pull("").await.code, 0);
        },
    );
}

#[test]
fn delayed_messages_wait_for_the_restart_and_nothing_turns_meanwhile() {
    on_faulty_disk(
        |config| config.store.message_delay_level = "1s".to_owned(),
        async |broker, client, disk| {
            assert_eq!(client.send("i=DELAY:1").await.code, 0);
            disk.fail(Operation::Sync, u64::MAX, EIO);
            assert_eq!(client.send("").await.code, response::FLUSH_DISK_TIMEOUT);
            let later = Millis::now().plus(60_000);
            let next = broker.delay.step(later);
            assert!(next.at.is_none() && next.idle.is_empty(), "{next:?}");
            let end = broker.store.max_offset();
            assert!(broker.delay.step(later).at.is_none());
            assert_eq!(broker.store.max_offset(), end);
        },
    );
}
