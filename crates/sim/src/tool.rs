//! Administrators with `mqadmin promote` and `mqadmin rejoin`, one request a step.
//!
//! The order of the requests is that of `mqadmin::commands::promotion`; what a promotion would lose is asked of the same
//! [`Situation`]. Two may be at it at once, and each may be stopped between any two of its requests.

use gantry_broker::seats::Seen;
use gantry_message::{Epoch, LogOffset};
use gantry_mqadmin::promotion::{Accepted, Known, Loss as Lost, OldMaster, Situation};

use crate::broken::Broken;
use crate::net::{NAMES, Reply, Request, Status, TOOL};
use crate::truth::{Checked, Loss, Violation};
use crate::world::{World, event};

/// How long a slave may take to get the end of a held master's log.
const PATIENCE_MS: u64 = 1_500;
/// A master whose slave heard it so lately is alive.
const ALIVE_MS: u64 = 480;

/// What the administrators are at.
#[derive(Debug, Default)]
pub(crate) struct Tool {
    promotions: Vec<Promotion>,
    /// Found where nothing could be returned.
    pub(crate) violation: Option<Violation>,
    /// So many promotions in a row came to nothing.
    failures: usize,
}

impl Tool {
    /// Whoever began last waits until then.
    pub(crate) fn pause_newest(&mut self, until: u64) {
        if let Some(newest) = self.promotions.last_mut() {
            newest.paused_until = until;
        }
    }
}

/// A promotion under way.
#[derive(Clone, Debug)]
struct Promotion {
    candidate: usize,
    accepted: Accepted,
    stage: Stage,
    /// The tool stands still until then.
    paused_until: u64,
    fleet: Option<Fleet>,
    /// The old master that answers, and the newest promotion that it knew of.
    master: Option<(usize, Epoch)>,
    epoch: Epoch,
    others: Vec<(String, i64)>,
    silent: Vec<String>,
    end: u64,
    loss: Loss,
}

/// What is asked next.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Look,
    Check,
    Hold,
    Wait {
        until: u64,
    },
    Fence,
    /// The other slaves, from this one of them on.
    Detach(usize),
    Judge,
    Promote,
    /// A master that gave way in an earlier try.
    Pin,
}

/// Everybody of the name, as they answered.
#[derive(Clone, Debug)]
struct Fleet {
    candidate: Status,
    others: Vec<(u64, usize, Option<Status>)>,
}

impl Fleet {
    fn answers(&self) -> impl Iterator<Item = &Status> {
        self.others
            .iter()
            .filter_map(|(_, _, answer)| answer.as_ref())
    }

    fn slaves(&self) -> impl Iterator<Item = &(u64, usize, Option<Status>)> {
        self.others.iter().filter(|(id, _, answer)| match answer {
            Some(status) => status.is_slave && !self.gave_way_to_this(status),
            None => *id != 0,
        })
    }

    /// The master that has to be held and fenced.
    fn living_master(&self) -> Result<Option<(usize, Epoch)>, String> {
        let masters = self.others.iter().filter_map(|(_, node, answer)| {
            let status = answer.as_ref()?;
            (!status.is_slave && !status.is_fenced).then_some((*node, status.epoch))
        });
        let masters: Vec<_> = masters.collect();
        if 1 < masters.len() {
            return Err("two say that they are the master".into());
        }
        if let (None, Some((followed, silent))) = (masters.first(), self.candidate.following) {
            let answers = |(_, node, answer): &(u64, usize, Option<Status>)| {
                *node == followed && answer.is_some()
            };
            if silent < ALIVE_MS && !self.others.iter().any(answers) {
                return Err("the master is alive for the candidate".into());
            }
        }
        Ok(masters.first().copied())
    }

    fn next_epoch(&self) -> Epoch {
        let all = self.answers().chain([&self.candidate]);
        let newest = all.map(|status| status.epoch).max();
        newest.unwrap_or_default().next(self.candidate.id)
    }

    fn gave_way_to_this(&self, status: &Status) -> bool {
        let is_this = status.epoch.holder == self.candidate.id;
        status.gave_way && is_this && self.candidate.epoch <= status.epoch
    }

    /// The master that gave way to this slave.
    fn gave_way(&self) -> Option<(usize, &Status)> {
        let mut others = self.others.iter();
        others.find_map(|(_, node, answer)| {
            let status = answer.as_ref()?;
            self.gave_way_to_this(status).then_some((*node, status))
        })
    }

