//! The tables of a slave, copied over real connections from a master that answers as it is told.

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use gantry_config::{Host, Settings};
use gantry_disk::OsDisk;
use gantry_message::Millis;
use gantry_net::{
    Peer,
    server::{Handler, Limits, Server, Verdict, listen},
};
use gantry_store::StoreConfig;
use gantry_wire::{Request, Response, frame::Frame, headers};

use super::*;
use crate::{
    config::BrokerConfig,
    delay::{DelayConfig, DelayParts, Levels},
    live::LiveConfig,
    stats::StatsConfig,
};

const NOW: Millis = Millis(1_700_000_000_000);

/// As Apache's broker 4.9.7 writes them, compact.
const TOPICS: &str = r#"{"dataVersion":{"counter":4,"timestamp":1800000000000},"topicConfigTable":{"T":{"order":true,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":4}}}"#;
const GROUPS: &str = r#"{"dataVersion":{"counter":2,"timestamp":1800000000000},"subscriptionGroupTable":{"g":{"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"groupName":"g","notifyConsumerIdsChangedEnable":true,"retryMaxTimes":5,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}}}"#;
const RUNTIME: &str = r#"{"table":{"commitLogMaxOffset":"0"}}"#;
const DELAY: &str = r#"{"offsetTable":{3:7,18:9}}"#;

type Answers = Arc<Mutex<BTreeMap<i32, Response>>>;

/// A master with offsets; everything else it says is a text.
struct Master {
    address: String,
    answers: Answers,
    offsets: Arc<Mutex<merge::Table>>,
    chance: Arc<Mutex<Chance>>,
    server: Server,
}

/// What happens to the master at the wrong moment.
#[derive(Default)]
struct Chance {
    /// A group commits there just after the slave was told the table.
    goes_on_to: Option<(String, i64)>,
    /// It is killed after it took an offset and before it wrote it.
    is_killed: bool,
}

struct Asked {
    answers: Answers,
    offsets: Arc<Mutex<merge::Table>>,
    chance: Arc<Mutex<Chance>>,
}

impl Handler for Asked {
    fn frame(&self, peer: &Peer, frame: Frame<'_>) -> Verdict {
        let header = frame.decode().unwrap();
        let body = Bytes::copy_from_slice(frame.body);
        let request = Request::from_header(header, frame.serialization, body);
        let mut offsets = self.offsets.lock().unwrap();
        let told = self.answers.lock().unwrap().get(&request.code).cloned();
        let mut chance = self.chance.lock().unwrap();
        let answer = match (told, request.code) {
            (Some(answer), _) => answer,
            (None, request::GET_ALL_CONSUMER_OFFSET) => {
                let offset_table = offsets.clone();
                if let Some((of, offset)) = chance.goes_on_to.take() {
                    offsets.entry(of).or_default().insert(0, offset);
                }
                Response::with_body(ConsumerOffsets { offset_table }.encode())
            }
            (None, request::UPDATE_CONSUMER_OFFSET) => {
                if std::mem::take(&mut chance.is_killed) {
                    let answer = Response::ok();
                    peer.send(|out| answer.encode(out, request.opaque, request.serialization));
                    return Verdict::Close;
                }
                let commit: headers::UpdateConsumerOffset<'_> = request.header().unwrap();
                let of = format!("{}@{}", commit.topic, commit.consumer_group);
                let queues = offsets.entry(of).or_default();
                let has = queues.get(&commit.queue_id);
                let has = has.map(i64::to_string).unwrap_or_default();
                match request.fields.get(headers::SEEN_OFFSET) {
                    Some(seen) if seen != has => {
                        Response::ok().field(headers::SEEN_OFFSET, "changed")
                    }
                    _ => {
                        queues.insert(commit.queue_id, commit.commit_offset);
                        Response::ok()
                    }
                }
            }
            (None, code) => Response::refuse(3, format!("no answer to {code}")),
        };
        peer.send(|out| answer.encode(out, request.opaque, request.serialization));
        Verdict::Continue
    }
}

