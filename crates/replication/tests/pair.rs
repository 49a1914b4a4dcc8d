//! Two stores, a master's links and a follower, over sockets: the logs become equal whatever happens to either side.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gantry_disk::OsDisk;
use gantry_message::{Epoch, LogOffset, Millis, QueueId, QueueOffset, Record, SysFlag};
use gantry_replication::{
    FollowState, Follower, Following, HELLO, LinkStatus, Links, Misfit, Patience, Plan, TOKEN_LEN,
};
use gantry_store::{Cut, Outcome, ReadStatus, Store, StoreConfig, Tags};
use tempfile::TempDir;

const PATIENCE: Patience = Patience {
    heartbeat: Duration::from_millis(50),
    silence: Duration::from_secs(20),
};
const SLAVE_ID: u64 = 3;
/// What no test takes, however busy the machine.
const LONG: Duration = Duration::from_secs(60);

fn open(folder: &Path) -> Arc<Store> {
    let config = StoreConfig {
        segment_size: 64 << 10,
        queue_file_size: 20 * 100,
        index_slots: 100,
        index_entries: 1_000,
        ..StoreConfig::at(folder)
    };
    let store = Store::open(Arc::new(OsDisk), config, Millis::now()).unwrap();
    store.start().unwrap();
    store
}

fn send(store: &Arc<Store>, number: u32) -> LogOffset {
    let queue = store.queue("T", QueueId(number % 3));
    let body = vec![b'x'; 10 + number as usize * 37 % 3_000];
    let properties = format!("UNIQ_KEY\u{1}U{number}\u{2}TAGS\u{1}t");
    let record = Record {
        topic: "T",
        queue_id: queue.id(),
        flag: 0,
        sys_flag: SysFlag(0),
        born_time: Millis::now(),
        born_host: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        store_host: SocketAddr::from((Ipv4Addr::LOCALHOST, 2)),
        reconsume_times: 0,
        prepared_offset: 0,
        body: &body,
        properties: properties.as_bytes(),
    };
    match store.append(&queue, &record, Tags::Code(7)) {
        Outcome::Stored { end, .. } => end,
        Outcome::Refused(error) => panic!("{error}"),
    }
}

/// A master whose HA port serves everybody.
struct Master {
    store: Arc<Store>,
    links: Arc<Links>,
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Master {
    fn on(store: Arc<Store>) -> Master {
        let links = Links::new(store.clone(), PATIENCE);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (theirs, is_over) = (links.clone(), Arc::new(AtomicBool::new(false)));
        let over = is_over.clone();
        std::thread::spawn(move || {
            while let Ok((socket, slave)) = listener.accept() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                theirs.serve(socket, slave).unwrap();
            }
        });
        Master {
            store,
            links,
            address,
            is_over,
        }
    }

    fn stop(self) -> Arc<Store> {
        self.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.links.stop();
        self.store
    }
}

/// What a slave is told to do; the tests change it.
type Plans = Arc<Mutex<Box<dyn FnMut(&Store) -> Plan + Send>>>;

fn plain(master: &Master) -> Box<dyn FnMut(&Store) -> Plan + Send> {
    let address = master.address;
    Box::new(move |store| Plan::Follow {
        master: "the master".into(),
        address,
        from: store.max_offset(),
        invitation: None,
        epoch: Epoch::NONE,
    })
}

fn checked(master: &Master) -> Box<dyn FnMut(&Store) -> Plan + Send> {
    let (links, address, store) = (master.links.clone(), master.address, master.store.clone());
    let mut number = 0;
    Box::new(move |ours| {
        number += 1;
        Plan::Follow {
            master: "the master".into(),
            address,
            from: ours.max_offset().max(store.min_offset()),
            invitation: Some(links.invite(address.ip(), SLAVE_ID, [number; TOKEN_LEN])),
            epoch: Epoch::NONE,
        }
    })
}

struct Slave {
    store: Arc<Store>,
    follower: Follower,
    cuts: Receiver<Misfit>,
}

impl Slave {
    fn on(store: Arc<Store>, syncs: bool, plan: Box<dyn FnMut(&Store) -> Plan + Send>) -> Slave {
        let plans: Plans = Arc::new(Mutex::new(plan));
        let (cut, cuts) = mpsc::channel();
        let following = Following {
            patience: PATIENCE,
            syncs,
        };
        let ours = store.clone();
        let follower = Follower::start(
            store.clone(),
            following,
            move || plans.lock().unwrap()(&ours),
            move |wanted| cut.send(wanted).unwrap(),
        );
        Slave {
            store,
            follower: follower.unwrap(),
            cuts,
        }
    }

