//! What must be so, whatever the brokers believe: the log of the name as its present master has it, who has how much of
//! it, and what was promised to whom.
//!
//! Nothing here is asked by a broker. Each function that notes something also checks what must follow from it.

use std::collections::BTreeMap;

use gantry_message::{Epoch, LogOffset, QueueId, QueueOffset, RecordView};
use gantry_store::{Queue, Store};

use crate::{NODES, QUEUES, TOPIC};

/// What is wrong, in words and values.
#[derive(Clone, Debug)]
pub(crate) struct Violation(pub(crate) String);

pub(crate) type Checked<T = ()> = Result<T, Violation>;

/// Says what is wrong unless it is so.
macro_rules! must {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err($crate::truth::Violation(format!($($what)+)));
        }
    };
}
pub(crate) use must;

/// How a log came to be another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing may be lost.
    None,
    /// What was acknowledged without a copy may be lost: the master it was stored at is gone.
    NotCopied,
    /// The master was without power: what it had not synced may be gone, and slaves follow it.
    Power,
    /// Somebody was told that messages would be lost, and wanted that.
    Accepted,
}

/// An acknowledged message.
#[derive(Clone, Debug)]
struct Acked {
    id: u32,
    start: u64,
    end: u64,
    /// Its sender was promised copies.
    is_copied: bool,
    /// The slaves that had it at that moment and have not lost it since in a way that they may.
    holders: [bool; NODES],
}

/// Where in the log the message of a queue's offset is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    id: u32,
    end: u64,
}

/// How the copies that a node has were made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// Up to where its log is that of the name.
    pub(crate) agree: u64,
    /// Up to where it ever was, since the log of the name was another one.
    pub(crate) peak: u64,
    /// Up to where it was durably.
    pub(crate) durable: u64,
}

/// The truth about one name.
#[derive(Debug)]
pub(crate) struct Truth {
    /// Every byte of the log as its master has it.
    history: Vec<u8>,
    /// Whose log that is; nobody's when that one is lost.
    pub(crate) leader: Option<usize>,
    /// The promotion that made it so.
    pub(crate) epoch: Epoch,
    pub(crate) held: [Held; NODES],
    acked: Vec<Acked>,
    placed: BTreeMap<(u32, u64), Placed>,
    /// The newest promotion of each node's life as a master.
    masters: BTreeMap<Epoch, usize>,
    /// Offsets that the master has on disk, by group and queue.
    floor: BTreeMap<(String, i32), i64>,
    /// Offsets that somebody has on disk who will tell the master.
    promised: BTreeMap<(String, i32), i64>,
    /// There was another master before, or it lost all it had.
    pub(crate) has_moved: bool,
    /// Whoever promoted the present master accepted a loss.
    has_accepted: bool,
    pub(crate) copied: usize,
    pub(crate) excused: usize,
}

