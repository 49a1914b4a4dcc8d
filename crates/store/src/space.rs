//! How full the disks of log and queues are, and what follows: a warning, refusal, and the end of refusal.
//!
//! Of several directories of the log the least used counts, as in Apache's broker: it takes the next segment. The
//! queues' disk is looked at for itself. What is deleted for want of space, retention decides.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gantry_disk::{Disk, Usage};

use crate::config::StoreConfig;
use crate::health::Health;

/// A warning is repeated so often.
const REPEAT: Duration = Duration::from_hours(1);
/// The log's growth is measured over so long.
const WINDOW: Duration = Duration::from_mins(1);
/// A warning ends so many percent below where it begins, so that a disk at the limit does not fill the log file.
const SLACK: u64 = 2;

/// How full one disk is.
#[derive(Clone, Debug)]
pub(crate) struct Used {
    dir: PathBuf,
    usage: Usage,
}

impl Used {
    pub(crate) fn percent(&self) -> u64 {
        self.usage.used_percent()
    }

    /// Bytes until it is fuller than `percent`.
    fn bytes_to(&self, percent: u64) -> u64 {
        let used = self.usage.total.saturating_sub(self.usage.free);
        let all = used.saturating_add(self.usage.available);
        (all / 100).saturating_mul(percent).saturating_sub(used)
    }
}

/// How full the store's disks are. What the system does not tell is `None`.
#[derive(Clone, Debug)]
pub(crate) struct Disks {
    /// Every directory of the log.
    logs: Vec<Used>,
    /// The least used of them.
    pub(crate) log: Option<Used>,
    pub(crate) queues: Option<Used>,
}

impl Disks {
    /// The log's directories that should get no new segment.
    pub(crate) fn crowded_logs(&self, config: &StoreConfig) -> Vec<PathBuf> {
        let crowded = |one: &&Used| one.percent() > config.disk_clean_forcibly_ratio;
        self.logs
            .iter()
            .filter(crowded)
            .map(|one| one.dir.clone())
            .collect()
    }
}

/// What was seen and said before.
#[derive(Debug, Default)]
pub(crate) struct Space(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    log_told: Option<Instant>,
    queues_told: Option<Instant>,
    /// Directories whose disk could not be asked.
    unknown: Vec<PathBuf>,
    growth: Growth,
}

/// How fast the log grows.
#[derive(Debug, Default)]
struct Growth {
    /// The beginning of the window, and where the log ended then.
    began: Option<(Instant, u64)>,
    bytes_per_second: Option<u64>,
}

impl Space {
    /// Asks the system.
    pub(crate) fn measure(&self, disk: &dyn Disk, config: &StoreConfig, queues: &Path) -> Disks {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut logs = Vec::new();
        for dir in config.writable_log_dirs() {
            logs.extend(state.ask(disk, &dir));
        }
        // The queues' directory is made with the first message.
        let queues = match disk.usage(queues) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => state.ask(disk, &config.root),
            _ => state.ask(disk, queues),
        };
        let log = logs.iter().min_by_key(|one| one.percent()).cloned();
        Disks { logs, log, queues }
    }

    /// Warns of disks that fill up, refuses messages while one is too full, and takes them again when it is not.
    /// `appended` is where the log ends.
    pub(crate) fn watch(
        &self,
        disks: &Disks,
        config: &StoreConfig,
        health: &Health,
        appended: u64,
    ) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = config.disk_full_ratio;
        let is_full = |one: &&Used| one.percent() > limit;
        match disks.log.iter().chain(&disks.queues).find(is_full) {
            Some(full) => health.disk_full(&full.dir, full.percent(), limit),
            None => health.disk_has_space(),
        }
        let now = Instant::now();
        state.growth.step(now, appended);
        let State {
            log_told,
            queues_told,
            growth,
            ..
        } = &mut *state;
        if let Some(log) = &disks.log {
            notice(log_told, log, config, growth.bytes_per_second, now);
        }
        // Where both are on one disk, one warning is enough.
        let other = |queues: &&Used| {
            disks
                .log
                .as_ref()
                .is_none_or(|log| log.usage != queues.usage)
        };
        if let Some(queues) = disks.queues.as_ref().filter(other) {
            notice(queues_told, queues, config, None, now);
        }
    }
}

impl State {
    fn ask(&mut self, disk: &dyn Disk, dir: &Path) -> Option<Used> {
        match disk.usage(dir) {
            Ok(usage) => {
                self.unknown.retain(|known| known != dir);
                let dir = dir.to_owned();
                Some(Used { dir, usage })
            }
            Err(error) => {
                if !self.unknown.iter().any(|known| known == dir) {
                    tracing::error!(dir = %dir.display(), %error, "cannot tell how full the disk is, its limits do not hold");
                    self.unknown.push(dir.to_owned());
                }
                None
            }
        }
    }
}

