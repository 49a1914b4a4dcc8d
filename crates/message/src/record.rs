//! The message record: how it lies in the log, in pull answers and in query answers.
//!
//! ```text
//!  0 total size i32      4 magic i32          8 body CRC i32       12 queue id i32     16 user flag i32
//! 20 queue offset i64   28 log offset i64    36 sys flag i32       40 born time i64
//! 48 born host (4|16)+4 bytes, store time i64, store host (4|16)+4 bytes, reconsume times i32,
//!    prepared offset i64, body length i32, body, topic length i8, topic, properties length i16, properties
//! ```
//! [`Record::encode`] leaves holes for what only the log's writer knows; [`patch`] fills them. [`RecordView::parse`]
//! checks lengths only: the CRC (of the body, and of nothing else) is checked where somebody asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use crate::{LogOffset, Millis, QueueId, QueueOffset, SysFlag, properties, topic};

/// Marks a message record.
pub const MAGIC: u32 = 0xDAA3_20A7;
/// Marks the record that fills the rest of a segment.
pub const BLANK_MAGIC: u32 = 0xCBD4_3194;

/// Where the magic stands.
pub const MAGIC_AT: usize = 4;
const CRC_AT: usize = MAGIC_AT + 4;
const QUEUE_ID_AT: usize = CRC_AT + 4;
const FLAG_AT: usize = QUEUE_ID_AT + 4;
/// Where the queue offset stands.
pub const QUEUE_OFFSET_AT: usize = FLAG_AT + 4;
/// Where the record's own log offset stands.
pub const LOG_OFFSET_AT: usize = QUEUE_OFFSET_AT + 8;
/// Where the flag word stands.
pub const SYS_FLAG_AT: usize = LOG_OFFSET_AT + 8;
const BORN_TIME_AT: usize = SYS_FLAG_AT + 4;
const BORN_HOST_AT: usize = BORN_TIME_AT + 8;
const HOST_V4: usize = 4 + 4;
const HOST_V6: usize = 16 + 4;
/// What every record with two IPv4 hosts takes beside body, topic and properties.
pub const FIXED_LEN: usize = BORN_HOST_AT + HOST_V4 + 8 + HOST_V4 + 4 + 8 + 4 + 1 + 2;
/// The bytes from the start that hold everything up to the body length, whatever the hosts.
pub const HEAD_LEN_MAX: usize = BORN_HOST_AT + HOST_V6 + 8 + HOST_V6 + 4 + 8 + 4;

const _: () = assert!(QUEUE_OFFSET_AT == 20 && LOG_OFFSET_AT == 28 && SYS_FLAG_AT == 36);
const _: () =
    assert!(BORN_TIME_AT == 40 && BORN_HOST_AT == 48 && FIXED_LEN == 91 && HEAD_LEN_MAX == 112);

/// Why bytes are no record, or why a message cannot become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The topic is empty or longer than 127 bytes.
    #[error("topic of {length} bytes, a record holds 1 to {limit}")]
    TopicLength {
        /// What it has.
        length: usize,
        /// What a record holds.
        limit: usize,
    },
    /// The properties are longer than 32767 bytes.
    #[error("properties of {length} bytes, a record holds {limit}")]
    PropertiesLength {
        /// What they have.
        length: usize,
        /// What a record holds.
        limit: usize,
    },
    /// The record would be longer than a 31-bit number says.
    #[error("body of {length} bytes does not fit a record")]
    BodyLength {
        /// What it has.
        length: usize,
    },
    /// A field below zero or beyond its type.
    #[error("{field} {value} is out of range")]
    OutOfRange {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: i64,
    },
    /// The bytes end inside the record.
    #[error("record ends after {length} bytes")]
    Truncated {
        /// What there is.
        length: usize,
    },
    /// Not a record's magic.
    #[error("magic {magic:#010x} is not a record's")]
    Magic {
        /// What stands there.
        magic: u32,
    },
    /// The record's length and the sum of its parts differ.
    #[error("record says {total} bytes, its parts take {parts}")]
    Length {
        /// What its first field says.
        total: usize,
        /// What its parts take.
        parts: usize,
    },
    /// The topic is not text.
    #[error("topic is not UTF-8")]
    TopicText,
    /// The body is not what its checksum says.
    #[error("body checksum {computed:#010x}, the record says {stored:#010x}")]
    Checksum {
        /// What the record says.
        stored: u32,
        /// What the body gives.
        computed: u32,
    },
}

