//! The world, and the order in which things happen in it.
//!
//! A step picks somebody and lets him do one thing: a client, a link that carries some bytes, a broker that looks at its
//! timers, a broker's background work, the administrator, chance that breaks something. After it the truth is asked.
//! Behind the last step nothing breaks any more, and all must come together again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use gantry_broker::config::StoreSettings;
use gantry_message::Epoch;
use gantry_replication::Part;

use crate::broken::Broken;
use crate::client::Client;
use crate::names::NameServer;
use crate::net::{Net, Reply, Request};
use crate::node::{Broker, Node};
use crate::random::Random;
use crate::setup::Setup;
use crate::slave::Follow;
use crate::tool::Tool;
use crate::trace::Trace;
use crate::truth::{Checked, Truth, Violation, must};

/// So many rounds all is well, and it must be well again by then.
const HEALS: u32 = 3_000;

/// How much happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Messages that were acknowledged.
    pub acked: usize,
    /// Of these, with the promise of copies.
    pub copied: usize,
    /// Of all, those that were lost in a way that nobody promised against.
    pub excused: usize,
    /// Crashes of any kind.
    pub crashes: usize,
    /// Logs that were cut.
    pub cuts: usize,
    /// Promotions.
    pub promotions: usize,
    /// Steps.
    pub steps: usize,
}

impl Counts {
    /// These, too.
    pub fn add(&mut self, other: &Self) {
        let Self {
            acked,
            copied,
            excused,
            crashes,
            cuts,
            promotions,
            steps,
        } = other;
        self.acked += acked;
        self.copied += copied;
        self.excused += excused;
        self.crashes += crashes;
        self.cuts += cuts;
        self.promotions += promotions;
        self.steps += steps;
    }
}

pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) settings: StoreSettings,
    pub(crate) seed: u64,
    pub(crate) random: Random,
    pub(crate) now_ms: u64,
    began: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) names: Vec<NameServer>,
    pub(crate) clients: Vec<Client>,
    pub(crate) tool: Tool,
    pub(crate) net: Net,
    pub(crate) truth: Truth,
    pub(crate) trace: Rc<RefCell<Trace>>,
    pub(crate) broken: Option<Broken>,
    pub(crate) counts: Counts,
    /// Nothing breaks any more.
    pub(crate) is_calm: bool,
    pub(crate) next_message: u32,
    /// The last message that is sent when all is well, and what was answered.
    pub(crate) probe: Option<(u32, Option<i32>)>,
}

macro_rules! event {
    ($world:expr, $($what:tt)+) => {
        $world.trace.borrow_mut().event(format_args!($($what)+))
    };
}
pub(crate) use event;

impl World {
    pub(crate) fn new(seed: u64, broken: Option<Broken>, trace: Rc<RefCell<Trace>>) -> Self {
        let mut random = Random::new(seed);
        let setup = Setup::draw(&mut random).provoke(broken);
        let nodes = (0..=setup.slaves).map(|index| {
            let skew = i64::try_from(random.below(4_000)).unwrap_or(0) - 2_000;
            Node::new(index, seed, &setup, skew)
        });
        let nodes: Vec<Node> = nodes.collect();
        Self {
            settings: setup.settings(),
            seed,
            nodes,
            names: (0..setup.names).map(|_| NameServer::new()).collect(),
            clients: (0..2).map(Client::new).collect(),
            setup,
            random,
            now_ms: 0,
            began: Instant::now(),
            tool: Tool::default(),
            net: Net::default(),
            truth: Truth::new(),
            trace,
            broken,
            counts: Counts::default(),
            is_calm: false,
            next_message: 1,
            probe: None,
        }
    }

    pub(crate) fn describe(&self) -> String {
        format!("{:?}", self.setup)
    }

    pub(crate) fn now(&self) -> Instant {
        self.began + Duration::from_millis(self.now_ms)
    }

    pub(crate) fn play(&mut self) -> Checked {
        for _ in 0..self.setup.steps {
            self.pass_time(false);
            self.step()?;
            self.break_something()?;
            self.check()?;
        }
        self.heal()?;
        self.counts.copied = self.truth.copied;
        self.counts.excused = self.truth.excused;
        Ok(())
    }

