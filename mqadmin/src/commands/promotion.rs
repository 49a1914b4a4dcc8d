//! promote and rejoin: Gantry's own, for who takes the place of a master, and what becomes of the old one.
//!
//! The order is what makes it safe (decision 30). While the old master can be asked, it holds on, the slave gets the rest,
//! and then it is fenced, durably, if its log still ends where the slave's does: nobody else can have changed anything in
//! between, however long this took. Only then is the slave promoted. If the master cannot be asked, the other slaves
//! follow it no more before it counts what they have. Every request names what was seen, and is refused if that is not so
//! any more; whoever stops between two of them leaves no second master, at worst none, and promotes again.

use std::{collections::BTreeSet, time::Duration};

use gantry_client::Error;
use gantry_message::Epoch;
use gantry_wire::{
    bodies::{BrokerData, HaMaster, HaStatus},
    codes::response,
};
use tokio::time::{Instant, sleep};

use super::replication::asked;
use crate::{
    promotion::{Accepted, Known, Loss, OldMaster, Situation},
    session::{Failure, Session},
};

/// How often something that has to come is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long a broker may take to start again within its process, and a name server to hear of it.
const SETTLES: Duration = Duration::from_secs(60);
/// How long nobody answers at most at its port meanwhile, if all is well.
const STARTS: Duration = Duration::from_secs(5);
/// A master says something at least every five seconds (haSendHeartbeatInterval).
const ALIVE_MS: i64 = 6_000;
/// So long a master holds on each time that it is asked to: whoever promotes may be gone.
const HOLD_MS: i64 = 5_000;
/// The longest that it is asked again.
const PATIENCE_MAX: u64 = 600;

/// A broker of the name, and what came of asking it.
struct Replica {
    id: i64,
    address: String,
    answer: Result<HaStatus, Error>,
}

/// The slave that shall be the master, and everybody else of its name.
struct Fleet {
    address: String,
    candidate: HaStatus,
    others: Vec<Replica>,
}

/// What a promotion is to be.
struct Wanted {
    epoch: Epoch,
    role: String,
    accepted: Accepted,
    /// Seconds for the slave to get the rest.
    patience: u64,
}

/// promote: a slave becomes the master of its name, unless that could lose what was acknowledged.
pub async fn promote(session: &mut Session<'_>) -> Result<(), Failure> {
    let address = session.arguments.required('b')?.to_owned();
    let ask = async || session.client.ha_status(&address).await;
    let candidate = answered(Instant::now() + STARTS, ask).await;
    let candidate = asked(&address, candidate)?;
    if candidate.role != "SLAVE" && !candidate.is_fenced {
        let HaStatus {
            role, broker_name, ..
        } = &candidate;
        return step(
            session,
            format_args!("{address} is {role} of {broker_name} already"),
        );
    }
    let fleet = Fleet::look(session, (address, candidate)).await?;
    let wanted = Wanted {
        accepted: accepted(session)?,
        patience: session.arguments.number('w', 30)?,
        epoch: fleet.next_epoch()?,
        role: String::new(),
    };
    if !(1..=PATIENCE_MAX).contains(&wanted.patience) {
        return Err(Failure::Said(format!(
            "--wait {}: it is 1 to {PATIENCE_MAX} s",
            wanted.patience
        )));
    }
    let master = fleet.living_master()?;
    if let Some(master) = master.filter(|_| fleet.candidate.gave_way) {
        return Err(Failure::Said(format!(
            "{} was replaced, and {} is the master since: mqadmin rejoin -b {0} first",
            fleet.address, master.address
        )));
    }
    let wanted = Wanted {
        role: fleet.role(session)?,
        ..wanted
    };
    let loss = fleet.situation(session, master)?.loss();
    // A living master that has more is waited for, not lost.
    if master.is_none() {
        judge(&fleet, &loss, wanted.accepted)?;
    }
    let Wanted { epoch, role, .. } = &wanted;
    let could = session.client.check_promotion(&fleet.address, *epoch, role);
    asked(&fleet.address, could.await)?;
    if session.arguments.has('d') {
        let what = match master {
            Some(master) => format!("{} would be drained and fenced before", master.address),
            None => said(&loss),
        };
        let name = &fleet.candidate.broker_name;
        return session.line(format_args!(
            "{} would be {role} of {name} in promotion {epoch}; {what}",
            fleet.address
        ));
    }
    let (loss, end) = match master {
        Some(master) => {
            let end = take_place(session, &fleet, master, &wanted).await?;
            // They would hear of it soon; it is no matter who cannot be told.
            if let Err(failure) = detach_slaves(session, &fleet, *epoch).await {
                step(session, failure)?;
            }
            (Loss::Nothing, end)
        }
        None => count_slaves(session, &fleet, &wanted).await?,
    };
    let promoted = become_master(session, &fleet, &wanted, end).await;
    let promoted = promoted.map_err(|failure| {
        let name = &fleet.candidate.broker_name;
        Failure::Said(format!(
            "{failure}; {name} has no master now: promote again"
        ))
    })?;
    let name = &fleet.candidate.broker_name;
    step(
        session,
        format_args!(
            "{} is {role} of {name} since promotion {epoch}; {}; its log begins at {}",
            fleet.address,
            said(&loss),
            promoted.min_offset
        ),
    )?;
    advise(session, &fleet, &promoted, master)?;
    routed(session, &fleet).await
}

