//! The master's side of a broker: the links that were made to it, who of the slaves counts, and the sends that wait.
//!
//! What is decided is decided by [`Master`], [`Positions`], [`SlaveAcks`] and [`Waits`]. Here is what sockets and threads
//! do in a broker (`replication::links`, `shard::unsynced`).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gantry_broker::acks::{SlaveAcks, Slaves, Wanted};
use gantry_broker::config::StoreSettings;
use gantry_broker::shard::promise::{Progress, Replica, Seen, Waits};
use gantry_message::LogOffset;
use gantry_replication::{
    HELLO, Log, Master, Patience, Positions, REPORT_LEN, Refusal, SlaveKey, Step, TOKEN_LEN, Wire,
};
use gantry_store::Store;
use gantry_wire::bodies::HaSlave;

use crate::broken::Broken;

/// One link, as the master has it.
#[derive(Debug)]
pub(crate) struct Served {
    /// Its number in the network.
    pub(crate) link: u32,
    pub(crate) ip: IpAddr,
    /// The slave's id, if it was invited.
    pub(crate) id: Option<u64>,
    pub(crate) master: Master,
    /// What came of the greeting.
    greeting: Vec<u8>,
    is_greeted: bool,
    /// A position that was refused, where that is broken.
    believed: Option<LogOffset>,
}

/// What is known of the slaves together: `Links` without sockets.
#[derive(Debug)]
pub(crate) struct Counted {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    positions: Positions,
    wanted: usize,
    replicated: u64,
}

