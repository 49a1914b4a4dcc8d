//! promote and rejoin: Gantry's own, for who takes the place of a master, and what becomes of the old one.
//!
//! The order is what makes it safe (decision 30). While the old master can be asked, it holds on, the slave gets the rest,
//! and then it is fenced, durably, if its log still ends where the slave's does: nobody else can have changed anything in
//! between, however long this took. Only then is the slave promoted. If the master cannot be asked, the other slaves
//! follow it no more before it counts what they have. Every request names what was seen, and is refused if that is not so
//! any more; whoever stops between two of them leaves no second master, at worst none, and promotes again.

mod fleet;
mod logs;
mod rejoin;
mod terms;

use std::{io::ErrorKind, time::Duration};

use gantry_client::Error;
use gantry_message::Epoch;
use gantry_wire::{bodies::HaStatus, codes::response};
use tokio::time::{Instant, sleep};

use super::replication::{LOST, asked};
use crate::{
    promotion::{Accepted, Loss, OldMaster},
    session::{Failure, Session},
};
use fleet::{Fleet, Replica, epoch_of, vouches};
pub use rejoin::rejoin;
use terms::Terms;

/// How often something that has to come is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long a broker may take to start again within its process, and a name server to hear of it.
const SETTLES: Duration = Duration::from_secs(60);
/// How long nobody answers at most at its port meanwhile, if all is well.
const STARTS: Duration = Duration::from_secs(5);
/// So long a master holds on each time that it is asked to: whoever promotes may be gone.
const HOLD_MS: i64 = 5_000;

/// What a promotion is to be.
struct Wanted {
    epoch: Epoch,
    role: String,
    terms: Terms,
}

