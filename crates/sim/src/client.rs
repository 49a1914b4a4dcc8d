//! Clients: they find the master, send, read and say how far they are. Theirs is a stock client's patience.

use std::collections::{BTreeMap, BTreeSet};

use gantry_message::{QueueId, QueueOffset};

use crate::net::{CLIENTS, NAMES, Reply, Request};
use crate::truth::Checked;
use crate::world::{World, event};
use crate::{QUEUES, TOPIC};

/// How often routes are asked for.
const ROUTES_MS: u64 = 1_500;
const PATIENCE_MS: u64 = 1_200;

/// A producer and consumer in one.
#[derive(Debug)]
pub(crate) struct Client {
    group: String,
    master: Option<usize>,
    slaves: Vec<usize>,
    asked_at: Option<u64>,
    /// What it sent and was not told about.
    pub(crate) waits: BTreeMap<u32, u64>,
    /// How far it has read.
    read: BTreeMap<u32, u64>,
    refused: BTreeSet<u32>,
}

impl Client {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            group: format!("g{number}"),
            master: None,
            slaves: Vec::new(),
            asked_at: None,
            waits: BTreeMap::new(),
            read: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
    }
}

impl World {
    pub(crate) fn client(&mut self, number: usize) -> Checked {
        self.attend_names();
        let now = self.now_ms;
        let client = &mut self.clients[number];
        client.waits.retain(|_, until| now < *until);
        if client.asked_at.is_none_or(|at| at + ROUTES_MS <= now) || client.master.is_none() {
            client.asked_at = Some(now);
            self.route(number);
        }
        match self.random.below(8) {
            0..=4 => {
                self.send(number);
                Ok(())
            }
            5 => self.consume(number, false),
            _ => self.consume(number, true),
        }
    }

    fn route(&mut self, number: usize) {
        let server = self.random.below(self.names.len());
        let (own, end) = (CLIENTS + number, NAMES + server);
        if !self.net.carries(own, end, self.now_ms) || !self.net.carries(end, own, self.now_ms) {
            return;
        }
        let registered = self.names[server].registered();
        let master = self.names[server].master();
        let client = &mut self.clients[number];
        // A route without the master leaves the old one to who has it.
        client.master = master.or(client.master);
        client.slaves = registered
            .iter()
            .filter(|(id, _)| *id != 0)
            .map(|(_, node)| *node)
            .collect();
    }

    pub(crate) fn send(&mut self, number: usize) -> Option<u32> {
        let to = self.clients[number].master?;
        let id = self.next_message;
        self.next_message += 1;
        let queue =
            u32::try_from(self.random.below(usize::try_from(QUEUES).unwrap_or(1))).unwrap_or(0);
        let size = match self.random.below(6) {
            0 => self.random.below(700),
            _ => self.random.below(120),
        };
        let until = self.now_ms + PATIENCE_MS;
        self.clients[number].waits.insert(id, until);
        // Sends have no answer yet.
        let _ = self.ask(CLIENTS + number, to, Request::Send { id, queue, size });
        Some(id)
    }

    pub(crate) fn answered(&mut self, client: usize, id: u32, code: i32) {
        self.clients[client - CLIENTS].waits.remove(&id);
        if code == gantry_wire::codes::response::SUCCESS {
            self.counts.acked += 1;
        } else {
            self.clients[client - CLIENTS].refused.insert(id);
        }
        if let Some((probe, answer)) = &mut self.probe
            && *probe == id
        {
            *answer = Some(code);
        }
    }

    /// Reads some of a queue where it can, and says how far it is.
    fn consume(&mut self, number: usize, commits: bool) -> Checked {
        let client = &self.clients[number];
        let queue =
            u32::try_from(self.random.below(usize::try_from(QUEUES).unwrap_or(1))).unwrap_or(0);
        let from = client.read.get(&queue).copied().unwrap_or(0);
        let own = CLIENTS + number;
        let all = client
            .master
            .into_iter()
            .chain(client.slaves.iter().copied());
        let all: Vec<usize> = all.collect();
        for node in all {
            if !self.is_in_reach(own, node) {
                continue;
            }
            let Some(broker) = &self.nodes[node].broker else {
                continue;
            };
            if self.nodes[node].disk.is_stopped() {
                continue;
            }
            let Some(found) = broker.store.find_queue(TOPIC, QueueId(queue)) else {
                return Ok(());
            };
            let max = found.max().0;
            self.truth
                .read(node, &broker.store, &found, QueueOffset(from.min(max)))?;
            let to = (from + self.random.below(4) as u64).min(max).max(from);
            let client = &mut self.clients[number];
            client.read.insert(queue, to);
            if commits && 0 < to {
                let group = client.group.clone();
                let request = Request::Commit {
                    group,
                    queue,
                    offset: to,
                };
                if let Ok(Reply::Refused(why)) = self.ask(own, node, request) {
                    event!(self, "client {number} cannot say how far it is: {why}");
                }
            }
            return Ok(());
        }
        Ok(())
    }

    pub(crate) fn is_in_reach(&self, from: usize, node: usize) -> bool {
        let now = self.now_ms;
        self.net.carries(from, node, now)
            && self.net.carries(node, from, now)
            && !self.nodes[node].is_frozen(now)
    }

    /// When all shall be well, one message must be taken as promised.
    pub(crate) fn calm_client(&mut self) -> Checked {
        self.attend_names();
        let now = self.now_ms;
        let is_stale = self.clients[0].asked_at.is_none_or(|at| at + 500 <= now);
        if is_stale {
            self.clients[0].asked_at = Some(now);
            self.route(0);
        }
        let is_over = match self.probe {
            None => true,
            Some((id, None)) => self.clients[0]
                .waits
                .get(&id)
                .is_none_or(|until| *until <= now),
            Some((_, Some(code))) => code != gantry_wire::codes::response::SUCCESS,
        };
        if is_over && self.random.chance(1, 8) {
            self.probe = self.send(0).map(|id| (id, None));
            self.take_all_requests()?;
        }
        Ok(())
    }

    fn take_all_requests(&mut self) -> Checked {
        for node in 0..self.nodes.len() {
            self.take_requests(node)?;
        }
        Ok(())
    }
}