impl Counted {
    pub(crate) fn new(in_sync: u32) -> Self {
        Self {
            state: Mutex::new(State {
                positions: Positions::default(),
                wanted: usize::try_from(in_sync).unwrap_or(1).max(1),
                replicated: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slaves for Counted {
    fn near(&self, end: LogOffset, behind_max: u64) -> usize {
        self.lock().positions.near(end, behind_max)
    }

    fn is_near(&self, end: LogOffset, behind_max: u64) -> bool {
        let state = self.lock();
        state.wanted <= state.positions.near(end, behind_max)
    }

    fn is_hoped_for(&self, end: LogOffset, behind_max: u64) -> bool {
        let state = self.lock();
        state.wanted <= state.positions.connected()
            && end.0.saturating_sub(state.replicated) < behind_max
    }

    fn replicated(&self) -> u64 {
        self.lock().replicated
    }
}

/// A send that was stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    pub(crate) id: u32,
    pub(crate) client: usize,
    pub(crate) start: u64,
    pub(crate) waits: Waits,
}

/// An answer to a send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) stored: Stored,
    pub(crate) code: i32,
    /// It says that the slaves have the message.
    pub(crate) is_copied: bool,
}

/// All of it.
pub(crate) struct MasterSide {
    pub(crate) links: Vec<Served>,
    pub(crate) acks: SlaveAcks<Counted>,
    counted: Arc<Counted>,
    /// Who was invited, with the id.
    invited: Vec<([u8; TOKEN_LEN], IpAddr, u64)>,
    waiting: VecDeque<Stored>,
}

impl MasterSide {
    pub(crate) fn new(counted: Arc<Counted>, acks: SlaveAcks<Counted>) -> Self {
        Self {
            links: Vec::new(),
            acks,
            counted,
            invited: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Each link, as the status says it.
    pub(crate) fn slaves(&self) -> impl Iterator<Item = HaSlave> {
        self.links.iter().map(|served| {
            let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            let has_said = served.master.next().is_some();
            HaSlave {
                acknowledged: match has_said {
                    true => number(served.master.acknowledged().0),
                    false => -1,
                },
                id: served.id.map_or(-1, number),
                ..HaSlave::default()
            }
        })
    }

    pub(crate) fn invite(&mut self, ip: IpAddr, id: u64, token: [u8; TOKEN_LEN]) {
        self.invited.push((token, ip, id));
    }

    pub(crate) fn accept(&mut self, link: u32, ip: IpAddr, patience: Patience, now: Instant) {
        self.links.push(Served {
            link,
            ip,
            id: None,
            master: Master::new(patience, now),
            greeting: Vec::new(),
            is_greeted: false,
            believed: None,
        });
    }

    pub(crate) fn drop_link(&mut self, link: u32) {
        self.links.retain(|served| served.link != link);
    }

    /// Bytes came from a slave.
    pub(crate) fn hear(
        &mut self,
        link: u32,
        bytes: &[u8],
        store: &Store,
        (now, broken): (Instant, Option<Broken>),
    ) -> Result<(), String> {
        let Some(served) = self.links.iter_mut().find(|served| served.link == link) else {
            return Ok(());
        };
        let log = log_of(store);
        if served.is_greeted {
            served.received(bytes, &log, now, broken)?;
        } else {
            served.greeting.extend_from_slice(bytes);
            let greeting = &served.greeting;
            if greeting.len() < REPORT_LEN {
                return Ok(());
            }
            let taken = match greeting.starts_with(&HELLO) {
                false => 0,
                true if greeting.len() < HELLO.len() + TOKEN_LEN => return Ok(()),
                true => {
                    let token = &greeting[HELLO.len()..HELLO.len() + TOKEN_LEN];
                    let is_it = |one: &([u8; TOKEN_LEN], IpAddr, u64)| {
                        one.0 == *token && one.1 == served.ip
                    };
                    let at = self.invited.iter().position(is_it);
                    let at = at.ok_or_else(|| Refusal::NotInvited.to_string())?;
                    served.id = Some(self.invited.remove(at).2);
                    served.master.invited();
                    HELLO.len() + TOKEN_LEN
                }
            };
            served.is_greeted = true;
            let rest = served.greeting.split_off(taken);
            served.received(&rest, &log, now, broken)?;
        }
        self.advance(broken);
        Ok(())
    }

    fn advance(&self, broken: Option<Broken>) {
        let each = self.links.iter().map(|served| {
            let key: SlaveKey = match broken {
                // Each connection a slave of its own.
                Some(Broken::ConnectionsCount) => (served.ip, Some(u64::from(served.link))),
                _ => (served.ip, served.id),
            };
            let position = served.master.next().map(|_| served.master.acknowledged());
            (key, position.max(served.believed))
        });
        let mut state = self.counted.lock();
        state.positions = Positions::of(each);
        let reached = state.positions.reached_by(state.wanted).unwrap_or(0);
        state.replicated = state.replicated.max(reached);
    }

    /// What to send on a link now: the head and the bytes, as they travel.
    pub(crate) fn next_block(
        &mut self,
        link: u32,
        store: &Store,
        len_max: u32,
        now: Instant,
    ) -> Result<Option<Vec<u8>>, String> {
        let Some(served) = self.links.iter_mut().find(|served| served.link == link) else {
            return Ok(None);
        };
        let log = log_of(store);
        let bytes = match served.master.next() {
            None => bytes::Bytes::new(),
            Some(next) => match store
                .log_bytes(next, len_max)
                .map_err(|error| error.to_string())?
            {
                Some(bytes) => bytes,
                None if next < log.min => bytes::Bytes::new(),
                None => return Err(format!("the log has nothing at {next}")),
            },
        };
        let len = u32::try_from(bytes.len()).unwrap_or(len_max);
        match served
            .master
            .step(&log, len, now)
            .map_err(|error| error.to_string())?
        {
            Step::Wait(_) => Ok(None),
            Step::Send(head) => {
                served.master.sent(head, now);
                let bytes = &bytes[..usize::try_from(head.len).unwrap_or(0)];
                let head = head.encode(served.master.wire(), bytes);
                Ok(Some([head.bytes(), bytes].concat()))
            }
        }
    }

    /// Every link, and whether it is told apart by an invitation.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.links.iter().map(|served| served.link).collect()
    }

    /// A link is gone.
    pub(crate) fn recount(&self, broken: Option<Broken>) {
        self.advance(broken);
    }

    /// What a message that was stored waits for.
    pub(crate) fn stored(
        &mut self,
        (id, client): (u32, usize),
        (start, end): (LogOffset, LogOffset),
        (settings, is_sync_flush): (&StoreSettings, bool),
        now: Instant,
    ) {
        let after =
            |ms: u64| tokio::time::Instant::from_std(now + std::time::Duration::from_millis(ms));
        let copy = match self.acks.wanted(settings, end) {
            Wanted::Nothing => Replica::Unasked,
            Wanted::Missing => Replica::Missing,
            Wanted::Copy(patience) => Replica::By(tokio::time::Instant::from_std(now + patience)),
        };
        let waits = Waits {
            end,
            sync_by: is_sync_flush.then(|| after(settings.sync_flush_timeout)),
            copy,
        };
        let start = start.0;
        self.waiting.push_back(Stored {
            id,
            client,
            start,
            waits,
        });
    }

    /// What can be answered now.
    pub(crate) fn answers(
        &mut self,
        store: &Store,
        settings: &StoreSettings,
        (now, broken): (Instant, Option<Broken>),
    ) -> Vec<Answer> {
        use gantry_store::AppendError;
        let mut answers = Vec::new();
        let is_over = matches!(
            store.check_writable(),
            Err(AppendError::ShutDown | AppendError::Latched { .. })
        );
        let mut seen = Seen {
            flushed: store.flushed().value(),
            replicated: self.counted.replicated(),
        };
        match broken {
            Some(Broken::AnswersBeforeCopies) => seen.replicated = u64::MAX,
            Some(Broken::AnswersBeforeSync) => seen.flushed = u64::MAX,
            _ => {}
        }
        let progress = Progress {
            seen,
            excuses: self.acks.is_excused(settings),
            is_over,
            now: tokio::time::Instant::from_std(now),
        };
        while let Some((first, code)) = self
            .waiting
            .front()
            .and_then(|first| Some((*first, first.waits.code(&progress)?)))
        {
            self.waiting.pop_front();
            let is_excused = first.waits.is_excused(&progress);
            if is_excused {
                self.acks.excused(first.waits.end);
            }
            let is_copied = matches!(first.waits.copy, Replica::By(_))
                && !is_excused
                && code == gantry_wire::codes::response::SUCCESS;
            answers.push(Answer {
                stored: first,
                code,
                is_copied,
            });
        }
        answers
    }
}

impl Served {
    fn received(
        &mut self,
        bytes: &[u8],
        log: &Log,
        now: Instant,
        broken: Option<Broken>,
    ) -> Result<(), String> {
        match self.master.received(bytes, log, now) {
            Err(Refusal::BeyondEnd { position, .. } | Refusal::NotSent { position, .. })
                if broken == Some(Broken::BelievesAnyPosition) =>
            {
                self.believed = self.believed.max(Some(position));
                Ok(())
            }
            other => other.map_err(|error| error.to_string()),
        }
    }

    pub(crate) fn wire(&self) -> Wire {
        self.master.wire()
    }
}

fn log_of(store: &Store) -> Log {
    let (min, end) = (store.min_offset(), store.max_offset());
    Log {
        min,
        newest: store.segment_of(end),
        end,
    }
}
