//! rejoin: what becomes of a master that was replaced.

use std::collections::{BTreeMap, BTreeSet};

use gantry_message::Epoch;
use tokio::time::{Instant, sleep};

use super::{LOOK, SETTLES, STARTS, answered, asked, fleet::epoch_of, logs, serves, step};
use crate::session::{Failure, Session};

/// rejoin: a master that was replaced becomes a slave of the new one.
pub async fn rejoin(session: &mut Session<'_>) -> Result<(), Failure> {
    let address = session.arguments.required('b')?.to_owned();
    let starts = Instant::now() + STARTS;
    let status = answered(starts, async || session.client.ha_status(&address).await).await;
    let status = asked(&address, status)?;
    let name = &status.broker_name;
    let info = session.client.cluster_info().await?;
    let data = info.broker_addr_table.get(name);
    let addresses = data
        .map(|data| data.broker_addrs.clone())
        .unwrap_or_default();
    let master = addresses.get(&0).filter(|master| **master != address);
    if status.gave_way && master.is_none() {
        let epoch = epoch_of(&status)?;
        return Err(Failure::Said(format!(
            "{address} was the master and gave way in promotion {epoch}, which is not finished: {}",
            successor(&addresses, epoch)
        )));
    }
    if status.role == "SLAVE" && !status.is_fenced {
        let id = status.broker_id;
        if session.arguments.has('i') && session.arguments.number::<i64>('i', 0)? != id {
            return Err(Failure::Said(format!(
                "{address} is slave {id} of {name} already, and keeps that id"
            )));
        }
        step(
            session,
            format_args!("{address} is slave {id} of {name} already"),
        )?;
        return follows(session, &address).await;
    }
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
    let strangers = logs::are_strangers(session, (&address, &status), (master, &told)).await;
    if asked(&address, strangers)? {
        return Err(Failure::Said(format!(
            "the log of {address} has nothing in common with that of {master}, and is not given up for it: if it is the one to \
             go, stop {address}, move its store away, start it, and rejoin it: it begins anew then"
        )));
    }
    let id = match session.arguments.text('i') {
        Some(_) => {
            let id = session.arguments.number::<i64>('i', 0)?;
            let others = addresses.iter().filter(|(_, known)| **known != address);
            let linked = told.slaves.iter().filter(|slave| slave.is_open);
            let taken = others
                .map(|(id, address)| (*id, address.as_str()))
                .chain(linked.map(|slave| (slave.id, slave.address.as_str())));
            may_have(id, epoch, taken).map_err(Failure::Said)?;
            id
        }
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

/// Who is to be promoted for a promotion to be finished.
fn successor(addresses: &BTreeMap<i64, String>, epoch: Epoch) -> String {
    let holder = i64::try_from(epoch.holder).unwrap_or_default();
    match addresses.get(&holder) {
        Some(slave) => format!("mqadmin promote -b {slave}"),
        None => format!("start the slave with brokerId {holder} and promote it"),
    }
}

/// Whether the replaced master may have an id that somebody wants for it; who has which.
fn may_have<'a>(
    id: i64,
    epoch: Epoch,
    mut taken: impl Iterator<Item = (i64, &'a str)>,
) -> Result<(), String> {
    if id < 1 {
        return Err(format!("-i {id}: the id of a slave is 1 or more"));
    }
    if i64::try_from(epoch.holder) == Ok(id) {
        return Err(format!(
            "-i {id}: the new master had it as a slave, and its configuration may say so still"
        ));
    }
    match taken.find(|(taken, _)| *taken == id) {
        Some((_, other)) => Err(format!("-i {id}: {other} has it")),
        None => Ok(()),
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
    fn who_was_to_be_the_master_is_named() {
        let addresses = BTreeMap::from([(2, "10.0.0.2:10911".to_owned())]);
        let named = successor(&addresses, Epoch::NONE.next(2));
        assert_eq!(named, "mqadmin promote -b 10.0.0.2:10911");
        let gone = successor(&addresses, Epoch::NONE.next(3));
        assert!(gone.contains("brokerId 3"), "{gone}");
    }

    #[test]
    fn an_id_that_somebody_has_or_had_is_refused() {
        let taken = || [(2, "10.0.0.2:10911")].into_iter();
        let epoch = Epoch::NONE.next(1);
        assert_eq!(may_have(3, epoch, taken()), Ok(()));
        for (id, words) in [
            (0, "1 or more"),
            (-1, "1 or more"),
            (1, "new master"),
            (2, "10.0.0.2:10911 has it"),
        ] {
            let refused = may_have(id, epoch, taken()).unwrap_err();
            assert!(refused.contains(words), "{id}: {refused}");
        }
    }

    #[test]
    fn a_replaced_master_takes_an_id_that_nobody_has_or_had() {
        let taken = [-1, 0, 2].into_iter().collect();
        assert_eq!(free_id(&taken, Epoch::NONE.next(1)), 3);
        assert_eq!(free_id(&taken, Epoch::NONE.next(5)), 1);
    }
}
