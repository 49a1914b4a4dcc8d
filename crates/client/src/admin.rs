//! Administrative calls: one function a request code, the answer as the body's type.
//!
//! Every function asks exactly the broker whose address it is given and demands success. Which brokers a command asks is
//! the caller's decision.

use bytes::Bytes;
use gantry_message::{Epoch, LogOffset};
use gantry_wire::{
    HeaderEncode,
    bodies::{
        ConsumeMessageDirectlyResult, ConsumeStats, ConsumerConnection, ConsumerRunningInfo,
        GroupList, HaStatus, KvTable, SubscriptionGroupConfig, TopicConfig, TopicStatsTable,
    },
    codes::request,
    headers::{
        ConsumeMessageDirectly, CreateTopic, DeleteTopic, GetConsumeStats,
        GetConsumerConnectionList, GetConsumerRunningInfo, GetTopicStatsInfo, Hold, HoldAnswer,
        Promote, QueryTopicConsumeByWho, Rejoin, SeatAnswer, SetReadOnly, SetReadOnlyAnswer,
        TellEpoch, ViewMessage,
    },
};

use crate::{
    Client, Error,
    client::NoFields,
    remote::{parsed, successful},
    timeouts::{ADMIN, LOOK_UP, SLOW_ADMIN},
};

/// What a Gantry broker is after a request about a promotion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seated {
    /// The newest promotion that it knows of.
    pub epoch: Epoch,
    /// `ASYNC_MASTER`, `SYNC_MASTER`, `SLAVE` or `FENCED`.
    pub part: String,
    /// Where its log ends.
    pub max_offset: i64,
}

impl Client {
    /// 17: creates a topic or replaces its settings.
    pub async fn create_topic(&self, broker: &str, config: &TopicConfig) -> Result<(), Error> {
        let header = CreateTopic {
            topic: &config.topic_name,
            default_topic: gantry_message::topic::AUTO_CREATE,
            read_queue_nums: config.read_queue_nums,
            write_queue_nums: config.write_queue_nums,
            perm: config.perm,
            topic_filter_type: config.topic_filter_type.name(),
            topic_sys_flag: Some(config.topic_sys_flag),
            order: config.order,
        };
        self.ask_broker(broker, request::UPDATE_AND_CREATE_TOPIC, &header, ADMIN)
            .await
            .map(drop)
    }

    /// 215: deletes a topic.
    pub async fn delete_topic(&self, broker: &str, topic: &str) -> Result<(), Error> {
        self.ask_broker(
            broker,
            request::DELETE_TOPIC_IN_BROKER,
            &DeleteTopic { topic },
            ADMIN,
        )
        .await
        .map(drop)
    }

    /// 200: creates a subscription group or replaces its settings.
    pub async fn create_group(
        &self,
        broker: &str,
        config: &SubscriptionGroupConfig,
    ) -> Result<(), Error> {
        let code = request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
        let reply = self
            .remote()
            .call(broker, code, &NoFields, config.encode(), ADMIN)
            .await?;
        successful(reply, Some(broker)).map(drop)
    }

    /// 28: a broker's figures by name.
    pub async fn runtime_info(&self, broker: &str) -> Result<KvTable, Error> {
        let reply = self
            .ask_broker(broker, request::GET_BROKER_RUNTIME_INFO, &NoFields, ADMIN)
            .await?;
        parsed("runtime info", broker, KvTable::parse(&reply.body))
    }

    /// 46002: how replication is doing at a Gantry broker.
    pub async fn ha_status(&self, broker: &str) -> Result<HaStatus, Error> {
        let reply = self
            .ask_broker(broker, request::HA_STATUS, &NoFields, ADMIN)
            .await?;
        parsed("replication status", broker, HaStatus::parse(&reply.body))
    }

    /// 46003: lets a Gantry broker take no messages, or take them again. Returns where its log ends.
    pub async fn set_read_only(&self, broker: &str, read_only: bool) -> Result<i64, Error> {
        let header = SetReadOnly { read_only };
        let reply = self
            .ask_broker(broker, request::SET_READ_ONLY, &header, ADMIN)
            .await?;
        let answer: SetReadOnlyAnswer = parsed("answer", broker, reply.fields.header())?;
        Ok(answer.max_offset)
    }

