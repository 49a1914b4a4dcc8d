//! Layers: defaults, then environment, then the administrator's file, then run-time changes, then the command line.
//! The later one wins. For every value it is known where it came from, and whatever looks wrong becomes a [`Finding`].
//!
//! Nothing here stops a program: it collects all findings, so that an operator sees them at once.

use std::collections::BTreeMap;
use std::fmt;

use crate::entry::{Entry, SyntaxError, Written};
use crate::nearest::nearest;
use crate::settings::{Host, Kind, Row, Settings, Verdict};
use crate::{flat_toml, foreign, properties};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// This variable.
    Environment(String),
    /// A line of the administrator's file.
    File(Place),
    /// A line of the override file, which holds changes made at run time.
    Override(Place),
    /// This option.
    CommandLine(&'static str),
    /// The program itself, for this reason.
    Derived(&'static str),
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File(place) => place.fmt(f),
            Self::Override(place) => write!(f, "run-time change, {place}"),
            Self::CommandLine(option) => write!(f, "command line {option}"),
            Self::Derived(reason) => f.write_str(reason),
        }
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Probably not what was meant.
    Warning,
    /// The program must not run like this.
    Error,
}

/// Something about the configuration that an operator should hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The whole sentence, place included.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether names that no table knows are tolerated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownKeys {
    /// They are named in a warning.
    Warn,
    /// They are errors (`--strict`).
    Refuse,
}

/// Typed values with their sources and whatever was found on the way.
#[derive(Clone, Debug)]
pub struct Loaded<C> {
    /// The values so far.
    pub config: C,
    /// What was found so far, in order.
    pub findings: Vec<Finding>,
    /// Where each value came from; what is not in here is a default.
    sources: BTreeMap<&'static str, Source>,
    unknown_keys: UnknownKeys,
}

impl<C: Settings> Loaded<C> {
    /// All defaults.
    pub fn defaults(host: &Host, unknown_keys: UnknownKeys) -> Self {
        Self {
            config: C::defaults(host),
            findings: Vec::new(),
            sources: BTreeMap::new(),
            unknown_keys,
        }
    }

    /// Takes over what environment variables say; `variable` looks one up. Empty ones count as not set.
    pub fn environment(&mut self, variable: impl Fn(&str) -> Option<String>) {
        for row in C::rows() {
            let found = env_names(row).find_map(|name| Some((variable(&name)?, name)));
            if let Some((value, name)) = found
                && !value.is_empty()
            {
                self.assign(row, &value, Written::Plain, Source::Environment(name));
            }
        }
    }

    /// Takes over the administrator's file. `name` ends in `.toml` for TOML, else it is `.properties`.
    pub fn file(&mut self, name: &str, bytes: &[u8]) {
        self.entries(name, parse(name, bytes), Source::File);
    }

    /// Takes over the override file.
    pub fn overrides(&mut self, name: &str, bytes: &[u8]) {
        self.entries(name, properties::parse(bytes), Source::Override);
    }

    /// Takes over one value from the command line.
    pub fn command_line(&mut self, option: &'static str, key: &str, value: &str) {
        if let Some(row) = C::rows().into_iter().find(|row| row.name == key) {
            self.assign(row, value, Written::Plain, Source::CommandLine(option));
        }
    }

    /// Records that the program itself settled the value of a key.
    pub fn derived(&mut self, key: &'static str, reason: &'static str) {
        self.sources.insert(key, Source::Derived(reason));
    }

    /// Adds what verdicts say about the values that were set. Call it once, behind the last layer.
    pub fn judge(&mut self) {
        for row in C::rows() {
            let source = self.source(row.name);
            let stated = matches!(
                source,
                Source::File(_) | Source::Override(_) | Source::CommandLine(_)
            );
            match row.rule.verdict {
                Verdict::WithoutEffect(reason) if stated => {
                    self.find(
                        Severity::Note,
                        format!("{source}: {}: accepted, without effect: {reason}", row.name),
                    );
                }
                Verdict::Only(value, reason) => {
                    let text = self.config.text(row.name).unwrap_or_default();
                    if text != value {
                        let name = row.name;
                        self.find(
                            Severity::Error,
                            format!(
                                "{source}: {name}={text}: only {name}={value} is possible: {reason}"
                            ),
                        );
                    }
                }
                Verdict::WithoutEffect(_) | Verdict::Honoured => {}
            }
        }
    }

    /// Where the value of a key came from.
    pub fn source(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }

    /// True if an error was found: the program must not run.
    pub fn refused(&self) -> bool {
        self.first_error().is_some()
    }

    /// The first error that was found.
    pub fn first_error(&self) -> Option<&Finding> {
        let is_error = |finding: &&Finding| finding.severity == Severity::Error;
        self.findings.iter().find(is_error)
    }

    /// Adds a finding.
    pub fn find(&mut self, severity: Severity, text: String) {
        self.findings.push(Finding { severity, text });
    }

