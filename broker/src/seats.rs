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
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use gantry_disk::{Disk, replace};
use gantry_message::Epoch;
use gantry_replication::{Copies, FollowView, Part, Seat, SeatError};
use gantry_service::{Failure, events};
use gantry_store::Store;
use tokio::sync::watch;

use crate::config::{BrokerConfig, BrokerRole};

/// The file, in the store's folder.
pub const FILE: &str = "gantry.epoch";

/// The seat of this broker.
pub struct Seats {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Held from the decision on a change until it is on disk.
    changing: Mutex<()>,
    // Invariant: what is here is on disk, or follows from the configuration alone.
    seat: RwLock<Seat>,
    /// Set before the file is, so that nothing is stored while the disk takes its time.
    is_fenced: AtomicBool,
    store: OnceLock<Arc<Store>>,
    /// Of a slave.
    follower: OnceLock<FollowView>,
    changed: watch::Sender<bool>,
}

/// Why a seat did not change.
#[derive(Debug, thiserror::Error)]
pub enum SeatFault {
    /// It must not.
    #[error(transparent)]
    Refused(#[from] SeatError),
    /// It should, and the disk does not take it.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        error: io::Error,
    },
}

impl Seats {
    /// Reads the file of the store in `root`, for a broker that is `configured` so. Blocks.
    pub fn load(disk: Arc<dyn Disk>, root: &Path, configured: Part) -> Result<Arc<Self>, Failure> {
        let path = root.join(FILE);
        let bytes = replace::read(&*disk, &path)
            .map_err(|error| Failure::caused(format!("{}: {error}", path.display()), &error))?;
        let seat = match bytes.as_deref().map(Seat::decode) {
            None => Seat::configured(configured),
            Some(Some(saved)) => Seat::at_start(saved, configured),
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
        Ok(Arc::new(Self {
            disk,
            path,
            changing: Mutex::default(),
            seat: RwLock::new(seat),
            is_fenced,
            store: OnceLock::new(),
            follower: OnceLock::new(),
            changed: watch::Sender::new(false),
        }))
    }

    /// The store that a fenced master must not write to.
    pub fn guard(&self, store: &Arc<Store>) {
        // Set once, by the start.
        let _ = self.store.set(store.clone());
        if self.is_fenced() {
            self.seal(&self.now());
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

    /// Whether this is a master that was replaced.
    pub fn is_fenced(&self) -> bool {
        self.is_fenced.load(Ordering::Acquire)
    }

    /// Why a fenced master takes no messages.
    pub fn why_fenced(&self) -> Option<String> {
        self.is_fenced().then(|| why(&self.now()))
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

    /// Somebody knows of this promotion. When it returns, that is on disk if it is news, a master writes nothing any more,
    /// and a slave tells nothing more to a master before it. Blocks.
    pub fn hear(&self, epoch: Epoch, by: &str) -> Result<(), SeatFault> {
        if epoch <= self.epoch() {
            return Ok(());
        }
        let _turn = self.turn();
        let before = self.now();
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
            self.is_fenced.store(true, Ordering::Release);
            self.seal(&next);
        } else {
            tracing::warn!(%epoch, by, "a broker of this name was promoted; no master before it is followed any more");
        }
        self.write(next)?;
        if let Some(follower) = self.follower.get() {
            follower.obey(epoch);
        }
        Ok(())
    }

    /// A slave becomes the master: on disk when it returns, and so after the broker has started again. Blocks.
    pub fn promote(&self, epoch: Epoch, copies: Copies, by: &str) -> Result<Seat, SeatFault> {
        let _turn = self.turn();
        let before = self.now();
        // Asked again: whoever asked did not hear the answer.
        if before.epoch == epoch && before.part == Part::Master(copies) {
            return Ok(before);
        }
        let next = before.promote(epoch, copies, by)?;
        tracing::warn!(message_id = events::PROMOTED, %epoch, by, "promoted to {}", next.part.name());
        self.write(next.clone())?;
        Ok(next)
    }

    /// A fenced master becomes a slave: on disk when it returns, and so after the broker has started again. Blocks.
    pub fn rejoin(&self, epoch: Epoch, id: u64, by: &str) -> Result<Seat, SeatFault> {
        let _turn = self.turn();
        let before = self.now();
        let next = before.rejoin(epoch, id, by)?;
        if before.is_master() {
            self.is_fenced.store(true, Ordering::Release);
            self.seal(&next);
        }
        tracing::warn!(message_id = events::REJOINED, %epoch, id, by, "a slave from now on");
        self.write(next.clone())?;
        Ok(next)
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seal(&self, seat: &Seat) {
        if let Some(store) = self.store.get() {
            store.seal(Some(why(seat).into()));
            store.settle();
        }
    }

    fn write(&self, next: Seat) -> Result<(), SeatFault> {
        replace::file(&*self.disk, &self.path, &next.encode()).map_err(|error| SeatFault::Io {
            path: self.path.clone(),
            error,
        })?;
        let mut seat = self.seat.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *seat, next);
        let moved = before.part != seat.part;
        drop(seat);
        if moved {
            self.changed.send_replace(true);
        }
        Ok(())
    }
}

fn why(seat: &Seat) -> String {
    let Seat { epoch, by, .. } = seat;
    format!(
        "this master was replaced by promotion {epoch} (told by {by}): mqadmin rejoin makes it a slave"
    )
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
