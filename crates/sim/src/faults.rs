//! What the network carries, and what breaks.

use gantry_disk::faulty::FaultyDisk;
use gantry_message::LogOffset;
use gantry_mqadmin::promotion::Accepted;
use gantry_replication::{Wire, report};

use crate::NODES;
use crate::names::NameServer;
use crate::net::{CLIENTS, ENDS, NAMES, TOOL};
use crate::truth::{Checked, Violation};
use crate::world::{World, event};

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    Kill,
    Power,
    /// And nothing of it is ever seen again.
    Lost,
}

impl World {
    /// One link carries some bytes one way.
    pub(crate) fn carry_some(&mut self) -> Checked {
        let links: Vec<u32> = self.net.links.keys().copied().collect();
        if links.is_empty() {
            return Ok(());
        }
        let link = self.random.pick(&links);
        match self.random.below(2) {
            0 => self.carry_up(link, false),
            _ => self.carry_down(link, false),
        }?;
        self.forget_links();
        Ok(())
    }

    pub(crate) fn carry_all(&mut self) -> Checked {
        let links: Vec<u32> = self.net.links.keys().copied().collect();
        for link in links {
            self.carry_up(link, true)?;
            self.carry_down(link, true)?;
        }
        self.forget_links();
        Ok(())
    }

    fn some_of(&mut self, len: usize, all: bool) -> usize {
        if all || self.random.chance(2, 3) {
            len
        } else {
            1 + self.random.below(len)
        }
    }

    /// From a slave to its master.
    fn carry_up(&mut self, link: u32, all: bool) -> Checked {
        let (now, at) = (self.now_ms, self.now());
        let Some(on) = self.net.links.get(&link) else {
            return Ok(());
        };
        let (slave, master) = (on.slave, on.master);
        let is_there =
            self.nodes[master].life == on.master_life && self.nodes[master].broker.is_some();
        if !self.net.carries(slave, master, now) || self.nodes[master].is_frozen(now) {
            return Ok(());
        }
        if !is_there || !on.is_open_at_master {
            if self.nodes[master].broker.is_some() && !is_there {
                // Another process is there: what comes for the old one is refused.
                self.close_at_master(link);
            }
            return Ok(());
        }
        if !on.is_accepted {
            let patience = self.setup.patience;
            let broker = self.nodes[master].broker.as_mut();
            let Some(side) = broker.and_then(|broker| broker.master.as_mut()) else {
                self.close_at_master(link);
                return Ok(());
            };
            side.accept(link, crate::serve::ip(slave), patience, at);
            let broken = self.broken;
            side.recount(broken);
            if let Some(on) = self.net.links.get_mut(&link) {
                on.is_accepted = true;
            }
            return Ok(());
        }
        let (len, is_open) = (on.to_master.len(), on.is_open_at_slave);
        if len == 0 {
            if !is_open && on.is_close_heard {
                event!(self, "{master} hears that link {link} is closed");
                self.leave_at_master(master, link);
            }
            return Ok(());
        }
        let len = self.some_of(len, all);
        let Some(on) = self.net.links.get_mut(&link) else {
            return Ok(());
        };
        let bytes: Vec<u8> = on.to_master.drain(..len).collect();
        let broken = self.broken;
        let Some(broker) = &mut self.nodes[master].broker else {
            return Ok(());
        };
        let Some(side) = &mut broker.master else {
            return Ok(());
        };
        if let Err(why) = side.hear(link, &bytes, &broker.store, (at, broken)) {
            event!(self, "{master} refuses link {link}: {why}");
            self.leave_at_master(master, link);
        }
        Ok(())
    }

    fn close_at_master(&mut self, link: u32) {
        if let Some(on) = self.net.links.get_mut(&link) {
            on.is_open_at_master = false;
            on.to_master.clear();
            on.to_slave.clear();
        }
    }

    /// From a master to its slave.
    fn carry_down(&mut self, link: u32, all: bool) -> Checked {
        let now = self.now_ms;
        let Some(on) = self.net.links.get(&link) else {
            return Ok(());
        };
        let (slave, master) = (on.slave, on.master);
        let is_there =
            self.nodes[slave].life == on.slave_life && self.nodes[slave].broker.is_some();
        if !self.net.carries(master, slave, now) || self.nodes[slave].is_frozen(now) {
            return Ok(());
        }
        if !is_there || !on.is_open_at_slave {
            if self.nodes[slave].broker.is_some()
                && let Some(on) = self.net.links.get_mut(&link)
            {
                on.is_open_at_slave = false;
                on.to_slave.clear();
            }
            return Ok(());
        }
        let (len, is_open) = (on.to_slave.len(), on.is_open_at_master);
        if len == 0 {
            if !is_open {
                self.hear_closed(slave, link);
            }
            return Ok(());
        }
        let len = self.some_of(len, all);
        let Some(on) = self.net.links.get_mut(&link) else {
            return Ok(());
        };
        let bytes: Vec<u8> = on.to_slave.drain(..len).collect();
        self.take_in_log(slave, link, &bytes)?;
        self.bury(slave)
    }