    fn unfinished_end(&self) -> Option<u64> {
        let end = self.gave_way().map(|(_, status)| status.end);
        end.or_else(|| self.successor().map(|_| self.candidate.end))
    }

    /// Of a candidate that was the master: the slave that it gave way to, if that one was not promoted.
    fn successor(&self) -> Option<usize> {
        let epoch = self.candidate.epoch;
        let has_met = |(_, _, answer): &(u64, usize, Option<Status>)| {
            let known = answer.as_ref().and_then(|status| status.known.as_ref());
            let met = known.and_then(|known| known.epoch.as_deref()?.parse::<Epoch>().ok());
            met.is_some_and(|met| epoch <= met)
        };
        if !self.candidate.gave_way || self.slaves().any(has_met) {
            return None;
        }
        let mut slaves = self.slaves().filter_map(|(_, node, answer)| {
            let status = answer.as_ref()?;
            (status.id == epoch.holder && status.epoch <= epoch).then_some(*node)
        });
        slaves.next()
    }

    /// Of the slaves, who says that he has what he acknowledged: he follows his master, or did when he looked last.
    fn vouches(status: &Status, broken: Option<Broken>) -> bool {
        let known = status.known.as_ref();
        broken == Some(Broken::GoesByLengthsAlone)
            || known.map_or(status.has_heard, |known| known.followed)
    }

    /// `slaves` and `in_sync`: how many the old master had, and waited for, as the administrator says (`--slaves`, `-k`).
    fn situation(&self, (slaves, in_sync): (usize, u32), broken: Option<Broken>) -> Situation {
        let end = |status: &Status| i64::try_from(status.end).unwrap_or(i64::MAX);
        let told = self.candidate.known.as_ref();
        let ids = told.map_or(0, |known| known.slave_ids.len());
        let known = Known {
            is_sync: told.is_none_or(|known| known.role != "ASYNC_MASTER"),
            in_sync_replicas: usize::try_from(in_sync).unwrap_or(1),
            in_sync_replicas_then: told
                .and_then(|known| usize::try_from(known.in_sync_replicas).ok()),
            // One that burnt down was a slave, too.
            slaves: Some(slaves.max(ids)),
            acknowledged: ids,
            end: told.map(|known| known.max_offset),
            followed: Self::vouches(&self.candidate, broken),
            gave_way: self.candidate.gave_way.then_some(self.candidate.epoch),
            unmet: told
                .and_then(|known| known.epoch.as_deref()?.parse::<Epoch>().ok())
                .filter(|met| *met < self.candidate.epoch)
                .filter(|_| self.candidate.epoch.holder != self.candidate.id)
                .map(|_| self.candidate.epoch),
        };
        let (mut vouching, mut silent) = (Vec::new(), Vec::new());
        for (_, node, answer) in self.slaves() {
            match answer
                .as_ref()
                .filter(|status| Self::vouches(status, broken))
            {
                Some(status) => vouching.push((node.to_string(), end(status))),
                None => silent.push(node.to_string()),
            }
        }
        Situation {
            candidate: end(&self.candidate),
            others: vouching,
            silent,
            strangers: Vec::new(),
            master: match self.unfinished_end() {
                Some(end) => OldMaster::Drained {
                    end: i64::try_from(end).unwrap_or(i64::MAX),
                },
                None => OldMaster::Silent,
            },
            known,
        }
    }
}

impl World {
    /// Somebody wants another master.
    pub(crate) fn begin_promotion(&mut self) {
        match self.tool.promotions.len() {
            0 => {}
            1 if self.random.chance(1, 2) => {}
            _ => return,
        }
        let candidate = self.random.below(self.nodes.len());
        let accepted = match self.random.below(12) {
            0 => Accepted::All,
            _ => Accepted::Bytes(0),
        };
        self.promote(candidate, accepted);
    }

    pub(crate) fn promote(&mut self, candidate: usize, accepted: Accepted) {
        event!(
            self,
            "an administrator wants {candidate} to be the master, and accepts to lose {accepted:?}"
        );
        self.tool.promotions.push(Promotion {
            candidate,
            accepted,
            stage: Stage::Look,
            paused_until: 0,
            fleet: None,
            master: None,
            epoch: Epoch::NONE,
            others: Vec::new(),
            silent: Vec::new(),
            end: 0,
            loss: Loss::None,
        });
    }