impl Master {
    fn start() -> Master {
        let answers = Answers::default();
        let offsets = Arc::new(Mutex::new(merge::Table::new()));
        let texts = [
            (request::GET_ALL_TOPIC_CONFIG, TOPICS),
            (request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, GROUPS),
            (request::GET_ALL_DELAY_OFFSET, DELAY),
            (request::GET_BROKER_RUNTIME_INFO, RUNTIME),
        ];
        for (code, text) in texts {
            let mut answers = answers.lock().unwrap();
            answers.insert(code, Response::with_body(text.as_bytes().to_vec()));
        }
        let listener = listen(([127, 0, 0, 1], 0).into(), 16).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let chance = Arc::new(Mutex::new(Chance::default()));
        let asked = (answers.clone(), offsets.clone(), chance.clone());
        let server = Server::start(vec![listener], 1, Limits::default(), move |_| {
            let (answers, offsets, chance) = asked.clone();
            std::rc::Rc::new(Asked {
                answers,
                offsets,
                chance,
            })
        });
        Master {
            address,
            answers,
            offsets,
            chance,
            server: server.unwrap(),
        }
    }

    fn answer(&self, code: i32, text: &str) {
        let answer = Response::with_body(text.as_bytes().to_vec());
        self.answers.lock().unwrap().insert(code, answer);
    }

    fn refuse_commits(&self, yes: bool) {
        let mut answers = self.answers.lock().unwrap();
        answers.remove(&request::UPDATE_CONSUMER_OFFSET);
        if yes {
            let refusal = Response::refuse(1, "not now");
            answers.insert(request::UPDATE_CONSUMER_OFFSET, refusal);
        }
    }

    fn set(&self, of: &str, offset: i64) {
        let mut offsets = self.offsets.lock().unwrap();
        offsets.entry(of.to_owned()).or_default().insert(0, offset);
    }

    fn offset(&self, of: &str) -> Option<i64> {
        self.offsets.lock().unwrap().get(of)?.get(&0).copied()
    }
}

fn store_config(folder: &Path) -> StoreConfig {
    StoreConfig {
        segment_size: 1 << 20,
        ..StoreConfig::at(folder.join("store"))
    }
}

/// The tables of a slave on a folder, opened as a start does.
fn open(folder: &Path) -> Copier {
    let config = BrokerConfig::defaults(&Host::described());
    let live = LiveConfig::new(config);
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let config_folder = folder.join("config");
    let store = Store::open(disk.clone(), store_config(folder), NOW).unwrap();
    let stats = Arc::new(Stats::new(
        StatsConfig {
            cluster: "C".to_owned(),
            detail: true,
            zone: jiff::tz::TimeZone::UTC,
        },
        NOW,
    ));
    let delay = Delay::load(
        DelayParts {
            store: store.clone(),
            stats: stats.clone(),
            disk: disk.clone(),
            config_folder: config_folder.clone(),
        },
        Arc::new(Levels::parse("1s 5s 10s").unwrap()),
        DelayConfig {
            flush_interval_ms: 1_000,
            stats_enabled: true,
        },
    );
    let topics = Topics::load(disk.clone(), &config_folder, live.clone(), NOW);
    let groups = Groups::load(disk.clone(), &config_folder, live, NOW);
    let offsets = Offsets::load(disk.clone(), &config_folder, 5_000);
    let tables = Tables {
        topics: Arc::new(topics.unwrap()),
        groups: Arc::new(groups.unwrap()),
        offsets: Arc::new(offsets.unwrap()),
        delay: delay.unwrap(),
        store,
        stats,
    };
    Copier::load(
        disk,
        &config_folder,
        tables,
        (
            "me:1".to_owned(),
            super::Known::default(),
            super::End::Whole,
        ),
    )
    .unwrap()
}

fn run(test: impl AsyncFnOnce(&Path, Master)) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { test(folder.path(), Master::start()).await });
}

/// A link as a test wants it.
struct Linked {
    master: Option<String>,
    begun: Arc<Watermark>,
    candidacies: Arc<Watermark>,
}

impl Link for Linked {
    fn followed(&self) -> Option<String> {
        self.master.clone()
    }

    fn begun(&self) -> &Watermark {
        &self.begun
    }

    fn candidacies(&self) -> &Watermark {
        &self.candidacies
    }
}