    fn stop(self) {
        self.follower.stop();
        self.store.shutdown().unwrap();
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LONG, "{what} did not come");
        std::thread::yield_now();
    }
}

/// Waits until the slave has acknowledged all, and compares the logs and what can be read.
fn same(master: &Master, slave: &Slave) {
    let end = master.store.max_offset();
    wait("the slave's acknowledgement", || {
        let has_it = |one: &LinkStatus| one.acknowledged == Some(end);
        end == slave.store.max_offset() && master.links.status().iter().any(has_it)
    });
    let from = slave.store.min_offset();
    let bytes = |store: &Store, at: LogOffset| store.log_bytes(at, 1 << 20).unwrap().unwrap();
    let mut at = from;
    while at < end {
        let (ours, theirs) = (bytes(&master.store, at), bytes(&slave.store, at));
        assert!(ours == theirs, "the logs differ behind {at}");
        at = LogOffset(at.0 + ours.len() as u64);
    }
    for id in 0..3 {
        let (ours, theirs) = (
            master.store.find_queue("T", QueueId(id)).unwrap(),
            slave.store.find_queue("T", QueueId(id)).unwrap(),
        );
        assert_eq!(ours.max(), theirs.max());
        let first = theirs.min();
        let found = |store: &Store, queue: &_| store.read(queue, first, 100, &|_| true);
        let (ours, theirs) = (found(&master.store, &ours), found(&slave.store, &theirs));
        assert_eq!(theirs.status, ReadStatus::Found, "{first:?}");
        assert!(ours.slices == theirs.slices, "queue {id} differs");
    }
}

fn folders() -> (TempDir, TempDir) {
    let make = || tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    (make(), make())
}

#[test]
fn a_slave_has_the_log_on_either_wire_through_restarts_of_both() {
    for (syncs, wire) in [(false, plain as fn(&Master) -> _), (true, checked)] {
        let (ours, theirs) = folders();
        let mut master = Master::on(open(ours.path()));
        let mut number = 0;
        let mut more = |master: &Master| {
            for _ in 0..200 {
                number += 1;
                send(&master.store, number);
            }
        };
        more(&master);
        for round in 0..4 {
            let slave = Slave::on(open(theirs.path()), syncs, wire(&master));
            more(&master);
            same(&master, &slave);
            assert_eq!(slave.follower.status().state, FollowState::Following);
            if syncs {
                assert_eq!(slave.store.flushed().value(), slave.store.max_offset().0);
            }
            if round % 2 == 1 {
                master.stop().shutdown().unwrap();
                master = Master::on(open(ours.path()));
            }
            more(&master);
            slave.stop();
        }
        master.stop().shutdown().unwrap();
    }
}

#[test]
fn an_empty_slave_begins_with_the_newest_segment_of_an_apache_and_with_the_oldest_of_a_gantry() {
    let (ours, theirs) = folders();
    let master = Master::on(open(ours.path()));
    for number in 0..300 {
        send(&master.store, number);
    }
    let newest = master.store.segment_of(master.store.max_offset());
    assert_ne!(newest, LogOffset(0), "one segment is no test");
    let slave = Slave::on(open(theirs.path()), false, plain(&master));
    same(&master, &slave);
    assert_eq!(slave.store.min_offset(), newest);
    // What was before is not there, and queues begin where the segment does.
    let queue = slave.store.find_queue("T", QueueId(0)).unwrap();
    assert!(QueueOffset(0) < queue.min());
    slave.stop();
    let (_, third) = folders();
    let slave = Slave::on(open(third.path()), false, checked(&master));
    same(&master, &slave);
    assert_eq!(slave.store.min_offset(), LogOffset(0));
    // It has the bytes before it has said so.
    let end = master.store.max_offset();
    wait("its report", || {
        let status = master.links.status();
        status.iter().any(|one| one.acknowledged == Some(end))
    });
    let status = master.links.status();
    let known: Vec<&LinkStatus> = status
        .iter()
        .filter(|one| one.id == Some(SLAVE_ID))
        .collect();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].acknowledged, Some(master.store.max_offset()));
    assert_eq!(
        (known[0].behind_bytes, known[0].behind),
        (0, Duration::ZERO)
    );
    slave.stop();
    master.stop().shutdown().unwrap();
}

