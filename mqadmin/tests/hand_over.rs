//! The order of a hand-over, against servers that say what a test wants: what happens when an answer is late or lost, and
//! who is asked for what meanwhile.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod harness;

use std::{
    net::TcpListener,
    process::{Command, Output},
    sync::{Arc, Mutex, MutexGuard},
};

use gantry_wire::{
    Request, Response,
    bodies::{HaFollowing, HaMaster, HaStatus},
    codes::request,
};

const PROMOTION: &str = "1.1";
/// Where the master's log ends before it holds on, and when it does.
const END: i64 = 1_000;
const HELD_END: i64 = 1_500;
/// What the slave gets between two looks.
const GROWS: i64 = 250;

/// What becomes of the request that fences the master.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fencing {
    Answered,
    /// The connection ends when the master is fenced.
    AnswerLost,
    /// The connection ends, and the master is as before.
    NeverDone,
}

/// A master and its slave.
struct State {
    fencing: Fencing,
    master: String,
    slave: String,
    slave_end: i64,
    /// Whether the slave's log can stand for the master's.
    vouches: bool,
    is_held: bool,
    is_fenced: bool,
    is_promoted: bool,
    /// The old master has become a slave.
    has_rejoined: bool,
    /// The master does not answer.
    is_silent: bool,
    /// How many milliseconds ago the slave heard it, and whether it will again.
    heard: (i64, bool),
    /// Each request that changes something, with what it says.
    asked: Vec<String>,
}

impl State {
    fn status(&mut self, of_slave: bool) -> HaStatus {
        let mut status = HaStatus {
            broker_name: "broker-a".to_owned(),
            epoch: Some("0.0".to_owned()),
            in_sync_replicas: 1,
            max_offset: if self.is_held { HELD_END } else { END },
            role: "SYNC_MASTER".to_owned(),
            slave_ack_policy: "refuse".to_owned(),
            ..HaStatus::default()
        };
        if of_slave && self.is_promoted {
            status.epoch = Some(PROMOTION.to_owned());
            status.configured_id = 1;
        } else if of_slave {
            let wanted = if self.is_held { HELD_END } else { END };
            self.slave_end = wanted.min(self.slave_end + GROWS);
            status.max_offset = self.slave_end;
            (status.broker_id, status.configured_id) = (1, 1);
            status.role = "SLAVE".to_owned();
            if self.is_silent {
                let (ago, is_alive) = &mut self.heard;
                *ago += if *ago < 5_500 { 500 } else { 2_000 };
                if *is_alive && 5_500 < *ago {
                    *ago = 100;
                }
            }
            status.following = Some(HaFollowing {
                copied_millis_ago: 0,
                is_following: true,
                heard_millis_ago: self.heard.0,
                known: Some(HaMaster {
                    followed: self.vouches,
                    role: "SYNC_MASTER".to_owned(),
                    slave_ids: vec![1],
                    ..HaMaster::default()
                }),
                master: Some(self.master.clone()),
                ..HaFollowing::default()
            });
        } else if self.is_fenced {
            status.epoch = Some(PROMOTION.to_owned());
            (status.is_fenced, status.gave_way) = (true, true);
        }
        status
    }