/// A message as its sender decides it; the log adds queue offset, log offset and store time.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The queue of the topic.
    pub queue_id: QueueId,
    /// The user's flag.
    pub flag: i32,
    /// The flag word; the bits for the hosts' width are set by [`Record::encode`].
    pub sys_flag: SysFlag,
    /// When the producer made it.
    pub born_time: Millis,
    /// Where the producer is.
    pub born_host: SocketAddr,
    /// The broker, as it announces itself.
    pub store_host: SocketAddr,
    /// How often it was delivered before.
    pub reconsume_times: i32,
    /// The log offset of its half message, else 0.
    pub prepared_offset: u64,
    /// The body as it is stored.
    pub body: &'a [u8],
    /// The properties text.
    pub properties: &'a [u8],
}

impl Record<'_> {
    /// How many bytes [`Record::encode`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let wider = |host: SocketAddr| {
            if host.ip().to_canonical().is_ipv4() {
                0
            } else {
                HOST_V6 - HOST_V4
            }
        };
        let hosts = wider(self.born_host) + wider(self.store_host);
        FIXED_LEN + hosts + self.body.len() + self.topic.len() + self.properties.len()
    }

    /// Appends the record with holes for queue offset, log offset and store time. After an error `out` is unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<usize, RecordError> {
        let (total, lengths) = self.lengths()?;
        let (born, store) = (
            self.born_host.ip().to_canonical(),
            self.store_host.ip().to_canonical(),
        );
        let mut sys_flag = self.sys_flag.without(SysFlag::BORN_V6 | SysFlag::STORE_V6);
        sys_flag = if born.is_ipv6() {
            sys_flag.with(SysFlag::BORN_V6)
        } else {
            sys_flag
        };
        sys_flag = if store.is_ipv6() {
            sys_flag.with(SysFlag::STORE_V6)
        } else {
            sys_flag
        };
        let checksum = checksum(self.body);

        let mut head = Head {
            bytes: [0; HEAD_LEN_MAX],
            at: 0,
        };
        head.put(&lengths.total.to_be_bytes());
        head.put(&MAGIC.to_be_bytes());
        head.put(&checksum.to_be_bytes());
        head.put(&self.queue_id.0.to_be_bytes());
        head.put(&self.flag.to_be_bytes());
        head.put(&[0; 8 + 8]);
        head.put(&sys_flag.0.to_be_bytes());
        head.put(&self.born_time.0.to_be_bytes());
        head.put_host(born, self.born_host.port());
        head.put(&[0; 8]);
        head.put_host(store, self.store_host.port());
        head.put(&self.reconsume_times.to_be_bytes());
        head.put(&self.prepared_offset.to_be_bytes());
        head.put(&lengths.body.to_be_bytes());

        let before = out.len();
        out.reserve(total);
        out.extend_from_slice(&head.bytes[..head.at]);
        out.extend_from_slice(self.body);
        out.push(lengths.topic);
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(&lengths.properties.to_be_bytes());
        out.extend_from_slice(self.properties);
        assert_eq!(
            out.len() - before,
            total,
            "a record takes what was computed for it"
        );
        Ok(total)
    }

    fn lengths(&self) -> Result<(usize, Lengths), RecordError> {
        let total = self.encoded_len();
        let topic = self.topic.len();
        if !(0 < topic && topic <= topic::LENGTH_MAX) {
            return Err(RecordError::TopicLength {
                length: topic,
                limit: topic::LENGTH_MAX,
            });
        }
        if i32::try_from(self.queue_id.0).is_err() {
            return Err(RecordError::OutOfRange {
                field: "queue id",
                value: i64::from(self.queue_id.0),
            });
        }
        let properties = self.properties.len();
        let lengths = Lengths {
            total: i32::try_from(total).map_err(|_| RecordError::BodyLength {
                length: self.body.len(),
            })?,
            body: i32::try_from(self.body.len()).map_err(|_| RecordError::BodyLength {
                length: self.body.len(),
            })?,
            topic: u8::try_from(topic).map_err(|_| RecordError::TopicLength {
                length: topic,
                limit: topic::LENGTH_MAX,
            })?,
            properties: i16::try_from(properties).map_err(|_| RecordError::PropertiesLength {
                length: properties,
                limit: properties::LENGTH_MAX,
            })?,
        };
        Ok((total, lengths))
    }
}

