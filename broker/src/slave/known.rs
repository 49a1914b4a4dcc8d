//! What a slave knows of its master: what `mqadmin promote` goes by when the master is gone.
//!
//! Asked with the tables, and kept in a file, so that a slave knows it that was restarted since. Whoever acknowledged
//! once under this master counts for good: what a slave acknowledged before it went is lost with it, unless another has it.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gantry_disk::Disk;
use gantry_wire::bodies::{HaMaster, HaStatus};
use tokio::time::Instant;

use crate::{
    config::BrokerRole,
    tables::{JsonFile, TableError},
};

/// More ids than a name has brokers; who says more is not believed.
const IDS_MAX: usize = 1_000;

/// What is known of the master; shared with who shows it.
#[derive(Clone, Default)]
pub struct Known(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    master: Option<HaMaster>,
    /// When this process asked last.
    asked: Option<Instant>,
    /// When the copy of its tables began that was whole.
    copied: Option<Instant>,
}

/// Whether the slave follows the master that it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Its log is the beginning of the master's.
    Yes,
    /// Its log need not be the beginning of the master's.
    No,
}

impl Follows {
    /// Whether it is the followed one that was asked, as far as where its log ends says: that is not before the end that its
    /// copy had when it was asked. Another machine may have got the address, and the link's silence not be noticed yet.
    pub fn check(self, theirs: i64, ours_before: i64) -> Result<(), String> {
        if self == Self::Yes && theirs < ours_before {
            return Err(format!(
                "its log ends at {theirs}, before ours at {ours_before}: it is not the one that is followed"
            ));
        }
        Ok(())
    }
}

/// What a start has found of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All that was acknowledged.
    Whole,
    /// What was acknowledged last may be gone: the machine was off before it was synced, or the log is shorter than it was.
    Doubted,
}

impl End {
    /// What is to be thought of a log that ends there, where that is known of the master; somebody may have put an older one
    /// in its place.
    #[must_use]
    pub fn with(self, known: Option<&HaMaster>, ours: i64) -> Self {
        match known {
            Some(known) if ours < known.copy_offset => Self::Doubted,
            _ => self,
        }
    }
}

/// What a slave may lack of what it has acknowledged: after a power cut, what was not synced; with an empty store, whatever
/// the one before it had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lacks {
    /// It has all of it.
    #[default]
    Nothing,
    /// It has not asked its master since.
    Unknown,
    /// No more when its log ends there, as the master's did when it was asked first.
    Until(i64),
}

impl Lacks {
    /// What a start finds, from what was known of the master before and from the log.
    #[must_use]
    pub fn at_start(known: Option<&HaMaster>, end: End) -> Self {
        match known {
            Some(known) if known.followed && end == End::Whole => Self::Nothing,
            _ => Self::Unknown,
        }
    }

    /// What the log must be beyond for that to change.
    pub(super) fn until(self) -> Option<u64> {
        match self {
            Self::Until(end) => Some(u64::try_from(end).unwrap_or_default().saturating_sub(1)),
            Self::Nothing | Self::Unknown => None,
        }
    }

    /// The slave follows its master, or not; where their logs end, the master's as it was told before. Whether its log can
    /// stand for the master's.
    pub fn look(&mut self, follows: Follows, (theirs, ours): (i64, i64)) -> Follows {
        if follows == Follows::No {
            return Follows::No;
        }
        let end = match *self {
            Self::Nothing => return Follows::Yes,
            Self::Unknown => theirs,
            // The master may have lost some itself.
            Self::Until(end) => end.min(theirs),
        };
        if ours < end {
            *self = Self::Until(end);
            return Follows::No;
        }
        *self = Self::Nothing;
        Follows::Yes
    }
}

/// Where it is kept.
pub(super) struct File(Arc<JsonFile>);

impl Known {
    /// As the master said it last; nothing before that, and of Apache's broker.
    pub fn now(&self) -> Option<HaMaster> {
        let state = self.lock();
        let asked = state.asked.map(|asked| asked.elapsed().as_millis());
        Some(HaMaster {
            asked_millis_ago: asked.map_or(-1, |ago| i64::try_from(ago).unwrap_or(i64::MAX)),
            ..state.master.clone()?
        })
    }

    /// When the tables were asked for that are here; nothing, if this process has not copied them.
    pub fn copied(&self) -> Option<std::time::Instant> {
        let state = self.lock();
        state.copied.map(Instant::into_std)
    }

