//! What a broker registers (103), in its three forms.
//!
//! The compressed form is a zlib stream of
//! ```text
//! length 4, data version as JSON | topic count 4 | per topic: length 4, text | length 4, filter servers as JSON array
//! text: name readQueueNums writeQueueNums perm filterType   (blanks between)
//! ```
//! It loses a topic's `order` and `topicSysFlag`. Inflation stops at [`INFLATED_MAX`], and counts and lengths in the stream
//! are believed only as far as there are bytes behind them.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};

use super::{BodyError, DataVersion, TopicConfig, TopicConfigTable, TopicFilterType, bodies};
use crate::json::{self, Dialect};

/// Bytes that a compressed registration may inflate to: half a million topics.
pub const INFLATED_MAX: usize = 32 << 20;

bodies! {
    /// Topics of a broker, and its filter servers, which no longer exist.
    #[derive(Eq)]
    Registration "RegisterBrokerBody" {
        filter_server_list: Vec<String>, "filterServerList";
        topic_config_serialize_wrapper: TopicConfigTable, "topicConfigSerializeWrapper";
    }
}

/// Why a registration could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// JSON in it is wrong.
    #[error(transparent)]
    Json(#[from] BodyError),
    /// It is no zlib stream, or a damaged one.
    #[error("compressed registration does not inflate: {0}")]
    NotZlib(String),
    /// It inflates to more than we take.
    #[error("compressed registration inflates to more than {INFLATED_MAX} bytes")]
    TooLarge,
    /// It ends too early.
    #[error("compressed registration ends within {what}: {wanted} bytes wanted, {left} left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes that it needs.
        wanted: i64,
        /// Bytes that are left.
        left: usize,
    },
    /// A topic's text does not have five parts, or a part is no number.
    #[error("topic {0:?} of a compressed registration is not `name read write perm filterType`")]
    Topic(String),
}

/// CRC of a body as the registration header carries it: without the highest bit.
pub fn body_crc32(body: &[u8]) -> i32 {
    i32::try_from(crc32fast::hash(body) & 0x7fff_ffff).unwrap_or(0)
}

impl Registration {
    /// Reads the body that goes with a registration header. An absent body means a broker without topics.
    pub fn read(body: &[u8], compressed: bool) -> Result<Self, RegistrationError> {
        match (body.is_empty(), compressed) {
            (true, _) => Ok(Self::default()),
            (false, true) => inflate(body).and_then(|plain| Self::parse_inflated(&plain)),
            (false, false) => Ok(Self::parse(body)?),
        }
    }

    /// Reads the body of a broker before [`crate::version::REGISTER_WITH_FILTER_SERVERS`]: the topic table alone.
    pub fn read_topics_only(body: &[u8]) -> Result<Self, RegistrationError> {
        let table = if body.is_empty() {
            TopicConfigTable::default()
        } else {
            TopicConfigTable::parse(body)?
        };
        Ok(Registration {
            filter_server_list: Vec::new(),
            topic_config_serialize_wrapper: table,
        })
    }

    /// Prints the compressed form.
    pub fn encode_compressed(&self) -> Vec<u8> {
        let table = &self.topic_config_serialize_wrapper;
        let mut plain = Vec::new();
        put(&mut plain, &table.data_version.encode());
        plain.extend_from_slice(
            &u32::try_from(table.topic_config_table.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        for topic in table.topic_config_table.values() {
            put(&mut plain, topic.encode_text().as_bytes());
        }
        put(
            &mut plain,
            &json::print(&self.filter_server_list, Dialect::Compact),
        );
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        let written = encoder.write_all(&plain).and_then(|()| encoder.finish());
        written.unwrap_or_else(|error| unreachable!("a vector takes everything: {error}"))
    }

    fn parse_inflated(plain: &[u8]) -> Result<Self, RegistrationError> {
        let mut rest = plain;
        let data_version = DataVersion::parse(take(&mut rest, "data version")?)?;
        let count = length(&mut rest, "topic count")?;
        let mut topics = BTreeMap::new();
        for _ in 0..count {
            let text = String::from_utf8_lossy(take(&mut rest, "topic")?);
            let topic = TopicConfig::parse_text(&text)
                .ok_or_else(|| RegistrationError::Topic(text.chars().take(64).collect()))?;
            topics.insert(topic.topic_name.clone(), topic);
        }
        let filter_server_list = json::parse(take(&mut rest, "filter servers")?)?;
        let table = TopicConfigTable {
            data_version,
            topic_config_table: topics,
        };
        Ok(Registration {
            filter_server_list,
            topic_config_serialize_wrapper: table,
        })
    }
}

impl TopicConfig {
    /// The short text of a compressed registration.
    pub fn encode_text(&self) -> String {
        let TopicConfig {
            topic_name,
            read_queue_nums,
            write_queue_nums,
            perm,
            topic_filter_type,
            ..
        } = self;
        format!("{topic_name} {read_queue_nums} {write_queue_nums} {perm} {topic_filter_type}")
    }

    /// Reads the short text; `None` if it does not have five parts with numbers where they belong.
    pub fn parse_text(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ' ').collect();
        let [name, read, write, perm, filter] = parts.as_slice() else {
            return None;
        };
        Some(TopicConfig {
            topic_name: (*name).to_string(),
            read_queue_nums: read.parse().ok()?,
            write_queue_nums: write.parse().ok()?,
            perm: perm.parse().ok()?,
            topic_filter_type: TopicFilterType::from_name(filter)?,
            ..TopicConfig::default()
        })
    }
}

fn inflate(body: &[u8]) -> Result<Vec<u8>, RegistrationError> {
    let mut plain = Vec::new();
    let limit = u64::try_from(INFLATED_MAX)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let inflated = ZlibDecoder::new(body).take(limit).read_to_end(&mut plain);
    inflated.map_err(|error| RegistrationError::NotZlib(error.to_string()))?;
    if INFLATED_MAX < plain.len() {
        return Err(RegistrationError::TooLarge);
    }
    Ok(plain)
}

fn put(plain: &mut Vec<u8>, bytes: &[u8]) {
    plain.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    plain.extend_from_slice(bytes);
}

fn length(rest: &mut &[u8], what: &'static str) -> Result<i32, RegistrationError> {
    let cut = RegistrationError::Truncated {
        what,
        wanted: 4,
        left: rest.len(),
    };
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(cut)?;
    *rest = tail;
    Ok(i32::from_be_bytes(*head))
}

fn take<'a>(rest: &mut &'a [u8], what: &'static str) -> Result<&'a [u8], RegistrationError> {
    let wanted = length(rest, what)?;
    let cut = RegistrationError::Truncated {
        what,
        wanted: i64::from(wanted),
        left: rest.len(),
    };
    let len = usize::try_from(wanted).map_err(|_| cut.clone())?;
    let (head, tail) = rest.split_at_checked(len).ok_or(cut)?;
    *rest = tail;
    Ok(head)
}
