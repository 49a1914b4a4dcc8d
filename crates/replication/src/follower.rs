//! The slave's side in a running broker: one thread that keeps a link to the master and stores what comes.
//!
//! Where the master is, and whether its log is the one that ours is a copy of, is found out by whoever made the [`Follower`]
//! (a [`Plan`]); what bytes mean and what is stored decides [`Intake`]. This thread moves bytes,
//! waits, and says why nothing moves.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gantry_message::{Epoch, LogOffset};
use gantry_store::{CopyError, Cut, Store, Watermark};

use crate::intake::{Intake, IntakeError};
use crate::{HELLO, Patience, Refusal, Token, Wire};

/// As much is read from the socket at once.
const READ: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// So long it waits before it tries again, at first and at most.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What to do next, as found out on the master's main port.
#[derive(Debug)]
pub enum Plan {
    /// Connect to the master and go on from there.
    Follow {
        /// Its main port, for people.
        master: String,
        /// Its HA port.
        address: SocketAddr,
        /// Where to go on: our log's end; of an empty log, where it shall begin, or 0 to leave that to the master.
        from: LogOffset,
        /// From a master that is a Gantry.
        invitation: Option<Token>,
        /// The promotion that made it the master.
        epoch: Epoch,
    },
    /// Our log has to be cut. The follower ends.
    Cut(Misfit),
    /// There is nobody to follow, or nobody who may be followed, for this reason.
    Wait(String),
}

/// The end of our log is not the master's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// What has to be cut off, which needs a store that nobody uses.
    pub cut: Cut,
    /// The promotion that made it the master with whose log ours was compared: see [`crate::Seat::may_cut`].
    pub epoch: Epoch,
}

/// What a follower does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowState {
    /// It stores what the master sends.
    Following,
    /// It tries again; this is why it does not follow.
    Waiting(String),
    /// It ended.
    Ended,
}

/// What is known of a follower.
#[derive(Clone, Debug)]
pub struct FollowStatus {
    /// The master's main port, once one was found.
    pub master: Option<String>,
    /// What it does.
    pub state: FollowState,
    /// How the link's bytes are laid out.
    pub wire: Wire,
    /// When the master was heard last.
    pub heard: Option<Instant>,
    /// How often a link ended.
    pub ended_links: u64,
}

/// A slave's side.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// Shows what a follower does, for as long as one likes.
#[derive(Clone, Debug)]
pub struct FollowView(Arc<Shared>);

impl FollowView {
    /// What it does.
    #[must_use]
    pub fn status(&self) -> FollowStatus {
        self.0.lock().status.clone()
    }

    /// Whether the master that was followed last is one that must not be followed any more.
    #[must_use]
    pub fn is_misled(&self) -> bool {
        let state = self.0.lock();
        state.follows < state.obeys
    }

    /// Grows whenever it begins to follow a master.
    #[must_use]
    pub fn begun(&self) -> &Watermark {
        &self.0.begun
    }

    /// From now on no master is followed that a promotion before this one made: a link to one ends, and nothing more is
    /// told to it.
    pub fn obey(&self, epoch: Epoch) {
        let mut state = self.0.lock();
        state.obeys = state.obeys.max(epoch);
        if state.follows < state.obeys
            && let Some(socket) = &state.socket
        {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Advanced by the follower's thread.
    begun: Watermark,
}

#[derive(Debug)]
struct State {
    status: FollowStatus,
    socket: Option<TcpStream>,
    /// The promotion of the master at the other end of the socket.
    follows: Epoch,
    /// The oldest promotion whose master may be followed.
    obeys: Epoch,
    is_over: bool,
}

/// How a follower works.
#[derive(Clone, Copy, Debug)]
pub struct Following {
    /// How long the link may be quiet.
    pub patience: Patience,
    /// What is reported was synced before.
    pub syncs: bool,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Copy(#[from] CopyError),
    #[error("cannot connect to the master's HA port {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("the master closed the link")]
    Closed,
    #[error(
        "the master closed the link before it said anything: is this host registered under its name, or in its haPeers? Its log says why"
    )]
    TurnedAway,
    #[error("the master was replaced by promotion {0}")]
    Replaced(Epoch),
    #[error("this broker stops")]
    Stopping,
}

struct Link<'a> {
    store: &'a Store,
    shared: &'a Shared,
    socket: &'a TcpStream,
    intake: Intake,
}

