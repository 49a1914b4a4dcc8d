//! What this broker is after promotions, kept in its store: reads `gantry.epoch` at the start, replaces it durably, and
//! sees to it that nothing is written any more by a master that was replaced.
//!
//! What follows from what is decided in [`gantry_replication::Seat`]. News come from whoever has heard of a promotion: name
//! servers, slaves that ask for a link, the tool. A broker whose part changes starts again in this process
//! ([`Seats::changed`]); what others must be able to rely on is on disk before that.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gantry_disk::{Disk, replace};
use gantry_message::{Epoch, LogOffset};
use gantry_replication::{Copies, FollowView, Part, Seat, SeatError};
use gantry_service::{Failure, events};
use gantry_store::{Store, Watermark};
use tokio::sync::watch;

use crate::config::{BrokerConfig, BrokerRole};

/// The file, in the store's folder.
pub const FILE: &str = "gantry.epoch";
/// Why a drained broker takes no messages.
pub const READ_ONLY: &str = "this broker is read only: mqadmin setReadOnly, or readOnly=true in its configuration, drains it";
/// Why a master takes no messages while its place is given away.
const HELD: &str = "this master holds on for a promotion (mqadmin promote), at most for the time that was asked for";
/// Nobody holds a master for longer.
pub const HOLD_MAX: Duration = Duration::from_secs(600);

/// The seat of this broker.
pub struct Seats {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// The broker's name; a file of another one is not ours.
    name: String,
    /// What the configuration makes of this broker.
    configured: Part,
    /// Held from the decision on a change until it is on disk.
    changing: Mutex<()>,
    /// Nothing changes any more: see [`Seats::close`].
    is_over: AtomicBool,
    // Invariant: what is here is on disk, or follows from the configuration alone.
    seat: RwLock<Seat>,
    /// Set before the file is, so that nothing is stored while the disk takes its time.
    is_fenced: AtomicBool,
    /// `readOnly`
    is_read_only: AtomicBool,
    /// Counts the holds; the latest one that is not over.
    held: Mutex<(u64, Option<u64>)>,
    store: OnceLock<Arc<Store>>,
    /// Of a slave.
    follower: OnceLock<FollowView>,
    changed: watch::Sender<bool>,
    news: watch::Sender<Epoch>,
    /// Grows with each question whether this slave could be promoted.
    candidacies: Watermark,
}

/// Why a seat did not change.
#[derive(Debug, thiserror::Error)]
pub enum SeatFault {
    /// It must not.
    #[error(transparent)]
    Refused(#[from] SeatError),
    /// It is not what whoever asked has seen.
    #[error(
        "this broker is {part} at epoch {epoch} with a log up to {end} by now: somebody else changes who is master of its name"
    )]
    Changed {
        /// What it is.
        part: &'static str,
        /// Since when.
        epoch: Epoch,
        /// Where its log ends.
        end: LogOffset,
    },
    /// It should, and the disk does not take it.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        error: io::Error,
    },
    /// It ends, and what it would be is not looked at any more.
    #[error("this broker is stopping or starts again: ask again")]
    Over,
}

/// What whoever asks has seen of a broker: it changes only if that is so still.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// The newest promotion that it knew of.
    pub epoch: Option<Epoch>,
    /// Whether it was a master.
    pub is_master: Option<bool>,
    /// Where its log ended.
    pub end: Option<LogOffset>,
}

impl Seats {
    /// Reads the file of the store in `root`, for a broker of that name that is `configured` so. Blocks.
    pub fn load(
        disk: Arc<dyn Disk>,
        root: &Path,
        (name, configured): (&str, Part),
    ) -> Result<Arc<Self>, Failure> {
        let path = root.join(FILE);
        let bytes = replace::read(&*disk, &path)
            .map_err(|error| Failure::caused(format!("{}: {error}", path.display()), &error))?;
        let seat = match bytes.as_deref().map(Seat::decode) {
            None => Seat::configured(configured),
            Some(Some((saved, of))) if of == name.escape_default().to_string() => {
                Seat::at_start(saved, configured)
            }
            Some(Some((_, of))) => {
                return Err(Failure::other(format!(
                    "{} is of the broker {of}, this one is {name}: it came with another store. If this store is {name}'s, \
                     move the file away",
                    path.display()
                )));
            }
            Some(None) => {
                return Err(Failure::other(format!(
                    "{} is damaged: it says who is master since the last promotion. If the others of this name agree \
                     (mqadmin haStatus) that this broker is what its configuration says, move the file away",
                    path.display()
                )));
            }
        };
        if seat.part != configured {
            tracing::warn!(
                epoch = %seat.epoch,
                by = seat.by,
                "the configuration makes this broker {}; it is {} since promotion {}, as {} says",
                configured.name(),
                seat.part.name(),
                seat.epoch,
                path.display()
            );
        }
        let is_fenced = AtomicBool::new(seat.part == Part::Fenced);
        let news = watch::Sender::new(seat.epoch);
        Ok(Arc::new(Self {
            disk,
            path,
            name: name.to_owned(),
            configured,
            changing: Mutex::default(),
            is_over: AtomicBool::new(false),
            seat: RwLock::new(seat),
            is_fenced,
            is_read_only: AtomicBool::new(false),
            held: Mutex::default(),
            store: OnceLock::new(),
            follower: OnceLock::new(),
            changed: watch::Sender::new(false),
            news,
            candidacies: Watermark::default(),
        }))
    }

