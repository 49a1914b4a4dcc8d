//! The tables in `config/` and their backups: whether each can be read as what it is, and what they say of queues.

use std::collections::BTreeMap;
use std::path::Path;

use gantry_disk::replace;
use gantry_wire::bodies::{
    BodyError, ConsumerOffsets, DelayOffsets, SubscriptionGroupTable, TopicConfigTable,
};
use gantry_wire::json::{self, FromJson, Reader};

use super::queues::QueueCheck;
use crate::log::wide;
use crate::report::{Class, Finding, Findings};
use crate::target::{DoctorError, Target};

/// The tables that Apache's broker and ours keep.
pub(crate) const NAMES: [&str; 6] = [
    "topics.json",
    "subscriptionGroup.json",
    "consumerOffset.json",
    "delayOffset.json",
    "consumerFilter.json",
    "lmqConsumerOffset.json",
];

/// What the tables say that others can be compared with.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    topics: Option<TopicConfigTable>,
    offsets: Option<ConsumerOffsets>,
}

impl Tables {
    /// Whether there is a topic of that name; `None` when no table says.
    pub(crate) fn knows_topic(&self, topic: &str) -> Option<bool> {
        let topics = self.topics.as_ref()?;
        Some(topics.topic_config_table.contains_key(topic))
    }
}

/// A table, as far as anybody here wants to know.
#[derive(Debug)]
pub(crate) enum Table {
    Topics(TopicConfigTable),
    Offsets(ConsumerOffsets),
    /// With so many rows.
    Other(usize),
}

impl Table {
    fn rows(&self) -> usize {
        match self {
            Self::Topics(table) => table.topic_config_table.len(),
            Self::Offsets(table) => table.offset_table.values().map(BTreeMap::len).sum(),
            Self::Other(rows) => *rows,
        }
    }
}

/// Any object.
struct AnyObject(usize);

impl FromJson for AnyObject {
    fn from_json(reader: &mut Reader<'_>) -> Result<Option<Self>, BodyError> {
        let mut members = 0;
        let found = reader.object(|reader, _| {
            members += 1;
            reader.skip()
        })?;
        Ok(found.then_some(Self(members)))
    }
}

/// Reads a table as the broker reads it.
pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Table, BodyError> {
    Ok(match name {
        "topics.json" => Table::Topics(TopicConfigTable::parse(bytes)?),
        "consumerOffset.json" => Table::Offsets(ConsumerOffsets::parse(bytes)?),
        "subscriptionGroup.json" => {
            let table = SubscriptionGroupTable::parse(bytes)?;
            Table::Other(table.subscription_group_table.len())
        }
        "delayOffset.json" => Table::Other(DelayOffsets::parse(bytes)?.offset_table.len()),
        _ => Table::Other(json::parse::<AnyObject>(bytes)?.0),
    })
}

/// Reads all tables.
pub(crate) fn check(target: &Target, findings: &mut Findings) -> Result<Tables, DoctorError> {
    let dir = target.root.join("config");
    let mut tables = Tables::default();
    for name in NAMES {
        let path = dir.join(name);
        let backup = replace::backup_of(&path);
        let table = one(target, name, &path, findings);
        let spare = one(target, name, &backup, findings);
        if matches!(table, State::Missing) && !matches!(spare, State::Missing) {
            let text = "missing, and its .bak is there";
            findings.add(Finding::fault(Class::Config, "table-missing", &path, text));
        }
        let best = match (table, spare) {
            (State::Good(table), _) | (_, State::Good(table)) => Some(table),
            _ => None,
        };
        match best {
            Some(Table::Topics(topics)) => tables.topics = Some(topics),
            Some(Table::Offsets(offsets)) => tables.offsets = Some(offsets),
            _ => {}
        }
    }
    for listed in target.list(&dir).map_err(DoctorError::io("list", &dir))? {
        let path = dir.join(&listed.name);
        if listed.name.ends_with(".tmp") {
            let text = "left over from a write that was cut off; the next one replaces it";
            findings.add(Finding::note(Class::Config, "left-over", &path, text));
        } else if listed.name.contains(".damaged-") {
            let text = "a table that a broker could not read and set aside";
            findings.add(Finding::note(Class::Config, "set-aside", &path, text));
        }
    }
    Ok(tables)
}

enum State {
    Missing,
    Bad,
    Good(Table),
}

fn one(target: &Target, name: &str, path: &Path, findings: &mut Findings) -> State {
    let bytes = match target.read(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return State::Missing,
        Err(error) => {
            findings.refused(Class::Config, path, &error);
            return State::Bad;
        }
    };
    findings.file(Class::Config, wide(bytes.len()));
    if bytes.is_empty() {
        findings.add(Finding::fault(Class::Config, "table-empty", path, "empty").at(0));
        return State::Bad;
    }
    match parse(name, &bytes) {
        Ok(table) => {
            findings.class(Class::Config).records += wide(table.rows());
            State::Good(table)
        }
        Err(error) => {
            let at = wide(error.at);
            let finding = Finding::fault(Class::Config, "table-damaged", path, error);
            findings.add(finding.at(at));
            State::Bad
        }
    }
}

/// Groups that have consumed more than there is.
pub(crate) fn check_offsets(
    target: &Target,
    tables: &Tables,
    queues: &QueueCheck<'_>,
    findings: &mut Findings,
) {
    let Some(offsets) = &tables.offsets else {
        return;
    };
    let path = target.root.join("config").join("consumerOffset.json");
    for (key, positions) in &offsets.offset_table {
        let topic = key.split_once('@').map_or(key.as_str(), |(topic, _)| topic);
        for (&id, &position) in positions {
            let end = u32::try_from(id)
                .ok()
                .and_then(|id| queues.end_of(topic, id));
            let Some(end) = end else { continue };
            let is_ahead = u64::try_from(position).is_ok_and(|position| position > end);
            if is_ahead {
                let text = format!(
                    "{key} is at {position} of queue {id}, which ends at {end}: the group gets nothing until then"
                );
                findings.add(Finding::note(Class::Config, "offset-ahead", &path, text));
            }
        }
    }
}