    fn hear_closed(&mut self, slave: usize, link: u32) {
        use crate::slave::Follow;
        let broker = self.nodes[slave].broker.as_ref();
        let is_present = broker.and_then(|broker| broker.slave.as_ref()).is_some_and(
            |side| matches!(&side.follow, Follow::Linked(linked) if linked.link == link),
        );
        if is_present {
            self.leave_at_slave(slave, "the master closed it");
        } else if let Some(on) = self.net.links.get_mut(&link) {
            on.is_open_at_slave = false;
        }
    }

    /// Links that nobody has any more.
    fn forget_links(&mut self) {
        let nodes = &self.nodes;
        let has = |node: usize, life: u64| nodes[node].life == life && nodes[node].broker.is_some();
        self.net.links.retain(|_, on| {
            let slave = on.is_open_at_slave && has(on.slave, on.slave_life);
            let master = on.is_open_at_master && has(on.master, on.master_life);
            slave || master
        });
    }

    pub(crate) fn crash(&mut self, node: usize, crash: Crash) -> Checked {
        let one = &mut self.nodes[node];
        let Some(broker) = one.broker.take() else {
            return Ok(());
        };
        self.counts.crashes += 1;
        let flushed = broker.store.flushed().value();
        drop(broker);
        let life = one.life;
        one.frozen_until = 0;
        let back = 100 + self.random.below(2_000) as u64;
        one.up_at = Some(self.now_ms + back);
        event!(
            self,
            "{node} ends: {crash:?}, its log was synced to {flushed}"
        );
        let one = &mut self.nodes[node];
        match crash {
            Crash::Kill => {
                one.disk.kill();
                one.durable = u64::MAX;
            }
            Crash::Power => {
                one.disk.power_cut();
                one.disk.kill();
                one.durable = flushed;
                self.truth.power_cut(node, flushed);
            }
            Crash::Lost => {
                one.is_lost = true;
                one.up_at = None;
                one.disk = FaultyDisk::new(1);
                self.truth.lost(node)?;
            }
        }
        let is_heard = crash == Crash::Kill;
        self.net.died(node, life, is_heard);
        if is_heard {
            self.disconnect(node);
        }
        Ok(())
    }

    /// A broker whose disk has stopped dies of it.
    pub(crate) fn bury(&mut self, node: usize) -> Checked {
        if !self.nodes[node].disk.is_stopped() || self.nodes[node].broker.is_none() {
            return Ok(());
        }
        let crash = self.random.pick(&[Crash::Kill, Crash::Power]);
        self.crash(node, crash)
    }

    /// A slave's log is cut, which takes a store that nobody uses.
    pub(crate) fn cut(&mut self, node: usize, cut: gantry_replication::Misfit) -> Checked {
        self.nodes[node].cut = Some(cut);
        self.restart(node)
    }

    pub(crate) fn break_something(&mut self) -> Checked {
        let faults = self.setup.faults;
        let node = self.random.below(self.nodes.len());
        let now = self.now_ms;
        if self.happens(faults.cut) {
            let (from, to) = (self.random.below(ENDS), self.random.below(ENDS));
            let until = now + 100 + self.random.below(3_000) as u64;
            self.net.blocked[from][to] = until;
            if self.random.chance(1, 2) {
                self.net.blocked[to][from] = until;
            }
            event!(self, "nothing comes from {from} to {to} until {until}");
        }
        if self.happens(faults.reset) {
            let links: Vec<u32> = self.net.links.keys().copied().collect();
            if !links.is_empty() {
                let link = self.random.pick(&links);
                self.reset(link);
            }
        }
        if self.happens(faults.kill) {
            match self.random.below(8) {
                0 => {
                    let server = self.random.below(self.names.len());
                    event!(self, "name server {server} begins anew");
                    self.names[server] = NameServer::new();
                }
                _ => self.crash(node, Crash::Kill)?,
            }
        }
        if self.happens(faults.power) {
            self.crash(node, Crash::Power)?;
        }
        if self.happens(faults.relapse)
            && let Some(leader) = self.truth.leader
            && let Some(broker) = &self.nodes[leader].broker
        {
            let store = &broker.store;
            if store.flushed().value() + 1_000 < store.max_offset().0 {
                self.nodes[leader].is_sick = true;
                let slave = (leader + 1 + self.random.below(NODES - 1)) % NODES;
                for (from, to) in [(leader, slave), (slave, leader)] {
                    self.net.blocked[from][to] = now + 20_000;
                }
                self.crash(leader, Crash::Power)?;
            }
        }
        if self.happens(faults.island) {
            self.part();
        }
        let copied = self.truth.copied;
        for node in 0..self.nodes.len() {
            let burns = self.nodes[node].burns_behind.take_if(|at| *at < copied);
            // One of them is lost at most.
            if burns.is_some() && self.setup.faults.relapse != 0 {
                (self.setup.faults.relapse, self.setup.faults.disk_loss) = (0, false);
                self.crash(node, Crash::Lost)?;
            }
        }
        if self.happens(faults.torn) && self.nodes[node].broker.is_some() {
            let changes = self.random.below(12) as u64;
            event!(self, "the disk of {node} stops after {changes} changes");
            self.nodes[node].disk.stop_after(changes);
        }
        if self.happens(faults.freeze) {
            self.nodes[node].frozen_until = now + 200 + self.random.below(3_500) as u64;
            event!(
                self,
                "{node} stands still until {}",
                self.nodes[node].frozen_until
            );
        }
        if self.happens(faults.slow) {
            self.nodes[node].slow_until = now + 200 + self.random.below(2_000) as u64;
        }
        if self.happens(faults.stranger) {
            self.lie(node);
        }
        if self.happens(faults.promote) {
            self.begin_promotion();
        }
        if faults.disk_loss && self.trace.borrow().step == self.setup.steps * 2 / 3 {
            (self.setup.faults.relapse, self.setup.faults.disk_loss) = (0, false);
            if let Some(leader) = self.truth.leader {
                self.crash(leader, Crash::Lost)?;
            }
        }
        Ok(())
    }