impl From<IntakeError> for End {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Refused(refusal) => Self::Refused(refusal),
            IntakeError::Copy(error) => Self::Copy(error),
        }
    }
}

impl Follower {
    /// Starts the thread. `plan` is asked before each link and may take its time; `cut` is told when the follower ended
    /// because the log has to be cut.
    pub fn start(
        store: Arc<Store>,
        following: Following,
        plan: impl FnMut() -> Plan + Send + 'static,
        cut: impl FnOnce(Misfit) + Send + 'static,
    ) -> io::Result<Follower> {
        let status = FollowStatus {
            master: None,
            state: FollowState::Waiting("the master is not known yet".into()),
            wire: Wire::Plain,
            heard: None,
            ended_links: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                status,
                socket: None,
                follows: Epoch::NONE,
                obeys: Epoch::NONE,
                is_over: false,
            }),
            changed: Condvar::new(),
            begun: Watermark::default(),
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("ha-follow".into())
            .spawn(move || {
                let wanted = theirs.run(&store, following, plan);
                theirs.lock().status.state = FollowState::Ended;
                if let Some(wanted) = wanted {
                    cut(wanted);
                }
            })?;
        Ok(Follower { shared, thread })
    }

    /// What it does.
    #[must_use]
    pub fn status(&self) -> FollowStatus {
        self.shared.lock().status.clone()
    }

    /// To look at what it does later.
    #[must_use]
    pub fn view(&self) -> FollowView {
        FollowView(Arc::clone(&self.shared))
    }

    /// Ends the link, and the thread. What came is stored as far as it is whole.
    pub fn stop(self) {
        {
            let mut state = self.shared.lock();
            state.is_over = true;
            if let Some(socket) = &state.socket {
                // It may be closed already.
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        self.shared.changed.notify_all();
        // A thread that panicked has said so.
        let _ = self.thread.join();
    }
}

impl Shared {
    /// Until it is stopped, or the log has to be cut.
    fn run(
        &self,
        store: &Store,
        following: Following,
        mut plan: impl FnMut() -> Plan,
    ) -> Option<Misfit> {
        let (mut pause, mut trusted, mut doubted) = (PAUSE, None, None);
        while !self.lock().is_over {
            let before = store.max_offset();
            let end = match plan() {
                Plan::Cut(misfit) => return Some(misfit),
                Plan::Wait(reason) => {
                    self.wait_because(reason);
                    self.pause(PAUSE_MAX / 5);
                    continue;
                }
                Plan::Follow {
                    master,
                    address,
                    from,
                    invitation,
                    epoch,
                } => {
                    let mut state = self.lock();
                    state.status.master = Some(master);
                    state.follows = epoch;
                    drop(state);
                    self.follow(store, following, (address, from, invitation), trusted)
                }
            };
            if let End::Copy(CopyError::Checksum { at }) = &end {
                if doubted == Some(*at) {
                    tracing::error!(%at, "a record came twice with a body that its checksum does not fit: it is as the master has it, and is kept so");
                    trusted = Some(*at);
                }
                doubted = Some(*at);
            }
            if matches!(end, End::Stopping) {
                return None;
            }
            self.lock().status.ended_links += 1;
            self.wait_because(end.to_string());
            pause = if store.max_offset() == before {
                (pause * 2).min(PAUSE_MAX)
            } else {
                PAUSE
            };
            self.pause(pause);
        }
        None
    }

    fn follow(
        &self,
        store: &Store,
        following: Following,
        (address, from, invitation): (SocketAddr, LogOffset, Option<Token>),
        trusted: Option<LogOffset>,
    ) -> End {
        let socket = match connect(address, following.patience) {
            Ok(socket) => socket,
            Err(error) => return End::Connect(address, error),
        };
        match socket.try_clone() {
            Ok(clone) => {
                let mut state = self.lock();
                if state.is_over {
                    return End::Stopping;
                }
                if state.follows < state.obeys {
                    return End::Replaced(state.obeys);
                }
                state.socket = Some(clone);
            }
            Err(error) => return error.into(),
        }
        let wire = if invitation.is_some() {
            Wire::Checked
        } else {
            Wire::Plain
        };
        let mut link = Link {
            store,
            shared: self,
            socket: &socket,
            intake: Intake::new(store, following, (wire, from), trusted, Instant::now()),
        };
        let end = link
            .greet(invitation)
            .err()
            .unwrap_or_else(|| link.run(wire));
        let mut state = self.lock();
        state.socket = None;
        match end {
            _ if state.is_over => End::Stopping,
            _ if state.follows < state.obeys => End::Replaced(state.obeys),
            end => end,
        }
    }

    fn wait_because(&self, reason: String) {
        let mut state = self.lock();
        let waiting = FollowState::Waiting(reason);
        if state.status.state != waiting {
            if let FollowState::Waiting(reason) = &waiting {
                tracing::warn!(
                    master = state.status.master,
                    "not following the master: {reason}"
                );
            }
            state.status.state = waiting;
        }
    }

    fn pause(&self, pause: Duration) {
        let state = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(state, pause, |state| !state.is_over);
        drop(waited);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link<'_> {
    fn greet(&mut self, invitation: Option<Token>) -> Result<(), End> {
        if let Some(token) = invitation {
            let mut socket = self.socket;
            socket.write_all(&[&HELLO[..], token.bytes()].concat())?;
        }
        self.report()
    }

    fn run(&mut self, wire: Wire) -> End {
        let mut buffer = vec![0; READ];
        let mut is_heard = false;
        loop {
            match self.read(&mut buffer) {
                Ok(0) => {}
                Ok(len) => {
                    let taken = self.intake.take(self.store, &buffer[..len], Instant::now());
                    if let Err(end) = taken {
                        return end.into();
                    }
                    let mut state = self.shared.lock();
                    state.status.heard = Some(Instant::now());
                    if !is_heard {
                        is_heard = true;
                        state.status.wire = wire;
                        state.status.state = FollowState::Following;
                        let (master, from) = (&state.status.master, self.intake.stored());
                        tracing::info!(master, %from, wire = wire.name(), "following the master");
                        drop(state);
                        self.shared.begun.advance(self.shared.begun.value() + 1);
                    }
                }
                Err(End::Closed) if !is_heard => return End::TurnedAway,
                Err(end) => return end,
            }
            if let Err(end) = self.report() {
                return end;
            }
        }
    }

    /// Reads what there is; nothing if it is time for a report.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, End> {
        let now = Instant::now();
        let until = self.intake.wait(now)?;
        let wait = until.saturating_duration_since(now);
        self.socket
            .set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let mut socket = self.socket;
        match socket.read(buffer) {
            Ok(0) => Err(End::Closed),
            Ok(len) => Ok(len),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(0),
                ErrorKind::ConnectionReset => Err(End::Closed),
                _ => Err(error.into()),
            },
        }
    }

    fn report(&mut self) -> Result<(), End> {
        if let Some(report) = self.intake.report(Instant::now()) {
            let mut socket = self.socket;
            socket.write_all(report.bytes())?;
        }
        Ok(())
    }
}

fn connect(address: SocketAddr, patience: Patience) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(patience.silence))?;
    Ok(socket)
}
