//! The subscription groups of this broker, and the file `subscriptionGroup.json`.
//!
//! Owns the built-in groups and the rule of automatic creation. Who of a group is connected is in `clients`, how far it has
//! consumed in `offsets`; removing a group here touches neither.

use std::{path::Path, sync::Arc};

use gantry_disk::Disk;
use gantry_message::{Millis, topic};
use gantry_wire::bodies::{DataVersion, SubscriptionGroupConfig, SubscriptionGroupTable};

use crate::live::LiveConfig;

use super::{
    Missing,
    file::{JsonFile, TableError},
    table::{Edit, Entries, Snapshot, Table},
};

/// Groups beyond this number are not created.
const GROUPS_MAX: usize = 200_000;
/// The longest name that clients allow; longer ones are never created by use.
const NAME_CHARS_MAX: usize = 255;
/// Groups of the system, created on use even when automatic creation is off.
const SYSTEM_PREFIX: &str = "CID_RMQ_SYS_";

/// Whether a group belongs to the system.
pub fn is_system_group(name: &str) -> bool {
    name.starts_with(SYSTEM_PREFIX) || BUILT_IN.contains(&name)
}

const BUILT_IN: [&str; 7] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
];

/// The group table.
pub struct Groups {
    table: Table<SubscriptionGroupConfig>,
    live: Arc<LiveConfig>,
}

impl Groups {
    /// Loads `subscriptionGroup.json` from the configuration folder over the built-in groups. Blocks.
    pub fn load(
        disk: Arc<dyn Disk>,
        folder: &Path,
        live: Arc<LiveConfig>,
        now: Millis,
    ) -> Result<Groups, TableError> {
        let file = JsonFile::new(disk, folder.join("subscriptionGroup.json"));
        let mut entries: Entries<SubscriptionGroupConfig> = BUILT_IN
            .iter()
            .map(|&name| (name.into(), Arc::new(default_group(name))))
            .collect();
        let mut version = DataVersion {
            counter: 0,
            timestamp: now.0,
        };
        if let Some(stored) = file.load(SubscriptionGroupTable::parse)? {
            version = stored.data_version;
            let stored = stored.subscription_group_table;
            entries.extend(
                stored
                    .into_iter()
                    .map(|(name, config)| (name.into(), Arc::new(config))),
            );
        }
        Ok(Groups {
            table: Table::new(Snapshot { entries, version }, file, encode_file),
            live,
        })
    }

    /// The configuration of a group.
    pub fn get(&self, group: &str) -> Option<Arc<SubscriptionGroupConfig>> {
        self.table.get(group)
    }

    /// What to make so that a request of an unknown group can go on; `None` when it is not to be made.
    pub fn plan(&self, group: &str) -> Option<Missing> {
        self.may_create(group)
            .then(|| Missing::Group(group.to_owned()))
    }

    /// The configuration of a group, created when it may be; `None` when not. Blocks when it creates.
    pub fn get_or_create(
        &self,
        group: &str,
        now: Millis,
    ) -> Result<Option<Arc<SubscriptionGroupConfig>>, TableError> {
        match self.get(group) {
            Some(known) => Ok(Some(known)),
            None if self.may_create(group) => self.create(group, now).map(Some),
            None => Ok(None),
        }
    }

    /// Creates a group with default settings unless it exists. Blocks until it is on disk, or in memory if the disk takes
    /// nothing.
    pub fn create(
        &self,
        group: &str,
        now: Millis,
    ) -> Result<Arc<SubscriptionGroupConfig>, TableError> {
        self.table.change_in_memory_at_least(now, |entries| {
            if let Some(known) = entries.get(group) {
                return Ok(Edit::Same(known.clone()));
            }
            TableError::check_room("subscription groups", entries.len(), GROUPS_MAX)?;
            let config = Arc::new(default_group(group));
            entries.insert(group.into(), config.clone());
            tracing::info!(group, "new subscription group");
            Ok(Edit::Changed(config))
        })
    }

    /// Creates or replaces a group. Blocks until it is on disk.
    pub fn put(&self, config: SubscriptionGroupConfig, now: Millis) -> Result<(), TableError> {
        self.table.change(now, |entries| {
            let old = entries.get(config.group_name.as_str());
            if old.is_none() {
                TableError::check_room("subscription groups", entries.len(), GROUPS_MAX)?;
            }
            tracing::info!(group = %config.group_name, ?config, ?old, "subscription group set");
            entries.insert(config.group_name.as_str().into(), Arc::new(config));
            Ok(Edit::Changed(()))
        })
    }

    /// Removes a group; says whether there was one. Blocks until the removal is on disk.
    pub fn remove(&self, group: &str, now: Millis) -> Result<bool, TableError> {
        self.table.change(now, |entries| {
            Ok(match entries.remove(group) {
                Some(old) => {
                    tracing::info!(group = %old.group_name, ?old, "subscription group removed");
                    Edit::Changed(true)
                }
                None => Edit::Same(false),
            })
        })
    }

    /// Takes over a master's table with its version. Blocks until it is on disk.
    pub fn replace(&self, table: SubscriptionGroupTable) -> Result<(), TableError> {
        let entries = table.subscription_group_table;
        TableError::check_room(
            "subscription groups",
            entries.len().saturating_sub(1),
            GROUPS_MAX,
        )?;
        let entries = entries
            .into_iter()
            .map(|(name, config)| (name.into(), Arc::new(config)))
            .collect();
        self.table.replace(entries, table.data_version)
    }

    /// All groups at this moment.
    pub fn all(&self) -> Arc<Snapshot<SubscriptionGroupConfig>> {
        self.table.snapshot()
    }

    /// Changes whenever any group changes.
    pub fn generation(&self) -> u64 {
        self.table.generation().value()
    }

    /// The data version that slaves compare.
    pub fn version(&self) -> DataVersion {
        self.table.snapshot().version
    }

    /// All groups as the body of request 201.
    pub fn wire_table(&self) -> SubscriptionGroupTable {
        wire_table(&self.all())
    }

    fn may_create(&self, group: &str) -> bool {
        (group.starts_with(SYSTEM_PREFIX) || self.live.now().auto_create_subscription_group)
            && !group.is_empty()
            && topic::can_be_stored(group)
            && group.chars().count() <= NAME_CHARS_MAX
    }
}

fn default_group(name: &str) -> SubscriptionGroupConfig {
    SubscriptionGroupConfig {
        group_name: name.to_owned(),
        ..SubscriptionGroupConfig::default()
    }
}

fn wire_table(snapshot: &Snapshot<SubscriptionGroupConfig>) -> SubscriptionGroupTable {
    SubscriptionGroupTable {
        data_version: snapshot.version,
        subscription_group_table: snapshot
            .entries
            .iter()
            .map(|(name, config)| (name.to_string(), SubscriptionGroupConfig::clone(config)))
            .collect(),
    }
}

fn encode_file(snapshot: &Snapshot<SubscriptionGroupConfig>) -> Vec<u8> {
    wire_table(snapshot).encode_pretty()
}