    fn entries(
        &mut self,
        file: &str,
        parsed: Result<Vec<Entry>, SyntaxError>,
        source: fn(Place) -> Source,
    ) {
        let entries = match parsed {
            Ok(entries) => entries,
            Err(error) => {
                self.find(
                    Severity::Error,
                    format!("{file}:{}: {}", error.line, error.misdeed),
                );
                return;
            }
        };
        let rows = C::rows();
        let mut seen: BTreeMap<&'static str, u32> = BTreeMap::new();
        for entry in &entries {
            let place = Place {
                file: file.to_owned(),
                line: entry.line,
            };
            let Some(row) = self.resolve(&rows, entry, &place) else {
                continue;
            };
            if let Some(first) = seen.insert(row.name, entry.line) {
                let text = format!(
                    "{place}: {} is also on line {first}; this one counts",
                    row.name
                );
                self.find(Severity::Warning, text);
            }
            self.assign(row, &entry.value, entry.written, source(place));
        }
    }

    /// The row of a key, other names included; says so if there is none.
    fn resolve(
        &mut self,
        rows: &[&'static Row],
        entry: &Entry,
        place: &Place,
    ) -> Option<&'static Row> {
        let key = entry.key.as_str();
        if let Some(row) = rows
            .iter()
            .find(|row| row.name == key || row.rule.aliases.contains(&key))
        {
            return Some(row);
        }
        if let Some(reason) = foreign::reason(key) {
            self.find(
                Severity::Note,
                format!("{place}: {key}: accepted, without effect: {reason}"),
            );
            return None;
        }
        let (severity, consequence) = match self.unknown_keys {
            UnknownKeys::Warn => (Severity::Warning, ", ignored"),
            UnknownKeys::Refuse => (Severity::Error, ""),
        };
        if let Some(row) = rows.iter().find(|row| row.rule.misspellings.contains(&key)) {
            let text = format!("{place}: unknown key {key}, taken as {}", row.name);
            self.find(severity, text);
            return Some(row);
        }
        let guess = nearest(key, rows.iter().map(|row| row.name));
        let hint = guess
            .map(|name| format!("; did you mean {name}?"))
            .unwrap_or_default();
        self.find(
            severity,
            format!("{place}: unknown key {key}{consequence}{hint}"),
        );
        None
    }

    fn assign(&mut self, row: &'static Row, value: &str, written: Written, source: Source) {
        let name = row.name;
        if let Some(form) = wrong_form(row, written) {
            self.find(Severity::Error, format!("{source}: {name}: must be {form}"));
            return;
        }
        let mut text = value;
        if row.ignores_blanks() && text.trim() != text {
            text = text.trim();
            self.find(
                Severity::Note,
                format!("{source}: {name}: blanks around {text} are ignored"),
            );
        }
        match self.config.set(name, text) {
            Some(Ok(())) => {
                self.sources.insert(name, source);
            }
            Some(Err(expected)) => {
                let shown = if row.rule.secret { "******" } else { value };
                self.find(
                    Severity::Error,
                    format!("{source}: {name}={shown}: must be {expected}"),
                );
            }
            None => {}
        }
    }
}

/// Entries of a file whose form its name tells.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Vec<Entry>, SyntaxError> {
    if !name.ends_with(".toml") {
        return properties::parse(bytes);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => flat_toml::parse(text),
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let lines = before.iter().filter(|&&byte| byte == b'\n').count();
            Err(SyntaxError {
                line: u32::try_from(lines).unwrap_or(u32::MAX).saturating_add(1),
                misdeed: "not UTF-8".into(),
            })
        }
    }
}

/// What TOML would have to say for this key, if it said something else.
fn wrong_form(row: &Row, written: Written) -> Option<&'static str> {
    match (row.kind, written) {
        (_, Written::Plain)
        | (Kind::Text | Kind::Choice(_), Written::Quoted)
        | (Kind::Switch, Written::Switch)
        | (Kind::Integer | Kind::Decimal, Written::Number) => None,
        (Kind::Choice(words), Written::Number)
            if words.iter().all(|word| word.parse::<i64>().is_ok()) =>
        {
            None
        }
        (Kind::Text | Kind::Choice(_), _) => Some("a text in quotes"),
        (Kind::Switch, _) => Some("true or false, without quotes"),
        (Kind::Integer | Kind::Decimal, _) => Some("a number, without quotes"),
    }
}

/// Variables that set a key: names with dots are RocketMQ's system properties, which become `TLS_SERVER_MODE`
/// and the like and win over the others, as they do in Java.
pub fn env_names(row: &Row) -> impl Iterator<Item = String> {
    let dotted = std::iter::once(row.name)
        .chain(row.rule.aliases.iter().copied())
        .filter(|name| name.contains('.'));
    let properties = dotted.map(|name| name.replace('.', "_").to_ascii_uppercase());
    properties.chain(row.rule.env.iter().map(|&name| name.to_owned()))
}
