//! What a broker is among the brokers of its name, and since which promotion: the file `gantry.epoch` of its store.
//!
//! Pure. A broker that was never part of a promotion has no such file and is what its configuration says. From the first
//! promotion it hears of, the file decides who is master and who is slave, and the configuration only the rest: so no
//! restart and no old configuration brings a second master back (decision 30). Each function makes the next seat from the
//! present one; whoever calls it makes that durable before anything else follows from it.
//!
//! ```text
//! gantry-epoch 1
//! name=broker-a
//! epoch=3.1             the newest promotion that this broker knows of: what it obeys, or its own
//! part=SYNC_MASTER      or ASYNC_MASTER, SLAVE, FENCED
//! brokerId=0
//! gaveWay=no            yes: see Seat::gave_way
//! by=10.0.0.9:41822     who told of it
//! crc=89abcdef
//! ```

use gantry_message::Epoch;
use gantry_store::format::checked;

const FIRST_LINE: &str = "gantry-epoch 1";
/// Longer words on who told of it are cut.
const BY_MAX: usize = 200;

/// What a master waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// `ASYNC_MASTER`
    Async,
    /// `SYNC_MASTER`
    Sync,
}

/// What a broker is to the others of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It takes messages.
    Master(Copies),
    /// It copies a master, under this id.
    Slave(u64),
    /// It was a master, and there is a newer one: it takes nothing and is in no route until it rejoins as a slave.
    Fenced,
}

/// A part, and the newest promotion that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// A master's own; what others obey.
    pub epoch: Epoch,
    /// What it is.
    pub part: Part,
    /// It was the master until this promotion began: whoever promotes fenced it, having seen that it was the master, and its
    /// log ends where the master's did. It has found no master of that promotion, which need not be finished.
    pub gave_way: bool,
    /// Who told of the epoch, for people.
    pub by: String,
}

/// Why a seat does not change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeatError {
    /// A master is not promoted.
    #[error("this broker is {part} at epoch {epoch}; only a slave or a fenced master is promoted")]
    NoSlave {
        /// What it is.
        part: &'static str,
        /// Since when.
        epoch: Epoch,
    },
    /// Another promotion is known already.
    #[error("epoch {asked} is not newer than {known}, which this broker knows of")]
    Old {
        /// What was asked for.
        asked: Epoch,
        /// What is known.
        known: Epoch,
    },
    /// The promotion of another replica.
    #[error("epoch {asked} belongs to the replica with brokerId {}, this one has {id}", .asked.holder)]
    NotOurs {
        /// What was asked for.
        asked: Epoch,
        /// Our id.
        id: u64,
    },
    /// A master that nobody replaced.
    #[error(
        "this broker is the master at epoch {epoch}, and {asked} is not newer: promote another broker first"
    )]
    StillMaster {
        /// Its epoch.
        epoch: Epoch,
        /// The epoch of the one it should follow.
        asked: Epoch,
    },
    /// 0 is a master's.
    #[error("brokerId 0 is a master's; a slave's is 1 or more")]
    MasterId,
    /// A number that nobody reaches.
    #[error(
        "epoch {asked} is more than {} promotions ahead of {known}, the newest one known here: it is not believed",
        Epoch::AHEAD_MAX
    )]
    Unbelievable {
        /// What was said.
        asked: Epoch,
        /// What is known.
        known: Epoch,
    },
    /// It is one already.
    #[error("this broker is slave {id} already, at epoch {epoch}")]
    AlreadySlave {
        /// Its id.
        id: u64,
        /// The epoch that it knows of.
        epoch: Epoch,
    },
    /// The master was replaced.
    #[error(
        "the master there has epoch {theirs}, and {known} is known here: it was replaced and must not be followed"
    )]
    Replaced {
        /// The master's.
        theirs: Epoch,
        /// What is known.
        known: Epoch,
    },
}

