//! Promotions: a slave becomes the master (46004), whoever is told of it obeys (46005), a replaced master becomes a slave
//! (46006); before that, the old master holds on (46007). The order in which they are asked for is the tool's,
//! `mqadmin promote`; each is safe by itself.

use std::sync::Arc;
use std::time::Duration;

use gantry_message::{Epoch, LogOffset};
use gantry_net::Peer;
use gantry_replication::{Copies, Seat};
use gantry_store::Store;
use gantry_wire::headers::{Hold, HoldAnswer, Promote, Rejoin, SeatAnswer, TellEpoch};
use gantry_wire::{Request, Response};

use crate::refusal::Refusal;
use crate::seats::{HOLD_MAX, Seats, Seen};

/// The parts that promotions need.
pub struct SeatAdmin {
    /// What this broker is.
    pub seats: Arc<Seats>,
    /// Its log.
    pub store: Arc<Store>,
}

impl SeatAdmin {
    /// Serves 46004. Blocks: on disk before the answer.
    pub fn promote(&self, peer: &Peer, request: &Request) -> Result<Response, Refusal> {
        let header: Promote<'_> = request.header()?;
        let copies = match header.role {
            "ASYNC_MASTER" => Copies::Async,
            "SYNC_MASTER" => Copies::Sync,
            other => {
                return Err(Refusal::system_error(format!(
                    "role={other}: a slave is promoted to ASYNC_MASTER or SYNC_MASTER"
                )));
            }
        };
        let epoch = epoch(header.epoch)?;
        let end = self.store.max_offset();
        if i64::try_from(end.0).unwrap_or(i64::MAX) < header.min_end {
            return Err(Refusal::lacks(end, header.min_end));
        }
        let by = peer.address().to_string();
        let seat = match header.check {
            true => self.seats.could_promote(epoch, copies, &by),
            false => self.seats.promote(epoch, copies, &by),
        };
        Ok(self.answer(&seat.map_err(|error| Refusal::seat(&error))?))
    }

    /// Serves 46005. Blocks: on disk before the answer, which says where the log of a master stays.
    pub fn tell(&self, peer: &Peer, request: &Request) -> Result<Response, Refusal> {
        let header: TellEpoch<'_> = request.header()?;
        let (by, told) = (peer.address().to_string(), epoch(header.epoch)?);
        let seen = Seen {
            epoch: header.if_epoch.map(epoch).transpose()?,
            is_master: match header.if_part {
                None => None,
                Some("MASTER") => Some(true),
                Some("SLAVE") => Some(false),
                Some(other) => {
                    let text = format!("ifPart={other}: it is MASTER or SLAVE");
                    return Err(Refusal::system_error(text));
                }
            },
            end: header
                .if_end
                .map(|end| LogOffset(u64::try_from(end).unwrap_or_default())),
        };
        let is_asked = header.if_epoch.is_some() || header.if_part.is_some();
        let seat = if is_asked || header.if_end.is_some() {
            self.seats.agree(told, seen, &by)
        } else {
            self.seats.hear(told, &by).map(|()| self.seats.now())
        };
        Ok(self.answer(&seat.map_err(|error| Refusal::seat(&error))?))
    }

    /// Serves 46007. Blocks; the answer says where the log ends.
    pub fn hold(&self, request: &Request) -> Result<Response, Refusal> {
        let Hold { millis } = request.header()?;
        let time = u64::try_from(millis).map(Duration::from_millis);
        let Some(time) = time.ok().filter(|time| *time <= HOLD_MAX) else {
            return Err(Refusal::system_error(format!(
                "millis={millis}: it is 0 to {}",
                HOLD_MAX.as_millis()
            )));
        };
        let end = self.seats.hold(time);
        Ok(Response::ok().header(&HoldAnswer {
            max_offset: i64::try_from(end.0).unwrap_or(i64::MAX),
        }))
    }

    /// Serves 46006. Blocks: on disk before the answer.
    pub fn rejoin(&self, peer: &Peer, request: &Request) -> Result<Response, Refusal> {
        let header: Rejoin<'_> = request.header()?;
        let id = u64::try_from(header.broker_id).map_err(|_| {
            let id = header.broker_id;
            Refusal::system_error(format!("brokerId={id}: a slave's is 1 or more"))
        })?;
        let own = self.seats.configured_id();
        if own != 0 && own != id {
            return Err(Refusal::system_error(format!(
                "brokerId={id}: the configuration of this broker says {own}, which counts"
            )));
        }
        let seat = self
            .seats
            .rejoin(epoch(header.epoch)?, id, &peer.address().to_string());
        Ok(self.answer(&seat.map_err(|error| Refusal::seat(&error))?))
    }

    fn answer(&self, seat: &Seat) -> Response {
        Response::ok().header(&SeatAnswer {
            epoch: &seat.epoch.to_string(),
            part: seat.part.name(),
            max_offset: i64::try_from(self.store.max_offset().0).unwrap_or(i64::MAX),
        })
    }
}

fn epoch(text: &str) -> Result<Epoch, Refusal> {
    text.parse::<Epoch>()
        .map_err(|error| Refusal::system_error(error.to_string()))
}
