//! The language a peer says it is written in.

use crate::json::Scalar;

/// Sender's language, the `language` member of a header. Only shown to administrators and used to choose the form of
/// the reset-offset request (C++ understands another one).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    /// Java, and what our own servers say (some clients know nothing else).
    #[default]
    Java,
    /// C++.
    Cpp,
    /// .NET.
    Dotnet,
    /// Python.
    Python,
    /// Delphi.
    Delphi,
    /// Erlang.
    Erlang,
    /// Ruby.
    Ruby,
    /// Anything else that has a number.
    Other,
    /// HTTP.
    Http,
    /// Go.
    Go,
    /// PHP.
    Php,
    /// OpenMessaging.
    Oms,
    /// Rust.
    Rust,
    /// Node.js (5.x).
    NodeJs,
    /// A name or number nobody knows; Java holds null here and prints nothing.
    Unknown,
}

/// In the order of their numbers on the wire.
const KNOWN: [(Language, &str); 14] = [
    (Language::Java, "JAVA"),
    (Language::Cpp, "CPP"),
    (Language::Dotnet, "DOTNET"),
    (Language::Python, "PYTHON"),
    (Language::Delphi, "DELPHI"),
    (Language::Erlang, "ERLANG"),
    (Language::Ruby, "RUBY"),
    (Language::Other, "OTHER"),
    (Language::Http, "HTTP"),
    (Language::Go, "GO"),
    (Language::Php, "PHP"),
    (Language::Oms, "OMS"),
    (Language::Rust, "RUST"),
    (Language::NodeJs, "NODE_JS"),
];

impl Language {
    /// Name as in JSON headers and bodies; `None` for [`Language::Unknown`], which is left out.
    pub fn name(self) -> Option<&'static str> {
        KNOWN
            .iter()
            .find(|(language, _)| *language == self)
            .map(|(_, name)| *name)
    }

    /// Byte in a binary header; an unknown one is sent as `OTHER`.
    pub fn number(self) -> u8 {
        KNOWN
            .iter()
            .position(|(language, _)| *language == self)
            .and_then(|at| u8::try_from(at).ok())
            .unwrap_or(7)
    }

    /// The language of that name.
    pub fn from_name(name: &str) -> Self {
        KNOWN
            .iter()
            .find(|(_, known)| *known == name)
            .map_or(Language::Unknown, |(language, _)| *language)
    }

    /// The language that a JSON member says, by name or number.
    pub(crate) fn from_scalar(value: &Scalar<'_>) -> Self {
        match value {
            Scalar::Text(name) => Language::from_name(name),
            Scalar::Number(number) => number
                .parse()
                .map_or(Language::Unknown, Language::from_number),
            Scalar::Bool(_) | Scalar::Null => Language::Unknown,
        }
    }

    /// The language of that number.
    pub fn from_number(number: i64) -> Self {
        let at = usize::try_from(number).ok();
        at.and_then(|at| KNOWN.get(at))
            .map_or(Language::Unknown, |(language, _)| *language)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back_to_the_language() {
        for (at, (language, name)) in KNOWN.iter().enumerate() {
            assert_eq!(Language::from_name(name), *language);
            assert_eq!(usize::from(language.number()), at);
            assert_eq!(
                Language::from_number(i64::from(language.number())),
                *language
            );
            assert_eq!(language.name(), Some(*name));
        }
        assert_eq!(Language::from_name("COBOL"), Language::Unknown);
        assert_eq!(Language::from_number(-1), Language::Unknown);
        assert_eq!(Language::from_number(99), Language::Unknown);
        assert_eq!(Language::Unknown.name(), None);
    }
}
