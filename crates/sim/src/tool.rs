//! The administrator with `mqadmin promote` and `mqadmin rejoin`, one request a step.
//!
//! The order of the requests is that of `mqadmin::commands::promotion`; what a promotion would lose is asked of the same
//! [`Situation`].

use gantry_message::Epoch;
use gantry_mqadmin::promotion::{Accepted, Known, Loss as Lost, OldMaster, Situation};
use gantry_replication::Copies;

use crate::broken::Broken;
use crate::net::{NAMES, Reply, Request, Status, TOOL};
use crate::truth::{Checked, Loss, Violation};
use crate::world::{World, event};

/// How long a slave may take to get the end of a drained master's log.
const PATIENCE_MS: u64 = 1_500;

/// What the administrator is at.
#[derive(Debug, Default)]
pub(crate) struct Tool {
    promotion: Option<Promotion>,
    /// Found where nothing could be returned.
    pub(crate) violation: Option<Violation>,
    /// So many promotions in a row came to nothing.
    failures: usize,
}

/// A promotion under way.
#[derive(Clone, Debug)]
struct Promotion {
    candidate: usize,
    accepted: Accepted,
    stage: Stage,
    fleet: Option<Fleet>,
    drained: Option<(usize, u64)>,
    epoch: Epoch,
    others: Vec<(String, i64)>,
    silent: Vec<String>,
    end: u64,
    loss: Loss,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Look,
    Drain,
    Wait {
        until: u64,
    },
    /// The other slaves, from this one of them on.
    Tell(usize),
    Judge,
    Fence,
    Promote,
    Open,
}

/// Everybody of the name, as they answered.
#[derive(Clone, Debug)]
struct Fleet {
    candidate: Status,
    others: Vec<(u64, usize, Option<Status>)>,
}

impl Fleet {
    /// The longest log is the one that has everything only if all that are compared are beginnings of one: of the master that
    /// was followed last. `mqadmin promote` does not ask for that; an administrator who looks at `haStatus` does.
    fn is_of_one_log(&self) -> Result<(), String> {
        let answers = self
            .others
            .iter()
            .filter_map(|(_, _, answer)| answer.as_ref());
        let newest = answers
            .filter(|status| !status.is_fenced)
            .filter_map(|status| status.followed)
            .max();
        match (self.candidate.followed, newest) {
            (None, _) => Err("the candidate has not followed anybody since it was started".into()),
            (Some(ours), Some(newest)) if ours < newest => {
                Err("the candidate has followed an older master than others".into())
            }
            _ => Ok(()),
        }
    }

    fn slaves(&self) -> impl Iterator<Item = &(u64, usize, Option<Status>)> {
        self.others.iter().filter(|(id, _, answer)| match answer {
            Some(status) => status.is_slave,
            None => *id != 0,
        })
    }

    fn masters(&self) -> Vec<usize> {
        let is_master = |answer: &Option<Status>| {
            answer
                .as_ref()
                .is_some_and(|status| !status.is_slave && !status.is_fenced)
        };
        let masters = self
            .others
            .iter()
            .filter(|(_, _, answer)| is_master(answer));
        masters.map(|(_, node, _)| *node).collect()
    }

    fn next_epoch(&self) -> Epoch {
        let answers = self
            .others
            .iter()
            .filter_map(|(_, _, answer)| answer.as_ref());
        let newest = answers
            .chain([&self.candidate])
            .map(|status| status.epoch)
            .max();
        newest.unwrap_or_default().next(self.candidate.id)
    }

    fn fenced_end(&self) -> Option<u64> {
        let answers = self
            .others
            .iter()
            .filter_map(|(_, _, answer)| answer.as_ref());
        let mut fenced = answers.filter(|status| status.is_fenced);
        fenced
            .find(|status| {
                self.candidate.epoch <= status.epoch && status.epoch.holder == self.candidate.id
            })
            .map(|status| status.end)
    }