impl Truth {
    pub(crate) fn new() -> Self {
        Self {
            history: Vec::new(),
            leader: Some(0),
            epoch: Epoch::NONE,
            held: [Held::default(); NODES],
            acked: Vec::new(),
            placed: BTreeMap::new(),
            masters: BTreeMap::new(),
            floor: BTreeMap::new(),
            promised: BTreeMap::new(),
            has_moved: false,
            has_accepted: false,
            copied: 0,
            excused: 0,
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.history.len() as u64
    }

    /// A master has stored something.
    pub(crate) fn appended(&mut self, node: usize, store: &Store) -> Checked {
        if self.leader != Some(node) {
            return Ok(());
        }
        let from = self.end();
        must!(
            self.held[node].agree == from,
            "the master {node} appends, and agrees with itself up to {} of {from} only",
            self.held[node].agree
        );
        let bytes = log_bytes(store, from, store.max_offset().0)?;
        self.place(from, &bytes, store.segment_size())?;
        self.history.extend(bytes);
        let end = self.end();
        self.held[node].agree = end;
        self.held[node].peak = end;
        Ok(())
    }

    fn place(&mut self, from: u64, bytes: &[u8], segment_size: u64) -> Checked {
        let (mut at, to) = (from, from + bytes.len() as u64);
        while at < to {
            let Ok(view) = RecordView::parse(&bytes[index(at - from)..]) else {
                // The rest of a segment.
                at = (at / segment_size + 1) * segment_size;
                continue;
            };
            let key = (view.queue_id().0, view.queue_offset().0);
            let id = id_of(view.body());
            let end = view.log_offset().0 + view.len() as u64;
            let before = self.placed.insert(key, Placed { id, end });
            must!(
                before.is_none(),
                "queue {} offset {} was message {:?} and is message {id} now",
                key.0,
                key.1,
                before
            );
            at = end;
        }
        Ok(())
    }

    /// A slave has stored something that came over a link to a master that lives.
    pub(crate) fn copied(&mut self, (slave, from): (usize, usize), store: &Store) -> Checked {
        let (end, held) = (store.max_offset().0, self.held[slave]);
        if self.leader != Some(from) {
            return Ok(());
        }
        must!(
            end <= self.end(),
            "the log of {slave} ends at {end}, that of its master {from} at {}",
            self.end()
        );
        let start = held.agree.max(store.min_offset().0);
        if start < end {
            let bytes = log_bytes(store, start, end)?;
            if let Some(at) = self.difference(start, &bytes) {
                must!(
                    false,
                    "the log of {slave} is another one than that of its master {from} from {at} on (agreed up to {})",
                    held.agree
                );
            }
        }
        self.held[slave].agree = end.max(held.agree);
        self.held[slave].peak = self.held[slave].peak.max(end);
        self.synced(slave, store);
        Ok(())
    }

    /// A node has synced its log.
    pub(crate) fn synced(&mut self, node: usize, store: &Store) {
        let held = &mut self.held[node];
        held.durable = held.durable.max(store.flushed().value().min(held.agree));
    }

    /// A slave begins to follow: its log must be the beginning of the master's, all of it.
    pub(crate) fn follows(&mut self, (slave, master): (usize, usize), store: &Store) -> Checked {
        if self.leader == Some(master) {
            self.held[slave].agree = self.held[slave].agree.min(store.max_offset().0);
            self.held[slave].agree = self.common(store)?.max(store.min_offset().0);
        }
        self.copied((slave, master), store)
    }

    /// Up to where a log is the present one.
    pub(crate) fn common(&self, store: &Store) -> Checked<u64> {
        let (start, end) = (store.min_offset().0, store.max_offset().0.min(self.end()));
        if end <= start {
            return Ok(end);
        }
        let bytes = log_bytes(store, start, end)?;
        Ok(self.difference(start, &bytes).unwrap_or(end))
    }

    /// The first place at which bytes of a log that begin at `start` are not as in the present one.
    fn difference(&self, start: u64, bytes: &[u8]) -> Option<u64> {
        let ours = &self.history[index(start)..index(start) + bytes.len()];
        if ours == bytes {
            return None;
        }
        let at = ours
            .iter()
            .zip(bytes)
            .position(|(ours, theirs)| ours != theirs);
        at.map(|at| start + at as u64)
    }

    /// A store is open again. `durable` is what had to survive.
    pub(crate) fn reopened(&mut self, node: usize, store: &Store, durable: u64) -> Checked {
        let before = self.held[node].agree;
        let common = self.common(store)?;
        must!(
            durable.min(before) <= common,
            "{node} had {} of the log safely, and has {common} of it after its start (its log: {} to {})",
            durable.min(before),
            store.min_offset(),
            store.max_offset()
        );
        let held = &mut self.held[node];
        (held.agree, held.peak) = (common, held.peak.max(common));
        self.synced(node, store);
        if self.leader == Some(node) && (common < self.end() || self.end() < store.max_offset().0) {
            self.rebase(node, store, Loss::Power)?;
        }
        Ok(())
    }

    /// A slave's log was cut, as it wanted.
    pub(crate) fn cut(&mut self, node: usize, store: &Store) -> Checked {
        let (common, before) = (self.common(store)?, self.held[node].agree);
        must!(
            // The rest of a segment is no record.
            before < common + store.segment_size()
                || store.max_offset().0 == 0
                || self.leader.is_none(),
            "{node} cut its log at {common}, and it was that of the master up to {before}"
        );
        self.held[node].agree = self.held[node].agree.min(common);
        Ok(())
    }

    /// The machine of a node was off.
    pub(crate) fn power_cut(&mut self, node: usize, durable: u64) {
        self.held[node].agree = self.held[node].agree.min(durable);
        for acked in &mut self.acked {
            if durable < acked.end {
                acked.holders[node] = false;
            }
        }
    }

    /// All that a node had is gone.
    pub(crate) fn lost(&mut self, node: usize) -> Checked {
        self.held[node].agree = 0;
        for acked in &mut self.acked {
            acked.holders[node] = false;
        }
        if self.leader == Some(node) {
            self.leader = None;
            self.has_moved = true;
        }
        // What only this one had on disk is gone with it.
        self.promised.clone_from(&self.floor);
        self.survives()
    }

    /// The log of the name is that of this node from now on.
    pub(crate) fn promoted(&mut self, node: usize, store: &Store, loss: Loss) -> Checked {
        self.leader = Some(node);
        self.has_moved = true;
        self.has_accepted = loss == Loss::Accepted;
        self.rebase(node, store, loss)
    }

    fn rebase(&mut self, node: usize, store: &Store, loss: Loss) -> Checked {
        let common = self.common(store)?;
        let (min, end) = (store.min_offset().0, store.max_offset().0);
        let mut next = self.history[..index(min.min(self.end()))].to_vec();
        next.resize(index(min), 0);
        next.extend(log_bytes(store, min, end)?);
        let before = std::mem::replace(&mut self.history, next);
        let mut gone = Vec::new();
        let history = &self.history;
        self.acked.retain(|acked| {
            let range = index(acked.start)..index(acked.end);
            let stays = history.get(range.clone()) == before.get(range);
            if !stays {
                gone.push(acked.clone());
            }
            stays
        });
        for held in &mut self.held {
            held.agree = held.agree.min(common);
            held.peak = held.peak.min(common);
            held.durable = held.durable.min(common);
        }
        self.held[node] = Held {
            agree: end,
            peak: end,
            durable: self.held[node].durable,
        };
        // Whoever has another log than the present one has to give it up.
        for acked in &mut self.acked {
            for (held, holds) in self.held.iter().zip(&mut acked.holders) {
                *holds &= acked.end <= held.agree;
            }
            acked.holders[node] = true;
        }
        for Acked {
            id,
            end,
            is_copied,
            holders,
            ..
        } in gone
        {
            // What nobody has any more who had it may be gone; and what a master lost that came back as the master.
            let is_excused = match loss {
                Loss::Accepted => true,
                Loss::Power => !holders[node],
                Loss::None => holders.iter().all(|holds| !holds),
                Loss::NotCopied => !is_copied || holders.iter().all(|holds| !holds),
            };
            must!(
                is_excused,
                "message {id}, which ends at {end} and was acknowledged {}, is not in the log of the master {node}, which is as before up to {common} ({loss:?})",
                promise(is_copied)
            );
            self.excused += 1;
        }
        self.placed.clear();
        self.index(store)
    }

    fn index(&mut self, store: &Store) -> Checked {
        for queue in (0..QUEUES).filter_map(|queue| store.find_queue(TOPIC, QueueId(queue))) {
            for (offset, placed) in messages(store, &queue, queue.min())? {
                self.placed.insert((queue.id().0, offset), placed);
            }
        }
        Ok(())
    }

    /// A sender is told that its message is stored. `copies`: as many slaves were promised to have it, on their disks
    /// if `durably`.
    pub(crate) fn acked(
        &mut self,
        (node, store): (usize, &Store),
        (id, start, end): (u32, u64, u64),
        copies: Option<(usize, bool)>,
    ) -> Checked {
        if self.held[node].agree < end {
            // A slave that is promoted takes what comes from its old master until it starts again.
            self.held[node].agree = self.common(store)?;
        }
        let is_there = end <= self.held[node].agree;
        if !is_there && self.has_accepted && node != self.leader.unwrap_or(node) {
            // A master that is not fenced goes on with a slave that was not told, as the administrator was told.
            self.excused += 1;
            return Ok(());
        }
        if let Some((copies, durably)) = copies {
            must!(
                is_there,
                "message {id}, which ends at {end}, is acknowledged {} by {node}, whose log was given up from {} on",
                promise(true),
                self.held[node].agree
            );
            let has = |held: &Held| match durably {
                true => end <= held.durable,
                false => end <= held.peak,
            };
            let having = (0..NODES).filter(|&other| other != node && has(&self.held[other]));
            let having = having.count();
            must!(
                copies <= having,
                "message {id}, which ends at {end}, is acknowledged {} by {node}, and {having} slaves of {copies} have had it: {:?}",
                promise(true),
                self.held
            );
            self.copied += 1;
        }
        if !is_there {
            // Of a master that was replaced and has not heard of it; no copy was promised.
            return Ok(());
        }
        let holders = self.held.map(|held| end <= held.agree);
        self.acked.push(Acked {
            id,
            start,
            end,
            is_copied: copies.is_some(),
            holders,
        });
        Ok(())
    }

    /// What was promised to be copied is with somebody, if anybody of those who had it is left.
    pub(crate) fn survives(&self) -> Checked {
        let most = self.held.iter().map(|held| held.agree).max().unwrap_or(0);
        let missing = self.acked.iter().rev().find(|acked| {
            most < acked.end && acked.is_copied && acked.holders.iter().any(|holds| *holds)
        });
        must!(
            missing.is_none(),
            "a message that was acknowledged {} is nowhere: {missing:?}; {:?}",
            promise(true),
            self.held
        );
        Ok(())
    }

    /// What a consumer read of a queue must be what was stored there.
    pub(crate) fn read(
        &self,
        node: usize,
        store: &Store,
        queue: &Queue,
        from: QueueOffset,
    ) -> Checked {
        let agree = self.held[node].agree;
        for (offset, found) in messages(store, queue, from)? {
            if agree < found.end {
                continue;
            }
            let placed = self.placed.get(&(queue.id().0, offset));
            must!(
                placed == Some(&found),
                "queue {} offset {offset} is {found:?} at {node}, and {placed:?} was stored there",
                queue.id().0
            );
        }
        Ok(())
    }

    /// A master with this epoch takes messages.
    pub(crate) fn writes(&mut self, node: usize, epoch: Epoch) -> Checked {
        let holder = *self.masters.entry(epoch).or_insert(node);
        must!(
            holder == node,
            "{node} and {holder} both take messages as the master of epoch {epoch}"
        );
        Ok(())
    }

    /// A node has written its offsets to disk.
    pub(crate) fn offsets_written(&mut self, node: usize, table: &Offsets) {
        let is_master = self.leader == Some(node);
        if !is_master && self.has_moved {
            // What a master had that was replaced does not count any more, and goes with time.
            return;
        }
        for (key, offset) in table {
            let promised = self.promised.entry(key.clone()).or_default();
            *promised = (*promised).max(*offset);
            if is_master {
                let floor = self.floor.entry(key.clone()).or_default();
                *floor = (*floor).max(*offset);
            }
        }
    }

    /// Whose table counts now; what others had is theirs to tell.
    pub(crate) fn offsets_begin(&mut self) {
        self.floor.clear();
        self.promised.clear();
    }

    /// The master's offsets are not behind what it has on disk.
    pub(crate) fn offsets_hold(&self, node: usize, table: &Offsets) -> Checked {
        if self.leader != Some(node) {
            return Ok(());
        }
        not_behind("the master has on disk", &self.floor, table)
    }

    /// When all is well again, every offset that was on somebody's disk is with the master.
    pub(crate) fn offsets_arrived(&self, table: &Offsets) -> Checked {
        not_behind(
            "was committed at one of the brokers and on disk there",
            &self.promised,
            table,
        )
    }
}

/// By group and queue.
pub(crate) type Offsets = BTreeMap<(String, i32), i64>;

fn not_behind(what: &str, floor: &Offsets, table: &Offsets) -> Checked {
    for (key, offset) in floor {
        let has = table.get(key);
        must!(
            has.is_some_and(|has| offset <= has),
            "{key:?} is at {has:?} at the master, and {offset} {what}"
        );
    }
    Ok(())
}

fn promise(is_copied: bool) -> &'static str {
    if is_copied {
        "as synchronous"
    } else {
        "without a copy"
    }
}

