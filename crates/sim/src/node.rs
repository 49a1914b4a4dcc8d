//! One machine and the broker on it: the real store on a disk that can lose and tear, the real seat, the real tables.
//!
//! The broker's threads are not there: [`crate::world`] does by hand, one step at a time, what they would do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gantry_broker::acks::SlaveAcks;
use gantry_broker::config::BrokerRole;
use gantry_broker::registration::session::Session;
use gantry_broker::seats::Seats;
use gantry_broker::slave::known::{End, Lacks};
use gantry_broker::slave::merge::Table;
use gantry_broker::tables::Offsets;
use gantry_disk::faulty::FaultyDisk;
use gantry_disk::{Disk, replace};
use gantry_message::Millis;
use gantry_replication::{Copies, Misfit, Part};
use gantry_store::{Clock, Store, StoreConfig};
use gantry_wire::bodies::{ConsumerOffsets, HaMaster};

use crate::master::{Counted, MasterSide};
use crate::net::Request;
use crate::setup::Setup;
use crate::slave::SlaveSide;

const ROOT: &str = "/store";
const CONFIG: &str = "/store/config";
const SEEN: &str = "/store/config/masterOffset.json";
const KNOWN: &str = "/store/config/knownMaster.json";
/// When the worlds begin.
const EPOCH_MS: i64 = 1_700_000_000_000;
/// How often offsets are written.
const OFFSETS_MS: i64 = 800;

/// A machine.
pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) disk: FaultyDisk,
    /// What its configuration makes of it.
    pub(crate) configured: Part,
    pub(crate) broker: Option<Broker>,
    /// Counts the lives of its process: what was on its way to an earlier one arrives nowhere.
    pub(crate) life: u64,
    pub(crate) frozen_until: u64,
    pub(crate) slow_until: u64,
    /// When it is started again, if it is down.
    pub(crate) up_at: Option<u64>,
    /// It is gone for good, or until it is set up anew.
    pub(crate) is_lost: bool,
    /// It burns down soon after its next start: when more messages were copied than so many.
    pub(crate) is_sick: bool,
    pub(crate) burns_behind: Option<usize>,
    /// What must be in the log when it is opened next.
    pub(crate) durable: u64,
    /// What is to be cut off then.
    pub(crate) cut: Option<Misfit>,
    /// Its last start did that.
    pub(crate) has_cut: bool,
    /// It may have been promoted when its disk stopped.
    pub(crate) promoted: Option<crate::truth::Loss>,
    clock: Arc<AtomicI64>,
    skew_ms: i64,
}

/// A broker that runs.
pub(crate) struct Broker {
    pub(crate) store: Arc<Store>,
    pub(crate) seats: Arc<Seats>,
    /// As it was started; what [`Seats`] says may be another one already.
    pub(crate) part: Part,
    pub(crate) offsets: Offsets,
    pub(crate) master: Option<MasterSide>,
    pub(crate) slave: Option<SlaveSide>,
    pub(crate) sessions: Vec<(Session, u64)>,
    /// Where the name servers say the master is.
    pub(crate) told: Option<usize>,
    /// What came and was not looked at yet.
    pub(crate) inbox: Vec<(usize, Request)>,
    /// Who holds this master, and until when.
    pub(crate) holds: Vec<(u64, u64)>,
    /// When it looks next for another master of its name.
    pub(crate) rivals_at: u64,
}

impl Node {
    pub(crate) fn new(index: usize, seed: u64, setup: &Setup, skew_ms: i64) -> Self {
        let disk = FaultyDisk::new(seed.wrapping_mul(31).wrapping_add(index as u64));
        let configured = match index {
            0 => Part::Master(setup.copies),
            slave => Part::Slave(slave as u64),
        };
        let mut node = Self {
            index,
            disk,
            configured,
            broker: None,
            life: 0,
            frozen_until: 0,
            slow_until: 0,
            up_at: Some(0),
            is_lost: false,
            is_sick: false,
            burns_behind: None,
            durable: u64::MAX,
            cut: None,
            has_cut: false,
            promoted: None,
            clock: Arc::new(AtomicI64::new(EPOCH_MS + skew_ms)),
            skew_ms,
        };
        node.format(seed);
        node
    }

    /// A disk with nothing on it.
    pub(crate) fn format(&mut self, seed: u64) {
        self.disk = FaultyDisk::new(seed.wrapping_mul(37).wrapping_add(self.index as u64));
        let made = self.disk.create_dirs(Path::new(ROOT));
        let made = made.and_then(|()| self.disk.sync_all(Path::new("/")));
        made.unwrap_or_else(|error| panic!("an empty disk: {error}"));
    }

    pub(crate) fn tick(&self, now_ms: u64) {
        let now = EPOCH_MS + self.skew_ms + i64::try_from(now_ms).unwrap_or(0);
        self.clock.store(now, Ordering::Relaxed);
    }

    pub(crate) fn wall(&self) -> Millis {
        Millis(self.clock.load(Ordering::Relaxed))
    }

