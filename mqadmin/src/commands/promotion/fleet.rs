//! Everybody of a broker name as they answer before a promotion, and what follows from that.

use std::time::Duration;

use gantry_client::Error;
use gantry_message::Epoch;
use gantry_wire::{
    bodies::{BrokerData, HaMaster, HaStatus},
    codes::response,
};
use tokio::time::{Instant, sleep};

use super::{
    LOOK, STARTS, answered, asked, step,
    terms::{ROLES, Terms},
};
use crate::{
    promotion::{Known, OldMaster, Situation, has_followed},
    session::{Failure, Session},
};

/// A master says something at least every five seconds (haSendHeartbeatInterval).
const ALIVE: Duration = Duration::from_secs(6);

/// A broker of the name, and what came of asking it.
pub(super) struct Replica {
    pub(super) id: i64,
    pub(super) address: String,
    pub(super) answer: Result<HaStatus, Error>,
}

/// The slave that shall be the master, and everybody else of its name.
pub(super) struct Fleet {
    pub(super) address: String,
    /// As it is registered: it may be asked at another address.
    pub(super) announced: Option<String>,
    pub(super) candidate: HaStatus,
    pub(super) others: Vec<Replica>,
}

impl Replica {
    /// Whether it has followed the master of that promotion, or of a later one.
    fn has_met(&self, epoch: Epoch) -> bool {
        let follows = self
            .answer
            .as_ref()
            .ok()
            .and_then(|status| status.following.as_ref());
        let met = follows.and_then(|follows| follows.known.as_ref()?.epoch.as_deref());
        met.and_then(|met| met.parse::<Epoch>().ok())
            .is_some_and(|met| epoch <= met)
    }
}

impl Fleet {
    /// Asks everybody of the slave's name.
    pub(super) async fn look(
        session: &Session<'_>,
        (address, candidate): (String, HaStatus),
    ) -> Result<Self, Failure> {
        let broker_name = &candidate.broker_name;
        if candidate.read_only {
            return Err(Failure::Said(format!(
                "{address} is read only, and would be a master that takes no messages: mqadmin setReadWrite -b {address} first"
            )));
        }
        let info = session.client.cluster_info().await?;
        let known = info.broker_addr_table.get(broker_name);
        let own_id = (!candidate.is_fenced).then_some(candidate.broker_id);
        let announced = own_id.and_then(|id| known?.broker_addrs.get(&id).cloned());
        let mut addresses: Vec<(i64, String)> = known
            .into_iter()
            .flat_map(|BrokerData { broker_addrs, .. }| broker_addrs)
            .map(|(id, address)| (*id, address.clone()))
            // In the place of a fenced one another may be registered.
            .filter(|(id, known)| {
                *known != address && (*id != candidate.broker_id || candidate.is_fenced)
            })
            .collect();
        // A name server forgets a master that it does not hear, and one that is fenced; its slave does not.
        let follows = candidate.following.as_ref();
        let known = follows.and_then(|follows| follows.known.as_ref());
        let masters = [
            follows.and_then(|follows| follows.master.clone()),
            known.and_then(|known| known.address.clone()),
        ];
        for master in masters.into_iter().flatten() {
            if master != address && addresses.iter().all(|(_, known)| *known != master) {
                addresses.push((0, master));
            }
        }
        let mut others = Vec::new();
        // Who does not answer may be starting again, as the master.
        let starts = Instant::now() + STARTS;
        for (id, address) in addresses {
            let ask = async || session.client.ha_status(&address).await;
            let answer = answered(starts, ask).await;
            // Another broker may have its address by now.
            if matches!(&answer, Ok(status) if status.broker_name != *broker_name) {
                continue;
            }
            others.push(Replica {
                id,
                address,
                answer,
            });
        }
        Ok(Self {
            announced,
            address,
            candidate,
            others,
        })
    }

    pub(super) fn slaves(&self) -> impl Iterator<Item = &Replica> {
        // Who is registered as a master and answers as a slave is one; not who was the master that this slave is to replace.
        self.others.iter().filter(|other| match &other.answer {
            Ok(status) => {
                status.role == "SLAVE" && !status.is_fenced && !self.gave_way_to_this(status)
            }
            Err(_) => other.id != 0,
        })
    }

    /// The master that gave way to this slave.
    pub(super) fn gave_way(&self) -> Option<&Replica> {
        self.others.iter().find(|other| {
            let status = other.answer.as_ref();
            status.is_ok_and(|status| self.gave_way_to_this(status))
        })
    }

    /// Whether that was the master, and gave way in a promotion of this slave that was not finished: nobody else can have
    /// been the master in it.
    pub(super) fn gave_way_to_this(&self, status: &HaStatus) -> bool {
        let (Ok(ours), Ok(theirs)) = (epoch_of(&self.candidate), epoch_of(status)) else {
            return false;
        };
        let holder = i64::try_from(theirs.holder).unwrap_or_default();
        status.gave_way && ours <= theirs && holder == self.candidate.broker_id
    }

