//! What a promotion would lose: pure, from what the replicas of a broker name say of themselves.
//!
//! A `SYNC_MASTER` acknowledges a message when `inSyncReplicas` slaves have it, so any `slaves - inSyncReplicas + 1` slaves
//! together have all that was acknowledged, and the one of them whose log is the longest has it alone: logs of one master
//! are beginnings of each other. Those that count have promised to follow the old master no more, so that nothing is
//! acknowledged behind them. A master that was drained before is better than any of that: where its log ends is known.

use gantry_message::Epoch;
use gantry_wire::bodies::HaFollowing;

/// What happened to the old master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldMaster {
    /// It takes nothing any more, and its log ends there.
    Drained {
        /// Where.
        end: i64,
    },
    /// It does not answer.
    Silent,
}

/// What is known about how the old master acknowledged. How many slaves it had, nobody but an administrator can say for
/// sure: one may have come, acknowledged and gone while this one was away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// It was a `SYNC_MASTER`, or that is not known.
    pub is_sync: bool,
    /// Of a `SYNC_MASTER`: how many slaves had to have a message, as the administrator says; 1 if he does not.
    pub in_sync_replicas: usize,
    /// The same, as it said itself when this slave asked last; it may have been less since.
    pub in_sync_replicas_then: Option<usize>,
    /// How many slaves it had, as the administrator says.
    pub slaves: Option<usize>,
    /// How many slaves this one has heard of that acknowledged something.
    pub acknowledged: usize,
    /// Where its log ended when it was asked last, if it was.
    pub end: Option<i64>,
    /// This slave followed it then: its log was the beginning of the master's. Another log may be as long.
    pub followed: bool,
    /// This slave was the master itself until this promotion, and has not met the master of it since.
    pub gave_way: Option<Epoch>,
    /// This slave knows of this promotion, later than the one of the master that it followed, and has not met its master.
    pub unmet: Option<Epoch>,
}

/// All that is known before a promotion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Where the log of the slave that is to be the master ends.
    pub candidate: i64,
    /// Where those of the other slaves end that answer, by address.
    pub others: Vec<(String, i64)>,
    /// The slaves that do not, or may have lost what they acknowledged.
    pub silent: Vec<String>,
    /// Of those that answer, whose log is neither the beginning of the candidate's nor begins with it.
    pub strangers: Vec<String>,
    /// The old master.
    pub master: OldMaster,
    /// How that one acknowledged.
    pub known: Known,
}

/// What would be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing that was acknowledged under the promise of a copy; of an asynchronous master, nothing that is known of.
    Nothing,
    /// These bytes of the log, which somebody has.
    Bytes {
        /// How many.
        count: i64,
        /// Who has them.
        at: String,
    },
    /// It cannot be told, for this reason.
    Unknown(String),
}

/// What may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// No more than so many bytes of the log.
    Bytes(i64),
    /// Whatever it is.
    All,
}

impl Accepted {
    /// `all`, or a number of bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "all" {
            return Some(Self::All);
        }
        text.parse()
            .ok()
            .filter(|bytes| 0 <= *bytes)
            .map(Self::Bytes)
    }

    /// Whether that may be lost.
    #[must_use]
    pub fn covers(self, loss: &Loss) -> bool {
        match (self, loss) {
            (Self::All, _) | (_, Loss::Nothing) => true,
            (Self::Bytes(accepted), Loss::Bytes { count, .. }) => *count <= accepted,
            (Self::Bytes(_), Loss::Unknown(_)) => false,
        }
    }
}

/// Whether a slave's log was the beginning of its master's when it looked last, with all that it had acknowledged.
#[must_use]
pub fn has_followed(following: &HaFollowing) -> bool {
    match &following.known {
        Some(known) => known.followed,
        // Apache's master does not say what is kept of it.
        None => following.heard_millis_ago != -1,
    }
}

/// A log, as who has it says.
#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    /// Where it begins.
    pub min: i64,
    /// Where it ends.
    pub end: i64,
    /// Where its last record begins; -1: there is none.
    pub last_record: i64,
    /// Where it has something in place of what was lost.
    pub made_up: &'a [i64],
}

impl Log<'_> {
    /// Where two logs have to have the same records for one to be the beginning of the other: logs grow at the end only, so
    /// at the end of the shorter one; and where something was made up.
    #[must_use]
    pub fn places(self, other: Self) -> Vec<i64> {
        let shorter = if self.end <= other.end { self } else { other };
        let min = self.min.max(other.min);
        let mut places = [self.made_up, other.made_up].concat();
        places.push(shorter.last_record);
        places.retain(|at| (min..shorter.end).contains(at));
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Where two logs are the same, if they have anything in common: at the first place that both still have. None, if there is
    /// no such place.
    #[must_use]
    pub fn first_place(self, other: Self) -> Option<i64> {
        let first = self.min.max(other.min);
        (first < self.end.min(other.end)).then_some(first)
    }
}

