//! The sockets of the registration: one supervisor that follows the list of name servers, one task per name server.
//!
//! Tasks end when told to stop or when their name server leaves the list, and take the broker out before they do.
//! Nothing here decides when to register; that is [`super::session`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use gantry_message::{Epoch, Millis};
use gantry_net::client::{CallError, Connection, Options, Reply};
use gantry_service::notify;
use gantry_wire::{
    FieldSink, HeaderEncode,
    bodies::{DataVersion, KvTable, TopicConfig},
    codes::{request, response},
    frame::FieldWriter,
    headers,
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time,
};

use super::{
    Current, Master, Shared, Standing, State, announcement, encode, fixed_ha_address, lock,
    refusal_text,
    session::{Action, Say, Session},
};
use crate::{latch, tables::Snapshot};

/// How often host names are looked up again; when one could not be, sooner.
const LOOKUP_PERIOD: Duration = Duration::from_secs(120);
const LOOKUP_RETRY: Duration = Duration::from_secs(5);
/// How soon a change of `namesrvAddr` is followed.
const SETTINGS_PERIOD: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long taking the broker out may take at one name server.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs until the stop: keeps one task per address that the configured names stand for.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let mut stopping = shared.stopping.subscribe();
    let mut tasks = JoinSet::new();
    let mut running: BTreeMap<SocketAddr, watch::Sender<bool>> = BTreeMap::new();
    let mut said = BTreeSet::new();
    while !*stopping.borrow() {
        let names = shared.live.now().namesrv_addr.clone().unwrap_or_default();
        let (found, complete) = tokio::select! {
            found = look_up(&names, &mut said) => found,
            _ = stopping.changed() => break,
        };
        follow(&shared, &found, &mut running, &mut tasks);
        let pause = if complete {
            LOOKUP_PERIOD
        } else {
            LOOKUP_RETRY
        };
        tokio::select! {
            () = settings_changed(&shared, &names) => {}
            () = time::sleep(pause) => {}
            _ = stopping.changed() => {}
        }
        while let Some(ended) = tasks.try_join_next() {
            log_ended(ended);
        }
    }
    for leave in running.values() {
        leave.send_replace(true);
    }
    while let Some(ended) = tasks.join_next().await {
        log_ended(ended);
    }
}

async fn settings_changed(shared: &Shared, names: &str) {
    while shared
        .live
        .now()
        .namesrv_addr
        .as_deref()
        .unwrap_or_default()
        == names
    {
        time::sleep(SETTINGS_PERIOD).await;
    }
}

fn log_ended(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a name server ended badly");
    }
}

/// The addresses of all names in the order of the list; false when a name has none now. A name with addresses of either kind
/// stands for its IPv4 ones, since two that differ only in kind are most likely one server.
async fn look_up(names: &str, said: &mut BTreeSet<String>) -> (Vec<SocketAddr>, bool) {
    let mut found = Vec::new();
    let mut complete = true;
    for name in names
        .split(';')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let addresses: Vec<SocketAddr> =
            match time::timeout(CONNECT_TIMEOUT, tokio::net::lookup_host(name)).await {
                Ok(Ok(addresses)) => addresses.collect(),
                Ok(Err(error)) => {
                    if said.insert(name.to_owned()) {
                        tracing::warn!(name, %error, "the name server's name cannot be looked up");
                    }
                    Vec::new()
                }
                Err(_) => Vec::new(),
            };
        if addresses.is_empty() {
            complete = false;
            continue;
        }
        said.remove(name);
        let has_v4 = addresses.iter().any(SocketAddr::is_ipv4);
        for address in addresses
            .into_iter()
            .filter(|address| !has_v4 || address.is_ipv4())
        {
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    (found, complete)
}

/// Starts tasks for new name servers and ends those of name servers that left the list. A list that is empty because nothing could be
/// looked up changes nothing.
fn follow(
    shared: &Arc<Shared>,
    found: &[SocketAddr],
    running: &mut BTreeMap<SocketAddr, watch::Sender<bool>>,
    tasks: &mut JoinSet<()>,
) {
    let configured = shared
        .live
        .now()
        .namesrv_addr
        .as_deref()
        .is_some_and(|names| !names.trim().is_empty());
    if !found.is_empty() || !configured {
        running.retain(|address, leave| {
            let stays = found.contains(address);
            if !stays {
                leave.send_replace(true);
            }
            stays
        });
    }
    let mut progress = lock(&shared.progress);
    progress
        .servers
        .retain(|address, _| running.contains_key(address));
    progress
        .refusals
        .retain(|address, _| running.contains_key(address));
    for (rank, &address) in found.iter().enumerate() {
        let standing = progress.servers.entry(address).or_insert(Standing {
            rank,
            state: State::Trying,
        });
        standing.rank = rank;
        running.entry(address).or_insert_with(|| {
            let (leave, left) = watch::channel(false);
            tasks.spawn(Server::new(shared.clone(), address).serve(left));
            leave
        });
    }
    progress.resolved = true;
    drop(progress);
    shared.progressed.notify_all();
}

/// The task of one name server.
struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    session: Session,
    connection: Option<Connection>,
    /// Promotions: behind one, a slave may have to look for its master.
    news: watch::Receiver<Epoch>,
    /// What was sent with the last registration that was acknowledged.
    sent: Option<Arc<Snapshot<TopicConfig>>>,
    /// The permission that was sent with it.
    permission: Option<u32>,
}