    /// Starts the broker. `None`: the disk stopped under it.
    pub(crate) fn start(&mut self, setup: &Setup, names: usize, now_ms: u64) -> Option<()> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let clock = Arc::clone(&self.clock);
        let config = StoreConfig {
            segment_size: setup.segment_size,
            queue_file_size: 20 * 32,
            index_enabled: false,
            reserved_hours: 1_000,
            clock: Clock::new(move || Millis(clock.load(Ordering::Relaxed))),
            ..StoreConfig::at(ROOT)
        };
        let seats = Seats::load(
            Arc::clone(&disk),
            Path::new(ROOT),
            ("broker-a", self.configured),
        )
        .ok()?;
        let misfit = self.cut.take();
        let misfit = misfit.filter(|misfit| seats.now().may_cut(misfit.epoch));
        self.has_cut = misfit.is_some();
        let store = match misfit {
            Some(Misfit { cut, .. }) => {
                Store::open_cut(Arc::clone(&disk), config, self.wall(), &cut).ok()?
            }
            None => Store::open(Arc::clone(&disk), config, self.wall()).ok()?,
        };
        store.mark_running().ok()?;
        gantry_disk::dirs::make(&*disk, Path::new(CONFIG)).ok()?;
        let offsets = Offsets::load(Arc::clone(&disk), Path::new(CONFIG), OFFSETS_MS).ok()?;
        seats.guard(&store);
        let part = seats.now().part;
        let (mut master, mut slave) = (None, None);
        match part {
            Part::Master(copies) => {
                let counted = Arc::new(Counted::new(setup.in_sync));
                let role = match copies {
                    Copies::Sync => BrokerRole::SyncMaster,
                    Copies::Async => BrokerRole::AsyncMaster,
                };
                let acks = SlaveAcks::new(Arc::clone(&counted), role);
                master = Some(MasterSide::new(counted, acks));
            }
            Part::Slave(id) => {
                let seen = match self.read_seen().ok()? {
                    Some(seen) => seen,
                    None => {
                        let table = offsets.wire_table().offset_table;
                        self.write_seen(&table).then_some(table)?
                    }
                };
                let (seen, mut known) = ((seen, true), self.read_known().ok()?);
                let may_lack = store.may_lack_its_end() && !setup.after_flush;
                let end = match may_lack {
                    true => End::Doubted,
                    false => End::Whole,
                };
                let ours = i64::try_from(store.max_offset().0).unwrap_or(i64::MAX);
                let end = end.with(known.as_ref(), ours);
                let lacks = Lacks::at_start(known.as_ref(), end);
                if let Some(known) = known.as_mut().filter(|_| end == End::Doubted) {
                    known.followed = false;
                    self.write_known(known).then_some(())?;
                }
                slave = Some(SlaveSide::new(id, seen, (known, lacks), now_ms));
            }
            Part::Fenced => {}
        }
        let now = Millis(i64::try_from(now_ms).unwrap_or(0));
        self.life += 1;
        self.broker = Some(Broker {
            store,
            seats,
            part,
            offsets,
            master,
            slave,
            sessions: (0..names).map(|_| (Session::new(now), 0)).collect(),
            told: None,
            inbox: Vec::new(),
            holds: Vec::new(),
            rivals_at: now_ms,
        });
        Some(())
    }

    fn read_seen(&self) -> std::io::Result<Option<Table>> {
        let bytes = replace::read(&self.disk, Path::new(SEEN))?;
        Ok(bytes.map(|bytes| {
            ConsumerOffsets::parse(&bytes).map_or_else(|_| Table::new(), |seen| seen.offset_table)
        }))
    }

    fn read_known(&self) -> std::io::Result<Option<HaMaster>> {
        let bytes = replace::read(&self.disk, Path::new(KNOWN))?;
        Ok(bytes.and_then(|bytes| HaMaster::parse(&bytes).ok()))
    }

    /// Notes durably what is known of the master.
    pub(crate) fn write_known(&self, known: &HaMaster) -> bool {
        replace::file(&self.disk, Path::new(KNOWN), &known.encode()).is_ok()
    }

    /// Notes durably what the master's offsets were.
    pub(crate) fn write_seen(&self, seen: &Table) -> bool {
        let text = ConsumerOffsets {
            offset_table: seen.clone(),
        };
        replace::file(&self.disk, Path::new(SEEN), &text.encode_pretty()).is_ok()
    }

    /// As if the file of its seat had never been written.
    pub(crate) fn forget_promotion(&self) {
        self.disk
            .take(&Path::new(ROOT).join(gantry_broker::seats::FILE));
    }

    pub(crate) fn is_frozen(&self, now_ms: u64) -> bool {
        now_ms < self.frozen_until
    }
}

impl Broker {
    /// The offsets as they are in memory.
    pub(crate) fn offsets_now(&self) -> BTreeMap<(String, i32), i64> {
        flat(&self.offsets.wire_table().offset_table)
    }
}

/// A table by group and queue; there is one topic.
pub(crate) fn flat(table: &Table) -> BTreeMap<(String, i32), i64> {
    let all = table.iter().flat_map(|(of, queues)| {
        let group = of.split_once('@').map_or("", |(_, group)| group);
        queues
            .iter()
            .map(move |(queue, offset)| ((group.to_owned(), *queue), *offset))
    });
    all.collect()
}