    /// Another promotion that was not finished: who gave way in it, and the slave that it was for.
    pub(super) fn unfinished(&self) -> Option<String> {
        let everybody = || {
            let others = self
                .others
                .iter()
                .filter_map(|other| Some((other.address.as_str(), other.answer.as_ref().ok()?)));
            others.chain([(self.address.as_str(), &self.candidate)])
        };
        let (gave_way, epoch) = everybody().find_map(|(address, status)| {
            let epoch = epoch_of(status).ok().filter(|_| status.gave_way)?;
            (!self.gave_way_to_this(status)).then_some((address, epoch))
        })?;
        let holder = i64::try_from(epoch.holder).unwrap_or_default();
        let slave = everybody().find(|(_, status)| {
            status.role == "SLAVE"
                && !status.gave_way
                && status.broker_id == holder
                && epoch_of(status).is_ok_and(|theirs| theirs <= epoch)
        });
        Some(match slave {
            Some((slave, _)) => format!(
                "{gave_way} was the master and gave way to {slave}, which is none yet: promote {slave} again"
            ),
            None => format!(
                "{gave_way} was the master and gave way to the slave with brokerId {holder}, which does not answer: start it and \
                 promote it"
            ),
        })
    }

    /// What the slave knows of its master, from asking it.
    pub(super) fn known(&self) -> Option<&HaMaster> {
        self.candidate.following.as_ref()?.known.as_ref()
    }

    /// Where the old master is, or was.
    pub(super) fn old_master(&self) -> Option<&str> {
        let old = self
            .gave_way()
            .or_else(|| self.others.iter().find(|other| other.id == 0));
        old.map(|old| old.address.as_str())
            .or_else(|| self.candidate.following.as_ref()?.master.as_deref())
    }

    /// The master that has to be drained and fenced; none, if it does not answer or is fenced already.
    pub(super) fn living_master(&self) -> Result<Option<&Replica>, Failure> {
        let mut masters = self.others.iter().filter(|other| {
            matches!(&other.answer, Ok(status) if status.role != "SLAVE" && !status.is_fenced)
        });
        // It answers, and has no such status to give.
        let apache = self.others.iter().find(|other| {
            let refused = other.answer.as_ref().err().and_then(Error::code);
            let is_odd = matches!(&other.answer, Err(Error::BadAnswer { .. }));
            other.id == 0 && (is_odd || refused == Some(response::REQUEST_CODE_NOT_SUPPORTED))
        });
        if let Some(apache) = apache {
            return Err(Failure::Said(format!(
                "{}, the master, is Apache's broker or an older Gantry and cannot be fenced: stop it first",
                apache.address
            )));
        }
        let (master, second) = (masters.next(), masters.next());
        if let (Some(first), Some(second)) = (master, second) {
            return Err(Failure::Said(format!(
                "{} and {} both say that they are the master: stop one of them first",
                first.address, second.address
            )));
        }
        Ok(master)
    }

    /// A master that does not answer here may be dead, or out of reach only from here: then the slave hears it again. Waits
    /// until that is known.
    pub(super) async fn hear_out_master(
        &mut self,
        session: &mut Session<'_>,
    ) -> Result<(), Failure> {
        let Some((master, mut silent)) = self.heard_lately() else {
            return Ok(());
        };
        let line = format!(
            "the master at {master} does not answer here, and {} heard it {silent} ms ago: waiting whether it does again",
            self.address
        );
        step(session, line)?;
        let deadline = Instant::now() + ALIVE;
        loop {
            sleep(LOOK).await;
            let status = session.client.ha_status(&self.address).await;
            self.candidate = asked(&self.address, status)?;
            match self.heard_lately() {
                None => return Ok(()),
                // What was heard so lately even then was heard again.
                Some((master, now)) if now < silent || deadline <= Instant::now() => {
                    return Err(Failure::Said(format!(
                        "the master at {master} does not answer here, but {} heard it {now} ms ago: it is alive. Stop it, or \
                         promote from where it can be reached",
                        self.address
                    )));
                }
                Some((_, now)) => silent = now,
            }
        }
    }

    /// The master that the slave follows and that nobody has asked, if it was heard so lately that it may be alive; how many
    /// milliseconds ago that was.
    fn heard_lately(&self) -> Option<(String, i64)> {
        let follows = self.candidate.following.as_ref();
        let follows = follows.filter(|follows| follows.is_following)?;
        let master = follows.master.clone().unwrap_or_else(|| "?".to_owned());
        let has_answered = |other: &Replica| other.answer.is_ok() && other.address == master;
        let silent = follows.heard_millis_ago;
        let is_lately = u64::try_from(silent).is_ok_and(|ago| Duration::from_millis(ago) < ALIVE);
        (is_lately && !self.others.iter().any(has_answered)).then_some((master, silent))
    }

