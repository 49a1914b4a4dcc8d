//! The route table against a model that is too simple to be wrong: a list of facts, searched from end to end.
//!
//! Sequences are random; a failure names the seed and the step, and `replay` with that seed runs it again.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const ROUNDS: u64 = 300;
const STEPS: usize = 200;

/// One broker, as the model sees it.
#[derive(Debug, Clone)]
struct Fact {
    name: String,
    id: i64,
    address: String,
    cluster: String,
    version: Version,
    epoch: Epoch,
    complete: bool,
    connection: Option<ConnectionId>,
    refreshed: i64,
    held_until: Option<i64>,
    announced: Vec<(String, Queues)>,
}

#[derive(Debug, Default)]
struct Model {
    brokers: Vec<Fact>,
    offers: Vec<(String, String, Queues)>,
    epochs: BTreeMap<String, Epoch>,
}

impl Model {
    /// A newer connection of this broker is in use.
    fn is_late(&self, address: &str, connection: ConnectionId, now: i64) -> bool {
        self.brokers.iter().any(|fact| {
            fact.address == address
                && fact
                    .connection
                    .is_some_and(|newest| connection.0 < newest.0)
                && now - fact.refreshed < OWNER_QUIET_MS
        })
    }

    fn ask(
        &mut self,
        address: &str,
        version: Version,
        connection: ConnectionId,
        now: i64,
    ) -> Option<Version> {
        let late = self.is_late(address, connection, now);
        let fact = self.brokers.iter_mut().find(|f| f.address == address)?;
        let newest = self.epochs.get(&fact.name).copied().unwrap_or_default();
        let is_replaced = fact.id == MASTER_ID && fact.epoch < newest;
        if fact.version == version && fact.complete && !is_replaced && !late {
            fact.refreshed = now;
            fact.connection = fact.connection.map(|_| connection);
        }
        Some(fact.version)
    }

    fn register(&mut self, said: &Registration, connection: ConnectionId, now: i64) -> bool {
        if self.is_late(&said.address, connection, now) {
            return true;
        }
        let newest = self.epochs.get(&said.name).copied().unwrap_or_default();
        if said.id == MASTER_ID && said.epoch < newest {
            return false;
        }
        let cluster = self
            .brokers
            .iter()
            .find(|fact| fact.name == said.name)
            .map(|fact| fact.cluster.clone());
        let holder = self
            .brokers
            .iter()
            .position(|fact| fact.name == said.name && fact.id == said.id);
        if let Some(at) = holder {
            let fact = &self.brokers[at];
            if fact.address != said.address {
                let is_later = said.id == MASTER_ID && fact.epoch < said.epoch;
                if !is_later && fact.connection.is_some() && now - fact.refreshed < OWNER_QUIET_MS {
                    return false;
                }
                self.brokers.remove(at);
            }
        }
        self.epochs
            .insert(said.name.clone(), newest.max(said.epoch));
        let old = self
            .brokers
            .iter()
            .position(|fact| fact.address == said.address)
            .map(|at| self.brokers.remove(at));
        let same = old.filter(|fact| fact.name == said.name && fact.id == said.id);
        let announced = match &same {
            Some(fact) if fact.version == said.version => fact.announced.clone(),
            Some(fact) if said.topics.len() == 1 => {
                let mut kept = fact.announced.clone();
                kept.retain(|(topic, _)| *topic != said.topics[0].0);
                kept
            }
            _ => Vec::new(),
        };
        let mut fact = Fact {
            name: said.name.clone(),
            id: said.id,
            address: said.address.clone(),
            cluster: said.cluster.clone(),
            version: said.version,
            epoch: said.epoch,
            complete: said.topics.len() != 1,
            connection: Some(connection),
            refreshed: now,
            held_until: None,
            announced,
        };
        if said.id == MASTER_ID {
            for (topic, queues) in &said.topics {
                if fact
                    .announced
                    .iter()
                    .any(|(known, last)| known == topic && last == queues)
                {
                    continue;
                }
                fact.announced.retain(|(known, _)| known != topic);
                fact.announced.push((topic.clone(), *queues));
                self.offers
                    .retain(|(known, name, _)| known != topic || *name != said.name);
                self.offers
                    .push((topic.clone(), said.name.clone(), *queues));
            }
        }
        if said.id == MASTER_ID {
            for other in self
                .brokers
                .iter_mut()
                .filter(|other| other.name == said.name)
            {
                other.cluster.clone_from(&said.cluster);
            }
        } else if let Some(cluster) = cluster {
            fact.cluster = cluster;
        }
        self.brokers.push(fact);
        self.drop_orphans();
        true
    }

    fn remove_where(&mut self, gone: impl Fn(&Fact) -> bool) -> BTreeSet<String> {
        let removed = self
            .brokers
            .iter()
            .filter(|fact| gone(fact))
            .map(|fact| fact.address.clone())
            .collect();
        self.brokers.retain(|fact| !gone(fact));
        self.drop_orphans();
        removed
    }

