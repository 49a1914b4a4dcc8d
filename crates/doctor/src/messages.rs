//! Messages out of the log: which ones are wanted, and how one looks as JSON.
//!
//! Damage does not end a reading: what can be read behind it follows, and the caller is told what was left out.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use gantry_message::{MessageId, RecordView, properties};
use gantry_store::offline::Reason;
use serde::Serialize;

use crate::log::{Item, Log, walk, wide};
use crate::progress::Progress;
use crate::report::Findings;
use crate::target::{DoctorError, Target};

/// Which messages are wanted; everything that is `None` lets all pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Log offset of the first.
    pub from: Option<u64>,
    /// Log offset behind the last.
    pub to: Option<u64>,
    /// Of this topic.
    pub topic: Option<String>,
    /// Of the queue with this number.
    pub queue: Option<u32>,
    /// With this key or unique key.
    pub key: Option<String>,
    /// At most so many.
    pub limit: Option<u64>,
}

impl Selection {
    fn takes(&self, view: &RecordView<'_>) -> bool {
        let topic = self.topic.as_deref();
        let has_key = |key: &String| {
            properties::index_keys(view.properties()).any(|own| own == key.as_bytes())
        };
        topic.is_none_or(|topic| topic == view.topic())
            && self.queue.is_none_or(|queue| queue == view.queue_id().0)
            && self.key.as_ref().is_none_or(has_key)
    }
}

/// What a reading comes by.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    /// A wanted message.
    Message(&'a RecordView<'a>),
    /// A part of the log that cannot be read.
    Left { from: u64, to: u64, why: String },
}

/// What a reading came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadTotals {
    /// So many messages.
    pub messages: u64,
    /// Bytes that could not be read.
    pub left_bytes: u64,
    /// Where to go on.
    pub next: u64,
}

/// Reads the wanted messages in the order of the log.
pub(crate) fn read(
    target: &Target,
    selection: &Selection,
    progress: &Progress,
    see: &mut dyn FnMut(Seen<'_>) -> std::io::Result<()>,
) -> Result<ReadTotals, DoctorError> {
    let log = Log::find(target, &mut Findings::new(0))?;
    let from = selection.from.unwrap_or(0).max(log.chain.min());
    let to = selection.to.unwrap_or(u64::MAX);
    progress.begin("log", log.files_end().min(to).saturating_sub(from));
    let mut totals = ReadTotals {
        next: from,
        ..ReadTotals::default()
    };
    if selection.limit == Some(0) {
        return Ok(totals);
    }
    let output = |error| DoctorError::Io {
        doing: "write",
        path: "the output".into(),
        source: error,
    };
    let end = walk(&log.chain, from, None, &mut |item| {
        match item {
            Item::Record(view) => {
                let at = view.log_offset().0;
                if at >= to {
                    return Ok(ControlFlow::Break(()));
                }
                let len = wide(view.len());
                progress.further(len);
                totals.next = at.saturating_add(len);
                if selection.takes(&view) {
                    totals.messages += 1;
                    see(Seen::Message(&view)).map_err(output)?;
                    if selection.limit == Some(totals.messages) {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            Item::Closed { .. } => {}
            Item::Damaged { from, to, reason } => {
                totals.left_bytes += to.saturating_sub(from);
                let why = reason.to_string();
                see(Seen::Left { from, to, why }).map_err(output)?;
            }
            Item::Missing { from, to } => {
                totals.left_bytes += to.saturating_sub(from);
                let why = "segments are missing".to_owned();
                see(Seen::Left { from, to, why }).map_err(output)?;
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if let Some(reason) = end.reason.filter(|reason| *reason != Reason::Zeros) {
        let (from, to) = (end.at, log.chain.find(end.at).map_or(end.at, |s| s.end()));
        let why = format!("{reason}; no record comes behind it");
        see(Seen::Left { from, to, why }).map_err(output)?;
    }
    progress.end();
    Ok(totals)
}

/// A message as JSON; the names are those of Java's `MessageExt`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message<'a> {
    /// Where the record starts in the log.
    offset: u64,
    /// How long it is.
    size: usize,
    msg_id: String,
    topic: &'a str,
    queue_id: u32,
    queue_offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    uniq_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<String>,
    flag: i32,
    sys_flag: u32,
    born_timestamp: i64,
    born_host: String,
    store_timestamp: i64,
    store_host: String,
    reconsume_times: i32,
    prepared_transaction_offset: u64,
    properties: BTreeMap<String, String>,
    /// The properties as they are stored, where they are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    properties_base64: Option<String>,
    body_length: usize,
    /// As it is stored: compressed where `sysFlag` says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl<'a> Message<'a> {
    /// Without the body.
    pub(crate) fn new(view: &RecordView<'a>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let property = |name| view.property(name).map(text);
        let is_text = std::str::from_utf8(view.properties()).is_ok();
        Self {
            offset: view.log_offset().0,
            size: view.len(),
            msg_id: id_of(view),
            topic: view.topic(),
            queue_id: view.queue_id().0,
            queue_offset: view.queue_offset().0,
            uniq_key: property(properties::UNIQ_KEY),
            keys: property(properties::KEYS),
            tags: property(properties::TAGS),
            flag: view.flag(),
            sys_flag: view.sys_flag().0,
            born_timestamp: view.born_time().0,
            born_host: view.born_host().to_string(),
            store_timestamp: view.store_time().0,
            store_host: view.store_host().to_string(),
            reconsume_times: view.reconsume_times(),
            prepared_transaction_offset: view.prepared_offset(),
            properties: properties::iter(view.properties())
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            properties_base64: (!is_text).then(|| base64(view.properties())),
            body_length: view.body().len(),
            body_base64: None,
        }
    }

    /// With the body.
    pub(crate) fn with_body(mut self, view: &RecordView<'_>) -> Self {
        self.body_base64 = Some(base64(view.body()));
        self
    }
}

/// The id that the broker gave to the message.
pub(crate) fn id_of(view: &RecordView<'_>) -> String {
    let id = MessageId {
        host: view.store_host(),
        offset: view.log_offset(),
    };
    id.to_string()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (nth, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = usize::from(u8::try_from(bits >> shift & 63).unwrap_or(0));
            text.push(if nth <= three.len() {
                char::from(BASE64[digit])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_what_every_reader_expects() {
        // RFC 4648, chapter 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(super::base64(bytes.as_bytes()), text);
        }
        assert_eq!(super::base64(&[0xFB, 0xFF]), "+/8=");
    }
}
