//! Tests of the tables through their public face, on real files in a folder of their own.

mod golden;
mod groups;
mod offsets;
mod topics;

use std::{path::PathBuf, sync::Arc};

use gantry_config::{Host, Settings};
use gantry_disk::OsDisk;
use gantry_message::Millis;
use tempfile::TempDir;

use crate::{config::BrokerConfig, live::LiveConfig};

use super::{Groups, Offsets, Topics};

const NOW: Millis = Millis(1_700_000_000_000);

/// A broker's configuration folder, and the tables on it.
struct Home {
    folder: TempDir,
    live: Arc<LiveConfig>,
}

impl Home {
    fn new() -> Home {
        Home::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut BrokerConfig)) -> Home {
        let mut config = BrokerConfig::defaults(&Host::described());
        config.broker_name = "broker-a".to_owned();
        change(&mut config);
        let home = Home {
            folder: tempfile::tempdir().unwrap(),
            live: LiveConfig::new(config),
        };
        std::fs::create_dir(home.path()).unwrap();
        home
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path().join(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// What was set aside under that name.
    fn set_aside(&self, name: &str) -> String {
        let quarantine = self.folder.path().join("quarantine");
        std::fs::read_to_string(quarantine.join(format!("config-{name}"))).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    /// From now on the file cannot be replaced: a folder stands where the new content is written first.
    fn break_writing(&self, name: &str) {
        std::fs::create_dir(self.path().join(format!("{name}.tmp"))).unwrap();
    }

    fn mend_writing(&self, name: &str) {
        std::fs::remove_dir(self.path().join(format!("{name}.tmp"))).unwrap();
    }

    fn topics(&self) -> Topics {
        Topics::load(Arc::new(OsDisk), &self.path(), self.live.clone(), NOW).unwrap()
    }

    fn groups(&self) -> Groups {
        Groups::load(Arc::new(OsDisk), &self.path(), self.live.clone(), NOW).unwrap()
    }

    fn offsets(&self) -> Offsets {
        Offsets::load(Arc::new(OsDisk), &self.path(), 5_000).unwrap()
    }
}
