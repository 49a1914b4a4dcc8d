//! Request code to handler: the broker's table of contents. Sends and pulls are not here, they have rooms of their own
//! (`shard`).
//!
//! A handler that may wait for a disk runs on a thread of its own, the others where the request came in. A code that is
//! in no arm is answered as unknown.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gantry_message::Millis;
use gantry_net::Peer;
use gantry_wire::{Request, Response, codes::request::*};

use crate::{
    clients::Clients,
    handlers::{
        admin::{
            cleaning::Cleaning, config::ConfigAdmin, connections::Connections, copies::Copies,
            figures::Figures, groups::GroupAdmin, link::LinkAdmin, positions::Positions,
            progress::Progress, queues::Queues, relay::Relay, runtime::RuntimeInfo,
            seats::SeatAdmin, topics::TopicAdmin,
        },
        clients::ClientRequests,
        heartbeat::Heartbeat,
        locks::QueueLocks,
        offsets::OffsetRequests,
        query::Query,
        send_back::SendBack,
    },
    measures::{AllMeasures, Made},
    pairing::Pairing,
    refusal::Refusal,
    registration::Registration,
    tables::{Groups, Missing, Topics},
};

/// How long a new topic's answer waits for the name servers, so that whoever made it finds it in the next route.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);

/// The handlers of everything but sends and pulls.
#[expect(missing_docs, reason = "each field is named after its handler")]
pub struct Dispatch {
    pub is_slave: bool,
    pub heartbeat: Heartbeat,
    pub client_requests: ClientRequests,
    pub offsets: OffsetRequests,
    pub locks: QueueLocks,
    pub query: Query,
    pub send_back: SendBack,
    pub topic_admin: TopicAdmin,
    pub group_admin: GroupAdmin,
    pub config_admin: ConfigAdmin,
    pub connections: Connections,
    pub copies: Copies,
    pub figures: Figures,
    pub positions: Positions,
    pub progress: Progress,
    pub queues: Queues,
    pub relay: Arc<Relay>,
    pub runtime: RuntimeInfo,
    pub cleaning: Cleaning,
    pub topics: Arc<Topics>,
    pub link: LinkAdmin,
    pub pairing: Arc<Pairing>,
    pub seats: SeatAdmin,
    pub groups: Arc<Groups>,
    pub clients: Arc<Clients>,
    pub registration: Arc<Registration>,
    pub measures: Arc<AllMeasures>,
}

type Answer = Result<Response, Refusal>;

impl Dispatch {
    /// Answers one request; `None` when it gets no answer.
    pub async fn handle(
        self: Arc<Self>,
        peer: &Peer,
        request: Arc<Request>,
    ) -> Result<Option<Response>, Refusal> {
        let now = Millis::now();
        let answer = match request.code {
            HEART_BEAT => match self.heartbeat.beat_if_known(peer, &request, now) {
                Some(answer) => answer,
                None => {
                    let peer = peer.clone();
                    self.blocking(request, move |this, request| {
                        this.heartbeat.beat(&peer, request, now)
                    })
                    .await
                }
            },
            UNREGISTER_CLIENT => self.client_requests.unregister(peer, &request),
            GET_CONSUMER_LIST_BY_GROUP => self.client_requests.list(&request),
            CHECK_CLIENT_CONFIG => self.client_requests.check(&request),
            LOCK_BATCH_MQ => self.locks.lock(&request, now),
            UNLOCK_BATCH_MQ => self.locks.unlock(&request),
            UPDATE_CONSUMER_OFFSET => self.offsets.update(peer.address(), &request),
            QUERY_CONSUMER_OFFSET => match self.offsets.query_if_known(&request) {
                Some(answer) => answer,
                None => {
                    self.blocking(request, |this, r| this.offsets.query(r))
                        .await
                }
            },
            GET_MAX_OFFSET => self.offsets.max(&request),
            GET_MIN_OFFSET => self.offsets.min(&request),
            SEARCH_OFFSET_BY_TIMESTAMP => {
                self.blocking(request, |this, r| this.offsets.search(r))
                    .await
            }
            GET_EARLIEST_MSG_STORETIME => {
                self.blocking(request, |this, r| this.offsets.earliest(r))
                    .await
            }
            QUERY_MESSAGE => self.blocking(request, |this, r| this.query.by_key(r)).await,
            VIEW_MESSAGE_BY_ID => {
                self.blocking(request, |this, r| this.query.by_offset(r))
                    .await
            }
            CONSUMER_SEND_MSG_BACK => {
                self.blocking(request, move |this, r| this.send_back.handle(r, now))
                    .await
            }
            // Only of interest to a transaction that was begun, and none can be: the send was refused (decision 6).
            END_TRANSACTION if self.is_slave => Err(Refusal::transactions_end_at_masters()),
            END_TRANSACTION => return Ok(None),
            HA_LINK => self.link.invite(peer, &request).await,
            PROMOTE | TELL_EPOCH | REJOIN | HOLD => {
                let peer = peer.clone();
                self.blocking(request, move |this, r| match r.code {
                    PROMOTE => this.seats.promote(&peer, r),
                    TELL_EPOCH => this.seats.tell(&peer, r),
                    HOLD => this.seats.hold(r),
                    _ => this.seats.rejoin(&peer, r),
                })
                .await
            }
            _ => return self.administer(request, now).await.map(Some),
        };
        answer.map(Some)
    }

