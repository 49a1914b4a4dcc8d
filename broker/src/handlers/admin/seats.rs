//! Promotions: a slave becomes the master (46004), whoever is told of it obeys (46005), a replaced master becomes a slave
//! (46006). The order in which they are asked for is the tool's, `mqadmin promote`; each is safe by itself.

use std::sync::Arc;

use gantry_message::Epoch;
use gantry_net::Peer;
use gantry_replication::{Copies, Seat};
use gantry_store::Store;
use gantry_wire::headers::{Promote, Rejoin, SeatAnswer, TellEpoch};
use gantry_wire::{Request, Response};

use crate::refusal::Refusal;
use crate::seats::Seats;

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
        let seat = self
            .seats
            .promote(epoch, copies, &peer.address().to_string());
        Ok(self.answer(&seat.map_err(|error| Refusal::seat(&error))?))
    }

    /// Serves 46005. Blocks: on disk before the answer, which says where the log of a master stays.
    pub fn tell(&self, peer: &Peer, request: &Request) -> Result<Response, Refusal> {
        let header: TellEpoch<'_> = request.header()?;
        let told = self
            .seats
            .hear(epoch(header.epoch)?, &peer.address().to_string());
        told.map_err(|error| Refusal::seat(&error))?;
        Ok(self.answer(&self.seats.now()))
    }

    /// Serves 46006. Blocks: on disk before the answer.
    pub fn rejoin(&self, peer: &Peer, request: &Request) -> Result<Response, Refusal> {
        let header: Rejoin<'_> = request.header()?;
        let id = u64::try_from(header.broker_id)
            .map_err(|_| Refusal::system_error(format!("brokerId={}", header.broker_id)))?;
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
