//! Promotions: what a broker is after one, over starts in the same process and in the next one.

use std::{cell::Cell, thread};

use gantry_disk::faulty::FaultyDisk;
use gantry_message::{Epoch, LogOffset};
use gantry_replication::{Copies, Misfit, Part};
use gantry_store::Cut;
use gantry_wire::headers::{Promote, Rejoin, SeatAnswer, TellEpoch};
use gantry_wire::{HeaderEncode, bodies::HaStatus};

use super::*;
use crate::{config::BrokerRole, seats::SeatFault};

fn as_slave(config: &mut BrokerConfig) {
    config.store.broker_role = BrokerRole::Slave;
    config.broker_id = 1;
}

impl Client {
    async fn ask_for(&self, code: i32, header: &dyn HeaderEncode) -> Reply {
        self.0
            .call(code, |fields| header.encode(fields), [], PATIENCE)
            .await
            .unwrap()
    }

    async fn status(&self) -> HaStatus {
        let reply = self.ask(request::HA_STATUS, &[], b"").await;
        HaStatus::parse(&reply.body).unwrap()
    }
}

/// The answer's epoch and part.
fn seat(reply: &Reply) -> (String, String) {
    assert_eq!(reply.code, response::SUCCESS, "{:?}", reply.remark);
    let answer: SeatAnswer<'_> = reply.fields.header().unwrap();
    (answer.epoch.to_owned(), answer.part.to_owned())
}

fn expected(epoch: &str, part: &str) -> (String, String) {
    (epoch.to_owned(), part.to_owned())
}

/// Waits until the broker has to start again, and lets it.
async fn again(broker: Broker) -> (Broker, Client) {
    let again = broker.again().await;
    assert!(matches!(again, Again::Part), "{again:?}");
    started_again(broker, again).await
}

async fn started_again(broker: Broker, again: Again) -> (Broker, Client) {
    let order = StopOrder::default();
    let broker = broker.start_again(again, &order).await;
    let broker = broker.unwrap().unwrap();
    let client = Client::connect(&broker).await;
    (broker, client)
}

const PROMOTE: Promote<'_> = Promote {
    epoch: "1.1",
    role: "ASYNC_MASTER",
    min_end: 0,
    check: false,
};

const TELL: TellEpoch<'_> = TellEpoch {
    epoch: "3.2",
    if_epoch: None,
    if_part: None,
    if_end: None,
};

#[test]
fn a_promoted_slave_takes_messages_and_does_so_after_a_restart_with_its_old_configuration() {
    let kept = Cell::new(None);
    with_broker(
        |config| {
            as_slave(config);
            kept.set(Some(config.clone()));
        },
        async |broker, client| {
            assert_eq!(client.send("").await.code, 14, "a slave");
            let reply = client.ask_for(request::PROMOTE, &PROMOTE).await;
            assert_eq!(seat(&reply), expected("1.1", "ASYNC_MASTER"));
            let (broker, client) = again(broker).await;
            assert_eq!(client.send("").await.code, response::SUCCESS);
            let status = client.status().await;
            let told = (
                status.role.as_str(),
                status.broker_id,
                status.epoch.as_deref(),
            );
            assert_eq!(told, ("ASYNC_MASTER", 0, Some("1.1")));
            // Asked twice, it says so twice.
            let reply = client.ask_for(request::PROMOTE, &PROMOTE).await;
            assert_eq!(seat(&reply), expected("1.1", "ASYNC_MASTER"));
            broker.stop().await.unwrap();
            let config = kept.take().unwrap();
            let broker = Broker::start(config).await.unwrap();
            let client = Client::connect(&broker).await;
            assert_eq!(client.send("").await.code, response::SUCCESS);
            Some(broker)
        },
    );
}