fn link(master: Option<String>) -> Box<Linked> {
    Box::new(Linked {
        master,
        begun: Arc::default(),
        candidacies: Arc::default(),
    })
}

impl Copier {
    fn at(&self, of: &str) -> Option<u64> {
        let (topic, group) = of.split_once('@').unwrap();
        let found = self.tables.offsets.query(group, topic, QueueId(0));
        found.map(|offset| offset.0)
    }

    fn commit(&self, of: &str, offset: u64) {
        let (topic, group) = of.split_once('@').unwrap();
        let offsets = &self.tables.offsets;
        offsets
            .commit(group, topic, QueueId(0), QueueOffset(offset))
            .unwrap();
    }
}

#[test]
fn all_tables_of_an_apache_master_are_taken_over_in_memory_and_on_disk() {
    run(async |folder, master| {
        let mut slave = open(folder);
        master.set("T@g", 12);
        slave.copy(&master.address, Follows::Yes).await;
        assert_eq!(slave.troubles, [const { None }; WHAT.len()]);
        assert!(slave.tables.topics.is_order("T"));
        assert_eq!(slave.tables.topics.version().counter, 4);
        assert!(
            slave.tables.topics.get("SELF_TEST_TOPIC").is_none(),
            "what the master does not have is not here"
        );
        let group = slave.tables.groups.get("g").unwrap();
        assert_eq!(group.retry_max_times, 5);
        assert_eq!(slave.at("T@g"), Some(12));
        let positions: Vec<_> = slave.tables.delay.positions();
        let positions: Vec<_> = positions
            .into_iter()
            .map(|(level, next)| (level.number(), next.0))
            .collect();
        assert_eq!(
            positions,
            [(3, 7)],
            "level 18 is not in our table of levels, but stays in the file"
        );
        slave.tables.offsets.flush().unwrap();
        let file = std::fs::read_to_string(folder.join("config/delayOffset.json")).unwrap();
        assert!(file.contains("18:9") && file.contains("3:7"), "{file}");
        slave.tables.store.shutdown().unwrap();
        drop(slave);
        let again = open(folder);
        assert_eq!(again.tables.topics.version().counter, 4);
        assert!(again.tables.groups.get("g").is_some());
        assert_eq!(again.at("T@g"), Some(12));
        master.server.stop(TIMEOUT).await;
    });
}

#[test]
fn a_topic_that_vanished_at_the_master_vanishes_here() {
    run(async |folder, master| {
        let mut slave = open(folder);
        slave.copy(&master.address, Follows::Yes).await;
        let other = TOPICS.replace("\"T\"", "\"U\"");
        // A master that came back with an older table has not deleted anything, but what it has counts.
        master.answer(
            request::GET_ALL_TOPIC_CONFIG,
            &other.replace("\"counter\":4", "\"counter\":5"),
        );
        slave.copy(&master.address, Follows::Yes).await;
        assert!(slave.tables.topics.get("T").is_none());
        assert!(slave.tables.topics.get("U").is_some());
        master.server.stop(TIMEOUT).await;
    });
}

#[test]
fn bad_answers_are_named_and_change_nothing() {
    run(async |folder, master| {
        let mut slave = open(folder);
        master.set("T@g", 12);
        slave.copy(&master.address, Follows::Yes).await;
        for code in [
            request::GET_ALL_TOPIC_CONFIG,
            request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG,
            request::GET_ALL_DELAY_OFFSET,
            request::GET_ALL_CONSUMER_OFFSET,
        ] {
            master.answer(code, "{\"dataVersion\":");
        }
        slave.copy(&master.address, Follows::Yes).await;
        // Who does not know how its slaves stand is Apache's.
        let (state, tables) = slave.troubles.split_last().unwrap();
        assert!(state.is_none() && tables.iter().all(Option::is_some));
        assert!(slave.tables.topics.get("T").is_some());
        assert!(slave.tables.groups.get("g").is_some());
        assert_eq!(slave.at("T@g"), Some(12));
        assert_eq!(slave.tables.delay.positions().len(), 1);
        master.server.stop(TIMEOUT).await;
        slave.copy("127.0.0.1:1", Follows::Yes).await;
        let trouble = slave.troubles[STATE].as_deref().unwrap_or_default();
        assert!(trouble.starts_with("cannot connect"), "{trouble}");
    });
}

