//! Requests that go on to connected clients: running info (307), consume this message now (309), where are you (223),
//! go on from there (222).
//!
//! A client's answer is handed back as it came; who does not answer is named. Offsets of a group are the clients' in
//! 4.x: 222 computes where each queue should go on and tells every member, the broker's own table changes only when
//! the members commit. 307, 309 and 223 wait for clients and therefore run as futures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_message::{LogOffset, MessageId, Millis, QueueId, QueueOffset};
use gantry_net::Peer;
use gantry_net::peer::{Answer, PeerCallError};
use gantry_store::Store;
use gantry_wire::bodies::{ConsumerStatus, ResetOffset as ResetBody};
use gantry_wire::codes::{request as code, response};
use gantry_wire::headers::{
    ConsumeMessageDirectly, GetConsumerRunningInfo, GetConsumerStatus, ResetOffset,
};
use gantry_wire::{FieldSink, Language, Request, Response, version};

use super::{Identity, queue_ids, sent};
use crate::clients::{Clients, Member};
use crate::refusal::Refusal;
use crate::tables::{Offsets, Topics};

/// How long a client may take to say how it is, or to consume a message.
const CALL_WAIT: Duration = Duration::from_secs(10);
/// How long a client may take to say where it is.
const STATUS_WAIT: Duration = Duration::from_secs(5);

/// The parts that relaying needs.
pub struct Relay {
    /// Who this broker is.
    pub identity: Arc<Identity>,
    /// Who is connected.
    pub clients: Arc<Clients>,
    /// Where records and queue positions are.
    pub store: Arc<Store>,
    /// Which queues a topic has.
    pub topics: Arc<Topics>,
    /// Where groups stand.
    pub offsets: Arc<Offsets>,
}

impl Relay {
    /// Serves 307: the fields go on as they came.
    pub async fn running_info(&self, request: &Request) -> Result<Response, Refusal> {
        let (group, client_id) = {
            let header: GetConsumerRunningInfo<'_> = request.header()?;
            (
                header.consumer_group.to_owned(),
                header.client_id.to_owned(),
            )
        };
        self.call(request, &group, &client_id, &[], &request.body)
            .await
    }

    /// Serves 309: the stored record goes along.
    pub async fn consume_directly(self: Arc<Self>, request: &Request) -> Result<Response, Refusal> {
        let (group, client_id, id) = {
            let header: ConsumeMessageDirectly<'_> = request.header()?;
            let text = header.msg_id.unwrap_or_default();
            let id: MessageId = text
                .parse()
                .map_err(|error| Refusal::system_error(format!("message id {text:?}: {error}")))?;
            (
                header.consumer_group.to_owned(),
                header.client_id.unwrap_or_default().to_owned(),
                id,
            )
        };
        let relay = Arc::clone(&self);
        let record = tokio::task::spawn_blocking(move || relay.store.record_at(id.offset)).await;
        let record = record.map_err(|error| Refusal::system_error(error.to_string()))?;
        let record = record.map_err(|error| Refusal::system_error(error.to_string()))?;
        let record = record.ok_or_else(|| Refusal::record_not_found(offset_as_sent(id.offset)))?;
        self.call(
            request,
            &group,
            &client_id,
            &[("brokerName", &self.identity.name)],
            &record,
        )
        .await
    }

