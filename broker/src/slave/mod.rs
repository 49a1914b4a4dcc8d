//! What a slave does besides following the log: it keeps its master's tables.
//!
//! Every ten seconds, and sooner for a reason (a new queue in the log, a new master, a promotion of its own), it asks for
//! topics (21, at the second listener as Java's slave does), consumer offsets (43), delay positions (45) and groups (201),
//! and makes them its own, in memory and on disk, so that it can take the master's place. What an answer means is decided
//! in `copy` and `merge`, which are pure. Offsets are not just copied: what groups committed here while the master was away
//! is sent to it (15).
//!
//! A master that does not answer, or not with a table, changes nothing; nor does one whose log is not followed. Tables speak
//! of a log: those of a master that lost its disk and started from nothing would delete what only the slave still has.

mod copy;
pub mod known;
pub mod merge;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use gantry_disk::Disk;
use gantry_message::{QueueId, QueueOffset};
use gantry_net::client::{Connection, Options, Reply};
use gantry_store::{Store, Watermark};
use gantry_wire::{
    FieldSink, HeaderEncode,
    bodies::{ConsumerOffsets, DataVersion, HaStatus, KvTable},
    codes::{request, response},
    frame::FieldWriter,
    headers::{SEEN_OFFSET, UpdateConsumerOffset},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{self, Instant},
};

use crate::{
    delay::Delay,
    registration::Master,
    stats::Stats,
    tables::{Groups, JsonFile, Offsets, TableError, Topics},
};
use copy::Verdict;
use known::Lacks;
pub use known::{End, Follows, Known};
use merge::{Adoption, Place};

/// The first copy after the start, and the pause between two.
const FIRST: Duration = Duration::from_secs(3);
const PERIOD: Duration = Duration::from_secs(10);
/// However many reasons there are, it asks no more often than this.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// How long each answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(3);
/// A table may be as large as the largest frame that a broker sends.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// What is asked for, as it is said in the log; the last is how the master stands.
const WHAT: [&str; 5] = [
    "topics",
    "subscription groups",
    "consumer offsets",
    "delay positions",
    "tables",
];
const STATE: usize = 4;
/// Offsets told to the master in one round; the others follow in the next.
const PUSHES_MAX: usize = 10_000;

/// The tables of a slave.
pub struct Tables {
    /// The topics.
    pub topics: Arc<Topics>,
    /// The groups.
    pub groups: Arc<Groups>,
    /// Where groups stand.
    pub offsets: Arc<Offsets>,
    /// Where delay levels stand.
    pub delay: Arc<Delay>,
    /// Whose queues go with a topic.
    pub store: Arc<Store>,
    /// Whose counters go with it.
    pub stats: Arc<Stats>,
}

/// Where the master's main port is.
pub struct Whereabouts {
    /// As the name servers say. It may have another log: it is only asked how it stands.
    pub told: watch::Receiver<Master>,
    /// As the log comes.
    pub link: Box<dyn Link>,
}

/// The link that the log comes by.
pub trait Link: Send + Sync {
    /// The master whose log is followed now. The name servers may not know it: `haMasterAddress` names it, and its main
    /// port has been asked whether its log is ours.
    fn followed(&self) -> Option<String>;
    /// Grows when it comes about.
    fn begun(&self) -> &Watermark;
    /// Grows when this slave is about to be promoted, and waited for.
    fn candidacies(&self) -> &Watermark;
}

/// The copying at work.
pub struct Slave {
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Slave {
    /// Begins to copy from whatever master there is. Must be called on the control runtime.
    pub fn start(copier: Copier, whereabouts: Whereabouts) -> Slave {
        let stopping = watch::Sender::new(false);
        let task = tokio::spawn(run(copier, whereabouts, stopping.subscribe()));
        Slave { stopping, task }
    }

    /// Ends the copying; a file that is being written is finished by its own thread.
    pub async fn stop(self) {
        self.stopping.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the copying of tables ended badly");
        }
    }
}