impl Part {
    /// As the file, the tools and the metrics say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Master(Copies::Sync) => "SYNC_MASTER",
            Self::Master(Copies::Async) => "ASYNC_MASTER",
            Self::Slave(_) => "SLAVE",
            Self::Fenced => "FENCED",
        }
    }

    fn kind(self) -> std::mem::Discriminant<Self> {
        std::mem::discriminant(&self)
    }
}

impl Seat {
    /// That of a broker without a file.
    #[must_use]
    pub fn configured(part: Part) -> Self {
        Self {
            epoch: Epoch::NONE,
            part,
            gave_way: false,
            by: String::new(),
        }
    }

    /// The seat that a start takes, from what the file and the configuration say. A configuration that agrees on who is
    /// master decides the rest; one that makes a slave of a fenced master does what `rejoin` does.
    #[must_use]
    pub fn at_start(saved: Self, configured: Part) -> Self {
        let agrees = saved.part.kind() == configured.kind();
        let rejoins = saved.part == Part::Fenced && matches!(configured, Part::Slave(_));
        Self {
            part: if agrees || rejoins {
                configured
            } else {
                saved.part
            },
            ..saved
        }
    }

    /// Whether it may take messages.
    #[must_use]
    pub fn is_master(&self) -> bool {
        matches!(self.part, Part::Master(_))
    }

    /// Whether there can be such a promotion.
    pub fn believe(&self, epoch: Epoch) -> Result<(), SeatError> {
        if !epoch.can_follow(self.epoch) {
            return Err(SeatError::Unbelievable {
                asked: epoch,
                known: self.epoch,
            });
        }
        Ok(())
    }

    /// Somebody knows of this promotion. The next seat, if that is news: a master is fenced, others obey from now on.
    #[must_use]
    pub fn hear(&self, epoch: Epoch, by: &str) -> Option<Self> {
        (self.epoch < epoch).then(|| Self {
            epoch,
            part: match self.part {
                Part::Master(_) | Part::Fenced => Part::Fenced,
                slave @ Part::Slave(_) => slave,
            },
            gave_way: false,
            by: short(by),
        })
    }

    /// As [`Seat::hear`], told by whoever promotes and has seen that this is the seat: a master gives way, and one that gave
    /// way to a replica gives way to the same one again.
    #[must_use]
    pub fn agree(&self, epoch: Epoch, by: &str) -> Option<Self> {
        let gave_way = self.is_master() || self.gave_way && epoch.holder == self.epoch.holder;
        self.hear(epoch, by).map(|next| Self { gave_way, ..next })
    }

    /// It has found a master of its promotion, and is about to follow it.
    #[must_use]
    pub fn met(&self) -> Option<Self> {
        self.gave_way.then(|| Self {
            gave_way: false,
            ..self.clone()
        })
    }

    /// A slave becomes the master of this epoch, which must be its own: nobody else can have been promoted in it. So does
    /// a fenced master, under the id that its configuration has, when nobody took its place.
    pub fn promote(
        &self,
        epoch: Epoch,
        (copies, configured_id): (Copies, u64),
        by: &str,
    ) -> Result<Self, SeatError> {
        let id = match self.part {
            Part::Slave(id) => id,
            Part::Fenced => configured_id,
            Part::Master(_) => {
                return Err(SeatError::NoSlave {
                    part: self.part.name(),
                    epoch: self.epoch,
                });
            }
        };
        if epoch.holder != id {
            return Err(SeatError::NotOurs { asked: epoch, id });
        }
        if epoch < self.epoch || !epoch.is_some() {
            return Err(SeatError::Old {
                asked: epoch,
                known: self.epoch,
            });
        }
        Ok(Self {
            epoch,
            part: Part::Master(copies),
            gave_way: false,
            by: short(by),
        })
    }

    /// It becomes a slave of the master that has this epoch.
    pub fn rejoin(&self, epoch: Epoch, id: u64, by: &str) -> Result<Self, SeatError> {
        if id == 0 {
            return Err(SeatError::MasterId);
        }
        if epoch < self.epoch {
            return Err(SeatError::Replaced {
                theirs: epoch,
                known: self.epoch,
            });
        }
        if let Part::Slave(own) = self.part
            && (own, self.epoch) != (id, epoch)
        {
            return Err(SeatError::AlreadySlave {
                id: own,
                epoch: self.epoch,
            });
        }
        if self.is_master() && epoch == self.epoch {
            return Err(SeatError::StillMaster {
                epoch: self.epoch,
                asked: epoch,
            });
        }
        Ok(Self {
            epoch,
            part: Part::Slave(id),
            gave_way: false,
            by: short(by),
        })
    }