    /// The master and one slave are an island with the clients; who promotes the other slave reaches that one of the island.
    fn part(&mut self) {
        let Some(leader) = self.truth.leader else {
            return;
        };
        let mut slaves: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| node != leader)
            .collect();
        let chosen = self.random.below(slaves.len());
        let candidate = slaves.swap_remove(chosen);
        let until = self.now_ms + 2_000 + self.random.below(6_000) as u64;
        let from_names = slaves.into_iter().chain([leader]);
        let mut pairs: Vec<(usize, usize)> = from_names
            .flat_map(|node| (NAMES..CLIENTS).map(move |server| (node, server)))
            .collect();
        pairs.extend([(leader, candidate), (leader, TOOL)]);
        for (one, other) in pairs {
            self.net.blocked[one][other] = until;
            self.net.blocked[other][one] = until;
        }
        event!(
            self,
            "{leader} is an island until {until}, without {candidate}"
        );
        self.promote(candidate, Accepted::Bytes(0));
        // When the candidate has not heard its master for a while.
        self.tool.pause_newest(self.now_ms + 700);
    }

    fn happens(&mut self, one_in: usize) -> bool {
        one_in != 0 && self.random.chance(1, one_in)
    }

    /// A link ends; either end may learn of it late.
    fn reset(&mut self, link: u32) {
        event!(self, "link {link} is reset");
        let Some(on) = self.net.links.get_mut(&link) else {
            return;
        };
        match self.random.below(3) {
            0 => on.is_open_at_slave = false,
            1 => on.is_open_at_master = false,
            _ => (on.is_open_at_slave, on.is_open_at_master) = (false, false),
        }
        on.to_slave.clear();
        if self.random.chance(1, 2) {
            on.to_master.clear();
        }
        // That it is closed gets lost, too: the master has an old connection besides a new one until it is silent for too long.
        on.is_close_heard = self.random.chance(1, 2);
        let (slave, master) = (on.slave, on.master);
        let (at_slave, at_master) = (on.is_open_at_slave, on.is_open_at_master);
        if !at_master {
            self.leave_at_master(master, link);
        }
        if !at_slave {
            self.hear_closed(slave, link);
        }
    }

    /// Somebody at the address of a slave connects on Apache's wire and says that he has what nobody has.
    fn lie(&mut self, node: usize) {
        let Some(master) = self.truth.leader.filter(|&master| master != node) else {
            return;
        };
        let end = self.truth.end();
        let position = match self.random.below(3) {
            0 => u64::MAX,
            // What will be there in time is believed (docs/durability.md).
            1 => end + (1 << 20) + self.random.below(1_000) as u64,
            _ => self.random.next() | 1 << 40,
        };
        event!(
            self,
            "somebody at {node} says to {master} that he has the log up to {position}"
        );
        let ends = (
            (node, self.nodes[node].life),
            (master, self.nodes[master].life),
        );
        let link = self.net.connect(ends.0, ends.1);
        if let Some(on) = self.net.links.get_mut(&link) {
            let lie = report(Wire::Plain, LogOffset(position));
            on.to_master.extend(lie.bytes());
        }
    }

    /// A violation that was found where it could not be returned.
    pub(crate) fn keep(&mut self, done: Checked) {
        if let Err(violation) = done {
            self.tool.violation.get_or_insert(violation);
        }
    }

    pub(crate) fn violated(&mut self) -> Result<(), Violation> {
        self.tool.violation.take().map_or(Ok(()), Err)
    }
}