    /// Serves 223: asks every member of a group, or one of them, where it stands.
    pub async fn consumer_status(&self, request: &Request) -> Result<Response, Refusal> {
        let header: GetConsumerStatus<'_> = request.header()?;
        let wanted = header
            .client_addr
            .filter(|client| !client.trim().is_empty());
        let members = self.members(header.group);
        if members.is_empty() {
            return Err(Refusal::system_error(format!(
                "No Any Consumer online in the consumer group: [{}]",
                header.group
            )));
        }
        let (topic, group) = (header.topic.to_owned(), header.group.to_owned());
        let mut table = BTreeMap::new();
        for (member, peer) in members {
            if member.version < version::RESET_OFFSET {
                return Err(too_old(&member));
            }
            if wanted.is_some_and(|wanted| wanted != &*member.client_id) {
                continue;
            }
            let mut fields = |sink: &mut gantry_wire::frame::FieldWriter<'_>| {
                sink.text("topic", &topic);
                sink.text("group", &group);
            };
            let answer = peer
                .call(
                    code::GET_CONSUMER_STATUS_FROM_CLIENT,
                    &mut fields,
                    &[],
                    STATUS_WAIT,
                )
                .await;
            match answer.map(|answer| (answer.code, ConsumerStatus::parse(&answer.body))) {
                Ok((response::SUCCESS, Ok(status))) => {
                    table.insert(member.client_id.to_string(), status.message_queue_table);
                }
                Ok((code, parsed)) => {
                    tracing::warn!(peer = %peer.address(), code, ?parsed, "a client does not say where it stands");
                }
                Err(error) => {
                    tracing::warn!(peer = %peer.address(), %error, "a client does not say where it stands")
                }
            }
        }
        let status = ConsumerStatus {
            consumer_table: table,
            ..ConsumerStatus::default()
        };
        Ok(Response::with_body(status.encode()))
    }

    /// Serves 222: where each queue goes on, told to every member. Blocks: positions at a time are looked up in files.
    pub fn reset(&self, request: &Request) -> Result<Response, Refusal> {
        let header: ResetOffset<'_> = request.header()?;
        let config = self.topics.get(header.topic).ok_or_else(|| {
            let topic = header.topic;
            Refusal::system_error(format!(
                "[reset-offset] reset offset failed, no topic in this broker. topic={topic}"
            ))
        })?;
        let mut table = BTreeMap::new();
        for id in queue_ids(config.write_queue_nums) {
            let consumed = self.offsets.query(header.group, header.topic, id);
            let consumed = consumed.ok_or_else(|| Refusal::reset_group_unknown(header.group))?;
            let found = self.position(&header, id);
            let target = if header.is_force || found < consumed {
                found
            } else {
                consumed
            };
            table.insert(self.identity.queue(header.topic, id), sent(target));
        }
        let members = self.members(header.group);
        if members.is_empty() {
            return Err(Refusal::reset_not_online(
                header.group,
                header.topic,
                header.timestamp,
            ));
        }
        if let Some((member, _)) = members
            .iter()
            .find(|(member, _)| member.version < version::RESET_OFFSET)
        {
            return Err(too_old(member));
        }
        let body = ResetBody {
            offset_table: table,
        };
        for (member, peer) in members {
            // The C++ client understands the list only, all others the map only.
            let bytes = match member.language {
                Language::Cpp => body.encode_list(),
                _ => body.encode(),
            };
            let mut fields = |sink: &mut gantry_wire::frame::FieldWriter<'_>| {
                sink.text("topic", header.topic);
                sink.text("group", header.group);
                sink.int("timestamp", header.timestamp);
                // What Java's broker sends, whatever it was asked: its clients do not look at it.
                sink.bool("isForce", false);
            };
            peer.notify(code::RESET_CONSUMER_CLIENT_OFFSET, &mut fields, &bytes);
            tracing::info!(
                topic = header.topic, group = header.group, client = %member.client_id, "told to reset its offsets"
            );
        }
        Ok(Response::with_body(body.encode()))
    }

    fn position(&self, header: &ResetOffset<'_>, id: QueueId) -> QueueOffset {
        let Some(queue) = self.store.find_queue(header.topic, id) else {
            return QueueOffset(0);
        };
        match header.timestamp {
            -1 => queue.max(),
            time => self.store.offset_at_time(&queue, Millis(time)),
        }
    }

    fn members(&self, group: &str) -> Vec<(Arc<Member>, Peer)> {
        let group = self.clients.consumer(group);
        let members = group
            .iter()
            .flat_map(|group| group.members.values().cloned());
        members
            .filter_map(|member| self.clients.peer(&member).map(|peer| (member, peer)))
            .collect()
    }

    /// Hands a request on to one member of a group, with fields added, and its answer back.
    async fn call(
        &self,
        request: &Request,
        group: &str,
        client_id: &str,
        added: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let found = self.clients.consumer_peer(group, client_id);
        let (member, peer) = found.ok_or_else(|| Refusal::client_not_online(group, client_id))?;
        if member.version < version::RUNNING_INFO {
            return Err(Refusal::client_too_old(
                client_id,
                &version::name(member.version),
            ));
        }
        let mut fields = |sink: &mut gantry_wire::frame::FieldWriter<'_>| {
            for (name, value) in request.fields.iter() {
                if !added.iter().any(|(taken, _)| *taken == name) {
                    sink.text(name, value);
                }
            }
            for (name, value) in added {
                sink.text(name, value);
            }
        };
        let answer = peer.call(request.code, &mut fields, body, CALL_WAIT).await;
        answer.map(handed_back).map_err(|error| match error {
            PeerCallError::TimedOut(..) => Refusal::client_timed_out(group, client_id, &error),
            PeerCallError::Closed(_) => Refusal::client_failed(group, client_id, &error),
        })
    }
}

fn handed_back(answer: Answer) -> Response {
    let fields = answer
        .fields
        .iter()
        .map(|(name, value)| (name.to_owned().into(), value.to_owned()))
        .collect();
    Response {
        code: answer.code,
        remark: answer.remark,
        fields,
        body: answer.body,
    }
}

fn too_old(member: &Member) -> Refusal {
    let version = version::name(member.version);
    Refusal::system_error(format!(
        "the client does not support this feature. version={version}"
    ))
}

fn offset_as_sent(offset: LogOffset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}
