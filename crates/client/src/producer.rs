//! Sending as Java's producer does: V2 header, unique id, queues in turn, another broker after a failure.
//!
//! Bodies go as they are (Java compresses from 4 KiB on; a broker stores either). A producer here sends no heartbeats:
//! it cannot be asked about transactions.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use gantry_message::{Millis, properties, topic};
use gantry_wire::{
    bodies::TopicRoute,
    codes::{request, response},
    headers::{SendMessage, SendMessageAnswer},
};

use crate::{
    Client, Error, Queue, UniqueIds,
    remote::{parsed, refused},
    routes::{master_address, publish_queues},
    timeouts,
};

/// A send is tried this often.
const TRIES: usize = 3;
/// Queues wanted of a topic that the send creates.
const DEFAULT_QUEUES: i32 = 4;
/// A route is asked for again after this time, as in Java.
const ROUTE_KEPT: Duration = Duration::from_secs(30);
/// Answers after which Java tries another broker.
const RETRIED: [i32; 6] = [
    response::TOPIC_NOT_EXIST,
    response::SERVICE_NOT_AVAILABLE,
    response::SYSTEM_ERROR,
    response::NO_PERMISSION,
    response::NO_BUYER_ID,
    response::NOT_IN_CURRENT_UNIT,
];

/// A message to send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub topic: String,
    /// What.
    pub body: Bytes,
    /// The user's flag.
    pub flag: i32,
    /// How the body is compressed, and the like; 0 for a plain one.
    pub sys_flag: i32,
    /// Properties in the order they travel.
    properties: Vec<u8>,
}

impl Message {
    /// A message without properties but `WAIT=true`, Java's default.
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            body: body.into(),
            ..Self::default()
        }
        .property(properties::WAIT, "true")
    }

    /// Adds a property; an empty value is none. The last one of a name counts.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            let mut all = Vec::new();
            properties::copy_without(&mut all, &self.properties, &[name]);
            properties::push(&mut all, name, value.as_bytes());
            self.properties = all;
        }
        self
    }

    /// Adds every property of a stored message's text.
    #[must_use]
    pub fn properties_of(mut self, text: &[u8]) -> Self {
        for (name, value) in properties::iter(text) {
            self = self.property(
                &String::from_utf8_lossy(name),
                &String::from_utf8_lossy(value),
            );
        }
        self
    }

    /// Sets the tag.
    #[must_use]
    pub fn tag(self, tag: &str) -> Self {
        self.property(properties::TAGS, tag)
    }

    /// Sets the keys, blanks between them.
    #[must_use]
    pub fn keys(self, keys: &str) -> Self {
        self.property(properties::KEYS, keys)
    }
}

/// What the broker promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendStatus {
    /// Everything its configuration promises.
    Ok,
    /// Stored, but not known to be on disk.
    FlushDiskTimeout,
    /// Stored, but no slave confirmed it in time.
    FlushSlaveTimeout,
    /// Stored, but there is no usable slave.
    SlaveNotAvailable,
}

impl SendStatus {
    /// Java's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "SEND_OK",
            Self::FlushDiskTimeout => "FLUSH_DISK_TIMEOUT",
            Self::FlushSlaveTimeout => "FLUSH_SLAVE_TIMEOUT",
            Self::SlaveNotAvailable => "SLAVE_NOT_AVAILABLE",
        }
    }

    fn of(code: i32) -> Option<Self> {
        match code {
            response::SUCCESS => Some(Self::Ok),
            response::FLUSH_DISK_TIMEOUT => Some(Self::FlushDiskTimeout),
            response::FLUSH_SLAVE_TIMEOUT => Some(Self::FlushSlaveTimeout),
            response::SLAVE_NOT_AVAILABLE => Some(Self::SlaveNotAvailable),
            _ => None,
        }
    }
}

/// A message that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What the broker promised.
    pub status: SendStatus,
    /// The message's unique id.
    pub id: String,
    /// The broker's id of it.
    pub offset_id: String,
    /// The queue it is in.
    pub queue: Queue,
    /// Its number there.
    pub queue_offset: i64,
}

/// Sends messages.
#[derive(Debug)]
pub struct Producer {
    client: Arc<Client>,
    group: String,
    ids: UniqueIds,
    turn: AtomicU32,
    routes: Mutex<HashMap<String, Arc<Known>>>,
}