struct Lengths {
    total: i32,
    body: i32,
    topic: u8,
    properties: i16,
}

/// The fixed part, built on the stack so that it reaches the buffer in one copy.
struct Head {
    bytes: [u8; HEAD_LEN_MAX],
    at: usize,
}

impl Head {
    #[inline]
    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }

    #[inline]
    fn put_host(&mut self, ip: IpAddr, port: u16) {
        match ip {
            IpAddr::V4(ip) => self.put(&ip.octets()),
            IpAddr::V6(ip) => self.put(&ip.octets()),
        }
        self.put(&u32::from(port).to_be_bytes());
    }
}

/// The checksum a record carries for its body.
#[must_use]
pub fn checksum(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7FFF_FFFF
}

/// Fills the holes of a record that [`Record::encode`] wrote. Anything else is a bug of the caller.
pub fn patch(
    record: &mut [u8],
    queue_offset: QueueOffset,
    log_offset: LogOffset,
    store_time: Millis,
) {
    assert!(
        record.len() >= FIXED_LEN,
        "a record of {} bytes is too short to patch",
        record.len()
    );
    let store_time_at = store_time_at(record[SYS_FLAG_AT + 3]);
    record[QUEUE_OFFSET_AT..QUEUE_OFFSET_AT + 8].copy_from_slice(&queue_offset.0.to_be_bytes());
    record[LOG_OFFSET_AT..LOG_OFFSET_AT + 8].copy_from_slice(&log_offset.0.to_be_bytes());
    record[store_time_at..store_time_at + 8].copy_from_slice(&store_time.0.to_be_bytes());
}

/// Where the store time stands, by the lowest byte of the flag word.
fn store_time_at(sys_flag_low: u8) -> usize {
    let wide = u32::from(sys_flag_low) & SysFlag::BORN_V6 != 0;
    BORN_HOST_AT + if wide { HOST_V6 } else { HOST_V4 }
}

