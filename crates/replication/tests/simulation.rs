//! A master, a slave and a bad link: whatever is cut, delayed and restarted, the slave's bytes are the master's.
//!
//! A failure names its seed; `GANTRY_SEED=n cargo test -p gantry-replication` replays it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::time::{Duration, Instant};

use gantry_message::LogOffset;
use gantry_replication::{Log, Master, Patience, Received, Refusal, Slave, Step, Wire};

const SEGMENT: u64 = 512;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (limit as u64).max(1)).unwrap()
    }
}

/// Both ends and what is under way between them.
struct Link {
    master: Master,
    slave: Slave,
    /// What the slave was given and may not store yet.
    waiting: Vec<u8>,
    to_slave: Vec<u8>,
    to_master: Vec<u8>,
}

struct World {
    wire: Wire,
    random: Random,
    now: Instant,
    /// The master's whole history; `min` of it is deleted.
    log: Vec<u8>,
    min: u64,
    /// What the slave has, from `from` on.
    from: u64,
    copy: Vec<u8>,
    link: Option<Link>,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            wire: [Wire::Plain, Wire::Checked][usize::try_from(seed % 2).unwrap()],
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now: Instant::now(),
            log: Vec::new(),
            min: 0,
            from: 0,
            copy: Vec::new(),
            link: None,
        }
    }

    fn view(&self) -> Log {
        Log {
            min: LogOffset(self.min),
            newest: LogOffset(self.log.len() as u64 / SEGMENT * SEGMENT),
            end: LogOffset(self.log.len() as u64),
        }
    }

    fn copied_to(&self) -> u64 {
        if self.copy.is_empty() {
            0
        } else {
            self.from + self.copy.len() as u64
        }
    }

    fn connect(&mut self) {
        let patience = Patience::default();
        let end = LogOffset(self.copied_to());
        let mut master = Master::new(patience, self.now);
        if self.wire == Wire::Checked {
            master.invited();
        }
        self.link = Some(Link {
            master,
            slave: Slave::new(self.wire, patience, SEGMENT, end, self.now),
            waiting: Vec::new(),
            to_slave: Vec::new(),
            to_master: Vec::new(),
        });
    }

    fn append(&mut self) {
        for _ in 0..self.random.below(700) {
            let byte = self.random.below(256);
            self.log.push(u8::try_from(byte).unwrap());
        }
    }

    fn master_sends(&mut self) -> Result<(), Refusal> {
        let (view, now) = (self.view(), self.now);
        let len_max = u32::try_from(self.random.below(300) + 1).unwrap();
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        // Blocks end with their segment.
        let next = link.master.next().map_or(0, |next| next.0);
        let left = u32::try_from(SEGMENT - next % SEGMENT).unwrap();
        if let Step::Send(head) = link.master.step(&view, len_max.min(left), now)? {
            let start = usize::try_from(head.start.0).unwrap();
            let bytes = &self.log[start..start + head.len as usize];
            assert!(view.min <= head.start, "deleted bytes are sent");
            link.to_slave.extend(head.encode(self.wire, bytes).bytes());
            link.to_slave.extend(bytes);
            link.master.sent(head, now);
        }
        Ok(())
    }

    fn slave_works(&mut self) -> Result<(), Refusal> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let len = self.random.below(link.to_slave.len() + 1);
        let arrived: Vec<u8> = link.to_slave.drain(..len).collect();
        let mut bytes = &arrived[..];
        while let Some(received) = link.slave.receive(&mut bytes, self.now)? {
            if let Received::Append { at, bytes } = received {
                if self.copy.is_empty() && link.waiting.is_empty() {
                    self.from = at.0;
                }
                let have = self.copy.len() + link.waiting.len();
                assert_eq!(at.0, self.from + have as u64, "a gap");
                link.waiting.extend_from_slice(bytes);
            }
        }
        let stored = self.from + self.copy.len() as u64;
        let ready = link.slave.verified().0.saturating_sub(stored);
        let ready = usize::try_from(ready).unwrap().min(link.waiting.len());
        self.copy.extend(link.waiting.drain(..ready));
        let stored = LogOffset(if self.copy.is_empty() {
            0
        } else {
            self.from + self.copy.len() as u64
        });
        if let Some(report) = link.slave.report(stored, self.now) {
            link.to_master.extend(report.bytes());
        }
        link.slave.wait(self.now)?;
        Ok(())
    }

    fn master_listens(&mut self) -> Result<(), Refusal> {
        let (view, now) = (self.view(), self.now);
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let len = self.random.below(link.to_master.len() + 1);
        let arrived: Vec<u8> = link.to_master.drain(..len).collect();
        link.master.received(&arrived, &view, now)
    }

    fn check(&self) {
        let from = usize::try_from(self.from).unwrap();
        assert_eq!(
            self.copy,
            self.log[from..from + self.copy.len()],
            "other bytes"
        );
        if let Some(link) = &self.link {
            assert!(
                link.master.acknowledged().0 <= self.copied_to(),
                "more is acknowledged than there is"
            );
        }
    }

    fn turn(&mut self) -> Result<(), Refusal> {
        match self.random.below(12) {
            0 => self.append(),
            1 => self.now += Duration::from_millis(self.random.below(4_000) as u64),
            2 if self.random.below(20) == 0 => self.link = None,
            3 if self.link.is_none() => self.connect(),
            4..=6 => self.master_sends()?,
            7..=9 => self.slave_works()?,
            _ => self.master_listens()?,
        }
        Ok(())
    }

    /// Without further trouble the slave catches up.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            let done = self.copied_to() == self.log.len() as u64;
            if done
                && self
                    .link
                    .as_ref()
                    .is_some_and(|link| link.master.acknowledged() == self.view().end)
            {
                return;
            }
            if self.link.is_none() {
                self.connect();
            }
            self.master_sends().unwrap();
            self.slave_works().unwrap();
            self.master_listens().unwrap();
        }
        panic!(
            "{} of {} after everything",
            self.copied_to(),
            self.log.len()
        );
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("GANTRY_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=300).collect(),
    }
}