/// The old master gives its place away. Where its log ends, which the slave has reached.
async fn take_place(
    session: &mut Session<'_>,
    fleet: &Fleet,
    master: &Replica,
    wanted: &Wanted,
) -> Result<i64, Failure> {
    let address = master.address.as_str();
    let (seen, end) = match &master.answer {
        Ok(status) => (epoch_of(status)?, status.max_offset),
        Err(_) => (Epoch::NONE, 0),
    };
    let patience = Duration::from_secs(wanted.patience);
    // It takes messages until the slave is close.
    has_all(session, fleet, Goal { end, held: None }, patience).await?;
    let end = hold(session, address).await?;
    step(
        session,
        format_args!(
            "{address}, the old master, takes no messages for a moment; its log ends at {end}"
        ),
    )?;
    let taken = async {
        let held = Some((address, Instant::now()));
        // What was committed and made until now, the slave shall have, too.
        let asks = session
            .client
            .check_promotion(&fleet.address, wanted.epoch, &wanted.role);
        asked(&fleet.address, asks.await)?;
        let end = has_all(session, fleet, Goal { end, held }, patience).await?;
        let fenced = session.client.fence(address, wanted.epoch, seen, end);
        asked(address, fenced.await).map(|_| end)
    };
    match taken.await {
        Ok(end) => {
            step(session, format_args!("{address} is fenced"))?;
            Ok(end)
        }
        Err(failure) => {
            let how = let_go(session, address).await;
            Err(Failure::Said(format!("{failure}; {how}")))
        }
    }
}

/// The master takes no messages for a moment. Where its log ends.
async fn hold(session: &Session<'_>, address: &str) -> Result<i64, Failure> {
    asked(address, session.client.hold(address, HOLD_MS).await)
}

/// What becomes of a master that was held for nothing. That it is not fenced is not known before it says so: the answer to
/// the request for it may have been lost.
async fn let_go(session: &Session<'_>, address: &str) -> String {
    let opened = session.client.hold(address, 0).await;
    match session.client.ha_status(address).await {
        Ok(status) if status.is_fenced => {
            let epoch = status.epoch.unwrap_or_default();
            format!(
                "{address} is fenced by promotion {epoch} all the same: look with haStatus, and promote again if there is no master"
            )
        }
        Ok(_) if opened.is_ok() => {
            format!("{address} takes messages again, nothing is changed")
        }
        Ok(_) => format!("{address} takes messages again within {HOLD_MS} ms"),
        Err(error) => format!(
            "{address} takes messages again within {HOLD_MS} ms, unless it was fenced, which it does not say ({error}): look with haStatus"
        ),
    }
}

/// What a slave is to reach.
struct Goal<'a> {
    /// Where the master's log ends.
    end: i64,
    /// The master, if it holds on, and since when.
    held: Option<(&'a str, Instant)>,
}