/// A record whose lengths were checked.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    bytes: &'a [u8],
    /// Invariant: `body`, `topic` and `properties` are what the record's length fields say, inside `bytes`.
    body: &'a [u8],
    topic: &'a str,
    properties: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// Reads the record that starts at the first byte; more bytes may follow it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let truncated = RecordError::Truncated {
            length: bytes.len(),
        };
        let total = i32_at(bytes, 0).ok_or(truncated)?;
        let magic = u32_at(bytes, MAGIC_AT).ok_or(truncated)?;
        if magic != MAGIC {
            return Err(RecordError::Magic { magic });
        }
        let total = usize::try_from(total).map_err(|_| RecordError::OutOfRange {
            field: "record size",
            value: i64::from(total),
        })?;
        let bytes = bytes.get(..total).ok_or(truncated)?;
        let mut parts = Parts {
            bytes,
            at: SYS_FLAG_AT,
        };
        let short = RecordError::Length {
            total,
            parts: FIXED_LEN,
        };
        let sys_flag = SysFlag(parts.u32().ok_or(short)?);
        parts
            .take(8 + host_len(sys_flag.has(SysFlag::BORN_V6)) + 8)
            .ok_or(short)?;
        parts
            .take(host_len(sys_flag.has(SysFlag::STORE_V6)) + 4 + 8)
            .ok_or(short)?;
        let body_len = parts.u32().ok_or(short)?.cast_signed();
        let body_len = usize::try_from(body_len).map_err(|_| RecordError::OutOfRange {
            field: "body length",
            value: i64::from(body_len),
        })?;
        let body = parts.sized(body_len, total)?;
        let topic_len = parts.take(1).ok_or(short)?[0].cast_signed();
        let topic_len = usize::try_from(topic_len).map_err(|_| RecordError::OutOfRange {
            field: "topic length",
            value: i64::from(topic_len),
        })?;
        let topic = std::str::from_utf8(parts.sized(topic_len, total)?)
            .map_err(|_| RecordError::TopicText)?;
        let properties_len = parts
            .take(2)
            .map(|two| i16::from_be_bytes([two[0], two[1]]))
            .ok_or(short)?;
        let properties_len =
            usize::try_from(properties_len).map_err(|_| RecordError::OutOfRange {
                field: "properties length",
                value: i64::from(properties_len),
            })?;
        let properties = parts.sized(properties_len, total)?;
        if parts.at != total {
            return Err(RecordError::Length {
                total,
                parts: parts.at,
            });
        }
        let view = Self {
            bytes,
            body,
            topic,
            properties,
        };
        view.check_ranges()?;
        Ok(view)
    }

    fn check_ranges(&self) -> Result<(), RecordError> {
        for (field, at) in [
            ("queue offset", QUEUE_OFFSET_AT),
            ("log offset", LOG_OFFSET_AT),
        ] {
            let value = self.i64(at);
            if value < 0 {
                return Err(RecordError::OutOfRange { field, value });
            }
        }
        let queue_id = self.u32(QUEUE_ID_AT).cast_signed();
        if queue_id < 0 {
            return Err(RecordError::OutOfRange {
                field: "queue id",
                value: i64::from(queue_id),
            });
        }
        Ok(())
    }

    /// Compares the body with its checksum.
    pub fn verify_crc(&self) -> Result<(), RecordError> {
        let (stored, computed) = (self.u32(CRC_AT), checksum(self.body));
        if !self.body.is_empty() && stored != computed {
            return Err(RecordError::Checksum { stored, computed });
        }
        Ok(())
    }

    /// The whole record.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How long the whole record is.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a record is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The queue of the topic.
    #[must_use]
    pub fn queue_id(&self) -> QueueId {
        QueueId(self.u32(QUEUE_ID_AT))
    }

    /// The user's flag.
    #[must_use]
    pub fn flag(&self) -> i32 {
        self.u32(FLAG_AT).cast_signed()
    }

    /// The number of the message in its queue.
    #[must_use]
    pub fn queue_offset(&self) -> QueueOffset {
        QueueOffset(self.i64(QUEUE_OFFSET_AT).cast_unsigned())
    }

    /// Where the record says it lies.
    #[must_use]
    pub fn log_offset(&self) -> LogOffset {
        LogOffset(self.i64(LOG_OFFSET_AT).cast_unsigned())
    }

    /// The flag word.
    #[must_use]
    pub fn sys_flag(&self) -> SysFlag {
        SysFlag(self.u32(SYS_FLAG_AT))
    }

    /// When the producer made it.
    #[must_use]
    pub fn born_time(&self) -> Millis {
        Millis(self.i64(BORN_TIME_AT))
    }

    /// Where the producer is.
    #[must_use]
    pub fn born_host(&self) -> SocketAddr {
        self.host(BORN_HOST_AT, self.sys_flag().has(SysFlag::BORN_V6))
    }

    /// When the broker stored it.
    #[must_use]
    pub fn store_time(&self) -> Millis {
        Millis(self.i64(self.store_time_at()))
    }

    /// The broker that stored it.
    #[must_use]
    pub fn store_host(&self) -> SocketAddr {
        self.host(
            self.store_time_at() + 8,
            self.sys_flag().has(SysFlag::STORE_V6),
        )
    }

    /// How often it was delivered before.
    #[must_use]
    pub fn reconsume_times(&self) -> i32 {
        self.u32(self.after_hosts()).cast_signed()
    }

    /// The log offset of its half message, else 0.
    #[must_use]
    pub fn prepared_offset(&self) -> u64 {
        self.i64(self.after_hosts() + 4).cast_unsigned()
    }

    /// The body as it is stored.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// The properties text.
    #[must_use]
    pub fn properties(&self) -> &'a [u8] {
        self.properties
    }

    /// The value of a property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&'a [u8]> {
        properties::find(self.properties, name)
    }

    /// The record as a sender would write it again.
    #[must_use]
    pub fn to_record(&self) -> Record<'a> {
        Record {
            topic: self.topic,
            queue_id: self.queue_id(),
            flag: self.flag(),
            sys_flag: self.sys_flag(),
            born_time: self.born_time(),
            born_host: self.born_host(),
            store_host: self.store_host(),
            reconsume_times: self.reconsume_times(),
            prepared_offset: self.prepared_offset(),
            body: self.body,
            properties: self.properties,
        }
    }

    fn store_time_at(&self) -> usize {
        store_time_at(self.bytes[SYS_FLAG_AT + 3])
    }

    fn after_hosts(&self) -> usize {
        self.store_time_at() + 8 + host_len(self.sys_flag().has(SysFlag::STORE_V6))
    }

    fn host(&self, at: usize, wide: bool) -> SocketAddr {
        let ip = if wide {
            let mut octets = [0; 16];
            octets.copy_from_slice(&self.bytes[at..at + 16]);
            IpAddr::V6(Ipv6Addr::from(octets))
        } else {
            IpAddr::V4(Ipv4Addr::from(self.u32(at)))
        };
        // A port that does not fit says that the client's address was not known; 0 says the same.
        let port = self.u32(at + host_len(wide) - 4);
        SocketAddr::new(ip, u16::try_from(port).unwrap_or(0))
    }

    // Invariant: `parse` proved that the fixed fields lie inside `bytes`.
    fn u32(&self, at: usize) -> u32 {
        u32_at(self.bytes, at).unwrap_or_default()
    }

    fn i64(&self, at: usize) -> i64 {
        i64_at(self.bytes, at).unwrap_or_default()
    }
}

