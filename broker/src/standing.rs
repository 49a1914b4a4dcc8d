//! What the service manager hears of a broker: how far its recovery is, what it does while it serves, and whether the
//! way of a message to the disk still gets on and the I/O shards turn.
//!
//! Nothing here waits for a disk: a broker whose disk hangs must still be able to say so, or to leave out the sign of
//! life on which it is restarted.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gantry_net::Pulses;
use gantry_service::{
    notify,
    watchdog::{self, Work},
};
use gantry_store::{AppendError, Phase, RecoveryWatch, Stage, Store};
use tokio::{sync::watch, time};

use crate::{
    config::{BrokerRole, name_server_list},
    latch,
    live::LiveConfig,
    metrics::Board,
    pairing::Pairing,
    registration::Registration,
    stats::Stats,
};

/// How often a serving broker says what it does when nothing happens.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Two words are at least so far apart.
const WORD_EVERY: Duration = Duration::from_millis(200);
/// Rates are over at least so long.
const RATES_OVER: Duration = Duration::from_secs(1);
/// Recovery says no more than one word in this time.
const RECOVERY_WORD_EVERY: Duration = Duration::from_secs(1);
/// A start or stop that has just got on gets so much longer.
pub(crate) const MORE_TIME: Duration = Duration::from_secs(120);

/// So that nobody overlooks it.
const LOST: &str = "THE LOG WAS LOST: no file of it was there at the start";

/// The parts that know how a broker does.
pub(crate) struct Standing {
    live: Arc<LiveConfig>,
    store: Arc<Store>,
    stats: Arc<Stats>,
    registration: Arc<Registration>,
    pub(crate) pairing: Arc<Pairing>,
    /// Of the I/O shards.
    pulses: Pulses,
    /// Keys that were changed in files and need a restart.
    need_restart: Mutex<Vec<&'static str>>,
    last: Mutex<Sample>,
    /// Told after every change of the configuration, when those that follow it have: draining is one.
    changed: Arc<watch::Sender<()>>,
}

/// What was counted at a moment.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    put: u64,
    got: u64,
    /// Messages in and out a second until then.
    rates: (f64, f64),
}

impl Standing {
    pub(crate) fn new(
        live: Arc<LiveConfig>,
        store: Arc<Store>,
        stats: Arc<Stats>,
        (registration, pairing): (Arc<Registration>, Arc<Pairing>),
        pulses: Pulses,
    ) -> Arc<Standing> {
        let last = Mutex::new(Sample::of(&stats));
        let changed = Arc::new(watch::Sender::new(()));
        let told = Arc::clone(&changed);
        live.follow(move |_| {
            told.send_replace(());
        });
        Arc::new(Standing {
            live,
            store,
            stats,
            registration,
            pairing,
            pulses,
            need_restart: Mutex::default(),
            last,
            changed,
        })
    }

    /// Names what waits for a restart; the words go on until then.
    pub(crate) fn needs_restart(&self, keys: Vec<&'static str>) {
        *lock(&self.need_restart) = keys;
    }

    /// What it does, in a line.
    pub(crate) fn text(&self) -> String {
        let config = self.live.now();
        let mut text = match self.store.check_writable() {
            Err(AppendError::Latched { error }) => latch::status(&error),
            Err(error) => self
                .pairing
                .notice()
                .unwrap_or_else(|| format!("Serving, but takes no messages: {error}")),
            Ok(()) => self.serving(config.store.broker_role),
        };
        if self.store.has_lost_its_log() {
            text = format!("{LOST}; {text}");
        }
        if self.pairing.is_degraded() {
            text += "; DEGRADED: messages are acknowledged without a copy at a slave";
        }
        let asked = config.namesrv_addr.as_deref().unwrap_or_default();
        let (asked, has) = (
            name_server_list(asked).count(),
            self.registration.registered_at().len(),
        );
        if asked == 0 {
            text += "; no name server is configured";
        } else if let Some(refusal) = self.registration.refusal() {
            text += &format!("; {refusal}");
        } else if has == 0 {
            text += "; NOT REGISTERED at any name server";
        } else if has < asked {
            text += &format!("; registered at {has} of {asked} name servers");
        }
        if config.server.is_insecure() {
            text += "; INSECURE: open to everybody (bindAddress, adminOpen)";
        }
        let waiting = lock(&self.need_restart).join(", ");
        if !waiting.is_empty() {
            text += &format!("; a restart is needed for {waiting}");
        }
        text
    }