    /// `None`: the connection ends.
    fn answer(&mut self, who: Who, request: &Request) -> Option<Response> {
        if who == Who::Master && self.is_silent {
            return None;
        }
        let field = |name| request.fields.get(name).unwrap_or("-").to_owned();
        let seated = |epoch: &str, part: &str, end: i64| {
            let answer = Response::ok().field("gantryEpoch", epoch);
            Some(answer.field("part", part).field("maxOffset", end))
        };
        match (who, request.code) {
            (Who::NameServer, request::GET_BROKER_CLUSTER_INFO) => {
                let (master, slave) = (&self.master, &self.slave);
                let addresses = match (self.is_fenced, self.is_promoted) {
                    (_, true) if self.has_rejoined => {
                        format!(r#"{{0:"{slave}",2:"{master}"}}"#)
                    }
                    (_, true) => format!(r#"{{0:"{slave}"}}"#),
                    (true, false) => format!(r#"{{1:"{slave}"}}"#),
                    _ => format!(r#"{{0:"{master}",1:"{slave}"}}"#),
                };
                Some(Response::with_body(format!(
                    r#"{{"brokerAddrTable":{{"broker-a":{{"brokerAddrs":{addresses},"brokerName":"broker-a","cluster":"c"}}}},"clusterAddrTable":{{"c":["broker-a"]}}}}"#
                )))
            }
            (_, request::HA_STATUS) => {
                Some(Response::with_body(self.status(who == Who::Slave).encode()))
            }
            (Who::Master, request::HOLD) => {
                let millis = field("millis");
                self.is_held = millis != "0";
                self.asked
                    .push(format!("hold {millis} at {}", self.slave_end));
                let end = if self.is_held { HELD_END } else { END };
                Some(Response::ok().field("maxOffset", end))
            }
            (Who::Slave, request::PROMOTE) if field("check") == "true" => {
                seated("0.0", "SLAVE", self.slave_end)
            }
            (Who::Master, request::TELL_EPOCH) if self.has_rejoined => {
                self.asked.push(format!("told {}", field("gantryEpoch")));
                seated(PROMOTION, "SLAVE", HELD_END)
            }
            (Who::Master, request::TELL_EPOCH) => {
                self.asked.push(format!("fence at {}", field("ifEnd")));
                self.is_fenced = self.fencing != Fencing::NeverDone;
                (self.fencing == Fencing::Answered)
                    .then(|| seated(PROMOTION, "FENCED", HELD_END))
                    .flatten()
            }
            (Who::Slave, request::PROMOTE) => {
                self.asked.push(format!("promote at {}", field("minEnd")));
                self.is_promoted = true;
                seated(PROMOTION, "SYNC_MASTER", HELD_END)
            }
            (_, code) => panic!("nobody should ask for {code}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    NameServer,
    Master,
    Slave,
}

/// All servers, each on a port of its own.
struct Stage {
    state: Arc<Mutex<State>>,
    name_server: String,
    slave: String,
}

impl Stage {
    fn set(fencing: Fencing) -> Self {
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [name_server, master, slave] = listeners
            .each_ref()
            .map(|listener| listener.local_addr().unwrap().to_string());
        let state = Arc::new(Mutex::new(State {
            fencing,
            master,
            slave: slave.clone(),
            slave_end: 0,
            vouches: true,
            is_held: false,
            is_fenced: false,
            is_promoted: false,
            has_rejoined: false,
            is_silent: false,
            heard: (1, true),
            asked: Vec::new(),
        }));
        let everybody = [Who::NameServer, Who::Master, Who::Slave];
        for (who, listener) in everybody.into_iter().zip(listeners) {
            let state = Arc::clone(&state);
            harness::serve(listener, move |request| {
                state.lock().unwrap().answer(who, &request)
            });
        }
        Self {
            state,
            name_server,
            slave,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn promote(&self) -> (Output, String) {
        self.ask("promote")
    }

    fn ask(&self, command: &str) -> (Output, String) {
        self.ask_with(command, &[])
    }

    fn ask_with(&self, command: &str, more: &[&str]) -> (Output, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_mqadmin"))
            .env_clear()
            .env("NAMESRV_ADDR", &self.name_server)
            .args([command, "-b", &self.slave])
            .args(more)
            .output()
            .unwrap();
        let said = [&*output.stdout, &*output.stderr].concat();
        (output, String::from_utf8(said).unwrap())
    }
}

/// The master takes messages until the slave is close, and is asked to hold on again at each look.
#[test]
fn a_master_holds_on_when_its_slave_is_close_and_as_long_as_it_is_looked_at() {
    let stage = Stage::set(Fencing::Answered);
    let (output, said) = stage.promote();
    assert!(output.status.success(), "{said}");
    let asked = stage.state().asked.clone();
    let held: Vec<_> = asked
        .iter()
        .filter(|asked| asked.starts_with("hold"))
        .collect();
    assert_eq!(held[0], &format!("hold 5000 at {END}"), "{asked:?}");
    // It lacked two looks' worth then.
    assert!(2 <= held.len(), "{asked:?}");
    assert!(
        held.iter().all(|asked| asked.starts_with("hold 5000 ")),
        "{asked:?}"
    );
    let last = &asked[held.len()..];
    let expected = [
        format!("fence at {HELD_END}"),
        format!("promote at {HELD_END}"),
    ];
    assert_eq!(last, expected, "{asked:?}");
}

/// That it was fenced is looked at where the answer is lost.
#[test]
fn a_fence_whose_answer_is_lost_counts_when_it_was_set() {
    let stage = Stage::set(Fencing::AnswerLost);
    let (output, said) = stage.promote();
    assert!(output.status.success(), "{said}");
    assert!(stage.state().is_promoted);
}

#[test]
fn a_master_that_was_not_fenced_takes_messages_again_and_nobody_is_promoted() {
    let stage = Stage::set(Fencing::NeverDone);
    let (output, said) = stage.promote();
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("takes messages again, nothing is changed"),
        "{said}"
    );
    let state = stage.state();
    assert!(!state.is_promoted && !state.is_held, "{:?}", state.asked);
}

/// Whoever promoted it may have been killed before it told the others.
#[test]
fn promoting_the_master_tells_its_slaves_and_changes_nothing_else() {
    let stage = Stage::set(Fencing::Answered);
    stage.state().is_promoted = true;
    let (output, said) = stage.promote();
    assert!(output.status.success(), "{said}");
    assert_eq!(stage.state().asked, [""; 0], "{said}");
    stage.state().has_rejoined = true;
    let (output, said) = stage.promote();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("is SYNC_MASTER of broker-a already"),
        "{said}"
    );
    assert!(said.contains("slave 2, is told"), "{said}");
    assert_eq!(stage.state().asked, ["told 1.1"], "{said}");
}

/// A master that does not answer is waited for as long as its slave may have heard it: it is dead, or out of reach from here.
#[test]
fn a_silent_master_is_alive_when_its_slave_hears_it_again() {
    let look = |is_alive| {
        let stage = Stage::set(Fencing::Answered);
        stage.state().is_silent = true;
        stage.state().heard = (1, is_alive);
        let (output, said) = stage.ask_with("promote", &["-d"]);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("waiting whether it does again"), "{said}");
        said
    };
    let said = look(true);
    assert!(said.contains("100 ms ago: it is alive"), "{said}");
    let said = look(false);
    assert!(said.contains("the old master does not answer"), "{said}");
}

#[test]
fn a_slave_that_does_not_count_for_a_promotion_says_so() {
    let stage = Stage::set(Fencing::Answered);
    let words = "does not count for a promotion";
    let (_, said) = stage.ask("haStatus");
    assert!(
        said.contains("  follows ") && !said.contains(words),
        "{said}"
    );
    stage.state().vouches = false;
    let (_, said) = stage.ask("haStatus");
    assert!(said.contains(words), "{said}");
}

/// Who is asked at one address and announced at another is the same broker.
#[test]
fn a_slave_is_promoted_whatever_address_it_announces() {
    let stage = Stage::set(Fencing::Answered);
    let port = stage.slave.rsplit_once(':').unwrap().1;
    stage.state().slave = format!("localhost:{port}");
    let (output, said) = stage.promote();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains(&format!("{} is SYNC_MASTER of broker-a", stage.slave)),
        "{said}"
    );
}
