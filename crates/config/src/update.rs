//! Changes at run time: which keys a request may change, and the one file that keeps the changes.
//!
//! The administrator's file is never written. A request either takes effect as a whole or names the key that
//! stands in its way. Writing the file is the daemon's business; this module says what to write.

use std::collections::BTreeMap;
use std::fmt;

use crate::entry::SyntaxError;
use crate::properties;
use crate::settings::{Change, Expected, Row, Settings, Verdict};

/// What a request asked for, checked.
#[derive(Clone, Debug)]
pub struct Update<C> {
    /// All values with the changes.
    pub config: C,
    /// The keys that change, with their new values.
    pub changes: Vec<(&'static str, String)>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// The text is not in `.properties` form.
    Syntax(SyntaxError),
    /// No table knows the key.
    Unknown {
        /// The key.
        key: String,
    },
    /// The key can only be changed in the file, followed by a restart or a reload.
    NotUpdatable {
        /// The key.
        key: String,
        /// When a changed file is taken up.
        change: Change,
    },
    /// The operator put the key on `configBlackList`.
    BlackListed {
        /// The key.
        key: String,
    },
    /// The value is not allowed.
    BadValue {
        /// The key.
        key: String,
        /// What was asked for.
        value: String,
        /// What would be allowed.
        expected: Expected,
    },
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The first sentence is RocketMQ's, for those who look for it.
        const REFUSED: &str = "Can not update config in black list.";
        match self {
            Self::Syntax(error) => write!(f, "string2Properties error: {error}"),
            Self::Unknown { key } => write!(f, "unknown key {key}"),
            Self::NotUpdatable {
                key,
                change: Change::Reload,
            } => {
                write!(
                    f,
                    "{REFUSED} {key} is changed in the configuration file only, then reload"
                )
            }
            Self::NotUpdatable { key, .. } => {
                write!(
                    f,
                    "{REFUSED} {key} is changed in the configuration file only, then restart"
                )
            }
            Self::BlackListed { key } => write!(f, "{REFUSED} {key} is on configBlackList"),
            Self::BadValue {
                key,
                value,
                expected,
            } => write!(f, "{key}={value}: must be {expected}"),
        }
    }
}

impl std::error::Error for UpdateError {}

/// Checks a request in `.properties` form against the table. Keys that would not change are passed over, so that
/// a listing of all keys can be sent back with one of them edited.
pub fn plan_update<C: Settings>(current: &C, text: &[u8]) -> Result<Update<C>, UpdateError> {
    let entries = properties::parse(text).map_err(UpdateError::Syntax)?;
    let rows = C::rows();
    let black_list = current.text("configBlackList").unwrap_or_default();
    let mut config = current.clone();
    let mut changes: BTreeMap<&'static str, String> = BTreeMap::new();
    for entry in entries {
        let key = entry.key;
        let Some(row) = rows
            .iter()
            .find(|row| row.name == key || row.rule.aliases.contains(&key.as_str()))
        else {
            // A listed key is refused as such even if only RocketMQ knows it.
            return Err(if is_listed(&black_list, &key) {
                UpdateError::BlackListed { key }
            } else {
                UpdateError::Unknown { key }
            });
        };
        let value = if row.ignores_blanks() {
            entry.value.trim()
        } else {
            entry.value.as_str()
        };
        let before = config.text(row.name).unwrap_or_default();
        if value == before || (row.rule.secret && value == crate::print::MASK) {
            continue;
        }
        admit(row, &black_list)?;
        match config.set(row.name, value) {
            Some(Ok(())) => {}
            Some(Err(expected)) => {
                return Err(UpdateError::BadValue {
                    key,
                    value: entry.value,
                    expected,
                });
            }
            None => return Err(UpdateError::Unknown { key }),
        }
        changes.insert(row.name, config.text(row.name).unwrap_or_default());
    }
    changes.retain(|key, value| current.text(key).as_ref() != Some(value));
    Ok(Update {
        config,
        changes: changes.into_iter().collect(),
    })
}

fn admit(row: &Row, black_list: &str) -> Result<(), UpdateError> {
    let key = row.name.to_owned();
    if is_listed(black_list, row.name) {
        return Err(UpdateError::BlackListed { key });
    }
    match (row.rule.change, row.rule.verdict) {
        (Change::Update, Verdict::Honoured) => Ok(()),
        (change, _) => Err(UpdateError::NotUpdatable { key, change }),
    }
}

fn is_listed(black_list: &str, key: &str) -> bool {
    black_list.split(';').any(|name| name.trim() == key)
}

/// What comes of reading all files again while the daemon runs.
#[derive(Clone, Debug)]
pub struct Reload<C> {
    /// The values that run, with what could be taken up.
    pub config: C,
    /// Keys that have a new value now.
    pub taken_up: Vec<&'static str>,
    /// Keys whose new value needs a restart.
    pub need_restart: Vec<&'static str>,
}

/// Moves from `fresh` into `running` what may change while the daemon runs, and names what may not.
pub fn plan_reload<C: Settings>(running: &C, fresh: &C) -> Reload<C> {
    let mut reload = Reload {
        config: running.clone(),
        taken_up: Vec::new(),
        need_restart: Vec::new(),
    };
    for row in C::rows() {
        let (before, after) = (running.text(row.name), fresh.text(row.name));
        if before == after {
            continue;
        }
        let taken = row.rule.change != Change::Restart
            && after.is_some_and(|text| matches!(reload.config.set(row.name, &text), Some(Ok(()))));
        let list = if taken {
            &mut reload.taken_up
        } else {
            &mut reload.need_restart
        };
        list.push(row.name);
    }
    reload
}

/// The new text of the override file: what it held, with the changes.
///
/// ```
/// let changed = gantry_config::render_overrides(b"fileReservedTime=48\n", &[("brokerPermission", "4".into())]).unwrap();
/// assert!(changed.ends_with("brokerPermission=4\nfileReservedTime=48\n"));
/// ```
pub fn render_overrides(
    existing: &[u8],
    changes: &[(&'static str, String)],
) -> Result<String, SyntaxError> {
    let mut values: BTreeMap<String, String> = properties::parse(existing)?
        .into_iter()
        .map(|entry| (entry.key, entry.value))
        .collect();
    for (key, value) in changes {
        values.insert((*key).to_owned(), value.clone());
    }
    let mut text = String::from(
        "# Settings changed at run time. They win over the configuration file; a line removed here, and a restart, undoes it.\n",
    );
    for (key, value) in &values {
        properties::write(&mut text, key, value);
    }
    Ok(text)
}
