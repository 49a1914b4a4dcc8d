//! promote and rejoin: Gantry's own, for who takes the place of a master, and what becomes of the old one.
//!
//! The order is what makes it safe (decision 30). While the old master can be asked, it is drained, the slave gets the rest,
//! and only then is it fenced, durably, and the slave promoted. If it cannot, the other slaves promise first to follow it
//! no more, so that it can acknowledge nothing behind what they say they have. Each step is safe by itself: whoever stops
//! between two of them has no second master, at worst none, and promotes again.

use std::time::Duration;

use gantry_client::{Error, Seated};
use gantry_message::Epoch;
use gantry_wire::{
    bodies::{BrokerData, HaStatus},
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

/// promote: a slave becomes the master of its name, unless that could lose what was acknowledged.
pub async fn promote(session: &mut Session<'_>) -> Result<(), Failure> {
    let address = session.arguments.required('b')?.to_owned();
    let patience = Duration::from_secs(session.arguments.number('w', 30)?);
    let accepted = accepted(session)?;
    let fleet = Fleet::look(session, address).await?;
    let role = fleet.role(session)?;
    let slaves = match session.arguments.text('s') {
        Some(_) => Some(session.arguments.number::<usize>('s', 0)?),
        None => None,
    };
    let master = fleet.living_master()?;
    let epoch = fleet.next_epoch()?;
    // Nothing has been changed yet: most refusals come here.
    let before = fleet.situation(master, slaves);
    let loss = before.loss();
    // A living master that has more is waited for, not lost.
    if master.is_none() {
        judge(session, &loss, accepted)?;
    }
    if session.arguments.has('d') {
        return session.line(format_args!(
            "{} would be {role} of {} in promotion {epoch}; {}",
            fleet.address,
            fleet.candidate.broker_name,
            said(&loss)
        ));
    }
    let drained = match master {
        Some(master) => Some(drain(session, &fleet, master, patience).await?),
        None => None,
    };
    let outcome = finish(
        session,
        &fleet,
        drained.as_ref(),
        (epoch, &role, slaves),
        accepted,
    )
    .await;
    if let (Err(Undone::Before(_)), Some(drained)) = (&outcome, &drained) {
        drained.open(session).await;
    }
    match outcome {
        Ok(()) => Ok(()),
        Err(Undone::Before(failure)) => Err(failure),
        Err(Undone::Behind(failure)) => Err(Failure::Said(format!(
            "{failure}; {} has no master now: promote again",
            fleet.candidate.broker_name
        ))),
    }
}

/// Where a promotion stopped: before the old master was fenced, or behind that.
enum Undone {
    Before(Failure),
    Behind(Failure),
}

/// A master that takes no messages for the time of the promotion.
struct Drained<'a> {
    address: &'a str,
    end: i64,
    was_read_only: bool,
}

impl Drained<'_> {
    /// Gives back what draining took: it was not for long.
    async fn open(&self, session: &mut Session<'_>) {
        if self.was_read_only {
            return;
        }
        let deadline = Instant::now() + SETTLES;
        loop {
            match session.client.set_read_only(self.address, false).await {
                Ok(_) => return,
                // It may be starting again at this moment.
                Err(error) if Instant::now() < deadline && error.code().is_none() => {
                    sleep(LOOK).await
                }
                Err(error) => {
                    return session.report(format_args!(
                        "{} is read only still (mqadmin setReadWrite): {error}",
                        self.address
                    ));
                }
            }
        }
    }
}

async fn drain<'a>(
    session: &mut Session<'_>,
    fleet: &Fleet,
    master: &'a Replica,
    patience: Duration,
) -> Result<Drained<'a>, Failure> {
    let address = master.address.as_str();
    let was_read_only = matches!(&master.answer, Ok(status) if status.read_only);
    let end = asked(address, session.client.set_read_only(address, true).await)?;
    let drained = Drained {
        address,
        end,
        was_read_only,
    };
    session.line(format_args!(
        "{address}, the old master, takes no messages; its log ends at {end}"
    ))?;
    let deadline = Instant::now() + patience;
    loop {
        let status = session.client.ha_status(&fleet.address).await;
        let has = status.map(|status| status.max_offset);
        if matches!(has, Ok(has) if end <= has) {
            return Ok(drained);
        }
        if deadline <= Instant::now() {
            drained.open(session).await;
            let has = has.map_or_else(|error| error.to_string(), |has| format!("has {has}"));
            return Err(Failure::Said(format!(
                "{} did not get the end of the log within {} s ({has}): nothing is changed (--wait gives it longer)",
                fleet.address,
                patience.as_secs()
            )));
        }
        sleep(LOOK).await;
    }
}

