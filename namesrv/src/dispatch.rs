//! Request code to handler: one `match`, the table of contents of the name server.
//!
//! Everything is answered on the I/O thread but for what writes files, which goes to a blocking thread. An unknown
//! code is answered 3, where Java's name server answers nothing and lets the client time out.

use std::net::IpAddr;
use std::sync::Arc;

use crate::live::Live;
use bytes::Bytes;
use gantry_net::Peer;
use gantry_net::server::{Handler, Verdict};
use gantry_service::audit::{self, Effect};
use gantry_wire::codes::{request as code, response};
use gantry_wire::frame::Frame;
use gantry_wire::{Request, Response};

use crate::config::NamesrvConfig;
use crate::handlers::{Config, KvRequests, Lookups, Registrations, TopicChanges};
use crate::metrics::Requests;
use crate::refusal::Refusal;
use crate::routes::Unit;

/// The handlers, shared by all connections.
#[derive(Debug)]
pub(crate) struct Handlers {
    pub(crate) registrations: Registrations,
    pub(crate) lookups: Lookups,
    pub(crate) topics: TopicChanges,
    pub(crate) kv: KvRequests,
    pub(crate) config: Config,
    pub(crate) settings: Arc<Live<NamesrvConfig>>,
    pub(crate) requests: Arc<Requests>,
}

impl Handlers {
    fn handle(&self, peer: &Peer, request: &Request) -> Result<Response, Refusal> {
        let admin_open = self.settings.get().server.admin_open;
        if is_closed_to(peer.address().ip(), request.code, admin_open) {
            return Err(Refusal::with(
                response::NO_PERMISSION,
                format!(
                    "request {} from {} is refused: adminOpen=false",
                    request.code,
                    peer.address()
                ),
            ));
        }
        match request.code {
            code::PUT_KV_CONFIG => self.kv.put(request),
            code::GET_KV_CONFIG => self.kv.get(request),
            code::DELETE_KV_CONFIG => self.kv.delete(request),
            code::GET_KVLIST_BY_NAMESPACE => self.kv.list(request),
            code::REGISTER_BROKER => self.registrations.register(peer, request),
            code::UNREGISTER_BROKER => self.registrations.unregister(peer, request),
            code::QUERY_DATA_VERSION => self.registrations.check_version(peer, request),
            code::GET_ROUTEINFO_BY_TOPIC => self.lookups.route(request),
            code::GET_BROKER_CLUSTER_INFO => Ok(self.lookups.cluster_info()),
            code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => Ok(self.lookups.topics()),
            code::GET_TOPICS_BY_CLUSTER => self.lookups.topics_of_cluster(request),
            code::GET_SYSTEM_TOPIC_LIST_FROM_NS => Ok(self.lookups.system_topics()),
            code::GET_UNIT_TOPIC_LIST => Ok(self.lookups.unit_topics(Unit::Unit)),
            code::GET_HAS_UNIT_SUB_TOPIC_LIST => Ok(self.lookups.unit_topics(Unit::Subscribed)),
            code::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST => {
                Ok(self.lookups.unit_topics(Unit::SubscribedNotUnit))
            }
            code::WIPE_WRITE_PERM_OF_BROKER => self.topics.wipe_write_perm(peer, request),
            code::ADD_WRITE_PERM_OF_BROKER => self.topics.add_write_perm(peer, request),
            code::DELETE_TOPIC_IN_NAMESRV => self.topics.delete(peer, request),
            code::UPDATE_NAMESRV_CONFIG => self.config.update(peer, request),
            code::GET_NAMESRV_CONFIG => Ok(self.config.list()),
            unknown => Err(Refusal::with(
                response::REQUEST_CODE_NOT_SUPPORTED,
                format!(" request type {unknown} not supported"),
            )),
        }
    }

