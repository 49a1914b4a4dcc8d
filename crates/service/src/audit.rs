//! A line in the log for each call of an administrator: from where, what, with which result.
//!
//! Calls that change something are always written; those that only look are silenced like other lines when they come
//! too often, for exporters look all the time. Bodies and secrets are left out.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::events;
use crate::logging::AUDIT;

/// More of a call's fields is cut.
const FIELDS_BYTES: usize = 512;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It may change something.
    Changes,
    /// It looks.
    Looks,
}

/// Writes the line. `fields` are those of the request.
pub fn call<'a>(
    effect: Effect,
    from: SocketAddr,
    what: &str,
    fields: impl Iterator<Item = (&'a str, &'a str)>,
    result: &str,
) {
    let from = from.to_string();
    // Each a field of its own, as in other lines: the journal is asked for them.
    let (mut topic, mut group) = (None, None);
    let fields = text(fields.filter(|(name, value)| {
        let own = match *name {
            "topic" => &mut topic,
            "group" | "consumerGroup" | "groupName" => &mut group,
            _ => return true,
        };
        let is_first = own.is_none();
        own.get_or_insert_with(|| text([("", *value)].into_iter()));
        !is_first
    }));
    let (topic, group) = (topic.as_deref(), group.as_deref());
    match effect {
        Effect::Changes => tracing::info!(
            target: AUDIT,
            message_id = events::AUDIT,
            from,
            what,
            topic,
            group,
            fields,
            result,
            "administration"
        ),
        Effect::Looks => tracing::info!(
            message_id = events::AUDIT,
            from,
            what,
            topic,
            group,
            fields,
            result,
            "administration"
        ),
    }
}

fn text<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in fields.filter(|(name, _)| !is_secret(name)) {
        let separator = if text.is_empty() { "" } else { "," };
        let equals = if name.is_empty() { "" } else { "=" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{name}{equals}{}", value.escape_debug());
        if FIELDS_BYTES < text.len() {
            let cut = (0..=FIELDS_BYTES)
                .rev()
                .find(|at| text.is_char_boundary(*at));
            text.truncate(cut.unwrap_or(0));
            text.push_str("...");
            break;
        }
    }
    text
}

/// What signs a request, and keys of accounts.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["signature", "token", "secret", "accesskey", "password"]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_cut_and_secrets_left_out() {
        let fields = [
            ("topic", "T\n2026 INFO forged"),
            ("Signature", "x"),
            ("AccessKey", "x"),
            ("SecurityToken", "x"),
            ("secretKey", "x"),
            ("perm", "6"),
        ];
        assert_eq!(
            text(fields.into_iter()),
            "topic=T\\n2026 INFO forged,perm=6"
        );
        let long = "ä".repeat(1_000);
        let text = text([("a", long.as_str())].into_iter());
        assert!(
            text.len() <= FIELDS_BYTES + 3 && text.ends_with("ä..."),
            "{text}"
        );
    }
}
