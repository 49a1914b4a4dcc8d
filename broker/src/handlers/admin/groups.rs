//! Subscription groups: create or replace (200), delete (207), which ones read a topic (300).

use std::sync::Arc;

use gantry_message::Millis;
use gantry_wire::bodies::{GroupList, SubscriptionGroupConfig};
use gantry_wire::headers::{DeleteSubscriptionGroup, QueryTopicConsumeByWho};
use gantry_wire::{Request, Response};

use super::{Identity, QUEUES_MAX};
use crate::clients::Clients;
use crate::refusal::Refusal;
use crate::stats::Stats;
use crate::tables::{Groups, Offsets};

/// Longest group name: `%RETRY%` before it must still be a topic.
const NAME_MAX: usize = 120;

/// The parts that requests about groups need.
pub struct GroupAdmin {
    /// Who this broker is.
    pub identity: Arc<Identity>,
    /// The groups.
    pub groups: Arc<Groups>,
    /// Where they stand.
    pub offsets: Arc<Offsets>,
    /// Who of them is connected.
    pub clients: Arc<Clients>,
    /// Their counters.
    pub stats: Arc<Stats>,
}

impl GroupAdmin {
    /// Serves 200: what is there is replaced as a whole. Blocks.
    pub fn update(&self, request: &Request, now: Millis) -> Result<Response, Refusal> {
        self.identity.check_writable()?;
        let config = SubscriptionGroupConfig::parse(&request.body)?;
        check(&config)?;
        self.groups
            .put(config, now)
            .map_err(|error| Refusal::not_persisted(&error))?;
        Ok(Response::ok())
    }

    /// Serves 207; a group that is not there is deleted as well. Blocks.
    pub fn delete(&self, request: &Request, now: Millis) -> Result<Response, Refusal> {
        self.identity.check_writable()?;
        let header: DeleteSubscriptionGroup<'_> = request.header()?;
        self.groups
            .remove(header.group_name, now)
            .map_err(|error| Refusal::not_persisted(&error))?;
        // 5.x tools say `cleanOffset` for the same wish.
        let clean = request
            .fields
            .get("cleanOffset")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if header.remove_offset || clean {
            self.offsets.remove_group(header.group_name);
        }
        if self.identity.live.now().auto_delete_unused_stats {
            self.stats.group_deleted(header.group_name);
        }
        Ok(Response::ok())
    }

    /// Serves 300: the connected groups that subscribe to a topic, and those that have a position in it.
    pub fn of_topic(&self, request: &Request) -> Result<Response, Refusal> {
        let header: QueryTopicConsumeByWho<'_> = request.header()?;
        let mut groups = self.clients.groups_of_topic(header.topic);
        groups.append(&mut self.offsets.groups_of(header.topic));
        Ok(Response::with_body(
            GroupList {
                group_list: groups.into_iter().collect(),
            }
            .encode(),
        ))
    }
}

/// Java takes any settings here; a group that nobody can name or whose retry topic cannot exist is refused.
fn check(config: &SubscriptionGroupConfig) -> Result<(), Refusal> {
    let SubscriptionGroupConfig {
        group_name: name,
        retry_queue_nums: queues,
        ..
    } = config;
    if name.trim().is_empty() {
        return Err(Refusal::system_error("the subscription group has no name"));
    }
    if NAME_MAX < name.len() {
        return Err(Refusal::system_error(format!(
            "groupName of {} bytes, limit {NAME_MAX}",
            name.len()
        )));
    }
    if !gantry_message::topic::is_legal(name) {
        return Err(Refusal::system_error(format!(
            "groupName[{name}] contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"
        )));
    }
    if QUEUES_MAX < *queues {
        return Err(Refusal::system_error(format!(
            "retryQueueNums={queues} of group[{name}]: at most {QUEUES_MAX}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_cannot_work_are_refused_by_name() {
        let long = "g".repeat(121);
        for (name, queues, expected) in [
            ("g", 1, None),
            ("%CID|a-b_1", 0, None),
            (&long[1..], 65_535, None),
            ("g", -1, None),
            (" ", 1, Some("the subscription group has no name")),
            (&long, 1, Some("groupName of 121 bytes, limit 120")),
            (
                "a@b",
                1,
                Some(
                    "groupName[a@b] contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$",
                ),
            ),
            (
                "g",
                65_536,
                Some("retryQueueNums=65536 of group[g]: at most 65535"),
            ),
        ] {
            let config = SubscriptionGroupConfig {
                group_name: name.to_owned(),
                retry_queue_nums: queues,
                ..SubscriptionGroupConfig::default()
            };
            assert_eq!(
                check(&config)
                    .err()
                    .map(|refusal| refusal.remark)
                    .as_deref(),
                expected
            );
        }
    }
}