    /// 46004: makes a slave the master, if its log reaches at least to `min_end`.
    pub async fn promote(
        &self,
        broker: &str,
        epoch: Epoch,
        role: &str,
        min_end: i64,
    ) -> Result<Seated, Error> {
        let header = Promote {
            epoch: &epoch.to_string(),
            role,
            min_end,
            check: false,
        };
        self.seated(broker, request::PROMOTE, &header).await
    }

    /// 46004: whether [`Client::promote`] would go through, as far as the slave can tell. Changes nothing.
    pub async fn check_promotion(
        &self,
        broker: &str,
        epoch: Epoch,
        role: &str,
    ) -> Result<Seated, Error> {
        let header = Promote {
            epoch: &epoch.to_string(),
            role,
            min_end: 0,
            check: true,
        };
        self.seated(broker, request::PROMOTE, &header).await
    }

    /// 46005: a master gives its place away, if `seen` is the newest promotion that it knows of and its log ends at `end`.
    /// It writes nothing any more when this returns; after a refusal it is as before.
    pub async fn fence(
        &self,
        broker: &str,
        epoch: Epoch,
        seen: Epoch,
        end: i64,
    ) -> Result<Seated, Error> {
        let header = TellEpoch {
            epoch: &epoch.to_string(),
            if_epoch: Some(&seen.to_string()),
            if_part: Some("MASTER"),
            if_end: Some(end),
        };
        self.seated(broker, request::TELL_EPOCH, &header).await
    }

    /// 46005: there is such a promotion. Who knows of a newer one says so.
    pub async fn tell(&self, broker: &str, epoch: Epoch) -> Result<Seated, Error> {
        let header = TellEpoch {
            epoch: &epoch.to_string(),
            if_epoch: None,
            if_part: None,
            if_end: None,
        };
        self.seated(broker, request::TELL_EPOCH, &header).await
    }

    /// 46005: a slave follows no master before this promotion any more, if `seen` is the newest one that it knows of.
    pub async fn detach(&self, broker: &str, epoch: Epoch, seen: Epoch) -> Result<Seated, Error> {
        let header = TellEpoch {
            epoch: &epoch.to_string(),
            if_epoch: Some(&seen.to_string()),
            if_part: Some("SLAVE"),
            if_end: None,
        };
        self.seated(broker, request::TELL_EPOCH, &header).await
    }

    /// 46007: a master takes no messages for so many milliseconds; 0: it takes them again. Returns where its log ends.
    pub async fn hold(&self, broker: &str, millis: i64) -> Result<i64, Error> {
        let header = Hold { millis };
        let reply = self
            .ask_broker(broker, request::HOLD, &header, ADMIN)
            .await?;
        let answer: HoldAnswer = parsed("answer", broker, reply.fields.header())?;
        Ok(answer.max_offset)
    }

    /// 46006: makes a master that was replaced a slave of the one that this promotion made.
    pub async fn rejoin(&self, broker: &str, epoch: Epoch, id: i64) -> Result<Seated, Error> {
        let header = Rejoin {
            epoch: &epoch.to_string(),
            broker_id: id,
        };
        self.seated(broker, request::REJOIN, &header).await
    }

    async fn seated(
        &self,
        broker: &str,
        code: i32,
        header: &impl HeaderEncode,
    ) -> Result<Seated, Error> {
        let reply = self.ask_broker(broker, code, header, ADMIN).await?;
        let answer: SeatAnswer<'_> = parsed("answer", broker, reply.fields.header())?;
        Ok(Seated {
            epoch: parsed("epoch", broker, answer.epoch.parse())?,
            part: answer.part.to_owned(),
            max_offset: answer.max_offset,
        })
    }

    /// 306: removes queues all of whose messages are gone.
    pub async fn clean_expired_queues(&self, broker: &str) -> Result<(), Error> {
        let code = request::CLEAN_EXPIRED_CONSUMEQUEUE;
        let reply = self.ask_broker(broker, code, &NoFields, SLOW_ADMIN).await;
        reply.map(drop)
    }

    /// 316: removes queues of topics that are not known any more.
    pub async fn clean_unused_topics(&self, broker: &str) -> Result<(), Error> {
        let code = request::CLEAN_UNUSED_TOPIC;
        let reply = self.ask_broker(broker, code, &NoFields, SLOW_ADMIN).await;
        reply.map(drop)
    }