    async fn administer(self: Arc<Self>, request: Arc<Request>, now: Millis) -> Answer {
        let changes_tables = matches!(
            request.code,
            UPDATE_AND_CREATE_TOPIC
                | DELETE_TOPIC_IN_BROKER
                | UPDATE_AND_CREATE_SUBSCRIPTIONGROUP
                | DELETE_SUBSCRIPTIONGROUP
        );
        if changes_tables && let Some(why) = self.seats.seats.why_closed() {
            return Err(Refusal::system_error(why));
        }
        match request.code {
            UPDATE_AND_CREATE_TOPIC => {
                self.blocking(request, move |this, r| this.update_topic(r, now))
                    .await
            }
            DELETE_TOPIC_IN_BROKER => {
                self.blocking(request, move |this, r| this.topic_admin.delete(r, now))
                    .await
            }
            GET_TOPIC_STATS_INFO => {
                self.blocking(request, |this, r| this.topic_admin.figures(r))
                    .await
            }
            GET_SYSTEM_TOPIC_LIST_FROM_BROKER => Ok(self.topic_admin.system()),
            UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => {
                self.blocking(request, move |this, r| {
                    this.timed(Made::Group, || this.group_admin.update(r, now))
                })
                .await
            }
            DELETE_SUBSCRIPTIONGROUP => {
                self.blocking(request, move |this, r| this.group_admin.delete(r, now))
                    .await
            }
            QUERY_TOPIC_CONSUME_BY_WHO => self.group_admin.of_topic(&request),
            UPDATE_BROKER_CONFIG => {
                self.blocking(request, move |this, r| this.config_admin.update(r, now))
                    .await
            }
            HA_STATUS => Ok(Response::with_body(self.pairing.status().encode())),
            SET_READ_ONLY => {
                self.blocking(request, move |this, r| this.set_read_only(r, now))
                    .await
            }
            GET_BROKER_CONFIG => self.config_admin.show(),
            GET_BROKER_RUNTIME_INFO => {
                self.blocking(request, move |this, _| Ok(this.runtime.show(now)))
                    .await
            }
            GET_CONSUMER_CONNECTION_LIST => self.connections.consumers(&request),
            GET_PRODUCER_CONNECTION_LIST => self.connections.producers(&request),
            GET_ALL_PRODUCER_INFO => Ok(self.connections.all_producers()),
            GET_ALL_TOPIC_CONFIG => Ok(self.copies.topics()),
            GET_ALL_SUBSCRIPTIONGROUP_CONFIG => Ok(self.copies.groups()),
            GET_ALL_CONSUMER_OFFSET => {
                self.blocking(request, |this, _| this.copies.offsets())
                    .await
            }
            GET_ALL_DELAY_OFFSET => Ok(self.copies.delay_offsets()),
            VIEW_BROKER_STATS_DATA => self.figures.item(&request),
            GET_CONSUME_STATS => {
                self.blocking(request, |this, r| this.progress.of_group(r))
                    .await
            }
            GET_BROKER_CONSUME_STATS => {
                self.blocking(request, |this, r| this.progress.of_all(r))
                    .await
            }
            QUERY_CONSUME_TIME_SPAN => {
                self.blocking(request, move |this, r| this.progress.in_time(r, now))
                    .await
            }
            QUERY_CORRECTION_OFFSET => self.positions.lowest(&request),
            CLONE_GROUP_OFFSET => self.positions.copy(&request),
            QUERY_CONSUME_QUEUE => {
                self.blocking(request, |this, r| this.queues.entries(r))
                    .await
            }
            CLEAN_EXPIRED_CONSUMEQUEUE => {
                self.blocking(request, |this, _| this.cleaning.expired_queues())
                    .await
            }
            CLEAN_UNUSED_TOPIC => {
                self.blocking(request, |this, _| this.cleaning.unknown_topics())
                    .await
            }
            DELETE_EXPIRED_COMMITLOG => Ok(self.cleaning.expired_logs()),
            INVOKE_BROKER_TO_RESET_OFFSET => {
                self.blocking(request, |this, r| this.relay.reset(r)).await
            }
            INVOKE_BROKER_TO_GET_CONSUMER_STATUS => self.relay.consumer_status(&request).await,
            GET_CONSUMER_RUNNING_INFO => self.relay.running_info(&request).await,
            CONSUME_MESSAGE_DIRECTLY => self.relay.clone().consume_directly(&request).await,
            unknown => Err(Refusal::code_not_supported(unknown)),
        }
    }