async fn run(
    mut copier: Copier,
    mut whereabouts: Whereabouts,
    mut stopping: watch::Receiver<bool>,
) {
    let store = copier.tables.store.clone();
    let mut known = store.queues_made().value();
    let (mut begun, mut candidacies) = (0, 0);
    let mut lacking = None;
    let mut due = Instant::now() + FIRST;
    let mut earliest = Instant::now();
    loop {
        tokio::select! {
            () = time::sleep_until(due) => {
                let (master, follows) = whereabouts.look();
                if let Some(master) = copier.choose(master) {
                    tokio::select! {
                        () = copier.copy(&master, follows) => {}
                        _ = stopping.changed() => return,
                    }
                }
                lacking = copier.lacks.until();
                due = Instant::now() + PERIOD;
                if follows == Follows::Yes {
                    earliest = Instant::now() + PAUSE_MIN;
                }
            }
            () = whereabouts.link.begun().beyond(begun) => {
                begun = whereabouts.link.begun().value();
                due = due.min(earliest.max(Instant::now()));
            }
            () = whereabouts.link.candidacies().beyond(candidacies) => {
                candidacies = whereabouts.link.candidacies().value();
                due = Instant::now();
            }
            // It has caught up, and says so when it has asked once more.
            () = store.appended().beyond(lacking.unwrap_or(u64::MAX)), if lacking.is_some() => {
                lacking = None;
                due = due.min(earliest.max(Instant::now()));
            }
            // The log has brought a queue that was not there: its topic may not be known yet.
            () = store.queues_made().beyond(known) => {
                known = store.queues_made().value();
                due = due.min(earliest.max(Instant::now()));
            }
            changed = whereabouts.told.changed() => match changed {
                Ok(()) => due = due.min(earliest.max(Instant::now())),
                // The registration is gone, and with it whoever would tell of another master.
                Err(_) => return,
            },
            _ = stopping.changed() => return,
        }
    }
}

impl Whereabouts {
    fn look(&mut self) -> (Option<String>, Follows) {
        let told = self.told.borrow_and_update().address.clone();
        match self.link.followed() {
            Some(followed) => (Some(followed), Follows::Yes),
            None => (told.filter(|told| !told.is_empty()), Follows::No),
        }
    }
}

/// Asks a master for its tables and takes them over.
pub struct Copier {
    tables: Arc<Tables>,
    own_address: String,
    known: Known,
    known_file: known::File,
    lacks: Lacks,
    /// There was no master to ask the last time, and it was said.
    is_alone: bool,
    seen: Seen,
    taken: Taken,
    /// What is wrong with each table, as it was said.
    troubles: [Option<String>; WHAT.len()],
}

/// Which tables were taken over last, by this process.
#[derive(Default)]
struct Taken {
    /// The master's address.
    of: String,
    topics: Option<DataVersion>,
    groups: Option<DataVersion>,
}

/// The offsets that the master had when it was asked last, in a file of their own: without them, a restarted slave could
/// not tell a commit of its own from a reset at the master.
struct Seen {
    file: Arc<JsonFile>,
    table: merge::Table,
    /// The file holds this table.
    saved: bool,
}

impl Copier {
    /// Reads what was seen of the master from the `config` folder. Blocks.
    pub fn load(
        disk: Arc<dyn Disk>,
        folder: &Path,
        tables: Tables,
        (own_address, known, end): (String, Known, End),
    ) -> Result<Copier, TableError> {
        let (known_file, lacks) = known.load(disk.clone(), folder, (end, tables.end()))?;
        let file = JsonFile::new(disk, folder.join("masterOffset.json"));
        let table = match file.load(ConsumerOffsets::parse)? {
            Some(seen) => seen.offset_table,
            // Never a slave of ours: what it has is taken for its master's. Noted at once: what groups commit here before
            // the master is asked would be taken for the master's after the next start.
            None => {
                let table = tables.offsets.wire_table();
                file.replace(&table.encode_pretty())?;
                table.offset_table
            }
        };
        Ok(Copier {
            tables: Arc::new(tables),
            own_address,
            known,
            known_file,
            lacks,
            is_alone: false,
            seen: Seen {
                file: Arc::new(file),
                table,
                saved: true,
            },
            taken: Taken::default(),
            troubles: Default::default(),
        })
    }