/// promote: a slave becomes the master of its name, unless that could lose what was acknowledged.
pub async fn promote(session: &mut Session<'_>) -> Result<(), Failure> {
    let address = session.arguments.required('b')?.to_owned();
    let terms = Terms::read(session)?;
    let ask = async || session.client.ha_status(&address).await;
    let candidate = answered(Instant::now() + STARTS, ask).await;
    let candidate = asked(&address, candidate)?;
    if candidate.role != "SLAVE" && !candidate.is_fenced {
        let HaStatus {
            role, broker_name, ..
        } = &candidate;
        step(
            session,
            format_args!("{address} is {role} of {broker_name} already"),
        )?;
        // Whoever promoted it may not have got as far as that.
        return tell_everybody(session, &address, &candidate).await;
    }
    let mut fleet = Fleet::look(session, (address, candidate)).await?;
    fleet.hear_out_master(session).await?;
    let epoch = fleet.next_epoch()?;
    let master = fleet.living_master()?;
    if let Some(master) = master.filter(|_| fleet.candidate.gave_way) {
        return Err(Failure::Said(format!(
            "{} was replaced, and {} is the master since: mqadmin rejoin -b {0} first",
            fleet.address, master.address
        )));
    }
    let wanted = Wanted {
        role: fleet.role(&terms)?,
        epoch,
        terms,
    };
    let mut now = fleet.situation(&wanted.terms, master)?;
    // A living master that has more is waited for, not lost.
    if master.is_none() {
        now.strangers = logs::strangers(session, &fleet).await;
        judge(&fleet, &now.loss(), wanted.terms.accepted)?;
    }
    let Wanted { epoch, role, .. } = &wanted;
    let could = session.client.check_promotion(&fleet.address, *epoch, role);
    asked(&fleet.address, could.await)?;
    if session.arguments.has('d') {
        if let Some(master) = master
            && let Some(why) = not_following(&fleet.candidate)
        {
            return Err(Failure::Said(format!(
                "{} could not take the place of {} now: {why}",
                fleet.address, master.address
            )));
        }
        let what = match master {
            Some(master) => format!("{} would be drained and fenced before", master.address),
            None => said(&fleet, &now.loss()),
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
            said(&fleet, &loss),
            promoted.min_offset
        ),
    )?;
    if master.is_some() {
        tell_slaves(session, &fleet, *epoch).await?;
    }
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
    let patience = wanted.terms.patience;
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
        let fenced = session.client.fence(address, wanted.epoch, seen, end).await;
        match fenced {
            // Its answer may be lost, or late.
            Err(error) if error.code().is_none() => {
                let ask = async || session.client.ha_status(address).await;
                match answered(Instant::now() + STARTS, ask).await {
                    Ok(status) if status.gave_way && epoch_of(&status)? == wanted.epoch => {
                        Ok(status.max_offset)
                    }
                    _ => asked(address, Err(error)),
                }
            }
            fenced => asked(address, fenced).map(|_| end),
        }
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
        Ok(status) if status.is_fenced => format!(
            "{address} is fenced all the same: look with haStatus, and promote again if there is no master"
        ),
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
            Ok(status) if status.role != "SLAVE" => {
                return Err(Failure::Said(format!(
                    "{} is {} by now: somebody else promotes it",
                    fleet.address, status.role
                )));
            }
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

/// Why a slave does not follow its master.
fn not_following(status: &HaStatus) -> Option<String> {
    let following = status.following.as_ref();
    if following.is_some_and(|following| following.is_following) {
        return None;
    }
    let why = following.and_then(|following| following.why.as_ref());
    let why = why.map(|why| format!(": {why}"));
    Some(format!(
        "it does not follow the master{}",
        why.unwrap_or_default()
    ))
}

/// What a slave lacks still of a master whose log ends there and that has held on for so many milliseconds.
fn lacks(status: &HaStatus, end: i64, held: i64) -> Option<String> {
    // Another log may be as long: who follows the master has its log.
    if let Some(why) = not_following(status) {
        return Some(why);
    }
    if status.max_offset < end {
        return Some(format!("its log ends at {}", status.max_offset));
    }
    let following = status.following.as_ref();
    match following.map_or(-1, |following| following.copied_millis_ago) {
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
    let mut now = fleet.situation(&wanted.terms, None)?;
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
    // As they answer now, and not as they did before.
    let (told, silent) = detach_slaves(session, fleet, wanted.epoch).await?;
    (now.others, now.silent) = (Vec::new(), silent);
    // What it got meanwhile counts, too.
    let candidate = session.client.ha_status(&fleet.address).await?;
    now.candidate = candidate.max_offset;
    for (address, end) in told {
        // Their logs grow no more.
        let compared = async {
            let status = session.client.ha_status(&address).await?;
            logs::are_one(session, (&fleet.address, &candidate), (&address, &status)).await
        };
        match compared.await {
            Ok(is_one) => {
                if !is_one {
                    now.strangers.push(address.clone());
                }
                now.others.push((address, end));
            }
            Err(error) => {
                let line = format!("the log of {address} cannot be compared: {error}");
                step(session, line)?;
                now.silent.push(address);
            }
        }
    }
    let loss = now.loss();
    judge(fleet, &loss, wanted.terms.accepted)?;
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

/// Behind a promotion in which nobody had to be counted: the other slaves would hear of it soon, and who does not answer
/// holds nobody up.
async fn tell_slaves(
    session: &mut Session<'_>,
    fleet: &Fleet,
    epoch: Epoch,
) -> Result<(), Failure> {
    for Replica { id, address, .. } in fleet.slaves() {
        tell(session, (*id, address), epoch).await?;
    }
    Ok(())
}

/// The same of a promotion that somebody else began.
async fn tell_everybody(
    session: &mut Session<'_>,
    master: &str,
    status: &HaStatus,
) -> Result<(), Failure> {
    let epoch = epoch_of(status)?;
    if epoch == Epoch::NONE {
        return Ok(());
    }
    let info = session.client.cluster_info().await?;
    let known = info.broker_addr_table.get(&status.broker_name);
    let others = known
        .into_iter()
        .flat_map(|data| &data.broker_addrs)
        .filter(|(id, address)| **id != 0 && *address != master);
    for (id, address) in others {
        tell(session, (*id, address), epoch).await?;
    }
    Ok(())
}

async fn tell(
    session: &mut Session<'_>,
    (id, address): (i64, &str),
    epoch: Epoch,
) -> Result<(), Failure> {
    let line = match session.client.tell(address, epoch).await {
        Ok(_) => format!("{address}, slave {id}, is told of the promotion"),
        Err(error) => {
            format!("{address}, slave {id}, cannot be told, and hears of it later: {error}")
        }
    };
    step(session, line)
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
    let in_sync = promoted.slaves.iter().filter(|slave| slave.in_sync).count();
    let needed = usize::try_from(*in_sync_replicas).unwrap_or_default();
    if role == "SYNC_MASTER" && slave_ack_policy == "refuse" && in_sync < needed {
        step(
            session,
            format_args!(
                "it takes messages when {in_sync_replicas} of its slaves follow it (slaveAckPolicy=refuse)"
            ),
        )?;
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

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Stops a promotion that could lose more than may be lost.
fn judge(fleet: &Fleet, loss: &Loss, accepted: Accepted) -> Result<(), Failure> {
    if accepted.covers(loss) {
        return Ok(());
    }
    let (how, accept) = match (loss, fleet.gave_way()) {
        (Loss::Bytes { count, .. }, Some(old)) => (
            format!(
                "promote {} instead, which was the master, or accept it",
                old.address
            ),
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
    let unfinished = fleet.unfinished().map(|words| format!("; {words}"));
    Err(Failure::Said(format!(
        "{} is not promoted, for acknowledged messages could be lost: {}; {how} (--accept-loss {accept}){}",
        fleet.address,
        said(fleet, loss),
        unfinished.unwrap_or_default()
    )))
}

/// What would be lost, in words; how much of what it had the slave has lost before is a part of it.
fn said(fleet: &Fleet, loss: &Loss) -> String {
    match loss {
        Loss::Nothing => match fleet.known().map_or(0, |known| known.lost_bytes) {
            0 => "it has all that was acknowledged with its copies".to_owned(),
            lost => format!("it has all that there is, but for {lost} bytes that it had: {LOST}"),
        },
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
        if master.is_some()
            && (master == Some(&fleet.address) || master == fleet.announced.as_ref())
        {
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

/// Asks again for a moment where nobody answers: a broker that has just been fenced starts again in its process.
async fn answered<T>(
    deadline: Instant,
    ask: impl AsyncFn() -> Result<T, Error>,
) -> Result<T, Error> {
    loop {
        let answer = ask().await;
        let said = match &answer {
            Ok(_) | Err(Error::BadAnswer { .. }) => true,
            // No address at all.
            Err(Error::Connect { reason, .. }) if reason.kind() == ErrorKind::InvalidInput => true,
            Err(error) => error.code().is_some(),
        };
        if said || deadline <= Instant::now() {
            return answer;
        }
        sleep(LOOK).await;
    }
}