async fn finish(
    session: &mut Session<'_>,
    fleet: &Fleet,
    drained: Option<&Drained<'_>>,
    (epoch, role, slaves): (Epoch, &str, Option<usize>),
    accepted: Accepted,
) -> Result<(), Undone> {
    let before = |error: Failure| Undone::Before(error);
    let name = &fleet.candidate.broker_name;
    let mut now = fleet.situation(None, slaves);
    (now.others, now.silent) = tell_slaves(session, fleet, epoch).await.map_err(before)?;
    // What it got meanwhile counts, too.
    let candidate = session.client.ha_status(&fleet.address).await;
    now.candidate = candidate.map_err(|error| before(error.into()))?.max_offset;
    if let Some(Drained { end, .. }) = drained {
        now.master = OldMaster::Drained { end: *end };
    }
    let loss = now.loss();
    judge(session, &loss, accepted).map_err(before)?;
    if let Some(drained) = drained {
        let told = session.client.tell_epoch(drained.address, epoch).await;
        let Seated { max_offset, .. } = told.map_err(|error| before(error.into()))?;
        session
            .line(format_args!(
                "{} is fenced; its log ends at {max_offset}",
                drained.address
            ))
            .map_err(before)?;
    }
    let promoted = async {
        let seated = session
            .client
            .promote(&fleet.address, epoch, role, now.candidate);
        asked(&fleet.address, seated.await)?;
        serves(session, &fleet.address, role, epoch).await?;
        session.line(format_args!(
            "{} is {role} of {name} since promotion {epoch}; {}",
            fleet.address,
            said(&loss)
        ))
    };
    promoted.await.map_err(Undone::Behind)?;
    if let Some(drained) = drained {
        drained.open(session).await;
    }
    let after = async {
        routed(session, fleet).await?;
        session.line(format_args!(
            "make its configuration say so: brokerRole={role} and brokerId=0; the old master becomes a slave by: mqadmin rejoin -b {}",
            drained.map_or("ITS-ADDRESS", |drained| drained.address)
        ))
    };
    if let Err(failure) = after.await {
        session.report(failure);
    }
    Ok(())
}

/// Tells the other slaves, which follow the old master no more from then on. Who has how much, and who does not say.
async fn tell_slaves(
    session: &mut Session<'_>,
    fleet: &Fleet,
    epoch: Epoch,
) -> Result<(Vec<(String, i64)>, Vec<String>), Failure> {
    let (mut told, mut silent) = (Vec::new(), Vec::new());
    for slave in fleet.slaves() {
        match session.client.tell_epoch(&slave.address, epoch).await {
            Ok(seated) => {
                session.line(format_args!(
                    "{}, slave {}, follows the old master no more; its log ends at {}",
                    slave.address, slave.id, seated.max_offset
                ))?;
                told.push((slave.address.clone(), seated.max_offset));
            }
            Err(error) => {
                session.line(format_args!(
                    "{}, slave {}, cannot be told: {error}",
                    slave.address, slave.id
                ))?;
                silent.push(slave.address.clone());
            }
        }
    }
    Ok((told, silent))
}