/// Why an exchange with the name server did not do what it should.
enum Trouble {
    /// It could not be reached, or did not answer.
    Unreachable(String),
    /// It answered with a code that is not success.
    Refused(String),
}

impl Server {
    fn new(shared: Arc<Shared>, address: SocketAddr) -> Server {
        let session = Session::new(shared.now());
        Server {
            news: shared.seats.news(),
            shared,
            address,
            session,
            connection: None,
            sent: None,
            permission: None,
        }
    }

    async fn serve(mut self, mut leave: watch::Receiver<bool>) {
        loop {
            let current = self.shared.current();
            let action =
                self.session
                    .next(current.revision, self.shared.rules(), self.shared.now());
            tokio::select! {
                () = self.act(action, &current) => {}
                // An error says that the supervisor is gone.
                _ = leave.changed() => break,
            }
        }
        self.take_out().await;
    }

    /// Not cancellation-safe in the sense that a registration under way may or may not have reached the name server;
    /// it is only cancelled to leave.
    async fn act(&mut self, action: Action, current: &Current) {
        match action {
            Action::WaitUntil(until) => self.wait(until, current.revision.generation).await,
            Action::Ask => {
                let asked = self.ask(current).await;
                let now = self.shared.now();
                match asked {
                    Ok(false) => self.session.confirmed(self.shared.rules(), now),
                    Ok(true) | Err(Trouble::Refused(_)) => self.session.outdated(now),
                    Err(trouble) => self.note_trouble(&trouble),
                }
            }
            Action::AnnounceAll => self.announce(current, None).await,
            Action::AnnounceChanges => {
                let before = self.sent.clone();
                self.announce(current, before).await;
            }
        }
    }