    fn pass_time(&mut self, is_slow: bool) {
        let jump = match self.random.below(60) {
            0 if !is_slow => 700,
            _ => 16,
        };
        self.now_ms += self.random.below(jump) as u64;
        self.counts.steps += 1;
        let mut trace = self.trace.borrow_mut();
        trace.step += 1;
        trace.now_ms = self.now_ms;
        drop(trace);
        for node in &self.nodes {
            node.tick(self.now_ms);
        }
    }

    fn step(&mut self) -> Checked {
        let node = self.random.below(self.nodes.len());
        match self.random.below(100) {
            0..22 => {
                let client = self.random.below(self.clients.len());
                self.client(client)
            }
            22..58 => self.carry_some(),
            58..88 => self.attend(node),
            88..96 => self.work(node),
            _ => self.administer(),
        }
    }

    /// One broker looks at what came, and at its timers.
    pub(crate) fn attend(&mut self, node: usize) -> Checked {
        self.bury(node)?;
        let now = self.now_ms;
        let one = &mut self.nodes[node];
        if one.broker.is_none() {
            if !one.is_lost && one.up_at.is_some_and(|at| at <= now) {
                return self.start(node);
            }
            return Ok(());
        }
        let is_slow = now < one.slow_until && self.random.below(5) != 0;
        if self.nodes[node].is_frozen(now) || is_slow {
            return Ok(());
        }
        self.let_go_in_time(node);
        self.take_requests(node)?;
        self.save_offsets(node);
        self.register(node)?;
        self.look_for_rivals(node);
        self.serve(node)?;
        self.follow(node)?;
        self.copy_tables(node)?;
        self.change_part(node)?;
        self.bury(node)
    }

    /// What a broker's own threads do.
    pub(crate) fn work(&mut self, node: usize) -> Checked {
        let is_frozen = self.nodes[node].is_frozen(self.now_ms);
        let pick = self.random.below(3);
        let Some(broker) = self.nodes[node].broker.as_ref().filter(|_| !is_frozen) else {
            return Ok(());
        };
        match pick {
            0 => broker.store.turn(),
            _ => {
                // A failure latches the store.
                let _ = broker.store.flush();
            }
        }
        self.truth.synced(node, &broker.store);
        self.bury(node)
    }

    fn save_offsets(&mut self, node: usize) {
        let one = &self.nodes[node];
        let Some(broker) = &one.broker else { return };
        let before = one.disk.changes();
        broker.offsets.step(one.wall());
        if before != one.disk.changes() && !one.disk.is_stopped() {
            let table = broker.offsets_now();
            self.truth.offsets_written(node, &table);
        }
    }

    fn let_go_in_time(&mut self, node: usize) {
        let now = self.now_ms;
        let Some(broker) = &mut self.nodes[node].broker else {
            return;
        };
        let seats = &broker.seats;
        broker.holds.retain(|(hold, until)| {
            let is_over = *until <= now;
            if is_over {
                seats.release(*hold);
            }
            !is_over
        });
    }

    /// A broker whose part changed starts again within its process.
    fn change_part(&mut self, node: usize) -> Checked {
        let Some(broker) = &self.nodes[node].broker else {
            return Ok(());
        };
        if broker.seats.now().part == broker.part {
            return Ok(());
        }
        event!(
            self,
            "{node} starts again as {}",
            broker.seats.now().part.name()
        );
        self.restart(node)
    }

    /// Stops a broker in an orderly way and starts it again.
    pub(crate) fn restart(&mut self, node: usize) -> Checked {
        self.stop(node);
        self.start(node)
    }

    fn stop(&mut self, node: usize) {
        let one = &mut self.nodes[node];
        let Some(broker) = one.broker.take() else {
            return;
        };
        let flushed = broker.offsets.flush().is_ok() && !one.disk.is_stopped();
        if flushed {
            let table = broker.offsets_now();
            self.truth.offsets_written(node, &table);
        }
        // What is not stopped well is recovered.
        let _ = broker.store.shutdown();
        drop(broker);
        one.durable = u64::MAX;
        if one.disk.is_stopped() {
            one.disk.kill();
        }
        let life = one.life;
        self.net.died(node, life, true);
        self.disconnect(node);
    }