#[test]
fn the_slave_has_the_master_s_bytes_whatever_happens_to_the_link() {
    let mut silences = 0;
    for seed in seeds() {
        println!("seed {seed}");
        let mut world = World::new(seed);
        world.append();
        for _ in 0..2_000 {
            match world.turn() {
                Ok(()) => {}
                // The clock runs fast here; nothing else may end a link between honest ends.
                Err(Refusal::Silent(_)) => {
                    silences += 1;
                    world.link = None;
                }
                Err(other) => panic!("{other}"),
            }
            world.check();
        }
        world.log.push(0);
        world.link = None;
        world.settle();
        world.check();
    }
    println!("{silences} links ended in silence");
}

#[test]
fn a_slave_behind_the_oldest_byte_is_told_so() {
    let mut world = World::new(7);
    world.log = vec![1; 2_000];
    world.settle();
    world.log.extend(vec![2; 5_000]);
    world.min = 4 * SEGMENT;
    world.connect();
    world.slave_works().unwrap();
    let refusal = loop {
        if let Err(refusal) = world.master_listens().and_then(|()| world.master_sends()) {
            break refusal;
        }
    };
    let (position, min) = (LogOffset(2_000), LogOffset(4 * SEGMENT));
    assert_eq!(refusal, Refusal::BehindStart { position, min });
}

#[test]
fn random_bytes_on_either_end_never_count_and_never_panic() {
    let log = Log {
        min: LogOffset(1 << 20),
        newest: LogOffset((1 << 30) - (1 << 16)),
        end: LogOffset(1 << 30),
    };
    let now = Instant::now();
    for seed in seeds() {
        let mut random = Random(seed << 1 | 1);
        let bytes: Vec<u8> = (0..64)
            .map(|_| u8::try_from(random.below(256)).unwrap())
            .collect();
        let mut master = Master::new(Patience::default(), now);
        master.received(&bytes, &log, now).unwrap_err();
        assert_eq!(master.acknowledged(), LogOffset(0));
        for wire in [Wire::Plain, Wire::Checked] {
            let end = LogOffset(1 << 29);
            let mut slave = Slave::new(wire, Patience::default(), 1 << 16, end, now);
            slave.receive(&mut &bytes[..], now).unwrap_err();
            assert_eq!(slave.end(), end);
        }
        let mut invited = Master::new(Patience::default(), now);
        invited.invited();
        invited.received(&bytes, &log, now).unwrap_err();
        assert_eq!(invited.acknowledged(), LogOffset(0));
    }
}