#[test]
fn strangers_with_bytes_of_any_kind_never_count() {
    let (ours, _) = folders();
    let master = Master::on(open(ours.path()));
    let end = send(&master.store, 1);
    let token = *b"0123456789abcdef";
    let used = master.links.invite([10, 0, 0, 9].into(), SLAVE_ID, token);
    let report = |end: u64| end.to_be_bytes().to_vec();
    let hello = |token: &[u8]| [&HELLO[..], token, &[0; 12]].concat();
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0xFF; 8],
        report(end.0 + 1),
        report(1 << 40),
        report(u64::MAX >> 1),
        hello(&[7; TOKEN_LEN]),
        // Given to another address.
        hello(used.bytes()),
        HELLO.repeat(4),
    ] {
        let mut socket = TcpStream::connect(master.address).unwrap();
        socket.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        // Closed, or reset because not everything was read.
        let _ = socket.read_to_end(&mut answer);
        assert_eq!(answer, b"", "{bytes:?} was answered");
        assert_eq!(master.links.replicated().value(), 0, "{bytes:?} counts");
    }
    wait("the end of every link", || master.links.count() == 0);
    let reasons: Vec<String> = master
        .links
        .status()
        .into_iter()
        .filter_map(|one| one.ended)
        .collect();
    assert!(!reasons.is_empty(), "nobody is told why");
    master.stop().shutdown().unwrap();
}

#[test]
fn a_slave_that_does_not_read_takes_no_memory_and_holds_nobody_up() {
    let (ours, theirs) = folders();
    let master = Master::on(open(ours.path()));
    let mut lazy = TcpStream::connect(master.address).unwrap();
    lazy.write_all(&[0; 8]).unwrap();
    wait("the lazy slave", || {
        master
            .links
            .status()
            .iter()
            .any(|one| one.acknowledged.is_some())
    });
    let slave = Slave::on(open(theirs.path()), false, checked(&master));
    for number in 0..20_000 {
        send(&master.store, number);
    }
    same(&master, &slave);
    let behind = master.links.status();
    let behind = behind.iter().find(|one| one.id.is_none()).unwrap();
    // As much as the sockets of both sides hold, and no more, has left the log.
    assert!(
        behind.sent.0 < master.store.max_offset().0,
        "all of {} bytes were sent to somebody who reads none",
        behind.sent
    );
    slave.stop();
    drop(lazy);
    master.stop().shutdown().unwrap();
}

#[test]
fn a_follower_says_why_it_waits_and_ends_for_a_cut() {
    let (ours, theirs) = folders();
    let master = Master::on(open(ours.path()));
    send(&master.store, 1);
    let slave = Slave::on(
        open(theirs.path()),
        false,
        Box::new(|_| Plan::Wait("nobody is there".into())),
    );
    let waits = FollowState::Waiting("nobody is there".into());
    wait("the reason", || slave.follower.status().state == waits);
    slave.stop();
    let cut = Misfit {
        cut: Cut {
            from: LogOffset(0),
            to: LogOffset(0),
            last: None,
            why: "a test".into(),
        },
        epoch: Epoch::NONE,
    };
    let wanted = cut.clone();
    let slave = Slave::on(
        open(theirs.path()),
        false,
        Box::new(move |_| Plan::Cut(wanted.clone())),
    );
    assert_eq!(slave.cuts.recv_timeout(LONG), Ok(cut));
    assert_eq!(slave.follower.status().state, FollowState::Ended);
    slave.stop();
    // A port where nobody is.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let slave = Slave::on(
        open(theirs.path()),
        false,
        Box::new(move |store| Plan::Follow {
            master: "nobody".into(),
            address,
            from: store.max_offset(),
            invitation: None,
            epoch: Epoch::NONE,
        }),
    );
    let says = |text: &str| matches!(slave.follower.status().state, FollowState::Waiting(why) if why.contains(text));
    wait("the failed connection", || says("cannot connect"));
    slave.stop();
    master.stop().shutdown().unwrap();
}

#[test]
fn a_slave_that_hears_of_a_promotion_tells_nothing_more_to_the_master_before() {
    let (ours, theirs) = folders();
    let master = Master::on(open(ours.path()));
    send(&master.store, 3);
    let slave = Slave::on(open(theirs.path()), false, checked(&master));
    let end = master.store.max_offset();
    wait("the copy", || master.links.replicated().value() == end.0);
    let promotion = Epoch::NONE.next(7);
    slave.follower.view().obey(promotion);
    wait("the end of the link", || master.links.count() == 0);
    send(&master.store, 1);
    let replaced = format!("the master was replaced by promotion {promotion}");
    wait(
        "the reason",
        || matches!(slave.follower.status().state, FollowState::Waiting(why) if why == replaced),
    );
    let ended = slave.follower.status().ended_links;
    wait("more attempts", || {
        ended + 1 < slave.follower.status().ended_links
    });
    assert_eq!(slave.store.max_offset(), end, "it took something more");
    assert_eq!(master.links.replicated().value(), end.0);
    slave.stop();
    master.stop().shutdown().unwrap();
}
