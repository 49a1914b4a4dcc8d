//! A slave asks for a link with checksums (46001): who is trusted gets an invitation to the HA port.

use std::fmt::Write;
use std::sync::Arc;

use gantry_message::Epoch;
use gantry_net::Peer;
use gantry_store::Store;
use gantry_wire::headers::{HaLink, HaLinkAnswer};
use gantry_wire::{Request, Response};

use super::Identity;
use crate::refusal::Refusal;
use crate::replicas::Door;
use crate::seats::Seats;

/// The parts that an invitation needs.
pub struct LinkAdmin {
    /// Who this broker is.
    pub identity: Arc<Identity>,
    /// Who may replicate.
    pub door: Arc<Door>,
    /// Whether this is the master still.
    pub seats: Arc<Seats>,
    /// The log that is offered.
    pub store: Arc<Store>,
}

impl LinkAdmin {
    /// Serves 46001. Asks name servers about an address that is not listed.
    pub async fn invite(&self, peer: &Peer, request: &Request) -> Result<Response, Refusal> {
        let address = peer.address().ip();
        let (id, epoch) = {
            let header: HaLink<'_> = request.header()?;
            if header.broker_name != self.identity.name {
                return Err(Refusal::no_slave_of_ours(
                    header.broker_name,
                    &self.identity.name,
                ));
            }
            let epoch = header.epoch.unwrap_or("0.0").parse::<Epoch>();
            let epoch = epoch.map_err(|error| Refusal::system_error(error.to_string()))?;
            (u64::try_from(header.broker_id).unwrap_or_default(), epoch)
        };
        if !self.door.is_trusted(address).await {
            return Err(Refusal::no_slave_there(address, &self.identity.name));
        }
        // A slave that knows of a later promotion: then this master is none any more.
        let (seats, by) = (self.seats.clone(), format!("slave {id} at {address}"));
        tokio::task::spawn_blocking(move || seats.hear(epoch, &by))
            .await
            .map_err(|error| Refusal::system_error(error.to_string()))?
            .map_err(|error| Refusal::seat(&error))?;
        if let Some(why) = self.seats.why_no_master() {
            return Err(Refusal::fenced(why));
        }
        let epoch = self.seats.epoch().to_string();
        let mut random = [0; gantry_replication::TOKEN_LEN];
        getrandom::fill(&mut random)
            .map_err(|error| Refusal::system_error(format!("no random bytes: {error}")))?;
        let token = self.door.links().invite(address, id, random);
        let text = token.bytes().iter().fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        let made_up = self.store.made_up();
        let made_up: Vec<String> = made_up.iter().map(|at| at.0.to_string()).collect();
        let made_up = made_up.join(",");
        Ok(Response::ok().header(&HaLinkAnswer {
            token: &text,
            min_offset: number(self.store.min_offset().0),
            max_offset: number(self.store.max_offset().0),
            segment_size: number(self.store.segment_size()),
            epoch: Some(&epoch),
            made_up: Some(&made_up)
                .filter(|text| !text.is_empty())
                .map(String::as_str),
        }))
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
