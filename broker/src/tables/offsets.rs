//! How far each group has consumed each queue, and the file `consumerOffset.json`.
//!
//! A commit is a short lock on one group and topic: every pull carries one. Changes are written out by [`Offsets::step`]
//! and at the stop, so a `kill -9` goes back to the last of these writes: messages are then delivered again, never skipped.
//! Values are taken as they come: nothing here knows which topics, queues or groups exist.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use gantry_disk::Disk;
use gantry_message::{Millis, QueueId, QueueOffset};
use gantry_wire::bodies::ConsumerOffsets;

use super::file::{JsonFile, TableError};

/// Positions beyond this number are refused: what misbehaving clients can make us keep, about 400 MB.
const POSITIONS_MAX: usize = 4_000_000;
/// Longest group or topic name that gets an entry.
const NAME_BYTES_MAX: usize = 255;
/// Stands between topic and group in the file's keys.
const SEPARATOR: char = '@';

/// The positions of one group in one topic: the next offset to consume of each queue.
pub type Positions = BTreeMap<QueueId, QueueOffset>;

/// The groups of one topic.
type OfTopic = HashMap<Box<str>, Mutex<Positions>>;

/// The offset table.
pub struct Offsets {
    topics: RwLock<HashMap<Box<str>, OfTopic>>,
    /// How many positions there are; may run ahead for a moment.
    positions: AtomicUsize,
    /// Grows with every change.
    changes: AtomicU64,
    writer: Mutex<Writer>,
    period_ms: i64,
}

struct Writer {
    file: JsonFile,
    /// Invariant: the file holds at least the changes up to this number.
    written: u64,
    due: Option<Millis>,
    /// The last write failed, which has been said.
    failing: bool,
}

/// Why a position was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The table is full.
    #[error("the consumer offset table holds {POSITIONS_MAX} positions, which is the limit")]
    Full,
    /// A name is longer than any valid one.
    #[error("the {what} name is {length} bytes long, limit {NAME_BYTES_MAX}")]
    NameTooLong {
        /// `topic` or `group`
        what: &'static str,
        /// Its length.
        length: usize,
    },
}

impl Offsets {
    /// Loads `consumerOffset.json` from the configuration folder; it is written back every `period_ms`
    /// (`flushConsumerOffsetInterval`) by [`Offsets::step`]. Blocks.
    pub fn load(disk: Arc<dyn Disk>, folder: &Path, period_ms: i64) -> Result<Offsets, TableError> {
        let file = JsonFile::new(disk, folder.join("consumerOffset.json"));
        let mut topics: HashMap<Box<str>, OfTopic> = HashMap::new();
        let mut positions = 0;
        for (key, queues) in file
            .load(ConsumerOffsets::parse)?
            .unwrap_or_default()
            .offset_table
        {
            let Some((topic, group)) = key.split_once(SEPARATOR) else {
                tracing::warn!(
                    key,
                    "consumerOffset.json: an entry that is not topic@group is left out"
                );
                continue;
            };
            let queues: Positions = queues.into_iter().filter_map(position_of_file).collect();
            positions += queues.len();
            topics
                .entry(topic.into())
                .or_default()
                .insert(group.into(), Mutex::new(queues));
        }
        Ok(Offsets {
            topics: RwLock::new(topics),
            positions: AtomicUsize::new(positions),
            changes: AtomicU64::new(0),
            writer: Mutex::new(Writer {
                file,
                written: 0,
                due: None,
                failing: false,
            }),
            period_ms: period_ms.max(1),
        })
    }

    /// The next offset the group wants from the queue, when it is known.
    pub fn query(&self, group: &str, topic: &str, queue: QueueId) -> Option<QueueOffset> {
        let (topic, group) = key(topic, group);
        self.read()
            .get(topic)?
            .get(&*group)
            .and_then(|positions| lock(positions).get(&queue).copied())
    }

