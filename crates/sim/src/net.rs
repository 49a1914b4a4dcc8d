//! What is between the ends: which directions carry anything, the links over which logs are shipped, requests.
//!
//! A link is a pair of byte streams that arrive in any pieces, late, or not at all. Bytes of an old link may arrive when
//! there is a newer one. A request is answered at once, or not: it did not arrive, its answer did not, or whom it was
//! for stands still and will look at it when it does not any more.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use gantry_broker::follow::compare::Theirs;
use gantry_broker::seats::Seen;
use gantry_broker::slave::merge::Table;
use gantry_message::{Epoch, LogOffset};
use gantry_mqadmin::promotion::Log;
use gantry_replication::{Copies, TOKEN_LEN};
use gantry_wire::bodies::{HaMaster, HaSlave};

use crate::truth::Loss;

/// Everybody who sends and receives: nodes, name servers, clients, the administrator.
pub(crate) const ENDS: usize = 8;
pub(crate) const NAMES: usize = 3;
pub(crate) const CLIENTS: usize = 5;
pub(crate) const TOOL: usize = 7;

/// What is asked of a broker.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Send {
        id: u32,
        queue: u32,
        size: usize,
    },
    Commit {
        group: String,
        queue: u32,
        offset: u64,
    },
    /// 46001
    HaLink {
        id: u64,
        epoch: Epoch,
    },
    /// 33
    View {
        life: u64,
        at: LogOffset,
    },
    /// 43
    Offsets,
    /// 15, of a slave.
    Push {
        group: String,
        queue: u32,
        seen: Option<u64>,
        offset: u64,
    },
    /// 46002
    Status,
    /// 46007: for so many milliseconds.
    Hold(u64),
    /// 46005
    Tell(Epoch),
    /// 46005, of a promotion that is to be.
    Agree(Epoch, Seen),
    /// 46004, which changes nothing.
    CouldPromote(Epoch, Copies),
    /// 46004
    Promote {
        epoch: Epoch,
        copies: Copies,
        min_end: u64,
        loss: Loss,
    },
    /// 46006
    Rejoin {
        epoch: Epoch,
        id: u64,
    },
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Done,
    Refused(String),
    /// Of a push: the master has something else meanwhile.
    Changed,
    Linked {
        life: u64,
        theirs: Theirs,
        made_up: Vec<LogOffset>,
        token: [u8; TOKEN_LEN],
        epoch: Epoch,
    },
    Viewed(Option<Bytes>),
    Offsets(Table),
    Status(Box<Status>),
    Ends(u64),
}

/// What a broker says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) id: u64,
    pub(crate) epoch: Epoch,
    pub(crate) is_master: bool,
    pub(crate) is_slave: bool,
    pub(crate) is_fenced: bool,
    pub(crate) gave_way: bool,
    pub(crate) copies: Copies,
    pub(crate) end: u64,
    /// Where its log begins, and the last record of it; -1: there is none.
    pub(crate) min: i64,
    pub(crate) last_record: i64,
    pub(crate) made_up: Vec<i64>,
    /// Of a master.
    pub(crate) slaves: Vec<HaSlave>,
    pub(crate) in_sync: u32,
    /// Of a slave: what its master said last, over restarts.
    pub(crate) known: Option<HaMaster>,
    /// Of a slave: its master, as it was told.
    pub(crate) master: Option<usize>,
    /// Of a slave whose link is alive: to whom, and how long ago something came.
    pub(crate) following: Option<(usize, u64)>,
    /// Of a slave: a master has sent something since it was started.
    pub(crate) has_heard: bool,
}

impl Status {
    pub(crate) fn log(&self) -> Log<'_> {
        Log {
            min: self.min,
            end: i64::try_from(self.end).unwrap_or(i64::MAX),
            last_record: self.last_record,
            made_up: &self.made_up,
        }
    }
}

/// A connection between a slave and a master.
#[derive(Debug)]
pub(crate) struct HaLink {
    pub(crate) slave: usize,
    pub(crate) slave_life: u64,
    pub(crate) master: usize,
    pub(crate) master_life: u64,
    pub(crate) to_master: VecDeque<u8>,
    pub(crate) to_slave: VecDeque<u8>,
    /// The master's process has it.
    pub(crate) is_accepted: bool,
    pub(crate) is_open_at_slave: bool,
    /// That the slave closed it arrives.
    pub(crate) is_close_heard: bool,
    pub(crate) is_open_at_master: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Net {
    /// From whom to whom nothing arrives, until then.
    pub(crate) blocked: [[u64; ENDS]; ENDS],
    pub(crate) links: BTreeMap<u32, HaLink>,
    next: u32,
}

impl Net {
    pub(crate) fn carries(&self, from: usize, to: usize, now_ms: u64) -> bool {
        self.blocked[from][to] <= now_ms
    }

    pub(crate) fn connect(
        &mut self,
        (slave, slave_life): (usize, u64),
        (master, master_life): (usize, u64),
    ) -> u32 {
        self.next += 1;
        let link = HaLink {
            slave,
            slave_life,
            master,
            master_life,
            to_master: VecDeque::new(),
            to_slave: VecDeque::new(),
            is_accepted: false,
            is_open_at_slave: true,
            is_close_heard: true,
            is_open_at_master: true,
        };
        self.links.insert(self.next, link);
        self.next
    }

    /// The ends of a process that died. Whoever is at the other end hears of it, if its machine lives to say so.
    pub(crate) fn died(&mut self, node: usize, life: u64, is_heard: bool) {
        for link in self.links.values_mut() {
            if (link.slave, link.slave_life) == (node, life) {
                link.is_open_at_slave = false;
                link.to_slave.clear();
                if !is_heard {
                    link.to_master.clear();
                }
            }
            if (link.master, link.master_life) == (node, life) {
                link.is_open_at_master = false;
                link.to_master.clear();
                if !is_heard {
                    link.to_slave.clear();
                }
            }
        }
        if !is_heard {
            // Nobody is told: the other end waits until it has heard nothing for too long.
            for link in self.links.values_mut() {
                let is_one = (link.slave, link.slave_life) == (node, life);
                let is_other = (link.master, link.master_life) == (node, life);
                link.is_open_at_slave |= is_one;
                link.is_open_at_master |= is_other;
            }
        }
    }
}
