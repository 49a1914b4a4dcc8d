//! Whether two slaves have copies of one log: how long their logs are says something only then.
//!
//! A master that was without power may have lost its last messages and gone on with others: who did not follow it since
//! has another log, and had followed it when it asked last.

use bytes::Bytes;
use gantry_client::Error;
use gantry_message::LogOffset;
use gantry_wire::{bodies::HaStatus, codes::response};

use super::fleet::{Fleet, vouches};
use crate::{promotion::Log, session::Session};

fn log_of(status: &HaStatus) -> Log<'_> {
    Log {
        min: status.min_offset,
        end: status.max_offset,
        last_record: status.last_record,
        made_up: &status.made_up,
    }
}

/// Who of the slaves that vouch for their logs has another one than the candidate. Who cannot be asked for a record is not
/// named: it is asked again before it counts.
pub(super) async fn strangers(session: &Session<'_>, fleet: &Fleet) -> Vec<String> {
    let ours = (&*fleet.address, &fleet.candidate);
    let mut strangers = Vec::new();
    for slave in fleet.slaves().filter(|slave| vouches(slave)) {
        let Ok(status) = &slave.answer else { continue };
        if let Ok(false) = are_one(session, ours, (&slave.address, status)).await {
            strangers.push(slave.address.clone());
        }
    }
    strangers
}

/// Whether two logs have nothing in common, though both have something.
pub(super) async fn are_strangers(
    session: &Session<'_>,
    (ours, our_status): (&str, &HaStatus),
    (theirs, their_status): (&str, &HaStatus),
) -> Result<bool, Error> {
    let Some(at) = log_of(our_status).first_place(log_of(their_status)) else {
        return Ok(false);
    };
    Ok(record(session, ours, at).await? != record(session, theirs, at).await?)
}

/// Whether one log is the beginning of the other, from asking both for single records; who they are, and what they said of
/// their logs.
pub(super) async fn are_one(
    session: &Session<'_>,
    (ours, our_status): (&str, &HaStatus),
    (theirs, their_status): (&str, &HaStatus),
) -> Result<bool, Error> {
    for at in log_of(our_status).places(log_of(their_status)) {
        if record(session, ours, at).await? != record(session, theirs, at).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The record at a place; there is none where recovery closed a segment.
async fn record(session: &Session<'_>, address: &str, at: i64) -> Result<Option<Bytes>, Error> {
    let at = LogOffset(u64::try_from(at).unwrap_or_default());
    match session.client.view_message(address, at).await {
        Ok(record) => Ok(Some(record)),
        Err(Error::Refused(refused)) if response::is_no_record(refused.code, &refused.remark) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