    async fn wait(&mut self, until: Millis, generation: u64) {
        let pause =
            Duration::from_millis(u64::try_from(until.since(self.shared.now())).unwrap_or(0));
        let closed = async {
            match &self.connection {
                Some(connection) => connection.closed().await.to_string(),
                None => std::future::pending().await,
            }
        };
        // A server that is away is not called because of a change; it gets everything when it is back.
        let changed = async {
            if self.session.is_registered() {
                self.shared.topics.changes().beyond(generation).await;
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = time::sleep(pause) => {}
            () = changed => {}
            // The sender is in what is shared.
            Ok(()) = self.news.changed() => {}
            reason = closed => {
                tracing::info!(name_server = %self.address, reason, "the connection to the name server ended");
                self.connection = None;
                self.session.lost(self.shared.now());
            }
        }
    }

    async fn announce(&mut self, current: &Current, before: Option<Arc<Snapshot<TopicConfig>>>) {
        let result = self.register(current, before).await;
        let now = self.shared.now();
        match result {
            Ok(reply) => {
                if self
                    .session
                    .announced(current.revision, self.shared.rules(), now)
                    == Say::Once
                {
                    tracing::info!(
                        "register broker[{}]to name server {} OK",
                        self.shared.identity.broker_id,
                        self.address
                    );
                }
                self.sent = Some(current.snapshot.clone());
                let permission = current.revision.permission;
                if self
                    .permission
                    .replace(permission)
                    .is_some_and(|before| before != permission)
                {
                    let latched_ms = self.shared.store.latched_for().map(|time| time.as_millis());
                    tracing::info!(
                        name_server = %self.address,
                        permission,
                        latched_ms,
                        "the name server has the new permission"
                    );
                }
                self.shared
                    .note(self.address, State::Has(current.revision.generation));
                self.taken();
                self.take_answer(&reply).await;
            }
            Err(trouble) => self.note_trouble(&trouble),
        }
    }

    fn note_trouble(&mut self, trouble: &Trouble) {
        let now = self.shared.now();
        let (say, reason) = match trouble {
            Trouble::Unreachable(reason) => {
                self.connection = None;
                lock(&self.shared.progress).refusals.remove(&self.address);
                (self.session.failed(reason, now), reason)
            }
            Trouble::Refused(reason) => {
                let mut progress = lock(&self.shared.progress);
                progress.refusals.insert(self.address, reason.clone());
                (self.session.refused(reason, now), reason)
            }
        };
        if say == Say::Once {
            let refused = matches!(trouble, Trouble::Refused(_));
            tracing::warn!(name_server = %self.address, reason, refused, "the broker is not registered; trying again");
            if refused {
                self.show(&refusal_text(self.address, reason));
            }
        }
        self.shared.note(self.address, State::Away);
    }

    /// A refusal is over.
    fn taken(&self) {
        let mut progress = lock(&self.shared.progress);
        if progress.refusals.remove(&self.address).is_some() && progress.refusals.is_empty() {
            self.show("serving; no name server refuses this broker any more");
        }
    }

    /// Shows this in the status, unless it says already that the store has failed.
    fn show(&self, status: &str) {
        if !latch::is_latched(&self.shared.store) {
            notify::status(status);
        }
    }

    async fn register(
        &mut self,
        current: &Current,
        before: Option<Arc<Snapshot<TopicConfig>>>,
    ) -> Result<Reply, Trouble> {
        let compressed = self.shared.live.now().compressed_register;
        let permission = current.revision.permission;
        let changes =
            before.map(|before| announcement::changes(&current.snapshot, &before, permission));
        let body = match changes.filter(announcement::has_topics) {
            Some(changes) => encode(&changes, compressed),
            None => self.shared.encode_all(current, compressed),
        };
        let identity = self.shared.identity.clone();
        let header = headers::RegisterBroker {
            broker_name: &identity.broker,
            broker_addr: &identity.address,
            cluster_name: &identity.cluster,
            ha_server_addr: &identity.ha_address,
            broker_id: identity.id(),
            compressed,
            body_crc32: gantry_wire::bodies::body_crc32(&body),
        };
        let epoch = self.shared.seats.epoch();
        let fields = |fields: &mut FieldWriter<'_>| {
            header.encode(fields);
            if epoch.is_some() {
                fields.text(headers::EPOCH, &epoch.to_string());
            }
        };
        self.call(request::REGISTER_BROKER, fields, &body).await
    }

    /// Whether the name server's data version differs from ours.
    async fn ask(&mut self, current: &Current) -> Result<bool, Trouble> {
        let ours = current.snapshot.version;
        let identity = self.shared.identity.clone();
        let header = headers::QueryDataVersion {
            broker_name: &identity.broker,
            broker_addr: &identity.address,
            cluster_name: &identity.cluster,
            broker_id: identity.id(),
        };
        let reply = self
            .call(
                request::QUERY_DATA_VERSION,
                |fields| header.encode(fields),
                &ours.encode(),
            )
            .await?;
        let differs = !reply.body.is_empty() && DataVersion::parse(&reply.body).ok() != Some(ours);
        let same = reply
            .fields
            .header::<headers::QueryDataVersionAnswer>()
            .is_ok_and(|answer| !answer.changed);
        Ok(differs || !same)
    }