    pub(crate) fn start(&mut self, node: usize) -> Checked {
        let now = self.now_ms;
        let names = self.setup.names;
        if self.broken == Some(Broken::ForgetsPromotion) {
            self.nodes[node].forget_promotion();
        }
        let one = &mut self.nodes[node];
        one.tick(now);
        if one.start(&self.setup, names, now).is_none() || one.disk.is_stopped() {
            if !one.disk.is_stopped() {
                return Err(Violation(format!("{node} does not start")));
            }
            one.broker = None;
            one.disk.kill();
            one.up_at = Some(now + 100);
            return Ok(());
        }
        let durable = std::mem::replace(&mut one.durable, u64::MAX);
        one.up_at = None;
        if std::mem::take(&mut one.is_sick) {
            one.burns_behind = Some(self.truth.copied);
        }
        let Some(broker) = &one.broker else {
            return Ok(());
        };
        let store = std::sync::Arc::clone(&broker.store);
        event!(
            self,
            "{node} is up as {} at epoch {}, its log is {} to {}",
            self.part_of(node),
            self.epoch_of(node),
            store.min_offset(),
            store.max_offset()
        );
        if let Some(loss) = self.nodes[node].promoted.take()
            && self.is_master(node)
            && self.truth.leader != Some(node)
        {
            event!(self, "{node} was promoted before its disk stopped");
            self.truth.reopened(node, &store, durable)?;
            return self.promoted(node, loss);
        }
        if self.nodes[node].has_cut {
            self.counts.cuts += 1;
            return self.truth.cut(node, &store);
        }
        self.truth.reopened(node, &store, durable)
    }

