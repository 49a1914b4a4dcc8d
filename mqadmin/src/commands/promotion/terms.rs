//! What the administrator says with a promotion: read before anybody is asked.

use std::time::Duration;

use crate::{
    promotion::Accepted,
    session::{Failure, Session},
};

/// A name has no more brokers.
const REPLICAS_MAX: usize = 1_000;
/// The longest that a slave is waited for.
const PATIENCE_MAX: u64 = 600;

/// Roles that a slave can get.
pub(super) const ROLES: [&str; 2] = ["ASYNC_MASTER", "SYNC_MASTER"];

pub(super) struct Terms {
    /// What the new master is to be, if that is said.
    pub(super) role: Option<&'static str>,
    pub(super) accepted: Accepted,
    /// How long the slave may take to get the rest.
    pub(super) patience: Duration,
    /// How many slaves the old master had, if that is said.
    pub(super) slaves: Option<usize>,
    /// How many of them it waited for.
    pub(super) in_sync_replicas: usize,
}

impl Terms {
    pub(super) fn read(session: &Session<'_>) -> Result<Self, Failure> {
        let arguments = &session.arguments;
        let slaves = match arguments.text('s') {
            Some(_) => Some(counted(session, ('s', "slaves", 1))?),
            None => None,
        };
        let in_sync_replicas = counted(session, ('k', "inSyncReplicas", 1))?;
        if let Some(slaves) = slaves.filter(|slaves| *slaves < in_sync_replicas) {
            return Err(Failure::Said(format!(
                "--inSyncReplicas {in_sync_replicas}: the old master had {slaves} slaves (--slaves)"
            )));
        }
        let seconds = arguments.number('w', 30)?;
        if !(1..=PATIENCE_MAX).contains(&seconds) {
            return Err(Failure::Said(format!(
                "--wait {seconds}: it is 1 to {PATIENCE_MAX} s"
            )));
        }
        Ok(Self {
            role: arguments.text('r').map(role).transpose()?,
            accepted: arguments
                .text('l')
                .map_or(Ok(Accepted::Bytes(0)), accepted)?,
            patience: Duration::from_secs(seconds),
            slaves,
            in_sync_replicas,
        })
    }
}

fn role(text: &str) -> Result<&'static str, Failure> {
    let known = ROLES.into_iter().find(|known| *known == text);
    known.ok_or_else(|| Failure::Said(format!("--role {text}: it is ASYNC_MASTER or SYNC_MASTER")))
}

fn accepted(text: &str) -> Result<Accepted, Failure> {
    Accepted::parse(text).ok_or_else(|| {
        Failure::Said(format!(
            "--accept-loss {text}: it is a number of bytes of the log, or all"
        ))
    })
}

/// A number of brokers of one name.
fn counted(
    session: &Session<'_>,
    (option, name, default): (char, &str, usize),
) -> Result<usize, Failure> {
    let count = session.arguments.number(option, default)?;
    if !(1..=REPLICAS_MAX).contains(&count) {
        return Err(Failure::Said(format!(
            "--{name} {count}: it is 1 to {REPLICAS_MAX}"
        )));
    }
    Ok(count)
}