/// Waits until the slave has everything; its master holds on meanwhile, if it does so now. Where the master's log ends.
async fn has_all(
    session: &Session<'_>,
    fleet: &Fleet,
    mut goal: Goal<'_>,
    patience: Duration,
) -> Result<i64, Failure> {
    let deadline = Instant::now() + patience;
    loop {
        // Before the question: the answer's age counts from somewhere behind this.
        let held = goal.held.map_or(i64::MAX, |(_, at)| millis(at.elapsed()));
        let lacks = match session.client.ha_status(&fleet.address).await {
            Ok(status) => match lacks(&status, goal.end, held) {
                None => return Ok(goal.end),
                Some(lacks) => lacks,
            },
            Err(error) => error.to_string(),
        };
        if let Some((master, _)) = goal.held {
            // If this one stood still for too long, the log goes on.
            goal.end = hold(session, master).await?;
        }
        if deadline <= Instant::now() {
            return Err(Failure::Said(format!(
                "{} did not get everything within {} s: {lacks} (--wait gives it longer)",
                fleet.address,
                patience.as_secs()
            )));
        }
        sleep(LOOK).await;
    }
}

/// What a slave lacks still of a master whose log ends there and that has held on for so many milliseconds.
fn lacks(status: &HaStatus, end: i64, held: i64) -> Option<String> {
    // Another log may be as long: who follows the master has its log.
    let following = status.following.as_ref();
    let Some(following) = following.filter(|following| following.is_following) else {
        return Some("it does not follow the master".to_owned());
    };
    if status.max_offset < end {
        return Some(format!("its log ends at {}", status.max_offset));
    }
    match following.copied_millis_ago {
        ago if (0..held).contains(&ago) => None,
        -1 => Some(
            "it has not copied the master's topics, groups and offsets; its log says why"
                .to_owned(),
        ),
        ago => Some(format!(
            "it copied the master's topics, groups and offsets {ago} ms ago; its log says why not since"
        )),
    }
}

/// Without its master: the other slaves follow it no more, and say what they have.
async fn count_slaves(
    session: &mut Session<'_>,
    fleet: &Fleet,
    wanted: &Wanted,
) -> Result<(Loss, i64), Failure> {
    let mut now = fleet.situation(session, None)?;
    if let Some(old) = fleet.gave_way() {
        // It could be promoted itself: not any more.
        let seen = old
            .answer
            .as_ref()
            .map(epoch_of)
            .unwrap_or(Ok(Epoch::NONE))?;
        let pinned = session
            .client
            .detach(&old.address, wanted.epoch, seen)
            .await;
        let end = asked(&old.address, pinned)?.max_offset;
        now.master = OldMaster::Drained { end };
    }
    (now.others, now.silent) = detach_slaves(session, fleet, wanted.epoch).await?;
    // What it got meanwhile counts, too.
    let candidate = session.client.ha_status(&fleet.address).await?;
    now.candidate = candidate.max_offset;
    let loss = now.loss();
    judge(fleet, &loss, wanted.accepted)?;
    Ok((loss, now.candidate))
}

/// Tells the other slaves, which follow the old master no more from then on. Who has how much, and who does not say.
async fn detach_slaves(
    session: &mut Session<'_>,
    fleet: &Fleet,
    epoch: Epoch,
) -> Result<(Vec<(String, i64)>, Vec<String>), Failure> {
    let (mut told, mut silent) = (Vec::new(), Vec::new());
    for slave in fleet.slaves() {
        let seen = match &slave.answer {
            Ok(status) => epoch_of(status)?,
            Err(_) => Epoch::NONE,
        };
        let Replica { id, address, .. } = slave;
        match session.client.detach(address, epoch, seen).await {
            Ok(seated) => {
                let end = seated.max_offset;
                let line = format!(
                    "{address}, slave {id}, follows the old master no more; its log ends at {end}"
                );
                step(session, line)?;
                if vouches(slave) {
                    told.push((address.clone(), end));
                } else {
                    silent.push(address.clone());
                }
            }
            // It answers, and is not what it was: somebody else promotes, or has promoted.
            Err(error) if error.code() == Some(response::NO_PERMISSION) => {
                return Err(Failure::Said(format!(
                    "{address}, slave {id}: {error}; look with haStatus, and promote again if there is no master"
                )));
            }
            Err(error) if fleet.successor().is_some_and(|one| one.address == *address) => {
                return Err(Failure::Said(format!(
                    "{address}, slave {id}, could be promoted any time, and cannot be told: {error}; promote again"
                )));
            }
            Err(error) => {
                step(
                    session,
                    format_args!("{address}, slave {id}, cannot be told: {error}"),
                )?;
                silent.push(address.clone());
            }
        }
    }
    Ok((told, silent))
}