fn host_len(wide: bool) -> usize {
    if wide { HOST_V6 } else { HOST_V4 }
}

/// The store time of a record whose first [`HEAD_LEN_MAX`] bytes (or all, if it is shorter) are at hand.
#[must_use]
pub fn peek_store_time(head: &[u8]) -> Option<Millis> {
    i64_at(head, store_time_at(*head.get(SYS_FLAG_AT + 3)?)).map(Millis)
}

/// What the head of a record says; nothing of it is covered by the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Length of the whole record.
    pub len: u32,
    /// Its queue in the topic.
    pub queue_id: QueueId,
    /// Its place in that queue.
    pub queue_offset: QueueOffset,
    /// Its place in the log.
    pub log_offset: LogOffset,
    /// When it was stored.
    pub store_time: Millis,
}

impl RecordHead {
    /// Reads a head of which the first [`HEAD_LEN_MAX`] bytes (or all of the record, if it is shorter) are at hand; `None`
    /// for what is none.
    #[must_use]
    pub fn peek(head: &[u8]) -> Option<Self> {
        if u32_at(head, MAGIC_AT)? != MAGIC {
            return None;
        }
        let place = |at| u64::try_from(i64_at(head, at)?).ok();
        Some(Self {
            len: u32_at(head, 0)?,
            queue_id: QueueId(u32_at(head, QUEUE_ID_AT)?),
            queue_offset: QueueOffset(place(QUEUE_OFFSET_AT)?),
            log_offset: LogOffset(place(LOG_OFFSET_AT)?),
            store_time: peek_store_time(head)?,
        })
    }
}

