//! Command-line words to options, by the rules of the POSIX parser that RocketMQ's own tool is built on.
//!
//! Scripts rely on its corners (glued values, bundled flags, one hyphen before a long name, surplus words ignored), so
//! the two passes of the original are kept: `flatten` cuts words into tokens, `collect` gives tokens to options. What
//! differs: an error names what is wrong. Which options exist is the business of `table`.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// One option of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionSpec {
    /// The letter.
    pub short: char,
    /// The long name, without hyphens.
    pub long: &'static str,
    /// Whether a value follows.
    pub takes_value: bool,
    /// When it must be given.
    pub need: Need,
    /// One line for the help.
    pub about: &'static str,
}

/// When an option must be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Never.
    Optional,
    /// Always.
    Required,
    /// Exactly one of the command's options with this need must be given.
    OneOf,
}

/// An optional option with a value.
pub const fn optional(short: char, long: &'static str, about: &'static str) -> OptionSpec {
    OptionSpec {
        short,
        long,
        takes_value: true,
        need: Need::Optional,
        about,
    }
}

/// A required option with a value.
pub const fn required(short: char, long: &'static str, about: &'static str) -> OptionSpec {
    OptionSpec {
        short,
        long,
        takes_value: true,
        need: Need::Required,
        about,
    }
}

/// A member of the command's group of which exactly one must be given.
pub const fn one_of(short: char, long: &'static str, about: &'static str) -> OptionSpec {
    OptionSpec {
        short,
        long,
        takes_value: true,
        need: Need::OneOf,
        about,
    }
}

/// An option without value.
pub const fn flag(short: char, long: &'static str, about: &'static str) -> OptionSpec {
    OptionSpec {
        short,
        long,
        takes_value: false,
        need: Need::Optional,
        about,
    }
}

/// The options that every command has.
pub const COMMON: [OptionSpec; 2] = [
    flag('h', "help", "Print help"),
    optional(
        'n',
        "namesrvAddr",
        "Name server address list, eg: '192.168.0.1:9876;192.168.0.2:9876'",
    ),
];

/// What is wrong with the words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// A word that begins with a hyphen and is no option.
    #[error("unknown option {0}")]
    Unknown(String),
    /// A value is missing.
    #[error("{0} needs a value")]
    NoValue(Name),
    /// Two options of which one may be given.
    #[error("{0} and {1} exclude each other")]
    Exclusive(Name, Name),
    /// A required option is missing; several: one of them.
    #[error("missing {}", list(.0))]
    Missing(Vec<Name>),
    /// Neither a broker nor a cluster.
    #[error("missing -b/--brokerAddr or -c/--clusterName")]
    MissingTarget,
    /// A value that its option does not take.
    #[error("{option} does not take '{value}': {reason}")]
    BadValue {
        /// The option.
        option: Name,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// An option as a message names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name(char, &'static str);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-{}/--{}", self.0, self.1)
    }
}

impl OptionSpec {
    fn name(&self) -> Name {
        Name(self.short, self.long)
    }
}

fn list(names: &[Name]) -> String {
    names
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" or ")
}

/// The options that were given, in the order of the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    given: Vec<(OptionSpec, Option<String>)>,
    surplus: Vec<String>,
}

impl Arguments {
    /// Parses the words after the command's name.
    ///
    /// `-h` makes a missing option no error: whoever asks for help gets it.
    pub fn parse(options: &[OptionSpec], words: &[String]) -> Result<Self, UsageError> {
        let known = Known(options);
        let arguments = collect(&known, flatten(&known, words))?;
        if !arguments.has('h') {
            known.check_needs(&arguments)?;
        }
        Ok(arguments)
    }

    /// Whether the option was given.
    pub fn has(&self, short: char) -> bool {
        self.given.iter().any(|(option, _)| option.short == short)
    }

    /// The value of an option, trimmed; the first one if it was given twice.
    pub fn text(&self, short: char) -> Option<&str> {
        self.given
            .iter()
            .find(|(option, _)| option.short == short)?
            .1
            .as_deref()
            .map(str::trim)
    }

    /// The value of a required option.
    pub fn required(&self, short: char) -> Result<&str, UsageError> {
        let missing = || UsageError::Missing(vec![self.name(short)]);
        self.text(short).ok_or_else(missing)
    }

    /// A number, read as Java reads one: an optional sign and digits.
    pub fn number<T>(&self, short: char, default: T) -> Result<T, UsageError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let Some(text) = self.text(short) else {
            return Ok(default);
        };
        text.parse().map_err(|error: T::Err| UsageError::BadValue {
            option: self.name(short),
            value: text.to_owned(),
            reason: error.to_string(),
        })
    }

    /// A truth value: the word `true` in any case is true, anything else is false.
    pub fn boolean(&self, short: char, default: bool) -> bool {
        self.text(short)
            .map_or(default, |text| text.eq_ignore_ascii_case("true"))
    }

    /// Words that belong to no option. RocketMQ's tool ignores them silently; so do we, but not silently.
    pub fn surplus(&self) -> &[String] {
        &self.surplus
    }

    fn name(&self, short: char) -> Name {
        let given = self.given.iter().find(|(option, _)| option.short == short);
        given.map_or(Name(short, ""), |(option, _)| option.name())
    }
}