impl Growth {
    fn step(&mut self, now: Instant, appended: u64) {
        let (began, start) = *self.began.get_or_insert((now, appended));
        let time = now.saturating_duration_since(began);
        if time >= WINDOW {
            self.bytes_per_second = Some(appended.saturating_sub(start) / time.as_secs().max(1));
            self.began = Some((now, appended));
        }
    }
}

fn notice(
    told: &mut Option<Instant>,
    disk: &Used,
    config: &StoreConfig,
    bytes_per_second: Option<u64>,
    now: Instant,
) {
    let (used, from) = (disk.percent(), config.disk_notice_ratio);
    if used + SLACK <= from && told.take().is_some() {
        tracing::info!(dir = %disk.dir.display(), used, "the disk has room again");
    }
    let is_due = told.is_none_or(|at| now.saturating_duration_since(at) >= REPEAT);
    if used < from || !is_due {
        return;
    }
    *told = Some(now);
    tracing::warn!("{}", warning(disk, config, bytes_per_second));
}

fn warning(disk: &Used, config: &StoreConfig, bytes_per_second: Option<u64>) -> String {
    let (dir, used, limit) = (disk.dir.display(), disk.percent(), config.disk_full_ratio);
    let mut text = format!("the disk of {dir} is {used} % full: ");
    if config.clean_forcibly {
        let forced = config.disk_clean_forcibly_ratio;
        text += &format!("above {forced} % messages are deleted before their time, read or not; ");
    }
    text += &format!("above {limit} % messages are refused");
    let left = disk.bytes_to(limit);
    text += &match bytes_per_second {
        Some(rate) if rate > 0 && left > 0 => {
            let minutes = left / rate / 60;
            format!(
                ", at the present rate ({} MiB/s) in {} h {} min",
                rate >> 20,
                minutes / 60,
                minutes % 60
            )
        }
        _ => format!(", {} MiB from here", left >> 20),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(percent: u64) -> Used {
        let usage = Usage {
            total: 100 << 30,
            free: (100 - percent) << 30,
            available: (100 - percent) << 30,
        };
        let dir = "/d".into();
        Used { dir, usage }
    }

    #[test]
    fn a_warning_says_where_how_full_and_when_it_ends_in_refusal() {
        let config = StoreConfig::default();
        assert_eq!(
            warning(&used(81), &config, Some(2 << 20)),
            "the disk of /d is 81 % full: above 85 % messages are deleted before their time, read or not; above 90 % \
             messages are refused, at the present rate (2 MiB/s) in 1 h 16 min"
        );
        let config = StoreConfig {
            clean_forcibly: false,
            ..config
        };
        assert_eq!(
            warning(&used(81), &config, None),
            "the disk of /d is 81 % full: above 90 % messages are refused, 9216 MiB from here"
        );
    }

    #[test]
    fn the_fuller_disk_of_log_and_queues_refuses_messages() {
        let (space, config) = (Space::default(), StoreConfig::default());
        let health = Health::default();
        let watch = |log: Option<u64>, queues: Option<u64>| {
            let (log, queues) = (log.map(used), queues.map(used));
            let logs = log.clone().into_iter().collect();
            space.watch(&Disks { logs, log, queues }, &config, &health, 0);
            health.check().map_err(|error| error.to_string())
        };
        let full = Err("the disk of /d is 91 % full, the limit is 90 %".to_owned());
        assert_eq!(watch(Some(90), Some(90)), Ok(()));
        assert_eq!(watch(Some(91), Some(10)), full);
        assert_eq!(watch(Some(10), Some(91)), full);
        assert_eq!(watch(Some(10), Some(90)), Ok(()));
        // What the system does not tell stops nothing.
        assert_eq!(watch(None, None), Ok(()));
    }

    #[test]
    fn a_warning_comes_once_an_hour_and_ends_below_where_it_began() {
        let (config, began) = (StoreConfig::default(), Instant::now());
        let mut told = None;
        let mut at = |percent, minutes: u64| {
            let now = began + Duration::from_mins(minutes);
            notice(&mut told, &used(percent), &config, None, now);
            told.map(|told| told.saturating_duration_since(began).as_secs() / 60)
        };
        for (percent, minutes, told) in [
            (79, 0, None),
            (80, 1, Some(1)),
            (95, 2, Some(1)),
            (79, 3, Some(1)),
            (80, 4, Some(1)),
            (80, 61, Some(61)),
            (78, 62, None),
            (80, 63, Some(63)),
        ] {
            assert_eq!(
                at(percent, minutes),
                told,
                "{percent} % after {minutes} min"
            );
        }
    }

    #[test]
    fn growth_is_measured_over_a_minute() {
        let (mut growth, began) = (Growth::default(), Instant::now());
        growth.step(began, 1000);
        growth.step(began + Duration::from_secs(59), 1000 + 59 * 50);
        assert_eq!(growth.bytes_per_second, None);
        growth.step(began + Duration::from_secs(60), 1000 + 60 * 50);
        assert_eq!(growth.bytes_per_second, Some(50));
    }
}
