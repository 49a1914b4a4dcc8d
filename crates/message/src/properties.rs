//! The properties text of a message: `name 1 value`, joined by 2; the names that servers and clients give a meaning.
//!
//! Reading is as lenient as Java's: a piece without a name, a value or the byte between them is passed over.
//! Works on bytes, because a property may hold anything and the server looks at few of them.

/// Between a name and its value.
pub const NAME_VALUE_SEPARATOR: u8 = 1;
/// Between two properties (and, from some clients, behind the last).
pub const PROPERTY_SEPARATOR: u8 = 2;
/// The longest text a record holds, in bytes.
pub const LENGTH_MAX: usize = 32767;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => { $($(#[$doc])* pub const $name: &str = $text;)* };
}

names! {
    /// Keys by which the message is found, separated by blanks.
    KEYS = "KEYS";
    /// The tag that subscriptions select by.
    TAGS = "TAGS";
    /// The client's own message id; indexed.
    UNIQ_KEY = "UNIQ_KEY";
    /// Whether the answer waits for what the broker promises (default `true`).
    WAIT = "WAIT";
    /// The delay level.
    DELAY = "DELAY";
    /// The original topic of a message that is delivered again.
    RETRY_TOPIC = "RETRY_TOPIC";
    /// The first id of a message that is delivered again.
    ORIGIN_MESSAGE_ID = "ORIGIN_MESSAGE_ID";
    /// How often it was consumed, when a client sends it to its retry topic itself.
    RECONSUME_TIME = "RECONSUME_TIME";
    /// How often it may be consumed.
    MAX_RECONSUME_TIMES = "MAX_RECONSUME_TIMES";
    /// The topic a delayed or half message goes to.
    REAL_TOPIC = "REAL_TOPIC";
    /// The queue a delayed or half message goes to.
    REAL_QID = "REAL_QID";
    /// `true`: a half message.
    TRAN_MSG = "TRAN_MSG";
    /// The producer group of a transaction.
    PGROUP = "PGROUP";
    /// Where the half message of a check stands.
    TRAN_PREPARED_QUEUE_OFFSET = "TRAN_PREPARED_QUEUE_OFFSET";
    /// How often a half message was asked about.
    TRANSACTION_CHECK_TIMES = "TRANSACTION_CHECK_TIMES";
    /// How long a half message is not asked about.
    CHECK_IMMUNITY_TIME_IN_SECONDS = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    /// The cluster that stored the message.
    CLUSTER = "CLUSTER";
    /// The region of the broker.
    MSG_REGION = "MSG_REGION";
    /// Whether the message is traced.
    TRACE_ON = "TRACE_ON";
    /// The name space of the client.
    INSTANCE_ID = "INSTANCE_ID";
    /// Ties a reply to its request.
    CORRELATION_ID = "CORRELATION_ID";
    /// The client that waits for the reply.
    REPLY_TO_CLIENT = "REPLY_TO_CLIENT";
    /// How long a request waits.
    TTL = "TTL";
    /// `reply` for replies.
    MSG_TYPE = "MSG_TYPE";
    /// When a reply arrived at the broker.
    ARRIVE_TIME = "ARRIVE_TIME";
    /// When a reply was passed on.
    PUSH_REPLY_TIME = "PUSH_REPLY_TIME";
    /// Further queues of a message.
    INNER_MULTI_DISPATCH = "INNER_MULTI_DISPATCH";
    /// The message's offsets in them.
    INNER_MULTI_QUEUE_OFFSET = "INNER_MULTI_QUEUE_OFFSET";
    /// Set by consumers on what they pull.
    MIN_OFFSET = "MIN_OFFSET";
    /// Set by consumers on what they pull.
    MAX_OFFSET = "MAX_OFFSET";
    /// Set by consumers on what they pull.
    CONSUME_START_TIME = "CONSUME_START_TIME";
    /// Passed through.
    BUYER_ID = "BUYER_ID";
    /// Passed through.
    TRANSFER_FLAG = "TRANSFER_FLAG";
    /// Passed through.
    CORRECTION_FLAG = "CORRECTION_FLAG";
    /// Passed through.
    MQ2_FLAG = "MQ2_FLAG";
}

/// Every well-formed pair, in order. Of two with one name the later counts.
pub fn iter(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|&byte| byte == PROPERTY_SEPARATOR)
        .filter_map(pair)
}

fn pair(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = piece
        .iter()
        .position(|&byte| byte == NAME_VALUE_SEPARATOR)?;
    let (name, value) = (piece.get(..at)?, piece.get(at + 1..)?);
    (!name.is_empty() && !value.is_empty()).then_some((name, value))
}

/// The value of a property.
#[must_use]
pub fn find<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    iter(text)
        .filter(|(found, _)| *found == name.as_bytes())
        .last()
        .map(|(_, value)| value)
}