/// A slave found that its master's log went on otherwise, and was promoted for all that it had before it had started again.
#[test]
fn a_slave_that_is_promoted_gives_up_nothing_that_it_was_to_cut() {
    for is_promoted in [false, true] {
        let kept = Cell::new(None);
        with_broker(
            |config| kept.set(Some(config.clone())),
            async |broker, client| {
                assert_eq!(client.send("").await.code, response::SUCCESS);
                let end = client.status().await.max_offset;
                broker.stop().await.unwrap();
                let mut config = kept.take().unwrap();
                as_slave(&mut config);
                let broker = Broker::start(config).await.unwrap();
                let client = Client::connect(&broker).await;
                if is_promoted {
                    let reply = client.ask_for(request::PROMOTE, &PROMOTE).await;
                    assert_eq!(seat(&reply), expected("1.1", "ASYNC_MASTER"));
                }
                let misfit = Misfit {
                    cut: Cut {
                        from: LogOffset(0),
                        to: LogOffset(end.unsigned_abs()),
                        last: None,
                        why: "a test".into(),
                    },
                    epoch: Epoch::NONE,
                };
                let (broker, client) = started_again(broker, Again::Cut(misfit)).await;
                let status = client.status().await;
                let (role, left) = if is_promoted {
                    ("ASYNC_MASTER", end)
                } else {
                    ("SLAVE", 0)
                };
                assert_eq!((&*status.role, status.max_offset), (role, left));
                Some(broker)
            },
        );
    }
}

#[test]
fn a_slave_is_not_promoted_to_what_it_lacks_nor_in_a_promotion_that_is_not_its_own() {
    with_broker(as_slave, async |broker, client| {
        let lacking = Promote {
            min_end: 1,
            ..PROMOTE
        };
        let other = Promote {
            epoch: "1.2",
            ..PROMOTE
        };
        let odd_role = Promote {
            role: "SLAVE",
            ..PROMOTE
        };
        let odd_epoch = Promote {
            epoch: "one",
            ..PROMOTE
        };
        for (asked, words) in [
            (lacking, "this slave's log ends at 0, and 1 was asked for"),
            (
                other,
                "belongs to the replica with brokerId 2, this one has 1",
            ),
            (odd_role, "role=SLAVE"),
            (odd_epoch, "\"one\" is no epoch"),
        ] {
            let refused = client.ask_for(request::PROMOTE, &asked).await;
            let remark = refused.remark.unwrap_or_default();
            assert!(refused.code != 0 && remark.contains(words), "{remark}");
        }
        assert_eq!(client.status().await.role, "SLAVE");
        Some(broker)
    });
}

#[test]
fn a_fenced_master_takes_nothing_until_it_rejoins_whatever_is_set_or_restarted() {
    let kept = Cell::new(None);
    with_broker(
        |config| kept.set(Some(config.clone())),
        async |broker, client| {
            assert_eq!(client.send("").await.code, response::SUCCESS);
            let end = broker.store.max_offset();
            let reply = client.ask_for(request::TELL_EPOCH, &TELL).await;
            assert_eq!(seat(&reply), expected("3.2", "FENCED"));
            assert_eq!(client.send("").await.code, 14, "at once");
            let (broker, client) = again(broker).await;
            assert_eq!(client.send("").await.code, 14);
            // The end of a drain does not open it.
            for read_only in ["true", "false"] {
                let set = fields(&format!("readOnly={read_only}"), "");
                assert_eq!(client.ask(request::SET_READ_ONLY, &set, b"").await.code, 0);
                assert_eq!(client.send("").await.code, 14);
            }
            assert!(
                broker
                    .status()
                    .contains("FENCED: this master was replaced by promotion 3.2")
            );
            assert_eq!(client.pull("").await.code, response::SUCCESS, "it is read");
            let refused = client.ask_for(request::PROMOTE, &PROMOTE).await;
            assert_ne!(refused.code, response::SUCCESS);
            broker.stop().await.unwrap();
            let config = kept.take().unwrap();
            let broker = Broker::start(config).await.unwrap();
            let client = Client::connect(&broker).await;
            assert_eq!(client.send("").await.code, 14);
            assert_eq!(broker.store.max_offset(), end, "nothing was stored");
            let status = client.status().await;
            assert!(status.is_fenced && status.not_writable.is_some());
            let rejoin = Rejoin {
                epoch: "3.2",
                broker_id: 4,
            };
            let reply = client.ask_for(request::REJOIN, &rejoin).await;
            assert_eq!(seat(&reply), expected("3.2", "SLAVE"));
            let (broker, client) = again(broker).await;
            let status = client.status().await;
            assert_eq!((status.role.as_str(), status.broker_id), ("SLAVE", 4));
            assert!(!status.is_fenced);
            Some(broker)
        },
    );
}