/// The master's files were lost, and its log was not: the first commit there deleted the offsets of all other groups here, and
/// the first change its topics and groups.
#[test]
fn what_a_master_lost_of_its_tables_stays_here_and_offsets_are_told_to_it() {
    run(async |folder, master| {
        let mut slave = open(folder);
        master.set("T@g", 100);
        slave.copy(&master.address, Follows::Yes).await;
        let versions = |slave: &Copier| {
            let Tables { topics, groups, .. } = &*slave.tables;
            (topics.version(), groups.version())
        };
        let before = versions(&slave);
        let anew = |text: &str, from: &str, to: &str| {
            let text = text.replace("1800000000000", "1900000000000");
            let text = text.replace("\"counter\":4", "\"counter\":1");
            let text = text.replace("\"counter\":2", "\"counter\":1");
            text.replace(from, to)
        };
        let topics = anew(TOPICS, "\"T\"", "\"U\"");
        master.answer(request::GET_ALL_TOPIC_CONFIG, &topics);
        let groups = anew(GROUPS, "\"g\"", "\"other\"");
        master.answer(request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, &groups);
        master.offsets.lock().unwrap().clear();
        master.set("T@other", 3);
        slave.copy(&master.address, Follows::Yes).await;
        assert_eq!(versions(&slave), before);
        for (trouble, name) in slave.troubles.iter().zip(["T", "g"]) {
            let trouble = trouble.as_deref().unwrap_or_default();
            assert!(
                trouble.contains(&format!("lacks {name} and 0 more")),
                "{trouble}"
            );
        }
        let at = |of| (master.offset(of), slave.at(of));
        assert_eq!(
            (at("T@g"), at("T@other")),
            ((Some(100), Some(100)), (Some(3), Some(3)))
        );
        // With its group an offset goes.
        let groups = groups.replace("\"counter\":1", "\"counter\":3");
        master.answer(request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, &groups);
        master.offsets.lock().unwrap().remove("T@g");
        slave.copy(&master.address, Follows::Yes).await;
        assert!(slave.tables.groups.get("g").is_none());
        assert_eq!(slave.at("T@g"), None);
        master.server.stop(TIMEOUT).await;
    });
}

/// A master lost its disk and was started from nothing: every topic of its slave was deleted, with its messages.
#[test]
fn a_master_whose_log_is_another_one_takes_nothing_away_and_is_told_nothing() {
    run(async |folder, master| {
        let mut slave = open(folder);
        master.set("T@g", 100);
        slave.copy(&master.address, Follows::Yes).await;
        slave.commit("T@g", 150);
        let version = slave.tables.topics.version();
        let of_nothing = TOPICS.replace("\"T\"", "\"U\"");
        let later = of_nothing.replace("1800000000000", "1900000000000");
        master.answer(request::GET_ALL_TOPIC_CONFIG, &later);
        master.set("T@g", 1);
        let unharmed = |slave: &Copier| {
            assert_eq!(slave.tables.topics.version(), version);
            let offsets = (master.offset("T@g"), slave.at("T@g"));
            assert_eq!(offsets, (Some(1), Some(150)));
        };
        // It is known to the name servers, and not followed.
        slave.copy(&master.address, Follows::No).await;
        unharmed(&slave);
        assert_eq!(slave.troubles, [const { None }; WHAT.len()]);
        // It got the address of one that is still followed, for all that anybody has noticed.
        let before = RUNTIME.replace("\"0\"", "\"-1\"");
        master.answer(request::GET_BROKER_RUNTIME_INFO, &before);
        slave.copy(&master.address, Follows::Yes).await;
        unharmed(&slave);
        let trouble = slave.troubles[STATE].as_deref().unwrap_or_default();
        assert!(
            trouble.contains("ends at -1, before ours at 0"),
            "{trouble}"
        );
        // A word of how a Gantry stands says as much.
        let status = HaStatus {
            max_offset: -1,
            ..HaStatus::default()
        };
        let body = String::from_utf8(status.encode()).unwrap();
        master.answer(request::HA_STATUS, &body);
        slave.copy(&master.address, Follows::Yes).await;
        unharmed(&slave);
        master.server.stop(TIMEOUT).await;
    });
}