    /// An administrator does one thing.
    pub(crate) fn administer(&mut self) -> Checked {
        if self.tool.promotions.is_empty() {
            return self.repair();
        }
        let which = self.random.below(self.tool.promotions.len());
        let Promotion {
            candidate,
            stage,
            paused_until,
            ..
        } = self.tool.promotions[which];
        if !self.is_calm {
            if self.now_ms < paused_until {
                return Ok(());
            }
            match self.random.below(30) {
                0 => {
                    event!(
                        self,
                        "the tool that promotes {candidate} is stopped before {stage:?}"
                    );
                    self.tool.promotions.remove(which);
                    return Ok(());
                }
                1 | 2 => {
                    let until = self.now_ms + self.random.below(5_000) as u64;
                    self.tool.promotions[which].paused_until = until;
                    return Ok(());
                }
                _ => {}
            }
        }
        let promotion = self.tool.promotions.remove(which);
        match self.promotion_step(promotion) {
            Ok(next) => self.tool.promotions.extend(next),
            Err(why) => {
                event!(
                    self,
                    "the promotion of {candidate} ends at {stage:?}: {why}"
                );
                self.tool.failures += 1;
            }
        }
        self.violated()
    }

    fn promotion_step(&mut self, mut now: Promotion) -> Result<Option<Promotion>, String> {
        now.stage = match now.stage {
            Stage::Look => {
                let fleet = self.look_around(now.candidate)?;
                now.master = fleet.living_master()?;
                if now.master.is_some() && fleet.candidate.gave_way {
                    return Err("it was replaced, and has to rejoin".into());
                }
                now.epoch = fleet.next_epoch();
                if now.master.is_none() {
                    let mut situation = fleet.situation(self.said(), self.broken);
                    for (_, node, answer) in fleet.slaves() {
                        let Some(status) = answer else { continue };
                        let vouches = Fleet::vouches(status, self.broken);
                        let ours = (now.candidate, &fleet.candidate);
                        if vouches && self.are_one(ours, (*node, status)) == Some(false) {
                            situation.strangers.push(node.to_string());
                        }
                    }
                    self.judge(&situation, now.accepted)?;
                }
                now.fleet = Some(fleet);
                Stage::Check
            }
            Stage::Check => {
                let request = Request::CouldPromote(now.epoch, self.setup.copies);
                match self.ask(TOOL, now.candidate, request) {
                    Ok(Reply::Done) => {}
                    other => return Err(format!("{other:?}")),
                }
                match now.master {
                    Some(_) => Stage::Hold,
                    None => Stage::Pin,
                }
            }
            Stage::Pin => {
                self.pin(&mut now)?;
                Stage::Detach(0)
            }
            Stage::Hold => {
                let (master, _) = now.master.ok_or("nobody to hold")?;
                match self.ask(TOOL, master, Request::Hold(2 * PATIENCE_MS)) {
                    Ok(Reply::Ends(end)) => now.end = end,
                    other => return Err(format!("not held: {other:?}")),
                }
                let until = self.now_ms + PATIENCE_MS;
                Stage::Wait { until }
            }
            Stage::Wait { until } => match self.has_all(&now) {
                true if self.broken == Some(Broken::PromotesUnfenced) => Stage::Promote,
                true => Stage::Fence,
                false if until <= self.now_ms => {
                    self.let_go(&now);
                    return Err("the candidate does not get the end of the log".into());
                }
                false => now.stage,
            },
            Stage::Fence => {
                if let Err(why) = self.fence(&mut now) {
                    self.let_go(&now);
                    return Err(why);
                }
                if self.broken == Some(Broken::PromotesUnfenced) {
                    return Ok(None);
                }
                // The others are told behind it, or hear of it.
                Stage::Promote
            }
            Stage::Detach(next) => {
                let slaves = now.fleet.iter().flat_map(Fleet::slaves);
                let broken = self.broken;
                let slaves = slaves.map(|(_, node, answer)| {
                    let seen = answer.as_ref().map(|status| status.epoch);
                    let vouches = answer
                        .as_ref()
                        .is_some_and(|status| Fleet::vouches(status, broken));
                    (*node, seen.unwrap_or_default(), vouches)
                });
                let slaves: Vec<_> = slaves.collect();
                match slaves.get(next) {
                    Some(slave) => {
                        self.detach(&mut now, *slave)?;
                        Stage::Detach(next + 1)
                    }
                    None => Stage::Judge,
                }
            }
            Stage::Judge => {
                self.judge_again(&mut now)?;
                Stage::Promote
            }
            Stage::Promote => {
                let request = Request::Promote {
                    epoch: now.epoch,
                    copies: self.setup.copies,
                    min_end: now.end,
                    loss: now.loss,
                };
                match self.ask(TOOL, now.candidate, request) {
                    Ok(Reply::Done) => {}
                    other => return Err(format!("not promoted: {other:?}")),
                }
                self.tool.failures = 0;
                if self.broken != Some(Broken::PromotesUnfenced) || now.master.is_none() {
                    return Ok(None);
                }
                Stage::Fence
            }
        };
        Ok(Some(now))
    }

