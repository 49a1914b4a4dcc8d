//! The name servers, and how brokers keep themselves known to them.

use std::cmp::Ordering;

use gantry_broker::registration::session::{Action, Revision, Rules};
use gantry_message::{Epoch, Millis};
use gantry_namesrv::routes::{ConnectionId, Queues, RegisterError, Registration, Routes, Version};
use gantry_replication::Part;

use crate::net::{NAMES, Reply, Request};
use crate::truth::Checked;
use crate::world::{World, event};
use crate::{QUEUES, TOPIC};

const NAME: &str = "broker-a";
/// How often a promoted master looks for the one that it replaced.
const RIVALS_MS: u64 = 10_000;
const REVISION: Revision = Revision {
    generation: 1,
    permission: 6,
};

/// A name server.
pub(crate) struct NameServer {
    pub(crate) routes: Routes,
    /// Registrations that come late: when, and over which connection.
    late: Vec<(u64, Registration, ConnectionId)>,
}

impl NameServer {
    pub(crate) fn new() -> Self {
        Self {
            routes: Routes::new(),
            late: Vec::new(),
        }
    }

    /// Who is registered under the name, by id.
    pub(crate) fn registered(&self) -> Vec<(u64, usize)> {
        let all = self.routes.brokers().find(|broker| broker.name == NAME);
        let all = all.into_iter().flat_map(|broker| broker.addresses);
        all.map(|(id, address)| (u64::try_from(*id).unwrap_or(0), node_of(address)))
            .collect()
    }

    /// Where the master is, as clients are told.
    pub(crate) fn master(&self) -> Option<usize> {
        let route = self.routes.route(TOPIC)?;
        let broker = route.brokers.first()?;
        broker.addresses.get(&0).map(|address| node_of(address))
    }
}

pub(crate) fn address(node: usize) -> String {
    format!("10.0.0.{}:10911", node + 1)
}

fn node_of(address: &str) -> usize {
    let host = address.trim_start_matches("10.0.0.");
    let host = host.split(':').next().unwrap_or("");
    host.parse::<usize>().unwrap_or(1) - 1
}

/// A connection of a broker's life to a name server; a later one has a greater number.
fn connection(node: usize, life: u64, number: u64) -> ConnectionId {
    ConnectionId(life * 1_000_000 + number * 10 + node as u64)
}

impl World {
    /// A broker registers where it is time to.
    pub(crate) fn register(&mut self, node: usize) -> Checked {
        let now = Millis(i64::try_from(self.now_ms).unwrap_or(0));
        for server in 0..self.names.len() {
            let Some(broker) = &mut self.nodes[node].broker else {
                return Ok(());
            };
            if broker.seats.is_fenced() || broker.seats.now().part != broker.part {
                return Ok(());
            }
            let rules = Rules {
                period_ms: 10_000,
                force: true,
                seeking: broker.slave.is_some() && broker.told.is_none(),
            };
            let (session, number) = &mut broker.sessions[server];
            if matches!(session.next(REVISION, rules, now), Action::WaitUntil(_)) {
                continue;
            }
            let number = *number;
            let (part, epoch) = (broker.part, broker.seats.epoch());
            let connection = connection(node, self.nodes[node].life, number);
            let said = self.registration(node, part, epoch);
            let answer = self.say(node, server, said, connection);
            let Some(broker) = &mut self.nodes[node].broker else {
                return Ok(());
            };
            let (session, number) = &mut broker.sessions[server];
            match answer {
                None => {
                    session.failed("out of reach", now);
                    // The old connection is not used any more.
                    *number += 1;
                }
                Some(Ok((master, epoch))) => {
                    session.announced(REVISION, rules, now);
                    if broker.slave.is_some() && master != Some(node) {
                        broker.told = master;
                    }
                    self.hear(node, epoch, "a name server");
                }
                Some(Err((why, epoch))) => {
                    session.refused(&why, now);
                    event!(self, "name server {server} refuses {node}: {why}");
                    self.hear(node, epoch, "a name server");
                }
            }
        }
        Ok(())
    }