    /// The store that a fenced master must not write to.
    pub fn guard(&self, store: &Arc<Store>) {
        // Set once, by the start.
        let _ = self.store.set(store.clone());
        self.seal();
    }

    /// Takes no messages, or takes them again, as `readOnly` says. Whether that is a change.
    pub fn drain(&self, read_only: bool) -> bool {
        let before = self.is_read_only.swap(read_only, Ordering::AcqRel);
        self.seal();
        before != read_only
    }

    /// Takes no messages for so long, or takes them again at once. Returns where the log ends. Blocks, on a thread of the
    /// runtime that is to let go.
    pub fn hold(self: &Arc<Self>, time: Duration) -> LogOffset {
        if time.is_zero() {
            self.let_go();
        } else {
            let (seats, hold) = (Arc::downgrade(self), self.hold_on());
            tokio::spawn(async move {
                tokio::time::sleep(time.min(HOLD_MAX)).await;
                if let Some(seats) = seats.upgrade() {
                    seats.release(hold);
                }
            });
        }
        self.at_rest()
    }

    /// Takes no messages until [`Seats::release`] of the number that is returned, or until a later hold is over.
    pub fn hold_on(&self) -> u64 {
        let hold = {
            let mut held = lock(&self.held);
            held.0 += 1;
            held.1 = Some(held.0);
            held.0
        };
        self.seal();
        hold
    }

    /// Nobody holds this master any more.
    pub fn let_go(&self) {
        lock(&self.held).1 = None;
        self.seal();
    }

    /// Where the log ends, when nothing is under way any more that began before. Blocks.
    pub fn at_rest(&self) -> LogOffset {
        self.settle();
        self.end()
    }

    /// The time of a hold is over; a later one goes on.
    pub fn release(&self, hold: u64) {
        let mut held = lock(&self.held);
        let is_latest = held.1 == Some(hold);
        if is_latest {
            held.1 = None;
        }
        drop(held);
        if is_latest {
            tracing::warn!("nobody has taken this master's place in time: it takes messages again");
            self.seal();
        }
    }

    /// The follower that must leave a master that was replaced.
    pub fn lead(&self, follower: FollowView) {
        // Set once, by the start.
        let _ = self.follower.set(follower);
    }