#[test]
fn what_groups_committed_here_reaches_a_master_that_comes_back() {
    run(async |folder, master| {
        let mut slave = open(folder);
        for of in ["T@on", "T@reset", "T@behind"] {
            master.set(of, 100);
        }
        slave.copy(&master.address, Follows::Yes).await;
        // The master is away. The slave restarts, too: what it saw of the master is not forgotten.
        for of in ["T@on", "T@reset", "T@new"] {
            slave.commit(of, 150);
        }
        slave.commit("T@behind", 120);
        slave.tables.offsets.flush().unwrap();
        slave.tables.store.shutdown().unwrap();
        drop(slave);
        let mut slave = open(folder);
        master.set("T@reset", 20);
        master.set("T@behind", 170);
        slave.copy(&master.address, Follows::Yes).await;
        for (of, expected) in [
            ("T@on", 150),
            ("T@new", 150),
            ("T@reset", 20),
            ("T@behind", 170),
        ] {
            assert_eq!(master.offset(of), Some(expected), "{of} at the master");
            assert_eq!(slave.at(of), u64::try_from(expected).ok(), "{of} here");
        }
        // A reset of what was told to it counts as well.
        master.set("T@on", 120);
        slave.copy(&master.address, Follows::Yes).await;
        assert_eq!(
            (master.offset("T@on"), slave.at("T@on")),
            (Some(120), Some(120))
        );
        master.server.stop(TIMEOUT).await;
    });
}

#[test]
fn offsets_that_the_master_does_not_take_are_told_again() {
    run(async |folder, master| {
        let mut slave = open(folder);
        master.set("T@g", 100);
        slave.copy(&master.address, Follows::Yes).await;
        slave.commit("T@g", 150);
        master.refuse_commits(true);
        slave.copy(&master.address, Follows::Yes).await;
        assert_eq!(slave.at("T@g"), Some(150), "not overwritten meanwhile");
        let trouble = slave.troubles[2].as_deref().unwrap_or_default();
        assert!(trouble.contains("not now"), "{trouble}");
        master.refuse_commits(false);
        slave.copy(&master.address, Follows::Yes).await;
        assert_eq!(master.offset("T@g"), Some(150));
        assert_eq!(slave.troubles[2], None);
        master.server.stop(TIMEOUT).await;
    });
}

/// The master took what it was told and was killed before it wrote it: that it has less then is no reset.
#[test]
fn offsets_that_a_killed_master_had_not_written_are_told_again() {
    run(async |folder, master| {
        let mut slave = open(folder);
        master.set("T@g", 100);
        slave.copy(&master.address, Follows::Yes).await;
        slave.commit("T@g", 150);
        master.chance.lock().unwrap().is_killed = true;
        slave.copy(&master.address, Follows::Yes).await;
        assert_eq!(master.offset("T@g"), Some(100));
        slave.copy(&master.address, Follows::Yes).await;
        assert_eq!(
            (master.offset("T@g"), slave.at("T@g")),
            (Some(150), Some(150))
        );
        master.server.stop(TIMEOUT).await;
    });
}

/// A group goes on at the master between the answer and what follows from it.
#[test]
fn a_group_that_went_on_at_the_master_meanwhile_is_not_set_back() {
    run(async |folder, master| {
        let mut slave = open(folder);
        master.set("T@g", 100);
        slave.copy(&master.address, Follows::Yes).await;
        slave.commit("T@g", 150);
        master.chance.lock().unwrap().goes_on_to = Some(("T@g".into(), 160));
        slave.copy(&master.address, Follows::Yes).await;
        assert_eq!(
            (master.offset("T@g"), slave.at("T@g")),
            (Some(160), Some(160))
        );
        master.server.stop(TIMEOUT).await;
    });
}

