//! The command line of a daemon: RocketMQ's options as commons-cli takes them (`-n a`, `-na`, `--namesrvAddr a`,
//! `--namesrvAddr=a`, unambiguous beginnings of long names, `-pm`), and ours beside them.
//!
//! Settings that belong to no option are ignored, as RocketMQ does (blogs start brokers with
//! `autoCreateTopicEnable=true` behind the options), but the caller is told about them. Any other word is
//! [`Options::stray`]: a command that was mistyped must not start a daemon.

use std::fmt;
use std::fmt::Write;

use gantry_manual::{Kind, Opt, Value};

/// What the program is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Serve.
    Run,
    /// List all values.
    PrintAll,
    /// List the important values.
    PrintImportant,
    /// Check the configuration and list values with their sources.
    Check,
    /// Say only what a reload would refuse.
    Test,
    /// Explain the options.
    Help,
    /// Name the version.
    Version,
    /// Print a manual page or a shell completion.
    Generate(Kind),
}

/// A command line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `-c`.
    pub config_file: Option<String>,
    /// `-n`.
    pub name_servers: Option<String>,
    /// What to do.
    pub action: Action,
    /// `--strict`.
    pub strict: bool,
    /// Arguments that belong to no option.
    pub ignored: Vec<String>,
}

impl Options {
    /// A word that is neither part of an option nor a setting: nobody means that.
    pub fn stray(&self) -> Option<&str> {
        let words = self.ignored.iter().map(String::as_str);
        words.into_iter().find(|word| !word.contains('='))
    }
}

/// A command line that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionError {
    /// No such option.
    Unknown(String),
    /// The beginning of several long names.
    Ambiguous(String),
    /// An option that needs a value stands last.
    MissingValue(&'static str),
    /// A value for an option that takes none.
    NeedlessValue(&'static str),
    /// `--generate` with a word it does not know.
    UnknownKind(String),
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(option) => write!(f, "Unrecognized option: {option}"),
            Self::Ambiguous(option) => write!(f, "Ambiguous option: {option}"),
            Self::MissingValue(option) => write!(f, "Missing argument for option: {option}"),
            Self::NeedlessValue(option) => write!(f, "Option takes no argument: {option}"),
            Self::UnknownKind(word) => {
                write!(f, "generate: {word} is none of {}", Kind::names())
            }
        }
    }
}

impl std::error::Error for OptionError {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    ConfigFile,
    NameServers,
    Strict,
    Generate,
    Do(Action),
}

struct Row {
    short: Option<char>,
    long: &'static str,
    meaning: Meaning,
    doc: &'static str,
}

impl Row {
    fn takes_value(&self) -> bool {
        self.value() != Value::None
    }

    fn value(&self) -> Value {
        match self.meaning {
            Meaning::ConfigFile => Value::File,
            Meaning::NameServers => Value::Text("HOST:PORT;HOST:PORT"),
            Meaning::Generate => Value::OneOf(KINDS),
            Meaning::Strict | Meaning::Do(_) => Value::None,
        }
    }

    fn name(&self) -> &'static str {
        match self.meaning {
            Meaning::ConfigFile => "-c",
            Meaning::NameServers => "-n",
            _ => self.long,
        }
    }
}

/// The words of [`Kind::ALL`].
const KINDS: &[&str] = &[
    "man",
    "man-settings",
    "complete-bash",
    "complete-zsh",
    "complete-fish",
];

const ROWS: &[Row] = &[
    Row {
        short: Some('c'),
        long: "configFile",
        meaning: Meaning::ConfigFile,
        doc: "configuration file: .properties as RocketMQ writes it, or .toml; the ending may be left out",
    },
    Row {
        short: None,
        long: "check-config",
        meaning: Meaning::Do(Action::Check),
        doc: "print effective values and where each came from, then exit: 0, or 78 with a bad configuration",
    },
    Row {
        short: None,
        long: "generate",
        meaning: Meaning::Generate,
        doc: "print a manual page or a shell completion: man, man-settings, complete-bash, complete-zsh, complete-fish",
    },
    Row {
        short: Some('h'),
        long: "help",
        meaning: Meaning::Do(Action::Help),
        doc: "print help",
    },
    Row {
        short: Some('m'),
        long: "printImportantConfig",
        meaning: Meaning::Do(Action::PrintImportant),
        doc: "print important config item",
    },
    Row {
        short: Some('n'),
        long: "namesrvAddr",
        meaning: Meaning::NameServers,
        doc: "name server address list, eg: '192.168.0.1:9876;192.168.0.2:9876'",
    },
    Row {
        short: Some('p'),
        long: "printConfigItem",
        meaning: Meaning::Do(Action::PrintAll),
        doc: "print all config item",
    },
    Row {
        short: None,
        long: "strict",
        meaning: Meaning::Strict,
        doc: "refuse configuration keys that are not known",
    },
    Row {
        short: None,
        long: "test-config",
        meaning: Meaning::Do(Action::Test),
        doc: "exit without a word if a reload would take the configuration, else with 78 and what is wrong with it",
    },
    Row {
        short: None,
        long: "version",
        meaning: Meaning::Do(Action::Version),
        doc: "print the version",
    },
];