    /// `slaves`: how many the old master had, as the administrator says (`--slaves`).
    fn situation(&self, master: Option<usize>, slaves: Option<usize>) -> Situation {
        let end = |status: &Status| i64::try_from(status.end).unwrap_or(i64::MAX);
        let told = self.candidate.known;
        let known = Known {
            is_sync: told.is_none_or(|known| known.copies == Copies::Sync),
            in_sync_replicas: told
                .and_then(|known| usize::try_from(known.in_sync).ok())
                .unwrap_or(1),
            slaves: slaves.or(told.map(|known| known.slaves)),
            acknowledged: 1,
            end: told.map(|known| i64::try_from(known.end).unwrap_or(i64::MAX)),
            followed: true,
            gave_way: None,
            unmet: None,
        };
        let of = |node: usize| {
            let one = self.others.iter().find(|(_, other, _)| *other == node);
            one.and_then(|(_, _, answer)| answer.as_ref())
                .map(|status| status.end)
        };
        let drained = master.and_then(of).or_else(|| self.fenced_end());
        Situation {
            candidate: end(&self.candidate),
            others: self
                .slaves()
                .filter_map(|(_, node, answer)| Some((node.to_string(), end(answer.as_ref()?))))
                .collect(),
            silent: self
                .slaves()
                .filter(|(_, _, answer)| answer.is_none())
                .map(|(_, node, _)| node.to_string())
                .collect(),
            master: match drained {
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
        if self.tool.promotion.is_some() {
            return;
        }
        let candidate = self.random.below(self.nodes.len());
        let accepted = match self.random.below(12) {
            0 => Accepted::All,
            _ => Accepted::Bytes(0),
        };
        self.promote(candidate, accepted);
    }

    fn promote(&mut self, candidate: usize, accepted: Accepted) {
        event!(
            self,
            "the administrator wants {candidate} to be the master, and accepts to lose {accepted:?}"
        );
        self.tool.promotion = Some(Promotion {
            candidate,
            accepted,
            stage: Stage::Look,
            fleet: None,
            drained: None,
            epoch: Epoch::NONE,
            others: Vec::new(),
            silent: Vec::new(),
            end: 0,
            loss: Loss::None,
        });
    }

    /// The administrator does one thing.
    pub(crate) fn administer(&mut self) -> Checked {
        let Some(promotion) = self.tool.promotion.take() else {
            return self.repair();
        };
        match self.promotion_step(promotion) {
            Ok(next) => self.tool.promotion = next,
            Err(why) => {
                event!(self, "the promotion ends: {why}");
                self.tool.failures += 1;
            }
        }
        self.violated()
    }

    fn promotion_step(&mut self, mut now: Promotion) -> Result<Option<Promotion>, String> {
        match now.stage {
            Stage::Look => {
                let fleet = self.look_around(now.candidate)?;
                if self.broken != Some(Broken::GoesByLengthsAlone) && now.accepted != Accepted::All
                {
                    fleet.is_of_one_log()?;
                }
                let masters = fleet.masters();
                if 1 < masters.len() {
                    return Err("two say that they are the master".into());
                }
                let master = masters.first().copied();
                if master.is_none() && fleet.candidate.is_following {
                    return Err("the master is alive for the candidate".into());
                }
                now.epoch = fleet.next_epoch();
                if master.is_none() {
                    self.judge(
                        &fleet.situation(None, Some(self.setup.slaves)),
                        now.accepted,
                    )?;
                }
                now.drained = master.map(|master| (master, 0));
                now.fleet = Some(fleet);
                now.stage = match master {
                    Some(_) => Stage::Drain,
                    None => Stage::Tell(0),
                };
            }
            Stage::Drain => {
                let (master, _) = now.drained.ok_or("nobody to drain")?;
                match self.ask(TOOL, master, Request::ReadOnly(true)) {
                    Ok(Reply::Ends(end)) => now.drained = Some((master, end)),
                    other => return Err(format!("not drained: {other:?}")),
                }
                let until = self.now_ms + PATIENCE_MS;
                now.stage = Stage::Wait { until };
            }
            Stage::Wait { until } => {
                let (_, end) = now.drained.ok_or("nobody to drain")?;
                let has = self.ask(TOOL, now.candidate, Request::Status);
                let is_any = self.broken == Some(Broken::GoesByLengthsAlone);
                if matches!(&has, Ok(Reply::Status(status)) if end <= status.end && (status.is_following || is_any))
                {
                    now.stage = Stage::Tell(0);
                } else if until <= self.now_ms {
                    self.open(&now);
                    return Err("the candidate does not get the end of the log".into());
                }
            }
            Stage::Tell(next) => {
                let slaves: Vec<usize> = now
                    .fleet
                    .iter()
                    .flat_map(Fleet::slaves)
                    .map(|(_, node, _)| *node)
                    .collect();
                now.stage = Stage::Judge;
                if let Some(slave) = slaves.get(next) {
                    self.tell_slave(&mut now, *slave);
                    now.stage = Stage::Tell(next + 1);
                }
            }
            Stage::Judge => {
                let judged = self.judge_again(&mut now);
                if let Err(why) = judged {
                    self.open(&now);
                    return Err(why);
                }
                now.stage = Stage::Fence;
            }
            Stage::Fence => {
                if let Some((master, _)) = now.drained {
                    match self.ask(TOOL, master, Request::Tell(now.epoch)) {
                        Ok(Reply::Ends(_)) => {}
                        other => {
                            self.open(&now);
                            return Err(format!("not fenced: {other:?}"));
                        }
                    }
                }
                now.stage = Stage::Promote;
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
                now.stage = Stage::Open;
            }
            Stage::Open => {
                self.open(&now);
                return Ok(None);
            }
        }
        Ok(Some(now))
    }

    fn look_around(&mut self, candidate: usize) -> Result<Fleet, String> {
        let Ok(Reply::Status(own)) = self.ask(TOOL, candidate, Request::Status) else {
            return Err("the candidate does not answer".into());
        };
        if !own.is_slave {
            return Err("only a slave is promoted".into());
        }
        let server = self.random.below(self.names.len());
        let end = NAMES + server;
        if !self.net.carries(TOOL, end, self.now_ms) || !self.net.carries(end, TOOL, self.now_ms) {
            return Err("the name server does not answer".into());
        }
        let mut all = self.names[server].registered();
        all.retain(|(id, _)| *id != own.id);
        // A name server forgets a master that it does not hear; its slave does not.
        let followed = self.nodes[candidate]
            .broker
            .as_ref()
            .and_then(|broker| broker.told);
        if let Some(master) = followed.filter(|master| all.iter().all(|(_, node)| node != master)) {
            all.push((0, master));
        }
        let mut others = Vec::new();
        for (id, node) in all.into_iter().filter(|(_, node)| *node != candidate) {
            let answer = match self.ask(TOOL, node, Request::Status) {
                Ok(Reply::Status(status)) => Some(status),
                _ => None,
            };
            others.push((id, node, answer));
        }
        Ok(Fleet {
            candidate: own,
            others,
        })
    }

    fn tell_slave(&mut self, now: &mut Promotion, slave: usize) {
        if self.broken == Some(Broken::PromotesUntold) {
            if let Ok(Reply::Status(status)) = self.ask(TOOL, slave, Request::Status) {
                let end = i64::try_from(status.end).unwrap_or(i64::MAX);
                now.others.push((slave.to_string(), end));
            }
            return;
        }
        match self.ask(TOOL, slave, Request::Tell(now.epoch)) {
            Ok(Reply::Ends(end)) => {
                let end = i64::try_from(end).unwrap_or(i64::MAX);
                now.others.push((slave.to_string(), end));
            }
            _ => now.silent.push(slave.to_string()),
        }
    }

    fn judge_again(&mut self, now: &mut Promotion) -> Result<(), String> {
        let fleet = now.fleet.as_ref().ok_or("nobody was asked")?;
        let mut situation = fleet.situation(None, Some(self.setup.slaves));
        (situation.others, situation.silent) = (now.others.clone(), now.silent.clone());
        let Ok(Reply::Status(own)) = self.ask(TOOL, now.candidate, Request::Status) else {
            return Err("the candidate does not answer".into());
        };
        now.end = own.end;
        situation.candidate = i64::try_from(own.end).unwrap_or(i64::MAX);
        if let Some((_, end)) = now.drained {
            let end = i64::try_from(end).unwrap_or(i64::MAX);
            situation.master = OldMaster::Drained { end };
        }
        self.judge(&situation, now.accepted)?;
        now.loss = match (situation.loss(), situation.master) {
            _ if now.accepted == Accepted::All => Loss::Accepted,
            (Lost::Nothing, OldMaster::Drained { .. }) => Loss::None,
            (Lost::Nothing, OldMaster::Silent) => Loss::NotCopied,
            _ => Loss::Accepted,
        };
        if self.broken == Some(Broken::PromotesAnybody) {
            now.loss = Loss::NotCopied;
        }
        Ok(())
    }

    fn judge(&self, situation: &Situation, accepted: Accepted) -> Result<(), String> {
        let loss = situation.loss();
        if accepted.covers(&loss) || self.broken == Some(Broken::PromotesAnybody) {
            return Ok(());
        }
        Err(format!("it would lose something: {loss:?}"))
    }

    /// Gives back what draining took.
    fn open(&mut self, now: &Promotion) {
        if let Some((master, _)) = now.drained {
            // It is read only still, if this does not arrive; when all is well it is opened.
            let _ = self.ask(TOOL, master, Request::ReadOnly(false));
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
        if let Some(stranger) = stranger.filter(|_| self.is_calm) {
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
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_read_only {
                let _ = self.ask(TOOL, node, Request::ReadOnly(false));
            }
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
            node.is_read_only = false;
        }
    }
}