impl Situation {
    /// What this promotion would lose.
    #[must_use]
    pub fn loss(&self) -> Loss {
        let longest = match self.master {
            OldMaster::Drained { end } => Some(("the old master".to_owned(), end)),
            OldMaster::Silent => {
                if let Some(why) = self.cannot_tell() {
                    return Loss::Unknown(why);
                }
                self.longest()
            }
        };
        match longest {
            Some((at, end)) if self.candidate < end => Loss::Bytes {
                count: end - self.candidate,
                at,
            },
            _ => Loss::Nothing,
        }
    }

    /// Why the slaves that answer need not have everything.
    fn cannot_tell(&self) -> Option<String> {
        let known = &self.known;
        if let Some(epoch) = known.gave_way {
            return Some(format!(
                "it was the master until promotion {epoch}, and has not met who may have taken messages in that one"
            ));
        }
        if !known.followed {
            return Some(
                "this slave did not follow its master when it asked last, or has lost its end since: its log may be another one".to_owned(),
            );
        }
        if let Some(stranger) = self.strangers.first() {
            let mut others = self.others.iter();
            let end = others.find_map(|(at, end)| (at == stranger).then(|| format!(" and {end}")));
            return Some(format!(
                "its log and that of {stranger} are not the same as far as both go (they end at {}{}): the master may have lost \
                 messages, and only one of the two followed it since, which need not be the one with the longer log",
                self.candidate,
                end.unwrap_or_default()
            ));
        }
        if !known.is_sync {
            return known.unmet.map(|epoch| {
                format!("it has not met who may have taken messages in promotion {epoch}")
            });
        }
        let answering = 1 + self.others.len();
        let seen = known.acknowledged.max(answering + self.silent.len());
        let Some(slaves) = known.slaves else {
            return Some(format!(
                "the old master does not answer, and only an administrator can say how many slaves it had \
                 (--slaves N); this one knows of {seen}, itself included"
            ));
        };
        if slaves < seen {
            return Some(format!("there were {seen} slaves, and not {slaves}"));
        }
        let copies = known.in_sync_replicas.max(1);
        if let Some(then) = known.in_sync_replicas_then.filter(|then| *then < copies) {
            return Some(format!(
                "the old master acknowledged what {then} of its slaves had when this one asked last, and not {copies} (--inSyncReplicas)"
            ));
        }
        let needed = slaves.saturating_add(1).saturating_sub(copies).max(1);
        if needed <= answering {
            return None;
        }
        let silent = match &self.silent[..] {
            [] => String::new(),
            silent => format!(
                " ({} does not, or did not follow its master when it asked last)",
                silent.join(", ")
            ),
        };
        Some(format!(
            "the master had {slaves} slaves and acknowledged what {copies} of them had: {needed} have to answer, {answering} do{silent}"
        ))
    }

