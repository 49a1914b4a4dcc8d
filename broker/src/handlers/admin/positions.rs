//! Positions of groups across groups: the lowest of several (308), one group's taken over by another (314).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gantry_message::{QueueId, QueueOffset};
use gantry_store::Store;
use gantry_wire::bodies::CorrectionOffsets;
use gantry_wire::headers::{CloneGroupOffset, QueryCorrectionOffset};
use gantry_wire::{Request, Response};

use super::sent;
use crate::clients::Clients;
use crate::refusal::Refusal;
use crate::tables::{Offsets, Positions as OfGroup, Topics};

/// The parts that requests about positions need.
pub struct Positions {
    /// Where groups stand.
    pub offsets: Arc<Offsets>,
    /// Where queues begin.
    pub store: Arc<Store>,
    /// Which topics there are.
    pub topics: Arc<Topics>,
    /// What groups subscribe.
    pub clients: Arc<Clients>,
}

impl Positions {
    /// Serves 308: by queue, the lowest position of all groups but the filtered ones; beyond every number where the
    /// group compared with is behind all of them. (Java forgets the positions of filtered groups and compares with
    /// another group than the one named; ours does what the request says.)
    pub fn lowest(&self, request: &Request) -> Result<Response, Refusal> {
        let header: QueryCorrectionOffset<'_> = request.header()?;
        let filtered: BTreeSet<&str> = header
            .filter_groups
            .into_iter()
            .flat_map(|groups| groups.split(','))
            .collect();
        let groups = self.offsets.groups_of(header.topic);
        let groups = groups
            .iter()
            .filter(|group| !filtered.contains(group.as_str()));
        let of_groups: Vec<OfGroup> = groups
            .map(|group| self.offsets.of(group, header.topic))
            .collect();
        let min = |id| {
            self.store
                .find_queue(header.topic, id)
                .map_or(QueueOffset(0), |queue| queue.min())
        };
        let compared = self.offsets.of(header.compare_group, header.topic);
        let table = lowest(&of_groups, &compared, min);
        Ok(Response::with_body(
            CorrectionOffsets {
                correction_offsets: table,
            }
            .encode(),
        ))
    }

    /// Serves 314: another group goes on where one stands, in one topic or in all of its topics.
    pub fn copy(&self, request: &Request) -> Result<Response, Refusal> {
        let header: CloneGroupOffset<'_> = request.header()?;
        let topics: Vec<String> = match header.topic.filter(|topic| !topic.trim().is_empty()) {
            Some(topic) => vec![topic.to_owned()],
            None => self
                .offsets
                .topics_of(header.src_group)
                .into_iter()
                .collect(),
        };
        let connected = self
            .clients
            .consumer(header.src_group)
            .filter(|_| !header.offline);
        for topic in topics {
            let read = connected.as_ref().is_none_or(|group| {
                group.subscriptions.is_empty() || group.subscriptions.contains_key(topic.as_str())
            });
            if read && self.topics.get(&topic).is_some() {
                self.offsets
                    .copy(header.src_group, header.dest_group, &topic);
            }
        }
        Ok(Response::ok())
    }
}

fn lowest(
    groups: &[OfGroup],
    compared: &OfGroup,
    min: impl Fn(QueueId) -> QueueOffset,
) -> BTreeMap<i32, i64> {
    let mut lowest: BTreeMap<QueueId, QueueOffset> = BTreeMap::new();
    for (id, at) in groups.iter().flatten() {
        if min(*id) <= *at {
            lowest
                .entry(*id)
                .and_modify(|lowest| *lowest = (*lowest).min(*at))
                .or_insert(*at);
        }
    }
    let rows = lowest.into_iter().map(|(id, at)| {
        let behind = compared.get(&id).is_some_and(|compared| *compared < at);
        (
            i32::try_from(id.0).unwrap_or(i32::MAX),
            if behind { i64::MAX } else { sent(at) },
        )
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(rows: &[(u32, u64)]) -> OfGroup {
        rows.iter()
            .map(|(id, at)| (QueueId(*id), QueueOffset(*at)))
            .collect()
    }

    #[test]
    fn the_lowest_position_is_that_of_living_messages() {
        let check = |groups: &[&[(u32, u64)]], compared: &[(u32, u64)], expected: &[(i32, i64)]| {
            let groups: Vec<_> = groups.iter().map(|rows| positions(rows)).collect();
            let got = lowest(&groups, &positions(compared), |id| {
                QueueOffset(if id.0 == 9 { 100 } else { 0 })
            });
            assert_eq!(
                got.into_iter().collect::<Vec<_>>(),
                expected,
                "{groups:?} with {compared:?}"
            );
        };
        check(&[], &[], &[]);
        check(&[&[(0, 5), (1, 7)], &[(0, 3)]], &[], &[(0, 3), (1, 7)]);
        check(&[&[(9, 50)], &[(9, 120)]], &[], &[(9, 120)]);
        check(&[&[(0, 5)]], &[(0, 4)], &[(0, i64::MAX)]);
        check(&[&[(0, 5)]], &[(0, 5), (1, 1)], &[(0, 5)]);
    }
}