impl Fleet {
    /// Asks everybody of the slave's name.
    async fn look(session: &Session<'_>, address: String) -> Result<Self, Failure> {
        let candidate = asked(&address, session.client.ha_status(&address).await)?;
        let HaStatus {
            role, broker_name, ..
        } = &candidate;
        if role != "SLAVE" {
            let part = if candidate.is_fenced { "FENCED" } else { role };
            return Err(Failure::Said(format!(
                "{address} is {part} of {broker_name}; only a slave is promoted"
            )));
        }
        let info = session.client.cluster_info().await?;
        let known = info.broker_addr_table.get(broker_name);
        let mut addresses: Vec<(i64, String)> = known
            .into_iter()
            .flat_map(|BrokerData { broker_addrs, .. }| broker_addrs)
            .map(|(id, address)| (*id, address.clone()))
            .filter(|(id, _)| *id != candidate.broker_id)
            .collect();
        // A name server forgets a master that it does not hear; its slave does not.
        let followed = candidate.following.as_ref();
        if let Some(master) = followed.and_then(|follows| follows.master.clone())
            && addresses.iter().all(|(_, known)| *known != master)
        {
            addresses.push((0, master));
        }
        let mut others = Vec::new();
        for (id, address) in addresses {
            let answer = session.client.ha_status(&address).await;
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
        // Who is registered as a master and answers as a slave is one.
        self.others.iter().filter(|other| match &other.answer {
            Ok(status) => status.role == "SLAVE",
            Err(_) => other.id != 0,
        })
    }

    /// The master that has to be drained and fenced; none, if it does not answer or is fenced already.
    fn living_master(&self) -> Result<Option<&Replica>, Failure> {
        let mut masters = self.others.iter().filter(|other| {
            matches!(&other.answer, Ok(status) if status.role != "SLAVE" && !status.is_fenced)
        });
        let apache = self.others.iter().find(|other| {
            let code = other.answer.as_ref().err().and_then(Error::code);
            other.id == 0 && code == Some(response::REQUEST_CODE_NOT_SUPPORTED)
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
            // Housekeeping would end a link that is quiet for longer than the heartbeats of its master.
            if (0..ALIVE_MS).contains(&silent) {
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
            let text = status.epoch.as_deref().unwrap_or("0.0");
            let epoch: Epoch = text
                .parse()
                .map_err(|error| Failure::Said(format!("{}: {error}", status.broker_name)))?;
            newest = newest.max(epoch);
        }
        let id = u64::try_from(self.candidate.broker_id).unwrap_or_default();
        Ok(newest.next(id))
    }

    /// What the slave is to be: as told, else as its master was.
    fn role(&self, session: &Session<'_>) -> Result<String, Failure> {
        const ROLES: [&str; 2] = ["ASYNC_MASTER", "SYNC_MASTER"];
        if let Some(role) = session.arguments.text('r') {
            return match ROLES.iter().find(|known| **known == role) {
                Some(role) => Ok((*role).to_owned()),
                None => Err(Failure::Said(format!(
                    "--role {role}: it is ASYNC_MASTER or SYNC_MASTER"
                ))),
            };
        }
        let follows = self.candidate.following.as_ref();
        let known = follows.and_then(|follows| follows.known.as_ref());
        let known = known.map(|known| known.role.as_str());
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
    fn situation(&self, master: Option<&Replica>, slaves: Option<usize>) -> Situation {
        let end = |replica: &Replica| replica.answer.as_ref().ok().map(|status| status.max_offset);
        let others = self
            .slaves()
            .filter_map(|slave| Some((slave.address.clone(), end(slave)?)));
        let silent = self.slaves().filter(|slave| slave.answer.is_err());
        let follows = self.candidate.following.as_ref();
        let known = follows.and_then(|follows| follows.known.as_ref());
        let mut known = known.map(|known| Known {
            is_sync: known.role != "ASYNC_MASTER",
            in_sync_replicas: usize::try_from(known.in_sync_replicas).unwrap_or(1),
            slaves: known.slave_ids.len()
                + usize::try_from(known.nameless_slaves).unwrap_or_default(),
            end: known.max_offset,
            first_end: known.first_max_offset,
        });
        if let Some(slaves) = slaves {
            // The most careful reading of what is not known.
            let known = known.get_or_insert(Known {
                is_sync: true,
                in_sync_replicas: 1,
                slaves,
                end: 0,
                first_end: 0,
            });
            known.slaves = slaves;
        }
        Situation {
            candidate: self.candidate.max_offset,
            others: others.collect(),
            silent: silent.map(|slave| slave.address.clone()).collect(),
            master: match master.and_then(end).or_else(|| self.fenced_end()) {
                Some(end) => OldMaster::Drained { end },
                None => OldMaster::Silent,
            },
            known,
        }
    }
}

impl Fleet {
    /// Where the log of a master ends that was fenced by a promotion which nobody finished: for everybody else it has
    /// been the last one. Who knows of the promotion may have followed the master that it made.
    fn fenced_end(&self) -> Option<i64> {
        let epoch = |status: &HaStatus| status.epoch.as_deref()?.parse::<Epoch>().ok();
        let ours = epoch(&self.candidate)?;
        let statuses = self
            .others
            .iter()
            .filter_map(|other| other.answer.as_ref().ok());
        let mut fenced = statuses.filter(|status| status.is_fenced);
        fenced
            .find(|status| epoch(status).is_some_and(|theirs| ours < theirs))
            .map(|status| status.max_offset)
    }
}

/// A master says something at least every five seconds (haSendHeartbeatInterval).
const ALIVE_MS: i64 = 6_000;

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
fn judge(session: &Session<'_>, loss: &Loss, accepted: Accepted) -> Result<(), Failure> {
    if accepted.covers(loss) {
        return Ok(());
    }
    let how = match loss {
        Loss::Bytes { at, .. } if at != "the old master" => {
            format!("promote {at} instead, or accept it")
        }
        _ => "it has to be accepted".to_owned(),
    };
    let accept = match loss {
        Loss::Bytes { count, .. } => count.to_string(),
        _ => "all".to_owned(),
    };
    Err(Failure::Said(format!(
        "{} is not promoted, for acknowledged messages could be lost: {}; {how} (--accept-loss {accept})",
        session.arguments.text('b').unwrap_or_default(),
        said(loss)
    )))
}

fn said(loss: &Loss) -> String {
    match loss {
        Loss::Nothing => "nothing that is known of is lost".to_owned(),
        Loss::Bytes { count, at } => format!("it lacks {count} bytes of the log that {at} has"),
        Loss::Unknown(why) => format!("what it lacks cannot be told, since {why}"),
    }
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
                "the name server names {master} as the master of {} still",
                fleet.candidate.broker_name
            )));
        }
        sleep(LOOK).await;
    }
}