    pub(crate) fn part_of(&self, node: usize) -> &'static str {
        let broker = self.nodes[node].broker.as_ref();
        broker.map_or("nothing", |broker| broker.part.name())
    }

    pub(crate) fn epoch_of(&self, node: usize) -> Epoch {
        let broker = self.nodes[node].broker.as_ref();
        broker.map_or(Epoch::NONE, |broker| broker.seats.epoch())
    }

    /// Asks a broker for something. An error: no answer came.
    pub(crate) fn ask(
        &mut self,
        from: usize,
        to: usize,
        request: Request,
    ) -> Result<Reply, &'static str> {
        if !self.net.carries(from, to, self.now_ms) {
            return Err("it does not arrive");
        }
        if self.nodes.get(to).is_none_or(|node| node.broker.is_none()) {
            return Err("nobody is there");
        }
        if self.nodes[to].is_frozen(self.now_ms) {
            if let Some(broker) = &mut self.nodes[to].broker {
                broker.inbox.push((from, request));
            }
            return Err("no answer");
        }
        let reply = self.answer(from, to, request);
        if !self.net.carries(to, from, self.now_ms) {
            return Err("the answer does not arrive");
        }
        reply.ok_or("no answer")
    }

    fn check(&mut self) -> Checked {
        self.violated()?;
        self.truth.survives()?;
        for node in 0..self.nodes.len() {
            let Some(broker) = &self.nodes[node].broker else {
                continue;
            };
            let takes = broker.master.is_some() && broker.store.admit().is_ok();
            let seat = broker.seats.now();
            if takes && seat.is_master() {
                self.truth.writes(node, seat.epoch)?;
            }
            must!(
                !takes || seat.is_master(),
                "{node} takes messages, and it is {} at epoch {}",
                seat.part.name(),
                seat.epoch
            );
            if self.truth.leader == Some(node) && self.random.chance(1, 16) {
                self.truth.offsets_hold(node, &broker.offsets_now())?;
            }
        }
        Ok(())
    }

    /// Without further trouble all comes together again.
    fn heal(&mut self) -> Checked {
        self.is_calm = true;
        event!(self, "nothing breaks any more");
        self.net.blocked = Default::default();
        for node in &mut self.nodes {
            (node.frozen_until, node.slow_until) = (0, 0);
            node.up_at = node.up_at.map(|_| 0);
        }
        for _ in 0..HEALS {
            self.pass_time(true);
            for node in 0..self.nodes.len() {
                self.attend(node)?;
                self.work(node)?;
            }
            for _ in 0..4 {
                self.carry_all()?;
            }
            self.administer()?;
            self.calm_client()?;
            self.check()?;
            if self.is_well()? {
                event!(self, "all is well");
                return self.last_look();
            }
        }
        Err(Violation(format!(
            "all is not well again: {}",
            self.state()
        )))
    }

    /// Whether everybody who is left has everything, and messages are taken.
    fn is_well(&mut self) -> Checked<bool> {
        let Some(leader) = self.truth.leader else {
            // Nobody was promoted in the place of the master that is lost.
            return Ok(false);
        };
        let end = self.truth.end();
        let is_master = self.nodes[leader]
            .broker
            .as_ref()
            .is_some_and(|broker| broker.master.is_some() && broker.store.admit().is_ok());
        if !is_master {
            return Ok(false);
        }
        for node in (0..self.nodes.len()).filter(|&node| node != leader) {
            if self.nodes[node].is_lost {
                continue;
            }
            let slave = self.nodes[node].broker.as_ref().and_then(|broker| {
                let slave = broker.slave.as_ref()?;
                let offsets = (broker.offsets_now(), slave.seen.0.is_empty());
                Some((
                    matches!(&slave.follow, Follow::Linked(linked) if linked.master == leader),
                    offsets,
                ))
            });
            let Some((true, (offsets, has_seen_none))) = slave else {
                return Ok(false);
            };
            let leads = self.nodes[leader].broker.as_ref().map(Broker::offsets_now);
            // A table that is empty is not believed: that master has lost its file, or was promoted before it had one.
            let agrees =
                leads.is_some_and(|leads| leads == offsets || (leads.is_empty() && !has_seen_none));
            if self.truth.held[node].agree != end || !agrees {
                return Ok(false);
            }
        }
        Ok(matches!(
            self.probe,
            Some((_, Some(gantry_wire::codes::response::SUCCESS)))
        ))
    }

    fn last_look(&mut self) -> Checked {
        for node in &self.nodes {
            let Some(broker) = node.broker.as_ref().filter(|_| !node.disk.is_stopped()) else {
                continue;
            };
            for queue in broker.store.queues_of(crate::TOPIC) {
                self.truth
                    .read(node.index, &broker.store, &queue, queue.min())?;
            }
            if self.truth.leader == Some(node.index) {
                self.truth.offsets_arrived(&broker.offsets_now())?;
            }
        }
        Ok(())
    }

    fn state(&self) -> String {
        let mut all = BTreeMap::new();
        for node in &self.nodes {
            let broker = node.broker.as_ref();
            let follows = broker.and_then(|broker| match &broker.slave.as_ref()?.follow {
                Follow::Idle { .. } => Some("idle".to_owned()),
                Follow::Comparing(with) => Some(format!("compares with {}", with.master)),
                Follow::Linked(linked) => Some(format!("linked to {}", linked.master)),
            });
            let seat = broker.map(|broker| {
                let (seat, end) = (broker.seats.now(), broker.store.max_offset());
                format!(
                    "{} {} ends at {end} {:?}",
                    seat.part.name(),
                    seat.epoch,
                    broker.offsets_now()
                )
            });
            all.insert(
                node.index,
                (seat, follows, self.truth.held[node.index], node.is_lost),
            );
        }
        format!(
            "leader {:?} ends at {}, probe {:?}, {:?}, {all:?}",
            self.truth.leader,
            self.truth.end(),
            self.probe,
            self.tool,
        )
    }

    pub(crate) fn is_master(&self, node: usize) -> bool {
        let broker = self.nodes[node].broker.as_ref();
        broker.is_some_and(|broker| matches!(broker.part, Part::Master(_)))
    }
}