    /// What an administrator says of the old master: how many slaves it had, and how many it waited for.
    fn said(&self) -> (usize, u32) {
        (self.setup.slaves, self.setup.in_sync)
    }

    fn look_around(&mut self, candidate: usize) -> Result<Fleet, String> {
        let Ok(Reply::Status(own)) = self.ask(TOOL, candidate, Request::Status) else {
            return Err("the candidate does not answer".into());
        };
        if !own.is_slave && !own.is_fenced {
            return Err("only a slave or a fenced master is promoted".into());
        }
        let server = self.random.below(self.names.len());
        let end = NAMES + server;
        if !self.net.carries(TOOL, end, self.now_ms) || !self.net.carries(end, TOOL, self.now_ms) {
            return Err("the name server does not answer".into());
        }
        let mut all = self.names[server].registered();
        all.retain(|(id, node)| *node != candidate && (*id != own.id || own.is_fenced));
        // A name server forgets a master that it does not hear, and one that is fenced; its slave does not.
        let known = own.known.as_ref().and_then(|known| known.address.as_ref());
        let masters = [own.master, known.and_then(|node| node.parse().ok())];
        for master in masters.into_iter().flatten() {
            if master != candidate && all.iter().all(|(_, node)| *node != master) {
                all.push((0, master));
            }
        }
        let mut others = Vec::new();
        for (id, node) in all {
            let answer = match self.ask(TOOL, node, Request::Status) {
                Ok(Reply::Status(status)) => Some(*status),
                _ => None,
            };
            others.push((id, node, answer));
        }
        Ok(Fleet {
            candidate: *own,
            others,
        })
    }

    /// Whether the candidate has the end of the master's log.
    fn has_all(&mut self, now: &Promotion) -> bool {
        let has = self.ask(TOOL, now.candidate, Request::Status);
        let is_any = self.broken == Some(Broken::GoesByLengthsAlone);
        matches!(has, Ok(Reply::Status(status))
            if now.end <= status.end && (status.following.is_some() || is_any))
    }

    fn fence(&mut self, now: &mut Promotion) -> Result<(), String> {
        let (master, epoch) = now.master.ok_or("nobody to fence")?;
        let looks = self.broken != Some(Broken::FencesAnyEnd);
        let seen = Seen {
            epoch: Some(epoch),
            is_master: Some(true),
            end: looks.then_some(LogOffset(now.end)),
        };
        match self.ask(TOOL, master, Request::Agree(now.epoch, seen)) {
            Ok(Reply::Ends(_)) => {}
            other => return Err(format!("not fenced: {other:?}")),
        }
        // Who takes the place of a master that was replaced has not what the newer one took meanwhile.
        now.loss = match self.truth.leader == Some(master) {
            true => Loss::None,
            false => Loss::NotCopied,
        };
        Ok(())
    }

    /// A slave follows no master any more that an older promotion made.
    fn detach(
        &mut self,
        now: &mut Promotion,
        (slave, epoch, vouches): (usize, Epoch, bool),
    ) -> Result<(), String> {
        let request = match self.broken {
            Some(Broken::PromotesUntold) => Request::Status,
            _ => Request::Agree(
                now.epoch,
                Seen {
                    epoch: Some(epoch),
                    is_master: Some(false),
                    end: None,
                },
            ),
        };
        let told = match self.ask(TOOL, slave, request) {
            Ok(Reply::Status(status)) => Ok(Reply::Ends(status.end)),
            told => told,
        };
        match told {
            Ok(Reply::Ends(end)) if vouches => {
                let end = i64::try_from(end).unwrap_or(i64::MAX);
                now.others.push((slave.to_string(), end));
            }
            // It answers, and is not what it was: somebody else promotes, or has promoted.
            Ok(Reply::Refused(why)) => return Err(why),
            Ok(_) => now.silent.push(slave.to_string()),
            Err(_) if now.fleet.as_ref().and_then(Fleet::successor) == Some(slave) => {
                return Err("the slave that it gave way to can be promoted any time".into());
            }
            Err(_) => now.silent.push(slave.to_string()),
        }
        Ok(())
    }

