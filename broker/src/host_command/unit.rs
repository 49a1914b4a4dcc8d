//! What systemd's unit takes away from a broker, and a doctor who is called by hand does not feel.

use std::path::{Path, PathBuf};

use gantry_service::startup;

use super::{Findings, Verdict, logs};
use crate::config::{BrokerConfig, place};

/// The unit that a configuration file of the packages is of.
pub(super) struct Unit {
    name: String,
    /// What it may write.
    state: PathBuf,
    /// Where its drop-ins are.
    drop_ins: Vec<PathBuf>,
}

impl Unit {
    pub(super) fn of(file: &str) -> Option<Self> {
        let state = PathBuf::from(startup::unit_state(file)?);
        let instance = state.file_name()?.to_str()?;
        let (name, drop_ins) = match instance {
            "broker" => ("mqbroker.service".to_owned(), vec![]),
            _ => {
                let name = format!("mqbroker@{instance}.service");
                (name, vec!["mqbroker@.service".to_owned()])
            }
        };
        let folder = |name: &String| Path::new("/etc/systemd/system").join(format!("{name}.d"));
        let drop_ins = drop_ins.iter().chain([&name]).map(folder).collect();
        Some(Self {
            name,
            state,
            drop_ins,
        })
    }

    /// What its sandbox takes away from the broker, and the doctor sees.
    pub(super) fn look(&self, config: &BrokerConfig, findings: &mut Findings) {
        const CHECK: &str = "unit";
        let root = PathBuf::from(&config.store.store_path_root_dir);
        let mut folders = logs(config);
        folders.retain(|log| !log.starts_with(&root));
        folders.insert(0, root);
        let allowed = self.writable();
        for folder in folders {
            let (shown, name) = (folder.display(), &self.name);
            if place::is_temporary(&folder) {
                findings.add(
                    CHECK,
                    Verdict::Error,
                    format!("{shown} is gone at each restart of {name} (PrivateTmp=)"),
                    "take a folder that is not below /tmp or /var/tmp",
                );
            } else if !allowed.iter().any(|allowed| folder.starts_with(allowed)) {
                findings.add(
                    CHECK,
                    Verdict::Warning,
                    format!(
                        "{shown} cannot be written by {name}, as far as /etc/systemd/system says"
                    ),
                    format!("systemctl edit {name}, with ReadWritePaths={shown} under [Service]"),
                );
            }
        }
    }

    /// The folders that it may write.
    fn writable(&self) -> Vec<PathBuf> {
        let files = self.drop_ins.iter().flat_map(|folder| {
            let listed = std::fs::read_dir(folder);
            listed.into_iter().flatten().flatten()
        });
        let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        let mut folders = vec![self.state.clone()];
        for text in texts {
            let values = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("ReadWritePaths="));
            let words = values.flat_map(str::split_whitespace);
            folders.extend(words.map(|word| PathBuf::from(word.trim_matches(['-', '+', '"']))));
        }
        folders
    }
}

#[cfg(test)]
mod tests {
    use gantry_config::{Host, Settings};

    use super::*;

    #[test]
    fn what_a_unit_may_not_write_and_what_it_loses_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut unit = Unit::of("/etc/gantry/broker/a.toml").unwrap();
        assert_eq!(unit.name, "mqbroker@a.service");
        assert!(unit.drop_ins[0].ends_with("mqbroker@.service.d"));
        unit.drop_ins.push(folder.path().to_owned());
        let drop_in = "[Service]\nReadWritePaths=-/srv/b /srv/c\n";
        std::fs::write(folder.path().join("override.conf"), drop_in).unwrap();
        let mut config = BrokerConfig::defaults(&Host::described());
        for (root, log, expected) in [
            ("/var/lib/gantry/a", None, &[][..]),
            ("/var/lib/gantry/a/b", None, &[]),
            ("/srv/b", Some("/srv/c/log"), &[]),
            ("/var/lib/gantry/b", None, &[Verdict::Warning]),
            ("/srv/b", Some("/srv/d"), &[Verdict::Warning]),
            ("/var/tmp/a", None, &[Verdict::Error]),
            ("/srv/b", Some("/tmp/a"), &[Verdict::Error]),
        ] {
            config.store.store_path_root_dir = root.into();
            config.store.store_path_commit_log = log.map(str::to_owned);
            let mut findings = Findings::default();
            unit.look(&config, &mut findings);
            let verdicts: Vec<Verdict> = findings.0.iter().map(|one| one.verdict).collect();
            assert_eq!(verdicts, expected, "{}", findings.text());
        }
    }
}