    /// Why it does not serve as it should; nothing: it does.
    pub(crate) fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Err(error) = self.store.check_writable() {
            reasons.push(format!("no message is taken: {error}"));
        }
        let config = self.live.now();
        // A slave gets what was lost from its master.
        if self.store.has_lost_its_log() && config.store.broker_role != BrokerRole::Slave {
            reasons.push(format!("{LOST}; a restart goes on without"));
        }
        let asked = config.namesrv_addr.as_deref().unwrap_or_default();
        let asked = name_server_list(asked).count();
        if asked != 0 && self.registration.registered_at().is_empty() {
            reasons.push(format!("registered at none of {asked} name servers"));
        }
        reasons
    }

    /// What every message passes: the I/O shards, and what takes it to the disk.
    pub(crate) fn works(&self) -> Vec<Work> {
        let shards = Work {
            name: "I/O threads",
            busy: self.pulses.look(),
        };
        let mut works = works(&self.store).to_vec();
        works.push(shards);
        works
    }

    fn serving(&self, role: BrokerRole) -> String {
        let (put, got) = self.rates();
        let role = if role == BrokerRole::Slave {
            "slave"
        } else {
            "master"
        };
        let disk = self.store.disks_then().log;
        let disk = disk.map_or(String::new(), |percent| format!("; disk {percent} %"));
        format!(
            "Serving as {role}; {} msg/s in, {} out{disk}",
            short(put),
            short(got)
        )
    }

    /// Messages in and out a second, since they were last asked for.
    fn rates(&self) -> (f64, f64) {
        let (mut now, mut last) = (Sample::of(&self.stats), lock(&self.last));
        let passed = now.at.duration_since(last.at);
        if RATES_OVER <= passed {
            let rate = |after: u64, before: u64| {
                after.saturating_sub(before) as f64 / passed.as_secs_f64()
            };
            now.rates = (rate(now.put, last.put), rate(now.got, last.got));
            *last = now;
        }
        last.rates
    }

    /// Says it again and again, and at once when the broker is drained, degraded, or the end of either, for as long as
    /// it is polled.
    pub(crate) async fn tell(self: Arc<Self>) {
        let mut due = self.next_word();
        loop {
            due.await;
            // Before the look: what happens from here on is heard, while this sleeps too.
            due = self.next_word();
            notify::status(&self.text());
            time::sleep(WORD_EVERY).await;
        }
    }

    /// Until something happens after this call, or it is time to say the same again.
    pub(crate) fn next_word(&self) -> impl Future<Output = ()> + use<> {
        let (mut changed, mut turns) = (self.changed.subscribe(), self.pairing.acks.turns());
        async move {
            // An error says that nothing happens any more: the broker has stopped.
            tokio::select! {
                () = time::sleep(TELL_EVERY) => {}
                _ = changed.changed() => {}
                _ = turns.changed() => {}
            }
        }
    }

    /// Gives signs of life while every message's way to the disk gets on and connections are served, for as long as it
    /// is polled.
    pub(crate) async fn live(self: Arc<Self>) {
        watchdog::feed(|| self.works()).await;
    }
}

/// What every stored message passes.
pub(crate) fn works(store: &Store) -> [Work; 3] {
    let busy = store.busy();
    [
        ("commit", busy.commit),
        ("sync of the log", busy.sync),
        ("queue files", busy.queues),
    ]
    .map(|(name, busy)| Work { name, busy })
}

impl Sample {
    fn of(stats: &Stats) -> Sample {
        let counts = stats.counts();
        Sample {
            at: Instant::now(),
            put: counts.put_messages,
            got: counts.get_messages,
            rates: (0.0, 0.0),
        }
    }
}

/// Says how far recovery is, and asks for more time: it is only called when recovery has got on.
pub(crate) fn recovering(board: Arc<Board>) -> RecoveryWatch {
    let last: Mutex<Option<(Phase, Instant)>> = Mutex::new(None);
    RecoveryWatch::new(move |stage| {
        board.recovering(stage);
        let mut last = lock(&last);
        let is_due = last
            .is_none_or(|(phase, at)| phase != stage.phase || RECOVERY_WORD_EVERY <= at.elapsed());
        if is_due {
            *last = Some((stage.phase, Instant::now()));
            notify::status(&recovery(stage));
            notify::extend_timeout(MORE_TIME);
        }
    })
}

/// How far recovery is, in words.
pub(crate) fn recovery(stage: Stage) -> String {
    let Stage { phase, done, total } = stage;
    let phase = phase.as_str();
    if total == 0 {
        return format!("Recovering: {phase}");
    }
    let percent = u128::from(done) * 100 / u128::from(total);
    format!(
        "Recovering: {phase}, {percent} % of {} MiB",
        total.div_ceil(1 << 20)
    )
}

/// `0`, `7`, `950`, `12.3k`, `1.2M`.
fn short(rate: f64) -> String {
    if rate < 999.5 {
        format!("{rate:.0}")
    } else if rate < 999_950.0 {
        format!("{:.1}k", rate / 1e3)
    } else {
        format!("{:.1}M", rate / 1e6)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_recovery_are_said_in_few_words() {
        for (rate, text) in [
            (0.0, "0"),
            (0.4, "0"),
            (7.0, "7"),
            (999.4, "999"),
            (999.5, "1.0k"),
            (12_345.0, "12.3k"),
            (999_949.0, "999.9k"),
            (1_234_567.0, "1.2M"),
        ] {
            assert_eq!(short(rate), text, "{rate}");
        }
        let stage = |phase, done, total| Stage { phase, done, total };
        for (stage, text) in [
            (stage(Phase::Queues, 0, 0), "Recovering: loading queues"),
            (
                stage(Phase::Log, 41 << 20, 100 << 20),
                "Recovering: reading the log, 41 % of 100 MiB",
            ),
            (
                stage(Phase::Log, u64::MAX, u64::MAX),
                "Recovering: reading the log, 100 % of 17592186044416 MiB",
            ),
        ] {
            assert_eq!(recovery(stage), text);
        }
    }
}
