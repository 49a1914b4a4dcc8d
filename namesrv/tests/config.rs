//! The key table of the name server: against RocketMQ's own defaults, the shipped files, and the documents made from it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use gantry_config::{Bind, Host, Loaded, Settings, Severity, UnknownKeys, document};
use gantry_namesrv::config::{NamesrvConfig, settle};

fn host() -> Host {
    Host {
        user_home: "/home/user".into(),
        install_dir: "/opt/rocketmq".into(),
        host_name: Some("vm".into()),
        cpus: 4,
    }
}

fn load(name: &str, text: &str) -> Loaded<NamesrvConfig> {
    let mut loaded = Loaded::defaults(&host(), UnknownKeys::Refuse);
    loaded.file(name, text.as_bytes());
    settle(&mut loaded);
    loaded.judge();
    loaded
}

fn complaints(loaded: &Loaded<NamesrvConfig>) -> Vec<&str> {
    let worse = loaded
        .findings
        .iter()
        .filter(|finding| Severity::Note < finding.severity);
    worse.map(|finding| finding.text.as_str()).collect()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

#[test]
fn the_configuration_of_packages_serves_this_machine_only() {
    let text = std::fs::read_to_string(repository().join("packaging/conf/namesrv.toml")).unwrap();
    let loaded = load("namesrv.toml", &text);
    assert_eq!(complaints(&loaded), Vec::<&str>::new());
    let server = &loaded.config.server;
    assert_eq!(server.bind_address, Bind([127, 0, 0, 1].into()));
    assert!(!server.admin_open);
}

#[test]
fn every_key_of_rocketmq_is_there_with_its_default() {
    let config = NamesrvConfig::defaults(&host());
    let golden = include_str!("../../broker/tests/golden/defaults.txt").lines();
    let mut seen = 0;
    for line in golden.filter_map(|line| line.strip_prefix("namesrv ")) {
        let (key, default) = line.split_once('=').unwrap();
        let ours = config.text(key).unwrap_or_else(|| panic!("no key {key}"));
        // The class says 8888, the program 9876.
        assert_eq!(
            ours,
            if key == "listenPort" { "9876" } else { default },
            "{key}"
        );
        seen += 1;
    }
    assert!(15 < seen, "{seen}");
}

#[test]
fn shipped_files_load_without_a_complaint() {
    for file in ["namesrv.conf", "namesrv.toml"] {
        let text = std::fs::read_to_string(repository().join("conf").join(file)).unwrap();
        let loaded = load(file, &text);
        assert_eq!(complaints(&loaded), Vec::<&str>::new(), "{file}");
        assert_eq!(loaded.config.server.listen_port, 9876);
    }
}

#[test]
fn changes_at_run_time_are_kept_beside_the_kv_table() {
    let config = load("n.conf", "kvConfigPath=/var/lib/n/kv.json\n").config;
    assert_eq!(
        config.override_file(),
        Path::new("/var/lib/n/gantry-override.properties")
    );
}

#[test]
fn ports_that_meet_and_an_empty_address_are_refused_by_name() {
    for (text, expected) in [
        (
            "metricsPort=9876",
            "n.conf:1: metricsPort=9876: the port of listenPort",
        ),
        (
            "listenPort=5558",
            "default: metricsPort=5558: the port of listenPort, which goes first; set metricsPort",
        ),
        (
            "bindAddress=",
            "n.conf:1: bindAddress=: must be an IPv4 or IPv6 address, or * for all",
        ),
    ] {
        let loaded = load("n.conf", text);
        assert_eq!(complaints(&loaded), [expected], "{text}");
        assert_eq!(loaded.refused(), !text.starts_with("listenPort"), "{text}");
    }
}

fn compare(file: &Path, expected: &str) {
    if std::env::var_os("GANTRY_UPDATE").is_some() {
        std::fs::write(file, expected).unwrap();
    }
    let found = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what the key table says; run this test with GANTRY_UPDATE=1",
        file.display()
    );
}

#[test]
fn the_sample_is_made_from_the_table() {
    let expected = document::sample_toml::<NamesrvConfig>(
        "Every setting of the name server that does something, at its default. Made from the key table: see\n\
         docs/configuration.md for the others. Use: mqnamesrv -c namesrv.toml",
    );
    compare(&repository().join("conf/namesrv.toml"), &expected);
}

#[test]
fn the_reference_is_made_from_the_table() {
    let file = repository().join("docs/configuration.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let expected =
        document::replace_part(&text, "namesrv", &document::markdown::<NamesrvConfig>()).unwrap();
    compare(&file, &expected);
}
