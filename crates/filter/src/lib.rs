//! Subscription expressions: text in, predicate out, nothing else.
//!
//! A subscription names its type (`TAG`, `SQL92`) and an expression. This crate says which type a text means and turns
//! tag expressions into a set of tag codes that queue entries are compared with.
//! It never sees a message, a queue or a client; `broker` keeps the subscriptions, `store` asks the predicate per entry.

mod tags;

pub use tags::{SUBSCRIBE_ALL, TagExpression, TagExpressionError, TagFilter};

/// The expression type of tag subscriptions, as clients write it.
pub const TAG: &str = "TAG";

/// Whether an expression type means tags: missing and empty do, as in every client from before the types were named.
#[must_use]
pub fn is_tag_type(expression_type: Option<&str>) -> bool {
    matches!(expression_type, None | Some("" | TAG))
}

#[cfg(test)]
mod tests {
    use super::is_tag_type;

    #[test]
    fn a_missing_or_empty_type_means_tags_and_any_other_word_does_not() {
        let cases = [
            (None, true),
            (Some(""), true),
            (Some("TAG"), true),
            (Some("tag"), false),
            (Some("SQL92"), false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_tag_type(text), expected, "{text:?}");
        }
    }
}