    /// Takes a position as given, a step back too; returns the one before.
    pub fn commit(
        &self,
        group: &str,
        topic: &str,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<QueueOffset>, CommitError> {
        let (topic, group) = key(topic, group);
        if let Some(known) = self
            .read()
            .get(topic)
            .and_then(|groups| groups.get(&*group))
        {
            return self.set(&mut lock(known), queue, offset);
        }
        check_names(topic, &group)?;
        let mut topics = self.write();
        let positions = topics
            .entry(topic.into())
            .or_default()
            .entry(group.as_ref().into())
            .or_default();
        self.set(
            positions.get_mut().unwrap_or_else(PoisonError::into_inner),
            queue,
            offset,
        )
    }

    /// Sets or forgets a position if it is still the one that was looked at; says whether it was.
    pub fn exchange(
        &self,
        (group, topic, queue): (&str, &str, QueueId),
        from: Option<QueueOffset>,
        to: Option<QueueOffset>,
    ) -> Result<bool, CommitError> {
        let (topic, group) = key(topic, group);
        check_names(topic, &group)?;
        let exchange = |positions: &mut Positions| {
            if positions.get(&queue).copied() != from {
                return Ok(false);
            }
            match to {
                Some(to) => self.set(positions, queue, to).map(|_| true),
                None => {
                    if positions.remove(&queue).is_some() {
                        self.positions.fetch_sub(1, Ordering::Relaxed);
                        self.changed();
                    }
                    Ok(true)
                }
            }
        };
        if let Some(known) = self
            .read()
            .get(topic)
            .and_then(|groups| groups.get(&*group))
        {
            return exchange(&mut lock(known));
        }
        let mut topics = self.write();
        let groups = topics.entry(topic.into()).or_default();
        let positions = groups.entry(group.as_ref().into()).or_default();
        exchange(positions.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets a position, so that the group counts as new in this queue.
    pub fn forget(&self, group: &str, topic: &str, queue: QueueId) {
        let (topic, group) = key(topic, group);
        if let Some(known) = self
            .read()
            .get(topic)
            .and_then(|groups| groups.get(&*group))
            && lock(known).remove(&queue).is_some()
        {
            self.positions.fetch_sub(1, Ordering::Relaxed);
            self.changed();
        }
    }

    /// The positions of a group in a topic, empty when there are none.
    pub fn of(&self, group: &str, topic: &str) -> Positions {
        let (topic, group) = key(topic, group);
        let topics = self.read();
        let known = topics.get(topic).and_then(|groups| groups.get(&*group));
        known
            .map(|positions| lock(positions).clone())
            .unwrap_or_default()
    }

    /// Every position, by topic and group.
    pub fn all(&self) -> Vec<(Box<str>, Box<str>, Positions)> {
        let topics = self.read();
        let of_topics = topics.iter();
        of_topics
            .flat_map(|(topic, groups)| {
                let of_groups = groups.iter();
                of_groups.map(|(group, known)| (topic.clone(), group.clone(), lock(known).clone()))
            })
            .collect()
    }

    /// The topics in which the group has positions.
    pub fn topics_of(&self, group: &str) -> BTreeSet<String> {
        let has = |groups: &OfTopic| groups.contains_key(group);
        self.read()
            .iter()
            .filter(|(_, groups)| has(groups))
            .map(|(topic, _)| topic.to_string())
            .collect()
    }

    /// The groups that have positions in the topic.
    pub fn groups_of(&self, topic: &str) -> BTreeSet<String> {
        self.read()
            .get(topic)
            .into_iter()
            .flatten()
            .map(|(group, _)| group.to_string())
            .collect()
    }

    /// Gives `to` the positions that `from` has in the topic, in place of its own; false when `from` has none.
    pub fn copy(&self, from: &str, to: &str, topic: &str) -> bool {
        let mut topics = self.write();
        let Some(groups) = topics.get_mut(topic) else {
            return false;
        };
        let Some(source) = groups.get(from).map(|positions| lock(positions).clone()) else {
            return false;
        };
        let added = source.len();
        let replaced = groups.insert(to.into(), Mutex::new(source));
        let removed = replaced.map_or(0, |old| lock(&old).len());
        self.positions.fetch_add(added, Ordering::Relaxed);
        self.positions.fetch_sub(removed, Ordering::Relaxed);
        self.changed();
        true
    }

    /// Forgets all positions of a group.
    pub fn remove_group(&self, group: &str) {
        let mut removed = 0;
        self.write().retain(|_, groups| {
            removed += groups
                .remove(group)
                .map_or(0, |positions| lock(&positions).len());
            !groups.is_empty()
        });
        if 0 < removed {
            self.positions.fetch_sub(removed, Ordering::Relaxed);
            self.changed();
            tracing::info!(group, removed, "consumer offsets removed");
        }
    }

    /// All positions as the body of request 43.
    pub fn wire_table(&self) -> ConsumerOffsets {
        let topics = self.read();
        let entries = topics
            .iter()
            .flat_map(|(topic, groups)| groups.iter().map(move |entry| (topic, entry)));
        ConsumerOffsets {
            offset_table: entries
                .map(|(topic, (group, positions))| {
                    let queues = lock(positions).iter().map(position_of_wire).collect();
                    (format!("{topic}{SEPARATOR}{group}"), queues)
                })
                .collect(),
        }
    }

    /// All positions as the body of request 43, for who goes by what it was told: they are on disk when this returns, so
    /// that a kill takes none of it back. Blocks.
    pub fn table_on_disk(&self) -> Result<ConsumerOffsets, TableError> {
        let table = self.wire_table();
        self.flush()?;
        Ok(table)
    }

    /// Writes the file when it is time and something changed; says when to be called next. Blocks.
    /// A failure is logged once, until a write succeeds again; the changes stay in memory and the next step tries again.
    pub fn step(&self, now: Millis) -> Millis {
        let mut writer = lock(&self.writer);
        if let Some(due) = writer.due
            && now < due
            // A clock that was set back must not stop the writing.
            && due.since(now) <= self.period_ms
        {
            return due;
        }
        if writer.due.is_some() {
            match self.write_file(&mut writer) {
                Ok(()) if writer.failing => {
                    writer.failing = false;
                    tracing::info!("consumer offsets are written again");
                }
                Ok(()) => {}
                Err(error) if !writer.failing => {
                    writer.failing = true;
                    tracing::error!(%error, "consumer offsets cannot be written, kept in memory");
                }
                Err(_) => {}
            }
        }
        let due = now.plus(self.period_ms);
        writer.due = Some(due);
        due
    }

    /// Writes the file if something changed; for the stop. Blocks.
    pub fn flush(&self) -> Result<(), TableError> {
        self.write_file(&mut lock(&self.writer))
    }

    fn write_file(&self, writer: &mut Writer) -> Result<(), TableError> {
        // Read before the table: what changes in between is written again next time.
        let changes = self.changes.load(Ordering::Acquire);
        if changes != writer.written {
            writer.file.replace(&self.wire_table().encode_pretty())?;
            writer.written = changes;
        }
        Ok(())
    }

    fn set(
        &self,
        positions: &mut Positions,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<QueueOffset>, CommitError> {
        if let Some(known) = positions.get_mut(&queue) {
            let before = std::mem::replace(known, offset);
            if before != offset {
                self.changed();
            }
            return Ok(Some(before));
        }
        if POSITIONS_MAX <= self.positions.fetch_add(1, Ordering::Relaxed) {
            self.positions.fetch_sub(1, Ordering::Relaxed);
            return Err(CommitError::Full);
        }
        positions.insert(queue, offset);
        self.changed();
        Ok(None)
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Box<str>, OfTopic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Box<str>, OfTopic>> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_names(topic: &str, group: &str) -> Result<(), CommitError> {
    for (what, name) in [("topic", topic), ("group", group)] {
        if NAME_BYTES_MAX < name.len() {
            return Err(CommitError::NameTooLong {
                what,
                length: name.len(),
            });
        }
    }
    Ok(())
}

/// The file joins topic and group with `@`, which a topic cannot hold but a foreign request may: such a pair is kept as it
/// would be read back.
fn key<'a>(topic: &'a str, group: &'a str) -> (&'a str, Cow<'a, str>) {
    match topic.split_once(SEPARATOR) {
        None => (topic, Cow::Borrowed(group)),
        Some((topic, rest)) => (topic, Cow::Owned(format!("{rest}{SEPARATOR}{group}"))),
    }
}

/// Java's file may hold anything that a client once sent; what is negative means "unknown".
fn position_of_file((queue, offset): (i32, i64)) -> Option<(QueueId, QueueOffset)> {
    Some((
        QueueId(u32::try_from(queue).ok()?),
        QueueOffset(u64::try_from(offset).ok()?),
    ))
}

fn position_of_wire((queue, offset): (&QueueId, &QueueOffset)) -> (i32, i64) {
    (
        i32::try_from(queue.0).unwrap_or(i32::MAX),
        i64::try_from(offset.0).unwrap_or(i64::MAX),
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