    /// A master looks for another one of its name where it registers: at its start, and again and again if it was promoted
    /// (`broker::rivals`).
    pub(crate) fn look_for_rivals(&mut self, node: usize) {
        let now = self.now_ms;
        let Some(broker) = &mut self.nodes[node].broker else {
            return;
        };
        if now < broker.rivals_at {
            return;
        }
        broker.rivals_at = match broker.seats.epoch().is_some() {
            true => now + RIVALS_MS,
            false => u64::MAX,
        };
        for server in 0..self.names.len() {
            let end = NAMES + server;
            let is_master = self.nodes[node]
                .broker
                .as_ref()
                .is_some_and(|broker| broker.seats.now().is_master());
            if !is_master || !self.net.carries(node, end, now) || !self.net.carries(end, node, now)
            {
                continue;
            }
            let registered = self.names[server].registered();
            let rival = registered
                .iter()
                .find(|(id, other)| *id == 0 && *other != node);
            if let Some((_, rival)) = rival {
                self.settle(node, *rival);
            }
        }
    }

    /// Who of the two was promoted later is the master.
    fn settle(&mut self, node: usize, rival: usize) {
        let Ok(Reply::Status(status)) = self.ask(node, rival, Request::Status) else {
            return;
        };
        let (theirs, ours) = (status.epoch, self.epoch_of(node));
        match theirs.cmp(&ours) {
            Ordering::Less => {
                event!(
                    self,
                    "{node} tells {rival} that it was replaced by promotion {ours}"
                );
                // Told again.
                let _ = self.ask(node, rival, Request::Tell(ours));
            }
            Ordering::Equal => {}
            Ordering::Greater => self.hear(node, theirs, "another master"),
        }
    }

    fn registration(&self, node: usize, part: Part, epoch: Epoch) -> Registration {
        let queues = Queues {
            read: i32::try_from(QUEUES).unwrap_or(1),
            write: i32::try_from(QUEUES).unwrap_or(1),
            perm: 6,
            sys_flag: 0,
        };
        Registration {
            cluster: "C".into(),
            name: NAME.into(),
            id: match part {
                Part::Slave(id) => i64::try_from(id).unwrap_or(1),
                _ => 0,
            },
            address: address(node),
            ha_address: Some(address(node)),
            version: Version {
                timestamp: 1,
                counter: i64::try_from(self.nodes[node].life).unwrap_or(0),
            },
            topics: vec![(TOPIC.into(), queues)],
            epoch,
            filter_servers: None,
        }
    }

    /// The answer, if one comes: the master and the newest promotion, or why not.
    #[allow(clippy::type_complexity, reason = "read once")]
    fn say(
        &mut self,
        node: usize,
        server: usize,
        said: Registration,
        connection: ConnectionId,
    ) -> Option<Result<(Option<usize>, Epoch), (String, Epoch)>> {
        let (end, now) = (NAMES + server, self.now_ms);
        if !self.net.carries(node, end, now) {
            return None;
        }
        if !self.is_calm && self.random.chance(1, 12) {
            let late = now + self.random.below(9_000) as u64;
            self.names[server].late.push((late, said, connection));
            return None;
        }
        let answer = self.take_in(server, &said, connection);
        self.net.carries(end, node, now).then_some(answer)
    }

    fn take_in(
        &mut self,
        server: usize,
        said: &Registration,
        connection: ConnectionId,
    ) -> Result<(Option<usize>, Epoch), (String, Epoch)> {
        let now = Millis(i64::try_from(self.now_ms).unwrap_or(0));
        let routes = &mut self.names[server].routes;
        match routes.register(said, connection, now) {
            Ok(done) => {
                let master = done.master.map(|master| node_of(&master.address));
                Ok((master, done.epoch))
            }
            Err(error) => {
                let newest = match &error {
                    RegisterError::Replaced { newest, .. } => *newest,
                    _ => routes.epoch_of(NAME),
                };
                Err((error.to_string(), newest))
            }
        }
    }

    /// What is late arrives; who is silent is forgotten.
    pub(crate) fn attend_names(&mut self) {
        let now = self.now_ms;
        for server in 0..self.names.len() {
            let late = &mut self.names[server].late;
            if let Some(at) = late.iter().position(|(due, ..)| *due <= now) {
                let (_, said, connection) = late.remove(at);
                event!(
                    self,
                    "name server {server} reads a late registration of {} as {}",
                    said.address,
                    said.id
                );
                // Nobody waits for the answer.
                let _ = self.take_in(server, &said, connection);
            }
            let now = Millis(i64::try_from(now).unwrap_or(0));
            self.names[server].routes.expire(now);
        }
    }

    /// The connections of a process that is gone.
    pub(crate) fn disconnect(&mut self, node: usize) {
        let life = self.nodes[node].life;
        for server in &mut self.names {
            for number in 0..64 {
                server
                    .routes
                    .connection_closed(connection(node, life, number));
            }
        }
    }
}