// What it is to others until it finds the master that took its place.
#[test]
fn a_slave_by_configuration_that_was_the_master_says_so_until_it_follows_one() {
    let kept = Cell::new(None);
    with_broker(
        |config| {
            as_slave(config);
            kept.set(Some(config.clone()));
        },
        async |broker, client| {
            assert!(!client.status().await.gave_way, "a slave");
            let reply = client.ask_for(request::PROMOTE, &PROMOTE).await;
            assert_eq!(seat(&reply), expected("1.1", "ASYNC_MASTER"));
            let (broker, client) = again(broker).await;
            assert!(!client.status().await.gave_way, "the master");
            let seen = TellEpoch {
                if_epoch: Some("1.1"),
                if_part: Some("MASTER"),
                ..TELL
            };
            let reply = client.ask_for(request::TELL_EPOCH, &seen).await;
            assert_eq!(seat(&reply), expected("3.2", "FENCED"));
            let (broker, client) = again(broker).await;
            let status = client.status().await;
            assert_eq!((status.role.as_str(), status.gave_way), ("SLAVE", true));
            broker.stop().await.unwrap();
            let config = kept.take().unwrap();
            let broker = Broker::start(config.clone()).await.unwrap();
            let client = Client::connect(&broker).await;
            assert!(client.status().await.gave_way, "over a start");
            let (seats, known) = (broker.seats.clone(), broker.seats.epoch());
            tokio::task::spawn_blocking(move || {
                assert!(seats.follow(Epoch::NONE.next(1), "an older one").is_err());
                assert!(seats.now().gave_way);
                seats.follow(known, "the master of that promotion").unwrap();
                assert!(!seats.now().gave_way);
            })
            .await
            .unwrap();
            broker.stop().await.unwrap();
            let broker = Broker::start(config).await.unwrap();
            let client = Client::connect(&broker).await;
            let status = client.status().await;
            assert_eq!((status.role.as_str(), status.gave_way), ("SLAVE", false));
            Some(broker)
        },
    );
}

#[test]
fn topics_do_not_change_while_a_master_holds_on() {
    with_broker(
        |_| {},
        async |broker, client| {
            let create = fields(
                "topic=T defaultTopic=TBW102 readQueueNums=1 writeQueueNums=1 perm=6",
                "topicFilterType=SINGLE_TAG topicSysFlag=0 order=false",
            );
            let hold = |millis| gantry_wire::headers::Hold { millis };
            for (millis, code) in [(600_000, response::SYSTEM_ERROR), (0, response::SUCCESS)] {
                let held = client.ask_for(request::HOLD, &hold(millis)).await;
                assert_eq!(held.code, response::SUCCESS);
                let made = client
                    .ask(request::UPDATE_AND_CREATE_TOPIC, &create, b"")
                    .await;
                assert_eq!(made.code, code, "{:?}", made.remark);
            }
            Some(broker)
        },
    );
}