    /// As it is now.
    pub fn now(&self) -> Seat {
        self.seat
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The newest promotion that is known.
    pub fn epoch(&self) -> Epoch {
        self.now().epoch
    }

    /// The id that the configuration gives a slave; 0 if it makes this broker a master.
    pub fn configured_id(&self) -> u64 {
        match self.configured {
            Part::Slave(id) => id,
            Part::Master(_) | Part::Fenced => 0,
        }
    }

    /// Why nobody gets the log here; nothing: this is a master.
    pub fn why_no_master(&self) -> Option<String> {
        match self.now().part {
            Part::Master(_) if !self.is_fenced() => None,
            Part::Slave(id) => Some(format!(
                "this broker is slave {id}; a slave follows the master of its name"
            )),
            Part::Master(_) | Part::Fenced => self.why_fenced(),
        }
    }

    /// Whether a slave was told to leave its master, and has no other one yet.
    pub fn is_misled(&self) -> bool {
        self.follower.get().is_some_and(FollowView::is_misled)
    }

    /// Whether this is a master that was replaced.
    pub fn is_fenced(&self) -> bool {
        self.is_fenced.load(Ordering::Acquire)
    }

    /// Why a fenced master takes no messages.
    pub fn why_fenced(&self) -> Option<String> {
        self.is_fenced().then(|| why(&self.now()))
    }

    /// Why topics and groups do not change now: what changes while another broker takes this master's place would be lost.
    pub fn why_closed(&self) -> Option<String> {
        let is_held = lock(&self.held).1.is_some();
        self.why_fenced()
            .or_else(|| is_held.then(|| HELD.to_owned()))
    }

    /// Resolves when the broker has to start again in another part.
    pub fn changed(&self) -> impl Future<Output = ()> + use<> {
        let mut changed = self.changed.subscribe();
        async move {
            if changed.wait_for(|changed| *changed).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// For who waits for another promotion. Whoever hears of one here finds [`Seats::is_misled`] as it is after it.
    pub fn news(&self) -> watch::Receiver<Epoch> {
        self.news.subscribe()
    }

    /// For who makes a slave ready to be promoted.
    pub fn candidacies(&self) -> &Watermark {
        &self.candidacies
    }

    /// A slave has found a master of that epoch, and is about to follow it: whether it may. What it hears by that is on disk
    /// when it returns. Blocks.
    pub fn follow(&self, epoch: Epoch, by: &str) -> Result<(), SeatFault> {
        self.hear(epoch, by)?;
        let _turn = lock(&self.changing);
        // Somebody may have told of another one since.
        let now = self.now();
        now.may_follow(epoch)?;
        // What it stores from now on is not what it had as the master.
        match now.met() {
            Some(next) => self.write(next),
            None => Ok(()),
        }
    }

    /// Somebody knows of this promotion. When it returns, that is on disk if it is news, a master writes nothing any more,
    /// and a slave tells nothing more to a master before it. Blocks.
    pub fn hear(&self, epoch: Epoch, by: &str) -> Result<(), SeatFault> {
        if epoch <= self.epoch() {
            return Ok(());
        }
        let _turn = lock(&self.changing);
        let before = self.now();
        before.believe(epoch)?;
        let Some(next) = before.hear(epoch, by) else {
            return Ok(());
        };
        if before.is_master() {
            tracing::error!(
                message_id = events::FENCED,
                %epoch,
                by,
                "another broker of this name was promoted: this master takes no messages any more; mqadmin rejoin makes \
                 it a slave"
            );
            // There is a newer one, whatever this disk says.
            self.is_fenced.store(true, Ordering::Release);
            self.seal();
            self.settle();
        } else {
            tracing::warn!(%epoch, by, "a broker of this name was promoted; no master before it is followed any more");
        }
        self.write(next)?;
        self.obey(epoch);
        Ok(())
    }

    /// As [`Seats::hear`], of a promotion that is to be: only if this broker is as whoever asks has seen it, and if it cannot
    /// note it, it stays what it is. Blocks.
    pub fn agree(&self, epoch: Epoch, seen: Seen, by: &str) -> Result<Seat, SeatFault> {
        let _turn = lock(&self.changing);
        let before = self.now();
        // Asked again: whoever asked did not hear the answer.
        if before.epoch == epoch && !before.is_master() {
            return Ok(before);
        }
        before.believe(epoch)?;
        let Some(next) = before.agree(epoch, by) else {
            return Err(SeatError::Old {
                asked: epoch,
                known: before.epoch,
            }
            .into());
        };
        let is_as_seen = seen.epoch.is_none_or(|epoch| epoch == before.epoch)
            && seen
                .is_master
                .is_none_or(|master| master == before.is_master());
        if !is_as_seen {
            return Err(self.changed_since(&before));
        }
        if before.is_master() {
            // It may be fenced already, by news that its disk did not take: those stay.
            let was_fenced = self.is_fenced.swap(true, Ordering::AcqRel);
            self.seal();
            self.settle();
            let noted = match seen.end {
                Some(end) if end != self.end() => Err(self.changed_since(&before)),
                _ => self.write(next.clone()),
            };
            if let Err(fault) = noted {
                self.is_fenced.store(was_fenced, Ordering::Release);
                self.seal();
                return Err(fault);
            }
            tracing::warn!(message_id = events::FENCED, %epoch, by, "this master gives its place away and takes no messages any more");
        } else {
            tracing::warn!(%epoch, by, "a broker of this name is being promoted; no master before it is followed any more");
            self.write(next.clone())?;
        }
        self.obey(epoch);
        Ok(next)
    }

    /// A slave, or a fenced master whose place nobody took, becomes the master: on disk when it returns, and so after the broker has started again. Blocks.
    pub fn promote(&self, epoch: Epoch, copies: Copies, by: &str) -> Result<Seat, SeatFault> {
        let _turn = lock(&self.changing);
        let before = self.now();
        // Asked again: whoever asked did not hear the answer.
        if before.epoch == epoch && before.part == Part::Master(copies) {
            return Ok(before);
        }
        before.believe(epoch)?;
        let next = before.promote(epoch, (copies, self.configured_id()), by)?;
        tracing::warn!(message_id = events::PROMOTED, %epoch, by, "promoted to {}", next.part.name());
        self.write(next.clone())?;
        // The old master is told of nothing that comes until the start.
        self.obey(epoch);
        Ok(next)
    }

    /// Whether [`Seats::promote`] would go through, as far as can be told: the file can be written, too. Blocks.
    pub fn could_promote(&self, epoch: Epoch, copies: Copies, by: &str) -> Result<Seat, SeatFault> {
        let _turn = lock(&self.changing);
        let before = self.now();
        before.believe(epoch)?;
        before.promote(epoch, (copies, self.configured_id()), by)?;
        let path = self.path.with_extension("epoch.try");
        let tried = replace::read(&*self.disk, &self.path)
            .and_then(|_| replace::file(&*self.disk, &path, &before.encode(&self.name)))
            .and_then(|()| self.disk.remove(&path));
        tried.map_err(|error| self.fault(error))?;
        self.candidacies.advance(self.candidacies.value() + 1);
        Ok(before)
    }

    /// A fenced master becomes a slave: on disk when it returns, and so after the broker has started again. Blocks.
    pub fn rejoin(&self, epoch: Epoch, id: u64, by: &str) -> Result<Seat, SeatFault> {
        let _turn = lock(&self.changing);
        let before = self.now();
        before.believe(epoch)?;
        let next = before.rejoin(epoch, id, by)?;
        if before == next {
            return Ok(next);
        }
        if before.is_master() {
            self.is_fenced.store(true, Ordering::Release);
            self.seal();
        }
        tracing::warn!(message_id = events::REJOINED, %epoch, id, by, "a slave from now on");
        self.write(next.clone())?;
        Ok(next)
    }

    /// Lets the store take messages, or none, for the first reason there is. One that is under way may still be stored:
    /// see [`Seats::settle`].
    fn seal(&self) {
        let Some(store) = self.store.get() else {
            return;
        };
        // The latest call decides, also when two come at once.
        let held = lock(&self.held);
        let why: Option<Arc<str>> = match self.why_fenced() {
            Some(why) => Some(why.into()),
            None if held.1.is_some() => Some(HELD.into()),
            None => (self.is_read_only.load(Ordering::Acquire)).then(|| READ_ONLY.into()),
        };
        store.seal(why);
    }

    /// Returns when nothing is under way that began before. Blocks.
    fn settle(&self) {
        if let Some(store) = self.store.get() {
            store.settle();
        }
    }

    fn obey(&self, epoch: Epoch) {
        if let Some(follower) = self.follower.get() {
            follower.obey(epoch);
        }
        self.news.send_replace(epoch);
    }

    fn end(&self) -> LogOffset {
        let end = self.store.get().map(|store| store.max_offset());
        end.unwrap_or_default()
    }

    fn changed_since(&self, seat: &Seat) -> SeatFault {
        SeatFault::Changed {
            part: seat.part.name(),
            epoch: seat.epoch,
            end: self.end(),
        }
    }

    fn fault(&self, error: io::Error) -> SeatFault {
        SeatFault::Io {
            path: self.path.clone(),
            error,
        }
    }

    /// When it returns, the file stays as it is: for whoever reads it next in this process. A request that the disk held up
    /// is waited for, or refused. Blocks.
    pub fn close(&self) {
        let _turn = lock(&self.changing);
        self.is_over.store(true, Ordering::Release);
    }

    fn write(&self, next: Seat) -> Result<(), SeatFault> {
        if self.is_over.load(Ordering::Acquire) {
            return Err(SeatFault::Over);
        }
        let written = replace::file(&*self.disk, &self.path, &next.encode(&self.name));
        written.map_err(|error| self.fault(error))?;
        let mut seat = self.seat.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *seat, next);
        let moved = before.part != seat.part;
        drop(seat);
        // A fenced master can say now since which promotion.
        self.seal();
        if moved {
            self.changed.send_replace(true);
        }
        Ok(())
    }
}

fn why(seat: &Seat) -> String {
    if seat.part != Part::Fenced {
        return "another broker of this name takes this master's place".to_owned();
    }
    let Seat { epoch, by, .. } = seat;
    format!(
        "this master was replaced by promotion {epoch} (told by {by}): mqadmin rejoin makes it a slave"
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a configuration makes of a broker.
pub fn configured(config: &BrokerConfig) -> Part {
    match config.store.broker_role {
        BrokerRole::AsyncMaster => Part::Master(Copies::Async),
        BrokerRole::SyncMaster => Part::Master(Copies::Sync),
        BrokerRole::Slave => Part::Slave(config.broker_id),
    }
}

/// Makes the configuration that of a broker in this part. A fenced master stays what it was, as far as it goes.
pub fn take(part: Part, config: &mut BrokerConfig) {
    let (role, id) = match part {
        Part::Master(Copies::Async) => (BrokerRole::AsyncMaster, 0),
        Part::Master(Copies::Sync) => (BrokerRole::SyncMaster, 0),
        Part::Slave(id) => (BrokerRole::Slave, id),
        Part::Fenced => return,
    };
    config.store.broker_role = role;
    config.broker_id = id;
}