    /// The master that is asked; that there is none is said once.
    fn choose(&mut self, master: Option<String>) -> Option<String> {
        let master = master.filter(|master| *master != self.own_address);
        let was_alone = std::mem::replace(&mut self.is_alone, master.is_none());
        match &master {
            None if !was_alone => tracing::warn!(
                "no table is copied, ours stay: no name server knows the master, and none is followed"
            ),
            Some(master) if was_alone => {
                tracing::info!(master, "tables are copied: there is a master");
            }
            _ => {}
        }
        master
    }

    /// One round; what could not be copied is said in the log, once. Why the log is not followed says who follows it.
    pub async fn copy(&mut self, master: &str, follows: Follows) {
        let begun = Instant::now();
        let state = self.look_at(master, follows).await;
        let is_known = state.is_ok();
        self.say(STATE, master, state);
        if !is_known || follows == Follows::No {
            return;
        }
        if self.taken.of != master {
            self.taken = Taken {
                of: master.to_owned(),
                ..Taken::default()
            };
        }
        // Offsets that are gone there are forgotten only with their topic or group.
        let results = [
            self.copy_topics(master).await,
            self.copy_groups(master).await,
            self.copy_offsets(master).await,
            self.copy_delay(master).await,
        ];
        if results.iter().all(Result::is_ok) {
            self.known.note_copied(begun);
        }
        for (which, result) in results.into_iter().enumerate() {
            self.say(which, master, result);
        }
    }

    fn say(&mut self, which: usize, master: &str, result: Result<(), String>) {
        let (Some(what), Some(said)) = (WHAT.get(which), self.troubles.get_mut(which)) else {
            return;
        };
        match result {
            Ok(()) if said.take().is_some() => {
                tracing::info!(master, "the {what} of the master are copied again");
            }
            Ok(()) => {}
            Err(error) if said.as_ref() != Some(&error) => {
                tracing::warn!(
                    master,
                    error,
                    "the {what} of the master are not copied, ours stay"
                );
                *said = Some(error);
            }
            Err(_) => {}
        }
    }

    /// Asks where the master's log ends and how replication is doing there, which Apache's broker cannot say. An error if it
    /// is not the one that is followed: another machine may have got the address.
    async fn look_at(&mut self, master: &str, follows: Follows) -> Result<(), String> {
        // Before it is asked: who is followed has all of this.
        let before = self.tables.end();
        let connection = connect(master).await?;
        let reply = ask(&connection, request::HA_STATUS).await?;
        if reply.code == response::REQUEST_CODE_NOT_SUPPORTED {
            let body = fetch(&connection, request::GET_BROKER_RUNTIME_INFO).await?;
            let table = KvTable::parse(&body).map_err(|error| error.to_string())?;
            let end = table.table.get("commitLogMaxOffset");
            let end = end.and_then(|end| end.parse().ok()).unwrap_or(-1);
            return follows.check(end, before);
        }
        let body = told(reply)?;
        let said = HaStatus::parse(&body).map_err(|error| error.to_string())?;
        let reached = follows.check(said.max_offset, before);
        let follows = reached.as_ref().map_or(Follows::No, |()| follows);
        let follows = self
            .lacks
            .look(follows, (said.max_offset, self.tables.end()));
        let (known, file, master) = (
            self.known.clone(),
            self.known_file.share(),
            master.to_owned(),
        );
        blocking(move || {
            let noted = known.note(&file, (&master, &said), (follows, before));
            noted.map_err(|error| error.to_string())
        })
        .await?;
        reached
    }

    async fn copy_topics(&mut self, master: &str) -> Result<(), String> {
        // Who closed the second port has the first one open.
        let connection = match connect_vip(master).await {
            Some(connection) => connection,
            None => connect(master).await?,
        };
        let body = fetch(&connection, request::GET_ALL_TOPIC_CONFIG).await?;
        let (tables, last) = (self.tables.clone(), self.taken.topics);
        let taken = blocking(move || tables.take_topics(&body, last)).await?;
        self.taken.topics = Some(taken);
        Ok(())
    }

    async fn copy_groups(&mut self, master: &str) -> Result<(), String> {
        let code = request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG;
        let body = fetch(&connect(master).await?, code).await?;
        let (tables, last) = (self.tables.clone(), self.taken.groups);
        let taken = blocking(move || tables.take_groups(&body, last)).await?;
        self.taken.groups = Some(taken);
        Ok(())
    }

