//! What several bodies share: queues, versions, lists of names, tables of texts.

use std::collections::BTreeMap;

use super::bodies;
use crate::json::{Error, FromJson, Key, MapKey, Reader, ToJson, Writer};
use crate::language::Language;

bodies! {
    /// Names one queue; as a key of a map it is a whole object.
    #[derive(Eq, Hash, PartialOrd, Ord)]
    MessageQueue "MessageQueue" {
        broker_name: String, "brokerName";
        queue_id: i32, "queueId";
        topic: String, "topic";
    }

    /// Says whether a table changed; equal only if both numbers are.
    #[derive(Copy, Eq, Hash)]
    DataVersion "DataVersion" {
        counter: i64, "counter";
        /// When it changed.
        timestamp: i64, "timestamp";
    }

    /// Texts by name: broker runtime info (28), a namespace of the name server (219), order configuration (103).
    #[derive(Eq)]
    KvTable "KVTable" {
        table: BTreeMap<String, String>, "table";
    }

    /// `kvConfig.json` of a name server: namespace, key, value.
    #[derive(Eq)]
    KvConfig "KVConfigSerializeWrapper" {
        config_table: BTreeMap<String, BTreeMap<String, String>>, "configTable";
    }

    /// Names of topics (206, 224, 304, 305, 311 to 313).
    #[derive(Eq)]
    TopicList "TopicList" {
        broker_addr: Option<String>, "brokerAddr";
        topic_list: Vec<String>, "topicList";
    }

    /// Names of groups (300).
    #[derive(Eq)]
    GroupList "GroupList" {
        group_list: Vec<String>, "groupList";
    }
}

impl DataVersion {
    /// The version after one more change.
    #[must_use]
    pub fn next(self, now: i64) -> Self {
        DataVersion {
            counter: self.counter.wrapping_add(1),
            timestamp: now,
        }
    }
}

impl MapKey for MessageQueue {
    const TEXT: bool = false;

    /// Java writes the object raw; a string that holds the object is read as well.
    fn from_key(key: &Key<'_>, reader: &Reader<'_>) -> Result<Self, Error> {
        let text = match key {
            Key::Text(text) => text.as_ref(),
            Key::Object(text) => text,
        };
        let mut inner = reader.inner(text);
        let queue = Self::from_json(&mut inner)?;
        inner.finish()?;
        Ok(queue.unwrap_or_default())
    }

    fn to_key(&self, writer: &mut Writer) {
        self.to_json(writer);
    }
}

impl FromJson for Language {
    fn from_json(reader: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        reader
            .scalar()
            .map(|value| Some(Language::from_scalar(&value)))
    }
}

impl ToJson for Language {
    fn to_json(&self, writer: &mut Writer) {
        match self.name() {
            Some(name) => writer.text(name),
            None => writer.raw("null"),
        }
    }

    fn is_null(&self) -> bool {
        self.name().is_none()
    }
}