/// Understands a command line, program name excluded.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, OptionError> {
    let mut parsed = Parsed::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            parsed.ignored.extend(args.by_ref());
        } else if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let row = by_long(name)?.ok_or_else(|| OptionError::Unknown(arg.clone()))?;
            parsed.take(row, value, &mut args)?;
        } else if arg.len() > 1 && arg.starts_with('-') {
            parsed.short(&arg, &mut args)?;
        } else {
            parsed.ignored.push(arg);
        }
    }
    Ok(parsed.finish())
}

#[derive(Default)]
struct Parsed {
    config_file: Option<String>,
    name_servers: Option<String>,
    actions: Vec<Action>,
    strict: bool,
    ignored: Vec<String>,
}

impl Parsed {
    /// `-n`, `-nVALUE`, `-pm`, and long names behind one dash.
    fn short(
        &mut self,
        arg: &str,
        args: &mut impl Iterator<Item = String>,
    ) -> Result<(), OptionError> {
        let letters = &arg[1..];
        if letters.len() > 1
            && let Ok(Some(row)) = by_long(letters)
        {
            return self.take(row, None, args);
        }
        for (at, letter) in letters.char_indices() {
            let row = ROWS.iter().find(|row| row.short == Some(letter));
            let row = row.ok_or_else(|| OptionError::Unknown(arg.to_owned()))?;
            let rest = &letters[at + letter.len_utf8()..];
            if row.takes_value() && !rest.is_empty() {
                return self.take(row, Some(rest.to_owned()), args);
            }
            self.take(row, None, args)?;
        }
        Ok(())
    }

    /// The first of a repeated option counts, as in Java.
    fn take(
        &mut self,
        row: &Row,
        value: Option<String>,
        args: &mut impl Iterator<Item = String>,
    ) -> Result<(), OptionError> {
        let value = match (row.takes_value(), value) {
            (true, None) => Some(args.next().ok_or(OptionError::MissingValue(row.name()))?),
            (false, Some(_)) => return Err(OptionError::NeedlessValue(row.name())),
            (_, value) => value,
        };
        match row.meaning {
            Meaning::ConfigFile => self.config_file = self.config_file.take().or(value),
            Meaning::NameServers => self.name_servers = self.name_servers.take().or(value),
            Meaning::Strict => self.strict = true,
            Meaning::Generate => {
                let word = value.unwrap_or_default();
                let kind = Kind::named(&word).ok_or(OptionError::UnknownKind(word))?;
                self.actions.push(Action::Generate(kind));
            }
            Meaning::Do(action) => self.actions.push(action),
        }
        Ok(())
    }

    fn finish(mut self) -> Options {
        // What only prints wins over serving, and what prints less needs less to be right.
        let order = [
            Action::Help,
            Action::Version,
            Action::Check,
            Action::Test,
            Action::PrintAll,
            Action::PrintImportant,
        ];
        let action = order
            .into_iter()
            .find(|action| self.actions.contains(action))
            .or(self.actions.first().copied()) // to generate
            .unwrap_or(Action::Run);
        let is_look = matches!(action, Action::Check | Action::Test);
        if is_look && self.config_file.is_none() && !self.ignored.is_empty() {
            self.config_file = Some(self.ignored.remove(0));
        }
        Options {
            config_file: self.config_file,
            name_servers: self.name_servers,
            action,
            strict: self.strict,
            ignored: self.ignored,
        }
    }
}

/// The row with this long name, or the only one whose long name begins like this.
fn by_long(name: &str) -> Result<Option<&'static Row>, OptionError> {
    if let Some(row) = ROWS.iter().find(|row| row.long == name) {
        return Ok(Some(row));
    }
    let mut candidates = ROWS
        .iter()
        .filter(|row| !name.is_empty() && row.long.starts_with(name));
    let first = candidates.next();
    match candidates.next() {
        Some(_) => Err(OptionError::Ambiguous(format!("--{name}"))),
        None => Ok(first),
    }
}

/// All options, for the manual page and completions.
pub fn described() -> Vec<Opt> {
    let described = |row: &Row| Opt {
        short: row.short,
        long: row.long,
        value: row.value(),
        about: row.doc.to_owned(),
    };
    ROWS.iter().map(described).collect()
}

/// `-h`, for commands that have no other option of these.
pub fn help_option() -> Opt {
    Opt {
        short: Some('h'),
        long: "help",
        value: Value::None,
        about: "print help".to_owned(),
    }
}

/// The text of `-h`.
pub fn help(program: &str) -> String {
    let mut out = format!("usage: {program}");
    for row in ROWS {
        let name = row
            .short
            .map_or_else(|| format!("--{}", row.long), |letter| format!("-{letter}"));
        // Writing into a String cannot fail, here and below.
        let _ = write!(
            out,
            " [{name}{}]",
            if row.takes_value() { " <arg>" } else { "" }
        );
    }
    out.push('\n');
    for row in ROWS {
        let short = row
            .short
            .map_or_else(|| "   ".to_owned(), |letter| format!("-{letter},"));
        let long = format!(
            "--{}{}",
            row.long,
            if row.takes_value() { " <arg>" } else { "" }
        );
        let _ = writeln!(out, " {short}{long:<25} {}", row.doc);
    }
    out
}
