//! Tag expressions: `*`, or tags separated by `||`.
//!
//! Owns the reading rules of Java's FilterAPI, oddities included, and the comparison with a queue entry's tags code.
//! Codes are 32-bit hashes: a match here may be a collision, so consumers compare the tags themselves again.

use gantry_message::java_hash;

/// The expression that matches every message.
pub const SUBSCRIBE_ALL: &str = "*";

/// A parsed tag expression: what a subscription looks like to others, and the predicate it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagExpression {
    /// The expression as it is reported: the text as given, or `*` where everything is wanted.
    pub text: String,
    /// The tags in the order of the text, each once.
    pub tags: Vec<String>,
    /// The predicate on queue entries.
    pub filter: TagFilter,
}

/// The text consists of nothing but separators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("subString split error")]
pub struct TagExpressionError;

impl TagExpression {
    /// Reads an expression. A missing or empty text means everything; blanks around tags and empty parts are dropped, so
    /// that ` ` means "no tag at all" and matches nothing; only a text made of separators alone is an error.
    pub fn parse(text: Option<&str>) -> Result<Self, TagExpressionError> {
        let text = match text {
            None | Some("" | SUBSCRIBE_ALL) => {
                return Ok(TagExpression {
                    text: SUBSCRIBE_ALL.to_owned(),
                    tags: Vec::new(),
                    filter: TagFilter::All,
                });
            }
            Some(text) => text,
        };
        if text.split("||").all(str::is_empty) {
            return Err(TagExpressionError);
        }
        let mut tags: Vec<String> = Vec::new();
        for part in text.split("||") {
            let tag = trim_as_java(part);
            if !tag.is_empty() && !tags.iter().any(|known| known == tag) {
                tags.push(tag.to_owned());
            }
        }
        let filter = TagFilter::of_codes(tags.iter().map(|tag| java_hash(tag)));
        Ok(TagExpression {
            text: text.to_owned(),
            tags,
            filter,
        })
    }

    /// The hash codes of the tags, in the order of the tags.
    pub fn codes(&self) -> impl Iterator<Item = i32> + '_ {
        self.tags.iter().map(|tag| java_hash(tag))
    }
}

/// Which tags codes a subscription wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagFilter {
    /// Every message.
    All,
    /// Messages whose code is one of these. Invariant: sorted, without duplicates.
    Codes(Box<[i32]>),
}

impl TagFilter {
    /// The filter for a set of codes; an empty set matches nothing.
    pub fn of_codes(codes: impl IntoIterator<Item = i32>) -> Self {
        let mut codes: Vec<i32> = codes.into_iter().collect();
        codes.sort_unstable();
        codes.dedup();
        TagFilter::Codes(codes.into_boxed_slice())
    }

    /// The filter of a subscription that a client registered: its text decides about "everything", its own codes about
    /// the rest, as Java's broker does it.
    pub fn of_subscription(text: &str, codes: impl IntoIterator<Item = i32>) -> Self {
        if text == SUBSCRIBE_ALL {
            TagFilter::All
        } else {
            TagFilter::of_codes(codes)
        }
    }

    /// Whether a queue entry with this tags code is wanted. Entries hold 64 bits, of which a tag's hash is the low half.
    #[must_use]
    #[inline]
    pub fn matches(&self, tags_code: i64) -> bool {
        match self {
            TagFilter::All => true,
            // Nearly all subscriptions have one to four tags, where a scan beats a search.
            TagFilter::Codes(codes) if codes.len() <= 8 => codes.contains(&low_half(tags_code)),
            TagFilter::Codes(codes) => codes.binary_search(&low_half(tags_code)).is_ok(),
        }
    }
}

/// Java's `(int) long`: the low 32 bits.
fn low_half(code: i64) -> i32 {
    let [.., a, b, c, d] = code.to_be_bytes();
    i32::from_be_bytes([a, b, c, d])
}

/// Java's `String.trim`: everything up to the space goes, control characters included, Unicode blanks stay.
fn trim_as_java(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

#[cfg(test)]
mod tests {
    use super::{TagExpression, TagExpressionError, TagFilter};
    use gantry_message::java_hash;

    fn tags_of(text: Option<&str>) -> Result<(String, Vec<String>), TagExpressionError> {
        TagExpression::parse(text).map(|parsed| (parsed.text, parsed.tags))
    }

    #[test]
    fn expressions_are_read_as_filter_api_reads_them() {
        let cases: &[(Option<&str>, &str, &[&str])] = &[
            (None, "*", &[]),
            (Some(""), "*", &[]),
            (Some("*"), "*", &[]),
            (Some("TagA"), "TagA", &["TagA"]),
            (Some("TagA || TagB"), "TagA || TagB", &["TagA", "TagB"]),
            (
                Some("TagA||TagB||TagA"),
                "TagA||TagB||TagA",
                &["TagA", "TagB"],
            ),
            (Some("\t TagA\u{1} ||"), "\t TagA\u{1} ||", &["TagA"]),
            (Some("|| ||TagA"), "|| ||TagA", &["TagA"]),
            (Some(" * "), " * ", &["*"]),
            (Some("a|b"), "a|b", &["a|b"]),
            (Some("a|||b"), "a|||b", &["a", "|b"]),
            (Some(" "), " ", &[]),
            (Some("\u{a0}x"), "\u{a0}x", &["\u{a0}x"]),
        ];
        for (input, text, tags) in cases {
            let tags: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
            assert_eq!(tags_of(*input), Ok(((*text).to_owned(), tags)), "{input:?}");
        }
    }

    #[test]
    fn a_text_of_separators_alone_is_an_error() {
        for text in ["||", "||||"] {
            assert_eq!(tags_of(Some(text)), Err(TagExpressionError), "{text}");
        }
    }

    #[test]
    fn everything_matches_every_code_and_tags_match_by_the_low_half() {
        let all = TagExpression::parse(None).expect("valid").filter;
        let some = TagExpression::parse(Some("TagA || TagB"))
            .expect("valid")
            .filter;
        let a = i64::from(java_hash("TagA"));
        let cases = [
            (&all, 0, true),
            (&all, a, true),
            (&some, a, true),
            (&some, i64::from(java_hash("TagB")), true),
            (&some, i64::from(java_hash("TagC")), false),
            (&some, 0, false),
            (&some, (7 << 32) | (a & 0xffff_ffff), true),
        ];
        for (filter, code, expected) in cases {
            assert_eq!(filter.matches(code), expected, "{filter:?} {code}");
        }
    }

    #[test]
    fn negative_hashes_match_their_sign_extended_entries() {
        let tag = "TopicTest";
        let code = java_hash(tag);
        assert!(code < 0, "the case needs a negative hash, {tag} has {code}");
        let filter = TagExpression::parse(Some(tag)).expect("valid").filter;
        assert!(filter.matches(i64::from(code)));
        assert!(!filter.matches(i64::from(code) + 1));
    }

    #[test]
    fn many_tags_are_found_like_few() {
        let filter = TagFilter::of_codes((0..100).map(|n| n * 7));
        for code in 0..700 {
            assert_eq!(filter.matches(code), code % 7 == 0, "{code}");
        }
    }

    #[test]
    fn a_registered_subscription_is_matched_by_the_codes_its_client_sent() {
        let cases = [
            ("*", vec![], true),
            ("TagA", vec![5], true),
            ("TagA", vec![6], false),
            ("TagA", vec![], false),
        ];
        for (text, codes, expected) in cases {
            assert_eq!(
                TagFilter::of_subscription(text, codes.clone()).matches(5),
                expected,
                "{text} {codes:?}"
            );
        }
    }
}
