//! Topic names: the ones the server knows by itself, what a name may look like, and the names made from groups.

use thiserror::Error;

/// The template of automatically created topics.
pub const AUTO_CREATE: &str = "TBW102";
/// Delayed messages wait here, one queue a level.
pub const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";
/// For load tests.
pub const BENCHMARK: &str = "BenchmarkTest";
/// Half messages.
pub const TRANS_HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
/// Marks of finished half messages.
pub const TRANS_OP_HALF: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// Half messages that were asked about too often.
pub const TRANS_CHECK_MAX_TIME: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
/// Message traces.
pub const TRACE: &str = "RMQ_SYS_TRACE_TOPIC";
/// Self tests.
pub const SELF_TEST: &str = "SELF_TEST_TOPIC";
/// Notices about moved offsets.
pub const OFFSET_MOVED_EVENT: &str = "OFFSET_MOVED_EVENT";
/// A consumer group's messages to be delivered again.
pub const RETRY_PREFIX: &str = "%RETRY%";
/// A consumer group's messages that were given up.
pub const DLQ_PREFIX: &str = "%DLQ%";
/// Light queues.
pub const LMQ_PREFIX: &str = "%LMQ%";
/// Any topic that begins so belongs to the system.
pub const SYSTEM_PREFIX: &str = "rmq_sys_";
/// A cluster's topic of replies ends so.
pub const REPLY_POSTFIX: &str = "REPLY_TOPIC";
/// The record that fills a damaged range of the log carries this topic; it is in no queue.
pub const LOST_RANGE: &str = "GANTRY_LOST_RANGE";
/// The longest name, in characters and in bytes.
pub const LENGTH_MAX: usize = 127;

/// Why a topic name is refused, in Java's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// Nothing but blanks.
    #[error("The specified topic is blank.")]
    Blank,
    /// A character that names may not have.
    #[error("The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")]
    IllegalCharacter,
    /// More than [`LENGTH_MAX`] characters.
    #[error(
        "The specified topic is longer than topic max length. topic of {length} characters, limit {LENGTH_MAX}"
    )]
    TooLong {
        /// How many it has.
        length: usize,
    },
}

/// Checks a topic name that a client sent.
pub fn validate(topic: &str) -> Result<(), TopicError> {
    if topic.chars().all(char::is_whitespace) {
        return Err(TopicError::Blank);
    }
    if !is_legal(topic) {
        return Err(TopicError::IllegalCharacter);
    }
    if topic.len() > LENGTH_MAX {
        return Err(TopicError::TooLong {
            length: topic.len(),
        });
    }
    Ok(())
}

/// Whether a topic or group name has only the characters that names may have.
#[must_use]
pub fn is_legal(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'_' | b'-'))
}

/// Whether a name that was not checked (groups' names are not, and their retry topics are made of them) can be part of
/// the name of a folder: it must not lead out of the one it is in.
#[must_use]
pub fn can_be_stored(name: &str) -> bool {
    !name.contains(['/', '\\']) && !name.contains(char::is_control) && ![".", ".."].contains(&name)
}

/// Whether clients may not send to this topic (semantics.md 3.1): the broker alone writes there.
#[must_use]
pub fn is_closed_to_senders(name: &str) -> bool {
    matches!(
        name,
        SCHEDULE
            | TRANS_HALF
            | TRANS_OP_HALF
            | TRANS_CHECK_MAX_TIME
            | SELF_TEST
            | OFFSET_MOVED_EVENT
    )
}

/// The retry topic of a consumer group.
#[must_use]
pub fn retry(group: &str) -> String {
    [RETRY_PREFIX, group].concat()
}

/// The dead-letter topic of a consumer group.
#[must_use]
pub fn dlq(group: &str) -> String {
    [DLQ_PREFIX, group].concat()
}

/// The group whose retry topic this is.
#[must_use]
pub fn retry_group(topic: &str) -> Option<&str> {
    topic.strip_prefix(RETRY_PREFIX)
}

/// The group whose dead-letter topic this is.
#[must_use]
pub fn dlq_group(topic: &str) -> Option<&str> {
    topic.strip_prefix(DLQ_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_in_javas_order() {
        let long = "a".repeat(128);
        for (name, expected) in [
            ("", Err(TopicError::Blank)),
            (" \t", Err(TopicError::Blank)),
            ("a b", Err(TopicError::IllegalCharacter)),
            ("ä", Err(TopicError::IllegalCharacter)),
            ("../etc", Err(TopicError::IllegalCharacter)),
            (long.as_str(), Err(TopicError::TooLong { length: 128 })),
            (&long[1..], Ok(())),
            ("%RETRY%a|b-c_1", Ok(())),
        ] {
            assert_eq!(validate(name), expected, "{name}");
        }
    }

    #[test]
    fn a_name_that_leads_out_of_its_folder_is_not_stored() {
        for (name, expected) in [
            ("%RETRY%a.b c", true),
            ("%RETRY%\u{e4}", true),
            ("..", false),
            (".", false),
            ("%RETRY%..", true),
            ("%RETRY%../x", false),
            ("a\\b", false),
            ("a\0", false),
            ("a\nb", false),
        ] {
            assert_eq!(can_be_stored(name), expected, "{name:?}");
        }
    }

    #[test]
    fn names_of_groups_topics_go_both_ways() {
        assert_eq!(retry("g"), "%RETRY%g");
        assert_eq!(retry_group("%RETRY%g"), Some("g"));
        assert_eq!(dlq_group(&dlq("g")), Some("g"));
        assert_eq!(dlq_group("%RETRY%g"), None);
    }
}