    /// 329: deletes expired files of the log, whatever the hour.
    pub async fn delete_expired_logs(&self, broker: &str) -> Result<(), Error> {
        let code = request::DELETE_EXPIRED_COMMITLOG;
        let reply = self.ask_broker(broker, code, &NoFields, ADMIN).await;
        reply.map(drop)
    }

    /// 202: ends of a topic's queues.
    pub async fn topic_stats(&self, broker: &str, topic: &str) -> Result<TopicStatsTable, Error> {
        let header = GetTopicStatsInfo { topic };
        let reply = self
            .ask_broker(broker, request::GET_TOPIC_STATS_INFO, &header, ADMIN)
            .await?;
        parsed("topic stats", broker, TopicStatsTable::parse(&reply.body))
    }

    /// 208: how far a group is, in all of its topics.
    pub async fn consume_stats(&self, broker: &str, group: &str) -> Result<ConsumeStats, Error> {
        let header = GetConsumeStats {
            consumer_group: group,
            topic: None,
        };
        let reply = self
            .ask_broker(broker, request::GET_CONSUME_STATS, &header, SLOW_ADMIN)
            .await?;
        parsed("consume stats", broker, ConsumeStats::parse(&reply.body))
    }

    /// 203: who consumes, and what.
    pub async fn consumer_connection(
        &self,
        broker: &str,
        group: &str,
    ) -> Result<ConsumerConnection, Error> {
        let header = GetConsumerConnectionList {
            consumer_group: group,
        };
        let reply = self
            .ask_broker(
                broker,
                request::GET_CONSUMER_CONNECTION_LIST,
                &header,
                ADMIN,
            )
            .await?;
        parsed(
            "consumer connections",
            broker,
            ConsumerConnection::parse(&reply.body),
        )
    }

    /// 307: what one consumer is doing, asked of it by its broker.
    pub async fn consumer_running_info(
        &self,
        broker: &str,
        group: &str,
        client_id: &str,
    ) -> Result<ConsumerRunningInfo, Error> {
        let header = GetConsumerRunningInfo {
            consumer_group: group,
            client_id,
            jstack_enable: false,
        };
        let reply = self
            .ask_broker(
                broker,
                request::GET_CONSUMER_RUNNING_INFO,
                &header,
                SLOW_ADMIN,
            )
            .await?;
        parsed(
            "running info",
            broker,
            ConsumerRunningInfo::parse(&reply.body),
        )
    }

    /// 300: groups that consume a topic, online or with offsets, sorted.
    pub async fn groups_of_topic(&self, broker: &str, topic: &str) -> Result<Vec<String>, Error> {
        let header = QueryTopicConsumeByWho { topic };
        let reply = self
            .ask_broker(broker, request::QUERY_TOPIC_CONSUME_BY_WHO, &header, ADMIN)
            .await?;
        let mut groups =
            parsed("groups of a topic", broker, GroupList::parse(&reply.body))?.group_list;
        groups.sort_unstable();
        Ok(groups)
    }

    /// 33: the record at a place of the log.
    pub async fn view_message(&self, broker: &str, offset: LogOffset) -> Result<Bytes, Error> {
        let header = ViewMessage {
            offset: i64::try_from(offset.0).unwrap_or(i64::MAX),
        };
        Ok(self
            .ask_broker(broker, request::VIEW_MESSAGE_BY_ID, &header, LOOK_UP)
            .await?
            .body)
    }

    /// 309: lets one consumer handle a message now; `id` is the message's offset id.
    pub async fn consume_directly(
        &self,
        broker: &str,
        group: &str,
        client_id: &str,
        id: &str,
    ) -> Result<ConsumeMessageDirectlyResult, Error> {
        let header = ConsumeMessageDirectly {
            consumer_group: group,
            client_id: Some(client_id),
            msg_id: Some(id),
            broker_name: None,
        };
        let reply = self
            .ask_broker(
                broker,
                request::CONSUME_MESSAGE_DIRECTLY,
                &header,
                SLOW_ADMIN,
            )
            .await?;
        parsed(
            "result of the consumer",
            broker,
            ConsumeMessageDirectlyResult::parse(&reply.body),
        )
    }
}