    fn update_topic(&self, request: &Request, now: Millis) -> Answer {
        let response = self.timed(Made::Topic, || self.topic_admin.update(request, now))?;
        if !self
            .registration
            .wait_announced(self.topics.generation(), ANNOUNCE_WAIT)
        {
            tracing::warn!(
                "a changed topic was not announced to every name server within {ANNOUNCE_WAIT:?}"
            );
        }
        Ok(response)
    }

    fn timed<T, E>(&self, made: Made, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let began = Instant::now();
        let result = make();
        self.measures.made(made, result.is_ok(), began.elapsed());
        result
    }

    fn set_read_only(&self, request: &Request, now: Millis) -> Answer {
        let response = self.config_admin.set_read_only(request, now)?;
        if !self
            .registration
            .wait_announced(self.topics.generation(), ANNOUNCE_WAIT)
        {
            tracing::warn!("not every name server knows yet what may be written here");
        }
        Ok(response)
    }

    /// Runs what may wait for a disk on a thread of its own.
    async fn blocking(
        self: &Arc<Self>,
        request: Arc<Request>,
        work: impl FnOnce(&Dispatch, &Request) -> Answer + Send + 'static,
    ) -> Answer {
        let this = self.clone();
        match tokio::task::spawn_blocking(move || work(&this, &request)).await {
            Ok(answer) => answer,
            Err(error) => Err(Refusal::system_error(format!(
                "the request was not finished: {error}"
            ))),
        }
    }

    /// Makes what a request needs and may have. Blocks.
    pub fn prepare(&self, missing: &Missing) -> Result<(), Refusal> {
        let made = match missing {
            Missing::Topic(_) => Made::Topic,
            Missing::Group(_) => Made::Group,
        };
        self.timed(made, || {
            missing.create(&self.topics, &self.groups, Millis::now())
        })
        .map_err(|error| Refusal::not_persisted(&error))
    }

    /// A connection has ended: its clients are gone.
    pub fn connection_closed(&self, peer: &Peer) {
        self.clients.closed(peer.id());
    }
}