/// A slave that never reached its master is started again: what groups committed here meanwhile is not the master's.
#[test]
fn what_groups_committed_before_the_master_was_ever_asked_reaches_it() {
    run(async |folder, master| {
        let slave = open(folder);
        slave.commit("T@g", 150);
        slave.tables.offsets.flush().unwrap();
        slave.tables.store.shutdown().unwrap();
        drop(slave);
        let mut slave = open(folder);
        master.set("T@g", 100);
        slave.copy(&master.address, Follows::Yes).await;
        assert_eq!(
            (master.offset("T@g"), slave.at("T@g")),
            (Some(150), Some(150))
        );
        master.server.stop(TIMEOUT).await;
    });
}

#[test]
fn a_new_master_is_asked_how_it_stands_at_once() {
    run(async |folder, master| {
        let slave = open(folder);
        let (topics, known) = (slave.tables.topics.clone(), slave.known.clone());
        let body = HaStatus::default().encode();
        master.answer(request::HA_STATUS, &String::from_utf8(body).unwrap());
        let (told, masters) = watch::channel(crate::registration::Master::default());
        let whereabouts = Whereabouts {
            told: masters,
            link: link(None),
        };
        let running = Slave::start(slave, whereabouts);
        let before = topics.generation();
        let address = Some(master.address.clone());
        told.send_modify(|master| master.address.clone_from(&address));
        // Without waiting for the time of the first copy.
        let heard = async {
            while known.now().and_then(|known| known.address) != address {
                tokio::task::yield_now().await;
            }
        };
        let heard = time::timeout(PERIOD / 2, heard).await;
        heard.expect("it does not wait for the next round");
        assert_eq!(topics.generation(), before, "nobody follows its log");
        running.stop().await;
        master.server.stop(TIMEOUT).await;
    });
}

// haMasterAddress names a master that no name server has: its log was followed and its tables were not copied.
#[test]
fn the_tables_of_who_is_followed_are_copied_at_once_and_for_a_new_queue() {
    run(async |folder, master| {
        let slave = open(folder);
        let (topics, store) = (slave.tables.topics.clone(), slave.tables.store.clone());
        let (told, masters) = watch::channel(crate::registration::Master::default());
        let before = topics.generation();
        let address = master.address.clone();
        let whereabouts = Whereabouts {
            told: masters,
            link: link(Some(address)),
        };
        let running = Slave::start(slave, whereabouts);
        // Spares the time of the first copy.
        told.send_modify(|_| {});
        topics.changes().beyond(before).await;
        assert!(topics.get("T").is_some());
        let before = topics.generation();
        let next = TOPICS.replace("\"counter\":4", "\"counter\":5");
        master.answer(request::GET_ALL_TOPIC_CONFIG, &next);
        store.queue("unknown", QueueId(0));
        topics.changes().beyond(before).await;
        assert_eq!(topics.version().counter, 5);
        running.stop().await;
        master.server.stop(TIMEOUT).await;
    });
}

#[test]
fn a_link_and_a_promotion_make_it_ask_at_once() {
    run(async |folder, master| {
        let slave = open(folder);
        let (topics, known) = (slave.tables.topics.clone(), slave.known.clone());
        let linked = link(Some(master.address.clone()));
        let (begun, candidacies) = (linked.begun.clone(), linked.candidacies.clone());
        let (_told, masters) = watch::channel(crate::registration::Master::default());
        let whereabouts = Whereabouts {
            told: masters,
            link: linked,
        };
        let running = Slave::start(slave, whereabouts);
        for (counter, reason) in [(5, &begun), (6, &candidacies), (7, &begun)] {
            let before = topics.generation();
            let asked = known.copied();
            let text = TOPICS.replace("\"counter\":4", &format!("\"counter\":{counter}"));
            master.answer(request::GET_ALL_TOPIC_CONFIG, &text);
            reason.advance(reason.value() + 1);
            // Sooner than the next round would be.
            let change = time::timeout(PERIOD / 2, topics.changes().beyond(before));
            change.await.expect("it does not wait for the next round");
            assert_eq!(topics.version().counter, counter);
            while known.copied() == asked {
                tokio::task::yield_now().await;
            }
        }
        running.stop().await;
        master.server.stop(TIMEOUT).await;
    });
}