    /// Who has more than everybody else; an asynchronous master did not wait for anybody to have it.
    fn longest(&self) -> Option<(String, i64)> {
        let master = (!self.known.is_sync).then_some(self.known.end).flatten();
        let master = master.map(|end| ("the old master".to_owned(), end));
        let others = self.others.iter().cloned();
        others.chain(master).max_by_key(|(_, end)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn situation(slaves: usize, in_sync_replicas: usize) -> Situation {
        Situation {
            candidate: 1_000,
            others: Vec::new(),
            silent: Vec::new(),
            strangers: Vec::new(),
            master: OldMaster::Silent,
            known: Known {
                is_sync: true,
                in_sync_replicas,
                in_sync_replicas_then: Some(2),
                slaves: Some(slaves),
                acknowledged: 1,
                end: Some(5_000),
                followed: true,
                gave_way: None,
                unmet: None,
            },
        }
    }

    fn other(end: i64) -> (String, i64) {
        ("other:1".to_owned(), end)
    }

    #[test]
    fn the_only_slave_of_a_sync_master_has_all_that_was_acknowledged() {
        assert_eq!(situation(1, 1).loss(), Loss::Nothing);
    }

    #[test]
    fn how_many_slaves_there_were_somebody_has_to_say() {
        let mut unsaid = situation(1, 1);
        unsaid.known.slaves = None;
        assert!(matches!(unsaid.loss(), Loss::Unknown(why) if why.contains("--slaves N")));
        // Who is known of counts, whatever is said.
        let mut forgotten = situation(1, 1);
        forgotten.known.acknowledged = 2;
        assert!(
            matches!(forgotten.loss(), Loss::Unknown(why) if why.contains("2 slaves, and not 1"))
        );
    }

    #[test]
    fn a_log_that_is_as_long_need_not_be_the_same() {
        let mut other = situation(1, 1);
        other.known.followed = false;
        assert!(matches!(other.loss(), Loss::Unknown(why) if why.contains("another one")));
    }

    #[test]
    fn logs_of_which_none_is_the_beginning_of_the_other_tell_nothing() {
        let same = Situation {
            others: vec![other(900)],
            ..situation(2, 1)
        };
        assert_eq!(same.loss(), Loss::Nothing);
        let stranger = Situation {
            strangers: vec!["other:1".to_owned()],
            ..same
        };
        let loss = stranger.loss();
        assert!(matches!(&loss, Loss::Unknown(why) if why.contains("that of other:1")));
        assert!(matches!(&loss, Loss::Unknown(why) if why.contains("end at 1000 and 900)")));
        assert!(!Accepted::Bytes(i64::MAX).covers(&loss));
        // Who was the master says where the log ends.
        let drained = Situation {
            master: OldMaster::Drained { end: 1_000 },
            ..stranger
        };
        assert_eq!(drained.loss(), Loss::Nothing);
    }

    #[test]
    fn logs_are_compared_at_the_end_of_the_shorter_one_and_where_something_was_made_up() {
        let log = |min, end, made_up| Log {
            min,
            end,
            last_record: end - 10,
            made_up,
        };
        let (short, long) = (log(0, 500, &[40][..]), log(100, 900, &[30, 200, 600][..]));
        assert_eq!(short.places(long), [200, 490]);
        assert_eq!(long.places(short), [200, 490]);
        assert_eq!(short.places(short), [40, 490]);
        // All that is there of one was deleted at the other.
        assert_eq!(short.places(log(500, 900, &[])), [0; 0]);
        let empty = Log {
            last_record: -1,
            ..log(0, 0, &[])
        };
        assert_eq!(empty.places(long), [0; 0]);
        assert_eq!(short.first_place(long), Some(100));
        assert_eq!(short.first_place(log(500, 900, &[])), None);
        assert_eq!(empty.first_place(short), None);
    }

    #[test]
    fn who_may_have_been_the_master_since_nobody_vouches_for() {
        let epoch = Epoch::NONE.next(2);
        let mut before = situation(1, 1);
        before.known.gave_way = Some(epoch);
        assert!(matches!(before.loss(), Loss::Unknown(why) if why.contains("until promotion 1.2")));
        let mut unmet = situation(1, 1);
        unmet.known.unmet = Some(epoch);
        assert_eq!(
            unmet.loss(),
            Loss::Nothing,
            "nothing is acknowledged without its only slave"
        );
        unmet.known.is_sync = false;
        unmet.candidate = 5_000;
        assert!(matches!(unmet.loss(), Loss::Unknown(why) if why.contains("promotion 1.2")));
    }

    #[test]
    fn a_slave_that_does_not_answer_may_have_what_the_others_lack() {
        let two = situation(2, 1);
        assert!(matches!(two.loss(), Loss::Unknown(_)));
        // Both had to have it.
        assert_eq!(situation(2, 2).loss(), Loss::Nothing);
        // Not as far as is known: whoever says so would lose what the other one has.
        let mut fewer = situation(2, 2);
        fewer.known.in_sync_replicas_then = Some(1);
        assert!(matches!(fewer.loss(), Loss::Unknown(why) if why.contains("1 of its slaves")));
        let silent = Situation {
            silent: vec!["gone:1".into()],
            ..two.clone()
        };
        assert!(matches!(silent.loss(), Loss::Unknown(why) if why.contains("gone:1")));
        let answering = Situation {
            others: vec![other(1_000)],
            ..two
        };
        assert_eq!(answering.loss(), Loss::Nothing);
        let third = Situation {
            others: vec![other(900)],
            ..situation(3, 2)
        };
        assert_eq!(third.loss(), Loss::Nothing);
    }

    #[test]
    fn what_another_slave_has_more_is_lost_and_counted() {
        let behind = Situation {
            others: vec![other(1_200), other(1_100)],
            ..situation(3, 1)
        };
        let loss = behind.loss();
        assert_eq!(
            loss,
            Loss::Bytes {
                count: 200,
                at: "other:1".into()
            }
        );
        assert!(!Accepted::Bytes(199).covers(&loss));
        assert!(Accepted::Bytes(200).covers(&loss));
    }

    #[test]
    fn a_drained_master_says_where_its_log_ends_and_nobody_else_is_needed() {
        let drained = |end| Situation {
            master: OldMaster::Drained { end },
            silent: vec!["gone:1".into()],
            ..situation(2, 1)
        };
        assert_eq!(drained(1_000).loss(), Loss::Nothing);
        assert_eq!(
            drained(1_001).loss(),
            Loss::Bytes {
                count: 1,
                at: "the old master".into()
            }
        );
    }

    #[test]
    fn an_asynchronous_master_had_what_it_said_last() {
        let mut gone = situation(1, 1);
        gone.known.is_sync = false;
        gone.known.slaves = None;
        assert_eq!(
            gone.loss(),
            Loss::Bytes {
                count: 4_000,
                at: "the old master".into()
            }
        );
        gone.candidate = 5_000;
        assert_eq!(gone.loss(), Loss::Nothing);
    }

    #[test]
    fn what_is_not_known_is_covered_by_all_only() {
        let unknown = situation(2, 1).loss();
        assert!(!Accepted::Bytes(i64::MAX).covers(&unknown));
        assert!(Accepted::All.covers(&unknown));
        assert_eq!(Accepted::parse("all"), Some(Accepted::All));
        assert_eq!(Accepted::parse("17"), Some(Accepted::Bytes(17)));
        for odd in ["", "-1", "ALL", "1k"] {
            assert_eq!(Accepted::parse(odd), None, "{odd}");
        }
    }
}