    /// Whether a master with that epoch may be followed.
    pub fn may_follow(&self, theirs: Epoch) -> Result<(), SeatError> {
        if theirs < self.epoch {
            return Err(SeatError::Replaced {
                theirs,
                known: self.epoch,
            });
        }
        Ok(())
    }

    /// Whether a log that was compared with that of the master of this promotion may still lose its end: what whoever promotes
    /// was told of it since must stay.
    #[must_use]
    pub fn may_cut(&self, theirs: Epoch) -> bool {
        matches!(self.part, Part::Slave(_)) && self.epoch == theirs
    }

    /// The whole file, of a broker of that name.
    #[must_use]
    pub fn encode(&self, name: &str) -> Vec<u8> {
        let id = match self.part {
            Part::Slave(id) => id,
            Part::Master(_) | Part::Fenced => 0,
        };
        let (epoch, part, by) = (self.epoch, self.part.name(), &self.by);
        let name = name.escape_default();
        let gave_way = if self.gave_way { "yes" } else { "no" };
        let text = format!(
            "{FIRST_LINE}\nname={name}\nepoch={epoch}\npart={part}\nbrokerId={id}\ngaveWay={gave_way}\nby={by}\n"
        );
        checked::with_crc(text)
    }

    /// The seat, and the name of the broker that it is of, escaped; `None` for a file that is torn, changed or of another
    /// version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<(Self, String)> {
        let mut lines = checked::lines(bytes, FIRST_LINE)?;
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix('=');
        let name = value("name")?.to_owned();
        let epoch = value("epoch")?.parse().ok()?;
        let part = value("part")?;
        let id: u64 = value("brokerId")?.parse().ok()?;
        let gave_way = match value("gaveWay")? {
            "yes" => true,
            "no" => false,
            _ => return None,
        };
        let by = value("by")?.to_owned();
        let part = match (part, id) {
            ("SYNC_MASTER", 0) => Part::Master(Copies::Sync),
            ("ASYNC_MASTER", 0) => Part::Master(Copies::Async),
            ("FENCED", 0) => Part::Fenced,
            ("SLAVE", 1..) => Part::Slave(id),
            _ => return None,
        };
        let seat = Self {
            epoch,
            part,
            gave_way,
            by,
        };
        Some((seat, name))
    }
}

