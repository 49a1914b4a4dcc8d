//! The master's links to its slaves: sockets and threads around [`Master`], which decides everything.
//!
//! Each link has two threads. One listens and advances `replicated`; the other, from the slave's first report on, sends
//! and sleeps on the log's watermark.
//! They are threads because what a slave needs may have to come from the disk first, and slaves are few. Log bytes go
//! from the page cache to the socket without a copy of ours. Whom to trust is decided before a socket comes here.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gantry_message::LogOffset;
use gantry_store::{Store, Watermark};

use crate::lag::Lag;
use crate::{
    HELLO, Log, Master, Patience, Positions, REPORT_LEN, Refusal, SlaveKey, Step, TOKEN_LEN, Wire,
};

/// Apache's slave reads into 4 MiB; a block must fit with room to spare.
const BLOCK_MAX: u32 = 1 << 20;

/// A link takes two threads and a descriptor, and a master has few slaves.
const LINKS_MAX: usize = 64;
/// A slave that connects again while its old connection is not noticed to be dead needs two.
const LINKS_PER_ADDRESS_MAX: usize = 8;

/// An invitation is for a connection that comes at once.
const INVITED_FOR: Duration = Duration::from_secs(10);
/// More than so many are not open at once: the oldest goes.
const INVITATIONS_MAX: usize = 64;
/// So many ends of links are remembered for who asks.
const ENDED_MAX: usize = 32;

/// An invitation: who shows it is who was given it on the main port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token([u8; TOKEN_LEN]);

impl Token {
    /// Of random bytes, or as it came.
    #[must_use]
    pub fn new(bytes: [u8; TOKEN_LEN]) -> Self {
        Self(bytes)
    }

    /// As it travels.
    #[must_use]
    pub fn bytes(&self) -> &[u8; TOKEN_LEN] {
        &self.0
    }
}

/// Who was invited.
#[derive(Debug)]
struct Invitation {
    token: Token,
    address: IpAddr,
    /// The slave's id under the master's name.
    id: u64,
    until: Instant,
}

/// What is known of one slave.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// Where it connected from.
    pub slave: SocketAddr,
    /// Its id, if it came with an invitation.
    pub id: Option<u64>,
    /// How the link's bytes are laid out.
    pub wire: Wire,
    /// Up to where it has the log; `None`: it said nothing yet.
    pub acknowledged: Option<LogOffset>,
    /// Up to where the log was sent to it.
    pub sent: LogOffset,
    /// Bytes it lacks.
    pub behind_bytes: u64,
    /// For how long the log has been longer than what it has.
    pub behind: Duration,
    /// Why the link ended; `None`: it has not.
    pub ended: Option<String>,
    /// Since when it is as it is.
    pub since: Instant,
}

/// The links of one master.
#[derive(Debug)]
pub struct Links {
    store: Arc<Store>,
    patience: Patience,
    /// Up to where `wanted` slaves had the log at some time.
    replicated: Watermark,
    /// How many slaves must have a message, at least 1.
    wanted: AtomicUsize,
    /// Held while a watermark is advanced, so that it does not go back.
    open: Mutex<Vec<Arc<Link>>>,
    invitations: Mutex<VecDeque<Invitation>>,
    lag: Mutex<Lag>,
    /// The last links that ended, the newest last.
    ended: Mutex<VecDeque<LinkStatus>>,
    /// How many links ended, by [`End::reason`] in the order of [`End::REASONS`].
    ends: [AtomicU64; End::REASONS.len()],
    is_over: AtomicBool,
}

#[derive(Debug)]
struct Link {
    slave: SocketAddr,
    socket: TcpStream,
    since: Instant,
    /// The slave's id, if it was invited.
    id: OnceLock<u64>,
    master: Mutex<Master>,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Stranger(String),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("the slave closed it")]
    Closed,
    #[error("the log cannot be read: {0}")]
    Store(#[from] gantry_store::StoreError),
    #[error("the log has nothing at {0}: a file of it is missing")]
    Missing(LogOffset),
    #[error("this broker stops")]
    Stopping,
}

impl End {
    /// Every word that [`End::reason`] may say.
    const REASONS: [&'static str; 6] = [
        "stranger", "refused", "closed", "socket", "store", "stopping",
    ];

    /// One word for it.
    fn reason(&self) -> &'static str {
        match self {
            Self::Stranger(_) => "stranger",
            Self::Refused(_) => "refused",
            Self::Closed => "closed",
            Self::Socket(_) => "socket",
            Self::Store(_) | Self::Missing(_) => "store",
            Self::Stopping => "stopping",
        }
    }
}