    /// A master that gave way to the candidate before could be promoted itself; not behind this.
    fn pin(&mut self, now: &mut Promotion) -> Result<(), String> {
        let gave_way = now.fleet.as_ref().and_then(Fleet::gave_way);
        let Some((node, epoch)) = gave_way.map(|(node, status)| (node, status.epoch)) else {
            return Ok(());
        };
        let seen = Seen {
            epoch: Some(epoch),
            is_master: Some(false),
            end: None,
        };
        match self.ask(TOOL, node, Request::Agree(now.epoch, seen)) {
            Ok(Reply::Ends(_)) => Ok(()),
            other => Err(format!("the old master is not pinned: {other:?}")),
        }
    }

    fn judge_again(&mut self, now: &mut Promotion) -> Result<(), String> {
        let fleet = now.fleet.as_ref().ok_or("nobody was asked")?;
        let mut situation = fleet.situation(self.said(), self.broken);
        situation.silent.clone_from(&now.silent);
        situation.others.clear();
        // What it got meanwhile counts, too.
        let Ok(Reply::Status(own)) = self.ask(TOOL, now.candidate, Request::Status) else {
            return Err("the candidate does not answer".into());
        };
        now.end = own.end;
        situation.candidate = i64::try_from(own.end).unwrap_or(i64::MAX);
        for (slave, end) in std::mem::take(&mut now.others) {
            let Ok(node) = slave.parse() else { continue };
            let compared = match self.ask(TOOL, node, Request::Status) {
                Ok(Reply::Status(theirs)) => self.are_one((now.candidate, &own), (node, &theirs)),
                _ => None,
            };
            match compared {
                Some(is_one) => {
                    if !is_one {
                        situation.strangers.push(slave.clone());
                    }
                    situation.others.push((slave, end));
                }
                None => situation.silent.push(slave),
            }
        }
        self.judge(&situation, now.accepted)?;
        now.loss = match (situation.loss(), situation.master) {
            (Lost::Nothing, OldMaster::Drained { .. }) => Loss::None,
            (Lost::Nothing, OldMaster::Silent) => Loss::NotCopied,
            _ => Loss::Accepted,
        };
        if self.broken == Some(Broken::PromotesAnybody) {
            now.loss = Loss::NotCopied;
        }
        Ok(())
    }

    /// Whether one log is the beginning of the other, if both can be asked.
    fn are_one(
        &mut self,
        (ours, our_status): (usize, &Status),
        (theirs, their_status): (usize, &Status),
    ) -> Option<bool> {
        if matches!(
            self.broken,
            Some(Broken::GoesByLengthsAlone | Broken::ComparesNoLogs)
        ) {
            return Some(true);
        }
        for at in our_status.log().places(their_status.log()) {
            let at = LogOffset(u64::try_from(at).unwrap_or_default());
            let [ours, theirs] = [ours, theirs].map(|node| {
                let life = self.nodes[node].life;
                match self.ask(TOOL, node, Request::View { life, at }) {
                    Ok(Reply::Viewed(record)) => Some(record),
                    _ => None,
                }
            });
            if ours? != theirs? {
                return Some(false);
            }
        }
        Some(true)
    }

    fn judge(&self, situation: &Situation, accepted: Accepted) -> Result<(), String> {
        let loss = situation.loss();
        if accepted.covers(&loss) || self.broken == Some(Broken::PromotesAnybody) {
            return Ok(());
        }
        Err(format!("it would lose something: {loss:?}"))
    }

    /// A master that was held for nothing takes messages again; at the latest when its time is over.
    fn let_go(&mut self, now: &Promotion) {
        if let Some((master, _)) = now.master {
            let _ = self.ask(TOOL, master, Request::Hold(0));
        }
    }