struct Parts<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Parts<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    fn sized(&mut self, len: usize, total: usize) -> Result<&'a [u8], RecordError> {
        let parts = self.at.saturating_add(len);
        self.take(len).ok_or(RecordError::Length { total, parts })
    }

    fn u32(&mut self) -> Option<u32> {
        let value = u32_at(self.bytes, self.at)?;
        self.at += 4;
        Some(value)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    u32_at(bytes, at).map(u32::cast_signed)
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the wire specification.
    const GOLDEN: &str = "0000006a daa320a7 58932aac 00000003 00000000 0000000000000004 0000000000000005 00000000 \
                          0000000000000001 0a000009000015b3 0000000000000002 0a00000100002a9f 00000000 \
                          0000000000000000 00000002 6869 06 546f70696341 0007 4b455953016b31";

    fn golden() -> Vec<u8> {
        let digits: String = GOLDEN.split_whitespace().collect();
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect()
    }

    fn record() -> Record<'static> {
        Record {
            topic: "TopicA",
            queue_id: QueueId(3),
            flag: 0,
            sys_flag: SysFlag(0),
            born_time: Millis(1),
            born_host: "10.0.0.9:5555".parse().unwrap(),
            store_host: "10.0.0.1:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_offset: 0,
            body: b"hi",
            properties: b"KEYS\x01k1",
        }
    }

    #[test]
    fn a_record_is_written_as_java_writes_it() {
        let mut out = vec![7];
        assert_eq!(record().encode(&mut out), Ok(106));
        patch(&mut out[1..], QueueOffset(4), LogOffset(5), Millis(2));
        assert_eq!(out[1..], golden());
    }

    #[test]
    fn a_record_of_java_is_read() {
        let bytes = [golden(), vec![1, 2, 3]].concat();
        let view = RecordView::parse(&bytes).unwrap();
        assert_eq!(view.verify_crc(), Ok(()));
        assert_eq!(view.len(), 106);
        assert_eq!(
            (view.topic(), view.body(), view.property("KEYS")),
            ("TopicA", &b"hi"[..], Some(&b"k1"[..]))
        );
        assert_eq!(
            (view.queue_id(), view.queue_offset(), view.log_offset()),
            (QueueId(3), QueueOffset(4), LogOffset(5))
        );
        assert_eq!(
            (view.born_time(), view.store_time()),
            (Millis(1), Millis(2))
        );
        assert_eq!(view.born_host(), "10.0.0.9:5555".parse().unwrap());
        assert_eq!(view.store_host(), "10.0.0.1:10911".parse().unwrap());
        assert_eq!(peek_store_time(&bytes), Some(Millis(2)));
    }

    #[test]
    fn hosts_of_every_width_go_both_ways() {
        for born in ["10.0.0.9:5555", "[2001:db8::1]:5555"] {
            for store in ["10.0.0.1:10911", "[2001:db8::2]:10911"] {
                let (born_host, store_host) = (born.parse().unwrap(), store.parse().unwrap());
                let record = Record {
                    born_host,
                    store_host,
                    sys_flag: SysFlag(0x31),
                    reconsume_times: 3,
                    ..record()
                };
                let mut out = Vec::new();
                assert_eq!(record.encode(&mut out), Ok(record.encoded_len()));
                patch(&mut out, QueueOffset(1), LogOffset(2), Millis(3));
                let view = RecordView::parse(&out).unwrap();
                assert_eq!(
                    (view.born_host(), view.store_host()),
                    (born_host, store_host)
                );
                assert_eq!((view.store_time(), view.reconsume_times()), (Millis(3), 3));
                assert!(view.sys_flag().has(SysFlag::COMPRESSED));
                assert_eq!(peek_store_time(&out), Some(Millis(3)));
            }
        }
    }

    #[test]
    fn a_mapped_address_is_stored_as_the_ipv4_one_it_is() {
        let mut out = Vec::new();
        Record {
            born_host: "[::ffff:10.0.0.9]:5555".parse().unwrap(),
            ..record()
        }
        .encode(&mut out)
        .unwrap();
        patch(&mut out, QueueOffset(4), LogOffset(5), Millis(2));
        assert_eq!(out, golden());
    }

    #[test]
    fn what_does_not_fit_leaves_the_buffer_alone() {
        let (long, wide) = ("a".repeat(128), vec![b'a'; 32768]);
        let mut out = vec![1, 2];
        for (record, expected) in [
            (
                Record {
                    topic: "",
                    ..record()
                },
                RecordError::TopicLength {
                    length: 0,
                    limit: 127,
                },
            ),
            (
                Record {
                    topic: &long,
                    ..record()
                },
                RecordError::TopicLength {
                    length: 128,
                    limit: 127,
                },
            ),
            (
                Record {
                    properties: &wide,
                    ..record()
                },
                RecordError::PropertiesLength {
                    length: 32768,
                    limit: 32767,
                },
            ),
        ] {
            assert_eq!(record.encode(&mut out), Err(expected));
        }
        assert_eq!(out, [1, 2]);
    }

    #[test]
    fn every_cut_of_a_record_is_an_error() {
        let whole = golden();
        for length in 0..whole.len() {
            assert_eq!(
                RecordView::parse(&whole[..length]).unwrap_err(),
                RecordError::Truncated { length },
                "cut at {length}"
            );
        }
    }

    #[test]
    fn no_changed_byte_makes_a_panic_and_a_changed_body_is_seen() {
        let whole = golden();
        for at in 0..whole.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFF, whole[at] ^ 0x10] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if let Ok(view) = RecordView::parse(&bytes) {
                    let rewritten = view.to_record();
                    assert_eq!(
                        view.verify_crc().is_err(),
                        bytes[8..12] != whole[8..12] || view.body() != b"hi"
                    );
                    assert_eq!(rewritten.encoded_len(), view.len());
                }
            }
        }
    }

    #[test]
    fn a_size_that_is_not_the_sum_of_the_parts_is_refused() {
        let mut bytes = [golden(), vec![0; 4]].concat();
        bytes[3] += 2;
        assert_eq!(
            RecordView::parse(&bytes).unwrap_err(),
            RecordError::Length {
                total: 108,
                parts: 106
            }
        );
        bytes[3] = 12;
        assert!(matches!(
            RecordView::parse(&bytes),
            Err(RecordError::Length { total: 12, .. })
        ));
    }
}