impl Links {
    /// No links yet.
    #[must_use]
    pub fn new(store: Arc<Store>, patience: Patience) -> Arc<Self> {
        Arc::new(Self {
            store,
            patience,
            replicated: Watermark::new(0),
            wanted: AtomicUsize::new(1),
            open: Mutex::default(),
            invitations: Mutex::default(),
            lag: Mutex::default(),
            ended: Mutex::default(),
            ends: Default::default(),
            is_over: AtomicBool::new(false),
        })
    }

    /// Up to where as many slaves as must have a message have the log; what they had they keep having, so it never goes
    /// back.
    #[must_use]
    pub fn replicated(&self) -> &Watermark {
        &self.replicated
    }

    /// So many slaves must have a message from now on (`inSyncReplicas`). What counted before keeps counting.
    pub fn want(&self, slaves: usize) {
        self.wanted.store(slaves.max(1), Ordering::SeqCst);
        self.advance();
    }

    /// Whether as many slaves as must have a message have reported and are less than `behind_max` bytes behind `end`:
    /// only then is it worth waiting for them.
    #[must_use]
    pub fn is_near(&self, end: LogOffset, behind_max: u64) -> bool {
        self.near(end, behind_max) >= self.wanted.load(Ordering::SeqCst)
    }

    /// Java's `isSlaveOK`: whether as many slaves as must have a message are connected, whatever they have said, and the
    /// log is less than `behind_max` bytes longer than what that many had at some time. Unlike [`Links::is_near`] it
    /// does not ask whether those that had it are those that are connected.
    #[must_use]
    pub fn is_hoped_for(&self, end: LogOffset, behind_max: u64) -> bool {
        let wanted = self.wanted.load(Ordering::SeqCst);
        let is_connected = wanted <= positions(&self.lock()).connected();
        is_connected && end.0.saturating_sub(self.replicated.value()) < behind_max
    }

    /// How many slaves are less than `behind_max` bytes behind `end`.
    #[must_use]
    pub fn near(&self, end: LogOffset, behind_max: u64) -> usize {
        positions(&self.lock()).near(end, behind_max)
    }

    /// Invites the slave with that id at that address to a link with checksums; `random` must be that. Whom to trust is decided
    /// before.
    pub fn invite(&self, address: IpAddr, id: u64, random: [u8; TOKEN_LEN]) -> Token {
        let (token, now) = (Token(random), Instant::now());
        let mut invitations = lock(&self.invitations);
        invitations.retain(|invitation| now < invitation.until);
        if invitations.len() == INVITATIONS_MAX {
            invitations.pop_front();
        }
        invitations.push_back(Invitation {
            token,
            address,
            id,
            until: now + INVITED_FOR,
        });
        token
    }

    /// Who was given this invitation; it counts once.
    fn accept(&self, token: Token, address: IpAddr) -> Result<u64, Refusal> {
        let now = Instant::now();
        let mut invitations = lock(&self.invitations);
        let is_it = |invitation: &Invitation| {
            invitation.token == token && invitation.address == address && now < invitation.until
        };
        let at = invitations.iter().position(is_it);
        let invitation = at.and_then(|at| invitations.remove(at));
        Ok(invitation.ok_or(Refusal::NotInvited)?.id)
    }

    /// Every open link, and the last ones that ended and were not followed by another from the same address.
    #[must_use]
    pub fn status(&self) -> Vec<LinkStatus> {
        let mut all: Vec<LinkStatus> = self
            .lock()
            .iter()
            .map(|link| self.status_of(link, None))
            .collect();
        let ended = lock(&self.ended);
        for one in ended.iter().rev() {
            if !all
                .iter()
                .any(|known| known.slave.ip() == one.slave.ip() && known.id == one.id)
            {
                all.push(one.clone());
            }
        }
        all
    }

    fn status_of(&self, link: &Link, ended: Option<String>) -> LinkStatus {
        let (end, now) = (self.store.max_offset(), Instant::now());
        let (next, acknowledged, wire) = {
            let master = link.lock();
            (master.next(), master.acknowledged(), master.wire())
        };
        LinkStatus {
            slave: link.slave,
            id: link.id.get().copied(),
            wire,
            acknowledged: next.map(|_| acknowledged),
            sent: next.unwrap_or_default(),
            behind_bytes: end.0.saturating_sub(acknowledged.0),
            behind: lock(&self.lag).behind(acknowledged, end, now),
            since: if ended.is_some() { now } else { link.since },
            ended,
        }
    }

    /// How many links ended, by a word for why.
    pub fn ended_links(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.ends.iter().map(|count| count.load(Ordering::Relaxed));
        End::REASONS.into_iter().zip(counts)
    }