    /// What a registration's answer tells: ordered topics, and for a slave where its master is.
    async fn take_answer(&self, reply: &Reply) {
        if let Ok(answer) = reply.fields.header::<headers::RegisterBrokerAnswer<'_>>() {
            let own = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
            let master = Master {
                address: own(answer.master_addr),
                ha_address: own(answer.ha_server_addr),
            };
            if lock(&self.shared.progress).leads(self.address) {
                self.take_master(master);
            }
        }
        // A slave's topics, their order flags too, are its master's.
        if reply.body.is_empty() || self.shared.is_slave() {
            return;
        }
        let ordered: BTreeSet<String> = match KvTable::parse(&reply.body) {
            Ok(table) => table.table.into_keys().collect(),
            Err(error) => {
                tracing::warn!(name_server = %self.address, %error, "the table of ordered topics cannot be read");
                return;
            }
        };
        // Looked at and set in one step: an answer of another name server may be on its way to set what it says.
        let _ordering = self.shared.ordering.lock().await;
        if !lock(&self.shared.progress).leads(self.address) {
            return;
        }
        let topics = self.shared.topics.clone();
        let set =
            tokio::task::spawn_blocking(move || topics.set_order_topics(&ordered, Millis::now()))
                .await;
        match set {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the order flags of topics cannot be written")
            }
            Err(error) => tracing::error!(%error, "setting the order flags of topics ended badly"),
        }
    }

    fn take_master(&self, said: Master) {
        let fixed = fixed_ha_address(&self.shared.live.now());
        self.shared.master.send_if_modified(|master| {
            let new = Master {
                address: said.address,
                ha_address: fixed
                    .or(said.ha_address)
                    .or_else(|| master.ha_address.clone()),
            };
            let moved = *master != new;
            if master.address != new.address {
                tracing::info!(
                    address = new.address.as_deref().unwrap_or("none"),
                    ha_address = new.ha_address.as_deref().unwrap_or("none"),
                    name_server = %self.address,
                    "the master of this broker's name, as the name server says"
                );
            }
            *master = new;
            moved
        });
    }

    async fn take_out(mut self) {
        if !self.session.is_registered() || self.connection.is_none() {
            // What it has, if anything, is not ours or goes with the connection.
            return;
        }
        if self.shared.is_other_part() {
            // Apache's name servers would take the new master's place out with ours.
            return;
        }
        let identity = self.shared.identity.clone();
        let header = headers::UnregisterBroker {
            broker_name: &identity.broker,
            broker_addr: &identity.address,
            cluster_name: &identity.cluster,
            broker_id: identity.id(),
        };
        let call = self.call(
            request::UNREGISTER_BROKER,
            |fields| header.encode(fields),
            &[],
        );
        let trouble = match time::timeout(UNREGISTER_TIMEOUT, call).await {
            Ok(Ok(_)) => {
                tracing::info!("unregisterBroker OK, NamesrvAddr: {}", self.address);
                return;
            }
            Ok(Err(Trouble::Unreachable(reason) | Trouble::Refused(reason))) => reason,
            Err(_) => format!("no answer within {UNREGISTER_TIMEOUT:?}"),
        };
        tracing::warn!(name_server = %self.address, reason = trouble, "the broker could not be taken out");
    }

    async fn call(
        &mut self,
        code: i32,
        fields: impl FnMut(&mut FieldWriter<'_>),
        body: &[u8],
    ) -> Result<Reply, Trouble> {
        let timeout = self.shared.timeout();
        let connection = self.connect(timeout.min(CONNECT_TIMEOUT)).await?;
        let unreachable = |error: CallError| Trouble::Unreachable(error.to_string());
        let reply = connection
            .call(code, fields, body, timeout)
            .await
            .map_err(unreachable)?;
        if let Some(epoch) = reply.fields.get(headers::EPOCH) {
            self.hear(epoch).await;
        }
        if reply.code == response::SUCCESS {
            return Ok(reply);
        }
        let remark = reply
            .remark
            .unwrap_or_else(|| response::name(reply.code).to_owned());
        Err(Trouble::Refused(remark))
    }

    /// A name server knows of a promotion of this name.
    async fn hear(&self, epoch: &str) {
        let epoch: Epoch = match epoch.parse() {
            Ok(epoch) => epoch,
            Err(error) => {
                tracing::warn!(name_server = %self.address, %error, "the newest promotion cannot be read");
                return;
            }
        };
        let (seats, by) = (
            self.shared.seats.clone(),
            format!("name server {}", self.address),
        );
        let heard = tokio::task::spawn_blocking(move || seats.hear(epoch, &by)).await;
        match heard {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a promotion is not noted durably"),
            Err(error) => tracing::error!(%error, "noting a promotion ended badly"),
        }
    }

    async fn connect(&mut self, timeout: Duration) -> Result<Connection, Trouble> {
        if let Some(open) = self
            .connection
            .as_ref()
            .filter(|connection| connection.is_open())
        {
            return Ok(open.clone());
        }
        let options = Options {
            connect_timeout: timeout,
            ..Options::default()
        };
        let connected = Connection::connect(&self.address.to_string(), &options).await;
        let connection =
            connected.map_err(|error| Trouble::Unreachable(format!("cannot connect: {error}")))?;
        self.connection = Some(connection.clone());
        Ok(connection)
    }
}
