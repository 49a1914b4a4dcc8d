//! Questions to the route table. Nothing here changes it.
//!
//! Answers borrow from the table and are turned into bodies by the handlers; order is alphabetical everywhere, so
//! that two name servers with the same brokers answer the same bytes.

use gantry_message::Millis;
use std::collections::{BTreeMap, BTreeSet};

use super::{Name, Queues, Routes};

const UNIT: i32 = 0x1;
const UNIT_SUB: i32 = 0x2;

/// Where a topic is.
#[derive(Debug)]
pub struct Route<'a> {
    /// By broker name.
    pub queues: &'a BTreeMap<Name, Queues>,
    /// The brokers of these names.
    pub brokers: Vec<RouteBroker<'a>>,
    /// Broker address to its filter servers, for brokers that have some.
    pub filter_servers: BTreeMap<&'a str, &'a [String]>,
}

/// The addresses behind one broker name.
#[derive(Debug, PartialEq, Eq)]
pub struct RouteBroker<'a> {
    /// Cluster of the name.
    pub cluster: &'a str,
    /// The broker name.
    pub name: &'a str,
    /// Address by broker id.
    pub addresses: &'a BTreeMap<i64, String>,
}

/// A broker and when it was heard of.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// Cluster of its name.
    pub cluster: &'a str,
    /// The broker name.
    pub name: &'a str,
    /// Its number.
    pub id: i64,
    /// How long ago it registered last.
    pub age: Millis,
}

/// What request 304 calls system topics: names that are topics too.
#[derive(Debug, PartialEq, Eq)]
pub struct SystemTopics<'a> {
    /// Cluster and broker names.
    pub names: BTreeSet<&'a str>,
    /// The address of some broker.
    pub address: Option<&'a str>,
}

/// Which unit topics to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Unit topics (311).
    Unit,
    /// Topics with a unit subscription (312).
    Subscribed,
    /// Topics with a unit subscription that are not unit topics (313).
    SubscribedNotUnit,
}

impl Unit {
    fn matches(self, flag: i32) -> bool {
        let (unit, subscribed) = (flag & UNIT != 0, flag & UNIT_SUB != 0);
        match self {
            Self::Unit => unit,
            Self::Subscribed => subscribed,
            Self::SubscribedNotUnit => subscribed && !unit,
        }
    }
}

impl Routes {
    /// Where a topic is, or `None` when no broker has it.
    #[must_use]
    pub fn route(&self, topic: &str) -> Option<Route<'_>> {
        let queues = self.topics.get(topic)?;
        let brokers: Vec<_> = queues
            .keys()
            .filter_map(|name| self.route_broker(name))
            .collect();
        let mut filter_servers = BTreeMap::new();
        for address in brokers.iter().flat_map(|broker| broker.addresses.values()) {
            if let Some(broker) = self
                .brokers
                .get(address)
                .filter(|broker| !broker.filter_servers.is_empty())
            {
                filter_servers.insert(address.as_str(), broker.filter_servers.as_slice());
            }
        }
        Some(Route {
            queues,
            brokers,
            filter_servers,
        })
    }

    /// Every broker name.
    pub fn brokers(&self) -> impl Iterator<Item = RouteBroker<'_>> {
        self.names.keys().filter_map(|name| self.route_broker(name))
    }

    /// Every broker that is registered, and when it was heard of.
    pub fn heard(&self, now: Millis) -> impl Iterator<Item = Heard<'_>> {
        self.brokers.values().filter_map(move |broker| {
            let (name, group) = self.names.get_key_value(&broker.name)?;
            Some(Heard {
                cluster: &group.cluster,
                name,
                id: broker.id,
                age: Millis(now.since(broker.refreshed).max(0)),
            })
        })
    }

    /// True when no broker is registered at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.brokers.is_empty()
    }

    /// Broker names of each cluster.
    #[must_use]
    pub fn clusters(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut clusters: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, group) in &self.names {
            clusters.entry(&group.cluster).or_default().insert(name);
        }
        clusters
    }

    /// Every topic.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(|topic| &**topic)
    }

    /// Topics that some broker of this cluster has; none for an unknown cluster.
    pub fn topics_of_cluster<'a>(&'a self, cluster: &'a str) -> impl Iterator<Item = &'a str> {
        let inside = move |name: &Name| {
            self.names
                .get(name)
                .is_some_and(|group| group.cluster == cluster)
        };
        self.topics
            .iter()
            .filter(move |(_, brokers)| brokers.keys().any(inside))
            .map(|(topic, _)| &**topic)
    }

    /// Cluster names, broker names and one broker address.
    #[must_use]
    pub fn system_topics(&self) -> SystemTopics<'_> {
        let mut names = BTreeSet::new();
        for (name, group) in &self.names {
            names.insert(group.cluster.as_str());
            names.insert(name);
        }
        let address = self
            .names
            .values()
            .find_map(|group| group.addresses.values().next())
            .map(String::as_str);
        SystemTopics { names, address }
    }

    /// Unit topics, told by the flags of a topic's first broker.
    pub fn unit_topics(&self, unit: Unit) -> impl Iterator<Item = &str> {
        let first = |brokers: &BTreeMap<Name, Queues>| {
            brokers.values().next().map(|queues| queues.sys_flag)
        };
        self.topics
            .iter()
            .filter(move |(_, brokers)| first(brokers).is_some_and(|flag| unit.matches(flag)))
            .map(|(topic, _)| &**topic)
    }

    fn route_broker<'a>(&'a self, name: &'a Name) -> Option<RouteBroker<'a>> {
        let group = self.names.get(name)?;
        Some(RouteBroker {
            cluster: &group.cluster,
            name,
            addresses: &group.addresses,
        })
    }
}