#[test]
fn a_fenced_master_is_promoted_where_nobody_took_its_place() {
    with_broker(
        |_| {},
        async |broker, client| {
            let reply = client.ask_for(request::TELL_EPOCH, &TELL).await;
            assert_eq!(seat(&reply), expected("3.2", "FENCED"));
            let (broker, client) = again(broker).await;
            let back = Promote {
                epoch: "4.0",
                ..PROMOTE
            };
            for (epoch, words) in [
                ("3.0", "not newer than 3.2"),
                ("4.2", "brokerId 2, this one has 0"),
            ] {
                let refused = client
                    .ask_for(request::PROMOTE, &Promote { epoch, ..back })
                    .await;
                let remark = refused.remark.unwrap_or_default();
                assert!(refused.code != 0 && remark.contains(words), "{remark}");
            }
            let reply = client.ask_for(request::PROMOTE, &back).await;
            assert_eq!(seat(&reply), expected("4.0", "ASYNC_MASTER"));
            let (broker, client) = again(broker).await;
            assert_eq!(client.send("").await.code, response::SUCCESS);
            Some(broker)
        },
    );
}

#[test]
fn a_master_that_nobody_replaced_does_not_leave_its_place() {
    with_broker(
        |_| {},
        async |broker, client| {
            let rejoin = Rejoin {
                epoch: "0.0",
                broker_id: 4,
            };
            let refused = client.ask_for(request::REJOIN, &rejoin).await;
            let remark = refused.remark.unwrap_or_default();
            assert!(remark.contains("promote another broker first"), "{remark}");
            assert_eq!(client.send("").await.code, response::SUCCESS);
            Some(broker)
        },
    );
}

/// What a start says of a store with this seat, which it leaves as it was.
fn refused(seat: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let root = folder.path().join("store");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("gantry.epoch"), seat).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let failure = runtime.block_on(async { Broker::start(config).await.err().unwrap() });
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 1);
    assert_eq!(std::fs::read(root.join("gantry.epoch")).unwrap(), seat);
    failure.to_string()
}

#[test]
fn a_damaged_seat_stops_the_start_and_names_the_file() {
    let refused = refused(b"gantry-epoch 1\nepoch=1.1\n");
    assert!(refused.contains("gantry.epoch is damaged"), "{refused}");
}

#[test]
fn a_seat_of_another_name_stops_the_start() {
    let seat = gantry_replication::Seat::configured(Part::Slave(1));
    let refused = refused(&seat.encode("broker-b"));
    let words = "is of the broker broker-b, this one is broker-a";
    assert!(refused.contains(words), "{refused}");
}

#[test]
fn a_master_gives_its_place_away_only_as_whoever_asks_has_seen_it() {
    with_broker(
        |_| {},
        async |broker, client| {
            assert_eq!(client.send("").await.code, response::SUCCESS);
            let end = i64::try_from(broker.store.max_offset().0).unwrap();
            let seen = TellEpoch {
                if_epoch: Some("0.0"),
                if_part: Some("MASTER"),
                if_end: Some(end),
                ..TELL
            };
            for changed in [
                TellEpoch {
                    if_epoch: Some("1.1"),
                    ..seen
                },
                TellEpoch {
                    if_part: Some("SLAVE"),
                    ..seen
                },
                TellEpoch {
                    if_end: Some(end - 1),
                    ..seen
                },
            ] {
                let refused = client.ask_for(request::TELL_EPOCH, &changed).await;
                let remark = refused.remark.unwrap_or_default();
                assert!(
                    remark.contains("somebody else changes who is master"),
                    "{remark}"
                );
                assert_eq!(client.send("").await.code, response::SUCCESS, "as before");
            }
            let unbelievable = TellEpoch {
                epoch: "18446744073709551615.1",
                ..TELL
            };
            let refused = client.ask_for(request::TELL_EPOCH, &unbelievable).await;
            assert!(refused.remark.unwrap_or_default().contains("not believed"));
            let end = i64::try_from(broker.store.max_offset().0).unwrap();
            let seen = TellEpoch {
                if_end: Some(end),
                ..seen
            };
            let reply = client.ask_for(request::TELL_EPOCH, &seen).await;
            assert_eq!(seat(&reply), expected("3.2", "FENCED"));
            assert_eq!(client.send("").await.code, 14);
            let (broker, client) = again(broker).await;
            let reply = client.ask_for(request::TELL_EPOCH, &seen).await;
            assert_eq!(seat(&reply), expected("3.2", "FENCED"), "asked twice");
            Some(broker)
        },
    );
}