/// The options of one command, common ones included.
struct Known<'a>(&'a [OptionSpec]);

impl Known<'_> {
    /// The option a token names: one or two hyphens, short or long, as the original does not tell them apart.
    fn find(&self, token: &str) -> Option<OptionSpec> {
        let name = token
            .strip_prefix("--")
            .or_else(|| token.strip_prefix('-'))?;
        let fits = |option: &&OptionSpec| option.long == name || name.chars().eq([option.short]);
        self.0.iter().chain(&COMMON).find(fits).copied()
    }

    fn check_needs(&self, arguments: &Arguments) -> Result<(), UsageError> {
        let group: Vec<_> = self
            .0
            .iter()
            .filter(|option| option.need == Need::OneOf)
            .collect();
        let required = self.0.iter().filter(|option| option.need == Need::Required);
        if let Some(missing) = required
            .into_iter()
            .find(|option| !arguments.has(option.short))
        {
            return Err(UsageError::Missing(vec![missing.name()]));
        }
        if !group.is_empty() && !group.iter().any(|option| arguments.has(option.short)) {
            return Err(UsageError::Missing(
                group.iter().map(|option| option.name()).collect(),
            ));
        }
        Ok(())
    }
}

/// First pass: `--name=value` and bundles like `-cn` fall apart into tokens.
fn flatten(known: &Known<'_>, words: &[String]) -> Vec<String> {
    let mut tokens = Vec::new();
    for word in words {
        if word.starts_with("--") {
            match word
                .split_once('=')
                .filter(|(name, _)| known.find(name).is_some())
            {
                Some((name, value)) => tokens.extend([name.to_owned(), value.to_owned()]),
                None => tokens.push(word.clone()),
            }
        } else if word.starts_with('-') && word.chars().count() > 2 && known.find(word).is_none() {
            burst(known, word, &mut tokens);
        } else {
            tokens.push(word.clone());
        }
    }
    tokens
}

/// A bundle of letters: flags, then perhaps an option whose value is the rest. At the first unknown letter the whole
/// word becomes one more token, so that `-12` can be a value.
fn burst(known: &Known<'_>, word: &str, tokens: &mut Vec<String>) {
    for (at, letter) in word.char_indices().skip(1) {
        let token = format!("-{letter}");
        let Some(option) = known.find(&token) else {
            tokens.push(word.to_owned());
            return;
        };
        tokens.push(token);
        let rest = word.get(at + letter.len_utf8()..).unwrap_or_default();
        if option.takes_value && !rest.is_empty() {
            tokens.push(rest.to_owned());
            return;
        }
    }
}

/// Second pass: tokens to options and their values.
fn collect(known: &Known<'_>, tokens: Vec<String>) -> Result<Arguments, UsageError> {
    let mut arguments = Arguments::default();
    let mut group: Option<OptionSpec> = None;
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if token == "--" {
            arguments
                .surplus
                .extend(tokens.by_ref().filter(|rest| rest != "--"));
        } else if token == "-" || !token.starts_with('-') {
            arguments.surplus.push(token);
        } else {
            let option = known.find(&token).ok_or(UsageError::Unknown(token))?;
            if option.need == Need::OneOf {
                let first = *group.get_or_insert(option);
                if first != option {
                    return Err(UsageError::Exclusive(first.name(), option.name()));
                }
            }
            let value = if option.takes_value {
                let value = tokens.next_if(|next| known.find(next).is_none());
                Some(unquote(&value.ok_or(UsageError::NoValue(option.name()))?).to_owned())
            } else {
                None
            };
            arguments.given.push((option, value));
        }
    }
    Ok(arguments)
}

/// The original drops one quotation mark at either end.
fn unquote(value: &str) -> &str {
    let value = value.strip_prefix('"').unwrap_or(value);
    value.strip_suffix('"').unwrap_or(value)
}

/// The names in a list that are near to `word`: the same but for two letters or case.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let near = names.map(|name| (distance(&word, &name.to_ascii_lowercase()), name));
    near.filter(|&(distance, _)| distance <= 2)
        .collect::<BTreeSet<_>>()
        .first()
        .map(|&(_, name)| name)
}

/// Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        for (j, b) in right.chars().enumerate() {
            let (above, before) = (
                row.get(j + 1).copied().unwrap_or(0),
                if j == 0 { i + 1 } else { row[j] },
            );
            if j == 0 {
                row[0] = i + 1;
            }
            let best = (diagonal + usize::from(a != b))
                .min(above + 1)
                .min(before + 1);
            diagonal = above;
            row[j + 1] = best;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &[OptionSpec] = &[
        one_of('b', "brokerAddr", ""),
        one_of('c', "clusterName", ""),
        required('t', "topic", ""),
        optional('v', "value", ""),
        flag('l', "list", ""),
    ];

    fn parse(line: &[&str]) -> Result<Arguments, UsageError> {
        Arguments::parse(
            OPTIONS,
            &line.iter().map(ToString::to_string).collect::<Vec<_>>(),
        )
    }

    /// Parses with the required options added and says what `-v`, `-l` and the surplus became.
    fn check(line: &[&str], value: Option<&str>, list: bool, surplus: &[&str]) {
        let words = [&["-b", "B", "-t", "T"], line].concat();
        let arguments = parse(&words).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        assert_eq!(arguments.text('v'), value, "{line:?}");
        assert_eq!(arguments.has('l'), list, "{line:?}");
        assert_eq!(arguments.surplus(), surplus, "{line:?}");
    }

    #[test]
    fn every_form_that_scripts_use_is_accepted() {
        check(&["-v", "x"], Some("x"), false, &[]);
        check(&["-vx"], Some("x"), false, &[]);
        check(&["--value", "x"], Some("x"), false, &[]);
        check(&["--value=x"], Some("x"), false, &[]);
        check(&["--value=a=b"], Some("a=b"), false, &[]);
        check(&["-value", "x"], Some("x"), false, &[]);
        check(&["--v", "x"], Some("x"), false, &[]);
        check(&["-lv", "x"], Some("x"), true, &[]);
        check(&["-lvx"], Some("x"), true, &[]);
        check(&["-v", "-1"], Some("-1"), false, &[]);
        check(&["-v", "-12"], Some("-12"), false, &[]);
        check(&["-v=-1"], Some("=-1"), false, &[]);
        check(&["-v", "-"], Some("-"), false, &[]);
        check(&["-v", "--"], Some("--"), false, &[]);
        check(&["-v", "  x y "], Some("x y"), false, &[]);
        check(&["-v", "\"x\""], Some("x"), false, &[]);
        check(&["-v", "first", "-v", "second"], Some("first"), false, &[]);
        check(&["-v", "--unknown=1"], Some("--unknown=1"), false, &[]);
    }

    #[test]
    fn words_that_belong_to_no_option_are_surplus() {
        check(&["-l", "true"], None, true, &["true"]);
        check(&["-v", "a", "b", "c"], Some("a"), false, &["b", "c"]);
        check(&["--", "-l", "--", "x"], None, false, &["-l", "x"]);
        check(&["-"], None, false, &["-"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |line: &[&str], said: &str| match parse(line) {
            Ok(arguments) => panic!("{line:?} became {arguments:?}"),
            Err(error) => assert_eq!(error.to_string(), said, "{line:?}"),
        };
        check(&["-t", "T"], "missing -b/--brokerAddr or -c/--clusterName");
        check(&["-b", "B"], "missing -t/--topic");
        check(&[], "missing -t/--topic");
        check(
            &["-b", "B", "-c", "C", "-t", "T"],
            "-b/--brokerAddr and -c/--clusterName exclude each other",
        );
        check(
            &["-b", "B", "-t", "T", "--topi", "x"],
            "unknown option --topi",
        );
        check(&["-b", "B", "-t", "T", "-x"], "unknown option -x");
        check(&["-b", "B", "-t", "T", "-12"], "unknown option -12");
        check(&["-b", "B", "-t"], "-t/--topic needs a value");
        check(&["-b", "B", "-t", "-l"], "-t/--topic needs a value");
        check(
            &["-b", "B", "-t", "T", "-v", "-lx"],
            "-v/--value needs a value",
        );
    }

    #[test]
    fn help_is_given_whatever_else_is_missing() {
        assert!(parse(&["-h"]).unwrap().has('h'));
        assert!(parse(&["--help", "-l"]).unwrap().has('h'));
        assert!(parse(&["-h", "--nonsense"]).is_err());
    }

    #[test]
    fn numbers_and_booleans_are_read_as_java_reads_them() {
        let arguments = |value: &str| parse(&["-b", "B", "-t", "T", "-v", value]).unwrap();
        assert_eq!(arguments("+7").number('v', 0), Ok(7));
        assert_eq!(arguments(" -7 ").number('v', 0), Ok(-7));
        assert!(arguments("7k").number('v', 0).is_err());
        assert!(arguments("4294967296").number::<i32>('v', 0).is_err());
        assert_eq!(
            parse(&["-b", "B", "-t", "T"]).unwrap().number('v', 8),
            Ok(8)
        );
        assert!(arguments("TRUE").boolean('v', false));
        assert!(!arguments("yes").boolean('v', true));
        assert!(parse(&["-b", "B", "-t", "T"]).unwrap().boolean('v', true));
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        let names = ["topicList", "topicRoute", "clusterList"];
        assert_eq!(nearest("topiclsit", names.into_iter()), Some("topicList"));
        assert_eq!(
            nearest("clusterlist", names.into_iter()),
            Some("clusterList")
        );
        assert_eq!(nearest("nonsense", names.into_iter()), None);
    }
}