async fn become_master(
    session: &Session<'_>,
    fleet: &Fleet,
    wanted: &Wanted,
    end: i64,
) -> Result<HaStatus, Failure> {
    let Wanted { epoch, role, .. } = wanted;
    let seated = session.client.promote(&fleet.address, *epoch, role, end);
    asked(&fleet.address, seated.await)?;
    serves(session, &fleet.address, role, *epoch).await
}

/// What is to be done by hand behind a promotion.
fn advise(
    session: &mut Session<'_>,
    fleet: &Fleet,
    promoted: &HaStatus,
    master: Option<&Replica>,
) -> Result<(), Failure> {
    let HaStatus {
        role,
        in_sync_replicas,
        slave_ack_policy,
        ..
    } = promoted;
    if let Some(known) = fleet.known().filter(|_| role == "SYNC_MASTER") {
        let before = (&known.slave_ack_policy, known.in_sync_replicas);
        if before != (slave_ack_policy, *in_sync_replicas) {
            step(
                session,
                format_args!(
                    "its own settings count: slaveAckPolicy {slave_ack_policy} and inSyncReplicas {in_sync_replicas}, where the old \
                     master had {} and {}",
                    before.0, before.1
                ),
            )?;
        }
    }
    if fleet.candidate.configured_id != 0 {
        step(
            session,
            format_args!("make its configuration say so: brokerRole={role} and brokerId=0"),
        )?;
    }
    if fleet.candidate.gave_way {
        return Ok(());
    }
    let old = master.map(|master| master.address.as_str());
    let old = old.or_else(|| fleet.old_master()).unwrap_or("ADDRESS");
    let statuses = fleet.others.iter().filter(|other| other.address == old);
    let mut statuses = statuses.filter_map(|other| other.answer.as_ref().ok());
    if statuses.any(|status| status.configured_id != 0) {
        return step(
            session,
            format_args!(
                "{old}, the old master, becomes a slave by itself, as its configuration says"
            ),
        );
    }
    step(
        session,
        format_args!("the old master becomes a slave by: mqadmin rejoin -b {old}"),
    )
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
    async fn look(
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
            address,
            candidate,
            others,
        })
    }

    fn slaves(&self) -> impl Iterator<Item = &Replica> {
        // Who is registered as a master and answers as a slave is one; not who was the master that this slave is to replace.
        self.others.iter().filter(|other| match &other.answer {
            Ok(status) => {
                status.role == "SLAVE" && !status.is_fenced && !self.gave_way_to_this(status)
            }
            Err(_) => other.id != 0,
        })
    }

    /// The master that gave way to this slave.
    fn gave_way(&self) -> Option<&Replica> {
        self.others.iter().find(|other| {
            let status = other.answer.as_ref();
            status.is_ok_and(|status| self.gave_way_to_this(status))
        })
    }

    /// Whether that was the master, and gave way in a promotion of this slave that was not finished: nobody else can have
    /// been the master in it.
    fn gave_way_to_this(&self, status: &HaStatus) -> bool {
        let (Ok(ours), Ok(theirs)) = (epoch_of(&self.candidate), epoch_of(status)) else {
            return false;
        };
        let holder = i64::try_from(theirs.holder).unwrap_or_default();
        status.gave_way && ours <= theirs && holder == self.candidate.broker_id
    }

    /// Another promotion that was not finished: who gave way in it, and the slave that it was for.
    fn unfinished(&self) -> Option<(&str, &str)> {
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
        let (slave, _) = everybody().find(|(_, status)| {
            status.role == "SLAVE"
                && !status.gave_way
                && status.broker_id == holder
                && epoch_of(status).is_ok_and(|theirs| theirs <= epoch)
        })?;
        Some((gave_way, slave))
    }

    /// What the slave knows of its master, from asking it.
    fn known(&self) -> Option<&HaMaster> {
        self.candidate.following.as_ref()?.known.as_ref()
    }

    /// Where the old master is, or was.
    fn old_master(&self) -> Option<&str> {
        let old = self
            .gave_way()
            .or_else(|| self.others.iter().find(|other| other.id == 0));
        old.map(|old| old.address.as_str())
            .or_else(|| self.candidate.following.as_ref()?.master.as_deref())
    }

    /// The master that has to be drained and fenced; none, if it does not answer or is fenced already.
    fn living_master(&self) -> Result<Option<&Replica>, Failure> {
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
        let follows = self.candidate.following.as_ref();
        if master.is_none()
            && let Some(follows) = follows.filter(|follows| follows.is_following)
        {
            let silent = follows.heard_millis_ago;
            let answered = |other: &Replica| {
                other.answer.is_ok() && follows.master.as_ref() == Some(&other.address)
            };
            if (0..ALIVE_MS).contains(&silent) && !self.others.iter().any(answered) {
                return Err(Failure::Said(format!(
                    "the master at {} does not answer here, but {} heard it {silent} ms ago: it is alive. Stop it, or promote from where it can be reached",
                    follows.master.as_deref().unwrap_or("?"),
                    self.address
                )));
            }
        }
        Ok(master)
    }

    fn next_epoch(&self) -> Result<Epoch, Failure> {
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
    fn role(&self, session: &Session<'_>) -> Result<String, Failure> {
        const ROLES: [&str; 2] = ["ASYNC_MASTER", "SYNC_MASTER"];
        if self.candidate.is_fenced {
            let own = &self.candidate.role;
            return match session.arguments.text('r') {
                Some(role) if role != own => Err(Failure::Said(format!(
                    "--role {role}: the configuration of {} says {own}, which counts",
                    self.address
                ))),
                _ => Ok(own.clone()),
            };
        }
        if let Some(role) = session.arguments.text('r') {
            return match ROLES.iter().find(|known| **known == role) {
                Some(role) => Ok((*role).to_owned()),
                None => Err(Failure::Said(format!(
                    "--role {role}: it is ASYNC_MASTER or SYNC_MASTER"
                ))),
            };
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
    fn situation(
        &self,
        session: &Session<'_>,
        master: Option<&Replica>,
    ) -> Result<Situation, Failure> {
        let end = |replica: &Replica| replica.answer.as_ref().ok().map(|status| status.max_offset);
        let (others, silent): (Vec<_>, Vec<_>) = self.slaves().partition(|slave| vouches(slave));
        let others = others.into_iter();
        let others = others.filter_map(|slave| Some((slave.address.clone(), end(slave)?)));
        let slaves = match session.arguments.text('s') {
            Some(_) => Some(session.arguments.number::<usize>('s', 0)?),
            None => None,
        };
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
            master: match is_drained.or(self.unfinished_end()) {
                Some(end) => OldMaster::Drained { end },
                None => OldMaster::Silent,
            },
            known: Known {
                is_sync: known.is_none_or(|known| known.role != "ASYNC_MASTER"),
                in_sync_replicas: session.arguments.number('k', 1)?,
                slaves,
                acknowledged: known.map_or(0, |known| known.slave_ids.len()) + nameless,
                end: known.map(|known| known.max_offset),
                followed: has_followed(&self.candidate),
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
    fn successor(&self) -> Option<&Replica> {
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

/// Whether a slave's log was the beginning of its master's when it looked last, with all that it had acknowledged.
fn has_followed(status: &HaStatus) -> bool {
    let follows = status.following.as_ref();
    match follows.and_then(|follows| follows.known.as_ref()) {
        Some(known) => known.followed,
        // Apache's master does not say what is kept of it.
        None => follows.is_some_and(|follows| follows.heard_millis_ago != -1),
    }
}

/// Whether what another slave has counts.
fn vouches(slave: &Replica) -> bool {
    slave.answer.as_ref().is_ok_and(has_followed)
}

fn epoch_of(status: &HaStatus) -> Result<Epoch, Failure> {
    let text = status.epoch.as_deref().unwrap_or("0.0");
    text.parse()
        .map_err(|error| Failure::Said(format!("{}: {error}", status.broker_name)))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn accepted(session: &Session<'_>) -> Result<Accepted, Failure> {
    let Some(text) = session.arguments.text('l') else {
        return Ok(Accepted::Bytes(0));
    };
    Accepted::parse(text).ok_or_else(|| {
        Failure::Said(format!(
            "--accept-loss {text}: it is a number of bytes of the log, or all"
        ))
    })
}

/// Stops a promotion that could lose more than may be lost.
fn judge(fleet: &Fleet, loss: &Loss, accepted: Accepted) -> Result<(), Failure> {
    if accepted.covers(loss) {
        return Ok(());
    }
    let gave_way = fleet.old_master().filter(|_| fleet.gave_way().is_some());
    let (how, accept) = match (loss, gave_way) {
        (Loss::Bytes { count, .. }, Some(old)) => (
            format!("promote {old} instead, which was the master, or accept it"),
            count.to_string(),
        ),
        (Loss::Bytes { at, count }, _) if at != "the old master" => (
            format!("promote {at} instead, or accept it"),
            count.to_string(),
        ),
        (Loss::Bytes { count, .. }, _) => ("it has to be accepted".to_owned(), count.to_string()),
        _ => (
            "it has to be said, or accepted".to_owned(),
            "all".to_owned(),
        ),
    };
    let unfinished = fleet.unfinished().map(|(gave_way, slave)| {
        format!("; {gave_way} was the master and gave way to {slave}, which is none yet: promote {slave} again")
    });
    Err(Failure::Said(format!(
        "{} is not promoted, for acknowledged messages could be lost: {}; {how} (--accept-loss {accept}){}",
        fleet.address,
        said(loss),
        unfinished.unwrap_or_default()
    )))
}

fn said(loss: &Loss) -> String {
    match loss {
        Loss::Nothing => "it has all that was acknowledged with its copies".to_owned(),
        Loss::Bytes { count, at } => format!("it lacks {count} bytes of the log that {at} has"),
        Loss::Unknown(why) => format!("what it lacks cannot be told, since {why}"),
    }
}

/// A line that is there when the next step begins, whoever reads.
fn step(session: &mut Session<'_>, text: impl std::fmt::Display) -> Result<(), Failure> {
    session.line(text)?;
    session.flush()
}

/// Waits until the broker has started again in its new part.
async fn serves(
    session: &Session<'_>,
    address: &str,
    role: &str,
    epoch: Epoch,
) -> Result<HaStatus, Failure> {
    let (deadline, epoch) = (Instant::now() + SETTLES, epoch.to_string());
    loop {
        let answer = session.client.ha_status(address).await;
        match answer {
            Ok(status) if status.role == role && status.epoch.as_deref() == Some(&epoch) => {
                return Ok(status);
            }
            answer if deadline <= Instant::now() => {
                let said = answer.map_or_else(|error| error.to_string(), |status| status.role);
                return Err(Failure::Said(format!(
                    "{address} has noted that it is {role} in promotion {epoch}, and does not serve as such after {} s: {said}",
                    SETTLES.as_secs()
                )));
            }
            _ => sleep(LOOK).await,
        }
    }
}

/// Waits until clients are sent to the new master.
async fn routed(session: &Session<'_>, fleet: &Fleet) -> Result<(), Failure> {
    let deadline = Instant::now() + SETTLES;
    loop {
        let info = session.client.cluster_info().await?;
        let data = info.broker_addr_table.get(&fleet.candidate.broker_name);
        let master = data.and_then(|data| data.broker_addrs.get(&0));
        if master == Some(&fleet.address) {
            return Ok(());
        }
        if deadline <= Instant::now() {
            let master = master.map_or("nobody", String::as_str);
            return Err(Failure::Said(format!(
                "it is the master, and the name server names {master} as the master of {} still",
                fleet.candidate.broker_name
            )));
        }
        sleep(LOOK).await;
    }
}

/// rejoin: a master that was replaced becomes a slave of the new one.
pub async fn rejoin(session: &mut Session<'_>) -> Result<(), Failure> {
    let address = session.arguments.required('b')?.to_owned();
    let starts = Instant::now() + STARTS;
    let status = answered(starts, async || session.client.ha_status(&address).await).await;
    let status = asked(&address, status)?;
    let name = &status.broker_name;
    if status.role == "SLAVE" && !status.is_fenced {
        let id = status.broker_id;
        step(
            session,
            format_args!("{address} is slave {id} of {name} already"),
        )?;
        return follows(session, &address).await;
    }
    let info = session.client.cluster_info().await?;
    let data = info.broker_addr_table.get(name);
    let addresses = data
        .map(|data| data.broker_addrs.clone())
        .unwrap_or_default();
    let master = addresses.get(&0).filter(|master| **master != address);
    let Some(master) = master else {
        return Err(Failure::Said(format!(
            "the name server knows no other master of {name} that {address}, which is {}, could follow: promote a slave first",
            if status.is_fenced {
                "fenced"
            } else {
                &status.role
            }
        )));
    };
    let told = asked(master, session.client.ha_status(master).await)?;
    let epoch = epoch_of(&told)?;
    let id = match session.arguments.text('i') {
        Some(_) => session.arguments.number::<i64>('i', 0)?,
        None if status.configured_id != 0 => status.configured_id,
        None => {
            let slaves = told.slaves.iter().map(|slave| slave.id);
            let registered = addresses.iter().filter(|(_, known)| **known != address);
            let taken = slaves.chain(registered.map(|(id, _)| *id)).collect();
            free_id(&taken, epoch)
        }
    };
    let starts = Instant::now() + STARTS;
    let seated = answered(starts, async || {
        session.client.rejoin(&address, epoch, id).await
    })
    .await;
    let seated = asked(&address, seated)?;
    let end = seated.max_offset;
    step(
        session,
        format_args!(
            "{address} is slave {id} of {name}; its log ends at {end}, what the master has not goes to quarantine/"
        ),
    )?;
    serves(session, &address, "SLAVE", epoch).await?;
    follows(session, &address).await
}

/// Asks again for a moment where nobody answers: a broker that has just been fenced starts again in its process.
async fn answered<T>(
    deadline: Instant,
    ask: impl AsyncFn() -> Result<T, Error>,
) -> Result<T, Error> {
    loop {
        let answer = ask().await;
        let said = match &answer {
            Ok(_) | Err(Error::BadAnswer { .. }) => true,
            Err(error) => error.code().is_some(),
        };
        if said || deadline <= Instant::now() {
            return answer;
        }
        sleep(LOOK).await;
    }
}

/// Waits until a slave follows its master.
async fn follows(session: &mut Session<'_>, address: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + SETTLES;
    loop {
        // Between a cut and the next start it does not answer.
        let status = session.client.ha_status(address).await;
        let follows = status.ok().and_then(|status| status.following);
        match follows {
            Some(follows) if follows.is_following => {
                let master = follows.master.unwrap_or_default();
                return step(
                    session,
                    format_args!("it follows {master} ({})", follows.wire),
                );
            }
            follows if deadline <= Instant::now() => {
                let why = follows.and_then(|follows| follows.why).unwrap_or_default();
                return Err(Failure::Said(format!(
                    "it follows nobody yet: {why}; its log and mqadmin haStatus -b {address} show more"
                )));
            }
            _ => sleep(LOOK).await,
        }
    }
}

/// The first id that nobody has, the new master's former one aside: its configuration may still say that one.
fn free_id(taken: &BTreeSet<i64>, epoch: Epoch) -> i64 {
    let holder = i64::try_from(epoch.holder).unwrap_or_default();
    let is_free = |id: &i64| *id != holder && !taken.contains(id);
    (1..).find(is_free).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_master_takes_an_id_that_nobody_has_or_had() {
        let taken = [-1, 0, 2].into_iter().collect();
        assert_eq!(free_id(&taken, Epoch::NONE.next(1)), 3);
        assert_eq!(free_id(&taken, Epoch::NONE.next(5)), 1);
    }
}