    async fn copy_delay(&self, master: &str) -> Result<(), String> {
        let body = fetch(&connect(master).await?, request::GET_ALL_DELAY_OFFSET).await?;
        let tables = self.tables.clone();
        blocking(move || {
            let offsets = copy::delay(&body).map_err(|error| error.to_string())?;
            tables
                .delay
                .adopt(offsets)
                .map_err(|error| error.to_string())
        })
        .await
    }

    async fn copy_offsets(&mut self, master: &str) -> Result<(), String> {
        let connection = connect(master).await?;
        let seen = self.seen.table.clone();
        let (mut told, push) = self.take_offsets(&connection, &seen).await?;
        if push.is_empty() {
            return Ok(());
        }
        let count = push.len();
        push_offsets(&connection, &mut told, push).await?;
        tracing::info!(
            master,
            count,
            "offsets committed here are told to the master"
        );
        // It is the same process still: what is less now than what it took was set there on purpose. Until it says itself
        // that it has them, on disk, they do not count as seen: it may be killed before it writes them.
        self.take_offsets(&connection, &told).await.map(drop)
    }

    /// Asks the master where its groups are, and takes over what counts more than what is here. What the master has now, and
    /// what it should be told.
    async fn take_offsets(
        &mut self,
        connection: &Connection,
        seen: &merge::Table,
    ) -> Result<(merge::Table, Vec<(Place, i64)>), String> {
        let body = fetch(connection, request::GET_ALL_CONSUMER_OFFSET).await?;
        let there = copy::offsets(&body).map_err(|error| error.to_string())?;
        let here = merge::clean(self.tables.offsets.wire_table().offset_table);
        let plan = merge::plan(seen, &here, &there, |of| self.tables.have(of));
        // Before anything is adopted: a stop in between must not make the master's numbers look like commits of ours.
        self.note_seen(there.clone()).await?;
        let tables = self.tables.clone();
        let adopt = plan.adopt;
        blocking(move || tables.adopt(&adopt)).await?;
        Ok((there, plan.push))
    }

    async fn note_seen(&mut self, table: merge::Table) -> Result<(), String> {
        if self.seen.saved && self.seen.table == table {
            return Ok(());
        }
        let file = self.seen.file.clone();
        let text = ConsumerOffsets {
            offset_table: table.clone(),
        };
        blocking(move || {
            file.replace(&text.encode_pretty())
                .map_err(|error| error.to_string())
        })
        .await?;
        self.seen.table = table;
        self.seen.saved = true;
        Ok(())
    }
}

impl Tables {
    /// Where the log ends, as it is said.
    fn end(&self) -> i64 {
        i64::try_from(self.store.max_offset().0).unwrap_or(i64::MAX)
    }

    /// Whether the topic and the group of a `topic@group` are there.
    fn have(&self, of: &str) -> bool {
        of.split_once('@').is_some_and(|(topic, group)| {
            self.topics.get(topic).is_some() && self.groups.get(group).is_some()
        })
    }

    /// Takes the topics over, unless they are behind those that were taken over last and some are missing. Their version.
    fn take_topics(&self, body: &[u8], last: Option<DataVersion>) -> Result<DataVersion, String> {
        let before = self.topics.all();
        let table = match copy::topics(body, before.version).map_err(|error| error.to_string())? {
            Verdict::Same => return Ok(before.version),
            Verdict::Replace(table) => table,
        };
        let version = table.data_version;
        let names = || before.entries.keys().map(|name| &**name);
        let ours = names().filter(|topic| !self.topics.is_system(topic));
        let has = |topic: &str| table.topic_config_table.contains_key(topic);
        copy::is_no_loss(last, version, ours.filter(|topic| !has(topic)))?;
        let gone = copy::vanished(names(), before.version, &table);
        tracing::info!(
            topics = table.topic_config_table.len(),
            ?gone,
            "the master's topics are taken over"
        );
        self.topics
            .replace(table)
            .map_err(|error| error.to_string())?;
        for topic in gone.iter().filter(|topic| !self.topics.is_system(topic)) {
            self.store
                .delete_topic_if(topic, || self.topics.get(topic).is_none())
                .map_err(|error| format!("queues of {topic}: {error}"))?;
            self.stats.topic_deleted(topic);
        }
        Ok(version)
    }