/// On one line, and not longer than anybody reads.
fn short(by: &str) -> String {
    by.chars()
        .filter(|letter| !letter.is_control())
        .take(BY_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: Part = Part::Master(Copies::Sync);

    fn epoch(number: u64, holder: u64) -> Epoch {
        Epoch { number, holder }
    }

    fn seat(number: u64, holder: u64, part: Part) -> Seat {
        Seat {
            epoch: epoch(number, holder),
            part,
            gave_way: false,
            by: "somebody".into(),
        }
    }

    #[test]
    fn a_file_says_what_was_written_and_a_changed_one_nothing() {
        for part in [
            MASTER,
            Part::Master(Copies::Async),
            Part::Slave(7),
            Part::Fenced,
        ] {
            let seat = Seat {
                gave_way: part == Part::Fenced,
                ..seat(4, 1, part)
            };
            let bytes = seat.encode("broker-a");
            assert_eq!(Seat::decode(&bytes), Some((seat, "broker-a".to_owned())));
            for at in 0..bytes.len() - 1 {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                assert_eq!(Seat::decode(&changed), None, "byte {at}");
                assert_eq!(Seat::decode(&bytes[..at]), None, "cut at {at}");
            }
        }
        let odd = Seat {
            by: short("a\nb=c\r\0"),
            ..seat(1, 1, MASTER)
        };
        let name = "a\nepoch=9.9\u{e9}";
        let (read, of) = Seat::decode(&odd.encode(name)).unwrap();
        assert_eq!((read, of), (odd, name.escape_default().to_string()));
    }

    #[test]
    fn numbers_cannot_be_used_up_at_once() {
        let seat = seat(5, 1, MASTER);
        assert!(seat.believe(epoch(5 + Epoch::AHEAD_MAX, 9)).is_ok());
        assert!(seat.believe(epoch(6 + Epoch::AHEAD_MAX, 0)).is_err());
        assert!(seat.believe(epoch(u64::MAX, u64::MAX)).is_err());
        assert!(seat.believe(epoch(1, 1)).is_ok());
    }

    #[test]
    fn a_newer_promotion_fences_a_master_and_no_older_one_does() {
        let master = seat(2, 1, MASTER);
        for old in [epoch(0, 0), epoch(1, 9), epoch(2, 0), epoch(2, 1)] {
            assert_eq!(master.hear(old, "x"), None, "{old}");
        }
        for new in [epoch(2, 2), epoch(3, 0)] {
            let fenced = master.hear(new, "x").unwrap();
            assert_eq!((fenced.epoch, fenced.part), (new, Part::Fenced));
            assert_eq!(fenced.hear(new, "x"), None);
        }
        let slave = seat(2, 1, Part::Slave(3)).hear(epoch(5, 4), "x").unwrap();
        assert_eq!((slave.epoch, slave.part), (epoch(5, 4), Part::Slave(3)));
    }

    #[test]
    fn a_master_gives_way_to_one_replica_until_it_meets_another_master() {
        let master = seat(2, 1, MASTER);
        let gave_way = |seat: Option<Seat>| {
            let seat = seat.unwrap();
            (seat.epoch, seat.gave_way)
        };
        let fenced = master.agree(epoch(3, 4), "x").unwrap();
        assert_eq!((fenced.part, fenced.gave_way), (Part::Fenced, true));
        assert_eq!(
            gave_way(master.hear(epoch(3, 4), "x")),
            (epoch(3, 4), false)
        );
        let slave = Seat::at_start(fenced, Part::Slave(1));
        assert_eq!((slave.part, slave.gave_way), (Part::Slave(1), true));
        // To the same one in another try, and to nobody in other promotions, which have other masters.
        assert_eq!(gave_way(slave.agree(epoch(4, 4), "x")), (epoch(4, 4), true));
        assert_eq!(
            gave_way(slave.agree(epoch(4, 5), "x")),
            (epoch(4, 5), false)
        );
        assert_eq!(gave_way(slave.hear(epoch(4, 4), "x")), (epoch(4, 4), false));
        assert_eq!(gave_way(slave.met()), (epoch(3, 4), false));
        assert_eq!(slave.met().unwrap().met(), None);
        assert!(
            !seat(2, 1, Part::Slave(1))
                .agree(epoch(3, 4), "x")
                .unwrap()
                .gave_way
        );
    }

    #[test]
    fn a_slave_is_promoted_in_its_own_epoch_and_in_no_older_one() {
        let slave = seat(2, 3, Part::Slave(1));
        let promoted = slave.promote(epoch(3, 1), (Copies::Sync, 0), "x").unwrap();
        assert_eq!((promoted.epoch, promoted.part), (epoch(3, 1), MASTER));
        // It heard of its own promotion from the others, before it was asked itself.
        let told = slave.hear(epoch(3, 1), "x").unwrap();
        assert!(told.promote(epoch(3, 1), (Copies::Sync, 0), "x").is_ok());
        for (asked, expected) in [
            (
                epoch(3, 2),
                SeatError::NotOurs {
                    asked: epoch(3, 2),
                    id: 1,
                },
            ),
            (
                epoch(2, 1),
                SeatError::Old {
                    asked: epoch(2, 1),
                    known: epoch(2, 3),
                },
            ),
        ] {
            assert_eq!(slave.promote(asked, (Copies::Sync, 0), "x"), Err(expected));
        }
        for part in [MASTER, Part::Master(Copies::Async)] {
            let refused = seat(2, 1, part).promote(epoch(3, 1), (Copies::Sync, 0), "x");
            assert!(
                matches!(refused, Err(SeatError::NoSlave { .. })),
                "{part:?}"
            );
        }
        // Nobody took its place.
        let fenced = seat(2, 1, Part::Fenced);
        let back = fenced.promote(epoch(3, 0), (Copies::Sync, 0), "x").unwrap();
        assert_eq!((back.epoch, back.part), (epoch(3, 0), MASTER));
        for (asked, own) in [(epoch(2, 0), 0), (epoch(3, 1), 0), (epoch(3, 0), 1)] {
            let refused = fenced.promote(asked, (Copies::Sync, own), "x");
            assert!(refused.is_err(), "{asked} {own}");
        }
        // The configuration's master has no epoch that somebody could be promoted in.
        let first = Seat::configured(Part::Slave(0));
        assert!(first.promote(Epoch::NONE, (Copies::Sync, 0), "x").is_err());
    }

    #[test]
    fn who_was_replaced_rejoins_and_nobody_else_leaves_a_master() {
        let fenced = seat(3, 1, Part::Fenced);
        let slave = fenced.rejoin(epoch(3, 1), 2, "x").unwrap();
        assert_eq!((slave.epoch, slave.part), (epoch(3, 1), Part::Slave(2)));
        assert_eq!(fenced.rejoin(epoch(3, 1), 0, "x"), Err(SeatError::MasterId));
        let replaced = fenced.rejoin(epoch(2, 1), 2, "x");
        assert!(matches!(replaced, Err(SeatError::Replaced { .. })));
        // Asked twice; and a slave is no replaced master.
        assert_eq!(
            slave.rejoin(epoch(3, 1), 2, "x").map(|seat| seat.part),
            Ok(Part::Slave(2))
        );
        let other = slave.rejoin(epoch(3, 1), 5, "x");
        assert!(matches!(other, Err(SeatError::AlreadySlave { id: 2, .. })));
        let ordinary = Seat::configured(Part::Slave(1)).rejoin(epoch(1, 2), 1, "x");
        assert!(matches!(ordinary, Err(SeatError::AlreadySlave { .. })));
        // A master that has not heard of the newer one yet.
        assert!(seat(2, 1, MASTER).rejoin(epoch(3, 1), 2, "x").is_ok());
        let still = seat(3, 1, MASTER).rejoin(epoch(3, 1), 2, "x");
        assert!(matches!(still, Err(SeatError::StillMaster { .. })));
    }

    #[test]
    fn a_replaced_master_is_not_followed() {
        let slave = seat(3, 1, Part::Slave(1));
        let may_cut = [epoch(2, 1), epoch(3, 1), epoch(4, 2)].map(|theirs| slave.may_cut(theirs));
        assert_eq!(may_cut, [false, true, false]);
        let promoted = seat(3, 1, MASTER);
        assert!(!promoted.may_cut(epoch(3, 1)));
        assert!(slave.may_follow(epoch(3, 1)).is_ok());
        assert!(slave.may_follow(epoch(4, 2)).is_ok());
        assert!(slave.may_follow(epoch(3, 0)).is_err());
        assert!(slave.may_follow(Epoch::NONE).is_err());
    }

    #[test]
    fn a_restart_brings_no_second_master_whatever_the_configuration_says() {
        let check = |saved: Part, configured: Part, expected: Part| {
            let seat = Seat::at_start(seat(2, 1, saved), configured);
            assert_eq!((seat.epoch, seat.part), (epoch(2, 1), expected));
        };
        check(Part::Fenced, MASTER, Part::Fenced);
        check(Part::Fenced, Part::Slave(4), Part::Slave(4));
        check(Part::Slave(1), MASTER, Part::Slave(1));
        check(Part::Slave(1), Part::Slave(4), Part::Slave(4));
        check(MASTER, Part::Slave(4), MASTER);
        let other = Part::Master(Copies::Async);
        check(MASTER, other, other);
    }
}