    /// How many slaves are connected.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Takes over a connection from a trusted address. It ends by itself; the log says why.
    pub fn serve(self: &Arc<Self>, socket: TcpStream, slave: SocketAddr) -> io::Result<()> {
        socket.set_nonblocking(false)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(self.patience.silence))?;
        socket.set_write_timeout(Some(self.patience.silence))?;
        let link = Arc::new(Link {
            slave,
            socket,
            since: Instant::now(),
            id: OnceLock::new(),
            master: Mutex::new(Master::new(self.patience, Instant::now())),
        });
        {
            let mut open = self.lock();
            if self.is_over.load(Ordering::SeqCst) {
                return Ok(());
            }
            let is_from = |link: &&Arc<Link>| link.slave.ip() == slave.ip();
            if LINKS_MAX <= open.len()
                || LINKS_PER_ADDRESS_MAX <= open.iter().filter(is_from).count()
            {
                return Err(io::Error::other(format!(
                    "there are {} links to slaves already; {LINKS_MAX} are allowed, {LINKS_PER_ADDRESS_MAX} of an address",
                    open.len()
                )));
            }
            open.push(Arc::clone(&link));
        }
        let started = self.spawn("ha-listen", &link, Self::listen);
        if started.is_err() {
            self.drop_link(&link, &End::Stopping);
        }
        started
    }

    fn spawn(
        self: &Arc<Self>,
        name: &str,
        link: &Arc<Link>,
        work: fn(&Arc<Self>, &Arc<Link>) -> End,
    ) -> io::Result<()> {
        let (links, link) = (Arc::clone(self), Arc::clone(link));
        let thread = thread::Builder::new().name(name.into());
        let started = thread.spawn(move || {
            let end = work(&links, &link);
            links.drop_link(&link, &end);
        });
        started.map(drop)
    }

    /// Ends every link, and takes no new ones.
    pub fn stop(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        let open = self.lock().clone();
        open.iter()
            .for_each(|link| self.drop_link(link, &End::Stopping));
        self.replicated.close();
    }

    /// Learns which kind of slave it is: one of Apache's begins with a report, an invited one with a hello.
    fn greet(self: &Arc<Self>, link: &Arc<Link>) -> Result<(), End> {
        let mut first = [0; REPORT_LEN];
        self.read_exact(link, &mut first)?;
        if first != HELLO {
            return self.hear(link, &first);
        }
        let mut token = [0; TOKEN_LEN];
        self.read_exact(link, &mut token)?;
        let id = self.accept(Token(token), link.slave.ip())?;
        link.lock().invited();
        // Set once: this is the only place, at the beginning of the link.
        let _ = link.id.set(id);
        Ok(())
    }

    fn read_exact(&self, link: &Link, into: &mut [u8]) -> Result<(), End> {
        (&link.socket)
            .read_exact(into)
            .map_err(|error| self.end_of(error))
    }

    fn end_of(&self, error: io::Error) -> End {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => End::Closed,
            _ if is_timeout(&error) => Refusal::Silent(self.patience.silence).into(),
            _ => error.into(),
        }
    }

    /// Hears what the slave has.
    fn listen(self: &Arc<Self>, link: &Arc<Link>) -> End {
        if let Err(end) = self.greet(link) {
            return end;
        }
        let mut buffer = [0; 1024];
        loop {
            let bytes = match (&link.socket).read(&mut buffer) {
                Ok(0) => return End::Closed,
                Ok(len) => &buffer[..len],
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.end_of(error),
            };
            if let Err(end) = self.hear(link, bytes) {
                return end;
            }
        }
    }

    fn hear(self: &Arc<Self>, link: &Arc<Link>, bytes: &[u8]) -> Result<(), End> {
        let first = {
            let mut master = link.lock();
            let was_silent = master.next().is_none();
            master.received(bytes, &self.log(), Instant::now())?;
            master.next().filter(|_| was_silent)
        };
        if let Some(from) = first {
            let (id, wire) = (link.id.get(), link.lock().wire().name());
            tracing::info!(slave = %link.slave, id, %from, wire, "a slave is connected");
            self.spawn("ha-send", link, Self::send)?;
        }
        self.advance();
        Ok(())
    }

    /// Sends what the slave does not have.
    fn send(self: &Arc<Self>, link: &Arc<Link>) -> End {
        loop {
            if self.store.appended().is_closed() || !self.lock().iter().any(|open| open.is(link)) {
                return End::Stopping;
            }
            if let Err(end) = self.send_next(link) {
                return end;
            }
        }
    }

    /// Sends one block, or waits for something to send.
    fn send_next(&self, link: &Link) -> Result<(), End> {
        let Some(next) = link.lock().next() else {
            return Err(End::Closed);
        };
        let bytes = match self.store.log_bytes(next, BLOCK_MAX)? {
            Some(bytes) => bytes,
            // What was deleted is refused with its own words below.
            None if next < self.store.min_offset() => Bytes::new(),
            None => return Err(End::Missing(next)),
        };
        let now = Instant::now();
        let len = u32::try_from(bytes.len()).unwrap_or(BLOCK_MAX);
        let step = {
            let mut master = link.lock();
            let step = master.step(&self.log(), len, now)?;
            // Before it is written: the slave's answer may be here first.
            if let Step::Send(head) = step {
                master.sent(head, now);
            }
            step
        };
        match step {
            Step::Send(head) => {
                let wire = link.lock().wire();
                let sent = usize::try_from(head.len).unwrap_or(usize::MAX);
                let bytes = &bytes[..sent.min(bytes.len())];
                Ok(write(
                    &link.socket,
                    head.encode(wire, bytes).bytes(),
                    bytes,
                )?)
            }
            Step::Wait(until) => {
                self.store.appended().wait_blocking(next.0, Some(until));
                Ok(())
            }
        }
    }

    fn log(&self) -> Log {
        let (min, end) = (self.store.min_offset(), self.store.max_offset());
        Log {
            min,
            newest: self.store.segment_of(end),
            end,
        }
    }

    fn advance(&self) {
        lock(&self.lag).note(self.store.max_offset(), Instant::now());
        let open = self.lock();
        let wanted = self.wanted.load(Ordering::SeqCst);
        let all_have = positions(&open).reached_by(wanted);
        if let Some(position) = all_have.filter(|&position| self.replicated.value() < position) {
            self.replicated.advance(position);
        }
    }

    fn drop_link(&self, link: &Link, end: &End) {
        let mut open = self.lock();
        let Some(at) = open.iter().position(|other| other.is(link)) else {
            return;
        };
        open.remove(at);
        drop(open);
        self.count_end(end);
        self.remember(self.status_of(link, Some(end.to_string())));
        // Whoever is at work on it finds it closed; there may be nothing left to close.
        let _ = link.socket.shutdown(Shutdown::Both);
        let acknowledged = link.lock().acknowledged().0;
        match end {
            End::Stopping => {
                tracing::info!(slave = %link.slave, acknowledged, "the link to a slave is closed")
            }
            end => {
                tracing::warn!(slave = %link.slave, acknowledged, "the link to a slave ended: {end}")
            }
        }
    }

    /// A connection from there was closed before it became a link, for this reason: who asks for the slaves is told.
    pub fn turned_away(&self, slave: SocketAddr, why: String) {
        let end = End::Stranger(why);
        self.count_end(&end);
        self.remember(LinkStatus {
            slave,
            id: None,
            wire: Wire::Plain,
            acknowledged: None,
            sent: LogOffset(0),
            behind_bytes: self.store.max_offset().0,
            behind: Duration::ZERO,
            since: Instant::now(),
            ended: Some(end.to_string()),
        });
    }

    fn count_end(&self, end: &End) {
        let reason = End::REASONS.iter().position(|one| *one == end.reason());
        if let Some(count) = reason.and_then(|at| self.ends.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn remember(&self, status: LinkStatus) {
        let mut ended = lock(&self.ended);
        ended.retain(|one| (one.slave.ip(), one.id) != (status.slave.ip(), status.id));
        if ended.len() == ENDED_MAX {
            ended.pop_front();
        }
        ended.push_back(status);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        lock(&self.open)
    }
}

/// What the open links say together.
fn positions(open: &[Arc<Link>]) -> Positions {
    Positions::of(open.iter().map(|link| {
        let master = link.lock();
        let position = master.next().map(|_| master.acknowledged());
        (link.key(), position)
    }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// What slaves are told apart by.
    fn key(&self) -> SlaveKey {
        (self.slave.ip(), self.id.get().copied())
    }

    fn is(&self, other: &Link) -> bool {
        std::ptr::eq(self, other)
    }

    fn lock(&self) -> MutexGuard<'_, Master> {
        lock(&self.master)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Writes a block, head and bytes in one call as long as the socket takes them.
fn write(mut socket: &TcpStream, head: &[u8], bytes: &[u8]) -> io::Result<()> {
    let mut slices = [IoSlice::new(head), IoSlice::new(bytes)];
    let mut left = &mut slices[..];
    while !left.is_empty() {
        match socket.write_vectored(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(len) => IoSlice::advance_slices(&mut left, len),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        while left.first().is_some_and(|slice| slice.is_empty()) {
            left = &mut std::mem::take(&mut left)[1..];
        }
    }
    Ok(())
}