#[test]
fn a_held_master_takes_messages_again_when_it_is_let_go_or_forgotten() {
    use gantry_wire::headers::{Hold, HoldAnswer};
    with_broker(
        |_| {},
        async |broker, client| {
            assert_eq!(client.send("").await.code, response::SUCCESS);
            let end = i64::try_from(broker.store.max_offset().0).unwrap();
            let hold = async |millis| client.ask_for(request::HOLD, &Hold { millis }).await;
            let held = hold(60_000).await;
            let answer: HoldAnswer = held.fields.header().unwrap();
            assert_eq!(answer.max_offset, end);
            let refused = client.send("").await;
            assert_eq!(refused.code, 14);
            assert!(
                refused
                    .remark
                    .unwrap_or_default()
                    .contains("mqadmin promote")
            );
            // A drain that ends meanwhile does not open it, nor one that begins.
            for read_only in ["true", "false"] {
                let set = fields(&format!("readOnly={read_only}"), "");
                assert_eq!(client.ask(request::SET_READ_ONLY, &set, b"").await.code, 0);
                assert_eq!(client.send("").await.code, 14);
            }
            assert_eq!(hold(0).await.code, response::SUCCESS);
            assert_eq!(client.send("").await.code, response::SUCCESS);
            // Whoever holds it is gone.
            assert_eq!(hold(50).await.code, response::SUCCESS);
            while client.send("").await.code != response::SUCCESS {}
            for millis in [-1, 600_001] {
                let refused = hold(millis).await;
                assert!(refused.remark.unwrap_or_default().contains("0 to 600000"));
            }
            Some(broker)
        },
    );
}

#[test]
fn a_promotion_can_be_tried_without_making_it() {
    with_broker(as_slave, async |broker, client| {
        let check = Promote {
            check: true,
            ..PROMOTE
        };
        let reply = client.ask_for(request::PROMOTE, &check).await;
        assert_eq!(seat(&reply), expected("0.0", "SLAVE"));
        // What cannot be written is found out by it.
        let root = std::path::PathBuf::from(&broker.live.now().store.store_path_root_dir);
        assert!(!root.join("gantry.epoch").exists(), "nothing is noted");
        std::fs::create_dir(root.join("gantry.epoch")).unwrap();
        let refused = client.ask_for(request::PROMOTE, &check).await;
        assert!(refused.remark.unwrap_or_default().contains("gantry.epoch"));
        std::fs::remove_dir(root.join("gantry.epoch")).unwrap();
        Some(broker)
    });
}

/// The start that follows in this process reads the file: what the disk held up until then is in it, or is refused.
#[test]
fn nobody_changes_a_seat_behind_its_broker_s_end() {
    let disk = FaultyDisk::new(1);
    disk.create_dirs(Path::new("/store")).unwrap();
    let load = || {
        let place = ("broker-a", Part::Slave(1));
        Seats::load(Arc::new(disk.clone()), Path::new("/store"), place).unwrap()
    };
    let seats = load();
    let promote = |number: u64| {
        let epoch = format!("{number}.1").parse().unwrap();
        seats.promote(epoch, Copies::Sync, "a test")
    };
    disk.hold_syncs(true);
    let before = disk.changes();
    thread::scope(|scope| {
        let promoting = scope.spawn(|| promote(1));
        while disk.changes() == before {
            thread::yield_now();
        }
        let closing = scope.spawn(|| seats.close());
        assert!(!closing.is_finished());
        disk.hold_syncs(false);
        closing.join().unwrap();
        assert!(promoting.join().unwrap().is_ok());
    });
    let late = seats.hear("2.2".parse().unwrap(), "a test");
    assert!(matches!(late, Err(SeatFault::Over)), "{late:?}");
    assert_eq!(load().now().part, Part::Master(Copies::Sync));
}