    fn drop_orphans(&mut self) {
        let names: BTreeSet<_> = self.brokers.iter().map(|fact| fact.name.clone()).collect();
        self.offers.retain(|(_, name, _)| names.contains(name));
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn registration(&mut self) -> Registration {
        let count = self.below(4);
        let mut topics: Vec<(String, Queues)> = Vec::new();
        for _ in 0..count {
            let topic = format!("t{}", self.below(4));
            let queues = Queues {
                read: 4,
                write: 4,
                perm: [4, 6][usize::from(self.below(8) == 0)],
                sys_flag: 0,
            };
            if topics.iter().all(|(known, _)| *known != topic) {
                topics.push((topic, queues));
            }
        }
        Registration {
            cluster: format!("c{}", self.below(2)),
            name: format!("b{}", self.below(3)),
            id: i64::from(self.below(3) == 0),
            address: format!("h{}", self.below(5)),
            ha_address: None,
            version: Version {
                timestamp: 0,
                counter: i64::from(self.below(3) == 0),
            },
            epoch: match self.below(20) {
                0 => Epoch::NONE.next(self.below(2)),
                1 => Epoch::NONE.next(1).next(self.below(2)),
                _ => Epoch::NONE,
            },
            topics,
            filter_servers: None,
        }
    }
}

fn addresses(removed: Vec<Removed>) -> BTreeSet<String> {
    removed.into_iter().map(|removed| removed.address).collect()
}

fn replay(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (mut routes, mut model, mut now) = (Routes::new(), Model::default(), 0_i64);
    for step in 0..STEPS {
        let at = format!("replay({seed}) step {step}");
        match random.below(17) {
            0..8 => {
                let said = random.registration();
                let connection = ConnectionId(random.below(4));
                let taken = routes.register(&said, connection, Millis(now)).is_ok();
                assert_eq!(
                    taken,
                    model.register(&said, connection, now),
                    "{at}: {said:?}"
                );
            }
            8 => {
                let connection = ConnectionId(random.below(4));
                let gone = addresses(routes.connection_closed(connection));
                assert_eq!(
                    gone,
                    model.remove_where(|fact| fact.connection == Some(connection)),
                    "{at}"
                );
            }
            9 => {
                let (name, address) = (
                    format!("b{}", random.below(3)),
                    format!("h{}", random.below(5)),
                );
                let connection = ConnectionId(random.below(4));
                let late = model.is_late(&address, connection, now);
                let gone = routes.unregister(&name, &address, connection, Millis(now));
                let gone = addresses(gone.into_iter().collect());
                let expected = model
                    .remove_where(|fact| fact.name == name && fact.address == address && !late);
                assert_eq!(gone, expected, "{at}");
            }
            10 => {
                let (name, address) = (
                    format!("b{}", random.below(3)),
                    format!("h{}", random.below(5)),
                );
                let connection = ConnectionId(random.below(4));
                let late = model.is_late(&address, connection, now);
                let held = routes.hold(&name, &address, 5_000, (connection, Millis(now)));
                let fact = model
                    .brokers
                    .iter_mut()
                    .find(|fact| fact.name == name && fact.address == address && !late);
                assert_eq!(held, fact.is_some(), "{at}");
                if let Some(fact) = fact {
                    fact.connection = None;
                    fact.held_until = Some(now + 5_000);
                }
            }
            11 => {
                let name = format!("b{}", random.below(3));
                let offers = model.offers.iter_mut().filter(|(_, of, _)| *of == name);
                let count = offers.map(|offer| offer.2.perm &= !2).count();
                assert_eq!(routes.wipe_write_perm(&name), count, "{at}");
            }
            12 => {
                let topic = format!("t{}", random.below(4));
                let known = model.offers.iter().any(|(of, _, _)| *of == topic);
                assert_eq!(routes.delete_topic(&topic), known, "{at}");
                model.offers.retain(|(of, _, _)| *of != topic);
            }
            13 => {
                let address = format!("h{}", random.below(5));
                let connection = ConnectionId(random.below(4));
                let version = Version {
                    timestamp: 0,
                    counter: i64::from(random.below(3) == 0),
                };
                let said = routes.check_version(&address, version, connection, Millis(now));
                let known = model.ask(&address, version, connection, now);
                assert_eq!(said.known, known, "{at}");
            }
            _ => {
                now += i64::try_from(random.below(40_000)).unwrap();
                let gone = addresses(routes.expire(Millis(now)));
                let expected = model.remove_where(|fact| match fact.held_until {
                    Some(until) => until <= now,
                    None => EXPIRE_AFTER_MS < now - fact.refreshed,
                });
                assert_eq!(gone, expected, "{at}");
            }
        }
        compare(&routes, &model, &at);
    }
}

fn compare(routes: &Routes, model: &Model, at: &str) {
    let mut brokers: Vec<_> = model
        .brokers
        .iter()
        .map(|f| {
            (
                f.name.as_str(),
                f.id,
                f.address.as_str(),
                f.cluster.as_str(),
            )
        })
        .collect();
    brokers.sort_unstable();
    let ours: Vec<_> = routes
        .brokers()
        .flat_map(|b| {
            b.addresses
                .iter()
                .map(move |(id, address)| (b.name, *id, address.as_str(), b.cluster))
        })
        .collect();
    assert_eq!(ours, brokers, "{at}");
    let mut offers: Vec<_> = model
        .offers
        .iter()
        .map(|(topic, name, queues)| (topic.as_str(), name.as_str(), queues.perm))
        .collect();
    offers.sort_unstable();
    let ours: Vec<_> = routes
        .topics()
        .flat_map(|topic| {
            let route = routes.route(topic).unwrap();
            assert_eq!(
                route.brokers.len(),
                route.queues.len(),
                "{at}: a topic on a broker that is not registered"
            );
            route
                .queues
                .iter()
                .map(move |(name, queues)| (topic, &**name, queues.perm))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(ours, offers, "{at}");
    for (name, epoch) in &model.epochs {
        assert_eq!(routes.epoch_of(name), *epoch, "{at}: {name}");
    }
    for fact in &model.brokers {
        let known = routes.brokers.get(&fact.address).unwrap();
        assert_eq!(
            (&*known.name, known.id),
            (fact.name.as_str(), fact.id),
            "{at}"
        );
    }
    assert_eq!(
        routes.brokers.len(),
        model.brokers.len(),
        "{at}: an address without a place, or two places"
    );
}

#[test]
fn random_sequences_agree_with_the_model() {
    for seed in 0..ROUNDS {
        replay(seed);
    }
}