    fn answer(&self, peer: &Peer, request: &Request) -> Response {
        let answer = self.handle(peer, request).unwrap_or_else(|refusal| {
            tracing::debug!(peer = %peer.address(), code = request.code, "refused: {}", refusal.remark);
            refusal.into()
        });
        if is_admin(request.code) {
            let effect = match request.code {
                code::GET_NAMESRV_CONFIG => Effect::Looks,
                _ => Effect::Changes,
            };
            let (what, result) = (code::name(request.code), response::name(answer.code));
            audit::call(effect, peer.address(), what, request.fields.iter(), result);
        }
        if !request.oneway {
            self.requests.answered(request.code, answer.code);
        }
        answer
    }
}

/// Administration is for this machine alone unless `adminOpen` says otherwise.
fn is_closed_to(address: IpAddr, request: i32, admin_open: bool) -> bool {
    !admin_open && is_admin(request) && !address.is_loopback()
}

/// Changes something that only operators change, or shows the configuration.
fn is_admin(request: i32) -> bool {
    matches!(
        request,
        code::PUT_KV_CONFIG
            | code::DELETE_KV_CONFIG
            | code::WIPE_WRITE_PERM_OF_BROKER
            | code::ADD_WRITE_PERM_OF_BROKER
            | code::DELETE_TOPIC_IN_NAMESRV
            | code::UPDATE_NAMESRV_CONFIG
            | code::GET_NAMESRV_CONFIG
    )
}

/// Waits for the disk.
fn writes_files(request: i32) -> bool {
    matches!(
        request,
        code::PUT_KV_CONFIG | code::DELETE_KV_CONFIG | code::UPDATE_NAMESRV_CONFIG
    )
}

/// What an I/O thread does with frames.
pub(crate) struct Dispatch {
    handlers: Arc<Handlers>,
}

impl Dispatch {
    pub(crate) fn new(handlers: Arc<Handlers>) -> Self {
        Self { handlers }
    }
}

impl Handler for Dispatch {
    fn frame(&self, peer: &Peer, frame: Frame<'_>) -> Verdict {
        let header = match frame.decode() {
            Ok(header) => header,
            Err(error) => {
                tracing::info!(peer = %peer.address(), "connection closed: {error}");
                return Verdict::Close;
            }
        };
        if header.is_response() {
            // A name server asks its peers nothing.
            return Verdict::Continue;
        }
        let request = Request::from_header(
            header,
            frame.serialization,
            Bytes::copy_from_slice(frame.body),
        );
        if writes_files(request.code) {
            let (handlers, peer, in_flight) = (self.handlers.clone(), peer.clone(), peer.begin());
            // Its owner is the connection's count of requests in flight, which a stop waits for.
            drop(tokio::task::spawn_blocking(move || {
                respond(&peer, &request, &handlers.answer(&peer, &request));
                peer.flush();
                drop(in_flight);
            }));
            return Verdict::Continue;
        }
        respond(peer, &request, &self.handlers.answer(peer, &request));
        Verdict::Continue
    }

    fn read_through(&self, peer: &Peer) {
        peer.flush();
    }

    fn closed(&self, peer: &Peer) {
        self.handlers.registrations.connection_closed(peer);
    }
}

fn respond(peer: &Peer, request: &Request, response: &Response) {
    if !request.oneway {
        peer.push(|out| response.encode(out, request.opaque, request.serialization));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_administration_is_closed_to_others_only() {
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 0, 0, 1]));
        for (request, address, admin_open, closed) in [
            (code::UPDATE_NAMESRV_CONFIG, there, false, true),
            (code::DELETE_TOPIC_IN_NAMESRV, there, false, true),
            (code::UPDATE_NAMESRV_CONFIG, here, false, false),
            (code::UPDATE_NAMESRV_CONFIG, there, true, false),
            (code::GET_ROUTEINFO_BY_TOPIC, there, false, false),
            (code::REGISTER_BROKER, there, false, false),
        ] {
            assert_eq!(
                is_closed_to(address, request, admin_open),
                closed,
                "{request} {address} {admin_open}"
            );
        }
    }
}
