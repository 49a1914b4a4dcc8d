//! haStatus, setReadOnly, setReadWrite: Gantry's own, for brokers and their slaves.

use gantry_client::Error;
use gantry_wire::{bodies::HaStatus, codes::response};

use super::targets;
use crate::promotion::has_followed;
use crate::session::{Failure, Session};

/// Why a slave has less than it had.
pub(super) const LOST: &str = "its master came back with less, and what that had not went to quarantine/, or its store is an older one";

/// haStatus: a broker's slaves and how far each is, or a slave's master; of one broker, of a cluster's, or of all.
pub async fn status(session: &mut Session<'_>) -> Result<(), Failure> {
    if let Some(address) = session.arguments.text('b').map(str::to_owned) {
        let status = asked(&address, session.client.ha_status(&address).await)?;
        return print(session, &address, &status);
    }
    let cluster = session.arguments.text('c').unwrap_or_default().to_owned();
    let brokers = targets::members_or_all(session, &cluster).await?;
    if brokers.is_empty() {
        return Err(Failure::Said(targets::NOT_FOUND.to_owned()));
    }
    for address in brokers {
        match asked(&address, session.client.ha_status(&address).await) {
            Ok(status) => print(session, &address, &status)?,
            Err(error) => session.report(error),
        }
    }
    Ok(())
}

/// setReadOnly: a broker takes no messages until setReadWrite, whatever is restarted.
pub async fn read_only(session: &mut Session<'_>) -> Result<(), Failure> {
    let address = session.arguments.required('b')?.to_owned();
    let end = asked(&address, session.client.set_read_only(&address, true).await)?;
    session.line(format_args!(
        "{address} takes no messages; its log ends at {end}"
    ))
}

/// setReadWrite: it takes messages again.
pub async fn read_write(session: &mut Session<'_>) -> Result<(), Failure> {
    let address = session.arguments.required('b')?.to_owned();
    asked(
        &address,
        session.client.set_read_only(&address, false).await,
    )?;
    let status = asked(&address, session.client.ha_status(&address).await)?;
    match status.not_writable {
        Some(why) => Err(Failure::Said(format!(
            "{address} is not read only any more, and takes no messages all the same: {why}"
        ))),
        None if status.role == "SLAVE" => session.line(format_args!(
            "{address} is not read only any more; it is a slave, which takes no messages"
        )),
        None => session.line(format_args!("{address} takes messages")),
    }
}

/// Says what it means that a broker does not know the question.
pub(super) fn asked<T>(address: &str, answer: Result<T, Error>) -> Result<T, Failure> {
    match answer {
        Err(error) if error.code() == Some(response::REQUEST_CODE_NOT_SUPPORTED) => {
            Err(Failure::Said(format!(
                "{address} is no Gantry broker, or an older one: it does not know this request ({error})"
            )))
        }
        answer => Ok(answer?),
    }
}

fn print(session: &mut Session<'_>, address: &str, status: &HaStatus) -> Result<(), Failure> {
    let HaStatus {
        broker_id,
        broker_name,
        role,
        min_offset,
        max_offset,
        ..
    } = status;
    let part = if status.is_fenced { "FENCED" } else { role };
    let promotion = match status.epoch.as_deref() {
        None | Some("0.0") => String::new(),
        Some(epoch) => format!(", promotion {epoch}"),
    };
    session.line(format_args!(
        "{broker_name} {broker_id} {address} {part}{promotion}, log {min_offset} to {max_offset}"
    ))?;
    if status.gave_way {
        let epoch = status.epoch.as_deref().unwrap_or_default();
        session.line(format_args!(
            "  was the master until promotion {epoch}, and has not met the master of that one"
        ))?;
    }
    if let Some(why) = &status.not_writable {
        session.line(format_args!("  takes no messages: {why}"))?;
    }
    if let Some(follows) = &status.following {
        let master = follows.master.as_deref().unwrap_or("its master");
        match &follows.why {
            None => session.line(format_args!(
                "  follows {master} ({}), heard {} ms ago",
                follows.wire, follows.heard_millis_ago
            ))?,
            Some(why) => session.line(format_args!("  does not follow {master}: {why}"))?,
        }
        if let Some(lost) = follows
            .known
            .as_ref()
            .map(|known| known.lost_bytes)
            .filter(|lost| 0 < *lost)
        {
            session.line(format_args!(
                "  lost {lost} bytes of its log that it had: {LOST}"
            ))?;
        }
        if !has_followed(follows) {
            session.line(
                "  does not count for a promotion: it did not follow its master when it asked last, or has lost its end since",
            )?;
        }
    } else if !status.is_fenced {
        let degraded = match status.degraded {
            true => ", DEGRADED: messages are acknowledged without copies",
            false => "",
        };
        session.line(format_args!(
            "  replicated to {}, inSyncReplicas {}, slaveAckPolicy {}{degraded}",
            status.replicated, status.in_sync_replicas, status.slave_ack_policy
        ))?;
        session.line(format_args!(
            "  {:<22} {:>4} {:<8} {:>16} {:>12} {:>10}  {}",
            "#Slave", "#Id", "#Wire", "#Position", "#Behind", "#BehindMs", "#InSync"
        ))?;
    }
    for slave in &status.slaves {
        let or_dash = |number: i64| match number {
            -1 => "-".to_owned(),
            number => number.to_string(),
        };
        let in_sync = match &slave.why {
            None => "yes".to_owned(),
            Some(why) => format!("no: {why} ({} s)", slave.since_millis / 1_000),
        };
        session.line(format_args!(
            "  {:<22} {:>4} {:<8} {:>16} {:>12} {:>10}  {in_sync}",
            slave.address,
            or_dash(slave.id),
            slave.wire,
            or_dash(slave.acknowledged),
            slave.behind_bytes,
            slave.behind_millis
        ))?;
    }
    Ok(())
}