fn messages(store: &Store, queue: &Queue, from: QueueOffset) -> Checked<Vec<(u64, Placed)>> {
    let mut all = Vec::new();
    let mut next = from.max(queue.min());
    while next < queue.max() {
        let found = store.read(queue, next, 32, &|_| true);
        must!(next < found.next, "a read does not move on: {found:?}");
        for slice in &found.slices {
            let mut rest = &slice[..];
            while !rest.is_empty() {
                let view = RecordView::parse(rest)
                    .map_err(|error| Violation(format!("a queue leads to no record: {error:?}")))?;
                let end = view.log_offset().0 + view.len() as u64;
                let id = id_of(view.body());
                all.push((view.queue_offset().0, Placed { id, end }));
                rest = &rest[view.len()..];
            }
        }
        next = found.next;
    }
    Ok(all)
}

pub(crate) fn log_bytes(store: &Store, from: u64, to: u64) -> Checked<Vec<u8>> {
    let mut bytes = Vec::with_capacity(index(to.saturating_sub(from)));
    while from + (bytes.len() as u64) < to {
        let at = from + bytes.len() as u64;
        let max = u32::try_from(to - at).unwrap_or(u32::MAX);
        let part = store.log_bytes(LogOffset(at), max);
        let part = part.map_err(|error| Violation(format!("the log at {at}: {error}")))?;
        let Some(part) = part.filter(|part| !part.is_empty()) else {
            return Err(Violation(format!(
                "the log has nothing at {at} of {from} to {to}"
            )));
        };
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

fn id_of(body: &[u8]) -> u32 {
    match body {
        [a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => u32::MAX,
    }
}

fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