/// rejoin: a master that was replaced becomes a slave of the new one.
pub async fn rejoin(session: &mut Session<'_>) -> Result<(), Failure> {
    let address = session.arguments.required('b')?.to_owned();
    let status = asked(&address, session.client.ha_status(&address).await)?;
    let name = status.broker_name;
    let info = session.client.cluster_info().await?;
    let data = info.broker_addr_table.get(&name);
    let addresses = data
        .map(|data| data.broker_addrs.clone())
        .unwrap_or_default();
    let master = addresses.get(&0).filter(|master| **master != address);
    let Some(master) = master else {
        return Err(Failure::Said(format!(
            "the name server knows no other master of {name} that {address} could follow"
        )));
    };
    let told = asked(master, session.client.ha_status(master).await)?;
    let epoch: Epoch = told
        .epoch
        .as_deref()
        .unwrap_or("0.0")
        .parse()
        .map_err(|error| Failure::Said(format!("{master}: {error}")))?;
    let id = match session.arguments.text('i') {
        Some(_) => session.arguments.number::<i64>('i', 0)?,
        None => free_id(&addresses, &address, epoch),
    };
    let seated = asked(&address, session.client.rejoin(&address, epoch, id).await)?;
    session.line(format_args!(
        "{address} is slave {id} of {name}; its log ends at {}, what the master has not goes to quarantine/",
        seated.max_offset
    ))?;
    serves(session, &address, "SLAVE", epoch).await?;
    let deadline = Instant::now() + SETTLES;
    loop {
        // Between a cut and the next start it does not answer.
        let status = session.client.ha_status(&address).await;
        let follows = status.ok().and_then(|status| status.following);
        match follows {
            Some(follows) if follows.is_following => {
                let master = follows.master.unwrap_or_default();
                return session.line(format_args!("it follows {master} ({})", follows.wire));
            }
            follows if deadline <= Instant::now() => {
                let why = follows.and_then(|follows| follows.why).unwrap_or_default();
                return Err(Failure::Said(format!(
                    "it does not follow {master} yet: {why}; mqadmin haStatus -b {address} shows more"
                )));
            }
            _ => sleep(LOOK).await,
        }
    }
}

/// The id that the new master had before, else the first one that nobody has.
fn free_id(addresses: &std::collections::BTreeMap<i64, String>, own: &str, epoch: Epoch) -> i64 {
    let is_free = |id: &i64| addresses.get(id).is_none_or(|address| address == own);
    let holder = i64::try_from(epoch.holder).unwrap_or_default();
    Some(holder)
        .filter(|id| *id != 0 && is_free(id))
        .or_else(|| (1..).find(is_free))
        .unwrap_or(1)
}