    /// The same of the groups.
    fn take_groups(&self, body: &[u8], last: Option<DataVersion>) -> Result<DataVersion, String> {
        let before = self.groups.all();
        let table = match copy::groups(body, before.version).map_err(|error| error.to_string())? {
            Verdict::Same => return Ok(before.version),
            Verdict::Replace(table) => table,
        };
        let version = table.data_version;
        let ours = before.entries.keys().map(|name| &**name);
        let has = |group: &str| table.subscription_group_table.contains_key(group);
        copy::is_no_loss(last, version, ours.filter(|group| !has(group)))?;
        let groups = table.subscription_group_table.len();
        tracing::info!(groups, "the master's subscription groups are taken over");
        self.groups
            .replace(table)
            .map_err(|error| error.to_string())?;
        Ok(version)
    }

    fn adopt(&self, adoptions: &[Adoption]) -> Result<(), String> {
        for Adoption { place, from, to } in adoptions {
            let (Some((topic, group)), Ok(queue)) =
                (place.of.split_once('@'), u32::try_from(place.queue))
            else {
                continue;
            };
            // A group that commits here at this moment is looked at in the next round.
            self.offsets
                .exchange(
                    (group, topic, QueueId(queue)),
                    position(*from),
                    position(*to),
                )
                .map_err(|error| format!("{}: {error}", place.of))?;
        }
        Ok(())
    }
}

/// Tells the master what groups committed here; what it takes is noted in `told`, which is what it said it has.
async fn push_offsets(
    connection: &Connection,
    told: &mut merge::Table,
    push: Vec<(Place, i64)>,
) -> Result<(), String> {
    for (place, offset) in push.into_iter().take(PUSHES_MAX) {
        let Some((topic, group)) = place.of.split_once('@') else {
            continue;
        };
        let header = UpdateConsumerOffset {
            consumer_group: group,
            topic,
            queue_id: place.queue,
            commit_offset: offset,
            broker_name: None,
        };
        let queues = told.get(&place.of);
        let before = queues.and_then(|queues| queues.get(&place.queue));
        let before = before.map(i64::to_string).unwrap_or_default();
        let fields = |fields: &mut FieldWriter<'_>| {
            header.encode(fields);
            fields.text(SEEN_OFFSET, &before);
        };
        let code = request::UPDATE_CONSUMER_OFFSET;
        let reply = connection
            .call(code, fields, [], TIMEOUT)
            .await
            .map_err(|error| format!("{}: {error}", place.of))?;
        if reply.code != response::SUCCESS {
            let remark = reply.remark.unwrap_or_default();
            return Err(format!("{}: answer {} {remark}", place.of, reply.code));
        }
        if reply.fields.get(SEEN_OFFSET).is_none() {
            told.entry(place.of)
                .or_default()
                .insert(place.queue, offset);
        }
    }
    Ok(())
}

fn position(offset: Option<i64>) -> Option<QueueOffset> {
    offset
        .and_then(|offset| u64::try_from(offset).ok())
        .map(QueueOffset)
}

async fn connect(address: &str) -> Result<Connection, String> {
    let options = Options {
        connect_timeout: TIMEOUT,
        frame_bytes_max: FRAME_BYTES_MAX,
        ..Options::default()
    };
    Connection::connect(address, &options)
        .await
        .map_err(|error| format!("cannot connect: {error}"))
}

async fn connect_vip(master: &str) -> Option<Connection> {
    connect(&copy::vip(master)?).await.ok()
}

async fn fetch(connection: &Connection, code: i32) -> Result<Bytes, String> {
    told(ask(connection, code).await?)
}

async fn ask(connection: &Connection, code: i32) -> Result<Reply, String> {
    let reply = connection.call(code, |_| {}, [], TIMEOUT).await;
    reply.map_err(|error| error.to_string())
}

fn told(reply: Reply) -> Result<Bytes, String> {
    if reply.code == response::SUCCESS {
        return Ok(reply.body);
    }
    let remark = reply.remark.unwrap_or_default();
    Err(format!("answer {} {remark}", reply.code))
}

/// Runs what writes a file where that is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(format!("it ended badly: {error}")))
}