    /// What an administrator does who sees that something is left to do: replaced masters rejoin, and where there is no
    /// master one is promoted.
    fn repair(&mut self) -> Checked {
        if !self.is_calm && !self.random.chance(1, 6) {
            return Ok(());
        }
        let leader = self.truth.leader;
        // Who knows of a promotion that nobody else has heard of, and whose master is gone, follows nobody: the loss that was
        // accepted includes it.
        let newest = leader.map(|leader| self.epoch_of(leader));
        let odd = (0..self.nodes.len())
            .find(|&node| newest.is_some_and(|newest| newest < self.epoch_of(node)));
        if let Some(odd) =
            odd.filter(|_| self.is_calm && leader.is_some_and(|leader| self.is_master(leader)))
        {
            self.crash(odd, crate::faults::Crash::Lost)?;
        }
        let fenced = (0..self.nodes.len()).find(|&node| {
            let broker = self.nodes[node].broker.as_ref();
            broker.is_some_and(|broker| broker.seats.is_fenced())
        });
        if let Some(fenced) = fenced
            && let Some(leader) =
                leader.filter(|&leader| self.is_master(leader) && leader != fenced)
            && let Ok(Reply::Status(status)) = self.ask(TOOL, leader, Request::Status)
            && status.is_master
        {
            // The first id that nobody has registered may be that of a slave that is down.
            let id = 10 + fenced as u64;
            let request = Request::Rejoin {
                epoch: status.epoch,
                id,
            };
            // Tried again.
            let _ = self.ask(TOOL, fenced, request);
            return self.violated();
        }
        let stranger = (0..self.nodes.len()).find(|&node| {
            let slave = self.nodes[node]
                .broker
                .as_ref()
                .and_then(|broker| broker.slave.as_ref());
            slave.is_some_and(|slave| slave.is_stranger)
        });
        // Where the master is gone it may have what is left.
        if let Some(stranger) = stranger.filter(|_| self.is_calm && leader.is_some()) {
            self.crash(stranger, crate::faults::Crash::Lost)?;
        }
        self.replace_lost();
        if !self.is_calm {
            let has_none = leader
                .is_none_or(|leader| !self.is_master(leader) && self.nodes[leader].up_at.is_none());
            if has_none && self.random.chance(1, 3) {
                self.begin_promotion();
            }
            return Ok(());
        }
        let has_master = leader.is_some_and(|leader| {
            self.nodes[leader]
                .broker
                .as_ref()
                .is_none_or(|broker| broker.seats.now().is_master())
        });
        // Where the promoted one is gone before anybody has heard of it, the old master goes on.
        let newest = (0..self.nodes.len()).map(|node| self.epoch_of(node)).max();
        let old = (0..self.nodes.len()).find(|&node| {
            self.is_master(node)
                && Some(self.epoch_of(node)) == newest
                && self
                    .nodes
                    .iter()
                    .all(|other| other.broker.is_some() || other.is_lost)
        });
        // Where only a fenced one is left, its configuration is made that of a slave, and then it can be promoted.
        let has_slave = self.nodes.iter().any(|node| {
            node.up_at.is_some()
                || node
                    .broker
                    .as_ref()
                    .is_some_and(|broker| broker.slave.is_some())
        });
        if let (false, false, Some(fenced)) = (has_master, has_slave, fenced) {
            self.nodes[fenced].configured = gantry_replication::Part::Slave(10 + fenced as u64);
            return self.restart(fenced);
        }
        if let (None, Some(old)) = (leader, old)
            && let Some(broker) = &self.nodes[old].broker
        {
            event!(self, "{old} is the master still");
            self.truth.promoted(old, &broker.store, Loss::NotCopied)?;
            self.truth.offsets_begin();
            return Ok(());
        }
        if !has_master {
            // Who has to accept a loss takes the longest log.
            let end = |node: &usize| {
                self.status(*node)
                    .filter(|status| status.is_slave)
                    .map(|status| status.end)
            };
            let longest = (0..self.nodes.len()).max_by_key(end).unwrap_or(0);
            match self.tool.failures {
                0..60 => {
                    let candidate = self.random.below(self.nodes.len());
                    self.promote(candidate, Accepted::Bytes(0));
                }
                _ => self.promote(longest, Accepted::All),
            }
        }
        Ok(())
    }

    /// A machine that burnt down is set up anew, with its old configuration, once there is another master.
    fn replace_lost(&mut self) {
        let Some(lost) = (0..self.nodes.len()).find(|&node| self.nodes[node].is_lost) else {
            return;
        };
        let leader = self
            .truth
            .leader
            .filter(|&leader| leader != lost && self.is_master(leader));
        if leader.is_some() && (self.is_calm || self.random.chance(1, 20)) {
            event!(self, "{lost} is set up anew");
            let seed = self.seed + 1_000;
            let node = &mut self.nodes[lost];
            node.format(seed);
            (node.is_lost, node.up_at, node.durable) = (false, Some(self.now_ms), u64::MAX);
        }
    }
}