/// The value of a property, if it is text.
#[must_use]
pub fn find_str<'a>(text: &'a [u8], name: &str) -> Option<&'a str> {
    find(text, name).and_then(|value| std::str::from_utf8(value).ok())
}

/// Appends a pair, with a separator before it when `out` holds something that does not already end in one.
pub fn push(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    separate(out);
    out.extend_from_slice(name.as_bytes());
    out.push(NAME_VALUE_SEPARATOR);
    out.extend_from_slice(value);
}

/// Appends every well-formed pair of `text` but those named in `dropped`. `out` holds nothing but properties.
pub fn copy_without(out: &mut Vec<u8>, text: &[u8], dropped: &[&str]) {
    for piece in text.split(|&byte| byte == PROPERTY_SEPARATOR) {
        let Some((name, _)) = pair(piece) else {
            continue;
        };
        if !dropped.iter().any(|dropped| dropped.as_bytes() == name) {
            separate(out);
            out.extend_from_slice(piece);
        }
    }
}

fn separate(out: &mut Vec<u8>) {
    if out.last().is_some_and(|&last| last != PROPERTY_SEPARATOR) {
        out.push(PROPERTY_SEPARATOR);
    }
}

/// The keys a message is indexed by: its `UNIQ_KEY`, then each piece of `KEYS` between single blanks.
pub fn index_keys(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut unique, mut keys): (Option<&[u8]>, &[u8]) = (None, b"");
    for (name, value) in iter(text) {
        if name == UNIQ_KEY.as_bytes() {
            unique = Some(value);
        } else if name == KEYS.as_bytes() {
            keys = value;
        }
    }
    unique.into_iter().chain(
        keys.split(|&byte| byte == b' ')
            .filter(|key| !key.is_empty()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pairs: &[(&str, &str)]) -> String {
        pairs
            .iter()
            .map(|(name, value)| format!("{name}={value};"))
            .collect()
    }

    fn parsed(source: &[u8]) -> String {
        let pairs: Vec<_> = iter(source)
            .map(|(n, v)| {
                (
                    std::str::from_utf8(n).unwrap(),
                    std::str::from_utf8(v).unwrap(),
                )
            })
            .collect();
        text(&pairs)
    }

    #[test]
    fn reading_passes_over_what_is_no_pair() {
        for (source, expected) in [
            ("", ""),
            ("a\u{1}b", "a=b;"),
            ("a\u{1}b\u{2}", "a=b;"),
            ("\u{2}\u{2}a\u{1}b\u{2}c\u{1}d\u{2}", "a=b;c=d;"),
            ("a\u{1}", ""),
            ("\u{1}b", ""),
            ("abc", ""),
            ("a\u{1}b\u{1}c", "a=b\u{1}c;"),
            ("abc\u{2}d\u{1}e", "d=e;"),
        ] {
            assert_eq!(parsed(source.as_bytes()), expected, "{source:?}");
        }
    }

    #[test]
    fn the_later_of_two_with_one_name_counts() {
        assert_eq!(find(b"a\x01b\x02a\x01c\x02b\x01d", "a"), Some(&b"c"[..]));
        assert_eq!(find_str(b"a\x01b", "a"), Some("b"));
        assert_eq!(find(b"ab\x01b", "a"), None);
    }

    #[test]
    fn pushing_separates_only_where_needed() {
        let mut out = Vec::new();
        push(&mut out, "a", b"1");
        push(&mut out, "b", b"2");
        out.push(PROPERTY_SEPARATOR);
        push(&mut out, "c", b"3");
        assert_eq!(out, b"a\x011\x02b\x012\x02c\x013");
    }

    #[test]
    fn copying_drops_by_name_and_leaves_no_separator_behind() {
        let mut out = Vec::new();
        copy_without(
            &mut out,
            b"WAIT\x01true\x02a\x01b\x02junk\x02WAITING\x01x\x02",
            &[WAIT],
        );
        assert_eq!(out, b"a\x01b\x02WAITING\x01x");
    }

    #[test]
    fn a_message_is_indexed_by_its_unique_key_and_each_of_its_keys() {
        let keys: Vec<_> = index_keys(b"KEYS\x01k1  k2\x02UNIQ_KEY\x01u").collect();
        assert_eq!(keys, [&b"u"[..], b"k1", b"k2"]);
        assert_eq!(index_keys(b"TAGS\x01t").count(), 0);
    }
}