/// A route and when it was asked for.
#[derive(Debug)]
struct Known {
    route: TopicRoute,
    queues: Vec<Queue>,
    since: Instant,
}

impl Producer {
    /// A producer of this group.
    pub fn new(client: Arc<Client>, group: impl Into<String>) -> Self {
        let ids = UniqueIds::new();
        // As in Java the first queue is any one, so that many short runs do not all take the same.
        let turn = AtomicU32::new(u32::try_from(Millis::now().0 & 0xFFFF).unwrap_or(0));
        Self {
            client,
            group: group.into(),
            ids,
            turn,
            routes: Mutex::default(),
        }
    }

    /// Sends to any queue of the topic; up to three times, if it can to another broker each time.
    pub async fn send(&self, message: &Message) -> Result<Sent, Error> {
        let deadline = Instant::now() + timeouts::SEND;
        let known = self.known(&message.topic).await?;
        let mut tried: Vec<String> = Vec::new();
        let mut last = None;
        while tried.len() < TRIES {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                break;
            };
            let queue = self.choose(&known, tried.last().map(String::as_str), &message.topic)?;
            tried.push(queue.broker.clone());
            match self.send_once(message, queue, &known.route, left).await {
                Ok(sent) => return Ok(sent),
                Err(error) if error.code().is_some_and(|code| !RETRIED.contains(&code)) => {
                    return Err(error);
                }
                Err(error) => last = Some(error),
            }
        }
        self.forget(&message.topic);
        let last = last.unwrap_or_else(|| Error::NoQueue(message.topic.clone()));
        Err(Error::SendFailed {
            times: tried.len(),
            topic: message.topic.clone(),
            brokers: tried,
            last: Box::new(last),
        })
    }

    /// Sends to this queue, once.
    pub async fn send_to(&self, message: &Message, queue: &Queue) -> Result<Sent, Error> {
        let known = self.known(&message.topic).await?;
        self.send_once(message, queue, &known.route, timeouts::SEND)
            .await
    }

    async fn send_once(
        &self,
        message: &Message,
        queue: &Queue,
        route: &TopicRoute,
        timeout: Duration,
    ) -> Result<Sent, Error> {
        let address = master_address(route, &queue.broker)
            .ok_or_else(|| Error::NoBroker(queue.broker.clone()))?;
        let (id, properties) = self.identified(message);
        let properties = String::from_utf8_lossy(&properties);
        let header = SendMessage {
            producer_group: &self.group,
            topic: &message.topic,
            default_topic: topic::AUTO_CREATE,
            default_topic_queue_nums: DEFAULT_QUEUES,
            queue_id: i32::try_from(queue.id.0).unwrap_or(-1),
            sys_flag: message.sys_flag,
            born_timestamp: Millis::now().0,
            flag: message.flag,
            properties: Some(&properties),
            reconsume_times: Some(0),
            unit_mode: false,
            batch: false,
            max_reconsume_times: None,
            broker_name: Some(&queue.broker),
        };
        let remote = self.client.remote();
        let reply = remote
            .call(
                address,
                request::SEND_MESSAGE_V2,
                &header.as_v2(),
                &message.body,
                timeout,
            )
            .await?;
        let Some(status) = SendStatus::of(reply.code) else {
            return Err(refused(reply, Some(address)));
        };
        let answer: SendMessageAnswer<'_> = parsed("send result", address, reply.fields.header())?;
        let id_of_queue = u32::try_from(answer.queue_id).unwrap_or(queue.id.0);
        Ok(Sent {
            status,
            id,
            offset_id: answer.msg_id.to_owned(),
            queue: Queue {
                broker: queue.broker.clone(),
                id: id_of_queue.into(),
            },
            queue_offset: answer.queue_offset,
        })
    }

    /// The message's unique id, a new one if it has none, and its properties with it.
    fn identified(&self, message: &Message) -> (String, Vec<u8>) {
        let mut all = message.properties.clone();
        let id = match properties::find_str(&all, properties::UNIQ_KEY) {
            Some(id) => id.to_owned(),
            None => {
                let id = self.ids.next(Millis::now());
                properties::push(&mut all, properties::UNIQ_KEY, id.as_bytes());
                id
            }
        };
        (id, all)
    }

    /// The next queue in turn, of another broker than the one that just failed if there is one.
    fn choose<'k>(
        &self,
        known: &'k Known,
        failed: Option<&str>,
        topic: &str,
    ) -> Result<&'k Queue, Error> {
        let count = known.queues.len();
        let mut fallback = None;
        for _ in 0..count {
            let turn = usize::try_from(self.turn.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
            let Some(queue) = known.queues.get(turn % count) else {
                continue;
            };
            if Some(queue.broker.as_str()) != failed {
                return Ok(queue);
            }
            fallback = Some(queue);
        }
        fallback.ok_or_else(|| Error::NoQueue(topic.to_owned()))
    }

    /// The topic's route; for a topic that does not exist yet that of the template, whose queues the broker cuts down.
    async fn known(&self, name: &str) -> Result<Arc<Known>, Error> {
        let cached = self
            .routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned();
        if let Some(known) = cached.filter(|known| known.since.elapsed() < ROUTE_KEPT) {
            return Ok(known);
        }
        let route = match self.client.route(name).await {
            Err(error) if error.code() == Some(response::TOPIC_NOT_EXIST) => {
                self.template(name, error).await?
            }
            other => other?,
        };
        let known = Arc::new(Known {
            queues: publish_queues(&route),
            route,
            since: Instant::now(),
        });
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.insert(name.to_owned(), Arc::clone(&known));
        Ok(known)
    }

    async fn template(&self, name: &str, missing: Error) -> Result<TopicRoute, Error> {
        let mut route = match self.client.route(topic::AUTO_CREATE).await {
            Err(error) if error.code() == Some(response::TOPIC_NOT_EXIST) => {
                tracing::debug!(%missing, "and there is no template");
                return Err(Error::NoQueue(name.to_owned()));
            }
            other => other?,
        };
        for data in &mut route.queue_datas {
            let queues = data.read_queue_nums.min(DEFAULT_QUEUES);
            (data.read_queue_nums, data.write_queue_nums) = (queues, queues);
        }
        Ok(route)
    }

    fn forget(&self, name: &str) {
        self.routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producer() -> Producer {
        Producer::new(Arc::new(Client::new(crate::NameServers::default())), "g")
    }

    fn text(message: &Message) -> String {
        String::from_utf8_lossy(&message.properties)
            .replace('\u{1}', "=")
            .replace('\u{2}', ";")
    }

    #[test]
    fn properties_travel_in_the_order_given_and_the_last_of_a_name_counts() {
        let message = Message::new("T", "body")
            .tag("A")
            .keys("k1 k2")
            .tag("B")
            .property("empty", "");
        assert_eq!(text(&message), "WAIT=true;KEYS=k1 k2;TAGS=B");
        let copy = Message::new("T", "body").properties_of(&message.properties);
        assert_eq!(text(&copy), "WAIT=true;KEYS=k1 k2;TAGS=B");
    }

    #[test]
    fn a_message_keeps_its_unique_id_and_gets_one_otherwise() {
        let producer = producer();
        let (own, _) =
            producer.identified(&Message::new("T", "").property(properties::UNIQ_KEY, "ID"));
        assert_eq!(own, "ID");
        let (id, all) = producer.identified(&Message::new("T", ""));
        assert_eq!(
            properties::find_str(&all, properties::UNIQ_KEY),
            Some(id.as_str())
        );
        assert_eq!(id.len(), 32);
    }

    #[test]
    fn after_a_failure_another_broker_is_chosen_if_there_is_one() {
        let producer = producer();
        let queue = |broker: &str, id: u32| Queue {
            broker: broker.into(),
            id: id.into(),
        };
        let known = |queues| Known {
            route: TopicRoute::default(),
            queues,
            since: Instant::now(),
        };
        let two = known(vec![
            queue("a", 0),
            queue("a", 1),
            queue("a", 2),
            queue("b", 0),
        ]);
        for _ in 0..8 {
            assert_eq!(producer.choose(&two, Some("a"), "T").unwrap().broker, "b");
            assert_eq!(producer.choose(&two, Some("b"), "T").unwrap().broker, "a");
        }
        let one = known(vec![queue("a", 0), queue("a", 1)]);
        let first = producer.choose(&one, None, "T").unwrap();
        assert_ne!(
            producer.choose(&one, None, "T").unwrap(),
            first,
            "queues take turns"
        );
        assert_eq!(producer.choose(&one, Some("a"), "T").unwrap().broker, "a");
        assert!(matches!(
            producer.choose(&known(vec![]), None, "T"),
            Err(Error::NoQueue(_))
        ));
    }
}
