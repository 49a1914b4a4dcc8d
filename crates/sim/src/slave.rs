//! The slave's side of a broker: how far it is with finding its master, with the link to it, and with its tables.
//!
//! What is decided is decided by [`compare`], [`Intake`] and `merge`; the steps between are those of `broker::follow` and
//! `broker::slave`, one at a time.

use std::collections::BTreeMap;

use gantry_broker::follow::compare::{Theirs, Verdict, compare};
use gantry_broker::slave::known::Lacks;
use gantry_broker::slave::merge::{Adoption, Place, Table};
use gantry_message::{Epoch, LogOffset};
use gantry_replication::{Intake, TOKEN_LEN};
use gantry_store::{Cut, Store};
use gantry_wire::bodies::HaMaster;

/// How far it is with its master's log.
pub(crate) enum Follow {
    /// It tries again then.
    Idle { until: u64 },
    /// A master was found; whether the logs are the same is asked record by record.
    Comparing(Compared),
    /// There is a link.
    Linked(Linked),
}

/// A master that was found.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    pub(crate) master: usize,
    pub(crate) life: u64,
    pub(crate) theirs: Theirs,
    pub(crate) made_up: Vec<LogOffset>,
    pub(crate) token: Option<[u8; TOKEN_LEN]>,
    pub(crate) epoch: Epoch,
    /// What the master said of each record that it was asked about.
    pub(crate) answers: BTreeMap<u64, bool>,
}

/// A link.
pub(crate) struct Linked {
    pub(crate) link: u32,
    pub(crate) master: usize,
    pub(crate) life: u64,
    pub(crate) epoch: Epoch,
    pub(crate) intake: Intake,
    /// When something came, if it did.
    pub(crate) heard_at: Option<u64>,
}

/// What comparing leads to.
#[derive(Clone, Debug)]
pub(crate) enum Compare {
    /// The master has to be asked about this record.
    Ask(LogOffset),
    /// Go on from there.
    GoOn(LogOffset),
    Cut(Cut),
    Strangers,
}

impl Compared {
    pub(crate) fn look(&self, store: &Store) -> Compare {
        let verdict = compare(store, self.theirs, &self.made_up, |at| {
            self.answers.get(&at.0).copied().ok_or(at)
        });
        let ours = store.max_offset();
        match verdict {
            Err(at) => Compare::Ask(at),
            Ok(Verdict::GoOn) => Compare::GoOn(match self.token {
                Some(_) if ours.0 == 0 => self.theirs.min,
                _ => ours,
            }),
            Ok(Verdict::CutAt(last)) => Compare::Cut(Cut {
                from: last.end,
                to: ours,
                last: Some((last.start, last.time)),
                why: "the master's log goes on otherwise".into(),
            }),
            Ok(Verdict::TooOld) => Compare::Cut(Cut {
                from: LogOffset(0),
                to: ours,
                last: None,
                why: "the master has deleted what comes next".into(),
            }),
            Ok(Verdict::BeginAnew) => Compare::Cut(Cut {
                from: LogOffset(0),
                to: ours,
                last: None,
                why: "the beginning of the log was lost".into(),
            }),
            Ok(Verdict::Strangers) => Compare::Strangers,
        }
    }
}

/// How far it is with its master's offsets.
pub(crate) enum Copying {
    Idle {
        until: u64,
    },
    /// What the master has is to be noted.
    Note(Taken),
    Adopt(Taken),
    Push(Taken),
}

/// What a master said, and what follows from it.
pub(crate) struct Taken {
    pub(crate) master: usize,
    /// It is asked again only by this life of its process.
    pub(crate) life: u64,
    /// What it has, as far as is known.
    pub(crate) there: Table,
    pub(crate) adopt: Vec<Adoption>,
    pub(crate) push: Vec<(Place, i64)>,
    /// It was told something, and is asked again whether it has it.
    pub(crate) has_told: bool,
}

/// All of it.
pub(crate) struct SlaveSide {
    pub(crate) id: u64,
    pub(crate) follow: Follow,
    pub(crate) trusted: Option<LogOffset>,
    pub(crate) doubted: Option<LogOffset>,
    pub(crate) copying: Copying,
    /// The master's offsets when it was asked last, and whether the file says so.
    pub(crate) seen: (Table, bool),
    pub(crate) known: Option<HaMaster>,
    /// What it may have acknowledged and lost.
    pub(crate) lacks: Lacks,
    /// A master has sent something.
    pub(crate) has_heard: bool,
    /// It has nothing in common with its master: its store has to be moved away.
    pub(crate) is_stranger: bool,
}

impl SlaveSide {
    pub(crate) fn new(
        id: u64,
        seen: (Table, bool),
        (known, lacks): (Option<HaMaster>, Lacks),
        now_ms: u64,
    ) -> Self {
        Self {
            id,
            follow: Follow::Idle { until: now_ms },
            trusted: None,
            doubted: None,
            copying: Copying::Idle {
                until: now_ms + 200,
            },
            seen,
            known,
            lacks,
            has_heard: false,
            is_stranger: false,
        }
    }
}