    /// All tables were copied.
    pub(super) fn note_copied(&self, begun: Instant) {
        let mut state = self.lock();
        state.copied = Some(begun);
    }

    /// Reads what was known before the start. Blocks.
    pub(super) fn load(
        &self,
        disk: Arc<dyn Disk>,
        folder: &Path,
        (end, ours): (End, i64),
    ) -> Result<(File, Lacks), TableError> {
        let file = JsonFile::new(disk, folder.join("knownMaster.json"));
        let mut state = self.lock();
        state.master = file.load(HaMaster::parse)?;
        let end = end.with(state.master.as_ref(), ours);
        let lacks = Lacks::at_start(state.master.as_ref(), end);
        if let Some(known) = state.master.as_mut().filter(|_| end == End::Doubted) {
            let gone = known.copy_offset.saturating_sub(ours).max(0);
            if known.followed || 0 < gone {
                // Before anybody can ask, and over the next start, which finds a log without any doubt.
                known.followed = false;
                known.lost_bytes = known.lost_bytes.saturating_add(gone);
                known.copy_offset -= gone;
                file.replace(&known.encode())?;
            }
        }
        Ok((File(Arc::new(file)), lacks))
    }

    /// Takes in an answer. Who asks is told what outlives this process, and nothing else: news are kept first; who cannot
    /// keep them does not vouch for its log. Blocks.
    pub(super) fn note(
        &self,
        file: &File,
        (master, said): (&str, &HaStatus),
        (follows, ours): (Follows, i64),
    ) -> Result<(), TableError> {
        // Who was the master a moment ago has nothing to say of the one that is.
        if said.is_fenced || said.role == BrokerRole::Slave.as_str() {
            return Ok(());
        }
        let before = self.lock().master.clone();
        let mut learned = learned(before.as_ref(), (master, said), (follows, ours));
        let kept = match before {
            Some(before) if before == learned => Ok(()),
            _ => file.0.replace(&learned.encode()),
        };
        learned.followed &= kept.is_ok();
        let mut state = self.lock();
        state.master = Some(learned);
        state.asked = Some(Instant::now());
        kept
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File {
    /// For another thread.
    pub(super) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What is known after one more answer of the master; `before` is of the one that was asked last. Whether it is followed, and
/// where our log ended.
#[must_use]
pub fn learned(
    before: Option<&HaMaster>,
    (master, said): (&str, &HaStatus),
    (follows, ours): (Follows, i64),
) -> HaMaster {
    // Another promotion: its master has all that was acknowledged before it.
    let before = before.filter(|before| before.epoch == said.epoch);
    let acknowledged = said.slaves.iter().filter(|slave| 0 <= slave.acknowledged);
    let (with, without): (Vec<_>, Vec<_>) = acknowledged.partition(|slave| 0 <= slave.id);
    let mut ids: BTreeSet<i64> = before
        .iter()
        .flat_map(|before| &before.slave_ids)
        .copied()
        .collect();
    ids.extend(with.iter().map(|slave| slave.id));
    let slave_ids: Vec<i64> = ids.into_iter().take(IDS_MAX).collect();
    // Apache's slaves have no ids: at least as many as were there at once.
    let nameless = before.map_or(0, |before| before.nameless_slaves);
    HaMaster {
        address: Some(master.to_owned()),
        asked_millis_ago: 0,
        copy_offset: ours,
        epoch: said.epoch.clone(),
        followed: follows == Follows::Yes,
        in_sync_replicas: said.in_sync_replicas,
        lost_bytes: before.map_or(0, |before| before.lost_bytes),
        max_offset: said.max_offset,
        nameless_slaves: nameless.max(i32::try_from(without.len()).unwrap_or(i32::MAX)),
        role: said.role.clone(),
        slave_ack_policy: said.slave_ack_policy.clone(),
        slave_ids,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use gantry_disk::faulty::{FaultyDisk, Operation};
    use gantry_wire::bodies::HaSlave;
    use nix::libc;

    use super::*;

    const MASTER: &str = "10.0.0.1:10911";

    fn slave(id: i64, acknowledged: i64) -> HaSlave {
        HaSlave {
            id,
            acknowledged,
            ..HaSlave::default()
        }
    }

    fn said(max_offset: i64, slaves: Vec<HaSlave>) -> HaStatus {
        HaStatus {
            epoch: Some("1.2".to_owned()),
            in_sync_replicas: 1,
            max_offset,
            role: "SYNC_MASTER".to_owned(),
            slaves,
            ..HaStatus::default()
        }
    }

    #[test]
    fn who_lost_its_end_stands_for_its_master_when_it_has_caught_up() {
        let mut lacks = Lacks::at_start(None, End::Whole);
        assert_eq!(lacks.look(Follows::No, (100, 100)), Follows::No);
        assert_eq!(lacks.look(Follows::Yes, (100, 60)), Follows::No);
        assert_eq!(lacks, Lacks::Until(100));
        assert_eq!(lacks.look(Follows::No, (300, 120)), Follows::No);
        assert_eq!(lacks.look(Follows::Yes, (300, 120)), Follows::Yes);
        assert_eq!(lacks.look(Follows::Yes, (400, 120)), Follows::Yes);
        // The master came back with less.
        let mut lacks = Lacks::Until(100);
        assert_eq!(lacks.look(Follows::Yes, (80, 80)), Follows::Yes);
        let follows = (Follows::Yes, 100);
        let known = learned(None, (MASTER, &said(100, Vec::new())), follows);
        assert_eq!(Lacks::at_start(Some(&known), End::Whole), Lacks::Nothing);
        assert_eq!(Lacks::at_start(Some(&known), End::Doubted), Lacks::Unknown);
    }

    #[test]
    fn a_log_that_is_shorter_than_it_was_may_lack_what_was_acknowledged() {
        let known = learned(None, (MASTER, &said(200, Vec::new())), (Follows::Yes, 100));
        for (ours, expected) in [(100, End::Whole), (150, End::Whole), (99, End::Doubted)] {
            assert_eq!(End::Whole.with(Some(&known), ours), expected, "{ours}");
        }
        assert_eq!(End::Whole.with(None, 0), End::Whole);
        let learner = Learner::new();
        learner.hears(&said(200, Vec::new()), Follows::Yes);
        let folder = Path::new("/store/config");
        let load = || {
            let known = Known::default();
            let disk = Arc::new(learner.disk.clone());
            let (_, lacks) = known.load(disk, folder, (End::Whole, OURS - 7)).unwrap();
            let known = known.now().unwrap();
            (lacks, known.followed, known.lost_bytes)
        };
        assert_eq!(load(), (Lacks::Unknown, false, 7));
        assert_eq!(load(), (Lacks::Unknown, false, 7), "nor at the next start");
        // Whatever the master says then, that was.
        let known = learner
            .restarted(End::Whole)
            .hears(&said(200, Vec::new()), Follows::Yes);
        assert_eq!((known.followed, known.lost_bytes), (true, 7));
        let promoted = HaStatus {
            epoch: Some("1.2".to_owned()),
            ..said(200, Vec::new())
        };
        assert_eq!(learner.hears(&promoted, Follows::Yes).lost_bytes, 0);
    }

    /// Where its log ends.
    const OURS: i64 = 100;

    /// A slave that learns, on a disk that does what it is told.
    struct Learner {
        disk: FaultyDisk,
        known: Known,
        file: File,
        lacks: Lacks,
    }

    impl Learner {
        fn start(disk: FaultyDisk, end: End) -> Self {
            let known = Known::default();
            let folder = Path::new("/store/config");
            let held = Arc::new(disk.clone());
            let (file, lacks) = known.load(held, folder, (end, OURS)).unwrap();
            Self {
                disk,
                known,
                file,
                lacks,
            }
        }

        fn new() -> Self {
            Self::start(FaultyDisk::new(1), End::Whole)
        }

        fn restarted(&self, end: End) -> Self {
            Self::start(self.disk.clone(), end)
        }

        fn hears(&self, said: &HaStatus, follows: Follows) -> HaMaster {
            self.known
                .note(&self.file, (MASTER, said), (follows, OURS))
                .unwrap();
            self.known.now().unwrap()
        }
    }

    #[test]
    fn who_acknowledged_once_is_not_forgotten() {
        let learner = Learner::new();
        let three = vec![slave(1, 50), slave(2, 100), slave(3, -1)];
        learner.hears(&said(100, three), Follows::Yes);
        let known = learner.hears(&said(200, vec![slave(1, 200)]), Follows::Yes);
        assert_eq!(known.slave_ids, [1, 2], "3 has said nothing");
        assert_eq!(
            (known.max_offset, known.address.as_deref()),
            (200, Some(MASTER))
        );
        let changes = learner.disk.changes();
        learner.hears(&said(200, vec![slave(1, 200)]), Follows::Yes);
        assert_eq!(learner.disk.changes(), changes, "no news");
    }

    #[test]
    fn whether_it_follows_is_as_it_was_when_it_asked_last() {
        let learner = Learner::new();
        let said = said(100, vec![slave(1, 50)]);
        assert!(learner.hears(&said, Follows::Yes).followed);
        assert!(!learner.hears(&said, Follows::No).followed);
        assert!(!learner.hears(&said, Follows::No).followed);
    }

    #[test]
    fn what_is_said_outlives_the_process() {
        let learner = Learner::new();
        let said = said(100, vec![slave(1, 50)]);
        for operation in [Operation::Write, Operation::Sync, Operation::Rename] {
            learner.disk.fail(operation, 1, libc::EIO);
            let noted = learner
                .known
                .note(&learner.file, (MASTER, &said), (Follows::Yes, OURS));
            assert!(noted.is_err(), "{operation:?}");
            assert!(!learner.known.now().unwrap().followed, "{operation:?}");
        }
        // It is news still.
        assert!(learner.hears(&said, Follows::Yes).followed);
        learner.disk.kill();
        assert!(learner.restarted(End::Whole).known.now().unwrap().followed);
    }

    #[test]
    fn while_news_are_being_kept_nobody_hears_of_them() {
        let learner = Learner::new();
        let said = said(100, vec![slave(1, 50)]);
        learner.disk.hold_syncs(true);
        let before = learner.disk.changes();
        thread::scope(|scope| {
            let noting = scope.spawn(|| learner.hears(&said, Follows::Yes));
            while learner.disk.changes() == before {
                thread::yield_now();
            }
            assert_eq!(learner.known.now(), None);
            learner.disk.hold_syncs(false);
            assert!(noting.join().unwrap().followed);
        });
    }

    #[test]
    fn who_is_no_master_any_more_is_not_asked_what_it_was() {
        let learner = Learner::new();
        learner.hears(&said(100, vec![slave(1, 50)]), Follows::Yes);
        let fenced = HaStatus {
            is_fenced: true,
            ..said(200, Vec::new())
        };
        let rejoined = HaStatus {
            role: "SLAVE".to_owned(),
            ..said(200, Vec::new())
        };
        for other in [fenced, rejoined] {
            let known = learner.hears(&other, Follows::No);
            assert_eq!((known.max_offset, known.followed), (100, true));
        }
    }

    #[test]
    fn a_new_promotion_begins_anew() {
        let learner = Learner::new();
        let two = vec![slave(1, 50), slave(2, 100)];
        learner.hears(&said(100, two), Follows::Yes);
        let next = HaStatus {
            epoch: Some("2.1".to_owned()),
            ..said(300, vec![slave(4, 0)])
        };
        assert_eq!(learner.hears(&next, Follows::Yes).slave_ids, [4]);
    }

    #[test]
    fn slaves_without_an_id_are_counted_when_they_are_there_together() {
        let learner = Learner::new();
        let three = vec![slave(-1, 0), slave(-1, 0), slave(7, 0)];
        learner.hears(&said(1, three), Follows::Yes);
        let two = vec![slave(-1, 0), slave(7, 0)];
        let known = learner.hears(&said(2, two), Follows::Yes);
        assert_eq!((known.nameless_slaves, &known.slave_ids[..]), (2, &[7][..]));
    }

    #[test]
    fn a_start_keeps_who_was_there() {
        let first = Learner::new();
        first.hears(&said(100, vec![slave(1, 9), slave(2, 9)]), Follows::Yes);
        let second = first.restarted(End::Whole);
        let known = second.known.now().unwrap();
        assert_eq!(
            (known.asked_millis_ago, &known.slave_ids[..]),
            (-1, &[1, 2][..])
        );
        assert_eq!((second.lacks, known.followed), (Lacks::Nothing, true));
        for end in [End::Doubted, End::Whole] {
            let third = first.restarted(end);
            let known = third.known.now().unwrap();
            assert_eq!((third.lacks, known.followed), (Lacks::Unknown, false));
        }
    }
}