    pub(super) fn next_epoch(&self) -> Result<Epoch, Failure> {
        let answers = self
            .others
            .iter()
            .filter_map(|other| other.answer.as_ref().ok());
        let mut newest = Epoch::NONE;
        for status in answers.chain([&self.candidate]) {
            newest = newest.max(epoch_of(status)?);
        }
        let id = u64::try_from(self.candidate.broker_id).unwrap_or_default();
        Ok(newest.next(id))
    }

    /// What the slave is to be: as told, else as its master was.
    pub(super) fn role(&self, terms: &Terms) -> Result<String, Failure> {
        if self.candidate.is_fenced {
            let own = &self.candidate.role;
            return match terms.role {
                Some(role) if role != own => Err(Failure::Said(format!(
                    "--role {role}: the configuration of {} says {own}, which counts",
                    self.address
                ))),
                _ => Ok(own.clone()),
            };
        }
        if let Some(role) = terms.role {
            return Ok(role.to_owned());
        }
        let known = self.known().map(|known| known.role.as_str());
        let statuses = self
            .others
            .iter()
            .filter_map(|other| other.answer.as_ref().ok());
        let mut roles = statuses.map(|status| status.role.as_str()).chain(known);
        let role = roles.find(|role| ROLES.contains(role));
        role.map(str::to_owned).ok_or_else(|| {
            Failure::Said("what the old master was is not known: --role ASYNC_MASTER or SYNC_MASTER says what the new one is".to_owned())
        })
    }

    /// As it looks from here, without changing anything.
    pub(super) fn situation(
        &self,
        terms: &Terms,
        master: Option<&Replica>,
    ) -> Result<Situation, Failure> {
        let end = |replica: &Replica| replica.answer.as_ref().ok().map(|status| status.max_offset);
        let (others, silent): (Vec<_>, Vec<_>) = self.slaves().partition(|slave| vouches(slave));
        let others = others.into_iter();
        let others = others.filter_map(|slave| Some((slave.address.clone(), end(slave)?)));
        let (known, nameless) = match self.known() {
            Some(known) => (
                Some(known),
                usize::try_from(known.nameless_slaves).unwrap_or_default(),
            ),
            None => (None, 0),
        };
        let epoch = epoch_of(&self.candidate)?;
        let met = known.and_then(|known| known.epoch.as_deref()?.parse::<Epoch>().ok());
        let is_ours = i64::try_from(epoch.holder) == Ok(self.candidate.broker_id);
        let is_drained = master.and_then(end);
        Ok(Situation {
            candidate: self.candidate.max_offset,
            others: others.collect(),
            silent: silent.iter().map(|slave| slave.address.clone()).collect(),
            // Who asks compares them.
            strangers: Vec::new(),
            master: match is_drained.or(self.unfinished_end()) {
                Some(end) => OldMaster::Drained { end },
                None => OldMaster::Silent,
            },
            known: Known {
                is_sync: known.is_none_or(|known| known.role != "ASYNC_MASTER"),
                in_sync_replicas: terms.in_sync_replicas,
                in_sync_replicas_then: known
                    .and_then(|known| usize::try_from(known.in_sync_replicas).ok()),
                slaves: terms.slaves,
                acknowledged: known.map_or(0, |known| known.slave_ids.len()) + nameless,
                end: known.map(|known| known.max_offset),
                followed: counts(&self.candidate),
                gave_way: self.candidate.gave_way.then_some(epoch),
                unmet: met.filter(|met| *met < epoch && !is_ours).map(|_| epoch),
            },
        })
    }

    /// Where the log of the old master ends, if that is known without it: of one that gave way to this slave, or, if it is
    /// this one itself, while nobody took its place.
    fn unfinished_end(&self) -> Option<i64> {
        let gave_way = self.gave_way().and_then(|old| old.answer.as_ref().ok());
        let end = gave_way.map(|status| status.max_offset);
        end.or_else(|| self.successor().map(|_| self.candidate.max_offset))
    }

    /// Of a candidate that was the master: the slave that it gave way to, if that one was not promoted.
    pub(super) fn successor(&self) -> Option<&Replica> {
        let epoch = epoch_of(&self.candidate).ok()?;
        let holder = i64::try_from(epoch.holder).ok()?;
        if !self.candidate.gave_way || self.slaves().any(|slave| slave.has_met(epoch)) {
            return None;
        }
        self.slaves().find(|slave| {
            let status = slave.answer.as_ref();
            status.is_ok_and(|status| {
                status.broker_id == holder && epoch_of(status).is_ok_and(|theirs| theirs <= epoch)
            })
        })
    }
}

/// Whether what another slave has counts.
pub(super) fn vouches(slave: &Replica) -> bool {
    slave.answer.as_ref().is_ok_and(counts)
}

fn counts(status: &HaStatus) -> bool {
    status.following.as_ref().is_some_and(has_followed)
}

pub(super) fn epoch_of(status: &HaStatus) -> Result<Epoch, Failure> {
    let text = status.epoch.as_deref().unwrap_or("0.0");
    text.parse()
        .map_err(|error| Failure::Said(format!("{}: {error}", status.broker_name)))
}
