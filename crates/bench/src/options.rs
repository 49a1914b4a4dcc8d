//! Command-line options: one table a subcommand, from which parsing, defaults and help come.
//!
//! Nothing here knows what an option means; the subcommands ask by name and type.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use gantry_manual::{Opt, Value};

/// One option of a subcommand.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Name without the two dashes.
    pub(crate) name: &'static str,
    /// Name of its value in the help; empty for a switch.
    pub(crate) value: &'static str,
    /// Value when it is not given; empty for none.
    pub(crate) default: &'static str,
    /// One line.
    pub(crate) help: &'static str,
}

/// A switch or an option without default.
pub(crate) const fn flag(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        value,
        default: "",
        help,
    }
}

/// An option with a default.
pub(crate) const fn preset(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        value,
        default,
        help,
    }
}

/// What was given, and the table it was checked against.
#[derive(Debug)]
pub(crate) struct Options {
    flags: &'static [&'static [Flag]],
    given: BTreeMap<&'static str, String>,
}

impl Options {
    /// Reads `--name value`, `--name=value` and switches.
    pub(crate) fn parse(
        flags: &'static [&'static [Flag]],
        arguments: impl IntoIterator<Item = String>,
    ) -> Result<Options> {
        let mut given = BTreeMap::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some(text) = argument.strip_prefix("--") else {
                bail!("{argument:?} is not an option")
            };
            let (name, inline) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, None),
            };
            let Some(flag) = flags
                .iter()
                .copied()
                .flatten()
                .find(|flag| flag.name == name)
            else {
                bail!("unknown option --{name}");
            };
            let value = match inline {
                Some(_) if flag.value.is_empty() => bail!("--{name} takes no value"),
                Some(value) => value,
                None if flag.value.is_empty() => "true".to_owned(),
                None => arguments
                    .next()
                    .with_context(|| format!("--{name} needs a value: {}", flag.value))?,
            };
            given.insert(flag.name, value);
        }
        Ok(Options { flags, given })
    }

    /// The text of an option: as given, or its default.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let given = self.given.get(name).map(String::as_str);
        let flag = self
            .flags
            .iter()
            .copied()
            .flatten()
            .find(|flag| flag.name == name);
        debug_assert!(flag.is_some(), "no option --{name} in the table");
        given.or_else(|| {
            flag.map(|flag| flag.default)
                .filter(|default| !default.is_empty())
        })
    }

    /// True when a switch was given.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// The value of an option, if it has one.
    pub(crate) fn maybe<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => bail!("--{name} {text:?} is not a {}", std::any::type_name::<T>()),
        }
    }

    /// The value of an option that has a default.
    pub(crate) fn value<T: FromStr>(&self, name: &str) -> Result<T> {
        self.maybe(name)?
            .with_context(|| format!("--{name} is needed"))
    }

    /// The value of a number that must lie between two others.
    pub(crate) fn number(&self, name: &str, low: usize, high: usize) -> Result<usize> {
        let number = self.value(name)?;
        if low <= number && number <= high {
            return Ok(number);
        }
        bail!("--{name} {number} is not between {low} and {high}")
    }
}

/// The table as the manual page and completions need it.
pub(crate) fn described(flags: &[&'static [Flag]]) -> Vec<Opt> {
    let described = |flag: &Flag| Opt {
        short: None,
        long: flag.name,
        value: match flag.value {
            "" => Value::None,
            name => Value::Text(name),
        },
        about: match flag.default {
            "" => flag.help.to_owned(),
            default => format!("{} (default: {default})", flag.help),
        },
    };
    flags.iter().copied().flatten().map(described).collect()
}

/// The help text of a table.
pub(crate) fn help(flags: &[&[Flag]]) -> String {
    let mut out = String::new();
    for flag in flags.iter().copied().flatten() {
        let left = format!("--{} {}", flag.name, flag.value);
        let default = if flag.default.is_empty() {
            String::new()
        } else {
            format!(" [{}]", flag.default)
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  {left:<24} {}{default}", flag.help);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[&[Flag]] = &[&[
        flag("json", "", "machine-readable"),
        preset("size", "BYTES", "1024", "body"),
        flag("pid", "PID", "server"),
    ]];

    fn parse(arguments: &[&str]) -> Result<Options> {
        Options::parse(
            TABLE,
            arguments.iter().map(|argument| (*argument).to_owned()),
        )
    }

    #[test]
    fn options_are_read_in_both_forms_with_their_defaults() {
        let options = parse(&["--json", "--size=7"]).unwrap();
        assert!(options.is_on("json"));
        assert_eq!(options.value::<usize>("size").unwrap(), 7);
        assert_eq!(options.maybe::<u32>("pid").unwrap(), None);
        let options = parse(&["--pid", "12"]).unwrap();
        assert_eq!(options.number("size", 0, 4096).unwrap(), 1024);
        assert_eq!(options.maybe::<u32>("pid").unwrap(), Some(12));
    }

    #[test]
    fn mistakes_are_named() {
        let check = |arguments: &[&str], expected: &str| {
            assert_eq!(parse(arguments).unwrap_err().to_string(), expected);
        };
        check(&["send"], "\"send\" is not an option");
        check(&["--sise", "1"], "unknown option --sise");
        check(&["--size"], "--size needs a value: BYTES");
        check(&["--json=1"], "--json takes no value");
        let options = parse(&["--size", "many"]).unwrap();
        assert_eq!(
            options.value::<usize>("size").unwrap_err().to_string(),
            "--size \"many\" is not a usize"
        );
        assert_eq!(
            parse(&["--size", "9"])
                .unwrap()
                .number("size", 1, 8)
                .unwrap_err()
                .to_string(),
            "--size 9 is not between 1 and 8"
        );
    }
}
