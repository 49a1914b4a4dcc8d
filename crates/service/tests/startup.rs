//! The files of a start: which are read, in which order, and what is said when one cannot be.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use gantry_config::options::parse;
use gantry_config::{Loaded, Source, settings};
use gantry_manual::{Kind, Opt, Value};
use gantry_service::startup::Command;
use gantry_service::{Program, startup};

settings! {
    /// A daemon.
    pub struct Daemon |host| {
        section "Daemon";
        /// State.
        state: String = host.user_home.clone(), "state";
        /// Name servers.
        namesrv_addr: Option<String> = None, "namesrvAddr" [.env(&["NAMESRV_ADDR"])];
        /// A number.
        number: u32 = 1, "number" [.live()];
    }
}

const PROGRAM: Program<Daemon> = Program {
    name: "daemon",
    about: "serves",
    description: &["It serves."],
    files: &[("/etc/daemon.toml", "Its settings.")],
    commands: &[],
    see_also: &["other(8)"],
    override_file: |daemon| PathBuf::from(&daemon.state).join("override.properties"),
    settle: |loaded| loaded.config.number += 1_000,
    look: |_| {},
};

const DOCTOR: Command = Command {
    name: "doctor",
    usage: "[-c FILE]",
    about: "looks",
    words: Vec::new,
    options: || {
        vec![Opt {
            short: None,
            long: "output",
            value: Value::OneOf(&["text", "json"]),
            about: "how".into(),
        }]
    },
};

fn load(folder: &Path, args: &[&str]) -> Loaded<Daemon> {
    let args = args
        .iter()
        .map(|arg| arg.replace("DIR", folder.to_str().unwrap()));
    let variable = |name: &str| (name == "NAMESRV_ADDR").then(|| "variable:1".to_owned());
    startup::load(&PROGRAM, &parse(args).unwrap(), variable)
}

fn texts(loaded: &Loaded<Daemon>, folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    loaded
        .findings
        .iter()
        .map(|finding| finding.text.replace(folder, "DIR"))
        .collect()
}

#[test]
fn environment_file_override_file_and_options_come_in_this_order() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let text = format!("state={}\nnumber=2\n", dir.display());
    std::fs::write(dir.join("d.conf"), &text).unwrap();

    let plain = load(dir, &["-c", "DIR/d.conf"]);
    assert_eq!(plain.config.number, 1_002);
    assert_eq!(plain.config.namesrv_addr.as_deref(), Some("variable:1"));

    std::fs::write(dir.join("override.properties"), "number=3\n").unwrap();
    let changed = load(dir, &["-c", "DIR/d.conf", "-n", "option:1", "a=b"]);
    assert_eq!(changed.config.number, 1_003);
    assert_eq!(changed.source("namesrvAddr"), Source::CommandLine("-n"));
    assert_eq!(
        texts(&changed, dir),
        ["command line: a=b belongs to no option, ignored"]
    );
    assert_eq!(
        std::fs::read_to_string(dir.join("d.conf")).unwrap(),
        text,
        "what the operator wrote stays as it is"
    );
}

#[test]
fn the_ending_of_the_file_may_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::create_dir(dir.join("b")).unwrap();
    for (file, number) in [
        ("a", 1),
        ("b.toml", 2),
        ("c.d.properties", 3),
        ("e.toml", 4),
    ] {
        std::fs::write(dir.join(file), format!("number={number}\n")).unwrap();
    }
    for (name, number) in [("a", 1), ("b", 2), ("c.d", 3), ("e", 4)] {
        let loaded = load(dir, &["-c", &format!("DIR/{name}")]);
        assert_eq!(texts(&loaded, dir), <[&str; 0]>::default(), "{name}");
        assert_eq!(loaded.config.number, 1_000 + number, "{name}");
    }
    std::fs::write(dir.join("e.properties"), "number=5\n").unwrap();
    let loaded = load(dir, &["-c", "DIR/e"]);
    assert_eq!(
        texts(&loaded, dir),
        ["DIR/e.toml: DIR/e.properties is there too; keep one of them"]
    );
    assert!(loaded.refused());
}

#[test]
fn manual_pages_come_from_the_tables() {
    let page = gantry_service::manual::text(&PROGRAM, Kind::Page);
    for part in [
        ".TH DAEMON 8 ",
        "\\-\\-check\\-config",
        "\\fB78\\fR\n",
        "/etc/daemon.toml",
        "other\\fR(8)",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let settings = gantry_service::manual::text(&PROGRAM, Kind::Settings);
    let number = ".TP\n\\fBnumber\\fR\nA number. Changeable at run time. \
        Allowed: a whole number from 0 to 2147483647. Default: 1.\n";
    assert!(settings.contains(number), "{settings}");
    let with_command = Program {
        commands: &[DOCTOR],
        ..PROGRAM
    };
    let page = gantry_service::manual::text(&with_command, Kind::Page);
    for part in [
        "\\fBdaemon\\fR doctor [\\-c FILE]\n",
        ".SS doctor\nlooks\n.TP\n\\fB\\-\\-output\\fR \\fItext|json\\fR\nhow\n",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let bash = gantry_service::manual::text(&PROGRAM, Kind::Bash);
    assert!(bash.ends_with("complete -F _daemon daemon\n"), "{bash}");
}

#[test]
fn a_file_that_cannot_be_read_or_is_there_twice_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("a.toml"), "number = 2\n").unwrap();
    std::fs::write(dir.join("a.properties"), "number=3\n").unwrap();
    let cases: &[(&[&str], &str)] = &[
        (
            &["-c", "DIR/none"],
            "no configuration file: neither DIR/none.toml nor DIR/none.properties is there",
        ),
        (
            &["-c", "DIR"],
            "no configuration file: neither DIR.toml nor DIR.properties is there",
        ),
        (
            &["-c", "DIR/a.toml"],
            "DIR/a.toml: DIR/a.properties is there too; keep one of them",
        ),
        (
            &["-c", "DIR/a.properties"],
            "DIR/a.properties: DIR/a.toml is there too; keep one of them",
        ),
    ];
    for (args, expected) in cases {
        let loaded = load(dir, args);
        assert_eq!(texts(&loaded, dir), [*expected]);
        assert!(loaded.refused(), "{args:?}");
    }
}

#[test]
fn a_word_that_is_no_option_starts_nothing() {
    let parse = |program: &Program<Daemon>, line: &[&str]| {
        startup::parse(program, line.iter().map(|&word| word.to_owned())).map(|_| ())
    };
    let none = "daemon: doctor is no option, and there are no commands";
    assert_eq!(parse(&PROGRAM, &["doctor"]), Err(none.to_owned()));
    let program = Program {
        commands: &[DOCTOR],
        ..PROGRAM
    };
    let some = "daemon: docter is no option; the first word may be a command: doctor";
    assert_eq!(
        parse(&program, &["-c", "x", "docter"]),
        Err(some.to_owned())
    );
    assert_eq!(parse(&program, &["-c", "x", "a=b"]), Ok(()));
    let unknown = "Unrecognized option: -x";
    assert_eq!(parse(&program, &["-x"]), Err(unknown.to_owned()));
}
